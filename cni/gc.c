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
#include "cni/endpoint.h"
#include "cni/journal.h"
#include "cni/turn.h"
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
	const char *name = c->conf->name, *s = a->handle;
	const char *node = ipam_block_attr_get(a, "node");

	if (!s)
		return false;
	for (; *name && *s == *name; s++)
		name++;
	if (*name || *s != '.')
		return false;
	/* With one more dot it may be that of a network with a longer name: left to DEL. */
	if (s[1 + strcspn(s + 1, ".:")] == '.')
		return false;
	return node && strcmp(node, c->node) == 0;
}

/* An attachment that the runtime does not have any more. */
struct stale {
	char *handle; /* first: compare() is of strings */
	char *key;    /* of its endpoint; NULL: its parts make none */
	char *container_id, *ifname;
	char veth[WEP_VETH_SIZE];
	bool kept; /* a verb is under way, the endpoint or the device is still there: so the address is taken */
	bool had_endpoint; /* with which its device was deleted */
};

struct collection {
	struct strings valid;	 /* handles of the attachments that the runtime still has, sorted */
	struct strings used;	 /* those that addresses have, of every node; sorted */
	struct strings failed;	 /* those that could not be given back by the journal; sorted */
	VEC(struct stale) stale; /* each handle once, sorted */
	int code;		 /* of the first failure */
	struct err err;
};

static void note(struct collection *gc, int code, const struct err *e)
{
	if (code != 0 && gc->code == 0) {
		gc->code = code;
		gc->err = *e;
	}
}

static void stale_done(struct stale *stale)
{
	free(stale->handle);
	free(stale->key);
	free(stale->container_id);
	free(stale->ifname);
}

static void collection_done(struct collection *gc)
{
	struct stale *stale;

	vec_for_each (&gc->stale, stale)
		stale_done(stale);
	vec_done(&gc->stale);
	strings_done(&gc->valid);
	strings_done(&gc->used);
	strings_done(&gc->failed);
}

static void find_valid(const struct call *c, struct collection *gc)
{
	const struct cni_attachment *a;

	vec_for_each (&c->conf->attachments, a)
		vec_push(&gc->valid.v, call_handle(c->conf->name, a->container_id, a->ifname));
	sort(&gc->valid);
}

/* An attachment with two addresses has two attributes, of two blocks. */
static void sort_stale(struct collection *gc)
{
	size_t n = 0;

	if (gc->stale.n > 1)
		qsort(gc->stale.v, gc->stale.n, sizeof(*gc->stale.v), compare);
	for (size_t i = 0; i < gc->stale.n; i++) {
		if (n > 0 && strcmp(gc->stale.v[n - 1].handle, gc->stale.v[i].handle) == 0)
			stale_done(&gc->stale.v[i]);
		else
			gc->stale.v[n++] = gc->stale.v[i];
	}
	gc->stale.n = n;
}

/* With the names that ADD gave the endpoint and the device of such an address. */
static void add_stale(const struct call *c, const struct ipam_block_attr *a, struct collection *gc)
{
	const char *id = a->handle + strlen(c->conf->name) + 1;
	size_t n = strcspn(id, ":");
	auto_free char *pod = mem_strdup(ipam_block_attr_get(a, "pod") ?: "");
	const char *namespace = ipam_block_attr_get(a, "namespace");
	bool k8s = pod[0] != '\0' && namespace;
	struct stale stale = {.handle = mem_strdup(a->handle),
		.container_id = mem_strndup(id, n),
		.ifname = mem_strdup(id[n] == ':' ? id + n + 1 : "eth0")};
	const struct call of = {.node = c->node,
		.k8s = k8s,
		.namespace = k8s ? namespace : "default",
		.args = {.pod = pod},
		.container_id = stale.container_id,
		.ifname = stale.ifname};

	(void)endpoint_key(&of, &stale.key, NULL);
	call_name_veth(
		of.namespace, k8s ? pod : NULL, stale.container_id, stale.ifname, stale.veth);
	vec_push(&gc->stale, stale);
}

static void give_back_one(struct call *c, const char *handle, struct collection *gc)
{
	const struct journal_addr *a = journal_taken_by(c->journal, handle);
	char veth[WEP_VETH_SIZE];
	struct journal_owner o;
	struct err e = ERR_INIT;
	int r;

	if (!a)
		return;
	o = journal_owner_dup(&a->owner);
	call_name_veth(o.namespace, o.pod, o.container_id, o.ifname, veth);
	r = turn_await(c, veth, handle, &e) ?: call_open_host(c, &e);
	if (r == 0 && device_delete_on_host(c, veth, o.container_id, o.ifname, true, &e) < 0)
		r = CNI_E_KERNEL;
	if (r == 0 && journal_give_back(c->journal, &o, &e) < 0)
		r = CNI_E_AGAIN;
	if (r != 0)
		vec_push(&gc->failed.v, mem_strdup(handle));
	note(gc, r, &e);
	journal_owner_done(&o);
}

/* What this network's attachments have of the reserve, wherever the datastore is. */
static void give_back_stale(struct call *c, struct collection *gc)
{
	struct strings stale = {0};
	const struct journal_addr *a;
	char **handle;
	size_t n;

	a = journal_addrs(c->journal, &n);
	for (size_t i = 0; i < n; i++) {
		const struct journal_owner *o = &a[i].owner;
		auto_free char *ours = NULL;

		if (a[i].state != JOURNAL_TAKEN)
			continue;
		ours = call_handle(c->conf->name, o->container_id, o->ifname);
		if (strcmp(ours, o->handle) == 0 && !has(&gc->valid, ours))
			vec_push(&stale.v, take_ptr(ours));
	}
	vec_for_each (&stale.v, handle) {
		give_back_one(c, *handle, gc);
		free(*handle);
	}
	vec_done(&stale.v);
	sort(&gc->failed);
}

/* *ret_all: every block could be read. */
static int find_stale_addresses(
	struct call *c, struct collection *gc, bool *ret_all, struct err *err)
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
				vec_push(&gc->used.v, mem_strdup(a->handle));
			/* What waits in the journal is given back by it. */
			if (is_ours(c, a) && !has(&gc->valid, a->handle) &&
				!(c->journal && journal_is_pending(c->journal, a->handle, NULL)))
				add_stale(c, a, gc);
		}
	}
	store_list_done(&list);
	sort(&gc->used);
	sort_stale(gc);
	return 0;
}

/* Without its addresses, if an ADD has taken some meanwhile. */
static void drop(struct call *c, const char *handle, struct collection *gc)
{
	struct ipam_request *rq = ipam_drop_handle_new(handle, clock_real_ns());
	struct err e = ERR_INIT;
	int r, code = call_ipam(c, rq, &r, &e);

	ipam_request_free(rq);
	if (r != -ENOENT && r != -EBUSY)
		note(gc, code, &e);
}

/* Handles of this network without an address: an ADD or a DEL, of whichever node, has died there. */
static int drop_empty(struct call *c, struct collection *gc, struct err *err)
{
	auto_free char *prefix = mem_printf(IPAM_KEY_HANDLES "%s.", c->conf->name);
	struct store_list list;
	int r = store_list_wait(c->st, prefix, c->deadline_ms, &list, err);

	if (r < 0)
		return call_store_code(r);
	for (size_t i = 0; i < list.n; i++) {
		const char *handle = list.v[i].key + strlen(IPAM_KEY_HANDLES);

		if (!has(&gc->used, handle) && !has(&gc->valid, handle))
			drop(c, handle, gc);
	}
	store_list_done(&list);
	return 0;
}

static struct stale *find_stale(const struct call *c, const struct wep *w, struct collection *gc)
{
	auto_free char *handle = NULL;

	if (!w->container_id || !w->endpoint || !w->node || strcmp(w->node, c->node) != 0 ||
		gc->stale.n == 0)
		return NULL;
	handle = call_handle(c->conf->name, w->container_id, w->endpoint);
	return bsearch(&handle, gc->stale.v, gc->stale.n, sizeof(*gc->stale.v), compare);
}

/* Whose it is cannot be read: it may be that of any attachment which would have it. */
static void keep_by_key(struct collection *gc, const char *key, const struct err *e)
{
	struct stale *stale;

	vec_for_each (&gc->stale, stale)
		if (stale->key && strcmp(stale->key, key) == 0) {
			stale->kept = true;
			note(gc, CNI_E_STORE, e);
		}
}

/*
 * The device first: by the endpoint alone does the next GC find it. A new sandbox's has another mark,
 * and is not up before it has it.
 */
static int remove_endpoint(
	struct call *c, const struct store_kv *kv, const struct wep *w, struct err *err)
{
	int r;

	if (w->interface && strncmp(w->interface, "cali", 4) == 0) {
		r = call_open_host(c, err);
		if (r != 0)
			return r;
		if (device_delete_on_host(
			    c, w->interface, w->container_id, w->endpoint, true, err) < 0)
			return CNI_E_KERNEL;
	}
	r = store_delete_wait(c->st, kv->key, kv->rev, NULL, c->deadline_ms, err);
	/* It has a new sandbox by now, or is gone. */
	if (r == 0 || r == -ESTALE || r == -ENOENT)
		return 0;
	return call_store_code(err_wrap(err, r, "deleting %s", kv->key));
}

/* An ADD whose plugin was ended may be at its device. */
static void await_verbs(struct call *c, struct collection *gc)
{
	struct stale *stale;

	vec_for_each (&gc->stale, stale) {
		struct err e = ERR_INIT;
		int r = turn_await(c, stale->veth, stale->handle, &e);

		stale->kept = r != 0 || has(&gc->failed, stale->handle);
		note(gc, r, &e);
	}
}

/* Before addresses, as DEL. The address of what could not be removed stays, and leads here again. */
static int remove_endpoints(struct call *c, struct collection *gc, struct err *err)
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
		struct stale *stale;

		r = wep_decode(kv->key, kv->value, kv->len, &w, &e);
		if (r < 0) {
			err_wrap(&e, r, "%s: repair it, or delete it", kv->key);
			keep_by_key(gc, kv->key, &e);
			continue;
		}
		stale = find_stale(c, w, gc);
		if (!stale || stale->kept)
			continue;
		r = remove_endpoint(c, kv, w, &e);
		stale->had_endpoint = true;
		stale->kept |= r != 0;
		note(gc, r, &e);
	}
	store_list_done(&list);
	return 0;
}

/* Of those that have no endpoint to be found by. */
static void remove_devices(struct call *c, struct collection *gc)
{
	struct stale *stale;

	vec_for_each (&gc->stale, stale) {
		struct err e = ERR_INIT;
		int r;

		if (stale->kept || stale->had_endpoint)
			continue;
		r = call_open_host(c, &e);
		if (r == 0 && device_delete_on_host(c, stale->veth, stale->container_id,
				      stale->ifname, true, &e) < 0)
			r = CNI_E_KERNEL;
		stale->kept |= r != 0;
		note(gc, r, &e);
	}
}

/*
 * What of it is in the datastore. Where there is a journal by that, whether it has the addresses or not: the keeper may
 * write them down at any time (inherit.h), and does not once this waits. With the endpoint it is over.
 */
static int release(struct call *c, struct stale *stale, struct err *err)
{
	static char namespace[] = "default";
	const struct journal_owner o = {.handle = stale->handle,
		.container_id = stale->container_id,
		.ifname = stale->ifname,
		.namespace = namespace,
		.ipam_only = true};

	if (!c->journal)
		return call_release(c, stale->handle, err);
	return journal_give_back(c->journal, &o, err) < 0 ? CNI_E_AGAIN : 0;
}

/* Everything of this node and network whose attachment the runtime does not have any more. */
int call_gc(struct call *c, struct err *err)
{
	struct collection gc = {0};
	bool all = false;
	struct stale *stale;
	int r;

	if (!c->conf->has_attachments) {
		err_set(err, -EINVAL,
			"netconf: cni.dev/valid-attachments is missing: without it nothing is garbage");
		return CNI_E_CONF;
	}
	find_valid(c, &gc);
	if (c->journal)
		give_back_stale(c, &gc);
	r = call_heed_lock(c, NULL, err);
	if (r == 0)
		r = find_stale_addresses(c, &gc, &all, err);
	if (r == 0)
		await_verbs(c, &gc);
	if (r == 0 && gc.stale.n > 0)
		r = remove_endpoints(c, &gc, err);
	if (r == 0)
		remove_devices(c, &gc);
	if (r == 0 && all)
		r = drop_empty(c, &gc, err);
	if (r == 0) {
		vec_for_each (&gc.stale, stale) {
			struct err e = ERR_INIT;

			if (!stale->kept)
				note(&gc, release(c, stale, &e), &e);
		}
		r = gc.code;
		if (r != 0 && err)
			*err = gc.err;
	}
	if (r == 0)
		r = call_heed_lock(c, NULL, err);
	collection_done(&gc);
	return r;
}
