/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The process of margay-cni serve that tells others how it is: health and metrics over HTTP. */
#pragma once

struct cni_home;
struct common_params;

/* Never returns: ends on SIGTERM. */
_Noreturn void monitor_run(const struct cni_home *home, const struct common_params *common);
