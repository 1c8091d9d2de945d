/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What felix takes from the datastore's objects, decoded. Fields that felix does not use are not
 * kept: a cluster's thousands of endpoints cost what this node's cost.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/vec.h"
#include "net/prefix.h"

struct err;

#define KEY_V3 "/calico/resources/v3/projectcalico.org/"
#define KEY_NODES KEY_V3 "nodes/"
#define KEY_POOLS KEY_V3 "ippools/"
#define KEY_WEPS KEY_V3 "workloadendpoints/"
#define KEY_FELIX_CONFIGS KEY_V3 "felixconfigurations/"

enum encap_mode { ENCAP_NEVER, ENCAP_ALWAYS, ENCAP_CROSS_SUBNET };

struct in_pool {
	struct prefix cidr;
	enum encap_mode ipip, vxlan;
	bool nat_outgoing;
	bool disabled;
	bool load_balancer; /* of no use for anything else */
	bool tunnels;	    /* gives addresses to tunnel devices */
	char *node_selector;
};

struct in_node {
	struct prefix ip4; /* IP_NONE: not known */
	struct ip tunnel4; /* of tunl0 */
};

/* An endpoint. One of another node has no addresses. */
struct in_wep {
	char ifname[IFNAMSIZ];
	char created[32]; /* RFC 3339: the younger endpoint has the address */
	size_t n;
	struct prefix ips[];
};

struct in_config {
	int ipip_enabled;	 /* -1 = as the pools say */
	uint32_t ipip_mtu;	 /* 0 = from the host's */
	char *mtu_iface_pattern; /* NULL = the default */
};

/* EINVAL: the message names the member. */
int in_pool_decode(const char *text, size_t len, struct in_pool **ret, struct err *err);
void in_pool_free(struct in_pool *p);
int in_node_decode(const char *text, size_t len, struct in_node **ret, struct err *err);
/* node: this one's name. */
int in_wep_decode(
	const char *node, const char *text, size_t len, struct in_wep **ret, struct err *err);
int in_config_decode(const char *text, size_t len, struct in_config **ret, struct err *err);
void in_config_free(struct in_config *c);
