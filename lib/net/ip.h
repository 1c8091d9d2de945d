/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IP addresses as values. A `struct ip` has no padding and its unused bytes are zero, so that memcmp
 * and hash_bytes over the whole struct compare addresses. Past the codecs an address is never text.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum ip_family { IP_NONE = 0, IP_V4 = 4, IP_V6 = 6 };

struct ip {
	uint8_t family; /* enum ip_family; IP_NONE = unset */
	uint8_t b[16];	/* network order; IPv4 in the first 4, the rest zero */
};

#define IP_TEXT_SIZE 46

/* Strict: dotted quad without leading zeros, or RFC 4291 text; no zone, no prefix length. */
int ip_parse(const char *s, struct ip *ret, struct err *err);
/* RFC 5952 text; "" for IP_NONE. Returns buf. */
const char *ip_format(const struct ip *ip, char buf[static IP_TEXT_SIZE]);
#define ip_str(ip) ip_format((ip), (char[IP_TEXT_SIZE]){0})

bool ip_equal(const struct ip *a, const struct ip *b);
/* By family, then numerically: <0, 0, >0. */
int ip_compare(const struct ip *a, const struct ip *b);

struct ip ip_from_v4(uint32_t host_order);
/* bytes: 4 or 16 in network order, as the family says (AF_INET or AF_INET6). */
struct ip ip_from_bytes(int af, const void *bytes);
int ip_af(const struct ip *ip);		/* AF_INET, AF_INET6 or AF_UNSPEC */
unsigned ip_bits(const struct ip *ip);	/* 32, 128 or 0 */
size_t ip_n_bytes(const struct ip *ip); /* 4, 16 or 0 */

/* ip + n; false (and *ret unset) when that leaves the address family. */
bool ip_add(const struct ip *ip, uint64_t n, struct ip *ret);
/* b - a of one family, capped at UINT64_MAX; a <= b. */
uint64_t ip_distance(const struct ip *a, const struct ip *b);

/* Neither unspecified, loopback, link-local, multicast nor broadcast. */
bool ip_is_global_unicast(const struct ip *ip);
