/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/known.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/ipam.h"
#include "store/driver.h"
#include "store/txn.h"

/* Whoever writes one of these names its revision. */
#define KEPT IPAM_KEY_BLOCKS

enum { KEEP_OBJECTS = 64, KEEP_BYTES = 1 << 20 };

struct kept {
	struct list node;
	struct store_kv kv;
	bool looked_at; /* by this attempt, which has not written it since */
};

/* ---- what was told ---- */

/* One that does not end with "/" is an object's key. */
static bool is_under(const char *key, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(key, prefix, n) == 0 && (prefix[n - 1] == '/' || key[n] == '\0');
}

static bool is_told(const struct store_told *t, const char *key)
{
	for (size_t i = 0; i < t->n_prefixes; i++)
		if (is_under(key, t->prefixes[i]))
			return true;
	return false;
}

static void list_told(const struct store_told *t, const char *prefix, struct store_list *ret)
{
	for (size_t i = 0; i < t->list.n; i++)
		if (strncmp(t->list.v[i].key, prefix, strlen(prefix)) == 0)
			store_list_add_take(ret, store_kv_copy(&t->list.v[i]));
}

static int get_told(
	const struct store_told *t, const char *key, struct store_list *ret, struct err *err)
{
	for (size_t i = 0; i < t->list.n; i++)
		if (strcmp(t->list.v[i].key, key) == 0) {
			store_list_add_take(ret, store_kv_copy(&t->list.v[i]));
			return 0;
		}
	return err_set(err, -ENOENT, "%s: not in the datastore", key);
}

/* ---- what is kept ---- */

static void kept_free(struct kept *o)
{
	store_kv_done(&o->kv);
	list_del(&o->node);
	free(o);
}

static struct kept *find_kept(struct store_known *k, const char *key)
{
	struct kept *o;

	list_for_each (o, &k->kept, node)
		if (strcmp(o->kv.key, key) == 0)
			return o;
	return NULL;
}

static void keep(struct store_known *k, const struct store_kv *kv)
{
	struct kept *o = mem_new(struct kept);

	o->kv = store_kv_copy(kv);
	list_init(&o->node);
	list_add_tail(k->kept.next, &o->node);
}

/* What the datastore has now, as far as an operation tells. got NULL: it has failed. */
static void keep_after(
	struct store_known *k, const struct store_req *req, const struct store_list *got)
{
	struct kept *o = find_kept(k, req->key);

	if (o)
		kept_free(o);
	if (!got)
		return;
	if (req->verb == STORE_GET)
		keep(k, &got->v[0]);
	/* Without a revision the next write would have no condition. */
	if ((req->verb == STORE_CREATE || req->verb == STORE_UPDATE) && got->rev > 0)
		keep(k, &(struct store_kv){.key = (char *)(uintptr_t)req->key,
				.value = (char *)(uintptr_t)req->value,
				.len = req->len ?: strlen(req->value),
				.rev = got->rev});
}

static void forget(struct store_known *k, bool all)
{
	struct kept *o, *next;
	size_t n = 0, bytes = 0;

	list_for_each_safe (o, next, &k->kept, node) {
		n++;
		bytes += o->kv.len;
		/* It was of no use, which may not be so any more. */
		if (all || o->looked_at || n > KEEP_OBJECTS || bytes > KEEP_BYTES)
			kept_free(o);
	}
}

/* ---- an attempt ---- */

void store_known_begin(struct store *st, const struct store_told *told)
{
	if (!st->known) {
		st->known = mem_new(struct store_known);
		list_init(&st->known->kept);
	}
	if (st->known->life != told->life)
		forget(st->known, true);
	st->known->life = told->life;
	st->known->told = told;
}

void store_known_end(struct store *st)
{
	struct store_known *k = st->known;
	char **key;

	if (!k)
		return;
	k->told = NULL;
	forget(k, false);
	vec_for_each (&k->new_keys, key)
		free(*key);
	k->new_keys.n = 0;
}

void known_free(struct store_known *k)
{
	if (!k)
		return;
	forget(k, true);
	for (size_t i = 0; i < k->new_keys.n; i++)
		free(k->new_keys.v[i]);
	vec_done(&k->new_keys);
	free(k);
}

static size_t find_new(const struct store_known *k, const char *key)
{
	size_t i = 0;

	while (i < k->new_keys.n && strcmp(k->new_keys.v[i], key) != 0)
		i++;
	return i;
}

void known_expect_new(struct store *st, const char *key)
{
	if (find_new(st->known, key) == st->known->new_keys.n)
		vec_push(&st->known->new_keys, mem_strdup(key));
}

/* What follows is asked of the datastore. */
static int give_up(struct store_known *k, const char *key, const char *why, struct err *err)
{
	k->told = NULL;
	return err_set(err, -EAGAIN, "%s: %s: the datastore is to be asked", key, why);
}

/* 1: it is to be asked for. */
static int look(
	struct store_known *k, const struct store_req *req, struct store_list *ret, struct err *err)
{
	const bool told = is_told(k->told, req->key);
	struct kept *o;

	switch (req->verb) {
	case STORE_LIST:
		if (!told || req->unindexed)
			return give_up(k, req->key, "what there is, is not known", err);
		list_told(k->told, req->key, ret);
		return 0;
	case STORE_GET:
		if (told || find_new(k, req->key) < k->new_keys.n)
			return get_told(k->told, req->key, ret, err);
		o = find_kept(k, req->key);
		if (!o)
			return 1;
		o->looked_at = true;
		store_list_add_take(ret, store_kv_copy(&o->kv));
		return 0;
	case STORE_CREATE:
	case STORE_UPDATE:
	case STORE_DELETE:
		return told ? give_up(k, req->key, "what was told of is to be written", err) : 1;
	}
	return -EINVAL;
}

int known_do(struct store *st, const struct store_req *req, struct store_list *ret, struct err *err)
{
	struct store_known *k = st->known;
	size_t new = find_new(k, req->key);
	int r = 1;

	*ret = (struct store_list){0};
	if (k->told)
		r = look(k, req, ret, err);
	if (r <= 0)
		return r;
	r = store_do_wait(st, req, ret, err);
	if (is_under(req->key, KEPT) && req->verb != STORE_LIST)
		keep_after(k, req, r == 0 ? ret : NULL);
	if (new < k->new_keys.n) {
		free(k->new_keys.v[new]);
		vec_swap_remove(&k->new_keys, new);
		if (r == -EEXIST && k->told)
			r = give_up(k, req->key, "it is there already", err);
	}
	return r;
}
