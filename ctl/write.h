/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How the outcome of a verb over several resources is told. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "model/kind.h"

struct ctl;

struct outcome {
	size_t n_done, n_failed;
	enum kind kind; /* of what was done */
	bool mixed;	/* more than one kind */
};

void outcome_done(struct outcome *o, enum kind kind);
/*
 * After the last write: "Successfully applied 2 'IPPool' resource(s)"; the exit status. done: "applied".
 */
int outcome_report(struct ctl *c, const struct outcome *o, const char *done);
