/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static void *or_abort(void *p)
{
	if (!p) {
		fputs("out of memory\n", stderr);
		abort();
	}
	return p;
}

void *mem_alloc(size_t size)
{
	return or_abort(malloc(size ? size : 1));
}

void *mem_zalloc(size_t size)
{
	return or_abort(calloc(1, size ? size : 1));
}

void *mem_realloc_array(void *p, size_t n, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(n, size, &total))
		return or_abort(NULL);
	return or_abort(realloc(p, total ? total : 1));
}

char *mem_strdup(const char *s)
{
	return or_abort(strdup(s));
}

char *mem_strndup(const char *s, size_t n)
{
	return or_abort(strndup(s, n));
}

void *mem_dup(const void *p, size_t size)
{
	void *copy = mem_alloc(size);

	if (size)
		memcpy(copy, p, size);
	return copy;
}

char *mem_printf(const char *fmt, ...)
{
	va_list ap;
	char *s = NULL;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	return or_abort(s);
}

void mem_cleanup_free_(void *pp)
{
	free(*(void **)pp);
}

void mem_cleanup_close_(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

void mem_random(void *p, size_t size)
{
	if (getrandom(p, size, 0) != (ssize_t)size)
		abort();
}
