/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CNI ADD and DEL, from spawn to exit, of several plugins interleaved in one run:
 *
 *	bench_cni ROUNDS DIR NAME=PLUGIN=NETCONF...
 *
 * Each round gives every plugin a network namespace of its own, and runs ADD then DEL in it. All
 * namespaces are made before the first round and go after the last, because the kernel's clean-up of
 * a namespace would be measured with the next plugin. The first round is cold and not counted.
 * For the same reason there is a rest before each call. The plugin named first is ours: the goals are
 * its.
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
#include <unistd.h>

#include "bench.h"

#define MAX_PLUGINS 8
#define REST_US 30000

struct plugin {
	const char *path, *netconf;
};

static const char *dir;

static void netns_path(char *path, size_t size, int plugin, int round)
{
	snprintf(path, size, "%s/ns-%d-%d", dir, plugin, round);
}

/* A namespace lives as long as the mount of its file. */
static void make_netns(int plugin, int round)
{
	char path[300];
	int fd, self = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	netns_path(path, sizeof(path), plugin, round);
	fd = open(path, O_CREAT | O_RDONLY | O_CLOEXEC, 0600);
	if (fd < 0 || unshare(CLONE_NEWNET) < 0)
		die("make a network namespace (root is needed): %s", strerror(errno));
	if (mount("/proc/thread-self/ns/net", path, "none", MS_BIND, NULL) < 0)
		die("%s: %s", path, strerror(errno));
	if (setns(self, CLONE_NEWNET) < 0)
		die("return to the first namespace: %s", strerror(errno));
	close(fd);
	close(self);
}

static void drop_netns(int plugin, int round)
{
	char path[300];

	netns_path(path, sizeof(path), plugin, round);
	umount2(path, MNT_DETACH);
	unlink(path);
}

static double call(const struct plugin *p, const char *verb, const char *netns, int id)
{
	char e_verb[32], e_ns[400], e_id[64], e_args[128], e_floor[300], e_run[300], out[300];
	char ifname[] = "CNI_IFNAME=eth0", path[] = "CNI_PATH=/usr/lib/cni:/opt/cni/bin";
	char search[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *argv[] = {NULL, NULL};
	char *env[] = {e_verb, e_ns, e_id, e_args, ifname, path, search, e_floor, e_run, NULL};
	posix_spawn_file_actions_t fa;
	int status;
	double start;
	pid_t pid;

	snprintf(e_verb, sizeof(e_verb), "CNI_COMMAND=%s", verb);
	snprintf(e_ns, sizeof(e_ns), "CNI_NETNS=%s", netns);
	snprintf(e_id, sizeof(e_id), "CNI_CONTAINERID=bench%d", id);
	snprintf(e_args, sizeof(e_args),
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-%d", id);
	snprintf(e_floor, sizeof(e_floor), "FLOOR_DIR=%s", dir);
	/* Where bench/run has the server. */
	snprintf(e_run, sizeof(e_run), "MARGAY_RUN_DIR=%s/run", dir);
	snprintf(out, sizeof(out), "%s/out", dir);
	argv[0] = strdup(p->path);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, p->netconf, O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	start = now_us();
	errno = posix_spawn(&pid, p->path, &fa, NULL, argv, env);
	if (errno)
		die("%s: %s", p->path, strerror(errno));
	if (waitpid(pid, &status, 0) < 0)
		die("wait: %s", strerror(errno));
	start = now_us() - start;
	posix_spawn_file_actions_destroy(&fa);
	free(argv[0]);
	if (status) {
		FILE *f = fopen(out, "r");
		char line[1024] = "";

		if (f)
			line[fread(line, 1, sizeof(line) - 1, f)] = '\0';
		die("%s %s failed: %s", p->path, verb, line);
	}
	return start;
}

int main(int argc, char **argv)
{
	struct plugin plugins[MAX_PLUGINS];
	struct series us[2][MAX_PLUGINS] = {0};
	static const char *const verbs[2] = {"ADD", "DEL"};
	static const double goals[2] = {1100, 550};
	int n = argc - 3, rounds;
	char path[300];

	if (n < 1 || n > MAX_PLUGINS)
		die("want ROUNDS DIR NAME=PLUGIN=NETCONF...");
	rounds = number(argv[1], "rounds", 2, 2000);
	dir = argv[2];
	for (int i = 0; i < n; i++) {
		char *spec = argv[i + 3], *plugin = strchr(spec, '='),
		     *conf = plugin ? strchr(plugin + 1, '=') : NULL;

		if (!conf)
			die("\"%s\": want NAME=PLUGIN=NETCONF", spec);
		*plugin = *conf = '\0';
		plugins[i] = (struct plugin){.path = plugin + 1, .netconf = conf + 1};
		us[0][i].name = us[1][i].name = spec;
	}
	for (int r = 0; r <= rounds; r++)
		for (int i = 0; i < n; i++)
			make_netns(i, r);
	for (int r = 0; r <= rounds; r++)
		for (int v = 0; v < 2; v++)
			for (int i = 0; i < n; i++) {
				double took;

				netns_path(path, sizeof(path), i, r);
				nap(REST_US);
				took = call(&plugins[i], verbs[v], path, r);
				if (r > 0)
					series_add(&us[v][i], took);
			}
	for (int r = 0; r <= rounds; r++)
		for (int i = 0; i < n; i++)
			drop_netns(i, r);
	report("CNI ADD, spawn to exit", "us", us[0], (size_t)n, goals[0]);
	report("CNI DEL, spawn to exit", "us", us[1], (size_t)n, goals[1]);
	return 0;
}
