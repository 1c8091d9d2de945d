/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a datastore driver implements. store.c checks keys and values, owns the queues and the
 * deadlines, and calls back; a driver is called from the event loop only and answers with the
 * store_op_*() and store_watch_*() calls below. Callers of a store never include this.
 *
 * A driver embeds `struct store` as its first member, and extends operations and watches by the
 * sizes that it names in its ops.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "store/store.h"

struct event;
struct store_known;
struct store_txn;

struct store_op {
	struct list node; /* in store.ops */
	struct store *st;
	struct event *timer;  /* starts it, and ends it at its deadline */
	int64_t patience_ms;  /* from the start to the deadline */
	struct store_req req; /* key, value and uid are copies */
	store_done_fn *done;
	void *arg;
	bool started;
	bool *dead; /* set when it is freed from inside its own callback */
};

struct store_advice {
	struct store *st;
};

struct store_watch {
	struct list node; /* in store.watches */
	struct store *st;
	char *prefix;
	size_t prefix_len;
	int64_t rev; /* events up to here have been delivered */
	store_event_fn *event;
	store_end_fn *end;
	void *arg;
	bool *dead;
};

struct store_ops {
	size_t op_size;	   /* of the driver's struct, whose first member is a struct store_op */
	size_t watch_size; /* likewise */
	bool has_leases;   /* else no operation with lease_s comes to the driver */
	bool has_index;	   /* else no unindexed list comes to the driver */
	/* Does the operation, now or later; it may call store_op_done() before it returns. */
	void (*op_start)(struct store_op *op);
	/* The operation is cancelled or out of time: forget it. Not called after store_op_done(). */
	void (*op_stop)(struct store_op *op);
	/* May not call back before it returns. */
	void (*watch_start)(struct store_watch *w);
	void (*watch_stop)(struct store_watch *w);
	/* Of one that has transactions, else NULL; of stores without an event base alone. */
	int (*txn_begin)(struct store *st, int64_t deadline_ms, struct err *err);
	int (*txn_end)(struct store *st, struct err *err);
	/* Of one whose transaction is one request (txn.h), else NULL; likewise. */
	int (*txn_commit)(
		struct store *st, struct store_txn *t, int64_t deadline_ms, struct err *err);
	/* Of one that has other roots than Calico's and Margay's, or advice to give; else NULL. */
	const struct store_root *(*roots)(size_t *ret_n);
	struct store_advice *(*advise)(struct store *st, store_advice_fn *done, void *arg);
	void (*advice_cancel)(struct store_advice *a);
	/* Operations and watches are gone. Frees the store. */
	void (*close)(struct store *st);
};

enum store_failure {
	STORE_AWAY,
	STORE_DENIED,
	STORE_FULL,
	STORE_TIMED_OUT,
	STORE_INVALID,
	STORE_N_FAILURES,
};

/* Since it was opened. */
struct store_stats {
	uint64_t requests[STORE_DELETE + 1]; /* by verb */
	uint64_t watches;
	uint64_t failures[STORE_N_FAILURES]; /* of both; that an object is another one is none */
};

struct store {
	const struct store_ops *ops;
	struct event_base *base;
	bool own_base;
	bool managed; /* store_is_managed() */
	char *name;
	struct list ops_list;
	struct list watches;
	struct store_stats stats;
	struct store_txn *txn;	   /* NULL: there was none yet */
	struct store_known *known; /* likewise */
	int64_t limit_ms;	   /* store_set_limit() */
	bool silent;		   /* since then */
	struct err silence;	   /* what it was told by */
};

/* Fills in the common part; name is taken. base NULL = a private one is made. */
void store_init(
	struct store *st, const struct store_ops *ops, struct event_base *base, char *name_take);

/* Adds a timer event; a negative delay is none. */
void store_arm(struct event *timer, int64_t delay_ms);

/* Evenly of 0 to below - 1, so that not all clients do a thing at once. */
uint32_t store_random(uint32_t below);

/* The smallest string that is greater than all that begin with prefix; "" = none. The caller's. */
char *store_prefix_end(const char *prefix);

/*
 * Around what a _wait form asks the datastore: *deadline_ms (0: the default) is made as store_set_limit() has it, and how
 * that went. EHOSTUNREACH: nothing is to be asked.
 */
int store_limit(struct store *st, bool is_list, int64_t *deadline_ms, struct err *err);
void store_limit_end(struct store *st, int64_t began_ms, int r, const struct err *err);

/* Whether it makes sense: EINVAL, EOPNOTSUPP. */
int store_check_req(const struct store *st, const struct store_req *req, struct err *err);

/* Of one that was started and waits for the event loop's next turn: now. */
void store_op_begin(struct store_op *op);

/* Whether the object that was read is the one that the request names by revision or uid. ESTALE. */
int store_check_before(const struct store_req *req, const struct store_kv *kv, struct err *err);

/* The outcome. Frees the operation unless res->more; returns false when it is gone. */
bool store_op_done(struct store_op *op, const struct store_res *res);
/* The same for a failure. */
void store_op_fail(struct store_op *op, int r, const struct err *err);

/* One change. w->rev becomes kv->rev. Returns false when the watch is gone. */
bool store_watch_event(struct store_watch *w, const struct store_kv *kv);
/* Ends and frees the watch. */
void store_watch_end(struct store_watch *w, int r, const struct err *err);

/* The drivers. *ret on success. */
int store_sqlite_open(const struct store_conf *conf, struct event_base *base, struct store **ret,
	struct err *err);
int store_etcd_open(const struct store_conf *conf, struct event_base *base, struct store **ret,
	struct err *err);
int store_kube_open(const struct store_conf *conf, struct event_base *base, struct store **ret,
	struct err *err);
