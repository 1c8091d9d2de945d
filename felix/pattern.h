/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extended regular expressions for the names of interfaces. */
#pragma once

#include <regex.h>
#include <stdbool.h>

struct err;

/* *ret is to be freed by regfree(). EINVAL: what is wrong with it. */
int pattern_compile(const char *text, regex_t *ret, struct err *err);
/* Whether it is one: EINVAL. */
int pattern_check(const char *text, struct err *err);
bool pattern_matches(const regex_t *re, const char *name);
