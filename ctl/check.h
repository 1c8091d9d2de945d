/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether what IPAM has recorded agrees with itself and with who uses addresses. Pure.
 *
 * The objects are read one list after the other, while others write. So what one look finds may be a moment
 * between two writes; what a second one, some time later, finds in the same revision as well, is not.
 *
 *	check_prefixes -> snapshot_read_prefixes -> check_ipam -> [ the same later -> check_confirm ] -> check_done
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/vec.h"
#include "net/prefix.h"

struct store_kv;

enum problem_kind {
	PROBLEM_UNREADABLE,
	PROBLEM_OVERLAP,	  /* a block lies in another */
	PROBLEM_SHARED,		  /* two have the same address */
	PROBLEM_ANOTHERS,	  /* somebody has an address that was given to another */
	PROBLEM_UNGIVEN,	  /* somebody has an address that no block gives away */
	PROBLEM_LEAK,		  /* nobody has an address that a block gives away */
	PROBLEM_DOUBTFUL,	  /* the same, as far as can be seen from here */
	PROBLEM_TUNNEL,		  /* a node does not say that it has a tunnel's address */
	PROBLEM_HANDLE_MISSING,	  /* a block names a handle that does not exist */
	PROBLEM_HANDLE_EMPTY,	  /* no block has an address of it */
	PROBLEM_HANDLE_COUNT,	  /* its counts are not those of the blocks */
	PROBLEM_AFFINITY_STALE,	  /* of a block that is not there, or another's */
	PROBLEM_AFFINITY_MISSING, /* the block is the node's, which does not know */
	N_PROBLEM_KINDS
};

struct problem {
	enum problem_kind kind;
	char *text; /* a sentence */
	char *name; /* the handle, or the node; NULL: none */
	struct ip ip;
	struct prefix cidr; /* a block */
	uint64_t seq;	    /* of the allocation */
	int64_t rev;	    /* of the handle or the affinity */
};

struct check_block {
	struct prefix cidr;
	char *affinity; /* "host:n1"; NULL: none */
};

/* An address that a block gives away. */
struct check_alloc {
	struct ip ip;
	struct prefix block;
	char *handle; /* NULL: none */
	char *attrs;  /* "Main:HANDLE Extra:name=value,..." */
	/* As the block has them, NULL: not. node: else whose block it is. */
	char *node, *pod, *ns, *type, *timestamp;
	char *vmi, *service;
	uint64_t seq;
	bool borrowed, cooling;
	VEC(char *) owners; /* who is known to use it: "Workload(default/n1-k8s-web-eth0)" */
};

/* An address that an endpoint, or a node's tunnel, has. */
struct check_use {
	struct ip ip;
	bool is_node, in_pool;
	char *name;		    /* of the node, or NAMESPACE/NAME of the endpoint */
	char *ns, *pod, *container; /* of the endpoint; "": it does not say */
};

struct check {
	size_t n_blocks, n_addresses, n_handles, n_affinities, n_in_use;
	size_t n_foreign; /* in use, and of no pool */
	VEC(struct problem) problems;
	VEC(struct problem) unsettled; /* somebody is about it, unless it stays so */
	VEC(struct check_block) blocks;
	VEC(struct check_alloc) allocs; /* by address, as the others */
	VEC(struct check_use) uses;
	VEC(struct prefix) pools; /* enabled */
	/* Of ClusterInformation; NULL, 0: there is none. */
	char *guid, *type;
	int64_t info_rev;
	bool locked;
};

/* Where in the datastore what it looks at is. */
#define CHECK_N_PREFIXES 7
void check_prefixes(const char *ret[static CHECK_N_PREFIXES]);
/*
 * kvs: what is under these prefixes, in the order of the keys; anything else is passed over. managed:
 * endpoints are Kubernetes' pods, and those without an address are there, too (store_is_managed()).
 */
void check_ipam(const struct store_kv *kvs, size_t n, bool managed, struct check *ret);
/* Of the later look only what the earlier has found, too. settled: so long ago that nobody is about it. */
void check_confirm(struct check *later, const struct check *earlier, bool settled);
/* The first allocation of this address or a later one; c->allocs.n: there is none. */
size_t check_alloc_index(const struct check *c, const struct ip *ip);
size_t check_count(const struct check *c, enum problem_kind kind);
void check_done(struct check *c);
