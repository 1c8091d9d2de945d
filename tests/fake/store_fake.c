/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fake/store_fake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <jansson.h>

#include "base/vec.h"
#include "store/driver.h"

struct row {
	char *key;
	char *value; /* NULL = deleted */
	int64_t rev;
	int64_t create_rev;
};

struct fake {
	struct store st;
	VEC(struct row) rows; /* in the order of their revisions */
	int64_t rev;
	int64_t compact;
	struct event *turn; /* completes what waits */
	unsigned op_count;
	size_t listed_count;
	unsigned fail_at;
	int fail_r;
	unsigned call_at;
	void (*call)(void *arg);
	void *call_arg;
	const char *refused, *lacked, *unindexed;
	bool lose; /* the failing operation takes effect */
	bool away;
	bool deaf;
	bool hold;
};

struct fake_op {
	struct store_op op;
	bool queued;
};

struct fake_watch {
	struct store_watch w;
	bool ready;
};

static struct fake *to_fake(const struct store *st)
{
	return (struct fake *)(uintptr_t)st;
}

static struct row *find(struct fake *f, const char *key)
{
	struct row *row;

	vec_for_each (&f->rows, row)
		if (strcmp(row->key, key) == 0)
			return row;
	return NULL;
}

static void wake(struct fake *f)
{
	if (!f->hold)
		event_active(f->turn, EV_TIMEOUT, 0);
}

static int64_t put(struct fake *f, const char *key, const char *value)
{
	struct row row = {.rev = ++f->rev, .create_rev = f->rev};
	struct row *old = find(f, key);

	if (old) {
		size_t i = (size_t)(old - f->rows.v);

		row.key = old->key;
		if (old->value)
			row.create_rev = old->create_rev;
		free(old->value);
		memmove(old, old + 1, (f->rows.n - i - 1) * sizeof(*old));
		f->rows.n--;
	} else {
		row.key = mem_strdup(key);
	}
	row.value = value ? mem_strdup(value) : NULL;
	vec_push(&f->rows, row);
	wake(f);
	return f->rev;
}

static struct store_kv row_kv(const struct row *row)
{
	return (struct store_kv){.key = row->key,
		.value = row->value,
		.len = row->value ? strlen(row->value) : 0,
		.rev = row->rev,
		.create_rev = row->create_rev};
}

/* ---- operations ---- */

static bool uid_is(const struct row *row, const char *uid)
{
	json_t *json = json_loads(row->value, 0, NULL);
	const char *have =
		json_string_value(json_object_get(json_object_get(json, "metadata"), "uid"));
	bool is = have && strcmp(have, uid) == 0;

	json_decref(json);
	return is;
}

static int write_row(struct fake *f, const struct store_req *req, struct err *err)
{
	struct row *row = find(f, req->key);

	if (row && !row->value)
		row = NULL;
	if (req->verb == STORE_CREATE) {
		if (row)
			return err_set(err, -EEXIST, "%s: exists already", req->key);
	} else if (!row) {
		return err_set(err, -ENOENT, "%s: not in the datastore", req->key);
	} else if (req->rev && req->rev != row->rev) {
		return err_set(err, -ESTALE, "%s: was changed meanwhile", req->key);
	} else if (req->uid && !uid_is(row, req->uid)) {
		return err_set(err, -ESTALE, "%s: has another uid", req->key);
	}
	put(f, req->key, req->verb == STORE_DELETE ? NULL : req->value);
	if (f->unindexed && strcmp(req->key, f->unindexed) == 0)
		f->unindexed = NULL;
	return 0;
}

static int row_cmp(const void *a, const void *b)
{
	return strcmp(((const struct store_kv *)a)->key, ((const struct store_kv *)b)->key);
}

/* In two pages, where there are two objects: pages are part of the interface. */
static void list(struct fake *f, struct store_op *op)
{
	VEC(struct store_kv) kvs = {0};
	const struct row *row;
	size_t n, half;

	vec_for_each (&f->rows, row)
		if (row->value && strncmp(row->key, op->req.key, strlen(op->req.key)) == 0 &&
			(f->unindexed && strcmp(row->key, f->unindexed) == 0) == op->req.unindexed)
			vec_push(&kvs, row_kv(row));
	if (kvs.n)
		qsort(kvs.v, kvs.n, sizeof(*kvs.v), row_cmp);
	n = op->req.limit && op->req.limit < kvs.n ? op->req.limit : kvs.n;
	half = n / 2;
	f->listed_count += n;
	if (!half ||
		store_op_done(op,
			&(struct store_res){.rev = f->rev, .kvs = kvs.v, .n = half, .more = true}))
		store_op_done(op,
			&(struct store_res){
				.rev = f->rev, .kvs = kvs.v ? kvs.v + half : NULL, .n = n - half});
	vec_done(&kvs);
}

static void complete(struct fake *f, struct store_op *op)
{
	bool fails = ++f->op_count == f->fail_at;
	struct err err = ERR_INIT;
	struct store_kv kv;
	struct row *row;
	int r = 0;

	if (f->op_count == f->call_at)
		f->call(f->call_arg);
	if (f->away)
		r = err_set(&err, -EHOSTUNREACH, "fake datastore: away");
	else if (f->refused && strncmp(op->req.key, f->refused, strlen(f->refused)) == 0)
		r = err_set(&err, -EACCES, "fake datastore: %s: refused", op->req.key);
	else if (f->lacked && op->req.verb == STORE_LIST && strcmp(op->req.key, f->lacked) == 0)
		r = err_set(&err, -ENOENT, "fake datastore: no such kind: %s", op->req.key);
	else if (fails && !f->lose)
		r = err_set(
			&err, f->fail_r, "fake datastore: operation %u is to fail", f->op_count);
	if (r == 0 && op->req.verb >= STORE_CREATE)
		r = write_row(f, &op->req, &err);
	if (fails && f->lose)
		r = err_set(&err, -ETIMEDOUT, "fake datastore: answer %u is lost", f->op_count);
	if (r < 0) {
		store_op_fail(op, r, &err);
	} else if (op->req.verb == STORE_LIST) {
		list(f, op);
	} else if (op->req.verb == STORE_GET) {
		row = find(f, op->req.key);
		if (!row || !row->value) {
			r = err_set(&err, -ENOENT, "%s: not in the datastore", op->req.key);
			store_op_fail(op, r, &err);
			return;
		}
		kv = row_kv(row);
		store_op_done(op, &(struct store_res){.rev = kv.rev, .kvs = &kv, .n = 1});
	} else {
		store_op_done(op, &(struct store_res){.rev = f->rev});
	}
}

/* ---- watches ---- */

static struct store_watch *next_behind(struct fake *f, bool stale_only)
{
	struct store_watch *w;

	list_for_each (w, &f->st.watches, node)
		if (container_of(w, struct fake_watch, w)->ready &&
			(w->rev < f->compact || f->away || f->deaf ||
				(!stale_only && w->rev < f->rev)))
			return w;
	return NULL;
}

static void catch_up(struct fake *f, struct store_watch *w)
{
	for (size_t i = 0; i < f->rows.n; i++) {
		struct store_kv kv = row_kv(&f->rows.v[i]);

		if (kv.rev <= w->rev || strncmp(kv.key, w->prefix, w->prefix_len) != 0)
			continue;
		/* The callback may change the store: go on from the new revision later. */
		store_watch_event(w, &kv);
		return;
	}
	w->rev = f->rev;
}

static void serve_watches(struct fake *f)
{
	struct store_watch *w;
	struct err err = ERR_INIT;

	list_for_each (w, &f->st.watches, node)
		container_of(w, struct fake_watch, w)->ready = true;
	while ((w = next_behind(f, true))) {
		int r = f->away	  ? err_set(&err, -EHOSTUNREACH, "fake datastore: away")
			: f->deaf ? err_set(&err, -EHOSTUNREACH, "fake datastore: deaf")
				  : err_set(&err, -ESTALE, "fake datastore: compacted");

		store_watch_end(w, r, &err);
	}
	while ((w = next_behind(f, false)))
		catch_up(f, w);
}

static struct store_op *next_op(struct fake *f)
{
	struct store_op *op;

	list_for_each (op, &f->st.ops_list, node)
		if (container_of(op, struct fake_op, op)->queued)
			return op;
	return NULL;
}

static void turn(evutil_socket_t fd, short what, void *arg)
{
	struct fake *f = arg;
	struct store_op *op;

	(void)fd;
	(void)what;
	while (!f->hold && (op = next_op(f)))
		complete(f, op);
	if (!f->hold)
		serve_watches(f);
}

static void fake_op_start(struct store_op *op)
{
	container_of(op, struct fake_op, op)->queued = true;
	wake(to_fake(op->st));
}

static void fake_op_stop(struct store_op *op)
{
	container_of(op, struct fake_op, op)->queued = false;
}

static void fake_watch_start(struct store_watch *w)
{
	wake(to_fake(w->st));
}

static void fake_watch_stop(struct store_watch *w)
{
	(void)w;
}

static void fake_close(struct store *st)
{
	struct fake *f = to_fake(st);
	struct row *row;

	vec_for_each (&f->rows, row) {
		free(row->key);
		free(row->value);
	}
	vec_done(&f->rows);
	event_free(f->turn);
	free(f);
}

static const struct store_ops fake_ops = {
	.op_size = sizeof(struct fake_op),
	.watch_size = sizeof(struct fake_watch),
	.has_index = true,
	.op_start = fake_op_start,
	.op_stop = fake_op_stop,
	.watch_start = fake_watch_start,
	.watch_stop = fake_watch_stop,
	.close = fake_close,
};

struct store *store_fake_new(struct event_base *base)
{
	struct fake *f = mem_new(struct fake);

	store_init(&f->st, &fake_ops, base, mem_strdup("fake"));
	f->rev = 1;
	f->turn = evtimer_new(f->st.base, turn, f);
	return &f->st;
}

void store_fake_manage(struct store *st)
{
	st->managed = true;
}

int64_t store_fake_put(struct store *st, const char *key, const char *value)
{
	return put(to_fake(st), key, value);
}

const char *store_fake_value(struct store *st, const char *key)
{
	const struct row *row = find(to_fake(st), key);

	return row ? row->value : NULL;
}

int64_t store_fake_rev(struct store *st, const char *key)
{
	const struct row *row = find(to_fake(st), key);

	return row && row->value ? row->rev : 0;
}

void store_fake_fail_nth(struct store *st, unsigned n, int r)
{
	struct fake *f = to_fake(st);

	f->fail_at = n ? f->op_count + n : 0;
	f->fail_r = r;
	f->lose = false;
}

void store_fake_lose_nth(struct store *st, unsigned n)
{
	store_fake_fail_nth(st, n, -ETIMEDOUT);
	to_fake(st)->lose = true;
}

size_t store_fake_listed_count(const struct store *st)
{
	return to_fake(st)->listed_count;
}

void store_fake_call_nth(struct store *st, unsigned n, void (*fn)(void *arg), void *arg)
{
	struct fake *f = to_fake(st);

	f->call_at = n ? f->op_count + n : 0;
	f->call = fn;
	f->call_arg = arg;
}

unsigned store_fake_op_count(const struct store *st)
{
	return to_fake(st)->op_count;
}

void store_fake_refuse(struct store *st, const char *prefix)
{
	to_fake(st)->refused = prefix;
}

void store_fake_lack(struct store *st, const char *prefix)
{
	to_fake(st)->lacked = prefix;
}

void store_fake_unindex(struct store *st, const char *key)
{
	to_fake(st)->unindexed = key;
}

void store_fake_away(struct store *st, bool away)
{
	struct fake *f = to_fake(st);

	f->away = away;
	wake(f);
}

void store_fake_deaf(struct store *st, bool deaf)
{
	struct fake *f = to_fake(st);

	f->deaf = deaf;
	wake(f);
}

void store_fake_compact(struct store *st)
{
	struct fake *f = to_fake(st);

	f->compact = ++f->rev;
	wake(f);
}

void store_fake_hold(struct store *st, bool hold)
{
	struct fake *f = to_fake(st);

	f->hold = hold;
	wake(f);
}

bool store_fake_idle(const struct store *st)
{
	struct fake *f = to_fake(st);
	struct store_watch *w;

	if (f->hold)
		return true;
	list_for_each (w, &f->st.watches, node)
		if (!container_of(w, struct fake_watch, w)->ready)
			return false;
	return list_empty(&f->st.ops_list) && !next_behind(f, false);
}
