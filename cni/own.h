/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a node's own blocks say of its pods. Blocking. */
#pragma once

#include <stdint.h>

#include "base/vec.h"
#include "net/ip.h"

struct err;
struct store;

/* An allocation to a pod of the node. */
struct own_alloc {
	struct ip ip;
	char *handle, *namespace, *pod;
	uint64_t seq;
	int64_t since_ms; /* CLOCK_MONOTONIC, for who looks more than once; 0 from own_allocs_list() */
};

struct own_allocs {
	VEC(struct own_alloc) v;
};

/*
 * But for virtual machines' (`vmi-name`), those of margay-ipam alone, and those that cool down. Adds to *ret, which is the
 * caller's after a failure, too.
 */
int own_allocs_list(struct store *st, const char *node, struct own_allocs *ret, struct err *err);
/* Copies it. */
void own_allocs_add(struct own_allocs *s, const struct own_alloc *a);
/* The same allocation, or NULL. */
const struct own_alloc *own_allocs_find(const struct own_allocs *s, const struct own_alloc *a);
void own_allocs_done(struct own_allocs *s);
