/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The processes of margay-cni serve that answer plugins, one after the other, each verb from start to end. A worker waits
 * for the kernel and the disk alone: what has to wait, for the datastore for one, it leaves to the waiters, with the plugin's connection.
 * So what needs nobody is answered however many others wait.
 */
#pragma once

#include <stdint.h>

struct cni_home;

/*
 * Accepts on a listening socket of SOCK_SEQPACKET that others accept on, too. Never returns: ends on
 * SIGTERM, after the verb that it runs. waiters_fd: what is left to them goes there. ask_fd: its end of a pair, over
 * which it asks the monitor (snapshot.h); -1: none.
 */
_Noreturn void worker_run(int listener, int waiters_fd, int ask_fd, const struct cni_home *home);
/* Likewise, with what workers leave at the other end of fd. *since_ms: when its verb has begun, 0: it has none. */
_Noreturn void waiter_run(int fd, int ask_fd, int64_t *since_ms, const struct cni_home *home);
