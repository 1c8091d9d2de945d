/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One verb under way: the request, parsed and checked, with what all verbs need: the node's name,
 * the handle, the names of the endpoint and of the host's interface, and the datastore.
 *
 * Verbs return 0 or a code of the CNI specification, and say in err what went wrong.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cni/args.h"
#include "cni/cni.h"
#include "cni/conf.h"
#include "model/wep.h"

struct err;
struct ipam_request;
struct journal;
struct rt;
struct store;
struct strbuf;

#define CALL_TIMEOUT_MS 55000 /* within PIPE_TIMEOUT_S */

struct call {
	const struct cni_request *rq;
	struct cni_ctx *ctx;
	struct cni_conf *conf;
	struct cni_args args;
	int64_t deadline_ms; /* CLOCK_MONOTONIC */

	const char *container_id, *ifname, *netns; /* as the runtime gave them; NULL: not */
	char *node;
	char *handle;
	char *wep_key; /* NULL: it cannot have one, for DEL */
	bool k8s;      /* the orchestrator: k8s or cni */
	const char *namespace;
	char veth[WEP_VETH_SIZE]; /* the host's end */

	bool delegates; /* another IPAM plugin is to be asked first: nothing is done */
	struct cni_result
		*given; /* by another IPAM plugin (delegate.h); NULL: addresses are ours to give */

	struct journal *journal; /* NULL: verbs write to the datastore themselves */
	struct store *st;	 /* borrowed from the context */
	struct rt *host;	 /* likewise */
	struct rt *pod;		 /* the pod's namespace; NULL: it is gone */

	bool unsure;  /* a failed ADD has left its endpoint, or may have */
	bool waits;   /* call_may_wait() has refused */
	bool reached; /* call_reach_store() was passed */
};

/* NULL where it is not set. */
const char *call_env(const struct cni_request *rq, const char *name);

/* Parses and checks what the verb needs, and opens the log's file (logfile.h). 0, or a code. call_done() in any case. */
int call_init(struct call *c, struct cni_ctx *ctx, const struct cni_request *rq, const char *verb,
	struct err *err);
void call_done(struct call *c);

/* Calico's handle of an attachment; that of an interface other than eth0 has ":" and its name after it. */
char *call_handle(const char *network, const char *container_id, const char *ifname);

/* The host's end of an attachment; pod NULL: it is no pod's. */
void call_name_veth(const char *namespace, const char *pod, const char *container_id,
	const char *ifname, char ret[static WEP_VETH_SIZE]);

/* It is of this pod: what follows from that, as call_init() has it by CNI_ARGS. Copies. */
void call_set_pod(struct call *c, const char *namespace, const char *pod);

/*
 * Before it waits for others than the kernel and the disk: 0; or a code, since this process does not: the verb, which
 * has changed nothing that a second time would not change likewise, is begun anew by one that does.
 */
int call_may_wait(struct call *c, struct err *err);

/* When it is needed first. Asks nothing of it. */
int call_open_store(struct call *c, struct err *err);
/*
 * Before it is asked: of a server that has a journal call_may_wait(), too, and code 11 where it is away, as the keeper
 * says, or the verb is no pod's and would have to wait for those that are.
 */
int call_reach_store(struct call *c, struct err *err);
/* The datastore was silent, or not to be reached, when a server's process asked it last. */
bool call_store_is_away(const struct call *c);
/*
 * For a verb that writes, before it does and once more after: opens the datastore; 0, or a code, as where
 * it is locked (store/lock.h).
 */
int call_heed_lock(struct call *c, bool *ret_locked, struct err *err);
/*
 * The second time, within call_txn() or call_known(): nothing is asked where that it was not locked is a part of the
 * transaction; else it is asked, since what was told of may be set by now.
 */
int call_heed_lock_after(struct call *c, struct err *err);
/*
 * fn, which returns 0 or a code, as one transaction of the datastore, where it has them (store_txn_begin_wait); it may
 * be done again, from the beginning. Opens the datastore first.
 */
typedef int call_txn_fn(struct call *c, void *arg, struct err *err);
int call_txn(struct call *c, call_txn_fn *fn, void *arg, struct err *err);
/*
 * Likewise, on a datastore without transactions first by what is known of it (store_known_begin()), where somebody tells:
 * what that refuses, whatever it is, is done again by call_txn().
 */
int call_known(struct call *c, call_txn_fn *fn, void *arg, struct err *err);
int call_open_host(struct call *c, struct err *err);
int call_open_pod(struct call *c, struct err *err);

/* Runs rq and frees nothing; 0 or a code, with *ret_errno the allocator's error. */
int call_ipam(struct call *c, struct ipam_request *rq, int *ret_errno, struct err *err);

/* Every address of the handle; a handle that is gone already is well. */
int call_release(struct call *c, const char *handle, struct err *err);

/* The CNI code for an error of the datastore or of the kernel. */
int call_store_code(int r);

/* Verbs. What they print goes to out. */
int call_add(struct call *c, struct strbuf *out, struct err *err);
int call_del(struct call *c, struct err *err);
int call_check(struct call *c, struct err *err);
int call_status(struct call *c, struct err *err);
int call_gc(struct call *c, struct err *err);
/* The same without devices: the IPAM plugin. */
int call_ipam_add(struct call *c, struct strbuf *out, struct err *err);
int call_ipam_del(struct call *c, struct err *err);
int call_ipam_check(struct call *c, struct err *err);
