/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/journal_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/strbuf.h"
#include "cni/boot.h"
#include "model/json.h"

enum {
	SUM_LEN = 16,		   /* hexadecimal digits of the checksum before each line's JSON */
	PIECE = 1024 * 1024,	   /* bytes that are read at once */
	RECORD_MAX = 8 * PIECE,	   /* bytes of a line that is appended */
	READ_MAX = 2 * RECORD_MAX, /* bytes of one that is read */
	LOCK_MS = 20000,	   /* how long it is waited for */
	ROOM = PIECE, /* bytes of the disk that are kept for what is to be written on a full one */
};

struct journal_file {
	struct journal_reader reader;
	char *dir, *path;
	int lock_fd, fd;
	ino_t ino;
	off_t size;    /* what has been read of it */
	bool roomless; /* its file system keeps no room for it, or does not say so */
	char boot[BOOT_ID_SIZE];
};

/*
 * In the lock's file: how much of which file was on the disk when it was appended to last. A file that has fewer bytes
 * is refused, by who has read more of it and by who has not alike: a take may be missing, and with it the address of a
 * pod that runs would be free. Of another boot it says nothing: no pod has lived through that, and a disk may lose what
 * it was told to keep.
 */
struct mark {
	char boot[BOOT_ID_SIZE];
	uint64_t ino, size;
};

int journal_file_open(const char *dir, bool make, const struct journal_reader *reader,
	struct journal_file **ret, struct err *err)
{
	auto_free char *lock_path = mem_printf("%s/lock", dir);
	struct journal_file *f;
	int lock_fd, r = make ? file_mkdirs(dir, 0700, err) : 0;

	if (r < 0)
		return r;
	lock_fd = open(lock_path, O_RDWR | (make ? O_CREAT : 0) | O_CLOEXEC, 0600);
	if (lock_fd < 0)
		return err_sys(err, -errno, "%s", lock_path);
	f = mem_new(struct journal_file);
	f->reader = *reader;
	f->dir = mem_strdup(dir);
	f->path = mem_printf("%s/journal", dir);
	f->lock_fd = lock_fd;
	f->fd = -1;
	boot_id(f->boot);
	*ret = f;
	return 0;
}

void journal_file_close(struct journal_file *f)
{
	if (!f)
		return;
	if (f->fd >= 0)
		close(f->fd);
	close(f->lock_fd);
	free(f->dir);
	free(f->path);
	free(f);
}

const char *journal_file_path(const struct journal_file *f)
{
	return f->path;
}

size_t journal_file_size(const struct journal_file *f)
{
	return (size_t)f->size;
}

static void checksum(const char *text, size_t len, char ret[static SUM_LEN + 1])
{
	uint8_t sum[SHA256_SIZE];

	sha256(text, len, sum);
	for (size_t i = 0; i < SUM_LEN / 2; i++)
		snprintf(ret + 2 * i, 3, "%02x", sum[i]);
}

void journal_file_add_line(struct strbuf *text, json_t *line_take)
{
	auto_free char *json = model_json_dump(line_take);
	char sum[SUM_LEN + 1];

	checksum(json, strlen(json), sum);
	strbuf_addf(text, "%s %s\n", sum, json);
	json_decref(line_take);
}

/* A line without its end; NULL: it is not whole. */
static json_t *line_parse(const char *line, size_t len)
{
	char sum[SUM_LEN + 1];

	if (len < SUM_LEN + 2 || line[SUM_LEN] != ' ')
		return NULL;
	checksum(line + SUM_LEN + 1, len - SUM_LEN - 1, sum);
	if (memcmp(line, sum, SUM_LEN) != 0)
		return NULL;
	return json_loadb(line + SUM_LEN + 1, len - SUM_LEN - 1, 0, NULL);
}

/* Where it cannot be, the last one is there, which asks for less. */
static void set_mark(const struct journal_file *f)
{
	struct mark m = {.ino = f->ino, .size = (uint64_t)f->size};

	memcpy(m.boot, f->boot, sizeof(m.boot));
	if (pwrite(f->lock_fd, &m, sizeof(m), 0) < 0)
		log_debug("%s/lock: %s", f->dir, strerror(errno));
}

/* How much it has to have at least. */
static off_t marked_size(const struct journal_file *f)
{
	struct mark m;

	if (pread(f->lock_fd, &m, sizeof(m), 0) != (ssize_t)sizeof(m) || m.ino != f->ino ||
		f->boot[0] == '\0' || memcmp(m.boot, f->boot, sizeof(m.boot)) != 0)
		return 0;
	return (off_t)m.size;
}

static int damaged(const struct journal_file *f, off_t at, struct err *err)
{
	return err_set(err, -EIO,
		"%s: it is damaged at byte %jd, and there are good lines after that: restore it, or "
		"move it away and restart the pods of this node",
		f->path, (intmax_t)at);
}

static int lost(const struct journal_file *f, off_t has, off_t had, struct err *err)
{
	return err_set(err, -EIO,
		"%s: it has %jd good bytes, and has had %jd: what running pods have may be missing in it: "
		"restore it, or move it away and restart the pods of this node",
		f->path, (intmax_t)has, (intmax_t)had);
}

/*
 * The whole lines of text, which is what the file has from byte at on. *bad: one of them, or of those before, is not
 * good. How many bytes they are, or a negative errno.
 */
static ssize_t tell_lines(
	struct journal_file *f, const struct strbuf *text, off_t at, bool *bad, struct err *err)
{
	size_t done = 0;
	const char *end;

	for (; (end = memchr(text->s + done, '\n', text->len - done));
		done = (size_t)(end - text->s) + 1) {
		auto_(json) json_t *line =
			line_parse(text->s + done, (size_t)(end - text->s) - done);

		if (line && *bad)
			return damaged(f, f->size, err);
		if (line && !f->reader.line(f->reader.arg, line))
			return err_set(err, -EIO,
				"%s: the line at byte %jd is of a newer version, or none: install "
				"that version, or move the file away and restart the pods of this node",
				f->path, (intmax_t)f->size);
		*bad |= !line;
		if (line)
			f->size = at + (end - text->s) + 1;
	}
	return (ssize_t)done;
}

/* From f->size to end. What is behind the last good line was told to nobody, unless least says otherwise. */
static int read_lines(struct journal_file *f, off_t end, off_t least, struct err *err)
{
	auto_strbuf text = STRBUF_INIT; /* that is not told yet */
	off_t at = f->size;		/* where it begins */
	bool bad = false;

	while (at + (off_t)text.len < end) {
		size_t left = (size_t)(end - at) - text.len, want = left < PIECE ? left : PIECE;
		ssize_t n = pread(f->fd, strbuf_reserve(&text, want), want, at + (off_t)text.len);

		if (n < 0)
			return err_sys(err, -errno, "%s", f->path);
		if (n == 0)
			break;
		text.len += (size_t)n;
		n = tell_lines(f, &text, at, &bad, err);
		if (n < 0)
			return (int)n;
		if (n == 0 && text.len > READ_MAX) { /* no line is as long */
			bad = true;
			n = (ssize_t)text.len;
		}
		at += n;
		text.len -= (size_t)n;
		memmove(text.s, text.s + n, text.len);
	}
	if (f->size < least)
		return lost(f, f->size, least, err);
	if ((bad || text.len > 0) && ftruncate(f->fd, f->size) < 0)
		return err_sys(err, -errno, "%s: cutting off its end", f->path);
	return 0;
}

/* A name in the directory is there after a power cut only then. */
static int sync_dir(const struct journal_file *f, struct err *err)
{
	auto_close int fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? err_sys(err, -errno, "%s", f->dir) : 0;
}

static int reopen(struct journal_file *f, struct err *err)
{
	const int flags = O_RDWR | O_APPEND | O_CLOEXEC;
	struct stat st;

	if (f->fd >= 0)
		close(f->fd);
	f->size = 0;
	f->roomless = false;
	f->reader.forget(f->reader.arg);
	f->fd = open(f->path, flags);
	if (f->fd < 0 && errno == ENOENT) {
		f->ino = 0; /* a new one may get the number of one that was deleted */
		set_mark(f);
		f->fd = open(f->path, flags | O_CREAT, 0600);
	}
	if (f->fd < 0 || fstat(f->fd, &st) < 0)
		return err_sys(err, -errno, "%s", f->path);
	f->ino = st.st_ino;
	return st.st_size == 0 ? sync_dir(f, err) : 0;
}

static int catch_up(struct journal_file *f, struct err *err)
{
	struct stat st;
	off_t least;
	int r;

	if (f->fd < 0 || stat(f->path, &st) < 0 || st.st_ino != f->ino) {
		r = reopen(f, err);
		if (r < 0)
			return r;
	}
	if (fstat(f->fd, &st) < 0)
		return err_sys(err, -errno, "%s", f->path);
	least = marked_size(f);
	if (st.st_size < least || st.st_size < f->size)
		return lost(f, st.st_size, least < f->size ? f->size : least, err);
	return st.st_size > f->size ? read_lines(f, st.st_size, least, err) : 0;
}

int journal_file_lock(struct journal_file *f, struct err *err)
{
	const struct timespec pause = {.tv_nsec = 200 * 1000};
	const int64_t until = clock_mono_ms() + LOCK_MS;
	int r;

	/* Nobody has it for longer than the disk takes, but who is stopped. */
	while (flock(f->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_sys(err, -errno, "%s/lock", f->dir);
		if (clock_mono_ms() >= until)
			return err_set(err, -ETIMEDOUT,
				"%s/lock: another process has it for %d s: see which with fuser, and end "
				"it",
				f->dir, LOCK_MS / 1000);
		nanosleep(&pause, NULL);
	}
	r = catch_up(f, err);
	if (r < 0)
		flock(f->lock_fd, LOCK_UN);
	return r;
}

void journal_file_unlock(struct journal_file *f)
{
	flock(f->lock_fd, LOCK_UN);
}

/* Who cuts off the end gives back what is behind it, whichever process that is: so the file itself is asked. */
static bool has_room(const struct journal_file *f)
{
	struct stat st;

	return fstat(f->fd, &st) == 0 && (off_t)st.st_blocks * 512 >= f->size + ROOM / 2;
}

int journal_file_reserve(struct journal_file *f, struct err *err)
{
	int r;

	/* Not each time: it is a change of the file to who watches it. */
	if (f->roomless || has_room(f))
		return 0;
	do
		r = fallocate(f->fd, FALLOC_FL_KEEP_SIZE, f->size, ROOM);
	while (r < 0 && errno == EINTR);
	/* Not every file system can: there it is as the disk will have it. */
	if (r < 0 && errno != EOPNOTSUPP)
		return err_sys(err, -errno,
			"%s: room for %d bytes, to write down which pods end when the disk is full",
			f->path, ROOM);
	f->roomless = !has_room(f);
	return 0;
}

int journal_file_append(struct journal_file *f, json_t *line_take, struct err *err)
{
	auto_(json) json_t *line = line_take;
	auto_strbuf text = STRBUF_INIT;
	ssize_t n;

	journal_file_add_line(&text, json_incref(line));
	if (text.len > RECORD_MAX)
		return err_set(err, -EFBIG, "%s: a line of %zu bytes, want at most %d", f->path,
			text.len, RECORD_MAX);
	n = write(f->fd, text.s, text.len);
	if (n != (ssize_t)text.len || fdatasync(f->fd) < 0) {
		int e = n >= 0 && n != (ssize_t)text.len ? ENOSPC : errno;

		/* What cannot be cut off is not to be appended to: it is read anew, and then it is. */
		if (ftruncate(f->fd, f->size) < 0) {
			close(f->fd);
			f->fd = -1;
		}
		return err_sys(err, -e, "%s", f->path);
	}
	f->size += n;
	set_mark(f);
	(void)f->reader.line(f->reader.arg, line);
	return 0;
}

int journal_file_replace(struct journal_file *f, const struct strbuf *text, struct err *err)
{
	int r = file_write_atomic(f->path, text->s, text->len, 0600, err);

	r = r < 0 ? r : sync_dir(f, err) ?: catch_up(f, err);
	if (r == 0)
		set_mark(f);
	return r;
}
