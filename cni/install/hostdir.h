/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A directory of the host's, as installation sees it: files in it are whole at all times, and everything
 * that is changed is on the disk before the next change begins.
 *
 * Names may be in directories below. In a dry run nothing is changed; what is done, or would be, is told
 * on stdout, a line each.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/sha256.h"

struct err;

/* Of what is being written: an extension that no runtime reads. */
#define HOSTDIR_TMP ".margay-tmp"

struct hostdir {
	int fd;	    /* -1: there is none */
	char *path; /* as this process sees it, for messages */
	bool dry_run;
};

/*
 * path is absolute, and the host's, whose file system is seen at root ("": it is this process's); links in
 * it lead where they lead on the host. Where it is missing it is made with its parents, or, without make
 * and in a dry run, seen as empty. It is locked until it is closed: EAGAIN, another process has it.
 */
int hostdir_open(struct hostdir *d, const char *root, const char *path, bool make, bool dry_run,
	struct err *err);
void hostdir_close(struct hostdir *d);

enum hostfile_kind { HOSTFILE_NONE, HOSTFILE_REGULAR, HOSTFILE_LINK, HOSTFILE_OTHER };

/* What a name is; bytes are a file's, or a link's target. A file's may change while it is written to. */
struct hostfile {
	enum hostfile_kind kind;
	mode_t mode; /* permissions */
	const char *bytes;
	size_t n;
	char digest[SHA256_HEX_SIZE]; /* once hostfile_digest() was asked */
};

/* That nothing has the name is no error. */
int hostdir_look(const struct hostdir *d, const char *name, struct hostfile *ret, struct err *err);
/* Something has the name, or what it is cannot be told. */
bool hostdir_has(const struct hostdir *d, const char *name);
/* As hostdir_look() of any file, through links; ENOENT. */
int hostfile_open(const char *path, struct hostfile *ret, struct err *err);
void hostfile_close(struct hostfile *f);
/* The bytes' SHA-256. Borrowed. */
const char *hostfile_digest(struct hostfile *f);
bool hostfile_equal(const struct hostfile *a, const struct hostfile *b);

/* Puts a file or a link there, in place of what has the name, and makes the directories that it is in. */
int hostdir_put(
	const struct hostdir *d, const char *name, const struct hostfile *f, struct err *err);
/* A second name for what name is; EEXIST. */
int hostdir_link(const struct hostdir *d, const char *name, const char *second, struct err *err);
/* In place of what has the other name. */
int hostdir_rename(const struct hostdir *d, const char *name, const char *to, struct err *err);
/* ENOENT is success. */
int hostdir_unlink(const struct hostdir *d, const char *name, struct err *err);
/* ENOENT is success; ENOTEMPTY is an error. */
int hostdir_rmdir(const struct hostdir *d, const char *name, struct err *err);

struct hostdir_names {
	char **v;
	size_t n, cap; /* as VEC(char *) */
};

/* The names in it, in the order of their bytes; ret is empty before, and hostdir_names_done() is for it. */
int hostdir_list(const struct hostdir *d, struct hostdir_names *ret, struct err *err);
void hostdir_names_done(struct hostdir_names *names);

/* "place /opt/cni/bin/margay", and "would ..." in a dry run. */
void hostdir_say(const struct hostdir *d, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
