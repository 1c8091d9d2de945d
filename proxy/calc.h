/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel should balance: Services and their endpoints to virtual servers, and what NAT must
 * know. Pure: no clock, no kernel, no log. A change costs what the Services that it concerns have,
 * and only what differs from before is told.
 *
 * Objects are borrowed as by model/endpoints.h. Of two Services that claim one address and port the
 * older one has it, by name where neither is older.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "kern/vserver.h"
#include "net/prefix.h"

struct calc;
struct endpointslice;
struct service;
struct wep;

struct calc_dest {
	struct ip ip;
	uint16_t port;
};

/* How one virtual server balances. */
struct calc_server {
	uint32_t affinity_s;	       /* 0: none */
	const struct calc_dest *dests; /* by address and port */
	size_t n_dests;
};

struct calc_ops {
	/* Told once per difference. server is borrowed for the call. */
	void (*server_set)(
		void *arg, const struct vserver_key *key, const struct calc_server *server);
	void (*server_unset)(void *arg, const struct vserver_key *key);
	/* Endpoints that may be on this node, other than the node itself, and node ports: each when it
	 * comes, and when it goes. */
	void (*local)(void *arg, const struct ip *ip, bool there);
	void (*node_port)(void *arg, uint8_t protocol, uint16_t port, bool there);
	/* A Service is not served as it asks: "ns/name", why. Told when that begins. */
	void (*refused)(void *arg, const char *service, const char *why);
};

struct calc_conf {
	const char *nodename;
	const struct prefix *ranges; /* of cluster addresses; borrowed */
	size_t n_ranges;
	bool use_weps; /* see model/endpoints.h */
};

struct calc *calc_new(const struct calc_conf *conf, const struct calc_ops *ops, void *arg);
void calc_free(struct calc *c);
AUTO_DEFINE(calc, struct calc *, calc_free);

/* old NULL: new; new NULL: gone. */
void calc_on_service(struct calc *c, const struct service *old, const struct service *new);
void calc_on_slice(
	struct calc *c, const struct endpointslice *old, const struct endpointslice *new);
void calc_on_wep(struct calc *c, const struct wep *old, const struct wep *new);
/* The addresses of this node at which node ports are served. */
void calc_on_node_ips(struct calc *c, const struct ip *ips, size_t n);

/* Looks at the Services that were concerned since the last call, and tells. */
void calc_run(struct calc *c);
