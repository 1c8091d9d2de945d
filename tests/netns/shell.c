/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netns/shell.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/strbuf.h"

struct err err;

void ok(int r)
{
	ck_assert_msg(r == 0, "%d %s", r, err_text(&err));
}

char *run(const char *cmd)
{
	struct strbuf sb = STRBUF_INIT;
	char buf[4096];
	FILE *f = popen(cmd, "r");
	size_t n;

	ck_assert_ptr_nonnull(f);
	strbuf_add(&sb, "");
	while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
		strbuf_addn(&sb, buf, n);
	ck_assert_msg(pclose(f) == 0, "%s failed", cmd);
	return strbuf_take(&sb);
}

void expect(const char *cmd, const char *want)
{
	auto_free char *have = run(cmd);

	ck_assert_str_eq(have, want);
}

void expect_part(const char *cmd, const char *want)
{
	auto_free char *have = run(cmd);

	ck_assert_msg(strstr(have, want), "%s: want \"%s\" in:\n%s", cmd, want, have);
}

void expect_no_part(const char *cmd, const char *unwanted)
{
	auto_free char *have = run(cmd);

	ck_assert_msg(!strstr(have, unwanted), "%s: no \"%s\" wanted in:\n%s", cmd, unwanted, have);
}
