/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/slots.h"

#include "base/mem.h"

/* Frees what has no item, or one that has a slot already; tells which items have one. */
static bool *clean(struct slots *s, size_t n_items)
{
	bool *placed = mem_zalloc(n_items + 1);

	for (size_t i = 0; i < s->v.n; i++) {
		uint32_t item = s->v.v[i];

		if (item < n_items && !placed[item])
			placed[item] = true;
		else
			s->v.v[i] = SLOT_FREE;
	}
	return placed;
}

void slots_fill(struct slots *s, size_t n_items, bool dense)
{
	auto_free bool *placed = NULL;
	size_t at = 0;

	/* What is beyond the last slot may have another one before it. */
	if (dense && s->v.n > n_items)
		s->v.n = n_items;
	placed = clean(s, n_items);
	for (size_t item = 0; item < n_items; item++) {
		if (placed[item])
			continue;
		while (at < s->v.n && s->v.v[at] != SLOT_FREE)
			at++;
		if (at == s->v.n)
			vec_push(&s->v, SLOT_FREE);
		s->v.v[at] = (uint32_t)item;
	}
	while (s->v.n > 0 && s->v.v[s->v.n - 1] == SLOT_FREE)
		s->v.n--;
}
