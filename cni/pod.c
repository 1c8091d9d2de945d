/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/pod.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cni/call.h"
#include "model/json.h"
#include "model/key.h"
#include "store/store.h"

#define CNI "cni.projectcalico.org/"

enum { MAX_LIST = 1024 };

void pod_wants_done(struct pod_wants *w)
{
	pod_free(w->pod);
	namespace_free(w->namespace);
	cni_texts_done(&w->pools_v4);
	cni_texts_done(&w->pools_v6);
	vec_done(&w->ips);
	vec_done(&w->floating);
	vec_done(&w->sources);
	*w = (struct pod_wants){0};
}

/* ---- the objects ---- */

static int get(struct call *c, struct store *st, enum kind kind, const char *name,
	struct store_kv *ret, struct err *err)
{
	const char *key = key_str(kind, c->namespace, name);
	int r = store_get_wait(st, key, c->deadline_ms, ret, err);

	/* One that is gone since is not started again; one that the kubelet has from elsewhere comes. */
	if (r == -ENOENT) {
		err_set(err, r, "%s: there is no %s %s", store_name(st), kind_info(kind)->name,
			key + strlen(kind_info(kind)->root));
		return CNI_E_AGAIN;
	}
	if (r < 0)
		err_wrap(err, r, "the pod's annotations and labels");
	return r < 0 ? call_store_code(r) : 0;
}

static int fetch_pod(struct call *c, struct store *st, struct pod **ret, struct err *err)
{
	struct store_kv kv;
	int r = get(c, st, KIND_POD, c->args.pod, &kv, err);

	if (r != 0)
		return r;
	r = pod_decode(kv.key, kv.value, kv.len, ret, err);
	store_kv_done(&kv);
	return r < 0 ? CNI_E_STORE : 0;
}

static int fetch_namespace(
	struct call *c, struct store *st, struct namespace **ret, struct err *err)
{
	struct store_kv kv;
	int r = get(c, st, KIND_NAMESPACE, c->namespace, &kv, err);

	if (r != 0)
		return r;
	r = namespace_decode(kv.key, kv.value, kv.len, ret, err);
	store_kv_done(&kv);
	return r < 0 ? CNI_E_STORE : 0;
}

/* What is in memory may be of the pod that had the name before. */
static bool is_another(const struct call *c, const struct pod *p)
{
	return p && p->meta.uid && c->args.uid && strcmp(p->meta.uid, c->args.uid) != 0;
}

static void find(struct call *c, struct pod_wants *w)
{
	const struct pod_source *source = c->rq->pods;

	if (!source)
		return;
	source->find(source->arg, c->namespace, c->args.pod, &w->pod, &w->namespace);
	if (is_another(c, w->pod))
		pod_free(take_ptr(w->pod));
}

static int fetch(
	struct call *c, struct store *st, bool with_pod, struct pod_wants *w, struct err *err)
{
	int r = 0;

	if (!w->namespace)
		r = fetch_namespace(c, st, &w->namespace, err);
	if (r == 0 && with_pod && !w->pod)
		r = fetch_pod(c, st, &w->pod, err);
	return r;
}

static int learn(struct call *c, bool with_pod, struct pod_wants *w, struct err *err)
{
	auto_(store) struct store *beside = NULL;
	bool is_kube;
	int r = call_open_store(c, err);

	if (r != 0 || !c->k8s)
		return r;
	if (!key_name_ok(c->args.pod)) {
		err_set(err, -EINVAL, "CNI_ARGS: K8S_POD_NAME: \"%.80s\" is no name of a pod",
			c->args.pod);
		return CNI_E_ENV;
	}
	is_kube = store_is_managed(c->st);
	if (!is_kube && !c->conf->kube.type)
		return 0;
	find(c, w);
	if (w->namespace && (w->pod || !with_pod))
		return 0;
	r = is_kube ? call_reach_store(c, err) : call_may_wait(c, err);
	if (r != 0)
		return r;
	if (!is_kube && store_open(&c->conf->kube, NULL, &beside, err) < 0) {
		err_wrap(err, -EINVAL, "netconf: the keys of Kubernetes");
		return CNI_E_CONF;
	}
	if (beside)
		store_set_limit(beside, CNI_ANSWER_MS);
	return fetch(c, beside ?: c->st, with_pod, w, err);
}

/* ---- annotations ---- */

/* One that is there, and its text as a list. */
struct annotation {
	const struct call *c;
	const char *name, *text;
	bool of_namespace;
	struct err *err;
};

static int refuse(const struct annotation *a, const char *want)
{
	err_set(a->err, -EINVAL, "annotation %s of %s %s%s%s: got %.80s, want %s", a->name,
		a->of_namespace ? "Namespace" : "Pod", a->c->namespace, a->of_namespace ? "" : "/",
		a->of_namespace ? "" : a->c->args.pod, a->text, want);
	return CNI_E_CONF;
}

/* The Pod's, or the Namespace's where that counts; "" is as none. */
static bool seek(const struct call *c, const struct pod_wants *w, const char *name,
	bool in_namespace, struct err *err, struct annotation *ret)
{
	*ret = (struct annotation){.c = c, .name = name, .text = "", .err = err};
	if (w->pod)
		ret->text = labels_get(&w->pod->meta.annotations, name) ?: "";
	if (!*ret->text && in_namespace && w->namespace) {
		ret->text = labels_get(&w->namespace->meta.annotations, name) ?: "";
		ret->of_namespace = true;
	}
	return *ret->text;
}

/* fn takes each element; false: it is not what is wanted. */
typedef bool take_fn(struct pod_wants *w, const char *element);

static int take_list(const struct annotation *a, struct pod_wants *w, take_fn *fn, const char *want)
{
	auto_(json) json_t *list = json_loads(a->text, 0, NULL);
	const json_t *e;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) > MAX_LIST)
		return refuse(a, want);
	json_array_foreach (list, i, e)
		if (!json_is_string(e) || !fn(w, json_string_value(e)))
			return refuse(a, want);
	return 0;
}

static bool take_pool_v4(struct pod_wants *w, const char *s)
{
	vec_push(&w->pools_v4, mem_strdup(s));
	return *s;
}

static bool take_pool_v6(struct pod_wants *w, const char *s)
{
	vec_push(&w->pools_v6, mem_strdup(s));
	return *s;
}

static bool take_family(struct pod_wants *w, const char *s)
{
	bool v4 = strcmp(s, "IPv4") == 0, v6 = strcmp(s, "IPv6") == 0;

	w->v4 |= v4;
	w->v6 |= v6;
	return v4 || v6;
}

static bool has_family(const struct ip *v, size_t n, uint8_t family)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].family == family)
			return true;
	return false;
}

static bool take_ip(struct pod_wants *w, const char *s)
{
	struct ip ip;

	if (ip_parse(s, &ip, NULL) < 0 || has_family(w->ips.v, w->ips.n, ip.family))
		return false;
	vec_push(&w->ips, ip);
	return true;
}

static bool take_floating(struct pod_wants *w, const char *s)
{
	struct ip ip;

	if (ip_parse(s, &ip, NULL) < 0 || has_family(w->floating.v, w->floating.n, ip.family))
		return false;
	vec_push(&w->floating, ip);
	return true;
}

static bool take_source(struct pod_wants *w, const char *s)
{
	struct prefix p;

	if (prefix_parse(s, &p, NULL) < 0)
		return false;
	vec_push(&w->sources, prefix_masked(&p));
	return true;
}

/* Another IPAM plugin knows no pools, and which addresses it gives is its own configuration's. */
static bool is_delegated(const struct call *c)
{
	const char *type = c->conf->ipam_type;

	return type && !cni_ipam_is_own(type);
}

/* These in place of the configuration's. */
static int want_pools(const struct call *c, struct pod_wants *w, struct err *err)
{
	static const char want[] = "a JSON list of names or CIDRs of pools, as in [\"pool-1\"]";
	static const char families[] = "a JSON list of \"IPv4\", \"IPv6\" or both";
	struct annotation a;
	int r = 0;

	if (is_delegated(c))
		return 0;
	if (seek(c, w, CNI "ipv4pools", true, err, &a)) {
		cni_texts_done(&w->pools_v4);
		r = take_list(&a, w, take_pool_v4, want);
	}
	if (r == 0 && seek(c, w, CNI "ipv6pools", true, err, &a)) {
		cni_texts_done(&w->pools_v6);
		r = take_list(&a, w, take_pool_v6, want);
	}
	if (r == 0 && seek(c, w, CNI "ipFamilies", true, err, &a)) {
		w->v4 = w->v6 = false;
		r = take_list(&a, w, take_family, families);
		if (r == 0 && !w->v4 && !w->v6)
			r = refuse(&a, families);
	}
	return r;
}

static int refuse_others(const struct cni_texts *pools, enum ip_family family, struct err *err)
{
	struct prefix p;

	for (size_t i = 0; i < pools->n; i++) {
		if (prefix_parse(pools->v[i], &p, NULL) < 0 || p.addr.family == family)
			continue;
		err_set(err, -EINVAL,
			"ipv%d_pools of the netconf, or the annotation ipv%dpools: got %s, want pools "
			"of IPv%d, by name or CIDR",
			family, family, pools->v[i], family);
		return CNI_E_CONF;
	}
	return 0;
}

/* CIDRs: of names whoever reads the pools sees it. */
static int check_families(const struct call *c, const struct pod_wants *w, struct err *err)
{
	int r = 0;

	if (is_delegated(c))
		return 0;
	if (w->v4)
		r = refuse_others(&w->pools_v4, IP_V4, err);
	if (r == 0 && w->v6)
		r = refuse_others(&w->pools_v6, IP_V6, err);
	return r;
}

static int want_ips(const struct call *c, struct pod_wants *w, struct err *err)
{
	static const char want[] =
		"a JSON list of at most one IPv4 and one IPv6 address, as in [\"192.0.2.7\"]";
	struct annotation of_ipam, a;
	bool from_ipam = seek(c, w, CNI "ipAddrs", false, err, &of_ipam);

	int r;

	w->no_ipam = seek(c, w, CNI "ipAddrsNoIpam", false, err, &a);
	if (!from_ipam && !w->no_ipam)
		return 0;
	if (from_ipam && w->no_ipam)
		return refuse(&a, "not both this and " CNI "ipAddrs");
	if (from_ipam)
		a = of_ipam;
	if (is_delegated(c))
		return refuse(
			&a, "ipam.type to be margay-ipam in the netconf, or no such annotation");
	if (w->no_ipam && !c->conf->ip_addrs_no_ipam)
		return refuse(&a, "feature_control.ip_addrs_no_ipam to be true in the netconf, "
				  "or no such annotation");
	w->ips.n = 0;
	r = take_list(&a, w, take_ip, want);
	return r == 0 && w->ips.n == 0 ? refuse(&a, want) : r;
}

bool pod_will_have(const struct pod_wants *w, uint8_t family)
{
	return w->ips.n > 0 ? has_family(w->ips.v, w->ips.n, family)
			    : (family == IP_V4 ? w->v4 : w->v6);
}

static int want_floating(const struct call *c, struct pod_wants *w, struct err *err)
{
	struct annotation a;
	int r;

	if (!seek(c, w, CNI "floatingIPs", false, err, &a))
		return 0;
	if (!c->conf->floating_ips)
		return refuse(&a, "feature_control.floating_ips to be true in the netconf, or no "
				  "such annotation");
	r = take_list(&a, w, take_floating,
		"a JSON list of at most one IPv4 and one IPv6 address, as in [\"192.0.2.7\"]");
	for (size_t i = 0; r == 0 && i < w->floating.n; i++)
		if (!is_delegated(c) && !pod_will_have(w, w->floating.v[i].family))
			r = refuse(&a, "addresses of the families alone that the pod has itself");
	return r;
}

static int want_mac(const struct call *c, struct pod_wants *w, struct err *err)
{
	struct annotation a;

	if (!seek(c, w, CNI "hwAddr", false, err, &a))
		return 0;
	if (mac_parse(a.text, &w->mac, NULL) < 0 || mac_is_multicast(&w->mac) ||
		mac_is_zero(&w->mac))
		return refuse(&a, "a unicast Ethernet address like 02:00:00:00:00:01");
	return 0;
}

static int want_sources(const struct call *c, struct pod_wants *w, struct err *err)
{
	struct annotation a;

	if (!seek(c, w, CNI "allowedSourcePrefixes", false, err, &a))
		return 0;
	return take_list(&a, w, take_source, "a JSON list of CIDRs, as in [\"192.0.2.0/24\"]");
}

/* ---- the configuration ---- */

static void copy_texts(struct cni_texts *to, const struct cni_texts *from)
{
	for (size_t i = 0; i < from->n; i++)
		vec_push(to, mem_strdup(from->v[i]));
}

/* What the runtime says of this pod comes before what is said of all. */
static void want_configured(const struct call *c, struct pod_wants *w)
{
	const struct ip *ip;

	w->v4 = c->conf->assign_v4;
	w->v6 = c->conf->assign_v6;
	copy_texts(&w->pools_v4, &c->conf->pools_v4);
	copy_texts(&w->pools_v6, &c->conf->pools_v6);
	if (c->args.ip.family != IP_NONE)
		vec_push(&w->ips, c->args.ip);
	else
		vec_for_each (&c->conf->ips, ip)
			vec_push(&w->ips, *ip);
	w->mac = mac_is_zero(&c->args.mac) ? c->conf->mac : c->args.mac;
}

int pod_learn(struct call *c, struct pod_wants *ret, struct err *err)
{
	int r;

	*ret = (struct pod_wants){0};
	want_configured(c, ret);
	r = learn(c, true, ret, err) ?: want_pools(c, ret, err) ?: check_families(c, ret, err);
	/* One address is not that of several interfaces: the pod's own is eth0's. */
	if (r != 0 || strcmp(c->ifname, "eth0") != 0)
		return r;
	return want_ips(c, ret, err)
		       ?: want_mac(c, ret, err)
		       ?: want_floating(c, ret, err)
		       ?: want_sources(c, ret, err);
}

int pod_learn_namespace(struct call *c, struct pod_wants *ret, struct err *err)
{
	*ret = (struct pod_wants){0};
	want_configured(c, ret);
	return learn(c, false, ret, err) ?: check_families(c, ret, err);
}
