/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "felix/pattern.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/err.h"

/* What the compiled form grows by. */
static bool counts_are_small(const char *text)
{
	const char *brace = strchr(text, '{');
	size_t digits = 0;

	if (!brace)
		return true;
	while (*++brace != '\0' && *brace != '}') {
		digits = isdigit((unsigned char)*brace) ? digits + 1 : 0;
		if (digits > 2)
			return false;
	}
	return !strchr(brace, '{');
}

int pattern_compile(const char *text, regex_t *ret, struct err *err)
{
	char why[128];
	int r;

	if (strlen(text) > PATTERN_MAX)
		return err_set(err, -EINVAL, "\"%.40s...\": %zu bytes, want at most %d", text,
			strlen(text), PATTERN_MAX);
	if (!counts_are_small(text))
		return err_set(err, -EINVAL,
			"\"%s\": want at most one count in braces, and that of at most 99", text);
	r = regcomp(ret, text, REG_EXTENDED | REG_NOSUB);
	if (r == 0)
		return 0;
	regerror(r, ret, why, sizeof(why));
	return err_set(err, -EINVAL, "\"%s\": not a regular expression: %s", text, why);
}

int pattern_check(const char *text, struct err *err)
{
	regex_t re;
	int r = pattern_compile(text, &re, err);

	if (r == 0)
		regfree(&re);
	return r;
}

bool pattern_matches(const regex_t *re, const char *name)
{
	return regexec(re, name, 0, NULL, 0) == 0;
}
