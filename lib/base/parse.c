/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/parse.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/mem.h"

int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret, struct err *err)
{
	uint64_t v = 0;
	const char *p = s;

	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *p - '0', &v))
			goto bad;
	if (p == s || *p != '\0' || v < min || v > max)
		goto bad;
	*ret = v;
	return 0;
bad:
	return err_set(
		err, -EINVAL, "\"%.64s\": want a number from %" PRIu64 " to %" PRIu64, s, min, max);
}

int parse_u32(const char *s, uint32_t min, uint32_t max, uint32_t *ret, struct err *err)
{
	uint64_t v;
	int r = parse_u64(s, min, max, &v, err);

	if (r < 0)
		return r;
	*ret = (uint32_t)v;
	return 0;
}

static bool one_of(const char *s, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcasecmp(s, words[i]) == 0)
			return true;
	return false;
}

int parse_bool(const char *s, bool *ret, struct err *err)
{
	static const char *const yes[] = {"true", "yes", "y", "t", "on", "1", "enabled"};
	static const char *const no[] = {"false", "no", "n", "f", "off", "0", "disabled"};

	if (one_of(s, yes, array_size(yes)))
		*ret = true;
	else if (one_of(s, no, array_size(no)))
		*ret = false;
	else
		return err_set(err, -EINVAL, "\"%.64s\": want true or false", s);
	return 0;
}

/* Longest names first, so that "ms" is not read as "m". */
static const struct {
	const char *name;
	int64_t ns;
} units[] = {
	{"ns", 1},
	{"us", 1000},
	{"ms", 1000000},
	{"h", 3600000000000},
	{"m", 60000000000},
	{"s", 1000000000},
};

static const int64_t max_ns = INT64_C(100) * 365 * 86400 * 1000000000;

static bool one_term(const char **p, int64_t *total_ns)
{
	int64_t whole = 0, frac = 0, frac_scale = 1;
	const char *s = *p;

	if (*s < '0' || *s > '9')
		return false;
	for (; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
			__builtin_add_overflow(whole, *s - '0', &whole))
			return false;
	if (*s == '.') {
		for (s++; *s >= '0' && *s <= '9'; s++) {
			if (frac_scale < 1000000) {
				frac = frac * 10 + (*s - '0');
				frac_scale *= 10;
			}
		}
	}
	for (size_t i = 0; i < array_size(units); i++) {
		size_t n = strlen(units[i].name);
		int64_t ns;

		if (strncmp(s, units[i].name, n) != 0)
			continue;
		if (__builtin_mul_overflow(whole, units[i].ns, &ns) || ns > max_ns)
			return false;
		*total_ns += ns + frac * (units[i].ns / frac_scale);
		*p = s + n;
		return *total_ns <= max_ns;
	}
	return false;
}

int parse_duration_ms(const char *s, int64_t *ret_ms, struct err *err)
{
	const char *p = s;
	int64_t total_ns = 0;
	uint64_t seconds;

	if (parse_u64(s, 0, (uint64_t)(max_ns / 1000000000), &seconds, NULL) == 0) {
		*ret_ms = (int64_t)seconds * 1000;
		return 0;
	}
	if (*p == '\0')
		goto bad;
	while (*p)
		if (!one_term(&p, &total_ns))
			goto bad;
	*ret_ms = total_ns / 1000000;
	return 0;
bad:
	return err_set(err, -EINVAL, "\"%.64s\": want a duration such as 90s, 1m30s or 500ms", s);
}
