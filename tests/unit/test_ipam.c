/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ipam: block operations against a naive model, the allocator's writes in Calico's order, requests
 * of several nodes interleaved at random, a crash after each write, and several processes on SQLite.
 */
#include <assert.h>
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hmap.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "fake/store_fake.h"
#include "ipam/alloc.h"
#include "ipam/block.h"
#include "ipam/run.h"
#include "ipam/step.h"
#include "model/ipam.h"
#include "model/meta.h"
#include "store/store.h"
#include "unit/test_dir.h"

#define NOW 1785585600123456789 /* 2026-08-01T12:00:00Z */
#define S 1000000000ll
#define POOL_KEY "/calico/resources/v3/projectcalico.org/ippools/"

static void seed_and_say(void)
{
	unsigned seed = (unsigned)clock_real_ns();
	const char *fixed = getenv("SEED");

	if (fixed)
		seed = (unsigned)strtoul(fixed, NULL, 10);
	printf("seed %u\n", seed);
	srandom(seed);
}

static struct ip ip_of(const char *s)
{
	struct ip ip;

	ck_assert_int_eq(ip_parse(s, &ip, NULL), 0);
	return ip;
}

static struct prefix prefix_from(const char *s)
{
	struct prefix p;

	ck_assert_int_eq(prefix_parse(s, &p, NULL), 0);
	return p;
}

/*
 * A datastore that is an array.
 */
struct mem_kv {
	char *key, *value;
	int64_t rev;
};

static struct {
	VEC(struct mem_kv) v;
	int64_t rev;
	unsigned writes, ops;
	size_t n_read;	   /* objects */
	uint64_t told;	   /* stands for the last answer */
	unsigned lost;	   /* races */
	bool lose;	   /* the next answer */
	struct strbuf log; /* the writes, one a line */
} db;

static void db_reset(void)
{
	struct mem_kv *kv;

	vec_for_each (&db.v, kv) {
		free(kv->key);
		free(kv->value);
	}
	vec_done(&db.v);
	strbuf_done(&db.log);
	db.rev = 0;
	db.writes = 0;
	db.lost = 0;
}

static struct mem_kv *db_find(const char *key)
{
	struct mem_kv *kv;

	vec_for_each (&db.v, kv)
		if (strcmp(kv->key, key) == 0)
			return kv;
	return NULL;
}

static void db_put(const char *key, const char *value)
{
	struct mem_kv *kv = db_find(key);

	if (kv) {
		free(kv->value);
		kv->value = mem_strdup(value);
		kv->rev = ++db.rev;
	} else {
		vec_push(&db.v, (struct mem_kv){mem_strdup(key), mem_strdup(value), ++db.rev});
	}
}

static void db_del(struct mem_kv *kv)
{
	assert(kv);
	free(kv->key);
	free(kv->value);
	vec_swap_remove(&db.v, (size_t)(kv - db.v.v));
}

static int db_write(const struct store_req *req, struct store_res *res)
{
	static const char *const verbs[] = {
		[STORE_CREATE] = "create", [STORE_UPDATE] = "update", [STORE_DELETE] = "delete"};
	struct mem_kv *kv = db_find(req->key);

	/* Of something that is gone, the API server would refuse it. */
	assert(req->verb != STORE_CREATE || req->rev == 0);
	if (req->verb == STORE_CREATE && kv)
		return -EEXIST;
	if (req->verb != STORE_CREATE && !kv)
		return -ENOENT;
	if (req->verb != STORE_CREATE && kv->rev != req->rev)
		return -ESTALE;
	strbuf_addf(&db.log, "%s %s\n", verbs[req->verb], req->key + strlen(IPAM_ROOT));
	db.writes++;
	if (req->verb == STORE_DELETE)
		db_del(kv);
	else
		db_put(req->key, req->value);
	res->rev = db.rev;
	return 0;
}

/* Of what there is under a prefix, in whatever order. */
static uint64_t db_hash(const char *prefix)
{
	struct mem_kv *kv;
	uint64_t sum = 0;

	vec_for_each (&db.v, kv)
		if (strncmp(kv->key, prefix, strlen(prefix)) == 0)
			sum += hash_bytes((uint64_t[]){hash_str(kv->key), hash_str(kv->value),
						  (uint64_t)kv->rev},
				24);
	return sum;
}

/* Does one operation and feeds its outcome. */
static int db_do(struct ipam_request *rq, const struct store_req *req, struct err *err)
{
	VEC(struct store_kv) found = {0};
	struct store_res res = {0};
	struct mem_kv *kv;
	int r;

	vec_for_each (&db.v, kv) {
		if (req->unindexed)
			break;
		if (req->verb == STORE_LIST ? strncmp(kv->key, req->key, strlen(req->key)) == 0
					    : strcmp(kv->key, req->key) == 0)
			vec_push(&found, (struct store_kv){.key = kv->key,
						 .value = kv->value,
						 .len = strlen(kv->value),
						 .rev = kv->rev});
	}
	if (req->verb == STORE_GET)
		res.r = found.n == 1 ? 0 : -ENOENT;
	else if (req->verb != STORE_LIST)
		res.r = db_write(req, &res);
	if (req->verb == STORE_GET || req->verb == STORE_LIST) {
		res.kvs = found.v;
		res.n = found.n;
		db.n_read += found.n;
	}
	db.ops++;
	db.told = db_hash(req->key) + (uint64_t)res.r;
	db.lost += res.r < 0 && req->verb != STORE_GET;
	if (db.lose)
		res = (struct store_res){.r = -ETIMEDOUT};
	db.lose = false;
	r = ipam_request_feed(rq, &res, err);
	vec_done(&found);
	return r;
}

/* To the end, or until so many writes of this request are done: 1 then. */
static int run_until(struct ipam_request *rq, unsigned writes, struct err *err)
{
	unsigned until = writes ? db.writes + writes : 0;
	struct store_req req;
	int r, steps = 0;

	while ((r = ipam_request_step(rq, &req, err)) > 0) {
		ck_assert_int_lt(steps++, 20000);
		r = db_do(rq, &req, err);
		if (r < 0)
			return r;
		if (until && db.writes == until)
			return 1;
	}
	return r;
}

static void put_pool(const char *name, const char *cidr, int block_size, const char *more)
{
	auto_free char *key = mem_printf(POOL_KEY "%s", name);
	auto_free char *value =
		mem_printf("{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\","
			   "\"metadata\":{\"name\":\"%s\"},\"spec\":{\"cidr\":\"%s\","
			   "\"blockSize\":%d%s}}",
			name, cidr, block_size, more);

	db_put(key, value);
}

static void setup(void)
{
	db_reset();
	put_pool("p", "10.244.0.0/16", 26, "");
}

static struct ipam_assign assign_args(const char *host, const char *handle)
{
	return (struct ipam_assign){.host = host,
		.handle = handle,
		.v4 = true,
		.now_ns = NOW,
		.use = IPAM_USE_WORKLOAD};
}

static int assign_with(const struct ipam_assign *a, struct ip *ret, struct err *err)
{
	struct ipam_request *rq = ipam_assign_new(a);
	int r = run_until(rq, 0, err);

	if (r == 0)
		*ret = ipam_request_addr(rq, a->v4 ? IP_V4 : IP_V6)->ip;
	ipam_request_free(rq);
	return r;
}

static struct ip assign(const char *host, const char *handle)
{
	struct ipam_assign a = assign_args(host, handle);
	struct err err = ERR_INIT;
	struct ip ip = {0};
	int r = assign_with(&a, &ip, &err);

	ck_assert_msg(r == 0, "%s: %s", handle, err.text);
	return ip;
}

static int run_and_free(struct ipam_request *rq)
{
	struct err err = ERR_INIT;
	int r = run_until(rq, 0, &err);

	ck_assert_msg(r == 0 || err.text[0] != '\0', "no message for %d", r);
	ipam_request_free(rq);
	return r;
}

/* Addresses that are in use; fails when a block is inconsistent. */
static size_t count_in_use(const char *handle)
{
	struct mem_kv *kv;
	struct prefix p;
	size_t n = 0;

	vec_for_each (&db.v, kv) {
		struct ipam_block *b;
		struct err err = ERR_INIT;

		if (!ipam_key_parse_block(kv->key, &p))
			continue;
		ck_assert_msg(ipam_block_decode(kv->value, strlen(kv->value), &b, &err) == 0,
			"%s: %s", kv->key, err.text);
		for (uint32_t i = 0; i < b->size; i++) {
			struct ip ip = block_ip(b, i);
			const struct ipam_block_attr *a = block_lookup(b, &ip);

			if (a && (!handle || (a->handle && strcmp(a->handle, handle) == 0)))
				n++;
		}
		ipam_block_free(b);
	}
	return n;
}

static const char *key_text(const char *key)
{
	struct mem_kv *kv = db_find(key);

	return kv ? kv->value : NULL;
}

/* What holds at every instant, whoever has died where. */
static void check_consistent(void)
{
	struct mem_kv *kv;

	vec_for_each (&db.v, kv) {
		char host[IPAM_KEY_SIZE], key[IPAM_KEY_SIZE];
		struct ipam_affinity a;
		struct ipam_block *b;
		struct prefix cidr;
		const char *text;

		if (ipam_key_parse_affinity(kv->key, host, &cidr)) {
			ck_assert_int_eq(
				ipam_affinity_decode(kv->value, strlen(kv->value), &a, NULL), 0);
			text = key_text(ipam_key_block(&cidr, key));
			ck_assert_msg(text || a.state != IPAM_CONFIRMED, "%s: no block", kv->key);
		}
		if (!ipam_key_parse_block(kv->key, &cidr))
			continue;
		ck_assert_int_eq(ipam_block_decode(kv->value, strlen(kv->value), &b, NULL), 0);
		if (block_host(b))
			ck_assert_msg(key_text(ipam_key_affinity(block_host(b), &cidr, key)),
				"%s: no affinity of %s", kv->key, block_host(b));
		for (size_t i = 0; i < b->attrs.n; i++) {
			if (!b->attrs.v[i].handle)
				continue;
			text = key_text(ipam_key_handle(b->attrs.v[i].handle, key));
			ck_assert_msg(text && strstr(text, prefix_str(&cidr)),
				"%s: %s does not have it: %s", kv->key, key, text ?: "(gone)");
		}
		ipam_block_free(b);
	}
}

static size_t count_keys(const char *prefix)
{
	struct mem_kv *kv;
	size_t n = 0;

	vec_for_each (&db.v, kv)
		n += strncmp(kv->key, prefix, strlen(prefix)) == 0;
	return n;
}

/*
 * Blocks.
 */
#define BLOCK_JSON                                                                            \
	"{\"cidr\":\"10.244.66.128/29\",\"affinity\":\"host:node1\",\"affinity_claim_time\":" \
	"\"2026-08-01T12:00:00Z\",\"allocations\":%s,\"unallocated\":%s,\"attributes\":%s,"   \
	"\"sequenceNumber\":%s,\"sequenceNumberForAllocation\":%s,\"deleted\":false}"
#define TUNNEL_ATTR                                                                             \
	"{\"handle_id\":\"ipip-tunnel-addr-node1\",\"secondary\":{\"node\":\"node1\",\"type\":" \
	"\"ipipTunnelAddress\"}}"

static void expect_block(const struct ipam_block *b, const char *alloc, const char *free_list,
	const char *attrs, const char *seq, const char *alloc_seq)
{
	auto_free char *want = mem_printf(BLOCK_JSON, alloc, free_list, attrs, seq, alloc_seq);
	auto_free char *got = ipam_block_encode(b);
	struct ipam_block *again;

	ck_assert_str_eq(got, want);
	ck_assert_int_eq(ipam_block_decode(got, strlen(got), &again, NULL), 0);
	free(got);
	got = ipam_block_encode(again);
	ck_assert_str_eq(got, want);
	ipam_block_free(again);
}

START_TEST(block_is_calicos)
{
	const struct ipam_attr tunnel[] = {{"type", "ipipTunnelAddress"}, {"node", "node1"}};
	const struct ipam_attr pod[] = {{"namespace", "default"}, {"node", "node1"},
		{"pod", "web-0"}, {"timestamp", "2026-08-01 12:00:05.000000123 +0000 UTC"}};
	struct prefix cidr = prefix_from("10.244.66.128/29");
	struct ipam_block *b = block_create(&cidr, "node1", NOW);
	struct block_reserved none = {0};
	struct ip ip;

	expect_block(b, "[null,null,null,null,null,null,null,null]", "[0,1,2,3,4,5,6,7]", "null",
		"1785585600123456789", "{}");
	ck_assert_int_eq(block_auto_assign(b, &none, "ipip-tunnel-addr-node1", tunnel, 2, &ip), 0);
	block_bump(b);
	ck_assert_int_eq(block_auto_assign(b, &none, "k8s-pod-network.0f3c1d", pod, 4, &ip), 0);
	block_bump(b);
	ck_assert_str_eq(ip_str(&ip), "10.244.66.129");
	expect_block(b, "[0,1,null,null,null,null,null,null]", "[2,3,4,5,6,7]",
		"[" TUNNEL_ATTR
		",{\"handle_id\":\"k8s-pod-network.0f3c1d\",\"secondary\":{\"namespace\":\"default\","
		"\"node\":\"node1\",\"pod\":\"web-0\",\"timestamp\":\"2026-08-01 12:00:05.000000123 "
		"+0000 UTC\"}}]",
		"1785585600123456791", "{\"0\":1785585600123456789,\"1\":1785585600123456790}");
	ck_assert_uint_eq(block_release_handle(b, "k8s-pod-network.0f3c1d", 0, NOW + S), 1);
	block_bump(b);
	expect_block(b, "[0,null,null,null,null,null,null,null]", "[2,3,4,5,6,7,1]",
		"[" TUNNEL_ATTR "]", "1785585600123456792", "{\"0\":1785585600123456789}");
	ipam_block_free(b);
}
END_TEST

START_TEST(block_cools_down)
{
	struct prefix cidr = prefix_from("10.0.0.0/30");
	struct ipam_block *b = block_create(&cidr, "n", NOW);
	struct block_reserved none = {0};
	struct err err = ERR_INIT;
	struct ip ip;

	ck_assert_int_eq(block_auto_assign(b, &none, "h", NULL, 0, &ip), 0);
	ck_assert_int_eq(block_release(b, &ip, "other", 30, NOW, &err), -ESTALE);
	ck_assert_int_eq(block_release(b, &ip, "h\rx", 30, NOW, &err), 0);
	ck_assert(!block_is_empty(b));
	ck_assert_int_eq(block_release(b, &ip, NULL, 30, NOW, &err), -ENOENT);
	ck_assert_int_eq(block_assign(b, &ip, "h2", NULL, 0, &err), -EEXIST);
	block_collect(b, 30, NOW + 29 * S);
	ck_assert(!block_is_empty(b));
	block_collect(b, 30, NOW + 30 * S);
	ck_assert(block_is_empty(b));
	ck_assert_uint_eq(b->attrs.n, 0);
	ck_assert_uint_eq(b->free.v[3], 0);
	ipam_block_free(b);
}
END_TEST

/* The naive model: who has each ordinal, when it was released, and the queue. */
struct naive {
	int owner[16]; /* -1 free, -2 cooling, else the handle's number */
	int64_t released[16];
	unsigned queue[16], n;
};

static void naive_collect(struct naive *m, unsigned cooldown, int64_t now_s)
{
	for (unsigned i = 0; i < 16; i++) {
		if (m->owner[i] == -2 && m->released[i] <= now_s - cooldown) {
			m->owner[i] = -1;
			m->queue[m->n++] = i;
		}
	}
}

static void naive_take(struct naive *m, unsigned pos, int owner)
{
	m->owner[m->queue[pos]] = owner;
	memmove(m->queue + pos, m->queue + pos + 1, (m->n - pos - 1) * sizeof(m->queue[0]));
	m->n--;
}

static void naive_compare(const struct naive *m, const struct ipam_block *b)
{
	static const char *const handles[] = {"h0", "h1", "h2", "h3"};

	ck_assert_uint_eq(m->n, b->free.n);
	for (unsigned i = 0; i < m->n; i++)
		ck_assert_uint_eq(m->queue[i], b->free.v[i]);
	for (unsigned i = 0; i < 16; i++) {
		struct ip ip = block_ip(b, i);
		const struct ipam_block_attr *a = block_lookup(b, &ip);

		if (m->owner[i] == -1) {
			ck_assert_ptr_null(a);
		} else if (m->owner[i] == -2) {
			ck_assert_int_eq(a->released_s, m->released[i]);
			ck_assert_ptr_null(a->handle);
		} else {
			ck_assert_str_eq(a->handle, handles[m->owner[i]]);
		}
	}
	/* As many attributes as there are different ones. */
	ck_assert_uint_le(b->attrs.n, 16);
	for (size_t i = 0; i < b->attrs.n; i++)
		for (size_t k = i + 1; k < b->attrs.n; k++)
			ck_assert(!b->attrs.v[i].handle || !b->attrs.v[k].handle ||
				  strcmp(b->attrs.v[i].handle, b->attrs.v[k].handle) != 0);
}

START_TEST(block_against_naive_model)
{
	struct prefix cidr = prefix_from("fd00::40/124");
	unsigned cooldown = _i ? 3 : 0;
	struct ipam_block *b = block_create(&cidr, "n", NOW);
	struct naive m = {.n = 16};
	struct prefix res_cidr = prefix_from("fd00::44/126");
	struct block_reserved res = {&res_cidr, 1};
	int64_t now = NOW;

	seed_and_say();
	for (unsigned i = 0; i < 16; i++) {
		m.owner[i] = -1;
		m.queue[i] = i;
	}
	for (int step = 0; step < 4000; step++) {
		unsigned ord = (unsigned)random() % 16;
		int h = (int)(random() % 4);
		char handle[8];
		struct ip ip = block_ip(b, ord);
		auto_free char *text = NULL;

		snprintf(handle, sizeof(handle), "h%d", h);
		now += random() % 2 * S;
		switch (random() % 5) {
		case 0: { /* any, but for .4 to .7 */
			unsigned pos = 0;

			while (pos < m.n && m.queue[pos] / 4 == 1)
				pos++;
			ck_assert_int_eq(block_auto_assign(b, &res, handle, NULL, 0, &ip),
				pos < m.n ? 0 : -ENOSPC);
			if (pos < m.n) {
				ck_assert_uint_eq(block_ordinal(b, &ip), m.queue[pos]);
				naive_take(&m, pos, h);
			}
			break;
		}
		case 1: {
			unsigned pos = 0;

			ck_assert_int_eq(block_assign(b, &ip, handle, NULL, 0, NULL),
				m.owner[ord] == -1 ? 0 : -EEXIST);
			while (pos < m.n && m.queue[pos] != ord)
				pos++;
			if (pos < m.n)
				naive_take(&m, pos, h);
			break;
		}
		case 2: {
			int want = m.owner[ord] < 0 ? -ENOENT : m.owner[ord] == h ? 0 : -ESTALE;

			ck_assert_int_eq(block_release(b, &ip, handle, cooldown, now, NULL), want);
			if (want == 0) {
				m.owner[ord] = -2;
				m.released[ord] = now / S;
				naive_collect(&m, cooldown, now / S);
			}
			break;
		}
		case 3: {
			uint32_t n = 0;

			for (unsigned i = 0; i < 16; i++) {
				if (m.owner[i] == h) {
					m.owner[i] = -2;
					m.released[i] = now / S;
					n++;
				}
			}
			if (n > 0)
				naive_collect(&m, cooldown, now / S);
			ck_assert_uint_eq(block_release_handle(b, handle, cooldown, now), n);
			break;
		}
		default:
			block_collect(b, cooldown, now);
			naive_collect(&m, cooldown, now / S);
			break;
		}
		naive_compare(&m, b);
		text = ipam_block_encode(b);
		ipam_block_free(b);
		ck_assert_int_eq(ipam_block_decode(text, strlen(text), &b, NULL), 0);
		naive_compare(&m, b);
	}
	ipam_block_free(b);
}
END_TEST

static const struct {
	const char *json, *want;
} bad_blocks[] = {
	{"", "column"},
	{"[]", "object"},
	{"{}", "cidr"},
	{"{\"cidr\":\"10.0.0.1/30\"}", "cidr"},
	{"{\"cidr\":\"10.0.0.0/8\"}", "more than"},
	{"{\"cidr\":\"10.0.0.0/30\"}", "allocations"},
	{"{\"cidr\":\"10.0.0.0/31\",\"allocations\":[0,null],\"unallocated\":[1]}", "attribute"},
	{"{\"cidr\":\"10.0.0.0/31\",\"allocations\":[null,null],\"unallocated\":[1]}",
		"unallocated"},
	{"{\"cidr\":\"10.0.0.0/31\",\"allocations\":[null,null],\"unallocated\":[1,1]}", "once"},
	{"{\"cidr\":\"10.0.0.0/31\",\"allocations\":[null,null],\"unallocated\":[1,2]}", "once"},
};

START_TEST(bad_block_is_refused)
{
	struct err err = ERR_INIT;
	struct ipam_block *b;

	ck_assert_int_eq(
		ipam_block_decode(bad_blocks[_i].json, strlen(bad_blocks[_i].json), &b, &err),
		-EINVAL);
	ck_assert_msg(strstr(err.text, bad_blocks[_i].want), "%s", err.text);
}
END_TEST

/*
 * The allocator, alone.
 */
START_TEST(write_order)
{
	struct prefix cidr;
	struct ip ip;
	struct mem_kv *kv;
	char *want, text[PREFIX_TEXT_SIZE];

	setup();
	ip = assign("node1", "net.c1");
	cidr = prefix_of(&ip, 26);
	prefix_format_key(&cidr, text);
	want = mem_printf("create host/node1/ipv4/block/%s\n"
			  "update host/node1/ipv4/block/%s\n"
			  "create assignment/ipv4/block/%s\n"
			  "update host/node1/ipv4/block/%s\n"
			  "create handle/net.c1\n"
			  "update assignment/ipv4/block/%s\n",
		text, text, text, text, text);
	ck_assert_str_eq(db.log.s, want);
	free(want);
	kv = db_find(IPAM_ROOT "handle/net.c1");
	want = mem_printf("{\"block\":{\"%s\":1},\"deleted\":false}", prefix_str(&cidr));
	ck_assert_str_eq(kv->value, want);
	free(want);

	strbuf_reset(&db.log);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("net.c1", NOW)), 0);
	want = mem_printf("update assignment/ipv4/block/%s\ndelete handle/net.c1\n", text);
	ck_assert_str_eq(db.log.s, want);
	free(want);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("net.c1", NOW)), -ENOENT);
	/* The same node takes the same block, and the address that was freed longest ago. */
	ip = assign("node1", "net.c2");
	ck_assert(prefix_contains(&cidr, &ip));
	ck_assert_uint_eq(ip_distance(&cidr.addr, &ip), 1);

	strbuf_reset(&db.log);
	ck_assert_int_eq(run_and_free(ipam_unclaim_new(NULL, "node1", true, NOW)), -EBUSY);
	ck_assert_int_eq(run_and_free(ipam_unclaim_new(NULL, "node1", false, NOW)), 0);
	want = mem_printf("update host/node1/ipv4/block/%s\nupdate assignment/ipv4/block/%s\n"
			  "delete host/node1/ipv4/block/%s\n",
		text, text, text);
	ck_assert_str_eq(db.log.s, want);
	free(want);
	strbuf_reset(&db.log);
	/* The last address of a block that nobody has takes the block with it. */
	ck_assert_int_eq(run_and_free(ipam_release_ip_new(&ip, "net.c2", NOW)), 0);
	want = mem_printf("delete assignment/ipv4/block/%s\ndelete handle/net.c2\n", text);
	ck_assert_str_eq(db.log.s, want);
	free(want);
}
END_TEST

START_TEST(blocks_limits_and_borrowing)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct err err = ERR_INIT;
	struct ip ip;

	db_reset();
	put_pool("p", "10.1.0.0/28", 30, "");
	/* Two blocks each at most. */
	a.max_blocks = 2;
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOSPC);
	ck_assert_msg(strstr(err.text, "2 of 2"), "%s", err.text);
	/* The other half of the pool, then nothing is left and nothing can be borrowed. */
	for (int i = 0; i < 8; i++)
		assign("n2", "other");
	a.host = "n2";
	a.max_blocks = 0;
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOSPC);
	ck_assert_uint_eq(count_in_use(NULL), 16);
	ck_assert_uint_eq(count_keys(IPAM_ROOT "assignment/"), 4);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("h", NOW)), 0);
	ck_assert_uint_eq(count_in_use(NULL), 8);

	/* n3 has no block: it borrows of a block that is too young to be reclaimed ... */
	a.host = "n3";
	a.handle = "h3";
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_uint_eq(count_keys(IPAM_ROOT "host/n3/"), 0);
	/* ... and takes an empty one over that is a minute old. */
	a.now_ns = NOW + 60 * S;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_uint_eq(count_keys(IPAM_ROOT "host/n3/"), 1);
	ck_assert_uint_eq(count_keys(IPAM_ROOT "host/n1/"), 1);

	/* Never with strict affinity. */
	db_put(IPAM_KEY_CONFIG, "{\"strict_affinity\":true,\"auto_allocate_blocks\":true}");
	a.host = "n4";
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOSPC);
	a.host = "n2";
	a.ip = ip; /* of n3's */
	ck_assert_int_eq(assign_with(&a, &ip, &err), -EACCES);
	ck_assert_msg(strstr(err.text, "strictAffinity"), "%s", err.text);
	/* Automatic blocks off: the own ones only. */
	db_put(IPAM_KEY_CONFIG, "{}");
	a.ip = (struct ip){0};
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOSPC);
	ck_assert_msg(strstr(err.text, "autoAllocateBlocks"), "%s", err.text);
}
END_TEST

static void expect_in(const struct ip *ip, const char *cidr)
{
	struct prefix p = prefix_from(cidr);

	ck_assert_msg(prefix_contains(&p, ip), "%s, want one of %s", ip_str(ip), cidr);
}

START_TEST(pools_are_chosen)
{
	static const char *const by_name[] = {"manual"}, *const by_cidr[] = {"10.3.0.0/24"},
				 *const none[] = {"gone"};
	struct ipam_assign a = assign_args("n1", "h");
	struct err err = ERR_INIT;
	struct ip ip;

	db_reset();
	put_pool("a-disabled", "10.0.0.0/24", 26, ",\"disabled\":true");
	put_pool("b-tunnel", "10.1.0.0/24", 26, ",\"allowedUses\":[\"Tunnel\"]");
	put_pool("c-six", "fd00::/64", 122, "");
	put_pool("manual", "10.2.0.0/24", 26, ",\"assignmentMode\":\"Manual\"");
	db_put(POOL_KEY "bad", "{\"spec\":{\"cidr\":\"nonsense\"}}");
	put_pool("blocks-too-large", "10.4.0.0/16", 18, "");
	put_pool("blocks-of-v6", "10.5.0.0/16", 64, "");
	put_pool("no-block", "10.6.0.0/28", 26, "");
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOENT);
	put_pool("z", "10.3.0.0/24", 26, ",\"allowedUses\":[\"Workload\"]");
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	expect_in(&ip, "10.3.0.0/24");
	a.use = IPAM_USE_TUNNEL;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	expect_in(&ip, "10.1.0.0/24");
	a.use = IPAM_USE_WORKLOAD;
	a.n_pools = 1;
	a.pools = by_name;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	expect_in(&ip, "10.2.0.0/24");
	a.pools = by_cidr;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	expect_in(&ip, "10.3.0.0/24");
	a.pools = none;
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOENT);
	ck_assert_msg(strstr(err.text, "(gone)"), "%s", err.text);
	a.n_pools = 0;
	a.v4 = false;
	a.v6 = true;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_uint_eq(ip.family, IP_V6);
}
END_TEST

#define NODE_KEY "/calico/resources/v3/projectcalico.org/nodes/"

static void put_node(const char *name, const char *rack)
{
	auto_free char *key = mem_printf(NODE_KEY "%s", name);
	auto_free char *value =
		mem_printf("{\"kind\":\"Node\",\"apiVersion\":\"projectcalico.org/v3\","
			   "\"metadata\":{\"name\":\"%s\",\"labels\":{\"rack\":\"%s\"}},"
			   "\"spec\":{}}",
			name, rack);

	db_put(key, value);
}

/* A node that moves to another rack gets addresses of that one, and gives back what is empty. */
START_TEST(pools_select_nodes)
{
	const struct ipam_attr in_a[] = {{"namespace", "a"}}, in_b[] = {{"namespace", "b"}};
	struct ipam_assign a = assign_args("n1", "late");
	struct err err = ERR_INIT;
	struct ip ip;

	db_reset();
	put_pool("one", "10.1.0.0/24", 26, ",\"nodeSelector\":\"rack == '1'\"");
	put_pool("two", "10.2.0.0/24", 26,
		",\"nodeSelector\":\"rack in {'2', '3'}\",\"namespaceSelector\":"
		"\"projectcalico.org/name == 'b'\"");
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOENT); /* the node is not known */
	put_node("n1", "1");
	ip = assign("n1", "first");
	expect_in(&ip, "10.1.0.0/24");
	put_node("n1", "2");
	a.attrs = in_a;
	a.n_attrs = 1;
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOENT);
	a.attrs = in_b;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	expect_in(&ip, "10.2.0.0/24");
	/* The block that is in use stays until its last address goes. */
	ck_assert_uint_eq(count_keys(IPAM_ROOT "host/n1/"), 2);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("first", NOW)), 0);
	ck_assert_uint_eq(count_keys(IPAM_ROOT "host/n1/"), 1);
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 1);
	/* One that is empty already goes with the next assignment. */
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("late", NOW)), 0);
	put_node("n1", "1");
	assign("n1", "again");
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 1);
}
END_TEST

/* The labels that Kubernetes has, and the name, which is one of those. */
START_TEST(pools_select_namespaces_by_their_labels)
{
	const struct ipam_attr in_a[] = {{"namespace", "a"}};
	struct ipam_assign a = assign_args("n1", "h");
	struct labels labels = {0};
	struct err err = ERR_INIT;
	struct ip ip;

	db_reset();
	put_pool("p", "10.1.0.0/24", 26,
		",\"namespaceSelector\":\"team == 'x' && kubernetes.io/metadata.name == 'a'\"");
	a.attrs = in_a;
	a.n_attrs = 1;
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "namespaceSelector"));
	labels_set(&labels, "team", "x");
	a.namespace_labels = &labels;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	expect_in(&ip, "10.1.0.0/24");
	labels_done(&labels);
}
END_TEST

/* Names of pools of one family say nothing of the other. */
START_TEST(pools_are_named_by_family)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct ipam_request *rq;
	struct err err = ERR_INIT;

	db_reset();
	put_pool("four", "10.1.0.0/24", 26, "");
	put_pool("other", "10.2.0.0/24", 26, "");
	put_pool("six", "fd00::/64", 122, "");
	a.v6 = true;
	a.pools = (const char *[]){"other"};
	a.n_pools = 1;
	rq = ipam_assign_new(&a);
	ck_assert_msg(run_until(rq, 0, &err) == 0, "%s", err.text);
	expect_in(&ipam_request_addr(rq, IP_V4)->ip, "10.2.0.0/24");
	expect_in(&ipam_request_addr(rq, IP_V6)->ip, "fd00::/64");
	ipam_request_free(rq);
}
END_TEST

START_TEST(reserved_is_skipped)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct err err = ERR_INIT;
	struct ip ip;

	db_reset();
	put_pool("p", "10.1.0.0/28", 30, "");
	db_put("/calico/resources/v3/projectcalico.org/ipreservations/r",
		"{\"spec\":{\"reservedCIDRs\":[\"10.1.0.0/29\",\"10.1.0.9\"]}}");
	/* One that cannot be read is left out, by name. */
	db_put("/calico/resources/v3/projectcalico.org/ipreservations/torn",
		"{\"spec\":{\"reservedCIDRs\":[\"10.1.0.8/29\",\"nonsense\"]}}");
	for (int i = 0; i < 7; i++) {
		ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
		ck_assert_uint_ge(ip.b[3], 8);
		ck_assert_uint_ne(ip.b[3], 9);
	}
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOSPC);
	/* Named, it is given. */
	a.ip = ip_of("10.1.0.9");
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	a.ip = ip_of("10.1.0.1");
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_int_eq(assign_with(&a, &ip, &err), -EEXIST);
	a.ip = ip_of("10.9.0.1");
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOENT);
}
END_TEST

/* A block that is claimed for a named address is announced like any other. */
START_TEST(named_is_confirmed)
{
	struct ipam_assign a = assign_args("n1", "h");
	const char *key = IPAM_KEY_AFFINITIES "n1/ipv4/block/10.244.7.64-26";
	struct err err = ERR_INIT;
	struct ip ip;

	setup();
	a.ip = ip_of("10.244.7.65");
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_ptr_nonnull(key_text(key));
	ck_assert_msg(strstr(key_text(key), "\"confirmed\""), "%s", key_text(key));
	/* One that was left half-way is completed. */
	db_put(key, "{\"state\":\"pending\"}");
	a.ip = ip_of("10.244.7.66");
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_msg(strstr(key_text(key), "\"confirmed\""), "%s", key_text(key));
}
END_TEST

/* What waits is free once there is no cool-down any more. */
START_TEST(cooldown_switched_off)
{
	struct ipam_block *b;
	struct mem_kv *kv;

	db_reset();
	put_pool("p", "10.1.0.0/30", 30, "");
	for (int i = 0; i < 4; i++)
		assign("n1", "h");
	kv = db_find(IPAM_KEY_BLOCKS "ipv4/block/10.1.0.0-30");
	assert(kv);
	ck_assert_int_eq(ipam_block_decode(kv->value, strlen(kv->value), &b, NULL), 0);
	ck_assert_uint_eq(block_release_handle(b, "h", 3600, NOW - S), 4);
	free(kv->value);
	kv->value = ipam_block_encode(b);
	ipam_block_free(b);
	db_del(db_find(IPAM_KEY_HANDLES "h"));
	assign("n1", "again");
}
END_TEST

START_TEST(both_families_or_none)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct err err = ERR_INIT;
	struct ipam_request *rq;
	struct ip ip;

	setup();
	a.v6 = true;
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOENT);
	ck_assert_uint_eq(count_in_use(NULL), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), 0);
	put_pool("six", "fd00::/64", 122, "");
	rq = ipam_assign_new(&a);
	ck_assert_int_eq(run_until(rq, 0, &err), 0);
	ck_assert_ptr_nonnull(ipam_request_addr(rq, IP_V4));
	ck_assert_ptr_nonnull(ipam_request_addr(rq, IP_V6));
	ck_assert_uint_eq(count_in_use("h"), 2);
	ipam_request_free(rq);
	rq = ipam_lookup_handle_new("h");
	ck_assert_int_eq(run_until(rq, 0, &err), 0);
	ck_assert_ptr_nonnull(ipam_request_addr(rq, IP_V6));
	ipam_request_free(rq);
	/* Once more, for the same handle. */
	a.reuse = true;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_uint_eq(count_in_use("h"), 2);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("h", NOW)), 0);
	ck_assert_uint_eq(count_in_use(NULL), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), 0);
}
END_TEST

/* An address is released at what it touches, however many blocks there are. */
START_TEST(released_by_key)
{
	struct prefix many = prefix_from("10.244.0.0/17");
	struct ip ip, old;

	setup();
	ck_assert_int_eq(run_and_free(ipam_claim_new(&many, "n2", NOW)), 0);
	ip = assign("n1", "h");
	db.ops = 0;
	db.n_read = 0;
	ck_assert_int_eq(run_and_free(ipam_release_ip_new(&ip, "h", NOW)), 0);
	/* Read: pools, block, configuration, handle; written: block, handle. */
	ck_assert_uint_eq(db.ops, 6);
	ck_assert_uint_eq(db.n_read, 3);
	/* It is gone; the pool's blocks have another size now; there is no pool. */
	ck_assert_int_eq(run_and_free(ipam_release_ip_new(&ip, "h", NOW)), -ENOENT);
	old = assign("n1", "h");
	put_pool("p", "10.244.0.0/16", 28, "");
	db.ops = 0;
	db.n_read = 0;
	ck_assert_int_eq(run_and_free(ipam_release_ip_new(&old, "h", NOW)), 0);
	old = assign("n1", "h");
	db_del(db_find(POOL_KEY "p"));
	ck_assert_int_eq(run_and_free(ipam_release_ip_new(&old, "h", NOW)), 0);
	ck_assert_uint_eq(count_in_use(NULL), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), 0);
	ck_assert_uint_lt(db.ops, 60);
	ck_assert_uint_lt(db.n_read, 20);
}
END_TEST

static uint64_t seq_of(const struct ip *ip)
{
	struct mem_kv *kv;
	struct prefix cidr;
	uint64_t seq = 0;

	vec_for_each (&db.v, kv) {
		struct ipam_block *b;

		if (!ipam_key_parse_block(kv->key, &cidr) || !prefix_contains(&cidr, ip))
			continue;
		ck_assert_int_eq(ipam_block_decode(kv->value, strlen(kv->value), &b, NULL), 0);
		seq = block_seq(b, ip);
		ipam_block_free(b);
	}
	return seq;
}

/* Given back and given anew since it was looked at, be it to the same handle: it stays. */
START_TEST(another_allocation_stays)
{
	struct ip ip, again;
	uint64_t seq;

	db_reset();
	put_pool("p", "10.244.0.0/30", 30, "");
	ip = assign("n1", "h");
	seq = seq_of(&ip);
	ck_assert_uint_ne(seq, 0);
	ck_assert_int_eq(run_and_free(ipam_release_allocation_new(&ip, "g", seq, NOW)), -ESTALE);
	ck_assert_int_eq(
		run_and_free(ipam_release_allocation_new(&ip, "h", seq - 1, NOW)), -ESTALE);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("h", NOW)), 0);
	ck_assert_int_eq(run_and_free(ipam_release_allocation_new(&ip, "h", seq, NOW)), -ENOENT);
	do
		again = assign("n1", "h");
	while (!ip_equal(&again, &ip));
	ck_assert_int_eq(run_and_free(ipam_release_allocation_new(&ip, "h", seq, NOW)), -ESTALE);
	ck_assert_uint_eq(count_in_use("h"), 4);
	seq = seq_of(&ip);
	ck_assert_int_eq(run_and_free(ipam_release_allocation_new(&ip, "h", seq, NOW)), 0);
	ck_assert_uint_eq(count_in_use("h"), 3);
	check_consistent();
}
END_TEST

#define HANDLE_H IPAM_KEY_HANDLES "h"

START_TEST(handle_is_recounted)
{
	struct prefix block;
	struct ip ip;

	setup();
	ip = assign("n1", "h");
	assign("n1", "h");
	block = prefix_of(&ip, 26);
	auto_free char *exact = mem_strdup(key_text(HANDLE_H));
	auto_free char *less = mem_printf("{\"block\":{\"%s\":1}}", prefix_str(&block));
	auto_free char *more = mem_printf(
		"{\"block\":{\"%s\":5,\"10.9.0.0/26\":1},\"deleted\":false}", prefix_str(&block));
	const char *const wrong[] = {less, more, "{\"block\":{}}", NULL};

	for (unsigned i = 0; i < array_size(wrong); i++) {
		if (wrong[i])
			db_put(HANDLE_H, wrong[i]);
		else
			db_del(db_find(HANDLE_H));
		ck_assert_int_eq(run_and_free(ipam_recount_handle_new("h", &block, 1, NOW)), 0);
		ck_assert_str_eq(key_text(HANDLE_H), exact);
		/* And then there is nothing to be done. */
		db.writes = 0;
		ck_assert_int_eq(run_and_free(ipam_recount_handle_new("h", &block, 1, NOW)), 0);
		ck_assert_uint_eq(db.writes, 0);
	}
	db_put(IPAM_KEY_HANDLES "none", more);
	ck_assert_int_eq(run_and_free(ipam_recount_handle_new("none", NULL, 0, NOW)), 0);
	ck_assert_ptr_null(key_text(IPAM_KEY_HANDLES "none"));
	ck_assert_int_eq(run_and_free(ipam_recount_handle_new("none", &block, 1, NOW)), 0);
	ck_assert_ptr_null(key_text(IPAM_KEY_HANDLES "none"));
}
END_TEST

/* Wherever an assignment, or a release, of the same handle stands meanwhile. */
START_TEST(recounted_meanwhile)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct err err = ERR_INIT;
	struct store_req req;

	for (unsigned i = 0; i < 400; i++) {
		unsigned steps = i % 20, own = i / 20;
		struct ipam_request *other, *rq;
		struct prefix block;
		struct ip ip;

		setup();
		ip = assign("n1", "h");
		block = prefix_of(&ip, 26);
		auto_free char *wrong = mem_printf("{\"block\":{\"%s\":3}}", prefix_str(&block));
		if (_i < 2)
			db_put(HANDLE_H, wrong);
		else
			db_del(db_find(HANDLE_H));
		other = _i % 2 ? ipam_assign_new(&a) : ipam_release_ip_new(&ip, "h", NOW);
		rq = ipam_recount_handle_new("h", &block, 1, NOW);
		for (; own > 0 && ipam_request_step(rq, &req, &err) > 0; own--)
			ck_assert_int_eq(db_do(rq, &req, &err), 0);
		for (; steps > 0 && ipam_request_step(other, &req, &err) > 0; steps--)
			ck_assert_int_eq(db_do(other, &req, &err), 0);
		ck_assert_msg(run_until(rq, 0, &err) == 0, "%s", err.text);
		ck_assert_msg(run_until(other, 0, &err) == 0, "%s", err.text);
		check_consistent();
		ck_assert_uint_eq(count_in_use("h"), _i % 2 ? 2 : 0);
		ipam_request_free(rq);
		ipam_request_free(other);
	}
}
END_TEST

/*
 * An address that changes hands.
 */
static struct ipam_request *move_new(const struct ip *ip, const char *from, const char *to)
{
	static const struct ipam_attr attrs[] = {{"pod", "web-0"}, {"node", "node1"}};
	const struct ipam_move m = {.addr = {.ip = *ip, .block = prefix_of(ip, 26)},
		.from = from,
		.to = to,
		.attrs = attrs,
		.n_attrs = 2,
		.now_ns = NOW};

	return ipam_move_new(&m);
}

START_TEST(moved)
{
	struct ip ip, other;
	char *want, text[PREFIX_TEXT_SIZE];
	struct prefix cidr;

	setup();
	ip = assign("node1", "reserve");
	other = assign("node1", "reserve");
	cidr = prefix_of(&ip, 26);
	prefix_format_key(&cidr, text);
	strbuf_reset(&db.log);
	ck_assert_int_eq(run_and_free(move_new(&ip, "reserve", "net.c1")), 0);
	want = mem_printf("create handle/net.c1\nupdate assignment/ipv4/block/%s\nupdate "
			  "handle/reserve\n",
		text);
	ck_assert_str_eq(db.log.s, want);
	free(want);
	ck_assert_uint_eq(count_in_use("net.c1"), 1);
	ck_assert_uint_eq(count_in_use("reserve"), 1);
	check_consistent();
	ck_assert_ptr_nonnull(strstr(key_text(IPAM_KEY_HANDLES "reserve"), "\":1}"));
	/* Its number is that of the write before its, as when it is assigned. */
	ck_assert_ptr_nonnull(strstr(key_text(ipam_key_block(&cidr, (char[IPAM_KEY_SIZE]){0})),
		"\"secondary\":{\"node\":\"node1\",\"pod\":\"web-0\"}"));
	/* Again is success, and writes nothing. */
	strbuf_reset(&db.log);
	ck_assert_int_eq(run_and_free(move_new(&ip, "reserve", "net.c1")), 0);
	ck_assert_str_eq(strbuf_str(&db.log), "");
	/* Another's is not to be had, nor a free one, and nothing is counted for them. */
	ck_assert_int_eq(run_and_free(move_new(&ip, "reserve", "net.c2")), -ESTALE);
	ck_assert_int_eq(run_and_free(ipam_release_ip_new(&other, "reserve", NOW)), 0);
	ck_assert_int_eq(run_and_free(move_new(&other, "reserve", "net.c2")), -ENOENT);
	ck_assert_ptr_null(db_find(IPAM_KEY_HANDLES "net.c2"));
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("net.c1", NOW)), 0);
	ck_assert_uint_eq(count_in_use(NULL), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), 0);
}
END_TEST

/* Who dies after any write, and does it again. */
START_TEST(moved_again_after_a_crash)
{
	struct err err = ERR_INIT;
	unsigned n = 1;
	int r;

	do {
		struct ipam_request *rq;
		struct ip ip;

		setup();
		ip = assign("node1", "reserve");
		rq = move_new(&ip, "reserve", "net.c1");
		r = run_until(rq, n++, &err);
		ck_assert_int_ge(r, 0);
		ipam_request_free(rq);
		check_consistent();
		ck_assert_uint_eq(count_in_use(NULL), 1);
		ck_assert_int_eq(run_and_free(move_new(&ip, "reserve", "net.c1")), 0);
		check_consistent();
		ck_assert_uint_eq(count_in_use("net.c1"), 1);
		/* What either handle counts too many goes with it. */
		ck_assert_int_eq(run_and_free(ipam_release_handle_new("net.c1", NOW)), 0);
		(void)run_and_free(ipam_release_handle_new("reserve", NOW));
		ck_assert_uint_eq(count_in_use(NULL), 0);
		ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), 0);
	} while (r == 1);
	ck_assert_uint_ge(n, 4);
}
END_TEST

/* Two who would have the same address, step by step in any order: one gets it. */
START_TEST(moved_by_two)
{
	seed_and_say();
	for (int round = 0; round < 300; round++) {
		struct ipam_request *rq[2];
		struct err err = ERR_INIT;
		int r[2] = {1, 1};
		struct ip ip;

		setup();
		ip = assign("node1", "reserve");
		rq[0] = move_new(&ip, "reserve", "net.a");
		rq[1] = random() % 2 ? move_new(&ip, "reserve", "net.b")
				     : ipam_release_ip_new(&ip, "reserve", NOW);
		while (r[0] > 0 || r[1] > 0) {
			int i = (int)(random() % 2);
			struct store_req req;

			if (r[i] <= 0)
				continue;
			r[i] = ipam_request_step(rq[i], &req, &err);
			if (r[i] > 0 && (r[i] = db_do(rq[i], &req, &err)) == 0)
				r[i] = 1;
			check_consistent();
		}
		ck_assert_msg((r[0] == 0) != (r[1] == 0), "%d %d", r[0], r[1]);
		ck_assert_uint_eq(count_in_use("net.a"), r[0] == 0);
		ipam_request_free(rq[0]);
		ipam_request_free(rq[1]);
		for (const char *const *h =
				(const char *const[]){"net.a", "net.b", "reserve", NULL};
			*h; h++)
			(void)run_and_free(ipam_release_handle_new(*h, NOW));
		ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), 0);
	}
}
END_TEST

START_TEST(claims)
{
	struct prefix two = prefix_from("10.244.0.0/25"), one = prefix_from("10.244.0.64/26");
	struct prefix small = prefix_from("10.244.0.0/27"), away = prefix_from("10.9.0.0/24");
	struct ip ip;

	setup();
	ck_assert_int_eq(run_and_free(ipam_claim_new(&one, "n2", NOW)), 0);
	ck_assert_int_eq(run_and_free(ipam_claim_new(&one, "n2", NOW)), 0);
	ck_assert_int_eq(run_and_free(ipam_claim_new(&two, "n1", NOW)), -EEXIST);
	ck_assert_int_eq(run_and_free(ipam_claim_new(&small, "n1", NOW)), -EINVAL);
	ck_assert_int_eq(run_and_free(ipam_claim_new(&away, "n1", NOW)), -ENOENT);
	ck_assert_uint_eq(count_keys(IPAM_ROOT "host/n1/"), 1);
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 2);
	ip = assign("n1", "h");
	ck_assert_str_eq(ip_str(&ip), "10.244.0.0");
	ck_assert_int_eq(run_and_free(ipam_unclaim_new(&one, "n2", true, NOW)), 0);
	ck_assert_int_eq(run_and_free(ipam_unclaim_new(&one, "n2", true, NOW)), -ENOENT);
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 1);
}
END_TEST

/* What grows with the number of blocks, or of addresses, must not grow with its square. */
START_TEST(large_is_quick)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct prefix many = prefix_from("10.0.0.0/15");
	clock_t start = clock();
	struct err err = ERR_INIT;
	struct ip ip;

	db_reset();
	put_pool("p", "10.0.0.0/8", 26, "");
	ck_assert_int_eq(run_and_free(ipam_claim_new(&many, "n1", NOW)), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 2048);
	ck_assert_int_eq(run_and_free(ipam_unclaim_new(NULL, "n1", true, NOW)), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_AFFINITIES), 0);
	/* A reservation of 2^58 blocks is one step. */
	put_pool("six", "fd00:10::/64", 122, "");
	db_put("/calico/resources/v3/projectcalico.org/ipreservations/r",
		"{\"spec\":{\"reservedCIDRs\":[\"fd00:10::/64\",\"fd00:10::/80\"]}}");
	a.v4 = false;
	a.v6 = true;
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOSPC);
	db_put("/calico/resources/v3/projectcalico.org/ipreservations/r",
		"{\"spec\":{\"reservedCIDRs\":[\"fd00:10::/65\",\"fd00:10:0:0:8000::/66\",\""
		"fd00:10:0:0:c000::/67\",\"fd00:10:0:0:e000::/122\"]}}");
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	expect_in(&ip, "fd00:10:0:0:e000::/67");
	ck_assert_msg(clock() - start < 20 * CLOCKS_PER_SEC, "%ld s",
		(long)((clock() - start) / CLOCKS_PER_SEC));
}
END_TEST

/* Against asking for every address. */
START_TEST(reserved_together)
{
	struct prefix block = prefix_from("10.0.0.0/28");

	seed_and_say();
	for (int round = 0; round < 3000; round++) {
		struct block_reserved res = {0};
		struct prefix v[8];
		bool all = true;

		res.v = v;
		res.n = (size_t)(random() % 9);
		for (size_t i = 0; i < res.n; i++) {
			struct ip base = ip_from_v4(0x0a000000u + (uint32_t)(random() % 16));

			v[i] = prefix_of(&base, (unsigned)(29 + random() % 4));
		}
		for (uint64_t i = 0; i < 16; i++) {
			struct ip ip;

			ip_add(&block.addr, i, &ip);
			all = all && block_reserved_has(&res, &ip);
		}
		ck_assert_int_eq(block_reserved_covers(&res, &block), all);
	}
}
END_TEST

/*
 * The allocator, with others.
 */
enum { N_ACTORS = 12 };

/* Requests of several nodes step in turns chosen at random. */
START_TEST(interleaved)
{
	struct {
		struct ipam_request *rq;
		bool release, has;
		struct ip ip;
		char host[8], handle[8];
	} actors[N_ACTORS] = {0};
	int done = 0;

	seed_and_say();
	db_reset();
	put_pool("p", "10.1.0.0/27", 30, "");
	for (int i = 0; i < N_ACTORS; i++) {
		snprintf(actors[i].host, sizeof(actors[i].host), "n%d", i % 5);
		snprintf(actors[i].handle, sizeof(actors[i].handle), "h%d", i);
	}
	while (done < 600) {
		int i = (int)(random() % N_ACTORS);
		struct err err = ERR_INIT;
		struct store_req req;
		int r;

		if (!actors[i].rq) {
			struct ipam_assign a = assign_args(actors[i].host, actors[i].handle);

			/* Time passes, so that empty blocks are taken over. */
			a.now_ns = NOW + done * S;
			actors[i].release = actors[i].has;
			actors[i].rq = actors[i].has
					       ? ipam_release_handle_new(actors[i].handle, a.now_ns)
					       : ipam_assign_new(&a);
		}
		r = ipam_request_step(actors[i].rq, &req, &err);
		if (r > 0) {
			ck_assert_int_eq(db_do(actors[i].rq, &req, &err), 0);
			continue;
		}
		ck_assert_msg(r == 0, "%s: %s", actors[i].handle, err.text);
		if (!actors[i].release) {
			actors[i].ip = ipam_request_addr(actors[i].rq, IP_V4)->ip;
			for (int k = 0; k < N_ACTORS; k++)
				ck_assert(k == i || !actors[k].has || actors[k].release ||
					  !ip_equal(&actors[k].ip, &actors[i].ip));
		}
		actors[i].has = !actors[i].release;
		ipam_request_free(actors[i].rq);
		actors[i].rq = NULL;
		done++;
	}
	for (int i = 0; i < N_ACTORS; i++) {
		if (actors[i].rq)
			run_and_free(actors[i].rq);
		run_and_free(ipam_release_handle_new(actors[i].handle, NOW));
	}
	ck_assert_uint_eq(count_in_use(NULL), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), 0);
}
END_TEST

/* One handle, taken and released by several at once: an address has its handle at every instant. */
START_TEST(interleaved_on_one_handle)
{
	static const char *const handles[] = {"h", "i"};
	struct ipam_request *rqs[6] = {0};
	bool is_drop[6] = {false};
	struct ip base = ip_of("10.1.0.0"), ip;
	int done = 0;

	seed_and_say();
	db_reset();
	put_pool("p", "10.1.0.0/28", 30, "");
	while (done < 1000) {
		int i = (int)(random() % (long)array_size(rqs));
		const char *handle = handles[random() % 2];
		struct err err = ERR_INIT;
		struct store_req req;
		unsigned writes = db.writes;
		size_t used;
		int r;

		if (!rqs[i]) {
			struct ipam_assign a = assign_args(i % 2 ? "n1" : "n2", handle);

			a.reuse = random() % 2;
			ip_add(&base, (uint64_t)random() % 16, &ip);
			is_drop[i] = random() % 4 == 0;
			rqs[i] = is_drop[i]	? ipam_drop_handle_new(handle, a.now_ns)
				 : random() % 2 ? ipam_assign_new(&a)
				 : random() % 2 ? ipam_release_ip_new(&ip, NULL, a.now_ns)
						: ipam_release_handle_new(handle, a.now_ns);
		}
		r = ipam_request_step(rqs[i], &req, &err);
		if (r > 0) {
			used = count_in_use(NULL);
			db.lose = random() % 30 == 0;
			if (db_do(rqs[i], &req, &err) < 0)
				r = -ETIMEDOUT;
			if (db.writes != writes)
				check_consistent();
			ck_assert(!is_drop[i] || count_in_use(NULL) == used);
		}
		/* Now and then one dies. */
		if (r <= 0 || random() % 50 == 0) {
			ck_assert_msg(r >= 0 || r == -ENOENT || r == -ENOSPC || r == -EBUSY ||
					      r == -ETIMEDOUT,
				"%s", err.text);
			ipam_request_free(rqs[i]);
			rqs[i] = NULL;
			done++;
		}
	}
	for (size_t i = 0; i < array_size(rqs); i++)
		ipam_request_free(rqs[i]);
	for (size_t i = 0; i < array_size(handles); i++)
		run_and_free(ipam_release_handle_new(handles[i], NOW));
	ck_assert_uint_eq(count_in_use(NULL), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), 0);
}
END_TEST

/* A release in doubt counts anew while an assignment is between the handle and the block. */
START_TEST(recounted_while_assigned)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct ipam_request *release, *rq = ipam_assign_new(&a);
	struct err err = ERR_INIT;
	struct store_req req;
	struct ip ip;

	setup();
	ip = assign("n1", "h");
	release = ipam_release_ip_new(&ip, NULL, NOW);
	do {
		ck_assert_int_eq(ipam_request_step(release, &req, &err), 1);
		db.lose = req.verb == STORE_UPDATE;
		ck_assert_int_eq(db_do(release, &req, &err), 0);
	} while (count_in_use("h") > 0);
	ck_assert_int_eq(run_until(rq, 1, &err), 1);
	ck_assert_int_eq(run_until(release, 0, &err), -ETIMEDOUT);
	ck_assert_int_eq(run_until(rq, 0, &err), 0);
	check_consistent();
	ck_assert_uint_eq(count_in_use("h"), 1);
	ipam_request_free(rq);
	ipam_request_free(release);
}
END_TEST

/* A block with addresses has its affinity at every instant, and one that is confirmed its block. */
static void check_owned(bool confirmed, const char *when)
{
	struct mem_kv *kv;

	vec_for_each (&db.v, kv) {
		char host[IPAM_KEY_SIZE], key[IPAM_KEY_SIZE];
		struct ipam_affinity a = {0};
		struct ipam_block *b;
		struct prefix cidr;
		const char *text;

		if (ipam_key_parse_affinity(kv->key, host, &cidr)) {
			ck_assert_int_eq(
				ipam_affinity_decode(kv->value, strlen(kv->value), &a, NULL), 0);
			text = key_text(ipam_key_block(&cidr, key));
			ck_assert_msg(text || a.state != IPAM_CONFIRMED, "%s: %s: no block", when,
				kv->key);
		}
		if (!ipam_key_parse_block(kv->key, &cidr))
			continue;
		ck_assert_int_eq(ipam_block_decode(kv->value, strlen(kv->value), &b, NULL), 0);
		if (block_host(b) && !block_is_empty(b)) {
			text = key_text(ipam_key_affinity(block_host(b), &cidr, key));
			ck_assert_msg(text, "%s: %s: no affinity", when, kv->key);
			ck_assert_int_eq(ipam_affinity_decode(text, strlen(text), &a, NULL), 0);
			ck_assert_msg(!confirmed || a.state == IPAM_CONFIRMED, "%s: %s: %s", when,
				kv->key, text);
		}
		ipam_block_free(b);
	}
}

/* What takes the only block from n1. */
static struct ipam_request *releaser(int kind)
{
	struct ipam_assign a = assign_args("n2", "other");

	a.now_ns = NOW + 3600 * S;
	return kind == 2 ? ipam_assign_new(&a) : ipam_unclaim_new(NULL, "n1", kind == 0, a.now_ns);
}

static struct {
	uint64_t v[1 << 16]; /* hashed; 0: free */
	size_t n;
} seen;

static bool is_new(uint64_t state)
{
	size_t i = state % array_size(seen.v);

	for (; seen.v[i] != 0; i = (i + 1) % array_size(seen.v))
		if (seen.v[i] == state)
			return false;
	ck_assert_uint_lt(++seen.n, array_size(seen.v) / 2);
	seen.v[i] = state;
	return true;
}

/*
 * Two requests in these turns, "0110...", and then in every order. What each was told and what the
 * datastore has is all that the rest goes by: where that was seen before, so was the rest.
 */
static void take_turns(int kind, bool stale, const char *turns)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct prefix cidr = prefix_from("10.1.0.0/30");
	auto_(ipam_block) struct ipam_block *b = block_create(&cidr, "n1", NOW);
	auto_free char *block = ipam_block_encode(b);
	struct ipam_request *rqs[2];
	uint64_t told[3] = {0};
	bool done[2] = {false};
	char when[120];
	bool last;
	int who = 0;

	db_reset();
	put_pool("p", "10.1.0.0/30", 30, "");
	db_put(IPAM_KEY_AFFINITIES "n1/ipv4/block/10.1.0.0-30",
		stale ? "{\"state\":\"pending\"}" : "{\"state\":\"confirmed\"}");
	if (!stale)
		db_put(IPAM_KEY_BLOCKS "ipv4/block/10.1.0.0-30", block);
	a.now_ns = NOW + 3600 * S + 1;
	rqs[0] = releaser(kind);
	rqs[1] = ipam_assign_new(&a);
	snprintf(
		when, sizeof(when), "releaser %d%s, turns %s", kind, stale ? ", stale" : "", turns);
	for (const char *t = turns; *t; t++) {
		struct err err = ERR_INIT;
		struct store_req req;
		int r;

		who = *t - '0';
		r = ipam_request_step(rqs[who], &req, &err);
		if (r > 0) {
			ck_assert_int_eq(db_do(rqs[who], &req, &err), 0);
			told[who] = hash_bytes((uint64_t[]){told[who], db.told}, 16);
		} else {
			ck_assert_msg(r == 0 || (who == 0 && (r == -EBUSY || r == -ENOENT)),
				"%s: %s", when, err.text);
			done[who] = true;
		}
	}
	ipam_request_free(rqs[0]);
	ipam_request_free(rqs[1]);
	told[2] = db_hash("") + done[0] + 2 * done[1];
	if (!is_new(hash_bytes(told, sizeof(told))))
		return;
	ck_assert_msg(strlen(turns) < 100, "%s: no end", when);
	check_owned(done[0] && done[1], when);
	if (done[0] && done[1]) {
		check_consistent();
		ck_assert_uint_eq(count_in_use("h"), 1);
	}
	/* They could disturb each other for ever: after enough lost races one goes on to its end. */
	last = db.lost > (kind == 2 ? 0 : 1);
	for (int i = 0; i < 2; i++, who = !who) {
		auto_free char *next = mem_printf("%s%d", turns, who);

		if (done[who])
			continue;
		take_turns(kind, stale, next);
		if (last)
			break;
	}
}

/*
 * A node takes an address while its empty block is taken away: in every order up to the second lost
 * race, of two assignments, which have more steps, up to the first.
 */
START_TEST(taken_away_while_claimed)
{
	take_turns(_i / 2, _i % 2, "");
}
END_TEST

/* A small world in which assigning needs every kind of write, one after the other. */
static void crash_setup(int kind)
{
	db_reset();
	put_pool("p", "10.1.0.0/29", 30, "");
	if (kind == 1) { /* takes over an empty block of another's */
		assign("old", "x");
		for (int i = 0; i < 4; i++)
			assign("full", "y");
		run_and_free(ipam_release_handle_new("x", NOW));
	} else if (kind == 2) { /* gives back */
		assign("n1", "crash");
		assign("n1", "crash");
	} else if (kind == 3) { /* a block with an address in use changes hands */
		assign("n1", "x");
	}
}

static struct ipam_request *crash_request(int kind)
{
	struct ipam_assign a = assign_args("n1", "crash");

	a.now_ns = NOW + 3600 * S;
	switch (kind) {
	case 2:
		return ipam_release_handle_new("crash", a.now_ns);
	case 3:
		return ipam_unclaim_new(NULL, "n1", false, a.now_ns);
	default:
		return ipam_assign_new(&a);
	}
}

START_TEST(crash_after_each_write)
{
	unsigned n = 1;
	int r;

	do {
		struct ipam_request *rq;
		struct err err = ERR_INIT;
		size_t before, used;
		VEC(struct ip) got = {0};

		crash_setup(_i);
		rq = crash_request(_i);
		r = run_until(rq, n++, &err);
		ck_assert_msg(r >= 0, "%s", err.text);
		ipam_request_free(rq);
		check_consistent();
		/* What crashed is released; whatever else there is stays. */
		r = run_and_free(ipam_release_handle_new("crash", NOW + 3600 * S)) == -ENOENT ? r
											      : r;
		ck_assert_uint_eq(count_in_use("crash"), 0);
		ck_assert_ptr_null(db_find(IPAM_KEY_HANDLES "crash"));
		check_consistent();
		before = count_in_use(NULL);
		/* Two nodes use up all there is, and nothing twice. */
		for (used = before; used < 8; used++) {
			struct ipam_assign a = assign_args(used % 2 ? "n1" : "n2", "all");
			struct ip ip;

			a.now_ns = NOW + 7200 * S;
			ck_assert_msg(assign_with(&a, &ip, &err) == 0, "write %u, %zu used: %s",
				n - 1, used, err.text);
			for (size_t i = 0; i < got.n; i++)
				ck_assert(!ip_equal(&got.v[i], &ip));
			vec_push(&got, ip);
			ck_assert_uint_eq(count_in_use(NULL), used + 1);
		}
		run_and_free(ipam_release_handle_new("all", NOW + 7200 * S));
		ck_assert_uint_eq(count_in_use(NULL), before);
		vec_done(&got);
	} while (r == 1);
	ck_assert_uint_ge(n, 4);
}
END_TEST

/*
 * On a store's event loop, with failures of its operations.
 */
struct outcome {
	int r, calls;
	struct err err;
};

static void on_done(struct ipam_request *rq, int r, const struct err *err, void *arg)
{
	struct outcome *o = arg;

	ck_assert_ptr_nonnull(rq);
	o->r = r;
	o->err = *err;
	o->calls++;
}

static int start_and_free(
	struct event_base *base, struct store *st, struct ipam_request *rq, struct ip *ret)
{
	struct outcome o = {0};
	const struct ipam_addr *a;

	ipam_start(st, rq, on_done, &o);
	for (int i = 0; i < 1000 && o.calls == 0; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_int_eq(o.calls, 1);
	ck_assert(o.r == 0 || o.err.text[0] != '\0');
	a = ipam_request_addr(rq, IP_V4);
	if (o.r == 0 && ret && a)
		*ret = a->ip;
	ipam_request_free(rq);
	return o.r;
}

/* The n-th operation fails; afterwards the same again works, and nothing is left over. */
START_TEST(store_fails)
{
	static const int errors[] = {-ESTALE, -EHOSTUNREACH, -ETIMEDOUT};
	struct ipam_assign a = assign_args("n1", "h");
	struct event_base *base = event_base_new();
	bool failed = true;
	unsigned n;

	a.reuse = true;
	for (n = 1; failed; n++) {
		struct store *st = store_fake_new(base);
		struct ip first = {0}, again = {0};
		unsigned before;
		int r;

		store_fake_put(st, POOL_KEY "p", "{\"spec\":{\"cidr\":\"10.244.0.0/16\"}}");
		before = store_fake_op_count(st);
		store_fake_fail_nth(st, n, errors[_i]);
		r = start_and_free(base, st, ipam_assign_new(&a), &first);
		failed = store_fake_op_count(st) - before >= n;
		ck_assert_int_eq(r, failed && errors[_i] != -ESTALE ? errors[_i] : 0);
		store_fake_fail_nth(st, 0, 0);
		ck_assert_int_eq(start_and_free(base, st, ipam_assign_new(&a), &again), 0);
		ck_assert(r < 0 || ip_equal(&first, &again));
		ck_assert_int_eq(
			start_and_free(base, st, ipam_release_handle_new("h", NOW), NULL), 0);
		ck_assert_int_eq(
			start_and_free(base, st, ipam_unclaim_new(NULL, "n1", true, NOW), NULL), 0);
		store_close(st);
	}
	ck_assert_uint_gt(n, 12);
	event_base_free(base);
}
END_TEST

/* An older Kubernetes cluster has not all of the kinds. */
START_TEST(kind_is_not_there)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct event_base *base = event_base_new();
	struct store *st = store_fake_new(base);
	struct ip ip = {0};

	store_fake_put(st, POOL_KEY "p", "{\"spec\":{\"cidr\":\"10.244.0.0/16\"}}");
	store_fake_lack(st, "/calico/resources/v3/projectcalico.org/ipreservations/");
	ck_assert_int_eq(start_and_free(base, st, ipam_assign_new(&a), &ip), 0);
	ck_assert_int_eq(ip.family, IP_V4);
	store_fake_lack(st, POOL_KEY);
	a.handle = "h2";
	ck_assert_int_eq(start_and_free(base, st, ipam_assign_new(&a), &ip), -ENOENT);
	store_close(st);
	event_base_free(base);
}
END_TEST

/* A block whose affinity an older Calico wrote such that no list of the node's has it. */
START_TEST(unindexed_is_found)
{
	static const char key[] = "/calico/ipam/v2/host/n1/ipv4/block/10.244.77.0-26";
	struct ipam_assign a = assign_args("n1", "h");
	struct prefix cidr = prefix_from("10.244.77.0/26");
	struct event_base *base = event_base_new();
	struct store *st = store_fake_new(base);
	struct ipam_request *rq;
	struct ip ip = {0};

	store_fake_put(st, POOL_KEY "p", "{\"spec\":{\"cidr\":\"10.244.0.0/16\"}}");
	rq = ipam_claim_new(&cidr, "n1", NOW);
	ck_assert_int_eq(start_and_free(base, st, rq, NULL), 0);
	store_fake_unindex(st, key);
	ck_assert_int_eq(start_and_free(base, st, ipam_assign_new(&a), &ip), 0);
	ck_assert(prefix_contains(&cidr, &ip));
	store_fake_unindex(st, key);
	ck_assert_int_eq(start_and_free(base, st, ipam_release_handle_new("h", NOW), NULL), 0);
	store_fake_unindex(st, key);
	ck_assert_int_eq(
		start_and_free(base, st, ipam_unclaim_new(NULL, "n1", true, NOW), NULL), 0);
	ck_assert_ptr_null(store_fake_value(st, key));
	store_close(st);
	event_base_free(base);
}
END_TEST

/* What another wrote as the owner of a block is no name of a node's. */
START_TEST(owner_is_no_name)
{
	struct ip ip;

	setup();
	put_pool("p", "10.244.0.0/16", 26, ",\"nodeSelector\":\"has(rack)\"");
	put_node("n1", "r");
	ip = assign("n1", "h");
	for (struct mem_kv *kv = db.v.v; kv < db.v.v + db.v.n; kv++) {
		char *at = strstr(kv->value, "\"affinity\":\"host:n1\"");

		if (at)
			memcpy(at, "\"affinity\":\"host: 1\"", strlen("\"affinity\":\"host: 1\""));
	}
	ck_assert_int_eq(ip.family, IP_V4);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("h", NOW)), 0);
}
END_TEST

/* A failure after each operation, when an address of one family may have been taken already. */
START_TEST(failed_is_undone)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct event_base *base = event_base_new();
	bool failed = true;
	unsigned n;

	a.reuse = true;
	for (n = 1; failed; n++) {
		struct store *st = store_fake_new(base);
		struct ip v4 = {0}, again = {0};
		unsigned before;

		store_fake_put(st, POOL_KEY "p", "{\"spec\":{\"cidr\":\"10.244.0.0/16\"}}");
		store_fake_put(st, POOL_KEY "six", "{\"spec\":{\"cidr\":\"fd00::/64\"}}");
		/* Every other time the handle has an address, which stays. */
		a.v6 = false;
		if (_i == 1)
			ck_assert_int_eq(start_and_free(base, st, ipam_assign_new(&a), &v4), 0);
		a.v6 = true;
		before = store_fake_op_count(st);
		store_fake_fail_nth(st, n, -EHOSTUNREACH);
		failed = start_and_free(base, st, ipam_assign_new(&a), NULL) < 0;
		store_fake_fail_nth(st, 0, 0);
		ck_assert(failed == (store_fake_op_count(st) - before >= n));
		if (failed && _i == 0)
			ck_assert_ptr_null(store_fake_value(st, IPAM_KEY_HANDLES "h"));
		if (failed && _i == 1)
			ck_assert_int_eq(
				start_and_free(base, st, ipam_lookup_handle_new("h"), &again), 0);
		ck_assert(ip_equal(&v4, &again) || !failed);
		if (_i == 1)
			start_and_free(base, st, ipam_release_ip_new(&v4, "h", NOW), NULL);
		/* ENOENT: it has not come to the first block. */
		ck_assert_int_ne(
			start_and_free(base, st, ipam_unclaim_new(NULL, "n1", failed, NOW), NULL),
			-EBUSY);
		store_close(st);
	}
	ck_assert_uint_gt(n, 12);
	event_base_free(base);
}
END_TEST

START_TEST(cancelled)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct event_base *base = event_base_new();
	struct store *st = store_fake_new(base);
	struct ipam_request *rq = ipam_assign_new(&a);
	struct outcome o = {0};

	ipam_start(st, rq, on_done, &o);
	ipam_request_free(rq);
	for (int i = 0; i < 10; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_int_eq(o.calls, 0);
	store_close(st);
	event_base_free(base);
}
END_TEST

/* What a store has, into `db`. */
static void load_db(struct store *st)
{
	struct store_list list;
	struct err err = ERR_INIT;

	db_reset();
	ck_assert_msg(store_list_wait(st, IPAM_ROOT, 0, &list, &err) == 0, "%s", err.text);
	for (size_t i = 0; i < list.n; i++)
		db_put(list.v[i].key, list.v[i].value);
	store_list_done(&list);
}

/* A handle counts what its blocks have, and at most so many too many. */
static void check_counts(uint32_t too_many, const char *when)
{
	struct mem_kv *kv;

	vec_for_each (&db.v, kv) {
		struct ipam_handle *h;
		const char *handle = kv->key + strlen(IPAM_KEY_HANDLES);

		if (strncmp(kv->key, IPAM_KEY_HANDLES, strlen(IPAM_KEY_HANDLES)) != 0)
			continue;
		ck_assert_int_eq(ipam_handle_decode(kv->value, strlen(kv->value), &h, NULL), 0);
		for (size_t i = 0; i < h->blocks.n; i++) {
			char key[IPAM_KEY_SIZE];
			const char *text = key_text(ipam_key_block(&h->blocks.v[i].cidr, key));
			struct ipam_block *b = NULL;
			uint32_t n = 0, pos = 0;
			struct ip ip;

			if (text)
				ck_assert_int_eq(
					ipam_block_decode(text, strlen(text), &b, NULL), 0);
			while (b && block_next_of_handle(b, handle, &pos, &ip))
				n++;
			ck_assert_msg(
				n <= h->blocks.v[i].count && h->blocks.v[i].count <= n + too_many,
				"%s: handle %s: %u of %s, counted %u", when, handle, n,
				prefix_str(&h->blocks.v[i].cidr), h->blocks.v[i].count);
			ipam_block_free(b);
		}
		ipam_handle_free(h);
	}
}

enum lossy {
	LOSSY_ASSIGN,
	LOSSY_TAKE_OVER, /* of an empty block of another node's */
	LOSSY_ASSIGN_NAMED,
	LOSSY_RELEASE_HANDLE,
	LOSSY_RELEASE_IP,
	LOSSY_RELEASE_LAST, /* of a block that belongs to nobody */
	LOSSY_DROP,
	LOSSY_CLAIM,
	LOSSY_UNCLAIM,
	LOSSY_UNCLAIM_USED,
	N_LOSSY,
};

#define LATER (NOW + 3600 * S)

static struct ipam_request *lossy_request(enum lossy kind)
{
	struct prefix cidr = prefix_from("10.1.0.0/29");
	struct ip ip = ip_of("10.1.0.1");
	struct ipam_assign a = {.host = "n1",
		.handle = "h",
		.v4 = true,
		.v6 = kind == LOSSY_ASSIGN,
		.reuse = true,
		.now_ns = LATER};

	switch (kind) {
	case LOSSY_ASSIGN_NAMED:
		a.ip = ip;
		return ipam_assign_new(&a);
	case LOSSY_RELEASE_HANDLE:
		return ipam_release_handle_new("h", LATER);
	case LOSSY_RELEASE_IP:
	case LOSSY_RELEASE_LAST:
		return ipam_release_ip_new(&ip, "h", LATER);
	case LOSSY_DROP:
		return ipam_drop_handle_new("h", LATER);
	case LOSSY_CLAIM:
		return ipam_claim_new(&cidr, "n1", LATER);
	case LOSSY_UNCLAIM:
	case LOSSY_UNCLAIM_USED:
		return ipam_unclaim_new(NULL, "n1", kind == LOSSY_UNCLAIM, LATER);
	default:
		return ipam_assign_new(&a);
	}
}

static int do_request(struct store *st, struct ipam_request *rq, struct ip *ret)
{
	struct err err = ERR_INIT;
	int r = ipam_run(st, rq, 0, &err);
	const struct ipam_addr *a = ipam_request_addr(rq, IP_V4);

	ck_assert(r == 0 || err.text[0] != '\0');
	*ret = r == 0 && a ? a->ip : (struct ip){0};
	ipam_request_free(rq);
	return r;
}

static void lossy_setup(struct store *st, enum lossy kind)
{
	struct prefix cidr = prefix_from("10.1.0.0/30");
	struct ip ip;

	store_fake_put(st, POOL_KEY "p", "{\"spec\":{\"cidr\":\"10.1.0.0/29\",\"blockSize\":30}}");
	store_fake_put(st, POOL_KEY "q", "{\"spec\":{\"cidr\":\"fd00::/64\"}}");
	if (kind == LOSSY_CLAIM)
		return;
	ck_assert_int_eq(do_request(st, ipam_claim_new(&cidr, "n1", NOW), &ip), 0);
	if (kind >= LOSSY_RELEASE_HANDLE && kind != LOSSY_UNCLAIM) {
		struct ipam_assign a = assign_args("n1", "h");

		a.ip = ip_of("10.1.0.1");
		ck_assert_int_eq(do_request(st, ipam_assign_new(&a), &ip), 0);
	}
	if (kind == LOSSY_RELEASE_LAST)
		ck_assert_int_eq(do_request(st, ipam_unclaim_new(NULL, "n1", false, NOW), &ip), 0);
	if (kind == LOSSY_DROP) { /* an assignment has died after it was counted */
		struct ipam_handle *h = ipam_handle_new();
		char *text;

		ck_assert_int_eq(do_request(st, ipam_release_handle_new("h", NOW), &ip), 0);
		vec_push(&h->blocks, (struct ipam_handle_block){cidr, 1});
		text = ipam_handle_encode(h);
		store_fake_put(st, IPAM_KEY_HANDLES "h", text);
		free(text);
		ipam_handle_free(h);
	}
	if (kind == LOSSY_TAKE_OVER) { /* n2's is empty, and n1 has no room */
		struct prefix other = prefix_from("10.1.0.4/30");

		ck_assert_int_eq(do_request(st, ipam_claim_new(&other, "n2", NOW), &ip), 0);
		for (unsigned i = 0; i < 4; i++) {
			struct ipam_assign a = assign_args("n1", "full");

			ck_assert_int_eq(do_request(st, ipam_assign_new(&a), &ip), 0);
		}
	}
}

/* The answers to the n-th operation, and to the m-th of the next try, are lost; false: there are fewer. */
static bool lose_answers(enum lossy kind, unsigned n, unsigned m)
{
	struct store *st = store_fake_new(NULL);
	size_t others = kind == LOSSY_TAKE_OVER ? 4 : 0, used;
	bool assigns = kind <= LOSSY_ASSIGN_NAMED;
	unsigned lost[] = {n, m}, i;
	struct ip ip = {0}, again;
	bool reached = true;
	char when[64];
	int r;

	snprintf(when, sizeof(when), "operation %d, answers %u and %u lost", kind, n, m);
	lossy_setup(st, kind);
	for (i = 0; i < array_size(lost) && lost[i] != 0 && reached; i++) {
		unsigned before = store_fake_op_count(st);

		store_fake_lose_nth(st, lost[i]);
		(void)do_request(st, lossy_request(kind), &ip);
		reached = store_fake_op_count(st) - before >= lost[i];
		store_fake_lose_nth(st, 0);
	}
	r = do_request(st, lossy_request(kind), &again);
	ck_assert_msg(
		r == 0 || (!assigns && kind != LOSSY_CLAIM && r == -ENOENT), "%s: %d", when, r);
	ck_assert(!assigns || ip.family == IP_NONE || ip_equal(&ip, &again));
	load_db(st);
	check_consistent();
	check_owned(true, when);
	used = kind == LOSSY_ASSIGN ? 2 : assigns || kind == LOSSY_UNCLAIM_USED ? 1 : 0;
	ck_assert_msg(count_in_use("h") == used, "%s: %zu in use", when, count_in_use("h"));
	ck_assert_uint_eq(count_in_use(NULL) - used, others);
	if (kind == LOSSY_CLAIM)
		ck_assert_uint_eq(count_keys(IPAM_KEY_AFFINITIES "n1/"), 2);
	if (kind == LOSSY_UNCLAIM || kind == LOSSY_UNCLAIM_USED)
		ck_assert_uint_eq(count_keys(IPAM_KEY_AFFINITIES), 0);
	/* Whether the handle was counted up nobody knows then: the release by it sets it right. */
	check_counts(assigns ? i : 0, when);
	r = do_request(st, ipam_release_handle_new("h", LATER), &ip);
	ck_assert(r == (key_text(IPAM_KEY_HANDLES "h") ? 0 : -ENOENT));
	load_db(st);
	ck_assert_uint_eq(count_in_use(NULL), others);
	ck_assert_msg(!key_text(IPAM_KEY_HANDLES "h"), "%s: handle", when);
	check_consistent();
	store_close(st);
	return reached;
}

/* Whatever answer of the datastore is lost, the caller does it again: nothing is leaked or given twice. */
START_TEST(answer_is_lost)
{
	unsigned n;

	for (n = 1; lose_answers((enum lossy)_i, n, 0); n++)
		for (unsigned m = 1; lose_answers((enum lossy)_i, n, m); m++)
			;
	ck_assert_uint_gt(n, 4);
}
END_TEST

/*
 * Processes on SQLite.
 */
enum { N_PROCS = 8, N_EACH = 25 };

static int child(const char *path, int no, FILE *out)
{
	struct store_conf conf = {.type = "sqlite", .sqlite_path = path};
	struct err err = ERR_INIT;
	struct store *st;

	if (store_open(&conf, NULL, &st, &err) < 0)
		return 1;
	for (int i = 0; i < N_EACH; i++) {
		auto_free char *host = mem_printf("n%d", no % 3);
		auto_free char *handle = mem_printf("h%d.%d", no, i);
		struct ipam_assign a = assign_args(host, handle);
		struct ipam_request *rq;
		int r;

		a.now_ns = clock_real_ns();
		rq = ipam_assign_new(&a);
		r = ipam_run(st, rq, clock_mono_ms() + 60000, &err);
		if (r < 0) {
			fprintf(stderr, "%s: %s\n", handle, err.text);
			return 1;
		}
		fprintf(out, "%s\n", ip_str(&ipam_request_addr(rq, IP_V4)->ip));
		ipam_request_free(rq);
		if (i % 5 != 4)
			continue;
		rq = ipam_release_handle_new(handle, a.now_ns);
		r = ipam_run(st, rq, clock_mono_ms() + 60000, &err);
		ipam_request_free(rq);
		if (r < 0) {
			fprintf(stderr, "release %s: %s\n", handle, err.text);
			return 1;
		}
		fprintf(out, "-\n");
	}
	store_close(st);
	return 0;
}

static void load_sqlite_blocks(const char *path)
{
	struct store_conf conf = {.type = "sqlite", .sqlite_path = path};
	struct err err = ERR_INIT;
	struct store *st;

	ck_assert_int_eq(store_open(&conf, NULL, &st, &err), 0);
	load_db(st);
	store_close(st);
}

START_TEST(processes_on_sqlite)
{
	const char *dir = test_dir();
	auto_free char *path = NULL;
	struct store_conf conf = {.type = "sqlite"};
	struct err err = ERR_INIT;
	pid_t pids[N_PROCS];
	struct store *st;

	path = mem_printf("%s/db", dir);
	conf.sqlite_path = path;
	ck_assert_int_eq(store_open(&conf, NULL, &st, &err), 0);
	setup();
	ck_assert_msg(store_create_wait(st, db.v.v[0].key, db.v.v[0].value, 0, NULL, &err) == 0,
		"%s", err.text);
	store_close(st);
	for (int i = 0; i < N_PROCS; i++) {
		auto_free char *out = mem_printf("%s/out%d", dir, i);

		pids[i] = fork();
		if (pids[i] == 0) {
			FILE *f = fopen(out, "we");
			int r = f ? child(path, i, f) : 1;

			if (f)
				fclose(f);
			_exit(r);
		}
	}
	for (int i = 0; i < N_PROCS; i++) {
		int status;

		ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
		ck_assert_int_eq(status, 0);
	}
	/* Each handle that was not released has one address, and no address has two. */
	load_sqlite_blocks(path);
	ck_assert_uint_eq(count_in_use(NULL), N_PROCS * N_EACH * 4 / 5);
	ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), N_PROCS * N_EACH * 4 / 5);
	for (int i = 0; i < N_PROCS; i++) {
		for (int k = 0; k < N_EACH; k++) {
			auto_free char *handle = mem_printf("h%d.%d", i, k);

			ck_assert_uint_eq(count_in_use(handle), k % 5 == 4 ? 0 : 1);
		}
	}
}
END_TEST

/* Takes and gives back an address of its own for ever. */
static _Noreturn void restless_child(const char *path, int no)
{
	struct store_conf conf = {.type = "sqlite", .sqlite_path = path};
	auto_free char *host = mem_printf("n%d", no % 3), *handle = mem_printf("h%d", no);
	struct err err = ERR_INIT;
	struct store *st;

	if (store_open(&conf, NULL, &st, &err) < 0)
		_exit(1);
	for (;;) {
		struct ipam_assign a = assign_args(host, handle);
		struct ipam_request *rq;
		int r;

		/* In every other life a minute has passed, and empty blocks change hands. */
		a.now_ns = clock_real_ns() + getpid() % 2 * 120 * S;
		rq = ipam_assign_new(&a);
		r = ipam_run(st, rq, clock_mono_ms() + 60000, &err);
		ipam_request_free(rq);
		if (r < 0)
			_exit(2);
		rq = getpid() % 3 ? ipam_release_handle_new(handle, a.now_ns)
				  : ipam_unclaim_new(NULL, host, false, a.now_ns);
		r = ipam_run(st, rq, clock_mono_ms() + 60000, &err);
		ipam_request_free(rq);
		if (r < 0 && r != -ENOENT)
			_exit(3);
	}
}

/* Processes that are killed at any instant, over and over; then everything is released. */
START_TEST(killed_on_sqlite)
{
	const char *dir = test_dir();
	auto_free char *path = NULL;
	struct store_conf conf = {.type = "sqlite"};
	struct err err = ERR_INIT;
	pid_t pids[4] = {0};
	struct store *st;
	int status;

	seed_and_say();
	path = mem_printf("%s/db", dir);
	conf.sqlite_path = path;
	ck_assert_int_eq(store_open(&conf, NULL, &st, &err), 0);
	ck_assert_int_eq(
		store_create_wait(st, POOL_KEY "p",
			"{\"spec\":{\"cidr\":\"10.1.0.0/22\",\"blockSize\":28}}", 0, NULL, &err),
		0);
	for (int round = 0; round < 60; round++) {
		int i = (int)(random() % 4);

		for (int k = 0; k < 4; k++) {
			if (pids[k] == 0) {
				pids[k] = fork();
				if (pids[k] == 0)
					restless_child(path, k);
			}
		}
		usleep((useconds_t)(random() % 20000));
		kill(pids[i], SIGKILL);
		ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
		ck_assert_msg(
			WIFSIGNALED(status), "child %d ended with %d", i, WEXITSTATUS(status));
		pids[i] = 0;
	}
	for (int k = 0; k < 4; k++) {
		if (pids[k] == 0)
			continue;
		kill(pids[k], SIGKILL);
		ck_assert_int_eq(waitpid(pids[k], &status, 0), pids[k]);
	}
	for (int k = 0; k < 4; k++) {
		auto_free char *handle = mem_printf("h%d", k);
		struct ipam_request *rq = ipam_release_handle_new(handle, clock_real_ns());
		int r = ipam_run(st, rq, 0, &err);

		ck_assert_msg(r == 0 || r == -ENOENT, "%s", err.text);
		ipam_request_free(rq);
	}
	store_close(st);
	load_sqlite_blocks(path);
	ck_assert_uint_eq(count_in_use(NULL), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), 0);
	check_consistent();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ipam");
	TCase *t = tcase_create("block");
	SRunner *sr;
	int failed;

	tcase_add_test(t, block_is_calicos);
	tcase_add_test(t, block_cools_down);
	tcase_add_loop_test(t, block_against_naive_model, 0, 2);
	tcase_add_loop_test(t, bad_block_is_refused, 0, array_size(bad_blocks));
	suite_add_tcase(s, t);
	t = tcase_create("large");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, large_is_quick);
	suite_add_tcase(s, t);
	t = tcase_create("turns");
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, taken_away_while_claimed, 0, 6);
	suite_add_tcase(s, t);
	t = tcase_create("alloc");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, write_order);
	tcase_add_test(t, blocks_limits_and_borrowing);
	tcase_add_test(t, pools_are_chosen);
	tcase_add_test(t, pools_select_nodes);
	tcase_add_test(t, pools_select_namespaces_by_their_labels);
	tcase_add_test(t, pools_are_named_by_family);
	tcase_add_test(t, reserved_is_skipped);
	tcase_add_test(t, named_is_confirmed);
	tcase_add_test(t, cooldown_switched_off);
	tcase_add_test(t, both_families_or_none);
	tcase_add_test(t, released_by_key);
	tcase_add_test(t, another_allocation_stays);
	tcase_add_test(t, handle_is_recounted);
	tcase_add_loop_test(t, recounted_meanwhile, 0, 4);
	tcase_add_test(t, moved);
	tcase_add_test(t, moved_again_after_a_crash);
	tcase_add_test(t, moved_by_two);
	tcase_add_test(t, claims);
	tcase_add_test(t, reserved_together);
	tcase_add_loop_test(t, interleaved, 0, 5);
	tcase_add_loop_test(t, interleaved_on_one_handle, 0, 5);
	tcase_add_test(t, recounted_while_assigned);
	tcase_add_loop_test(t, crash_after_each_write, 0, 4);
	tcase_add_loop_test(t, store_fails, 0, 3);
	tcase_add_loop_test(t, failed_is_undone, 0, 2);
	tcase_add_loop_test(t, answer_is_lost, 0, N_LOSSY);
	tcase_add_test(t, cancelled);
	tcase_add_test(t, kind_is_not_there);
	tcase_add_test(t, unindexed_is_found);
	tcase_add_test(t, owner_is_no_name);
	tcase_add_test(t, processes_on_sqlite);
	tcase_add_test(t, killed_on_sqlite);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	db_reset();
	return failed == 0 ? 0 : 1;
}
