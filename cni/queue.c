/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/queue.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cni/cni.h"
#include "cni/journal.h"
#include "cni/replay.h"
#include "store/lock.h"
#include "store/store.h"

/* Until they are tried again; sooner where there was no answer, which may have been the datastore's moment. */
enum { KEPT_MS = 60000, KEPT_SLOW_MS = 10000 };

bool queue_is_away(int r)
{
	return r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -EAGAIN || r == -ESTALE ||
	       r == -ECANCELED;
}

static bool shares(const struct journal_op *a, const struct journal_op *b)
{
	if (strcmp(a->owner.handle, b->owner.handle) == 0)
		return true;
	if (a->owner.key && b->owner.key && strcmp(a->owner.key, b->owner.key) == 0)
		return true;
	for (size_t i = 0; i < a->addrs.n; i++)
		for (size_t n = 0; n < b->addrs.n; n++)
			if (ip_equal(&a->addrs.v[i].ip, &b->addrs.v[n].ip))
				return true;
	return false;
}

static bool is_kept_back(const struct queue *q, const struct journal_op *op)
{
	for (size_t i = 0; i < q->kept.n; i++)
		if (shares(q->kept.v[i], op))
			return true;
	return false;
}

static void keep(struct queue *q, const struct journal_op *op, int64_t ms)
{
	const int64_t until_ms = clock_mono_ms() + ms;

	if (q->kept.n == 0 || until_ms < q->until_ms)
		q->until_ms = until_ms;
	for (size_t i = 0; i < q->kept.n; i++)
		if (q->kept.v[i]->n == op->n)
			return;
	vec_push(&q->kept, journal_op_dup(op));
}

void queue_done(struct queue *q)
{
	for (size_t i = 0; i < q->kept.n; i++)
		journal_op_free(q->kept.v[i]);
	vec_done(&q->kept);
	q->until_ms = 0;
}

/*
 * It had no answer in time, or a server's error, and another question has one: so it is the object's fault, by whoever has
 * to be asked before it is written.
 */
static bool is_slow(const struct replay *rp, int r)
{
	if (r != -ETIMEDOUT && !store_is_silent(rp->st))
		return false;
	store_set_limit(rp->st, CNI_ANSWER_MS);
	return store_lock_check_wait(rp->st, clock_mono_ms() + CNI_ANSWER_MS, NULL, NULL) == 0;
}

static int run_one(struct queue *q, struct replay *rp, const struct journal_op *op, struct err *err)
{
	struct err e = ERR_INIT;
	int r = replay_op(rp, op, &e);
	bool slow;

	if (r == 0) {
		r = journal_done(rp->journal, op->n, err);
		rp->fails_here |= r < 0;
		return r;
	}
	slow = !rp->fails_here && is_slow(rp, r);
	if (slow || (!rp->fails_here && !queue_is_away(r))) {
		log_error("%s: it is tried again", err_text(&e));
		keep(q, op, slow ? KEPT_SLOW_MS : KEPT_MS);
		return 0;
	}
	if (err)
		*err = e;
	return r;
}

int queue_run(struct queue *q, struct replay *rp, int64_t timeout_ms, struct err *err)
{
	uint64_t n = 0;
	int r = 0;

	if (clock_mono_ms() >= q->until_ms)
		queue_done(q);
	while (r == 0 && journal_next(rp->journal, n)) {
		/* It is the journal's, and that is read anew meanwhile. */
		auto_(journal_op) struct journal_op *op =
			journal_op_dup(journal_next(rp->journal, n));

		n = op->n;
		rp->deadline_ms = clock_mono_ms() + timeout_ms;
		if (is_kept_back(q, op))
			keep(q, op, KEPT_MS);
		else
			r = run_one(q, rp, op, err);
	}
	return r;
}
