/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel of this node should hold, from what the datastore holds. Pure: no clock, no I/O.
 *
 * Routes are told one by one as they change, at the cost of the change: a /32 or /128 per address of
 * this node's endpoints, on their interfaces, and a blackhole per confirmed block of this node, so
 * that what no pod has goes nowhere (and not round by the default route). Routes to other nodes'
 * blocks are BIRD's. The rest is one small struct, computed whole.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/vec.h"
#include "felix/calc/input.h"
#include "net/prefix.h"

struct calc;
struct ippool;
struct node;

#define CALC_TUNNEL_IPIP_OVERHEAD 20
#define CALC_TUNNEL_VXLAN_OVERHEAD 50
#define CALC_MTU_FALLBACK 1460 /* where no interface looks like the host's */

struct calc_ops {
	/* ifname NULL: a blackhole. dst is a block then. */
	void (*route_set)(void *arg, const struct prefix *dst, const char *ifname);
	void (*route_unset)(void *arg, const struct prefix *dst);
	/* calc_wants() may differ. */
	void (*wants_changed)(void *arg);
};

struct calc_wants {
	bool tunnel;	     /* tunl0 up */
	struct ip tunnel_ip; /* IP_NONE: none yet */
	uint32_t tunnel_mtu;
	uint32_t pod_mtu;
	VEC(struct prefix) masq;  /* sorted: sources whose traffic to the outside is masqueraded */
	VEC(struct prefix) pools; /* sorted: the destinations that are inside */
};

/* ops is borrowed. */
struct calc *calc_new(const struct calc_ops *ops, void *arg);
void calc_free(struct calc *c);

/*
 * Changes of inputs: old NULL = new, now NULL = gone. Objects are kept by reference until they are
 * told as old.
 */
void calc_wep(struct calc *c, const struct in_wep *old, const struct in_wep *now);
void calc_block(struct calc *c, const struct prefix *cidr, bool ours);
void calc_pool(struct calc *c, const struct ippool *old, const struct ippool *now);
void calc_node(struct calc *c, const struct node *now);
/* The later of these wins, field by field. */
enum calc_config { CALC_CONFIG_DEFAULT, CALC_CONFIG_NODE, CALC_CONFIG_GIVEN, CALC_CONFIG_N };
void calc_config(struct calc *c, enum calc_config which, const struct in_config *now);
/* Of the host's interfaces, 0 = none looks like one. */
void calc_host_mtu(struct calc *c, uint32_t mtu);

/* Borrowed until the next change. */
const struct calc_wants *calc_wants(struct calc *c);
/* The configuration in force. */
struct in_config calc_config_in_force(const struct calc *c);
