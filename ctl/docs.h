/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The resources in files, directories and on standard input, as a user gives them. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/vec.h"

struct err;

struct doc {
	char *where; /* "pools.yaml:12" */
	json_t *j;   /* NULL: it cannot be read, and err says why */
	char *err;
};

struct docs {
	VEC(struct doc) v;
	bool asked_for; /* by -f, whatever that holds */
	bool skip;
	const char *ns; /* borrowed from argv */
};

/*
 * The options of a verb that takes documents, up to optind: -f PATH, a file, a directory's .yaml, .yml and
 * .json files in the order of their names, or "-"; -n NAMESPACE; and the one that is named by skip. Files that
 * cannot be read become documents with an err. False: it has no such option. To docs_done() in any case.
 */
bool docs_get(int argc, char **argv, const char *skip, struct docs *ret);
void docs_done(struct docs *d);
