/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Kubernetes driver by what an API server may answer, which a real one says too rarely: errors, busy
 * servers, answers that are lost, pages of a list that a watch follows. tests/interop has a real one.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "fake/httpc_fake.h"
#include "store/store.h"
#include "store/sync.h"

#define POOLS "/calico/resources/v3/projectcalico.org/ippools/"
#define NODES "/calico/resources/v3/projectcalico.org/nodes/"
#define V1 "/apis/crd.projectcalico.org/v1/ippools"
#define META(name, rev) "\"metadata\":{\"name\":\"" name "\",\"resourceVersion\":\"" rev "\"}"
#define POOL(name, rev) "{" META(name, rev) ",\"spec\":{}}"
#define STATUS(code, reason)                                                   \
	"{\"kind\":\"Status\",\"message\":\"it said so\",\"reason\":\"" reason \
	"\",\"code\":" #code "}"

static struct event_base *base;
static struct store *st;
static struct httpc_op *op;

/* What was told. */
static int calls, ended, n_kvs, n_events;
static char text[512]; /* the error's */
static int64_t last_rev;

static void open_store(const char *group)
{
	struct err err = ERR_INIT;
	const struct store_conf conf = {.type = "kubernetes",
		.k8s_api_endpoint = "http://a:1,http://b:1",
		.k8s_api_token = "t",
		.calico_api_group = group};

	ck_assert_msg(store_open(&conf, base, &st, &err) == 0, "%s", err.text);
}

static void setup(void)
{
	base = event_base_new();
	open_store("crd.projectcalico.org/v1");
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
	last_rev = res->rev;
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

static void on_set(void *arg, const char *key, const char *value, size_t len, int64_t rev)
{
	(void)arg;
	(void)len;
	(void)rev;
	snprintf(text, sizeof(text), "%s %s", strrchr(key, '/') + 1, value);
	n_events++;
}

static void on_del(void *arg, const char *key)
{
	(void)arg;
	snprintf(text, sizeof(text), "%s is gone", strrchr(key, '/') + 1);
	n_events++;
}

static void on_in_sync(void *arg)
{
	(void)arg;
}

/* The next request that is made; its URL has `want`. */
static void next(const char *want)
{
	int64_t end = clock_mono_ms() + 10000;

	for (op = httpc_fake_next(); !op && clock_mono_ms() < end; op = httpc_fake_next())
		event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_ptr_nonnull(op);
	ck_assert_msg(strstr(httpc_fake_url(op), want), "%s, want %s", httpc_fake_url(op), want);
}

static void answer(int status, const char *body)
{
	httpc_fake_answer(op, status, body, strlen(body));
}

static void data(const char *body)
{
	httpc_fake_data(op, body, strlen(body));
}

/* What a watch asks before it begins, and before it goes on. */
static void next_data(const char *cluster, const char *rev)
{
	auto_free char *body = mem_printf(
		"{\"metadata\":{\"resourceVersion\":\"%s\"},\"items\":[{\"metadata\":{\"uid\":\"%s\"}}]}",
		rev, cluster);

	next("/api/v1/namespaces?limit=1&fieldSelector=metadata.name%3Dkube-system");
	answer(200, body);
}

static void start(enum store_verb verb, const char *key, bool feed)
{
	calls = ended = n_kvs = 0;
	store_start(st,
		&(struct store_req){.verb = verb,
			.key = key,
			.value = verb == STORE_CREATE || verb == STORE_UPDATE ? "{}" : NULL,
			.rev = verb == STORE_UPDATE || verb == STORE_DELETE ? 7 : 0,
			.feed = feed},
		on_done, NULL);
}

START_TEST(what_errors_mean)
{
	static const struct {
		int status;
		const char *body;
		int read, write; /* read 0 = the other server is asked */
	} cases[] = {
		{401, STATUS(401, "Unauthorized"), -EACCES, -EACCES},
		{403, STATUS(403, "Forbidden"), -EACCES, -EACCES},
		{404, "{\"reason\":\"NotFound\",\"details\":{\"name\":\"a\"}}", -ENOENT, -ENOENT},
		{404, "404 page not found", -EHOSTUNREACH, -EHOSTUNREACH},
		{409, STATUS(409, "Conflict"), -ESTALE, -ESTALE},
		{409, STATUS(409, "AlreadyExists"), -EEXIST, -EEXIST},
		{410, STATUS(410, "Expired"), -ESTALE, -ESTALE},
		{422, STATUS(422, "Invalid"), -EINVAL, -EINVAL},
		{500, STATUS(500, "InternalError"), 0, -ETIMEDOUT},
		{503, STATUS(503, "ServiceUnavailable"), 0, -EHOSTUNREACH},
		{504, STATUS(504, "Timeout"), 0, -ETIMEDOUT},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		start(STORE_UPDATE, POOLS "a", false);
		next(V1 "/a");
		answer(200, POOL("a", "7"));
		next(V1 "/a");
		answer(cases[i].status, cases[i].body);
		ck_assert_int_eq(ended, cases[i].write);
		start(STORE_GET, POOLS "a", false);
		next(V1 "/a");
		answer(cases[i].status, cases[i].body);
		if (cases[i].read == 0) {
			ck_assert_int_eq(ended, 0);
			next(V1 "/a");
			answer(200, POOL("a", "5"));
			ck_assert_int_eq(ended, 1);
		} else {
			ck_assert_int_eq(ended, cases[i].read);
		}
	}
}
END_TEST

/* One that others wrote upon is read before: what they wrote stays, as far as it was not taken out. */
START_TEST(an_update_keeps_what_others_put_on_a_resource)
{
	static const char value[] =
		"{\"metadata\":{\"name\":\"a\",\"labels\":{\"l\":\"3\"},\"annotations\":{\"n\":\"1\"}},"
		"\"spec\":{\"cidr\":\"10.0.0.0/8\"}}";

	calls = ended = 0;
	store_start(st,
		&(struct store_req){
			.verb = STORE_UPDATE, .key = POOLS "a", .value = value, .rev = 7},
		on_done, NULL);
	next(V1 "/a");
	answer(200,
		"{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"7\",\"labels\":{\"l\":\"2\","
		"\"taken-out\":\"1\"},\"annotations\":{\"taken-out\":\"1\",\"n\":\"1\"},"
		"\"ownerReferences\":[{\"uid\":\"u\"}]},\"spec\":{}}");
	next(V1 "/a");
	ck_assert_str_eq(httpc_fake_body(op),
		"{\"apiVersion\":\"crd.projectcalico.org/v1\",\"kind\":\"IPPool\",\"metadata\":{"
		"\"annotations\":{\"projectcalico.org/metadata\":\"{\\\"labels\\\":{\\\"l\\\":"
		"\\\"3\\\"},\\\"annotations\\\":{\\\"n\\\":\\\"1\\\"}}\",\"n\":\"1\"},\"name\":"
		"\"a\",\"resourceVersion\":\"7\",\"labels\":{\"l\":\"2\"},\"ownerReferences\":[{"
		"\"uid\":\"u\"}]},\"spec\":{\"cidr\":\"10.0.0.0/8\"}}");
	answer(200, POOL("a", "8"));
	ck_assert_int_eq(ended, 1);
	/* another revision is told without a write */
	start(STORE_UPDATE, POOLS "a", false);
	next(V1 "/a");
	answer(200, POOL("a", "8"));
	ck_assert_int_eq(ended, -ESTALE);
}
END_TEST

/* What IPAM stores is written often: the guard is in the patch, and metadata are not touched. */
START_TEST(an_update_of_a_handle_is_a_patch_of_its_spec)
{
	calls = ended = 0;
	store_start(st,
		&(struct store_req){.verb = STORE_UPDATE,
			.key = "/calico/ipam/v2/handle/H",
			.value = "{\"block\":{},\"deleted\":false,\"x\":1}",
			.rev = 7},
		on_done, NULL);
	next("/apis/crd.projectcalico.org/v1/ipamhandles/h");
	ck_assert_str_eq(httpc_fake_body(op),
		"[{\"op\":\"replace\",\"path\":\"/metadata/resourceVersion\",\"value\":\"7\"},{"
		"\"op\":\"add\",\"path\":\"/spec\",\"value\":{\"handleID\":\"H\",\"block\":{},"
		"\"deleted\":false,\"x\":1}}]");
	answer(409, STATUS(409, "Conflict"));
	ck_assert_int_eq(ended, -ESTALE);
}
END_TEST

/* Its writer had no time to delete what it had marked: to read it changes nothing, its name is free. */
START_TEST(a_record_that_is_marked_deleted_is_in_nobodys_way)
{
	static const char left[] =
		"{\"metadata\":{\"name\":\"h\",\"resourceVersion\":\"7\"},\"spec\":{\"handleID\":\"h\","
		"\"block\":{},\"deleted\":true}}";

	start(STORE_GET, "/calico/ipam/v2/handle/h", false);
	next("/ipamhandles/h");
	answer(200, left);
	ck_assert_int_eq(ended, -ENOENT);
	ended = 0;
	store_start(st,
		&(struct store_req){.verb = STORE_CREATE,
			.key = "/calico/ipam/v2/handle/h",
			.value = "{\"block\":{},\"deleted\":false}"},
		on_done, NULL);
	for (int i = 0; i < 2; i++) {
		next("/ipamhandles");
		answer(409, STATUS(409, "AlreadyExists"));
		if (i)
			break;
		next("/ipamhandles/h");
		answer(200, left);
		next("/ipamhandles/h");
		ck_assert_ptr_nonnull(strstr(httpc_fake_body(op), "\"resourceVersion\":\"7\""));
		answer(200, "{\"kind\":\"Status\",\"status\":\"Success\"}");
		ck_assert_int_eq(ended, 0);
	}
	ck_assert_int_eq(ended, -EEXIST); /* somebody else was quicker */
}
END_TEST

START_TEST(a_write_is_sent_again_only_where_it_cannot_have_been_done)
{
	start(STORE_CREATE, POOLS "a", false);
	next("http://a:1" V1);
	httpc_fake_fail(op, -ECONNRESET, true);
	ck_assert_int_eq(ended, -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(text, "whether it was written is not known"));
	/* and the other server comes first for a while */
	start(STORE_CREATE, POOLS "a", false);
	next("http://b:1" V1);
	httpc_fake_fail(op, -EHOSTUNREACH, false);
	next("http://a:1" V1);
	answer(201, POOL("a", "9"));
	ck_assert_int_eq(ended, 1);
	ck_assert_int_eq(last_rev, 9);
}
END_TEST

START_TEST(a_busy_server_is_asked_again_when_it_says)
{
	int64_t began = clock_mono_ms();

	start(STORE_DELETE, POOLS "a", false);
	next(V1 "/a");
	ck_assert_str_eq(httpc_fake_body(op), "{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\","
					      "\"preconditions\":{\"resourceVersion\":\"7\"}}");
	httpc_fake_busy(op, 1);
	ck_assert_int_eq(ended, 0);
	next(V1 "/a");
	ck_assert_int_ge(clock_mono_ms() - began, 990);
	answer(200, "{\"kind\":\"Status\",\"status\":\"Success\"}");
	ck_assert_int_eq(ended, 1);
}
END_TEST

static void run_for(int64_t ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	event_base_loopexit(base, &tv);
	event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
}

/* It accepts connections, as its kernel does, and no answer begins. */
START_TEST(a_server_that_hangs_is_left)
{
	/* a list has another server before it is given up */
	start(STORE_LIST, POOLS, true);
	next("http://a:1" V1);
	ck_assert_int_eq(httpc_fake_first_ms(op), 4000);
	httpc_fake_fail(op, -ETIMEDOUT, true);
	next("http://b:1" V1);
	ck_assert_int_eq(httpc_fake_first_ms(op), 0);
	data("{\"metadata\":{\"resourceVersion\":\"20\"},\"items\":[]}");
	answer(200, "");
	ck_assert_int_eq(ended, 1);
	store_close(st);
	open_store("crd.projectcalico.org/v1");
	/* a deadline that comes after a silence tells of the server, for a write above all */
	calls = ended = 0;
	store_start(st,
		&(struct store_req){.verb = _i ? STORE_LIST : STORE_CREATE,
			.key = _i ? POOLS : POOLS "a",
			.value = _i ? NULL : "{}",
			.deadline_ms = clock_mono_ms() + 4300},
		on_done, NULL);
	next("http://a:1" V1);
	if (_i)
		data("{\"metadata\":{\"resourceVersion\":\"20\"},\"items\":[");
	run_for(4500);
	ck_assert_int_eq(ended, -ETIMEDOUT);
	start(STORE_CREATE, POOLS "a", false);
	next("http://b:1" V1);
	answer(201, POOL("a", "9"));
	ck_assert_int_eq(ended, 1);
}
END_TEST

START_TEST(a_list_that_a_watch_follows)
{
	/* from the server's memory, as it comes in */
	start(STORE_LIST, POOLS, true);
	next(V1 "?limit=500&resourceVersion=0");
	data("{\"metadata\":{\"resourceVersion\":\"20\",\"continue\":\"next\"},\"items\":[" POOL(
		"a", "3") "," POOL("b", "4") ",{\"metadata\":{\"na");
	ck_assert_int_eq(n_kvs, 2);
	ck_assert_int_eq(ended, 0);
	data("me\":\"c\",\"resourceVersion\":\"5\"}},{\"no\":\"object\"}]}");
	answer(200, "");
	ck_assert_int_eq(n_kvs, 3);
	next(V1 "?limit=500&continue=next");
	data("{\"metadata\":{\"resourceVersion\":\"20\"},\"items\":[" POOL("d", "6") "]}");
	answer(200, "");
	ck_assert_int_eq(n_kvs, 4);
	ck_assert_int_eq(ended, 1);
	ck_assert_int_eq(last_rev, 20);
	/* whose next page came too late */
	start(STORE_LIST, POOLS, true);
	next("&resourceVersion=20");
	data("{\"metadata\":{\"resourceVersion\":\"20\",\"continue\":\"next\"},\"items\":[]}");
	answer(200, "");
	next("&continue=next");
	answer(410, STATUS(410, "Expired"));
	ck_assert_int_eq(ended, -ESTALE);
	/* never an older one */
	start(STORE_LIST, POOLS, true);
	next(V1 "?limit=500&resourceVersionMatch=NotOlderThan&resourceVersion=20");
	data("{\"metadata\":{\"resourceVersion\":\"21\"},\"items\":[");
	answer(200, ""); /* it breaks off */
	ck_assert_int_eq(ended, -EHOSTUNREACH);
	/* but where an older copy of the server's data was put back */
	start(STORE_LIST, POOLS, true);
	for (int i = 0; i < 2; i++) {
		next("&resourceVersion=20");
		answer(504, "{\"message\":\"Too large resource version: 20, current: 9\"}");
	}
	ck_assert_int_eq(ended, -EHOSTUNREACH);
	start(STORE_LIST, POOLS, true);
	for (int i = 0; i < 2; i++) { /* or its memory lags, which would tell what was before */
		next("/ippools?limit=500");
		ck_assert_ptr_null(strstr(httpc_fake_url(op), "resourceVersion"));
		httpc_fake_fail(op, -EHOSTUNREACH, true);
	}
	ck_assert_int_eq(ended, -EHOSTUNREACH);
	/* others show what is now, in the keys' order, all at once */
	start(STORE_LIST, "/calico/ipam/v2/assignment/", false);
	next("/ipamblocks?limit=500");
	ck_assert_ptr_null(strstr(httpc_fake_url(op), "resourceVersion"));
	data("{\"metadata\":{\"resourceVersion\":\"30\"},\"items\":[{" META(
		"x", "1") ",\"spec\":{"
			  "\"cidr\":\"fd00::/122\"}},"
			  "{" META("y", "2") ",\"spec\":{\"cidr\":\"10.0.0.0/26\"}}]}");
	ck_assert_int_eq(calls, 0);
	answer(200, "");
	ck_assert_int_eq(calls, 1);
	ck_assert_int_eq(n_kvs, 2);
}
END_TEST

static void start_limited(const char *key, size_t limit)
{
	const struct store_req rq = {.verb = STORE_LIST, .key = key, .limit = limit};

	calls = n_kvs = ended = 0;
	store_start(st, &rq, on_done, NULL);
}

START_TEST(of_a_limited_list_no_more_is_asked_for)
{
	start_limited("/calico/resources/v3/projectcalico.org/nodes/", 2);
	next("/api/v1/nodes?limit=2");
	data("{\"metadata\":{\"resourceVersion\":\"20\",\"continue\":\"x\"},\"items\":[{" META(
		"a", "1") "},{" META("b", "2") "}]}");
	answer(200, "");
	ck_assert_int_eq(ended, 1);
	ck_assert_int_eq(n_kvs, 2);
	/* what is no object is none of them */
	start_limited(POOLS, 2);
	next(V1 "?limit=2");
	data("{\"metadata\":{\"resourceVersion\":\"20\",\"continue\":\"x\"},\"items\":[" POOL(
		"a", "3") ",{\"no\":\"object\"}]}");
	answer(200, "");
	next(V1 "?limit=2&continue=x");
	data("{\"metadata\":{\"resourceVersion\":\"20\"},\"items\":[" POOL("b", "3") "]}");
	answer(200, "");
	ck_assert_int_eq(ended, 1);
	ck_assert_int_eq(n_kvs, 2);
	/* the server's order is another one */
	start_limited("/calico/ipam/v2/assignment/", 1);
	next("/ipamblocks?limit=500");
	data("{\"metadata\":{\"resourceVersion\":\"20\",\"continue\":\"x\"},\"items\":[{" META(
		"10-0-0-0-26", "1") ",\"spec\":{\"cidr\":\"10.0.0.0/26\"}}]}");
	answer(200, "");
	next("/ipamblocks?limit=500&continue=x");
	data("{\"metadata\":{\"resourceVersion\":\"20\"},\"items\":[]}");
	answer(200, "");
	ck_assert_int_eq(ended, 1);
	ck_assert_int_eq(n_kvs, 1);
}
END_TEST

/* It is told as what no one can read, and is not taken for gone. */
START_TEST(an_object_that_cannot_be_read)
{
#define BROKEN(rev)                                                                                       \
	"{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"" rev                                        \
	"\",\"annotations\":{\"projectcalico.org/metadata\":\"{half\",\"other\":\"\\u0000\"}},\"spec\":{" \
	"}}"
	static const char told[] =
		"a \"IPPool a: annotation projectcalico.org/metadata: want a JSON object\"";
	static const struct sync_ops ops = {.set = on_set, .del = on_del, .in_sync = on_in_sync};
	static const char *const prefix = POOLS;
	struct sync *sync = sync_new(st, &prefix, 1, &ops, NULL, NULL);

	n_events = 0;
	next(V1 "?limit=500");
	data("{\"metadata\":{\"resourceVersion\":\"20\"},\"items\":[" POOL("a", "3") "]}");
	answer(200, "");
	ck_assert_int_eq(n_events, 1);
	next_data("u", "20");
	next("?watch=1");
	data("{\"type\":\"MODIFIED\",\"object\":" BROKEN("21") "}\n");
	ck_assert_int_eq(n_events, 2);
	ck_assert_str_eq(text, told);
	data("{\"type\":\"DELETED\",\"object\":" BROKEN("22") "}\n");
	ck_assert_str_eq(text, "a is gone");
	data("{\"type\":\"ADDED\",\"object\":" POOL("a", "23") "}\n");
	ck_assert_int_eq(n_events, 4);
	data("{\"type\":\"ADDED\",\"object\":\n"); /* whose list will say what is gone */
	next(V1 "?limit=500");
	data("{\"metadata\":{\"resourceVersion\":\"24\"},\"items\":[" BROKEN("24") "," POOL(
		"b", "24") "]}");
	answer(200, "");
	ck_assert_int_eq(n_events, 6); /* and others are told of */
	next("?watch=1");
	answer(410, STATUS(410, "Expired"));
	next(V1 "?limit=500");
	data("{\"metadata\":{\"resourceVersion\":\"24\"},\"items\":[{\"a\":no}");
	ck_assert_int_eq(n_events, 6);
	ck_assert_ptr_nonnull(strstr(sync_state(sync), "an object of the list is no JSON"));
	sync_free(sync);
	/* a reader is told the same, and may delete it */
	start(STORE_GET, POOLS "a", false);
	next(V1 "/a");
	answer(200, BROKEN("24"));
	ck_assert_int_eq(ended, 1);
	start(STORE_DELETE, POOLS "a", false);
	next(V1 "/a");
	answer(200, "{}");
	ck_assert_int_eq(ended, 1);
}
END_TEST

/* Whatever its spelling was: the object has only its name left to tell. */
START_TEST(a_handle_that_cannot_be_read_is_found_by_its_id)
{
	start(STORE_GET, "/calico/ipam/v2/handle/K8s.0F", false);
	next("/ipamhandles/k8s.0f");
	answer(200, "{\"metadata\":{\"name\":\"k8s.0f\",\"resourceVersion\":\"7\"},\"spec\":{}}");
	ck_assert_int_eq(ended, 1);
	start(STORE_GET, "/calico/ipam/v2/handle/K8s.0F", false);
	next("/ipamhandles/k8s.0f");
	answer(200, "{\"metadata\":{\"name\":\"k8s.0f\",\"resourceVersion\":\"7\"},\"spec\":{"
		    "\"handleID\":\"k8s.0f\"}}");
	ck_assert_int_eq(ended, -ENOENT); /* that is another one */
}
END_TEST

/* Its deadline is one of silence: begun anew, a long one would be as long again. */
START_TEST(a_list_that_goes_on_is_not_ended)
{
	calls = ended = n_kvs = 0;
	store_start(st,
		&(struct store_req){.verb = STORE_LIST,
			.key = POOLS,
			.feed = true,
			.deadline_ms = clock_mono_ms() + 500},
		on_done, NULL);
	next(V1);
	data("{\"metadata\":{\"resourceVersion\":\"20\"},\"items\":[" POOL("p", "3"));
	for (int i = 0; i < 6; i++) {
		run_for(150);
		ck_assert_int_eq(ended, 0);
		data("," POOL("q", "4"));
	}
	ck_assert_int_eq(n_kvs, 7);
	run_for(700);
	ck_assert_int_eq(ended, -ETIMEDOUT);
}
END_TEST

START_TEST(a_kind_that_is_not_served_has_no_objects)
{
	/* the group is served, and this kind is not */
	start(STORE_LIST, POOLS, false);
	next(V1 "?limit=500");
	answer(404, "404 page not found");
	ck_assert_int_eq(ended, 0);
	next("/apis/crd.projectcalico.org/v1");
	answer(200, "{\"kind\":\"APIResourceList\",\"resources\":[{\"name\":\"ipblocks\"}]}");
	ck_assert_int_eq(ended, -ENOENT);
	/* it is, by now */
	start(STORE_LIST, POOLS, false);
	next(V1 "?limit=500");
	answer(404, "404 page not found");
	next("/apis/crd.projectcalico.org/v1");
	answer(200, "{\"kind\":\"APIResourceList\",\"resources\":[{\"name\":\"ippools\"}]}");
	ck_assert_int_eq(ended, -EHOSTUNREACH);
	/* not even the group is, or this is no API server */
	start(STORE_LIST, POOLS, false);
	next(V1 "?limit=500");
	answer(404, "404 page not found");
	next("/apis/crd.projectcalico.org/v1");
	answer(404, "404 page not found");
	ck_assert_int_eq(ended, -EHOSTUNREACH);
}
END_TEST

static char advice[1024];

static void on_advice(void *arg, const char *said)
{
	(void)arg;
	ended = 1;
	snprintf(advice, sizeof(advice), "%s", said ? said : "");
}

#define GROUP(name) "{\"name\":\"" name "\"}"
#define N_ASKED 6

/* What two groups have of the kinds that are asked for; v1 is used unless another is asked for. */
static void answer_counts(const int *v1, const int *v3)
{
	for (int i = 0; i < 2 * N_ASKED; i++) {
		int n = i < N_ASKED ? v1[i] : v3[i - N_ASKED];
		auto_free char *body = mem_printf("{\"metadata\":{%s%d},\"items\":[%s]}",
			"\"remainingItemCount\":", n > 1 ? n - 1 : 0, n > 0 ? "{}" : "");

		next(i < N_ASKED ? "/apis/crd.projectcalico.org/v1/"
				 : "/apis/projectcalico.org/v3/");
		ck_assert_ptr_nonnull(strstr(httpc_fake_url(op), "?limit=1"));
		answer(n < 0 ? 404 : 200, body);
	}
}

START_TEST(of_two_groups_the_other_may_be_the_clusters)
{
	static const char both[] =
		"{\"groups\":[" GROUP("crd.projectcalico.org") "," GROUP("projectcalico.org") "]}";
	static const int none[N_ASKED], some[N_ASKED] = {2, 3, 0, 0, 0, 1};
	static const int unknown[N_ASKED] = {1, -1, 0, 0, 0, 1};
	struct store_advice *a;

	ended = 0;
	ck_assert_ptr_nonnull(store_advise(st, on_advice, NULL));
	next("/apis");
	answer(200, "{\"groups\":[" GROUP("crd.projectcalico.org") "]}");
	ck_assert_int_eq(ended, 1);
	ck_assert_str_eq(advice, "");
	store_advise(st, on_advice, NULL);
	next("/apis");
	answer(200, both);
	answer_counts(none, some);
	ck_assert_ptr_nonnull(
		strstr(advice, "crd.projectcalico.org/v1 is used, and has none of what "
			       "projectcalico.org/v3 has: 2 IPPool, 3 IPAMBlock, 1 "
			       "IPReservation; "));
	ck_assert_ptr_nonnull(strstr(advice, "CALICO_API_GROUP=projectcalico.org/v3"));
	/* what the used one has, and what it cannot have, is nothing to tell of */
	store_advise(st, on_advice, NULL);
	next("/apis");
	answer(200, both);
	answer_counts(unknown, some);
	ck_assert_str_eq(advice, "");
	ended = 0;
	a = store_advise(st, on_advice, NULL);
	next("/apis");
	store_advice_cancel(a);
	/* where the group is asked for anyway, that is asked once */
	store_close(st);
	open_store(NULL);
	store_advise(st, on_advice, NULL);
	next("/apis");
	answer(200, "{\"groups\":[" GROUP("projectcalico.org") "]}");
	ck_assert_int_eq(ended, 1);
	ck_assert_str_eq(advice, "");
}
END_TEST

START_TEST(an_agent_is_told_of_its_node)
{
	static const char weps[] = "/calico/resources/v3/projectcalico.org/workloadendpoints/";
	struct err err = ERR_INIT;
	const struct store_conf conf = {.type = "kubernetes",
		.k8s_api_endpoint = "http://a:1",
		.k8s_api_token = "t",
		.calico_api_group = "crd.projectcalico.org/v1",
		.own_node = "node-1"};

	store_close(st);
	ck_assert_int_eq(store_open(&conf, base, &st, &err), 0);
	start(STORE_LIST, weps, true);
	next("/api/v1/pods?limit=500&resourceVersion=0&fieldSelector=spec.nodeName%3Dnode-1");
	data("{\"metadata\":{\"resourceVersion\":\"20\"},\"items\":[]}");
	answer(200, "");
	ck_assert_int_eq(ended, 1);
	store_watch(st, weps, 20, on_event, on_end, NULL);
	next_data("u", "20");
	next("&resourceVersion=20&fieldSelector=spec.nodeName%3Dnode-1");
	answer(410, STATUS(410, "Expired"));
	/* of pods as they are, too */
	start(STORE_LIST, "/margay/v1/pods/", true);
	next("/api/v1/pods?limit=500&resourceVersion=0&fieldSelector=spec.nodeName%3Dnode-1");
	answer(403, STATUS(403, "Forbidden"));
	/* of all nodes it is told of its own */
	start(STORE_LIST, NODES "node-1", true);
	next("/api/v1/nodes?limit=500&resourceVersion=0&fieldSelector=metadata.name%3Dnode-1");
	answer(403, STATUS(403, "Forbidden"));
	store_watch(st, NODES "node-1", 20, on_event, on_end, NULL);
	next("&resourceVersion=20&fieldSelector=metadata.name%3Dnode-1");
	answer(410, STATUS(410, "Expired"));
	start(STORE_LIST, NODES, true);
	next("/api/v1/nodes?limit=500&");
	ck_assert_ptr_null(strstr(httpc_fake_url(op), "fieldSelector"));
	answer(403, STATUS(403, "Forbidden"));
	/* who asks what there is, is told of all */
	start(STORE_LIST, weps, false);
	next("/api/v1/pods?limit=500");
	ck_assert_ptr_null(strstr(httpc_fake_url(op), "fieldSelector"));
	answer(403, STATUS(403, "Forbidden"));
	start(STORE_LIST, POOLS, true);
	next("/ippools?limit=500&resourceVersion=0");
	ck_assert_ptr_null(strstr(httpc_fake_url(op), "fieldSelector"));
	answer(403, STATUS(403, "Forbidden"));
}
END_TEST

START_TEST(a_watch_goes_on_where_it_was)
{
	ended = n_events = 0;
	last_rev = 5;
	store_watch(st, POOLS, 5, on_event, on_end, NULL);
	next_data("u", "5");
	next(V1 "?watch=1&allowWatchBookmarks=true&timeoutSeconds=");
	ck_assert_ptr_nonnull(strstr(httpc_fake_url(op), "&resourceVersion=5"));
	data("{\"type\":\"ADDED\",\"object\":" POOL("a", "6") "}\n{\"type\":\"BOOKM");
	ck_assert_int_eq(n_events, 1);
	data("ARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}\n{\"type\":\"ADDED\",\"obj");
	ck_assert_int_eq(n_events, 1);
	answer(200, ""); /* the end that every watch has */
	next_data("u", "9");
	next("&resourceVersion=9");
	data("{\"type\":\"DELETED\",\"object\":" POOL("a", "11") "}\n");
	ck_assert_int_eq(n_events, 2);
	httpc_fake_fail(op, -ECONNRESET, true);
	next_data("u", "11");
	next("&resourceVersion=11");
	data("{\"type\":\"ERROR\",\"object\":" STATUS(410, "Expired") "}\n");
	ck_assert_int_eq(ended, -ESTALE);
	ck_assert_int_eq(n_events, 2);
}
END_TEST

START_TEST(a_watch_is_given_up_in_the_end)
{
	ended = 0;
	store_watch(st, POOLS, 5, on_event, on_end, NULL);
	next("/namespaces");
	answer(403, STATUS(403, "Forbidden")); /* then it is taken for the same */
	for (int i = 0; i < 2; i++) {
		next("&resourceVersion=5");
		answer(403, STATUS(403, "Forbidden"));
		if (ended)
			break;
	}
	ck_assert_int_eq(ended, -EACCES);
	ck_assert_ptr_nonnull(strstr(text, "it said so: its RBAC role has to allow that"));
}
END_TEST

/* Who shows a token that has expired is not one who may not ask: it is asked again, before anything is told. */
START_TEST(an_expired_token_is_no_forbidden_question)
{
	ended = n_events = 0;
	last_rev = 0;
	store_watch(st, POOLS, 5, on_event, on_end, NULL);
	next("/namespaces");
	answer(401, STATUS(401, "Unauthorized"));
	ck_assert_int_eq(ended, -EACCES);
	ck_assert_ptr_nonnull(strstr(text, "is wrong or has expired"));
	ended = 0;
	store_watch(st, POOLS, 5, on_event, on_end, NULL);
	next_data("u", "5");
	next("&resourceVersion=5");
	answer(410, STATUS(410, "Expired"));
	ck_assert_int_eq(ended, -ESTALE);
}
END_TEST

/* A server waits for a revision that it does not have yet, so that it would be silent. */
START_TEST(a_watch_does_not_go_on_in_other_data)
{
	static const struct {
		const char *cluster, *rev;
	} others[] = {{"u", "29"}, {"v", "31"}};

	for (size_t i = 0; i < array_size(others); i++) {
		store_close(st);
		open_store("crd.projectcalico.org/v1");
		ended = n_events = 0;
		last_rev = 0;
		store_watch(st, POOLS, 20, on_event, on_end, NULL);
		next_data("u", "20");
		next("&resourceVersion=20");
		data("{\"type\":\"ADDED\",\"object\":" POOL("a", "30") "}\n");
		httpc_fake_fail(op, -ECONNRESET, true);
		next_data("u", "30");
		next("&resourceVersion=30");
		answer(200, "");
		ck_assert_int_eq(ended, 0);
		next_data(others[i].cluster, others[i].rev);
		ck_assert_int_eq(ended, -ESTALE);
		ck_assert_ptr_nonnull(strstr(text, "it has other data than before"));
		/* the list is not asked to be newer than what there was */
		start(STORE_LIST, POOLS, true);
		next("&resourceVersion=0");
		data("{\"metadata\":{\"resourceVersion\":\"25\"},\"items\":[]}");
		answer(200, "");
		ck_assert_int_eq(ended, 1);
		store_watch(st, POOLS, 25, on_event, on_end, NULL);
		next("&resourceVersion=25");
		answer(410, STATUS(410, "Expired"));
	}
}
END_TEST

START_TEST(servers_are_remembered)
{
	char path[] = "/tmp/margay-kube-XXXXXX";
	const struct store_conf conf = {.type = "kubernetes",
		.kubernetes_service_host = "10.96.0.1",
		.kubernetes_service_port = "443",
		.k8s_api_token = "t",
		.calico_api_group = "crd.projectcalico.org/v1",
		.kube_endpoints_file = path};
	struct err err = ERR_INIT;
	auto_free char *kept = NULL;

	close(mkstemp(path));
	store_close(st);
	ck_assert_int_eq(store_open(&conf, base, &st, &err), 0);
	store_watch(st, POOLS, 20, on_event, on_end, NULL);
	if (_i == 0) {
		next_data("u", "20");
	} else { /* who may not tell other data from these is told of servers all the same */
		next("/namespaces");
		answer(403, STATUS(403, "Forbidden"));
	}
	next("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector="
	     "kubernetes.io%2Fservice-name%3Dkubernetes");
	answer(200,
		"{\"items\":[{\"endpoints\":[{\"addresses\":[\"192.0.2.1\",\"127.0.0.1\"],"
		"\"conditions\":{\"ready\":true}},{\"addresses\":[\"192.0.2.9\"],\"conditions\":{"
		"\"ready\":false}}],\"ports\":[{\"name\":\"https\",\"port\":6443}]},{\"endpoints\":[{"
		"\"addresses\":[\"fd00::1\"]}],\"ports\":[{\"name\":\"https\",\"port\":6443}]}]}");
	ck_assert_int_eq(file_read(path, 4096, &kept, NULL, &err), 0);
	ck_assert_str_eq(kept, "https://192.0.2.1:6443\nhttps://[fd00::1]:6443\n");
	next("?watch=1");
	answer(410, STATUS(410, "Expired"));
	/* they are used at once, under the name that is configured, and an empty list is no news */
	start(STORE_GET, POOLS "a", false);
	for (int i = 0; i < 3; i++) {
		next(i ? "https://10.96.0.1:6443/" : "https://10.96.0.1:443/");
		httpc_fake_fail(op, -EHOSTUNREACH, false);
	}
	ck_assert_int_eq(ended, -EHOSTUNREACH);
	ck_assert_str_eq(text,
		"datastore https://10.96.0.1:443: the connection is gone: check the address in "
		"KUBERNETES_SERVICE_HOST, and that an API server is there");
	store_close(st);
	ck_assert_int_eq(store_open(&conf, base, &st, &err), 0);
	store_watch(st, POOLS, 20, on_event, on_end, NULL);
	next("https://10.96.0.1:443/");
	httpc_fake_fail(op, -EHOSTUNREACH, false);
	next_data("u", "20");
	next("https://10.96.0.1:6443/");
	answer(200, "{\"items\":[]}");
	free(take_ptr(kept));
	ck_assert_int_eq(file_read(path, 4096, &kept, NULL, &err), 0);
	ck_assert_str_eq(kept, "https://192.0.2.1:6443\nhttps://[fd00::1]:6443\n");
	unlink(path);
}
END_TEST

static void discover(const char *groups, int status, const char *then)
{
	store_close(st);
	open_store(NULL);
	start(STORE_GET, POOLS "a", false);
	start(STORE_GET, POOLS "b", false);
	next("http://a:1/apis");
	answer(status, groups);
	for (int i = 0; i < 2 && then; i++) {
		next(then);
		answer(200, POOL("a", "5"));
	}
}

START_TEST(the_group_is_asked_for_once)
{
	discover("{\"groups\":[{\"name\":\"projectcalico.org\"},{\"name\":\"apps\"}]}", 200,
		"/apis/projectcalico.org/v3/ippools/");
	start(STORE_GET, POOLS "a", false);
	next("/apis/projectcalico.org/v3/ippools/a");
	answer(200, POOL("a", "5"));
	discover(
		"{\"groups\":[{\"name\":\"projectcalico.org\"},{\"name\":\"crd.projectcalico.org\"}]}",
		200, V1 "/");
	/* neither is there yet: it is asked for again */
	discover("{\"groups\":[]}", 200, V1 "/");
	start(STORE_GET, POOLS "a", false);
	next("http://a:1/apis");
	answer(403, STATUS(403, "Forbidden"));
	ck_assert_int_eq(ended, -EACCES);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("kube_api");
	TCase *tc = tcase_create("kube_api");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, what_errors_mean);
	tcase_add_test(tc, an_update_keeps_what_others_put_on_a_resource);
	tcase_add_test(tc, an_update_of_a_handle_is_a_patch_of_its_spec);
	tcase_add_test(tc, a_record_that_is_marked_deleted_is_in_nobodys_way);
	tcase_add_test(tc, a_write_is_sent_again_only_where_it_cannot_have_been_done);
	tcase_add_test(tc, a_busy_server_is_asked_again_when_it_says);
	tcase_add_loop_test(tc, a_server_that_hangs_is_left, 0, 2);
	tcase_add_test(tc, a_list_that_a_watch_follows);
	tcase_add_test(tc, of_a_limited_list_no_more_is_asked_for);
	tcase_add_test(tc, an_object_that_cannot_be_read);
	tcase_add_test(tc, a_handle_that_cannot_be_read_is_found_by_its_id);
	tcase_add_test(tc, a_list_that_goes_on_is_not_ended);
	tcase_add_test(tc, a_kind_that_is_not_served_has_no_objects);
	tcase_add_test(tc, of_two_groups_the_other_may_be_the_clusters);
	tcase_add_test(tc, an_agent_is_told_of_its_node);
	tcase_add_test(tc, a_watch_goes_on_where_it_was);
	tcase_add_test(tc, a_watch_does_not_go_on_in_other_data);
	tcase_add_loop_test(tc, servers_are_remembered, 0, 2);
	tcase_add_test(tc, a_watch_is_given_up_in_the_end);
	tcase_add_test(tc, an_expired_token_is_no_forbidden_question);
	tcase_add_test(tc, the_group_is_asked_for_once);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
