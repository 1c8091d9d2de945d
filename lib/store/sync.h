/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps a reader up to date: lists some prefixes of a store, watches them, and tells only what is
 * really different from what it told before.
 *
 * Absence of data is never a deletion: while the store is away nothing is told, a list that was
 * begun and failed deletes nothing, nor does one of an older copy that was put back delete what was written
 * since, and IN_SYNC comes after every prefix was listed once. After
 * ESTALE or any failure it lists again, after a back-off with jitter (0.1 s doubling to 30 s, and
 * 0.1 s again once a watch has lived for 10 s).
 *
 * A reader that heeds the datastore's lock (lock.h) is told nothing while that is set, and what it knows
 * stays in force: a datastore that is being filled is not read in part. After that it lists again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct metrics;
struct store;
struct sync;

struct sync_ops {
	/* New, or with another value than before. value: len bytes and a NUL, borrowed. */
	void (*set)(void *arg, const char *key, const char *value, size_t len, int64_t rev);
	void (*del)(void *arg, const char *key);
	/* Once: everything that the store held has been told. */
	void (*in_sync)(void *arg);
	/* sync_state() has changed; may be NULL. */
	void (*state)(void *arg);
	bool heed_lock;
};

/* Time and randomness, for tests. */
struct sync_hooks {
	/* Call sync_retry() after so long. */
	void (*arm)(void *arg, struct sync *s, int64_t delay_ms);
	int64_t (*now_ms)(void *arg);
	uint64_t (*random)(void *arg);
	void *arg;
};

/*
 * Starts at once; the first callback comes from the event loop. st, opened on an event base, ops and
 * hooks (NULL = the event loop's timer, the clock and the kernel's randomness) are borrowed.
 */
struct sync *sync_new(struct store *st, const char *const *prefixes, size_t n_prefixes,
	const struct sync_ops *ops, void *arg, const struct sync_hooks *hooks);
/* Tells nothing. Not from inside one of the callbacks. */
void sync_free(struct sync *s);
AUTO_DEFINE(sync, struct sync *, sync_free);

/* margay_datastore_*: whether it is there, and what was asked of it, until sync_free(). m is borrowed. */
void sync_add_metrics(struct sync *s, struct metrics *m);

/* Do now what waits for the back-off's end. */
void sync_retry(struct sync *s);

bool sync_in_sync(const struct sync *s); /* every prefix was listed once */
/* Every watch is running now; of a datastore that is locked, that of its lock. */
bool sync_up(const struct sync *s);
bool sync_locked(const struct sync *s); /* never where the lock is not heeded */
/* For readiness and logs: "in sync", "listing /calico/...", "datastore away: <why>". Borrowed. */
const char *sync_state(struct sync *s);
