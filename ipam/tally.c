/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ipam/tally.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/ipam.h"

void ipam_tally_add(struct ipam_tally *t, const char *handle, const struct prefix *cidr, uint32_t n)
{
	vec_push(&t->v, (struct ipam_count){.handle = mem_strdup(handle), .cidr = *cidr, .n = n});
}

void ipam_tally_add_block(struct ipam_tally *t, const struct ipam_block *b)
{
	const size_t first = t->v.n;

	for (uint32_t i = 0; i < b->size; i++) {
		const struct ipam_block_attr *a = b->alloc[i] < 0 ? NULL : &b->attrs.v[b->alloc[i]];
		size_t k = first;

		if (!a || !a->handle || a->released_s)
			continue;
		while (k < t->v.n && strcmp(t->v.v[k].handle, a->handle) != 0)
			k++;
		if (k < t->v.n)
			t->v.v[k].n++;
		else
			ipam_tally_add(t, a->handle, &b->cidr, 1);
	}
}

int ipam_count_compare(const void *a, const void *b)
{
	const struct ipam_count *x = a, *y = b;
	int r = strcmp(x->handle, y->handle);

	return r ? r : prefix_compare(&x->cidr, &y->cidr);
}

void ipam_tally_sort(struct ipam_tally *t)
{
	if (t->v.n > 0)
		qsort(t->v.v, t->v.n, sizeof(*t->v.v), ipam_count_compare);
}

uint32_t ipam_tally_of(const struct ipam_tally *t, const char *handle, const struct prefix *cidr)
{
	const struct ipam_count key = {.handle = (char *)(uintptr_t)handle, .cidr = *cidr};
	const struct ipam_count *c =
		t->v.n > 0 ? bsearch(&key, t->v.v, t->v.n, sizeof(key), ipam_count_compare) : NULL;

	return c ? c->n : 0;
}

void ipam_tally_done(struct ipam_tally *t)
{
	struct ipam_count *c;

	vec_for_each (&t->v, c)
		free(c->handle);
	vec_done(&t->v);
}
