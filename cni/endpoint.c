/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/endpoint.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cni/call.h"
#include "store/store.h"

#define ENDPOINTS "/calico/resources/v3/projectcalico.org/workloadendpoints/"

enum { MAX_TRIES = 20 };

/* A segment of a name: "-" is doubled, as single ones join the segments. */
static void add_segment(struct strbuf *sb, const char *s)
{
	if (sb->len > 0)
		strbuf_addc(sb, '-');
	for (; *s != '\0'; s++) {
		strbuf_addc(sb, *s);
		if (*s == '-')
			strbuf_addc(sb, '-');
	}
}

static char *endpoint_name(const struct call *c)
{
	struct strbuf sb = STRBUF_INIT;

	add_segment(&sb, c->node);
	add_segment(&sb, c->k8s ? "k8s" : "cni");
	add_segment(&sb, c->k8s ? c->args.pod : c->container_id);
	add_segment(&sb, c->ifname);
	return strbuf_take(&sb);
}

static char *endpoint_key(const struct call *c)
{
	auto_free char *name = endpoint_name(c);

	return mem_printf(ENDPOINTS "%s/%s", c->namespace, name);
}

void endpoint_done(struct endpoint *e)
{
	free(e->container_id);
	free(e->interface_name);
	free(e->mac);
	free(e->uid);
	free(e->created);
	*e = (struct endpoint){0};
}

static char *text_of(const json_t *j, const char *key)
{
	return mem_strdup(json_string_value(json_object_get(j, key)) ?: "");
}

static int decode(const char *text, size_t len, struct endpoint *e, struct err *err)
{
	json_error_t je;
	json_t *j = json_loadb(text, len, 0, &je);
	const json_t *spec = json_object_get(j, "spec"), *metadata = json_object_get(j, "metadata");
	const json_t *n, *nets = json_object_get(spec, "ipNetworks");
	const char *uid = json_string_value(json_object_get(metadata, "uid"));
	const char *created = json_string_value(json_object_get(metadata, "creationTimestamp"));
	size_t i;

	e->container_id = text_of(spec, "containerID");
	e->interface_name = text_of(spec, "interfaceName");
	e->mac = text_of(spec, "mac");
	e->uid = uid ? mem_strdup(uid) : NULL;
	e->created = created ? mem_strdup(created) : NULL;
	json_array_foreach (nets, i, n) {
		struct prefix p;

		if (json_is_string(n) && e->n_ips < array_size(e->ips) &&
			prefix_parse_host(json_string_value(n), &p, NULL) == 0)
			e->ips[e->n_ips++] = p.addr;
	}
	json_decref(j);
	if (!spec)
		return err_set(err, -EINVAL, "not a WorkloadEndpoint");
	return 0;
}

int endpoint_get(struct call *c, struct endpoint *ret, struct err *err)
{
	auto_free char *key = endpoint_key(c);
	struct store_kv kv;
	int r = store_get_wait(c->st, key, c->deadline_ms, &kv, err);

	*ret = (struct endpoint){0};
	if (r < 0)
		return r;
	r = decode(kv.value, kv.len, ret, err);
	ret->rev = kv.rev;
	store_kv_done(&kv);
	return r < 0 ? err_wrap(err, r, "%s", key) : 0;
}

static json_t *encode_labels(const struct call *c)
{
	json_t *labels = json_object();
	const struct cni_pair *p;

	vec_for_each (&c->conf->labels, p)
		json_object_set_new(labels, p->name, json_string(p->value));
	json_object_set_new(labels, "projectcalico.org/namespace", json_string(c->namespace));
	json_object_set_new(
		labels, "projectcalico.org/orchestrator", json_string(c->k8s ? "k8s" : "cni"));
	return labels;
}

static json_t *encode_metadata(const struct call *c, const struct endpoint *old)
{
	auto_free char *name = endpoint_name(c);
	char created[CLOCK_RFC3339_SIZE], uid[40];
	uint8_t r[16] = {0};
	json_t *j = json_object();

	if (getrandom(r, sizeof(r), 0) != (ssize_t)sizeof(r))
		abort(); /* cannot be: so few bytes are never interrupted */
	snprintf(uid, sizeof(uid),
		"%02x%02x%02x%02x-%02x%02x-4%x%02x-%x%x%02x-%02x%02x%02x%02x%02x%02x", r[0], r[1],
		r[2], r[3], r[4], r[5], r[6] & 15, r[7], 8 | (r[8] & 3), r[9] & 15, r[8], r[10],
		r[11], r[12], r[13], r[14], r[15]);
	clock_rfc3339(clock_real_ns(), created);
	json_object_set_new(j, "name", json_string(name));
	json_object_set_new(j, "namespace", json_string(c->namespace));
	json_object_set_new(j, "uid", json_string(old->uid ?: uid));
	json_object_set_new(j, "creationTimestamp", json_string(old->created ?: created));
	json_object_set_new(j, "labels", encode_labels(c));
	return j;
}

static json_t *encode_ports(const struct call *c)
{
	const struct cni_port *p;
	json_t *a = json_array();

	vec_for_each (&c->conf->ports, p) {
		json_t *j = json_object();

		json_object_set_new(j, "name", json_string(""));
		json_object_set_new(j, "protocol", json_string(p->protocol));
		json_object_set_new(j, "port", json_integer(p->port));
		json_object_set_new(j, "hostPort", json_integer(p->host_port));
		json_object_set_new(j, "hostIP", json_string(ip_str(&p->host_ip)));
		json_array_append_new(a, j);
	}
	return a;
}

static json_t *encode_spec(
	const struct call *c, const struct ip *ips, size_t n_ips, const struct mac *mac)
{
	json_t *j = json_object(), *nets = json_array(), *profiles = json_array();
	auto_free char *profile =
		c->k8s ? mem_printf("kns.%s", c->namespace) : mem_strdup(c->conf->name);

	json_object_set_new(j, "orchestrator", json_string(c->k8s ? "k8s" : "cni"));
	if (!c->k8s)
		json_object_set_new(j, "workload", json_string(c->container_id));
	json_object_set_new(j, "node", json_string(c->node));
	json_object_set_new(j, "containerID", json_string(c->container_id));
	if (c->args.pod)
		json_object_set_new(j, "pod", json_string(c->args.pod));
	json_object_set_new(j, "endpoint", json_string(c->ifname));
	for (size_t i = 0; i < n_ips; i++) {
		struct prefix p = prefix_host(&ips[i]);

		json_array_append_new(nets, json_string(prefix_str(&p)));
	}
	json_object_set_new(j, "ipNetworks", nets);
	json_array_append_new(profiles, json_string(profile));
	json_object_set_new(j, "profiles", profiles);
	json_object_set_new(j, "interfaceName", json_string(c->veth));
	json_object_set_new(j, "mac", json_string(mac_str(mac)));
	if (c->conf->ports.n > 0)
		json_object_set_new(j, "ports", encode_ports(c));
	return j;
}

int endpoint_put(
	struct call *c, const struct ip *ips, size_t n_ips, const struct mac *mac, struct err *err)
{
	auto_free char *key = endpoint_key(c);
	int r = -ESTALE;

	for (int i = 0; i < MAX_TRIES && (r == -ESTALE || r == -EEXIST || r == -ENOENT); i++) {
		struct endpoint old;
		json_t *j;
		char *text;

		r = endpoint_get(c, &old, err);
		if (r < 0 && r != -ENOENT && r != -EINVAL) {
			endpoint_done(&old);
			return r;
		}
		j = json_object();
		json_object_set_new(j, "kind", json_string("WorkloadEndpoint"));
		json_object_set_new(j, "apiVersion", json_string("projectcalico.org/v3"));
		json_object_set_new(j, "metadata", encode_metadata(c, &old));
		json_object_set_new(j, "spec", encode_spec(c, ips, n_ips, mac));
		text = json_dumps(j, JSON_COMPACT | JSON_PRESERVE_ORDER);
		json_decref(j);
		if (old.rev != 0)
			r = store_update_wait(c->st, key, text, old.rev, c->deadline_ms, NULL, err);
		else
			r = store_create_wait(c->st, key, text, c->deadline_ms, NULL, err);
		free(text);
		endpoint_done(&old);
	}
	return r < 0 ? err_wrap(err, r, "writing %s", key) : 0;
}

int endpoint_delete(struct call *c, bool *ret_ours, struct endpoint *ret, struct err *err)
{
	auto_free char *key = endpoint_key(c);
	int r = -ESTALE;

	*ret = (struct endpoint){0};
	*ret_ours = true;
	for (int i = 0; i < MAX_TRIES && r == -ESTALE; i++) {
		endpoint_done(ret);
		r = endpoint_get(c, ret, err);
		if (r < 0 && r != -EINVAL)
			break;
		*ret_ours = r == -EINVAL || strcmp(ret->container_id, c->container_id) == 0;
		if (!*ret_ours)
			return 0;
		r = store_delete_wait(c->st, key, ret->rev, NULL, c->deadline_ms, err);
	}
	if (r == -ENOENT)
		return 0;
	return r < 0 ? err_wrap(err, r, "deleting %s", key) : 0;
}
