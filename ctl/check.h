/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether what IPAM has recorded agrees with itself and with who uses addresses. Pure. */
#pragma once

#include <stddef.h>

#include "base/vec.h"

struct store_kv;

struct check {
	size_t n_blocks, n_addresses, n_handles, n_affinities, n_in_use;
	VEC(char *) problems; /* sentences */
};

/* Where in the datastore what it looks at is. */
#define CHECK_N_PREFIXES 6
void check_prefixes(const char *ret[static CHECK_N_PREFIXES]);
/* kvs: what is under these prefixes, in the order of the keys; anything else is passed over. */
void check_ipam(const struct store_kv *kvs, size_t n, struct check *ret);
void check_done(struct check *c);
