/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses of this node's pods that nobody has any more, and whose DEL never came: docs/away.md says what it
 * takes to be one.
 */
#pragma once

#include <stdint.h>

struct cni_home;
struct err;
struct garbage;
struct journal;
struct store;

/* after_s: how long an address has to be nobody's. */
struct garbage *garbage_new(const struct cni_home *home, struct journal *j, int64_t after_s);
void garbage_free(struct garbage *g);
/* When garbage_work() has something to do: CLOCK_MONOTONIC. */
int64_t garbage_due_ms(const struct garbage *g);
/* Looks, if it is due. Returns 0, or an error. */
int garbage_work(struct garbage *g, struct store *st, struct err *err);
