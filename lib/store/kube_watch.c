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

#include "base/err.h"
#include "store/kube.h"
#include "store/kube_object.h"

#define PATIENCE_MS 20000 /* a server's restart */
#define WATCH_S 600	  /* and up to as much again: the server ends it then */

static struct kube_watch *from_call(struct kube_call *c)
{
	return container_of(c, struct kube_watch, call);
}

static struct kube_watch *from_stream(struct stream *s)
{
	return container_of(s, struct kube_watch, s);
}

/* Where it goes on, it asks first whether the data are the same. */
static void watch_fail(struct kube_watch *kw, int r, const struct err *err)
{
	struct kube *k = kube_of_store(kw->s.w.st);

	if (stream_fail(&kw->s, r, err))
		k->which_data.known = false;
}

/* false: the watch is gone. */
static bool tell(struct kube_watch *kw, const json_t *obj, bool deleted)
{
	struct store_kv kv = {0};
	bool alive = true;

	if (kube_object_read(kw->key.kind, kube_of_store(kw->s.w.st)->group, obj, &kv, NULL) == 0 &&
		kv.key && strncmp(kv.key, kw->s.w.prefix, kw->s.w.prefix_len) == 0) {
		if (deleted) {
			free(take_ptr(kv.value));
			kv.len = 0;
			kv.unreadable = false;
		}
		alive = store_watch_event(&kw->s.w, &kv);
	}
	store_kv_done(&kv);
	return alive;
}

static bool on_error(struct kube_watch *kw, const json_t *status)
{
	int code = (int)json_integer_value(json_object_get(status, "code"));
	struct err err = ERR_INIT;
	int r = kube_call_status(&kw->call, code, status, &err);

	watch_fail(kw, r, &err);
	return false;
}

/* false: the watch is gone, or starts again. */
static bool on_line(struct stream *s, const char *line, size_t len)
{
	struct kube_watch *kw = from_stream(s);
	json_t *json = kube_json_load(line, len);
	const char *type = json_string_value(json_object_get(json, "type"));
	const json_t *obj = json_object_get(json, "object");
	int64_t rev = kube_revision(obj);
	bool alive = true;

	if (!type) {
		struct err err = ERR_INIT;
		int r = err_set(&err, -EHOSTUNREACH,
			"datastore %s: watching %s: a line is no event", kube_call_where(&kw->call),
			kw->s.w.prefix);

		stream_end(&kw->s, r, &err);
		alive = false;
	} else if (strcmp(type, "ERROR") == 0) {
		alive = on_error(kw, obj);
	} else if (rev) {
		stream_well(s);
		s->resume = rev;
		kube_seen(kube_of_store(kw->s.w.st), kw->key.kind, rev);
		if (strcmp(type, "BOOKMARK") != 0)
			alive = tell(kw, obj, strcmp(type, "DELETED") == 0);
	}
	json_decref(json);
	return alive;
}

static bool on_data(void *arg, const char *data, size_t len)
{
	return stream_data(&from_call(arg)->s, data, len);
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
			kube_call_where(c), kw->s.w.prefix);
	watch_fail(kw, r, &why);
}

static void watch_send(struct kube_watch *kw)
{
	struct kube *k = kube_of_store(kw->s.w.st);
	auto_free char *path = kube_path(kw->key.kind, k->group, kw->key.ns, "");
	auto_free char *selector = kube_selector(k, &kw->key, true);

	kw->call = (struct kube_call){.k = k,
		.path = mem_printf("%s?watch=1&allowWatchBookmarks=true&timeoutSeconds=%u"
				   "&resourceVersion=%lld%s",
			path, WATCH_S + store_random(WATCH_S), (long long)kw->s.resume, selector),
		.on_data = on_data,
		.is_watch = true,
		.answer = on_end};
	kube_call_start(&kw->call);
}

static void go(struct kube_wait *wait, int r, const struct err *err)
{
	struct kube_watch *kw = container_of(wait, struct kube_watch, wait);
	struct kube *k = kube_of_store(kw->s.w.st);
	struct err why = err ? *err : ERR_INIT;

	if (r == 0 && kw->epoch != k->epoch)
		r = err_set(&why, -ESTALE,
			"datastore %s: watching %s: it has other data than before, which ended at "
			"revision %lld",
			k->st.name, kw->s.w.prefix, (long long)kw->s.resume);
	if (r == 0)
		watch_send(kw);
	else
		watch_fail(kw, r, &why);
}

static void go_ask(struct kube_wait *wait, int r, const struct err *err)
{
	struct kube_watch *kw = container_of(wait, struct kube_watch, wait);
	struct kube *k = kube_of_store(kw->s.w.st);

	if (r < 0) {
		go(wait, r, err);
		return;
	}
	wait->go = go;
	kube_wait(k, &k->which_data, wait);
}

static void ask(struct stream *s)
{
	struct kube_watch *kw = from_stream(s);
	struct kube *k = kube_of_store(kw->s.w.st);
	struct err err = ERR_INIT;
	int r = kube_prefix_parse(kw->s.w.prefix, &kw->key, &err);

	if (r < 0) {
		stream_end(&kw->s, r, &err);
		return;
	}
	if (kw->epoch == k->epoch)
		kube_seen(k, kw->key.kind, kw->s.resume);
	kw->wait.go = go_ask;
	kube_wait(k, &k->which_group, &kw->wait);
}

static void forget(struct stream *s)
{
	struct kube_watch *kw = from_stream(s);

	kube_wait_stop(&kw->wait);
	kube_call_stop(&kw->call);
}

static const struct stream_ops kube_stream = {.patience_ms = PATIENCE_MS,
	.line_max = KUBE_OBJECT_MAX,
	.ask = ask,
	.forget = forget,
	.line = on_line};

void kube_watch_start(struct store_watch *w)
{
	struct kube_watch *kw = container_of(w, struct kube_watch, s.w);

	kw->epoch = kube_of_store(w->st)->epoch;
	stream_start(&kw->s, &kube_stream);
}
