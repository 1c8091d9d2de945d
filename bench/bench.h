/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the benchmark drivers share: time, processes, network namespaces, raw rtnetlink, and the table
 * in which a figure stands beside its peer's and its floor's. Every failure ends the program: a
 * figure that was measured beside an error is worth nothing. Nothing of Margay's own netlink code is
 * used here, so that a fault of it cannot hide itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct nlmsghdr;

_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
double now_us(void);
void nap(int us);
/* An argument that must be a number from min to max. */
int number(const char *text, const char *what, int min, int max);

/* ---- figures ---- */

struct series {
	const char *name;
	double *v;
	size_t n;
	double rate; /* of them in a second, where several go on at once; 0: it is not shown */
};

void series_add(struct series *s, double value);
/* 0: it has no values. */
double median(const struct series *s);
/*
 * One table: minimum and percentiles of each series, and its median as a multiple of that of the first
 * series, which is ours; in brackets the least and the greatest such ratio in a third of the rounds, as a
 * sign of how steady it is. goal: of our median, 0 = none. Series without values are left out.
 * Afterwards the series are empty.
 */
void report(const char *title, const char *unit, struct series *s, size_t n, double goal);

/* ---- processes and namespaces ---- */

/* A network namespace, lo up, that goes with its last descriptor and process. */
int netns_new(void);
/* Further sockets and processes of this one are made in it. */
void netns_enter(int netns);
/* argv[0] is a path; output goes to the end of the file log (NULL = our stderr). */
pid_t spawn(const char *const argv[], const char *log);
/* Runs one to its end, which must be a good one. */
void run(const char *const argv[], const char *log);
/* SIGKILL, and waits. */
void stop(pid_t pid);

/* ---- rtnetlink ---- */

/* groups: RTMGRP_*. In the namespace that was entered. */
int rtnl_open(uint32_t groups);
/* The next message to build, in a buffer that rtnl_send sends and empties. */
struct nlmsghdr *rtnl_message(uint16_t type, uint16_t flags, size_t extra, void **ret_extra);
/* Ends the message. */
void rtnl_put(struct nlmsghdr *nlh);
size_t rtnl_pending(void); /* bytes to be sent */
/* Asks for an acknowledgement of the last message only, and dies of any error. */
void rtnl_send(int fd);
void rtnl_set_up(int fd, int ifindex, bool up);
/* dst in host order. del: the route is deleted. */
void rtnl_put_route(uint32_t dst, int ifindex, bool del);
/* A veth pair, both ends up without IPv6 addresses; the ends' indexes are ifindex and ifindex + 1. */
void rtnl_add_veth(int fd, const char *name, int ifindex);
/* How many IPv4 routes of protocol BENCH_PROTO are there; their destinations add up to *ret_sum. */
size_t rtnl_count_routes(uint64_t *ret_sum);
/*
 * Counts new routes of BENCH_PROTO at next to no cost, the same for everybody: a socket that listens
 * and is full, so that the kernel does no more than to count what it drops. A route through ifindex
 * fills it first.
 */
int rtnl_counter(int ifindex);
uint32_t rtnl_counted(int fd);

/* Hears of new routes to dst alone; true = of one, within the time. */
int rtnl_listen(uint32_t dst);
bool rtnl_heard(int fd, int timeout_ms);

#define BENCH_PROTO 80 /* felix's */

/* ---- the routes that everybody installs ---- */

#define ROUTES_LINKS 10
#define ROUTES_IFINDEX 1000000 /* of the first link; the next is two higher */

/* Route i: 10.64.0.0 + i through the link cali(i % ROUTES_LINKS). */
uint32_t route_dst(int i);
int route_ifindex(int i);
/* Makes the links, in the namespace that was entered. */
void routes_add_links(void);
