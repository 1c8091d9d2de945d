/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "world.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "svc/loop.h"
#include "unit/test_dir.h"

struct event_base *world_base;
const char *world_dir;
static struct loop_timer *tick;

void world_setup(void)
{
	world_dir = test_dir();
	world_base = loop_base_new();
	tick = loop_timer_new(world_base, nothing, NULL);
}

void world_teardown(void)
{
	loop_timer_free(tick);
	event_base_free(world_base);
}

void run_for(int64_t ms)
{
	int64_t until = clock_mono_ms() + ms;

	while (clock_mono_ms() < until) {
		loop_timer_set(tick, 2);
		event_base_loop(world_base, EVLOOP_ONCE);
	}
}

void nothing(void *arg)
{
	(void)arg;
}

char *path_of(const char *name)
{
	return mem_printf("%s/%s", world_dir, name);
}

char *read_text(const char *name)
{
	auto_free char *path = path_of(name);
	char *text = NULL;

	return file_read(path, 1 << 20, &text, NULL, NULL) < 0 ? mem_strdup("(none)") : text;
}

void write_text(const char *name, const char *text)
{
	auto_free char *path = path_of(name);
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

void remove_file(const char *name)
{
	auto_free char *path = path_of(name);

	ck_assert_int_eq(unlink(path), 0);
}

bool file_is(const char *name, const char *with)
{
	auto_free char *text = read_text(name);

	return strstr(text, with) != NULL;
}
