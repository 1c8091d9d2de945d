/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/txn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/driver.h"

/* What is kept for the next transaction. */
enum { KEEP_ITEMS = 64, KEEP_BYTES = 1 << 20 };

/* ---- items ---- */

static void item_settle(struct txn_item *i)
{
	free(i->put.value);
	i->put = (struct store_kv){0};
	i->written = false;
}

static void item_free(struct txn_item *i)
{
	item_settle(i);
	store_list_done(&i->had);
	list_del(&i->node);
	free(i->key);
	free(i);
}

static size_t item_bytes(const struct txn_item *i)
{
	size_t n = 0;

	for (size_t k = 0; k < i->had.n; k++)
		n += i->had.v[k].len;
	return n;
}

static struct txn_item *find(struct store_txn *t, const char *key, bool is_list)
{
	struct txn_item *i;

	list_for_each (i, &t->items, node)
		if (i->is_list == is_list && strcmp(i->key, key) == 0)
			return i;
	return NULL;
}

/* What is not there is known, too. */
static int item_read(struct store *st, struct txn_item *i, int64_t deadline_ms, struct err *err)
{
	const struct store_req req = {.verb = i->is_list ? STORE_LIST : STORE_GET,
		.key = i->key,
		.deadline_ms = deadline_ms};
	struct store_list had = {0};
	int r = store_do_wait(st, &req, &had, err);

	if (r == -ENOENT && !i->is_list)
		r = 0;
	if (r == 0)
		txn_reread(i, &had);
	return r;
}

static struct txn_item *item_new(const char *key, bool is_list)
{
	struct txn_item *i = mem_new(struct txn_item);

	i->key = mem_strdup(key);
	i->is_list = is_list;
	list_init(&i->node);
	return i;
}

static void put_first(struct store_txn *t, struct txn_item *i)
{
	i->used_by = t->n;
	list_del(&i->node);
	list_add_tail(t->items.next, &i->node);
}

/* The item of the request, read or as it was. */
static int use(
	struct store *st, const struct store_req *req, struct txn_item **ret, struct err *err)
{
	struct store_txn *t = st->txn;
	bool is_list = req->verb == STORE_LIST;
	struct txn_item *i = find(t, req->key, is_list);
	int r = 0;

	if (!i) {
		i = item_new(req->key, is_list);
		r = item_read(st, i, req->deadline_ms, err);
	} else if (i->used_by != t->n) {
		i->cached = true;
	}
	if (r < 0) {
		item_free(i);
		return r;
	}
	put_first(t, i);
	*ret = i;
	return 0;
}

void txn_expect_new(struct store *st, const char *key)
{
	struct store_txn *t = st->txn;
	struct txn_item *i;

	if (!t->many && !find(t, key, false)) {
		i = item_new(key, false);
		i->cached = true;
		put_first(t, i);
	}
}

/* As the transaction sees it; NULL: it is not there. */
static const struct store_kv *current(const struct txn_item *i)
{
	if (i->written)
		return i->put.value ? &i->put : NULL;
	return i->had.n > 0 ? &i->had.v[0] : NULL;
}

static int by_key(const void *a, const void *b)
{
	const struct store_kv *x = a, *y = b;

	return strcmp(x->key, y->key);
}

/* A list, with what the transaction writes under its prefix. */
static void merge(struct store_txn *t, const struct txn_item *list, struct store_list *ret)
{
	const size_t n = strlen(list->key);
	struct txn_item *i;

	*ret = (struct store_list){.rev = list->had.rev};
	for (size_t k = 0; k < list->had.n; k++) {
		i = find(t, list->had.v[k].key, false);
		if (!i || !i->written)
			store_list_add_take(ret, store_kv_copy(&list->had.v[k]));
	}
	list_for_each (i, &t->items, node)
		if (i->written && i->put.value && strncmp(i->key, list->key, n) == 0)
			store_list_add_take(ret, store_kv_copy(&i->put));
	if (ret->n > 0)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_key);
}

/* ---- operations ---- */

static int missing(const struct store_req *req, struct err *err)
{
	return err_set(err, -ENOENT, "%s: not in the datastore", req->key);
}

static int check(const struct txn_item *i, const struct store_req *req, struct err *err)
{
	const struct store_kv *kv = current(i);

	if (req->verb != STORE_CREATE)
		return kv ? store_check_before(req, kv, err) : missing(req, err);
	return kv ? err_set(err, -EEXIST, "%s: exists already, at revision %lld", req->key,
			    (long long)kv->rev)
		  : 0;
}

static int put(struct store *st, struct txn_item *i, const struct store_req *req, int64_t *ret_rev,
	struct err *err)
{
	const struct store_kv *kv;
	struct store_kv new = {.key = i->key};
	int r = check(i, req, err);

	/* Whoever names another revision may have read it meanwhile. */
	if (r < 0 && i->cached && !i->written)
		r = item_read(st, i, req->deadline_ms, err) ?: check(i, req, err);
	if (r < 0)
		return r;
	kv = current(i);
	new.rev = *ret_rev = ++st->txn->last_rev;
	if (req->verb != STORE_DELETE) {
		new.len = req->len ? req->len : strlen(req->value);
		new.value = mem_strndup(req->value, new.len);
		new.create_rev = kv ? kv->create_rev : 0;
	}
	item_settle(i);
	i->put = new;
	i->written = true;
	return 0;
}

int txn_do(struct store *st, const struct store_req *asked, struct store_list *ret, struct err *err)
{
	struct store_req req = *asked;
	struct txn_item *i = NULL;
	int r;

	*ret = (struct store_list){0};
	if (req.value && req.len == 0)
		req.len = strlen(req.value);
	r = store_check_req(st, &req, err);
	if (r == 0)
		r = use(st, &req, &i, err);
	if (r < 0)
		return r;
	switch (req.verb) {
	case STORE_GET:
		if (!current(i))
			return missing(&req, err);
		store_list_add_take(ret, store_kv_copy(current(i)));
		return 0;
	case STORE_LIST:
		merge(st->txn, i, ret);
		return 0;
	case STORE_CREATE:
	case STORE_UPDATE:
	case STORE_DELETE:
		return put(st, i, &req, &ret->rev, err);
	}
	return -EINVAL;
}

/* ---- begin and end ---- */

void txn_begin(struct store *st)
{
	if (!st->txn) {
		st->txn = mem_new(struct store_txn);
		list_init(&st->txn->items);
	}
	st->txn->n++;
	st->txn->open = true;
	st->txn->last_rev = INT64_MAX / 2; /* no datastore's */
}

static void forget_used(struct store_txn *t)
{
	struct txn_item *i, *next;

	list_for_each_safe (i, next, &t->items, node)
		if (i->used_by == t->n)
			item_free(i);
}

/* Those that were needed last stay. */
static void trim(struct store_txn *t)
{
	struct txn_item *i, *next;
	size_t n = 0, bytes = 0;

	list_for_each_safe (i, next, &t->items, node) {
		item_settle(i);
		bytes += item_bytes(i);
		if (++n > KEEP_ITEMS || bytes > KEEP_BYTES)
			item_free(i);
	}
}

/* 1 = it is to be sent; 0 = it says nothing that is not known to be so. */
static int prepare(struct store_txn *t, struct err *err)
{
	size_t n = 0, n_items = 0;
	bool cached = false, written = false;
	struct txn_item *i;

	txn_for_each (i, t) {
		n += i->is_list ? i->had.n + 1 : 1;
		n_items++;
		written |= i->written;
		cached |= i->cached;
	}
	t->whole = n <= TXN_MAX;
	if (n_items > TXN_MAX)
		return err_set(err, -EFBIG,
			"a transaction of %zu objects and lists, want at most %d", n_items,
			TXN_MAX);
	/* Too many conditions: what was read is to be of now, as without a transaction. */
	t->many |= !t->whole;
	if (!t->whole && cached)
		return err_set(err, -ESTALE, "%zu objects were read a while ago", n);
	return cached || written;
}

static int commit(struct store *st, int64_t deadline_ms, struct err *err)
{
	const int64_t began_ms = clock_mono_ms();
	struct err e = ERR_INIT;
	int r = store_limit(st, false, &deadline_ms, err);

	if (r < 0)
		return r;
	r = st->ops->txn_commit(st, st->txn, deadline_ms, &e);
	store_limit_end(st, began_ms, r, &e);
	if (r < 0 && err)
		*err = e;
	return r;
}

int txn_end(struct store *st, int64_t deadline_ms, struct err *err)
{
	struct store_txn *t = st->txn;
	int r = prepare(t, err);
	bool sent = r > 0;

	t->open = false;
	if (sent)
		r = commit(st, deadline_ms, err);
	if (r < 0 && !(sent && r == -ESTALE))
		forget_used(t);
	trim(t);
	return r;
}

void txn_free(struct store_txn *t)
{
	struct txn_item *i, *next;

	if (!t)
		return;
	list_for_each_safe (i, next, &t->items, node)
		item_free(i);
	free(t);
}

/* ---- what became of it ---- */

/* In its place in a list that was what the datastore has, and is now. */
static void put_in_list(struct store_list *l, const struct txn_item *i)
{
	size_t at = 0;

	while (at < l->n && strcmp(l->v[at].key, i->key) < 0)
		at++;
	if (at < l->n && strcmp(l->v[at].key, i->key) == 0) {
		store_kv_done(&l->v[at]);
		memmove(l->v + at, l->v + at + 1, (l->n - at - 1) * sizeof(*l->v));
		l->n--;
	}
	if (i->had.n == 0)
		return;
	store_list_add_take(l, (struct store_kv){0});
	memmove(l->v + at + 1, l->v + at, (l->n - 1 - at) * sizeof(*l->v));
	l->v[at] = store_kv_copy(&i->had.v[0]);
}

static void committed(struct txn_item *i, int64_t rev)
{
	struct store_list had = {0};

	if (i->put.value) {
		i->put.rev = rev;
		if (i->put.create_rev == 0)
			i->put.create_rev = rev;
		store_list_add_take(&had, store_kv_copy(&i->put));
	}
	txn_reread(i, &had);
}

void txn_committed(struct store_txn *t, int64_t rev)
{
	struct txn_item *i, *list, *next;

	txn_for_each (i, t)
		if (i->written)
			committed(i, rev);
	list_for_each_safe (list, next, &t->items, node) {
		if (!list->is_list || list->used_by != t->n)
			continue;
		if (!t->whole) {
			item_free(list);
			continue;
		}
		txn_for_each (i, t)
			if (i->written && strncmp(i->key, list->key, strlen(list->key)) == 0)
				put_in_list(&list->had, i);
		list->had.rev = rev;
	}
}

void txn_reread(struct txn_item *i, struct store_list *had_take)
{
	store_list_done(&i->had);
	i->had = *had_take;
	*had_take = (struct store_list){0};
	i->cached = false;
}
