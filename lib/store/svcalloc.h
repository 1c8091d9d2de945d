/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cluster addresses and node ports for Services, where no Kubernetes gives them: none twice.
 *
 * Whoever writes a Service claims first: a claim is an object of its own, created where there was
 * none, so that of two writers one loses.
 *
 *	/margay/v1/serviceips/10.96.0.10	{"service":"default/dns","time":1795573000,"id":7}
 *	/margay/v1/nodeports/30080		the same
 *
 *	svcalloc_claim	fills in and claims what s lacks, and claims what it names itself
 *	write the Service
 *	svcalloc_release	what the Service had and has no more
 *	svcalloc_undo	or, where the write failed, what was claimed for it
 *
 * Two that write one Service at once share its claims. So none is given up that the Service, as it is
 * stored, bears out, and after a failure only what was claimed for the write that failed.
 *
 * A writer that dies in between leaves claims that no Service bears out; whoever meets one that is
 * older than SVCALLOC_GRACE_MS takes it. So writers write within half of that, or not at all.
 *
 * Claims alone say what is taken, so that a write costs the same beside ten Services and ten thousand.
 * A Service that was put into the datastore without claims may lose what it has to another; writing
 * it once more through here claims it, or says whose it is by now. Of two that have the same,
 * margay-proxy serves the older one and names the other.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "net/prefix.h"

struct err;
struct service;
struct store;

#define SVCALLOC_RANGES "10.96.0.0/16"
#define SVCALLOC_NODE_PORTS "30000-32767"
#define SVCALLOC_GRACE_MS 60000

struct svcalloc_conf {
	struct prefix ranges[2]; /* the first is that of a Service which asks for no family */
	size_t n_ranges;
	uint16_t port_min, port_max;
};

/* "10.96.0.0/16[,fd00::/112]" and "30000-32767". EINVAL says which. */
int svcalloc_parse_ranges(const char *text, struct svcalloc_conf *ret, struct err *err);
int svcalloc_parse_ports(const char *text, struct svcalloc_conf *ret, struct err *err);

/* The claims that one call made; those that were there for its Service are not among them. */
struct svcalloc_made;
void svcalloc_made_free(struct svcalloc_made *m);
AUTO_DEFINE(svcalloc_made, struct svcalloc_made *, svcalloc_made_free);

/*
 * Gives s a cluster address (unless headless or ExternalName) and, for NodePort and LoadBalancer, a
 * node port for each port, and claims all of them. What old, the stored version, has is kept where s
 * names none; old NULL: create. EEXIST: another Service has what s asks for; ENOSPC: none is left;
 * EINVAL: an address out of range, or that no Service can have. After a failure nothing is claimed
 * that old does not have. ret_made may be NULL.
 */
int svcalloc_claim(struct store *st, const struct svcalloc_conf *c, struct service *s,
	const struct service *old, int64_t deadline_ms, struct svcalloc_made **ret_made,
	struct err *err);
/* For who could not write the Service. */
void svcalloc_undo(struct store *st, const struct svcalloc_made *m);
/* Gives up the claims of `from`, which was stored, that `keep` (NULL: nothing) does not have. */
int svcalloc_release(struct store *st, const struct service *from, const struct service *keep,
	int64_t deadline_ms, struct err *err);

/* ---- the choice itself, pure ---- */

/*
 * A free address of the range: never its first or last; from the upper part while that has one, so
 * that the first addresses stay free for those who ask for them by name. used: sorted.
 */
bool svcalloc_choose_ip(const struct prefix *range, const struct ip *used, size_t n,
	uint64_t random, struct ip *ret);
/* used: sorted. 0: none is left. */
uint16_t svcalloc_choose_port(
	const struct svcalloc_conf *c, const uint16_t *used, size_t n, uint64_t random);
