/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A transaction for a datastore that does one in one request. What is read is kept, what is written is put
 * off and seen by later reads, and at the end everything goes out at once, on the condition that what was read is
 * still there as it was, with nothing more under a prefix that was listed; that alone, where there is too much of it
 * for one request. What was read or written stays here
 * for the next transaction, which then need not ask for it: its condition says whether that was right.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "store/store.h"

/* Conditions, and writes, of one request: etcd takes 128 (--max-txn-ops). */
#define TXN_MAX 120

/* An object, or what is under a prefix. */
struct txn_item {
	struct list node; /* in store_txn.items */
	char *key;
	bool is_list;
	struct store_list had; /* what the datastore has said; had.rev: of a list */
	uint64_t used_by;      /* the last transaction that needed it */
	bool cached;	       /* it has not asked for it */
	bool written;
	struct store_kv put; /* what it writes; value NULL: it deletes. key is the item's */
};

struct store_txn {
	struct list items; /* those of the current one come first */
	uint64_t n;	   /* which one it is */
	bool open;
	bool whole; /* everything it has read is a condition; else of lists, that nothing was added */
	bool many; /* one was not: what is read is asked for */
	int64_t last_rev;
};

/* Those that the transaction needed. */
#define txn_for_each(item, t)                    \
	list_for_each (item, &(t)->items, node)  \
		if ((item)->used_by != (t)->n) { \
			break;                   \
		} else

void txn_begin(struct store *st);
void txn_expect_new(struct store *st, const char *key);
/* Any operation of store.h but of a list's options. ret is the caller's, with rev as a write's, too. */
int txn_do(
	struct store *st, const struct store_req *asked, struct store_list *ret, struct err *err);
/* ESTALE: something was changed meanwhile, and nothing is written. */
int txn_end(struct store *st, int64_t deadline_ms, struct err *err);
void txn_free(struct store_txn *t); /* NULL is harmless */

/* For txn_commit: all of it is written, at this revision. */
void txn_committed(struct store_txn *t, int64_t rev);
/* ESTALE: nothing is, and each item that was needed is like this. */
void txn_reread(struct txn_item *item, struct store_list *had_take);

/* store.h's operations past the transaction. */
int store_do_wait(
	struct store *st, const struct store_req *req, struct store_list *ret, struct err *err);
