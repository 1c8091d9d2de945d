/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lib/tmpl: a case for every rule of mustache(5), and for where we differ from it on purpose. */
#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "tmpl/tmpl.h"

struct test_case {
	const char *what, *tmpl, *view, *want;
	const char *p; /* the partial "p" */
};

static const struct test_case good[] = {
	/* variables */
	{"no tags", "Hello {world}\n} }}\n", "{}", "Hello {world}\n} }}\n", NULL},
	{"nothing", "", "{}", "", NULL},
	{"string", "Hello, {{subject}}!\n", "{\"subject\": \"world\"}", "Hello, world!\n", NULL},
	{"no HTML", "{{x}}", "{\"x\": \"& < > '\"}", "& < > '", NULL},
	{"escape", "{{x}} {{{x}}} {{&x}} {{& x }}", "{\"x\": \"a\"}", "<a> a a a", NULL},
	{"integer", "{{x}} {{y}}", "{\"x\": 85, \"y\": -9223372036854775808}",
		"<85> <-9223372036854775808>", NULL},
	{"boolean", "{{{t}}} {{{f}}}", "{\"t\": true, \"f\": false}", "true false", NULL},
	{"empty string", "[{{{x}}}]", "{\"x\": \"\"}", "[]", NULL},
	{"blanks in a tag", "| {{ x }} {{{\tx\n}}} |", "{\"x\": \"-\"}", "| - - |", NULL},
	{"whitespace around", " {{x}} \n  {{x}}\n", "{\"x\": \"-\"}", " - \n  -\n", NULL},
	{"brace after", "{ {{x}}}", "{\"x\": \"-\"}", "{ -}", NULL},
	{"not rendered again", "{{x}}", "{\"x\": \"{{y}}\"}", "{{y}}", NULL},
	/* names */
	{"dotted", "{{a.b.c}}", "{\"a\": {\"b\": {\"c\": 1}}}", "1", NULL},
	{"dotted = nested", "{{a.b}}={{#a}}{{b}}{{/a}}", "{\"a\": {\"b\": 1}}", "1=1", NULL},
	{"first part from outside", "{{#x}}{{a.b}}{{/x}}", "{\"a\": {\"b\": 1}, \"x\": {}}", "1",
		NULL},
	{"dot at the top", "{{.}}", "\"x\"", "x", NULL},
	/* sections */
	{"true", "{{#x}}yes{{/x}}", "{\"x\": true}", "yes", NULL},
	{"false", "[{{#x}}{{nothing}}{{/x}}]", "{\"x\": false}", "[]", NULL},
	{"null is false", "[{{#x}}yes{{/x}}{{^x}}no{{/x}}]", "{\"x\": null}", "[no]", NULL},
	{"0 is true", "{{#x}}yes{{/x}}", "{\"x\": 0}", "yes", NULL},
	{"empty string is true", "{{#x}}yes{{/x}}", "{\"x\": \"\"}", "yes", NULL},
	{"empty object is true", "{{#x}}yes{{/x}}", "{\"x\": {}}", "yes", NULL},
	{"object", "{{#x}}{{name}} {{y}}{{/x}}", "{\"x\": {\"name\": \"n\"}, \"y\": 1}", "n 1",
		NULL},
	{"inner name hides outer", "{{#x}}{{y}}{{/x}}{{y}}", "{\"x\": {\"y\": 2}, \"y\": 1}", "21",
		NULL},
	{"null hides outer", "{{#x}}{{#y}}a{{/y}}{{/x}}", "{\"x\": {\"y\": null}, \"y\": 1}", "",
		NULL},
	{"list", "{{#l}}{{x}},{{/l}}", "{\"l\": [{\"x\": 1}, {\"x\": 2}]}", "1,2,", NULL},
	{"empty list", "[{{#l}}a{{/l}}]", "{\"l\": []}", "[]", NULL},
	{"implicit iterator", "{{#l}}({{.}}){{/l}}", "{\"l\": [\"a\", 2, true]}", "(a)(2)(true)",
		NULL},
	{"nested lists", "{{#l}}{{#.}}{{.}}{{/.}};{{/l}}", "{\"l\": [[1, 2], [3]]}", "12;3;", NULL},
	{"false in a list is an element", "{{#l}}{{.}}{{/l}}", "{\"l\": [false]}", "false", NULL},
	{"string as context", "{{#x}}{{.}}{{/x}}", "{\"x\": \"s\"}", "s", NULL},
	{"dotted section", "{{#a.b}}yes{{/a.b}}", "{\"a\": {\"b\": true}}", "yes", NULL},
	{"deep", "{{#a}}{{x}}{{#b}}{{x}}{{y}}{{#c}}{{x}}{{y}}{{z}}{{/c}}{{/b}}{{/a}}",
		"{\"a\": {\"x\": 1}, \"b\": {\"y\": 2}, \"c\": {\"z\": 3}}", "112123", NULL},
	{"two with one name", "{{#x}}1{{/x}} {{#x}}2{{/x}}", "{\"x\": true}", "1 2", NULL},
	{"in itself", "{{#x}}a{{#x}}b{{/x}}c{{/x}}", "{\"x\": true}", "abc", NULL},
	{"blanks in section tags", "{{# x }}={{/ x }}", "{\"x\": true}", "=", NULL},
	/* tables */
	{"table", "{{#t}}\n{{a}} {{b}} {{x}}\n{{/t}}\n",
		"{\"t\": {\"\\ttable\": \"a\\tb\\n1\\t2\\n3\\t\\n\"}, \"x\": 0}", "1 2 0\n3  0\n",
		NULL},
	{"table without rows", "[{{#t}}yes{{/t}}{{^t}}no{{/t}}]",
		"{\"t\": {\"\\ttable\": \"a\\n\"}}", "[no]", NULL},
	{"inverted table", "[{{^t}}no{{/t}}]", "{\"t\": {\"\\ttable\": \"a\\n1\\n\"}}", "[]", NULL},
	{"table in a table", "{{#t}}{{#u}}{{a}}{{b}};{{/u}}{{/t}}",
		"{\"t\": {\"\\ttable\": \"a\\n1\\n2\\n\"}, \"u\": {\"\\ttable\": \"b\\n3\\n4\\n\"}}",
		"13;14;23;24;", NULL},
	/* inverted sections */
	{"inverted true", "[{{^x}}{{nothing}}{{/x}}]", "{\"x\": true}", "[]", NULL},
	{"inverted false", "{{^x}}no{{/x}}", "{\"x\": false}", "no", NULL},
	{"inverted list", "[{{^x}}no{{/x}}]", "{\"x\": [1]}", "[]", NULL},
	{"inverted empty list", "{{^x}}no{{/x}}", "{\"x\": []}", "no", NULL},
	{"inverted keeps the context", "{{#a}}{{^x}}{{y}}{{/x}}{{/a}}",
		"{\"a\": {\"y\": 1, \"x\": false}}", "1", NULL},
	/* standalone lines */
	{"section lines vanish", "| a\n{{#x}}\n| b\n{{/x}}\n| c\n", "{\"x\": true}",
		"| a\n| b\n| c\n", NULL},
	{"indented section lines", "| a\n  {{#x}}\n| b\n\t{{/x}} \n| c\n", "{\"x\": true}",
		"| a\n| b\n| c\n", NULL},
	{"inverted lines", "{{^x}}\na\n{{/x}}\nb\n", "{\"x\": false}", "a\nb\n", NULL},
	{"CRLF", "|\r\n{{#x}}\r\na\r\n{{/x}}\r\n|", "{\"x\": true}", "|\r\na\r\n|", NULL},
	{"first line", "  {{#x}}\n#{{/x}}\n/", "{\"x\": true}", "#\n/", NULL},
	{"last line", "#{{#x}}\n/\n  {{/x}}", "{\"x\": true}", "#\n/\n", NULL},
	{"lone CR is no line end", "{{#x}}\ra{{/x}}", "{\"x\": true}", "\ra", NULL},
	{"two tags on a line stay", "{{#x}}{{/x}}\n", "{\"x\": true}", "\n", NULL},
	{"inline keeps blanks", " | {{#x}}\t|\t{{/x}} | \n", "{\"x\": true}", " | \t|\t | \n",
		NULL},
	{"text on the line keeps it", "a {{#x}}\nb\n{{/x}} c\n", "{\"x\": true}", "a \nb\n c\n",
		NULL},
	{"variables are not standalone", "{{x}}\n{{{x}}}\n", "{\"x\": \"\"}", "\n\n", NULL},
	{"loops", "{{#l}}\n- {{.}}\n{{/l}}\nend\n", "{\"l\": [1, 2]}", "- 1\n- 2\nend\n", NULL},
	/* comments */
	{"comment", "a{{! {{x }}b", "{}", "ab", NULL},
	{"comment of lines", "a {{! b\nc\n}} d\n", "{}", "a  d\n", NULL},
	{"standalone comment", "a\n  {{! b }}\nc\n", "{}", "a\nc\n", NULL},
	{"standalone comment of lines", "a\n {{!\nb\n}} \nc\n", "{}", "a\nc\n", NULL},
	{"standalone comment CRLF", "|\r\n{{! a }}\r\n|", "{}", "|\r\n|", NULL},
	{"comment at the end", "a\n  {{! b }}", "{}", "a\n", NULL},
	{"tag after a comment of lines", "{{! a\n}} {{#x}}\nb{{/x}}", "{\"x\": true}", " \nb",
		NULL},
	/* partials */
	{"partial", "[{{>p}}]", "{\"x\": 1}", "[(1)]", "({{x}})"},
	{"partial's blanks", "| {{> p }} |", "{}", "| a |", "a"},
	{"inline partial", "| {{>p}} |\n", "{}", "| a\nb |\n", "a\nb"},
	{"standalone partial", "a\n{{>p}}\nb\n", "{}", "a\nx\nb\n", "x\n"},
	{"standalone partial CRLF", "|\r\n{{>p}}\r\n|", "{}", "|\r\n>|", ">"},
	{"partial first", "  {{>p}}\n>", "{}", "  >\n  >>", ">\n>"},
	{"partial last", ">\n  {{>p}}", "{}", ">\n  >\n  >", ">\n>"},
	{"indented", "\\\n {{>p}}\n/\n", "{\"x\": \"<\\n->\"}", "\\\n |\n <\n->\n |\n/\n",
		"|\n{{{x}}}\n|\n"},
	{"empty lines stay empty", "  {{>p}}\n", "{}", "  a\n\n\r\n  b\n", "a\n\n\r\nb\n"},
	{"indented loop", "  {{>p}}\n", "{\"l\": [1, 2]}", "  1\n  2\n",
		"{{#l}}\n{{{.}}}\n{{/l}}\n"},
	{"loop that ends in mid-line", " {{>p}}\n", "{\"l\": [1, 2]}", " 1\n 2\n .",
		"{{#l}}{{{.}}}\n{{/l}}."},
	{"in a section", "{{#l}}\n  {{>p}}\n{{/l}}\n", "{\"l\": [1, 2]}", "  1;\n  2;\n",
		"{{{.}}};\n"},
	{"recursion", "{{>p}}", "{\"v\": 1, \"c\": [{\"v\": 2, \"c\": []}]}", "1<2<>>",
		"{{{v}}}<{{#c}}{{>p}}{{/c}}>"},
	{"indents add up", " {{>p}}\n", "{\"v\": 1, \"c\": [{\"v\": 2, \"c\": []}]}", " 1\n   2\n",
		"{{{v}}}\n{{#c}}\n  {{>p}}\n{{/c}}\n"},
};

static int bracket(const char *s, size_t n, struct strbuf *out, struct err *err)
{
	if (memchr(s, '"', n))
		return err_set(err, -EINVAL, "a quote");
	strbuf_addc(out, '<');
	strbuf_addn(out, s, n);
	strbuf_addc(out, '>');
	return 0;
}

static const struct tmpl *get_p(void *arg, const char *name)
{
	return strcmp(name, "p") == 0 ? arg : NULL;
}

static int render(const struct test_case *c, bool escape, struct strbuf *out, struct err *err)
{
	json_t *view = json_loads(c->view, JSON_DECODE_ANY, NULL);
	struct tmpl *t = NULL, *p = NULL;
	int r;

	ck_assert_ptr_nonnull(view);
	if (c->p)
		ck_assert_int_eq(tmpl_parse(c->p, strlen(c->p), "p", &p, err), 0);
	r = tmpl_parse(c->tmpl, strlen(c->tmpl), "t", &t, err);
	if (r == 0) {
		const struct tmpl_env env = {
			.partial = get_p, .partial_arg = p, .escape = escape ? bracket : NULL};

		ck_assert_str_eq(tmpl_name(t), "t");
		r = tmpl_render(t, view, &env, out, err);
	}
	tmpl_free(t);
	tmpl_free(p);
	json_decref(view);
	return r;
}

START_TEST(rules)
{
	const struct test_case *c = &good[_i];
	auto_strbuf out = STRBUF_INIT;
	struct err err = ERR_INIT;
	bool escape = strcmp(c->what, "escape") == 0 || strcmp(c->what, "integer") == 0;

	strbuf_add(&out, "before:"); /* what is there stays */
	int r = render(c, escape, &out, &err);
	ck_assert_msg(r == 0, "%s: %s", c->what, err_text(&err));
	ck_assert_msg(strcmp(strbuf_str(&out) + 7, c->want) == 0, "%s: got \"%s\", want \"%s\"",
		c->what, strbuf_str(&out) + 7, c->want);
}
END_TEST

static const struct test_case bad[] = {
	{"unknown", "a\n {{x}}", "{}", "t:2:2: unknown name \"x\"", NULL},
	{"unknown in a section tag", "{{#x}}{{/x}}", "{}", "t:1:1: unknown name \"x\"", NULL},
	{"unknown in an inverted one", "{{^x}}{{/x}}", "{}", "t:1:1: unknown name \"x\"", NULL},
	{"unknown, raw", "a{{{x}}}", "{}", "t:1:2: unknown name \"x\"", NULL},
	{"broken chain", "{{a.b.c}}", "{\"a\": {\"b\": {}}, \"c\": 1}",
		"t:1:1: unknown name \"a.b.c\": \"c\" is not in what is before it", NULL},
	{"no way back out", "{{#x}}{{a.b}}{{/x}}", "{\"a\": {\"b\": 1}, \"x\": {\"a\": {}}}",
		"t:1:7: unknown name \"a.b\": \"b\" is not in what is before it", NULL},
	{"chain through a string", "{{a.b}}", "{\"a\": \"s\"}",
		"t:1:1: unknown name \"a.b\": \"b\" is not in what is before it", NULL},
	{"null", "{{x}}", "{\"x\": null}",
		"t:1:1: \"x\" is null: want a string, integer or boolean", NULL},
	{"real", "{{x}}", "{\"x\": 1.5}",
		"t:1:1: \"x\" is a real number: want a string, integer or boolean", NULL},
	{"object", "{{x}}", "{\"x\": {}}",
		"t:1:1: \"x\" is an object: want a string, integer or boolean", NULL},
	{"array", "{{.}}", "[]", "t:1:1: \".\" is an array: want a string, integer or boolean",
		NULL},
	{"no field of a table", "{{#t}}{{b}}{{/t}}", "{\"t\": {\"\\ttable\": \"a\\n1\\t2\\n\"}}",
		"t:1:7: unknown name \"b\"", NULL},
	{"field that a row lacks", "{{#t}}{{b}}{{/t}}", "{\"t\": {\"\\ttable\": \"a\\tb\\n1\\n\"}}",
		"t:1:7: unknown name \"b\"", NULL},
	{"escape refuses", "\n\n{{x}}", "{\"x\": \"\\\"\"}", "t:3:1: \"x\": a quote", NULL},
	{"not closed", "a {{x", "{}", "t:1:3: a tag that is not closed: want }}", NULL},
	{"triple not closed", "{{{x}}", "{}", "t:1:1: a tag that is not closed: want }}}", NULL},
	{"open at the end", "{{", "{}", "t:1:1: a tag that is not closed: want }}", NULL},
	{"no name", "{{ }}", "{}", "t:1:1: a tag without a name", NULL},
	{"two names", "{{a b}}", "{}", "t:1:1: tag \"a b\": want one name", NULL},
	{"dots", "{{a..b}}", "{}", "t:1:1: name \"a..b\": want names joined by single dots", NULL},
	{"leading dot", "{{.a}}", "{}", "t:1:1: name \".a\": want names joined by single dots",
		NULL},
	{"delimiters", "{{=<% %>=}}", "{}", "t:1:1: {{=: other delimiters are not supported", NULL},
	{"inheritance", "{{<x}}{{/x}}", "{}", "t:1:1: {{<: inheritance is not supported", NULL},
	{"section not closed", "a\n{{#x}}\nb\n", "{\"x\": 1}", "t:2:1: section \"x\" is not closed",
		NULL},
	{"closes nothing", "a\n\n{{/x}}", "{}", "t:3:1: {{/x}} closes nothing", NULL},
	{"crossed", "{{#a}}{{#b}}{{/a}}{{/b}}", "{}", "t:1:13: {{/a}}: want {{/b}} first", NULL},
	{"no such partial", "\n{{>q}}", "{}", "t:2:1: no template \"q\" to include", NULL},
	{"in a partial", "\n {{>p}}", "{}", "t:2:2: p:1:2: unknown name \"x\"", "a{{x}}"},
};

START_TEST(errors_have_a_place)
{
	const struct test_case *c = &bad[_i];
	auto_strbuf out = STRBUF_INIT;
	struct err err = ERR_INIT;

	strbuf_add(&out, "before");
	ck_assert_int_eq(render(c, true, &out, &err), -EINVAL);
	ck_assert_msg(strcmp(err_text(&err), c->want) == 0, "%s: got \"%s\", want \"%s\"", c->what,
		err_text(&err), c->want);
	ck_assert_str_eq(strbuf_str(&out), "before");
	ck_assert_int_eq(render(c, true, &out, NULL), -EINVAL);
}
END_TEST

START_TEST(endless_recursion_ends)
{
	const struct test_case c = {"", "{{>p}}", "{}", "", "{{>p}}"};
	auto_strbuf out = STRBUF_INIT;
	struct err err = ERR_INIT;

	ck_assert_int_eq(render(&c, false, &out, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err_text(&err), "t:1:1: p:1:1: "));
}
END_TEST

START_TEST(nesting_is_bounded)
{
	for (int n = TMPL_NEST_MAX; n <= TMPL_NEST_MAX + 1; n++) {
		auto_strbuf text = STRBUF_INIT, out = STRBUF_INIT;

		for (int i = 0; i < n; i++)
			strbuf_add(&text, "{{#x}}");
		strbuf_add(&text, "y");
		for (int i = 0; i < n; i++)
			strbuf_add(&text, "{{/x}}");
		const struct test_case c = {"", text.s, "{\"x\": true}", "", NULL};

		ck_assert_int_eq(render(&c, false, &out, NULL), n > TMPL_NEST_MAX ? -EINVAL : 0);
		ck_assert_str_eq(strbuf_str(&out), n > TMPL_NEST_MAX ? "" : "y");
	}
}
END_TEST

static json_t *zeroes(size_t size)
{
	json_t *l = json_array();

	for (size_t i = 0; i < size; i++)
		json_array_append_new(l, json_integer(0));
	return l;
}

START_TEST(size_and_work_are_bounded)
{
	auto_strbuf big = STRBUF_INIT, out = STRBUF_INIT;
	struct err err = ERR_INIT;
	struct tmpl *t;
	json_t *view = json_pack("{s:o}", "l", zeroes(1000));
	static const char loops[] = "{{#l}}{{#l}}{{#l}}{{/l}}{{/l}}{{/l}}";

	strbuf_add(&big, "{{#l}}");
	while (big.len < TMPL_TEXT_MAX - 6)
		strbuf_addc(&big, 'x');
	strbuf_add(&big, "{{/l}}");
	ck_assert_int_eq(tmpl_parse(big.s, TMPL_TEXT_MAX + 1, "big", &t, &err), -EFBIG);
	ck_assert_int_eq(tmpl_parse(big.s, TMPL_TEXT_MAX, "big", &t, &err), 0);
	ck_assert_int_eq(tmpl_render(t, view, NULL, &out, &err), -EFBIG);
	ck_assert_uint_eq(out.len, 0);
	tmpl_free(t);
	ck_assert_int_eq(tmpl_parse(loops, strlen(loops), "loops", &t, &err), 0);
	ck_assert_int_eq(tmpl_render(t, view, NULL, &out, &err), -EFBIG);
	tmpl_free(t);
	json_decref(view);
}
END_TEST

START_TEST(strings_of_bird)
{
	static const char *const refused[] = {"a\"b", "a\nb", "\r", "\x01", "\x7f"};
	auto_strbuf out = STRBUF_INIT;
	struct err err = ERR_INIT;

	ck_assert_int_eq(tmpl_escape_bird("node's {} \xc3\xa4", 12, &out, &err), 0);
	ck_assert_str_eq(out.s, "node's {} \xc3\xa4");
	for (size_t i = 0; i < array_size(refused); i++)
		ck_assert_int_eq(
			tmpl_escape_bird(refused[i], strlen(refused[i]), &out, &err), -EINVAL);
	ck_assert_int_eq(tmpl_escape_bird("a\0b", 3, &out, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err_text(&err), "byte 0x00 at 1"));
	ck_assert_uint_eq(out.len, 12);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tmpl");
	TCase *tc = tcase_create("tmpl");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, rules, 0, (int)array_size(good));
	tcase_add_loop_test(tc, errors_have_a_place, 0, (int)array_size(bad));
	tcase_add_test(tc, endless_recursion_ends);
	tcase_add_test(tc, nesting_is_bounded);
	tcase_add_test(tc, size_and_work_are_bounded);
	tcase_add_test(tc, strings_of_bird);
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
