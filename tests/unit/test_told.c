/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An attempt by what was told of a datastore, and by the blocks of last time (store_known_begin()), over the fake. */
#include "store/store.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "fake/store_fake.h"
#include "unit/store_suite.h"

#define BLOCK "/calico/ipam/v2/assignment/ipv4/block/10.1.0.0-26"

static const char *const told_prefixes[] = {"/p/", "/one"};
static char key_a[] = "/p/a", key_b[] = "/p/b", value_a[] = "1", value_b[] = "2";
static struct store_kv told_kvs[] = {{.key = key_a, .value = value_a, .len = 1, .rev = 3},
	{.key = key_b, .value = value_b, .len = 1, .rev = 4}};

static struct store_told told_in(uint64_t life)
{
	return (struct store_told){.prefixes = told_prefixes,
		.n_prefixes = array_size(told_prefixes),
		.list = {told_kvs, array_size(told_kvs), 0},
		.life = life};
}

/* The value, the caller's to free. */
static char *get(struct store *st, const char *key, int64_t *ret_rev)
{
	struct store_kv kv;

	ok(store_get_wait(st, key, 0, &kv, &err));
	free(kv.key);
	*ret_rev = kv.rev;
	return kv.value;
}

static void has(struct store *st, const char *key, const char *want, unsigned n_ops)
{
	unsigned before = store_fake_op_count(st);
	int64_t rev;
	auto_free char *value = get(st, key, &rev);

	ck_assert_str_eq(value, want);
	ck_assert_uint_eq(store_fake_op_count(st) - before, n_ops);
}

START_TEST(what_was_told_is_not_asked_for)
{
	auto_(store) struct store *st = store_fake_new(NULL);
	const struct store_told told = told_in(1);
	struct store_list l = {0};
	struct store_kv kv;

	store_known_end(st);
	store_fake_put(st, "/p/c", "3");
	store_fake_put(st, "/one/more", "4");
	store_known_begin(st, &told);
	has(st, "/p/a", "1", 0);
	fails(store_get_wait(st, "/p/c", 0, &kv, &err), -ENOENT);
	fails(store_get_wait(st, "/one", 0, &kv, &err), -ENOENT);
	ok(store_list_wait(st, "/p/", 0, &l, &err));
	ck_assert_uint_eq(l.n, 2);
	ck_assert_int_eq(l.v[0].rev, 3);
	ck_assert_str_eq(l.v[1].value, "2");
	store_list_done(&l);
	ok(store_list_wait(st, "/p/b", 0, &l, &err));
	ck_assert_uint_eq(l.n, 1);
	store_list_done(&l);
	ck_assert_uint_eq(store_fake_op_count(st), 0);
	/* Of one object that was told of, longer keys are others'. */
	has(st, "/one/more", "4", 1);
	store_known_end(st);
	has(st, "/p/c", "3", 1);
}
END_TEST

static int list_of(struct store *st, const char *prefix)
{
	struct store_list l = {0};
	int r = store_list_wait(st, prefix, 0, &l, &err);

	store_list_done(&l);
	return r;
}

static int unindexed_of(struct store *st, const char *prefix)
{
	struct store_list l = {0};
	int r = store_list_unindexed_wait(st, prefix, 0, &l, &err);

	store_list_done(&l);
	return r;
}

static int create(struct store *st, const char *key)
{
	return store_create_wait(st, key, "9", 0, NULL, &err);
}

static int update(struct store *st, const char *key)
{
	return store_update_wait(st, key, "9", 3, 0, NULL, &err);
}

static int delete_of(struct store *st, const char *key)
{
	return store_delete_wait(st, key, 3, NULL, 0, &err);
}

static const struct {
	int (*does)(struct store *st, const char *key);
	const char *key;
} too_much[] = {
	{list_of, "/q/"},
	{list_of, "/one/"},
	{unindexed_of, "/p/"},
	{create, "/p/c"},
	{update, "/p/a"},
	{delete_of, "/p/a"},
};

START_TEST(what_is_not_known_ends_the_attempt)
{
	auto_(store) struct store *st = store_fake_new(NULL);
	const struct store_told told = told_in(1);

	store_fake_put(st, "/p/a", "8");
	store_known_begin(st, &told);
	fails(too_much[_i].does(st, too_much[_i].key), -EAGAIN);
	ck_assert_uint_eq(store_fake_op_count(st), 0);
	/* What is done to be rid of it is done there. */
	has(st, "/p/a", "8", 1);
	ok(list_of(st, "/q/"));
	store_known_end(st);
}
END_TEST

START_TEST(a_block_is_known_from_the_last_time)
{
	auto_(store) struct store *st = store_fake_new(NULL);
	const struct store_told told = told_in(1), another = told_in(2);
	int64_t rev;

	store_fake_put(st, BLOCK, "1");
	store_fake_put(st, "/other", "1");
	store_known_begin(st, &told);
	has(st, BLOCK, "1", 1);
	has(st, BLOCK, "1", 0);
	has(st, "/other", "1", 1);
	has(st, "/other", "1", 1); /* of what is not written by its revision nothing is kept */
	store_known_end(st);
	/* It was looked at, and was of no use: it is asked for again. */
	store_known_begin(st, &told);
	has(st, BLOCK, "1", 1);
	free(get(st, BLOCK, &rev));
	ok(store_update_wait(st, BLOCK, "2", rev, 0, &rev, &err));
	store_known_end(st);
	store_known_begin(st, &told);
	has(st, BLOCK, "2", 0);
	/* Somebody else has written it: that is noticed, and then it is read. */
	store_fake_put(st, BLOCK, "3");
	fails(store_update_wait(st, BLOCK, "4", rev, 0, NULL, &err), -ESTALE);
	has(st, BLOCK, "3", 1);
	free(get(st, BLOCK, &rev));
	ok(store_update_wait(st, BLOCK, "4", rev, 0, &rev, &err));
	store_known_end(st);
	/* What is written outside of an attempt is known, too. */
	ok(store_update_wait(st, BLOCK, "5", rev, 0, &rev, &err));
	store_known_begin(st, &told);
	has(st, BLOCK, "5", 0);
	ok(store_update_wait(st, BLOCK, "6", rev, 0, &rev, &err));
	ok(store_delete_wait(st, BLOCK, rev, NULL, 0, &err));
	fails(store_get_wait(st, BLOCK, 0, &(struct store_kv){0}, &err), -ENOENT);
	ok(store_create_wait(st, BLOCK, "7", 0, NULL, &err));
	store_known_end(st);
	/* A write whose outcome nobody knows. */
	store_known_begin(st, &told);
	has(st, BLOCK, "7", 0);
	store_fake_lose_nth(st, 1);
	fails(store_update_wait(st, BLOCK, "8", 0, 0, NULL, &err), -ETIMEDOUT);
	has(st, BLOCK, "8", 1);
	free(get(st, BLOCK, &rev));
	ok(store_update_wait(st, BLOCK, "9", rev, 0, NULL, &err));
	store_known_end(st);
	/* It may be another datastore. */
	store_known_begin(st, &another);
	has(st, BLOCK, "9", 1);
	store_known_end(st);
}
END_TEST

START_TEST(no_more_than_some_blocks_are_known)
{
	auto_(store) struct store *st = store_fake_new(NULL);
	const struct store_told told = told_in(1);
	char key[96];

	for (int i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "%s%02d", BLOCK, i);
		store_fake_put(st, key, "1");
	}
	store_known_begin(st, &told);
	for (int i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "%s%02d", BLOCK, i);
		has(st, key, "1", 1);
	}
	store_known_end(st);
	store_known_begin(st, &told);
	has(st, BLOCK "99", "1", 0);
	has(st, BLOCK "36", "1", 0);
	has(st, BLOCK "35", "1", 1);
	store_known_end(st);
}
END_TEST

START_TEST(what_is_expected_to_be_new_is_made_at_once)
{
	auto_(store) struct store *st = store_fake_new(NULL);
	const struct store_told told = told_in(1);
	struct store_kv kv;

	store_fake_put(st, "/there", "1");
	store_txn_expect_new(st, "/there");
	store_known_begin(st, &told);
	has(st, "/there", "1", 1);
	store_txn_expect_new(st, "/there");
	store_txn_expect_new(st, "/new");
	store_txn_expect_new(st, "/new");
	fails(store_get_wait(st, "/new", 0, &kv, &err), -ENOENT);
	ck_assert_uint_eq(store_fake_op_count(st), 1);
	ok(store_create_wait(st, "/new", "2", 0, NULL, &err));
	has(st, "/new", "2", 1);
	/* It is there: what was done by its absence is wrong. */
	fails(store_get_wait(st, "/there", 0, &kv, &err), -ENOENT);
	fails(store_create_wait(st, "/there", "2", 0, NULL, &err), -EAGAIN);
	has(st, "/there", "1", 1);
	store_known_end(st);
	store_known_begin(st, &told);
	fails(store_create_wait(st, "/there", "2", 0, NULL, &err), -EEXIST);
	store_txn_expect_new(st, "/later");
	store_known_end(st);
	fails(store_get_wait(st, "/later", 0, &kv, &err), -ENOENT);
	store_known_begin(st, &told);
	store_txn_expect_new(st, "/later");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("told");
	TCase *tc = tcase_create("told");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, tc);
	tcase_add_test(tc, what_was_told_is_not_asked_for);
	tcase_add_loop_test(tc, what_is_not_known_ends_the_attempt, 0, array_size(too_much));
	tcase_add_test(tc, a_block_is_known_from_the_last_time);
	tcase_add_test(tc, no_more_than_some_blocks_are_known);
	tcase_add_test(tc, what_is_expected_to_be_new_is_made_at_once);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
