/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/vec.h"
#include "cni/cni.h"
#include "cni/delegate.h"
#include "cni/pipe.h"
#include "cni/shared.h"
#include "cni/snapshot.h"

/* How long a plugin has for the rest of its request, and to take each packet of the answer. */
enum { PEER_TIMEOUT_MS = 5000 };

static volatile sig_atomic_t busy, stopping;

/* Between verbs there is nothing to lose. */
static void on_term(int sig)
{
	(void)sig;
	if (!busy)
		_exit(EXIT_SUCCESS);
	stopping = 1;
}

struct asked {
	struct pipe_request rq;
	int fds[PIPE_N_FDS];
	char text[PIPE_ENV_MAX + 1]; /* the environment */
	char *conf;
};

static void close_fds(struct asked *a)
{
	for (size_t i = 0; i < PIPE_N_FDS; i++)
		if (a->fds[i] >= 0)
			close(take_fd(a->fds[i]));
}

/* Hands the descriptors out by what they are said to be; surplus ones are closed. */
static void take_fds(struct msghdr *m, struct asked *a)
{
	unsigned next = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		size_t n = c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS
				   ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int)
				   : 0;

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			while (next < PIPE_N_FDS && !(a->rq.fds & (1u << next)))
				next++;
			if (next < PIPE_N_FDS)
				a->fds[next++] = fd;
			else
				close(fd);
		}
	}
}

static bool is_netlink(int fd)
{
	int domain = 0, protocol = -1;
	socklen_t len = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_NETLINK &&
	       getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 &&
	       protocol == NETLINK_ROUTE;
}

static bool is_dir(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

static int check_fds(const struct asked *a, struct err *err)
{
	const int *fds = a->fds;

	if (fds[PIPE_FD_NETNS] >= 0 && ioctl(fds[PIPE_FD_NETNS], NS_GET_NSTYPE) != CLONE_NEWNET)
		return err_set(err, -EINVAL, "CNI_NETNS is no network namespace");
	if (fds[PIPE_FD_NL] >= 0 && !is_netlink(fds[PIPE_FD_NL]))
		return err_set(err, -EPROTO, "the netlink socket is none");
	if ((fds[PIPE_FD_IPV4] >= 0 && !is_dir(fds[PIPE_FD_IPV4])) ||
		(fds[PIPE_FD_IPV6] >= 0 && !is_dir(fds[PIPE_FD_IPV6])))
		return err_set(err, -EPROTO, "a directory of sysctls is none");
	return 0;
}

/* The first packet: 1 = of another version; 0; or a negative errno. */
static int receive_head(int s, struct asked *a, struct err *err)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(PIPE_N_FDS * sizeof(int))];
	} control;
	struct iovec iov[] = {{&a->rq, sizeof(a->rq)}, {a->text, PIPE_ENV_MAX}};
	struct msghdr m = {.msg_iov = iov,
		.msg_iovlen = 2,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf)};
	ssize_t n = recvmsg(s, &m, MSG_CMSG_CLOEXEC);

	if (n < 0 && errno == EAGAIN)
		return err_set(err, -ETIMEDOUT,
			"a process that has connected has asked for nothing in %d ms: closed",
			PIPE_FIRST_MS);
	if (n < 0)
		return err_sys(err, -errno, "a plugin's request");
	if ((size_t)n < sizeof(a->rq))
		a->rq.fds = 0;
	take_fds(&m, a);
	if ((size_t)n < PIPE_HEAD || a->rq.magic != PIPE_MAGIC)
		return err_set(err, -EPROTO, "a request of %zd bytes that is none", n);
	if (a->rq.version != PIPE_VERSION)
		return 1;
	if ((size_t)n < sizeof(a->rq) || m.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ||
		a->rq.env_len != (size_t)n - sizeof(a->rq) || a->rq.conf_len > PIPE_CONF_MAX)
		return err_set(
			err, -EPROTO, "a request of %zd bytes with lengths that are not its", n);
	a->text[a->rq.env_len] = '\0';
	return check_fds(a, err);
}

static int receive_conf(int s, struct asked *a, struct err *err)
{
	a->conf = mem_alloc((size_t)a->rq.conf_len + 1);
	for (size_t done = 0; done < a->rq.conf_len;) {
		ssize_t n = recv(s, a->conf + done, a->rq.conf_len - done, 0);

		if (n <= 0)
			return err_sys(err, n < 0 ? -errno : -EPROTO,
				"a plugin's request, after %zu bytes of its configuration", done);
		done += (size_t)n;
	}
	a->conf[a->rq.conf_len] = '\0';
	return 0;
}

static int send_all(int s, const char *text, size_t len)
{
	for (size_t done = 0; done < len;) {
		size_t n = len - done < PIPE_PACKET_MAX ? len - done : PIPE_PACKET_MAX;

		if (send(s, text + done, n, MSG_NOSIGNAL) < 0)
			return -errno;
		done += n;
	}
	return 0;
}

static int answer(int s, enum pipe_kind kind, const struct cni_reply *reply)
{
	size_t out_len = reply ? strlen(reply->json) : 0,
	       log_len = reply && reply->log ? strlen(reply->log) : 0;
	struct pipe_answer a = {.magic = PIPE_MAGIC,
		.version = PIPE_VERSION,
		.kind = (uint8_t)kind,
		.exit_code = reply ? (uint8_t)reply->exit_code : 0,
		.out_len = (uint32_t)out_len,
		.log_len = (uint32_t)log_len};
	int r = send_all(s, (const char *)&a, sizeof(a));

	if (r == 0 && reply)
		r = send_all(s, reply->json, out_len);
	return r == 0 && log_len > 0 ? send_all(s, reply->log, log_len) : r;
}

/* Splits "NAME=VALUE" texts, in place. */
static void split_env(struct asked *a, struct cni_request *rq)
{
	VEC(struct cni_env) env = {0};

	for (char *p = a->text; p < a->text + a->rq.env_len; p += strlen(p) + 1) {
		char *eq = strchr(p, '=');
		struct cni_env e = {p, eq ? eq + 1 : ""};

		if (!eq)
			continue;
		*eq = '\0';
		p = eq + 1;
		vec_push(&env, e);
	}
	rq->env = env.v;
	rq->n_env = env.n;
}

/* Returns the verb, of a's text, or NULL. */
static const char *run_verb(int s, struct cni_ctx *ctx, struct snapshot_client *client,
	struct asked *a, struct cni_reply *ret)
{
	const struct pod_source pods = {.find = snapshot_find, .arg = client};
	const struct told_source told = {.find = snapshot_tell, .arg = client};
	struct cni_request rq = {.ipam_only = a->rq.ipam_only,
		.conf = a->conf,
		.conf_len = a->rq.conf_len,
		.netns_fd = a->fds[PIPE_FD_NETNS],
		.nl_fd = a->fds[PIPE_FD_NL],
		.ipv4_fd = a->fds[PIPE_FD_IPV4],
		.ipv6_fd = a->fds[PIPE_FD_IPV6],
		.netns_errno = a->rq.netns_errno,
		.netns_is_own = a->rq.netns_is_own,
		.peer_fd = s,
		.started_ms = a->rq.started_ms,
		.pods = client->fd >= 0 ? &pods : NULL,
		.told = client->fd >= 0 ? &told : NULL};
	const char *verb = NULL;

	split_env(a, &rq);
	for (size_t i = 0; i < rq.n_env; i++)
		if (strcmp(rq.env[i].name, "CNI_COMMAND") == 0)
			verb = rq.env[i].value;
	cni_run(ctx, &rq, ret);
	free((struct cni_env *)(uintptr_t)rq.env);
	return verb;
}

static void count(const struct cni_home *home, const struct cni_reply *reply, const char *verb)
{
	static const char *const verbs[SHARED_N_VERBS] = {[SHARED_ADD] = "ADD",
		[SHARED_DEL] = "DEL",
		[SHARED_CHECK] = "CHECK",
		[SHARED_STATUS] = "STATUS",
		[SHARED_GC] = "GC"};

	for (size_t i = 0; verb && i < array_size(verbs); i++)
		if (strcmp(verbs[i], verb) == 0)
			shared_add(reply->exit_code ? &home->shared->failed[i]
						    : &home->shared->done[i]);
}

/* What delegate_run() takes from the environment. */
static void set_env(struct cni_reply *r)
{
	auto_free char *cidrs = r->json;

	r->json = mem_printf("%s=%s", DELEGATE_POD_CIDRS, cidrs);
}

static void set_timeout(int s, int option, int ms)
{
	const struct timeval t = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	(void)setsockopt(s, SOL_SOCKET, option, &t, sizeof(t));
}

static void serve_one(
	int s, struct cni_ctx *ctx, struct snapshot_client *client, const struct cni_home *home)
{
	auto_free struct asked *a = mem_new(struct asked);
	struct err err = ERR_INIT;
	int r;

	for (size_t i = 0; i < PIPE_N_FDS; i++)
		a->fds[i] = -1;
	set_timeout(s, SO_RCVTIMEO, PIPE_FIRST_MS);
	set_timeout(s, SO_SNDTIMEO, PEER_TIMEOUT_MS);
	r = receive_head(s, a, &err);
	if (r == 0) {
		set_timeout(s, SO_RCVTIMEO, PEER_TIMEOUT_MS);
		r = receive_conf(s, a, &err);
	}
	if (r == 0) {
		struct cni_reply reply;
		const char *verb = run_verb(s, ctx, client, a, &reply);

		/* The runtime may delete the namespace as soon as it has the answer. */
		close_fds(a);
		if (reply.delegates)
			set_env(&reply);
		else
			count(home, &reply, verb);
		if (reply.log)
			log_warn("%s", reply.log);
		r = answer(s, reply.delegates ? PIPE_RUN_SELF : PIPE_DONE, &reply);
		if (r < 0)
			err_sys(&err, r, "a plugin that has not taken its answer");
		cni_reply_done(&reply);
	} else if (r > 0) {
		r = answer(s, PIPE_RUN_SELF, NULL);
	}
	if (r < 0)
		log_warn("%s", err_text(&err));
	close_fds(a);
	free(a->conf);
}

static bool is_root(int s)
{
	struct ucred peer = {.uid = (uid_t)-1};
	socklen_t len = sizeof(peer);

	return getsockopt(s, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == 0;
}

/*
 * Of those that are idle the kernel wakes the same one again, and not the one that has waited longest, as in accept():
 * the caches have what that one needs.
 */
static int queue_of(int listener)
{
	struct epoll_event e = {.events = EPOLLIN | EPOLLEXCLUSIVE};
	int queue = epoll_create1(EPOLL_CLOEXEC);

	if (queue < 0 || epoll_ctl(queue, EPOLL_CTL_ADD, listener, &e) < 0) {
		log_error("waiting for plugins: %s", strerror(errno));
		_exit(EXIT_FAILURE);
	}
	return queue;
}

/* -1: there is none, after all. */
static int next_plugin(int queue, int listener)
{
	struct epoll_event e;
	int s;

	if (epoll_wait(queue, &e, 1, -1) < 1)
		return -1;
	s = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (s < 0 && errno != EINTR && errno != ECONNABORTED && errno != EAGAIN)
		log_warn("accepting a plugin: %s", strerror(errno));
	return s;
}

_Noreturn void worker_run(int listener, int ask_fd, const struct cni_home *home)
{
	struct snapshot_client client = {.fd = ask_fd};
	struct cni_ctx *ctx = cni_ctx_new(home);
	int queue = queue_of(listener);

	/* An answer to the worker before is not this one's. */
	mem_random(&client.n, sizeof(client.n));
	premises_prefixes(home->node, &client.prefixes);
	signal(SIGTERM, on_term);
	while (!stopping) {
		auto_close int s = next_plugin(queue, listener);

		if (s < 0)
			continue;
		busy = 1;
		if (is_root(s))
			serve_one(s, ctx, &client, home);
		else
			log_warn("a process that is not root's has connected: refused");
		busy = 0;
	}
	cni_ctx_free(ctx);
	_exit(EXIT_SUCCESS);
}
