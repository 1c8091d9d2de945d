/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/bgp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/parse.h"
#include "model/read.h"

void bgp_config_free(struct bgp_config *c)
{
	struct bgp_community *cm;
	struct bgp_advertisement *ad;

	if (!c)
		return;
	meta_done(&c->meta);
	free(c->mesh_secret);
	free(c->mesh_secret_key);
	free(c->log_severity);
	strings_done(&c->ignored_interfaces);
	vec_done(&c->service_cluster_ips);
	vec_done(&c->service_external_ips);
	vec_done(&c->service_lb_ips);
	vec_for_each (&c->communities, cm) {
		free(cm->name);
		free(cm->value);
	}
	vec_done(&c->communities);
	vec_for_each (&c->advertisements, ad)
		strings_done(&ad->communities);
	vec_done(&c->advertisements);
	free(c);
}

typedef __typeof__(((struct bgp_config *)NULL)->service_cluster_ips) cidrs_t;

/* [{"cidr": "10.96.0.0/16"}] */
static void read_cidrs(struct read *rd, const json_t *spec, const char *name, cidrs_t *ret)
{
	json_t *list = read_array(rd, spec, name), *e;
	struct prefix p;
	size_t i;

	json_array_foreach (list, i, e)
		if (read_element_prefix(rd, json_object_get(e, "cidr"), name, &p))
			vec_push(ret, prefix_masked(&p));
}

static bool is_community(const char *s)
{
	uint32_t v[3];
	auto_free char *copy = mem_strdup(s);
	char *save = NULL;
	unsigned n = 0;

	for (char *t = strtok_r(copy, ":", &save); t; t = strtok_r(NULL, ":", &save)) {
		if (n == 3 || parse_u32(t, 0, UINT32_MAX, &v[n], NULL) < 0)
			return false;
		n++;
	}
	return s[0] != ':' && !strstr(s, "::") && s[strlen(s) - 1] != ':' &&
	       (n == 3 || (n == 2 && v[0] <= UINT16_MAX && v[1] <= UINT16_MAX));
}

static void read_communities(struct read *rd, const json_t *spec, struct bgp_config *c)
{
	json_t *list = read_array(rd, spec, "communities"), *e;
	struct prefix p;
	size_t i;

	json_array_foreach (list, i, e) {
		struct bgp_community cm = {0};

		read_at(rd, "spec.communities[%zu]", i);
		read_str(rd, e, "name", &cm.name);
		read_str(rd, e, "value", &cm.value);
		if (!cm.name)
			read_fail(rd, "name", NULL, "a name");
		if (!cm.value || !is_community(cm.value))
			read_fail(rd, "value", json_object_get(e, "value"), "aa:nn or aa:nn:mm");
		vec_push(&c->communities, cm);
	}
	read_at(rd, "spec");
	list = read_array(rd, spec, "prefixAdvertisements");
	json_array_foreach (list, i, e) {
		struct bgp_advertisement ad = {0};
		char *const *name;

		read_at(rd, "spec.prefixAdvertisements[%zu]", i);
		if (read_element_prefix(rd, json_object_get(e, "cidr"), "cidr", &p))
			ad.cidr = prefix_masked(&p);
		read_strings(rd, e, "communities", &ad.communities);
		vec_push(&c->advertisements, ad);
		vec_for_each (&ad.communities.v, name) {
			const struct bgp_community *cm;
			bool known = is_community(*name);

			vec_for_each (&c->communities, cm)
				known = known || (cm->name && strcmp(cm->name, *name) == 0);
			if (!known)
				read_fail(rd, "communities", json_object_get(e, "communities"),
					"values, or names from spec.communities");
		}
	}
	read_at(rd, "spec");
}

int bgp_config_decode(
	const char *key, const char *text, size_t len, struct bgp_config **ret, struct err *err)
{
	static const char *const binds[] = {"None", "NodeIP", NULL};
	static const char *const routes[] = {
		"", "Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly", NULL};
	auto_(bgp_config) struct bgp_config *c = mem_new(struct bgp_config);
	unsigned bind = 0, cluster_routes = ROUTES_UNSET;
	struct read rd;
	auto_(json) json_t *j =
		read_resource(&rd, KIND_BGPCONFIGURATION, key, text, len, &c->meta, err);
	const json_t *spec = read_object(&rd, j, "spec");
	const json_t *secret =
		read_object(&rd, read_object(&rd, spec, "nodeMeshPassword"), "secretKeyRef");

	c->mesh = true;
	read_at(&rd, "spec.nodeMeshPassword.secretKeyRef");
	read_str(&rd, secret, "name", &c->mesh_secret);
	read_str(&rd, secret, "key", &c->mesh_secret_key);
	read_at(&rd, "spec");
	read_str(&rd, spec, "logSeverityScreen", &c->log_severity);
	c->mesh_set = json_is_boolean(json_object_get(spec, "nodeToNodeMeshEnabled"));
	read_bool(&rd, spec, "nodeToNodeMeshEnabled", &c->mesh);
	read_as(&rd, spec, "asNumber", &c->as);
	read_u16(&rd, spec, "listenPort", 0, &c->listen_port);
	read_duration(&rd, spec, "nodeMeshMaxRestartTime", &c->mesh_restart_ms);
	read_enum(&rd, spec, "bindMode", binds, &bind);
	read_enum(&rd, spec, "programClusterRoutes", routes, &cluster_routes);
	read_u32(&rd, spec, "ipv4NormalRoutePriority", 0, 2147483646, &c->priority4);
	read_u32(&rd, spec, "ipv6NormalRoutePriority", 0, 2147483646, &c->priority6);
	read_strings(&rd, spec, "ignoredInterfaces", &c->ignored_interfaces);
	read_cidrs(&rd, spec, "serviceClusterIPs", &c->service_cluster_ips);
	read_cidrs(&rd, spec, "serviceExternalIPs", &c->service_external_ips);
	read_cidrs(&rd, spec, "serviceLoadBalancerIPs", &c->service_lb_ips);
	read_communities(&rd, spec, c);
	if (rd.r < 0)
		return rd.r;
	c->bind_node_ip = bind == 1;
	c->cluster_routes = (enum cluster_routes)cluster_routes;
	*ret = take_ptr(c);
	return 0;
}

void bgp_peer_free(struct bgp_peer *p)
{
	if (!p)
		return;
	meta_done(&p->meta);
	free(p->node);
	free(p->node_selector);
	free(p->peer_selector);
	free(p->password_secret);
	free(p->password_key);
	free(p->local_workload_selector);
	strings_done(&p->filters);
	free(p);
}

/* "192.0.2.1", "192.0.2.1:1179", "2001:db8::1", "[2001:db8::1]:1179" */
static void read_peer_ip(struct read *rd, const json_t *spec, struct bgp_peer *p)
{
	const char *s = read_text(rd, spec, "peerIP"), *port = NULL;
	char host[IP_TEXT_SIZE];
	uint32_t number = 0;
	size_t n;

	if (!s || ip_parse(s, &p->ip, NULL) == 0)
		return;
	if (s[0] == '[') {
		s++;
		n = strcspn(s, "]");
		port = s[n] == ']' && s[n + 1] == ':' ? s + n + 2 : NULL;
	} else {
		n = strcspn(s, ":");
		port = s[n] == ':' ? s + n + 1 : NULL;
	}
	if (port && n < sizeof(host)) {
		memcpy(host, s, n);
		host[n] = '\0';
		if (ip_parse(host, &p->ip, NULL) == 0 &&
			parse_u32(port, 1, UINT16_MAX, &number, NULL) == 0) {
			p->port = (uint16_t)number;
			return;
		}
	}
	read_fail(rd, "peerIP", json_object_get(spec, "peerIP"),
		"an address, 192.0.2.1:PORT or [2001:db8::1]:PORT");
}

int bgp_peer_decode(
	const char *key, const char *text, size_t len, struct bgp_peer **ret, struct err *err)
{
	static const char *const hops[] = {"Auto", "Self", "Keep", NULL};
	static const char *const sources[] = {"UseNodeIP", "None", NULL};
	static const char *const reverse[] = {"Auto", "Manual", NULL};
	auto_(bgp_peer) struct bgp_peer *p = mem_new(struct bgp_peer);
	unsigned hop = NEXT_HOP_AUTO, source = 0, manual = 0;
	bool keep = false;
	uint32_t ttl = 0;
	struct read rd;
	auto_(json) json_t *j = read_resource(&rd, KIND_BGPPEER, key, text, len, &p->meta, err);
	const json_t *spec = read_object(&rd, j, "spec");
	const json_t *secret = read_object(&rd, read_object(&rd, spec, "password"), "secretKeyRef");

	read_at(&rd, "spec");
	read_str(&rd, spec, "node", &p->node);
	read_str(&rd, spec, "nodeSelector", &p->node_selector);
	read_peer_ip(&rd, spec, p);
	read_str(&rd, spec, "peerSelector", &p->peer_selector);
	read_as(&rd, spec, "asNumber", &p->as);
	read_as(&rd, spec, "localASNumber", &p->local_as);
	read_bool(&rd, spec, "keepOriginalNextHop", &keep);
	read_enum(&rd, spec, "nextHopMode", hops, &hop);
	read_enum(&rd, spec, "sourceAddress", sources, &source);
	read_enum(&rd, spec, "reversePeering", reverse, &manual);
	read_duration(&rd, spec, "maxRestartTime", &p->restart_ms);
	read_duration(&rd, spec, "keepaliveTime", &p->keepalive_ms);
	read_u32(&rd, spec, "numAllowedLocalASNumbers", 0, 255, &p->allowed_local_as);
	read_u32(&rd, spec, "ttlSecurity", 0, 255, &ttl);
	read_ip(&rd, spec, "reachableBy", &p->reachable_by);
	read_str(&rd, spec, "localWorkloadSelector", &p->local_workload_selector);
	read_strings(&rd, spec, "filters", &p->filters);
	read_at(&rd, "spec.password.secretKeyRef");
	read_str(&rd, secret, "name", &p->password_secret);
	read_str(&rd, secret, "key", &p->password_key);
	if (rd.r < 0)
		return rd.r;
	p->next_hop = keep && hop == NEXT_HOP_AUTO ? NEXT_HOP_KEEP : (enum bgp_next_hop)hop;
	p->source_none = source == 1;
	p->reverse_manual = manual == 1;
	p->ttl_security = (uint8_t)ttl;
	*ret = take_ptr(p);
	return 0;
}
