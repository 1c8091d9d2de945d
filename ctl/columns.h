/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the table of a kind shows, as calicoctl has it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctl/table.h"
#include "model/kind.h"

struct err;

struct columns {
	enum kind kind;
	bool wide;
	bool with_namespace;
	uint32_t cluster_as; /* Node, wide: what a node without an AS number of its own has */
};

/* Initialises t and adds the heading. */
void columns_begin(struct table *t, const struct columns *c);
/* A row; EINVAL: the object cannot be decoded, and nothing was added. */
int columns_add(struct table *t, const struct columns *c, const char *key, const char *text,
	size_t len, struct err *err);
