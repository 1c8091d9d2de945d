/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/wep.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/sha1.h"
#include "base/strbuf.h"
#include "model/key.h"
#include "model/read.h"
#include "model/write.h"

struct wep *wep_new(const char *ns)
{
	struct wep *w = mem_new(struct wep);

	w->meta.ns = mem_strdup(ns);
	return w;
}

void wep_free(struct wep *w)
{
	struct wep_port *p;

	if (!w)
		return;
	meta_done(&w->meta);
	free(w->generate_name);
	free(w->orchestrator);
	free(w->workload);
	free(w->node);
	free(w->container_id);
	free(w->pod);
	free(w->endpoint);
	free(w->service_account);
	vec_done(&w->networks);
	vec_done(&w->nats);
	strings_done(&w->profiles);
	free(w->interface);
	vec_for_each (&w->ports, p) {
		free(p->name);
		free(p->host_ip);
	}
	vec_done(&w->ports);
	vec_done(&w->spoofed);
	free(w);
}

static void read_ports(struct read *rd, const json_t *spec, struct wep *w)
{
	json_t *list = read_array(rd, spec, "ports"), *e;
	size_t i;

	json_array_foreach (list, i, e) {
		struct wep_port p = {0};

		read_at(rd, "spec.ports[%zu]", i);
		read_str(rd, e, "name", &p.name);
		read_protocol(rd, e, &p.protocol);
		read_u16(rd, e, "port", 0, &p.port);
		read_u16(rd, e, "hostPort", 0, &p.host_port);
		read_str(rd, e, "hostIP", &p.host_ip);
		vec_push(&w->ports, p);
	}
	read_at(rd, "spec");
}

static void read_networks(struct read *rd, const json_t *spec, struct wep *w)
{
	json_t *list = read_array(rd, spec, "ipNetworks"), *e;
	struct prefix p;
	size_t i;

	json_array_foreach (list, i, e) {
		if (!read_element_prefix(rd, e, "ipNetworks", &p))
			return;
		if (!prefix_is_host(&p))
			read_fail(rd, "ipNetworks", e, "a single address: /32 or /128");
		vec_push(&w->networks, p);
	}
	list = read_array(rd, spec, "allowSpoofedSourcePrefixes");
	json_array_foreach (list, i, e) {
		if (!read_element_prefix(rd, e, "allowSpoofedSourcePrefixes", &p))
			return;
		vec_push(&w->spoofed, p);
	}
}

static void read_nats(struct read *rd, const json_t *spec, struct wep *w)
{
	json_t *list = read_array(rd, spec, "ipNATs"), *e;
	size_t i;

	json_array_foreach (list, i, e) {
		struct wep_nat nat = {0};

		read_at(rd, "spec.ipNATs[%zu]", i);
		read_ip(rd, e, "internalIP", &nat.internal);
		read_ip(rd, e, "externalIP", &nat.external);
		vec_push(&w->nats, nat);
	}
	read_at(rd, "spec");
}

int wep_decode(const char *key, const char *text, size_t len, struct wep **ret, struct err *err)
{
	auto_(wep) struct wep *w = mem_new(struct wep);
	struct read rd;
	auto_(json) json_t *j =
		read_resource(&rd, KIND_WORKLOADENDPOINT, key, text, len, &w->meta, err);
	const json_t *spec = read_object(&rd, j, "spec");

	read_at(&rd, "metadata");
	read_str(&rd, json_object_get(j, "metadata"), "generateName", &w->generate_name);
	read_at(&rd, "spec");
	read_str(&rd, spec, "orchestrator", &w->orchestrator);
	read_str(&rd, spec, "workload", &w->workload);
	read_str(&rd, spec, "node", &w->node);
	read_str(&rd, spec, "containerID", &w->container_id);
	read_str(&rd, spec, "pod", &w->pod);
	read_str(&rd, spec, "endpoint", &w->endpoint);
	read_str(&rd, spec, "serviceAccountName", &w->service_account);
	read_networks(&rd, spec, w);
	read_nats(&rd, spec, w);
	read_ip_of(&rd, spec, "ipv4Gateway", IP_V4, &w->gateway4);
	read_ip_of(&rd, spec, "ipv6Gateway", IP_V6, &w->gateway6);
	read_strings(&rd, spec, "profiles", &w->profiles);
	read_str(&rd, spec, "interfaceName", &w->interface);
	read_mac(&rd, spec, "mac", &w->mac);
	read_ports(&rd, spec, w);
	if (rd.r < 0)
		return rd.r;
	*ret = take_ptr(w);
	return 0;
}

static json_t *prefix_list(const struct prefix *v, size_t n)
{
	json_t *list = n > 0 ? json_array() : NULL;

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_string(prefix_str(&v[i])));
	return list;
}

static json_t *nat_list(const struct wep *w)
{
	json_t *list = w->nats.n > 0 ? json_array() : NULL;

	for (size_t i = 0; i < w->nats.n; i++) {
		json_t *e = json_object();

		write_ip(e, "internalIP", &w->nats.v[i].internal);
		write_ip(e, "externalIP", &w->nats.v[i].external);
		json_array_append_new(list, e);
	}
	return list;
}

char *wep_encode(const struct wep *w, const char *base)
{
	json_t *j = write_resource(KIND_WORKLOADENDPOINT, base, &w->meta);
	json_t *spec = write_object(j, "spec"), *list = NULL;
	const struct wep_port *p;

	write_str(write_object(j, "metadata"), "generateName", w->generate_name);
	write_str(spec, "orchestrator", w->orchestrator);
	write_str(spec, "workload", w->workload);
	write_str(spec, "node", w->node);
	write_str(spec, "containerID", w->container_id);
	write_str(spec, "pod", w->pod);
	write_str(spec, "endpoint", w->endpoint);
	write_str(spec, "serviceAccountName", w->service_account);
	write_json(spec, "ipNetworks", prefix_list(w->networks.v, w->networks.n));
	write_json(spec, "ipNATs", nat_list(w));
	write_ip(spec, "ipv4Gateway", &w->gateway4);
	write_ip(spec, "ipv6Gateway", &w->gateway6);
	write_strings(spec, "profiles", &w->profiles);
	write_str(spec, "interfaceName", w->interface);
	write_mac(spec, "mac", &w->mac);
	vec_for_each (&w->ports, p) {
		json_t *e = json_object();

		/* All five, always: Calico's structure has no omitempty here. */
		json_object_set_new(e, "name", json_string(p->name ? p->name : ""));
		json_object_set_new(e, "protocol", json_string(protocol_str(p->protocol)));
		json_object_set_new(e, "port", json_integer(p->port));
		json_object_set_new(e, "hostPort", json_integer(p->host_port));
		json_object_set_new(e, "hostIP", json_string(p->host_ip ? p->host_ip : ""));
		if (!list)
			list = json_array();
		json_array_append_new(list, e);
	}
	write_json(spec, "ports", list);
	write_json(spec, "allowSpoofedSourcePrefixes", prefix_list(w->spoofed.v, w->spoofed.n));
	return write_text(j, KIND_WORKLOADENDPOINT);
}

static bool add_part(struct strbuf *sb, const char *s)
{
	size_t n = s ? strlen(s) : 0;

	if (n == 0 || s[0] == '-' || s[n - 1] == '-')
		return false;
	if (sb->len > 0)
		strbuf_addc(sb, '-');
	for (; *s != '\0'; s++) {
		strbuf_addc(sb, *s);
		if (*s == '-')
			strbuf_addc(sb, '-');
	}
	return true;
}

int wep_name(const char *node, const char *orchestrator, const char *id, const char *endpoint,
	char **ret, struct err *err)
{
	/* libnetwork's workload is always called libnetwork. */
	const char *parts[] = {node, orchestrator,
		orchestrator && strcmp(orchestrator, "libnetwork") == 0 ? "libnetwork" : id,
		endpoint};
	static const char *const names[] = {"node", "orchestrator", "workload", "endpoint"};
	auto_strbuf sb = STRBUF_INIT;

	for (unsigned i = 0; i < array_size(parts); i++)
		if (!add_part(&sb, parts[i]))
			return err_set(err, -EINVAL,
				"workload endpoint's name: %s \"%.64s\": want text that neither begins nor ends with \"-\"",
				names[i], parts[i] ? parts[i] : "");
	*ret = strbuf_take(&sb);
	return 0;
}

/* The next part of a name, "" where there is none, and what is behind it. */
static char *take_part(const char **name)
{
	struct strbuf sb = STRBUF_INIT;
	const char *s = *name;

	for (; *s != '\0' && (*s != '-' || s[1] == '-'); s++) {
		s += *s == '-';
		strbuf_addc(&sb, *s);
	}
	*name = *s == '-' ? s + 1 : s;
	return strbuf_take(&sb);
}

/* As Go's url.PathEscape. */
static void add_escaped(struct strbuf *to, const char *s)
{
	for (; *s; s++) {
		if (isalnum((unsigned char)*s) || strchr("-_.~$&+=:@", *s))
			strbuf_addc(to, *s);
		else
			strbuf_addf(to, "%%%02X", (unsigned char)*s);
	}
}

char *wep_status_name(const char *ns, const char *pod, const char *endpoint)
{
	auto_free char *workload = mem_printf("%s/%s", ns, pod);
	struct strbuf name = STRBUF_INIT;

	strbuf_add(&name, "k8s ");
	add_escaped(&name, workload);
	strbuf_addc(&name, ' ');
	add_escaped(&name, endpoint);
	return strbuf_take(&name);
}

char *wep_status_name_of(const char *key)
{
	struct key k;
	const char *name = k.name;

	if (!key_parse(key, &k) || k.kind != KIND_WORKLOADENDPOINT)
		return NULL;
	auto_free char *node = take_part(&name);
	auto_free char *orchestrator = take_part(&name);
	auto_free char *pod = take_part(&name);
	auto_free char *endpoint = take_part(&name);

	return *node && strcmp(orchestrator, "k8s") == 0 && *pod && *endpoint && *name == '\0'
		       ? wep_status_name(k.ns, pod, endpoint)
		       : NULL;
}

const char *wep_veth_name(const char *prefix, const char *of, char buf[static WEP_VETH_SIZE])
{
	char hex[SHA1_HEX_SIZE];

	snprintf(buf, WEP_VETH_SIZE, "%.4s%.11s", prefix, sha1_hex(of, hex));
	return buf;
}
