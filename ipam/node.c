/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ipam/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "ipam/alloc.h"
#include "ipam/run.h"
#include "ipam/tally.h"
#include "model/ipam.h"
#include "model/key.h"
#include "model/wep.h"
#include "store/store.h"

enum {
	LIST_MS = 60000,
};

struct release {
	struct store *st;
	const char *node;
	const struct ipam_node_ops *ops;
	bool any;
};

bool ipam_node_addr(const struct ipam_block *b, uint32_t ordinal, struct ipam_node_addr *ret)
{
	const struct ipam_block_attr *a =
		b->alloc[ordinal] < 0 ? NULL : &b->attrs.v[b->alloc[ordinal]];

	if (!a || !a->handle || a->released_s || ipam_block_attr_get(a, "vmi-name"))
		return false;
	*ret = (struct ipam_node_addr){.node = ipam_block_attr_get(a, "node"),
		.handle = a->handle,
		.seq = b->alloc_seq[ordinal]};
	return ret->node && ip_add(&b->cidr.addr, ordinal, &ret->ip);
}

static int may_write(const struct release *rl, int64_t *ret_deadline_ms, struct err *err)
{
	return rl->ops->may_write(rl->ops->arg, ret_deadline_ms, err);
}

/* 1: done, 0: there is nothing, or it is another's by now. */
static int run(struct release *rl, struct ipam_request *rq_take, struct err *err)
{
	int64_t deadline_ms = 0;
	int r = may_write(rl, &deadline_ms, err);

	if (r == 0)
		r = ipam_run(rl->st, rq_take, deadline_ms, err) ?: 1;
	ipam_request_free(rq_take);
	rl->any |= r == 1;
	return r == -ENOENT || r == -ESTALE ? 0 : r;
}

static int free_endpoint(struct release *rl, const struct store_kv *kv, struct err *err)
{
	auto_(wep) struct wep *w = NULL;
	int64_t deadline_ms = 0;
	int r;

	if (wep_decode(kv->key, kv->value, kv->len, &w, NULL) < 0 || !w->node ||
		strcmp(w->node, rl->node) != 0)
		return 0;
	r = may_write(rl, &deadline_ms, err);
	if (r == 0)
		r = store_delete_wait(rl->st, kv->key, kv->rev, NULL, deadline_ms, err);
	return r == -ENOENT || r == -ESTALE ? 0 : r;
}

static int free_endpoints(struct release *rl, struct err *err)
{
	struct store_list weps = {0};
	char prefix[KEY_SIZE];
	int r;

	if (store_is_managed(rl->st))
		return 0;
	r = store_list_wait(rl->st, key_prefix(KIND_WORKLOADENDPOINT, NULL, prefix),
		clock_mono_ms() + LIST_MS, &weps, err);
	for (size_t i = 0; r == 0 && i < weps.n; i++)
		r = free_endpoint(rl, &weps.v[i], err);
	store_list_done(&weps);
	return r;
}

static int free_block(struct release *rl, const struct ipam_block *b, struct err *err)
{
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < b->size; i++) {
		struct ipam_node_addr a;

		if (!ipam_node_addr(b, i, &a) || strcmp(a.node, rl->node) != 0)
			continue;
		r = run(rl, ipam_release_allocation_new(&a.ip, a.handle, a.seq, clock_real_ns()),
			err);
		if (r == 1 && rl->ops->freed)
			rl->ops->freed(rl->ops->arg, &a);
	}
	return r < 0 ? r : 0;
}

static int free_addresses(struct release *rl, const struct store_list *blocks, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < blocks->n; i++) {
		const struct store_kv *kv = &blocks->v[i];
		auto_(ipam_block) struct ipam_block *b = NULL;
		struct err why = ERR_INIT;

		if (ipam_block_decode(kv->value, kv->len, &b, &why) == 0)
			r = free_block(rl, b, err);
		else if (rl->ops->unreadable)
			rl->ops->unreadable(rl->ops->arg, kv->key, &why);
	}
	return r;
}

/* What has its name. Tunnels' addresses may say nothing of a node, and the reserve's count may be of nothing. */
static int free_handles(struct release *rl, struct err *err)
{
	static const char *const tunnels[] = {"ipip-tunnel-addr-", "vxlan-tunnel-addr-",
		"vxlan-v6-tunnel-addr-", "wireguard-tunnel-addr-", "wireguard-v6-tunnel-addr-"};
	auto_free char *reserve = mem_printf(IPAM_HANDLE_RESERVE "%s", rl->node);
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < array_size(tunnels); i++) {
		auto_free char *handle = mem_printf("%s%s", tunnels[i], rl->node);

		r = run(rl, ipam_release_handle_new(handle, clock_real_ns()), err);
	}
	if (r >= 0)
		r = run(rl, ipam_drop_handle_new(reserve, clock_real_ns()), err);
	return r < 0 && r != -EBUSY ? r : 0;
}

/* Of handle "": blocks that cannot be read. */
static void count_block(struct ipam_tally *t, const struct store_kv *kv)
{
	auto_(ipam_block) struct ipam_block *b = NULL;
	struct prefix cidr;

	if (ipam_block_decode(kv->value, kv->len, &b, NULL) == 0)
		ipam_tally_add_block(t, b);
	else if (ipam_key_parse_block(kv->key, &cidr))
		ipam_tally_add(t, "", &cidr, 1);
}

/*
 * Who was ended between a block and the handle has left the pod's handle counting too many, and no block says any
 * more whose it was.
 */
static bool counts_too_many(
	const struct ipam_tally *t, const char *handle, const struct ipam_handle *h)
{
	bool too_many = false;

	for (size_t i = 0; i < h->blocks.n; i++) {
		const struct ipam_handle_block *b = &h->blocks.v[i];

		if (ipam_tally_of(t, "", &b->cidr) > 0)
			return false;
		too_many |= b->count > ipam_tally_of(t, handle, &b->cidr);
	}
	return too_many;
}

/* As it seems: blocks were read before, and each is read once more where one does. */
static int recount(struct release *rl, const struct ipam_tally *in_blocks, struct err *err)
{
	struct store_list handles = {0};
	int r = store_list_wait(rl->st, IPAM_KEY_HANDLES, clock_mono_ms() + LIST_MS, &handles, err);

	for (size_t i = 0; r >= 0 && i < handles.n; i++) {
		const char *name = handles.v[i].key + strlen(IPAM_KEY_HANDLES);
		auto_(ipam_handle) struct ipam_handle *h = NULL;

		if (ipam_handle_decode(handles.v[i].value, handles.v[i].len, &h, NULL) == 0 &&
			counts_too_many(in_blocks, name, h))
			r = run(rl, ipam_recount_handle_new(name, NULL, 0, clock_real_ns()), err);
	}
	store_list_done(&handles);
	return r < 0 ? r : 0;
}

/* By blocks of now, of which this node's addresses are gone. */
static int recount_handles(struct release *rl, struct err *err)
{
	struct ipam_tally in_blocks = {0};
	struct store_list blocks = {0};
	int r = store_list_wait(rl->st, IPAM_KEY_BLOCKS, clock_mono_ms() + LIST_MS, &blocks, err);

	for (size_t i = 0; i < blocks.n; i++)
		count_block(&in_blocks, &blocks.v[i]);
	store_list_done(&blocks);
	ipam_tally_sort(&in_blocks);
	if (r >= 0)
		r = recount(rl, &in_blocks, err);
	ipam_tally_done(&in_blocks);
	return r;
}

int ipam_node_release(struct store *st, const char *node, const struct store_list *blocks,
	const struct ipam_node_ops *ops, struct err *err)
{
	struct release rl = {.st = st, .node = node, .ops = ops};
	int r = free_endpoints(&rl, err) ?: free_addresses(&rl, blocks, err);

	if (r == 0)
		r = free_handles(&rl, err) ?: recount_handles(&rl, err);
	if (r == 0)
		r = run(&rl, ipam_unclaim_new(NULL, node, false, clock_real_ns()), err);
	return r < 0 ? r : rl.any;
}
