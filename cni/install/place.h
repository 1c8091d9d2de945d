/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files that installation places in a directory of the host's, such that they can be told from others'.
 *
 * A record among them, PLACE_RECORD, has the name and the digest of each. It is written before the first
 * is placed and, with what is left, after the last, so that it knows them wherever an installation was
 * interrupted. What is not as it was recorded is somebody else's: it is kept as a backup when another
 * file takes its place, and never removed. A file that is as it should be is not written.
 *
 * Names may be in directories below, which are ours alone: nothing in them is backed up.
 */
#pragma once

#include <stdbool.h>

struct err;
struct hostdir;
struct hostdir_names;
struct hostfile;
struct place;

#define PLACE_RECORD "margay.installed"

/* d is borrowed, and must outlive it. EINVAL: its record is damaged. */
int place_new(struct hostdir *d, struct place **ret, struct err *err);
void place_free(struct place *p);

/* What is to be there; f's bytes are borrowed until the place is freed. */
void place_want(struct place *p, const char *name, const struct hostfile *f);

/*
 * Places what is wanted, in that order. Of what was placed earlier and is not wanted any more, what is in
 * directories below goes, but for that in `keep`; where that is NULL all stays.
 */
int place_put(struct place *p, const char *keep, struct err *err);

/* Whether it is there as it was placed. */
bool place_is_ours(const struct place *p, const char *name);
/* What was placed and is there, but not as it was; to hostdir_names_done(). */
void place_list_changed(const struct place *p, struct hostdir_names *ret);

/* Puts a backup back, in place of what is ours; same: it is there, and only the backup is to go. */
int place_put_back(
	struct place *p, const char *backup, bool same, const char *name, struct err *err);
/* Removes what is there as it was placed, and the record. */
int place_remove(struct place *p, struct err *err);
