/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Blocks become a host's, and stop being one's: affinity and block in Calico's order. */
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

static int set_affinity(struct ipam_request *rq, struct slot *s, enum ipam_affinity_state state)
{
	struct ipam_affinity a = {.state = state};

	return view_update(&rq->view, s, ipam_affinity_encode(&a, s->text));
}

/* Written by this request as about to go, and as far as is known by nobody since. */
static bool is_marked(struct slot *as)
{
	const struct ipam_affinity *a = slot_affinity(as);

	return a && as->written && a->state == IPAM_PENDING_DELETION;
}

/* Marks what may be marked already, by somebody who has died: only one's own mark is one's to act on. */
static int plan_mark(struct ipam_request *rq, struct slot *as, struct slot *bs)
{
	struct ipam_affinity a = {.state = IPAM_PENDING_DELETION};

	rq->after = AFTER_GUARDED;
	rq->after_slot = bs;
	if (as->state == SLOT_ABSENT)
		return view_create(&rq->view, as, ipam_affinity_encode(&a, NULL));
	return set_affinity(rq, as, a.state);
}

/*
 * The affinity exists, and the block is not the host's. It may have become so since it was read, so
 * it is read once more under the mark: its owner has to write the affinity before he creates it.
 */
static int plan_drop_stale(struct ipam_request *rq, struct slot *as, struct slot *bs)
{
	if (is_marked(as))
		return view_delete(&rq->view, as);
	view_forget(&rq->view, bs->key);
	return plan_mark(rq, as, bs);
}

int plan_update_block(struct ipam_request *rq, struct slot *s, struct ipam_block *b)
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
static int plan_claim_absent(struct ipam_request *rq, const struct prefix *cidr, struct slot *as,
	struct slot *bs, struct err *err)
{
	auto_(ipam_block) struct ipam_block *b = NULL;
	int r = plan_overlap(rq, bs, err);

	if (r == -EEXIST)
		return plan_drop_stale(rq, as, bs);
	if (r != 0)
		return r;
	/*
	 * Pending, even if it is already: whoever has marked it before can delete it no more. Whoever
	 * marks it between this and the creation can: the block has no affinity then until the
	 * confirmation has failed, and no address before one has succeeded.
	 */
	if (!bs->guarded) {
		rq->after = AFTER_GUARDED;
		rq->after_slot = bs;
		return set_affinity(rq, as, IPAM_PENDING);
	}
	b = block_create(cidr, rq->host, rq->now_ns);
	return view_create(&rq->view, bs, ipam_block_encode(b));
}

/* The block is the host's: before it is confirmed it may turn out to be one too many, and goes then. */
static int plan_confirm(struct ipam_request *rq, struct slot *as, struct slot *bs, struct err *err)
{
	int r = rq->confirm_later ? 0 : plan_overlap(rq, bs, err);

	if (r == -EEXIST && block_is_empty(slot_block(bs))) {
		request_give_back(rq, slot_block(bs));
		return plan_give_back(rq) ?: r;
	}
	if (r != 0 || rq->confirm_later)
		return r;
	return set_affinity(rq, as, IPAM_CONFIRMED);
}

/*
 * The block is the host's, and the affinity confirmed. EEXIST: it is another's, or overlaps another; an
 * affinity of ours was stale then and is gone.
 */
int plan_claim(struct ipam_request *rq, const struct prefix *cidr, struct err *err)
{
	struct ipam_affinity pending = {.state = IPAM_PENDING};
	char key[IPAM_KEY_SIZE];
	struct ipam_affinity *a;
	struct slot *as, *bs;
	struct ipam_block *b;
	int r;

	r = plan_get_affinity(rq, rq->host, cidr, &as);
	if (r != 0)
		return r;
	if (as->state == SLOT_ABSENT && is_foreign(rq, cidr, err))
		return -EEXIST;
	if (as->state == SLOT_ABSENT) {
		r = plan_overlap(rq, &(struct slot){.cidr = *cidr, .state = SLOT_ABSENT}, err);
		if (r != 0)
			return r;
		/* The block may have gone with the affinity. */
		if (view_find(&rq->view, ipam_key_block(cidr, key)))
			view_forget(&rq->view, key);
		return view_create(&rq->view, as, ipam_affinity_encode(&pending, NULL));
	}
	r = plan_get_block(rq, cidr, &bs);
	if (r != 0)
		return r;
	r = slot_check(as, err) ?: slot_check(bs, err);
	if (r < 0)
		return r;
	a = slot_affinity(as);
	b = slot_block(bs);
	if (!b)
		return plan_claim_absent(rq, cidr, as, bs, err);
	if (is_foreign(rq, cidr, NULL))
		return plan_drop_stale(rq, as, bs);
	switch (a->state) {
	case IPAM_CONFIRMED:
		return 0;
	case IPAM_PENDING:
		return plan_confirm(rq, as, bs, err);
	case IPAM_PENDING_DELETION:
		break;
	}
	/*
	 * Somebody may be about to delete the block: an update of it makes that fail, if it is made
	 * after the mark has been seen.
	 */
	if (!as->guarded) {
		auto_(ipam_block) struct ipam_block *copy = ipam_block_dup(b);

		rq->after = AFTER_GUARDED;
		rq->after_slot = as;
		return plan_update_block(rq, bs, copy);
	}
	return set_affinity(rq, as, IPAM_PENDING);
}

/*
 * Of a block that is the host's, in this order: it is read, the affinity is marked, it is written as
 * it was read, and the affinity is deleted as it was marked. Whoever confirms the affinity in between
 * has written one of them. seq: it has to be this one still, and an affinity without it is not ours
 * to delete; or NULL.
 */
static int plan_take_away(struct ipam_request *rq, const char *host, const struct prefix *cidr,
	bool must_be_empty, const uint64_t *seq, struct err *err)
{
	struct slot *as, *bs;
	struct ipam_block *b;
	int r;

	r = plan_get_affinity(rq, host, cidr, &as) ?: plan_read_block(rq, cidr, &bs, err);
	if (r != 0)
		return r;
	b = slot_block(bs);
	if (b && !block_affine_to(b, host))
		b = NULL; /* a stale affinity, which goes */
	if (b && ((must_be_empty && !block_is_empty(b)) || (seq && b->seq != *seq))) {
		/* Its owner, who has not seen the mark, keeps what he has: nobody else takes it off. */
		if (is_marked(as))
			return set_affinity(rq, as, IPAM_CONFIRMED);
		return err_set(err, -EBUSY, "block %s has addresses in use", prefix_str(cidr));
	}
	if (!b && seq && !is_marked(as) && as->state == SLOT_PRESENT)
		return err_set(err, -EBUSY, "block %s is claimed again", prefix_str(cidr));
	if (!b)
		return as->state == SLOT_ABSENT ? 0 : plan_drop_stale(rq, as, bs);
	if (!is_marked(as) || !bs->guarded)
		return plan_mark(rq, as, bs);
	if (block_is_empty(b))
		return view_delete(&rq->view, bs);
	auto_(ipam_block) struct ipam_block *copy = ipam_block_dup(b);

	block_orphan(copy);
	return plan_update_block(rq, bs, copy);
}

int plan_unclaim(struct ipam_request *rq, const char *host, const struct prefix *cidr,
	bool must_be_empty, struct err *err)
{
	return plan_take_away(rq, host, cidr, must_be_empty, NULL, err);
}

void request_give_back(struct ipam_request *rq, const struct ipam_block *b)
{
	free(rq->releasing.host);
	rq->releasing.host = mem_strdup(block_host(b));
	rq->releasing.cidr = b->cidr;
	rq->releasing.seq = b->seq;
	rq->releasing.active = true;
}

int plan_give_back(struct ipam_request *rq)
{
	int r;

	if (!rq->releasing.active)
		return 0;
	r = plan_take_away(
		rq, rq->releasing.host, &rq->releasing.cidr, true, &rq->releasing.seq, NULL);
	if (r == PLAN_WAIT)
		return r;
	rq->releasing.active = false;
	return 0;
}

/*
 * Claiming CIDRs, and giving them back. Blocks that cannot be had do not stop the others; the first
 * failure is the answer.
 */
static void put_off(struct ipam_request *rq, int r, const struct prefix *cidr, const struct err *e)
{
	if (r == 0)
		vec_push(&rq->addrs, (struct ipam_addr){.ip = cidr->addr, .block = *cidr});
	if (r < 0 && rq->deferred == 0) {
		rq->deferred = r;
		rq->deferred_err = *e;
	}
	rq->cursor++;
}

static int answer_put_off(const struct ipam_request *rq, struct err *err)
{
	if (rq->deferred < 0 && err)
		*err = rq->deferred_err;
	return rq->deferred;
}

static int check_claim(const struct ipam_request *rq, const struct ippool *p, struct err *err)
{
	const char *text = prefix_str(&rq->cidr);

	if (!p || !prefix_covers(&p->cidr, &rq->cidr))
		return err_set(err, -ENOENT, "%s lies in no enabled pool", text);
	if (!prefix_is_masked(&rq->cidr))
		return err_set(err, -EINVAL, "%s has host bits set", text);
	if (rq->cidr.plen > p->block_plen)
		return err_set(err, -EINVAL, "%s is smaller than a block of pool %s (/%d)", text,
			p->meta.name, p->block_plen);
	if (p->block_plen - rq->cidr.plen > 12)
		return err_set(err, -EINVAL, "%s has more than 4096 blocks of pool %s (/%d)", text,
			p->meta.name, p->block_plen);
	return 0;
}

/*
 * The blocks are gone through twice, however often it is planned: when all of them are made, one list says of
 * each that it may be confirmed.
 */
int plan_claim_cidr(struct ipam_request *rq, struct err *err)
{
	unsigned host_bits;
	uint64_t n_blocks;
	int r = plan_give_back(rq);

	if (r != 0)
		return r;
	if (rq->block_plen == 0) {
		auto_free struct slot **slots = NULL;
		const struct ippool *p;
		size_t n;

		r = plan_list_pools(rq, &slots, &n);
		if (r != 0)
			return r;
		p = slots_pool_of(slots, n, &rq->cidr.addr);
		r = check_claim(rq, p, err);
		if (r < 0)
			return r;
		rq->block_plen = p->block_plen;
	}
	host_bits = ip_bits(&rq->cidr.addr) - rq->block_plen;
	n_blocks = 1ull << (rq->block_plen - rq->cidr.plen);
	while (rq->cursor < 2 * n_blocks) {
		struct ip base = rq->cidr.addr;
		struct err e = ERR_INIT;
		struct prefix block;

		rq->confirm_later = rq->cursor < n_blocks;
		ip_add(&rq->cidr.addr, rq->cursor % n_blocks << host_bits, &base);
		block = prefix_of(&base, rq->block_plen);
		r = plan_claim(rq, &block, &e);
		if (r == PLAN_WAIT)
			return r;
		if (rq->confirm_later)
			rq->cursor++;
		else
			put_off(rq, r, &block, &e);
	}
	return answer_put_off(rq, err);
}

static int list_unclaimed(struct ipam_request *rq, enum ip_family family)
{
	auto_free struct slot **slots = NULL;
	char prefix[IPAM_KEY_SIZE];
	size_t n;
	int r;

	if (rq->cidr.addr.family != IP_NONE && rq->cidr.addr.family != family)
		return 0;
	ipam_key_affinities_of_host(rq->host, family, prefix);
	r = view_list(&rq->view, prefix, SLOT_AFFINITY)
		    ?: view_list_unindexed(&rq->view, prefix, SLOT_AFFINITY);
	if (r != 0)
		return r;
	n = view_under(&rq->view, prefix, &slots);
	for (size_t i = 0; i < n; i++) {
		struct prefix cidr;

		if (ipam_key_parse_affinity(slots[i]->key, NULL, &cidr) &&
			(rq->cidr.addr.family == IP_NONE || prefix_covers(&rq->cidr, &cidr)))
			vec_push(&rq->handled, cidr);
	}
	return 0;
}

int plan_unclaim_cidr(struct ipam_request *rq, struct err *err)
{
	int r;

	if (!rq->found) {
		rq->handled.n = 0;
		r = list_unclaimed(rq, IP_V4) ?: list_unclaimed(rq, IP_V6);
		if (r != 0)
			return r;
		rq->found = true;
	}
	while (rq->cursor < rq->handled.n) {
		struct prefix cidr = rq->handled.v[rq->cursor];
		struct err e = ERR_INIT;

		r = plan_unclaim(rq, rq->host, &cidr, rq->must_be_empty, &e);
		if (r == PLAN_WAIT)
			return r;
		put_off(rq, r, &cidr, &e);
	}
	if (rq->handled.n == 0)
		return err_set(err, -ENOENT, "node %s has no block%s%s", rq->host,
			rq->cidr.addr.family != IP_NONE ? " in " : "",
			rq->cidr.addr.family != IP_NONE ? prefix_str(&rq->cidr) : "");
	return answer_put_off(rq, err);
}
