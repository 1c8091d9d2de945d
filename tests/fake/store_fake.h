/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A datastore in memory, with faults on demand. It behaves as the real drivers do, also in what it
 * does not promise. Time does not pass in it: run the event loop with EVLOOP_NONBLOCK until
 * store_fake_idle().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct store;

/* base as for store_open(); closed by store_close(). */
struct store *store_fake_new(struct event_base *base);
/* As Kubernetes, from the start on: store_is_managed(). */
void store_fake_manage(struct store *st);

/* Writes behind everybody's back, as another process would: value NULL deletes. Watchers hear. */
int64_t store_fake_put(struct store *st, const char *key, const char *value);
/* The value, or NULL. Borrowed until the next change. */
const char *store_fake_value(struct store *st, const char *key);

/* Of its last change; 0: it is not there. */
int64_t store_fake_rev(struct store *st, const char *key);

/* The n-th operation from now (1 = the next; lists count, too) fails with r; 0 = none will. */
void store_fake_fail_nth(struct store *st, unsigned n, int r);
/* The n-th takes effect, and its answer is lost: it fails with ETIMEDOUT. */
void store_fake_lose_nth(struct store *st, unsigned n);
/* fn is called just before the n-th takes effect, which others may have overtaken so; 0 = never. */
void store_fake_call_nth(struct store *st, unsigned n, void (*fn)(void *arg), void *arg);
/* Operations begun so far: the bound of a fail-nth sweep. */
unsigned store_fake_op_count(const struct store *st);
/* Objects that lists have given so far. */
size_t store_fake_listed_count(const struct store *st);
/* What is asked of keys that begin with prefix fails with EACCES, and its text names the key; NULL = nothing. */
void store_fake_refuse(struct store *st, const char *prefix);
/* Lists of what begins with prefix fail with ENOENT: there is no such kind. NULL = of nothing. */
void store_fake_lack(struct store *st, const char *prefix);
/* The key is in unindexed lists alone, until it is written; NULL = none is. */
void store_fake_unindex(struct store *st, const char *key);
/* Away: every watch ends and every operation fails with EHOSTUNREACH, until it is back. */
void store_fake_away(struct store *st, bool away);
/* Every watch ends with EHOSTUNREACH, while all else succeeds. */
void store_fake_deaf(struct store *st, bool deaf);
/* Ends every watch with ESTALE; a watch from an older revision than now will end so, too. */
void store_fake_compact(struct store *st);
/* While held no operation completes and no watch hears anything. */
void store_fake_hold(struct store *st, bool hold);
/* Nothing waits to be delivered (held things do not count). */
bool store_fake_idle(const struct store *st);
