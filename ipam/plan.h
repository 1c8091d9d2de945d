/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of a plan. A function that plans returns PLAN_WAIT when it has set the view's next
 * operation: its callers return at once, and everything is planned again when the outcome is known.
 * It returns 0 when, by what is known, there is nothing left to do, or a negative errno.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/vec.h"
#include "ipam/block.h"
#include "ipam/request.h"
#include "ipam/view.h"
#include "model/ipam.h"

struct err;
struct ippool;

/* The slots of what is named so. Each returns 0 or PLAN_WAIT. */
int plan_get_block(struct ipam_request *rq, const struct prefix *cidr, struct slot **ret);
int plan_get_affinity(
	struct ipam_request *rq, const char *host, const struct prefix *cidr, struct slot **ret);
int plan_get_handle(struct ipam_request *rq, const char *handle, struct slot **ret);
/* 0, or the error of a slot whose object cannot be decoded. */
int slot_check(struct slot *s, struct err *err);
/* Both in one. */
int plan_read_block(
	struct ipam_request *rq, const struct prefix *cidr, struct slot **ret, struct err *err);
int plan_read_handle(
	struct ipam_request *rq, const char *handle, struct slot **ret, struct err *err);
/* The configuration, or its defaults. */
int plan_get_config(struct ipam_request *rq, struct ipam_config *ret, struct err *err);
/* Those of a family that exist, sorted; the caller frees *ret. */
int plan_list_blocks(struct ipam_request *rq, enum ip_family family, struct slot ***ret, size_t *n);
int plan_list_pools(struct ipam_request *rq, struct slot ***ret, size_t *n);
/* The enabled pool of an address, or NULL. */
const struct ippool *slots_pool_of(struct slot **pools, size_t n, const struct ip *ip);
/* Whether the pool's nodeSelector matches the node's labels. */
int plan_pool_selects_node(
	struct ipam_request *rq, const struct ippool *p, const char *host, bool *ret);

/* One more for the block, which `counted` then stands for; if it does, the same is written again. */
int plan_count(struct ipam_request *rq, const struct prefix *cidr, struct err *err);
/* From now on n are due to be counted off, from the revision of the handle that is known. */
void request_uncount(
	struct ipam_request *rq, const char *handle, const struct prefix *cidr, uint32_t n);
/* Does what is due; the handle goes with its last block. */
int plan_uncount(struct ipam_request *rq);
/* The same, and what was counted for a block without being used there. */
int plan_uncount_reserved(struct ipam_request *rq);
/* As many as its block has, of the handle an address of which may have been freed, or not. */
int plan_recount(struct ipam_request *rq);
/* As many as `handled` and the handle's blocks have: fewer only of a block that was written since. */
int plan_recount_handle(struct ipam_request *rq, struct err *err);
/* The handle has no address in any of its blocks: it goes, unless it is found to have one. */
int plan_sweep(struct ipam_request *rq, struct slot *s, struct err *err);

/*
 * Whether another block overlaps this one, which is to be made, or was made and is not confirmed: EEXIST then, naming
 * it. Goes by a list that came after it was made.
 */
int plan_overlap(struct ipam_request *rq, const struct slot *bs, struct err *err);

/* Blocks, but for those that lie in others, in order. The caller frees v. */
struct taken {
	struct prefix *v;
	size_t n;
};
struct taken taken_of(struct slot *const *blocks, size_t n);
/* One of them that overlaps cidr, NULL: none does. Borrowed. */
const struct prefix *taken_overlapping(const struct taken *t, const struct prefix *cidr);

/* The write of a changed block, with the next sequence number. */
int plan_update_block(struct ipam_request *rq, struct slot *s, struct ipam_block *b);
/* The block is the host's and the affinity confirmed. EEXIST: it is another's. */
int plan_claim(struct ipam_request *rq, const struct prefix *cidr, struct err *err);
/*
 * The block is not the host's any more: deleted when it is empty, else without affinity. EBUSY: it
 * must be empty and is not; it stays the host's then, confirmed, if this request alone has touched it.
 */
int plan_unclaim(struct ipam_request *rq, const char *host, const struct prefix *cidr,
	bool must_be_empty, struct err *err);

/*
 * An empty block, as it is now, is to be taken from its host; and what is due of that. Its host keeps
 * it who uses it meanwhile, or claims it again.
 */
void request_give_back(struct ipam_request *rq, const struct ipam_block *b);
int plan_give_back(struct ipam_request *rq);

/* What an assignment in one family goes by. */
struct scope {
	enum ip_family family;
	struct ipam_config config;
	VEC(const struct ippool *) pools; /* allowed, in the order of the datastore */
	VEC(const struct ippool *) left;  /* enabled, but do not select the node any more */
	struct block_reserved reserved;
	size_t n_affine; /* blocks of ours in the allowed pools */
};

void scope_done(struct scope *sc);
/* The allowed pool of a block, or NULL. */
const struct ippool *scope_pool(const struct scope *sc, const struct prefix *block);
/* ENOENT: no pool is allowed. */
int plan_scope_pools(struct ipam_request *rq, struct scope *sc, struct err *err);
int plan_scope_reservations(struct ipam_request *rq, struct scope *sc);

/* The block needs no more of this request. */
bool request_is_handled(const struct ipam_request *rq, const struct prefix *cidr);
/* Frees what the handle has in the block. */
int plan_release_block(struct ipam_request *rq, const struct prefix *cidr, struct err *err);
/* Frees one address of a block that is known. ENOENT: it is not in use. */
int plan_free_addr(struct ipam_request *rq, const struct ipam_addr *addr, struct err *err);

/* What the kinds of requests are about. */
int plan_assign(struct ipam_request *rq, struct err *err);
int plan_undo(struct ipam_request *rq);
int plan_release_handle(struct ipam_request *rq, struct err *err);
int plan_release_ip(struct ipam_request *rq, struct err *err);
int plan_claim_cidr(struct ipam_request *rq, struct err *err);
int plan_unclaim_cidr(struct ipam_request *rq, struct err *err);
int plan_move(struct ipam_request *rq, struct err *err);
int plan_lookup(struct ipam_request *rq, struct err *err);
int plan_scope(struct ipam_request *rq, struct err *err);
