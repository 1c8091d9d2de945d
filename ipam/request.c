/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests: what they are made of, which plan is theirs, and what a write that is done means to them. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/vec.h"
#include "ipam/plan.h"
#include "ipam/request.h"
#include "ipam/step.h"

/* Lost races, as Calico. */
enum { MAX_RETRIES = 100 };

static struct ipam_request *request_new(
	enum request_kind kind, const char *host, const char *handle, int64_t now_ns)
{
	struct ipam_request *rq = mem_new(struct ipam_request);

	rq->kind = kind;
	rq->host = host ? mem_strdup(host) : NULL;
	rq->handle = handle ? mem_strdup(handle) : NULL;
	rq->now_ns = now_ns;
	return rq;
}

static void copy_attrs(struct ipam_request *rq, const struct ipam_attr *attrs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		vec_push(&rq->attrs,
			(struct ipam_attr){mem_strdup(attrs[i].name), mem_strdup(attrs[i].value)});
}

/* Those by which a namespace has its own name are there in any case. */
static void set_namespace_labels(struct ipam_request *rq, const struct labels *more)
{
	const struct ipam_attr *a;
	const struct label *l;

	vec_for_each (&rq->attrs, a) {
		if (strcmp(a->name, "namespace") != 0)
			continue;
		labels_set(&rq->namespace_labels, "projectcalico.org/name", a->value);
		labels_set(&rq->namespace_labels, "kubernetes.io/metadata.name", a->value);
	}
	for (size_t i = 0; more && i < more->v.n; i++) {
		l = &more->v.v[i];
		labels_set(&rq->namespace_labels, l->name, l->value);
	}
}

struct ipam_request *ipam_assign_new(const struct ipam_assign *a)
{
	struct ipam_request *rq = request_new(REQUEST_ASSIGN, a->host, a->handle, a->now_ns);

	assert(a->host && a->handle && (a->v4 || a->v6));
	copy_attrs(rq, a->attrs, a->n_attrs);
	for (size_t i = 0; i < a->pools_v4.n; i++)
		vec_push(&rq->pools[0], mem_strdup(a->pools_v4.v[i]));
	for (size_t i = 0; i < a->pools_v6.n; i++)
		vec_push(&rq->pools[1], mem_strdup(a->pools_v6.v[i]));
	set_namespace_labels(rq, a->namespace_labels);
	rq->use = a->use;
	rq->v4 = a->v4;
	rq->v6 = a->v6;
	rq->ip = a->ip;
	rq->reuse = a->reuse;
	rq->max_blocks = a->max_blocks;
	rq->random = a->random;
	return rq;
}

struct ipam_request *ipam_scope_new(const struct ipam_assign *a)
{
	struct ipam_request *rq = ipam_assign_new(a);

	rq->kind = REQUEST_SCOPE;
	return rq;
}

struct ipam_request *ipam_release_handle_new(const char *handle, int64_t now_ns)
{
	return request_new(REQUEST_RELEASE_HANDLE, NULL, handle, now_ns);
}

struct ipam_request *ipam_drop_handle_new(const char *handle, int64_t now_ns)
{
	struct ipam_request *rq = ipam_release_handle_new(handle, now_ns);

	rq->must_be_empty = true;
	return rq;
}

struct ipam_request *ipam_release_ip_new(const struct ip *ip, const char *handle, int64_t now_ns)
{
	struct ipam_request *rq = request_new(REQUEST_RELEASE_IP, NULL, handle, now_ns);

	rq->ip = *ip;
	return rq;
}

struct ipam_request *ipam_release_allocation_new(
	const struct ip *ip, const char *handle, uint64_t seq, int64_t now_ns)
{
	struct ipam_request *rq = ipam_release_ip_new(ip, handle, now_ns);

	rq->with_seq = true;
	rq->seq = seq;
	return rq;
}

struct ipam_request *ipam_recount_handle_new(
	const char *handle, const struct prefix *blocks, size_t n, int64_t now_ns)
{
	struct ipam_request *rq = request_new(REQUEST_RECOUNT, NULL, handle, now_ns);

	for (size_t i = 0; i < n; i++)
		vec_push(&rq->handled, blocks[i]);
	return rq;
}

struct ipam_request *ipam_claim_new(const struct prefix *cidr, const char *host, int64_t now_ns)
{
	struct ipam_request *rq = request_new(REQUEST_CLAIM, host, NULL, now_ns);

	rq->cidr = *cidr;
	return rq;
}

struct ipam_request *ipam_unclaim_new(
	const struct prefix *cidr, const char *host, bool must_be_empty, int64_t now_ns)
{
	struct ipam_request *rq = request_new(REQUEST_UNCLAIM, host, NULL, now_ns);

	if (cidr)
		rq->cidr = *cidr;
	rq->must_be_empty = must_be_empty;
	return rq;
}

struct ipam_request *ipam_lookup_handle_new(const char *handle)
{
	return request_new(REQUEST_LOOKUP, NULL, handle, 0);
}

struct ipam_request *ipam_move_new(const struct ipam_move *m)
{
	struct ipam_request *rq = request_new(REQUEST_MOVE, NULL, m->to, m->now_ns);

	rq->from = mem_strdup(m->from);
	rq->ip = m->addr.ip;
	rq->cidr = m->addr.block;
	copy_attrs(rq, m->attrs, m->n_attrs);
	return rq;
}

void ipam_request_free(struct ipam_request *rq)
{
	struct ipam_attr *a;
	char **s;

	if (!rq)
		return;
	store_op_cancel(rq->op);
	view_done(&rq->view);
	vec_for_each (&rq->attrs, a) {
		free((char *)(uintptr_t)a->name);
		free((char *)(uintptr_t)a->value);
	}
	vec_done(&rq->attrs);
	labels_done(&rq->namespace_labels);
	for (size_t i = 0; i < array_size(rq->pools); i++) {
		vec_for_each (&rq->pools[i], s)
			free(*s);
		vec_done(&rq->pools[i]);
	}
	vec_done(&rq->addrs);
	vec_done(&rq->in);
	vec_done(&rq->out);
	vec_done(&rq->handled);
	vec_done(&rq->swept);
	free(rq->host);
	free(rq->handle);
	free(rq->from);
	free(rq->uncount.handle);
	free(rq->releasing.host);
	vec_done(&rq->freeing);
	free(rq->freeing_handle);
	free(rq);
}

const struct ipam_addr *ipam_request_addrs(const struct ipam_request *rq, size_t *ret_n)
{
	*ret_n = rq->addrs.n;
	return rq->addrs.v;
}

const struct ipam_addr *ipam_request_addr(const struct ipam_request *rq, enum ip_family family)
{
	for (size_t i = 0; i < rq->addrs.n; i++)
		if (rq->addrs.v[i].ip.family == family)
			return &rq->addrs.v[i];
	return NULL;
}

struct ipam_scope ipam_request_scope(const struct ipam_request *rq)
{
	return (struct ipam_scope){.in = rq->in.v,
		.out = rq->out.v,
		.n_in = rq->in.n,
		.n_out = rq->out.n,
		.cooldown_s = rq->cooldown_s};
}

static int plan(struct ipam_request *rq, struct err *err)
{
	int r = plan_uncount(rq);

	if (r != 0)
		return r;
	switch (rq->kind) {
	case REQUEST_ASSIGN:
		return plan_assign(rq, err);
	case REQUEST_RELEASE_HANDLE:
		return plan_release_handle(rq, err);
	case REQUEST_RELEASE_IP:
		return plan_release_ip(rq, err);
	case REQUEST_RECOUNT:
		return plan_recount_handle(rq, err);
	case REQUEST_CLAIM:
		return plan_claim_cidr(rq, err);
	case REQUEST_UNCLAIM:
		return plan_unclaim_cidr(rq, err);
	case REQUEST_LOOKUP:
		return plan_lookup(rq, err);
	case REQUEST_MOVE:
		return plan_move(rq, err);
	case REQUEST_SCOPE:
		return plan_scope(rq, err);
	}
	return -EINVAL;
}

int ipam_request_step(struct ipam_request *rq, struct store_req *ret_req, struct err *err)
{
	struct err e = ERR_INIT;
	int r = 0;

	rq->after = AFTER_NOTHING;
	if (rq->failed == 0)
		r = plan(rq, &e);
	if (r < 0) {
		rq->failed = r;
		rq->failure = e;
	}
	if (rq->failed < 0)
		r = rq->kind == REQUEST_ASSIGN ? plan_undo(rq)
		    : rq->kind == REQUEST_MOVE ? plan_uncount_reserved(rq)
		    : rq->in_doubt	       ? plan_recount(rq)
					       : 0;
	if (r == PLAN_WAIT) {
		const struct view *v = &rq->view;

		*ret_req = (struct store_req){.verb = v->verb,
			.key = v->key,
			.value = v->value,
			.unindexed = v->verb == STORE_LIST && v->unindexed,
			.rev = v->verb == STORE_UPDATE || v->verb == STORE_DELETE ? v->target->rev
										  : 0};
		return 1;
	}
	if (rq->failed < 0 && err)
		*err = rq->failure;
	return rq->failed;
}

/* The write that a plan asked for has been done: what it was for. */
static void achieved(struct ipam_request *rq)
{
	const struct ip *ip;

	switch (rq->after) {
	case AFTER_NOTHING:
		break;
	case AFTER_COUNTED:
		rq->counted = true;
		rq->recount = false;
		rq->counted_cidr = rq->after_cidr;
		break;
	case AFTER_UNCOUNTED:
		rq->uncount.n = 0;
		break;
	case AFTER_ASSIGNED:
		vec_push(&rq->addrs,
			(struct ipam_addr){.ip = rq->after_ip, .block = rq->after_cidr});
		rq->counted = false;
		break;
	case AFTER_MOVED:
		vec_push(&rq->addrs,
			(struct ipam_addr){.ip = rq->after_ip, .block = rq->after_cidr});
		rq->counted = false;
		request_uncount(rq, rq->from, &rq->after_cidr, 1);
		break;
	case AFTER_RELEASED:
		if (rq->freeing_handle)
			request_uncount(
				rq, rq->freeing_handle, &rq->after_cidr, (uint32_t)rq->freeing.n);
		if (rq->kind == REQUEST_ASSIGN)
			break;
		vec_for_each (&rq->freeing, ip)
			vec_push(
				&rq->addrs, (struct ipam_addr){.ip = *ip, .block = rq->after_cidr});
		vec_push(&rq->handled, rq->after_cidr);
		if (rq->emptied)
			rq->tidy_cidr = rq->after_cidr;
		break;
	case AFTER_SWEPT:
		vec_push(&rq->swept, rq->after_cidr);
		break;
	case AFTER_GUARDED:
		rq->after_slot->guarded = true;
		break;
	}
}

int ipam_request_feed(struct ipam_request *rq, const struct store_res *res, struct err *err)
{
	struct err e = ERR_INIT;
	int r = view_feed(&rq->view, res, &e);
	bool released =
		rq->kind == REQUEST_RELEASE_IP && rq->after == AFTER_RELEASED && rq->freeing_handle;

	/*
	 * An assignment goes on, to give back what it has; so does a release by address that may have
	 * been done, since to the next one the address has no handle.
	 */
	if (r < 0 && rq->failed == 0 && (rq->kind == REQUEST_ASSIGN || released)) {
		rq->failed = r;
		rq->failure = e;
		rq->in_doubt = released || rq->after == AFTER_ASSIGNED;
		rq->doubtful = (struct ipam_addr){.ip = rq->after_ip, .block = rq->after_cidr};
		return 0;
	}
	if (r < 0) {
		if (err)
			*err = rq->failed < 0 ? rq->failure : e;
		return rq->failed < 0 ? rq->failed : r;
	}
	if (res->more)
		return 0;
	if (r > 0) {
		achieved(rq);
		return 0;
	}
	rq->recount = rq->counted;
	rq->retries++;
	if (rq->retries > 2 * MAX_RETRIES)
		return err_set(
			err, -EAGAIN, "others changed the same objects %u times", rq->retries);
	if (rq->retries > MAX_RETRIES && rq->failed == 0)
		rq->failed = err_set(&rq->failure, -EAGAIN,
			"others changed the same objects %u times: try again", rq->retries);
	return 0;
}
