/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"

#define RETRY_MS 100   /* the first of the waits; each is up to twice as long, by chance */
#define QUIET_MS 60000 /* one that ran for so long was well */

void stream_end(struct stream *s, int r, const struct err *err)
{
	stream_stop(&s->w);
	store_watch_end(&s->w, r, err);
}

bool stream_retry(struct stream *s)
{
	int64_t now = clock_mono_ms();
	uint32_t ms;

	if (now - s->began_ms > QUIET_MS)
		s->failures = 0;
	if (!s->failures)
		s->failing_ms = now;
	else if (now - s->failing_ms >= s->ops->patience_ms)
		return false;
	s->ops->forget(s);
	strbuf_reset(&s->in);
	s->scanned = 0;
	ms = RETRY_MS << s->failures++;
	store_arm(s->timer, ms + store_random(ms));
	return true;
}

bool stream_fail(struct stream *s, int r, const struct err *err)
{
	if ((r == -EHOSTUNREACH || r == -ETIMEDOUT) && stream_retry(s))
		return true;
	stream_end(s, r, err);
	return false;
}

void stream_well(struct stream *s)
{
	s->failures = 0;
}

bool stream_data(struct stream *s, const char *data, size_t len)
{
	struct strbuf in;
	size_t at = 0;
	char *end;

	strbuf_addn(&s->in, data, len);
	/* Its own while lines are told: the watch may go meanwhile. */
	in = s->in;
	s->in = STRBUF_INIT;
	while ((end = memchr(in.s + at + s->scanned, '\n', in.len - at - s->scanned))) {
		size_t n = (size_t)(end - (in.s + at));

		s->scanned = 0;
		if (!s->ops->line(s, in.s + at, n)) {
			strbuf_done(&in);
			return false;
		}
		at += n + 1;
	}
	memmove(in.s, in.s + at, in.len - at);
	in.len -= at;
	s->in = in;
	s->scanned = in.len;
	if (in.len > s->ops->line_max) {
		struct err err = ERR_INIT;
		int r = err_set(&err, -EHOSTUNREACH,
			"datastore %s: watching %s: a line of more than %zu bytes", s->w.st->name,
			s->w.prefix, s->ops->line_max);

		stream_end(s, r, &err);
		return false;
	}
	return true;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct stream *s = arg;

	(void)fd;
	(void)what;
	s->began_ms = clock_mono_ms();
	s->ops->ask(s);
}

void stream_start(struct stream *s, const struct stream_ops *ops)
{
	s->ops = ops;
	s->resume = s->w.rev;
	s->timer = evtimer_new(s->w.st->base, on_timer, s);
	if (!s->timer)
		abort();
	store_arm(s->timer, 0);
}

void stream_stop(struct store_watch *w)
{
	struct stream *s = container_of(w, struct stream, w);

	s->ops->forget(s);
	event_free(s->timer);
	strbuf_done(&s->in);
}
