/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A cold start of margay-felix with many routes, beside `ip -batch` and the floor:
 *
 *	bench_routes ROUTES ROUNDS DIR FELIX FLOOR [IP]
 *
 * From spawn until the kernel has the last route. The routes are those of as many WorkloadEndpoints in
 * a SQLite datastore, one address each, through ten links: `ip` and the floor have theirs ready-made.
 * So felix's time is told in two parts: until its first route it starts, reads the datastore and decodes
 * (it installs nothing before all endpoints are read), from there on it programs the kernel. `store`
 * is how long a process takes to read the same objects from the same file and to do nothing with them.
 *
 * Each contestant has a namespace of its own. Between rounds its links go down and up, which takes
 * the routes away. What is there in the end is counted every time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "bench.h"
#include "model/key.h"
#include "objects.h"
#include "store/store.h"

#define NODE "bench"
#define TIMEOUT_MS 120000
#define NAP_US 50

enum { FELIX, IP, FLOOR, N };

struct contestant {
	const char *const *argv;
	int netns, counter;
};

static void fill_store(const char *path, int n)
{
	auto_(store) struct store *st = objects_open(path);

	for (int i = 0; i < n; i++)
		objects_put_route(st, NODE, i);
}

/* Spawns this program once more, which reads the datastore. */
static int read_store(const char *path)
{
	auto_(store) struct store *st = objects_open(path);
	struct err err = ERR_INIT;
	struct store_list l;

	if (store_list_wait(st, kind_info(KIND_WORKLOADENDPOINT)->root, 0, &l, &err) < 0)
		die("%s", err_text(&err));
	store_list_done(&l);
	return 0;
}

static void write_batch(const char *path, int n)
{
	FILE *f = fopen(path, "w");

	for (int i = 0; f && i < n; i++) {
		uint32_t d = route_dst(i);

		fprintf(f, "route replace %u.%u.%u.%u/32 dev cali%d proto %d scope link\n", d >> 24,
			d >> 16 & 255, d >> 8 & 255, d & 255, i % ROUTES_LINKS, BENCH_PROTO);
	}
	if (!f || fclose(f) != 0)
		die("%s cannot be written", path);
}

static void prepare(struct contestant *c)
{
	c->netns = netns_new();
	netns_enter(c->netns);
	routes_add_links();
	c->counter = rtnl_counter(route_ifindex(0));
}

static void wait_for_routes(const struct contestant *c, uint32_t n, uint32_t before, double start,
	double *ret_first, double *ret)
{
	uint32_t count = 0;

	*ret_first = 0;
	while (count < n) {
		nap(NAP_US);
		count = rtnl_counted(c->counter) - before;
		*ret = (now_us() - start) / 1e3;
		if (*ret_first == 0 && count > 0)
			*ret_first = *ret;
		if (*ret > TIMEOUT_MS)
			die("%s: %u of %u routes in %d s", c->argv[0], count, n, TIMEOUT_MS / 1000);
	}
}

static void check_routes(const struct contestant *c, int n)
{
	uint64_t sum, want = 0;
	size_t count = rtnl_count_routes(&sum);

	for (int i = 0; i < n; i++)
		want += route_dst(i);
	if (count != (size_t)n || sum != want)
		die("%s: %zu routes are there after the last, want %d", c->argv[0], count, n);
}

/* Takes the routes away. */
static void clear(void)
{
	uint64_t sum;
	int fd = rtnl_open(0);

	for (int up = 0; up < 2; up++)
		for (int i = 0; i < ROUTES_LINKS; i++)
			rtnl_set_up(fd, route_ifindex(i), up);
	close(fd);
	if (rtnl_count_routes(&sum) != 0)
		die("routes are left of the last round");
}

static void measure(
	const struct contestant *c, int n, const char *log, double *ret_first, double *ret)
{
	uint32_t before = rtnl_counted(c->counter);
	double start;
	pid_t pid;

	netns_enter(c->netns);
	start = now_us();
	pid = spawn(c->argv, log);
	wait_for_routes(c, (uint32_t)n, before, start, ret_first, ret);
	check_routes(c, n);
	if (c->argv[1]) {
		int status;

		if (waitpid(pid, &status, 0) < 0 || status)
			die("%s failed; its log is %s", c->argv[0], log);
	} else {
		stop(pid); /* felix would go on */
	}
	clear();
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "read") == 0)
		return read_store(argv[2]);
	if (argc != 6 && argc != 7)
		die("want ROUTES ROUNDS DIR FELIX FLOOR [IP]");
	int n = number(argv[1], "routes", 1, 1000000), rounds = number(argv[2], "rounds", 2, 10000);
	const char *dir = argv[3];
	auto_free char *db = mem_printf("%s/routes.db", dir);
	auto_free char *batch = mem_printf("%s/routes.batch", dir);
	auto_free char *log = mem_printf("%s/routes.log", dir);
	auto_free char *title = mem_printf("cold start with %d routes", n);
	const char *const felix[] = {argv[4], NULL}, *const floor_argv[] = {argv[5], argv[1], NULL};
	const char *const ip[] = {argc == 7 ? argv[6] : NULL, "-batch", batch, NULL};
	const char *const reader[] = {"/proc/self/exe", "read", db, NULL};
	struct contestant c[N] = {{felix, -1, -1}, {ip, -1, -1}, {floor_argv, -1, -1}};
	enum { TOTAL, S_IP, S_FLOOR, START, PROGRAM, STORE, N_SERIES };
	struct series s[N_SERIES] = {[TOTAL] = {.name = "margay-felix, spawn to last route"},
		[S_IP] = {.name = "peer: ip -batch"},
		[S_FLOOR] = {.name = "floor: netlink batches"},
		[START] = {.name = "felix until its first route"},
		[PROGRAM] = {.name = "felix from first to last route"},
		[STORE] = {.name = "reading the datastore alone"}};

	fill_store(db, n);
	write_batch(batch, n);
	setenv("MARGAY_SQLITE_PATH", db, 1);
	setenv("NODENAME", NODE, 1);
	for (int i = 0; i < N; i++)
		if (c[i].argv[0])
			prepare(&c[i]);
	for (int r = 0; r <= rounds; r++) { /* the first is cold and does not count */
		double first[N], all[N], start;

		for (int i = 0; i < N; i++)
			if (c[i].argv[0])
				measure(&c[i], n, log, &first[i], &all[i]);
		start = now_us();
		run(reader, log);
		start = (now_us() - start) / 1e3;
		if (r == 0)
			continue;
		series_add(&s[TOTAL], all[FELIX]);
		series_add(&s[S_FLOOR], all[FLOOR]);
		series_add(&s[START], first[FELIX]);
		series_add(&s[PROGRAM], all[FELIX] - first[FELIX]);
		series_add(&s[STORE], start);
		if (c[IP].argv[0])
			series_add(&s[S_IP], all[IP]);
	}
	report(title, "ms", s, N_SERIES, n / 250.0);
	return 0;
}
