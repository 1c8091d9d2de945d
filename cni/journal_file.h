/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file of lines "CHECKSUM JSON" that processes share, each appended to it under a lock and synced before the lock
 * is let go. What a crash has left unfinished at its end was told to nobody, and is cut off. What the lines mean is
 * the reader's: it is told each of them once and in their order, those that are appended here as well.
 *
 * All of it happens under the lock, which is a file of its own beside it, as this one is replaced when it has grown.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct err;
struct strbuf;
struct journal_file;

struct journal_reader {
	bool (*line)(void *arg, const json_t *line); /* false: it is none that is known */
	void (*forget)(
		void *arg); /* all that was told: it is another file, which is read from its beginning */
	void *arg;
};

/* DIR/journal and DIR/lock. Reads nothing yet. ENOENT: there is none yet, and make is false. */
int journal_file_open(const char *dir, bool make, const struct journal_reader *reader,
	struct journal_file **ret, struct err *err);
void journal_file_close(struct journal_file *f);
const char *journal_file_path(const struct journal_file *f); /* borrowed */

/*
 * Waits for the lock, and reads what others have appended. ETIMEDOUT: another process has it for too long; EIO: the
 * file is damaged, shorter than it was in this boot, or of a newer version. Where it fails, it has not got it.
 */
int journal_file_lock(struct journal_file *f, struct err *err);
void journal_file_unlock(struct journal_file *f);
/* Bytes that have been read. */
size_t journal_file_size(const struct journal_file *f);
/*
 * The disk has room for half a MB more of it or up to one, which others' files do not get: for lines that are to be
 * written when it is full. The others are written after this alone. ENOSPC.
 */
int journal_file_reserve(struct journal_file *f, struct err *err);
/* It is on the disk, and the reader has been told, or it is not there. EFBIG: it is too long for a line. */
int journal_file_append(struct journal_file *f, json_t *line_take, struct err *err);
/* In place of all lines, those of text, which others will read. */
int journal_file_replace(struct journal_file *f, const struct strbuf *text, struct err *err);
/* To such a text. */
void journal_file_add_line(struct strbuf *text, json_t *line_take);
