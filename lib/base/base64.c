/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/base64.h"

#include <stdint.h>

#include "base/strbuf.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_add(struct strbuf *to, const void *data, size_t len)
{
	const unsigned char *p = data;
	size_t size = (len + 2) / 3 * 4;
	char *out = strbuf_reserve(to, size);

	for (size_t i = 0; i < len; i += 3) {
		size_t left = len - i;
		uint32_t n = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
			     (left > 2 ? p[i + 2] : 0);

		*out++ = digits[n >> 18];
		*out++ = digits[n >> 12 & 63];
		*out++ = left > 1 ? digits[n >> 6 & 63] : '=';
		*out++ = left > 2 ? digits[n & 63] : '=';
	}
	to->len += size;
	to->s[to->len] = 0;
}

static int digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

bool base64_add_decoded(struct strbuf *to, const char *text, size_t len)
{
	size_t pad = len && text[len - 1] == '=' ? 1 + (len > 1 && text[len - 2] == '=') : 0;
	uint32_t acc = 0;
	char *out;

	if (len % 4 != 0)
		return false;
	out = strbuf_reserve(to, len / 4 * 3);
	for (size_t i = 0; i < len - pad; i++) {
		int d = digit(text[i]);

		if (d < 0)
			return false;
		acc = acc << 6 | (uint32_t)d;
		if (i % 4 == 1)
			*out++ = (char)(acc >> 4);
		else if (i % 4 == 2)
			*out++ = (char)(acc >> 2);
		else if (i % 4 == 3)
			*out++ = (char)acc;
	}
	to->len += len / 4 * 3 - pad;
	to->s[to->len] = 0;
	return true;
}
