/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every datastore driver promises (store.h), as Check's tests; and the means of these tests, for
 * those that ask more of one driver.
 */
#pragma once

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/vec.h"
#include "store/store.h"
#include "store/sync.h"

struct event_base;

/* What it writes: objects that every driver knows, none of which may be there before. */
#define KEYS "/calico/resources/v3/projectcalico.org/ipreservations/"
#define SUITE_KEY_SIZE 80

typedef struct store *store_suite_open_fn(struct event_base *base);

struct store_suite_driver {
	store_suite_open_fn *open;
	bool alone; /* each store that is opened is another one */
	/* Does the n-th harm that a watch has to survive; NULL = none. */
	void (*harm)(int n);
	/* Ends watches, and has the store forget what they miss, the n-th time; NULL = none. */
	void (*forget)(int n);
	bool all;  /* a watch tells of every change, not the last of a key alone */
	int n_ops; /* of the random test, unless MARGAY_STORE_OPS says; 0 = 2000 */
};

/* Adds them to s; setup and teardown are those of each test. */
void store_suite_add(Suite *s, const struct store_suite_driver *drivers, int n, void (*setup)(void),
	void (*teardown)(void));

extern struct err err;

/* Prints it; SEED sets it. */
unsigned long seed(void);

#define ok(expr)                                                                 \
	do {                                                                     \
		int r_ = (expr);                                                 \
		ck_assert_msg(r_ >= 0, "%s: %d: %s", #expr, r_, err_text(&err)); \
	} while (0)
#define fails(expr, want)                         \
	do {                                      \
		err = ERR_INIT;                   \
		ck_assert_int_eq((expr), want);   \
		ck_assert_int_eq(err.code, want); \
	} while (0)
void said(const char *want);

/* ---- operations and watches on an event loop ---- */

struct seen {
	struct event_base *base;
	struct store *st;
	struct store_op *op;
	struct store_watch *watch, *second;
	int calls, end_r;
	int64_t rev;
	VEC(struct store_kv) events;
};

void on_done(void *arg, const struct store_res *res);
void on_event(void *arg, const struct store_kv *kv);
void on_end(void *arg, int r, const struct err *e);
void seen_done(struct seen *s);

/* Runs the loop for so long, or until *what is `want`. Returns the turns it took. */
int run_until(struct event_base *base, const int *what, int want, int ms);
#define wait_for(base, what, want)                  \
	do {                                        \
		run_until(base, what, want, 20000); \
		ck_assert_int_eq(*(what), want);    \
	} while (0)

void do_op(struct seen *s, enum store_verb verb, const char *key, const char *value);
void wait_events(struct seen *s, size_t n);

/* ---- a writer and a follower ---- */

#define N_KEYS 12
void random_key(char key[static SUITE_KEY_SIZE]);
/* One random write with compare-and-swap. 0, or the errno where it did not come about. */
int try_random_write(struct store *st, int id, int i);
/* The same, ends the process where it fails but for a conflict. true: written. */
bool random_write(struct store *st, int id, int i);

/* A watch itself, begun again by a list where it ended. */
struct watcher {
	struct store *st;
	struct store_watch *watch;
	int64_t last;
	int64_t rev[N_KEYS]; /* as told; 0 = there is none */
	int n, ends;
};
struct follower;

/* Both hold what the store holds, before long. */
void wait_equal(struct follower *f, struct watcher *w, struct store *lister);

void watcher_go_on(struct watcher *w, struct store *lister);

/* What a reader that follows a watch believes. */
struct follower {
	struct sync *sync;
	struct event_base *base;
	struct {
		char *value;
		int64_t rev;
	} key[N_KEYS];
	int sets, dels, in_sync, states;
	bool may_delete;
};

extern const struct sync_ops f_ops;
extern const char *const f_prefix[1];
void f_done(struct follower *f);
bool f_equals(const struct follower *f, const struct store_list *l);
