/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calico's Node. */
#pragma once

#include <stdint.h>

#include "model/meta.h"
#include "net/mac.h"
#include "net/prefix.h"

struct node_address {
	char *address; /* "10.130.29.80/24" or a bare address */
	char *type;    /* CalicoNodeIP, InternalIP, ExternalIP, or NULL */
};

struct node {
	struct meta meta;
	struct prefix ipv4, ipv6; /* spec.bgp: the node's address with its subnet's length */
	uint32_t as;		  /* 0: the cluster's */
	struct ip rr_cluster_id;  /* routeReflectorClusterID */
	struct ip ipip_tunnel4;
	struct ip vxlan_tunnel4, vxlan_tunnel6;
	struct mac vxlan_mac4, vxlan_mac6; /* zero: unset */
	struct ip wireguard4, wireguard6;  /* of the interface; Calico's: read only */
	VEC(struct node_address) addresses;
};

/* What a daemon was given as its node's name, by NODENAME or in file, must be one. */
int node_check_name(const char *name, const char *file, struct err *err);

struct node *node_new(const char *name);
int node_decode(const char *key, const char *text, size_t len, struct node **ret, struct err *err);
char *node_encode(const struct node *n, const char *base);
/* Those of its addresses that are given out of the pools; IP_NONE: unset. */
#define NODE_N_TUNNELS 5
void node_tunnels(const struct node *n, const struct ip *ret[static NODE_N_TUNNELS]);
/* Of its tunnel's end by VXLAN: the one that it says, else Calico's, which is made of its name. */
struct mac node_vxlan_mac(const struct node *n, enum ip_family family);
void node_free(struct node *n);
AUTO_DEFINE(node, struct node *, node_free);
