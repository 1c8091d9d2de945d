/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What Margay wants of the kernel's links, addresses, routes, neighbours and rules, as values and
 * verbs. This is the seam at which the kernel is exchanged: rt_netlink.c speaks to Linux, and
 * tests/fake/rt_fake.c is a kernel in memory with faults on demand. One of them is linked.
 *
 * Changes are collected between rt_begin and rt_commit and have one result each, under the caller's
 * cookie. A verb that finds its work done already (EEXIST of an add that changes nothing, ENOENT and
 * ESRCH of a deletion) succeeds, except where said.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "net/mac.h"
#include "net/prefix.h"

struct err;
struct rt;
struct rt_monitor;

/* The caller's own network namespace. */
int rt_open(struct rt **ret, struct err *err);
/* Over a NETLINK_ROUTE socket made elsewhere; takes fd, also on failure. */
int rt_from_fd(int fd, struct rt **ret, struct err *err);
void rt_close(struct rt *rt);
AUTO_DEFINE(rt, struct rt *, rt_close);

/* ---- objects ---- */

enum rt_route_type {
	RT_TYPE_UNICAST = 1,
	RT_TYPE_LOCAL = 2,
	RT_TYPE_BLACKHOLE = 6,
	RT_TYPE_UNREACHABLE = 7,
	RT_TYPE_PROHIBIT = 8
};
enum rt_scope {
	RT_SCOPED_UNIVERSE = 0,
	RT_SCOPED_LINK = 253,
	RT_SCOPED_HOST = 254,
	RT_SCOPED_ANY = 255
};

#define RT_ALIAS_SIZE 256 /* IFALIASZ: with its NUL */

#define RT_TABLE_MAIN_ID 254
#define RT_PROTO_BOOT 3
#define RT_PROTO_STATIC 4
#define RT_PROTO_BIRD 12
#define RT_PROTO_MARGAY 80 /* the mark of every route of ours */

struct rt_route {
	struct prefix dst; /* 0.0.0.0/0 = default */
	uint32_t table;
	uint32_t priority; /* the metric */
	uint8_t protocol;
	uint8_t scope; /* enum rt_scope */
	uint8_t type;  /* enum rt_route_type, or another of the kernel's */
	bool onlink;
	bool multipath; /* decoded only: it has several next hops, none of which is told */
	struct ip gateway;
	struct ip src; /* preferred source address */
	uint32_t oif;  /* 0 = none */
	uint32_t mtu;  /* 0 = the interface's */
};

/* What a VXLAN device is like. */
struct rt_vxlan {
	uint32_t vni;
	uint16_t port;	 /* UDP, of both ends */
	struct ip local; /* whence it sends; IP_NONE: by its route */
	bool learning;
	bool other; /* decoded only: it has a default destination, or others tell it where to send */
};

struct rt_link {
	uint32_t index;
	char name[IFNAMSIZ];
	char kind[16];	/* "veth", "ipip", ...; "" for hardware */
	uint32_t flags; /* IFF_UP, IFF_RUNNING, IFF_LOOPBACK, ... */
	uint32_t mtu;
	uint32_t group;
	uint32_t master; /* 0 = none */
	uint32_t link;	 /* the peer's or parent's index, 0 = none */
	int32_t netnsid; /* of link, -1 = ours */
	uint8_t operstate;
	bool has_mac;
	struct mac mac;
	struct mac broadcast_mac;
	struct rt_vxlan vxlan; /* of kind "vxlan" */
};

struct rt_addr {
	uint32_t index;	      /* of the link */
	struct prefix prefix; /* the address, host bits kept */
	uint8_t scope;
	uint32_t flags; /* IFA_F_*; decoded, and IFA_F_NODAD is written */
};

struct rt_neigh {
	uint32_t index; /* of the link */
	struct ip ip;
	bool has_mac;
	struct mac mac;
	uint16_t state; /* NUD_*; 0 is written as NUD_PERMANENT */
	bool proxy;	/* a proxy entry: no MAC */
	bool kept;	/* by the kernel, though it is not permanent */
};

/* What a VXLAN device knows of a MAC: the host to which frames for it go. */
struct rt_fdb {
	uint32_t index; /* of the device */
	struct mac mac;
	struct ip dst;
	uint16_t state; /* NUD_*; written as NUD_PERMANENT */
};

struct rt_rule {
	uint8_t family; /* enum ip_family */
	uint32_t priority;
	uint32_t table;
	struct prefix src, dst; /* family IP_NONE = any */
	uint32_t mark, mark_mask;
	bool invert; /* "not" */
	uint8_t protocol;
};

/* A veth pair whose peer is born in another namespace. Zero = the kernel's default, where not said. */
struct rt_veth {
	char name[IFNAMSIZ];
	uint32_t index;	 /* wanted number; the kernel may have it in use: EBUSY */
	struct mac mac;	 /* zero = random */
	uint32_t mtu;	 /* of both ends */
	uint32_t group;	 /* of the host end */
	uint16_t queues; /* of both ends, each direction */
	char peer_name[IFNAMSIZ];
	uint32_t peer_index;
	struct mac peer_mac;
	int peer_netns_fd; /* -1 = the same namespace */
};

/*
 * Settings of a link that exist only once it does and must be there before it is up: its own step
 * between rt_veth_add and rt_link_set. IPv6 where the kernel has none is no failure, if asked for
 * alone.
 */
struct rt_link_conf {
	uint32_t index;
	/* IPv4: true = switch on, false = leave. */
	bool proxy_arp, forwarding, route_localnet, arp_notify;
	int rp_filter;	  /* -1 = leave */
	bool no_addr_gen; /* no IPv6 link-local address */
};

/* ---- reading ---- */

/* Each calls fn per object; a dump that cannot be had in one piece is -EBUSY after some tries, and
 * then restart was called before fn saw anything twice. restart may be NULL: then no retries. */
typedef void rt_restart_fn(void *arg);
typedef void rt_route_fn(void *arg, const struct rt_route *r);
typedef void rt_link_fn(void *arg, const struct rt_link *l);
typedef void rt_addr_fn(void *arg, const struct rt_addr *a);
typedef void rt_neigh_fn(void *arg, const struct rt_neigh *n);
typedef void rt_fdb_fn(void *arg, const struct rt_fdb *f);
typedef void rt_rule_fn(void *arg, const struct rt_rule *r);

/* family: IP_V4 or IP_V6. table 0 = all, protocol 0 = all. */
int rt_route_dump(struct rt *rt, enum ip_family family, uint32_t table, uint8_t protocol,
	rt_route_fn *fn, rt_restart_fn *restart, void *arg, struct err *err);
int rt_link_dump(struct rt *rt, rt_link_fn *fn, rt_restart_fn *restart, void *arg, struct err *err);
/* index 0 = of all links. IP_NONE = of both families. */
int rt_addr_dump(struct rt *rt, enum ip_family family, uint32_t index, rt_addr_fn *fn,
	rt_restart_fn *restart, void *arg, struct err *err);
int rt_neigh_dump(struct rt *rt, enum ip_family family, uint32_t index, rt_neigh_fn *fn,
	rt_restart_fn *restart, void *arg, struct err *err);
/* Entries with a destination. index is not 0. */
int rt_fdb_dump(struct rt *rt, uint32_t index, rt_fdb_fn *fn, rt_restart_fn *restart, void *arg,
	struct err *err);
int rt_rule_dump(struct rt *rt, enum ip_family family, rt_rule_fn *fn, rt_restart_fn *restart,
	void *arg, struct err *err);
/* One link, by name or (name NULL) index. ENOENT: there is none. */
int rt_link_get(
	struct rt *rt, const char *name, uint32_t index, struct rt_link *ret, struct err *err);
/* Likewise, with its alias, "" where it has none. */
int rt_link_get_alias(struct rt *rt, const char *name, uint32_t index, struct rt_link *ret,
	char ret_alias[static RT_ALIAS_SIZE], struct err *err);
/* The route that the kernel would take to dst. ENOENT: none (unreachable). */
int rt_route_lookup(struct rt *rt, const struct ip *dst, struct rt_route *ret, struct err *err);
/* As it is in its table. One that refuses is as none, or an error of the kernel's for it. */
int rt_route_match(struct rt *rt, const struct ip *dst, struct rt_route *ret, struct err *err);

/* ---- changing ---- */

typedef void rt_done_fn(void *arg, uintptr_t cookie, int r, const struct err *err);

/* done may be NULL. Between begin and commit: only the verbs below. */
void rt_begin(struct rt *rt, rt_done_fn *done, void *arg);
/* Returns 0 or the first failure. Verbs may have been executed, and done called, before. */
int rt_commit(struct rt *rt, struct err *err);

/* Replaces the route of the same dst, table and priority, whoever made it. */
void rt_route_set(struct rt *rt, const struct rt_route *r, uintptr_t cookie);
/* The route with these very properties; any: protocol 0, oif 0, type 0, RT_SCOPED_ANY, and for IPv4
 * priority 0. */
void rt_route_del(struct rt *rt, const struct rt_route *r, uintptr_t cookie);

/* EEXIST when a name is taken, EBUSY when an index is. */
void rt_veth_add(struct rt *rt, const struct rt_veth *v, uintptr_t cookie);
/* A link of a kind without parameters of its own: "ipip" makes tunl0 appear, "dummy", "bridge".
 * EEXIST when the name is taken, EOPNOTSUPP when the kernel does not have the kind. */
void rt_link_add(struct rt *rt, const char *name, const char *kind, uintptr_t cookie);
/* EEXIST, EOPNOTSUPP as above; EEXIST also where another device of this kind has VNI and port. */
void rt_vxlan_add(struct rt *rt, const char *name, const struct mac *mac, uint32_t mtu,
	const struct rt_vxlan *v, uintptr_t cookie);
/* Changes to one link, by index or (index 0) name. ENODEV: it is gone. */
struct rt_link_change {
	uint32_t index;
	const char *name;
	bool set_up, up;
	uint32_t mtu; /* 0 = leave */
	bool set_group;
	uint32_t group;
	const char *new_name; /* NULL = leave */
	bool set_mac;
	struct mac mac;
	bool set_master;
	uint32_t master;
	const char *alias; /* NULL = leave; shorter than RT_ALIAS_SIZE */
};
void rt_link_set(struct rt *rt, const struct rt_link_change *c, uintptr_t cookie);
void rt_link_configure(struct rt *rt, const struct rt_link_conf *c, uintptr_t cookie);
void rt_link_del(struct rt *rt, uint32_t index, const char *name, uintptr_t cookie);
/* Every link of a group, which is not 0; the kernel waits for all of them at once. */
void rt_group_del(struct rt *rt, uint32_t group, uintptr_t cookie);

void rt_addr_set(struct rt *rt, const struct rt_addr *a, uintptr_t cookie);
void rt_addr_del(struct rt *rt, const struct rt_addr *a, uintptr_t cookie);
void rt_neigh_set(struct rt *rt, const struct rt_neigh *n, uintptr_t cookie);
void rt_neigh_del(struct rt *rt, const struct rt_neigh *n, uintptr_t cookie);
/* Replaces where the MAC leads. */
void rt_fdb_set(struct rt *rt, const struct rt_fdb *f, uintptr_t cookie);
void rt_fdb_del(struct rt *rt, const struct rt_fdb *f, uintptr_t cookie);
/* EEXIST is success: an equal rule is there. */
void rt_rule_add(struct rt *rt, const struct rt_rule *r, uintptr_t cookie);
void rt_rule_del(struct rt *rt, const struct rt_rule *r, uintptr_t cookie);
/* How long a link's proxy ARP (IP_V4) or NDP waits before it answers. */
void rt_proxy_delay_set(
	struct rt *rt, enum ip_family family, uint32_t index, uint64_t delay_ms, uintptr_t cookie);

/* ---- watching ---- */

enum rt_event_type {
	RT_EVENT_LINK_SET,
	RT_EVENT_LINK_DEL,
	RT_EVENT_ADDR_SET,
	RT_EVENT_ADDR_DEL,
	RT_EVENT_ROUTE_SET,
	RT_EVENT_ROUTE_DEL,
	RT_EVENT_NEIGH_SET,
	RT_EVENT_NEIGH_DEL,
	RT_EVENT_FDB_SET,
	RT_EVENT_FDB_DEL,
	RT_EVENT_OVERFLOW, /* events were lost: anything may have changed */
};

struct rt_event {
	enum rt_event_type type;
	uint32_t
		by; /* the port of the socket through which it was changed; 0: none that is known */
	union {
		struct rt_link link;
		struct rt_addr addr;
		struct rt_route route;
		struct rt_neigh neigh;
		struct rt_fdb fdb;
	};
};

#define RT_WATCH_LINKS 1
#define RT_WATCH_ADDRS 2
#define RT_WATCH_ROUTES 4

/*
 * The kernel tells no RTM_DELROUTE for IPv4 routes that vanish with their link (down or gone): the
 * link's event stands for them. except: changes made through it are not told; NULL = all are told.
 */
int rt_monitor_open(
	unsigned what, const struct rt *except, struct rt_monitor **ret, struct err *err);
/* The neighbours and the forwarding database of one link, by all who change them: a host's other links
 * have too many of them. */
int rt_neigh_monitor_open(uint32_t index, struct rt_monitor **ret, struct err *err);
void rt_monitor_close(struct rt_monitor *m);
AUTO_DEFINE(rt_monitor, struct rt_monitor *, rt_monitor_close);
/* For the event loop: readable when there is something to read. */
int rt_monitor_fd(const struct rt_monitor *m);
void rt_monitor_set_rcvbuf(struct rt_monitor *m, int bytes);
typedef void rt_event_fn(void *arg, const struct rt_event *ev);
/* Tells all that is waiting, without blocking. Returns how many, or an error of the socket. */
int rt_monitor_read(struct rt_monitor *m, rt_event_fn *fn, void *arg, struct err *err);
