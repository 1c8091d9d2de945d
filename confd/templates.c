/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "confd/templates.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "tmpl/tmpl.h"

#define LOG_MODULE "templates"
#include "base/log.h"

struct templates {
	VEC(char *) dirs;
	VEC(struct tmpl *) loaded;
};

struct templates *templates_new(const char *const *dirs, size_t n_dirs)
{
	struct templates *t = mem_new(struct templates);

	for (size_t i = 0; i < n_dirs; i++)
		if (dirs[i] && *dirs[i])
			vec_push(&t->dirs, mem_strdup(dirs[i]));
	return t;
}

char *templates_beside(const char *program)
{
	auto_free char *prefix = mem_strdup(program);

	for (int i = 0; i < 2; i++) {
		char *slash = strrchr(prefix, '/');

		if (slash) /* none: above / is / */
			*slash = '\0';
	}
	return mem_printf("%s/share/margay/templates", prefix);
}

void templates_free(struct templates *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->dirs.n; i++)
		free(t->dirs.v[i]);
	for (size_t i = 0; i < t->loaded.n; i++)
		tmpl_free(t->loaded.v[i]);
	vec_done(&t->dirs);
	vec_done(&t->loaded);
	free(t);
}

static int load(struct templates *t, const char *name, struct tmpl **ret, struct err *err)
{
	int r = -ENOENT;

	err_set(err, r, "template %s: there is no template directory", name);
	for (size_t i = 0; i < t->dirs.n && r == -ENOENT; i++) {
		auto_free char *path = mem_printf("%s/%s.mustache", t->dirs.v[i], name);
		auto_free char *text = NULL;
		size_t len;

		r = file_read(path, TMPL_TEXT_MAX, &text, &len, err);
		if (r == 0)
			r = tmpl_parse(text, len, path, ret, err);
		else
			err_wrap(err, r, "template %s", name);
	}
	return r;
}

static int get(struct templates *t, const char *name, const struct tmpl **ret, struct err *err)
{
	struct tmpl *fresh;
	int r;

	for (size_t i = 0; i < t->loaded.n; i++) {
		const char *path = tmpl_name(t->loaded.v[i]), *base = strrchr(path, '/') + 1;

		if (strncmp(base, name, strlen(name)) == 0 &&
			strcmp(base + strlen(name), ".mustache") == 0) {
			*ret = t->loaded.v[i];
			return 0;
		}
	}
	if (!*name || strchr(name, '/'))
		return err_set(err, -EINVAL, "template \"%s\": want the name of a file", name);
	r = load(t, name, &fresh, err);
	if (r < 0)
		return r;
	vec_push(&t->loaded, fresh);
	*ret = fresh;
	return 0;
}

static const struct tmpl *partial(void *arg, const char *name)
{
	const struct tmpl *t = NULL;
	struct err err = ERR_INIT;

	if (get(arg, name, &t, &err) < 0)
		log_debug("%s", err_text(&err));
	return t;
}

int templates_render(struct templates *t, const char *name, const json_t *view, struct strbuf *out,
	struct err *err)
{
	struct tmpl_env env = {.partial = partial, .partial_arg = t, .escape = tmpl_escape_bird};
	const struct tmpl *tmpl;
	int r = get(t, name, &tmpl, err);

	return r < 0 ? r : tmpl_render(tmpl, view, &env, out, err);
}
