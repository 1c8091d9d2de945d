/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"

#define BUCKET_SIZE 10

static enum log_level log_max = LOG_LEVEL_INFO;
static bool log_json;
static int log_file = -1;
static uint64_t n_errors;

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

void log_set_level(enum log_level level)
{
	log_max = level;
}

enum log_level log_level(void)
{
	return log_max;
}

bool log_enabled(enum log_level level)
{
	return level <= log_max;
}

void log_set_json(bool json)
{
	log_json = json;
}

void log_set_file(int fd)
{
	log_file = fd;
}

uint64_t log_error_count(void)
{
	return n_errors;
}

int log_parse_level(const char *s, enum log_level *ret, struct err *err)
{
	for (size_t i = 0; i < array_size(level_names); i++) {
		if (strcasecmp(s, level_names[i]) == 0) {
			*ret = (enum log_level)i;
			return 0;
		}
	}
	if (strcasecmp(s, "warning") == 0) {
		*ret = LOG_LEVEL_WARN;
		return 0;
	}
	if (strcasecmp(s, "none") == 0 || strcasecmp(s, "fatal") == 0) {
		*ret = LOG_LEVEL_ERROR;
		return 0;
	}
	return err_set(err, -EINVAL, "log level \"%s\", want error, warn, info or debug", s);
}

static bool site_allows(struct log_site *site, uint32_t *dropped)
{
	int64_t now_ms = clock_mono_ms();
	int64_t refill = (now_ms - site->refilled_ms) / 1000;

	if (!site->used || refill >= BUCKET_SIZE) {
		site->tokens = BUCKET_SIZE;
		site->refilled_ms = now_ms;
		site->used = true;
	} else if (refill > 0) {
		site->tokens += (uint32_t)refill;
		if (site->tokens > BUCKET_SIZE)
			site->tokens = BUCKET_SIZE;
		site->refilled_ms += refill * 1000;
	}
	if (site->tokens == 0) {
		site->dropped++;
		return false;
	}
	site->tokens--;
	*dropped = site->dropped;
	site->dropped = 0;
	return true;
}

static void add_json_string(struct strbuf *sb, const char *s)
{
	strbuf_addc(sb, '"');
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			strbuf_addf(sb, "\\%c", c);
		else if (c < 0x20)
			strbuf_addf(sb, "\\u%04x", c);
		else
			strbuf_addc(sb, (char)c);
	}
	strbuf_addc(sb, '"');
}

/* A line is one line: what users put into names cannot forge another. */
static void add_text(struct strbuf *sb, const char *s)
{
	for (; *s; s++)
		strbuf_addc(sb, (unsigned char)*s < 0x20 ? ' ' : *s);
}

void log_write_(
	struct log_site *site, enum log_level level, const char *module, const char *fmt, ...)
{
	auto_strbuf line = STRBUF_INIT;
	auto_free char *text = NULL;
	char when[48];
	uint32_t dropped = 0;
	int64_t now = clock_real_ns();
	time_t s = (time_t)(now / 1000000000);
	struct tm tm;
	va_list ap;

	if (level == LOG_LEVEL_ERROR)
		n_errors++;
	if (!site_allows(site, &dropped))
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (!text)
		return;
	gmtime_r(&s, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(when + strlen(when), sizeof(when) - strlen(when), ".%03dZ",
		(int)(now / 1000000 % 1000));
	if (log_json) {
		strbuf_addf(&line,
			"{\"time\":\"%s\",\"level\":\"%s\",\"module\":\"%s\",\"msg\":", when,
			level_names[level], module);
		add_json_string(&line, text);
		if (dropped)
			strbuf_addf(&line, ",\"suppressed\":%u", dropped);
		strbuf_add(&line, "}\n");
	} else {
		strbuf_addf(&line, "%s %s %s: ", when, level_names[level], module);
		add_text(&line, text);
		if (dropped)
			strbuf_addf(&line, " (and %u more like this)", dropped);
		strbuf_addc(&line, '\n');
	}
	/* Where these fail there is nowhere left to say so. */
	(void)!write(STDERR_FILENO, line.s, line.len);
	if (log_file >= 0)
		(void)!write(log_file, line.s, line.len);
}
