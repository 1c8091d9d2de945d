/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What IPAM stores: blocks, affinities, handles and its configuration, as Calico has them in etcd
 * (the keys, and the JSON byte by byte).
 *
 * A decoded block is consistent: each ordinal is either allocated with an attribute that exists or
 * stands once in `free`.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/vec.h"
#include "net/prefix.h"

struct err;

#define IPAM_BLOCK_MAX 4096 /* addresses: /20, /116 */
#define IPAM_KEY_SIZE 512
#define IPAM_ROOT "/calico/ipam/v2/"
#define IPAM_KEY_CONFIG IPAM_ROOT "config"
#define IPAM_KEY_BLOCKS IPAM_ROOT "assignment/"
#define IPAM_KEY_AFFINITIES IPAM_ROOT "host/"
#define IPAM_KEY_HANDLES IPAM_ROOT "handle/"

#define IPAM_HANDLE_WINDOWS "windows-reserved-ipam-handle" /* of what Windows wants of each block */
#define IPAM_HANDLE_FULL "margay-pool-full"   /* of no address: nodes tell each other by it */
#define IPAM_HANDLE_RESERVE "margay-reserve-" /* and the node: what it holds ahead for its pods */

/* The attribute `type` of what margay-ipam alone gives: another plugin makes the interface, and no endpoint. */
#define IPAM_TYPE_ALONE "margayIpam"

struct ipam_kv {
	char *name, *value;
};

/* What one or more addresses of a block have in common. */
struct ipam_block_attr {
	char *handle;		       /* NULL: none */
	VEC(struct ipam_kv) secondary; /* sorted by name */
	VEC(struct ipam_kv) alternate; /* kept, not understood */
	int64_t released_s;	       /* since 1970: in cool-down from then on; 0 = in use */
	char *rest; /* JSON of the members that are not known here, NULL: none; kept */
};

struct ipam_block {
	struct prefix cidr;
	char *affinity;	     /* "host:node1", "virtual:load-balancer", NULL: none */
	int64_t claim_s;     /* since 1970; 0 = not known */
	uint32_t size;	     /* addresses */
	int32_t *alloc;	     /* size entries: an index into attrs, -1 = free */
	uint64_t *alloc_seq; /* size entries: the sequence number at the allocation, 0 = none */
	VEC(uint32_t) free;  /* ordinals, first in first out */
	VEC(struct ipam_block_attr) attrs;
	bool attrs_null; /* no address was ever given: Calico prints null for attrs then */
	uint64_t seq;
	bool deleted;
	char *rest; /* as an attribute's */
};

/* cidr's length must leave at most IPAM_BLOCK_MAX addresses. No affinity, everything free. */
struct ipam_block *ipam_block_new(const struct prefix *cidr);
struct ipam_block *ipam_block_dup(const struct ipam_block *from);
void ipam_block_free(struct ipam_block *b);
AUTO_DEFINE(ipam_block, struct ipam_block *, ipam_block_free);
/* Frees what the attribute holds. */
void ipam_block_attr_done(struct ipam_block_attr *a);
/* What the owner says of itself: "node", "pod", ...; NULL: nothing. Borrowed. */
const char *ipam_block_attr_get(const struct ipam_block_attr *a, const char *name);

/* EINVAL: the message names the member. */
int ipam_block_decode(const char *text, size_t len, struct ipam_block **ret, struct err *err);
char *ipam_block_encode(const struct ipam_block *b);

enum ipam_affinity_state { IPAM_CONFIRMED, IPAM_PENDING, IPAM_PENDING_DELETION };

struct ipam_affinity {
	enum ipam_affinity_state state;
	bool deleted;
};

/* An empty value, or no state, is confirmed. */
int ipam_affinity_decode(const char *text, size_t len, struct ipam_affinity *ret, struct err *err);
/* base: what it was decoded from, whose other members are kept; NULL: none. */
char *ipam_affinity_encode(const struct ipam_affinity *a, const char *base);

struct ipam_handle {
	VEC(struct ipam_handle_block {
		struct prefix cidr;
		uint32_t count;
	})
	blocks; /* sorted by text, as Go prints maps */
	bool deleted;
	char *rest; /* as a block's */
};

struct ipam_handle *ipam_handle_new(void);
struct ipam_handle *ipam_handle_dup(const struct ipam_handle *from);
void ipam_handle_free(struct ipam_handle *h);
AUTO_DEFINE(ipam_handle, struct ipam_handle *, ipam_handle_free);
int ipam_handle_decode(const char *text, size_t len, struct ipam_handle **ret, struct err *err);
char *ipam_handle_encode(const struct ipam_handle *h);

struct ipam_config {
	bool strict_affinity;
	bool auto_allocate_blocks;
	uint32_t max_blocks_per_host; /* 0: not set */
	uint32_t cooldown_s;
	bool vm_persistence_disabled; /* kept, not used */
};

/* What holds where nothing is stored. */
#define IPAM_CONFIG_DEFAULT ((struct ipam_config){.auto_allocate_blocks = true})

int ipam_config_decode(const char *text, size_t len, struct ipam_config *ret, struct err *err);
char *ipam_config_encode(const struct ipam_config *c);

/* The keys. Each returns buf. */
const char *ipam_key_block(const struct prefix *cidr, char buf[static IPAM_KEY_SIZE]);
const char *ipam_key_affinity(
	const char *host, const struct prefix *cidr, char buf[static IPAM_KEY_SIZE]);
const char *ipam_key_handle(const char *handle, char buf[static IPAM_KEY_SIZE]);
/* Prefixes to list by. */
const char *ipam_key_blocks_of_family(enum ip_family family, char buf[static IPAM_KEY_SIZE]);
/* family IP_NONE: of both. */
const char *ipam_key_affinities_of_host(
	const char *host, enum ip_family family, char buf[static IPAM_KEY_SIZE]);
/* And back: false where the key is no such key. host: IPAM_KEY_SIZE bytes, or NULL. */
bool ipam_key_parse_block(const char *key, struct prefix *ret_cidr);
bool ipam_key_parse_affinity(const char *key, char *ret_host, struct prefix *ret_cidr);
