/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The address allocator, as requests that plan one store operation at a time.
 *
 * A request holds what it has read of the store so far (its view) and what it has achieved. Each
 * step plans from the top: the first thing the plan needs and does not know becomes the next
 * operation, and so does the first write that is due; the answer goes into the view and the plan
 * runs again. A lost compare-and-swap only forgets the object, so a retry is nothing special.
 * Nothing here does I/O, reads a clock or draws a random number: ipam/run.h drives requests over a
 * store, and time and randomness are arguments.
 *
 * Writes have Calico's order: affinity pending, block, affinity confirmed; handle before block when
 * addresses are taken; block before handle when they are given back. Whoever dies between two of
 * them leaves at worst a handle that counts too many or an affinity that is not confirmed: an
 * address is never given twice and never lost to a release by its handle, which also takes away what
 * a handle counts too many, as does the next assignment to it.
 *
 *	ipam_assign_new | ipam_release_*_new | ipam_claim_new ... -> ipam_run | ipam_start
 *		-> ipam_request_addrs -> ipam_request_free
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/prefix.h"

struct err;
struct ipam_request;
struct labels;

/* An address with the prefix of the block that it came from. */
struct ipam_addr {
	struct ip ip;
	struct prefix block;
	bool held; /* assigned: its handle had it before */
};

struct ipam_attr {
	const char *name, *value; /* "pod", "namespace", "node", "type", "timestamp" */
};

enum ipam_use { IPAM_USE_WORKLOAD, IPAM_USE_TUNNEL, IPAM_USE_LOADBALANCER };

/* What to assign, for whom. Everything is copied. */
struct ipam_assign {
	const char *host;   /* the node's name, as in its affinities */
	const char *handle; /* what the addresses are released by; required */
	const struct ipam_attr *attrs;
	size_t n_attrs;
	/* What namespaceSelector sees, beside the name in attrs; NULL: nothing else is known. */
	const struct labels *namespace_labels;
	enum ipam_use use;
	bool v4, v6; /* one address of each family asked for */
	/*
	 * This address and no other (IP_NONE: any), of the family that is asked for. EEXIST when it
	 * is in use, ENOENT when no enabled pool has it, EPERM when strict affinity forbids it.
	 */
	struct ip ip;
	/* Of each family names or CIDRs of its pools; none: every automatic pool whose selectors match. */
	struct ipam_pools {
		const char *const *v;
		size_t n;
	} pools_v4, pools_v6;
	/* Give back the addresses which the handle holds already, where it holds some that fit. */
	bool reuse;
	uint32_t max_blocks; /* 0: as configured */
	int64_t now_ns;	     /* CLOCK_REALTIME */
	uint64_t random;     /* only for pools whose blocks are single addresses */
};

/*
 * Fails with ENOSPC when no pool has a free address (of either family, when both are asked for:
 * then neither is kept), EDQUOT when the node's own blocks have none and it may claim no other, so that what
 * others give back is of no use to it, ENOENT when a pool that is named does not exist or none selects the node,
 * ESTALE when the compare-and-swap was lost 100 times. When it fails, by the datastore too, what it
 * has taken is given back as far as the datastore lets it.
 */
struct ipam_request *ipam_assign_new(const struct ipam_assign *a);

/* Every address of the handle. ENOENT when the handle does not exist. */
struct ipam_request *ipam_release_handle_new(const char *handle, int64_t now_ns);

/* The handle alone. EBUSY when an address of its blocks has it, ENOENT when it does not exist. */
struct ipam_request *ipam_drop_handle_new(const char *handle, int64_t now_ns);

/* One address; ENOENT when it is not assigned. handle: refuse (ESTALE) if it has another; or NULL. */
struct ipam_request *ipam_release_ip_new(const struct ip *ip, const char *handle, int64_t now_ns);

/*
 * The same where it is still the one allocation that has this sequence number in its block: one that was
 * given back since, and given anew, is left (ESTALE), to the same handle, too.
 */
struct ipam_request *ipam_release_allocation_new(
	const struct ip *ip, const char *handle, uint64_t seq, int64_t now_ns);

/*
 * The handle counts what blocks have of it: those that it names and these, which may be all there are.
 * One without an address goes, and one that is missing is made.
 */
struct ipam_request *ipam_recount_handle_new(
	const char *handle, const struct prefix *blocks, size_t n, int64_t now_ns);

/*
 * Every block of cidr for the host: cidr must lie in an enabled pool and be no smaller than its
 * blocks. EEXIST, naming the owner, when a block is another host's.
 */
struct ipam_request *ipam_claim_new(const struct prefix *cidr, const char *host, int64_t now_ns);

/* The host's blocks in cidr (NULL: all of them). must_be_empty: EBUSY when an address is in use. */
struct ipam_request *ipam_unclaim_new(
	const struct prefix *cidr, const char *host, bool must_be_empty, int64_t now_ns);

/* The addresses that the handle holds. ENOENT when the handle does not exist. */
struct ipam_request *ipam_lookup_handle_new(const char *handle);

/*
 * From which prefixes an assignment takes addresses, in, but for those in out: pools, and reservations. Both
 * families, and none where no pool is allowed.
 */
struct ipam_request *ipam_scope_new(const struct ipam_assign *a);
struct ipam_pool {
	const char *name;
	struct prefix cidr;
};
struct ipam_scope {
	const struct ipam_pool *in; /* the request's, as out is */
	const struct prefix *out;
	size_t n_in, n_out;
	uint32_t cooldown_s; /* an address that is given back is free after so long */
};
struct ipam_scope ipam_request_scope(const struct ipam_request *rq);

/* An address that is assigned to one handle, to become another's. Everything is copied. */
struct ipam_move {
	struct ipam_addr addr;
	const char *from, *to; /* handles */
	const struct ipam_attr *attrs;
	size_t n_attrs;
	int64_t now_ns;
};

/*
 * It is never free in between. That it is the other's already is success: so it may be repeated. ENOENT: it
 * is not in use; ESTALE: it is a third one's.
 */
struct ipam_request *ipam_move_new(const struct ipam_move *m);

void ipam_request_free(struct ipam_request *rq);

/* Assigned, released or found, once the request is done. Borrowed. */
const struct ipam_addr *ipam_request_addrs(const struct ipam_request *rq, size_t *ret_n);
/* The assigned address of a family; NULL: none. */
const struct ipam_addr *ipam_request_addr(const struct ipam_request *rq, enum ip_family family);
