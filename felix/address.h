/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a host says of itself as a node: its addresses by IP and IP6, and its interfaces. */
#pragma once

#include "base/mem.h"
#include "felix/start.h"

struct address;
struct event_base;
struct ip;
struct node;
struct rt;
struct rt_event;

/* Of a family, strings are borrowed. */
struct address_conf {
	const char *ip;	    /* IP, IP6: "autodetect", "", "none" or an address */
	const char *method; /* IP_AUTODETECTION_METHOD, IP6_AUTODETECTION_METHOD */
};

/* What may be found differs from what was: address_find() is due. */
typedef void address_changed_fn(void *arg);

/* conf, of START_N_FAMILIES, and rt are borrowed. own: what the names of pods' interfaces begin with. */
struct address *address_new(struct event_base *base, struct rt *rt, const struct address_conf *conf,
	const char *own, address_changed_fn *changed, void *arg);
/* A name that is being looked up: only when the event loop runs no more (lookup.h). */
void address_free(struct address *a);
AUTO_DEFINE(address, struct address *, address_free);

/*
 * self: the node as it is stored, NULL = not. Fills *ret, the caller's, and returns true; false: a name is
 * looked up first, and changed is called then.
 */
bool address_find(struct address *a, const struct node *self, struct start_host *ret);
/* Whether what is found may be another since an address of this family came or went. */
bool address_is_wanted(const struct address *a, const struct ip *ip);
