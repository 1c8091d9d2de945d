/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An intrusive doubly linked list. The head is a node of its own; an element that is in no list is
 * linked to itself, so that list_del() on it is harmless.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"

struct list {
	struct list *prev, *next;
};

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_add_tail(struct list *head, struct list *e)
{
	e->prev = head->prev;
	e->next = head;
	head->prev->next = e;
	head->prev = e;
}

static inline void list_del(struct list *e)
{
	e->prev->next = e->next;
	e->next->prev = e->prev;
	list_init(e);
}

/* All that is in from, in its order; to is made by this. */
static inline void list_take(struct list *to, struct list *from)
{
	list_init(to);
	if (list_empty(from))
		return;
	*to = *from;
	to->next->prev = to->prev->next = to;
	list_init(from);
}

#define list_entry(node, type, member) container_of(node, type, member)

/* it: a pointer to the element type. The _safe form allows deleting `it`. */
#define list_for_each(it, head, member)                                                     \
	for (it = list_entry((head)->next, __typeof__(*it), member); &it->member != (head); \
		it = list_entry(it->member.next, __typeof__(*it), member))
#define list_for_each_safe(it, tmp, head, member)                       \
	for (it = list_entry((head)->next, __typeof__(*it), member),    \
	    tmp = list_entry(it->member.next, __typeof__(*it), member); \
		&it->member != (head);                                  \
		it = tmp, tmp = list_entry(tmp->member.next, __typeof__(*it), member))
