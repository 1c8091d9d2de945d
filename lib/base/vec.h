/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A typed growing array: `VEC(struct prefix) cidrs = {0}; vec_push(&cidrs, p); vec_done(&cidrs);`
 * Elements move when it grows: keep indexes, not pointers. vec_done frees the array, not what the
 * elements own.
 */
#pragma once

#include <stddef.h>
#include <stdlib.h>

#include "base/mem.h"

#define VEC(type)              \
	struct {               \
		type *v;       \
		size_t n, cap; \
	}

#define vec_push(vec, ...)                                                                     \
	do {                                                                                   \
		if ((vec)->n == (vec)->cap) {                                                  \
			(vec)->cap = (vec)->cap ? 2 * (vec)->cap : 4;                          \
			(vec)->v = mem_realloc_array((vec)->v, (vec)->cap, sizeof(*(vec)->v)); \
		}                                                                              \
		(vec)->v[(vec)->n++] = (__VA_ARGS__);                                          \
	} while (0)

/* Room for n more, and no more: for arrays of which there are very many. */
#define vec_reserve(vec, more)                                                         \
	do {                                                                           \
		(vec)->cap = (vec)->n + (more);                                        \
		(vec)->v = mem_realloc_array((vec)->v, (vec)->cap, sizeof(*(vec)->v)); \
	} while (0)

#define vec_for_each(vec, it) \
	for (it = (vec)->v; (vec)->n && it < (vec)->v + (vec)->n; it++) /* v is NULL when empty */

/* Takes the element at i out; the last one takes its place. */
#define vec_swap_remove(vec, i) ((vec)->v[i] = (vec)->v[--(vec)->n])

#define vec_done(vec)                      \
	do {                               \
		free((vec)->v);            \
		(vec)->v = NULL;           \
		(vec)->n = (vec)->cap = 0; \
	} while (0)
