/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/kube_view.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/strbuf.h"
#include "model/bgp.h"
#include "model/json.h"
#include "model/wep.h"
#include "net/mac.h"
#include "net/prefix.h"

#define CALICO "projectcalico.org/"
#define CNI "cni.projectcalico.org/"
#define KUBE_LABELS CALICO "kube-labels" /* told, never stored */
#define NETWORK_STATUS "k8s.v1.cni.cncf.io/network-status"

static const char *text_of(const json_t *obj, const char *name)
{
	return json_string_value(json_object_get(obj, name));
}

static json_t *loads(const char *text)
{
	return text ? json_loads(text, 0, NULL) : NULL;
}

static void set_text(json_t *obj, const char *name, const char *text)
{
	if (text)
		json_object_set_new(obj, name, json_string(text));
}

/* An empty one where there is none. j is taken. */
static json_t *object_of(json_t *j)
{
	if (json_is_object(j))
		return j;
	json_decref(j);
	return json_object();
}

static json_t *copy_of(const json_t *j)
{
	return object_of(json_copy((json_t *)(uintptr_t)j));
}

/* ---- Node ---- */

enum what { TEXT, CIDR4, CIDR6, IP4, IP6, MAC, AS, LIST };

static const struct {
	const char *annotation;
	const char *in[2]; /* the members that lead there */
	const char *member;
	enum what what;
} node_members[] = {
	{CALICO "IPv4Address", {"spec", "bgp"}, "ipv4Address", CIDR4},
	{CALICO "IPv6Address", {"spec", "bgp"}, "ipv6Address", CIDR6},
	{CALICO "ASNumber", {"spec", "bgp"}, "asNumber", AS},
	{CALICO "IPv4IPIPTunnelAddr", {"spec", "bgp"}, "ipv4IPIPTunnelAddr", IP4},
	{CALICO "RouteReflectorClusterID", {"spec", "bgp"}, "routeReflectorClusterID", IP4},
	{CALICO "IPv4VXLANTunnelAddr", {"spec"}, "ipv4VXLANTunnelAddr", IP4},
	{CALICO "VXLANTunnelMACAddr", {"spec"}, "vxlanTunnelMACAddr", MAC},
	{CALICO "IPv6VXLANTunnelAddr", {"spec"}, "ipv6VXLANTunnelAddr", IP6},
	{CALICO "VXLANTunnelMACAddrV6", {"spec"}, "vxlanTunnelMACAddrV6", MAC},
	{CALICO "IPv4WireguardInterfaceAddr", {"spec", "wireguard"}, "interfaceIPv4Address", IP4},
	{CALICO "IPv6WireguardInterfaceAddr", {"spec", "wireguard"}, "interfaceIPv6Address", IP6},
	{CALICO "Interfaces", {"spec"}, "interfaces", LIST},
	{CALICO "WireguardPublicKey", {"status"}, "wireguardPublicKey", TEXT},
	{CALICO "WireguardPublicKeyV6", {"status"}, "wireguardPublicKeyV6", TEXT},
};

static bool is_ip(const char *s, uint8_t family)
{
	struct ip ip;

	return ip_parse(s, &ip, NULL) == 0 && ip.family == family;
}

static bool is_cidr(const char *s, uint8_t family)
{
	struct prefix p;

	return prefix_parse_host(s, &p, NULL) == 0 && p.addr.family == family;
}

/* NULL: it makes no sense there. */
static json_t *from_annotation(const char *s, enum what what)
{
	struct mac mac;
	uint32_t as;
	json_t *j;

	switch (what) {
	case TEXT:
		return *s ? json_string(s) : NULL;
	case CIDR4:
		return is_cidr(s, IP_V4) ? json_string(s) : NULL;
	case CIDR6:
		return is_cidr(s, IP_V6) ? json_string(s) : NULL;
	case IP4:
		return is_ip(s, IP_V4) ? json_string(s) : NULL;
	case IP6:
		return is_ip(s, IP_V6) ? json_string(s) : NULL;
	case MAC:
		return mac_parse(s, &mac, NULL) == 0 ? json_string(s) : NULL;
	case AS:
		return bgp_as_parse(s, &as, NULL) == 0 ? json_integer(as) : NULL;
	case LIST:
		j = loads(s);
		if (json_is_array(j))
			return j;
		json_decref(j);
		return NULL;
	}
	return NULL;
}

static json_t *make(json_t *j, const char *const *in)
{
	for (size_t i = 0; i < 2 && in[i]; i++) {
		if (!json_object_get(j, in[i]))
			json_object_set_new(j, in[i], json_object());
		j = json_object_get(j, in[i]);
	}
	return j;
}

static void add_address(json_t *list, const char *address, const char *type)
{
	if (address)
		json_array_append_new(
			list, json_pack("{s:s, s:s}", "address", address, "type", type));
}

static json_t *node_addresses(const json_t *spec, const json_t *obj)
{
	const json_t *bgp = json_object_get(spec, "bgp"), *a;
	json_t *list = json_array();
	size_t i;

	add_address(list, text_of(bgp, "ipv4Address"), "CalicoNodeIP");
	add_address(list, text_of(bgp, "ipv6Address"), "CalicoNodeIP");
	json_array_foreach (json_object_get(json_object_get(obj, "status"), "addresses"), i, a) {
		const char *type = text_of(a, "type");

		if (type && (strcmp(type, "InternalIP") == 0 || strcmp(type, "ExternalIP") == 0))
			add_address(list, text_of(a, "address"), type);
	}
	return list;
}

/* An empty one is left out, as Go does. map_take is consumed. */
static void set_map(json_t *meta, const char *name, json_t *map_take)
{
	if (json_object_size(map_take) > 0)
		json_object_set(meta, name, map_take);
	json_decref(map_take);
}

static json_t *node_metadata(const json_t *own)
{
	const json_t *given = json_object_get(own, "annotations");
	json_t *labels = object_of(loads(text_of(given, CALICO "labels")));
	json_t *annotations = object_of(loads(text_of(given, CALICO "annotations")));
	json_t *kube_labels = json_object_get(own, "labels");
	auto_free char *text = NULL;
	json_t *meta = json_object();

	json_object_update(labels, kube_labels);
	if (kube_labels) {
		text = json_dumps(kube_labels, JSON_COMPACT | JSON_SORT_KEYS);
		set_text(annotations, KUBE_LABELS, text);
	}
	set_text(meta, "name", text_of(own, "name"));
	set_text(meta, "uid", text_of(own, "uid"));
	set_text(meta, "creationTimestamp", text_of(own, "creationTimestamp"));
	set_map(meta, "labels", labels);
	set_map(meta, "annotations", annotations);
	return meta;
}

json_t *kube_view_node(const json_t *obj)
{
	const json_t *own = json_object_get(obj, "metadata"),
		     *given = json_object_get(own, "annotations");
	const json_t *pod_cidrs = json_object_get(json_object_get(obj, "spec"), "podCIDRs");
	json_t *j = json_object(), *spec = json_object(), *status = json_object(), *value;

	set_text(j, "kind", "Node");
	set_text(j, "apiVersion", "projectcalico.org/v3");
	json_object_set_new(j, "metadata", node_metadata(own));
	json_object_set_new(j, "spec", spec);
	json_object_set_new(j, "status", status);
	for (size_t i = 0; i < array_size(node_members); i++) {
		const char *s = text_of(given, node_members[i].annotation);

		value = s ? from_annotation(s, node_members[i].what) : NULL;
		if (value)
			json_object_set_new(
				make(j, node_members[i].in), node_members[i].member, value);
	}
	json_object_set_new(spec, "orchRefs",
		json_pack("[{s:O?, s:s}]", "nodeName", json_object_get(own, "name"), "orchestrator",
			"k8s"));
	json_object_set_new(spec, "addresses", node_addresses(spec, obj));
	if (json_array_size(pod_cidrs) > 0)
		json_object_set(status, "podCIDRs", (json_t *)(uintptr_t)pod_cidrs);
	return j;
}

/* What is Calico's alone; null where there is none. */
static json_t *to_annotation(const json_t *map)
{
	auto_free char *text = json_object_size(map) ? model_json_dump(map) : NULL;

	return text ? json_string(text) : json_null();
}

static json_t *node_labels(const json_t *meta)
{
	json_t *labels = copy_of(json_object_get(meta, "labels")), *v;
	auto_(json) json_t *kube =
		loads(text_of(json_object_get(meta, "annotations"), KUBE_LABELS));
	const char *name;

	json_object_foreach (kube, name, v)
		if (json_equal(v, json_object_get(labels, name)))
			json_object_del(labels, name);
	return labels;
}

static json_t *member_text(const json_t *value)
{
	auto_free char *text = NULL;

	if (!value || json_is_null(value))
		return json_null();
	if (json_is_string(value))
		return json_string_length(value) ? json_string(json_string_value(value))
						 : json_null();
	text = model_json_dump(value);
	return json_string(text);
}

json_t *kube_view_node_patch(const json_t *node)
{
	const json_t *meta = json_object_get(node, "metadata");
	auto_(json) json_t *labels = node_labels(meta);
	auto_(json) json_t *annotations = copy_of(json_object_get(meta, "annotations"));
	json_t *to = json_object();

	json_object_del(annotations, KUBE_LABELS);
	for (size_t i = 0; i < array_size(node_members); i++) {
		const json_t *at = node;

		for (size_t k = 0; k < 2 && node_members[i].in[k]; k++)
			at = json_object_get(at, node_members[i].in[k]);
		json_object_set_new(to, node_members[i].annotation,
			member_text(json_object_get(at, node_members[i].member)));
	}
	json_object_set_new(to, CALICO "labels", to_annotation(labels));
	json_object_set_new(to, CALICO "annotations", to_annotation(annotations));
	return json_pack("{s:{s:o}}", "metadata", "annotations", to);
}

/* ---- WorkloadEndpoint ---- */

/* Present, and empty: the CNI plugin has taken the addresses back. */
static bool is_emptied(const json_t *annotations, const char *name)
{
	const char *s = text_of(annotations, name);

	return s && !*s;
}

static bool is_finished(const json_t *obj, const json_t *annotations)
{
	const char *phase = text_of(json_object_get(obj, "status"), "phase");

	if (phase && (strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0 ||
			     strcmp(phase, "Completed") == 0))
		return true;
	return json_object_get(json_object_get(obj, "metadata"), "deletionTimestamp") &&
	       (is_emptied(annotations, CNI "podIP") ||
		       is_emptied(annotations, "vpc.amazonaws.com/pod-ips"));
}

static void add_network(json_t *list, const char *s)
{
	struct prefix p;

	if (s && prefix_parse_host(s, &p, NULL) == 0 && prefix_is_host(&p))
		json_array_append_new(list, json_string(prefix_str(&p)));
}

static void add_networks(json_t *list, const char *commas)
{
	auto_free char *copy = mem_strdup(commas ? commas : "");
	char *save = NULL;

	for (char *s = strtok_r(copy, ",", &save); s; s = strtok_r(NULL, ",", &save))
		add_network(list, s);
}

/* The first source that has any. */
static json_t *pod_networks(const json_t *obj, const json_t *annotations)
{
	const json_t *status = json_object_get(obj, "status"), *e;
	json_t *list = json_array();
	size_t i;

	if (is_finished(obj, annotations))
		return list;
	json_array_foreach (json_object_get(status, "podIPs"), i, e)
		add_network(list, text_of(e, "ip"));
	if (json_array_size(list) == 0)
		add_network(list, text_of(status, "podIP"));
	if (json_array_size(list) == 0)
		add_networks(list, text_of(annotations, CNI "podIPs"));
	if (json_array_size(list) == 0)
		add_network(list, text_of(annotations, CNI "podIP"));
	if (json_array_size(list) == 0)
		add_networks(list, text_of(annotations, "vpc.amazonaws.com/pod-ips"));
	return list;
}

static void add_port(json_t *list, const json_t *port)
{
	const char *name = text_of(port, "name"), *protocol = text_of(port, "protocol");
	const char *host_ip = text_of(port, "hostIP");
	json_int_t host_port = json_integer_value(json_object_get(port, "hostPort"));

	if (!protocol)
		protocol = "TCP";
	if (!json_integer_value(json_object_get(port, "containerPort")) || (!name && !host_port) ||
		(strcmp(protocol, "TCP") != 0 && strcmp(protocol, "UDP") != 0 &&
			strcmp(protocol, "SCTP") != 0))
		return;
	json_array_append_new(list,
		json_pack("{s:s, s:s, s:I, s:I, s:s}", "name", name ? name : "", "protocol",
			protocol, "port",
			(json_int_t)json_integer_value(json_object_get(port, "containerPort")),
			"hostPort", host_port, "hostIP", host_ip ? host_ip : ""));
}

static void add_ports(json_t *list, const json_t *containers)
{
	const json_t *c, *port;
	size_t i, k;

	json_array_foreach (containers, i, c)
		json_array_foreach (json_object_get(c, "ports"), k, port)
			add_port(list, port);
}

static json_t *pod_ports(const json_t *spec)
{
	json_t *list = json_array();

	add_ports(list, json_object_get(spec, "containers"));
	add_ports(list, json_object_get(spec, "initContainers"));
	return list;
}

/* Floating addresses lead to the pod's of their family. */
static json_t *pod_nats(const json_t *networks, const json_t *annotations)
{
	auto_(json) json_t *given = loads(text_of(annotations, CNI "floatingIPs"));
	json_t *list = json_array(), *e, *n;
	size_t i, k;

	json_array_foreach (given, i, e)
		json_array_foreach (networks, k, n) {
			struct prefix pod;
			struct ip ip;

			if (!json_is_string(e) || ip_parse(json_string_value(e), &ip, NULL) < 0 ||
				prefix_parse(json_string_value(n), &pod, NULL) < 0 ||
				ip.family != pod.addr.family)
				continue;
			json_array_append_new(list, json_pack("{s:s, s:O}", "internalIP",
							    ip_str(&pod.addr), "externalIP", e));
			break;
		}
	return list;
}

static json_t *pod_sources(const json_t *annotations)
{
	auto_(json) json_t *given = loads(text_of(annotations, CNI "allowedSourcePrefixes"));
	json_t *list = json_array(), *e;
	struct prefix p;
	size_t i;

	json_array_foreach (given, i, e)
		if (json_is_string(e) && prefix_parse(json_string_value(e), &p, NULL) == 0) {
			p = prefix_masked(&p);
			json_array_append_new(list, json_string(prefix_str(&p)));
		}
	return list;
}

static json_t *pod_metadata(const json_t *own, const char *name, const char *account)
{
	const char *status = text_of(json_object_get(own, "annotations"), NETWORK_STATUS);
	json_t *meta = json_object(), *labels = copy_of(json_object_get(own, "labels"));

	set_text(meta, "name", name);
	set_text(meta, "generateName", text_of(own, "generateName"));
	set_text(meta, "namespace", text_of(own, "namespace"));
	set_text(meta, "uid", text_of(own, "uid"));
	set_text(meta, "creationTimestamp", text_of(own, "creationTimestamp"));
	set_text(labels, CALICO "namespace", text_of(own, "namespace"));
	set_text(labels, CALICO "orchestrator", "k8s");
	if (account && strlen(account) < 63)
		set_text(labels, CALICO "serviceaccount", account);
	json_object_set_new(meta, "labels", labels);
	if (status)
		json_object_set_new(
			meta, "annotations", json_pack("{s:s}", NETWORK_STATUS, status));
	return meta;
}

static void set_list(json_t *obj, const char *name, json_t *list)
{
	if (json_array_size(list) > 0)
		json_object_set_new(obj, name, list);
	else
		json_decref(list);
}

static json_t *pod_spec(const json_t *obj, const char *node, const char *account)
{
	const json_t *own = json_object_get(obj, "metadata"),
		     *annotations = json_object_get(own, "annotations");
	const char *ns = text_of(own, "namespace"), *pod = text_of(own, "name");
	auto_free char *profile = mem_printf("kns.%s", ns), *of = mem_printf("%s.%s", ns, pod);
	json_t *spec = json_object(), *profiles = json_pack("[s]", profile);
	json_t *networks = pod_networks(obj, annotations), *qos = kube_view_qos(annotations);
	char veth[WEP_VETH_SIZE];

	if (account) {
		auto_free char *own_profile = mem_printf("ksa.%s.%s", ns, account);

		json_array_append_new(profiles, json_string(own_profile));
	}
	set_text(spec, "orchestrator", "k8s");
	set_text(spec, "node", node);
	set_text(spec, "containerID", text_of(annotations, CNI "containerID"));
	set_text(spec, "pod", pod);
	set_text(spec, "endpoint", "eth0");
	set_text(spec, "serviceAccountName", account);
	set_list(spec, "ipNATs", pod_nats(networks, annotations));
	set_list(spec, "ipNetworks", networks);
	json_object_set_new(spec, "profiles", profiles);
	set_text(spec, "interfaceName", wep_veth_name("cali", of, veth));
	set_list(spec, "ports", pod_ports(json_object_get(obj, "spec")));
	set_list(spec, "allowSpoofedSourcePrefixes", pod_sources(annotations));
	if (qos)
		json_object_set_new(spec, "qosControls", qos);
	return spec;
}

json_t *kube_view_pod(const json_t *obj)
{
	const json_t *own = json_object_get(obj, "metadata"), *spec = json_object_get(obj, "spec");
	const char *node = text_of(spec, "nodeName"),
		   *account = text_of(spec, "serviceAccountName");
	auto_free char *name = NULL;

	if (!node || json_is_true(json_object_get(spec, "hostNetwork")) ||
		wep_name(node, "k8s", text_of(own, "name"), "eth0", &name, NULL) < 0)
		return NULL;
	if (account && !*account)
		account = NULL;
	return json_pack("{s:s, s:s, s:o, s:o}", "kind", "WorkloadEndpoint", "apiVersion",
		"projectcalico.org/v3", "metadata", pod_metadata(own, name, account), "spec",
		pod_spec(obj, node, account));
}

json_t *kube_view_pod_patch(const json_t *wep)
{
	const json_t *spec = json_object_get(wep, "spec"), *e;
	const char *first = NULL, *container = text_of(spec, "containerID");
	auto_strbuf all = STRBUF_INIT;
	json_t *to = json_object();
	size_t i;

	json_array_foreach (json_object_get(spec, "ipNetworks"), i, e) {
		if (!json_is_string(e))
			continue;
		if (!first)
			first = json_string_value(e);
		strbuf_addf(&all, "%s%s", all.len ? "," : "", json_string_value(e));
	}
	set_text(to, CNI "podIP", first ? first : "");
	set_text(to, CNI "podIPs", strbuf_str(&all));
	if (container)
		set_text(to, CNI "containerID", container);
	return json_pack("{s:{s:o}}", "metadata", "annotations", to);
}

/* ---- Profile ---- */

/* The object's own, and its name, each with the prefix; sorted. */
static json_t *profile_labels(const json_t *given, const char *prefix, const char *own)
{
	auto_(json) json_t *labels = json_object();
	auto_free char *own_label = mem_printf("%s" CALICO "name", prefix), *text = NULL;
	const char *name;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)given, name, value) {
		auto_free char *label = mem_printf("%s%s", prefix, name);

		json_object_set(labels, label, value);
	}
	set_text(labels, own_label, own);
	text = json_dumps(labels, JSON_COMPACT | JSON_SORT_KEYS);
	return loads(text);
}

json_t *kube_view_profile(const json_t *obj, bool account)
{
	const json_t *own = json_object_get(obj, "metadata");
	const char *ns = text_of(own, "namespace"), *own_name = text_of(own, "name");
	auto_free char *name =
		account ? mem_printf("ksa.%s.%s", ns, own_name) : mem_printf("kns.%s", own_name);
	json_t *spec = account ? json_object()
			       : json_pack("{s:[{s:s}], s:[{s:s}]}", "ingress", "action", "Allow",
					 "egress", "action", "Allow");
	json_t *meta = json_object();

	set_text(meta, "name", name);
	set_text(meta, "uid", text_of(own, "uid"));
	set_text(meta, "creationTimestamp", text_of(own, "creationTimestamp"));
	json_object_set_new(spec, "labelsToApply",
		profile_labels(
			json_object_get(own, "labels"), account ? "pcsa." : "pcns.", own_name));
	return json_pack("{s:s, s:s, s:o, s:o}", "kind", "Profile", "apiVersion",
		"projectcalico.org/v3", "metadata", meta, "spec", spec);
}
