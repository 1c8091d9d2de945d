/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cni/call.h"
#include "cni/ctx.h"
#include "cni/device.h"
#include "cni/endpoint.h"
#include "cni/journal.h"
#include "cni/pod.h"
#include "cni/reserved.h"
#include "cni/shared.h"
#include "ipam/alloc.h"
#include "ipam/pools.h"
#include "model/ipam.h"
#include "model/ippool.h"
#include "model/kind.h"
#include "store/store.h"

/* What prevResult says of this interface. */
static int previous(
	const struct call *c, struct ip *ips, size_t *n_ips, struct device *d, struct err *err)
{
	const struct cni_result *prev = c->conf->prev;
	const struct cni_interface *it;
	const struct cni_ip *ip;
	bool found = false;

	if (!prev) {
		err_set(err, -EINVAL, "netconf: prevResult is missing: CHECK compares with it");
		return CNI_E_CONF;
	}
	vec_for_each (&prev->interfaces, it) {
		if (!it->sandbox || strcmp(it->name, c->ifname) != 0)
			continue;
		d->mac = it->mac;
		found = true;
	}
	if (!found) {
		err_set(err, -EINVAL, "netconf: prevResult: it has no interface %s in a sandbox",
			c->ifname);
		return CNI_E_CONF;
	}
	*n_ips = 0;
	vec_for_each (&prev->ips, ip) {
		bool of_this = ip->interface < 0 ||
			       strcmp(prev->interfaces.v[ip->interface].name, c->ifname) == 0;

		if (of_this && *n_ips < 2)
			ips[(*n_ips)++] = ip->address.addr;
	}
	d->ips = ips;
	d->n_ips = *n_ips;
	return 0;
}

static int check_endpoint(struct call *c, const struct device *d, struct err *err)
{
	auto_(wep) struct wep *w = NULL;
	int64_t rev;
	int r = endpoint_get(c, &w, &rev, err);

	if (r == -ENOENT) {
		err_set(err, r,
			"the WorkloadEndpoint of this interface is missing in the datastore");
		return CNI_E_CHECK;
	}
	if (r < 0)
		return r == -EINVAL ? CNI_E_CHECK : call_store_code(r);
	if (!w->container_id || strcmp(w->container_id, c->container_id) != 0) {
		err_set(err, -EINVAL, "the WorkloadEndpoint is container %s's",
			w->container_id ?: "?");
		return CNI_E_CHECK;
	}
	for (size_t i = 0; i < d->n_ips; i++) {
		bool found = false;

		for (size_t k = 0; k < w->networks.n; k++)
			found |= ip_equal(&w->networks.v[k].addr, &d->ips[i]);
		if (!found) {
			err_set(err, -EINVAL, "the WorkloadEndpoint does not have the address %s",
				ip_str(&d->ips[i]));
			return CNI_E_CHECK;
		}
	}
	return 0;
}

/* The datastore may not have it yet, nor be there; or it has still what a DEL has given back. */
static bool journal_knows(const struct call *c)
{
	return c->journal && (journal_taken_by(c->journal, c->handle) ||
				     journal_is_pending(c->journal, c->handle, NULL));
}

/* Those of a pod that brought its own are of no pool. */
static int check_addresses(struct call *c, struct err *err)
{
	struct pod_wants w = {0};
	int r = c->given ? 0 : c->conf->ip_addrs_no_ipam ? pod_learn(c, &w, err) : 0;
	bool no_ipam = w.no_ipam;

	pod_wants_done(&w);
	return r != 0 || no_ipam || c->given ? r : call_ipam_check(c, err);
}

int call_check(struct call *c, struct err *err)
{
	struct device d = {0};
	struct ip ips[2];
	size_t n_ips;
	int r;

	r = previous(c, ips, &n_ips, &d, err);
	if (r == 0)
		r = call_open_host(c, err);
	if (r == 0)
		r = call_open_pod(c, err);
	if (r == 0)
		r = call_open_store(c, err);
	if (r != 0)
		return r;
	r = device_check(c, &d, err);
	if (r < 0)
		return r == -ENOENT ? CNI_E_CHECK : CNI_E_KERNEL;
	if (journal_knows(c))
		return call_ipam_check(c, err);
	r = call_reach_store(c, err);
	if (r == 0 && endpoint_is_possible(c->st, c->wep_key))
		r = check_endpoint(c, &d, err);
	return r != 0 ? r : check_addresses(c, err);
}

static bool is_taken(const struct call *c, const struct ip *ip)
{
	const struct journal_addr *a = journal_find(c->journal, ip);

	return a && a->state == JOURNAL_TAKEN && strcmp(a->owner.handle, c->handle) == 0;
}

static bool is_among(const struct ipam_addr *v, size_t n, const struct ip *ip)
{
	for (size_t i = 0; i < n; i++)
		if (ip_equal(&v[i].ip, ip))
			return true;
	return false;
}

/* What prevResult has for this interface is in the journal, or (rq) was found in the datastore. */
static int check_previous(const struct call *c, const struct ipam_request *rq, struct err *err)
{
	const struct cni_result *prev = c->conf->prev;
	const struct ipam_addr *have = NULL;
	const struct cni_ip *ip;
	size_t n = 0;

	if (!prev)
		return 0;
	if (rq)
		have = ipam_request_addrs(rq, &n);
	vec_for_each (&prev->ips, ip) {
		if (ip->interface >= 0 && c->ifname &&
			strcmp(prev->interfaces.v[ip->interface].name, c->ifname) != 0)
			continue;
		if (rq ? is_among(have, n, &ip->address.addr) : is_taken(c, &ip->address.addr))
			continue;
		err_set(err, -ENOENT, "address %s is not assigned to %s", ip_str(&ip->address.addr),
			c->handle);
		return CNI_E_CHECK;
	}
	return 0;
}

static int none_assigned(const struct call *c, struct err *err)
{
	err_set(err, -ENOENT, "no address is assigned to %s", c->handle);
	return CNI_E_CHECK;
}

int call_ipam_check(struct call *c, struct err *err)
{
	struct ipam_request *rq;
	size_t n;
	int e, r;

	if (journal_knows(c))
		return journal_taken_by(c->journal, c->handle) ? check_previous(c, NULL, err)
							       : none_assigned(c, err);
	rq = ipam_lookup_handle_new(c->handle);
	r = call_ipam(c, rq, &e, err);
	(void)ipam_request_addrs(rq, &n);
	if (e == -ENOENT || (r == 0 && n == 0))
		r = none_assigned(c, err);
	if (r == 0)
		r = check_previous(c, rq, err);
	ipam_request_free(rq);
	return r;
}

struct pools {
	VEC(struct ippool *) v; /* that a pod may have an address of */
};

static int list_pools(struct call *c, struct pools *ret, struct err *err)
{
	struct store_list list = {0};
	int r = store_list_wait(c->st, kind_info(KIND_IPPOOL)->root, c->deadline_ms, &list, err);

	for (size_t i = 0; i < list.n; i++) {
		auto_(ippool) struct ippool *p = NULL;
		const struct store_kv *kv = &list.v[i];

		if (ippool_decode(kv->key, kv->value, kv->len, &p, NULL) == 0 &&
			ippool_enabled(p) && pool_allows(p, IPAM_USE_WORKLOAD))
			vec_push(&ret->v, take_ptr(p));
	}
	store_list_done(&list);
	return r;
}

/* name NULL: one that is used without being asked for. */
static bool has_pool(const struct pools *pools, enum ip_family family, const char *name)
{
	for (size_t i = 0; i < pools->v.n; i++) {
		const struct ippool *p = pools->v.v[i];

		if (p->cidr.addr.family == family && (name ? pool_is_named(p, name) : !p->manual))
			return true;
	}
	return false;
}

static int check_family(const struct call *c, const struct pools *pools, enum ip_family family,
	const struct cni_texts *names, struct err *err)
{
	if (names->n == 0 && !has_pool(pools, family, NULL))
		return err_set(err, -ENOENT,
			"%s: no enabled IPPool of IPv%u is there for pods: make one (margayctl apply), "
			"or look at which datastore the network configuration names",
			store_name(c->st), family);
	for (size_t i = 0; i < names->n; i++)
		if (!has_pool(pools, family, names->v[i]))
			return err_set(err, -ENOENT,
				"%s: ipam.ipv%u_pools: \"%s\": no enabled IPPool of IPv%u has this name "
				"or CIDR, and is for pods",
				store_name(c->st), family, names->v[i], family);
	return 0;
}

static int check_pools(struct call *c, struct err *err)
{
	struct pools pools = {0};
	int r = list_pools(c, &pools, err);

	if (r == 0 && c->conf->assign_v4)
		r = check_family(c, &pools, IP_V4, &c->conf->pools_v4, err);
	if (r == 0 && c->conf->assign_v6)
		r = check_family(c, &pools, IP_V6, &c->conf->pools_v6, err);
	for (size_t i = 0; i < pools.v.n; i++)
		ippool_free(pools.v.v[i]);
	vec_done(&pools.v);
	return r;
}

/* A pod more has its addresses of it, whatever the datastore does. */
static bool reserve_has(const struct call *c)
{
	const struct cni_conf *conf = c->conf;
	struct prefix nets[RESERVED_NETS_MAX];
	struct journal_want w = {.node = c->node, .v4 = conf->assign_v4, .v6 = conf->assign_v6};

	return c->journal && !c->given &&
	       (!w.v4 || reserved_want_pools(c, IP_V4, &conf->pools_v4, nets, &w)) &&
	       (!w.v6 || reserved_want_pools(c, IP_V6, &conf->pools_v6, nets, &w)) &&
	       journal_has(c->journal, &w);
}

static bool gives(const struct call *c, enum ip_family family, const struct cni_texts *names)
{
	for (size_t i = 0; i < names->n; i++)
		if (!journal_pool(c->journal, names->v[i]))
			return false;
	return journal_gives(c->journal, family);
}

/* The server's keeper has all that STATUS asks for; what it does not have the datastore may have. */
static bool keeper_has(const struct call *c)
{
	const struct cni_home *home = ctx_home(c->ctx);
	const struct cni_conf *conf = c->conf;

	return home && c->journal && shared_get(&home->shared->keeper) == KEEPER_WELL &&
	       !call_store_is_away(c) && !c->given &&
	       (!conf->assign_v4 || gives(c, IP_V4, &conf->pools_v4)) &&
	       (!conf->assign_v6 || gives(c, IP_V6, &conf->pools_v6));
}

/*
 * Ready for ADD: the node has its name (call_init), the datastore takes writes, and there are the pools.
 * The handle that is deleted is nobody's, which a driver finds only where it may write: of no handle is this
 * the revision.
 */
int call_status(struct call *c, struct err *err)
{
	int r;

	if (c->journal && (reserved_check(c, err) < 0 || journal_has_room(c->journal, err) < 0))
		return CNI_E_UNAVAILABLE;
	if (reserve_has(c) || keeper_has(c))
		return 0;
	r = call_open_store(c, err);
	if (r != 0)
		return r;
	if (call_heed_lock(c, NULL, err) != 0)
		return CNI_E_UNAVAILABLE;
	r = store_delete_wait(c->st, IPAM_KEY_HANDLES "none", 1, NULL, c->deadline_ms, err);
	if (r == -ENOENT || r == -ESTALE)
		r = c->given ? 0 : check_pools(c, err);
	return r < 0 ? CNI_E_UNAVAILABLE : 0;
}
