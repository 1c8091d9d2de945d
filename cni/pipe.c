/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * margay and margay-ipam (calico, calico-ipam): the CNI plugins, each a pipe to margay-cni serve. Gives
 * it the request, and what it needs of the pod's network namespace as descriptors; prints the answer.
 * Where nobody serves, it becomes the margay-cni beside it, which runs the verb itself.
 *
 * Linked with libc alone, statically: what a start costs is most of what this costs.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "layout.h"
#include "netns.h"
#include "pipe.h"

/* Codes of the CNI specification, and the reference library's for what has none. */
enum { CODE_IO = 5, CODE_AGAIN = 11, CODE_OTHER = 999 };
enum { RECONNECTS = 5 };

extern char **environ;

static const char *self_name;
static char *conf, *answer_text; /* what is read; it goes with the process */

/* A text of ours, which has nothing in it that JSON would want escaped but file names. */
static int fail(int code, const char *text, const char *object, int error)
{
	printf("{\n    \"cniVersion\": \"1.1.0\",\n    \"code\": %d,\n    \"msg\": \"%s", code,
		text);
	for (; *object != '\0'; object++)
		putchar(*object == '"' || *object == '\\' || (unsigned char)*object < ' '
				? '?'
				: *object);
	if (error)
		printf(": %s", strerror(error));
	printf("\"\n}\n");
	return PIPE_EXIT_FAILED;
}

/* The socket's path, "" where it is too long for one. */
static const char *socket_path(void)
{
	static char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	const char *dir = getenv("MARGAY_RUN_DIR");
	int n = snprintf(path, sizeof(path), "%s/" PIPE_SOCKET, dir && *dir ? dir : PIPE_RUN_DIR);

	if (n < 0 || (size_t)n >= sizeof(path))
		path[0] = '\0';
	return path;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until PIPE_TIMEOUT_S after the beginning, however it went until here. */
static void set_timeout(int s, int64_t started_ms)
{
	int64_t left = started_ms + PIPE_TIMEOUT_S * 1000 - now_ms();
	struct timeval t = {.tv_sec = 1};

	if (left > 1000)
		t = (struct timeval){.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};
	(void)setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
	(void)setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
}

/* A connection, or -1 with errno. */
static int connect_server(int64_t started_ms)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), e;

	if (s < 0)
		return -1;
	memcpy(a.sun_path, socket_path(), sizeof(a.sun_path));
	set_timeout(s, started_ms);
	if (connect(s, (struct sockaddr *)&a, sizeof(a)) == 0)
		return s;
	e = errno;
	close(s);
	errno = e;
	return -1;
}

/*
 * Becomes margay-cni: of the release in force beside this program, by its loader, else the one beside it
 * itself (layout.h). Comes back with what could not be executed, and errno.
 */
static const char *exec_margay_cni(void)
{
	static char dir[4096], release[256], program[4400], loader[4400], libraries[4400];
	char *argv[] = {loader, (char[]){"--inhibit-cache"}, (char[]){"--library-path"}, libraries,
		program, (char[]){"run"}, (char *)(uintptr_t)self_name, NULL};
	ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);

	if (n < 0)
		return "/proc/self/exe";
	(void)setenv(PIPE_SELF, dir, 1);
	*strrchr(dir, '/') = '\0';
	snprintf(program, sizeof(program), "%s/" LAYOUT_LINK, dir);
	if (readlink(program, release, sizeof(release) - 1) < 0) {
		snprintf(program, sizeof(program), "%s/" LAYOUT_PROGRAM, dir);
		execve(program, argv + 4, environ);
		return program;
	}
	snprintf(loader, sizeof(loader), "%s/%s/" LAYOUT_LOADER, dir, release);
	snprintf(libraries, sizeof(libraries), "%s/%s/" LAYOUT_LIB, dir, release);
	snprintf(program, sizeof(program), "%s/%s/" LAYOUT_PROGRAM, dir, release);
	execve(loader, argv, environ);
	return loader;
}

/* With the configuration, which has been read, on stdin. */
static int run_self(size_t len)
{
	int fd = memfd_create("netconf", 0);
	const char *path;

	if (fd < 0 || write(fd, conf, len) != (ssize_t)len || lseek(fd, 0, SEEK_SET) != 0 ||
		dup2(fd, STDIN_FILENO) < 0)
		return fail(CODE_IO, "handing the configuration to margay-cni", "", errno);
	close(fd);
	path = exec_margay_cni();
	return fail(CODE_AGAIN,
		"nobody serves (is margay-cni serve running on this node?), and there is no margay-cni to "
		"run in its place: ",
		path, errno);
}

/* 0, or -1 with errno: EFBIG where it is too long. */
static int read_conf(size_t *ret_len)
{
	size_t cap = 16384, len = 0;
	ssize_t n = 0;

	conf = malloc(cap);
	while (conf && (n = read(STDIN_FILENO, conf + len, cap - len)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		len += (size_t)n;
		if (len > PIPE_CONF_MAX) {
			errno = EFBIG;
			return -1;
		}
		if (len == cap)
			conf = realloc(conf, cap *= 2);
	}
	*ret_len = len;
	return conf ? 0 : -1;
}

/* CNI_* with their NULs; the length, or SIZE_MAX where there is no room. */
static size_t read_env(char *buf, size_t size)
{
	size_t len = 0;

	for (char **e = environ; *e; e++) {
		size_t n = strlen(*e) + 1;

		if (strncmp(*e, "CNI_", 4) != 0)
			continue;
		if (n > size - len)
			return SIZE_MAX;
		memcpy(buf + len, *e, n);
		len += n;
	}
	return len;
}

/* Opens what is in the namespace, in which this process then is. */
static void open_netns(
	const char *path, int self, struct pipe_request *rq, int fds[static PIPE_N_FDS])
{
	int ns = open(path, O_RDONLY | O_CLOEXEC);

	rq->netns_errno = ns < 0 ? errno : 0;
	if (ns < 0)
		return;
	rq->netns_is_own = self >= 0 && netns_is_refused(ns, self);
	if (rq->netns_is_own || self < 0 || setns(ns, CLONE_NEWNET) < 0) {
		rq->netns_errno = rq->netns_is_own ? 0 : errno;
		close(ns);
		return;
	}
	fds[PIPE_FD_NETNS] = ns;
	fds[PIPE_FD_NL] = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0 /* NETLINK_ROUTE */);
	if (fds[PIPE_FD_NL] < 0)
		rq->netns_errno = errno;
	fds[PIPE_FD_IPV4] = open("/proc/sys/net/ipv4", O_PATH | O_DIRECTORY | O_CLOEXEC);
	fds[PIPE_FD_IPV6] = open("/proc/sys/net/ipv6", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static int send_first(
	int s, struct pipe_request *rq, const char *env, const int fds[static PIPE_N_FDS])
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(PIPE_N_FDS * sizeof(int))];
	} control = {0};
	struct iovec iov[] = {{rq, sizeof(*rq)}, {(char *)(uintptr_t)env, rq->env_len}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
	struct cmsghdr *c = &control.align;
	int n = 0, sent[PIPE_N_FDS];

	for (int i = 0; i < PIPE_N_FDS; i++)
		if (fds[i] >= 0) {
			rq->fds |= 1u << i;
			sent[n++] = fds[i];
		}
	if (n > 0) {
		m.msg_control = control.buf;
		m.msg_controllen = (socklen_t)CMSG_SPACE((size_t)n * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = (socklen_t)CMSG_LEN((size_t)n * sizeof(int));
		memcpy(CMSG_DATA(c), sent, (size_t)n * sizeof(int));
	}
	set_timeout(s, rq->started_ms);
	return sendmsg(s, &m, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

static int send_conf(int s, const struct pipe_request *rq)
{
	for (size_t done = 0; done < rq->conf_len;) {
		size_t left = rq->conf_len - done;
		ssize_t r = send(s, conf + done, left < PIPE_PACKET_MAX ? left : PIPE_PACKET_MAX,
			MSG_NOSIGNAL);

		if (r < 0)
			return -1;
		done += (size_t)r;
	}
	return 0;
}

/* 0, or -1 with errno: EPIPE where the server does not want the rest. */
static int send_request(
	int *s, struct pipe_request *rq, const char *env, const int fds[static PIPE_N_FDS])
{
	/* Where this process was kept from it for too long, the server has not heard of it. */
	for (int n = 0; send_first(*s, rq, env, fds) < 0; n++) {
		if (errno != EPIPE || n == RECONNECTS)
			return -1;
		close(*s);
		*s = connect_server(rq->started_ms);
		if (*s < 0)
			return -1;
	}
	return send_conf(*s, rq);
}

/* A packet; 0: the server is gone. */
static ssize_t receive(int s, void *buf, size_t size)
{
	ssize_t n;

	do {
		n = recv(s, buf, size, 0);
	} while (n < 0 && errno == EINTR);
	return n;
}

static int lost(ssize_t n)
{
	bool late = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);

	(void)fail(CODE_AGAIN,
		late ? "margay-cni serve does not answer: see its log; the runtime tries again: "
		     : "margay-cni serve went away while it ran this: the runtime tries again: ",
		socket_path(), n < 0 && !late ? errno : 0);
	return PIPE_EXIT_UNSURE;
}

/* Into answer_text; 0, or what is to be returned. */
static int receive_answer(int s, const struct pipe_answer *a)
{
	static char buf[PIPE_PACKET_MAX];
	size_t len = (size_t)a->out_len + a->log_len;
	ssize_t n;

	if (a->out_len > PIPE_ANSWER_MAX || a->log_len > PIPE_ANSWER_MAX - a->out_len)
		return fail(CODE_IO, "margay-cni serve gave an answer of more than 4 MiB", "", 0);
	answer_text = malloc(len + 1);
	for (size_t done = 0; answer_text && done < len; done += (size_t)n) {
		n = receive(s, buf, sizeof(buf));
		if (n <= 0 || (size_t)n > len - done)
			return lost(n < 0 ? n : 0);
		memcpy(answer_text + done, buf, (size_t)n);
	}
	if (!answer_text)
		return fail(CODE_IO, "the answer of margay-cni serve", "", ENOMEM);
	answer_text[len] = '\0';
	return 0;
}

/* What is for stdout, and what is for stderr behind the plugin's name. */
static int print_answer(const struct pipe_answer *a)
{
	if (a->log_len > 0)
		fprintf(stderr, "%s: %s\n", self_name, answer_text + a->out_len);
	if (fwrite(answer_text, 1, a->out_len, stdout) != a->out_len || fflush(stdout) != 0)
		return PIPE_EXIT_UNSURE;
	return a->exit_code;
}

static int run(int s, const char *verb, size_t conf_len, int64_t started_ms)
{
	static char env[PIPE_ENV_MAX];
	struct pipe_request rq = {
		.magic = PIPE_MAGIC, .version = PIPE_VERSION, .started_ms = started_ms};
	int fds[PIPE_N_FDS] = {-1, -1, -1, -1}, self = -1;
	const char *netns = getenv("CNI_NETNS");
	size_t len = strlen(self_name), env_len = read_env(env, sizeof(env));
	struct pipe_answer a;
	ssize_t n;
	int r;

	rq.ipam_only = len > 5 && strcmp(self_name + len - 5, "-ipam") == 0;
	if (env_len == SIZE_MAX)
		return fail(CODE_IO, "the environment's CNI_* are longer than 32 KiB", "", 0);
	rq.env_len = (uint32_t)env_len;
	rq.conf_len = (uint32_t)conf_len;
	if (netns_is_needed(verb) && netns && *netns != '\0' && !rq.ipam_only) {
		self = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
		open_netns(netns, self, &rq, fds);
	}
	/* Who refuses does not wait for the rest, and his answer is there to be read. */
	if (send_request(&s, &rq, env, fds) < 0 && errno != EPIPE)
		return lost(-1);
	set_timeout(s, rq.started_ms);
	n = receive(s, &a, sizeof(a));
	if (n != (ssize_t)sizeof(a) || a.magic != PIPE_MAGIC)
		return lost(n < 0 ? n : 0);
	r = a.version == PIPE_VERSION ? receive_answer(s, &a) : 0;
	if (r != 0)
		return r;
	if (a.version == PIPE_VERSION && a.kind == PIPE_DONE)
		return print_answer(&a);
	if (answer_text && strchr(answer_text, '='))
		(void)putenv(answer_text);
	if (fds[PIPE_FD_NETNS] >= 0 && setns(self, CLONE_NEWNET) < 0)
		return fail(CODE_OTHER, "back to the host's network namespace", "", errno);
	return run_self(conf_len);
}

static int about(const char *argument)
{
	if (argument && strcmp(argument, "--help") != 0) {
		fprintf(stderr,
			"%s: there is no option %s: a CNI plugin has its parameters from CNI_* in the "
			"environment\nand from the configuration on stdin; --version is all it takes\n",
			self_name, argument);
		return 2;
	}
	fprintf(stderr,
		"margay " MARGAY_VERSION
		", a CNI plugin: a container runtime runs it, with CNI_COMMAND in "
		"the environment\nand the configuration on stdin. CNI versions 0.1.0 to 1.1.0.\n");
	return 0;
}

int main(int argc, char **argv)
{
	const char *verb = getenv("CNI_COMMAND");
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const int64_t started_ms = now_ms();
	size_t conf_len = 0;
	int s;

	self_name = slash ? slash + 1 : argc > 0 ? argv[0] : "margay";
	if (argc > 1 && (strcmp(argv[1], "-v") == 0 || strcmp(argv[1], "--version") == 0)) {
		printf("%s\n", MARGAY_VERSION);
		return 0;
	}
	if (!verb)
		return about(argc > 1 ? argv[1] : NULL);
	signal(SIGPIPE, SIG_IGN);
	/* However long the runtime takes for it, no server waits. */
	if (read_conf(&conf_len) < 0)
		return fail(CODE_IO, "stdin, where the configuration is to be, of at most 1 MiB",
			"", errno);
	s = connect_server(started_ms);
	if (s >= 0)
		return run(s, verb, conf_len, started_ms);
	if (errno == EAGAIN)
		return lost(-1);
	return run_self(conf_len);
}
