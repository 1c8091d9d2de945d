/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/boot.h"

#include <stdio.h>
#include <time.h>

#include "base/file.h"
#include "base/mem.h"

int64_t boot_uptime_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec;
}

void boot_id(char ret[static BOOT_ID_SIZE])
{
	auto_free char *text = NULL;

	ret[0] = '\0';
	if (file_read("/proc/sys/kernel/random/boot_id", 64, &text, NULL, NULL) == 0)
		snprintf(ret, BOOT_ID_SIZE, "%.36s", text);
}
