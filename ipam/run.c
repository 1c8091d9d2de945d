/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ipam/run.h"

#include <assert.h>

#include "base/err.h"
#include "ipam/request.h"
#include "ipam/step.h"
#include "store/store.h"

static int feed(struct ipam_request *rq, int r, const struct err *e, const struct store_res *ok,
	struct err *err)
{
	const struct store_res failed = {.r = r, .err = e};

	return ipam_request_feed(rq, r < 0 ? &failed : ok, err);
}

static int do_one(struct store *st, struct ipam_request *rq, const struct store_req *req,
	int64_t deadline_ms, struct err *err)
{
	struct store_kv kv = {0};
	struct store_list list = {0};
	struct store_res ok = {0};
	struct err e = ERR_INIT;
	int r = 0;

	switch (req->verb) {
	case STORE_GET:
		r = store_get_wait(st, req->key, deadline_ms, &kv, &e);
		ok = (struct store_res){.rev = kv.rev, .kvs = &kv, .n = 1};
		break;
	case STORE_LIST:
		r = req->unindexed ? store_list_unindexed_wait(st, req->key, deadline_ms, &list, &e)
				   : store_list_wait(st, req->key, deadline_ms, &list, &e);
		ok = (struct store_res){.rev = list.rev, .kvs = list.v, .n = list.n};
		break;
	case STORE_CREATE:
		r = store_create_wait(st, req->key, req->value, deadline_ms, &ok.rev, &e);
		break;
	case STORE_UPDATE:
		r = store_update_wait(st, req->key, req->value, req->rev, deadline_ms, &ok.rev, &e);
		break;
	case STORE_DELETE:
		r = store_delete_wait(st, req->key, req->rev, NULL, deadline_ms, &e);
		break;
	}
	r = feed(rq, r, &e, &ok, err);
	store_kv_done(&kv);
	store_list_done(&list);
	return r;
}

int ipam_run(struct store *st, struct ipam_request *rq, int64_t deadline_mono_ms, struct err *err)
{
	struct store_req req;
	int r;

	while ((r = ipam_request_step(rq, &req, err)) > 0) {
		r = do_one(st, rq, &req, deadline_mono_ms, err);
		if (r < 0)
			return r;
	}
	return r;
}

int ipam_run_take(
	struct store *st, struct ipam_request *rq_take, int64_t deadline_mono_ms, struct err *err)
{
	int r = ipam_run(st, rq_take, deadline_mono_ms, err);

	ipam_request_free(rq_take);
	return r;
}

static void next(struct ipam_request *rq);

static void on_done(void *arg, const struct store_res *res)
{
	struct ipam_request *rq = arg;
	struct err err = ERR_INIT;
	int r;

	if (!res->more)
		rq->op = NULL;
	r = ipam_request_feed(rq, res, &err);
	if (r < 0) {
		store_op_cancel(rq->op);
		rq->op = NULL;
		rq->done(rq, r, &err, rq->done_arg);
	} else if (!res->more) {
		next(rq);
	}
}

static void next(struct ipam_request *rq)
{
	struct err err = ERR_INIT;
	struct store_req req;
	int r = ipam_request_step(rq, &req, &err);

	if (r > 0)
		rq->op = store_start(rq->st, &req, on_done, rq);
	else
		rq->done(rq, r, &err, rq->done_arg);
}

void ipam_start(struct store *st, struct ipam_request *rq, ipam_done_fn *done, void *arg)
{
	assert(!rq->op);
	rq->st = st;
	rq->done = done;
	rq->done_arg = arg;
	next(rq);
}
