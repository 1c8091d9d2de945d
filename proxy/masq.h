/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps the proxy's nftables tables `margay-proxy`, ip and ip6: a constant number of rules, and sets.
 *
 * Masqueraded is what an endpoint sends to itself through a Service, what comes in by a node port,
 * and what comes to a Service from outside of the pods' networks and of this node: their answers
 * would not come back through here. Refused is what arrives at a Service's address and IPVS has not
 * taken (its hook has priority 99): no server of this host's answers there by accident.
 *
 * A local endpoint or a node port that comes or goes costs its element of a set. The rest changes
 * with the node: the tables are read, and what differs is written. Until deletions are allowed, what
 * the sets of pods, local endpoints and node ports hold stays there.
 *
 * Lifecycle: new -> any mix of want/set/event/mark_unknown/apply -> free (the kernel's tables stay).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/prefix.h"

struct err;
struct masq;
struct nft;

#define MASQ_TABLE "margay-proxy"

struct masq_want {
	const struct prefix *ranges; /* of cluster addresses */
	size_t n_ranges;
	const struct prefix
		*pods; /* networks of pods; of a family that has none, nothing is outside */
	size_t n_pods;
	const struct ip *node_ips; /* where node ports are served */
	size_t n_node_ips;
	bool all; /* masquerade everything to a Service */
};

struct masq *masq_new(void);
/* The kernel, borrowed: before the first apply. */
void masq_use(struct masq *m, struct nft *n);
void masq_free(struct masq *m);
/* Copies what it needs. Nothing is written before the first. */
void masq_want(struct masq *m, const struct masq_want *w);
/* An endpoint that may be on this node; a node port. In any order, before masq_want() or after. */
void masq_set_local(struct masq *m, const struct ip *ip, bool wanted);
void masq_set_node_port(struct masq *m, uint8_t protocol, uint16_t port, bool wanted);
/* All that may ask for an element is known. */
void masq_allow_deletes(struct masq *m);
/* Somebody changed a table of this name (NULL: of any); true: there is something to apply. */
bool masq_event(struct masq *m, const char *table);
void masq_mark_unknown(struct masq *m);
/* Both families are attempted. 0, or the first failure; the next call tries again. */
int masq_apply(struct masq *m, struct err *err);
