/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rtnetlink's codecs: what is written is read back, and nothing that is read crashes. */
#include <check.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kern/nl.h"
#include "kern/rt_codec.h"

static struct prefix P(const char *s) {
	struct prefix p = {0};

	ck_assert_int_eq(prefix_parse_host(s, &p, NULL), 0);
	return p;
}

static struct ip
A(const char *s) {
	struct ip ip = {0};

	ck_assert_int_eq(ip_parse(s, &ip, NULL), 0);
	return ip;
}

static struct nlmsghdr *
message(uint16_t type)
{
	static union {
		struct nlmsghdr nlh;
		uint8_t b[8192];
	} buf;
	struct nlmsghdr *nlh;

	memset(&buf, 0, sizeof(buf));
	nlh = mnl_nlmsg_put_header(&buf);
	nlh->nlmsg_type = type;
	return nlh;
}

START_TEST(test_route_round_trip)
{
	const struct rt_route routes[] = {
		{.dst = P("10.244.1.141"),
			.table = 254,
			.protocol = 80,
			.scope = RT_SCOPED_LINK,
			.type = RT_TYPE_UNICAST,
			.oif = 7},
		{.dst = P("10.244.0.0/24"),
			.table = 254,
			.protocol = 80,
			.type = RT_TYPE_BLACKHOLE},
		{.dst = P("10.244.2.0/24"),
			.table = 100000,
			.priority = 99,
			.protocol = 12,
			.type = RT_TYPE_UNICAST,
			.gateway = A("10.130.29.82"),
			.oif = 3,
			.onlink = true,
			.mtu = 1480,
			.src = A("10.244.0.1")},
		{.dst = P("0.0.0.0/0"),
			.table = 254,
			.type = RT_TYPE_UNICAST,
			.gateway = A("1.2.3.4")},
		{.dst = P("fd00::1"),
			.table = 254,
			.type = RT_TYPE_UNICAST,
			.oif = 9,
			.priority = 1024},
	};
	struct rt_route back;

	for (size_t i = 0; i < array_size(routes); i++) {
		struct nlmsghdr *nlh = message(RTM_NEWROUTE);

		rt_route_encode(nlh, &routes[i], false);
		ck_assert_int_eq(rt_route_decode(nlh, &back), 0);
		ck_assert(prefix_equal(&back.dst, &routes[i].dst));
		ck_assert_uint_eq(back.table, routes[i].table);
		ck_assert_uint_eq(back.priority, routes[i].priority);
		ck_assert_uint_eq(back.protocol, routes[i].protocol);
		ck_assert_uint_eq(back.scope, routes[i].scope);
		ck_assert_uint_eq(back.type, routes[i].type);
		ck_assert(ip_equal(&back.gateway, &routes[i].gateway));
		ck_assert(ip_equal(&back.src, &routes[i].src));
		ck_assert_uint_eq(back.oif, routes[i].oif);
		ck_assert_uint_eq(back.mtu, routes[i].mtu);
		ck_assert_int_eq(back.onlink, routes[i].onlink);
	}
}
END_TEST

START_TEST(test_left_out)
{
	struct rt_route r = {.dst = P("10.0.0.0/8"), .type = RT_TYPE_UNICAST, .table = 254}, back;
	struct nlmsghdr *nlh = message(RTM_NEWROUTE);
	struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	struct ifinfomsg *ifi;
	struct rt_link l;

	rt_route_encode(nlh, &r, false);
	rtm->rtm_flags |= RTM_F_CLONED;
	ck_assert_int_eq(rt_route_decode(nlh, &back), -ENOENT);
	rtm->rtm_flags = 0;
	rtm->rtm_tos = 4;
	ck_assert_int_eq(rt_route_decode(nlh, &back), -ENOENT);
	rtm->rtm_tos = 0;
	rtm->rtm_dst_len = 33;
	ck_assert_int_eq(rt_route_decode(nlh, &back), -EBADMSG);
	/* A bridge tells the removal of a port as RTM_DELLINK of the port. */
	nlh = message(RTM_DELLINK);
	ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	ifi->ifi_family = AF_BRIDGE;
	ifi->ifi_index = 3;
	mnl_attr_put_strz(nlh, IFLA_IFNAME, "eth0");
	ck_assert_int_eq(rt_link_decode(nlh, &l), -ENOENT);
	ifi->ifi_family = AF_UNSPEC;
	ck_assert_int_eq(rt_link_decode(nlh, &l), 0);
	ck_assert_str_eq(l.name, "eth0");
	ck_assert_int_eq(l.netnsid, -1);
}
END_TEST

/* Every length cut short, and every byte turned over: an error or a value, never a bad read. */
START_TEST(test_damaged)
{
	struct rt_route r = {.dst = P("10.244.2.0/24"),
		.table = 254,
		.type = RT_TYPE_UNICAST,
		.gateway = A("10.130.29.82"),
		.oif = 3,
		.mtu = 1480};
	struct rt_veth v = {.name = "cali0", .peer_name = "eth0", .peer_netns_fd = -1, .mtu = 1480};
	struct rt_vxlan vx = {.vni = 4096, .port = 4789, .local = P("fd00::1").addr};
	struct rt_fdb fdb = {.index = 3, .dst = P("10.130.29.82").addr};
	static const uint16_t types[] = {RTM_NEWROUTE, RTM_NEWLINK, RTM_NEWLINK, RTM_DELNEIGH};
	struct rt_event ev;
	struct nlmsghdr *nlh;

	for (size_t kind = 0; kind < array_size(types); kind++) {
		nlh = message(types[kind]);
		if (kind == 0)
			rt_route_encode(nlh, &r, false);
		else if (kind == 1)
			rt_veth_encode(nlh, &v);
		else if (kind == 2)
			rt_vxlan_encode(nlh, "vxlan.calico", &fdb.mac, 1450, &vx);
		else
			rt_fdb_encode(nlh, &fdb);
		for (uint32_t len = sizeof(*nlh); len < nlh->nlmsg_len; len++) {
			struct nlmsghdr *cut = mem_dup(nlh, len); /* so that a sanitizer sees it */

			cut->nlmsg_len = len;
			(void)rt_event_decode(cut, &ev);
			free(cut);
		}
		for (uint32_t i = sizeof(*nlh); i < nlh->nlmsg_len; i++) {
			struct nlmsghdr *bad = mem_dup(nlh, nlh->nlmsg_len);

			((uint8_t *)bad)[i] ^= 0xff;
			(void)rt_event_decode(bad, &ev);
			free(bad);
		}
	}
}
END_TEST

START_TEST(test_attributes)
{
	struct nlmsghdr *nlh = message(RTM_NEWROUTE);
	const struct nlattr *tb[4];
	char name[4];

	mnl_nlmsg_put_extra_header(nlh, 4);
	mnl_attr_put_u32(nlh, 1, 77);
	mnl_attr_put_u16(nlh, 2, 5);
	mnl_attr_put_strz(nlh, 3, "four");
	mnl_attr_put_u32(nlh, 9, 1); /* not asked for */
	ck_assert_int_eq(nl_parse(nlh, 4, tb, 3), 0);
	ck_assert_uint_eq(nl_u32(tb[1]), 77);
	ck_assert_uint_eq(nl_u32(tb[2]), 0);
	ck_assert_uint_eq(nl_u16(tb[2]), 5);
	ck_assert(!nl_str(tb[3], name, sizeof(name)));
	ck_assert_str_eq(name, "");
	ck_assert_uint_eq(nl_u32(NULL), 0);
	ck_assert_int_eq(nl_parse(nlh, 4000, tb, 3), -EBADMSG);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("kern");
	Suite *s = suite_create("kern");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, test_route_round_trip);
	tcase_add_test(tc, test_left_out);
	tcase_add_test(tc, test_damaged);
	tcase_add_test(tc, test_attributes);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
