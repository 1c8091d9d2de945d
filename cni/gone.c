/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first few nodes by name look, so that it costs the others next to nothing; each later one waits longer,
 * so that it is one of them who finds something to do, and another one where that one is off.
 */
#define LOG_MODULE "cni"
#include "cni/gone.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hmap.h"
#include "base/log.h"
#include "base/mem.h"
#include "cni/absent.h"
#include "cni/boot.h"
#include "cni/cni.h"
#include "cni/replay.h"
#include "cni/shared.h"
#include "ipam/run.h"
#include "model/ipam.h"
#include "model/key.h"
#include "model/meta.h"
#include "model/wep.h"
#include "store/store.h"

enum {
	N_LOOKERS = 4,
	LATER_S = 3600,		 /* each one after the first waits so much longer */
	LOOK_EVERY_MS = 900000,	 /* of those who look; well below ABSENT_GAP_S */
	RANK_EVERY_MS = 3600000, /* of the others: whether they are to */
	LIST_MS = 60000,
	/* A node that is there again is waited for by REPLAY_BACK_MS, which is longer than both. */
	AGAIN_MS = 5000,  /* whether it is still gone is asked anew after this, */
	WRITE_MS = 20000, /* and a write has ended so long after it was asked */
};
_Static_assert(REPLAY_BACK_MS > 2 * WRITE_MS, "a node that comes back waits for writes under way");

struct gone {
	const struct cni_home *home;
	int64_t after_s, due_ms;
	char *path;
	char boot[BOOT_ID_SIZE];
	struct absent absent;
};

/* Who is named by blocks and affinities. */
struct holder {
	struct hmap_node node;
	char *name;
	bool there; /* it has a Node */
	struct absent_holds holds;
};

struct look {
	struct gone *g;
	struct store *st;
	struct store_list blocks;
	struct hmap holders;
	int64_t asked_ms; /* when the node that is given back was seen to be gone */
};

struct gone *gone_new(const struct cni_home *home, int64_t after_s)
{
	struct gone *g = mem_new(struct gone);

	g->home = home;
	g->after_s = after_s;
	g->path = mem_printf("%s/absent", home->state_dir);
	boot_id(g->boot);
	absent_load(&g->absent, g->path, g->boot);
	return g;
}

int64_t gone_due_ms(const struct gone *g)
{
	return g->due_ms;
}

/*
 * Which of the first nodes this one is.
 */
struct first {
	struct strings names;
	bool done;
	int r;
	struct err *err;
};

static void on_first(void *arg, const struct store_res *res)
{
	struct first *f = arg;
	struct key key;

	f->r = res->r;
	if (res->r < 0 && f->err)
		*f->err = *res->err;
	for (size_t i = 0; res->r == 0 && i < res->n; i++)
		if (key_parse(res->kvs[i].key, &key))
			vec_push(&f->names.v, mem_strdup(key.name));
	f->done = !res->more;
}

/* N_LOOKERS: it is none of them. */
static int find_rank(const struct look *l, size_t *ret, struct err *err)
{
	struct first f = {.err = err};
	char prefix[KEY_SIZE];
	const struct store_req rq = {.verb = STORE_LIST,
		.key = key_prefix(KIND_NODE, NULL, prefix),
		.limit = N_LOOKERS,
		.deadline_ms = clock_mono_ms() + LIST_MS};

	(void)store_start(l->st, &rq, on_first, &f);
	while (!f.done)
		event_base_loop(store_base(l->st), EVLOOP_ONCE);
	*ret = N_LOOKERS;
	for (size_t i = 0; f.r == 0 && i < f.names.v.n && i < N_LOOKERS; i++)
		if (strcmp(f.names.v.v[i], l->g->home->node) == 0)
			*ret = i;
	strings_done(&f.names);
	return f.r;
}

/*
 * What there is. Blocks before nodes: a node is there before it has a block.
 */
static struct holder *find_holder(const struct look *l, const char *name)
{
	struct holder *h;

	hmap_for_each_hash (h, &l->holders, hash_str(name), node)
		if (strcmp(h->name, name) == 0)
			return h;
	return NULL;
}

static struct holder *need_holder(struct look *l, const char *name)
{
	struct holder *h = find_holder(l, name);

	if (!h && key_name_ok(name) && strlen(name) < KEY_NAME_SIZE) {
		h = mem_new(struct holder);
		h->name = mem_strdup(name);
		hmap_insert(&l->holders, &h->node, hash_str(name));
	}
	return h;
}

/* Whose it is; NULL: nobody's who can be gone. A virtual machine outlives its node. */
static const char *holder_of(const struct ipam_block_attr *a)
{
	return a->handle && !a->released_s && !ipam_block_attr_get(a, "vmi-name")
		       ? ipam_block_attr_get(a, "node")
		       : NULL;
}

static void see_block(struct look *l, const struct ipam_block *b)
{
	for (uint32_t i = 0; i < b->size; i++) {
		const char *name = b->alloc[i] < 0 ? NULL : holder_of(&b->attrs.v[b->alloc[i]]);
		struct holder *h = name ? need_holder(l, name) : NULL;

		if (!h)
			continue;
		h->holds.n++;
		h->holds.sum += (b->alloc_seq[i] + 1) * (i + 1);
	}
	if (b->affinity && strncmp(b->affinity, "host:", 5) == 0)
		(void)need_holder(l, b->affinity + 5);
}

static int list(struct look *l, const char *prefix, struct store_list *ret, struct err *err)
{
	return store_list_wait(l->st, prefix, clock_mono_ms() + LIST_MS, ret, err);
}

static int see_holders(struct look *l, struct err *err)
{
	struct store_list affinities = {0}, nodes = {0};
	char host[IPAM_KEY_SIZE], prefix[KEY_SIZE];
	struct prefix cidr;
	int r = list(l, IPAM_KEY_BLOCKS, &l->blocks, err);

	if (r == 0)
		r = list(l, IPAM_KEY_AFFINITIES, &affinities, err);
	if (r == 0)
		r = list(l, key_prefix(KIND_NODE, NULL, prefix), &nodes, err);
	for (size_t i = 0; r == 0 && i < l->blocks.n; i++) {
		auto_(ipam_block) struct ipam_block *b = NULL;

		if (ipam_block_decode(l->blocks.v[i].value, l->blocks.v[i].len, &b, NULL) == 0)
			see_block(l, b);
	}
	for (size_t i = 0; r == 0 && i < affinities.n; i++)
		if (ipam_key_parse_affinity(affinities.v[i].key, host, &cidr))
			(void)need_holder(l, host);
	for (size_t i = 0; r == 0 && i < nodes.n; i++) {
		struct holder *h;
		struct key key;

		h = key_parse(nodes.v[i].key, &key) ? find_holder(l, key.name) : NULL;
		if (h)
			h->there = true;
	}
	store_list_done(&affinities);
	store_list_done(&nodes);
	return r;
}

/*
 * What it had.
 */

/* Before each write: EEXIST: it is there again. */
static int ask_again(struct look *l, const char *name, struct err *err)
{
	int64_t now = clock_mono_ms();
	char key[KEY_SIZE];
	struct store_kv kv;
	int r;

	if (now - l->asked_ms < AGAIN_MS)
		return 0;
	r = store_get_wait(l->st, key_format(KIND_NODE, NULL, name, key), now + AGAIN_MS, &kv, err);
	if (r == 0) {
		store_kv_done(&kv);
		return err_set(err, -EEXIST, "node %s is there again", name);
	}
	if (r == -ENOENT)
		l->asked_ms = now;
	return r == -ENOENT ? 0 : r;
}

/* Consumes rq. 1: it is not so any more. */
static int run(struct look *l, struct ipam_request *rq, const char *name, struct err *err)
{
	int r = ask_again(l, name, err);

	if (r == 0)
		r = ipam_run(l->st, rq, l->asked_ms + WRITE_MS, err);
	ipam_request_free(rq);
	return r == -ENOENT || r == -ESTALE || r == -EBUSY ? 1 : r;
}

static int free_block(struct look *l, const struct ipam_block *b, const char *name, struct err *err)
{
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < b->size; i++) {
		const struct ipam_block_attr *a = b->alloc[i] < 0 ? NULL : &b->attrs.v[b->alloc[i]];
		const char *of = a ? holder_of(a) : NULL;
		struct ip ip;

		if (!of || strcmp(of, name) != 0 || !ip_add(&b->cidr.addr, i, &ip))
			continue;
		r = run(l,
			ipam_release_allocation_new(
				&ip, a->handle, b->alloc_seq[i], clock_real_ns()),
			name, err);
		if (r != 0)
			continue;
		shared_add(&l->g->home->shared->freed_gone);
		log_info("%s (handle %s) of node %s, which is gone, is free", ip_str(&ip),
			a->handle, name);
	}
	return r < 0 ? r : 0;
}

static int free_blocks(struct look *l, const char *name, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < l->blocks.n; i++) {
		const struct store_kv *kv = &l->blocks.v[i];
		auto_(ipam_block) struct ipam_block *b = NULL;

		if (ipam_block_decode(kv->value, kv->len, &b, NULL) == 0)
			r = free_block(l, b, name, err);
	}
	return r;
}

/* Kubernetes' are parts of its Pods, which it deletes itself. */
static int free_endpoints(struct look *l, const char *name, struct err *err)
{
	struct store_list weps = {0};
	char prefix[KEY_SIZE];
	int r = store_is_managed(l->st)
			? 0
			: list(l, key_prefix(KIND_WORKLOADENDPOINT, NULL, prefix), &weps, err);

	for (size_t i = 0; r == 0 && i < weps.n; i++) {
		const struct store_kv *kv = &weps.v[i];
		auto_(wep) struct wep *w = NULL;

		if (wep_decode(kv->key, kv->value, kv->len, &w, NULL) < 0 || !w->node ||
			strcmp(w->node, name) != 0)
			continue;
		r = ask_again(l, name, err);
		if (r == 0)
			r = store_delete_wait(
				l->st, kv->key, kv->rev, NULL, l->asked_ms + WRITE_MS, err);
		if (r == -ENOENT || r == -ESTALE)
			r = 0;
	}
	store_list_done(&weps);
	return r;
}

/* Endpoints before addresses, so that nobody routes to what is another's; and blocks when they are empty. */
static int free_node(struct look *l, const char *name, int64_t absent_s, struct err *err)
{
	auto_free char *reserve = replay_reserve_handle(name);
	int r;

	l->asked_ms = clock_mono_ms() - AGAIN_MS;
	r = ask_again(l, name, err);
	if (r == 0)
		log_warn("node %s is not in the datastore for %jd s: what it held is given back",
			name, (intmax_t)absent_s);
	if (r == 0)
		r = free_endpoints(l, name, err);
	if (r == 0)
		r = free_blocks(l, name, err);
	if (r == 0)
		r = run(l, ipam_drop_handle_new(reserve, clock_real_ns()), name, err);
	if (r >= 0)
		r = run(l, ipam_unclaim_new(NULL, name, false, clock_real_ns()), name, err);
	return r < 0 ? r : 0;
}

/* What cannot be done for one does not keep back the others. */
static void free_gone(struct look *l, size_t rank)
{
	const int64_t wait_s = l->g->after_s + (int64_t)rank * LATER_S, now_s = boot_uptime_s();
	struct holder *h;

	hmap_for_each (h, &l->holders, node) {
		struct err e = ERR_INIT;
		int64_t absent_s;

		if (h->there)
			continue;
		absent_s = absent_see(&l->g->absent, h->name, &h->holds, now_s);
		if (absent_s >= wait_s && free_node(l, h->name, absent_s, &e) < 0)
			log_warn("what node %s held: %s: it is tried again", h->name, err_text(&e));
	}
	absent_forget(&l->g->absent, now_s);
}

static void look_done(struct look *l)
{
	struct holder *h;

	hmap_for_each (h, &l->holders, node) {
		hmap_remove(&l->holders, &h->node);
		free(h->name);
		free(h);
	}
	hmap_done(&l->holders);
	store_list_done(&l->blocks);
}

int gone_work(struct gone *g, struct store *st, struct err *err)
{
	struct look l = {.g = g, .st = st};
	size_t rank;
	int r;

	if (clock_mono_ms() < g->due_ms)
		return 0;
	r = find_rank(&l, &rank, err);
	if (r < 0)
		return r;
	g->due_ms = clock_mono_ms() + RANK_EVERY_MS;
	if (rank == N_LOOKERS)
		return 0;
	g->due_ms = clock_mono_ms() + LOOK_EVERY_MS;
	r = see_holders(&l, err);
	if (r == 0) {
		free_gone(&l, rank);
		r = absent_save(&g->absent, g->path, g->boot, err);
	}
	look_done(&l);
	return r;
}
