/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/prefix.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/parse.h"

static int parse_with(const char *s, char sep, bool bare_ok, struct prefix *ret, struct err *err)
{
	char text[PREFIX_TEXT_SIZE];
	struct prefix p = {0};
	uint32_t plen;
	char *cut;
	int r;

	if (strlen(s) >= sizeof(text))
		return err_set(err, -EINVAL, "\"%.64s\" is not an address with a prefix length", s);
	strcpy(text, s);
	cut = strrchr(text, sep);
	if (cut)
		*cut = '\0';
	else if (!bare_ok)
		return err_set(err, -EINVAL, "\"%s\" has no prefix length, want e.g. 10.0.0.0%c24",
			s, sep);
	r = ip_parse(text, &p.addr, err);
	if (r < 0)
		return r;
	if (!cut) {
		p.plen = (uint8_t)ip_bits(&p.addr);
	} else {
		r = parse_u32(cut + 1, 0, ip_bits(&p.addr), &plen, err);
		if (r < 0)
			return err_wrap(err, r, "prefix length of \"%s\"", s);
		p.plen = (uint8_t)plen;
	}
	*ret = p;
	return 0;
}

int prefix_parse(const char *s, struct prefix *ret, struct err *err)
{
	return parse_with(s, '/', false, ret, err);
}

int prefix_parse_host(const char *s, struct prefix *ret, struct err *err)
{
	return parse_with(s, '/', true, ret, err);
}

int prefix_parse_key(const char *s, struct prefix *ret, struct err *err)
{
	return parse_with(s, '-', false, ret, err);
}

int prefix_parse_masked(const char *s, struct prefix *ret, struct err *err)
{
	struct prefix p, masked;
	int r = parse_with(s, '/', false, &p, err);

	if (r < 0)
		return r;
	masked = prefix_masked(&p);
	if (!prefix_equal(&p, &masked))
		return err_set(
			err, -EINVAL, "\"%s\" has host bits set, want %s", s, prefix_str(&masked));
	*ret = p;
	return 0;
}

static const char *format_with(const struct prefix *p, char sep, char buf[static PREFIX_TEXT_SIZE])
{
	size_t n;

	ip_format(&p->addr, buf);
	n = strlen(buf);
	snprintf(buf + n, PREFIX_TEXT_SIZE - n, "%c%u", sep, p->plen);
	return buf;
}

const char *prefix_format(const struct prefix *p, char buf[static PREFIX_TEXT_SIZE])
{
	return format_with(p, '/', buf);
}

const char *prefix_format_key(const struct prefix *p, char buf[static PREFIX_TEXT_SIZE])
{
	return format_with(p, '-', buf);
}

bool prefix_equal(const struct prefix *a, const struct prefix *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

int prefix_compare(const struct prefix *a, const struct prefix *b)
{
	return memcmp(a, b, sizeof(*a));
}

static uint8_t mask_byte(unsigned plen, size_t i)
{
	unsigned bits = plen > 8 * i ? plen - (unsigned)(8 * i) : 0;

	return bits >= 8 ? 0xff : (uint8_t)(0xff << (8 - bits));
}

struct prefix prefix_of(const struct ip *ip, unsigned plen)
{
	struct prefix p = {.addr = *ip, .plen = (uint8_t)plen};

	return prefix_masked(&p);
}

struct prefix prefix_host(const struct ip *ip)
{
	return (struct prefix){.addr = *ip, .plen = (uint8_t)ip_bits(ip)};
}

struct prefix prefix_masked(const struct prefix *p)
{
	struct prefix m = *p;

	for (size_t i = 0; i < ip_n_bytes(&p->addr); i++)
		m.addr.b[i] &= mask_byte(p->plen, i);
	return m;
}

bool prefix_is_masked(const struct prefix *p)
{
	struct prefix m = prefix_masked(p);

	return prefix_equal(p, &m);
}

bool prefix_is_host(const struct prefix *p)
{
	return p->plen == ip_bits(&p->addr);
}

bool prefix_contains(const struct prefix *p, const struct ip *ip)
{
	if (p->addr.family != ip->family)
		return false;
	for (size_t i = 0; i < ip_n_bytes(ip); i++)
		if ((p->addr.b[i] ^ ip->b[i]) & mask_byte(p->plen, i))
			return false;
	return true;
}

bool prefix_covers(const struct prefix *a, const struct prefix *b)
{
	return a->plen <= b->plen && prefix_contains(a, &b->addr);
}

bool prefix_overlap(const struct prefix *a, const struct prefix *b)
{
	return prefix_covers(a, b) || prefix_covers(b, a);
}

uint64_t prefix_size(const struct prefix *p)
{
	unsigned host_bits = ip_bits(&p->addr) - p->plen;

	return host_bits >= 64 ? UINT64_MAX : UINT64_C(1) << host_bits;
}

struct ip prefix_last(const struct prefix *p)
{
	struct ip last = p->addr;

	for (size_t i = 0; i < ip_n_bytes(&last); i++)
		last.b[i] |= (uint8_t)~mask_byte(p->plen, i);
	return last;
}
