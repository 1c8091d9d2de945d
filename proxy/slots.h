/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which slot each of some items has: an array whose places are changed as seldom as can be, since each
 * change is an element of the kernel's. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/vec.h"

#define SLOT_FREE UINT32_MAX

struct slots {
	VEC(uint32_t) v; /* by slot: the item's number, or SLOT_FREE */
};

/*
 * Gives each of the items 0..n_items-1 one slot. Before, a slot may have an item that is in an earlier
 * one, too, or none: both are free. An item keeps its slot; a new one has the first that is free.
 * dense: slots 0..n_items-1 are all, so that items beyond move into the holes, each hole being one
 * change. Else holes stay, but for those at the end.
 */
void slots_fill(struct slots *s, size_t n_items, bool dense);
