/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps the proxy's nftables tables `margay-proxy`, ip and ip6: a constant number of rules, and sets.
 *
 * Masqueraded is what an endpoint sends to itself through a Service, what comes in by a node port,
 * and what comes to a Service from outside of the pods' networks and of this node: their answers
 * would not come back through here. Refused is what arrives at a Service's address and IPVS has not
 * taken (its hook has priority 99): no server of this host's answers there by accident.
 *
 * Lifecycle: new -> any mix of want/event/mark_unknown/apply -> free (the kernel's tables stay).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "net/prefix.h"

struct calc;
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
	const struct calc *calc;
};

/* n is borrowed. */
struct masq *masq_new(struct nft *n);
void masq_free(struct masq *m);
/* Copies what it needs. Nothing is written before the first. */
void masq_want(struct masq *m, const struct masq_want *w);
/* Somebody changed a table of this name (NULL: of any); true: there is something to apply. */
bool masq_event(struct masq *m, const char *table);
void masq_mark_unknown(struct masq *m);
/* Both families are attempted. 0, or the first failure; the next call tries again. */
int masq_apply(struct masq *m, struct err *err);
