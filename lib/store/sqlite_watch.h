/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Private to the SQLite driver: how it hears of others' commits. */
#pragma once

#include <stdbool.h>

#include "store/driver.h"

struct sq;

struct sq_watch {
	struct store_watch w;
	bool ready; /* began before the current reading of the tail */
};

void sq_watch_init(struct sq *sq);
void sq_watch_done(struct sq *sq);
/* The connection is closed: watches go on when the next reading of the tail can connect again. */
void sq_watch_drop(struct sq *sq);

/* Of struct store_ops. */
void sq_watch_start(struct store_watch *w);
void sq_watch_stop(struct store_watch *w);
