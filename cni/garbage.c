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

/* An allocation that is nobody's, as it seems. */
struct suspect {
	struct ip ip;
	char *handle, *namespace, *pod;
	uint64_t seq;
	int64_t since_ms; /* CLOCK_MONOTONIC */
};

struct suspects {
	VEC(struct suspect) v;
};

struct garbage {
	const struct cni_home *home;
	struct journal *j;
	int64_t after_ms, due_ms;
	struct suspects known;
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

static void suspects_done(struct suspects *s)
{
	struct suspect *one;

	vec_for_each (&s->v, one) {
		free(one->handle);
		free(one->namespace);
		free(one->pod);
	}
	vec_done(&s->v);
}

void garbage_free(struct garbage *g)
{
	suspects_done(&g->known);
	free(g);
}

/* Since when it is suspected; now: since now. */
static int64_t suspected_since(const struct garbage *g, const struct suspect *s, int64_t now)
{
	const struct suspect *one;

	vec_for_each (&g->known.v, one)
		if (one->seq == s->seq && ip_equal(&one->ip, &s->ip) &&
			strcmp(one->handle, s->handle) == 0)
			return one->since_ms;
	return now;
}

/* One that a verb of the journal is about to change is not for anybody else. */
static bool is_waiting(const struct garbage *g, const char *handle)
{
	return journal_is_pending(g->j, handle, NULL);
}

static void suspect_block(struct garbage *g, const struct ipam_block *b,
	const struct routed *routed, struct suspects *ret)
{
	for (uint32_t i = 0; i < b->size; i++) {
		const struct ipam_block_attr *a = b->alloc[i] < 0 ? NULL : &b->attrs.v[b->alloc[i]];
		const char *node = a ? ipam_block_attr_get(a, "node") : NULL;
		const char *pod = a ? ipam_block_attr_get(a, "pod") : NULL;
		const char *namespace = a ? ipam_block_attr_get(a, "namespace") : NULL;
		struct suspect s = {.seq = b->alloc_seq[i]};

		if (!node || strcmp(node, g->home->node) != 0 || !pod || !namespace || !a->handle ||
			a->released_s || ipam_block_attr_get(a, "vmi-name") ||
			!ip_add(&b->cidr.addr, i, &s.ip) || routed_has(routed, &s.ip) ||
			is_waiting(g, a->handle))
			continue;
		s.handle = mem_strdup(a->handle);
		s.namespace = mem_strdup(namespace);
		s.pod = mem_strdup(pod);
		vec_push(&ret->v, s);
	}
}

static int suspect_own(struct garbage *g, struct store *st, struct suspects *ret, struct err *err)
{
	char prefix[IPAM_KEY_SIZE], key[IPAM_KEY_SIZE];
	struct store_list own = {0};
	struct routed routed = {0};
	int r = store_list_wait(st, ipam_key_affinities_of_host(g->home->node, IP_NONE, prefix),
		clock_mono_ms() + ASK_MS, &own, err);

	/* After this the routes, of what may have been given since. */
	if (r == 0)
		r = routed_load(&routed, err);
	for (size_t i = 0; r == 0 && i < own.n; i++) {
		auto_(ipam_block) struct ipam_block *b = NULL;
		struct prefix cidr;
		struct store_kv kv;

		if (!ipam_key_parse_affinity(own.v[i].key, NULL, &cidr))
			continue;
		r = store_get_wait(
			st, ipam_key_block(&cidr, key), clock_mono_ms() + ASK_MS, &kv, err);
		if (r == 0 && ipam_block_decode(kv.value, kv.len, &b, NULL) == 0)
			suspect_block(g, b, &routed, ret);
		if (r == 0)
			store_kv_done(&kv);
		r = r == -ENOENT ? 0 : r;
	}
	store_list_done(&own);
	routed_done(&routed);
	return r;
}

/* From the reserve it goes back there, by the journal; else to its pool. */
static int free_one(struct garbage *g, struct store *st, const struct suspect *s, struct err *err)
{
	const struct journal_addr *a = journal_taken_by(g->j, s->handle);
	struct ipam_request *rq;
	struct journal_owner o;
	int r;

	if (a) {
		o = journal_owner_dup(&a->owner);
		r = journal_give_back(g->j, &o, err);
		journal_owner_done(&o);
		return r;
	}
	rq = ipam_release_allocation_new(&s->ip, s->handle, s->seq, clock_real_ns());
	r = ipam_run(st, rq, clock_mono_ms() + ASK_MS, err);
	ipam_request_free(rq);
	return r;
}

/* What is still nobody's, after so long. What changed meanwhile is left. */
static int judge(struct garbage *g, struct store *st, const struct suspect *s, struct err *err)
{
	struct routed now = {0};
	bool is_used;
	int r = journal_refresh(g->j, err) ?: routed_load(&now, err);

	if (r < 0)
		return r;
	is_used = routed_has(&now, &s->ip) || is_waiting(g, s->handle);
	routed_done(&now);
	if (is_used)
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

int garbage_work(struct garbage *g, struct store *st, struct err *err)
{
	struct suspects found = {0}, kept = {0};
	const int64_t now = clock_mono_ms();
	int r;

	/* Elsewhere nobody knows of pods but who runs them: GC is theirs. */
	if (!store_is_managed(st)) {
		g->due_ms = INT64_MAX;
		return 0;
	}
	if (now < g->due_ms)
		return 0;
	g->due_ms = now + (g->after_ms / 2 > LOOK_MIN_MS ? g->after_ms / 2 : LOOK_MIN_MS);
	r = suspect_own(g, st, &found, err);
	for (size_t i = 0; r == 0 && i < found.v.n; i++) {
		struct suspect *s = &found.v.v[i];

		s->since_ms = suspected_since(g, s, now);
		r = replay_pod_is_gone(
			st, g->home->node, s->namespace, s->pod, clock_mono_ms() + ASK_MS, err);
		if (r <= 0)
			continue;
		r = 0;
		if (now - s->since_ms >= g->after_ms) {
			r = judge(g, st, s, err);
			continue;
		}
		vec_push(&kept.v, *s);
		s->handle = s->namespace = s->pod = NULL;
	}
	suspects_done(&found);
	/* Who could not be asked has not said no: the time goes on only with an unbroken row of answers. */
	suspects_done(&g->known);
	g->known = kept;
	return r;
}
