/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "start"
#include "felix/start.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "ipam/alloc.h"
#include "ipam/pools.h"
#include "ipam/run.h"
#include "model/ippool.h"
#include "model/json.h"
#include "model/key.h"
#include "model/node.h"
#include "model/resource.h"
#include "store/store.h"

#define POOL4 "default-ipv4-ippool"
#define POOL6 "default-ipv6-ippool"
#define TIERS "/calico/resources/v3/projectcalico.org/tiers/"
#define ATTEMPTS 20 /* lost compare-and-swaps before it gives up until the next run */

/* An object as the store had it. text NULL: there is none. */
struct object {
	char *key, *text;
	int64_t rev;
	struct node *node;   /* of a Node that can be decoded */
	struct ippool *pool; /* of an IPPool */
	char *bad;	     /* why it cannot be */
};

struct start {
	struct store *st;
	const struct start_conf *conf;
	start_done_fn *done;
	void *arg;
	bool running;
	struct prefix address;
	struct ip
		unclaimed; /* the last address that no other node was found to have; of all runs */
	char *why;
	int64_t now_ns;
	unsigned attempts;

	VEC(struct object) objects; /* read one by one */
	VEC(struct object) nodes, pools;
	bool nodes_known, pools_known;
	/* The tunnel's address. */
	bool released, assigned;
	struct ip tunnel;
	bool no_tiers, told_tiers; /* this run cannot make them; that was told */

	struct store_op *op; /* the one under way */
	struct ipam_request *rq;
	enum store_verb verb;
	char *key, *value; /* of op */
};

static void step(struct start *s);

/* ---- what is known ---- */

static void object_done(struct object *o)
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

static void forget_pools(struct start *s)
{
	struct object *o;

	vec_for_each (&s->pools, o)
		object_done(o);
	vec_done(&s->pools);
	s->pools_known = false;
}

static void forget(struct start *s)
{
	struct object *o;

	vec_for_each (&s->objects, o)
		object_done(o);
	vec_for_each (&s->nodes, o)
		object_done(o);
	vec_done(&s->objects);
	vec_done(&s->nodes);
	s->nodes_known = false;
	forget_pools(s);
}

static void cancel(struct start *s)
{
	store_op_cancel(take_ptr(s->op));
	ipam_request_free(take_ptr(s->rq));
	free(take_ptr(s->key));
	free(take_ptr(s->value));
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
	free(s->why);
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

void start_run(struct start *s, const struct prefix *address, const char *why, int64_t now_ns)
{
	cancel(s);
	forget(s);
	s->address = *address;
	free(s->why);
	s->why = why ? mem_strdup(why) : NULL;
	s->now_ns = now_ns;
	s->attempts = 0;
	s->released = s->assigned = s->no_tiers = false;
	s->running = true;
	step(s);
}

static void finish(struct start *s, int r, const struct err *err)
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
			object_done(o);
			*o = new;
			return;
		}
	vec_push(&s->objects, new);
}

static void unlearn(struct start *s, const char *key)
{
	for (size_t i = 0; i < s->objects.n; i++)
		if (strcmp(s->objects.v[i].key, key) == 0) {
			object_done(&s->objects.v[i]);
			vec_swap_remove(&s->objects, i);
			return;
		}
}

static void take_list(struct start *s, const struct store_res *res)
{
	bool nodes = strcmp(s->key, kind_info(KIND_NODE)->root) == 0;

	for (size_t i = 0; i < res->n; i++) {
		const struct store_kv *kv = &res->kvs[i];
		struct object o = object_read(kv->key, kv->value, kv->len, kv->rev);

		if (nodes)
			vec_push(&s->nodes, o);
		else
			vec_push(&s->pools, o);
	}
	if (!res->more) {
		s->nodes_known |= nodes;
		s->pools_known |= !nodes;
	}
}

/* Nothing here needs tiers, and Calico's older manifests have none. */
static bool go_without_tiers(struct start *s, const struct err *err)
{
	if (strncmp(s->key, TIERS, strlen(TIERS)) != 0)
		return false;
	if (!s->told_tiers)
		log_warn("no tiers are made: %s", err_text(err));
	return s->no_tiers = s->told_tiers = true;
}

static void on_answer(void *arg, const struct store_res *res)
{
	struct start *s = arg;
	struct err e = ERR_INIT;

	if (s->verb == STORE_LIST && res->r == 0)
		take_list(s, res);
	if (res->more)
		return;
	s->op = NULL;
	if (res->r == 0 && s->verb == STORE_GET)
		learn(s, s->key, res->kvs[0].value, res->kvs[0].len, res->kvs[0].rev);
	else if (res->r == 0 && s->verb != STORE_LIST)
		learn(s, s->key, s->value, s->value ? strlen(s->value) : 0, res->rev);
	else if (res->r == -ENOENT && s->verb == STORE_GET)
		learn(s, s->key, NULL, 0, 0);
	else if ((res->r == -ESTALE || res->r == -EEXIST || res->r == -ENOENT) &&
		 s->attempts++ < ATTEMPTS)
		unlearn(s, s->key);
	else if (res->r < 0 && !go_without_tiers(s, res->err)) {
		e = *res->err;
		err_wrap(&e, res->r, "%s %s",
			s->verb == STORE_LIST || s->verb == STORE_GET ? "read" : "write", s->key);
		finish(s, res->r, &e);
		return;
	}
	step(s);
}

/* value_take: NULL, or text that is consumed. */
static void operate(
	struct start *s, enum store_verb verb, const char *key, char *value_take, int64_t rev)
{
	struct store_req req = {.verb = verb, .rev = rev};

	free(s->key);
	free(s->value);
	s->verb = verb;
	s->key = mem_strdup(key);
	s->value = value_take;
	req.key = s->key;
	req.value = s->value;
	s->op = store_start(s->st, &req, on_answer, s);
}

/* The object, which may be none; or false: it is being read, stop here. */
static bool know(struct start *s, const char *key, struct object **ret)
{
	struct object *o;

	vec_for_each (&s->objects, o)
		if (strcmp(o->key, key) == 0) {
			*ret = o;
			return true;
		}
	operate(s, STORE_GET, key, NULL, 0);
	return false;
}

/* ---- objects ---- */

static void identify(const struct start *s, struct meta *m)
{
	uint8_t random[16];

	mem_random(random, sizeof(random));
	meta_identify(m, random, s->now_ns);
}

/* text_take is consumed. Creates what is not there. True: it is there. */
static bool ensure(struct start *s, const char *kind, const char *key, char *text_take)
{
	auto_free char *text = text_take;
	struct object *o;

	if (!know(s, key, &o))
		return false;
	if (o->text)
		return true;
	log_info("creating %s %s", kind, strrchr(key, '/') + 1);
	operate(s, STORE_CREATE, key, take_ptr(text), 0);
	return false;
}

/* A resource that is written once and never changed. spec_take is consumed. */
static bool ensure_resource(struct start *s, const char *kind, const char *key, json_t *spec_take)
{
	struct meta m = {0};
	json_t *j;
	char *text;

	identify(s, &m);
	j = json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:o}", "kind", kind, "apiVersion",
		"projectcalico.org/v3", "metadata", "name", strrchr(key, '/') + 1, "uid", m.uid,
		"creationTimestamp", m.created, "spec", spec_take);
	text = json_dumps(j, JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(j);
	meta_done(&m);
	return ensure(s, kind, key, text);
}

static bool ensure_default(struct start *s, enum kind kind, const char *name, json_t *spec_take)
{
	return ensure_resource(s, kind_info(kind)->name, key_str(kind, NULL, name), spec_take);
}

/* Lists all Nodes, for each address once. 1 = done, 0 = an operation was started, negative = it cannot be. */
static int check_conflict(struct start *s, const struct prefix *mine, struct err *err)
{
	const struct object *o;
	const char *name;

	if (s->conf->skip_ip_check || ip_equal(&s->unclaimed, &mine->addr))
		return 1;
	if (!s->nodes_known) {
		operate(s, STORE_LIST, kind_info(KIND_NODE)->root, NULL, 0);
		return 0;
	}
	vec_for_each (&s->nodes, o) {
		name = strrchr(o->key, '/') + 1;
		if (strcmp(name, s->conf->nodename) != 0 && o->node &&
			ip_equal(&o->node->ipv4.addr, &mine->addr))
			return err_set(err, -EADDRINUSE,
				"node %s: its address %s is node %s's already; give one of them "
				"another (IP, IP_AUTODETECTION_METHOD), or delete the Node object of a "
				"host that is no more",
				s->conf->nodename, ip_str(&mine->addr), name);
	}
	s->unclaimed = mine->addr;
	return 1;
}

static int ensure_node(struct start *s, const char *key, struct err *err)
{
	const struct prefix *address = &s->address;
	auto_(node) struct node *new = NULL;
	bool differs = false;
	struct object *o;
	struct node *n;
	int r;

	if (!know(s, key, &o))
		return 0;
	if (o->bad)
		return err_set(err, -EINVAL,
			"%s cannot be decoded, %s; mend it, or delete it and it is made anew", key,
			o->bad);
	if (!o->text) {
		new = node_new(s->conf->nodename);
		s->unclaimed = (struct ip){0}; /* another may have taken it since */
	}
	n = new ?: o->node;
	if (address->addr.family == IP_NONE && n->ipv4.addr.family == IP_NONE && s->why)
		return err_set(
			err, -ENOENT, "node %s has no address: %s", s->conf->nodename, s->why);
	if (address->addr.family != IP_NONE) {
		r = check_conflict(s, address, err);
		if (r <= 0)
			return r;
		if (!prefix_equal(address, &n->ipv4)) {
			log_info("node %s: address %s", s->conf->nodename, prefix_str(address));
			n->ipv4 = *address;
			differs = true;
		}
	}
	if (s->conf->as && n->as != s->conf->as) {
		n->as = s->conf->as;
		differs = true;
	}
	if (!new && !differs)
		return 1;
	if (new)
		identify(s, &n->meta);
	operate(s, new ? STORE_CREATE : STORE_UPDATE, key, node_encode(n, o->text), o->rev);
	return 0;
}

/* ---- pools ---- */

/* but: is not looked at, or NULL. */
static bool pool_exists(const struct start *s, unsigned family, const struct object *but)
{
	const struct object *o;

	vec_for_each (&s->pools, o)
		if (o != but && o->pool && o->pool->cidr.addr.family == family)
			return true;
	return false;
}

/* One that cannot be decoded, which may be any; or NULL. */
static const struct object *bad_pool(const struct start *s)
{
	const struct object *o;

	vec_for_each (&s->pools, o)
		if (o->bad)
			return o;
	return NULL;
}

/* Whether none that cannot be decoded may be a pool of the family. */
static int check_bad(const struct start *s, unsigned family, struct err *err)
{
	const struct object *o = bad_pool(s);

	return o ? err_set(err, -EINVAL,
			   "no IPv%u pool is made, as %s may be one: it cannot be decoded, %s; mend "
			   "it or delete it",
			   family, o->key, o->bad)
		 : 0;
}

/* Whether a pool of this name may be made, since none of its family was found. */
static int may_create(
	const struct start *s, const char *name, enum ip_family family, struct err *err)
{
	const struct object *o;
	int r = check_bad(s, family, err);

	if (r < 0)
		return r;
	vec_for_each (&s->pools, o)
		if (strcmp(strrchr(o->key, '/') + 1, name) == 0)
			return err_set(err, -EEXIST,
				"there is no IPv%u pool, and none can be made, as %s has its name and "
				"another family; name that otherwise, make a pool by hand, or set "
				"CALICO_IPV%uPOOL_CIDR to none",
				family, o->key, family);
	return 0;
}

/* 192.168.0.0/16, or the first of 172.16-31.0.0/16, that the node's own network is not in. */
static struct prefix choose_cidr(const struct start *s)
{
	struct prefix p, host = {0};
	struct ip ip;

	if (s->address.addr.family == IP_V4)
		host = prefix_masked(&s->address);
	for (uint32_t i = 0; i <= 16; i++) {
		ip = ip_from_v4(i == 0 ? 0xc0a80000 : 0xac100000 + ((i - 1) << 16));
		p = prefix_of(&ip, 16);
		if (host.addr.family == IP_NONE || !prefix_overlap(&p, &host))
			break;
	}
	return p;
}

/* What apply would refuse is not stored: once it is there, no parameter mends it. */
static int check_pool(const struct ippool *p, const char *text, struct err *err)
{
	auto_(json) json_t *j = model_json_load(p->meta.name, text, strlen(text), err);
	struct key key;
	int r = j ? resource_identify(j, NULL, &key, err) : -EINVAL;

	if (r == 0)
		r = resource_validate(j, &key, NULL, NULL, err);
	return r < 0 ? err_wrap(err, r, "CALICO_IPV%cPOOL_*",
			       p->cidr.addr.family == IP_V4 ? '4' : '6')
		     : 0;
}

/* The pool that was made is in the list of the next run of the plan. */
static int create_pool(struct start *s, struct ippool *p, struct err *err)
{
	auto_free char *key = mem_strdup(key_str(KIND_IPPOOL, NULL, p->meta.name));
	auto_free char *text = ippool_encode(p, NULL);
	int r = check_pool(p, text, err);

	if (r < 0)
		return r;
	p->disabled = true;
	labels_set(&p->meta.annotations, IPPOOL_UNCHECKED, IPPOOL_UNCHECKED_FELIX);
	if (!ensure(s, "IPPool", key, ippool_encode(p, NULL)))
		return 0;
	forget_pools(s);
	unlearn(s, key);
	operate(s, STORE_LIST, kind_info(KIND_IPPOOL)->root, NULL, 0);
	return 0;
}

/* Any felix goes on where another has stopped. */
static bool is_half_made(const struct ippool *p)
{
	const char *whose = labels_get(&p->meta.annotations, IPPOOL_UNCHECKED);

	return p->disabled && whose && strcmp(whose, IPPOOL_UNCHECKED_FELIX) == 0;
}

/* Enables what was made, or takes it back where another pool came meanwhile. Then as create_pool. */
static int finish_pool(struct start *s, struct object *o, struct err *err)
{
	struct ippool *p = o->pool;
	bool alone = !pool_exists(s, p->cidr.addr.family, o);
	auto_free char *key = mem_strdup(o->key), *text = NULL;
	int64_t rev = o->rev;
	int r = alone ? check_bad(s, p->cidr.addr.family, err) : 0;

	if (r < 0)
		return r;
	if (alone) {
		p->disabled = false;
		labels_set(&p->meta.annotations, IPPOOL_UNCHECKED, NULL);
		text = ippool_encode(p, o->text);
	} else {
		log_info("deleting %s: there is another pool", key);
	}
	forget_pools(s);
	operate(s, alone ? STORE_UPDATE : STORE_DELETE, key, take_ptr(text), rev);
	return 0;
}

static struct ippool *new_pool(const struct start *s, const char *name, const struct prefix *cidr,
	uint32_t block_plen, bool nat_outgoing)
{
	struct ippool *p = ippool_new(name, cidr);

	identify(s, &p->meta);
	p->block_plen = (uint8_t)block_plen;
	p->nat_outgoing = nat_outgoing;
	return p;
}

static int parse_cidr(const char *text, uint8_t family, struct prefix *ret, struct err *err)
{
	int r = prefix_parse_masked(text, ret, err);

	if (r == 0 && ret->addr.family != family)
		r = err_set(err, -EINVAL, "got \"%.60s\", want a prefix of IPv%c", text,
			family == IP_V4 ? '4' : '6');
	return r;
}

/* As with ensure_pools. */
static int ensure_pool4(struct start *s, struct err *err)
{
	const struct start_conf *c = s->conf;
	auto_(ippool) struct ippool *p = NULL;
	struct prefix cidr;
	int r;

	if (strcmp(c->pool4_cidr, "none") == 0 || pool_exists(s, IP_V4, NULL))
		return 1;
	r = may_create(s, POOL4, IP_V4, err);
	if (r < 0)
		return r;
	if (c->pool4_cidr[0] == '\0')
		cidr = choose_cidr(s);
	else
		r = parse_cidr(c->pool4_cidr, IP_V4, &cidr, err);
	if (r < 0)
		return err_wrap(err, r, "CALICO_IPV4POOL_CIDR");
	p = new_pool(s, POOL4, &cidr, c->pool4_block_size, c->pool4_nat_outgoing);
	(void)encap_mode_parse(c->pool4_ipip, &p->ipip, NULL); /* "Off" is Never */
	(void)encap_mode_parse(c->pool4_vxlan, &p->vxlan, NULL);
	p->disable_bgp_export = c->pool4_disable_bgp_export;
	free(p->node_selector);
	p->node_selector = mem_strdup(c->pool4_node_selector);
	return create_pool(s, p, err);
}

static int ensure_pool6(struct start *s, struct err *err)
{
	const struct start_conf *c = s->conf;
	auto_(ippool) struct ippool *p = NULL;
	struct prefix cidr;
	int r;

	if (c->pool6_cidr[0] == '\0' || strcmp(c->pool6_cidr, "none") == 0 ||
		pool_exists(s, IP_V6, NULL))
		return 1;
	r = may_create(s, POOL6, IP_V6, err);
	if (r < 0)
		return r;
	r = parse_cidr(c->pool6_cidr, IP_V6, &cidr, err);
	if (r < 0)
		return err_wrap(err, r, "CALICO_IPV6POOL_CIDR");
	p = new_pool(s, POOL6, &cidr, c->pool6_block_size, c->pool6_nat_outgoing);
	return create_pool(s, p, err);
}

/* 1 = done, 0 = an operation was started, negative = it cannot be. */
static int ensure_pools(struct start *s, struct err *err)
{
	struct object *o;
	int r;

	if (!s->pools_known) {
		operate(s, STORE_LIST, kind_info(KIND_IPPOOL)->root, NULL, 0);
		return 0;
	}
	if (s->conf->no_default_pools)
		return 1;
	vec_for_each (&s->pools, o)
		if (o->pool && is_half_made(o->pool))
			return finish_pool(s, o, err);
	r = ensure_pool4(s, err);
	return r == 1 ? ensure_pool6(s, err) : r;
}

/* ---- the cluster's resources ---- */

static bool has_item(const char *list, const char *item, size_t len)
{
	for (const char *s = list; s; s = strchr(s, ',')) {
		s += *s == ',';
		if (strncmp(s, item, len) == 0 && (s[len] == '\0' || s[len] == ','))
			return true;
	}
	return false;
}

/* Those of b that a lacks behind it. */
static void add_items(struct strbuf *a, const char *b)
{
	size_t len;

	for (; *b; b += len + (b[len] == ',')) {
		len = strcspn(b, ",");
		if (len > 0 && !has_item(strbuf_str(a), b, len))
			strbuf_addf(a, "%s%.*s", a->len ? "," : "", (int)len, b);
	}
}

/* Fills in what spec lacks, as each of Calico's nodes does. Another program's version stays. */
static void complete_cluster(const struct start *s, json_t *spec)
{
	const char *version = json_string_value(json_object_get(spec, "calicoVersion"));
	const char *type = json_string_value(json_object_get(spec, "clusterType"));
	const char *guid = json_string_value(json_object_get(spec, "clusterGUID"));
	auto_strbuf types = STRBUF_INIT, new_guid = STRBUF_INIT;
	char uuid[META_UUID_SIZE];
	uint8_t random[16];

	mem_random(random, sizeof(random));
	meta_uuid(random, uuid);
	for (const char *c = uuid; *c; c++)
		if (*c != '-')
			strbuf_addf(&new_guid, "%c", *c);
	add_items(&types, type ? type : "");
	add_items(&types, s->conf->cluster_type);
	if (store_is_managed(s->st))
		add_items(&types, "kdd");
	if (!guid || !*guid)
		json_object_set_new(spec, "clusterGUID", json_string(strbuf_str(&new_guid)));
	json_object_set_new(spec, "clusterType", json_string(strbuf_str(&types)));
	if (!version || !*version || strncmp(version, "margay-", 7) == 0)
		json_object_set_new(spec, "calicoVersion", json_string("margay-" MARGAY_VERSION));
	if (!json_object_get(spec, "datastoreReady"))
		json_object_set_new(spec, "datastoreReady", json_true());
}

/* True: it is as it should be. One that is no such object is left alone. */
static bool ensure_cluster(struct start *s)
{
	auto_free char *key = mem_strdup(key_str(KIND_CLUSTERINFORMATION, NULL, "default"));
	auto_(json) json_t *j = NULL, *before = NULL;
	json_t *spec;
	struct object *o;

	if (!know(s, key, &o))
		return false;
	if (!o->text) {
		spec = json_object();
		complete_cluster(s, spec);
		return ensure_default(s, KIND_CLUSTERINFORMATION, "default", spec);
	}
	j = json_loads(o->text, 0, NULL);
	spec = json_object_get(j, "spec");
	if (!json_is_object(spec))
		return true;
	before = json_deep_copy(spec);
	complete_cluster(s, spec);
	if (json_equal(before, spec))
		return true;
	operate(s, STORE_UPDATE, key, model_json_dump(j), o->rev);
	return false;
}

static bool ensure_tier(struct start *s, const char *key, int order, const char *action)
{
	return s->no_tiers ||
	       ensure_resource(s, "Tier", key,
		       json_pack("{s:i, s:s}", "order", order, "defaultAction", action));
}

static bool ensure_defaults(struct start *s)
{
	auto_free char *own = mem_printf("node.%s", s->conf->nodename);

	return ensure_cluster(s) &&
	       ensure_default(s, KIND_FELIXCONFIGURATION, "default",
		       json_pack("{s:s, s:s, s:s, s:s}", "bpfLogLevel", "", "floatingIPs",
			       "Disabled", "logSeverityScreen", "Info", "reportingInterval",
			       "0s")) &&
	       (store_is_managed(s->st) || ensure_default(s, KIND_FELIXCONFIGURATION, own,
						   json_pack("{s:s, s:s, s:s}", "bpfLogLevel", "",
							   "defaultEndpointToHostAction", "Return",
							   "floatingIPs", "Disabled"))) &&
	       ensure_default(s, KIND_BGPCONFIGURATION, "default", json_object()) &&
	       ensure_default(s, KIND_IPAMCONFIGURATION, "default",
		       json_pack("{s:b, s:b}", "strictAffinity", 0, "autoAllocateBlocks", 1)) &&
	       ensure_tier(s, TIERS "default", 1000000, "Deny") &&
	       ensure_tier(s, TIERS "kube-admin", 1000, "Pass") &&
	       ensure_tier(s, TIERS "kube-baseline", 10000000, "Pass");
}

/* ---- the tunnel's address ---- */

static void on_ipam(struct ipam_request *rq, int r, const struct err *err, void *arg)
{
	struct start *s = arg;
	const struct ipam_addr *a = ipam_request_addr(rq, IP_V4);
	struct err e = err ? *err : ERR_INIT;
	bool assigning = s->released;

	if (!assigning && r == -ENOENT) /* nothing was held */
		r = 0;
	if (r == 0 && assigning) {
		s->assigned = true;
		s->tunnel = a ? a->ip : (struct ip){0};
	}
	s->released = true;
	ipam_request_free(take_ptr(s->rq));
	if (r < 0) {
		err_wrap(&e, r, "tunnel address of node %s", s->conf->nodename);
		finish(s, r, &e);
		return;
	}
	step(s);
}

static void release(struct start *s, const char *handle)
{
	s->rq = ipam_release_handle_new(handle, s->now_ns);
	ipam_start(s->st, s->rq, on_ipam, s);
}

static void assign(struct start *s, const char *handle, const char *const *pools, size_t n)
{
	const struct ipam_attr attrs[] = {
		{"node", s->conf->nodename}, {"type", "ipipTunnelAddress"}};
	struct ipam_assign a = {.host = s->conf->nodename,
		.handle = handle,
		.attrs = attrs,
		.n_attrs = array_size(attrs),
		.use = IPAM_USE_TUNNEL,
		.v4 = true,
		.pools = pools,
		.n_pools = n,
		.reuse = true,
		.now_ns = s->now_ns};

	mem_random(&a.random, sizeof(a.random));
	s->rq = ipam_assign_new(&a);
	ipam_start(s->st, s->rq, on_ipam, s);
}

/* Writes the address (IP_NONE: clears it). */
static void write_tunnel(struct start *s, struct object *o, const struct ip *ip)
{
	o->node->ipip_tunnel4 = *ip;
	log_info("node %s: tunnel address %s", s->conf->nodename,
		ip->family == IP_NONE ? "given back" : ip_str(ip));
	operate(s, STORE_UPDATE, o->key, node_encode(o->node, o->text), o->rev);
}

/* The names of the IPIP pools that serve this node's tunnel, and whether its address is in one of
 * them. ret: room for all pools. */
static size_t tunnel_pools(
	const struct start *s, const struct node *node, const char **ret, bool *ret_fits)
{
	const struct object *o;
	const struct ippool *p;
	size_t n = 0;

	*ret_fits = false;
	vec_for_each (&s->pools, o) {
		p = o->pool; /* felix's cache has named those without */
		if (p && p->ipip != ENCAP_NEVER && ippool_enabled(p) &&
			(p->allowed_uses & POOL_TUNNEL) && p->cidr.addr.family == IP_V4 &&
			pool_selects(p->node_selector, &node->meta.labels)) {
			ret[n++] = strrchr(o->key, '/') + 1;
			*ret_fits |= prefix_contains(&p->cidr, &node->ipip_tunnel4);
		}
	}
	return n;
}

static int ensure_tunnel(struct start *s, const char *node_key)
{
	auto_free char *handle = mem_printf("ipip-tunnel-addr-%s", s->conf->nodename);
	auto_free const char **pools = NULL;
	struct object *node;
	bool stored, fits;
	size_t n;

	if (!know(s, node_key, &node))
		return 0;
	stored = node->node->ipip_tunnel4.family != IP_NONE;
	pools = mem_realloc_array(NULL, s->pools.n + 1, sizeof(*pools));
	n = tunnel_pools(s, node->node, pools, &fits);
	if (!fits && stored && bad_pool(s)) /* it may be of that one */
		return 1;
	/* Unpublished before it is free for a pod. */
	if (!fits && stored) {
		write_tunnel(s, node, &(struct ip){0});
		return 0;
	}
	if (!fits && !s->released) {
		release(s, handle);
		return 0;
	}
	s->released = true;
	if (n == 0)
		return 1;
	if (!s->assigned) {
		assign(s, handle, pools, n);
		return 0;
	}
	if (ip_equal(&s->tunnel, &node->node->ipip_tunnel4))
		return 1;
	write_tunnel(s, node, &s->tunnel);
	return 0;
}

/* ---- the plan ---- */

static void step(struct start *s)
{
	auto_free char *node_key = mem_strdup(key_str(KIND_NODE, NULL, s->conf->nodename));
	struct err err = ERR_INIT;
	int r, pools = 1;

	r = ensure_node(s, node_key, &err);
	if (r == 1)
		r = ensure_defaults(s);
	if (r == 1)
		r = pools = ensure_pools(s, &err);
	if (r == 1 || pools < 0) /* without a default pool, others may have an address */
		r = ensure_tunnel(s, node_key);
	if (r == 0)
		return;
	if (r == 1)
		r = pools;
	finish(s, r == 1 ? 0 : r, &err);
}
