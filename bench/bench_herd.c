/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Many agents on one API server, each with a connection and the watches of its own that margay-felix has:
 *
 *	bench_herd KUBECONFIG AGENTS
 *
 * Says when all of them are in sync for the first time, and goes on. What the server has heard of them is in
 * its audit log, which is for others to read.
 */
#include <stdio.h>
#include <stdlib.h>

#include <event2/event.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "bench.h"
#include "model/ipam.h"
#include "model/key.h"
#include "model/kind.h"
#include "store/store.h"
#include "store/sync.h"

#define N_KINDS_WATCHED 5 /* beside the lock */

struct agent {
	struct store *st;
	struct sync *sync;
	char *name;
};

static struct agent *agents;
static int n_agents, n_in_sync;
static struct event_base *base;

static void on_set(void *arg, const char *key, const char *value, size_t len, int64_t rev)
{
	(void)arg;
	(void)key;
	(void)value;
	(void)len;
	(void)rev;
}

static void on_del(void *arg, const char *key)
{
	die("%s: told that %s is gone", ((struct agent *)arg)->name, key);
}

static void on_in_sync(void *arg)
{
	(void)arg;
	if (++n_in_sync < n_agents)
		return;
	puts("up");
	fflush(stdout);
}

static void start(struct agent *a, const char *kubeconfig, int i)
{
	static const struct sync_ops ops = {
		.set = on_set, .del = on_del, .in_sync = on_in_sync, .heed_lock = true};
	char affinities[IPAM_KEY_SIZE];
	auto_free char *node = NULL;
	struct store_conf conf = {.type = "kubernetes", .kubeconfig = kubeconfig};
	struct err err = ERR_INIT;

	a->name = mem_printf("node-%04d", i);
	conf.own_node = a->name;
	node = mem_strdup(key_str(KIND_NODE, NULL, a->name));
	const char *const prefixes[N_KINDS_WATCHED] = {
		kind_info(KIND_IPPOOL)->root,
		node,
		kind_info(KIND_WORKLOADENDPOINT)->root,
		kind_info(KIND_FELIXCONFIGURATION)->root,
		ipam_key_affinities_of_host(a->name, IP_NONE, affinities),
	};

	if (store_open(&conf, base, &a->st, &err) < 0)
		die("%s", err_text(&err));
	a->sync = sync_new(a->st, prefixes, N_KINDS_WATCHED, &ops, a, NULL);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		die("want KUBECONFIG AGENTS");
	n_agents = number(argv[2], "agents", 1, 1000);
	log_set_level(LOG_LEVEL_ERROR);
	base = event_base_new();
	agents = mem_zalloc((size_t)n_agents * sizeof(*agents));
	for (int i = 0; i < n_agents; i++)
		start(&agents[i], argv[1], i);
	event_base_dispatch(base);
	die("nothing is left to do");
}
