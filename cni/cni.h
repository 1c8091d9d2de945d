/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CNI verbs as one sequential function, from a request to a reply. It reads neither the
 * environment nor stdin of its process and enters no namespace: whoever took the request (run.c,
 * or worker.c on behalf of a pipe) has put all of that into it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "store/store.h"

/*
 * So long a server's process waits for one answer of a datastore that is another machine's, or of Kubernetes beside it.
 * One that hangs among several servers costs SERVERS_ATTEMPT_MS: after that there is time for another one.
 */
#define CNI_ANSWER_MS 5000

struct cni_env {
	const char *name, *value;
};

struct cni_shared;
struct pod_source;

/* Who is told what addresses are given by (premises.h). */
struct told_source {
	/* ret->list is the caller's. false: it is not known now. */
	bool (*find)(void *arg, struct store_told *ret);
	void *arg;
};

/* Everything is borrowed; the descriptors stay open and their owner's. */
struct cni_request {
	bool ipam_only; /* called as margay-ipam or calico-ipam */
	const struct cni_env *env;
	size_t n_env;
	const char *conf; /* stdin */
	size_t conf_len;
	/* Of the pod's network namespace; -1 where the verb needs none or it is gone. */
	int netns_fd;
	int nl_fd;		       /* a NETLINK_ROUTE socket that was made there */
	int ipv4_fd;		       /* the directory /proc/sys/net/ipv4 there */
	int ipv6_fd;		       /* likewise; -1 where the kernel has no IPv6 */
	int netns_errno;	       /* why there are none, or no socket */
	bool netns_is_own;	       /* there are none, as CNI_NETNS is the host's namespace */
	int peer_fd;		       /* the plugin's end; -1: this process is it */
	int64_t started_ms;	       /* CLOCK_MONOTONIC, when it began; 0: now */
	const struct pod_source *pods; /* who has them in memory (cni/pod.h); NULL: nobody */
	/* Likewise. */
	const struct told_source *told;
	bool hands_over; /* this process waits for nobody: who has to is left to another one */
};

struct cni_reply {
	char *json;    /* for stdout; "" where there is nothing to say */
	int exit_code; /* 0, or as pipe.h has it */
	char *log;     /* what failed, in one line without its end; NULL: nothing */
	/* Nothing was done: another plugin is to be executed (delegate.h), and json has the podCIDRs. */
	bool delegates;
	/* Likewise: it is to be begun anew where verbs wait for others; the rest is the answer where that cannot be. */
	bool waits;
};

/* Where a server runs verbs, and as whom: netconfs that say otherwise are refused. */
struct cni_home {
	const char *node;
	struct store_conf store;
	const char *state_dir; /* of the journal */
	const char *run_dir;   /* of the file by which verbs take turns (turn.h) */
	int reap_fd;	       /* reaper_tell() */
	int state_fd; /* one that is written to when shared->keeper has changed; it does not block */
	int keeper_fd; /* likewise, when shared->pool_changes or shared->away has */
	struct cni_shared *shared;
};

/* What stays open between requests. home: a server's, borrowed; NULL: none. */
struct cni_ctx;

struct cni_ctx *cni_ctx_new(const struct cni_home *home);
void cni_ctx_free(struct cni_ctx *ctx);

/* ret is the caller's to cni_reply_done(). What failed was logged where no server runs the verb. */
void cni_run(struct cni_ctx *ctx, const struct cni_request *rq, struct cni_reply *ret);
void cni_reply_done(struct cni_reply *r);
