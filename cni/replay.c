/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each step is one that a process may die after, and all are done again then: a move to whom has the
 * address already, a release of what is free, a deletion of what is gone, are done.
 */
#define LOG_MODULE "cni"
#include "cni/replay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/vec.h"
#include "cni/endpoint.h"
#include "cni/journal.h"
#include "cni/recall.h"
#include "ipam/run.h"
#include "model/ipam.h"
#include "model/key.h"
#include "model/pod.h"
#include "model/wep.h"
#include "store/lock.h"
#include "store/store.h"

char *replay_reserve_handle(const char *node)
{
	return mem_printf(IPAM_HANDLE_RESERVE "%s", node);
}

static int run(const struct replay *rp, struct ipam_request *rq_take, struct err *err)
{
	return ipam_run_take(rp->st, rq_take, rp->deadline_ms, err);
}

static int move(const struct replay *rp, const struct ipam_addr *a, const char *from,
	const char *to, const struct ipam_attr *attrs, size_t n_attrs, struct err *err)
{
	const struct ipam_move m = {.addr = *a,
		.from = from,
		.to = to,
		.attrs = attrs,
		.n_attrs = n_attrs,
		.now_ns = clock_real_ns()};

	return run(rp, ipam_move_new(&m), err);
}

/* Somebody has given the node's address back; nobody has it: it is the pod's all the same. */
static int take_again(const struct replay *rp, const struct journal_op *op,
	const struct ipam_addr *a, struct err *err)
{
	const struct ipam_assign as = {.host = rp->node,
		.handle = op->owner.handle,
		.attrs = op->attrs.v,
		.n_attrs = op->attrs.n,
		.use = IPAM_USE_WORKLOAD,
		.v4 = a->ip.family == IP_V4,
		.v6 = a->ip.family == IP_V6,
		.ip = a->ip,
		.now_ns = clock_real_ns()};

	return run(rp, ipam_assign_new(&as), err);
}

int replay_pod_is_gone(struct store *st, const char *node, const char *namespace, const char *name,
	int64_t deadline_ms, struct err *err)
{
	auto_(pod) struct pod *pod = NULL;
	struct err e = ERR_INIT;
	char key[KEY_SIZE];
	struct store_kv kv;
	int r;

	if (!key_name_ok(name) || strlen(name) >= KEY_NAME_SIZE || !key_name_ok(namespace) ||
		strlen(namespace) >= KEY_NAMESPACE_SIZE)
		return 0;
	r = store_get_wait(st, key_format(KIND_POD, namespace, name, key), deadline_ms, &kv, err);
	if (r < 0)
		return r == -ENOENT ? 1 : r;
	r = pod_decode(kv.key, kv.value, kv.len, &pod, &e);
	store_kv_done(&kv);
	if (r < 0) {
		log_warn("%s: taken for a Pod that is there", err_text(&e));
		return 0;
	}
	return !pod->node || strcmp(pod->node, node) != 0 || pod_is_finished(pod);
}

/* Its endpoint is a part of it. */
static bool is_gone(const struct replay *rp, const struct journal_owner *o)
{
	return store_is_managed(rp->st) && o->pod &&
	       replay_pod_is_gone(rp->st, rp->node, o->namespace, o->pod, rp->deadline_ms, NULL) >
		       0;
}

static void lose(struct replay *rp, const struct ip *ip, bool is_error, char *why_take)
{
	const struct replay_loss l = {.ip = *ip, .is_error = is_error, .why = why_take};

	vec_push(&rp->lost, l);
}

static int replay_take(struct replay *rp, const struct journal_op *op, struct err *err)
{
	const struct ipam_addr *a;
	int r = 0;

	vec_for_each (&op->addrs, a) {
		struct err e = ERR_INIT;

		r = move(rp, a, rp->reserve, op->owner.handle, op->attrs.v, op->attrs.n, &e);
		if (r == -ENOENT)
			r = take_again(rp, op, a, &e);
		if (r == -ESTALE || r == -EEXIST || r == -ENOENT || r == -EPERM) {
			/* When it is, the address is not this node's to give again. */
			lose(rp, &a->ip, true,
				mem_printf("pod %s/%s was given %s while the datastore was away, "
					   "and must be deleted: %s",
					op->owner.namespace,
					op->owner.pod ?: op->owner.container_id, ip_str(&a->ip),
					err_text(&e)));
			r = 0;
		}
		if (r < 0)
			return err_set(err, r, "%s", err_text(&e));
	}
	if (op->endpoint && op->owner.key)
		r = endpoint_write(rp->st, op->owner.key, op->endpoint, rp->deadline_ms, err);
	/* Its DEL comes. */
	if (r < 0 && is_gone(rp, &op->owner))
		r = 0;
	return r;
}

/* Its name; NULL: it has none, or whose it was is not known any more. */
static int find_key(
	const struct replay *rp, const struct journal_owner *o, char **ret, struct err *err)
{
	auto_free char *namespace = NULL, *pod = NULL, *name = NULL;
	char key[KEY_SIZE];
	int r;

	*ret = o->key ? mem_strdup(o->key) : NULL;
	if (o->pod || o->ipam_only)
		return 0;
	/* Without the runtime's arguments what was in the journal is the container's. */
	r = recall_pod(rp->st, o->handle, rp->deadline_ms, &namespace, &pod, err);
	if (r < 0 || !pod)
		return r;
	free(take_ptr(*ret));
	if (wep_name(rp->node, "k8s", pod, o->ifname, &name, NULL) == 0 && key_name_ok(name) &&
		strlen(name) < KEY_NAME_SIZE && key_name_ok(namespace) &&
		strlen(namespace) < KEY_NAMESPACE_SIZE)
		*ret = mem_strdup(key_format(KIND_WORKLOADENDPOINT, namespace, name, key));
	return 0;
}

/* To its pool, where the node holds enough without it. 1 = it has gone there. */
static int leave(
	struct replay *rp, const struct journal_op *op, const struct ipam_addr *a, struct err *err)
{
	const struct journal_addr *have = journal_find(rp->journal, &a->ip);
	struct ipam_addr gone;
	int r;

	if (!have || have->state == JOURNAL_TAKEN)
		return 0;
	if (have->state == JOURNAL_FREE) {
		if (journal_is_given(rp->journal, &a->ip) &&
			journal_n_free(rp->journal, (enum ip_family)a->ip.family) <= rp->n_reserve)
			return 0;
		r = journal_leave(
			rp->journal, (enum ip_family)a->ip.family, &a->ip, op->n, &gone, err);
		if (r == -ENOENT)
			return 0;
		rp->fails_here |= r < 0;
		if (r < 0)
			return r;
	}
	r = run(rp, ipam_release_ip_new(&a->ip, op->owner.handle, clock_real_ns()), err);
	/* It was the node's already when a keeper died. */
	if (r == -ESTALE)
		r = run(rp, ipam_release_ip_new(&a->ip, rp->reserve, clock_real_ns()), err);
	if (r < 0 && r != -ENOENT && r != -ESTALE)
		return r;
	lose(rp, &a->ip, false, NULL);
	return 1;
}

static int give_back(
	struct replay *rp, const struct journal_op *op, const struct ipam_addr *a, struct err *err)
{
	const struct ipam_attr attrs[] = REPLAY_RESERVE_ATTRS(rp->node);
	const struct journal_addr *have;
	struct err e = ERR_INIT;
	int r = leave(rp, op, a, err);

	if (r != 0)
		return r < 0 ? r : 0;
	r = move(rp, a, op->owner.handle, rp->reserve, attrs, array_size(attrs), &e);
	if (r != -ENOENT && r != -ESTALE)
		return r < 0 ? err_set(err, r, "%s", err_text(&e)) : 0;
	/* It is not the node's any more. Whoever was given it meanwhile is told by his own operation. */
	have = journal_find(rp->journal, &a->ip);
	if (!have || have->state == JOURNAL_TAKEN)
		return 0;
	lose(rp, &a->ip, false,
		mem_printf("%s, which this node held: %s", ip_str(&a->ip), err_text(&e)));
	return 0;
}

/* The endpoint before the address, so that nobody routes to it when it is another's. */
static int replay_give_back(struct replay *rp, const struct journal_op *op, struct err *err)
{
	auto_free char *key = NULL;
	const struct ipam_addr *a;
	int r = find_key(rp, &op->owner, &key, err);

	if (r == 0 && key)
		r = endpoint_remove(rp->st, key, op->owner.container_id, rp->deadline_ms, err);
	vec_for_each (&op->addrs, a) {
		if (r < 0)
			return r;
		r = give_back(rp, op, a, err);
	}
	if (r == 0)
		r = run(rp, ipam_release_handle_new(op->owner.handle, clock_real_ns()), err);
	return r == -ENOENT ? 0 : r;
}

static void forget_lost(struct replay *rp)
{
	struct replay_loss *l;

	vec_for_each (&rp->lost, l)
		free(l->why);
	vec_done(&rp->lost);
}

/* handle: whose operation it was. What another has taken meanwhile is his own operation's. */
static int drop_lost(struct replay *rp, const char *handle, struct err *err)
{
	const struct replay_loss *l;
	int r = 0;

	vec_for_each (&rp->lost, l) {
		if (l->why && l->is_error)
			log_error("%s", l->why);
		else if (l->why)
			log_warn("%s", l->why);
		r = r < 0 ? r : journal_drop(rp->journal, &l->ip, handle, err);
	}
	rp->fails_here |= r < 0;
	return r;
}

struct carrying {
	struct replay *rp;
	const struct journal_op *op;
};

static int carry_out(void *arg, struct err *err)
{
	const struct carrying *c = arg;
	struct replay *rp = c->rp;
	int r = store_lock_check_wait(rp->st, rp->deadline_ms, NULL, err);

	forget_lost(rp);
	if (r < 0)
		return r;
	return c->op->kind == JOURNAL_TAKE ? replay_take(rp, c->op, err)
					   : replay_give_back(rp, c->op, err);
}

int replay_op(struct replay *rp, const struct journal_op *op, struct err *err)
{
	struct carrying c = {rp, op};
	int r, end = store_txn_wait(rp->st, rp->deadline_ms, carry_out, &c, &r, err);

	r = r ?: end ?: drop_lost(rp, op->owner.handle, err);
	forget_lost(rp);
	return r < 0 ? err_wrap(err, r, "%s of %s", op->kind == JOURNAL_TAKE ? "ADD" : "DEL",
			       op->owner.handle)
		     : 0;
}
