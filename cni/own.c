/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/own.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "model/ipam.h"
#include "store/store.h"

enum { ASK_MS = 10000 }; /* of one question */

void own_allocs_done(struct own_allocs *s)
{
	struct own_alloc *one;

	vec_for_each (&s->v, one) {
		free(one->handle);
		free(one->namespace);
		free(one->pod);
	}
	vec_done(&s->v);
}

void own_allocs_add(struct own_allocs *s, const struct own_alloc *a)
{
	struct own_alloc one = *a;

	one.handle = mem_strdup(a->handle);
	one.namespace = mem_strdup(a->namespace);
	one.pod = mem_strdup(a->pod);
	vec_push(&s->v, one);
}

const struct own_alloc *own_allocs_find(const struct own_allocs *s, const struct own_alloc *a)
{
	const struct own_alloc *one;

	vec_for_each (&s->v, one)
		if (one->seq == a->seq && ip_equal(&one->ip, &a->ip) &&
			strcmp(one->handle, a->handle) == 0)
			return one;
	return NULL;
}

static void add_block(const char *node, const struct ipam_block *b, struct own_allocs *ret)
{
	for (uint32_t i = 0; i < b->size; i++) {
		const struct ipam_block_attr *a = b->alloc[i] < 0 ? NULL : &b->attrs.v[b->alloc[i]];
		const char *whose = a ? ipam_block_attr_get(a, "node") : NULL;
		const char *pod = a ? ipam_block_attr_get(a, "pod") : NULL;
		const char *namespace = a ? ipam_block_attr_get(a, "namespace") : NULL;
		const char *type = a ? ipam_block_attr_get(a, "type") : NULL;
		struct own_alloc one = {.seq = b->alloc_seq[i]};

		if (!whose || strcmp(whose, node) != 0 || !pod || !namespace || !a->handle ||
			a->released_s || ipam_block_attr_get(a, "vmi-name") ||
			(type && strcmp(type, IPAM_TYPE_ALONE) == 0) ||
			!ip_add(&b->cidr.addr, i, &one.ip))
			continue;
		one.handle = a->handle;
		one.namespace = (char *)(uintptr_t) namespace;
		one.pod = (char *)(uintptr_t)pod;
		own_allocs_add(ret, &one);
	}
}

int own_allocs_list(struct store *st, const char *node, struct own_allocs *ret, struct err *err)
{
	char prefix[IPAM_KEY_SIZE], key[IPAM_KEY_SIZE];
	struct store_list own = {0};
	int r = store_list_wait(st, ipam_key_affinities_of_host(node, IP_NONE, prefix),
		clock_mono_ms() + ASK_MS, &own, err);

	for (size_t i = 0; r == 0 && i < own.n; i++) {
		auto_(ipam_block) struct ipam_block *b = NULL;
		struct prefix cidr;
		struct store_kv kv;

		if (!ipam_key_parse_affinity(own.v[i].key, NULL, &cidr))
			continue;
		r = store_get_wait(
			st, ipam_key_block(&cidr, key), clock_mono_ms() + ASK_MS, &kv, err);
		if (r == 0 && ipam_block_decode(kv.value, kv.len, &b, NULL) == 0)
			add_block(node, b, ret);
		if (r == 0)
			store_kv_done(&kv);
		r = r == -ENOENT ? 0 : r;
	}
	store_list_done(&own);
	return r;
}
