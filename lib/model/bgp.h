/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calico's BGPConfiguration and BGPPeer. */
#pragma once

#include <stdint.h>

#include "model/meta.h"
#include "net/prefix.h"

#define BGP_AS_DEFAULT 64512

/* "64512" or "1.10". */
int bgp_as_parse(const char *s, uint32_t *ret, struct err *err);

enum cluster_routes { ROUTES_UNSET, ROUTES_ENABLED, ROUTES_DISABLED, ROUTES_IPIP, ROUTES_NO_ENCAP };

struct bgp_community {
	char *name, *value; /* "aa:nn" or "aa:nn:mm" */
};

struct bgp_advertisement {
	struct prefix cidr;
	struct strings communities; /* names or values */
};

/* "default", or "node.NAME" for one node's. */
struct bgp_config {
	struct meta meta;
	char *log_severity; /* Info, Debug, ... */
	bool mesh;	    /* nodeToNodeMeshEnabled; true where unset */
	bool mesh_set;
	uint32_t as;			     /* 0: unset, BGP_AS_DEFAULT */
	uint16_t listen_port;		     /* 0: unset, 179 */
	int64_t mesh_restart_ms;	     /* nodeMeshMaxRestartTime, 0: unset */
	char *mesh_secret, *mesh_secret_key; /* nodeMeshPassword.secretKeyRef */
	bool bind_node_ip;		     /* bindMode NodeIP */
	enum cluster_routes cluster_routes;  /* programClusterRoutes */
	uint32_t priority4, priority6;	     /* ipv4NormalRoutePriority, 0: unset */
	struct strings ignored_interfaces;
	VEC(struct prefix) service_cluster_ips, service_external_ips, service_lb_ips;
	VEC(struct bgp_community) communities;
	VEC(struct bgp_advertisement) advertisements;
};

int bgp_config_decode(
	const char *key, const char *text, size_t len, struct bgp_config **ret, struct err *err);
void bgp_config_free(struct bgp_config *c);
AUTO_DEFINE(bgp_config, struct bgp_config *, bgp_config_free);

enum bgp_next_hop { NEXT_HOP_AUTO, NEXT_HOP_SELF, NEXT_HOP_KEEP };

/* Of all nodes where it has neither node nor node_selector. */
struct bgp_peer {
	struct meta meta;
	char *node, *node_selector;
	struct ip ip;  /* peerIP */
	uint16_t port; /* 0: the default */
	char *peer_selector;
	uint32_t as;	   /* 0: unset */
	uint32_t local_as; /* 0: unset */
	enum bgp_next_hop next_hop;
	bool source_none; /* sourceAddress None; else the node's address */
	int64_t restart_ms, keepalive_ms;
	uint32_t allowed_local_as; /* numAllowedLocalASNumbers */
	uint8_t ttl_security;	   /* 0: off */
	struct ip reachable_by;
	char *password_secret, *password_key; /* password.secretKeyRef */
	char *local_workload_selector;
	struct strings filters;
	bool reverse_manual; /* reversePeering Manual */
};

int bgp_peer_decode(
	const char *key, const char *text, size_t len, struct bgp_peer **ret, struct err *err);
void bgp_peer_free(struct bgp_peer *p);
AUTO_DEFINE(bgp_peer, struct bgp_peer *, bgp_peer_free);
