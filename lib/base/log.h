/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one log: a line to stderr per call, "TIME LEVEL module: text", or one JSON object a line; in a file
 * as well, where the program has one.
 * Each call site has a token bucket (10 lines, then one a second), and says how many it dropped.
 *
 * A file that logs defines LOG_MODULE before including this. Library code logs at debug only;
 * whoever stops an error logs it, once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log_site {
	int64_t refilled_ms;
	uint32_t tokens;
	uint32_t dropped;
	bool used;
};

void log_set_level(enum log_level level);
enum log_level log_level(void);
bool log_enabled(enum log_level level);
/* "error", "warn"/"warning", "info", "debug" (any case; Calico's "none" and "fatal" = error). */
int log_parse_level(const char *s, enum log_level *ret, struct err *err);
void log_set_json(bool json);
/* A file that lines go to besides stderr; -1 = none. Borrowed. */
void log_set_file(int fd);
/* How many lines of level error were written by this process: a metric. */
uint64_t log_error_count(void);

void log_write_(struct log_site *site, enum log_level level, const char *module, const char *fmt,
	...) __attribute__((format(printf, 4, 5)));

#define LOG_AT_(level, ...)                                                     \
	do {                                                                    \
		static struct log_site log_site_;                               \
		if (log_enabled(level))                                         \
			log_write_(&log_site_, level, LOG_MODULE, __VA_ARGS__); \
	} while (0)

#define log_error(...) LOG_AT_(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) LOG_AT_(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) LOG_AT_(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) LOG_AT_(LOG_LEVEL_DEBUG, __VA_ARGS__)
