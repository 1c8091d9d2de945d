/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keeper, pass by pass, over a datastore in memory that fails at every call, and a journal on the disk. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "cni/boot.h"
#include "cni/cni.h"
#include "cni/journal.h"
#include "cni/journal_file.h"
#include "cni/keeper.h"
#include "cni/shared.h"
#include "fake/rt_fake.h"
#include "fake/store_fake.h"
#include "ipam/run.h"
#include "model/ipam.h"
#include "store/driver.h"
#include "store/store.h"
#include "store/txn.h"
#include "unit/test_dir.h"

#define V3 "/calico/resources/v3/projectcalico.org/"
#define WEPS V3 "workloadendpoints/ns/"
#define RESERVE "margay-reserve-n1"

static struct cni_shared shared;
static struct cni_home home;
static struct keeper k;
static struct store *st;

static void put(const char *kind, const char *keyed, const char *name, const char *spec)
{
	auto_free char *key = mem_printf(V3 "%s/%s", keyed, name);
	auto_free char *text =
		mem_printf("{\"kind\":\"%s\",\"apiVersion\":\"projectcalico.org/v3\","
			   "\"metadata\":{\"name\":\"%s\"},\"spec\":{%s}}",
			kind, name, spec);

	store_fake_put(st, key, text);
}

static void put_cluster(const char *guid)
{
	auto_free char *spec = mem_printf("\"clusterGUID\":\"%s\",\"datastoreReady\":true", guid);

	put("ClusterInformation", "clusterinformations", "default", spec);
}

static void fill(void)
{
	put("Node", "nodes", "n1", "");
	put("IPPool", "ippools", "p", "\"cidr\":\"10.1.0.0/24\",\"blockSize\":26");
	put_cluster("G1");
}

static void start(uint32_t n_reserve)
{
	const struct keeper_conf conf = {
		.n_reserve = n_reserve, .gone_after_s = 18000, .garbage_after_s = 600};

	st = store_fake_new(NULL);
	fill();
	memset(&k, 0, sizeof(k));
	free((char *)(uintptr_t)home.state_dir);
	home.state_dir = mem_strdup(test_dir());
	ck_assert_int_eq(keeper_init(&k, &home, &conf, st, NULL), 0);
}

static void stop(void)
{
	keeper_done(&k);
	store_close(st);
}

static void setup(void)
{
	rt_fake_reset();
	memset(&shared, 0, sizeof(shared));
	home.node = "n1";
	home.shared = &shared;
	home.state_fd = eventfd(0, EFD_NONBLOCK);
	home.keeper_fd = eventfd(0, EFD_NONBLOCK);
	start(2);
}

/* All that waits for its time is due; the minute after the first start is over. */
static int pass(void)
{
	k.back_ms = k.back_ms ? 1 : 0;
	k.seen_due_ms = k.scope_due_ms = k.queue.until_ms = 0;
	k.refill_due_ms[0] = 0;
	return keeper_work(&k, NULL);
}

static void pass_well(void)
{
	const int r = pass();

	ck_assert_msg(r == 0, "%s", strerror(-r));
}

/* The n-th of what is free. */
static struct ip free_one(size_t n)
{
	const struct journal_addr *a;
	size_t n_addrs;

	a = journal_addrs(k.j, &n_addrs);
	for (size_t i = 0; i < n_addrs; i++)
		if (a[i].state == JOURNAL_FREE && n-- == 0)
			return a[i].addr.ip;
	ck_abort_msg("none is free");
}

static const char *held_by(const struct ip *ip)
{
	static char handle[64];
	const struct prefix block = prefix_of(ip, 26);
	char key[IPAM_KEY_SIZE];
	const char *text = store_fake_value(st, ipam_key_block(&block, key));
	auto_(ipam_block) struct ipam_block *b = NULL;
	uint32_t ord = ip->b[3] - block.addr.b[3];

	ck_assert_ptr_nonnull(text);
	ck_assert_int_eq(ipam_block_decode(text, strlen(text), &b, NULL), 0);
	snprintf(handle, sizeof(handle), "%s",
		b->alloc[ord] < 0 ? "" : b->attrs.v[b->alloc[ord]].handle);
	return handle;
}

static size_t n_held(void)
{
	struct ipam_request *rq = ipam_lookup_handle_new(RESERVE);
	size_t n = 0;

	if (ipam_run(st, rq, clock_mono_ms() + 5000, NULL) == 0)
		(void)ipam_request_addrs(rq, &n);
	ipam_request_free(rq);
	return n;
}

static char *endpoint(void *arg, const struct ip *ips, size_t n)
{
	(void)n;
	return mem_printf(
		"{\"kind\":\"WorkloadEndpoint\",\"apiVersion\":\"projectcalico.org/v3\","
		"\"metadata\":{\"name\":\"x\",\"namespace\":\"ns\"},\"spec\":{\"orchestrator\":"
		"\"k8s\",\"node\":\"n1\",\"containerID\":\"%s\",\"pod\":\"web\",\"endpoint\":"
		"\"eth0\",\"ipNetworks\":[\"%s/32\"]}}",
		(const char *)arg, ip_str(&ips[0]));
}

static struct journal_owner owner(const char *container, const char *key)
{
	static char handle[64], eth0[] = "eth0", ns[] = "ns", pod[] = "web";

	snprintf(handle, sizeof(handle), "net.%s", container);
	return (struct journal_owner){.handle = handle,
		.container_id = (char *)(uintptr_t)container,
		.ifname = eth0,
		.namespace = ns,
		.pod = pod,
		.key = (char *)(uintptr_t)key};
}

/* ADD. ip NULL: any. */
static int take(struct journal *j, const char *container, const char *key, const struct ip *ip,
	struct ip *ret)
{
	struct journal_want w = {.owner = owner(container, key),
		.node = "n1",
		.v4 = true,
		.endpoint = key ? endpoint : NULL,
		.arg = (void *)(uintptr_t)container};
	struct ipam_addr got[2];
	size_t n;
	int r;

	if (ip)
		w.ip = *ip;
	r = journal_take(j, &w, got, &n, NULL);
	if (r == 0 && ret)
		*ret = got[0].ip;
	return r;
}

static void give_back(const char *container, const char *key)
{
	const struct journal_owner o = owner(container, key);

	ck_assert_int_eq(journal_give_back(k.j, &o, NULL), 0);
}

static bool take_line(void *arg, const json_t *line)
{
	(void)arg;
	(void)line;
	return true;
}

static void forget(void *arg)
{
	(void)arg;
}

/* That it was seen last so long ago. */
static void hours_pass(int hours)
{
	const struct journal_reader reader = {.line = take_line, .forget = forget};
	char boot[BOOT_ID_SIZE];
	struct journal_file *f;

	boot_id(boot);
	ck_assert_int_eq(journal_file_open(home.state_dir, true, &reader, &f, NULL), 0);
	ck_assert_int_eq(journal_file_lock(f, NULL), 0);
	ck_assert_int_eq(journal_file_append(f,
				 json_pack("{s:s,s:s,s:b,s:I,s:I,s:s,s:s}", "do", "seen", "node",
					 "n1", "there", 1, "wall",
					 (json_int_t)(clock_real_ns() / 1000000000 - hours * 3600),
					 "uptime", (json_int_t)(boot_uptime_s() - hours * 3600),
					 "boot", boot, "guid", "G1"),
				 NULL),
		0);
	journal_file_unlock(f);
	journal_file_close(f);
	ck_assert_int_eq(journal_refresh(k.j, NULL), 0);
}

START_TEST(comes_back)
{
	struct ipam_assign as = {.host = "n2",
		.handle = "net.other",
		.use = IPAM_USE_WORKLOAD,
		.v4 = true,
		.now_ns = clock_real_ns()};
	struct ip a;

	pass_well();
	ck_assert_uint_eq(journal_n_free(k.j, IP_V4), 2);
	a = as.ip = free_one(0);
	pass_well();
	/* Then it was away for five hours. */
	hours_pass(5);
	ck_assert_int_eq(ipam_run_take(st, ipam_release_handle_new(RESERVE, clock_real_ns()),
				 clock_mono_ms() + 5000, NULL),
		0);
	ck_assert_int_eq(ipam_run_take(st, ipam_assign_new(&as), clock_mono_ms() + 5000, NULL), 0);
	pass_well();
	ck_assert(k.back_ms > clock_mono_ms());
	ck_assert_int_eq(take(k.j, "c1", NULL, &a, NULL), -ENOENT);
	ck_assert_str_eq(held_by(&a), "net.other");
	/* When its minute is over it compares. */
	pass_well();
	ck_assert_int_eq(take(k.j, "c1", NULL, &a, NULL), -ENOENT);
	ck_assert_int_eq(take(k.j, "c1", NULL, NULL, NULL), 0);
}
END_TEST

/* One that does not say yet which cluster it is of is not that of the journal. */
START_TEST(another_cluster)
{
	struct store *first = st, *second = store_fake_new(NULL);

	pass_well();
	ck_assert_int_eq(take(k.j, "c1", WEPS "n1-k8s-web-eth0", NULL, NULL), 0);
	st = k.rp.st = second;
	pass_well();
	ck_assert(k.wrong_cluster);
	ck_assert_uint_eq(journal_n_pending(k.j), 1);
	fill();
	put_cluster("G2");
	pass_well();
	ck_assert(k.wrong_cluster);
	ck_assert_uint_eq(journal_n_pending(k.j), 1);
	ck_assert_str_eq(journal_guid(k.j), "G1");
	st = k.rp.st = first;
	pass_well();
	ck_assert(!k.wrong_cluster);
	ck_assert_uint_eq(journal_n_pending(k.j), 0);
	store_close(second);
}
END_TEST

static size_t n_leaving(void)
{
	const struct journal_addr *a;
	size_t n, n_leaving = 0;

	a = journal_addrs(k.j, &n);
	for (size_t i = 0; i < n; i++)
		n_leaving += a[i].state == JOURNAL_LEAVING;
	return n_leaving;
}

/* Away at each call, with more than it is to hold: what it was about to give back goes back later. */
START_TEST(gives_back_later)
{
	bool was_leaving = false;

	for (unsigned n = 1; n < 60; n++) {
		stop();
		start(6);
		pass_well();
		ck_assert_uint_eq(n_held(), 6);
		k.n_reserve = 1;
		store_fake_fail_nth(st, n, -EHOSTUNREACH);
		(void)pass();
		was_leaving |= n_leaving() > 0;
		store_fake_fail_nth(st, 0, 0);
		for (unsigned i = 0; i < 2; i++)
			pass_well();
		ck_assert_msg(n_leaving() == 0, "call %u", n);
		ck_assert_uint_eq(n_held(), journal_n_free(k.j, IP_V4));
	}
	ck_assert(was_leaving);
}
END_TEST

static void go_away(void *arg)
{
	(void)arg;
	store_fake_away(st, true);
}

/* The datastore goes away before each call of the refill: nothing stays held that nobody gives. */
START_TEST(finds_what_it_holds)
{
	bool more = false;

	for (unsigned n = 1; n < 60; n++) {
		stop();
		start(2);
		store_fake_call_nth(st, n, go_away, NULL);
		(void)pass();
		store_fake_call_nth(st, 0, NULL, NULL);
		store_fake_away(st, false);
		more |= n_held() > journal_n_free(k.j, IP_V4);
		for (unsigned i = 0; i < 3; i++) {
			k.refill_due_ms[0] = 0;
			pass_well();
		}
		ck_assert_uint_eq(n_held(), journal_n_free(k.j, IP_V4));
	}
	ck_assert(more);
}
END_TEST

static unsigned n_commits, lost_commit;

/* One write after the other, since nobody else writes. */
static int commit(struct store *to, struct store_txn *txn, int64_t deadline_ms, struct err *err)
{
	struct txn_item *it;
	int64_t rev = 1;

	txn_for_each (it, txn) {
		struct store_req rq = {.key = it->key,
			.value = it->put.value,
			.len = it->put.len,
			.deadline_ms = deadline_ms};
		struct store_list list;
		int r;

		if (!it->written)
			continue;
		rq.verb = !it->put.value ? STORE_DELETE : it->had.n ? STORE_UPDATE : STORE_CREATE;
		r = store_do_wait(to, &rq, &list, err);
		if (r < 0)
			return r;
		rev = list.rev > rev ? list.rev : rev;
		store_list_done(&list);
	}
	if (++n_commits == lost_commit)
		return err_set(err, -ETIMEDOUT, "the answer is lost");
	txn_committed(txn, rev);
	return 0;
}

/* The same with transactions, of which one has no answer, and is done again. */
START_TEST(finds_what_it_holds_twice)
{
	static struct store_ops ops;

	for (lost_commit = 1; lost_commit < 4; lost_commit++) {
		stop();
		start(2);
		ops = *st->ops;
		ops.txn_commit = commit;
		st->ops = &ops;
		n_commits = 0;
		for (unsigned i = 0; i < 4; i++)
			(void)pass();
		ck_assert_uint_gt(n_commits, lost_commit);
		ck_assert_uint_eq(n_held(), journal_n_free(k.j, IP_V4));
	}
}
END_TEST

/* What waits for what cannot be done is overtaken by nothing of the same endpoint. */
START_TEST(order_is_kept)
{
	static const char bad[] = V3 "workloadendpoints/bad/n1-k8s-bad-eth0",
			  web[] = WEPS "n1-k8s-web-eth0";
	struct ip a, b;

	pass_well();
	a = free_one(0);
	b = free_one(1);
	store_fake_refuse(st, V3 "workloadendpoints/bad/");
	ck_assert_int_eq(take(k.j, "c1", bad, &a, NULL), 0);
	give_back("c1", bad);
	ck_assert_int_eq(take(k.j, "c2", web, &a, NULL), 0);
	give_back("c2", web);
	ck_assert_int_eq(take(k.j, "c3", web, &b, NULL), 0);
	pass_well();
	ck_assert_uint_eq(journal_n_pending(k.j), 5);
	store_fake_refuse(st, NULL);
	pass_well();
	ck_assert_uint_eq(journal_n_pending(k.j), 0);
	ck_assert_ptr_nonnull(strstr(store_fake_value(st, web), "\"c3\""));
	ck_assert_str_eq(held_by(&b), "net.c3");
}
END_TEST

/* What cannot be read, or may not be, keeps no operation back, and is not the datastore's absence. */
START_TEST(others_faults)
{
	static const char web[] = WEPS "n1-k8s-web-eth0";

	pass_well();
	ck_assert_int_eq(take(k.j, "c1", web, NULL, NULL), 0);
	store_fake_put(st, IPAM_KEY_CONFIG, "nonsense");
	ck_assert_int_eq(pass(), -EINVAL);
	ck_assert_uint_eq(journal_n_pending(k.j), 0);
	ck_assert_ptr_nonnull(store_fake_value(st, web));
	give_back("c1", web);
	store_fake_put(st, IPAM_KEY_CONFIG, NULL);
	store_fake_refuse(st, V3 "ipreservations/");
	ck_assert_int_eq(pass(), -EACCES);
	ck_assert_uint_eq(journal_n_pending(k.j), 0);
	ck_assert_ptr_null(store_fake_value(st, web));
	store_fake_refuse(st, NULL);
	pass_well();
}
END_TEST

/* One that alone is not answered is put off; the others are done. */
START_TEST(one_is_slow)
{
	bool alone = false;

	for (unsigned n = 1; n < 30; n++) {
		int r;

		stop();
		start(2);
		pass_well();
		ck_assert_int_eq(take(k.j, "c1", WEPS "n1-k8s-web-eth0", NULL, NULL), 0);
		ck_assert_int_eq(take(k.j, "c2", WEPS "n1-k8s-db-eth0", NULL, NULL), 0);
		store_fake_fail_nth(st, n, -ETIMEDOUT);
		r = pass();
		store_fake_fail_nth(st, 0, 0);
		ck_assert(r < 0 || journal_n_pending(k.j) < 2);
		alone |= r == 0 && journal_n_pending(k.j) == 1;
		pass_well();
		ck_assert_uint_eq(journal_n_pending(k.j), 0);
	}
	ck_assert(alone);
}
END_TEST

/* What the monitor was told of is looked after in the next pass, though nothing is due. */
START_TEST(node_is_deleted)
{
	pass_well();
	store_fake_put(st, V3 "nodes/n1", NULL);
	ck_assert_int_eq(keeper_work(&k, NULL), 0);
	ck_assert_int_eq(take(k.j, "c1", NULL, NULL, NULL), 0);
	shared.node_deletions++;
	store_fake_away(st, true);
	ck_assert_int_eq(keeper_work(&k, NULL), -EHOSTUNREACH);
	ck_assert_uint_eq(shared.node_heeded, 0);
	store_fake_away(st, false);
	ck_assert_int_eq(keeper_work(&k, NULL), 0);
	ck_assert_uint_eq(shared.node_heeded, 1);
	ck_assert_int_eq(take(k.j, "c2", NULL, NULL, NULL), -ENOENT);
}
END_TEST

static struct journal *other;
static struct ip wanted;
static bool was_taken;

static void take_wanted(void *arg)
{
	(void)arg;
	was_taken |= take(other, "c2", NULL, &wanted, NULL) == 0;
}

/* An ADD takes what the keeper is about to have no more, before each of its calls. */
START_TEST(taken_meanwhile)
{
	was_taken = false;
	for (unsigned n = 1; n < 40; n++) {
		struct ip again;

		stop();
		start(2);
		pass_well();
		ck_assert_int_eq(journal_open(home.state_dir, true, &other, NULL), 0);
		wanted = free_one(0);
		ck_assert_int_eq(take(k.j, "c1", NULL, &wanted, NULL), 0);
		pass_well();
		ck_assert_int_eq(
			ipam_run_take(st, ipam_release_ip_new(&wanted, NULL, clock_real_ns()),
				clock_mono_ms() + 5000, NULL),
			0);
		give_back("c1", NULL);
		k.n_reserve = k.rp.n_reserve = 9; /* it is kept */
		store_fake_call_nth(st, n, take_wanted, NULL);
		(void)pass();
		store_fake_call_nth(st, 0, NULL, NULL);
		pass_well();
		ck_assert_int_eq(journal_refresh(other, NULL), 0);
		if (journal_taken_by(other, "net.c2")) {
			ck_assert_int_eq(take(other, "c2", NULL, NULL, &again), 0);
			ck_assert(ip_equal(&again, &wanted));
			ck_assert_str_eq(held_by(&wanted), "net.c2");
		} else {
			ck_assert_str_ne(held_by(&wanted), "net.c2");
		}
		journal_close(other);
	}
	ck_assert(was_taken);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("keeper");
	TCase *t = tcase_create("keeper");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, stop);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, comes_back);
	tcase_add_test(t, another_cluster);
	tcase_add_test(t, gives_back_later);
	tcase_add_test(t, finds_what_it_holds);
	tcase_add_test(t, finds_what_it_holds_twice);
	tcase_add_test(t, order_is_kept);
	tcase_add_test(t, others_faults);
	tcase_add_test(t, one_is_slow);
	tcase_add_test(t, node_is_deleted);
	tcase_add_test(t, taken_meanwhile);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
