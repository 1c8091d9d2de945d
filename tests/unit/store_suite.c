/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit/store_suite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"

struct err err;
static const struct store_suite_driver *drivers;

unsigned long seed(void)
{
	const char *s = getenv("SEED");
	unsigned long n = s ? strtoul(s, NULL, 10) : (unsigned long)clock_real_ns();

	printf("SEED=%lu\n", n);
	fflush(stdout);
	srandom((unsigned)n);
	return n;
}

void said(const char *want)
{
	ck_assert_msg(strstr(err.text, want), "\"%s\" does not say \"%s\"", err.text, want);
}

/* ---- keys and values ---- */

/* The object of that key, and number n in it. Borrowed until the next call. */
static const char *value_of(const char *key, int n)
{
	static char text[512];

	snprintf(text, sizeof(text),
		"{\"kind\":\"IPReservation\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"%s\",\"uid\":\"3f2a9c1e-7b4d-4e21-9a6c-%012x\"},\"spec\":{"
		"\"reservedCIDRs\":[\"10.%d.%d.%d/32\"]}}",
		strrchr(key, '/') + 1, (unsigned)n, n >> 16 & 255, n >> 8 & 255, n & 255);
	return text;
}

static int number_of(const char *value)
{
	const char *at = strstr(value, "\"reservedCIDRs\":[\"10.");
	int a, b, c;

	ck_assert_msg(at && sscanf(at, "\"reservedCIDRs\":[\"10.%d.%d.%d/", &a, &b, &c) == 3, "%s",
		value);
	return a << 16 | b << 8 | c;
}

static void uid_of(const char *value, char uid[static 64])
{
	const char *at = strstr(value, "\"uid\":\"");

	ck_assert_msg(at && sscanf(at, "\"uid\":\"%63[^\"]\"", uid) == 1, "%s", value);
}

static int index_of(const char *key)
{
	return atoi(strrchr(key, '/') + 1);
}

static int create(struct store *st, const char *key, int n, int64_t *rev)
{
	return store_create_wait(st, key, value_of(key, n), 0, rev, &err);
}

static int update(struct store *st, const char *key, int n, int64_t old, int64_t *rev)
{
	return store_update_wait(st, key, value_of(key, n), old, 0, rev, &err);
}

/* ---- every driver: operations ---- */

/* create_rev is known, or said not to be. Returns the uid. */
static const char *holds(struct store *st, const char *key, int n, int64_t rev, int64_t create_rev)
{
	static char uid[64];
	struct store_kv kv = {0};

	ok(store_get_wait(st, key, 0, &kv, &err));
	ck_assert_str_eq(kv.key, key);
	ck_assert_int_eq(number_of(kv.value), n);
	ck_assert_uint_eq(kv.len, strlen(kv.value));
	ck_assert_int_eq(kv.rev, rev);
	ck_assert(!kv.create_rev || kv.create_rev == create_rev);
	uid_of(kv.value, uid);
	store_kv_done(&kv);
	return uid;
}

START_TEST(point_operations)
{
	static const char key[] = KEYS "a";
	auto_(store) struct store *st = drivers[_i].open(NULL);
	struct store_kv kv = {0};
	int64_t rev1, rev2, rev3, rev4;
	char uid[64], text[160];

	fails(store_get_wait(st, key, 0, &kv, &err), -ENOENT);
	snprintf(text, sizeof(text), "%s: not in the datastore", key);
	said(text);
	fails(update(st, key, 1, 0, NULL), -ENOENT);
	fails(update(st, key, 1, 5, NULL), -ENOENT);
	fails(store_delete_wait(st, key, 0, NULL, 0, &err), -ENOENT);
	fails(store_delete_wait(st, key, 5, NULL, 0, &err), -ENOENT);
	ok(create(st, key, 1, &rev1));
	ck_assert_int_gt(rev1, 0);
	fails(create(st, key, 2, NULL), -EEXIST);
	snprintf(uid, sizeof(uid), "%s", holds(st, key, 1, rev1, rev1));

	fails(update(st, key, 2, rev1 + 1, NULL), -ESTALE);
	ok(update(st, key, 1 << 16, rev1, &rev2));
	ck_assert_int_gt(rev2, rev1);
	fails(update(st, key, 2, rev1, NULL), -ESTALE);
	fails(store_delete_wait(st, key, rev1, NULL, 0, &err), -ESTALE);
	snprintf(uid, sizeof(uid), "%s", holds(st, key, 1 << 16, rev2, rev1));
	fails(store_delete_wait(st, key, rev1, uid, 0, &err), -ESTALE);
	fails(store_delete_wait(st, key, 0, "u", 0, &err), -ESTALE);
	ok(store_delete_wait(st, key, rev2, uid, 0, &err));
	fails(store_get_wait(st, key, 0, &kv, &err), -ENOENT);
	fails(store_delete_wait(st, key, 0, NULL, 0, &err), -ENOENT);
	fails(update(st, key, 2, 0, NULL), -ENOENT);

	ok(create(st, key, 3, &rev3));
	ck_assert_int_gt(rev3, rev2 + 1); /* the deletion has one of its own */
	fails(store_delete_wait(st, key, 0, uid, 0, &err), -ESTALE);
	ok(update(st, key, 4, 0, &rev4));
	holds(st, key, 4, rev4, rev3);
}
END_TEST

START_TEST(list_is_the_prefix_in_order)
{
	static const char *const keys[] = {
		KEYS "p.b", KEYS "pa", KEYS "p", KEYS "q", KEYS "p.a.x", KEYS "o", KEYS "p0"};
	static const char *const want[] = {
		KEYS "p", KEYS "p.a.x", KEYS "p.b", KEYS "p0", KEYS "pa"};
	auto_(store) struct store *st = drivers[_i].open(NULL);
	struct store_list l = {0};
	int64_t rev = 0;

	ok(store_list_wait(st, KEYS, 0, &l, &err));
	ck_assert_uint_eq(l.n, 0);
	ck_assert_int_gt(l.rev, 0);
	store_list_done(&l);
	for (size_t i = 0; i < array_size(keys); i++)
		ok(create(st, keys[i], (int)strlen(keys[i]), &rev));
	ok(create(st, KEYS "p.gone", 1, &rev));
	ok(store_delete_wait(st, KEYS "p.gone", rev, NULL, 0, &err));
	ok(store_list_wait(st, KEYS "p", 0, &l, &err));
	ck_assert_uint_eq(l.n, array_size(want));
	for (size_t i = 0; i < l.n; i++) {
		ck_assert_str_eq(l.v[i].key, want[i]);
		ck_assert_int_eq(number_of(l.v[i].value), (int)strlen(want[i]));
	}
	ck_assert_int_gt(l.rev, rev);
	store_list_done(&l);
}
END_TEST

START_TEST(bad_requests_are_refused)
{
	static const struct {
		const char *key, *value, *text;
	} cases[] = {
		{"a", "1", "store key \"a\": want it to begin with \"/\""},
		{"", "1", "store key \"\": want it to begin with \"/\""},
		{"/a b", "1", "store key \"/a b\": a space or control character at offset 2"},
		{"/a\n", "1", "store key \"/a\n\": a space or control character at offset 2"},
		{"/a", "", "/a: the value is empty, want JSON text"},
	};
	static const char begin[] = "{\"metadata\":{},\"spec\":{\"reservedCIDRs\":[\"",
			  end[] = "\"]}}";
	auto_(store) struct store *st = drivers[_i].open(NULL);
	auto_free char *big = mem_alloc(STORE_VALUE_MAX + 2);
	char key[STORE_KEY_MAX + 2];
	int r;

	for (size_t i = 0; i < array_size(cases); i++) {
		fails(store_create_wait(st, cases[i].key, cases[i].value, 0, NULL, &err), -EINVAL);
		ck_assert_str_eq(err.text, cases[i].text);
	}
	memset(big, '1', STORE_VALUE_MAX + 1);
	memcpy(big, begin, strlen(begin));
	memcpy(big + STORE_VALUE_MAX + 1 - strlen(end), end, sizeof(end));
	fails(store_create_wait(st, KEYS "a", big, 0, NULL, &err), -EINVAL);
	memcpy(big + STORE_VALUE_MAX - strlen(end), end, sizeof(end));
	ok(store_create_wait(st, KEYS "a", big, 0, NULL, &err));
	memset(key, 'a', sizeof(key));
	memcpy(key, KEYS, strlen(KEYS));
	key[STORE_KEY_MAX + 1] = 0;
	fails(create(st, key, 1, NULL), -EINVAL);
	key[STORE_KEY_MAX] = 0;
	r = create(st, key, 1, NULL);
	ck_assert_msg(r == 0 || r == -EINVAL, "%s", err_text(&err)); /* its keys may be shorter */
}
END_TEST

/* ---- every driver: callbacks and watches ---- */

void on_done(void *arg, const struct store_res *res)
{
	struct seen *s = arg;

	s->calls++;
	s->rev = res->rev;
	ck_assert_msg(res->r == 0, "%s", res->err ? res->err->text : "");
}

void on_event(void *arg, const struct store_kv *kv)
{
	struct seen *s = arg;
	struct store_kv copy = *kv;

	ck_assert_int_gt(kv->rev, s->rev);
	s->rev = kv->rev;
	copy.key = mem_strdup(kv->key);
	copy.value = kv->value ? mem_strdup(kv->value) : NULL;
	vec_push(&s->events, copy);
}

void on_end(void *arg, int r, const struct err *e)
{
	struct seen *s = arg;

	s->watch = NULL;
	s->end_r = r;
	err = *e;
}

void seen_done(struct seen *s)
{
	for (size_t i = 0; i < s->events.n; i++)
		store_kv_done(&s->events.v[i]);
	vec_done(&s->events);
}

static bool timed_out;

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	timed_out = true;
	event_base_loopbreak(arg);
}

int run_until(struct event_base *base, const int *what, int want, int ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
	struct event *timer = evtimer_new(base, on_timeout, base);
	int turns = 0;

	timed_out = false;
	event_add(timer, &tv);
	while (!timed_out && (!what || *what != want)) {
		event_base_loop(base, EVLOOP_ONCE);
		turns++;
	}
	event_free(timer);
	return turns;
}

void do_op(struct seen *s, enum store_verb verb, const char *key, const char *value)
{
	s->calls = 0;
	s->op = store_start(
		s->st, &(struct store_req){.verb = verb, .key = key, .value = value}, on_done, s);
	ck_assert_int_eq(s->calls, 0); /* never before store_start returned */
	wait_for(s->base, &s->calls, 1);
}

void wait_events(struct seen *s, size_t n)
{
	int64_t end = clock_mono_ms() + 20000;

	while (s->events.n < n && clock_mono_ms() < end)
		run_until(s->base, NULL, 0, 1);
	ck_assert_uint_eq(s->events.n, n);
}

static void do_put(struct seen *s, enum store_verb verb, const char *key, int n)
{
	do_op(s, verb, key, verb == STORE_DELETE ? NULL : value_of(key, n));
}

START_TEST(watch_tells_what_follows)
{
	static const char key[] = KEYS "w.a";
	struct seen ops = {.base = event_base_new()}, w = {0};

	ops.st = drivers[_i].open(ops.base);
	w.base = ops.base;
	do_put(&ops, STORE_CREATE, KEYS "w.before", 1);
	w.rev = ops.rev;
	w.watch = store_watch(ops.st, KEYS "w", ops.rev, on_event, on_end, &w);
	do_put(&ops, STORE_CREATE, key, 1);
	wait_events(&w, 1);
	do_put(&ops, STORE_CREATE, KEYS "other", 1);
	do_put(&ops, STORE_UPDATE, key, 2);
	wait_events(&w, 2);
	do_put(&ops, STORE_DELETE, key, 0);
	wait_events(&w, 3);
	ck_assert(!ops.rev || ops.rev == w.rev);
	do_put(&ops, STORE_CREATE, key, 3);
	wait_events(&w, 4);
	for (size_t i = 0; i < 4; i++)
		ck_assert_str_eq(w.events.v[i].key, key);
	ck_assert_int_eq(number_of(w.events.v[0].value), 1);
	ck_assert_int_eq(number_of(w.events.v[1].value), 2);
	ck_assert_ptr_null(w.events.v[2].value);
	ck_assert_int_eq(number_of(w.events.v[3].value), 3);

	store_watch_cancel(w.watch);
	do_put(&ops, STORE_CREATE, KEYS "w.b", 1);
	run_until(ops.base, NULL, 0, 20);
	ck_assert_uint_eq(w.events.n, 4);
	store_close(ops.st);
	event_base_free(ops.base);
	seen_done(&w);
}
END_TEST

static void on_event_restart(void *arg, const struct store_kv *kv)
{
	struct seen *s = arg;

	on_event(s, kv);
	/* Cancels itself, and begins anew from here: nothing may be lost or told twice. */
	store_watch_cancel(s->watch);
	s->watch = store_watch(s->st, KEYS "p", kv->rev, on_event_restart, on_end, s);
}

#define LEASE_S 2 /* the least that etcd grants */

static void on_refused(void *arg, const struct store_res *res)
{
	*(int *)arg = res->r;
	err = *res->err;
}

static void write_leased(struct seen *s, enum store_verb verb, const char *key, int n)
{
	s->calls = 0;
	store_start(s->st,
		&(struct store_req){
			.verb = verb, .key = key, .value = value_of(key, n), .lease_s = LEASE_S},
		on_done, s);
	wait_for(s->base, &s->calls, 1);
}

static int get(struct store *st, const char *key)
{
	struct store_kv kv = {0};
	int r = store_get_wait(st, key, 0, &kv, &err);

	store_kv_done(&kv);
	return r;
}

START_TEST(what_is_leased_expires)
{
	static const char hung[] = KEYS "l.hung", closed[] = KEYS "l.closed", stays[] = KEYS "l.s";
	struct seen a = {.base = event_base_new()}, b = {.base = event_base_new()};
	struct store *reader;
	int64_t end;
	int r = 0;

	a.st = drivers[_i].open(a.base);
	if (!store_has_leases(a.st)) {
		store_start(a.st,
			&(struct store_req){
				.verb = STORE_CREATE, .key = hung, .value = "{}", .lease_s = 1},
			on_refused, &r);
		wait_for(a.base, &r, -EOPNOTSUPP);
		said("objects that expire are not for this datastore: only etcd has leases");
		store_close(a.st);
		event_base_free(a.base);
		event_base_free(b.base);
		return;
	}
	b.st = drivers[_i].open(b.base);
	reader = drivers[_i].open(NULL);
	write_leased(&a, STORE_CREATE, hung, 1);
	write_leased(&b, STORE_CREATE, closed, 1);
	write_leased(&b, STORE_CREATE, stays, 1);
	do_put(&b, STORE_UPDATE, stays, 2);
	for (int i = 0; i < 5 * LEASE_S; i++) {
		run_until(a.base, NULL, 0, 250);
		run_until(b.base, NULL, 0, 250);
	}
	ok(get(reader, hung));
	ok(get(reader, closed));
	write_leased(&b, STORE_UPDATE, closed, 2);
	store_close(b.st);
	end = clock_mono_ms() + 20000;
	while (get(reader, hung) == 0 || get(reader, closed) == 0) {
		ck_assert_int_lt(clock_mono_ms(), end);
		usleep(100000);
	}
	ok(get(reader, stays));
	/* the lease is gone, and the store does not know */
	write_leased(&a, STORE_CREATE, hung, 2);
	run_until(a.base, NULL, 0, 2000 * LEASE_S);
	ok(get(reader, hung));
	store_close(reader);
	store_close(a.st);
	event_base_free(a.base);
	event_base_free(b.base);
}
END_TEST

START_TEST(watches_may_change_inside_their_callback)
{
	struct seen ops = {.base = event_base_new()}, w = {0}, plain = {0};
	char key[SUITE_KEY_SIZE];

	ops.st = w.st = drivers[_i].open(ops.base);
	w.base = plain.base = ops.base;
	do_put(&ops, STORE_CREATE, KEYS "q", 1);
	w.rev = plain.rev = ops.rev;
	w.watch = store_watch(ops.st, KEYS "p", ops.rev, on_event_restart, on_end, &w);
	plain.watch = store_watch(ops.st, KEYS "p", ops.rev, on_event, on_end, &plain);
	for (int i = 0; i < 20; i++) {
		snprintf(key, sizeof(key), KEYS "p%d", i);
		store_start(ops.st,
			&(struct store_req){
				.verb = STORE_CREATE, .key = key, .value = value_of(key, i)},
			on_done, &ops);
	}
	wait_events(&w, 20);
	wait_events(&plain, 20);
	store_close(ops.st);
	event_base_free(ops.base);
	seen_done(&w);
	seen_done(&plain);
}
END_TEST

START_TEST(a_cancelled_operation_is_silent)
{
	struct seen s = {.base = event_base_new()}, w = {0};
	struct store_req req = {
		.verb = STORE_CREATE, .key = KEYS "a", .value = value_of(KEYS "a", 1)};
	int calls;

	s.st = drivers[_i].open(s.base);
	s.op = store_start(s.st, &req, on_done, &s);
	store_op_cancel(s.op);
	store_op_cancel(NULL);
	run_until(s.base, NULL, 0, 20);
	ck_assert_int_eq(s.calls, 0);
	/* what is under way when the store is closed is silent as well */
	store_start(s.st, &req, on_done, &s);
	store_watch(s.st, KEYS, 1, on_event, on_end, &w);
	event_base_loop(s.base, EVLOOP_NONBLOCK);
	calls = s.calls;
	store_close(s.st);
	run_until(s.base, NULL, 0, 5);
	ck_assert_int_eq(s.calls, calls);
	event_base_free(s.base);
	seen_done(&w);
}
END_TEST

static void cancel_in_list(void *arg, const struct store_res *res)
{
	struct seen *s = arg;

	s->calls++;
	ck_assert(res->more);
	store_op_cancel(s->op);
}

enum { N_MANY = 1201 }; /* three pages of a driver that reads 500 at once */

static void create_many(struct seen *s)
{
	char key[SUITE_KEY_SIZE];

	s->calls = 0;
	for (int i = 0; i < N_MANY; i++) {
		snprintf(key, sizeof(key), KEYS "%05d", i);
		store_start(s->st,
			&(struct store_req){
				.verb = STORE_CREATE, .key = key, .value = value_of(key, i)},
			on_done, s);
		if (i % 100 == 0 || i == N_MANY - 1)
			wait_for(s->base, &s->calls, i + 1);
	}
}

START_TEST(a_list_may_be_cancelled_between_pages)
{
	struct seen s = {.base = event_base_new()};

	s.st = drivers[_i].open(s.base);
	create_many(&s);
	s.calls = 0;
	s.op = store_start(s.st, &(struct store_req){.verb = STORE_LIST, .key = KEYS, .feed = true},
		cancel_in_list, &s);
	wait_for(s.base, &s.calls, 1);
	run_until(s.base, NULL, 0, 20);
	ck_assert_int_eq(s.calls, 1);
	do_put(&s, STORE_CREATE, KEYS "c", 1);
	store_close(s.st);
	event_base_free(s.base);
}
END_TEST

static void count_list(void *arg, const struct store_res *res)
{
	struct seen *s = arg;

	s->end_r = res->r;
	s->rev += (int64_t)res->n;
	s->calls += !res->more;
}

static void count_limited(struct seen *s, size_t limit, bool feed)
{
	s->rev = s->calls = 0;
	store_start(s->st,
		&(struct store_req){.verb = STORE_LIST, .key = KEYS, .limit = limit, .feed = feed},
		count_list, s);
	wait_for(s->base, &s->calls, 1);
}

START_TEST(a_list_may_be_limited)
{
	static const int64_t limits[] = {
		1, 2, 499, 500, 501, 1000, 1001, N_MANY - 1, N_MANY, N_MANY + 1};
	struct seen s = {.base = event_base_new()};

	s.st = drivers[_i].open(s.base);
	create_many(&s);
	for (unsigned i = 0; i < 2 * array_size(limits); i++) {
		int64_t limit = limits[i / 2], want = limit < N_MANY ? limit : N_MANY;
		bool feed = i % 2;

		count_limited(&s, (size_t)limit, feed);
		if (feed && s.end_r == -EHOSTUNREACH) /* too old: what is now */
			count_limited(&s, (size_t)limit, feed);
		ck_assert_int_eq(s.end_r, 0);
		if (feed) /* it may be of a moment ago */
			ck_assert(s.rev > 0 && s.rev <= want);
		else
			ck_assert_int_eq(s.rev, want);
	}
	store_close(s.st);
	event_base_free(s.base);
}
END_TEST

void random_key(char key[static SUITE_KEY_SIZE])
{
	snprintf(key, SUITE_KEY_SIZE, KEYS "%ld", random() % N_KEYS);
}

int try_random_write(struct store *st, int id, int i)
{
	struct store_kv kv = {0};
	char key[SUITE_KEY_SIZE];
	int n = id << 20 | i, r;

	random_key(key);
	r = store_get_wait(st, key, 0, &kv, &err);
	if (r == -ENOENT)
		r = create(st, key, n, NULL);
	else if (r == 0 && random() % 3 == 0)
		r = store_delete_wait(st, key, kv.rev, NULL, 0, &err);
	else if (r == 0)
		r = update(st, key, n, kv.rev, NULL);
	store_kv_done(&kv);
	return r;
}

bool random_write(struct store *st, int id, int i)
{
	int r = try_random_write(st, id, i);

	if (r < 0 && r != -EEXIST && r != -ESTALE && r != -ENOENT) {
		fprintf(stderr, "writer %d: %s\n", id, err_text(&err));
		_exit(1);
	}
	return r == 0;
}

static void w_event(void *arg, const struct store_kv *kv)
{
	struct watcher *w = arg;

	ck_assert_int_gt(kv->rev, w->last); /* in order, and none twice */
	w->last = kv->rev;
	w->rev[index_of(kv->key)] = kv->value ? kv->rev : 0;
	w->n++;
}

static void w_end(void *arg, int r, const struct err *e)
{
	struct watcher *w = arg;

	ck_assert_msg(r == -ESTALE || r == -EHOSTUNREACH, "%s", err_text(e));
	w->watch = NULL;
	w->ends++;
}

void watcher_go_on(struct watcher *w, struct store *lister)
{
	struct store_list l = {0};

	if (w->watch || store_list_wait(lister, KEYS, 0, &l, &err) < 0)
		return;
	ck_assert_int_ge(l.rev, w->last);
	w->last = l.rev;
	memset(w->rev, 0, sizeof(w->rev));
	for (size_t i = 0; i < l.n; i++)
		w->rev[index_of(l.v[i].key)] = l.v[i].rev;
	w->watch = store_watch(w->st, KEYS, l.rev, w_event, w_end, w);
	store_list_done(&l);
}

static bool watcher_equals(const struct watcher *w, const struct store_list *l)
{
	int64_t rev[N_KEYS] = {0};

	for (size_t i = 0; i < l->n; i++)
		rev[index_of(l->v[i].key)] = l->v[i].rev;
	return memcmp(rev, w->rev, sizeof(rev)) == 0;
}

static void f_set(void *arg, const char *key, const char *value, size_t len, int64_t rev)
{
	struct follower *f = arg;
	int i = index_of(key);

	ck_assert_uint_eq(strlen(value), len);
	ck_assert(!f->key[i].value || strcmp(f->key[i].value, value) != 0); /* a real difference */
	ck_assert_int_gt(rev, f->key[i].rev);
	free(f->key[i].value);
	f->key[i].value = mem_strdup(value);
	f->key[i].rev = rev;
	f->sets++;
}

static void f_del(void *arg, const char *key)
{
	struct follower *f = arg;
	int i = index_of(key);

	ck_assert(f->may_delete);
	ck_assert_ptr_nonnull(f->key[i].value);
	free(f->key[i].value);
	f->key[i].value = NULL;
	f->dels++;
}

static void f_in_sync(void *arg)
{
	((struct follower *)arg)->in_sync++;
}

static void f_state(void *arg)
{
	((struct follower *)arg)->states++;
}

const struct sync_ops f_ops = {.set = f_set, .del = f_del, .in_sync = f_in_sync, .state = f_state};
const char *const f_prefix[1] = {KEYS};

void f_done(struct follower *f)
{
	sync_free(f->sync);
	for (size_t i = 0; i < N_KEYS; i++)
		free(f->key[i].value);
}

bool f_equals(const struct follower *f, const struct store_list *l)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		const char *have = f->key[index_of(l->v[i].key)].value;

		if (!have || strcmp(have, l->v[i].value) != 0)
			return false;
	}
	for (size_t i = 0; i < N_KEYS; i++)
		n += f->key[i].value != NULL;
	return n == l->n;
}

void wait_equal(struct follower *f, struct watcher *w, struct store *lister)
{
	int64_t end = clock_mono_ms() + 30000;
	struct store_list l = {0};

	ok(store_list_wait(lister, KEYS, 0, &l, &err));
	while (clock_mono_ms() < end &&
		!(f_equals(f, &l) && sync_up(f->sync) && watcher_equals(w, &l))) {
		watcher_go_on(w, lister);
		sync_retry(f->sync); /* at once: its back-off is another test's */
		run_until(f->base, NULL, 0, 5);
	}
	ck_assert_msg(f_equals(f, &l), "%s", sync_state(f->sync));
	ck_assert_msg(watcher_equals(w, &l), "%d events, %d ends", w->n, w->ends);
	store_list_done(&l);
}

struct many {
	struct store *other;
	size_t n;
	int64_t rev;
	int done;
};

/* After the first page the store changes behind the list's back. */
static void many_page(void *arg, const struct store_res *res)
{
	struct many *m = arg;
	char key[SUITE_KEY_SIZE];

	ck_assert_int_eq(res->r, 0);
	if (m->n == 0) {
		m->rev = res->rev;
		ok(store_delete_wait(m->other, KEYS "01200", 0, NULL, 0, &err));
		ok(update(m->other, KEYS "01199", 0, 0, NULL));
		ok(create(m->other, KEYS "01201", 1, NULL));
	}
	ck_assert_int_eq(res->rev, m->rev);
	for (size_t i = 0; i < res->n; i++, m->n++) {
		snprintf(key, sizeof(key), KEYS "%05zu", m->n);
		ck_assert_str_eq(res->kvs[i].key, key);
		ck_assert_int_eq(number_of(res->kvs[i].value), (int)m->n);
		ck_assert_int_le(res->kvs[i].rev, res->rev);
	}
	m->done = !res->more;
}

START_TEST(a_list_of_many_pages_shows_one_revision)
{
	struct seen s = {0};
	struct many m = {0};

	if (drivers[_i].alone)
		return;
	s.base = event_base_new();
	s.st = drivers[_i].open(s.base);
	m.other = drivers[_i].open(NULL);
	create_many(&s);
	store_start(s.st, &(struct store_req){.verb = STORE_LIST, .key = KEYS}, many_page, &m);
	wait_for(s.base, &m.done, 1);
	ck_assert_uint_eq(m.n, N_MANY);
	store_close(m.other);
	store_close(s.st);
	event_base_free(s.base);
}
END_TEST

/* ---- a follower, whatever happens meanwhile ---- */

static void wait_end(struct follower *f, const struct watcher *w)
{
	int64_t end = clock_mono_ms() + 30000;

	while (w->watch && clock_mono_ms() < end)
		run_until(f->base, NULL, 0, 5);
	ck_assert_ptr_null(w->watch);
}

/* Of all that was written, by one and the same watch. */
static void was_told(const struct watcher *w, const struct store_suite_driver *driver,
	struct event_base *base, int n_written)
{
	if (driver->all)
		wait_for(base, &w->n, n_written);
	ck_assert_int_eq(w->ends, 0);
}

START_TEST(a_follower_misses_nothing)
{
	const char *text = getenv("MARGAY_STORE_OPS");
	int n = text ? atoi(text) : drivers[_i].n_ops ?: 2000, every = 250, n_written = 0;
	int n_forgets = 0, forget_every = 1 + n / every / 100;
	struct follower f = {.may_delete = true};
	struct watcher w = {0};
	struct store *st, *writer;

	if (drivers[_i].alone)
		return;
	seed();
	f.base = event_base_new();
	st = drivers[_i].open(f.base);
	writer = drivers[_i].open(NULL);
	f.sync = sync_new(st, f_prefix, 1, &f_ops, &f, NULL);
	w.st = st;
	for (int i = 0; i < n; i++) {
		watcher_go_on(&w, writer);
		n_written += random_write(writer, 0, i);
		if (random() % 4 == 0)
			run_until(f.base, NULL, 0, 1);
		if (i == n / 2) {
			wait_equal(&f, &w, writer);
			was_told(&w, &drivers[_i], f.base, n_written);
		}
		if (i % every != every / 2)
			continue;
		if (drivers[_i].harm)
			drivers[_i].harm(i / every);
		if (drivers[_i].forget && i > n / 2 && i / every % forget_every == 0) {
			drivers[_i].forget(n_forgets++);
			wait_end(&f, &w);
			wait_equal(&f, &w, writer);
		}
	}
	wait_equal(&f, &w, writer);
	if (!n_forgets)
		was_told(&w, &drivers[_i], f.base, n_written);
	ck_assert_int_eq(f.in_sync, 1);
	ck_assert_str_eq(sync_state(f.sync), "in sync");
	printf("%d writes: %d sets, %d deletions; %d events, %d ends of the watch\n", n_written,
		f.sets, f.dels, w.n, w.ends);
	f_done(&f);
	store_close(writer);
	store_close(st);
	event_base_free(f.base);
}
END_TEST

void store_suite_add(Suite *s, const struct store_suite_driver *ds, int n, void (*setup)(void),
	void (*teardown)(void))
{
	TCase *tc = tcase_create("every driver");

	drivers = ds;
	tcase_add_checked_fixture(tc, setup, teardown);
	/* Check itself cannot count more than 2147 s. */
	tcase_set_timeout(tc, getenv("MARGAY_STORE_OPS") ? 2100 : 60);
	tcase_add_loop_test(tc, point_operations, 0, n);
	tcase_add_loop_test(tc, list_is_the_prefix_in_order, 0, n);
	tcase_add_loop_test(tc, bad_requests_are_refused, 0, n);
	tcase_add_loop_test(tc, watch_tells_what_follows, 0, n);
	tcase_add_loop_test(tc, watches_may_change_inside_their_callback, 0, n);
	tcase_add_loop_test(tc, a_cancelled_operation_is_silent, 0, n);
	tcase_add_loop_test(tc, a_list_may_be_cancelled_between_pages, 0, n);
	tcase_add_loop_test(tc, a_list_may_be_limited, 0, n);
	tcase_add_loop_test(tc, a_list_of_many_pages_shows_one_revision, 0, n);
	tcase_add_loop_test(tc, a_follower_misses_nothing, 0, n);
	tcase_add_loop_test(tc, what_is_leased_expires, 0, n);
	suite_add_tcase(s, tc);
}
