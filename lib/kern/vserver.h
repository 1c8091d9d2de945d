/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What names a virtual server, whatever balances it: an address, a port and a protocol. */
#pragma once

#include <stdint.h>

#include "net/ip.h"

/* No padding: comparable and hashable as a whole. */
struct vserver_key {
	uint8_t protocol; /* IPPROTO_TCP, ... */
	struct ip ip;
	uint16_t port;
};
_Static_assert(sizeof(struct vserver_key) == 20, "no padding");

#define VSERVER_KEY_TEXT_SIZE 64
/* "TCP 10.96.0.1:443", "UDP [fd00::a]:53" */
const char *vserver_key_format(
	const struct vserver_key *key, char buf[static VSERVER_KEY_TEXT_SIZE]);
#define vserver_key_str(key) vserver_key_format((key), (char[VSERVER_KEY_TEXT_SIZE]){0})
