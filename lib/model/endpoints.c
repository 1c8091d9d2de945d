/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 *	struct named	a Service's name: the Service, if it is there, and the slices that carry it
 *	struct group	a label of a namespace: the endpoints that have it, and those Services whose
 *			selector has it first
 *
 * An endpoint meets a Service in a group: with its labels it walks few of them, and the Service takes
 * the smallest of its own.
 */
#include "model/endpoints.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hmap.h"
#include "base/list.h"
#include "base/strbuf.h"
#include "model/endpointslice.h"
#include "model/service.h"
#include "model/wep.h"

struct named {
	struct hmap_node node;
	char *key; /* "ns/name" */
	const struct service *service;
	struct list slices; /* struct slice_entry */
	struct list in_group;
	struct group *group; /* of the first label of its selector, or NULL */
};

struct slice_entry {
	struct hmap_node node; /* by the object's address */
	const struct endpointslice *slice;
	struct list in_named;
	struct named *named;
};

struct group {
	struct hmap_node node;
	char *key; /* ns, label's name, label's value, parted by NULs */
	size_t len;
	size_t n_members;
	struct list members;  /* struct member */
	struct list services; /* struct named */
};

struct member {
	struct list in_group;
	struct group *group;
	struct wep_entry *entry;
};

struct wep_entry {
	struct hmap_node node; /* by the object's address */
	const struct wep *wep;
	size_t n;
	struct member labels[];
};

struct endpoints {
	bool use_weps;
	endpoints_changed_fn *changed;
	void *arg;
	struct hmap named, slices, groups, weps;
};

struct endpoints *endpoints_new(bool use_weps, endpoints_changed_fn *changed, void *arg)
{
	struct endpoints *e = mem_new(struct endpoints);

	e->use_weps = use_weps;
	e->changed = changed;
	e->arg = arg;
	return e;
}

/* ---- names ---- */

static struct named *find_named(const struct endpoints *e, const char *ns, const char *name)
{
	auto_free char *key = mem_printf("%s/%s", ns, name);
	struct named *n;

	hmap_for_each_hash (n, &e->named, hash_str(key), node)
		if (strcmp(n->key, key) == 0)
			return n;
	return NULL;
}

static struct named *get_named(struct endpoints *e, const char *ns, const char *name)
{
	struct named *n = find_named(e, ns, name);

	if (n)
		return n;
	n = mem_new(struct named);
	n->key = mem_printf("%s/%s", ns, name);
	list_init(&n->slices);
	list_init(&n->in_group);
	hmap_insert(&e->named, &n->node, hash_str(n->key));
	return n;
}

static void free_named(struct endpoints *e, struct named *n)
{
	hmap_remove(&e->named, &n->node);
	free(n->key);
	free(n);
}

static void put_named(struct endpoints *e, struct named *n)
{
	if (!n->service && list_empty(&n->slices))
		free_named(e, n);
}

/* ---- groups ---- */

static char *group_key(const char *ns, const struct label *l, size_t *ret_len)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_addn(&sb, ns, strlen(ns) + 1);
	strbuf_addn(&sb, l->name, strlen(l->name) + 1);
	strbuf_add(&sb, l->value);
	*ret_len = sb.len;
	return strbuf_take(&sb);
}

static struct group *find_group(const struct endpoints *e, const char *ns, const struct label *l)
{
	size_t len;
	auto_free char *key = group_key(ns, l, &len);
	struct group *g;

	hmap_for_each_hash (g, &e->groups, hash_bytes(key, len), node)
		if (g->len == len && memcmp(g->key, key, len) == 0)
			return g;
	return NULL;
}

static struct group *get_group(struct endpoints *e, const char *ns, const struct label *l)
{
	struct group *g = find_group(e, ns, l);

	if (g)
		return g;
	g = mem_new(struct group);
	g->key = group_key(ns, l, &g->len);
	list_init(&g->members);
	list_init(&g->services);
	hmap_insert(&e->groups, &g->node, hash_bytes(g->key, g->len));
	return g;
}

static void free_group(struct endpoints *e, struct group *g)
{
	hmap_remove(&e->groups, &g->node);
	free(g->key);
	free(g);
}

static void put_group(struct endpoints *e, struct group *g)
{
	if (list_empty(&g->members) && list_empty(&g->services))
		free_group(e, g);
}

/* ---- Services ---- */

static void leave_group(struct endpoints *e, struct named *n)
{
	if (!n->group)
		return;
	list_del(&n->in_group);
	put_group(e, take_ptr(n->group));
}

void endpoints_on_service(struct endpoints *e, const struct service *old, const struct service *new)
{
	const struct service *s = new ?: old;
	struct named *n = get_named(e, s->meta.ns, s->meta.name);

	leave_group(e, n);
	n->service = new;
	if (new && e->use_weps &&new->selector.v.n > 0) {
		n->group = get_group(e, new->meta.ns, &new->selector.v.v[0]);
		list_add_tail(&n->group->services, &n->in_group);
	}
	e->changed(e->arg, s->meta.ns, s->meta.name);
	put_named(e, n);
}

const struct service *endpoints_service(const struct endpoints *e, const char *ns, const char *name)
{
	const struct named *n = find_named(e, ns, name);

	return n ? n->service : NULL;
}

void endpoints_for_each_service(
	const struct endpoints *e, void (*fn)(void *arg, const struct service *s), void *arg)
{
	struct named *n;

	hmap_for_each (n, &e->named, node)
		if (n->service)
			fn(arg, n->service);
}

/* ---- slices ---- */

static void remove_slice(struct endpoints *e, const struct endpointslice *s)
{
	struct slice_entry *se, *found = NULL;
	struct named *n;

	hmap_for_each_hash (se, &e->slices, hash_bytes(&s, sizeof(s)), node)
		if (se->slice == s)
			found = se;
	if (!found)
		return;
	n = found->named;
	hmap_remove(&e->slices, &found->node);
	list_del(&found->in_named);
	free(found);
	if (n->service)
		e->changed(e->arg, s->meta.ns, s->service);
	put_named(e, n);
}

void endpoints_on_slice(
	struct endpoints *e, const struct endpointslice *old, const struct endpointslice *new)
{
	struct slice_entry *se;

	if (old)
		remove_slice(e, old);
	if (!new || !new->service || new->family == IP_NONE)
		return;
	se = mem_new(struct slice_entry);
	se->slice = new;
	se->named = get_named(e, new->meta.ns, new->service);
	list_add_tail(&se->named->slices, &se->in_named);
	hmap_insert(&e->slices, &se->node, hash_bytes(&new, sizeof(new)));
	if (se->named->service)
		e->changed(e->arg, new->meta.ns, new->service);
}

/* ---- workload endpoints ---- */

static bool selects(const struct service *s, const struct wep *w)
{
	return labels_cover(&w->meta.labels, &s->selector);
}

static void tell_services_of(struct endpoints *e, const struct wep_entry *we)
{
	const struct named *n;

	for (size_t i = 0; i < we->n; i++)
		list_for_each (n, &we->labels[i].group->services, in_group)
			if (selects(n->service, we->wep))
				e->changed(e->arg, n->service->meta.ns, n->service->meta.name);
}

static void free_wep(struct endpoints *e, struct wep_entry *we)
{
	hmap_remove(&e->weps, &we->node);
	for (size_t i = 0; i < we->n; i++) {
		list_del(&we->labels[i].in_group);
		we->labels[i].group->n_members--;
		put_group(e, we->labels[i].group);
	}
	free(we);
}

static void remove_wep(struct endpoints *e, const struct wep *w)
{
	struct wep_entry *we, *found = NULL;

	hmap_for_each_hash (we, &e->weps, hash_bytes(&w, sizeof(w)), node)
		if (we->wep == w)
			found = we;
	if (!found)
		return;
	tell_services_of(e, found);
	free_wep(e, found);
}

void endpoints_on_wep(struct endpoints *e, const struct wep *old, const struct wep *new)
{
	struct wep_entry *we;
	size_t n;

	if (!e->use_weps)
		return;
	if (old)
		remove_wep(e, old);
	if (!new)
		return;
	n = new->meta.labels.v.n;
	we = mem_zalloc(sizeof(*we) + n * sizeof(we->labels[0]));
	we->wep = new;
	we->n = n;
	for (size_t i = 0; i < n; i++) {
		struct member *m = &we->labels[i];

		m->entry = we;
		m->group = get_group(e, new->meta.ns, &new->meta.labels.v.v[i]);
		m->group->n_members++;
		list_add_tail(&m->group->members, &m->in_group);
	}
	hmap_insert(&e->weps, &we->node, hash_bytes(&new, sizeof(new)));
	tell_services_of(e, we);
}

/* ---- the answer ---- */

static void add_slice_endpoints(
	const struct endpointslice *s, uint16_t port, struct service_endpoints *ret)
{
	const struct endpoint *ep;

	vec_for_each (&s->endpoints, ep) {
		struct service_endpoint se = {.ip = ep->ip,
			.port = port,
			.ready = ep->ready,
			.serving = ep->serving,
			.terminating = ep->terminating,
			.node = ep->node,
			.hostname = ep->hostname};

		vec_push(&ret->v, se);
	}
}

static void add_slice(const struct endpointslice *s, const struct service_port *port,
	struct service_endpoints *ret)
{
	const struct endpoint_port *p;

	if (!port)
		add_slice_endpoints(s, 0, ret);
	vec_for_each (&s->ports, p)
		if (port && p->port != 0 && p->protocol == port->protocol &&
			strcmp(p->name, port->name) == 0)
			add_slice_endpoints(s, p->port, ret);
}

static uint16_t target_port(const struct service_port *port, const struct wep *w)
{
	const struct wep_port *p;

	if (!port->target_name)
		return port->target_port;
	vec_for_each (&w->ports, p)
		if (p->name && p->protocol == port->protocol &&
			strcmp(p->name, port->target_name) == 0)
			return p->port;
	return 0;
}

static void add_wep(
	const struct wep *w, const struct service_port *port, struct service_endpoints *ret)
{
	uint16_t target = port ? target_port(port, w) : 0;
	bool has4 = false, has6 = false;

	if (port && target == 0)
		return;
	for (size_t i = 0; i < w->networks.n; i++) {
		const struct ip *ip = &w->networks.v[i].addr;
		bool *has = ip->family == IP_V4 ? &has4 : &has6;
		struct service_endpoint se = {.ip = *ip,
			.port = target,
			.ready = !w->meta.deleting,
			.serving = true,
			.terminating = w->meta.deleting,
			.node = w->node};

		if (!*has)
			vec_push(&ret->v, se);
		*has = true;
	}
}

static void add_weps(const struct endpoints *e, const struct service *s,
	const struct service_port *port, struct service_endpoints *ret)
{
	const struct group *smallest = NULL;
	const struct member *m;

	for (size_t i = 0; i < s->selector.v.n; i++) {
		const struct group *g = find_group(e, s->meta.ns, &s->selector.v.v[i]);

		if (!g)
			return;
		if (!smallest || g->n_members < smallest->n_members)
			smallest = g;
	}
	if (!smallest)
		return;
	list_for_each (m, &smallest->members, in_group)
		if (selects(s, m->entry->wep))
			add_wep(m->entry->wep, port, ret);
}

static int by_address(const void *a, const void *b)
{
	const struct service_endpoint *x = a, *y = b;
	int r = ip_compare(&x->ip, &y->ip);

	return r ? r : (int)x->port - (int)y->port;
}

static int compare_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) : (a == NULL) - (b == NULL);
}

/* And of one address that which is most in use first: the order of arrival decides nothing. */
static int by_use(const void *a, const void *b)
{
	const struct service_endpoint *x = a, *y = b;
	int r = by_address(a, b);

	r = r ?: (int)y->ready - (int)x->ready;
	r = r ?: (int)y->serving - (int)x->serving;
	r = r ?: (int)x->terminating - (int)y->terminating;
	r = r ?: compare_text(x->node, y->node);
	return r ?: compare_text(x->hostname, y->hostname);
}

/* One address in two slices (on its way from one to the other) is one endpoint. */
static void merge(struct service_endpoints *ret)
{
	size_t n = 0;

	if (ret->v.n == 0)
		return;
	qsort(ret->v.v, ret->v.n, sizeof(ret->v.v[0]), by_use);
	for (size_t i = 1; i < ret->v.n; i++)
		if (by_address(&ret->v.v[n], &ret->v.v[i]) != 0)
			ret->v.v[++n] = ret->v.v[i];
	ret->v.n = n + 1;
}

void endpoints_of_port(const struct endpoints *e, const struct service *s,
	const struct service_port *port, struct service_endpoints *ret)
{
	const struct named *n = find_named(e, s->meta.ns, s->meta.name);
	const struct slice_entry *se;

	ret->port = port;
	ret->v.n = 0;
	if (n)
		list_for_each (se, &n->slices, in_named)
			add_slice(se->slice, port, ret);
	if (e->use_weps && s->selector.v.n > 0)
		add_weps(e, s, port, ret);
	if (s->publish_not_ready)
		for (size_t i = 0; i < ret->v.n; i++)
			ret->v.v[i].ready = true;
	merge(ret);
}

void service_endpoints_done(struct service_endpoints *se)
{
	vec_done(&se->v);
}

void endpoints_free(struct endpoints *e)
{
	struct slice_entry *se;
	struct wep_entry *we;
	struct named *n;

	if (!e)
		return;
	hmap_for_each (we, &e->weps, node)
		free_wep(e, we);
	hmap_for_each (se, &e->slices, node) {
		hmap_remove(&e->slices, &se->node);
		free(se);
	}
	hmap_for_each (n, &e->named, node) {
		leave_group(e, n);
		free_named(e, n);
	}
	hmap_done(&e->weps);
	hmap_done(&e->slices);
	hmap_done(&e->named);
	hmap_done(&e->groups);
	free(e);
}
