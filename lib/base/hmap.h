/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An intrusive hash map: an object embeds a `struct hmap_node` for each map it is in. The map owns
 * nothing but its bucket array and compares nothing: a look-up walks the nodes of one hash.
 *
 *	struct route { struct hmap_node node; struct route_key key; ... };
 *
 *	hmap_for_each_hash(r, &rs->by_key, hash_bytes(key, sizeof(*key)), node)
 *		if (memcmp(&r->key, key, sizeof(*key)) == 0)
 *			return r;
 *
 * Hashes are SipHash-1-3 under a key that is random per process: names come from users, and nobody
 * may choose them so that they collide. Iteration order is arbitrary; output is sorted.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct hmap_node {
	struct hmap_node *next;
	uint64_t hash;
};

struct hmap {
	struct hmap_node **buckets; /* NULL until the first insertion */
	size_t mask;		    /* number of buckets - 1 */
	size_t n;		    /* nodes */
};

#define HMAP_INIT ((struct hmap){0})

uint64_t hash_bytes(const void *p, size_t n);
uint64_t hash_str(const char *s);

/* Frees the buckets; the nodes are their owners' to free. */
void hmap_done(struct hmap *m);
void hmap_insert(struct hmap *m, struct hmap_node *node, uint64_t hash);
/* node must be in m. */
void hmap_remove(struct hmap *m, struct hmap_node *node);

/* Iteration helpers, for the macros below. */
struct hmap_node *hmap_first_with_hash(const struct hmap *m, uint64_t hash);
struct hmap_node *hmap_next_with_hash(const struct hmap_node *node);
struct hmap_node *hmap_first(const struct hmap *m);
struct hmap_node *hmap_next(const struct hmap *m, const struct hmap_node *node);

#define HMAP_ENTRY_(node, it, member)                                                          \
	((node) ? (__typeof__(it))(void *)((char *)(node)-offsetof(__typeof__(*(it)), member)) \
		: NULL)

#define hmap_for_each_hash(it, m, h, member)                         \
	for (struct hmap_node *hn_##it = hmap_first_with_hash(m, h); \
		((it) = HMAP_ENTRY_(hn_##it, it, member)) != NULL;   \
		hn_##it = hmap_next_with_hash(hn_##it))

/* The body may remove and free `it`, and nothing else of the map. */
#define hmap_for_each(it, m, member)                                             \
	for (struct hmap_node *hn_##it = hmap_first(m),                          \
			      *hx_##it = hn_##it ? hmap_next(m, hn_##it) : NULL; \
		((it) = HMAP_ENTRY_(hn_##it, it, member)) != NULL;               \
		hn_##it = hx_##it, hx_##it = hn_##it ? hmap_next(m, hn_##it) : NULL)
