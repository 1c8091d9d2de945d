/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/garbage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/vec.h"
#include "cni/cni.h"
#include "cni/journal.h"
#include "cni/replay.h"
#include "cni/routed.h"
#include "cni/shared.h"
#include "ipam/run.h"
#include "model/ipam.h"
#include "store/store.h"

enum {
	ASK_MS = 10000,	     /* of one question */
	LOOK_MIN_MS = 10000, /* between two looks */
};

/* An allocation to a pod. */
struct alloc {
	struct ip ip;
	char *handle, *namespace, *pod;
	uint64_t seq;
	int64_t since_ms; /* CLOCK_MONOTONIC: it is nobody's, as it seems */
};

struct allocs {
	VEC(struct alloc) v;
};

struct garbage {
	const struct cni_home *home;
	struct journal *j;
	int64_t after_ms, due_ms;
	struct allocs suspects;
};

struct garbage *garbage_new(const struct cni_home *home, struct journal *j, int64_t after_s)
{
	struct garbage *g = mem_new(struct garbage);

	g->home = home;
	g->j = j;
	g->after_ms = after_s * 1000;
	return g;
}

int64_t garbage_due_ms(const struct garbage *g)
{
	return g->due_ms;
}

static void allocs_done(struct allocs *s)
{
	struct alloc *one;

	vec_for_each (&s->v, one) {
		free(one->handle);
		free(one->namespace);
		free(one->pod);
	}
	vec_done(&s->v);
}

void garbage_free(struct garbage *g)
{
	allocs_done(&g->suspects);
	free(g);
}

/* Since when it is suspected; now: since now. */
static int64_t suspected_since(const struct garbage *g, const struct alloc *a, int64_t now)
{
	const struct alloc *one;

	vec_for_each (&g->suspects.v, one)
		if (one->seq == a->seq && ip_equal(&one->ip, &a->ip) &&
			strcmp(one->handle, a->handle) == 0)
			return one->since_ms;
	return now;
}

/*
 * To one of the handle's addresses a route leads, or a verb of the journal is about to change it. All of them,
 * since the journal gives back all; and those that are in the journal alone.
 */
static bool is_used(const struct garbage *g, const struct allocs *own, const struct routed *routed,
	const char *handle)
{
	const struct journal_addr *addrs;
	const struct alloc *a;
	size_t n;

	vec_for_each (&own->v, a)
		if (strcmp(a->handle, handle) == 0 && routed_has(routed, &a->ip))
			return true;
	addrs = journal_addrs(g->j, &n);
	for (size_t i = 0; i < n; i++)
		if (addrs[i].state == JOURNAL_TAKEN && strcmp(addrs[i].owner.handle, handle) == 0 &&
			routed_has(routed, &addrs[i].addr.ip))
			return true;
	return journal_is_pending(g->j, handle, NULL);
}

static void add_block(const struct garbage *g, const struct ipam_block *b, struct allocs *ret)
{
	for (uint32_t i = 0; i < b->size; i++) {
		const struct ipam_block_attr *a = b->alloc[i] < 0 ? NULL : &b->attrs.v[b->alloc[i]];
		const char *node = a ? ipam_block_attr_get(a, "node") : NULL;
		const char *pod = a ? ipam_block_attr_get(a, "pod") : NULL;
		const char *namespace = a ? ipam_block_attr_get(a, "namespace") : NULL;
		struct alloc one = {.seq = b->alloc_seq[i]};

		if (!node || strcmp(node, g->home->node) != 0 || !pod || !namespace || !a->handle ||
			a->released_s || ipam_block_attr_get(a, "vmi-name") ||
			!ip_add(&b->cidr.addr, i, &one.ip))
			continue;
		one.handle = mem_strdup(a->handle);
		one.namespace = mem_strdup(namespace);
		one.pod = mem_strdup(pod);
		vec_push(&ret->v, one);
	}
}

/* In the node's blocks. */
static int list_own(const struct garbage *g, struct store *st, struct allocs *ret, struct err *err)
{
	char prefix[IPAM_KEY_SIZE], key[IPAM_KEY_SIZE];
	struct store_list own = {0};
	int r = store_list_wait(st, ipam_key_affinities_of_host(g->home->node, IP_NONE, prefix),
		clock_mono_ms() + ASK_MS, &own, err);

	for (size_t i = 0; r == 0 && i < own.n; i++) {
		auto_(ipam_block) struct ipam_block *b = NULL;
		struct prefix cidr;
		struct store_kv kv;

		if (!ipam_key_parse_affinity(own.v[i].key, NULL, &cidr))
			continue;
		r = store_get_wait(
			st, ipam_key_block(&cidr, key), clock_mono_ms() + ASK_MS, &kv, err);
		if (r == 0 && ipam_block_decode(kv.value, kv.len, &b, NULL) == 0)
			add_block(g, b, ret);
		if (r == 0)
			store_kv_done(&kv);
		r = r == -ENOENT ? 0 : r;
	}
	store_list_done(&own);
	return r;
}

/* What fails on this machine is not the datastore's failure. */
static bool is_done(int r, const struct err *err)
{
	if (r < 0)
		log_warn("which addresses nobody has: %s: their time begins anew", err_text(err));
	return r == 0;
}

static bool load_routes(struct routed *ret)
{
	struct err err = ERR_INIT;

	return is_done(routed_load(ret, &err), &err);
}

/* From the reserve it goes back there, by the journal; else to its pool. */
static int free_one(struct garbage *g, struct store *st, const struct alloc *s, struct err *err)
{
	const struct journal_addr *a = journal_taken_by(g->j, s->handle);
	struct ipam_request *rq;
	struct journal_owner o;
	struct err e = ERR_INIT;
	int r;

	if (a) {
		o = journal_owner_dup(&a->owner);
		r = journal_give_back(g->j, &o, &e);
		journal_owner_done(&o);
		return is_done(r, &e) ? 0 : -ESTALE;
	}
	rq = ipam_release_allocation_new(&s->ip, s->handle, s->seq, clock_real_ns());
	r = ipam_run(st, rq, clock_mono_ms() + ASK_MS, err);
	ipam_request_free(rq);
	return r;
}

/* What is still nobody's, after so long. What changed meanwhile is left. */
static int judge(struct garbage *g, struct store *st, const struct allocs *own,
	const struct alloc *s, struct err *err)
{
	struct routed now = {0};
	struct err e = ERR_INIT;
	bool used;
	int r;

	if (!is_done(journal_refresh(g->j, &e), &e) || !load_routes(&now))
		return 0;
	used = is_used(g, own, &now, s->handle);
	routed_done(&now);
	if (used)
		return 0;
	r = free_one(g, st, s, err);
	if (r == -ENOENT || r == -ESTALE)
		return 0;
	if (r < 0)
		return r;
	shared_add(&g->home->shared->freed_garbage);
	log_warn("%s was pod %s/%s's (handle %s), which is not there any more, and is free",
		ip_str(&s->ip), s->namespace, s->pod, s->handle);
	return 0;
}

/* Those of own that are nobody's, as it seems, and not for long enough. */
static int suspect(struct garbage *g, struct store *st, const struct allocs *own,
	const struct routed *routed, struct allocs *ret, struct err *err)
{
	const int64_t now = clock_mono_ms();
	const struct alloc *a;
	int r;

	vec_for_each (&own->v, a) {
		struct alloc s = *a;

		if (is_used(g, own, routed, a->handle))
			continue;
		s.since_ms = suspected_since(g, a, now);
		r = replay_pod_is_gone(
			st, g->home->node, a->namespace, a->pod, clock_mono_ms() + ASK_MS, err);
		if (r > 0 && now - s.since_ms >= g->after_ms) {
			r = judge(g, st, own, &s, err);
		} else if (r > 0) {
			s.handle = mem_strdup(a->handle);
			s.namespace = mem_strdup(a->namespace);
			s.pod = mem_strdup(a->pod);
			vec_push(&ret->v, s);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int garbage_work(struct garbage *g, struct store *st, struct err *err)
{
	struct allocs own = {0}, suspects = {0};
	const int64_t now = clock_mono_ms();
	struct routed routed = {0};
	int r;

	/* Elsewhere nobody knows of pods but who runs them: GC is theirs. */
	if (!store_is_managed(st)) {
		g->due_ms = INT64_MAX;
		return 0;
	}
	if (now < g->due_ms)
		return 0;
	g->due_ms = now + (g->after_ms / 2 > LOOK_MIN_MS ? g->after_ms / 2 : LOOK_MIN_MS);
	r = list_own(g, st, &own, err);
	if (r == 0 && load_routes(&routed))
		r = suspect(g, st, &own, &routed, &suspects, err);
	routed_done(&routed);
	allocs_done(&own);
	/* Who could not be asked has not said no: the time goes on only with an unbroken row of answers. */
	allocs_done(&g->suspects);
	g->suspects = suspects;
	return r;
}
