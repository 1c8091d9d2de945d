/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "vips"
#include "proxy/vips.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/vec.h"
#include "kern/rt.h"

#define TABLE_LOCAL 255
#define LO_INDEX 1 /* in every network namespace */

struct vips {
	struct rt *rt;
	bool wanted, dirty, guessed;
	VEC(struct rt_route) routes; /* as wanted */
	VEC(struct rt_route) found;
};

struct vips *vips_new(struct rt *rt)
{
	struct vips *v = mem_new(struct vips);

	v->rt = rt;
	return v;
}

void vips_free(struct vips *v)
{
	if (!v)
		return;
	vec_done(&v->routes);
	vec_done(&v->found);
	free(v);
}

void vips_want(struct vips *v, const struct prefix *ranges, size_t n, const struct ip *src4,
	const struct ip *src6, bool guessed)
{
	v->routes.n = 0;
	for (size_t i = 0; i < n; i++) {
		struct rt_route r = {.dst = ranges[i],
			.table = TABLE_LOCAL,
			.protocol = VIPS_PROTOCOL,
			.scope = RT_SCOPED_HOST,
			.type = RT_TYPE_LOCAL,
			.src = ranges[i].addr.family == IP_V4 ? *src4 : *src6,
			.oif = LO_INDEX};

		vec_push(&v->routes, r);
	}
	v->guessed = guessed;
	v->wanted = v->dirty = true;
}

/* Also one that took the place of ours, which is told of itself alone. */
static bool concerns_route(const struct vips *v, const struct rt_route *r)
{
	const struct rt_route *want;

	if (r->table != TABLE_LOCAL || r->protocol == VIPS_PROTOCOL)
		return r->table == TABLE_LOCAL;
	vec_for_each (&v->routes, want)
		if (prefix_equal(&want->dst, &r->dst))
			return true;
	return false;
}

static bool is_source(const struct vips *v, const struct ip *ip)
{
	const struct rt_route *want;

	vec_for_each (&v->routes, want)
		if (ip_equal(&want->src, ip))
			return true;
	return false;
}

bool vips_event(struct vips *v, const struct rt_event *ev)
{
	switch (ev->type) {
	case RT_EVENT_ROUTE_SET:
	case RT_EVENT_ROUTE_DEL:
		v->dirty |= concerns_route(v, &ev->route);
		break;
	case RT_EVENT_LINK_SET:
	case RT_EVENT_LINK_DEL:
		v->dirty |= ev->link.index == LO_INDEX;
		break;
	case RT_EVENT_ADDR_SET:
	case RT_EVENT_ADDR_DEL: /* routes go with their source address, without a word */
		v->dirty |= is_source(v, &ev->addr.prefix.addr);
		break;
	case RT_EVENT_NEIGH_SET:
	case RT_EVENT_NEIGH_DEL:
	case RT_EVENT_FDB_SET:
	case RT_EVENT_FDB_DEL:
		break;
	case RT_EVENT_OVERFLOW:
		v->dirty = true;
		break;
	}
	return v->dirty;
}

void vips_mark_unknown(struct vips *v)
{
	v->dirty = true;
}

static void on_route(void *arg, const struct rt_route *r)
{
	struct vips *v = arg;

	/* The kernel or the library may give more than was asked for. */
	if (r->table == TABLE_LOCAL && r->protocol == VIPS_PROTOCOL)
		vec_push(&v->found, *r);
}

static void on_restart(void *arg)
{
	((struct vips *)arg)->found.n = 0;
}

static bool is_same(const struct rt_route *a, const struct rt_route *b)
{
	return prefix_equal(&a->dst, &b->dst) && a->type == b->type && a->oif == b->oif &&
	       (b->src.family == IP_NONE || ip_equal(&a->src, &b->src));
}

static bool is_in(const struct rt_route *r, const struct rt_route *v, size_t n, bool exactly)
{
	for (size_t i = 0; i < n; i++)
		if (exactly ? is_same(&v[i], r) : prefix_equal(&v[i].dst, &r->dst))
			return true;
	return false;
}

/* The kernel keeps a route no longer than its source address. */
static void adopt_sources(struct vips *v)
{
	struct rt_route *want;
	const struct rt_route *r;

	vec_for_each (&v->routes, want)
		vec_for_each (&v->found, r)
			if (prefix_equal(&r->dst, &want->dst) && r->src.family != IP_NONE)
				want->src = r->src;
}

int vips_apply(struct vips *v, struct err *err)
{
	int r;

	if (!v->wanted || !v->dirty)
		return 0;
	v->found.n = 0;
	r = rt_route_dump(v->rt, IP_V4, TABLE_LOCAL, VIPS_PROTOCOL, on_route, on_restart, v, err);
	if (r == 0)
		r = rt_route_dump(v->rt, IP_V6, TABLE_LOCAL, VIPS_PROTOCOL, on_route, NULL, v, err);
	if (r < 0)
		return err_wrap(err, r, "read the service ranges' routes");
	if (v->guessed)
		adopt_sources(v);
	rt_begin(v->rt, NULL, NULL);
	for (size_t i = 0; i < v->routes.n; i++)
		if (!is_in(&v->routes.v[i], v->found.v, v->found.n, true)) {
			log_info("local route to %s", prefix_str(&v->routes.v[i].dst));
			rt_route_set(v->rt, &v->routes.v[i], i);
		}
	for (size_t i = 0; i < v->found.n; i++)
		if (!is_in(&v->found.v[i], v->routes.v, v->routes.n, false))
			rt_route_del(v->rt, &v->found.v[i], i);
	r = rt_commit(v->rt, err);
	v->dirty = r < 0;
	return r < 0 ? err_wrap(err, r, "write the service ranges' local routes") : 0;
}
