/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A watch is an answer of the gateway that does not end: one JSON text a line. Where its connection
 * ends it goes on from the last revision that was told whole, at another endpoint if need be, so that
 * a member's restart costs no list.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/json.h"
#include "store/etcd.h"

#define LINE_MAX_BYTES (32 * 1024 * 1024)
#define PATIENCE_MS 4000 /* a member's restart */

static struct etcd_watch *from_call(struct etcd_call *c)
{
	return container_of(c, struct etcd_watch, call);
}

static struct etcd_watch *from_stream(struct stream *s)
{
	return container_of(s, struct etcd_watch, s);
}

/* false: the watch is gone. */
static bool tell(struct etcd_watch *ew, const json_t *event)
{
	const char *type = json_string_value(json_object_get(event, "type"));
	struct err err = ERR_INIT;
	struct store_kv kv;
	bool alive;
	int r = etcd_kv(json_object_get(event, "kv"), &kv, &err);

	if (r < 0) /* what has changed is not known: whoever watches lists again */
		stream_end(&ew->s, r, &err);
	if (r <= 0)
		return r == 0;
	if (type && strcmp(type, "DELETE") == 0) {
		free(take_ptr(kv.value));
		kv.len = 0;
		kv.create_rev = 0;
	}
	if (kv.rev > ew->last) {
		ew->last = kv.rev;
		ew->s.resume = kv.rev - 1;
	}
	alive = store_watch_event(&ew->s.w, &kv);
	store_kv_done(&kv);
	return alive;
}

static int on_cancel(struct etcd_watch *ew, const json_t *result, struct err *err)
{
	const char *reason = json_string_value(json_object_get(result, "cancel_reason"));

	if (etcd_int(result, "compact_revision"))
		return err_set(err, -ESTALE,
			"datastore %s: changes after revision %lld of %s are no longer known",
			ew->s.w.st->name, (long long)ew->s.resume, ew->s.w.prefix);
	return etcd_call_refused(&ew->call, reason ? reason : "the watch was cancelled", err);
}

/* false: the watch is gone, or starts again. */
static bool on_result(struct etcd_watch *ew, const json_t *result)
{
	const json_t *header = json_object_get(result, "header"), *event;
	int64_t rev = etcd_int(header, "revision");
	struct err err = ERR_INIT;
	int r = etcd_check_cluster(&ew->call, header, &err);
	size_t i;

	if (json_is_true(json_object_get(result, "canceled"))) {
		r = on_cancel(ew, result, &err);
		stream_fail(&ew->s, r < 0 ? r : -EHOSTUNREACH, &err);
		return false;
	}
	if (r == 0 && rev && rev < ew->s.resume) {
		/* a member that lags behind, at first */
		if (stream_retry(&ew->s)) {
			etcd_call_suspect(&ew->call);
			return false;
		}
		r = err_set(&err, -ESTALE,
			"datastore %s: it is at revision %lld, and was at %lld: an older copy was put "
			"back",
			ew->s.w.st->name, (long long)rev, (long long)ew->s.resume);
	}
	if (r < 0) {
		stream_end(&ew->s, r, &err);
		return false;
	}
	if (json_is_true(json_object_get(result, "created")))
		return true; /* no sign of health yet: a refusal may follow */
	stream_well(&ew->s);
	json_array_foreach (json_object_get(result, "events"), i, event)
		if (!tell(ew, event))
			return false;
	if (json_is_true(json_object_get(result, "fragment")))
		return true;
	if (i == 0 && rev > ew->last)
		ew->last = rev; /* its progress */
	ew->s.resume = ew->last;
	return true;
}

static bool on_line(struct stream *s, const char *line, size_t len)
{
	auto_(json) json_t *json = json_loadb(line, len, JSON_ALLOW_NUL, NULL);
	const json_t *result = json_object_get(json, "result");
	struct err err = ERR_INIT;

	if (!json_is_object(json)) { /* what it told would be missing */
		stream_fail(s,
			err_set(&err, -EHOSTUNREACH, "datastore %s: a line of the watch is no JSON",
				s->w.st->name),
			&err);
		return false;
	}
	/* an error ends the stream as well */
	return result ? on_result(from_stream(s), result) : true;
}

static bool on_data(void *arg, const char *data, size_t len)
{
	return stream_data(&from_call(arg)->s, data, len);
}

/* The stream came to its end, or did not begin. */
static void on_end(struct etcd_call *c, int r, const json_t *answer, const struct err *err)
{
	(void)answer;
	stream_fail(&from_call(c)->s, r, err);
}

static void ask(struct stream *s)
{
	struct etcd_watch *ew = from_stream(s);
	auto_strbuf b = STRBUF_INIT;

	strbuf_add(&b, "{\"create_request\":");
	etcd_add_range(&b, ew->s.w.prefix);
	strbuf_addf(&b, ",\"start_revision\":\"%lld\",\"progress_notify\":true,\"fragment\":true}}",
		(long long)ew->s.resume + 1);
	ew->call = (struct etcd_call){.et = etcd_of_store(ew->s.w.st),
		.path = "/v3/watch",
		.body = strbuf_take(&b),
		.on_data = on_data,
		.answer = on_end};
	etcd_call_start(&ew->call);
}

static void forget(struct stream *s)
{
	etcd_call_stop(&from_stream(s)->call);
}

static const struct stream_ops etcd_stream = {.patience_ms = PATIENCE_MS,
	.line_max = LINE_MAX_BYTES,
	.ask = ask,
	.forget = forget,
	.line = on_line};

void etcd_watch_start(struct store_watch *w)
{
	struct etcd_watch *ew = container_of(w, struct etcd_watch, s.w);

	ew->last = w->rev;
	stream_start(&ew->s, &etcd_stream);
}
