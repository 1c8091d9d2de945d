/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kern/vserver.h"

#include <netinet/in.h>
#include <stdio.h>

const char *vserver_key_format(
	const struct vserver_key *key, char buf[static VSERVER_KEY_TEXT_SIZE])
{
	const char *proto = key->protocol == IPPROTO_TCP   ? "TCP"
			    : key->protocol == IPPROTO_UDP ? "UDP"
							   : "SCTP";

	snprintf(buf, VSERVER_KEY_TEXT_SIZE, key->ip.family == IP_V6 ? "%s [%s]:%u" : "%s %s:%u",
		proto, ip_str(&key->ip), key->port);
	return buf;
}
