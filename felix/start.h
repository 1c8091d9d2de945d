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

#include <stdbool.h>
#include <stdint.h>

#include "net/prefix.h"

struct err;
struct start;
struct store;

struct start_conf {
	const char *nodename;
	uint32_t as;		  /* AS: 0 = not set */
	const char *cluster_type; /* CLUSTER_TYPE */
	bool no_default_pools;
	const char *pool4_cidr; /* "" = chosen; "none" = no pool */
	const char *pool4_ipip, *pool4_vxlan, *pool4_node_selector;
	uint32_t pool4_block_size;
	bool pool4_nat_outgoing, pool4_disable_bgp_export;
	const char *pool6_cidr; /* "" or "none" = no pool */
	uint32_t pool6_block_size;
	bool pool6_nat_outgoing;
	bool skip_ip_check; /* DISABLE_NODE_IP_CHECK */
};

/* The outcome, from the event loop: 0, or what is wrong. It may be started again from inside. */
typedef void start_done_fn(void *arg, int r, const struct err *err);

/* st (with an event base) and conf are borrowed. */
struct start *start_new(
	struct store *st, const struct start_conf *conf, start_done_fn *done, void *arg);
void start_free(struct start *s);
/*
 * Begins, from the top where it is under way. address IP_NONE: keep the one that is stored, and fail
 * with why (copied) where there is none; why NULL: then go without.
 */
void start_run(struct start *s, const struct prefix *address, const char *why, int64_t now_ns);
/* Ends it, without telling. */
void start_stop(struct start *s);
bool start_is_running(const struct start *s);
