/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/vec.h"
#include "cni/call.h"
#include "cni/device.h"
#include "ipam/alloc.h"
#include "model/ipam.h"
#include "model/kind.h"
#include "model/meta.h"
#include "model/wep.h"
#include "store/store.h"

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort(struct strings *s)
{
	if (s->v.n > 1)
		qsort(s->v.v, s->v.n, sizeof(*s->v.v), compare);
}

/* In what sort() has sorted. */
static bool has(const struct strings *s, const char *what)
{
	return s->v.n > 0 && bsearch(&what, s->v.v, s->v.n, sizeof(what), compare);
}

/* Of this network and this node, by what its addresses say. */
static bool is_ours(const struct call *c, const struct ipam_block_attr *a)
{
	size_t n = strlen(c->conf->name);
	const struct ipam_kv *kv;

	if (!a->handle || strncmp(a->handle, c->conf->name, n) != 0 || a->handle[n] != '.')
		return false;
	/* With one more dot it may be that of a network with a longer name: left to DEL. */
	n += 1 + strcspn(a->handle + n + 1, ".:");
	if (a->handle[n] == '.')
		return false;
	vec_for_each (&a->secondary, kv)
		if (strcmp(kv->name, "node") == 0 && strcmp(kv->value, c->node) == 0)
			return true;
	return false;
}

struct garbage {
	struct strings valid;	/* handles of the attachments that the runtime still has, sorted */
	struct strings used;	/* those that addresses have, of every node; sorted */
	struct strings handles; /* what is released: each once, sorted */
	int code;		/* of the first failure */
	struct err err;
};

static void note(struct garbage *g, int code, const struct err *e)
{
	if (code != 0 && g->code == 0) {
		g->code = code;
		g->err = *e;
	}
}

static void garbage_done(struct garbage *g)
{
	strings_done(&g->valid);
	strings_done(&g->used);
	strings_done(&g->handles);
}

static void find_valid(const struct call *c, struct garbage *g)
{
	const struct cni_attachment *a;

	vec_for_each (&c->conf->attachments, a)
		vec_push(&g->valid.v, call_handle(c->conf->name, a->container_id, a->ifname));
	sort(&g->valid);
}

/* An attachment with two addresses has two attributes, of two blocks. */
static void sort_handles(struct garbage *g)
{
	size_t n = 0;

	sort(&g->handles);
	for (size_t i = 0; i < g->handles.v.n; i++) {
		char *handle = g->handles.v.v[i];

		if (n > 0 && strcmp(g->handles.v.v[n - 1], handle) == 0)
			free(handle);
		else
			g->handles.v.v[n++] = handle;
	}
	g->handles.v.n = n;
}

/* *ret_all: every block could be read. */
static int find_garbage(struct call *c, struct garbage *g, bool *ret_all, struct err *err)
{
	struct store_list list;
	int r = store_list_wait(c->st, IPAM_KEY_BLOCKS, c->deadline_ms, &list, err);

	if (r < 0)
		return call_store_code(r);
	*ret_all = true;
	for (size_t i = 0; i < list.n; i++) {
		auto_(ipam_block) struct ipam_block *b = NULL;
		const struct ipam_block_attr *a;

		if (ipam_block_decode(list.v[i].value, list.v[i].len, &b, NULL) < 0) {
			*ret_all = false;
			continue;
		}
		vec_for_each (&b->attrs, a) {
			if (a->handle)
				vec_push(&g->used.v, mem_strdup(a->handle));
			if (is_ours(c, a) && !has(&g->valid, a->handle))
				vec_push(&g->handles.v, mem_strdup(a->handle));
		}
	}
	store_list_done(&list);
	sort(&g->used);
	sort_handles(g);
	return 0;
}

/* Without its addresses, if an ADD has taken some meanwhile. */
static void drop(struct call *c, const char *handle, struct garbage *g)
{
	struct ipam_request *rq = ipam_drop_handle_new(handle, clock_real_ns());
	struct err e = ERR_INIT;
	int r, code = call_ipam(c, rq, &r, &e);

	ipam_request_free(rq);
	if (r != -ENOENT && r != -EBUSY)
		note(g, code, &e);
}

/* Handles of this network without an address: an ADD or a DEL, of whichever node, has died there. */
static int drop_empty(struct call *c, struct garbage *g, struct err *err)
{
	auto_free char *prefix = mem_printf(IPAM_KEY_HANDLES "%s.", c->conf->name);
	struct store_list list;
	int r = store_list_wait(c->st, prefix, c->deadline_ms, &list, err);

	if (r < 0)
		return call_store_code(r);
	for (size_t i = 0; i < list.n; i++) {
		const char *handle = list.v[i].key + strlen(IPAM_KEY_HANDLES);

		if (!has(&g->used, handle) && !has(&g->valid, handle))
			drop(c, handle, g);
	}
	store_list_done(&list);
	return 0;
}

static bool is_garbage(const struct call *c, const struct wep *w, const struct garbage *g)
{
	auto_free char *handle = NULL;

	if (!w->container_id || !w->endpoint || !w->node || strcmp(w->node, c->node) != 0)
		return false;
	handle = call_handle(c->conf->name, w->container_id, w->endpoint);
	return has(&g->handles, handle);
}

/* Endpoints and devices before addresses, as DEL: what is left over is found again. */
static int remove_endpoints(struct call *c, struct garbage *g, struct err *err)
{
	struct store_list list;
	int r = store_list_wait(
		c->st, kind_info(KIND_WORKLOADENDPOINT)->root, c->deadline_ms, &list, err);

	if (r < 0)
		return call_store_code(r);
	for (size_t i = 0; i < list.n; i++) {
		const struct store_kv *kv = &list.v[i];
		auto_(wep) struct wep *w = NULL;
		struct err e = ERR_INIT;

		if (wep_decode(kv->key, kv->value, kv->len, &w, NULL) < 0 || !is_garbage(c, w, g))
			continue;
		/* ESTALE, ENOENT: it has a new sandbox by now, or is gone. */
		r = store_delete_wait(c->st, kv->key, kv->rev, NULL, c->deadline_ms, &e);
		if (r < 0 && r != -ESTALE && r != -ENOENT)
			note(g, call_store_code(r), &e);
		if (r == 0 && w->interface && strncmp(w->interface, "cali", 4) == 0) {
			r = call_open_host(c, &e);
			if (r == 0 && device_delete_on_host(c->host, w->interface, w->container_id,
					      w->endpoint, true, &e) < 0)
				r = CNI_E_KERNEL;
			note(g, r, &e);
		}
	}
	store_list_done(&list);
	return 0;
}

/* Everything of this node and network whose attachment the runtime does not have any more. */
int call_gc(struct call *c, struct err *err)
{
	struct garbage g = {0};
	bool all = false;
	char **handle;
	int r;

	if (!c->conf->has_attachments) {
		err_set(err, -EINVAL,
			"netconf: cni.dev/valid-attachments is missing: without it nothing is garbage");
		return CNI_E_CONF;
	}
	find_valid(c, &g);
	r = call_open_store(c, err);
	if (r == 0)
		r = find_garbage(c, &g, &all, err);
	if (r == 0 && g.handles.v.n > 0)
		r = remove_endpoints(c, &g, err);
	if (r == 0 && all)
		r = drop_empty(c, &g, err);
	if (r == 0) {
		vec_for_each (&g.handles.v, handle) {
			struct err e = ERR_INIT;

			note(&g, call_release(c, *handle, &e), &e);
		}
		r = g.code;
		if (r != 0 && err)
			*err = g.err;
	}
	garbage_done(&g);
	return r;
}
