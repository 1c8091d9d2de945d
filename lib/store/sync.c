/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/sync.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <event2/event.h>

#define LOG_MODULE "datastore"
#include "base/clock.h"
#include "base/err.h"
#include "base/hmap.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "model/kind.h"
#include "store/driver.h"
#include "store/lock.h"
#include "store/store.h"
#include "svc/metrics.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 30000
#define WATCH_LIVES_MS 10000 /* one that ends earlier was hardly there */

/* What was told last about a key. Values are remembered by their hash. */
struct entry {
	struct hmap_node node;
	struct part *part;
	int64_t rev;
	uint64_t value;
	uint32_t seen; /* the part's list that it was last in */
	bool kept;     /* its last change is one that the store has lost */
	char key[];
};

/* One prefix: listing (op), watching (watch), or waiting for the back-off's end (neither). */
struct part {
	struct sync *s;
	char *prefix;
	struct store_op *op;
	struct store_watch *watch;
	int64_t watched_ms; /* since when */
	uint32_t list_no;
	size_t n_entries, n_seen; /* of the part, and of those in its present list */
	bool listed;		  /* once, to its end */
	bool is_lock;		  /* ClusterInformation, of which nobody is told */
	char *failed;		  /* its last failure's text; NULL: none since it was well */
	bool list_failed;	  /* that was a list's */
};

struct sync {
	struct store *st;
	struct sync_ops ops;
	void *arg;
	struct sync_hooks hooks;
	struct event *timer;
	struct part *parts; /* with heed_lock, the lock's is the last */
	size_t n_parts;
	struct event *lock_turn; /* heeds what the lock is now; NULL = no lock is heeded */
	bool locked, held;	 /* held: nothing but the lock is read */
	struct hmap entries;
	unsigned failures; /* since a watch has lived */
	bool armed;
	bool in_sync;
	struct err why; /* the last failure */
	struct strbuf state;
	struct metrics *metrics;
};

static struct entry *entry_find(const struct sync *s, const char *key, uint64_t hash)
{
	struct entry *e;

	hmap_for_each_hash (e, &s->entries, hash, node)
		if (strcmp(e->key, key) == 0)
			return e;
	return NULL;
}

static void set_locked(struct sync *s, bool locked)
{
	if (locked == s->locked)
		return;
	s->locked = locked;
	event_active(s->lock_turn, EV_TIMEOUT, 0);
}

static void entry_del(struct sync *s, struct entry *e, bool tell)
{
	hmap_remove(&s->entries, &e->node);
	e->part->n_entries--;
	if (tell && e->part->is_lock)
		set_locked(s, false);
	else if (tell)
		s->ops.del(s->arg, e->key);
	free(e);
}

static struct entry *tell_set(struct part *p, const struct store_kv *kv)
{
	struct sync *s = p->s;
	uint64_t value = hash_bytes(kv->value, kv->len), hash = hash_str(kv->key);
	struct entry *e = entry_find(s, kv->key, hash);

	if (!e) {
		size_t n = strlen(kv->key) + 1;

		e = mem_zalloc(sizeof(*e) + n);
		memcpy(e->key, kv->key, n);
		e->part = p;
		p->n_entries++;
		hmap_insert(&s->entries, &e->node, hash);
	}
	e->kept = false;
	if (e->rev && e->value == value) {
		e->rev = kv->rev;
		return e;
	}
	e->value = value;
	e->rev = kv->rev;
	if (p->is_lock)
		set_locked(s, store_lock_in(kv->value, kv->len));
	else
		s->ops.set(s->arg, kv->key, kv->value, kv->len, kv->rev);
	return e;
}

static void state_changed(struct sync *s)
{
	if (s->ops.state)
		s->ops.state(s->arg);
}

static bool is_told(const struct sync *s, const char *text)
{
	for (size_t i = 0; i < s->n_parts; i++)
		if (s->parts[i].failed && strcmp(s->parts[i].failed, text) == 0)
			return true;
	return false;
}

/* Once, be it of all parts, and again when it is another one. That what is watched is too old is no failure. */
static void tell_failure(struct part *p, bool of_list)
{
	const char *text = err_text(&p->s->why);

	if (p->s->why.code == -ESTALE)
		return;
	if (!is_told(p->s, text))
		log_warn("%s", text);
	free(p->failed);
	p->failed = mem_strdup(text);
	p->list_failed = of_list;
}

/* When all parts are well. Not of a watch's failure, for every watch may fail where lists succeed. */
static void tell_success(struct part *p)
{
	const struct sync *s = p->s;

	if (!p->failed || !p->list_failed)
		return;
	free(take_ptr(p->failed));
	for (size_t i = 0; i < s->n_parts; i++)
		if (s->parts[i].failed && s->parts[i].list_failed)
			return;
	log_info("%s: answers again", store_name(s->st));
}

static void retry_later(struct part *p, bool of_list, int r, const struct err *err)
{
	struct sync *s = p->s;
	int64_t delay = BACKOFF_MIN_MS;

	p->op = NULL;
	p->watch = NULL;
	s->why = err ? *err : ERR_INIT;
	s->why.code = r;
	tell_failure(p, of_list);
	for (unsigned i = 0; i < s->failures && delay < BACKOFF_MAX_MS; i++)
		delay *= 2;
	if (delay > BACKOFF_MAX_MS)
		delay = BACKOFF_MAX_MS;
	if (!s->armed) {
		s->failures++;
		s->armed = true;
		delay = delay / 2 +
			(int64_t)(s->hooks.random(s->hooks.arg) % (uint64_t)(delay / 2));
		s->hooks.arm(s->hooks.arg, s, delay);
	}
	state_changed(s);
}

static void on_event(void *arg, const struct store_kv *kv)
{
	struct part *p = arg;
	struct entry *e = entry_find(p->s, kv->key, hash_str(kv->key));

	if (e && kv->rev <= e->rev && !e->kept)
		return;
	if (kv->value)
		tell_set(p, kv);
	else if (e)
		entry_del(p->s, e, true);
}

static void on_end(void *arg, int r, const struct err *err)
{
	struct part *p = arg;

	/* Not with its list: a list may succeed as often as it is tried, and its watch never. */
	if (!p->s->armed && p->s->hooks.now_ms(p->s->hooks.arg) - p->watched_ms >= WATCH_LIVES_MS)
		p->s->failures = 0;
	retry_later(p, false, r, err);
}

/*
 * What is not in a list is gone, but for what was changed after the revision that it shows: where an older
 * copy of the store was put back, nobody has deleted what was written since.
 */
static void drop_unseen(struct part *p, int64_t rev)
{
	struct sync *s = p->s;
	struct entry *e;
	size_t kept = 0;

	hmap_for_each (e, &s->entries, node) {
		if (e->part != p || e->seen == p->list_no || e->kept)
			continue;
		if (e->rev <= rev) {
			entry_del(s, e, true);
			continue;
		}
		e->kept = true;
		kept++;
	}
	if (kept)
		log_warn(
			"%s: %s: an older copy was put back, of revision %lld: %zu objects that it does "
			"not have are kept as they were until they are written again or this program "
			"is restarted",
			store_name(s->st), p->prefix, (long long)rev, kept);
}

static void list_end(struct part *p, int64_t rev)
{
	struct sync *s = p->s;

	/* Nothing is gone as a rule, and other parts may have very many. */
	if (p->n_seen != p->n_entries)
		drop_unseen(p, rev);
	p->op = NULL;
	if (p->is_lock && !p->listed)
		event_active(s->lock_turn, EV_TIMEOUT, 0);
	p->listed = true;
	p->watched_ms = s->hooks.now_ms(s->hooks.arg);
	p->watch = store_watch(s->st, p->prefix, rev, on_event, on_end, p);
}

static bool all_listed(const struct sync *s)
{
	for (size_t i = 0; i < s->n_parts; i++)
		if (!s->parts[i].listed)
			return false;
	return true;
}

static void on_list(void *arg, const struct store_res *res)
{
	struct part *p = arg;
	struct sync *s = p->s;

	if (res->r < 0) {
		retry_later(p, true, res->r, res->err);
		return;
	}
	for (size_t i = 0; i < res->n; i++) {
		struct entry *e = tell_set(p, &res->kvs[i]);

		p->n_seen += e->part == p && e->seen != p->list_no;
		e->seen = p->list_no;
	}
	if (res->more)
		return;
	list_end(p, res->rev);
	tell_success(p);
	if (!s->in_sync && all_listed(s)) {
		s->in_sync = true;
		s->ops.in_sync(s->arg);
	}
	state_changed(s);
}

static void part_list(struct part *p)
{
	p->list_no++;
	p->n_seen = 0;
	p->op = store_start(p->s->st,
		&(struct store_req){.verb = STORE_LIST, .key = p->prefix, .feed = true}, on_list,
		p);
}

void sync_retry(struct sync *s)
{
	s->armed = false;
	for (size_t i = 0; i < s->n_parts; i++)
		if (!s->parts[i].op && !s->parts[i].watch && (!s->held || s->parts[i].is_lock))
			part_list(&s->parts[i]);
}

/* Not from inside the callbacks of a watch or a list, since it ends others. */
static void on_lock_turn(evutil_socket_t fd, short what, void *arg)
{
	struct sync *s = arg;
	bool was_held = s->held;

	(void)fd;
	(void)what;
	s->held = s->locked || !s->parts[s->n_parts - 1].listed;
	if (s->locked)
		log_warn("datastore %s is locked: what is known stays in force, and nothing is "
			 "written",
			store_name(s->st));
	else if (was_held && s->in_sync)
		log_info("datastore %s is no longer locked", store_name(s->st));
	for (size_t i = 0; s->held && i < s->n_parts - 1; i++) {
		store_op_cancel(take_ptr(s->parts[i].op));
		store_watch_cancel(take_ptr(s->parts[i].watch));
	}
	if (!s->held)
		sync_retry(s);
	state_changed(s);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	sync_retry(arg);
}

static void arm_timer(void *arg, struct sync *s, int64_t delay_ms)
{
	struct timeval tv = {.tv_sec = delay_ms / 1000, .tv_usec = delay_ms % 1000 * 1000};

	(void)arg;
	event_add(s->timer, &tv);
}

static int64_t now_ms(void *arg)
{
	(void)arg;
	return clock_mono_ms();
}

static uint64_t random_u64(void *arg)
{
	uint64_t x = 0;

	(void)arg;
	if (getrandom(&x, sizeof(x), GRND_NONBLOCK) < 0)
		return 0;
	return x;
}

struct sync *sync_new(struct store *st, const char *const *prefixes, size_t n_prefixes,
	const struct sync_ops *ops, void *arg, const struct sync_hooks *hooks)
{
	struct sync *s = mem_new(struct sync);

	s->st = st;
	s->ops = *ops;
	s->arg = arg;
	s->hooks = hooks ? *hooks
			 : (struct sync_hooks){
				   .arm = arm_timer, .now_ms = now_ms, .random = random_u64};
	s->timer = evtimer_new(store_base(st), on_timer, s);
	if (!s->timer)
		abort();
	s->n_parts = n_prefixes + ops->heed_lock;
	s->parts = mem_zalloc(s->n_parts * sizeof(*s->parts));
	if (ops->heed_lock) {
		s->lock_turn = evtimer_new(store_base(st), on_lock_turn, s);
		if (!s->lock_turn)
			abort();
		s->held = true;
		s->parts[n_prefixes] = (struct part){.s = s,
			.prefix = mem_strdup(kind_info(KIND_CLUSTERINFORMATION)->root),
			.is_lock = true};
	}
	for (size_t i = 0; i < n_prefixes; i++) {
		s->parts[i].s = s;
		s->parts[i].prefix = mem_strdup(prefixes[i]);
	}
	sync_retry(s);
	return s;
}

static int64_t get_up(void *arg)
{
	return sync_up(arg);
}

void sync_add_metrics(struct sync *s, struct metrics *m)
{
	static const char *const verbs[] = {
		[STORE_GET] = "verb=\"get\"",
		[STORE_LIST] = "verb=\"list\"",
		[STORE_CREATE] = "verb=\"create\"",
		[STORE_UPDATE] = "verb=\"update\"",
		[STORE_DELETE] = "verb=\"delete\"",
	};
	static const char *const reasons[STORE_N_FAILURES] = {
		[STORE_AWAY] = "reason=\"away\"",
		[STORE_DENIED] = "reason=\"denied\"",
		[STORE_FULL] = "reason=\"full\"",
		[STORE_TIMED_OUT] = "reason=\"timeout\"",
		[STORE_INVALID] = "reason=\"invalid\"",
	};
	static const char requests[] = "margay_datastore_requests_total",
			  requests_help[] = "What was asked of the datastore.",
			  failures[] = "margay_datastore_failures_total";
	const struct store_stats *st = &s->st->stats;

	s->metrics = m;
	metrics_gauge_fn(m, "margay_datastore_up", NULL,
		"1: everything was read, and what changes is told.", get_up, s);
	for (size_t i = 0; i < array_size(verbs); i++)
		metrics_counter(m, requests, verbs[i], requests_help, &st->requests[i]);
	metrics_counter(m, requests, "verb=\"watch\"", requests_help, &st->watches);
	for (size_t i = 0; i < array_size(reasons); i++)
		metrics_counter(m, failures, reasons[i],
			"Requests and watches that failed, by what hinders the datastore.",
			&st->failures[i]);
}

static void remove_metrics(struct sync *s)
{
	const struct store_stats *st = &s->st->stats;

	if (!s->metrics)
		return;
	metrics_remove(s->metrics, s);
	metrics_remove(s->metrics, &st->watches);
	for (size_t i = 0; i < array_size(st->requests); i++)
		metrics_remove(s->metrics, &st->requests[i]);
	for (size_t i = 0; i < array_size(st->failures); i++)
		metrics_remove(s->metrics, &st->failures[i]);
}

void sync_free(struct sync *s)
{
	struct entry *e;

	if (!s)
		return;
	remove_metrics(s);
	for (size_t i = 0; i < s->n_parts; i++) {
		store_op_cancel(s->parts[i].op);
		store_watch_cancel(s->parts[i].watch);
		free(s->parts[i].prefix);
		free(s->parts[i].failed);
	}
	hmap_for_each (e, &s->entries, node)
		entry_del(s, e, false);
	free(s->parts);
	hmap_done(&s->entries);
	event_free(s->timer);
	if (s->lock_turn)
		event_free(s->lock_turn);
	strbuf_done(&s->state);
	free(s);
}

bool sync_in_sync(const struct sync *s)
{
	return s->in_sync;
}

bool sync_up(const struct sync *s)
{
	for (size_t i = 0; i < s->n_parts; i++)
		if (!s->parts[i].watch && !(s->locked && !s->parts[i].is_lock))
			return false;
	return true;
}

bool sync_locked(const struct sync *s)
{
	return s->locked;
}

const char *sync_state(struct sync *s)
{
	size_t waiting = 0;
	const struct part *listing = NULL;

	for (size_t i = 0; i < s->n_parts; i++) {
		waiting +=
			!s->parts[i].op && !s->parts[i].watch && (!s->held || s->parts[i].is_lock);
		if (s->parts[i].op)
			listing = &s->parts[i];
	}
	strbuf_reset(&s->state);
	if (waiting)
		strbuf_addf(&s->state, "%s: %s",
			s->in_sync ? "datastore away, keeping what is known" : "datastore away",
			err_text(&s->why));
	else if (s->locked)
		strbuf_add(&s->state, "locked: what is known stays in force");
	else if (listing)
		strbuf_addf(&s->state, "listing %s", listing->prefix);
	else
		strbuf_add(&s->state, "in sync");
	return strbuf_str(&s->state);
}
