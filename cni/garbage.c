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
#include "cni/own.h"
#include "cni/replay.h"
#include "cni/routed.h"
#include "cni/shared.h"
#include "ipam/run.h"
#include "store/store.h"

enum {
	ASK_MS = 10000,	     /* of one question */
	LOOK_MIN_MS = 10000, /* between two looks */
};

struct garbage {
	const struct cni_home *home;
	struct journal *j;
	int64_t after_ms, due_ms;
	struct own_allocs suspects;
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

void garbage_free(struct garbage *g)
{
	own_allocs_done(&g->suspects);
	free(g);
}

/*
 * To one of the handle's addresses a route leads, or a verb of the journal is about to change it. All of them,
 * since the journal gives back all; and those that are in the journal alone.
 */
static bool is_used(const struct garbage *g, const struct own_allocs *own,
	const struct routed *routed, const char *handle)
{
	const struct journal_addr *addrs;
	const struct own_alloc *a;
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

/* Of an interface that another plugin has made, to which no route need lead: as blocks of before say of the journal alone. */
static bool is_another_plugins(const struct garbage *g, const char *handle)
{
	const struct journal_addr *a = journal_taken_by(g->j, handle);

	return a && a->owner.ipam_only;
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
static int free_one(struct garbage *g, struct store *st, const struct own_alloc *s, struct err *err)
{
	const struct journal_addr *a = journal_taken_by(g->j, s->handle);
	struct journal_owner o;
	struct err e = ERR_INIT;
	int r;

	if (a) {
		o = journal_owner_dup(&a->owner);
		r = journal_give_back(g->j, &o, &e);
		journal_owner_done(&o);
		return is_done(r, &e) ? 0 : -ESTALE;
	}
	return ipam_run_take(st,
		ipam_release_allocation_new(&s->ip, s->handle, s->seq, clock_real_ns()),
		clock_mono_ms() + ASK_MS, err);
}

/* What is still nobody's, after so long. What changed meanwhile is left. */
static int judge(struct garbage *g, struct store *st, const struct own_allocs *own,
	const struct own_alloc *s, struct err *err)
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
static int suspect(struct garbage *g, struct store *st, const struct own_allocs *own,
	const struct routed *routed, struct own_allocs *ret, struct err *err)
{
	const int64_t now = clock_mono_ms();
	const struct own_alloc *a, *earlier;
	int r;

	vec_for_each (&own->v, a) {
		struct own_alloc s = *a;

		if (is_used(g, own, routed, a->handle) || is_another_plugins(g, a->handle))
			continue;
		earlier = own_allocs_find(&g->suspects, a);
		s.since_ms = earlier ? earlier->since_ms : now;
		r = replay_pod_is_gone(
			st, g->home->node, a->namespace, a->pod, clock_mono_ms() + ASK_MS, err);
		if (r > 0 && now - s.since_ms >= g->after_ms) {
			r = judge(g, st, own, &s, err);
		} else if (r > 0) {
			own_allocs_add(ret, &s);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int garbage_work(struct garbage *g, struct store *st, struct err *err)
{
	struct own_allocs own = {0}, suspects = {0};
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
	r = own_allocs_list(st, g->home->node, &own, err);
	if (r == 0 && load_routes(&routed))
		r = suspect(g, st, &own, &routed, &suspects, err);
	routed_done(&routed);
	own_allocs_done(&own);
	/* Who could not be asked has not said no: the time goes on only with an unbroken row of answers. */
	own_allocs_done(&g->suspects);
	g->suspects = suspects;
	return r;
}
