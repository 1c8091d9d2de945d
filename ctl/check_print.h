/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `ipam check` says of what it found: calicoctl's text and its report, and what each problem means. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "ctl/check.h"

struct err;

/* all: every address that is looked at; problems: those that are wrong. Both are calicoctl's options. */
void check_print(const struct check *c, bool all, bool problems, FILE *out);
/* The problems by kind, each kind with what it means and what to do. */
void check_explain(const struct check *c, FILE *out);
/* calicoctl's report, which `ipam release --from-report` reads. The caller's. */
char *check_report(const struct check *c, const char *version);
