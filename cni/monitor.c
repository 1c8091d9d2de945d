/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/monitor.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cni/cni.h"
#include "cni/premises.h"
#include "cni/shared.h"
#include "cni/snapshot.h"
#include "svc/common_params.h"
#include "svc/health.h"
#include "svc/http.h"
#include "svc/loop.h"
#include "svc/metrics.h"

enum { LISTEN_AGAIN_MS = 10000 };

struct monitor {
	const struct cni_home *home;
	const struct common_params *common;
	struct health *health;
	struct metrics *metrics;
	struct health_check *datastore;
	struct loop *loop;
	struct http *http; /* NULL: its port is another's, which is tried again */
	struct loop_timer *again;
	struct err why;
};

static void show_keeper(void *arg)
{
	static const char *const texts[] = {
		[KEEPER_STARTS] = "waiting for the datastore",
		[KEEPER_AWAY] =
			"the datastore is away: pods start and stop by the reserve and the journal",
		[KEEPER_NO_NODE] =
			"the datastore does not have this node: does margay-felix run on it?",
		[KEEPER_OTHER_CLUSTER] =
			"the datastore is another cluster's than the journal: see the log",
		[KEEPER_REFUSED] =
			"the datastore refuses what is asked of it, or has what cannot be read: see the log",
		[KEEPER_FAILS] = "what is to be done there fails on this machine: see the log",
	};
	struct monitor *m = arg;
	enum keeper_state state = shared_get(&m->home->shared->keeper);
	uint64_t n;

	if (read(m->home->state_fd, &n, sizeof(n)) < 0)
		n = 0; /* it was not written to: at the start */
	if (state == KEEPER_WELL)
		health_set_ok(m->datastore);
	else
		health_set_bad(m->datastore, "%s", texts[state]);
}

static void add_metrics(struct metrics *m, const struct cni_shared *s)
{
	static const char *const verbs[] = {"ADD", "DEL", "CHECK", "STATUS", "GC"};

	for (size_t i = 0; i < array_size(verbs); i++) {
		auto_free char *ok = mem_printf("verb=\"%s\",result=\"ok\"", verbs[i]);
		auto_free char *bad = mem_printf("verb=\"%s\",result=\"error\"", verbs[i]);

		metrics_counter(
			m, "margay_cni_verbs_total", ok, "Verbs that were run", &s->done[i]);
		metrics_counter(
			m, "margay_cni_verbs_total", bad, "Verbs that were run", &s->failed[i]);
	}
	metrics_counter(m, "margay_cni_restarts_total", "",
		"Processes of margay-cni serve that ended and were started again", &s->restarts);
	metrics_counter(m, "margay_cni_released_total", "of=\"gone node\"",
		"Addresses that were given back since nobody had them any more", &s->freed_gone);
	metrics_counter(m, "margay_cni_released_total", "of=\"pod without DEL\"",
		"Addresses that were given back since nobody had them any more", &s->freed_garbage);
	metrics_gauge(m, "margay_cni_journal_waiting", "",
		"Operations that wait to be carried out in the datastore", &s->waiting);
	metrics_gauge(m, "margay_cni_reserve_free", "family=\"4\"",
		"Addresses that this node holds ahead for its pods", &s->free4);
	metrics_gauge(m, "margay_cni_reserve_free", "family=\"6\"",
		"Addresses that this node holds ahead for its pods", &s->free6);
}

/* What it tells workers and the keeper does not wait for a port. */
static void listen_again(void *arg)
{
	struct monitor *m = arg;
	struct err err = ERR_INIT;

	if (common_params_serve(
		    m->common, loop_base(m->loop), m->health, m->metrics, &m->http, &err) == 0)
		return;
	if (strcmp(err_text(&err), err_text(&m->why)) != 0)
		log_error("%s: it is tried again", err_text(&err));
	m->why = err;
	loop_timer_set(m->again, LISTEN_AGAIN_MS);
}

_Noreturn void monitor_run(const struct cni_home *home, const struct common_params *common,
	const int *fds, size_t n_fds)
{
	auto_(loop) struct loop *loop = loop_new(NULL, NULL);
	struct health *health = health_new();
	struct metrics *metrics = metrics_new();
	struct monitor m = {.home = home,
		.common = common,
		.health = health,
		.metrics = metrics,
		.loop = loop,
		.why = ERR_INIT};
	struct err err = ERR_INIT;
	struct store_conf conf = home->store;
	struct snapshot *snapshot = NULL;
	struct premises *premises = NULL;
	struct store *st = NULL;
	struct loop_fd *state;
	int r = 0;

	add_metrics(metrics, home->shared);
	m.datastore = health_add(health, "datastore", HEALTH_READY, "waiting for the datastore");
	show_keeper(&m);
	state = loop_fd_new(loop_base(loop), home->state_fd, LOOP_READ, show_keeper, &m);
	conf.own_node = home->node;
	if (strcmp(store_conf_type(&conf), "sqlite") != 0)
		r = store_open(&conf, loop_base(loop), &st, &err);
	if (r == 0 && st)
		premises = premises_new(st, home);
	if (r == 0 && st && n_fds > 0 && fds[0] >= 0)
		snapshot = snapshot_new(st, premises, fds, n_fds);
	if (r < 0) {
		log_error("%s", err_text(&err));
		_exit(EXIT_FAILURE);
	}
	m.again = loop_timer_new(loop_base(loop), listen_again, &m);
	listen_again(&m);
	(void)loop_run(loop);
	loop_fd_free(state);
	snapshot_free(snapshot);
	premises_free(premises);
	if (st)
		store_close(st);
	http_free(m.http);
	loop_timer_free(m.again);
	health_free(health);
	metrics_free(metrics);
	_exit(EXIT_SUCCESS);
}
