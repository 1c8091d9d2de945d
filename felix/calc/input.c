/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "felix/calc/input.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

static inline void json_put(json_t **j)
{
	json_decref(*j);
}

#define auto_json __attribute__((cleanup(json_put))) json_t

static json_t *load(const char *text, size_t len, struct err *err)
{
	json_error_t je;
	json_t *j = json_loadb(text, len, 0, &je);

	if (json_is_object(j))
		return j;
	json_decref(j);
	err_set(err, -EINVAL, "not a JSON object: %s", je.text);
	return NULL;
}

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key)) ?: "";
}

static int encap_of(const json_t *spec, const char *key, enum encap_mode *ret, struct err *err)
{
	const char *s = text_of(spec, key);

	if (strcasecmp(s, "Always") == 0)
		*ret = ENCAP_ALWAYS;
	else if (strcasecmp(s, "CrossSubnet") == 0)
		*ret = ENCAP_CROSS_SUBNET;
	else if (s[0] == '\0' || strcasecmp(s, "Never") == 0)
		*ret = ENCAP_NEVER;
	else
		return err_set(
			err, -EINVAL, "spec.%s: \"%s\", want Never, Always or CrossSubnet", key, s);
	return 0;
}

int in_pool_decode(const char *text, size_t len, struct in_pool **ret, struct err *err)
{
	auto_json *j = load(text, len, err);
	const json_t *spec = json_object_get(j, "spec"), *uses, *u;
	struct in_pool p = {0};
	size_t i;
	int r;

	if (!j)
		return -EINVAL;
	r = prefix_parse(text_of(spec, "cidr"), &p.cidr, err);
	if (r < 0)
		return err_wrap(err, r, "spec.cidr");
	p.cidr = prefix_masked(&p.cidr);
	r = encap_of(spec, "ipipMode", &p.ipip, err);
	if (r == 0)
		r = encap_of(spec, "vxlanMode", &p.vxlan, err);
	if (r < 0)
		return r;
	p.nat_outgoing = json_is_true(json_object_get(spec, "natOutgoing"));
	p.disabled = json_is_true(json_object_get(spec, "disabled"));
	uses = json_object_get(spec, "allowedUses");
	p.tunnels = json_array_size(uses) == 0;
	json_array_foreach (uses, i, u) {
		p.load_balancer |= strcmp(json_string_value(u) ?: "", "LoadBalancer") == 0;
		p.tunnels |= strcmp(json_string_value(u) ?: "", "Tunnel") == 0;
	}
	if (text_of(spec, "nodeSelector")[0])
		p.node_selector = mem_strdup(text_of(spec, "nodeSelector"));
	*ret = mem_dup(&p, sizeof(p));
	return 0;
}

void in_pool_free(struct in_pool *p)
{
	if (!p)
		return;
	free(p->node_selector);
	free(p);
}

int in_node_decode(const char *text, size_t len, struct in_node **ret, struct err *err)
{
	auto_json *j = load(text, len, err);
	const json_t *bgp = json_object_get(json_object_get(j, "spec"), "bgp");
	const char *ip4 = text_of(bgp, "ipv4Address"), *tunnel = text_of(bgp, "ipv4IPIPTunnelAddr");
	struct in_node n = {0};
	int r;

	if (!j)
		return -EINVAL;
	if (ip4[0]) {
		r = prefix_parse_host(ip4, &n.ip4, err);
		if (r < 0)
			return err_wrap(err, r, "spec.bgp.ipv4Address");
	}
	if (tunnel[0]) {
		r = ip_parse(tunnel, &n.tunnel4, err);
		if (r < 0)
			return err_wrap(err, r, "spec.bgp.ipv4IPIPTunnelAddr");
	}
	*ret = mem_dup(&n, sizeof(n));
	return 0;
}

int in_wep_decode(
	const char *node, const char *text, size_t len, struct in_wep **ret, struct err *err)
{
	auto_json *j = load(text, len, err);
	const json_t *spec = json_object_get(j, "spec"), *ips, *e;
	const char *ifname = text_of(spec, "interfaceName");
	struct in_wep *w;
	size_t i, n;
	int r;

	if (!j)
		return -EINVAL;
	ips = json_object_get(spec, "ipNetworks");
	n = strcmp(text_of(spec, "node"), node) == 0 ? json_array_size(ips) : 0;
	if (n > 0 && (ifname[0] == '\0' || strlen(ifname) >= IFNAMSIZ))
		return err_set(err, -EINVAL,
			"spec.interfaceName: \"%s\", want a link's name of 1 to %d characters",
			ifname, IFNAMSIZ - 1);
	w = mem_zalloc(sizeof(*w) + n * sizeof(w->ips[0]));
	w->n = n;
	if (n > 0) {
		memcpy(w->ifname, ifname, strlen(ifname));
		memccpy(w->created, text_of(json_object_get(j, "metadata"), "creationTimestamp"), 0,
			sizeof(w->created) - 1);
	}
	for (i = 0; i < n; i++) {
		e = json_array_get(ips, i);
		r = prefix_parse_host(json_string_value(e) ?: "", &w->ips[i], err);
		if (r == 0 && !prefix_is_host(&w->ips[i]))
			r = err_set(err, -EINVAL, "%s: want one address, /32 or /128",
				json_string_value(e));
		if (r < 0) {
			free(w);
			return err_wrap(err, r, "spec.ipNetworks[%zu]", i);
		}
	}
	*ret = w;
	return 0;
}

int in_config_decode(const char *text, size_t len, struct in_config **ret, struct err *err)
{
	auto_json *j = load(text, len, err);
	const json_t *spec = json_object_get(j, "spec"), *v;
	struct in_config c = {.ipip_enabled = -1};

	if (!j)
		return -EINVAL;
	v = json_object_get(spec, "ipipEnabled");
	if (json_is_boolean(v))
		c.ipip_enabled = json_is_true(v);
	v = json_object_get(spec, "ipipMTU");
	if (v &&
		(!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > 65535))
		return err_set(err, -EINVAL, "spec.ipipMTU: want a number from 0 to 65535");
	c.ipip_mtu = (uint32_t)json_integer_value(v);
	if (text_of(spec, "mtuIfacePattern")[0])
		c.mtu_iface_pattern = mem_strdup(text_of(spec, "mtuIfacePattern"));
	*ret = mem_dup(&c, sizeof(c));
	return 0;
}

void in_config_free(struct in_config *c)
{
	if (!c)
		return;
	free(c->mtu_iface_pattern);
	free(c);
}
