/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The address of the tunnel device: one of the node's blocks, published in its Node. */
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

static void on_ipam(struct ipam_request *rq, int r, const struct err *err, void *arg)
{
	struct start *s = arg;
	const struct ipam_addr *a = ipam_request_addr(rq, IP_V4);
	struct err e = err ? *err : ERR_INIT;
	bool assigning = s->released;

	if (!assigning && r == -ENOENT) /* nothing was held */
		r = 0;
	if (r == 0 && assigning) {
		s->assigned = true;
		s->tunnel = a ? a->ip : (struct ip){0};
	}
	s->released = true;
	ipam_request_free(take_ptr(s->rq));
	if (r < 0) {
		err_wrap(&e, r, "tunnel address of node %s", s->conf->nodename);
		start_finish(s, r, &e);
		return;
	}
	start_step(s);
}

static void release(struct start *s, const char *handle)
{
	s->rq = ipam_release_handle_new(handle, s->now_ns);
	ipam_start(s->st, s->rq, on_ipam, s);
}

static void assign(struct start *s, const char *handle, const char *const *pools, size_t n)
{
	const struct ipam_attr attrs[] = {
		{"node", s->conf->nodename}, {"type", "ipipTunnelAddress"}};
	struct ipam_assign a = {.host = s->conf->nodename,
		.handle = handle,
		.attrs = attrs,
		.n_attrs = array_size(attrs),
		.use = IPAM_USE_TUNNEL,
		.v4 = true,
		.pools_v4 = {pools, n},
		.reuse = true,
		.now_ns = s->now_ns};

	mem_random(&a.random, sizeof(a.random));
	s->rq = ipam_assign_new(&a);
	ipam_start(s->st, s->rq, on_ipam, s);
}

/* Writes the address (IP_NONE: clears it). */
static void write_tunnel(struct start *s, struct object *o, const struct ip *ip)
{
	o->node->ipip_tunnel4 = *ip;
	log_info("node %s: tunnel address %s", s->conf->nodename,
		ip->family == IP_NONE ? "given back" : ip_str(ip));
	start_operate(s, STORE_UPDATE, o->key, node_encode(o->node, o->text), o->rev);
}

/* The names of the IPIP pools that serve this node's tunnel, and whether its address is in one of
 * them. ret: room for all pools. */
static size_t tunnel_pools(
	const struct start *s, const struct node *node, const char **ret, bool *ret_fits)
{
	const struct object *o;
	const struct ippool *p;
	size_t n = 0;

	*ret_fits = false;
	vec_for_each (&s->pools.of, o) {
		p = o->pool; /* felix's cache has named those without */
		if (p && p->ipip != ENCAP_NEVER && ippool_enabled(p) &&
			(p->allowed_uses & POOL_TUNNEL) && p->cidr.addr.family == IP_V4 &&
			pool_selects(p->node_selector, &node->meta.labels)) {
			ret[n++] = strrchr(o->key, '/') + 1;
			*ret_fits |= prefix_contains(&p->cidr, &node->ipip_tunnel4);
		}
	}
	return n;
}

int start_tunnel(struct start *s, const char *node_key)
{
	auto_free char *handle = mem_printf("ipip-tunnel-addr-%s", s->conf->nodename);
	auto_free const char **pools = NULL;
	struct object *node;
	bool stored, fits;
	size_t n;

	if (!start_know(s, node_key, &node))
		return 0;
	stored = node->node->ipip_tunnel4.family != IP_NONE;
	pools = mem_realloc_array(NULL, s->pools.of.n + 1, sizeof(*pools));
	n = tunnel_pools(s, node->node, pools, &fits);
	if (!fits && stored && start_bad_pool(s)) /* it may be of that one */
		return 1;
	/* Unpublished before it is free for a pod. */
	if (!fits && stored) {
		write_tunnel(s, node, &(struct ip){0});
		return 0;
	}
	if (!fits && !s->released) {
		release(s, handle);
		return 0;
	}
	s->released = true;
	if (n == 0)
		return 1;
	if (!s->assigned) {
		assign(s, handle, pools, n);
		return 0;
	}
	if (ip_equal(&s->tunnel, &node->node->ipip_tunnel4))
		return 1;
	write_tunnel(s, node, &s->tunnel);
	return 0;
}
