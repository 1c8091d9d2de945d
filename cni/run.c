/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * margay-cni run: a verb in this process, as the plugin does where nobody serves. Takes the request
 * from the environment, stdin and the pod's network namespace, in which it stays only for as long as it
 * takes to open a socket and two directories.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "cni/cni.h"
#include "cni/conf.h"
#include "cni/delegate.h"
#include "cni/main.h"
#include "cni/netns.h"
#include "cni/pipe.h"
#include "cni/result.h"

extern char **environ;

static void read_env(struct cni_request *rq)
{
	VEC(struct cni_env) env = {0};

	for (char **e = environ; *e; e++) {
		char *eq = strchr(*e, '=');

		if (eq && strncmp(*e, "CNI_", 4) == 0) {
			struct cni_env v = {mem_strndup(*e, (size_t)(eq - *e)), eq + 1};

			vec_push(&env, v);
		}
	}
	rq->env = env.v;
	rq->n_env = env.n;
}

/* Opens what is of the namespace that this process is in now. */
static void open_inside(struct cni_request *rq)
{
	rq->nl_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (rq->nl_fd < 0)
		rq->netns_errno = errno;
	rq->ipv4_fd = open("/proc/sys/net/ipv4", O_PATH | O_DIRECTORY | O_CLOEXEC);
	rq->ipv6_fd = open("/proc/sys/net/ipv6", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* 0; or where it does not come back, and can do nothing any more. */
static int open_netns(struct cni_request *rq, const char *path, struct err *err)
{
	auto_close int self = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	rq->netns_fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	rq->netns_is_own = self >= 0 && rq->netns_fd >= 0 && netns_is_refused(rq->netns_fd, self);
	if (self < 0 || rq->netns_fd < 0 || rq->netns_is_own ||
		setns(rq->netns_fd, CLONE_NEWNET) < 0) {
		rq->netns_errno = errno;
		if (rq->netns_fd >= 0)
			close(rq->netns_fd);
		rq->netns_fd = -1;
	} else {
		open_inside(rq);
		if (setns(self, CLONE_NEWNET) < 0)
			return err_sys(err, -errno,
				"back from CNI_NETNS %s to the host's network namespace", path);
	}
	return 0;
}

static int fail(int code, const struct err *err)
{
	struct strbuf out = STRBUF_INIT;

	cni_error_print(CNI_1_1_0, code, err_text(err), NULL, &out);
	fputs(out.s, stdout);
	strbuf_done(&out);
	return 1;
}

/* A server has run it so far that another plugin is to be executed. */
static bool is_looked_at(void)
{
	return getenv(DELEGATE_POD_CIDRS) && !getenv(DELEGATE_RESULT);
}

static int run(const struct cni_request *rq)
{
	struct cni_ctx *ctx;
	struct cni_reply reply;
	int r;

	if (is_looked_at())
		return delegate_run(rq, getenv("CNI_COMMAND"), getenv(DELEGATE_POD_CIDRS));
	ctx = cni_ctx_new(NULL);
	cni_run(ctx, rq, &reply);
	if (reply.delegates) {
		r = delegate_run(rq, getenv("CNI_COMMAND"), reply.json);
	} else {
		fputs(reply.json, stdout);
		r = fflush(stdout) == 0 ? reply.exit_code : PIPE_EXIT_UNSURE;
	}
	cni_reply_done(&reply);
	cni_ctx_free(ctx);
	return r;
}

int run_main(int argc, char **argv)
{
	struct cni_request rq = {
		.netns_fd = -1, .nl_fd = -1, .ipv4_fd = -1, .ipv6_fd = -1, .peer_fd = -1};
	const char *verb = getenv("CNI_COMMAND"), *netns = getenv("CNI_NETNS");
	const char *self = argc > 1 ? argv[1] : "margay";
	struct err err = ERR_INIT;
	char *conf = NULL;
	int r;

	if (argc > 2 || (argc > 1 && argv[1][0] == '-')) {
		fprintf(stderr,
			"margay-cni run: \"%s\": want the name that the plugin was called by, or "
			"nothing; all else is in CNI_* and on stdin\n",
			argv[argc - 1]);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	rq.ipam_only = strlen(self) > 5 && strcmp(self + strlen(self) - 5, "-ipam") == 0;
	r = file_read_fd(STDIN_FILENO, "stdin", CNI_CONF_MAX, &conf, &rq.conf_len, &err);
	if (r < 0)
		return fail(CNI_E_IO, &err);
	rq.conf = conf;
	read_env(&rq);
	if (verb && netns_is_needed(verb) && netns && netns[0] != '\0' && !rq.ipam_only)
		r = open_netns(&rq, netns, &err);
	r = r < 0 ? fail(CNI_E_KERNEL, &err) : run(&rq);
	for (size_t i = 0; i < rq.n_env; i++)
		free((char *)(uintptr_t)rq.env[i].name);
	free((struct cni_env *)(uintptr_t)rq.env);
	free(conf);
	return r;
}
