/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/install/hostdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/vec.h"

#define NAMES_MAX 4096

/* As the host resolves it: an absolute link of the host's stays below root. */
static int open_in_root(int root_fd, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};

	return (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
}

/* A descriptor, or -1 and errno: ENOENT where it is missing and is not to be made. */
static int open_or_make(int root_fd, const char *path, bool make)
{
	auto_free char *part = mem_strdup(path);
	auto_close int parent = dup(root_fd);

	for (char *s = part + 1;; s++) {
		char end = *s;
		int fd;

		if (end != '/' && end != '\0')
			continue;
		*s = '\0';
		fd = open_in_root(root_fd, part);
		if (fd < 0 && errno == ENOENT && make) {
			const char *name = strrchr(part, '/') + 1;

			/* One who starts as a second may make it first. */
			if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
				return -1;
			if (fsync(parent) < 0)
				return -1;
			fd = open_in_root(root_fd, part);
		}
		if (fd < 0)
			return -1;
		*s = end;
		if (end == '\0')
			return fd;
		close(parent);
		parent = fd;
	}
}

int hostdir_open(struct hostdir *d, const char *root, const char *path, bool make, bool dry_run,
	struct err *err)
{
	auto_close int root_fd =
		open(root[0] == '\0' ? "/" : root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	*d = (struct hostdir){.fd = -1, .dry_run = dry_run};
	if (root_fd < 0)
		return err_sys(err, -errno, "open the host's file system, %s", root);
	if (path[0] != '/')
		return err_set(err, -EINVAL, "directory \"%s\": want an absolute path", path);
	make = make && !dry_run;
	d->fd = open_or_make(root_fd, path, make);
	r = d->fd < 0 ? -errno : 0;
	d->path = mem_printf("%s%s", root, path);
	if (r == -ENOENT && !make)
		return 0;
	if (r == -ENOSYS)
		return err_set(
			err, r, "open directory %s: want Linux 5.6 or newer (openat2)", d->path);
	if (r < 0)
		return err_sys(err, r, "open directory %s", d->path);
	if (dry_run || flock(d->fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return err_sys(err, -errno, "lock directory %s", d->path);
	return err_set(err, -EAGAIN,
		"directory %s: another installation is under way there: try again when it has "
		"ended",
		d->path);
}

void hostdir_close(struct hostdir *d)
{
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
	free(take_ptr(d->path));
}

/* ---- files ---- */

/* Maps what is open; what: for messages. */
static int map(int fd, const char *what, struct hostfile *ret, struct err *err)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "read %s", what);
	*ret = (struct hostfile){.kind = HOSTFILE_OTHER, .mode = st.st_mode & 07777};
	if (!S_ISREG(st.st_mode))
		return 0;
	ret->kind = HOSTFILE_REGULAR;
	if (st.st_size == 0)
		return 0;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return err_sys(err, -errno, "read %s", what);
	ret->bytes = p;
	ret->n = (size_t)st.st_size;
	return 0;
}

static int look_link(
	const struct hostdir *d, const char *name, struct hostfile *ret, struct err *err)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(d->fd, name, target, sizeof(target));

	if (n < 0)
		return err_sys(err, -errno, "read link %s/%s", d->path, name);
	*ret = (struct hostfile){.kind = HOSTFILE_LINK, .n = (size_t)n};
	ret->bytes = mem_strndup(target, (size_t)n);
	return 0;
}

int hostdir_look(const struct hostdir *d, const char *name, struct hostfile *ret, struct err *err)
{
	auto_free char *what = mem_printf("%s/%s", d->path, name);
	auto_close int fd = -1;
	struct stat st;

	*ret = (struct hostfile){.kind = HOSTFILE_NONE};
	if (d->fd < 0)
		return 0;
	if (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys(err, -errno, "look at %s", what);
	if (S_ISLNK(st.st_mode))
		return look_link(d, name, ret, err);
	ret->kind = HOSTFILE_OTHER;
	if (!S_ISREG(st.st_mode))
		return 0;
	fd = openat(d->fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, -errno, "open %s", what);
	return map(fd, what, ret, err);
}

bool hostdir_has(const struct hostdir *d, const char *name)
{
	struct hostfile f;
	bool there = hostdir_look(d, name, &f, NULL) < 0 || f.kind != HOSTFILE_NONE;

	hostfile_close(&f);
	return there;
}

int hostfile_open(const char *path, struct hostfile *ret, struct err *err)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	int r;

	*ret = (struct hostfile){.kind = HOSTFILE_NONE};
	if (fd < 0)
		return err_sys(err, -errno, "open %s", path);
	r = map(fd, path, ret, err);
	if (r == 0 && ret->kind != HOSTFILE_REGULAR)
		return err_set(err, -EINVAL, "read %s: want a file", path);
	return r;
}

void hostfile_close(struct hostfile *f)
{
	if (f->kind == HOSTFILE_LINK)
		free((char *)(uintptr_t)f->bytes);
	else if (f->bytes)
		munmap((char *)(uintptr_t)f->bytes, f->n);
	*f = (struct hostfile){.kind = HOSTFILE_NONE};
}

const char *hostfile_digest(struct hostfile *f)
{
	uint8_t sum[SHA256_SIZE];

	if (f->digest[0] != '\0')
		return f->digest;
	sha256(f->bytes ? f->bytes : "", f->n, sum);
	for (size_t i = 0; i < SHA256_SIZE; i++) {
		f->digest[2 * i] = "0123456789abcdef"[sum[i] >> 4];
		f->digest[2 * i + 1] = "0123456789abcdef"[sum[i] & 15];
	}
	return f->digest;
}

bool hostfile_equal(const struct hostfile *a, const struct hostfile *b)
{
	return a->kind == b->kind && a->n == b->n && a->mode == b->mode &&
	       (a->n == 0 || memcmp(a->bytes, b->bytes, a->n) == 0);
}

/* ---- changes ---- */

/* The directory that name is in; where it is missing it is made. */
static int open_parent(const struct hostdir *d, const char *name, bool make, struct err *err)
{
	const char *slash = strrchr(name, '/');
	auto_free char *parent =
		slash ? mem_strndup(name, (size_t)(slash - name)) : mem_strdup(".");
	int fd;

	for (char *s = make && slash ? strchrnul(parent, '/') : NULL; s;
		s = strchrnul(s + 1, '/')) {
		char end = *s;

		*s = '\0';
		if (mkdirat(d->fd, parent, 0755) < 0 && errno != EEXIST)
			return err_sys(err, -errno, "create directory %s/%s", d->path, parent);
		*s = end;
		if (end == '\0')
			break;
	}
	fd = openat(d->fd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_sys(err, -errno, "open directory %s/%s", d->path, parent) : fd;
}

static int sync_parent(const struct hostdir *d, const char *name, struct err *err)
{
	auto_close int fd = open_parent(d, name, false, err);

	if (fd < 0)
		return fd;
	return fsync(fd) < 0 ? err_sys(err, -errno, "sync the directory of %s/%s", d->path, name)
			     : 0;
}

static int write_new(const struct hostdir *d, const char *tmp, const struct hostfile *f)
{
	auto_close int fd = -1;
	int r;

	if (f->kind == HOSTFILE_LINK)
		return symlinkat(f->bytes, d->fd, tmp) < 0 ? -errno : 0;
	fd = openat(d->fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = file_write_all(fd, f->bytes, f->n);
	if (r == 0 && fchmod(fd, f->mode) < 0)
		r = -errno;
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r;
}

int hostdir_put(
	const struct hostdir *d, const char *name, const struct hostfile *f, struct err *err)
{
	auto_free char *tmp = mem_printf("%s" HOSTDIR_TMP, name);
	auto_close int parent = -1;
	int r;

	if (d->dry_run)
		return 0;
	parent = open_parent(d, name, true, err);
	if (parent < 0)
		return parent;
	/* Left behind by one that was killed: whoever has the directory's lock is the only one. */
	if (unlinkat(d->fd, tmp, 0) < 0 && errno != ENOENT)
		return err_sys(err, -errno, "remove %s/%s", d->path, tmp);
	r = write_new(d, tmp, f);
	if (r == 0 && renameat(d->fd, tmp, d->fd, name) < 0)
		r = -errno;
	if (r == 0)
		return fsync(parent) < 0 ? err_sys(err, -errno, "sync directory %s", d->path) : 0;
	unlinkat(d->fd, tmp, 0);
	return err_sys(err, r, "place %s/%s", d->path, name);
}

int hostdir_link(const struct hostdir *d, const char *name, const char *second, struct err *err)
{
	if (d->dry_run)
		return 0;
	if (linkat(d->fd, name, d->fd, second, 0) < 0)
		return err_sys(err, -errno, "link %s/%s as %s", d->path, name, second);
	return sync_parent(d, second, err);
}

int hostdir_rename(const struct hostdir *d, const char *name, const char *to, struct err *err)
{
	if (d->dry_run)
		return 0;
	if (renameat(d->fd, name, d->fd, to) < 0)
		return err_sys(err, -errno, "rename %s/%s to %s", d->path, name, to);
	return sync_parent(d, to, err);
}

int hostdir_unlink(const struct hostdir *d, const char *name, struct err *err)
{
	if (d->dry_run || d->fd < 0)
		return 0;
	if (unlinkat(d->fd, name, 0) < 0)
		return errno == ENOENT ? 0 : err_sys(err, -errno, "remove %s/%s", d->path, name);
	return sync_parent(d, name, err);
}

int hostdir_rmdir(const struct hostdir *d, const char *name, struct err *err)
{
	if (d->dry_run)
		return 0;
	if (unlinkat(d->fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_sys(err, -errno, "remove directory %s/%s", d->path, name);
	return 0;
}

/* ---- the directory ---- */

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int hostdir_list(const struct hostdir *d, struct hostdir_names *ret, struct err *err)
{
	int fd = d->fd < 0 ? -1 : openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct dirent *e;
	DIR *dir;

	if (d->fd < 0)
		return 0;
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		int r = -errno;

		if (fd >= 0)
			close(fd);
		return err_sys(err, r, "list directory %s", d->path);
	}
	for (errno = 0; ret->n < NAMES_MAX && (e = readdir(dir)) != NULL;)
		vec_push(ret, mem_strdup(e->d_name));
	if (errno != 0 || ret->n == NAMES_MAX) {
		int r = errno != 0 ? -errno : -E2BIG;

		closedir(dir);
		hostdir_names_done(ret);
		return r == -E2BIG ? err_set(err, r, "list directory %s: want less than %d files",
					     d->path, NAMES_MAX)
				   : err_sys(err, r, "list directory %s", d->path);
	}
	closedir(dir);
	qsort(ret->v, ret->n, sizeof(*ret->v), compare_names);
	return 0;
}

void hostdir_names_done(struct hostdir_names *names)
{
	char **s;

	vec_for_each (names, s)
		free(*s);
	vec_done(names);
}

void hostdir_say(const struct hostdir *d, const char *fmt, ...)
{
	va_list ap;

	if (d->dry_run)
		fputs("would ", stdout);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}
