/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ADD and DEL by the node's reserve and journal, which wait for no datastore. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "cni/journal.h"

struct call;
struct cni_texts;
struct err;
struct prefix;

#define RESERVED_NETS_MAX 16

/*
 * Addresses of these pools, too, which are of the family: adds to w->nets, which are nets from now on. false: the
 * reserve cannot be asked for them, as for what is the name or the CIDR of no pool that it has addresses of.
 */
bool reserved_want_pools(const struct call *c, enum ip_family family, const struct cni_texts *pools,
	struct prefix nets[static RESERVED_NETS_MAX], struct journal_want *w);

/*
 * The journal may be gone by: 0, or -EAGAIN: the server has only begun, or it is of another cluster than the
 * datastore.
 */
int reserved_check(struct call *c, struct err *err);
/*
 * The addresses that c's attachment gets of the reserve, with its endpoint in the journal. want->owner is
 * filled in, but for by_name. -ENOENT: there are none that are fit, and the datastore is to be asked. What an earlier ADD was given is
 * seen to be its still, where the datastore is there: -ESTALE: it is another's.
 */
int reserved_take(struct call *c, struct journal_want *want, struct ipam_addr ret[static 2],
	size_t *ret_n, struct err *err);
/* What the datastore has given to c's attachment, which is the journal's from now on. want as above. */
int reserved_adopt(struct call *c, struct journal_want *want, const struct ipam_addr *addrs,
	size_t n, struct err *err);
/* All of c's attachment, in the datastore as soon as that can be. */
int reserved_give_back(struct call *c, struct err *err);
/* Before the datastore is written by this verb: what waits for the same endpoint or handle is to be there. */
int reserved_settle(struct call *c, struct err *err);
/* Whose the addresses of the handle are; where CNI_ARGS do not say it, c is this pod's from now on. */
bool reserved_recall(struct call *c);
