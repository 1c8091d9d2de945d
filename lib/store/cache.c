/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hmap.h"
#include "store/sync.h"

#define LOG_MODULE "cache"
#include "base/log.h"

struct cached {
	struct hmap_node node;
	const struct cache_kind *kind;
	void *obj; /* NULL: no version of it could be decoded */
	bool refused;
	char key[];
};

struct cache {
	const struct cache_kind *kinds;
	size_t n_kinds;
	const struct cache_ops *ops;
	void *arg;
	struct sync *sync;
	struct hmap objects;
	size_t n_refused;
};

static struct cached *find(const struct cache *c, const char *key, uint64_t hash)
{
	struct cached *o;

	hmap_for_each_hash (o, &c->objects, hash, node)
		if (strcmp(o->key, key) == 0)
			return o;
	return NULL;
}

static const struct cache_kind *kind_of(const struct cache *c, const char *key)
{
	const struct cache_kind *kind = c->kinds;

	while (strncmp(key, kind->prefix, strlen(kind->prefix)) != 0)
		kind++;
	return kind;
}

static struct cached *add(struct cache *c, const char *key, uint64_t hash)
{
	size_t n = strlen(key) + 1;
	struct cached *o = mem_zalloc(sizeof(*o) + n);

	memcpy(o->key, key, n);
	o->kind = kind_of(c, key);
	hmap_insert(&c->objects, &o->node, hash);
	return o;
}

static void set_refused(struct cache *c, struct cached *o, bool refused)
{
	c->n_refused += refused;
	c->n_refused -= o->refused;
	o->refused = refused;
}

static bool is_unknown(const struct cached *o)
{
	return o->refused && !o->obj;
}

static void tell_unknown(struct cache *c)
{
	if (c->ops->unknown)
		c->ops->unknown(c->arg);
}

static void replace(struct cache *c, struct cached *o, void *new)
{
	void *old = o->obj;

	o->obj = new;
	if (o->kind->changed)
		o->kind->changed(c->arg, o->key, old, new);
	if (old)
		o->kind->free(old);
}

static void on_set(void *arg, const char *key, const char *value, size_t len, int64_t rev)
{
	struct cache *c = arg;
	uint64_t hash = hash_str(key);
	struct cached *o = find(c, key, hash);
	struct err err = ERR_INIT;
	bool was_unknown = o && is_unknown(o);
	void *new = NULL;
	int r;

	if (!o)
		o = add(c, key, hash);
	r = o->kind->decode(c->arg, key, value, len, &new, &err);
	set_refused(c, o, r < 0);
	if (r >= 0)
		replace(c, o, new);
	else
		log_warn("%s: revision %lld is refused, %s: %s", key, (long long)rev,
			o->obj ? "the one before stays in force" : "nothing is known of it",
			err_text(&err));
	if (is_unknown(o) != was_unknown)
		tell_unknown(c);
}

static void on_del(void *arg, const char *key)
{
	struct cache *c = arg;
	struct cached *o = find(c, key, hash_str(key));
	bool was_unknown;

	if (!o)
		return;
	was_unknown = is_unknown(o);
	set_refused(c, o, false);
	if (o->obj)
		replace(c, o, NULL);
	hmap_remove(&c->objects, &o->node);
	free(o);
	if (was_unknown)
		tell_unknown(c);
}

static void on_in_sync(void *arg)
{
	struct cache *c = arg;

	c->ops->in_sync(c->arg);
}

static void on_state(void *arg)
{
	struct cache *c = arg;

	if (c->ops->state)
		c->ops->state(c->arg);
}

struct cache *cache_new(struct store *st, const struct cache_kind *kinds, size_t n_kinds,
	const struct cache_ops *ops, void *arg, const struct sync_hooks *hooks)
{
	const struct sync_ops sync_ops = {.set = on_set,
		.del = on_del,
		.in_sync = on_in_sync,
		.state = on_state,
		.heed_lock = ops->heed_lock};
	struct cache *c = mem_new(struct cache);
	auto_free const char **prefixes = mem_zalloc((n_kinds + 1) * sizeof(*prefixes));

	c->kinds = kinds;
	c->n_kinds = n_kinds;
	c->ops = ops;
	c->arg = arg;
	for (size_t i = 0; i < n_kinds; i++)
		prefixes[i] = kinds[i].prefix;
	c->sync = sync_new(st, prefixes, n_kinds, &sync_ops, c, hooks);
	return c;
}

void cache_free(struct cache *c)
{
	struct cached *o;

	if (!c)
		return;
	sync_free(c->sync);
	hmap_for_each (o, &c->objects, node) {
		hmap_remove(&c->objects, &o->node);
		if (o->obj)
			o->kind->free(o->obj);
		free(o);
	}
	hmap_done(&c->objects);
	free(c);
}

const void *cache_get(const struct cache *c, const char *key)
{
	const struct cached *o = find(c, key, hash_str(key));

	return o ? o->obj : NULL;
}

void cache_for_each(const struct cache *c, const struct cache_kind *kind,
	void (*fn)(void *arg, const char *key, const void *obj), void *arg)
{
	struct cached *o;

	hmap_for_each (o, &c->objects, node)
		if (o->kind == kind && o->obj)
			fn(arg, o->key, o->obj);
}

void cache_for_each_unknown(const struct cache *c, const struct cache_kind *kind,
	void (*fn)(void *arg, const char *key), void *arg)
{
	struct cached *o;

	hmap_for_each (o, &c->objects, node)
		if (o->kind == kind && is_unknown(o))
			fn(arg, o->key);
}

struct sync *cache_sync(struct cache *c)
{
	return c->sync;
}

size_t cache_refused(const struct cache *c)
{
	return c->n_refused;
}
