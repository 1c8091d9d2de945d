/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "confd/secrets.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "svc/loop.h"

#define LOG_MODULE "secrets"
#include "base/log.h"

#define SECRET_MAX 4096
/* Kubernetes exchanges a secret by renaming a link in its directory. */
#define EVENTS                                                                              \
	(IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM | IN_CLOSE_WRITE | IN_ATTRIB | \
		IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct secrets {
	char *dir;
	void (*changed)(void *arg);
	void *arg;
	int inotify;
	struct loop_fd *events;
	bool warned;
	char *text; /* the last one read */
};

static void on_events(void *arg)
{
	struct secrets *s = arg;
	char events[4096];

	while (read(s->inotify, events, sizeof(events)) > 0)
		;
	s->changed(s->arg);
}

static bool add(struct secrets *s, const char *path)
{
	if (inotify_add_watch(s->inotify, path, EVENTS) >= 0)
		return true;
	if (errno != ENOENT && errno != ENOTDIR && errno != EACCES && !s->warned) {
		log_warn("watching %s: %s; a secret that changes is not noticed", path,
			strerror(errno));
		s->warned = true;
	}
	return false;
}

/* What is not there is told by the directory that it would be in; it may have come meanwhile. */
static void watch(struct secrets *s, const char *path)
{
	const char *slash = strrchr(path, '/');
	auto_free char *parent = NULL;

	if (add(s, path) || !slash || !slash[1])
		return;
	parent = mem_strndup(path, (size_t)(slash - path) + (slash == path));
	watch(s, parent);
	(void)add(s, path);
}

struct secrets *secrets_new(
	struct event_base *base, const char *dir, void (*changed)(void *arg), void *arg)
{
	struct secrets *s = mem_new(struct secrets);
	size_t n = strlen(dir);

	while (n > 1 && dir[n - 1] == '/')
		n--;
	s->dir = mem_strndup(dir, n);
	s->changed = changed;
	s->arg = arg;
	s->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (s->inotify < 0)
		log_warn("inotify: %s; a secret that changes is not noticed", strerror(errno));
	else
		s->events = loop_fd_new(base, s->inotify, LOOP_READ, on_events, s);
	return s;
}

void secrets_free(struct secrets *s)
{
	if (!s)
		return;
	loop_fd_free(s->events);
	if (s->inotify >= 0)
		close(s->inotify);
	free(s->text);
	free(s->dir);
	free(s);
}

const char *secrets_get(struct secrets *s, const char *name, const char *key)
{
	auto_free char *of_name = NULL, *path = NULL;
	struct err err = ERR_INIT;
	size_t len;

	free(take_ptr(s->text));
	if (!key || strchr(name, '/') || strchr(key, '/') || name[0] == '.' || key[0] == '.')
		return NULL;
	of_name = mem_printf("%s/%s", s->dir, name);
	path = mem_printf("%s/%s", of_name, key);
	if (s->inotify >= 0) {
		watch(s, s->dir);
		watch(s, of_name);
	}
	if (file_read(path, SECRET_MAX, &s->text, &len, &err) < 0) {
		log_debug("%s", err_text(&err));
		return NULL;
	}
	while (len > 0 && (s->text[len - 1] == '\n' || s->text[len - 1] == '\r'))
		s->text[--len] = '\0';
	return strlen(s->text) == len ? s->text : NULL;
}
