/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside lib/kern: what nft.c and nft_map.c share. */
#pragma once

#include "kern/nft.h"

struct nftnl_expr;
struct nl;
struct nlattr;
struct nlmsghdr;

/* nft(8)'s numbers of data types, by which it prints sets. */
#define NFT_TYPE_INTEGER 4
#define NFT_TYPE_IPV4_ADDR 7
#define NFT_TYPE_IPV6_ADDR 8
#define NFT_TYPE_INET_PROTO 12
#define NFT_TYPE_INET_SERVICE 13
#define NFT_TYPE_CLASSID 23
#define NFT_TYPE_BITS 6 /* of each part of a concatenation */

struct nft {
	struct nl *nl;
	/* The message of elements that is being made, see nft_map.h. */
	struct {
		struct nlmsghdr *nlh;
		struct nlattr *nest; /* NULL: none yet */
		uint16_t type, family;
		const char *table, *map;
		uintptr_t cookie;
	} elements;
};

/* libnftnl allocates; as everywhere here, no memory is the end. */
void *nft_must(void *p);
struct nftnl_expr *nft_expr(struct nftnl_rule *r, const char *name);
struct nftnl_set *nft_add_set(
	struct nft_ruleset *rs, const char *name, uint32_t flags, uint32_t type, uint32_t len);
/* Questions and, of a transaction, messages, each behind its header. */
struct nlmsghdr *nft_ask(struct nft *n, uint16_t type, uint16_t family);
struct nlmsghdr *nft_add(
	struct nft *n, uint16_t type, uint16_t family, uint16_t flags, uintptr_t cookie);
