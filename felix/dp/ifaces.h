/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's links as far as events have told, for everybody in felix who follows them. A lost
 * event is repaired by a dump, whose differences are told as if they had been events.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;
struct ifaces;
struct rt;
struct rt_event;
struct rt_link;

/* rt is borrowed. Knows nothing until the first ifaces_apply. */
struct ifaces *ifaces_new(struct rt *rt);
void ifaces_free(struct ifaces *is);

/*
 * Called on each change that counts (name, flags, mtu, index): old NULL = new, now NULL = gone. Both
 * are borrowed for the call; the table shows the new state already.
 */
typedef void ifaces_fn(void *arg, const struct rt_link *old, const struct rt_link *now);
void ifaces_listen(struct ifaces *is, ifaces_fn *fn, void *arg);

/* Takes link events and overflows; others are none of its business. */
void ifaces_event(struct ifaces *is, const struct rt_event *ev);
void ifaces_mark_unknown(struct ifaces *is);
/* Dumps where something is unknown. */
int ifaces_apply(struct ifaces *is, struct err *err);

/* Borrowed until the next event; NULL: no such link. */
const struct rt_link *ifaces_by_name(const struct ifaces *is, const char *name);
const struct rt_link *ifaces_by_index(const struct ifaces *is, uint32_t index);
void ifaces_for_each(
	const struct ifaces *is, void (*fn)(void *arg, const struct rt_link *l), void *arg);
