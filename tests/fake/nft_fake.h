/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A kernel without nftables, for scenarios about everything else. */
#pragma once

/* How often it was tried. */
unsigned nft_fake_opens(void);
