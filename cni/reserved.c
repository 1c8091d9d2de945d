/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/reserved.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "cni/call.h"
#include "cni/cluster.h"
#include "cni/ctx.h"
#include "cni/shared.h"

enum { LOOK_MS = 2000 }; /* how long an ADD waits for the keeper's look */

/* A DEL with names that no pod can have finds the pod by the handle. */
static struct journal_owner owner(const struct call *c, bool by_name)
{
	return (struct journal_owner){.handle = c->handle,
		.container_id = (char *)(uintptr_t)c->container_id,
		.ifname = (char *)(uintptr_t)c->ifname,
		.namespace = (char *)(uintptr_t)(c->wep_key ? c->namespace : "default"),
		.pod = c->wep_key && c->k8s ? c->args.pod : NULL,
		.key = c->rq->ipam_only ? NULL : c->wep_key,
		.ipam_only = c->rq->ipam_only,
		.by_name = by_name};
}

bool reserved_want_pools(const struct call *c, enum ip_family family, const struct cni_texts *pools,
	struct prefix nets[static RESERVED_NETS_MAX], struct journal_want *w)
{
	w->nets = nets;
	for (size_t i = 0; i < pools->n; i++) {
		const struct prefix *cidr = journal_pool(c->journal, pools->v[i]);

		if (!cidr || cidr->addr.family != family || w->n_nets == RESERVED_NETS_MAX)
			return false;
		nets[w->n_nets++] = *cidr;
	}
	return true;
}

/* What a server has from before its start may be others' by now: its keeper looks first. */
static bool was_looked_at(struct call *c)
{
	const struct timespec pause = {.tv_nsec = 2 * 1000 * 1000};
	const struct cni_home *home = ctx_home(c->ctx);
	int64_t until = clock_mono_ms() + LOOK_MS;

	if (!home || shared_get(&home->shared->looked))
		return true;
	if (call_may_wait(c, NULL) != 0)
		return false;
	while (!shared_get(&home->shared->looked) && clock_mono_ms() < until)
		nanosleep(&pause, NULL);
	return shared_get(&home->shared->looked);
}

/* Where nobody serves and the datastore is there, by this verb. */
static bool is_other_cluster(struct call *c)
{
	const struct cni_home *home = ctx_home(c->ctx);
	auto_free char *guid = NULL;

	if (home)
		return shared_get(&home->shared->keeper) == KEEPER_OTHER_CLUSTER;
	return journal_guid(c->journal)[0] && call_open_store(c, NULL) == 0 &&
	       cluster_guid(c->st, clock_mono_ms() + LOOK_MS, &guid, NULL) == 0 &&
	       strcmp(guid, journal_guid(c->journal)) != 0;
}

int reserved_check(struct call *c, struct err *err)
{
	const struct cni_home *home = ctx_home(c->ctx);

	if (!was_looked_at(c))
		return err_set(err, -EAGAIN,
			"margay-cni serve has not compared yet what this node holds with the datastore");
	if (home &&
		shared_get(&home->shared->node_deletions) != shared_get(&home->shared->node_heeded))
		return err_set(err, -EAGAIN,
			"node %s was deleted in the datastore: margay-cni serve has not looked yet whether "
			"it is there again",
			home->node);
	if (is_other_cluster(c))
		return err_set(err, -EAGAIN,
			"%s is of another cluster than the datastore: name the right one, or move the file "
			"away and delete the pods of this node",
			journal_path(c->journal));
	return 0;
}

static bool has_taken(const struct call *c, const struct ip *ip)
{
	const struct journal_addr *a = journal_find(c->journal, ip);

	return a && a->state == JOURNAL_TAKEN && strcmp(a->owner.handle, c->handle) == 0;
}

/* What an earlier ADD was given is its still, as far as the keeper sees: while the datastore is away nobody does. */
static int confirm(struct call *c, const struct ipam_addr *v, size_t n, struct err *err)
{
	const struct timespec pause = {.tv_nsec = 2 * 1000 * 1000};
	const struct cni_home *home = ctx_home(c->ctx);
	int64_t until = clock_mono_ms() + LOOK_MS;
	int r = 0;

	while (r == 0 && home && shared_get(&home->shared->keeper) == KEEPER_WELL &&
		!call_store_is_away(c) && journal_is_pending(c->journal, c->handle, NULL) &&
		clock_mono_ms() < until) {
		if (call_may_wait(c, err) != 0)
			return -EAGAIN;
		nanosleep(&pause, NULL);
		r = journal_refresh(c->journal, err);
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		if (!has_taken(c, &v[i].ip))
			r = err_set(err, -ESTALE,
				"%s, which the pod has, was given back in the datastore, and cannot be "
				"taken again: delete the pod",
				ip_str(&v[i].ip));
	return r;
}

int reserved_take(struct call *c, struct journal_want *want, struct ipam_addr ret[static 2],
	size_t *ret_n, struct err *err)
{
	int r;

	want->owner = owner(c, want->owner.by_name);
	want->node = c->node;
	r = journal_take(c->journal, want, ret, ret_n, err);
	return r == 0 && ret[0].held ? confirm(c, ret, *ret_n, err) : r;
}

int reserved_adopt(struct call *c, struct journal_want *want, const struct ipam_addr *addrs,
	size_t n, struct err *err)
{
	want->owner = owner(c, want->owner.by_name);
	return journal_adopt(c->journal, want, addrs, n, err);
}

int reserved_give_back(struct call *c, struct err *err)
{
	const struct journal_owner o = owner(c, false);

	return journal_give_back(c->journal, &o, err);
}

int reserved_settle(struct call *c, struct err *err)
{
	const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
	const struct cni_home *home = ctx_home(c->ctx);
	const int64_t until = clock_mono_ms() + CNI_ANSWER_MS;
	int r = journal_refresh(c->journal, err);

	while (r == 0 && journal_is_pending(c->journal, c->handle, c->wep_key)) {
		if (clock_mono_ms() >= until || clock_mono_ms() >= c->deadline_ms ||
			(home && shared_get(&home->shared->keeper) != KEEPER_WELL))
			return err_set(err, -ETIMEDOUT,
				"%s: an earlier ADD or DEL of this pod waits for the datastore",
				journal_path(c->journal));
		nanosleep(&pause, NULL);
		r = journal_refresh(c->journal, err);
	}
	return r;
}

bool reserved_recall(struct call *c)
{
	const struct journal_addr *a = journal_taken_by(c->journal, c->handle);

	if (a && !c->k8s && a->owner.pod)
		call_set_pod(c, a->owner.namespace, a->owner.pod);
	return a != NULL;
}
