/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The etcd driver by what the gateway may answer, which a real server says too rarely: pages, fragments,
 * progress, members without a leader, that lag, that lose an answer. tests/interop has a real one.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "fake/httpc_fake.h"
#include "store/store.h"

#define HEADER "\"header\":{\"cluster_id\":\"1\",\"revision\":\"#\"}"
#define NO_LEADER "{\"error\":\"etcdserver: no leader\",\"code\":14}"

static struct event_base *base;
static struct store *st;
static struct httpc_op *op;

/* What was told. */
static int calls, ended, n_kvs, n_events;
static char text[512]; /* the error's */
static int64_t last_rev;

static void open_store(const char *endpoints)
{
	struct err err = ERR_INIT;

	ck_assert_msg(
		store_open(&(struct store_conf){.etcd_endpoints = endpoints}, base, &st, &err) == 0,
		"%s", err.text);
}

static void setup(void)
{
	base = event_base_new();
	calls = ended = n_kvs = n_events = 0;
	last_rev = 0;
}

static void teardown(void)
{
	store_close(st);
	event_base_free(base);
	ck_assert_ptr_null(httpc_fake_next());
}

static void on_done(void *arg, const struct store_res *res)
{
	(void)arg;
	calls++;
	n_kvs += (int)res->n;
	if (!res->more)
		ended = res->r < 0 ? res->r : 1;
	snprintf(text, sizeof(text), "%s", res->err ? res->err->text : "");
}

static void on_event(void *arg, const struct store_kv *kv)
{
	(void)arg;
	ck_assert_int_ge(kv->rev, last_rev);
	last_rev = kv->rev;
	n_events++;
}

static void on_end(void *arg, int r, const struct err *err)
{
	(void)arg;
	ended = r;
	snprintf(text, sizeof(text), "%s", err->text);
}

/* The next request that is made; its body has `want`. */
static void request(const char *path, const char *want)
{
	int64_t end = clock_mono_ms() + 10000;

	while (!(op = httpc_fake_next())) {
		ck_assert_int_lt(clock_mono_ms(), end);
		ck_assert_msg(ended >= 0, "%s", text);
		event_base_loop(base, EVLOOP_ONCE);
	}
	ck_assert_msg(strstr(httpc_fake_url(op), path) != NULL, "%s", httpc_fake_url(op));
	ck_assert_msg(strstr(httpc_fake_body(op), want) != NULL, "%s has no %s",
		httpc_fake_body(op), want);
}

/* Every "#" of the text is the number n. */
static void answer(int status, const char *form, int n)
{
	auto_strbuf body = STRBUF_INIT;

	for (; *form; form++) {
		if (*form == '#')
			strbuf_addf(&body, "%d", n);
		else
			strbuf_addc(&body, *form);
	}
	if (httpc_fake_is_stream(op) && status == 200)
		httpc_fake_data(op, body.s, body.len);
	else
		httpc_fake_answer(op, status, body.s, body.len);
}

static void list_start(void)
{
	store_start(st, &(struct store_req){.verb = STORE_LIST, .key = "/p/"}, on_done, NULL);
}

static void create_start(void)
{
	store_start(st, &(struct store_req){.verb = STORE_CREATE, .key = "/p/a", .value = "{}"},
		on_done, NULL);
}

#define KV \
	"{\"key\":\"L3AvYQ==\",\"create_revision\":\"3\",\"mod_revision\":\"#\",\"value\":\"e30=\"}"

START_TEST(pages_are_of_the_revision_of_the_first)
{
	open_store("http://a:1");
	list_start();
	request("/v3/kv/range", "\"limit\":\"500\",\"revision\":\"0\"");
	answer(200, "{" HEADER ",\"more\":true,\"kvs\":[" KV "]}", 7);
	/* from behind /p/a */
	request("/v3/kv/range", "\"key\":\"L3AvYQA=\",\"range_end\":\"L3Aw\",\"limit\":\"500\"");
	request("/v3/kv/range", "\"revision\":\"7\"");
	/* too long for us: in smaller pages then */
	httpc_fake_fail(op, -EMSGSIZE, true);
	request("/v3/kv/range", "\"limit\":\"63\",\"revision\":\"7\"");
	answer(200, "{" HEADER ",\"kvs\":[{\"key\":\"L3AvYg==\",\"mod_revision\":\"6\"}]}", 9);
	ck_assert_int_eq(ended, 1);
	ck_assert_int_eq(n_kvs, 2);
}
END_TEST

START_TEST(a_page_whose_revision_is_compacted_is_estale)
{
	open_store("http://a:1");
	list_start();
	request("/range", "");
	answer(200, "{" HEADER ",\"more\":true,\"kvs\":[" KV "]}", 7);
	request("/range", "\"revision\":\"7\"");
	answer(400,
		"{\"error\":\"etcdserver: mvcc: required revision has been compacted\",\"code\":#}",
		11);
	ck_assert_int_eq(ended, -ESTALE);
}
END_TEST

START_TEST(a_read_goes_on_and_a_write_that_may_have_happened_does_not)
{
	open_store("http://a:1,http://b:1");
	list_start();
	request("/range", "");
	answer(503, "{\"error\":\"etcdserver: request timed out\"}", 0);
	request("/range", "");
	httpc_fake_fail(op, -ECONNRESET, true);
	ck_assert_int_eq(ended, -EHOSTUNREACH);

	ended = 0;
	create_start();
	request("/txn", "");
	answer(503, "{\"error\":\"etcdserver: request timed out\"}", 0);
	ck_assert_int_eq(ended, -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(text, "whether it was written is not known"));

	ended = 0;
	create_start();
	request("/txn", "");
	httpc_fake_fail(op, -ECONNRESET, true);
	ck_assert_int_eq(ended, -ETIMEDOUT);

	ended = 0;
	create_start();
	request("/txn", "");
	httpc_fake_fail(op, -EHOSTUNREACH, false);
	request("/txn", "");
	answer(200, "{" HEADER ",\"succeeded\":true}", 8);
	ck_assert_int_eq(ended, 1);
}
END_TEST

START_TEST(an_election_is_waited_for)
{
	open_store("http://a:1,http://b:1");
	create_start();
	for (int i = 0; i < 6; i++) { /* three rounds */
		request("/txn", "");
		answer(503, NO_LEADER, 0);
		ck_assert_int_eq(ended, 0);
	}
	request("/txn", "");
	answer(200, "{" HEADER ",\"succeeded\":true}", 8);
	ck_assert_int_eq(ended, 1);

	ended = 0;
	create_start();
	for (int i = 0; i < 12; i++) {
		request("/txn", "");
		answer(503, NO_LEADER, 0);
	}
	ck_assert_int_eq(ended, -EHOSTUNREACH);
	ck_assert_ptr_nonnull(strstr(text, "no leader: most of its members are away"));
}
END_TEST

#define LEASE_LOST "{\"error\":\"etcdserver: requested lease not found\",\"code\":5}"

static void leased_start(enum store_verb verb)
{
	ended = 0;
	store_start(st,
		&(struct store_req){.verb = verb, .key = "/p/a", .value = "{}", .lease_s = 4},
		on_done, NULL);
}

START_TEST(a_lease_is_shared_renewed_and_had_anew)
{
	open_store("http://a:1");
	leased_start(STORE_CREATE);
	request("/v3/lease/grant", "{\"TTL\":\"4\"}");
	answer(200, "{" HEADER ",\"ID\":\"77\",\"TTL\":\"6\"}", 7);
	request("/txn", ",\"lease\":\"77\"}}]");
	answer(200, "{" HEADER ",\"succeeded\":true}", 8);
	ck_assert_int_eq(ended, 1);
	leased_start(STORE_UPDATE);
	request("/txn", "\"lease\":\"77\"");
	answer(200, "{" HEADER ",\"succeeded\":true}", 9);
	request("/v3/lease/keepalive", "{\"ID\":\"77\"}");
	answer(200, "{\"result\":{" HEADER ",\"ID\":\"77\",\"TTL\":\"6\"}}\n", 8);
	leased_start(STORE_UPDATE);
	request("/txn", "\"lease\":\"77\"");
	answer(404, LEASE_LOST, 0);
	request("/v3/lease/grant", "{\"TTL\":\"4\"}");
	answer(200, "{" HEADER ",\"ID\":\"78\",\"TTL\":\"6\"}", 7);
	request("/txn", "\"lease\":\"78\"");
	answer(200, "{" HEADER ",\"succeeded\":true}", 9);
	ck_assert_int_eq(ended, 1);
	request("/v3/lease/keepalive", "{\"ID\":\"78\"}");
	answer(200, "{\"result\":{" HEADER ",\"ID\":\"78\"}}\n", 8);
	leased_start(STORE_UPDATE);
	request("/v3/lease/grant", "");
	answer(400, "{\"error\":\"etcdserver: permission denied\",\"code\":7}", 0);
	ck_assert_int_eq(ended, -EACCES);
}
END_TEST

/* To go on without it would tell that it is gone. A key with a NUL is nobody's of ours. */
START_TEST(what_cannot_be_decoded_is_not_gone)
{
	open_store("http://a:1");
	list_start();
	request("/v3/kv/range", "");
	answer(200, "{" HEADER ",\"kvs\":[" KV ",{\"key\":\"L3AvAGE=\",\"value\":\"e30=\"}]}", 7);
	ck_assert_int_eq(ended, 1);
	ck_assert_int_eq(n_kvs, 1);
	list_start();
	request("/v3/kv/range", "");
	answer(200, "{" HEADER ",\"kvs\":[" KV ",{\"key\":\"L3AvYg==\",\"value\":\"%%%%\"}]}", 7);
	ck_assert_int_eq(ended, -EHOSTUNREACH);
	ck_assert_ptr_nonnull(strstr(text, "cannot be decoded: the value of /p/b"));
	ended = 0;
	store_watch(st, "/p/", 7, on_event, on_end, NULL);
	request("/v3/watch", "");
	answer(200, "{\"result\":{" HEADER ",\"created\":true}}\n", 7);
	answer(200,
		"{\"result\":{\"events\":[{\"kv\":{\"key\":\"L3AvYg==\",\"value\":\"%%%%\"}}]}}\n",
		8);
	ck_assert_int_eq(ended, -EHOSTUNREACH);
	ck_assert_int_eq(n_events, 0);
}
END_TEST

/* ---- watching ---- */

static void watch_start(int64_t rev)
{
	store_watch(st, "/p/", rev, on_event, on_end, NULL);
}

#define CREATED "{\"result\":{" HEADER ",\"created\":true}}\n"
#define EVENT "{\"kv\":" KV "}"

START_TEST(fragments_are_told_and_resumed)
{
	open_store("http://a:1,http://b:1");
	watch_start(7);
	request("/v3/watch", "\"start_revision\":\"8\",\"progress_notify\":true,\"fragment\":true");
	answer(200, CREATED, 7);
	answer(200, "{\"result\":{\"events\":[" EVENT "],\"fragment\":true}}\n", 8);
	answer(200, "{\"result\":{\"events\":[" EVENT "],\"fragment\":true}}\n", 9);
	ck_assert_int_eq(n_events, 2);
	/* revision 9 may have more events */
	httpc_fake_fail(op, -ECONNRESET, true);
	request("/v3/watch", "\"start_revision\":\"9\"");
	answer(200, CREATED, 9);
	answer(200, "{\"result\":{\"events\":[" EVENT "]", 9);
	answer(200, "}}\n", 0);
	ck_assert_int_eq(n_events, 3);
	httpc_fake_fail(op, -ECONNRESET, true);
	request("/v3/watch", "\"start_revision\":\"10\"");
}
END_TEST

START_TEST(progress_is_where_a_watch_resumes)
{
	open_store("http://a:1");
	watch_start(7);
	request("/v3/watch", "\"start_revision\":\"8\"");
	answer(200, CREATED, 7);
	answer(200, "{\"result\":{" HEADER "}}\n", 40);
	httpc_fake_fail(op, -ECONNRESET, true);
	request("/v3/watch", "\"start_revision\":\"41\"");
	/* compacted up to 40 */
	answer(200, CREATED, 45);
	ck_assert_int_eq(ended, 0);
	answer(200, "{\"result\":{" HEADER ",\"canceled\":true,\"compact_revision\":\"50\"}}\n",
		45);
	ck_assert_int_eq(ended, -ESTALE);
}
END_TEST

START_TEST(a_watch_leaves_a_member_without_leader)
{
	char first[64];

	open_store("http://a:1,http://b:1");
	watch_start(7);
	request("/v3/watch", "");
	snprintf(first, sizeof(first), "%s", httpc_fake_url(op));
	answer(200, CREATED, 7);
	if (_i == 0) /* both are seen */
		answer(200,
			"{\"result\":{" HEADER
			",\"canceled\":true,\"cancel_reason\":\"etcdserver: no leader\"}}\n",
			7);
	else
		httpc_fake_answer(op, 200, "", 0);
	request("/v3/watch", "\"start_revision\":\"8\"");
	ck_assert_str_ne(httpc_fake_url(op), first);
	answer(200, CREATED, 7);
	answer(200, "{\"result\":{" HEADER ",\"events\":[" EVENT "]}}\n", 8);
	ck_assert_int_eq(n_events, 1);
}
END_TEST

START_TEST(a_member_that_lags_is_no_older_copy)
{
	char first[64];

	open_store("http://a:1,http://b:1");
	watch_start(7);
	request("/v3/watch", "");
	snprintf(first, sizeof(first), "%s", httpc_fake_url(op));
	answer(200, CREATED, 5);
	request("/v3/watch", "\"start_revision\":\"8\"");
	ck_assert_str_ne(httpc_fake_url(op), first);
	answer(200, CREATED, 7);
	answer(200, "{\"result\":{\"events\":[" EVENT "]}}\n", 8);
	ck_assert_int_eq(n_events, 1);
	/* but one that stays behind is */
	httpc_fake_fail(op, -ECONNRESET, true);
	for (int i = 0; ended == 0 && i < 10; i++) {
		request("/v3/watch", "\"start_revision\":\"9\"");
		answer(200, CREATED, 5);
	}
	ck_assert_int_eq(ended, -ESTALE);
	ck_assert_ptr_nonnull(strstr(text, "an older copy was put back"));
}
END_TEST

START_TEST(a_line_without_end_is_cut_off)
{
	auto_free char *much = mem_zalloc(1 << 20);

	open_store("http://a:1");
	watch_start(7);
	request("/v3/watch", "");
	memset(much, 'x', 1 << 20);
	for (int i = 0; i < 40 && httpc_fake_next(); i++)
		httpc_fake_data(op, much, 1 << 20);
	ck_assert_int_eq(ended, -EHOSTUNREACH);
	ck_assert_ptr_nonnull(strstr(text, "a line of more than"));
}
END_TEST

START_TEST(a_line_that_is_no_json_is_asked_for_again)
{
	open_store("http://a:1");
	watch_start(7);
	request("/v3/watch", "");
	answer(200, CREATED, 7);
	answer(200, "{\"result\":{\"events\":[" EVENT "]}}\n", 8);
	httpc_fake_data(op, "<html>\n", 7);
	request("/v3/watch", "\"start_revision\":\"9\"");
	ck_assert_int_eq(n_events, 1);
	ck_assert_int_eq(ended, 0);
}
END_TEST

START_TEST(another_cluster_is_asked_last)
{
	char first[64];

	open_store("http://a:1,http://b:1");
	list_start();
	request("/v3/kv/range", "");
	snprintf(first, sizeof(first), "%s", httpc_fake_url(op));
	answer(200, "{" HEADER "}", 7);
	list_start();
	request("/v3/kv/range", "");
	ck_assert_str_eq(httpc_fake_url(op), first);
	answer(200, "{\"header\":{\"cluster_id\":\"4711\",\"revision\":\"#\"}}", 7);
	ck_assert_int_eq(ended, -EHOSTUNREACH);
	ck_assert_ptr_nonnull(strstr(text, "another cluster"));
	ended = 0;
	list_start();
	request("/v3/kv/range", "");
	ck_assert_str_ne(httpc_fake_url(op), first);
}
END_TEST

START_TEST(not_all_clients_begin_with_the_same_endpoint)
{
	int n_a = 0;

	for (int i = 0; i < 64; i++) {
		open_store("http://a:1,http://b:1");
		list_start();
		request("/range", "");
		n_a += strncmp(httpc_fake_url(op), "http://a:1/", 11) == 0;
		store_close(st);
	}
	ck_assert_int_gt(n_a, 0);
	ck_assert_int_lt(n_a, 64);
	open_store("http://a:1");
}
END_TEST

static int get_a(void *arg, struct err *err)
{
	struct store_kv kv;

	return store_get_wait(arg, "/calico/a", 0, &kv, err);
}

static int create_a(void *arg, struct err *err)
{
	store_txn_expect_new(arg, "/calico/a");
	return store_create_wait(arg, "/calico/a", "{}", 0, NULL, err);
}

START_TEST(who_is_silent_is_waited_for_once)
{
	const int64_t began_ms = clock_mono_ms(), deadline_ms = began_ms + 60000;
	struct err err = ERR_INIT, again = ERR_INIT;
	struct store_kv kv;
	int no;

	ck_assert_int_eq(
		store_open(&(struct store_conf){.etcd_endpoints = "http://a:1"}, NULL, &st, &err),
		0);
	store_set_limit(st, 100);
	ck_assert_int_eq(store_get_wait(st, "/calico/a", deadline_ms, &kv, &err), -ETIMEDOUT);
	ck_assert(store_is_silent(st));
	ck_assert_int_eq(
		store_create_wait(st, "/calico/a", "{}", deadline_ms, NULL, &again), -EHOSTUNREACH);
	ck_assert_str_eq(again.text, err.text);
	ck_assert_int_eq(store_txn_wait(st, deadline_ms, get_a, st, &no, &again), 0);
	ck_assert_int_eq(no, -EHOSTUNREACH);
	/* It is asked again. */
	store_set_limit(st, 100);
	ck_assert(!store_is_silent(st));
	ck_assert_int_eq(store_txn_wait(st, deadline_ms, create_a, st, &no, &again), -ETIMEDOUT);
	ck_assert_int_eq(no, 0);
	ck_assert(store_is_silent(st));
	ck_assert_int_lt(clock_mono_ms() - began_ms, 30000);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("etcd");
	TCase *tc = tcase_create("gateway");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, pages_are_of_the_revision_of_the_first);
	tcase_add_test(tc, what_cannot_be_decoded_is_not_gone);
	tcase_add_test(tc, a_page_whose_revision_is_compacted_is_estale);
	tcase_add_test(tc, a_read_goes_on_and_a_write_that_may_have_happened_does_not);
	tcase_add_test(tc, an_election_is_waited_for);
	tcase_add_test(tc, a_lease_is_shared_renewed_and_had_anew);
	tcase_add_test(tc, fragments_are_told_and_resumed);
	tcase_add_test(tc, progress_is_where_a_watch_resumes);
	tcase_add_loop_test(tc, a_watch_leaves_a_member_without_leader, 0, 2);
	tcase_add_test(tc, a_member_that_lags_is_no_older_copy);
	tcase_add_test(tc, a_line_without_end_is_cut_off);
	tcase_add_test(tc, a_line_that_is_no_json_is_asked_for_again);
	tcase_add_test(tc, another_cluster_is_asked_last);
	tcase_add_test(tc, not_all_clients_begin_with_the_same_endpoint);
	tcase_add_test(tc, who_is_silent_is_waited_for_once);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
