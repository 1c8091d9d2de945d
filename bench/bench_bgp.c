/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a block that is claimed on one node to its route in another node's kernel:
 *
 *	bench_bgp ROUNDS DIR CONFD BIRD
 *
 * Two namespaces, a veth pair between them, stock BIRD and margay-confd in each, one datastore. Timed is
 * from just before the block's affinity is written as confirmed, until the kernel of the other node has
 * told of the route. The floor is two more namespaces with BIRD alone: from just before the block is
 * written into its configuration and BIRD is told to read it. What BIRD itself needs is in both.
 *
 * Then a route of BIRD's is deleted by hand: margay-confd has BIRD write it again, which alone it
 * does at its next scan, so that nothing can be beside that.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "bench.h"
#include "objects.h"

#define V3 "/calico/resources/v3/projectcalico.org/"
#define TIMEOUT_MS 30000
#define SETTLE_US 100000
#define REST_US 500000 /* confd tells BIRD at most once in 400 ms */

enum { OURS, FLOOR, N };

struct lab {
	const char *dir;
	uint32_t block; /* the first, /24; the next are above */
	int netns[2];
	pid_t bird[2], confd[2];
	struct store *st;
	FILE *blocks; /* the floor's */
	int ctl;
};

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	if (!f || fputs(text, f) < 0 || fclose(f) != 0)
		die("%s: %s", path, strerror(errno));
}

/* ---- two machines ---- */

static void put_address(int fd, int ifindex, uint32_t ip)
{
	struct ifaddrmsg *ifa;
	struct nlmsghdr *nlh = rtnl_message(
		RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*ifa), (void **)&ifa);

	ifa->ifa_family = AF_INET;
	ifa->ifa_prefixlen = 24;
	ifa->ifa_index = (uint32_t)ifindex;
	mnl_attr_put_u32(nlh, IFA_LOCAL, htonl(ip));
	mnl_attr_put_u32(nlh, IFA_ADDRESS, htonl(ip));
	rtnl_put(nlh);
	rtnl_send(fd);
}

/* A pair is made in the first namespace; its other end is moved to the second. */
static void make_machines(struct lab *l)
{
	enum { INDEX = 1000 };
	struct ifinfomsg *ifi;
	struct nlmsghdr *nlh;
	int fd;

	l->netns[0] = netns_new();
	l->netns[1] = netns_new();
	netns_enter(l->netns[0]);
	fd = rtnl_open(0);
	rtnl_add_veth(fd, "eth0", INDEX);
	nlh = rtnl_message(RTM_NEWLINK, 0, sizeof(*ifi), (void **)&ifi);
	ifi->ifi_index = INDEX + 1;
	mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, (uint32_t)l->netns[1]);
	rtnl_put(nlh);
	rtnl_send(fd);
	put_address(fd, INDEX, 0x0a090001);
	close(fd);
	netns_enter(l->netns[1]);
	fd = rtnl_open(0);
	rtnl_set_up(fd, INDEX + 1, true);
	put_address(fd, INDEX + 1, 0x0a090002);
	close(fd);
}

static void start_bird(struct lab *l, int i, const char *bird)
{
	auto_free char *conf = mem_printf("%s/%d/bird.conf", l->dir, i);
	auto_free char *ctl = mem_printf("%s/%d/bird.ctl", l->dir, i);
	auto_free char *pid = mem_printf("%s/%d/bird.pid", l->dir, i);
	auto_free char *log = mem_printf("%s/%d/bird.log", l->dir, i);
	const char *const argv[] = {bird, "-f", "-c", conf, "-s", ctl, "-P", pid, NULL};

	for (int n = 0; access(conf, R_OK) < 0; n++) {
		if (n == 1000)
			die("%s was not written in 10 s", conf);
		nap(10000);
	}
	netns_enter(l->netns[i]);
	l->bird[i] = spawn(argv, log);
}

/* ---- ours ---- */

static void start_ours(struct lab *l, const char *confd, const char *bird)
{
	auto_free char *db = mem_printf("%s/db", l->dir);
	const char *const argv[] = {confd, NULL};

	l->st = objects_open(db);
	objects_put(l->st, V3 "ippools/p",
		"{\"kind\":\"IPPool\",\"metadata\":{\"name\":\"p\"},\"spec\":{\"cidr\":\"10.244.0.0/16\","
		"\"blockSize\":24,\"ipipMode\":\"Never\",\"vxlanMode\":\"Never\"}}");
	setenv("MARGAY_SQLITE_PATH", db, 1);
	for (int i = 0; i < 2; i++) {
		auto_free char *key = mem_printf(V3 "nodes/n%d", i + 1);
		auto_free char *node =
			mem_printf("{\"kind\":\"Node\",\"metadata\":{\"name\":\"n%d\"},\"spec\":{"
				   "\"bgp\":{\"ipv4Address\":\"10.9.0.%d/24\"}}}",
				i + 1, i + 1);

		objects_put(l->st, key, node);
	}
	for (int i = 0; i < 2; i++) {
		auto_free char *name = mem_printf("n%d", i + 1);
		auto_free char *dir = mem_printf("%s/%d", l->dir, i);
		auto_free char *ctl = mem_printf("%s/bird.ctl", dir);
		auto_free char *log = mem_printf("%s/confd.log", dir);

		setenv("NODENAME", name, 1);
		setenv("MARGAY_RUN_DIR", dir, 1);
		setenv("BIRD_CONF_DIR", dir, 1);
		setenv("BIRD_CTL", ctl, 1);
		netns_enter(l->netns[i]);
		l->confd[i] = spawn(argv, log);
		start_bird(l, i, bird);
	}
}

static void claim_ours(const struct lab *l, uint32_t block)
{
	auto_free char *key = mem_printf("/calico/ipam/v2/host/n1/ipv4/block/%u.%u.%u.0-24",
		block >> 24, block >> 16 & 255, block >> 8 & 255);

	objects_put(l->st, key, "{\"state\":\"confirmed\",\"deleted\":false}");
}

/* ---- the floor ---- */

static void connect_floor(struct lab *l)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	l->ctl = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/0/bird.ctl", l->dir);
	for (int n = 0; connect(l->ctl, (struct sockaddr *)&sa, sizeof(sa)) < 0; n++) {
		if (n == 1000)
			die("%s: %s", sa.sun_path, strerror(errno));
		nap(10000);
	}
}

static void start_floor(struct lab *l, const char *bird)
{
	auto_free char *blocks = mem_printf("%s/0/blocks.inc", l->dir);

	l->blocks = fopen(blocks, "w");
	if (!l->blocks)
		die("%s: %s", blocks, strerror(errno));
	for (int i = 0; i < 2; i++) {
		auto_free char *path = mem_printf("%s/%d/bird.conf", l->dir, i);
		auto_free char *text = mem_printf(
			"log stderr all;\nrouter id 10.9.0.%d;\n"
			"protocol device { scan time 10; }\n"
			"protocol kernel { learn; persist; metric 0; scan time 10;\n"
			"	ipv4 { import all; export where source = RTS_BGP; }; }\n"
			"protocol static blocks { ipv4;\n%s}\n"
			"protocol bgp peer { connect delay time 1; connect retry time 1;\n"
			"	local 10.9.0.%d as 64512; neighbor 10.9.0.%d as 64512;\n"
			"	ipv4 { import all; export where proto = \"blocks\"; next hop self; }; }\n",
			i + 1, i == 0 ? "include \"blocks.inc\";\n" : "", i + 1, 2 - i);

		write_file(path, text);
		start_bird(l, i, bird);
	}
	connect_floor(l);
}

/* Its answers are left unread: the route is what counts. */
static void claim_floor(const struct lab *l, uint32_t block)
{
	fprintf(l->blocks, "route %u.%u.%u.0/24 blackhole;\n", block >> 24, block >> 16 & 255,
		block >> 8 & 255);
	if (fflush(l->blocks) != 0 || write(l->ctl, "configure\n", 10) != 10)
		die("write a block, and tell BIRD: %s", strerror(errno));
}

/* ---- figures ---- */

static double claim(const struct lab *l, int n)
{
	uint32_t block = l->block + ((uint32_t)n << 8);
	double start;
	int fd;

	netns_enter(l->netns[1]);
	fd = rtnl_listen(block);
	start = now_us();
	if (l->st)
		claim_ours(l, block);
	else
		claim_floor(l, block);
	if (!rtnl_heard(fd, TIMEOUT_MS))
		die("block %08x came to no route in %d s; the logs are in %s", block,
			TIMEOUT_MS / 1000, l->dir);
	start = now_us() - start;
	close(fd);
	return start / 1e3;
}

static double delete_route(const struct lab *l)
{
	struct rtmsg *rtm;
	struct nlmsghdr *nlh;
	double start;
	int fd, rtnl;

	netns_enter(l->netns[1]);
	fd = rtnl_listen(l->block);
	rtnl = rtnl_open(0);
	start = now_us();
	nlh = rtnl_message(RTM_DELROUTE, 0, sizeof(*rtm), (void **)&rtm);
	rtm->rtm_family = AF_INET;
	rtm->rtm_dst_len = 24;
	rtm->rtm_table = RT_TABLE_MAIN;
	rtm->rtm_scope = RT_SCOPE_NOWHERE; /* any */
	mnl_attr_put_u32(nlh, RTA_DST, htonl(l->block));
	rtnl_put(nlh);
	rtnl_send(rtnl);
	if (!rtnl_heard(fd, TIMEOUT_MS))
		die("a route of BIRD's was deleted, and is not back in %d s", TIMEOUT_MS / 1000);
	start = now_us() - start;
	close(rtnl);
	close(fd);
	return start / 1e3;
}

static void make_dirs(const struct lab *l)
{
	for (int i = 0; i < 3; i++) {
		auto_free char *dir =
			i == 0 ? mem_strdup(l->dir) : mem_printf("%s/%d", l->dir, i - 1);

		if (mkdir(dir, 0755) < 0)
			die("%s: %s", dir, strerror(errno));
	}
}

int main(int argc, char **argv)
{
	if (argc != 5)
		die("want ROUNDS DIR CONFD BIRD");
	int rounds = number(argv[1], "rounds", 2, 200);
	auto_free char *ours = mem_printf("%s/bgp-ours", argv[2]);
	auto_free char *floor_dir = mem_printf("%s/bgp-floor", argv[2]);
	struct lab lab[N] = {
		{.dir = ours, .block = 0x0af40000}, {.dir = floor_dir, .block = 0x0af50000}};
	struct series s[N] = {
		{.name = "margay-confd and BIRD"}, {.name = "floor: BIRD, its file and configure"}};
	struct series back = {.name = "margay-confd and BIRD"};

	for (int i = 0; i < N; i++) {
		make_dirs(&lab[i]);
		make_machines(&lab[i]);
	}
	start_ours(&lab[OURS], argv[3], argv[4]);
	start_floor(&lab[FLOOR], argv[4]);
	for (int r = 0; r <= rounds; r++) /* the first waits for BGP and does not count */
		for (int i = 0; i < N; i++) {
			double ms;

			nap(SETTLE_US);
			ms = claim(&lab[i], r);
			if (r > 0)
				series_add(&s[i], ms);
		}
	report("block claimed to the other node's route", "ms", s, N, 25);
	for (int r = 0; r <= rounds; r++) {
		double ms;

		nap(REST_US);
		ms = delete_route(&lab[OURS]);
		if (r > 0)
			series_add(&back, ms);
	}
	report("a deleted route of BIRD's back", "ms", &back, 1, 0);
	for (int i = 0; i < N; i++)
		for (int n = 0; n < 2; n++) {
			stop(lab[i].bird[n]);
			if (lab[i].confd[n])
				stop(lab[i].confd[n]);
		}
	store_close(lab[OURS].st);
	return 0;
}
