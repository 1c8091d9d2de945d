/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps IPVS's virtual servers and their real servers as wanted.
 *
 * A virtual server exists while it is wanted and has a real server; without one its connections are
 * refused by the nftables rules, at once and without a line in the kernel's log. A TCP endpoint that
 * goes gets weight 0 and keeps its connections; it is deleted when it has none. A UDP endpoint is
 * deleted at once, and so are the connection table's entries that lead to it. One that comes back
 * has its weight back.
 *
 * IPVS marks nobody's entries. Ours are those that is_ours() names, and whatever is wanted; others
 * are never touched. The kernel reports no change, so vservers_mark_unknown() is called at a pace.
 * What is not wanted is deleted: apply is for after the datastore was read whole.
 *
 * Lifecycle: new -> any mix of set/unset/mark_unknown/apply -> free (the kernel's entries stay).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kern/ipvs.h"
#include "proxy/calc.h"

struct conntrack;
struct err;
struct vservers;

#define VSERVERS_BATCH 1024 /* changes per apply, about */
#define VSERVERS_READS 256  /* virtual servers read per apply */
#define VSERVERS_DRAIN_MS 5000

/* Whether a virtual server that nobody wants may be deleted. */
typedef bool vservers_ours_fn(void *arg, const struct vserver_key *key);
/* Called before a virtual server is written: remember it. Negative: one that is not there is not made. */
typedef int vservers_own_fn(void *arg, const struct vserver_key *key, struct err *err);

/* ct (NULL: UDP connections are left) is borrowed. scheduler: "rr". */
struct vservers *vservers_new(struct conntrack *ct, const char *scheduler,
	vservers_ours_fn *is_ours, vservers_own_fn *own, void *arg);
/* The kernel, borrowed: before the first apply. */
void vservers_use(struct vservers *vs, struct ipvs *k);
void vservers_free(struct vservers *vs);

/* Edits the wanted set only. Copies. */
void vservers_set(
	struct vservers *vs, const struct vserver_key *key, const struct calc_server *server);
void vservers_unset(struct vservers *vs, const struct vserver_key *key);
/* Whether it is wanted or, as far as known, in the kernel. */
bool vservers_has(const struct vservers *vs, const struct vserver_key *key);
/* Until then one for which nothing is wanted stays as it is, and in the others a real server that never
 * was wanted: not all that may ask for them is known. */
void vservers_allow_deletes(struct vservers *vs);
/* What we believe is installed may be wrong: read before the next diff. */
void vservers_mark_unknown(struct vservers *vs);

/*
 * Moves the kernel towards the wanted set. 0, or the first failure since the last retry; err names that
 * virtual server and how many others failed. What failed is left alone until it is wanted otherwise, or
 * vservers_retry(): it holds up nobody. *ret_more: call again now, whatever is returned.
 */
int vservers_apply(struct vservers *vs, int64_t now_ms, bool *ret_more, struct err *err);
/* The next apply tries again what failed. */
void vservers_retry(struct vservers *vs);
/* When apply has something to do without a change: draining. INT64_MAX = never. */
int64_t vservers_next_ms(const struct vservers *vs);

struct vservers_stats {
	int64_t wanted, installed; /* virtual servers */
	int64_t draining;	   /* real servers, in the virtual servers that were looked at */
	uint64_t written, deleted, failed, repaired, reads;
	uint64_t connections; /* of UDP, deleted */
};
const struct vservers_stats *vservers_stats(const struct vservers *vs);
