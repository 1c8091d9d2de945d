/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The WorkloadEndpoint that a verb writes, looks at and deletes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/wep.h"
#include "net/mac.h"
#include "net/prefix.h"

struct call;
struct err;
struct store;
struct pod_wants;

/* The endpoint's key, for c->wep_key. EINVAL: its parts make no name. */
int endpoint_key(const struct call *c, char **ret, struct err *err);

/* Whether there can be one with this key, or NULL: on Kubernetes it is a Pod with its eth0. */
bool endpoint_is_possible(const struct store *st, const char *key);
/* ENOENT: there is none. EINVAL: it cannot be decoded; *ret_rev is its revision all the same. */
int endpoint_get(struct call *c, struct wep **ret, int64_t *ret_rev, struct err *err);
/* The JSON of what endpoint_put() would write where nobody has written before; the caller's to free. */
char *endpoint_json(const struct call *c, const struct pod_wants *wants, const struct ip *ips,
	size_t n_ips, const struct mac *mac);
/* Creates or replaces it, where it is possible. Returns 0 or a negative errno. */
int endpoint_put(struct call *c, const struct pod_wants *wants, const struct ip *ips, size_t n_ips,
	const struct mac *mac, struct err *err);
/*
 * *ret_ours: there is one that says that it is this container's, and c->veth is the device that it names.
 * Returns 0 or a negative errno; that there is none, or that it cannot be decoded, is none.
 */
int endpoint_find(struct call *c, bool *ret_ours, struct err *err);
/*
 * Deletes it unless it says that it is another container's, or cannot be decoded: whose it is, is not
 * known then. Returns 0 or a negative errno.
 */
int endpoint_delete(struct call *c, struct err *err);

/*
 * Writes an endpoint that was made before (endpoint_json()), over what others have put there. ENOENT: the Pod
 * that it would be of is not there.
 */
int endpoint_write(
	struct store *st, const char *key, const char *json, int64_t deadline_ms, struct err *err);
/* As endpoint_delete(), by its key; NULL is none. */
int endpoint_remove(struct store *st, const char *key, const char *container_id,
	int64_t deadline_ms, struct err *err);
