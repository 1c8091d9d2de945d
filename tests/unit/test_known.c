/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An ADD by what is known of the datastore, where others change it and nobody has told of that yet. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cni/call.h"
#include "cni/cni.h"
#include "cni/premises.h"
#include "cni/shared.h"
#include "fake/store_fake.h"
#include "ipam/block.h"
#include "model/ipam.h"
#include "store/lock.h"
#include "store/store.h"

#define R "/calico/resources/v3/projectcalico.org/"
#define POOL R "ippools/p"
#define SECOND R "ippools/q"
#define RESERVATION R "ipreservations/r"
#define BLOCK IPAM_KEY_BLOCKS "ipv4/block/10.1.0.0-30"
#define AFFINITY IPAM_KEY_AFFINITIES "n1/ipv4/block/10.1.0.0-30"
#define CLUSTER(ready) "{\"kind\":\"ClusterInformation\",\"spec\":{\"datastoreReady\":" ready "}}"
#define POOL_OF(cidr, more) \
	"{\"kind\":\"IPPool\",\"spec\":{\"cidr\":\"" cidr "\",\"blockSize\":30" more "}}"

static struct store *st;
static struct store_told told;
static struct premises_prefixes prefixes;

static const char *const keys[] = {IPAM_KEY_CONFIG, AFFINITY,
	IPAM_KEY_AFFINITIES "n1/ipv4/block/10.2.0.0-30", STORE_LOCK_KEY, POOL, SECOND, RESERVATION};

/* What the datastore has now is what the next ADDs are told. */
static void tell(void)
{
	store_list_done(&told.list);
	for (size_t i = 0; i < array_size(keys); i++) {
		const char *value = store_fake_value(st, keys[i]);
		struct store_kv kv = {.key = (char *)(uintptr_t)keys[i],
			.value = (char *)(uintptr_t)value,
			.len = value ? strlen(value) : 0,
			.rev = store_fake_rev(st, keys[i])};

		if (value)
			store_list_add_take(&told.list, store_kv_copy(&kv));
	}
}

static bool find(void *arg, struct store_told *ret)
{
	(void)arg;
	*ret = told;
	ret->list = (struct store_list){0};
	for (size_t i = 0; i < told.list.n; i++)
		store_list_add_take(&ret->list, store_kv_copy(&told.list.v[i]));
	return true;
}

static void setup(void)
{
	premises_prefixes("n1", &prefixes);
	told = (struct store_told){.prefixes = prefixes.v, .n_prefixes = PREMISES_N, .life = 1};
	st = store_fake_new(NULL);
	store_fake_manage(st);
	store_fake_put(st, STORE_LOCK_KEY, CLUSTER("true"));
	store_fake_put(st, POOL, POOL_OF("10.1.0.0/30", ""));
}

static void teardown(void)
{
	store_list_done(&told.list);
	store_close(st);
}

static struct call call_of(const struct cni_request *rq, struct cni_conf *conf, const char *handle)
{
	return (struct call){.rq = rq,
		.conf = conf,
		.deadline_ms = clock_mono_ms() + CALL_TIMEOUT_MS,
		.container_id = "c1",
		.ifname = "eth0",
		.node = (char *)(uintptr_t) "n1",
		.handle = (char *)(uintptr_t)handle,
		.namespace = "default",
		.st = st};
}

/* Returns a code; the result, or what went wrong, in text. */
static int add(const char *handle, char text[static 600])
{
	static const struct told_source source = {.find = find};
	const struct cni_request rq = {.nl_fd = -1, .netns_fd = -1, .peer_fd = -1, .told = &source};
	struct cni_conf conf = {.name = (char *)(uintptr_t) "net", .assign_v4 = true};
	struct call c = call_of(&rq, &conf, handle);
	struct strbuf out = STRBUF_INIT;
	struct err err = ERR_INIT;
	int r = call_ipam_add(&c, &out, &err);

	snprintf(text, 600, "%s", r == 0 ? out.s : err.text);
	strbuf_done(&out);
	return r;
}

static void gives(const char *handle, const char *address, unsigned n_ops)
{
	unsigned before = store_fake_op_count(st);
	auto_free char *want = mem_printf("\"%s/32\"", address);
	char text[600];
	int r = add(handle, text);

	ck_assert_msg(r == 0, "%s: %s", handle, text);
	ck_assert_msg(strstr(text, want), "%s: %s", handle, text);
	if (n_ops > 0)
		ck_assert_uint_eq(store_fake_op_count(st) - before, n_ops);
}

static void refuses(const char *handle, const char *why)
{
	char text[600];

	ck_assert_int_ne(add(handle, text), 0);
	ck_assert_msg(strstr(text, why), "%s", text);
}

static void del(const char *handle)
{
	struct cni_conf conf = {.name = (char *)(uintptr_t) "net"};
	const struct cni_request rq = {.nl_fd = -1, .netns_fd = -1, .peer_fd = -1};
	struct call c = call_of(&rq, &conf, handle);

	ck_assert_int_eq(call_ipam_del(&c, NULL), 0);
}

/* By another process: takes the address for a handle (NULL: gives it back). */
static void behind(const char *address, const char *handle)
{
	const char *text = store_fake_value(st, BLOCK);
	struct ipam_block *b;
	struct ip ip;

	ck_assert_int_eq(ip_parse(address, &ip, NULL), 0);
	ck_assert_int_eq(ipam_block_decode(text, strlen(text), &b, NULL), 0);
	if (handle)
		ck_assert_int_eq(block_assign(b, &ip, handle, NULL, 0, NULL), 0);
	else
		ck_assert_int_eq(block_release(b, &ip, NULL, 0, clock_real_ns(), NULL), 0);
	block_bump(b);
	auto_free char *new = ipam_block_encode(b);

	store_fake_put(st, BLOCK, new);
	ipam_block_free(b);
}

static size_t n_of(const char *key, const char *text)
{
	const char *s = store_fake_value(st, key);
	size_t n = 0;

	while (s && (s = strstr(s, text))) {
		s++;
		n++;
	}
	return n;
}

/* The block is claimed, and one address is in use; of this all is told. */
static void warm(void)
{
	gives("net.c0", "10.1.0.0", 0);
	tell();
}

START_TEST(two_writes_and_the_lock)
{
	tell();
	warm();
	gives("net.c1", "10.1.0.1", 3);
	gives("net.c2", "10.1.0.2", 3);
	store_fake_put(st, SECOND, POOL_OF("10.2.0.0/30", ""));
	tell();
	gives("net.c3", "10.1.0.3", 3);
	gives("net.c4", "10.2.0.0", 0);
	tell();
	/* The first block is full, by what was read a moment ago; the next time it is read anew. */
	gives("net.c5", "10.2.0.1", 3);
	gives("net.c6", "10.2.0.2", 4);
	gives("net.c7", "10.2.0.3", 3);
}
END_TEST

START_TEST(what_others_have_taken_is_not_given)
{
	warm();
	behind("10.1.0.1", "other");
	/* The handle, the block in vain, the block as it is, both, and the lock. */
	gives("net.c1", "10.1.0.2", 6);
	gives("net.c2", "10.1.0.3", 3);
	ck_assert_uint_eq(n_of(BLOCK, "\"other\""), 1);
	refuses("net.c3", "no address is free");
	ck_assert_ptr_null(store_fake_value(st, IPAM_KEY_HANDLES "net.c3"));
}
END_TEST

START_TEST(what_others_have_given_back_is_found)
{
	warm();
	gives("net.c1", "10.1.0.1", 3);
	gives("net.c2", "10.1.0.2", 3);
	gives("net.c3", "10.1.0.3", 3);
	behind("10.1.0.2", NULL);
	gives("net.c4", "10.1.0.2", 0);
}
END_TEST

START_TEST(a_handle_that_is_there_has_its_address)
{
	warm();
	gives("net.c1", "10.1.0.1", 3);
	gives("net.c1", "10.1.0.1", 0);
	ck_assert_uint_eq(n_of(BLOCK, "\"net.c1\""), 1);
	del("net.c1");
	ck_assert_ptr_null(store_fake_value(st, IPAM_KEY_HANDLES "net.c1"));
}
END_TEST

START_TEST(what_was_told_is_heeded)
{
	warm();
	store_fake_put(st, POOL, POOL_OF("10.1.0.0/30", ",\"disabled\":true"));
	tell();
	refuses("net.c1", "no enabled IPv4 pool");
	store_fake_put(st, POOL, POOL_OF("10.1.0.0/30", ""));
	/* Nobody has told of it: it is found all the same. */
	gives("net.c1", "10.1.0.1", 0);
	store_fake_put(st, RESERVATION,
		"{\"kind\":\"IPReservation\",\"spec\":{\"reservedCIDRs\":[\"10.1.0.2/32\"]}}");
	tell();
	gives("net.c2", "10.1.0.3", 3);
	store_fake_put(st, SECOND, POOL_OF("10.2.0.0/30", ""));
	store_fake_put(st, POOL, NULL);
	gives("net.c3", "10.2.0.0", 0);
	tell();
	gives("net.c4", "10.2.0.1", 0);
	gives("net.c5", "10.2.0.2", 3);
	store_fake_put(st, STORE_LOCK_KEY, CLUSTER("false"));
	refuses("net.c6", "is locked");
	ck_assert_ptr_null(store_fake_value(st, IPAM_KEY_HANDLES "net.c6"));
	tell();
	refuses("net.c6", "is locked");
	store_fake_put(st, STORE_LOCK_KEY, CLUSTER("true"));
	gives("net.c6", "10.2.0.3", 0);
}
END_TEST

/* Taken from this node by another one, which nobody has told of. */
START_TEST(a_block_that_is_gone_is_claimed_anew)
{
	warm();
	del("net.c0");
	store_fake_put(st, BLOCK, NULL);
	store_fake_put(st, AFFINITY, NULL);
	gives("net.c1", "10.1.0.0", 0);
	ck_assert_uint_eq(n_of(AFFINITY, "\"confirmed\""), 1);
	ck_assert_uint_eq(n_of(IPAM_KEY_HANDLES "net.c1", "\"10.1.0.0/30\":1"), 1);
}
END_TEST

/* Another datastore under the address has the block at a revision that this one has had. */
START_TEST(of_another_life_no_block_is_known)
{
	warm();
	told.life = 2;
	gives("net.c1", "10.1.0.1", 4);
	gives("net.c2", "10.1.0.2", 3);
}
END_TEST

static bool is_told(const struct premises *p, struct store_told *ret)
{
	struct strbuf text = STRBUF_INIT;
	bool known = premises_write(p, &text);

	if (known)
		ck_assert(premises_read(text.s, text.len, ret));
	strbuf_done(&text);
	return known;
}

/* Until it is told, or not any more. Its life, or 0; and how many objects. */
static uint64_t run_until(const struct premises *p, bool known, size_t *ret_n)
{
	struct store_told ret = {0};

	while (is_told(p, &ret) != known || !store_fake_idle(st)) {
		store_list_done(&ret.list);
		ret.life = 0;
		event_base_loop(store_base(st), EVLOOP_ONCE);
	}
	*ret_n = ret.list.n;
	store_list_done(&ret.list);
	return ret.life;
}

/* What is found when the watches run again may be an older copy, or another datastore. */
START_TEST(a_life_ends_with_the_watches)
{
	struct cni_shared shared = {0};
	const struct cni_home home = {.node = "n1",
		.shared = &shared,
		.keeper_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	struct premises *p = premises_new(st, &home);
	uint64_t life;
	size_t n;

	life = run_until(p, true, &n);
	ck_assert_uint_eq(n, 2);
	store_fake_put(st, SECOND, POOL_OF("10.2.0.0/30", ""));
	ck_assert_uint_eq(run_until(p, true, &n), life);
	ck_assert_uint_eq(n, 3);
	store_fake_deaf(st, true);
	ck_assert_uint_eq(run_until(p, false, &n), 0);
	store_fake_deaf(st, false);
	ck_assert_uint_ne(run_until(p, true, &n), life);
	ck_assert_uint_eq(n, 3);
	premises_free(p);
	close(home.keeper_fd);
}
END_TEST

/* Also where that was before the first list. */
START_TEST(the_nodes_deletion_is_counted)
{
	struct cni_shared shared = {0};
	const struct cni_home home = {.node = "n1",
		.shared = &shared,
		.keeper_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	struct premises *p;
	char key[KEY_SIZE];
	size_t n;

	key_format(KIND_NODE, NULL, "n1", key);
	store_fake_put(st, key, "{\"metadata\":{\"name\":\"n1\"}}");
	p = premises_new(st, &home);
	(void)run_until(p, true, &n);
	ck_assert_uint_eq(shared.node_deletions, 0);
	store_fake_put(st, key, NULL);
	(void)run_until(p, true, &n);
	ck_assert_uint_eq(shared.node_deletions, 1);
	premises_free(p);
	p = premises_new(st, &home);
	(void)run_until(p, true, &n);
	ck_assert_uint_eq(shared.node_deletions, 2);
	premises_free(p);
	close(home.keeper_fd);
}
END_TEST

static bool is_locked, was_used;

static void lock_and_read(void *arg)
{
	(void)arg;
	store_fake_put(st, STORE_LOCK_KEY, CLUSTER("false"));
	is_locked = true;
	was_used = n_of(BLOCK, "\"net.c1\"") > 0;
}

/* Locked, and read, before each operation in turn, of which nobody has told. */
START_TEST(what_is_written_beside_a_lock_is_read_or_undone)
{
	bool failed = false, succeeded = false;

	is_locked = true;
	for (unsigned n = 1; is_locked; n++) {
		char text[600];
		int r;

		warm();
		is_locked = was_used = false;
		store_fake_call_nth(st, n, lock_and_read, NULL);
		r = add("net.c1", text);
		ck_assert_uint_eq(n_of(BLOCK, "\"net.c1\""), r == 0);
		ck_assert(r != 0 ? strstr(text, "is locked") != NULL : !is_locked || was_used);
		failed |= r != 0;
		succeeded = r == 0;
		teardown();
		setup();
	}
	ck_assert(failed && succeeded);
}
END_TEST

static const int failures[] = {-EHOSTUNREACH, -ETIMEDOUT, -EACCES, 0};

/* Whichever operation fails, or is done without an answer (0), ADD again gives one address, and DEL leaves nothing. */
START_TEST(whatever_fails_may_be_done_again)
{
	bool reached = true;

	for (unsigned n = 1; reached; n++) {
		unsigned before;
		char text[600];

		warm();
		behind("10.1.0.1", "other");
		before = store_fake_op_count(st);
		if (failures[_i])
			store_fake_fail_nth(st, n, failures[_i]);
		else
			store_fake_lose_nth(st, n);
		(void)add("net.c1", text);
		reached = store_fake_op_count(st) - before >= n;
		store_fake_fail_nth(st, 0, 0);
		ck_assert_int_eq(add("net.c1", text), 0);
		ck_assert_uint_eq(n_of(BLOCK, "\"net.c1\""), 1);
		del("net.c1");
		ck_assert_uint_eq(n_of(BLOCK, "\"net.c1\""), 0);
		ck_assert_uint_eq(n_of(BLOCK, "\"other\""), 1);
		ck_assert_ptr_null(store_fake_value(st, IPAM_KEY_HANDLES "net.c1"));
		ck_assert_uint_lt(n, 30);
		teardown();
		setup();
	}
}
END_TEST

START_TEST(what_is_cut_off_is_not_told)
{
	static const char key[] = "/k", value[] = "v";
	struct strbuf whole = STRBUF_INIT;
	const uint64_t life = 7;
	struct store_told ret;
	const struct {
		int64_t rev;
		uint32_t key_len, value_len;
	} head = {5, 2, 1};

	strbuf_addn(&whole, &life, sizeof(life));
	for (int i = 0; i < 2; i++) {
		strbuf_addn(&whole, &head, sizeof(head));
		strbuf_add(&whole, key);
		strbuf_add(&whole, value);
	}
	for (size_t n = 0; n <= whole.len; n++) {
		bool is_whole = n == 8 || n == 8 + 19 || n == whole.len;

		ck_assert_int_eq(premises_read(whole.s, n, &ret), is_whole);
		if (is_whole) {
			ck_assert_uint_eq(ret.life, 7);
			ck_assert_uint_eq(ret.list.n, (n - 8) / 19);
		}
		store_list_done(&ret.list);
	}
	strbuf_done(&whole);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("known");
	TCase *tc = tcase_create("known");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, tc);
	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, two_writes_and_the_lock);
	tcase_add_test(tc, what_others_have_taken_is_not_given);
	tcase_add_test(tc, what_others_have_given_back_is_found);
	tcase_add_test(tc, a_handle_that_is_there_has_its_address);
	tcase_add_test(tc, what_was_told_is_heeded);
	tcase_add_test(tc, a_block_that_is_gone_is_claimed_anew);
	tcase_add_test(tc, of_another_life_no_block_is_known);
	tcase_add_test(tc, a_life_ends_with_the_watches);
	tcase_add_test(tc, the_nodes_deletion_is_counted);
	tcase_add_test(tc, what_is_written_beside_a_lock_is_read_or_undone);
	tcase_add_loop_test(tc, whatever_fails_may_be_done_again, 0, array_size(failures));
	tcase_add_test(tc, what_is_cut_off_is_not_told);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed > 0;
}
