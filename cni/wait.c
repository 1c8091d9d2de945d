/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/wait.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cni/call.h"
#include "cni/endpoint.h"
#include "cni/turn.h"
#include "model/wep.h"
#include "svc/httpc.h"

enum { GATES_MS = 30000, GATE_TURN_MS = 1000, GATE_ANSWER_MS = 5000, GATE_BYTES = 1024 * 1024 };
enum { STATUS_TURN_MS = 500, ANSWER_MS = 5000 };

AUTO_DEFINE(event_base, struct event_base *, event_base_free);

bool wait_is_asked(const struct call *c)
{
	return c->conf->readiness_gates.n > 0 || (c->conf->policy_setup_timeout_s > 0 && c->k8s);
}

/* Time enough for the answer to be taken by who waits for this verb. */
static int64_t at_most(const struct call *c, int64_t ms)
{
	int64_t deadline_ms = clock_mono_ms() + ms, last_ms = c->deadline_ms - ANSWER_MS;

	return deadline_ms < last_ms ? deadline_ms : last_ms;
}

struct gate {
	struct event_base *base;
	bool open;
	struct err why; /* it is not */
};

static void on_answer(void *arg, const struct httpc_res *res)
{
	struct gate *g = arg;

	g->open = res->r == 0 && res->status >= 200 && res->status < 400;
	if (res->r < 0)
		g->why = *res->err;
	else
		err_set(&g->why, -EAGAIN, "HTTP status %d", res->status);
	event_base_loopbreak(g->base);
}

static int wait_gate(const struct call *c, struct gate *g, struct httpc *http, const char *url,
	int64_t deadline_ms)
{
	const struct httpc_req req = {.url = url,
		.max_bytes = GATE_BYTES,
		.connect_ms = GATE_ANSWER_MS,
		.timeout_ms = GATE_ANSWER_MS,
		.done = on_answer,
		.arg = g};

	for (g->open = false; !g->open;) {
		httpc_start(http, &req);
		event_base_dispatch(g->base);
		if (!g->open &&
			(clock_mono_ms() + GATE_TURN_MS >= deadline_ms || turn_check(c, NULL) != 0))
			return -ETIMEDOUT;
		if (!g->open)
			poll(NULL, 0, GATE_TURN_MS);
	}
	return 0;
}

int wait_ready(const struct call *c, struct err *err)
{
	const struct cni_texts *gates = &c->conf->readiness_gates;
	int64_t deadline_ms = at_most(c, GATES_MS);
	auto_(event_base) struct event_base *base = gates->n > 0 ? event_base_new() : NULL;
	auto_(httpc) struct httpc *http = NULL;
	struct gate g = {.base = base};

	if (gates->n == 0)
		return 0;
	if (httpc_new(base, 1, &http, err) < 0) {
		err_wrap(err, -EHOSTUNREACH, "netconf: readiness_gates");
		return CNI_E_AGAIN;
	}
	for (size_t i = 0; i < gates->n; i++) {
		if (wait_gate(c, &g, http, gates->v[i], deadline_ms) == 0)
			continue;
		err_set(err, -ETIMEDOUT,
			"netconf: readiness_gates[%zu]: %s: %s; want HTTP status 200 to 399 within %d s",
			i, gates->v[i], err_text(&g.why), GATES_MS / 1000);
		return CNI_E_AGAIN;
	}
	return 0;
}

static char *status_file(const struct call *c)
{
	auto_free char *name = wep_status_name(c->namespace, c->args.pod, c->ifname);

	return mem_printf("%s/%s", c->conf->endpoint_status_dir, name);
}

void wait_policy(const struct call *c)
{
	int64_t deadline_ms = at_most(c, c->conf->policy_setup_timeout_s * INT64_C(1000));
	bool waits = c->conf->policy_setup_timeout_s > 0 && c->k8s &&
		     endpoint_is_possible(c->st, c->wep_key);
	auto_free char *path = waits ? status_file(c) : NULL;
	auto_close int fd = path ? inotify_init1(IN_CLOEXEC | IN_NONBLOCK) : -1;
	char events[4096];

	while (path && access(path, F_OK) < 0) {
		struct pollfd p = {.fd = fd, .events = POLLIN};

		if (clock_mono_ms() >= deadline_ms) {
			log_warn("%s: not there within policy_setup_timeout_seconds (%u): the pod "
				 "starts without its policy being known to be in force",
				path, c->conf->policy_setup_timeout_s);
			return;
		}
		if (turn_check(c, NULL) != 0)
			return;
		/* The directory may come later than this, which is why a turn has an end. */
		(void)inotify_add_watch(
			fd, c->conf->endpoint_status_dir, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
		if (access(path, F_OK) < 0)
			poll(&p, 1, STATUS_TURN_MS);
		while (read(fd, events, sizeof(events)) > 0)
			;
	}
}
