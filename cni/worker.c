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
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
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

/* This process's. */
struct self {
	const struct cni_home *home;
	struct cni_ctx *ctx;
	struct snapshot_client client;
	int waiters_fd; /* -1: it is one */
};

struct asked {
	struct pipe_request rq;
	int fds[PIPE_N_FDS];
	char text[PIPE_ENV_MAX + 1]; /* the environment */
	char *env;		     /* a copy, in which it is split */
	char *conf;
};

static struct asked *asked_new(void)
{
	struct asked *a = mem_new(struct asked);

	for (size_t i = 0; i < PIPE_N_FDS; i++)
		a->fds[i] = -1;
	return a;
}

static void close_fds(struct asked *a)
{
	for (size_t i = 0; i < PIPE_N_FDS; i++)
		if (a->fds[i] >= 0)
			close(take_fd(a->fds[i]));
}

static void asked_free(struct asked *a)
{
	close_fds(a);
	free(a->env);
	free(a->conf);
	free(a);
}
AUTO_DEFINE(asked, struct asked *, asked_free);

/* Those that came, of which there is room for so many; surplus ones are closed. */
static size_t take_fds(struct msghdr *m, int *fds, size_t max)
{
	size_t n_fds = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		size_t n = c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS
				   ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int)
				   : 0;

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (n_fds < max)
				fds[n_fds++] = fd;
			else
				close(fd);
		}
	}
	return n_fds;
}

/* By what they are said to be; surplus ones are closed. */
static void hand_out(struct asked *a, const int *fds, size_t n)
{
	unsigned next = 0;

	for (size_t i = 0; i < n; i++) {
		while (next < PIPE_N_FDS && !(a->rq.fds & (1u << next)))
			next++;
		if (next < PIPE_N_FDS)
			a->fds[next++] = fds[i];
		else
			close(fds[i]);
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
	int fds[PIPE_N_FDS];

	if (n < 0 && errno == EAGAIN)
		return err_set(err, -ETIMEDOUT,
			"a process that has connected has asked for nothing in %d ms: closed",
			PIPE_FIRST_MS);
	if (n < 0)
		return err_sys(err, -errno, "a plugin's request");
	if ((size_t)n < sizeof(a->rq))
		a->rq.fds = 0;
	hand_out(a, fds, take_fds(&m, fds, PIPE_N_FDS));
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

/* Splits "NAME=VALUE" texts. */
static void split_env(struct asked *a, struct cni_request *rq)
{
	VEC(struct cni_env) env = {0};

	a->env = mem_dup(a->text, a->rq.env_len + 1);
	for (char *p = a->env; p < a->env + a->rq.env_len; p += strlen(p) + 1) {
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
static const char *run_verb(struct self *self, int s, struct asked *a, struct cni_reply *ret)
{
	struct snapshot_client *client = &self->client;
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
		.told = client->fd >= 0 ? &told : NULL,
		.hands_over = self->waiters_fd >= 0};
	const char *verb = NULL;

	split_env(a, &rq);
	for (size_t i = 0; i < rq.n_env; i++)
		if (strcmp(rq.env[i].name, "CNI_COMMAND") == 0)
			verb = rq.env[i].value;
	cni_run(self->ctx, &rq, ret);
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

enum { N_LEFT = 2 + PIPE_N_FDS };

/*
 * To the waiters: the request's bytes, in a file of memory, the plugin's connection, and what descriptors the request
 * has, which are all that is in the packet. The caller's stay open. 0 or a negative errno, as where there is no room.
 */
static int leave(const struct self *self, int s, const struct asked *a)
{
	auto_close int fd = memfd_create("request", MFD_CLOEXEC);
	int fds[N_LEFT] = {fd, s}, n = 2, r;
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(N_LEFT * sizeof(int))];
	} control = {0};
	struct pipe_request rq = a->rq;
	struct iovec iov = {(char[]){0}, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf};

	if (fd < 0)
		return -errno;
	rq.fds = 0;
	for (unsigned i = 0; i < PIPE_N_FDS; i++)
		if (a->fds[i] >= 0) {
			rq.fds |= 1u << i;
			fds[n++] = a->fds[i];
		}
	r = file_write_all(fd, &rq, sizeof(rq))
		    ?: file_write_all(fd, a->text, rq.env_len)
		    ?: file_write_all(fd, a->conf, rq.conf_len);
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	m.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
	control.align = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
		.cmsg_len = CMSG_LEN((size_t)n * sizeof(int))};
	memcpy(CMSG_DATA(&control.align), fds, (size_t)n * sizeof(int));
	return sendmsg(self->waiters_fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int read_left(int fd, struct asked *a, struct err *err)
{
	const size_t max = sizeof(a->rq) + PIPE_ENV_MAX + PIPE_CONF_MAX;
	auto_free char *text = NULL;
	size_t len;
	int r = file_read_fd(fd, "a request", max, &text, &len, err);

	if (r < 0)
		return r;
	memcpy(&a->rq, text, sizeof(a->rq));
	memcpy(a->text, text + sizeof(a->rq), a->rq.env_len);
	a->conf = mem_strndup(text + sizeof(a->rq) + a->rq.env_len, a->rq.conf_len);
	return 0;
}

/* What leave() has left, when there is something. The plugin's connection, or a negative errno. */
static int take_left(int from, struct asked *a, struct err *err)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(N_LEFT * sizeof(int))];
	} control;
	struct iovec iov = {(char[]){0}, 1};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf)};
	int fds[N_LEFT] = {-1, -1}, r;
	size_t n;

	if (recvmsg(from, &m, MSG_CMSG_CLOEXEC) < 0)
		return err_sys(err, -errno, "what a worker has left");
	n = take_fds(&m, fds, N_LEFT);
	auto_close int request = fds[0], s = fds[1];
	r = n < 2 ? err_set(err, -EMFILE, "what a worker has left: too many files are open")
		  : read_left(request, a, err);
	if (n > 2)
		hand_out(a, fds + 2, n - 2);
	return r < 0 ? r : take_fd(s);
}

static void serve_asked(struct self *self, int s, struct asked *a)
{
	struct cni_reply reply;
	const char *verb = run_verb(self, s, a, &reply);
	int r = reply.waits ? leave(self, s, a) : -EINVAL;

	if (r == 0) {
		close_fds(a);
	} else {
		/* The runtime may delete the namespace as soon as it has the answer. */
		close_fds(a);
		if (reply.delegates)
			set_env(&reply);
		else
			count(self->home, &reply, verb);
		if (reply.log)
			log_warn("%s", reply.log);
		r = answer(s, reply.delegates ? PIPE_RUN_SELF : PIPE_DONE, &reply);
		if (r < 0)
			log_warn("a plugin that has not taken its answer: %s", strerror(-r));
	}
	cni_reply_done(&reply);
}

static void serve_one(struct self *self, int s)
{
	auto_(asked) struct asked *a = asked_new();
	struct err err = ERR_INIT;
	int r;

	set_timeout(s, SO_RCVTIMEO, PIPE_FIRST_MS);
	set_timeout(s, SO_SNDTIMEO, PEER_TIMEOUT_MS);
	r = receive_head(s, a, &err);
	if (r == 0) {
		set_timeout(s, SO_RCVTIMEO, PEER_TIMEOUT_MS);
		r = receive_conf(s, a, &err);
	}
	if (r == 0) {
		serve_asked(self, s, a);
	} else if (r > 0) {
		r = answer(s, PIPE_RUN_SELF, NULL);
		if (r < 0)
			err_sys(&err, r, "a plugin that has not taken its answer");
	}
	if (r < 0)
		log_warn("%s", err_text(&err));
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

static void begin(struct self *self, int waiters_fd, int ask_fd, const struct cni_home *home)
{
	*self = (struct self){.home = home, .client = {.fd = ask_fd}, .waiters_fd = waiters_fd};
	self->ctx = cni_ctx_new(home);
	/* An answer to the worker before is not this one's. */
	mem_random(&self->client.n, sizeof(self->client.n));
	premises_prefixes(home->node, &self->client.prefixes);
	signal(SIGTERM, on_term);
}

static _Noreturn void end(struct self *self)
{
	cni_ctx_free(self->ctx);
	_exit(EXIT_SUCCESS);
}

_Noreturn void worker_run(int listener, int waiters_fd, int ask_fd, const struct cni_home *home)
{
	int queue = queue_of(listener);
	struct self self;

	begin(&self, waiters_fd, ask_fd, home);
	while (!stopping) {
		auto_close int s = next_plugin(queue, listener);

		if (s < 0)
			continue;
		busy = 1;
		if (is_root(s))
			serve_one(&self, s);
		else
			log_warn("a process that is not root's has connected: refused");
		busy = 0;
	}
	end(&self);
}

_Noreturn void waiter_run(int fd, int ask_fd, int64_t *since_ms, const struct cni_home *home)
{
	struct self self;

	begin(&self, -1, ask_fd, home);
	while (!stopping) {
		auto_(asked) struct asked *a = asked_new();
		struct err err = ERR_INIT;
		auto_close int s = take_left(fd, a, &err);

		if (s < 0) {
			log_error("%s", err_text(&err));
			_exit(EXIT_FAILURE);
		}
		busy = 1;
		shared_set(since_ms, clock_mono_ms());
		serve_asked(&self, s, a);
		shared_set(since_ms, 0);
		busy = 0;
	}
	end(&self);
}
