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
#include "ipam/node.h"
#include "model/ipam.h"
#include "model/key.h"
#include "model/meta.h"
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

void gone_free(struct gone *g)
{
	absent_done(&g->absent);
	free(g->path);
	free(g);
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

/* Of their sum: one that is given back and another one that is taken are a change. */
static uint64_t weight(const struct ipam_node_addr *a)
{
	const uint8_t *last = a->ip.b + ip_n_bytes(&a->ip) - 2;

	return (a->seq + 1) * (((uint64_t)last[0] << 8 | last[1]) + 1);
}

static void see_block(struct look *l, const struct ipam_block *b)
{
	for (uint32_t i = 0; i < b->size; i++) {
		struct ipam_node_addr a;
		struct holder *h = ipam_node_addr(b, i, &a) ? need_holder(l, a.node) : NULL;

		if (!h)
			continue;
		h->holds.n++;
		h->holds.sum += weight(&a);
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
	const struct absent_node *a;
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
	/* Without an address or a block it may have a handle left. */
	vec_for_each (&l->g->absent.v, a)
		if (a->begun)
			(void)need_holder(l, a->name);
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
struct release {
	struct gone *g;
	struct store *st;
	struct holder *h;
	int64_t asked_ms; /* when it was seen to be gone */
	bool is_back;
};

/* Until WRITE_MS after it was seen to be gone, which is asked anew after AGAIN_MS. */
static int may_write(void *arg, int64_t *ret_deadline_ms, struct err *err)
{
	struct release *rl = arg;
	const int64_t now = clock_mono_ms();
	char key[KEY_SIZE];
	struct store_kv kv;
	int r;

	if (now - rl->asked_ms >= AGAIN_MS) {
		r = store_get_wait(rl->st, key_format(KIND_NODE, NULL, rl->h->name, key),
			now + AGAIN_MS, &kv, err);
		if (r == 0) {
			store_kv_done(&kv);
			rl->is_back = true;
			r = err_set(err, -EEXIST, "node %s is there again", rl->h->name);
		}
		if (r != -ENOENT)
			return r;
		rl->asked_ms = now;
	}
	*ret_deadline_ms = rl->asked_ms + WRITE_MS;
	return 0;
}

static void freed(void *arg, const struct ipam_node_addr *a)
{
	const struct release *rl = arg;

	rl->h->holds.n--;
	rl->h->holds.sum -= weight(a);
	shared_add(&rl->g->home->shared->freed_gone);
	log_info("%s (handle %s) of node %s, which is gone, is free", ip_str(&a->ip), a->handle,
		a->node);
}

static void save(const struct gone *g)
{
	struct err err = ERR_INIT;

	if (absent_save(&g->absent, g->path, g->boot, &err) < 0)
		log_warn("since when nodes are absent: %s: a restart begins the time anew",
			err_text(&err));
}

/* Whoever ends in between goes on with it. */
static void free_node(struct look *l, struct holder *h, int64_t absent_s)
{
	struct release rl = {.g = l->g, .st = l->st, .h = h, .asked_ms = -AGAIN_MS};
	const struct ipam_node_ops ops = {.may_write = may_write, .freed = freed, .arg = &rl};
	struct err e = ERR_INIT;
	int64_t deadline_ms;
	int r = may_write(&rl, &deadline_ms, &e);

	if (r == 0) {
		log_warn("node %s is not in the datastore for %jd s: what it held is given back",
			h->name, (intmax_t)absent_s);
		absent_begin(&l->g->absent, h->name, &h->holds);
		save(l->g);
		r = ipam_node_release(l->st, h->name, &l->blocks, &ops, &e);
		absent_begin(&l->g->absent, h->name, &h->holds);
	}
	if (r >= 0 || rl.is_back)
		absent_drop(&l->g->absent, h->name);
	if (r < 0)
		log_warn("what node %s held: %s: it is tried again", h->name, err_text(&e));
}

/* What cannot be done for one does not keep back the others. */
static void free_gone(struct look *l, size_t rank)
{
	const int64_t wait_s = l->g->after_s + (int64_t)rank * LATER_S, now_s = boot_uptime_s();
	struct holder *h;

	hmap_for_each (h, &l->holders, node) {
		int64_t absent_s;

		if (h->there) {
			absent_drop(&l->g->absent, h->name);
			continue;
		}
		absent_s = absent_see(&l->g->absent, h->name, &h->holds, now_s);
		if (absent_s >= wait_s)
			free_node(l, h, absent_s);
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
		save(g);
	}
	look_done(&l);
	return r;
}
