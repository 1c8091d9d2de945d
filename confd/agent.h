/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * margay-confd as an object: datastore -> views -> templates -> BIRD and the renderer's files, and the
 * watch of BIRD's routes in the kernel. Nothing is rendered before the datastore was read in whole; a
 * datastore that goes away leaves everything as it is.
 */
#pragma once

#include <stdbool.h>

#include "base/mem.h"
#include "net/prefix.h"

struct agent;
struct err;
struct event_base;
struct health;
struct metrics;
struct store;

/* What it points to is borrowed and outlives the agent. */
struct agent_conf {
	const char *nodename;
	const char *bird_ctl, *bird_dir;
	const char *router_id;
	const char *template_dir, *template_dir_installed;
	const char *secret_dir;	  /* DIR/NAME/KEY */
	const char *run_dir;	  /* confd.sock */
	const char *renderer_dir; /* *.conf: see render.h */
	const char *domain;
	const struct prefix *service_ranges;
	size_t n_service_ranges;
};

int agent_new(struct event_base *base, struct store *st, const struct agent_conf *conf,
	struct health *health, struct metrics *metrics, struct agent **ret, struct err *err);
void agent_free(struct agent *a);
AUTO_DEFINE(agent, struct agent *, agent_free);
