/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as a netlink message: refused, or values within their bounds. */
#include <libmnl/libmnl.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "kern/rt_codec.h"

static void check(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nlmsghdr *nlh;
	struct rt_event ev;
	struct rt_neigh neigh;
	struct rt_fdb fdb;
	struct rt_rule rule;

	if (size < sizeof(*nlh) || size > 65536)
		return 0;
	nlh = malloc(size); /* of this size, so that a read behind its end is seen */
	memcpy(nlh, data, size);
	nlh->nlmsg_len = (uint32_t)size; /* what the transport makes sure of */
	if (rt_event_decode(nlh, &ev) == 0 &&
		(ev.type == RT_EVENT_ROUTE_SET || ev.type == RT_EVENT_ROUTE_DEL))
		check(prefix_is_masked(&ev.route.dst) &&
			ev.route.dst.plen <= ip_bits(&ev.route.dst.addr));
	if (rt_neigh_decode(nlh, &neigh) == 0)
		check(neigh.ip.family == IP_V4 || neigh.ip.family == IP_V6);
	if (rt_fdb_decode(nlh, &fdb) == 0)
		check(fdb.dst.family == IP_V4 || fdb.dst.family == IP_V6);
	if (rt_rule_decode(nlh, &rule) == 0)
		check(rule.src.plen <= 128 && rule.dst.plen <= 128);
	free(nlh);
	return 0;
}
