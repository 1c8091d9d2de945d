/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What balances: IPVS (vservers.h) or nftables (maps.h), as the agent uses either.
 *
 * A virtual server exists while it is wanted and has an endpoint; without one its connections are
 * refused by the rules of masq.h. Connections of TCP and SCTP stay with their endpoint when that goes;
 * of UDP the connection table's entries that lead to it are deleted, and so are those that were made
 * before the virtual server.
 *
 * Lifecycle: any mix of set/unset/mark_unknown/apply; apply is for after the datastore was read whole.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proxy/calc.h"

struct backend;
struct err;

struct backend_stats {
	int64_t wanted, installed; /* virtual servers */
	int64_t draining;	   /* endpoints that are gone and still have connections here */
	/* Entries of the kernel; repaired: what somebody else changed. */
	uint64_t written, deleted, failed, repaired, reads;
	uint64_t connections; /* of UDP, deleted */
};

struct backend_ops {
	const char *name; /* "IPVS" */
	/* Edits the wanted set only. Copies. */
	void (*set)(
		struct backend *b, const struct vserver_key *key, const struct calc_server *server);
	void (*unset)(struct backend *b, const struct vserver_key *key);
	/*
	 * Until then a virtual server for which nothing is wanted stays as it is, and in the others an
	 * endpoint that never was wanted: not all that may ask for them is known.
	 */
	void (*allow_deletes)(struct backend *b);
	/* What we believe is installed may be wrong: read before the next diff. */
	void (*mark_unknown)(struct backend *b);
	/*
	 * Moves the kernel towards the wanted set. 0, or the first failure since the last retry; err
	 * names that virtual server and how many others failed. What failed is left alone until it is
	 * wanted otherwise, or retry(): it holds up nobody. *ret_more: call again now, whatever is
	 * returned.
	 */
	int (*apply)(struct backend *b, int64_t now_ms, bool *ret_more, struct err *err);
	/* The next apply tries again what failed. */
	void (*retry)(struct backend *b);
	/* When apply has something to do without a change: draining. INT64_MAX = never. */
	int64_t (*next_ms)(struct backend *b);
};

/* The head of an implementation's struct. */
struct backend {
	const struct backend_ops *ops;
	struct backend_stats stats;
};
