/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a process hears of changes that others have committed.
 *
 * A commit appends to the WAL, which is an inotify event, and then publishes it in the shared index,
 * which is none. So a watcher reads at the event, and once more shortly after while it holds the
 * write lock: whoever has that lock sees all that was appended before. Nothing is polled.
 */
#include "store/sqlite_watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/err.h"
#include "base/vec.h"
#include "store/sqlite.h"

#define TAIL_MAX 512 /* changes per loop turn */

static int inotify_start(struct sq *sq, struct err *err);

static void inotify_stop(struct sq *sq)
{
	if (sq->ino < 0)
		return;
	event_free(sq->ino_event);
	close(sq->ino);
	sq->ino = -1;
}

static struct sq_watch *next_ready(struct sq *sq)
{
	struct store_watch *w;

	list_for_each (w, &sq->st.watches, node) {
		struct sq_watch *sw = container_of(w, struct sq_watch, w);

		if (sw->ready)
			return sw;
	}
	return NULL;
}

static void end_watches(struct sq *sq, int r, const struct err *err)
{
	struct sq_watch *sw;

	while ((sw = next_ready(sq)))
		store_watch_end(&sw->w, r, err);
}

struct tail {
	VEC(struct store_kv) kvs; /* what some watch wants */
	int64_t last;		  /* the newest revision read */
	int64_t newest;		  /* the database's */
	int64_t compact;
	size_t n;
};

/* One that has missed deletions, or is ahead: an older copy of the database was put back. */
static struct store_watch *next_stale(struct sq *sq, const struct tail *t)
{
	struct store_watch *w;

	list_for_each (w, &sq->st.watches, node)
		if (container_of(w, struct sq_watch, w)->ready &&
			(w->rev < t->compact || w->rev > t->newest))
			return w;
	return NULL;
}

static bool wants(const struct store_watch *w, const struct store_kv *kv)
{
	return ((const struct sq_watch *)w)->ready && w->rev < kv->rev &&
	       strncmp(kv->key, w->prefix, w->prefix_len) == 0;
}

static struct store_watch *next_wanting(struct sq *sq, const struct store_kv *kv)
{
	struct store_watch *w;

	list_for_each (w, &sq->st.watches, node)
		if (wants(w, kv))
			return w;
	return NULL;
}

/* Callbacks may cancel any watch and begin new ones (which are not ready), hence the restarts. */
static void deliver(struct sq *sq, const struct store_kv *kvs, size_t n, int64_t last)
{
	struct store_watch *w;

	for (size_t i = 0; i < n; i++)
		while ((w = next_wanting(sq, &kvs[i])))
			store_watch_event(w, &kvs[i]);
	list_for_each (w, &sq->st.watches, node)
		if (container_of(w, struct sq_watch, w)->ready && w->rev < last)
			w->rev = last;
}

static int tail_collect(struct sq *sq, struct tail *t)
{
	int64_t since = INT64_MAX;
	struct store_watch *w;
	sqlite3_stmt *s;
	int rc;

	list_for_each (w, &sq->st.watches, node)
		if (w->rev < since)
			since = w->rev;
	s = sq_query(sq, Q_TAIL, &rc);
	if (!s)
		return rc;
	sqlite3_bind_int64(s, 1, since);
	while (t->n < TAIL_MAX && sqlite3_step(s) == SQLITE_ROW) {
		struct store_kv kv;

		sq_row_kv(s, (const char *)sqlite3_column_text(s, 3), &kv);
		t->n++;
		t->last = kv.rev;
		if (!next_wanting(sq, &kv))
			continue;
		kv.key = mem_strdup(kv.key);
		kv.value = kv.value ? mem_strndup(kv.value, kv.len) : NULL;
		vec_push(&t->kvs, kv);
	}
	rc = sqlite3_reset(s);
	/* After the rows: what was pruned before they were read is seen here. */
	if (rc == SQLITE_OK)
		rc = sq_get_int64(sq, Q_META, 1, &t->compact);
	return rc == SQLITE_OK ? sq_get_int64(sq, Q_REV, 0, &t->newest) : rc;
}

static void tail_deliver(struct sq *sq, struct tail *t)
{
	struct err err = ERR_INIT;
	struct store_watch *w;

	while ((w = next_stale(sq, t))) {
		int r = err_set(&err, -ESTALE,
			"datastore %s: changes after revision %lld of %s are no longer known",
			sq->path, (long long)w->rev, w->prefix);

		store_watch_end(w, r, &err);
	}
	deliver(sq, t->kvs.v, t->kvs.n, t->last);
}

/*
 * Reads and tells what is new, under the write lock when asked. Returns 0; -EAGAIN when the lock was
 * not to be had or more is waiting; after any other error the watches have been ended.
 */
static int tail_read(struct sq *sq, bool lock)
{
	struct tail t = {0};
	struct err err = ERR_INIT;
	struct store_watch *w;
	struct store_kv *kv;
	int rc, r;

	list_for_each (w, &sq->st.watches, node)
		container_of(w, struct sq_watch, w)->ready = true;
	r = sq_connect(sq, &err);
	if (r >= 0)
		r = inotify_start(sq, &err);
	if (r >= 0) {
		rc = lock ? sq_run(sq, Q_BEGIN_WRITE) : SQLITE_OK;
		if (rc == SQLITE_OK)
			rc = tail_collect(sq, &t);
		r = rc == SQLITE_OK ? 0 : sq_fail(sq, rc, &err);
		sq_rollback(sq);
	}
	if (r >= 0)
		tail_deliver(sq, &t);
	vec_for_each (&t.kvs, kv)
		store_kv_done(kv);
	vec_done(&t.kvs);
	if (r < 0 && r != -EAGAIN) {
		end_watches(sq, r, &err);
		return r;
	}
	return t.n == TAIL_MAX ? -EAGAIN : r;
}

static void tail_timer(evutil_socket_t fd, short what, void *arg)
{
	struct sq *sq = arg;

	(void)fd;
	(void)what;
	if (list_empty(&sq->st.watches))
		return;
	if (tail_read(sq, true) != -EAGAIN) {
		sq->tail_retry_ms = 1;
		return;
	}
	tail_read(sq, false);
	store_arm(sq->tail_event, sq->tail_retry_ms);
	if (sq->tail_retry_ms < RETRY_MAX_MS)
		sq->tail_retry_ms *= 2;
}

/* Reads the events away; true when the files are not those at path any more. */
static bool inotify_drain(struct sq *sq)
{
	_Alignas(struct inotify_event) char buf[4096];
	bool moved = false;
	ssize_t n;

	while ((n = read(sq->ino, buf, sizeof(buf))) > 0)
		for (char *p = buf; p < buf + n;) {
			const struct inotify_event *e = (const struct inotify_event *)(void *)p;

			if (e->mask & ~(uint32_t)IN_MODIFY)
				moved = true;
			p += sizeof(*e) + e->len;
		}
	return moved;
}

static void on_inotify(evutil_socket_t fd, short what, void *arg)
{
	struct sq *sq = arg;
	int r;

	(void)fd;
	(void)what;
	if (inotify_drain(sq) && sq->db && sq_file_replaced(sq)) {
		struct err err = ERR_INIT;

		r = err_set(&err, -EHOSTUNREACH,
			"datastore %s: the file was removed or replaced while in use", sq->path);

		sq_disconnect(sq);
		end_watches(sq, r, &err);
		return;
	}
	r = tail_read(sq, false);
	if ((r >= 0 || r == -EAGAIN) && !evtimer_pending(sq->tail_event, NULL))
		store_arm(sq->tail_event, 1);
}

static int inotify_start(struct sq *sq, struct err *err)
{
	static const uint32_t gone = IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;
	const char *wal = sqlite3_filename_wal(sqlite3_db_filename(sq->db, "main"));

	if (sq->ino >= 0)
		return 0;
	sq->ino = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (sq->ino < 0)
		return err_set(err, -EHOSTUNREACH,
			"datastore %s: inotify: %s (raise fs.inotify.max_user_instances?)",
			sq->path, strerror(errno));
	if (inotify_add_watch(sq->ino, sq->path, gone) < 0 ||
		inotify_add_watch(sq->ino, wal, gone | IN_MODIFY) < 0) {
		int e = errno;

		close(sq->ino);
		sq->ino = -1;
		return err_set(err, -EHOSTUNREACH, "datastore %s: watch %s: %s", sq->path, wal,
			strerror(e));
	}
	sq->ino_event = event_new(sq->st.base, sq->ino, EV_READ | EV_PERSIST, on_inotify, sq);
	if (!sq->ino_event)
		abort();
	event_add(sq->ino_event, NULL);
	return 0;
}

void sq_watch_start(struct store_watch *w)
{
	store_arm(to_sq(w->st)->tail_event, 0);
}

void sq_watch_stop(struct store_watch *w)
{
	struct sq *sq = to_sq(w->st);

	if (sq->st.watches.next == &w->node && sq->st.watches.prev == &w->node)
		inotify_stop(sq);
}

void sq_watch_drop(struct sq *sq)
{
	inotify_stop(sq);
	if (!list_empty(&sq->st.watches))
		store_arm(sq->tail_event, 0);
}

void sq_watch_init(struct sq *sq)
{
	sq->ino = -1;
	sq->tail_retry_ms = 1;
	sq->tail_event = evtimer_new(sq->st.base, tail_timer, sq);
	if (!sq->tail_event)
		abort();
}

void sq_watch_done(struct sq *sq)
{
	event_free(sq->tail_event);
}
