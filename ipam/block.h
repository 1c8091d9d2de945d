/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What can be done to one block: pure, on a decoded copy that the caller then writes back with
 * compare-and-swap. Calico's rules: free addresses wait in a queue, taken from its head and returned
 * to its tail, so the one that was freed longest ago goes first; equal attributes are stored once;
 * an address in cool-down counts as in use and has no handle.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipam/alloc.h"
#include "model/ipam.h"
#include "net/prefix.h"

struct err;

/* A block without any address in use, affine to host, claimed now. */
struct ipam_block *block_create(const struct prefix *cidr, const char *host, int64_t now_ns);

bool block_affine_to(const struct ipam_block *b, const char *host); /* "host:<host>" */
/* The host's name, or NULL: affine to none, or to something that is no host. Borrowed. */
const char *block_host(const struct ipam_block *b);
/* No address in use, nor in cool-down (but for those that Windows reserves). */
bool block_is_empty(const struct ipam_block *b);
/* The attribute of an address: NULL = free, or not of this block. Borrowed. */
const struct ipam_block_attr *block_lookup(const struct ipam_block *b, const struct ip *ip);
/* The block's sequence number when the address was given; 0: it is free, or that is not known. */
uint64_t block_seq(const struct ipam_block *b, const struct ip *ip);
struct ip block_ip(const struct ipam_block *b, uint32_t ordinal);
/* UINT32_MAX: not of this block. */
uint32_t block_ordinal(const struct ipam_block *b, const struct ip *ip);
/* Text from the first carriage return on does not count, as in Calico. */
bool block_handle_equal(const char *a, const char *b);

/* The address of the handle after ordinal *pos (start with 0), or false. */
bool block_next_of_handle(
	const struct ipam_block *b, const char *handle, uint32_t *pos, struct ip *ret);

/* What is not to be assigned by itself. */
struct block_reserved {
	const struct prefix *v;
	size_t n;
};
bool block_reserved_has(const struct block_reserved *res, const struct ip *ip);
/* A reservation that has all of cidr, or NULL. Borrowed. */
const struct prefix *block_reserved_by(const struct block_reserved *res, const struct prefix *cidr);
/* Every address of cidr is reserved. */
bool block_reserved_covers(const struct block_reserved *res, const struct prefix *cidr);

/* One free address. ENOSPC: there is none that is not reserved. */
int block_auto_assign(struct ipam_block *b, const struct block_reserved *res, const char *handle,
	const struct ipam_attr *attrs, size_t n_attrs, struct ip *ret);
/* That address, which must be of this block. EEXIST: it is in use. */
int block_assign(struct ipam_block *b, const struct ip *ip, const char *handle,
	const struct ipam_attr *attrs, size_t n_attrs, struct err *err);

/* An address in use, from now on another handle's. */
void block_move(struct ipam_block *b, const struct ip *ip, const char *handle,
	const struct ipam_attr *attrs, size_t n_attrs);

/* Back to the queue, or into cool-down. ENOENT: not in use. ESTALE: in use by another handle. */
int block_release(struct ipam_block *b, const struct ip *ip, const char *handle,
	uint32_t cooldown_s, int64_t now_ns, struct err *err);
/* Every address of the handle; returns how many. */
uint32_t block_release_handle(
	struct ipam_block *b, const char *handle, uint32_t cooldown_s, int64_t now_ns);
/* Frees what has been in cool-down for long enough, and drops attributes nobody has. */
void block_collect(struct ipam_block *b, uint32_t cooldown_s, int64_t now_ns);

/* Before each update of a block that exists: the sequence number. */
void block_bump(struct ipam_block *b);
/* No affinity from now on. */
void block_orphan(struct ipam_block *b);
