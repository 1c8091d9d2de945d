/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The allocator, with others: requests of several nodes interleaved at random, a crash after each write, answers
 * that are lost, and several processes on SQLite.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hmap.h"
#include "base/mem.h"
#include "base/vec.h"
#include "fake/store_fake.h"
#include "ipam/alloc.h"
#include "ipam/block.h"
#include "ipam/run.h"
#include "ipam/step.h"
#include "model/ipam.h"
#include "store/store.h"
#include "unit/ipam_db.h"
#include "unit/test_dir.h"

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
	check_instant(done[0] && done[1], when);
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

/* Up to the read of the pool, which then has another blockSize. */
static void learn_pool(struct ipam_request *rq, int block_size)
{
	struct err err = ERR_INIT;
	struct store_req req;
	bool last = false;

	put_pool("p", "10.1.0.0/29", block_size, "");
	while (!last) {
		ck_assert_int_eq(ipam_request_step(rq, &req, &err), 1);
		last = strcmp(req.key, POOL_KEY) == 0;
		ck_assert_int_eq(db_do(rq, &req, &err), 0);
	}
}

enum { N_IDEAS = 3 };

/* Nodes that claim blocks over each other's, as take_turns: two, or one of two processes and another. */
static void claim_in_turns(int n, const char *turns)
{
	static const char *const hosts[] = {"n1", "n2", "n1"};
	static const char *const handles[] = {"h0", "h1", "h2"};
	static const int sizes[] = {30, 29, 30};
	struct ipam_request *rqs[N_IDEAS] = {NULL};
	uint64_t told[N_IDEAS + 1] = {0};
	bool done[N_IDEAS] = {false};
	char when[200];

	db_reset();
	for (int i = 0; i < n; i++) {
		struct ipam_assign a = assign_args(hosts[i], handles[i]);

		rqs[i] = ipam_assign_new(&a);
		learn_pool(rqs[i], sizes[i]);
	}
	snprintf(when, sizeof(when), "turns %s", turns);
	for (const char *t = turns; *t; t++) {
		struct err err = ERR_INIT;
		struct store_req req;
		int who = *t - '0', r = ipam_request_step(rqs[who], &req, &err);

		if (r > 0) {
			ck_assert_int_eq(db_do(rqs[who], &req, &err), 0);
			told[who] = hash_bytes((uint64_t[]){told[who], db.told}, 16);
		} else {
			ck_assert_msg(r == 0 || r == -ENOSPC, "%s: %s", when, err.text);
			done[who] = true;
		}
	}
	for (int i = 0; i < n; i++)
		ipam_request_free(rqs[i]);
	told[N_IDEAS] = db_hash("") + done[0] + 2 * done[1] + 4 * done[2];
	if (!is_new(hash_bytes(told, sizeof(told))))
		return;
	ck_assert_msg(strlen(turns) < sizeof(when) - 30, "%s: no end", when);
	check_instant(false, when);
	check_disjoint(when);
	for (int who = 0; who < n; who++) {
		auto_free char *next = mem_printf("%s%d", turns, who);

		if (!done[who])
			claim_in_turns(n, next);
		if (db.lost > (n == 2 ? 2 : 1))
			break;
	}
}

/*
 * A pool whose blockSize is changed by whoever does not look at its blocks, while nodes take addresses of it and give
 * them back, and die now and then.
 */
START_TEST(interleaved_with_a_pool_that_is_remade)
{
	struct ipam_request *rqs[8] = {0};
	int done = 0, given = 0;

	seed_and_say();
	db_reset();
	put_pool("p", "10.1.0.0/26", 30, "");
	while (done < 600) {
		int i = (int)(random() % (long)array_size(rqs));
		auto_free char *host = mem_printf("n%d", i % 4), *handle = mem_printf("h%d", i);
		struct ipam_assign a = assign_args(host, handle);
		struct ip base = ip_of("10.1.0.0");
		struct err err = ERR_INIT;
		struct store_req req;
		unsigned writes = db.writes;
		int r;

		if (random() % 100 == 0)
			put_pool("p", "10.1.0.0/26", 27 + (int)(random() % 5), "");
		/* Time passes, so that empty blocks are taken over. */
		a.now_ns = NOW + done * S;
		if (random() % 4 == 0)
			ip_add(&base, (uint64_t)random() % 64, &a.ip);
		if (!rqs[i])
			rqs[i] = random() % 3	 ? ipam_assign_new(&a)
				 : random() % 20 ? ipam_release_handle_new(handle, a.now_ns)
						 : ipam_unclaim_new(NULL, host, false, a.now_ns);
		r = ipam_request_step(rqs[i], &req, &err);
		if (r > 0)
			ck_assert_int_eq(db_do(rqs[i], &req, &err), 0);
		if (db.writes != writes) {
			check_disjoint("interleaved");
			check_instant(false, "interleaved");
		}
		if (r > 0 && random() % 300 != 0)
			continue;
		ck_assert_msg(
			r >= 0 || r == -ENOENT || r == -ENOSPC || r == -EEXIST, "%s", err.text);
		given += r == 0;
		ipam_request_free(rqs[i]);
		rqs[i] = NULL;
		done++;
	}
	ck_assert_int_gt(given, 300);
	for (size_t i = 0; i < array_size(rqs); i++)
		ipam_request_free(rqs[i]);
}
END_TEST

START_TEST(claimed_by_other_ideas)
{
	claim_in_turns(_i, "");
	ck_assert_uint_gt(seen.n, 100);
	printf("%zu states\n", seen.n);
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

enum again { AGAIN_ASSIGN, AGAIN_TAKE_OVER, AGAIN_MOVE, N_AGAIN };

static struct ipam_request *again_request(enum again kind, const struct ip *ip)
{
	struct ipam_assign a = assign_args("n1", "crash");
	struct prefix block = prefix_of(ip, 30);
	const struct ipam_move m = {.addr = {.ip = *ip, .block = block},
		.from = "x",
		.to = "crash",
		.now_ns = NOW + 3600 * S};

	if (kind == AGAIN_MOVE)
		return ipam_move_new(&m);
	a.v6 = kind == AGAIN_ASSIGN;
	a.reuse = true;
	a.now_ns = NOW + 3600 * S;
	return ipam_assign_new(&a);
}

/* The same request once more, after a crash: the handle does not count what the first one counted. */
START_TEST(again_after_a_crash)
{
	auto_free char *want = NULL;
	int r = 1;

	/* n 0: without a crash */
	for (unsigned n = 0; n == 0 || r == 1; n++) {
		struct ip ip = {0};
		struct err err = ERR_INIT;
		struct ipam_request *rq;

		crash_setup(_i == AGAIN_TAKE_OVER ? 1 : 0);
		put_pool("q", "fd00::/64", 122, "");
		if (_i == AGAIN_MOVE)
			ip = assign("n1", "x");
		rq = again_request((enum again)_i, &ip);
		if (n > 0)
			r = run_until(rq, n, &err);
		ck_assert_msg(r >= 0, "%s", err.text);
		ipam_request_free(rq);
		r = run_and_free(again_request((enum again)_i, &ip)) ?: r;
		if (n == 0)
			want = mem_strdup(key_text(IPAM_KEY_HANDLES "crash"));
		ck_assert_msg(strcmp(key_text(IPAM_KEY_HANDLES "crash"), want) == 0,
			"write %u: %s, want %s", n, key_text(IPAM_KEY_HANDLES "crash"), want);
		ck_assert_uint_eq(count_in_use("crash"), _i == AGAIN_ASSIGN ? 2 : 1);
		check_consistent();
		ck_assert(n < 100);
	}
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
	check_instant(true, when);
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

/* What its prefixes have now, for the attempts that follow. */
static int tell(struct store *st, struct store_told *told, struct err *err)
{
	int r = 0;

	store_list_done(&told->list);
	for (size_t i = 0; i < told->n_prefixes && r == 0; i++) {
		struct store_list l = {0};

		r = store_list_wait(st, told->prefixes[i], 0, &l, err);
		for (size_t k = 0; k < l.n; k++)
			store_list_add_take(&told->list, store_kv_copy(&l.v[k]));
		store_list_done(&l);
	}
	return r;
}

/* First by what is known (told NULL: not so). The caller frees *ret in any case. */
static int assign_known(struct store *st, const struct store_told *told,
	const struct ipam_assign *a, struct ipam_request **ret, struct err *err)
{
	char key[IPAM_KEY_SIZE];
	int r;

	*ret = ipam_assign_new(a);
	if (!told)
		return ipam_run(st, *ret, clock_mono_ms() + 60000, err);
	store_known_begin(st, told);
	store_txn_expect_new(st, ipam_key_handle(a->handle, key));
	r = ipam_run(st, *ret, clock_mono_ms() + 60000, err);
	store_known_end(st);
	if (r == 0)
		return 0;
	ipam_request_free(*ret);
	return assign_known(st, NULL, a, ret, err);
}

static int child(const char *path, int no, bool known, FILE *out)
{
	auto_free char *affinities = mem_printf(IPAM_KEY_AFFINITIES "n%d/", no % 3);
	const char *const prefixes[] = {POOL_KEY,
		"/calico/resources/v3/projectcalico.org/ipreservations/", IPAM_KEY_CONFIG,
		affinities};
	struct store_told told = {.prefixes = prefixes, .n_prefixes = array_size(prefixes)};
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
		if (known && i % 7 == 0 && tell(st, &told, &err) < 0)
			return 1;
		r = assign_known(st, known ? &told : NULL, &a, &rq, &err);
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
	store_list_done(&told.list);
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

/* 1: by what each was told a while ago, and has written last. */
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
			int r = f ? child(path, i, _i, f) : 1;

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
	Suite *s = suite_create("ipam_race");
	TCase *t = tcase_create("ipam_race");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, taken_away_while_claimed, 0, 6);
	tcase_add_loop_test(t, interleaved, 0, 5);
	tcase_add_loop_test(t, interleaved_on_one_handle, 0, 5);
	tcase_add_test(t, recounted_while_assigned);
	tcase_add_loop_test(t, crash_after_each_write, 0, 4);
	tcase_add_loop_test(t, again_after_a_crash, 0, N_AGAIN);
	tcase_add_loop_test(t, answer_is_lost, 0, N_LOSSY);
	tcase_add_loop_test(t, processes_on_sqlite, 0, 2);
	tcase_add_test(t, killed_on_sqlite);
	suite_add_tcase(s, t);
	t = tcase_create("overlap");
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, claimed_by_other_ideas, 2, N_IDEAS + 1);
	tcase_add_loop_test(t, interleaved_with_a_pool_that_is_remade, 0, 5);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	db_reset();
	return failed == 0 ? 0 : 1;
}
