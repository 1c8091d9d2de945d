/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * felix as a whole, on an event base: cache -> calc -> reconcilers, the kernel's events back into
 * them, and start-up. Callbacks change state and schedule the one task, which does the work.
 *
 * While the datastore is away everything known is kept in the kernel; until it was read whole once,
 * and every object of a kind was understood, nothing is removed on account of what is not there.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "felix/address.h"
#include "felix/start.h"

struct agent;
struct err;
struct event_base;
struct health;
struct metrics;
struct store;

struct agent_conf {
	struct address_conf address[START_N_FAMILIES];
	const char *pod_prefix;	   /* "cali" */
	const char *nodename_file; /* "" = none is written */
	const char *mtu_file;	   /* likewise */
	const char *sysctl_root;   /* "/proc/sys" */
	int64_t refresh_ms; /* reads everything again; a backstop, since events tell. 0 = never */
	struct start_conf start;
	/* In place of FelixConfiguration's: -1, 0, "", NULL = as that says. */
	int ipip_enabled;
	uint32_t ipip_mtu;
	const char *mtu_iface_pattern;
	const char *status_prefix; /* of endpoint-status; "" = there are no files */
};

/*
 * Everything is borrowed. nft may be missing in the kernel: then NAT is reported as not ready and
 * the rest works. now_ms: the clock; NULL = the monotonic one.
 */
int agent_new(struct event_base *base, struct store *st, const struct agent_conf *conf,
	struct health *health, struct metrics *metrics, int64_t (*now_ms)(void), struct agent **ret,
	struct err *err);
void agent_free(struct agent *a);

/* Tests: whether nothing waits to be done (retries apart), and what the routes' state is. */
bool agent_is_idle(const struct agent *a);
const struct routes_stats *agent_routes(const struct agent *a);
bool agent_in_sync(const struct agent *a);
/* Do now what waits for a retry's time. */
void agent_retry(struct agent *a);
