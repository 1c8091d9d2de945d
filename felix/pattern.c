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

#define DEPTH_MAX 32

/* The last byte of the bracket expression that begins here, or of the text. */
static const char *end_of_bracket(const char *s)
{
	s += s[1] == '^' ? 2 : 1;
	if (*s == ']')
		s++;
	for (; *s != '\0' && *s != ']'; s++)
		if (*s == '[' && s[1] != '\0' && strchr(".:=", s[1]))
			for (char kind = *++s; s[1] != '\0' && !(*++s == kind && s[1] == ']');)
				;
	return *s != '\0' ? s : s - 1;
}

/* Whether what is copied has a copy in it: each level would double the compiled form. */
static bool is_nested(const char *text)
{
	bool copies[DEPTH_MAX] = {0}, atom = false;
	size_t depth = 0;

	for (const char *s = text; *s != '\0'; s++) {
		switch (*s) {
		case '\\':
			s += s[1] != '\0';
			atom = false;
			break;
		case '[':
			s = end_of_bracket(s);
			atom = false;
			break;
		case '(':
			if (++depth == DEPTH_MAX)
				return true;
			copies[depth] = atom = false;
			break;
		case ')':
			atom = copies[depth];
			if (depth > 0)
				copies[--depth] |= atom;
			break;
		case '+':
		case '{':
			if (atom)
				return true;
			atom = copies[depth] = true;
			if (*s == '{')
				s += strcspn(s + 1, "}");
			break;
		case '}': /* of a count */
		case '*':
		case '?': /* of the same atom */
			break;
		default:
			atom = false;
			break;
		}
	}
	return false;
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
	if (is_nested(text))
		return err_set(err, -EINVAL,
			"\"%s\": want no + and no count of what has one in it, and parentheses less than "
			"%d deep",
			text, DEPTH_MAX);
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
