/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A daemon's event loop: libevent, with what every daemon needs of it. Single-threaded; an idle loop
 * never wakes up.
 *
 * Callbacks update state and schedule a task; the task does the work, once, after all events that
 * were ready have been seen, however often it was scheduled meanwhile.
 *
 * Priorities: LOOP_PRIO_EVENT for everything (libevent's default on this base), LOOP_PRIO_TASK for
 * tasks. Callbacks may free what called them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"

struct event_base;
struct loop;
struct loop_fd;
struct loop_task;
struct loop_timer;

enum { LOOP_PRIO_LATE_TASK, LOOP_PRIO_EVENT, LOOP_PRIO_TASK, LOOP_PRIO_N };

typedef void loop_fn(void *arg);

/* A base with these priorities, for those who need no signals (tests, private loops). Aborts where
 * the system has no descriptor left. Free it with event_base_free(). */
struct event_base *loop_base_new(void);

/*
 * A daemon's loop. On SIGTERM or SIGINT it calls on_stop, which ends what it must and then calls
 * loop_stop(), at once or later; NULL: it stops at once. A second signal stops it without asking. SIGPIPE
 * is ignored, and so is SIGHUP, which elsewhere means to read files anew: what changes is followed, and the
 * rest is read at a start, which takes nothing down.
 */
struct loop *loop_new(loop_fn *on_stop, void *arg);
void loop_free(struct loop *l);
AUTO_DEFINE(loop, struct loop *, loop_free);
struct event_base *loop_base(const struct loop *l);
/* Runs until loop_stop(). Returns the signal that asked for it, 0 = none. */
int loop_run(struct loop *l);
void loop_stop(struct loop *l);

/*
 * Work that is done once per turn of the loop. base: loop_base_new()'s or a loop's. Under a flood of
 * events it runs after LOOP_TASK_LATE_MS at the latest.
 */
#define LOOP_TASK_LATE_MS 20
struct loop_task *loop_task_new(struct event_base *base, loop_fn *fn, void *arg);
void loop_task_schedule(struct loop_task *t); /* idempotent; from fn itself: the next turn */
bool loop_task_is_scheduled(const struct loop_task *t);
void loop_task_cancel(struct loop_task *t);
void loop_task_free(struct loop_task *t);

/* One-shot timers. Setting a timer that is set moves it; delay_ms <= 0: the next turn. */
struct loop_timer *loop_timer_new(struct event_base *base, loop_fn *fn, void *arg);
void loop_timer_set(struct loop_timer *t, int64_t delay_ms);
bool loop_timer_is_set(const struct loop_timer *t);
void loop_timer_cancel(struct loop_timer *t);
void loop_timer_free(struct loop_timer *t);

/* Calls fn whenever fd is readable (or writable), until freed. fd is borrowed: free this first. */
enum loop_fd_event { LOOP_READ = 1, LOOP_WRITE = 2 };
struct loop_fd *loop_fd_new(
	struct event_base *base, int fd, unsigned int events, loop_fn *fn, void *arg);
void loop_fd_free(struct loop_fd *f);
