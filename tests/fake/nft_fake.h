/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nftables in memory, behind kern/nft.h: the sets of each table, not the rules. There is one per
 * process, and at first none: opening fails.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Empty; present: it can be opened. */
void nft_fake_reset(bool present);
/* How often it was tried. */
unsigned nft_fake_opens(void);
/* The elements of a set, sorted: "10.244.0.0/16 ..."; of keys their bytes: "117.128" is port 30080. The
 * caller's; NULL: there is no such set. */
char *nft_fake_set(uint16_t family, const char *table, const char *set);
