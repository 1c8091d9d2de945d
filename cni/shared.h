/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the processes of margay-cni serve tell of themselves: in memory that all of them have, each number written
 * by whoever knows it and read by the one who serves health and metrics.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { SHARED_MAX_WAITERS = 64 };

enum keeper_state {
	KEEPER_STARTS, /* the datastore was not reached yet */
	KEEPER_WELL,   /* or there is none to keep */
	KEEPER_AWAY,
	KEEPER_NO_NODE,	      /* the datastore does not have this node */
	KEEPER_OTHER_CLUSTER, /* the datastore is not that of the journal */
	KEEPER_REFUSED,	      /* the datastore refuses, or has an object that cannot be read */
	KEEPER_FAILS,	      /* this machine keeps it from its work */
};

enum shared_verb { SHARED_ADD, SHARED_DEL, SHARED_CHECK, SHARED_STATUS, SHARED_GC, SHARED_N_VERBS };

struct cni_shared {
	uint64_t done[SHARED_N_VERBS], failed[SHARED_N_VERBS];
	uint64_t restarts;	 /* of children */
	uint64_t freed_gone;	 /* addresses of nodes that are gone */
	uint64_t freed_garbage;	 /* addresses of pods whose DEL never came */
	int64_t waiting;	 /* operations of the journal */
	int64_t free4, free6;	 /* addresses of the reserve */
	uint64_t pool_changes;	 /* of pools and reservations, that were seen */
	uint64_t node_deletions; /* of this node's, that were seen; */
	uint64_t node_heeded;	 /* of those, that the keeper has looked after */
	/* Of the log files that configurations name, and that are not written: each is told once. 0: none. */
	uint64_t log_files[16];
	uint32_t looked; /* since its start the server has looked at what it holds, or could not */
	enum keeper_state keeper;
	uint32_t away; /* the datastore was silent, or not to be reached, when it was asked last */
	uint32_t n_waiters;
	int64_t waits_since_ms[SHARED_MAX_WAITERS]; /* CLOCK_MONOTONIC, with a verb; 0: with none */
};

#define shared_add(p) ((void)__atomic_add_fetch((p), 1, __ATOMIC_RELAXED))
#define shared_set(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define shared_get(p) __atomic_load_n((p), __ATOMIC_RELAXED)

/* Each waiter has had a verb for so long: one more would not be begun soon. */
static inline bool shared_is_jammed(const struct cni_shared *s, int64_t now_ms)
{
	enum { JAM_MS = 1000 };

	for (uint32_t i = 0; i < s->n_waiters; i++) {
		const int64_t since_ms = shared_get(&s->waits_since_ms[i]);

		if (since_ms == 0 || now_ms - since_ms < JAM_MS)
			return false;
	}
	return true;
}
