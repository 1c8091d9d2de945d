/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/mac.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int mac_parse(const char *s, struct mac *ret, struct err *err)
{
	struct mac m;
	const char *p = s;

	for (size_t i = 0; i < sizeof(m.b); i++, p += 2) {
		if (i > 0 && (*p == '\0' || *p++ != s[2]))
			goto bad;
		if (hex(p[0]) < 0 || hex(p[1]) < 0)
			goto bad;
		m.b[i] = (uint8_t)(hex(p[0]) << 4 | hex(p[1]));
	}
	if (*p != '\0' || (s[2] != ':' && s[2] != '-'))
		goto bad;
	*ret = m;
	return 0;
bad:
	return err_set(
		err, -EINVAL, "\"%.64s\" is not an Ethernet address such as 02:00:00:00:00:01", s);
}

const char *mac_format(const struct mac *m, char buf[static MAC_TEXT_SIZE])
{
	snprintf(buf, MAC_TEXT_SIZE, "%02x:%02x:%02x:%02x:%02x:%02x", m->b[0], m->b[1], m->b[2],
		m->b[3], m->b[4], m->b[5]);
	return buf;
}

bool mac_is_zero(const struct mac *m)
{
	return memcmp(m, &(struct mac){0}, sizeof(*m)) == 0;
}

bool mac_is_multicast(const struct mac *m)
{
	return m->b[0] & 1;
}
