/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What etcd's gateway answers, be it any bytes, is an outcome: each operation ends once, with objects
 * that are whole. The first byte chooses the operation; then come the answers, of two bytes each that
 * say what and how long: an answer of a status, a piece of a stream, or a lost connection.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/err.h"
#include "fake/httpc_fake.h"
#include "fuzz.h"
#include "store/store.h"

static int ends;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void look(const struct store_kv *kv)
{
	check(kv->key[0] && (kv->value ? strlen(kv->value) <= kv->len : kv->len == 0));
}

static void look_err(int r, const struct err *err)
{
	check(err->code == r && err->text[0] && !strpbrk(err->text, "\r\n\033"));
}

static void on_done(void *arg, const struct store_res *res)
{
	(void)arg;
	if (res->r < 0)
		look_err(res->r, res->err);
	for (size_t i = 0; i < res->n; i++)
		look(&res->kvs[i]);
	ends += !res->more;
}

static void on_event(void *arg, const struct store_kv *kv)
{
	(void)arg;
	look(kv);
}

static void on_end(void *arg, int r, const struct err *err)
{
	(void)arg;
	check(r < 0);
	look_err(r, err);
	ends++;
}

static void begin(struct store *st, uint8_t what)
{
	static const struct store_req reqs[] = {
		{.verb = STORE_GET, .key = "/k"},
		{.verb = STORE_LIST, .key = "/"},
		{.verb = STORE_CREATE, .key = "/k", .value = "{}"},
		{.verb = STORE_UPDATE, .key = "/k", .value = "{}", .rev = 7},
		{.verb = STORE_DELETE, .key = "/k", .uid = "u"},
	};

	if (what % 8 < array_size(reqs))
		store_start(st, &reqs[what % 8], on_done, NULL);
	else
		store_watch(st, "/", 7, on_event, on_end, NULL);
}

static void answer(uint8_t what, const char *data, size_t len)
{
	static const int statuses[] = {200, 400, 401, 404, 429, 500, 503, 504};
	struct httpc_op *op = httpc_fake_next();

	if (!op)
		return;
	if (what % 4 == 3)
		httpc_fake_fail(op, what & 4 ? -EMSGSIZE : -ECONNRESET, what & 8);
	else if (httpc_fake_is_stream(op) && what % 4 != 2)
		httpc_fake_data(op, data, len);
	else
		httpc_fake_answer(op, statuses[what >> 2 & 7], data, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store_conf conf = {.etcd_endpoints = "http://a:1,http://b:1"};
	struct event_base *base = event_base_new();
	struct store *st;
	size_t at = 1;

	if (size > 0 && data[0] & 8)
		conf.etcd_username = conf.etcd_password = "u";
	check(store_open(&conf, base, &st, NULL) == 0);
	ends = 0;
	if (size > 0)
		begin(st, data[0]);
	while (at + 2 <= size) {
		size_t len = (size_t)data[at + 1] * 4;

		if (len > size - at - 2)
			len = size - at - 2;
		event_base_loop(base, EVLOOP_NONBLOCK);
		answer(data[at], (const char *)data + at + 2, len);
		at += 2 + len;
	}
	check(ends <= 1);
	store_close(st);
	event_base_free(base);
	check(!httpc_fake_next());
	return 0;
}
