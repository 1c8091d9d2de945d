/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "felix/dp/status.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/hmap.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "felix/calc/input.h"
#include "felix/dp/ifaces.h"
#include "kern/rt.h"
#include "model/meta.h"
#include "model/wep.h"

#define POD "k8s "	 /* a pod's file begins so */
#define TEMPORARY ".tmp" /* what file_write_atomic() adds */

struct file {
	struct hmap_node by_key, by_link; /* the latter while it has an endpoint */
	struct list due;
	const struct in_wep *wep; /* NULL: it is to go */
	bool there, stale;	  /* stale: it may say something else */
	char key[];
};

struct status {
	struct ifaces *ifaces;
	char *dir; /* NULL: no files */
	struct hmap files, links;
	struct list due;
	bool may_delete, unknown;
};

static void queue(struct status *s, struct file *f)
{
	list_del(&f->due);
	list_add_tail(&s->due, &f->due);
}

static void see_link(struct status *s, const struct rt_link *l)
{
	struct file *f;

	if (!l)
		return;
	hmap_for_each_hash (f, &s->links, hash_str(l->name), by_link)
		if (strcmp(f->wep->ifname, l->name) == 0)
			queue(s, f);
}

static void on_link(void *arg, const struct rt_link *old, const struct rt_link *now)
{
	see_link(arg, old);
	see_link(arg, now);
}

struct status *status_new(struct ifaces *ifaces)
{
	struct status *s = mem_new(struct status);

	s->ifaces = ifaces;
	s->unknown = true;
	list_init(&s->due);
	ifaces_listen(ifaces, on_link, s);
	return s;
}

static void set_wep(struct status *s, struct file *f, const struct in_wep *now)
{
	if (f->wep)
		hmap_remove(&s->links, &f->by_link);
	f->wep = now;
	if (now)
		hmap_insert(&s->links, &f->by_link, hash_str(now->ifname));
}

static void drop(struct status *s, struct file *f)
{
	set_wep(s, f, NULL);
	list_del(&f->due);
	hmap_remove(&s->files, &f->by_key);
	free(f);
}

void status_free(struct status *s)
{
	struct file *f;

	if (!s)
		return;
	hmap_for_each (f, &s->files, by_key)
		drop(s, f);
	hmap_done(&s->files);
	hmap_done(&s->links);
	free(s->dir);
	free(s);
}

static struct file *find(const struct status *s, const char *key)
{
	struct file *f;

	hmap_for_each_hash (f, &s->files, hash_str(key), by_key)
		if (strcmp(f->key, key) == 0)
			return f;
	return NULL;
}

static struct file *file_new(struct status *s, const char *key)
{
	size_t len = strlen(key);
	struct file *f = mem_zalloc(sizeof(*f) + len + 1);

	memcpy(f->key, key, len);
	list_init(&f->due);
	hmap_insert(&s->files, &f->by_key, hash_str(key));
	return f;
}

static bool is_same(const struct in_wep *a, const struct in_wep *b)
{
	return a && b && strcmp(a->ifname, b->ifname) == 0 && a->n == b->n &&
	       memcmp(a->ips, b->ips, a->n * sizeof(a->ips[0])) == 0;
}

void status_wep(struct status *s, const char *key, const struct in_wep *now)
{
	struct file *f = find(s, key);

	if (now && now->n == 0)
		now = NULL;
	if (!f && !now)
		return;
	f = f ?: file_new(s, key);
	f->stale |= now && !is_same(f->wep, now);
	set_wep(s, f, now);
	queue(s, f);
	if (!now && !s->dir)
		drop(s, f);
}

void status_allow_deletes(struct status *s)
{
	s->may_delete = s->unknown = true;
}

void status_mark_unknown(struct status *s)
{
	struct file *f;

	hmap_for_each (f, &s->files, by_key)
		if (f->there) {
			f->stale = true;
			queue(s, f);
		}
	s->unknown = true;
}

/* The caller's. NULL: it is of no pod, or no file can have the name. */
static char *name_of(const struct file *f)
{
	auto_free char *name = wep_status_name_of(f->key);

	return name && strlen(name) + strlen(TEMPORARY) <= NAME_MAX ? take_ptr(name) : NULL;
}

static void add_nets(struct strbuf *sb, enum ip_family family, const struct in_wep *w)
{
	const char *comma = "";

	strbuf_addf(sb, ",\"ipv%uNets\":[", family);
	for (size_t i = 0; i < w->n; i++) {
		if (w->ips[i].addr.family != family)
			continue;
		strbuf_addf(sb, "%s\"%s\"", comma, prefix_str(&w->ips[i]));
		comma = ",";
	}
	strbuf_addc(sb, ']');
}

/* The members of Calico's that are known here. The link is there, whose name the kernel has taken. */
static int write_file(const char *path, const struct in_wep *w, struct err *err)
{
	auto_strbuf sb = STRBUF_INIT;

	strbuf_add(&sb, "{\"ifaceName\":\"");
	for (const char *c = w->ifname; *c; c++)
		strbuf_addf(&sb, strchr("\"\\", *c) ? "\\%c" : "%c", *c);
	strbuf_addc(&sb, '"');
	add_nets(&sb, IP_V4, w);
	add_nets(&sb, IP_V6, w);
	strbuf_addc(&sb, '}');
	return file_write_atomic(path, sb.s, sb.len, 0644, err);
}

static int remove_file(const char *path, struct err *err)
{
	return unlink(path) < 0 && errno != ENOENT ? err_sys(err, -errno, "%s", path) : 0;
}

void status_set_dir(struct status *s, const char *dir)
{
	struct file *f;

	if (strcmp(dir ?: "", s->dir ?: "") == 0)
		return;
	hmap_for_each (f, &s->files, by_key) {
		auto_free char *name = f->there ? name_of(f) : NULL;
		auto_free char *path = name ? mem_printf("%s/%s", s->dir, name) : NULL;

		if (path)
			(void)remove_file(path, NULL);
		f->there = false;
		f->stale = true;
		queue(s, f);
		if (!f->wep && !dir)
			drop(s, f);
	}
	free(s->dir);
	s->dir = dir ? mem_strdup(dir) : NULL;
	s->unknown = true;
}

static bool is_up(const struct status *s, const struct file *f)
{
	const struct rt_link *l = f->wep ? ifaces_by_name(s->ifaces, f->wep->ifname) : NULL;
	const uint32_t up = IFF_UP | IFF_RUNNING;

	return l && (l->flags & up) == up;
}

static int apply_file(struct status *s, struct file *f, struct err *err)
{
	bool up = is_up(s, f), differs = up != f->there || (up && f->stale);
	auto_free char *name = differs ? name_of(f) : NULL;
	auto_free char *path = name ? mem_printf("%s/%s", s->dir, name) : NULL;
	int r = 0;

	if (path)
		r = up ? write_file(path, f->wep, err) : remove_file(path, err);
	if (r < 0)
		return r;
	if (differs)
		f->there = up && name;
	f->stale = false;
	if (!f->wep)
		drop(s, f);
	return 0;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void note(int r, const struct err *e, int *first, struct err *err)
{
	if (r >= 0 || *first < 0)
		return;
	*first = r;
	if (err)
		*err = *e;
}

static int clear_dir(const struct status *s, DIR *dir, const struct strings *keep, struct err *err)
{
	const struct dirent *d;
	int first = 0;

	while ((d = readdir(dir))) {
		const char *name = d->d_name;
		auto_free char *path = NULL;
		struct err e = ERR_INIT;

		if (strncmp(name, POD, strlen(POD)) != 0 ||
			(keep->v.n > 0 &&
				bsearch(&name, keep->v.v, keep->v.n, sizeof(name), compare)))
			continue;
		path = mem_printf("%s/%s", s->dir, name);
		note(remove_file(path, &e), &e, &first, err);
	}
	return first;
}

/* What is of no endpoint that is up. */
static int clear(const struct status *s, struct err *err)
{
	struct strings keep = {0};
	DIR *dir = opendir(s->dir);
	struct file *f;
	int r;

	if (!dir)
		return err_sys(err, -errno, "%s", s->dir);
	hmap_for_each (f, &s->files, by_key)
		if (f->there)
			vec_push(&keep.v, name_of(f));
	if (keep.v.n > 1)
		qsort(keep.v.v, keep.v.n, sizeof(*keep.v.v), compare);
	r = clear_dir(s, dir, &keep, err);
	strings_done(&keep);
	closedir(dir);
	return r;
}

/* Up to so many; what fails is behind what has not been tried yet. */
static int apply_due(struct status *s, unsigned n, struct err *err)
{
	struct file *f, *next;
	struct list failed;
	int first = 0;

	list_init(&failed);
	list_for_each_safe (f, next, &s->due, due) {
		struct err e = ERR_INIT;
		int r;

		if (n-- == 0)
			break;
		list_del(&f->due);
		r = apply_file(s, f, &e);
		if (r < 0)
			list_add_tail(&failed, &f->due);
		note(r, &e, &first, err);
	}
	list_for_each_safe (f, next, &failed, due)
		queue(s, f);
	return first;
}

int status_apply(struct status *s, struct err *err)
{
	int r;

	if (!s->dir || (list_empty(&s->due) && !s->unknown))
		return 0;
	r = file_mkdirs(s->dir, 0755, err);
	if (r == 0)
		r = apply_due(s, STATUS_BATCH, err);
	if (r == 0 && !list_empty(&s->due))
		return -EAGAIN;
	if (r == 0 && s->unknown && s->may_delete)
		r = clear(s, err);
	s->unknown = s->unknown && r < 0;
	return r;
}
