/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit/ipam_db.h"

#include <assert.h>
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hmap.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "ipam/alloc.h"
#include "ipam/block.h"
#include "ipam/step.h"
#include "model/ipam.h"
#include "store/store.h"

void seed_and_say(void)
{
	unsigned seed = (unsigned)clock_real_ns();
	const char *fixed = getenv("SEED");

	if (fixed)
		seed = (unsigned)strtoul(fixed, NULL, 10);
	printf("seed %u\n", seed);
	srandom(seed);
}

struct ip ip_of(const char *s)
{
	struct ip ip;

	ck_assert_int_eq(ip_parse(s, &ip, NULL), 0);
	return ip;
}

struct prefix prefix_from(const char *s)
{
	struct prefix p;

	ck_assert_int_eq(prefix_parse(s, &p, NULL), 0);
	return p;
}

struct ipam_db db;

void db_reset(void)
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

struct mem_kv *db_find(const char *key)
{
	struct mem_kv *kv;

	vec_for_each (&db.v, kv)
		if (strcmp(kv->key, key) == 0)
			return kv;
	return NULL;
}

void db_put(const char *key, const char *value)
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

void db_del(struct mem_kv *kv)
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

uint64_t db_hash(const char *prefix)
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

int db_do(struct ipam_request *rq, const struct store_req *req, struct err *err)
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

int run_until(struct ipam_request *rq, unsigned writes, struct err *err)
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

void put_pool(const char *name, const char *cidr, int block_size, const char *more)
{
	auto_free char *key = mem_printf(POOL_KEY "%s", name);
	auto_free char *value =
		mem_printf("{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\","
			   "\"metadata\":{\"name\":\"%s\"},\"spec\":{\"cidr\":\"%s\","
			   "\"blockSize\":%d%s}}",
			name, cidr, block_size, more);

	db_put(key, value);
}

void setup(void)
{
	db_reset();
	put_pool("p", "10.244.0.0/16", 26, "");
}

struct ipam_assign assign_args(const char *host, const char *handle)
{
	return (struct ipam_assign){.host = host,
		.handle = handle,
		.v4 = true,
		.now_ns = NOW,
		.use = IPAM_USE_WORKLOAD};
}

int assign_with(const struct ipam_assign *a, struct ip *ret, struct err *err)
{
	struct ipam_request *rq = ipam_assign_new(a);
	int r = run_until(rq, 0, err);

	if (r == 0)
		*ret = ipam_request_addr(rq, a->v4 ? IP_V4 : IP_V6)->ip;
	ipam_request_free(rq);
	return r;
}

struct ip assign(const char *host, const char *handle)
{
	struct ipam_assign a = assign_args(host, handle);
	struct err err = ERR_INIT;
	struct ip ip = {0};
	int r = assign_with(&a, &ip, &err);

	ck_assert_msg(r == 0, "%s: %s", handle, err.text);
	return ip;
}

int run_and_free(struct ipam_request *rq)
{
	struct err err = ERR_INIT;
	int r = run_until(rq, 0, &err);

	ck_assert_msg(r == 0 || err.text[0] != '\0', "no message for %d", r);
	ipam_request_free(rq);
	return r;
}

size_t count_in_use(const char *handle)
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

const char *key_text(const char *key)
{
	struct mem_kv *kv = db_find(key);

	return kv ? kv->value : NULL;
}

static void check_affinity(const struct mem_kv *kv, const struct prefix *cidr, const char *when)
{
	struct ipam_affinity a;
	char key[IPAM_KEY_SIZE];

	ck_assert_int_eq(ipam_affinity_decode(kv->value, strlen(kv->value), &a, NULL), 0);
	ck_assert_msg(a.state != IPAM_CONFIRMED || key_text(ipam_key_block(cidr, key)),
		"%s: %s: confirmed, and no block", when, kv->key);
}

static void check_owner(const struct ipam_block *b, bool confirmed, const char *when)
{
	char key[IPAM_KEY_SIZE];
	const char *text = key_text(ipam_key_affinity(block_host(b), &b->cidr, key));
	struct ipam_affinity a;

	ck_assert_msg(text, "%s: %s: none, and the block is there", when, key);
	ck_assert_int_eq(ipam_affinity_decode(text, strlen(text), &a, NULL), 0);
	ck_assert_msg(!confirmed || a.state == IPAM_CONFIRMED, "%s: %s: %s", when, key, text);
}

static void check_handles(const struct ipam_block *b, const char *when)
{
	const struct ipam_block_attr *a;
	char key[IPAM_KEY_SIZE];

	vec_for_each (&b->attrs, a) {
		const char *text = a->handle ? key_text(ipam_key_handle(a->handle, key)) : "";

		ck_assert_msg(text && (!a->handle || strstr(text, prefix_str(&b->cidr))),
			"%s: %s does not have block %s: %s", when, key, prefix_str(&b->cidr),
			text ?: "(gone)");
	}
}

static void check(bool confirmed, bool empty_too, const char *when)
{
	struct mem_kv *kv;

	vec_for_each (&db.v, kv) {
		auto_(ipam_block) struct ipam_block *b = NULL;
		char host[IPAM_KEY_SIZE];
		struct prefix cidr;

		if (ipam_key_parse_affinity(kv->key, host, &cidr))
			check_affinity(kv, &cidr, when);
		if (!ipam_key_parse_block(kv->key, &cidr))
			continue;
		ck_assert_int_eq(ipam_block_decode(kv->value, strlen(kv->value), &b, NULL), 0);
		if (block_host(b) && (empty_too || !block_is_empty(b)))
			check_owner(b, confirmed, when);
		check_handles(b, when);
	}
}

void check_instant(bool confirmed, const char *when)
{
	check(confirmed, false, when);
}

void check_consistent(void)
{
	check(false, true, "at rest");
}

void check_disjoint(const char *when)
{
	VEC(struct prefix) used = {0};
	struct mem_kv *kv;

	vec_for_each (&db.v, kv) {
		auto_(ipam_block) struct ipam_block *b = NULL;
		struct prefix cidr;

		if (!ipam_key_parse_block(kv->key, &cidr))
			continue;
		ck_assert_int_eq(ipam_block_decode(kv->value, strlen(kv->value), &b, NULL), 0);
		if (block_is_empty(b))
			continue;
		for (size_t i = 0; i < used.n; i++)
			ck_assert_msg(!prefix_overlap(&used.v[i], &cidr),
				"%s: %s and %s have addresses", when, prefix_str(&used.v[i]),
				prefix_str(&cidr));
		vec_push(&used, cidr);
	}
	vec_done(&used);
}

size_t count_keys(const char *prefix)
{
	struct mem_kv *kv;
	size_t n = 0;

	vec_for_each (&db.v, kv)
		n += strncmp(kv->key, prefix, strlen(prefix)) == 0;
	return n;
}
