/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a server runs verbs, one whose plugin was ended goes on, while the runtime has called the next one of the same
 * pod, of this server, of the next one, or of none where it ends. So verbs of one interface of one pod take turns
 * whoever runs them, and whose plugin has gone begins nothing.
 */
#pragma once

struct call;
struct err;

/* Until the verb of the same that has it is done. 0, or a code. */
int turn_take(struct call *c, struct err *err);
/*
 * For GC, which has no turn, until nobody has that of an attachment which the runtime does not have any more: whoever had
 * it was late, and there is no next one. 0, or a code.
 */
int turn_await(struct call *c, const char *veth, const char *handle, struct err *err);
/* The plugin is there; it is asked before what another one would have to undo. 0, or CNI_E_AGAIN. */
int turn_check(const struct call *c, struct err *err);
void turn_end(const struct call *c);
