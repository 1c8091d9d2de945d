/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Drives an allocator's request over a store: blocking, or on the store's event loop. */
#pragma once

#include <stdint.h>

struct err;
struct ipam_request;
struct store;

/*
 * Runs rq to its end, with the store's blocking calls; not from inside an event loop. Returns 0, or
 * the request's error (alloc.h), or the store's: EHOSTUNREACH, EACCES, ETIMEDOUT, EIO for a full disk.
 */
int ipam_run(struct store *st, struct ipam_request *rq, int64_t deadline_mono_ms, struct err *err);
/* The same of one whose answer says all. */
int ipam_run_take(
	struct store *st, struct ipam_request *rq_take, int64_t deadline_mono_ms, struct err *err);

/*
 * r and err as from ipam_run. Called from the event loop, and at once from ipam_start when nothing
 * has to be asked. The callback may free rq.
 */
typedef void ipam_done_fn(struct ipam_request *rq, int r, const struct err *err, void *arg);

/* Starts rq on the store's event loop. To cancel it, ipam_request_free() it: done is not called. */
void ipam_start(struct store *st, struct ipam_request *rq, ipam_done_fn *done, void *arg);
