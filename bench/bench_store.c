/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a datastore's operations take through lib/store, beside the server alone:
 *
 *	bench_store sqlite:PATH ROUNDS
 *	bench_store etcd:URL ROUNDS
 *	bench_store kube:URL ROUNDS KUBECONFIG CA-FILE TOKEN
 *
 * The store has been filled with blocks. The raw server's figures are those of a plain HTTP client (http.h)
 * which does not look at what comes, or of SQL by hand on a file of its own; a list is as
 * few requests there as the server allows, and a get and an update are of the same block. A write reaches both watchers, ours and the raw one, at the same
 * time, from a third connection: from just before it until each has been told.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <jansson.h>
#include <sqlite3.h>

#include "base/base64.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "bench.h"
#include "http.h"
#include "model/ipam.h"
#include "model/json.h"
#include "store/driver.h"
#include "store/etcd.h"
#include "store/kube_key.h"
#include "store/store.h"

#define RAW_PAGE 2000

enum server { SQLITE, ETCD, KUBE };

static struct lab {
	enum server server;
	const char *url; /* or the path */
	struct event_base *base;
	struct store *st;
	struct http *http;
	sqlite3 *db;
	const char *ca_file, *token;
	struct store_list blocks;
	/* the last answer to ours */
	bool done;
	int64_t rev;
	size_t n;
	/* watching */
	double heard, raw_heard;
	sem_t go, raw;
} l;

/* ---- ours ---- */

static void on_done(void *arg, const struct store_res *res)
{
	(void)arg;
	if (res->r < 0)
		die("%s", err_text(res->err));
	l.done = !res->more;
	l.n += res->n;
	l.rev = res->rev;
}

static double ours(const struct store_req *req)
{
	double start = now_us();

	l.done = false;
	l.n = 0;
	store_start(l.st, req, on_done, NULL);
	while (!l.done)
		event_base_loop(l.base, EVLOOP_ONCE);
	return now_us() - start;
}

/* ---- raw ---- */

static void sql(const char *text)
{
	if (sqlite3_exec(l.db, text, NULL, NULL, NULL) != SQLITE_OK)
		die("%s: %s", text, sqlite3_errmsg(l.db));
}

static sqlite3_stmt *prepare(const char *text)
{
	sqlite3_stmt *s;

	if (sqlite3_prepare_v2(l.db, text, -1, &s, NULL) != SQLITE_OK)
		die("%s: %s", text, sqlite3_errmsg(l.db));
	return s;
}

static void make_raw_db(void)
{
	auto_free char *path = mem_printf("%s-raw", l.url);
	sqlite3_stmt *s;

	if (sqlite3_open(path, &l.db) != SQLITE_OK)
		die("%s: %s", path, sqlite3_errmsg(l.db));
	sql("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
	    "CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT, rev INTEGER) WITHOUT ROWID; BEGIN");
	s = prepare("INSERT INTO kv VALUES (?1, ?2, 1)");
	for (size_t i = 0; i < l.blocks.n; i++) {
		sqlite3_bind_text(s, 1, l.blocks.v[i].key, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 2, l.blocks.v[i].value, -1, SQLITE_STATIC);
		if (sqlite3_step(s) != SQLITE_DONE)
			die("insert: %s", sqlite3_errmsg(l.db));
		sqlite3_reset(s);
	}
	sqlite3_finalize(s);
	sql("COMMIT");
}

/* A select's rows, read and thrown away. */
static void drain(sqlite3_stmt *s)
{
	while (sqlite3_step(s) == SQLITE_ROW)
		for (int i = 0; i < sqlite3_column_count(s); i++)
			(void)sqlite3_column_text(s, i);
	sqlite3_reset(s);
}

static void add_key(struct strbuf *b, const char *key)
{
	strbuf_add(b, "\"key\":\"");
	base64_add(b, key, strlen(key));
	strbuf_addc(b, '"');
}

static const char *post(const char *path, const struct strbuf *body)
{
	auto_free char *url = mem_printf("%s%s", l.url, path);

	return http_call(l.http, "POST", url, body->s);
}

static char *kube_url(const char *key)
{
	struct kube_key k;
	struct err err = ERR_INIT;
	auto_free char *path = NULL;

	if ((key ? kube_key_parse(key, &k, &err) : kube_prefix_parse(IPAM_KEY_BLOCKS, &k, &err)) <
		0)
		die("%s", err_text(&err));
	path = kube_path(k.kind, KUBE_CRD_V1, k.ns, key ? k.name : "");
	return mem_printf("%s%s", l.url, path);
}

static double raw_get(const char *key)
{
	static sqlite3_stmt *s;
	auto_strbuf b = STRBUF_INIT;
	auto_free char *url = l.server == KUBE ? kube_url(key) : NULL;
	double start;

	strbuf_addc(&b, '{');
	add_key(&b, key);
	strbuf_addc(&b, '}');
	start = now_us();
	if (l.server == SQLITE) {
		s = s ?: prepare("SELECT value, rev FROM kv WHERE key = ?1");
		sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
		drain(s);
	} else if (l.server == ETCD) {
		post("/v3/kv/range", &b);
	} else {
		http_call(l.http, NULL, url, NULL);
	}
	return now_us() - start;
}

/* Its answers may have 4 MiB. */
static void raw_list_etcd(void)
{
	auto_free char *end = store_prefix_end(IPAM_KEY_BLOCKS);

	for (size_t i = 0; i < l.blocks.n; i += RAW_PAGE) {
		auto_strbuf b = STRBUF_INIT;

		strbuf_addc(&b, '{');
		add_key(&b, l.blocks.v[i].key);
		strbuf_add(&b, ",\"range_end\":\"");
		base64_add(&b, end, strlen(end));
		strbuf_addf(&b, "\",\"limit\":\"%d\"}", RAW_PAGE);
		post("/v3/kv/range", &b);
	}
}

static double raw_list(void)
{
	static sqlite3_stmt *s;
	auto_free char *url = l.server == KUBE ? kube_url(NULL) : NULL;
	auto_free char *all = mem_printf("%s?resourceVersion=0", url ? url : "");
	double start = now_us();

	if (l.server == SQLITE) {
		s = s
			    ?: prepare("SELECT key, value, rev FROM kv WHERE key >= '" IPAM_KEY_BLOCKS
				       "' ORDER BY key");
		drain(s);
	} else if (l.server == ETCD) {
		raw_list_etcd();
	} else {
		http_call(l.http, NULL, all, NULL);
	}
	return now_us() - start;
}

static double raw_update_sqlite(const char *key, const char *value, int64_t *rev)
{
	static sqlite3_stmt *s;
	double start = now_us();

	s = s ?: prepare("UPDATE kv SET value = ?2, rev = ?3 + 1 WHERE key = ?1 AND rev = ?3");
	sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
	sqlite3_bind_text(s, 2, value, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, 3, *rev);
	if (sqlite3_step(s) != SQLITE_DONE || sqlite3_changes(l.db) != 1)
		die("update: %s", sqlite3_errmsg(l.db));
	sqlite3_reset(s);
	*rev += 1;
	return now_us() - start;
}

static double raw_update_etcd(const char *key, const char *value, int64_t *rev)
{
	auto_strbuf b = STRBUF_INIT;
	auto_(json) json_t *j = NULL;
	const char *answer;
	double us;

	strbuf_add(&b, "{\"compare\":[{");
	add_key(&b, key);
	strbuf_addf(&b,
		",\"target\":\"MOD\",\"result\":\"EQUAL\",\"mod_revision\":\"%lld\"}],\"success\":"
		"[{\"request_put\":{",
		(long long)*rev);
	add_key(&b, key);
	strbuf_add(&b, ",\"value\":\"");
	base64_add(&b, value, strlen(value));
	strbuf_add(&b, "\"}}]}");
	us = now_us();
	answer = post("/v3/kv/txn", &b);
	us = now_us() - us;
	j = json_loads(answer, 0, NULL);
	if (!json_is_true(json_object_get(j, "succeeded")))
		die("update: %s", answer);
	*rev = etcd_int(json_object_get(j, "header"), "revision");
	return us;
}

static double raw_update_kube(const char *key, int n)
{
	auto_free char *url = kube_url(key), *text = NULL, *count = mem_printf("%d", n);
	auto_(json) json_t *j = json_loads(http_call(l.http, NULL, url, NULL), 0, NULL);
	double us;

	json_object_set_new(
		json_object_get(j, "metadata"), "annotations", json_pack("{s:s}", "n", count));
	text = json_dumps(j, JSON_COMPACT);
	us = now_us();
	http_call(l.http, "PUT", url, text);
	return now_us() - us;
}

static double raw_update(const char *key, const char *value, int n)
{
	static int64_t rev; /* of etcd, and of SQLite */

	switch (l.server) {
	case SQLITE:
		rev = rev ?: 1;
		return raw_update_sqlite(key, value, &rev);
	case ETCD:
		rev = rev ?: l.blocks.v[2].rev;
		return raw_update_etcd(key, value, &rev);
	case KUBE:
		return raw_update_kube(key, n);
	}
	return 0;
}

/* ---- write to watch ---- */

static void on_event(void *arg, const struct store_kv *kv)
{
	(void)arg;
	(void)kv;
	l.heard = now_us();
}

static void on_end(void *arg, int r, const struct err *err)
{
	(void)arg;
	(void)r;
	die("a watch has ended: %s", err_text(err));
}

/* One event is less than one piece. */
static bool on_raw_data(void *arg, const char *data, size_t len)
{
	(void)arg;
	if (!memmem(data, len, "\"events\"", 8) && !memmem(data, len, "\"MODIFIED\"", 10))
		return true;
	l.raw_heard = now_us();
	sem_post(&l.raw);
	return true;
}

static void *raw_watch(void *arg)
{
	struct http *h = http_new(l.ca_file, l.token);
	auto_strbuf b = STRBUF_INIT;
	auto_free char *url = NULL, *kube = NULL;

	(void)arg;
	if (l.server == ETCD) {
		strbuf_add(&b, "{\"create_request\":");
		etcd_add_range(&b, IPAM_KEY_BLOCKS);
		strbuf_add(&b, "}}");
		url = mem_printf("%s/v3/watch", l.url);
		http_stream(h, "POST", url, b.s, on_raw_data, NULL);
	} else {
		kube = kube_url(NULL);
		url = mem_printf("%s?watch=1&resourceVersion=%lld", kube, (long long)l.blocks.rev);
		http_stream(h, NULL, url, NULL, on_raw_data, NULL);
	}
	die("the raw watch has ended");
}

static void write_once(struct http *h, struct store *st, const struct store_kv *kv, int n)
{
	auto_strbuf b = STRBUF_INIT;
	auto_free char *url = NULL;
	struct err err = ERR_INIT;

	if (l.server == SQLITE) {
		if (store_update_wait(st, kv->key, kv->value, 0, 0, NULL, &err) < 0)
			die("%s", err_text(&err));
	} else if (l.server == ETCD) {
		strbuf_addc(&b, '{');
		add_key(&b, kv->key);
		strbuf_add(&b, ",\"value\":\"");
		base64_add(&b, kv->value, kv->len);
		strbuf_add(&b, "\"}");
		url = mem_printf("%s/v3/kv/put", l.url);
		http_call(h, "POST", url, b.s);
	} else {
		strbuf_addf(&b, "{\"metadata\":{\"annotations\":{\"n\":\"%d\"}}}", n);
		url = kube_url(kv->key);
		http_call(h, "PATCH", url, b.s);
	}
}

/* Writes whenever it is told to. */
static void *writer(void *arg)
{
	const struct store_conf conf = {.type = "sqlite", .sqlite_path = l.url};
	struct http *h = l.server == SQLITE ? NULL : http_new(l.ca_file, l.token);
	struct store *st = NULL;

	(void)arg;
	if (l.server == SQLITE && store_open(&conf, NULL, &st, NULL) < 0)
		die("%s cannot be opened", l.url);
	for (int n = 0;; n++) {
		sem_wait(&l.go);
		write_once(h, st, &l.blocks.v[3], n);
	}
}

static void watch_round(struct series s[static 2], bool counts)
{
	double start;

	nap(5000);
	l.heard = 0;
	start = now_us();
	sem_post(&l.go);
	while (l.heard == 0)
		event_base_loop(l.base, EVLOOP_ONCE);
	if (l.server != SQLITE)
		sem_wait(&l.raw);
	if (!counts)
		return;
	series_add(&s[0], l.heard - start);
	if (l.server != SQLITE)
		series_add(&s[1], l.raw_heard - start);
}

/* ---- all of it ---- */

static void open_store(int argc, char **argv)
{
	static const char *const names[] = {"sqlite:", "etcd:", "kube:"};
	static const char *const types[] = {"sqlite", "etcdv3", "kubernetes"};
	struct store_conf conf = {0};
	struct store *st;
	struct err err = ERR_INIT;
	int i = 0;

	while (strncmp(argv[1], names[i], strlen(names[i])) != 0)
		if (++i == 3)
			die("\"%s\": want sqlite:, etcd: or kube:", argv[1]);
	l.server = (enum server)i;
	if (argc != (l.server == KUBE ? 6 : 3))
		die("wrong number of arguments");
	l.url = strchr(argv[1], ':') + 1;
	conf.type = types[i];
	conf.sqlite_path = conf.etcd_endpoints = l.url;
	if (l.server == KUBE) {
		conf.kubeconfig = argv[3];
		l.ca_file = argv[4];
		l.token = argv[5];
	}
	l.base = event_base_new();
	if (store_open(&conf, l.base, &l.st, &err) < 0 || store_open(&conf, NULL, &st, &err) < 0 ||
		store_list_wait(st, IPAM_KEY_BLOCKS, 0, &l.blocks, &err) < 0)
		die("%s", err_text(&err));
	store_close(st);
	if (l.server == SQLITE)
		make_raw_db();
	else
		l.http = http_new(l.ca_file, l.token);
}

int main(int argc, char **argv)
{
	enum { GET, LIST, UPDATE, WATCH, N };
	static const char *const titles[] = {
		"get of a block", NULL, "compare and swap", "write to watch"};
	struct series s[N][2];
	int rounds = argc > 2 ? number(argv[2], "rounds", 2, 100000) : 0;
	struct store_watch *w;
	pthread_t t;

	if (argc < 3)
		die("want STORE ROUNDS [KUBECONFIG CA-FILE TOKEN]");
	for (int i = 0; i < N; i++) {
		s[i][0] = (struct series){.name = "lib/store"};
		s[i][1] = (struct series){.name = "raw"};
	}
	open_store(argc, argv);
	sem_init(&l.go, 0, 0);
	sem_init(&l.raw, 0, 0);
	l.rev = l.blocks.v[1].rev;
	for (int i = 0; i <= rounds; i++) { /* the first is cold and does not count */
		const char *key = l.blocks.v[1].key;
		auto_(json) json_t *j = json_loads(l.blocks.v[1].value, 0, NULL);
		auto_free char *value = NULL;
		static int64_t rev;
		double get, update;

		rev = rev ?: l.blocks.v[1].rev;
		json_object_set_new(j, "sequenceNumber", json_integer(i + 1));
		value = json_dumps(j, JSON_COMPACT);
		get = ours(&(struct store_req){.verb = STORE_GET, .key = key});
		update = ours(&(struct store_req){
			.verb = STORE_UPDATE, .key = key, .value = value, .rev = rev});
		rev = l.rev;
		if (i > 0) {
			series_add(&s[GET][0], get);
			series_add(&s[UPDATE][0], update);
		}
		get = raw_get(key);
		update = raw_update(l.blocks.v[2].key, value, i);
		if (i > 0) {
			series_add(&s[GET][1], get);
			series_add(&s[UPDATE][1], update);
		}
		if (i > rounds / 20) /* much longer than the others */
			continue;
		series_add(&s[LIST][0],
			ours(&(struct store_req){
				.verb = STORE_LIST, .key = IPAM_KEY_BLOCKS, .feed = true}));
		if (l.n != l.blocks.n)
			die("a list has %zu blocks, want %zu", l.n, l.blocks.n);
		series_add(&s[LIST][1], raw_list());
	}
	ours(&(struct store_req){.verb = STORE_LIST, .key = IPAM_KEY_BLOCKS, .feed = true});
	l.blocks.rev = l.rev;
	w = store_watch(l.st, IPAM_KEY_BLOCKS, l.rev, on_event, on_end, NULL);
	if (l.server != SQLITE)
		pthread_create(&t, NULL, raw_watch, NULL);
	pthread_create(&t, NULL, writer, NULL);
	for (int i = 0; i < 10; i++) { /* until both have begun */
		nap(20000);
		event_base_loop(l.base, EVLOOP_NONBLOCK);
	}
	for (int i = 0; i <= rounds; i++)
		watch_round(s[WATCH], i > 0);
	store_watch_cancel(w);
	for (int i = 0; i < N; i++) {
		auto_free char *list = mem_printf("list of %zu blocks", l.blocks.n);

		report(i == LIST ? list : titles[i], "us", s[i], 2, 0);
	}
	return 0;
}
