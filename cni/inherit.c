/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/inherit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cni/args.h"
#include "cni/cni.h"
#include "cni/endpoint.h"
#include "cni/journal.h"
#include "cni/own.h"
#include "cni/routed.h"
#include "ipam/run.h"
#include "model/key.h"
#include "model/wep.h"
#include "store/store.h"

enum {
	ASK_MS = 10000,	  /* of one question */
	AGAIN_MS = 60000, /* after a failure of this machine */
};

struct inherit {
	const struct cni_home *home;
	struct journal *j;
	int64_t after_ms, due_ms;
	bool fails_here;	   /* what has ended the look is this machine's */
	struct own_allocs unknown; /* at the first look */
};

struct inherit *inherit_new(const struct cni_home *home, struct journal *j, int64_t after_ms)
{
	struct inherit *in = mem_new(struct inherit);

	in->home = home;
	in->j = j;
	in->after_ms = after_ms;
	return in;
}

void inherit_free(struct inherit *in)
{
	own_allocs_done(&in->unknown);
	free(in);
}

int64_t inherit_due_ms(const struct inherit *in)
{
	return in->due_ms;
}

static bool is_unknown(const struct inherit *in, const struct own_alloc *a)
{
	return !journal_find(in->j, &a->ip) && !journal_is_pending(in->j, a->handle, NULL);
}

/* A handle is "NETWORK.CONTAINER", with ":IFNAME" behind it where that is not eth0. */
static const char *ifname_of(const char *handle)
{
	const char *colon = strchr(handle, ':');

	return colon ? colon + 1 : "eth0";
}

static bool is_of_container(const char *handle, const char *id)
{
	size_t n = strcspn(handle, ":"), n_id = strlen(id);

	return n_id > 0 && n > n_id + 1 && handle[n - n_id - 1] == '.' &&
	       strncmp(handle + n - n_id, id, n_id) == 0;
}

static bool has_network(const struct wep *w, const struct ip *ip)
{
	const struct prefix *p;

	vec_for_each (&w->networks, p)
		if (ip_equal(&p->addr, ip))
			return true;
	return false;
}

/* The pod's, with its key. -ENOENT: there is none that says whose it is. */
static int get_endpoint(const struct inherit *in, struct store *st, const struct own_alloc *a,
	char key[static KEY_SIZE], struct wep **ret, struct err *err)
{
	const char *ifname = ifname_of(a->handle);
	auto_free char *name = NULL;
	struct store_kv kv;
	int r;

	if (cni_ifname_wants(ifname) ||
		wep_name(in->home->node, "k8s", a->pod, ifname, &name, NULL) < 0 ||
		!key_name_ok(name) || strlen(name) >= KEY_NAME_SIZE || !key_name_ok(a->namespace) ||
		strlen(a->namespace) >= KEY_NAMESPACE_SIZE)
		return -ENOENT;
	if (!endpoint_is_possible(st, key_format(KIND_WORKLOADENDPOINT, a->namespace, name, key)))
		return -ENOENT;
	r = store_get_wait(st, key, clock_mono_ms() + ASK_MS, &kv, err);
	if (r < 0)
		return r;
	r = wep_decode(kv.key, kv.value, kv.len, ret, NULL);
	store_kv_done(&kv);
	return r == 0 && (*ret)->container_id && is_of_container(a->handle, (*ret)->container_id)
		       ? 0
		       : -ENOENT;
}

/* Not the datastore's failure. */
static void fail_here(struct inherit *in, const struct err *e)
{
	log_warn("pods that the journal does not know: %s: it is tried again", err_text(e));
	in->fails_here = true;
}

/* The pod runs on this machine, and all that the handle has is its. Returns 1, or 0: it is not known to. */
static int take_over(struct inherit *in, const struct own_alloc *a, const struct wep *w, char *key,
	const struct ipam_addr *addrs, size_t n)
{
	const struct journal_owner o = {.handle = a->handle,
		.container_id = w->container_id,
		.ifname = (char *)(uintptr_t)ifname_of(a->handle),
		.namespace = a->namespace,
		.pod = a->pod,
		.key = key};
	struct routed routed;
	struct err e = ERR_INIT;
	bool all = true;
	int r = routed_load(&routed, &e);

	if (r == 0) {
		for (size_t i = 0; i < n; i++)
			all = all && routed_has(&routed, &addrs[i].ip) &&
			      has_network(w, &addrs[i].ip);
		routed_done(&routed);
		r = all ? journal_inherit(in->j, &o, addrs, n, &e) : 0;
	}
	if (r < 0)
		fail_here(in, &e);
	return r > 0;
}

/* Of the handle: those that are no ADD's that is under way. */
static size_t n_old(const struct inherit *in, const struct own_allocs *own, const char *handle)
{
	const struct own_alloc *a;
	size_t n = 0;

	vec_for_each (&own->v, a)
		n += strcmp(a->handle, handle) == 0 &&
		     (own_allocs_find(&in->unknown, a) || journal_find(in->j, &a->ip));
	return n;
}

static int inherit_one(struct inherit *in, struct store *st, const struct own_allocs *own,
	const struct own_alloc *a, struct err *err)
{
	auto_(wep) struct wep *w = NULL;
	struct ipam_request *rq;
	const struct ipam_addr *addrs;
	char key[KEY_SIZE];
	size_t n;
	int r = get_endpoint(in, st, a, key, &w, err);

	if (r < 0)
		return r == -ENOENT || r == -EINVAL ? 0 : r;
	rq = ipam_lookup_handle_new(a->handle);
	r = ipam_run(st, rq, clock_mono_ms() + ASK_MS, err);
	addrs = ipam_request_addrs(rq, &n);
	if (r == 0 && n == n_old(in, own, a->handle))
		r = take_over(in, a, w, key, addrs, n);
	ipam_request_free(rq);
	/* One that cannot be read, too, is left alone. */
	return r == -ENOENT || r == -EINVAL ? 0 : r;
}

/* Whose ADD was under way at the first look has ended. */
static int inherit_all(
	struct inherit *in, struct store *st, const struct own_allocs *own, struct err *err)
{
	const struct own_alloc *a;
	size_t n = 0;
	int r = 0;

	vec_for_each (&own->v, a) {
		if (r < 0 || in->fails_here)
			break;
		if (!is_unknown(in, a) || !own_allocs_find(&in->unknown, a))
			continue;
		r = inherit_one(in, st, own, a, err);
		n += r > 0;
	}
	if (n > 0)
		log_info("%zu pods of this node were not in its journal, and are from now on", n);
	return r < 0 ? r : 0;
}

int inherit_work(struct inherit *in, struct store *st, struct err *err)
{
	const bool first = in->unknown.v.n == 0;
	struct own_allocs own = {0};
	const struct own_alloc *a;
	int r;

	if (clock_mono_ms() < in->due_ms)
		return 0;
	in->fails_here = false;
	r = own_allocs_list(st, in->home->node, &own, err);
	if (r == 0 && !first)
		r = inherit_all(in, st, &own, err);
	if (r == 0 && first)
		vec_for_each (&own.v, a)
			if (is_unknown(in, a))
				own_allocs_add(&in->unknown, a);
	own_allocs_done(&own);
	if (r < 0)
		return r;
	in->due_ms = in->fails_here		    ? clock_mono_ms() + AGAIN_MS
		     : first && in->unknown.v.n > 0 ? clock_mono_ms() + in->after_ms
						    : INT64_MAX;
	return 0;
}
