/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/selector.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "model/limits.h"
#include "model/meta.h"

enum op {
	OP_ALL,
	OP_GLOBAL,
	OP_HAS,
	OP_EQ,
	OP_NE,
	OP_CONTAINS,
	OP_STARTS,
	OP_ENDS,
	OP_IN,
	OP_NOT_IN,
	OP_NOT,
	OP_AND,
	OP_OR,
};

struct selector {
	enum op op;
	char *label, *value;
	struct strings set; /* sorted, each once */
	VEC(struct selector *) args;
};

#define LABEL_MAX 512
#define NEST_MAX 64

struct parser {
	const char *text, *p;
	unsigned n_terms, depth;
	struct err *err;
};

static struct selector *sel_new(enum op op)
{
	struct selector *s = mem_new(struct selector);

	s->op = op;
	return s;
}

void selector_free(struct selector *s)
{
	struct selector **arg;

	if (!s)
		return;
	free(s->label);
	free(s->value);
	strings_done(&s->set);
	vec_for_each (&s->args, arg)
		selector_free(*arg);
	vec_done(&s->args);
	free(s);
}

static struct selector *fail(const struct parser *ps, const char *want)
{
	err_set(ps->err, -EINVAL, "selector \"%.80s\": column %zu: got \"%.16s\", want %s",
		ps->text, (size_t)(ps->p - ps->text) + 1, ps->p, want);
	return NULL;
}

static void blanks(struct parser *ps)
{
	ps->p += strspn(ps->p, " \t");
}

static bool is_label_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '.' || c == '/' || c == '-';
}

/* After blanks. */
static bool take(struct parser *ps, const char *token)
{
	size_t n = strlen(token);

	blanks(ps);
	if (strncmp(ps->p, token, n) != 0)
		return false;
	ps->p += n;
	return true;
}

/* "starts with": blanks between the words may be absent, and the last must end there. */
static bool take_words(struct parser *ps, const char *first, const char *second)
{
	const char *start = ps->p;

	if (take(ps, first) && (!second || take(ps, second)) && !is_label_char(*ps->p))
		return true;
	ps->p = start;
	return false;
}

static char *parse_label(struct parser *ps)
{
	size_t n = 0;

	blanks(ps);
	while (is_label_char(ps->p[n]))
		n++;
	if (n == 0 || n > LABEL_MAX) {
		fail(ps, "a label of at most 512 letters, digits, \"_\", \".\", \"/\", \"-\"");
		return NULL;
	}
	ps->p += n;
	return mem_strndup(ps->p - n, n);
}

static char *parse_string(struct parser *ps)
{
	const char *end;
	char *s;

	blanks(ps);
	if (*ps->p != '"' && *ps->p != '\'') {
		fail(ps, "a text in quotes");
		return NULL;
	}
	end = strchr(ps->p + 1, *ps->p);
	if (!end) {
		fail(ps, "the quote closed");
		return NULL;
	}
	s = mem_strndup(ps->p + 1, (size_t)(end - ps->p - 1));
	ps->p = end + 1;
	return s;
}

static int string_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_set(struct strings *set)
{
	size_t n = 0;

	if (set->v.n == 0)
		return;
	qsort(set->v.v, set->v.n, sizeof(char *), string_compare);
	for (size_t i = 0; i < set->v.n; i++) {
		if (n > 0 && strcmp(set->v.v[n - 1], set->v.v[i]) == 0)
			free(set->v.v[i]);
		else
			set->v.v[n++] = set->v.v[i];
	}
	set->v.n = n;
}

static struct selector *parse_set(struct parser *ps, struct selector *s)
{
	if (!take(ps, "{")) {
		fail(ps, "\"{\"");
		goto bad;
	}
	while (!take(ps, "}")) {
		char *value;

		if (++ps->n_terms > MODEL_SELECTOR_TERMS) {
			fail(ps, "fewer terms");
			goto bad;
		}
		value = parse_string(ps);
		if (!value)
			goto bad;
		vec_push(&s->set.v, value);
		if (!take(ps, ",")) {
			if (take(ps, "}"))
				break;
			fail(ps, "\",\" or \"}\"");
			goto bad;
		}
	}
	sort_set(&s->set);
	return s;
bad:
	selector_free(s);
	return NULL;
}

static struct selector *parse_comparison(struct parser *ps)
{
	static const struct {
		const char *first, *second;
		enum op op;
	} words[] = {
		{"contains", NULL, OP_CONTAINS},
		{"starts", "with", OP_STARTS},
		{"ends", "with", OP_ENDS},
		{"in", NULL, OP_IN},
		{"not", "in", OP_NOT_IN},
	};
	char *label = parse_label(ps);
	struct selector *s;

	if (!label)
		return NULL;
	s = sel_new(OP_EQ);
	s->label = label;
	if (take(ps, "==")) {
		s->op = OP_EQ;
	} else if (take(ps, "!=")) {
		s->op = OP_NE;
	} else {
		size_t i = 0;

		while (i < array_size(words) && !take_words(ps, words[i].first, words[i].second))
			i++;
		if (i == array_size(words)) {
			fail(ps, "==, !=, in, not in, contains, starts with, ends with");
			selector_free(s);
			return NULL;
		}
		s->op = words[i].op;
	}
	if (s->op == OP_IN || s->op == OP_NOT_IN)
		return parse_set(ps, s);
	s->value = parse_string(ps);
	if (!s->value) {
		selector_free(s);
		return NULL;
	}
	return s;
}

static struct selector *parse_list(struct parser *ps, enum op op);

static struct selector *parse_call(struct parser *ps, enum op op)
{
	struct selector *s = sel_new(op);

	if (op == OP_HAS)
		s->label = parse_label(ps);
	if (op == OP_HAS && !s->label) {
		selector_free(s);
		return NULL;
	}
	if (!take(ps, ")")) {
		selector_free(s);
		return fail(ps, "\")\"");
	}
	return s;
}

static struct selector *parse_operand(struct parser *ps)
{
	bool negated = false;
	struct selector *s, *outer;

	while (take(ps, "!"))
		negated = !negated;
	if (++ps->n_terms > MODEL_SELECTOR_TERMS)
		return fail(ps, "fewer terms");
	if (take(ps, "(")) {
		if (++ps->depth > NEST_MAX)
			return fail(ps, "fewer parentheses");
		s = parse_list(ps, OP_OR);
		ps->depth--;
		if (s && !take(ps, ")")) {
			selector_free(s);
			return fail(ps, "\")\", \"&&\" or \"||\"");
		}
	} else if (take(ps, "has(")) {
		s = parse_call(ps, OP_HAS);
	} else if (take(ps, "all(")) {
		s = parse_call(ps, OP_ALL);
	} else if (take(ps, "global(")) {
		s = parse_call(ps, OP_GLOBAL);
	} else {
		s = parse_comparison(ps);
	}
	if (!s || !negated)
		return s;
	outer = sel_new(OP_NOT);
	vec_push(&outer->args, s);
	return outer;
}

/* OP_OR: and-lists joined by "||"; OP_AND: operands joined by "&&". One alone stands for itself. */
static struct selector *parse_list(struct parser *ps, enum op op)
{
	struct selector *list = NULL, *s;

	for (;;) {
		s = op == OP_OR ? parse_list(ps, OP_AND) : parse_operand(ps);
		if (!s) {
			selector_free(list);
			return NULL;
		}
		if (list)
			vec_push(&list->args, s);
		if (!take(ps, op == OP_OR ? "||" : "&&"))
			return list ? list : s;
		if (!list) {
			list = sel_new(op);
			vec_push(&list->args, s);
		}
	}
}

int selector_parse(const char *text, struct selector **ret, struct err *err)
{
	struct parser ps = {.text = text ? text : "", .err = err};
	struct selector *s;

	if (strlen(ps.text) > MODEL_SELECTOR_MAX)
		return err_set(err, -EINVAL, "selector of %zu bytes, want at most %d",
			strlen(ps.text), MODEL_SELECTOR_MAX);
	ps.p = ps.text;
	blanks(&ps);
	if (*ps.p == '\0') {
		*ret = sel_new(OP_ALL);
		return 0;
	}
	s = parse_list(&ps, OP_OR);
	if (!s)
		return -EINVAL;
	blanks(&ps);
	if (*ps.p != '\0') {
		fail(&ps, "\"&&\", \"||\" or the end");
		selector_free(s);
		return -EINVAL;
	}
	*ret = s;
	return 0;
}

static bool starts(const char *s, const char *with)
{
	return strncmp(s, with, strlen(with)) == 0;
}

static bool ends(const char *s, const char *with)
{
	size_t n = strlen(s), m = strlen(with);

	return n >= m && strcmp(s + n - m, with) == 0;
}

bool selector_matches(const struct selector *s, const struct labels *labels)
{
	const char *v = s->label && labels ? labels_get(labels, s->label) : NULL;
	struct selector *const *arg;

	switch (s->op) {
	case OP_ALL:
	case OP_GLOBAL:
		return true;
	case OP_HAS:
		return v;
	case OP_EQ:
		return v && strcmp(v, s->value) == 0;
	case OP_NE:
		return !v || strcmp(v, s->value) != 0;
	case OP_CONTAINS:
		return v && strstr(v, s->value);
	case OP_STARTS:
		return v && starts(v, s->value);
	case OP_ENDS:
		return v && ends(v, s->value);
	case OP_IN:
		return v && strings_has(&s->set, v);
	case OP_NOT_IN:
		return !v || !strings_has(&s->set, v);
	case OP_NOT:
		return !selector_matches(s->args.v[0], labels);
	case OP_AND:
		vec_for_each (&s->args, arg)
			if (!selector_matches(*arg, labels))
				return false;
		return true;
	case OP_OR:
		vec_for_each (&s->args, arg)
			if (selector_matches(*arg, labels))
				return true;
		return false;
	}
	return false;
}

bool selector_has_global(const struct selector *s)
{
	struct selector *const *arg;

	vec_for_each (&s->args, arg)
		if (selector_has_global(*arg))
			return true;
	return s->op == OP_GLOBAL;
}

static void add_quoted(struct strbuf *sb, const char *s)
{
	char q = strchr(s, '"') ? '\'' : '"';

	strbuf_addf(sb, "%c%s%c", q, s, q);
}

static void format(const struct selector *s, struct strbuf *sb)
{
	static const char *const text[] = {
		[OP_EQ] = " == ",
		[OP_NE] = " != ",
		[OP_CONTAINS] = " contains ",
		[OP_STARTS] = " starts with ",
		[OP_ENDS] = " ends with ",
		[OP_IN] = " in {",
		[OP_NOT_IN] = " not in {",
		[OP_AND] = " && ",
		[OP_OR] = " || ",
	};

	switch (s->op) {
	case OP_ALL:
		strbuf_add(sb, "all()");
		break;
	case OP_GLOBAL:
		strbuf_add(sb, "global()");
		break;
	case OP_HAS:
		strbuf_addf(sb, "has(%s)", s->label);
		break;
	case OP_EQ:
	case OP_NE:
	case OP_CONTAINS:
	case OP_STARTS:
	case OP_ENDS:
		strbuf_addf(sb, "%s%s", s->label, text[s->op]);
		add_quoted(sb, s->value);
		break;
	case OP_IN:
	case OP_NOT_IN:
		strbuf_addf(sb, "%s%s", s->label, text[s->op]);
		for (size_t i = 0; i < s->set.v.n; i++) {
			strbuf_add(sb, i > 0 ? ", " : "");
			add_quoted(sb, s->set.v.v[i]);
		}
		strbuf_addc(sb, '}');
		break;
	case OP_NOT:
		strbuf_addc(sb, '!');
		format(s->args.v[0], sb);
		break;
	case OP_AND:
	case OP_OR:
		strbuf_addc(sb, '(');
		for (size_t i = 0; i < s->args.n; i++) {
			strbuf_add(sb, i > 0 ? text[s->op] : "");
			format(s->args.v[i], sb);
		}
		strbuf_addc(sb, ')');
		break;
	}
}

char *selector_format(const struct selector *s)
{
	struct strbuf sb = STRBUF_INIT;

	format(s, &sb);
	return strbuf_take(&sb);
}
