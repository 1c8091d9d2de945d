/* SPDX-License-Identifier: GPL-2.0-or-later */
/* margayctl ipam: its verbs, each in a file of its own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct check;
struct ctl;
struct err;
struct store_list;

int ipam_show(struct ctl *c, int argc, char **argv);
int ipam_check(struct ctl *c, int argc, char **argv);
int ipam_release(struct ctl *c, int argc, char **argv);
int ipam_configure(struct ctl *c, int argc, char **argv);
int ipam_split(struct ctl *c, int argc, char **argv);

/* Everything under prefix; what is wrong was said. */
int ipam_list(struct ctl *c, const char *prefix, struct store_list *ret);

/*
 * Mends of what was found what can be mended without harm, and says so; returns how many problems are left.
 * force: what is doubtful, too.
 */
size_t ipam_repair(struct ctl *c, const struct check *found, bool force);
