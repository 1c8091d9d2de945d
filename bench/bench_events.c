/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast margay-felix answers what happens in the kernel, beside the floor, with ROUTES others there:
 *
 *	bench_events ROUTES ROUNDS DIR FELIX FLOOR FLOOR-ROUTES [IP]
 *
 *	link up		from just before the message that sets the link up, until the kernel has told of
 *			the route: the kernel's own work for the link is in it
 *	route back	from just before the message that deletes a route, until the kernel has told of
 *			the new one
 *
 * The peer, where there is one, is whoever runs `ip route replace` when the link is up. Each has a
 * namespace of its own. Each round deletes another route, as felix leaves one alone for a while that
 * somebody keeps deleting.
 */
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "bench.h"
#include "objects.h"

#define NODE "bench"
#define EVENT_DST 0x0a3f0001u /* 10.63.0.1 */
#define EVENT_LINK "cali-event"
#define EVENT_IFINDEX (ROUTES_IFINDEX + 2 * ROUTES_LINKS)
#define TIMEOUT_MS 10000
#define SETTLE_US 5000

enum { FELIX, IP, FLOOR, N };

struct contestant {
	const char *const *argv;
	int netns, rtnl;
};

static void wait_for_routes(size_t n)
{
	double until = now_us() + TIMEOUT_MS * 1e3;
	uint64_t sum;

	while (rtnl_count_routes(&sum) != n) {
		if (now_us() > until)
			die("want %zu routes in %d s, got %zu", n, TIMEOUT_MS / 1000,
				rtnl_count_routes(&sum));
		nap(10000);
	}
}

static double link_up(const struct contestant *c, const char *log)
{
	double start;
	pid_t pid = -1;
	int fd;

	netns_enter(c->netns);
	rtnl_set_up(c->rtnl, EVENT_IFINDEX, false);
	nap(SETTLE_US);
	fd = rtnl_listen(EVENT_DST);
	start = now_us();
	rtnl_set_up(c->rtnl, EVENT_IFINDEX, true);
	if (c->argv[1] && c->argv[2])
		pid = spawn(c->argv, log);
	if (!rtnl_heard(fd, TIMEOUT_MS))
		die("%s: the link is up, and no route in %d s", c->argv[0], TIMEOUT_MS / 1000);
	start = now_us() - start;
	if (pid > 0)
		waitpid(pid, NULL, 0);
	close(fd);
	return start;
}

static double route_back(const struct contestant *c, int i)
{
	double start;
	int fd;

	netns_enter(c->netns);
	nap(SETTLE_US);
	fd = rtnl_listen(route_dst(i));
	start = now_us();
	rtnl_put_route(route_dst(i), route_ifindex(i), true);
	rtnl_send(c->rtnl);
	if (!rtnl_heard(fd, TIMEOUT_MS))
		die("%s: a route was deleted, and is not back in %d s", c->argv[0],
			TIMEOUT_MS / 1000);
	start = now_us() - start;
	close(fd);
	return start;
}

static void prepare(struct contestant *c)
{
	c->netns = netns_new();
	netns_enter(c->netns);
	routes_add_links();
	c->rtnl = rtnl_open(0);
	rtnl_add_veth(c->rtnl, EVENT_LINK, EVENT_IFINDEX);
}

int main(int argc, char **argv)
{
	if (argc != 7 && argc != 8)
		die("want ROUTES ROUNDS DIR FELIX FLOOR FLOOR-ROUTES [IP]");
	int n = number(argv[1], "routes", 10, 1000000),
	    rounds = number(argv[2], "rounds", 2, 10000);
	auto_free char *db = mem_printf("%s/events-%d.db", argv[3], n);
	auto_free char *log = mem_printf("%s/events.log", argv[3]);
	auto_free char *dst = mem_printf("%u", EVENT_DST);
	auto_free char *proto = mem_printf("%d", BENCH_PROTO);
	auto_free char *up_title = mem_printf("link up to its route, %d others", n);
	auto_free char *back_title = mem_printf("a deleted route back, of %d", n);
	const char *const felix[] = {argv[4], NULL}, *const floor_argv[] = {argv[5], dst, NULL};
	const char *const ip[] = {argc == 8 ? argv[7] : NULL, "route", "replace", "10.63.0.1",
		"dev", EVENT_LINK, "proto", proto, "scope", "link", NULL};
	const char *const routes[] = {argv[6], argv[1], NULL};
	struct contestant c[N] = {{felix, -1, -1}, {ip, -1, -1}, {floor_argv, -1, -1}};
	struct series up[N] = {{.name = "margay-felix"}, {.name = "peer: exec of ip route replace"},
		{.name = "floor: a minimal process"}};
	struct series back[] = {{.name = "margay-felix"}, {.name = "floor: a minimal process"}};
	pid_t pid[N] = {0};

	struct store *st = objects_open(db);
	for (int i = 0; i < n; i++)
		objects_put_route(st, NODE, i);
	objects_put_endpoint(st, NODE, "event", EVENT_DST, EVENT_LINK);
	store_close(st);
	setenv("MARGAY_SQLITE_PATH", db, 1);
	setenv("NODENAME", NODE, 1);
	for (int i = 0; i < N; i++) {
		if (!c[i].argv[0])
			continue;
		prepare(&c[i]);
		if (i != FELIX)
			run(routes, log);
		if (i != IP)
			pid[i] = spawn(c[i].argv, log);
		wait_for_routes((size_t)(i == FELIX ? n + 1 : n));
	}
	nap(1000000);			    /* felix's start-up goes on after its routes */
	for (int r = 0; r <= rounds; r++) { /* the first is cold and does not count */
		for (int i = 0; i < N; i++) {
			double us = c[i].argv[0] ? link_up(&c[i], log) : 0;

			if (r > 0 && us > 0)
				series_add(&up[i], us);
		}
		for (int i = 0; i < N; i++) {
			double us = i != IP ? route_back(&c[i], r % n) : 0;

			if (r > 0 && us > 0)
				series_add(&back[i == FLOOR], us);
		}
	}
	for (int i = 0; i < N; i++)
		if (pid[i])
			stop(pid[i]);
	report(up_title, "us", up, N, 75);
	report(back_title, "us", back, 2, 1000);
	return 0;
}
