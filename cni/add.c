/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/sha1.h"
#include "base/strbuf.h"
#include "cni/call.h"
#include "cni/device.h"
#include "cni/endpoint.h"
#include "cni/pod.h"
#include "cni/reserved.h"
#include "cni/turn.h"
#include "cni/wait.h"
#include "ipam/alloc.h"
#include "model/ipam.h"
#include "store/store.h"

#define MTU_FILE "/var/lib/margay/mtu"
#define MTU_FILE_CALICO "/var/lib/calico/mtu"

enum { MTU_MIN_V6 = 1280 };

/* As Go prints times: "2026-08-01 12:00:05.000000123 +0000 UTC". */
static void format_timestamp(int64_t real_ns, char *buf, size_t size)
{
	time_t s = (time_t)(real_ns / 1000000000);
	char day[32], fraction[16];
	struct tm tm;
	size_t n;

	gmtime_r(&s, &tm);
	strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(fraction, sizeof(fraction), ".%09d", (int)(real_ns % 1000000000));
	n = strlen(fraction);
	while (n > 0 && (fraction[n - 1] == '0' || fraction[n - 1] == '.'))
		fraction[--n] = '\0';
	snprintf(buf, size, "%s%s +0000 UTC", day, fraction);
}

struct attrs {
	struct ipam_attr v[5];
	char timestamp[64];
};

/* What a block says of the address. How many they are. */
static size_t attrs_of(const struct call *c, int64_t real_ns, struct attrs *ret)
{
	size_t n = 0;

	format_timestamp(real_ns, ret->timestamp, sizeof(ret->timestamp));
	ret->v[n++] = (struct ipam_attr){"node", c->node};
	ret->v[n++] = (struct ipam_attr){"timestamp", ret->timestamp};
	if (c->rq->ipam_only)
		ret->v[n++] = (struct ipam_attr){"type", IPAM_TYPE_ALONE};
	if (c->k8s) {
		ret->v[n++] = (struct ipam_attr){"namespace", c->namespace};
		ret->v[n++] = (struct ipam_attr){"pod", c->args.pod};
	}
	return n;
}

struct assigned {
	struct ipam_addr v[2];
	struct ip ips[2];
	size_t n;
	bool foreign;  /* they are of no pool */
	bool earlier;  /* an earlier ADD has written the endpoint of a foreign one */
	bool reserved; /* they are of the node's reserve, and the endpoint is in its journal */
};

static int assign_one(struct call *c, struct ipam_assign a, struct assigned *ret, struct err *err)
{
	struct ipam_request *rq;
	struct attrs attrs;
	int e, r;

	a.host = c->node;
	a.handle = c->handle;
	a.use = IPAM_USE_WORKLOAD;
	a.reuse = true;
	a.now_ns = clock_real_ns();
	a.random = (uint64_t)a.now_ns;
	a.attrs = attrs.v;
	a.n_attrs = attrs_of(c, a.now_ns, &attrs);
	rq = ipam_assign_new(&a);
	r = call_ipam(c, rq, &e, err);
	for (int family = IP_V4; r == 0 && family <= IP_V6; family += IP_V6 - IP_V4) {
		const struct ipam_addr *got = ipam_request_addr(rq, (enum ip_family)family);

		if (got && ret->n < array_size(ret->v)) {
			ret->ips[ret->n] = got->ip;
			ret->v[ret->n++] = *got;
		}
	}
	ipam_request_free(rq);
	return r;
}

/* But for what is not this ADD's: an earlier one left it, or it is of no pool. */
static void release_new(struct call *c, const struct assigned *a)
{
	for (size_t i = 0; i < a->n; i++) {
		struct ipam_request *rq =
			ipam_release_ip_new(&a->v[i].ip, c->handle, clock_real_ns());
		int e;

		if (!a->v[i].held)
			(void)call_ipam(c, rq, &e, NULL);
		ipam_request_free(rq);
	}
}

/* Addresses that no pool has: whoever asked for them answers for their being free. */
static void use_as_they_are(const struct pod_wants *w, struct assigned *ret)
{
	ret->foreign = true;
	for (size_t i = 0; i < w->ips.n; i++) {
		ret->ips[ret->n] = w->ips.v[i];
		ret->v[ret->n++] = (struct ipam_addr){.ip = w->ips.v[i], .held = true};
	}
}

static int use_given(struct call *c, struct assigned *ret, struct err *err)
{
	const struct cni_ip *ip;

	ret->foreign = true;
	vec_for_each (&c->given->ips, ip) {
		if (ret->n == array_size(ret->v) ||
			(ret->n > 0 && ret->ips[0].family == ip->address.addr.family)) {
			err_set(err, -EINVAL,
				"the IPAM plugin %s gave more than one address of a family: want at most "
				"one of IPv4 and one of IPv6",
				c->conf->ipam_type);
			return CNI_E_CONF;
		}
		ret->ips[ret->n] = ip->address.addr;
		ret->v[ret->n++] = (struct ipam_addr){.ip = ip->address.addr, .held = true};
	}
	if (ret->n > 0)
		return 0;
	err_set(err, -EINVAL, "the IPAM plugin %s gave no address", c->conf->ipam_type);
	return CNI_E_CONF;
}

/* Addresses by name, or one of each family that is wanted. */
static int assign(struct call *c, const struct pod_wants *w, struct assigned *ret, struct err *err)
{
	const struct labels *labels = w->namespace ? &w->namespace->meta.labels : NULL;
	int r = 0;

	*ret = (struct assigned){0};
	if (c->given)
		return use_given(c, ret, err);
	if (w->no_ipam) {
		use_as_they_are(w, ret);
		return 0;
	}
	for (size_t i = 0; i < w->ips.n && r == 0; i++) {
		uint8_t family = w->ips.v[i].family;
		struct ipam_assign a = {
			.ip = w->ips.v[i], .v4 = family == IP_V4, .v6 = family == IP_V6};

		r = assign_one(c, a, ret, err);
	}
	if (w->ips.n == 0) {
		struct ipam_assign a = {.v4 = w->v4,
			.v6 = w->v6,
			.namespace_labels = labels,
			.pools_v4 = {(const char *const *)w->pools_v4.v, w->pools_v4.n},
			.pools_v6 = {(const char *const *)w->pools_v6.v, w->pools_v6.n}};

		if (!a.v4 && !a.v6) {
			err_set(err, -EINVAL,
				"netconf: ipam: assign_ipv4 and assign_ipv6 are both false");
			return CNI_E_CONF;
		}
		r = assign_one(c, a, ret, err);
	}
	if (r != 0)
		release_new(c, ret);
	return r;
}

struct taking {
	const struct call *c;
	const struct pod_wants *wants;
	const struct mac *mac;
	struct attrs attrs;
};

static char *json_of_taken(void *arg, const struct ip *ips, size_t n)
{
	const struct taking *t = arg;

	return endpoint_json(t->c, t->wants, ips, n, t->mac);
}

/* What the journal is to say of the addresses, and (with_endpoint) of the endpoint. Borrows t. */
static struct journal_want want_of(struct taking *t, bool with_endpoint)
{
	return (struct journal_want){.owner = {.by_name = t->wants->ips.n > 0},
		.attrs = t->attrs.v,
		.n_attrs = attrs_of(t->c, clock_real_ns(), &t->attrs),
		.endpoint = with_endpoint ? json_of_taken : NULL,
		.arg = t};
}

/* -ENOENT: the datastore is to be asked. mac NULL: without a device and so without an endpoint. */
static int take_reserved(struct call *c, const struct pod_wants *wants, const struct mac *mac,
	struct assigned *ret, struct err *err)
{
	struct taking t = {.c = c, .wants = wants, .mac = mac};
	struct prefix nets[RESERVED_NETS_MAX];
	struct journal_want w = want_of(&t, mac != NULL);
	int r;

	*ret = (struct assigned){0};
	w.v4 = wants->v4;
	w.v6 = wants->v6;
	if (wants->ips.n == 1) {
		w.ip = wants->ips.v[0];
		w.v4 = w.ip.family == IP_V4;
		w.v6 = !w.v4;
	}
	if (c->given || wants->no_ipam || wants->ips.n > 1 || (!w.v4 && !w.v6) ||
		(w.v4 && !reserved_want_pools(c, IP_V4, &wants->pools_v4, nets, &w)) ||
		(w.v6 && !reserved_want_pools(c, IP_V6, &wants->pools_v6, nets, &w)))
		return -ENOENT;
	r = reserved_take(c, &w, ret->v, &ret->n, err);
	for (size_t i = 0; r == 0 && i < ret->n; i++)
		ret->ips[i] = ret->v[i].ip;
	ret->reserved = r == 0;
	return r;
}

/* The endpoint waits in the journal. */
static bool is_patch_later(const struct call *c, const struct assigned *a)
{
	return c->journal && !a->foreign && store_is_managed(c->st);
}

struct putting {
	const struct pod_wants *wants;
	const struct mac *mac;
	struct assigned *a;
};

/* The endpoint first, so that nobody routes to it when the address is another's. */
static int take_back(struct call *c, void *arg, struct err *err)
{
	const struct putting *p = arg;
	const struct assigned *a = p->a;
	bool earlier = a->foreign ? a->earlier : a->n == 0 || a->v[0].held;

	(void)err;
	if (p->mac)
		c->unsure |= earlier || endpoint_delete(c, NULL) < 0;
	release_new(c, a);
	return 0;
}

/* The endpoint, too, before there is a device: as with the reserve. */
static int put_in_store(struct call *c, void *arg, struct err *err)
{
	const struct putting *p = arg;
	struct assigned *a = p->a;
	char key[IPAM_KEY_SIZE];
	int r;

	store_txn_expect_new(c->st, ipam_key_handle(c->handle, key));
	if (p->mac)
		store_txn_expect_new(c->st, c->wep_key);
	r = call_heed_lock(c, NULL, err) ?: assign(c, p->wants, a, err);
	if (r != 0)
		return r;
	if (p->mac && a->foreign && (r = endpoint_find(c, &a->earlier, err)) < 0)
		return call_store_code(r);
	if (p->mac && !is_patch_later(c, a) &&
		(r = endpoint_put(c, p->wants, a->ips, a->n, p->mac, err)) < 0)
		r = call_store_code(r);
	if (r == 0)
		r = call_heed_lock_after(c, err);
	if (r != 0)
		(void)take_back(c, arg, NULL);
	return r;
}

/*
 * What the datastore has given is in the journal, too, before anybody is told: a repeated ADD finds it there. On
 * Kubernetes the endpoint is a patch of the Pod, which is not waited for.
 */
static int adopt(struct call *c, const struct pod_wants *wants, const struct mac *mac,
	struct assigned *a, struct err *err)
{
	struct taking t = {.c = c, .wants = wants, .mac = mac};
	struct journal_want w = want_of(&t, mac && is_patch_later(c, a));

	if (reserved_adopt(c, &w, a->v, a->n, err) == 0) {
		a->reserved = true;
		return 0;
	}
	(void)call_txn(c, take_back, &(struct putting){wants, mac, a}, NULL);
	return CNI_E_AGAIN;
}

/* Of the reserve, which waits for nobody, else of the datastore. mac as of take_reserved. */
static int get_addresses(struct call *c, const struct pod_wants *wants, const struct mac *mac,
	struct assigned *a, struct err *err)
{
	int r = c->journal ? reserved_check(c, err) : 0;

	if (r < 0)
		return CNI_E_AGAIN;
	r = c->journal ? take_reserved(c, wants, mac, a, err) : -ENOENT;
	if (r == 0)
		return 0;
	if (r != -ENOENT)
		return CNI_E_AGAIN;
	r = call_reach_store(c, err);
	if (r != 0)
		return r;
	if (c->journal && reserved_settle(c, err) < 0)
		return CNI_E_AGAIN;
	/* Of another's addresses the endpoint alone is written, and by what is there. */
	r = (c->given || wants->no_ipam ? call_txn : call_known)(
		c, put_in_store, &(struct putting){wants, mac, a}, err);
	return r != 0 || !c->journal || a->foreign ? r : adopt(c, wants, mac, a, err);
}

/* But for what is an earlier ADD's. */
static void give_up(struct call *c, const struct mac *mac, struct assigned *a)
{
	if (a->reserved && !a->v[0].held)
		(void)reserved_give_back(c, NULL);
	else if (!a->reserved)
		c->unsure |= call_txn(c, take_back, &(struct putting){NULL, mac, a}, NULL) != 0;
}

static int find_mtu(const struct call *c, uint32_t *ret, struct err *err)
{
	const char *path = MTU_FILE;
	auto_free char *text = NULL;
	int r;

	*ret = c->conf->mtu;
	if (*ret != 0 && !c->conf->require_mtu_file)
		return 0;
	r = file_read(path, 64, &text, NULL, err);
	if (r == -ENOENT) {
		path = MTU_FILE_CALICO;
		r = file_read(path, 64, &text, NULL, err);
	}
	if (r == -ENOENT && !c->conf->require_mtu_file)
		return 0;
	if (r < 0) {
		err_wrap(err, r, "%s",
			r == -ENOENT ? "require_mtu_file: check that margay-felix runs on this node"
				     : "the MTU: repair the file, or set mtu");
		return CNI_E_AGAIN;
	}
	text[strcspn(text, " \n")] = '\0';
	if (*ret == 0 && parse_u32(text, 68, 65535, ret, err) < 0) {
		err_wrap(err, -EINVAL, "%s", path);
		return CNI_E_CONF;
	}
	return 0;
}

static bool will_have_v6(const struct call *c, const struct pod_wants *w)
{
	const struct cni_ip *ip;

	if (!c->given)
		return pod_will_have(w, IP_V6);
	vec_for_each (&c->given->ips, ip)
		if (ip->address.addr.family == IP_V6)
			return true;
	return false;
}

/* RFC 8200, section 5: the kernel has no IPv6 on a link with a smaller one. */
static int check_mtu(const struct call *c, const struct pod_wants *w, uint32_t mtu, struct err *err)
{
	if (mtu == 0 || mtu >= MTU_MIN_V6 || !will_have_v6(c, w))
		return 0;
	err_set(err, -EINVAL,
		"MTU %u: the pod is to have an IPv6 address, which wants %d at least: set mtu in the "
		"netconf, or ipam.assign_ipv6 to false",
		mtu, MTU_MIN_V6);
	return CNI_E_CONF;
}

/* Asked for, or always the same for this interface of this container. */
static struct mac find_mac(const struct call *c, const struct pod_wants *w)
{
	auto_free char *text = mem_printf("%s.%s", c->container_id, c->ifname);
	uint8_t sum[SHA1_SIZE];
	struct mac mac;

	if (!mac_is_zero(&w->mac))
		return w->mac;
	sha1(text, strlen(text), sum);
	memcpy(mac.b, sum, sizeof(mac.b));
	mac.b[0] = (uint8_t)((mac.b[0] & 0xfc) | 0x02); /* unicast, locally administered */
	return mac;
}

static void add_ips(struct cni_result *res, const struct assigned *a, int interface)
{
	for (size_t i = 0; i < a->n; i++) {
		struct cni_ip ip = {.address = prefix_host(&a->ips[i]), .interface = interface};

		vec_push(&res->ips, ip);
	}
}

/* As Calico: another IPAM plugin's as it says them, else one for each address. */
static void add_routes(
	struct cni_result *res, const struct cni_result *given, const struct assigned *a)
{
	const struct cni_route *rt;

	if (given)
		vec_for_each (&given->routes, rt)
			vec_push(&res->routes, *rt);
	else
		for (size_t i = 0; i < a->n; i++)
			vec_push(&res->routes, (struct cni_route){.dst = prefix_host(&a->ips[i])});
}

static void print_result(
	const struct call *c, const struct assigned *a, const struct device *d, struct strbuf *out)
{
	struct cni_result *res = cni_result_new();
	struct cni_interface host = {.mac = device_host_mac}, pod = {.mac = d->mac, .mtu = d->mtu};

	memcpy(host.name, c->veth, sizeof(host.name));
	snprintf(pod.name, sizeof(pod.name), "%s", c->ifname);
	pod.sandbox = mem_strdup(c->netns);
	vec_push(&res->interfaces, host);
	vec_push(&res->interfaces, pod);
	add_ips(res, a, 1);
	add_routes(res, c->given, a);
	res->dns = c->given ? json_incref(c->given->dns) : NULL;
	cni_result_print(res, c->conf->version, out);
	cni_result_free(res);
}

static int add(struct call *c, struct pod_wants *w, struct strbuf *out, struct err *err)
{
	struct device d = {0};
	struct assigned a;
	int r;

	if (c->conf->netkit)
		log_info("netconf: device_type: netkit is not made here: a veth takes its place");
	r = find_mtu(c, &d.mtu, err);
	if (r == 0)
		r = call_open_host(c, err);
	if (r == 0)
		r = call_open_pod(c, err);
	if (r == 0 && wait_is_asked(c))
		r = call_may_wait(c, err);
	if (r == 0)
		r = wait_ready(c, err);
	if (r == 0)
		r = pod_learn(c, w, err) ?: check_mtu(c, w, d.mtu, err);
	if (r == 0) {
		d.mac = find_mac(c, w);
		r = get_addresses(c, w, &d.mac, &a, err);
	}
	if (r != 0)
		return r;
	d.ips = a.ips;
	d.n_ips = a.n;
	r = turn_check(c, err);
	if (r == 0 && device_create(c, &d, err) < 0)
		r = CNI_E_KERNEL;
	if (r != 0) {
		give_up(c, &d.mac, &a);
		return r;
	}
	wait_policy(c);
	print_result(c, &a, &d, out);
	return 0;
}

int call_add(struct call *c, struct strbuf *out, struct err *err)
{
	struct pod_wants w = {0};
	int r = add(c, &w, out, err);

	pod_wants_done(&w);
	return r;
}

int call_ipam_add(struct call *c, struct strbuf *out, struct err *err)
{
	struct pod_wants w = {0};
	struct cni_result *res;
	struct assigned a;
	int r = pod_learn_namespace(c, &w, err);

	if (r == 0)
		r = get_addresses(c, &w, NULL, &a, err);
	pod_wants_done(&w);
	if (r != 0)
		return r;
	res = cni_result_new();
	add_ips(res, &a, -1);
	add_routes(res, NULL, &a);
	cni_result_print(res, c->conf->version, out);
	cni_result_free(res);
	return 0;
}
