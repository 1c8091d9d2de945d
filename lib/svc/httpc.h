/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The HTTP client: libcurl on an event loop, with connections that are kept and used again.
 *
 * Callbacks come from the event loop, never before httpc_start() returns; they may start and cancel
 * requests, and may not free the client. Headers and bodies stand in no message: they hold passwords
 * and tokens.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"

#define HTTPC_LIBRARY "libcurl.so.4" /* loaded when first used */

struct err;
struct event_base;
struct httpc;
struct httpc_op;

/*
 * max_conns: connections at one time, requests beyond wait; 0 = no limit. base is borrowed. Fails with
 * EHOSTUNREACH where libcurl is not installed: it is loaded here, by the programs that need it, as
 * its 30 libraries take 3 ms to start.
 */
int httpc_new(struct event_base *base, unsigned max_conns, struct httpc **ret, struct err *err);
/* Ends what is under way, without calling back. */
void httpc_free(struct httpc *c);
AUTO_DEFINE(httpc, struct httpc *, httpc_free);

struct httpc_tls {
	const char *ca_file; /* whom to trust; NULL or "" = the system's */
	const char *cert_file, *key_file;
	const char *ca_pem, *cert_pem, *key_pem; /* the same as text, which wins */
	bool trust_all;				 /* neither chain nor name is checked */
};

struct httpc_res {
	int r; /* 0 = an answer came, whatever its status */
	const struct err *err;
	int status;
	const char *body; /* NUL-terminated; what on_data was not given */
	size_t len;
	bool sent; /* it failed after the body, or a part, went out: what came of it is not known */
	int64_t retry_after_s; /* the answer's Retry-After; 0 = none */
};

/* What has come of the body of a 2xx answer. A false ends it: done is told ECANCELED. */
typedef bool httpc_data_fn(void *arg, const char *data, size_t len);
/*
 * Errors: EHOSTUNREACH (no connection, TLS refused), ECONNRESET (ended without a whole answer),
 * ETIMEDOUT, EMSGSIZE (the answer is longer than max_bytes). The text is curl's own, without the
 * time it took.
 */
typedef void httpc_done_fn(void *arg, const struct httpc_res *res);

/* Whether a failure's text is of TLS: certificates, or no TLS at all where some was expected. */
static inline bool httpc_says_tls(const char *text)
{
	return (strstr(text, "SSL") || strstr(text, "certificate") || strstr(text, "alert") ||
		       strstr(text, "private key")) &&
	       !strstr(text, "timeout") && !strstr(text, "timed out");
}

/* Everything is copied, or read before httpc_start() returns. */
struct httpc_req {
	const char *method; /* NULL = GET, or POST where there is a body */
	const char *url;
	const char *connect_to; /* "host:port" to connect to; the URL's name is what TLS checks */
	const char *const *headers; /* "Name: value", ends with NULL */
	const char *body;
	size_t len;
	struct httpc_tls tls;
	size_t max_bytes; /* of an answer that is collected */
	bool once;	  /* never sent again on a second connection, once a part went out */
	bool http2;	  /* over TLS: requests share one connection, where the server can */
	int64_t connect_ms, timeout_ms; /* 0 = none */
	int64_t first_ms;		/* until the answer begins; 0 = none */
	/*
	 * Of a stream, which may be silent for long: a URL of its server's that is asked for every
	 * alive_ms, once for all streams that name it and connect_to. Where nothing is answered within a sixth of
	 * that they end, ETIMEDOUT, and their connection is given up. NULL = none
	 */
	const char *alive_url;
	int64_t alive_ms;
	httpc_data_fn *on_data; /* NULL = the body is collected */
	httpc_done_fn *done;
	void *arg;
};

/* The handle is valid until done is called. */
struct httpc_op *httpc_start(struct httpc *c, const struct httpc_req *req);
/* Neither callback is called any more. NULL is harmless. */
void httpc_cancel(struct httpc_op *op);
/*
 * Likewise, of a server that is silent: no other request is begun on its connection, in which TCP may pause for as long
 * as it was silent.
 */
void httpc_abandon(struct httpc_op *op);
