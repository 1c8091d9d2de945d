/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "felix/dp/tunnels.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/vec.h"
#include "felix/calc/calc.h"
#include "felix/dp/ifaces.h"
#include "kern/rt.h"

struct tunnels {
	struct rt *rt;
	struct ifaces *ifaces;
	bool wanted, dirty, deletes;
	struct ip ip;
	uint32_t mtu;
	VEC(struct prefix) pools;
	VEC(struct rt_addr) found; /* addresses, while it is applied */
};

static void on_link(void *arg, const struct rt_link *old, const struct rt_link *now)
{
	struct tunnels *t = arg;

	if ((old && strcmp(old->name, TUNNELS_IPIP) == 0) ||
		(now && strcmp(now->name, TUNNELS_IPIP) == 0))
		t->dirty = true;
}

struct tunnels *tunnels_new(struct rt *rt, struct ifaces *ifaces)
{
	struct tunnels *t = mem_new(struct tunnels);

	t->rt = rt;
	t->ifaces = ifaces;
	ifaces_listen(ifaces, on_link, t);
	return t;
}

void tunnels_free(struct tunnels *t)
{
	if (!t)
		return;
	vec_done(&t->pools);
	vec_done(&t->found);
	free(t);
}

void tunnels_want(struct tunnels *t, const struct calc_wants *w)
{
	const struct prefix *p;

	t->wanted = w->tunnel;
	t->ip = w->tunnel_ip;
	t->mtu = w->tunnel_mtu;
	t->pools.n = 0;
	vec_for_each (&w->pools, p)
		vec_push(&t->pools, *p);
	t->dirty = true;
}

void tunnels_allow_deletes(struct tunnels *t)
{
	t->deletes = t->dirty = true;
}

void tunnels_event(struct tunnels *t, const struct rt_event *ev)
{
	const struct rt_link *l = ifaces_by_name(t->ifaces, TUNNELS_IPIP);

	if (ev->type == RT_EVENT_OVERFLOW)
		t->dirty = true;
	if ((ev->type == RT_EVENT_ADDR_SET || ev->type == RT_EVENT_ADDR_DEL) && l &&
		ev->addr.index == l->index)
		t->dirty = true;
}

void tunnels_mark_unknown(struct tunnels *t)
{
	t->dirty = true;
}

static void found(void *arg, const struct rt_addr *a)
{
	struct tunnels *t = arg;

	vec_push(&t->found, *a);
}

static void restart(void *arg)
{
	((struct tunnels *)arg)->found.n = 0;
}

static bool of_our_pools(const struct tunnels *t, const struct ip *ip)
{
	const struct prefix *p;

	vec_for_each (&t->pools, p)
		if (prefix_contains(p, ip))
			return true;
	return false;
}

static int create(struct tunnels *t, struct err *err)
{
	int r;

	rt_begin(t->rt, NULL, NULL);
	rt_link_add(t->rt, TUNNELS_IPIP, "ipip", 0);
	r = rt_commit(t->rt, err);
	/* Loading the module makes the device, before the request is looked at. */
	if (r == -EEXIST)
		r = 0;
	if (r == -EOPNOTSUPP)
		return err_wrap(err, r,
			"create %s: the kernel has no IP-in-IP (module ipip); load it, or set "
			"ipipMode: Never in the IP pools",
			TUNNELS_IPIP);
	if (r < 0)
		return err_wrap(err, r, "create %s", TUNNELS_IPIP);
	ifaces_mark_unknown(t->ifaces);
	return ifaces_apply(t->ifaces, err);
}

int tunnels_apply(struct tunnels *t, struct err *err)
{
	const struct rt_link *l;
	struct rt_link_change change;
	struct rt_addr *a, ours;
	bool have = false;
	int r;

	r = ifaces_apply(t->ifaces, err);
	if (r < 0 || !t->dirty)
		return r;
	l = ifaces_by_name(t->ifaces, TUNNELS_IPIP);
	if (!l && !t->wanted) {
		t->dirty = false;
		return 0;
	}
	if (!l) {
		r = create(t, err);
		if (r < 0)
			return r;
		l = ifaces_by_name(t->ifaces, TUNNELS_IPIP);
		if (!l)
			return err_set(err, -ENODEV, "%s vanished as it was made", TUNNELS_IPIP);
	}
	t->found.n = 0;
	r = rt_addr_dump(t->rt, IP_V4, l->index, found, restart, t, err);
	if (r < 0)
		return err_wrap(err, r, "%s", TUNNELS_IPIP);
	change = (struct rt_link_change){.index = l->index};
	if (t->wanted && l->mtu != t->mtu && (t->deletes || !(l->flags & IFF_UP)))
		change.mtu = t->mtu;
	if (t->wanted && !(l->flags & IFF_UP))
		change.set_up = change.up = true;
	rt_begin(t->rt, NULL, NULL);
	if (change.mtu || change.set_up)
		rt_link_set(t->rt, &change, 0);
	vec_for_each (&t->found, a) {
		if (t->wanted && ip_equal(&a->prefix.addr, &t->ip))
			have = true;
		/* Without an address of ours yet, the one that is there may still be it. */
		else if (t->deletes && (t->ip.family != IP_NONE || !t->wanted) &&
			 of_our_pools(t, &a->prefix.addr))
			rt_addr_del(t->rt, a, 0);
	}
	ours = (struct rt_addr){.index = l->index, .prefix = prefix_host(&t->ip)};
	if (t->wanted && t->ip.family == IP_V4 && !have)
		rt_addr_set(t->rt, &ours, 0);
	r = rt_commit(t->rt, err);
	if (r < 0)
		return err_wrap(err, r, "set up %s", TUNNELS_IPIP);
	/* Our own changes are not told to us. */
	if (change.mtu || change.set_up)
		ifaces_mark_unknown(t->ifaces);
	t->dirty = false;
	return 0;
}
