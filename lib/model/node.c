/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/sha1.h"
#include "model/kind.h"
#include "model/read.h"
#include "model/resource.h"
#include "model/write.h"

int node_check_name(const char *name, const char *file, struct err *err)
{
	int r = resource_check_name(KIND_NODE, name, err);

	return r < 0 ? err_wrap(err, r, "NODENAME, or what %s holds", file) : 0;
}

struct node *node_new(const char *name)
{
	struct node *n = mem_new(struct node);

	n->meta.name = mem_strdup(name);
	return n;
}

static void address_done(struct node_address *a)
{
	free(a->address);
	free(a->type);
}

void node_free(struct node *n)
{
	struct node_address *a;

	if (!n)
		return;
	meta_done(&n->meta);
	vec_for_each (&n->addresses, a)
		address_done(a);
	vec_done(&n->addresses);
	free(n);
}

/* The node's address: with its subnet's length, or alone. */
static void read_address(
	struct read *rd, const json_t *bgp, const char *name, uint8_t family, struct prefix *ret)
{
	const char *s = read_text(rd, bgp, name);
	struct prefix p;

	if (!s)
		return;
	if (prefix_parse_host(s, &p, NULL) < 0 || p.addr.family != family)
		read_fail(rd, name, json_object_get(bgp, name),
			"an IPv%u address with its subnet's length, such as 192.0.2.10/24", family);
	else
		*ret = p;
}

static void read_addresses(struct read *rd, const json_t *spec, struct node *n)
{
	json_t *list = read_array(rd, spec, "addresses"), *e;
	size_t i;

	json_array_foreach (list, i, e) {
		struct node_address a = {0};

		read_at(rd, "spec.addresses[%zu]", i);
		read_str(rd, e, "address", &a.address);
		read_str(rd, e, "type", &a.type);
		if (!a.address)
			read_fail(rd, "address", NULL, "an address");
		vec_push(&n->addresses, a);
	}
}

int node_decode(const char *key, const char *text, size_t len, struct node **ret, struct err *err)
{
	auto_(node) struct node *n = mem_new(struct node);
	struct read rd;
	auto_(json) json_t *j = read_resource(&rd, KIND_NODE, key, text, len, &n->meta, err);
	const json_t *spec = read_object(&rd, j, "spec"), *bgp = read_object(&rd, spec, "bgp");
	const json_t *wireguard = read_object(&rd, spec, "wireguard");

	read_at(&rd, "spec.bgp");
	read_as(&rd, bgp, "asNumber", &n->as);
	read_address(&rd, bgp, "ipv4Address", IP_V4, &n->ipv4);
	read_address(&rd, bgp, "ipv6Address", IP_V6, &n->ipv6);
	read_ip_of(&rd, bgp, "ipv4IPIPTunnelAddr", IP_V4, &n->ipip_tunnel4);
	read_ip_of(&rd, bgp, "routeReflectorClusterID", IP_V4, &n->rr_cluster_id);
	read_at(&rd, "spec");
	read_ip_of(&rd, spec, "ipv4VXLANTunnelAddr", IP_V4, &n->vxlan_tunnel4);
	read_ip_of(&rd, spec, "ipv6VXLANTunnelAddr", IP_V6, &n->vxlan_tunnel6);
	read_mac(&rd, spec, "vxlanTunnelMACAddr", &n->vxlan_mac4);
	read_mac(&rd, spec, "vxlanTunnelMACAddrV6", &n->vxlan_mac6);
	read_addresses(&rd, spec, n);
	read_at(&rd, "spec.wireguard");
	read_ip_of(&rd, wireguard, "interfaceIPv4Address", IP_V4, &n->wireguard4);
	read_ip_of(&rd, wireguard, "interfaceIPv6Address", IP_V6, &n->wireguard6);
	if (rd.r < 0)
		return rd.r;
	*ret = take_ptr(n);
	return 0;
}

char *node_encode(const struct node *n, const char *base)
{
	json_t *j = write_resource(KIND_NODE, base, &n->meta);
	json_t *spec = write_object(j, "spec"), *bgp = write_object(spec, "bgp"), *list = NULL;
	const struct node_address *a;

	write_object(j, "status");
	write_u32(bgp, "asNumber", n->as);
	write_prefix(bgp, "ipv4Address", &n->ipv4);
	write_prefix(bgp, "ipv6Address", &n->ipv6);
	write_ip(bgp, "ipv4IPIPTunnelAddr", &n->ipip_tunnel4);
	write_ip(bgp, "routeReflectorClusterID", &n->rr_cluster_id);
	if (json_object_size(bgp) == 0)
		json_object_del(spec, "bgp");
	write_ip(spec, "ipv4VXLANTunnelAddr", &n->vxlan_tunnel4);
	write_mac(spec, "vxlanTunnelMACAddr", &n->vxlan_mac4);
	write_ip(spec, "ipv6VXLANTunnelAddr", &n->vxlan_tunnel6);
	write_mac(spec, "vxlanTunnelMACAddrV6", &n->vxlan_mac6);
	vec_for_each (&n->addresses, a) {
		json_t *e = json_object();

		write_str(e, "address", a->address);
		write_str(e, "type", a->type);
		if (!list)
			list = json_array();
		json_array_append_new(list, e);
	}
	write_json(spec, "addresses", list);
	return write_text(j, KIND_NODE);
}

struct mac node_vxlan_mac(const struct node *n, enum ip_family family)
{
	auto_free char *name = mem_printf("%s%s", n->meta.name, family == IP_V6 ? "-v6" : "");
	struct mac mac = family == IP_V6 ? n->vxlan_mac6 : n->vxlan_mac4;
	uint8_t hash[SHA1_SIZE];

	if (!mac_is_zero(&mac))
		return mac;
	sha1(name, strlen(name), hash);
	mac.b[0] = 'f';
	memcpy(mac.b + 1, hash, sizeof(mac.b) - 1);
	return mac;
}

void node_tunnels(const struct node *n, const struct ip *ret[static NODE_N_TUNNELS])
{
	ret[0] = &n->ipip_tunnel4;
	ret[1] = &n->vxlan_tunnel4;
	ret[2] = &n->vxlan_tunnel6;
	ret[3] = &n->wireguard4;
	ret[4] = &n->wireguard6;
}
