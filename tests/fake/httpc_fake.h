/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * svc/httpc.h, linked in place of lib/svc/httpc.c: nothing is sent, and the test says what comes back.
 * It does so from outside of the event loop, after the request was made.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct httpc_op;

/* The oldest request that is under way; NULL = none. */
struct httpc_op *httpc_fake_next(void);
/* Borrowed. */
const char *httpc_fake_url(const struct httpc_op *op);
const char *httpc_fake_body(const struct httpc_op *op);
int64_t httpc_fake_first_ms(const struct httpc_op *op);
bool httpc_fake_is_stream(const struct httpc_op *op);

/* A piece of a stream. false: the request is gone. */
bool httpc_fake_data(struct httpc_op *op, const char *data, size_t len);
/* It is over: with an answer, or without one. */
void httpc_fake_answer(struct httpc_op *op, int status, const char *body, size_t len);
/* With status 429. */
void httpc_fake_busy(struct httpc_op *op, int retry_after_s);
void httpc_fake_fail(struct httpc_op *op, int r, bool sent);
