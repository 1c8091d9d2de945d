/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "start"
#include "felix/start.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "felix/start_plan.h"
#include "ipam/alloc.h"
#include "model/ippool.h"
#include "model/key.h"
#include "model/node.h"

#define ATTEMPTS 20 /* lost compare-and-swaps before it gives up until the next run */

/* ---- what is known ---- */

void start_object_done(struct object *o)
{
	free(o->key);
	free(o->text);
	node_free(o->node);
	ippool_free(o->pool);
	free(o->bad);
}

/* value NULL: there is none. */
static struct object object_read(const char *key, const char *value, size_t len, int64_t rev)
{
	struct object o = {.key = mem_strdup(key), .rev = rev};
	struct err err = ERR_INIT;
	struct key parsed;
	int r = 0;

	if (!value)
		return o;
	o.text = mem_strndup(value, len);
	if (key_parse(key, &parsed) && parsed.kind == KIND_NODE)
		r = node_decode(key, value, len, &o.node, &err);
	else if (key_parse(key, &parsed) && parsed.kind == KIND_IPPOOL)
		r = ippool_decode(key, value, len, &o.pool, &err);
	if (r < 0)
		o.bad = mem_strdup(err_text(&err));
	return o;
}

void start_forget_all(struct listed *l)
{
	struct object *o;

	vec_for_each (&l->of, o)
		start_object_done(o);
	vec_done(&l->of);
	l->known = false;
}

static void forget(struct start *s)
{
	struct object *o;

	vec_for_each (&s->objects, o)
		start_object_done(o);
	vec_done(&s->objects);
	start_forget_all(&s->nodes);
	start_forget_all(&s->pools);
	start_forget_all(&s->unindexed);
	start_host_done(&s->host);
}

static void cancel(struct start *s)
{
	store_op_cancel(take_ptr(s->op));
	ipam_request_free(take_ptr(s->rq));
	free(take_ptr(s->key));
	free(take_ptr(s->value));
}

/* ---- life ---- */

void start_host_done(struct start_host *h)
{
	for (int f = 0; f < START_N_FAMILIES; f++)
		free(h->why[f]);
	json_decref(h->interfaces);
	*h = (struct start_host){0};
}

struct start *start_new(
	struct store *st, const struct start_conf *conf, start_done_fn *done, void *arg)
{
	struct start *s = mem_new(struct start);

	s->st = st;
	s->conf = conf;
	s->done = done;
	s->arg = arg;
	return s;
}

void start_free(struct start *s)
{
	if (!s)
		return;
	cancel(s);
	forget(s);
	free(s);
}

void start_stop(struct start *s)
{
	cancel(s);
	forget(s);
	s->running = false;
}

bool start_is_running(const struct start *s)
{
	return s->running;
}

bool start_is_settled(const struct start *s)
{
	return s->settled;
}

void start_run(struct start *s, struct start_host *host, int64_t now_ns)
{
	cancel(s);
	forget(s);
	s->host = *host;
	*host = (struct start_host){0};
	s->now_ns = now_ns;
	s->attempts = 0;
	for (int f = 0; f < START_N_FAMILIES; f++)
		s->written[f] = false;
	s->released = s->assigned = s->no_tiers = false;
	s->running = true;
	start_step(s);
}

void start_finish(struct start *s, int r, const struct err *err)
{
	s->running = false;
	forget(s);
	s->done(s->arg, r, err);
}

/* ---- operations ---- */

static void learn(struct start *s, const char *key, const char *value, size_t len, int64_t rev)
{
	struct object new = object_read(key, value, len, rev), *o;

	vec_for_each (&s->objects, o)
		if (strcmp(o->key, key) == 0) {
			start_object_done(o);
			*o = new;
			return;
		}
	vec_push(&s->objects, new);
}

void start_unlearn(struct start *s, const char *key)
{
	for (size_t i = 0; i < s->objects.n; i++)
		if (strcmp(s->objects.v[i].key, key) == 0) {
			start_object_done(&s->objects.v[i]);
			vec_swap_remove(&s->objects, i);
			return;
		}
}

static void take_list(struct listed *l, const struct store_res *res)
{
	for (size_t i = 0; i < res->n; i++) {
		const struct store_kv *kv = &res->kvs[i];

		vec_push(&l->of, object_read(kv->key, kv->value, kv->len, kv->rev));
	}
	l->known = !res->more;
}

static bool may_try_again(struct start *s, int r)
{
	return (r == -ESTALE || r == -EEXIST || r == -ENOENT) && s->attempts++ < ATTEMPTS;
}

static void on_answer(void *arg, const struct store_res *res)
{
	struct start *s = arg;
	struct err e = ERR_INIT;

	if (s->listing && res->r == 0)
		take_list(s->listing, res);
	if (res->more)
		return;
	s->op = NULL;
	if (res->r == 0 && s->verb == STORE_GET)
		learn(s, s->key, res->kvs[0].value, res->kvs[0].len, res->kvs[0].rev);
	else if (res->r == 0 && !s->listing)
		learn(s, s->key, s->value, s->value ? strlen(s->value) : 0, res->rev);
	else if (res->r == -ENOENT && s->verb == STORE_GET)
		learn(s, s->key, NULL, 0, 0);
	else if (may_try_again(s, res->r)) {
		if (s->listing) /* some of it has come, of an older revision */
			start_forget_all(s->listing);
		start_forget_all(&s->unindexed);
		start_unlearn(s, s->key);
	} else if (res->r < 0 && !start_go_without(s, res->r, res->err)) {
		e = *res->err;
		err_wrap(&e, res->r, "%s %s",
			s->verb == STORE_LIST || s->verb == STORE_GET ? "read" : "write", s->key);
		start_finish(s, res->r, &e);
		return;
	}
	start_step(s);
}

static void operate(struct start *s, const struct store_req *req, char *value_take)
{
	struct store_req copy = *req;

	free(s->key);
	free(s->value);
	s->verb = req->verb;
	s->key = mem_strdup(req->key);
	s->value = value_take;
	copy.key = s->key;
	copy.value = s->value;
	s->op = store_start(s->st, &copy, on_answer, s);
}

void start_operate(
	struct start *s, enum store_verb verb, const char *key, char *value_take, int64_t rev)
{
	s->listing = NULL;
	operate(s, &(struct store_req){.verb = verb, .key = key, .rev = rev}, value_take);
}

bool start_know(struct start *s, const char *key, struct object **ret)
{
	struct object *o;

	vec_for_each (&s->objects, o)
		if (strcmp(o->key, key) == 0) {
			*ret = o;
			return true;
		}
	start_operate(s, STORE_GET, key, NULL, 0);
	return false;
}

bool start_know_all(struct start *s, struct listed *l, const char *prefix)
{
	if (l->known)
		return true;
	s->listing = l;
	operate(s,
		&(struct store_req){
			.verb = STORE_LIST, .key = prefix, .unindexed = l == &s->unindexed},
		NULL);
	return false;
}

void start_identify(const struct start *s, struct meta *m)
{
	uint8_t random[16];

	mem_random(random, sizeof(random));
	meta_identify(m, random, s->now_ns);
}

bool start_ensure(struct start *s, const char *kind, const char *key, char *text_take)
{
	auto_free char *text = text_take;
	struct object *o;

	if (!start_know(s, key, &o))
		return false;
	if (o->text)
		return true;
	log_info("creating %s %s", kind, strrchr(key, '/') + 1);
	start_operate(s, STORE_CREATE, key, take_ptr(text), 0);
	return false;
}

/* ---- the plan ---- */

void start_step(struct start *s)
{
	auto_free char *node_key = mem_strdup(key_str(KIND_NODE, NULL, s->conf->nodename));
	struct err err = ERR_INIT;
	int r, pools = 1;

	r = start_node(s, node_key, &err);
	s->settled |= r == 1;
	if (r == 1)
		r = start_affinities(s);
	if (r == 1)
		r = start_cluster(s);
	if (r == 1)
		r = pools = start_pools(s, &err);
	if (r == 1 || pools < 0) /* without a default pool, others may have an address */
		r = start_tunnel(s, node_key);
	if (r == 1)
		r = pools;
	if (r == 1)
		r = start_missing(s, node_key, &err);
	if (r != 0)
		start_finish(s, r == 1 ? 0 : r, &err);
}
