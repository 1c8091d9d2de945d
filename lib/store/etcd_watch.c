/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A watch is an answer of the gateway that does not end: one JSON text a line. Where its connection
 * ends it goes on from the last revision that was told whole, at another endpoint if need be, so that
 * a member's restart costs no list.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "store/etcd.h"

#define LINE_MAX_BYTES (32 * 1024 * 1024)
#define RETRY_MS 100
#define RETRY_FOR_MS 4000 /* a member's restart */
#define QUIET_MS 60000	  /* one that ran for so long was well */

static struct etcd_watch *from_call(struct etcd_call *c)
{
	return container_of(c, struct etcd_watch, call);
}

static void watch_end(struct etcd_watch *ew, int r, const struct err *err)
{
	etcd_watch_stop(&ew->w);
	store_watch_end(&ew->w, r, err);
}

static bool may_retry(struct etcd_watch *ew)
{
	int64_t now = clock_mono_ms();

	if (now - ew->began_ms > QUIET_MS)
		ew->failures = 0;
	return !ew->failures || now - ew->failing_ms < RETRY_FOR_MS;
}

static void retry_later(struct etcd_watch *ew)
{
	uint32_t ms;

	if (!ew->failures)
		ew->failing_ms = clock_mono_ms();
	etcd_call_stop(&ew->call);
	strbuf_reset(&ew->in);
	ew->scanned = 0;
	ms = RETRY_MS << ew->failures++;
	store_arm(ew->timer, ms + store_random(ms));
}

/* false: the watch is gone. */
static bool tell(struct etcd_watch *ew, const json_t *event)
{
	const char *type = json_string_value(json_object_get(event, "type"));
	struct store_kv kv;
	bool alive;

	if (!etcd_kv(json_object_get(event, "kv"), &kv))
		return true;
	if (type && strcmp(type, "DELETE") == 0) {
		free(take_ptr(kv.value));
		kv.len = 0;
		kv.create_rev = 0;
	}
	if (kv.rev > ew->last) {
		ew->last = kv.rev;
		ew->resume = kv.rev - 1;
	}
	alive = store_watch_event(&ew->w, &kv);
	store_kv_done(&kv);
	return alive;
}

static int on_cancel(struct etcd_watch *ew, const json_t *result, struct err *err)
{
	const char *reason = json_string_value(json_object_get(result, "cancel_reason"));

	if (etcd_int(result, "compact_revision"))
		return err_set(err, -ESTALE,
			"datastore %s: changes after revision %lld of %s are no longer known",
			ew->w.st->name, (long long)ew->resume, ew->w.prefix);
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
		if (r == 0 || r == -EHOSTUNREACH) {
			if (may_retry(ew)) {
				retry_later(ew);
				return false;
			}
			r = -EHOSTUNREACH;
		}
	} else if (r == 0 && rev && rev < ew->resume) {
		/* a member that lags behind, at first */
		if (may_retry(ew)) {
			etcd_call_suspect(&ew->call);
			retry_later(ew);
			return false;
		}
		r = err_set(&err, -ESTALE,
			"datastore %s: it is at revision %lld, and was at %lld: an older copy was put "
			"back",
			ew->w.st->name, (long long)rev, (long long)ew->resume);
	}
	if (r < 0) {
		watch_end(ew, r, &err);
		return false;
	}
	if (json_is_true(json_object_get(result, "created")))
		return true; /* no sign of health yet: a refusal may follow */
	ew->failures = 0;
	json_array_foreach (json_object_get(result, "events"), i, event)
		if (!tell(ew, event))
			return false;
	if (json_is_true(json_object_get(result, "fragment")))
		return true;
	if (i == 0 && rev > ew->last)
		ew->last = rev; /* its progress */
	ew->resume = ew->last;
	return true;
}

static bool on_line(struct etcd_watch *ew, const char *line, size_t len)
{
	json_t *json = json_loadb(line, len, JSON_ALLOW_NUL, NULL);
	const json_t *result = json_object_get(json, "result");
	bool alive = result ? on_result(ew, result) : true; /* an error ends the stream as well */

	json_decref(json);
	return alive;
}

static bool on_data(void *arg, const char *data, size_t len)
{
	struct etcd_watch *ew = from_call(arg);

	strbuf_addn(&ew->in, data, len);
	for (;;) {
		char *end = memchr(ew->in.s + ew->scanned, '\n', ew->in.len - ew->scanned);
		size_t n;

		if (!end)
			break;
		n = (size_t)(end - ew->in.s);
		auto_free char *line = mem_dup(ew->in.s, n + 1);
		memmove(ew->in.s, end + 1, ew->in.len - n);
		ew->in.len -= n + 1;
		ew->scanned = 0;
		if (!on_line(ew, line, n))
			return false;
	}
	ew->scanned = ew->in.len;
	if (ew->in.len > LINE_MAX_BYTES) {
		struct err err = ERR_INIT;
		int r = err_set(&err, -EHOSTUNREACH,
			"datastore %s: watching %s: a line of more than %d bytes", ew->w.st->name,
			ew->w.prefix, LINE_MAX_BYTES);

		watch_end(ew, r, &err);
		return false;
	}
	return true;
}

/* The stream came to its end, or did not begin. */
static void on_end(struct etcd_call *c, int r, const json_t *answer, const struct err *err)
{
	struct etcd_watch *ew = from_call(c);

	(void)answer;
	if ((r == -EHOSTUNREACH || r == -ETIMEDOUT) && may_retry(ew))
		retry_later(ew);
	else
		watch_end(ew, r, err);
}

static void attempt(evutil_socket_t fd, short what, void *arg)
{
	struct etcd_watch *ew = arg;
	auto_strbuf b = STRBUF_INIT;

	(void)fd;
	(void)what;
	strbuf_add(&b, "{\"create_request\":");
	etcd_add_range(&b, ew->w.prefix);
	strbuf_addf(&b, ",\"start_revision\":\"%lld\",\"progress_notify\":true,\"fragment\":true}}",
		(long long)ew->resume + 1);
	ew->began_ms = clock_mono_ms();
	ew->call = (struct etcd_call){.et = to_etcd(ew->w.st),
		.path = "/v3/watch",
		.body = strbuf_take(&b),
		.on_data = on_data,
		.answer = on_end};
	etcd_call_start(&ew->call);
}

void etcd_watch_start(struct store_watch *w)
{
	struct etcd_watch *ew = container_of(w, struct etcd_watch, w);

	ew->last = ew->resume = w->rev;
	ew->timer = evtimer_new(w->st->base, attempt, ew);
	if (!ew->timer)
		abort();
	store_arm(ew->timer, 0);
}

void etcd_watch_stop(struct store_watch *w)
{
	struct etcd_watch *ew = container_of(w, struct etcd_watch, w);

	etcd_call_stop(&ew->call);
	event_free(ew->timer);
	strbuf_done(&ew->in);
}
