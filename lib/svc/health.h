/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Health: a set of named checks, each fine or waiting for something that it says: "waiting for the
 * datastore to list IPPools". Served as /healthz and /readyz by svc/http.h.
 */
#pragma once

#include <stdbool.h>

#include "base/mem.h"

struct health;
struct health_check;
struct strbuf;

enum health_kind {
	HEALTH_READY, /* counts for /readyz */
	HEALTH_LIVE,  /* and for /healthz: a restart would help */
};

struct health *health_new(void);
void health_free(struct health *h); /* and its checks */
AUTO_DEFINE(health, struct health *, health_free);
/* A check that is not fine yet, text being what it waits for: "waiting for ...". Owned by h. */
struct health_check *health_add(
	struct health *h, const char *name, enum health_kind kind, const char *text);
void health_set_ok(struct health_check *c);
/* Not fine, and what is waited for or wrong: one line. */
void health_set_bad(struct health_check *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Returns whether all are fine; appends to out, which may be NULL, a line per check: "ok  datastore"
 * or "BAD datastore: waiting for ...". */
bool health_print(const struct health *h, enum health_kind kind, struct strbuf *out);
