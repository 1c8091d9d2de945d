/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/podcidr.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cni/call.h"
#include "cni/ctx.h"
#include "model/json.h"
#include "model/key.h"
#include "net/prefix.h"
#include "store/store.h"

/* IP_NONE: it is a subnet, or missing. */
static enum ip_family family_of(const json_t *range)
{
	const char *s = json_string_value(json_object_get(range, "subnet")) ?: "";

	return strcasecmp(s, "usePodCidr") == 0	      ? IP_V4
	       : strcasecmp(s, "usePodCidrIPv6") == 0 ? IP_V6
						      : IP_NONE;
}

void podcidr_wanted(const json_t *ipam, bool *ret_v4, bool *ret_v6)
{
	const json_t *set, *range;
	size_t i, k;

	*ret_v4 = family_of(ipam) == IP_V4;
	*ret_v6 = family_of(ipam) == IP_V6;
	json_array_foreach (json_object_get(ipam, "ranges"), i, set)
		json_array_foreach (set, k, range) {
			*ret_v4 |= family_of(range) == IP_V4;
			*ret_v6 |= family_of(range) == IP_V6;
		}
}

static void replace(json_t *range, const char *cidrs)
{
	enum ip_family family = family_of(range);
	auto_free char *copy = mem_strdup(cidrs);
	const char *found = family == IP_V4 ? "0.0.0.0/0" : "::/0";
	char *save = NULL;
	struct prefix p;

	if (family == IP_NONE)
		return;
	for (char *s = strtok_r(copy, ",", &save); s; s = strtok_r(NULL, ",", &save))
		if (prefix_parse(s, &p, NULL) == 0 && p.addr.family == family)
			found = s;
	json_object_set_new(range, "subnet", json_string(found));
}

void podcidr_replace(json_t *ipam, const char *cidrs)
{
	json_t *set, *range;
	size_t i, k;

	replace(ipam, cidrs);
	json_array_foreach (json_object_get(ipam, "ranges"), i, set)
		json_array_foreach (set, k, range)
			replace(range, cidrs);
}

static int add_cidr(const struct call *c, const json_t *node, enum ip_family family,
	struct strbuf *to, struct err *err)
{
	const json_t *e;
	struct prefix p;
	size_t i;

	json_array_foreach (json_object_get(json_object_get(node, "status"), "podCIDRs"), i, e)
		if (prefix_parse(json_string_value(e) ?: "", &p, NULL) == 0 &&
			p.addr.family == family) {
			strbuf_addf(to, "%s%s", to->len ? "," : "", prefix_str(&p));
			return 0;
		}
	err_set(err, -ENOENT,
		"netconf: ipam: %s: Node %s has no podCIDR of IPv%u: kube-controller-manager gives one "
		"(--allocate-node-cidrs); else want a subnet",
		family == IP_V4 ? "usePodCidr" : "usePodCidrIPv6", c->node, family);
	return CNI_E_AGAIN;
}

/* Kubernetes, be it the datastore or beside it. *ret_beside: is to be closed. */
static int find_kube(struct call *c, struct store **ret, struct store **ret_beside, struct err *err)
{
	int r = call_open_store(c, err);

	if (r != 0)
		return r;
	*ret = c->st;
	if (store_is_managed(c->st))
		return call_reach_store(c, err);
	if (!c->conf->kube.type) {
		err_set(err, -EINVAL,
			"netconf: ipam: usePodCidr: datastore %s is no Kubernetes, which gives nodes their "
			"podCIDRs: want a subnet, or policy.type \"k8s\" and kubernetes.kubeconfig",
			store_name(c->st));
		/* The datastore may be known to the server alone, whose journal there is. */
		return c->journal && !ctx_home(c->ctx) ? CNI_E_AGAIN : CNI_E_CONF;
	}
	r = call_may_wait(c, err);
	if (r != 0)
		return r;
	if (store_open(&c->conf->kube, NULL, ret_beside, err) < 0) {
		err_wrap(err, -EINVAL, "netconf: the keys of Kubernetes");
		return CNI_E_CONF;
	}
	store_set_limit(*ret_beside, CNI_ANSWER_MS);
	*ret = *ret_beside;
	return 0;
}

int podcidr_find(struct call *c, char **ret, struct err *err)
{
	auto_(store) struct store *beside = NULL;
	struct strbuf text = STRBUF_INIT;
	auto_(json) json_t *node = NULL;
	struct store_kv kv;
	struct store *st;
	int r = find_kube(c, &st, &beside, err);

	if (r != 0)
		return r;
	r = store_get_wait(st, key_str(KIND_NODE, NULL, c->node), c->deadline_ms, &kv, err);
	if (r < 0) {
		err_wrap(err, r, "netconf: ipam: usePodCidr: Node %s", c->node);
		return r == -ENOENT ? CNI_E_AGAIN : call_store_code(r);
	}
	node = json_loadb(kv.value, kv.len, 0, NULL);
	store_kv_done(&kv);
	if (c->conf->pod_cidr_v4)
		r = add_cidr(c, node, IP_V4, &text, err);
	if (r == 0 && c->conf->pod_cidr_v6)
		r = add_cidr(c, node, IP_V6, &text, err);
	if (r == 0)
		*ret = strbuf_take(&text);
	strbuf_done(&text);
	return r;
}
