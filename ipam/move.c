/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An address changes hands: from one handle to another, and never free in between. As when one is
 * assigned, the handle that gets it is counted up before the block is written, and the one that had it
 * is counted down after: whoever dies in between leaves a handle that counts too many.
 */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/vec.h"
#include "ipam/block.h"
#include "ipam/plan.h"
#include "ipam/request.h"
#include "model/ipam.h"

int plan_move(struct ipam_request *rq, struct err *err)
{
	auto_(ipam_block) struct ipam_block *b = NULL;
	const struct ipam_block_attr *attr;
	struct slot *bs, *hs;
	int r;

	if (rq->addrs.n > 0)
		return 0;
	r = plan_read_block(rq, &rq->cidr, &bs, err);
	if (r != 0)
		return r;
	attr = slot_block(bs) ? block_lookup(slot_block(bs), &rq->ip) : NULL;
	if (!attr || attr->released_s != 0)
		return err_set(err, -ENOENT, "address %s is not in use", ip_str(&rq->ip));
	if (attr->handle && block_handle_equal(attr->handle, rq->handle)) {
		/* It was done before, and what this request has counted is one too many. */
		r = plan_uncount_reserved(rq);
		if (r == 0)
			vec_push(&rq->addrs, (struct ipam_addr){.ip = rq->ip, .block = rq->cidr});
		return r;
	}
	if (!attr->handle || !block_handle_equal(attr->handle, rq->from))
		return err_set(err, -ESTALE, "address %s is in use by %s, not by %s",
			ip_str(&rq->ip), attr->handle ?: "nobody", rq->from);
	/* Before the block is written: what is counted off from is to have it. */
	r = plan_get_handle(rq, rq->from, &hs);
	if (r != 0)
		return r;
	if (!rq->counted || rq->recount)
		return plan_count(rq, &rq->cidr, err);
	b = ipam_block_dup(slot_block(bs));
	block_move(b, &rq->ip, rq->handle, rq->attrs.v, rq->attrs.n);
	rq->after = AFTER_MOVED;
	rq->after_cidr = rq->cidr;
	rq->after_ip = rq->ip;
	return plan_update_block(rq, bs, b);
}
