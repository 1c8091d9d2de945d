/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps felix's nftables tables `margay` (ip, and ip6 where there is something to do): traffic from
 * pods of pools with natOutgoing to the outside of all pools is masqueraded, and so is what this
 * host itself sends into the tunnel from another address than the tunnel's, which the other side
 * could not answer through the tunnel. The tables are ours alone; a change is one transaction.
 *
 * Lifecycle: new -> any mix of want/event/mark_unknown/apply -> free (the kernel's tables stay).
 */
#pragma once

struct calc_wants;
struct err;
struct nat;
struct nft;

#define NAT_TABLE "margay"

/* n is borrowed. */
struct nat *nat_new(struct nft *n);
void nat_free(struct nat *nat);
/* Copies what it needs. Until deletes are allowed, a table that is there stays as it is. */
void nat_want(struct nat *nat, const struct calc_wants *w);
void nat_allow_deletes(struct nat *nat);
/* Somebody changed a table of this name. */
void nat_event(struct nat *nat, const char *table);
void nat_mark_unknown(struct nat *nat);
/* 0, or the first failure; the next call tries again. Writes nothing before the first nat_want. */
int nat_apply(struct nat *nat, struct err *err);
