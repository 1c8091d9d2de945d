/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The HTTP client against libevent's server, and against sockets that misbehave, on one loop. */
#include "svc/httpc.h"

#include <arpa/inet.h>
#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/strbuf.h"

static struct event_base *base;
static struct evhttp *server;
static struct httpc *client;
static unsigned port, peer_port;
static int n_requests, n_connections, n_alive, n_frozen;
static struct evhttp_request *open_reqs[8];
static size_t n_open;

struct got {
	int calls, r, status;
	int64_t retry_after_s;
	bool sent, stop;
	struct strbuf data, body;
	char why[ERR_TEXT_MAX];
	struct httpc_op *op;
};

static void echo(struct evhttp_request *req, void *arg)
{
	struct evbuffer *out = evhttp_request_get_output_buffer(req);
	unsigned from = ntohs(((const struct sockaddr_in *)(const void *)evhttp_connection_get_addr(
				       evhttp_request_get_connection(req)))
				      ->sin_port);

	(void)arg;
	n_requests++;
	n_connections += from != peer_port;
	peer_port = from;
	evbuffer_add_printf(out, "%s ",
		evhttp_find_header(evhttp_request_get_input_headers(req), "X-Test") ?: "-");
	evbuffer_add_buffer(out, evhttp_request_get_input_buffer(req));
	evhttp_send_reply(req, 200, "OK", out);
}

static void refuse(struct evhttp_request *req, void *arg)
{
	(void)arg;
	evhttp_send_error(req, 403, "no");
}

static void busy(struct evhttp_request *req, void *arg)
{
	(void)arg;
	evhttp_add_header(evhttp_request_get_output_headers(req), "Retry-After", "7");
	evhttp_send_reply(req, 429, "Busy", NULL);
}

static void alive(struct evhttp_request *req, void *arg)
{
	(void)arg;
	n_alive++;
	evhttp_send_error(req, 403, "no");
}

static void freeze(struct evhttp_request *req, void *arg)
{
	(void)arg;
	n_frozen++;
	open_reqs[n_open++] = req;
}

static void stream(struct evhttp_request *req, void *arg)
{
	struct evbuffer *buf = evbuffer_new();

	(void)arg;
	evhttp_send_reply_start(req, 200, "OK");
	evbuffer_add_printf(buf, "one\n");
	evhttp_send_reply_chunk(req, buf);
	evbuffer_add_printf(buf, "two\n");
	evhttp_send_reply_chunk(req, buf);
	evbuffer_free(buf);
	open_reqs[n_open++] = req;
}

static void stream_end(struct evhttp_request *req, void *arg)
{
	stream(req, arg);
	evhttp_send_reply_end(open_reqs[--n_open]);
}

static void setup(void)
{
	struct sockaddr_in sin;
	socklen_t n = sizeof(sin);
	struct evhttp_bound_socket *s;
	struct err err = ERR_INIT;

	base = event_base_new();
	server = evhttp_new(base);
	s = evhttp_bind_socket_with_handle(server, "127.0.0.1", 0);
	ck_assert_ptr_nonnull(s);
	getsockname(evhttp_bound_socket_get_fd(s), (struct sockaddr *)&sin, &n);
	port = ntohs(sin.sin_port);
	evhttp_set_cb(server, "/echo", echo, NULL);
	evhttp_set_cb(server, "/no", refuse, NULL);
	evhttp_set_cb(server, "/busy", busy, NULL);
	evhttp_set_cb(server, "/stream", stream, NULL);
	evhttp_set_cb(server, "/end", stream_end, NULL);
	evhttp_set_cb(server, "/alive", alive, NULL);
	evhttp_set_cb(server, "/frozen", freeze, NULL);
	ck_assert_msg(httpc_new(base, 0, &client, &err) == 0, "%s", err.text);
}

static void teardown(void)
{
	httpc_free(client);
	for (int i = 0; i < 20; i++) /* the server sees that its peers are gone */
		event_base_loop(base, EVLOOP_NONBLOCK);
	while (n_open > 0)
		evhttp_send_reply_end(open_reqs[--n_open]);
	evhttp_free(server);
	event_base_free(base);
}

static void on_done(void *arg, const struct httpc_res *res)
{
	struct got *g = arg;

	g->calls++;
	g->r = res->r;
	g->status = res->status;
	g->sent = res->sent;
	g->retry_after_s = res->retry_after_s;
	strbuf_addn(&g->body, res->body, res->len);
	snprintf(g->why, sizeof(g->why), "%s", res->err ? res->err->text : "");
}

static bool on_data(void *arg, const char *data, size_t len)
{
	struct got *g = arg;

	strbuf_addn(&g->data, data, len);
	return !g->stop;
}

static void run(struct got *g, const char *path, struct httpc_req req)
{
	auto_free char *url = mem_printf("http://127.0.0.1:%u%s", port, path);

	g->calls = 0;
	strbuf_reset(&g->body);
	strbuf_reset(&g->data);
	if (!req.url)
		req.url = url;
	req.len = req.body ? strlen(req.body) : 0;
	req.max_bytes = req.max_bytes ?: 1000;
	req.done = on_done;
	req.arg = g;
	g->op = httpc_start(client, &req);
	ck_assert_int_eq(g->calls, 0);
}

static void wait_done(const struct got *g)
{
	while (!g->calls)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_int_eq(g->calls, 1);
}

static void got_done(struct got *g)
{
	strbuf_done(&g->data);
	strbuf_done(&g->body);
}

START_TEST(requests_share_a_connection)
{
	const char *const headers[] = {"X-Test: yes", NULL};
	struct got g = {0};

	n_connections = n_requests = 0;
	for (int i = 0; i < 3; i++) {
		run(&g, "/echo", (struct httpc_req){.headers = headers, .body = "text"});
		wait_done(&g);
		ck_assert_int_eq(g.r, 0);
		ck_assert_int_eq(g.status, 200);
		ck_assert_str_eq(strbuf_str(&g.body), "yes text");
	}
	ck_assert_int_eq(n_requests, 3);
	ck_assert_int_eq(n_connections, 1);
	run(&g, "/echo", (struct httpc_req){0});
	wait_done(&g);
	ck_assert_str_eq(strbuf_str(&g.body), "- ");
	run(&g, "/no", (struct httpc_req){.on_data = on_data});
	wait_done(&g);
	ck_assert_int_eq(g.r, 0);
	ck_assert_int_eq(g.status, 403);
	ck_assert_uint_eq(g.data.len, 0);
	ck_assert_uint_gt(g.body.len, 0);
	ck_assert_int_eq(g.retry_after_s, 0);
	run(&g, "/busy", (struct httpc_req){0});
	wait_done(&g);
	ck_assert_int_eq(g.status, 429);
	ck_assert_int_eq(g.retry_after_s, 7);
	got_done(&g);
}
END_TEST

START_TEST(the_name_may_be_another_than_the_address)
{
	auto_free char *to = mem_printf("127.0.0.1:%u", port);
	struct got g = {0};

	run(&g, "", (struct httpc_req){.url = "http://name.invalid:1/echo", .connect_to = to});
	wait_done(&g);
	ck_assert_int_eq(g.status, 200);
	got_done(&g);
}
END_TEST

START_TEST(a_stream_is_told_as_it_comes)
{
	struct got g = {0};

	run(&g, "/stream", (struct httpc_req){.on_data = on_data});
	while (g.data.len < 8)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_str_eq(strbuf_str(&g.data), "one\ntwo\n");
	httpc_cancel(g.op);
	run(&g, "/end", (struct httpc_req){.on_data = on_data});
	wait_done(&g);
	ck_assert_int_eq(g.r, 0);
	ck_assert_str_eq(strbuf_str(&g.data), "one\ntwo\n");
	g.stop = true;
	run(&g, "/stream", (struct httpc_req){.on_data = on_data});
	wait_done(&g);
	ck_assert_int_eq(g.r, -ECANCELED);
	got_done(&g);
}
END_TEST

static void on_time(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	*(bool *)arg = true;
}

/* Of the event loop; the last is the end's. */
static unsigned turns_in(int ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
	bool over = false;
	unsigned n = 0;

	event_base_once(base, -1, EV_TIMEOUT, on_time, &over, &tv);
	while (!over) {
		event_base_loop(base, EVLOOP_ONCE);
		n++;
	}
	return n;
}

START_TEST(a_silent_stream_ends_with_its_server)
{
	auto_free char *alive = mem_printf("http://127.0.0.1:%u/alive", port),
		       *frozen = mem_printf("http://127.0.0.1:%u/frozen", port);
	struct httpc_req lives = {.on_data = on_data, .alive_url = alive, .alive_ms = 300},
			 ends = {.on_data = on_data, .alive_url = frozen, .alive_ms = 300};
	struct got a = {0}, b = {0}, c = {0}, d = {0};

	run(&a, "/stream", lives);
	run(&b, "/stream", lives);
	run(&c, "/stream", ends);
	run(&d, "/stream", ends);
	wait_done(&c);
	if (!d.calls)
		wait_done(&d);
	for (int i = 0; i < 2; i++) {
		const struct got *g = i ? &c : &d;

		ck_assert_int_eq(g->r, -ETIMEDOUT);
		ck_assert_str_eq(g->why, "it does not answer");
	}
	ck_assert_int_eq(n_frozen, 1);
	while (n_alive < 4)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_int_eq(a.calls + b.calls, 0);
	httpc_cancel(a.op);
	httpc_cancel(b.op);
	turns_in(700);
	ck_assert_int_eq(n_alive, 4); /* nobody wants to know any more */
	/* one that does not even begin */
	run(&c, "/frozen", (struct httpc_req){.on_data = on_data, .first_ms = 50});
	wait_done(&c);
	ck_assert_int_eq(c.r, -ETIMEDOUT);
	got_done(&a);
	got_done(&b);
	got_done(&c);
	got_done(&d);
}
END_TEST

/* Servers behind one name: each is asked about its own streams. */
START_TEST(what_is_asked_is_the_server_of_the_stream)
{
	struct evhttp *second = evhttp_new(base);
	struct evhttp_bound_socket *s = evhttp_bind_socket_with_handle(second, "127.0.0.1", 0);
	struct sockaddr_in sin;
	socklen_t n = sizeof(sin);
	struct got lives = {0}, ends = {0};

	getsockname(evhttp_bound_socket_get_fd(s), (struct sockaddr *)&sin, &n);
	evhttp_set_cb(second, "/stream", stream, NULL);
	evhttp_set_cb(second, "/alive", freeze, NULL);
	for (int i = 0; i < 2; i++) {
		auto_free char *to =
			mem_printf("127.0.0.1:%u", i == 0 ? port : ntohs(sin.sin_port));

		run(i == 0 ? &lives : &ends, "",
			(struct httpc_req){.url = "http://name.invalid:1/stream",
				.connect_to = to,
				.on_data = on_data,
				.alive_url = "http://name.invalid:1/alive",
				.alive_ms = 300});
	}
	n_alive = n_frozen = 0;
	wait_done(&ends);
	ck_assert_int_eq(ends.r, -ETIMEDOUT);
	ck_assert_int_eq(n_frozen, 1);
	while (n_alive < 3)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_int_eq(lives.calls, 0);
	httpc_cancel(lives.op);
	got_done(&lives);
	got_done(&ends);
	while (n_open > 0)
		evhttp_send_reply_end(open_reqs[--n_open]);
	evhttp_free(second);
}
END_TEST

/* libcurl's, in a thread of its own, which asks a DNS server that is away. */
__attribute__((visibility("default"))) int getaddrinfo(
	const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
	int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

	*(void **)(void *)&next = dlsym(RTLD_NEXT, "getaddrinfo");
	if (!name || strcmp(name, "slow.test") != 0)
		return next(name, service, hints, ret);
	sleep(2);
	return EAI_AGAIN;
}

START_TEST(a_look_up_without_answer_holds_up_nobody)
{
	struct got g = {0};
	int64_t began = clock_mono_ms();

	run(&g, "", (struct httpc_req){.url = "http://slow.test/", .body = "x", .connect_ms = 100});
	wait_done(&g);
	ck_assert_int_eq(g.r, -EHOSTUNREACH);
	ck_assert_ptr_nonnull(strstr(g.why, "Resolving timed out"));
	ck_assert_int_lt(clock_mono_ms() - began, 1500);
	sleep(2); /* the thread ends */
	got_done(&g);
}
END_TEST

START_TEST(a_stream_at_rest_wakes_nobody)
{
	struct got g = {0};
	unsigned ms = 0, found = 0;
	socklen_t n = sizeof(ms);

	run(&g, "/stream",
		(struct httpc_req){.on_data = on_data,
			.first_ms = 60000,
			.alive_url = "http://127.0.0.1:1/",
			.alive_ms = 60000});
	while (g.data.len < 8)
		event_base_loop(base, EVLOOP_ONCE);
	/* but for its kernel's probes, and it hears where these are not answered */
	for (int fd = 0; fd < 64; fd++)
		if (getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &n) == 0 && ms == 45000)
			found++;
	ck_assert_uint_eq(found, 1);
	turns_in(1000); /* libcurl's timers for a connection that is made */
	ck_assert_uint_le(turns_in(2500), 1);
	httpc_cancel(g.op);
	got_done(&g);
}
END_TEST

START_TEST(failures_have_their_codes)
{
	auto_free char *big = mem_zalloc(2001);
	struct got g = {0};

	memset(big, 'x', 2000);
	run(&g, "/echo", (struct httpc_req){.body = big});
	wait_done(&g);
	ck_assert_int_eq(g.r, -EMSGSIZE);
	ck_assert_str_eq(g.why, "the answer is longer than 1000 bytes");
	run(&g, "", (struct httpc_req){.url = "http://127.0.0.1:1/", .body = "x"});
	wait_done(&g);
	ck_assert_int_eq(g.r, -EHOSTUNREACH);
	ck_assert(!g.sent);
	ck_assert_ptr_nonnull(strstr(g.why, "127.0.0.1 port 1: Couldn't connect"));
	run(&g, "", (struct httpc_req){.url = "file:///etc/passwd"});
	wait_done(&g);
	ck_assert_int_eq(g.r, -EHOSTUNREACH);
	run(&g, "/stream", (struct httpc_req){.body = "x", .timeout_ms = 50});
	wait_done(&g);
	ck_assert_int_eq(g.r, -ETIMEDOUT);
	ck_assert(g.sent);
	got_done(&g);
}
END_TEST

/* Answers the first request of its first connection, and hangs up when it has read the second. */
static void rude_server(int fd)
{
	static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
	char buf[4096];

	for (int i = 0;; i++) {
		int s = accept(fd, NULL, NULL);

		while (!memmem(buf, (size_t)read(s, buf, sizeof(buf)), "body", 4))
			;
		if (write(s, ok, sizeof(ok) - 1) < 0)
			_exit(1);
		if (i == 0)
			while (!memmem(buf, (size_t)read(s, buf, sizeof(buf)), "body", 4))
				;
		close(s);
	}
}

START_TEST(what_may_have_been_done_is_not_sent_again)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool once = _i;
	socklen_t len = sizeof(sin);
	struct got g = {0};
	char url[64];
	pid_t pid;

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	ck_assert_int_eq(listen(fd, 5), 0);
	getsockname(fd, (struct sockaddr *)&sin, &len);
	snprintf(url, sizeof(url), "http://127.0.0.1:%u/", ntohs(sin.sin_port));
	pid = fork();
	if (pid == 0)
		rude_server(fd);
	close(fd);
	for (int i = 0; i < 2; i++) {
		run(&g, "", (struct httpc_req){.url = url, .body = "body", .once = once});
		wait_done(&g);
		ck_assert_int_eq(g.r, i == 1 && once ? -ECONNRESET : 0);
		ck_assert(g.sent == (i == 1 && once));
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	got_done(&g);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("httpc");
	TCase *tc = tcase_create("httpc");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 20);
	tcase_add_test(tc, requests_share_a_connection);
	tcase_add_test(tc, the_name_may_be_another_than_the_address);
	tcase_add_test(tc, a_stream_is_told_as_it_comes);
	tcase_add_test(tc, a_stream_at_rest_wakes_nobody);
	tcase_add_test(tc, a_silent_stream_ends_with_its_server);
	tcase_add_test(tc, what_is_asked_is_the_server_of_the_stream);
	tcase_add_test(tc, a_look_up_without_answer_holds_up_nobody);
	tcase_add_test(tc, failures_have_their_codes);
	tcase_add_loop_test(tc, what_may_have_been_done_is_not_sent_again, 0, 2);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
