/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses go back, by handle or one by one: the block first, then the handle's count. */
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

/* Writes a block of which addresses have been freed; one that nobody has and nobody uses goes. */
static int put_freed(
	struct ipam_request *rq, struct slot *bs, struct ipam_block *b, const char *handle)
{
	free(rq->freeing_handle);
	rq->freeing_handle = handle ? mem_strdup(handle) : NULL;
	rq->after = AFTER_RELEASED;
	rq->after_cidr = b->cidr;
	rq->emptied = block_is_empty(b);
	if (!b->affinity && rq->emptied)
		return view_delete(&rq->view, bs);
	return plan_update_block(rq, bs, b);
}

/* Frees one address of a block that is known; ENOENT: it is not in use. */
int plan_free_addr(struct ipam_request *rq, const struct ipam_addr *addr, struct err *err)
{
	auto_(ipam_block) struct ipam_block *b = NULL;
	const struct ipam_block_attr *attr;
	struct ipam_config config;
	struct slot *bs, *hs;
	int r;

	r = plan_get_config(rq, &config, err) ?: plan_read_block(rq, &addr->block, &bs, err);
	if (r != 0)
		return r;
	if (!slot_block(bs))
		return err_set(err, -ENOENT, "address %s is not in use", ip_str(&addr->ip));
	attr = block_lookup(slot_block(bs), &addr->ip);
	/* Before the block is written: what is counted off from is to have it. */
	if (attr && attr->handle) {
		r = plan_get_handle(rq, attr->handle, &hs);
		if (r != 0)
			return r;
	}
	b = ipam_block_dup(slot_block(bs));
	if (attr && rq->with_seq && block_seq(b, &addr->ip) != rq->seq)
		return err_set(err, -ESTALE,
			"address %s was given anew: allocation %llu of its block, not %llu",
			ip_str(&addr->ip), (unsigned long long)block_seq(b, &addr->ip),
			(unsigned long long)rq->seq);
	r = block_release(b, &addr->ip, rq->handle, config.cooldown_s, rq->now_ns, err);
	if (r < 0)
		return r;
	rq->freeing.n = 0;
	vec_push(&rq->freeing, addr->ip);
	return put_freed(rq, bs, b, attr->handle);
}

bool request_is_handled(const struct ipam_request *rq, const struct prefix *cidr)
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
	const struct ippool *p;
	struct ipam_block *b;
	bool selects = true;
	struct slot *bs;
	size_t n;
	int r = plan_give_back(rq);

	if (r != 0 || rq->tidy_cidr.addr.family == IP_NONE)
		return r;
	r = plan_get_block(rq, &rq->tidy_cidr, &bs);
	if (r != 0)
		return r;
	b = slot_block(bs);
	if (b && block_host(b) && block_is_empty(b)) {
		r = plan_list_pools(rq, &slots, &n);
		if (r != 0)
			return r;
		p = slots_pool_of(slots, n, &b->cidr.addr);
		if (p)
			r = plan_pool_selects_node(rq, p, block_host(b), &selects);
		if (r != 0)
			return r;
		if (!selects)
			request_give_back(rq, b);
	}
	rq->tidy_cidr = (struct prefix){0};
	return plan_give_back(rq);
}

int plan_release_block(struct ipam_request *rq, const struct prefix *cidr, struct err *err)
{
	auto_(ipam_block) struct ipam_block *b = NULL;
	struct ipam_config config;
	uint32_t pos = 0;
	struct slot *bs;
	struct ip ip;
	int r;

	r = plan_get_config(rq, &config, err) ?: plan_read_block(rq, cidr, &bs, err);
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

int plan_release_handle(struct ipam_request *rq, struct err *err)
{
	struct ipam_handle *h;
	struct slot *s;
	int r;

	r = plan_tidy(rq) ?: plan_read_handle(rq, rq->handle, &s, err);
	if (r != 0)
		return r;
	h = slot_handle(s);
	if (!h)
		return rq->found ? 0 : err_set(err, -ENOENT, "there is no handle %s", rq->handle);
	rq->found = true;
	for (size_t i = 0; i < h->blocks.n && !rq->must_be_empty; i++) {
		struct prefix cidr = h->blocks.v[i].cidr;

		if (request_is_handled(rq, &cidr))
			continue;
		r = plan_release_block(rq, &cidr, err);
		if (r != 0)
			return r;
		vec_push(&rq->handled, cidr);
	}
	/* It counts what it does not have: an assignment, or a release, has died half-way. */
	return plan_sweep(rq, s, err);
}

/* Whether there is a block of this size that has the address in use. */
static int look_in(
	struct ipam_request *rq, unsigned plen, struct prefix *ret, bool *found, struct err *err)
{
	struct slot *bs;
	int r;

	*ret = prefix_of(&rq->ip, plen);
	r = plan_read_block(rq, ret, &bs, err);
	*found = r == 0 && slot_block(bs) && block_lookup(slot_block(bs), &rq->ip);
	return r;
}

/*
 * The block that has the address in use: of its pool's size, or (blocks outlive their pool, which may
 * come back with blocks of another size) of any size there is. These are few keys, and far fewer than
 * there may be blocks.
 */
static int find_block(struct ipam_request *rq, struct prefix *ret, bool *found, struct err *err)
{
	auto_free struct slot **slots = NULL;
	unsigned bits = ip_bits(&rq->ip);
	size_t n;
	int r = plan_list_pools(rq, &slots, &n);

	*found = false;
	for (size_t i = 0; r == 0 && i < n && !*found; i++) {
		const struct ippool *p = slot_pool(slots[i]);

		if (p && prefix_contains(&p->cidr, &rq->ip))
			r = look_in(rq, p->block_plen, ret, found, err);
	}
	for (unsigned host_bits = 0; 1u << host_bits <= IPAM_BLOCK_MAX && r == 0 && !*found;
		host_bits++)
		r = look_in(rq, bits - host_bits, ret, found, err);
	return r;
}

int plan_release_ip(struct ipam_request *rq, struct err *err)
{
	struct ipam_addr addr = {.ip = rq->ip};
	bool found;
	int r = plan_tidy(rq);

	if (r != 0 || rq->addrs.n > 0)
		return r;
	r = find_block(rq, &addr.block, &found, err);
	if (r == 0 && !found)
		return err_set(err, -ENOENT, "address %s is not in use", ip_str(&rq->ip));
	return r ?: plan_free_addr(rq, &addr, err);
}

int plan_lookup(struct ipam_request *rq, struct err *err)
{
	struct ipam_handle *h;
	struct slot *s, *bs;
	int r = plan_read_handle(rq, rq->handle, &s, err);

	if (r != 0)
		return r;
	h = slot_handle(s);
	if (!h)
		return err_set(err, -ENOENT, "there is no handle %s", rq->handle);
	rq->addrs.n = 0;
	for (size_t i = 0; i < h->blocks.n; i++) {
		uint32_t pos = 0;
		struct ip ip;

		r = plan_get_block(rq, &h->blocks.v[i].cidr, &bs);
		if (r != 0)
			return r;
		while (slot_block(bs) &&
			block_next_of_handle(slot_block(bs), rq->handle, &pos, &ip))
			vec_push(&rq->addrs,
				(struct ipam_addr){.ip = ip, .block = h->blocks.v[i].cidr});
	}
	return 0;
}
