/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 *	struct entry	a Service, with the claims that it has made
 *	struct plan	what one of its ports balances to, in one family; shared by its addresses
 *	struct front	an address and port: the claims to it, and the plan that was told
 *	struct counted	a local endpoint or a node port, and how many ports of Services have it
 */
#include "proxy/calc.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hmap.h"
#include "base/list.h"
#include "base/vec.h"
#include "model/endpoints.h"
#include "model/service.h"

#define LABEL_PROXY_NAME "service.kubernetes.io/service-proxy-name"
#define LABEL_HEADLESS "service.kubernetes.io/headless"

struct plan {
	unsigned refs;
	uint32_t affinity_s;
	size_t n;
	struct calc_dest dests[];
};

struct claim {
	struct entry *entry;
	struct plan *plan;
};

struct front {
	struct hmap_node node;
	struct vserver_key key;
	VEC(struct claim) claims;
	struct plan *told; /* NULL: nothing */
	/* As they were told. Pointers to compare: after settle_front() all of them have claims. */
	const struct entry *has_it;
	VEC(const struct entry *) losers;
	struct list touched; /* since the last settle() */
};

/* No padding: comparable as a whole. */
struct fact {
	uint8_t protocol; /* 0: ip is a local endpoint */
	struct ip ip;
	uint16_t port;
};
_Static_assert(sizeof(struct fact) == 20, "no padding");

struct counted {
	struct hmap_node node;
	struct fact fact;
	size_t n;
	bool told;
	struct list touched; /* since the last settle */
};

struct entry {
	struct hmap_node node;
	char *name; /* "ns/name" */
	char *created;
	struct list dirty;
	bool node_ports;
	VEC(struct front *) fronts;
	VEC(struct fact) facts; /* once for each port that has it */
	VEC(struct ip) outside; /* of all ranges, as told */
	unsigned lacks;		/* bits of lacks[], as told */
};

struct calc {
	struct calc_conf conf;
	const struct calc_ops *ops;
	void *arg;
	struct endpoints *endpoints;
	struct hmap entries, fronts, facts;
	struct list dirty, touched, touched_facts;
	VEC(struct ip) node_ips;
	struct service_endpoints scratch;
};

/* ---- plans ---- */

static struct plan *plan_ref(struct plan *p)
{
	p->refs++;
	return p;
}

static void plan_unref(struct plan *p)
{
	if (p && --p->refs == 0)
		free(p);
}

static bool plan_equal(const struct plan *a, const struct plan *b)
{
	if (a->affinity_s != b->affinity_s || a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (a->dests[i].port != b->dests[i].port ||
			!ip_equal(&a->dests[i].ip, &b->dests[i].ip))
			return false;
	return true;
}

/* Ready ones; where there is none, those that still serve while they end. */
static bool is_chosen(const struct service_endpoint *se, bool ending)
{
	return ending ? se->serving && se->terminating && !se->ready : se->ready;
}

static struct plan *make_plan(
	const struct service_endpoints *eps, const struct service *s, enum ip_family family)
{
	struct plan *p = mem_zalloc(sizeof(*p) + eps->v.n * sizeof(p->dests[0]));

	p->refs = 1;
	p->affinity_s = s->affinity_s;
	for (int ending = 0; ending < 2 && p->n == 0; ending++)
		for (size_t i = 0; i < eps->v.n; i++) {
			const struct service_endpoint *se = &eps->v.v[i];

			if (se->ip.family != family || !is_chosen(se, ending))
				continue;
			p->dests[p->n].ip = se->ip;
			p->dests[p->n++].port = se->port;
		}
	return p;
}

/* ---- addresses and ports ---- */

static struct front *get_front(struct calc *c, const struct vserver_key *key)
{
	uint64_t hash = hash_bytes(key, sizeof(*key));
	struct front *f;

	hmap_for_each_hash (f, &c->fronts, hash, node)
		if (memcmp(&f->key, key, sizeof(*key)) == 0)
			return f;
	f = mem_new(struct front);
	f->key = *key;
	list_init(&f->touched);
	hmap_insert(&c->fronts, &f->node, hash);
	return f;
}

static void free_front(struct calc *c, struct front *f)
{
	hmap_remove(&c->fronts, &f->node);
	list_del(&f->touched);
	vec_done(&f->claims);
	vec_done(&f->losers);
	plan_unref(f->told);
	free(f);
}

static void touch(struct calc *c, struct front *f)
{
	list_del(&f->touched);
	list_add_tail(&c->touched, &f->touched);
}

/* A Service claims an address and port once: a second of its ports with the same is a mistake. */
static void claim(struct calc *c, struct entry *e, const struct vserver_key *key, struct plan *plan)
{
	struct front *f = get_front(c, key);

	for (size_t i = 0; i < f->claims.n; i++)
		if (f->claims.v[i].entry == e)
			return;
	vec_push(&f->claims, (struct claim){.entry = e, .plan = plan_ref(plan)});
	vec_push(&e->fronts, f);
	touch(c, f);
}

static void release_claims(struct calc *c, struct entry *e)
{
	for (size_t i = 0; i < e->fronts.n; i++) {
		struct front *f = e->fronts.v[i];

		for (size_t k = 0; k < f->claims.n; k++)
			if (f->claims.v[k].entry == e) {
				plan_unref(f->claims.v[k].plan);
				vec_swap_remove(&f->claims, k);
				break;
			}
		touch(c, f);
	}
	e->fronts.n = 0;
}

static bool is_older(const struct entry *a, const struct entry *b)
{
	int r = strcmp(a->created ?: "~", b->created ?: "~"); /* unknown is young */

	return r ? r < 0 : strcmp(a->name, b->name) < 0;
}

static const struct claim *winner(const struct front *f)
{
	const struct claim *w = NULL, *cl;

	vec_for_each (&f->claims, cl)
		if (!w || is_older(cl->entry, w->entry))
			w = cl;
	return w;
}

static bool is_loser(const struct front *f, const struct entry *e)
{
	for (size_t i = 0; i < f->losers.n; i++)
		if (f->losers.v[i] == e)
			return true;
	return false;
}

static void tell_losers(struct calc *c, struct front *f, const struct claim *w)
{
	bool same = f->has_it == w->entry;
	const struct claim *cl;
	char why[512];

	vec_for_each (&f->claims, cl) {
		if (cl == w || (same && is_loser(f, cl->entry)))
			continue;
		snprintf(why, sizeof(why), "%s is served for the older Service %s: give it another",
			vserver_key_str(&f->key), w->entry->name);
		c->ops->refused(c->arg, cl->entry->name, why);
	}
	f->has_it = w->entry;
	f->losers.n = 0;
	vec_for_each (&f->claims, cl)
		if (cl != w)
			vec_push(&f->losers, cl->entry);
}

static void settle_front(struct calc *c, struct front *f)
{
	const struct claim *w = winner(f);
	struct calc_server server;

	list_del(&f->touched);
	if (!w) {
		if (f->told)
			c->ops->server_unset(c->arg, &f->key);
		free_front(c, f);
		return;
	}
	tell_losers(c, f, w);
	if (f->told && plan_equal(f->told, w->plan))
		return;
	plan_unref(f->told);
	f->told = plan_ref(w->plan);
	server = (struct calc_server){
		.affinity_s = w->plan->affinity_s, .dests = w->plan->dests, .n_dests = w->plan->n};
	c->ops->server_set(c->arg, &f->key, &server);
}

/* ---- facts for NAT ---- */

static struct counted *find_counted(const struct calc *c, const struct fact *fact)
{
	struct counted *k;

	hmap_for_each_hash (k, &c->facts, hash_bytes(fact, sizeof(*fact)), node)
		if (memcmp(&k->fact, fact, sizeof(*fact)) == 0)
			return k;
	return NULL;
}

static void touch_fact(struct calc *c, struct counted *k)
{
	list_del(&k->touched);
	list_add_tail(&c->touched_facts, &k->touched);
}

static void count(struct calc *c, const struct fact *fact)
{
	struct counted *k = find_counted(c, fact);

	if (!k) {
		k = mem_new(struct counted);
		k->fact = *fact;
		list_init(&k->touched);
		hmap_insert(&c->facts, &k->node, hash_bytes(fact, sizeof(*fact)));
	}
	if (k->n++ == 0)
		touch_fact(c, k);
}

static void uncount(struct calc *c, const struct fact *fact)
{
	struct counted *k = find_counted(c, fact);

	if (--k->n == 0)
		touch_fact(c, k);
}

static void settle_fact(struct calc *c, struct counted *k)
{
	bool there = k->n > 0;

	list_del(&k->touched);
	if (k->told != there && k->fact.protocol == 0)
		c->ops->local(c->arg, &k->fact.ip, there);
	else if (k->told != there)
		c->ops->node_port(c->arg, k->fact.protocol, k->fact.port, there);
	k->told = there;
	if (there)
		return;
	hmap_remove(&c->facts, &k->node);
	free(k);
}

static bool is_node_ip(const struct calc *c, const struct ip *ip)
{
	for (size_t i = 0; i < c->node_ips.n; i++)
		if (ip_equal(&c->node_ips.v[i], ip))
			return true;
	return false;
}

/* ---- Services ---- */

static struct entry *find_entry(const struct calc *c, const char *ns, const char *name)
{
	auto_free char *full = mem_printf("%s/%s", ns, name);
	struct entry *e;

	hmap_for_each_hash (e, &c->entries, hash_str(full), node)
		if (strcmp(e->name, full) == 0)
			return e;
	return NULL;
}

static void mark_dirty(struct calc *c, struct entry *e)
{
	list_del(&e->dirty);
	list_add_tail(&c->dirty, &e->dirty);
}

static void on_changed(void *arg, const char *ns, const char *name)
{
	struct calc *c = arg;
	struct entry *e = find_entry(c, ns, name);

	if (!e) {
		e = mem_new(struct entry);
		e->name = mem_printf("%s/%s", ns, name);
		list_init(&e->dirty);
		hmap_insert(&c->entries, &e->node, hash_str(e->name));
	}
	mark_dirty(c, e);
}

static void free_entry(struct calc *c, struct entry *e)
{
	hmap_remove(&c->entries, &e->node);
	list_del(&e->dirty);
	vec_done(&e->fronts);
	vec_done(&e->facts);
	vec_done(&e->outside);
	free(e->name);
	free(e->created);
	free(e);
}

static bool is_served(const struct service *s)
{
	return !s->headless && s->type != SERVICE_EXTERNAL_NAME && s->cluster_ips.n > 0 &&
	       !labels_get(&s->meta.labels, LABEL_PROXY_NAME) &&
	       !labels_get(&s->meta.labels, LABEL_HEADLESS);
}

static bool in_ranges(const struct calc *c, const struct ip *ip)
{
	for (size_t i = 0; i < c->conf.n_ranges; i++)
		if (prefix_contains(&c->conf.ranges[i], ip))
			return true;
	return false;
}

static void add_local(struct calc *c, struct entry *e)
{
	const struct service_endpoint *se;

	vec_for_each (&c->scratch.v, se) {
		struct fact fact = {.ip = se->ip};

		if ((!se->node || strcmp(se->node, c->conf.nodename) == 0) &&
			!is_node_ip(c, &se->ip))
			vec_push(&e->facts, fact);
	}
}

static void plan_port(struct calc *c, struct entry *e, const struct service *s,
	const struct service_port *port, enum ip_family family)
{
	struct plan *plan = make_plan(&c->scratch, s, family);
	struct vserver_key key = {.protocol = port->protocol};
	struct fact fact = {.protocol = port->protocol, .port = port->node_port};

	key.port = port->port;
	for (size_t i = 0; i < s->cluster_ips.n; i++) {
		key.ip = s->cluster_ips.v[i];
		if (key.ip.family == family && in_ranges(c, &key.ip))
			claim(c, e, &key, plan);
	}
	if (port->node_port && s->type != SERVICE_CLUSTER_IP) {
		e->node_ports = true;
		vec_push(&e->facts, fact);
		key.port = port->node_port;
		for (size_t i = 0; i < c->node_ips.n; i++) {
			key.ip = c->node_ips.v[i];
			if (key.ip.family == family)
				claim(c, e, &key, plan);
		}
	}
	plan_unref(plan);
}

static bool is_outside(const struct entry *e, const struct ip *ip)
{
	for (size_t i = 0; i < e->outside.n; i++)
		if (ip_equal(&e->outside.v[i], ip))
			return true;
	return false;
}

static void tell_outside(struct calc *c, struct entry *e, const struct service *s)
{
	char why[256];

	for (size_t i = 0; i < s->cluster_ips.n; i++) {
		if (in_ranges(c, &s->cluster_ips.v[i]) || is_outside(e, &s->cluster_ips.v[i]))
			continue;
		snprintf(why, sizeof(why),
			"clusterIP %s is in no service range: add its range, or give it another",
			ip_str(&s->cluster_ips.v[i]));
		c->ops->refused(c->arg, e->name, why);
	}
	e->outside.n = 0;
	for (size_t i = 0; i < s->cluster_ips.n; i++)
		if (!in_ranges(c, &s->cluster_ips.v[i]))
			vec_push(&e->outside, s->cluster_ips.v[i]);
}

static bool has_external_ips(const struct service *s)
{
	return s->external_ips.n > 0;
}

static bool has_lb_ips(const struct service *s)
{
	return s->lb_ips.n > 0;
}

static bool is_internal_local(const struct service *s)
{
	return s->internal_local;
}

static bool is_external_local(const struct service *s)
{
	return s->external_local && s->type != SERVICE_CLUSTER_IP;
}

/* What a Service may ask for and does not get. */
static const struct {
	bool (*asks)(const struct service *s);
	const char *why;
} lacks[] = {
	{has_external_ips, "externalIPs are not served: use its clusterIP or node ports"},
	{has_lb_ips, "status.loadBalancer is not served: use its clusterIP or node ports"},
	{is_internal_local, "internalTrafficPolicy Local is taken for Cluster"},
	{is_external_local,
		"externalTrafficPolicy Local is taken for Cluster: its endpoints do not see their "
		"clients' addresses"},
};

static void tell_lacks(struct calc *c, struct entry *e, const struct service *s)
{
	unsigned now = 0;

	for (size_t i = 0; i < array_size(lacks); i++)
		now |= lacks[i].asks(s) ? 1U << i : 0;
	for (size_t i = 0; i < array_size(lacks); i++)
		if (now & ~e->lacks & 1U << i)
			c->ops->refused(c->arg, e->name, lacks[i].why);
	e->lacks = now;
}

static void plan_service(struct calc *c, struct entry *e, const struct service *s)
{
	const struct service_port *port;
	bool has[2] = {false, false};

	for (size_t i = 0; i < s->cluster_ips.n; i++)
		has[s->cluster_ips.v[i].family == IP_V6] = true;
	tell_outside(c, e, s);
	tell_lacks(c, e, s);
	vec_for_each (&s->ports, port) {
		endpoints_of_port(c->endpoints, s, port, &c->scratch);
		add_local(c, e);
		if (has[0])
			plan_port(c, e, s, port, IP_V4);
		if (has[1])
			plan_port(c, e, s, port, IP_V6);
	}
}

static void run_entry(struct calc *c, struct entry *e)
{
	const char *slash = strchr(e->name, '/');
	auto_free char *ns = mem_strndup(e->name, (size_t)(slash - e->name));
	const struct service *s = endpoints_service(c->endpoints, ns, slash + 1);
	VEC(struct fact) old = {0};

	list_del(&e->dirty);
	release_claims(c, e);
	old.v = e->facts.v;
	old.n = e->facts.n;
	e->facts.v = NULL;
	e->facts.n = e->facts.cap = 0;
	e->node_ports = false;
	if (s && is_served(s)) {
		free(e->created);
		e->created = s->meta.created ? mem_strdup(s->meta.created) : NULL;
		plan_service(c, e, s);
	} else {
		e->outside.n = 0;
		e->lacks = 0;
	}
	for (size_t i = 0; i < e->facts.n; i++)
		count(c, &e->facts.v[i]);
	for (size_t i = 0; i < old.n; i++)
		uncount(c, &old.v[i]);
	vec_done(&old);
	if (!s)
		free_entry(c, e);
}

void calc_run(struct calc *c)
{
	struct entry *e, *tmp;
	struct front *f, *ftmp;
	struct counted *k, *ktmp;

	list_for_each_safe (e, tmp, &c->dirty, dirty)
		run_entry(c, e);
	list_for_each_safe (f, ftmp, &c->touched, touched)
		settle_front(c, f);
	list_for_each_safe (k, ktmp, &c->touched_facts, touched)
		settle_fact(c, k);
}

/* ---- input ---- */

void calc_on_service(struct calc *c, const struct service *old, const struct service *new)
{
	endpoints_on_service(c->endpoints, old, new);
}

void calc_on_slice(struct calc *c, const struct endpointslice *old, const struct endpointslice *new)
{
	endpoints_on_slice(c->endpoints, old, new);
}

void calc_on_wep(struct calc *c, const struct wep *old, const struct wep *new)
{
	endpoints_on_wep(c->endpoints, old, new);
}

void calc_on_node_ips(struct calc *c, const struct ip *ips, size_t n)
{
	struct entry *e;

	if (n == c->node_ips.n && (n == 0 || memcmp(ips, c->node_ips.v, n * sizeof(*ips)) == 0))
		return;
	c->node_ips.n = 0;
	for (size_t i = 0; i < n; i++)
		vec_push(&c->node_ips, ips[i]);
	/* Whether an endpoint is the node itself may have changed for any of them. */
	hmap_for_each (e, &c->entries, node)
		mark_dirty(c, e);
}

struct calc *calc_new(const struct calc_conf *conf, const struct calc_ops *ops, void *arg)
{
	struct calc *c = mem_new(struct calc);

	c->conf = *conf;
	c->ops = ops;
	c->arg = arg;
	list_init(&c->dirty);
	list_init(&c->touched);
	list_init(&c->touched_facts);
	c->endpoints = endpoints_new(conf->use_weps, on_changed, c);
	return c;
}

void calc_free(struct calc *c)
{
	struct counted *k;
	struct entry *e;
	struct front *f;

	if (!c)
		return;
	hmap_for_each (f, &c->fronts, node) {
		for (size_t i = 0; i < f->claims.n; i++)
			plan_unref(f->claims.v[i].plan);
		free_front(c, f);
	}
	hmap_for_each (e, &c->entries, node)
		free_entry(c, e);
	hmap_for_each (k, &c->facts, node) {
		hmap_remove(&c->facts, &k->node);
		free(k);
	}
	hmap_done(&c->fronts);
	hmap_done(&c->entries);
	hmap_done(&c->facts);
	endpoints_free(c->endpoints);
	service_endpoints_done(&c->scratch);
	vec_done(&c->node_ips);
	free(c);
}
