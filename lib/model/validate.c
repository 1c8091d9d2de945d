/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/parse.h"
#include "model/bgp.h"
#include "model/cluster.h"
#include "model/endpointslice.h"
#include "model/felixconfig.h"
#include "model/ippool.h"
#include "model/ipreservation.h"
#include "model/json.h"
#include "model/meta.h"
#include "model/node.h"
#include "model/order.h"
#include "model/read.h"
#include "model/resource.h"
#include "model/selector.h"
#include "model/service.h"
#include "model/wep.h"

/* One object under examination. text is j's, and has been decoded by the kind's decoder. */
struct check {
	struct read rd;
	json_t *spec;
	const json_t *old, *old_spec;
	const char *text;
	size_t len;
	char key[KEY_SIZE];
	const struct key *id;
	const struct resource_others *others;
};

static void fail_at(struct check *c, const char *name, const char *want)
{
	read_fail(&c->rd, name, json_object_get(c->spec, name), "%s", want);
}

static bool is_set(const json_t *obj, const char *name)
{
	const json_t *j = json_object_get(obj, name);

	return j && !json_is_null(j) && !(json_is_string(j) && json_string_length(j) == 0);
}

/* The decoder has failed already. */
static void failed(struct check *c, int r)
{
	if (c->rd.r == 0)
		c->rd.r = r;
}

static void check_selector(struct check *c, const char *name, bool global_ok)
{
	const char *text = json_string_value(json_object_get(c->spec, name));
	auto_(selector) struct selector *s = NULL;
	struct err why = ERR_INIT;

	if (c->rd.r < 0 || !text)
		return;
	if (selector_parse(text, &s, &why) < 0)
		read_fail(&c->rd, name, NULL, "a selector: %s", why.text);
	else if (!global_ok && selector_has_global(s))
		fail_at(c, name, "a selector without global()");
}

static void check_immutable(struct check *c, const char *name)
{
	const json_t *a = json_object_get(c->old_spec, name), *b = json_object_get(c->spec, name);

	if (c->rd.r == 0 && a && !json_equal(a, b)) {
		auto_free char *was = json_dumps(a, JSON_COMPACT | JSON_ENCODE_ANY);

		read_fail(&c->rd, name, b, "%s as it was: it cannot change, create another %s", was,
			kind_info(c->id->kind)->name);
	}
}

static void check_name(struct check *c, bool node_ok)
{
	if (strcmp(c->id->name, "default") != 0 &&
		!(node_ok && strncmp(c->id->name, "node.", 5) == 0 && c->id->name[5] != '\0'))
		read_fail(&c->rd, "metadata.name", NULL, "\"default\"%s, got \"%s\"",
			node_ok ? " or \"node.NAME\"" : "", c->id->name);
}

/* RFC 7607: no AS has the number 0. as: as it was decoded. */
static void check_as(struct check *c, const json_t *obj, const char *name, uint32_t as)
{
	if (is_set(obj, name) && as == 0)
		read_fail(&c->rd, name, json_object_get(obj, name), "1 to 4294967295");
}

/* "None" is what confd takes all others for. */
static void check_severity(struct check *c, const char *name)
{
	static const char *const words[] = {
		"Trace", "Debug", "Info", "Warning", "Error", "Fatal", "None", NULL};
	unsigned i;

	read_enum(&c->rd, c->spec, name, words, &i);
}

static void check_labels(struct check *c, const json_t *j)
{
	json_t *labels = json_object_get(json_object_get(j, "metadata"), "labels"), *e;
	const char *name;

	json_object_foreach (labels, name, e) {
		const char *value = json_string_value(e);

		read_at(&c->rd, "metadata");
		if (!label_name_ok(name))
			read_fail(&c->rd, "labels", NULL,
				"names as [prefix/]name, of 1 to 63 letters, digits and \"-_.\", first "
				"and last a letter or a digit, got \"%.64s\"",
				name);
		read_at(&c->rd, "metadata.labels");
		if (value && !label_value_ok(value))
			read_fail(&c->rd, name, e,
				"at most 63 letters, digits and \"-_.\", first and last a letter or a "
				"digit");
	}
}

/* Members of spec that nobody knows are typing errors, unless they were stored before. */
static void check_members(struct check *c)
{
	const char *members = order_of(c->id->kind, "spec"), *name;
	json_t *e;

	if (!members || *members == '\0')
		return;
	json_object_foreach (c->spec, name, e) {
		size_t n = strlen(name);
		const char *p = members;
		bool known = false;

		while (!known && (p = strstr(p, name))) {
			known = (p == members || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0');
			p += n;
		}
		if (!known && !json_object_get(c->old_spec, name))
			read_fail(&c->rd, name, NULL, "one of: %s", members);
	}
}

/*
 * Pools.
 */
static void check_overlap(struct check *c, const struct ippool *p)
{
	for (size_t i = 0; c->others && i < c->others->n; i++) {
		const struct resource_other *other = &c->others->v[i];
		auto_(ippool) struct ippool *o = NULL;
		struct err why = ERR_INIT;

		if (strcmp(other->key, c->key) == 0 || c->rd.r < 0)
			continue;
		if (ippool_decode(other->key, other->text, strlen(other->text), &o, &why) < 0)
			failed(c, err_set(c->rd.err, -EINVAL,
					  "%s: it may overlap %s, which cannot be decoded: apply "
					  "that anew, or delete it (%s)",
					  c->rd.what, other->key, why.text));
		else if (prefix_overlap(&o->cidr, &p->cidr))
			read_fail(&c->rd, "cidr", json_object_get(c->spec, "cidr"),
				"no overlap with IPPool %s, which is %s", o->meta.name,
				prefix_str(&o->cidr));
	}
}

/* Has addresses that no pod can be reached by. */
static bool is_special(const struct prefix *p)
{
	static const char *const ranges[] = {
		"127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "::1/128", "fe80::/10", "ff00::/8"};
	struct prefix range;

	for (unsigned i = 0; i < array_size(ranges); i++)
		if (prefix_parse(ranges[i], &range, NULL) == 0 && prefix_overlap(&range, p))
			return true;
	return false;
}

static void check_pool_uses(struct check *c, const struct ippool *p)
{
	if (p->allowed_uses & POOL_LOADBALANCER) {
		if (p->allowed_uses != POOL_LOADBALANCER)
			fail_at(c, "allowedUses", "LoadBalancer alone");
		if (p->ipip != ENCAP_NEVER || p->vxlan != ENCAP_NEVER)
			fail_at(c, "allowedUses", "no encapsulation with LoadBalancer");
		if (p->disable_bgp_export)
			fail_at(c, "disableBGPExport", "false with LoadBalancer");
		if (strcmp(p->node_selector, "all()") != 0)
			fail_at(c, "nodeSelector", "all() with LoadBalancer");
	}
	if ((p->allowed_uses & POOL_TUNNEL) && p->namespace_selector)
		fail_at(c, "namespaceSelector",
			"none while allowedUses has Tunnel: say allowedUses: [Workload]");
}

/* By what they mean: a blockSize that was never stored is Calico's. */
static void check_pool_stays(struct check *c, const struct ippool *p, const struct ippool *old)
{
	static const char why[] = "as it was: it cannot change, create another IPPool";

	if (!prefix_equal(&old->cidr, &p->cidr))
		read_fail(&c->rd, "cidr", json_object_get(c->spec, "cidr"), "\"%s\" %s",
			prefix_str(&old->cidr), why);
	if (old->block_plen != p->block_plen)
		read_fail(&c->rd, "blockSize", json_object_get(c->spec, "blockSize"), "%u %s",
			old->block_plen, why);
}

static void check_pool(struct check *c)
{
	auto_(ippool) struct ippool *p = NULL, *old = NULL;
	auto_free char *old_text = c->old ? model_json_dump(c->old) : NULL;
	int r = ippool_decode(c->key, c->text, c->len, &p, c->rd.err);
	const char *cidr = json_string_value(json_object_get(c->spec, "cidr"));
	struct prefix given;
	bool v6;

	if (r < 0) {
		failed(c, r);
		return;
	}
	v6 = p->cidr.addr.family == IP_V6;
	if (prefix_parse(cidr, &given, NULL) == 0 && !prefix_is_masked(&given))
		read_fail(&c->rd, "cidr", json_object_get(c->spec, "cidr"),
			"%s, without bits beyond the length", prefix_str(&p->cidr));
	/* What is broken beyond reading has nothing that should not change. */
	if (old_text && ippool_decode(c->key, old_text, strlen(old_text), &old, NULL) == 0)
		check_pool_stays(c, p, old);
	if (is_special(&p->cidr))
		fail_at(c, "cidr", "no loopback, link-local or multicast addresses");
	if (p->ipip != ENCAP_NEVER && p->vxlan != ENCAP_NEVER)
		fail_at(c, "vxlanMode", "Never, as ipipMode is not");
	if (p->ipip != ENCAP_NEVER && v6)
		fail_at(c, "ipipMode", "Never: IPIP carries IPv4 only");
	check_pool_uses(c, p);
	check_selector(c, "nodeSelector", false);
	check_selector(c, "namespaceSelector", false);
	/* One that is enabled already may be edited, and disabled, whatever lies beside it. */
	if (!old || (old->disabled && !p->disabled))
		check_overlap(c, p);
}

/*
 * BGP.
 */
static void check_bgp_config(struct check *c)
{
	static const char *const cluster_wide[] = {"nodeToNodeMeshEnabled", "asNumber",
		"serviceLoadBalancerIPs", "serviceExternalIPs", "serviceClusterIPs", "communities",
		"nodeMeshPassword", "nodeMeshMaxRestartTime", "listenPort"};
	auto_(bgp_config) struct bgp_config *b = NULL;
	int r = bgp_config_decode(c->key, c->text, c->len, &b, c->rd.err);

	if (r < 0) {
		failed(c, r);
		return;
	}
	read_at(&c->rd, "%s", "");
	check_name(c, true);
	read_at(&c->rd, "spec");
	for (unsigned i = 0; i < array_size(cluster_wide); i++)
		if (strcmp(c->id->name, "default") != 0 && is_set(c->spec, cluster_wide[i]))
			fail_at(c, cluster_wide[i], "it in BGPConfiguration \"default\" only");
	if (!b->mesh && is_set(c->spec, "nodeMeshPassword"))
		fail_at(c, "nodeMeshPassword", "none while nodeToNodeMeshEnabled is false");
	if (!b->mesh && is_set(c->spec, "nodeMeshMaxRestartTime"))
		fail_at(c, "nodeMeshMaxRestartTime", "none while nodeToNodeMeshEnabled is false");
	if (b->communities.n > 0 && b->advertisements.n == 0)
		fail_at(c, "communities", "prefixAdvertisements that use them");
	check_as(c, c->spec, "asNumber", b->as);
	check_severity(c, "logSeverityScreen");
}

static void check_peer(struct check *c)
{
	auto_(bgp_peer) struct bgp_peer *p = NULL;
	int r = bgp_peer_decode(c->key, c->text, c->len, &p, c->rd.err);
	bool by_ip;

	if (r < 0) {
		failed(c, r);
		return;
	}
	by_ip = p->ip.family != IP_NONE;
	if (p->node && p->node_selector)
		fail_at(c, "nodeSelector", "either node or nodeSelector");
	if (by_ip && p->peer_selector)
		fail_at(c, "peerSelector", "either peerIP or peerSelector");
	if (p->local_workload_selector && (by_ip || p->peer_selector))
		fail_at(c, "localWorkloadSelector", "neither peerIP nor peerSelector with it");
	if (!by_ip && !p->peer_selector && !p->local_workload_selector)
		fail_at(c, "peerIP", "peerIP, peerSelector or localWorkloadSelector");
	if (p->peer_selector && p->as != 0)
		fail_at(c, "asNumber", "none with peerSelector: nodes have their own");
	if ((by_ip || p->local_workload_selector) && p->as == 0)
		fail_at(c, "asNumber", "the peer's AS number");
	check_as(c, c->spec, "localASNumber", p->local_as);
	if (p->reachable_by.family != IP_NONE && (!by_ip || p->reachable_by.family != p->ip.family))
		fail_at(c, "reachableBy", "an address of peerIP's family");
	if (json_is_true(json_object_get(c->spec, "keepOriginalNextHop")) &&
		is_set(c->spec, "nextHopMode"))
		fail_at(c, "nextHopMode", "either keepOriginalNextHop or nextHopMode");
	if (is_set(c->spec, "password") && (!p->password_secret || !p->password_key))
		fail_at(c, "password", "secretKeyRef with name and key");
	check_selector(c, "nodeSelector", false);
	check_selector(c, "peerSelector", false);
	check_selector(c, "localWorkloadSelector", false);
}

/*
 * Nodes, endpoints, cluster.
 */
static void check_node(struct check *c)
{
	auto_(node) struct node *n = NULL;
	int r = node_decode(c->key, c->text, c->len, &n, c->rd.err);
	const json_t *bgp = json_object_get(c->spec, "bgp");

	if (r < 0) {
		failed(c, r);
		return;
	}
	if (json_is_object(bgp) && json_object_size(bgp) == 0)
		fail_at(c, "bgp", "ipv4Address, asNumber, ..., or no bgp at all");
	read_at(&c->rd, "spec.bgp");
	check_as(c, bgp, "asNumber", n->as);
}

static void check_wep(struct check *c)
{
	auto_(wep) struct wep *w = NULL;
	auto_free char *name = NULL;
	int r = wep_decode(c->key, c->text, c->len, &w, c->rd.err);
	bool k8s, cni;

	if (r == 0) {
		k8s = w->orchestrator && strcmp(w->orchestrator, "k8s") == 0;
		cni = w->orchestrator && strcmp(w->orchestrator, "cni") == 0;
		r = wep_name(w->node, w->orchestrator,
			k8s   ? w->pod
			: cni ? w->container_id
			      : w->workload,
			w->endpoint, &name, c->rd.err);
		if (r < 0)
			err_wrap(c->rd.err, r, "%s", c->rd.what);
	}
	if (!name) {
		failed(c, r);
		return;
	}
	if (strcmp(name, c->id->name) != 0) {
		read_at(&c->rd, "metadata");
		read_fail(&c->rd, "name", NULL,
			"%s, which follows from node, orchestrator, workload and endpoint", name);
	}
	if (w->interface && (strlen(w->interface) > 15 || !key_name_ok(w->interface)))
		fail_at(c, "interfaceName", "at most 15 characters");
}

static void check_cluster(struct check *c)
{
	auto_(cluster_info) struct cluster_info *i = NULL;
	int r = cluster_info_decode(c->key, c->text, c->len, &i, c->rd.err);

	if (r < 0) {
		failed(c, r);
		return;
	}
	read_at(&c->rd, "%s", "");
	check_name(c, false);
}

static void check_ipam_config(struct check *c)
{
	bool strict = false, automatic = true;
	uint32_t max = 0, cooldown = 0;

	read_bool(&c->rd, c->spec, "strictAffinity", &strict);
	read_bool(&c->rd, c->spec, "autoAllocateBlocks", &automatic);
	read_u32(&c->rd, c->spec, "maxBlocksPerHost", 0, INT32_MAX, &max);
	read_u32(&c->rd, c->spec, "ipCooldownSeconds", 0, 1200, &cooldown);
	if (!strict && !automatic)
		fail_at(c, "autoAllocateBlocks", "true, as strictAffinity is false");
	if (max > 0 && !strict)
		fail_at(c, "maxBlocksPerHost", "0, or strictAffinity: true");
	read_at(&c->rd, "%s", "");
	check_name(c, false);
}

static void check_reservation(struct check *c)
{
	auto_(ipreservation) struct ipreservation *res = NULL;
	int r = ipreservation_decode(c->key, c->text, c->len, &res, c->rd.err);

	if (r < 0)
		failed(c, r);
}

/*
 * Felix. What its daemon reads is checked here; the other settings of Calico's are kept.
 */
enum setting { SETTING_BOOL, SETTING_NUMBER, SETTING_DURATION, SETTING_IP };

static void check_felix(struct check *c)
{
	static const struct {
		const char *name;
		enum setting type;
	} settings[] = {
		{"ipipEnabled", SETTING_BOOL},
		{"vxlanEnabled", SETTING_BOOL},
		{"removeExternalRoutes", SETTING_BOOL},
		{"healthEnabled", SETTING_BOOL},
		{"prometheusMetricsEnabled", SETTING_BOOL},
		{"ipipMTU", SETTING_NUMBER},
		{"vxlanMTU", SETTING_NUMBER},
		{"vxlanPort", SETTING_NUMBER},
		{"vxlanVNI", SETTING_NUMBER},
		{"deviceRouteProtocol", SETTING_NUMBER},
		{"healthPort", SETTING_NUMBER},
		{"prometheusMetricsPort", SETTING_NUMBER},
		{"ipv4NormalRoutePriority", SETTING_NUMBER},
		{"routeRefreshInterval", SETTING_DURATION},
		{"interfaceRefreshInterval", SETTING_DURATION},
		{"reportingInterval", SETTING_DURATION},
		{"deviceRouteSourceAddress", SETTING_IP},
		{"natOutgoingAddress", SETTING_IP},
	};
	auto_(felix_config) struct felix_config *f = NULL;
	int r = felix_config_decode(c->key, c->text, c->len, &f, c->rd.err);

	if (r < 0) {
		failed(c, r);
		return;
	}
	for (unsigned i = 0; i < array_size(settings); i++) {
		const char *name = settings[i].name;
		struct ip ip;
		int64_t ms;
		uint32_t n;
		bool on;

		switch (settings[i].type) {
		case SETTING_BOOL:
			read_bool(&c->rd, c->spec, name, &on);
			break;
		case SETTING_NUMBER:
			read_u32(&c->rd, c->spec, name, 0, INT32_MAX, &n);
			break;
		case SETTING_DURATION:
			read_duration(&c->rd, c->spec, name, &ms);
			break;
		case SETTING_IP:
			read_ip(&c->rd, c->spec, name, &ip);
			break;
		}
	}
	check_severity(c, "logSeverityScreen");
	check_severity(c, "logSeverityFile");
	check_severity(c, "logSeveritySys");
	check_selector(c, "nodeSelector", false);
	read_at(&c->rd, "%s", "");
	if (!f->node_selector)
		check_name(c, true);
}

/*
 * Services.
 */
static void check_ports(struct check *c, const struct service *s)
{
	for (size_t i = 0; i < s->ports.n; i++) {
		const struct service_port *p = &s->ports.v[i];

		read_at(&c->rd, "spec.ports[%zu]", i);
		if (s->ports.n > 1 && p->name[0] == '\0')
			read_fail(&c->rd, "name", NULL, "a name, as there are several ports");
		for (size_t k = 0; k < i; k++) {
			const struct service_port *q = &s->ports.v[k];

			if (strcmp(p->name, q->name) == 0)
				read_fail(&c->rd, "name", NULL, "another than \"%s\" of ports[%zu]",
					q->name, k);
			if (p->port == q->port && p->protocol == q->protocol)
				read_fail(&c->rd, "port", NULL,
					"another port or protocol than ports[%zu]", k);
			if (p->node_port != 0 && p->node_port == q->node_port &&
				p->protocol == q->protocol)
				read_fail(&c->rd, "nodePort", NULL, "another than ports[%zu]", k);
		}
	}
	read_at(&c->rd, "spec");
}

static void check_service(struct check *c)
{
	auto_(service) struct service *s = NULL;
	int r = service_decode(c->key, c->text, c->len, &s, c->rd.err);
	const json_t *old_type = json_object_get(c->old_spec, "type");

	if (r < 0) {
		failed(c, r);
		return;
	}
	if (s->type == SERVICE_EXTERNAL_NAME) {
		if (!s->external_name)
			fail_at(c, "externalName", "a DNS name");
		if (s->cluster_ips.n > 0)
			fail_at(c, "clusterIP", "none with type ExternalName");
		return;
	}
	if (s->ports.n == 0 && !s->headless)
		fail_at(c, "ports", "at least one port");
	if (s->headless && (s->type != SERVICE_CLUSTER_IP || s->cluster_ips.n > 0))
		fail_at(c, "clusterIP", "None with type ClusterIP alone");
	if (s->cluster_ips.n > 2 ||
		(s->cluster_ips.n == 2 && s->cluster_ips.v[0].family == s->cluster_ips.v[1].family))
		fail_at(c, "clusterIPs", "one address of each family");
	if (is_set(c->old_spec, "clusterIP") &&
		!(json_is_string(old_type) &&
			strcmp(json_string_value(old_type), "ExternalName") == 0))
		check_immutable(c, "clusterIP");
	check_ports(c, s);
}

static void check_slice(struct check *c)
{
	auto_(endpointslice) struct endpointslice *s = NULL;
	int r = endpointslice_decode(c->key, c->text, c->len, &s, c->rd.err);

	if (r < 0)
		failed(c, r);
	else if (!s->service)
		read_fail(&c->rd, "metadata.labels", NULL,
			LABEL_SERVICE_NAME " with the name of a Service");
}

int resource_validate(const json_t *j, const struct key *key, const json_t *old,
	const struct resource_others *others, struct err *err)
{
	static void (*const checks[])(struct check *) = {
		[KIND_NODE] = check_node,
		[KIND_IPPOOL] = check_pool,
		[KIND_IPRESERVATION] = check_reservation,
		[KIND_IPAMCONFIGURATION] = check_ipam_config,
		[KIND_BGPCONFIGURATION] = check_bgp_config,
		[KIND_BGPPEER] = check_peer,
		[KIND_FELIXCONFIGURATION] = check_felix,
		[KIND_CLUSTERINFORMATION] = check_cluster,
		[KIND_WORKLOADENDPOINT] = check_wep,
		[KIND_SERVICE] = check_service,
		[KIND_ENDPOINTSLICE] = check_slice,
	};
	auto_free char *text = model_json_dump(j);
	struct check c = {
		.spec = json_object_get(j, "spec"),
		.old = old,
		.old_spec = json_object_get(old, "spec"),
		.text = text,
		.len = strlen(text),
		.id = key,
		.others = others,
	};
	struct meta m = {0};
	json_t *again;

	_Static_assert(array_size(checks) == N_KINDS, "every kind has a check");
	if (c.len > MODEL_VALUE_MAX)
		return err_set(err, -EINVAL, "%s %s: %zu bytes, want at most %d",
			kind_info(key->kind)->name, key->name, c.len, MODEL_VALUE_MAX);
	key_format(key->kind, key->ns, key->name, c.key);
	again = read_resource(&c.rd, key->kind, c.key, text, c.len, &m, err);
	json_decref(again);
	meta_done(&m);
	if (c.rd.r < 0)
		return c.rd.r;
	check_labels(&c, j);
	read_at(&c.rd, "%s", key->kind == KIND_ENDPOINTSLICE ? "" : "spec");
	check_members(&c);
	if (c.rd.r == 0)
		checks[key->kind](&c);
	return c.rd.r;
}
