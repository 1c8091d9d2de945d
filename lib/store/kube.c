/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The datastore of a Kubernetes cluster: the API server itself. A write names the resourceVersion that
 * it replaces, a deletion has it as a precondition; where the caller names none, the object is read
 * first. Revisions are resourceVersions, which are etcd's and numbers.
 *
 * A list that a watch follows is taken from the server's memory, not older than what was told before,
 * and is handed on as it comes in. Other lists show what is there now, and are put in the order of the
 * keys, which is not that of names.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <event2/event.h>

#include "base/err.h"
#include "base/vec.h"
#include "model/json.h"
#include "store/kube.h"
#include "store/kube_object.h"

#define PAGE 500
#define UNINDEXED "&labelSelector=%21projectcalico.org%2Fhostname-hash"
#define TRIES 8

struct kube_op {
	struct store_op op;
	struct kube_wait wait;
	struct kube_call call;
	struct kube_key key;
	int64_t rev; /* UPDATE, DELETE: what is replaced; LIST: the first page's */
	int tries;
	bool other_name; /* a policy that is looked for by its other name */
	/* LIST */
	struct kube_list list;
	struct err list_err;
	VEC(struct store_kv) kvs;
	size_t n;
};

struct kube *kube_of_store(struct store *st)
{
	return container_of(st, struct kube, st);
}

static struct kube_op *from_call(struct kube_call *c)
{
	return container_of(c, struct kube_op, call);
}

static struct kube *kube_of(const struct kube_op *o)
{
	return kube_of_store(o->op.st);
}

static void kvs_done(struct kube_op *o)
{
	struct store_kv *kv;

	vec_for_each (&o->kvs, kv)
		store_kv_done(kv);
	vec_done(&o->kvs);
}

static void op_release(struct kube_op *o)
{
	kube_wait_stop(&o->wait);
	kube_call_stop(&o->call);
	kube_list_done(&o->list);
	kvs_done(o);
}

static void op_fail(struct kube_op *o, int r, const struct err *err)
{
	op_release(o);
	store_op_fail(&o->op, r, err);
}

static void op_done(struct kube_op *o, int64_t rev)
{
	op_release(o);
	store_op_done(&o->op, &(struct store_res){.rev = rev});
}

/* What every driver says in these words. */
static int say(const struct kube_op *o, int r, const struct err *from, struct err *err)
{
	const char *key = o->op.req.key;

	if (r == -ENOENT)
		return err_set(err, r, "%s: not in the datastore", key);
	if (r == -EEXIST)
		return err_set(err, r, "%s: exists already", key);
	if (r == -ESTALE && o->op.req.verb != STORE_LIST)
		return err_set(err, r, "%s: was changed meanwhile: it no longer has revision %lld",
			key, (long long)o->rev);
	if (from)
		*err = *from;
	return r;
}

static void op_call_typed(struct kube_op *o, const char *method, char *path_take, json_t *body_take,
	const char *type, kube_answer_fn *answer)
{
	kube_call_stop(&o->call);
	o->call = (struct kube_call){.k = kube_of(o),
		.method = method,
		.path = path_take,
		.body = body_take ? model_json_dump(body_take) : NULL,
		.type = type,
		.write = method != NULL,
		.answer = answer};
	json_decref(body_take);
	kube_call_start(&o->call);
}

static void op_call(struct kube_op *o, const char *method, char *path_take, json_t *body_take,
	kube_answer_fn *answer)
{
	op_call_typed(o, method, path_take, body_take, "application/json", answer);
}

static char *path_of(const struct kube_op *o)
{
	const struct kube_key *k = &o->key;

	return kube_path(k->kind, kube_of(o)->group, k->ns, k->name);
}

/* ---- GET, and what comes before a write that names no revision ---- */

/*
 * Before 3.32 Calico stored a policy of the tier default as "default.NAME", and its clients call it NAME
 * all the same. true: it is looked for by the name that was not asked for.
 */
static bool try_other_name(struct kube_op *o)
{
	struct kube_key *k = &o->key;
	char name[sizeof(k->name)];
	bool old = strncmp(k->name, "default.", 8) == 0;
	int n;

	if (k->kind->form != KUBE_POLICY || kube_of(o)->group != KUBE_CRD_V1 || o->other_name)
		return false;
	n = snprintf(name, sizeof(name), "%s%s", old ? "" : "default.", k->name + (old ? 8 : 0));
	if (n <= 0 || n >= (int)sizeof(name))
		return false;
	memcpy(k->name, name, sizeof(name));
	o->other_name = true;
	return true;
}

/* By the other name only what is called NAME, in the tier default. */
static bool is_asked_for(const struct kube_op *o, const struct store_kv *kv)
{
	const char *name = o->key.name;
	auto_(json) json_t *j = NULL;
	const char *own, *tier;

	if (!kv->key || !kv->value)
		return false;
	if (kv->unreadable && o->key.kind->form == KUBE_HANDLE)
		return strcasecmp(kv->key, o->op.req.key) == 0; /* how it is spelled nobody knows */
	if (!o->other_name)
		return strcmp(kv->key, o->op.req.key) == 0;
	j = json_loadb(kv->value, kv->len, 0, NULL);
	own = json_string_value(json_object_get(json_object_get(j, "metadata"), "name"));
	tier = json_string_value(json_object_get(json_object_get(j, "spec"), "tier"));
	return own && strcmp(own, name + (strncmp(name, "default.", 8) == 0 ? 8 : 0)) == 0 &&
	       (!tier || !*tier || strcmp(tier, "default") == 0);
}

/* The object of the answer. ENOENT: it is not the one that has this key. */
static int read_answer(const struct kube_op *o, const char *body, size_t len, struct store_kv *ret,
	struct err *err)
{
	auto_(json) json_t *obj = kube_json_load(body, len);
	int r;

	if (!obj)
		return err_set(err, -EHOSTUNREACH, "%s: the answer of %s cannot be decoded",
			o->op.req.key, kube_call_where(&o->call));
	r = kube_object_read(o->key.kind, kube_of(o)->group, obj, ret, err);
	if (r == 0 && !is_asked_for(o, ret)) {
		store_kv_done(ret);
		return say(o, -ENOENT, NULL, err);
	}
	return r < 0 ? err_wrap(err, -EHOSTUNREACH, "%s", o->op.req.key) : 0;
}

static void on_get(struct kube_call *c, int r, const char *body, size_t len, const struct err *err)
{
	struct kube_op *o = from_call(c);
	struct err why = ERR_INIT;
	struct store_kv kv;

	if (r == -ENOENT && try_other_name(o)) {
		op_call(o, NULL, path_of(o), NULL, on_get);
		return;
	}
	r = r == 0 ? read_answer(o, body, len, &kv, &why) : say(o, r, err, &why);
	if (r < 0) {
		op_fail(o, r, &why);
		return;
	}
	op_release(o);
	store_op_done(&o->op, &(struct store_res){.rev = kv.rev, .kvs = &kv, .n = 1});
	store_kv_done(&kv);
}

/* ---- CREATE, UPDATE, DELETE ---- */

static void write_send(struct kube_op *o, const json_t *old);
static void on_before(
	struct kube_call *c, int r, const char *body, size_t len, const struct err *err);

static void read_before(struct kube_op *o)
{
	op_call(o, NULL, path_of(o), NULL, on_before);
}

/* Such a record is marked as deleted before it is deleted. */
static bool is_marked_first(const struct kube_op *o)
{
	enum kube_form form = o->key.kind->form;

	return form == KUBE_BLOCK || form == KUBE_AFFINITY || form == KUBE_HANDLE;
}

/* Marked as deleted by one that had no time to delete it: the name is free only when it is gone. */
static bool is_left_over(const struct kube_op *o, const json_t *obj)
{
	struct store_kv kv = {0};
	bool yes = kube_object_read(o->key.kind, kube_of(o)->group, obj, &kv, NULL) == 0 &&
		   kv.key && !kv.value;

	store_kv_done(&kv);
	return yes;
}

static json_t *delete_options(int64_t rev)
{
	auto_free char *text = mem_printf("%lld", (long long)rev);

	return json_pack("{s:s, s:s, s:{s:s}}", "kind", "DeleteOptions", "apiVersion", "v1",
		"preconditions", "resourceVersion", text);
}

static void on_left_over(
	struct kube_call *c, int r, const char *body, size_t len, const struct err *err)
{
	struct kube_op *o = from_call(c);
	struct err why = ERR_INIT;

	(void)body;
	(void)len;
	if (r == 0 || r == -ENOENT || r == -ESTALE) {
		write_send(o, NULL);
		return;
	}
	r = say(o, r, err, &why);
	op_fail(o, r, &why);
}

/* What has the name that was to be created. */
static void on_taken(
	struct kube_call *c, int r, const char *body, size_t len, const struct err *err)
{
	struct kube_op *o = from_call(c);
	auto_(json) json_t *obj = r == 0 ? kube_json_load(body, len) : NULL;
	struct err why = ERR_INIT;

	(void)err;
	if (r == -ENOENT) {
		write_send(o, NULL);
	} else if (is_left_over(o, obj)) {
		op_call(o, "DELETE", path_of(o), delete_options(kube_revision(obj)), on_left_over);
	} else {
		r = say(o, -EEXIST, NULL, &why);
		op_fail(o, r, &why);
	}
}

static bool names_no_revision(const struct kube_op *o)
{
	return !o->op.req.rev && o->tries < TRIES;
}

static void on_write(
	struct kube_call *c, int r, const char *body, size_t len, const struct err *err)
{
	struct kube_op *o = from_call(c);
	struct err why = ERR_INIT;
	json_t *obj;
	int64_t rev;

	if (o->op.req.verb != STORE_CREATE &&
		((r == -ESTALE && names_no_revision(o)) || (r == -ENOENT && try_other_name(o)))) {
		read_before(o);
		return;
	}
	if (r == -EEXIST && o->op.req.verb == STORE_CREATE && is_marked_first(o) &&
		o->tries++ == 0) {
		op_call(o, NULL, path_of(o), NULL, on_taken);
		return;
	}
	if (r == -ENOENT && o->op.req.verb == STORE_CREATE) { /* the namespace */
		why = *err;
		why.code = r = -EINVAL;
	} else if (r < 0) {
		r = say(o, r, err, &why);
	}
	if (r < 0) {
		op_fail(o, r, &why);
		return;
	}
	obj = kube_json_load(body, len);
	rev = kube_revision(obj);
	json_decref(obj);
	op_done(o, rev);
}

/* old: what is replaced, NULL where that was not read. */
static void write_send(struct kube_op *o, const json_t *old)
{
	const struct store_req *req = &o->op.req;
	const struct kube_key *k = &o->key;
	struct kube *kube = kube_of(o);
	bool view = k->kind->form == KUBE_NODE || k->kind->form == KUBE_POD;
	json_t *body = NULL;
	struct err err = ERR_INIT;
	int r = 0;

	if (req->verb != STORE_DELETE)
		r = kube_object_write(k, kube->group, req->value, req->len, o->rev, &body, &err);
	else
		body = view ? kube_pod_clear(o->rev) : delete_options(o->rev);
	if (r < 0) {
		op_fail(o, r, &err);
		return;
	}
	if (req->verb == STORE_CREATE) {
		op_call(o, "POST", kube_path(k->kind, kube->group, k->ns, ""), body, on_write);
	} else if (view || (req->verb == STORE_UPDATE && kube_object_is_patched(k))) {
		const char *type = kube_object_patch(k, &body);
		auto_free char *object = path_of(o);

		op_call_typed(o, "PATCH", mem_printf("%s%s", object, view ? "/status" : ""), body,
			type, on_write);
	} else if (req->verb == STORE_UPDATE) {
		kube_object_keep(body, old);
		op_call(o, "PUT", path_of(o), body, on_write);
	} else {
		op_call(o, "DELETE", path_of(o), body, on_write);
	}
}

static void on_before(
	struct kube_call *c, int r, const char *body, size_t len, const struct err *err)
{
	struct kube_op *o = from_call(c);
	struct err why = ERR_INIT;
	struct store_kv kv = {0};

	if (r == -ENOENT && try_other_name(o)) {
		read_before(o);
		return;
	}
	r = r == 0 ? read_answer(o, body, len, &kv, &why) : say(o, r, err, &why);
	if (r == 0)
		r = store_check_before(&o->op.req, &kv, &why);
	o->rev = kv.rev;
	o->tries++;
	store_kv_done(&kv);
	if (r < 0) {
		op_fail(o, r, &why);
	} else {
		auto_(json) json_t *old = json_loadb(body, len, 0, NULL);

		write_send(o, old);
	}
}

/* Kubernetes makes nodes and pods: the views of them can only be there already. */
static void on_create_view(
	struct kube_call *c, int r, const char *body, size_t len, const struct err *err)
{
	struct kube_op *o = from_call(c);
	struct err why = ERR_INIT;
	struct store_kv kv = {0};

	if (r == 0)
		r = read_answer(o, body, len, &kv, &why);
	store_kv_done(&kv);
	if (r == 0)
		r = say(o, -EEXIST, NULL, &why);
	else if (r == -ENOENT && o->key.kind->form == KUBE_NODE)
		r = err_set(&why, -EHOSTUNREACH,
			"%s: Kubernetes has no Node %s: its kubelet makes it; check NODENAME",
			o->op.req.key, o->key.name);
	else if (r == -ENOENT)
		r = err_set(&why, -EINVAL,
			"%s: Kubernetes has no Pod %s/%s with a network of its own on node %s",
			o->op.req.key, o->key.ns, o->key.name, o->key.host);
	else if (err)
		why = *err;
	op_fail(o, r, &why);
}

static int may_write(const struct kube_op *o, struct err *err)
{
	const char *kind = o->key.kind->name;
	enum kube_form form = o->key.kind->form;

	if (form == KUBE_CORE || form == KUBE_NAMESPACE || form == KUBE_ACCOUNT ||
		(form == KUBE_NODE && o->op.req.verb == STORE_DELETE))
		return err_set(err, -EACCES,
			"%s: a %s is Kubernetes' own: use kubectl to change it", o->op.req.key,
			kind);
	return 0;
}

static void write_start(struct kube_op *o)
{
	const struct store_req *req = &o->op.req;
	enum kube_form form = o->key.kind->form;
	struct err err = ERR_INIT;
	int r = may_write(o, &err);

	if (r < 0)
		op_fail(o, r, &err);
	else if (req->verb == STORE_CREATE && (form == KUBE_NODE || form == KUBE_POD))
		op_call(o, NULL, path_of(o), NULL, on_create_view);
	else if ((req->verb == STORE_UPDATE && !kube_object_is_patched(&o->key)) ||
		 (req->verb != STORE_CREATE && (!req->rev || req->uid)))
		read_before(o);
	else
		write_send(o, NULL);
}

/* ---- LIST ---- */

static void list_page(struct kube_op *o);

/* Whether its objects are found by labels, which some may lack. */
static bool is_indexed(const struct kube_key *prefix)
{
	return prefix->kind->form == KUBE_AFFINITY && prefix->host[0];
}

char *kube_selector(const struct kube *k, const struct kube_key *prefix, bool feed)
{
	char hash[KUBE_HOST_HASH_SIZE];

	const char *own = k->conf.own_node;

	if (strcmp(prefix->kind->plural, "pods") == 0 && feed && *own)
		return mem_printf("&fieldSelector=spec.nodeName%%3D%s", own);
	if (prefix->kind->form == KUBE_NODE && feed && *own && strcmp(prefix->name, own) == 0)
		return mem_printf("&fieldSelector=metadata.name%%3D%s", own);
	if (!is_indexed(prefix))
		return mem_strdup("");
	return mem_printf("&labelSelector=projectcalico.org%%2Faffinity-type%%3D%s%%2C"
			  "projectcalico.org%%2Fhostname-hash%%3D%s",
		prefix->virtual ? "virtual" : "host", kube_host_hash(prefix->host, hash));
}

/* The first ones of the server are the first ones of the list: their names are the last part of their keys. */
static bool is_in_order(const struct kube_op *o)
{
	return o->op.req.feed || o->key.kind->form == KUBE_RESOURCE ||
	       o->key.kind->form == KUBE_NODE;
}

static bool is_enough(const struct kube_op *o)
{
	size_t limit = o->op.req.limit;

	return limit && is_in_order(o) && o->n + o->kvs.n >= limit;
}

static size_t page_size(const struct kube_op *o)
{
	size_t limit = o->op.req.limit;

	return limit && limit < PAGE && is_in_order(o) ? limit : PAGE;
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct store_kv *)a)->key, ((const struct store_kv *)b)->key);
}

static bool on_item(void *arg, const char *text, size_t len)
{
	struct kube_op *o = arg;
	auto_(json) json_t *obj = kube_json_load(text, len);
	struct store_kv kv = {0};

	if (!obj) { /* to go on without it would tell that it is gone */
		err_set(&o->list_err, -EHOSTUNREACH, "an object of the list is no JSON");
		return false;
	}
	if (kube_object_read(o->key.kind, kube_of(o)->group, obj, &kv, NULL) == 0 && kv.value &&
		kv.key && strncmp(kv.key, o->op.req.key, strlen(o->op.req.key)) == 0)
		vec_push(&o->kvs, kv);
	else
		store_kv_done(&kv);
	return true;
}

/* false: the operation is gone. */
static bool tell(struct kube_op *o, int64_t rev, bool more)
{
	struct store_res res = {.rev = rev, .kvs = o->kvs.v, .n = o->kvs.n, .more = more};
	VEC(struct store_kv) kvs = {.v = o->kvs.v, .n = o->kvs.n};
	struct store_kv *kv;
	bool alive;

	o->kvs.v = NULL;
	o->kvs.n = o->kvs.cap = 0;
	if (o->op.req.limit && o->n + res.n > o->op.req.limit)
		res.n = o->op.req.limit - o->n;
	o->n += res.n;
	if (!more)
		op_release(o);
	alive = store_op_done(&o->op, &res);
	vec_for_each (&kvs, kv)
		store_kv_done(kv);
	vec_done(&kvs);
	return alive;
}

static bool on_list_data(void *arg, const char *data, size_t len)
{
	struct kube_op *o = from_call(arg);
	int r = kube_list_feed(&o->list, data, len, &o->list_err);

	if (r < 0)
		return false; /* on_list() says why */
	if (o->op.req.feed && o->kvs.n)
		return tell(o, 0, true);
	return true;
}

static void list_end(struct kube_op *o)
{
	kube_seen(kube_of(o), o->key.kind, o->rev);
	if (!o->op.req.feed && o->kvs.n)
		qsort(o->kvs.v, o->kvs.n, sizeof(*o->kvs.v), by_key);
	tell(o, o->rev, false);
}

/* A kind that its group does not serve has no objects; where the group is not served either, nobody knows. */
static void on_served(
	struct kube_call *c, int r, const char *body, size_t len, const struct err *err)
{
	struct kube_op *o = from_call(c);
	auto_(json) json_t *answer = r == 0 ? json_loadb(body, len, 0, NULL) : NULL;
	const json_t *resources = json_object_get(answer, "resources"), *e;
	auto_free char *path = kube_path(o->key.kind, kube_of(o)->group, "", "");
	struct err why = o->list_err;
	const char *name;
	bool served = !json_is_array(resources);
	size_t i;

	(void)err;
	json_array_foreach (resources, i, e) {
		name = json_string_value(json_object_get(e, "name"));
		served = served || (name && strcmp(name, strrchr(path, '/') + 1) == 0);
	}
	op_fail(o, served ? why.code : err_wrap(&why, -ENOENT, "%s", o->op.req.key), &why);
}

static void ask_served(struct kube_op *o, const struct err *why)
{
	char *path = kube_path(o->key.kind, kube_of(o)->group, "", "");

	o->list_err = *why;
	*strrchr(path, '/') = '\0';
	op_call(o, NULL, path, NULL, on_served);
}

static void on_list(struct kube_call *c, int r, const char *body, size_t len, const struct err *err)
{
	struct kube_op *o = from_call(c);
	struct err why = err ? *err : ERR_INIT;

	(void)body;
	(void)len;
	if (o->list_err.code) {
		why = o->list_err;
		r = err_wrap(&why, -EHOSTUNREACH, "datastore %s", kube_call_where(c));
	} else if (r == 0) {
		r = kube_list_end(&o->list, &why);
		if (r < 0)
			r = err_wrap(&why, -EHOSTUNREACH, "datastore %s", kube_call_where(c));
	} else if (r == -EHOSTUNREACH && strstr(why.text, "Too large resource version")) {
		/* An older copy was put back, or the server's memory lags: next time what is now. */
		kube_of(o)->seen[o->key.kind - kube_kinds] = -1;
	}
	if (r < 0) {
		why.code = r;
		if (c->status == 404 && !o->key.kind->api)
			ask_served(o, &why);
		else
			op_fail(o, r, &why);
		return;
	}
	o->rev = o->rev ?: o->list.rev;
	if (o->list.cont && !is_enough(o))
		list_page(o);
	else
		list_end(o);
}

static void list_page(struct kube_op *o)
{
	struct kube *k = kube_of(o);
	int64_t seen = k->seen[o->key.kind - kube_kinds];
	auto_free char *path = kube_path(o->key.kind, k->group, o->key.ns, "");
	auto_free char *selector = o->op.req.unindexed ? mem_strdup(UNINDEXED)
						       : kube_selector(k, &o->key, o->op.req.feed);
	auto_free char *from = NULL;
	auto_free char *cont = take_ptr(o->list.cont);

	if (cont)
		from = mem_printf("&continue=%s", cont);
	else if (o->op.req.feed && seen > 0)
		from = mem_printf(
			"&resourceVersionMatch=NotOlderThan&resourceVersion=%lld", (long long)seen);
	else
		from = mem_strdup(o->op.req.feed && seen == 0 ? "&resourceVersion=0" : "");
	kube_list_done(&o->list);
	kube_list_begin(&o->list, on_item, o);
	kube_call_stop(&o->call);
	o->call = (struct kube_call){.k = k,
		.path = mem_printf("%s?limit=%zu%s%s", path, page_size(o), from, selector),
		.on_data = on_list_data,
		.answer = on_list};
	kube_call_start(&o->call);
}

/* ---- what there is ---- */

static enum store_access access_of(enum kube_form form)
{
	switch (form) {
	case KUBE_RESOURCE:
	case KUBE_POLICY:
	case KUBE_BLOCK:
	case KUBE_AFFINITY:
	case KUBE_HANDLE:
	case KUBE_IPAM_CONFIG:
		return STORE_ANY;
	case KUBE_IPAM_RESOURCE:
		return STORE_SAME_AS;
	case KUBE_NODE:
		return STORE_CHANGE;
	case KUBE_POD:
	case KUBE_NAMESPACE:
	case KUBE_ACCOUNT:
	case KUBE_CORE:
		break;
	}
	return STORE_FOREIGN;
}

static const struct store_root *kube_roots(size_t *ret_n)
{
	static struct store_root roots[KUBE_N_KINDS];
	size_t n = 0;

	for (size_t i = 0; i < KUBE_N_KINDS; i++)
		if (!kube_kinds[i].other_form)
			roots[n++] = (struct store_root){
				kube_kinds[i].root, access_of(kube_kinds[i].form)};
	*ret_n = n;
	return roots;
}

/* ---- starting ---- */

static void op_go(struct kube_wait *w, int r, const struct err *err)
{
	struct kube_op *o = container_of(w, struct kube_op, wait);

	if (r < 0) {
		op_fail(o, r, err);
		return;
	}
	switch (o->op.req.verb) {
	case STORE_GET:
		op_call(o, NULL, path_of(o), NULL, on_get);
		return;
	case STORE_LIST:
		if (o->op.req.unindexed && !is_indexed(&o->key))
			tell(o, 0, false);
		else
			list_page(o);
		return;
	case STORE_CREATE:
	case STORE_UPDATE:
	case STORE_DELETE:
		write_start(o);
		return;
	}
}

static void kube_op_start(struct store_op *op)
{
	struct kube_op *o = container_of(op, struct kube_op, op);
	struct err err = ERR_INIT;
	int r = op->req.verb == STORE_LIST ? kube_prefix_parse(op->req.key, &o->key, &err)
					   : kube_key_parse(op->req.key, &o->key, &err);

	if (r < 0) {
		store_op_fail(op, r, &err);
		return;
	}
	if (op->req.verb != STORE_LIST)
		o->rev = op->req.rev;
	o->wait.go = op_go;
	kube_wait(kube_of(o), &kube_of(o)->which_group, &o->wait);
}

static void kube_op_stop(struct store_op *op)
{
	op_release(container_of(op, struct kube_op, op));
}

/* ---- opening ---- */

static void kube_close(struct store *st)
{
	struct kube *k = kube_of_store(st);

	kube_call_stop(&k->endpoints);
	kube_call_stop(&k->which_group.call);
	kube_call_stop(&k->which_data.call);
	httpc_free(k->http);
	kube_config_done(&k->config);
	store_conf_done(&k->conf);
	free(k->cluster);
	free(k);
}

static const struct store_ops kube_ops = {
	.op_size = sizeof(struct kube_op),
	.watch_size = sizeof(struct kube_watch),
	.has_index = true,
	.op_start = kube_op_start,
	.op_stop = kube_op_stop,
	.watch_start = kube_watch_start,
	.watch_stop = stream_stop,
	.roots = kube_roots,
	.advise = kube_advise,
	.advice_cancel = kube_advice_cancel,
	.close = kube_close,
};

/* Another value is one of the two to Calico, which would hide the objects that are in the other. */
static int parse_group(const char *text, enum kube_group *ret, bool *ret_named, struct err *err)
{
	*ret_named = text && *text;
	*ret = KUBE_CRD_V1;
	if (!*ret_named || strcmp(text, "crd.projectcalico.org/v1") == 0)
		return 0;
	if (strcmp(text, "projectcalico.org/v3") != 0)
		return err_set(err, -EINVAL,
			"CALICO_API_GROUP \"%.60s\": want crd.projectcalico.org/v1, "
			"projectcalico.org/v3, or empty: the one that the API server has",
			text);
	*ret = KUBE_NATIVE_V3;
	return 0;
}

int store_kube_open(
	const struct store_conf *conf, struct event_base *base, struct store **ret, struct err *err)
{
	struct kube *k = mem_new(struct kube);
	struct kube_config config = {0};
	bool named = false;
	/* A file that is not there may come yet: a pod's, or one that another program writes. */
	int r = kube_config_load(conf, &config, err);

	kube_config_done(&config);
	if (r != -EINVAL && parse_group(conf->calico_api_group, &k->group, &named, err) < 0)
		r = -EINVAL;
	if (r == -EINVAL) {
		free(k);
		return r;
	}
	store_conf_copy(&k->conf, conf);
	kube_gates_init(k);
	k->which_group.known = named;
	store_init(&k->st, &kube_ops, base,
		mem_printf("kubernetes:%s", *k->conf.k8s_api_endpoint ? k->conf.k8s_api_endpoint
					    : *k->conf.kubeconfig
						    ? k->conf.kubeconfig
						    : k->conf.kubernetes_service_host));
	k->st.managed = true;
	*ret = &k->st;
	return 0;
}
