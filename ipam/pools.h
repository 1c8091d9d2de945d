/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which pools an assignment may use. */
#pragma once

#include <stdbool.h>

#include "ipam/alloc.h"

struct ippool;
struct labels;

/* By its name, or by its CIDR, which may have host bits set. */
bool pool_is_named(const struct ippool *p, const char *name);
bool pool_allows(const struct ippool *p, enum ipam_use use);
/* labels NULL: there are none. A selector that cannot be parsed matches nothing. */
bool pool_selects(const char *selector, const struct labels *labels);
/* No labels need to be known: the text is all(), or blank, or NULL. */
bool pool_selector_is_all(const char *selector);
