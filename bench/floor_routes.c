/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The floor under a cold start of felix: the same routes in batches of netlink messages, each with one
 * acknowledgement, and nothing else.
 *
 *	floor_routes N
 */
#include <unistd.h>

#include "bench.h"

#define BATCH_BYTES (32 * 1024)

int main(int argc, char **argv)
{
	int n = number(argc == 2 ? argv[1] : "", "routes", 1, 10000000), fd = rtnl_open(0);

	for (int i = 0; i < n; i++) {
		rtnl_put_route(route_dst(i), route_ifindex(i), false);
		if (rtnl_pending() > BATCH_BYTES)
			rtnl_send(fd);
	}
	rtnl_send(fd);
	close(fd);
	return 0;
}
