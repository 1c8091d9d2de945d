/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the Kubernetes driver share: kube.c does operations, kube_watch.c watches, and both
 * go through kube_call.c, which knows servers, credentials and the API's errors. Pure are kube_key.c,
 * kube_object.c with kube_view.c, and kube_list.c.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/list.h"
#include "store/driver.h"
#include "store/kube_config.h"
#include "store/kube_key.h"
#include "store/kube_list.h"
#include "store/servers.h"
#include "store/stream.h"
#include "svc/httpc.h"

struct event;
struct kube;
struct kube_call;

/* r == 0: the answer, borrowed; a stream's end has none. May free the call. */
typedef void kube_answer_fn(
	struct kube_call *c, int r, const char *body, size_t len, const struct err *err);

/* A request, which goes from server to server, and comes again where the server is busy. */
struct kube_call {
	struct kube *k;
	const char *method;	/* NULL = GET */
	char *path, *body;	/* the call's */
	const char *type;	/* the body's */
	bool write;		/* not sent again where it may have been carried out */
	httpc_data_fn *on_data; /* a stream; its argument is the call */
	int64_t timeout_ms;	/* of what no deadline ends: for each server */
	bool is_watch;		/* a stream without end */
	kube_answer_fn *answer;
	/* its own */
	struct httpc_op *http;
	struct event *timer; /* the next attempt, NULL = it was never put off */
	struct servers_turn turn;
	int status; /* of the last answer */
	struct err why;
};

/* A question that is asked once, for all that cannot begin before it is answered. */
struct kube_gate {
	const char *path;
	void (*read)(struct kube *k, const json_t *answer);
	struct kube_call call;
	bool known, runs;
	struct list waiting;
};

struct kube_wait {
	struct list node;
	/* err: where that failed. */
	void (*go)(struct kube_wait *w, int r, const struct err *err);
};

struct kube {
	struct store st;
	struct store_conf conf;
	struct httpc *http;
	struct kube_config config;
	bool loaded, stale;	      /* stale: there are other endpoints than those in it */
	struct timespec loaded_mtime; /* of the kubeconfig */
	struct servers servers;	      /* of config */
	struct kube_gate which_group, which_data;
	struct kube_call endpoints; /* the question for them */
	bool endpoints_asked;
	enum kube_group group;
	unsigned n_groups;	    /* that are served and may have them; 0 = not asked */
	char *cluster;		    /* the uid of its namespace kube-system; NULL = not known */
	unsigned epoch;		    /* counts the times that other data was found than before */
	bool told_blind;	    /* that it may not be asked */
	int64_t seen[KUBE_N_KINDS]; /* the newest revision told of each kind; -1 = list anew */
};

struct kube *kube_of_store(struct store *st);

/* k, path, answer and what else is needed are set. answer may be called before this returns. */
void kube_call_start(struct kube_call *c);
/* Forgets it, and frees what it holds. */
void kube_call_stop(struct kube_call *c);
/* For messages: the server that was asked last. */
const char *kube_call_where(const struct kube_call *c);
/* What a Status says, also one inside a stream: its code, and the message in err. */
int kube_call_status(struct kube_call *c, int code, const json_t *status, struct err *err);

void kube_gates_init(struct kube *k);
/* Calls go, now or later. */
void kube_wait(struct kube *k, struct kube_gate *g, struct kube_wait *w);
void kube_wait_stop(struct kube_wait *w);
void kube_seen(struct kube *k, const struct kube_kind *kind, int64_t rev);

/* The query of a list or watch: "&labelSelector=..." or "". feed: a watch, or before one. The caller's. */
char *kube_selector(const struct kube *k, const struct kube_key *prefix, bool feed);

/* ---- kube_endpoints.c ---- */

void kube_endpoints_ask(struct kube *k);

/* ---- kube_advice.c ---- */

struct store_advice *kube_advise(struct store *st, store_advice_fn *done, void *arg);
void kube_advice_cancel(struct store_advice *a);

/* ---- kube_watch.c ---- */

struct kube_watch {
	struct stream s;
	struct kube_wait wait;
	struct kube_call call;
	struct kube_key key;
	unsigned epoch; /* of the data up to s.resume */
};

void kube_watch_start(struct store_watch *w);
