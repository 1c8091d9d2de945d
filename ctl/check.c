/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/check.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "ipam/tally.h"
#include "model/cluster.h"
#include "model/ipam.h"
#include "model/ippool.h"
#include "model/key.h"
#include "model/node.h"
#include "model/wep.h"
#include "store/store.h"

/* Which node has which block, as the block or as its affinity says. */
struct claim {
	struct prefix cidr;
	char *host;
	bool pending; /* somebody is about it: it may be so, or not */
	int64_t rev;
};

struct handle {
	char *name;
	int64_t rev;
};

struct endpoint {
	char *ns, *pod, *node, *container;
	struct ip ip; /* the first; IP_NONE: it has none yet, or none any more */
};

/* An endpoint of a network on a node has an address that was given at this time. */
struct given {
	char *network; /* "NODE/NAME" */
	const char *timestamp;
};

struct work {
	struct check *out;
	bool managed;
	struct ipam_tally in_blocks, in_handles;
	VEC(struct claim) blocks, affinities; /* host NULL: of no node */
	VEC(struct handle) handles;
	VEC(struct endpoint) endpoints;
	VEC(const struct check_use *) astray; /* endpoints', of addresses that are another's */
	size_t n_unseen; /* endpoints that cannot be read, each of which may have any address */
	VEC(struct given) given;
	VEC(char *) nodes; /* names */
	VEC(struct prefix) pools;
};

static struct problem *push_problem(
	struct work *w, enum problem_kind kind, const char *name, char *text_take)
{
	struct problem p = {
		.kind = kind, .text = text_take, .name = name ? mem_strdup(name) : NULL};

	vec_push(&w->out->problems, p);
	return &w->out->problems.v[w->out->problems.n - 1];
}

#define add_problem(w, kind, name, ...) push_problem((w), (kind), (name), mem_printf(__VA_ARGS__))
#define unreadable(w, ...) add_problem((w), PROBLEM_UNREADABLE, NULL, __VA_ARGS__)

static bool begins(const char *s, const char *with)
{
	return strncmp(s, with, strlen(with)) == 0;
}

/* ---- reading ---- */

static char *dup_attr(const struct ipam_block_attr *a, const char *name)
{
	const char *value = ipam_block_attr_get(a, name);

	return value && *value ? mem_strdup(value) : NULL;
}

static char *attrs_text(const struct ipam_block_attr *a)
{
	auto_strbuf sb = STRBUF_INIT;
	const struct ipam_kv *kv;

	strbuf_addf(&sb, "Main:%s Extra:", a->handle ? a->handle : "<none>");
	vec_for_each (&a->secondary, kv)
		strbuf_addf(&sb, "%s%s=%s", kv == a->secondary.v ? "" : ",", kv->name, kv->value);
	return strbuf_take(&sb);
}

static void add_alloc(
	struct work *w, const struct ipam_block *b, uint32_t ordinal, const char *host)
{
	const struct ipam_block_attr *a = &b->attrs.v[b->alloc[ordinal]];
	struct check_alloc alloc = {.block = b->cidr, .seq = b->alloc_seq[ordinal]};

	ip_add(&b->cidr.addr, ordinal, &alloc.ip);
	alloc.handle = a->handle ? mem_strdup(a->handle) : NULL;
	alloc.attrs = attrs_text(a);
	alloc.pod = dup_attr(a, "pod");
	alloc.ns = dup_attr(a, "namespace");
	alloc.type = dup_attr(a, "type");
	alloc.timestamp = dup_attr(a, "timestamp");
	alloc.vmi = dup_attr(a, "vmi-name");
	alloc.service = dup_attr(a, "service");
	alloc.node = dup_attr(a, "node") ?: host ? mem_strdup(host) : NULL;
	alloc.borrowed = strcmp(alloc.node ? alloc.node : "", host ? host : "") != 0;
	alloc.cooling = a->released_s != 0;
	vec_push(&w->out->allocs, alloc);
}

static void add_block(struct work *w, const struct store_kv *kv)
{
	auto_(ipam_block) struct ipam_block *b = NULL;
	struct claim claim = {.rev = kv->rev};
	struct check_block out = {0};
	struct err err = ERR_INIT;

	w->out->n_blocks++;
	if (ipam_block_decode(kv->value, kv->len, &b, &err) < 0) {
		unreadable(w, "%s cannot be read: %s", kv->key, err.text);
		return;
	}
	if (!ipam_key_parse_block(kv->key, &claim.cidr) || !prefix_equal(&claim.cidr, &b->cidr))
		unreadable(w, "%s holds block %s", kv->key, prefix_str(&b->cidr));
	claim.cidr = b->cidr;
	if (b->affinity && begins(b->affinity, "host:"))
		claim.host = mem_strdup(b->affinity + 5);
	vec_push(&w->blocks, claim);
	out.cidr = b->cidr;
	out.affinity = b->affinity ? mem_strdup(b->affinity) : NULL;
	vec_push(&w->out->blocks, out);
	ipam_tally_add_block(&w->in_blocks, b);
	for (uint32_t i = 0; i < b->size; i++) {
		if (b->alloc[i] < 0)
			continue;
		w->out->n_addresses++;
		add_alloc(w, b, i, claim.host);
	}
}

static void add_handle(struct work *w, const struct store_kv *kv)
{
	const char *name = kv->key + strlen(IPAM_KEY_HANDLES);
	auto_(ipam_handle) struct ipam_handle *h = NULL;
	struct err err = ERR_INIT;

	if (strcmp(name, IPAM_HANDLE_FULL) == 0)
		return;
	w->out->n_handles++;
	vec_push(&w->handles, (struct handle){mem_strdup(name), kv->rev});
	if (ipam_handle_decode(kv->value, kv->len, &h, &err) < 0) {
		unreadable(w, "%s cannot be read: %s", kv->key, err.text);
		return;
	}
	if (h->blocks.n == 0)
		add_problem(w, PROBLEM_HANDLE_EMPTY, name, "handle %s has no address", name)->rev =
			kv->rev;
	for (size_t i = 0; i < h->blocks.n; i++)
		ipam_tally_add(&w->in_handles, name, &h->blocks.v[i].cidr, h->blocks.v[i].count);
}

static void add_affinity(struct work *w, const struct store_kv *kv)
{
	char host[IPAM_KEY_SIZE];
	struct ipam_affinity a;
	struct claim claim = {.rev = kv->rev};
	struct err err = ERR_INIT;

	if (!ipam_key_parse_affinity(kv->key, host, &claim.cidr))
		return;
	w->out->n_affinities++;
	if (ipam_affinity_decode(kv->value, kv->len, &a, &err) < 0)
		unreadable(w, "%s cannot be read: %s", kv->key, err.text);
	else
		claim.pending = a.state != IPAM_CONFIRMED;
	claim.host = mem_strdup(host);
	vec_push(&w->affinities, claim);
}

static char *dup_text(const char *s)
{
	return mem_strdup(s ? s : "");
}

/* e NULL: the address is that of a node's tunnel. */
static void add_use(struct work *w, const struct ip *ip, const struct wep *e, const struct key *key)
{
	struct check_use use = {.ip = *ip, .is_node = !e};

	if (ip->family == IP_NONE)
		return;
	use.name = mem_printf("%s%s%s", key->ns, *key->ns ? "/" : "", key->name);
	use.ns = mem_strdup(key->ns);
	use.pod = dup_text(e ? e->pod : NULL);
	use.container = dup_text(e ? e->container_id : NULL);
	w->out->n_in_use++;
	vec_push(&w->out->uses, use);
}

static void add_endpoint(struct work *w, const struct wep *e, const struct key *key)
{
	struct endpoint out = {.ns = mem_strdup(key->ns),
		.pod = dup_text(e->pod),
		.node = dup_text(e->node),
		.container = dup_text(e->container_id)};

	for (size_t i = 0; i < e->networks.n; i++)
		add_use(w, &e->networks.v[i].addr, e, key);
	if (e->networks.n > 0)
		out.ip = e->networks.v[0].addr;
	vec_push(&w->endpoints, out);
}

static void add_node(struct work *w, const struct node *n, const struct key *key)
{
	const struct ip *tunnels[NODE_N_TUNNELS];

	node_tunnels(n, tunnels);
	for (size_t i = 0; i < NODE_N_TUNNELS; i++)
		add_use(w, tunnels[i], NULL, key);
}

static void add_pool(struct work *w, const struct ippool *p)
{
	vec_push(&w->pools, p->cidr);
	if (!p->disabled)
		vec_push(&w->out->pools, p->cidr);
}

static void add_cluster(struct work *w, const struct cluster_info *c, int64_t rev)
{
	free(w->out->guid);
	free(w->out->type);
	w->out->guid = c->guid ? mem_strdup(c->guid) : NULL;
	w->out->type = c->type ? mem_strdup(c->type) : NULL;
	w->out->info_rev = rev;
	w->out->locked = !c->ready;
}

static void add_resource(struct work *w, const struct store_kv *kv, const struct key *key)
{
	auto_(wep) struct wep *e = NULL;
	auto_(node) struct node *n = NULL;
	auto_(ippool) struct ippool *p = NULL;
	auto_(cluster_info) struct cluster_info *c = NULL;
	struct err err = ERR_INIT;
	int r = 0;

	if (key->kind == KIND_WORKLOADENDPOINT)
		r = wep_decode(kv->key, kv->value, kv->len, &e, &err);
	else if (key->kind == KIND_NODE)
		r = node_decode(kv->key, kv->value, kv->len, &n, &err);
	else if (key->kind == KIND_IPPOOL)
		r = ippool_decode(kv->key, kv->value, kv->len, &p, &err);
	else if (key->kind == KIND_CLUSTERINFORMATION)
		r = cluster_info_decode(kv->key, kv->value, kv->len, &c, &err);
	if (r < 0)
		unreadable(w, "%s cannot be read: %s", kv->key, err.text);
	w->n_unseen += key->kind == KIND_WORKLOADENDPOINT && !e;
	if (key->kind == KIND_NODE)
		vec_push(&w->nodes, mem_strdup(key->name));
	if (e)
		add_endpoint(w, e, key);
	if (n)
		add_node(w, n, key);
	if (p)
		add_pool(w, p);
	if (c)
		add_cluster(w, c, kv->rev);
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
	return strcmp(((const struct handle *)a)->name, ((const struct handle *)b)->name);
}

static int by_name_of_count(const void *a, const void *b)
{
	return strcmp(
		((const struct ipam_count *)a)->handle, ((const struct ipam_count *)b)->handle);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int by_alloc(const void *a, const void *b)
{
	const struct check_alloc *x = a, *y = b;
	int r = ip_compare(&x->ip, &y->ip);

	return r ? r : prefix_compare(&x->block, &y->block);
}

static int by_use(const void *a, const void *b)
{
	const struct check_use *x = a, *y = b;
	int r = ip_compare(&x->ip, &y->ip);

	return r ? r : strcmp(x->name, y->name);
}

static int by_given(const void *a, const void *b)
{
	const struct given *x = a, *y = b;
	int r = strcmp(x->network, y->network);

	return r ? r : strcmp(x->timestamp, y->timestamp);
}

/* For find() in what is sorted so: one of the network that was given no later, or no earlier, than the key. */
static int by_earlier(const void *key, const void *b)
{
	const struct given *x = key, *y = b;
	int r = by_given(x, y);

	return r > 0 && strcmp(x->network, y->network) == 0 ? 0 : r;
}

static int by_later(const void *key, const void *b)
{
	const struct given *x = key, *y = b;
	int r = by_given(x, y);

	return r < 0 && strcmp(x->network, y->network) == 0 ? 0 : r;
}

static int by_endpoint(const void *a, const void *b)
{
	const struct endpoint *x = a, *y = b;
	int r = strcmp(x->ns, y->ns);

	r = r ? r : strcmp(x->pod, y->pod);
	return r ? r : strcmp(x->node, y->node);
}

static int by_cidr(const void *a, const void *b)
{
	return prefix_compare(&((const struct claim *)a)->cidr, &((const struct claim *)b)->cidr);
}

static int by_block(const void *a, const void *b)
{
	return prefix_compare(
		&((const struct check_block *)a)->cidr, &((const struct check_block *)b)->cidr);
}

#define sort(list, cmp)                                                       \
	do {                                                                  \
		if ((list)->n > 0)                                            \
			qsort((list)->v, (list)->n, sizeof(*(list)->v), cmp); \
	} while (0)

#define find(list, key, cmp) \
	((list)->n > 0 ? bsearch((key), (list)->v, (list)->n, sizeof(*(list)->v), cmp) : NULL)

static void compare_counts(struct work *w, const struct ipam_count *b, const struct ipam_count *h)
{
	const struct ipam_count *any = b ? b : h;
	const struct handle *handle;
	enum problem_kind kind = PROBLEM_HANDLE_COUNT;
	struct problem *p;

	assert(any);
	handle = find(&w->handles, (&(struct handle){any->handle, 0}), by_handle);
	if (!handle) {
		add_problem(w, PROBLEM_HANDLE_MISSING, any->handle,
			"handle %s does not exist, and block %s has %u of its addresses",
			any->handle, prefix_str(&any->cidr), b ? b->n : 0)
			->cidr = any->cidr;
		return;
	}
	if (b && h && b->n == h->n)
		return;
	if (!find(&w->in_blocks.v, any, by_name_of_count)) {
		const struct problem *last =
			w->out->problems.n ? &w->out->problems.v[w->out->problems.n - 1] : NULL;

		kind = PROBLEM_HANDLE_EMPTY;
		if (last && last->kind == kind && strcmp(last->name, any->handle) == 0)
			return; /* it names several blocks */
	}
	p = add_problem(w, kind, any->handle,
		"handle %s counts %u addresses of block %s, which has %u of it", any->handle,
		h ? h->n : 0, prefix_str(&any->cidr), b ? b->n : 0);
	p->cidr = any->cidr;
	p->rev = handle->rev;
}

static void check_counts(struct work *w)
{
	size_t i = 0, k = 0;

	ipam_tally_sort(&w->in_blocks);
	ipam_tally_sort(&w->in_handles);
	sort(&w->handles, by_handle);
	while (i < w->in_blocks.v.n || k < w->in_handles.v.n) {
		const struct ipam_count *b = i < w->in_blocks.v.n ? w->in_blocks.v.v + i : NULL;
		const struct ipam_count *h = k < w->in_handles.v.n ? w->in_handles.v.v + k : NULL;
		int c = !b ? 1 : !h ? -1 : ipam_count_compare(b, h);

		compare_counts(w, c <= 0 ? b : NULL, c >= 0 ? h : NULL);
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

static char *who(const struct check_use *use)
{
	return mem_printf("%s %s", use->is_node ? "the tunnel of node" : "endpoint", use->name);
}

/* "net.c1", "net.c1:net1": of this container */
static bool is_of_container(const char *handle, const char *container)
{
	size_t n = strlen(container);

	for (const char *s = handle; n > 0 && (s = strstr(s, container)); s++)
		if (s > handle && s[-1] == '.' && (s[n] == '\0' || s[n] == ':'))
			return true;
	return false;
}

/* "NODE/NETWORK" of a handle "NETWORK.CONTAINER" or "NETWORK.CONTAINER:IFNAME"; NULL: there is none. */
static char *network_of(const struct check_alloc *a)
{
	size_t n = a->handle ? strcspn(a->handle, ":") : 0;

	while (n > 0 && a->handle[n - 1] != '.')
		n--;
	return n > 1 && a->node ? mem_printf("%s/%.*s", a->node, (int)n - 1, a->handle) : NULL;
}

static bool is_of_reserve(const struct check_alloc *a)
{
	return a->handle && begins(a->handle, IPAM_HANDLE_RESERVE) && !a->pod;
}

static bool is_of_windows(const struct check_alloc *a)
{
	return a->handle && begins(a->handle, IPAM_HANDLE_WINDOWS);
}

static bool is_of_service(const struct check_alloc *a)
{
	return a->service || (a->handle && begins(a->handle, "lb-"));
}

static bool is_of_tunnel(const struct check_alloc *a)
{
	return a->type && strstr(a->type, "TunnelAddress");
}

/* Where it is not known whom it was given to, it may be this one. */
static bool is_anothers(const struct check_use *use, const struct check_alloc *a)
{
	if (a->vmi) /* of one pod after the other */
		return false;
	if (is_of_reserve(a) || is_of_windows(a) || is_of_service(a))
		return true;
	if (use->is_node && is_of_tunnel(a))
		return a->node && strcmp(a->node, use->name) != 0;
	if (use->is_node)
		return a->pod || a->timestamp;
	if (is_of_tunnel(a))
		return true;
	if (a->handle && is_of_container(a->handle, use->container))
		return false;
	if (a->pod && *use->pod)
		return strcmp(a->ns ? a->ns : "", use->ns) != 0 || strcmp(a->pod, use->pod) != 0;
	return *use->container && (a->pod || a->timestamp);
}

static void check_owner(
	struct work *w, const struct check_use *use, const struct check_alloc *alloc, size_t n)
{
	auto_free char *name = who(use);
	struct problem *p;

	for (size_t i = 0; i < n; i++)
		if (!is_anothers(use, &alloc[i]))
			return;
	p = add_problem(w, PROBLEM_ANOTHERS, NULL, "%s is used by %s, and was given to handle %s",
		ip_str(&use->ip), name, alloc->handle ? alloc->handle : "<none>");
	p->ip = use->ip;
	p->seq = alloc->seq;
	if (!use->is_node)
		vec_push(&w->astray, use);
}

/* Whoever makes this container's interfaces writes endpoints. */
static void add_given(struct work *w, const struct check_use *use, const struct check_alloc *a)
{
	struct given g = {.timestamp = a->timestamp};

	if (!use->is_node && a->timestamp && a->handle &&
		is_of_container(a->handle, use->container))
		g.network = network_of(a);
	if (g.network)
		vec_push(&w->given, g);
}

/* Of an address that is in use: n blocks give it away, the first of which is alloc. */
static void check_use(struct work *w, struct check_use *use, struct check_alloc *alloc, size_t n)
{
	auto_free char *name = who(use);

	for (size_t i = 0; i < n; i++) {
		vec_push(&alloc[i].owners,
			mem_printf("%s(%s)", use->is_node ? "Node" : "Workload", use->name));
		add_given(w, use, &alloc[i]);
	}
	use->in_pool = in_pool(w, &use->ip);
	if (n == 0 && !use->in_pool)
		w->out->n_foreign++;
	else if (n == 0)
		add_problem(w, PROBLEM_UNGIVEN, NULL, "%s has %s, and no block gives it away", name,
			ip_str(&use->ip))
			->ip = use->ip;
	else if (alloc->cooling)
		add_problem(w, PROBLEM_UNGIVEN, NULL,
			"%s has %s, and its block has it in cool-down, as given back", name,
			ip_str(&use->ip))
			->ip = use->ip;
	else
		check_owner(w, use, alloc, n);
}

static void check_uses(struct work *w)
{
	struct check *c = w->out;
	size_t i = 0, n;

	sort(&c->allocs, by_alloc);
	sort(&c->uses, by_use);
	for (size_t k = 0; k < c->uses.n; k++) {
		struct check_use *use = &c->uses.v[k], *before = k > 0 ? use - 1 : NULL;

		while (i < c->allocs.n && ip_compare(&c->allocs.v[i].ip, &use->ip) < 0)
			i++;
		for (n = 0; i + n < c->allocs.n && ip_equal(&c->allocs.v[i + n].ip, &use->ip);)
			n++;
		if (before && ip_equal(&before->ip, &use->ip)) {
			auto_free char *one = who(before), *other = who(use);

			add_problem(w, PROBLEM_SHARED, NULL, "%s and %s have %s both", one, other,
				ip_str(&use->ip))
				->ip = use->ip;
			use->in_pool = before->in_pool;
			if (n == 0)
				continue;
		}
		check_use(w, use, n > 0 ? &c->allocs.v[i] : NULL, n);
	}
}

static bool is_node(const struct work *w, const char *name)
{
	return name && find(&w->nodes, &name, by_text);
}

static const struct endpoint *endpoint_of(const struct work *w, const struct check_alloc *a)
{
	const struct endpoint key = {
		.ns = a->ns ? a->ns : (char[]){""}, .pod = a->pod, .node = a->node};

	return a->pod && a->node ? find(&w->endpoints, &key, by_endpoint) : NULL;
}

static const char *given_at(const struct work *w, const struct ip *ip)
{
	size_t i = check_alloc_index(w->out, ip);

	return i < w->out->allocs.n && ip_equal(&w->out->allocs.v[i].ip, ip)
		       ? w->out->allocs.v[i].timestamp
		       : NULL;
}

/* An endpoint of whom it was given to, which has another's address instead. */
static const struct check_use *astray_of(const struct work *w, const struct check_alloc *a)
{
	const struct check_use **use;

	vec_for_each (&w->astray, use)
		if (!is_anothers(*use, a))
			return *use;
	return NULL;
}

/*
 * Whose plugin writes endpoints, as far as can be told: it did so on that node for the same network before this address
 * was given, and after that. Another plugin that uses addresses of ours has a network of its own, or had this one's name at
 * another time.
 */
static bool has_plugin_with_endpoints(const struct work *w, const struct check_alloc *a)
{
	auto_free char *network = network_of(a);
	const struct given key = {.network = network, .timestamp = a->timestamp};

	return network && a->timestamp && find(&w->given, &key, by_earlier) &&
	       find(&w->given, &key, by_later);
}

/*
 * Of an address that was given to a container, and that no endpoint has, whether it may be under way, or in
 * use unseen. NULL: neither.
 */
static char *doubt(const struct work *w, const struct check_alloc *a, const struct endpoint *e)
{
	const char *other = e ? given_at(w, &e->ip) : NULL;
	const struct check_use *astray = astray_of(w, a);

	if (w->n_unseen > 0)
		return mem_printf("%zu endpoints cannot be read", w->n_unseen);
	if (astray)
		return mem_printf("endpoint %s has %s instead, which is another's", astray->name,
			ip_str(&astray->ip));
	if (a->type && strcmp(a->type, IPAM_TYPE_ALONE) == 0)
		return mem_printf("margay-ipam gave it to another plugin on node %s", a->node);
	if (w->nodes.n > 0 && !is_node(w, a->node))
		return NULL;
	if (w->managed && !a->pod)
		return mem_strdup("it is no pod's, and Kubernetes has endpoints of pods alone");
	/* One of before the pod's last start has been forgotten; a later one is to be its next. */
	if (e && (!a->timestamp || !other || strcmp(a->timestamp, other) >= 0))
		return mem_printf(
			"that was not before the one which the pod has on node %s", a->node);
	if (e && a->handle && is_of_container(a->handle, e->container))
		return mem_printf(
			"its container has an endpoint on node %s, with another", a->node);
	if (!e && !w->managed && !has_plugin_with_endpoints(w, a))
		return mem_printf("no endpoints of its network on node %s are from before and from "
				  "after it: another plugin may use it",
			a->node);
	return NULL;
}

static void check_container(struct work *w, struct check_alloc *a)
{
	const struct endpoint *e = endpoint_of(w, a);
	auto_free char *to = NULL, *why = NULL;
	struct problem *p;

	if (w->managed && e &&
		(e->ip.family == IP_NONE ||
			(a->handle && is_of_container(a->handle, e->container)))) {
		/* It starts, it has ended and was not taken down yet, or it has several interfaces. */
		vec_push(&a->owners, mem_printf("Pod(%s/%s)", e->ns, e->pod));
		return;
	}
	to = a->pod ? mem_printf("pod %s/%s", a->ns ? a->ns : "", a->pod)
		    : mem_printf("handle %s", a->handle ? a->handle : "<none>");
	why = a->node ? doubt(w, a, e) : mem_strdup("its block does not say on which node");
	p = add_problem(w, why ? PROBLEM_DOUBTFUL : PROBLEM_LEAK, a->handle,
		"%s was given to %s, and no endpoint has it%s%s%s", ip_str(&a->ip), to,
		why ? " (" : "", why ? why : "", why ? ")" : "");
	p->ip = a->ip;
	p->seq = a->seq;
}

static void check_of_node(
	struct work *w, struct check_alloc *a, const char *what, const char *owner)
{
	struct problem *p;

	if (!is_node(w, a->node)) {
		p = add_problem(w, PROBLEM_LEAK, a->handle,
			"%s is held as %s of node %s, which does not exist", ip_str(&a->ip), what,
			a->node ? a->node : "<none>");
	} else if (owner) {
		vec_push(&a->owners, mem_printf("%s(%s)", owner, a->node));
		return;
	} else {
		p = add_problem(w, PROBLEM_TUNNEL, a->handle,
			"%s is held as %s of node %s, which does not say so", ip_str(&a->ip), what,
			a->node);
	}
	p->ip = a->ip;
	p->seq = a->seq;
}

/* An address that no endpoint and no tunnel has. */
static void check_unused(struct work *w, struct check_alloc *a)
{
	const char *handle = a->handle ? a->handle : "";

	if (a->cooling)
		return;
	if (is_of_windows(a))
		vec_push(&a->owners, mem_strdup("Reserved for Windows"));
	else if (is_of_reserve(a))
		check_of_node(w, a, "reserve", "Reserve");
	else if (a->vmi) /* it outlives the machine's pods */
		vec_push(&a->owners,
			mem_printf("VirtualMachine(%s/%s)", a->ns ? a->ns : "", a->vmi));
	else if (is_of_service(a))
		vec_push(&a->owners,
			mem_printf("LoadBalancer(%s)", a->service ? a->service : handle));
	else if (is_of_tunnel(a))
		check_of_node(w, a, a->type, NULL);
	else if (a->pod || a->timestamp)
		check_container(w, a);
	else /* who gave it, that knows */
		vec_push(&a->owners, mem_printf("Handle(%s)", *handle ? handle : "<none>"));
}

static void check_given(struct work *w)
{
	struct check_alloc *a;

	sort(&w->endpoints, by_endpoint);
	sort(&w->nodes, by_text);
	sort(&w->given, by_given);
	vec_for_each (&w->out->allocs, a)
		if (a->owners.n == 0)
			check_unused(w, a);
}

static void check_overlaps(struct work *w)
{
	const struct claim *outer = NULL, *b;

	vec_for_each (&w->blocks, b) {
		if (outer && prefix_covers(&outer->cidr, &b->cidr) &&
			!prefix_equal(&outer->cidr, &b->cidr))
			add_problem(w, PROBLEM_OVERLAP, NULL,
				"block %s lies in block %s: both give away its addresses",
				prefix_str(&b->cidr), prefix_str(&outer->cidr))
				->cidr = b->cidr;
		else
			outer = b;
	}
}

/* b: the block, or NULL. */
static void check_affinity(struct work *w, const struct claim *a, const struct claim *b)
{
	struct problem *p = add_problem(w, PROBLEM_AFFINITY_STALE, a->host,
		"node %s has an affinity for block %s, which %s%s%s", a->host, prefix_str(&a->cidr),
		!b	  ? "does not exist"
		: b->host ? "is node "
			  : "is no node's",
		b && b->host ? b->host : "", b && b->host ? "'s" : "");

	p->cidr = a->cidr;
	p->rev = a->rev;
	if (a->pending) {
		vec_push(&w->out->unsettled, *p);
		w->out->problems.n--;
	}
}

static void check_claims(struct work *w)
{
	size_t i = 0, k = 0;

	sort(&w->out->blocks, by_block);
	sort(&w->blocks, by_cidr);
	sort(&w->affinities, by_cidr);
	while (i < w->blocks.n || k < w->affinities.n) {
		int c = i == w->blocks.n       ? 1
			: k == w->affinities.n ? -1
					       : by_cidr(&w->blocks.v[i], &w->affinities.v[k]);
		const struct claim *b = c <= 0 ? &w->blocks.v[i] : NULL;
		bool found = !b || !b->host;

		if (c > 0)
			check_affinity(w, &w->affinities.v[k], NULL);
		while (b && c == 0 && k < w->affinities.n && by_cidr(b, &w->affinities.v[k]) == 0) {
			const struct claim *a = &w->affinities.v[k++];

			if (b->host && strcmp(a->host, b->host) == 0)
				found = true;
			else
				check_affinity(w, a, b);
		}
		if (!found)
			add_problem(w, PROBLEM_AFFINITY_MISSING, b->host,
				"block %s is node %s's, which has no affinity for it",
				prefix_str(&b->cidr), b->host)
				->cidr = b->cidr;
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
	ret[6] = kind_info(KIND_CLUSTERINFORMATION)->root;
}

static void free_texts(char **v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(v[i]);
}

static void work_done(struct work *w)
{
	struct claim *claim;
	struct handle *h;
	struct endpoint *e;
	struct given *g;

	vec_for_each (&w->blocks, claim)
		free(claim->host);
	vec_for_each (&w->affinities, claim)
		free(claim->host);
	vec_for_each (&w->handles, h)
		free(h->name);
	vec_for_each (&w->endpoints, e)
		free_texts((char *[]){e->ns, e->pod, e->node, e->container}, 4);
	free_texts(w->nodes.v, w->nodes.n);
	vec_for_each (&w->given, g)
		free(g->network);
	ipam_tally_done(&w->in_blocks);
	ipam_tally_done(&w->in_handles);
	vec_done(&w->blocks);
	vec_done(&w->affinities);
	vec_done(&w->handles);
	vec_done(&w->endpoints);
	vec_done(&w->astray);
	vec_done(&w->nodes);
	vec_done(&w->given);
	vec_done(&w->pools);
}

void check_ipam(const struct store_kv *kvs, size_t n, bool managed, struct check *ret)
{
	struct work w = {.out = ret, .managed = managed};

	*ret = (struct check){0};
	for (size_t i = 0; i < n; i++)
		add(&w, &kvs[i]);
	check_counts(&w);
	check_uses(&w);
	check_given(&w);
	check_claims(&w);
	check_overlaps(&w);
	work_done(&w);
}

static bool has(const struct problem *v, size_t n, const struct problem *p)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].kind == p->kind && v[i].seq == p->seq && v[i].rev == p->rev &&
			strcmp(v[i].text, p->text) == 0)
			return true;
	return false;
}

static void problem_done(struct problem *p)
{
	free(p->text);
	free(p->name);
}

void check_confirm(struct check *later, const struct check *earlier, bool settled)
{
	struct problem *p;
	size_t n = 0;

	vec_for_each (&later->problems, p) {
		if (has(earlier->problems.v, earlier->problems.n, p))
			later->problems.v[n++] = *p;
		else
			problem_done(p);
	}
	later->problems.n = n;
	vec_for_each (&later->unsettled, p) {
		if (settled && has(earlier->unsettled.v, earlier->unsettled.n, p))
			vec_push(&later->problems, *p);
		else
			problem_done(p);
	}
	later->unsettled.n = 0;
}

size_t check_alloc_index(const struct check *c, const struct ip *ip)
{
	size_t low = 0, high = c->allocs.n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (ip_compare(&c->allocs.v[mid].ip, ip) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

size_t check_count(const struct check *c, enum problem_kind kind)
{
	const struct problem *p;
	size_t n = 0;

	vec_for_each (&c->problems, p)
		n += p->kind == kind;
	return n;
}

static void alloc_done(struct check_alloc *a)
{
	free_texts((char *[]){a->handle, a->attrs, a->node, a->pod, a->ns, a->type, a->timestamp,
			   a->vmi, a->service},
		9);
	free_texts(a->owners.v, a->owners.n);
	vec_done(&a->owners);
}

void check_done(struct check *c)
{
	struct check_block *b;
	struct check_alloc *a;
	struct check_use *u;
	struct problem *p;

	vec_for_each (&c->problems, p)
		problem_done(p);
	vec_for_each (&c->unsettled, p)
		problem_done(p);
	vec_for_each (&c->blocks, b)
		free(b->affinity);
	vec_for_each (&c->allocs, a)
		alloc_done(a);
	vec_for_each (&c->uses, u)
		free_texts((char *[]){u->name, u->ns, u->pod, u->container}, 4);
	vec_done(&c->problems);
	vec_done(&c->unsettled);
	vec_done(&c->blocks);
	vec_done(&c->allocs);
	vec_done(&c->uses);
	vec_done(&c->pools);
	free(c->guid);
	free(c->type);
}
