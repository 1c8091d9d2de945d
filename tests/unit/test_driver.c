/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the datastore drivers have in common. What they make of it is told in test_etcd.c and test_kube_api.c.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "store/driver.h"
#include "store/servers.h"
#include "store/stream.h"

/* ---- what is there before a write ---- */

static const struct {
	int64_t rev;
	const char *uid, *value;
	const char *text; /* NULL = it is */
} objects[] = {
	{7, NULL, NULL, NULL},
	{6, NULL, NULL, "/p/a: was changed meanwhile: it has revision 7, expected was 6"},
	{0, "u", "{\"metadata\":{\"uid\":\"u\"}}", NULL},
	{7, "u", "{\"metadata\":{\"uid\":\"u\"}}", NULL},
	{6, "u", "{\"metadata\":{\"uid\":\"u\"}}",
		"/p/a: was changed meanwhile: it has revision 7, expected was 6"},
	{0, "u", "{\"metadata\":{\"uid\":\"v\"}}",
		"/p/a: is another object of the same name: its uid is not u"},
	{0, "u", "{\"metadata\":{}}", "/p/a: is another object of the same name: its uid is not u"},
	{0, "u", "\"u\"", "/p/a: is another object of the same name: its uid is not u"},
	{0, "u", NULL, "/p/a: is another object of the same name: its uid is not u"},
};

START_TEST(a_write_is_of_the_object_that_it_names)
{
	struct store_req req = {.verb = STORE_DELETE,
		.key = "/p/a",
		.rev = objects[_i].rev,
		.uid = objects[_i].uid};
	char *value = objects[_i].value ? mem_strdup(objects[_i].value) : NULL;
	struct store_kv kv = {.value = value, .len = value ? strlen(value) : 0, .rev = 7};
	struct err err = ERR_INIT;

	ck_assert_int_eq(store_check_before(&req, &kv, &err), objects[_i].text ? -ESTALE : 0);
	ck_assert_str_eq(err.text, objects[_i].text ? objects[_i].text : "");
	free(value);
}
END_TEST

/* ---- which server is next ---- */

/* Those that a request goes to, as digits. */
static const char *turns(const struct servers *s, int64_t now_ms)
{
	static char text[SERVERS_MAX + 1];
	struct servers_turn t = {0};
	size_t n = 0;

	while (servers_next(s, &t, now_ms)) {
		ck_assert_int_eq(t.heard_ms, now_ms);
		text[n++] = (char)('0' + t.at);
		ck_assert_int_eq(servers_is_last(s, &t), n == s->n);
	}
	text[n] = '\0';
	return text;
}

START_TEST(each_server_is_asked_once)
{
	ck_assert_str_eq(turns(&(struct servers){.n = 0}, 1), "");
	ck_assert_str_eq(turns(&(struct servers){.n = 1}, 1), "0");
	ck_assert_str_eq(turns(&(struct servers){.n = 3, .first = 2}, 1), "201");
	ck_assert_str_eq(turns(&(struct servers){.n = SERVERS_MAX}, 1), "0123456789:;<=>?");
}
END_TEST

START_TEST(who_failed_comes_last_for_a_while)
{
	struct servers s = {.n = 3, .first = 1};
	struct servers_turn zero = {.at = 0}, one = {.at = 1}, two = {.at = 2};

	servers_suspect(&s, &one, 1000);
	ck_assert_str_eq(turns(&s, 1001), "201");
	servers_suspect(&s, &two, 2000);
	ck_assert_str_eq(turns(&s, 2001), "012");
	servers_suspect(&s, &zero, 3000); /* all have: the first that did */
	ck_assert_str_eq(turns(&s, 3001), "120");
	servers_suspect(&s, &one, 4000);
	ck_assert_str_eq(turns(&s, 4001), "201");
	servers_trust(&s, &zero);
	ck_assert_str_eq(turns(&s, 4001), "021");
	ck_assert_str_eq(turns(&s, 4000 + SERVERS_BAD_MS - 1), "201");
	ck_assert_str_eq(turns(&s, 4000 + SERVERS_BAD_MS), "120");
}
END_TEST

START_TEST(who_is_left_after_a_long_silence_has_failed)
{
	struct servers s = {.n = 2};
	struct servers_turn t = {0};

	ck_assert(servers_next(&s, &t, 1000));
	ck_assert(!servers_leave(&s, &t, 1000 + SERVERS_ATTEMPT_MS));
	ck_assert_str_eq(turns(&s, 1000 + SERVERS_ATTEMPT_MS), "01");
	t.heard_ms++;
	ck_assert(!servers_leave(&s, &t, 1001 + SERVERS_ATTEMPT_MS));
	ck_assert_str_eq(turns(&s, 1000 + SERVERS_ATTEMPT_MS), "01");
	ck_assert(servers_leave(&s, &t, 1002 + SERVERS_ATTEMPT_MS));
	ck_assert_str_eq(turns(&s, 1000 + SERVERS_ATTEMPT_MS), "10");
}
END_TEST

/* ---- a watch that is a stream ---- */

#define PATIENCE_MS 1000
#define LINE_MAX_BYTES 100

/* The lines are numbers: a change's revision. 'x' = the stream fails, 'd' = the datastore is another. */
static struct store stream_store;
static struct store_watch *watch;
static char lines[256], text_of_end[512];
static int ended, n_asked, n_forgot;
static bool cancels; /* the watch, when told of a change */

static bool line(struct stream *s, const char *text, size_t len)
{
	auto_free char *copy = mem_strndup(text, len);
	struct err err = ERR_INIT;
	struct store_kv kv = {.key = copy, .rev = atoi(copy)};

	snprintf(lines + strlen(lines), sizeof(lines) - strlen(lines), "%s;", copy);
	if (*copy == 'x' || *copy == 'd') {
		stream_fail(
			s, err_set(&err, *copy == 'x' ? -EHOSTUNREACH : -ESTALE, "%s", copy), &err);
		return false;
	}
	stream_well(s);
	s->resume = kv.rev;
	return store_watch_event(&s->w, &kv);
}

static void ask(struct stream *s)
{
	(void)s;
	n_asked++;
}

static void forget(struct stream *s)
{
	(void)s;
	n_forgot++;
}

static void start(struct store_watch *w)
{
	static const struct stream_ops ops = {.patience_ms = PATIENCE_MS,
		.line_max = LINE_MAX_BYTES,
		.ask = ask,
		.forget = forget,
		.line = line};

	stream_start(container_of(w, struct stream, w), &ops);
}

static void on_event(void *arg, const struct store_kv *kv)
{
	(void)arg;
	(void)kv;
	if (cancels)
		store_watch_cancel(take_ptr(watch));
}

static void on_end(void *arg, int r, const struct err *err)
{
	(void)arg;
	watch = NULL;
	ended = r;
	snprintf(text_of_end, sizeof(text_of_end), "%s", err->text);
}

static void on_close(struct store *st)
{
	(void)st;
}

static struct stream *watch_start(void)
{
	static const struct store_ops ops = {.watch_size = sizeof(struct stream),
		.watch_start = start,
		.watch_stop = stream_stop,
		.close = on_close};

	store_init(&stream_store, &ops, NULL, mem_strdup("test"));
	watch = store_watch(&stream_store, "/p/", 7, on_event, on_end, NULL);
	ck_assert_int_eq(n_asked, 0);
	event_base_loop(stream_store.base, EVLOOP_ONCE);
	ck_assert_int_eq(n_asked, 1);
	return container_of(watch, struct stream, w);
}

START_TEST(lines_come_in_pieces)
{
	static const char text[] = "8\n\n10\n11\n12";
	struct stream *s = watch_start();

	for (size_t i = 0; i < strlen(text); i += (size_t)_i) {
		size_t n = strlen(text) - i;

		ck_assert(stream_data(s, text + i, n < (size_t)_i ? n : (size_t)_i));
	}
	ck_assert_str_eq(lines, "8;;10;11;");
	ck_assert_int_eq(s->resume, 11);
	store_close(&stream_store);
	ck_assert_int_eq(n_forgot, 1);
	ck_assert_int_eq(ended, 0);
}
END_TEST

START_TEST(a_watch_may_go_at_any_line)
{
	struct stream *s = watch_start();

	cancels = true;
	ck_assert(!stream_data(s, "8\n9\n", 4));
	ck_assert_str_eq(lines, "8;");
	ck_assert_int_eq(ended, 0);
	store_close(&stream_store);
}
END_TEST

START_TEST(what_is_not_the_connections_ends_it)
{
	ck_assert(!stream_data(watch_start(), "d\n9\n", 4));
	ck_assert_str_eq(lines, "d;");
	ck_assert_ptr_null(watch);
	ck_assert_int_eq(ended, -ESTALE);
	store_close(&stream_store);
}
END_TEST

START_TEST(a_line_is_of_bounded_length)
{
	static const char text[LINE_MAX_BYTES + 1];
	struct stream *s = watch_start();

	ck_assert(stream_data(s, text, LINE_MAX_BYTES));
	ck_assert(!stream_data(s, text, 1));
	ck_assert_ptr_nonnull(
		strstr(text_of_end, "datastore test: watching /p/: a line of more than 100 bytes"));
	store_close(&stream_store);
}
END_TEST

/* Until it is asked for anew; so long that took. */
static int64_t again(int n)
{
	int64_t now = clock_mono_ms();

	ck_assert_int_eq(n_asked, n - 1);
	while (n_asked < n)
		event_base_loop(stream_store.base, EVLOOP_ONCE);
	return clock_mono_ms() - now;
}

START_TEST(a_stream_begins_again_until_that_fails_for_too_long)
{
	struct stream *s = watch_start();
	int64_t failing;

	ck_assert(stream_data(s, "8\n9", 3)); /* that line's rest is of no other stream */
	ck_assert(stream_fail(s, -ETIMEDOUT, NULL));
	ck_assert_int_ge(again(2), 95);
	ck_assert(!stream_data(s, "x\n9\n", 4));
	ck_assert_int_ge(again(3), 195);
	ck_assert_int_eq(n_forgot, 2);
	/* one that was well: the waits begin anew */
	ck_assert(stream_data(s, "10\n", 3));
	ck_assert_str_eq(lines, "8;x;10;");
	ck_assert_uint_eq(s->failures, 0);
	failing = clock_mono_ms();
	for (int n = 4; watch; n++) {
		ck_assert_int_lt(n, 12);
		stream_data(s, "x\n", 2);
		if (watch)
			again(n);
	}
	ck_assert_int_ge(clock_mono_ms() - failing, PATIENCE_MS);
	ck_assert_int_eq(ended, -EHOSTUNREACH);
	store_close(&stream_store);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("driver");
	TCase *tc = tcase_create("driver");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, a_write_is_of_the_object_that_it_names, 0, array_size(objects));
	tcase_add_test(tc, each_server_is_asked_once);
	tcase_add_test(tc, who_failed_comes_last_for_a_while);
	tcase_add_test(tc, who_is_left_after_a_long_silence_has_failed);
	tcase_add_loop_test(tc, lines_come_in_pieces, 1, 13);
	tcase_add_test(tc, a_watch_may_go_at_any_line);
	tcase_add_test(tc, what_is_not_the_connections_ends_it);
	tcase_add_test(tc, a_line_is_of_bounded_length);
	tcase_add_test(tc, a_stream_begins_again_until_that_fails_for_too_long);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
