/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A growing string. `s` is NUL-terminated from the first addition on, NULL before. */
#pragma once

#include <stddef.h>

struct strbuf {
	char *s;
	size_t len;
	size_t cap;
};

#define STRBUF_INIT ((struct strbuf){0})
#define auto_strbuf __attribute__((cleanup(strbuf_done))) struct strbuf

void strbuf_done(struct strbuf *sb);
void strbuf_reset(struct strbuf *sb);
void strbuf_addc(struct strbuf *sb, char c);
void strbuf_add(struct strbuf *sb, const char *s);
void strbuf_addn(struct strbuf *sb, const void *p, size_t n);
void strbuf_addf(struct strbuf *sb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Room for n more bytes after len (plus the NUL); returns where they go. Set len yourself. */
char *strbuf_reserve(struct strbuf *sb, size_t n);
/* The string, which the caller frees ("" if nothing was added); sb is empty afterwards. */
char *strbuf_take(struct strbuf *sb);
/* The string, "" if nothing was added. Borrowed. */
const char *strbuf_str(const struct strbuf *sb);
