/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "svc/loop.h"

#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>

#define LOG_MODULE "loop"
#include "base/log.h"

struct loop {
	struct event_base *base;
	struct event *sigterm, *sigint;
	loop_fn *on_stop;
	void *arg;
	int signal;
};

struct event_base *loop_base_new(void)
{
	struct event_config *cfg = event_config_new();
	struct event_base *base = NULL;

	/* One task, then another look at the descriptors: a task that schedules itself starves nobody. */
	if (cfg && event_config_set_max_dispatch_interval(cfg, NULL, 1, LOOP_PRIO_TASK) == 0)
		base = event_base_new_with_config(cfg);
	if (!base || event_base_priority_init(base, LOOP_PRIO_N) < 0) {
		log_error("cannot make an event loop: %m; is the limit of open files too low?");
		abort();
	}
	event_config_free(cfg);
	return base;
}

/* Out of memory is the only way these fail. */
static struct event *must(struct event *ev)
{
	if (!ev)
		abort();
	return ev;
}

static void on_signal(evutil_socket_t signo, short what, void *arg)
{
	struct loop *l = arg;
	bool again = l->signal != 0;

	(void)what;
	l->signal = (int)signo;
	if (again || !l->on_stop)
		loop_stop(l);
	else
		l->on_stop(l->arg);
}

struct loop *loop_new(loop_fn *on_stop, void *arg)
{
	struct loop *l = mem_new(struct loop);

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	l->base = loop_base_new();
	l->on_stop = on_stop;
	l->arg = arg;
	l->sigterm = must(evsignal_new(l->base, SIGTERM, on_signal, l));
	l->sigint = must(evsignal_new(l->base, SIGINT, on_signal, l));
	event_add(l->sigterm, NULL);
	event_add(l->sigint, NULL);
	return l;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	event_free(l->sigterm);
	event_free(l->sigint);
	event_base_free(l->base);
	free(l);
}

struct event_base *loop_base(const struct loop *l)
{
	return l->base;
}

int loop_run(struct loop *l)
{
	event_base_dispatch(l->base);
	return l->signal;
}

void loop_stop(struct loop *l)
{
	event_base_loopbreak(l->base);
}

/* ---- tasks ---- */

struct loop_task {
	struct event *task; /* of low priority: libevent looks for new events before it runs */
	struct event *late; /* of high priority, should there be new ones without end */
	loop_fn *fn;
	void *arg;
	bool scheduled;
};

static void on_task(evutil_socket_t fd, short what, void *arg)
{
	struct loop_task *t = arg;

	(void)fd;
	(void)what;
	loop_task_cancel(t);
	t->fn(t->arg);
}

struct loop_task *loop_task_new(struct event_base *base, loop_fn *fn, void *arg)
{
	struct loop_task *t = mem_new(struct loop_task);

	t->fn = fn;
	t->arg = arg;
	t->task = must(event_new(base, -1, 0, on_task, t));
	t->late = must(event_new(base, -1, 0, on_task, t));
	if (event_priority_set(t->task, LOOP_PRIO_TASK) < 0 ||
		event_priority_set(t->late, LOOP_PRIO_LATE_TASK) < 0)
		abort(); /* a base that is not loop_base_new()'s */
	return t;
}

void loop_task_schedule(struct loop_task *t)
{
	const struct timeval late = {.tv_usec = LOOP_TASK_LATE_MS * 1000};

	if (t->scheduled)
		return;
	t->scheduled = true;
	event_active(t->task, EV_TIMEOUT, 0);
	event_add(t->late, &late);
}

bool loop_task_is_scheduled(const struct loop_task *t)
{
	return t->scheduled;
}

void loop_task_cancel(struct loop_task *t)
{
	t->scheduled = false;
	event_del(t->task);
	event_del(t->late);
}

void loop_task_free(struct loop_task *t)
{
	if (!t)
		return;
	event_free(t->task);
	event_free(t->late);
	free(t);
}

/* ---- timers ---- */

struct loop_timer {
	struct event *ev;
	loop_fn *fn;
	void *arg;
};

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct loop_timer *t = arg;

	(void)fd;
	(void)what;
	t->fn(t->arg);
}

struct loop_timer *loop_timer_new(struct event_base *base, loop_fn *fn, void *arg)
{
	struct loop_timer *t = mem_new(struct loop_timer);

	t->fn = fn;
	t->arg = arg;
	t->ev = must(evtimer_new(base, on_timer, t));
	return t;
}

void loop_timer_set(struct loop_timer *t, int64_t delay_ms)
{
	struct timeval tv = {0};

	if (delay_ms > 0) {
		tv.tv_sec = delay_ms / 1000;
		tv.tv_usec = (suseconds_t)(delay_ms % 1000) * 1000;
	}
	event_add(t->ev, &tv);
}

bool loop_timer_is_set(const struct loop_timer *t)
{
	return event_pending(t->ev, EV_TIMEOUT, NULL);
}

void loop_timer_cancel(struct loop_timer *t)
{
	event_del(t->ev);
}

void loop_timer_free(struct loop_timer *t)
{
	if (!t)
		return;
	event_free(t->ev);
	free(t);
}

/* ---- descriptors ---- */

struct loop_fd {
	struct event *ev;
	loop_fn *fn;
	void *arg;
};

static void on_fd(evutil_socket_t fd, short what, void *arg)
{
	struct loop_fd *f = arg;

	(void)fd;
	(void)what;
	f->fn(f->arg);
}

struct loop_fd *loop_fd_new(
	struct event_base *base, int fd, unsigned int events, loop_fn *fn, void *arg)
{
	struct loop_fd *f = mem_new(struct loop_fd);
	int what = EV_PERSIST;

	if (events & LOOP_READ)
		what |= EV_READ;
	if (events & LOOP_WRITE)
		what |= EV_WRITE;
	f->fn = fn;
	f->arg = arg;
	f->ev = must(event_new(base, fd, (short)what, on_fd, f));
	if (event_add(f->ev, NULL) < 0)
		abort(); /* not a descriptor that can be waited for */
	return f;
}

void loop_fd_free(struct loop_fd *f)
{
	if (!f)
		return;
	event_free(f->ev);
	free(f);
}
