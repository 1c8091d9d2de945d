/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "maps"
#include "proxy/maps.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/hmap.h"
#include "base/list.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/vec.h"
#include "kern/nft_map.h"
#include "proxy/image.h"
#include "proxy/stale.h"

#define CHAIN_PREROUTING "nat-prerouting"
#define CHAIN_OUTPUT "nat-output"
#define PRIORITY_DSTNAT (-100)
#define CLIENTS_MAX (1024 * 1024)
#define CHAIN_NAME_SIZE 32
#define STRAYS_MAX 1024 /* at a time */

enum { MAP_SERVICES, MAP_ENDPOINTS, MAP_NUMBERS, MAP_NUMBERED, MAP_CLIENTS, N_MAPS };
#define N_READ MAP_CLIENTS /* that one is the kernel's own */

#define FRONT NFT_FIELD_DADDR, NFT_FIELD_PROTOCOL, NFT_FIELD_DPORT

static const struct nft_map maps[N_MAPS] = {
	[MAP_SERVICES] = {.name = "services", .key = {FRONT}},
	[MAP_ENDPOINTS] = {.name = "endpoints",
		.key = {FRONT, NFT_FIELD_RANDOM},
		.data = {NFT_FIELD_DADDR, NFT_FIELD_DPORT}},
	[MAP_NUMBERS] = {.name = "numbers",
		.key = {FRONT, NFT_FIELD_RANDOM},
		.data = {NFT_FIELD_PRIORITY}},
	[MAP_NUMBERED] = {.name = "numbered",
		.key = {FRONT, NFT_FIELD_PRIORITY},
		.data = {NFT_FIELD_DADDR, NFT_FIELD_DPORT}},
	[MAP_CLIENTS] = {.name = "clients",
		.key = {NFT_FIELD_SADDR, FRONT},
		.data = {NFT_FIELD_PRIORITY},
		.size = CLIENTS_MAX,
		.dynamic = true},
};

#define KEY_MAX (16 + 4 + 4 + 4)
#define DATA_MAX (16 + 4)

static const enum ip_family families[2] = {IP_V4, IP_V6};
static const uint16_t nf_families[2] = {NFPROTO_IPV4, NFPROTO_IPV6};

/* A chain that virtual servers lead to. */
struct chain {
	struct hmap_node node;
	uint32_t n, affinity_s;
	bool have, used;
};

/* An element that is nobody's: its slot is none. */
struct stray {
	int map;
	uint8_t key[KEY_MAX];
};

struct table {
	bool unknown;
	bool there; /* a table of our name is */
	bool right; /* and its maps, chains and rules are ours */
	bool known; /* it was read, or written, before */
	bool read;  /* since chains that nothing leads to were deleted */
	struct hmap chains;
	VEC(struct stray) strays;
};

struct entry {
	struct hmap_node node;
	struct vserver_key key;
	bool wanted;
	bool failed;		     /* since the last retry; it stays dirty, and waits for that */
	bool doubted;		     /* the kernel was found to hold something else: it is read */
	uint32_t affinity_s;	     /* as wanted */
	VEC(struct calc_dest) dests; /* as wanted, sorted */
	VEC(struct calc_dest) gone;  /* wanted once: until deletions are allowed */
	struct image is;	     /* as the kernel has it */
	struct image was;	     /* before it was read, while it is */
	struct list dirty;
};

/* One entry's part of a transaction. */
struct op {
	struct entry *e;
	struct image want;
	bool anew; /* its table is: nothing of it is there */
	int r;
	struct err err;
};

struct maps {
	struct backend backend;
	struct nft *nft;
	struct stale *stale;
	bool deletes; /* what was never wanted may be deleted */
	struct table tables[2];
	struct hmap entries;
	struct list dirty;
	VEC(struct op) ops;
	int failed; /* since the last retry: the first, */
	struct err err;
	unsigned n_failed; /* and how many */
};

static const struct backend_ops ops;

struct maps *maps_new(struct conntrack *ct)
{
	struct maps *m = mem_new(struct maps);

	m->backend.ops = &ops;
	m->stale = stale_new(ct);
	m->tables[0].unknown = m->tables[1].unknown = true;
	list_init(&m->dirty);
	return m;
}

void maps_use(struct maps *m, struct nft *n)
{
	m->nft = n;
}

struct backend *maps_backend(struct maps *m)
{
	return &m->backend;
}

static struct maps *of(struct backend *b)
{
	return container_of(b, struct maps, backend);
}

static void free_entry(struct maps *m, struct entry *e)
{
	hmap_remove(&m->entries, &e->node);
	list_del(&e->dirty);
	vec_done(&e->dests);
	vec_done(&e->gone);
	image_done(&e->is);
	image_done(&e->was);
	free(e);
}

static void forget_chains(struct table *t)
{
	struct chain *c;

	hmap_for_each (c, &t->chains, node) {
		hmap_remove(&t->chains, &c->node);
		free(c);
	}
}

void maps_free(struct maps *m)
{
	struct entry *e;

	if (!m)
		return;
	hmap_for_each (e, &m->entries, node)
		free_entry(m, e);
	hmap_done(&m->entries);
	for (int i = 0; i < 2; i++) {
		forget_chains(&m->tables[i]);
		hmap_done(&m->tables[i].chains);
		vec_done(&m->tables[i].strays);
	}
	vec_done(&m->ops);
	stale_free(m->stale);
	free(m);
}

/* ---- the wanted set ---- */

static int index_of(const struct entry *e)
{
	return e->key.ip.family == IP_V6;
}

static struct entry *find(const struct maps *m, const struct vserver_key *key)
{
	struct entry *e;

	hmap_for_each_hash (e, &m->entries, hash_bytes(key, sizeof(*key)), node)
		if (memcmp(&e->key, key, sizeof(*key)) == 0)
			return e;
	return NULL;
}

static struct entry *get(struct maps *m, const struct vserver_key *key)
{
	struct entry *e = find(m, key);

	if (e)
		return e;
	e = mem_new(struct entry);
	e->key = *key;
	list_init(&e->dirty);
	hmap_insert(&m->entries, &e->node, hash_bytes(key, sizeof(*key)));
	return e;
}

static void mark_dirty(struct maps *m, struct entry *e)
{
	list_del(&e->dirty);
	list_add_tail(&m->dirty, &e->dirty);
}

static bool has(const struct calc_dest *v, size_t n, const struct calc_dest *d)
{
	for (size_t i = 0; i < n; i++)
		if (image_compare_dests(&v[i], d) == 0)
			return true;
	return false;
}

/* What is there and never was wanted stays until deletions are allowed: so remember what was. */
static void unwant(const struct maps *m, struct entry *e)
{
	const struct calc_dest *d;

	if (!m->deletes)
		vec_for_each (&e->dests, d)
			if (!has(e->gone.v, e->gone.n, d))
				vec_push(&e->gone, *d);
	e->dests.n = 0;
	e->failed = e->doubted = false;
}

static void set(struct backend *b, const struct vserver_key *key, const struct calc_server *server)
{
	struct maps *m = of(b);
	struct entry *e = get(m, key);

	unwant(m, e);
	if (e->dests.cap < server->n_dests)
		vec_reserve(&e->dests, server->n_dests);
	for (size_t i = 0; i < server->n_dests; i++)
		vec_push(&e->dests, server->dests[i]);
	e->affinity_s = server->affinity_s;
	b->stats.wanted += !e->wanted;
	e->wanted = true;
	mark_dirty(m, e);
}

static void unset(struct backend *b, const struct vserver_key *key)
{
	struct maps *m = of(b);
	struct entry *e = find(m, key);

	if (!e || !e->wanted)
		return;
	unwant(m, e);
	e->wanted = false;
	b->stats.wanted--;
	mark_dirty(m, e);
}

static void allow_deletes(struct backend *b)
{
	struct maps *m = of(b);
	struct entry *e;

	m->deletes = true;
	hmap_for_each (e, &m->entries, node) { /* what was kept is looked at again */
		vec_done(&e->gone);
		mark_dirty(m, e);
	}
	m->tables[0].read = m->tables[1].read = true;
}

static void mark_unknown(struct backend *b)
{
	struct maps *m = of(b);

	m->tables[0].unknown = m->tables[1].unknown = true;
}

bool maps_event(struct maps *m, const char *table)
{
	if (table && strcmp(table, MAPS_TABLE) != 0)
		return false;
	mark_unknown(&m->backend);
	return true;
}

/* ---- chains and rules ---- */

static const char *chain_name(uint32_t n, uint32_t affinity_s, char buf[static CHAIN_NAME_SIZE])
{
	if (affinity_s == 0)
		snprintf(buf, CHAIN_NAME_SIZE, "random-%u", n);
	else
		snprintf(buf, CHAIN_NAME_SIZE, "sticky-%u-%us", n, affinity_s);
	return buf;
}

static bool parse_chain_name(const char *name, uint32_t *ret_n, uint32_t *ret_affinity_s)
{
	char buf[CHAIN_NAME_SIZE], copy[CHAIN_NAME_SIZE];
	const char *number = strchr(name, '-');
	char *end;

	*ret_affinity_s = 0;
	if (!number || strlen(name) >= sizeof(copy))
		return false;
	strcpy(copy, number + 1);
	end = strchr(copy, '-');
	if (end) {
		*end++ = '\0';
		end[strcspn(end, "s")] = '\0';
		if (parse_u32(end, 1, UINT32_MAX, ret_affinity_s, NULL) < 0)
			return false;
	}
	return parse_u32(copy, 1, MAPS_ENDPOINTS_MAX, ret_n, NULL) == 0 &&
	       strcmp(chain_name(*ret_n, *ret_affinity_s, buf), name) == 0;
}

static void add_sticky_rules(struct nft_ruleset *rs, enum ip_family family, const char *name,
	uint32_t n, uint32_t affinity_s)
{
	uint64_t timeout_ms = (uint64_t)affinity_s * 1000;
	struct nftnl_rule *r = nft_rule(rs, name);

	nft_set_priority_by_map(r, family, &maps[MAP_CLIENTS], 0);
	nft_update_map(r, family, NFT_UPDATE_RENEW, &maps[MAP_CLIENTS], timeout_ms);
	nft_dnat_by_map(r, family, &maps[MAP_NUMBERED], 0);
	/* A new client, or one whose endpoint has gone. What fails here ends its own rule alone. */
	if (n > 1)
		nft_set_priority_by_map(nft_rule(rs, name), family, &maps[MAP_NUMBERS], 1);
	nft_set_priority_by_map(nft_rule(rs, name), family, &maps[MAP_NUMBERS], n);
	nft_update_map(
		nft_rule(rs, name), family, NFT_UPDATE_DELETE, &maps[MAP_CLIENTS], timeout_ms);
	nft_update_map(nft_rule(rs, name), family, NFT_UPDATE_ADD, &maps[MAP_CLIENTS], timeout_ms);
	nft_dnat_by_map(nft_rule(rs, name), family, &maps[MAP_NUMBERED], 0);
}

static void add_chain(
	struct nft_ruleset *rs, enum ip_family family, uint32_t n, uint32_t affinity_s)
{
	char name[CHAIN_NAME_SIZE];

	nft_chain(rs, chain_name(n, affinity_s, name));
	if (affinity_s > 0) {
		add_sticky_rules(rs, family, name, n, affinity_s);
		return;
	}
	nft_dnat_by_map(nft_rule(rs, name), family, &maps[MAP_ENDPOINTS], n);
	if (n > 1)
		nft_dnat_by_map(nft_rule(rs, name), family, &maps[MAP_ENDPOINTS], 1);
}

static void add_base(struct nft_ruleset *rs, enum ip_family family, const char *name, uint32_t hook)
{
	nft_base_chain(rs, name, "nat", hook, PRIORITY_DSTNAT);
	nft_goto_by_map(nft_rule(rs, name), family, &maps[MAP_SERVICES]);
}

static struct nft_ruleset *new_ruleset(int i)
{
	return nft_ruleset_new(nf_families[i], MAPS_TABLE);
}

static void add_maps(struct nft_ruleset *rs, enum ip_family family)
{
	for (size_t k = 0; k < N_MAPS; k++)
		nft_map(rs, family, &maps[k]);
}

static struct chain *get_chain(struct table *t, uint32_t n, uint32_t affinity_s)
{
	const uint32_t key[2] = {n, affinity_s};
	uint64_t hash = hash_bytes(key, sizeof(key));
	struct chain *c;

	hmap_for_each_hash (c, &t->chains, hash, node)
		if (c->n == n && c->affinity_s == affinity_s)
			return c;
	c = mem_new(struct chain);
	c->n = n;
	c->affinity_s = affinity_s;
	hmap_insert(&t->chains, &c->node, hash);
	return c;
}

/* ---- reading ---- */

/* What the table should be, given which chains it has; and notes these. NULL: one is none of ours. */
static struct nft_ruleset *expected(struct table *t, int i, const struct nft_ruleset *have)
{
	auto_(nft_ruleset) struct nft_ruleset *rs = new_ruleset(i);
	unsigned n_base = 0;

	add_maps(rs, families[i]);
	for (size_t k = 0; k < have->chains.n; k++) {
		const char *name = nft_chain_name(have, k);
		uint32_t n, affinity_s;

		if (strcmp(name, CHAIN_PREROUTING) == 0) {
			add_base(rs, families[i], name, NF_INET_PRE_ROUTING);
			n_base++;
		} else if (strcmp(name, CHAIN_OUTPUT) == 0) {
			add_base(rs, families[i], name, NF_INET_LOCAL_OUT);
			n_base++;
		} else if (parse_chain_name(name, &n, &affinity_s)) {
			get_chain(t, n, affinity_s)->have = true;
			add_chain(rs, families[i], n, affinity_s);
		} else {
			return NULL;
		}
	}
	return n_base == 2 ? take_ptr(rs) : NULL;
}

struct reading {
	struct maps *m;
	int i, map;
};

static void set_dest(struct entry *e, bool numbered, size_t at, const struct calc_dest *d)
{
	__typeof__(e->is.endpoints) *v =
		(void *)(numbered ? (void *)&e->is.numbered : (void *)&e->is.endpoints);

	while (v->n <= at)
		vec_push(v, (struct calc_dest){.port = 0});
	v->v[at] = *d;
}

static void add_stray(const struct reading *rd, const uint8_t *key, size_t len)
{
	struct table *t = &rd->m->tables[rd->i];
	struct stray s = {.map = rd->map};

	if (t->strays.n == STRAYS_MAX)
		return;
	memcpy(s.key, key, len);
	vec_push(&t->strays, s);
}

static size_t front_len(int i)
{
	return (i ? 16 : 4) + 4 + 4;
}

static uint16_t get_port(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void on_element(void *arg, const uint8_t *key, size_t key_len, const uint8_t *data,
	size_t data_len, const char *chain)
{
	const struct reading *rd = arg;
	size_t addr_len = rd->i ? 16 : 4, len = front_len(rd->i);
	struct vserver_key k;
	struct calc_dest d;
	struct entry *e;
	uint32_t at = 0, number;

	if (key_len < len)
		return;
	memset(&k, 0, sizeof(k));
	k.ip = ip_from_bytes(rd->i ? AF_INET6 : AF_INET, key);
	k.protocol = key[addr_len];
	k.port = get_port(key + addr_len + 4);
	if (rd->map != MAP_SERVICES) {
		if (key_len != len + 4)
			return;
		memcpy(&at, key + len, sizeof(at));
		if (at >= MAPS_ENDPOINTS_MAX) {
			add_stray(rd, key, key_len);
			return;
		}
	}
	e = get(rd->m, &k);
	if (rd->map == MAP_SERVICES) {
		if (!chain || !parse_chain_name(chain, &e->is.n, &e->is.affinity_s))
			e->is.n = IMAGE_ELSEWHERE;
	} else if (rd->map == MAP_NUMBERS && data_len == sizeof(number)) {
		memcpy(&number, data, sizeof(number));
		while (e->is.numbers.n <= at)
			vec_push(&e->is.numbers, 0);
		e->is.numbers.v[at] = number < MAPS_ENDPOINTS_MAX ? number + 1 : UINT32_MAX;
	} else if (rd->map != MAP_NUMBERS && data_len == addr_len + 4) {
		d.ip = ip_from_bytes(rd->i ? AF_INET6 : AF_INET, data);
		d.port = get_port(data + addr_len);
		set_dest(e, rd->map == MAP_NUMBERED, at, &d);
	}
}

/* Forgets what was read of one map. */
static void on_restart(void *arg)
{
	const struct reading *rd = arg;
	struct entry *e;

	hmap_for_each (e, &rd->m->entries, node) {
		if (index_of(e) != rd->i)
			continue;
		if (rd->map == MAP_SERVICES)
			e->is.n = e->is.affinity_s = 0;
		else if (rd->map == MAP_ENDPOINTS)
			e->is.endpoints.n = 0;
		else if (rd->map == MAP_NUMBERED)
			e->is.numbered.n = 0;
		else
			e->is.numbers.n = 0;
	}
	rd->m->tables[rd->i].strays.n = 0;
}

static int read_maps(struct maps *m, int i, const struct nft_ruleset *have, struct err *err)
{
	auto_(nft_ruleset) struct nft_ruleset *want = new_ruleset(i);
	int r = 0;

	add_maps(want, families[i]);
	for (int k = 0; k < N_READ && r == 0; k++) {
		struct reading rd = {.m = m, .i = i, .map = k};

		if (nft_same_set(have, want, maps[k].name))
			r = nft_map_read(m->nft, nf_families[i], MAPS_TABLE, maps[k].name,
				on_element, on_restart, &rd, err);
	}
	return r;
}

/* What is believed is put aside, or back where it could not be read. */
static void swap_images(struct maps *m, int i)
{
	struct entry *e;

	hmap_for_each (e, &m->entries, node) {
		struct image tmp = e->is;

		if (index_of(e) != i)
			continue;
		e->is = e->was;
		e->was = tmp;
	}
}

/* Drops what was put aside, and tells how much of it was otherwise. */
static size_t settle_images(struct maps *m, int i)
{
	struct entry *e;
	size_t n = 0;

	hmap_for_each (e, &m->entries, node) {
		if (index_of(e) != i)
			continue;
		n += !image_equal(&e->is, &e->was);
		image_done(&e->was);
		if (!e->wanted && image_is_empty(&e->is))
			free_entry(m, e);
		else
			mark_dirty(m, e);
	}
	return n;
}

static int64_t count_installed(const struct maps *m)
{
	const struct entry *e;
	int64_t n = 0;

	hmap_for_each (e, &m->entries, node)
		n += e->is.n > 0;
	return n;
}

static int read_table(struct maps *m, int i, struct err *err)
{
	auto_(nft_ruleset) struct nft_ruleset *have = NULL, *want = NULL;
	struct table *t = &m->tables[i];
	bool was_right = t->right;
	size_t n_other;
	int r;

	m->backend.stats.reads++;
	r = nft_read_frame(m->nft, nf_families[i], MAPS_TABLE, &have, err);
	if (r < 0)
		return r;
	forget_chains(t);
	t->strays.n = 0;
	t->there = have->chains.n > 0 || have->sets.n > 0 || have->flags;
	want = expected(t, i, have);
	t->right = want && nft_equal(have, want);
	swap_images(m, i);
	r = read_maps(m, i, have, err);
	if (r < 0) {
		swap_images(m, i);
		(void)settle_images(m, i);
		return r;
	}
	n_other = settle_images(m, i) + t->strays.n;
	if (t->known && (n_other > 0 || (was_right && !t->right))) {
		log_warn("somebody else changed the nftables table %s: %zu of its entries, %s",
			MAPS_TABLE, n_other, t->right ? "no rule" : "or rules");
		m->backend.stats.repaired += n_other > 0 ? n_other : 1;
	}
	m->backend.stats.installed = count_installed(m);
	t->unknown = false;
	t->known = t->read = true;
	return 0;
}

/* ---- planning ---- */

/* Adds what is there, never was wanted, and may not be deleted. */
static void add_kept(struct entry *e, const struct calc_dest *v, size_t n, struct image *all)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].ip.family != IP_NONE && !has(all->endpoints.v, all->endpoints.n, &v[i]) &&
			!has(e->gone.v, e->gone.n, &v[i]))
			vec_push(&all->endpoints, v[i]);
}

/* False: it stays as it is. */
static bool plan(const struct maps *m, struct entry *e, struct image *ret)
{
	struct image all = {0}; /* its endpoints, in any order */

	if (e->dests.n == 0 && !m->deletes)
		return false;
	for (size_t i = 0; i < e->dests.n; i++)
		vec_push(&all.endpoints, e->dests.v[i]);
	if (!m->deletes) {
		add_kept(e, e->is.endpoints.v, e->is.endpoints.n, &all);
		add_kept(e, e->is.numbered.v, e->is.numbered.n, &all);
	}
	image_plan(&e->is, all.endpoints.v, all.endpoints.n, e->affinity_s, ret);
	image_done(&all);
	return true;
}

static size_t image_size(const struct image *im)
{
	return 1 + im->endpoints.n + im->numbered.n + im->numbers.n;
}

static void fail(struct maps *m, struct entry *e, int r, const struct err *err)
{
	e->failed = true;
	m->backend.stats.failed++;
	if (m->n_failed++ > 0)
		return;
	m->failed = r;
	m->err = *err;
	err_wrap(&m->err, r, "virtual server %s", vserver_key_str(&e->key));
}

static bool is_too_large(struct maps *m, struct entry *e)
{
	struct err err;

	if (e->dests.n <= MAPS_ENDPOINTS_MAX)
		return false;
	err_set(&err, -E2BIG, "%zu endpoints, want at most %d", e->dests.n, MAPS_ENDPOINTS_MAX);
	fail(m, e, -E2BIG, &err);
	return true;
}

static void add_op(struct maps *m, struct entry *e, const struct image *take, bool anew)
{
	struct op op = {.e = e, .want = *take, .anew = anew};

	vec_push(&m->ops, op);
}

/* False: nothing is to be done for it. */
static bool plan_one(struct maps *m, struct entry *e, bool anew, struct image *ret)
{
	if ((anew && e->failed) || !plan(m, e, ret)) {
		if (!anew)
			return false;
		image_copy(ret, &e->is);
	}
	if (anew ? !image_is_empty(ret) || !image_is_empty(&e->is) : !image_equal(&e->is, ret))
		return true;
	image_done(ret);
	return false;
}

/* Those that differ, until there is enough for a transaction. A table that is written anew in place of
 * one that is there has all of its virtual servers at once: none is missed for a moment. */
static void plan_dirty(struct maps *m, bool *more)
{
	size_t size = 0;
	struct entry *e, *tmp;
	struct image want;

	m->ops.n = 0;
	list_for_each_safe (e, tmp, &m->dirty, dirty) {
		const struct table *t = &m->tables[index_of(e)];
		bool anew = t->there && !t->right;

		if (t->unknown || (e->failed && !anew))
			continue;
		if (!anew && size >= MAPS_BATCH) {
			*more = true;
			continue;
		}
		if (!e->failed && is_too_large(m, e) && !anew)
			continue;
		if (plan_one(m, e, anew, &want)) {
			size += image_size(&want);
			add_op(m, e, &want, anew || !t->there);
			continue;
		}
		if (!e->failed)
			list_del(&e->dirty);
		if (!e->wanted && image_is_empty(&e->is))
			free_entry(m, e);
	}
}

/* ---- writing ---- */

/* Cookies; those of entries follow. 0 is the transaction itself. */
enum { COOKIE_PART = 1, COOKIE_ENTRY };

static size_t put_front(const struct entry *e, uint8_t key[static KEY_MAX])
{
	size_t n = ip_n_bytes(&e->key.ip);

	memset(key, 0, KEY_MAX);
	memcpy(key, e->key.ip.b, n);
	key[n] = e->key.protocol;
	key[n + 4] = (uint8_t)(e->key.port >> 8);
	key[n + 5] = (uint8_t)e->key.port;
	return n + 8;
}

/* The elements at whose place both are not the same: a's are deleted, b's added. */
struct change {
	struct maps *m;
	const struct entry *e;
	uintptr_t cookie;
	bool add;
	uint8_t key[KEY_MAX];
	size_t len; /* of the key, without a slot or number */
};

static void begin_map(struct change *c, int map)
{
	nft_elements_begin(c->m->nft, c->add, nf_families[index_of(c->e)], MAPS_TABLE,
		maps[map].name, c->cookie);
}

static void count(struct change *c)
{
	struct backend_stats *st = &c->m->backend.stats;

	*(c->add ? &st->written : &st->deleted) += 1;
}

static void put_at(struct change *c, size_t at, const void *data, size_t data_len)
{
	uint32_t n = (uint32_t)at;

	memcpy(c->key + c->len, &n, sizeof(n));
	nft_element(c->m->nft, c->key, c->len + sizeof(n), data, c->add ? data_len : 0);
	count(c);
}

static void change_dests(struct change *c, int map, const struct calc_dest *a, size_t n_a,
	const struct calc_dest *b, size_t n_b)
{
	begin_map(c, map);
	for (size_t i = 0; i < (c->add ? n_b : n_a); i++) {
		const struct calc_dest *d = c->add ? &b[i] : &a[i];
		const struct calc_dest *other =
			c->add ? (i < n_a ? &a[i] : NULL) : (i < n_b ? &b[i] : NULL);
		uint8_t data[DATA_MAX] = {0};
		size_t n = ip_n_bytes(&d->ip);

		if (d->ip.family == IP_NONE || (other && image_compare_dests(d, other) == 0))
			continue;
		memcpy(data, d->ip.b, n);
		data[n] = (uint8_t)(d->port >> 8);
		data[n + 1] = (uint8_t)d->port;
		put_at(c, i, data, n + 4);
	}
	nft_elements_end(c->m->nft);
}

static void change_numbers(struct change *c, const struct image *a, const struct image *b)
{
	const struct image *from = c->add ? b : a, *to = c->add ? a : b;

	begin_map(c, MAP_NUMBERS);
	for (size_t i = 0; i < from->numbers.n; i++) {
		uint32_t number = from->numbers.v[i] - 1;

		if (from->numbers.v[i] > 0 &&
			(i >= to->numbers.n || to->numbers.v[i] != from->numbers.v[i]))
			put_at(c, i, &number, sizeof(number));
	}
	nft_elements_end(c->m->nft);
}

static void change_service(struct change *c, const struct image *a, const struct image *b)
{
	char chain[CHAIN_NAME_SIZE];

	if ((a->n == b->n && a->affinity_s == b->affinity_s) || (c->add ? b : a)->n == 0)
		return;
	begin_map(c, MAP_SERVICES);
	if (c->add)
		nft_element_goto(c->m->nft, c->key, c->len, chain_name(b->n, b->affinity_s, chain));
	else
		nft_element(c->m->nft, c->key, c->len, NULL, 0);
	nft_elements_end(c->m->nft);
	count(c);
}

static void put_changes(struct maps *m, const struct op *op, uintptr_t cookie)
{
	static const struct image none;
	const struct image *a = op->anew ? &none : &op->e->is, *b = &op->want;
	struct change c = {.m = m, .e = op->e, .cookie = cookie};

	c.len = put_front(op->e, c.key);
	for (int add = 0; add < 2; add++) {
		c.add = add;
		change_service(&c, a, b);
		change_dests(&c, MAP_ENDPOINTS, a->endpoints.v, a->endpoints.n, b->endpoints.v,
			b->endpoints.n);
		change_dests(&c, MAP_NUMBERED, a->numbered.v, a->numbered.n, b->numbered.v,
			b->numbered.n);
		change_numbers(&c, a, b);
	}
}

/* What is not there of the table, and of chains that are needed. */
static void put_frame(struct maps *m, int i)
{
	auto_(nft_ruleset) struct nft_ruleset *rs = new_ruleset(i);
	struct table *t = &m->tables[i];
	bool any = false;

	if (!t->right) {
		if (t->there)
			nft_put_no_table(m->nft, nf_families[i], MAPS_TABLE, COOKIE_PART);
		forget_chains(t);
		add_maps(rs, families[i]);
		add_base(rs, families[i], CHAIN_PREROUTING, NF_INET_PRE_ROUTING);
		add_base(rs, families[i], CHAIN_OUTPUT, NF_INET_LOCAL_OUT);
		any = true;
	}
	for (size_t k = 0; k < m->ops.n; k++) {
		const struct op *op = &m->ops.v[k];
		struct chain *c;

		if (index_of(op->e) != i || op->want.n == 0 || op->want.n == IMAGE_ELSEWHERE)
			continue;
		c = get_chain(t, op->want.n, op->want.affinity_s);
		if (c->have || c->used)
			continue;
		c->used = any = true;
		add_chain(rs, families[i], c->n, c->affinity_s);
	}
	if (any)
		nft_put_ruleset(m->nft, rs, COOKIE_PART);
}

static void put_strays(struct maps *m, int i)
{
	struct table *t = &m->tables[i];

	for (size_t k = 0; k < t->strays.n; k++) {
		nft_elements_begin(m->nft, false, nf_families[i], MAPS_TABLE,
			maps[t->strays.v[k].map].name, COOKIE_PART);
		nft_element(m->nft, t->strays.v[k].key, front_len(i) + 4, NULL, 0);
		nft_elements_end(m->nft);
	}
}

static void on_done(void *arg, uintptr_t cookie, int r, const struct err *err)
{
	struct maps *m = arg;
	struct op *op;

	if (r == 0 || r == -ECANCELED)
		return;
	if (cookie < COOKIE_ENTRY)
		return;
	op = &m->ops.v[cookie - COOKIE_ENTRY];
	if (op->r < 0)
		return;
	op->r = r;
	op->err = *err;
}

/* Connections of UDP that lead where nothing answers now, or never did. */
static void note_stale(struct maps *m, const struct op *op)
{
	const struct entry *e = op->e;
	const struct calc_dest *olds[2] = {e->is.endpoints.v, e->is.numbered.v};
	const size_t n_olds[2] = {e->is.endpoints.n, e->is.numbered.n};
	const bool sticky = op->want.affinity_s > 0;
	const struct calc_dest *new = sticky ? op->want.numbered.v : op->want.endpoints.v;
	const size_t n_new = sticky ? op->want.numbered.n : op->want.endpoints.n;

	if (e->key.protocol != IPPROTO_UDP)
		return;
	if (op->want.n == 0) {
		stale_add(m->stale, &e->key, NULL);
		return;
	}
	if (e->is.n == 0)
		stale_add(m->stale, &e->key, &e->key.ip);
	for (int k = 0; k < 2; k++)
		for (size_t i = 0; i < n_olds[k]; i++)
			if (olds[k][i].ip.family != IP_NONE && !has(new, n_new, &olds[k][i]))
				stale_add(m->stale, &e->key, &olds[k][i].ip);
}

static bool has_op(const struct maps *m, int i)
{
	for (size_t k = 0; k < m->ops.n; k++)
		if (index_of(m->ops.v[k].e) == i)
			return true;
	return false;
}

static void on_written(struct maps *m)
{
	struct chain *c;

	for (int i = 0; i < 2; i++) {
		struct table *t = &m->tables[i];

		if (t->unknown)
			continue;
		if (has_op(m, i))
			t->there = t->right = true;
		hmap_for_each (c, &t->chains, node) {
			c->have |= c->used;
			c->used = false;
		}
		t->strays.n = 0;
	}
	for (size_t k = 0; k < m->ops.n; k++) {
		struct op *op = &m->ops.v[k];
		struct entry *e = op->e;

		note_stale(m, op);
		m->backend.stats.installed += (op->want.n > 0) - (e->is.n > 0);
		image_done(&e->is);
		e->is = op->want;
		memset(&op->want, 0, sizeof(op->want));
		e->doubted = false;
		list_del(&e->dirty);
		if (!e->wanted && image_is_empty(&e->is))
			free_entry(m, e);
	}
}

/* Those that were not written. */
static void forget_new_chains(struct table *t)
{
	struct chain *c;

	hmap_for_each (c, &t->chains, node)
		if (!c->have) {
			hmap_remove(&t->chains, &c->node);
			free(c);
		} else
			c->used = false;
}

/* An entry that the kernel refused: at first what is believed of the kernel is to blame. */
static void blame(struct maps *m, struct op *op)
{
	if (!op->e->doubted) {
		op->e->doubted = true;
		m->tables[index_of(op->e)].unknown = true;
	} else {
		fail(m, op->e, op->r, &op->err);
	}
}

/* Returns the failure if it is nobody's. */
static int on_refused(struct maps *m, int r, bool *more)
{
	bool any = false;

	for (size_t k = 0; k < m->ops.n; k++) {
		image_done(&m->ops.v[k].want);
		if (m->ops.v[k].r == 0)
			continue;
		blame(m, &m->ops.v[k]);
		any = true;
	}
	for (int i = 0; i < 2; i++) {
		forget_new_chains(&m->tables[i]);
		m->tables[i].unknown |= !any || !m->tables[i].right;
	}
	*more |= any;
	return any ? 0 : r;
}

/* The table is there and right, as far as known, and what it has besides is nobody's. */
static bool has_strays(const struct table *t)
{
	return !t->unknown && t->right && t->strays.n > 0;
}

static int write_dirty(struct maps *m, bool *more, struct err *err)
{
	struct backend_stats *st = &m->backend.stats;
	uint64_t written = st->written, deleted = st->deleted;
	int r;

	plan_dirty(m, more);
	if (m->ops.n == 0 && !has_strays(&m->tables[0]) && !has_strays(&m->tables[1]))
		return 0;
	nft_begin(m->nft, on_done, m);
	for (int i = 0; i < 2; i++) {
		if (has_op(m, i))
			put_frame(m, i);
		if (has_strays(&m->tables[i]))
			put_strays(m, i);
	}
	for (size_t k = 0; k < m->ops.n; k++)
		put_changes(m, &m->ops.v[k], COOKIE_ENTRY + k);
	r = nft_commit(m->nft, err);
	if (r == 0) {
		on_written(m);
		return 0;
	}
	st->written = written;
	st->deleted = deleted;
	r = on_refused(m, r, more);
	if (r < 0)
		st->failed++;
	return r;
}

/* ---- chains that nothing leads to ---- */

static void mark_used(struct maps *m, int i)
{
	struct entry *e;

	hmap_for_each (e, &m->entries, node)
		if (index_of(e) == i && e->is.n > 0 && e->is.n != IMAGE_ELSEWHERE)
			get_chain(&m->tables[i], e->is.n, e->is.affinity_s)->used = true;
}

/*
 * After a reading, so that they are deleted some time after the last element that led to them: a kernel
 * before 6.2 takes them for used a while longer, and refuses. Then they stay until the next time.
 */
static void delete_chains(struct maps *m, int i)
{
	struct table *t = &m->tables[i];
	char name[CHAIN_NAME_SIZE];
	bool any = false;
	struct chain *c;
	int r;

	mark_used(m, i);
	nft_begin(m->nft, NULL, NULL);
	hmap_for_each (c, &t->chains, node)
		if (!c->used) {
			nft_put_no_chain(m->nft, nf_families[i], MAPS_TABLE,
				chain_name(c->n, c->affinity_s, name), COOKIE_PART);
			any = true;
		}
	r = any ? nft_commit(m->nft, NULL) : 0;
	hmap_for_each (c, &t->chains, node) {
		if (!c->used && r == 0) {
			hmap_remove(&t->chains, &c->node);
			free(c);
		} else {
			c->used = false;
		}
	}
}

static void clean(struct maps *m)
{
	if (!m->deletes || !list_empty(&m->dirty))
		return;
	for (int i = 0; i < 2; i++) {
		struct table *t = &m->tables[i];

		if (t->read && t->right && !t->unknown)
			delete_chains(m, i);
		t->read = false;
	}
}

/* ---- apply ---- */

static void retry(struct backend *b)
{
	struct maps *m = of(b);
	struct entry *e;

	list_for_each (e, &m->dirty, dirty)
		e->failed = e->doubted = false;
	m->failed = 0;
	m->n_failed = 0;
}

static int apply(struct backend *b, int64_t now_ms, bool *ret_more, struct err *err)
{
	struct maps *m = of(b);
	struct err e = ERR_INIT;
	int first = 0, r;

	(void)now_ms;
	*ret_more = false;
	/* One family's failure is not the other's. */
	for (int i = 0; i < 4; i++) {
		r = i < 2    ? (m->tables[i].unknown ? read_table(m, i, &e) : 0)
		    : i == 2 ? write_dirty(m, ret_more, &e)
			     : stale_delete(m->stale, &e);
		if (i == 3 && r > 0)
			b->stats.connections += (uint64_t)r;
		if (r >= 0 || first < 0)
			continue;
		first = r;
		if (err)
			*err = e;
	}
	clean(m);
	if (m->failed == 0)
		return first;
	if (err)
		*err = m->err;
	return m->n_failed > 1 ? err_wrap(err, m->failed, "%u failures, the first", m->n_failed)
			       : m->failed;
}

static int64_t next_ms(struct backend *b)
{
	(void)b;
	return INT64_MAX;
}

static const struct backend_ops ops = {.name = "nftables",
	.set = set,
	.unset = unset,
	.allow_deletes = allow_deletes,
	.mark_unknown = mark_unknown,
	.apply = apply,
	.retry = retry,
	.next_ms = next_ms};

int maps_delete(struct nft *n, bool *ret_any, struct err *err)
{
	bool there;
	int r = 0;

	*ret_any = false;
	for (int i = 0; i < 2 && r == 0; i++) {
		r = nft_has_table(n, nf_families[i], MAPS_TABLE, &there, err);
		if (r == 0 && there)
			r = nft_delete_table(n, nf_families[i], MAPS_TABLE, err);
		*ret_any |= r == 0 && there;
	}
	return r;
}
