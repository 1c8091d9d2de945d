/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An address for a handle: of the host's own blocks, of a new one, of an empty one that another host
 * has not used for a minute, or borrowed; or one that is named.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/vec.h"
#include "ipam/block.h"
#include "ipam/plan.h"
#include "ipam/pools.h"
#include "ipam/request.h"
#include "model/ipam.h"
#include "model/ippool.h"

/* Calico's numbers. */
enum { DEFAULT_MAX_BLOCKS = 20, RECLAIM_AGE_S = 60 };

static int not_free(struct err *err, const struct ipam_block *b)
{
	return err_set(err, -ENOSPC, "block %s is full", prefix_str(&b->cidr));
}

/* Also without a cool-down now: what was released under one waits until it is collected. */
static bool is_full(const struct ipam_block *b)
{
	for (size_t i = 0; i < b->attrs.n; i++)
		if (b->attrs.v[i].released_s != 0)
			return false;
	return b->free.n == 0;
}

/* An address of the block: ip, or (IP_NONE) any. ENOSPC: none is free; EEXIST: that one is not. */
static int plan_take(struct ipam_request *rq, const struct scope *sc, struct slot *bs,
	const struct ip *ip, struct err *err)
{
	const struct ipam_block *have = slot_block(bs);
	auto_(ipam_block) struct ipam_block *b = NULL;
	struct ip got = *ip;
	int r;

	if (ip->family == IP_NONE && is_full(have))
		return not_free(err, have);
	b = ipam_block_dup(have);
	block_collect(b, sc->config.cooldown_s, rq->now_ns);
	if (ip->family == IP_NONE)
		r = block_auto_assign(b, &sc->reserved, rq->handle, rq->attrs.v, rq->attrs.n, &got);
	else
		r = block_assign(b, ip, rq->handle, rq->attrs.v, rq->attrs.n, err);
	if (r == -ENOSPC)
		return not_free(err, have);
	if (r < 0)
		return r;
	/* The handle first: an address without one could never be found again. */
	if (rq->counted && !prefix_equal(&rq->counted_cidr, &b->cidr)) {
		r = plan_uncount_reserved(rq);
		if (r != 0)
			return r;
	}
	if (!rq->counted || rq->recount)
		return plan_count(rq, &b->cidr, err);
	rq->after = AFTER_ASSIGNED;
	rq->after_cidr = b->cidr;
	rq->after_ip = got;
	return plan_update_block(rq, bs, b);
}

/* A block of ours outside the allowed pools: given back when no pool selects the node for it. */
static int plan_leave(struct ipam_request *rq, const struct scope *sc, const struct prefix *cidr)
{
	for (size_t i = 0; i < sc->left.n; i++) {
		if (prefix_covers(&sc->left.v[i]->cidr, cidr)) {
			int r = plan_unclaim(rq, rq->host, cidr, true, NULL);

			return r == PLAN_WAIT ? r : 0;
		}
	}
	return 0;
}

/* By the affinities alone; what others have over it is not looked for each time. */
static bool overlaps_own(struct slot *const *slots, size_t n, size_t i)
{
	for (size_t k = 0; k < n; k++)
		if (k != i && prefix_overlap(&slots[k]->cidr, &slots[i]->cidr))
			return true;
	return false;
}

/* From the blocks which the host has. ENOSPC: they are full. */
static int plan_from_own(struct ipam_request *rq, struct scope *sc, struct err *err)
{
	static const struct ip any;
	char prefix[IPAM_KEY_SIZE];
	auto_free struct slot **slots = NULL;
	size_t n;
	int r;

	r = view_list(&rq->view, ipam_key_affinities_of_host(rq->host, sc->family, prefix),
		SLOT_AFFINITY);
	if (r != 0)
		return r;
	n = view_under(&rq->view, prefix, &slots);
	/* felix sees to it at its start that none is missed: this may be before its first. */
	if (n == 0 && view_list_unindexed(&rq->view, prefix, SLOT_AFFINITY) == PLAN_WAIT)
		return PLAN_WAIT;
	for (size_t i = 0; i < n; i++) {
		const struct prefix cidr = slots[i]->cidr;
		struct slot *bs;

		if (cidr.addr.family == IP_NONE)
			continue;
		if (!scope_pool(sc, &cidr)) {
			r = plan_leave(rq, sc, &cidr);
			if (r != 0)
				return r;
			continue;
		}
		r = plan_claim(rq, &cidr, err);
		if (r == PLAN_WAIT)
			return r;
		if (r < 0)
			continue;
		sc->n_affine++;
		if (overlaps_own(slots, n, i))
			continue;
		r = plan_get_block(rq, &cidr, &bs);
		if (r == 0)
			r = plan_take(rq, sc, bs, &any, err);
		if (r != -ENOSPC)
			return r;
	}
	return err_set(err, -ENOSPC, "every block of node %s is full", rq->host);
}

static uint32_t fnv1(const char *s)
{
	uint32_t h = 2166136261u;

	for (; *s != '\0'; s++)
		h = h * 16777619u ^ (uint8_t)*s;
	return h;
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* The blocks of a pool in the order in which a host tries them: from its own start, then around. */
struct walk {
	const struct ippool *pool;
	uint64_t n, i, start, step; /* in blocks; step: addresses */
};

static struct walk walk_start(const struct ipam_request *rq, const struct ippool *p)
{
	unsigned host_bits = ip_bits(&p->cidr.addr) - p->block_plen;
	unsigned bits = (unsigned)p->block_plen - p->cidr.plen;
	struct walk w = {.pool = p, .step = 1ull << host_bits};

	/* Of a larger pool the first 2^64 addresses will do. */
	if (bits > 64 - host_bits)
		bits = 64 - host_bits;
	w.n = 1ull << (bits < 63 ? bits : 63);
	w.start = mix(host_bits == 0 ? rq->random : fnv1(rq->host)) % w.n;
	return w;
}

static bool walk_next(struct walk *w, struct prefix *ret)
{
	struct ip ip;

	if (w->i == w->n || !ip_add(&w->pool->cidr.addr, (w->start + w->i++) % w->n * w->step, &ip))
		return false;
	*ret = prefix_of(&ip, w->pool->block_plen);
	return true;
}

/* Past all of what covers the block that walk_next told last. */
static void walk_skip(struct walk *w, const struct prefix *block, const struct prefix *covering)
{
	struct ip last = prefix_last(covering);
	uint64_t at = (w->start + w->i - 1) % w->n;
	uint64_t more = ip_distance(&block->addr, &last) / w->step, to_end = w->n - 1 - at;

	more = more < to_end ? more : to_end;
	w->i = w->n - w->i < more ? w->n : w->i + more;
}

/* The first block of a pool that nobody has, or that is ours without an affinity. */
static int plan_new_in_pool(struct ipam_request *rq, const struct scope *sc,
	const struct taken *taken, const struct ippool *p, struct err *err)
{
	struct walk w = walk_start(rq, p);
	struct prefix cidr;

	/* No more turns than there are blocks and reservations: what is neither is taken. */
	while (walk_next(&w, &cidr)) {
		const struct prefix *reserved = block_reserved_by(&sc->reserved, &cidr);
		const struct prefix *other = taken_overlapping(taken, &cidr);
		char key[IPAM_KEY_SIZE];
		struct slot *bs = view_find(&rq->view, ipam_key_block(&cidr, key));
		int r;

		if (!reserved && other && !prefix_equal(other, &cidr))
			reserved = other;
		if (reserved) {
			walk_skip(&w, &cidr, reserved);
			continue;
		}
		if (bs && bs->state == SLOT_UNKNOWN) {
			r = plan_get_block(rq, &cidr, &bs);
			if (r != 0)
				return r;
		}
		/* One of ours with an affinity has been tried before. */
		if (bs && bs->state == SLOT_PRESENT &&
			(!slot_block(bs) || !block_affine_to(slot_block(bs), rq->host) ||
				view_find(&rq->view, ipam_key_affinity(rq->host, &cidr, key))))
			continue;
		if (block_reserved_covers(&sc->reserved, &cidr))
			continue;
		/* Once begun, it goes on as a block of our own. */
		r = plan_claim(rq, &cidr, err);
		if (r == PLAN_WAIT)
			return r;
	}
	return -ENOSPC;
}

/* An empty block of another host, claimed long enough ago. */
static bool is_reclaimable(
	const struct ipam_request *rq, const struct scope *sc, const struct ipam_block *b)
{
	const char *host = b ? block_host(b) : NULL;

	return host && strcmp(host, rq->host) != 0 && scope_pool(sc, &b->cidr) &&
	       block_is_empty(b) && b->claim_s + RECLAIM_AGE_S <= rq->now_ns / 1000000000 &&
	       !block_reserved_covers(&sc->reserved, &b->cidr);
}

/* It makes room for a block of its pool, by itself or with others that may be reclaimed, too. */
static bool makes_room(const struct ipam_request *rq, const struct scope *sc, struct slot **slots,
	size_t n, const struct ipam_block *b)
{
	const struct ippool *p = scope_pool(sc, &b->cidr);
	struct prefix room = prefix_of(
		&b->cidr.addr, p->block_plen < b->cidr.plen ? p->block_plen : b->cidr.plen);

	for (size_t i = 0; i < n; i++)
		if (prefix_overlap(&slots[i]->cidr, &room) &&
			!is_reclaimable(rq, sc, slot_block(slots[i])))
			return false;
	return true;
}

/* A new block. ENOSPC: there is none; EDQUOT: it is not allowed, and neither is borrowing, as with Calico. */
static int plan_new_block(struct ipam_request *rq, const struct scope *sc, struct err *err)
{
	uint32_t limit = sc->config.max_blocks_per_host;
	auto_free struct slot **slots = NULL;
	struct taken taken;
	size_t n;
	int r;

	if (rq->max_blocks != 0 && (limit == 0 || rq->max_blocks < limit))
		limit = rq->max_blocks;
	if (limit == 0)
		limit = DEFAULT_MAX_BLOCKS;
	if (!sc->config.auto_allocate_blocks)
		return err_set(err, -EDQUOT,
			"every block of node %s is full, and it may claim none by itself: "
			"autoAllocateBlocks is false: claim one for it (margayctl ipam claim), or set "
			"that to true (margayctl ipam configure)",
			rq->host);
	if (sc->n_affine >= limit)
		return err_set(err, -EDQUOT,
			"every block of node %s is full, and it has as many as it may, %zu: "
			"maxBlocksPerHost is %u%s: raise that (margayctl ipam configure "
			"--max-blocks-per-host), or run fewer pods on this node",
			rq->host, sc->n_affine, limit,
			rq->max_blocks == 0 && sc->config.max_blocks_per_host == 0
				? " where it is not set"
				: "");
	r = plan_list_blocks(rq, sc->family, &slots, &n);
	if (r != 0)
		return r;
	taken = taken_of(slots, n);
	r = -ENOSPC;
	for (size_t i = 0; i < sc->pools.n && r == -ENOSPC; i++)
		r = plan_new_in_pool(rq, sc, &taken, sc->pools.v[i], err);
	free(taken.v);
	if (r != -ENOSPC)
		return r;
	for (size_t i = 0; i < n; i++) {
		if (is_reclaimable(rq, sc, slot_block(slots[i])) &&
			makes_room(rq, sc, slots, n, slot_block(slots[i]))) {
			request_give_back(rq, slot_block(slots[i]));
			return plan_give_back(rq);
		}
	}
	return err_set(err, -ENOSPC, "no block of the pools is free");
}

static int borrow_from(
	struct ipam_request *rq, const struct scope *sc, struct slot *bs, struct err *err)
{
	static const struct ip any;
	const struct ipam_block *b;
	int r;

	r = view_get(&rq->view, bs->key, SLOT_BLOCK, &bs);
	if (r != 0)
		return r;
	b = slot_block(bs);
	/* Blocks of virtual owners are theirs alone. */
	if (!b || (b->affinity && !block_host(b)) || is_full(b))
		return -ENOSPC;
	r = plan_overlap(rq, bs, err);
	if (r != 0)
		return r == -EEXIST ? -ENOSPC : r;
	return plan_take(rq, sc, bs, &any, err);
}

/* From whatever block has a free address, in the order of the walk. */
static int plan_borrow(struct ipam_request *rq, const struct scope *sc, struct err *err)
{
	auto_free struct slot **slots = NULL;
	size_t n;
	int r = plan_list_blocks(rq, sc->family, &slots, &n);

	if (r != 0)
		return r;
	for (size_t p = 0; p < sc->pools.n; p++) {
		struct walk w = walk_start(rq, sc->pools.v[p]);
		struct prefix first;

		if (!walk_next(&w, &first))
			continue;
		/* Twice over the blocks in numerical order: those after the start, then the others. */
		for (size_t i = 0; n > 0 && i < 2 * n; i++) {
			struct slot *bs = slots[i % n];

			if (!prefix_covers(&sc->pools.v[p]->cidr, &bs->cidr) ||
				(i < n) != (prefix_compare(&bs->cidr, &first) >= 0))
				continue;
			r = borrow_from(rq, sc, bs, err);
			if (r != -ENOSPC)
				return r;
		}
	}
	return err_set(err, -ENOSPC, "no address is free in the IPv%d pools of node %s (%zu pools)",
		sc->family, rq->host, sc->pools.n);
}

static int plan_any(struct ipam_request *rq, struct scope *sc, struct err *err)
{
	int r = plan_from_own(rq, sc, err);

	if (r == -ENOSPC)
		r = plan_new_block(rq, sc, err);
	if (r == -ENOSPC && !sc->config.strict_affinity)
		r = plan_borrow(rq, sc, err);
	return r;
}

/* That it is the only one was seen to when its affinity was confirmed; of the host's own it is when it is claimed. */
static int plan_is_alone(struct ipam_request *rq, const struct ipam_block *b, bool *ret)
{
	const char *host = b ? block_host(b) : NULL;
	struct slot *as;
	int r;

	*ret = host && strcmp(host, rq->host) == 0;
	if (!host || *ret)
		return 0;
	r = plan_get_affinity(rq, host, &b->cidr, &as);
	if (r == 0)
		*ret = slot_affinity(as) && slot_affinity(as)->state == IPAM_CONFIRMED;
	return r;
}

/* The block that has rq->ip, of its pool's size unless one of another is there; it may be absent. */
static int plan_block_of_ip(
	struct ipam_request *rq, const struct ippool *p, struct slot **ret, struct err *err)
{
	struct prefix cidr = prefix_of(&rq->ip, p->block_plen);
	bool alone = false;
	int r = plan_get_block(rq, &cidr, ret);

	if (r == 0)
		r = plan_is_alone(rq, slot_block(*ret), &alone);
	if (r != 0 || alone)
		return r;
	for (unsigned host_bits = 0; 1u << host_bits <= IPAM_BLOCK_MAX; host_bits++) {
		struct slot *s;

		cidr = prefix_of(&rq->ip, ip_bits(&rq->ip) - host_bits);
		r = plan_get_block(rq, &cidr, &s);
		if (r != 0)
			return r;
		if (s->state == SLOT_ABSENT || s == *ret)
			continue;
		if ((*ret)->state != SLOT_ABSENT)
			return err_set(err, -EEXIST,
				"address %s is of block %s and of block %s: see margayctl ipam check",
				ip_str(&rq->ip), prefix_str(&(*ret)->cidr), prefix_str(&s->cidr));
		*ret = s;
	}
	return 0;
}

/* The address rq->ip, in its block; which is claimed unless it is another's. */
static int plan_specific(struct ipam_request *rq, struct scope *sc, struct err *err)
{
	auto_free struct slot **slots = NULL;
	const struct ippool *p;
	struct slot *bs;
	size_t n;
	int r = plan_list_pools(rq, &slots, &n);

	if (r != 0)
		return r;
	p = slots_pool_of(slots, n, &rq->ip);
	if (!p || !pool_allows(p, rq->use))
		return err_set(err, -ENOENT,
			"address %s is in no enabled pool%s: margayctl get ippools lists them",
			ip_str(&rq->ip), p ? " that allows this use" : "");
	r = plan_block_of_ip(rq, p, &bs, err);
	if (r == 0 && (bs->state == SLOT_ABSENT ||
			      (slot_block(bs) && block_affine_to(slot_block(bs), rq->host))))
		r = plan_claim(rq, &bs->cidr, err);
	if (r != 0)
		return r;
	r = slot_check(bs, err);
	if (r < 0)
		return r;
	if (sc->config.strict_affinity && !block_affine_to(slot_block(bs), rq->host))
		return err_set(err, -EPERM,
			"address %s is of block %s, which belongs to %s, and strictAffinity is on",
			ip_str(&rq->ip), prefix_str(&bs->cidr),
			slot_block(bs)->affinity ?: "no node");
	return plan_take(rq, sc, bs, &rq->ip, err);
}

static int plan_family(struct ipam_request *rq, enum ip_family family, struct err *err)
{
	struct scope sc = {.family = family};
	int r = plan_give_back(rq) ?: plan_get_config(rq, &sc.config, err);

	if (r == 0 && rq->ip.family == family)
		return plan_specific(rq, &sc, err);
	if (r == 0)
		r = plan_scope_pools(rq, &sc, err);
	if (r == 0)
		r = plan_scope_reservations(rq, &sc);
	if (r == 0)
		r = plan_any(rq, &sc, err);
	scope_done(&sc);
	return r;
}

/* What the handle holds already and fits. */
static int plan_reuse(struct ipam_request *rq, struct err *err)
{
	struct ipam_handle *h;
	struct slot *s;
	int r = plan_read_handle(rq, rq->handle, &s, err);

	if (r != 0)
		return r;
	h = slot_handle(s);
	for (size_t i = 0; h && i < h->blocks.n; i++) {
		const struct prefix *cidr = &h->blocks.v[i].cidr;
		uint32_t pos = 0;
		struct slot *bs;
		struct ip ip;

		r = plan_get_block(rq, cidr, &bs);
		if (r != 0)
			return r;
		while (slot_block(bs) &&
			block_next_of_handle(slot_block(bs), rq->handle, &pos, &ip)) {
			if (ipam_request_addr(rq, ip.family) ||
				!(ip.family == IP_V4 ? rq->v4 : rq->v6))
				continue;
			if (rq->ip.family == ip.family && !ip_equal(&rq->ip, &ip))
				continue;
			vec_push(&rq->addrs,
				(struct ipam_addr){.ip = ip, .block = *cidr, .held = true});
		}
	}
	rq->reuse = false;
	return 0;
}

/*
 * A block was written, and the answer was lost: it is read again before the handle is counted down,
 * since an address in use without a handle would never be found again.
 */
static int plan_resolve_doubt(struct ipam_request *rq)
{
	const struct ipam_block_attr *attr = NULL;
	struct slot *bs;
	int r;

	if (!rq->in_doubt)
		return 0;
	r = plan_get_block(rq, &rq->doubtful.block, &bs);
	if (r == PLAN_WAIT)
		return r;
	if (r == 0 && slot_block(bs))
		attr = block_lookup(slot_block(bs), &rq->doubtful.ip);
	if (attr && attr->handle && strcmp(attr->handle, rq->handle) == 0) {
		vec_push(&rq->addrs, rq->doubtful);
		rq->counted = false;
	}
	rq->in_doubt = false;
	return 0;
}

/* The assignment cannot be completed: what was taken goes back. */
int plan_undo(struct ipam_request *rq)
{
	int r = plan_resolve_doubt(rq) ?: plan_uncount_reserved(rq);

	if (r == PLAN_WAIT)
		return r;
	for (size_t i = rq->addrs.n; i-- > 0;) {
		r = rq->addrs.v[i].held ? 0 : plan_free_addr(rq, &rq->addrs.v[i], NULL);
		if (r == PLAN_WAIT)
			return r;
		rq->addrs.n--;
	}
	return 0;
}

int plan_assign(struct ipam_request *rq, struct err *err)
{
	int r = 0;

	if (rq->reuse)
		r = plan_reuse(rq, err);
	if (r == 0 && rq->v4 && !ipam_request_addr(rq, IP_V4))
		r = plan_family(rq, IP_V4, err);
	if (r == 0 && rq->v6 && !ipam_request_addr(rq, IP_V6))
		r = plan_family(rq, IP_V6, err);
	assert(r != 0 || !rq->v4 || ipam_request_addr(rq, IP_V4));
	assert(r != 0 || !rq->v6 || ipam_request_addr(rq, IP_V6));
	return r;
}
