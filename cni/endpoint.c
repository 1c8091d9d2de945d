/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/endpoint.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cni/call.h"
#include "model/key.h"
#include "store/store.h"

enum { MAX_TRIES = 20 };

static const char *orchestrator(const struct call *c)
{
	return c->k8s ? "k8s" : "cni";
}

int endpoint_key(const struct call *c, char **ret, struct err *err)
{
	auto_free char *name = NULL;
	char key[KEY_SIZE];
	int r;

	r = wep_name(c->node, orchestrator(c), c->k8s ? c->args.pod : c->container_id, c->ifname,
		&name, err);
	if (r < 0)
		return r;
	if (!key_name_ok(name) || strlen(name) >= KEY_NAME_SIZE || !key_name_ok(c->namespace) ||
		strlen(c->namespace) >= KEY_NAMESPACE_SIZE)
		return err_set(err, -EINVAL,
			"workload endpoint %.80s/%.200s: no name for an object", c->namespace,
			name);
	*ret = mem_strdup(key_format(KIND_WORKLOADENDPOINT, c->namespace, name, key));
	return 0;
}

static int get(struct call *c, struct wep **ret, char **ret_text, int64_t *ret_rev, struct err *err)
{
	struct store_kv kv;
	int r;

	*ret = NULL;
	*ret_rev = 0;
	if (!c->wep_key)
		return err_set(err, -ENOENT, "there is no such endpoint");
	r = store_get_wait(c->st, c->wep_key, c->deadline_ms, &kv, err);
	if (r < 0)
		return r;
	r = wep_decode(kv.key, kv.value, kv.len, ret, err);
	*ret_rev = kv.rev;
	if (r == 0 && ret_text)
		*ret_text = take_ptr(kv.value);
	store_kv_done(&kv);
	return r < 0 ? err_wrap(err, -EINVAL, "%s", c->wep_key) : 0;
}

int endpoint_get(struct call *c, struct wep **ret, int64_t *ret_rev, struct err *err)
{
	return get(c, ret, NULL, ret_rev, err);
}

static void set_identity(struct wep *w, const struct call *c, const struct wep *old)
{
	struct key key;
	uint8_t random[16];

	mem_random(random, sizeof(random));
	if (key_parse(c->wep_key, &key))
		w->meta.name = mem_strdup(key.name);
	if (old && old->meta.uid)
		w->meta.uid = mem_strdup(old->meta.uid);
	/* Of those that have an address, the routes follow the youngest: a new sandbox is one. */
	if (old && old->meta.created && old->container_id &&
		strcmp(old->container_id, c->container_id) == 0)
		w->meta.created = mem_strdup(old->meta.created);
	meta_identify(&w->meta, random, clock_real_ns());
}

static void set_ports(struct wep *w, const struct call *c)
{
	const struct cni_port *p;

	vec_for_each (&c->conf->ports, p) {
		struct wep_port port = {.protocol = p->protocol,
			.port = p->port,
			.host_port = p->host_port,
			.name = mem_strdup(""),
			.host_ip = mem_strdup(ip_str(&p->host_ip))};

		vec_push(&w->ports, port);
	}
}

/* What others have put there stays. */
static void add_labels(struct labels *l, const struct labels *more)
{
	const struct label *e;

	vec_for_each (&more->v, e)
		labels_set(l, e->name, e->value);
}

static struct wep *endpoint_new(const struct call *c, const struct wep *old, const struct ip *ips,
	size_t n_ips, const struct mac *mac)
{
	struct wep *w = wep_new(c->namespace);
	const struct cni_pair *p;

	set_identity(w, c, old);
	if (old) {
		/* Of another sandbox, they may be what this one is not to have. */
		if (old->container_id && strcmp(old->container_id, c->container_id) == 0)
			add_labels(&w->meta.labels, &old->meta.labels);
		add_labels(&w->meta.annotations, &old->meta.annotations);
	}
	vec_for_each (&c->conf->labels, p)
		labels_set(&w->meta.labels, p->name, p->value);
	labels_set(&w->meta.labels, "projectcalico.org/namespace", c->namespace);
	labels_set(&w->meta.labels, "projectcalico.org/orchestrator", orchestrator(c));
	w->orchestrator = mem_strdup(orchestrator(c));
	w->workload = c->k8s ? NULL : mem_strdup(c->container_id);
	w->node = mem_strdup(c->node);
	w->container_id = mem_strdup(c->container_id);
	w->pod = c->args.pod ? mem_strdup(c->args.pod) : NULL;
	w->endpoint = mem_strdup(c->ifname);
	for (size_t i = 0; i < n_ips; i++) {
		struct prefix net = prefix_host(&ips[i]);

		vec_push(&w->networks, net);
	}
	vec_push(&w->profiles.v,
		c->k8s ? mem_printf("kns.%s", c->namespace) : mem_strdup(c->conf->name));
	w->interface = mem_strdup(c->veth);
	w->mac = *mac;
	set_ports(w, c);
	return w;
}

char *endpoint_json(const struct call *c, const struct ip *ips, size_t n_ips, const struct mac *mac)
{
	auto_(wep) struct wep *w = endpoint_new(c, NULL, ips, n_ips, mac);

	return wep_encode(w, NULL);
}

int endpoint_put(
	struct call *c, const struct ip *ips, size_t n_ips, const struct mac *mac, struct err *err)
{
	int r = -ESTALE;

	for (int i = 0; i < MAX_TRIES && (r == -ESTALE || r == -EEXIST || r == -ENOENT); i++) {
		auto_(wep) struct wep *old = NULL, *w = NULL;
		auto_free char *text = NULL, *stored = NULL;
		int64_t rev;

		r = get(c, &old, &stored, &rev, err);
		if (r < 0 && r != -ENOENT && r != -EINVAL)
			return r;
		w = endpoint_new(c, old, ips, n_ips, mac);
		text = wep_encode(w, stored);
		if (rev != 0)
			r = store_update_wait(
				c->st, c->wep_key, text, rev, c->deadline_ms, NULL, err);
		else
			r = store_create_wait(c->st, c->wep_key, text, c->deadline_ms, NULL, err);
	}
	return r < 0 ? err_wrap(err, r, "writing %s", c->wep_key) : 0;
}

int endpoint_delete(struct call *c, bool *ret_ours, struct err *err)
{
	int r = -ESTALE;

	*ret_ours = false;
	for (int i = 0; i < MAX_TRIES && r == -ESTALE; i++) {
		auto_(wep) struct wep *w = NULL;
		struct err e = ERR_INIT;
		int64_t rev;

		r = endpoint_get(c, &w, &rev, &e);
		if (r == -EINVAL) {
			log_warn("left alone: %s: repair it, or delete it", err_text(&e));
			return 0;
		}
		if (r < 0) {
			if (err)
				*err = e;
			break;
		}
		*ret_ours = w->container_id && strcmp(w->container_id, c->container_id) == 0;
		if (w->container_id && !*ret_ours)
			return 0;
		if (*ret_ours && w->interface && strncmp(w->interface, "cali", 4) == 0)
			snprintf(c->veth, sizeof(c->veth), "%s", w->interface);
		r = store_delete_wait(c->st, c->wep_key, rev, NULL, c->deadline_ms, err);
	}
	if (r == -ENOENT)
		return 0;
	return r < 0 ? err_wrap(err, r, "deleting %s", c->wep_key) : 0;
}

/* What others have put on it stays, and its identity; of another sandbox the labels do not. */
static void inherit(struct wep *w, const struct wep *old)
{
	bool same = old->container_id && w->container_id &&
		    strcmp(old->container_id, w->container_id) == 0;
	const struct label *l;

	if (old->meta.uid) {
		free(w->meta.uid);
		w->meta.uid = mem_strdup(old->meta.uid);
	}
	if (same && old->meta.created) {
		free(w->meta.created);
		w->meta.created = mem_strdup(old->meta.created);
	}
	vec_for_each (&old->meta.labels.v, l)
		if (same && !labels_get(&w->meta.labels, l->name))
			labels_set(&w->meta.labels, l->name, l->value);
	vec_for_each (&old->meta.annotations.v, l)
		if (!labels_get(&w->meta.annotations, l->name))
			labels_set(&w->meta.annotations, l->name, l->value);
}

static int write_once(
	struct store *st, const char *key, const char *json, int64_t deadline_ms, struct err *err)
{
	auto_(wep) struct wep *w = NULL, *old = NULL;
	auto_free char *text = NULL, *stored = NULL;
	struct store_kv kv;
	int64_t rev = 0;
	int r = wep_decode(key, json, strlen(json), &w, err);

	if (r < 0)
		return r;
	r = store_get_wait(st, key, deadline_ms, &kv, err);
	if (r == 0) {
		rev = kv.rev;
		if (wep_decode(key, kv.value, kv.len, &old, NULL) == 0) {
			stored = take_ptr(kv.value);
			inherit(w, old);
		}
		store_kv_done(&kv);
	} else if (r != -ENOENT) {
		return r;
	}
	text = wep_encode(w, stored);
	return rev != 0 ? store_update_wait(st, key, text, rev, deadline_ms, NULL, err)
			: store_create_wait(st, key, text, deadline_ms, NULL, err);
}

int endpoint_write(
	struct store *st, const char *key, const char *json, int64_t deadline_ms, struct err *err)
{
	int r = -ESTALE;

	for (int i = 0; i < MAX_TRIES && (r == -ESTALE || r == -EEXIST); i++)
		r = write_once(st, key, json, deadline_ms, err);
	return r < 0 ? err_wrap(err, r, "writing %s", key) : 0;
}

int endpoint_remove(struct store *st, const char *key, const char *container_id,
	int64_t deadline_ms, struct err *err)
{
	int r = -ESTALE;

	for (int i = 0; i < MAX_TRIES && r == -ESTALE; i++) {
		auto_(wep) struct wep *w = NULL;
		struct err e = ERR_INIT;
		struct store_kv kv;
		int64_t rev;

		r = store_get_wait(st, key, deadline_ms, &kv, err);
		if (r < 0)
			break;
		rev = kv.rev;
		r = wep_decode(key, kv.value, kv.len, &w, &e);
		store_kv_done(&kv);
		if (r < 0) {
			log_warn("left alone: %s: %s: repair it, or delete it", key, err_text(&e));
			return 0;
		}
		if (w->container_id && strcmp(w->container_id, container_id) != 0)
			return 0;
		r = store_delete_wait(st, key, rev, NULL, deadline_ms, err);
	}
	if (r == -ENOENT)
		return 0;
	return r < 0 ? err_wrap(err, r, "deleting %s", key) : 0;
}
