/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The process of margay-cni serve that waits for the datastore, so that no verb has to: it carries out what
 * the journal says, and keeps the node's reserve of addresses filled.
 */
#pragma once

#include <stdint.h>

struct cni_home;

/*
 * Never returns. n_reserve: how many addresses of each family the node holds ahead; gone_after_s: how long
 * another node has to be absent until what it held is given back.
 */
_Noreturn void keeper_run(const struct cni_home *home, uint32_t n_reserve, uint32_t gone_after_s);
