/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The deletion of links waits for the kernel, 15 to 40 ms for one and not much more for a hundred. So DEL
 * takes a link down and puts it into a group, and a process of its own deletes that group.
 */
#pragma once

/* The mark of what is to be deleted: a link's group. */
#define REAPER_GROUP 0x6d726779u

/* Deletes what is in the group at first, and whenever the eventfd wake_fd is written to. Never returns. */
_Noreturn void reaper_run(int wake_fd);
