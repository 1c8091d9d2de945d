/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The part of a store that is the same for every driver: operations with their deadlines, and the life
 * of watches. An operation begins with a timer of zero, so that a callback never runs before store_start()
 * has returned; the same timer then is its deadline.
 */
#include "store/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "model/json.h"
#include "store/driver.h"
#include "store/known.h"
#include "store/txn.h"

static const size_t conf_texts[] = {
	offsetof(struct store_conf, type),
	offsetof(struct store_conf, sqlite_path),
	offsetof(struct store_conf, etcd_endpoints),
	offsetof(struct store_conf, etcd_discovery_srv),
	offsetof(struct store_conf, etcd_username),
	offsetof(struct store_conf, etcd_password),
	offsetof(struct store_conf, etcd_key_file),
	offsetof(struct store_conf, etcd_cert_file),
	offsetof(struct store_conf, etcd_ca_cert_file),
	offsetof(struct store_conf, kubeconfig),
	offsetof(struct store_conf, k8s_api_endpoint),
	offsetof(struct store_conf, k8s_ca_file),
	offsetof(struct store_conf, k8s_cert_file),
	offsetof(struct store_conf, k8s_key_file),
	offsetof(struct store_conf, k8s_token_file),
	offsetof(struct store_conf, k8s_api_token),
	offsetof(struct store_conf, kubernetes_service_host),
	offsetof(struct store_conf, kubernetes_service_port),
	offsetof(struct store_conf, calico_api_group),
	offsetof(struct store_conf, kube_endpoints_file),
	offsetof(struct store_conf, own_node),
};

static const char **conf_text(struct store_conf *conf, size_t i)
{
	return (const char **)(void *)((char *)conf + conf_texts[i]);
}

static const char *conf_get(const struct store_conf *conf, size_t i)
{
	const char *s = *(const char *const *)(const void *)((const char *)conf + conf_texts[i]);

	return s ? s : "";
}

void store_conf_copy(struct store_conf *ret, const struct store_conf *conf)
{
	*ret = *conf;
	for (size_t i = 0; i < array_size(conf_texts); i++)
		*conf_text(ret, i) = mem_strdup(conf_get(conf, i));
}

bool store_conf_equal(const struct store_conf *a, const struct store_conf *b)
{
	for (size_t i = 0; i < array_size(conf_texts); i++)
		if (strcmp(conf_get(a, i), conf_get(b, i)) != 0)
			return false;
	return a->must_exist == b->must_exist && a->sqlite_sync_full == b->sqlite_sync_full;
}

void store_conf_done(struct store_conf *conf)
{
	for (size_t i = 0; i < array_size(conf_texts); i++)
		free((void *)(uintptr_t)*conf_text(conf, i));
	*conf = (struct store_conf){0};
}

bool store_conf_is_set(const char *text)
{
	return text && *text;
}

/* Calico takes etcd, too, where its endpoints are all that is said. */
const char *store_conf_type(const struct store_conf *conf)
{
	if (store_conf_is_set(conf->type))
		return conf->type;
	return store_conf_is_set(conf->etcd_endpoints) ||
			       store_conf_is_set(conf->etcd_discovery_srv)
		       ? "etcdv3"
		       : "sqlite";
}

int store_open(
	const struct store_conf *conf, struct event_base *base, struct store **ret, struct err *err)
{
	const char *type = store_conf_type(conf);

	if (strcmp(type, "sqlite") == 0)
		return store_sqlite_open(conf, base, ret, err);
	if (strcmp(type, "etcdv3") == 0)
		return store_etcd_open(conf, base, ret, err);
	if (strcmp(type, "kubernetes") == 0)
		return store_kube_open(conf, base, ret, err);
	return err_set(err, -EINVAL,
		"DATASTORE_TYPE \"%s\": this version supports \"sqlite\" (one machine, a file), "
		"\"etcdv3\" and \"kubernetes\"; set it to one of them",
		type);
}

void store_init(
	struct store *st, const struct store_ops *ops, struct event_base *base, char *name_take)
{
	st->ops = ops;
	st->own_base = !base;
	st->base = base ? base : event_base_new();
	if (!st->base)
		abort(); /* out of descriptors or memory */
	st->name = name_take;
	list_init(&st->ops_list);
	list_init(&st->watches);
}

static void op_unlink(struct store_op *op)
{
	list_del(&op->node);
	event_free(op->timer);
}

static void op_free(struct store_op *op)
{
	if (op->dead)
		*op->dead = true;
	free((void *)(uintptr_t)op->req.key);
	free((void *)(uintptr_t)op->req.value);
	free((void *)(uintptr_t)op->req.uid);
	free(op);
}

static void watch_free(struct store_watch *w)
{
	if (w->dead)
		*w->dead = true;
	list_del(&w->node);
	free(w->prefix);
	free(w);
}

void store_close(struct store *st)
{
	struct event_base *own;

	if (!st)
		return;
	while (!list_empty(&st->ops_list))
		store_op_cancel(list_entry(st->ops_list.next, struct store_op, node));
	while (!list_empty(&st->watches))
		store_watch_cancel(list_entry(st->watches.next, struct store_watch, node));
	own = st->own_base ? st->base : NULL;
	free(st->name);
	txn_free(st->txn);
	known_free(st->known);
	st->ops->close(st);
	if (own)
		event_base_free(own);
}

const char *store_name(const struct store *st)
{
	return st->name;
}

bool store_has_leases(const struct store *st)
{
	return st->ops->has_leases;
}

bool store_is_managed(const struct store *st)
{
	return st->managed;
}

const struct store_root *store_roots(const struct store *st, size_t *ret_n)
{
	static const struct store_root all[] = {{"/calico/", STORE_ANY}, {"/margay/", STORE_ANY}};

	if (st->ops->roots)
		return st->ops->roots(ret_n);
	*ret_n = array_size(all);
	return all;
}

struct store_advice *store_advise(struct store *st, store_advice_fn *done, void *arg)
{
	return st->ops->advise ? st->ops->advise(st, done, arg) : NULL;
}

void store_advice_cancel(struct store_advice *a)
{
	if (a)
		a->st->ops->advice_cancel(a);
}

struct event_base *store_base(const struct store *st)
{
	return st->base;
}

void store_kv_done(struct store_kv *kv)
{
	free(kv->key);
	free(kv->value);
	*kv = (struct store_kv){0};
}

struct store_kv store_kv_copy(const struct store_kv *kv)
{
	struct store_kv copy = *kv;

	copy.key = mem_strdup(kv->key);
	copy.value = mem_strndup(kv->value, kv->len);
	return copy;
}

void store_list_add_take(struct store_list *l, struct store_kv kv)
{
	l->v = mem_realloc_array(l->v, l->n + 1, sizeof(*l->v));
	l->v[l->n++] = kv;
}

void store_list_done(struct store_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		store_kv_done(&l->v[i]);
	free(l->v);
	*l = (struct store_list){0};
}

char *store_prefix_end(const char *prefix)
{
	char *end = mem_strdup(prefix);
	size_t n = strlen(end);

	while (n > 0 && (unsigned char)end[n - 1] == 0xff)
		end[--n] = 0;
	if (n > 0)
		end[n - 1]++;
	return end;
}

static int check_key(const char *key, struct err *err)
{
	size_t n = strlen(key);

	if (key[0] != '/')
		return err_set(
			err, -EINVAL, "store key \"%.60s\": want it to begin with \"/\"", key);
	if (n > STORE_KEY_MAX)
		return err_set(err, -EINVAL, "store key \"%.60s...\": %zu bytes, want at most %d",
			key, n, STORE_KEY_MAX);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)key[i] <= ' ' || key[i] == 0x7f)
			return err_set(err, -EINVAL,
				"store key \"%.60s\": a space or control character at offset %zu",
				key, i);
	return 0;
}

int store_check_req(const struct store *st, const struct store_req *req, struct err *err)
{
	int r = check_key(req->key, err);

	if (r < 0 || (req->verb != STORE_CREATE && req->verb != STORE_UPDATE))
		return r;
	if (req->len == 0)
		return err_set(err, -EINVAL, "%s: the value is empty, want JSON text", req->key);
	if (req->len > STORE_VALUE_MAX)
		return err_set(err, -EINVAL, "%s: the value has %zu bytes, want at most %d",
			req->key, req->len, STORE_VALUE_MAX);
	if (memchr(req->value, 0, req->len))
		return err_set(
			err, -EINVAL, "%s: the value has a NUL byte, want JSON text", req->key);
	if (req->lease_s && !store_has_leases(st))
		return err_set(err, -EOPNOTSUPP,
			"%s: %s: objects that expire are not for this datastore: only etcd has leases",
			st->name, req->key);
	return 0;
}

int store_check_before(const struct store_req *req, const struct store_kv *kv, struct err *err)
{
	auto_(json) json_t *object = NULL;
	const char *uid;

	if (req->rev && req->rev != kv->rev)
		return err_set(err, -ESTALE,
			"%s: was changed meanwhile: it has revision %lld, expected was %lld",
			req->key, (long long)kv->rev, (long long)req->rev);
	if (!req->uid)
		return 0;
	object = json_loadb(kv->value, kv->len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	uid = json_string_value(json_object_get(json_object_get(object, "metadata"), "uid"));
	if (!uid || strcmp(uid, req->uid) != 0)
		return err_set(err, -ESTALE,
			"%s: is another object of the same name: its uid is not %s", req->key,
			req->uid);
	return 0;
}

void store_arm(struct event *timer, int64_t delay_ms)
{
	struct timeval tv = {0};

	if (delay_ms > 0)
		tv = (struct timeval){.tv_sec = delay_ms / 1000, .tv_usec = delay_ms % 1000 * 1000};
	event_add(timer, &tv);
}

uint32_t store_random(uint32_t below)
{
	uint32_t rnd;

	mem_random(&rnd, sizeof(rnd));
	return rnd % below;
}

static const char *verb_text(enum store_verb verb)
{
	switch (verb) {
	case STORE_GET:
		return "reading";
	case STORE_LIST:
		return "listing";
	case STORE_CREATE:
		return "creating";
	case STORE_UPDATE:
		return "updating";
	case STORE_DELETE:
		return "deleting";
	}
	return "?";
}

static void count_failure(struct store *st, int r)
{
	switch (r) {
	case -ENOENT:
	case -EEXIST:
	case -ESTALE:
		return;
	case -EACCES:
		st->stats.failures[STORE_DENIED]++;
		return;
	case -ENOSPC:
		st->stats.failures[STORE_FULL]++;
		return;
	case -ETIMEDOUT:
		st->stats.failures[STORE_TIMED_OUT]++;
		return;
	case -EINVAL:
	case -EOPNOTSUPP:
		st->stats.failures[STORE_INVALID]++;
		return;
	default:
		st->stats.failures[STORE_AWAY]++;
	}
}

static void op_timer(evutil_socket_t fd, short what, void *arg)
{
	struct store_op *op = arg;
	struct err err = ERR_INIT;
	int r;

	(void)fd;
	(void)what;
	if (op->started) {
		op->st->ops->op_stop(op);
		r = err_set(&err, -ETIMEDOUT, "%s: %s %s: no answer in time", op->st->name,
			verb_text(op->req.verb), op->req.key);
		store_op_fail(op, r, &err);
		return;
	}
	r = store_check_req(op->st, &op->req, &err);
	if (r < 0) {
		store_op_fail(op, r, &err);
		return;
	}
	if (op->req.unindexed && !op->st->ops->has_index) {
		store_op_done(op, &(struct store_res){0});
		return;
	}
	op->started = true;
	store_arm(op->timer, op->patience_ms);
	op->st->ops->op_start(op);
}

void store_op_begin(struct store_op *op)
{
	op_timer(-1, 0, op);
}

struct store_op *store_start(
	struct store *st, const struct store_req *req, store_done_fn *done, void *arg)
{
	struct store_op *op = mem_zalloc(st->ops->op_size);

	op->st = st;
	op->req = *req;
	op->done = done;
	op->arg = arg;
	op->req.key = mem_strdup(req->key);
	op->req.uid = req->uid ? mem_strdup(req->uid) : NULL;
	op->req.value = NULL;
	if (req->value) {
		char *copy;

		op->req.len = req->len ? req->len : strlen(req->value);
		copy = mem_alloc(op->req.len + 1);
		memcpy(copy, req->value, op->req.len);
		copy[op->req.len] = 0;
		op->req.value = copy;
	}
	if (req->deadline_ms)
		op->patience_ms = req->deadline_ms - clock_mono_ms();
	else
		op->patience_ms = req->feed ? STORE_SILENCE_MS : STORE_TIMEOUT_MS;
	op->timer = evtimer_new(st->base, op_timer, op);
	if (!op->timer)
		abort();
	st->stats.requests[req->verb]++;
	store_arm(op->timer, 0);
	list_add_tail(&st->ops_list, &op->node);
	return op;
}

void store_op_cancel(struct store_op *op)
{
	if (!op)
		return;
	if (op->started)
		op->st->ops->op_stop(op);
	op_unlink(op);
	op_free(op);
}

bool store_op_done(struct store_op *op, const struct store_res *res)
{
	bool dead = false;

	if (res->r < 0)
		count_failure(op->st, res->r);
	if (!res->more) {
		op_unlink(op);
		op->done(op->arg, res);
		op_free(op);
		return false;
	}
	if (op->req.feed)
		store_arm(op->timer, op->patience_ms);
	op->dead = &dead;
	op->done(op->arg, res);
	if (!dead)
		op->dead = NULL;
	return !dead;
}

void store_op_fail(struct store_op *op, int r, const struct err *err)
{
	store_op_done(op, &(struct store_res){.r = r, .err = err});
}

struct store_watch *store_watch(struct store *st, const char *prefix, int64_t rev,
	store_event_fn *event, store_end_fn *end, void *arg)
{
	struct store_watch *w = mem_zalloc(st->ops->watch_size);

	w->st = st;
	w->prefix = mem_strdup(prefix);
	w->prefix_len = strlen(prefix);
	w->rev = rev;
	w->event = event;
	w->end = end;
	w->arg = arg;
	list_add_tail(&st->watches, &w->node);
	st->stats.watches++;
	st->ops->watch_start(w);
	return w;
}

void store_watch_cancel(struct store_watch *w)
{
	if (!w)
		return;
	w->st->ops->watch_stop(w);
	watch_free(w);
}

bool store_watch_event(struct store_watch *w, const struct store_kv *kv)
{
	bool dead = false;

	w->rev = kv->rev;
	w->dead = &dead;
	w->event(w->arg, kv);
	if (!dead)
		w->dead = NULL;
	return !dead;
}

void store_watch_end(struct store_watch *w, int r, const struct err *err)
{
	store_end_fn *end = w->end;
	void *arg = w->arg;

	count_failure(w->st, r);
	watch_free(w);
	end(arg, r, err);
}
