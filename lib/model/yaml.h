/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * YAML to jansson's values and back: the one place that knows YAML.
 *
 * Plain scalars are null, true, false, decimal numbers, or text (YAML 1.2's core schema; "yes" and
 * "on" are text). Anchors, aliases and "<<" work, within the bounds of model/limits.h: what a file
 * expands to is bounded, not only the file. A key that stands twice in a mapping is an error.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/vec.h"

struct err;

#define YAML_FILE_MAX (16 * 1024 * 1024) /* bytes */
#define YAML_NODES_MAX 200000		 /* values in one document, aliases expanded */

/* An object, and where it begins. */
struct yaml_doc {
	json_t *j; /* NULL: err says what is wrong with it */
	unsigned line;
	char *err;
};

struct yaml_docs {
	VEC(struct yaml_doc) v;
};

/*
 * Each document, and each element of one that is a list or has `kind: ...List` and `items`, by
 * itself. A document that cannot be read does not keep the others from being read.
 */
void yaml_load(const char *text, size_t len, struct yaml_docs *ret);
void yaml_docs_done(struct yaml_docs *d);

/*
 * Block style, mappings sorted by key; ends with a newline. The caller's to free. A text that a reader
 * of YAML 1.1 or 1.2 would take for a number, a date or a boolean stands in quotes.
 */
char *yaml_dump(const json_t *j);
