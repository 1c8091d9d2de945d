/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What Calico has in place of a subnet of host-local's: "usePodCidr" and "usePodCidrIPv6" are the node's own podCIDRs,
 * which Kubernetes gives it.
 */
#pragma once

#include <stdbool.h>

struct call;
struct err;
struct json_t;

/* Which of them a netconf's ipam names. */
void podcidr_wanted(const struct json_t *ipam, bool *ret_v4, bool *ret_v6);

/* Those that the netconf names, as in "10.9.0.0/24,fd00:9::/64"; the caller's. Returns 0 or a code. */
int podcidr_find(struct call *c, char **ret, struct err *err);

/*
 * Puts them there. For a family that is not among them any address stands, as in Calico: verbs other than ADD
 * need none.
 */
void podcidr_replace(struct json_t *ipam, const char *cidrs);
