/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The number of a generic netlink family. */
#pragma once

#include <stdint.h>

struct err;

/* Loads the family's module where the kernel can. ENOENT: it cannot. */
int genl_resolve(const char *name, uint16_t *ret, struct err *err);
