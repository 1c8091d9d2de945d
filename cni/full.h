/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * That the pools are full, told among keepers by a mark in the datastore: a handle that has no address. Nobody
 * holds addresses ahead for a while then.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;
struct store;

/* Zero is the beginning. Times are CLOCK_MONOTONIC's. */
struct full {
	int64_t rev; /* the mark's that was seen last; 0: none was */
	int64_t until_ms, due_ms;
};

bool full_is_told(const struct full *f);
/* Looks for the mark, if that is due. Returns 0, or an error of the datastore. */
int full_look(struct full *f, struct store *st, int64_t deadline_ms, struct err *err);
/* Whoever has not got an address, but for one who may have no more of them. Where addresses of others' blocks are not to be had it would help nobody. */
int full_tell(struct full *f, struct store *st, int64_t deadline_ms, struct err *err);
