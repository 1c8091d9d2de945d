/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IPVS as a backend: its virtual servers and their real servers.
 *
 * A virtual server without real servers is none, so that its connections are refused by the nftables
 * rules, at once and without a line in the kernel's log. A TCP endpoint that goes gets weight 0 and
 * keeps its connections; it is deleted when it has none. A UDP endpoint is deleted at once. One that
 * comes back has its weight back.
 *
 * IPVS marks nobody's entries. Ours are those that is_ours() names, and whatever is wanted; others
 * are never touched. The kernel reports no change, so mark_unknown is called at a pace.
 *
 * Lifecycle: new -> the backend's verbs -> free (the kernel's entries stay).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kern/ipvs.h"
#include "proxy/backend.h"

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

struct backend *vservers_backend(struct vservers *vs);
/* Whether it is wanted or, as far as known, in the kernel. */
bool vservers_has(const struct vservers *vs, const struct vserver_key *key);
