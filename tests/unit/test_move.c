/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A datastore into another: what is done, what is refused, and that it goes on wherever it was stopped. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "ctl/check.h"
#include "ctl/move.h"
#include "fake/store_fake.h"
#include "store/lock.h"
#include "store/store.h"

#define R "/calico/resources/v3/projectcalico.org/"
#define IPAM "/calico/ipam/v2/"
#define META(name, uid)                                      \
	"\"metadata\":{\"name\":\"" name "\",\"uid\":\"" uid \
	"\",\"creationTimestamp\":\"2026-08-01T12:00:00Z\"}"
#define CLUSTER(ready)                                                                    \
	"{\"kind\":\"ClusterInformation\",\"apiVersion\":\"projectcalico.org/v3\"," META( \
		"default", "u1") ",\"spec\":{\"clusterGUID\":\"g\",\"datastoreReady\":" ready "}}"
#define BLOCK                                                                                    \
	"{\"cidr\":\"10.1.0.0/30\",\"affinity\":\"host:n1\",\"allocations\":[0,null,null,null]," \
	"\"unallocated\":[1,2,3],\"attributes\":[{\"handle_id\":\"net.c1\",\"secondary\":{"      \
	"\"namespace\":\"default\",\"node\":\"n1\",\"pod\":\"web\"}}],\"sequenceNumber\":7,"     \
	"\"sequenceNumberForAllocation\":{\"0\":6},\"deleted\":false}"
#define WEP                                                                             \
	"{\"kind\":\"WorkloadEndpoint\",\"apiVersion\":\"projectcalico.org/v3\"," META( \
		"n1-k8s-web-eth0", "u2") ",\"spec\":{\"node\":\"n1\",\"pod\":\"web\","  \
					 "\"ipNetworks\":[\"10.1.0.0/32\"]}}"

static const char *const objects[][2] = {
	{IPAM "assignment/ipv4/block/10.1.0.0-30", BLOCK},
	{IPAM "handle/net.c1", "{\"block\":{\"10.1.0.0/30\":1},\"deleted\":false}"},
	{IPAM "host/n1/ipv4/block/10.1.0.0-30", "{\"state\":\"confirmed\",\"deleted\":false}"},
	{R "bgppeers/p", "{\"kind\":\"BGPPeer\",\"spec\":{\"peerIP\":\"192.0.2.9\"}}"},
	{STORE_LOCK_KEY, CLUSTER("true")},
	{R "ippools/p",
		"{\"kind\":\"IPPool\"," META("p", "u3") ",\"spec\":{\"cidr\":\"10.1.0.0/24\","
							"\"blockSize\":30}}"},
	{R "nodes/n1", "{\"kind\":\"Node\"," META("n1", "u4") ",\"spec\":{}}"},
	{R "workloadendpoints/default/n1-k8s-web-eth0", WEP},
	{"/margay/v1/services/default/s", "{\"kind\":\"Service\"," META("s", "u5") "}"},
	{"/somebody/else", "{}"},
};

static struct store *filled(void)
{
	struct store *st = store_fake_new(NULL);

	for (size_t i = 0; i < array_size(objects); i++)
		store_fake_put(st, objects[i][0], objects[i][1]);
	return st;
}

static void read_all(struct store *st, struct snapshot *ret)
{
	struct err err = ERR_INIT;

	ck_assert_msg(snapshot_read(st, NULL, ret, &err) == 0, "%s", err.text);
}

static void plan(struct move *m)
{
	struct err err = ERR_INIT;

	ck_assert_msg(move_plan(m, &err) == 0, "%s", err.text);
}

static void check_equal(struct snapshot *from, struct store *to)
{
	struct snapshot there;
	const struct store_kv *kv;

	read_all(to, &there);
	ck_assert_uint_eq(there.v.n, from->v.n);
	vec_for_each (&from->v, kv) {
		if (strcmp(kv->key, STORE_LOCK_KEY) == 0)
			ck_assert_str_eq(store_fake_value(to, kv->key), CLUSTER("false"));
		else
			ck_assert_str_eq(store_fake_value(to, kv->key), kv->value);
	}
	snapshot_done(&there);
}

static size_t n_told, last_told;

static void on_progress(void *arg, size_t done, size_t total)
{
	(void)arg;
	ck_assert_uint_eq(total, array_size(objects) - 1);
	ck_assert_uint_eq(done, last_told + 1);
	last_told = done;
	n_told++;
}

START_TEST(everything_is_moved)
{
	struct store *old = filled(), *new = store_fake_new(NULL);
	struct snapshot from;
	struct move m = {.from = &from, .to = new, .progress = on_progress};

	read_all(old, &from);
	ck_assert_uint_eq(from.v.n, array_size(objects) - 1); /* what is not ours stays */
	plan(&m);
	ck_assert_uint_eq(m.steps.n, from.v.n);
	ck_assert_str_eq(m.steps.v[0].from->key, STORE_LOCK_KEY);
	ck_assert_int_eq(move_run(&m, NULL), 0);
	ck_assert_uint_eq(n_told, from.v.n);
	check_equal(&from, new);
	plan(&m);
	ck_assert_uint_eq(m.steps.n, 0);
	ck_assert_uint_eq(m.differs.n, 0);
	ck_assert_uint_eq(m.n_same, from.v.n);
	move_done(&m);
	snapshot_done(&from);
	store_close(old);
	store_close(new);
}
END_TEST

static void go_away(void *st)
{
	store_fake_away(st, true);
}

/* Away from the n-th operation on, which may have taken effect; then the same again. */
START_TEST(what_was_stopped_goes_on)
{
	unsigned n_ops = 100;

	for (unsigned n = 1; n <= n_ops; n++) {
		for (int lost = 0; lost < 2; lost++) {
			struct store *old = filled(), *new = store_fake_new(NULL);
			struct snapshot from;
			struct move m = {.from = &from, .to = new};
			struct err err = ERR_INIT;
			int r;

			read_all(old, &from);
			if (lost)
				store_fake_lose_nth(new, n);
			else
				store_fake_call_nth(new, n, go_away, new);
			r = move_plan(&m, &err);
			if (r == 0)
				r = move_run(&m, &err);
			if (n <= store_fake_op_count(new))
				ck_assert_int_lt(r, 0);
			n_ops = r == 0 ? store_fake_op_count(new) : n_ops;
			/* Nothing is there before the lock is. */
			if (store_fake_value(new, objects[0][0]) ||
				store_fake_value(new, objects[3][0]))
				ck_assert_str_eq(
					store_fake_value(new, STORE_LOCK_KEY), CLUSTER("false"));
			/* Who says that nothing was written has looked at both. */
			if (store_fake_value(new, STORE_LOCK_KEY))
				ck_assert_uint_gt(m.n_done + m.n_unsure, 0);
			store_fake_away(new, false);
			store_fake_call_nth(new, 0, NULL, NULL);
			store_fake_fail_nth(new, 0, 0);
			move_done(&m);
			plan(&m);
			ck_assert_uint_eq(m.differs.n, 0);
			ck_assert_int_eq(move_run(&m, NULL), 0);
			check_equal(&from, new);
			move_done(&m);
			snapshot_done(&from);
			store_close(old);
			store_close(new);
		}
	}
	ck_assert_uint_lt(n_ops, 100);
}
END_TEST

START_TEST(another_stores_objects_are_refused)
{
	struct store *old = filled(), *new = store_fake_new(NULL);
	struct snapshot from;
	struct move m = {.from = &from, .to = new};

	read_all(old, &from);
	store_fake_put(new, R "ippools/p",
		"{\"kind\":\"IPPool\"," META(
			"p", "other") ",\"spec\":{\"cidr\":\"10.1.0.0/24\",\"blockSize\":"
				      "30,\"disabled\":true}}");
	store_fake_put(new, R "ippools/q", "{\"kind\":\"IPPool\"}");
	/* The same, as a datastore with other uids has it. */
	store_fake_put(new, R "nodes/n1",
		"{\"kind\":\"Node\",\"metadata\":{\"uid\":\"x\",\"name\":\"n1\"},\"status\":{}}");
	plan(&m);
	ck_assert_uint_eq(m.differs.n, 2);
	ck_assert_str_eq(m.differs.v[0], R "ippools/p");
	ck_assert_str_eq(m.differs.v[1], R "ippools/q");
	ck_assert_uint_eq(m.n_same, 1);
	m.overwrite = true;
	plan(&m);
	ck_assert_uint_eq(m.differs.n, 0);
	ck_assert_int_eq(move_run(&m, NULL), 0);
	plan(&m);
	ck_assert_uint_eq(m.steps.n, 0);
	ck_assert_ptr_null(store_fake_value(new, R "ippools/q"));
	move_done(&m);
	snapshot_done(&from);
	store_close(old);
	store_close(new);
}
END_TEST

/* A writer died between the mark and the deletion: no list of what there is has such a record. */
START_TEST(a_record_that_is_marked_deleted_is_written_over)
{
	struct store *old = filled(), *new = store_fake_new(NULL);
	struct snapshot from;
	struct move m = {.from = &from, .to = new};

	read_all(old, &from);
	store_fake_put(new, IPAM "handle/net.c1", "{\"block\":{},\"deleted\":true}");
	plan(&m);
	ck_assert_int_eq(move_run(&m, NULL), 0);
	ck_assert_uint_eq(m.failed.n, 0);
	check_equal(&from, new);
	move_done(&m);
	snapshot_done(&from);
	store_close(old);
	store_close(new);
}
END_TEST

static void free_key(void *st)
{
	store_fake_put(st, R "ippools/p", NULL);
}

static void take_key(void *st)
{
	store_fake_put(st, R "ippools/p", "{\"kind\":\"IPPool\"}");
}

static void take_key_for_a_moment(void *st)
{
	take_key(st);
	store_fake_call_nth(st, 1, free_key, st);
}

START_TEST(a_key_that_is_taken_is_looked_at)
{
	for (int stays = 0; stays < 2; stays++) {
		struct store *old = store_fake_new(NULL), *new = store_fake_new(NULL);
		struct snapshot from;
		struct move m = {.from = &from, .to = new};

		store_fake_put(old, R "ippools/p", objects[5][1]);
		read_all(old, &from);
		plan(&m);
		store_fake_call_nth(new, 1, stays ? take_key : take_key_for_a_moment, new);
		ck_assert_int_eq(move_run(&m, NULL), 0);
		ck_assert_uint_eq(m.failed.n, stays ? 1 : 0);
		if (!stays)
			check_equal(&from, new);
		move_done(&m);
		snapshot_done(&from);
		store_close(old);
		store_close(new);
	}
}
END_TEST

/* What changed in the source since is taken along, and what others wrote to the target is theirs. */
START_TEST(a_later_pass_replaces_what_was_moved_alone)
{
	struct store *old = filled(), *new = store_fake_new(NULL);
	struct snapshot before, from;
	struct move m = {.from = &before, .to = new};

	read_all(old, &before);
	plan(&m);
	ck_assert_int_eq(move_run(&m, NULL), 0);
	store_fake_put(old, IPAM "handle/net.c1", "{\"block\":{\"10.1.0.0/30\":2}}");
	store_fake_put(old, R "workloadendpoints/default/n1-k8s-web-eth0", NULL);
	store_fake_put(new, R "bgppeers/p", "{\"kind\":\"BGPPeer\"}");
	store_fake_put(new, R "ippools/q", "{\"kind\":\"IPPool\"}");
	read_all(old, &from);
	m.from = &from;
	m.before = &before;
	plan(&m);
	ck_assert_uint_eq(m.steps.n, 2);
	ck_assert_int_eq(m.steps.v[0].verb, STORE_UPDATE);
	ck_assert_str_eq(m.steps.v[0].from->key, IPAM "handle/net.c1");
	ck_assert_int_eq(m.steps.v[1].verb, STORE_DELETE);
	ck_assert_uint_eq(m.differs.n, 2);
	ck_assert_str_eq(m.differs.v[0], R "bgppeers/p");
	ck_assert_str_eq(m.differs.v[1], R "ippools/q");
	move_done(&m);
	snapshot_done(&before);
	snapshot_done(&from);
	store_close(old);
	store_close(new);
}
END_TEST

START_TEST(a_status_that_is_not_written_is_told)
{
#define POOL \
	"{\"kind\":\"IPPool\"," META("p", "u3") ",\"spec\":{\"cidr\":\"10.1.0.0/24\"},\"status\":"
	struct store *old = store_fake_new(NULL), *new = store_fake_new(NULL);
	struct snapshot from;
	struct move m = {.from = &from, .to = new};

	store_fake_put(old, R "ippools/p", POOL "{\"conditions\":[{\"type\":\"Allocatable\"}]}}");
	read_all(old, &from);
	plan(&m);
	ck_assert_int_eq(move_run(&m, NULL), 0);
	plan(&m);
	ck_assert_uint_eq(m.n_same, 1);
	ck_assert_uint_eq(m.status.v.n, 0);
	store_fake_put(new, R "ippools/p", POOL "{}}"); /* as Kubernetes has it */
	plan(&m);
	ck_assert_uint_eq(m.n_same, 1);
	ck_assert_uint_eq(m.status.v.n, 1);
	ck_assert_str_eq(m.status.v.v[0].name, "ippools");
	ck_assert_uint_eq(m.status.v.v[0].n, 1);
	move_done(&m);
	snapshot_done(&from);
	store_close(old);
	store_close(new);
}
END_TEST

static volatile sig_atomic_t stop;

static void set_stop(void *arg)
{
	(void)arg;
	stop = 1;
}

START_TEST(a_signal_ends_it_between_two_lists)
{
	struct store *st = filled();
	struct snapshot s;

	store_fake_call_nth(st, 1, set_stop, NULL);
	ck_assert_int_eq(snapshot_read(st, &stop, &s, NULL), -ECANCELED);
	ck_assert_uint_eq(store_fake_op_count(st), 1);
	store_close(st);
}
END_TEST

START_TEST(a_signal_ends_it_between_two_writes)
{
	struct store *old = filled(), *new = store_fake_new(NULL);
	struct snapshot from;
	struct move m = {.from = &from, .to = new, .stop = &stop};

	read_all(old, &from);
	plan(&m);
	store_fake_call_nth(new, 1, set_stop, NULL);
	ck_assert_int_eq(move_run(&m, NULL), -ECANCELED);
	ck_assert_uint_eq(m.n_done, 1);
	move_done(&m);
	snapshot_done(&from);
	store_close(old);
	store_close(new);
}
END_TEST

static void write_file(char path[static 32], const char *text)
{
	int fd;

	strcpy(path, "/tmp/margay-move-XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

START_TEST(what_cannot_be_read_is_no_export)
{
	struct store *st = filled();
	struct snapshot s;
	struct err err = ERR_INIT;

	read_all(st, &s);
	ck_assert_int_eq(snapshot_check(&s, &err), 0);
	s.v.v[1].unreadable = s.v.v[3].unreadable = true;
	ck_assert_int_eq(snapshot_check(&s, &err), -EINVAL);
	ck_assert_str_eq(err.text,
		"2 objects cannot be read: mend or delete them; the first is /calico/ipam/v2/"
		"handle/net.c1: {\"block\":{\"10.1.0.0/30\":1},\"deleted\":false}");
	snapshot_done(&s);
	store_close(st);
}
END_TEST

START_TEST(an_export_is_read_back)
{
	struct store *old = filled();
	auto_free char *text = NULL;
	struct snapshot from, back;
	struct err err = ERR_INIT;
	char path[32];
	size_t len;
	FILE *f;

	store_fake_put(old, IPAM "host/n1/ipv4/block/10.1.0.4-30", "no JSON \"\xc3\xa4\"");
	store_fake_put(old, IPAM "host/n1/ipv4/block/10.1.0.8-30", "[1, 2]");
	store_fake_put(old, IPAM "handle/gone", "{\"block\":{},\"deleted\":true}");
	read_all(old, &from);
	f = open_memstream(&text, &len);
	ck_assert_int_eq(snapshot_print(&from, f, &err), 0);
	fclose(f);
	write_file(path, text);
	ck_assert_msg(snapshot_load(path, &back, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(back.v.n, from.v.n);
	for (size_t i = 0; i < back.v.n; i++) {
		ck_assert_str_eq(back.v.v[i].key, from.v.v[i].key);
		ck_assert_str_eq(back.v.v[i].value, from.v.v[i].value);
	}
	snapshot_done(&back);
	unlink(path);
	/* Without its last line. */
	text[len - 1] = '\0';
	*strrchr(text, '\n') = '\0';
	write_file(path, text);
	ck_assert_int_eq(snapshot_load(path, &back, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "is it whole?"));
	unlink(path);
	snapshot_done(&from);
	store_close(old);
}
END_TEST

static const struct {
	const char *text, *why;
} bad_files[] = {
	{"", "is empty"},
	{"kind: IPPool\n", "line 1: want what margayctl datastore export writes"},
	{"{\"datastore\":\"export\",\"version\":2,\"objects\":0}\n", "version 1"},
	{"{\"datastore\":\"export\",\"version\":1,\"objects\":1}\n{\"key\":\"/a\"}\n",
		"line 2: want an object"},
	{"{\"datastore\":\"export\",\"version\":1,\"objects\":1}\n{\"key\":\n", "line 2: "},
	{"{\"datastore\":\"export\",\"version\":1,\"objects\":2}\n{\"key\":\"/a\",\"value\":{}}\n"
	 "{\"key\":\"/a\",\"value\":{}}\n",
		"/a stands twice"},
};

START_TEST(a_file_that_is_no_export_is_named)
{
	for (size_t i = 0; i < array_size(bad_files); i++) {
		struct snapshot s;
		struct err err = ERR_INIT;
		char path[32];

		write_file(path, bad_files[i].text);
		ck_assert_int_eq(snapshot_load(path, &s, &err), -EINVAL);
		ck_assert_msg(strstr(err.text, bad_files[i].why), "%s", err.text);
		ck_assert_msg(strstr(err.text, path), "%s", err.text);
		unlink(path);
	}
}
END_TEST

/* However long it is: it is not taken into memory. */
START_TEST(a_line_that_is_too_long_is_refused)
{
	struct snapshot s;
	struct err err = ERR_INIT;
	char path[32];

	write_file(path, "");
	ck_assert_int_eq(truncate(path, 64 << 20), 0);
	ck_assert_int_eq(snapshot_load(path, &s, &err), -EINVAL);
	ck_assert_msg(strstr(err.text, "line 1: is longer than "), "%s", err.text);
	unlink(path);
}
END_TEST

static const struct {
	const char *key, *a, *b;
	bool same;
} pairs[] = {
	{R "ippools/p", "{\"spec\":{\"cidr\":\"10.0.0.0/8\"}}",
		"{\"metadata\":{\"uid\":\"u\",\"resourceVersion\":\"7\"},\"spec\":{\"cidr\":\"10.0.0.0/8\","
		"\"nodeSelector\":\"all()\",\"assignmentMode\":\"Automatic\"}}",
		true},
	{R "ippools/p", "{\"spec\":{\"cidr\":\"10.0.0.0/8\"}}",
		"{\"spec\":{\"cidr\":\"10.0.0.0/8\",\"disabled\":true}}", false},
	{R "ippools/p",
		"{\"spec\":{\"cidr\":\"10.0.0.0/8\"},\"status\":{\"conditions\":[{\"type\":\"A\"}]}}",
		"{\"spec\":{\"cidr\":\"10.0.0.0/8\"}}", true},
	{R "nodes/n", "{\"status\":{\"wireguardPublicKey\":\"k\"}}", "{}", false},
	{R "bgppeers/p", "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}", "{\"metadata\":{}}", false},
	{STORE_LOCK_KEY, CLUSTER("true"), CLUSTER("false"), true},
	{R "nodes/n", "{\"metadata\":{\"labels\":{\"a\":\"b\",\"own\":\"c\"}},\"spec\":{}}",
		"{\"metadata\":{\"labels\":{\"a\":\"x\",\"own\":\"c\",\"k\":\"l\"},\"annotations\":{"
		"\"projectcalico.org/kube-labels\":\"{\\\"a\\\":\\\"x\\\",\\\"k\\\":\\\"l\\\"}\"}},\"spec\":{"
		"\"orchRefs\":[{\"nodeName\":\"n\",\"orchestrator\":\"k8s\"}]}}",
		true},
	{R "nodes/n", "{\"spec\":{\"bgp\":{\"asNumber\":7}}}", "{\"spec\":{}}", false},
	{R "nodes/n", "{\"spec\":{\"addresses\":[{\"address\":\"192.0.2.1\"}]}}",
		"{\"spec\":{\"addresses\":[{\"address\":\"192.0.2.2\"}]}}", false},
	{R "nodes/n", "{\"spec\":{\"orchRefs\":[{\"nodeName\":\"n\"}]}}", "{\"spec\":{}}", false},
	{R "nodes/n", "{\"status\":{\"podCIDRs\":[\"10.1.0.0/24\"]}}", "{}", false},
	{IPAM "host/n/ipv4/block/10.1.0.0-30", "", "{\"state\":\"confirmed\",\"deleted\":false}",
		true},
	{IPAM "host/n/ipv4/block/10.1.0.0-30", "{\"state\":\"pending\"}",
		"{\"state\":\"confirmed\",\"deleted\":false}", false},
	{IPAM "config", "{\"auto_allocate_blocks\":true}",
		"{\"strict_affinity\":false,\"auto_allocate_blocks\":true}", true},
	{IPAM "handle/a", "{\"block\":{\"10.1.0.0/30\":1}}", "{\"block\":{\"10.1.0.0/30\":2}}",
		false},
};

START_TEST(what_a_datastore_sets_is_no_difference)
{
	for (size_t i = 0; i < array_size(pairs); i++) {
		struct store_kv a = {.key = (char *)(uintptr_t)pairs[i].key,
			.value = (char *)(uintptr_t)pairs[i].a,
			.len = strlen(pairs[i].a)};
		struct store_kv b = {.key = a.key,
			.value = (char *)(uintptr_t)pairs[i].b,
			.len = strlen(pairs[i].b)};

		ck_assert_msg(
			move_same(&a, &b, false) == pairs[i].same, "%s and %s", a.value, b.value);
		ck_assert(move_same(&b, &a, false) == pairs[i].same);
	}
}
END_TEST

/* One object other than in the table, and what is said then; value NULL: it is gone. */
static const struct {
	const char *key, *value, *said;
} damages[] = {
	{IPAM "handle/net.c1", NULL, "handle net.c1 does not exist, and block 10.1.0.0/30 has 1"},
	{IPAM "handle/net.c1", "{\"block\":{\"10.1.0.0/30\":2}}",
		"handle net.c1 counts 2 addresses of "
		"block 10.1.0.0/30, which has 1 of it"},
	{IPAM "handle/net.c2", "{\"block\":{\"10.1.0.0/30\":1}}",
		"handle net.c2 counts 1 addresses of block 10.1.0.0/30, which has 0"},
	{IPAM "handle/net.c2", "{\"block\":{}}", "handle net.c2 has no address"},
	{IPAM "assignment/ipv4/block/10.1.0.0-30", "{",
		"/calico/ipam/v2/assignment/ipv4/block/10.1.0.0-30 "
		"cannot be read"},
	{IPAM "assignment/ipv4/block/10.1.0.4-30", BLOCK, "10.1.0.4-30 holds block 10.1.0.0/30"},
	{IPAM "host/n1/ipv4/block/10.1.0.0-30", NULL,
		"block 10.1.0.0/30 is node n1's, which has no affinity"},
	{IPAM "host/n2/ipv4/block/10.1.0.0-30", "{\"state\":\"confirmed\"}",
		"node n2 has an affinity for block 10.1.0.0/30, which is node n1"},
	{IPAM "host/n2/ipv4/block/10.1.0.4-30", "{\"state\":\"confirmed\"}",
		"node n2 has an affinity for block 10.1.0.4/30, which does not exist"},
	{IPAM "host/n2/ipv4/block/10.1.0.4-30", "{\"state\":\"pending\"}", NULL},
	{IPAM "host/n1/ipv4/block/10.1.0.0-30", "{\"state\":\"pending\"}", NULL},
	{IPAM "host/n2/ipv4/block/10.1.0.0-30", "{\"state\":\"pending\"}", NULL},
	{R "workloadendpoints/default/n1-k8s-web-eth0", NULL,
		"10.1.0.0 was given to pod default/web, and no endpoint has it"},
	{R "workloadendpoints/default/n1-k8s-x-eth0",
		"{\"kind\":\"WorkloadEndpoint\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":"
		"\"n1-k8s-x-eth0\",\"namespace\":\"default\"},\"spec\":{\"ipNetworks\":[\"10.1.0.0/32\"]}}",
		"have 10.1.0.0 both"},
	{R "workloadendpoints/default/n1-k8s-x-eth0",
		"{\"kind\":\"WorkloadEndpoint\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":"
		"\"n1-k8s-x-eth0\",\"namespace\":\"default\"},\"spec\":{\"ipNetworks\":[\"10.1.0.2/32\"]}}",
		"endpoint default/n1-k8s-x-eth0 has 10.1.0.2, and no block gives it away"},
	{R "nodes/n9",
		"{\"kind\":\"Node\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":"
		"\"n9\"},\"spec\":{\"bgp\":{\"ipv4IPIPTunnelAddr\":\"10.1.0.9\"}}}",
		"the tunnel of node n9 has 10.1.0.9, and no block"},
	{R "nodes/n9",
		"{\"kind\":\"Node\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":"
		"\"n9\"},\"spec\":{\"wireguard\":{\"interfaceIPv4Address\":\"10.1.0.10\"}}}",
		"the tunnel of node n9 has 10.1.0.10, and no block"},
};

/* Kubernetes' Node, which may have no label by which it is known. */
START_TEST(what_kubernetes_has_of_a_node_is_no_difference_there)
{
	char node[] = R "nodes/n",
	     text[] = "{\"spec\":{\"addresses\":[{\"address\":\"192.0.2.1\"}]}}";
	char bare[] = "{\"spec\":{}}";
	struct store_kv a = {.key = node, .value = text, .len = strlen(text)};
	struct store_kv b = {.key = node, .value = bare, .len = strlen(bare)};

	ck_assert(move_same(&a, &b, true));
	ck_assert(!move_same(&a, &b, false));
}
END_TEST

START_TEST(records_that_do_not_agree_are_told)
{
	const char *prefixes[CHECK_N_PREFIXES];

	check_prefixes(prefixes);
	for (size_t i = 0; i <= array_size(damages); i++) {
		struct store *st = filled();
		struct snapshot all;
		struct check c;

		if (i > 0)
			store_fake_put(st, damages[i - 1].key, damages[i - 1].value);
		ck_assert_int_eq(
			snapshot_read_prefixes(st, prefixes, CHECK_N_PREFIXES, NULL, &all, NULL),
			0);
		/* of the peer and the Service it wants to know nothing */
		ck_assert_uint_le(all.v.n, 8);
		check_ipam(all.v.v, all.v.n, false, &c);
		if (i == 0 || !damages[i - 1].said) {
			ck_assert_msg(c.problems.n == 0, "%s", c.problems.v[0].text);
			ck_assert_uint_eq(c.n_addresses, 1);
		} else {
			bool said = false;

			for (size_t k = 0; k < c.problems.n; k++)
				said |= strstr(c.problems.v[k].text, damages[i - 1].said) != NULL;
			ck_assert_msg(said, "%s: got %s", damages[i - 1].said,
				c.problems.n ? c.problems.v[0].text : "nothing");
		}
		check_done(&c);
		snapshot_done(&all);
		store_close(st);
	}
}
END_TEST

START_TEST(a_lock_is_seen_and_set)
{
	struct store *st = filled();
	struct err err = ERR_INIT;
	enum store_lock lock;

	ck_assert_int_eq(store_lock_check_wait(st, 0, &lock, &err), 0);
	ck_assert_int_eq(lock, STORE_OPEN);
	ck_assert_int_eq(store_lock_set_wait(st, true, 0, &err), 1);
	ck_assert_int_eq(store_lock_set_wait(st, true, 0, &err), 0);
	ck_assert_str_eq(store_fake_value(st, STORE_LOCK_KEY), CLUSTER("false"));
	ck_assert_int_eq(store_lock_check_wait(st, 0, &lock, &err), -EHOSTUNREACH);
	ck_assert_int_eq(lock, STORE_LOCKED);
	ck_assert_ptr_nonnull(strstr(err.text, "margayctl datastore unlock"));
	ck_assert_int_eq(store_lock_set_wait(st, false, 0, &err), 1);
	ck_assert_str_eq(store_fake_value(st, STORE_LOCK_KEY), CLUSTER("true"));
	store_fake_put(st, STORE_LOCK_KEY, NULL);
	ck_assert_int_eq(store_lock_check_wait(st, 0, &lock, &err), 0);
	ck_assert_int_eq(lock, STORE_UNUSED);
	ck_assert_int_eq(store_lock_set_wait(st, true, 0, &err), -ENOENT);
	store_fake_away(st, true);
	ck_assert_int_eq(store_lock_check_wait(st, 0, &lock, &err), -EHOSTUNREACH);
	ck_assert_int_ne(lock, STORE_LOCKED);
	ck_assert_int_eq(store_lock_make_wait(st, 0, &err), -EHOSTUNREACH);
	store_fake_away(st, false);
	/* made where there is none; and an answer that is lost is looked for */
	store_fake_lose_nth(st, 2);
	ck_assert_int_eq(store_lock_make_wait(st, 0, &err), 1);
	ck_assert_int_eq(store_lock_check_wait(st, 0, &lock, &err), -EHOSTUNREACH);
	ck_assert_int_eq(store_lock_make_wait(st, 0, &err), 0);
	store_fake_lose_nth(st, 2);
	ck_assert_int_eq(store_lock_set_wait(st, false, 0, &err), 1);
	store_close(st);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("move");
	TCase *tc = tcase_create("move");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, tc);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, everything_is_moved);
	tcase_add_test(tc, what_was_stopped_goes_on);
	tcase_add_test(tc, another_stores_objects_are_refused);
	tcase_add_test(tc, a_record_that_is_marked_deleted_is_written_over);
	tcase_add_test(tc, a_key_that_is_taken_is_looked_at);
	tcase_add_test(tc, a_later_pass_replaces_what_was_moved_alone);
	tcase_add_test(tc, a_status_that_is_not_written_is_told);
	tcase_add_test(tc, a_signal_ends_it_between_two_lists);
	tcase_add_test(tc, a_signal_ends_it_between_two_writes);
	tcase_add_test(tc, what_cannot_be_read_is_no_export);
	tcase_add_test(tc, an_export_is_read_back);
	tcase_add_test(tc, a_file_that_is_no_export_is_named);
	tcase_add_test(tc, a_line_that_is_too_long_is_refused);
	tcase_add_test(tc, what_a_datastore_sets_is_no_difference);
	tcase_add_test(tc, what_kubernetes_has_of_a_node_is_no_difference_there);
	tcase_add_test(tc, records_that_do_not_agree_are_told);
	tcase_add_test(tc, a_lock_is_seen_and_set);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed > 0;
}
