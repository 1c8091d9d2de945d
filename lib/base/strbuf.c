/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/strbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void strbuf_done(struct strbuf *sb)
{
	free(sb->s);
	*sb = STRBUF_INIT;
}

void strbuf_reset(struct strbuf *sb)
{
	sb->len = 0;
	if (sb->s)
		sb->s[0] = '\0';
}

char *strbuf_reserve(struct strbuf *sb, size_t n)
{
	size_t want = sb->len + n + 1;

	if (want > sb->cap) {
		sb->cap = want < 64 ? 64 : want + want / 2;
		sb->s = mem_realloc_array(sb->s, sb->cap, 1);
	}
	return sb->s + sb->len;
}

void strbuf_addn(struct strbuf *sb, const void *p, size_t n)
{
	char *to = strbuf_reserve(sb, n);

	if (n)
		memcpy(to, p, n);
	sb->len += n;
	sb->s[sb->len] = '\0';
}

void strbuf_addc(struct strbuf *sb, char c)
{
	strbuf_addn(sb, &c, 1);
}

void strbuf_add(struct strbuf *sb, const char *s)
{
	strbuf_addn(sb, s, strlen(s));
}

void strbuf_addf(struct strbuf *sb, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	strbuf_reserve(sb, (size_t)n);
	va_start(ap, fmt);
	vsnprintf(sb->s + sb->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	sb->len += (size_t)n;
}

char *strbuf_take(struct strbuf *sb)
{
	char *s = sb->s ? sb->s : mem_strdup("");

	*sb = STRBUF_INIT;
	return s;
}

const char *strbuf_str(const struct strbuf *sb)
{
	return sb->s ? sb->s : "";
}
