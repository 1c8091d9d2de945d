/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * margay-proxy as a whole, without a process around it: datastore -> cache -> calc -> reconcilers.
 * Callbacks update state and schedule the task; all work in the kernel is done by the task, once per
 * turn of the loop, and none of it before the datastore was read whole. On exit everything stays.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "net/prefix.h"

struct agent;
struct err;
struct event_base;
struct health;
struct metrics;
struct store;

struct agent_conf {
	const char *nodename;
	const char *state_file; /* see owned.h */
	const char *sysctl_root;
	const char *scheduler;
	struct prefix ranges[2]; /* of cluster addresses */
	size_t n_ranges;
	struct prefix pods[4]; /* networks of pods; none: those of the IP pools */
	size_t n_pods;
	bool masquerade_all;
	/* 0: the kernel is never read without an event; longer where reading it takes long, see below */
	int64_t sync_ms;
};

/* Everything but ret and err is borrowed. now_ms: NULL = the monotonic clock. */
int agent_new(struct event_base *base, struct store *st, const struct agent_conf *conf,
	struct health *health, struct metrics *metrics, int64_t (*now_ms)(void), struct agent **ret,
	struct err *err);
void agent_free(struct agent *a);
AUTO_DEFINE(agent, struct agent *, agent_free);

/* For tests. */
bool agent_is_idle(const struct agent *a);
bool agent_in_sync(const struct agent *a);
/* Do now what waits for a timer: the retry of what failed, the datastore. */
void agent_retry(struct agent *a);
/* Reads the kernel again, as the timer would. */
void agent_reread(struct agent *a);
/* From the end of one such reading, of n_servers virtual servers, which took cost_us of CPU time, to the next. */
int64_t agent_reread_pause_ms(int64_t sync_ms, int64_t n_servers, int64_t cost_us);
