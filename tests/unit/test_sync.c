/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A reader of a datastore (store/sync.h), and what it decodes (store/cache.h), over the fake. */
#include "store/sync.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/strbuf.h"
#include "fake/store_fake.h"
#include "store/cache.h"
#include "store/lock.h"
#include "svc/metrics.h"
#include "unit/store_suite.h"
#include "unit/test_dir.h"

struct armed {
	int n;
	int64_t delay_ms, now_ms;
};

static void fake_arm(void *arg, struct sync *s, int64_t delay_ms)
{
	struct armed *a = arg;

	(void)s;
	a->n++;
	a->delay_ms = delay_ms;
}

static int64_t fake_now_ms(void *arg)
{
	return ((struct armed *)arg)->now_ms;
}

static uint64_t fake_random(void *arg)
{
	(void)arg;
	return (uint64_t)random();
}

static void settle(struct store *st, struct event_base *base)
{
	do
		event_base_loop(base, EVLOOP_NONBLOCK);
	while (!store_fake_idle(st));
}

static void set_lock(struct store *st, bool locked)
{
	store_fake_put(st, STORE_LOCK_KEY,
		locked ? "{\"spec\":{\"datastoreReady\":false}}"
		       : "{\"spec\":{\"datastoreReady\":true}}");
}

START_TEST(of_a_locked_store_nothing_is_told)
{
	struct follower f = {.base = event_base_new(), .may_delete = true};
	struct store *st = store_fake_new(f.base);
	struct sync_ops ops = f_ops;

	ops.heed_lock = true;
	set_lock(st, true);
	store_fake_put(st, KEYS "1", "1");
	f.sync = sync_new(st, f_prefix, 1, &ops, &f, NULL);
	ck_assert(!sync_locked(f.sync));
	settle(st, f.base);
	ck_assert(sync_locked(f.sync));
	ck_assert(sync_up(f.sync));
	ck_assert_str_eq(sync_state(f.sync), "locked: what is known stays in force");
	ck_assert_int_eq(f.sets, 0);
	ck_assert_int_eq(f.in_sync, 0);
	set_lock(st, false);
	settle(st, f.base);
	ck_assert_str_eq(sync_state(f.sync), "in sync");
	ck_assert_int_eq(f.sets, 1);
	ck_assert_int_eq(f.in_sync, 1);
	/* The lock is told of in the order of changes, and what comes after it is not told. */
	set_lock(st, true);
	settle(st, f.base);
	store_fake_put(st, KEYS "1", NULL);
	store_fake_put(st, KEYS "2", "2");
	settle(st, f.base);
	ck_assert_int_eq(f.sets, 1);
	ck_assert_int_eq(f.dels, 0);
	store_fake_put(st, STORE_LOCK_KEY, NULL);
	settle(st, f.base);
	ck_assert(!sync_locked(f.sync));
	ck_assert_int_eq(f.sets, 2);
	ck_assert_int_eq(f.dels, 1);
	f_done(&f);
	store_close(st);
	event_base_free(f.base);
}
END_TEST

START_TEST(sync_converges_whatever_fails)
{
	struct follower f = {.base = event_base_new(), .may_delete = true};
	struct armed armed = {0};
	struct sync_hooks hooks = {
		.arm = fake_arm, .now_ms = fake_now_ms, .random = fake_random, .arg = &armed};
	struct store *st = store_fake_new(f.base);
	struct sync_ops ops = f_ops;
	char key[SUITE_KEY_SIZE], value[24];

	seed();
	ops.heed_lock = true;
	f.sync = sync_new(st, f_prefix, 1, &ops, &f, &hooks);
	for (int i = 0; i < 3000; i++) {
		random_key(key);
		snprintf(value, sizeof(value), "%ld", random() % 4);
		switch (random() % 16) {
		case 0:
			store_fake_fail_nth(st, 1 + (unsigned)random() % 2, -ETIMEDOUT);
			break;
		case 1:
			store_fake_compact(st);
			break;
		case 2:
			store_fake_away(st, random() % 2);
			break;
		case 3:
			store_fake_hold(st, random() % 2);
			break;
		case 4:
			sync_retry(f.sync);
			break;
		case 5:
			settle(st, f.base);
			break;
		case 6:
		case 7:
			store_fake_put(st, key, NULL);
			break;
		case 8:
			set_lock(st, random() % 2);
			break;
		default:
			store_fake_put(st, key, value);
			break;
		}
	}
	set_lock(st, false);
	store_fake_away(st, false);
	store_fake_hold(st, false);
	store_fake_fail_nth(st, 0, 0);
	settle(st, f.base);
	sync_retry(f.sync);
	settle(st, f.base);
	ck_assert(sync_up(f.sync));
	ck_assert_int_eq(f.in_sync, 1);
	for (int i = 0; i < N_KEYS; i++) {
		const char *want;

		snprintf(key, sizeof(key), KEYS "%d", i);
		want = store_fake_value(st, key);
		ck_assert_pstr_eq(f.key[i].value, want);
	}
	f_done(&f);
	store_close(st);
	event_base_free(f.base);
}
END_TEST

START_TEST(sync_keeps_what_it_knows_and_backs_off)
{
	struct follower f = {.base = event_base_new()};
	struct armed armed = {0};
	struct sync_hooks hooks = {
		.arm = fake_arm, .now_ms = fake_now_ms, .random = fake_random, .arg = &armed};
	struct store *st = store_fake_new(f.base);
	int64_t last = 0;

	store_fake_away(st, true);
	f.sync = sync_new(st, f_prefix, 1, &f_ops, &f, &hooks);
	ck_assert_str_eq(sync_state(f.sync), "listing " KEYS);
	settle(st, f.base);
	ck_assert_str_eq(sync_state(f.sync), "datastore away: fake datastore: away");
	ck_assert_int_eq(f.in_sync, 0);
	ck_assert_int_ge(armed.delay_ms, 50);
	ck_assert_int_le(armed.delay_ms, 100);
	for (int i = 0; i < 12; i++) {
		sync_retry(f.sync);
		settle(st, f.base);
		last = armed.delay_ms;
	}
	ck_assert_int_ge(last, 15000);
	ck_assert_int_le(last, 30000);
	store_fake_put(st, KEYS "1", "1");
	store_fake_away(st, false);
	sync_retry(f.sync);
	settle(st, f.base);
	ck_assert_int_eq(f.in_sync, 1);
	ck_assert_int_eq(f.sets, 1);
	ck_assert_str_eq(sync_state(f.sync), "in sync");

	/* away for long: nothing is told; may_delete is false, so a deletion would fail here */
	store_fake_away(st, true);
	settle(st, f.base);
	ck_assert_str_eq(
		sync_state(f.sync), "datastore away, keeping what is known: fake datastore: away");
	for (int i = 0; i < 5; i++) {
		sync_retry(f.sync);
		settle(st, f.base);
	}
	store_fake_put(st, KEYS "1", NULL);
	store_fake_put(st, KEYS "1", "1"); /* the same in the end: no difference */
	store_fake_away(st, false);
	sync_retry(f.sync);
	settle(st, f.base);
	ck_assert_int_eq(f.sets, 1);
	ck_assert_int_eq(f.dels, 0);
	armed.now_ms += 10000;
	store_fake_compact(st);
	settle(st, f.base);
	ck_assert(!sync_up(f.sync));
	ck_assert_int_le(armed.delay_ms, 100); /* prompt again after a success */
	f_done(&f);
	store_close(st);
	event_base_free(f.base);
}
END_TEST

/* Where lists succeed and no watch does, it does not list as if that had helped. */
START_TEST(sync_backs_off_where_no_watch_can_be_had)
{
	struct follower f = {.base = event_base_new()};
	struct armed armed = {0};
	struct sync_hooks hooks = {
		.arm = fake_arm, .now_ms = fake_now_ms, .random = fake_random, .arg = &armed};
	struct store *st = store_fake_new(f.base);

	store_fake_deaf(st, true);
	f.sync = sync_new(st, f_prefix, 1, &f_ops, &f, &hooks);
	for (int i = 0; i < 12; i++) {
		settle(st, f.base);
		ck_assert_int_eq(f.in_sync, 1);
		ck_assert_int_eq(armed.n, i + 1);
		armed.now_ms += armed.delay_ms;
		sync_retry(f.sync);
	}
	ck_assert_int_ge(armed.delay_ms, 15000);
	ck_assert_int_le(armed.delay_ms, 30000);
	store_fake_deaf(st, false);
	settle(st, f.base);
	sync_retry(f.sync);
	settle(st, f.base);
	ck_assert(sync_up(f.sync));
	/* one that ended at once was none; one that has lived was */
	for (int lived = 0; lived < 2; lived++) {
		armed.now_ms += lived ? 10000 : 9999;
		store_fake_deaf(st, true);
		settle(st, f.base);
		ck_assert(lived ? armed.delay_ms <= 100 : armed.delay_ms >= 15000);
		store_fake_deaf(st, false);
		sync_retry(f.sync);
		settle(st, f.base);
		ck_assert(sync_up(f.sync));
	}
	f_done(&f);
	store_close(st);
	event_base_free(f.base);
}
END_TEST

static uint64_t no_random(void *arg)
{
	(void)arg;
	return 0;
}

/* A store that goes ends all watches at once, and that is one failure. */
START_TEST(failures_are_counted_by_their_reason)
{
	static const struct {
		int r;
		const char *row;
	} cases[] = {
		{-EHOSTUNREACH, "margay_datastore_failures_total{reason=\"away\"} 1\n"},
		{-EACCES, "margay_datastore_failures_total{reason=\"denied\"} 1\n"},
		{-ENOSPC, "margay_datastore_failures_total{reason=\"full\"} 1\n"},
		{-ETIMEDOUT, "margay_datastore_failures_total{reason=\"timeout\"} 1\n"},
		{-EINVAL, "margay_datastore_failures_total{reason=\"invalid\"} 1\n"},
		{-ESTALE, "margay_datastore_failures_total{reason=\"invalid\"} 1\n"},
	};
	struct follower f = {.base = event_base_new()};
	struct armed armed = {0};
	struct sync_hooks hooks = {
		.arm = fake_arm, .now_ms = fake_now_ms, .random = fake_random, .arg = &armed};
	struct store *st = store_fake_new(f.base);
	auto_(metrics) struct metrics *m = metrics_new();
	auto_strbuf out = STRBUF_INIT;

	f.sync = sync_new(st, f_prefix, 1, &f_ops, &f, &hooks);
	sync_add_metrics(f.sync, m);
	for (size_t i = 0; i < array_size(cases); i++) {
		store_fake_fail_nth(st, 1, cases[i].r);
		settle(st, f.base);
		strbuf_reset(&out);
		metrics_print(m, &out);
		ck_assert_msg(strstr(out.s, cases[i].row), "%s: %s", cases[i].row, out.s);
		ck_assert_ptr_nonnull(strstr(out.s, "margay_datastore_up 0\n"));
		sync_retry(f.sync);
	}
	settle(st, f.base);
	store_fake_away(st, true);
	settle(st, f.base);
	store_fake_away(st, false);
	sync_retry(f.sync);
	settle(st, f.base);
	strbuf_reset(&out);
	metrics_print(m, &out);
	ck_assert_ptr_nonnull(strstr(out.s, "margay_datastore_up 1\n"));
	ck_assert_ptr_nonnull(strstr(out.s, "failures_total{reason=\"away\"} 2\n"));
	ck_assert_ptr_nonnull(strstr(out.s, "requests_total{verb=\"list\"} 8\n"));
	ck_assert_ptr_nonnull(strstr(out.s, "requests_total{verb=\"watch\"} 2\n"));
	f_done(&f);
	strbuf_reset(&out);
	metrics_print(m, &out);
	ck_assert_ptr_null(strstr(out.s, "datastore"));
	store_close(st);
	event_base_free(f.base);
}
END_TEST

START_TEST(sync_counts_an_outage_once)
{
	const char *const prefixes[] = {"/a/", "/b/", "/c/"};
	struct follower f = {.base = event_base_new()};
	struct armed armed = {.now_ms = 100000};
	struct sync_hooks hooks = {
		.arm = fake_arm, .now_ms = fake_now_ms, .random = no_random, .arg = &armed};
	struct store *st = store_fake_new(f.base);
	int64_t delays[3];

	f.sync = sync_new(st, prefixes, array_size(prefixes), &f_ops, &f, &hooks);
	settle(st, f.base);
	ck_assert(sync_up(f.sync));
	armed.now_ms += 60000;
	store_fake_away(st, true);
	for (size_t i = 0; i < array_size(delays); i++) {
		settle(st, f.base);
		ck_assert_int_eq(armed.n, (int)i + 1);
		delays[i] = armed.delay_ms;
		armed.now_ms += armed.delay_ms;
		sync_retry(f.sync);
	}
	ck_assert_int_eq(delays[1], 2 * delays[0]);
	ck_assert_int_eq(delays[2], 4 * delays[0]);
	f_done(&f);
	store_close(st);
	event_base_free(f.base);
}
END_TEST

/* What is logged while fn runs has each of the texts so many times. */
struct logged {
	const char *text;
	int n;
};

static void logs(void (*fn)(void *arg), void *arg, const struct logged *want, size_t n)
{
	auto_free char *got = NULL;
	auto_free char *name = mem_printf("%s/log", test_dir());
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600), saved = dup(STDERR_FILENO);

	ck_assert_int_ge(fd, 0);
	fflush(stderr);
	dup2(fd, STDERR_FILENO);
	fn(arg);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fd);
	ok(file_read(name, 100000, &got, NULL, &err));
	for (size_t i = 0; i < n; i++) {
		int found = 0;

		for (const char *s = got; (s = strstr(s, want[i].text)); s++)
			found++;
		ck_assert_msg(found == want[i].n, "%d times \"%s\", want %d: %s", found,
			want[i].text, want[i].n, got);
	}
}

struct retry {
	struct sync *sync;
	struct store *st;
	struct event_base *base;
};

static void retry_some(void *arg)
{
	const struct retry *r = arg;

	for (int i = 0; i < 4; i++) {
		sync_retry(r->sync);
		settle(r->st, r->base);
	}
}

START_TEST(a_failure_is_logged_once_and_its_end_when_all_is_well)
{
	static const struct logged refused[] = {
		{"/a/: refused", 0}, {"/b/: refused", 1}, {"away", 0}, {"answers again", 0}};
	static const struct logged away[] = {
		{": refused", 0}, {"fake datastore: away", 1}, {"answers again", 0}};
	static const struct logged all[] = {{"/a/: refused", 1}, {"/b/: refused", 1},
		{"/c/: refused", 1}, {"answers again", 0}};
	static const struct logged well[] = {{": refused", 0}, {"answers again", 1}};
	static const char *const prefixes[] = {"/a/", "/b/", "/c/"};
	struct follower f = {.base = event_base_new()};
	struct armed armed = {0};
	struct sync_hooks hooks = {
		.arm = fake_arm, .now_ms = fake_now_ms, .random = no_random, .arg = &armed};
	struct store *st = store_fake_new(f.base);
	struct retry retry;

	store_fake_refuse(st, "/b/");
	f.sync = sync_new(st, prefixes, array_size(prefixes), &f_ops, &f, &hooks);
	retry = (struct retry){f.sync, st, f.base};
	logs(retry_some, &retry, refused, array_size(refused));
	store_fake_away(st, true);
	logs(retry_some, &retry, away, array_size(away));
	store_fake_away(st, false);
	store_fake_refuse(st, "/");
	logs(retry_some, &retry, all, array_size(all));
	store_fake_refuse(st, "/b/");
	logs(retry_some, &retry, (const struct logged[]){{": refused", 0}, {"answers", 0}}, 2);
	store_fake_refuse(st, NULL);
	logs(retry_some, &retry, well, array_size(well));
	f_done(&f);
	store_close(st);
	event_base_free(f.base);
}
END_TEST

START_TEST(a_lost_answer_is_no_lost_write)
{
	auto_(store) struct store *st = store_fake_new(NULL);

	store_fake_lose_nth(st, 1);
	fails(store_create_wait(st, "/a", "1", 0, NULL, &err), -ETIMEDOUT);
	fails(store_create_wait(st, "/a", "1", 0, NULL, &err), -EEXIST);
	store_fake_fail_nth(st, 2, -EHOSTUNREACH);
	ok(store_update_wait(st, "/a", "2", 0, 0, NULL, &err));
	fails(store_update_wait(st, "/a", "3", 0, 0, NULL, &err), -EHOSTUNREACH);
	ck_assert_str_eq(store_fake_value(st, "/a"), "2");
	ck_assert_uint_eq(store_fake_op_count(st), 4);
	store_fake_hold(st, true);
	fails(store_update_wait(st, "/a", "3", 0, clock_mono_ms() + 5, NULL, &err), -ETIMEDOUT);
	ck_assert_str_eq(err.text, "fake: updating /a: no answer in time");
}
END_TEST

struct user {
	int in_sync, changes, unknown;
	char last[64];
};

static int decode(
	void *arg, const char *key, const char *value, size_t len, void **ret, struct err *e)
{
	(void)arg;
	(void)key;
	(void)len;
	if (strcmp(value, "bad") == 0)
		return err_set(e, -EINVAL, "bad indeed");
	*ret = mem_strdup(value);
	return 0;
}

static void on_changed(void *arg, const char *key, const void *old, const void *new)
{
	struct user *u = arg;

	u->changes++;
	snprintf(u->last, sizeof(u->last), "%s %s>%s", key, old ? (const char *)old : "-",
		new ? (const char *)new : "-");
}

static void on_user_in_sync(void *arg)
{
	((struct user *)arg)->in_sync++;
}

static void on_unknown(void *arg)
{
	((struct user *)arg)->unknown++;
}

static void count_unknown(void *arg, const char *key)
{
	ck_assert_str_eq(key, "/p/2");
	++*(int *)arg;
}

static int n_unknown(const struct cache *c, const struct cache_kind *kind)
{
	int n = 0;

	cache_for_each_unknown(c, kind, count_unknown, &n);
	return n;
}

static void count_objects(void *arg, const char *key, const void *obj)
{
	ck_assert_str_eq(key, "/p/1");
	ck_assert_str_eq(obj, "b");
	++*(int *)arg;
}

START_TEST(a_bad_object_blocks_nothing)
{
	static const struct cache_kind kinds[] = {
		{.prefix = "/p/", .decode = decode, .free = free, .changed = on_changed},
		{.prefix = "/q/", .decode = decode, .free = free},
	};
	static const struct cache_ops ops = {.in_sync = on_user_in_sync};
	struct user u = {0};
	struct event_base *base = event_base_new();
	struct store *st = store_fake_new(base);
	struct cache *c;
	int n = 0;

	store_fake_put(st, "/p/1", "a");
	store_fake_put(st, "/p/2", "bad");
	store_fake_put(st, "/q/1", "x");
	c = cache_new(st, kinds, 2, &ops, &u, NULL);
	settle(st, base);
	ck_assert_int_eq(u.in_sync, 1);
	ck_assert_int_eq(u.changes, 1);
	ck_assert_str_eq(cache_get(c, "/p/1"), "a");
	ck_assert_str_eq(cache_get(c, "/q/1"), "x");
	ck_assert_ptr_null(cache_get(c, "/p/2"));
	ck_assert_uint_eq(cache_refused(c), 1);
	store_fake_put(st, "/p/1", "bad"); /* the good one stays */
	settle(st, base);
	ck_assert_int_eq(u.changes, 1);
	ck_assert_str_eq(cache_get(c, "/p/1"), "a");
	ck_assert_uint_eq(cache_refused(c), 2);
	store_fake_put(st, "/p/1", "b");
	settle(st, base);
	ck_assert_str_eq(u.last, "/p/1 a>b");
	ck_assert_uint_eq(cache_refused(c), 1);
	cache_for_each(c, &kinds[0], count_objects, &n);
	ck_assert_int_eq(n, 1);
	store_fake_put(st, "/p/2", NULL);
	store_fake_put(st, "/p/1", NULL);
	settle(st, base);
	ck_assert_str_eq(u.last, "/p/1 b>-");
	ck_assert_int_eq(u.changes, 3);
	ck_assert_uint_eq(cache_refused(c), 0);
	ck_assert(sync_up(cache_sync(c)));
	cache_free(c);
	store_close(st);
	event_base_free(base);
}
END_TEST

START_TEST(an_undecodable_object_is_not_an_absent_one)
{
	static const struct cache_kind kinds[] = {
		{.prefix = "/p/", .decode = decode, .free = free, .changed = on_changed},
		{.prefix = "/q/", .decode = decode, .free = free},
	};
	static const struct cache_ops ops = {.in_sync = on_user_in_sync, .unknown = on_unknown};
	struct user u = {0};
	struct event_base *base = event_base_new();
	struct store *st = store_fake_new(base);
	struct cache *c;

	store_fake_put(st, "/p/1", "a");
	store_fake_put(st, "/p/2", "bad");
	c = cache_new(st, kinds, 2, &ops, &u, NULL);
	settle(st, base);
	ck_assert_int_eq(u.unknown, 1);
	ck_assert_int_eq(n_unknown(c, &kinds[0]), 1);
	ck_assert_int_eq(n_unknown(c, &kinds[1]), 0);
	store_fake_put(st, "/p/1", "bad"); /* but something is known of it */
	settle(st, base);
	ck_assert_int_eq(u.unknown, 1);
	ck_assert_int_eq(n_unknown(c, &kinds[0]), 1);
	store_fake_put(st, "/p/2", "b");
	settle(st, base);
	ck_assert_int_eq(u.unknown, 2);
	ck_assert_int_eq(n_unknown(c, &kinds[0]), 0);
	store_fake_put(st, "/p/2", NULL);
	settle(st, base);
	ck_assert_int_eq(u.unknown, 2);
	store_fake_put(st, "/p/2", "bad");
	settle(st, base);
	ck_assert_int_eq(u.unknown, 3);
	store_fake_put(st, "/p/2", NULL);
	settle(st, base);
	ck_assert_int_eq(u.unknown, 4);
	ck_assert_int_eq(n_unknown(c, &kinds[0]), 0);
	cache_free(c);
	store_close(st);
	event_base_free(base);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sync");
	TCase *tc = tcase_create("sync");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, tc);
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, of_a_locked_store_nothing_is_told);
	tcase_add_test(tc, sync_converges_whatever_fails);
	tcase_add_test(tc, sync_keeps_what_it_knows_and_backs_off);
	tcase_add_test(tc, sync_backs_off_where_no_watch_can_be_had);
	tcase_add_test(tc, sync_counts_an_outage_once);
	tcase_add_test(tc, a_failure_is_logged_once_and_its_end_when_all_is_well);
	tcase_add_test(tc, failures_are_counted_by_their_reason);
	tcase_add_test(tc, a_lost_answer_is_no_lost_write);
	tcase_add_test(tc, a_bad_object_blocks_nothing);
	tcase_add_test(tc, an_undecodable_object_is_not_an_absent_one);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
