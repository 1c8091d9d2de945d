/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which pools and addresses an assignment may use: selectors, uses, reservations. */
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
#include "model/ipreservation.h"
#include "model/kind.h"
#include "model/meta.h"

void scope_done(struct scope *sc)
{
	vec_done(&sc->pools);
	vec_done(&sc->left);
	free((struct prefix *)(uintptr_t)sc->reserved.v);
}

const struct ippool *scope_pool(const struct scope *sc, const struct prefix *block)
{
	for (size_t i = 0; i < sc->pools.n; i++)
		if (prefix_covers(&sc->pools.v[i]->cidr, block))
			return sc->pools.v[i];
	return NULL;
}

static bool is_requested(char *const *names, size_t n_names, const struct ippool *p)
{
	for (size_t i = 0; i < n_names; i++)
		if (pool_is_named(p, names[i]))
			return true;
	return false;
}

/* Every pool that was asked for exists, is enabled and of the family. */
static int check_requested(char *const *names, size_t n_names, enum ip_family family,
	struct slot **slots, size_t n, struct err *err)
{
	for (size_t i = 0; i < n_names; i++) {
		const struct ippool *found = NULL;

		for (size_t k = 0; k < n && !found; k++) {
			const struct ippool *p = slot_pool(slots[k]);

			if (p && ippool_enabled(p) && pool_is_named(p, names[i]))
				found = p;
		}
		if (!found)
			return err_set(err, -ENOENT,
				"the given pool (%s) does not exist, or is not enabled", names[i]);
		if (found->cidr.addr.family != family)
			return err_set(err, -ENOENT,
				"the given pool (%s) has addresses of IPv%u: want pools of IPv%d",
				names[i], found->cidr.addr.family, family);
	}
	return 0;
}

static bool selects_namespace(const struct ipam_request *rq, const struct ippool *p)
{
	return pool_selector_is_all(p->namespace_selector) ||
	       pool_selects(p->namespace_selector, &rq->namespace_labels);
}

static int scope_add_pool(struct ipam_request *rq, struct scope *sc, const struct ippool *p,
	char *const *names, size_t n_names)
{
	bool selects = true;
	int r;

	if (!p || !ippool_enabled(p) || p->cidr.addr.family != sc->family)
		return 0;
	if (n_names > 0) {
		if (is_requested(names, n_names, p) && pool_allows(p, rq->use))
			vec_push(&sc->pools, p);
		return 0;
	}
	r = plan_pool_selects_node(rq, p, rq->host, &selects);
	if (r != 0)
		return r;
	if (!selects)
		vec_push(&sc->left, p);
	else if (!p->manual && pool_allows(p, rq->use) && selects_namespace(rq, p))
		vec_push(&sc->pools, p);
	return 0;
}

int plan_scope_pools(struct ipam_request *rq, struct scope *sc, struct err *err)
{
	auto_free struct slot **slots = NULL;
	char *const *names = rq->pools[sc->family == IP_V6].v;
	size_t n = 0, n_names = rq->pools[sc->family == IP_V6].n;
	int r = plan_list_pools(rq, &slots, &n);

	if (r == 0)
		r = check_requested(names, n_names, sc->family, slots, n, err);
	for (size_t i = 0; i < n && r == 0; i++)
		r = scope_add_pool(rq, sc, slot_pool(slots[i]), names, n_names);
	if (r == 0 && sc->pools.n == 0)
		r = err_set(err, -ENOENT,
			"no enabled IPv%d pool is there for node %s: see the pools' nodeSelector, "
			"namespaceSelector, allowedUses, assignmentMode and disabled",
			sc->family, rq->host);
	return r;
}

int plan_scope_reservations(struct ipam_request *rq, struct scope *sc)
{
	auto_free struct slot **slots = NULL;
	VEC(struct prefix) v = {0};
	size_t n;
	const char *root = kind_info(KIND_IPRESERVATION)->root;
	int r = view_list(&rq->view, root, SLOT_RESERVATION);

	if (r != 0)
		return r;
	n = view_under(&rq->view, root, &slots);
	for (size_t i = 0; i < n; i++) {
		const struct ipreservation *res = slot_reservation(slots[i]);

		for (size_t k = 0; res && k < res->cidrs.n; k++)
			vec_push(&v, res->cidrs.v[k]);
	}
	sc->reserved = (struct block_reserved){v.v, v.n};
	return 0;
}

/* Planned from the top each time: nothing is noted before everything is known. */
int plan_scope(struct ipam_request *rq, struct err *err)
{
	struct scope sc[2] = {{.family = IP_V4}, {.family = IP_V6}};
	int r = plan_get_config(rq, &sc[0].config, err);

	for (size_t i = 0; r == 0 && i < array_size(sc); i++) {
		r = plan_scope_pools(rq, &sc[i], NULL);
		if (r == -ENOENT)
			r = 0;
	}
	if (r == 0)
		r = plan_scope_reservations(rq, &sc[0]);
	for (size_t i = 0; r == 0 && i < array_size(sc); i++)
		for (size_t k = 0; k < sc[i].pools.n; k++)
			vec_push(&rq->in, (struct ipam_pool){sc[i].pools.v[k]->meta.name,
						  sc[i].pools.v[k]->cidr});
	for (size_t i = 0; r == 0 && i < sc[0].reserved.n; i++)
		vec_push(&rq->out, sc[0].reserved.v[i]);
	rq->cooldown_s = sc[0].config.cooldown_s;
	scope_done(&sc[0]);
	scope_done(&sc[1]);
	return r;
}
