/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SHA3-256 (FIPS 202), for labels that Calico derives by it. Nothing secret rests on it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA3_256_SIZE 32

void sha3_256(const void *p, size_t n, uint8_t ret[static SHA3_256_SIZE]);
