/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a node that is gone has left, given back: by whom, in which order, and after whoever ended half-way. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "cni/cni.h"
#include "cni/gone.h"
#include "cni/shared.h"
#include "fake/store_fake.h"
#include "ipam/node.h"
#include "model/ipam.h"
#include "store/store.h"
#include "unit/test_dir.h"

#define R "/calico/resources/v3/projectcalico.org/"
#define BLOCK_KEY IPAM_KEY_BLOCKS "ipv4/block/10.1.0.0-29"
#define AFFINITY_KEY IPAM_KEY_AFFINITIES "n2/ipv4/block/10.1.0.0-29"
#define WEP_KEY R "workloadendpoints/default/n2-k8s-web-eth0"

static bool has_block = true; /* n2; else it has borrowed its addresses from n1 */

/* A pod's (.0), a reserve's (.1), a virtual machine's (.2), a tunnel's that says nothing of a node (.3), and n1's. */
static void put_block(struct store *st, unsigned seq)
{
	auto_free char *block = mem_printf(
		"{\"cidr\":\"10.1.0.0/29\",\"affinity\":\"host:%s\","
		"\"allocations\":[0,1,2,3,4,null,null,null],\"unallocated\":[5,6,7],\"attributes\":["
		"{\"handle_id\":\"net.c2\",\"secondary\":{\"node\":\"n2\",\"pod\":\"web\"}},"
		"{\"handle_id\":\"margay-reserve-n2\",\"secondary\":{\"node\":\"n2\"}},"
		"{\"handle_id\":\"net.vm\",\"secondary\":{\"node\":\"n2\",\"vmi-name\":\"vm\"}},"
		"{\"handle_id\":\"ipip-tunnel-addr-n2\",\"secondary\":{}},"
		"{\"handle_id\":\"net.c1\",\"secondary\":{\"node\":\"n1\"}}],"
		"\"sequenceNumber\":20,\"sequenceNumberForAllocation\":"
		"{\"0\":%u,\"1\":2,\"2\":3,\"3\":4,\"4\":5},\"deleted\":false}",
		has_block ? "n2" : "n1", seq);

	store_fake_put(st, BLOCK_KEY, block);
}

static struct store *filled(void)
{
	static const char *const handles[] = {
		"net.c2", "margay-reserve-n2", "net.vm", "ipip-tunnel-addr-n2", "net.c1"};
	struct store *st = store_fake_new(NULL);

	store_fake_put(st, R "nodes/n1", "{\"kind\":\"Node\",\"metadata\":{\"name\":\"n1\"}}");
	store_fake_put(st, R "ippools/p",
		"{\"kind\":\"IPPool\",\"metadata\":{\"name\":\"p\"},\"spec\":{\"cidr\":\"10.1.0.0/"
		"29\",\"blockSize\":29}}");
	store_fake_put(st, WEP_KEY,
		"{\"kind\":\"WorkloadEndpoint\",\"spec\":{\"containerID\":\"c2\",\"pod\":\"web\","
		"\"node\":\"n2\",\"orchestrator\":\"k8s\",\"endpoint\":\"eth0\"}}");
	if (has_block)
		store_fake_put(st, AFFINITY_KEY, "{\"state\":\"confirmed\",\"deleted\":false}");
	put_block(st, 1);
	for (size_t i = 0; i < array_size(handles); i++) {
		auto_free char *key = mem_printf(IPAM_KEY_HANDLES "%s", handles[i]);

		store_fake_put(st, key, "{\"block\":{\"10.1.0.0/29\":1},\"deleted\":false}");
	}
	return st;
}

static bool has_handle(struct store *st, const char *handle)
{
	auto_free char *key = mem_printf(IPAM_KEY_HANDLES "%s", handle);

	return store_fake_value(st, key);
}

static bool has(struct store *st, const char *handle)
{
	auto_free char *id = mem_printf("\"handle_id\":\"%s\"", handle);
	bool is_used = strstr(store_fake_value(st, BLOCK_KEY), id);

	ck_assert(!is_used || has_handle(st, handle));
	return is_used;
}

static bool is_whole(struct store *st)
{
	return has(st, "net.c2") && has(st, "margay-reserve-n2") &&
	       has(st, "ipip-tunnel-addr-n2") &&
	       (!has_block || store_fake_value(st, AFFINITY_KEY)) && store_fake_value(st, WEP_KEY);
}

static bool is_free(struct store *st)
{
	ck_assert(has(st, "net.vm") && has(st, "net.c1"));
	/* In this order. */
	if (!has(st, "net.c2"))
		ck_assert_ptr_null(store_fake_value(st, WEP_KEY));
	return !has_handle(st, "net.c2") && !has_handle(st, "margay-reserve-n2") &&
	       !has_handle(st, "ipip-tunnel-addr-n2") && !store_fake_value(st, AFFINITY_KEY) &&
	       !strstr(store_fake_value(st, BLOCK_KEY), "host:n2");
}

static int may_write(void *arg, int64_t *ret_deadline_ms, struct err *err)
{
	unsigned *left = arg;

	*ret_deadline_ms = clock_mono_ms() + 1000;
	return (*left)-- > 0 ? 0 : err_set(err, -EPERM, "that is all");
}

static int release(struct store *st, const struct store_list *blocks, unsigned n_writes)
{
	const struct ipam_node_ops ops = {.may_write = may_write, .arg = &n_writes};

	return ipam_node_release(st, "n2", blocks, &ops, NULL);
}

static int list_and_release(struct store *st, unsigned n_writes)
{
	struct store_list blocks;
	int r = store_list_wait(st, IPAM_KEY_BLOCKS, 0, &blocks, NULL);

	if (r == 0)
		r = release(st, &blocks, n_writes);
	store_list_done(&blocks);
	return r;
}

START_TEST(what_a_node_had_goes_but_not_virtual_machines)
{
	struct store *st = filled();

	ck_assert_int_eq(list_and_release(st, 100), 1);
	ck_assert(is_free(st));
	ck_assert_int_eq(list_and_release(st, 100), 0);
	store_close(st);
}
END_TEST

START_TEST(what_was_given_since_stays)
{
	struct store *st = filled();
	struct store_list blocks;

	ck_assert_int_eq(store_list_wait(st, IPAM_KEY_BLOCKS, 0, &blocks, NULL), 0);
	put_block(st, 19); /* to the same handle */
	ck_assert_int_eq(release(st, &blocks, 100), 1);
	ck_assert(has(st, "net.c2") && !has(st, "margay-reserve-n2"));
	store_list_done(&blocks);
	store_close(st);
}
END_TEST

START_TEST(nothing_is_written_without_leave)
{
	int r = -EPERM;

	for (unsigned n = 0; r == -EPERM; n++) {
		struct store *st = filled();

		r = list_and_release(st, n);
		ck_assert(n > 0 || is_whole(st));
		ck_assert(is_free(st) == (r == 1));
		ck_assert_int_eq(list_and_release(st, 100), r == 1 ? 0 : 1);
		ck_assert(is_free(st));
		store_close(st);
		ck_assert_uint_lt(n, 100);
	}
	ck_assert_int_eq(r, 1);
}
END_TEST

/*
 * By a keeper.
 */
#define AFTER_S 60

static char *dir, *path;
static struct cni_shared shared;

static void setup(void)
{
	dir = mem_strdup(test_dir());
	path = mem_printf("%s/absent", dir);
}

static void teardown(void)
{
	free(take_ptr(dir));
	free(take_ptr(path));
}

static char *absent(void)
{
	char *text;

	ck_assert_int_eq(file_read(path, 1000, &text, NULL, NULL), 0);
	return text;
}

static void set_absent(const char *text)
{
	ck_assert_int_ge(file_write_atomic(path, text, strlen(text), 0600, NULL), 0);
}

/* By one that has just started. */
static int look(struct store *st)
{
	const struct cni_home home = {.node = "n1", .state_dir = dir, .shared = &shared};
	struct gone *g = gone_new(&home, AFTER_S);
	int r = gone_work(g, st, NULL);

	gone_free(g);
	return r;
}

/* It was seen to be absent for so long. */
static void make_old(struct store *st)
{
	auto_free char *was = NULL, *text = NULL;
	int64_t since;
	int at;

	ck_assert_int_eq(look(st), 0);
	ck_assert(is_whole(st));
	was = absent();
	ck_assert_int_eq(sscanf(strchr(was, '\n'), "%" SCNd64 "%n", &since, &at), 1);
	text = mem_printf("%.*s\n%" PRId64 "%s", (int)strcspn(was, "\n"), was, since - AFTER_S,
		strchr(was, '\n') + at);
	set_absent(text);
}

struct end {
	struct store *st;
	char *absent; /* the file, as it was when the keeper was killed */
};

static void on_end(void *arg)
{
	struct end *e = arg;

	e->absent = absent();
	store_fake_away(e->st, true);
}

/* What the others know of it, and whether who does it is killed. */
enum { LOSES_STORE, IS_KILLED, LOSES_ANSWER, N_ENDS };

START_TEST(one_that_was_not_finished_is_gone_on_with)
{
	bool ended = true;

	has_block = _i < N_ENDS;
	for (unsigned n = 1; ended; n++) {
		struct store *st = filled();
		struct end e = {.st = st};
		unsigned before;

		remove(path);
		make_old(st);
		before = store_fake_op_count(st);
		if (_i % N_ENDS == LOSES_ANSWER)
			store_fake_lose_nth(st, n);
		else
			store_fake_call_nth(st, n, on_end, &e);
		(void)look(st);
		ended = store_fake_op_count(st) - before >= n;
		store_fake_away(st, false);
		if (_i % N_ENDS == IS_KILLED && e.absent)
			set_absent(e.absent);
		store_fake_lose_nth(st, 0);
		store_fake_call_nth(st, 0, NULL, NULL);
		ck_assert_int_eq(look(st), 0);
		ck_assert_msg(is_free(st), "after the end at operation %u", n);
		free(e.absent);
		store_close(st);
		ck_assert_uint_lt(n, 200);
	}
}
END_TEST

static void on_back(void *arg)
{
	store_fake_put(arg, R "nodes/n2", "{\"kind\":\"Node\",\"metadata\":{\"name\":\"n2\"}}");
}

/* Its time begins anew, whoever has seen that. */
START_TEST(one_that_is_back_is_left)
{
	bool seen = true;

	for (unsigned n = 1; seen; n++) {
		struct store *st = filled();
		auto_free char *text = NULL;

		remove(path);
		make_old(st);
		store_fake_call_nth(st, n, on_back, st);
		ck_assert_int_eq(look(st), 0);
		seen = is_whole(st);
		text = absent();
		ck_assert(!seen || !strstr(text, " n2\n"));
		store_fake_call_nth(st, 0, NULL, NULL);
		store_close(st);
		ck_assert(seen || n > 5);
	}
}
END_TEST

/* A sign of life, before it is given back and after. */
START_TEST(one_that_takes_an_address_is_left)
{
	struct store *st = filled();

	make_old(st);
	put_block(st, 19);
	ck_assert_int_eq(look(st), 0);
	ck_assert(is_whole(st));
	store_close(st);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gone");
	TCase *tc = tcase_create("release"), *keeper = tcase_create("keeper");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(tc, what_a_node_had_goes_but_not_virtual_machines);
	tcase_add_test(tc, what_was_given_since_stays);
	tcase_add_test(tc, nothing_is_written_without_leave);
	suite_add_tcase(s, tc);
	tcase_add_checked_fixture(keeper, setup, teardown);
	tcase_set_timeout(keeper, 60);
	tcase_add_loop_test(keeper, one_that_was_not_finished_is_gone_on_with, 0, 2 * N_ENDS);
	tcase_add_test(keeper, one_that_is_back_is_left);
	tcase_add_test(keeper, one_that_takes_an_address_is_left);
	suite_add_tcase(s, keeper);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
