/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests to etcd's gateway. A call goes to the first endpoint that has not failed lately, and on to
 * the next where it is certain not to have been carried out. Where auth is on, calls wait for a token,
 * which one login fetches for all of them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/etcd.h"

#define MAX_CONNS 8
#define ANSWER_MAX (16 * 1024 * 1024)
#define RENEWALS 2
/* An election takes 1 to 2 s; five rounds, each wait twice the one before, are 3 to 6 s. */
#define WAIT_MS 100
#define WAIT_ROUNDS 5

/* NEXT and WAIT: it was not carried out; another endpoint may do it, this one only later. */
enum verdict { FAILED, NEXT, WAIT, RENEW, UNKNOWN };

/* etcd's refusals, by a part of their text; the gateway keeps no better code. */
static const struct {
	const char *part;
	enum verdict verdict;
	int r;
	const char *hint;
} refusals[] = {
	{"invalid auth token", RENEW, -EACCES, ""},
	{"revision of auth store is old", RENEW, -EACCES, ""},
	{"user name is empty", RENEW, -EACCES, ": set ETCD_USERNAME and ETCD_PASSWORD"},
	{"authentication failed", FAILED, -EACCES, ": check ETCD_USERNAME and ETCD_PASSWORD"},
	{"permission denied", FAILED, -EACCES,
		": grant the role of ETCD_USERNAME \"readwrite\" on the prefixes /calico/ and /margay/"},
	{"has been compacted", FAILED, -ESTALE, ""},
	{"database space exceeded", FAILED, -ENOSPC,
		": compact and defragment it or raise --quota-backend-bytes, then: etcdctl alarm "
		"disarm"},
	{"requested lease not found", FAILED, -EKEYEXPIRED, ""},
	{"is too large", FAILED, -EINVAL, ": raise --max-request-bytes of etcd"},
	{"larger than max", FAILED, -EINVAL, ": raise --max-request-bytes of etcd"},
	{"no leader", WAIT, -EHOSTUNREACH, ": most of its members are away"},
	{"too many requests", WAIT, -EHOSTUNREACH, ""},
	{"HTTP request to an HTTPS server", NEXT, -EHOSTUNREACH,
		": write https:// in ETCD_ENDPOINTS"},
	{"Not Found", NEXT, -EHOSTUNREACH,
		": want etcd 3.4 or newer, with its JSON gateway (--enable-grpc-gateway)"},
};

static void login_start(struct etcd *et);
static void call_next(struct etcd_call *c);

static void answer_failed(struct etcd_call *c, int r)
{
	struct err why = c->why;

	c->answer(c, r, NULL, &why);
}

static const char *where(const struct etcd_call *c)
{
	return c->et->endpoints[c->turn.at];
}

void etcd_call_suspect(struct etcd_call *c)
{
	servers_suspect(&c->et->servers, &c->turn, clock_mono_ms());
}

/* ---- what came back ---- */

/* What to look at. */
static const char *hint_of(const struct etcd_call *c, const struct httpc_res *res)
{
	bool https = strncmp(where(c), "https:", 6) == 0;
	const char *text = res->err->text;

	if (strstr(text, "private key"))
		return "that ETCD_KEY_FILE is readable, the key of ETCD_CERT_FILE and not encrypted";
	if (https && (strstr(text, "SSL_ERROR_SYSCALL") || strstr(text, "wrong version number") ||
			     strstr(text, "reset by peer")))
		return "that etcd has TLS there (else write http:// in ETCD_ENDPOINTS), "
		       "ETCD_CA_CERT_FILE, ETCD_CERT_FILE and ETCD_KEY_FILE";
	if (https && (httpc_says_tls(text) || res->r == -ECONNRESET))
		return "ETCD_CA_CERT_FILE, ETCD_CERT_FILE and ETCD_KEY_FILE";
	if (res->r == -ECONNRESET)
		return "ETCD_ENDPOINTS, where etcd has TLS https://";
	return "ETCD_ENDPOINTS, and that etcd runs there";
}

static void on_broken(struct etcd_call *c, const struct httpc_res *res)
{
	const char *text = res->err->text;
	/* With TLS 1.3 a client that is refused has sent already. */
	bool sent = res->sent && !strstr(text, "alert");

	if (res->r == -EMSGSIZE) {
		err_set(&c->why, res->r, "datastore %s: %s", where(c), text);
		answer_failed(c, res->r);
		return;
	}
	etcd_call_suspect(c);
	if (c->write && sent) {
		err_set(&c->why, -ETIMEDOUT,
			"datastore %s: %s: whether it was written is not known", where(c), text);
		answer_failed(c, -ETIMEDOUT);
		return;
	}
	err_set(&c->why, -EHOSTUNREACH, "datastore %s: %s: check %s", where(c), text,
		hint_of(c, res));
	call_next(c);
}

/* What came is anybody's text: a proxy's page, for one. */
static void one_line(char to[static 201], const char *text)
{
	snprintf(to, 201, "%s", text);
	for (; *to; to++)
		if ((unsigned char)*to < ' ' || *to == 0x7f)
			*to = ' ';
}

static enum verdict judge(struct etcd_call *c, int status, const char *text)
{
	char message[201];

	one_line(message, text);
	for (size_t i = 0; i < array_size(refusals); i++)
		if (strstr(message, refusals[i].part)) {
			err_set(&c->why, refusals[i].r, "datastore %s: %s%s", where(c), message,
				refusals[i].hint);
			return refusals[i].verdict;
		}
	err_set(&c->why, -EHOSTUNREACH, "datastore %s: %s (HTTP status %d)", where(c), message,
		status);
	if (status / 100 == 4)
		return FAILED;
	return c->write ? UNKNOWN : NEXT;
}

/* Whether it may be tried again. Only the first to see it drops a token. */
static bool renew(struct etcd_call *c)
{
	struct etcd *et = c->et;

	if (!et->username || c->login || c->renewals++ >= RENEWALS)
		return false;
	if (c->token_no == et->token_no) {
		free(take_ptr(et->token));
		et->auth_off = false;
	}
	return true;
}

static void on_refused(struct etcd_call *c, int status, const char *message)
{
	enum verdict v = judge(c, status, message);

	switch (v) {
	case RENEW:
		if (renew(c)) {
			c->turn.tried &= ~(1u << c->turn.at);
			call_next(c);
			return;
		}
		break;
	case WAIT:
	case NEXT:
		c->wait |= v == WAIT;
		etcd_call_suspect(c);
		call_next(c);
		return;
	case UNKNOWN:
		c->why.code = -ETIMEDOUT;
		err_wrap(&c->why, -ETIMEDOUT, "whether it was written is not known");
		break;
	case FAILED:
		break;
	}
	answer_failed(c, c->why.code);
}

int etcd_call_refused(struct etcd_call *c, const char *message, struct err *err)
{
	enum verdict v = judge(c, 0, message);

	*err = c->why;
	if (v != FAILED && v != RENEW)
		etcd_call_suspect(c);
	return v == RENEW && renew(c) ? 0 : c->why.code;
}

int etcd_check_cluster(struct etcd_call *c, const json_t *header, struct err *err)
{
	const char *text = json_string_value(json_object_get(header, "cluster_id"));
	uint64_t id = text ? strtoull(text, NULL, 10) : 0;

	if (!c->et->cluster_id)
		c->et->cluster_id = id;
	if (!id || id == c->et->cluster_id)
		return 0;
	return err_set(err, -EHOSTUNREACH,
		"datastore %s: another cluster (%llx, was %llx) stands in its place: put the old one "
		"back, or restart this program to take the new one",
		where(c), (unsigned long long)id, (unsigned long long)c->et->cluster_id);
}

static void on_done(void *arg, const struct httpc_res *res)
{
	struct etcd_call *c = arg;
	const char *message;
	json_t *json;
	int r;

	c->http = NULL;
	if (c->on_data && res->status == 200) {
		etcd_call_suspect(c);
		r = err_set(&c->why, -EHOSTUNREACH,
			"datastore %s: the watch's connection ended: %s", where(c),
			res->r < 0 ? res->err->text : "by the server");
		answer_failed(c, r);
		return;
	}
	if (res->r < 0) {
		on_broken(c, res);
		return;
	}
	json = json_loadb(res->body, res->len, JSON_ALLOW_NUL, NULL);
	if (res->status != 200 || !json_is_object(json)) {
		message = json_string_value(json_object_get(json, "error"));
		if (!message)
			message = json_string_value(
				json_object_get(json_object_get(json, "error"), "message"));
		on_refused(c, res->status, message ? message : res->body);
		json_decref(json);
		return;
	}
	servers_trust(&c->et->servers, &c->turn);
	r = etcd_check_cluster(c, json_object_get(json, "header"), &c->why);
	if (r < 0) {
		etcd_call_suspect(c); /* of several endpoints one may be the other cluster's */
		answer_failed(c, r);
	} else {
		c->answer(c, 0, json, NULL);
	}
	json_decref(json);
}

/* ---- sending ---- */

static int clients(struct etcd *et, struct err *err)
{
	int r = et->http ? 0 : httpc_new(et->st.base, MAX_CONNS, &et->http, err);

	if (r == 0 && !et->streams)
		r = httpc_new(et->st.base, 0, &et->streams, err);
	return r;
}

static void on_wait(evutil_socket_t fd, short what, void *arg)
{
	struct etcd_call *c = arg;

	(void)fd;
	(void)what;
	c->turn = (struct servers_turn){0};
	c->wait = false;
	call_next(c);
}

/* Every endpoint was asked. */
static void round_failed(struct etcd_call *c)
{
	uint32_t ms;

	if (!c->wait || c->on_data || c->rounds == WAIT_ROUNDS) {
		answer_failed(c, c->why.code);
		return;
	}
	if (!c->timer)
		c->timer = evtimer_new(c->et->st.base, on_wait, c);
	if (!c->timer)
		abort();
	ms = WAIT_MS << c->rounds++;
	store_arm(c->timer, ms + store_random(ms));
}

static void call_next(struct etcd_call *c)
{
	struct etcd *et = c->et;
	bool last;
	int r = clients(et, &c->why);

	if (r < 0) {
		answer_failed(c, r);
		return;
	}
	if (et->username && !et->token && !et->auth_off && !c->login) {
		list_del(&c->node);
		list_add_tail(&et->waiting, &c->node);
		login_start(et);
		return;
	}
	if (!servers_next(&et->servers, &c->turn, clock_mono_ms())) {
		round_failed(c);
		return;
	}
	last = servers_is_last(&et->servers, &c->turn);

	auto_free char *url = mem_printf("%s%s", where(c), c->path);
	auto_free char *alive = c->on_data ? mem_printf("%s/version", where(c)) : NULL;
	auto_free char *auth = et->token ? mem_printf("Authorization: %s", et->token) : NULL;
	/* hasleader: a member that is cut off refuses, rather than to be silent */
	const char *const headers[] = {"Content-Type: application/json",
		"Grpc-Metadata-hasleader: true", c->login ? NULL : auth, NULL};

	c->token_no = et->token_no;
	c->http = httpc_start(c->on_data ? et->streams : et->http,
		&(struct httpc_req){
			.url = url,
			.headers = headers,
			.body = c->body,
			.len = strlen(c->body),
			.tls = {.ca_file = et->ca_file,
				.cert_file = et->cert_file,
				.key_file = et->key_file},
			.max_bytes = ANSWER_MAX,
			.once = c->write,
			.connect_ms = SERVERS_CONNECT_MS,
			.timeout_ms = c->login || (!c->write && !c->on_data && !last)
					      ? SERVERS_ATTEMPT_MS
					      : 0,
			.first_ms = c->on_data ? SERVERS_FIRST_MS : 0,
			.alive_url = alive,
			.alive_ms = SERVERS_ALIVE_MS,
			.on_data = c->on_data,
			.done = on_done,
			.arg = c,
		});
}

void etcd_call_start(struct etcd_call *c)
{
	list_init(&c->node);
	c->turn = (struct servers_turn){0};
	c->wait = false;
	c->rounds = 0;
	c->renewals = 0;
	c->why = ERR_INIT;
	call_next(c);
}

void etcd_call_stop(struct etcd_call *c)
{
	if (c->http && !c->on_data)
		(void)servers_leave(&c->et->servers, &c->turn, clock_mono_ms());
	if (c->timer)
		event_free(take_ptr(c->timer));
	httpc_cancel(take_ptr(c->http));
	if (c->node.next)
		list_del(&c->node);
	free(take_ptr(c->body));
}

/* ---- tokens ---- */

static void on_login(struct etcd_call *login, int r, const json_t *answer, const struct err *err)
{
	struct etcd *et = login->et;
	const char *token = json_string_value(json_object_get(answer, "token"));
	struct err why = err ? *err : ERR_INIT;
	struct list waiting;

	etcd_call_stop(login);
	et->login_runs = false;
	if (r < 0 && strstr(why.text, "authentication is not enabled")) {
		et->auth_off = true;
		r = 0;
	} else if (r == 0 && !token) {
		r = err_set(
			&why, -EHOSTUNREACH, "datastore %s: a login without token", where(login));
	} else if (r == 0) {
		et->token = mem_strdup(token);
	}
	et->token_no++;
	/* What they do then may stop others, or have them wait anew. */
	list_take(&waiting, &et->waiting);
	while (!list_empty(&waiting)) {
		struct etcd_call *c = list_entry(waiting.next, struct etcd_call, node);

		list_del(&c->node);
		c->why = why;
		if (r < 0)
			answer_failed(c, r);
		else
			call_next(c);
	}
}

static void login_start(struct etcd *et)
{
	json_t *who;

	if (et->login_runs)
		return;
	et->login_runs = true;
	who = json_pack(
		"{s:s, s:s}", "name", et->username, "password", et->password ? et->password : "");
	et->login = (struct etcd_call){.et = et,
		.path = "/v3/auth/authenticate",
		.body = who ? json_dumps(who, JSON_COMPACT) : mem_strdup("{}"),
		.login = true,
		.answer = on_login};
	json_decref(who);
	etcd_call_start(&et->login);
}
