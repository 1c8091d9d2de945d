/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kern/rt.h and felix's route reconciler on the real kernel, in a network namespace of their own.
 * What the kernel has is told by ip(8), never by our own decoder.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "felix/dp/ifaces.h"
#include "felix/dp/routes.h"
#include "kern/nl.h"
#include "kern/rt.h"
#include "netns/shell.h"

static struct rt *rt;

static struct prefix P(const char *s) {
	struct prefix p = {0};

	ck_assert_int_eq(prefix_parse_host(s, &p, NULL), 0);
	return p;
}

static struct ip
A(const char *s) {
	return P(s).addr;
}

static void
veth(const char *name, const char *peer, bool up)
{
	struct rt_veth v = {.peer_netns_fd = -1, .queues = 1, .mtu = 1480};
	struct rt_link_change c = {.name = name, .set_up = true, .up = up};

	strcpy(v.name, name);
	strcpy(v.peer_name, peer);
	rt_begin(rt, NULL, NULL);
	rt_veth_add(rt, &v, 0);
	rt_link_set(rt, &c, 0);
	ok(rt_commit(rt, &err));
}

static uint32_t index_of(const char *name)
{
	struct rt_link l;

	ok(rt_link_get(rt, name, 0, &l, &err));
	return l.index;
}

static void enter(void)
{
	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	(void)!system("ip link set lo up");
	ok(rt_open(&rt, &err));
}

static void leave(void)
{
	rt_close(rt);
}

START_TEST(test_verbs)
{
	int other = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct rt_veth v = {.name = "cali1",
		.peer_name = "eth7",
		.mtu = 1480,
		.queues = 1,
		.index = 4000,
		.peer_index = 5000,
		.mac = {{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}},
		.peer_netns_fd = other};
	struct rt_link_conf conf = {
		.index = 4000, .proxy_arp = true, .forwarding = true, .rp_filter = -1};
	struct rt_link_conf conf6 = {.index = 4000, .no_addr_gen = true, .rp_filter = -1};
	struct rt_link_change up = {.index = 4000,
		.set_up = true,
		.up = true,
		.set_group = true,
		.group = 77,
		.alias = "of a pod"};
	char alias[RT_ALIAS_SIZE];
	struct rt_addr a = {.index = 4000, .prefix = P("10.9.0.1/24")};
	struct rt_route host = {.dst = P("10.244.1.141"),
		.table = RT_TABLE_MAIN_ID,
		.protocol = 80,
		.scope = RT_SCOPED_LINK,
		.type = RT_TYPE_UNICAST,
		.oif = 4000};
	struct rt_route host6 = {.dst = P("fd00::9"),
		.table = RT_TABLE_MAIN_ID,
		.protocol = 80,
		.type = RT_TYPE_UNICAST,
		.oif = 4000};
	struct rt_route hole = {.dst = P("10.244.1.0/24"),
		.table = RT_TABLE_MAIN_ID,
		.protocol = 80,
		.type = RT_TYPE_BLACKHOLE};
	struct rt_route via = {.dst = P("10.5.0.0/16"),
		.table = 200,
		.protocol = 80,
		.type = RT_TYPE_UNICAST,
		.gateway = A("10.130.0.1"),
		.oif = 4000,
		.onlink = true,
		.mtu = 1400};
	struct rt_neigh n = {.index = 4000,
		.ip = A("10.244.1.141"),
		.has_mac = true,
		.mac = {{2, 0, 0, 0, 0, 1}}};
	struct rt_rule rule = {.family = IP_V4,
		.priority = 99,
		.table = 200,
		.src = P("10.244.0.0/16"),
		.mark = 0x10,
		.mark_mask = 0xf0,
		.protocol = 80};
	struct ip on_link = A("10.9.0.7"), in_hole = A("10.244.1.7");
	struct rt_route found;
	struct rt_link link;

	ck_assert_int_ge(other, 0);
	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	rt_close(rt);
	ok(rt_open(&rt, &err));
	rt_begin(rt, NULL, NULL);
	rt_veth_add(rt, &v, 0);
	rt_link_configure(rt, &conf, 0);
	rt_link_configure(rt, &conf6, 0);
	rt_link_set(rt, &up, 0);
	rt_addr_set(rt, &a, 0);
	rt_addr_set(rt, &a, 0);
	rt_route_set(rt, &host, 0);
	rt_route_set(rt, &host6, 0);
	rt_route_set(rt, &hole, 0);
	rt_route_set(rt, &via, 0);
	rt_neigh_set(rt, &n, 0);
	rt_rule_add(rt, &rule, 0);
	rt_rule_add(rt, &rule, 0);
	rt_proxy_delay_set(rt, IP_V4, 4000, 0, 0);
	ok(rt_commit(rt, &err));
	expect_part("ip -d link show cali1", "mtu 1480");
	expect_part("ip -d link show cali1", "group 77");
	expect_part("ip link show cali1", "alias of a pod");
	ok(rt_link_get_alias(rt, "cali1", 0, &link, alias, &err));
	ck_assert_str_eq(alias, "of a pod");
	ck_assert_uint_eq(link.index, 4000);
	ok(rt_link_get_alias(rt, NULL, 1, &link, alias, &err));
	ck_assert_str_eq(alias, "");
	ck_assert_int_eq(rt_link_get_alias(rt, NULL, 4321, &link, alias, &err), -ENOENT);
	expect_part("ip -d link show cali1", "ee:ee:ee:ee:ee:ee");
	expect_part("ip -d link show cali1", "numtxqueues 1");
	expect_part("ip -d link show cali1", "addrgenmode none");
	expect_part("ip addr show cali1", "inet 10.9.0.1/24");
	expect_part("ip route show proto 80", "10.244.1.141 dev cali1 scope link");
	expect_part("ip route show proto 80", "blackhole 10.244.1.0/24");
	expect_part("ip route show table 200",
		"10.5.0.0/16 via 10.130.0.1 dev cali1 proto 80 onlink linkdown mtu 1400");
	expect_part("ip neigh show", "10.244.1.141 dev cali1 lladdr 02:00:00:00:00:01 PERMANENT");
	expect_part(
		"ip rule show", "99:	from 10.244.0.0/16 fwmark 0x10/0xf0 lookup 200 proto 80");
	expect_part("ip ntable show dev cali1 name arp_cache", "proxy_delay 0");
	expect_part("cat /proc/net/route", "cali1");
	ok(rt_route_lookup(rt, &n.ip, &found, &err));
	ck_assert_uint_eq(found.oif, 4000);
	/* Not the destination, but the entry, be it a wider one. */
	ok(rt_route_match(rt, &n.ip, &found, &err));
	ck_assert(found.oif == 4000 && prefix_equal(&found.dst, &host.dst) &&
		  found.table == RT_TABLE_MAIN_ID && found.protocol == RT_PROTO_MARGAY);
	ok(rt_route_match(rt, &on_link, &found, &err));
	ck_assert(found.oif == 4000 && found.dst.plen == 24);
	ok(rt_route_match(rt, &host6.dst.addr, &found, &err));
	ck_assert(found.oif == 4000 && prefix_equal(&found.dst, &host6.dst) &&
		  found.table == RT_TABLE_MAIN_ID && found.priority == 1024);
	ck_assert_int_lt(rt_route_match(rt, &in_hole, &found, &err), 0);
	rt_begin(rt, NULL, NULL);
	rt_route_del(rt, &host, 0);
	rt_route_del(rt, &host, 0);
	rt_route_del(rt, &hole, 0);
	rt_neigh_del(rt, &n, 0);
	rt_neigh_del(rt, &n, 0);
	rt_rule_del(rt, &rule, 0);
	rt_rule_del(rt, &rule, 0);
	rt_addr_del(rt, &a, 0);
	rt_addr_del(rt, &a, 0);
	ok(rt_commit(rt, &err));
	expect_no_part("ip route show proto 80", "10.244.1");
	expect_no_part("ip rule show", "lookup 200");
	rt_begin(rt, NULL, NULL);
	rt_link_del(rt, 4000, NULL, 0);
	ok(rt_commit(rt, &err));
	expect_no_part("ip link show", "cali1");
	ck_assert_int_eq(rt_link_get(rt, "cali1", 0, &(struct rt_link){0}, &err), -ENOENT);
	close(other);
}
END_TEST

static void count_neigh(void *arg, const struct rt_neigh *n)
{
	*(int *)arg += n->state == NUD_PERMANENT;
}

static struct rt_fdb last_fdb;

static void count_fdb(void *arg, const struct rt_fdb *f)
{
	last_fdb = *f;
	*(int *)arg += 1;
}

struct heard {
	int n;
	struct rt_event last;
};

static void hear(void *arg, const struct rt_event *ev)
{
	struct heard *h = arg;

	h->n++;
	h->last = *ev;
}

START_TEST(test_vxlan)
{
	struct rt_vxlan v = {.vni = 4096, .port = 4789, .local = A("10.130.29.80")};
	struct rt_vxlan v6 = {.vni = 4096, .port = 4789, .local = A("fd00::80")};
	struct mac mac = {{0x66, 1, 2, 3, 4, 5}};
	struct rt_fdb f = {.mac = {{0x66, 0, 0, 0, 0, 1}}, .dst = A("10.130.29.81")};
	struct rt_neigh n = {.ip = A("10.244.1.0"), .has_mac = true, .mac = f.mac};
	struct rt_monitor *m;
	struct heard heard = {0};
	struct rt_link l;
	uint32_t other;
	int count = 0;

	veth("eth0", "wire", true);
	(void)!system(
		"ip addr add 10.130.29.80/24 dev eth0; ip addr add fd00::80/64 dev eth0 nodad");
	other = index_of("eth0");
	rt_begin(rt, NULL, NULL);
	rt_vxlan_add(rt, "vxlan.calico", &mac, 1450, &v, 0);
	rt_vxlan_add(rt, "vxlan-v6.calico", &mac, 1430, &v6, 0);
	ok(rt_commit(rt, &err));
	expect_part("ip -d link show vxlan.calico", "vxlan id 4096 local 10.130.29.80");
	expect_part("ip -d link show vxlan.calico", "dstport 4789 nolearning");
	expect_part("ip -d link show vxlan.calico", "mtu 1450");
	expect_part("ip -d link show vxlan.calico", "link/ether 66:01:02:03:04:05");
	expect_part("ip -d link show vxlan-v6.calico", "vxlan id 4096 local fd00::80");
	ok(rt_link_get(rt, "vxlan.calico", 0, &l, &err));
	ck_assert_str_eq(l.kind, "vxlan");
	ck_assert_uint_eq(l.vxlan.vni, 4096);
	ck_assert_uint_eq(l.vxlan.port, 4789);
	ck_assert(ip_equal(&l.vxlan.local, &v.local));
	ck_assert(!l.vxlan.learning && !l.vxlan.other);
	f.index = n.index = l.index;
	ok(rt_link_get(rt, "vxlan-v6.calico", 0, &l, &err));
	ck_assert(ip_equal(&l.vxlan.local, &v6.local));
	(void)!system("ip link add v2 type vxlan id 9 dstport 4790 remote 10.130.29.81 learning");
	ok(rt_link_get(rt, "v2", 0, &l, &err));
	ck_assert(l.vxlan.learning && l.vxlan.other);
	(void)!system("ip link add v3 type vxlan dstport 4791 external");
	ok(rt_link_get(rt, "v3", 0, &l, &err));
	ck_assert(l.vxlan.other);
	ok(rt_neigh_monitor_open(f.index, &m, &err));
	rt_begin(rt, NULL, NULL);
	rt_fdb_set(rt, &f, 0);
	rt_fdb_set(rt, &f, 0);
	rt_neigh_set(rt, &n, 0);
	ok(rt_commit(rt, &err));
	expect_part("bridge fdb show dev vxlan.calico",
		"66:00:00:00:00:01 dst 10.130.29.81 self permanent");
	expect_part(
		"ip neigh show dev vxlan.calico", "10.244.1.0 lladdr 66:00:00:00:00:01 PERMANENT");
	ok(rt_fdb_dump(rt, f.index, count_fdb, NULL, &count, &err));
	ck_assert_int_eq(count, 1);
	ck_assert_int_eq(memcmp(&last_fdb.mac, &f.mac, sizeof(f.mac)), 0);
	ck_assert(ip_equal(&last_fdb.dst, &f.dst));
	count = 0;
	ok(rt_neigh_dump(rt, IP_V4, f.index, count_neigh, NULL, &count, &err));
	ck_assert_int_eq(count, 1);
	f.dst = A("10.130.29.82");
	rt_begin(rt, NULL, NULL);
	rt_fdb_set(rt, &f, 0);
	ok(rt_commit(rt, &err));
	expect_no_part("bridge fdb show dev vxlan.calico", "10.130.29.81");
	ck_assert_int_gt(rt_monitor_read(m, hear, &heard, &err), 0);
	ck_assert_int_eq(heard.last.type, RT_EVENT_FDB_SET);
	ck_assert(ip_equal(&heard.last.fdb.dst, &f.dst));
	/* Others' hands; and of other links nothing is heard. */
	heard.n = 0;
	(void)!system("ip neigh del 10.244.1.0 dev vxlan.calico");
	ck_assert_int_gt(rt_monitor_read(m, hear, &heard, &err), 0);
	ck_assert_int_eq(heard.last.type, RT_EVENT_NEIGH_DEL);
	ck_assert(ip_equal(&heard.last.neigh.ip, &n.ip));
	heard.n = 0;
	n.index = other;
	rt_begin(rt, NULL, NULL);
	rt_neigh_set(rt, &n, 0);
	ok(rt_commit(rt, &err));
	ck_assert_int_eq(rt_monitor_read(m, hear, &heard, &err), 0);
	rt_begin(rt, NULL, NULL);
	rt_fdb_del(rt, &f, 0);
	rt_fdb_del(rt, &f, 0);
	ok(rt_commit(rt, &err));
	expect_no_part("bridge fdb show dev vxlan.calico", "66:00");
	(void)rt_monitor_read(m, hear, &heard, &err);
	ck_assert_int_eq(heard.last.type, RT_EVENT_FDB_DEL);
	rt_monitor_close(m);
}
END_TEST

static int results[300];
static char texts[300][64];

static void keep_result(void *arg, uintptr_t cookie, int r, const struct err *e)
{
	(void)arg;
	results[cookie] = r;
	snprintf(texts[cookie], sizeof(texts[0]), "%.63s", e ? e->text : "");
}

START_TEST(test_batch_with_failures)
{
	struct rt_route r = {.table = RT_TABLE_MAIN_ID,
		.protocol = 80,
		.scope = RT_SCOPED_LINK,
		.type = RT_TYPE_UNICAST};

	uint32_t lo = index_of("lo");

	veth("cali1", "peer1", true);
	memset(results, 99, sizeof(results));
	rt_begin(rt, keep_result, NULL);
	for (uintptr_t i = 0; i < 300; i++) {
		struct ip ip = ip_from_v4(0x0af40000 + (uint32_t)i);

		r.dst = prefix_host(&ip);
		r.oif = i == 150 || i == 151 ? 9999 : lo;
		rt_route_set(rt, &r, i);
	}
	ck_assert_int_eq(rt_commit(rt, &err), -ENODEV);
	for (int i = 0; i < 300; i++)
		ck_assert_msg(results[i] == (i == 150 || i == 151 ? -ENODEV : 0), "%d: %d", i,
			results[i]);
	/* The kernel's own words come with a refusal. */
	r.gateway = A("192.0.2.1");
	r.scope = RT_SCOPED_UNIVERSE;
	r.oif = index_of("cali1");
	rt_begin(rt, keep_result, NULL);
	rt_route_set(rt, &r, 0);
	ck_assert_int_eq(rt_commit(rt, &err), -ENETUNREACH);
	ck_assert_msg(strstr(err.text, "Nexthop has invalid gateway"), "%s", err.text);
	expect_part("ip route show proto 80 | wc -l", "298");
}
END_TEST

/* ---- the reconciler ---- */

static struct ifaces *ifaces;
static struct routes *routes;
static struct rt_monitor *mon;
static unsigned overflows;

static void on_event(void *arg, const struct rt_event *ev)
{
	(void)arg;
	overflows += ev->type == RT_EVENT_OVERFLOW;
	ifaces_event(ifaces, ev);
	routes_event(routes, ev);
}

static void start_routes(void)
{
	ok(rt_monitor_open(RT_WATCH_LINKS | RT_WATCH_ROUTES, rt, &mon, &err));
	ifaces = ifaces_new(rt);
	routes = routes_new(rt, ifaces, RT_TABLE_MAIN_ID, RT_PROTO_MARGAY, "cali");
	overflows = 0;
}

static void stop_routes(void)
{
	routes_free(routes);
	ifaces_free(ifaces);
	rt_monitor_close(mon);
}

static int turn(void)
{
	int r;

	ck_assert_int_ge(rt_monitor_read(mon, on_event, NULL, &err), 0);
	while ((r = routes_apply(routes, clock_mono_ms(), &err)) == -EAGAIN)
		;
	return r;
}

static void want(const char *dst, const char *ifname)
{
	struct route_key key = {.dst = P(dst)};
	struct nexthop hop = {.type = ifname[0] ? RT_TYPE_UNICAST : RT_TYPE_BLACKHOLE};

	strcpy(hop.ifname, ifname);
	routes_set(routes, &key, &hop);
}

START_TEST(test_repair)
{
	const struct routes_stats *st;

	start_routes();
	st = routes_stats(routes);
	ok(system("ip route add 10.244.9.9 dev lo proto 80 scope link")); /* stray */
	ok(system("ip route add 10.244.8.0/24 dev lo proto static"));	  /* another's */
	veth("cali1", "peer1", true);
	want("10.244.1.141", "cali1");
	want("10.244.1.0/24", "");
	want("10.244.1.7", "cali7");
	ok(turn());
	expect_part("route -n",
		"10.244.1.141    0.0.0.0         255.255.255.255 UH    0      0        0 cali1");
	expect_part("ip route show proto 80", "blackhole 10.244.1.0/24");
	expect_part("ip route show proto 80", "10.244.9.9");
	ck_assert_int_eq(st->waiting, 1);
	routes_allow_deletes(routes);
	ok(turn());
	expect_no_part("ip route show proto 80", "10.244.9.9");
	expect_part("ip route show", "10.244.8.0/24");

	ok(system("ip route del 10.244.1.141; ip route replace 10.244.1.0/24 dev lo"));
	ok(turn());
	expect_part("ip route show proto 80", "10.244.1.141 dev cali1 scope link");
	expect_part("ip route show proto 80", "blackhole 10.244.1.0/24");
	ok(system("ip route change 10.244.1.141 dev lo proto 80 scope link"));
	ok(turn());
	expect_part("ip route show proto 80", "10.244.1.141 dev cali1 scope link");
	/* In front of ours, which stays behind it. */
	ok(system("ip route prepend 10.244.1.141 dev lo proto static"));
	ck_assert_int_eq(turn(), -EEXIST);
	routes_retry(routes);
	ok(turn());
	expect_part("ip route get 10.244.1.141", "dev cali1");

	ok(system("ip link set cali1 down"));
	ok(turn());
	ck_assert_int_eq(st->waiting, 2);
	ok(system("ip link set cali1 up"));
	ok(turn());
	expect_part("ip route show proto 80", "10.244.1.141 dev cali1 scope link");
	veth("cali7", "peer7", true);
	ok(turn());
	expect_part("ip route show proto 80", "10.244.1.7 dev cali7 scope link");
	ok(system("ip link del cali7"));
	ok(turn());
	veth("cali7", "peer7", true);
	ok(turn());
	expect_part("ip route show proto 80", "10.244.1.7 dev cali7 scope link");
	ok(system(
		"ip link set cali7 down && ip link set cali7 name tmp7 && ip link set tmp7 up && "
		"ip link set cali1 down && ip link set cali1 name cali7 && ip link set cali7 up"));
	ok(turn());
	expect_part("ip route show proto 80", "10.244.1.7 dev cali7 scope link");
	expect_no_part("ip route show proto 80", "10.244.1.141");
	routes_unset(routes, &(struct route_key){.dst = P("10.244.1.7")});
	ok(turn());
	expect_no_part("ip route show proto 80", "10.244.1.7");
	stop_routes();
}
END_TEST

static void start_with_routes(void)
{
	start_routes();
	want("10.244.1.140", "cali1");
	want("10.244.1.141", "cali1");
	want("10.244.1.0/24", "");
	want("fd00::1", "cali1");
	routes_allow_deletes(routes);
	ok(turn());
	expect_part("ip route get 10.244.1.140", "dev cali1");
	expect_part("ip route get 10.244.1.141", "dev cali1");
	expect_part("ip route show type blackhole", "blackhole 10.244.1.0/24");
	expect_part("ip -6 route get fd00::1", "dev cali1");
}

static void pass_over(void *arg, const struct rt_event *ev)
{
	(void)arg;
	(void)ev;
}

/* What came in front of ours unseen: while felix was away, and with an event that was lost. */
START_TEST(test_behind_anothers)
{
	veth("cali1", "peer1", true);
	veth("other", "peer2", true);
	start_with_routes();
	stop_routes();
	ok(system("ip route prepend 10.244.1.141 dev lo proto static &&"
		  "ip route prepend 10.244.1.141 dev other proto static &&"
		  "ip route prepend 10.244.1.0/24 dev lo proto static &&"
		  "ip route append 10.244.1.140 dev lo proto static &&"
		  "ip -6 route prepend fd00::1 dev other proto static metric 1024"));
	start_with_routes();
	stop_routes();
	/* Ours is not the one that is wanted, either. */
	ok(system("ip route flush 10.244.1.141 &&"
		  "ip route add 10.244.1.141 dev lo proto static &&"
		  "ip route append 10.244.1.141 dev other proto 80 scope link"));
	start_with_routes();
	expect_no_part("ip route show 10.244.1.141", "dev other");

	ok(system("ip route prepend 10.244.1.141 dev lo proto static"));
	ck_assert_int_ge(rt_monitor_read(mon, pass_over, NULL, &err), 0);
	routes_mark_unknown(routes);
	ok(turn());
	expect_part("ip route get 10.244.1.141", "dev cali1");
	expect_part("ip route get 10.244.1.140", "dev cali1");
	stop_routes();
}
END_TEST

START_TEST(test_failed_routes_wait)
{
	struct route_key key = {.dst = P("10.244.1.0/24")};
	struct nexthop hop = {
		.type = RT_TYPE_UNICAST, .ifname = "cali1", .gateway = A("192.0.2.1")};
	const struct routes_stats *st;

	start_routes();
	st = routes_stats(routes);
	veth("cali1", "peer1", true);
	routes_set(routes, &key, &hop);
	ck_assert_int_eq(turn(), -ENETUNREACH);
	ck_assert_uint_eq(st->failed, 1);
	/* Not with every event, and not instead of others. */
	want("10.244.1.141", "cali1");
	for (int i = 0; i < 10; i++) {
		ok(system("ip route replace 10.1.2.3 dev cali1"));
		ck_assert_int_eq(turn(), -ENETUNREACH);
	}
	ck_assert_uint_eq(st->failed, 1);
	expect_part("ip route show proto 80", "10.244.1.141 dev cali1 scope link");
	routes_retry(routes);
	ck_assert_int_eq(turn(), -ENETUNREACH);
	ck_assert_uint_eq(st->failed, 2);
	ok(system("ip addr add 192.0.2.2/24 dev cali1"));
	routes_retry(routes);
	ok(turn());
	expect_part("ip route show proto 80", "10.244.1.0/24 via 192.0.2.1 dev cali1");
	stop_routes();
}
END_TEST

START_TEST(test_overflow)
{
	char *count;
	uint64_t dumps;

	start_routes();
	veth("cali1", "peer1", true);
	for (uint32_t i = 0; i < 10000; i++) {
		struct ip ip = ip_from_v4(0x0af40000 + i);
		struct route_key key = {.dst = prefix_host(&ip)};
		struct nexthop hop = {.type = RT_TYPE_UNICAST, .ifname = "cali1"};

		routes_set(routes, &key, &hop);
	}
	int64_t t0 = clock_mono_ms();
	ok(turn());
	printf("10000 routes: %lld ms\n", (long long)(clock_mono_ms() - t0));
	ck_assert_int_eq(routes_stats(routes)->installed, 10000);
	/* Our own changes are not told to us. */
	dumps = routes_stats(routes)->dumps;
	ok(turn());
	ck_assert_uint_eq(overflows, 0);
	ck_assert_uint_eq(routes_stats(routes)->dumps, dumps);
	/* More changes by another's hand than the monitor can hold. */
	rt_monitor_set_rcvbuf(mon, 4096);
	ok(system("ip route flush proto 80 root 10.244.0.0/19"));
	ok(turn());
	ck_assert_uint_gt(overflows, 0);
	count = run("ip route show proto 80 | wc -l");
	ck_assert_int_eq(atoi(count), 10000);
	free(count);
	stop_routes();
}
END_TEST

/* ---- dumps while the data changes ---- */

struct seen {
	int n, restarts;
	bool anchors[64];
};

static void see(void *arg, const struct rt_link *l)
{
	struct seen *s = arg;
	int i;

	s->n++;
	if (sscanf(l->name, "anchor%d", &i) == 1)
		s->anchors[i] = true;
}

static void forget(void *arg)
{
	struct seen *s = arg;

	*s = (struct seen){.restarts = s->restarts + 1};
}

/* What waits to be read when events are lost is older than the loss, and than what is read then. */
START_TEST(test_overflow_behind_events)
{
	char *count;

	start_routes();
	veth("cali1", "peer1", true);
	for (uint32_t i = 0; i < 3000; i++) {
		struct ip ip = ip_from_v4(0x0af40000 + i);
		struct route_key key = {.dst = prefix_host(&ip)};
		struct nexthop hop = {.type = RT_TYPE_UNICAST, .ifname = "cali1"};

		routes_set(routes, &key, &hop);
	}
	ok(turn());
	ok(system(
		"ip route show proto 80 | awk '{print \"route del\", $1; print \"route add\", $1, "
		"\"dev cali1 scope link proto 80\"}' >/tmp/rt-batch.$PPID; "
		"for i in 1 2 3; do ip -batch /tmp/rt-batch.$PPID; done; rm /tmp/rt-batch.$PPID; "
		"ip route flush proto 80 root 10.244.0.0/19"));
	/* As on the loop: events come between the batches. */
	for (int i = 0; i < 30; i++) {
		ck_assert_int_ge(rt_monitor_read(mon, on_event, NULL, &err), 0);
		if (routes_apply(routes, clock_mono_ms(), &err) != -EAGAIN)
			ok(turn());
	}
	ck_assert_uint_gt(overflows, 0);
	count = run("ip route show proto 80 | wc -l");
	ck_assert_int_eq(atoi(count), 3000);
	free(count);
	stop_routes();
}
END_TEST

START_TEST(test_dump_interrupted)
{
	int restarts = 0, unknown = 0, r;
	char name[16], peer[16];
	pid_t child;

	for (int i = 0; i < 64; i++) {
		snprintf(name, sizeof(name), "anchor%d", i);
		snprintf(peer, sizeof(peer), "p%d", i);
		veth(name, peer, false);
	}
	child = fork();
	if (child == 0) {
		struct rt *mine;

		if (rt_open(&mine, NULL) < 0)
			_exit(1);
		for (;;) {
			struct rt_veth v = {
				.name = "flap", .peer_name = "flop", .peer_netns_fd = -1};

			rt_begin(mine, NULL, NULL);
			rt_veth_add(mine, &v, 0);
			(void)rt_commit(mine, NULL);
			rt_begin(mine, NULL, NULL);
			rt_link_del(mine, 0, "flap", 0);
			(void)rt_commit(mine, NULL);
		}
	}
	for (int i = 0; i < 400; i++) {
		struct seen s = {0};

		r = rt_link_dump(rt, see, forget, &s, &err);
		restarts += s.restarts;
		unknown += r == -EBUSY;
		ck_assert_msg(r == 0 || r == -EBUSY, "%s", err_text(&err));
		for (int j = 0; r == 0 && j < 64; j++)
			ck_assert_msg(s.anchors[j], "anchor%d is missing", j);
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	printf("400 dumps, %d restarts, %d unknown\n", restarts, unknown);
	ck_assert_int_gt(restarts, 0);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("rt");
	Suite *s = suite_create("rt");
	SRunner *sr;
	int failed;

	if (geteuid() != 0) {
		puts("SKIP: network namespaces need root");
		return 77;
	}
	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, enter, leave);
	tcase_add_test(tc, test_verbs);
	tcase_add_test(tc, test_vxlan);
	tcase_add_test(tc, test_batch_with_failures);
	tcase_add_test(tc, test_repair);
	tcase_add_test(tc, test_behind_anothers);
	tcase_add_test(tc, test_failed_routes_wait);
	tcase_add_test(tc, test_overflow);
	tcase_add_test(tc, test_overflow_behind_events);
	tcase_add_test(tc, test_dump_interrupted);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
