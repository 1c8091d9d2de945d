/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The datastore of one machine: a SQLite file in WAL mode that any number of processes share.
 *
 * One table. A row's rowid is the revision of its last change, so the newest revision is the largest
 * rowid, and what changed since a revision is one range of rowids:
 *
 *	rev | key | create_rev | value		value NULL: deleted, kept for watchers
 *
 * Deleted rows older than KEEP revisions are pruned now and then; meta.compact is the newest that was
 * pruned, and a watch from before it is told ESTALE. meta.id names the database: a running program
 * refuses to go on with another one under the same path, as it would take it for deletions.
 */
#include "store/sqlite.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <event2/event.h>
#include <sqlite3.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "store/sqlite_watch.h"

#define APP_ID 0x4d726779 /* "Mrgy", in the file's header */
#define SCHEMA 1
#define KEEP 10000	 /* revisions for which a deletion is remembered */
#define PRUNE_EVERY 1024 /* revisions */
#define FOREIGN "the database of another program"
#define IS_FOREIGN \
	"SELECT user_version = 0 AND EXISTS (SELECT 1 FROM sqlite_schema) FROM pragma_user_version"
#define WHO_MAKES_IT "margay-felix, or margayctl apply, makes it"
#define WAL_PAGES 500 /* per checkpoint; a first opener may have to read them all */

static const char *const query_text[Q_N] = {
	[Q_BEGIN] = "BEGIN",
	[Q_BEGIN_WRITE] = "BEGIN IMMEDIATE",
	[Q_COMMIT] = "COMMIT",
	[Q_ROLLBACK] = "ROLLBACK",
	[Q_META] = "SELECT id, compact FROM meta",
	[Q_REV] = "SELECT coalesce(max(rev), 1) FROM kv",
	[Q_GET] = "SELECT rev, create_rev, value FROM kv WHERE key = ?1",
	[Q_UID] = "SELECT 1 FROM kv WHERE key = ?1 AND json_valid(value)"
		  " AND json_extract(value, '$.metadata.uid') = ?2",
	[Q_LIST] = "SELECT rev, create_rev, value, key FROM kv"
		   " WHERE key >= ?1 AND key < ?2 AND value IS NOT NULL ORDER BY key",
	[Q_PUT] = "INSERT INTO kv (rev, key, create_rev, value) VALUES (?1, ?2, ?3, ?4)"
		  " ON CONFLICT (key) DO UPDATE"
		  " SET rev = ?1, create_rev = ?3, value = ?4",
	[Q_DEL] = "UPDATE kv SET rev = ?1, value = NULL WHERE key = ?2",
	[Q_TAIL] = "SELECT rev, create_rev, value, key FROM kv WHERE rev > ?1 ORDER BY rev",
	[Q_PRUNE_NOTE] =
		"UPDATE meta SET compact ="
		" coalesce((SELECT max(rev) FROM kv WHERE value IS NULL AND rev < ?1), compact)",
	[Q_PRUNE] = "DELETE FROM kv WHERE value IS NULL AND rev < ?1",
};

static const char schema_text[] =
	"CREATE TABLE kv (rev INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,"
	" create_rev INTEGER NOT NULL, value TEXT);"
	"CREATE INDEX kv_deleted ON kv (rev) WHERE value IS NULL;"
	"CREATE TABLE meta (id TEXT NOT NULL, compact INTEGER NOT NULL);"
	"INSERT INTO meta VALUES (lower(hex(randomblob(16))), 0);";

struct sq_op {
	struct store_op op;
	struct event *retry; /* while another process holds the lock */
	int retry_ms;
};

struct sq *to_sq(struct store *st)
{
	return container_of(st, struct sq, st);
}

void sq_disconnect(struct sq *sq)
{
	sq_watch_drop(sq);
	for (int i = 0; i < Q_N; i++) {
		sqlite3_finalize(sq->q[i]);
		sq->q[i] = NULL;
	}
	sqlite3_close(sq->db);
	sq->db = NULL;
}

/* ---- errors ---- */

/* A file that cannot be used: why, where it is, and how another is named, by a daemon and by a plugin. */
static int unusable(const struct sq *sq, int code, const char *why, struct err *err)
{
	const char *name = strrchr(sq->path, '/') + 1;

	return err_set(err, code,
		"datastore %s: %s (ls -ld shows the file and its directory %.*s); another file is named "
		"by MARGAY_SQLITE_PATH, in a CNI configuration by sqlite_path",
		sq->path, why, (int)(name - sq->path), sq->path);
}

static int fail_sys(struct sq *sq, int e, struct err *err)
{
	auto_free char *why = NULL;

	switch (e) {
	case EACCES:
	case EPERM:
		why = mem_printf("%s for uid %d", strerror(e), (int)geteuid());
		return unusable(sq, -EACCES, why, err);
	case EROFS:
		why = mem_printf("%s: mount it for writing (findmnt -T %.*s shows it)", strerror(e),
			(int)(strrchr(sq->path, '/') + 1 - sq->path), sq->path);
		return unusable(sq, -EACCES, why, err);
	case EISDIR:
		return unusable(sq, -EINVAL, strerror(e), err);
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return err_set(err, -ENOSPC,
			"datastore %s: the disk is full: make room (df shows how much is left); "
			"nothing stored was harmed",
			sq->path);
	default:
		return unusable(sq, -EHOSTUNREACH, strerror(e), err);
	}
}

static bool is_on_read_only(const struct sq *sq)
{
	struct statvfs v;

	return statvfs(sq->path, &v) == 0 && v.f_flag & ST_RDONLY;
}

static int fail_io(struct sq *sq, int rc, struct err *err)
{
	bool io = (rc & 0xff) == SQLITE_CANTOPEN || (rc & 0xff) == SQLITE_IOERR;
	int e = io && sq->db ? sqlite3_system_errno(sq->db) : 0;
	char why[160];

	/* SQLite tries again to read only, and tells the second errno. */
	if (io && is_on_read_only(sq))
		e = EROFS;
	if (e)
		return fail_sys(sq, e, err);
	if (rc == SQLITE_IOERR_WRITE) /* SQLite tells no errno but ENOSPC's */
		return err_set(err, -EHOSTUNREACH,
			"datastore %s: a write failed: a quota, a limit on file sizes, or the disk "
			"(dmesg tells)",
			sq->path);
	snprintf(why, sizeof(why), "%s (SQLite code %d)",
		sq->db ? sqlite3_errmsg(sq->db) : sqlite3_errstr(rc), rc);
	return unusable(sq, -EHOSTUNREACH, why, err);
}

int sq_fail(struct sq *sq, int rc, struct err *err)
{
	char why[160];
	int r;

	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return err_set(err, -EAGAIN, "datastore %s: locked by another process", sq->path);
	case SQLITE_FULL:
		r = fail_sys(sq, ENOSPC, err);
		break;
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		if (is_on_read_only(sq)) {
			r = fail_sys(sq, EROFS, err);
			break;
		}
		snprintf(why, sizeof(why),
			"it, or its -wal or -shm beside it, is not writable by uid %d: give write permission, or run as its owner",
			(int)geteuid());
		r = unusable(sq, -EACCES, why, err);
		break;
	case SQLITE_NOTADB:
		r = unusable(sq, -EINVAL, "the file is not a database: move it away", err);
		break;
	case SQLITE_CORRUPT:
		r = err_set(err, -EINVAL,
			"datastore %s: the file is damaged (%s): stop what uses it, and save what is "
			"there with: sqlite3 %s .recover",
			sq->path, sq->db ? sqlite3_errmsg(sq->db) : "", sq->path);
		break;
	default:
		r = fail_io(sq, rc, err);
		break;
	}
	sq_disconnect(sq);
	return r;
}

/* ---- statements ---- */

sqlite3_stmt *sq_query(struct sq *sq, enum query q, int *ret_rc)
{
	if (!sq->q[q]) {
		*ret_rc = sqlite3_prepare_v3(
			sq->db, query_text[q], -1, SQLITE_PREPARE_PERSISTENT, &sq->q[q], NULL);
		if (*ret_rc != SQLITE_OK)
			return NULL;
	}
	return sq->q[q];
}

int sq_run(struct sq *sq, enum query q)
{
	int rc;
	sqlite3_stmt *s = sq_query(sq, q, &rc);

	if (!s)
		return rc;
	sqlite3_step(s);
	return sqlite3_reset(s);
}

static void bind_text(sqlite3_stmt *s, int i, const char *text)
{
	sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC);
}

void sq_rollback(struct sq *sq)
{
	if (sq->db && !sqlite3_get_autocommit(sq->db))
		sq_run(sq, Q_ROLLBACK);
}

void sq_row_kv(sqlite3_stmt *s, const char *key, struct store_kv *kv)
{
	*kv = (struct store_kv){.key = (char *)(uintptr_t)key};
	kv->rev = sqlite3_column_int64(s, 0);
	kv->create_rev = sqlite3_column_int64(s, 1);
	kv->value = (char *)(uintptr_t)sqlite3_column_text(s, 2);
	kv->len = (size_t)sqlite3_column_bytes(s, 2);
}

int sq_get_int64(struct sq *sq, enum query q, int column, int64_t *ret)
{
	int rc;
	sqlite3_stmt *s = sq_query(sq, q, &rc);

	if (!s)
		return rc;
	if (sqlite3_step(s) == SQLITE_ROW)
		*ret = sqlite3_column_int64(s, column);
	return sqlite3_reset(s);
}

/* ---- connecting ---- */

/* Naps while another process has the lock: short ones on an event loop, which tries again later. */
static int on_busy(void *arg, int n)
{
	const struct sq *sq = arg;

	if (n >= (sq->st.own_base ? 100 : 5))
		return 0;
	usleep(50 + (unsigned)random() % 200);
	return 1;
}

/*
 * Once per WAL_PAGES. Where readers and writers come too thick for the WAL ever to be done with, they
 * are kept off until it is: it would grow for ever.
 */
static int on_commit(void *arg, sqlite3 *db, const char *name, int pages)
{
	struct sq *sq = arg;
	int before = sq->wal_pages < pages ? sq->wal_pages : 0;

	sq->wal_pages = pages;
	if (pages / WAL_PAGES > before / WAL_PAGES)
		sqlite3_wal_checkpoint_v2(db, name,
			pages >= 4 * WAL_PAGES ? SQLITE_CHECKPOINT_RESTART
					       : SQLITE_CHECKPOINT_PASSIVE,
			NULL, NULL);
	return SQLITE_OK;
}

/* The file itself, so that it never exists with other rights. */
static int create_file(struct sq *sq, struct err *err)
{
	char *slash = strrchr(sq->path, '/');
	int fd;

	if (slash && slash != sq->path) {
		auto_free char *dir = mem_strndup(sq->path, (size_t)(slash - sq->path));
		int r = file_mkdirs(dir, 0755, NULL);

		if (r < 0)
			return fail_sys(sq, -r, err);
	}
	fd = open(sq->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno != EEXIST)
		return fail_sys(sq, errno, err);
	if (fd >= 0)
		close(fd);
	return 0;
}

static int get_pragma(struct sq *sq, const char *text, int64_t *ret)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(sq->db, text, -1, &s, NULL);

	if (rc != SQLITE_OK)
		return rc;
	if (sqlite3_step(s) == SQLITE_ROW)
		*ret = sqlite3_column_int64(s, 0);
	return sqlite3_finalize(s);
}

/*
 * Under the write lock, as another process may be doing the same. Whether it is another program's is
 * asked before, too: the pragma writes the journal's mode into the file.
 */
static int create_schema(struct sq *sq, struct err *err)
{
	int64_t foreign = 0, version = 0;
	char pragmas[80];
	int rc = get_pragma(sq, IS_FOREIGN, &foreign);

	if (rc == SQLITE_OK && !foreign && sq->must_exist) {
		sq_disconnect(sq);
		return unusable(sq, -EHOSTUNREACH, "it is empty: " WHO_MAKES_IT, err);
	}
	if (rc == SQLITE_OK && !foreign)
		rc = sqlite3_exec(sq->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
	if (rc == SQLITE_OK && !foreign)
		rc = sq_run(sq, Q_BEGIN_WRITE);
	if (rc == SQLITE_OK && !foreign)
		rc = get_pragma(sq, IS_FOREIGN, &foreign);
	if (rc == SQLITE_OK && foreign) {
		sq_rollback(sq);
		sq_disconnect(sq);
		return unusable(sq, -EINVAL, FOREIGN, err);
	}
	if (rc == SQLITE_OK)
		rc = get_pragma(sq, "PRAGMA user_version", &version);
	if (rc == SQLITE_OK && version == 0) {
		snprintf(pragmas, sizeof(pragmas),
			"PRAGMA user_version = %d; PRAGMA application_id = %d", SCHEMA, APP_ID);
		rc = sqlite3_exec(sq->db, schema_text, NULL, NULL, NULL);
		if (rc == SQLITE_OK)
			rc = sqlite3_exec(sq->db, pragmas, NULL, NULL, NULL);
	}
	if (rc == SQLITE_OK)
		rc = sq_run(sq, Q_COMMIT);
	if (rc == SQLITE_OK)
		return 0;
	sq_rollback(sq);
	return sq_fail(sq, rc, err);
}

static int check_schema(struct sq *sq, struct err *err)
{
	int64_t version = 0, app = 0;
	int rc = get_pragma(sq, "PRAGMA user_version", &version), r;

	if (rc == SQLITE_OK)
		rc = get_pragma(sq, "PRAGMA application_id", &app);
	if (rc != SQLITE_OK)
		return sq_fail(sq, rc, err);
	if (version == 0 && app == 0)
		return create_schema(sq, err);
	if (app != APP_ID)
		r = unusable(sq, -EINVAL, FOREIGN, err);
	else if (version != SCHEMA)
		r = err_set(err, -EINVAL,
			"datastore %s: its schema is version %lld, this program knows %d: use the "
			"Margay that wrote it, or a newer one",
			sq->path, (long long)version, SCHEMA);
	else
		return 0;
	sq_disconnect(sq);
	return r;
}

static int check_id(struct sq *sq, struct err *err)
{
	int rc, r = 0;
	sqlite3_stmt *s = sq_query(sq, Q_META, &rc);
	const char *id = NULL;

	if (!s)
		return sq_fail(sq, rc, err);
	if (sqlite3_step(s) == SQLITE_ROW)
		id = (const char *)sqlite3_column_text(s, 0);
	if (id && !sq->id[0])
		snprintf(sq->id, sizeof(sq->id), "%s", id);
	else if (id && strcmp(id, sq->id) != 0)
		r = err_set(err, -EHOSTUNREACH,
			"datastore %s: another database (%.8s, was %.8s) stands in its place: put the "
			"old one back, or restart this program to take the new one",
			sq->path, id, sq->id);
	rc = sqlite3_reset(s);
	if (rc != SQLITE_OK)
		return sq_fail(sq, rc, err);
	if (r < 0)
		sq_disconnect(sq);
	return r;
}

bool sq_file_replaced(const struct sq *sq)
{
	struct stat now;
	const char *wal = sqlite3_filename_wal(sqlite3_db_filename(sq->db, "main"));

	return stat(sq->path, &now) < 0 || now.st_ino != sq->file.st_ino ||
	       now.st_dev != sq->file.st_dev || stat(wal, &now) < 0;
}

int sq_connect(struct sq *sq, struct err *err)
{
	int rc, r;

	if (sq->db)
		return 0;
	if (stat(sq->path, &sq->file) < 0) {
		if (errno != ENOENT)
			return fail_sys(sq, errno, err);
		if (sq->id[0])
			return err_set(err, -EHOSTUNREACH,
				"datastore %s: the file is gone: put it back, or restart this "
				"program to begin with an empty one",
				sq->path);
		if (sq->must_exist)
			return unusable(sq, -EHOSTUNREACH, "there is none: " WHO_MAKES_IT, err);
		r = create_file(sq, err);
		if (r < 0)
			return r;
		if (stat(sq->path, &sq->file) < 0)
			return fail_sys(sq, errno, err);
	}
	if (S_ISDIR(sq->file.st_mode))
		return fail_sys(sq, EISDIR, err);
	if (!S_ISREG(sq->file.st_mode))
		return unusable(sq, -EINVAL, "Not a regular file", err);
	rc = sqlite3_open_v2(sq->path, &sq->db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
	if (rc != SQLITE_OK)
		return sq_fail(sq, rc, err);
	/* A plugin that is alone would otherwise checkpoint, fsync and unlink at each exit. */
	sqlite3_db_config(sq->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	sqlite3_busy_handler(sq->db, on_busy, sq);
	sqlite3_wal_hook(sq->db, on_commit, sq);
	rc = sqlite3_exec(sq->db, "PRAGMA cache_size = -512; PRAGMA journal_size_limit = 4194304",
		NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(sq->db,
			sq->sync_full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL",
			NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		r = sq_fail(sq, rc, err);
	else
		r = check_schema(sq, err);
	if (r >= 0)
		r = check_id(sq, err);
	if (r < 0)
		sq_disconnect(sq);
	return r;
}

/* ---- operations ---- */

static int op_get(struct sq *sq, struct store_op *op, struct err *err)
{
	int rc, r;
	sqlite3_stmt *s = sq_query(sq, Q_GET, &rc);
	struct store_kv kv;

	if (!s)
		return sq_fail(sq, rc, err);
	bind_text(s, 1, op->req.key);
	rc = sqlite3_step(s);
	if (rc == SQLITE_ROW && sqlite3_column_type(s, 2) != SQLITE_NULL) {
		sq_row_kv(s, op->req.key, &kv);
		store_op_done(op, &(struct store_res){.rev = kv.rev, .kvs = &kv, .n = 1});
		sqlite3_reset(s);
		return 0;
	}
	r = rc == SQLITE_ROW || rc == SQLITE_DONE
		    ? err_set(err, -ENOENT, "%s: not in the datastore", op->req.key)
		    : 0;
	rc = sqlite3_reset(s);
	return r < 0 ? r : sq_fail(sq, rc, err);
}

/* What an operation has begun for itself. */
static void end_alone(struct sq *sq)
{
	if (!sq->in_txn)
		sq_rollback(sq);
}

static int op_list(struct sq *sq, struct store_op *op, struct err *err)
{
	auto_free char *end = store_prefix_end(op->req.key);
	size_t limit = op->req.limit, n = 0;
	int64_t rev = 0;
	int rc = sq->in_txn ? SQLITE_OK : sq_run(sq, Q_BEGIN);
	sqlite3_stmt *s = NULL;
	struct store_kv kv;

	if (rc == SQLITE_OK)
		rc = sq_get_int64(sq, Q_REV, 0, &rev);
	if (rc == SQLITE_OK)
		s = sq_query(sq, Q_LIST, &rc);
	if (!s) {
		end_alone(sq);
		return sq_fail(sq, rc, err);
	}
	bind_text(s, 1, op->req.key);
	bind_text(s, 2, end);
	while ((!limit || n < limit) && (rc = sqlite3_step(s)) == SQLITE_ROW) {
		sq_row_kv(s, (const char *)sqlite3_column_text(s, 3), &kv);
		n++;
		if (!store_op_done(op,
			    &(struct store_res){.rev = rev, .kvs = &kv, .n = 1, .more = true})) {
			op = NULL;
			break;
		}
	}
	rc = sqlite3_reset(s);
	end_alone(sq);
	if (!op)
		return 0;
	if (rc != SQLITE_OK)
		return sq_fail(sq, rc, err);
	store_op_done(op, &(struct store_res){.rev = rev});
	return 0;
}

/* Whether the object may be written so; *ret_create_rev is the present one's. */
static int check_present(
	struct sq *sq, const struct store_req *req, int64_t *ret_create_rev, struct err *err)
{
	int rc;
	sqlite3_stmt *s = sq_query(sq, Q_GET, &rc);
	int64_t rev = 0;

	if (!s)
		return sq_fail(sq, rc, err);
	bind_text(s, 1, req->key);
	if (sqlite3_step(s) == SQLITE_ROW && sqlite3_column_type(s, 2) != SQLITE_NULL) {
		rev = sqlite3_column_int64(s, 0);
		*ret_create_rev = sqlite3_column_int64(s, 1);
	}
	rc = sqlite3_reset(s);
	if (rc != SQLITE_OK)
		return sq_fail(sq, rc, err);
	if (req->verb == STORE_CREATE)
		return rev ? err_set(err, -EEXIST, "%s: exists already, at revision %lld", req->key,
				     (long long)rev)
			   : 0;
	if (!rev)
		return err_set(err, -ENOENT, "%s: not in the datastore", req->key);
	if (req->rev && req->rev != rev)
		return err_set(err, -ESTALE,
			"%s: was changed meanwhile: it has revision %lld, expected was %lld",
			req->key, (long long)rev, (long long)req->rev);
	if (req->uid) {
		s = sq_query(sq, Q_UID, &rc);
		if (!s)
			return sq_fail(sq, rc, err);
		bind_text(s, 1, req->key);
		bind_text(s, 2, req->uid);
		rc = sqlite3_step(s);
		sqlite3_reset(s);
		if (rc != SQLITE_ROW)
			return err_set(err, -ESTALE,
				"%s: is another object of the same name: its uid is not %s",
				req->key, req->uid);
	}
	return 0;
}

static int write_row(struct sq *sq, const struct store_req *req, int64_t rev, int64_t create_rev)
{
	bool delete = req->verb == STORE_DELETE;
	int rc;
	sqlite3_stmt *s = sq_query(sq, delete ? Q_DEL : Q_PUT, &rc);

	if (!s)
		return rc;
	sqlite3_bind_int64(s, 1, rev);
	bind_text(s, 2, req->key);
	if (!delete) {
		sqlite3_bind_int64(s, 3, create_rev ? create_rev : rev);
		sqlite3_bind_text(s, 4, req->value, (int)req->len, SQLITE_STATIC);
	}
	sqlite3_step(s);
	return sqlite3_reset(s);
}

static int prune(struct sq *sq, int64_t rev)
{
	static const enum query both[] = {Q_PRUNE_NOTE, Q_PRUNE};

	for (size_t i = 0; i < array_size(both); i++) {
		int rc;
		sqlite3_stmt *s = sq_query(sq, both[i], &rc);

		if (!s)
			return rc;
		sqlite3_bind_int64(s, 1, rev - KEEP);
		sqlite3_step(s);
		rc = sqlite3_reset(s);
		if (rc != SQLITE_OK)
			return rc;
	}
	return SQLITE_OK;
}

static int begin_write(struct sq *sq)
{
	int rc = sq_run(sq, Q_BEGIN_WRITE);

	/* It would only read, and tell of a write that finds nothing that there is nothing. */
	if (rc == SQLITE_OK && sqlite3_db_readonly(sq->db, "main") == 1)
		rc = SQLITE_READONLY;
	return rc;
}

static int op_write(struct sq *sq, struct store_op *op, struct err *err)
{
	int64_t create_rev = 0, rev = 0;
	int rc = sq->in_txn ? SQLITE_OK : begin_write(sq), r;

	if (rc != SQLITE_OK)
		return sq_fail(sq, rc, err);
	r = check_present(sq, &op->req, &create_rev, err);
	if (r < 0) {
		end_alone(sq);
		return r;
	}
	rc = sq_get_int64(sq, Q_REV, 0, &rev);
	if (rc == SQLITE_OK)
		rc = write_row(sq, &op->req, ++rev, create_rev);
	if (rc == SQLITE_OK && rev % PRUNE_EVERY == 0)
		rc = prune(sq, rev);
	if (rc == SQLITE_OK && !sq->in_txn)
		rc = sq_run(sq, Q_COMMIT);
	if (rc != SQLITE_OK) {
		r = sq_fail(sq, rc, err);
		end_alone(sq);
		return r;
	}
	store_op_done(op, &(struct store_res){.rev = rev});
	return 0;
}

/* Else a write would go to a file that nobody can read any more. */
static int connect_to_current(struct sq *sq, struct err *err)
{
	if (sq->db && sq_file_replaced(sq))
		sq_disconnect(sq);
	return sq_connect(sq, err);
}

static int txn_begin(struct sq *sq, struct err *err)
{
	int r = connect_to_current(sq, err);
	int rc = r < 0 ? SQLITE_OK : begin_write(sq);

	return rc == SQLITE_OK ? r : sq_fail(sq, rc, err);
}

static int sq_txn_begin(struct store *st, int64_t deadline_ms, struct err *err)
{
	struct sq *sq = to_sq(st);
	int r;

	assert(!sq->in_txn);
	do {
		r = txn_begin(sq, err);
	} while (r == -EAGAIN && clock_mono_ms() < deadline_ms);
	sq->in_txn = r == 0;
	return r == -EAGAIN ? err_wrap(err, -ETIMEDOUT, "no turn in time") : r;
}

/* In a transaction, all of which went with the connection. */
static int lost(struct sq *sq, struct err *err)
{
	return err_set(err, -EHOSTUNREACH,
		"datastore %s: nothing of this transaction was written, since a part of it failed",
		sq->path);
}

static int sq_txn_end(struct store *st, struct err *err)
{
	struct sq *sq = to_sq(st);
	int rc, r;

	assert(sq->in_txn);
	sq->in_txn = false;
	if (!sq->db)
		return lost(sq, err);
	rc = sq_run(sq, Q_COMMIT);
	if (rc == SQLITE_OK)
		return 0;
	r = sq_fail(sq, rc, err);
	sq_rollback(sq);
	return r;
}

static void op_attempt(evutil_socket_t fd, short what, void *arg)
{
	struct sq_op *so = arg;
	struct sq *sq = to_sq(so->op.st);
	struct err err = ERR_INIT;
	int r;

	(void)fd;
	(void)what;
	if (!sq->in_txn)
		r = connect_to_current(sq, &err);
	else
		r = sq->db ? 0 : lost(sq, &err);
	if (so->retry) {
		event_free(so->retry);
		so->retry = NULL;
	}
	if (r >= 0) {
		switch (so->op.req.verb) {
		case STORE_GET:
			r = op_get(sq, &so->op, &err);
			break;
		case STORE_LIST:
			r = op_list(sq, &so->op, &err);
			break;
		case STORE_CREATE:
		case STORE_UPDATE:
		case STORE_DELETE:
			r = op_write(sq, &so->op, &err);
			break;
		}
	}
	if (r == -EAGAIN) {
		so->retry_ms = so->retry_ms ? so->retry_ms : 1;
		so->retry = evtimer_new(sq->st.base, op_attempt, so);
		if (!so->retry)
			abort();
		store_arm(so->retry, so->retry_ms);
		if (so->retry_ms < RETRY_MAX_MS)
			so->retry_ms *= 2;
	} else if (r < 0) {
		store_op_fail(&so->op, r, &err);
	}
}

static void sq_op_start(struct store_op *op)
{
	op_attempt(-1, 0, container_of(op, struct sq_op, op));
}

static void sq_op_stop(struct store_op *op)
{
	struct sq_op *so = container_of(op, struct sq_op, op);

	if (so->retry)
		event_free(so->retry);
	so->retry = NULL;
}

static void sq_close(struct store *st)
{
	struct sq *sq = to_sq(st);

	sq_disconnect(sq);
	sq_watch_done(sq);
	free(sq->path);
	free(sq);
}

static const struct store_ops sqlite_ops = {
	.op_size = sizeof(struct sq_op),
	.watch_size = sizeof(struct sq_watch),
	.op_start = sq_op_start,
	.op_stop = sq_op_stop,
	.watch_start = sq_watch_start,
	.watch_stop = sq_watch_stop,
	.txn_begin = sq_txn_begin,
	.txn_end = sq_txn_end,
	.close = sq_close,
};

int store_sqlite_open(
	const struct store_conf *conf, struct event_base *base, struct store **ret, struct err *err)
{
	const char *path =
		conf->sqlite_path && *conf->sqlite_path ? conf->sqlite_path : STORE_SQLITE_PATH;
	struct sq *sq;

	if (path[0] != '/')
		return err_set(
			err, -EINVAL, "MARGAY_SQLITE_PATH \"%s\": want an absolute path", path);
	sq = mem_new(struct sq);
	store_init(&sq->st, &sqlite_ops, base, mem_printf("sqlite:%s", path));
	sq->path = mem_strdup(path);
	sq->sync_full = conf->sqlite_sync_full;
	sq->must_exist = conf->must_exist;
	sq_watch_init(sq);
	*ret = &sq->st;
	return 0;
}
