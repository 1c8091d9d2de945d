/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The resources in files, directories and on standard input, as a user gives them. */
#pragma once

#include <jansson.h>

#include "base/vec.h"

struct err;

struct doc {
	char *where; /* "pools.yaml:12" */
	json_t *j;   /* NULL: it cannot be read, and err says why */
	char *err;
};

struct docs {
	VEC(struct doc) v;
};

/*
 * Adds what path holds: a file, a directory's .yaml, .yml and .json files in the order of their
 * names, or "-". Files that cannot be read become documents with an err.
 */
void docs_add(struct docs *d, const char *path);
void docs_done(struct docs *d);
