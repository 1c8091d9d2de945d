/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps one kernel routing table equal to the routes felix wants.
 *
 * Routes whose protocol is `protocol` are ours; every other one is left alone, except that a route
 * which takes the very place (destination and metric) of a wanted one is replaced. A wanted route
 * whose interface is absent or down waits for the link's event. Nothing here blocks for longer than a
 * netlink round trip. Not thread safe.
 *
 * Nothing is deleted until routes_allow_deletes, and a route of ours through a pod's interface that
 * nobody asked for is deleted only where something is known about that interface, i.e. where a route
 * through it was asked for since it came: the pod may be alive and its endpoint not be written yet.
 * What was asked for while the datastore was read may be older than the interface, and counts
 * ROUTES_START_MS later.
 *
 * Lifecycle: new -> any mix of set/unset/event/mark_unknown/apply -> free (kernel routes stay).
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/prefix.h"

struct err;
struct ifaces;
struct routes;
struct rt;
struct rt_event;

#define ROUTES_BATCH 1024 /* changes per apply */
#define ROUTES_REPAIRS 8  /* of one route within ROUTES_REPAIRS_MS, then it rests for so long */
#define ROUTES_REPAIRS_MS 500
#define ROUTES_START_MS 30000

struct route_key {
	struct prefix dst; /* host bits zero */
	uint32_t priority; /* kernel metric, lower wins; 0 = kernel default */
};

struct nexthop {
	uint8_t type; /* enum rt_route_type */
	bool onlink;
	uint32_t mtu;	       /* 0 = the interface's */
	char ifname[IFNAMSIZ]; /* "" = none: blackhole */
	struct ip gateway;     /* none: on the link itself, scope link */
	struct ip src;
};

/*
 * table_id: 1..UINT32_MAX, never RT_TABLE_LOCAL. pod_prefix: "cali". rt and ifaces are borrowed and
 * must outlive the result.
 */
struct routes *routes_new(struct rt *rt, struct ifaces *ifaces, uint32_t table_id, uint8_t protocol,
	const char *pod_prefix);
void routes_free(struct routes *rs);

/* Edits the wanted set only. Copies key and hop. The last set for a key wins. */
void routes_set(struct routes *rs, const struct route_key *key, const struct nexthop *hop);
void routes_unset(struct routes *rs, const struct route_key *key);

/* The datastore has been read whole: what is not wanted now is not wanted. */
void routes_allow_deletes(struct routes *rs);

/* Takes route events and overflows; links are heard of from ifaces. */
void routes_event(struct routes *rs, const struct rt_event *ev);
/* What we believe is installed may be wrong: dump before the next diff. */
void routes_mark_unknown(struct routes *rs);

/*
 * Moves the kernel towards the wanted set, at most ROUTES_BATCH changes per call.
 * Returns 0 when equal or only waiting for an interface, -EAGAIN when more work is ready now,
 * else the first error; err names that route and how many others failed. What failed waits for
 * routes_retry, or for a change of it or of its interface.
 */
int routes_apply(struct routes *rs, int64_t now_ms, struct err *err);
/* The next apply tries again what has failed. */
void routes_retry(struct routes *rs);
/* When apply has something to do without a new event; INT64_MAX = never. */
int64_t routes_next_ms(const struct routes *rs);

struct routes_stats {
	int64_t wanted;	   /* routes */
	int64_t installed; /* of ours in the kernel, as far as known */
	int64_t waiting;   /* for an interface */
	uint64_t written, deleted, failed, repaired, dumps;
	uint64_t quarrels; /* of which somebody began to change one again and again */
};
const struct routes_stats *routes_stats(const struct routes *rs);
