/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Start-up, and the same again whenever its inputs change: the Node object with this node's address,
 * default pools and configuration where there are none, and the address of the tunnel device.
 *
 * It is a plan that runs from the top after every answer of the store, as the allocator's: what it
 * needs and does not know it reads, what is wrong it writes, and a lost compare-and-swap only makes
 * it read again. So it may be stopped anywhere and started anew.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/prefix.h"

struct err;
struct start;
struct store;

enum start_family { START_V4, START_V6, START_N_FAMILIES };

/* A default pool (CALICO_IPV4POOL_*, CALICO_IPV6POOL_*). */
struct start_pool {
	const char *cidr; /* "none" = no pool; "" = one that is chosen, and of IPv6 none */
	const char *ipip, *vxlan, *node_selector;
	uint32_t block_size;
	bool nat_outgoing, disable_bgp_export;
};

struct start_conf {
	const char *nodename;
	uint32_t as;		  /* AS: 0 = not set */
	const char *cluster_type; /* CLUSTER_TYPE */
	bool no_default_pools;
	struct start_pool pools[START_N_FAMILIES];
	bool skip_ip_check; /* DISABLE_NODE_IP_CHECK */
};

/* What the host says of itself. */
struct start_host {
	struct prefix address[START_N_FAMILIES]; /* IP_NONE: keep the one that is stored */
	char *why
		[START_N_FAMILIES]; /* where none is stored it fails with this; NULL = go without */
	json_t *interfaces;	    /* Node's spec.interfaces; NULL: keep what is stored */
};
void start_host_done(struct start_host *h);

/* The outcome, from the event loop: 0, or what is wrong. It may be started again from inside. */
typedef void start_done_fn(void *arg, int r, const struct err *err);

/* st (with an event base) and conf are borrowed. */
struct start *start_new(
	struct store *st, const struct start_conf *conf, start_done_fn *done, void *arg);
void start_free(struct start *s);
/* Begins, from the top where it is under way. host is consumed. */
void start_run(struct start *s, struct start_host *host, int64_t now_ns);
/* Ends it, without telling. */
void start_stop(struct start *s);
bool start_is_running(const struct start *s);
/* Some run has found the Node stored with the addresses that are the host's, and no other node's. */
bool start_is_settled(const struct start *s);
