/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calico's selector language: all(), has(k), k == 'v', !=, in {..}, not in {..}, contains, starts
 * with, ends with, !, &&, ||, parentheses, global().
 */
#pragma once

#include <stdbool.h>

#include "base/mem.h"

struct err;
struct labels;
struct selector;

/* NULL or blank text is all(). EINVAL: the message has the column. */
int selector_parse(const char *text, struct selector **ret, struct err *err);
void selector_free(struct selector *s);
AUTO_DEFINE(selector, struct selector *, selector_free);

/* labels NULL: there are none. all() and global() match everything. */
bool selector_matches(const struct selector *s, const struct labels *labels);
bool selector_has_global(const struct selector *s);
/* Calico's canonical text, the caller's to free. */
char *selector_format(const struct selector *s);
