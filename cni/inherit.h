/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pods of this node that its journal does not know: those of another plugin's time, or from before there was a
 * server. The datastore has their addresses; from then on the journal has them, too, so that a DEL frees them and a
 * repeated ADD finds them while the datastore is away (docs/away.md has the rules).
 */
#pragma once

#include <stdint.h>

struct cni_home;
struct err;
struct inherit;
struct journal;
struct store;

/* How long an allocation is unknown until no ADD that is under way can have it. */
#define INHERIT_AFTER_MS 65000

struct inherit *inherit_new(const struct cni_home *home, struct journal *j, int64_t after_ms);
void inherit_free(struct inherit *in);
/* When inherit_work() has something to do: CLOCK_MONOTONIC. */
int64_t inherit_due_ms(const struct inherit *in);
/* Looks, if it is due: once, and once more where it has found some. Returns 0, or an error of the datastore. */
int inherit_work(struct inherit *in, struct store *st, struct err *err);
