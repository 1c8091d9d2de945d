/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The datastore of a cluster: etcd v3, by its JSON gateway. A write is one transaction that compares
 * what was expected; its other branch reads the key, which tells "gone" from "changed". A list is
 * read in pages at the revision of the first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/err.h"
#include "base/vec.h"
#include "store/etcd.h"

#define PAGE 500
#define DELETE_TRIES 8
#define LEASE_TRIES 3

struct etcd_op {
	struct store_op op;
	struct etcd_call call;
	struct strbuf after; /* LIST: the last key, and a NUL */
	int64_t rev;	     /* LIST: the pages'; DELETE with uid: the one that was checked */
	int64_t lease;
	size_t n; /* LIST: told so far */
	size_t page;
	int tries;
};

struct etcd *etcd_of_store(struct store *st)
{
	return container_of(st, struct etcd, st);
}

static struct etcd_op *from_call(struct etcd_call *c)
{
	return container_of(c, struct etcd_op, call);
}

static void op_release(struct etcd_op *o)
{
	etcd_call_stop(&o->call);
	strbuf_done(&o->after);
}

static void op_fail(struct etcd_op *o, int r, const struct err *err)
{
	struct err why = *err;

	if (r == -EMSGSIZE || r == -EKEYEXPIRED) /* no code of store.h */
		why.code = r = -EHOSTUNREACH;
	op_release(o);
	store_op_fail(&o->op, r, &why);
}

static void op_call(struct etcd_op *o, const char *path, bool write, etcd_answer_fn *answer,
	struct strbuf *body)
{
	etcd_call_stop(&o->call);
	o->call = (struct etcd_call){.et = etcd_of_store(o->op.st),
		.path = path,
		.write = write,
		.body = strbuf_take(body),
		.answer = answer};
	etcd_call_start(&o->call);
}

/* ---- GET, and what DELETE with a uid reads first ---- */

static void get_start(struct etcd_op *o, etcd_answer_fn *answer)
{
	auto_strbuf b = STRBUF_INIT;

	strbuf_addc(&b, '{');
	etcd_add_key(&b, o->op.req.key);
	strbuf_addc(&b, '}');
	op_call(o, "/v3/kv/range", false, answer, &b);
}

static int first_kv(
	const struct etcd_op *o, const json_t *answer, struct store_kv *ret, struct err *err)
{
	const json_t *kv = json_array_get(json_object_get(answer, "kvs"), 0);
	int r = kv ? etcd_kv(kv, ret, err) : 0;

	if (r == 0)
		return err_set(err, -ENOENT, "%s: not in the datastore", o->op.req.key);
	return r < 0 ? r : 0;
}

static void on_get(struct etcd_call *c, int r, const json_t *answer, const struct err *err)
{
	struct etcd_op *o = from_call(c);
	struct err why = err ? *err : ERR_INIT;
	struct store_kv kv;

	if (r == 0)
		r = first_kv(o, answer, &kv, &why);
	if (r < 0) {
		op_fail(o, r, &why);
		return;
	}
	op_release(o);
	store_op_done(&o->op, &(struct store_res){.rev = kv.rev, .kvs = &kv, .n = 1});
	store_kv_done(&kv);
}

/* ---- LIST ---- */

static void on_list(struct etcd_call *c, int r, const json_t *answer, const struct err *err);

static void list_page(struct etcd_op *o)
{
	size_t limit = o->page;
	auto_strbuf b = STRBUF_INIT;

	if (o->op.req.limit && o->op.req.limit - o->n < limit)
		limit = o->op.req.limit - o->n;
	if (o->after.len) {
		auto_free char *end = store_prefix_end(o->op.req.key);

		strbuf_add(&b, "{\"key\":\"");
		base64_add(&b, o->after.s, o->after.len);
		strbuf_add(&b, "\",\"range_end\":\"");
		base64_add(&b, end, *end ? strlen(end) : 1);
		strbuf_addc(&b, '"');
	} else {
		etcd_add_range(&b, o->op.req.key);
	}
	strbuf_addf(&b, ",\"limit\":\"%zu\",\"revision\":\"%lld\"}", limit, (long long)o->rev);
	op_call(o, "/v3/kv/range", false, on_list, &b);
}

static void on_list(struct etcd_call *c, int r, const json_t *answer, const struct err *err)
{
	struct etcd_op *o = from_call(c);
	const json_t *kvs = json_object_get(answer, "kvs");
	struct err why = err ? *err : ERR_INIT;
	struct store_list page = {0};
	bool more, alive;

	if (r == -EMSGSIZE && o->page > 1) {
		o->page = o->page / 8 + 1;
		o->page -= o->page == 2; /* 500, 63, 8, 1 */
		list_page(o);
		return;
	}
	if (r == 0)
		r = etcd_kvs(kvs, &page, &why);
	if (r < 0) {
		op_fail(o, r, &why);
		return;
	}
	if (!o->rev)
		o->rev = etcd_int(json_object_get(answer, "header"), "revision");
	o->n += json_array_size(kvs);
	more = json_is_true(json_object_get(answer, "more")) && json_array_size(kvs) > 0 &&
	       (!o->op.req.limit || o->n < o->op.req.limit);
	if (more) {
		strbuf_reset(&o->after);
		etcd_key(json_array_get(kvs, json_array_size(kvs) - 1), &o->after);
		strbuf_addc(&o->after, '\0');
	} else {
		op_release(o);
	}
	alive = store_op_done(&o->op,
		&(struct store_res){.rev = o->rev, .kvs = page.v, .n = page.n, .more = more});
	store_list_done(&page);
	if (alive)
		list_page(o);
}

/* ---- CREATE, UPDATE, DELETE ---- */

static void on_write(struct etcd_call *c, int r, const json_t *answer, const struct err *err);
static void on_uid(struct etcd_call *c, int r, const json_t *answer, const struct err *err);

static void on_grant(struct etcd_call *c, int r, const json_t *answer, const struct err *err);

static void write_start(struct etcd_op *o)
{
	const struct store_req *req = &o->op.req;
	int64_t rev = req->verb == STORE_DELETE && req->uid ? o->rev : req->rev;
	auto_strbuf b = STRBUF_INIT;

	o->lease = req->lease_s ? etcd_lease_id(etcd_of_store(o->op.st), req->lease_s) : 0;
	if (req->lease_s && !o->lease) {
		strbuf_addf(&b, "{\"TTL\":\"%u\"}", req->lease_s);
		op_call(o, "/v3/lease/grant", false, on_grant, &b);
		return;
	}
	strbuf_add(&b, "{\"compare\":[{");
	etcd_add_key(&b, req->key);
	if (req->verb == STORE_CREATE)
		strbuf_add(&b, ",\"target\":\"VERSION\",\"result\":\"EQUAL\",\"version\":\"0\"");
	else if (rev)
		strbuf_addf(&b,
			",\"target\":\"MOD\",\"result\":\"EQUAL\",\"mod_revision\":\"%lld\"",
			(long long)rev);
	else
		strbuf_add(&b, ",\"target\":\"VERSION\",\"result\":\"GREATER\",\"version\":\"0\"");
	strbuf_add(&b, req->verb == STORE_DELETE ? "}],\"success\":[{\"request_delete_range\":{"
						 : "}],\"success\":[{\"request_put\":{");
	etcd_add_key(&b, req->key);
	if (req->verb != STORE_DELETE) {
		strbuf_add(&b, ",\"value\":\"");
		base64_add(&b, req->value, req->len);
		strbuf_addc(&b, '"');
	}
	if (o->lease)
		strbuf_addf(&b, ",\"lease\":\"%lld\"", (long long)o->lease);
	strbuf_add(&b, "}}],\"failure\":[{\"request_range\":{");
	etcd_add_key(&b, req->key);
	strbuf_add(&b, ",\"keys_only\":true}}]}");
	op_call(o, "/v3/kv/txn", true, on_write, &b);
}

static void on_grant(struct etcd_call *c, int r, const json_t *answer, const struct err *err)
{
	struct etcd_op *o = from_call(c);
	struct etcd *et = etcd_of_store(o->op.st);
	struct err why = err ? *err : ERR_INIT;

	/* Another operation may have been granted one meanwhile: then this one expires unused. */
	if (r == 0 && !etcd_lease_id(et, o->op.req.lease_s))
		etcd_lease_keep(et, o->op.req.lease_s, answer);
	if (r == 0 && !etcd_lease_id(et, o->op.req.lease_s))
		r = err_set(&why, -EHOSTUNREACH, "%s: etcd has granted no lease", o->op.req.key);
	if (r < 0)
		op_fail(o, r, &why);
	else
		write_start(o);
}

/* The comparison failed: kv is what is there, NULL = nothing. */
static int lost(const struct store_req *req, int64_t want, const json_t *kv, struct err *err)
{
	long long rev = etcd_int(kv, "mod_revision");

	if (req->verb == STORE_CREATE)
		return err_set(err, -EEXIST, "%s: exists already, at revision %lld", req->key, rev);
	if (!kv)
		return err_set(err, -ENOENT, "%s: not in the datastore", req->key);
	return err_set(err, -ESTALE,
		"%s: was changed meanwhile: it has revision %lld, expected was %lld", req->key, rev,
		(long long)want);
}

static void on_write(struct etcd_call *c, int r, const json_t *answer, const struct err *err)
{
	struct etcd_op *o = from_call(c);
	struct err why = err ? *err : ERR_INIT;
	const json_t *range;

	if (r == -EKEYEXPIRED && o->tries++ < LEASE_TRIES) {
		etcd_lease_lost(etcd_of_store(o->op.st), o->lease);
		write_start(o);
		return;
	}
	if (r == 0 && !json_is_true(json_object_get(answer, "succeeded"))) {
		range = json_object_get(
			json_array_get(json_object_get(answer, "responses"), 0), "response_range");
		r = lost(
			&o->op.req, o->rev, json_array_get(json_object_get(range, "kvs"), 0), &why);
		if (r == -ESTALE && o->op.req.uid && !o->op.req.rev && o->tries++ < DELETE_TRIES) {
			get_start(o, on_uid);
			return;
		}
	}
	if (r < 0) {
		op_fail(o, r, &why);
		return;
	}
	op_release(o);
	store_op_done(&o->op, &(struct store_res){.rev = etcd_int(json_object_get(answer, "header"),
							  "revision")});
}

static void on_uid(struct etcd_call *c, int r, const json_t *answer, const struct err *err)
{
	struct etcd_op *o = from_call(c);
	struct err why = err ? *err : ERR_INIT;
	struct store_kv kv = {0};

	if (r == 0)
		r = first_kv(o, answer, &kv, &why);
	if (r == 0)
		r = store_check_before(&o->op.req, &kv, &why);
	o->rev = kv.rev;
	store_kv_done(&kv);
	if (r < 0)
		op_fail(o, r, &why);
	else
		write_start(o);
}

static void etcd_op_start(struct store_op *op)
{
	struct etcd_op *o = container_of(op, struct etcd_op, op);

	switch (op->req.verb) {
	case STORE_GET:
		get_start(o, on_get);
		return;
	case STORE_LIST:
		o->page = PAGE;
		list_page(o);
		return;
	case STORE_DELETE:
		if (op->req.uid) {
			get_start(o, on_uid);
			return;
		}
		break;
	case STORE_CREATE:
	case STORE_UPDATE:
		break;
	}
	write_start(o);
}

static void etcd_op_stop(struct store_op *op)
{
	op_release(container_of(op, struct etcd_op, op));
}

/* ---- opening ---- */

static void etcd_close(struct store *st)
{
	struct etcd *et = etcd_of_store(st);

	etcd_leases_free(et);
	etcd_call_stop(&et->login);
	httpc_free(et->http);
	httpc_free(et->streams);
	for (size_t i = 0; i < et->servers.n; i++)
		free(et->endpoints[i]);
	free(et->ca_file);
	free(et->cert_file);
	free(et->key_file);
	free(et->username);
	free(et->password);
	free(et->token);
	free(et);
}

static const struct store_ops etcd_ops = {
	.op_size = sizeof(struct etcd_op),
	.watch_size = sizeof(struct etcd_watch),
	.has_leases = true,
	.op_start = etcd_op_start,
	.op_stop = etcd_op_stop,
	.watch_start = etcd_watch_start,
	.watch_stop = stream_stop,
	.txn_commit = etcd_txn_commit,
	.close = etcd_close,
};

static int add_endpoints(struct etcd *et, const char *text, struct err *err)
{
	auto_free char *copy = mem_strdup(text ? text : "");
	char *save = NULL;

	for (char *s = strtok_r(copy, ", ", &save); s; s = strtok_r(NULL, ", ", &save)) {
		size_t n;
		int r = servers_check(
			"ETCD_ENDPOINTS", s, false, "set ETCD_USERNAME and ETCD_PASSWORD", &n, err);

		if (r < 0)
			return r;
		if (et->servers.n == SERVERS_MAX)
			return err_set(
				err, -EINVAL, "ETCD_ENDPOINTS: want at most %d", SERVERS_MAX);
		et->endpoints[et->servers.n++] = mem_strndup(s, n);
	}
	if (!et->servers.n)
		return err_set(err, -EINVAL,
			"ETCD_ENDPOINTS is not set: DATASTORE_TYPE etcdv3 wants the addresses of etcd, "
			"as in https://192.0.2.1:2379,https://192.0.2.2:2379");
	return 0;
}

static char *dup_set(const char *s)
{
	return s && *s ? mem_strdup(s) : NULL;
}

int store_etcd_open(
	const struct store_conf *conf, struct event_base *base, struct store **ret, struct err *err)
{
	struct etcd *et = mem_new(struct etcd);
	auto_strbuf name = STRBUF_INIT;
	int r;

	list_init(&et->waiting);
	list_init(&et->leases);
	if (conf->etcd_discovery_srv && *conf->etcd_discovery_srv)
		r = err_set(err, -EINVAL,
			"ETCD_DISCOVERY_SRV is set: this version does not look etcd up in DNS: name its "
			"addresses in ETCD_ENDPOINTS");
	else
		r = add_endpoints(et, conf->etcd_endpoints, err);
	et->ca_file = dup_set(conf->etcd_ca_cert_file);
	et->cert_file = dup_set(conf->etcd_cert_file);
	et->key_file = dup_set(conf->etcd_key_file);
	et->username = dup_set(conf->etcd_username);
	et->password = dup_set(conf->etcd_password);
	if (r == 0 && !et->cert_file != !et->key_file)
		r = err_set(err, -EINVAL, "%s is set, and %s is not: want both or none",
			et->cert_file ? "ETCD_CERT_FILE" : "ETCD_KEY_FILE",
			et->cert_file ? "ETCD_KEY_FILE" : "ETCD_CERT_FILE");
	if (r == 0 && et->password && !et->username)
		r = err_set(err, -EINVAL, "ETCD_PASSWORD is set, and ETCD_USERNAME is not");
	if (r < 0) {
		etcd_close(&et->st);
		return r;
	}
	for (size_t i = 0; i < et->servers.n; i++)
		strbuf_addf(&name, "%s%s", i ? "," : "etcd:", et->endpoints[i]);
	et->servers.first = store_random((uint32_t)et->servers.n);
	store_init(&et->st, &etcd_ops, base, strbuf_take(&name));
	*ret = &et->st;
	return 0;
}
