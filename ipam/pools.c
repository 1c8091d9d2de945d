/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ipam/pools.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/ippool.h"
#include "model/meta.h"
#include "model/selector.h"

bool pool_is_named(const struct ippool *p, const char *name)
{
	struct prefix cidr;

	if (strcmp(p->meta.name, name) == 0)
		return true;
	if (prefix_parse(name, &cidr, NULL) < 0)
		return false;
	cidr = prefix_masked(&cidr);
	return prefix_equal(&cidr, &p->cidr);
}

bool pool_allows(const struct ippool *p, enum ipam_use use)
{
	switch (use) {
	case IPAM_USE_WORKLOAD:
		return p->allowed_uses & POOL_WORKLOAD;
	case IPAM_USE_TUNNEL:
		return p->allowed_uses & POOL_TUNNEL;
	case IPAM_USE_LOADBALANCER:
		return p->allowed_uses & POOL_LOADBALANCER;
	}
	return false;
}

bool pool_selector_is_all(const char *selector)
{
	return !selector || selector[strspn(selector, " \t")] == '\0' ||
	       strcmp(selector, "all()") == 0;
}

bool pool_selects(const char *selector, const struct labels *labels)
{
	auto_(selector) struct selector *s = NULL;

	return selector_parse(selector, &s, NULL) == 0 && selector_matches(s, labels);
}
