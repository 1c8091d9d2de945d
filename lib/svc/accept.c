/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "svc/accept.h"

#include <event2/listener.h>
#include <stdlib.h>

#include "base/mem.h"
#define LOG_MODULE "accept"
#include "base/log.h"
#include "svc/loop.h"

struct acceptor {
	struct evconnlistener *listener;
	struct loop_timer *pause;
	const char *what;
	accept_fn *fn;
	void *arg;
};

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *sa,
	int socklen, void *arg)
{
	const struct acceptor *a = arg;

	(void)listener;
	(void)sa;
	(void)socklen;
	a->fn(a->arg, fd);
}

static void on_error(struct evconnlistener *listener, void *arg)
{
	const struct acceptor *a = arg;

	log_warn("%s: %m", a->what);
	evconnlistener_disable(listener);
	loop_timer_set(a->pause, ACCEPT_PAUSE_MS);
}

static void on_pause_over(void *arg)
{
	const struct acceptor *a = arg;

	evconnlistener_enable(a->listener);
}

struct acceptor *acceptor_new(
	struct event_base *base, int listening_fd, const char *what, accept_fn *fn, void *arg)
{
	struct acceptor *a = mem_new(struct acceptor);

	a->what = what;
	a->fn = fn;
	a->arg = arg;
	a->pause = loop_timer_new(base, on_pause_over, a);
	a->listener = evconnlistener_new(
		base, on_accept, a, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, listening_fd);
	if (!a->listener)
		abort(); /* out of memory */
	evconnlistener_set_error_cb(a->listener, on_error);
	return a;
}

void acceptor_free(struct acceptor *a)
{
	if (!a)
		return;
	evconnlistener_free(a->listener);
	loop_timer_free(a->pause);
	free(a);
}
