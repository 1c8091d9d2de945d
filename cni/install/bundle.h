/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What margay-cni is made of: this program, its loader and every library that it runs with. */
#pragma once

#include <stddef.h>

struct bundle;
struct err;
struct place;

/* Loads what it would load later. Fails where it was itself started through its loader. */
int bundle_collect(struct bundle **ret, struct err *err);
void bundle_free(struct bundle *b);

/* "margay.d.0123456789abcdef", another one for other content. Borrowed. */
const char *bundle_name(const struct bundle *b);

/* Wants its files there, and the link last (cni/layout.h). b must outlive p. */
void bundle_want(const struct bundle *b, struct place *p);
