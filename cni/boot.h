/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The clock that nobody sets, and which boot it counts from: it goes on while the machine sleeps. */
#pragma once

#include <stdint.h>

#define BOOT_ID_SIZE 40

int64_t boot_uptime_s(void);
/* "" where the kernel does not say. */
void boot_id(char ret[static BOOT_ID_SIZE]);
