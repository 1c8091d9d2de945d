/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "felix/pattern.h"

#include <errno.h>
#include <stddef.h>

#include "base/err.h"

int pattern_compile(const char *text, regex_t *ret, struct err *err)
{
	char why[128];
	int r = regcomp(ret, text, REG_EXTENDED | REG_NOSUB);

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
