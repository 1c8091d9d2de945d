/* SPDX-License-Identifier: GPL-2.0-or-later */
/* protobuf's JSON, as etcd's gateway speaks it: bytes are base64, 64-bit numbers are strings. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/err.h"
#include "base/parse.h"
#include "store/etcd.h"

void etcd_add_range(struct strbuf *to, const char *prefix)
{
	auto_free char *end = store_prefix_end(prefix);

	strbuf_add(to, "{\"key\":\"");
	base64_add(to, prefix, strlen(prefix));
	strbuf_add(to, "\",\"range_end\":\"");
	base64_add(to, end, *end ? strlen(end) : 1); /* a NUL is "to the end" */
	strbuf_addc(to, '"');
}

void etcd_add_key(struct strbuf *to, const char *key)
{
	strbuf_add(to, "\"key\":\"");
	base64_add(to, key, strlen(key));
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
			     base64_add_decoded(to, json_string_value(v), json_string_length(v)));
}

bool etcd_key(const json_t *kv, struct strbuf *key)
{
	return add_bytes(key, kv, "key") && key->len > 0;
}

int etcd_kv(const json_t *kv, struct store_kv *ret, struct err *err)
{
	auto_strbuf key = STRBUF_INIT, value = STRBUF_INIT;

	if (!etcd_key(kv, &key))
		return err_set(err, -EHOSTUNREACH, "etcd's answer cannot be decoded: a key");
	if (strlen(key.s) != key.len)
		return 0;
	if (!add_bytes(&value, kv, "value"))
		return err_set(err, -EHOSTUNREACH,
			"etcd's answer cannot be decoded: the value of %s", key.s);
	*ret = (struct store_kv){
		.rev = etcd_int(kv, "mod_revision"),
		.create_rev = etcd_int(kv, "create_revision"),
		.len = value.len,
	};
	ret->key = strbuf_take(&key);
	ret->value = strbuf_take(&value);
	return 1;
}

int etcd_kvs(const json_t *kvs, struct store_list *ret, struct err *err)
{
	const json_t *item;
	size_t i;

	*ret = (struct store_list){
		.v = mem_realloc_array(NULL, json_array_size(kvs), sizeof(*ret->v))};
	json_array_foreach (kvs, i, item) {
		int r = etcd_kv(item, &ret->v[ret->n], err);

		if (r < 0) {
			store_list_done(ret);
			return r;
		}
		ret->n += (size_t)r;
	}
	return 0;
}
