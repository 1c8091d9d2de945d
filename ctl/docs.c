/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/docs.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "model/yaml.h"

static void add_failure(struct docs *d, const char *where, const struct err *err)
{
	struct doc doc = {.where = mem_strdup(where), .err = mem_strdup(err_text(err))};

	vec_push(&d->v, doc);
}

static void add_file(struct docs *d, const char *path)
{
	bool is_stdin = strcmp(path, "-") == 0;
	struct yaml_docs loaded = {0};
	struct err err = ERR_INIT;
	auto_free char *text = NULL;
	struct yaml_doc *e;
	size_t len;
	int r;

	if (is_stdin) {
		path = "standard input";
		r = file_read_fd(STDIN_FILENO, path, YAML_FILE_MAX, &text, &len, &err);
	} else {
		r = file_read(path, YAML_FILE_MAX, &text, &len, &err);
	}
	if (r < 0) {
		add_failure(d, path, &err);
		return;
	}
	yaml_load(text, len, &loaded);
	vec_for_each (&loaded.v, e) {
		struct doc doc = {.j = take_ptr(e->j), .err = take_ptr(e->err)};

		/* A message about the syntax has its own line. */
		doc.where = doc.err ? mem_strdup(path) : mem_printf("%s:%u", path, e->line);
		vec_push(&d->v, doc);
	}
	yaml_docs_done(&loaded);
}

static int is_resource_file(const struct dirent *e)
{
	const char *dot = strrchr(e->d_name, '.');

	return dot && dot != e->d_name &&
	       (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0 || strcmp(dot, ".json") == 0);
}

static void add_dir(struct docs *d, const char *path)
{
	struct dirent **names = NULL;
	struct err err = ERR_INIT;
	int n = scandir(path, &names, is_resource_file, alphasort);

	if (n <= 0) {
		if (n < 0)
			err_sys(&err, -errno, "directory cannot be read");
		else
			err_set(&err, -ENOENT,
				"a directory without .yaml, .yml or .json files: name a file");
		add_failure(d, path, &err);
	}
	for (int i = 0; i < n; i++) {
		auto_free char *file = mem_printf("%s/%s", path, names[i]->d_name);

		add_file(d, file);
		free(names[i]);
	}
	free(names);
}

static void add_path(struct docs *d, const char *path)
{
	struct stat st;

	if (strcmp(path, "-") != 0 && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		add_dir(d, path);
	else
		add_file(d, path);
}

bool docs_get(int argc, char **argv, const char *skip, struct docs *ret)
{
	const struct option options[] = {
		{"filename", required_argument, NULL, 'f'},
		{"namespace", required_argument, NULL, 'n'},
		{skip, no_argument, NULL, 's'},
		{0},
	};
	int opt;

	*ret = (struct docs){.ns = "default"};
	optind = 0;
	while ((opt = getopt_long(argc, argv, "f:n:", options, NULL)) != -1) {
		if (opt == 'f') {
			add_path(ret, optarg);
			ret->asked_for = true;
		} else if (opt == 'n') {
			ret->ns = optarg;
		} else if (opt == 's') {
			ret->skip = true;
		} else {
			return false;
		}
	}
	return true;
}

void docs_done(struct docs *d)
{
	struct doc *e;

	vec_for_each (&d->v, e) {
		free(e->where);
		json_decref(e->j);
		free(e->err);
	}
	vec_done(&d->v);
}
