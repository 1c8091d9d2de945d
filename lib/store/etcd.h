/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the etcd driver share: etcd.c does operations, etcd_watch.c watches, etcd_lease.c keeps
 * leases, etcd_txn.c has transactions of several objects, and all go through etcd_call.c, which knows endpoints, tokens and etcd's errors. etcd_json.c is the encoding.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "store/driver.h"
#include "store/servers.h"
#include "store/stream.h"
#include "svc/httpc.h"

struct etcd;
struct etcd_call;

/* r == 0: answer, borrowed; a call that is a stream has r < 0 at its end. May free the call. */
typedef void etcd_answer_fn(
	struct etcd_call *c, int r, const json_t *answer, const struct err *err);

/* A request to the gateway, which goes from endpoint to endpoint, and waits for a token. */
struct etcd_call {
	struct list node; /* in etcd.waiting */
	struct etcd *et;
	const char *path;
	char *body;		/* the call's */
	bool write;		/* not sent again where it may have been carried out */
	bool login;		/* goes without a token */
	httpc_data_fn *on_data; /* a stream; its argument is the call */
	etcd_answer_fn *answer;
	/* its own */
	struct httpc_op *http;
	struct servers_turn turn;
	bool wait;	     /* an endpoint said: later */
	unsigned rounds;     /* of all endpoints */
	struct event *timer; /* the next one */
	unsigned token_no, renewals;
	struct err why;
};

struct etcd {
	struct store st;
	struct httpc *http;	/* of operations */
	struct httpc *streams;	/* a connection for each watch */
	struct servers servers; /* first: by chance, not all clients go to the same one */
	char *endpoints[SERVERS_MAX];
	char *ca_file, *cert_file, *key_file;
	char *username, *password;
	char *token;
	unsigned token_no;
	bool auth_off; /* the server says so */
	struct etcd_call login;
	bool login_runs;
	struct list waiting; /* calls, for the token */
	struct list leases;
	uint64_t cluster_id; /* 0 = not known yet */
};

struct etcd *etcd_of_store(struct store *st);

/* path, body_take, answer and the flags are set. answer may be called before this returns. */
void etcd_call_start(struct etcd_call *c);
/* Forgets it, and frees what it holds. */
void etcd_call_stop(struct etcd_call *c);
/* A refusal that came inside a stream. 0 = the token is being renewed: start again. */
int etcd_call_refused(struct etcd_call *c, const char *message, struct err *err);
/* The endpoint comes last for a while. */
void etcd_call_suspect(struct etcd_call *c);
/* Whether it is the cluster that was seen before. */
int etcd_check_cluster(struct etcd_call *c, const json_t *header, struct err *err);

/* ---- etcd_json.c ---- */

/* {"key":"...","range_end":"..." without the closing brace. */
void etcd_add_range(struct strbuf *to, const char *prefix);
/* "key":"..." */
void etcd_add_key(struct strbuf *to, const char *key);
/* The objects of a range's answer. To go on without one that cannot be decoded would tell that it is gone. */
int etcd_kvs(const json_t *kvs, struct store_list *ret, struct err *err);
/* Numbers are decimal strings; what is absent is 0. */
int64_t etcd_int(const json_t *object, const char *name);
/* An object's key as it is in etcd. */
bool etcd_key(const json_t *kv, struct strbuf *key);
/* 1 = read, to be freed with store_kv_done(); 0 = its key is no text, and so none of ours. EHOSTUNREACH: it
 * cannot be decoded. */
int etcd_kv(const json_t *kv, struct store_kv *ret, struct err *err);

/* ---- etcd_lease.c ---- */

/* The id of the lease of so many seconds; 0 = there is none, or it has expired. */
int64_t etcd_lease_id(const struct etcd *et, unsigned ttl_s);
/* One that was granted, for so many seconds as the server says; it is kept alive from now on. */
void etcd_lease_keep(struct etcd *et, unsigned ttl_s, const json_t *grant);
/* etcd does not know it any more. */
void etcd_lease_lost(struct etcd *et, int64_t id);
void etcd_leases_free(struct etcd *et);

/* ---- etcd_txn.c ---- */

int etcd_txn_commit(struct store *st, struct store_txn *t, int64_t deadline_ms, struct err *err);

/* ---- etcd_watch.c ---- */

struct etcd_watch {
	struct stream s;
	struct etcd_call call;
	int64_t last; /* the newest revision told, perhaps not all of it */
};

void etcd_watch_start(struct store_watch *w);
