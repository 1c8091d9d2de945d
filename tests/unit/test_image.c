/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which endpoint has which slot in nftables' maps: step by step at random, against what must hold. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "proxy/image.h"
#include "proxy/slots.h"

START_TEST(test_slots)
{
#define F SLOT_FREE
	static const struct {
		const char *what;
		bool dense;
		size_t n_items, n;
		uint32_t before[6];
		size_t n_after;
		uint32_t after[6];
	} rows[] = {
		{"the first", true, 3, 0, {0}, 3, {0, 1, 2}},
		{"nothing changes", true, 3, 3, {2, 0, 1}, 3, {2, 0, 1}},
		{"the last one moves into the hole", true, 3, 4, {F, 1, 2, 0}, 3, {0, 1, 2}},
		{"the last one goes", true, 2, 3, {1, 0, F}, 2, {1, 0}},
		{"a new one takes the place of one that went", true, 3, 3, {2, F, 0}, 3, {2, 1, 0}},
		{"one more", true, 3, 2, {1, 0}, 3, {1, 0, 2}},
		{"all go", true, 0, 3, {F, F, F}, 0, {0}},
		{"twice", true, 2, 3, {1, 1, 0}, 2, {1, 0}},
		{"unknown ones", true, 2, 3, {7, 8, 9}, 2, {0, 1}},
		{"a hole stays", false, 2, 3, {0, F, 1}, 3, {0, F, 1}},
		{"until one needs it", false, 3, 3, {0, F, 1}, 3, {0, 2, 1}},
		{"at the end there is none", false, 1, 3, {0, F, F}, 1, {0}},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		struct slots s = {0};

		for (size_t k = 0; k < rows[i].n; k++)
			vec_push(&s.v, rows[i].before[k]);
		slots_fill(&s, rows[i].n_items, rows[i].dense);
		ck_assert_msg(s.v.n == rows[i].n_after, "%s: %zu slots", rows[i].what, s.v.n);
		for (size_t k = 0; k < s.v.n; k++)
			ck_assert_msg(s.v.v[k] == rows[i].after[k], "%s: %u in slot %zu",
				rows[i].what, s.v.v[k], k);
		vec_done(&s.v);
	}
#undef F
}
END_TEST

/* ---- at random ---- */

#define N_ALL 40

static struct calc_dest dest(unsigned i)
{
	struct calc_dest d = {.ip = ip_from_v4(0x0af40000 + i / 2), .port = (uint16_t)(80 + i % 2)};

	return d;
}

struct choice {
	bool has[N_ALL];
	struct calc_dest v[N_ALL]; /* in a random order */
	size_t n;
};

static void choose(struct choice *c)
{
	int change = rand() % 4;

	for (unsigned i = 0; i < N_ALL; i++)
		if (change == 0 || (change == 1 && rand() % 10 == 0))
			c->has[i] = rand() % 2;
	if (change > 1)
		c->has[rand() % N_ALL] = change == 2;
	c->n = 0;
	for (unsigned i = 0; i < N_ALL; i++)
		if (c->has[i]) {
			size_t at = (size_t)rand() % ++c->n;

			c->v[c->n - 1] = c->v[at];
			c->v[at] = dest(i);
		}
}

/* Which one, N_ALL: none, more: an unknown one. */
static unsigned which(const struct calc_dest *d)
{
	unsigned i = 0;

	if (d->ip.family == IP_NONE)
		return N_ALL;
	for (; i < N_ALL; i++) {
		struct calc_dest x = dest(i);

		if (image_compare_dests(&x, d) == 0)
			return i;
	}
	return N_ALL + 1;
}

/* Each of those chosen once. */
static void check_all(const struct choice *c, const struct calc_dest *v, size_t n, bool holes)
{
	unsigned times[N_ALL] = {0}, i;

	for (size_t k = 0; k < n; k++) {
		i = which(&v[k]);
		ck_assert_uint_le(i, N_ALL);
		ck_assert(holes || i < N_ALL);
		if (i < N_ALL)
			times[i]++;
	}
	for (i = 0; i < N_ALL; i++)
		ck_assert_uint_eq(times[i], c->has[i]);
}

static void check_image(const struct image *im, const struct choice *c, uint32_t affinity_s)
{
	ck_assert_uint_eq(im->n, c->n);
	ck_assert_uint_eq(im->affinity_s, c->n ? affinity_s : 0);
	if (affinity_s == 0) {
		ck_assert_uint_eq(im->endpoints.n, c->n);
		check_all(c, im->endpoints.v, im->endpoints.n, false);
		ck_assert_uint_eq(im->numbered.n, 0);
		ck_assert_uint_eq(im->numbers.n, 0);
		return;
	}
	ck_assert_uint_eq(im->endpoints.n, 0);
	check_all(c, im->numbered.v, im->numbered.n, true);
	ck_assert_uint_eq(im->numbers.n, c->n);
	for (size_t i = 0; i < im->numbers.n; i++) {
		ck_assert_uint_ge(im->numbers.v[i], 1);
		ck_assert_uint_le(im->numbers.v[i], im->numbered.n);
		ck_assert_uint_lt(which(&im->numbered.v[im->numbers.v[i] - 1]), N_ALL);
		for (size_t k = 0; k < i; k++)
			ck_assert_uint_ne(im->numbers.v[i], im->numbers.v[k]);
	}
}

static bool stays(const struct image *im, size_t slot, const struct choice *c)
{
	unsigned i = slot < im->endpoints.n ? which(&im->endpoints.v[slot]) : N_ALL;

	return slot < c->n && i < N_ALL && c->has[i];
}

/* No slot changes but those that must. */
static void check_plain_cost(
	const struct image *old, const struct image *new, const struct choice *c)
{
	for (size_t i = 0; i < c->n; i++)
		if (stays(old, i, c))
			ck_assert_int_eq(
				image_compare_dests(&old->endpoints.v[i], &new->endpoints.v[i]), 0);
}

/* Who is there before and after keeps his number, and a slot its number if both can stay. */
static void check_sticky_cost(
	const struct image *old, const struct image *new, const struct choice *c)
{
	for (size_t i = 0; i < old->numbered.n; i++) {
		unsigned who = which(&old->numbered.v[i]);

		if (who < N_ALL && c->has[who])
			ck_assert_int_eq(
				image_compare_dests(&old->numbered.v[i], &new->numbered.v[i]), 0);
	}
	for (size_t i = 0; i < old->numbers.n && i < new->numbers.n; i++) {
		uint32_t number = old->numbers.v[i];

		if (number <= new->numbered.n && which(&new->numbered.v[number - 1]) < N_ALL)
			ck_assert_uint_eq(new->numbers.v[i], number);
	}
}

START_TEST(test_random)
{
	struct choice c = {.n = 0};
	struct image now = {0}, next, copy;
	uint32_t affinity_s = 0;

	for (int i = 0; i < 1000; i++) {
		uint32_t before = affinity_s;

		if (rand() % 20 == 0)
			affinity_s = (uint32_t[]){0, 10, 10800}[rand() % 3];
		choose(&c);
		image_plan(&now, c.v, c.n, affinity_s, &next);
		check_image(&next, &c, affinity_s);
		if (affinity_s == 0 && before == 0)
			check_plain_cost(&now, &next, &c);
		if (affinity_s > 0 && before > 0)
			check_sticky_cost(&now, &next, &c);
		image_done(&now);
		now = next;
		/* There is nothing more to do. */
		image_plan(&now, c.v, c.n, affinity_s, &copy);
		ck_assert(image_equal(&now, &copy));
		ck_assert_int_eq(image_is_empty(&now), c.n == 0);
		image_done(&copy);
		image_copy(&copy, &now);
		ck_assert(image_equal(&now, &copy));
		image_done(&copy);
	}
	image_done(&now);
}
END_TEST

/* Whatever somebody has put there. */
START_TEST(test_garbage)
{
	struct choice c = {.n = 0};

	for (int i = 0; i < 1000; i++) {
		struct image now = {.n = (uint32_t)rand() % 5}, next;
		uint32_t affinity_s = rand() % 2 ? 7 : 0;

		for (int k = rand() % 6; k > 0; k--) {
			struct calc_dest none = {.port = 0};

			vec_push(&now.endpoints,
				rand() % 3 ? dest((unsigned)rand() % (N_ALL + 9)) : none);
			vec_push(&now.numbered,
				rand() % 3 ? dest((unsigned)rand() % (N_ALL + 9)) : none);
			vec_push(&now.numbers, rand() % 3 ? (uint32_t)rand() % 9 : UINT32_MAX);
		}
		choose(&c);
		image_plan(&now, c.v, c.n, affinity_s, &next);
		check_image(&next, &c, affinity_s);
		image_done(&now);
		image_done(&next);
	}
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("image");
	Suite *s = suite_create("image");
	unsigned seed = (unsigned)time(NULL);
	const char *given = getenv("SEED");
	SRunner *sr;
	int failed;

	if (given)
		seed = (unsigned)strtoul(given, NULL, 10);
	printf("seed %u\n", seed);
	srand(seed);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_slots);
	tcase_add_test(tc, test_random);
	tcase_add_test(tc, test_garbage);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
