/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "confd/command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/vec.h"
#include "svc/loop.h"

#define OUTPUT_KEPT 300
#define PIPE_READS 16 /* of 4 KiB: what a pipe holds */

struct command {
	char *name;
	pid_t pid;
	int pidfd, output; /* a pipe's end */
	struct loop_fd *ended, *heard;
	struct loop_timer *timeout;
	bool timed_out;
	command_done_fn *done;
	void *arg;
	char tail[OUTPUT_KEPT + 1]; /* of the output */
	size_t len;
};

static void command_free(struct command *c)
{
	loop_fd_free(c->ended);
	loop_fd_free(c->heard);
	loop_timer_free(c->timeout);
	close(c->pidfd);
	close(c->output);
	free(c->name);
	free(c);
}

/* Keeps the end of what it wrote, as one line. False: nothing more is there for now. */
static bool hear(struct command *c, bool *ret_end)
{
	char buf[4096];
	ssize_t got = read(c->output, buf, sizeof(buf));
	size_t n = got > 0 ? (size_t)got : 0, keep = n < OUTPUT_KEPT ? n : OUTPUT_KEPT, drop;

	*ret_end = got == 0;
	drop = c->len + keep > OUTPUT_KEPT ? c->len + keep - OUTPUT_KEPT : 0;
	memmove(c->tail, c->tail + drop, c->len - drop);
	c->len -= drop;
	for (size_t i = n - keep; i < n; i++)
		c->tail[c->len++] = (char)((unsigned char)buf[i] < ' ' ? ' ' : buf[i]);
	return n > 0;
}

/* Once per turn, so that nobody has to wait for one that writes without end. */
static void on_output(void *arg)
{
	struct command *c = arg;
	bool end;

	(void)hear(c, &end);
	if (end)
		loop_fd_free(take_ptr(c->heard));
}

/* What is in the pipe; one that it has started and left behind may go on writing. */
static void hear_rest(struct command *c)
{
	bool end;

	for (int i = 0; i < PIPE_READS && hear(c, &end); i++)
		;
}

static void on_ended(void *arg)
{
	struct command *c = arg;
	struct err err = ERR_INIT;
	int status, r = 0;

	if (waitpid(c->pid, &status, WNOHANG) != c->pid)
		return;
	hear_rest(c);
	if (c->timed_out)
		r = err_set(
			&err, -ETIMEDOUT, "%s took too long and was killed: %s", c->name, c->tail);
	else if (WIFSIGNALED(status))
		r = err_set(&err, -EINVAL, "%s was ended by signal %d: %s", c->name,
			WTERMSIG(status), c->tail);
	else if (WEXITSTATUS(status) != 0)
		r = err_set(&err, -EINVAL, "%s failed with %d: %s", c->name, WEXITSTATUS(status),
			c->tail);
	c->done(c->arg, r, &err);
	command_free(c);
}

/* With all that it has started, unless they have left its group. It was not waited for yet. */
static void kill_all(pid_t pid)
{
	kill(-pid, SIGKILL);
}

static void on_timeout(void *arg)
{
	struct command *c = arg;

	c->timed_out = true;
	kill_all(c->pid);
}

static int spawn(const char *const *argv, int output, pid_t *ret)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	VEC(char *) args = {0};
	sigset_t signals;
	int r;

	for (size_t i = 0; argv[i]; i++)
		vec_push(&args, mem_strdup(argv[i]));
	vec_push(&args, NULL);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, output, 1);
	posix_spawn_file_actions_adddup2(&files, output, 2);
	posix_spawnattr_init(&attr);
	sigemptyset(&signals);
	posix_spawnattr_setsigmask(&attr, &signals);
	sigaddset(&signals, SIGPIPE);
	sigaddset(&signals, SIGHUP);
	posix_spawnattr_setsigdefault(&attr, &signals);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setflags(
		&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	r = posix_spawnp(ret, args.v[0], &files, &attr, args.v, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	for (size_t i = 0; i < args.n; i++)
		free(args.v[i]);
	vec_done(&args);
	return -r;
}

int command_start(struct event_base *base, const char *const *argv, int64_t timeout_ms,
	command_done_fn *done, void *arg, struct command **ret, struct err *err)
{
	auto_close int output = -1, input = -1, pidfd = -1;
	struct command *c;
	int ends[2], r;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "pipe");
	output = ends[0];
	input = ends[1];
	(void)fcntl(output, F_SETFL, O_NONBLOCK);
	r = spawn(argv, input, &pid);
	if (r < 0)
		return err_sys(err, r, "start %s", argv[0]);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0) {
		r = -errno;
		kill_all(pid);
		waitpid(pid, NULL, 0);
		return err_sys(err, r, "pidfd_open");
	}
	c = mem_new(struct command);
	c->name = mem_strdup(argv[0]);
	c->pid = pid;
	c->done = done;
	c->arg = arg;
	c->pidfd = take_fd(pidfd);
	c->output = take_fd(output);
	c->ended = loop_fd_new(base, c->pidfd, LOOP_READ, on_ended, c);
	c->heard = loop_fd_new(base, c->output, LOOP_READ, on_output, c);
	c->timeout = loop_timer_new(base, on_timeout, c);
	loop_timer_set(c->timeout, timeout_ms);
	*ret = c;
	return 0;
}

void command_cancel(struct command *c)
{
	if (!c)
		return;
	kill_all(c->pid);
	waitpid(c->pid, NULL, 0);
	command_free(c);
}
