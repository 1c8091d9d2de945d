/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose an address is, by what stands beside it in its block. */
#pragma once

#include <stdint.h>

struct err;
struct store;

/*
 * The pod of the handle's addresses, the caller's to free; NULL, both: of none, or there is no such
 * handle. Returns 0 or a negative errno of the datastore.
 */
int recall_pod(struct store *st, const char *handle, int64_t deadline_ms, char **ret_namespace,
	char **ret_pod, struct err *err);
