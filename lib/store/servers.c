/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/servers.h"

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

void servers_leave(struct servers *s, const struct servers_turn *t, int64_t now_ms)
{
	if (now_ms - t->heard_ms > SERVERS_ATTEMPT_MS)
		servers_suspect(s, t, now_ms);
}
