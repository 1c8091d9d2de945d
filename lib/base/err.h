/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one error idiom.
 *
 * A function that can fail returns 0 (or a count) or a negative errno and takes a `struct err *`
 * last, which may be NULL. The err is a value: it lives on the caller's stack, cannot leak and needs
 * no allocation. It is written only on failure. err_set() makes a message, err_wrap() puts the
 * caller's context in front of it, so that it reads as a path from the outermost attempt inwards.
 *
 * Callers branch on these codes only: ENOENT, EEXIST, ESTALE (re-read and try again), EAGAIN (again
 * now), EINVAL (bad input: do not retry), ENOSPC (pool full), EDQUOT (a limit of one's own), EHOSTUNREACH
 * (store away: back off), EACCES, ETIMEDOUT, ECANCELED. Everything else is logged by whoever stops it.
 */
#pragma once

#define ERR_TEXT_MAX 512

struct err {
	int code;		 /* negative errno, 0 = no error */
	char text[ERR_TEXT_MAX]; /* NUL-terminated, one line, no trailing period */
};

#define ERR_INIT ((struct err){0})

/* Sets code (a negative errno) and text; returns code. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set, and appends ": " and the system's text for -code. */
int err_sys(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "<fmt>: " in front of the text that is there; returns code. */
int err_wrap(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The text, or the system's text for the code where there is none. Borrowed. */
const char *err_text(const struct err *err);
