/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A plain HTTP client: libcurl, one request at a time on one connection that is kept. It is what a raw
 * server is measured with, so that nothing of Margay's own client is used here. Every failure ends the
 * program.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct http;

/* ca_file, token: of an API server; NULL: none. */
struct http *http_new(const char *ca_file, const char *token);
void http_free(struct http *h);

/* method NULL: GET; PATCH: a merge patch. The body of the answer, borrowed until the next call; it must be a 2xx. */
const char *http_call(struct http *h, const char *method, const char *url, const char *body);

/* A part of an answer has come; false: no more of it is wanted. */
typedef bool http_data_fn(void *arg, const char *data, size_t len);
/* An answer that goes on, until it ends or fn says so. */
void http_stream(struct http *h, const char *method, const char *url, const char *body,
	http_data_fn *fn, void *arg);
