/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/ipam.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/parse.h"
#include "model/json.h"

/*
 * Objects.
 */
static void kvs_done(struct ipam_kv *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(v[i].name);
		free(v[i].value);
	}
	free(v);
}

void ipam_block_attr_done(struct ipam_block_attr *a)
{
	free(a->handle);
	kvs_done(a->secondary.v, a->secondary.n);
	kvs_done(a->alternate.v, a->alternate.n);
	free(a->rest);
	*a = (struct ipam_block_attr){0};
}

const char *ipam_block_attr_get(const struct ipam_block_attr *a, const char *name)
{
	const struct ipam_kv *kv;

	vec_for_each (&a->secondary, kv)
		if (strcmp(kv->name, name) == 0)
			return kv->value;
	return NULL;
}

static struct ipam_block *block_alloc(const struct prefix *cidr)
{
	struct ipam_block *b = mem_new(struct ipam_block);

	assert(prefix_size(cidr) <= IPAM_BLOCK_MAX);
	b->cidr = *cidr;
	b->size = (uint32_t)prefix_size(cidr);
	b->alloc = mem_realloc_array(NULL, b->size, sizeof(*b->alloc));
	b->alloc_seq = mem_realloc_array(NULL, b->size, sizeof(*b->alloc_seq));
	for (uint32_t i = 0; i < b->size; i++) {
		b->alloc[i] = -1;
		b->alloc_seq[i] = 0;
	}
	return b;
}

struct ipam_block *ipam_block_new(const struct prefix *cidr)
{
	struct ipam_block *b = block_alloc(cidr);

	for (uint32_t i = 0; i < b->size; i++)
		vec_push(&b->free, i);
	b->attrs_null = true;
	return b;
}

static void kv_push(struct ipam_block_attr *a, bool alternate, const char *name, const char *value)
{
	struct ipam_kv kv = {mem_strdup(name), mem_strdup(value)};

	if (alternate)
		vec_push(&a->alternate, kv);
	else
		vec_push(&a->secondary, kv);
}

struct ipam_block *ipam_block_dup(const struct ipam_block *from)
{
	struct ipam_block *b = block_alloc(&from->cidr);
	const struct ipam_block_attr *a;
	const struct ipam_kv *kv;

	b->affinity = from->affinity ? mem_strdup(from->affinity) : NULL;
	b->claim_s = from->claim_s;
	memcpy(b->alloc, from->alloc, b->size * sizeof(*b->alloc));
	memcpy(b->alloc_seq, from->alloc_seq, b->size * sizeof(*b->alloc_seq));
	for (size_t i = 0; i < from->free.n; i++)
		vec_push(&b->free, from->free.v[i]);
	vec_for_each (&from->attrs, a) {
		struct ipam_block_attr copy = {.released_s = a->released_s};

		copy.handle = a->handle ? mem_strdup(a->handle) : NULL;
		copy.rest = a->rest ? mem_strdup(a->rest) : NULL;
		vec_for_each (&a->secondary, kv)
			kv_push(&copy, false, kv->name, kv->value);
		vec_for_each (&a->alternate, kv)
			kv_push(&copy, true, kv->name, kv->value);
		vec_push(&b->attrs, copy);
	}
	b->attrs_null = from->attrs_null;
	b->seq = from->seq;
	b->deleted = from->deleted;
	b->rest = from->rest ? mem_strdup(from->rest) : NULL;
	return b;
}

void ipam_block_free(struct ipam_block *b)
{
	struct ipam_block_attr *a;

	if (!b)
		return;
	free(b->affinity);
	free(b->rest);
	free(b->alloc);
	free(b->alloc_seq);
	vec_done(&b->free);
	vec_for_each (&b->attrs, a)
		ipam_block_attr_done(a);
	vec_done(&b->attrs);
	free(b);
}

struct ipam_handle *ipam_handle_new(void)
{
	return mem_new(struct ipam_handle);
}

struct ipam_handle *ipam_handle_dup(const struct ipam_handle *from)
{
	struct ipam_handle *h = ipam_handle_new();

	for (size_t i = 0; i < from->blocks.n; i++)
		vec_push(&h->blocks, from->blocks.v[i]);
	h->deleted = from->deleted;
	h->rest = from->rest ? mem_strdup(from->rest) : NULL;
	return h;
}

void ipam_handle_free(struct ipam_handle *h)
{
	if (!h)
		return;
	vec_done(&h->blocks);
	free(h->rest);
	free(h);
}

/*
 * JSON.
 */
static char *dump(json_t *j)
{
	char *text = model_json_dump(j);

	json_decref(j);
	return text;
}

static const char *const block_members[] = {"cidr", "affinity", "affinity_claim_time",
	"allocations", "unallocated", "attributes", "sequenceNumber", "sequenceNumberForAllocation",
	"deleted", "hostAffinity"};
static const char *const attr_members[] = {
	"handle_id", "secondary", "alternateOwnerAttrs", "releasedAt"};
static const char *const affinity_members[] = {"state", "deleted"};
static const char *const handle_members[] = {"block", "deleted"};

/* What other writers have put beside the members that are known here. */
static char *rest_of(json_t *j, const char *const *known, size_t n)
{
	size_t found = 0;
	json_t *rest;

	for (size_t i = 0; i < n; i++)
		found += json_object_get(j, known[i]) != NULL;
	if (found == json_object_size(j))
		return NULL;
	rest = json_copy(j);
	for (size_t i = 0; i < n; i++)
		json_object_del(rest, known[i]);
	return dump(rest);
}

static void set_rest(json_t *j, const char *rest)
{
	json_t *more = rest ? json_loads(rest, 0, NULL) : NULL;

	json_object_update_missing(j, more);
	json_decref(more);
}

static int wrong(struct err *err, const char *what, const char *member, const char *want)
{
	return err_set(err, -EINVAL, "%s: %s: want %s", what, member, want);
}

static void set_time(json_t *j, const char *name, int64_t s)
{
	char buf[CLOCK_RFC3339_SIZE];

	clock_rfc3339(s * 1000000000, buf);
	json_object_set_new(j, name, json_string(buf));
}

/* RFC 3339, of 1970 to 2199; a fraction is dropped. */
static bool parse_time(const char *s, int64_t *ret)
{
	struct tm tm = {0};
	int n = 0, oh = 0, om = 0;
	char sign = '+';

	if (!s || sscanf(s, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
			  &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &n) != 6)
		return false;
	if (tm.tm_year < 1970 || tm.tm_year > 2199)
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	s += n;
	if (*s == '.')
		s += 1 + strspn(s + 1, "0123456789");
	if (strcmp(s, "Z") != 0 && (sscanf(s, "%c%2d:%2d%n", &sign, &oh, &om, &n) != 3 ||
					   s[n] != '\0' || (sign != '+' && sign != '-')))
		return false;
	*ret = timegm(&tm) - (sign == '+' ? 1 : -1) * (oh * 3600 + om * 60);
	return *ret > 0;
}

static int kv_compare(const void *a, const void *b)
{
	const struct ipam_kv *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int decode_kvs(struct ipam_block_attr *a, json_t *j, bool alternate, struct err *err)
{
	const char *name;
	json_t *value;

	if (!j || json_is_null(j))
		return 0;
	if (!json_is_object(j))
		return wrong(err, "block", "attributes", "maps of text");
	json_object_foreach (j, name, value) {
		if (!json_is_string(value))
			return wrong(err, "block", "attributes", "maps of text");
		kv_push(a, alternate, name, json_string_value(value));
	}
	if (a->secondary.n > 0)
		qsort(a->secondary.v, a->secondary.n, sizeof(*a->secondary.v), kv_compare);
	if (a->alternate.n > 0)
		qsort(a->alternate.v, a->alternate.n, sizeof(*a->alternate.v), kv_compare);
	return 0;
}

static int decode_attrs(struct ipam_block *b, json_t *list, struct err *err)
{
	json_t *e;
	size_t i;

	b->attrs_null = !list || json_is_null(list);
	if (b->attrs_null)
		return 0;
	if (!json_is_array(list) || json_array_size(list) > IPAM_BLOCK_MAX)
		return wrong(err, "block", "attributes", "a list");
	json_array_foreach (list, i, e) {
		struct ipam_block_attr a = {0};
		json_t *handle = json_object_get(e, "handle_id");
		json_t *released = json_object_get(e, "releasedAt");
		int r;

		if (!json_is_object(e))
			return wrong(err, "block", "attributes", "a list of objects");
		if (json_is_string(handle))
			a.handle = mem_strdup(json_string_value(handle));
		r = decode_kvs(&a, json_object_get(e, "secondary"), false, err);
		if (r == 0)
			r = decode_kvs(&a, json_object_get(e, "alternateOwnerAttrs"), true, err);
		if (r == 0 && released && !json_is_null(released) &&
			!parse_time(json_string_value(released), &a.released_s))
			r = wrong(err, "block", "releasedAt", "a time");
		if (r < 0) {
			ipam_block_attr_done(&a);
			return r;
		}
		a.rest = rest_of(e, attr_members, array_size(attr_members));
		vec_push(&b->attrs, a);
	}
	return 0;
}

static int decode_allocations(
	struct ipam_block *b, json_t *list, json_t *unallocated, struct err *err)
{
	uint32_t n_used = 0;
	json_t *e;
	size_t i;

	if (json_array_size(list) != b->size)
		return err_set(err, -EINVAL, "block: allocations: %zu entries, want %u for %s",
			json_array_size(list), b->size, prefix_str(&b->cidr));
	json_array_foreach (list, i, e) {
		if (json_is_null(e))
			continue;
		if (!json_is_integer(e) || json_integer_value(e) < 0 ||
			json_integer_value(e) >= (json_int_t)b->attrs.n)
			return err_set(err, -EINVAL,
				"block: allocations[%zu]: want null or the index of an attribute",
				i);
		b->alloc[i] = (int32_t)json_integer_value(e);
		n_used++;
	}
	bool seen[IPAM_BLOCK_MAX] = {false};
	json_array_foreach (unallocated, i, e) {
		json_int_t ord = json_integer_value(e);

		if (!json_is_integer(e) || ord < 0 || ord >= b->size || seen[ord] ||
			b->alloc[ord] >= 0)
			return err_set(err, -EINVAL,
				"block: unallocated[%zu]: want a free ordinal, each once", i);
		seen[ord] = true;
		vec_push(&b->free, (uint32_t)ord);
	}
	if (b->free.n + n_used != b->size)
		return err_set(err, -EINVAL,
			"block: unallocated: %zu ordinals, want the %u that are not allocated",
			b->free.n, b->size - n_used);
	return 0;
}

static int decode_alloc_seq(struct ipam_block *b, json_t *map, struct err *err)
{
	const char *name;
	json_t *value;

	if (!map || json_is_null(map))
		return 0;
	json_object_foreach (map, name, value) {
		uint32_t ord;

		if (parse_u32(name, 0, b->size - 1, &ord, err) < 0 || !json_is_integer(value))
			return wrong(err, "block", "sequenceNumberForAllocation",
				"ordinals with numbers");
		b->alloc_seq[ord] = (uint64_t)json_integer_value(value);
	}
	return 0;
}

static int decode_affinity(struct ipam_block *b, json_t *j, struct err *err)
{
	json_t *affinity = json_object_get(j, "affinity");
	json_t *claimed = json_object_get(j, "affinity_claim_time");
	const char *legacy = json_string_value(json_object_get(j, "hostAffinity"));

	if (json_is_string(affinity))
		b->affinity = mem_strdup(json_string_value(affinity));
	else if (affinity && !json_is_null(affinity))
		return wrong(err, "block", "affinity", "text or null");
	else if (legacy)
		b->affinity = mem_printf("host:%s", legacy);
	if (claimed && !json_is_null(claimed) &&
		!parse_time(json_string_value(claimed), &b->claim_s))
		return wrong(err, "block", "affinity_claim_time", "a time");
	return 0;
}

int ipam_block_decode(const char *text, size_t len, struct ipam_block **ret, struct err *err)
{
	json_t *j = model_json_load("block", text, len, err);
	const char *cidr_text = json_string_value(json_object_get(j, "cidr"));
	json_t *seq = json_object_get(j, "sequenceNumber");
	struct ipam_block *b = NULL;
	struct prefix cidr;
	int r = -EINVAL;

	if (!j)
		return -EINVAL;
	if (!cidr_text)
		wrong(err, "block", "cidr", "a prefix");
	else if (prefix_parse_masked(cidr_text, &cidr, err) < 0)
		err_wrap(err, -EINVAL, "block: cidr");
	else if (prefix_size(&cidr) > IPAM_BLOCK_MAX)
		err_set(err, -EINVAL, "block: cidr: %s has more than %d addresses", cidr_text,
			IPAM_BLOCK_MAX);
	else if (seq && !json_is_integer(seq))
		wrong(err, "block", "sequenceNumber", "a number");
	else
		r = 0;
	if (r == 0) {
		b = block_alloc(&cidr);
		b->seq = (uint64_t)json_integer_value(seq);
		b->deleted = json_is_true(json_object_get(j, "deleted"));
		r = decode_affinity(b, j, err);
	}
	if (r == 0)
		r = decode_attrs(b, json_object_get(j, "attributes"), err);
	if (r == 0)
		r = decode_allocations(b, json_object_get(j, "allocations"),
			json_object_get(j, "unallocated"), err);
	if (r == 0)
		r = decode_alloc_seq(b, json_object_get(j, "sequenceNumberForAllocation"), err);
	if (r == 0)
		b->rest = rest_of(j, block_members, array_size(block_members));
	json_decref(j);
	if (r < 0) {
		ipam_block_free(b);
		return r;
	}
	*ret = b;
	return 0;
}

static json_t *encode_kvs(const struct ipam_kv *v, size_t n)
{
	json_t *j = json_object();

	for (size_t i = 0; i < n; i++)
		json_object_set_new(j, v[i].name, json_string(v[i].value));
	return j;
}

static json_t *encode_attrs(const struct ipam_block *b)
{
	const struct ipam_block_attr *a;
	json_t *list;

	if (b->attrs.n == 0 && b->attrs_null)
		return json_null();
	list = json_array();
	vec_for_each (&b->attrs, a) {
		json_t *j = json_object();

		if (a->handle)
			json_object_set_new(j, "handle_id", json_string(a->handle));
		if (a->secondary.n > 0)
			json_object_set_new(
				j, "secondary", encode_kvs(a->secondary.v, a->secondary.n));
		if (a->alternate.n > 0)
			json_object_set_new(j, "alternateOwnerAttrs",
				encode_kvs(a->alternate.v, a->alternate.n));
		if (a->released_s != 0)
			set_time(j, "releasedAt", a->released_s);
		set_rest(j, a->rest);
		json_array_append_new(list, j);
	}
	return list;
}

static json_t *encode_alloc_seq(const struct ipam_block *b)
{
	json_t *j = json_object();
	char name[8];

	/* In the order of the decimal text: 0, 1, 10, 100, 11, 2, ... */
	for (uint32_t first = 0; first < 10 && first < b->size; first++) {
		struct {
			uint32_t ord, next;
		} stack[5] = {{first, 0}};
		int depth = 0;

		while (depth >= 0) {
			uint32_t ord = stack[depth].ord, next = stack[depth].next++;

			if (next == 0 && b->alloc_seq[ord] != 0) {
				snprintf(name, sizeof(name), "%u", ord);
				json_object_set_new(
					j, name, json_integer((json_int_t)b->alloc_seq[ord]));
			}
			if (next == 10 || ord == 0 || ord * 10 + next >= b->size) {
				depth--;
				continue;
			}
			stack[++depth].ord = ord * 10 + next;
			stack[depth].next = 0;
		}
	}
	return j;
}

char *ipam_block_encode(const struct ipam_block *b)
{
	json_t *j = json_object(), *alloc = json_array(), *unallocated = json_array();

	json_object_set_new(j, "cidr", json_string(prefix_str(&b->cidr)));
	json_object_set_new(j, "affinity", b->affinity ? json_string(b->affinity) : json_null());
	if (b->claim_s != 0)
		set_time(j, "affinity_claim_time", b->claim_s);
	for (uint32_t i = 0; i < b->size; i++)
		json_array_append_new(
			alloc, b->alloc[i] < 0 ? json_null() : json_integer(b->alloc[i]));
	json_object_set_new(j, "allocations", alloc);
	for (size_t i = 0; i < b->free.n; i++)
		json_array_append_new(unallocated, json_integer(b->free.v[i]));
	json_object_set_new(j, "unallocated", unallocated);
	json_object_set_new(j, "attributes", encode_attrs(b));
	json_object_set_new(j, "sequenceNumber", json_integer((json_int_t)b->seq));
	json_object_set_new(j, "sequenceNumberForAllocation", encode_alloc_seq(b));
	json_object_set_new(j, "deleted", json_boolean(b->deleted));
	set_rest(j, b->rest);
	return dump(j);
}

static const char *const state_names[] = {"confirmed", "pending", "pendingDeletion"};

int ipam_affinity_decode(const char *text, size_t len, struct ipam_affinity *ret, struct err *err)
{
	json_t *j = len > 0 ? model_json_load("affinity", text, len, err) : json_object();
	const char *state = json_string_value(json_object_get(j, "state")) ?: "";
	struct ipam_affinity a = {.deleted = json_is_true(json_object_get(j, "deleted"))};
	int r = j ? 0 : -EINVAL;

	if (j && state[0] != '\0') {
		r = wrong(err, "affinity", "state", "confirmed, pending or pendingDeletion");
		for (unsigned i = 0; i < array_size(state_names); i++) {
			if (strcmp(state, state_names[i]) == 0) {
				a.state = (enum ipam_affinity_state)i;
				r = 0;
			}
		}
	}
	json_decref(j);
	if (r == 0)
		*ret = a;
	return r;
}

char *ipam_affinity_encode(const struct ipam_affinity *a, const char *base)
{
	json_t *j =
		json_pack("{s:s, s:b}", "state", state_names[a->state], "deleted", (int)a->deleted);
	json_t *old = base ? json_loads(base, 0, NULL) : NULL;
	auto_free char *rest = rest_of(old, affinity_members, array_size(affinity_members));

	json_decref(old);
	set_rest(j, rest);
	return dump(j);
}

static int handle_block_compare(const void *x, const void *y)
{
	const struct ipam_handle_block *a = x, *b = y;

	return strcmp(prefix_str(&a->cidr), prefix_str(&b->cidr));
}

int ipam_handle_decode(const char *text, size_t len, struct ipam_handle **ret, struct err *err)
{
	json_t *j = model_json_load("handle", text, len, err);
	json_t *blocks = json_object_get(j, "block"), *value;
	auto_(ipam_handle) struct ipam_handle *h = ipam_handle_new();
	const char *name;
	int r = j ? 0 : -EINVAL;

	if (blocks && !json_is_object(blocks) && !json_is_null(blocks))
		r = wrong(err, "handle", "block", "an object");
	json_object_foreach (blocks, name, value) {
		struct ipam_handle_block b = {0};

		if (r < 0)
			break;
		r = prefix_parse_masked(name, &b.cidr, err);
		if (r < 0)
			err_wrap(err, r, "handle: block");
		else if (!json_is_integer(value) || json_integer_value(value) < 0 ||
			 json_integer_value(value) > INT32_MAX)
			r = wrong(err, "handle", "block", "counts");
		b.count = (uint32_t)json_integer_value(value);
		vec_push(&h->blocks, b);
	}
	h->deleted = json_is_true(json_object_get(j, "deleted"));
	h->rest = rest_of(j, handle_members, array_size(handle_members));
	json_decref(j);
	if (r < 0)
		return r;
	*ret = take_ptr(h);
	return 0;
}

char *ipam_handle_encode(const struct ipam_handle *h)
{
	json_t *j = json_object(), *blocks = json_object();
	size_t n = h->blocks.n;
	auto_free struct ipam_handle_block *v = n > 0 ? mem_dup(h->blocks.v, n * sizeof(*v)) : NULL;

	if (n > 0)
		qsort(v, n, sizeof(*v), handle_block_compare);
	for (size_t i = 0; i < n; i++)
		json_object_set_new(blocks, prefix_str(&v[i].cidr), json_integer(v[i].count));
	json_object_set_new(j, "block", blocks);
	json_object_set_new(j, "deleted", json_boolean(h->deleted));
	set_rest(j, h->rest);
	return dump(j);
}

int ipam_config_decode(const char *text, size_t len, struct ipam_config *ret, struct err *err)
{
	json_t *j = model_json_load("IPAM configuration", text, len, err);
	const char *vm = json_string_value(json_object_get(j, "kubeVirtVMAddressPersistence"));
	json_t *max = json_object_get(j, "maxBlocksPerHost");
	json_t *cooldown = json_object_get(j, "ipCooldownSeconds");
	int r = j ? 0 : -EINVAL;

	if (max && (!json_is_integer(max) || json_integer_value(max) < 0 ||
			   json_integer_value(max) > INT32_MAX))
		r = wrong(err, "IPAM configuration", "maxBlocksPerHost", "a number");
	if (cooldown && (!json_is_integer(cooldown) || json_integer_value(cooldown) < 0 ||
				json_integer_value(cooldown) > 1200))
		r = wrong(err, "IPAM configuration", "ipCooldownSeconds", "0..1200");
	if (r == 0)
		*ret = (struct ipam_config){
			.strict_affinity = json_is_true(json_object_get(j, "strict_affinity")),
			.auto_allocate_blocks =
				json_is_true(json_object_get(j, "auto_allocate_blocks")),
			.max_blocks_per_host = (uint32_t)json_integer_value(max),
			.cooldown_s = (uint32_t)json_integer_value(cooldown),
			.vm_persistence_disabled = vm && strcmp(vm, "Disabled") == 0,
		};
	json_decref(j);
	return r;
}

char *ipam_config_encode(const struct ipam_config *c)
{
	json_t *j = json_object();

	if (c->strict_affinity)
		json_object_set_new(j, "strict_affinity", json_true());
	if (c->auto_allocate_blocks)
		json_object_set_new(j, "auto_allocate_blocks", json_true());
	if (c->max_blocks_per_host != 0)
		json_object_set_new(j, "maxBlocksPerHost", json_integer(c->max_blocks_per_host));
	json_object_set_new(j, "kubeVirtVMAddressPersistence",
		json_string(c->vm_persistence_disabled ? "Disabled" : "Enabled"));
	if (c->cooldown_s != 0)
		json_object_set_new(j, "ipCooldownSeconds", json_integer(c->cooldown_s));
	return dump(j);
}

/*
 * Keys.
 */
const char *ipam_key_blocks_of_family(enum ip_family family, char buf[static IPAM_KEY_SIZE])
{
	snprintf(buf, IPAM_KEY_SIZE, IPAM_KEY_BLOCKS "ipv%d/block/", family);
	return buf;
}

const char *ipam_key_block(const struct prefix *cidr, char buf[static IPAM_KEY_SIZE])
{
	char text[PREFIX_TEXT_SIZE];

	snprintf(buf, IPAM_KEY_SIZE, IPAM_KEY_BLOCKS "ipv%d/block/%s", cidr->addr.family,
		prefix_format_key(cidr, text));
	return buf;
}

const char *ipam_key_affinities_of_host(
	const char *host, enum ip_family family, char buf[static IPAM_KEY_SIZE])
{
	if (family == IP_NONE)
		snprintf(buf, IPAM_KEY_SIZE, IPAM_KEY_AFFINITIES "%s/", host);
	else
		snprintf(buf, IPAM_KEY_SIZE, IPAM_KEY_AFFINITIES "%s/ipv%d/block/", host, family);
	return buf;
}

const char *ipam_key_affinity(
	const char *host, const struct prefix *cidr, char buf[static IPAM_KEY_SIZE])
{
	char text[PREFIX_TEXT_SIZE];

	snprintf(buf, IPAM_KEY_SIZE, IPAM_KEY_AFFINITIES "%s/ipv%d/block/%s", host,
		cidr->addr.family, prefix_format_key(cidr, text));
	return buf;
}

const char *ipam_key_handle(const char *handle, char buf[static IPAM_KEY_SIZE])
{
	snprintf(buf, IPAM_KEY_SIZE, IPAM_KEY_HANDLES "%s", handle);
	return buf;
}

/* "ipv4/block/10.244.0.0-26" */
static bool parse_tail(const char *s, struct prefix *ret)
{
	struct prefix p;

	if ((strncmp(s, "ipv4/block/", 11) != 0 && strncmp(s, "ipv6/block/", 11) != 0) ||
		prefix_parse_key(s + 11, &p, NULL) < 0 || p.addr.family != s[3] - '0')
		return false;
	*ret = p;
	return true;
}

bool ipam_key_parse_block(const char *key, struct prefix *ret_cidr)
{
	return strncmp(key, IPAM_KEY_BLOCKS, strlen(IPAM_KEY_BLOCKS)) == 0 &&
	       parse_tail(key + strlen(IPAM_KEY_BLOCKS), ret_cidr);
}

bool ipam_key_parse_affinity(const char *key, char *ret_host, struct prefix *ret_cidr)
{
	const char *slash;

	if (strncmp(key, IPAM_KEY_AFFINITIES, strlen(IPAM_KEY_AFFINITIES)) != 0)
		return false;
	key += strlen(IPAM_KEY_AFFINITIES);
	slash = strchr(key, '/');
	if (!slash || (size_t)(slash - key) >= IPAM_KEY_SIZE || !parse_tail(slash + 1, ret_cidr))
		return false;
	if (ret_host) {
		memcpy(ret_host, key, (size_t)(slash - key));
		ret_host[slash - key] = '\0';
	}
	return true;
}
