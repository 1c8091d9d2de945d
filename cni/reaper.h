/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The deletion of links waits for the kernel, 15 to 40 ms for one and not much more for a hundred. So DEL
 * takes a link down and puts it into a group, and a process of its own deletes that group.
 *
 * It is told by a FIFO that has a name: the worker of a server that was killed ends its verb, and by then it is
 * another server's reaper that is there to hear of it.
 */
#pragma once

struct err;

/* The mark of what is to be deleted: a link's group. */
#define REAPER_GROUP 0x6d726779u

/* In $MARGAY_RUN_DIR, which is there. Returns the FIFO, open. */
int reaper_open(const char *run_dir, struct err *err);
/* There is something in the group, or may be. */
int reaper_tell(int fd, struct err *err);
/* Deletes what is in the group at first, and whenever it is told, until the kernel has done it. Never returns. */
_Noreturn void reaper_run(int fd);
