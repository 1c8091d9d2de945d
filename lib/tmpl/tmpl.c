/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tmpl/tmpl.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/vec.h"

/* Nodes looked at in one rendering: bounds loops in loops that print nothing. */
#define STEPS_MAX (1 << 24)

enum kind {
	TEXT,
	INDENT, /* a line starts here: a standalone partial's indentation goes in front of it */
	VARIABLE,
	RAW,
	SECTION,
	INVERTED,
	PARTIAL,
	CLOSE, /* from here on: tags that leave no node */
	COMMENT,
};

struct node {
	enum kind kind;
	size_t at;   /* offset in the template's text */
	size_t len;  /* TEXT: so many bytes; PARTIAL: of indentation, which end at `at` */
	size_t end;  /* SECTION, INVERTED: index of the node after the last inside */
	char *name;  /* of a tag */
	char *parts; /* the name with NUL for each dot */
	size_t n_parts;
};

struct tmpl {
	char *name;
	char *text;
	size_t n;
	VEC(struct node) nodes;
};

static int fail_at(const struct tmpl *t, size_t at, int code, struct err *err)
{
	unsigned int line = 1, column = 1;

	for (size_t i = 0; i < at; i++) {
		column++;
		if (t->text[i] == '\n') {
			line++;
			column = 1;
		}
	}
	return err_wrap(err, code, "%s:%u:%u", t->name, line, column);
}

void tmpl_free(struct tmpl *t)
{
	struct node *node;

	if (!t)
		return;
	vec_for_each (&t->nodes, node) {
		free(node->name);
		free(node->parts);
	}
	vec_done(&t->nodes);
	free(t->name);
	free(t->text);
	free(t);
}

const char *tmpl_name(const struct tmpl *t)
{
	return t->name;
}

/* ---- parsing ---- */

struct parser {
	struct tmpl *t;
	bool at_bol; /* nothing of this line has been added */
	size_t open[TMPL_NEST_MAX];
	size_t depth;
};

struct tag {
	enum kind kind;
	size_t at, end; /* of the whole tag */
	size_t name, name_len;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_space(char c)
{
	return is_blank(c) || c == '\n' || c == '\r';
}

static struct node *add_node(struct parser *p, enum kind kind, size_t at, size_t len)
{
	vec_push(&p->t->nodes, (struct node){.kind = kind, .at = at, .len = len});
	return &p->t->nodes.v[p->t->nodes.n - 1];
}

static void begin_line(struct parser *p, size_t at)
{
	if (p->at_bol)
		add_node(p, INDENT, at, 0);
	p->at_bol = false;
}

static void add_text(struct parser *p, size_t from, size_t to)
{
	const char *s = p->t->text;

	while (from < to) {
		const char *nl = memchr(s + from, '\n', to - from);
		size_t end = nl ? (size_t)(nl - s) + 1 : to;
		bool empty =
			s[from] == '\n' || (end - from == 2 && memcmp(s + from, "\r\n", 2) == 0);

		if (!empty)
			begin_line(p, from);
		add_node(p, TEXT, from, end - from);
		p->at_bol = nl != NULL;
		from = end;
	}
}

static int sigil_kind(char c, enum kind *ret, struct err *err)
{
	switch (c) {
	case '#':
		*ret = SECTION;
		return 1;
	case '^':
		*ret = INVERTED;
		return 1;
	case '/':
		*ret = CLOSE;
		return 1;
	case '>':
		*ret = PARTIAL;
		return 1;
	case '!':
		*ret = COMMENT;
		return 1;
	case '&':
		*ret = RAW;
		return 1;
	case '=':
		return err_set(err, -EINVAL, "{{=: other delimiters are not supported");
	case '<':
	case '$':
		return err_set(err, -EINVAL, "{{%c: inheritance is not supported", c);
	default:
		*ret = VARIABLE;
		return 0;
	}
}

/* A dotted name, "." or, for a partial, anything without blanks. */
static int check_name(const struct tmpl *t, const struct tag *tag, struct err *err)
{
	const char *s = t->text + tag->name;
	size_t n = tag->name_len;

	if (n == 0)
		return err_set(err, -EINVAL, "a tag without a name");
	for (size_t i = 0; i < n; i++)
		if (is_space(s[i]) || s[i] == '\0' || s[i] == '{' || s[i] == '}')
			return err_set(err, -EINVAL, "tag \"%.*s\": want one name",
				(int)(n < 64 ? n : 64), s);
	if (tag->kind == PARTIAL || (n == 1 && s[0] == '.'))
		return 0;
	for (size_t i = 0; i < n; i++)
		if (s[i] == '.' && (i == 0 || i == n - 1 || s[i - 1] == '.'))
			return err_set(err, -EINVAL,
				"name \"%.*s\": want names joined by single dots",
				(int)(n < 64 ? n : 64), s);
	return 0;
}

static int read_tag(const struct tmpl *t, size_t at, struct tag *ret, struct err *err)
{
	size_t from = at + 2, to;
	bool triple = from < t->n && t->text[from] == '{';
	const char *closer = triple ? "}}}" : "}}", *end;
	struct tag tag = {.kind = RAW, .at = at};
	int r = triple ? 1 : from < t->n ? sigil_kind(t->text[from], &tag.kind, err) : 0;

	if (r < 0)
		return r;
	from += (size_t)r;
	end = memmem(t->text + from, t->n - from, closer, strlen(closer));
	if (!end)
		return err_set(err, -EINVAL, "a tag that is not closed: want %s", closer);
	to = (size_t)(end - t->text);
	tag.end = to + strlen(closer);
	while (from < to && is_space(t->text[from]))
		from++;
	while (to > from && is_space(t->text[to - 1]))
		to--;
	tag.name = from;
	tag.name_len = to - from;
	*ret = tag;
	return tag.kind == COMMENT ? 0 : check_name(t, ret, err);
}

/* Whether the tag has its line to itself: then [*ret_from, *ret_to) is that line. */
static bool is_standalone(
	const struct tmpl *t, const struct tag *tag, size_t pos, size_t *ret_from, size_t *ret_to)
{
	size_t from = tag->at, to = tag->end;

	if (tag->kind == VARIABLE || tag->kind == RAW)
		return false;
	while (from > pos && is_blank(t->text[from - 1]))
		from--;
	while (to < t->n && is_blank(t->text[to]))
		to++;
	if (from > 0 && t->text[from - 1] != '\n')
		return false;
	if (to < t->n && t->text[to] == '\r' && to + 1 < t->n)
		to++;
	if (to < t->n && t->text[to] != '\n')
		return false;
	*ret_from = from;
	*ret_to = to < t->n ? to + 1 : to;
	return true;
}

static void set_name(struct node *node, const char *s, size_t n)
{
	node->name = mem_strndup(s, n);
	node->parts = mem_strndup(s, n);
	node->n_parts = 1;
	for (char *c = node->parts; n > 1 && c < node->parts + n; c++) {
		if (*c == '.') {
			*c = '\0';
			node->n_parts++;
		}
	}
}

static int close_section(struct parser *p, const struct tag *tag, struct err *err)
{
	const char *name = p->t->text + tag->name;
	struct node *node;

	if (p->depth == 0)
		return err_set(err, -EINVAL, "{{/%.*s}} closes nothing",
			(int)(tag->name_len < 64 ? tag->name_len : 64), name);
	node = &p->t->nodes.v[p->open[p->depth - 1]];
	if (strlen(node->name) != tag->name_len || memcmp(node->name, name, tag->name_len) != 0)
		return err_set(err, -EINVAL, "{{/%.*s}}: want {{/%.64s}} first",
			(int)(tag->name_len < 64 ? tag->name_len : 64), name, node->name);
	node->end = p->t->nodes.n;
	p->depth--;
	return 0;
}

static int add_tag(struct parser *p, const struct tag *tag, size_t indent, struct err *err)
{
	struct node *node;

	if (tag->kind == COMMENT)
		return 0;
	if (tag->kind == CLOSE)
		return close_section(p, tag, err);
	node = add_node(p, tag->kind, tag->at, indent);
	set_name(node, p->t->text + tag->name, tag->name_len);
	if (tag->kind != SECTION && tag->kind != INVERTED)
		return 0;
	if (p->depth == TMPL_NEST_MAX)
		return err_set(
			err, -EINVAL, "sections in each other more than %d deep", TMPL_NEST_MAX);
	p->open[p->depth++] = p->t->nodes.n - 1;
	return 0;
}

static int parse(struct parser *p, struct err *err)
{
	const struct tmpl *t = p->t;
	size_t pos = 0;

	for (;;) {
		const char *open = memmem(t->text + pos, t->n - pos, "{{", 2);
		size_t text_end, next, indent = 0;
		struct tag tag = {0};
		int r;

		if (!open)
			break;
		r = read_tag(t, (size_t)(open - t->text), &tag, err);
		if (r < 0)
			return fail_at(t, (size_t)(open - t->text), r, err);
		if (is_standalone(t, &tag, pos, &text_end, &next)) {
			add_text(p, pos, text_end);
			indent = tag.at - text_end;
		} else {
			add_text(p, pos, tag.at);
			begin_line(p, tag.at);
			next = tag.end;
			indent = SIZE_MAX; /* not standalone: its lines are as they are */
		}
		r = add_tag(p, &tag, indent, err);
		if (r < 0)
			return fail_at(t, tag.at, r, err);
		pos = next;
	}
	add_text(p, pos, t->n);
	if (p->depth > 0) {
		const struct node *node = &t->nodes.v[p->open[p->depth - 1]];

		return fail_at(t, node->at,
			err_set(err, -EINVAL, "section \"%.64s\" is not closed", node->name), err);
	}
	return 0;
}

int tmpl_parse(const char *text, size_t n, const char *name, struct tmpl **ret, struct err *err)
{
	struct parser p = {.at_bol = true};
	int r;

	if (n > TMPL_TEXT_MAX)
		return err_set(err, -EFBIG, "template %s: %zu bytes, want at most %d", name, n,
			TMPL_TEXT_MAX);
	p.t = mem_new(struct tmpl);
	p.t->name = mem_strdup(name);
	p.t->text = mem_alloc(n + 1);
	memcpy(p.t->text, text, n);
	p.t->text[n] = '\0';
	p.t->n = n;
	r = parse(&p, err);
	if (r < 0) {
		tmpl_free(p.t);
		return r;
	}
	*ret = p.t;
	return 0;
}

/* ---- rendering ---- */

struct context {
	const json_t *value;
	const struct context *outer;
};

struct indent {
	const char *s;
	size_t n;
};

struct render {
	const struct tmpl_env *env;
	struct strbuf *out;
	size_t start; /* of what is ours in out */
	unsigned int steps;
	struct err *err;
};

static int render_nodes(struct render *r, const struct tmpl *t, size_t from, size_t to,
	const struct context *ctx, struct indent indent, unsigned int depth);

static const char *type_name(const json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a real number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		return "null";
	}
	abort();
}

/* Borrowed from the view; NULL: no such name, and err says so. */
static const json_t *look_up(const struct node *node, const struct context *ctx, struct err *err)
{
	const char *part = node->parts;
	const json_t *v = NULL;

	if (strcmp(node->name, ".") == 0)
		return ctx->value;
	for (; ctx && !v; ctx = ctx->outer)
		v = json_object_get(ctx->value, part);
	for (size_t i = 1; v && i < node->n_parts; i++) {
		part += strlen(part) + 1;
		v = json_object_get(v, part);
	}
	if (!v && part == node->parts)
		err_set(err, -EINVAL, "unknown name \"%.64s\"", node->name);
	else if (!v)
		err_set(err, -EINVAL,
			"unknown name \"%.64s\": \"%.64s\" is not in what is before it", node->name,
			part);
	return v;
}

static int add_value(struct render *r, const char *s, size_t n, bool raw)
{
	if (n > TMPL_OUT_MAX)
		return err_set(r->err, -EFBIG, "a value of %zu bytes", n);
	if (!raw && r->env->escape)
		return r->env->escape(s, n, r->out, r->err);
	strbuf_addn(r->out, s, n);
	return 0;
}

static int render_variable(struct render *r, const struct node *node, const struct context *ctx)
{
	bool raw = node->kind == RAW;
	const json_t *v = look_up(node, ctx, r->err);
	char number[24];
	int ret;

	if (!v)
		return -EINVAL;
	if (json_is_string(v)) {
		ret = add_value(r, json_string_value(v), json_string_length(v), raw);
	} else if (json_is_integer(v)) {
		int n = snprintf(
			number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(v));

		ret = add_value(r, number, (size_t)n, raw);
	} else if (json_is_boolean(v)) {
		ret = json_is_true(v) ? add_value(r, "true", 4, raw)
				      : add_value(r, "false", 5, raw);
	} else {
		return err_set(r->err, -EINVAL,
			"\"%.64s\" is %s: want a string, integer or boolean", node->name,
			type_name(v));
	}
	return ret < 0 ? err_wrap(r->err, ret, "\"%.64s\"", node->name) : 0;
}

/* NULL: it is no table. */
static const char *table_text(const json_t *v)
{
	return json_string_value(json_object_get(v, TMPL_TABLE));
}

/* What comes after the first line of a table. */
static const char *table_rows(const char *table)
{
	table += strcspn(table, "\n");
	return *table ? table + 1 : table;
}

static bool is_true(const json_t *v)
{
	const char *table = table_text(v);

	return !json_is_false(v) && !json_is_null(v) &&
	       !(json_is_array(v) && json_array_size(v) == 0) && !(table && !*table_rows(table));
}

static int check_bounds(struct render *r, const struct tmpl *t, size_t at, unsigned int depth)
{
	int ret = 0;

	if (depth > TMPL_NEST_MAX)
		ret = err_set(r->err, -EINVAL,
			"sections and partials in each other more than %d deep; does one include "
			"itself?",
			TMPL_NEST_MAX);
	else if (r->out->len - r->start > TMPL_OUT_MAX)
		ret = err_set(r->err, -EFBIG, "more than %d bytes of output", TMPL_OUT_MAX);
	else if (r->steps++ >= STEPS_MAX)
		ret = err_set(r->err, -EFBIG, "more than %d steps", STEPS_MAX);
	return ret < 0 ? fail_at(t, at, ret, r->err) : 0;
}

/* The fields of the line at *at, by the names in the first line of the table; *at is then the next line. */
static json_t *take_row(const char *table, const char **at)
{
	json_t *row = json_object();
	bool more = true;

	while (more) {
		size_t name = strcspn(table, "\t\n"), value = strcspn(*at, "\t\n");
		auto_free char *key = mem_strndup(table, name);

		json_object_set_new(row, key, json_stringn(*at, value));
		more = table[name] == '\t' && (*at)[value] == '\t';
		table += name + more;
		*at += value + more;
	}
	*at = table_rows(*at);
	return row;
}

static int render_table(struct render *r, const struct tmpl *t, size_t i, const char *table,
	const struct context *outer, struct indent indent, unsigned int depth)
{
	const struct node *node = &t->nodes.v[i];
	int ret = 0;

	for (const char *at = table_rows(table); *at && ret == 0;) {
		json_t *row = take_row(table, &at);
		struct context inner = {.value = row, .outer = outer};

		ret = check_bounds(r, t, node->at, depth);
		if (ret == 0)
			ret = render_nodes(r, t, i + 1, node->end, &inner, indent, depth + 1);
		json_decref(row);
	}
	return ret;
}

static int render_section(struct render *r, const struct tmpl *t, size_t i,
	const struct context *ctx, struct indent indent, unsigned int depth)
{
	const struct node *node = &t->nodes.v[i];
	const json_t *v = look_up(node, ctx, r->err);
	struct context inner = {.value = v, .outer = ctx};
	int ret;

	if (!v)
		return fail_at(t, node->at, -EINVAL, r->err);
	if (node->kind == INVERTED)
		return is_true(v) ? 0
				  : render_nodes(r, t, i + 1, node->end, ctx, indent, depth + 1);
	if (!is_true(v))
		return 0;
	if (table_text(v))
		return render_table(r, t, i, table_text(v), ctx, indent, depth);
	if (!json_is_array(v))
		return render_nodes(r, t, i + 1, node->end, &inner, indent, depth + 1);
	for (size_t j = 0; j < json_array_size(v); j++) {
		inner.value = json_array_get(v, j);
		ret = check_bounds(r, t, node->at, depth);
		if (ret == 0)
			ret = render_nodes(r, t, i + 1, node->end, &inner, indent, depth + 1);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int render_partial(struct render *r, const struct tmpl *t, const struct node *node,
	const struct context *ctx, struct indent indent, unsigned int depth)
{
	const struct tmpl *partial =
		r->env->partial ? r->env->partial(r->env->partial_arg, node->name) : NULL;
	auto_strbuf both = STRBUF_INIT;
	int ret;

	if (!partial) {
		ret = err_set(r->err, -EINVAL, "no template \"%.64s\" to include", node->name);
		return fail_at(t, node->at, ret, r->err);
	}
	if (node->len != SIZE_MAX) {
		strbuf_addn(&both, indent.s, indent.n);
		strbuf_addn(&both, t->text + node->at - node->len, node->len);
	}
	ret = render_nodes(
		r, partial, 0, partial->nodes.n, ctx, (struct indent){both.s, both.len}, depth + 1);
	return ret < 0 ? fail_at(t, node->at, ret, r->err) : 0;
}

static int render_nodes(struct render *r, const struct tmpl *t, size_t from, size_t to,
	const struct context *ctx, struct indent indent, unsigned int depth)
{
	for (size_t i = from; i < to; i++) {
		const struct node *node = &t->nodes.v[i];
		int ret = check_bounds(r, t, node->at, depth);

		if (ret < 0)
			return ret;
		switch (node->kind) {
		case TEXT:
			strbuf_addn(r->out, t->text + node->at, node->len);
			break;
		case INDENT:
			strbuf_addn(r->out, indent.s, indent.n);
			break;
		case VARIABLE:
		case RAW:
			ret = render_variable(r, node, ctx);
			if (ret < 0)
				return fail_at(t, node->at, ret, r->err);
			break;
		case SECTION:
		case INVERTED:
			ret = render_section(r, t, i, ctx, indent, depth);
			i = node->end - 1;
			break;
		case PARTIAL:
			ret = render_partial(r, t, node, ctx, indent, depth);
			break;
		case CLOSE:
		case COMMENT:
			abort();
		}
		if (ret < 0)
			return ret;
	}
	return 0;
}

int tmpl_render(const struct tmpl *t, const json_t *view, const struct tmpl_env *env,
	struct strbuf *out, struct err *err)
{
	static const struct tmpl_env none;
	const struct context ctx = {.value = view};
	struct err unused = ERR_INIT;
	struct render r = {
		.env = env ?: &none, .out = out, .start = out->len, .err = err ?: &unused};
	int ret = render_nodes(&r, t, 0, t->nodes.n, &ctx, (struct indent){"", 0}, 0);

	if (ret == 0 && out->len - r.start > TMPL_OUT_MAX)
		ret = err_set(
			err, -EFBIG, "%s: more than %d bytes of output", t->name, TMPL_OUT_MAX);
	if (ret < 0 && out->s) {
		out->len = r.start;
		out->s[r.start] = '\0';
	}
	return ret;
}

int tmpl_escape_bird(const char *s, size_t n, struct strbuf *out, struct err *err)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] == '"' || (unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			return err_set(err, -EINVAL,
				"byte 0x%02x at %zu, which a string of BIRD cannot hold; change it where "
				"it was set",
				(unsigned char)s[i], i);
	strbuf_addn(out, s, n);
	return 0;
}
