/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What margay-cni is made of: this program, its loader and every library that it runs with. */
#pragma once

#include <stddef.h>

struct err;
struct place;
struct release;

/* Loads what it would load later. Fails where it was itself started through its loader. */
int release_collect(struct release **ret, struct err *err);
void release_free(struct release *rl);

/* "margay.d.0123456789abcdef", another one for other content. Borrowed. */
const char *release_name(const struct release *rl);

/* Wants its files there, and the link last (layout.h). rl must outlive p. */
void release_want(const struct release *rl, struct place *p);
