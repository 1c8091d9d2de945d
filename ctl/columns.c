/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/columns.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "model/bgp.h"
#include "model/cluster.h"
#include "model/endpointslice.h"
#include "model/ippool.h"
#include "model/json.h"
#include "model/key.h"
#include "model/node.h"
#include "model/service.h"
#include "model/wep.h"

/* One row to be: its cells are added when all of them are known. */
struct row {
	const char *key, *text;
	size_t len;
	const struct columns *c;
	struct table *t;
	struct err *err;
};

static const char *yes(bool on)
{
	return on ? "true" : "false";
}

static const char *or_dash(const char *s)
{
	return s ? s : "-";
}

static void add_name(const struct row *row, const char *name)
{
	struct key key;

	if (row->c->with_namespace && key_parse(row->key, &key))
		table_add(row->t, key.ns);
	table_add(row->t, name);
}

static int row_node(const struct row *row)
{
	auto_(node) struct node *n = NULL;
	int r = node_decode(row->key, row->text, row->len, &n, row->err);

	if (r < 0)
		return r;
	add_name(row, n->meta.name);
	if (!row->c->wide)
		return 0;
	if (n->as != 0)
		table_addf(row->t, "%u", n->as);
	else
		table_addf(row->t, "(%u)", row->c->cluster_as);
	table_add(row->t, n->ipv4.addr.family != IP_NONE ? prefix_str(&n->ipv4) : "");
	table_add(row->t, n->ipv6.addr.family != IP_NONE ? prefix_str(&n->ipv6) : "");
	return 0;
}

static int row_ippool(const struct row *row)
{
	auto_(ippool) struct ippool *p = NULL;
	int r = ippool_decode(row->key, row->text, row->len, &p, row->err);

	if (r < 0)
		return r;
	add_name(row, p->meta.name);
	table_add(row->t, prefix_str(&p->cidr));
	if (row->c->wide) {
		table_add(row->t, yes(p->nat_outgoing));
		table_add(row->t, encap_mode_str(p->ipip));
		table_add(row->t, encap_mode_str(p->vxlan));
		table_add(row->t, yes(p->disabled));
		table_add(row->t, yes(p->disable_bgp_export));
	}
	table_add(row->t, p->node_selector);
	if (row->c->wide)
		table_add(row->t, p->manual ? "Manual" : "Automatic");
	return 0;
}

static int row_bgp_config(const struct row *row)
{
	auto_(bgp_config) struct bgp_config *b = NULL;
	int r = bgp_config_decode(row->key, row->text, row->len, &b, row->err);

	if (r < 0)
		return r;
	add_name(row, b->meta.name);
	table_add(row->t, or_dash(b->log_severity));
	table_add(row->t, b->mesh_set ? yes(b->mesh) : "-");
	if (b->as != 0)
		table_addf(row->t, "%u", b->as);
	else
		table_add(row->t, "-");
	return 0;
}

static int row_peer(const struct row *row)
{
	auto_(bgp_peer) struct bgp_peer *p = NULL;
	int r = bgp_peer_decode(row->key, row->text, row->len, &p, row->err);

	if (r < 0)
		return r;
	add_name(row, p->meta.name);
	if (p->port != 0)
		table_addf(row->t, p->ip.family == IP_V6 ? "[%s]:%u" : "%s:%u", ip_str(&p->ip),
			p->port);
	else
		table_add(row->t, p->peer_selector ? p->peer_selector : ip_str(&p->ip));
	table_add(row->t, p->node ? p->node : p->node_selector ? p->node_selector : "(global)");
	table_addf(row->t, "%u", p->as);
	return 0;
}

static int row_cluster(const struct row *row)
{
	auto_(cluster_info) struct cluster_info *c = NULL;
	int r = cluster_info_decode(row->key, row->text, row->len, &c, row->err);

	if (r < 0)
		return r;
	add_name(row, c->meta.name);
	table_add(row->t, c->guid ? c->guid : "");
	table_add(row->t, c->type ? c->type : "");
	table_add(row->t, c->version ? c->version : "");
	table_add(row->t, yes(c->ready));
	return 0;
}

static int row_wep(const struct row *row)
{
	auto_(wep) struct wep *w = NULL;
	auto_strbuf networks = STRBUF_INIT;
	char *const *profile;
	auto_strbuf profiles = STRBUF_INIT;
	int r = wep_decode(row->key, row->text, row->len, &w, row->err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < w->networks.n; i++)
		strbuf_addf(&networks, "%s%s", i > 0 ? "," : "", prefix_str(&w->networks.v[i]));
	vec_for_each (&w->profiles.v, profile)
		strbuf_addf(&profiles, "%s%s", profiles.len > 0 ? "," : "", *profile);
	if (row->c->wide) {
		add_name(row, w->meta.name);
		table_add(row->t, w->pod ? w->pod : w->workload ? w->workload : "");
	} else {
		add_name(row, w->pod ? w->pod : w->workload ? w->workload : w->meta.name);
	}
	table_add(row->t, w->node ? w->node : "");
	table_add(row->t, strbuf_str(&networks));
	table_add(row->t, w->interface ? w->interface : "");
	if (row->c->wide) {
		table_add(row->t, strbuf_str(&profiles));
		table_add(row->t, "");
	}
	return 0;
}

static const char *protocol_name(uint8_t protocol)
{
	return protocol == IPPROTO_UDP ? "UDP" : protocol == IPPROTO_SCTP ? "SCTP" : "TCP";
}

static int row_service(const struct row *row)
{
	static const char *const types[] = {
		"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"};
	auto_(service) struct service *s = NULL;
	auto_strbuf ips = STRBUF_INIT, external = STRBUF_INIT, ports = STRBUF_INIT;
	auto_strbuf selector = STRBUF_INIT;
	const struct label *l;
	int r = service_decode(row->key, row->text, row->len, &s, row->err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < s->cluster_ips.n; i++)
		strbuf_addf(&ips, "%s%s", i > 0 ? "," : "", ip_str(&s->cluster_ips.v[i]));
	for (size_t i = 0; i < s->external_ips.n; i++)
		strbuf_addf(&external, "%s%s", i > 0 ? "," : "", ip_str(&s->external_ips.v[i]));
	for (size_t i = 0; i < s->lb_ips.n; i++)
		strbuf_addf(
			&external, "%s%s", external.len > 0 ? "," : "", ip_str(&s->lb_ips.v[i]));
	if (s->external_name)
		strbuf_add(&external, s->external_name);
	for (size_t i = 0; i < s->ports.n; i++) {
		const struct service_port *p = &s->ports.v[i];

		strbuf_addf(&ports, "%s%u", i > 0 ? "," : "", p->port);
		if (p->node_port != 0)
			strbuf_addf(&ports, ":%u", p->node_port);
		strbuf_addf(&ports, "/%s", protocol_name(p->protocol));
	}
	vec_for_each (&s->selector.v, l)
		strbuf_addf(&selector, "%s%s=%s", selector.len > 0 ? "," : "", l->name, l->value);
	add_name(row, s->meta.name);
	table_add(row->t, types[s->type]);
	table_add(row->t, s->headless ? "None" : ips.len > 0 ? ips.s : "<none>");
	table_add(row->t, external.len > 0 ? external.s : "<none>");
	table_add(row->t, ports.len > 0 ? ports.s : "<none>");
	if (row->c->wide)
		table_add(row->t, selector.len > 0 ? selector.s : "<none>");
	return 0;
}

static int row_slice(const struct row *row)
{
	static const char *const families[] = {
		[IP_NONE] = "FQDN", [IP_V4] = "IPv4", [IP_V6] = "IPv6"};
	auto_(endpointslice) struct endpointslice *s = NULL;
	auto_strbuf ports = STRBUF_INIT, ips = STRBUF_INIT;
	size_t n = 0;
	int r = endpointslice_decode(row->key, row->text, row->len, &s, row->err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < s->ports.n; i++)
		strbuf_addf(&ports, "%s%u", i > 0 ? "," : "", s->ports.v[i].port);
	for (; n < s->endpoints.n; n++)
		if (row->c->wide || n < 3)
			strbuf_addf(&ips, "%s%s", n > 0 ? "," : "", ip_str(&s->endpoints.v[n].ip));
	if (!row->c->wide && n > 3)
		strbuf_addf(&ips, " + %zu more", n - 3);
	add_name(row, s->meta.name);
	table_add(row->t, families[s->family]);
	table_add(row->t, ports.len > 0 ? ports.s : "<unset>");
	table_add(row->t, ips.len > 0 ? ips.s : "<unset>");
	return 0;
}

/* Kinds of which little is shown: members of spec as they stand, "<nil>" where they are absent. */
static int row_plain(const struct row *row, const char *const *members)
{
	struct key key = {0};
	auto_(json) json_t *j = model_json_load(row->key, row->text, row->len, row->err);
	const json_t *spec = json_object_get(j, "spec");

	if (!j)
		return -EINVAL;
	key_parse(row->key, &key);
	add_name(row, key.name);
	for (; *members; members++) {
		const json_t *e = json_object_get(spec, *members);
		auto_strbuf sb = STRBUF_INIT;
		const json_t *item;
		size_t i;

		json_array_foreach (e, i, item)
			strbuf_addf(&sb, "%s%s", i > 0 ? "," : "",
				json_is_string(item) ? json_string_value(item) : "?");
		if (json_is_boolean(e))
			strbuf_add(&sb, yes(json_is_true(e)));
		else if (json_is_integer(e))
			strbuf_addf(&sb, "%lld", (long long)json_integer_value(e));
		table_add(row->t, e ? strbuf_str(&sb) : "<nil>");
	}
	return 0;
}

static int row_name(const struct row *row)
{
	return row_plain(row, (const char *const[]){NULL});
}

static int row_reservation(const struct row *row)
{
	return row->c->wide ? row_plain(row, (const char *const[]){"reservedCIDRs", NULL})
			    : row_name(row);
}

static int row_ipam_config(const struct row *row)
{
	static const char *const some[] = {"strictAffinity", "autoAllocateBlocks", NULL};
	static const char *const all[] = {
		"strictAffinity", "autoAllocateBlocks", "maxBlocksPerHost", NULL};

	return row_plain(row, row->c->wide ? all : some);
}

static const struct {
	const char *narrow, *wide; /* headings, separated by '|'; wide NULL: the same */
	int (*add)(const struct row *row);
} kinds[] = {
	[KIND_NODE] = {"NAME", "NAME|ASN|IPV4|IPV6", row_node},
	[KIND_IPPOOL] = {"NAME|CIDR|SELECTOR",
		"NAME|CIDR|NAT|IPIPMODE|VXLANMODE|DISABLED|DISABLEBGPEXPORT|SELECTOR|ASSIGNMENTMODE",
		row_ippool},
	[KIND_IPRESERVATION] = {"NAME", "NAME|CIDRS", row_reservation},
	[KIND_IPAMCONFIGURATION] = {"NAME|STRICTAFFINITY|AUTOALLOCATEBLOCKS",
		"NAME|STRICTAFFINITY|AUTOALLOCATEBLOCKS|MAXBLOCKSPERHOST", row_ipam_config},
	[KIND_BGPCONFIGURATION] = {"NAME|LOGSEVERITY|MESHENABLED|ASNUMBER", NULL, row_bgp_config},
	[KIND_BGPPEER] = {"NAME|PEERIP|NODE|ASN", NULL, row_peer},
	[KIND_FELIXCONFIGURATION] = {"NAME", NULL, row_name},
	[KIND_CLUSTERINFORMATION] = {"NAME|CLUSTERGUID|CLUSTERTYPE|CALICOVERSION|DATASTOREREADY",
		NULL, row_cluster},
	[KIND_WORKLOADENDPOINT] = {"WORKLOAD|NODE|NETWORKS|INTERFACE",
		"NAME|WORKLOAD|NODE|NETWORKS|INTERFACE|PROFILES|NATS", row_wep},
	[KIND_SERVICE] = {"NAME|TYPE|CLUSTER-IP|EXTERNAL-IP|PORT(S)",
		"NAME|TYPE|CLUSTER-IP|EXTERNAL-IP|PORT(S)|SELECTOR", row_service},
	[KIND_ENDPOINTSLICE] = {"NAME|ADDRESSTYPE|PORTS|ENDPOINTS", NULL, row_slice},
};
_Static_assert(array_size(kinds) == N_KINDS, "every kind has columns");

void columns_begin(struct table *t, const struct columns *c)
{
	const char *heading =
		c->wide && kinds[c->kind].wide ? kinds[c->kind].wide : kinds[c->kind].narrow;
	size_t n = 1;

	for (const char *p = heading; *p != '\0'; p++)
		n += *p == '|';
	table_init(t, n + c->with_namespace);
	if (c->with_namespace)
		table_add(t, "NAMESPACE");
	for (;;) {
		size_t len = strcspn(heading, "|");

		table_addf(t, "%.*s", (int)len, heading);
		if (heading[len] == '\0')
			return;
		heading += len + 1;
	}
}

int columns_add(struct table *t, const struct columns *c, const char *key, const char *text,
	size_t len, struct err *err)
{
	struct row row = {.key = key, .text = text, .len = len, .c = c, .t = t, .err = err};

	return kinds[c->kind].add(&row);
}
