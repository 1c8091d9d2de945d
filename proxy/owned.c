/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A line each: "6 10.130.29.80 30080", protocol, address, port. A strange line is skipped. What is left
 * of a torn one, behind the last line's end, is skipped and cut off before the next is written: with
 * another behind it, or an end of its own, it would say something else.
 */
#include "proxy/owned.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/hmap.h"
#include "base/parse.h"
#include "base/strbuf.h"

#define FILE_MAX (16 * 1024 * 1024)

struct item {
	struct hmap_node node;
	struct vserver_key key;
};

struct owned {
	char *path;
	struct hmap items;
	off_t torn; /* where what is left of a line begins; -1: the file has whole lines */
};

static struct item *find(const struct owned *o, const struct vserver_key *key)
{
	struct item *it;

	hmap_for_each_hash (it, &o->items, hash_bytes(key, sizeof(*key)), node)
		if (memcmp(&it->key, key, sizeof(*key)) == 0)
			return it;
	return NULL;
}

static void insert(struct owned *o, const struct vserver_key *key)
{
	struct item *it;

	if (find(o, key))
		return;
	it = mem_new(struct item);
	it->key = *key;
	hmap_insert(&o->items, &it->node, hash_bytes(key, sizeof(*key)));
}

static bool parse_line(char *line, struct vserver_key *ret)
{
	char *save = NULL;
	const char *proto = strtok_r(line, " ", &save), *ip = strtok_r(NULL, " ", &save),
		   *port = strtok_r(NULL, " ", &save);
	uint32_t p, n;

	memset(ret, 0, sizeof(*ret));
	if (!proto || !ip || !port || parse_u32(proto, 1, 255, &p, NULL) < 0 ||
		parse_u32(port, 1, 65535, &n, NULL) < 0 || ip_parse(ip, &ret->ip, NULL) < 0)
		return false;
	ret->protocol = (uint8_t)p;
	ret->port = (uint16_t)n;
	return true;
}

static void add_line(struct strbuf *sb, const struct vserver_key *key)
{
	strbuf_addf(sb, "%u %s %u\n", key->protocol, ip_str(&key->ip), key->port);
}

int owned_new(const char *path, struct owned **ret, struct err *err)
{
	auto_(owned) struct owned *o = mem_new(struct owned);
	auto_free char *text = NULL;
	char *save = NULL;
	struct vserver_key key;
	size_t len = 0, whole;
	int r = file_read(path, FILE_MAX, &text, &len, err);

	o->path = mem_strdup(path);
	o->torn = -1;
	if (r < 0 && r != -ENOENT)
		return r;
	for (whole = len; whole > 0 && text[whole - 1] != '\n';)
		whole--;
	if (whole < len) {
		o->torn = (off_t)whole;
		text[whole] = '\0';
	}
	if (text)
		for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
			if (parse_line(l, &key))
				insert(o, &key);
	*ret = take_ptr(o);
	return 0;
}

void owned_free(struct owned *o)
{
	struct item *it;

	if (!o)
		return;
	hmap_for_each (it, &o->items, node) {
		hmap_remove(&o->items, &it->node);
		free(it);
	}
	hmap_done(&o->items);
	free(o->path);
	free(o);
}

bool owned_has(const struct owned *o, const struct vserver_key *key)
{
	return find(o, key);
}

/* All of it, or nothing. */
static int append(struct owned *o, int fd, const char *p, size_t n)
{
	struct stat st;
	ssize_t done;
	int r = 0;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (o->torn >= 0 && o->torn < st.st_size) {
		if (ftruncate(fd, o->torn) < 0)
			return -errno;
		st.st_size = o->torn;
	}
	o->torn = -1;
	done = write(fd, p, n);
	if (done < 0)
		r = -errno;
	else if ((size_t)done < n)
		r = -ENOSPC; /* which the next write would say */
	if (done > 0 && r < 0 && ftruncate(fd, st.st_size) < 0)
		o->torn = st.st_size;
	return r;
}

int owned_add(struct owned *o, const struct vserver_key *key, struct err *err)
{
	auto_strbuf sb = STRBUF_INIT;
	auto_close int fd = -1;
	int r;

	if (find(o, key))
		return 0;
	add_line(&sb, key);
	fd = open(o->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	r = fd < 0 ? -errno : append(o, fd, sb.s, sb.len);
	if (r < 0)
		return err_sys(err, r, "remember it in %s", o->path);
	insert(o, key);
	return 0;
}

int owned_prune(struct owned *o, bool (*keep)(void *arg, const struct vserver_key *key), void *arg,
	struct err *err)
{
	auto_strbuf sb = STRBUF_INIT;
	size_t n = o->items.n;
	struct item *it;
	int r;

	hmap_for_each (it, &o->items, node) {
		if (keep(arg, &it->key)) {
			add_line(&sb, &it->key);
			continue;
		}
		hmap_remove(&o->items, &it->node);
		free(it);
	}
	if (o->items.n == n)
		return 0;
	r = file_write_atomic(o->path, strbuf_str(&sb), sb.len, 0644, err);
	if (r < 0)
		return r;
	o->torn = -1;
	return 0;
}
