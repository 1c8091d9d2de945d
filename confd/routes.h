/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Watches BIRD's routes in the kernel (IPv4, table main, metric 0), and says when one of them was
 * deleted, or replaced by somebody who is neither BIRD nor felix. Reads only; needs no privilege.
 *
 * BIRD's own withdrawals come through the socket that its routes come through. Until one was seen to come
 * they are reported, too, which costs a needless reload: having BIRD write its routes anew changes nothing
 * that is as it should be. Reports are coalesced: the first at once, then one per ROUTES_PACE_MS at most.
 */
#pragma once

#include <stddef.h>

#include "base/mem.h"

struct err;
struct event_base;
struct routes;

#define ROUTES_PACE_MS 400

int routes_new(struct event_base *base, void (*lost)(void *arg), void *arg, struct routes **ret,
	struct err *err);
void routes_free(struct routes *r);
AUTO_DEFINE(routes, struct routes *, routes_free);
/* BIRD's routes in the kernel. */
size_t routes_count(const struct routes *r);
