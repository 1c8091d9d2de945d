/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal's operations, carried out in their order. One that cannot be done by its own fault keeps back those
 * alone that are of the same attachment, endpoint or address, and what these keep back; all of them are tried again after a while.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/vec.h"

struct err;
struct journal_op;
struct replay;

struct queue {
	VEC(struct journal_op *) kept; /* in the order of their numbers */
	int64_t until_ms;	       /* 0: there are none */
};

/* Each has so long. Ends at an error of the machine (rp->fails_here), and at a datastore that is away. */
int queue_run(struct queue *q, struct replay *rp, int64_t timeout_ms, struct err *err);
void queue_done(struct queue *q);

/* The datastore was not reached, or is locked, or written to by others meanwhile: it is no object's fault. */
bool queue_is_away(int r);
