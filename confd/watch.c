/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "confd/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "svc/loop.h"

#define LOG_MODULE "watch"
#include "base/log.h"

#define EVENTS                                                                              \
	(IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM | IN_CLOSE_WRITE | IN_ATTRIB | \
		IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct watch {
	void (*touched)(void *arg);
	void *arg;
	int inotify;
	struct loop_fd *events;
	bool warned;
};

static void on_events(void *arg)
{
	struct watch *w = arg;
	char events[4096];

	while (read(w->inotify, events, sizeof(events)) > 0)
		;
	w->touched(w->arg);
}

struct watch *watch_new(struct event_base *base, void (*touched)(void *arg), void *arg)
{
	struct watch *w = mem_new(struct watch);

	w->touched = touched;
	w->arg = arg;
	w->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->inotify < 0)
		log_warn("inotify: %s; files that others change are not noticed", strerror(errno));
	else
		w->events = loop_fd_new(base, w->inotify, LOOP_READ, on_events, w);
	return w;
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	loop_fd_free(w->events);
	if (w->inotify >= 0)
		close(w->inotify);
	free(w);
}

bool watch_add(struct watch *w, const char *dir)
{
	if (w->inotify < 0)
		return false;
	if (inotify_add_watch(w->inotify, dir, EVENTS) >= 0)
		return true;
	if (errno != ENOENT && errno != ENOTDIR && errno != EACCES && !w->warned) {
		log_warn("watching %s: %s; what others change there is not noticed", dir,
			strerror(errno));
		w->warned = true;
	}
	return false;
}
