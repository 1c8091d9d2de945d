/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ethernet addresses as values. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;

struct mac {
	uint8_t b[6];
};

#define MAC_TEXT_SIZE 18

/* Six hexadecimal bytes joined by ':' or '-'. */
int mac_parse(const char *s, struct mac *ret, struct err *err);
const char *mac_format(const struct mac *m, char buf[static MAC_TEXT_SIZE]); /* lower case, ':' */
#define mac_str(m) mac_format((m), (char[MAC_TEXT_SIZE]){0})
bool mac_is_zero(const struct mac *m);
bool mac_is_multicast(const struct mac *m);
