/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whole files, read with a bound and written so that a reader sees the old or the new one. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

struct err;

/*
 * Reads all of path, at most max bytes. *ret is NUL-terminated and the caller's to free; *ret_len
 * may be NULL. ENOENT: no such file; EFBIG: longer than max.
 */
int file_read(const char *path, size_t max, char **ret, size_t *ret_len, struct err *err);
int file_read_fd(
	int fd, const char *what, size_t max, char **ret, size_t *ret_len, struct err *err);

/*
 * PATH.tmp beside it, fsync, rename. 1 = written, 0 = it had these bytes already; EAGAIN: another process
 * is writing it.
 */
int file_write_atomic(const char *path, const void *p, size_t n, mode_t mode, struct err *err);

/* All of it, however often that takes. 0 or a negative errno. */
int file_write_all(int fd, const void *bytes, size_t n);

/* One write to an existing file, without creating it: for /proc/sys. dir_fd: AT_FDCWD or a directory. */
int file_poke(int dir_fd, const char *path, const char *value, struct err *err);

/* mkdir -p; an existing directory is success. */
int file_mkdirs(const char *path, mode_t mode, struct err *err);
