/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nftables as a backend: tables `margay-proxy-maps`, ip and ip6, of five maps, and a chain for each
 * number of endpoints that any virtual server has.
 *
 *	services	address . protocol . port : goto random-3
 *	endpoints	address . protocol . port . slot : address . port
 *
 * so that `random-3` is one rule for all that have three: translate to what `endpoints` has in a random
 * slot below 3. Whatever else is there, a connection costs a look-up in each, and an endpoint that
 * comes or goes costs the elements that differ: the last slot moves into the hole.
 *
 * With affinity a virtual server leads to `sticky-3-600s`: which endpoint a client had is in
 *
 *	clients		client . address . protocol . port : number, for 600 s
 *	numbered	address . protocol . port . number : address . port
 *
 * where the kernel itself adds, renews and forgets clients. An endpoint that is gone has no number, and
 * its clients choose anew, by
 *
 *	numbers		address . protocol . port . slot : number
 *
 * From rule to rule the number is kept in the packet's priority, which counts nowhere between, and is
 * the first packet's alone. A client is remembered by the address it asked: through a node port it may
 * have another endpoint.
 *
 * Rules see the first packet of a connection, the kernel's connection table translates the others: so
 * connections stay whatever happens to the maps. While a transaction takes effect, a packet may find
 * a slot that has gone meanwhile; it is given the first one then.
 *
 * The table is ours as a whole. It is read at the start and when somebody else has changed it, and the
 * difference is written.
 *
 * Lifecycle: new -> the backend's verbs -> free (the kernel's table stays).
 */
#pragma once

#include <stdbool.h>

#include "proxy/backend.h"

struct conntrack;
struct err;
struct maps;
struct nft;

#define MAPS_TABLE "margay-proxy-maps"
#define MAPS_BATCH 16384	 /* elements per apply, about */
#define MAPS_ENDPOINTS_MAX 65536 /* of a virtual server */

/* ct (NULL: UDP connections are left) is borrowed. */
struct maps *maps_new(struct conntrack *ct);
/* The kernel, borrowed: before the first apply. */
void maps_use(struct maps *m, struct nft *n);
void maps_free(struct maps *m);
struct backend *maps_backend(struct maps *m);
/* Somebody changed a table of this name (NULL: of any); true: there is something to apply. */
bool maps_event(struct maps *m, const char *table);

/* Deletes the tables. *ret_any: there were some. */
int maps_delete(struct nft *n, bool *ret_any, struct err *err);
