/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One claim object per address says who wants it: normally one endpoint. Where there are several (an
 * endpoint of a dead pod stayed, its address was given again), the youngest has it.
 */
#include "felix/calc/calc.h"

#include <stdlib.h>
#include <string.h>

#include "base/hmap.h"
#include "base/mem.h"
#include "model/ippool.h"
#include "model/node.h"

struct claim {
	struct hmap_node node;
	struct prefix ip;
	VEC(const struct in_wep *) weps;
	const struct in_wep *winner;
};

struct calc {
	const struct calc_ops *ops;
	void *arg;
	struct hmap claims;
	VEC(const struct ippool *) pools;
	struct ip tunnel4; /* this node's */
	const struct in_config *config[CALC_CONFIG_N];
	uint32_t host_mtu;
	struct calc_wants wants;
	bool stale; /* wants */
};

struct calc *calc_new(const struct calc_ops *ops, void *arg)
{
	struct calc *c = mem_new(struct calc);

	c->ops = ops;
	c->arg = arg;
	c->stale = true;
	return c;
}

void calc_free(struct calc *c)
{
	struct claim *cl;

	if (!c)
		return;
	hmap_for_each (cl, &c->claims, node) {
		vec_done(&cl->weps);
		free(cl);
	}
	hmap_done(&c->claims);
	vec_done(&c->pools);
	vec_done(&c->wants.masq);
	vec_done(&c->wants.pools);
	free(c);
}

/* ---- routes ---- */

static struct claim *find_claim(const struct calc *c, const struct prefix *ip)
{
	struct claim *cl;

	hmap_for_each_hash (cl, &c->claims, hash_bytes(ip, sizeof(*ip)), node)
		if (prefix_equal(&cl->ip, ip))
			return cl;
	return NULL;
}

static bool younger(const struct in_wep *a, const struct in_wep *b)
{
	int d = strcmp(a->created, b->created);

	return d ? d > 0 : strcmp(a->ifname, b->ifname) > 0;
}

static void decide(struct calc *c, struct claim *cl)
{
	const struct in_wep **w, *best = NULL;

	vec_for_each (&cl->weps, w)
		if (!best || younger(*w, best))
			best = *w;
	if (best) {
		if (!cl->winner || strcmp(cl->winner->ifname, best->ifname) != 0)
			c->ops->route_set(c->arg, &cl->ip, best->ifname);
		cl->winner = best;
		return;
	}
	c->ops->route_unset(c->arg, &cl->ip);
	hmap_remove(&c->claims, &cl->node);
	vec_done(&cl->weps);
	free(cl);
}

static void claim(struct calc *c, const struct in_wep *w, const struct prefix *ip)
{
	struct claim *cl = find_claim(c, ip);

	if (!cl) {
		cl = mem_new(struct claim);
		cl->ip = *ip;
		hmap_insert(&c->claims, &cl->node, hash_bytes(ip, sizeof(*ip)));
	}
	vec_push(&cl->weps, w);
}

static void disclaim(struct calc *c, const struct in_wep *w, const struct prefix *ip)
{
	struct claim *cl = find_claim(c, ip);

	for (size_t i = 0; cl && i < cl->weps.n; i++)
		if (cl->weps.v[i] == w) {
			vec_swap_remove(&cl->weps, i);
			break;
		}
}

void calc_wep(struct calc *c, const struct in_wep *old, const struct in_wep *now)
{
	struct claim *cl;

	/* All claims first: an address that stays must not be told as gone in between. */
	for (size_t i = 0; now && i < now->n; i++)
		claim(c, now, &now->ips[i]);
	for (size_t i = 0; old && i < old->n; i++)
		disclaim(c, old, &old->ips[i]);
	for (size_t i = 0; now && i < now->n; i++)
		decide(c, find_claim(c, &now->ips[i]));
	for (size_t i = 0; old && i < old->n; i++) {
		cl = find_claim(c, &old->ips[i]);
		if (cl)
			decide(c, cl);
	}
}

void calc_block(struct calc *c, const struct prefix *cidr, bool ours)
{
	if (prefix_is_host(cidr)) /* its one address is a pod's own route */
		return;
	if (ours)
		c->ops->route_set(c->arg, cidr, NULL);
	else
		c->ops->route_unset(c->arg, cidr);
}

/* ---- the rest ---- */

static void changed(struct calc *c)
{
	c->stale = true;
	c->ops->wants_changed(c->arg);
}

void calc_pool(struct calc *c, const struct ippool *old, const struct ippool *now)
{
	for (size_t i = 0; old && i < c->pools.n; i++)
		if (c->pools.v[i] == old) {
			vec_swap_remove(&c->pools, i);
			break;
		}
	if (now)
		vec_push(&c->pools, now);
	changed(c);
}

void calc_node(struct calc *c, const struct node *now)
{
	c->tunnel4 = now ? now->ipip_tunnel4 : (struct ip){0};
	changed(c);
}

void calc_config(struct calc *c, enum calc_config which, const struct in_config *now)
{
	c->config[which] = now;
	changed(c);
}

void calc_host_mtu(struct calc *c, uint32_t mtu)
{
	if (c->host_mtu == mtu)
		return;
	c->host_mtu = mtu;
	changed(c);
}

struct in_config calc_config_in_force(const struct calc *c)
{
	struct in_config r = {.ipip_enabled = -1};

	for (size_t i = 0; i < CALC_CONFIG_N; i++) {
		const struct in_config *f = c->config[i];

		if (f && f->ipip_enabled >= 0)
			r.ipip_enabled = f->ipip_enabled;
		if (f && f->ipip_mtu)
			r.ipip_mtu = f->ipip_mtu;
		if (f && f->mtu_iface_pattern)
			r.mtu_iface_pattern = f->mtu_iface_pattern;
		if (f && f->status_prefix)
			r.status_prefix = f->status_prefix;
	}
	return r;
}

static int by_prefix(const void *a, const void *b)
{
	return prefix_compare(a, b);
}

static void sort(struct prefix *v, size_t n)
{
	if (n > 0)
		qsort(v, n, sizeof(*v), by_prefix);
}

const struct calc_wants *calc_wants(struct calc *c)
{
	struct in_config config = calc_config_in_force(c);
	uint32_t host = c->host_mtu ? c->host_mtu : CALC_MTU_FALLBACK, mtu = host;
	bool ipip = false, vxlan = false;
	const struct ippool **p;

	if (!c->stale)
		return &c->wants;
	c->stale = false;
	c->wants.masq.n = c->wants.pools.n = 0;
	vec_for_each (&c->pools, p) {
		if ((*p)->allowed_uses & POOL_LOADBALANCER)
			continue;
		/* Pods of a pool that was disabled live on. */
		ipip |= (*p)->ipip != ENCAP_NEVER;
		vxlan |= (*p)->vxlan != ENCAP_NEVER;
		vec_push(&c->wants.pools, (*p)->cidr);
		if ((*p)->nat_outgoing)
			vec_push(&c->wants.masq, (*p)->cidr);
	}
	sort(c->wants.masq.v, c->wants.masq.n);
	sort(c->wants.pools.v, c->wants.pools.n);
	if (config.ipip_enabled >= 0)
		ipip = config.ipip_enabled;
	c->wants.tunnel = ipip;
	c->wants.tunnel_ip = ipip ? c->tunnel4 : (struct ip){0};
	c->wants.tunnel_mtu = config.ipip_mtu ? config.ipip_mtu : host - CALC_TUNNEL_IPIP_OVERHEAD;
	if (ipip && c->wants.tunnel_mtu < mtu)
		mtu = c->wants.tunnel_mtu;
	if (vxlan && host - CALC_TUNNEL_VXLAN_OVERHEAD < mtu)
		mtu = host - CALC_TUNNEL_VXLAN_OVERHEAD;
	c->wants.pod_mtu = mtu;
	return &c->wants;
}
