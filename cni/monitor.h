/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The process of margay-cni serve that waits for nobody: it tells others how all is, health and metrics over HTTP, and
 * workers of Pods and of what addresses are given by (snapshot.h).
 */
#pragma once

#include <stddef.h>

struct cni_home;
struct common_params;

/* Never returns: ends on SIGTERM. fds: the ends of pairs of which workers have the others; -1: there are none. */
_Noreturn void monitor_run(const struct cni_home *home, const struct common_params *common,
	const int *fds, size_t n_fds);
