/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A transaction of several objects is one of etcd's. Its conditions are revisions: of each object, and of a
 * list that nothing under its prefix is newer, or, where it has too many objects, was added. Where one does not
 * hold, its other branch reads everything anew.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/base64.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "store/etcd.h"
#include "store/txn.h"

struct commit {
	struct etcd_call call;
	struct store_txn *t;
	bool done;
	int r;
	struct err *err;
};

/* ---- the request ---- */

static void comma(struct strbuf *b)
{
	if (b->s[b->len - 1] != '[')
		strbuf_addc(b, ',');
}

static void add_object(struct strbuf *b, const char *key, int64_t rev)
{
	comma(b);
	strbuf_addc(b, '{');
	etcd_add_key(b, key);
	if (rev)
		strbuf_addf(b,
			",\"target\":\"MOD\",\"result\":\"EQUAL\",\"mod_revision\":\"%lld\"}",
			(long long)rev);
	else
		strbuf_add(b, ",\"target\":\"VERSION\",\"result\":\"EQUAL\",\"version\":\"0\"}");
}

static void add_condition(struct strbuf *b, const struct txn_item *i, bool whole)
{
	if (!i->is_list) {
		add_object(b, i->key, i->had.n > 0 ? i->had.v[0].rev : 0);
		return;
	}
	for (size_t k = 0; k < i->had.n && whole; k++)
		add_object(b, i->had.v[k].key, i->had.v[k].rev);
	comma(b);
	etcd_add_range(b, i->key);
	strbuf_addf(b, ",\"target\":\"%s\",\"result\":\"LESS\",\"%s_revision\":\"%lld\"}",
		whole ? "MOD" : "CREATE", whole ? "mod" : "create", (long long)i->had.rev + 1);
}

static void add_write(struct strbuf *b, const struct txn_item *i)
{
	comma(b);
	strbuf_add(b, i->put.value ? "{\"request_put\":{" : "{\"request_delete_range\":{");
	etcd_add_key(b, i->key);
	if (i->put.value) {
		strbuf_add(b, ",\"value\":\"");
		base64_add(b, i->put.value, i->put.len);
		strbuf_addc(b, '"');
	}
	strbuf_add(b, "}}");
}

static void add_read(struct strbuf *b, const struct txn_item *i)
{
	comma(b);
	strbuf_add(b, "{\"request_range\":");
	if (i->is_list) {
		etcd_add_range(b, i->key);
	} else {
		strbuf_addc(b, '{');
		etcd_add_key(b, i->key);
	}
	strbuf_add(b, "}}");
}

static char *request(const struct store_txn *t, bool *ret_writes)
{
	auto_strbuf b = STRBUF_INIT;
	const struct txn_item *i;

	*ret_writes = false;
	strbuf_add(&b, "{\"compare\":[");
	txn_for_each (i, t)
		add_condition(&b, i, t->whole);
	strbuf_add(&b, "],\"success\":[");
	txn_for_each (i, t)
		if (i->written) {
			add_write(&b, i);
			*ret_writes = true;
		}
	strbuf_add(&b, "],\"failure\":[");
	txn_for_each (i, t)
		add_read(&b, i);
	strbuf_add(&b, "]}");
	return strbuf_take(&b);
}

/* ---- the answer ---- */

static int reread(struct store_txn *t, const json_t *answer, struct err *err)
{
	const int64_t rev = etcd_int(json_object_get(answer, "header"), "revision");
	const json_t *responses = json_object_get(answer, "responses");
	struct txn_item *i;
	size_t n = 0;

	txn_for_each (i, t) {
		const json_t *range =
			json_object_get(json_array_get(responses, n++), "response_range");
		struct store_list had;
		int r = etcd_kvs(json_object_get(range, "kvs"), &had, err);

		if (r < 0)
			return r;
		had.rev = rev;
		txn_reread(i, &had);
	}
	if (json_array_size(responses) != n)
		return err_set(err, -EHOSTUNREACH, "etcd's answer has %zu parts, want %zu",
			json_array_size(responses), n);
	return err_set(err, -ESTALE, "others have changed the same objects meanwhile");
}

static void on_answer(struct etcd_call *c, int r, const json_t *answer, const struct err *err)
{
	struct commit *m = container_of(c, struct commit, call);

	m->done = true;
	m->r = r;
	if (r == -EMSGSIZE || r == -EKEYEXPIRED) /* no code of store.h */
		m->r = -EHOSTUNREACH;
	if (r < 0)
		err_set(m->err, m->r, "%s", err_text(err));
	else if (json_is_true(json_object_get(answer, "succeeded")))
		txn_committed(m->t, etcd_int(json_object_get(answer, "header"), "revision"));
	else
		m->r = reread(m->t, answer, m->err);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct commit *m = arg;

	(void)fd;
	(void)what;
	m->done = true;
	m->r = err_set(
		m->err, -ETIMEDOUT, "%s: a transaction: no answer in time", m->call.et->st.name);
}

int etcd_txn_commit(struct store *st, struct store_txn *t, int64_t deadline_ms, struct err *err)
{
	struct commit m = {.t = t, .err = err};
	struct event *timer = evtimer_new(st->base, on_late, &m);

	if (!timer)
		abort();
	m.call = (struct etcd_call){
		.et = etcd_of_store(st), .path = "/v3/kv/txn", .answer = on_answer};
	m.call.body = request(t, &m.call.write);
	store_arm(timer, deadline_ms - clock_mono_ms());
	etcd_call_start(&m.call);
	while (!m.done)
		event_base_loop(st->base, EVLOOP_ONCE);
	etcd_call_stop(&m.call);
	event_free(timer);
	return m.r;
}
