/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory and scope. Allocation never fails: running out aborts, because every daemon is
 * level-triggered and a restart re-syncs it. That is legal only because whatever is sized from
 * outside is bounded before it is allocated for.
 *
 * auto_free, auto_close and auto_(fn) release a variable when its scope ends; take_ptr() and
 * take_fd() hand it over instead.
 */
#pragma once

#include <stddef.h>

void *mem_alloc(size_t size) __attribute__((malloc, returns_nonnull, warn_unused_result));
void *mem_zalloc(size_t size) __attribute__((malloc, returns_nonnull, warn_unused_result));
/* n * size, aborts on overflow */
void *mem_realloc_array(void *p, size_t n, size_t size)
	__attribute__((returns_nonnull, warn_unused_result));
char *mem_strdup(const char *s) __attribute__((malloc, returns_nonnull, warn_unused_result));
char *mem_strndup(const char *s, size_t n)
	__attribute__((malloc, returns_nonnull, warn_unused_result));
void *mem_dup(const void *p, size_t size)
	__attribute__((malloc, returns_nonnull, warn_unused_result));
char *mem_printf(const char *fmt, ...)
	__attribute__((format(printf, 1, 2), returns_nonnull, warn_unused_result));

/* Fills p from the kernel's generator. At most 256 bytes, which a signal never interrupts. */
void mem_random(void *p, size_t size);

#define mem_new(type) ((type *)mem_zalloc(sizeof(type)))

void mem_cleanup_free_(void *pp);
void mem_cleanup_close_(const int *fd);

#define auto_free __attribute__((cleanup(mem_cleanup_free_)))
#define auto_close __attribute__((cleanup(mem_cleanup_close_)))

/* Defines the cleanup for a pointer type: AUTO_DEFINE(foo, struct foo *, foo_free) then
 * `auto_(foo) struct foo *x = NULL;` */
#define AUTO_DEFINE(name, type, fn)                     \
	static inline void auto_cleanup_##name(type *p) \
	{                                               \
		if (*p)                                 \
			fn(*p);                         \
	}                                               \
	struct auto_semicolon_
#define auto_(name) __attribute__((cleanup(auto_cleanup_##name)))

#define take_ptr(p)                         \
	({                                  \
		__typeof__(p) taken_ = (p); \
		(p) = NULL;                 \
		taken_;                     \
	})
#define take_fd(fd)                \
	({                         \
		int taken_ = (fd); \
		(fd) = -1;         \
		taken_;            \
	})

#define array_size(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
