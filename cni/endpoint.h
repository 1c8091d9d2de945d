/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The WorkloadEndpoint that a verb writes, looks at and deletes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/mac.h"
#include "net/prefix.h"

struct call;
struct err;

/* What the stored endpoint says. */
struct endpoint {
	char *container_id, *interface_name, *mac; /* "" where missing */
	struct ip ips[2];			   /* at most one of each family */
	size_t n_ips;
	char *uid, *created; /* NULL where missing */
	int64_t rev;
};

void endpoint_done(struct endpoint *e);

/* ENOENT: there is none. EINVAL: it cannot be decoded; *ret says its revision all the same. */
int endpoint_get(struct call *c, struct endpoint *ret, struct err *err);
/* Creates or replaces it. Returns 0 or a negative errno. */
int endpoint_put(
	struct call *c, const struct ip *ips, size_t n_ips, const struct mac *mac, struct err *err);
/*
 * Deletes it if it is this container's. *ret_ours tells whether it was (or whether there was none),
 * *ret what it said. Returns 0 or a negative errno.
 */
int endpoint_delete(struct call *c, bool *ret_ours, struct endpoint *ret, struct err *err);
