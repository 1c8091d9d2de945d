/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An operation of the journal, carried out in the datastore. Blocking; done twice is done once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/vec.h"
#include "ipam/alloc.h"

struct err;
struct journal;
struct journal_op;
struct store;

/* How long a node that was thought to be gone waits when it is there again: writes may be under way. */
#define REPLAY_BACK_MS 60000

/* An address that the journal is to have no more, once what made it so is written. */
struct replay_loss {
	struct ip ip;
	bool is_error; /* in the log, else a warning; */
	char *why;     /* NULL: nothing */
};

struct replay {
	struct store *st;
	struct journal *journal;
	const char *node;
	const char *reserve; /* the handle of what the node holds: replay_reserve_handle() */
	size_t n_reserve; /* how many it is to hold of each family: the others go back to their pool */
	int64_t deadline_ms; /* CLOCK_MONOTONIC */
	bool fails_here;     /* what it returns is the journal's failure, and not the datastore's */
	VEC(struct replay_loss) lost; /* its own */
};

/* "margay-reserve-<node>", the caller's to free. */
char *replay_reserve_handle(const char *node);
/* What a block says of an address that node holds. */
#define REPLAY_RESERVE_ATTRS(node)              \
	{                                       \
		{"node", node},                 \
		{                               \
			"type", "margayReserve" \
		}                               \
	}

/*
 * One transaction, where the datastore has them. Returns 0, or an error of the datastore: the operation is to be done again. An address that is another's by
 * now is told in the log, and not touched.
 */
int replay_op(struct replay *rp, const struct journal_op *op, struct err *err);

/*
 * 1: Kubernetes has no Pod of this name on the node, or one that has ended. 0: it has, or what it has cannot be decoded.
 * Or a negative errno of the datastore.
 */
int replay_pod_is_gone(struct store *st, const char *node, const char *namespace, const char *name,
	int64_t deadline_ms, struct err *err);
