/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What installation finds in its way is kept: NAME as NAME.margay-backup-1, and -2 where there is one
 * with other content. No runtime reads these.
 */
#pragma once

#include <stdbool.h>

struct err;
struct hostdir;
struct hostdir_names;

/* A second link to what NAME is, unless the latest backup is the same. */
int backup_keep(const struct hostdir *d, const char *name, struct err *err);

/* That, and then NAME is gone. */
int backup_move_away(const struct hostdir *d, const char *name, struct err *err);

/* NULL: name is no backup's, or names has a later one of the same. The caller's to free. */
char *backup_latest_of(const struct hostdir_names *names, const char *name);
