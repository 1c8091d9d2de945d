/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a node that is gone has left in the datastore, given back by another node's keeper: docs/away.md has
 * the rules.
 */
#pragma once

#include <stdint.h>

struct cni_home;
struct err;
struct gone;
struct store;

/* after_s: how long a node has to be absent. */
struct gone *gone_new(const struct cni_home *home, int64_t after_s);
void gone_free(struct gone *g);
/* When gone_work() has something to do: CLOCK_MONOTONIC. */
int64_t gone_due_ms(const struct gone *g);
/* Looks, if it is due, and gives back what is due. Returns 0, or an error of the datastore. */
int gone_work(struct gone *g, struct store *st, struct err *err);
