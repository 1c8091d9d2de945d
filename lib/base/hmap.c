/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/hmap.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* SipHash-1-3, after the published algorithm (Aumasson and Bernstein, 2012). */
static uint64_t siphash_key[2];

__attribute__((constructor)) static void siphash_seed(void)
{
	if (getrandom(siphash_key, sizeof(siphash_key), GRND_NONBLOCK) ==
		(ssize_t)sizeof(siphash_key))
		return;
	/* Early boot without entropy: still different from process to process. */
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	siphash_key[0] = (uint64_t)ts.tv_nsec * 0x9e3779b97f4a7c15u ^ (uint64_t)getpid();
	siphash_key[1] = (uint64_t)ts.tv_sec ^ 0xc2b2ae3d27d4eb4fu;
}

static inline uint64_t rotl(uint64_t x, int b)
{
	return (x << b) | (x >> (64 - b));
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

uint64_t hash_bytes(const void *p, size_t n)
{
	const unsigned char *in = p;
	uint64_t v[4] = {siphash_key[0] ^ 0x736f6d6570736575u, siphash_key[1] ^ 0x646f72616e646f6du,
		siphash_key[0] ^ 0x6c7967656e657261u, siphash_key[1] ^ 0x7465646279746573u};
	uint64_t last = (uint64_t)n << 56, m;
	size_t i;

	for (i = 0; i + 8 <= n; i += 8) {
		memcpy(&m, in + i, 8);
		v[3] ^= m;
		sip_round(v);
		v[0] ^= m;
	}
	m = 0;
	if (n > i)
		memcpy(&m, in + i, n - i);
	last |= m;
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t hash_str(const char *s)
{
	return hash_bytes(s, strlen(s));
}

void hmap_done(struct hmap *m)
{
	free(m->buckets);
	*m = HMAP_INIT;
}

static void hmap_resize(struct hmap *m, size_t n_buckets)
{
	struct hmap_node **buckets = mem_zalloc(n_buckets * sizeof(*buckets));

	for (size_t i = 0; m->buckets && i <= m->mask; i++) {
		struct hmap_node *node = m->buckets[i];

		while (node) {
			struct hmap_node *next = node->next;
			struct hmap_node **to = &buckets[node->hash & (n_buckets - 1)];

			node->next = *to;
			*to = node;
			node = next;
		}
	}
	free(m->buckets);
	m->buckets = buckets;
	m->mask = n_buckets - 1;
}

void hmap_insert(struct hmap *m, struct hmap_node *node, uint64_t hash)
{
	if (!m->buckets)
		hmap_resize(m, 8);
	else if (m->n > m->mask)
		hmap_resize(m, 2 * (m->mask + 1));
	node->hash = hash;
	node->next = m->buckets[hash & m->mask];
	m->buckets[hash & m->mask] = node;
	m->n++;
}

void hmap_remove(struct hmap *m, struct hmap_node *node)
{
	struct hmap_node **pp = &m->buckets[node->hash & m->mask];

	while (*pp != node) {
		assert(*pp);
		pp = &(*pp)->next;
	}
	*pp = node->next;
	node->next = NULL;
	m->n--;
}

static struct hmap_node *skip_to_hash(struct hmap_node *node, uint64_t hash)
{
	while (node && node->hash != hash)
		node = node->next;
	return node;
}

struct hmap_node *hmap_first_with_hash(const struct hmap *m, uint64_t hash)
{
	return m->buckets ? skip_to_hash(m->buckets[hash & m->mask], hash) : NULL;
}

struct hmap_node *hmap_next_with_hash(const struct hmap_node *node)
{
	return skip_to_hash(node->next, node->hash);
}

static struct hmap_node *first_from(const struct hmap *m, size_t i)
{
	for (; m->buckets && i <= m->mask; i++)
		if (m->buckets[i])
			return m->buckets[i];
	return NULL;
}

struct hmap_node *hmap_first(const struct hmap *m)
{
	return first_from(m, 0);
}

struct hmap_node *hmap_next(const struct hmap *m, const struct hmap_node *node)
{
	return node->next ? node->next : first_from(m, (node->hash & m->mask) + 1);
}
