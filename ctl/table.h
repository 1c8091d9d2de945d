/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables as calicoctl prints them: columns for lists of resources, boxes for states. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/vec.h"

struct table {
	size_t n_columns;
	VEC(char *) cells; /* row by row, the heading first */
};

void table_init(struct table *t, size_t n_columns);
void table_done(struct table *t);
/* The next cell; text is copied. */
void table_add(struct table *t, const char *text);
void table_addf(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
size_t table_rows(const struct table *t); /* with the heading */

/* Cells at least 5 wide, three blanks apart, and an empty line at the end. */
void table_print_columns(const struct table *t, FILE *out);
/* In a box. right: of each column, whether its rows stand at the right; NULL: none. */
void table_print_box(const struct table *t, const bool *right, FILE *out);
