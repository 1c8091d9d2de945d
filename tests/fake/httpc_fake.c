/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fake/httpc_fake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/list.h"
#include "svc/httpc.h"

struct httpc {
	struct list node; /* in clients */
	struct list ops;
};

struct httpc_op {
	struct list node;
	char *url, *body;
	httpc_data_fn *on_data;
	httpc_done_fn *done;
	void *arg;
	int64_t first_ms;
	int status; /* of a stream that has begun */
	bool *dead; /* set when it is freed from inside on_data */
};

static struct list clients = {&clients, &clients};

int httpc_new(struct event_base *base, unsigned max_conns, struct httpc **ret, struct err *err)
{
	struct httpc *c = mem_new(struct httpc);

	(void)base;
	(void)max_conns;
	(void)err;
	list_init(&c->ops);
	list_add_tail(&clients, &c->node);
	*ret = c;
	return 0;
}

void httpc_cancel(struct httpc_op *op)
{
	if (!op)
		return;
	if (op->dead)
		*op->dead = true;
	list_del(&op->node);
	free(op->url);
	free(op->body);
	free(op);
}

void httpc_abandon(struct httpc_op *op)
{
	httpc_cancel(op);
}

void httpc_free(struct httpc *c)
{
	if (!c)
		return;
	while (!list_empty(&c->ops))
		httpc_cancel(list_entry(c->ops.next, struct httpc_op, node));
	list_del(&c->node);
	free(c);
}

struct httpc_op *httpc_start(struct httpc *c, const struct httpc_req *req)
{
	struct httpc_op *op = mem_new(struct httpc_op);

	op->url = mem_strdup(req->url);
	op->body = mem_strndup(req->body ? req->body : "", req->len);
	op->on_data = req->on_data;
	op->done = req->done;
	op->arg = req->arg;
	op->first_ms = req->first_ms;
	list_add_tail(&c->ops, &op->node);
	return op;
}

struct httpc_op *httpc_fake_next(void)
{
	struct httpc *c;

	list_for_each (c, &clients, node)
		if (!list_empty(&c->ops))
			return list_entry(c->ops.next, struct httpc_op, node);
	return NULL;
}

const char *httpc_fake_url(const struct httpc_op *op)
{
	return op->url;
}

const char *httpc_fake_body(const struct httpc_op *op)
{
	return op->body;
}

int64_t httpc_fake_first_ms(const struct httpc_op *op)
{
	return op->first_ms;
}

bool httpc_fake_is_stream(const struct httpc_op *op)
{
	return op->on_data;
}

static void finish(struct httpc_op *op, const struct httpc_res *res)
{
	httpc_done_fn *done = op->done;
	void *arg = op->arg;

	httpc_cancel(op);
	done(arg, res);
}

bool httpc_fake_data(struct httpc_op *op, const char *data, size_t len)
{
	bool dead = false, more;

	op->status = 200;
	op->dead = &dead;
	more = op->on_data(op->arg, data, len);
	if (dead)
		return false;
	op->dead = NULL;
	if (!more)
		httpc_fake_fail(op, -ECANCELED, true);
	return more;
}

void httpc_fake_answer(struct httpc_op *op, int status, const char *body, size_t len)
{
	auto_free char *copy = mem_strndup(body, len);

	finish(op, &(struct httpc_res){.status = status, .body = copy, .len = len, .sent = true});
}

void httpc_fake_busy(struct httpc_op *op, int retry_after_s)
{
	finish(op,
		&(struct httpc_res){
			.status = 429, .body = "", .sent = true, .retry_after_s = retry_after_s});
}

void httpc_fake_fail(struct httpc_op *op, int r, bool sent)
{
	struct err err = ERR_INIT;

	err_set(&err, r, "the connection is gone");
	finish(op, &(struct httpc_res){
			   .r = r, .err = &err, .status = op->status, .body = "", .sent = sent});
}
