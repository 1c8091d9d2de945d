/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes BIRD run a configuration, and knows whether it does.
 *
 *	write the tree beside -> "configure check" -> rename into place, top file last
 *	  -> "configure" -> "configure status" until done -> "eval margay_generation"
 *
 * What is in place was accepted by a BIRD before, so that BIRD's next start succeeds with it. While BIRD
 * is away nothing new is put there, but what it ran last is put back where it was changed; if that is
 * not known, a file that BIRD cannot start with is replaced by a minimal one, and so it is, in any case,
 * after BIRD has started three times in vain, for one of another version may read another language.
 * Files that have the bytes already are not written, and a BIRD that runs them is not reloaded. What
 * fails or is refused is tried again, ever more rarely, and at once when it or BIRD is another one; one
 * that BIRD went away over, at once only when it or BIRD's version is another. A BIRD that does not answer
 * in time is not away: it may have just loaded what is in place, which stays.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "svc/bird.h"

struct apply;
struct event_base;

#define APPLY_TOP "bird.conf"

struct apply_file {
	const char *name; /* in the directory */
	const char *text;
	size_t len;
};

struct apply_ops {
	/* BIRD answers: render for this version. */
	void (*bird_up)(void *arg, const struct bird_version *v);
	/* apply_state() has changed. */
	void (*state)(void *arg);
};

/* ctl_path: BIRD's socket; dir: its configuration's directory. */
struct apply *apply_new(struct event_base *base, const char *ctl_path, const char *dir,
	const struct apply_ops *ops, void *arg);
void apply_free(struct apply *a);
AUTO_DEFINE(apply, struct apply *, apply_free);

/* What shall be run; APPLY_TOP is the last file. generation: what "eval margay_generation" gives. */
void apply_want(struct apply *a, const struct apply_file *files, size_t n, uint32_t generation);
/* BIRD runs what is wanted. */
bool apply_is_done(const struct apply *a);
/* What is waited for or wrong. Borrowed. */
const char *apply_state(const struct apply *a);
/* How often a configuration was loaded, and refused. */
const uint64_t *apply_n_loaded(const struct apply *a);
const uint64_t *apply_n_refused(const struct apply *a);
/* NULL while it is away. */
const struct bird_version *apply_bird(const struct apply *a);
/*
 * Has BIRD export anew to this protocol, or to those that match a "PATTERN" in quotes. While BIRD is away
 * it is kept until BIRD is back, and again where BIRD went before it had answered. APPLY_SETTLED: a second
 * after BIRD runs what is wanted, so that what follows from it has come about in BIRD and in the kernel.
 */
enum apply_when { APPLY_AT_ONCE, APPLY_SETTLED };
void apply_reload_out(struct apply *a, const char *protocols, enum apply_when when);
