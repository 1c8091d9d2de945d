/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A watch whose changes come as lines of text, in an answer that does not end. Where it does end it is
 * asked for again, from where it was, so that a server's restart costs no list: after a while that
 * doubles, and until that has failed for too long. A driver's watch has one as its first member.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "store/driver.h"

struct stream;

struct stream_ops {
	int64_t patience_ms; /* for so long one attempt after the other may fail */
	size_t line_max;
	/* Asks for what is after s->resume; may call any of those below. */
	void (*ask)(struct stream *s);
	/* What was asked for is no longer wanted. */
	void (*forget)(struct stream *s);
	/* One line, without its end. false: the watch is gone, or begins again. */
	bool (*line)(struct stream *s, const char *line, size_t len);
};

struct stream {
	struct store_watch w;
	const struct stream_ops *ops;
	int64_t resume; /* all up to here was told; the driver goes on with it */
	/* its own */
	struct event *timer; /* the next attempt */
	struct strbuf in;
	size_t scanned;
	int64_t began_ms;
	unsigned failures;  /* one after the other, */
	int64_t failing_ms; /* since then */
};

/* A driver's watch_start(). */
void stream_start(struct stream *s, const struct stream_ops *ops);
/* A driver's watch_stop(). */
void stream_stop(struct store_watch *w);
/* What came, in pieces of any size. false: the watch is gone, or begins again. */
bool stream_data(struct stream *s, const char *data, size_t len);
/* The server does what it was asked for. */
void stream_well(struct stream *s);
/* true: it begins again, later. false: that has failed for too long, and nothing was done. */
bool stream_retry(struct stream *s);
/* The watch ends; it is gone. */
void stream_end(struct stream *s, int r, const struct err *err);
/* It begins again where the datastore is away, and true is returned; else it ends. */
bool stream_fail(struct stream *s, int r, const struct err *err);
