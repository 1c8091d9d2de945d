/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which virtual servers outside of the service ranges are ours: those of node ports. IPVS has no room
 * for a mark, so each is written to a file before it is made; the file is in a directory that, like
 * IPVS's table, does not survive the machine. A file that somebody removed is written again at the next
 * start; what nobody wants any more by then stays.
 */
#pragma once

#include <stdbool.h>

#include "base/mem.h"
#include "kern/vserver.h"

struct err;
struct owned;

/* A file that cannot be read is an error; one that is not there is empty. path is copied. */
int owned_new(const char *path, struct owned **ret, struct err *err);
void owned_free(struct owned *o);
AUTO_DEFINE(owned, struct owned *, owned_free);
bool owned_has(const struct owned *o, const struct vserver_key *key);
/* In the file when it returns 0. */
int owned_add(struct owned *o, const struct vserver_key *key, struct err *err);
/* Forgets those that keep() does not name: at a time when the others are gone. */
int owned_prune(struct owned *o, bool (*keep)(void *arg, const struct vserver_key *key), void *arg,
	struct err *err);
