/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "kern/rt.h"

/* For those that come together: the whole is promised within 100 ms. */
static const struct timespec gather = {.tv_nsec = 20 * 1000 * 1000};

enum { LATE_MS = 2000, AGAIN_MS = 50, AGAIN_MAX_MS = 10000 };

static int reap(struct rt *rt)
{
	struct err err = ERR_INIT;
	int r;

	rt_begin(rt, NULL, NULL);
	rt_group_del(rt, REAPER_GROUP, 0);
	r = rt_commit(rt, &err);
	if (r < 0)
		log_error("deleting the interfaces of pods that are gone: %s: it is tried again",
			err_text(&err));
	return r;
}

/* The kernel is asked again soon, and later and later. */
static int next_pause(int ms)
{
	if (ms == 0)
		return AGAIN_MS;
	return ms < AGAIN_MAX_MS / 2 ? 2 * ms : AGAIN_MAX_MS;
}

int reaper_open(const char *run_dir, struct err *err)
{
	auto_free char *path = mem_printf("%s/cni.reap", run_dir);
	struct stat st;
	int fd;

	if (mkfifo(path, 0600) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "%s", path);
	/* For writing, too: so there is always a writer, and its end is never told. */
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_sys(err, -errno, "%s", path);
	if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode))
		return fd;
	close(fd);
	return err_set(err, -EEXIST, "%s is no FIFO: remove it", path);
}

int reaper_tell(int fd, struct err *err)
{
	/* A full one tells enough. */
	if (write(fd, "", 1) < 0 && errno != EAGAIN)
		return err_sys(err, -errno, "waking the reaper of links");
	return 0;
}

_Noreturn void reaper_run(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct err err = ERR_INIT;
	char told[4096];
	struct rt *rt;

	if (rt_open(&rt, &err) < 0) {
		log_error("%s", err_text(&err));
		_exit(EXIT_FAILURE);
	}
	/* Once more in any case: who was killed within the kernel may come to the end of his call only now. */
	for (int late_ms = LATE_MS, pause_ms = 0;;) {
		pause_ms = reap(rt) < 0 ? next_pause(pause_ms) : 0;
		if (poll(&p, 1, pause_ms ?: late_ms) < 0 && errno != EINTR)
			_exit(EXIT_FAILURE);
		if (pause_ms == 0)
			late_ms = -1;
		nanosleep(&gather, NULL);
		/* What comes from here on is seen by the next turn. */
		while (read(fd, told, sizeof(told)) == sizeof(told))
			;
	}
}
