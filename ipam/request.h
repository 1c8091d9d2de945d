/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A request's inside: what was asked for, what is known, and what has been achieved. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/vec.h"
#include "ipam/alloc.h"
#include "ipam/run.h"
#include "ipam/view.h"
#include "model/meta.h"
#include "net/prefix.h"

enum request_kind {
	REQUEST_ASSIGN,
	REQUEST_RELEASE_HANDLE,
	REQUEST_RELEASE_IP,
	REQUEST_RECOUNT,
	REQUEST_CLAIM,
	REQUEST_UNCLAIM,
	REQUEST_LOOKUP,
	REQUEST_MOVE,
	REQUEST_SCOPE,
};

/* What a write means for the request once it has succeeded. */
enum request_after {
	AFTER_NOTHING,
	AFTER_COUNTED,	 /* the handle counts one for after_cidr */
	AFTER_UNCOUNTED, /* what was due to be counted off, is */
	AFTER_ASSIGNED,	 /* after_ip is taken */
	AFTER_MOVED,	 /* after_ip has changed hands, and `from` is to be counted down */
	AFTER_RELEASED,	 /* the addresses in `freeing` are free, and to be counted off */
	AFTER_SWEPT,	 /* whoever has read block after_cidr before can write it no more */
	AFTER_GUARDED,	 /* after_slot's affinity, or its block, is written */
};

struct ipam_request {
	/* What was asked for. */
	enum request_kind kind;
	char *host, *handle;
	char *from; /* of a move: the handle that has the address */
	VEC(struct ipam_attr) attrs;
	struct labels namespace_labels;
	VEC(char *) pools[2]; /* of IPv4, of IPv6 */
	enum ipam_use use;
	bool v4, v6, reuse, must_be_empty;
	struct ip ip;
	bool with_seq; /* it has to be this allocation: */
	uint64_t seq;
	struct prefix cidr;
	uint32_t max_blocks;
	int64_t now_ns;
	uint64_t random;

	/* What is known, and what has been achieved. */
	struct view view;
	VEC(struct ipam_addr) addrs;
	VEC(struct ipam_pool) in; /* of a scope; names are the view's */
	VEC(struct prefix) out;
	uint32_t cooldown_s;
	VEC(struct prefix) handled; /* blocks that are done with; to be unclaimed, recounted: all */
	uint64_t cursor;	    /* of the blocks to be claimed or unclaimed, the next */
	bool confirm_later;	    /* what is claimed now */
	uint8_t block_plen;	    /* of what is to be claimed, 0: not known yet */
	bool counted; /* the handle counts one address of counted_cidr that is not taken yet */
	struct prefix counted_cidr;
	bool miscounted; /* the handle is to be counted anew before it counts one more */
	bool recount; /* a block was read after it was counted: the handle is to be written again */
	struct {
		char *handle;
		struct prefix cidr;
		int64_t rev; /* of the handle that has them */
		uint32_t n;  /* 0: nothing is due */
	} uncount;
	struct {
		char *host;
		struct prefix cidr;
		uint64_t seq;
		bool active;
	} releasing;
	bool in_doubt; /* whether the write that gave `doubtful` was done is not known */
	struct ipam_addr doubtful;
	bool found; /* the handle, or the address, was there */
	int failed; /* the answer, once what was taken is given back */
	struct err failure;
	int deferred; /* of several blocks the first that failed */
	struct err deferred_err;
	struct prefix tidy_cidr; /* to be looked at after a release; IP_NONE: none */
	unsigned retries;
	int64_t swept_rev;	  /* of the handle; */
	VEC(struct prefix) swept; /* its blocks that have been swept since it was read */

	enum request_after after;
	struct slot *after_slot;
	struct prefix after_cidr;
	struct ip after_ip;
	VEC(struct ip) freeing; /* of one block, */
	bool emptied;		/* which has no address then */
	char *freeing_handle;

	/* For ipam/run.c. */
	struct store_op *op;
	struct store *st;
	ipam_done_fn *done;
	void *done_arg;
};
