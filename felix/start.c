/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "start"
#include "felix/start.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/vec.h"
#include "ipam/alloc.h"
#include "ipam/pools.h"
#include "ipam/run.h"
#include "model/ippool.h"
#include "model/key.h"
#include "model/node.h"
#include "store/store.h"

#define POOL4 "default-ipv4-ippool"
#define POOL6 "default-ipv6-ippool"
#define ATTEMPTS 20 /* lost compare-and-swaps before it gives up until the next run */

/* An object as the store had it. Neither json nor bad: there is none. */
struct object {
	char *key;
	json_t *json;
	char *bad; /* why it cannot be decoded */
	int64_t rev;
};

struct start {
	struct store *st;
	const struct start_conf *conf;
	start_done_fn *done;
	void *arg;
	bool running;
	struct prefix address;
	char *why;
	int64_t now_ns;
	unsigned attempts;

	VEC(struct object) objects; /* read one by one */
	VEC(struct object) nodes, pools;
	bool nodes_known, pools_known;
	/* The tunnel's address. */
	bool released, assigned;
	struct ip tunnel;

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
	json_decref(o->json);
	free(o->bad);
}

static struct object object_read(const char *key, const char *value, size_t len, int64_t rev)
{
	struct object o = {.key = mem_strdup(key), .rev = rev};
	auto_(ippool) struct ippool *pool = NULL;
	auto_(node) struct node *node = NULL;
	struct err err = ERR_INIT;
	json_error_t e;
	int r = 0;

	o.json = json_loadb(value, len, 0, &e);
	if (!o.json)
		r = err_set(&err, -EINVAL, "%s", e.text);
	else if (strncmp(key, kind_info(KIND_NODE)->root, strlen(kind_info(KIND_NODE)->root)) == 0)
		r = node_decode(key, value, len, &node, &err);
	else if (strncmp(key, kind_info(KIND_IPPOOL)->root, strlen(kind_info(KIND_IPPOOL)->root)) ==
		 0)
		r = ippool_decode(key, value, len, &pool, &err);
	if (r < 0) {
		json_decref(o.json);
		o.json = NULL;
		o.bad = mem_strdup(err_text(&err));
	}
	return o;
}

static void forget(struct start *s)
{
	struct object *o;

	vec_for_each (&s->objects, o)
		object_done(o);
	vec_for_each (&s->nodes, o)
		object_done(o);
	vec_for_each (&s->pools, o)
		object_done(o);
	vec_done(&s->objects);
	vec_done(&s->nodes);
	vec_done(&s->pools);
	s->nodes_known = s->pools_known = false;
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
	s->released = s->assigned = false;
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

/* value NULL: there is none. */
static void learn(struct start *s, const char *key, const char *value, size_t len, int64_t rev)
{
	struct object new =
		value ? object_read(key, value, len, rev) : (struct object){.key = mem_strdup(key)};
	struct object *o;

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
		learn(s, s->key, s->value, strlen(s->value), res->rev);
	else if (res->r == -ENOENT && s->verb == STORE_GET)
		learn(s, s->key, NULL, 0, 0);
	else if ((res->r == -ESTALE || res->r == -EEXIST || res->r == -ENOENT) &&
		 s->attempts++ < ATTEMPTS)
		unlearn(s, s->key);
	else if (res->r < 0) {
		e = *res->err;
		err_wrap(&e, res->r, "%s %s",
			s->verb == STORE_LIST || s->verb == STORE_GET ? "read" : "write", s->key);
		finish(s, res->r, &e);
		return;
	}
	step(s);
}

static void operate(
	struct start *s, enum store_verb verb, const char *key, const json_t *value, int64_t rev)
{
	struct store_req req = {.verb = verb, .rev = rev};

	free(s->key);
	free(s->value);
	s->verb = verb;
	s->key = mem_strdup(key);
	s->value = value ? json_dumps(value, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
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

static void random_uuid(char buf[static 37])
{
	uint8_t b[16];

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		abort();
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	for (size_t i = 0, n = 0; i < sizeof(b); i++)
		n += (size_t)snprintf(buf + n, 37 - n, "%s%02x",
			i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", b[i]);
}

/* spec_take is consumed. */
static json_t *new_object(
	const struct start *s, const char *kind, const char *name, json_t *spec_take)
{
	char created[CLOCK_RFC3339_SIZE], uid[37];

	clock_rfc3339(s->now_ns, created);
	random_uuid(uid);
	return json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:o}", "kind", kind, "apiVersion",
		"projectcalico.org/v3", "metadata", "name", name, "uid", uid, "creationTimestamp",
		created, "spec", spec_take);
}

/* Creates what is not there. True: it is there. */
static bool ensure(
	struct start *s, const char *kind, const char *key, const char *name, json_t *spec_take)
{
	struct object *o;
	json_t *j;

	if (!know(s, key, &o)) {
		json_decref(spec_take);
		return false;
	}
	if (o->json || o->bad) {
		json_decref(spec_take);
		return true;
	}
	log_info("creating %s %s", kind, name);
	j = new_object(s, kind, name, spec_take);
	operate(s, STORE_CREATE, key, j, 0);
	json_decref(j);
	return false;
}

static const char *bgp_text(const json_t *node, const char *name)
{
	const json_t *bgp = json_object_get(json_object_get(node, "spec"), "bgp");

	return json_string_value(json_object_get(bgp, name)) ?: "";
}

/* The object at o->name, made if there is none. */
static json_t *child(json_t *o, const char *name)
{
	if (!json_is_object(json_object_get(o, name)))
		json_object_set_new(o, name, json_object());
	return json_object_get(o, name);
}

/* 1 = done, 0 = an operation was started, negative = it cannot be. */
static int check_conflict(struct start *s, const struct prefix *mine, struct err *err)
{
	const struct object *o;
	struct prefix theirs;
	const char *name;

	if (s->conf->skip_ip_check)
		return 1;
	if (!s->nodes_known) {
		operate(s, STORE_LIST, kind_info(KIND_NODE)->root, NULL, 0);
		return 0;
	}
	vec_for_each (&s->nodes, o) {
		name = strrchr(o->key, '/') + 1;
		if (strcmp(name, s->conf->nodename) == 0 ||
			prefix_parse_host(bgp_text(o->json, "ipv4Address"), &theirs, NULL) < 0)
			continue;
		if (ip_equal(&theirs.addr, &mine->addr))
			return err_set(err, -EADDRINUSE,
				"node %s: its address %s is node %s's already; give one of them "
				"another (IP, IP_AUTODETECTION_METHOD), or delete the Node object of a "
				"host that is no more",
				s->conf->nodename, ip_str(&mine->addr), name);
	}
	return 1;
}

/* asNumber as Calico takes it: a number or "1.10". -1: neither. */
static json_int_t as_number(const char *text)
{
	unsigned long high, low;
	char *end;

	high = strtoul(text, &end, 10);
	if (end == text || high > UINT32_MAX)
		return -1;
	if (*end == '\0')
		return (json_int_t)high;
	if (*end != '.' || high > UINT16_MAX)
		return -1;
	low = strtoul(end + 1, &end, 10);
	return *end == '\0' && low <= UINT16_MAX ? (json_int_t)(high << 16 | low) : -1;
}

static int ensure_node(struct start *s, const char *key, struct err *err)
{
	const char *stored;
	char text[PREFIX_TEXT_SIZE];
	struct object *o;
	json_t *j, *bgp;
	json_int_t as = s->conf->as_number[0] ? as_number(s->conf->as_number) : 0;
	bool new, differs = false;
	int r;

	if (as < 0)
		return err_set(err, -EINVAL, "AS: \"%s\" is no AS number", s->conf->as_number);
	if (!know(s, key, &o))
		return 0;
	if (o->bad)
		return err_set(err, -EINVAL,
			"%s cannot be decoded, %s; mend it, or delete it and it is made anew", key,
			o->bad);
	new = !o->json;
	stored = bgp_text(o->json, "ipv4Address");
	if (s->address.addr.family == IP_NONE && stored[0] == '\0' && s->why)
		return err_set(
			err, -ENOENT, "node %s has no address: %s", s->conf->nodename, s->why);
	if (s->address.addr.family != IP_NONE) {
		prefix_format(&s->address, text);
		differs = strcmp(text, stored) != 0;
		r = check_conflict(s, &s->address, err);
		if (r <= 0)
			return r;
	}
	differs |= as && json_integer_value(json_object_get(
				 json_object_get(json_object_get(o->json, "spec"), "bgp"),
				 "asNumber")) != as;
	if (!new && !differs)
		return 1;
	j = new ? new_object(s, "Node", s->conf->nodename, json_object()) : json_incref(o->json);
	if (differs) {
		bgp = child(child(j, "spec"), "bgp");
		if (as)
			json_object_set_new(bgp, "asNumber", json_integer(as));
		if (s->address.addr.family != IP_NONE) {
			json_object_set_new(bgp, "ipv4Address", json_string(text));
			log_info("node %s: address %s", s->conf->nodename, text);
		}
	}
	if (new)
		json_object_set_new(j, "status", json_object());
	operate(s, new ? STORE_CREATE : STORE_UPDATE, key, j, new ? 0 : o->rev);
	json_decref(j);
	return 0;
}

/* ---- pools ---- */

static bool pool_exists(const struct start *s, enum ip_family family)
{
	const struct object *o;
	struct prefix p;

	vec_for_each (&s->pools, o) {
		const json_t *spec = json_object_get(o->json, "spec");

		if (prefix_parse(json_string_value(json_object_get(spec, "cidr")) ?: "", &p,
			    NULL) == 0 &&
			p.addr.family == family)
			return true;
	}
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

/* Whether a pool of this name may be made, since none of its family was found. */
static int may_create(
	const struct start *s, const char *name, enum ip_family family, struct err *err)
{
	const struct object *o = bad_pool(s);

	if (o)
		return err_set(err, -EINVAL,
			"no IPv%u pool is made, as %s may be one: it cannot be decoded, %s; mend it or "
			"delete it",
			family, o->key, o->bad);
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
static void choose_cidr(const struct start *s, char buf[static PREFIX_TEXT_SIZE])
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
	prefix_format(&p, buf);
}

static const char *mode_text(const char *s)
{
	return strcasecmp(s, "Always") == 0	   ? "Always"
	       : strcasecmp(s, "CrossSubnet") == 0 ? "CrossSubnet"
						   : "Never";
}

/* The pool that was made is in the list of the next run of the plan. */
static int create_pool(struct start *s, const char *name, json_t *spec_take)
{
	auto_free char *key = mem_strdup(key_str(KIND_IPPOOL, NULL, name));

	if (!ensure(s, "IPPool", key, name, spec_take))
		return 0;
	s->pools_known = false;
	for (size_t i = 0; i < s->pools.n; i++)
		object_done(&s->pools.v[i]);
	s->pools.n = 0;
	unlearn(s, key);
	operate(s, STORE_LIST, kind_info(KIND_IPPOOL)->root, NULL, 0);
	return 0;
}

static int ensure_pools(struct start *s, struct err *err)
{
	const struct start_conf *c = s->conf;
	char chosen[PREFIX_TEXT_SIZE];
	const char *cidr = c->pool4_cidr;
	struct prefix p;
	json_t *spec;
	int r;

	if (!s->pools_known) {
		operate(s, STORE_LIST, kind_info(KIND_IPPOOL)->root, NULL, 0);
		return 0;
	}
	if (c->no_default_pools)
		return 1;
	if (strcmp(cidr, "none") != 0 && !pool_exists(s, IP_V4)) {
		if (cidr[0] == '\0') {
			choose_cidr(s, chosen);
			cidr = chosen;
		}
		r = may_create(s, POOL4, IP_V4, err);
		if (r < 0)
			return r;
		r = prefix_parse_masked(cidr, &p, err);
		if (r < 0)
			return err_wrap(err, r, "CALICO_IPV4POOL_CIDR");
		spec = json_pack("{s:s, s:s, s:s, s:b, s:i, s:s, s:[s, s], s:s}", "cidr", cidr,
			"vxlanMode", mode_text(c->pool4_vxlan), "ipipMode",
			mode_text(c->pool4_ipip), "natOutgoing", c->pool4_nat_outgoing, "blockSize",
			(int)c->pool4_block_size, "nodeSelector", c->pool4_node_selector,
			"allowedUses", "Workload", "Tunnel", "assignmentMode", "Automatic");
		if (c->pool4_disable_bgp_export)
			json_object_set_new(spec, "disableBGPExport", json_true());
		return create_pool(s, POOL4, spec);
	}
	cidr = c->pool6_cidr;
	if (cidr[0] && strcmp(cidr, "none") != 0 && !pool_exists(s, IP_V6)) {
		r = may_create(s, POOL6, IP_V6, err);
		if (r < 0)
			return r;
		r = prefix_parse_masked(cidr, &p, err);
		if (r < 0)
			return err_wrap(err, r, "CALICO_IPV6POOL_CIDR");
		return create_pool(s, POOL6,
			json_pack("{s:s, s:s, s:s, s:b, s:i, s:s, s:[s, s], s:s}", "cidr", cidr,
				"vxlanMode", "Never", "ipipMode", "Never", "natOutgoing",
				c->pool6_nat_outgoing, "blockSize", (int)c->pool6_block_size,
				"nodeSelector", "all()", "allowedUses", "Workload", "Tunnel",
				"assignmentMode", "Automatic"));
	}
	return 1;
}

static bool ensure_defaults(struct start *s)
{
	char guid[37];

	random_uuid(guid);
	return ensure(s, "ClusterInformation", key_str(KIND_CLUSTERINFORMATION, NULL, "default"),
		       "default",
		       json_pack("{s:s, s:s, s:s, s:b}", "clusterGUID", guid, "clusterType",
			       s->conf->cluster_type, "calicoVersion", "margay-" MARGAY_VERSION,
			       "datastoreReady", 1)) &&
	       ensure(s, "FelixConfiguration", key_str(KIND_FELIXCONFIGURATION, NULL, "default"),
		       "default",
		       json_pack("{s:s, s:s, s:s, s:s}", "bpfLogLevel", "", "floatingIPs",
			       "Disabled", "logSeverityScreen", "Info", "reportingInterval",
			       "0s")) &&
	       ensure(s, "BGPConfiguration", key_str(KIND_BGPCONFIGURATION, NULL, "default"),
		       "default", json_object()) &&
	       ensure(s, "IPAMConfiguration", key_str(KIND_IPAMCONFIGURATION, NULL, "default"),
		       "default",
		       json_pack("{s:b, s:b}", "strictAffinity", 0, "autoAllocateBlocks", 1));
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

	if (getrandom(&a.random, sizeof(a.random), 0) != sizeof(a.random))
		abort();
	s->rq = ipam_assign_new(&a);
	ipam_start(s->st, s->rq, on_ipam, s);
}

/* Writes the address (IP_NONE: clears it). */
static void write_tunnel(struct start *s, const struct object *node, const struct ip *ip)
{
	json_t *bgp = child(child(node->json, "spec"), "bgp");

	if (ip->family == IP_NONE)
		json_object_del(bgp, "ipv4IPIPTunnelAddr");
	else
		json_object_set_new(bgp, "ipv4IPIPTunnelAddr", json_string(ip_str(ip)));
	log_info("node %s: tunnel address %s", s->conf->nodename,
		ip->family == IP_NONE ? "given back" : ip_str(ip));
	operate(s, STORE_UPDATE, node->key, node->json, node->rev);
}

/* The names of the IPIP pools that serve this node's tunnel, and whether ip is in one of them. */
static size_t tunnel_pools(const struct start *s, const struct object *node, const struct ip *ip,
	const char **ret, size_t max, bool *ret_fits)
{
	auto_free char *text = json_dumps(node->json, JSON_COMPACT);
	auto_(node) struct node *decoded = NULL;
	const struct object *o;
	struct ippool *p;
	size_t n = 0;

	*ret_fits = false;
	if (text)
		(void)node_decode(node->key, text, strlen(text), &decoded, NULL);
	vec_for_each (&s->pools, o) {
		auto_free char *json = json_dumps(o->json, JSON_COMPACT);

		if (!json || ippool_decode(o->key, json, strlen(json), &p, NULL) < 0)
			continue; /* felix's cache has named it */
		if (p->ipip != ENCAP_NEVER && ippool_enabled(p) &&
			(p->allowed_uses & POOL_TUNNEL) && p->cidr.addr.family == IP_V4 &&
			pool_selects(p->node_selector, decoded ? &decoded->meta.labels : NULL) &&
			n < max) {
			ret[n++] = strrchr(o->key, '/') + 1;
			*ret_fits |= prefix_contains(&p->cidr, ip);
		}
		ippool_free(p);
	}
	return n;
}

static int ensure_tunnel(struct start *s, const char *node_key)
{
	auto_free char *handle = mem_printf("ipip-tunnel-addr-%s", s->conf->nodename);
	const char *pools[64];
	struct object *node;
	struct ip stored = {0};
	const char *text;
	bool fits;
	size_t n;

	if (!know(s, node_key, &node))
		return 0;
	text = bgp_text(node->json, "ipv4IPIPTunnelAddr");
	(void)ip_parse(text, &stored, NULL);
	n = tunnel_pools(s, node, &stored, pools, array_size(pools), &fits);
	if (n == 0 && text[0] == '\0')
		return 1;
	if (!fits && text[0] && bad_pool(s)) /* it may be of that one */
		return 1;
	if (!fits && !s->released) {
		release(s, handle);
		return 0;
	}
	s->released = true;
	if (n == 0) {
		write_tunnel(s, node, &(struct ip){0});
		return 0;
	}
	if (!s->assigned) {
		assign(s, handle, pools, n);
		return 0;
	}
	if (ip_equal(&s->tunnel, &stored))
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
