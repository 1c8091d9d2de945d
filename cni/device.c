/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "cni/call.h"
#include "cni/ctx.h"
#include "cni/reaper.h"
#include "kern/rt.h"

/* Tables and rules of a pod's interfaces other than the one with the default route. */
enum { POD_TABLE_BASE = 1000, POD_RULE_PRIORITY = 1000 };

const struct mac device_host_mac = {{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}};

struct ip device_gateway(enum ip_family family)
{
	static const struct ip v4 = {IP_V4, {169, 254, 1, 1}};
	static const struct ip v6 = {IP_V6,
		{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0xec, 0xee, 0xee, 0xff, 0xfe, 0xee, 0xee, 0xee}};

	return family == IP_V4 ? v4 : v6;
}

static bool has_family(const struct device *d, enum ip_family family)
{
	for (size_t i = 0; i < d->n_ips; i++)
		if (d->ips[i].family == family)
			return true;
	return false;
}

/*
 * The pair.
 */
static int make_pair(struct call *c, const struct device *d, struct err *err)
{
	struct rt_veth v = {
		.mac = device_host_mac,
		.mtu = d->mtu,
		.queues = (uint16_t)(c->conf->n_queues ?: 1),
		.peer_mac = d->mac,
		.peer_netns_fd = c->rq->netns_fd,
	};
	int r;

	memcpy(v.name, c->veth, sizeof(v.name));
	snprintf(v.peer_name, sizeof(v.peer_name), "%s", c->ifname);
	rt_begin(c->host, NULL, NULL);
	rt_veth_add(c->host, &v, 0);
	r = rt_commit(c->host, err);
	if (r == -EEXIST)
		return err_set(err, r,
			"interface %s: the pod has one of that name, or the host one named %s: give it "
			"another CNI_IFNAME, or delete that one",
			c->ifname, c->veth);
	return r < 0 ? err_wrap(
			       err, r, "making interface %s with %s in the pod", c->veth, c->ifname)
		     : 0;
}

static int poke_pod(
	struct call *c, enum ip_family family, const char *path, const char *value, struct err *err)
{
	int fd = family == IP_V4 ? c->rq->ipv4_fd : c->rq->ipv6_fd;
	int r = file_poke(fd, path, value, err);

	return r < 0 ? err_wrap(err, r, "the pod's net/ipv%d/%s", family, path) : 0;
}

/*
 * The mark, in the alias of the host's end. Its name is the pod's, and so the same for every sandbox
 * that the pod has had.
 */
static void mark(const char *container_id, const char *ifname, char ret[static RT_ALIAS_SIZE])
{
	snprintf(ret, RT_ALIAS_SIZE, "margay %s %s", container_id, ifname);
}

/* What is set by name, and before the host's end is up. */
static int poke_host(struct call *c, const struct device *d, struct err *err)
{
	auto_free char *base = mem_printf("/proc/sys/net/ipv6/conf/%s/", c->veth);
	auto_free char *ra = mem_printf("%saccept_ra", base);
	auto_free char *forwarding = mem_printf("%sforwarding", base);
	auto_free char *disable = mem_printf("%sdisable_ipv6", base);
	/* A pod may not tell the host routes. No IPv6 in the kernel is as good. */
	int r = file_poke(AT_FDCWD, ra, "0", err);

	if (r == -ENOENT)
		r = 0;
	if (r == 0 && has_family(d, IP_V6))
		r = file_poke(AT_FDCWD, disable, "0", err)
			    ?: file_poke(AT_FDCWD, forwarding, "1", err);
	return r < 0 ? err_wrap(err, r, "setting up interface %s", c->veth) : 0;
}

/* What the host's end needs before it may be up, and that. */
static void host_up(struct call *c, const struct device *d, uint32_t index)
{
	const struct rt_link_conf conf = {.index = index,
		.proxy_arp = true,
		.forwarding = true,
		.route_localnet = true,
		.rp_filter = -1,
		.no_addr_gen = true};
	char alias[RT_ALIAS_SIZE];

	mark(c->container_id, c->ifname, alias);
	rt_link_set(c->host, &(struct rt_link_change){.index = index, .alias = alias}, 0);
	rt_link_configure(c->host, &conf, 0);
	rt_proxy_delay_set(c->host, IP_V4, index, 0, 0);
	rt_link_set(
		c->host, &(struct rt_link_change){.index = index, .set_up = true, .up = true}, 0);
	if (has_family(d, IP_V6)) {
		struct ip gw = device_gateway(IP_V6);
		struct rt_addr a = {.index = index,
			.prefix = {gw, 64},
			.scope = RT_SCOPED_LINK,
			.flags = IFA_F_NODAD};

		rt_addr_set(c->host, &a, 0);
	}
}

/* With the host's routes and neighbours the pod is reachable. */
static int set_up_host(struct call *c, const struct device *d, uint32_t index, struct err *err)
{
	int r = poke_host(c, d, err);

	if (r < 0)
		return r;
	rt_begin(c->host, NULL, NULL);
	host_up(c, d, index);
	for (size_t i = 0; i < d->n_ips; i++) {
		struct rt_neigh n = {.index = index,
			.ip = d->ips[i],
			.has_mac = true,
			.mac = d->mac,
			/* Used at once; and when the pod tells another MAC, as of a plugin after us, that. */
			.state = NUD_STALE,
			.kept = true};
		struct rt_route route = {.dst = prefix_host(&d->ips[i]),
			.table = RT_TABLE_MAIN_ID,
			.protocol = RT_PROTO_MARGAY,
			.scope = d->ips[i].family == IP_V4 ? RT_SCOPED_LINK : RT_SCOPED_UNIVERSE,
			.type = RT_TYPE_UNICAST,
			.oif = index};

		rt_neigh_set(c->host, &n, 0);
		rt_route_set(c->host, &route, 0);
	}
	r = rt_commit(c->host, err);
	return r < 0 ? err_wrap(err, r, "setting up interface %s and its routes", c->veth) : 0;
}

/*
 * The pod's side.
 */
struct seen_default {
	uint32_t index; /* of our interface */
	bool other;	/* a default route by another */
};

static void see_default(void *arg, const struct rt_route *r)
{
	struct seen_default *s = arg;

	if (r->dst.plen == 0 && r->oif != s->index && r->type == RT_TYPE_UNICAST)
		s->other = true;
}

static void see_again(void *arg)
{
	struct seen_default *s = arg;

	s->other = false;
}

static int has_other_default(
	struct call *c, enum ip_family family, uint32_t index, bool *ret, struct err *err)
{
	struct seen_default s = {.index = index};
	int r = rt_route_dump(c->pod, family, RT_TABLE_MAIN_ID, 0, see_default, see_again, &s, err);

	*ret = s.other;
	return r < 0 ? err_wrap(err, r, "the pod's routes") : 0;
}

static void set_pod_route(struct call *c, const struct prefix *dst, uint32_t table, uint32_t index)
{
	enum ip_family family = (enum ip_family)dst->addr.family;
	struct rt_route r = {.dst = *dst,
		.table = table,
		.protocol = RT_PROTO_BOOT,
		.scope = RT_SCOPED_UNIVERSE,
		.type = RT_TYPE_UNICAST,
		.gateway = device_gateway(family),
		.oif = index};

	rt_route_set(c->pod, &r, 0);
}

static void set_gateway(struct call *c, enum ip_family family, uint32_t table, uint32_t index)
{
	struct ip gw = device_gateway(family);
	struct rt_neigh n = {.index = index,
		.ip = gw,
		.has_mac = true,
		.mac = device_host_mac,
		.state = NUD_PERMANENT};
	struct rt_route r = {.dst = prefix_host(&gw),
		.table = table,
		.protocol = RT_PROTO_BOOT,
		.scope = RT_SCOPED_LINK,
		.type = RT_TYPE_UNICAST,
		.oif = index};

	rt_neigh_set(c->pod, &n, 0);
	if (family == IP_V6) {
		r.scope = RT_SCOPED_UNIVERSE;
		r.dst = prefix_of(&gw, 64);
	}
	rt_route_set(c->pod, &r, 0);
}

/* What the pod reaches by this interface: everything, unless the configuration names it. */
static void set_pod_routes(struct call *c, enum ip_family family, uint32_t table, uint32_t index)
{
	const struct prefix *p;
	struct prefix all = {.addr = {.family = (uint8_t)family}};

	if (c->conf->routes.n == 0 || c->conf->include_default_routes)
		set_pod_route(c, &all, table, index);
	vec_for_each (&c->conf->routes, p)
		if (p->addr.family == family)
			set_pod_route(c, p, table, index);
}

/* other: there is a default route by another interface. */
static void set_pod_family(struct call *c, const struct ip *ip, uint32_t index, bool other)
{
	enum ip_family family = (enum ip_family)ip->family;
	uint32_t table = RT_TABLE_MAIN_ID;
	struct rt_addr a = {.index = index,
		.prefix = prefix_host(ip),
		.scope = RT_SCOPED_UNIVERSE,
		.flags = family == IP_V6 ? IFA_F_NODAD : 0};

	if (other) {
		struct rt_rule rule = {.family = (uint8_t)family,
			.priority = POD_RULE_PRIORITY,
			.table = POD_TABLE_BASE + index,
			.src = prefix_host(ip)};

		table = rule.table;
		/* One of an interface that is gone would point at its table. */
		rt_rule_del(c->pod,
			&(struct rt_rule){
				.family = rule.family, .priority = rule.priority, .src = rule.src},
			0);
		rt_rule_add(c->pod, &rule, 0);
	}
	rt_addr_set(c->pod, &a, 0);
	set_gateway(c, family, table, index);
	set_pod_routes(c, family, table, index);
}

static int poke_pod_families(struct call *c, const struct device *d, struct err *err)
{
	int r = 0;

	if (has_family(d, IP_V4))
		r = poke_pod(c, IP_V4, "ip_forward", c->conf->allow_ip_forwarding ? "1" : "0", err);
	if (r == 0 && has_family(d, IP_V6)) {
		static const char *const paths[] = {"conf/all/disable_ipv6",
			"conf/default/disable_ipv6", "conf/lo/disable_ipv6"};
		auto_free char *own = mem_printf("conf/%s/disable_ipv6", c->ifname);
		auto_free char *notify = mem_printf("conf/%s/ndisc_notify", c->ifname);

		for (size_t i = 0; i < array_size(paths) && r == 0; i++)
			r = poke_pod(c, IP_V6, paths[i], "0", err);
		if (r == 0)
			r = poke_pod(c, IP_V6, own, "0", err);
		if (r == 0)
			r = poke_pod(c, IP_V6, notify, "1", err);
		if (r == 0)
			r = poke_pod(c, IP_V6, "conf/all/forwarding",
				c->conf->allow_ip_forwarding ? "1" : "0", err);
	}
	return r;
}

static int set_up_pod(struct call *c, const struct device *d, uint32_t index, struct err *err)
{
	/* Apart: without IPv6 in the kernel the first one alone fails, which is as good. */
	const struct rt_link_conf conf = {.index = index, .rp_filter = -1, .no_addr_gen = true};
	const struct rt_link_conf notify = {.index = index, .rp_filter = -1, .arp_notify = true};
	bool other[2] = {0}; /* by family: IPv6 or not */
	int r = poke_pod_families(c, d, err);

	for (size_t i = 0; i < d->n_ips && r == 0; i++)
		r = has_other_default(c, (enum ip_family)d->ips[i].family, index,
			&other[d->ips[i].family == IP_V6], err);
	if (r < 0)
		return r;
	rt_begin(c->pod, NULL, NULL);
	rt_link_configure(c->pod, &conf, 0);
	if (has_family(d, IP_V4))
		rt_link_configure(c->pod, &notify, 0);
	rt_link_set(
		c->pod, &(struct rt_link_change){.index = index, .set_up = true, .up = true}, 0);
	for (size_t i = 0; i < d->n_ips; i++)
		set_pod_family(c, &d->ips[i], index, other[d->ips[i].family == IP_V6]);
	r = rt_commit(c->pod, err);
	return r < 0 ? err_wrap(err, r, "setting up the pod's %s", c->ifname) : 0;
}

static int delete_link(struct rt *host, uint32_t index, const char *name, struct err *err)
{
	int r;

	rt_begin(host, NULL, NULL);
	rt_link_del(host, index, NULL, 0);
	r = rt_commit(host, err);
	return r < 0 ? err_wrap(err, r, "deleting interface %s", name) : 0;
}

/* The link is down, and so has no route and no traffic. Who deletes it waits for the kernel elsewhere. */
static int hand_to_reaper(
	struct call *c, int reap_fd, uint32_t index, const char *name, struct err *err)
{
	const struct rt_link_change change = {
		.index = index, .set_up = true, .set_group = true, .group = REAPER_GROUP};
	int r;

	rt_begin(c->host, NULL, NULL);
	rt_link_set(c->host, &change, 0);
	r = rt_commit(c->host, err);
	if (r == -ENODEV)
		return 0;
	if (r < 0)
		return err_wrap(err, r, "taking interface %s down", name);
	return reaper_tell(reap_fd, err);
}

static int dispose_link(struct call *c, uint32_t index, const char *name, struct err *err)
{
	const struct cni_home *home = ctx_home(c->ctx);

	return home ? hand_to_reaper(c, home->reap_fd, index, name, err)
		    : delete_link(c->host, index, name, err);
}

/*
 * One of the host end's name is of this pod's last life, if it has a mark, or the MAC that host ends
 * have: Calico's, and of an ADD that was killed before the mark. Any other is somebody's.
 */
static int clear_name(struct call *c, struct err *err)
{
	char alias[RT_ALIAS_SIZE];
	struct rt_link link;
	int r = rt_link_get_alias(c->host, c->veth, 0, &link, alias, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (strcmp(link.kind, "veth") != 0 ||
		(strncmp(alias, "margay ", 7) != 0 &&
			memcmp(&link.mac, &device_host_mac, sizeof(link.mac)) != 0))
		return err_set(err, -EEXIST,
			"interface %s of the host: it is there and was not made for a pod: delete "
			"it, or rename it",
			c->veth);
	return delete_link(c->host, link.index, c->veth, err);
}

/* The pod's interface of that name, where it is the reaper's already. */
static int clear_reaped(struct call *c, struct err *err)
{
	struct rt_link pod, host;

	if (rt_link_get(c->pod, c->ifname, 0, &pod, NULL) < 0 || strcmp(pod.kind, "veth") != 0 ||
		pod.link == 0 || rt_link_get(c->host, NULL, pod.link, &host, NULL) < 0 ||
		host.group != REAPER_GROUP || host.link != pod.index)
		return 0;
	return delete_link(c->host, host.index, host.name, err);
}

/* How the pods of other nodes are reached, one of which may have had the address: BIRD's, and felix's by a tunnel. */
static bool leads_to_node(const struct rt_route *r)
{
	return r->protocol == RT_PROTO_BIRD ||
	       (r->protocol == RT_PROTO_MARGAY && r->gateway.family != IP_NONE);
}

/* Of this container's interface, under its name or what somebody has named it since, or of what waits to be deleted. */
static bool is_left_over(const struct call *c, uint32_t index, char ret_name[static IFNAMSIZ])
{
	char have[RT_ALIAS_SIZE], ours[RT_ALIAS_SIZE];
	struct rt_link link;

	if (rt_link_get_alias(c->host, NULL, index, &link, have, NULL) < 0)
		return true;
	memcpy(ret_name, link.name, IFNAMSIZ);
	mark(c->container_id, c->ifname, ours);
	return !(link.flags & IFF_UP) || strcmp(link.name, c->veth) == 0 || strcmp(have, ours) == 0;
}

/*
 * The very route that the pod's would replace, and that would be gone with the pod then, where it is not of the pod's own
 * last life. Looked at before there is an interface: felix writes the pod's route as soon as that is up, whatever is
 * there.
 */
static int check_host_route(struct call *c, const struct ip *ip, struct err *err)
{
	const uint32_t metric = ip->family == IP_V6 ? 1024 : 0; /* what the kernel makes of 0 */
	const struct prefix dst = prefix_host(ip);
	char name[IFNAMSIZ] = "several";
	struct rt_route r;

	if (rt_route_match(c->host, ip, &r, NULL) < 0 || !prefix_equal(&r.dst, &dst) ||
		r.table != RT_TABLE_MAIN_ID || r.priority != metric || r.type != RT_TYPE_UNICAST ||
		leads_to_node(&r) || (!r.multipath && is_left_over(c, r.oif, name)))
		return 0;
	return err_set(err, -EEXIST,
		"route %s is there already, by interface %s of the host (protocol %u), and the pod's "
		"would replace it: delete it, or the pod that it leads to, or have an IPReservation "
		"keep pods from the address",
		prefix_str(&dst), name, r.protocol);
}

int device_create(struct call *c, const struct device *d, struct err *err)
{
	struct rt_link host;
	int r = 0;

	for (size_t i = 0; i < d->n_ips && r == 0; i++)
		r = check_host_route(c, &d->ips[i], err);
	if (r < 0)
		return r;
	r = make_pair(c, d, err);
	if (r == -EEXIST)
		r = clear_name(c, err) ?: clear_reaped(c, err) ?: make_pair(c, d, err);
	if (r == 0)
		r = rt_link_get(c->host, c->veth, 0, &host, err);
	if (r < 0)
		return r;
	r = set_up_pod(c, d, host.link, err) ?: set_up_host(c, d, host.index, err);
	if (r < 0)
		(void)delete_link(c->host, host.index, c->veth, NULL);
	return r;
}

int device_delete_on_host(struct call *c, const char *veth, const char *container_id,
	const char *ifname, bool recorded, struct err *err)
{
	char have[RT_ALIAS_SIZE], ours[RT_ALIAS_SIZE];
	struct rt_link link;
	int r = rt_link_get_alias(c->host, veth, 0, &link, have, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	mark(container_id, ifname, ours);
	/* One that is being made gets its mark before it is up. */
	if (strncmp(have, "margay ", 7) == 0 ? strcmp(have, ours) != 0
					     : !recorded || !(link.flags & IFF_UP))
		return 0;
	return dispose_link(c, link.index, veth, err);
}

/* The rules of one of the pod's interfaces are those of its table. */
static void delete_rules(struct call *c, uint32_t index)
{
	struct rt_rule rule = {
		.family = IP_V4, .priority = POD_RULE_PRIORITY, .table = POD_TABLE_BASE + index};

	rt_rule_del(c->pod, &rule, 0);
	rule.family = IP_V6;
	if (c->rq->ipv6_fd >= 0)
		rt_rule_del(c->pod, &rule, 0);
}

/* The host's end of the pair by its name, or by what the pod's says: somebody may have renamed it. */
static int find_host_end(struct call *c, const struct rt_link *pod, struct rt_link *ret,
	char ret_alias[static RT_ALIAS_SIZE], struct err *err)
{
	int r = rt_link_get_alias(c->host, c->veth, 0, ret, ret_alias, err);

	return r == -ENOENT && pod->link != 0
		       ? rt_link_get_alias(c->host, NULL, pod->link, ret, ret_alias, err)
		       : r;
}

/*
 * Whether the pod's end is of this container. Where it has none in the host, which may have been moved
 * away, recorded is what there is to go by.
 */
static int is_own_in_pod(struct call *c, const struct rt_link *pod, bool recorded, bool *ret,
	struct rt_link *ret_host, struct err *err)
{
	char have[RT_ALIAS_SIZE], ours[RT_ALIAS_SIZE];
	struct rt_link host;
	int r = find_host_end(c, pod, &host, have, err);

	*ret_host = r == 0 ? host : (struct rt_link){0};
	*ret = r == -ENOENT && recorded;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	mark(c->container_id, c->ifname, ours);
	/* One without a mark was made before there were any, or by an ADD that was killed. */
	*ret = pod->link == host.index && host.link == pod->index &&
	       (strcmp(have, ours) == 0 ||
		       (strncmp(have, "margay ", 7) != 0 && strcmp(host.name, c->veth) == 0));
	return 0;
}

/* host: its other end; its index is 0 where that was moved away. */
static int delete_in_pod(
	struct call *c, const struct rt_link *pod, const struct rt_link *host, struct err *err)
{
	int r;

	rt_begin(c->pod, NULL, NULL);
	delete_rules(c, pod->index);
	if (host->index == 0)
		rt_link_del(c->pod, pod->index, NULL, 0);
	r = rt_commit(c->pod, err);
	if (r < 0)
		return err_wrap(err, r, "deleting the pod's %s", c->ifname);
	return host->index != 0 ? dispose_link(c, host->index, host->name, err) : 0;
}

int device_delete(struct call *c, bool recorded, struct err *err)
{
	struct rt_link pod, host;
	bool own = false;
	int r = c->pod ? rt_link_get(c->pod, c->ifname, 0, &pod, err) : -ENOENT;

	if (r == 0 && strcmp(pod.kind, "veth") == 0)
		r = is_own_in_pod(c, &pod, recorded, &own, &host, err);
	if (r < 0 && r != -ENOENT && r != -ENODEV)
		return err_wrap(err, r, "the pod's %s", c->ifname);
	if (own)
		return delete_in_pod(c, &pod, &host, err);
	return device_delete_on_host(c, c->veth, c->container_id, c->ifname, recorded, err);
}

/*
 * Checking.
 */
struct wanted {
	struct prefix dst;
	struct ip gateway; /* or the address itself */
	struct mac mac;
	uint32_t index;
	bool found;
};

static void see_addr(void *arg, const struct rt_addr *a)
{
	struct wanted *w = arg;

	w->found |= a->index == w->index && prefix_equal(&a->prefix, &w->dst);
}

static void see_route(void *arg, const struct rt_route *r)
{
	struct wanted *w = arg;

	w->found |= r->oif == w->index && prefix_equal(&r->dst, &w->dst) &&
		    r->type == RT_TYPE_UNICAST && ip_equal(&r->gateway, &w->gateway);
}

static void see_neigh(void *arg, const struct rt_neigh *n)
{
	struct wanted *w = arg;

	w->found |= n->index == w->index && ip_equal(&n->ip, &w->gateway) && n->has_mac &&
		    memcmp(&n->mac, &w->mac, sizeof(n->mac)) != 0;
}

static void unsee(void *arg)
{
	((struct wanted *)arg)->found = false;
}

/* One that is not there is found when it is needed, as after the pod has got another MAC. */
static int check_neigh(struct rt *rt, const char *where, const struct ip *ip, const struct mac *mac,
	uint32_t index, struct err *err)
{
	struct wanted w = {.gateway = *ip, .mac = *mac, .index = index};
	int r = rt_neigh_dump(rt, (enum ip_family)ip->family, index, see_neigh, unsee, &w, err);

	if (r < 0 || !w.found)
		return r < 0 ? err_wrap(err, r, "%s", where) : 0;
	return err_set(err, -ENOENT,
		"%s: the neighbour %s has another MAC than %s: delete the pod, or run its ADD again",
		where, ip_str(ip), mac_str(mac));
}

static int missing(struct wanted *w, int r, struct err *err, const char *what, const char *where)
{
	if (r < 0 || w->found)
		return r < 0 ? err_wrap(err, r, "%s", where) : 0;
	return err_set(err, -ENOENT, "%s: %s is missing: delete the pod, or run its ADD again",
		where, what);
}

static int check_pod_ip(struct call *c, const struct ip *ip, uint32_t index, struct err *err)
{
	enum ip_family family = (enum ip_family)ip->family;
	struct wanted w = {.dst = prefix_host(ip), .index = index};
	auto_free char *where = mem_printf("the pod's %s", c->ifname);
	auto_free char *address = mem_printf("address %s", ip_str(ip));
	struct ip gateway = device_gateway(family);
	int r;

	r = rt_addr_dump(c->pod, family, index, see_addr, unsee, &w, err);
	r = missing(&w, r, err, address, where);
	if (r == 0)
		r = check_neigh(c->pod, where, &gateway, &device_host_mac, index, err);
	if (r < 0 || (c->conf->routes.n > 0 && !c->conf->include_default_routes))
		return r;
	w = (struct wanted){
		.dst = {.addr = {.family = (uint8_t)family}}, .gateway = gateway, .index = index};
	r = rt_route_dump(c->pod, family, 0, 0, see_route, unsee, &w, err);
	return missing(&w, r, err, "the default route", where);
}

static int check_host_ip(struct call *c, const struct device *d, const struct ip *ip,
	uint32_t index, struct err *err)
{
	enum ip_family family = (enum ip_family)ip->family;
	struct wanted w = {.dst = prefix_host(ip), .index = index};
	auto_free char *where = mem_printf("the host's %s", c->veth);
	auto_free char *what = mem_printf("the route to %s", prefix_str(&w.dst));
	int r;

	r = rt_route_dump(c->host, family, RT_TABLE_MAIN_ID, 0, see_route, unsee, &w, err);
	r = missing(&w, r, err, what, where);
	return r < 0 ? r : check_neigh(c->host, where, ip, &d->mac, index, err);
}

static int check_link(struct rt *rt, const char *where, const char *name, const struct mac *mac,
	struct rt_link *ret, struct err *err)
{
	int r = rt_link_get(rt, name, 0, ret, err);

	if (r < 0)
		return err_set(err, -ENOENT, "%s %s is missing", where, name);
	if (strcmp(ret->kind, "veth") != 0)
		return err_set(err, -ENOENT, "%s %s is a %s, want a veth", where, name, ret->kind);
	if (!(ret->flags & IFF_UP))
		return err_set(err, -ENOENT, "%s %s is down", where, name);
	if (!mac_is_zero(mac) && memcmp(mac, &ret->mac, sizeof(*mac)) != 0)
		return err_set(err, -ENOENT, "%s %s has the address %s, want %s", where, name,
			mac_str(&ret->mac), mac_str(mac));
	return 0;
}

int device_check(struct call *c, const struct device *d, struct err *err)
{
	struct rt_link host = {0}, pod = {0};
	struct device real = *d;
	int r;

	r = check_link(c->pod, "the pod's interface", c->ifname, &d->mac, &pod, err);
	if (r == 0)
		r = check_link(
			c->host, "the host's interface", c->veth, &device_host_mac, &host, err);
	if (r < 0)
		return r;
	if (pod.link != host.index)
		return err_set(
			err, -ENOENT, "%s and %s are not the ends of one pair", c->ifname, c->veth);
	real.mac = pod.mac;
	for (size_t i = 0; i < d->n_ips && r == 0; i++) {
		r = check_pod_ip(c, &d->ips[i], pod.index, err);
		if (r == 0)
			r = check_host_ip(c, &real, &d->ips[i], host.index, err);
	}
	return r;
}
