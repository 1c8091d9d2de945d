/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells that something in a directory was made, written, renamed or removed, by whomever: also by the one
 * who is told, who looks whether it is as it was left.
 */
#pragma once

#include <stdbool.h>

#include "base/mem.h"

struct event_base;
struct watch;

struct watch *watch_new(struct event_base *base, void (*touched)(void *arg), void *arg);
void watch_free(struct watch *w);
AUTO_DEFINE(watch, struct watch *, watch_free);

/* From now on, until the directory is gone; again is nothing. False where it cannot be watched. */
bool watch_add(struct watch *w, const char *dir);
