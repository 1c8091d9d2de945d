/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/image.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "proxy/slots.h"

void image_done(struct image *im)
{
	vec_done(&im->endpoints);
	vec_done(&im->numbered);
	vec_done(&im->numbers);
	im->n = im->affinity_s = 0;
}

void image_copy(struct image *ret, const struct image *im)
{
	*ret = (struct image){.n = im->n, .affinity_s = im->affinity_s};
	for (size_t i = 0; i < im->endpoints.n; i++)
		vec_push(&ret->endpoints, im->endpoints.v[i]);
	for (size_t i = 0; i < im->numbered.n; i++)
		vec_push(&ret->numbered, im->numbered.v[i]);
	for (size_t i = 0; i < im->numbers.n; i++)
		vec_push(&ret->numbers, im->numbers.v[i]);
}

static bool is_none(const struct calc_dest *d)
{
	return d->ip.family == IP_NONE;
}

bool image_is_empty(const struct image *im)
{
	bool any = im->n > 0;

	for (size_t i = 0; i < im->endpoints.n; i++)
		any |= !is_none(&im->endpoints.v[i]);
	for (size_t i = 0; i < im->numbered.n; i++)
		any |= !is_none(&im->numbered.v[i]);
	for (size_t i = 0; i < im->numbers.n; i++)
		any |= im->numbers.v[i] > 0;
	return !any;
}

int image_compare_dests(const void *a, const void *b)
{
	const struct calc_dest *x = a, *y = b;
	int r = ip_compare(&x->ip, &y->ip);

	return r ? r : (int)x->port - (int)y->port;
}

static bool dests_equal(
	const struct calc_dest *a, size_t n_a, const struct calc_dest *b, size_t n_b)
{
	for (size_t i = 0; i < n_a || i < n_b; i++)
		if (i >= n_a	   ? !is_none(&b[i])
			: i >= n_b ? !is_none(&a[i])
				   : image_compare_dests(&a[i], &b[i]) != 0)
			return false;
	return true;
}

bool image_equal(const struct image *a, const struct image *b)
{
	const size_t n = a->numbers.n < b->numbers.n ? b->numbers.n : a->numbers.n;

	for (size_t i = 0; i < n; i++)
		if ((i < a->numbers.n ? a->numbers.v[i] : 0) !=
			(i < b->numbers.n ? b->numbers.v[i] : 0))
			return false;
	return a->n == b->n && a->affinity_s == b->affinity_s &&
	       dests_equal(a->endpoints.v, a->endpoints.n, b->endpoints.v, b->endpoints.n) &&
	       dests_equal(a->numbered.v, a->numbered.n, b->numbered.v, b->numbered.n);
}

/* Of sorted endpoints. */
static uint32_t find(const struct calc_dest *v, size_t n, const struct calc_dest *d)
{
	const struct calc_dest *at = bsearch(d, v, n, sizeof(*d), image_compare_dests);

	return at ? (uint32_t)(at - v) : SLOT_FREE;
}

/* Where each of n sorted endpoints is to be, who are at `at` now. */
static void place(const struct calc_dest *at, size_t n_at, const struct calc_dest *v, size_t n,
	bool dense, struct slots *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < n_at; i++)
		vec_push(&ret->v, find(v, n, &at[i]));
	slots_fill(ret, n, dense);
}

static struct calc_dest dest_at(const struct slots *s, size_t slot, const struct calc_dest *v)
{
	const struct calc_dest none = {.port = 0};

	return s->v.v[slot] == SLOT_FREE ? none : v[s->v.v[slot]];
}

static void plan_plain(
	const struct image *now, const struct calc_dest *v, size_t n, struct image *ret)
{
	struct slots s;

	place(now->endpoints.v, now->endpoints.n, v, n, true, &s);
	for (size_t i = 0; i < s.v.n; i++)
		vec_push(&ret->endpoints, dest_at(&s, i, v));
	vec_done(&s.v);
}

static void plan_sticky(
	const struct image *now, const struct calc_dest *v, size_t n, struct image *ret)
{
	struct slots numbered, slots = {0};
	auto_free uint32_t *number_of = mem_alloc(n * sizeof(*number_of));

	place(now->numbered.v, now->numbered.n, v, n, false, &numbered);
	for (size_t i = 0; i < numbered.v.n; i++) {
		vec_push(&ret->numbered, dest_at(&numbered, i, v));
		if (numbered.v.v[i] != SLOT_FREE)
			number_of[numbered.v.v[i]] = (uint32_t)i;
	}
	for (size_t i = 0; i < now->numbers.n; i++) {
		uint32_t number = now->numbers.v[i];

		vec_push(&slots.v, number > 0 && number <= numbered.v.n ? numbered.v.v[number - 1]
									: SLOT_FREE);
	}
	slots_fill(&slots, n, true);
	for (size_t i = 0; i < slots.v.n; i++)
		vec_push(&ret->numbers, number_of[slots.v.v[i]] + 1);
	vec_done(&numbered.v);
	vec_done(&slots.v);
}

void image_plan(const struct image *now, const struct calc_dest *dests, size_t n,
	uint32_t affinity_s, struct image *ret)
{
	auto_free struct calc_dest *v = NULL;

	memset(ret, 0, sizeof(*ret));
	if (n == 0)
		return;
	v = mem_dup(dests, n * sizeof(*v));
	qsort(v, n, sizeof(*v), image_compare_dests);
	ret->n = (uint32_t)n;
	ret->affinity_s = affinity_s;
	if (affinity_s == 0)
		plan_plain(now, v, n, ret);
	else
		plan_sticky(now, v, n, ret);
}
