/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which cluster a datastore is of. */
#pragma once

#include <stdint.h>

struct err;
struct store;

/* ClusterInformation's clusterGUID, the caller's to free; "" where there is none. 0, or the store's error. */
int cluster_guid(struct store *st, int64_t deadline_ms, char **ret, struct err *err);
