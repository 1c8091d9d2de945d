/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A process of margay-cni serve that answers plugins, one after the other, each verb from start to end. */
#pragma once

struct cni_home;

/*
 * Accepts on a listening socket of SOCK_SEQPACKET that others accept on, too. Never returns: ends on
 * SIGTERM, after the verb that it runs. ask_fd: its end of a pair, over which it asks the monitor (snapshot.h); -1: none.
 */
_Noreturn void worker_run(int listener, int ask_fd, const struct cni_home *home);
