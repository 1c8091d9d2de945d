/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The blocking forms: an operation, and the private loop until it is done. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/vec.h"
#include "store/driver.h"
#include "store/known.h"
#include "store/txn.h"

#define ADVICE_MS 3000 /* what a user waits for it */

static int64_t deadline(int64_t deadline_ms)
{
	return deadline_ms ? deadline_ms : clock_mono_ms() + STORE_TIMEOUT_MS;
}

void store_set_limit(struct store *st, int64_t ms)
{
	st->limit_ms = ms;
	st->silent = false;
}

bool store_is_silent(const struct store *st)
{
	return st->silent;
}

int store_limit(struct store *st, bool is_list, int64_t *deadline_ms, struct err *err)
{
	const int64_t last_ms = clock_mono_ms() + st->limit_ms;

	if (st->silent)
		return err_set(err, -EHOSTUNREACH, "%s", err_text(&st->silence));
	if (st->limit_ms && !is_list && deadline(*deadline_ms) > last_ms)
		*deadline_ms = last_ms;
	return 0;
}

void store_limit_end(struct store *st, int64_t began_ms, int r, const struct err *err)
{
	if (!st->limit_ms || (r != -EHOSTUNREACH && r != -ETIMEDOUT) ||
		clock_mono_ms() - began_ms < st->limit_ms / 2)
		return;
	st->silent = true;
	st->silence = *err;
}

int store_txn_begin_wait(struct store *st, int64_t deadline_ms, struct err *err)
{
	assert(st->own_base);
	if (st->ops->txn_begin)
		return st->ops->txn_begin(st, deadline(deadline_ms), err);
	if (st->ops->txn_commit)
		txn_begin(st);
	return 0;
}

int store_txn_end_wait(struct store *st, int64_t deadline_ms, struct err *err)
{
	if (st->ops->txn_end)
		return st->ops->txn_end(st, err);
	return st->txn ? txn_end(st, deadline(deadline_ms), err) : 0;
}

int store_txn_wait(struct store *st, int64_t deadline_ms, store_txn_fn *fn, void *arg, int *ret,
	struct err *err)
{
	int end;

	deadline_ms = deadline(deadline_ms);
	do {
		*ret = store_txn_begin_wait(st, deadline_ms, err);
		if (*ret < 0)
			return 0;
		*ret = fn(arg, err);
		end = store_txn_end_wait(st, deadline_ms, *ret == 0 ? err : NULL);
	} while ((end == -ESTALE || end == -ETIMEDOUT) && !st->silent &&
		 clock_mono_ms() < deadline_ms);
	return end;
}

bool store_has_txns(const struct store *st)
{
	return st->ops->txn_begin || st->ops->txn_commit;
}

void store_txn_expect_new(struct store *st, const char *key)
{
	if (st->txn && st->txn->open)
		txn_expect_new(st, key);
	if (st->known && st->known->told)
		known_expect_new(st, key);
}

struct wait {
	bool done;
	int r;
	struct err err;
	int64_t rev;
	VEC(struct store_kv) kvs;
};

static void wait_done(void *arg, const struct store_res *res)
{
	struct wait *w = arg;

	w->done = !res->more;
	w->r = res->r;
	w->rev = res->rev;
	if (res->r < 0 && res->err)
		w->err = *res->err;
	for (size_t i = 0; i < res->n; i++) {
		struct store_kv kv = res->kvs[i];

		kv.key = mem_strdup(kv.key);
		kv.value = mem_strndup(kv.value, kv.len);
		vec_push(&w->kvs, kv);
	}
}

int store_do_wait(
	struct store *st, const struct store_req *req, struct store_list *ret, struct err *err)
{
	const int64_t began_ms = clock_mono_ms();
	struct wait w = {.err = ERR_INIT};
	struct store_req rq = *req;
	int r = store_limit(st, rq.verb == STORE_LIST, &rq.deadline_ms, err);

	assert(st->own_base); /* a running event loop never waits */
	*ret = (struct store_list){0};
	if (r < 0)
		return r;
	/* At once: SQLite is done then. */
	store_op_begin(store_start(st, &rq, wait_done, &w));
	while (!w.done)
		event_base_loop(st->base, EVLOOP_ONCE);
	store_limit_end(st, began_ms, w.r, &w.err);
	if (w.r < 0 && err)
		*err = w.err;
	*ret = (struct store_list){.v = w.kvs.v, .n = w.kvs.n, .rev = w.rev};
	if (w.r < 0)
		store_list_done(ret);
	return w.r;
}

static int call_wait(
	struct store *st, const struct store_req *req, struct store_list *ret, struct err *err)
{
	if (st->txn && st->txn->open)
		return txn_do(st, req, ret, err);
	if (st->known)
		return known_do(st, req, ret, err);
	return store_do_wait(st, req, ret, err);
}

int store_get_wait(struct store *st, const char *key, int64_t deadline_ms, struct store_kv *ret,
	struct err *err)
{
	struct store_list l;
	int r = call_wait(st,
		&(struct store_req){.verb = STORE_GET, .key = key, .deadline_ms = deadline_ms}, &l,
		err);

	if (r < 0)
		return r;
	*ret = l.v[0];
	free(l.v);
	return 0;
}

int store_list_wait(struct store *st, const char *prefix, int64_t deadline_ms,
	struct store_list *ret, struct err *err)
{
	struct store_list l;
	int r = call_wait(st,
		&(struct store_req){.verb = STORE_LIST, .key = prefix, .deadline_ms = deadline_ms},
		&l, err);

	if (r == 0)
		*ret = l;
	return r;
}

int store_list_unindexed_wait(struct store *st, const char *prefix, int64_t deadline_ms,
	struct store_list *ret, struct err *err)
{
	const struct store_req req = {
		.verb = STORE_LIST, .key = prefix, .unindexed = true, .deadline_ms = deadline_ms};
	struct store_list l;
	int r = st->known ? known_do(st, &req, &l, err) : store_do_wait(st, &req, &l, err);

	if (r == 0)
		*ret = l;
	return r;
}

struct advice_wait {
	bool done;
	char *text;
};

static void advice_done(void *arg, const char *text)
{
	struct advice_wait *w = arg;

	w->done = true;
	w->text = text ? mem_strdup(text) : NULL;
}

static void advice_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	*(bool *)arg = true;
}

char *store_advise_wait(struct store *st)
{
	struct advice_wait w = {0};
	bool late = false;
	struct store_advice *a;
	struct event *timer;

	assert(st->own_base);
	a = store_advise(st, advice_done, &w);
	if (!a)
		return NULL;
	timer = evtimer_new(st->base, advice_late, &late);
	if (!timer)
		abort();
	store_arm(timer, ADVICE_MS);
	while (!w.done && !late)
		event_base_loop(st->base, EVLOOP_ONCE);
	event_free(timer);
	if (!w.done)
		store_advice_cancel(a);
	return w.text;
}

static int write_wait(
	struct store *st, const struct store_req *req, int64_t *ret_rev, struct err *err)
{
	struct store_list l;
	int r = call_wait(st, req, &l, err);

	if (r < 0)
		return r;
	if (ret_rev)
		*ret_rev = l.rev;
	store_list_done(&l);
	return 0;
}

int store_create_wait(struct store *st, const char *key, const char *value, int64_t deadline_ms,
	int64_t *ret_rev, struct err *err)
{
	return write_wait(st,
		&(struct store_req){.verb = STORE_CREATE,
			.key = key,
			.value = value,
			.deadline_ms = deadline_ms},
		ret_rev, err);
}

int store_update_wait(struct store *st, const char *key, const char *value, int64_t rev,
	int64_t deadline_ms, int64_t *ret_rev, struct err *err)
{
	return write_wait(st,
		&(struct store_req){.verb = STORE_UPDATE,
			.key = key,
			.value = value,
			.rev = rev,
			.deadline_ms = deadline_ms},
		ret_rev, err);
}

int store_delete_wait(struct store *st, const char *key, int64_t rev, const char *uid,
	int64_t deadline_ms, struct err *err)
{
	return write_wait(st,
		&(struct store_req){.verb = STORE_DELETE,
			.key = key,
			.rev = rev,
			.uid = uid,
			.deadline_ms = deadline_ms},
		NULL, err);
}
