/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What plans ask the view for, by what it is instead of by its key. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/vec.h"
#include "ipam/block.h"
#include "ipam/plan.h"
#include "ipam/pools.h"
#include "ipam/request.h"
#include "model/ipam.h"
#include "model/ippool.h"
#include "model/key.h"
#include "model/kind.h"
#include "model/node.h"

int plan_get_block(struct ipam_request *rq, const struct prefix *cidr, struct slot **ret)
{
	char key[IPAM_KEY_SIZE];

	return view_get(&rq->view, ipam_key_block(cidr, key), SLOT_BLOCK, ret);
}

int plan_get_affinity(
	struct ipam_request *rq, const char *host, const struct prefix *cidr, struct slot **ret)
{
	char key[IPAM_KEY_SIZE];

	return view_get(&rq->view, ipam_key_affinity(host, cidr, key), SLOT_AFFINITY, ret);
}

int plan_get_handle(struct ipam_request *rq, const char *handle, struct slot **ret)
{
	char key[IPAM_KEY_SIZE];

	return view_get(&rq->view, ipam_key_handle(handle, key), SLOT_HANDLE, ret);
}

int slot_check(struct slot *s, struct err *err)
{
	if (!slot_is_bad(s))
		return 0;
	if (err)
		*err = s->bad;
	return s->bad.code;
}

int plan_read_block(
	struct ipam_request *rq, const struct prefix *cidr, struct slot **ret, struct err *err)
{
	return plan_get_block(rq, cidr, ret) ?: slot_check(*ret, err);
}

int plan_read_handle(
	struct ipam_request *rq, const char *handle, struct slot **ret, struct err *err)
{
	return plan_get_handle(rq, handle, ret) ?: slot_check(*ret, err);
}

int plan_get_config(struct ipam_request *rq, struct ipam_config *ret, struct err *err)
{
	struct slot *s;
	int r = view_get(&rq->view, IPAM_KEY_CONFIG, SLOT_CONFIG, &s);

	if (r == 0)
		r = slot_check(s, err);
	if (r != 0)
		return r;
	*ret = slot_config(s) ? *slot_config(s) : IPAM_CONFIG_DEFAULT;
	return 0;
}

/* Of all blocks of a family that are known, after they were listed. */
int plan_list_blocks(struct ipam_request *rq, enum ip_family family, struct slot ***ret, size_t *n)
{
	char prefix[IPAM_KEY_SIZE];
	int r = view_list(&rq->view, ipam_key_blocks_of_family(family, prefix), SLOT_BLOCK);

	if (r == 0)
		*n = view_under(&rq->view, prefix, ret);
	return r;
}

const struct ippool *slots_pool_of(struct slot **pools, size_t n, const struct ip *ip)
{
	for (size_t i = 0; i < n; i++) {
		const struct ippool *p = slot_pool(pools[i]);

		if (p && ippool_enabled(p) && prefix_contains(&p->cidr, ip))
			return p;
	}
	return NULL;
}

int plan_list_pools(struct ipam_request *rq, struct slot ***ret, size_t *n)
{
	const char *root = kind_info(KIND_IPPOOL)->root;
	int r = view_list(&rq->view, root, SLOT_POOL);

	if (r == 0)
		*n = view_under(&rq->view, root, ret);
	return r;
}

/* *ret is NULL where the node is not known; then no selector but all() matches. */
static int get_node_labels(struct ipam_request *rq, const char *host, const struct labels **ret)
{
	char key[KEY_SIZE];
	struct slot *s;
	int r = view_get(&rq->view, key_format(KIND_NODE, NULL, host, key), SLOT_NODE, &s);

	if (r == 0)
		*ret = slot_node(s) ? &slot_node(s)->meta.labels : NULL;
	return r;
}

int plan_pool_selects_node(
	struct ipam_request *rq, const struct ippool *p, const char *host, bool *ret)
{
	const struct labels *labels;
	int r;

	*ret = true;
	if (pool_selector_is_all(p->node_selector))
		return 0;
	r = get_node_labels(rq, host, &labels);
	if (r == 0)
		*ret = pool_selects(p->node_selector, labels);
	return r;
}
