/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/resource.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "model/ippool.h"
#include "model/json.h"
#include "model/meta.h"
#include "model/order.h"

static bool is_dns_name(const char *s, size_t max)
{
	size_t n = strlen(s);

	if (n == 0 || n > max)
		return false;
	for (size_t i = 0; i < n; i++) {
		bool inner = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9');
		bool edge = i == 0 || i == n - 1 || s[i - 1] == '.' || s[i + 1] == '.';

		if (!inner && (edge || (s[i] != '-' && s[i] != '.')))
			return false;
	}
	return true;
}

static bool is_label(const char *s)
{
	return is_dns_name(s, 63) && !strchr(s, '.');
}

int resource_check_name(enum kind kind, const char *name, struct err *err)
{
	/* An endpoint's name holds the container's interface, which has its own rules. */
	if (kind == KIND_SERVICE ? is_label(name)
		: kind == KIND_WORKLOADENDPOINT
			? key_name_ok(name) && strlen(name) <= MODEL_NAME_MAX
			: is_dns_name(name, MODEL_NAME_MAX))
		return 0;
	return err_set(err, -EINVAL,
		"%s: metadata.name: got \"%.80s\", want a-z, 0-9, \"-\"%s, at most %d characters",
		kind_info(kind)->name, name, kind == KIND_SERVICE ? "" : " and \".\"",
		kind == KIND_SERVICE ? 63 : MODEL_NAME_MAX);
}

int resource_identify(const json_t *j, const char *ns, struct key *ret, struct err *err)
{
	const char *name = json_string_value(json_object_get(j, "kind"));
	const char *api = json_string_value(json_object_get(j, "apiVersion"));
	const json_t *meta = json_object_get(j, "metadata");
	struct key key = {0};
	enum kind other;
	int r;

	if (!name || !api)
		return err_set(err, -EINVAL, "%s: absent, want %s", name ? "apiVersion" : "kind",
			name ? "projectcalico.org/v3, v1, ..." : "IPPool, BGPPeer, Service, ...");
	if (!kind_of(name, api, &key.kind)) {
		if (kind_find(name, &other))
			return err_set(err, -EINVAL, "kind %.64s, apiVersion %.64s: want %s of %s",
				name, api, kind_info(other)->name, kind_info(other)->api_version);
		return err_set(
			err, -EINVAL, "kind %.64s of %.64s: no such kind of resource", name, api);
	}
	name = json_string_value(json_object_get(meta, "name"));
	if (!name)
		return err_set(err, -EINVAL, "%s: metadata.name: absent, want a name",
			kind_info(key.kind)->name);
	if (kind_info(key.kind)->namespaced) {
		const char *own = json_string_value(json_object_get(meta, "namespace"));

		if (own && *own != '\0')
			ns = own;
		if (!ns)
			ns = "default";
		if (!is_label(ns))
			return err_set(err, -EINVAL,
				"%s %.64s: metadata.namespace: got \"%.64s\", want a-z, 0-9, \"-\"",
				kind_info(key.kind)->name, name, ns);
		snprintf(key.ns, sizeof(key.ns), "%s", ns);
	}
	r = resource_check_name(key.kind, name, err);
	if (r < 0)
		return r;
	snprintf(key.name, sizeof(key.name), "%s", name);
	*ret = key;
	return 0;
}

/*
 * Defaults.
 */
static json_t *make_object(json_t *obj, const char *name)
{
	if (!json_is_object(json_object_get(obj, name)))
		json_object_set_new(obj, name, json_object());
	return json_object_get(obj, name);
}

static bool is_unset(const json_t *obj, const char *name)
{
	const json_t *j = json_object_get(obj, name);

	return !j || json_is_null(j) || (json_is_string(j) && json_string_length(j) == 0);
}

static void default_to(json_t *obj, const char *name, json_t *value)
{
	if (is_unset(obj, name))
		json_object_set_new(obj, name, value);
	else
		json_decref(value);
}

static void default_pool(json_t *spec)
{
	const char *text = json_string_value(json_object_get(spec, "cidr"));
	const json_t *block = json_object_get(spec, "blockSize");
	bool v6 = text && strchr(text, ':');

	if (json_is_integer(block) && json_integer_value(block) == 0)
		json_object_del(spec, "blockSize");
	default_to(spec, "vxlanMode", json_string("Never"));
	default_to(spec, "ipipMode", json_string("Never"));
	default_to(spec, "blockSize", json_integer(v6 ? 122 : 26));
	default_to(spec, "nodeSelector", json_string("all()"));
	if (json_array_size(json_object_get(spec, "allowedUses")) == 0)
		json_object_set_new(spec, "allowedUses", json_pack("[s,s]", "Workload", "Tunnel"));
	default_to(spec, "assignmentMode", json_string("Automatic"));
}

static bool port_equal(const json_t *a, const json_t *b)
{
	const char *pa = json_string_value(json_object_get(a, "protocol"));
	const char *pb = json_string_value(json_object_get(b, "protocol"));

	return json_integer_value(json_object_get(a, "port")) ==
		       json_integer_value(json_object_get(b, "port")) &&
	       strcmp(pa ? pa : "TCP", pb ? pb : "TCP") == 0;
}

/* What was allocated stays, where the new version does not say otherwise. */
static void keep_allocations(json_t *spec, const json_t *old)
{
	json_t *ports = json_object_get(spec, "ports");
	json_t *old_ports = json_object_get(old, "ports"), *p, *q;
	size_t i, k;

	if (is_unset(spec, "clusterIP") && is_unset(spec, "clusterIPs") &&
		!is_unset(old, "clusterIP")) {
		json_object_set(spec, "clusterIP", json_object_get(old, "clusterIP"));
		if (!is_unset(old, "clusterIPs"))
			json_object_set(spec, "clusterIPs", json_object_get(old, "clusterIPs"));
	}
	json_array_foreach (ports, i, p) {
		json_array_foreach (old_ports, k, q)
			if (port_equal(p, q) && is_unset(p, "nodePort") && !is_unset(q, "nodePort"))
				json_object_set(p, "nodePort", json_object_get(q, "nodePort"));
	}
}

static void default_service(json_t *spec, const json_t *old)
{
	const char *type;
	json_t *ports = json_object_get(spec, "ports"), *p;
	size_t i;

	default_to(spec, "type", json_string("ClusterIP"));
	type = json_string_value(json_object_get(spec, "type"));
	json_array_foreach (ports, i, p)
		if (json_is_object(p))
			default_to(p, "protocol", json_string("TCP"));
	if (old && type && strcmp(type, "ExternalName") != 0)
		keep_allocations(spec, old);
	if (type && strcmp(type, "ClusterIP") == 0)
		json_array_foreach (ports, i, p)
			json_object_del(p, "nodePort");
	if (is_unset(spec, "clusterIP") && json_array_size(json_object_get(spec, "clusterIPs")) > 0)
		json_object_set(
			spec, "clusterIP", json_array_get(json_object_get(spec, "clusterIPs"), 0));
	if (!is_unset(spec, "clusterIP") && is_unset(spec, "clusterIPs"))
		json_object_set_new(
			spec, "clusterIPs", json_pack("[O]", json_object_get(spec, "clusterIP")));
}

static void default_wep(json_t *j, const struct key *key)
{
	json_t *labels = make_object(make_object(j, "metadata"), "labels");
	const char *orchestrator =
		json_string_value(json_object_get(make_object(j, "spec"), "orchestrator"));

	json_object_set_new(labels, "projectcalico.org/namespace", json_string(key->ns));
	if (orchestrator)
		json_object_set_new(
			labels, "projectcalico.org/orchestrator", json_string(orchestrator));
}

static void default_spec(json_t *j, const struct key *key, const json_t *old)
{
	json_t *spec = key->kind == KIND_ENDPOINTSLICE ? NULL : make_object(j, "spec");

	switch (key->kind) {
	case KIND_NODE:
		make_object(j, "status");
		break;
	case KIND_IPPOOL:
		default_pool(spec);
		break;
	case KIND_IPAMCONFIGURATION:
		default_to(spec, "strictAffinity", json_false());
		default_to(spec, "autoAllocateBlocks", json_true());
		break;
	case KIND_BGPCONFIGURATION:
		default_to(spec, "logSeverityScreen", json_string("Info"));
		default_to(spec, "serviceLoadBalancerAggregation", json_string("Enabled"));
		break;
	case KIND_FELIXCONFIGURATION:
		default_to(spec, "floatingIPs", json_string("Disabled"));
		default_to(spec, "nftablesMode", json_string("Auto"));
		default_to(spec, "nftablesFlowTableOffload", json_string("Disabled"));
		default_to(spec, "bpfConnectTimeLoadBalancing", json_string("TCP"));
		default_to(spec, "bpfHostNetworkedNATWithoutCTLB", json_string("Enabled"));
		if (!json_object_get(spec, "bpfLogLevel"))
			json_object_set_new(spec, "bpfLogLevel", json_string(""));
		break;
	case KIND_WORKLOADENDPOINT:
		default_wep(j, key);
		break;
	case KIND_SERVICE:
		default_service(spec, json_object_get(old, "spec"));
		break;
	case KIND_IPRESERVATION:
	case KIND_BGPPEER:
	case KIND_CLUSTERINFORMATION:
	case KIND_ENDPOINTSLICE:
	case KIND_POD:
	case KIND_NAMESPACE:
		break;
	}
}

void resource_default(json_t *j, const struct key *key, const json_t *old,
	const uint8_t random[static 16], int64_t now_ns)
{
	static const char *const elsewhere[] = {
		"resourceVersion", "selfLink", "generation", "managedFields"};
	static const char *const kept[] = {
		"uid", "creationTimestamp", "deletionTimestamp", "ownerReferences", "finalizers"};
	const json_t *old_meta = json_object_get(old, "metadata");
	json_t *meta = make_object(j, "metadata");
	char now[CLOCK_RFC3339_SIZE], uid[META_UUID_SIZE];

	for (unsigned i = 0; i < array_size(elsewhere); i++)
		json_object_del(meta, elsewhere[i]);
	if (key->kind == KIND_IPPOOL)
		json_object_del(json_object_get(meta, "annotations"), IPPOOL_UNCHECKED);
	if (kind_info(key->kind)->namespaced)
		json_object_set_new(meta, "namespace", json_string(key->ns));
	else
		json_object_del(meta, "namespace");
	/* Who made it and when is not the user's to say once it is stored; its status never is. */
	for (unsigned i = 0; i < array_size(kept); i++)
		if (!is_unset(old_meta, kept[i]))
			json_object_set(meta, kept[i], json_object_get(old_meta, kept[i]));
	if (!json_object_get(j, "status") && json_object_get(old, "status"))
		json_object_set(j, "status", json_object_get(old, "status"));
	default_to(meta, "uid", json_string(meta_uuid(random, uid)));
	clock_rfc3339(now_ns, now);
	default_to(meta, "creationTimestamp", json_string(now));
	default_spec(j, key, old);
}

/*
 * Text.
 */
static int name_compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sort_members(json_t *obj)
{
	size_t n = json_object_size(obj), i = 0;
	auto_free const char **names = n > 1 ? mem_realloc_array(NULL, n, sizeof(*names)) : NULL;
	json_t *sorted, *e;
	const char *name;

	if (n < 2)
		return;
	sorted = json_object();
	json_object_foreach (obj, name, e)
		names[i++] = name;
	qsort(names, n, sizeof(*names), name_compare);
	for (i = 0; i < n; i++)
		json_object_set(sorted, names[i], json_object_get(obj, names[i]));
	json_object_clear(obj);
	json_object_update(obj, sorted);
	json_decref(sorted);
}

/* As the table says; what it does not know stays where it is, behind. */
static void order_members(json_t *obj, const char *members)
{
	json_t *rest = json_object(), *e;
	const char *p = members, *name;

	json_object_update(rest, obj);
	json_object_clear(obj);
	while (*p != '\0') {
		size_t n = strcspn(p, " ");
		char word[64];

		assert(n < sizeof(word));
		memcpy(word, p, n);
		word[n] = '\0';
		e = json_object_get(rest, word);
		if (e) {
			json_object_set(obj, word, e);
			json_object_del(rest, word);
		}
		p += n + strspn(p + n, " ");
	}
	json_object_foreach (rest, name, e)
		json_object_set(obj, name, e);
	json_decref(rest);
}

static void order(json_t *j, enum kind kind, const char *path)
{
	const char *members = order_of(kind, path), *name;
	char below[96];
	json_t *e;
	size_t i;

	if (json_is_array(j)) {
		json_array_foreach (j, i, e)
			order(e, kind, path);
		return;
	}
	if (!json_is_object(j) || !members)
		return;
	if (strcmp(members, ORDER_SORTED) == 0) {
		sort_members(j);
		return;
	}
	if (*members != '\0')
		order_members(j, members);
	json_object_foreach (j, name, e) {
		int n = snprintf(
			below, sizeof(below), "%s%s%s", path, *path != '\0' ? "." : "", name);

		if (n > 0 && (size_t)n < sizeof(below))
			order(e, kind, below);
	}
}

char *resource_encode(const json_t *j, enum kind kind)
{
	json_t *copy = json_deep_copy(j);
	char *text;

	order(copy, kind, "");
	text = model_json_dump(copy);
	json_decref(copy);
	return text;
}
