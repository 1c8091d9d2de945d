/* SPDX-License-Identifier: GPL-2.0-or-later */
/* protobuf's JSON, as etcd's gateway speaks it: bytes are base64, 64-bit numbers are strings. */
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "store/etcd.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void etcd_add_base64(struct strbuf *to, const void *data, size_t len)
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

bool etcd_add_decoded(struct strbuf *to, const char *text, size_t len)
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

void etcd_add_range(struct strbuf *to, const char *prefix)
{
	auto_free char *end = store_prefix_end(prefix);

	strbuf_add(to, "{\"key\":\"");
	etcd_add_base64(to, prefix, strlen(prefix));
	strbuf_add(to, "\",\"range_end\":\"");
	etcd_add_base64(to, end, *end ? strlen(end) : 1); /* a NUL is "to the end" */
	strbuf_addc(to, '"');
}

int64_t etcd_int(const json_t *object, const char *name)
{
	const json_t *v = json_object_get(object, name);
	uint64_t n = 0;

	if (json_is_integer(v))
		return json_integer_value(v);
	if (json_is_string(v))
		parse_u64(json_string_value(v), 0, INT64_MAX, &n, NULL);
	return (int64_t)n;
}

static bool add_bytes(struct strbuf *to, const json_t *object, const char *name)
{
	const json_t *v = json_object_get(object, name);

	strbuf_reserve(to, 1)[0] = 0;
	return !v || (json_is_string(v) &&
			     etcd_add_decoded(to, json_string_value(v), json_string_length(v)));
}

bool etcd_key(const json_t *kv, struct strbuf *key)
{
	return add_bytes(key, kv, "key") && key->len > 0;
}

bool etcd_kv(const json_t *kv, struct store_kv *ret)
{
	auto_strbuf key = STRBUF_INIT, value = STRBUF_INIT;

	if (!etcd_key(kv, &key) || strlen(key.s) != key.len || !add_bytes(&value, kv, "value"))
		return false;
	*ret = (struct store_kv){
		.rev = etcd_int(kv, "mod_revision"),
		.create_rev = etcd_int(kv, "create_revision"),
		.len = value.len,
	};
	ret->key = strbuf_take(&key);
	ret->value = strbuf_take(&value);
	return true;
}
