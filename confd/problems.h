/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a view has left out, and why: the views are pure, so they return it instead of logging it. */
#pragma once

#include <stdbool.h>

#include "base/vec.h"

struct problem {
	char *object; /* "BGPPeer tor-1" */
	char *text;   /* one line: what, got, wanted */
};

struct problems {
	VEC(struct problem) v;
};

void problems_done(struct problems *p);
void problems_add(struct problems *p, const char *kind, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Whether all has the same problem. */
bool problems_have(const struct problems *all, const struct problem *p);
