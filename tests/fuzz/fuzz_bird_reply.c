/* SPDX-License-Identifier: GPL-2.0-or-later */
/* BIRD's replies: any bytes are refused or give whole lines, the same however they are torn. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "fuzz.h"
#include "svc/bird.h"

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void look(const struct bird_reply *reply)
{
	struct bird_protocols ps;

	check(reply->n > 0 && reply->lines[reply->n - 1].text);
	if (bird_protocols_parse(reply, &ps, NULL) == 0) {
		for (size_t i = 0; i < ps.n; i++)
			check(strlen(ps.v[i].info) <= BIRD_LINE_MAX);
		bird_protocols_done(&ps);
	}
	(void)bird_configure_result(reply, NULL);
}

/* Number of replies, and the last result. */
static size_t replies(const char *data, size_t size, size_t step, int *ret)
{
	struct bird_parser p = BIRD_PARSER_INIT;
	struct err err = ERR_INIT;
	size_t n = 0, used;
	int r = 0;

	for (size_t at = 0; at < size && r >= 0; at += used) {
		struct bird_reply reply;
		size_t len = size - at < step ? size - at : step;

		r = bird_parser_feed(&p, data + at, len, &used, &reply, &err);
		check(used <= len);
		if (r == 1) {
			look(&reply);
			bird_reply_done(&reply);
			n++;
		}
	}
	bird_parser_done(&p);
	*ret = r < 0 ? r : 0;
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int whole, torn;
	size_t n = replies((const char *)data, size, size + 1, &whole);

	check(replies((const char *)data, size, 1, &torn) == n && torn == whole);
	return 0;
}
