/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/service.h"

#include <stdlib.h>
#include <string.h>

#include "model/read.h"
#include "model/write.h"

#define AFFINITY_DEFAULT_S 10800
#define AFFINITY_MAX_S 86400

static const char *const types[] = {
	[SERVICE_CLUSTER_IP] = "ClusterIP",
	[SERVICE_NODE_PORT] = "NodePort",
	[SERVICE_LOAD_BALANCER] = "LoadBalancer",
	[SERVICE_EXTERNAL_NAME] = "ExternalName",
	NULL,
};

void service_free(struct service *s)
{
	struct service_port *p;

	if (!s)
		return;
	meta_done(&s->meta);
	vec_done(&s->cluster_ips);
	vec_for_each (&s->ports, p) {
		free(p->name);
		free(p->target_name);
	}
	vec_done(&s->ports);
	labels_done(&s->selector);
	vec_done(&s->external_ips);
	vec_done(&s->lb_ips);
	vec_done(&s->lb_source_ranges);
	free(s->external_name);
	free(s);
}

static void read_ports(struct read *rd, const json_t *spec, struct service *s)
{
	json_t *list = read_array(rd, spec, "ports"), *e;
	size_t i;

	vec_reserve(&s->ports, json_array_size(list));
	json_array_foreach (list, i, e) {
		struct service_port p = {0};
		const json_t *target = json_object_get(e, "targetPort");

		read_at(rd, "spec.ports[%zu]", i);
		read_str(rd, e, "name", &p.name);
		if (!p.name)
			p.name = mem_strdup("");
		read_protocol(rd, e, &p.protocol);
		if (!json_object_get(e, "port"))
			read_fail(rd, "port", NULL, "a number from 1 to 65535");
		read_u16(rd, e, "port", 1, &p.port);
		read_u16(rd, e, "nodePort", 0, &p.node_port);
		if (json_is_string(target))
			read_str(rd, e, "targetPort", &p.target_name);
		else
			read_u16(rd, e, "targetPort", 0, &p.target_port);
		if (p.target_port == 0 && !p.target_name)
			p.target_port = p.port;
		vec_push(&s->ports, p);
	}
	read_at(rd, "spec");
}

static void add_cluster_ip(struct read *rd, const json_t *e, const char *name, struct service *s)
{
	struct ip ip;

	if (json_is_string(e) && strcmp(json_string_value(e), "None") == 0) {
		s->headless = true;
		return;
	}
	if (!read_element_ip(rd, e, name, &ip))
		return;
	for (size_t i = 0; i < s->cluster_ips.n; i++)
		if (ip_equal(&s->cluster_ips.v[i], &ip))
			return;
	vec_push(&s->cluster_ips, ip);
}

static void read_addresses(struct read *rd, const json_t *spec, struct service *s)
{
	json_t *list = read_array(rd, spec, "clusterIPs"), *e;
	struct prefix p;
	struct ip ip;
	size_t i;

	/* clusterIP is the first of clusterIPs, or all that an older writer gave. */
	if (read_text(rd, spec, "clusterIP"))
		add_cluster_ip(rd, json_object_get(spec, "clusterIP"), "clusterIP", s);
	json_array_foreach (list, i, e)
		add_cluster_ip(rd, e, "clusterIPs", s);
	list = read_array(rd, spec, "externalIPs");
	json_array_foreach (list, i, e)
		if (read_element_ip(rd, e, "externalIPs", &ip))
			vec_push(&s->external_ips, ip);
	list = read_array(rd, spec, "loadBalancerSourceRanges");
	json_array_foreach (list, i, e)
		if (read_element_prefix(rd, e, "loadBalancerSourceRanges", &p))
			vec_push(&s->lb_source_ranges, prefix_masked(&p));
}

static void read_status(struct read *rd, const json_t *j, struct service *s)
{
	const json_t *lb = read_object(rd, read_object(rd, j, "status"), "loadBalancer");
	json_t *list = read_array(rd, lb, "ingress"), *e;
	size_t i;

	json_array_foreach (list, i, e) {
		struct ip ip = {0};
		const char *mode;

		read_at(rd, "status.loadBalancer.ingress[%zu]", i);
		mode = read_text(rd, e, "ipMode");
		read_ip(rd, e, "ip", &ip);
		if (ip.family != IP_NONE && (!mode || strcmp(mode, "VIP") == 0))
			vec_push(&s->lb_ips, ip);
	}
}

static void read_policies(struct read *rd, const json_t *spec, struct service *s)
{
	static const char *const affinities[] = {"None", "ClientIP", NULL};
	static const char *const policies[] = {"Cluster", "Local", NULL};
	unsigned affinity = 0, internal = 0, external = 0;
	uint32_t timeout = AFFINITY_DEFAULT_S;
	const json_t *client_ip;

	read_enum(rd, spec, "internalTrafficPolicy", policies, &internal);
	read_enum(rd, spec, "externalTrafficPolicy", policies, &external);
	read_enum(rd, spec, "sessionAffinity", affinities, &affinity);
	client_ip = read_object(rd, read_object(rd, spec, "sessionAffinityConfig"), "clientIP");
	read_at(rd, "spec.sessionAffinityConfig.clientIP");
	read_u32(rd, client_ip, "timeoutSeconds", 1, AFFINITY_MAX_S, &timeout);
	read_at(rd, "spec");
	s->internal_local = internal == 1;
	s->external_local = external == 1;
	s->affinity_s = affinity == 1 ? timeout : 0;
}

int service_decode(
	const char *key, const char *text, size_t len, struct service **ret, struct err *err)
{
	auto_(service) struct service *s = mem_new(struct service);
	unsigned type = SERVICE_CLUSTER_IP;
	struct read rd;
	auto_(json) json_t *j = read_resource(&rd, KIND_SERVICE, key, text, len, &s->meta, err);
	const json_t *spec = read_object(&rd, j, "spec");

	read_at(&rd, "spec");
	read_enum(&rd, spec, "type", types, &type);
	read_ports(&rd, spec, s);
	read_addresses(&rd, spec, s);
	read_policies(&rd, spec, s);
	read_labels(&rd, spec, "selector", &s->selector);
	s->has_selector = s->selector.v.n > 0;
	read_u16(&rd, spec, "healthCheckNodePort", 0, &s->health_check_node_port);
	read_bool(&rd, spec, "publishNotReadyAddresses", &s->publish_not_ready);
	read_str(&rd, spec, "externalName", &s->external_name);
	read_status(&rd, j, s);
	if (rd.r < 0)
		return rd.r;
	s->type = (enum service_type)type;
	*ret = take_ptr(s);
	return 0;
}

char *service_encode(const struct service *s, const char *base)
{
	json_t *j = write_resource(KIND_SERVICE, base, &s->meta), *spec = write_object(j, "spec");
	json_t *ports = json_object_get(spec, "ports"), *list = NULL, *e;
	size_t i;

	write_str(spec, "type", types[s->type]);
	json_array_foreach (ports, i, e)
		if (i < s->ports.n)
			write_u32(e, "nodePort", s->ports.v[i].node_port);
	if (!s->headless) {
		for (i = 0; i < s->cluster_ips.n; i++) {
			if (!list)
				list = json_array();
			json_array_append_new(list, json_string(ip_str(&s->cluster_ips.v[i])));
		}
		write_str(spec, "clusterIP", json_string_value(json_array_get(list, 0)));
		write_json(spec, "clusterIPs", list);
	}
	return write_text(j, KIND_SERVICE);
}
