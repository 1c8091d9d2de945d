/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Logic-less templates: mustache(5) over a jansson value.
 *
 *	{{name}} {{a.b.c}} {{.}}	a string, integer or boolean, through the caller's escape
 *	{{{name}}} {{&name}}		the same, raw
 *	{{#name}} ... {{/name}}		for each element of an array; once for another value, with it
 *					as the context; not at all for false, null and []
 *	{{^name}} ... {{/name}}		for false, null and []
 *	{{>name}}			another template, with the current context
 *	{{! ... }}			nothing
 *
 * Section, inverted, partial and comment tags that stand alone on a line take the line with them; a
 * partial that does indents all its lines that are not empty. A name is looked up from the innermost
 * context outwards, of a dotted name its first part. Not as mustache(5): a name that is not found is
 * an error, in every kind of tag; nothing is escaped for HTML; no {{=delimiters=}}, no lambdas; "" and
 * 0 are true. null, reals, objects and arrays have no text: a variable of one is an error.
 *
 * A list that is too long to be held as JSON stands in the view as a table, {TMPL_TABLE: TEXT}: a section
 * makes an object of each line of TEXT but the first, when it is that one's turn. The fields of a line are
 * parted by tabs, their names stand in the first line, and each line ends with "\n":
 *
 *	"name\tdata\na\t1\nb\t2\n" is as [{"name": "a", "data": "1"}, {"name": "b", "data": "2"}]
 *
 * Errors read "NAME:LINE:COLUMN: ...", columns counted in bytes from 1.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/mem.h"

struct err;
struct strbuf;
struct tmpl;

#define TMPL_TEXT_MAX (1024 * 1024)
#define TMPL_NEST_MAX 32 /* sections and partials in each other */
#define TMPL_OUT_MAX (64 * 1024 * 1024)
#define TMPL_TABLE "\ttable" /* no name in a template has a tab */

/* Text of n bytes, borrowed for the call. EINVAL: syntax; EFBIG: too long. */
int tmpl_parse(const char *text, size_t n, const char *name, struct tmpl **ret, struct err *err);
void tmpl_free(struct tmpl *t);
AUTO_DEFINE(tmpl, struct tmpl *, tmpl_free);
const char *tmpl_name(const struct tmpl *t);

/* The template of that name, borrowed until the rendering ends, or NULL: there is none. */
typedef const struct tmpl *tmpl_partial_fn(void *arg, const char *name);
/* Appends the n bytes at s to out as they may stand there, or refuses them with EINVAL. */
typedef int tmpl_escape_fn(const char *s, size_t n, struct strbuf *out, struct err *err);

/* For text between the quotes of a BIRD string: refuses '"', control characters and NUL, since BIRD
 * knows no way to write them. */
int tmpl_escape_bird(const char *s, size_t n, struct strbuf *out, struct err *err);

struct tmpl_env {
	tmpl_partial_fn *partial; /* NULL: no partials */
	void *partial_arg;
	tmpl_escape_fn *escape; /* NULL: {{x}} is as {{{x}}} */
};

/*
 * Appends to out; on failure out is as it was. env may be NULL. EINVAL: template and view do not fit;
 * EFBIG: more than TMPL_OUT_MAX.
 */
int tmpl_render(const struct tmpl *t, const json_t *view, const struct tmpl_env *env,
	struct strbuf *out, struct err *err);
