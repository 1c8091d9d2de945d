/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The handle: how many addresses it has in each block. Too many at worst, never too few. */
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

/* One more for the block. */
int plan_count(struct ipam_request *rq, const struct prefix *cidr, struct err *err)
{
	struct ipam_handle_block *hb;
	auto_(ipam_handle) struct ipam_handle *h = NULL;
	struct slot *s;
	int r = plan_get_handle(rq, rq->handle, &s);

	if (r == 0)
		r = slot_check(s, err);
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

void request_uncount(
	struct ipam_request *rq, const char *handle, const struct prefix *cidr, uint32_t n)
{
	free(rq->uncount.handle);
	rq->uncount.handle = mem_strdup(handle);
	rq->uncount.cidr = *cidr;
	rq->uncount.n = n;
}

/* What is due to be counted off: n for the block; the handle goes with its last block. */
int plan_uncount(struct ipam_request *rq)
{
	auto_(ipam_handle) struct ipam_handle *h = NULL;
	struct ipam_handle_block *hb;
	struct slot *s;
	int r;

	if (rq->uncount.n == 0)
		return 0;
	r = plan_get_handle(rq, rq->uncount.handle, &s);
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
int plan_uncount_reserved(struct ipam_request *rq)
{
	if (rq->counted) {
		request_uncount(rq, rq->handle, &rq->counted_cidr, 1);
		rq->counted = false;
	}
	return plan_uncount(rq);
}
