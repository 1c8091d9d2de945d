/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CNI ADD and DEL, from spawn to exit, of several plugins interleaved in one run:
 *
 *	bench_cni goals|warm|cold ROUNDS DIR NAME=PLUGIN=HOME[=PORT=AHEAD]...
 *
 *	HOME	a directory with the plugin's network configuration, netconf; where it has a program serve,
 *		that is a server which listens on run/cni.sock in it
 *	PORT	of the server's metrics, AHEAD how many addresses it holds ahead: it works on after its answers,
 *		and is let come to rest before the next call
 *
 * warm: the servers run. Each round gives every plugin a network namespace of its own, and runs ADD then DEL in
 * it; after that PODS at a time, WIDTHS of them in parallel. goals: the same, and the plugin named first is
 * judged, which is ours. cold: each call of ADD is the first one of its server.
 *
 * All namespaces are made before the first round and go after the last, because the kernel's clean-up of
 * a namespace would be measured with the next plugin. For the same reason there is a rest before each call. The
 * first round is not counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>

#include "bench.h"
#include "floor_cni.h"
#include "http.h"

#define MAX_PLUGINS 8
#define PODS 24	    /* at a time, in parallel */
#define N_NAMES 64  /* of pods, which take turns: the API server has to have them */
#define MAX_WIDTH 8 /* processes in flight */
#define REST_US 30000
#define REST_MANY_US 200000
#define FIT \
	7.0 /* times the peer's speed, which the floor has on a machine that is fit to measure on */
#define START_US 60e6 /* a server has so long to start, and to come to rest */

enum { ADD, DEL, N_VERBS };
static const char *const verbs[N_VERBS] = {"ADD", "DEL"};
static const int widths[] = {4, 8};
#define N_WIDTHS (sizeof(widths) / sizeof(widths[0]))

struct plugin {
	const char *name, *path, *home;
	int port, ahead;
	bool is_peer, is_floor;
	pid_t server; /* 0: it has none, or it does not run */
};

static const char *dir;
static struct plugin plugins[MAX_PLUGINS];
static int n_plugins, rtnl = -1;
static struct http *http;

/* ---- network namespaces ---- */

static void netns_path(char *path, size_t size, int plugin, int id)
{
	snprintf(path, size, "%s/ns-%d-%d", dir, plugin, id);
}

/* A namespace lives as long as the mount of its file. */
static void make_netns(int plugin, int id)
{
	char path[300];
	int fd, self = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	netns_path(path, sizeof(path), plugin, id);
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

static void drop_netns(int plugin, int id)
{
	char path[300];

	netns_path(path, sizeof(path), plugin, id);
	umount2(path, MNT_DETACH);
	unlink(path);
}

static void for_all_netns(int n, void (*fn)(int plugin, int id))
{
	for (int id = 0; id < n; id++)
		for (int i = 0; i < n_plugins; i++)
			fn(i, id);
}

/* ---- servers ---- */

static bool has(const struct plugin *p, const char *file, int mode)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", p->home, file);
	return access(path, mode) == 0;
}

static void start_server(struct plugin *p)
{
	char path[300], log[300];
	const char *const argv[] = {path, NULL};
	double start = now_us();

	if (!has(p, "serve", X_OK))
		return;
	snprintf(path, sizeof(path), "%s/serve", p->home);
	snprintf(log, sizeof(log), "%s/serve.log", p->home);
	p->server = spawn(argv, log);
	while (!has(p, "run/cni.sock", F_OK)) {
		if (waitpid(p->server, NULL, WNOHANG) != 0 || now_us() - start > START_US)
			die("%s: its server does not listen; its log is %s", p->name, log);
		nap(1000);
	}
}

static void end_server(struct plugin *p)
{
	if (p->server == 0)
		return;
	kill(p->server, SIGTERM);
	if (waitpid(p->server, NULL, 0) < 0)
		die("wait: %s", strerror(errno));
	p->server = 0;
}

static int metric(const char *text, const char *name)
{
	size_t n = strlen(name);

	for (; text; text = strchr(text, '\n')) {
		text += *text == '\n';
		if (strncmp(text, name, n) == 0 && text[n] == ' ')
			return atoi(text + n);
	}
	die("the server's metrics have no %s", name);
}

static bool listens(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool yes = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;

	close(fd);
	return yes;
}

/* Until nothing waits to be written to its datastore, and the addresses that it holds ahead are there. */
static void settle(const struct plugin *p, int ahead)
{
	char url[100];
	double start = now_us();

	if (p->port == 0)
		return;
	snprintf(url, sizeof(url), "http://127.0.0.1:%d/metrics", p->port);
	while (!listens(p->port)) {
		if (now_us() - start > START_US)
			die("%s: its server's metrics are not on port %d", p->name, p->port);
		nap(1000);
	}
	for (;;) {
		const char *text = http_call(http, NULL, url, NULL);

		if (metric(text, "margay_cni_journal_waiting") == 0 &&
			metric(text, "margay_cni_reserve_free{family=\"4\"}") >= ahead)
			return;
		if (now_us() - start > START_US)
			die("%s: its server does not come to rest: %s", p->name, text);
		nap(5000);
	}
}

/* ---- calls ---- */

struct running {
	pid_t pid;
	int plugin, verb, slot;
	double start;
};

static void out_path(char *path, size_t size, int slot)
{
	snprintf(path, size, "%s/out-%d", dir, slot);
}

static struct running start_call(int plugin, int verb, int id, int slot)
{
	const struct plugin *p = &plugins[plugin];
	char e_verb[32], e_ns[400], e_id[64], e_args[128], e_floor[300], e_run[300], e_state[300];
	char ifname[] = "CNI_IFNAME=eth0", path[] = "CNI_PATH=/usr/lib/cni:/opt/cni/bin";
	char search[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", conf[300], out[300], netns[300];
	char *argv[] = {strdup(p->path), NULL};
	char *env[] = {
		e_verb, e_ns, e_id, e_args, ifname, path, search, e_floor, e_run, e_state, NULL};
	struct running c = {.plugin = plugin, .verb = verb, .slot = slot};
	posix_spawn_file_actions_t fa;

	netns_path(netns, sizeof(netns), plugin, id);
	snprintf(e_verb, sizeof(e_verb), "CNI_COMMAND=%s", verbs[verb]);
	snprintf(e_ns, sizeof(e_ns), "CNI_NETNS=%s", netns);
	snprintf(e_id, sizeof(e_id), "CNI_CONTAINERID=bench%d-%d", plugin, id);
	snprintf(e_args, sizeof(e_args),
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-%d-%d", plugin,
		id % N_NAMES);
	snprintf(e_floor, sizeof(e_floor), "FLOOR_DIR=%s", dir);
	snprintf(e_run, sizeof(e_run), "MARGAY_RUN_DIR=%s/run", p->home);
	snprintf(e_state, sizeof(e_state), "MARGAY_CNI_STATE_DIR=%s/state", p->home);
	snprintf(conf, sizeof(conf), "%s/netconf", p->home);
	out_path(out, sizeof(out), slot);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, conf, O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	c.start = now_us();
	errno = posix_spawn(&c.pid, p->path, &fa, NULL, argv, env);
	if (errno)
		die("%s: %s", p->path, strerror(errno));
	posix_spawn_file_actions_destroy(&fa);
	free(argv[0]);
	return c;
}

static double end_call(const struct running *c, int status)
{
	double took = now_us() - c->start;
	char path[300], text[1024] = "";
	FILE *f;

	if (status == 0)
		return took;
	out_path(path, sizeof(path), c->slot);
	f = fopen(path, "r");
	if (f)
		text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	die("%s: %s failed: %s", plugins[c->plugin].name, verbs[c->verb], text);
}

static double call(int plugin, int verb, int id)
{
	struct running c = start_call(plugin, verb, id, 0);
	int status;

	if (waitpid(c.pid, &status, 0) < 0)
		die("wait: %s", strerror(errno));
	return end_call(&c, status);
}

static void wait_any(struct running *c, int n, struct series *took)
{
	int status, i;
	pid_t pid = waitpid(-1, &status, 0);

	for (i = 0; i < n && c[i].pid != pid; i++)
		;
	if (i == n)
		die("a server has ended while it was measured; its log is in %s", dir);
	series_add(took, end_call(&c[i], status));
	c[i].pid = 0;
}

/* Returns how many pods there were in a second. */
static double call_many(int plugin, int verb, int id, int width, struct series *took)
{
	struct running c[MAX_WIDTH] = {0};
	double start = now_us();

	for (int next = 0, ended = 0; ended < PODS;) {
		int slot = 0;

		while (slot < width && c[slot].pid)
			slot++;
		if (next < PODS && slot < width) {
			c[slot] = start_call(plugin, verb, id + next++, slot);
			continue;
		}
		wait_any(c, width, took);
		ended++;
	}
	return PODS * 1e6 / (now_us() - start);
}

/* What is left to do when a call has been answered, so that the next one is not measured with it. */
static void rest(int plugin, int verb, int ahead, int us)
{
	const struct plugin *p = &plugins[plugin];

	if (p->is_floor && verb == DEL) {
		struct ifinfomsg *ifi;
		struct nlmsghdr *nlh = rtnl_message(RTM_DELLINK, 0, sizeof(*ifi), (void **)&ifi);

		mnl_attr_put_u32(nlh, IFLA_GROUP, FLOOR_GROUP);
		rtnl_put(nlh);
		rtnl_send(rtnl);
	}
	nap(us);
	if (p->server)
		settle(p, ahead);
}

/* ---- what is measured ---- */

static void name_series(struct series *s)
{
	for (int i = 0; i < n_plugins; i++)
		s[i].name = plugins[i].name;
}

static int find(bool is_peer)
{
	for (int i = 0; i < n_plugins; i++)
		if (is_peer ? plugins[i].is_peer : plugins[i].is_floor)
			return i;
	return -1;
}

static void goal(const char *what, double have, double want, bool at_least)
{
	double miss = at_least ? 1 - have / want : have / want - 1;

	printf("  %s: %.2f, goal %g: ", what, have, want);
	if (miss <= 0)
		printf("met\n");
	else
		printf("MISSED by %.0f %%\n", miss * 100);
}

/* Returns how many times as fast as the peer's the floor's ADD is. */
static double serial(int rounds, bool judged)
{
	struct series us[N_VERBS][MAX_PLUGINS] = {0};
	int peer = find(true), floor = find(false);
	double ours[N_VERBS], add_peer, add_floor;

	for (int v = 0; v < N_VERBS; v++)
		name_series(us[v]);
	for (int r = 0; r <= rounds; r++)
		for (int v = 0; v < N_VERBS; v++)
			for (int i = 0; i < n_plugins; i++) {
				double took = call(i, v, r);

				if (r > 0)
					series_add(&us[v][i], took);
				rest(i, v, plugins[i].ahead ? 1 : 0, REST_US);
			}
	ours[ADD] = median(&us[ADD][0]);
	ours[DEL] = median(&us[DEL][0]);
	add_peer = peer < 0 ? 0 : median(&us[ADD][peer]);
	add_floor = floor < 0 ? 0 : median(&us[ADD][floor]);
	report("CNI ADD, one at a time", "us", us[ADD], (size_t)n_plugins, 0);
	report("CNI DEL, one at a time", "us", us[DEL], (size_t)n_plugins, 0);
	if (judged) {
		if (floor >= 0)
			goal("ADD, times the floor's", ours[ADD] / add_floor, 1.25, false);
		if (peer >= 0)
			goal("ADD, times as fast as the peer's", add_peer / ours[ADD], 8, true);
		goal("DEL, us", ours[DEL], 550, false);
		printf("\n");
	}
	fflush(stdout);
	return peer < 0 || floor < 0 ? FIT : add_peer / add_floor;
}

static void parallel(int rounds, int width, int id, bool judged)
{
	struct series us[N_VERBS][MAX_PLUGINS] = {0}, rate[N_VERBS][MAX_PLUGINS] = {0};
	double ours, theirs;
	int peer = find(true);
	char title[64];

	for (int v = 0; v < N_VERBS; v++)
		name_series(us[v]);
	for (int r = 0; r <= rounds; r++)
		for (int v = 0; v < N_VERBS; v++)
			for (int i = 0; i < n_plugins; i++) {
				struct series first = {0};
				double per_s;

				per_s = call_many(
					i, v, id + r * PODS, width, r > 0 ? &us[v][i] : &first);
				free(first.v);
				if (r > 0)
					series_add(&rate[v][i], per_s);
				rest(i, v, v == DEL ? plugins[i].ahead : 0, REST_MANY_US);
			}
	ours = median(&rate[ADD][0]);
	theirs = peer < 0 ? 0 : median(&rate[ADD][peer]);
	for (int v = 0; v < N_VERBS; v++) {
		for (int i = 0; i < n_plugins; i++) {
			us[v][i].rate = median(&rate[v][i]);
			free(rate[v][i].v);
		}
		snprintf(title, sizeof(title), "CNI %s, %d in parallel", verbs[v], width);
		report(title, "us", us[v], (size_t)n_plugins, 0);
	}
	if (judged && width == 4 && peer >= 0) {
		goal("ADD, 4 in parallel, times the peer's rate", ours / theirs, 7.5, true);
		printf("\n");
	}
	fflush(stdout);
}

static void warm(int rounds, bool judged)
{
	int many = rounds / 20 + 1, n = rounds + 1 + (int)N_WIDTHS * (many + 1) * PODS;
	double times;

	for_all_netns(n, make_netns);
	for (int i = 0; i < n_plugins; i++)
		start_server(&plugins[i]);
	for (int i = 0; i < n_plugins; i++)
		settle(&plugins[i], plugins[i].ahead);
	times = serial(rounds, judged);
	for (size_t w = 0; w < N_WIDTHS; w++)
		parallel(many, widths[w], rounds + 1 + (int)w * (many + 1) * PODS, judged);
	for (int i = 0; i < n_plugins; i++)
		end_server(&plugins[i]);
	for_all_netns(n, drop_netns);
	if (times < FIT)
		die("the floor's ADD is only %.1f times as fast as the peer's, want %g: no figure of this "
		    "run is worth anything: repeat it when nothing else runs on this machine",
			times, FIT);
}

static void cold(int rounds)
{
	struct series us[N_VERBS][MAX_PLUGINS] = {0};

	for (int v = 0; v < N_VERBS; v++)
		name_series(us[v]);
	for_all_netns(rounds + 1, make_netns);
	for (int r = 0; r <= rounds; r++)
		for (int i = 0; i < n_plugins; i++) {
			start_server(&plugins[i]);
			for (int v = 0; v < N_VERBS; v++) {
				double took = call(i, v, r);

				if (r > 0)
					series_add(&us[v][i], took);
				rest(i, v, 0, REST_US);
			}
			end_server(&plugins[i]);
		}
	report("CNI ADD, the first one of its server", "us", us[ADD], (size_t)n_plugins, 0);
	report("CNI DEL, after it", "us", us[DEL], (size_t)n_plugins, 0);
	for_all_netns(rounds + 1, drop_netns);
}

static void parse(struct plugin *p, char *spec)
{
	char *field[5] = {0};

	for (size_t i = 0; i < 5; i++)
		field[i] = strsep(&spec, "=");
	if (!field[2] || spec || (field[3] && !field[4]))
		die("\"%s\": want NAME=PLUGIN=HOME[=PORT=AHEAD]", field[0]);
	*p = (struct plugin){.name = field[0],
		.path = field[1],
		.home = field[2],
		.port = field[3] ? number(field[3], "port", 1, 65535) : 0,
		.ahead = field[3] ? number(field[4], "addresses ahead", 0, 1024) : 0,
		.is_peer = strncmp(field[0], "peer:", 5) == 0,
		.is_floor = strncmp(field[0], "floor:", 6) == 0};
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	bool judged = strcmp(mode, "goals") == 0;
	int rounds;

	n_plugins = argc - 4;
	if ((!judged && strcmp(mode, "warm") != 0 && strcmp(mode, "cold") != 0) || n_plugins < 1 ||
		n_plugins > MAX_PLUGINS)
		die("want goals, warm or cold, ROUNDS DIR NAME=PLUGIN=HOME[=PORT=AHEAD]...");
	rounds = number(argv[2], "rounds", 2, 2000);
	dir = argv[3];
	for (int i = 0; i < n_plugins; i++)
		parse(&plugins[i], argv[i + 4]);
	rtnl = rtnl_open(0);
	http = http_new(NULL, NULL);
	if (strcmp(mode, "cold") == 0)
		cold(rounds);
	else
		warm(rounds, judged);
	http_free(http);
	return 0;
}
