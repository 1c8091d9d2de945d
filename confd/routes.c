/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "confd/routes.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hmap.h"
#include "kern/rt.h"
#include "svc/loop.h"

#define LOG_MODULE "routes"
#include "base/log.h"

#define RETRY_MS 1000

struct known {
	struct hmap_node node;
	struct prefix dst;
};

struct routes {
	void (*lost)(void *arg);
	void *arg;
	struct rt *rt;
	struct rt_monitor *monitor;
	struct loop_fd *event;
	struct loop_task *task;
	struct loop_timer *pace, *reread;
	struct hmap known;
	uint32_t bird;	 /* the port of the socket that wrote the last of them; 0: not known */
	int64_t told_ms; /* 0: never */
};

static struct known *find(const struct routes *r, const struct prefix *dst)
{
	struct known *k;

	hmap_for_each_hash (k, &r->known, hash_bytes(dst, sizeof(*dst)), node)
		if (prefix_equal(&k->dst, dst))
			return k;
	return NULL;
}

static void add(struct routes *r, const struct prefix *dst)
{
	struct known *k;

	if (find(r, dst))
		return;
	k = mem_new(struct known);
	k->dst = *dst;
	hmap_insert(&r->known, &k->node, hash_bytes(dst, sizeof(*dst)));
}

static void drop(struct routes *r, struct known *k)
{
	hmap_remove(&r->known, &k->node);
	free(k);
}

static void drop_all(void *arg)
{
	struct routes *r = arg;
	struct known *k;

	hmap_for_each (k, &r->known, node)
		drop(r, k);
}

static bool is_watched(const struct rt_route *route)
{
	return route->dst.addr.family == IP_V4 && route->table == RT_TABLE_MAIN_ID &&
	       route->priority == 0;
}

static void on_dumped(void *arg, const struct rt_route *route)
{
	if (is_watched(route) && route->protocol == RT_PROTO_BIRD)
		add(arg, &route->dst);
}

/* What is there now. Which routes vanished unseen is not known: BIRD is to write all of them anew. */
static void read_all(void *arg)
{
	struct routes *r = arg;
	struct err err = ERR_INIT;

	drop_all(r);
	if (rt_route_dump(r->rt, IP_V4, RT_TABLE_MAIN_ID, RT_PROTO_BIRD, on_dumped, drop_all, r,
		    &err) < 0) {
		log_warn("reading BIRD's routes: %s; trying again", err_text(&err));
		loop_timer_set(r->reread, RETRY_MS);
		return;
	}
	loop_task_schedule(r->task);
}

static void on_event(void *arg, const struct rt_event *ev)
{
	struct routes *r = arg;
	struct known *k;

	if (ev->type == RT_EVENT_OVERFLOW) {
		loop_timer_set(r->reread, 0);
		return;
	}
	if ((ev->type != RT_EVENT_ROUTE_SET && ev->type != RT_EVENT_ROUTE_DEL) ||
		!is_watched(&ev->route))
		return;
	if (ev->type == RT_EVENT_ROUTE_SET && ev->route.protocol == RT_PROTO_BIRD) {
		add(r, &ev->route.dst);
		r->bird = ev->by;
		return;
	}
	k = find(r, &ev->route.dst);
	if (!k || (ev->type == RT_EVENT_ROUTE_DEL && ev->route.protocol != RT_PROTO_BIRD))
		return;
	drop(r, k);
	if (ev->route.protocol == RT_PROTO_MARGAY) /* felix has an own claim to it */
		return;
	if (r->bird != 0 && ev->by == r->bird) /* withdrawn */
		return;
	log_debug("BIRD's route %s was %s", prefix_str(&ev->route.dst),
		ev->type == RT_EVENT_ROUTE_DEL ? "deleted" : "replaced");
	loop_task_schedule(r->task);
}

static void on_readable(void *arg)
{
	struct routes *r = arg;
	struct err err = ERR_INIT;

	if (rt_monitor_read(r->monitor, on_event, r, &err) < 0)
		log_error("watching the kernel's routes: %s", err_text(&err));
}

static void tell(void *arg)
{
	struct routes *r = arg;
	int64_t now = clock_mono_ms();

	if (r->told_ms > 0 && now - r->told_ms < ROUTES_PACE_MS) {
		loop_timer_set(r->pace, r->told_ms + ROUTES_PACE_MS - now);
		return;
	}
	r->told_ms = now;
	r->lost(r->arg);
}

int routes_new(struct event_base *base, void (*lost)(void *arg), void *arg, struct routes **ret,
	struct err *err)
{
	auto_(routes) struct routes *r = mem_new(struct routes);
	int e;

	r->lost = lost;
	r->arg = arg;
	e = rt_open(&r->rt, err);
	if (e == 0)
		e = rt_monitor_open(RT_WATCH_ROUTES, NULL, &r->monitor, err);
	if (e < 0)
		return err_wrap(err, e, "watch the kernel's routes");
	r->task = loop_task_new(base, tell, r);
	r->pace = loop_timer_new(base, tell, r);
	r->reread = loop_timer_new(base, read_all, r);
	r->event = loop_fd_new(base, rt_monitor_fd(r->monitor), LOOP_READ, on_readable, r);
	loop_timer_set(r->reread, 0);
	*ret = take_ptr(r);
	return 0;
}

void routes_free(struct routes *r)
{
	if (!r)
		return;
	loop_fd_free(r->event);
	loop_task_free(r->task);
	loop_timer_free(r->pace);
	loop_timer_free(r->reread);
	rt_monitor_close(r->monitor);
	rt_close(r->rt);
	drop_all(r);
	hmap_done(&r->known);
	free(r);
}

size_t routes_count(const struct routes *r)
{
	return r->known.n;
}
