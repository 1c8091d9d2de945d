/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The generic renderer: a view and a template to files, each checked by a command, renamed into place,
 * and a program told to read them. BIRD's configuration, which is checked and loaded over a socket,
 * goes another way: apply.h.
 *
 * A file in the configuration directory says what to do:
 *
 *	# /etc/margay/confd.d/dns.conf
 *	view = dns
 *	template = zone
 *	destination = /etc/knot/zones/{name}zone
 *	each = zones			one file for each element of this array of the view, whose
 *					`name` takes the place of {name}
 *	mode = 0644
 *	check = kzonecheck -o {name} {}	exit status 0 = good; {} = the file; without a shell
 *	reload_pid_file = /run/knot/knot.pid	or several, parted by blanks
 *	reload_process = knotd		what their processes' names begin with; else the file's: knot
 *	reload_signal = HUP
 *	reload = /usr/sbin/knotc zone-reload	instead of a signal
 *
 * view, template and destination are needed. Beside what is in the view a template has `serial`, which
 * grows whenever the rest of the file changes, and `content`, a mark with a hash of that rest and the
 * serial. By the mark the serial of a file is known, so that a restart writes the same bytes, which is to
 * write nothing; to be grown from, whatever the clock says; and a file that an earlier run has written to
 * be removed when nothing of its name is wanted any more. The reader is told once at each start. After the
 * first, changes are written RENDER_PACE_MS apart, and so is what others change or remove put back.
 *
 * One file that cannot be written or that its check refuses is named, and keeps nobody from the others.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"

struct err;
struct event_base;
struct renderer;
struct templates;

#define RENDER_PACE_MS 1000 /* also what keeps serials, which are times, growing */
#define RENDER_COMMAND_MS 10000

/*
 * Reads a configuration file. EINVAL: "PATH:LINE: ..."; and the errors of reading. changed is called
 * when renderer_state() is another one.
 */
int renderer_new(struct event_base *base, struct templates *templates, const char *path,
	void (*changed)(void *arg), void *arg, struct renderer **ret, struct err *err);
void renderer_free(struct renderer *r);
AUTO_DEFINE(renderer, struct renderer *, renderer_free);
const char *renderer_view(const struct renderer *r); /* which one it wants */
/* Another view. Takes a reference. */
void renderer_set(struct renderer *r, json_t *view);
/* All files are as they should be, and their reader was told. */
bool renderer_is_done(const struct renderer *r);
/* What is waited for or wrong, with the file's name. Borrowed. */
const char *renderer_state(const struct renderer *r);
