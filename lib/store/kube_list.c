/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A list is {"kind":..., "metadata":{...}, "items":[{...},...]}, its members in any order. At depth 1
 * are the members' names; metadata is kept as a whole, the objects of items one after the other, and
 * jansson decides whether what is kept is JSON.
 */
#include "store/kube_list.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/parse.h"

#define DEPTH_MAX 1000

void kube_list_begin(struct kube_list *l, kube_list_item_fn *item, void *arg)
{
	*l = (struct kube_list){.item = item, .arg = arg};
}

void kube_list_done(struct kube_list *l)
{
	strbuf_done(&l->name);
	strbuf_done(&l->part);
	free(take_ptr(l->cont));
}

static int read_metadata(struct kube_list *l, struct err *err)
{
	json_t *meta = json_loadb(l->part.s, l->part.len, 0, NULL);
	const char *rev = json_string_value(json_object_get(meta, "resourceVersion"));
	const char *cont = json_string_value(json_object_get(meta, "continue"));
	uint64_t n = 0;

	if (rev)
		parse_u64(rev, 1, INT64_MAX, &n, NULL);
	if (n && cont && *cont)
		l->cont = mem_strdup(cont);
	json_decref(meta);
	l->rev = (int64_t)n;
	return n ? 0 : err_set(err, -EINVAL, "a list without a number as metadata.resourceVersion");
}

/* What was kept has come to its end. */
static int part_end(struct kube_list *l, struct err *err)
{
	int r = 0;

	l->keep = false;
	if (!l->in_items)
		r = read_metadata(l, err);
	else if (!l->item(l->arg, l->part.s, l->part.len))
		r = -ECANCELED;
	strbuf_reset(&l->part);
	return r;
}

static void open_bracket(struct kube_list *l, char c)
{
	if (l->depth == 1) {
		l->in_items = c == '[' && strcmp(strbuf_str(&l->name), "items") == 0;
		l->keep = c == '{' && strcmp(strbuf_str(&l->name), "metadata") == 0;
	} else if (l->depth == 2 && l->in_items) {
		l->keep = c == '{';
	}
	l->depth++;
}

/* One character outside of strings. */
static int step(struct kube_list *l, char c, struct err *err)
{
	switch (c) {
	case '{':
	case '[':
		if (l->depth == DEPTH_MAX || (l->depth == 0 && c == '['))
			return err_set(err, -EINVAL, "this is no list of objects");
		open_bracket(l, c);
		if (l->keep)
			strbuf_addc(&l->part, c);
		return 0;
	case '}':
	case ']':
		if (l->depth == 0)
			return err_set(err, -EINVAL, "this is no list of objects");
		l->depth--;
		if (l->keep)
			strbuf_addc(&l->part, c);
		if (l->keep && l->depth == (l->in_items ? 2u : 1u))
			return part_end(l, err);
		return 0;
	case ',':
		if (l->depth == 1)
			strbuf_reset(&l->name);
		break;
	case '"':
		l->in_string = true;
		l->in_name = l->depth == 1 && !l->name.len;
		break;
	default:
		break;
	}
	if (l->keep)
		strbuf_addc(&l->part, c);
	return 0;
}

/* Up to the end of the string, or of the data; returns how many characters that is. */
static size_t take_string(struct kube_list *l, const char *s, size_t len)
{
	size_t n = 0;

	while (n < len && l->in_string) {
		if (l->escaped)
			l->escaped = false;
		else if (s[n] == '\\')
			l->escaped = true;
		else if (s[n] == '"')
			l->in_string = false;
		n++;
	}
	if (l->keep)
		strbuf_addn(&l->part, s, n);
	else if (l->in_name && l->name.len + n < 100)
		strbuf_addn(&l->name, s, n - !l->in_string);
	return n;
}

int kube_list_feed(struct kube_list *l, const char *data, size_t len, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < len && r == 0;) {
		if (l->in_string)
			i += take_string(l, data + i, len - i);
		else
			r = step(l, data[i++], err);
		if (l->part.len > KUBE_OBJECT_MAX)
			r = err_set(
				err, -EINVAL, "an object of more than %d bytes", KUBE_OBJECT_MAX);
	}
	return r;
}

int kube_list_end(const struct kube_list *l, struct err *err)
{
	if (l->depth || !l->rev)
		return err_set(err, -EINVAL, "the list ends before its end");
	return 0;
}
