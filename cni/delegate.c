/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/delegate.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cni/cni.h"
#include "cni/conf.h"
#include "cni/given.h"
#include "cni/pipe.h"
#include "cni/podcidr.h"
#include "cni/result.h"
#include "model/json.h"

/*
 * The other plugin has 30 s, of which host-local takes milliseconds. Ours has its own time after that, which is
 * longer than it takes to say itself that nobody answered: what is ended in the middle leaves more behind.
 * With the DEL after a failure that is 100 s; a kubelet waits for a runtime's answer for two minutes and more.
 */
enum { IPAM_MS = 30000, MARGAY_MS = (PIPE_TIMEOUT_S + 5) * 1000, FORGET_MS = 5000, GC_MS = 60000 };

extern char **environ;

/* What a program has said on stdout, and how it ended. */
struct said {
	struct strbuf out;
	int exit_code;
	char *log; /* what we say in its place; NULL: nothing */
};

static void said_done(struct said *s)
{
	strbuf_done(&s->out);
	free(s->log);
}

/* As a failing plugin says it. */
static void say(struct said *s, enum cni_version v, int code, const struct err *err)
{
	strbuf_reset(&s->out);
	cni_error_print(v, code, err_text(err), NULL, &s->out);
	s->log = mem_strdup(err_text(err));
	s->exit_code = PIPE_EXIT_FAILED;
}

static int stdin_of(const char *conf, struct err *err)
{
	size_t len = strlen(conf);
	int fd = memfd_create("netconf", MFD_CLOEXEC);

	if (fd >= 0 && write(fd, conf, len) == (ssize_t)len && lseek(fd, 0, SEEK_SET) == 0)
		return fd;
	err_sys(err, -errno, "handing the configuration on");
	if (fd >= 0)
		close(fd);
	return err->code;
}

/* What is there to be read. 1 = and more may come; 0 = its end; -EAGAIN; or a negative errno, as -EFBIG. */
static int hear(int fd, struct said *ret, struct err *err)
{
	char buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? -EAGAIN : err_sys(err, -errno, "read");
	strbuf_addn(&ret->out, buf, (size_t)n);
	if (ret->out.len > DELEGATE_RESULT_MAX)
		return err_set(err, -EFBIG, "it says more than %d bytes, and was ended",
			DELEGATE_RESULT_MAX);
	return n > 0;
}

/*
 * All that it says until it ends. It may go on when it has closed its stdout; and what it has started and left
 * behind may keep that open.
 */
static int listen_to(int pidfd, int fd, int64_t deadline_ms, struct said *ret, struct err *err)
{
	struct pollfd p[] = {{.fd = pidfd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
	int64_t left;
	int r;

	for (;;) {
		left = deadline_ms - clock_mono_ms();
		if (left <= 0)
			return err_set(err, -ETIMEDOUT, "it did not end in time, and was ended");
		if (poll(p, array_size(p), (int)left) < 0)
			continue;
		do {
			r = p[1].fd >= 0 ? hear(fd, ret, err) : -EAGAIN;
		} while (r > 0);
		if (r < 0 && r != -EAGAIN)
			return r;
		if (r == 0)
			p[1].fd = -1;
		if (p[0].revents)
			return 0;
	}
}

/* With all that it has started, where it is ended. */
static int wait_for(pid_t pid, int fd, int64_t deadline_ms, struct said *ret, struct err *err)
{
	auto_close int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int r = pidfd < 0 ? err_sys(err, -errno, "pidfd_open")
			  : listen_to(pidfd, fd, deadline_ms, ret, err);
	int status;

	if (r < 0)
		kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r == 0 && WIFSIGNALED(status))
		r = err_set(err, -EPROTO, "it was ended by signal %d", WTERMSIG(status));
	ret->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
	return r;
}

/* As a runtime starts one, and in a process group of its own. */
static int spawn(const char *path, const char *name, int in, int out, pid_t *ret)
{
	char *argv[] = {(char *)(uintptr_t)name, NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t signals;
	int r;

	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
	posix_spawnattr_init(&attr);
	sigemptyset(&signals);
	posix_spawnattr_setsigmask(&attr, &signals);
	sigaddset(&signals, SIGPIPE);
	posix_spawnattr_setsigdefault(&attr, &signals);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setflags(
		&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	r = posix_spawn(ret, path, &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -r;
}

/* name: what it takes itself for. conf: its stdin. */
static int execute(const char *path, const char *name, const char *conf, int64_t timeout_ms,
	struct said *ret, struct err *err)
{
	auto_close int in = stdin_of(conf, err), hears = -1, says = -1;
	int pipes[2], r;
	pid_t pid;

	if (in < 0)
		return in;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "%s", path);
	hears = pipes[0];
	says = pipes[1];
	(void)fcntl(hears, F_SETFL, O_NONBLOCK);
	r = spawn(path, name, in, says, &pid);
	close(take_fd(says));
	if (r == 0)
		r = wait_for(pid, hears, clock_mono_ms() + timeout_ms, ret, err);
	else
		err_sys(err, r, "executing it");
	return r < 0 ? err_wrap(err, r, "%s", path) : 0;
}

bool delegate_is_name(const char *type)
{
	return type[0] != '\0' && type[0] != '.' && !strchr(type, '/');
}

/* In CNI_PATH. The caller's; NULL: there is none. */
static char *find_plugin(const char *type)
{
	auto_free char *dirs = mem_strdup(getenv("CNI_PATH") ?: "");
	char *at = dirs, *dir;

	if (!delegate_is_name(type))
		return NULL;
	while ((dir = strsep(&at, ":"))) {
		auto_free char *path = mem_printf("%s/%s", dir, type);

		if (dir[0] == '/' && access(path, X_OK) == 0)
			return take_ptr(path);
	}
	return NULL;
}

struct delegation {
	const struct cni_conf *conf;
	const char *netconf;	  /* of which that was made */
	const char *ipam_netconf; /* what the other plugin gets of it */
};

static void ask_ipam(
	const struct delegation *d, const char *verb, int64_t timeout_ms, struct said *ret)
{
	auto_free char *path = find_plugin(d->conf->ipam_type);
	struct err err = ERR_INIT;

	*ret = (struct said){.out = STRBUF_INIT};
	setenv("CNI_COMMAND", verb, 1);
	if (!path) {
		err_set(&err, -ENOENT,
			"netconf: ipam.type: \"%s\": there is no such plugin in CNI_PATH (%s): want one "
			"that is installed there, or \"margay-ipam\"",
			d->conf->ipam_type, getenv("CNI_PATH") ?: "");
		say(ret, d->conf->version, CNI_E_CONF, &err);
	} else if (execute(path, d->conf->ipam_type, d->ipam_netconf, timeout_ms, ret, &err) < 0) {
		say(ret, d->conf->version, CNI_E_AGAIN, &err);
	}
}

static void ask_margay(
	const struct delegation *d, const char *verb, const char *result, struct said *ret)
{
	const char *path = getenv(PIPE_SELF), *slash = path ? strrchr(path, '/') : NULL;
	struct err err = ERR_INIT;

	*ret = (struct said){.out = STRBUF_INIT};
	setenv("CNI_COMMAND", verb, 1);
	setenv(DELEGATE_RESULT, result, 1);
	if (!slash) {
		err_set(&err, -EINVAL,
			"netconf: ipam.type: \"%s\": call the plugin margay: margay-cni run does not "
			"know where it is",
			d->conf->ipam_type);
		say(ret, d->conf->version, CNI_E_ENV, &err);
	} else if (execute(path, slash + 1, d->netconf, MARGAY_MS, ret, &err) < 0) {
		say(ret, d->conf->version, CNI_E_AGAIN, &err);
	}
	unsetenv(DELEGATE_RESULT);
}

static int finish(const struct said *s)
{
	fputs(strbuf_str(&s->out), stdout);
	if (s->log)
		fprintf(stderr, "margay: %s\n", s->log);
	return fflush(stdout) == 0 ? s->exit_code : 1;
}

/* It has said itself that it failed, and that nothing is left of it. */
static bool has_failed_clean(const struct said *s)
{
	json_t *j = json_loads(strbuf_str(&s->out), 0, NULL);
	bool is_error = json_is_integer(json_object_get(j, "code"));

	json_decref(j);
	return is_error && !s->log && s->exit_code == PIPE_EXIT_FAILED;
}

/* Of the attachment that the environment names. *ret NULL: nothing is written down. */
static int recall_given(const struct delegation *d, struct given **ret, struct err *err)
{
	int r = given_read(
		d->conf->name, getenv("CNI_CONTAINERID"), getenv("CNI_IFNAME"), ret, err);

	return r == -ENOENT ? 0 : r;
}

static int forget_given(const struct delegation *d, struct err *err)
{
	return given_remove(d->conf->name, getenv("CNI_CONTAINERID"), getenv("CNI_IFNAME"), err);
}

static int note_given(const struct delegation *d, const char *result, struct err *err)
{
	const struct given g = {.network = d->conf->name,
		.container_id = getenv("CNI_CONTAINERID"),
		.ifname = getenv("CNI_IFNAME"),
		.args = getenv("CNI_ARGS") ?: (char[]){""},
		.result = (char *)(uintptr_t)result};

	return given_write(&g, err);
}

static void give_back(const struct delegation *d)
{
	struct said s;

	if (forget_given(d, NULL) < 0)
		return;
	ask_ipam(d, "DEL", FORGET_MS, &s);
	said_done(&s);
}

/*
 * What the other plugin gave goes back when nothing here can have it: not after an answer that was lost, for a
 * server may do the verb yet. Then, and where the other was ended, DEL cleans up, which a runtime calls after a
 * failed ADD. What the other refused does not go back either: it may be a living pod's.
 */
static void add_new(const struct delegation *d, struct said *ret)
{
	struct err err = ERR_INIT;
	struct said given;

	ask_ipam(d, "ADD", IPAM_MS, &given);
	if (given.exit_code != 0) {
		*ret = given;
		return;
	}
	if (note_given(d, strbuf_str(&given.out), &err) < 0) {
		*ret = (struct said){.out = STRBUF_INIT};
		say(ret, d->conf->version, CNI_E_AGAIN, &err);
		give_back(d);
	} else {
		ask_margay(d, "ADD", strbuf_str(&given.out), ret);
		if (has_failed_clean(ret))
			give_back(d);
	}
	said_done(&given);
}

/* A repeated one has what the first was given, and keeps it when it fails: the pod may live. */
static void add(const struct delegation *d, struct said *ret)
{
	auto_(given) struct given *g = NULL;
	struct err err = ERR_INIT;
	int r = recall_given(d, &g, &err);

	if (r < 0) {
		*ret = (struct said){.out = STRBUF_INIT};
		say(ret, d->conf->version, CNI_E_AGAIN, &err);
	} else if (g) {
		ask_margay(d, "ADD", g->result, ret);
	} else {
		add_new(d, ret);
	}
}

/* Ours first, and the other's only after its success: an address that something here uses is not to be free. */
static void both(const struct delegation *d, const char *verb, struct said *ret)
{
	ask_margay(d, verb, "{}", ret);
	if (ret->exit_code != 0)
		return;
	said_done(ret);
	ask_ipam(d, verb, IPAM_MS, ret);
}

/* CNI_ARGS as ADD had them, by which the endpoint and the device have their names: a runtime need not repeat them. */
static void del(const struct delegation *d, struct said *ret)
{
	auto_(given) struct given *g = NULL;
	struct err err = ERR_INIT;

	if (recall_given(d, &g, NULL) == 0 && g && g->args[0] != '\0')
		setenv("CNI_ARGS", g->args, 1);
	ask_margay(d, "DEL", "{}", ret);
	if (ret->exit_code != 0)
		return;
	said_done(ret);
	if (forget_given(d, &err) < 0) {
		*ret = (struct said){.out = STRBUF_INIT};
		say(ret, d->conf->version, CNI_E_AGAIN, &err);
	} else {
		ask_ipam(d, "DEL", IPAM_MS, ret);
	}
}

static bool is_valid(const struct cni_conf *conf, const struct given *g)
{
	const struct cni_attachment *a;

	vec_for_each (&conf->attachments, a)
		if (strcmp(a->container_id, g->container_id) == 0 &&
			strcmp(a->ifname, g->ifname) == 0)
			return true;
	return false;
}

/* As the runtime's DEL, which has never come. */
static void del_gone(const struct delegation *d, const struct given *g, struct said *ret)
{
	setenv("CNI_CONTAINERID", g->container_id, 1);
	setenv("CNI_IFNAME", g->ifname, 1);
	unsetenv("CNI_ARGS");
	unsetenv("CNI_NETNS");
	del(d, ret);
	unsetenv("CNI_CONTAINERID");
	unsetenv("CNI_IFNAME");
	unsetenv("CNI_ARGS");
}

static void del_all_gone(const struct delegation *d, const struct given_list *l, struct said *ret)
{
	int64_t deadline_ms = clock_mono_ms() + GC_MS;
	struct err err = ERR_INIT;
	struct given **g;

	vec_for_each (&l->v, g) {
		struct said s;

		if (is_valid(d->conf, *g))
			continue;
		if (clock_mono_ms() < deadline_ms) {
			del_gone(d, *g, &s);
		} else {
			err_set(&err, -ETIMEDOUT,
				"GC: not all attachments that are gone could be deleted within %d s: run it again",
				GC_MS / 1000);
			s = (struct said){.out = STRBUF_INIT};
			say(&s, d->conf->version, CNI_E_AGAIN, &err);
		}
		if (ret->exit_code == 0) {
			said_done(ret);
			*ret = s;
		} else {
			said_done(&s);
		}
	}
}

/*
 * Attachments that the runtime does not have any more are deleted one by one, before the other plugin frees what
 * they have: their endpoints and devices would have it still.
 */
static void gc(const struct delegation *d, struct said *ret)
{
	struct given_list l = {0};
	struct err err = ERR_INIT;

	ask_margay(d, "GC", "{}", ret);
	if (ret->exit_code != 0)
		return;
	if (given_list(d->conf->name, &l, &err) < 0)
		say(ret, d->conf->version, CNI_E_AGAIN, &err);
	else
		del_all_gone(d, &l, ret);
	given_list_done(&l);
	if (ret->exit_code != 0)
		return;
	said_done(ret);
	ask_ipam(d, "GC", IPAM_MS, ret);
}

/* With the podCIDRs in it; the caller's. */
static char *ipam_netconf(const struct cni_conf *conf, const char *netconf, const char *pod_cidrs)
{
	auto_(json) json_t *j = NULL;

	if (!conf->pod_cidr_v4 && !conf->pod_cidr_v6)
		return mem_strdup(netconf);
	j = json_loads(netconf, 0, NULL);
	podcidr_replace(json_object_get(j, "ipam"), pod_cidrs);
	return json_dumps(j, JSON_COMPACT);
}

static void run_verb(const struct delegation *d, const char *verb, struct said *ret)
{
	if (strcmp(verb, "ADD") == 0)
		add(d, ret);
	else if (strcmp(verb, "DEL") == 0)
		del(d, ret);
	else if (strcmp(verb, "GC") == 0)
		gc(d, ret);
	else
		both(d, verb, ret);
}

int delegate_run(const struct cni_request *rq, const char *verb, const char *pod_cidrs)
{
	auto_free char *for_ipam = NULL;
	struct err err = ERR_INIT;
	struct cni_conf *conf = NULL;
	struct said s = {.out = STRBUF_INIT};
	int r = cni_conf_parse(rq->conf, rq->conf_len, false, &conf, &err);

	if (r == 0) {
		for_ipam = ipam_netconf(conf, rq->conf, pod_cidrs);
		unsetenv(DELEGATE_POD_CIDRS);
		run_verb(&(struct delegation){conf, rq->conf, for_ipam}, verb, &s);
	} else {
		say(&s, CNI_1_1_0, r, &err);
	}
	r = finish(&s);
	said_done(&s);
	cni_conf_free(conf);
	return r;
}
