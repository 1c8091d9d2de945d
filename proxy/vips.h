/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes every address of the service ranges an address of this node, by one route each:
 *
 *	local 10.96.0.0/16 dev lo table local proto 81 src <this node's address>
 *
 * So a packet to a Service enters IPVS on the node it is on, at the cost of one route instead of an
 * address per Service, and what the node itself sends has its own address as the source and not the
 * Service's. The routes' protocol number is the mark that they are ours.
 *
 * Lifecycle: new -> any mix of want/event/mark_unknown/apply -> free (the kernel's routes stay).
 */
#pragma once

#include <stdbool.h>

#include "net/prefix.h"

struct err;
struct rt;
struct rt_event;
struct vips;

#define VIPS_PROTOCOL 81

/* rt is borrowed. */
struct vips *vips_new(struct rt *rt);
void vips_free(struct vips *v);
/*
 * Copies. src4, src6: addresses of this node, IP_NONE = none; guessed: a route that is there keeps
 * its own. Nothing is done before the first.
 */
void vips_want(struct vips *v, const struct prefix *ranges, size_t n, const struct ip *src4,
	const struct ip *src6, bool guessed);
/* Takes events of routes, links and addresses, and overflows; true: there is something to apply. */
bool vips_event(struct vips *v, const struct rt_event *ev);
void vips_mark_unknown(struct vips *v);
/* 0, or the first failure; the next call tries again. */
int vips_apply(struct vips *v, struct err *err);
