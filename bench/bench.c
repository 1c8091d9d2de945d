/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/filter.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/veth.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void die(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

void nap(int us)
{
	nanosleep(&(struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000}, NULL);
}

int number(const char *text, const char *what, int min, int max)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < min || n > max)
		die("%s \"%s\": want a number from %d to %d", what, text, min, max);
	return (int)n;
}

/* ---- figures ---- */

void series_add(struct series *s, double value)
{
	s->v = realloc(s->v, (s->n + 1) * sizeof(*s->v));
	if (!s->v)
		die("out of memory");
	s->v[s->n++] = value;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double percentile(const double *v, size_t n, size_t percent)
{
	double r, *sorted = malloc(n * sizeof(*v));

	if (!sorted)
		die("out of memory");
	memcpy(sorted, v, n * sizeof(*v));
	qsort(sorted, n, sizeof(*v), by_value);
	r = sorted[percent == 100 ? n - 1 : n * percent / 100];
	free(sorted);
	return r;
}

static void put_ratio(const struct series *s, const struct series *ours)
{
	double min = 0, max = 0, r;

	printf(" %8.2f", percentile(s->v, s->n, 50) / percentile(ours->v, ours->n, 50));
	if (s->n != ours->n || s->n < 9)
		return;
	for (size_t i = 0; i < 3; i++) {
		size_t from = s->n * i / 3, n = s->n * (i + 1) / 3 - from;

		r = percentile(s->v + from, n, 50) / percentile(ours->v + from, n, 50);
		min = i == 0 || r < min ? r : min;
		max = i == 0 || r > max ? r : max;
	}
	printf(" (%.2f-%.2f)", min, max);
}

double median(const struct series *s)
{
	return s->n > 0 ? percentile(s->v, s->n, 50) : 0;
}

void report(const char *title, const char *unit, struct series *s, size_t n, double goal)
{
	double mine;

	printf("%-42s %9s %9s %9s %9s %9s%s %8s\n", title, "min", "p50", "p90", "p99", "max",
		s[0].rate > 0 ? "  a second" : "", "x ours");
	for (size_t i = 0; i < n; i++) {
		if (s[i].n == 0)
			continue;
		printf("  %-40s %9.1f %9.1f %9.1f %9.1f %9.1f", s[i].name,
			percentile(s[i].v, s[i].n, 0), median(&s[i]),
			percentile(s[i].v, s[i].n, 90), percentile(s[i].v, s[i].n, 99),
			percentile(s[i].v, s[i].n, 100));
		if (s[i].rate > 0)
			printf(" %9.0f", s[i].rate);
		if (i > 0 && s[0].n > 0)
			put_ratio(&s[i], &s[0]);
		putchar('\n');
	}
	mine = median(&s[0]);
	if (goal > 0 && s[0].n > 0)
		printf("  in %s, %zu values; goal %g: %s, %.2f of it\n", unit, s[0].n, goal,
			mine <= goal ? "met" : "MISSED", mine / goal);
	else
		printf("  in %s, %zu values\n", unit, s[0].n);
	putchar('\n');
	fflush(stdout);
	for (size_t i = 0; i < n; i++) {
		free(s[i].v);
		s[i].v = NULL;
		s[i].n = 0;
		s[i].rate = 0;
	}
}

/* ---- processes and namespaces ---- */

static int own_netns(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die("/proc/thread-self/ns/net: %s", strerror(errno));
	return fd;
}

void netns_enter(int netns)
{
	if (setns(netns, CLONE_NEWNET) < 0)
		die("enter a network namespace: %s", strerror(errno));
}

int netns_new(void)
{
	int before = own_netns(), fd, rtnl;

	if (unshare(CLONE_NEWNET) < 0)
		die("make a network namespace (root is needed): %s", strerror(errno));
	fd = own_netns();
	rtnl = rtnl_open(0);
	rtnl_set_up(rtnl, 1, true);
	close(rtnl);
	netns_enter(before);
	close(before);
	return fd;
}

extern char **environ;

pid_t spawn(const char *const argv[], const char *log)
{
	posix_spawn_file_actions_t fa;
	char **args = (char **)(uintptr_t)argv;
	pid_t pid;
	int r;

	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	if (log)
		posix_spawn_file_actions_addopen(&fa, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (log)
		posix_spawn_file_actions_adddup2(&fa, 1, 2);
	r = posix_spawn(&pid, argv[0], &fa, NULL, args, environ);
	if (r)
		die("%s: %s", argv[0], strerror(r));
	posix_spawn_file_actions_destroy(&fa);
	return pid;
}

void run(const char *const argv[], const char *log)
{
	pid_t pid = spawn(argv, log);
	int status;

	if (waitpid(pid, &status, 0) < 0)
		die("wait: %s", strerror(errno));
	if (status)
		die("%s failed%s%s", argv[0], log ? "; its log is " : "", log ? log : "");
}

void stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* ---- rtnetlink ---- */

static _Alignas(struct nlmsghdr) char buf[65536];
static size_t len, last;
static uint32_t seq;

int rtnl_open(uint32_t groups)
{
	struct sockaddr_nl sa = {.nl_family = AF_NETLINK, .nl_groups = groups};
	int size = 64 << 20, fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		die("netlink socket: %s", strerror(errno));
	if (groups)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	return fd;
}

struct nlmsghdr *rtnl_message(uint16_t type, uint16_t flags, size_t extra, void **ret_extra)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf + len);

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	nlh->nlmsg_seq = ++seq;
	*ret_extra = mnl_nlmsg_put_extra_header(nlh, extra);
	return nlh;
}

void rtnl_put(struct nlmsghdr *nlh)
{
	last = len;
	len += MNL_ALIGN(nlh->nlmsg_len);
}

size_t rtnl_pending(void)
{
	return len;
}

void rtnl_send(int fd)
{
	struct nlmsghdr *nlh = (void *)(buf + last);
	char in[8192];

	if (len == 0)
		return;
	nlh->nlmsg_flags |= NLM_F_ACK;
	if (send(fd, buf, len, 0) < 0)
		die("netlink: %s", strerror(errno));
	len = 0;
	for (;;) {
		ssize_t n = recv(fd, in, sizeof(in), 0);
		const struct nlmsghdr *ack = (const void *)in;
		int left = (int)n;

		if (n < 0)
			die("netlink: %s", strerror(errno));
		for (; mnl_nlmsg_ok(ack, left); ack = mnl_nlmsg_next(ack, &left)) {
			const struct nlmsgerr *e = mnl_nlmsg_get_payload(ack);

			if (ack->nlmsg_type != NLMSG_ERROR)
				continue;
			if (e->error)
				die("netlink message of type %u: %s", e->msg.nlmsg_type,
					strerror(-e->error));
			if (ack->nlmsg_seq == seq)
				return;
		}
	}
}

void rtnl_set_up(int fd, int ifindex, bool up)
{
	struct ifinfomsg *ifi;
	struct nlmsghdr *nlh = rtnl_message(RTM_NEWLINK, 0, sizeof(*ifi), (void **)&ifi);

	ifi->ifi_index = ifindex;
	ifi->ifi_change = IFF_UP;
	ifi->ifi_flags = up ? IFF_UP : 0;
	rtnl_put(nlh);
	rtnl_send(fd);
}

void rtnl_put_route(uint32_t dst, int ifindex, bool del)
{
	struct rtmsg *rtm;
	struct nlmsghdr *nlh = rtnl_message(del ? RTM_DELROUTE : RTM_NEWROUTE,
		del ? 0 : NLM_F_CREATE | NLM_F_REPLACE, sizeof(*rtm), (void **)&rtm);

	rtm->rtm_family = AF_INET;
	rtm->rtm_dst_len = 32;
	rtm->rtm_table = RT_TABLE_MAIN;
	rtm->rtm_protocol = BENCH_PROTO;
	rtm->rtm_scope = RT_SCOPE_LINK;
	rtm->rtm_type = RTN_UNICAST;
	mnl_attr_put_u32(nlh, RTA_DST, htonl(dst));
	mnl_attr_put_u32(nlh, RTA_OIF, (uint32_t)ifindex);
	rtnl_put(nlh);
}

/* No IPv6 address: its detection of duplicates would go on during what is measured next. */
static void put_quiet(int ifindex)
{
	struct ifinfomsg *ifi;
	struct nlmsghdr *nlh = rtnl_message(RTM_NEWLINK, 0, sizeof(*ifi), (void **)&ifi);
	struct nlattr *spec, *af;

	ifi->ifi_index = ifindex;
	spec = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
	af = mnl_attr_nest_start(nlh, AF_INET6);
	mnl_attr_put_u8(nlh, IFLA_INET6_ADDR_GEN_MODE, 1);
	mnl_attr_nest_end(nlh, af);
	mnl_attr_nest_end(nlh, spec);
	rtnl_put(nlh);
}

void rtnl_add_veth(int fd, const char *name, int ifindex)
{
	struct nlattr *info, *data, *peer;
	struct ifinfomsg *ifi;
	char other[IFNAMSIZ];
	struct nlmsghdr *nlh =
		rtnl_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(*ifi), (void **)&ifi);

	snprintf(other, sizeof(other), "p%.14s", name);
	ifi->ifi_index = ifindex;
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(nlh, VETH_INFO_PEER);
	ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	ifi->ifi_index = ifindex + 1;
	mnl_attr_put_strz(nlh, IFLA_IFNAME, other);
	mnl_attr_nest_end(nlh, peer);
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, info);
	rtnl_put(nlh);
	put_quiet(ifindex);
	put_quiet(ifindex + 1);
	rtnl_send(fd);
	rtnl_set_up(fd, ifindex + 1, true);
	rtnl_set_up(fd, ifindex, true);
}

static int add_dst(const struct nlattr *a, void *arg)
{
	if (mnl_attr_get_type(a) == RTA_DST)
		*(uint64_t *)arg += ntohl(mnl_attr_get_u32(a));
	return MNL_CB_OK;
}

size_t rtnl_count_routes(uint64_t *ret_sum)
{
	int fd = rtnl_open(0), one = 1;
	struct nlmsghdr *nlh;
	struct rtmsg *rtm;
	char in[65536];
	size_t count = 0;

	*ret_sum = 0;
	(void)setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof(one));
	nlh = rtnl_message(RTM_GETROUTE, NLM_F_DUMP, sizeof(*rtm), (void **)&rtm);
	rtm->rtm_family = AF_INET;
	rtm->rtm_protocol = BENCH_PROTO;
	if (send(fd, buf, nlh->nlmsg_len, 0) < 0)
		die("netlink: %s", strerror(errno));
	for (;;) {
		ssize_t n = recv(fd, in, sizeof(in), 0);
		const struct nlmsghdr *m = (const void *)in;
		int left = (int)n;

		if (n < 0)
			die("netlink: %s", strerror(errno));
		for (; mnl_nlmsg_ok(m, left); m = mnl_nlmsg_next(m, &left)) {
			if (m->nlmsg_type == NLMSG_ERROR)
				die("the routes cannot be read");
			if (m->nlmsg_type == NLMSG_DONE) {
				close(fd);
				return count;
			}
			count++;
			(void)mnl_attr_parse(m, sizeof(*rtm), add_dst, ret_sum);
		}
	}
}

/* A filter's loads are big-endian, nlmsg_type is not. */
int rtnl_counter(int ifindex)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWROUTE), 0, 3),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS,
			NLMSG_HDRLEN + offsetof(struct rtmsg, rtm_protocol)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, BENCH_PROTO, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog prog = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
	int fd = rtnl_open(RTMGRP_IPV4_ROUTE), own = rtnl_open(0), size = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) < 0)
		die("socket options: %s", strerror(errno));
	for (int i = 0; i < 1000 && rtnl_counted(fd) == 0; i++)
		for (int del = 0; del < 2; del++) {
			rtnl_put_route(0x0a000000, ifindex, del);
			rtnl_send(own);
		}
	if (rtnl_counted(fd) == 0)
		die("a full netlink socket counts no events");
	close(own);
	return fd;
}

uint32_t rtnl_counted(int fd)
{
	uint32_t info[SK_MEMINFO_VARS] = {0};
	socklen_t size = sizeof(info);

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &size) < 0)
		die("SO_MEMINFO: %s", strerror(errno));
	return info[SK_MEMINFO_DROPS];
}

/* Where fib_dump_info() of the kernel puts the destination: after the headers and RTA_TABLE. */
#define DST_OFFSET (NLMSG_HDRLEN + sizeof(struct rtmsg) + 8 + NLA_HDRLEN)

int rtnl_listen(uint32_t dst)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWROUTE), 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, DST_OFFSET),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, dst, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog prog = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
	int fd = rtnl_open(RTMGRP_IPV4_ROUTE);

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0)
		die("filter a socket: %s", strerror(errno));
	return fd;
}

bool rtnl_heard(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char in[8192];

	return poll(&p, 1, timeout_ms) > 0 && recv(fd, in, sizeof(in), 0) > 0;
}

/* ---- the routes that everybody installs ---- */

uint32_t route_dst(int i)
{
	return 0x0a400000u + (uint32_t)i;
}

int route_ifindex(int i)
{
	return ROUTES_IFINDEX + 2 * (i % ROUTES_LINKS);
}

void routes_add_links(void)
{
	int fd = rtnl_open(0);
	char name[IFNAMSIZ];

	for (int i = 0; i < ROUTES_LINKS; i++) {
		snprintf(name, sizeof(name), "cali%d", i);
		rtnl_add_veth(fd, name, route_ifindex(i));
	}
	close(fd);
}
