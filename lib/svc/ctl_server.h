/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A daemon's control socket (unix stream) and its client: one JSON object per line, each way.
 *
 *	{"verb": "routes", ...}        ->  {"ok": true, "result": ...}
 *	                               ->  {"ok": false, "errno": 2, "error": "no route to ..."}
 *
 * Root and the daemon's own user may call; others are told so and cut off. A line has at most
 * CTL_LINE_MAX bytes; a connection that sends no whole line for CTL_IDLE_MS, or reads nothing of its
 * answer for as long, is closed. Every server answers "help" with its verbs.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/mem.h"

struct ctl_server;
struct err;
struct event_base;

#define CTL_LINE_MAX (64 * 1024)	 /* of a request */
#define CTL_REPLY_MAX (64 * 1024 * 1024) /* of an answer, as the client takes it */
#define CTL_IDLE_MS 30000
#define CTL_CLIENTS_MAX 32

struct ctl_verb {
	const char *name;
	const char *doc; /* one line */
	/* Sets *result (a new reference; left alone = null) or returns a negative errno. The request
	 * is the whole object, borrowed. */
	int (*run)(void *arg, const json_t *request, json_t **result, struct err *err);
};

/*
 * Listens on path, mode 0600; a socket file that nobody serves is replaced, EADDRINUSE where somebody
 * does. verbs are borrowed.
 */
int ctl_server_new(struct event_base *base, const char *path, const struct ctl_verb *verbs,
	size_t n_verbs, void *arg, struct ctl_server **ret, struct err *err);
/* Closes the connections and removes the socket file. */
void ctl_server_free(struct ctl_server *s);
AUTO_DEFINE(ctl_server, struct ctl_server *, ctl_server_free);

/*
 * Asks, and waits for the answer. *ret_result is a new reference to the answer's result. request is
 * borrowed. The server's errors come back with its errno and text; besides: EHOSTUNREACH (nobody
 * serves the socket), EACCES, ETIMEDOUT, EPROTO (not an answer).
 */
int ctl_call(const char *path, const json_t *request, int timeout_ms, json_t **ret_result,
	struct err *err);
