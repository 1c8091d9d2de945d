/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What felix keeps of objects that a cluster has by the thousand, or whose model is text: another
 * node's endpoint costs nothing but its place.
 */
#pragma once

#include <net/if.h>
#include <stddef.h>
#include <stdint.h>

#include "net/mac.h"
#include "net/prefix.h"

struct err;

/* An endpoint. One of another node has no addresses. */
struct in_wep {
	char ifname[IFNAMSIZ];
	char created[32]; /* RFC 3339: the younger endpoint has the address */
	size_t n;
	struct prefix ips[];
};

/* Of FelixConfiguration. */
struct in_config {
	int ipip_enabled;	 /* -1 = as the pools say */
	uint32_t ipip_mtu;	 /* 0 = from the host's */
	char *mtu_iface_pattern; /* NULL = the default */
	char *status_prefix; /* of endpoint-status; "" = there are no files, NULL = the default */
};

/* A node, as others reach its pods by VXLAN; by family: of IPv4, of IPv6. */
struct in_node {
	struct prefix address[2]; /* with its network; IP_NONE: it has none */
	struct ip vtep[2];	  /* its tunnel's end */
	struct mac mac[2];	  /* of that */
	char name[];
};

/* Of a block, where its addresses are. */
struct in_block {
	struct prefix cidr;
	char *host; /* whose it is; NULL: nobody's, or no node's */
	size_t n;
	struct in_borrowed {
		struct ip ip;
		char *node; /* which has it, and is not host */
	} * borrowed;
};

int in_node_decode(
	const char *key, const char *json, size_t len, struct in_node **ret, struct err *err);
int in_block_decode(const char *json, size_t len, struct in_block **ret, struct err *err);
void in_block_free(struct in_block *b);

/* node: this one's name. EINVAL: the message names the member. */
int in_wep_decode(const char *node, const char *key, const char *json, size_t len,
	struct in_wep **ret, struct err *err);
int in_config_decode(
	const char *key, const char *json, size_t len, struct in_config **ret, struct err *err);
void in_config_free(struct in_config *c);
