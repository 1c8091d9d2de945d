/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The process of margay-cni serve that waits for the datastore, so that no verb has to: it carries out what
 * the journal says, and keeps the node's reserve of addresses filled.
 */
#pragma once

#include <stdint.h>

struct cni_home;

struct keeper_conf {
	uint32_t n_reserve; /* how many addresses of each family the node holds ahead */
	uint32_t
		gone_after_s; /* how long another node is absent until what it held is given back */
	uint32_t garbage_after_s; /* how long an address is nobody's until it is given back */
};

/* Never returns. */
_Noreturn void keeper_run(const struct cni_home *home, const struct keeper_conf *conf);
