/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything of a datastore as a file has it, and into another datastore: export, import, migrate.
 *
 * What has to be done is the difference of two snapshots, of the source and of the target. So a move that
 * was interrupted goes on when it is started again, and it has succeeded when nothing is left to be done.
 * Objects are compared without what a datastore sets by itself (uid, creationTimestamp, ...), and without
 * the status of those whose status a controller reports, which cannot be written along with an object of
 * Kubernetes.
 *
 *	snapshot_read(source) -> move_plan -> move_run -> move_plan: nothing is left
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/vec.h"
#include "store/store.h"

struct err;

/* In the order of the keys. */
struct snapshot {
	VEC(struct store_kv) v;
	VEC(const char *)
	missing; /* prefixes of kinds that the datastore does not have: the store's */
};

/* Everything that the datastore holds; or what is under n prefixes. stop, which may be NULL, is looked at
 * between two lists: ECANCELED where it is set. */
int snapshot_read(
	struct store *st, const volatile sig_atomic_t *stop, struct snapshot *ret, struct err *err);
int snapshot_read_prefixes(struct store *st, const char *const *prefixes, size_t n,
	const volatile sig_atomic_t *stop, struct snapshot *ret, struct err *err);
/* EINVAL, and err names the first of them: there are objects that cannot be read, and so not be moved. */
int snapshot_check(const struct snapshot *s, struct err *err);
/*
 * A line {"datastore":"export","version":1,"objects":N}, then for each object {"key":K,"value":V}, or
 * {"key":K,"text":T} for one that is no object of JSON.
 */
int snapshot_print(const struct snapshot *s, FILE *out, struct err *err);
/* path "-": standard input. EINVAL names the line, and tells of an export that is not whole. */
int snapshot_load(const char *path, struct snapshot *ret, struct err *err);
void snapshot_done(struct snapshot *s);
const struct store_kv *snapshot_find(const struct snapshot *s, const char *key);

struct move_step {
	enum store_verb verb;	     /* CREATE, UPDATE, DELETE */
	const struct store_kv *from; /* of the source; DELETE: of the target */
	int64_t rev;
};

struct move_kinds {
	VEC(struct move_kind {
		char *name; /* "workloadendpoints" */
		size_t n;
	})
	v;
};

struct move {
	/* Given. */
	const struct snapshot *from;
	struct store *to;
	bool overwrite; /* replaces what differs, deletes what the source does not have */
	/* What the source had when it was moved before; what the target has of that, as it was moved, is
	 * replaced and deleted in any case. May be NULL. */
	const struct snapshot *before;
	void (*progress)(void *arg, size_t done, size_t total); /* may be NULL */
	void *arg;
	const volatile sig_atomic_t *stop; /* not 0: end now; may be NULL */
	/* Found by move_plan. */
	struct snapshot there; /* the target */
	VEC(struct move_step) steps;
	size_t n_same;
	VEC(char *) differs;  /* keys of objects that are in the target, and not so in the source */
	VEC(char *) no_nodes; /* names of nodes that only Kubernetes can make, and has not made */
	/* Objects that the target has of its own, or cannot hold; and those that it could, were their kind
	 * defined there. */
	struct move_kinds left, undefined;
	struct move_kinds status; /* those that have another status there */
	/* Done by move_run. */
	size_t n_done;
	size_t n_unsure;    /* of these nobody can say whether they were done */
	VEC(char *) failed; /* sentences */
};

/* Reads the target. Without overwrite, what differs is told, and is no step. */
int move_plan(struct move *m, struct err *err);
/* Writes. An error is the datastore's, and what follows is not done; of single objects m->failed tells. */
int move_run(struct move *m, struct err *err);
/* Everything that was found and done. */
void move_done(struct move *m);

/* Whether two values of a key say the same: see above. view: one of them is what Kubernetes tells of its
 * own Node; where it has labels, that is seen without being said. */
bool move_same(const struct store_kv *a, const struct store_kv *b, bool view);
