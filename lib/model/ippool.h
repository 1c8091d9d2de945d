/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calico's IPPool. Decoding fills in what is absent with Calico's defaults. */
#pragma once

#include <stdint.h>

#include "model/meta.h"
#include "net/prefix.h"

enum encap_mode { ENCAP_NEVER, ENCAP_ALWAYS, ENCAP_CROSS_SUBNET };

enum pool_use { POOL_WORKLOAD = 1, POOL_TUNNEL = 2, POOL_LOADBALANCER = 4 };

/*
 * An annotation of a pool that is stored disabled, until its writer has listed the pools once more:
 * another may have come meanwhile. Its value says whose it is to go on with; of a pool that was written
 * since by somebody who does not know of it, it is gone.
 */
#define IPPOOL_UNCHECKED "margay/unchecked"
#define IPPOOL_UNCHECKED_FELIX "margay-felix"
#define IPPOOL_UNCHECKED_CTL "margayctl"

struct ippool {
	struct meta meta;
	struct prefix cidr; /* masked */
	enum encap_mode ipip, vxlan;
	bool nat_outgoing, disabled, disable_bgp_export;
	bool manual;		  /* assignmentMode: only on request */
	bool not_allocatable;	  /* status condition Allocatable=False */
	uint8_t block_plen;	  /* blockSize: 20..32, 116..128; where enabled, within cidr */
	unsigned allowed_uses;	  /* of enum pool_use */
	char *node_selector;	  /* never NULL */
	char *namespace_selector; /* NULL: any */
};

/* Calico's defaults: no encapsulation, blocks of /26 or /122, workloads and tunnels, all(). */
struct ippool *ippool_new(const char *name, const struct prefix *cidr);
int ippool_decode(
	const char *key, const char *text, size_t len, struct ippool **ret, struct err *err);
char *ippool_encode(const struct ippool *p, const char *base);
void ippool_free(struct ippool *p);
AUTO_DEFINE(ippool, struct ippool *, ippool_free);
/* Neither disabled, being deleted, nor refused. */
bool ippool_enabled(const struct ippool *p);
/* "Never", "Always", "CrossSubnet", in any case. */
int encap_mode_parse(const char *s, enum encap_mode *ret, struct err *err);
const char *encap_mode_str(enum encap_mode m);
