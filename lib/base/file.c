/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"

int file_read_fd(int fd, const char *what, size_t max, char **ret, size_t *ret_len, struct err *err)
{
	auto_strbuf sb = STRBUF_INIT;

	for (;;) {
		char *to = strbuf_reserve(&sb, 4096);
		ssize_t n = read(fd, to, 4096);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, -errno, "read %s", what);
		if (n == 0)
			break;
		sb.len += (size_t)n;
		if (sb.len > max)
			return err_set(err, -EFBIG, "read %s: longer than %zu bytes", what, max);
	}
	strbuf_addn(&sb, "", 0);
	if (ret_len)
		*ret_len = sb.len;
	*ret = strbuf_take(&sb);
	return 0;
}

int file_read(const char *path, size_t max, char **ret, size_t *ret_len, struct err *err)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, -errno, "open %s", path);
	return file_read_fd(fd, path, max, ret, ret_len, err);
}

int file_write_all(int fd, const void *bytes, size_t n)
{
	const char *p = bytes;

	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -errno;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

static bool same_content(const char *path, const void *p, size_t n)
{
	auto_free char *old = NULL;
	size_t len = 0;

	return file_read(path, n, &old, &len, NULL) == 0 && len == n && memcmp(old, p, n) == 0;
}

/*
 * One name for all writers of a file, so that those who are killed leave one file behind and not one
 * each. Who has its lock may write to it: not after another has renamed it.
 */
static int open_temporary(const char *tmp)
{
	const int flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
	auto_close int fd = open(tmp, flags, 0600);
	struct stat mine, there;

	/* Left behind with its last mode, or by another user. */
	if (fd < 0 && errno == EACCES && unlink(tmp) == 0)
		fd = open(tmp, flags, 0600);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &mine) < 0)
		return -errno;
	if (lstat(tmp, &there) < 0 || there.st_dev != mine.st_dev || there.st_ino != mine.st_ino)
		return -EAGAIN;
	return ftruncate(fd, 0) < 0 ? -errno : take_fd(fd);
}

int file_write_atomic(const char *path, const void *p, size_t n, mode_t mode, struct err *err)
{
	auto_free char *tmp = NULL;
	auto_close int fd = -1;
	int r;

	if (same_content(path, p, n))
		return 0;
	tmp = mem_printf("%s.tmp", path);
	fd = open_temporary(tmp);
	if (fd < 0)
		return err_sys(err, fd, "write %s: create %s", path, tmp);
	r = file_write_all(fd, p, n);
	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(tmp);
		return err_sys(err, r, "write %s", path);
	}
	return 1;
}

int file_poke(int dir_fd, const char *path, const char *value, struct err *err)
{
	auto_close int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return err_sys(err, -errno, "open %s", path);
	r = file_write_all(fd, value, strlen(value));
	if (r < 0)
		return err_sys(err, r, "write \"%s\" to %s", value, path);
	return 0;
}

int file_mkdirs(const char *path, mode_t mode, struct err *err)
{
	auto_free char *p = mem_strdup(path);

	for (char *s = p + 1; *s; s++) {
		if (*s != '/')
			continue;
		*s = '\0';
		if (mkdir(p, mode) < 0 && errno != EEXIST)
			return err_sys(err, -errno, "create directory %s", p);
		*s = '/';
	}
	if (mkdir(p, mode) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "create directory %s", p);
	return 0;
}
