/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Accepts connections from a listening socket. Where the system has no descriptor left, it looks
 * again after ACCEPT_PAUSE_MS: the connection that waits keeps the socket readable, so that an event
 * loop would otherwise try without end.
 */
#pragma once

#define ACCEPT_PAUSE_MS 100

struct acceptor;
struct event_base;

/* fd: the connection, not blocking, the callee's to close. */
typedef void accept_fn(void *arg, int fd);

/* Takes listening_fd, which does not block. what: a string literal, for messages. */
struct acceptor *acceptor_new(
	struct event_base *base, int listening_fd, const char *what, accept_fn *fn, void *arg);
/* Closes the listening socket, and no connection. */
void acceptor_free(struct acceptor *a);
