/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "felix/calc/input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/parse.h"
#include "felix/pattern.h"
#include "model/felixconfig.h"
#include "model/ipam.h"
#include "model/node.h"
#include "model/wep.h"
#include "model/wep_brief.h"

static int make(const char *ifname, const char *created, const struct prefix *ips, size_t n,
	struct in_wep **ret, struct err *err)
{
	struct in_wep *w;

	if (n > 0 && (ifname[0] == '\0' || strlen(ifname) >= IFNAMSIZ))
		return err_set(err, -EINVAL,
			"spec.interfaceName: \"%s\", want a link's name of 1 to %d characters",
			ifname, IFNAMSIZ - 1);
	w = mem_zalloc(sizeof(*w) + n * sizeof(w->ips[0]));
	w->n = n;
	if (n > 0) {
		memcpy(w->ifname, ifname, strlen(ifname));
		memccpy(w->created, created, 0, sizeof(w->created) - 1);
		memcpy(w->ips, ips, n * sizeof(w->ips[0]));
	}
	*ret = w;
	return 0;
}

int in_wep_decode(const char *node, const char *key, const char *json, size_t len,
	struct in_wep **ret, struct err *err)
{
	auto_(wep) struct wep *wep = NULL;
	struct wep_brief brief;
	int r;

	if (wep_brief_read(json, len, &brief))
		return make(brief.interface, brief.created, brief.networks,
			strcmp(brief.node, node) == 0 ? brief.n_networks : 0, ret, err);
	r = wep_decode(key, json, len, &wep, err);
	if (r < 0)
		return r;
	return make(wep->interface ?: "", wep->meta.created ?: "", wep->networks.v,
		wep->node && strcmp(wep->node, node) == 0 ? wep->networks.n : 0, ret, err);
}

int in_node_decode(
	const char *key, const char *json, size_t len, struct in_node **ret, struct err *err)
{
	auto_(node) struct node *n = NULL;
	int r = node_decode(key, json, len, &n, err);
	size_t size;

	if (r < 0)
		return r;
	size = strlen(n->meta.name) + 1;
	*ret = mem_zalloc(sizeof(**ret) + size);
	memcpy((*ret)->name, n->meta.name, size);
	(*ret)->address[0] = n->ipv4;
	(*ret)->address[1] = n->ipv6;
	(*ret)->vtep[0] = n->vxlan_tunnel4;
	(*ret)->vtep[1] = n->vxlan_tunnel6;
	(*ret)->mac[0] = node_vxlan_mac(n, IP_V4);
	(*ret)->mac[1] = node_vxlan_mac(n, IP_V6);
	return 0;
}

/* The node that has an address of the block; NULL: none, or its host. */
static const char *borrower(const struct ipam_block *b, const char *host, uint32_t i)
{
	const struct ipam_block_attr *a = b->alloc[i] < 0 ? NULL : &b->attrs.v[b->alloc[i]];
	const char *node = a && !a->released_s ? ipam_block_attr_get(a, "node") : NULL;

	return node && (!host || strcmp(node, host) != 0) ? node : NULL;
}

int in_block_decode(const char *json, size_t len, struct in_block **ret, struct err *err)
{
	auto_(ipam_block) struct ipam_block *b = NULL;
	int r = ipam_block_decode(json, len, &b, err);
	struct in_block *in;
	const char *host;
	size_t n = 0;

	if (r < 0)
		return r;
	host = b->affinity && strncmp(b->affinity, "host:", 5) == 0 ? b->affinity + 5 : NULL;
	in = mem_new(struct in_block);
	in->cidr = b->cidr;
	in->host = host && !b->deleted ? mem_strdup(host) : NULL;
	for (uint32_t i = 0; i < b->size; i++)
		n += borrower(b, host, i) != NULL;
	in->borrowed = mem_realloc_array(NULL, n + 1, sizeof(*in->borrowed));
	for (uint32_t i = 0; i < b->size; i++) {
		const char *node = borrower(b, host, i);

		if (node && ip_add(&b->cidr.addr, i, &in->borrowed[in->n].ip))
			in->borrowed[in->n++].node = mem_strdup(node);
	}
	*ret = in;
	return 0;
}

void in_block_free(struct in_block *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->n; i++)
		free(b->borrowed[i].node);
	free(b->borrowed);
	free(b->host);
	free(b);
}

int in_config_decode(
	const char *key, const char *json, size_t len, struct in_config **ret, struct err *err)
{
	auto_(felix_config) struct felix_config *fc = NULL;
	struct in_config c = {.ipip_enabled = -1};
	const char *s;
	bool on;
	int r = felix_config_decode(key, json, len, &fc, err);

	if (r < 0)
		return r;
	s = felix_config_get(fc, "ipipEnabled");
	if (s) {
		r = parse_bool(s, &on, err);
		if (r < 0)
			return err_wrap(err, r, "spec.ipipEnabled");
		c.ipip_enabled = on;
	}
	s = felix_config_get(fc, "ipipMTU");
	if (s) {
		r = parse_u32(s, 0, 65535, &c.ipip_mtu, err);
		if (r < 0)
			return err_wrap(err, r, "spec.ipipMTU");
	}
	s = felix_config_get(fc, "mtuIfacePattern");
	if (s && s[0]) {
		r = pattern_check(s, err);
		if (r < 0)
			return err_wrap(err, r, "spec.mtuIfacePattern");
		c.mtu_iface_pattern = mem_strdup(s);
	}
	s = felix_config_get(fc, "endpointStatusPathPrefix");
	if (s && s[0] != '/' && strcmp(s, "none") != 0) {
		free(c.mtu_iface_pattern);
		return err_set(err, -EINVAL,
			"spec.endpointStatusPathPrefix: \"%.80s\", want a directory's path that begins "
			"with /, or none",
			s);
	}
	if (s)
		c.status_prefix = mem_strdup(s[0] == '/' ? s : "");
	*ret = mem_dup(&c, sizeof(c));
	return 0;
}

void in_config_free(struct in_config *c)
{
	if (!c)
		return;
	free(c->mtu_iface_pattern);
	free(c->status_prefix);
	free(c);
}
