/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "svc/http.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "svc/health.h"
#include "svc/metrics.h"

#define HEADERS_MAX 4096
#define TIMEOUT_S 5

struct listener {
	struct evhttp *evhttp;
	const struct health *health;
	const struct metrics *metrics;
};

struct http {
	struct event_base *base;
	VEC(struct listener *) listeners;
	uint16_t port;
};

static void reply(struct evhttp_request *req, int status, const char *reason, const char *type,
	const struct strbuf *text)
{
	struct evbuffer *buf = evhttp_request_get_output_buffer(req);

	evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type", type);
	evbuffer_add(buf, strbuf_str(text), text->len);
	evhttp_send_reply(req, status, reason, NULL);
}

static void reply_health(
	struct evhttp_request *req, const struct health *health, enum health_kind kind)
{
	auto_strbuf text = STRBUF_INIT;
	bool ok = health_print(health, kind, &text);

	reply(req, ok ? 200 : 503, ok ? "OK" : "Service Unavailable", "text/plain; charset=utf-8",
		&text);
}

static void on_request(struct evhttp_request *req, void *arg)
{
	const struct listener *l = arg;
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(req)) ?: "";
	auto_strbuf text = STRBUF_INIT;

	if (l->health && strcmp(path, "/healthz") == 0) {
		reply_health(req, l->health, HEALTH_LIVE);
	} else if (l->health && strcmp(path, "/readyz") == 0) {
		reply_health(req, l->health, HEALTH_READY);
	} else if (l->metrics && strcmp(path, "/metrics") == 0) {
		metrics_print(l->metrics, &text);
		reply(req, 200, "OK", "text/plain; version=0.0.4; charset=utf-8", &text);
	} else {
		strbuf_addf(&text, "here is%s%s\n", l->health ? " /healthz /readyz" : "",
			l->metrics ? " /metrics" : "");
		reply(req, 404, "Not Found", "text/plain; charset=utf-8", &text);
	}
}

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
	l->health = health;
	l->metrics = metrics;
	l->evhttp = evhttp_new(h->base);
	if (!l->evhttp || evhttp_accept_socket(l->evhttp, fd) < 0)
		abort(); /* out of memory */
	evhttp_set_allowed_methods(l->evhttp, EVHTTP_REQ_GET);
	evhttp_set_max_headers_size(l->evhttp, HEADERS_MAX);
	evhttp_set_max_body_size(l->evhttp, 0);
	evhttp_set_timeout(l->evhttp, TIMEOUT_S);
	evhttp_set_gencb(l->evhttp, on_request, l);
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
	struct listener **l;

	if (!h)
		return;
	vec_for_each (&h->listeners, l) {
		evhttp_free((*l)->evhttp);
		free(*l);
	}
	vec_done(&h->listeners);
	free(h);
}
