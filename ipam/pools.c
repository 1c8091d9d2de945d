/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ipam/pools.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/ippool.h"
#include "model/meta.h"
#include "model/selector.h"

static json_t *load(const char *text, size_t len, struct err *err)
{
	json_error_t je;
	json_t *j = json_loadb(text, len, 0, &je);

	if (!json_is_object(j)) {
		json_decref(j);
		err_set(err, -EINVAL, "not a JSON object");
		return NULL;
	}
	return j;
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

int reservation_decode(const char *text, size_t len, struct reservation **ret, struct err *err)
{
	json_t *j = load(text, len, err);
	const json_t *a = json_object_get(json_object_get(j, "spec"), "reservedCIDRs"), *e;
	struct reservation *res;
	size_t i;

	if (!j)
		return -EINVAL;
	res = mem_new(struct reservation);
	json_array_foreach (a, i, e) {
		struct prefix p;

		if (json_is_string(e) && prefix_parse_host(json_string_value(e), &p, NULL) == 0) {
			p = prefix_masked(&p);
			vec_push(&res->cidrs, p);
		}
	}
	json_decref(j);
	*ret = res;
	return 0;
}

void reservation_free(struct reservation *res)
{
	if (!res)
		return;
	vec_done(&res->cidrs);
	free(res);
}
