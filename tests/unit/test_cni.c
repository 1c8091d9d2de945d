/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The CNI verbs and the lock of a datastore that is being moved. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cni/call.h"
#include "cni/ctx.h"
#include "fake/store_fake.h"
#include "store/lock.h"
#include "store/store.h"

#define R "/calico/resources/v3/projectcalico.org/"
#define BLOCK_KEY "/calico/ipam/v2/assignment/ipv4/block/10.1.0.0-30"
#define WEP_KEY R "workloadendpoints/default/n1-k8s-web-eth0"
#define CLUSTER(ready) "{\"kind\":\"ClusterInformation\",\"spec\":{\"datastoreReady\":" ready "}}"

static struct store *filled(void)
{
	struct store *st = store_fake_new(NULL);

	store_fake_put(st, STORE_LOCK_KEY, CLUSTER("true"));
	store_fake_put(st, R "ippools/p",
		"{\"kind\":\"IPPool\",\"metadata\":{\"name\":\"p\"},\"spec\":{\"cidr\":\"10.1.0.0/30\","
		"\"blockSize\":30}}");
	return st;
}

static const struct cni_request request = {.nl_fd = -1, .netns_fd = -1};

static struct call call_of(struct cni_conf *conf, struct store *st)
{
	return (struct call){.rq = &request,
		.conf = conf,
		.deadline_ms = clock_mono_ms() + CALL_TIMEOUT_MS,
		.container_id = "c1",
		.ifname = "eth0",
		.node = (char *)(uintptr_t) "n1",
		.handle = (char *)(uintptr_t) "net.c1",
		.wep_key = (char *)(uintptr_t)WEP_KEY,
		.k8s = true,
		.args = {.pod = (char *)(uintptr_t) "web"},
		.namespace = "default",
		.veth = "margay-no-such",
		.st = st};
}

/* Somebody has an address of the block. */
static bool is_used(const char *block)
{
	return block && strstr(block, "\"handle_id\":\"net.c1\"");
}

struct mover {
	struct store *st;
	bool moved, used; /* the address, in what is read once it is locked */
};

static void lock_and_read(void *arg)
{
	struct mover *m = arg;

	store_fake_put(m->st, STORE_LOCK_KEY, CLUSTER("false"));
	m->moved = true;
	m->used = is_used(store_fake_value(m->st, BLOCK_KEY));
}

/* Locked, and read, before each operation in turn: what succeeds was read, what fails is undone. */
START_TEST(what_is_written_beside_a_lock_is_read_or_undone)
{
	bool failed = false, done = false;

	for (unsigned n = 1; !done; n++) {
		struct mover m = {.st = filled()};
		struct cni_conf conf = {.name = (char *)(uintptr_t) "net", .assign_v4 = true};
		struct call c = call_of(&conf, m.st);
		struct strbuf out = STRBUF_INIT;
		struct err err = ERR_INIT;
		int r;

		store_fake_call_nth(m.st, n, lock_and_read, &m);
		r = call_ipam_add(&c, &out, &err);
		ck_assert_int_eq(is_used(store_fake_value(m.st, BLOCK_KEY)), r == 0);
		if (r != 0)
			ck_assert_ptr_nonnull(strstr(err.text, "is locked"));
		else
			ck_assert(!m.moved || m.used);
		failed |= r != 0;
		done = !m.moved;
		strbuf_done(&out);
		store_close(m.st);
		ck_assert_uint_lt(n, 100);
	}
	ck_assert(failed);
}
END_TEST

/* What is deleted after the lock is deleted once more, where it is moved to. */
START_TEST(a_deletion_beside_a_lock_comes_again)
{
	bool done = false;

	for (unsigned n = 1; !done; n++) {
		struct mover m = {.st = filled()};
		struct cni_conf conf = {.name = (char *)(uintptr_t) "net", .assign_v4 = true};
		struct call c = call_of(&conf, m.st);
		struct strbuf out = STRBUF_INIT;
		struct err err = ERR_INIT;
		int r;

		ck_assert_int_eq(call_ipam_add(&c, &out, &err), 0);
		store_fake_call_nth(m.st, n, lock_and_read, &m);
		r = call_ipam_del(&c, &err);
		if (r == 0)
			ck_assert(!m.used);
		done = !m.moved;
		strbuf_done(&out);
		store_close(m.st);
		ck_assert_uint_lt(n, 100);
	}
}
END_TEST

/* It may be locked: nothing is written. */
START_TEST(where_the_lock_cannot_be_read_nothing_is_released)
{
	struct store *st = filled();
	struct cni_conf conf = {.name = (char *)(uintptr_t) "net", .assign_v4 = true};
	struct call c = call_of(&conf, st);
	struct strbuf out = STRBUF_INIT;
	struct err err = ERR_INIT;

	c.ctx = cni_ctx_new(NULL);
	ck_assert_int_eq(call_ipam_add(&c, &out, &err), 0);
	store_fake_refuse(st, STORE_LOCK_KEY);
	ck_assert_int_eq(call_del(&c, &err), CNI_E_STORE);
	ck_assert(is_used(store_fake_value(st, BLOCK_KEY)));
	store_fake_refuse(st, NULL);
	ck_assert_int_eq(call_del(&c, &err), 0);
	ck_assert(!is_used(store_fake_value(st, BLOCK_KEY)));
	strbuf_done(&out);
	cni_ctx_free(c.ctx);
	store_close(st);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cni");
	TCase *tc = tcase_create("cni");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, tc);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, what_is_written_beside_a_lock_is_read_or_undone);
	tcase_add_test(tc, a_deletion_beside_a_lock_comes_again);
	tcase_add_test(tc, where_the_lock_cannot_be_read_nothing_is_released);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed > 0;
}
