/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Metrics: counters and gauges, registered by pointer and read when somebody asks. The registry owns
 * names and labels, and nothing that it points to.
 */
#pragma once

#include <stdint.h>

#include "base/mem.h"

struct metrics;
struct strbuf;

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

/* Forgets every row whose value or fn's arg is this. */
void metrics_remove(struct metrics *m, const void *value);
/* Prometheus' text format 0.0.4, by name; also margay_build_info, margay_log_errors_total,
 * process_resident_memory_bytes, process_cpu_seconds_total and process_open_fds. */
void metrics_print(const struct metrics *m, struct strbuf *out);
