/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pods that the datastore has and the journal does not: which of them it has from then on. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cni/cni.h"
#include "cni/inherit.h"
#include "cni/journal.h"
#include "fake/rt_fake.h"
#include "fake/store_fake.h"
#include "model/ipam.h"
#include "store/store.h"
#include "unit/test_dir.h"

#define R "/calico/resources/v3/projectcalico.org/"
#define BLOCK4 "10.1.0.0/29"
#define BLOCK6 "fd00::/125"

static struct store *st;
static struct journal *j;
static struct inherit *in;
static const struct cni_home home = {.node = "n1"};

static struct ip ip_of(const char *text)
{
	struct ip ip;

	ck_assert_int_eq(ip_parse(text, &ip, NULL), 0);
	return ip;
}

static void put(const char *cidr, const char *block)
{
	char key[IPAM_KEY_SIZE];
	struct prefix p;

	ck_assert_int_eq(prefix_parse(cidr, &p, NULL), 0);
	store_fake_put(st, ipam_key_block(&p, key), block);
	store_fake_put(st, ipam_key_affinity("n1", &p, key),
		"{\"state\":\"confirmed\",\"deleted\":false}");
}

#define ATTR(handle, more)                                                                       \
	"{\"handle_id\":\"" handle "\",\"secondary\":{\"node\":\"n1\",\"namespace\":\"ns\"" more \
	"}}"

static void put_blocks(unsigned seq)
{
	auto_free char *block = mem_printf(
		"{\"cidr\":\"" BLOCK4 "\",\"affinity\":\"host:n1\","
		"\"allocations\":[0,1,2,3,4,5,6,7],\"unallocated\":[],"
		"\"attributes\":[" ATTR("net.c1", ",\"pod\":\"web\"") "," ATTR(
			"net.c2", ",\"pod\":\"vm\",\"vmi-name\":\"vm\"") "," ATTR("net.c3",
			",\"pod\":\"off\"") "," ATTR("net.c4",
			",\"pod\":\"new\"") "," ATTR("net.c5",
			",\"pod\":\"alone\"") "," ATTR("a.b.c6:eth1",
			",\"pod\":\"two\"") "," ATTR("margay-reserve-n1", "") "," ATTR("net.c7",
			",\"pod\":\"half\"") "],\"sequenceNumber\":20,"
					     "\"sequenceNumberForAllocation\":{\"0\":%u,\"1\":1,\"2\":1,\"3\":1,\"4\":1,\"5\":1,"
					     "\"6\":1,\"7\":1},\"deleted\":false}",
		seq);

	put(BLOCK4, block);
	put(BLOCK6,
		"{\"cidr\":\"" BLOCK6 "\",\"affinity\":\"host:n1\",\"allocations\":[0,1,null,null,"
		"null,null,null,null],\"unallocated\":[2,3,4,5,6,7],\"attributes\":[" ATTR(
			"net.c1", ",\"pod\":\"web\"") "," ATTR("net.c7",
			",\"pod\":\"half\"") "],\"sequenceNumber\":9,\"sequenceNumberForAllocation\":{\"0\":1,\"1\":1},"
					     "\"deleted\":false}");
}

static void put_handle(const char *handle, bool with_v6)
{
	auto_free char *key = mem_printf(IPAM_KEY_HANDLES "%s", handle);

	store_fake_put(st, key,
		with_v6 ? "{\"block\":{\"" BLOCK4 "\":1,\"" BLOCK6 "\":1},\"deleted\":false}"
			: "{\"block\":{\"" BLOCK4 "\":1},\"deleted\":false}");
}

static void put_endpoint(
	const char *pod, const char *ifname, const char *container, const char *nets)
{
	auto_free char *key = mem_printf(R "workloadendpoints/ns/n1-k8s-%s-%s", pod, ifname);
	auto_free char *text = mem_printf(
		"{\"kind\":\"WorkloadEndpoint\",\"spec\":{\"containerID\":\"%s\",\"pod\":\"%s\","
		"\"node\":\"n1\",\"orchestrator\":\"k8s\",\"endpoint\":\"%s\",\"ipNetworks\":[%s]}}",
		container, pod, ifname, nets);

	store_fake_put(st, key, text);
}

static void set_route(const char *ip)
{
	const struct ip addr = ip_of(ip);
	const struct rt_route route = {
		.dst = prefix_host(&addr), .table = 254, .type = RT_TYPE_UNICAST, .oif = 3};

	rt_fake_route(&route);
}

static void setup(void)
{
	static const char *const routed[] = {
		"10.1.0.0", "fd00::", "10.1.0.1", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.7"};
	static const char *const handles[] = {
		"net.c2", "net.c3", "net.c4", "net.c5", "a.b.c6:eth1"};

	rt_fake_reset();
	st = store_fake_new(NULL);
	put_blocks(1);
	put_handle("net.c1", true);
	put_handle("net.c7", true);
	for (size_t i = 0; i < array_size(handles); i++)
		put_handle(handles[i], false);
	for (size_t i = 0; i < array_size(routed); i++)
		set_route(routed[i]);
	put_endpoint("web", "eth0", "c1", "\"10.1.0.0/32\",\"fd00::/128\"");
	put_endpoint("vm", "eth0", "c2", "\"10.1.0.1/32\"");
	put_endpoint("off", "eth0", "c3", "\"10.1.0.2/32\"");
	put_endpoint("new", "eth0", "c9", "\"10.1.0.3/32\"");
	put_endpoint("two", "eth1", "c6", "\"10.1.0.5/32\"");
	put_endpoint("half", "eth0", "c7", "\"10.1.0.7/32\",\"fd00::1/128\"");
	ck_assert_int_eq(journal_open(test_dir(), true, &j, NULL), 0);
	in = inherit_new(&home, j, 0);
}

static void teardown(void)
{
	inherit_free(in);
	journal_close(j);
	store_close(st);
}

static int look(void)
{
	int r = inherit_work(in, st, NULL);

	ck_assert_int_eq(journal_refresh(j, NULL), 0);
	return r;
}

static bool takes(const char *ip, const char *handle)
{
	const struct ip addr = ip_of(ip);
	const struct journal_addr *a = journal_find(j, &addr);

	return a && a->state == JOURNAL_TAKEN && strcmp(a->owner.handle, handle) == 0;
}

static size_t n_known(void)
{
	size_t n;

	(void)journal_addrs(j, &n);
	return n;
}

/* The others: a virtual machine's; without a route; another container's endpoint; none; without one route of two. */
START_TEST(pods_that_run_here_are_the_journals)
{
	const struct journal_owner *o;

	ck_assert_int_eq(look(), 0);
	ck_assert_uint_eq(n_known(), 0);
	ck_assert_int_eq(look(), 0);
	ck_assert(takes("10.1.0.0", "net.c1") && takes("fd00::", "net.c1"));
	ck_assert(takes("10.1.0.5", "a.b.c6:eth1"));
	ck_assert_uint_eq(n_known(), 3);
	ck_assert_uint_eq(journal_n_pending(j), 0);
	o = &journal_taken_by(j, "a.b.c6:eth1")->owner;
	ck_assert_str_eq(o->container_id, "c6");
	ck_assert_str_eq(o->ifname, "eth1");
	ck_assert_str_eq(o->namespace, "ns");
	ck_assert_str_eq(o->pod, "two");
	ck_assert_str_eq(o->key, R "workloadendpoints/ns/n1-k8s-two-eth1");
	ck_assert(inherit_due_ms(in) == INT64_MAX);
}
END_TEST

/* Kubernetes has no endpoint of a pod's further interface. */
START_TEST(what_can_have_no_endpoint_is_left)
{
	store_fake_manage(st);
	ck_assert_int_eq(look(), 0);
	ck_assert_int_eq(look(), 0);
	ck_assert(takes("10.1.0.0", "net.c1") && takes("fd00::", "net.c1"));
	ck_assert_uint_eq(n_known(), 2);
	ck_assert(inherit_due_ms(in) == INT64_MAX);
}
END_TEST

static void delete_web(void)
{
	char web[] = "web", handle[] = "net.c1", ns[] = "ns", eth0[] = "eth0", id[] = "c1";
	const struct journal_owner o = {
		.handle = handle, .container_id = id, .ifname = eth0, .namespace = ns, .pod = web};

	ck_assert_int_eq(journal_give_back(j, &o, NULL), 0);
}

/* Between the looks: a DEL, that waits; another allocation, to the same handle; an address that is another's. */
START_TEST(what_changes_meanwhile_is_left)
{
	const struct ipam_addr free = {.ip = ip_of("fd00::"), .block = prefix_host(&free.ip)};

	ck_assert_int_eq(look(), 0);
	if (_i == 0)
		delete_web();
	else if (_i == 1)
		put_blocks(19);
	else
		ck_assert_int_eq(journal_hold(j, &free, NULL), 0);
	ck_assert_int_eq(look(), 0);
	ck_assert(takes("10.1.0.5", "a.b.c6:eth1"));
	ck_assert_ptr_null(journal_taken_by(j, "net.c1"));
}
END_TEST

START_TEST(a_look_that_fails_is_made_again)
{
	int r = -1;

	for (unsigned n = 1; r < 0; n++) {
		store_fake_fail_nth(st, n, -EHOSTUNREACH);
		r = look();
		ck_assert(r == 0 || r == -EHOSTUNREACH);
	}
	r = -1;
	for (unsigned n = 1; r < 0; n++) {
		store_fake_fail_nth(st, n, -EHOSTUNREACH);
		r = look();
		ck_assert(r == 0 || r == -EHOSTUNREACH);
	}
	ck_assert_uint_eq(n_known(), 3);
}
END_TEST

START_TEST(a_kernel_that_does_not_answer_is_asked_again)
{
	ck_assert_int_eq(look(), 0);
	rt_fake_fail_nth(1, -EIO);
	ck_assert_int_eq(look(), 0);
	ck_assert_uint_eq(n_known(), 0);
	ck_assert(inherit_due_ms(in) != INT64_MAX);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("inherit");
	TCase *tc = tcase_create("inherit");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, pods_that_run_here_are_the_journals);
	tcase_add_test(tc, what_can_have_no_endpoint_is_left);
	tcase_add_loop_test(tc, what_changes_meanwhile_is_left, 0, 3);
	tcase_add_test(tc, a_look_that_fails_is_made_again);
	tcase_add_test(tc, a_kernel_that_does_not_answer_is_asked_again);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
