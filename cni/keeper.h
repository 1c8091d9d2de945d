/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The process of margay-cni serve that waits for the datastore, so that no verb has to: it carries out what
 * the journal says, and keeps the node's reserve of addresses filled.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cni/full.h"
#include "cni/queue.h"
#include "cni/replay.h"

struct cni_home;
struct err;
struct garbage;
struct gone;
struct inherit;
struct journal;
struct store;

struct keeper_conf {
	uint32_t n_reserve; /* how many addresses of each family the node holds ahead */
	uint32_t
		gone_after_s; /* how long another node is absent until what it held is given back */
	uint32_t garbage_after_s; /* how long an address is nobody's until it is given back */
};

/* Its own, but for who tests it, who lets time pass. */
struct keeper {
	const struct cni_home *home;
	struct replay rp;
	struct journal *j;
	size_t n_reserve; /* as configured; rp.n_reserve: at the moment */
	struct full full;
	struct gone *gone;
	struct garbage *garbage;
	struct inherit *inherit;
	int notify_fd;
	bool adopted; /* what the datastore holds for this node was compared with the journal */
	int64_t unknown_due_ms; /* what it holds and the journal does not know is looked at again */
	uint64_t pool_changes;	/* of those that the journal's scope is after */
	int64_t scope_due_ms;	/* a node's labels may have changed, too */
	uint64_t node_deletions; /* of this node's, that it is looked at for */
	bool wrong_cluster, no_node;
	bool fails_here; /* what has ended the pass is this machine's, and not the datastore's */
	int64_t seen_due_ms, refill_due_ms[2];
	struct queue queue;
	char *guid;    /* of the datastore's cluster, as it was looked at last */
	bool is_there; /* it was found there, and is to be taken for there */
	bool tried;    /* in this pass the datastore was asked */
	bool asked;    /* in this pass the datastore has told of this node */
	bool answered; /* in this pass it has, if only that it is locked */
	bool unsure;   /* it may have given the reserve an address since that was looked at */
	int64_t back_ms; /* it was thought to be gone, and is not taken for there before; 0: it was not */
};

/* All but k is borrowed; st is without an event loop. */
int keeper_init(struct keeper *k, const struct cni_home *home, const struct keeper_conf *conf,
	struct store *st, struct err *err);
void keeper_done(struct keeper *k);
/* One pass: what is due. 0, or why there will have to be another. */
int keeper_work(struct keeper *k, struct err *err);

/* Passes without end. */
_Noreturn void keeper_run(const struct cni_home *home, const struct keeper_conf *conf);
