/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/reaper.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "kern/rt.h"

/* For those that come together: the whole is promised within 100 ms. */
static const struct timespec gather = {.tv_nsec = 20 * 1000 * 1000};

static void reap(struct rt *rt)
{
	struct err err = ERR_INIT;

	rt_begin(rt, NULL, NULL);
	rt_group_del(rt, REAPER_GROUP, 0);
	if (rt_commit(rt, &err) < 0)
		log_error("deleting the interfaces of pods that are gone: %s", err_text(&err));
}

_Noreturn void reaper_run(int wake_fd)
{
	struct err err = ERR_INIT;
	struct rt *rt;

	if (rt_open(&rt, &err) < 0) {
		log_error("%s", err_text(&err));
		_exit(EXIT_FAILURE);
	}
	for (;;) {
		uint64_t n;

		reap(rt);
		if (read(wake_fd, &n, sizeof(n)) < 0 && errno != EINTR)
			_exit(EXIT_FAILURE);
		nanosleep(&gather, NULL);
	}
}
