/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For the tests of IPAM: a datastore that is an array, requests run over it, and what has to hold in it at every
 * instant.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "base/vec.h"
#include "ipam/alloc.h"
#include "net/prefix.h"
#include "store/store.h"

#define NOW 1785585600123456789 /* 2026-08-01T12:00:00Z */
#define S 1000000000ll
#define POOL_KEY "/calico/resources/v3/projectcalico.org/ippools/"

struct err;

struct mem_kv {
	char *key, *value;
	int64_t rev;
};

struct ipam_db {
	VEC(struct mem_kv) v;
	int64_t rev;
	unsigned writes, ops;
	size_t n_read;	   /* objects */
	uint64_t told;	   /* stands for the last answer */
	unsigned lost;	   /* races */
	bool lose;	   /* the next answer */
	struct strbuf log; /* the writes, one a line */
};

extern struct ipam_db db;

/* SEED in the environment, or one of the clock's. */
void seed_and_say(void);
struct ip ip_of(const char *s);
struct prefix prefix_from(const char *s);

void db_reset(void);
struct mem_kv *db_find(const char *key);
void db_put(const char *key, const char *value);
void db_del(struct mem_kv *kv);
/* Does one operation and feeds its outcome. */
int db_do(struct ipam_request *rq, const struct store_req *req, struct err *err);
/* Of what there is under a prefix, in whatever order. */
uint64_t db_hash(const char *prefix);
const char *key_text(const char *key); /* NULL: it is not there */
size_t count_keys(const char *prefix);

/* To the end, or until so many writes of this request are done: 1 then. */
int run_until(struct ipam_request *rq, unsigned writes, struct err *err);
/* Consumes rq; what fails has said why. */
int run_and_free(struct ipam_request *rq);

void put_pool(const char *name, const char *cidr, int block_size, const char *more);
/* An empty one, but for a pool of 10.244.0.0/16. */
void setup(void);
struct ipam_assign assign_args(const char *host, const char *handle);
int assign_with(const struct ipam_assign *a, struct ip *ret, struct err *err);
struct ip assign(const char *host, const char *handle);

/* Addresses that are in use (handle NULL: by whomever); fails when a block is inconsistent. */
size_t count_in_use(const char *handle);
/*
 * What holds at every instant, whoever has died where: a confirmed affinity has its block, a block with addresses
 * its affinity (confirmed: which is that), and each address its handle. when: for messages.
 */
void check_instant(bool confirmed, const char *when);
/* Nor do two blocks have addresses, one of which lies in the other. */
void check_disjoint(const char *when);
/* And, while no block is taken from its node, an empty one has its affinity, too. */
void check_consistent(void);
