/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For tests on the real kernel: commands that say what is there, and what is expected of them. */
#pragma once

#include "base/err.h"

/* Of the last call that has failed; what ok() tells. */
extern struct err err;

/* r is 0, an exit status for one. */
void ok(int r);

/* What a command of the shell prints, the caller's to free. It succeeds. */
char *run(const char *cmd);
/* That is all of what it prints; or a part of it, or none. */
void expect(const char *cmd, const char *want);
void expect_part(const char *cmd, const char *want);
void expect_no_part(const char *cmd, const char *unwanted);
