/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extended regular expressions for the names of interfaces. */
#pragma once

#include <regex.h>
#include <stdbool.h>

struct err;

/*
 * Some come from the datastore, and glibc's compiler takes 16 s for the 27 bytes of
 * "((eth{1,200}){1,200}){1,50}" and its recursion all of the stack for 60,000 parentheses.
 */
#define PATTERN_MAX 256

/* *ret is to be freed by regfree(). EINVAL: what is wrong with it, or that it costs too much. */
int pattern_compile(const char *text, regex_t *ret, struct err *err);
/* Whether it is one: EINVAL. */
int pattern_check(const char *text, struct err *err);
bool pattern_matches(const regex_t *re, const char *name);
