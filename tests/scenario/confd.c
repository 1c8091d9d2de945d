/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How BIRD is brought to run a configuration (confd/apply.h), with a BIRD of ours that refuses, dies
 * and does not start on demand, in the same event loop. Its configuration is "generation N" in
 * bird.conf; "bad" in that file is what it refuses.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "confd/apply.h"
#include "svc/loop.h"
#include "world.h"

#define STATE apply_state(w.apply)

static struct world {
	struct apply *apply;
	/* BIRD */
	int listener, conn;
	struct loop_fd *accepting, *reading;
	unsigned running;
	bool dies;	  /* at the next "reload" */
	unsigned dies_of; /* when it is to run this generation */
	bool slow;	  /* a configuration is in progress when it answers */
	bool forgets;	  /* what generation it was */
	bool busy;	  /* with a configuration: it answers nothing, and accepts nobody */
	unsigned n_checks, n_read; /* "configure check"s, and those that are none */
	struct strbuf reloads;	   /* "kernel1 kernel1 " */
} w;

/* ---- BIRD ---- */

static void bird_hang_up(void)
{
	loop_fd_free(take_ptr(w.reading));
	if (w.conn >= 0)
		close(take_fd(w.conn));
}

static void bird_die(void)
{
	bird_hang_up();
	loop_fd_free(take_ptr(w.accepting));
	if (w.listener >= 0)
		close(take_fd(w.listener));
	w.running = 0;
}

/* Of the file that a command names. */
static void bird_read(const char *command, bool check)
{
	auto_free char *path = mem_strdup(strchr(command, '"') + 1);
	auto_free char *text = NULL;
	const char *at;

	*strchr(path, '"') = '\0';
	ck_assert_int_eq(file_read(path, 1 << 20, &text, NULL, NULL), 0);
	w.n_checks += check;
	if (strstr(text, "bad")) {
		dprintf(w.conn, "8002 %s:1:1 bad\n", path);
		return;
	}
	at = strstr(text, "generation ");
	if (!check)
		w.running = at ? (unsigned)strtoul(at + strlen("generation "), NULL, 10) : 0;
	w.n_read += !check;
	if (!check && w.forgets)
		w.running = 0;
	if (!check && w.dies_of > 0 && w.running == w.dies_of)
		bird_die();
	else if (!check && w.busy)
		loop_fd_free(take_ptr(w.accepting));
	else if (!check && w.slow)
		dprintf(w.conn, "0004 Reconfiguration in progress\n");
	else
		dprintf(w.conn, check ? "0020 Configuration OK\n" : "0003 Reconfigured\n");
}

static void bird_hear(void *arg)
{
	char command[1100];
	ssize_t n = recv(w.conn, command, sizeof(command) - 1, 0);

	(void)arg;
	if (n <= 0) {
		bird_hang_up();
		return;
	}
	command[n] = '\0';
	command[strcspn(command, "\n")] = '\0';
	if (strcmp(command, "configure status") == 0) {
		dprintf(w.conn, "0003 Reconfiguration done\n");
	} else if (strncmp(command, "configure", strlen("configure")) == 0) {
		bird_read(command, strstr(command, "check") != NULL);
	} else if (strncmp(command, "eval ", strlen("eval ")) == 0) {
		dprintf(w.conn, "0023 %u\n", w.running);
	} else if (strncmp(command, "reload out ", strlen("reload out ")) == 0) {
		strbuf_addf(&w.reloads, "%s ", command + strlen("reload out "));
		if (w.dies)
			bird_die();
		else
			dprintf(w.conn, "0015-reloading\n0000 \n");
	} else {
		ck_abort_msg("BIRD does not know \"%s\"", command);
	}
}

static void bird_accept(void *arg)
{
	(void)arg;
	bird_hang_up();
	w.conn = accept(w.listener, NULL, NULL);
	ck_assert_int_ge(w.conn, 0);
	w.reading = loop_fd_new(world_base, w.conn, LOOP_READ, bird_hear, NULL);
	dprintf(w.conn, "0001 BIRD 2.0.12 ready.\n");
}

/* As BIRD does: the socket comes before the configuration is read. */
static void bird_bind(void)
{
	auto_free char *path = path_of("bird.ctl");
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	ck_assert_uint_lt(strlen(path), sizeof(sa.sun_path));
	strcpy(sa.sun_path, path);
	unlink(path);
	w.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(w.listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
	ck_assert_int_eq(listen(w.listener, 8), 0);
}

static void bird_listen(void)
{
	w.accepting = loop_fd_new(world_base, w.listener, LOOP_READ, bird_accept, NULL);
}

static void bird_start(void)
{
	auto_free char *top = read_text("bird.conf");

	bird_bind();
	ck_assert_ptr_null(strstr(top, "bad"));
	bird_listen();
	if (strstr(top, "generation "))
		w.running = (unsigned)strtoul(strstr(top, "generation ") + 11, NULL, 10);
}

/* ---- the world ---- */

static void on_bird_up(void *arg, const struct bird_version *v)
{
	(void)arg;
	(void)v;
}

static const struct apply_ops ops = {.bird_up = on_bird_up, .state = nothing};

static void confd_start(void)
{
	auto_free char *ctl = path_of("bird.ctl");

	w.apply = apply_new(world_base, ctl, world_dir, &ops, NULL);
}

static void confd_stop(void)
{
	apply_free(take_ptr(w.apply));
}

static void want(unsigned generation, const char *more)
{
	auto_free char *top = mem_printf("# Written by margay-confd\ninclude \"blocks.inc\";\n"
					 "include \"peers.inc\";\ngeneration %u%s\n",
		generation, more);
	auto_free char *blocks = mem_printf("blocks of %u\n", generation);
	auto_free char *peers = mem_printf("peers of %u\n", generation);
	const struct apply_file files[] = {{"blocks.inc", blocks, strlen(blocks)},
		{"peers.inc", peers, strlen(peers)}, {APPLY_TOP, top, strlen(top)}};

	apply_want(w.apply, files, array_size(files), generation);
}

static void setup(void)
{
	world_setup();
	w = (struct world){.listener = -1, .conn = -1};
}

static void teardown(void)
{
	confd_stop();
	bird_die();
	strbuf_done(&w.reloads);
	world_teardown();
}

START_TEST(a_refused_configuration_is_tried_again)
{
	confd_start();
	bird_start();
	want(1, "bad");
	EVENTUALLY(2000, *apply_n_refused(w.apply) == 1);
	/* BIRD's reason may have been a file that it could not read, a limit, anything. */
	EVENTUALLY(3000, *apply_n_refused(w.apply) == 2);
	ck_assert(!apply_is_done(w.apply));
	want(2, "");
	EVENTUALLY(500, apply_is_done(w.apply));
	ck_assert_uint_eq(w.running, 2);
}
END_TEST

START_TEST(files_that_cannot_be_swapped_are_not_tried_without_end)
{
	auto_free char *in_the_way = path_of("peers.inc/x");
	auto_free char *peers = path_of("peers.inc");

	confd_start();
	bird_start();
	want(1, "");
	EVENTUALLY(2000, apply_is_done(w.apply));
	remove_file("peers.inc");
	ck_assert_int_eq(mkdir(peers, 0700), 0);
	ck_assert_int_eq(mkdir(in_the_way, 0700), 0);
	want(2, "");
	w.n_checks = 0;
	run_for(500);
	ck_assert_uint_le(w.n_checks, 3);
	ck_assert(!apply_is_done(w.apply));
	ck_assert_int_eq(rmdir(in_the_way), 0);
	ck_assert_int_eq(rmdir(peers), 0);
	EVENTUALLY(5000, apply_is_done(w.apply));
	ck_assert_uint_eq(w.running, 2);
	ck_assert(file_is("peers.inc", "peers of 2"));
}
END_TEST

START_TEST(what_was_asked_while_bird_is_away_is_done_when_it_is_back)
{
	confd_start();
	run_for(30);
	apply_reload_out(w.apply, "kernel1", APPLY_AT_ONCE);
	apply_reload_out(w.apply, "kernel1", APPLY_AT_ONCE);
	bird_start();
	EVENTUALLY(2000, w.reloads.len > 0);
	run_for(50);
	ck_assert_str_eq(w.reloads.s, "kernel1 ");
	/* BIRD went before it answered: who knows what it has done. */
	w.dies = true;
	apply_reload_out(w.apply, "kernel1", APPLY_AT_ONCE);
	EVENTUALLY(1000, w.listener < 0);
	w.dies = false;
	strbuf_reset(&w.reloads);
	bird_start();
	EVENTUALLY(2000, w.reloads.len > 0);
	run_for(50);
	ck_assert_str_eq(w.reloads.s, "kernel1 ");
}
END_TEST

START_TEST(what_is_to_settle_waits_for_the_configuration)
{
	confd_start();
	apply_reload_out(w.apply, "peers", APPLY_SETTLED);
	bird_start();
	run_for(1200);
	ck_assert_uint_eq(w.reloads.len, 0);
	want(1, "");
	EVENTUALLY(1000, apply_is_done(w.apply));
	run_for(500);
	ck_assert_uint_eq(w.reloads.len, 0);
	bird_hang_up();
	EVENTUALLY(1000, apply_is_done(w.apply) && w.conn >= 0);
	EVENTUALLY(2000, w.reloads.len > 0);
	run_for(1200);
	ck_assert_str_eq(w.reloads.s, "peers ");
	/* Asked for again while nothing else is to do. */
	apply_reload_out(w.apply, "peers", APPLY_SETTLED);
	EVENTUALLY(2000, strcmp(w.reloads.s, "peers peers ") == 0);
}
END_TEST

/* BIRD binds its socket, reads, dies. */
static void bird_start_in_vain(void)
{
	bird_bind();
	run_for(5);
	close(take_fd(w.listener));
	run_for(30);
}

START_TEST(while_bird_is_away_its_files_are_as_it_ran_them)
{
	confd_start();
	bird_start();
	want(1, "");
	EVENTUALLY(2000, apply_is_done(w.apply));
	bird_die();
	/* Not this: no BIRD has said that it can read it. */
	want(2, "bad");
	run_for(30);
	remove_file("peers.inc");
	EVENTUALLY(500, file_is("peers.inc", "peers of 1"));
	write_text("bird.conf", "");
	EVENTUALLY(500, file_is("bird.conf", "generation 1"));
	write_text("bird.conf", "protocol device mine { }\n");
	EVENTUALLY(500, file_is("bird.conf", "generation 1"));
	ck_assert(file_is("bird.conf.before-margay", "mine"));
	/* Another one does not take its place, nor a third that of that. */
	write_text("bird.conf", "protocol device other { }\n");
	EVENTUALLY(500, file_is("bird.conf", "generation 1"));
	write_text("bird.conf", "protocol device mine { }\n");
	EVENTUALLY(500, file_is("bird.conf", "generation 1"));
	ck_assert(file_is("bird.conf.before-margay", "mine"));
	ck_assert(file_is("bird.conf.before-margay.1", "other"));
	ck_assert(file_is("bird.conf.before-margay.2", "(none)"));
	bird_start();
	want(3, "");
	EVENTUALLY(2000, apply_is_done(w.apply));
	ck_assert_uint_eq(w.running, 3);
}
END_TEST

START_TEST(what_bird_cannot_start_with_is_replaced_by_the_least)
{
	static const struct {
		const char *top;
		bool replaced;
	} cases[] = {
		{"", true},
		{"# Written by margay-confd\ninclude \"peers.inc\";\n", true},
		{"# Written by margay-confd\ninclude \"there.inc\";\n", false},
		{"protocol device mine { }\ninclude \"peers.inc\";\n", false},
	};

	write_text("there.inc", "");
	write_text("bird.conf", cases[_i].top);
	confd_start();
	run_for(30);
	ck_assert(file_is("bird.conf", "router id 0.0.0.1;") == cases[_i].replaced);
	/* And while it runs. */
	write_text("bird.conf", cases[_i].top);
	run_for(30);
	ck_assert(file_is("bird.conf", "router id 0.0.0.1;") == cases[_i].replaced);
}
END_TEST

START_TEST(a_bird_that_starts_in_vain_gets_the_least)
{
	write_text("bird.conf", "# Written by margay-confd\nbad\n");
	confd_start();
	run_for(30);
	bird_start_in_vain();
	bird_start_in_vain();
	ck_assert(file_is("bird.conf", "bad"));
	bird_start_in_vain();
	EVENTUALLY(500, file_is("bird.conf", "router id 0.0.0.1;"));
	ck_assert_ptr_nonnull(strstr(apply_state(w.apply), "3 times"));
	bird_start();
	want(1, "");
	EVENTUALLY(2000, apply_is_done(w.apply));
	/* Two starts in vain, for whatever reason, are none. */
	bird_die();
	run_for(30);
	bird_start_in_vain();
	bird_start_in_vain();
	ck_assert(file_is("bird.conf", "generation 1"));
	bird_start();
	EVENTUALLY(2000, apply_is_done(w.apply));
	/* Somebody else's is somebody else's to mend. */
	bird_die();
	confd_stop();
	write_text("bird.conf", "bad\n");
	confd_start();
	run_for(30);
	for (int i = 0; i < 4; i++)
		bird_start_in_vain();
	ck_assert(file_is("bird.conf", "bad"));
}
END_TEST

/* A file that goes after the check and before BIRD reads it is refused for what is right. */
START_TEST(the_first_attempt_after_a_failure_comes_soon)
{
	confd_start();
	bird_start();
	want(1, "bad");
	EVENTUALLY(2000, *apply_n_refused(w.apply) == 1);
	EVENTUALLY(400, *apply_n_refused(w.apply) == 2);
	run_for(300);
	ck_assert_uint_eq(*apply_n_refused(w.apply), 2);
}
END_TEST

START_TEST(what_bird_dies_of_is_tried_ever_more_rarely)
{
	int64_t until;

	confd_start();
	bird_start();
	want(1, "");
	EVENTUALLY(2000, apply_is_done(w.apply));
	w.dies_of = 2;
	w.n_read = 0;
	want(2, "");
	until = clock_mono_ms() + 2000;
	while (clock_mono_ms() < until) {
		if (w.listener < 0 && file_is("bird.conf", "generation 1"))
			bird_start();
		run_for(2);
	}
	/* At 0, 200, 600, 1400 ms and later. */
	ck_assert_uint_ge(w.n_read, 2);
	ck_assert_uint_le(w.n_read, 4);
	want(3, "");
	if (w.listener < 0)
		bird_start();
	EVENTUALLY(2000, apply_is_done(w.apply));
	ck_assert_uint_eq(w.running, 3);
}
END_TEST

/* BIRD answers when its other work lets it, and has one thread. */
START_TEST(what_a_bird_loads_that_does_not_answer_stays_in_place)
{
	confd_start();
	bird_start();
	want(1, "");
	EVENTUALLY(2000, apply_is_done(w.apply));
	w.busy = true;
	want(2, "");
	EVENTUALLY(2000, !w.accepting);
	EVENTUALLY(BIRD_TIMEOUT_MS + 2000, !apply_bird(w.apply));
	run_for(100);
	ck_assert(file_is("bird.conf", "generation 2"));
	ck_assert(file_is("peers.inc", "peers of 2"));
	w.busy = false;
	bird_listen();
	EVENTUALLY(2000, apply_is_done(w.apply));
	ck_assert_uint_eq(w.running, 2);
}
END_TEST

START_TEST(a_failure_is_logged_once)
{
	uint64_t before;

	confd_start();
	bird_start();
	w.slow = true;
	w.forgets = true;
	before = log_error_count();
	want(1, "");
	EVENTUALLY(2000, w.n_read >= 3);
	EVENTUALLY(500, strstr(apply_state(w.apply), "does not run it") != NULL);
	ck_assert_uint_eq(log_error_count() - before, 1);
	w.forgets = false;
	EVENTUALLY(5000, apply_is_done(w.apply));
	w.forgets = true;
	want(2, "");
	EVENTUALLY(2000, strstr(apply_state(w.apply), "does not run it") != NULL);
	ck_assert_uint_eq(log_error_count() - before, 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("confd");
	TCase *tc = tcase_create("apply");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_refused_configuration_is_tried_again);
	tcase_add_test(tc, files_that_cannot_be_swapped_are_not_tried_without_end);
	tcase_add_test(tc, what_was_asked_while_bird_is_away_is_done_when_it_is_back);
	tcase_add_test(tc, what_is_to_settle_waits_for_the_configuration);
	tcase_add_test(tc, while_bird_is_away_its_files_are_as_it_ran_them);
	tcase_add_loop_test(tc, what_bird_cannot_start_with_is_replaced_by_the_least, 0, 4);
	tcase_add_test(tc, a_bird_that_starts_in_vain_gets_the_least);
	tcase_add_test(tc, the_first_attempt_after_a_failure_comes_soon);
	tcase_add_test(tc, what_bird_dies_of_is_tried_ever_more_rarely);
	tcase_add_test(tc, what_a_bird_loads_that_does_not_answer_stays_in_place);
	tcase_add_test(tc, a_failure_is_logged_once);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
