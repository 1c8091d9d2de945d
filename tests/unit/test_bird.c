/* SPDX-License-Identifier: GPL-2.0-or-later */
/* BIRD's control socket: the parser over whole and torn replies, and both clients with a BIRD of ours. */
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "svc/bird.h"
#include "svc/loop.h"
#include "unit/test_dir.h"

static const char PROTOCOLS[] =
	"2002-Name       Proto      Table      State  Since         Info\n"
	"1002-device1    Device     ---        up     2026-11-24 00:07:57.367  \n"
	" pipe1      Pipe       ---        up     2026-11-24 00:07:57.367  master4 <=> t_nodes\n"
	"+bird: a line of the log\n"
	" Mesh_10_130_29_81 BGP        ---        start  00:07:57.367  Active        Socket: Connection "
	"refused\n"
	"0000 \n";

/* The reply at the beginning of text, fed in pieces of step bytes. */
static int parse(const char *text, size_t step, struct bird_reply *ret, struct err *err)
{
	struct bird_parser p = BIRD_PARSER_INIT;
	size_t n = strlen(text), used;
	int r = 0;

	for (size_t at = 0; at < n && r == 0; at += used) {
		r = bird_parser_feed(&p, text + at, n - at < step ? n - at : step, &used, ret, err);
		if (r == 0)
			ck_assert_uint_gt(used, 0);
	}
	bird_parser_done(&p);
	return r;
}

START_TEST(torn_replies)
{
	struct bird_reply r;
	struct bird_protocols ps;
	const struct bird_protocol *p;

	ck_assert_int_eq(parse(PROTOCOLS, (size_t)_i + 1, &r, NULL), 1);
	ck_assert_uint_eq(r.n, 5);
	ck_assert_int_eq(r.lines[2].code, 1002);
	ck_assert_int_eq(r.lines[4].code, 0);
	ck_assert_int_eq(bird_protocols_parse(&r, &ps, NULL), 0);
	bird_reply_done(&r);
	ck_assert_uint_eq(ps.n, 3);
	p = bird_protocols_find(&ps, "Mesh_10_130_29_81");
	ck_assert_ptr_nonnull(p);
	ck_assert_str_eq(p->proto, "BGP");
	ck_assert_str_eq(p->state, "start");
	ck_assert_str_eq(p->since, "00:07:57.367");
	ck_assert_str_eq(p->info, "Active        Socket: Connection refused");
	ck_assert_str_eq(ps.v[0].since, "2026-11-24 00:07:57.367");
	ck_assert_str_eq(ps.v[0].info, "");
	ck_assert_str_eq(ps.v[1].info, "master4 <=> t_nodes");
	ck_assert_ptr_null(bird_protocols_find(&ps, "Mesh"));
	bird_protocols_done(&ps);
}
END_TEST

START_TEST(not_bird)
{
	static const char *const bad[] = {
		" text first\n", "text\n", "00000text\n", "0001\n", "0001-a\nb\n", "\n"};
	struct bird_reply r;
	struct err err = ERR_INIT;
	struct strbuf many = STRBUF_INIT;

	for (size_t i = 0; i < array_size(bad); i++) {
		ck_assert_msg(parse(bad[i], 64, &r, &err) == -EPROTO, "%s", bad[i]);
		ck_assert_ptr_nonnull(strstr(err_text(&err), "BIRD"));
	}
	for (int i = 0; i <= BIRD_LINE_MAX; i++)
		strbuf_addc(&many, 'x');
	ck_assert_int_eq(parse(many.s, 64, &r, &err), -EPROTO);
	strbuf_done(&many);
}
END_TEST

START_TEST(configure)
{
	static const struct {
		const char *reply;
		int r;
		const char *text;
	} t[] = {
		{"0002-Reading configuration from /x\n0003 Reconfigured\n", 0, NULL},
		{"0002-Reading\n0020 Configuration OK\n", 0, NULL},
		{"0002-Reading\n0004 Reconfiguration in progress\n", 1, NULL},
		{"0002-Reading\n0005 Reconfiguration already in progress, queueing new config\n", 1,
			NULL},
		{"0002-Reading\n8002 /x:3:4 syntax error\n", -EINVAL, "/x:3:4 syntax error"},
		{"0004-Reconfiguration in progress\n0000 \n", 1, NULL},
		{"0013 What\n", -EINVAL, "BIRD answered \"What\" (0013) to configure"},
	};

	for (size_t i = 0; i < array_size(t); i++) {
		struct bird_reply r;
		struct err err = ERR_INIT;

		ck_assert_int_eq(parse(t[i].reply, 7, &r, NULL), 1);
		ck_assert_int_eq(bird_configure_result(&r, &err), t[i].r);
		if (t[i].text)
			ck_assert_str_eq(err_text(&err), t[i].text);
		bird_reply_done(&r);
	}
}
END_TEST

START_TEST(commands)
{
	struct strbuf s = STRBUF_INIT;
	struct bird_version v2, v3;
	struct err err = ERR_INIT;

	ck_assert_int_eq(bird_version_parse("BIRD 2.0.12 ready.", &v2, NULL), 0);
	ck_assert_int_eq(bird_version_parse("BIRD 3.2 ready.", &v3, NULL), 0);
	ck_assert_int_eq(bird_version_parse("v0.3.3+birdv1.6.8", &v2, NULL), -EINVAL);
	ck_assert_int_lt(bird_version_compare(&v2, 2, 14), 0);
	ck_assert_int_gt(bird_version_compare(&v3, 2, 14), 0);
	bird_cmd_reload_out(&s, &v2, "kernel1");
	ck_assert_str_eq(strbuf_str(&s), "reload out kernel1");
	strbuf_reset(&s);
	bird_cmd_reload_out(&s, &v3, "kernel1");
	ck_assert_str_eq(strbuf_str(&s), "reload filters out kernel1");
	strbuf_reset(&s);
	ck_assert_int_eq(bird_cmd_configure(&s, true, "/etc/bird/x y.conf", NULL), 0);
	ck_assert_str_eq(strbuf_str(&s), "configure check \"/etc/bird/x y.conf\"");
	ck_assert_int_eq(bird_cmd_configure(&s, false, "/etc/\"; down", &err), -EINVAL);
	strbuf_done(&s);
}
END_TEST

/* ---- a BIRD that answers what it was asked ---- */

static const char *dir;
static char path[64];

static int listen_on(const char *p)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(sa.sun_path, p);
	unlink(p);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	return fd;
}

/* Serves n commands, each answered in two pieces, then goes. */
static pid_t fake_bird(int fd, int n)
{
	pid_t pid = fork();

	if (pid == 0) {
		int c = accept(fd, NULL, NULL);
		char buf[1024];
		ssize_t got = 0;

		dprintf(c, "0001 BIRD 2.0.12 ready.\n");
		for (int i = 0; i < n && (got = read(c, buf, sizeof(buf) - 1)) > 0; i++) {
			buf[got - 1] = '\0';
			dprintf(c, "1000-you s");
			dprintf(c, "aid %s\n0000 \n", buf);
		}
		_exit(0);
	}
	close(fd);
	return pid;
}

static void setup(void)
{
	dir = test_dir();
	snprintf(path, sizeof(path), "%s/run/b.ctl", dir);
}

static void make_dir(void)
{
	char sub[64];

	snprintf(sub, sizeof(sub), "%s/run", dir);
	ck_assert_int_eq(mkdir(sub, 0700), 0);
}

START_TEST(waiting_calls)
{
	struct bird *b = NULL;
	struct bird_reply r;
	struct err err = ERR_INIT;
	int64_t deadline = clock_mono_ms() + 5000;
	pid_t pid;

	ck_assert_int_eq(bird_open(path, deadline, &b, &err), -EHOSTUNREACH);
	ck_assert_ptr_nonnull(strstr(err_text(&err), path));
	make_dir();
	pid = fake_bird(listen_on(path), 1);
	ck_assert_int_eq(bird_open(path, deadline, &b, &err), 0);
	ck_assert_uint_eq(bird_version(b)->major, 2);
	ck_assert_int_eq(bird_call(b, "show status", deadline, &r, &err), 0);
	ck_assert_str_eq(bird_reply_text(&r, 1000), "you said show status");
	bird_reply_done(&r);
	ck_assert_int_lt(bird_call(b, "show status", deadline, &r, &err), 0);
	bird_close(b);
	waitpid(pid, NULL, 0);
}
END_TEST

struct seen {
	struct event_base *base;
	struct bird_client *client;
	pid_t pid;
	int n_up, n_down, n_answers, n_failed;
	struct loop_timer *timer;
};

static void done(void *arg, const struct bird_reply *reply, const struct err *err)
{
	struct seen *s = arg;

	if (reply) {
		ck_assert_str_eq(bird_reply_text(reply, 1000),
			s->n_answers % 2 ? "you said show protocols" : "you said show status");
		s->n_answers++;
	} else {
		ck_assert_int_eq(err->code, -EHOSTUNREACH);
		s->n_failed++;
	}
}

static void up(void *arg, const struct bird_version *v)
{
	struct seen *s = arg;

	ck_assert_uint_eq(v->patch, 12);
	s->n_up++;
	bird_client_call(s->client, "show status", done, s);
	bird_client_call(s->client, "show protocols", done, s);
	bird_client_call(s->client, "show status", done, s);
}

/* The directory and then the socket come after the first attempt; BIRD goes while a call waits. */
static void down(void *arg, const struct err *err)
{
	struct seen *s = arg;

	ck_assert_str_ne(err_text(err), "");
	s->n_down++;
	if (s->n_down == 1) {
		bird_client_call(s->client, "show status", done, s);
		loop_timer_set(s->timer, 30);
	} else if (s->n_down == 2) {
		waitpid(s->pid, NULL, 0);
		s->pid = fake_bird(listen_on(path), 2);
	} else {
		event_base_loopbreak(s->base);
	}
}

static void later(void *arg)
{
	struct seen *s = arg;

	make_dir();
	s->pid = fake_bird(listen_on(path), 2);
}

START_TEST(client_finds_bird_again)
{
	static const struct bird_client_ops ops = {.up = up, .down = down};
	struct seen s = {.base = loop_base_new()};

	s.timer = loop_timer_new(s.base, later, &s);
	s.client = bird_client_new(s.base, path, &ops, &s);
	event_base_dispatch(s.base);
	ck_assert_int_eq(s.n_up, 2);
	ck_assert_int_eq(s.n_down, 3);
	ck_assert_int_eq(s.n_answers, 4);
	ck_assert_int_eq(s.n_failed, 3); /* one before, and the third of each connection */
	ck_assert(!bird_client_is_up(s.client));
	waitpid(s.pid, NULL, 0);
	bird_client_free(s.client);
	loop_timer_free(s.timer);
	event_base_free(s.base);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("bird");
	TCase *pure = tcase_create("parser"), *sock = tcase_create("client");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_loop_test(pure, torn_replies, 0, 64);
	tcase_add_test(pure, not_bird);
	tcase_add_test(pure, configure);
	tcase_add_test(pure, commands);
	suite_add_tcase(s, pure);
	tcase_add_checked_fixture(sock, setup, NULL);
	tcase_add_test(sock, waiting_calls);
	tcase_add_test(sock, client_finds_bird_again);
	suite_add_tcase(s, sock);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
