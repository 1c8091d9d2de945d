/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the maps (maps.h) hold of one virtual server, and what they should hold: a plan of as few
 * elements to change as can be. Pure.
 *
 * Without affinity an endpoint has a slot. With affinity it has a number, which it keeps as long as it
 * is there, as clients are remembered by it, and a slot has a number.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/vec.h"
#include "proxy/calc.h"

#define IMAGE_ELSEWHERE UINT32_MAX

struct image {
	/* How many slots there are to choose from: what the virtual server leads to. 0: there is none;
	 * IMAGE_ELSEWHERE: it leads where nothing of ours does. */
	uint32_t n;
	uint32_t affinity_s;			   /* 0: none */
	VEC(struct calc_dest) endpoints, numbered; /* by slot, by number; IP_NONE: none */
	VEC(uint32_t) numbers;			   /* by slot, plus one; 0: none */
};

/* *ret is uninitialized. */
void image_copy(struct image *ret, const struct image *im);
void image_done(struct image *im);
bool image_is_empty(const struct image *im);
bool image_equal(const struct image *a, const struct image *b);
/*
 * *ret (uninitialized) = where these endpoints, each once, in any order, should be, given where things
 * are now. None: an empty one.
 */
void image_plan(const struct image *now, const struct calc_dest *dests, size_t n,
	uint32_t affinity_s, struct image *ret);
/* By address and port, for qsort. */
int image_compare_dests(const void *a, const void *b);
