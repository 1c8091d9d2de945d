/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Secrets as files, as Kubernetes mounts them: DIR/NAME/KEY. What was asked for is watched, whether it is
 * there or not, so that one that comes, goes or is exchanged is told. A directory that was watched once
 * stays so, which costs a needless call at most.
 */
#pragma once

#include "base/mem.h"

struct event_base;
struct secrets;

/* changed: something that was asked for may be another one; ask again. */
struct secrets *secrets_new(
	struct event_base *base, const char *dir, void (*changed)(void *arg), void *arg);
void secrets_free(struct secrets *s);
AUTO_DEFINE(secrets, struct secrets *, secrets_free);

/* The text without a newline at its end, borrowed until the next call; NULL: there is none. */
const char *secrets_get(struct secrets *s, const char *name, const char *key);
