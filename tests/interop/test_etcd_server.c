/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The etcd driver against Debian's etcd: what every driver promises, then what etcd alone can be asked:
 * restarts, compaction, auth, TLS, quota. Each test has a server of its own on loopback; etcdctl is
 * the oracle. MARGAY_STORE_OPS=100000 makes the long run.
 */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/strbuf.h"
#include "unit/store_samples.h"
#include "unit/store_suite.h"

#define MEMBERS 3

static char dir[64];
static const char *server_args[16]; /* beside the fixture's own; ends with NULL */
static struct member {
	unsigned port, peer_port;
	char url[64];
	pid_t pid;
} members[MEMBERS];
static int n_members;
static struct store_conf conf;
static char *const url = members[0].url;
static char urls[256]; /* of all members */

static int rm(const char *p, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(p);
}

/* They are all different while the sockets are open. */
static void choose_ports(void)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);
	int fds[2 * MEMBERS];

	for (int i = 0; i < 2 * MEMBERS; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
		sin.sin_port = 0;
		ck_assert_int_eq(bind(fds[i], (struct sockaddr *)&sin, sizeof(sin)), 0);
		getsockname(fds[i], (struct sockaddr *)&sin, &len);
		*(i % 2 ? &members[i / 2].peer_port : &members[i / 2].port) = ntohs(sin.sin_port);
	}
	for (int i = 0; i < 2 * MEMBERS; i++)
		close(fds[i]);
}

static bool listens(unsigned port)
{
	struct sockaddr_in sin = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool yes = connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0;

	close(fd);
	return yes;
}

static void server_run(int i)
{
	auto_strbuf cluster = STRBUF_INIT;
	char name[16], data[80], peer[64], log[80];
	const char *args[40] = {"etcd", "--name", name, "--data-dir", data, "--listen-client-urls",
		members[i].url, "--advertise-client-urls", members[i].url, "--listen-peer-urls",
		peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", NULL,
		"--heartbeat-interval", "20", "--election-timeout", "200", "--snapshot-count",
		"1000"}; /* a restart reads no longer log */
	size_t n = 21;
	int fd;

	for (int m = 0; m < n_members; m++)
		strbuf_addf(&cluster, "%sm%d=http://127.0.0.1:%u", m ? "," : "", m,
			members[m].peer_port);
	args[14] = cluster.s;
	snprintf(name, sizeof(name), "m%d", i);
	snprintf(data, sizeof(data), "%s/data%d", dir, i);
	snprintf(log, sizeof(log), "%s/log%d", dir, i);
	snprintf(peer, sizeof(peer), "http://127.0.0.1:%u", members[i].peer_port);
	for (size_t k = 0; server_args[k]; k++)
		args[n++] = server_args[k];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(fd, 1);
	dup2(fd, 2);
	execvp("etcd", (char *const *)(uintptr_t)args);
	_exit(127);
}

static void member_start(int i)
{
	int64_t end = clock_mono_ms() + 20000;

	members[i].pid = fork();
	if (members[i].pid == 0)
		server_run(i);
	while (!listens(members[i].port)) {
		ck_assert_msg(waitpid(members[i].pid, NULL, WNOHANG) == 0,
			"etcd did not start: is etcd-server installed? %s/log%d", dir, i);
		ck_assert_int_lt(clock_mono_ms(), end);
		usleep(10000);
	}
}

static void member_stop(int i)
{
	if (!members[i].pid)
		return;
	kill(members[i].pid, SIGKILL);
	waitpid(members[i].pid, NULL, 0);
	members[i].pid = 0;
}

/* When it returns, none of its threads runs. */
static void member_freeze(const struct member *m)
{
	int status;

	ck_assert_int_eq(kill(m->pid, SIGSTOP), 0);
	ck_assert_int_eq(waitpid(m->pid, &status, WUNTRACED), m->pid);
	ck_assert(WIFSTOPPED(status));
}

static void server_start(void)
{
	member_start(0);
}

static void server_stop(void)
{
	member_stop(0);
}

static void setup(void)
{
	snprintf(dir, sizeof(dir), "/tmp/margay-etcd-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	choose_ports();
	for (int i = 0; i < MEMBERS; i++)
		snprintf(members[i].url, sizeof(members[i].url), "http://127.0.0.1:%u",
			members[i].port);
	snprintf(urls, sizeof(urls), "%s,%s,%s", members[0].url, members[1].url, members[2].url);
	n_members = 1;
	conf = (struct store_conf){.type = "etcdv3", .etcd_endpoints = url};
	err = ERR_INIT;
}

static void setup_started(void)
{
	setup();
	server_start();
}

static void setup_cluster(void)
{
	setup();
	n_members = MEMBERS;
	conf.etcd_endpoints = urls;
	for (int i = 0; i < n_members; i++)
		member_start(i);
}

static void teardown(void)
{
	for (int i = 0; i < MEMBERS; i++)
		member_stop(i);
	nftw(dir, rm, 8, FTW_DEPTH | FTW_PHYS);
}

static struct store *open_etcd(struct event_base *base)
{
	struct store *st = NULL;

	ok(store_open(&conf, base, &st, &err));
	return st;
}

/* What etcdctl says, as one text. */
static const char *etcdctl(const char *args)
{
	static char out[4096];
	auto_free char *cmd = mem_printf(
		"ETCDCTL_API=3 etcdctl --endpoints %s --command-timeout 60s %s 2>&1", url, args);
	FILE *f = popen(cmd, "r");
	size_t n = fread(out, 1, sizeof(out) - 1, f);
	int status = pclose(f);

	out[n] = 0;
	ck_assert_msg(status == 0, "%s: %s", args, out);
	return out;
}

static void compact(int64_t rev)
{
	char args[64];

	snprintf(args, sizeof(args), "compact %lld", (long long)rev);
	etcdctl(args);
}

static int64_t revision(void)
{
	auto_(store) struct store *st = open_etcd(NULL);
	struct store_list l = {0};
	int64_t rev;

	ok(store_list_wait(st, "/", 0, &l, &err));
	rev = l.rev;
	store_list_done(&l);
	return rev;
}

static void harm(int n)
{
	if (n % 2 == 0)
		compact(revision());
	if (n % 4 == 3 || n % 4 == 2) {
		server_stop();
		server_start();
	}
}

static void forget(int n)
{
	(void)n;
	server_stop();
	server_start();
	etcdctl("put /q 1");
	etcdctl("put /q 2");
	compact(revision());
}

static const struct store_suite_driver drivers[] = {
	{.open = open_etcd, .harm = harm, .forget = forget, .all = true}};

/* ---- samples, by etcdctl ---- */

static struct store *open_for_sample(void)
{
	return open_etcd(NULL);
}

static void sample_put(const char *key, const char *value)
{
	auto_free char *file = mem_printf("%s/value", dir);
	auto_free char *args = mem_printf("put '%s' <%s", key, file);

	ok(file_write_atomic(file, value, strlen(value), 0600, &err));
	etcdctl(args);
}

static char *sample_get(const char *key)
{
	auto_free char *args = mem_printf("get '%s' --print-value-only", key);
	const char *out = etcdctl(args);

	ck_assert_str_eq(out + strlen(out) - 1, "\n");
	return mem_strndup(out, strlen(out) - 1);
}

static void sample_del(const char *key)
{
	auto_free char *args = mem_printf("del '%s'", key);

	etcdctl(args);
}

static const struct samples_driver samples[] = {
	{.open = open_for_sample, .put = sample_put, .get = sample_get, .del = sample_del}};

START_TEST(etcdctl_reads_what_is_written)
{
	static const char value[] = "{\"kind\":\"IPPool\",\"s\":\"a\\u0026b \xc3\xa9\"}";
	auto_(store) struct store *st = open_etcd(NULL);
	struct store_kv kv = {0};

	ok(store_create_wait(st, "/calico/a", value, 0, NULL, &err));
	ck_assert_str_eq(etcdctl("get /calico/a --print-value-only"),
		"{\"kind\":\"IPPool\",\"s\":\"a\\u0026b \xc3\xa9\"}\n");
	ck_assert_str_eq(etcdctl("get --prefix '' --keys-only"), "/calico/a\n\n");
	etcdctl("put /calico/b '{ \"x\": 1 }'");
	ok(store_get_wait(st, "/calico/b", 0, &kv, &err));
	ck_assert_str_eq(kv.value, "{ \"x\": 1 }");
	store_kv_done(&kv);
	/* what is no text of ours hinders nobody */
	etcdctl("put /calico/c ''");
	ok(store_get_wait(st, "/calico/c", 0, &kv, &err));
	ck_assert_uint_eq(kv.len, 0);
	store_kv_done(&kv);
	ok(store_delete_wait(st, "/calico/a", 0, NULL, 0, &err));
	ck_assert_str_eq(etcdctl("get /calico/a"), "");
}
END_TEST

START_TEST(a_watch_from_before_a_compaction_ends)
{
	struct seen w = {.base = event_base_new()};
	auto_(store) struct store *st = open_etcd(NULL);
	struct store *watching = open_etcd(w.base);
	int64_t rev;

	ok(store_create_wait(st, "/p/a", "1", 0, &rev, &err));
	ok(store_update_wait(st, "/p/a", "2", 0, 0, NULL, &err));
	ok(store_delete_wait(st, "/p/a", 0, NULL, 0, &err));
	compact(rev + 2);
	w.watch = store_watch(watching, "/p/", rev - 1, on_event, on_end, &w);
	wait_for(w.base, &w.end_r, -ESTALE);
	said("are no longer known");
	ck_assert_uint_eq(w.events.n, 0);
	store_close(watching);
	event_base_free(w.base);
	seen_done(&w);
}
END_TEST

START_TEST(a_restart_is_survived)
{
	struct seen w = {.base = event_base_new()};
	auto_(store) struct store *st = open_etcd(NULL);
	struct store *watching = open_etcd(w.base);
	struct store_kv kv;
	int64_t rev;

	ok(store_create_wait(st, "/p/a", "1", 0, &rev, &err));
	w.rev = rev;
	w.watch = store_watch(watching, "/p/", rev, on_event, on_end, &w);
	ok(store_update_wait(st, "/p/a", "2", 0, 0, NULL, &err));
	wait_events(&w, 1);
	server_stop();
	fails(store_get_wait(st, "/p/a", 0, &kv, &err), -EHOSTUNREACH);
	said(url);
	said("Failed to connect");
	said("check ETCD_ENDPOINTS");
	fails(store_update_wait(st, "/p/a", "3", 0, 0, NULL, &err), -EHOSTUNREACH);
	run_until(w.base, NULL, 0, 300);
	server_start();
	ok(store_update_wait(st, "/p/a", "3", 0, 0, NULL, &err));
	wait_events(&w, 2);
	ck_assert_int_eq(w.end_r, 0);
	ck_assert_str_eq(w.events.v[1].value, "3");
	/* away for good: it ends */
	server_stop();
	wait_for(w.base, &w.end_r, -EHOSTUNREACH);
	store_close(watching);
	event_base_free(w.base);
	seen_done(&w);
}
END_TEST

START_TEST(a_frozen_server_is_a_timeout)
{
	auto_(store) struct store *st = open_etcd(NULL);

	ok(store_create_wait(st, "/p/a", "1", 0, NULL, &err));
	member_freeze(&members[0]);
	fails(store_update_wait(st, "/p/a", "2", 0, clock_mono_ms() + 200, NULL, &err), -ETIMEDOUT);
	kill(members[0].pid, SIGCONT);
	ok(store_update_wait(st, "/p/a", "3", 0, 0, NULL, &err));
}
END_TEST

START_TEST(an_endpoint_that_is_away_is_passed_over)
{
	struct seen w = {.base = event_base_new()};
	char both[160];
	struct store *st, *watching;

	snprintf(both, sizeof(both), "http://127.0.0.1:1, %s/", url);
	conf.etcd_endpoints = both;
	st = open_etcd(NULL);
	watching = open_etcd(w.base);
	w.watch = store_watch(watching, "/p/", 1, on_event, on_end, &w);
	ok(store_create_wait(st, "/p/a", "1", 0, NULL, &err));
	ok(store_update_wait(st, "/p/a", "2", 0, 0, NULL, &err));
	wait_events(&w, 2);
	store_close(st);
	store_close(watching);
	event_base_free(w.base);
	seen_done(&w);
}
END_TEST

START_TEST(another_cluster_is_refused)
{
	auto_(store) struct store *st = open_etcd(NULL);
	char data[80];
	struct store_kv kv;

	ok(store_create_wait(st, "/p/a", "1", 0, NULL, &err));
	server_stop();
	snprintf(data, sizeof(data), "%s/data0", dir);
	nftw(data, rm, 8, FTW_DEPTH | FTW_PHYS);
	server_args[0] = "--initial-cluster-token";
	server_args[1] = "other";
	server_start();
	fails(store_get_wait(st, "/p/a", 0, &kv, &err), -EHOSTUNREACH);
	said("another cluster");
}
END_TEST

START_TEST(a_long_history_comes_in_fragments)
{
	enum { N = 8, SIZE = 700000 };
	auto_free char *value = mem_zalloc(SIZE + 1);
	struct seen w = {.base = event_base_new()};
	auto_(store) struct store *st = open_etcd(NULL);
	struct store *watching = open_etcd(w.base);
	int64_t rev;

	memset(value, '1', SIZE);
	ok(store_create_wait(st, "/p/a", "1", 0, &rev, &err));
	for (int i = 0; i < N; i++) {
		value[0] = (char)('1' + i);
		ok(store_update_wait(st, "/p/a", value, 0, 0, NULL, &err));
	}
	w.watch = store_watch(watching, "/p/", rev, on_event, on_end, &w);
	wait_events(&w, N);
	for (int i = 0; i < N; i++) {
		ck_assert_int_eq(w.events.v[i].rev, rev + 1 + i);
		ck_assert_int_eq(w.events.v[i].value[0], '1' + i);
		ck_assert_uint_eq(w.events.v[i].len, SIZE);
	}
	store_close(watching);
	event_base_free(w.base);
	seen_done(&w);
}
END_TEST

START_TEST(a_quiet_watch_outlives_compaction)
{
	struct seen w = {.base = event_base_new()};
	struct store *st, *watching;
	int64_t rev;

	server_args[0] = "--experimental-watch-progress-notify-interval";
	server_args[1] = "200ms";
	server_start();
	st = open_etcd(NULL);
	watching = open_etcd(w.base);
	ok(store_create_wait(st, "/p/a", "1", 0, &rev, &err));
	w.rev = rev;
	w.watch = store_watch(watching, "/p/", rev, on_event, on_end, &w);
	run_until(w.base, NULL, 0, 200);
	for (int i = 0; i < 3; i++)
		ok(i ? store_update_wait(st, "/q", "1", 0, 0, NULL, &err)
		     : store_create_wait(st, "/q", "1", 0, NULL, &err));
	run_until(w.base, NULL, 0, 1000);
	compact(revision());
	server_stop();
	server_start();
	ok(store_update_wait(st, "/p/a", "2", 0, 0, NULL, &err));
	wait_events(&w, 1);
	ck_assert_int_eq(w.end_r, 0);
	store_close(st);
	store_close(watching);
	event_base_free(w.base);
	seen_done(&w);
}
END_TEST

/* ---- three members ---- */

/* Writes until that succeeds again; what is refused or unknown meanwhile is part of it. */
static void write_some(struct store *st, struct follower *f, struct watcher *w)
{
	int64_t end = clock_mono_ms() + 30000;

	for (int i = 0, n = 0; n < 20; i++) {
		int r = try_random_write(st, 0, i);

		n += r == 0;
		ck_assert_msg(r == 0 || r == -EEXIST || r == -ENOENT || r == -ESTALE ||
				      r == -EHOSTUNREACH || r == -ETIMEDOUT,
			"%s", err_text(&err));
		ck_assert_msg(clock_mono_ms() < end, "%s", err_text(&err));
		watcher_go_on(w, st);
		run_until(f->base, NULL, 0, 1);
	}
}

START_TEST(members_may_stop_in_turn)
{
	struct follower f = {.may_delete = true, .base = event_base_new()};
	struct store *st = open_etcd(f.base), *writer = open_etcd(NULL);
	struct watcher w = {.st = st};

	seed();
	f.sync = sync_new(st, f_prefix, 1, &f_ops, &f, NULL);
	write_some(writer, &f, &w);
	for (int i = 0; i < MEMBERS; i++) { /* one of them leads */
		member_stop(i);
		write_some(writer, &f, &w);
		member_start(i);
		write_some(writer, &f, &w);
	}
	wait_equal(&f, &w, writer);
	f_done(&f);
	store_close(writer);
	store_close(st);
	event_base_free(f.base);
}
END_TEST

START_TEST(a_member_that_is_cut_off_says_so)
{
	struct seen w = {.base = event_base_new()};
	struct store *st, *watching;
	struct store_kv kv;

	conf.etcd_endpoints = url;
	st = open_etcd(NULL);
	watching = open_etcd(w.base);
	ok(store_create_wait(st, "/p/a", "1", 0, &w.rev, &err));
	w.watch = store_watch(watching, "/p/", w.rev, on_event, on_end, &w);
	ok(store_update_wait(st, "/p/a", "2", 0, 0, NULL, &err));
	wait_events(&w, 1);
	member_freeze(&members[1]);
	member_freeze(&members[2]);
	wait_for(w.base, &w.end_r, -EHOSTUNREACH);
	fails(store_get_wait(st, "/p/a", 0, &kv, &err), -EHOSTUNREACH);
	said("no leader: most of its members are away");
	kill(members[1].pid, SIGCONT);
	kill(members[2].pid, SIGCONT);
	ok(store_update_wait(st, "/p/a", "4", 0, 0, NULL, &err));
	store_close(st);
	store_close(watching);
	event_base_free(w.base);
	seen_done(&w);
}
END_TEST

START_TEST(a_full_quota_is_reported_and_survived)
{
	auto_free char *value = mem_zalloc(1000001);
	struct store *st;
	struct store_kv kv;
	char key[24];
	int r = 0;

	server_args[0] = "--quota-backend-bytes";
	server_args[1] = "4000000";
	server_start();
	st = open_etcd(NULL);
	memset(value, '1', 1000000);
	for (int i = 0; i < 20 && r == 0; i++) {
		snprintf(key, sizeof(key), "/p/%d", i);
		r = store_create_wait(st, key, value, 0, NULL, &err);
	}
	ck_assert_msg(r == -ENOSPC, "%d: %s", r, err_text(&err));
	said("database space exceeded: compact and defragment it");
	ok(store_get_wait(st, "/p/0", 0, &kv, &err));
	store_kv_done(&kv);
	etcdctl("del --prefix /p/");
	compact(revision());
	etcdctl("defrag");
	etcdctl("alarm disarm");
	ok(store_create_wait(st, key, value, 0, NULL, &err));
	store_close(st);
}
END_TEST

/* ---- auth ---- */

START_TEST(passwords_and_tokens)
{
	struct seen w = {.base = event_base_new()};
	struct store *st, *watching;
	struct store_kv kv;

	server_args[0] = "--auth-token-ttl";
	server_args[1] = "1";
	server_start();
	/* a server that wants no password takes one */
	conf.etcd_username = "margay";
	conf.etcd_password = "s3cret\"";
	st = open_etcd(NULL);
	ok(store_create_wait(st, "/calico/a", "1", 0, NULL, &err));
	etcdctl("user add root:root");
	etcdctl("user add 'margay:s3cret\"'");
	etcdctl("role add calico");
	etcdctl("role grant-permission calico readwrite /calico/ --prefix");
	etcdctl("user grant-role margay calico");
	etcdctl("auth enable");
	/* and now that it does, the same store goes on */
	ok(store_update_wait(st, "/calico/a", "2", 0, 0, NULL, &err));
	fails(store_create_wait(st, "/other", "1", 0, NULL, &err), -EACCES);
	said("permission denied: grant the role of ETCD_USERNAME");
	watching = open_etcd(w.base);
	w.watch = store_watch(watching, "/calico/", 1, on_event, on_end, &w);
	wait_events(&w, 2);
	/* tokens are out of date after a second, and lost by a restart */
	sleep(3);
	ok(store_update_wait(st, "/calico/a", "3", 0, 0, NULL, &err));
	server_stop();
	server_start();
	ok(store_update_wait(st, "/calico/a", "4", 0, 0, NULL, &err));
	wait_events(&w, 4);
	ck_assert_int_eq(w.end_r, 0);
	store_close(st);

	conf.etcd_password = "wr0ng";
	st = open_etcd(NULL);
	fails(store_get_wait(st, "/calico/a", 0, &kv, &err), -EACCES);
	said("authentication failed, invalid user ID or password: check ETCD_USERNAME");
	ck_assert_ptr_null(strstr(err.text, "wr0ng"));
	store_close(st);
	conf.etcd_username = conf.etcd_password = NULL;
	st = open_etcd(NULL);
	fails(store_get_wait(st, "/calico/a", 0, &kv, &err), -EACCES);
	said("set ETCD_USERNAME and ETCD_PASSWORD");
	store_close(st);
	store_close(watching);
	event_base_free(w.base);
	seen_done(&w);
}
END_TEST

/* ---- TLS ---- */

static char *file_of(const char *name)
{
	return mem_printf("%s/%s", dir, name);
}

static void make_certificates(void)
{
	auto_free char *cmd = mem_printf(
		"cd %s && exec >log 2>&1 && set -e; "
		"for ca in ca other; do openssl req -x509 -newkey ec -pkeyopt "
		"ec_paramgen_curve:P-256 -nodes -keyout $ca.key -out $ca.pem -days 2 -subj /CN=$ca; "
		"done; printf 'subjectAltName=IP:127.0.0.1\\n' >ext; "
		"for who in server client; do openssl req -newkey ec -pkeyopt "
		"ec_paramgen_curve:P-256 -nodes -keyout $who.key -out $who.csr -subj /CN=$who; "
		"openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
		"-extfile ext -out $who.pem; done",
		dir);

	ck_assert_int_eq(system(cmd), 0);
}

START_TEST(tls_with_client_certificates)
{
	auto_free char *ca = file_of("ca.pem"), *other = file_of("other.pem"),
		       *cert = file_of("server.pem"), *key = file_of("server.key"),
		       *my_cert = file_of("client.pem"), *my_key = file_of("client.key");
	const char *const args[] = {"--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca,
		"--client-cert-auth"};
	struct seen w = {.base = event_base_new()};
	struct store *st, *watching;
	struct store_kv kv;

	make_certificates();
	memcpy(server_args, args, sizeof(args));
	snprintf(url, sizeof(members[0].url), "https://127.0.0.1:%u", members[0].port);
	server_start();
	conf.etcd_ca_cert_file = ca;
	conf.etcd_cert_file = my_cert;
	conf.etcd_key_file = my_key;
	st = open_etcd(NULL);
	watching = open_etcd(w.base);
	w.watch = store_watch(watching, "/p/", 1, on_event, on_end, &w);
	ok(store_create_wait(st, "/p/a", "1", 0, NULL, &err));
	wait_events(&w, 1);
	store_close(watching);
	store_close(st);

	conf.etcd_ca_cert_file = other;
	st = open_etcd(NULL);
	fails(store_update_wait(st, "/p/a", "2", 0, 0, NULL, &err), -EHOSTUNREACH);
	said("certificate");
	said("check ETCD_CA_CERT_FILE");
	store_close(st);
	conf.etcd_ca_cert_file = "/nonexistent.pem";
	st = open_etcd(NULL);
	fails(store_get_wait(st, "/p/a", 0, &kv, &err), -EHOSTUNREACH);
	said("/nonexistent.pem");
	said("check ETCD_CA_CERT_FILE");
	store_close(st);
	conf.etcd_ca_cert_file = ca;
	conf.etcd_cert_file = conf.etcd_key_file = NULL;
	st = open_etcd(NULL);
	fails(store_get_wait(st, "/p/a", 0, &kv, &err), -EHOSTUNREACH);
	said("ETCD_CERT_FILE");
	store_close(st);
	snprintf(url, sizeof(members[0].url), "http://127.0.0.1:%u", members[0].port);
	st = open_etcd(NULL);
	fails(store_get_wait(st, "/p/a", 0, &kv, &err), -EHOSTUNREACH);
	said("ETCD_ENDPOINTS");
	store_close(st);
	event_base_free(w.base);
	seen_done(&w);
}
END_TEST

/* ---- transactions ---- */

static int get_value(struct store *st, const char *key, char *ret_first)
{
	struct store_kv kv = {0};
	int r = store_get_wait(st, key, 0, &kv, &err);

	if (r == 0)
		*ret_first = kv.value[0];
	store_kv_done(&kv);
	return r;
}

/* The objects under /t/, as "a1 b2 ". */
static const char *all(struct store *st)
{
	static char text[1024];
	struct store_list l = {0};
	size_t n = 0;

	ok(store_list_wait(st, "/t/", 0, &l, &err));
	text[0] = '\0';
	for (size_t i = 0; i < l.n; i++)
		n += (size_t)snprintf(
			text + n, sizeof(text) - n, "%s%s ", l.v[i].key + 3, l.v[i].value);
	store_list_done(&l);
	return text;
}

START_TEST(a_transaction_is_seen_whole_or_not_at_all)
{
	auto_(store) struct store *st = open_etcd(NULL), *other = open_etcd(NULL);
	struct store_list l = {0};
	int64_t rev = 0;

	ok(store_create_wait(other, "/t/b", "1", 0, NULL, &err));
	ok(store_create_wait(other, "/t/d", "1", 0, NULL, &err));
	ok(store_txn_begin_wait(st, 0, &err));
	ok(store_create_wait(st, "/t/c", "1", 0, &rev, &err));
	ok(store_update_wait(st, "/t/c", "2", rev, 0, NULL, &err));
	fails(store_update_wait(st, "/t/c", "3", rev, 0, NULL, &err), -ESTALE);
	fails(store_create_wait(st, "/t/b", "3", 0, NULL, &err), -EEXIST);
	fails(store_delete_wait(st, "/t/none", 0, NULL, 0, &err), -ENOENT);
	fails(store_create_wait(st, "/t/e", "", 0, NULL, &err), -EINVAL);
	ok(store_create_wait(st, "/t/a", "1", 0, NULL, &err));
	ok(store_delete_wait(st, "/t/d", 0, NULL, 0, &err));
	ok(store_delete_wait(st, "/t/b", 0, NULL, 0, &err));
	ok(store_create_wait(st, "/t/b", "2", 0, NULL, &err));
	ck_assert_str_eq(all(st), "a1 b2 c2 ");
	ck_assert_str_eq(all(other), "b1 d1 ");
	ok(store_txn_end_wait(st, 0, &err));
	ck_assert_str_eq(all(other), "a1 b2 c2 ");
	ok(store_list_wait(other, "/t/", 0, &l, &err));
	for (size_t i = 0; i < l.n; i++)
		ck_assert_int_eq(l.v[i].rev, l.rev);
	store_list_done(&l);
	ck_assert_str_eq(etcdctl("get /t/d"), "");
}
END_TEST

/* What others may do between what a transaction reads and its end, and what it then sees. */
static const struct {
	const char *theirs, *then;
} races[] = {
	{"put /t/a 2", "a2 b1 "},
	{"del /t/a", "b1 "},
	{"put /t/aa 1", "a1 aa1 b1 "},
	{"put /t/z 1", "a1 b1 z1 "},
	{"put /t/c 2", "a1 b1 c2 "},
};

START_TEST(what_others_change_has_it_done_again)
{
	auto_(store) struct store *st = open_etcd(NULL);
	int r;

	etcdctl("put /t/a 1");
	etcdctl("put /t/b 1");
	/* As it begins, and with what an earlier one has left. */
	for (int again = 0; again < 2; again++) {
		ok(store_txn_begin_wait(st, 0, &err));
		ck_assert_str_eq(all(st), "a1 b1 ");
		fails(store_delete_wait(st, "/t/c", 0, NULL, 0, &err), -ENOENT);
		if (again == 0)
			ok(store_txn_end_wait(st, 0, &err));
	}
	etcdctl(races[_i].theirs);
	r = store_create_wait(st, "/t/c", "1", 0, NULL, &err);
	ck_assert_int_eq(r, 0);
	fails(store_txn_end_wait(st, 0, &err), -ESTALE);
	ok(store_txn_begin_wait(st, 0, &err));
	ck_assert_str_eq(all(st), races[_i].then);
	r = store_create_wait(st, "/t/c", "1", 0, NULL, &err);
	ck_assert_int_eq(r, strstr(races[_i].then, "c2") ? -EEXIST : 0);
	ok(store_txn_end_wait(st, 0, &err));
	ck_assert_str_eq(etcdctl("get /t/c --print-value-only"), r == 0 ? "1\n" : "2\n");
}
END_TEST

START_TEST(what_an_earlier_transaction_has_left_is_not_asked_for)
{
	auto_(store) struct store *st = open_etcd(NULL);
	char v;

	ok(store_txn_begin_wait(st, 0, &err));
	ck_assert_str_eq(all(st), "");
	ok(store_create_wait(st, "/t/a", "1", 0, NULL, &err));
	ok(store_txn_end_wait(st, 0, &err));
	member_freeze(&members[0]);
	ok(store_txn_begin_wait(st, 0, &err));
	ck_assert_str_eq(all(st), "a1 ");
	ok(get_value(st, "/t/a", &v));
	ck_assert_int_eq(v, '1');
	ok(store_update_wait(st, "/t/a", "2", 0, 0, NULL, &err));
	fails(store_txn_end_wait(st, clock_mono_ms() + 200, &err), -ETIMEDOUT);
	ck_assert_int_eq(kill(members[0].pid, SIGCONT), 0);
	/* Whether that was written: it may be now. */
	ok(store_txn_begin_wait(st, 0, &err));
	ok(store_update_wait(st, "/t/a", "3", 0, 0, NULL, &err));
	while (store_txn_end_wait(st, 0, &err) == -ESTALE) {
		ok(store_txn_begin_wait(st, 0, &err));
		ok(store_update_wait(st, "/t/a", "3", 0, 0, NULL, &err));
	}
	ck_assert_str_eq(etcdctl("get /t/a --print-value-only"), "3\n");
	/* What only reads is checked as well, and a server that is away has said nothing. */
	ok(store_txn_begin_wait(st, 0, &err));
	ok(get_value(st, "/t/a", &v));
	server_stop();
	fails(store_txn_end_wait(st, 0, &err), -EHOSTUNREACH);
	ok(store_txn_begin_wait(st, 0, &err));
	fails(get_value(st, "/t/a", &v), -EHOSTUNREACH);
	ok(store_txn_end_wait(st, 0, &err));
}
END_TEST

START_TEST(a_revision_may_be_newer_than_what_was_left)
{
	auto_(store) struct store *st = open_etcd(NULL);
	struct store_kv kv;
	char v;

	etcdctl("put /t/a 1");
	ok(store_txn_begin_wait(st, 0, &err));
	ok(get_value(st, "/t/a", &v));
	ok(store_txn_end_wait(st, 0, &err));
	etcdctl("put /t/a 2");
	ok(store_get_wait(st, "/t/a", 0, &kv, &err));
	ok(store_txn_begin_wait(st, 0, &err));
	ok(store_update_wait(st, "/t/a", "3", kv.rev, 0, NULL, &err));
	fails(store_update_wait(st, "/t/a", "4", kv.rev, 0, NULL, &err), -ESTALE);
	ok(store_txn_end_wait(st, 0, &err));
	ck_assert_str_eq(etcdctl("get /t/a --print-value-only"), "3\n");
	store_kv_done(&kv);
}
END_TEST

START_TEST(an_object_may_be_expected_to_be_new)
{
	auto_(store) struct store *st = open_etcd(NULL);
	char v;

	ok(store_txn_begin_wait(st, 0, &err));
	store_txn_expect_new(st, "/t/a");
	member_freeze(&members[0]);
	fails(get_value(st, "/t/a", &v), -ENOENT);
	ok(store_create_wait(st, "/t/a", "1", 0, NULL, &err));
	ck_assert_int_eq(kill(members[0].pid, SIGCONT), 0);
	ok(store_txn_end_wait(st, 0, &err));
	etcdctl("put /t/b 2");
	for (int again = 0; again < 2; again++) {
		ok(store_txn_begin_wait(st, 0, &err));
		store_txn_expect_new(st, "/t/b");
		if (again == 0)
			ok(store_create_wait(st, "/t/b", "1", 0, NULL, &err));
		else
			ok(get_value(st, "/t/b", &v));
		ck_assert_int_eq(store_txn_end_wait(st, 0, &err), again == 0 ? -ESTALE : 0);
	}
	ck_assert_int_eq(v, '2');
}
END_TEST

/* More than etcd takes conditions. */
START_TEST(a_transaction_may_read_much)
{
	auto_(store) struct store *st = open_etcd(NULL);
	struct store_list l = {0};
	char key[32], v;
	int r = 0;

	for (int i = 0; i < 150; i++) {
		snprintf(key, sizeof(key), "/m/%03d", i);
		ok(store_create_wait(st, key, "1", 0, NULL, &err));
	}
	for (int i = 0; i < 3; i++) {
		int tries = 0;

		do {
			ck_assert_int_lt(tries++, 2);
			ok(store_txn_begin_wait(st, 0, &err));
			store_txn_expect_new(st, "/m/001");
			ck_assert_int_eq(
				get_value(st, "/m/001", &v), i == 0 && tries == 1 ? -ENOENT : 0);
			ok(store_list_wait(st, "/m/", 0, &l, &err));
			ck_assert_uint_eq(l.n, 150 + (size_t)i);
			store_list_done(&l);
			snprintf(key, sizeof(key), "/m/%03d", 150 + i);
			ok(store_create_wait(st, key, "1", 0, NULL, &err));
			r = store_txn_end_wait(st, 0, &err);
		} while (r == -ESTALE);
		ck_assert_msg(r == 0, "%s", err_text(&err));
	}
	ok(store_txn_begin_wait(st, 0, &err));
	for (int i = 0; i < 130; i++) {
		snprintf(key, sizeof(key), "/n/%03d", i);
		ok(store_create_wait(st, key, "1", 0, NULL, &err));
	}
	fails(store_txn_end_wait(st, 0, &err), -EFBIG);
	ck_assert_str_eq(etcdctl("get /n/ --prefix"), "");
}
END_TEST

/* And others change it meanwhile: what is added has it done again, what is changed or deleted does not. */
START_TEST(what_is_added_to_much_has_it_done_again)
{
	static const char *const theirs[] = {"put /m/2 2", "put /m/050 2", "del /m/051"};
	auto_(store) struct store *st = open_etcd(NULL);
	struct store_list l = {0};
	char key[32];
	size_t n = 150;
	int r, tries = 0;

	for (int i = 0; i < 150; i++) {
		snprintf(key, sizeof(key), "/m/%03d", i);
		ok(store_create_wait(st, key, "1", 0, NULL, &err));
	}
	do {
		ok(store_txn_begin_wait(st, 0, &err));
		ok(store_list_wait(st, "/m/", 0, &l, &err));
		ck_assert_uint_eq(l.n, n);
		store_list_done(&l);
		ok(store_create_wait(st, "/m/x", "1", 0, NULL, &err));
		if (tries++ == 0)
			etcdctl(theirs[_i]);
		r = store_txn_end_wait(st, 0, &err);
		n = 151;
		ck_assert_int_le(tries, 3);
		ck_assert_str_eq(etcdctl("get /m/x --print-value-only"), r == 0 ? "1\n" : "");
	} while (r == -ESTALE);
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(tries == 1, _i > 0);
}
END_TEST

/* One that goes on and on keeps no more than the last ones have needed. */
START_TEST(what_is_kept_is_bounded)
{
	auto_(store) struct store *st = open_etcd(NULL);
	char key[32], v;

	etcdctl("put /t/first 1");
	for (int i = 0; i < 200; i++) {
		ok(store_txn_begin_wait(st, 0, &err));
		ok(get_value(st, "/t/first", &v));
		snprintf(key, sizeof(key), "/k/%d", i);
		ok(store_create_wait(st, key, "1", 0, NULL, &err));
		ok(store_txn_end_wait(st, 0, &err));
	}
	member_freeze(&members[0]);
	ok(store_txn_begin_wait(st, 0, &err));
	ok(get_value(st, "/t/first", &v));
	ok(get_value(st, "/k/199", &v));
	ck_assert_int_lt(
		store_update_wait(st, "/k/0", "2", 0, clock_mono_ms() + 100, NULL, &err), 0);
	(void)store_txn_end_wait(st, clock_mono_ms() + 100, &err);
	ck_assert_int_eq(kill(members[0].pid, SIGCONT), 0);
}
END_TEST

/* Each adds one to both counters, which are the same whoever looks. */
static void count_up(int times)
{
	struct store *st = open_etcd(NULL);

	for (int done = 0; done < times;) {
		struct store_kv a = {0}, b = {0};
		auto_free char *text = NULL;

		ok(store_txn_begin_wait(st, 0, &err));
		ok(store_get_wait(st, "/t/a", 0, &a, &err));
		ok(store_get_wait(st, "/t/b", 0, &b, &err));
		text = mem_printf("%d", atoi(a.value) + 1);
		ok(store_update_wait(st, "/t/a", text, a.rev, 0, NULL, &err));
		ok(store_update_wait(st, "/t/b", text, b.rev, 0, NULL, &err));
		if (store_txn_end_wait(st, 0, &err) == 0) {
			ck_assert_str_eq(a.value, b.value);
			done++;
		}
		store_kv_done(&a);
		store_kv_done(&b);
	}
	store_close(st);
}

START_TEST(transactions_of_several_lose_nothing)
{
	enum { WRITERS = 4, TIMES = 50 };
	pid_t pids[WRITERS];

	etcdctl("put /t/a 0");
	etcdctl("put /t/b 0");
	for (int i = 0; i < WRITERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			count_up(TIMES);
			_exit(0);
		}
	}
	for (int i = 0; i < WRITERS; i++) {
		int status;

		ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
		ck_assert_int_eq(status, 0);
	}
	ck_assert_str_eq(etcdctl("get /t/ --prefix --print-value-only"), "200\n200\n");
}
END_TEST

START_TEST(bad_parameters)
{
	static const struct {
		struct store_conf conf;
		const char *text;
	} cases[] = {
		{{.etcd_endpoints = ""}, "ETCD_ENDPOINTS is not set"},
		{{.etcd_endpoints = " , "}, "ETCD_ENDPOINTS is not set"},
		{{.etcd_endpoints = "127.0.0.1:2379"}, "want http://HOST:PORT or https://"},
		{{.etcd_endpoints = "http://u:pw@h:1"}, "set ETCD_USERNAME and ETCD_PASSWORD"},
		{{.etcd_endpoints = "http://h:1/x"}, "\"http://h:1/x\": want http://HOST:PORT"},
		{{.etcd_endpoints = "http://h", .etcd_cert_file = "/c"},
			"ETCD_CERT_FILE is set, and ETCD_KEY_FILE is not"},
		{{.etcd_endpoints = "http://h", .etcd_password = "pw"},
			"ETCD_PASSWORD is set, and ETCD_USERNAME is not"},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		struct store_conf c = cases[i].conf;
		struct store *st = NULL;

		c.type = "etcdv3";
		fails(store_open(&c, NULL, &st, &err), -EINVAL);
		said(cases[i].text);
		ck_assert_ptr_null(strstr(err.text, "pw"));
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("etcd");
	TCase *started = tcase_create("etcd"), *own = tcase_create("etcd with options"),
	      *txn = tcase_create("transactions"), *cluster = tcase_create("three members");
	SRunner *sr;
	int failed;

	store_suite_add(s, drivers, array_size(drivers), setup_started, teardown);
	store_samples_add(s, samples, array_size(samples), setup_started, teardown);
	tcase_add_checked_fixture(started, setup_started, teardown);
	tcase_set_timeout(started, 60);
	tcase_add_test(started, etcdctl_reads_what_is_written);
	tcase_add_test(started, a_watch_from_before_a_compaction_ends);
	tcase_add_test(started, a_restart_is_survived);
	tcase_add_test(started, a_frozen_server_is_a_timeout);
	tcase_add_test(started, an_endpoint_that_is_away_is_passed_over);
	tcase_add_test(started, another_cluster_is_refused);
	tcase_add_test(started, a_long_history_comes_in_fragments);
	suite_add_tcase(s, started);

	tcase_add_checked_fixture(txn, setup_started, teardown);
	tcase_set_timeout(txn, 60);
	tcase_add_test(txn, a_transaction_is_seen_whole_or_not_at_all);
	tcase_add_loop_test(txn, what_others_change_has_it_done_again, 0, array_size(races));
	tcase_add_test(txn, what_an_earlier_transaction_has_left_is_not_asked_for);
	tcase_add_test(txn, a_revision_may_be_newer_than_what_was_left);
	tcase_add_test(txn, an_object_may_be_expected_to_be_new);
	tcase_add_test(txn, a_transaction_may_read_much);
	tcase_add_loop_test(txn, what_is_added_to_much_has_it_done_again, 0, 3);
	tcase_add_test(txn, what_is_kept_is_bounded);
	tcase_add_test(txn, transactions_of_several_lose_nothing);
	suite_add_tcase(s, txn);

	tcase_add_checked_fixture(cluster, setup_cluster, teardown);
	tcase_set_timeout(cluster, 120);
	tcase_add_test(cluster, members_may_stop_in_turn);
	tcase_add_test(cluster, a_member_that_is_cut_off_says_so);
	suite_add_tcase(s, cluster);

	tcase_add_checked_fixture(own, setup, teardown);
	tcase_set_timeout(own, 60);
	tcase_add_test(own, a_quiet_watch_outlives_compaction);
	tcase_add_test(own, a_full_quota_is_reported_and_survived);
	tcase_add_test(own, passwords_and_tokens);
	tcase_add_test(own, tls_with_client_certificates);
	tcase_add_test(own, bad_parameters);
	suite_add_tcase(s, own);

	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
