/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One request a connection, which is closed after it: there are few questions a minute. The request's
 * first line decides; its other lines are passed over, and so is a body.
 */
#include "svc/http.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/list.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "svc/accept.h"
#include "svc/health.h"
#include "svc/loop.h"
#include "svc/metrics.h"

#define HEADERS_MAX 4096
#define TIMEOUT_MS 5000

struct listener {
	struct http *http;
	struct acceptor *acceptor;
	const struct health *health;
	const struct metrics *metrics;
};

struct http {
	struct event_base *base;
	VEC(struct listener *) listeners;
	struct list conns; /* oldest first */
	size_t n_conns;
	uint16_t port;
};

struct conn {
	struct list node;
	const struct listener *listener;
	struct bufferevent *bev;
	struct loop_timer *deadline;
	char *request; /* the first line */
	size_t n_bytes;
	bool answered, peer_done;
};

/* ---- the request ---- */

struct reply {
	int status;
	const char *reason, *type;
	struct strbuf text;
};

static void set_status(struct reply *r, int status, const char *reason)
{
	r->status = status;
	r->reason = reason;
	r->type = "text/plain; charset=utf-8";
}

static void set_health(struct reply *r, const struct health *health, enum health_kind kind)
{
	bool ok = health_print(health, kind, &r->text);

	set_status(r, ok ? 200 : 503, ok ? "OK" : "Service Unavailable");
}

static void look_up(const struct listener *l, const char *path, struct reply *r)
{
	if (l->health && strcmp(path, "/healthz") == 0) {
		set_health(r, l->health, HEALTH_LIVE);
	} else if (l->health && strcmp(path, "/readyz") == 0) {
		set_health(r, l->health, HEALTH_READY);
	} else if (l->metrics && strcmp(path, "/metrics") == 0) {
		set_status(r, 200, "OK");
		r->type = "text/plain; version=0.0.4; charset=utf-8";
		metrics_print(l->metrics, &r->text);
	} else {
		set_status(r, 404, "Not Found");
		strbuf_addf(&r->text, "here is%s%s\n", l->health ? " /healthz /readyz" : "",
			l->metrics ? " /metrics" : "");
	}
}

/* "GET /healthz?verbose HTTP/1.1". Changes line. */
static void answer_line(const struct listener *l, char *line, struct reply *r, bool *ret_head)
{
	char *path = strchr(line, ' '), *version = path ? strchr(path + 1, ' ') : NULL;

	if (!version || strncmp(version, " HTTP/1.", 8) != 0) {
		set_status(r, 400, "Bad Request");
		return;
	}
	*path++ = *version = '\0';
	path[strcspn(path, "?")] = '\0';
	*ret_head = strcmp(line, "HEAD") == 0;
	if (*ret_head || strcmp(line, "GET") == 0)
		look_up(l, path, r);
	else
		set_status(r, 405, "Method Not Allowed");
}

/* ---- connections ---- */

static void conn_free(struct conn *c)
{
	list_del(&c->node);
	c->listener->http->n_conns--;
	loop_timer_free(c->deadline);
	bufferevent_free(c->bev);
	free(c->request);
	free(c);
}

/* line NULL: too long. */
static void answer(struct conn *c, char *line)
{
	struct evbuffer *out = bufferevent_get_output(c->bev);
	struct reply r = {.text = STRBUF_INIT};
	bool head = false;

	if (line)
		answer_line(c->listener, line, &r, &head);
	else
		set_status(&r, 431, "Request Header Fields Too Large");
	c->answered = true;
	evbuffer_add_printf(out,
		"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
		"%sConnection: close\r\n\r\n",
		r.status, r.reason, r.type, r.text.len,
		r.status == 405 ? "Allow: GET, HEAD\r\n" : "");
	if (!head)
		evbuffer_add(out, strbuf_str(&r.text), r.text.len);
	strbuf_done(&r.text);
}

static void on_bytes(struct bufferevent *bev, void *arg)
{
	struct evbuffer *in = bufferevent_get_input(bev);
	struct conn *c = arg;
	size_t n;

	while (!c->answered) {
		auto_free char *line = evbuffer_readln(in, &n, EVBUFFER_EOL_CRLF);

		if (line)
			c->n_bytes += n;
		if (c->n_bytes + (line ? 0 : evbuffer_get_length(in)) > HEADERS_MAX)
			answer(c, NULL);
		else if (!line)
			break;
		else if (!c->request)
			c->request = take_ptr(line);
		else if (n == 0)
			answer(c, c->request);
	}
	if (c->answered)
		evbuffer_drain(in, evbuffer_get_length(in));
}

/* To close with something unread would reset the connection, and the answer might be lost with it:
 * the peer closes first, or the deadline passes. */
static void on_sent(struct bufferevent *bev, void *arg)
{
	struct conn *c = arg;

	if (!c->answered)
		return;
	if (c->peer_done)
		conn_free(c);
	else
		shutdown(bufferevent_getfd(bev), SHUT_WR);
}

static void on_end(struct bufferevent *bev, short what, void *arg)
{
	struct conn *c = arg;

	c->peer_done = true;
	if (!(what & BEV_EVENT_EOF) || evbuffer_get_length(bufferevent_get_output(bev)) == 0)
		conn_free(c);
}

static void on_deadline(void *arg)
{
	conn_free(arg);
}

static void on_accept(void *arg, int fd)
{
	struct listener *l = arg;
	struct http *h = l->http;
	struct conn *c;

	if (h->n_conns == HTTP_CONNECTIONS_MAX)
		conn_free(list_entry(h->conns.next, struct conn, node));
	c = mem_new(struct conn);
	c->listener = l;
	c->bev = bufferevent_socket_new(h->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!c->bev)
		abort(); /* out of memory */
	list_add_tail(&h->conns, &c->node);
	h->n_conns++;
	c->deadline = loop_timer_new(h->base, on_deadline, c);
	loop_timer_set(c->deadline, TIMEOUT_MS);
	bufferevent_setcb(c->bev, on_bytes, on_sent, on_end, c);
	bufferevent_setwatermark(c->bev, EV_READ, 0, HEADERS_MAX + 1);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

/* ---- addresses ---- */

/* Returns a listening descriptor. */
static int listen_on(const char *host, uint16_t port, const char *param, struct err *err)
{
	const struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *ai;
	char service[8];
	auto_close int fd = -1;
	int r, one = 1;

	if (strcmp(host, "localhost") == 0)
		host = "127.0.0.1";
	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, &hints, &ai) != 0)
		return err_set(err, -EINVAL, "\"%.64s\": want an address to listen on", host);
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = fd < 0 ? -errno : 0;
	if (r == 0 && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
			      bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 16) < 0))
		r = -errno;
	freeaddrinfo(ai);
	if (r == -EADDRINUSE)
		return err_set(err, r,
			"listen on %s port %u: another program has that port; set %s to a free one",
			host, port, param);
	if (r < 0)
		return err_sys(err, r, "listen on %s port %u (set by %s)", host, port, param);
	return take_fd(fd);
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof(ss);
	struct sockaddr_in sin;
	struct sockaddr_in6 sin6;

	getsockname(fd, (struct sockaddr *)&ss, &len);
	if (ss.ss_family == AF_INET6) {
		memcpy(&sin6, &ss, sizeof(sin6));
		return ntohs(sin6.sin6_port);
	}
	memcpy(&sin, &ss, sizeof(sin));
	return ntohs(sin.sin_port);
}

int http_listen(struct http *h, const char *host, uint16_t port, const char *param,
	const struct health *health, const struct metrics *metrics, struct err *err)
{
	struct listener *l;
	int fd = listen_on(host, port, param, err);

	if (fd < 0)
		return fd;
	if (h->port == 0)
		h->port = port_of(fd);
	l = mem_new(struct listener);
	l->http = h;
	l->health = health;
	l->metrics = metrics;
	l->acceptor = acceptor_new(h->base, fd, "http", on_accept, l);
	vec_push(&h->listeners, l);
	return 0;
}

int http_new(struct event_base *base, const char *host, uint16_t port, const char *param,
	const struct health *health, const struct metrics *metrics, struct http **ret,
	struct err *err)
{
	struct http *h = mem_new(struct http);
	int r;

	h->base = base;
	list_init(&h->conns);
	r = http_listen(h, host, port, param, health, metrics, err);
	if (r < 0) {
		http_free(h);
		return r;
	}
	*ret = h;
	return 0;
}

uint16_t http_port(const struct http *h)
{
	return h->port;
}

void http_free(struct http *h)
{
	struct conn *c, *tmp;
	struct listener **l;

	if (!h)
		return;
	list_for_each_safe (c, tmp, &h->conns, node)
		conn_free(c);
	vec_for_each (&h->listeners, l) {
		acceptor_free((*l)->acceptor);
		free(*l);
	}
	vec_done(&h->listeners);
	free(h);
}
