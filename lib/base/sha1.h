/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SHA-1 (FIPS 180-4), for names that Calico derives by it. Nothing secret rests on it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA1_SIZE 20
#define SHA1_HEX_SIZE 41

void sha1(const void *p, size_t n, uint8_t ret[static SHA1_SIZE]);
/* Of a string, as lower-case hexadecimal text; returns ret. */
const char *sha1_hex(const char *s, char ret[static SHA1_HEX_SIZE]);
