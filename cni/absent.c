/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/absent.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "model/key.h"

#define FILE_MAX (4u << 20)

void absent_done(struct absent *a)
{
	struct absent_node *n;

	vec_for_each (&a->v, n)
		free(n->name);
	vec_done(&a->v);
}

static struct absent_node *find(struct absent *a, const char *name)
{
	struct absent_node *n;

	vec_for_each (&a->v, n)
		if (strcmp(n->name, name) == 0)
			return n;
	return NULL;
}

static bool is_alive(const struct absent_node *was, const struct absent_holds *holds)
{
	if (was->begun && holds->n < was->holds.n)
		return false;
	return holds->n != was->holds.n || holds->sum != was->holds.sum;
}

int64_t absent_see(
	struct absent *a, const char *name, const struct absent_holds *holds, int64_t now_s)
{
	struct absent_node *n = find(a, name);

	if (!n) {
		vec_push(&a->v, (struct absent_node){.name = mem_strdup(name), .since_s = now_s});
		n = &a->v.v[a->v.n - 1];
	} else if (now_s < n->last_s || now_s - n->last_s > ABSENT_GAP_S || is_alive(n, holds)) {
		n->since_s = now_s;
		n->begun = false;
	}
	n->holds = *holds;
	n->last_s = now_s;
	return now_s - n->since_s;
}

void absent_begin(struct absent *a, const char *name, const struct absent_holds *left)
{
	struct absent_node *n = find(a, name);

	if (!n)
		return;
	n->begun = true;
	n->holds = *left;
}

void absent_drop(struct absent *a, const char *name)
{
	struct absent_node *n = find(a, name);

	if (!n)
		return;
	free(n->name);
	*n = a->v.v[--a->v.n];
}

void absent_forget(struct absent *a, int64_t now_s)
{
	size_t n = 0;

	for (size_t i = 0; i < a->v.n; i++) {
		if (a->v.v[i].last_s == now_s)
			a->v.v[n++] = a->v.v[i];
		else
			free(a->v.v[i].name);
	}
	a->v.n = n;
}

static bool load_line(struct absent *ret, const char *line)
{
	struct absent_node n = {0};
	char name[KEY_NAME_SIZE];
	int begun;

	if (sscanf(line, "%" SCNd64 " %" SCNd64 " %" SCNu64 " %" SCNu64 " %d %511s", &n.since_s,
		    &n.last_s, &n.holds.n, &n.holds.sum, &begun, name) != 6 ||
		n.since_s < 0 || n.since_s > n.last_s)
		return false;
	n.begun = begun != 0;
	n.name = mem_strdup(name);
	vec_push(&ret->v, n);
	return true;
}

void absent_load(struct absent *ret, const char *path, const char *boot)
{
	auto_free char *text = NULL;
	char *at, *line;
	bool good;

	*ret = (struct absent){0};
	if (file_read(path, FILE_MAX, &text, NULL, NULL) < 0)
		return;
	at = text;
	line = strsep(&at, "\n");
	good = boot[0] != '\0' && strcmp(line, boot) == 0;
	while (good && (line = strsep(&at, "\n")) && *line)
		good = load_line(ret, line);
	if (!good) {
		absent_done(ret);
		*ret = (struct absent){0};
	}
}

int absent_save(const struct absent *a, const char *path, const char *boot, struct err *err)
{
	auto_strbuf out = STRBUF_INIT;
	const struct absent_node *n;
	int r;

	strbuf_addf(&out, "%s\n", boot);
	vec_for_each (&a->v, n)
		strbuf_addf(&out, "%" PRId64 " %" PRId64 " %" PRIu64 " %" PRIu64 " %d %s\n",
			n->since_s, n->last_s, n->holds.n, n->holds.sum, n->begun, n->name);
	r = file_write_atomic(path, strbuf_str(&out), out.len, 0600, err);
	return r < 0 ? r : 0;
}
