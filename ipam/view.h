/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a request knows of the store: a slot for each key it has asked about, and the one operation
 * that is to be done next. A slot is unknown (to be read), absent or present. Its object is decoded
 * when it is first looked at; one that cannot be decoded is "bad": it exists and is of no use.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hmap.h"
#include "base/vec.h"
#include "net/prefix.h"
#include "store/store.h"

/* What plans return besides 0 and errors: an operation is due first. */
#define PLAN_WAIT 1

enum slot_kind {
	SLOT_BLOCK,
	SLOT_AFFINITY,
	SLOT_HANDLE,
	SLOT_CONFIG,
	SLOT_POOL,
	SLOT_RESERVATION,
	SLOT_NODE,
};

enum slot_state { SLOT_UNKNOWN, SLOT_ABSENT, SLOT_PRESENT };

struct slot {
	struct hmap_node node;
	char *key;
	enum slot_kind kind;
	enum slot_state state;
	struct prefix cidr; /* of a block, and of an affinity */
	unsigned list_no;   /* the last list of blocks that had it since it was made; 0: none */
	int64_t rev;
	char *text;
	size_t len;
	void *obj;	/* decoded text, by kind; NULL: not yet, or bad */
	struct err bad; /* why it cannot be decoded */
	bool written;	/* by this request, and not read since */
	bool guarded;	/* since this was read, this request has written the other one of block and
			   affinity, which whoever has read that before can write no more */
};

struct view {
	struct hmap slots;
	VEC(char *) listed; /* prefixes, and what unindexed lists are known by */
	unsigned n_lists;
	bool sizes[2][129]; /* of IPv4 and IPv6: there may be a block of this prefix length */
	/* The operation that is due; its strings live here. */
	enum store_verb verb;
	char *key, *value;
	struct slot *target; /* NULL: a list */
	enum slot_kind kind; /* of what is listed */
	bool unindexed;	     /* the list is */
};

void view_done(struct view *v);

/* The slot of a key, read if need be. 0, or PLAN_WAIT. */
int view_get(struct view *v, const char *key, enum slot_kind kind, struct slot **ret);
/* Everything under a prefix is known. 0, or PLAN_WAIT. */
int view_list(struct view *v, const char *prefix, enum slot_kind kind);
/* Likewise what a list misses (store_req.unindexed). */
int view_list_unindexed(struct view *v, const char *prefix, enum slot_kind kind);
/* It is listed again when it is asked for next; a block that is not there any more is read again then. */
void view_unlist(struct view *v, const char *prefix);
/* The key is read again when it is asked for next. */
void view_forget(struct view *v, const char *key);
/* What is known of a key; NULL: nothing, or absent. */
struct slot *view_find(const struct view *v, const char *key);
/* Those that are present under a prefix, sorted by key. The caller frees *ret. */
size_t view_under(const struct view *v, const char *prefix, struct slot ***ret);

/* The operations that write. value is taken. Each returns PLAN_WAIT. */
int view_create(struct view *v, struct slot *s, char *value_take);
int view_update(struct view *v, struct slot *s, char *value_take);
int view_delete(struct view *v, struct slot *s);

/* The decoded object, NULL: absent or bad. */
struct ipam_block *slot_block(struct slot *s);
struct ipam_affinity *slot_affinity(struct slot *s);
struct ipam_handle *slot_handle(struct slot *s);
struct ipam_config *slot_config(struct slot *s);
struct ippool *slot_pool(struct slot *s);
struct ipreservation *slot_reservation(struct slot *s);
struct node *slot_node(struct slot *s);
/* Present, and cannot be decoded. */
bool slot_is_bad(struct slot *s);

/* The outcome of the operation. 1: done; 0: a race was lost, the slot is unknown; else fatal. */
int view_feed(struct view *v, const struct store_res *res, struct err *err);
