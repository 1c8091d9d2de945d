/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/table.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/strbuf.h"

#define MIN_WIDTH 5
#define PADDING 3

void table_init(struct table *t, size_t n_columns)
{
	*t = (struct table){.n_columns = n_columns};
}

void table_done(struct table *t)
{
	char **cell;

	vec_for_each (&t->cells, cell)
		free(*cell);
	vec_done(&t->cells);
}

void table_add(struct table *t, const char *text)
{
	vec_push(&t->cells, mem_strdup(text));
}

void table_addf(struct table *t, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort(); /* out of memory */
	vec_push(&t->cells, text);
}

size_t table_rows(const struct table *t)
{
	return t->cells.n / t->n_columns;
}

/* Characters, not bytes. */
static size_t width_of(const char *s)
{
	size_t n = 0;

	for (; *s != '\0'; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static size_t *widths(const struct table *t)
{
	size_t *w = mem_zalloc(t->n_columns * sizeof(*w));

	assert(t->cells.n % t->n_columns == 0);
	for (size_t i = 0; i < t->cells.n; i++) {
		size_t n = width_of(t->cells.v[i]);

		if (n > w[i % t->n_columns])
			w[i % t->n_columns] = n;
	}
	return w;
}

static void pad(size_t n, char c, FILE *out)
{
	while (n-- > 0)
		fputc(c, out);
}

void table_print_columns(const struct table *t, FILE *out)
{
	auto_free size_t *w = widths(t);

	for (size_t i = 0; i < t->cells.n; i++) {
		size_t column = i % t->n_columns;
		size_t full = w[column] + PADDING > MIN_WIDTH ? w[column] + PADDING : MIN_WIDTH;

		fputs(t->cells.v[i], out);
		pad(full - width_of(t->cells.v[i]), ' ', out);
		if (column == t->n_columns - 1)
			fputc('\n', out);
	}
	fputc('\n', out);
}

static void rule(const struct table *t, const size_t *w, FILE *out)
{
	for (size_t i = 0; i < t->n_columns; i++) {
		fputc('+', out);
		pad(w[i] + 2, '-', out);
	}
	fputs("+\n", out);
}

void table_print_box(const struct table *t, const bool *right, FILE *out)
{
	auto_free size_t *w = widths(t);

	rule(t, w, out);
	for (size_t i = 0; i < t->cells.n; i++) {
		size_t column = i % t->n_columns;
		size_t blanks = w[column] - width_of(t->cells.v[i]);
		bool at_right = right && right[column] && i >= t->n_columns;

		fputs("| ", out);
		pad(at_right ? blanks : 0, ' ', out);
		fputs(t->cells.v[i], out);
		pad(at_right ? 0 : blanks, ' ', out);
		fputc(' ', out);
		if (column == t->n_columns - 1) {
			fputs("|\n", out);
			if (i == column)
				rule(t, w, out);
		}
	}
	rule(t, w, out);
}
