/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SHA-256 (FIPS 180-4), for what Calico derives by it. Nothing secret rests on it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32
#define SHA256_HEX_SIZE 65

void sha256(const void *p, size_t n, uint8_t ret[static SHA256_SIZE]);
/* Of a string, as lower-case hexadecimal text; returns ret. */
const char *sha256_hex(const char *s, char ret[static SHA256_HEX_SIZE]);
