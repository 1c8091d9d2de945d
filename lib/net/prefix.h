/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CIDR prefixes as values; no padding, comparable with memcmp as a whole. */
#pragma once

#include "net/ip.h"

struct prefix {
	struct ip addr;
	uint8_t plen; /* 0..32 or 0..128 */
};

#define PREFIX_TEXT_SIZE 50

/* "10.244.0.0/24". Host bits are kept; a bare address is refused. */
int prefix_parse(const char *s, struct prefix *ret, struct err *err);
/* As above, and host bits must be zero. */
int prefix_parse_masked(const char *s, struct prefix *ret, struct err *err);
/* As prefix_parse, and a bare address means /32 or /128. */
int prefix_parse_host(const char *s, struct prefix *ret, struct err *err);
/* "10.244.0.0/24"; returns buf. */
const char *prefix_format(const struct prefix *p, char buf[static PREFIX_TEXT_SIZE]);
#define prefix_str(p) prefix_format((p), (char[PREFIX_TEXT_SIZE]){0})
/* With "-" in place of "/": "10.244.0.0-24", as Calico's etcd keys have it. */
const char *prefix_format_key(const struct prefix *p, char buf[static PREFIX_TEXT_SIZE]);
int prefix_parse_key(const char *s, struct prefix *ret, struct err *err);

bool prefix_equal(const struct prefix *a, const struct prefix *b);
/* By family, address, then length. */
int prefix_compare(const struct prefix *a, const struct prefix *b);

struct prefix prefix_of(const struct ip *ip, unsigned plen); /* masked */
struct prefix prefix_host(const struct ip *ip);		     /* /32 or /128 */
struct prefix prefix_masked(const struct prefix *p);
bool prefix_is_masked(const struct prefix *p);
bool prefix_is_host(const struct prefix *p); /* /32 or /128 */

bool prefix_contains(const struct prefix *p, const struct ip *ip);
/* b lies in a, or equals it. */
bool prefix_covers(const struct prefix *a, const struct prefix *b);
bool prefix_overlap(const struct prefix *a, const struct prefix *b);
/* Addresses in p, capped at UINT64_MAX. */
uint64_t prefix_size(const struct prefix *p);
struct ip prefix_last(const struct prefix *p);
