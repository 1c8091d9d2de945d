/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 *	struct peer	a node: what is known of it, and the destinations that are on it
 *	struct dest	a block, or an address out of one, and the route that was told
 */
#include "felix/calc/remote.h"

#include <stdlib.h>
#include <string.h>

#include "base/hmap.h"
#include "base/list.h"
#include "base/vec.h"
#include "model/ippool.h"

struct vtep {
	struct ip ip, host; /* ip IP_NONE: there is none */
	struct mac mac;
};

struct peer {
	struct hmap_node node;
	char *name;
	const struct in_node *is; /* NULL: not known */
	struct list dests;
	size_t n_tunnelled[2]; /* routes through its tunnel's end, by family */
	struct vtep told[2];
};

struct dest {
	struct hmap_node node;
	struct prefix dst;
	struct peer *peer;
	struct list of_peer;
	const struct in_block *of;
	struct ip via; /* as it was told; IP_NONE: it was not */
	bool direct;
	bool counted; /* in the peer's n_tunnelled */
};

struct remote {
	char *self;
	const struct remote_ops *ops;
	void *arg;
	struct hmap peers, dests;
	VEC(const struct ippool *) pools;
	struct prefix own[2]; /* this node's addresses, with their networks; by family */
};

struct remote *remote_new(const char *self, const struct remote_ops *ops, void *arg)
{
	struct remote *r = mem_new(struct remote);

	r->self = mem_strdup(self);
	r->ops = ops;
	r->arg = arg;
	return r;
}

void remote_free(struct remote *r)
{
	struct peer *p;
	struct dest *d;

	if (!r)
		return;
	hmap_for_each (d, &r->dests, node)
		free(d);
	hmap_for_each (p, &r->peers, node) {
		free(p->name);
		free(p);
	}
	hmap_done(&r->dests);
	hmap_done(&r->peers);
	vec_done(&r->pools);
	free(r->self);
	free(r);
}

/* ---- objects ---- */

static struct peer *find_peer(const struct remote *r, const char *name)
{
	struct peer *p;

	hmap_for_each_hash (p, &r->peers, hash_str(name), node)
		if (strcmp(p->name, name) == 0)
			return p;
	return NULL;
}

static struct peer *get_peer(struct remote *r, const char *name)
{
	struct peer *p = find_peer(r, name);

	if (p)
		return p;
	p = mem_new(struct peer);
	p->name = mem_strdup(name);
	list_init(&p->dests);
	hmap_insert(&r->peers, &p->node, hash_str(name));
	return p;
}

static void put_peer(struct remote *r, struct peer *p)
{
	if (p->is || !list_empty(&p->dests))
		return;
	hmap_remove(&r->peers, &p->node);
	free(p->name);
	free(p);
}

static struct dest *find_dest(const struct remote *r, const struct prefix *dst)
{
	struct dest *d;

	hmap_for_each_hash (d, &r->dests, hash_bytes(dst, sizeof(*dst)), node)
		if (prefix_equal(&d->dst, dst))
			return d;
	return NULL;
}

/* ---- decisions ---- */

static int index_of(const struct prefix *p)
{
	return p->addr.family == IP_V6;
}

static enum encap_mode mode_of(const struct remote *r, const struct prefix *dst)
{
	const struct ippool **p, *best = NULL;

	vec_for_each (&r->pools, p)
		if (prefix_contains(&(*p)->cidr, &dst->addr) && (*p)->cidr.plen <= dst->plen &&
			(!best || (*p)->cidr.plen > best->cidr.plen))
			best = *p;
	return best ? best->vxlan : ENCAP_NEVER;
}

/* IP_NONE: by VXLAN it is not reached. */
static struct ip choose(const struct remote *r, const struct dest *d, bool *ret_direct)
{
	const struct in_node *n = d->peer->is;
	int f = index_of(&d->dst);
	enum encap_mode mode;

	*ret_direct = false;
	if (!n || n->address[f].addr.family == IP_NONE || strcmp(n->name, r->self) == 0)
		return (struct ip){0};
	mode = mode_of(r, &d->dst);
	if (mode == ENCAP_NEVER)
		return (struct ip){0};
	*ret_direct = mode == ENCAP_CROSS_SUBNET && r->own[f].addr.family != IP_NONE &&
		      prefix_contains(&r->own[f], &n->address[f].addr);
	return *ret_direct ? n->address[f].addr : n->vtep[f];
}

static bool vtep_equal(const struct vtep *a, const struct vtep *b)
{
	return ip_equal(&a->ip, &b->ip) && ip_equal(&a->host, &b->host) &&
	       memcmp(&a->mac, &b->mac, sizeof(a->mac)) == 0;
}

static void settle_vtep(struct remote *r, struct peer *p, int f)
{
	struct vtep now = {0}, *told = &p->told[f];

	if (p->is && p->n_tunnelled[f] > 0)
		now = (struct vtep){
			.ip = p->is->vtep[f], .host = p->is->address[f].addr, .mac = p->is->mac[f]};
	if (vtep_equal(&now, told))
		return;
	if (told->ip.family != IP_NONE && !ip_equal(&told->ip, &now.ip))
		r->ops->vtep_unset(r->arg, &told->ip);
	if (now.ip.family != IP_NONE)
		r->ops->vtep_set(r->arg, &now.ip, &now.mac, &now.host);
	*told = now;
}

static void count(struct dest *d, bool on)
{
	if (on && !d->counted)
		d->peer->n_tunnelled[index_of(&d->dst)]++;
	if (!on && d->counted)
		d->peer->n_tunnelled[index_of(&d->dst)]--;
	d->counted = on;
}

static void tell(struct remote *r, struct dest *d, const struct ip *via, bool direct)
{
	bool none = via->family == IP_NONE;

	if (none && d->via.family != IP_NONE)
		r->ops->route_unset(r->arg, &d->dst);
	if (!none && (!ip_equal(via, &d->via) || direct != d->direct))
		r->ops->route_set(r->arg, &d->dst, via, direct);
	d->via = *via;
	d->direct = direct;
	count(d, !none && !direct);
}

static void settle_dest(struct remote *r, struct dest *d)
{
	bool direct;
	struct ip via = choose(r, d, &direct);

	tell(r, d, &via, direct);
}

static void settle_peer(struct remote *r, struct peer *p)
{
	struct dest *d;

	list_for_each (d, &p->dests, of_peer)
		settle_dest(r, d);
	settle_vtep(r, p, 0);
	settle_vtep(r, p, 1);
}

static void settle_all(struct remote *r)
{
	struct peer *p;

	hmap_for_each (p, &r->peers, node)
		settle_peer(r, p);
}

/* ---- inputs ---- */

static void set_own(struct remote *r, const struct in_node *now)
{
	bool changed = false;

	for (int f = 0; f < 2; f++) {
		struct prefix p = now ? now->address[f] : (struct prefix){0};

		changed |= !prefix_equal(&p, &r->own[f]);
		r->own[f] = p;
	}
	if (changed)
		settle_all(r);
}

void remote_node(struct remote *r, const struct in_node *old, const struct in_node *now)
{
	struct peer *p = get_peer(r, (now ?: old)->name);

	p->is = now;
	settle_peer(r, p);
	if (strcmp(p->name, r->self) == 0)
		set_own(r, now);
	put_peer(r, p);
}

static void join(struct dest *d, struct peer *p)
{
	count(d, false);
	list_del(&d->of_peer);
	d->peer = p;
	list_add_tail(&p->dests, &d->of_peer);
}

static void add_dest(
	struct remote *r, const struct in_block *of, const struct prefix *dst, const char *node)
{
	struct peer *p = get_peer(r, node), *before = NULL;
	struct dest *d = find_dest(r, dst);

	if (!d) {
		d = mem_new(struct dest);
		d->dst = *dst;
		list_init(&d->of_peer);
		hmap_insert(&r->dests, &d->node, hash_bytes(&d->dst, sizeof(d->dst)));
	}
	d->of = of;
	if (d->peer != p) {
		before = d->peer;
		join(d, p);
	}
	settle_dest(r, d);
	settle_vtep(r, p, index_of(dst));
	if (before) {
		settle_vtep(r, before, index_of(dst));
		put_peer(r, before);
	}
}

static void remove_dest(struct remote *r, const struct in_block *of, const struct prefix *dst)
{
	struct dest *d = find_dest(r, dst);
	struct ip none = {0};

	if (!d || d->of != of) /* it is another's by now */
		return;
	tell(r, d, &none, false);
	settle_vtep(r, d->peer, index_of(dst));
	list_del(&d->of_peer);
	put_peer(r, d->peer);
	hmap_remove(&r->dests, &d->node);
	free(d);
}

/* The block itself, unless all of it is one address that another node has. */
static bool has_whole(const struct in_block *b)
{
	return b->host && !(prefix_is_host(&b->cidr) && b->n > 0);
}

static void add_block(struct remote *r, const struct in_block *b)
{
	if (has_whole(b))
		add_dest(r, b, &b->cidr, b->host);
	for (size_t i = 0; i < b->n; i++) {
		struct prefix p = prefix_host(&b->borrowed[i].ip);

		add_dest(r, b, &p, b->borrowed[i].node);
	}
}

void remote_block(struct remote *r, const struct in_block *old, const struct in_block *now)
{
	/* What stays is now's before old's is removed. */
	if (now)
		add_block(r, now);
	if (!old)
		return;
	if (has_whole(old))
		remove_dest(r, old, &old->cidr);
	for (size_t i = 0; i < old->n; i++) {
		struct prefix p = prefix_host(&old->borrowed[i].ip);

		remove_dest(r, old, &p);
	}
}

void remote_pool(struct remote *r, const struct ippool *old, const struct ippool *now)
{
	for (size_t i = 0; old && i < r->pools.n; i++)
		if (r->pools.v[i] == old) {
			vec_swap_remove(&r->pools, i);
			break;
		}
	if (now)
		vec_push(&r->pools, now);
	settle_all(r);
}
