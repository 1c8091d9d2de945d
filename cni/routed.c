/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/routed.h"

#include <stdlib.h>

#include "base/err.h"
#include "kern/rt.h"

static void add(void *arg, const struct rt_route *r)
{
	struct routed *s = arg;

	if (r->oif != 0 && r->dst.plen == ip_bits(&r->dst.addr))
		vec_push(&s->v, r->dst.addr);
}

static int compare(const void *a, const void *b)
{
	return ip_compare(a, b);
}

int routed_load(struct routed *ret, struct err *err)
{
	struct rt *rt;
	int r = rt_open(&rt, err);

	*ret = (struct routed){0};
	if (r < 0)
		return r;
	r = rt_route_dump(rt, IP_V4, RT_TABLE_MAIN_ID, 0, add, NULL, ret, err);
	if (r == 0)
		r = rt_route_dump(rt, IP_V6, RT_TABLE_MAIN_ID, 0, add, NULL, ret, err);
	rt_close(rt);
	if (r < 0)
		routed_done(ret);
	else if (ret->v.n > 1)
		qsort(ret->v.v, ret->v.n, sizeof(*ret->v.v), compare);
	return r;
}

void routed_done(struct routed *s)
{
	vec_done(&s->v);
}

bool routed_has(const struct routed *s, const struct ip *ip)
{
	return s->v.n > 0 && bsearch(ip, s->v.v, s->v.n, sizeof(*s->v.v), compare);
}
