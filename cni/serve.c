/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * margay-cni serve: a parent that opens the socket and keeps its children running. It has nothing else,
 * so that a child is made anew whenever one dies: workers, which run verbs, waiters, which run those that
 * wait for others, the reaper of links, the keeper of the journal, and the monitor, which has health and metrics.
 */
#define LOG_MODULE "cni"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "cni/cni.h"
#include "cni/home.h"
#include "cni/journal.h"
#include "cni/keeper.h"
#include "cni/main.h"
#include "cni/monitor.h"
#include "cni/pipe.h"
#include "cni/reaper.h"
#include "cni/shared.h"
#include "cni/worker.h"
#include "model/node.h"
#include "store/params.h"
#include "svc/common_params.h"
#include "svc/param.h"

#define MAX_WORKERS SHARED_MAX_WAITERS

enum {
	BACKLOG = 1024,
	STOP_TIMEOUT_MS = 10000, /* a verb's end is waited for so long */
	AGAIN_MS = 1000,      /* the pause before who was ended sooner than that is started again */
	AGAIN_MAX_MS = 10000, /* it doubles up to this for who ends itself */
	LONG_MS = 10000,      /* sooner than that after its start, */
};

static struct store_conf store_conf = {.must_exist = true};
static struct common_params common;
static uint32_t n_workers, n_reserve, gone_after_s, garbage_after_s;
static char *state_dir;

static const struct param table[] = {
	{.name = "MARGAY_CNI_WORKERS",
		.type = PARAM_U32,
		.u32 = &n_workers,
		.min = 1,
		.max = MAX_WORKERS,
		.def = "4",
		.unit = "processes",
		.doc = "How many verbs are run at the same time, and as many more that wait for the "
		       "datastore (etcdv3, kubernetes) or for what a configuration names"},
	{.name = "MARGAY_CNI_RESERVE",
		.type = PARAM_U32,
		.u32 = &n_reserve,
		.max = 1024,
		.def = "8",
		.unit = "addresses",
		.doc = "How many of each family this node holds ahead (after DELs up to twice as many), "
		       "for pods that start while the datastore (etcdv3, kubernetes) is away"},
	{.name = "MARGAY_CNI_GONE_AFTER",
		.type = PARAM_U32,
		.u32 = &gone_after_s,
		.min = JOURNAL_AWAY_MAX_S + JOURNAL_AWAY_MAX_S / 16,
		.max = 365 * 86400,
		.def = "18000",
		.unit = "seconds",
		.doc = "How long a node is not in the datastore until others give back what it held"},
	{.name = "MARGAY_CNI_GARBAGE_AFTER",
		.type = PARAM_U32,
		.u32 = &garbage_after_s,
		.min = PIPE_TIMEOUT_S,
		.max = 365 * 86400,
		.def = "600",
		.unit = "seconds",
		.doc = "How long an address of this node's pods has neither route nor Pod until it is "
		       "given back (kubernetes)"},
	{.name = "MARGAY_CNI_STATE_DIR",
		.type = PARAM_STRING,
		.str = &state_dir,
		.def = JOURNAL_DIR,
		.not_in_file = COMMON_NOT_IN_FILE,
		.doc = "Where they and what waits for the datastore are written down: a directory that "
		       "a reboot keeps; the CNI plugin, where nobody serves, finds it by the container "
		       "runtime's environment"},
};

struct server {
	struct cni_home home;
	char *path; /* of the socket */
	int lock_fd, listener;
	struct child {
		enum role { REAPER, MONITOR, KEEPER, WAITER, WORKER } role;
		pid_t pid; /* 0: it is due at due_ms */
		int64_t started_ms, due_ms;
		int64_t pause_ms; /* 0: it has not failed since it lived long */
	} children[3 + 2 * MAX_WORKERS];
	size_t n_children; /* the last are n_workers waiters, and then as many workers */
	int ask_fds[2 * MAX_WORKERS], answer_fds[2 * MAX_WORKERS]; /* of the snapshot; -1: none */
	int waiting_fds[2]; /* a pair: what workers leave to waiters goes in at the first one */
};

static bool is_kube(const struct server *s)
{
	return strcmp(store_conf_type(&s->home.store), "kubernetes") == 0;
}

static bool is_sqlite(const struct server *s)
{
	return strcmp(store_conf_type(&s->home.store), "sqlite") == 0;
}

/* One server at a time: a second one waits, as when it is to take over. */
static int lock(struct server *s, struct err *err)
{
	auto_free char *path = mem_printf("%s/cni.lock", common.run_dir);

	s->lock_fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	if (s->lock_fd < 0)
		return err_sys(err, -errno, "%s", path);
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	log_info("%s: another margay-cni serve has it: waiting for its end", path);
	return flock(s->lock_fd, LOCK_EX) < 0 ? err_sys(err, -errno, "%s", path) : 0;
}

/* It has its name when it can be connected to. */
static int listen_on(struct server *s, struct err *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	auto_free char *new_path = mem_printf("%s/" PIPE_SOCKET ".new", common.run_dir);

	s->path = mem_printf("%s/" PIPE_SOCKET, common.run_dir);
	if (strlen(new_path) >= sizeof(a.sun_path))
		return err_set(err, -EINVAL, "MARGAY_RUN_DIR: %s is too long for a socket's path",
			s->path);
	strcpy(a.sun_path, new_path);
	s->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listener < 0 || (unlink(new_path) < 0 && errno != ENOENT) ||
		bind(s->listener, (struct sockaddr *)&a, sizeof(a)) < 0 ||
		chmod(new_path, 0600) < 0 || listen(s->listener, BACKLOG) < 0 ||
		rename(new_path, s->path) < 0)
		return err_sys(err, -errno, "%s", s->path);
	return 0;
}

/* Of the waiters and workers. */
static size_t number_of(const struct server *s, size_t child)
{
	return child - (s->n_children - (size_t)2 * n_workers);
}

static _Noreturn void child_main(struct server *s, size_t i, pid_t parent)
{
	const enum role role = s->children[i].role;
	sigset_t none;

	/* Not with a verb half done, but soon. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_IGN); /* a terminal's goes to all */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close(s->lock_fd);
	if (getppid() != parent)
		_exit(EXIT_SUCCESS);
	if (role == WORKER)
		worker_run(s->listener, s->waiting_fds[0], s->ask_fds[number_of(s, i)], &s->home);
	close(s->listener);
	close(s->waiting_fds[0]);
	if (role == WAITER)
		waiter_run(s->waiting_fds[1], s->ask_fds[number_of(s, i)],
			&s->home.shared->waits_since_ms[number_of(s, i)], &s->home);
	close(s->waiting_fds[1]);
	if (role == MONITOR)
		monitor_run(&s->home, &common, s->answer_fds, (size_t)2 * n_workers);
	if (role == KEEPER)
		keeper_run(
			&s->home, &(struct keeper_conf){n_reserve, gone_after_s, garbage_after_s});
	reaper_run(s->home.reap_fd);
}

static void start_child(struct server *s, size_t i)
{
	struct child *c = &s->children[i];
	pid_t parent = getpid(), pid = fork();

	if (pid == 0)
		child_main(s, i, parent);
	c->started_ms = clock_mono_ms();
	c->due_ms = c->started_ms + AGAIN_MS;
	c->pid = pid < 0 ? 0 : pid;
	if (pid < 0)
		log_error("fork: %s", strerror(errno));
}

static const char *const role_names[] = {[REAPER] = "the reaper of links",
	[MONITOR] = "the monitor",
	[KEEPER] = "the keeper",
	[WAITER] = "a waiter",
	[WORKER] = "a worker"};

/* Who fails at once, for a port that is taken, say, fails again; who was killed need not. */
static int64_t next_pause_ms(struct child *c, bool was_killed, int64_t lived_ms)
{
	if (was_killed)
		return lived_ms < AGAIN_MS ? AGAIN_MS : 0;
	if (lived_ms >= LONG_MS)
		c->pause_ms = 0;
	c->pause_ms = c->pause_ms == 0 ? AGAIN_MS : 2 * c->pause_ms;
	if (c->pause_ms > AGAIN_MAX_MS)
		c->pause_ms = AGAIN_MAX_MS;
	return c->pause_ms;
}

static void see_end(struct server *s, pid_t pid, int status)
{
	for (size_t i = 0; i < s->n_children; i++) {
		struct child *c = &s->children[i];
		const int64_t now = clock_mono_ms();
		int64_t pause_ms;

		if (c->pid != pid)
			continue;
		pause_ms = next_pause_ms(c, WIFSIGNALED(status), now - c->started_ms);
		/* Who has failed has said why. */
		if (WIFSIGNALED(status))
			log_warn("%s was killed by signal %d: another one takes its place",
				role_names[c->role], WTERMSIG(status));
		else if (WEXITSTATUS(status) != EXIT_FAILURE)
			log_warn("%s ended with status %d: another one takes its place",
				role_names[c->role], WEXITSTATUS(status));
		shared_add(&s->home.shared->restarts);
		c->pid = 0;
		c->due_ms = now + pause_ms;
		if (c->role == WAITER)
			shared_set(&s->home.shared->waits_since_ms[number_of(s, i)], 0);
		/* It may have left a link, and told nobody. */
		if (c->role == WAITER || c->role == WORKER)
			(void)reaper_tell(s->home.reap_fd, NULL);
	}
}

/* Starts who is due. Returns how long to wait for the next one, -1: there is none. */
static int64_t start_due(struct server *s)
{
	int64_t now = clock_mono_ms(), wait = -1;

	for (size_t i = 0; i < s->n_children; i++) {
		struct child *c = &s->children[i];

		if (c->pid == 0 && c->due_ms <= now)
			start_child(s, i);
		if (c->pid == 0 && (wait < 0 || c->due_ms - now < wait))
			wait = c->due_ms > now ? c->due_ms - now : 0;
	}
	return wait;
}

static void wait_signal(const sigset_t *set, int64_t ms, int *ret)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	*ret = ms < 0 ? sigwaitinfo(set, NULL) : sigtimedwait(set, NULL, &t);
}

static void supervise(struct server *s, const sigset_t *set)
{
	int sig = 0, status;
	pid_t pid;

	while (sig != SIGTERM && sig != SIGINT) {
		wait_signal(set, start_due(s), &sig);
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			see_end(s, pid, status);
	}
}

/* Nobody new; who is at it ends it, within bounds. */
static void stop(struct server *s, const sigset_t *set)
{
	int64_t until = clock_mono_ms() + STOP_TIMEOUT_MS;
	size_t left = 0;
	pid_t pid;
	int sig;

	unlink(s->path);
	close(s->listener);
	for (size_t i = 0; i < s->n_children; i++)
		if (s->children[i].pid > 0) {
			kill(s->children[i].pid, SIGTERM);
			left++;
		}
	while (left > 0 && clock_mono_ms() < until) {
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
			for (size_t i = 0; i < s->n_children; i++)
				if (s->children[i].pid == pid)
					s->children[i].pid = 0;
			left--;
		}
		if (left > 0)
			wait_signal(set, until - clock_mono_ms(), &sig);
	}
	for (size_t i = 0; i < s->n_children; i++)
		if (s->children[i].pid > 0)
			kill(s->children[i].pid, SIGKILL);
}

/* One for each worker and waiter, which the one that takes its place has, too. */
static int make_pairs(struct server *s, struct err *err)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s->waiting_fds) < 0)
		return err_sys(err, -errno, "a pair of sockets");
	for (uint32_t i = 0; i < 2 * n_workers; i++) {
		int pair[2] = {-1, -1};

		if (is_kube(s) && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
			return err_sys(err, -errno, "a pair of sockets");
		s->ask_fds[i] = pair[0];
		s->answer_fds[i] = pair[1];
	}
	return 0;
}

static int serve(struct server *s, struct err *err)
{
	sigset_t set;
	int r;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	r = file_mkdirs(common.run_dir, 0755, err) ?: lock(s, err);
	/* Who waits for another one's end is ended as anybody. */
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (r == 0)
		r = listen_on(s, err);
	if (r < 0)
		return r;
	/* A directory that cannot be written to is the keeper's to tell, where there is one. */
	if (home_note_store(&s->home, err) < 0)
		log_warn("%s", err_text(err));
	s->home.reap_fd = reaper_open(common.run_dir, err);
	if (s->home.reap_fd < 0)
		return s->home.reap_fd;
	s->home.state_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->home.keeper_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->home.state_fd < 0 || s->home.keeper_fd < 0)
		return err_sys(err, -errno, "an eventfd");
	s->home.shared = mmap(NULL, sizeof(struct cni_shared), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s->home.shared == MAP_FAILED)
		return err_sys(err, -errno, "a page that processes share");
	r = make_pairs(s, err);
	if (r < 0)
		return r;
	s->children[s->n_children++].role = REAPER;
	if (common.health_enabled || common.metrics_enabled || !is_sqlite(s))
		s->children[s->n_children++].role = MONITOR;
	/* A datastore of this machine is there whenever a verb is. */
	if (is_sqlite(s))
		s->home.shared->keeper = KEEPER_WELL;
	else
		s->children[s->n_children++].role = KEEPER;
	s->home.shared->n_waiters = n_workers;
	for (uint32_t i = 0; i < n_workers; i++)
		s->children[s->n_children++].role = WAITER;
	for (uint32_t i = 0; i < n_workers; i++)
		s->children[s->n_children++].role = WORKER;
	log_info("node %s, datastore %s, %u workers on %s", s->home.node,
		store_conf_type(&s->home.store), n_workers, s->path);
	supervise(s, &set);
	stop(s, &set);
	return 0;
}

int serve_main(int argc, char **argv)
{
	struct params ps = {.program = "margay-cni serve",
		.about = "Runs what the CNI plugin of this node is asked to."};
	struct server s = {.lock_fd = -1, .listener = -1};
	struct err err = ERR_INIT;
	auto_free char *nodename = NULL;
	int r;

	store_params_add(&ps, &store_conf);
	common_params_add_daemon(&ps, &common, "CNI", COMMON_HEALTH_PORT_CNI);
	params_add(&ps, table, array_size(table));
	r = params_load(&ps, &argc, argv, &err);
	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : params_fail(&ps, &err);
	common_params_apply(&common);
	nodename = common_params_nodename(&ps, &common);
	s.home.node = nodename;
	s.home.store = store_conf;
	s.home.state_dir = state_dir;
	s.home.run_dir = common.run_dir;
	r = node_check_name(nodename, common.nodename_file, &err);
	if (r == 0)
		r = serve(&s, &err);
	if (r < 0)
		log_error("%s", err_text(&err));
	free(s.path);
	params_done(&ps);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
