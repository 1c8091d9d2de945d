/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/read.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/parse.h"
#include "base/strbuf.h"
#include "model/bgp.h"
#include "model/key.h"
#include "model/limits.h"

int read_fail(struct read *rd, const char *name, const json_t *got, const char *fmt, ...)
{
	auto_free char *shown = NULL;
	char want[256];
	va_list ap;

	if (rd->r < 0)
		return rd->r;
	va_start(ap, fmt);
	vsnprintf(want, sizeof(want), fmt, ap);
	va_end(ap);
	if (got)
		shown = json_dumps(got, JSON_COMPACT | JSON_ENCODE_ANY);
	rd->r = err_set(rd->err, -EINVAL, "%s: %s%s%s: %s%.80s%swant %s", rd->what, rd->at,
		rd->at[0] != '\0' && name[0] != '\0' ? "." : "", name, shown ? "got " : "",
		shown ? shown : "", shown ? ", " : "", want);
	return rd->r;
}

void read_at(struct read *rd, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(rd->at, sizeof(rd->at), fmt, ap);
	va_end(ap);
}

/* The member, NULL where it is absent or null. */
static json_t *member(const struct read *rd, const json_t *obj, const char *name)
{
	json_t *j = rd->r < 0 ? NULL : json_object_get(obj, name);

	return json_is_null(j) ? NULL : j;
}

json_t *read_object(struct read *rd, const json_t *obj, const char *name)
{
	json_t *j = member(rd, obj, name);

	if (!j || json_is_object(j))
		return j;
	read_fail(rd, name, j, "an object");
	return NULL;
}

json_t *read_array(struct read *rd, const json_t *obj, const char *name)
{
	json_t *j = member(rd, obj, name);

	if (!j)
		return NULL;
	if (!json_is_array(j))
		read_fail(rd, name, j, "a list");
	else if (json_array_size(j) > MODEL_LIST_MAX)
		read_fail(rd, name, NULL, "at most %d entries, got %zu", MODEL_LIST_MAX,
			json_array_size(j));
	else
		return j;
	return NULL;
}

const char *read_text(struct read *rd, const json_t *obj, const char *name)
{
	json_t *j = member(rd, obj, name);

	if (!j)
		return NULL;
	if (!json_is_string(j)) {
		read_fail(rd, name, j, "text");
		return NULL;
	}
	return json_string_length(j) > 0 ? json_string_value(j) : NULL;
}

void read_str(struct read *rd, const json_t *obj, const char *name, char **ret)
{
	const char *s = read_text(rd, obj, name);

	if (s) {
		free(*ret);
		*ret = mem_strdup(s);
	}
}

void read_bool(struct read *rd, const json_t *obj, const char *name, bool *ret)
{
	json_t *j = member(rd, obj, name);

	if (!j)
		return;
	if (json_is_boolean(j))
		*ret = json_is_true(j);
	else
		read_fail(rd, name, j, "true or false");
}

void read_u32(struct read *rd, const json_t *obj, const char *name, uint32_t min, uint32_t max,
	uint32_t *ret)
{
	json_t *j = member(rd, obj, name);

	if (!j)
		return;
	if (json_is_integer(j) && json_integer_value(j) >= min && json_integer_value(j) <= max)
		*ret = (uint32_t)json_integer_value(j);
	else
		read_fail(rd, name, j, "a number from %u to %u", min, max);
}

void read_u16(struct read *rd, const json_t *obj, const char *name, uint16_t min, uint16_t *ret)
{
	uint32_t v = *ret;

	read_u32(rd, obj, name, min, UINT16_MAX, &v);
	*ret = (uint16_t)v;
}

void read_ip_of(
	struct read *rd, const json_t *obj, const char *name, uint8_t family, struct ip *ret)
{
	const char *s = read_text(rd, obj, name);
	struct ip ip;

	if (!s)
		return;
	if (ip_parse(s, &ip, NULL) < 0 || (family != IP_NONE && ip.family != family))
		read_fail(rd, name, json_object_get(obj, name), "an %s address",
			family == IP_V4	  ? "IPv4"
			: family == IP_V6 ? "IPv6"
					  : "IP");
	else
		*ret = ip;
}

void read_ip(struct read *rd, const json_t *obj, const char *name, struct ip *ret)
{
	read_ip_of(rd, obj, name, IP_NONE, ret);
}

void read_mac(struct read *rd, const json_t *obj, const char *name, struct mac *ret)
{
	const char *s = read_text(rd, obj, name);

	if (s && mac_parse(s, ret, NULL) < 0)
		read_fail(rd, name, json_object_get(obj, name), "a MAC address");
}

void read_duration(struct read *rd, const json_t *obj, const char *name, int64_t *ret_ms)
{
	const char *s = read_text(rd, obj, name);

	if (s && parse_duration_ms(s, ret_ms, NULL) < 0)
		read_fail(rd, name, json_object_get(obj, name), "a duration such as \"1m30s\"");
}

int bgp_as_parse(const char *s, uint32_t *ret, struct err *err)
{
	const char *dot = strchr(s, '.');
	uint32_t high, low;
	char first[8];

	if (!dot && parse_u32(s, 0, UINT32_MAX, ret, NULL) == 0)
		return 0;
	if (dot && (size_t)(dot - s) < sizeof(first)) {
		memcpy(first, s, (size_t)(dot - s));
		first[dot - s] = '\0';
		if (parse_u32(first, 0, UINT16_MAX, &high, NULL) == 0 &&
			parse_u32(dot + 1, 0, UINT16_MAX, &low, NULL) == 0) {
			*ret = high << 16 | low;
			return 0;
		}
	}
	return err_set(err, -EINVAL, "\"%.64s\": want an AS number: 64512, or 1.10", s);
}

void read_as(struct read *rd, const json_t *obj, const char *name, uint32_t *ret)
{
	json_t *j = member(rd, obj, name);
	const char *s = json_string_value(j);
	char number[32];

	if (!j || (s && *s == '\0'))
		return;
	if (json_is_integer(j)) {
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(j));
		s = number;
	}
	if (!s || bgp_as_parse(s, ret, NULL) < 0)
		read_fail(rd, name, j, "an AS number: 64512, or \"1.10\"");
}

void read_enum(struct read *rd, const json_t *obj, const char *name, const char *const *words,
	unsigned *ret)
{
	const char *s = read_text(rd, obj, name);
	char all[160] = "";

	if (!s)
		return;
	for (unsigned i = 0; words[i]; i++) {
		size_t n = strlen(all);

		if (strcasecmp(words[i], s) == 0) {
			*ret = i;
			return;
		}
		snprintf(all + n, sizeof(all) - n, "%s%s", i > 0 ? ", " : "", words[i]);
	}
	read_fail(rd, name, json_object_get(obj, name), "one of %s", all);
}

void read_protocol(struct read *rd, const json_t *obj, uint8_t *ret)
{
	static const char *const words[] = {"TCP", "UDP", "SCTP", NULL};
	static const uint8_t numbers[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP};
	json_t *j = member(rd, obj, "protocol");
	unsigned i = 0;

	/* Calico also has it by number. */
	for (unsigned k = 0; json_is_integer(j) && k < array_size(numbers); k++) {
		if (json_integer_value(j) == numbers[k]) {
			*ret = numbers[k];
			return;
		}
	}
	read_enum(rd, obj, "protocol", words, &i);
	*ret = numbers[i];
}

void read_strings(struct read *rd, const json_t *obj, const char *name, struct strings *ret)
{
	json_t *list = read_array(rd, obj, name), *e;
	size_t i;

	json_array_foreach (list, i, e) {
		if (!json_is_string(e)) {
			read_fail(rd, name, e, "a list of text");
			return;
		}
		vec_push(&ret->v, mem_strdup(json_string_value(e)));
	}
}

static int label_compare(const void *a, const void *b)
{
	return strcmp(((const struct label *)a)->name, ((const struct label *)b)->name);
}

void read_labels(struct read *rd, const json_t *obj, const char *name, struct labels *ret)
{
	json_t *map = read_object(rd, obj, name), *e;
	const char *k;

	json_object_foreach (map, k, e) {
		if (!json_is_string(e)) {
			read_fail(rd, name, e, "text as the value of %.64s", k);
			return;
		}
		vec_push(&ret->v, (struct label){mem_strdup(k), mem_strdup(json_string_value(e))});
	}
	if (ret->v.n > 1)
		qsort(ret->v.v, ret->v.n, sizeof(struct label), label_compare);
}

bool read_element_prefix(struct read *rd, const json_t *e, const char *name, struct prefix *ret)
{
	if (rd->r < 0)
		return false;
	if (json_is_string(e) && prefix_parse_host(json_string_value(e), ret, NULL) == 0)
		return true;
	read_fail(rd, name, e, "a prefix such as 10.0.0.0/24");
	return false;
}

bool read_element_ip(struct read *rd, const json_t *e, const char *name, struct ip *ret)
{
	if (rd->r < 0)
		return false;
	if (json_is_string(e) && ip_parse(json_string_value(e), ret, NULL) == 0)
		return true;
	read_fail(rd, name, e, "an IP address");
	return false;
}

static void read_meta(
	struct read *rd, enum kind kind, const struct key *key, const json_t *j, struct meta *m)
{
	const json_t *meta = read_object(rd, j, "metadata");

	read_at(rd, "metadata");
	read_str(rd, meta, "name", &m->name);
	read_str(rd, meta, "namespace", &m->ns);
	read_str(rd, meta, "uid", &m->uid);
	read_str(rd, meta, "creationTimestamp", &m->created);
	read_labels(rd, meta, "labels", &m->labels);
	read_labels(rd, meta, "annotations", &m->annotations);
	m->deleting = read_text(rd, meta, "deletionTimestamp");
	/* Where it is kept is what others know it by. */
	if (key) {
		free(m->name);
		free(m->ns);
		m->name = mem_strdup(key->name);
		m->ns = kind_info(kind)->namespaced ? mem_strdup(key->ns) : NULL;
	}
	if (!m->name)
		read_fail(rd, "name", NULL, "a name");
	read_at(rd, "%s", "");
}

json_t *read_resource(struct read *rd, enum kind kind, const char *key, const char *text,
	size_t len, struct meta *ret, struct err *err)
{
	const struct kind_info *info = kind_info(kind);
	auto_(json) json_t *j = NULL;
	struct key parsed;
	bool keyed = key && key_parse(key, &parsed) && parsed.kind == kind;
	const char *name, *ns;

	*rd = (struct read){.err = err};
	if (keyed)
		snprintf(rd->what, sizeof(rd->what), "%s %s%s%s", info->name, parsed.ns,
			info->namespaced ? "/" : "", parsed.name);
	else
		snprintf(rd->what, sizeof(rd->what), "%s", key ? key : info->name);
	j = model_json_load(rd->what, text, len, err);
	if (!j) {
		rd->r = -EINVAL;
		return NULL;
	}
	ns = json_string_value(json_object_get(json_object_get(j, "metadata"), "namespace"));
	name = json_string_value(json_object_get(json_object_get(j, "metadata"), "name"));
	if (keyed) {
		ns = parsed.ns;
		name = parsed.name;
	}
	snprintf(rd->what, sizeof(rd->what), "%s %s%s%s", info->name,
		info->namespaced && ns ? ns : "", info->namespaced && ns ? "/" : "",
		name ? name : "without a name");
	name = read_text(rd, j, "kind");
	if (name && strcmp(name, info->name) != 0)
		read_fail(rd, "kind", json_object_get(j, "kind"), "%s", info->name);
	read_meta(rd, kind, keyed ? &parsed : NULL, j, ret);
	return rd->r < 0 ? NULL : take_ptr(j);
}
