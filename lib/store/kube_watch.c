/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A watch is an answer of the API server that does not end: one JSON text a line, and now and then a
 * bookmark, which tells how far it is. Where its connection ends it goes on from there, so that neither
 * the end that every watch has nor one server of several costs a list. A server that has begun anew
 * knows of nothing before, and says that it is too old. One that has other data says nothing: a
 * revision that is yet to come is waited for. So it is asked, before a watch goes on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "store/kube.h"
#include "store/kube_object.h"

#define RETRY_MS 100
#define RETRY_FOR_MS 20000 /* a server's restart */
#define QUIET_MS 60000	   /* one that ran for so long was well */
#define WATCH_S 600	   /* and up to as much again: the server ends it then */

static struct kube_watch *from_call(struct kube_call *c)
{
	return container_of(c, struct kube_watch, call);
}

static void watch_end(struct kube_watch *kw, int r, const struct err *err)
{
	kube_watch_stop(&kw->w);
	store_watch_end(&kw->w, r, err);
}

static bool may_retry(struct kube_watch *kw)
{
	int64_t now = clock_mono_ms();

	if (now - kw->began_ms > QUIET_MS)
		kw->failures = 0;
	return !kw->failures || now - kw->failing_ms < RETRY_FOR_MS;
}

static void retry_later(struct kube_watch *kw)
{
	int64_t ms;

	if (!kw->failures)
		kw->failing_ms = clock_mono_ms();
	ms = (int64_t)RETRY_MS << kw->failures++;
	kube_call_stop(&kw->call);
	strbuf_reset(&kw->in);
	kw->scanned = 0;
	to_kube(kw->w.st)->which_data.known = false;
	store_arm(kw->timer, ms + store_random((uint32_t)ms));
}

/* false: the watch is gone. */
static bool tell(struct kube_watch *kw, const json_t *obj, bool deleted)
{
	struct store_kv kv = {0};
	bool alive = true;

	if (kube_object_read(kw->key.kind, to_kube(kw->w.st)->group, obj, &kv, NULL) == 0 &&
		kv.key && strncmp(kv.key, kw->w.prefix, kw->w.prefix_len) == 0) {
		if (deleted) {
			free(take_ptr(kv.value));
			kv.len = 0;
			kv.unreadable = false;
		}
		alive = store_watch_event(&kw->w, &kv);
	}
	store_kv_done(&kv);
	return alive;
}

static bool on_error(struct kube_watch *kw, const json_t *status)
{
	int code = (int)json_integer_value(json_object_get(status, "code"));
	struct err err = ERR_INIT;
	int r = kube_call_status(&kw->call, code, status, &err);

	if (r == -EHOSTUNREACH && may_retry(kw))
		retry_later(kw);
	else
		watch_end(kw, r, &err);
	return false;
}

/* false: the watch is gone, or starts again. */
static bool on_line(struct kube_watch *kw, const char *line, size_t len)
{
	json_t *json = kube_json_load(line, len);
	const char *type = json_string_value(json_object_get(json, "type"));
	const json_t *obj = json_object_get(json, "object");
	int64_t rev = kube_revision(obj);
	bool alive = true;

	if (!type) {
		struct err err = ERR_INIT;
		int r = err_set(&err, -EHOSTUNREACH,
			"datastore %s: watching %s: a line is no event", kube_call_where(&kw->call),
			kw->w.prefix);

		watch_end(kw, r, &err);
		alive = false;
	} else if (strcmp(type, "ERROR") == 0) {
		alive = on_error(kw, obj);
	} else if (rev) {
		kw->failures = 0;
		kw->resume = rev;
		kube_seen(to_kube(kw->w.st), kw->key.kind, rev);
		if (strcmp(type, "BOOKMARK") != 0)
			alive = tell(kw, obj, strcmp(type, "DELETED") == 0);
	}
	json_decref(json);
	return alive;
}

static bool on_data(void *arg, const char *data, size_t len)
{
	struct kube_watch *kw = from_call(arg);
	size_t at = 0;
	struct strbuf in;

	strbuf_addn(&kw->in, data, len);
	/* Its own while lines are told: the watch may go meanwhile. */
	in = kw->in;
	kw->in = STRBUF_INIT;
	for (;;) {
		char *end = memchr(in.s + at + kw->scanned, '\n', in.len - at - kw->scanned);
		size_t n;

		if (!end)
			break;
		n = (size_t)(end - (in.s + at));
		kw->scanned = 0;
		if (!on_line(kw, in.s + at, n)) {
			strbuf_done(&in);
			return false;
		}
		at += n + 1;
	}
	memmove(in.s, in.s + at, in.len - at);
	in.len -= at;
	kw->in = in;
	kw->scanned = in.len;
	if (in.len > KUBE_OBJECT_MAX) {
		struct err err = ERR_INIT;
		int r = err_set(&err, -EHOSTUNREACH,
			"datastore %s: watching %s: a line of more than %d bytes",
			kube_call_where(&kw->call), kw->w.prefix, KUBE_OBJECT_MAX);

		watch_end(kw, r, &err);
		return false;
	}
	return true;
}

/* The stream came to its end, or did not begin. */
static void on_end(struct kube_call *c, int r, const char *body, size_t len, const struct err *err)
{
	struct kube_watch *kw = from_call(c);
	struct err why = err ? *err : ERR_INIT;

	(void)body;
	(void)len;
	if (r == 0)
		r = err_set(&why, -EHOSTUNREACH, "datastore %s: watching %s: ended by the server",
			kube_call_where(c), kw->w.prefix);
	if ((r == -EHOSTUNREACH || r == -ETIMEDOUT) && may_retry(kw))
		retry_later(kw);
	else
		watch_end(kw, r, &why);
}

static void watch_send(struct kube_watch *kw)
{
	struct kube *k = to_kube(kw->w.st);
	auto_free char *path = kube_path(kw->key.kind, k->group, kw->key.ns, "");
	auto_free char *selector = kube_selector(k, &kw->key, true);

	kw->call = (struct kube_call){.k = k,
		.path = mem_printf("%s?watch=1&allowWatchBookmarks=true&timeoutSeconds=%u"
				   "&resourceVersion=%lld%s",
			path, WATCH_S + store_random(WATCH_S), (long long)kw->resume, selector),
		.on_data = on_data,
		.is_watch = true,
		.answer = on_end};
	kube_call_start(&kw->call);
}

static void go(struct kube_wait *wait, int r, const struct err *err)
{
	struct kube_watch *kw = container_of(wait, struct kube_watch, wait);
	struct kube *k = to_kube(kw->w.st);
	struct err why = err ? *err : ERR_INIT;

	if (r == 0 && kw->epoch != k->epoch)
		r = err_set(&why, -ESTALE,
			"datastore %s: watching %s: it has other data than before, which ended at "
			"revision %lld",
			k->st.name, kw->w.prefix, (long long)kw->resume);
	if (r == 0)
		watch_send(kw);
	else if (r == -EHOSTUNREACH && may_retry(kw))
		retry_later(kw);
	else
		watch_end(kw, r, &why);
}

static void go_ask(struct kube_wait *wait, int r, const struct err *err)
{
	struct kube_watch *kw = container_of(wait, struct kube_watch, wait);
	struct kube *k = to_kube(kw->w.st);

	if (r < 0) {
		go(wait, r, err);
		return;
	}
	wait->go = go;
	kube_wait(k, &k->which_data, wait);
}

static void attempt(evutil_socket_t fd, short what, void *arg)
{
	struct kube_watch *kw = arg;
	struct kube *k = to_kube(kw->w.st);
	struct err err = ERR_INIT;
	int r = kube_prefix_parse(kw->w.prefix, &kw->key, &err);

	(void)fd;
	(void)what;
	if (r < 0) {
		watch_end(kw, r, &err);
		return;
	}
	kw->began_ms = clock_mono_ms();
	if (kw->epoch == k->epoch)
		kube_seen(k, kw->key.kind, kw->resume);
	kw->wait.go = go_ask;
	kube_wait(k, &k->which_group, &kw->wait);
}

void kube_watch_start(struct store_watch *w)
{
	struct kube_watch *kw = container_of(w, struct kube_watch, w);

	kw->resume = w->rev;
	kw->epoch = to_kube(w->st)->epoch;
	kw->timer = evtimer_new(w->st->base, attempt, kw);
	if (!kw->timer)
		abort();
	store_arm(kw->timer, 0);
}

void kube_watch_stop(struct store_watch *w)
{
	struct kube_watch *kw = container_of(w, struct kube_watch, w);

	kube_wait_stop(&kw->wait);
	kube_call_stop(&kw->call);
	event_free(kw->timer);
	strbuf_done(&kw->in);
}
