/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The floor under a reaction of felix to the kernel: a process that puts a link's route in place when the
 * link comes up, and one that was deleted back, as the event says; it knows and checks nothing else.
 * It is also the floor of memory: an agent that does nothing.
 *
 *	floor_events DST	(a number: the address of the link cali-event, in host order)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bench.h"

static uint32_t event_dst;
static bool was_up;

struct seen {
	const char *name;
	uint32_t dst, oif;
};

static int take_link(const struct nlattr *a, void *arg)
{
	if (mnl_attr_get_type(a) == IFLA_IFNAME)
		((struct seen *)arg)->name = mnl_attr_get_str(a);
	return MNL_CB_OK;
}

static int take_route(const struct nlattr *a, void *arg)
{
	struct seen *s = arg;

	if (mnl_attr_get_type(a) == RTA_DST)
		s->dst = ntohl(mnl_attr_get_u32(a));
	if (mnl_attr_get_type(a) == RTA_OIF)
		s->oif = mnl_attr_get_u32(a);
	return MNL_CB_OK;
}

static void on_message(const struct nlmsghdr *nlh, int fd)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	struct seen s = {0};

	if (nlh->nlmsg_type == RTM_NEWLINK) {
		bool up = ifi->ifi_flags & IFF_UP;

		(void)mnl_attr_parse(nlh, sizeof(*ifi), take_link, &s);
		if (!s.name || strcmp(s.name, "cali-event") != 0)
			return;
		if (up && !was_up) {
			rtnl_put_route(event_dst, ifi->ifi_index, false);
			rtnl_send(fd);
		}
		was_up = up;
	} else if (nlh->nlmsg_type == RTM_DELROUTE && rtm->rtm_protocol == BENCH_PROTO) {
		(void)mnl_attr_parse(nlh, sizeof(*rtm), take_route, &s);
		rtnl_put_route(s.dst, (int)s.oif, false);
		rtnl_send(fd);
	}
}

int main(int argc, char **argv)
{
	int events = rtnl_open(RTMGRP_LINK | RTMGRP_IPV4_ROUTE), fd = rtnl_open(0);
	static char in[32768];

	event_dst = (uint32_t)number(argc == 2 ? argv[1] : "", "address", 0, INT32_MAX);
	for (;;) {
		ssize_t n = recv(events, in, sizeof(in), 0);
		const struct nlmsghdr *nlh = (const void *)in;
		int left = (int)n;

		if (n < 0)
			die("netlink: %s", strerror(errno));
		for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left))
			on_message(nlh, fd);
	}
}
