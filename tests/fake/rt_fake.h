/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A kernel in memory behind kern/rt.h, with events and with faults on demand. There is one per
 * process. It keeps Linux's habits that matter: a route's identity is (table, destination, metric),
 * a replacement tells RTM_NEWROUTE alone, IPv4 routes go with their link without a word.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "kern/rt.h"

void rt_fake_reset(void);

/* Somebody else's hand: watchers hear of it. */
void rt_fake_link(const char *name, uint32_t index, bool up);
void rt_fake_link_gone(const char *name);
void rt_fake_route(const struct rt_route *r); /* replaces */
bool rt_fake_route_gone(const struct prefix *dst, uint32_t priority);
void rt_fake_neigh_gone(uint32_t index, const struct ip *ip);
void rt_fake_fdb_gone(uint32_t index, const struct mac *mac);
/* Does the next change without telling anybody; and what is told until then is lost as an overflow. */
void rt_fake_lose_events(void);

/* NULL: there is none. Borrowed until the next change. */
const struct rt_route *rt_fake_find_route(const struct prefix *dst, uint32_t priority);
const struct rt_link *rt_fake_find_link(const char *name);
bool rt_fake_has_addr(uint32_t index, const struct ip *ip);
const struct rt_neigh *rt_fake_find_neigh(uint32_t index, const struct ip *ip);
const struct rt_fdb *rt_fake_find_fdb(uint32_t index, const struct mac *mac);
size_t rt_fake_n_routes(void);
void rt_fake_for_each_route(void (*fn)(void *arg, const struct rt_route *r), void *arg);

/*
 * The n-th call from now (1 = the next; every verb and every dump is one) fails with r; 0 = none
 * will. ENOBUFS: the work is done and its outcome lost. A dump tells half of what there is, and then
 * fails with r; EINTR: it is done again, or fails with EBUSY where that cannot be.
 */
void rt_fake_fail_nth(unsigned n, int r);
unsigned rt_fake_calls(void);  /* since the reset */
unsigned rt_fake_writes(void); /* verbs that changed something */
/* Routes of a protocol other than 80 that a verb has removed or replaced. */
unsigned rt_fake_foreign_touched(void);
