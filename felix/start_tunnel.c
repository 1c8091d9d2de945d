/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The addresses of the tunnel devices: each of one of the node's blocks, published in its Node. */
#define LOG_MODULE "start"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "felix/start_plan.h"
#include "ipam/alloc.h"
#include "ipam/pools.h"
#include "ipam/run.h"
#include "model/ippool.h"
#include "model/node.h"

/* Calico's names: of the handles, of what the allocations are for. */
static const struct kind {
	const char *what, *handle, *type;
	enum ip_family family;
} kinds[START_N_TUNNELS] = {
	[START_IPIP] = {"IPIP", "ipip-tunnel-addr-", "ipipTunnelAddress", IP_V4},
	[START_VXLAN4] = {"VXLAN", "vxlan-tunnel-addr-", "vxlanTunnelAddress", IP_V4},
	[START_VXLAN6] = {"VXLAN", "vxlan-v6-tunnel-addr-", "vxlanV6TunnelAddress", IP_V6},
};

static struct ip *address_of(struct node *n, enum start_tunnel t)
{
	return t == START_IPIP	   ? &n->ipip_tunnel4
	       : t == START_VXLAN4 ? &n->vxlan_tunnel4
				   : &n->vxlan_tunnel6;
}

static void on_ipam(struct ipam_request *rq, int r, const struct err *err, void *arg)
{
	struct start *s = arg;
	enum start_tunnel t = s->rq_for;
	const struct ipam_addr *a = ipam_request_addr(rq, kinds[t].family);
	struct err e = err ? *err : ERR_INIT;
	bool assigning = s->tunnels[t].released;

	if (!assigning && r == -ENOENT) /* nothing was held */
		r = 0;
	if (r == 0 && assigning) {
		s->tunnels[t].assigned = true;
		s->tunnels[t].ip = a ? a->ip : (struct ip){0};
	}
	s->tunnel_free[t] = r == 0 && !assigning;
	s->tunnels[t].released = true;
	ipam_request_free(take_ptr(s->rq));
	if (r < 0) {
		err_wrap(&e, r, "address of the tunnel (%s, IPv%d) of node %s", kinds[t].what,
			kinds[t].family == IP_V4 ? 4 : 6, s->conf->nodename);
		s->tunnels[t].failed = true;
		if (s->tunnel_failure.code == 0)
			s->tunnel_failure = e;
	}
	start_step(s);
}

static void request(struct start *s, enum start_tunnel t, struct ipam_request *rq)
{
	s->rq = rq;
	s->rq_for = t;
	ipam_start(s->st, rq, on_ipam, s);
}

static void assign(struct start *s, enum start_tunnel t, const char *handle,
	const char *const *pools, size_t n)
{
	const struct ipam_attr attrs[] = {{"node", s->conf->nodename}, {"type", kinds[t].type}};
	struct ipam_assign a = {.host = s->conf->nodename,
		.handle = handle,
		.attrs = attrs,
		.n_attrs = array_size(attrs),
		.use = IPAM_USE_TUNNEL,
		.v4 = kinds[t].family == IP_V4,
		.v6 = kinds[t].family == IP_V6,
		.reuse = true,
		.now_ns = s->now_ns};

	if (a.v4)
		a.pools_v4 = (struct ipam_pools){pools, n};
	else
		a.pools_v6 = (struct ipam_pools){pools, n};
	mem_random(&a.random, sizeof(a.random));
	request(s, t, ipam_assign_new(&a));
}

/* Writes the address (IP_NONE: clears it). */
static void write_tunnel(
	struct start *s, enum start_tunnel t, struct object *o, const struct ip *ip)
{
	*address_of(o->node, t) = *ip;
	log_info("node %s: tunnel address (%s) %s", s->conf->nodename, kinds[t].what,
		ip->family == IP_NONE ? "given back" : ip_str(ip));
	start_operate(s, STORE_UPDATE, o->key, node_encode(o->node, o->text), o->rev);
}

/* A VXLAN's outer packets need an address of the node of the same family. */
static bool is_of(const struct ippool *p, enum start_tunnel t, const struct node *node)
{
	if (p->cidr.addr.family != kinds[t].family)
		return false;
	if (t == START_IPIP)
		return p->ipip != ENCAP_NEVER;
	return p->vxlan != ENCAP_NEVER &&
	       (t == START_VXLAN4 ? &node->ipv4 : &node->ipv6)->addr.family != IP_NONE;
}

/* The names of the pools that serve this node's tunnel, and whether its address is in one of them.
 * ret: room for all pools. */
static size_t tunnel_pools(const struct start *s, enum start_tunnel t, struct node *node,
	const char **ret, bool *ret_fits)
{
	const struct object *o;
	const struct ippool *p;
	size_t n = 0;

	*ret_fits = false;
	vec_for_each (&s->pools.of, o) {
		p = o->pool; /* felix's cache has named those without */
		if (p && is_of(p, t, node) && ippool_enabled(p) &&
			(p->allowed_uses & POOL_TUNNEL) &&
			pool_selects(p->node_selector, &node->meta.labels)) {
			ret[n++] = strrchr(o->key, '/') + 1;
			*ret_fits |= prefix_contains(&p->cidr, address_of(node, t));
		}
	}
	return n;
}

static int start_tunnel(struct start *s, enum start_tunnel t, const char *node_key)
{
	auto_free char *handle = mem_printf("%s%s", kinds[t].handle, s->conf->nodename);
	auto_free const char **pools = NULL;
	struct object *node;
	bool stored, fits;
	size_t n;

	if (s->tunnels[t].failed)
		return 1;
	if (!start_know(s, node_key, &node))
		return 0;
	stored = address_of(node->node, t)->family != IP_NONE;
	pools = mem_realloc_array(NULL, s->pools.of.n + 1, sizeof(*pools));
	n = tunnel_pools(s, t, node->node, pools, &fits);
	if (!fits && stored && start_bad_pool(s)) /* it may be of that one */
		return 1;
	/* Unpublished before it is free for a pod. */
	if (!fits && stored) {
		write_tunnel(s, t, node, &(struct ip){0});
		return 0;
	}
	if (!fits && !s->tunnels[t].released && !s->tunnel_free[t]) {
		request(s, t, ipam_release_handle_new(handle, s->now_ns));
		return 0;
	}
	s->tunnels[t].released = true;
	if (n == 0)
		return 1;
	if (!s->tunnels[t].assigned) {
		assign(s, t, handle, pools, n);
		return 0;
	}
	if (ip_equal(&s->tunnels[t].ip, address_of(node->node, t)))
		return 1;
	write_tunnel(s, t, node, &s->tunnels[t].ip);
	return 0;
}

int start_tunnels(struct start *s, const char *node_key, struct err *err)
{
	for (enum start_tunnel t = 0; t < START_N_TUNNELS; t++) {
		int r = start_tunnel(s, t, node_key);

		if (r != 1)
			return r;
	}
	if (s->tunnel_failure.code == 0)
		return 1;
	if (err)
		*err = s->tunnel_failure;
	return s->tunnel_failure.code;
}
