/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "confd/command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/vec.h"
#include "svc/loop.h"

#define OUTPUT_KEPT 300

struct command {
	char *name;
	pid_t pid;
	int pidfd, output;
	struct loop_fd *ended;
	struct loop_timer *timeout;
	bool timed_out;
	command_done_fn *done;
	void *arg;
};

static void command_free(struct command *c)
{
	loop_fd_free(c->ended);
	loop_timer_free(c->timeout);
	close(c->pidfd);
	close(c->output);
	free(c->name);
	free(c);
}

/* The end of what it wrote, as one line. */
static void read_output(const struct command *c, char *buf, size_t size)
{
	off_t len = lseek(c->output, 0, SEEK_END), from = 0;
	ssize_t n;

	if (len > (off_t)size - 1)
		from = len - ((off_t)size - 1);
	n = pread(c->output, buf, size - 1, from);
	buf[n > 0 ? n : 0] = '\0';
	for (char *s = buf; *s; s++)
		if ((unsigned char)*s < ' ')
			*s = ' ';
}

static void on_ended(void *arg)
{
	struct command *c = arg;
	char output[OUTPUT_KEPT + 1];
	struct err err = ERR_INIT;
	int status, r = 0;

	if (waitpid(c->pid, &status, WNOHANG) != c->pid)
		return;
	read_output(c, output, sizeof(output));
	if (c->timed_out)
		r = err_set(
			&err, -ETIMEDOUT, "%s took too long and was killed: %s", c->name, output);
	else if (WIFSIGNALED(status))
		r = err_set(&err, -EINVAL, "%s was ended by signal %d: %s", c->name,
			WTERMSIG(status), output);
	else if (WEXITSTATUS(status) != 0)
		r = err_set(&err, -EINVAL, "%s failed with %d: %s", c->name, WEXITSTATUS(status),
			output);
	c->done(c->arg, r, &err);
	command_free(c);
}

static void on_timeout(void *arg)
{
	struct command *c = arg;

	c->timed_out = true;
	kill(c->pid, SIGKILL);
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
	posix_spawnattr_setsigdefault(&attr, &signals);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
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
	auto_close int output = memfd_create("margay-command", MFD_CLOEXEC);
	auto_close int pidfd = -1;
	struct command *c;
	pid_t pid;
	int r;

	if (output < 0)
		return err_sys(err, -errno, "memfd_create");
	r = spawn(argv, output, &pid);
	if (r < 0)
		return err_sys(err, r, "start %s", argv[0]);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0) {
		r = -errno;
		kill(pid, SIGKILL);
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
	c->timeout = loop_timer_new(base, on_timeout, c);
	loop_timer_set(c->timeout, timeout_ms);
	*ret = c;
	return 0;
}

void command_cancel(struct command *c)
{
	if (!c)
		return;
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, 0);
	command_free(c);
}
