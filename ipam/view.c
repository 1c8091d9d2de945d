/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "ipam"
#include "ipam/view.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "model/ipam.h"
#include "model/ippool.h"
#include "model/ipreservation.h"
#include "model/node.h"

static void slot_forget_obj(struct slot *s)
{
	if (s->obj) {
		switch (s->kind) {
		case SLOT_BLOCK:
			ipam_block_free(s->obj);
			break;
		case SLOT_HANDLE:
			ipam_handle_free(s->obj);
			break;
		case SLOT_POOL:
			ippool_free(s->obj);
			break;
		case SLOT_RESERVATION:
			ipreservation_free(s->obj);
			break;
		case SLOT_NODE:
			node_free(s->obj);
			break;
		case SLOT_AFFINITY:
		case SLOT_CONFIG:
			free(s->obj);
			break;
		}
	}
	s->obj = NULL;
	s->bad = ERR_INIT;
	free(s->text);
	s->text = NULL;
	s->len = 0;
}

static void slot_set(struct slot *s, const char *text, size_t len, int64_t rev, bool written)
{
	slot_forget_obj(s);
	s->text = mem_strndup(text, len);
	s->len = len;
	s->rev = rev;
	s->state = SLOT_PRESENT;
	s->written = written;
	s->guarded = false;
}

static void slot_clear(struct slot *s, enum slot_state state)
{
	slot_forget_obj(s);
	s->state = state;
	s->written = s->guarded = false;
	s->list_no = 0;
}

static struct slot *slot_of(struct view *v, const char *key, enum slot_kind kind)
{
	uint64_t h = hash_str(key);
	struct slot *s;

	hmap_for_each_hash (s, &v->slots, h, node)
		if (strcmp(s->key, key) == 0)
			return s;
	s = mem_new(struct slot);
	s->key = mem_strdup(key);
	s->kind = kind;
	if (kind == SLOT_BLOCK && ipam_key_parse_block(key, &s->cidr))
		v->sizes[s->cidr.addr.family == IP_V6][s->cidr.plen] = true;
	if (kind == SLOT_AFFINITY)
		(void)ipam_key_parse_affinity(key, NULL, &s->cidr);
	hmap_insert(&v->slots, &s->node, h);
	return s;
}

static void op_done(struct view *v)
{
	free(v->key);
	free(v->value);
	v->key = v->value = NULL;
	v->target = NULL;
}

void view_done(struct view *v)
{
	struct slot *s;
	char **p;

	op_done(v);
	hmap_for_each (s, &v->slots, node) {
		slot_forget_obj(s);
		free(s->key);
		free(s);
	}
	hmap_done(&v->slots);
	vec_for_each (&v->listed, p)
		free(*p);
	vec_done(&v->listed);
}

static int op_set(struct view *v, enum store_verb verb, const char *key, char *value_take,
	struct slot *target)
{
	assert(!v->key);
	v->verb = verb;
	v->key = mem_strdup(key);
	v->value = value_take;
	v->target = target;
	return PLAN_WAIT;
}

static bool is_listed(const struct view *v, const char *key)
{
	for (size_t i = 0; i < v->listed.n; i++)
		if (strncmp(key, v->listed.v[i], strlen(v->listed.v[i])) == 0)
			return true;
	return false;
}

struct slot *view_find(const struct view *v, const char *key)
{
	struct slot *s;

	hmap_for_each_hash (s, &v->slots, hash_str(key), node)
		if (strcmp(s->key, key) == 0)
			return s->state == SLOT_ABSENT ? NULL : s;
	return NULL;
}

int view_get(struct view *v, const char *key, enum slot_kind kind, struct slot **ret)
{
	size_t n = v->slots.n;
	struct slot *s = slot_of(v, key, kind);

	if (v->slots.n > n && is_listed(v, key))
		s->state = SLOT_ABSENT;
	if (s->state == SLOT_UNKNOWN)
		return op_set(v, STORE_GET, key, NULL, s);
	*ret = s;
	return 0;
}

void view_forget(struct view *v, const char *key)
{
	struct slot *s;

	hmap_for_each_hash (s, &v->slots, hash_str(key), node)
		if (strcmp(s->key, key) == 0)
			slot_clear(s, SLOT_UNKNOWN);
}

/* Of `listed`. An unindexed list says nothing about the keys under its prefix. */
static char *list_name(const char *prefix, bool unindexed)
{
	return mem_printf("%s%s", unindexed ? "unindexed " : "", prefix);
}

static int list(struct view *v, const char *prefix, enum slot_kind kind, bool unindexed)
{
	auto_free char *name = list_name(prefix, unindexed);

	if (is_listed(v, name))
		return 0;
	v->kind = kind;
	v->unindexed = unindexed;
	return op_set(v, STORE_LIST, prefix, NULL, NULL);
}

int view_list(struct view *v, const char *prefix, enum slot_kind kind)
{
	return list(v, prefix, kind, false);
}

int view_list_unindexed(struct view *v, const char *prefix, enum slot_kind kind)
{
	return list(v, prefix, kind, true);
}

void view_unlist(struct view *v, const char *prefix)
{
	size_t i = 0;

	while (i < v->listed.n && strcmp(v->listed.v[i], prefix) != 0)
		i++;
	if (i == v->listed.n)
		return;
	free(v->listed.v[i]);
	vec_swap_remove(&v->listed, i);
}

static int slot_compare(const void *a, const void *b)
{
	struct slot *const *x = a, *const *y = b;

	return strcmp((*x)->key, (*y)->key);
}

size_t view_under(const struct view *v, const char *prefix, struct slot ***ret)
{
	VEC(struct slot *) found = {0};
	size_t len = strlen(prefix);
	struct slot *s;

	hmap_for_each (s, &v->slots, node)
		if (s->state != SLOT_ABSENT && strncmp(s->key, prefix, len) == 0)
			vec_push(&found, s);
	if (found.n > 1)
		qsort(found.v, found.n, sizeof(*found.v), slot_compare);
	*ret = found.v;
	return found.n;
}

int view_create(struct view *v, struct slot *s, char *value_take)
{
	return op_set(v, STORE_CREATE, s->key, value_take, s);
}

int view_update(struct view *v, struct slot *s, char *value_take)
{
	return op_set(v, STORE_UPDATE, s->key, value_take, s);
}

int view_delete(struct view *v, struct slot *s)
{
	return op_set(v, STORE_DELETE, s->key, NULL, s);
}

static int decode(struct slot *s, void **ret)
{
	switch (s->kind) {
	case SLOT_BLOCK:
		return ipam_block_decode(s->text, s->len, (struct ipam_block **)ret, &s->bad);
	case SLOT_HANDLE:
		return ipam_handle_decode(s->text, s->len, (struct ipam_handle **)ret, &s->bad);
	case SLOT_POOL:
		return ippool_decode(s->key, s->text, s->len, (struct ippool **)ret, &s->bad);
	case SLOT_RESERVATION:
		return ipreservation_decode(
			s->key, s->text, s->len, (struct ipreservation **)ret, &s->bad);
	case SLOT_NODE:
		return node_decode(s->key, s->text, s->len, (struct node **)ret, &s->bad);
	case SLOT_AFFINITY:
		*ret = mem_new(struct ipam_affinity);
		return ipam_affinity_decode(s->text, s->len, *ret, &s->bad);
	case SLOT_CONFIG:
		*ret = mem_new(struct ipam_config);
		return ipam_config_decode(s->text, s->len, *ret, &s->bad);
	}
	return -EINVAL;
}

static void *slot_obj(struct slot *s)
{
	void *obj = NULL;

	if (s->state != SLOT_PRESENT || s->obj || s->bad.code != 0)
		return s->obj;
	if (decode(s, &obj) < 0) {
		if (s->kind == SLOT_AFFINITY || s->kind == SLOT_CONFIG)
			free(obj);
		err_wrap(&s->bad, -EINVAL, "%s%s", s->key,
			s->kind == SLOT_BLOCK ? " (see margayctl ipam drop --help)" : "");
		/* Without these the request cannot go on, and says so itself. */
		if (s->kind != SLOT_HANDLE && s->kind != SLOT_CONFIG)
			log_warn("left out: %s%s", err_text(&s->bad),
				s->kind == SLOT_BLOCK ? "" : ": repair it, or delete it");
		return NULL;
	}
	s->obj = obj;
	return obj;
}

bool slot_is_bad(struct slot *s)
{
	return s->state == SLOT_PRESENT && !slot_obj(s);
}

struct ipam_block *slot_block(struct slot *s)
{
	return slot_obj(s);
}

struct ipam_affinity *slot_affinity(struct slot *s)
{
	return slot_obj(s);
}

struct ipam_handle *slot_handle(struct slot *s)
{
	return slot_obj(s);
}

struct ipam_config *slot_config(struct slot *s)
{
	return slot_obj(s);
}

struct ippool *slot_pool(struct slot *s)
{
	return slot_obj(s);
}

struct ipreservation *slot_reservation(struct slot *s)
{
	return slot_obj(s);
}

struct node *slot_node(struct slot *s)
{
	return slot_obj(s);
}

static void feed_list(struct view *v, const struct store_res *res)
{
	for (size_t i = 0; i < res->n; i++) {
		struct slot *s = slot_of(v, res->kvs[i].key, v->kind);

		/* What this request knows already is no older: it has written or read it alone. */
		if (s->state != SLOT_PRESENT)
			slot_set(s, res->kvs[i].value, res->kvs[i].len, res->kvs[i].rev, false);
		s->list_no = v->n_lists + 1;
	}
}

/* A block that was known, and is not in it, has gone, or the list is of before it: 0 then, else 1. */
static int end_list(struct view *v)
{
	struct slot *s;
	int r = 1;

	vec_push(&v->listed, list_name(v->key, v->unindexed));
	v->n_lists++;
	hmap_for_each (s, &v->slots, node) {
		if (v->kind != SLOT_BLOCK || s->state != SLOT_PRESENT || s->list_no == v->n_lists ||
			strncmp(s->key, v->key, strlen(v->key)) != 0)
			continue;
		slot_clear(s, SLOT_UNKNOWN);
		r = 0;
	}
	return r;
}

int view_feed(struct view *v, const struct store_res *res, struct err *err)
{
	struct slot *s = v->target;
	int r = 1;

	switch (v->verb) {
	case STORE_LIST:
		if (res->r < 0 && res->r != -ENOENT)
			break;
		feed_list(v, res); /* ENOENT: the store has no such kind, so there is none */
		if (res->more)
			return 1;
		r = end_list(v);
		break;
	case STORE_GET:
		if (res->r == -ENOENT)
			slot_clear(s, SLOT_ABSENT);
		else if (res->r == 0 && res->n == 1)
			slot_set(s, res->kvs[0].value, res->kvs[0].len, res->kvs[0].rev, false);
		break;
	case STORE_CREATE:
	case STORE_UPDATE:
		if (res->r == 0)
			slot_set(s, v->value, strlen(v->value), res->rev, true);
		if (v->verb == STORE_CREATE)
			s->list_no = 0;
		break;
	case STORE_DELETE:
		if (res->r == 0 || res->r == -ENOENT)
			slot_clear(s, SLOT_ABSENT);
		break;
	}
	if (res->r == -ESTALE || res->r == -EEXIST ||
		(res->r == -ENOENT && v->verb == STORE_UPDATE)) {
		const unsigned list_no = s && res->r == -ESTALE ? s->list_no : 0;

		if (s) { /* else a list, which is done again */
			slot_clear(s, SLOT_UNKNOWN);
			s->list_no = list_no; /* it was changed, and is taken for the same one */
		}
		r = 0;
	} else if (res->r < 0 && res->r != -ENOENT) {
		if (res->err && err)
			*err = *res->err;
		/* ENOSPC is the answer that no address is free. */
		r = err_wrap(err, res->r == -ENOSPC ? -EIO : res->r, "%s", v->key);
		/* A write may have been done nevertheless. */
		if (s)
			slot_clear(s, SLOT_UNKNOWN);
	}
	op_done(v);
	return r;
}
