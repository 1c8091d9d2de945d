/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a node has in the datastore, given back once it is gone: its endpoints, its addresses and its blocks, in
 * this order, so that nobody routes to an address that is another's. Blocking; where it has ended half-way it is
 * done again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "net/ip.h"

struct err;
struct ipam_block;
struct store;
struct store_list;

/* An address that goes with its node, whose block says `node` of it. A virtual machine's (`vmi-name`) does not. */
struct ipam_node_addr {
	struct ip ip;
	const char *node, *handle; /* the block's */
	uint64_t seq;
};

/* Of this ordinal; false: nobody's who can be gone. */
bool ipam_node_addr(const struct ipam_block *b, uint32_t ordinal, struct ipam_node_addr *ret);

struct ipam_node_ops {
	/* Before each write: until when it may take (CLOCK_MONOTONIC), or a negative errno, which ends it. */
	int (*may_write)(void *arg, int64_t *ret_deadline_ms, struct err *err);
	/* Each may be NULL. unreadable: the block is left as it is. */
	void (*freed)(void *arg, const struct ipam_node_addr *a);
	void (*unreadable)(void *arg, const char *key, const struct err *why);
	void *arg;
};

/*
 * blocks: all, as they were listed. An address is given back where it still is the allocation of then (handle
 * and sequence number). Handles that count more than they have are counted anew, whose ever they are: whoever ended
 * half-way may have left such. Endpoints that are parts of Kubernetes' Pods are left to it. Returns 1, 0 where it had
 * nothing, or the error of a callback or of the datastore.
 */
int ipam_node_release(struct store *st, const char *node, const struct store_list *blocks,
	const struct ipam_node_ops *ops, struct err *err);
