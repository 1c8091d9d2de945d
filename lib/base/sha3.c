/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/sha3.h"

#include <string.h>

#define LANES 25
#define RATE 136 /* bytes of each block: 200 - 2 * 32 */

static uint64_t rotl(uint64_t x, unsigned n)
{
	return n ? x << n | x >> (64 - n) : x;
}

/* Theta, then rho and pi, then chi of FIPS 202 section 3.2. */
static void mix(uint64_t a[static LANES])
{
	uint64_t c[5], b[LANES] = {0};
	unsigned x = 1, y = 0;

	for (int i = 0; i < 5; i++)
		c[i] = a[i] ^ a[i + 5] ^ a[i + 10] ^ a[i + 15] ^ a[i + 20];
	for (int i = 0; i < LANES; i++)
		a[i] ^= c[(i + 4) % 5] ^ rotl(c[(i + 1) % 5], 1);
	b[0] = a[0];
	for (unsigned t = 0; t < 24; t++) {
		unsigned next = (2 * x + 3 * y) % 5;

		b[y + 5 * next] = rotl(a[x + 5 * y], (t + 1) * (t + 2) / 2 % 64);
		x = y;
		y = next;
	}
	for (int i = 0; i < LANES; i++)
		a[i] = b[i] ^ (~b[i / 5 * 5 + (i + 1) % 5] & b[i / 5 * 5 + (i + 2) % 5]);
}

/* The round constants come from a shift register, section 3.2.5. */
static void permute(uint64_t a[static LANES])
{
	unsigned lfsr = 1;

	for (int round = 0; round < 24; round++) {
		mix(a);
		for (unsigned j = 0; j < 7; j++) {
			if (lfsr & 1)
				a[0] ^= (uint64_t)1 << ((1u << j) - 1);
			lfsr = lfsr << 1 ^ (lfsr & 0x80 ? 0x171 : 0);
		}
	}
}

static void absorb(uint64_t a[static LANES], const uint8_t block[static RATE])
{
	for (unsigned i = 0; i < RATE; i++)
		a[i / 8] ^= (uint64_t)block[i] << (8 * (i % 8));
	permute(a);
}

void sha3_256(const void *p, size_t n, uint8_t ret[static SHA3_256_SIZE])
{
	const uint8_t *in = p;
	uint64_t a[LANES] = {0};
	uint8_t last[RATE] = {0};

	for (; n >= RATE; n -= RATE, in += RATE)
		absorb(a, in);
	if (n > 0)
		memcpy(last, in, n);
	last[n] = 0x06;
	last[RATE - 1] |= 0x80;
	absorb(a, last);
	for (unsigned i = 0; i < SHA3_256_SIZE; i++)
		ret[i] = (uint8_t)(a[i / 8] >> (8 * (i % 8)));
}
