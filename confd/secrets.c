/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "confd/secrets.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "confd/watch.h"

#define LOG_MODULE "secrets"
#include "base/log.h"

#define SECRET_MAX 4096

struct secrets {
	char *dir;
	struct watch *watch; /* Kubernetes exchanges a secret by renaming a link in its directory */
	char *text;	     /* the last one read */
};

/* What is not there is told by the directory that it would be in; it may have come meanwhile. */
static void watch_path(struct secrets *s, const char *path)
{
	const char *slash = strrchr(path, '/');
	auto_free char *parent = NULL;

	if (watch_add(s->watch, path) || !slash || !slash[1])
		return;
	parent = mem_strndup(path, (size_t)(slash - path) + (slash == path));
	watch_path(s, parent);
	(void)watch_add(s->watch, path);
}

struct secrets *secrets_new(
	struct event_base *base, const char *dir, void (*changed)(void *arg), void *arg)
{
	struct secrets *s = mem_new(struct secrets);
	size_t n = strlen(dir);

	while (n > 1 && dir[n - 1] == '/')
		n--;
	s->dir = mem_strndup(dir, n);
	s->watch = watch_new(base, changed, arg);
	return s;
}

void secrets_free(struct secrets *s)
{
	if (!s)
		return;
	watch_free(s->watch);
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
	watch_path(s, s->dir);
	watch_path(s, of_name);
	if (file_read(path, SECRET_MAX, &s->text, &len, &err) < 0) {
		log_debug("%s", err_text(&err));
		return NULL;
	}
	while (len > 0 && (s->text[len - 1] == '\n' || s->text[len - 1] == '\r'))
		s->text[--len] = '\0';
	return strlen(s->text) == len ? s->text : NULL;
}
