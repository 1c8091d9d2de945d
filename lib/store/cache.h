/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The objects of some kinds, decoded, kept as the store has them: sync.h plus a decoder per kind.
 *
 * An object that cannot be decoded is refused by name, with one line in the log for each version of
 * it, and blocks nothing else: where a good version is known that one stays, else the object is
 * unknown: nobody is told of it, but cache_for_each_unknown tells it from one that is not there. A
 * deletion is a deletion in any case.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct cache;
struct err;
struct store;
struct sync;
struct sync_hooks;

struct cache_kind {
	const char *prefix; /* "/calico/resources/v3/projectcalico.org/ippools/" */
	/* *ret is an object that free can free. arg: cache_new's. */
	int (*decode)(void *arg, const char *key, const char *value, size_t len, void **ret,
		struct err *err);
	void (*free)(void *obj);
	/*
	 * old is NULL for a new object, new for one that is gone. Both are borrowed: old is freed
	 * when this returns, new lives until it is told as old. NULL = nobody is told.
	 */
	void (*changed)(void *arg, const char *key, const void *old, const void *new);
};

struct cache_ops {
	void (*in_sync)(void *arg); /* as in sync_ops */
	void (*state)(void *arg);   /* as in sync_ops; may be NULL */
	void (*unknown)(void *arg); /* cache_for_each_unknown tells of others now; may be NULL */
	bool heed_lock;		    /* as in sync_ops */
};

/* kinds and ops are borrowed; no prefix may be a prefix of another. Otherwise as sync_new(). */
struct cache *cache_new(struct store *st, const struct cache_kind *kinds, size_t n_kinds,
	const struct cache_ops *ops, void *arg, const struct sync_hooks *hooks);
/* Frees the objects, without telling. */
void cache_free(struct cache *c);
AUTO_DEFINE(cache, struct cache *, cache_free);

/* The object, or NULL. Borrowed, see changed. */
const void *cache_get(const struct cache *c, const char *key);

/* Every object of the kind, in no order. The body may not let the event loop run. */
void cache_for_each(const struct cache *c, const struct cache_kind *kind,
	void (*fn)(void *arg, const char *key, const void *obj), void *arg);

/* Every object of the kind that the store has, and of which no version could be decoded. */
void cache_for_each_unknown(const struct cache *c, const struct cache_kind *kind,
	void (*fn)(void *arg, const char *key), void *arg);

struct sync *cache_sync(struct cache *c);    /* for its state. Borrowed. */
size_t cache_refused(const struct cache *c); /* objects whose newest version cannot be decoded */
