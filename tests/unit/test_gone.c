/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who gives back what a node has left that is gone, and when, by a clock that the test sets. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/vec.h"
#include "cni/boot.h"
#include "cni/cni.h"
#include "cni/gone.h"
#include "cni/shared.h"
#include "fake/store_fake.h"
#include "ipam/alloc.h"
#include "ipam/run.h"
#include "model/ipam.h"
#include "store/store.h"
#include "unit/test_dir.h"

#define R "/calico/resources/v3/projectcalico.org/"

enum {
	AFTER_S = 18000,
	HOUR_S = 3600,
	LOOK_S = 900,	 /* between two looks */
	AGAIN_MS = 5000, /* between two questions for a node whose addresses are given back */
	N_NODES = 6,
	N_LOOKERS = 4,
};

static int64_t uptime_s, mono_ms;
static VEC(struct gone *) looks; /* of keepers that have ended */

int64_t boot_uptime_s(void)
{
	return uptime_s;
}

void boot_id(char ret[static BOOT_ID_SIZE])
{
	snprintf(ret, BOOT_ID_SIZE, "of-the-test");
}

int64_t clock_mono_ms(void)
{
	return mono_ms;
}

int64_t clock_real_ns(void)
{
	return 0;
}

void clock_rfc3339(int64_t real_ns, char buf[static CLOCK_RFC3339_SIZE])
{
	(void)real_ns;
	snprintf(buf, CLOCK_RFC3339_SIZE, "1970-01-01T00:00:00Z");
}

static void put_node(struct store *st, const char *name)
{
	auto_free char *key = mem_printf(R "nodes/%s", name);
	auto_free char *value =
		mem_printf("{\"kind\":\"Node\",\"metadata\":{\"name\":\"%s\"},\"spec\":{}}", name);

	store_fake_put(st, key, value);
}

static void take(struct store *st, const char *host, const char *handle)
{
	const struct ipam_attr attrs[] = {{"node", host}};
	const struct ipam_assign a = {.host = host,
		.handle = handle,
		.attrs = attrs,
		.n_attrs = 1,
		.v4 = true,
		.now_ns = clock_real_ns()};
	struct ipam_request *rq = ipam_assign_new(&a);
	struct err err = ERR_INIT;

	ck_assert_msg(ipam_run(st, rq, 0, &err) == 0, "%s", err.text);
	ipam_request_free(rq);
}

/* Nodes n0, n1, ... and what n9 has left. */
static struct store *filled(void)
{
	struct store *st = store_fake_new(NULL);

	store_fake_put(st, R "ippools/p",
		"{\"kind\":\"IPPool\",\"metadata\":{\"name\":\"p\"},\"spec\":{\"cidr\":\"10.1.0.0/24\","
		"\"blockSize\":28}}");
	/* They come in no order. */
	for (int i = N_NODES; i-- > 0;)
		put_node(st, (char[]){'n', (char)('0' + i), '\0'});
	take(st, "n1", "kept");
	take(st, "n9", "left");
	return st;
}

static bool has(struct store *st, const char *handle)
{
	auto_free char *key = mem_printf(IPAM_KEY_HANDLES "%s", handle);

	return store_fake_value(st, key) != NULL;
}

/* Of a keeper that has just begun, as the next look would be only in a quarter of an hour. Until that, in s. */
static int64_t look(const struct cni_home *home, struct store *st)
{
	struct gone *g = gone_new(home, AFTER_S);
	struct err err = ERR_INIT;

	ck_assert_msg(gone_work(g, st, &err) == 0, "%s", err.text);
	vec_push(&looks, g);
	return (gone_due_ms(g) - clock_mono_ms() + 500) / 1000;
}

/* _i: which of the nodes by name; the others are off. */
START_TEST(each_looker_waits_an_hour_longer)
{
	const int64_t due_s = AFTER_S + _i * HOUR_S;
	struct cni_shared shared = {0};
	struct store *st = filled();
	const char name[] = {'n', (char)('0' + _i), '\0'};
	const struct cni_home home = {.node = name, .state_dir = test_dir(), .shared = &shared};

	for (uptime_s = 1000; uptime_s < 1000 + due_s; uptime_s += LOOK_S) {
		ck_assert_int_eq(look(&home, st), LOOK_S);
		ck_assert_msg(has(st, "left"), "after %jd s", (intmax_t)uptime_s);
	}
	(void)look(&home, st);
	ck_assert(!has(st, "left"));
	ck_assert(has(st, "kept"));
	ck_assert_uint_eq(shared_get(&shared.freed_gone), 1);
	store_close(st);
}
END_TEST

START_TEST(the_others_do_not_look)
{
	struct cni_shared shared = {0};
	const struct cni_home home = {.node = "n4", .state_dir = test_dir(), .shared = &shared};
	struct store *st = filled();

	for (uptime_s = 1000; uptime_s < 10 * AFTER_S; uptime_s += HOUR_S / 2)
		ck_assert_int_eq(look(&home, st), HOUR_S);
	ck_assert(has(st, "left"));
	/* One of the four goes: it is one of them, and its time begins then. */
	store_fake_put(st, R "nodes/n0", NULL);
	for (int64_t end = uptime_s + AFTER_S + 3 * HOUR_S; uptime_s < end; uptime_s += LOOK_S) {
		ck_assert_int_eq(look(&home, st), LOOK_S);
		ck_assert(has(st, "left"));
	}
	(void)look(&home, st);
	ck_assert(!has(st, "left"));
	store_close(st);
}
END_TEST

START_TEST(who_is_there_again_keeps_it)
{
	struct cni_shared shared = {0};
	const struct cni_home home = {.node = "n1", .state_dir = test_dir(), .shared = &shared};
	struct store *st = filled();

	for (uptime_s = 1000; uptime_s < AFTER_S; uptime_s += LOOK_S)
		(void)look(&home, st);
	put_node(st, "n9");
	(void)look(&home, st);
	store_fake_put(st, R "nodes/n9", NULL);
	for (int64_t end = uptime_s + AFTER_S + HOUR_S; uptime_s < end; uptime_s += LOOK_S) {
		(void)look(&home, st);
		ck_assert(has(st, "left"));
	}
	(void)look(&home, st);
	ck_assert(!has(st, "left"));
	store_close(st);
}
END_TEST

struct back {
	struct store *st;
	int n_had; /* -1: it has not come */
};

static int n_left(struct store *st)
{
	return has(st, "left") + has(st, "more");
}

static void come_back(void *arg)
{
	struct back *b = arg;

	b->n_had = n_left(b->st);
	mono_ms += AGAIN_MS;
	put_node(b->st, "n9");
}

/* At each operation in turn: what is being given back then is the last. */
START_TEST(who_comes_back_meanwhile_keeps_the_rest)
{
	struct cni_shared shared = {0};
	const struct cni_home home = {.node = "n0", .state_dir = test_dir(), .shared = &shared};
	struct back b = {0};
	bool partly = false;

	for (unsigned n = 1; b.n_had >= 0; n++) {
		b = (struct back){filled(), -1};
		take(b.st, "n9", "more");
		for (uptime_s = 1000; uptime_s < 1000 + AFTER_S; uptime_s += HOUR_S)
			(void)look(&home, b.st);
		store_fake_call_nth(b.st, n, come_back, &b);
		(void)look(&home, b.st);
		ck_assert_msg(n_left(b.st) >= b.n_had - 1, "operation %u", n);
		partly |= n_left(b.st) == 1;
		store_close(b.st);
	}
	ck_assert(partly);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gone");
	TCase *tc = tcase_create("gone");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, tc);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, each_looker_waits_an_hour_longer, 0, N_LOOKERS);
	tcase_add_test(tc, the_others_do_not_look);
	tcase_add_test(tc, who_is_there_again_keeps_it);
	tcase_add_test(tc, who_comes_back_meanwhile_keeps_the_rest);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed > 0;
}
