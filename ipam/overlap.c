/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks that overlap. A pool has blocks of one size, but blocks outlive it, and it may be made anew with another
 * blockSize, by whoever does not ask margayctl; an address that lies in two blocks would be given twice. So no block
 * is made over another one, and since two nodes may make theirs at once, each by what it knows of the pool, it gives
 * nothing before the blocks were listed once more after it was made, and none overlaps it: of two that overlap, the
 * one that was made later is seen by neither or has its maker see the other, who takes his own away, empty as it is.
 * That it was found to be alone, its affinity says, which is confirmed only then; whoever takes addresses of blocks
 * that are not his own goes by a list that has the block.
 *
 * Where it is a transaction (store/txn.h), the first list holds until all of it is written. Elsewhere two things are
 * left: a block that is taken away, empty, and made anew between two reads of one request is taken for the one that it
 * was; and Calico's nodes look at nothing. For what is there all the same, see `margayctl ipam check`.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "ipam/plan.h"
#include "ipam/request.h"
#include "model/ipam.h"

/* As with a pool that has always had its size: then there is nothing to look through. */
static bool are_of_one_size(const struct view *v, const struct prefix *cidr)
{
	const bool *sizes = v->sizes[cidr->addr.family == IP_V6];

	for (unsigned plen = 0; plen < array_size(v->sizes[0]); plen++)
		if (sizes[plen] && plen != cidr->plen)
			return false;
	return true;
}

static const struct slot *find_overlapping(const struct view *v, const struct prefix *cidr)
{
	struct slot *s;

	if (are_of_one_size(v, cidr))
		return NULL;
	hmap_for_each (s, &v->slots, node)
		if (s->kind == SLOT_BLOCK && s->state != SLOT_ABSENT &&
			prefix_overlap(&s->cidr, cidr) && !prefix_equal(&s->cidr, cidr))
			return s;
	return NULL;
}

int plan_overlap(struct ipam_request *rq, const struct slot *bs, struct err *err)
{
	enum ip_family family = (enum ip_family)bs->cidr.addr.family;
	char prefix[IPAM_KEY_SIZE];
	const struct slot *other;
	int r;

	ipam_key_blocks_of_family(family, prefix);
	if (bs->state == SLOT_PRESENT && bs->list_no == 0)
		view_unlist(&rq->view, prefix);
	r = view_list(&rq->view, prefix, SLOT_BLOCK);
	if (r != 0)
		return r;
	other = find_overlapping(&rq->view, &bs->cidr);
	if (!other)
		return 0;
	return err_set(err, -EEXIST,
		"block %s gives no address: it overlaps block %s, which was made with another "
		"blockSize, and has to go first",
		prefix_str(&bs->cidr), prefix_str(&other->cidr));
}

static int by_cidr(const void *a, const void *b)
{
	return prefix_compare(a, b);
}

struct taken taken_of(struct slot *const *blocks, size_t n)
{
	struct taken t = {.v = mem_realloc_array(NULL, n + 1, sizeof(*t.v))};

	for (size_t i = 0; i < n; i++)
		t.v[i] = blocks[i]->cidr;
	if (n > 1)
		qsort(t.v, n, sizeof(*t.v), by_cidr);
	for (size_t i = 0; i < n; i++)
		if (t.n == 0 || !prefix_covers(&t.v[t.n - 1], &t.v[i]))
			t.v[t.n++] = t.v[i];
	return t;
}

/* Of those that begin before its end, the last: they are disjoint. */
const struct prefix *taken_overlapping(const struct taken *t, const struct prefix *cidr)
{
	const struct ip last = prefix_last(cidr);
	size_t from = 0, to = t->n;

	while (from < to) {
		size_t i = from + (to - from) / 2;

		if (ip_compare(&t->v[i].addr, &last) <= 0)
			from = i + 1;
		else
			to = i;
	}
	return from > 0 && prefix_overlap(&t->v[from - 1], cidr) ? &t->v[from - 1] : NULL;
}
