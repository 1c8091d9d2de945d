/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/servers.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"

int servers_check(const char *what, const char *url, bool path, const char *instead, size_t *ret_n,
	struct err *err)
{
	const char *host = strncmp(url, "http://", 7) == 0    ? url + 7
			   : strncmp(url, "https://", 8) == 0 ? url + 8
							      : NULL;
	size_t n = strlen(url);

	while (n > 0 && url[n - 1] == '/')
		n--;
	if (strchr(url, '@'))
		return err_set(err, -EINVAL, "%s: a user in an address: %s", what, instead);
	if (!host || host >= url + n || strpbrk(host, "?# ") ||
		(!path && memchr(host, '/', (size_t)(url + n - host))))
		return err_set(err, -EINVAL,
			"%s: \"%s\": want http://HOST:PORT or https://HOST:PORT", what, url);
	*ret_n = n;
	return 0;
}

bool servers_next(const struct servers *s, struct servers_turn *t, int64_t now_ms)
{
	size_t best = SERVERS_MAX;

	for (size_t k = 0; k < s->n; k++) {
		size_t i = (s->first + k) % s->n;

		if (t->tried & 1u << i)
			continue;
		if (s->bad_until_ms[i] <= now_ms) {
			best = i;
			break;
		}
		if (best == SERVERS_MAX || s->bad_until_ms[i] < s->bad_until_ms[best])
			best = i;
	}
	if (best == SERVERS_MAX)
		return false;
	t->at = best;
	t->tried |= 1u << best;
	t->heard_ms = now_ms;
	return true;
}

bool servers_is_last(const struct servers *s, const struct servers_turn *t)
{
	return t->tried == (1u << s->n) - 1;
}

void servers_suspect(struct servers *s, const struct servers_turn *t, int64_t now_ms)
{
	s->bad_until_ms[t->at] = now_ms + SERVERS_BAD_MS;
}

void servers_trust(struct servers *s, const struct servers_turn *t)
{
	s->bad_until_ms[t->at] = 0;
}

bool servers_leave(struct servers *s, const struct servers_turn *t, int64_t now_ms)
{
	bool hangs = now_ms - t->heard_ms > SERVERS_ATTEMPT_MS;

	if (hangs)
		servers_suspect(s, t, now_ms);
	return hangs;
}
