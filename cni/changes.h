/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tells the keeper, from the monitor's event loop, when pools or reservations are changed. */
#pragma once

struct changes;
struct cni_home;
struct store;

/* Both are borrowed; st has an event loop. */
struct changes *changes_new(struct store *st, const struct cni_home *home);
void changes_free(struct changes *c); /* NULL is harmless */
