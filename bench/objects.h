/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the drivers put into the datastore, as Margay's programs would write it. */
#pragma once

#include <stdint.h>

#include "store/store.h"

/* A SQLite datastore, made where there is none. */
struct store *objects_open(const char *path);
/* An endpoint of node's with one address (host order), as the CNI plugin writes it: its JSON, and its
 * key, which are the caller's. */
char *objects_endpoint(const char *node, const char *ns, const char *pod, uint32_t ip,
	const char *link, char **ret_key);
/* Writes one of the namespace "default". */
void objects_put_endpoint(
	struct store *st, const char *node, const char *pod, uint32_t ip, const char *link);
/* The endpoint of route i (bench.h). */
void objects_put_route(struct store *st, const char *node, int i);
/* Any object. */
void objects_put(struct store *st, const char *key, const char *json);
