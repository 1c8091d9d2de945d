/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How many addresses each handle has of each block, as blocks say, or handles. Filled, then sorted, then looked at. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/vec.h"
#include "net/prefix.h"

struct ipam_block;

struct ipam_count {
	char *handle;
	struct prefix cidr;
	uint32_t n;
};

struct ipam_tally {
	VEC(struct ipam_count) v; /* once sorted, by handle and block */
};

/* Copies handle. */
void ipam_tally_add(
	struct ipam_tally *t, const char *handle, const struct prefix *cidr, uint32_t n);
/* What the block has given away, but for what cools down. */
void ipam_tally_add_block(struct ipam_tally *t, const struct ipam_block *b);
void ipam_tally_sort(struct ipam_tally *t);
/* Of two struct ipam_count, as sorted. */
int ipam_count_compare(const void *a, const void *b);
/* 0: it has none. Sorted. */
uint32_t ipam_tally_of(const struct ipam_tally *t, const char *handle, const struct prefix *cidr);
void ipam_tally_done(struct ipam_tally *t);
