/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server of /healthz, /readyz and /metrics: three read-only texts over HTTP, on loopback unless
 * told otherwise.
 */
#pragma once

#include <stdint.h>

#include "base/mem.h"

struct err;
struct event_base;
struct health;
struct http;
struct metrics;

#define HTTP_CONNECTIONS_MAX 64 /* of all addresses together */

/*
 * Listens on host:port; host is a numeric address or "localhost" (127.0.0.1), port 0 takes a free
 * one. GET and HEAD, 4 KiB of headers, 5 s a connection, HTTP_CONNECTIONS_MAX of them: the next one
 * takes the place of the oldest. health or metrics NULL: 404 for those. Both are borrowed, and must
 * outlive the server. param names the parameter of the port for messages, where EADDRINUSE is the
 * likely one.
 */
int http_new(struct event_base *base, const char *host, uint16_t port, const char *param,
	const struct health *health, const struct metrics *metrics, struct http **ret,
	struct err *err);
/* A second address for the same server, with texts of its own. */
int http_listen(struct http *h, const char *host, uint16_t port, const char *param,
	const struct health *health, const struct metrics *metrics, struct err *err);
/* The port of the first address. */
uint16_t http_port(const struct http *h);
void http_free(struct http *h);
AUTO_DEFINE(http, struct http *, http_free);
