/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The generic renderer (confd/render.h) over restarts and clocks, with a reader that counts signals. */
#include <check.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "confd/render.h"
#include "confd/templates.h"
#include "world.h"

#define STATE renderer_state(w.renderer)

static struct world {
	struct templates *templates;
	struct renderer *renderer;
	pid_t reader;
	int told; /* a byte for each signal */
	unsigned n_told;
} w;

/* ---- the reader ---- */

static int told_to;

static void on_signal(int signal)
{
	(void)signal;
	(void)!write(told_to, "x", 1);
}

/* Under this name; its number is in reader.pid. */
static void reader_start(const char *name)
{
	int fds[2];
	char ready;

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	w.reader = fork();
	if (w.reader == 0) {
		close(fds[0]);
		told_to = fds[1];
		prctl(PR_SET_NAME, name);
		signal(SIGHUP, on_signal);
		(void)!write(told_to, "!", 1);
		for (;;)
			pause();
	}
	close(fds[1]);
	ck_assert_int_eq(read(fds[0], &ready, 1), 1);
	w.told = fds[0];
	ck_assert_int_eq(fcntl(w.told, F_SETFL, O_NONBLOCK), 0);
	{
		auto_free char *pid = mem_printf("%d\n", w.reader);

		write_text("reader.pid", pid);
	}
}

static unsigned n_told(void)
{
	char buf[64];
	ssize_t n;

	while ((n = read(w.told, buf, sizeof(buf))) > 0)
		w.n_told += (unsigned)n;
	return w.n_told;
}

/* ---- the world ---- */

static void renderer_stop(void)
{
	renderer_free(take_ptr(w.renderer));
}

static void renderer_start(void)
{
	auto_free char *path = path_of("zones.conf");
	struct err err = ERR_INIT;
	int r = renderer_new(world_base, w.templates, path, nothing, NULL, &w.renderer, &err);

	ck_assert_msg(r == 0, "%s", err_text(&err));
}

/* A file for each name, with this text in it. */
static void show(const char *text, const char *const *names, size_t n)
{
	json_t *view = json_pack("{s:s, s:[]}", "text", text, "zones");

	for (size_t i = 0; i < n; i++)
		json_array_append_new(
			json_object_get(view, "zones"), json_pack("{s:s}", "name", names[i]));
	renderer_set(w.renderer, view);
	json_decref(view);
}

static void show_one(const char *text)
{
	static const char *const names[] = {"a."};

	show(text, names, 1);
}

static void setup(void)
{
	auto_free char *conf = NULL;

	world_setup();
	conf = mem_printf("view = dns\ntemplate = zone\neach = zones\ndestination = %s/{name}zone\n"
			  "reload_pid_file = %s/reader.pid\n",
		world_dir, world_dir);
	write_text("zones.conf", conf);
	write_text("zone.mustache", "; {{content}}\nserial {{serial}}\n{{name}} {{text}}\n");
	w = (struct world){.told = -1};
	w.templates = templates_new(&world_dir, 1);
}

static void teardown(void)
{
	renderer_stop();
	templates_free(w.templates);
	if (w.reader > 0) {
		kill(w.reader, SIGKILL);
		waitpid(w.reader, NULL, 0);
		close(w.told);
	}
	world_teardown();
}

START_TEST(the_reader_is_told_at_each_start)
{
	reader_start("reader");
	renderer_start();
	show_one("one");
	EVENTUALLY(2000, renderer_is_done(w.renderer));
	EVENTUALLY(500, n_told() == 1);
	/* The one before may have been killed when it had written the file. */
	renderer_stop();
	renderer_start();
	show_one("one");
	EVENTUALLY(2000, renderer_is_done(w.renderer));
	EVENTUALLY(500, n_told() == 2);
}
END_TEST

START_TEST(the_clock_says_nothing_of_whose_file_it_is)
{
	const struct timespec old[] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	auto_free char *pid_file = path_of("reader.pid");

	reader_start("reader-of-zones");
	ck_assert_int_eq(utimensat(AT_FDCWD, pid_file, old, 0), 0);
	renderer_start();
	show_one("one");
	EVENTUALLY(2000, renderer_is_done(w.renderer));
	EVENTUALLY(500, n_told() == 1);
}
END_TEST

START_TEST(another_process_is_not_told_and_that_is_no_success)
{
	reader_start("other");
	renderer_start();
	show_one("one");
	EVENTUALLY(2000, strstr(renderer_state(w.renderer), "is \"other\"") != NULL);
	ck_assert(!renderer_is_done(w.renderer));
	ck_assert(file_is("a.zone", "a. one"));
	ck_assert_uint_eq(n_told(), 0);
	/* Unless it is said so. */
	renderer_stop();
	{
		auto_free char *conf = read_text("zones.conf");
		auto_free char *more = mem_printf("%sreload_process = other\n", conf);

		write_text("zones.conf", more);
	}
	renderer_start();
	show_one("one");
	EVENTUALLY(2000, renderer_is_done(w.renderer));
	EVENTUALLY(500, n_told() == 1);
}
END_TEST

START_TEST(a_reader_that_does_not_run_reads_when_it_starts)
{
	renderer_start();
	show_one("one");
	EVENTUALLY(2000, renderer_is_done(w.renderer));
	renderer_stop();
	reader_start("reader");
	kill(w.reader, SIGKILL);
	waitpid(w.reader, NULL, 0);
	w.reader = 0;
	close(w.told);
	renderer_start();
	show_one("one");
	EVENTUALLY(2000, renderer_is_done(w.renderer));
}
END_TEST

static uint32_t serial(const char *name)
{
	auto_free char *text = read_text(name);
	const char *at = strstr(text, "serial ");

	return at ? (uint32_t)strtoul(at + strlen("serial "), NULL, 10) : 0;
}

START_TEST(serials_grow_whatever_the_clock_says)
{
	auto_free char *text = NULL;
	uint32_t now = (uint32_t)(clock_real_ns() / 1000000000), far = now + 1000000;

	renderer_start();
	show_one("one");
	EVENTUALLY(2000, renderer_is_done(w.renderer));
	ck_assert_uint_ge(serial("a.zone"), now);
	/* As if it had been written by a clock that was set back since. */
	text = mem_printf("; zones.conf:0123456789abcdef/%u\nserial %u\na. one\n", far, far);
	renderer_stop();
	write_text("a.zone", text);
	renderer_start();
	show_one("two");
	EVENTUALLY(2000, renderer_is_done(w.renderer));
	ck_assert(file_is("a.zone", "a. two"));
	ck_assert_uint_eq(serial("a.zone"), far + 1);
	renderer_stop();
	renderer_start();
	show_one("two");
	EVENTUALLY(2000, renderer_is_done(w.renderer));
	ck_assert_uint_eq(serial("a.zone"), far + 1);
}
END_TEST

START_TEST(files_of_earlier_runs_go_when_nobody_wants_them)
{
	static const char *const both[] = {"a.", "b."};

	renderer_start();
	show("one", both, 2);
	EVENTUALLY(2000, renderer_is_done(w.renderer));
	ck_assert(file_is("b.zone", "b. one"));
	renderer_stop();
	/* Not ours: without a mark, and of another configuration. */
	write_text("mine.zone", "by hand\n");
	write_text("other.zone", "; other.conf:0123456789abcdef/1\n");
	write_text("torn.zone", "; zones.conf:0123456789abcde\n");
	renderer_start();
	show_one("one");
	EVENTUALLY(2000, renderer_is_done(w.renderer));
	ck_assert(file_is("a.zone", "a. one"));
	ck_assert(file_is("b.zone", "(none)"));
	ck_assert(file_is("mine.zone", "by hand"));
	ck_assert(file_is("other.zone", "other.conf"));
	ck_assert(file_is("torn.zone", "zones.conf"));
}
END_TEST

START_TEST(a_file_that_fails_keeps_no_other_that_nobody_wants)
{
	static const char *const all[] = {"a.", "b.", "c."}, *const nameless[] = {"a.", ""};
	auto_free char *conf = read_text("zones.conf");
	auto_free char *more = mem_printf("%scheck = /bin/sh %s/check {}\n", conf, world_dir);

	write_text("zones.conf", more);
	write_text("check", "true\n");
	renderer_start();
	show("one", all, 3);
	EVENTUALLY(2000, renderer_is_done(w.renderer));
	ck_assert(file_is("c.zone", "c. one"));
	write_text("check", "case $1 in */b.zone*) exit 1; esac\n");
	show("two", all, 2);
	EVENTUALLY(3000, strstr(STATE, "b.zone is refused") != NULL);
	EVENTUALLY(500, file_is("c.zone", "(none)"));
	ck_assert(file_is("a.zone", "a. two"));
	ck_assert(file_is("b.zone", "b. one"));
	/* Any of them may be the one that has no name. */
	write_text("check", "true\n");
	show("three", nameless, 2);
	EVENTUALLY(3000, strstr(STATE, "has no `name`") != NULL);
	EVENTUALLY(500, file_is("a.zone", "a. three"));
	run_for(50);
	ck_assert(file_is("b.zone", "b. one"));
}
END_TEST

START_TEST(what_others_change_is_put_back)
{
	auto_free char *text = NULL;
	uint32_t first;

	reader_start("reader");
	renderer_start();
	show_one("one");
	EVENTUALLY(2000, renderer_is_done(w.renderer) && n_told() == 1);
	first = serial("a.zone");
	/* With the mark that it had. */
	text = read_text("a.zone");
	strstr(text, " one")[1] = 'O';
	write_text("a.zone", text);
	EVENTUALLY(2500, file_is("a.zone", "a. one") && n_told() == 2);
	ck_assert_uint_gt(serial("a.zone"), first);
	remove_file("a.zone");
	EVENTUALLY(2500, file_is("a.zone", "a. one") && n_told() == 3);
	/* While nobody looks. */
	renderer_stop();
	write_text("a.zone", text);
	renderer_start();
	show_one("one");
	EVENTUALLY(2500, file_is("a.zone", "a. one") && renderer_is_done(w.renderer));
}
END_TEST

START_TEST(who_insists_is_answered_once_a_second)
{
	reader_start("reader");
	renderer_start();
	show_one("one");
	EVENTUALLY(2000, renderer_is_done(w.renderer) && n_told() == 1);
	for (unsigned i = 0; i < 250; i++) {
		write_text("a.zone", "by hand\n");
		run_for(10);
	}
	ck_assert_uint_ge(n_told(), 2);
	ck_assert_uint_le(n_told(), 5);
	EVENTUALLY(2500, file_is("a.zone", "a. one"));
}
END_TEST

START_TEST(a_refused_file_is_not_checked_again_for_our_own_writes)
{
	auto_free char *conf = read_text("zones.conf");
	auto_free char *more = mem_printf("%scheck = /bin/sh %s/check {}\n", conf, world_dir);
	auto_free char *check = mem_printf("echo -n x >>%s/checked; exit 1\n", world_dir);

	write_text("zones.conf", more);
	write_text("check", check);
	renderer_start();
	show_one("one");
	EVENTUALLY(2000, strstr(STATE, "a.zone is refused") != NULL);
	run_for(2500);
	ck_assert(file_is("checked", "x"));
	ck_assert(!file_is("checked", "xx"));
}
END_TEST

static void show_view(json_t *view)
{
	renderer_set(w.renderer, view);
	json_decref(view);
}

/* Nor beside one that cannot be rendered: the attempts are 5 s apart, and more. */
START_TEST(a_file_that_cannot_be_rendered_hurries_no_other)
{
	auto_free char *conf = read_text("zones.conf");
	auto_free char *more = mem_printf("%scheck = /bin/sh %s/check {}\n", conf, world_dir);
	auto_free char *check = mem_printf("echo -n x >>%s/checked; exit 1\n", world_dir);

	write_text("zone.mustache", "; {{content}}\nserial {{serial}}\n{{name}} {{text}}\n");
	renderer_start();
	show_view(json_pack("{s:[{s:s, s:s}]}", "zones", "name", "a.", "text", "one"));
	EVENTUALLY(2000, file_is("a.zone", "a. one"));
	renderer_stop();
	write_text("zones.conf", more);
	write_text("check", check);
	renderer_start();
	show_view(json_pack(
		"{s:[{s:s}, {s:s, s:s}]}", "zones", "name", "a.", "name", "b.", "text", "two"));
	EVENTUALLY(2000, file_is("checked", "x"));
	run_for(3500);
	ck_assert(!file_is("checked", "xx"));
	ck_assert(file_is("a.zone", "a. one"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("render");
	TCase *tc = tcase_create("render");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, the_reader_is_told_at_each_start);
	tcase_add_test(tc, the_clock_says_nothing_of_whose_file_it_is);
	tcase_add_test(tc, another_process_is_not_told_and_that_is_no_success);
	tcase_add_test(tc, a_reader_that_does_not_run_reads_when_it_starts);
	tcase_add_test(tc, serials_grow_whatever_the_clock_says);
	tcase_add_test(tc, files_of_earlier_runs_go_when_nobody_wants_them);
	tcase_add_test(tc, a_file_that_fails_keeps_no_other_that_nobody_wants);
	tcase_add_test(tc, what_others_change_is_put_back);
	tcase_add_test(tc, who_insists_is_answered_once_a_second);
	tcase_add_test(tc, a_refused_file_is_not_checked_again_for_our_own_writes);
	tcase_add_test(tc, a_file_that_cannot_be_rendered_hurries_no_other);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
