/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/premises.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hmap.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cni/cni.h"
#include "cni/shared.h"
#include "model/kind.h"
#include "store/sync.h"

enum { N_FOR_KEEPER = 3 };

struct object {
	struct hmap_node node;
	struct store_kv kv;
};

struct premises {
	const struct cni_home *home;
	struct premises_prefixes prefixes;
	struct hmap objects;
	bool keeps;    /* objects */
	bool has_node; /* was told of it */
	uint64_t life;
	struct sync *sync;
};

/* One of them in a text, with its key and its value behind it. */
struct head {
	int64_t rev;
	uint32_t key_len, value_len;
};

void premises_prefixes(const char *node, struct premises_prefixes *ret)
{
	static const char config[] = IPAM_KEY_CONFIG;

	*ret = (struct premises_prefixes){
		.v = {kind_info(KIND_IPPOOL)->root, kind_info(KIND_IPRESERVATION)->root, ret->node,
			kind_info(KIND_CLUSTERINFORMATION)->root, config, ret->affinities}};
	ipam_key_affinities_of_host(node, IP_NONE, ret->affinities);
	key_format(KIND_NODE, NULL, node, ret->node);
}

/* ---- the monitor's side ---- */

static void wake_keeper(struct premises *p, uint64_t *counter)
{
	const uint64_t one = 1;

	shared_add(counter);
	if (write(p->home->keeper_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_warn("waking the keeper: %s", strerror(errno));
}

static bool is_of_pools(const struct premises *p, const char *key)
{
	return strncmp(key, p->prefixes.v[0], strlen(p->prefixes.v[0])) == 0 ||
	       strncmp(key, p->prefixes.v[1], strlen(p->prefixes.v[1])) == 0;
}

static void drop(struct premises *p, const char *key)
{
	struct object *o;

	hmap_for_each_hash (o, &p->objects, hash_str(key), node) {
		if (strcmp(o->kv.key, key) != 0)
			continue;
		hmap_remove(&p->objects, &o->node);
		store_kv_done(&o->kv);
		free(o);
		return;
	}
}

static void on_set(void *arg, const char *key, const char *value, size_t len, int64_t rev)
{
	const struct store_kv kv = {.key = (char *)(uintptr_t)key,
		.value = (char *)(uintptr_t)value,
		.len = len,
		.rev = rev};
	struct premises *p = arg;
	struct object *o;

	drop(p, key);
	if (p->keeps) {
		o = mem_new(struct object);
		o->kv = store_kv_copy(&kv);
		hmap_insert(&p->objects, &o->node, hash_str(key));
	}
	if (is_of_pools(p, key))
		wake_keeper(p, &p->home->shared->pool_changes);
	p->has_node |= strcmp(key, p->prefixes.node) == 0;
}

static void on_del(void *arg, const char *key)
{
	struct premises *p = arg;

	drop(p, key);
	if (is_of_pools(p, key))
		wake_keeper(p, &p->home->shared->pool_changes);
	else if (strcmp(key, p->prefixes.node) == 0)
		wake_keeper(p, &p->home->shared->node_deletions);
}

/* It may have been deleted while nobody watched. */
static void on_in_sync(void *arg)
{
	struct premises *p = arg;

	if (!p->has_node)
		wake_keeper(p, &p->home->shared->node_deletions);
}

/* What is found when it is there again may be an older copy of the datastore. */
static void on_state(void *arg)
{
	struct premises *p = arg;

	if (!sync_up(p->sync))
		p->life++;
}

struct premises *premises_new(struct store *st, const struct cni_home *home)
{
	static const struct sync_ops ops = {.set = on_set,
		.del = on_del,
		.in_sync = on_in_sync,
		.state = on_state,
		.heed_lock = false};
	struct premises *p = mem_new(struct premises);

	p->home = home;
	p->keeps = store_is_managed(st);
	mem_random(&p->life, sizeof(p->life));
	premises_prefixes(home->node, &p->prefixes);
	p->sync = sync_new(st, p->prefixes.v, p->keeps ? PREMISES_N : N_FOR_KEEPER, &ops, p, NULL);
	return p;
}

void premises_free(struct premises *p)
{
	struct object *o;

	if (!p)
		return;
	sync_free(p->sync);
	hmap_for_each (o, &p->objects, node) {
		store_kv_done(&o->kv);
		free(o);
	}
	hmap_done(&p->objects);
	free(p);
}

bool premises_write(const struct premises *p, struct strbuf *out)
{
	struct object *o;

	if (!p->keeps || !sync_up(p->sync))
		return false;
	strbuf_addn(out, &p->life, sizeof(p->life));
	hmap_for_each (o, &p->objects, node) {
		const struct head h = {.rev = o->kv.rev,
			.key_len = (uint32_t)strlen(o->kv.key),
			.value_len = (uint32_t)o->kv.len};

		strbuf_addn(out, &h, sizeof(h));
		strbuf_addn(out, o->kv.key, h.key_len);
		strbuf_addn(out, o->kv.value, h.value_len);
	}
	return true;
}

/* ---- a worker's side ---- */

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct store_kv *)a)->key, ((const struct store_kv *)b)->key);
}

bool premises_read(const char *text, size_t len, struct store_told *ret)
{
	size_t at = sizeof(ret->life);

	ret->list = (struct store_list){0};
	if (len < at)
		return false;
	memcpy(&ret->life, text, at);
	while (at < len) {
		struct head h = {0};

		if (len - at >= sizeof(h))
			memcpy(&h, text + at, sizeof(h));
		at += sizeof(h);
		if (h.key_len == 0 || at > len || (size_t)h.key_len + h.value_len > len - at) {
			store_list_done(&ret->list);
			return false;
		}
		store_list_add_take(&ret->list,
			(struct store_kv){.key = mem_strndup(text + at, h.key_len),
				.value = mem_strndup(text + at + h.key_len, h.value_len),
				.len = h.value_len,
				.rev = h.rev});
		at += (size_t)h.key_len + h.value_len;
	}
	if (ret->list.n > 0)
		qsort(ret->list.v, ret->list.n, sizeof(*ret->list.v), by_key);
	return true;
}
