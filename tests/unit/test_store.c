/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every datastore driver promises (store_suite.h), on SQLite and on the fake; then what SQLite
 * alone can be asked: several processes, kill -9, files that are broken, full, forbidden or exchanged.
 */
#include "store/store.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>
#include <sqlite3.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "fake/store_fake.h"
#include "store/params.h"
#include "svc/param.h"
#include "unit/store_samples.h"
#include "unit/store_suite.h"
#include "unit/test_dir.h"

static const char *dir;
static char path[96];

static void setup(void)
{
	dir = test_dir();
	snprintf(path, sizeof(path), "%s/lib/margay.db", dir);
	err = ERR_INIT;
}

static struct store *open_sqlite(struct event_base *base)
{
	struct store *st = NULL;

	ck_assert_int_eq(store_open(&(struct store_conf){.sqlite_path = path}, base, &st, &err), 0);
	return st;
}

static const struct store_suite_driver drivers[] = {
	{.open = open_sqlite}, {.open = store_fake_new, .alone = true}};

/* ---- SQLite: samples, by its own library ---- */

static struct store *open_for_sample(void)
{
	return open_sqlite(NULL);
}

/* One row's value, or NULL. The caller's. */
static char *sql(const char *text, const char *key, const char *value)
{
	sqlite3_stmt *q = NULL;
	sqlite3 *db = NULL;
	char *got = NULL;
	int r;

	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 5000);
	ck_assert_msg(
		sqlite3_prepare_v2(db, text, -1, &q, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(db));
	sqlite3_bind_text(q, 1, key, -1, SQLITE_TRANSIENT);
	if (value)
		sqlite3_bind_text(q, 2, value, -1, SQLITE_TRANSIENT);
	r = sqlite3_step(q);
	if (r == SQLITE_ROW)
		got = mem_strdup((const char *)sqlite3_column_text(q, 0));
	else
		ck_assert_msg(r == SQLITE_DONE, "%s", sqlite3_errmsg(db));
	sqlite3_finalize(q);
	sqlite3_close(db);
	return got;
}

static void sample_put(const char *key, const char *value)
{
	auto_(store) struct store *st = open_sqlite(NULL);
	struct store_list l;

	ok(store_list_wait(st, key, 0, &l, &err)); /* makes the file */
	store_list_done(&l);
	free(sql("INSERT INTO kv (key, rev, create_rev, value) SELECT ?1, n, n, ?2 FROM "
		 "(SELECT coalesce(max(rev), 0) + 1 AS n FROM kv)",
		key, value));
}

static char *sample_get(const char *key)
{
	char *value = sql("SELECT value FROM kv WHERE key = ?1", key, NULL);

	ck_assert_ptr_nonnull(value);
	return value;
}

static void sample_del(const char *key)
{
	free(sql("DELETE FROM kv WHERE key = ?1", key, NULL));
}

static const struct samples_driver samples[] = {
	{.open = open_for_sample, .put = sample_put, .get = sample_get, .del = sample_del}};

/* ---- SQLite: several processes ---- */

static pid_t fork_writer(int id, unsigned rnd, int n)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct store *st = open_sqlite(NULL);

		srandom(rnd);
		for (int i = 0; n < 0 || i < n; i++)
			random_write(st, id, i);
		store_close(st);
		_exit(0);
	}
	return pid;
}

static void reap(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

START_TEST(followers_see_what_several_processes_write)
{
	struct follower f = {.base = event_base_new(), .may_delete = true};
	struct seen raw = {.base = f.base};
	struct store *st = open_sqlite(f.base), *direct;
	struct store_list l = {0};
	unsigned long rnd = seed();
	pid_t pids[4];
	int64_t end;

	raw.watch = store_watch(st, "/", 1, on_event, on_end, &raw);
	f.sync = sync_new(st, f_prefix, 1, &f_ops, &f, NULL);
	for (int i = 0; i < 4; i++)
		pids[i] = fork_writer(i, (unsigned)rnd + (unsigned)i, 400);
	for (int i = 0; i < 4; i++)
		while (waitpid(pids[i], NULL, WNOHANG) == 0)
			run_until(f.base, NULL, 0, 2);
	direct = open_sqlite(NULL);
	ok(store_list_wait(direct, KEYS, 0, &l, &err));
	store_close(direct);
	end = clock_mono_ms() + 5000;
	while (clock_mono_ms() < end && !(f_equals(&f, &l) && raw.rev == l.rev))
		run_until(f.base, NULL, 0, 2);
	ck_assert(f_equals(&f, &l));
	ck_assert_int_eq(
		raw.rev, l.rev); /* the raw watch had every newest change, in order, once */
	ck_assert_int_eq(f.in_sync, 1);
	ck_assert_str_eq(sync_state(f.sync), "in sync");
	store_list_done(&l);
	f_done(&f);
	store_close(st);
	event_base_free(f.base);
	seen_done(&raw);
}
END_TEST

START_TEST(compare_and_swap_counts_exactly_and_the_wal_stays_small)
{
	auto_(store) struct store *st = open_sqlite(NULL);
	struct store_kv kv = {0};
	struct stat sb;
	char wal[128];
	pid_t pids[4];

	ok(store_create_wait(st, "/n", "0", 0, NULL, &err));
	store_close(take_ptr(st));
	for (int p = 0; p < 4; p++) {
		pids[p] = fork();
		if (pids[p] > 0)
			continue;
		st = open_sqlite(NULL);
		for (int done = 0; done < 1500;) {
			char value[16];
			int r;

			if (store_get_wait(st, "/n", 0, &kv, &err) < 0)
				_exit(1);
			snprintf(value, sizeof(value), "%d", atoi(kv.value) + 1);
			r = store_update_wait(st, "/n", value, kv.rev, 0, NULL, &err);
			store_kv_done(&kv);
			if (r < 0 && r != -ESTALE)
				_exit(1);
			done += r >= 0;
		}
		_exit(0);
	}
	for (int p = 0; p < 4; p++)
		reap(pids[p]);
	st = open_sqlite(NULL);
	ok(store_get_wait(st, "/n", 0, &kv, &err));
	ck_assert_str_eq(kv.value, "6000");
	store_kv_done(&kv);
	/* 6000 commits of four pages; without the checkpoints that keep others off it has 70 MB */
	snprintf(wal, sizeof(wal), "%s-wal", path);
	ck_assert_int_eq(stat(wal, &sb), 0);
	ck_assert_int_lt(sb.st_size, 30 * 1000 * 1000);
}
END_TEST

static int sql_int(const char *text)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *s = NULL;
	int n = -1;

	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_prepare_v2(db, text, -1, &s, NULL), SQLITE_OK);
	if (sqlite3_step(s) == SQLITE_ROW)
		n = sqlite3_column_type(s, 0) == SQLITE_TEXT
			    ? strcmp((const char *)sqlite3_column_text(s, 0), "ok")
			    : sqlite3_column_int(s, 0);
	sqlite3_finalize(s);
	sqlite3_close(db);
	return n;
}

START_TEST(killed_writers_leave_it_whole)
{
	struct follower f = {.base = event_base_new(), .may_delete = true};
	struct store *st = open_sqlite(f.base);
	unsigned long rnd = seed();
	struct store_list l = {0};
	int64_t rev = 0, end;

	f.sync = sync_new(st, f_prefix, 1, &f_ops, &f, NULL);
	for (int round = 0; round < 30; round++) {
		pid_t pid = fork_writer(round, (unsigned)rnd + (unsigned)round, -1);
		struct store *direct;

		run_until(f.base, NULL, 0, 2 + (int)(random() % 10));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		direct = open_sqlite(NULL);
		ok(store_list_wait(direct, KEYS, 0, &l, &err));
		ck_assert_int_ge(l.rev, rev);
		rev = l.rev;
		end = clock_mono_ms() + 5000;
		while (clock_mono_ms() < end && !f_equals(&f, &l))
			run_until(f.base, NULL, 0, 1);
		ck_assert(f_equals(&f, &l));
		store_list_done(&l);
		store_close(direct);
	}
	ck_assert_int_gt(rev, 30);
	f_done(&f);
	store_close(st);
	event_base_free(f.base);
	ck_assert_int_eq(sql_int("PRAGMA integrity_check"), 0);
}
END_TEST

START_TEST(a_watcher_sleeps_and_wakes)
{
	struct seen w = {.base = event_base_new()};
	struct store *st = open_sqlite(w.base), *other;
	int64_t worst = 0;
	char value[16];

	w.watch = store_watch(st, "/p/", 1, on_event, on_end, &w);
	other = open_sqlite(NULL);
	ok(store_create_wait(other, "/p/a", "1", 0, NULL, &err));
	wait_events(&w, 1);
	run_until(w.base, NULL, 0, 50);
	ck_assert_int_eq(run_until(w.base, NULL, 0, 400), 1); /* the test's own timer */
	for (size_t i = 0; i < 50; i++) {
		pid_t pid = fork();
		int64_t t;

		if (pid == 0) {
			struct store *mine = open_sqlite(NULL);

			snprintf(value, sizeof(value), "%zu", i + 2);
			_exit(store_update_wait(mine, "/p/a", value, 0, 0, NULL, &err) < 0);
		}
		reap(pid);
		t = clock_mono_ms();
		while (w.events.n < i + 2 && clock_mono_ms() - t < 5000)
			event_base_loop(w.base, EVLOOP_ONCE);
		t = clock_mono_ms() - t;
		worst = t > worst ? t : worst;
		ck_assert_uint_eq(w.events.n, i + 2);
	}
	printf("woken at worst %lld ms after the writer's exit\n", (long long)worst);
	ck_assert_int_lt(worst, 1000);
	store_close(other);
	store_close(st);
	event_base_free(w.base);
	seen_done(&w);
}
END_TEST

static void own_mounts(void)
{
	ck_assert_msg(unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) == 0,
		"unshare: %s", strerror(errno));
	ck_assert_int_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
}

START_TEST(nodes_with_mounts_of_their_own_share_a_file)
{
	struct seen w = {.base = event_base_new()};
	struct store *st = open_sqlite(w.base);
	pid_t pid;

	w.watch = store_watch(st, "/p/", 1, on_event, on_end, &w);
	run_until(w.base, NULL, 0, 50);
	pid = fork();
	if (pid == 0) {
		char from[128], to[128];

		own_mounts();
		snprintf(from, sizeof(from), "%s/lib", dir);
		snprintf(to, sizeof(to), "%s/elsewhere", dir);
		mkdir(to, 0755);
		ck_assert_int_eq(mount(from, to, NULL, MS_BIND, NULL), 0);
		snprintf(path, sizeof(path), "%s/elsewhere/margay.db", dir);
		_exit(store_create_wait(open_sqlite(NULL), "/p/a", "1", 0, NULL, &err) < 0);
	}
	wait_events(&w, 1);
	reap(pid);
	store_close(st);
	event_base_free(w.base);
	seen_done(&w);
}
END_TEST

/* A SQLite whose every write to a file ends with a nap: time between a commit's last write, which
 * wakes watchers, and its publication. */
static sqlite3_io_methods slow_methods;
static int (*quick_write)(sqlite3_file *, const void *, int, sqlite3_int64);
static int (*unix_open)(sqlite3_vfs *, sqlite3_filename, sqlite3_file *, int, int *);

static int slow_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	int rc = quick_write(f, p, n, at);

	usleep(10000);
	return rc;
}

static int slow_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *f, int flags, int *out)
{
	int rc = unix_open(vfs, name, f, flags, out);

	if (rc == SQLITE_OK && (flags & SQLITE_OPEN_WAL)) {
		slow_methods = *f->pMethods;
		quick_write = slow_methods.xWrite;
		slow_methods.xWrite = slow_write;
		f->pMethods = &slow_methods;
	}
	return rc;
}

START_TEST(a_commit_that_is_published_late_is_seen)
{
	struct seen w = {.base = event_base_new()};
	struct store *st = open_sqlite(w.base);
	pid_t pid;

	w.watch = store_watch(st, "/p/", 1, on_event, on_end, &w);
	run_until(w.base, NULL, 0, 50);
	pid = fork();
	if (pid == 0) {
		sqlite3_vfs slow = *sqlite3_vfs_find(NULL);
		struct store *mine;

		unix_open = slow.xOpen;
		slow.xOpen = slow_open;
		slow.zName = "slow";
		sqlite3_vfs_register(&slow, 1);
		mine = open_sqlite(NULL);
		_exit(store_create_wait(mine, "/p/a", "1", 0, NULL, &err) < 0);
	}
	wait_events(&w, 1);
	reap(pid);
	store_close(st);
	event_base_free(w.base);
	seen_done(&w);
}
END_TEST

START_TEST(forgotten_deletions_end_a_watch)
{
	struct seen w = {.base = event_base_new()};
	struct store *st = open_sqlite(NULL), *watching = open_sqlite(w.base);
	int64_t rev = 0, deleted;

	ok(store_create_wait(st, "/p/a", "1", 0, NULL, &err));
	ok(store_delete_wait(st, "/p/a", 0, NULL, 0, &err));
	ok(store_create_wait(st, "/p/b", "1", 0, &rev, &err));
	deleted = rev - 1;
	while (rev < 11300)
		ok(store_update_wait(st, "/p/b", "2", rev, 0, &rev, &err));
	ck_assert_int_eq(sql_int("SELECT count(*) FROM kv"), 1);
	w.watch = store_watch(watching, "/p/", deleted - 1, on_event, on_end, &w);
	wait_for(w.base, &w.end_r, -ESTALE);
	ck_assert_uint_eq(w.events.n, 0);
	w.end_r = 0;
	/* from the deletion on nothing was missed */
	w.watch = store_watch(watching, "/p/", deleted, on_event, on_end, &w);
	wait_events(&w, 1);
	ck_assert_int_eq(w.end_r, 0);
	store_close(st);
	store_close(watching);
	event_base_free(w.base);
	seen_done(&w);
}
END_TEST

/* ---- SQLite: files in bad shape ---- */

START_TEST(the_file_is_private_and_its_directory_is_made)
{
	auto_(store) struct store *st = open_sqlite(NULL);
	struct stat sb;
	mode_t old = umask(0);

	ok(store_create_wait(st, "/a", "1", 0, NULL, &err));
	umask(old);
	ck_assert_int_eq(stat(path, &sb), 0);
	ck_assert_int_eq(sb.st_mode & 0777, 0600);
	snprintf(path, sizeof(path), "%s/lib/margay.db-wal", dir);
	ck_assert_int_eq(stat(path, &sb), 0);
	ck_assert_int_eq(sb.st_mode & 0777, 0600);
}
END_TEST

static void opens(const struct store_conf *conf, const char *name)
{
	auto_(store) struct store *st = NULL;

	ok(store_open(conf, NULL, &st, &err));
	ck_assert_str_eq(store_name(st), name);
}

START_TEST(parameters_fill_the_configuration)
{
	struct params ps = {.program = "x"};
	struct store_conf c = {0}, copy;
	char name[] = "x", srv[] = "--etcd-discovery-srv", value[] = "example.org";
	char *argv[] = {name, srv, value, NULL};
	int argc = 1;

	setenv("MARGAY_CONFIG", "/dev/null", 1);
	store_params_add(&ps, &c);
	ok(params_load(&ps, &argc, argv, &err));
	opens(&c, "sqlite:/var/lib/margay/margay.db");
	params_done(&ps);

	setenv("ETCD_ENDPOINTS", "http://192.0.2.1:2379", 1);
	setenv("CALICO_ETCD_KEY_FILE", "/k", 1);
	setenv("ETCD_CERT_FILE", "/c", 1);
	setenv("ETCD_CA_CERT_FILE", "/ca", 1);
	setenv("ETCD_USERNAME", "u", 1);
	setenv("ETCD_PASSWORD", "p", 1);
	store_params_add(&ps, &c);
	ok(params_load(&ps, &argc, argv, &err));
	ck_assert_str_eq(c.etcd_endpoints, "http://192.0.2.1:2379");
	ck_assert_str_eq(c.etcd_key_file, "/k");
	ck_assert_str_eq(c.etcd_cert_file, "/c");
	ck_assert_str_eq(c.etcd_ca_cert_file, "/ca");
	ck_assert_str_eq(c.etcd_username, "u");
	ck_assert_str_eq(c.etcd_password, "p");
	/* no DATASTORE_TYPE, as Calico has it */
	opens(&c, "etcd:http://192.0.2.1:2379");
	store_conf_copy(&copy, &c);
	ck_assert(store_conf_equal(&copy, &c));
	params_done(&ps);
	store_conf_done(&copy);

	/* as Felix has it, where it is configured alone */
	unsetenv("ETCD_ENDPOINTS");
	unsetenv("CALICO_ETCD_KEY_FILE");
	setenv("FELIX_DATASTORETYPE", "etcdv3", 1);
	setenv("FELIX_ETCDENDPOINTS", "http://192.0.2.2:2379", 1);
	setenv("FELIX_ETCDKEYFILE", "/fk", 1);
	setenv("FELIX_ETCDCERTFILE", "/fc", 1); /* ETCD_CERT_FILE wins */
	store_params_add(&ps, &c);
	ok(params_load(&ps, &argc, argv, &err));
	ck_assert_str_eq(c.type, "etcdv3");
	ck_assert_str_eq(c.etcd_endpoints, "http://192.0.2.2:2379");
	ck_assert_str_eq(c.etcd_key_file, "/fk");
	ck_assert_str_eq(c.etcd_cert_file, "/c");
	params_done(&ps);

	unsetenv("FELIX_ETCDENDPOINTS");
	unsetenv("FELIX_DATASTORETYPE");
	argc = 3;
	argv[1] = srv;
	store_params_add(&ps, &c);
	ok(params_load(&ps, &argc, argv, &err));
	fails(store_open(&c, NULL, &(struct store *){NULL}, &err), -EINVAL);
	said("ETCD_DISCOVERY_SRV is set");
	params_done(&ps);
}
END_TEST

START_TEST(configurations_differ_by_any_field)
{
	static const struct store_conf none,
		some[] = {{.type = "x"}, {.sqlite_path = "x"}, {.sqlite_sync_full = true},
			{.must_exist = true}, {.etcd_endpoints = "x"}, {.etcd_discovery_srv = "x"},
			{.etcd_username = "x"}, {.etcd_password = "x"}, {.etcd_key_file = "x"},
			{.etcd_cert_file = "x"}, {.etcd_ca_cert_file = "x"},
			{.kube_endpoints_file = "x"}};

	for (size_t i = 0; i < array_size(some); i++) {
		struct store_conf copy;

		ck_assert(!store_conf_equal(&none, &some[i]));
		store_conf_copy(&copy, &some[i]);
		ck_assert(store_conf_equal(&copy, &some[i]));
		store_conf_done(&copy);
		ck_assert(store_conf_equal(&copy, &none));
	}
	ck_assert(store_conf_equal(&none, &(struct store_conf){.type = "", .etcd_password = ""}));
}
END_TEST

static void make_file(const char *text, size_t n)
{
	char parent[96];
	FILE *f;

	snprintf(parent, sizeof(parent), "%s/lib", dir);
	mkdir(parent, 0755);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(text, 1, n, f), n);
	fclose(f);
}

/* Who only looks makes nothing, and sees what others have made later. */
START_TEST(one_that_must_exist_is_not_made)
{
	struct store_conf conf = {.sqlite_path = path, .must_exist = true};
	auto_(store) struct store *st = NULL, *maker = open_sqlite(NULL);
	struct store_kv kv;
	char parent[96];

	snprintf(parent, sizeof(parent), "%s/lib", dir);
	ok(store_open(&conf, NULL, &st, &err));
	fails(store_create_wait(st, "/a", "1", 0, NULL, &err), -EHOSTUNREACH);
	said(path);
	said("there is none: margay-felix, or margayctl apply, makes it");
	ck_assert_int_eq(access(parent, F_OK), -1);
	make_file("", 0);
	fails(store_get_wait(st, "/a", 0, &kv, &err), -EHOSTUNREACH);
	said("it is empty");
	ok(store_create_wait(maker, "/a", "1", 0, NULL, &err));
	ok(store_get_wait(st, "/a", 0, &kv, &err));
	store_kv_done(&kv);
}
END_TEST

START_TEST(bad_configuration)
{
	struct store *st = NULL;

	fails(store_open(&(struct store_conf){.type = "mongodb"}, NULL, &st, &err), -EINVAL);
	said("DATASTORE_TYPE \"mongodb\": this version supports \"sqlite\"");
	fails(store_open(&(struct store_conf){.sqlite_path = "x.db"}, NULL, &st, &err), -EINVAL);
	said("MARGAY_SQLITE_PATH \"x.db\": want an absolute path");
}
END_TEST

static size_t read_file(char *ret, size_t size)
{
	FILE *f = fopen(path, "r");
	size_t n;

	ck_assert_ptr_nonnull(f);
	n = fread(ret, 1, size, f);
	fclose(f);
	return n;
}

START_TEST(what_is_no_datastore_is_refused)
{
	auto_(store) struct store *st = open_sqlite(NULL);
	struct store_kv kv;
	char text[8192], after[8192];
	sqlite3 *db = NULL;

	memset(text, 'x', sizeof(text));
	make_file(text, sizeof(text));
	fails(store_get_wait(st, "/a", 0, &kv, &err), -EINVAL);
	said(path);
	said("is not a database: move it away");
	unlink(path);
	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_exec(db, "CREATE TABLE t (x)", NULL, NULL, NULL);
	sqlite3_close(db);
	ck_assert_uint_eq(read_file(text, sizeof(text)), sizeof(text));
	fails(store_get_wait(st, "/a", 0, &kv, &err), -EINVAL);
	said(path);
	said("the database of another program");
	/* nor is it changed: bytes 18 and 19 say how it is journalled */
	ck_assert_uint_eq(read_file(after, sizeof(after)), sizeof(after));
	ck_assert_mem_eq(after, text, sizeof(text));
	unlink(path);
	/* once the way is free the same store works */
	ok(store_create_wait(st, "/a", "1", 0, NULL, &err));
	store_close(take_ptr(st));
	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_exec(db, "PRAGMA user_version = 2", NULL, NULL, NULL);
	sqlite3_close(db);
	st = open_sqlite(NULL);
	fails(store_get_wait(st, "/a", 0, &kv, &err), -EINVAL);
	said("its schema is version 2, this program knows 1");
	unlink(path);
}
END_TEST

/* To somebody who may read nothing and write nothing of root's. */
static void become_nobody(void)
{
	if (geteuid() == 0)
		ck_assert_int_eq(seteuid(65534), 0);
}

/* Why, which file, its directory, and how another is named: in a daemon, and in a plugin. */
static void cannot_be_used(int code, const char *why)
{
	auto_(store) struct store *st = open_sqlite(NULL);
	struct store_kv kv;
	char text[160];

	fails(store_get_wait(st, "/a", 0, &kv, &err), code);
	snprintf(text, sizeof(text), "datastore %s: %s", path, why);
	said(text);
	snprintf(text, sizeof(text), "its directory %.*s)", (int)(strrchr(path, '/') + 1 - path),
		path);
	said(text);
	said("MARGAY_SQLITE_PATH");
	said("sqlite_path");
	ck_assert_ptr_null(strstr(err.text, "No route to host"));
}

START_TEST(a_file_that_cannot_be_used_is_named_with_the_reason)
{
	char file[96];

	snprintf(path, sizeof(path), "/proc/nowhere/margay.db");
	cannot_be_used(-EHOSTUNREACH, "No such file or directory");
	snprintf(file, sizeof(file), "%s/file", dir);
	fclose(fopen(file, "w"));
	snprintf(path, sizeof(path), "%s/file/margay.db", dir);
	cannot_be_used(-EHOSTUNREACH, "Not a directory");
	snprintf(path, sizeof(path), "/dev/null");
	cannot_be_used(-EINVAL, "Not a regular file");
	snprintf(path, sizeof(path), "%s/directory", dir);
	mkdir(path, 0700);
	cannot_be_used(-EINVAL, "Is a directory");
	own_mounts();
	ck_assert_int_eq(mount("margay", path, "tmpfs", MS_RDONLY, NULL), 0);
	snprintf(path, sizeof(path), "%s/directory/margay.db", dir);
	cannot_be_used(-EACCES, "Read-only file system");
	snprintf(file, sizeof(file), "%s/directory", dir);
	ck_assert_int_eq(umount(file), 0);
	/* nor may somebody else */
	snprintf(path, sizeof(path), "%s/margay.db", dir);
	chmod(dir, 0700);
	become_nobody();
	snprintf(file, sizeof(file), "Permission denied for uid %d", (int)geteuid());
	cannot_be_used(-EACCES, file);
	ck_assert_int_eq(geteuid() == 65534 ? seteuid(0) : 0, 0);
}
END_TEST

static int get_a(struct store *st)
{
	struct store_kv kv = {0};
	int r = store_get_wait(st, "/t/a", 0, &kv, &err);

	store_kv_done(&kv);
	return r;
}

START_TEST(a_transaction_is_seen_whole_or_not_at_all)
{
	auto_(store) struct store *st = open_sqlite(NULL), *other = open_sqlite(NULL);
	struct store_list l = {0};
	int64_t rev = 0;

	ok(store_txn_begin_wait(st, 0, &err));
	ok(store_create_wait(st, "/t/a", "1", 0, &rev, &err));
	ok(store_update_wait(st, "/t/a", "2", rev, 0, &rev, &err));
	/* What does not succeed ends nothing. */
	fails(store_create_wait(st, "/t/a", "3", 0, NULL, &err), -EEXIST);
	ok(store_create_wait(st, "/t/b", "1", 0, NULL, &err));
	ok(store_list_wait(st, "/t/", 0, &l, &err));
	ck_assert_uint_eq(l.n, 2);
	store_list_done(&l);
	fails(get_a(other), -ENOENT);
	fails(store_txn_begin_wait(other, clock_mono_ms() + 50, &err), -ETIMEDOUT);
	ok(store_txn_end_wait(st, 0, &err));
	ok(store_list_wait(other, "/t/", 0, &l, &err));
	ck_assert_uint_eq(l.n, 2);
	ck_assert_str_eq(l.v[0].value, "2");
	ck_assert_int_eq(l.v[0].rev, rev);
	store_list_done(&l);
	ok(store_txn_begin_wait(other, 0, &err));
	ok(store_delete_wait(other, "/t/a", rev, NULL, 0, &err));
	ok(store_txn_end_wait(other, 0, &err));
	fails(get_a(st), -ENOENT);
}
END_TEST

START_TEST(a_transaction_goes_with_its_process)
{
	auto_(store) struct store *st = open_sqlite(NULL);
	int status;
	pid_t pid;

	fails(get_a(st), -ENOENT); /* makes the file */
	pid = fork();
	if (pid == 0) {
		struct store *own = open_sqlite(NULL);

		ok(store_txn_begin_wait(own, 0, &err));
		ok(store_create_wait(own, "/t/a", "1", 0, NULL, &err));
		raise(SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	fails(get_a(st), -ENOENT);
	ok(store_create_wait(st, "/t/a", "1", 0, NULL, &err));
}
END_TEST

START_TEST(a_damaged_file_is_reported)
{
	auto_(store) struct store *st = open_sqlite(NULL);
	auto_free char *value = mem_zalloc(4001);
	struct store_list l = {0};
	char key[16], junk[4096];
	int fd;

	memset(value, '1', 4000);
	for (int i = 0; i < 40; i++) {
		snprintf(key, sizeof(key), "/%d", i);
		ok(store_create_wait(st, key, value, 0, NULL, &err));
	}
	store_close(take_ptr(st));
	ck_assert_int_eq(sql_int("PRAGMA wal_checkpoint(TRUNCATE)"), 0);
	memset(junk, 0x5a, sizeof(junk));
	fd = open(path, O_RDWR);
	for (int page = 5; page < 30; page++)
		ck_assert_int_eq(pwrite(fd, junk, sizeof(junk), page * 4096), sizeof(junk));
	close(fd);
	st = open_sqlite(NULL);
	fails(store_list_wait(st, "/", 0, &l, &err), -EINVAL);
	said(path);
	said("the file is damaged");
	said(".recover");
}
END_TEST

/* Writes 50 kB objects until one fails; then reads work, and writes as well when there is room again. */
static void fill(int want_r, const char *want_text, void (*make_room)(void))
{
	auto_(store) struct store *st = open_sqlite(NULL);
	auto_free char *value = mem_zalloc(50001);
	struct store_kv kv = {0};
	char key[16];
	int r = 0;

	memset(value, '1', 50000);
	ok(store_create_wait(st, "/first", "1", 0, NULL, &err));
	for (int i = 0; r == 0 && i < 100; i++) {
		snprintf(key, sizeof(key), "/%d", i);
		r = store_create_wait(st, key, value, 0, NULL, &err);
	}
	ck_assert_msg(r == want_r, "%d: %s", r, err_text(&err));
	said(path);
	said(want_text);
	ok(store_get_wait(st, "/first", 0, &kv, &err));
	store_kv_done(&kv);
	fails(store_get_wait(st, key, 0, &kv, &err), -ENOENT);
	make_room();
	ok(store_create_wait(st, key, value, 0, NULL, &err));
	store_close(take_ptr(st));
	ck_assert_int_eq(sql_int("PRAGMA integrity_check"), 0);
}

static void make_room(void)
{
	char file[96];

	snprintf(file, sizeof(file), "%s/other", dir);
	ck_assert_int_eq(unlink(file), 0);
}

START_TEST(a_full_disk_is_reported_and_survived)
{
	auto_free char *text = mem_zalloc(500000);
	char file[96];
	FILE *f;

	own_mounts();
	ck_assert_int_eq(mount("margay", dir, "tmpfs", 0, "size=1m"), 0);
	snprintf(file, sizeof(file), "%s/other", dir);
	f = fopen(file, "w");
	ck_assert_uint_eq(fwrite(text, 1, 500000, f), 500000);
	fclose(f);
	fill(-ENOSPC, "the disk is full: make room", make_room);
	ck_assert_int_eq(umount(dir), 0);
}
END_TEST

static void lift_limit(void)
{
	struct rlimit limit = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};

	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

START_TEST(a_file_limit_is_reported_and_survived)
{
	struct rlimit limit = {.rlim_cur = 300 * 1000, .rlim_max = RLIM_INFINITY};

	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	fill(-EHOSTUNREACH, "a write failed: a quota, a limit on file sizes", lift_limit);
}
END_TEST

START_TEST(of_a_transaction_that_fails_nothing_is_written)
{
	struct rlimit limit = {.rlim_cur = 300 * 1000, .rlim_max = RLIM_INFINITY};
	auto_(store) struct store *st = open_sqlite(NULL);
	auto_free char *value = mem_zalloc(900 * 1000 + 1);

	memset(value, '1', 900 * 1000);
	fails(get_a(st), -ENOENT); /* makes the file */
	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (int i = 0; i < 2; i++) {
		/* The second value does not fit into the cache, so its write fails; the first one at the end. */
		int r, end;

		ok(store_txn_begin_wait(st, 0, &err));
		ok(store_create_wait(st, "/t/a", "1", 0, NULL, &err));
		value[i == 0 ? 350 * 1000 : 900 * 1000] = '\0';
		r = store_create_wait(st, "/t/b", value, 0, NULL, &err);
		value[i == 0 ? 350 * 1000 : 900 * 1000] = '1';
		if (r < 0)
			fails(get_a(st), -EHOSTUNREACH);
		end = store_txn_end_wait(st, 0, &err);
		ck_assert_int_eq(end, -EHOSTUNREACH);
		ck_assert_int_eq(r < 0, i == 1);
		said(i == 0 ? "a write failed" : "nothing of this transaction was written");
		fails(get_a(st), -ENOENT);
	}
	lift_limit();
	ok(store_create_wait(st, "/t/a", "1", 0, NULL, &err));
	ck_assert_int_eq(sql_int("PRAGMA integrity_check"), 0);
}
END_TEST

START_TEST(missing_permission_is_reported)
{
	struct store *st = open_sqlite(NULL);
	struct store_kv kv = {0};
	char wal[128];

	ok(store_create_wait(st, "/a", "1", 0, NULL, &err));
	store_close(st);
	chmod(path, 0000);
	become_nobody();
	st = open_sqlite(NULL);
	fails(store_get_wait(st, "/a", 0, &kv, &err), -EACCES);
	said(path);
	said("Permission denied for uid");
	store_close(st);
	/* may read the files, not write them */
	ck_assert_int_eq(geteuid() == 65534 ? seteuid(0) : 0, 0);
	chmod(path, 0444);
	snprintf(wal, sizeof(wal), "%s-wal", path);
	chmod(wal, 0444);
	snprintf(wal, sizeof(wal), "%s-shm", path);
	chmod(wal, 0444);
	become_nobody();
	st = open_sqlite(NULL);
	fails(store_update_wait(st, "/a", "2", 0, 0, NULL, &err), -EACCES);
	said(path);
	said("is not writable by uid");
	store_close(st);
	/* a directory in which nothing may be made */
	snprintf(path, sizeof(path), "/proc/1/margay.db");
	st = open_sqlite(NULL);
	err = ERR_INIT;
	ck_assert_int_lt(store_get_wait(st, "/a", 0, &kv, &err), 0);
	said(path);
	store_close(st);
	ck_assert_int_eq(geteuid() == 65534 ? seteuid(0) : 0, 0);
}
END_TEST

static void copy_db(const char *to)
{
	char text[200];
	sqlite3 *db = NULL;

	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	snprintf(text, sizeof(text), "VACUUM INTO '%s'", to);
	ck_assert_int_eq(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void wait_value(struct follower *f, int key, const char *value)
{
	int64_t end = clock_mono_ms() + 40000;

	while (strcmp(f->key[key].value, value) != 0) {
		ck_assert_int_lt(clock_mono_ms(), end);
		sync_retry(f->sync);
		run_until(f->base, NULL, 0, 20);
	}
}

static void wait_state(struct follower *f, const char *part)
{
	int64_t end = clock_mono_ms() + 10000;

	while (!strstr(sync_state(f->sync), part)) {
		ck_assert_msg(clock_mono_ms() < end, "\"%s\" does not say \"%s\"",
			sync_state(f->sync), part);
		run_until(f->base, NULL, 0, 20);
	}
}

START_TEST(an_exchanged_file_is_not_taken_for_deletions)
{
	struct follower f = {.base = event_base_new()};
	struct store *st = open_sqlite(f.base), *other = open_sqlite(NULL);
	char old[128], copy[128], wal[128], shm[128];
	int64_t end;

	snprintf(old, sizeof(old), "%s.old", path);
	snprintf(copy, sizeof(copy), "%s.copy", path);
	snprintf(wal, sizeof(wal), "%s-wal", path);
	snprintf(shm, sizeof(shm), "%s-shm", path);
	ok(store_create_wait(other, KEYS "1", "1", 0, NULL, &err));
	f.sync = sync_new(st, f_prefix, 1, &f_ops, &f, NULL);
	wait_for(f.base, &f.sets, 1);
	copy_db(copy);
	ok(store_update_wait(other, KEYS "1", "2", 0, 0, NULL, &err));
	ok(store_create_wait(other, KEYS "2", "2", 0, NULL, &err));
	wait_for(f.base, &f.sets, 3);
	store_close(other);

	/* gone, then an empty one: nothing is told, and the state says why */
	ck_assert_int_eq(rename(path, old), 0);
	unlink(wal);
	unlink(shm);
	wait_state(&f, "is gone");
	ck_assert(!sync_up(f.sync));
	ck_assert(sync_in_sync(f.sync));
	other = open_sqlite(NULL);
	ok(store_create_wait(other, KEYS "3", "3", 0, NULL, &err));
	store_close(other);
	sync_retry(f.sync);
	run_until(f.base, NULL, 0, 50);
	ck_assert_ptr_nonnull(strstr(sync_state(f.sync), "another database"));
	ck_assert_int_eq(f.sets, 3);

	/* an older copy of the right one: nobody has deleted what it lacks, */
	unlink(wal);
	unlink(shm);
	ck_assert_int_eq(rename(copy, path), 0);
	f.key[1].rev = f.key[2].rev = 0;
	sync_retry(f.sync);
	wait_for(f.base, &f.sets, 4);
	ck_assert_str_eq(f.key[1].value, "1");
	ck_assert_str_eq(f.key[2].value, "2");
	end = clock_mono_ms() + 5000;
	while (!sync_up(f.sync) && clock_mono_ms() < end)
		run_until(f.base, NULL, 0, 5);
	ck_assert_str_eq(sync_state(f.sync), "in sync");
	/* not even when it has come as far, */
	other = open_sqlite(NULL);
	for (int i = 0; i < 4; i++)
		ok(store_update_wait(other, KEYS "1", i % 2 ? "5" : "4", 0, 0, NULL, &err));
	store_close(other);
	wait_value(&f, 1, "5");
	copy_db(copy);
	unlink(wal);
	unlink(shm);
	ck_assert_int_eq(rename(copy, path), 0);
	other = open_sqlite(NULL);
	ok(store_update_wait(other, KEYS "1", "6", 0, 0, NULL, &err));
	wait_value(&f, 1, "6");
	ck_assert_str_eq(f.key[2].value, "2");
	/* and who writes it anew may delete it */
	ok(store_create_wait(other, KEYS "2", "5", 0, NULL, &err));
	wait_value(&f, 2, "5");
	f.may_delete = true;
	ok(store_delete_wait(other, KEYS "2", 0, NULL, 0, &err));
	wait_for(f.base, &f.dels, 1);
	store_close(other);
	f_done(&f);
	store_close(st);
	event_base_free(f.base);
}
END_TEST

START_TEST(a_write_never_goes_to_a_removed_file)
{
	auto_(store) struct store *st = open_sqlite(NULL);
	char old[128];

	snprintf(old, sizeof(old), "%s.old", path);
	ok(store_create_wait(st, "/a", "1", 0, NULL, &err));
	ck_assert_int_eq(rename(path, old), 0);
	fails(store_update_wait(st, "/a", "2", 0, 0, NULL, &err), -EHOSTUNREACH);
	said("the file is gone: put it back, or restart this program");
	ck_assert_int_eq(rename(old, path), 0);
	ok(store_update_wait(st, "/a", "2", 0, 0, NULL, &err));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("store");
	TCase *sqlite = tcase_create("sqlite");
	SRunner *sr;
	int failed;

	store_suite_add(s, drivers, array_size(drivers), setup, NULL);
	store_samples_add(s, samples, array_size(samples), setup, NULL);

	tcase_add_checked_fixture(sqlite, setup, NULL);
	tcase_set_timeout(sqlite, 60);
	tcase_add_test(sqlite, followers_see_what_several_processes_write);
	tcase_add_test(sqlite, compare_and_swap_counts_exactly_and_the_wal_stays_small);
	tcase_add_test(sqlite, killed_writers_leave_it_whole);
	tcase_add_test(sqlite, a_transaction_is_seen_whole_or_not_at_all);
	tcase_add_test(sqlite, a_transaction_goes_with_its_process);
	tcase_add_test(sqlite, of_a_transaction_that_fails_nothing_is_written);
	tcase_add_test(sqlite, a_watcher_sleeps_and_wakes);
	tcase_add_test(sqlite, nodes_with_mounts_of_their_own_share_a_file);
	tcase_add_test(sqlite, a_commit_that_is_published_late_is_seen);
	tcase_add_test(sqlite, forgotten_deletions_end_a_watch);
	tcase_add_test(sqlite, the_file_is_private_and_its_directory_is_made);
	tcase_add_test(sqlite, one_that_must_exist_is_not_made);
	tcase_add_test(sqlite, parameters_fill_the_configuration);
	tcase_add_test(sqlite, configurations_differ_by_any_field);
	tcase_add_test(sqlite, bad_configuration);
	tcase_add_test(sqlite, what_is_no_datastore_is_refused);
	tcase_add_test(sqlite, a_damaged_file_is_reported);
	tcase_add_test(sqlite, a_full_disk_is_reported_and_survived);
	tcase_add_test(sqlite, a_file_limit_is_reported_and_survived);
	tcase_add_test(sqlite, a_file_that_cannot_be_used_is_named_with_the_reason);
	tcase_add_test(sqlite, missing_permission_is_reported);
	tcase_add_test(sqlite, an_exchanged_file_is_not_taken_for_deletions);
	tcase_add_test(sqlite, a_write_never_goes_to_a_removed_file);
	suite_add_tcase(s, sqlite);

	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
