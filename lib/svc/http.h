/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /healthz, /readyz and /metrics: three read-only texts over HTTP, on loopback unless told otherwise.
 *
 * Health is a set of named checks, each fine or waiting for something it says: "waiting for the
 * datastore to list IPPools". Metrics are registered by pointer and read when somebody asks; the
 * registry owns nothing that it points to, names and labels apart.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct err;
struct event_base;
struct health;
struct health_check;
struct http;
struct metrics;
struct strbuf;

/* ---- health ---- */

enum health_kind {
	HEALTH_READY, /* counts for /readyz */
	HEALTH_LIVE,  /* and for /healthz: a restart would help */
};

struct health *health_new(void);
void health_free(struct health *h); /* and its checks */
AUTO_DEFINE(health, struct health *, health_free);
/* A check that waits: "waiting for <text>" is what the text says. Owned by h. name is copied. */
struct health_check *health_add(
	struct health *h, const char *name, enum health_kind kind, const char *text);
void health_set_ok(struct health_check *c);
/* Not fine, and what is waited for or wrong. */
void health_set_bad(struct health_check *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
bool health_is_ok(const struct health *h, enum health_kind kind);
/* A line per check, "ok  datastore" or "BAD datastore: waiting for ...". out may be NULL;
 * returns whether all are fine. */
bool health_print(const struct health *h, enum health_kind kind, struct strbuf *out);

/* ---- metrics ---- */

struct metrics *metrics_new(void);
void metrics_free(struct metrics *m);
AUTO_DEFINE(metrics, struct metrics *, metrics_free);

/*
 * labels: "" or NULL, or text such as `verb="ADD",result="ok"`. Rows of one name share its help and
 * type and may be added at any time. name: [a-z_:][a-z0-9_:]*, by custom margay_..., a counter's ends
 * in _total; a name that is not so, or one taken by another type, aborts.
 */
void metrics_counter(struct metrics *m, const char *name, const char *labels, const char *help,
	const uint64_t *value);
void metrics_gauge(struct metrics *m, const char *name, const char *labels, const char *help,
	const int64_t *value);
/* A gauge that is computed when asked for. */
typedef int64_t metrics_fn(void *arg);
void metrics_gauge_fn(struct metrics *m, const char *name, const char *labels, const char *help,
	metrics_fn *fn, void *arg);

#define HISTOGRAM_BUCKETS 12
/* Durations in microseconds; the buckets are 100 us .. 10 s in steps of about 3, and the rest. */
struct histogram {
	uint64_t count[HISTOGRAM_BUCKETS]; /* not cumulative */
	uint64_t sum_us;
};
void histogram_add(struct histogram *h, int64_t us);
/* Served in seconds: name ends in _seconds. */
void metrics_histogram(struct metrics *m, const char *name, const char *labels, const char *help,
	const struct histogram *h);

/* Forgets every row whose value, fn's arg or histogram is this. */
void metrics_remove(struct metrics *m, const void *value);
/* Prometheus' text format 0.0.4, sorted by name; also margay_build_info, margay_log_errors_total,
 * process_resident_memory_bytes, process_cpu_seconds_total and process_open_fds. */
void metrics_print(const struct metrics *m, struct strbuf *out);

/* ---- the server ---- */

/*
 * Listens on host:port; host is a numeric address or "localhost" (127.0.0.1), port 0 takes a free
 * one. GET alone, no body, 4 KiB of headers, 5 s. health or metrics NULL: 404 for those. Both are
 * borrowed, and must outlive the server. param names the parameter of the port for messages, where
 * EADDRINUSE is the likely one.
 */
int http_new(struct event_base *base, const char *host, uint16_t port, const char *param,
	const struct health *health, const struct metrics *metrics, struct http **ret,
	struct err *err);
/* A second address for the same server, with texts of its own. */
int http_listen(struct http *h, const char *host, uint16_t port, const char *param,
	const struct health *health, const struct metrics *metrics, struct err *err);
/* The port of the first address. */
uint16_t http_port(const struct http *h);
void http_free(struct http *h);
AUTO_DEFINE(http, struct http *, http_free);
