/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nftables tables that one process owns as a whole: what they should hold is a `struct nft_ruleset`,
 * which can be read from the kernel, compared, and written in one transaction in place of what is
 * there. For tables of a constant number of rules, whose sets may change by element.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/vec.h"
#include "net/prefix.h"

struct err;
struct nft;
struct nft_monitor;
struct nftnl_chain;
struct nftnl_rule;
struct nftnl_set;

int nft_open(struct nft **ret, struct err *err);
void nft_close(struct nft *n);
AUTO_DEFINE(nft, struct nft *, nft_close);

/* ---- a table's content ---- */

struct nft_ruleset {
	uint16_t family; /* NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_INET */
	char *table;
	uint32_t flags; /* the table's: none is wanted, as a dormant one does nothing */
	VEC(struct nftnl_set *) sets; /* with their elements */
	VEC(struct nftnl_chain *) chains;
	VEC(struct nftnl_rule *) rules; /* in order */
};

struct nft_ruleset *nft_ruleset_new(uint16_t family, const char *table);
void nft_ruleset_free(struct nft_ruleset *rs);
AUTO_DEFINE(nft_ruleset, struct nft_ruleset *, nft_ruleset_free);
/* hook: NF_INET_POST_ROUTING, ...; policy accept. */
void nft_base_chain(struct nft_ruleset *rs, const char *name, const char *type, uint32_t hook,
	int32_t priority);
/* The addresses of these prefixes that are of the family. */
void nft_prefix_set(struct nft_ruleset *rs, const char *name, enum ip_family family,
	const struct prefix *v, size_t n);
/* Sets of single values, which nft_change() changes by element. */
enum nft_key {
	NFT_KEY_IP4,	  /* an address */
	NFT_KEY_IP4_PAIR, /* two of them */
	NFT_KEY_IP6,
	NFT_KEY_IP6_PAIR,
	NFT_KEY_PORT, /* network order */
};
struct nftnl_set *nft_key_set(struct nft_ruleset *rs, const char *name, enum nft_key key);
/* bytes: as long as the key. Each value once. */
void nft_key_add(struct nftnl_set *s, const void *bytes);
/* Whether it has a set of this name. */
bool nft_has_set(const struct nft_ruleset *rs, const char *name);
/* Adds to rs's set of this name what have's, if it has one, holds besides. */
void nft_keep(struct nft_ruleset *rs, const struct nft_ruleset *have, const char *name);
/* The next rule of a chain, to be filled in by the expressions below. Owned by rs. */
struct nftnl_rule *nft_rule(struct nft_ruleset *rs, const char *chain);

/* ---- expressions, in the order of the rule ---- */

/* The packet's source (or destination) address is (invert: is not) in the set. */
void nft_match_addr(
	struct nftnl_rule *r, enum ip_family family, bool source, const char *set, bool invert);
/* Source and destination, as a pair, are in the set. */
void nft_match_addr_pair(struct nftnl_rule *r, enum ip_family family, const char *set);
/* What the connection's first packet was sent to, before any translation, is in the set. */
void nft_match_original_daddr(struct nftnl_rule *r, enum ip_family family, const char *set);
/* Behind nft_match_protocol. */
void nft_match_original_dport(struct nftnl_rule *r, const char *set);
/* protocol: IPPROTO_TCP, ... */
void nft_match_protocol(struct nftnl_rule *r, uint8_t protocol, bool invert);
void nft_match_oifname(struct nftnl_rule *r, const char *name);
/* The source address is local (of the outgoing interface: oif) or (invert) is not. */
void nft_match_saddr_local(struct nftnl_rule *r, bool oif, bool invert);
void nft_masquerade(struct nftnl_rule *r);
/* "Port unreachable". */
void nft_reject(struct nftnl_rule *r, enum ip_family family);
/* Behind nft_match_protocol(r, IPPROTO_TCP, false). */
void nft_reject_tcp(struct nftnl_rule *r);

/* ---- the kernel ---- */

/* What the kernel has; *ret is empty where there is no such table. */
int nft_read(struct nft *n, uint16_t family, const char *table, struct nft_ruleset **ret,
	struct err *err);
/* No other flags, the same sets with the same elements, chains and rules. */
bool nft_equal(const struct nft_ruleset *a, const struct nft_ruleset *b);
/* Puts rs in the place of the table that is there, if any: all or nothing. */
int nft_write(struct nft *n, const struct nft_ruleset *rs, struct err *err);
/*
 * The same in the fewest messages: where `have`, which the kernel holds, differs from rs in elements
 * of key sets alone, those are added and deleted. An error may mean that the kernel holds something
 * else: read it.
 */
int nft_change(struct nft *n, const struct nft_ruleset *have, const struct nft_ruleset *rs,
	struct err *err);
/* A table that is not there is success. */
int nft_delete_table(struct nft *n, uint16_t family, const char *table, struct err *err);

/* ---- watching ---- */

/* Called when something in the table (any family) was changed by others; NULL: maybe. */
typedef void nft_event_fn(void *arg, const char *table);
/* except: changes made through it are not told; NULL = all are told. */
int nft_monitor_open(const struct nft *except, struct nft_monitor **ret, struct err *err);
void nft_monitor_close(struct nft_monitor *m);
int nft_monitor_fd(const struct nft_monitor *m);
int nft_monitor_read(struct nft_monitor *m, nft_event_fn *fn, void *arg, struct err *err);
