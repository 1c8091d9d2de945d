/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a program that an operator has configured, without a shell and without waiting for it. */
#pragma once

#include <stdint.h>

#include "base/mem.h"

struct command;
struct err;
struct event_base;

/* r = 0: it has ended with exit status 0. Else err has its exit status, and what it wrote last. */
typedef void command_done_fn(void *arg, int r, const struct err *err);

/*
 * argv ends with NULL. done is never called before this returns; the command is freed after it. A
 * program that takes longer than timeout_ms is killed, with what it has started: ETIMEDOUT.
 */
int command_start(struct event_base *base, const char *const *argv, int64_t timeout_ms,
	command_done_fn *done, void *arg, struct command **ret, struct err *err);
/* Kills it, with what it has started; done is not called. */
void command_cancel(struct command *c);
