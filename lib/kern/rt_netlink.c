/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rt.h for Linux: which message each verb is, and which refusals of the kernel mean that the work is
 * done already.
 */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>

#include "base/err.h"
#include "base/vec.h"
#include "kern/nl.h"
#include "kern/rt_codec.h"

#define MONITOR_RCVBUF (4 * 1024 * 1024)

struct op {
	uintptr_t cookie;
	int benign; /* an errno that counts as success, 0 = none */
};

struct rt {
	struct nl *nl;
	VEC(struct op) ops;
	rt_done_fn *done;
	void *arg;
	struct err failure;
};

struct rt_monitor {
	struct nl *nl;
};

int rt_from_fd(int fd, struct rt **ret, struct err *err)
{
	struct nl *nl;
	int r = nl_from_fd(fd, &nl, err);

	if (r < 0)
		return r;
	*ret = mem_new(struct rt);
	(*ret)->nl = nl;
	return 0;
}

int rt_open(struct rt **ret, struct err *err)
{
	struct nl *nl;
	int r = nl_open(NETLINK_ROUTE, &nl, err);

	if (r < 0)
		return r;
	*ret = mem_new(struct rt);
	(*ret)->nl = nl;
	return 0;
}

void rt_close(struct rt *rt)
{
	if (!rt)
		return;
	nl_close(rt->nl);
	vec_done(&rt->ops);
	free(rt);
}

/* ---- reading ---- */

struct dump {
	uint16_t type; /* of the answers */
	union {
		rt_route_fn *route;
		rt_link_fn *link;
		rt_addr_fn *addr;
		rt_neigh_fn *neigh;
		rt_fdb_fn *fdb;
		rt_rule_fn *rule;
	} fn;
	rt_restart_fn *restart;
	void *arg;
	uint32_t table, index; /* 0 = any: older kernels do not filter */
	uint8_t protocol;
	bool of_fdb;
};

static int take_object(void *arg, const struct nlmsghdr *nlh, struct err *err)
{
	struct dump *d = arg;
	union {
		struct rt_route route;
		struct rt_link link;
		struct rt_addr addr;
		struct rt_neigh neigh;
		struct rt_fdb fdb;
		struct rt_rule rule;
	} u;
	int r = -ENOENT;

	if (nlh->nlmsg_type != d->type)
		return 0;
	switch (d->type) {
	case RTM_NEWROUTE:
		r = rt_route_decode(nlh, &u.route);
		if (r == 0 && (!d->table || u.route.table == d->table) &&
			(!d->protocol || u.route.protocol == d->protocol))
			d->fn.route(d->arg, &u.route);
		break;
	case RTM_NEWLINK:
		r = rt_link_decode(nlh, &u.link);
		if (r == 0)
			d->fn.link(d->arg, &u.link);
		break;
	case RTM_NEWADDR:
		r = rt_addr_decode(nlh, &u.addr);
		if (r == 0 && (!d->index || u.addr.index == d->index))
			d->fn.addr(d->arg, &u.addr);
		break;
	case RTM_NEWNEIGH:
		if (d->of_fdb) {
			r = rt_fdb_decode(nlh, &u.fdb);
			if (r == 0 && u.fdb.index == d->index)
				d->fn.fdb(d->arg, &u.fdb);
			break;
		}
		r = rt_neigh_decode(nlh, &u.neigh);
		if (r == 0 && (!d->index || u.neigh.index == d->index))
			d->fn.neigh(d->arg, &u.neigh);
		break;
	case RTM_NEWRULE:
		r = rt_rule_decode(nlh, &u.rule);
		if (r == 0)
			d->fn.rule(d->arg, &u.rule);
		break;
	}
	return r == -EBADMSG ? err_set(err, r, "the kernel's answer does not add up (type %u)",
				       nlh->nlmsg_type)
			     : 0;
}

static void restart_dump(void *arg)
{
	struct dump *d = arg;

	d->restart(d->arg);
}

static int run_dump(struct rt *rt, struct dump *d, const char *what, struct err *err)
{
	int r = nl_dump(rt->nl, take_object, d->restart ? restart_dump : NULL, d, err);

	/* A table is made by its first route. */
	if (r == -ENOENT && d->type == RTM_NEWROUTE)
		return 0;
	return r < 0 ? err_wrap(err, r, "read the kernel's %s", what) : 0;
}

static int family_of(enum ip_family family)
{
	return family == IP_V4 ? AF_INET : family == IP_V6 ? AF_INET6 : AF_UNSPEC;
}

int rt_route_dump(struct rt *rt, enum ip_family family, uint32_t table, uint8_t protocol,
	rt_route_fn *fn, rt_restart_fn *restart, void *arg, struct err *err)
{
	struct dump d = {.type = RTM_NEWROUTE,
		.fn.route = fn,
		.restart = restart,
		.arg = arg,
		.table = table,
		.protocol = protocol};
	struct nlmsghdr *nlh = nl_msg(rt->nl, RTM_GETROUTE, 0);
	struct rtmsg *rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));

	rtm->rtm_family = (uint8_t)family_of(family);
	rtm->rtm_protocol = protocol;
	if (table)
		mnl_attr_put_u32(nlh, RTA_TABLE, table);
	return run_dump(rt, &d, "routes", err);
}

int rt_link_dump(struct rt *rt, rt_link_fn *fn, rt_restart_fn *restart, void *arg, struct err *err)
{
	struct dump d = {.type = RTM_NEWLINK, .fn.link = fn, .restart = restart, .arg = arg};
	struct nlmsghdr *nlh = nl_msg(rt->nl, RTM_GETLINK, 0);

	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	mnl_attr_put_u32(nlh, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	return run_dump(rt, &d, "links", err);
}

int rt_addr_dump(struct rt *rt, enum ip_family family, uint32_t index, rt_addr_fn *fn,
	rt_restart_fn *restart, void *arg, struct err *err)
{
	struct dump d = {
		.type = RTM_NEWADDR, .fn.addr = fn, .restart = restart, .arg = arg, .index = index};
	struct nlmsghdr *nlh = nl_msg(rt->nl, RTM_GETADDR, 0);
	struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));

	ifa->ifa_family = (uint8_t)family_of(family);
	ifa->ifa_index = index;
	return run_dump(rt, &d, "addresses", err);
}

int rt_neigh_dump(struct rt *rt, enum ip_family family, uint32_t index, rt_neigh_fn *fn,
	rt_restart_fn *restart, void *arg, struct err *err)
{
	struct dump d = {.type = RTM_NEWNEIGH,
		.fn.neigh = fn,
		.restart = restart,
		.arg = arg,
		.index = index};
	struct nlmsghdr *nlh = nl_msg(rt->nl, RTM_GETNEIGH, 0);
	struct ndmsg *ndm = mnl_nlmsg_put_extra_header(nlh, sizeof(*ndm));

	ndm->ndm_family = (uint8_t)family_of(family);
	if (index)
		mnl_attr_put_u32(nlh, NDA_IFINDEX, index);
	return run_dump(rt, &d, "neighbours", err);
}

int rt_fdb_dump(struct rt *rt, uint32_t index, rt_fdb_fn *fn, rt_restart_fn *restart, void *arg,
	struct err *err)
{
	struct dump d = {.type = RTM_NEWNEIGH,
		.fn.fdb = fn,
		.restart = restart,
		.arg = arg,
		.index = index,
		.of_fdb = true};
	struct nlmsghdr *nlh = nl_msg(rt->nl, RTM_GETNEIGH, 0);
	struct ndmsg *ndm = mnl_nlmsg_put_extra_header(nlh, sizeof(*ndm));

	ndm->ndm_family = AF_BRIDGE;
	ndm->ndm_ifindex = (int)index;
	return run_dump(rt, &d, "forwarding database", err);
}

int rt_rule_dump(struct rt *rt, enum ip_family family, rt_rule_fn *fn, rt_restart_fn *restart,
	void *arg, struct err *err)
{
	struct dump d = {.type = RTM_NEWRULE, .fn.rule = fn, .restart = restart, .arg = arg};
	struct nlmsghdr *nlh = nl_msg(rt->nl, RTM_GETRULE, 0);
	struct rtmsg *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h)); /* as fib_rule_hdr */

	h->rtm_family = (uint8_t)family_of(family);
	return run_dump(rt, &d, "rules", err);
}

struct got_link {
	struct rt_link link;
	char *alias; /* not in rt_link: those who keep many of these want none of it. NULL: not asked for */
};

static void keep_link(void *arg, const struct rt_link *l)
{
	((struct got_link *)arg)->link = *l;
}

static int take_link(void *arg, const struct nlmsghdr *nlh, struct err *err)
{
	const struct dump *d = arg;
	char *alias = ((struct got_link *)d->arg)->alias;
	const struct nlattr *tb[IFLA_MAX + 1];

	if (alias && nlh->nlmsg_type == RTM_NEWLINK &&
		nl_parse(nlh, sizeof(struct ifinfomsg), tb, IFLA_MAX) == 0)
		(void)nl_str(tb[IFLA_IFALIAS], alias, RT_ALIAS_SIZE);
	return take_object(arg, nlh, err);
}

static int get_link(
	struct rt *rt, const char *name, uint32_t index, struct got_link *ret, struct err *err)
{
	struct dump d = {.type = RTM_NEWLINK, .fn.link = keep_link, .arg = ret};
	struct nlmsghdr *nlh = nl_msg(rt->nl, RTM_GETLINK, 0);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	int r;

	if (name && strlen(name) >= IFNAMSIZ)
		return err_set(err, -ENOENT, "link %s: the name is too long for a link", name);
	if (name)
		mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	else
		ifi->ifi_index = (int)index;
	mnl_attr_put_u32(nlh, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	r = nl_ask(rt->nl, take_link, &d, err);
	if (r == -ENODEV || (r == 0 && ret->link.index == 0))
		r = err_set(err, -ENOENT, "there is no such link");
	if (r < 0)
		return name ? err_wrap(err, r, "link %s", name)
			    : err_wrap(err, r, "link %u", index);
	return 0;
}

int rt_link_get(
	struct rt *rt, const char *name, uint32_t index, struct rt_link *ret, struct err *err)
{
	struct got_link got = {0};
	int r = get_link(rt, name, index, &got, err);

	if (r == 0)
		*ret = got.link;
	return r;
}

int rt_link_get_alias(struct rt *rt, const char *name, uint32_t index, struct rt_link *ret,
	char ret_alias[static RT_ALIAS_SIZE], struct err *err)
{
	struct got_link got = {.alias = ret_alias};
	int r;

	ret_alias[0] = '\0';
	r = get_link(rt, name, index, &got, err);
	if (r == 0)
		*ret = got.link;
	return r;
}

static void keep_route(void *arg, const struct rt_route *r)
{
	*(struct rt_route *)arg = *r;
}

/* The answer to a look-up is a clone, and of IPv6 one from a source, which the decoder leaves out. */
static int take_lookup(void *arg, const struct nlmsghdr *nlh, struct err *err)
{
	struct nlmsghdr *own = mem_dup(nlh, nlh->nlmsg_len);
	struct rtmsg *rtm = mnl_nlmsg_get_payload(own);
	int r;

	if (own->nlmsg_len >= NLMSG_HDRLEN + sizeof(*rtm)) {
		rtm->rtm_flags &= ~(unsigned)RTM_F_CLONED;
		rtm->rtm_src_len = 0;
	}
	r = take_object(arg, own, err);
	free(own);
	return r;
}

static int look_up(
	struct rt *rt, const struct ip *dst, uint32_t flags, struct rt_route *ret, struct err *err)
{
	struct rt_route found = {0};
	struct dump d = {.type = RTM_NEWROUTE, .fn.route = keep_route, .arg = &found};
	struct nlmsghdr *nlh = nl_msg(rt->nl, RTM_GETROUTE, 0);
	struct rtmsg *rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
	int r;

	rtm->rtm_family = (uint8_t)ip_af(dst);
	rtm->rtm_dst_len = (uint8_t)ip_bits(dst);
	rtm->rtm_flags = flags;
	rt_ip_put(nlh, RTA_DST, dst);
	r = nl_ask(rt->nl, take_lookup, &d, err);
	if (r == -ENETUNREACH || r == -EHOSTUNREACH || (r == 0 && found.type == 0))
		r = err_set(err, -ENOENT, "there is no route");
	if (r < 0)
		return err_wrap(err, r, "look up the route to %s", ip_str(dst));
	*ret = found;
	return 0;
}

int rt_route_lookup(struct rt *rt, const struct ip *dst, struct rt_route *ret, struct err *err)
{
	return look_up(rt, dst, 0, ret, err);
}

int rt_route_match(struct rt *rt, const struct ip *dst, struct rt_route *ret, struct err *err)
{
	/* IPv6 tells the table in any case, and refuses to be asked for it. */
	return look_up(rt, dst, RTM_F_FIB_MATCH | (dst->family == IP_V4 ? RTM_F_LOOKUP_TABLE : 0),
		ret, err);
}

/* ---- changing ---- */

static void settle(void *arg, uintptr_t i, int r, const struct err *err)
{
	struct rt *rt = arg;
	struct op op = rt->ops.v[i];

	if (r < 0 && r == -op.benign)
		r = 0;
	if (r < 0 && rt->failure.code == 0)
		rt->failure = *err;
	if (rt->done)
		rt->done(rt->arg, op.cookie, r, r < 0 ? err : NULL);
}

void rt_begin(struct rt *rt, rt_done_fn *done, void *arg)
{
	rt->done = done;
	rt->arg = arg;
	rt->failure.code = 0;
	rt->ops.n = 0;
	nl_batch_begin(rt->nl, NL_STREAM, settle, rt);
}

int rt_commit(struct rt *rt, struct err *err)
{
	(void)nl_batch_end(rt->nl, NULL);
	if (rt->failure.code < 0 && err)
		*err = rt->failure;
	return rt->failure.code;
}

static struct nlmsghdr *verb(
	struct rt *rt, uint16_t type, uint16_t flags, int benign, uintptr_t cookie)
{
	vec_push(&rt->ops, (struct op){.cookie = cookie, .benign = benign});
	return nl_batch_add(rt->nl, type, flags, rt->ops.n - 1);
}

void rt_route_set(struct rt *rt, const struct rt_route *r, uintptr_t cookie)
{
	rt_route_encode(verb(rt, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, 0, cookie), r, false);
}

void rt_route_del(struct rt *rt, const struct rt_route *r, uintptr_t cookie)
{
	rt_route_encode(verb(rt, RTM_DELROUTE, 0, ESRCH, cookie), r, true);
}

void rt_veth_add(struct rt *rt, const struct rt_veth *v, uintptr_t cookie)
{
	rt_veth_encode(verb(rt, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, cookie), v);
}

void rt_link_add(struct rt *rt, const char *name, const char *kind, uintptr_t cookie)
{
	struct nlmsghdr *nlh = verb(rt, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, cookie);
	struct nlattr *info;

	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, kind);
	mnl_attr_nest_end(nlh, info);
}

void rt_vxlan_add(struct rt *rt, const char *name, const struct mac *mac, uint32_t mtu,
	const struct rt_vxlan *v, uintptr_t cookie)
{
	rt_vxlan_encode(
		verb(rt, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, cookie), name, mac, mtu, v);
}

void rt_link_set(struct rt *rt, const struct rt_link_change *c, uintptr_t cookie)
{
	rt_link_change_encode(verb(rt, RTM_NEWLINK, 0, 0, cookie), c);
}

void rt_link_configure(struct rt *rt, const struct rt_link_conf *c, uintptr_t cookie)
{
	bool v4 = rt_link_conf_has_ipv4(c);

	rt_link_conf_encode(verb(rt, RTM_NEWLINK, 0, v4 ? 0 : EAFNOSUPPORT, cookie), c);
}

void rt_link_del(struct rt *rt, uint32_t index, const char *name, uintptr_t cookie)
{
	struct nlmsghdr *nlh = verb(rt, RTM_DELLINK, 0, ENODEV, cookie);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));

	ifi->ifi_index = (int)index;
	if (!index)
		mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
}

void rt_group_del(struct rt *rt, uint32_t group, uintptr_t cookie)
{
	struct nlmsghdr *nlh = verb(rt, RTM_DELLINK, 0, ENODEV, cookie);

	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	mnl_attr_put_u32(nlh, IFLA_GROUP, group);
}

void rt_addr_set(struct rt *rt, const struct rt_addr *a, uintptr_t cookie)
{
	rt_addr_encode(verb(rt, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, EEXIST, cookie), a);
}

void rt_addr_del(struct rt *rt, const struct rt_addr *a, uintptr_t cookie)
{
	rt_addr_encode(verb(rt, RTM_DELADDR, 0, EADDRNOTAVAIL, cookie), a);
}

void rt_neigh_set(struct rt *rt, const struct rt_neigh *n, uintptr_t cookie)
{
	rt_neigh_encode(verb(rt, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, 0, cookie), n);
}

void rt_neigh_del(struct rt *rt, const struct rt_neigh *n, uintptr_t cookie)
{
	rt_neigh_encode(verb(rt, RTM_DELNEIGH, 0, ENOENT, cookie), n);
}

void rt_fdb_set(struct rt *rt, const struct rt_fdb *f, uintptr_t cookie)
{
	rt_fdb_encode(verb(rt, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, 0, cookie), f);
}

void rt_fdb_del(struct rt *rt, const struct rt_fdb *f, uintptr_t cookie)
{
	rt_fdb_encode(verb(rt, RTM_DELNEIGH, 0, ENOENT, cookie), f);
}

void rt_rule_add(struct rt *rt, const struct rt_rule *r, uintptr_t cookie)
{
	rt_rule_encode(verb(rt, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, EEXIST, cookie), r);
}

void rt_rule_del(struct rt *rt, const struct rt_rule *r, uintptr_t cookie)
{
	rt_rule_encode(verb(rt, RTM_DELRULE, 0, ENOENT, cookie), r);
}

void rt_proxy_delay_set(
	struct rt *rt, enum ip_family family, uint32_t index, uint64_t delay_ms, uintptr_t cookie)
{
	struct nlmsghdr *nlh = verb(rt, RTM_SETNEIGHTBL, 0, 0, cookie);
	struct ndtmsg *ndt = mnl_nlmsg_put_extra_header(nlh, sizeof(*ndt));
	struct nlattr *nest;

	ndt->ndtm_family = (uint8_t)family_of(family);
	mnl_attr_put_strz(nlh, NDTA_NAME, family == IP_V6 ? "ndisc_cache" : "arp_cache");
	nest = mnl_attr_nest_start(nlh, NDTA_PARMS);
	mnl_attr_put_u32(nlh, NDTPA_IFINDEX, index);
	mnl_attr_put_u64(nlh, NDTPA_PROXY_DELAY, delay_ms);
	mnl_attr_nest_end(nlh, nest);
}

/* ---- watching ---- */

int rt_monitor_open(
	unsigned what, const struct rt *except, struct rt_monitor **ret, struct err *err)
{
	static const struct {
		unsigned what, groups[2];
	} groups[] = {
		{RT_WATCH_LINKS, {RTNLGRP_LINK, 0}},
		{RT_WATCH_ADDRS, {RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR}},
		{RT_WATCH_ROUTES, {RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE}},
	};
	auto_(nl) struct nl *nl = NULL;
	int r = nl_open(NETLINK_ROUTE, &nl, err);

	if (r < 0)
		return r;
	if (except)
		r = nl_ignore_port(nl, nl_port(except->nl), err);
	for (size_t i = 0; r == 0 && i < array_size(groups); i++)
		for (size_t j = 0; r == 0 && j < 2; j++)
			if (what & groups[i].what && groups[i].groups[j])
				r = nl_join(nl, groups[i].groups[j], err);
	if (r < 0)
		return err_wrap(err, r, "watch the kernel's links and routes");
	nl_set_rcvbuf(nl, MONITOR_RCVBUF);
	*ret = mem_new(struct rt_monitor);
	(*ret)->nl = take_ptr(nl);
	return 0;
}

int rt_neigh_monitor_open(uint32_t index, struct rt_monitor **ret, struct err *err)
{
	auto_(nl) struct nl *nl = NULL;
	int r = nl_open(NETLINK_ROUTE, &nl, err);

	if (r == 0)
		r = nl_take_only(
			nl, NLMSG_HDRLEN + offsetof(struct ndmsg, ndm_ifindex), index, err);
	if (r == 0)
		r = nl_join(nl, RTNLGRP_NEIGH, err);
	if (r < 0)
		return err_wrap(err, r, "watch the kernel's neighbours");
	nl_set_rcvbuf(nl, MONITOR_RCVBUF);
	*ret = mem_new(struct rt_monitor);
	(*ret)->nl = take_ptr(nl);
	return 0;
}

void rt_monitor_close(struct rt_monitor *m)
{
	if (!m)
		return;
	nl_close(m->nl);
	free(m);
}

int rt_monitor_fd(const struct rt_monitor *m)
{
	return nl_fd(m->nl);
}

void rt_monitor_set_rcvbuf(struct rt_monitor *m, int bytes)
{
	nl_set_rcvbuf(m->nl, bytes);
}

struct listener {
	rt_event_fn *fn;
	void *arg;
};

static int take_event(void *arg, const struct nlmsghdr *nlh, struct err *err)
{
	const struct listener *l = arg;
	struct rt_event ev = {.type = RT_EVENT_OVERFLOW};
	int r = nlh ? rt_event_decode(nlh, &ev) : 0;

	(void)err;
	if (r == -EBADMSG) /* not understood: anything may have changed */
		ev = (struct rt_event){.type = RT_EVENT_OVERFLOW};
	if (r != -ENOENT)
		l->fn(l->arg, &ev);
	return 0;
}

int rt_monitor_read(struct rt_monitor *m, rt_event_fn *fn, void *arg, struct err *err)
{
	struct listener l = {.fn = fn, .arg = arg};

	return nl_receive(m->nl, take_event, &l, err);
}
