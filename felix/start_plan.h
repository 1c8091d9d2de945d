/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of start-up's plan. Each returns 1 when, by what is known, there is nothing left to do, 0
 * when it has started an operation of the store (its callers return at once, and everything is planned
 * again when the answer is there), or what makes it impossible.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/vec.h"
#include "felix/start.h"
#include "net/prefix.h"
#include "store/store.h"

struct ipam_request;
struct ippool;
struct meta;
struct node;

/* An object as the store had it. text NULL: there is none. */
struct object {
	char *key, *text;
	int64_t rev;
	struct node *node;   /* of a Node that can be decoded */
	struct ippool *pool; /* of an IPPool */
	char *bad;	     /* why it cannot be */
};

/* What a list gave. */
struct listed {
	VEC(struct object) of;
	bool known;
};

struct start {
	struct store *st;
	const struct start_conf *conf;
	start_done_fn *done;
	void *arg;

	/* Of all runs. */
	struct ip unclaimed
		[START_N_FAMILIES]; /* the address that no other node was found to have while
						  it was this one's */
	bool indexed; /* the node's affinities were seen to have what they are found by */
	bool told_tiers, settled;

	/* Of this run. */
	bool running;
	struct start_host host;
	int64_t now_ns;
	unsigned attempts;
	VEC(struct object) objects; /* read one by one */
	struct listed nodes, pools, unindexed;
	bool written[START_N_FAMILIES]; /* the node's address, by this run */
	bool released, assigned;	/* the tunnel's address */
	struct ip tunnel;
	bool no_tiers; /* they cannot be made */

	struct store_op *op; /* the one under way */
	struct ipam_request *rq;
	enum store_verb verb;
	struct listed *listing;
	char *key, *value; /* of op */
};

/* ---- what the parts do it with ---- */

/* value_take: NULL, or text that is consumed. */
void start_operate(
	struct start *s, enum store_verb verb, const char *key, char *value_take, int64_t rev);
/* The object, which may be none; or false: it is being read, stop here. */
bool start_know(struct start *s, const char *key, struct object **ret);
/* It is read again when it is asked for next. */
void start_unlearn(struct start *s, const char *key);
/* Likewise everything under a prefix. */
bool start_know_all(struct start *s, struct listed *l, const char *prefix);
void start_forget_all(struct listed *l);
void start_object_done(struct object *o);
/* Creates what is not there. text_take is consumed. True: it is there. */
bool start_ensure(struct start *s, const char *kind, const char *key, char *text_take);
void start_identify(const struct start *s, struct meta *m);
/* The plan goes on after an answer that was not an operation's; or ends here. */
void start_step(struct start *s);
void start_finish(struct start *s, int r, const struct err *err);

/* ---- the parts ---- */

/* The Node, with its addresses. */
int start_node(struct start *s, const char *node_key, struct err *err);
/* Its IPv6 address is there, if there is to be one: without it all else is done nevertheless. */
int start_missing(struct start *s, const char *node_key, struct err *err);
/* The node's block affinities can be found. */
int start_affinities(struct start *s);
/* The cluster's resources. */
int start_cluster(struct start *s);
/* The operation has failed, and was about something that the plan can go on without. */
bool start_go_without(struct start *s, int r, const struct err *err);
/* The default pools. */
int start_pools(struct start *s, struct err *err);
/* One that cannot be decoded, which may be any; or NULL. */
const struct object *start_bad_pool(const struct start *s);
/* The address of the tunnel device. */
int start_tunnel(struct start *s, const char *node_key);
