/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/check.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/ipam.h"
#include "model/ippool.h"
#include "model/key.h"
#include "model/node.h"
#include "model/wep.h"
#include "store/store.h"

/* How many addresses of a block a handle has, as the one or as the other says. */
struct count {
	char *handle;
	struct prefix cidr;
	uint32_t n;
};

/* An address, as a block gives it away, or as somebody uses it. */
struct use {
	struct ip ip;
	char *who;
	bool pods; /* it was given to a pod, which has an endpoint then */
};

/* Which node has which block, as the block or as its affinity says. */
struct claim {
	struct prefix cidr;
	char *host;
	bool pending; /* somebody is about it: it may be so, or not */
};

struct work {
	struct check *out;
	VEC(struct count) in_blocks, in_handles;
	VEC(struct use) given, used;
	VEC(struct claim) blocks, affinities; /* host NULL: of no node */
	VEC(char *) handles;
	VEC(struct prefix) pools;
};

#define problem(w, ...) vec_push(&(w)->out->problems, mem_printf(__VA_ARGS__))

/* ---- reading ---- */

static void add_block(struct work *w, const struct store_kv *kv)
{
	auto_(ipam_block) struct ipam_block *b = NULL;
	struct claim claim = {0};
	struct err err = ERR_INIT;
	size_t first = w->in_blocks.n;

	w->out->n_blocks++;
	if (ipam_block_decode(kv->value, kv->len, &b, &err) < 0) {
		problem(w, "%s cannot be read: %s", kv->key, err.text);
		return;
	}
	if (!ipam_key_parse_block(kv->key, &claim.cidr) || !prefix_equal(&claim.cidr, &b->cidr))
		problem(w, "%s holds block %s", kv->key, prefix_str(&b->cidr));
	claim.cidr = b->cidr;
	if (b->affinity && strncmp(b->affinity, "host:", 5) == 0)
		claim.host = mem_strdup(b->affinity + 5);
	vec_push(&w->blocks, claim);
	for (uint32_t i = 0; i < b->size; i++) {
		const struct ipam_block_attr *a;
		const char *pod, *ns;
		struct use use = {0};
		size_t k = first;

		if (b->alloc[i] < 0 || !ip_add(&b->cidr.addr, i, &use.ip))
			continue;
		w->out->n_addresses++;
		a = &b->attrs.v[b->alloc[i]];
		if (a->released_s) /* in cool-down */
			continue;
		pod = ipam_block_attr_get(a, "pod");
		ns = ipam_block_attr_get(a, "namespace");
		use.pods = pod != NULL;
		use.who = pod ? mem_printf("pod %s/%s", ns ? ns : "", pod)
			      : mem_printf("handle %s", a->handle ? a->handle : "<none>");
		vec_push(&w->given, use);
		if (!a->handle)
			continue;
		while (k < w->in_blocks.n && strcmp(w->in_blocks.v[k].handle, a->handle) != 0)
			k++;
		if (k == w->in_blocks.n) {
			struct count c = {.handle = mem_strdup(a->handle), .cidr = b->cidr};

			vec_push(&w->in_blocks, c);
		}
		w->in_blocks.v[k].n++;
	}
}

static void add_handle(struct work *w, const struct store_kv *kv)
{
	const char *name = kv->key + strlen(IPAM_KEY_HANDLES);
	auto_(ipam_handle) struct ipam_handle *h = NULL;
	struct err err = ERR_INIT;

	w->out->n_handles++;
	vec_push(&w->handles, mem_strdup(name));
	if (ipam_handle_decode(kv->value, kv->len, &h, &err) < 0) {
		problem(w, "%s cannot be read: %s", kv->key, err.text);
		return;
	}
	if (h->blocks.n == 0)
		problem(w, "handle %s has no address", name);
	for (size_t i = 0; i < h->blocks.n; i++) {
		struct count c = {.handle = mem_strdup(name),
			.cidr = h->blocks.v[i].cidr,
			.n = h->blocks.v[i].count};

		vec_push(&w->in_handles, c);
	}
}

static void add_affinity(struct work *w, const struct store_kv *kv)
{
	char host[IPAM_KEY_SIZE];
	struct ipam_affinity a;
	struct claim claim = {0};
	struct err err = ERR_INIT;

	if (!ipam_key_parse_affinity(kv->key, host, &claim.cidr))
		return;
	w->out->n_affinities++;
	if (ipam_affinity_decode(kv->value, kv->len, &a, &err) < 0)
		problem(w, "%s cannot be read: %s", kv->key, err.text);
	else
		claim.pending = a.state != IPAM_CONFIRMED;
	claim.host = mem_strdup(host);
	vec_push(&w->affinities, claim);
}

static void add_use(
	struct work *w, const struct ip *ip, const char *what, const char *ns, const char *name)
{
	struct use use = {
		.ip = *ip, .who = mem_printf("%s %s%s%s", what, ns, *ns ? "/" : "", name)};

	if (ip->family == IP_NONE) {
		free(use.who);
		return;
	}
	w->out->n_in_use++;
	vec_push(&w->used, use);
}

static void add_resource(struct work *w, const struct store_kv *kv, const struct key *key)
{
	auto_(wep) struct wep *e = NULL;
	auto_(node) struct node *n = NULL;
	auto_(ippool) struct ippool *p = NULL;
	const struct ip *tunnels[NODE_N_TUNNELS];
	struct err err = ERR_INIT;
	int r = 0;

	if (key->kind == KIND_WORKLOADENDPOINT)
		r = wep_decode(kv->key, kv->value, kv->len, &e, &err);
	else if (key->kind == KIND_NODE)
		r = node_decode(kv->key, kv->value, kv->len, &n, &err);
	else if (key->kind == KIND_IPPOOL)
		r = ippool_decode(kv->key, kv->value, kv->len, &p, &err);
	if (r < 0)
		problem(w, "%s cannot be read: %s", kv->key, err.text);
	for (size_t i = 0; e && i < e->networks.n; i++)
		add_use(w, &e->networks.v[i].addr, "endpoint", key->ns, key->name);
	if (n)
		node_tunnels(n, tunnels);
	for (size_t i = 0; n && i < NODE_N_TUNNELS; i++)
		add_use(w, tunnels[i], "the tunnel of node", "", key->name);
	if (p)
		vec_push(&w->pools, p->cidr);
}

static bool begins(const char *key, const char *with)
{
	return strncmp(key, with, strlen(with)) == 0;
}

static void add(struct work *w, const struct store_kv *kv)
{
	struct key key;

	if (begins(kv->key, IPAM_KEY_BLOCKS))
		add_block(w, kv);
	else if (begins(kv->key, IPAM_KEY_HANDLES))
		add_handle(w, kv);
	else if (begins(kv->key, IPAM_KEY_AFFINITIES))
		add_affinity(w, kv);
	else if (key_parse(kv->key, &key))
		add_resource(w, kv, &key);
}

/* ---- comparing: each pair of lists is sorted, and walked side by side ---- */

static int by_handle(const void *a, const void *b)
{
	const struct count *x = a, *y = b;
	int r = strcmp(x->handle, y->handle);

	return r ? r : prefix_compare(&x->cidr, &y->cidr);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int by_ip(const void *a, const void *b)
{
	return ip_compare(&((const struct use *)a)->ip, &((const struct use *)b)->ip);
}

static int by_cidr(const void *a, const void *b)
{
	return prefix_compare(&((const struct claim *)a)->cidr, &((const struct claim *)b)->cidr);
}

#define sort(list, cmp)                                                       \
	do {                                                                  \
		if ((list)->n > 0)                                            \
			qsort((list)->v, (list)->n, sizeof(*(list)->v), cmp); \
	} while (0)

static void compare_counts(struct work *w, const struct count *b, const struct count *h)
{
	const struct count *any = b ? b : h;
	bool exists = h || (w->handles.n > 0 && bsearch(&any->handle, w->handles.v, w->handles.n,
							sizeof(*w->handles.v), by_text));

	if (!exists)
		problem(w, "handle %s does not exist, and block %s has %u of its addresses",
			any->handle, prefix_str(&any->cidr), b ? b->n : 0);
	else if (!b || !h || b->n != h->n)
		problem(w, "handle %s counts %u addresses of block %s, which has %u of it",
			any->handle, h ? h->n : 0, prefix_str(&any->cidr), b ? b->n : 0);
}

static void check_counts(struct work *w)
{
	size_t i = 0, k = 0;

	sort(&w->in_blocks, by_handle);
	sort(&w->in_handles, by_handle);
	sort(&w->handles, by_text);
	while (i < w->in_blocks.n || k < w->in_handles.n) {
		int c = i == w->in_blocks.n    ? 1
			: k == w->in_handles.n ? -1
					       : by_handle(&w->in_blocks.v[i], &w->in_handles.v[k]);

		compare_counts(
			w, c <= 0 ? &w->in_blocks.v[i] : NULL, c >= 0 ? &w->in_handles.v[k] : NULL);
		i += c <= 0;
		k += c >= 0;
	}
}

static bool in_pool(const struct work *w, const struct ip *ip)
{
	const struct prefix *p;

	vec_for_each (&w->pools, p)
		if (prefix_contains(p, ip))
			return true;
	return false;
}

static void check_uses(struct work *w)
{
	size_t i = 0, k = 0;

	sort(&w->given, by_ip);
	sort(&w->used, by_ip);
	for (size_t n = 1; n < w->used.n; n++)
		if (by_ip(&w->used.v[n - 1], &w->used.v[n]) == 0)
			problem(w, "%s and %s have %s both", w->used.v[n - 1].who, w->used.v[n].who,
				ip_str(&w->used.v[n].ip));
	while (i < w->given.n || k < w->used.n) {
		int c = i == w->given.n	 ? 1
			: k == w->used.n ? -1
					 : by_ip(&w->given.v[i], &w->used.v[k]);

		if (c < 0 && w->given.v[i].pods)
			problem(w, "%s was given to %s, and no endpoint has it",
				ip_str(&w->given.v[i].ip), w->given.v[i].who);
		if (c > 0 && in_pool(w, &w->used.v[k].ip))
			problem(w, "%s has %s, and no block gives it away", w->used.v[k].who,
				ip_str(&w->used.v[k].ip));
		if (c == 0)
			while (k + 1 < w->used.n && by_ip(&w->used.v[k], &w->used.v[k + 1]) == 0)
				k++;
		i += c <= 0;
		k += c >= 0;
	}
}

static void check_claims(struct work *w)
{
	size_t i = 0, k = 0;

	sort(&w->blocks, by_cidr);
	sort(&w->affinities, by_cidr);
	while (i < w->blocks.n || k < w->affinities.n) {
		int c = i == w->blocks.n       ? 1
			: k == w->affinities.n ? -1
					       : by_cidr(&w->blocks.v[i], &w->affinities.v[k]);
		const struct claim *b = c <= 0 ? &w->blocks.v[i] : NULL;
		bool found = !b || !b->host;

		if (c > 0 && !w->affinities.v[k].pending)
			problem(w, "node %s has an affinity for block %s, which does not exist",
				w->affinities.v[k].host, prefix_str(&w->affinities.v[k].cidr));
		while (c == 0 && k < w->affinities.n && by_cidr(b, &w->affinities.v[k]) == 0) {
			const struct claim *a = &w->affinities.v[k++];

			if (b->host && strcmp(a->host, b->host) == 0)
				found = true;
			else if (!a->pending)
				problem(w, "node %s has an affinity for block %s, which is %s%s",
					a->host, prefix_str(&b->cidr),
					b->host ? "node " : "no node's", b->host ? b->host : "");
		}
		if (!found)
			problem(w, "block %s is node %s's, which has no affinity for it",
				prefix_str(&b->cidr), b->host);
		i += c <= 0;
		k += c > 0;
	}
}

void check_prefixes(const char *ret[static CHECK_N_PREFIXES])
{
	ret[0] = IPAM_KEY_BLOCKS;
	ret[1] = IPAM_KEY_HANDLES;
	ret[2] = IPAM_KEY_AFFINITIES;
	ret[3] = kind_info(KIND_IPPOOL)->root;
	ret[4] = kind_info(KIND_NODE)->root;
	ret[5] = kind_info(KIND_WORKLOADENDPOINT)->root;
}

void check_ipam(const struct store_kv *kvs, size_t n, struct check *ret)
{
	struct work w = {.out = ret};

	*ret = (struct check){0};
	for (size_t i = 0; i < n; i++)
		add(&w, &kvs[i]);
	check_counts(&w);
	check_uses(&w);
	check_claims(&w);
	for (size_t i = 0; i < w.in_blocks.n; i++)
		free(w.in_blocks.v[i].handle);
	for (size_t i = 0; i < w.in_handles.n; i++)
		free(w.in_handles.v[i].handle);
	for (size_t i = 0; i < w.given.n; i++)
		free(w.given.v[i].who);
	for (size_t i = 0; i < w.used.n; i++)
		free(w.used.v[i].who);
	for (size_t i = 0; i < w.blocks.n; i++)
		free(w.blocks.v[i].host);
	for (size_t i = 0; i < w.affinities.n; i++)
		free(w.affinities.v[i].host);
	for (size_t i = 0; i < w.handles.n; i++)
		free(w.handles.v[i]);
	vec_done(&w.in_blocks);
	vec_done(&w.in_handles);
	vec_done(&w.given);
	vec_done(&w.used);
	vec_done(&w.blocks);
	vec_done(&w.affinities);
	vec_done(&w.handles);
	vec_done(&w.pools);
}

void check_done(struct check *c)
{
	char **p;

	vec_for_each (&c->problems, p)
		free(*p);
	vec_done(&c->problems);
}
