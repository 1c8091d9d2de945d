/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/install/place.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "cni/install/backup.h"
#include "cni/install/hostdir.h"

#define RECORD_MAX (1024 * 1024)
#define RECORD_HEAD "# What `margay-cni install` placed here; `margay-cni uninstall` removes it.\n"

/* A line of the record, "DIGEST NAME". Of a link it is the digest of where that leads. */
struct entry {
	char digest[SHA256_HEX_SIZE];
	char *name;
	bool past; /* until sweep() */
};

struct want {
	struct hostfile file;
	struct entry entry;
};

struct place {
	struct hostdir *dir;
	VEC(struct entry) known; /* by the record, and what is wanted from place_put() on */
	VEC(struct want) wants;
};

static bool is_equal(const struct entry *a, const struct entry *b)
{
	return strcmp(a->digest, b->digest) == 0 && strcmp(a->name, b->name) == 0;
}

static bool is_wanted(const struct place *p, const struct entry *e)
{
	const struct want *w;

	vec_for_each (&p->wants, w)
		if (is_equal(&w->entry, e))
			return true;
	return false;
}

static bool is_known(const struct place *p, const struct entry *e)
{
	const struct entry *k;

	vec_for_each (&p->known, k)
		if (is_equal(k, e))
			return true;
	return false;
}

static void learn(struct place *p, const struct entry *e)
{
	struct entry copy = *e;

	copy.name = mem_strdup(e->name);
	copy.past = false;
	vec_push(&p->known, copy);
}

/* Drops what is past. */
static void sweep(struct place *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->known.n; i++)
		if (p->known.v[i].past)
			free(p->known.v[i].name);
		else
			p->known.v[n++] = p->known.v[i];
	p->known.n = n;
}

static void forget(struct place *p, const char *name)
{
	struct entry *k;

	vec_for_each (&p->known, k)
		k->past = strcmp(k->name, name) == 0;
	sweep(p);
}

/* ---- the record ---- */

/* Below the directory, and nowhere else. */
static bool name_ok(const char *s)
{
	for (;;) {
		size_t n = strcspn(s, "/");

		if (n == 0 || strncmp(s, "..", n) == 0)
			return false;
		if (s[n] == '\0')
			return true;
		s += n + 1;
	}
}

static int parse_line(struct place *p, char *line)
{
	struct entry e;

	if (line[0] == '#')
		return 0;
	if (strspn(line, "0123456789abcdef") != SHA256_HEX_SIZE - 1 ||
		line[SHA256_HEX_SIZE - 1] != ' ' || !name_ok(line + SHA256_HEX_SIZE))
		return -EINVAL;
	memcpy(e.digest, line, SHA256_HEX_SIZE - 1);
	e.digest[SHA256_HEX_SIZE - 1] = '\0';
	e.name = line + SHA256_HEX_SIZE;
	learn(p, &e);
	return 0;
}

static int parse_record(struct place *p, const struct hostfile *f, struct err *err)
{
	auto_free char *text = NULL;
	unsigned n = 0;
	char *line, *rest;

	if (f->kind == HOSTFILE_NONE)
		return 0;
	if (f->kind != HOSTFILE_REGULAR || f->n > RECORD_MAX)
		return err_set(err, -EINVAL,
			"record %s/" PLACE_RECORD ": want a file of at most %d bytes: move it away",
			p->dir->path, RECORD_MAX);
	text = mem_strndup(f->bytes ? f->bytes : "", f->n);
	for (rest = text; (line = strsep(&rest, "\n")) != NULL && rest;) {
		n++;
		if (parse_line(p, line) < 0)
			return err_set(err, -EINVAL,
				"record %s/" PLACE_RECORD ": line %u: want \"DIGEST NAME\": "
				"correct it, or move it away",
				p->dir->path, n);
	}
	return 0;
}

static int write_record(const struct place *p, struct err *err)
{
	auto_strbuf sb = STRBUF_INIT;
	/* Not for every user to read: a digest is enough to guess a weak password by. */
	struct hostfile now, f = {.kind = HOSTFILE_REGULAR, .mode = 0600};
	const struct entry *k;
	int r;

	if (p->known.n == 0)
		return hostdir_unlink(p->dir, PLACE_RECORD, err);
	strbuf_add(&sb, RECORD_HEAD);
	vec_for_each (&p->known, k)
		strbuf_addf(&sb, "%s %s\n", k->digest, k->name);
	f.bytes = sb.s;
	f.n = sb.len;
	r = hostdir_look(p->dir, PLACE_RECORD, &now, err);
	if (r == 0 && !hostfile_equal(&now, &f))
		r = hostdir_put(p->dir, PLACE_RECORD, &f, err);
	hostfile_close(&now);
	return r;
}

int place_new(struct hostdir *d, struct place **ret, struct err *err)
{
	struct place *p = mem_new(struct place);
	struct hostfile f;
	int r;

	p->dir = d;
	r = hostdir_look(d, PLACE_RECORD, &f, err);
	if (r == 0)
		r = parse_record(p, &f, err);
	hostfile_close(&f);
	if (r < 0)
		place_free(p);
	else
		*ret = p;
	return r;
}

void place_free(struct place *p)
{
	struct entry *k;
	struct want *w;

	if (!p)
		return;
	vec_for_each (&p->known, k)
		free(k->name);
	vec_done(&p->known);
	vec_for_each (&p->wants, w)
		free(w->entry.name);
	vec_done(&p->wants);
	free(p);
}

/* ---- what is placed ---- */

void place_want(struct place *p, const char *name, const struct hostfile *f)
{
	struct want w = {.file = *f, .entry.name = mem_strdup(name)};

	memcpy(w.entry.digest, hostfile_digest(&w.file), SHA256_HEX_SIZE);
	vec_push(&p->wants, w);
}

static bool is_as(const struct entry *e, const char *name, struct hostfile *f)
{
	return (f->kind == HOSTFILE_REGULAR || f->kind == HOSTFILE_LINK) &&
	       strcmp(e->name, name) == 0 && strcmp(e->digest, hostfile_digest(f)) == 0;
}

static bool is_ours(const struct place *p, const char *name, struct hostfile *f)
{
	const struct entry *k;

	vec_for_each (&p->known, k)
		if (is_as(k, name, f))
			return true;
	return false;
}

bool place_is_ours(const struct place *p, const char *name)
{
	struct hostfile f;
	bool ours;

	ours = hostdir_look(p->dir, name, &f, NULL) == 0 && is_ours(p, name, &f);
	hostfile_close(&f);
	return ours;
}

static int put_one(struct place *p, const struct want *w, struct err *err)
{
	const char *name = w->entry.name;
	struct hostfile now;
	bool same, foreign;
	int r;

	r = hostdir_look(p->dir, name, &now, err);
	same = hostfile_equal(&now, &w->file);
	foreign = now.kind != HOSTFILE_NONE && !strchr(name, '/') && !is_ours(p, name, &now);
	if (r == 0 && now.kind == HOSTFILE_OTHER)
		r = err_set(err, -EEXIST,
			"place %s/%s: there is something that is no file: move it away",
			p->dir->path, name);
	hostfile_close(&now);
	if (r < 0 || same)
		return r;
	if (foreign)
		r = backup_keep(p->dir, name, err);
	if (r == 0)
		r = hostdir_put(p->dir, name, &w->file, err);
	if (r == 0)
		hostdir_say(p->dir, "place %s/%s", p->dir->path, name);
	return r;
}

/* The directories of a name go with the last that is in them. */
static void remove_dirs(const struct place *p, const char *name)
{
	auto_free char *dir = mem_strdup(name);

	for (char *s = strrchr(dir, '/'); s; s = strrchr(dir, '/')) {
		*s = '\0';
		if (hostdir_rmdir(p->dir, dir, NULL) < 0)
			return;
	}
}

/* What a killed one left. */
static int remove_tmp(const struct place *p, const char *name, struct err *err)
{
	auto_free char *tmp = mem_printf("%s" HOSTDIR_TMP, name);

	return hostdir_unlink(p->dir, tmp, err);
}

static int remove_one(struct place *p, const char *name, struct err *err)
{
	int r = 0;

	if (place_is_ours(p, name)) {
		r = hostdir_unlink(p->dir, name, err);
		if (r == 0)
			hostdir_say(p->dir, "remove %s/%s", p->dir->path, name);
	}
	if (r == 0)
		r = remove_tmp(p, name, err);
	if (r == 0)
		remove_dirs(p, name);
	return r;
}

static bool is_in(const char *name, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(name, dir, n) == 0 && name[n] == '/';
}

static bool is_there(const struct place *p, const struct entry *e)
{
	struct hostfile f;
	bool there;

	there = hostdir_look(p->dir, e->name, &f, NULL) == 0 && is_as(e, e->name, &f);
	hostfile_close(&f);
	return there;
}

/* Of an earlier installation: 1 = the record need not have it any more. */
static int end_one(struct place *p, const struct entry *e, const char *keep, struct err *err)
{
	int r;

	if (!strchr(e->name, '/'))
		return !is_there(p, e);
	if (!keep || is_in(e->name, keep))
		return 0;
	r = remove_one(p, e->name, err);
	return r < 0 ? r : 1;
}

static int end(struct place *p, const char *keep, struct err *err)
{
	struct entry *k;
	int r;

	vec_for_each (&p->known, k) {
		r = is_wanted(p, k) ? 0 : end_one(p, k, keep, err);
		if (r < 0)
			return r;
		k->past = r > 0;
	}
	sweep(p);
	return write_record(p, err);
}

int place_put(struct place *p, const char *keep, struct err *err)
{
	const struct want *w;
	int r;

	vec_for_each (&p->wants, w)
		if (!is_known(p, &w->entry))
			learn(p, &w->entry);
	r = write_record(p, err);
	if (r < 0)
		return r;
	vec_for_each (&p->wants, w) {
		r = put_one(p, w, err);
		if (r < 0)
			return r;
	}
	return end(p, keep, err);
}

/* ---- what is removed ---- */

static bool has_name(const struct hostdir_names *names, const char *name)
{
	for (size_t i = 0; i < names->n; i++)
		if (strcmp(names->v[i], name) == 0)
			return true;
	return false;
}

void place_list_changed(const struct place *p, struct hostdir_names *ret)
{
	const struct entry *k;

	vec_for_each (&p->known, k)
		if (hostdir_has(p->dir, k->name) && !place_is_ours(p, k->name) &&
			!has_name(ret, k->name))
			vec_push(ret, mem_strdup(k->name));
}

int place_put_back(
	struct place *p, const char *backup, bool same, const char *name, struct err *err)
{
	int r;

	/* Two links to one file: a rename would do nothing. */
	r = same ? hostdir_unlink(p->dir, backup, err) : hostdir_rename(p->dir, backup, name, err);
	if (r < 0)
		return r;
	hostdir_say(p->dir, "put back %s/%s", p->dir->path, name);
	r = remove_tmp(p, name, err);
	if (r < 0)
		return r;
	forget(p, name);
	return write_record(p, err);
}

int place_remove(struct place *p, struct err *err)
{
	int r;

	/* What was placed last executes what was placed before it. */
	for (size_t i = p->known.n; i > 0; i--) {
		r = remove_one(p, p->known.v[i - 1].name, err);
		if (r < 0)
			return r;
	}
	r = remove_tmp(p, PLACE_RECORD, err);
	return r < 0 ? r : hostdir_unlink(p->dir, PLACE_RECORD, err);
}
