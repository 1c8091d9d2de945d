/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "svc/health.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/strbuf.h"
#include "base/vec.h"

struct health_check {
	char *name;
	enum health_kind kind;
	char *text; /* what is waited for; NULL = fine */
};

struct health {
	VEC(struct health_check *) checks;
};

struct health *health_new(void)
{
	return mem_new(struct health);
}

void health_free(struct health *h)
{
	struct health_check **c;

	if (!h)
		return;
	vec_for_each (&h->checks, c) {
		free((*c)->name);
		free((*c)->text);
		free(*c);
	}
	vec_done(&h->checks);
	free(h);
}

struct health_check *health_add(
	struct health *h, const char *name, enum health_kind kind, const char *text)
{
	struct health_check *c = mem_new(struct health_check);

	c->name = mem_strdup(name);
	c->kind = kind;
	c->text = mem_strdup(text);
	vec_push(&h->checks, c);
	return c;
}

void health_set_ok(struct health_check *c)
{
	free(c->text);
	c->text = NULL;
}

void health_set_bad(struct health_check *c, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	free(c->text);
	c->text = text;
}

bool health_print(const struct health *h, enum health_kind kind, struct strbuf *out)
{
	struct health_check *const *c;
	bool ok = true;

	vec_for_each (&h->checks, c) {
		if (kind == HEALTH_LIVE && (*c)->kind != HEALTH_LIVE)
			continue;
		ok = ok && !(*c)->text;
		if (out && (*c)->text)
			strbuf_addf(out, "BAD %s: %s\n", (*c)->name, (*c)->text);
		else if (out)
			strbuf_addf(out, "ok  %s\n", (*c)->name);
	}
	return ok;
}
