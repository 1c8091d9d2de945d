/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to the SQLite driver: its connection (sqlite.c), as its watcher (sqlite_watch.c) uses it.
 *
 * Functions that return int return SQLite's codes, but for those that take a struct err.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <sqlite3.h>

#include "store/driver.h"

#define RETRY_MAX_MS 8 /* while another process has the lock */

enum query {
	Q_BEGIN,
	Q_BEGIN_WRITE,
	Q_COMMIT,
	Q_ROLLBACK,
	Q_META,
	Q_REV,
	Q_GET,
	Q_UID,
	Q_LIST,
	Q_PUT,
	Q_DEL,
	Q_TAIL,
	Q_PRUNE_NOTE,
	Q_PRUNE,
	Q_N
};

struct sq {
	struct store st;
	char *path;
	bool sync_full, must_exist;
	sqlite3 *db; /* NULL = not connected */
	sqlite3_stmt *q[Q_N];
	char id[33]; /* of the database first connected to */
	int ino;     /* inotify, -1 while nothing is watched */
	struct event *ino_event;
	struct event *tail_event; /* a timer: read under the write lock */
	int tail_retry_ms;
	int wal_pages;	  /* after our last commit */
	bool in_txn;	  /* of store_txn_begin_wait; without a connection it has failed */
	struct stat file; /* what path was when it was opened */
};

struct sq *to_sq(struct store *st);

/* 0, -EAGAIN while it is locked, or an error. */
int sq_connect(struct sq *sq, struct err *err);
void sq_disconnect(struct sq *sq);
/* Whether something else than what was opened stands under the path. Connected only. */
bool sq_file_replaced(const struct sq *sq);

/*
 * Translates SQLite's code to ours. -EAGAIN: somebody has the lock, try again. After what may be the
 * connection's fault the connection is closed.
 */
int sq_fail(struct sq *sq, int rc, struct err *err);

/* The statement, ready to bind; NULL leaves SQLite's code in *ret_rc. */
sqlite3_stmt *sq_query(struct sq *sq, enum query q, int *ret_rc);
/* Runs one that gives no row. */
int sq_run(struct sq *sq, enum query q);
/* Reads a number; no row leaves *ret alone. */
int sq_get_int64(struct sq *sq, enum query q, int column, int64_t *ret);
/* The columns rev, create_rev, value of a row; borrowed until the next step. */
void sq_row_kv(sqlite3_stmt *s, const char *key, struct store_kv *kv);
/* Ends a transaction, if there is one. */
void sq_rollback(struct sq *sq);
