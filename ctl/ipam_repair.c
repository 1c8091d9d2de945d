/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `ipam check --repair` does about a problem. Each is one request of the allocator's, which looks once
 * more at what it writes: what has changed since it was found is left as it is. So it may be done twice, by
 * two at once, and be stopped anywhere.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/vec.h"
#include "ctl/check.h"
#include "ctl/ctl.h"
#include "ctl/ipam.h"
#include "ipam/alloc.h"
#include "ipam/run.h"

/* 1: it is not so any more. */
static int run(struct ctl *c, struct ipam_request *rq_take, struct err *err)
{
	int r = ipam_run_take(c->st, rq_take, clock_mono_ms() + STORE_TIMEOUT_MS, err);

	return r == -ENOENT || r == -ESTALE || r == -EBUSY ? 1 : r;
}

static bool is_recounted(enum problem_kind kind)
{
	return kind == PROBLEM_HANDLE_MISSING || kind == PROBLEM_HANDLE_COUNT;
}

/* The handle's blocks that are found to be counted otherwise; it knows the others itself. */
static int recount(
	struct ctl *c, const struct check *found, const struct problem *p, struct err *err)
{
	VEC(struct prefix) blocks = {0};
	const struct problem *other;
	int r;

	vec_for_each (&found->problems, other)
		if (is_recounted(other->kind) && strcmp(other->name, p->name) == 0)
			vec_push(&blocks, other->cidr);
	r = run(c, ipam_recount_handle_new(p->name, blocks.v, blocks.n, clock_real_ns()), err);
	vec_done(&blocks);
	return r;
}

/* -EOPNOTSUPP: it is not for a program to mend. */
static int mend(struct ctl *c, const struct check *found, const struct problem *p, bool force,
	struct err *err)
{
	int64_t now = clock_real_ns();

	switch (p->kind) {
	case PROBLEM_DOUBTFUL:
		if (!force)
			break;
		return run(c, ipam_release_allocation_new(&p->ip, p->name, p->seq, now), err);
	case PROBLEM_LEAK:
		return run(c, ipam_release_allocation_new(&p->ip, p->name, p->seq, now), err);
	case PROBLEM_HANDLE_MISSING:
	case PROBLEM_HANDLE_COUNT:
		return recount(c, found, p, err);
	case PROBLEM_HANDLE_EMPTY:
		return run(c, ipam_drop_handle_new(p->name, now), err);
	case PROBLEM_AFFINITY_STALE:
		return run(c, ipam_unclaim_new(&p->cidr, p->name, true, now), err);
	case PROBLEM_UNREADABLE:
	case PROBLEM_OVERLAP:
	case PROBLEM_SHARED:
	case PROBLEM_ANOTHERS:
	case PROBLEM_UNGIVEN:
	case PROBLEM_TUNNEL:
	case PROBLEM_AFFINITY_MISSING:
	case N_PROBLEM_KINDS:
		break;
	}
	return err_set(err, -EOPNOTSUPP, "see above");
}

static void tell(const struct problem *p)
{
	switch (p->kind) {
	case PROBLEM_LEAK:
	case PROBLEM_DOUBTFUL:
		printf("  released %s (handle %s)\n", ip_str(&p->ip), p->name ? p->name : "<none>");
		break;
	case PROBLEM_HANDLE_EMPTY:
		printf("  deleted handle %s\n", p->name);
		break;
	case PROBLEM_AFFINITY_STALE:
		printf("  deleted the affinity of node %s for block %s\n", p->name,
			prefix_str(&p->cidr));
		break;
	default:
		printf("  counted handle %s anew, with block %s\n", p->name, prefix_str(&p->cidr));
	}
}

size_t ipam_repair(struct ctl *c, const struct check *found, bool force)
{
	const struct problem *p;
	size_t left = 0;

	printf("Repairing...\n");
	vec_for_each (&found->problems, p) {
		struct err err = ERR_INIT;
		int r = mend(c, found, p, force, &err);

		if (r == 0)
			tell(p);
		else if (r > 0)
			printf("  has changed meanwhile: %s\n", p->text);
		else
			printf("  left: %s: %s\n", p->text, err.text);
		left += r < 0;
	}
	return left;
}
