/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the pods of other nodes are reached where their pool says VXLAN: a route for each block of another node, and
 * for each address that a node has of a block which is not its own; through that node's tunnel end (VTEP), or,
 * where a pool says CrossSubnet and the node is on our network, by the node itself. Pure.
 *
 * A node, a block or a pool that changes costs what it has routes for.
 */
#pragma once

#include <stdbool.h>

#include "base/mem.h"
#include "felix/calc/input.h"
#include "net/mac.h"
#include "net/prefix.h"

struct ippool;
struct remote;

struct remote_ops {
	/* Each once per difference. direct: via is a neighbour of this node, else a tunnel's end. */
	void (*route_set)(void *arg, const struct prefix *dst, const struct ip *via, bool direct);
	void (*route_unset)(void *arg, const struct prefix *dst);
	/* The end of a tunnel that some route goes through: its MAC, and the host that it is on. */
	void (*vtep_set)(
		void *arg, const struct ip *vtep, const struct mac *mac, const struct ip *host);
	void (*vtep_unset)(void *arg, const struct ip *vtep);
};

/* self: this node's name; ops: borrowed. */
struct remote *remote_new(const char *self, const struct remote_ops *ops, void *arg);
/* Without telling. */
void remote_free(struct remote *r);
AUTO_DEFINE(remote, struct remote *, remote_free);

/* old NULL = new, now NULL = gone. Objects are kept by reference until they are told as old. */
void remote_node(struct remote *r, const struct in_node *old, const struct in_node *now);
void remote_block(struct remote *r, const struct in_block *old, const struct in_block *now);
void remote_pool(struct remote *r, const struct ippool *old, const struct ippool *now);
