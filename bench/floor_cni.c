/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The floor under a CNI plugin: the kernel work of ADD and DEL, an address from a locked counter
 * file and a result, with nothing else: no datastore, no checks, no error texts, and libc alone. bench_cni runs it
 * in the same loop as Margay, so that a figure can be read as a distance from what the kernel asks.
 *
 * ADD makes a veth pair with one queue in one batch of messages for each of its ends. DEL does what must be
 * done before a runtime is answered: the link is down, and its route with it. It is left in group
 * FLOOR_GROUP, which bench_cni deletes, since the kernel ends a deletion in its own time.
 *
 * Environment: CNI_COMMAND, CNI_NETNS, CNI_IFNAME, CNI_CONTAINERID; FLOOR_DIR holds the counter.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "floor_cni.h"

static char buf[16384];
static size_t len, last;
static uint32_t seq;
static const uint8_t host_mac[6] = {0xee, 0xee, 0xee, 0xee, 0xee, 0xee};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "floor_cni: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Room for n bytes more of a message, zeroed: the buffer is. */
static void *put(struct nlmsghdr *nlh, size_t n)
{
	void *p = (char *)nlh + NLMSG_ALIGN(nlh->nlmsg_len);

	nlh->nlmsg_len = (uint32_t)(NLMSG_ALIGN(nlh->nlmsg_len) + n);
	return p;
}

static struct nlmsghdr *message(uint16_t type, uint16_t flags, size_t extra, void **ret_extra)
{
	struct nlmsghdr *nlh = (struct nlmsghdr *)(void *)(buf + len);

	nlh->nlmsg_len = sizeof(*nlh);
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	nlh->nlmsg_seq = ++seq;
	*ret_extra = put(nlh, extra);
	return nlh;
}

static void put_attr(struct nlmsghdr *nlh, uint16_t type, const void *p, size_t n)
{
	struct nlattr *a = put(nlh, sizeof(*a) + n);

	a->nla_type = type;
	a->nla_len = (uint16_t)(sizeof(*a) + n);
	memcpy(a + 1, p, n);
}

static void put_u32(struct nlmsghdr *nlh, uint16_t type, uint32_t v)
{
	put_attr(nlh, type, &v, sizeof(v));
}

static void put_text(struct nlmsghdr *nlh, uint16_t type, const char *s)
{
	put_attr(nlh, type, s, strlen(s) + 1);
}

static struct nlattr *nest(struct nlmsghdr *nlh, uint16_t type)
{
	struct nlattr *a = put(nlh, sizeof(*a));

	a->nla_type = NLA_F_NESTED | type;
	return a;
}

static void nest_end(const struct nlmsghdr *nlh, struct nlattr *a)
{
	a->nla_len = (uint16_t)((const char *)nlh + nlh->nlmsg_len - (const char *)a);
}

static void done(const struct nlmsghdr *nlh)
{
	last = len;
	len += NLMSG_ALIGN(nlh->nlmsg_len);
}

/* Sends what has been built, and reads the acknowledgement of its last message, or the first error. */
static void flush(int fd, const char *what)
{
	struct nlmsghdr *end = (struct nlmsghdr *)(void *)(buf + last);
	char in[8192];

	end->nlmsg_flags |= NLM_F_ACK;
	if (send(fd, buf, len, 0) < 0)
		die(what);
	memset(buf, 0, len);
	len = 0;
	for (;;) {
		ssize_t n = recv(fd, in, sizeof(in), 0);
		struct nlmsghdr *nlh = (struct nlmsghdr *)(void *)in;
		uint32_t left = (uint32_t)n;

		if (n < 0)
			die(what);
		for (; NLMSG_OK(nlh, left); nlh = NLMSG_NEXT(nlh, left)) {
			const struct nlmsgerr *e = NLMSG_DATA(nlh);

			if (nlh->nlmsg_type != NLMSG_ERROR)
				continue;
			if (e->error) {
				errno = -e->error;
				die(what);
			}
			if (nlh->nlmsg_seq == seq)
				return;
		}
	}
}

static int rtnl(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		die("netlink socket");
	return fd;
}

/*
 * Address families' settings go in a message of their own: a link that is being created has none
 * yet (EAFNOSUPPORT since Linux 6.4), and with IFF_UP in the same message they would come too late.
 */
static void put_settings_and_up(uint32_t ifindex, bool proxy_arp)
{
	struct ifinfomsg *ifi;
	struct nlmsghdr *nlh = message(RTM_NEWLINK, 0, sizeof(*ifi), (void **)&ifi);
	struct nlattr *spec, *af, *conf;

	ifi->ifi_index = (int)ifindex;
	spec = nest(nlh, IFLA_AF_SPEC);
	if (proxy_arp) {
		af = nest(nlh, AF_INET);
		conf = nest(nlh, IFLA_INET_CONF);
		put_u32(nlh, IPV4_DEVCONF_PROXY_ARP, 1);
		put_u32(nlh, IPV4_DEVCONF_FORWARDING, 1);
		nest_end(nlh, conf);
		nest_end(nlh, af);
	}
	af = nest(nlh, AF_INET6);
	put_attr(nlh, IFLA_INET6_ADDR_GEN_MODE, &(uint8_t){1}, 1);
	nest_end(nlh, af);
	nest_end(nlh, spec);
	done(nlh);
	nlh = message(RTM_NEWLINK, 0, sizeof(*ifi), (void **)&ifi);
	ifi->ifi_index = (int)ifindex;
	ifi->ifi_flags = ifi->ifi_change = IFF_UP;
	done(nlh);
}

static void put_route(uint8_t plen, uint32_t dst, uint32_t gw, uint32_t oif, uint8_t scope)
{
	struct rtmsg *rtm;
	struct nlmsghdr *nlh =
		message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*rtm), (void **)&rtm);

	rtm->rtm_family = AF_INET;
	rtm->rtm_dst_len = plen;
	rtm->rtm_table = RT_TABLE_MAIN;
	rtm->rtm_protocol = 80;
	rtm->rtm_scope = scope;
	rtm->rtm_type = RTN_UNICAST;
	if (plen)
		put_u32(nlh, RTA_DST, dst);
	if (gw)
		put_u32(nlh, RTA_GATEWAY, gw);
	put_u32(nlh, RTA_OIF, oif);
	done(nlh);
}

static void put_neigh(uint32_t ip, const uint8_t mac[6], uint32_t ifindex)
{
	struct ndmsg *ndm;
	struct nlmsghdr *nlh =
		message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*ndm), (void **)&ndm);

	ndm->ndm_family = AF_INET;
	ndm->ndm_ifindex = (int)ifindex;
	ndm->ndm_state = NUD_PERMANENT;
	put_u32(nlh, NDA_DST, ip);
	put_attr(nlh, NDA_LLADDR, mac, 6);
	done(nlh);
}

static uint32_t next_number(void)
{
	char path[4096];
	uint32_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/counter", getenv("FLOOR_DIR"));
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		die(path);
	if (pread(fd, &n, sizeof(n), 0) < 0)
		die(path);
	n++;
	if (pwrite(fd, &n, sizeof(n), 0) != (ssize_t)sizeof(n))
		die(path);
	close(fd);
	return n;
}

/* By which DEL finds it again. */
static void host_name(char name[static IFNAMSIZ])
{
	snprintf(name, IFNAMSIZ, "fl%s", getenv("CNI_CONTAINERID"));
}

static void add(const char *ifname)
{
	uint32_t n = next_number(), ip = htonl(0xac100000u + n), gw = htonl(0xa9fe0101u);
	uint32_t host_index = 1000000 + 2 * n, pod_index = host_index + 1;
	uint8_t pod_mac[6] = {
		0x02, 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
	int host = rtnl(), pod, self = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int netns = open(getenv("CNI_NETNS"), O_RDONLY | O_CLOEXEC);
	struct nlattr *info, *data, *peer;
	struct ifinfomsg *ifi;
	struct nlmsghdr *nlh;
	char name[IFNAMSIZ];

	if (netns < 0)
		die(getenv("CNI_NETNS"));
	host_name(name);
	nlh = message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(*ifi), (void **)&ifi);
	ifi->ifi_index = (int)host_index;
	put_text(nlh, IFLA_IFNAME, name);
	put_attr(nlh, IFLA_ADDRESS, host_mac, 6);
	put_u32(nlh, IFLA_NUM_TX_QUEUES, 1);
	put_u32(nlh, IFLA_NUM_RX_QUEUES, 1);
	info = nest(nlh, IFLA_LINKINFO);
	put_text(nlh, IFLA_INFO_KIND, "veth");
	data = nest(nlh, IFLA_INFO_DATA);
	peer = nest(nlh, VETH_INFO_PEER);
	ifi = put(nlh, sizeof(*ifi));
	ifi->ifi_index = (int)pod_index;
	put_text(nlh, IFLA_IFNAME, ifname);
	put_attr(nlh, IFLA_ADDRESS, pod_mac, 6);
	put_u32(nlh, IFLA_NET_NS_FD, (uint32_t)netns);
	put_u32(nlh, IFLA_NUM_TX_QUEUES, 1);
	put_u32(nlh, IFLA_NUM_RX_QUEUES, 1);
	nest_end(nlh, peer);
	nest_end(nlh, data);
	nest_end(nlh, info);
	done(nlh);
	put_settings_and_up(host_index, true);
	put_route(32, ip, 0, host_index, RT_SCOPE_LINK);
	put_neigh(ip, pod_mac, host_index);
	flush(host, "create the veth pair");

	if (setns(netns, CLONE_NEWNET) < 0)
		die("enter the pod's namespace");
	pod = rtnl();
	if (setns(self, CLONE_NEWNET) < 0)
		die("leave the pod's namespace");
	put_settings_and_up(pod_index, false);
	struct ifaddrmsg *ifa;
	nlh = message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*ifa), (void **)&ifa);
	ifa->ifa_family = AF_INET;
	ifa->ifa_prefixlen = 32;
	ifa->ifa_index = pod_index;
	put_u32(nlh, IFA_LOCAL, ip);
	put_u32(nlh, IFA_ADDRESS, ip);
	done(nlh);
	put_route(32, gw, 0, pod_index, RT_SCOPE_LINK);
	put_route(0, 0, gw, pod_index, RT_SCOPE_UNIVERSE);
	put_neigh(gw, host_mac, pod_index);
	flush(pod, "set the pod's end up");
	printf("{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"172.16.%u.%u/32\"}]}\n",
		n >> 8 & 255, n & 255);
}

static void del(void)
{
	int fd = rtnl();
	struct ifinfomsg *ifi;
	struct nlmsghdr *nlh = message(RTM_NEWLINK, 0, sizeof(*ifi), (void **)&ifi);
	char name[IFNAMSIZ];

	host_name(name);
	ifi->ifi_change = IFF_UP;
	put_text(nlh, IFLA_IFNAME, name);
	put_u32(nlh, IFLA_GROUP, FLOOR_GROUP);
	done(nlh);
	flush(fd, "set the host's end down");
}

int main(void)
{
	const char *verb = getenv("CNI_COMMAND"), *ifname = getenv("CNI_IFNAME");
	char netconf[65536];

	if (!verb || !ifname || !getenv("CNI_NETNS") || !getenv("CNI_CONTAINERID") ||
		!getenv("FLOOR_DIR")) {
		fputs("floor_cni: run by bench_cni\n", stderr);
		return 1;
	}
	while (read(STDIN_FILENO, netconf, sizeof(netconf)) > 0)
		;
	if (strcmp(verb, "ADD") == 0)
		add(ifname);
	else
		del();
	return 0;
}
