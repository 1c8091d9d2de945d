/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handle: how many addresses it has in each block. Too many at worst, never too few.
 *
 * An address is taken in the order: read the block, write the handle, write the block. So whoever
 * has read a handle, and then for each of its blocks has seen that there is no address of it, and
 * has written the block, may delete that revision of the handle: an assignment that is under way has
 * either to read the block again, and so to write the handle again, or has written the handle since.
 * By the same order one block alone may be counted anew, as an assignment does that finds more counted than
 * is there.
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

static struct ipam_handle_block *handle_block(struct ipam_handle *h, const struct prefix *cidr)
{
	for (size_t i = 0; i < h->blocks.n; i++)
		if (prefix_equal(&h->blocks.v[i].cidr, cidr))
			return &h->blocks.v[i];
	return NULL;
}

/* How many addresses of the block are the handle's. */
static uint32_t count_in(const struct ipam_block *b, const char *handle)
{
	uint32_t n = 0, pos = 0;
	struct ip ip;

	while (b && block_next_of_handle(b, handle, &pos, &ip))
		n++;
	return n;
}

/* More than a block has that has been read. */
static bool counts_too_many(const struct ipam_request *rq, const struct ipam_handle *h)
{
	for (size_t i = 0; h && i < h->blocks.n; i++) {
		char key[IPAM_KEY_SIZE];
		struct slot *bs = view_find(&rq->view, ipam_key_block(&h->blocks.v[i].cidr, key));

		if (bs && slot_block(bs) &&
			count_in(slot_block(bs), rq->handle) < h->blocks.v[i].count)
			return true;
	}
	return false;
}

/* Whoever counted before may have died then: what he has counted is not to stay beside what is counted now. */
static int count_off_others(struct ipam_request *rq, struct slot *s)
{
	rq->miscounted |= counts_too_many(rq, slot_handle(s));
	if (rq->miscounted)
		rq->miscounted = plan_recount_handle(rq, NULL) == PLAN_WAIT;
	return rq->miscounted ? PLAN_WAIT : 0;
}

/* One more for the block, or (recount) the same once more. */
int plan_count(struct ipam_request *rq, const struct prefix *cidr, struct err *err)
{
	struct ipam_handle_block *hb;
	auto_(ipam_handle) struct ipam_handle *h = NULL;
	struct slot *s;
	int r = plan_read_handle(rq, rq->handle, &s, err);

	if (r == 0 && !rq->counted)
		r = count_off_others(rq, s);
	if (r != 0)
		return r;
	h = slot_handle(s) ? ipam_handle_dup(slot_handle(s)) : ipam_handle_new();
	hb = handle_block(h, cidr);
	/* As this request has written it, the one is in it; from another's hand it may be gone. */
	if (hb && !(rq->counted && s->written))
		hb->count++;
	else if (!hb)
		vec_push(&h->blocks, (struct ipam_handle_block){*cidr, 1});
	rq->after = AFTER_COUNTED;
	rq->after_cidr = *cidr;
	if (s->state == SLOT_ABSENT)
		return view_create(&rq->view, s, ipam_handle_encode(h));
	return view_update(&rq->view, s, ipam_handle_encode(h));
}

void request_uncount(
	struct ipam_request *rq, const char *handle, const struct prefix *cidr, uint32_t n)
{
	char key[IPAM_KEY_SIZE];
	struct slot *s = view_find(&rq->view, ipam_key_handle(handle, key));

	free(rq->uncount.handle);
	rq->uncount.handle = mem_strdup(handle);
	rq->uncount.cidr = *cidr;
	rq->uncount.rev = s ? s->rev : 0;
	rq->uncount.n = n;
}

/* n for a block that it counts; the handle goes with its last block. */
static int put_count(struct ipam_request *rq, struct slot *s, const struct prefix *cidr, uint32_t n)
{
	auto_(ipam_handle) struct ipam_handle *h = ipam_handle_dup(slot_handle(s));
	struct ipam_handle_block *hb = handle_block(h, cidr);

	assert(hb);
	hb->count = n;
	if (n == 0)
		vec_swap_remove(&h->blocks, (size_t)(hb - h->blocks.v));
	if (h->blocks.n == 0)
		return view_delete(&rq->view, s);
	return view_update(&rq->view, s, ipam_handle_encode(h));
}

/* What is due to be counted off. */
int plan_uncount(struct ipam_request *rq)
{
	struct ipam_handle_block *hb;
	uint32_t n = rq->uncount.n;
	struct slot *s;
	int r;

	if (n == 0)
		return 0;
	r = plan_get_handle(rq, rq->uncount.handle, &s);
	if (r != 0)
		return r;
	hb = slot_handle(s) ? handle_block(slot_handle(s), &rq->uncount.cidr) : NULL;
	/* In another revision it may have been taken off, and what is counted be somebody else's. */
	if (!hb || s->rev != rq->uncount.rev) {
		rq->uncount.n = 0;
		return 0;
	}
	rq->after = AFTER_UNCOUNTED;
	return put_count(rq, s, &rq->uncount.cidr, hb->count < n ? 0 : hb->count - n);
}

/* The count that was made for a block and not used there. */
int plan_uncount_reserved(struct ipam_request *rq)
{
	char key[IPAM_KEY_SIZE];
	struct slot *s = view_find(&rq->view, ipam_key_handle(rq->handle, key));

	if (rq->counted && s && s->written)
		request_uncount(rq, rq->handle, &rq->counted_cidr, 1);
	rq->counted = false;
	return plan_uncount(rq);
}

static bool is_swept(const struct ipam_request *rq, const struct prefix *cidr)
{
	for (size_t i = 0; i < rq->swept.n; i++)
		if (prefix_equal(&rq->swept.v[i], cidr))
			return true;
	return false;
}

static int guard_block(struct ipam_request *rq, struct slot *bs)
{
	auto_(ipam_block) struct ipam_block *b = ipam_block_dup(slot_block(bs));

	rq->after = AFTER_SWEPT;
	rq->after_cidr = b->cidr;
	return plan_update_block(rq, bs, b);
}

static int sweep_block(struct ipam_request *rq, const struct prefix *cidr, struct err *err)
{
	uint32_t pos = 0;
	struct slot *bs;
	struct ip ip;
	int r;

	r = plan_read_block(rq, cidr, &bs, err);
	if (r != 0)
		return r;
	if (!slot_block(bs))
		return 0;
	if (block_next_of_handle(slot_block(bs), rq->handle, &pos, &ip))
		return rq->must_be_empty ? err_set(err, -EBUSY, "handle %s has the address %s",
						   rq->handle, ip_str(&ip))
					 : plan_release_block(rq, cidr, err);
	return guard_block(rq, bs);
}

int plan_recount(struct ipam_request *rq)
{
	const struct prefix *cidr = &rq->doubtful.block;
	const struct ipam_handle_block *hb;
	char key[IPAM_KEY_SIZE];
	struct slot *s, *bs;
	uint32_t n;
	int r = plan_get_handle(rq, rq->freeing_handle, &s);

	hb = r == 0 && slot_handle(s) ? handle_block(slot_handle(s), cidr) : NULL;
	if (!hb)
		return r;
	if (rq->swept_rev != s->rev) {
		rq->swept_rev = s->rev;
		rq->swept.n = 0;
		view_forget(&rq->view, ipam_key_block(cidr, key));
	}
	r = plan_read_block(rq, cidr, &bs, NULL);
	if (r != 0)
		return r;
	n = count_in(slot_block(bs), rq->freeing_handle);
	if (hb->count <= n)
		return 0;
	if (slot_block(bs) && !is_swept(rq, cidr))
		return guard_block(rq, bs);
	return put_count(rq, s, cidr, n);
}

/* The blocks that may have addresses of the handle: given, and those that it names besides. */
static void add_named_blocks(struct ipam_request *rq, const struct ipam_handle *h)
{
	for (size_t i = 0; h && i < h->blocks.n; i++)
		if (!request_is_handled(rq, &h->blocks.v[i].cidr))
			vec_push(&rq->handled, h->blocks.v[i].cidr);
}

/* PLAN_WAIT: or the block is to be written first, since fewer are to be counted. */
static int recount_block(
	struct ipam_request *rq, struct ipam_handle *h, const struct prefix *cidr, struct err *err)
{
	struct ipam_handle_block *hb = handle_block(h, cidr);
	struct slot *bs;
	uint32_t n;
	int r = plan_read_block(rq, cidr, &bs, err);

	if (r != 0)
		return r;
	n = count_in(slot_block(bs), rq->handle);
	if (hb && n < hb->count && slot_block(bs) && !is_swept(rq, cidr))
		return guard_block(rq, bs);
	if (!hb && n > 0)
		vec_push(&h->blocks, (struct ipam_handle_block){*cidr, n});
	else if (hb && n > 0)
		hb->count = n;
	else if (hb)
		vec_swap_remove(&h->blocks, (size_t)(hb - h->blocks.v));
	return 0;
}

static bool counts_differ(const struct ipam_handle *a, struct ipam_handle *b)
{
	for (size_t i = 0; i < a->blocks.n; i++) {
		const struct ipam_handle_block *hb = handle_block(b, &a->blocks.v[i].cidr);

		if (!hb || hb->count != a->blocks.v[i].count)
			return true;
	}
	return a->blocks.n != b->blocks.n;
}

int plan_recount_handle(struct ipam_request *rq, struct err *err)
{
	auto_(ipam_handle) struct ipam_handle *h = NULL;
	char key[IPAM_KEY_SIZE];
	struct slot *s;
	int r = plan_read_handle(rq, rq->handle, &s, err);

	if (r != 0)
		return r;
	add_named_blocks(rq, slot_handle(s));
	if (rq->swept_rev != s->rev) {
		rq->swept_rev = s->rev;
		rq->swept.n = 0;
		for (size_t i = 0; i < rq->handled.n; i++)
			view_forget(&rq->view, ipam_key_block(&rq->handled.v[i], key));
	}
	h = slot_handle(s) ? ipam_handle_dup(slot_handle(s)) : ipam_handle_new();
	for (size_t i = 0; i < rq->handled.n; i++) {
		r = recount_block(rq, h, &rq->handled.v[i], err);
		if (r != 0)
			return r;
	}
	if (s->state == SLOT_ABSENT)
		return h->blocks.n > 0 ? view_create(&rq->view, s, ipam_handle_encode(h)) : 0;
	if (h->blocks.n == 0)
		return view_delete(&rq->view, s);
	return counts_differ(slot_handle(s), h) ? view_update(&rq->view, s, ipam_handle_encode(h))
						: 0;
}

int plan_sweep(struct ipam_request *rq, struct slot *s, struct err *err)
{
	const struct ipam_handle *h = slot_handle(s);
	char key[IPAM_KEY_SIZE];
	int r;

	if (rq->swept_rev != s->rev) {
		rq->swept_rev = s->rev;
		rq->swept.n = 0;
		for (size_t i = 0; i < h->blocks.n; i++)
			view_forget(&rq->view, ipam_key_block(&h->blocks.v[i].cidr, key));
	}
	for (size_t i = 0; i < h->blocks.n; i++) {
		struct prefix cidr = h->blocks.v[i].cidr;

		r = is_swept(rq, &cidr) ? 0 : sweep_block(rq, &cidr, err);
		if (r != 0)
			return r;
	}
	return view_delete(&rq->view, s);
}
