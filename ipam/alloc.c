/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ipam/alloc.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/vec.h"
#include "ipam/block.h"
#include "ipam/pools.h"
#include "ipam/request.h"
#include "ipam/step.h"
#include "model/ipam.h"

/* Calico's numbers. */
enum {
	MAX_RETRIES = 100,
	DEFAULT_MAX_BLOCKS = 20,
	RECLAIM_AGE_S = 60,
};

#define POOLS "/calico/resources/v3/projectcalico.org/ippools/"
#define RESERVATIONS "/calico/resources/v3/projectcalico.org/ipreservations/"
#define NODES "/calico/resources/v3/projectcalico.org/nodes/"

/*
 * Requests.
 */
static struct ipam_request *request_new(
	enum request_kind kind, const char *host, const char *handle, int64_t now_ns)
{
	struct ipam_request *rq = mem_new(struct ipam_request);

	rq->kind = kind;
	rq->host = host ? mem_strdup(host) : NULL;
	rq->handle = handle ? mem_strdup(handle) : NULL;
	rq->now_ns = now_ns;
	return rq;
}

struct ipam_request *ipam_assign_new(const struct ipam_assign *a)
{
	struct ipam_request *rq = request_new(REQUEST_ASSIGN, a->host, a->handle, a->now_ns);

	assert(a->host && a->handle && (a->v4 || a->v6));
	for (size_t i = 0; i < a->n_attrs; i++)
		vec_push(&rq->attrs, (struct ipam_attr){mem_strdup(a->attrs[i].name),
					     mem_strdup(a->attrs[i].value)});
	for (size_t i = 0; i < a->n_pools; i++)
		vec_push(&rq->pools, mem_strdup(a->pools[i]));
	rq->use = a->use;
	rq->v4 = a->v4;
	rq->v6 = a->v6;
	rq->ip = a->ip;
	rq->reuse = a->reuse;
	rq->max_blocks = a->max_blocks;
	rq->random = a->random;
	return rq;
}

struct ipam_request *ipam_release_handle_new(const char *handle, int64_t now_ns)
{
	return request_new(REQUEST_RELEASE_HANDLE, NULL, handle, now_ns);
}

struct ipam_request *ipam_release_ip_new(const struct ip *ip, const char *handle, int64_t now_ns)
{
	struct ipam_request *rq = request_new(REQUEST_RELEASE_IP, NULL, handle, now_ns);

	rq->ip = *ip;
	return rq;
}

struct ipam_request *ipam_claim_new(const struct prefix *cidr, const char *host, int64_t now_ns)
{
	struct ipam_request *rq = request_new(REQUEST_CLAIM, host, NULL, now_ns);

	rq->cidr = *cidr;
	return rq;
}

struct ipam_request *ipam_unclaim_new(
	const struct prefix *cidr, const char *host, bool must_be_empty, int64_t now_ns)
{
	struct ipam_request *rq = request_new(REQUEST_UNCLAIM, host, NULL, now_ns);

	if (cidr)
		rq->cidr = *cidr;
	rq->must_be_empty = must_be_empty;
	return rq;
}

struct ipam_request *ipam_lookup_handle_new(const char *handle)
{
	return request_new(REQUEST_LOOKUP, NULL, handle, 0);
}

void ipam_request_free(struct ipam_request *rq)
{
	struct ipam_attr *a;
	char **s;

	if (!rq)
		return;
	store_op_cancel(rq->op);
	view_done(&rq->view);
	vec_for_each (&rq->attrs, a) {
		free((char *)(uintptr_t)a->name);
		free((char *)(uintptr_t)a->value);
	}
	vec_done(&rq->attrs);
	vec_for_each (&rq->pools, s)
		free(*s);
	vec_done(&rq->pools);
	vec_done(&rq->addrs);
	vec_done(&rq->handled);
	free(rq->host);
	free(rq->handle);
	free(rq->uncount.handle);
	free(rq->releasing.host);
	vec_done(&rq->freeing);
	free(rq->freeing_handle);
	free(rq);
}

const struct ipam_addr *ipam_request_addrs(const struct ipam_request *rq, size_t *ret_n)
{
	*ret_n = rq->addrs.n;
	return rq->addrs.v;
}

const struct ipam_addr *ipam_request_addr(const struct ipam_request *rq, enum ip_family family)
{
	for (size_t i = 0; i < rq->addrs.n; i++)
		if (rq->addrs.v[i].ip.family == family)
			return &rq->addrs.v[i];
	return NULL;
}

/*
 * Reading.
 */
static int get_block(struct ipam_request *rq, const struct prefix *cidr, struct slot **ret)
{
	char key[IPAM_KEY_SIZE];

	return view_get(&rq->view, ipam_key_block(cidr, key), SLOT_BLOCK, ret);
}

static int get_affinity(
	struct ipam_request *rq, const char *host, const struct prefix *cidr, struct slot **ret)
{
	char key[IPAM_KEY_SIZE];

	return view_get(&rq->view, ipam_key_affinity(host, cidr, key), SLOT_AFFINITY, ret);
}

static int get_handle(struct ipam_request *rq, const char *handle, struct slot **ret)
{
	char key[IPAM_KEY_SIZE];

	return view_get(&rq->view, ipam_key_handle(handle, key), SLOT_HANDLE, ret);
}

static int check_not_bad(struct slot *s, struct err *err)
{
	if (!slot_is_bad(s))
		return 0;
	if (err)
		*err = s->bad;
	return s->bad.code;
}

static int get_config(struct ipam_request *rq, struct ipam_config *ret, struct err *err)
{
	struct slot *s;
	int r = view_get(&rq->view, IPAM_KEY_CONFIG, SLOT_CONFIG, &s);

	if (r == 0)
		r = check_not_bad(s, err);
	if (r != 0)
		return r;
	*ret = slot_config(s) ? *slot_config(s) : IPAM_CONFIG_DEFAULT;
	return 0;
}

/* Of all blocks of a family that are known, after they were listed. */
static int list_blocks(
	struct ipam_request *rq, enum ip_family family, struct slot ***ret, size_t *n)
{
	char prefix[IPAM_KEY_SIZE];
	int r = view_list(&rq->view, ipam_key_blocks_of_family(family, prefix), SLOT_BLOCK);

	if (r == 0)
		*n = view_under(&rq->view, prefix, ret);
	return r;
}

static const struct pool *pool_of_ip(struct slot **pools, size_t n, const struct ip *ip)
{
	for (size_t i = 0; i < n; i++) {
		const struct pool *p = slot_pool(pools[i]);

		if (p && p->enabled && prefix_contains(&p->cidr, ip))
			return p;
	}
	return NULL;
}

static int list_pools(struct ipam_request *rq, struct slot ***ret, size_t *n)
{
	int r = view_list(&rq->view, POOLS, SLOT_POOL);

	if (r == 0)
		*n = view_under(&rq->view, POOLS, ret);
	return r;
}

/* *ret is NULL where the node is not known; then no selector but all() matches. */
static int get_node_labels(
	struct ipam_request *rq, const char *host, const struct node_labels **ret)
{
	char key[IPAM_KEY_SIZE];
	struct slot *s;
	int r;

	snprintf(key, sizeof(key), NODES "%s", host);
	r = view_get(&rq->view, key, SLOT_NODE, &s);
	if (r == 0)
		*ret = slot_node(s);
	return r;
}

static int pool_selects_node(
	struct ipam_request *rq, const struct pool *p, const char *host, bool *ret)
{
	const struct node_labels *labels;
	int r;

	*ret = true;
	if (pool_selector_is_all(p->node_selector))
		return 0;
	r = get_node_labels(rq, host, &labels);
	if (r == 0)
		*ret = pool_selects(p->node_selector, labels);
	return r;
}

/* Without Kubernetes a namespace has its own name as its only labels. */
static bool selects_namespace(const struct ipam_request *rq, const struct pool *p)
{
	struct node_labels labels = {0};
	bool selects;

	if (pool_selector_is_all(p->namespace_selector))
		return true;
	for (size_t i = 0; i < rq->attrs.n; i++) {
		if (strcmp(rq->attrs.v[i].name, "namespace") != 0)
			continue;
		vec_push(&labels.v,
			(struct ipam_attr){"projectcalico.org/name", rq->attrs.v[i].value});
		vec_push(&labels.v,
			(struct ipam_attr){"kubernetes.io/metadata.name", rq->attrs.v[i].value});
	}
	selects = pool_selects(p->namespace_selector, &labels);
	vec_done(&labels.v);
	return selects;
}

/*
 * The handle's count.
 */
static struct ipam_handle_block *handle_block(struct ipam_handle *h, const struct prefix *cidr)
{
	for (size_t i = 0; i < h->blocks.n; i++)
		if (prefix_equal(&h->blocks.v[i].cidr, cidr))
			return &h->blocks.v[i];
	return NULL;
}

/* One more for the block. */
static int plan_count(struct ipam_request *rq, const struct prefix *cidr, struct err *err)
{
	struct ipam_handle_block *hb;
	auto_(ipam_handle) struct ipam_handle *h = NULL;
	struct slot *s;
	int r = get_handle(rq, rq->handle, &s);

	if (r == 0)
		r = check_not_bad(s, err);
	if (r != 0)
		return r;
	h = slot_handle(s) ? ipam_handle_dup(slot_handle(s)) : ipam_handle_new();
	hb = handle_block(h, cidr);
	if (hb)
		hb->count++;
	else
		vec_push(&h->blocks, (struct ipam_handle_block){*cidr, 1});
	rq->after = AFTER_COUNTED;
	rq->after_cidr = *cidr;
	if (s->state == SLOT_ABSENT)
		return view_create(&rq->view, s, ipam_handle_encode(h));
	return view_update(&rq->view, s, ipam_handle_encode(h));
}

static void uncount_set(
	struct ipam_request *rq, const char *handle, const struct prefix *cidr, uint32_t n)
{
	free(rq->uncount.handle);
	rq->uncount.handle = mem_strdup(handle);
	rq->uncount.cidr = *cidr;
	rq->uncount.n = n;
}

/* What is due to be counted off: n for the block; the handle goes with its last block. */
static int plan_uncount(struct ipam_request *rq)
{
	auto_(ipam_handle) struct ipam_handle *h = NULL;
	struct ipam_handle_block *hb;
	struct slot *s;
	int r;

	if (rq->uncount.n == 0)
		return 0;
	r = get_handle(rq, rq->uncount.handle, &s);
	if (r != 0)
		return r;
	hb = slot_handle(s) ? handle_block(slot_handle(s), &rq->uncount.cidr) : NULL;
	if (!hb) {
		rq->uncount.n = 0;
		return 0;
	}
	h = ipam_handle_dup(slot_handle(s));
	hb = handle_block(h, &rq->uncount.cidr);
	assert(hb);
	hb->count -= hb->count < rq->uncount.n ? hb->count : rq->uncount.n;
	if (hb->count == 0)
		vec_swap_remove(&h->blocks, (size_t)(hb - h->blocks.v));
	rq->after = AFTER_UNCOUNTED;
	if (h->blocks.n == 0)
		return view_delete(&rq->view, s);
	return view_update(&rq->view, s, ipam_handle_encode(h));
}

/* The count that was made for a block and not used there. */
static int plan_uncount_reserved(struct ipam_request *rq)
{
	if (rq->counted) {
		uncount_set(rq, rq->handle, &rq->counted_cidr, 1);
		rq->counted = false;
	}
	return plan_uncount(rq);
}

/*
 * Affinities.
 */
static int set_affinity(struct ipam_request *rq, struct slot *s, enum ipam_affinity_state state)
{
	struct ipam_affinity a = {.state = state};

	return view_update(&rq->view, s, ipam_affinity_encode(&a));
}

static int update_block(struct ipam_request *rq, struct slot *s, struct ipam_block *b)
{
	block_bump(b);
	return view_update(&rq->view, s, ipam_block_encode(b));
}

/* The block is known to be somebody else's. */
static bool is_foreign(struct ipam_request *rq, const struct prefix *cidr, struct err *err)
{
	char key[IPAM_KEY_SIZE];
	struct slot *s = view_find(&rq->view, ipam_key_block(cidr, key));
	const struct ipam_block *b = s ? slot_block(s) : NULL;

	if (!b || block_affine_to(b, rq->host))
		return false;
	err_set(err, -EEXIST, "block %s belongs to %s", prefix_str(cidr), b->affinity ?: "no node");
	return true;
}

/* The affinity exists and the block does not. */
static int plan_claim_absent(
	struct ipam_request *rq, const struct prefix *cidr, struct slot *as, struct slot *bs)
{
	auto_(ipam_block) struct ipam_block *b = NULL;

	/* Pending, even if it is already: whoever is releasing it has lost the race then. */
	if (!bs->guarded) {
		rq->after = AFTER_GUARDED;
		rq->after_slot = bs;
		return set_affinity(rq, as, IPAM_PENDING);
	}
	b = block_create(cidr, rq->host, rq->now_ns);
	return view_create(&rq->view, bs, ipam_block_encode(b));
}

/*
 * The block is the host's, and the affinity confirmed. EEXIST: it is another's; an affinity of ours
 * was stale then and is gone.
 */
static int plan_claim(struct ipam_request *rq, const struct prefix *cidr, struct err *err)
{
	struct ipam_affinity pending = {.state = IPAM_PENDING};
	struct ipam_affinity *a;
	struct slot *as, *bs;
	struct ipam_block *b;
	int r;

	r = get_affinity(rq, rq->host, cidr, &as);
	if (r != 0)
		return r;
	if (as->state == SLOT_ABSENT && is_foreign(rq, cidr, err))
		return -EEXIST;
	if (as->state == SLOT_ABSENT)
		return view_create(&rq->view, as, ipam_affinity_encode(&pending));
	r = get_block(rq, cidr, &bs);
	if (r != 0)
		return r;
	r = check_not_bad(as, err) ?: check_not_bad(bs, err);
	if (r < 0)
		return r;
	a = slot_affinity(as);
	b = slot_block(bs);
	if (!b)
		return plan_claim_absent(rq, cidr, as, bs);
	if (is_foreign(rq, cidr, NULL))
		return view_delete(&rq->view, as);
	switch (a->state) {
	case IPAM_CONFIRMED:
		return 0;
	case IPAM_PENDING:
		return set_affinity(rq, as, IPAM_CONFIRMED);
	case IPAM_PENDING_DELETION:
		break;
	}
	/* Somebody may be about to delete the block: an update of it makes that fail. */
	if (!bs->written) {
		auto_(ipam_block) struct ipam_block *copy = ipam_block_dup(b);

		return update_block(rq, bs, copy);
	}
	return set_affinity(rq, as, IPAM_PENDING);
}

/*
 * The block is not the host's any more: deleted when it is empty, else without affinity. EBUSY: it
 * has to be empty and is not, or is another block than it was (releasing.seq).
 */
static int plan_unclaim(struct ipam_request *rq, const char *host, const struct prefix *cidr,
	bool must_be_empty, struct err *err)
{
	struct slot *as, *bs;
	struct ipam_affinity *a;
	struct ipam_block *b;
	int r;

	r = get_affinity(rq, host, cidr, &as) ?: get_block(rq, cidr, &bs);
	if (r != 0)
		return r;
	r = check_not_bad(bs, err);
	if (r < 0)
		return r;
	a = slot_affinity(as);
	b = slot_block(bs);
	if (b && !block_affine_to(b, host))
		b = NULL; /* a stale affinity, which goes */
	if (b && must_be_empty && !block_is_empty(b))
		return err_set(err, -EBUSY, "block %s has addresses in use", prefix_str(cidr));
	if (a && b && a->state != IPAM_PENDING_DELETION)
		return set_affinity(rq, as, IPAM_PENDING_DELETION);
	if (b && block_is_empty(b))
		return view_delete(&rq->view, bs);
	if (b) {
		auto_(ipam_block) struct ipam_block *copy = ipam_block_dup(b);

		block_orphan(copy);
		return update_block(rq, bs, copy);
	}
	if (as->state == SLOT_PRESENT)
		return view_delete(&rq->view, as);
	return 0;
}

/*
 * Assigning.
 */

/* What an assignment in one family goes by. */
struct scope {
	enum ip_family family;
	struct ipam_config config;
	VEC(const struct pool *) pools; /* allowed, in the order of the datastore */
	VEC(const struct pool *) left;	/* enabled, but do not select the node any more */
	struct block_reserved reserved;
	size_t n_affine; /* blocks of ours in the allowed pools */
};

static void scope_done(struct scope *sc)
{
	vec_done(&sc->pools);
	vec_done(&sc->left);
	free((struct prefix *)(uintptr_t)sc->reserved.v);
}

static const struct pool *scope_pool(const struct scope *sc, const struct prefix *block)
{
	for (size_t i = 0; i < sc->pools.n; i++)
		if (prefix_covers(&sc->pools.v[i]->cidr, block))
			return sc->pools.v[i];
	return NULL;
}

static bool is_named(const struct pool *p, const char *name)
{
	struct prefix cidr;

	if (strcmp(p->name, name) == 0)
		return true;
	return prefix_parse(name, &cidr, NULL) == 0 && prefix_equal(&cidr, &p->cidr);
}

static bool is_requested(const struct ipam_request *rq, const struct pool *p)
{
	for (size_t i = 0; i < rq->pools.n; i++)
		if (is_named(p, rq->pools.v[i]))
			return true;
	return false;
}

/* Every pool that was asked for exists, and is enabled. */
static int check_requested(
	const struct ipam_request *rq, struct slot **slots, size_t n, struct err *err)
{
	for (size_t i = 0; i < rq->pools.n; i++) {
		bool found = false;

		for (size_t k = 0; k < n && !found; k++) {
			const struct pool *p = slot_pool(slots[k]);

			found = p && p->enabled && is_named(p, rq->pools.v[i]);
		}
		if (!found)
			return err_set(err, -ENOENT,
				"the given pool (%s) does not exist, or is not enabled",
				rq->pools.v[i]);
	}
	return 0;
}

static int scope_add_pool(struct ipam_request *rq, struct scope *sc, const struct pool *p)
{
	bool selects = true;
	int r;

	if (!p || !p->enabled || p->cidr.addr.family != sc->family)
		return 0;
	if (rq->pools.n > 0) {
		if (is_requested(rq, p) && pool_allows(p, rq->use))
			vec_push(&sc->pools, p);
		return 0;
	}
	r = pool_selects_node(rq, p, rq->host, &selects);
	if (r != 0)
		return r;
	if (!selects)
		vec_push(&sc->left, p);
	else if (p->automatic && pool_allows(p, rq->use) && selects_namespace(rq, p))
		vec_push(&sc->pools, p);
	return 0;
}

static int scope_add_pools(struct ipam_request *rq, struct scope *sc, struct err *err)
{
	auto_free struct slot **slots = NULL;
	size_t n = 0;
	int r = list_pools(rq, &slots, &n);

	if (r == 0)
		r = check_requested(rq, slots, n, err);
	for (size_t i = 0; i < n && r == 0; i++)
		r = scope_add_pool(rq, sc, slot_pool(slots[i]));
	if (r == 0 && sc->pools.n == 0)
		r = err_set(err, -ENOENT,
			"no enabled IPv%d pool is there for node %s: see the pools' nodeSelector, "
			"allowedUses, assignmentMode and disabled",
			sc->family, rq->host);
	return r;
}

static int scope_add_reservations(struct ipam_request *rq, struct scope *sc)
{
	auto_free struct slot **slots = NULL;
	VEC(struct prefix) v = {0};
	size_t n;
	int r = view_list(&rq->view, RESERVATIONS, SLOT_RESERVATION);

	if (r != 0)
		return r;
	n = view_under(&rq->view, RESERVATIONS, &slots);
	for (size_t i = 0; i < n; i++) {
		const struct reservation *res = slot_reservation(slots[i]);

		for (size_t k = 0; res && k < res->cidrs.n; k++)
			vec_push(&v, res->cidrs.v[k]);
	}
	sc->reserved = (struct block_reserved){v.v, v.n};
	return 0;
}

static int not_free(struct err *err, const struct ipam_block *b)
{
	return err_set(err, -ENOSPC, "block %s is full", prefix_str(&b->cidr));
}

/* An address of the block: ip, or (IP_NONE) any. ENOSPC: none is free; EEXIST: that one is not. */
static int plan_take(struct ipam_request *rq, const struct scope *sc, struct slot *bs,
	const struct ip *ip, struct err *err)
{
	const struct ipam_block *have = slot_block(bs);
	auto_(ipam_block) struct ipam_block *b = NULL;
	struct ip got = *ip;
	int r;

	if (ip->family == IP_NONE && have->free.n == 0 && sc->config.cooldown_s == 0)
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
	if (!rq->counted)
		return plan_count(rq, &b->cidr, err);
	rq->after = AFTER_ASSIGNED;
	rq->after_cidr = b->cidr;
	rq->after_ip = got;
	return update_block(rq, bs, b);
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
	for (size_t i = 0; i < n; i++) {
		struct prefix cidr;
		struct slot *bs;

		if (!ipam_key_parse_affinity(slots[i]->key, NULL, &cidr))
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
		r = get_block(rq, &cidr, &bs);
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
	const struct pool *pool;
	uint64_t n, i, start, step; /* in blocks; step: addresses */
};

static struct walk walk_start(const struct ipam_request *rq, const struct pool *p)
{
	unsigned host_bits = ip_bits(&p->cidr.addr) - p->block_plen;
	unsigned bits = (unsigned)p->block_plen - p->cidr.plen;
	struct walk w = {.pool = p, .step = 1ull << host_bits};

	/* Of a larger pool the first 2^40 blocks will do. */
	w.n = 1ull << (bits < 40 ? bits : 40);
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

/* The first block of a pool that nobody has, or that is ours without an affinity. */
static int plan_new_in_pool(
	struct ipam_request *rq, const struct scope *sc, const struct pool *p, struct err *err)
{
	struct walk w = walk_start(rq, p);
	struct prefix cidr;

	while (walk_next(&w, &cidr)) {
		char key[IPAM_KEY_SIZE];
		struct slot *bs = view_find(&rq->view, ipam_key_block(&cidr, key));
		int r;

		if (bs && bs->state == SLOT_UNKNOWN) {
			r = get_block(rq, &cidr, &bs);
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

static void releasing_set(struct ipam_request *rq, const struct ipam_block *b)
{
	free(rq->releasing.host);
	rq->releasing.host = mem_strdup(block_host(b));
	rq->releasing.cidr = b->cidr;
	rq->releasing.seq = b->seq;
	rq->releasing.active = true;
}

/* Goes on with a reclaim that has begun. */
static int plan_reclaim(struct ipam_request *rq)
{
	struct slot *bs;
	int r;

	if (!rq->releasing.active)
		return 0;
	r = get_block(rq, &rq->releasing.cidr, &bs);
	if (r != 0)
		return r;
	if (slot_is_bad(bs) || (slot_block(bs) && slot_block(bs)->seq != rq->releasing.seq))
		r = -EBUSY;
	else
		r = plan_unclaim(rq, rq->releasing.host, &rq->releasing.cidr, true, NULL);
	if (r == PLAN_WAIT)
		return r;
	rq->releasing.active = false;
	return 0;
}

/* A new block. ENOSPC: there is none; EDQUOT: it is not allowed, and neither is borrowing. */
static int plan_new_block(struct ipam_request *rq, const struct scope *sc, struct err *err)
{
	uint32_t limit = sc->config.max_blocks_per_host;
	auto_free struct slot **slots = NULL;
	size_t n;
	int r;

	if (rq->max_blocks != 0 && (limit == 0 || rq->max_blocks < limit))
		limit = rq->max_blocks;
	if (limit == 0)
		limit = DEFAULT_MAX_BLOCKS;
	if (!sc->config.auto_allocate_blocks)
		return err_set(err, -EDQUOT,
			"every block of node %s is full, and autoAllocateBlocks is off", rq->host);
	if (sc->n_affine >= limit)
		return err_set(err, -EDQUOT,
			"every block of node %s is full, and it has as many as it may: %zu of %u",
			rq->host, sc->n_affine, limit);
	r = list_blocks(rq, sc->family, &slots, &n);
	if (r != 0)
		return r;
	for (size_t i = 0; i < sc->pools.n; i++) {
		r = plan_new_in_pool(rq, sc, sc->pools.v[i], err);
		if (r != -ENOSPC)
			return r;
	}
	for (size_t i = 0; i < n; i++) {
		if (is_reclaimable(rq, sc, slot_block(slots[i]))) {
			releasing_set(rq, slot_block(slots[i]));
			return plan_reclaim(rq);
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
	if (!b || (b->affinity && !block_host(b)))
		return -ENOSPC;
	return plan_take(rq, sc, bs, &any, err);
}

/* From whatever block has a free address, in the order of the walk. */
static int plan_borrow(struct ipam_request *rq, const struct scope *sc, struct err *err)
{
	auto_free struct slot **slots = NULL;
	size_t n;
	int r = list_blocks(rq, sc->family, &slots, &n);

	if (r != 0)
		return r;
	for (size_t p = 0; p < sc->pools.n; p++) {
		struct walk w = walk_start(rq, sc->pools.v[p]);
		struct prefix first, cidr;

		if (!walk_next(&w, &first))
			continue;
		/* Twice over the blocks in numerical order: those after the start, then the others. */
		for (size_t i = 0; i < 2 * n; i++) {
			struct slot *bs = slots[i % n];

			if (!ipam_key_parse_block(bs->key, &cidr) ||
				!prefix_covers(&sc->pools.v[p]->cidr, &cidr) ||
				(i < n) != (prefix_compare(&cidr, &first) >= 0))
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
	int r = plan_reclaim(rq);

	if (r == 0)
		r = plan_from_own(rq, sc, err);
	if (r == -ENOSPC)
		r = plan_new_block(rq, sc, err);
	if (r == -EDQUOT)
		return err->code = -ENOSPC;
	if (r == -ENOSPC && !sc->config.strict_affinity)
		r = plan_borrow(rq, sc, err);
	return r;
}

/* The address rq->ip, in the block of its pool; a block that does not exist is claimed. */
static int plan_specific(struct ipam_request *rq, struct scope *sc, struct err *err)
{
	auto_free struct slot **slots = NULL;
	const struct pool *p;
	struct prefix cidr;
	struct slot *bs;
	size_t n;
	int r = list_pools(rq, &slots, &n);

	if (r != 0)
		return r;
	p = pool_of_ip(slots, n, &rq->ip);
	if (!p || !pool_allows(p, rq->use))
		return err_set(err, -ENOENT, "address %s is in no enabled pool%s", ip_str(&rq->ip),
			p ? " that allows this use" : "");
	cidr = prefix_of(&rq->ip, p->block_plen);
	r = get_block(rq, &cidr, &bs);
	if (r == 0 && bs->state == SLOT_ABSENT)
		r = plan_claim(rq, &cidr, err);
	if (r != 0)
		return r;
	r = check_not_bad(bs, err);
	if (r < 0)
		return r;
	if (sc->config.strict_affinity && !block_affine_to(slot_block(bs), rq->host))
		return err_set(err, -EACCES,
			"address %s is of block %s, which belongs to %s, and strictAffinity is on",
			ip_str(&rq->ip), prefix_str(&cidr), slot_block(bs)->affinity ?: "no node");
	return plan_take(rq, sc, bs, &rq->ip, err);
}

static int plan_family(struct ipam_request *rq, enum ip_family family, struct err *err)
{
	struct scope sc = {.family = family};
	int r;

	r = get_config(rq, &sc.config, err);
	if (r == 0 && rq->ip.family == family)
		return plan_specific(rq, &sc, err);
	if (r == 0)
		r = scope_add_pools(rq, &sc, err);
	if (r == 0)
		r = scope_add_reservations(rq, &sc);
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
	int r = get_handle(rq, rq->handle, &s);

	if (r == 0)
		r = check_not_bad(s, err);
	if (r != 0)
		return r;
	h = slot_handle(s);
	for (size_t i = 0; h && i < h->blocks.n; i++) {
		const struct prefix *cidr = &h->blocks.v[i].cidr;
		uint32_t pos = 0;
		struct slot *bs;
		struct ip ip;

		r = get_block(rq, cidr, &bs);
		if (r != 0)
			return r;
		while (slot_block(bs) &&
			block_next_of_handle(slot_block(bs), rq->handle, &pos, &ip)) {
			if (ipam_request_addr(rq, ip.family) ||
				!(ip.family == IP_V4 ? rq->v4 : rq->v6))
				continue;
			if (rq->ip.family == ip.family && !ip_equal(&rq->ip, &ip))
				continue;
			vec_push(&rq->addrs, (struct ipam_addr){ip, *cidr});
		}
	}
	rq->reuse = false;
	return 0;
}

static int plan_free_addr(struct ipam_request *rq, const struct ipam_addr *a, struct err *err);

/* The assignment cannot be completed: what was taken goes back. */
static int plan_undo(struct ipam_request *rq)
{
	int r = plan_uncount_reserved(rq);

	if (r == PLAN_WAIT)
		return r;
	for (size_t i = rq->addrs.n; i-- > 0;) {
		bool fresh = rq->addrs.v[i].ip.family == IP_V4 ? rq->fresh_v4 : rq->fresh_v6;

		r = fresh ? plan_free_addr(rq, &rq->addrs.v[i], NULL) : 0;
		if (r == PLAN_WAIT)
			return r;
		rq->addrs.n--;
	}
	return 0;
}

static int plan_assign(struct ipam_request *rq, struct err *err)
{
	int r = 0;

	if (rq->reuse)
		r = plan_reuse(rq, err);
	if (r == 0 && rq->v4 && !ipam_request_addr(rq, IP_V4))
		r = plan_family(rq, IP_V4, err);
	if (r == 0 && rq->v6 && !ipam_request_addr(rq, IP_V6))
		r = plan_family(rq, IP_V6, err);
	return r;
}

/*
 * Releasing.
 */

/* Writes a block of which addresses have been freed; one that nobody has and nobody uses goes. */
static int put_freed(
	struct ipam_request *rq, struct slot *bs, struct ipam_block *b, const char *handle)
{
	free(rq->freeing_handle);
	rq->freeing_handle = handle ? mem_strdup(handle) : NULL;
	rq->after = AFTER_RELEASED;
	rq->after_cidr = b->cidr;
	if (!b->affinity && block_is_empty(b))
		return view_delete(&rq->view, bs);
	return update_block(rq, bs, b);
}

/* Frees one address of a block that is known; ENOENT: it is not in use. */
static int plan_free_addr(struct ipam_request *rq, const struct ipam_addr *addr, struct err *err)
{
	auto_(ipam_block) struct ipam_block *b = NULL;
	const struct ipam_block_attr *attr;
	struct ipam_config config;
	struct slot *bs;
	int r;

	r = get_config(rq, &config, err) ?: get_block(rq, &addr->block, &bs);
	if (r == 0)
		r = check_not_bad(bs, err);
	if (r != 0)
		return r;
	if (!slot_block(bs))
		return err_set(err, -ENOENT, "address %s is not in use", ip_str(&addr->ip));
	b = ipam_block_dup(slot_block(bs));
	attr = block_lookup(slot_block(bs), &addr->ip);
	r = block_release(b, &addr->ip, rq->handle, config.cooldown_s, rq->now_ns, err);
	if (r < 0)
		return r;
	rq->freeing.n = 0;
	vec_push(&rq->freeing, addr->ip);
	return put_freed(rq, bs, b, attr->handle);
}

static bool is_handled(const struct ipam_request *rq, const struct prefix *cidr)
{
	for (size_t i = 0; i < rq->handled.n; i++)
		if (prefix_equal(&rq->handled.v[i], cidr))
			return true;
	return false;
}

/* The affinity of an empty block goes when its pool does not select the node any more. */
static int plan_tidy(struct ipam_request *rq)
{
	auto_free struct slot **slots = NULL;
	const struct pool *p;
	bool selects = true;
	struct slot *bs;
	size_t n;
	int r;

	if (rq->tidy_cidr.addr.family == IP_NONE)
		return 0;
	r = get_block(rq, &rq->tidy_cidr, &bs);
	if (r == 0 && slot_block(bs) && block_host(slot_block(bs)) &&
		block_is_empty(slot_block(bs))) {
		const char *host = block_host(slot_block(bs));

		r = list_pools(rq, &slots, &n);
		if (r != 0)
			return r;
		p = pool_of_ip(slots, n, &rq->tidy_cidr.addr);
		if (p)
			r = pool_selects_node(rq, p, host, &selects);
		if (r == 0 && !selects) {
			auto_free char *copy = mem_strdup(host);

			r = plan_unclaim(rq, copy, &rq->tidy_cidr, true, NULL);
		}
	}
	if (r == PLAN_WAIT)
		return r;
	rq->tidy_cidr = (struct prefix){0};
	return 0;
}

static int plan_release_block(struct ipam_request *rq, const struct prefix *cidr, struct err *err)
{
	auto_(ipam_block) struct ipam_block *b = NULL;
	struct ipam_config config;
	uint32_t pos = 0;
	struct slot *bs;
	struct ip ip;
	int r;

	r = get_config(rq, &config, err) ?: get_block(rq, cidr, &bs);
	if (r == 0)
		r = check_not_bad(bs, err);
	if (r != 0 || !slot_block(bs))
		return r;
	b = ipam_block_dup(slot_block(bs));
	rq->freeing.n = 0;
	while (block_next_of_handle(b, rq->handle, &pos, &ip))
		vec_push(&rq->freeing, ip);
	if (rq->freeing.n == 0)
		return 0;
	block_release_handle(b, rq->handle, config.cooldown_s, rq->now_ns);
	return put_freed(rq, bs, b, rq->handle);
}

static int plan_release_handle(struct ipam_request *rq, struct err *err)
{
	struct ipam_handle *h;
	struct slot *s;
	int r;

	r = plan_tidy(rq) ?: get_handle(rq, rq->handle, &s);
	if (r == 0)
		r = check_not_bad(s, err);
	if (r != 0)
		return r;
	h = slot_handle(s);
	if (!h)
		return rq->found ? 0 : err_set(err, -ENOENT, "there is no handle %s", rq->handle);
	rq->found = true;
	for (size_t i = 0; i < h->blocks.n; i++) {
		struct prefix cidr = h->blocks.v[i].cidr;

		if (is_handled(rq, &cidr))
			continue;
		r = plan_release_block(rq, &cidr, err);
		if (r != 0)
			return r;
		vec_push(&rq->handled, cidr);
	}
	return 0;
}

/* The block of an address: of its pool's size, or (the pool is gone) whichever has it. */
static int find_block_of(struct ipam_request *rq, const struct ip *ip, struct prefix *ret)
{
	auto_free struct slot **slots = NULL;
	size_t n;
	int r = list_blocks(rq, ip->family, &slots, &n);

	if (r != 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (ipam_key_parse_block(slots[i]->key, ret) && prefix_contains(ret, ip))
			return 0;
	return -ENOENT;
}

static int plan_release_ip(struct ipam_request *rq, struct err *err)
{
	struct ipam_addr addr = {.ip = rq->ip};
	int r = plan_tidy(rq);

	if (r != 0 || rq->addrs.n > 0)
		return r;
	r = find_block_of(rq, &rq->ip, &addr.block);
	if (r == -ENOENT)
		return err_set(err, r, "address %s is in no block", ip_str(&rq->ip));
	return r ?: plan_free_addr(rq, &addr, err);
}

/*
 * Claiming CIDRs, and giving them back. Blocks that cannot be had do not stop the others; the first
 * failure is the answer.
 */
static int put_off(struct ipam_request *rq, int r, const struct prefix *cidr, const struct err *e)
{
	if (r < 0 && rq->deferred == 0) {
		rq->deferred = r;
		rq->deferred_err = *e;
	}
	vec_push(&rq->handled, *cidr);
	return 0;
}

static int answer_put_off(const struct ipam_request *rq, struct err *err)
{
	if (rq->deferred < 0 && err)
		*err = rq->deferred_err;
	return rq->deferred;
}

static int check_claim(const struct ipam_request *rq, const struct pool *p, struct err *err)
{
	const char *text = prefix_str(&rq->cidr);

	if (!p || !prefix_covers(&p->cidr, &rq->cidr))
		return err_set(err, -ENOENT, "%s lies in no enabled pool", text);
	if (!prefix_is_masked(&rq->cidr))
		return err_set(err, -EINVAL, "%s has host bits set", text);
	if (rq->cidr.plen > p->block_plen)
		return err_set(err, -EINVAL, "%s is smaller than a block of pool %s (/%d)", text,
			p->name, p->block_plen);
	if (p->block_plen - rq->cidr.plen > 12)
		return err_set(err, -EINVAL, "%s has more than 4096 blocks of pool %s (/%d)", text,
			p->name, p->block_plen);
	return 0;
}

static int plan_claim_cidr(struct ipam_request *rq, struct err *err)
{
	auto_free struct slot **slots = NULL;
	const struct pool *p;
	unsigned host_bits;
	size_t n;
	int r = list_pools(rq, &slots, &n);

	if (r != 0)
		return r;
	p = pool_of_ip(slots, n, &rq->cidr.addr);
	r = check_claim(rq, p, err);
	if (r < 0)
		return r;
	host_bits = ip_bits(&rq->cidr.addr) - p->block_plen;
	for (uint64_t i = 0; i < 1ull << (p->block_plen - rq->cidr.plen); i++) {
		struct ip base = rq->cidr.addr;
		struct err e = ERR_INIT;
		struct prefix block;

		ip_add(&rq->cidr.addr, i << host_bits, &base);
		block = prefix_of(&base, p->block_plen);
		if (is_handled(rq, &block))
			continue;
		r = plan_claim(rq, &block, &e);
		if (r == PLAN_WAIT)
			return r;
		if (r == 0)
			vec_push(&rq->addrs, (struct ipam_addr){base, block});
		put_off(rq, r, &block, &e);
	}
	return answer_put_off(rq, err);
}

static int plan_unclaim_family(struct ipam_request *rq, enum ip_family family)
{
	auto_free struct slot **slots = NULL;
	char prefix[IPAM_KEY_SIZE];
	size_t n;
	int r;

	r = view_list(
		&rq->view, ipam_key_affinities_of_host(rq->host, family, prefix), SLOT_AFFINITY);
	if (r != 0)
		return r;
	n = view_under(&rq->view, prefix, &slots);
	for (size_t i = 0; i < n; i++) {
		struct err e = ERR_INIT;
		struct prefix cidr;

		if (!ipam_key_parse_affinity(slots[i]->key, NULL, &cidr) || is_handled(rq, &cidr) ||
			(rq->cidr.addr.family != IP_NONE && !prefix_covers(&rq->cidr, &cidr)))
			continue;
		r = plan_unclaim(rq, rq->host, &cidr, rq->must_be_empty, &e);
		if (r == PLAN_WAIT) {
			rq->found = true;
			return r;
		}
		if (r == 0)
			vec_push(&rq->addrs, (struct ipam_addr){cidr.addr, cidr});
		put_off(rq, r, &cidr, &e);
	}
	return 0;
}

static int plan_unclaim_cidr(struct ipam_request *rq, struct err *err)
{
	enum ip_family family = (enum ip_family)rq->cidr.addr.family;
	int r = 0;

	if (family != IP_V6)
		r = plan_unclaim_family(rq, IP_V4);
	if (r == 0 && family != IP_V4)
		r = plan_unclaim_family(rq, IP_V6);
	if (r != 0)
		return r;
	if (!rq->found && rq->handled.n == 0)
		return err_set(err, -ENOENT, "node %s has no block%s%s", rq->host,
			family != IP_NONE ? " in " : "",
			family != IP_NONE ? prefix_str(&rq->cidr) : "");
	return answer_put_off(rq, err);
}

static int plan_lookup(struct ipam_request *rq, struct err *err)
{
	struct ipam_handle *h;
	struct slot *s, *bs;
	int r = get_handle(rq, rq->handle, &s);

	if (r == 0)
		r = check_not_bad(s, err);
	if (r != 0)
		return r;
	h = slot_handle(s);
	if (!h)
		return err_set(err, -ENOENT, "there is no handle %s", rq->handle);
	rq->addrs.n = 0;
	for (size_t i = 0; i < h->blocks.n; i++) {
		uint32_t pos = 0;
		struct ip ip;

		r = get_block(rq, &h->blocks.v[i].cidr, &bs);
		if (r != 0)
			return r;
		while (slot_block(bs) &&
			block_next_of_handle(slot_block(bs), rq->handle, &pos, &ip))
			vec_push(&rq->addrs, (struct ipam_addr){ip, h->blocks.v[i].cidr});
	}
	return 0;
}

/*
 * Steps.
 */
static int plan(struct ipam_request *rq, struct err *err)
{
	int r = plan_uncount(rq);

	if (r != 0)
		return r;
	switch (rq->kind) {
	case REQUEST_ASSIGN:
		return plan_assign(rq, err);
	case REQUEST_RELEASE_HANDLE:
		return plan_release_handle(rq, err);
	case REQUEST_RELEASE_IP:
		return plan_release_ip(rq, err);
	case REQUEST_CLAIM:
		return plan_claim_cidr(rq, err);
	case REQUEST_UNCLAIM:
		return plan_unclaim_cidr(rq, err);
	case REQUEST_LOOKUP:
		return plan_lookup(rq, err);
	}
	return -EINVAL;
}

int ipam_request_step(struct ipam_request *rq, struct store_req *ret_req, struct err *err)
{
	struct err e = ERR_INIT;
	int r = 0;

	rq->after = AFTER_NOTHING;
	if (rq->failed == 0)
		r = plan(rq, &e);
	if (r < 0) {
		rq->failed = r;
		rq->failure = e;
	}
	if (rq->failed < 0)
		r = rq->kind == REQUEST_ASSIGN ? plan_undo(rq) : 0;
	if (r == PLAN_WAIT) {
		const struct view *v = &rq->view;

		*ret_req = (struct store_req){.verb = v->verb,
			.key = v->key,
			.value = v->value,
			.rev = v->target && v->verb != STORE_GET ? v->target->rev : 0};
		return 1;
	}
	if (rq->failed < 0 && err)
		*err = rq->failure;
	return rq->failed;
}

/* The write that a plan asked for has been done: what it was for. */
static void achieved(struct ipam_request *rq)
{
	const struct ip *ip;

	switch (rq->after) {
	case AFTER_NOTHING:
		break;
	case AFTER_COUNTED:
		rq->counted = true;
		rq->counted_cidr = rq->after_cidr;
		break;
	case AFTER_UNCOUNTED:
		rq->uncount.n = 0;
		break;
	case AFTER_ASSIGNED:
		vec_push(&rq->addrs, (struct ipam_addr){rq->after_ip, rq->after_cidr});
		if (rq->after_ip.family == IP_V4)
			rq->fresh_v4 = true;
		else
			rq->fresh_v6 = true;
		rq->counted = false;
		break;
	case AFTER_RELEASED:
		if (rq->freeing_handle)
			uncount_set(
				rq, rq->freeing_handle, &rq->after_cidr, (uint32_t)rq->freeing.n);
		if (rq->kind == REQUEST_ASSIGN)
			break;
		vec_for_each (&rq->freeing, ip)
			vec_push(&rq->addrs, (struct ipam_addr){*ip, rq->after_cidr});
		vec_push(&rq->handled, rq->after_cidr);
		rq->tidy_cidr = rq->after_cidr;
		break;
	case AFTER_GUARDED:
		rq->after_slot->guarded = true;
		break;
	}
}

int ipam_request_feed(struct ipam_request *rq, const struct store_res *res, struct err *err)
{
	int r = view_feed(&rq->view, res, err);

	if (r < 0 || res->more)
		return r < 0 ? r : 0;
	if (r > 0) {
		achieved(rq);
		return 0;
	}
	rq->retries++;
	if (rq->retries > 2 * MAX_RETRIES)
		return err_set(
			err, -ESTALE, "others changed the same objects %u times", rq->retries);
	if (rq->retries > MAX_RETRIES && rq->failed == 0)
		rq->failed = err_set(&rq->failure, -ESTALE,
			"others changed the same objects %u times: try again", rq->retries);
	return 0;
}
