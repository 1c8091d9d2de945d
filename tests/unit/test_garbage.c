/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What pods whose DEL never came have left, over a kernel and a Kubernetes in memory. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cni/cni.h"
#include "cni/garbage.h"
#include "cni/journal.h"
#include "cni/shared.h"
#include "fake/rt_fake.h"
#include "fake/store_fake.h"
#include "model/ipam.h"
#include "store/store.h"
#include "unit/test_dir.h"

#define R "/calico/resources/v3/projectcalico.org/"
#define BLOCK4 "10.1.0.0/30"
#define BLOCK6 "fd00::/126"

static struct store *st;
static struct journal *j;
static const char *dir; /* of the journal */
static struct cni_shared shared;

static struct ip ip_of(const char *text)
{
	struct ip ip;

	ck_assert_int_eq(ip_parse(text, &ip, NULL), 0);
	return ip;
}

static struct prefix prefix_from(const char *text)
{
	struct prefix p;

	ck_assert_int_eq(prefix_parse(text, &p, NULL), 0);
	return p;
}

static const char *block_key(const char *cidr, char buf[static IPAM_KEY_SIZE])
{
	const struct prefix p = prefix_from(cidr);

	return ipam_key_block(&p, buf);
}
#define block_key_of(cidr) block_key((cidr), (char[IPAM_KEY_SIZE]){0})

/* The node's, whose second address is the pod's, under the handle net.CONTAINER. */
static void put_block_of(const char *cidr, const char *container, const char *pod)
{
	const struct prefix p = prefix_from(cidr);
	char key[IPAM_KEY_SIZE];
	auto_free char *block = mem_printf(
		"{\"cidr\":\"%s\",\"affinity\":\"host:n1\",\"allocations\":[null,0,null,null],"
		"\"unallocated\":[0,2,3],\"attributes\":[{\"handle_id\":\"net.%s\",\"secondary\":{"
		"\"node\":\"n1\",\"namespace\":\"default\",\"pod\":\"%s\"}}],"
		"\"sequenceNumber\":9,\"sequenceNumberForAllocation\":{\"1\":1},\"deleted\":false}",
		cidr, container, pod);

	store_fake_put(st, ipam_key_block(&p, key), block);
	store_fake_put(st, ipam_key_affinity("n1", &p, key),
		"{\"state\":\"confirmed\",\"deleted\":false}");
}

static void put_block(const char *cidr)
{
	put_block_of(cidr, "c1", "web");
}

static void setup(void)
{
	rt_fake_reset();
	dir = test_dir();
	st = store_fake_new(NULL);
	store_fake_manage(st);
	put_block(BLOCK4);
	put_block(BLOCK6);
	store_fake_put(st, IPAM_KEY_HANDLES "net.c1",
		"{\"block\":{\"" BLOCK4 "\":1,\"" BLOCK6 "\":1},\"deleted\":false}");
	ck_assert_int_eq(journal_open(dir, true, &j, NULL), 0);
}

static void teardown(void)
{
	journal_close(j);
	store_close(st);
}

static void set_route(const char *ip, bool there)
{
	const struct ip addr = ip_of(ip);
	const struct rt_route route = {
		.dst = prefix_host(&addr), .table = 254, .type = RT_TYPE_UNICAST, .oif = 3};

	if (there)
		rt_fake_route(&route);
	else
		ck_assert(rt_fake_route_gone(&route.dst, 0));
}

/* By a keeper that has just started, and has no patience. */
static int look(void)
{
	const struct cni_home home = {.node = "n1", .shared = &shared};
	struct garbage *g = garbage_new(&home, j, 0);
	int r = garbage_work(g, st, NULL);

	garbage_free(g);
	return r;
}

static bool is_used(const char *block)
{
	return strstr(store_fake_value(st, block_key_of(block)), "net.c1");
}

START_TEST(a_dump_that_is_interrupted_is_read_again)
{
	set_route("10.1.0.1", true);
	set_route("10.1.0.9", true);
	set_route("fd00::1", true);
	set_route("fd00::9", true);
	for (unsigned n = 1; n <= 2; n++) {
		rt_fake_fail_nth(n, -EINTR);
		ck_assert_int_eq(look(), 0);
		ck_assert(is_used(BLOCK4) && is_used(BLOCK6));
	}
	set_route("10.1.0.1", false);
	set_route("fd00::1", false);
	for (unsigned n = 1; n <= 4; n++) {
		put_block(BLOCK4);
		rt_fake_fail_nth(n, -EINTR);
		ck_assert_int_eq(look(), 0);
		ck_assert(!is_used(BLOCK4));
	}
}
END_TEST

static char web[] = "web", name[] = "net.c1", ns[] = "default", eth0[] = "eth0";
static const struct journal_owner owner = {
	.handle = name, .container_id = name, .ifname = eth0, .namespace = ns, .pod = web};

/* As the node has it: from its reserve. */
static void journal(const char *first, const char *second)
{
	const struct journal_want w = {.node = "node-1", .owner = owner, .v4 = true, .v6 = true};
	const char *ips[] = {first, second};
	struct ipam_addr got[2];
	size_t n;

	ck_assert_int_eq(journal_seen(j, "node-1", true, "", NULL), 0);
	for (size_t i = 0; i < 2; i++) {
		struct ipam_addr a = {.ip = ip_of(ips[i])};

		a.block = prefix_of(&a.ip, ip_bits(&a.ip) - 2);
		ck_assert_int_eq(journal_hold(j, &a, NULL), 0);
	}
	ck_assert_int_eq(journal_take(j, &w, got, &n, NULL), 0);
	ck_assert_uint_eq(n, 2);
	ck_assert_int_eq(journal_done(j, journal_next(j, 0)->n, NULL), 0);
}

/* Which one has a route, and which the reserve has given beside 10.1.0.1 (NULL: neither is of it). */
static const struct {
	const char *route, *reserve;
} cases[] = {
	{"10.1.0.1", NULL}, {"fd00::1", NULL}, {"10.1.0.1", "fd00::1"}, {"fd00::1", "fd00::1"},
	{"fd00::9", "fd00::9"}, /* of another's block */
};

START_TEST(a_pods_addresses_are_judged_together)
{
	if (cases[_i].reserve)
		journal("10.1.0.1", cases[_i].reserve);
	set_route(cases[_i].route, true);
	ck_assert_int_eq(look(), 0);
	ck_assert(is_used(BLOCK4) && is_used(BLOCK6));
	ck_assert_ptr_null(journal_next(j, 0));
	set_route(cases[_i].route, false);
	ck_assert_int_eq(look(), 0);
	if (cases[_i].reserve)
		ck_assert_int_eq(journal_next(j, 0)->kind, JOURNAL_GIVE_BACK);
	else
		ck_assert(!is_used(BLOCK4) && !is_used(BLOCK6));
}
END_TEST

/* fn is called when the Pod is asked for, which is gone: between the two looks at the kernel and the journal. */
static void at_the_question(void (*fn)(void *arg))
{
	const unsigned before = store_fake_op_count(st);

	set_route("10.1.0.1", true);
	ck_assert_int_eq(look(), 0);
	set_route("10.1.0.1", false);
	store_fake_call_nth(st, store_fake_op_count(st) - before + 1, fn, NULL);
}

static void route_comes(void *arg)
{
	(void)arg;
	set_route("10.1.0.1", true);
}

START_TEST(a_route_that_comes_meanwhile_is_seen)
{
	at_the_question(route_comes);
	ck_assert_int_eq(look(), 0);
	ck_assert(is_used(BLOCK4) && is_used(BLOCK6));
	set_route("10.1.0.1", false);
	ck_assert_int_eq(look(), 0);
	ck_assert(!is_used(BLOCK4) && !is_used(BLOCK6));
}
END_TEST

/* By a worker. */
static void del_comes(void *arg)
{
	struct journal *another;

	(void)arg;
	ck_assert_int_eq(journal_open(dir, false, &another, NULL), 0);
	ck_assert_int_eq(journal_give_back(another, &owner, NULL), 0);
	journal_close(another);
}

/* _i: whether its DEL waits, or comes meanwhile, of a pod that the journal has, or of one that only the datastore has. */
START_TEST(what_waits_in_the_journal_is_left_to_it)
{
	if (_i & 1)
		journal("10.1.0.1", "fd00::1");
	if (_i & 2)
		at_the_question(del_comes);
	else
		del_comes(NULL);
	ck_assert_int_eq(look(), 0);
	ck_assert(is_used(BLOCK4) && is_used(BLOCK6));
	ck_assert_uint_eq(journal_n_pending(j), 1);
}
END_TEST

/* At first, and right before: what it does not say is not taken for no. */
START_TEST(a_kernel_that_does_not_answer_is_no_witness)
{
	for (unsigned n = 1; n <= 4; n++) {
		rt_fake_fail_nth(n, -EIO);
		ck_assert_int_eq(look(), 0);
		ck_assert(is_used(BLOCK4));
	}
}
END_TEST

/* The kernel is no witness of these: the Pod alone would be. */
START_TEST(what_the_ipam_plugin_gave_is_the_runtimes)
{
	auto_free char *block = mem_strdup(store_fake_value(st, block_key_of(BLOCK4)));
	auto_free char *marked = NULL;
	struct journal_want w = {.owner = owner};
	const struct ipam_addr a = {.ip = ip_of("10.1.0.1"), .block = prefix_from(BLOCK4)};
	char *pod = strstr(block, "\"pod\"");

	w.owner.ipam_only = true;
	marked = mem_printf("%.*s\"type\":\"margayIpam\",%s", (int)(pod - block), block, pod);
	store_fake_put(st, block_key_of(BLOCK4), marked);
	ck_assert_int_eq(look(), 0);
	ck_assert(is_used(BLOCK4) && !is_used(BLOCK6));
	/* By the journal, where the block does not say it. */
	store_fake_put(st, block_key_of(BLOCK4), block);
	ck_assert_int_eq(journal_adopt(j, &w, &a, 1, NULL), 0);
	ck_assert_int_eq(look(), 0);
	ck_assert(is_used(BLOCK4));
	ck_assert_ptr_null(journal_next(j, 0));
}
END_TEST

/* A Pod that is there, as it seems, and who comes after it is looked at all the same. */
START_TEST(a_pod_that_cannot_be_read_is_there)
{
	store_fake_put(st, "/margay/v1/pods/default/web", "{\"spec\":{\"nodeName\":7}}");
	put_block_of("10.1.0.4/30", "gone", "gone");
	ck_assert_int_eq(look(), 0);
	ck_assert(is_used(BLOCK4) && is_used(BLOCK6));
	ck_assert(!strstr(store_fake_value(st, block_key_of("10.1.0.4/30")), "net.gone"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("garbage");
	TCase *tc = tcase_create("garbage");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_dump_that_is_interrupted_is_read_again);
	tcase_add_loop_test(tc, a_pods_addresses_are_judged_together, 0, array_size(cases));
	tcase_add_test(tc, a_pod_that_cannot_be_read_is_there);
	tcase_add_test(tc, a_route_that_comes_meanwhile_is_seen);
	tcase_add_loop_test(tc, what_waits_in_the_journal_is_left_to_it, 0, 4);
	tcase_add_test(tc, a_kernel_that_does_not_answer_is_no_witness);
	tcase_add_test(tc, what_the_ipam_plugin_gave_is_the_runtimes);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
