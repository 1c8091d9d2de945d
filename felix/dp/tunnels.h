/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps tunl0, the device of IPIP, as it should be: there, up, with its MTU and this node's tunnel
 * address as its only one of our pools. The device is the kernel's own and stays; addresses outside
 * the pools are somebody else's.
 *
 * Lifecycle: new -> any mix of want/event/mark_unknown/apply -> free (the kernel's state stays).
 */
#pragma once

#include <stdbool.h>

struct calc_wants;
struct err;
struct ifaces;
struct rt;
struct rt_event;
struct tunnels;

#define TUNNELS_IPIP "tunl0"

struct tunnels *tunnels_new(struct rt *rt, struct ifaces *ifaces);
void tunnels_free(struct tunnels *t);
/* Copies what it needs. Until deletes are allowed, nothing is removed, and a device that is up keeps
 * its MTU. */
void tunnels_want(struct tunnels *t, const struct calc_wants *w);
void tunnels_allow_deletes(struct tunnels *t);
/* Takes address events and overflows; links are heard of from ifaces. */
void tunnels_event(struct tunnels *t, const struct rt_event *ev);
void tunnels_mark_unknown(struct tunnels *t);
/* 0, or the first failure; the next call tries again. */
int tunnels_apply(struct tunnels *t, struct err *err);
