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
