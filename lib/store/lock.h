/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lock of a datastore that is being moved to another: datastoreReady of ClusterInformation
 * `default`, as Calico has it. While that is false nothing is begun but by who moves it, and what a
 * reader knows stays in force. A datastore without ClusterInformation is not locked: nobody has begun to
 * use it.
 *
 * Who moves it sets the lock, and then reads. So who writes reads the lock before, and once more after the
 * last write: where it is still open, what was written will be read; else that has failed, and addresses
 * are given back.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct store;

#define STORE_LOCK_KEY "/calico/resources/v3/projectcalico.org/clusterinformations/default"

/* Of ClusterInformation's value. What cannot be read is no lock. */
bool store_lock_in(const char *value, size_t len);

enum store_lock {
	STORE_UNUSED, /* there is no ClusterInformation */
	STORE_OPEN,
	STORE_LOCKED
};

/*
 * EHOSTUNREACH when it is locked, with a message that says what to do: who would write comes again. Other
 * errors are the read's. ret, which may be NULL, tells which.
 */
int store_lock_check_wait(
	struct store *st, int64_t deadline_ms, enum store_lock *ret, struct err *err);

/*
 * Sets it; 1 = changed, 0 = it was so already. ENOENT: there is no ClusterInformation. ETIMEDOUT: whether it
 * was changed is not known, and a second look had no answer either.
 */
int store_lock_set_wait(struct store *st, bool locked, int64_t deadline_ms, struct err *err);
/* Sets it, on a ClusterInformation that is made where there is none. As store_lock_set_wait(), ENOENT apart. */
int store_lock_make_wait(struct store *st, int64_t deadline_ms, struct err *err);
