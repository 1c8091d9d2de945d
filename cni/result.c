/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/result.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"

/* What a prevResult may hold: bounds for text that others wrote. */
enum { MAX_INTERFACES = 64, MAX_IPS = 64, MAX_ROUTES = 256 };

static const char *const version_names[CNI_N_VERSIONS] = {
	"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};

const char *cni_version_str(enum cni_version v)
{
	return version_names[v];
}

int cni_version_parse(const char *s, enum cni_version *ret, struct err *err)
{
	for (unsigned i = 0; i < CNI_N_VERSIONS; i++) {
		if (strcmp(s, version_names[i]) == 0) {
			*ret = (enum cni_version)i;
			return 0;
		}
	}
	err_set(err, -EINVAL,
		"cniVersion: \"%s\" is not spoken here; want one of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, "
		"1.0.0, 1.1.0",
		s);
	return CNI_E_VERSION;
}

struct cni_result *cni_result_new(void)
{
	return mem_new(struct cni_result);
}

void cni_result_free(struct cni_result *r)
{
	struct cni_interface *it;

	if (!r)
		return;
	vec_for_each (&r->interfaces, it)
		free(it->sandbox);
	vec_done(&r->interfaces);
	vec_done(&r->ips);
	vec_done(&r->routes);
	json_decref(r->dns);
	free(r);
}

AUTO_DEFINE(cni_result, struct cni_result *, cni_result_free);

/*
 * Decoding.
 */
static int decode_interface(struct cni_result *r, size_t i, const json_t *j, struct err *err)
{
	struct cni_interface itf = {0};
	const char *name = json_string_value(json_object_get(j, "name"));
	const char *mac = json_string_value(json_object_get(j, "mac"));
	const char *sandbox = json_string_value(json_object_get(j, "sandbox"));

	if (!name || strlen(name) >= sizeof(itf.name)) {
		err_set(err, -EINVAL, "prevResult: interfaces[%zu]: name: want 1..15 bytes", i);
		return CNI_E_CONF;
	}
	memcpy(itf.name, name, strlen(name) + 1);
	if (mac && mac[0] != '\0' && mac_parse(mac, &itf.mac, err) < 0) {
		err_wrap(err, -EINVAL, "prevResult: interfaces[%zu]: mac", i);
		return CNI_E_CONF;
	}
	itf.mtu = (uint32_t)json_integer_value(json_object_get(j, "mtu"));
	itf.sandbox = sandbox && sandbox[0] != '\0' ? mem_strdup(sandbox) : NULL;
	vec_push(&r->interfaces, itf);
	return 0;
}

static int decode_ip(
	struct cni_result *r, const char *where, const json_t *j, const char *key, struct err *err)
{
	struct cni_ip ip = {.interface = -1};
	const char *address = json_string_value(json_object_get(j, key));
	const char *gateway = json_string_value(json_object_get(j, "gateway"));
	const json_t *interface = json_object_get(j, "interface");

	if (!address) {
		err_set(err, -EINVAL, "prevResult: %s: %s: want an address like 10.244.0.5/32",
			where, key);
		return CNI_E_CONF;
	}
	if (prefix_parse(address, &ip.address, err) < 0 ||
		(gateway && gateway[0] != '\0' && ip_parse(gateway, &ip.gateway, err) < 0)) {
		err_wrap(err, -EINVAL, "prevResult: %s", where);
		return CNI_E_CONF;
	}
	if (json_is_integer(interface) && json_integer_value(interface) >= 0 &&
		json_integer_value(interface) < (json_int_t)r->interfaces.n)
		ip.interface = (int)json_integer_value(interface);
	vec_push(&r->ips, ip);
	return 0;
}

static int decode_route(struct cni_result *r, size_t i, const json_t *j, struct err *err)
{
	struct cni_route rt = {0};
	const char *dst = json_string_value(json_object_get(j, "dst"));
	const char *gw = json_string_value(json_object_get(j, "gw"));

	if (!dst) {
		err_set(err, -EINVAL, "prevResult: routes[%zu]: dst is missing", i);
		return CNI_E_CONF;
	}
	if (prefix_parse(dst, &rt.dst, err) < 0 ||
		(gw && gw[0] != '\0' && ip_parse(gw, &rt.gw, err) < 0)) {
		err_wrap(err, -EINVAL, "prevResult: routes[%zu]", i);
		return CNI_E_CONF;
	}
	vec_push(&r->routes, rt);
	return 0;
}

static int decode_routes(struct cni_result *r, const json_t *routes, struct err *err)
{
	const json_t *e;
	size_t i;

	if (json_array_size(routes) > MAX_ROUTES) {
		err_set(err, -EINVAL, "prevResult: more than %d routes", MAX_ROUTES);
		return CNI_E_CONF;
	}
	json_array_foreach (routes, i, e) {
		int rc = decode_route(r, i, e, err);

		if (rc != 0)
			return rc;
	}
	return 0;
}

int cni_result_decode(const struct json_t *j, struct cni_result **ret, struct err *err)
{
	auto_(cni_result) struct cni_result *r = cni_result_new();
	const json_t *interfaces = json_object_get(j, "interfaces");
	const json_t *ips = json_object_get(j, "ips");
	const json_t *dns = json_object_get(j, "dns");
	const json_t *e;
	size_t i;
	int rc;

	if (!json_is_object(j)) {
		err_set(err, -EINVAL, "prevResult: want an object");
		return CNI_E_CONF;
	}
	if (json_array_size(interfaces) > MAX_INTERFACES || json_array_size(ips) > MAX_IPS) {
		err_set(err, -EINVAL, "prevResult: more than %d interfaces or %d ips",
			MAX_INTERFACES, MAX_IPS);
		return CNI_E_CONF;
	}
	json_array_foreach (interfaces, i, e) {
		rc = decode_interface(r, i, e, err);
		if (rc != 0)
			return rc;
	}
	json_array_foreach (ips, i, e) {
		char where[32];

		snprintf(where, sizeof(where), "ips[%zu]", i);
		rc = decode_ip(r, where, e, "address", err);
		if (rc != 0)
			return rc;
	}
	/* 0.1.0 and 0.2.0 */
	for (i = 0; i < 2; i++) {
		const char *key = i == 0 ? "ip4" : "ip6";

		e = json_object_get(j, key);
		if (!json_is_object(e))
			continue;
		rc = decode_ip(r, key, e, "ip", err)
			     ?: decode_routes(r, json_object_get(e, "routes"), err);
		if (rc != 0)
			return rc;
	}
	rc = decode_routes(r, json_object_get(j, "routes"), err);
	if (rc != 0)
		return rc;
	if (json_is_object(dns))
		r->dns = json_incref((json_t *)(uintptr_t)dns);
	*ret = take_ptr(r);
	return 0;
}

/*
 * Printing.
 */
static void json_print(json_t *j, struct strbuf *out)
{
	char *s = json_dumps(j, JSON_INDENT(4) | JSON_PRESERVE_ORDER);

	strbuf_add(out, s);
	strbuf_addc(out, '\n');
	free(s);
	json_decref(j);
}

static json_t *encode_routes(const struct cni_result *r, int family)
{
	json_t *a = json_array();
	const struct cni_route *rt;

	vec_for_each (&r->routes, rt) {
		json_t *j;

		if (family != IP_NONE && rt->dst.addr.family != family)
			continue;
		j = json_object();
		json_object_set_new(j, "dst", json_string(prefix_str(&rt->dst)));
		if (rt->gw.family != IP_NONE)
			json_object_set_new(j, "gw", json_string(ip_str(&rt->gw)));
		json_array_append_new(a, j);
	}
	return a;
}

static void print_legacy(const struct cni_result *r, enum cni_version v, struct strbuf *out)
{
	json_t *top = json_object();
	const struct cni_ip *ip;

	json_object_set_new(top, "cniVersion", json_string(cni_version_str(v)));
	vec_for_each (&r->ips, ip) {
		bool v4 = ip->address.addr.family == IP_V4;
		json_t *j;

		if (json_object_get(top, v4 ? "ip4" : "ip6"))
			continue; /* the format has room for one */
		j = json_object();
		json_object_set_new(j, "ip", json_string(prefix_str(&ip->address)));
		if (ip->gateway.family != IP_NONE)
			json_object_set_new(j, "gateway", json_string(ip_str(&ip->gateway)));
		json_object_set_new(j, "routes", encode_routes(r, ip->address.addr.family));
		json_object_set_new(top, v4 ? "ip4" : "ip6", j);
	}
	json_object_set_new(top, "dns", r->dns ? json_incref(r->dns) : json_object());
	json_print(top, out);
}

static json_t *encode_interfaces(const struct cni_result *r, enum cni_version v)
{
	json_t *a = json_array();
	const struct cni_interface *it;

	vec_for_each (&r->interfaces, it) {
		json_t *j = json_object();

		json_object_set_new(j, "name", json_string(it->name));
		if (!mac_is_zero(&it->mac))
			json_object_set_new(j, "mac", json_string(mac_str(&it->mac)));
		if (it->mtu != 0 && v >= CNI_1_1_0)
			json_object_set_new(j, "mtu", json_integer(it->mtu));
		if (it->sandbox)
			json_object_set_new(j, "sandbox", json_string(it->sandbox));
		json_array_append_new(a, j);
	}
	return a;
}

void cni_result_print(const struct cni_result *r, enum cni_version v, struct strbuf *out)
{
	json_t *top, *ips;
	const struct cni_ip *ip;

	if (v < CNI_0_3_0) {
		print_legacy(r, v, out);
		return;
	}
	top = json_object();
	json_object_set_new(top, "cniVersion", json_string(cni_version_str(v)));
	/* An IPAM plugin's answer has no interfaces. */
	if (r->interfaces.n > 0)
		json_object_set_new(top, "interfaces", encode_interfaces(r, v));
	ips = json_array();
	vec_for_each (&r->ips, ip) {
		json_t *j = json_object();

		if (v < CNI_1_0_0)
			json_object_set_new(j, "version",
				json_string(ip->address.addr.family == IP_V4 ? "4" : "6"));
		if (ip->interface >= 0)
			json_object_set_new(j, "interface", json_integer(ip->interface));
		json_object_set_new(j, "address", json_string(prefix_str(&ip->address)));
		if (ip->gateway.family != IP_NONE)
			json_object_set_new(j, "gateway", json_string(ip_str(&ip->gateway)));
		json_array_append_new(ips, j);
	}
	json_object_set_new(top, "ips", ips);
	if (r->routes.n > 0)
		json_object_set_new(top, "routes", encode_routes(r, IP_NONE));
	json_object_set_new(top, "dns", r->dns ? json_incref(r->dns) : json_object());
	json_print(top, out);
}

/* Messages quote what others wrote, which need not be text. */
static json_t *printable(const char *s)
{
	json_t *j = json_string(s);
	auto_free char *copy = NULL;

	if (j)
		return j;
	copy = mem_strdup(s);
	for (char *p = copy; *p != '\0'; p++)
		if (*p & 0x80)
			*p = '?';
	return json_string(copy);
}

void cni_error_print(
	enum cni_version v, int code, const char *msg, const char *details, struct strbuf *out)
{
	json_t *top = json_object();

	json_object_set_new(top, "cniVersion", json_string(cni_version_str(v)));
	json_object_set_new(top, "code", json_integer(code));
	json_object_set_new(top, "msg", printable(msg));
	if (details && details[0] != '\0')
		json_object_set_new(top, "details", printable(details));
	json_print(top, out);
}

void cni_versions_print(enum cni_version asked, struct strbuf *out)
{
	json_t *top = json_object(), *a = json_array();

	json_object_set_new(top, "cniVersion", json_string(cni_version_str(asked)));
	for (unsigned i = 0; i < CNI_N_VERSIONS; i++)
		json_array_append_new(a, json_string(version_names[i]));
	json_object_set_new(top, "supportedVersions", a);
	json_print(top, out);
}
