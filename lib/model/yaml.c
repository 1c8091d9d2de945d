/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/yaml.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "model/json.h"
#include "model/limits.h"

/*
 * Reading.
 */
struct anchor {
	char *name;
	json_t *j; /* the document's own: nobody changes that before the end */
	size_t n_nodes;
};

struct where {
	const json_t *j; /* borrowed: a mapping near the root */
	unsigned line;
};

struct loader {
	yaml_parser_t parser;
	unsigned first_line; /* of the text given to the parser, from 1 */
	size_t n_nodes;
	VEC(struct anchor) anchors;
	VEC(struct where) wheres;
	struct err *err;
};

static unsigned line_of(const struct loader *ld, const yaml_mark_t *m)
{
	return ld->first_line + (unsigned)m->line;
}

static int fail(struct loader *ld, const yaml_mark_t *m, const char *what)
{
	return err_set(
		ld->err, -EINVAL, "line %u, column %zu: %s", line_of(ld, m), m->column + 1, what);
}

static int next(struct loader *ld, yaml_event_t *ev)
{
	const char *problem;

	if (yaml_parser_parse(&ld->parser, ev))
		return 0;
	problem = ld->parser.problem;
	return fail(ld, &ld->parser.problem_mark, problem ? problem : "no YAML");
}

static bool all_digits(const char *s)
{
	return *s != '\0' && s[strspn(s, "0123456789")] == '\0';
}

/* What a plain scalar stands for. */
static json_t *plain_value(const char *s)
{
	const char *digits = *s == '-' || *s == '+' ? s + 1 : s;
	long long n;
	double d;
	char *end;

	if (*s == '\0' || strcmp(s, "~") == 0 || strcmp(s, "null") == 0 || strcmp(s, "Null") == 0 ||
		strcmp(s, "NULL") == 0)
		return json_null();
	if (strcmp(s, "true") == 0 || strcmp(s, "True") == 0 || strcmp(s, "TRUE") == 0)
		return json_true();
	if (strcmp(s, "false") == 0 || strcmp(s, "False") == 0 || strcmp(s, "FALSE") == 0)
		return json_false();
	/* "0123" is octal to some and decimal to others: it stays text. */
	if (all_digits(digits) && (digits[0] != '0' || digits[1] == '\0')) {
		errno = 0;
		n = strtoll(s, NULL, 10);
		if (errno == 0)
			return json_integer(n);
	}
	if (s[strspn(s, "+-0123456789.eE")] == '\0' && strpbrk(s, ".eE") &&
		strpbrk(s, "0123456789")) {
		errno = 0;
		d = strtod(s, &end);
		if (errno == 0 && *end == '\0')
			return json_real(d);
	}
	return json_string(s);
}

static int load_node(struct loader *ld, yaml_event_t *ev, unsigned depth, json_t **ret);

static int load_scalar(struct loader *ld, const yaml_event_t *ev, json_t **ret)
{
	const char *s = (const char *)ev->data.scalar.value;

	if (strlen(s) != ev->data.scalar.length)
		return fail(ld, &ev->start_mark, "a text with a NUL in it");
	if (ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !ev->data.scalar.tag)
		*ret = plain_value(s);
	else
		*ret = json_string(s);
	/* libyaml has checked that it is UTF-8; jansson wants no surrogates either. */
	return *ret ? 0 : fail(ld, &ev->start_mark, "text that is no UTF-8");
}

static int load_sequence(struct loader *ld, unsigned depth, json_t **ret)
{
	auto_(json) json_t *list = json_array();
	yaml_event_t ev;
	json_t *e = NULL;
	int r;

	for (;;) {
		r = next(ld, &ev);
		if (r < 0)
			return r;
		if (ev.type == YAML_SEQUENCE_END_EVENT)
			break;
		r = load_node(ld, &ev, depth + 1, &e);
		yaml_event_delete(&ev);
		if (r < 0)
			return r;
		json_array_append_new(list, e);
	}
	yaml_event_delete(&ev);
	*ret = take_ptr(list);
	return 0;
}

/* What "<<" brings: a mapping, or several of which the first to have a key wins. */
static int merge(struct loader *ld, const yaml_event_t *key_ev, json_t *merged, json_t *value)
{
	json_t *e;
	size_t i;

	if (json_is_object(value)) {
		json_object_update_missing(merged, value);
		return 0;
	}
	json_array_foreach (value, i, e) {
		if (!json_is_object(e))
			break;
		json_object_update_missing(merged, e);
	}
	if (!json_is_array(value) || i < json_array_size(value))
		return fail(ld, &key_ev->start_mark,
			"\"<<\" of what is no mapping, nor a list of them");
	return 0;
}

/* merged: what "<<" brings, where the mapping itself does not say. */
static int add_member(
	struct loader *ld, const yaml_event_t *key_ev, json_t *map, json_t *merged, json_t *value)
{
	const char *key = (const char *)key_ev->data.scalar.value;
	bool plain = key_ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;

	if (strlen(key) != key_ev->data.scalar.length) {
		json_decref(value);
		return fail(ld, &key_ev->start_mark, "a key with a NUL in it");
	}
	if (plain && strcmp(key, "<<") == 0) {
		int r = merge(ld, key_ev, merged, value);

		json_decref(value);
		return r;
	}
	if (json_object_get(map, key)) {
		auto_free char *what = mem_printf("key \"%.80s\" stands twice", key);

		json_decref(value);
		return fail(ld, &key_ev->start_mark, what);
	}
	if (json_object_set_new(map, key, value) < 0)
		return fail(ld, &key_ev->start_mark, "a key that is no UTF-8");
	return 0;
}

static int load_mapping(struct loader *ld, unsigned depth, json_t **ret)
{
	auto_(json) json_t *map = json_object(), *merged = json_object();
	yaml_event_t key_ev, ev;
	json_t *e = NULL;
	int r;

	for (;;) {
		r = next(ld, &key_ev);
		if (r < 0)
			return r;
		if (key_ev.type == YAML_MAPPING_END_EVENT)
			break;
		if (key_ev.type != YAML_SCALAR_EVENT) {
			r = fail(ld, &key_ev.start_mark, "a key that is no text");
		} else {
			r = next(ld, &ev);
			if (r == 0) {
				r = load_node(ld, &ev, depth + 1, &e);
				yaml_event_delete(&ev);
			}
			if (r == 0)
				r = add_member(ld, &key_ev, map, merged, e);
		}
		yaml_event_delete(&key_ev);
		if (r < 0)
			return r;
	}
	yaml_event_delete(&key_ev);
	json_object_update_missing(map, merged);
	*ret = take_ptr(map);
	return 0;
}

static int load_alias(struct loader *ld, const yaml_event_t *ev, json_t **ret)
{
	/* The last first: a name may be given again. */
	for (size_t i = ld->anchors.n; i-- > 0;) {
		const struct anchor *a = &ld->anchors.v[i];

		if (strcmp(a->name, (const char *)ev->data.alias.anchor) != 0)
			continue;
		ld->n_nodes += a->n_nodes;
		if (ld->n_nodes > YAML_NODES_MAX)
			return fail(ld, &ev->start_mark, "aliases expand to too much");
		*ret = json_deep_copy(a->j);
		return 0;
	}
	return fail(ld, &ev->start_mark, "an alias of no anchor before it");
}

/* The event's node; *ret on success only. */
static int load_node(struct loader *ld, yaml_event_t *ev, unsigned depth, json_t **ret)
{
	size_t before = ld->n_nodes;
	const yaml_char_t *anchor = NULL;
	json_t *j = NULL;
	int r;

	if (depth > MODEL_DEPTH_MAX)
		return fail(ld, &ev->start_mark, "nested too deep");
	if (++ld->n_nodes > YAML_NODES_MAX)
		return fail(ld, &ev->start_mark, "a document of too many values");
	switch ((int)ev->type) {
	case YAML_SCALAR_EVENT:
		anchor = ev->data.scalar.anchor;
		r = load_scalar(ld, ev, &j);
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = ev->data.sequence_start.anchor;
		r = load_sequence(ld, depth, &j);
		break;
	case YAML_MAPPING_START_EVENT:
		anchor = ev->data.mapping_start.anchor;
		r = load_mapping(ld, depth, &j);
		break;
	case YAML_ALIAS_EVENT:
		r = load_alias(ld, ev, &j);
		break;
	default:
		return fail(ld, &ev->start_mark, "no value");
	}
	if (r < 0)
		return r;
	if (anchor) {
		struct anchor a = {
			mem_strdup((const char *)anchor), json_incref(j), ld->n_nodes - before};

		vec_push(&ld->anchors, a);
	}
	if (json_is_object(j) && depth <= 3)
		vec_push(&ld->wheres, (struct where){j, line_of(ld, &ev->start_mark)});
	*ret = j;
	return 0;
}

static void add_doc(struct yaml_docs *ret, json_t *j, unsigned line)
{
	vec_push(&ret->v, (struct yaml_doc){.j = json_incref(j), .line = line});
}

static unsigned where_is(const struct loader *ld, const json_t *j, unsigned or_else)
{
	/* The last first: an address may have been another mapping's before. */
	for (size_t i = ld->wheres.n; i-- > 0;)
		if (ld->wheres.v[i].j == j)
			return ld->wheres.v[i].line;
	return or_else;
}

static int add_elements(const struct loader *ld, struct yaml_docs *ret, json_t *list, unsigned line)
{
	json_t *e;
	size_t i;

	json_array_foreach (list, i, e) {
		line = where_is(ld, e, line);
		if (!json_is_object(e))
			return err_set(ld->err, -EINVAL,
				"line %u: element %zu: want a resource with kind, apiVersion, metadata",
				line, i);
		add_doc(ret, e, line);
	}
	return 0;
}

/* A document as what it holds: nothing, one resource, or a list of them. */
static int add_root(const struct loader *ld, struct yaml_docs *ret, json_t *j, unsigned line)
{
	const char *kind = json_string_value(json_object_get(j, "kind"));
	size_t n = kind ? strlen(kind) : 0;

	if (json_is_null(j))
		return 0;
	if (json_is_array(j))
		return add_elements(ld, ret, j, line);
	if (!json_is_object(j))
		return err_set(ld->err, -EINVAL,
			"line %u: want a resource with kind, apiVersion, metadata", line);
	if (n >= 4 && strcmp(kind + n - 4, "List") == 0 &&
		json_is_array(json_object_get(j, "items")))
		return add_elements(ld, ret, json_object_get(j, "items"), line);
	add_doc(ret, j, where_is(ld, j, line));
	return 0;
}

static void loader_done(struct loader *ld)
{
	struct anchor *a;

	vec_for_each (&ld->anchors, a) {
		free(a->name);
		json_decref(a->j);
	}
	vec_done(&ld->anchors);
	vec_done(&ld->wheres);
}

static int load_documents(struct loader *ld, struct yaml_docs *ret)
{
	yaml_event_t ev;
	int r = 0;

	for (;;) {
		auto_(json) json_t *j = NULL;
		yaml_event_type_t type;
		unsigned line;

		r = next(ld, &ev);
		if (r < 0)
			return r;
		type = ev.type;
		line = line_of(ld, &ev.start_mark);
		if (type != YAML_STREAM_START_EVENT && type != YAML_STREAM_END_EVENT &&
			type != YAML_DOCUMENT_START_EVENT && type != YAML_DOCUMENT_END_EVENT) {
			ld->n_nodes = 0;
			r = load_node(ld, &ev, 1, &j);
			if (r == 0)
				r = add_root(ld, ret, j, line);
		}
		yaml_event_delete(&ev);
		if (r < 0 || type == YAML_STREAM_END_EVENT)
			return r;
	}
}

static void load_chunk(const char *text, size_t len, unsigned first_line, struct yaml_docs *ret)
{
	struct err err = ERR_INIT;
	struct loader ld = {.first_line = first_line, .err = &err};
	int r;

	if (!yaml_parser_initialize(&ld.parser))
		abort(); /* out of memory */
	yaml_parser_set_input_string(&ld.parser, (const unsigned char *)text, len);
	yaml_parser_set_encoding(&ld.parser, YAML_UTF8_ENCODING);
	r = load_documents(&ld, ret);
	if (r < 0) {
		struct yaml_doc bad = {.line = first_line, .err = mem_strdup(err.text)};

		vec_push(&ret->v, bad);
	}
	yaml_parser_delete(&ld.parser);
	loader_done(&ld);
}

/* Lines that hold no document: blank, comments, directives. */
static bool is_empty_chunk(const char *p, const char *end)
{
	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		const char *stop = nl ? nl : end;
		const char *q = p;

		while (q < stop && (*q == ' ' || *q == '\t' || *q == '\r'))
			q++;
		if (q < stop && *q != '#' && (*q != '%' || q != p))
			return false;
		p = stop + 1;
	}
	return true;
}

static bool is_separator(const char *p, const char *end)
{
	return end - p >= 3 && memcmp(p, "---", 3) == 0 &&
	       (end - p == 3 || p[3] == ' ' || p[3] == '\t' || p[3] == '\r' || p[3] == '\n');
}

/* True where the whole is JSON, which has escapes that YAML 1.1 lacks. */
static bool load_json(const char *text, size_t len, struct yaml_docs *ret)
{
	struct err err = ERR_INIT;
	struct loader ld = {.err = &err};
	auto_(json) json_t *j = NULL;

	if (len == 0 || (*text != '{' && *text != '['))
		return false;
	j = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (!j)
		return false;
	if (add_root(&ld, ret, j, 1) < 0) {
		struct yaml_doc bad = {.line = 1, .err = mem_strdup(err.text)};

		vec_push(&ret->v, bad);
	}
	return true;
}

void yaml_load(const char *text, size_t len, struct yaml_docs *ret)
{
	const char *end = text + len, *start = text, *p = text;
	unsigned line = 1, start_line = 1;

	if (load_json(text, len, ret))
		return;
	/* "---" at the start of a line ends a document whatever stands before it. */
	while (p < end) {
		const char *nl;

		if (is_separator(p, end) && p > start) {
			if (!is_empty_chunk(start, p))
				load_chunk(start, (size_t)(p - start), start_line, ret);
			start = p;
			start_line = line;
		}
		nl = memchr(p, '\n', (size_t)(end - p));
		p = nl ? nl + 1 : end;
		line++;
	}
	if (!is_empty_chunk(start, end))
		load_chunk(start, (size_t)(end - start), start_line, ret);
}

void yaml_docs_done(struct yaml_docs *d)
{
	struct yaml_doc *e;

	vec_for_each (&d->v, e) {
		json_decref(e->j);
		free(e->err);
	}
	vec_done(&d->v);
}

/*
 * Writing.
 */
static int write_bytes(void *arg, unsigned char *p, size_t n)
{
	strbuf_addn(arg, p, n);
	return 1;
}

static void emit(yaml_emitter_t *em, yaml_event_t *ev)
{
	int ok = yaml_emitter_emit(em, ev);

	assert(ok);
}

/* To a reader of YAML 1.1: 0777, 0x1f, 0b1, 1_000, -1:20, 1.5e3, .inf; an address is none. */
static bool is_number_like(const char *s)
{
	size_t n;
	const char *dot;

	s += *s == '-' || *s == '+';
	if (strcasecmp(s, ".inf") == 0 || strcasecmp(s, ".nan") == 0)
		return true;
	if (s[0] == '0' && s[1] != '\0' && strchr("xXbBoO", s[1]))
		return s[2 + strspn(s + 2, "0123456789abcdefABCDEF_")] == '\0';
	n = strspn(s, "0123456789_.:");
	dot = memchr(s, '.', n);
	if (strcspn(s, "0123456789") >= n ||
		(dot && memchr(dot + 1, '.', n - (size_t)(dot + 1 - s))))
		return false;
	s += n;
	if (*s == 'e' || *s == 'E') {
		s++;
		s += *s == '-' || *s == '+';
		return all_digits(s);
	}
	return *s == '\0';
}

static bool is_date_like(const char *s) /* 2026-08-01T12:00:00Z, 2026-8-1 */
{
	size_t month;

	if (strspn(s, "0123456789") != 4 || s[4] != '-')
		return false;
	month = strspn(s + 5, "0123456789");
	return (month == 1 || month == 2) && s[5 + month] == '-';
}

/* What a reader of YAML, 1.1 or 1.2, takes for something else than text. */
static bool is_misread(const char *s)
{
	static const char *const words[] = {"yes", "no", "on", "off", "y", "n", "=", "<<"};
	json_t *as = plain_value(s);
	bool misread = !json_is_string(as) || is_number_like(s) || is_date_like(s);

	json_decref(as);
	for (unsigned i = 0; i < array_size(words); i++)
		misread = misread || strcasecmp(s, words[i]) == 0;
	return misread;
}

static void emit_scalar(yaml_emitter_t *em, const char *s, bool text)
{
	yaml_event_t ev;
	bool plain = true;
	yaml_scalar_style_t style = YAML_ANY_SCALAR_STYLE;

	if (text && is_misread(s)) {
		plain = false;
		style = YAML_DOUBLE_QUOTED_SCALAR_STYLE;
	} else if (text && strchr(s, '\n')) {
		style = YAML_LITERAL_SCALAR_STYLE;
	}
	yaml_scalar_event_initialize(
		&ev, NULL, NULL, (const yaml_char_t *)s, (int)strlen(s), plain, text, style);
	emit(em, &ev);
}

static int name_compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void emit_value(yaml_emitter_t *em, json_t *j);

static void emit_object(yaml_emitter_t *em, json_t *j)
{
	size_t n = json_object_size(j), i = 0;
	auto_free const char **names = mem_realloc_array(NULL, n + 1, sizeof(*names));
	yaml_event_t ev;
	const char *name;
	json_t *e;

	yaml_mapping_start_event_initialize(
		&ev, NULL, NULL, 1, n > 0 ? YAML_BLOCK_MAPPING_STYLE : YAML_FLOW_MAPPING_STYLE);
	emit(em, &ev);
	json_object_foreach (j, name, e)
		names[i++] = name;
	if (n > 1)
		qsort(names, n, sizeof(*names), name_compare);
	for (i = 0; i < n; i++) {
		emit_scalar(em, names[i], true);
		emit_value(em, json_object_get(j, names[i]));
	}
	yaml_mapping_end_event_initialize(&ev);
	emit(em, &ev);
}

static void emit_value(yaml_emitter_t *em, json_t *j)
{
	yaml_event_t ev;
	json_t *e;
	size_t i;

	if (json_is_object(j)) {
		emit_object(em, j);
	} else if (json_is_array(j)) {
		yaml_sequence_start_event_initialize(&ev, NULL, NULL, 1,
			json_array_size(j) > 0 ? YAML_BLOCK_SEQUENCE_STYLE
					       : YAML_FLOW_SEQUENCE_STYLE);
		emit(em, &ev);
		json_array_foreach (j, i, e)
			emit_value(em, e);
		yaml_sequence_end_event_initialize(&ev);
		emit(em, &ev);
	} else if (json_is_string(j)) {
		emit_scalar(em, json_string_value(j), true);
	} else {
		auto_free char *s = json_dumps(j, JSON_ENCODE_ANY);

		emit_scalar(em, s, false);
	}
}

char *yaml_dump(const json_t *j)
{
	struct strbuf sb = STRBUF_INIT;
	json_t *copy = json_deep_copy(j);
	yaml_emitter_t em;
	yaml_event_t ev;

	if (!yaml_emitter_initialize(&em))
		abort(); /* out of memory */
	yaml_emitter_set_output(&em, write_bytes, &sb);
	yaml_emitter_set_unicode(&em, 1);
	yaml_emitter_set_width(&em, -1);
	yaml_stream_start_event_initialize(&ev, YAML_UTF8_ENCODING);
	emit(&em, &ev);
	yaml_document_start_event_initialize(&ev, NULL, NULL, NULL, 1);
	emit(&em, &ev);
	emit_value(&em, copy);
	yaml_document_end_event_initialize(&ev, 1);
	emit(&em, &ev);
	yaml_stream_end_event_initialize(&ev);
	emit(&em, &ev);
	yaml_emitter_delete(&em);
	json_decref(copy);
	return strbuf_take(&sb);
}
