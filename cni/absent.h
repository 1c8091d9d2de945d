/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Since when nodes are seen to be absent, in a file that outlives whoever looks: so that a restart, and a short
 * end, do not begin the time anew. Time is that of one boot (boot.h), and an argument.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/vec.h"

struct err;

/* Who has not looked for longer than this cannot tell what was in between. */
#define ABSENT_GAP_S 3600

/* What a node holds, so that a change of it is seen: one that still gives addresses is not gone. */
struct absent_holds {
	uint64_t n, sum;
};

struct absent_node {
	char *name;
	int64_t since_s, last_s;
	struct absent_holds holds;
	bool begun; /* it is given back: that it holds less is no sign of life */
};

struct absent {
	VEC(struct absent_node) v;
};

void absent_done(struct absent *a);

/*
 * Absent now. Returns for how long that was seen without a gap, while it held the same (or less, once that is
 * given back). Those that nobody sees go with absent_forget().
 */
int64_t absent_see(
	struct absent *a, const char *name, const struct absent_holds *holds, int64_t now_s);
/* What it holds, and no more, is given back from now on, however often it takes. */
void absent_begin(struct absent *a, const char *name, const struct absent_holds *left);
/* It is there. */
void absent_drop(struct absent *a, const char *name);
/* Those that were not seen at now_s. */
void absent_forget(struct absent *a, int64_t now_s);

/* A file that is not there, of another boot, or damaged, is one that says nothing. */
void absent_load(struct absent *ret, const char *path, const char *boot);
int absent_save(const struct absent *a, const char *path, const char *boot, struct err *err);
