/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SHA-256 (FIPS 180-4), for what Calico derives by it. Nothing secret rests on it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32

void sha256(const void *p, size_t n, uint8_t ret[static SHA256_SIZE]);
