/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Templates by name: NAME.mustache in the first of some directories that has it, so that an operator
 * puts an own one before the one that is installed. Each is read once, when it is first asked for.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/mem.h"

struct err;
struct strbuf;
struct templates;

/* dirs are copied; "" is left out. */
struct templates *templates_new(const char *const *dirs, size_t n_dirs);
void templates_free(struct templates *t);
AUTO_DEFINE(templates, struct templates *, templates_free);

/* Where they are installed with a program: PREFIX/bin/PROGRAM -> PREFIX/share, wherever PREFIX is. The
 * caller's. */
char *templates_beside(const char *program);

/* Appends to out. Strings of the view hold neither '"' nor control characters: EINVAL, as where view
 * and template do not fit. ENOENT: no such template. */
int templates_render(struct templates *t, const char *name, const json_t *view, struct strbuf *out,
	struct err *err);
