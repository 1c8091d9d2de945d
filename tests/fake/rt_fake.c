/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fake/rt_fake.h"

#include <linux/neighbour.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/vec.h"

struct rt {
	rt_done_fn *done;
	void *arg;
	struct err failure;
};

struct rt_monitor {
	unsigned what;
	uint32_t neigh_index; /* it hears of this link's neighbours alone; 0: of none */
	const struct rt *except;
	VEC(struct rt_event) events;
	int fd;
};

static struct kernel {
	VEC(struct rt_link) links;
	VEC(struct rt_addr) addrs;
	VEC(struct rt_route) routes;
	VEC(struct rt_neigh) neighs;
	VEC(struct rt_fdb) fdbs;
	VEC(struct rt_rule) rules;
	VEC(struct rt_monitor *) monitors;
	uint32_t last_index;
	unsigned calls, writes, touched, fail_nth;
	int fail_r;
	bool lose;
} k;

void rt_fake_reset(void)
{
	vec_done(&k.links);
	vec_done(&k.addrs);
	vec_done(&k.routes);
	vec_done(&k.neighs);
	vec_done(&k.fdbs);
	vec_done(&k.rules);
	k.calls = k.writes = k.touched = k.fail_nth = k.last_index = 0;
	k.lose = false;
}

void rt_fake_fail_nth(unsigned n, int r)
{
	k.fail_nth = n;
	k.fail_r = r;
}

unsigned rt_fake_calls(void)
{
	return k.calls;
}

unsigned rt_fake_writes(void)
{
	return k.writes;
}

unsigned rt_fake_foreign_touched(void)
{
	return k.touched;
}

/* The failure of this call, or 0. */
static int call(void)
{
	k.calls++;
	if (k.fail_nth == 0 || --k.fail_nth > 0)
		return 0;
	return k.fail_r;
}

/* ---- events ---- */

static void tell(const struct rt *by, const struct rt_event *ev)
{
	static const unsigned what[] = {
		[RT_EVENT_LINK_SET] = RT_WATCH_LINKS,
		[RT_EVENT_LINK_DEL] = RT_WATCH_LINKS,
		[RT_EVENT_ADDR_SET] = RT_WATCH_ADDRS,
		[RT_EVENT_ADDR_DEL] = RT_WATCH_ADDRS,
		[RT_EVENT_ROUTE_SET] = RT_WATCH_ROUTES,
		[RT_EVENT_ROUTE_DEL] = RT_WATCH_ROUTES,
	};
	struct rt_monitor **m;
	uint64_t one = 1;

	vec_for_each (&k.monitors, m) {
		if (!((*m)->what & what[ev->type]) || (by && (*m)->except == by))
			continue;
		if (k.lose) {
			(*m)->events.n = 0;
			vec_push(&(*m)->events, (struct rt_event){.type = RT_EVENT_OVERFLOW});
		} else {
			vec_push(&(*m)->events, *ev);
		}
		(void)!write((*m)->fd, &one, sizeof(one));
	}
	k.lose = false;
}

static void tell_link(const struct rt *by, enum rt_event_type type, const struct rt_link *l)
{
	struct rt_event ev = {.type = type, .link = *l};

	tell(by, &ev);
}

static void tell_addr(const struct rt *by, enum rt_event_type type, const struct rt_addr *a)
{
	struct rt_event ev = {.type = type, .addr = *a};

	tell(by, &ev);
}

static void tell_route(const struct rt *by, enum rt_event_type type, const struct rt_route *r)
{
	struct rt_event ev = {.type = type, .route = *r};

	tell(by, &ev);
}

void rt_fake_lose_events(void)
{
	k.lose = true;
}

static void tell_neigh(const struct rt_event *ev, uint32_t index)
{
	struct rt_monitor **m;
	uint64_t one = 1;

	vec_for_each (&k.monitors, m)
		if ((*m)->neigh_index == index) {
			vec_push(&(*m)->events, *ev);
			(void)!write((*m)->fd, &one, sizeof(one));
		}
}

/* ---- state ---- */

static struct rt_link *find_link(uint32_t index, const char *name)
{
	struct rt_link *l;

	vec_for_each (&k.links, l)
		if (index ? l->index == index : strcmp(l->name, name) == 0)
			return l;
	return NULL;
}

const struct rt_link *rt_fake_find_link(const char *name)
{
	return find_link(0, name);
}

bool rt_fake_has_addr(uint32_t index, const struct ip *ip)
{
	struct rt_addr *a;

	vec_for_each (&k.addrs, a)
		if (a->index == index && ip_equal(&a->prefix.addr, ip))
			return true;
	return false;
}

static void flush_routes(uint32_t index)
{
	for (size_t i = 0; i < k.routes.n;)
		if (k.routes.v[i].oif == index)
			vec_swap_remove(&k.routes, i);
		else
			i++;
}

static void set_up(const struct rt *by, struct rt_link *l, bool up)
{
	bool was = l->flags & IFF_UP;

	l->flags = up ? IFF_UP | IFF_RUNNING : 0;
	if (was && !up)
		flush_routes(l->index);
	tell_link(by, RT_EVENT_LINK_SET, l);
}

static struct rt_link *new_link(const char *name, uint32_t index, const char *kind)
{
	struct rt_link l = {.index = index ? index : ++k.last_index, .mtu = 1500, .netnsid = -1};

	if (index > k.last_index)
		k.last_index = index;
	memccpy(l.name, name, 0, sizeof(l.name) - 1);
	memccpy(l.kind, kind, 0, sizeof(l.kind) - 1);
	vec_push(&k.links, l);
	return &k.links.v[k.links.n - 1];
}

void rt_fake_link(const char *name, uint32_t index, bool up)
{
	struct rt_link *l = find_link(0, name);

	set_up(NULL, l ? l : new_link(name, index, ""), up);
}

static void del_link(const struct rt *by, struct rt_link *l)
{
	struct rt_link gone = *l;

	flush_routes(l->index);
	for (size_t i = 0; i < k.addrs.n;)
		if (k.addrs.v[i].index == gone.index)
			vec_swap_remove(&k.addrs, i);
		else
			i++;
	for (size_t i = k.neighs.n; i-- > 0;)
		if (k.neighs.v[i].index == gone.index)
			vec_swap_remove(&k.neighs, i);
	for (size_t i = k.fdbs.n; i-- > 0;)
		if (k.fdbs.v[i].index == gone.index)
			vec_swap_remove(&k.fdbs, i);
	vec_swap_remove(&k.links, (size_t)(l - k.links.v));
	gone.flags = 0;
	tell_link(by, RT_EVENT_LINK_DEL, &gone);
}

void rt_fake_link_gone(const char *name)
{
	struct rt_link *l = find_link(0, name);

	if (l)
		del_link(NULL, l);
}

/* table 0: any */
static struct rt_route *find_route(uint32_t table, const struct prefix *dst, uint32_t priority)
{
	struct rt_route *r;

	vec_for_each (&k.routes, r)
		if ((table == 0 || r->table == table) && prefix_equal(&r->dst, dst) &&
			r->priority == priority)
			return r;
	return NULL;
}

const struct rt_route *rt_fake_find_route(const struct prefix *dst, uint32_t priority)
{
	return find_route(0, dst, priority);
}

size_t rt_fake_n_routes(void)
{
	return k.routes.n;
}

void rt_fake_for_each_route(void (*fn)(void *arg, const struct rt_route *r), void *arg)
{
	struct rt_route *r;

	vec_for_each (&k.routes, r)
		fn(arg, r);
}

static void put_route(const struct rt *by, const struct rt_route *r)
{
	struct rt_route *old = find_route(r->table, &r->dst, r->priority);

	if (by && old && old->protocol != RT_PROTO_MARGAY)
		k.touched++;
	if (old)
		*old = *r;
	else
		vec_push(&k.routes, *r);
	tell_route(by, RT_EVENT_ROUTE_SET, r);
}

void rt_fake_route(const struct rt_route *r)
{
	put_route(NULL, r);
}

bool rt_fake_route_gone(const struct prefix *dst, uint32_t priority)
{
	struct rt_route *r = find_route(0, dst, priority), gone;

	if (!r)
		return false;
	gone = *r;
	vec_swap_remove(&k.routes, (size_t)(r - k.routes.v));
	tell_route(NULL, RT_EVENT_ROUTE_DEL, &gone);
	return true;
}

/* ---- the interface ---- */

int rt_open(struct rt **ret, struct err *err)
{
	(void)err;
	*ret = mem_new(struct rt);
	return 0;
}

int rt_from_fd(int fd, struct rt **ret, struct err *err)
{
	if (fd >= 0)
		close(fd);
	return rt_open(ret, err);
}

void rt_close(struct rt *rt)
{
	free(rt);
}

#define TELL(objects, type, fn, cond, n)                          \
	do {                                                      \
		for (size_t i_ = 0; i_ < (n); i_++) {             \
			const struct type *o = &(objects)->v[i_]; \
                                                                  \
			if (cond)                                 \
				fn(arg, o);                       \
		}                                                 \
	} while (0)

/* Half of it, then the failure that was asked for. */
#define DUMP(objects, type, fn, cond)                                                   \
	do {                                                                            \
		int r_ = call();                                                        \
                                                                                        \
		if (r_)                                                                 \
			TELL(objects, type, fn, cond, ((objects)->n + 1) / 2);          \
		if (r_ == -EINTR) {                                                     \
			if (restart)                                                    \
				restart(arg);                                           \
			r_ = restart ? 0 : -EBUSY;                                      \
		}                                                                       \
		if (!r_)                                                                \
			TELL(objects, type, fn, cond, (objects)->n);                    \
		return r_ ? err_set(err, r_, "fake dump fails: %s", strerror(-r_)) : 0; \
	} while (0)

int rt_route_dump(struct rt *rt, enum ip_family family, uint32_t table, uint8_t protocol,
	rt_route_fn *fn, rt_restart_fn *restart, void *arg, struct err *err)
{
	(void)rt;
	DUMP(&k.routes, rt_route, fn,
		o->dst.addr.family == family && (!table || o->table == table) &&
			(!protocol || o->protocol == protocol));
}

int rt_link_dump(struct rt *rt, rt_link_fn *fn, rt_restart_fn *restart, void *arg, struct err *err)
{
	(void)rt;
	DUMP(&k.links, rt_link, fn, true);
}

int rt_addr_dump(struct rt *rt, enum ip_family family, uint32_t index, rt_addr_fn *fn,
	rt_restart_fn *restart, void *arg, struct err *err)
{
	(void)rt;
	DUMP(&k.addrs, rt_addr, fn,
		(family == IP_NONE || o->prefix.addr.family == family) &&
			(!index || o->index == index));
}

int rt_neigh_dump(struct rt *rt, enum ip_family family, uint32_t index, rt_neigh_fn *fn,
	rt_restart_fn *restart, void *arg, struct err *err)
{
	(void)rt;
	DUMP(&k.neighs, rt_neigh, fn,
		(family == IP_NONE || o->ip.family == family) && (!index || o->index == index));
}

int rt_fdb_dump(struct rt *rt, uint32_t index, rt_fdb_fn *fn, rt_restart_fn *restart, void *arg,
	struct err *err)
{
	(void)rt;
	DUMP(&k.fdbs, rt_fdb, fn, o->index == index);
}

int rt_rule_dump(struct rt *rt, enum ip_family family, rt_rule_fn *fn, rt_restart_fn *restart,
	void *arg, struct err *err)
{
	(void)rt;
	DUMP(&k.rules, rt_rule, fn, o->family == family);
}

int rt_link_get(
	struct rt *rt, const char *name, uint32_t index, struct rt_link *ret, struct err *err)
{
	const struct rt_link *l = find_link(name ? 0 : index, name);
	int r = call();

	(void)rt;
	if (r)
		return err_set(err, r, "fake link_get fails");
	if (!l)
		return err_set(err, -ENOENT, "there is no such link");
	*ret = *l;
	return 0;
}

int rt_route_lookup(struct rt *rt, const struct ip *dst, struct rt_route *ret, struct err *err)
{
	const struct rt_route *r, *best = NULL;
	int res = call();

	(void)rt;
	if (res)
		return err_set(err, res, "fake route_lookup fails");
	vec_for_each (&k.routes, r)
		if (prefix_contains(&r->dst, dst) && (!best || r->dst.plen > best->dst.plen))
			best = r;
	if (!best)
		return err_set(err, -ENOENT, "there is no route");
	*ret = *best;
	return 0;
}

int rt_route_match(struct rt *rt, const struct ip *dst, struct rt_route *ret, struct err *err)
{
	return rt_route_lookup(rt, dst, ret, err);
}

void rt_begin(struct rt *rt, rt_done_fn *done, void *arg)
{
	rt->done = done;
	rt->arg = arg;
	rt->failure.code = 0;
}

int rt_commit(struct rt *rt, struct err *err)
{
	if (rt->failure.code && err)
		*err = rt->failure;
	return rt->failure.code;
}

/* Settings are not kept here, so that setting them again is no change. */
static void finish_setting(struct rt *rt, uintptr_t cookie, int r)
{
	struct err err = ERR_INIT;

	if (r)
		err_set(&err, r, "%s", strerror(-r));
	if (r && rt->failure.code == 0)
		rt->failure = err;
	if (rt->done)
		rt->done(rt->arg, cookie, r, r ? &err : NULL);
}

static void finish(struct rt *rt, uintptr_t cookie, int r)
{
	k.writes += r == 0;
	finish_setting(rt, cookie, r);
}

/* Whether the work is to be done; *ret is what is told of it if it succeeds. */
static bool works(int *ret)
{
	*ret = call();
	return *ret == 0 || *ret == -ENOBUFS;
}

static int check_route(const struct rt_route *r)
{
	const struct rt_link *l = r->oif ? find_link(r->oif, NULL) : NULL;

	if (r->oif && !l)
		return -ENODEV;
	return l && !(l->flags & IFF_UP) ? -ENETDOWN : 0;
}

void rt_route_set(struct rt *rt, const struct rt_route *r, uintptr_t cookie)
{
	int res, wrong = check_route(r);

	if (works(&res)) {
		if (wrong)
			res = wrong;
		else
			put_route(rt, r);
	}
	finish(rt, cookie, res);
}

void rt_route_del(struct rt *rt, const struct rt_route *r, uintptr_t cookie)
{
	struct rt_route *old = find_route(r->table, &r->dst, r->priority), gone;
	int res;

	if (works(&res) && old && (!r->protocol || old->protocol == r->protocol) &&
		(!r->oif || old->oif == r->oif)) {
		if (old->protocol != RT_PROTO_MARGAY)
			k.touched++;
		gone = *old;
		vec_swap_remove(&k.routes, (size_t)(old - k.routes.v));
		tell_route(rt, RT_EVENT_ROUTE_DEL, &gone);
	}
	finish(rt, cookie, res);
}

void rt_veth_add(struct rt *rt, const struct rt_veth *v, uintptr_t cookie)
{
	struct rt_link *l;
	int res;

	if (works(&res)) {
		if (find_link(0, v->name)) {
			res = -EEXIST;
		} else {
			l = new_link(v->name, v->index, "veth");
			l->group = v->group;
			if (v->mtu)
				l->mtu = v->mtu;
			tell_link(rt, RT_EVENT_LINK_SET, l);
		}
	}
	finish(rt, cookie, res);
}

void rt_link_add(struct rt *rt, const char *name, const char *kind, uintptr_t cookie)
{
	int res;

	if (works(&res)) {
		if (find_link(0, name))
			res = -EEXIST;
		else
			tell_link(rt, RT_EVENT_LINK_SET, new_link(name, 0, kind));
	}
	finish(rt, cookie, res);
}

void rt_vxlan_add(struct rt *rt, const char *name, const struct mac *mac, uint32_t mtu,
	const struct rt_vxlan *v, uintptr_t cookie)
{
	struct rt_link *l;
	int res;

	if (works(&res)) {
		if (find_link(0, name)) {
			res = -EEXIST;
		} else {
			l = new_link(name, 0, "vxlan");
			l->mac = *mac;
			l->has_mac = true;
			l->mtu = mtu;
			l->vxlan = *v;
			tell_link(rt, RT_EVENT_LINK_SET, l);
		}
	}
	finish(rt, cookie, res);
}

void rt_link_set(struct rt *rt, const struct rt_link_change *c, uintptr_t cookie)
{
	struct rt_link *l = find_link(c->index, c->name);
	int res;

	if (works(&res)) {
		if (!l) {
			res = -ENODEV;
		} else {
			if (c->mtu)
				l->mtu = c->mtu;
			if (c->set_group)
				l->group = c->group;
			if (c->set_mac)
				l->mac = c->mac;
			if (c->set_master)
				l->master = c->master;
			set_up(rt, l, c->set_up ? c->up : l->flags & IFF_UP);
		}
	}
	finish(rt, cookie, res);
}

void rt_link_configure(struct rt *rt, const struct rt_link_conf *c, uintptr_t cookie)
{
	int res;

	if (works(&res) && !find_link(c->index, NULL))
		res = -ENODEV;
	finish_setting(rt, cookie, res);
}

void rt_link_del(struct rt *rt, uint32_t index, const char *name, uintptr_t cookie)
{
	struct rt_link *l = find_link(index, name);
	int res;

	if (works(&res) && l)
		del_link(rt, l);
	finish(rt, cookie, res);
}

void rt_group_del(struct rt *rt, uint32_t group, uintptr_t cookie)
{
	int res;

	if (works(&res))
		for (size_t i = k.links.n; i-- > 0;)
			if (k.links.v[i].group == group)
				del_link(rt, &k.links.v[i]);
	finish(rt, cookie, res);
}

void rt_addr_set(struct rt *rt, const struct rt_addr *a, uintptr_t cookie)
{
	int res;

	if (works(&res)) {
		if (!find_link(a->index, NULL)) {
			res = -ENODEV;
		} else if (!rt_fake_has_addr(a->index, &a->prefix.addr)) {
			vec_push(&k.addrs, *a);
			tell_addr(rt, RT_EVENT_ADDR_SET, a);
		}
	}
	finish(rt, cookie, res);
}

void rt_addr_del(struct rt *rt, const struct rt_addr *a, uintptr_t cookie)
{
	int res;

	if (works(&res))
		for (size_t i = 0; i < k.addrs.n; i++)
			if (k.addrs.v[i].index == a->index &&
				ip_equal(&k.addrs.v[i].prefix.addr, &a->prefix.addr)) {
				vec_swap_remove(&k.addrs, i);
				tell_addr(rt, RT_EVENT_ADDR_DEL, a);
				break;
			}
	finish(rt, cookie, res);
}

static bool take_neigh(uint32_t index, const struct ip *ip, struct rt_neigh *ret)
{
	for (size_t i = 0; i < k.neighs.n; i++)
		if (k.neighs.v[i].index == index && ip_equal(&k.neighs.v[i].ip, ip)) {
			*ret = k.neighs.v[i];
			vec_swap_remove(&k.neighs, i);
			return true;
		}
	return false;
}

static bool take_fdb(uint32_t index, const struct mac *mac, struct rt_fdb *ret)
{
	for (size_t i = 0; i < k.fdbs.n; i++)
		if (k.fdbs.v[i].index == index &&
			memcmp(&k.fdbs.v[i].mac, mac, sizeof(*mac)) == 0) {
			*ret = k.fdbs.v[i];
			vec_swap_remove(&k.fdbs, i);
			return true;
		}
	return false;
}

void rt_fake_neigh_gone(uint32_t index, const struct ip *ip)
{
	struct rt_event ev = {.type = RT_EVENT_NEIGH_DEL};

	if (take_neigh(index, ip, &ev.neigh))
		tell_neigh(&ev, index);
}

void rt_fake_fdb_gone(uint32_t index, const struct mac *mac)
{
	struct rt_event ev = {.type = RT_EVENT_FDB_DEL};

	if (take_fdb(index, mac, &ev.fdb))
		tell_neigh(&ev, index);
}

const struct rt_neigh *rt_fake_find_neigh(uint32_t index, const struct ip *ip)
{
	struct rt_neigh *n;

	vec_for_each (&k.neighs, n)
		if (n->index == index && ip_equal(&n->ip, ip))
			return n;
	return NULL;
}

const struct rt_fdb *rt_fake_find_fdb(uint32_t index, const struct mac *mac)
{
	struct rt_fdb *f;

	vec_for_each (&k.fdbs, f)
		if (f->index == index && memcmp(&f->mac, mac, sizeof(*mac)) == 0)
			return f;
	return NULL;
}

void rt_neigh_set(struct rt *rt, const struct rt_neigh *n, uintptr_t cookie)
{
	struct rt_event ev = {.type = RT_EVENT_NEIGH_SET, .neigh = *n};
	struct rt_neigh old;
	int res;

	if (works(&res)) {
		(void)take_neigh(n->index, &n->ip, &old);
		vec_push(&k.neighs, *n);
		k.neighs.v[k.neighs.n - 1].state = ev.neigh.state =
			n->state ? n->state : NUD_PERMANENT;
		tell_neigh(&ev, n->index);
	}
	finish(rt, cookie, res);
}

void rt_neigh_del(struct rt *rt, const struct rt_neigh *n, uintptr_t cookie)
{
	struct rt_event ev = {.type = RT_EVENT_NEIGH_DEL};
	int res;

	if (works(&res) && take_neigh(n->index, &n->ip, &ev.neigh))
		tell_neigh(&ev, n->index);
	finish(rt, cookie, res);
}

void rt_fdb_set(struct rt *rt, const struct rt_fdb *f, uintptr_t cookie)
{
	struct rt_event ev = {.type = RT_EVENT_FDB_SET, .fdb = *f};
	struct rt_fdb old;
	int res;

	if (works(&res)) {
		(void)take_fdb(f->index, &f->mac, &old);
		ev.fdb.state = NUD_PERMANENT;
		vec_push(&k.fdbs, ev.fdb);
		tell_neigh(&ev, f->index);
	}
	finish(rt, cookie, res);
}

void rt_fdb_del(struct rt *rt, const struct rt_fdb *f, uintptr_t cookie)
{
	struct rt_event ev = {.type = RT_EVENT_FDB_DEL};
	int res;

	if (works(&res) && take_fdb(f->index, &f->mac, &ev.fdb))
		tell_neigh(&ev, f->index);
	finish(rt, cookie, res);
}

void rt_rule_add(struct rt *rt, const struct rt_rule *r, uintptr_t cookie)
{
	int res;

	if (works(&res))
		vec_push(&k.rules, *r);
	finish(rt, cookie, res);
}

void rt_rule_del(struct rt *rt, const struct rt_rule *r, uintptr_t cookie)
{
	int res;

	if (works(&res))
		for (size_t i = 0; i < k.rules.n; i++)
			if (k.rules.v[i].priority == r->priority &&
				k.rules.v[i].family == r->family) {
				vec_swap_remove(&k.rules, i);
				break;
			}
	finish(rt, cookie, res);
}

void rt_proxy_delay_set(
	struct rt *rt, enum ip_family family, uint32_t index, uint64_t delay_ms, uintptr_t cookie)
{
	int res;

	(void)family;
	(void)delay_ms;
	if (works(&res) && !find_link(index, NULL))
		res = -ENOENT;
	finish_setting(rt, cookie, res);
}

static struct rt_monitor *new_monitor(unsigned what, const struct rt *except)
{
	struct rt_monitor *m = mem_new(struct rt_monitor);

	m->what = what;
	m->except = except;
	m->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vec_push(&k.monitors, m);
	return m;
}

int rt_monitor_open(
	unsigned what, const struct rt *except, struct rt_monitor **ret, struct err *err)
{
	(void)err;
	*ret = new_monitor(what, except);
	return 0;
}

int rt_neigh_monitor_open(uint32_t index, struct rt_monitor **ret, struct err *err)
{
	(void)err;
	*ret = new_monitor(0, NULL);
	(*ret)->neigh_index = index;
	return 0;
}

void rt_monitor_close(struct rt_monitor *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < k.monitors.n; i++)
		if (k.monitors.v[i] == m) {
			vec_swap_remove(&k.monitors, i);
			break;
		}
	if (k.monitors.n == 0)
		vec_done(&k.monitors);
	close(m->fd);
	vec_done(&m->events);
	free(m);
}

int rt_monitor_fd(const struct rt_monitor *m)
{
	return m->fd;
}

void rt_monitor_set_rcvbuf(struct rt_monitor *m, int bytes)
{
	(void)m;
	(void)bytes;
}

int rt_monitor_read(struct rt_monitor *m, rt_event_fn *fn, void *arg, struct err *err)
{
	struct rt_event ev;
	uint64_t count;
	int n = 0;

	(void)err;
	(void)!read(m->fd, &count, sizeof(count));
	for (size_t i = 0; i < m->events.n; i++, n++) {
		ev = m->events.v[i];
		fn(arg, &ev);
	}
	m->events.n = 0;
	return n;
}
