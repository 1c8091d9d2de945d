/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/routed.h"

#include <stdlib.h>

#include "base/err.h"
#include "kern/rt.h"

struct load {
	struct routed *to;
	size_t n; /* of the families before */
};

static void add(void *arg, const struct rt_route *r)
{
	const struct load *l = arg;

	if (r->oif != 0 && r->dst.plen == ip_bits(&r->dst.addr))
		vec_push(&l->to->v, r->dst.addr);
}

static void restart(void *arg)
{
	const struct load *l = arg;

	l->to->v.n = l->n;
}

static int load(struct rt *rt, enum ip_family family, struct routed *to, struct err *err)
{
	struct load l = {.to = to, .n = to->v.n};

	return rt_route_dump(rt, family, RT_TABLE_MAIN_ID, 0, add, restart, &l, err);
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
	r = load(rt, IP_V4, ret, err) ?: load(rt, IP_V6, ret, err);
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
