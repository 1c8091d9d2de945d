/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libcurl calls back from inside of its own functions, where it allows almost nothing. So its
 * callbacks only collect; when it has returned, deliver() hands out what came.
 */
#include "svc/httpc.h"

#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#include <event2/event.h>

#include "base/err.h"
#include "base/list.h"
#include "base/strbuf.h"

#define KEEP_CONNS 8
#define KEEPALIVE_S 30
#define SILENCE_MS 45000 /* of a peer's kernel: what was sent, or a probe, has no answer */
#define ERROR_BODY_MAX (64 * 1024)
#define ALIVE_PART 6 /* of the time between two questions, to answer one */

#define CURL_FUNCTIONS(X)      \
	X(global_init)         \
	X(slist_append)        \
	X(slist_free_all)      \
	X(easy_init)           \
	X(easy_setopt)         \
	X(easy_duphandle)      \
	X(easy_getinfo)        \
	X(easy_cleanup)        \
	X(easy_strerror)       \
	X(multi_init)          \
	X(multi_setopt)        \
	X(multi_add_handle)    \
	X(multi_remove_handle) \
	X(multi_socket_action) \
	X(multi_assign)        \
	X(multi_info_read)     \
	X(multi_cleanup)

static struct {
#define X(name) __typeof__ (&curl_##name)(name);
	CURL_FUNCTIONS(X)
#undef X
	bool loaded;
} lib;

struct httpc {
	struct event_base *base;
	CURLM *multi;
	struct event *timer;
	struct list ops;
	struct event *questions; /* the next ones, while there are streams that want them */
	unsigned round;
};

struct httpc_op {
	struct list node;
	struct httpc *c;
	CURL *easy;
	struct curl_slist *headers, *connect_to;
	char *body;
	size_t body_len, body_at;
	size_t max_bytes;
	bool once, too_long, stopped;
	bool *dead;	     /* set when it is freed from inside on_data */
	struct event *first; /* ends it where no answer has begun; NULL = no limit */
	char *alive_url;     /* of a stream */
	char *server;	     /* it and where that is, of a stream, and of a question */
	int64_t alive_ms;
	unsigned round; /* of the last question */
	struct strbuf in;
	httpc_data_fn *on_data;
	httpc_done_fn *done; /* NULL: a question, whether a stream's server is alive */
	void *arg;
	char why[CURL_ERROR_SIZE];
};

static int load(struct err *err)
{
	void *so;

	if (lib.loaded)
		return 0;
	so = dlopen(HTTPC_LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!so)
		return err_set(err, -EHOSTUNREACH, "%s: install libcurl4", dlerror());
#define X(name)                                                 \
	*(void **)(void *)&lib.name = dlsym(so, "curl_" #name); \
	if (!lib.name)                                          \
		return err_set(err, -EHOSTUNREACH, HTTPC_LIBRARY " has no curl_" #name);
	CURL_FUNCTIONS(X)
#undef X
	if (lib.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return err_set(err, -EHOSTUNREACH, "libcurl cannot be initialised");
	lib.loaded = true;
	return 0;
}

static void op_free(struct httpc_op *op)
{
	if (op->dead)
		*op->dead = true;
	lib.multi_remove_handle(op->c->multi, op->easy);
	lib.easy_cleanup(op->easy);
	lib.slist_free_all(op->headers);
	lib.slist_free_all(op->connect_to);
	if (op->first)
		event_free(op->first);
	list_del(&op->node);
	strbuf_done(&op->in);
	free(op->body);
	free(op->alive_url);
	free(op->server);
	free(op);
}

void httpc_cancel(struct httpc_op *op)
{
	if (op)
		op_free(op);
}

void httpc_abandon(struct httpc_op *op)
{
	lib.easy_setopt(op->easy, CURLOPT_FORBID_REUSE, 1L);
	op_free(op);
}

static int status_of(const struct httpc_op *op)
{
	long status = 0;

	lib.easy_getinfo(op->easy, CURLINFO_RESPONSE_CODE, &status);
	return (int)status;
}

static int64_t retry_after_of(const struct httpc_op *op)
{
	curl_off_t s = 0;

	lib.easy_getinfo(op->easy, CURLINFO_RETRY_AFTER, &s);
	return s;
}

static bool is_stream(const struct httpc_op *op)
{
	return op->on_data && status_of(op) / 100 == 2;
}

/* Of an answer that is not told in pieces: of a stream, only a refusal is not. */
static size_t body_max(const struct httpc_op *op)
{
	return op->on_data ? ERROR_BODY_MAX : op->max_bytes;
}

/* ---- what curl calls ---- */

static size_t on_write(char *data, size_t size, size_t n, void *arg)
{
	struct httpc_op *op = arg;

	n *= size;
	if (op->stopped || (!is_stream(op) && op->in.len + n > body_max(op))) {
		op->too_long = !op->stopped;
		return 0;
	}
	strbuf_addn(&op->in, data, n);
	return n;
}

static size_t on_read(char *to, size_t size, size_t n, void *arg)
{
	struct httpc_op *op = arg;
	size_t left = op->body_len - op->body_at;

	n *= size;
	if (n > left)
		n = left;
	memcpy(to, op->body + op->body_at, n);
	op->body_at += n;
	return n;
}

/* curl sends again where a kept connection turns out to be dead, though the server may have read it. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct httpc_op *op = arg;

	if (origin != SEEK_SET || offset < 0 || (size_t)offset > op->body_len ||
		(op->once && op->body_at > 0))
		return CURL_SEEKFUNC_FAIL;
	op->body_at = (size_t)offset;
	return CURL_SEEKFUNC_OK;
}

static int to_errno(const struct httpc_op *op, CURLcode rc)
{
	switch (rc) {
	case CURLE_OPERATION_TIMEDOUT:
		return op->body_at || !op->body_len ? -ETIMEDOUT : -EHOSTUNREACH;
	case CURLE_WRITE_ERROR:
		return op->too_long ? -EMSGSIZE : -ECANCELED;
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_SEND_FAIL_REWIND:
	case CURLE_PARTIAL_FILE:
		return -ECONNRESET;
	default:
		return -EHOSTUNREACH;
	}
}

static void op_begin(struct httpc_op *op)
{
	lib.easy_setopt(op->easy, CURLOPT_ERRORBUFFER, op->why);
	lib.easy_setopt(op->easy, CURLOPT_WRITEDATA, op);
	lib.easy_setopt(op->easy, CURLOPT_PRIVATE, op);
	list_add_tail(&op->c->ops, &op->node);
	lib.multi_add_handle(op->c->multi, op->easy);
}

/* ---- handing out ---- */

static bool deliver_data(struct httpc_op *op)
{
	struct strbuf in = op->in;
	bool dead = false, more;

	op->in = STRBUF_INIT;
	op->dead = &dead;
	more = op->on_data(op->arg, in.s, in.len);
	strbuf_done(&in);
	if (dead)
		return false;
	op->dead = NULL;
	op->stopped = !more;
	return true;
}

/* " after 3001 ms" goes: a failure that lasts has one text, which is logged once. */
static void drop_time(char *why)
{
	char *at = strstr(why, " after "), *end;

	for (size_t n = strlen(why); n > 0 && why[n - 1] == ' '; n--)
		why[n - 1] = '\0';
	if (!at)
		return;
	end = at + strlen(" after ");
	end += strspn(end, "0123456789");
	if (strncmp(end, " milliseconds", 13) == 0)
		end += 13;
	else if (strncmp(end, " ms", 3) == 0)
		end += 3;
	else
		return;
	memmove(at, end, strlen(end) + 1);
}

static void question_end(struct httpc_op *op, CURLcode rc);

static void finish(struct httpc_op *op, CURLcode rc)
{
	struct err err = ERR_INIT;
	struct httpc_res res = {.status = status_of(op), .retry_after_s = retry_after_of(op)};
	httpc_done_fn *done = op->done;
	void *arg = op->arg;
	struct strbuf body;

	if (!done) {
		question_end(op, rc);
		return;
	}
	if (is_stream(op) && op->in.len && !op->stopped && !deliver_data(op))
		return;
	if (op->stopped)
		rc = CURLE_WRITE_ERROR;
	if (rc != CURLE_OK) {
		res.r = to_errno(op, rc);
		res.sent = op->body_at > 0;
		res.err = &err;
		drop_time(op->why);
		if (op->too_long)
			err_set(&err, res.r, "the answer is longer than %zu bytes", body_max(op));
		else
			err_set(&err, res.r, "%s", op->why[0] ? op->why : lib.easy_strerror(rc));
	}
	body = op->in;
	op->in = STRBUF_INIT;
	res.body = strbuf_str(&body);
	res.len = body.len;
	op_free(op);
	done(arg, &res);
	strbuf_done(&body);
}

/* Its connection is not used again. */
static void give_up(struct httpc_op *op)
{
	snprintf(op->why, sizeof(op->why), "it does not answer");
	lib.easy_setopt(op->easy, CURLOPT_FORBID_REUSE, 1L);
	finish(op, CURLE_OPERATION_TIMEDOUT);
}

static void on_first(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	if (!status_of(arg))
		give_up(arg);
}

/* ---- whether a server whose streams are silent is alive ---- */

/* Its streams that a question of this round is about; one that has begun since is not meant. */
static struct httpc_op *next_asked(struct httpc *c, const char *server, unsigned round)
{
	struct httpc_op *op;

	list_for_each (op, &c->ops, node)
		if (op->on_data && op->server && op->round == round &&
			strcmp(op->server, server) == 0)
			return op;
	return NULL;
}

/* Any answer is a sign of life. */
static void question_end(struct httpc_op *op, CURLcode rc)
{
	auto_free char *server = take_ptr(op->server);
	struct httpc *c = op->c;
	unsigned round = op->round;

	op_free(op);
	if (rc == CURLE_OPERATION_TIMEDOUT)
		while ((op = next_asked(c, server, round)))
			give_up(op);
}

static struct curl_slist *copy_list(const struct curl_slist *from)
{
	struct curl_slist *to = NULL;

	for (; from; from = from->next)
		to = lib.slist_append(to, from->data);
	return to;
}

/* A GET with the credentials of the stream. */
static void ask_about(const struct httpc_op *stream)
{
	struct httpc_op *op = mem_new(struct httpc_op);

	op->c = stream->c;
	op->easy = lib.easy_duphandle(stream->easy);
	if (!op->easy)
		abort();
	op->server = mem_strdup(stream->server);
	op->round = op->c->round;
	op->max_bytes = ERROR_BODY_MAX;
	op->headers = copy_list(stream->headers);
	op->connect_to = copy_list(stream->connect_to);
	lib.easy_setopt(op->easy, CURLOPT_URL, stream->alive_url);
	lib.easy_setopt(op->easy, CURLOPT_CUSTOMREQUEST, NULL);
	lib.easy_setopt(op->easy, CURLOPT_HTTPGET, 1L);
	lib.easy_setopt(op->easy, CURLOPT_HTTPHEADER, op->headers);
	lib.easy_setopt(op->easy, CURLOPT_CONNECT_TO, op->connect_to);
	lib.easy_setopt(op->easy, CURLOPT_TIMEOUT_MS, (long)(stream->alive_ms / ALIVE_PART));
	op_begin(op);
}

static void arm_questions(struct httpc *c, int64_t ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	if (!evtimer_pending(c->questions, NULL))
		event_add(c->questions, &tv);
}

/* One question for all streams of a server. */
static void on_questions(evutil_socket_t fd, short what, void *arg)
{
	struct httpc *c = arg;
	struct httpc_op *op, *o;

	(void)fd;
	(void)what;
	c->round++;
	list_for_each (op, &c->ops, node) {
		if (!op->on_data || !op->server || op->round == c->round)
			continue;
		list_for_each (o, &c->ops, node)
			if (o->on_data && o->server && strcmp(o->server, op->server) == 0)
				o->round = c->round;
		ask_about(op);
		arm_questions(c, op->alive_ms);
	}
}

/* ---- what came ---- */

static struct httpc_op *next_with_data(struct httpc *c)
{
	struct httpc_op *op;

	list_for_each (op, &c->ops, node)
		if (op->in.len && is_stream(op) && !op->stopped)
			return op;
	return NULL;
}

static struct httpc_op *next_stopped(struct httpc *c)
{
	struct httpc_op *op;

	list_for_each (op, &c->ops, node)
		if (op->stopped)
			return op;
	return NULL;
}

static void deliver(struct httpc *c)
{
	struct httpc_op *op;
	CURLMsg *msg;
	int left;

	while ((op = next_with_data(c)))
		deliver_data(op);
	while ((msg = lib.multi_info_read(c->multi, &left))) {
		if (msg->msg != CURLMSG_DONE)
			continue;
		lib.easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&op);
		finish(op, msg->data.result);
	}
	while ((op = next_stopped(c)))
		finish(op, CURLE_WRITE_ERROR);
}

/* ---- the event loop ---- */

static void act(struct httpc *c, curl_socket_t fd, int what)
{
	int running;

	lib.multi_socket_action(c->multi, fd, what, &running);
	deliver(c);
}

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
	act(arg, fd,
		(what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct httpc *c = arg;
	struct event *ev = socket_arg;
	int events = EV_PERSIST | (what & CURL_POLL_IN ? EV_READ : 0) |
		     (what & CURL_POLL_OUT ? EV_WRITE : 0);

	(void)easy;
	if (ev)
		event_free(ev);
	ev = NULL;
	if (what != CURL_POLL_REMOVE) {
		ev = event_new(c->base, fd, (short)events, on_socket, c);
		if (!ev)
			abort();
		event_add(ev, NULL);
	}
	lib.multi_assign(c->multi, fd, ev);
	return 0;
}

static int want_timer(CURLM *multi, long ms, void *arg)
{
	struct httpc *c = arg;
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	(void)multi;
	if (ms < 0)
		event_del(c->timer);
	else
		event_add(c->timer, &tv);
	return 0;
}

int httpc_new(struct event_base *base, unsigned max_conns, struct httpc **ret, struct err *err)
{
	struct httpc *c;
	int r = load(err);

	if (r < 0)
		return r;
	c = mem_new(struct httpc);
	c->base = base;
	list_init(&c->ops);
	c->multi = lib.multi_init();
	c->timer = evtimer_new(base, on_timer, c);
	c->questions = evtimer_new(base, on_questions, c);
	if (!c->multi || !c->timer || !c->questions)
		abort();
	lib.multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	lib.multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
	lib.multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, want_timer);
	lib.multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
	lib.multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)KEEP_CONNS);
	lib.multi_setopt(c->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)max_conns);
	*ret = c;
	return 0;
}

void httpc_free(struct httpc *c)
{
	if (!c)
		return;
	while (!list_empty(&c->ops))
		op_free(list_entry(c->ops.next, struct httpc_op, node));
	lib.multi_cleanup(c->multi);
	event_free(c->timer);
	event_free(c->questions);
	free(c);
}

/* ---- requests ---- */

static void set_text(struct httpc_op *op, CURLoption option, const char *text)
{
	if (text && *text)
		lib.easy_setopt(op->easy, option, text);
}

static void set_pem(struct httpc_op *op, CURLoption option, const char *pem)
{
	struct curl_blob blob = {.flags = CURL_BLOB_COPY};

	if (!pem)
		return;
	blob.data = (void *)(uintptr_t)pem;
	blob.len = strlen(pem);
	lib.easy_setopt(op->easy, option, &blob);
}

static void set_tls(struct httpc_op *op, const struct httpc_tls *tls)
{
	set_text(op, CURLOPT_CAINFO, tls->ca_file);
	set_text(op, CURLOPT_SSLCERT, tls->cert_file);
	set_text(op, CURLOPT_SSLKEY, tls->key_file);
	set_text(op, CURLOPT_KEYPASSWD,
		""); /* of a key that wants one nobody is asked on a terminal */
	set_pem(op, CURLOPT_CAINFO_BLOB, tls->ca_pem);
	set_pem(op, CURLOPT_SSLCERT_BLOB, tls->cert_pem);
	set_pem(op, CURLOPT_SSLKEY_BLOB, tls->key_pem);
	if (tls->trust_all) {
		lib.easy_setopt(op->easy, CURLOPT_SSL_VERIFYPEER, 0L);
		lib.easy_setopt(op->easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

static void set_body(struct httpc_op *op, const struct httpc_req *req)
{
	if (req->body) {
		op->body = mem_dup(req->body, req->len + 1);
		op->body_len = req->len;
		lib.easy_setopt(op->easy, CURLOPT_POST, 1L);
		lib.easy_setopt(op->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->len);
		lib.easy_setopt(op->easy, CURLOPT_READFUNCTION, on_read);
		lib.easy_setopt(op->easy, CURLOPT_READDATA, op);
		lib.easy_setopt(op->easy, CURLOPT_SEEKFUNCTION, on_seek);
		lib.easy_setopt(op->easy, CURLOPT_SEEKDATA, op);
		op->headers = lib.slist_append(op->headers, "Expect:");
	}
	set_text(op, CURLOPT_CUSTOMREQUEST, req->method);
	for (const char *const *h = req->headers; h && *h; h++)
		op->headers = lib.slist_append(op->headers, *h);
	lib.easy_setopt(op->easy, CURLOPT_HTTPHEADER, op->headers);
}

/* Without it the kernel gives up after 9 probes, or 15 minutes of sending again. */
static int set_silence(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	unsigned ms = SILENCE_MS;

	(void)arg;
	(void)purpose;
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	return CURL_SOCKOPT_OK;
}

static void set_times(struct httpc_op *op, const struct httpc_req *req)
{
	lib.easy_setopt(op->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)req->connect_ms);
	lib.easy_setopt(op->easy, CURLOPT_TIMEOUT_MS, (long)req->timeout_ms);
	if (req->first_ms) {
		const struct timeval tv = {
			.tv_sec = req->first_ms / 1000, .tv_usec = req->first_ms % 1000 * 1000};

		op->first = evtimer_new(op->c->base, on_first, op);
		if (!op->first)
			abort();
		event_add(op->first, &tv);
	}
	if (req->alive_url) {
		op->alive_url = mem_strdup(req->alive_url);
		op->server = mem_printf("%s %s", req->alive_url, req->connect_to ?: "");
		op->alive_ms = req->alive_ms;
		arm_questions(op->c, op->alive_ms);
	}
	lib.easy_setopt(op->easy, CURLOPT_TCP_KEEPALIVE, 1L);
	lib.easy_setopt(op->easy, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_S);
	lib.easy_setopt(op->easy, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_S / 3);
	lib.easy_setopt(op->easy, CURLOPT_SOCKOPTFUNCTION, set_silence);
}

struct httpc_op *httpc_start(struct httpc *c, const struct httpc_req *req)
{
	struct httpc_op *op = mem_new(struct httpc_op);

	op->c = c;
	op->easy = lib.easy_init();
	if (!op->easy)
		abort();
	op->max_bytes = req->max_bytes;
	op->once = req->once;
	op->on_data = req->on_data;
	op->done = req->done;
	op->arg = req->arg;
	set_text(op, CURLOPT_URL, req->url);
	if (req->connect_to) {
		auto_free char *to = mem_printf("::%s", req->connect_to);

		op->connect_to = lib.slist_append(NULL, to);
		lib.easy_setopt(op->easy, CURLOPT_CONNECT_TO, op->connect_to);
	}
	set_body(op, req);
	set_times(op, req);
	set_tls(op, &req->tls);
	lib.easy_setopt(op->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	lib.easy_setopt(op->easy, CURLOPT_PROXY, ""); /* not by the environment's */
	lib.easy_setopt(op->easy, CURLOPT_HTTP_VERSION,
		(long)(req->http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
	lib.easy_setopt(op->easy, CURLOPT_PIPEWAIT, (long)req->http2);
	lib.easy_setopt(op->easy, CURLOPT_NOSIGNAL, 1L);
	/* Else the end of a request waits for its look-up, a thread that asks a DNS server that is away. */
	lib.easy_setopt(op->easy, CURLOPT_QUICK_EXIT, 1L);
	lib.easy_setopt(op->easy, CURLOPT_WRITEFUNCTION, on_write);
	op_begin(op);
	return op;
}
