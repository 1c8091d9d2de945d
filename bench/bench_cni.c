/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CNI ADD and DEL, from spawn to exit, of several plugins interleaved in one run:
 *
 *	bench_cni ROUNDS NAME=PLUGIN=NETCONF...
 *
 * Each round gives every plugin a network namespace of its own, and runs ADD then DEL in it. All
 * namespaces are made before the first round and go after the last, because the kernel's clean-up of
 * a namespace would be measured with the next plugin. The first round is cold and not counted.
 * Prints min, p50, p90, p99 in microseconds and the ratio of medians to the first plugin named.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_PLUGINS 8

struct plugin {
	const char *name, *path, *netconf;
	double *us[2]; /* ADD, DEL; one a round */
};

static char dir[] = "/run/bench-cni-XXXXXX";

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "bench_cni: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static void netns_path(char *path, size_t size, int plugin, int round)
{
	snprintf(path, size, "%s/ns-%d-%d", dir, plugin, round);
}

/* A namespace lives as long as the mount of its file. */
static void make_netns(int plugin, int round)
{
	char path[128];
	int fd, self = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	netns_path(path, sizeof(path), plugin, round);
	fd = open(path, O_CREAT | O_RDONLY | O_CLOEXEC, 0600);
	if (fd < 0 || unshare(CLONE_NEWNET) < 0)
		die("make a network namespace (root is needed)");
	if (mount("/proc/thread-self/ns/net", path, "none", MS_BIND, NULL) < 0)
		die(path);
	if (setns(self, CLONE_NEWNET) < 0)
		die("return to the first namespace");
	close(fd);
	close(self);
}

static void drop_netns(int plugin, int round)
{
	char path[128];

	netns_path(path, sizeof(path), plugin, round);
	umount2(path, MNT_DETACH);
	unlink(path);
}

static double run(const struct plugin *p, const char *verb, const char *netns, int id)
{
	char e_verb[32], e_ns[160], e_id[64], e_floor[128], out[256];
	char ifname[] = "CNI_IFNAME=eth0", path[] = "CNI_PATH=/usr/lib/cni:/opt/cni/bin";
	char search[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *argv[] = {NULL, NULL};
	char *env[] = {e_verb, e_ns, e_id, ifname, path, search, e_floor, NULL};
	posix_spawn_file_actions_t fa;
	int status;
	double start;
	pid_t pid;

	snprintf(e_verb, sizeof(e_verb), "CNI_COMMAND=%s", verb);
	snprintf(e_ns, sizeof(e_ns), "CNI_NETNS=%s", netns);
	snprintf(e_id, sizeof(e_id), "CNI_CONTAINERID=bench%d%s", id, p->name);
	snprintf(e_floor, sizeof(e_floor), "FLOOR_DIR=%s", dir);
	snprintf(out, sizeof(out), "%s/out", dir);
	argv[0] = strdup(p->path);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, p->netconf, O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	start = now_us();
	errno = posix_spawn(&pid, p->path, &fa, NULL, argv, env);
	if (errno)
		die(p->path);
	if (waitpid(pid, &status, 0) < 0)
		die("wait");
	start = now_us() - start;
	posix_spawn_file_actions_destroy(&fa);
	free(argv[0]);
	if (status) {
		FILE *f = fopen(out, "r");
		char line[1024] = "";

		if (f)
			line[fread(line, 1, sizeof(line) - 1, f)] = '\0';
		fprintf(stderr, "bench_cni: %s %s failed: %s\n", p->name, verb, line);
		exit(1);
	}
	return start;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void report(struct plugin *plugins, int n_plugins, int verb, int rounds)
{
	double first = 0;

	printf("%-6s %-16s %9s %9s %9s %9s %8s\n", verb ? "DEL" : "ADD", "plugin", "min us",
		"p50 us", "p90 us", "p99 us", "x first");
	for (int i = 0; i < n_plugins; i++) {
		double *v = plugins[i].us[verb] + 1; /* without the cold round */
		int n = rounds - 1;

		qsort(v, (size_t)n, sizeof(*v), by_value);
		if (i == 0)
			first = v[n / 2];
		printf("%-6s %-16s %9.0f %9.0f %9.0f %9.0f %8.2f\n", "", plugins[i].name, v[0],
			v[n / 2], v[n * 9 / 10], v[n * 99 / 100], v[n / 2] / first);
	}
}

int main(int argc, char **argv)
{
	struct plugin plugins[MAX_PLUGINS];
	int rounds = argc > 2 ? atoi(argv[1]) : 0, n = argc - 2;

	if (rounds < 2 || n < 1 || n > MAX_PLUGINS) {
		fputs("usage: bench_cni ROUNDS NAME=PLUGIN=NETCONF...\n", stderr);
		return 2;
	}
	for (int i = 0; i < n; i++) {
		char *spec = argv[i + 2], *path = strchr(spec, '='),
		     *conf = path ? strchr(path + 1, '=') : NULL;

		if (!conf) {
			fprintf(stderr, "bench_cni: \"%s\": want NAME=PLUGIN=NETCONF\n", spec);
			return 2;
		}
		*path = *conf = '\0';
		plugins[i] = (struct plugin){.name = spec, .path = path + 1, .netconf = conf + 1};
		for (int v = 0; v < 2; v++)
			plugins[i].us[v] = calloc((size_t)rounds, sizeof(double));
	}
	if (!mkdtemp(dir)) /* kept, for a look, when a plugin fails */
		die(dir);
	for (int r = 0; r < rounds; r++)
		for (int i = 0; i < n; i++)
			make_netns(i, r);
	for (int r = 0; r < rounds; r++) {
		for (int i = 0; i < n; i++) {
			char ns[128];

			netns_path(ns, sizeof(ns), i, r);
			plugins[i].us[0][r] = run(&plugins[i], "ADD", ns, r);
		}
		for (int i = 0; i < n; i++) {
			char ns[128];

			netns_path(ns, sizeof(ns), i, r);
			plugins[i].us[1][r] = run(&plugins[i], "DEL", ns, r);
		}
	}
	for (int r = 0; r < rounds; r++)
		for (int i = 0; i < n; i++)
			drop_netns(i, r);
	char path[128];
	snprintf(path, sizeof(path), "%s/out", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/counter", dir);
	unlink(path);
	rmdir(dir);
	report(plugins, n, 0, rounds);
	report(plugins, n, 1, rounds);
	return 0;
}
