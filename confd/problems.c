/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "confd/problems.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void problems_done(struct problems *p)
{
	struct problem *it;

	vec_for_each (&p->v, it) {
		free(it->object);
		free(it->text);
	}
	vec_done(&p->v);
}

void problems_add(struct problems *p, const char *kind, const char *name, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	vec_push(&p->v, (struct problem){mem_printf("%s %s", kind, name), mem_strdup(text)});
}

bool problems_have(const struct problems *all, const struct problem *p)
{
	for (size_t i = 0; i < all->v.n; i++)
		if (strcmp(all->v.v[i].object, p->object) == 0 &&
			strcmp(all->v.v[i].text, p->text) == 0)
			return true;
	return false;
}
