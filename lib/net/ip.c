/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/ip.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"

int ip_parse(const char *s, struct ip *ret, struct err *err)
{
	struct ip ip = {0};

	if (inet_pton(AF_INET, s, ip.b) == 1)
		ip.family = IP_V4;
	else if (inet_pton(AF_INET6, s, ip.b) == 1)
		ip.family = IP_V6;
	else
		return err_set(err, -EINVAL, "\"%.64s\" is not an IP address", s);
	*ret = ip;
	return 0;
}

const char *ip_format(const struct ip *ip, char buf[static IP_TEXT_SIZE])
{
	buf[0] = '\0';
	if (ip->family != IP_NONE)
		inet_ntop(ip_af(ip), ip->b, buf, IP_TEXT_SIZE);
	return buf;
}

bool ip_equal(const struct ip *a, const struct ip *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

int ip_compare(const struct ip *a, const struct ip *b)
{
	return memcmp(a, b, sizeof(*a));
}

struct ip ip_from_v4(uint32_t host_order)
{
	uint32_t be = htonl(host_order);

	return ip_from_bytes(AF_INET, &be);
}

struct ip ip_from_bytes(int af, const void *bytes)
{
	struct ip ip = {.family = af == AF_INET ? IP_V4 : IP_V6};

	memcpy(ip.b, bytes, ip_n_bytes(&ip));
	return ip;
}

int ip_af(const struct ip *ip)
{
	return ip->family == IP_V4 ? AF_INET : ip->family == IP_V6 ? AF_INET6 : AF_UNSPEC;
}

unsigned ip_bits(const struct ip *ip)
{
	return (unsigned)(8 * ip_n_bytes(ip));
}

size_t ip_n_bytes(const struct ip *ip)
{
	return ip->family == IP_V4 ? 4 : ip->family == IP_V6 ? 16 : 0;
}

bool ip_add(const struct ip *ip, uint64_t n, struct ip *ret)
{
	struct ip out = *ip;
	unsigned carry = 0;

	for (size_t i = ip_n_bytes(ip); i-- > 0;) {
		unsigned sum = out.b[i] + (unsigned)(n & 0xff) + carry;

		out.b[i] = (uint8_t)sum;
		carry = sum >> 8;
		n >>= 8;
	}
	if (carry || n)
		return false;
	*ret = out;
	return true;
}

uint64_t ip_distance(const struct ip *a, const struct ip *b)
{
	uint8_t diff[16] = {0};
	size_t n = ip_n_bytes(a);
	uint64_t v = 0;
	int borrow = 0;

	for (size_t i = n; i-- > 0;) {
		int d = b->b[i] - a->b[i] - borrow;

		borrow = d < 0;
		diff[i] = (uint8_t)(d + (borrow ? 256 : 0));
	}
	for (size_t i = 0; i < n; i++) {
		if (i + 8 < n && diff[i])
			return UINT64_MAX;
		v = v << 8 | diff[i];
	}
	return v;
}

bool ip_is_global_unicast(const struct ip *ip)
{
	static const uint8_t zero[16], loopback6[16] = {[15] = 1};

	if (ip->family == IP_V4)
		return ip->b[0] != 0 && ip->b[0] != 127 && ip->b[0] < 224 &&
		       !(ip->b[0] == 169 && ip->b[1] == 254);
	if (ip->family == IP_V6)
		return memcmp(ip->b, zero, 16) != 0 && memcmp(ip->b, loopback6, 16) != 0 &&
		       ip->b[0] != 0xff && !(ip->b[0] == 0xfe && (ip->b[1] & 0xc0) == 0x80);
	return false;
}
