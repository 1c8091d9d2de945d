/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Entries of the connection table that point to an endpoint which is gone. Only UDP needs this: the
 * next datagram of a flow would follow its entry, for as long as the client sends.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "net/ip.h"

struct conntrack;
struct err;

/* What was asked for, and who answers: an entry of UDP to dst:port whose replies come from `from`. */
struct conntrack_stale {
	struct ip dst;
	uint16_t port;
	struct ip from; /* IP_NONE: from anywhere */
};

int conntrack_open(struct conntrack **ret, struct err *err);
void conntrack_close(struct conntrack *ct);
AUTO_DEFINE(conntrack, struct conntrack *, conntrack_close);

/*
 * Deletes every entry that one of the n describes. The kernel walks its table once for each target
 * (dst and port), and tells of all UDP once where they are many. Returns how many, or an error; an
 * entry that is gone meanwhile is no failure.
 */
int conntrack_delete_udp(
	struct conntrack *ct, const struct conntrack_stale *stale, size_t n, struct err *err);
