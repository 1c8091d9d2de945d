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
#include "cni/pod.h"
#include "model/key.h"
#include "store/kube_key.h"
#include "store/store.h"

enum { MAX_TRIES = 20, LABEL_VALUE_SIZE = 63 };

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

bool endpoint_is_possible(const struct store *st, const char *key)
{
	struct kube_key k;

	return key && (!store_is_managed(st) || kube_key_parse(key, &k, NULL) == 0);
}

static int get(struct store *st, const char *key, int64_t deadline_ms, struct wep **ret,
	int64_t *ret_rev, struct err *err)
{
	struct store_kv kv;
	int r;

	*ret = NULL;
	*ret_rev = 0;
	r = store_get_wait(st, key, deadline_ms, &kv, err);
	if (r < 0)
		return r;
	r = wep_decode(kv.key, kv.value, kv.len, ret, err);
	*ret_rev = kv.rev;
	store_kv_done(&kv);
	return r < 0 ? err_wrap(err, -EINVAL, "%s", key) : 0;
}

int endpoint_get(struct call *c, struct wep **ret, int64_t *ret_rev, struct err *err)
{
	if (!endpoint_is_possible(c->st, c->wep_key))
		return err_set(err, -ENOENT, "there is no such endpoint");
	return get(c->st, c->wep_key, c->deadline_ms, ret, ret_rev, err);
}

static void set_identity(struct wep *w, const struct call *c)
{
	struct key key;
	uint8_t random[16];

	mem_random(random, sizeof(random));
	if (key_parse(c->wep_key, &key))
		w->meta.name = mem_strdup(key.name);
	meta_identify(&w->meta, random, clock_real_ns());
}

/* Kubernetes' own with their names, else those that the runtime opens. */
static void set_ports(struct wep *w, const struct call *c, const struct pod *pod)
{
	const struct cni_port *p;

	for (size_t i = 0; pod && i < pod->ports.n; i++) {
		struct wep_port port = pod->ports.v[i];

		port.name = mem_strdup(port.name ?: "");
		port.host_ip = mem_strdup(port.host_ip ?: "");
		vec_push(&w->ports, port);
	}
	if (pod)
		return;
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

/* What follows from the pod, as in Calico's endpoints. */
static void set_pod(struct wep *w, const struct call *c, const struct pod *pod)
{
	const char *account = pod->service_account;

	add_labels(&w->meta.labels, &pod->meta.labels);
	w->generate_name = pod->generate_name ? mem_strdup(pod->generate_name) : NULL;
	if (!account)
		return;
	w->service_account = mem_strdup(account);
	vec_push(&w->profiles.v, mem_printf("ksa.%s.%s", c->namespace, account));
	if (strlen(account) < LABEL_VALUE_SIZE)
		labels_set(&w->meta.labels, "projectcalico.org/serviceaccount", account);
}

/* A floating address leads to the pod's own of its family. */
static void set_nats(struct wep *w, const struct pod_wants *wants, const struct ip *ips, size_t n)
{
	for (size_t i = 0; i < wants->floating.n; i++)
		for (size_t k = 0; k < n; k++)
			if (ips[k].family == wants->floating.v[i].family)
				vec_push(&w->nats, (struct wep_nat){ips[k], wants->floating.v[i]});
}

static struct wep *endpoint_new(const struct call *c, const struct pod_wants *wants,
	const struct ip *ips, size_t n_ips, const struct mac *mac)
{
	struct wep *w = wep_new(c->namespace);
	const struct cni_pair *p;
	const struct prefix *source;

	set_identity(w, c);
	vec_push(&w->profiles.v,
		c->k8s ? mem_printf("kns.%s", c->namespace) : mem_strdup(c->conf->name));
	if (wants->pod)
		set_pod(w, c, wants->pod);
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
	set_nats(w, wants, ips, n_ips);
	vec_for_each (&wants->sources, source)
		vec_push(&w->spoofed, *source);
	w->interface = mem_strdup(c->veth);
	w->mac = *mac;
	set_ports(w, c, wants->pod);
	return w;
}

char *endpoint_json(const struct call *c, const struct pod_wants *wants, const struct ip *ips,
	size_t n_ips, const struct mac *mac)
{
	auto_(wep) struct wep *w = endpoint_new(c, wants, ips, n_ips, mac);

	return wep_encode(w, NULL);
}

/* What others have put on it stays, and its identity; of another sandbox the labels do not. */
static void carry_over(struct wep *w, const struct wep *old)
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
			carry_over(w, old);
		}
		store_kv_done(&kv);
	} else if (r != -ENOENT) {
		return r;
	}
	text = wep_encode(w, stored);
	if (rev == 0)
		return store_create_wait(st, key, text, deadline_ms, NULL, err);
	r = store_update_wait(st, key, text, rev, deadline_ms, NULL, err);
	return r == -ENOENT ? -ESTALE : r; /* gone since it was read */
}

int endpoint_write(
	struct store *st, const char *key, const char *json, int64_t deadline_ms, struct err *err)
{
	int r = endpoint_is_possible(st, key) ? -ESTALE : 0;

	for (int i = 0; i < MAX_TRIES && (r == -ESTALE || r == -EEXIST); i++)
		r = write_once(st, key, json, deadline_ms, err);
	return r < 0 ? err_wrap(err, r, "writing %s", key) : 0;
}

int endpoint_put(struct call *c, const struct pod_wants *wants, const struct ip *ips, size_t n_ips,
	const struct mac *mac, struct err *err)
{
	auto_free char *json = endpoint_json(c, wants, ips, n_ips, mac);

	return endpoint_write(c->st, c->wep_key, json, c->deadline_ms, err);
}

static bool is_of(const struct wep *w, const char *container_id)
{
	return w->container_id && strcmp(w->container_id, container_id) == 0;
}

int endpoint_find(struct call *c, bool *ret_ours, struct err *err)
{
	auto_(wep) struct wep *w = NULL;
	struct err e = ERR_INIT;
	int64_t rev;
	int r = endpoint_get(c, &w, &rev, &e);

	*ret_ours = r == 0 && is_of(w, c->container_id);
	if (*ret_ours && w->interface && strncmp(w->interface, "cali", 4) == 0)
		snprintf(c->veth, WEP_VETH_SIZE, "%s", w->interface);
	if (r == -ENOENT || r == -EINVAL)
		return 0;
	return r < 0 ? err_set(err, r, "%s", err_text(&e)) : 0;
}

int endpoint_remove(struct store *st, const char *key, const char *container_id,
	int64_t deadline_ms, struct err *err)
{
	int r = endpoint_is_possible(st, key) ? -ESTALE : 0;

	for (int i = 0; i < MAX_TRIES && r == -ESTALE; i++) {
		auto_(wep) struct wep *w = NULL;
		struct err e = ERR_INIT;
		int64_t rev;

		r = get(st, key, deadline_ms, &w, &rev, &e);
		if (r == -EINVAL) {
			log_warn("left alone: %s: repair it, or delete it", err_text(&e));
			return 0;
		}
		if (r < 0) {
			if (err)
				*err = e;
			break;
		}
		if (w->container_id && !is_of(w, container_id))
			return 0;
		r = store_delete_wait(st, key, rev, NULL, deadline_ms, err);
	}
	if (r == -ENOENT)
		return 0;
	return r < 0 ? err_wrap(err, r, "deleting %s", key) : 0;
}

int endpoint_delete(struct call *c, struct err *err)
{
	return endpoint_remove(c->st, c->wep_key, c->container_id, c->deadline_ms, err);
}
