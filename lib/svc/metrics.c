/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "svc/metrics.h"

#include <assert.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/strbuf.h"
#include "base/vec.h"

enum kind { COUNTER, GAUGE, GAUGE_FN };

struct row {
	char *name;
	char *labels; /* without braces, may be "" */
	char *help;
	enum kind kind;
	const void *value;
	metrics_fn *fn;
	size_t order; /* in which it was added */
};

struct metrics {
	VEC(struct row) rows; /* sorted by name, then by order */
	size_t n_added;
};

struct metrics *metrics_new(void)
{
	return mem_new(struct metrics);
}

static void row_done(struct row *r)
{
	free(r->name);
	free(r->labels);
	free(r->help);
}

void metrics_free(struct metrics *m)
{
	struct row *r;

	if (!m)
		return;
	vec_for_each (&m->rows, r)
		row_done(r);
	vec_done(&m->rows);
	free(m);
}

static bool name_is_good(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz_:0123456789");

	return n > 0 && name[n] == '\0' && !(name[0] >= '0' && name[0] <= '9');
}

static const char *kind_name(enum kind kind)
{
	switch (kind) {
	case COUNTER:
		return "counter";
	case GAUGE:
	case GAUGE_FN:
		return "gauge";
	}
	abort();
}

static int row_cmp(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	int c = strcmp(x->name, y->name);

	return c ? c : (x->order > y->order) - (x->order < y->order);
}

static void add(struct metrics *m, const char *name, const char *labels, const char *help,
	enum kind kind, const void *value, metrics_fn *fn)
{
	const struct row *r;

	assert(name_is_good(name));
	vec_for_each (&m->rows, r)
		assert(strcmp(r->name, name) != 0 || kind_name(r->kind) == kind_name(kind));
	vec_push(&m->rows, (struct row){
				   .name = mem_strdup(name),
				   .labels = mem_strdup(labels ?: ""),
				   .help = mem_strdup(help),
				   .kind = kind,
				   .value = value,
				   .fn = fn,
				   .order = m->n_added++,
			   });
	qsort(m->rows.v, m->rows.n, sizeof(*m->rows.v), row_cmp);
}

void metrics_counter(struct metrics *m, const char *name, const char *labels, const char *help,
	const uint64_t *value)
{
	add(m, name, labels, help, COUNTER, value, NULL);
}

void metrics_gauge(struct metrics *m, const char *name, const char *labels, const char *help,
	const int64_t *value)
{
	add(m, name, labels, help, GAUGE, value, NULL);
}

void metrics_gauge_fn(struct metrics *m, const char *name, const char *labels, const char *help,
	metrics_fn *fn, void *arg)
{
	add(m, name, labels, help, GAUGE_FN, arg, fn);
}

void metrics_remove(struct metrics *m, const void *value)
{
	size_t n = 0;

	for (size_t i = 0; i < m->rows.n; i++) {
		if (m->rows.v[i].value == value)
			row_done(&m->rows.v[i]);
		else
			m->rows.v[n++] = m->rows.v[i];
	}
	m->rows.n = n;
}

static void print_row(const struct row *r, struct strbuf *out)
{
	strbuf_add(out, r->name);
	if (r->labels[0])
		strbuf_addf(out, "{%s}", r->labels);
	switch (r->kind) {
	case COUNTER:
		strbuf_addf(out, " %" PRIu64 "\n", *(const uint64_t *)r->value);
		break;
	case GAUGE:
		strbuf_addf(out, " %" PRId64 "\n", *(const int64_t *)r->value);
		break;
	case GAUGE_FN:
		strbuf_addf(out, " %" PRId64 "\n", r->fn((void *)(uintptr_t)r->value));
		break;
	}
}

static uint64_t resident_bytes(void)
{
	unsigned long total, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f) {
		if (fscanf(f, "%lu %lu", &total, &resident) != 2)
			resident = 0;
		fclose(f);
	}
	return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static unsigned int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned int n = 0;

	if (!d)
		return 0;
	for (const struct dirent *e; (e = readdir(d)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(d);
	return n - 1; /* that of the directory */
}

static void print_process(struct strbuf *out)
{
	struct timespec cpu = {0};

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	strbuf_addf(out,
		"# HELP process_cpu_seconds_total User and system time\n"
		"# TYPE process_cpu_seconds_total counter\n"
		"process_cpu_seconds_total %ld.%06ld\n"
		"# HELP process_open_fds Open file descriptors\n"
		"# TYPE process_open_fds gauge\n"
		"process_open_fds %u\n"
		"# HELP process_resident_memory_bytes Resident memory\n"
		"# TYPE process_resident_memory_bytes gauge\n"
		"process_resident_memory_bytes %" PRIu64 "\n",
		(long)cpu.tv_sec, cpu.tv_nsec / 1000, open_fds(), resident_bytes());
}

void metrics_print(const struct metrics *m, struct strbuf *out)
{
	const struct row *r, *last = NULL;

	strbuf_addf(out,
		"# HELP margay_build_info The version\n"
		"# TYPE margay_build_info gauge\n"
		"margay_build_info{version=\"%s\"} 1\n"
		"# HELP margay_log_errors_total Lines of level error that were logged\n"
		"# TYPE margay_log_errors_total counter\n"
		"margay_log_errors_total %" PRIu64 "\n",
		MARGAY_VERSION, log_error_count());
	vec_for_each (&m->rows, r) {
		if (!last || strcmp(last->name, r->name) != 0)
			strbuf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", r->name, r->help, r->name,
				kind_name(r->kind));
		print_row(r, out);
		last = r;
	}
	print_process(out);
}
