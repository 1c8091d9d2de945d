/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside lib/kern, for tests: IPVS's attributes from and to values. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kern/ipvs.h"

struct nlmsghdr;

/* s NULL: its identity alone. */
void ipvs_put_service(
	struct nlmsghdr *nlh, const struct vserver_key *key, const struct ipvs_service *s);
void ipvs_put_dest(struct nlmsghdr *nlh, const struct ipvs_dest *d, bool whole);
/* False where the message is none of ours: by firewall mark, or broken. */
bool ipvs_get_service(
	const struct nlmsghdr *nlh, struct vserver_key *ret_key, struct ipvs_service *ret);
/* af: the service's. */
bool ipvs_get_dest(const struct nlmsghdr *nlh, uint16_t af, struct ipvs_dest *ret);
/* What a verb's result (0 or a negative errno of the kernel's) means to the caller of the verb. */
int ipvs_outcome(uint8_t cmd, int r);
