/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The node's Node and its addresses, and what is found by the node's name. */
#define LOG_MODULE "start"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "felix/start_plan.h"
#include "model/ipam.h"
#include "model/json.h"
#include "model/key.h"
#include "model/node.h"
#include "model/resource.h"

static struct prefix *address_of(struct node *n, enum start_family f)
{
	return f == START_V4 ? &n->ipv4 : &n->ipv6;
}

/* The name of another node that has the address; NULL: none. */
static const char *owner_of(const struct start *s, enum start_family f, const struct ip *ip)
{
	const struct object *o;
	const char *name;

	vec_for_each (&s->nodes.of, o) {
		name = strrchr(o->key, '/') + 1;
		if (strcmp(name, s->conf->nodename) != 0 && o->node &&
			ip_equal(&address_of(o->node, f)->addr, ip))
			return name;
	}
	return NULL;
}

static void write_node(struct start *s, const struct object *o, const struct node *n)
{
	auto_free char *text = node_encode(n, o->text), *key = mem_strdup(o->key);
	auto_(json) json_t *j = NULL;

	if (s->host.interfaces) {
		j = json_loads(text, 0, NULL);
		json_object_set(json_object_get(j, "spec"), "interfaces", s->host.interfaces);
		free(text);
		text = resource_encode(j, KIND_NODE);
	}
	start_operate(s, o->text ? STORE_UPDATE : STORE_CREATE, key, take_ptr(text), o->rev);
}

/*
 * No other node has the address: looked at before it is written, and once more when it is, as two nodes
 * may find it free in the same instant. Lists all Nodes, for each address once.
 */
static int check_address(
	struct start *s, struct object *o, struct node *n, enum start_family f, struct err *err)
{
	const struct ip *want = &s->host.address[f].addr;
	bool is_stored = ip_equal(&address_of(n, f)->addr, want);
	const char *owner;

	if (s->conf->skip_ip_check || ip_equal(&s->unclaimed[f], want))
		return 1;
	if (!start_know_all(s, &s->nodes, kind_info(KIND_NODE)->root))
		return 0;
	owner = owner_of(s, f, want);
	if (owner && is_stored && s->written[f]) { /* taken back, and then told */
		s->written[f] = false;
		*address_of(n, f) = (struct prefix){0};
		write_node(s, o, n);
		return 0;
	}
	if (owner)
		return err_set(err, -EADDRINUSE,
			"node %s: its address %s is node %s's already; give one of them another (%s), or "
			"delete the Node object of a host that is no more",
			s->conf->nodename, ip_str(want), owner,
			f == START_V4 ? "IP, IP_AUTODETECTION_METHOD"
				      : "IP6, IP6_AUTODETECTION_METHOD");
	if (is_stored)
		s->unclaimed[f] = *want;
	return 1;
}

static int set_addresses(
	struct start *s, struct object *o, struct node *n, bool *ret_differs, struct err *err)
{
	for (int f = 0; f < START_N_FAMILIES; f++) {
		const struct prefix *want = &s->host.address[f];
		int r;

		if (want->addr.family == IP_NONE)
			continue;
		r = check_address(s, o, n, f, err);
		if (r != 1)
			return r;
	}
	for (int f = 0; f < START_N_FAMILIES; f++) {
		const struct prefix *want = &s->host.address[f];
		struct prefix *have = address_of(n, f);

		if (want->addr.family == IP_NONE || prefix_equal(want, have))
			continue;
		log_info("node %s: address %s", s->conf->nodename, prefix_str(want));
		*have = *want;
		*ret_differs = s->written[f] = true;
	}
	return 1;
}

static bool has_interfaces(const struct start *s, const char *text)
{
	auto_(json) json_t *j = json_loads(text, 0, NULL);

	return !s->host.interfaces ||
	       json_equal(json_object_get(json_object_get(j, "spec"), "interfaces"),
		       s->host.interfaces);
}

static int has_address(const struct start *s, struct node *n, enum start_family f, struct err *err)
{
	if (s->host.address[f].addr.family != IP_NONE || address_of(n, f)->addr.family != IP_NONE ||
		!s->host.why[f])
		return 1;
	return err_set(err, -ENOENT, "node %s has no %saddress: %s", s->conf->nodename,
		f == START_V4 ? "" : "IPv6 ", s->host.why[f]);
}

int start_node(struct start *s, const char *key, struct err *err)
{
	auto_(node) struct node *new = NULL;
	bool differs = false;
	struct object *o;
	struct node *n;
	int r;

	if (!start_know(s, key, &o))
		return 0;
	if (o->bad)
		return err_set(err, -EINVAL,
			"%s cannot be decoded, %s; mend it, or delete it and it is made anew", key,
			o->bad);
	if (!o->text) {
		new = node_new(s->conf->nodename);
		for (int f = 0; f < START_N_FAMILIES; f++)
			s->unclaimed[f] = (struct ip){0}; /* another may have taken it since */
	}
	n = new ?: o->node;
	r = has_address(s, n, START_V4, err);
	if (r == 1)
		r = set_addresses(s, o, n, &differs, err);
	if (r != 1)
		return r;
	if (s->conf->as && n->as != s->conf->as) {
		n->as = s->conf->as;
		differs = true;
	}
	if (!new && !differs && has_interfaces(s, o->text))
		return 1;
	if (new)
		start_identify(s, &n->meta);
	start_forget_all(&s->nodes);
	write_node(s, o, n);
	return 0;
}

int start_missing(struct start *s, const char *key, struct err *err)
{
	struct object *o;

	return start_know(s, key, &o) && o->node ? has_address(s, o->node, START_V6, err) : 0;
}

int start_affinities(struct start *s)
{
	char prefix[IPAM_KEY_SIZE];
	struct object o;

	if (s->indexed)
		return 1;
	ipam_key_affinities_of_host(s->conf->nodename, IP_NONE, prefix);
	if (!start_know_all(s, &s->unindexed, prefix))
		return 0;
	if (s->unindexed.of.n == 0) {
		s->indexed = true;
		return 1;
	}
	o = s->unindexed.of.v[--s->unindexed.of.n];
	log_info("%s gets the labels that it is found by, which an older Calico left out", o.key);
	start_operate(s, STORE_UPDATE, o.key, take_ptr(o.text), o.rev);
	start_object_done(&o);
	return 0;
}
