/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ipam/block.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/key.h"

struct ipam_block *block_create(const struct prefix *cidr, const char *host, int64_t now_ns)
{
	struct ipam_block *b = ipam_block_new(cidr);

	b->affinity = mem_printf("host:%s", host);
	b->claim_s = now_ns / 1000000000;
	b->seq = (uint64_t)now_ns;
	return b;
}

const char *block_host(const struct ipam_block *b)
{
	const char *host =
		b->affinity && strncmp(b->affinity, "host:", 5) == 0 ? b->affinity + 5 : "";

	return key_name_ok(host) ? host : NULL;
}

bool block_affine_to(const struct ipam_block *b, const char *host)
{
	const char *have = block_host(b);

	return have && strcmp(have, host) == 0;
}

bool block_handle_equal(const char *a, const char *b)
{
	size_t n = strcspn(a, "\r");

	return n == strcspn(b, "\r") && memcmp(a, b, n) == 0;
}

bool block_is_empty(const struct ipam_block *b)
{
	for (uint32_t i = 0; i < b->size; i++) {
		const char *handle = b->alloc[i] >= 0 ? b->attrs.v[b->alloc[i]].handle : NULL;

		if (b->alloc[i] >= 0 &&
			(!handle || !block_handle_equal(handle, IPAM_HANDLE_WINDOWS)))
			return false;
	}
	return true;
}

struct ip block_ip(const struct ipam_block *b, uint32_t ordinal)
{
	struct ip ip = b->cidr.addr;

	ip_add(&b->cidr.addr, ordinal, &ip);
	return ip;
}

uint32_t block_ordinal(const struct ipam_block *b, const struct ip *ip)
{
	if (!prefix_contains(&b->cidr, ip))
		return UINT32_MAX;
	return (uint32_t)ip_distance(&b->cidr.addr, ip);
}

const struct ipam_block_attr *block_lookup(const struct ipam_block *b, const struct ip *ip)
{
	uint32_t ord = block_ordinal(b, ip);

	return ord != UINT32_MAX && b->alloc[ord] >= 0 ? &b->attrs.v[b->alloc[ord]] : NULL;
}

uint64_t block_seq(const struct ipam_block *b, const struct ip *ip)
{
	uint32_t ord = block_ordinal(b, ip);

	return ord != UINT32_MAX ? b->alloc_seq[ord] : 0;
}

static bool has_handle(const struct ipam_block *b, uint32_t ord, const char *handle)
{
	const struct ipam_block_attr *a = b->alloc[ord] >= 0 ? &b->attrs.v[b->alloc[ord]] : NULL;

	return a && a->released_s == 0 && a->handle && block_handle_equal(a->handle, handle);
}

bool block_next_of_handle(
	const struct ipam_block *b, const char *handle, uint32_t *pos, struct ip *ret)
{
	for (; *pos < b->size; (*pos)++) {
		if (has_handle(b, *pos, handle)) {
			*ret = block_ip(b, (*pos)++);
			return true;
		}
	}
	return false;
}

bool block_reserved_has(const struct block_reserved *res, const struct ip *ip)
{
	for (size_t i = 0; i < res->n; i++)
		if (prefix_contains(&res->v[i], ip))
			return true;
	return false;
}

const struct prefix *block_reserved_by(const struct block_reserved *res, const struct prefix *cidr)
{
	for (size_t i = 0; i < res->n; i++)
		if (prefix_covers(&res->v[i], cidr))
			return &res->v[i];
	return NULL;
}

/* Another one covers it, or is equal and stands before it. */
static bool is_redundant(const struct block_reserved *res, size_t i)
{
	for (size_t k = 0; k < res->n; k++)
		if (k != i && prefix_covers(&res->v[k], &res->v[i]) &&
			(k < i || res->v[k].plen != res->v[i].plen))
			return true;
	return false;
}

bool block_reserved_covers(const struct block_reserved *res, const struct prefix *cidr)
{
	uint64_t n = 0;

	if (block_reserved_by(res, cidr))
		return true;
	/* Several together: prefixes are disjoint, or one in the other. */
	for (size_t i = 0; i < res->n; i++)
		if (prefix_covers(cidr, &res->v[i]) && !is_redundant(res, i))
			n += prefix_size(&res->v[i]);
	return n == prefix_size(cidr);
}

static bool attr_equal(const struct ipam_block_attr *a, const char *handle,
	const struct ipam_attr *attrs, size_t n)
{
	if (!a->handle || strcmp(a->handle, handle) != 0 || a->released_s != 0 ||
		a->alternate.n > 0 || a->rest || a->secondary.n != n)
		return false;
	for (size_t i = 0; i < n; i++) {
		size_t k = 0;

		while (k < n && (strcmp(a->secondary.v[k].name, attrs[i].name) != 0 ||
					strcmp(a->secondary.v[k].value, attrs[i].value) != 0))
			k++;
		if (k == n)
			return false;
	}
	return true;
}

static int kv_compare(const void *x, const void *y)
{
	const struct ipam_kv *a = x, *b = y;

	return strcmp(a->name, b->name);
}

static int32_t attr_index(
	struct ipam_block *b, const char *handle, const struct ipam_attr *attrs, size_t n)
{
	struct ipam_block_attr a = {0};

	for (size_t i = 0; i < b->attrs.n; i++)
		if (attr_equal(&b->attrs.v[i], handle, attrs, n))
			return (int32_t)i;
	a.handle = mem_strdup(handle);
	for (size_t i = 0; i < n; i++)
		vec_push(&a.secondary,
			(struct ipam_kv){mem_strdup(attrs[i].name), mem_strdup(attrs[i].value)});
	if (n > 1)
		qsort(a.secondary.v, n, sizeof(*a.secondary.v), kv_compare);
	vec_push(&b->attrs, a);
	b->attrs_null = false;
	return (int32_t)(b->attrs.n - 1);
}

/* Takes the i-th of the queue. */
static void take(struct ipam_block *b, size_t i, const char *handle, const struct ipam_attr *attrs,
	size_t n_attrs)
{
	uint32_t ord = b->free.v[i];

	memmove(b->free.v + i, b->free.v + i + 1, (b->free.n - i - 1) * sizeof(*b->free.v));
	b->free.n--;
	b->alloc[ord] = attr_index(b, handle, attrs, n_attrs);
	b->alloc_seq[ord] = b->seq;
}

int block_auto_assign(struct ipam_block *b, const struct block_reserved *res, const char *handle,
	const struct ipam_attr *attrs, size_t n_attrs, struct ip *ret)
{
	for (size_t i = 0; i < b->free.n; i++) {
		struct ip ip = block_ip(b, b->free.v[i]);

		if (block_reserved_has(res, &ip))
			continue;
		take(b, i, handle, attrs, n_attrs);
		*ret = ip;
		return 0;
	}
	return -ENOSPC;
}

int block_assign(struct ipam_block *b, const struct ip *ip, const char *handle,
	const struct ipam_attr *attrs, size_t n_attrs, struct err *err)
{
	uint32_t ord = block_ordinal(b, ip);
	size_t i = 0;

	assert(ord != UINT32_MAX);
	if (b->alloc[ord] >= 0) {
		const struct ipam_block_attr *a = &b->attrs.v[b->alloc[ord]];

		bool ahead = a->handle && strncmp(a->handle, IPAM_HANDLE_RESERVE,
						  strlen(IPAM_HANDLE_RESERVE)) == 0;

		return err_set(err, -EEXIST, "address %s is in use%s%s%s", ip_str(ip),
			a->handle ? " by " : ", in cool-down", a->handle ?: "",
			ahead ? ", which has it for that node's next pods: ask for addresses of a "
				"pool whose assignmentMode is Manual, of which none are held ahead"
			      : "");
	}
	while (b->free.v[i] != ord)
		i++;
	take(b, i, handle, attrs, n_attrs);
	return 0;
}

/* The attribute for what was released now: shared, as all of one release have the same. */
static int32_t released_index(struct ipam_block *b, int64_t now_s)
{
	for (size_t i = 0; i < b->attrs.n; i++)
		if (b->attrs.v[i].released_s == now_s && !b->attrs.v[i].handle)
			return (int32_t)i;
	vec_push(&b->attrs, (struct ipam_block_attr){.released_s = now_s});
	return (int32_t)(b->attrs.n - 1);
}

int block_release(struct ipam_block *b, const struct ip *ip, const char *handle,
	uint32_t cooldown_s, int64_t now_ns, struct err *err)
{
	const struct ipam_block_attr *a = block_lookup(b, ip);
	uint32_t ord = block_ordinal(b, ip);

	if (!a || a->released_s != 0)
		return err_set(err, -ENOENT, "address %s is not in use", ip_str(ip));
	if (handle && (!a->handle || !block_handle_equal(a->handle, handle)))
		return err_set(err, -ESTALE, "address %s is in use by %s, not by %s", ip_str(ip),
			a->handle ?: "nobody", handle);
	b->alloc[ord] = released_index(b, now_ns / 1000000000);
	b->alloc_seq[ord] = b->seq;
	block_collect(b, cooldown_s, now_ns);
	return 0;
}

uint32_t block_release_handle(
	struct ipam_block *b, const char *handle, uint32_t cooldown_s, int64_t now_ns)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < b->size; i++) {
		if (!has_handle(b, i, handle))
			continue;
		b->alloc[i] = released_index(b, now_ns / 1000000000);
		n++;
	}
	if (n > 0)
		block_collect(b, cooldown_s, now_ns);
	return n;
}

/* Attributes that no address has go, and the others close up. */
static void drop_unused_attrs(struct ipam_block *b)
{
	auto_free int32_t *moved = mem_realloc_array(NULL, b->attrs.n + 1, sizeof(*moved));
	size_t n = 0;

	for (size_t i = 0; i < b->attrs.n; i++)
		moved[i] = -1;
	for (uint32_t i = 0; i < b->size; i++)
		if (b->alloc[i] >= 0)
			moved[b->alloc[i]] = 0;
	for (size_t i = 0; i < b->attrs.n; i++) {
		if (moved[i] < 0) {
			ipam_block_attr_done(&b->attrs.v[i]);
			continue;
		}
		moved[i] = (int32_t)n;
		b->attrs.v[n++] = b->attrs.v[i];
	}
	b->attrs.n = n;
	for (uint32_t i = 0; i < b->size; i++)
		if (b->alloc[i] >= 0)
			b->alloc[i] = moved[b->alloc[i]];
}

void block_move(struct ipam_block *b, const struct ip *ip, const char *handle,
	const struct ipam_attr *attrs, size_t n_attrs)
{
	uint32_t ord = block_ordinal(b, ip);

	assert(ord != UINT32_MAX && b->alloc[ord] >= 0);
	b->alloc[ord] = attr_index(b, handle, attrs, n_attrs);
	b->alloc_seq[ord] = b->seq;
	drop_unused_attrs(b);
}

void block_collect(struct ipam_block *b, uint32_t cooldown_s, int64_t now_ns)
{
	int64_t before = now_ns / 1000000000 - cooldown_s;

	for (uint32_t i = 0; i < b->size; i++) {
		int64_t released = b->alloc[i] >= 0 ? b->attrs.v[b->alloc[i]].released_s : 0;

		if (released == 0 || released > before)
			continue;
		b->alloc[i] = -1;
		b->alloc_seq[i] = 0;
		vec_push(&b->free, i);
	}
	drop_unused_attrs(b);
}

void block_bump(struct ipam_block *b)
{
	b->seq++;
}

void block_orphan(struct ipam_block *b)
{
	free(b->affinity);
	b->affinity = NULL;
	b->claim_s = 0;
}
