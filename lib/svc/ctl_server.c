/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "svc/ctl_server.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/list.h"
#include "base/strbuf.h"
#include "svc/accept.h"

AUTO_DEFINE(json, json_t *, json_decref);

/* An answer is begun only while less than this is unsent. */
#define UNSENT_MAX (256 * 1024)

struct ctl_server {
	struct event_base *base;
	char *path;
	const struct ctl_verb *verbs;
	size_t n_verbs;
	void *arg;
	struct acceptor *acceptor;
	struct list clients;
	size_t n_clients;
};

struct client {
	struct list node;
	struct ctl_server *server;
	struct bufferevent *bev;
	bool closing; /* once what was asked is answered */
};

static int address(const char *path, struct sockaddr_un *ret, struct err *err)
{
	size_t n = strlen(path);

	if (n >= sizeof(ret->sun_path))
		return err_set(err, -EINVAL,
			"control socket %s: a path of %zu bytes, want at most %zu; set a shorter "
			"MARGAY_RUN_DIR",
			path, n, sizeof(ret->sun_path) - 1);
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(ret->sun_path, path, n);
	return 0;
}

/* ---- server ---- */

static void client_free(struct client *c)
{
	list_del(&c->node);
	c->server->n_clients--;
	bufferevent_free(c->bev);
	free(c);
}

/* Takes result, NULL = null. */
static void send_result(struct client *c, json_t *result_take)
{
	auto_(json) json_t *msg = json_pack("{s:b,s:o*}", "ok", 1, "result", result_take);
	auto_free char *text = NULL;

	if (msg && !result_take)
		json_object_set_new(msg, "result", json_null());
	text = msg ? json_dumps(msg, JSON_COMPACT) : NULL;
	if (!text)
		abort(); /* out of memory, or a result that is no JSON */
	bufferevent_write(c->bev, text, strlen(text));
	bufferevent_write(c->bev, "\n", 1);
}

static void send_error(struct client *c, const struct err *err)
{
	/* A message may quote bytes that are no UTF-8, which JSON cannot hold. */
	auto_(json) json_t *text = json_string(err_text(err)) ?: json_string("(not UTF-8)");
	auto_(json) json_t *msg =
		json_pack("{s:b,s:i,s:O}", "ok", 0, "errno", -err->code, "error", text);
	auto_free char *line = json_dumps(msg, JSON_COMPACT);

	bufferevent_write(c->bev, line, strlen(line));
	bufferevent_write(c->bev, "\n", 1);
}

static json_t *verb_list(const struct ctl_server *s)
{
	json_t *o = json_object();

	for (size_t i = 0; i < s->n_verbs; i++)
		json_object_set_new(o, s->verbs[i].name, json_string(s->verbs[i].doc));
	return o;
}

static int run(const struct ctl_server *s, const json_t *request, json_t **result, struct err *err)
{
	const char *name = json_string_value(json_object_get(request, "verb"));

	if (!name)
		return err_set(err, -EINVAL, "request: want an object with a string \"verb\"");
	if (strcmp(name, "help") == 0) {
		*result = verb_list(s);
		return 0;
	}
	for (size_t i = 0; i < s->n_verbs; i++)
		if (strcmp(s->verbs[i].name, name) == 0)
			return s->verbs[i].run(s->arg, request, result, err);
	return err_set(
		err, -EINVAL, "verb \"%.64s\" is not known here: ask \"help\" for the list", name);
}

static void handle_line(struct client *c, const char *line, size_t n)
{
	json_error_t at;
	auto_(json) json_t *request = json_loadb(line, n, JSON_REJECT_DUPLICATES, &at);
	struct err err = ERR_INIT;
	json_t *result = NULL;
	int r;

	if (!request)
		r = err_set(&err, -EINVAL, "request: column %d: %s", at.column, at.text);
	else
		r = run(c->server, request, &result, &err);
	if (r < 0) {
		json_decref(result);
		err.code = r;
		send_error(c, &err);
	} else {
		send_result(c, result);
	}
}

static void refuse(struct client *c, int code, const char *text)
{
	struct err err;

	err_set(&err, code, "%s", text);
	send_error(c, &err);
	c->closing = true;
	bufferevent_disable(c->bev, EV_READ);
}

/* Answers what is there, as long as answers leave. May free c. */
static void serve(struct client *c)
{
	struct evbuffer *in = bufferevent_get_input(c->bev);
	struct evbuffer *out = bufferevent_get_output(c->bev);

	while (evbuffer_get_length(out) < UNSENT_MAX) {
		size_t n;
		auto_free char *line = evbuffer_readln(in, &n, EVBUFFER_EOL_LF);

		if (!line)
			break;
		handle_line(c, line, n);
	}
	if (evbuffer_get_length(in) > CTL_LINE_MAX &&
		evbuffer_search_eol(in, NULL, NULL, EVBUFFER_EOL_LF).pos < 0) {
		evbuffer_drain(in, evbuffer_get_length(in));
		refuse(c, -EFBIG, "request: a line of more than 65536 bytes");
	}
	if (c->closing && evbuffer_get_length(out) == 0)
		client_free(c);
}

static void on_bytes(struct bufferevent *bev, void *arg)
{
	(void)bev;
	serve(arg);
}

static void on_end(struct bufferevent *bev, short what, void *arg)
{
	struct client *c = arg;

	/* One that has sent all its requests may wait for the answers. */
	if ((what & BEV_EVENT_EOF) && evbuffer_get_length(bufferevent_get_output(bev)) > 0) {
		c->closing = true;
		return;
	}
	client_free(c);
}

static bool peer_may(int fd)
{
	struct ucred cred = {.uid = (uid_t)-1};
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return false;
	return cred.uid == 0 || cred.uid == geteuid();
}

static void on_accept(void *arg, int fd)
{
	const struct timeval idle = {.tv_sec = CTL_IDLE_MS / 1000};
	struct ctl_server *s = arg;
	struct client *c = mem_new(struct client);

	c->server = s;
	c->bev = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!c->bev)
		abort();
	list_add_tail(&s->clients, &c->node);
	s->n_clients++;
	bufferevent_setcb(c->bev, on_bytes, on_bytes, on_end, c);
	bufferevent_setwatermark(c->bev, EV_READ, 0, CTL_LINE_MAX + 1);
	bufferevent_set_timeouts(c->bev, &idle, &idle);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
	if (!peer_may(fd))
		refuse(c, -EACCES, "control socket: only root and the daemon's own user may ask");
	else if (s->n_clients > CTL_CLIENTS_MAX)
		refuse(c, -EAGAIN, "control socket: too many connections");
}

/* Makes way for bind: a socket that nobody serves is what a killed daemon leaves. */
static int remove_stale(const struct sockaddr_un *sun, struct err *err)
{
	const char *path = sun->sun_path;
	auto_close int fd = -1;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(err, -errno, "control socket %s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST,
			"control socket %s: something else is there; remove it, or set "
			"MARGAY_RUN_DIR",
			path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, -errno, "control socket %s", path);
	if (connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) == 0 || errno == EAGAIN)
		return err_set(err, -EADDRINUSE,
			"control socket %s: a process serves it already; stop that one, or set "
			"MARGAY_RUN_DIR",
			path);
	if (errno != ECONNREFUSED || (unlink(path) < 0 && errno != ENOENT))
		return err_sys(err, -errno, "control socket %s: take over", path);
	return 0;
}

static int listen_at(const char *path, struct err *err)
{
	auto_free char *dir = mem_strdup(path);
	char *slash = strrchr(dir, '/');
	struct sockaddr_un sun;
	auto_close int fd = -1;
	int r = address(path, &sun, err);

	if (r < 0)
		return r;
	if (slash && slash != dir) {
		*slash = '\0';
		r = file_mkdirs(dir, 0755, err);
		if (r < 0)
			return err_wrap(err, r, "control socket %s", path);
	}
	r = remove_stale(&sun, err);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The mode of the descriptor becomes that of the file: it is never open to others. */
	if (fd < 0 || fchmod(fd, 0600) < 0 ||
		bind(fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0 || listen(fd, 16) < 0)
		return err_sys(err, -errno, "control socket %s", path);
	return take_fd(fd);
}

int ctl_server_new(struct event_base *base, const char *path, const struct ctl_verb *verbs,
	size_t n_verbs, void *arg, struct ctl_server **ret, struct err *err)
{
	struct ctl_server *s;
	int fd = listen_at(path, err);

	if (fd < 0)
		return fd;
	s = mem_new(struct ctl_server);
	s->base = base;
	s->path = mem_strdup(path);
	s->verbs = verbs;
	s->n_verbs = n_verbs;
	s->arg = arg;
	list_init(&s->clients);
	s->acceptor = acceptor_new(base, fd, "control socket", on_accept, s);
	*ret = s;
	return 0;
}

void ctl_server_free(struct ctl_server *s)
{
	struct client *c, *tmp;

	if (!s)
		return;
	list_for_each_safe (c, tmp, &s->clients, node)
		client_free(c);
	acceptor_free(s->acceptor);
	unlink(s->path);
	free(s->path);
	free(s);
}

/* ---- client ---- */

static int client_connect(const char *path, int timeout_ms, struct err *err)
{
	const struct timeval tv = {
		.tv_sec = timeout_ms / 1000, .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un sun;
	int r = address(path, &sun, err);

	if (r < 0)
		return r;
	/* Bounds connect as well. */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0)
		return err_sys(err, -errno, "control socket %s", path);
	if (connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) == 0)
		return take_fd(fd);
	switch (errno) {
	case ENOENT:
	case ECONNREFUSED:
		return err_set(err, -EHOSTUNREACH,
			"control socket %s: nobody serves it; is the daemon running?", path);
	case EAGAIN:
		return err_set(err, -ETIMEDOUT, "control socket %s: no connection in %d ms", path,
			timeout_ms);
	case EACCES:
		return err_set(err, -EACCES,
			"control socket %s: permission denied; ask as root or as the daemon's user",
			path);
	default:
		return err_sys(err, -errno, "control socket %s", path);
	}
}

static int send_all(int fd, const char *p, size_t n, struct err *err)
{
	while (n > 0) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);

		if (k < 0 && errno == EINTR)
			continue;
		/* A server that refuses hangs up early: its answer says why. */
		if (k < 0 && (errno == EPIPE || errno == ECONNRESET))
			return 0;
		if (k < 0)
			return errno == EAGAIN ? err_set(err, -ETIMEDOUT, "request not taken")
					       : err_sys(err, -errno, "send");
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

static int recv_line(int fd, int64_t deadline_ms, struct strbuf *line, struct err *err)
{
	for (;;) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};
		int64_t left = deadline_ms - clock_mono_ms();
		char *to = strbuf_reserve(line, 4096), *nl;
		ssize_t n;

		if (left <= 0)
			return err_set(err, -ETIMEDOUT, "no answer in time");
		if (poll(&pfd, 1, (int)left) <= 0)
			continue;
		n = recv(fd, to, 4096, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, -errno, "receive");
		if (n == 0)
			return err_set(err, -EPROTO, "the connection ended without an answer");
		line->len += (size_t)n;
		to[n] = '\0';
		nl = memchr(to, '\n', (size_t)n);
		if (nl) {
			line->len = (size_t)(nl - line->s);
			return 0;
		}
		if (line->len > CTL_REPLY_MAX)
			return err_set(
				err, -EPROTO, "an answer of more than %d bytes", CTL_REPLY_MAX);
	}
}

static int read_answer(const struct strbuf *line, json_t **ret_result, struct err *err)
{
	json_error_t at;
	auto_(json) json_t *msg = json_loadb(line->s, line->len, 0, &at);
	const json_t *ok = json_object_get(msg, "ok");
	const char *text = json_string_value(json_object_get(msg, "error"));
	json_int_t code = json_integer_value(json_object_get(msg, "errno"));

	if (json_is_true(ok)) {
		json_t *result = json_object_get(msg, "result");

		*ret_result = result ? json_incref(result) : json_null();
		return 0;
	}
	if (!json_is_false(ok) || !text || code < 1 || code > 4095)
		return err_set(err, -EPROTO, "not an answer: \"%.64s\"", line->s);
	return err_set(err, -(int)code, "%s", text);
}

int ctl_call(const char *path, const json_t *request, int timeout_ms, json_t **ret_result,
	struct err *err)
{
	int64_t deadline_ms = clock_mono_ms() + timeout_ms;
	auto_free char *text = json_dumps(request, JSON_COMPACT);
	auto_free char *sent = text ? mem_printf("%s\n", text) : NULL;
	auto_strbuf line = STRBUF_INIT;
	auto_close int fd = -1;
	int r;

	if (!sent)
		return err_set(err, -EINVAL, "request to %s: not a JSON object", path);
	fd = client_connect(path, timeout_ms, err);
	if (fd < 0)
		return fd;
	r = send_all(fd, sent, strlen(sent), err);
	if (r == 0)
		r = recv_line(fd, deadline_ms, &line, err);
	if (r < 0)
		return err_wrap(err, r, "control socket %s", path);
	return read_answer(&line, ret_result, err);
}
