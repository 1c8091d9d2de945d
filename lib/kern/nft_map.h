/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Maps of an nftables table, whose elements are too many to be held as a ruleset: they are told one by
 * one, and written one by one in a transaction, which may hold parts of a ruleset, too.
 *
 *	nft_begin(n, done, arg);
 *	nft_elements_begin(n, true, NFPROTO_IPV4, "table", "map", cookie);
 *	for each
 *		nft_element(n, key, key_len, data, data_len);
 *	nft_elements_end(n);
 *	r = nft_commit(n, &err);
 *
 * A key, and what it leads to, is a row of fields. Rules here are such as nft(8) can list.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kern/nft.h"

enum nft_field {
	NFT_FIELD_END,
	NFT_FIELD_SADDR,
	NFT_FIELD_DADDR,
	NFT_FIELD_PROTOCOL,
	NFT_FIELD_DPORT,
	NFT_FIELD_RANDOM,   /* below the modulus of the rule */
	NFT_FIELD_PRIORITY, /* the packet's, where a rule may leave a number for the next */
};

#define NFT_FIELDS_MAX 6
#define NFT_FIELDS_BYTES 64

/* Each field takes a multiple of 4 bytes: addresses as they are, a protocol and a port (network order)
 * with zeroes behind, numbers in the host's order. */
typedef enum nft_field nft_fields[NFT_FIELDS_MAX];

/* ---- a ruleset's parts ---- */

struct nft_map {
	const char *name;
	nft_fields key;
	nft_fields data; /* empty: a chain to go to */
	uint32_t size;	 /* at most so many elements; 0: no limit. Of a dynamic one wanted */
	bool dynamic;	 /* filled by rules */
};

void nft_map(struct nft_ruleset *rs, enum ip_family family, const struct nft_map *m);
/* One that rules and maps lead to. */
void nft_chain(struct nft_ruleset *rs, const char *name);
/* Both have a set or map of this name, of the same kind. */
bool nft_same_set(const struct nft_ruleset *a, const struct nft_ruleset *b, const char *name);
const char *nft_chain_name(const struct nft_ruleset *rs, size_t i);

/* ---- expressions. Without an element in the map the rule ends there ---- */

void nft_goto_by_map(struct nftnl_rule *r, enum ip_family family, const struct nft_map *m);
/* modulus: of NFT_FIELD_RANDOM. */
void nft_dnat_by_map(
	struct nftnl_rule *r, enum ip_family family, const struct nft_map *m, uint32_t modulus);
void nft_set_priority_by_map(
	struct nftnl_rule *r, enum ip_family family, const struct nft_map *m, uint32_t modulus);

enum nft_update {
	NFT_UPDATE_ADD,	   /* unless there is one; without room the rule ends there */
	NFT_UPDATE_RENEW,  /* add, or begin its time anew: its data stay */
	NFT_UPDATE_DELETE, /* if it is there */
};
/* Of a dynamic map, whose data is the priority. */
void nft_update_map(struct nftnl_rule *r, enum ip_family family, enum nft_update what,
	const struct nft_map *m, uint64_t timeout_ms);

/* ---- reading ---- */

/* As nft_read(), without the elements of maps. */
int nft_read_frame(struct nft *n, uint16_t family, const char *table, struct nft_ruleset **ret,
	struct err *err);
int nft_has_table(struct nft *n, uint16_t family, const char *table, bool *ret, struct err *err);
/* chain: where to go, else data. Elements may be told twice. */
typedef void nft_element_fn(void *arg, const uint8_t *key, size_t key_len, const uint8_t *data,
	size_t data_len, const char *chain);
/* restart: forget what was told, it is told again. ENOENT: there is no such map. */
int nft_map_read(struct nft *n, uint16_t family, const char *table, const char *map,
	nft_element_fn *fn, void (*restart)(void *arg), void *arg, struct err *err);

/* ---- transactions ---- */

/* What became of each part: of one that the kernel refused its error, of the others 0 or ECANCELED. */
typedef void nft_done_fn(void *arg, uintptr_t cookie, int r, const struct err *err);
void nft_begin(struct nft *n, nft_done_fn *done, void *arg);
/* All or nothing. 0, or the first failure. */
int nft_commit(struct nft *n, struct err *err);

/* Sets with their elements, chains, rules; the table, too, where it is not there. */
void nft_put_ruleset(struct nft *n, const struct nft_ruleset *rs, uintptr_t cookie);
void nft_put_no_table(struct nft *n, uint16_t family, const char *table, uintptr_t cookie);
/* With its rules; one that something leads to is refused. */
void nft_put_no_chain(
	struct nft *n, uint16_t family, const char *table, const char *chain, uintptr_t cookie);

/* add: those of a key that is there are refused, unless they have the same data. Names are borrowed
 * until nft_elements_end(). */
void nft_elements_begin(struct nft *n, bool add, uint16_t family, const char *table,
	const char *map, uintptr_t cookie);
void nft_element(struct nft *n, const void *key, size_t key_len, const void *data, size_t data_len);
void nft_element_goto(struct nft *n, const void *key, size_t key_len, const char *chain);
void nft_elements_end(struct nft *n);
