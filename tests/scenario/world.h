/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What confd's scenarios have in common: an event loop that is run for a while, and a directory. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <check.h>

#include "base/clock.h"
#include "base/mem.h"

extern struct event_base *world_base;
extern const char *world_dir;

void world_setup(void);
/* Frees the loop and removes the directory. */
void world_teardown(void);
void run_for(int64_t ms);

/* STATE: what the tested object says of itself. */
#define EVENTUALLY(ms, cond)                                                       \
	do {                                                                       \
		int64_t until_ = clock_mono_ms() + (ms);                           \
		while (!(cond) && clock_mono_ms() < until_)                        \
			run_for(1);                                                \
		ck_assert_msg(cond, "not within %d ms: %s; %s", ms, #cond, STATE); \
	} while (0)

void nothing(void *arg);

/* Files of the directory. */
char *path_of(const char *name);
char *read_text(const char *name); /* "(none)" where there is none */
void write_text(const char *name, const char *text);
void remove_file(const char *name);
bool file_is(const char *name, const char *with);
