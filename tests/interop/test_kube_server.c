/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Kubernetes driver against a kube-apiserver on an etcd, which this test starts and ends. curl is the
 * oracle. Both groups that may have Calico's resources are served, by the CustomResourceDefinitions of
 * etc/manifests.
 */
#include <arpa/inet.h>
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/strbuf.h"
#include "unit/store_samples.h"
#include "unit/store_suite.h"

#define R "/calico/resources/v3/projectcalico.org/"
#define IPAM "/calico/ipam/v2/"
#define V1 "/apis/crd.projectcalico.org/v1/"
#define V3 "/apis/projectcalico.org/v3/"
#define CURL "curl -sS --cacert %s/pki/apiserver.crt -H 'Authorization: Bearer secret-of-admin' "

static char dir[64], program[512], server_url[64], etcd_url[64], peer_url[64];
static unsigned port, etcd_port;
static struct store_conf conf;
static const char *const groups[] = {"crd.projectcalico.org/v1", "projectcalico.org/v3"};

/* A server that is started again when a test has ended it, unless `down`. */
struct server {
	pid_t pid;
	int down;
};
static struct server *api, *etcd; /* shared with the tests' processes */
static pid_t keepers[2];

static int rm(const char *p, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(p);
}

static unsigned free_port(void)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		abort();
	getsockname(fd, (struct sockaddr *)&sin, &len);
	close(fd);
	return ntohs(sin.sin_port);
}

static char *file_of(const char *name)
{
	return mem_printf("%s/%s", dir, name);
}

/* What a shell says, which has to succeed. The caller's. */
static char *sh(const char *cmd)
{
	struct strbuf out = STRBUF_INIT;
	char buf[4096];
	size_t n;
	FILE *f = popen(cmd, "r");

	while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
		strbuf_addn(&out, buf, n);
	n = (size_t)pclose(f);
	if (n != 0) { /* outside of a test as well */
		fprintf(stderr, "%s: %s\n", cmd, strbuf_str(&out));
		abort();
	}
	return strbuf_take(&out);
}

/* args: of curl, ending with the path's "/"; body NULL = none. */
static json_t *ask(const char *method, const char *path, const char *type, const char *body)
{
	auto_free char *file = file_of("body");
	auto_free char *cmd = mem_printf(CURL "-X %s -H 'Content-Type: %s' %s%s '%s%s'", dir,
		method, type, body ? "--data-binary @" : "", body ? file : "", server_url, path);
	auto_free char *out = NULL;
	json_t *j;

	if (body)
		ok(file_write_atomic(file, body, strlen(body), 0600, &err));
	out = sh(cmd);
	j = json_loads(out, 0, NULL);
	ck_assert_msg(j != NULL, "%s %s: %s", method, path, out);
	return j;
}

static void put(const char *method, const char *path, const char *body)
{
	json_t *j = ask(method, path,
		strcmp(method, "PATCH") == 0 ? "application/merge-patch+json" : "application/json",
		body);
	const char *kind = json_string_value(json_object_get(j, "kind"));
	auto_free char *text = json_dumps(j, 0);

	ck_assert_msg(kind && (strcmp(kind, "Status") != 0 || strstr(text, "\"Success\"")),
		"%s %s: %s", method, path, text);
	json_decref(j);
}

/* One text of an object: at = "spec", "state". */
static char *text_at(const char *path, const char *a, const char *b, const char *c)
{
	json_t *j = ask("GET", path, "application/json", NULL);
	const json_t *at = json_object_get(json_object_get(j, a), b);
	char *text;

	if (c)
		at = json_object_get(at, c);
	text = mem_strdup(json_string_value(at) ?: "");
	json_decref(j);
	return text;
}

static void text_is(const char *path, const char *a, const char *b, const char *c, const char *want)
{
	auto_free char *text = text_at(path, a, b, c);

	ck_assert_str_eq(text, want);
}

/* ---- servers ---- */

static void run_server(const char *const *args, const char *log_name)
{
	auto_free char *log = file_of(log_name);
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(fd, 1);
	dup2(fd, 2);
	execvp(args[0], (char *const *)(uintptr_t)args);
	_exit(127);
}

static pid_t keep(struct server *s, const char *const *args, const char *log)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		while (__atomic_load_n(&s->down, __ATOMIC_SEQ_CST))
			usleep(10000);
		pid = fork();
		if (pid == 0)
			run_server(args, log);
		__atomic_store_n(&s->pid, pid, __ATOMIC_SEQ_CST);
		waitpid(pid, NULL, 0);
		usleep(10000);
	}
}

static bool is_ready(void)
{
	auto_free char *cmd =
		mem_printf(CURL "-f -m 2 '%s/readyz' >/dev/null 2>&1", dir, server_url);

	return system(cmd) == 0;
}

static void wait_ready(void)
{
	int64_t end = clock_mono_ms() + 60000;

	while (!is_ready()) {
		if (clock_mono_ms() > end) {
			fprintf(stderr, "kube-apiserver is not ready: %s/api.log\n", dir);
			abort();
		}
		usleep(50000);
	}
}

static void server_stop(struct server *s)
{
	pid_t pid = __atomic_load_n(&s->pid, __ATOMIC_SEQ_CST);

	__atomic_store_n(&s->down, 1, __ATOMIC_SEQ_CST);
	kill(pid, SIGKILL);
	while (kill(pid, 0) == 0)
		usleep(1000);
}

/* Until all of it stands still. */
static void server_freeze(const struct server *s)
{
	auto_free char *path = mem_printf("/proc/%d/stat", s->pid);
	auto_free char *text = NULL;

	kill(s->pid, SIGSTOP);
	do {
		usleep(1000);
		free(take_ptr(text));
		ok(file_read(path, 4096, &text, NULL, &err));
	} while (!strstr(text, ") T "));
}

static void server_start(struct server *s)
{
	__atomic_store_n(&s->down, 0, __ATOMIC_SEQ_CST);
	wait_ready();
}

static void etcd_start(void)
{
	auto_free char *cmd = mem_printf("curl -sf -m 2 %s/health >/dev/null", etcd_url);

	__atomic_store_n(&etcd->down, 0, __ATOMIC_SEQ_CST);
	while (system(cmd) != 0)
		usleep(10000);
}

static void start_etcd(void)
{
	auto_free char *data = file_of("etcd");
	auto_free char *cluster = mem_printf("default=%s", peer_url);
	const char *const args[] = {"etcd", "--data-dir", data, "--listen-client-urls", etcd_url,
		"--advertise-client-urls", etcd_url, "--listen-peer-urls", peer_url,
		"--initial-advertise-peer-urls", peer_url, "--initial-cluster", cluster, NULL};

	keepers[0] = keep(etcd, args, "etcd.log");
}

static void start_api(void)
{
	auto_free char *pki = file_of("pki"), *tokens = file_of("tokens"), *sa = file_of("sa.key"),
		       *ca = file_of("ca.pem"), *port_text = mem_printf("%u", port);
	const char *const args[] = {program, "--etcd-servers", etcd_url, "--bind-address",
		"127.0.0.1", "--secure-port", port_text, "--cert-dir", pki, "--token-auth-file",
		tokens, "--client-ca-file", ca, "--service-account-key-file", sa,
		"--service-account-signing-key-file", sa, "--service-account-issuer",
		"https://kubernetes.default.svc", "--service-cluster-ip-range", "10.96.0.0/24",
		"--authorization-mode", "RBAC", "--disable-admission-plugins", "ServiceAccount",
		"--etcd-compaction-interval", "0", "--delete-collection-workers", "8", NULL};

	keepers[1] = keep(api, args, "api.log");
}

static void make_credentials(void)
{
	auto_free char *cmd = mem_printf(
		"cd %s && exec >/dev/null 2>&1 && set -e; "
		"echo 'secret-of-admin,admin,admin,system:masters' >tokens; "
		"echo 'secret-of-nobody,nobody,nobody' >>tokens; "
		"openssl ecparam -name prime256v1 -genkey -noout -out sa.key; "
		"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key "
		"-out ca.pem -days 2 -subj /CN=ca; "
		"openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout client.key "
		"-out client.csr -subj /O=system:masters/CN=cert-admin; "
		"openssl x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
		"-out client.pem",
		dir);

	if (system(cmd) != 0)
		abort();
}

/* Each document is applied, as kubectl apply --server-side does. Returns the revisions, as one text. */
static char *apply(const char *manifest)
{
	static const char script[] =
		"awk -v dir=%s 'BEGIN {RS=\"---\\n\"} NR > 1 { f = dir \"/crd-\" NR; print > f; close(f); "
		"match($0, /\\n  name: [a-z.]+/); print f, substr($0, RSTART + 9, RLENGTH - 9) }' "
		"%s/etc/manifests/%s | while read -r f name; do " CURL
		"-f -X PATCH -H 'Content-Type: application/apply-patch+yaml' --data-binary @$f "
		"'%s/apis/apiextensions.k8s.io/v1/customresourcedefinitions/'$name"
		"'?fieldManager=test' | sed -n 's/^    \"\\(generation\\|name\\)\": //p'; done";
	auto_free char *cmd = mem_printf(script, dir, MARGAY_SOURCE_DIR, manifest, dir, server_url);

	return sh(cmd);
}

static void wait_served(const char *path)
{
	int64_t end = clock_mono_ms() + 20000;
	auto_free char *cmd = mem_printf(CURL "-f '%s%s' >/dev/null 2>&1", dir, server_url, path);

	while (system(cmd) != 0) {
		if (clock_mono_ms() > end)
			abort();
		usleep(50000);
	}
}

/* false: this machine cannot have one. */
static bool start_all(void)
{
	FILE *f = popen(MARGAY_SOURCE_DIR "/tests/interop/kube-apiserver 2>&1", "r");
	unsigned peer_port;
	char *end;

	if (!f || !fgets(program, sizeof(program), f) || pclose(f) != 0) {
		printf("SKIP: %s", program[0] ? program : "no kube-apiserver\n");
		return false;
	}
	end = strchr(program, '\n');
	if (end)
		*end = 0;
	snprintf(dir, sizeof(dir), "/tmp/margay-kube-XXXXXX");
	if (!mkdtemp(dir))
		abort();
	api = mmap(
		NULL, 2 * sizeof(*api), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	etcd = api + 1;
	port = free_port();
	etcd_port = free_port();
	peer_port = free_port();
	snprintf(server_url, sizeof(server_url), "https://127.0.0.1:%u", port);
	snprintf(etcd_url, sizeof(etcd_url), "http://127.0.0.1:%u", etcd_port);
	snprintf(peer_url, sizeof(peer_url), "http://127.0.0.1:%u", peer_port);
	make_credentials();
	start_etcd();
	start_api();
	wait_ready();
	for (int i = 0; i < 2; i++)
		free(apply(i ? "crds-v3.yaml" : "crds-v1.yaml"));
	wait_served(V1 "ipreservations");
	wait_served(V3 "ipreservations");
	wait_served(V1 "ippools");
	wait_served(V3 "ippools");
	wait_served("/api/v1/namespaces/default");
	return true;
}

static void stop_all(void)
{
	for (int i = 0; i < 2; i++) {
		kill(keepers[i], SIGKILL);
		waitpid(keepers[i], NULL, 0);
	}
	server_stop(api);
	server_stop(etcd);
	nftw(dir, rm, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- what the tests share ---- */

static char *write_kubeconfig(const char *name, const char *cluster, const char *user)
{
	char *path = file_of(name);
	auto_free char *text = mem_printf("apiVersion: v1\nkind: Config\ncurrent-context: c\n"
					  "contexts: [{name: c, context: {cluster: k, user: u}}]\n"
					  "clusters: [{name: k, cluster: {%s}}]\n"
					  "users: [{name: u, user: {%s}}]\n",
		cluster, user);

	ok(file_write_atomic(path, text, strlen(text), 0600, &err));
	return path;
}

static char *cluster_text(void)
{
	return mem_printf("server: \"%s\", certificate-authority: pki/apiserver.crt", server_url);
}

static void setup(void)
{
	auto_free char *cluster = cluster_text();

	err = ERR_INIT;
	conf = (struct store_conf){.type = "kubernetes",
		.kubeconfig = write_kubeconfig("kubeconfig", cluster, "token: secret-of-admin")};
}

static void teardown(void)
{
	free((void *)(uintptr_t)conf.kubeconfig);
}

static void setup_empty(void)
{
	setup();
	for (int i = 0; i < 2; i++)
		put("DELETE", i ? V3 "ipreservations" : V1 "ipreservations", NULL);
}

static struct store *open_kube(struct event_base *base)
{
	struct store *st = NULL;

	ok(store_open(&conf, base, &st, &err));
	return st;
}

static void has(const struct store_kv *kv, const char *part)
{
	ck_assert_msg(strstr(kv->value, part) != NULL, "%s does not say %s", kv->value, part);
}

/* ---- samples, by curl ---- */

static struct store *sample_v1(void)
{
	conf.calico_api_group = groups[0];
	return open_kube(NULL);
}

static struct store *sample_v3(void)
{
	conf.calico_api_group = groups[1];
	return open_kube(NULL);
}

static void sample_put(const char *path, const char *text)
{
	put("POST", path, text);
}

static char *sample_get(const char *path)
{
	json_t *j = ask("GET", path, "application/json", NULL);
	char *text = json_dumps(j, JSON_COMPACT);

	json_decref(j);
	return text;
}

static void sample_del(const char *path)
{
	auto_free char *now = mem_printf("%s?gracePeriodSeconds=0", path);

	put("DELETE", now, NULL);
}

static const struct samples_driver samples[] = {
	{.group = "v1", .open = sample_v1, .put = sample_put, .get = sample_get, .del = sample_del},
	{.group = "v3",
		.open = sample_v3,
		.put = sample_put,
		.get = sample_get,
		.del = sample_del}};

/* ---- resources ---- */

START_TEST(metadata_are_kept)
{
	static const char key[] = R "ippools/p-1";
	static const char value[] =
		"{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":"
		"\"p-1\",\"uid\":\"3f2a9c1e-7b4d-4e21-9a6c-0d5e8f713b42\",\"creationTimestamp\":"
		"\"2026-08-01T12:00:00Z\",\"labels\":{\"mine\":\"1\"}},\"spec\":{\"cidr\":"
		"\"10.1.0.0/16\"}}";
	struct store *st;
	struct store_kv kv = {0};
	struct store_list l;
	int64_t rev1, rev2;

	conf.calico_api_group = groups[_i];
	st = open_kube(NULL);
	ok(store_create_wait(st, key, value, 0, &rev1, &err));
	ok(store_get_wait(st, key, 0, &kv, &err));
	has(&kv, "\"labels\":{\"mine\":\"1\"}");
	if (_i == 0) {
		has(&kv, "\"creationTimestamp\":\"2026-08-01T12:00:00Z\"");
		text_is(V1 "ippools/p-1", "metadata", "labels", "mine", "");
	} else {
		text_is(V3 "ippools/p-1", "metadata", "labels", "mine", "1");
	}
	ok(store_update_wait(st, key, kv.value, rev1, 0, &rev2, &err));
	store_kv_done(&kv);
	ck_assert_int_eq(rev2, rev1); /* the server sees that nothing has changed */
	if (_i == 0) {
		put("PATCH", V1 "ippools/p-1",
			"{\"metadata\":{\"annotations\":{\"projectcalico.org/metadata\":\"{half\"}}}");
		ok(store_list_wait(st, R "ippools/", 0, &l, &err));
		ck_assert_uint_eq(l.n, 1);
		ck_assert_str_eq(l.v[0].key, key);
		ck_assert_str_eq(l.v[0].value,
			"\"IPPool p-1: annotation projectcalico.org/metadata: want a JSON object\"");
		rev1 = l.v[0].rev;
		store_list_done(&l);
	}
	ok(store_delete_wait(st, key, rev1, NULL, 0, &err));
	fails(store_create_wait(st, key, "{\"spec\":{}}", 0, NULL, &err), -EINVAL);
	said("spec.cidr");
	fails(store_create_wait(st, key, "no json", 0, NULL, &err), -EINVAL);
	store_close(st);
}
END_TEST

START_TEST(what_ipam_stores)
{
	static const char block[] = IPAM "assignment/ipv4/block/10.244.66.128-29";
	static const char affinity[] = IPAM "host/node1/ipv4/block/10.244.66.128-29";
	static const char *const affinities[] = {affinity,
		IPAM "host/node1/ipv4/block/10.244.7.0-29",
		IPAM "host/node2/ipv4/block/10.2.0.0-29", IPAM "virtual/lb/ipv4/block/10.3.0.0-29"};
	static const char block_value[] =
		"{\"cidr\":\"10.244.66.128/29\",\"affinity\":null,\"allocations\":[0,null,null,null,"
		"null,null,null,null],\"unallocated\":[1,2,3,4,5,6,7],\"attributes\":[{"
		"\"handle_id\":\"h.1\",\"secondary\":{\"node\":\"node1\"}}],\"sequenceNumber\":"
		"1785585600123456791,\"sequenceNumberForAllocation\":{\"0\":1785585600123456789},"
		"\"deleted\":false}";
	static const char pending[] = "{\"state\":\"pending\",\"deleted\":false}";
	static const char handle_value[] = "{\"block\":{\"10.244.66.128/29\":1},\"deleted\":false}";
	struct store *st;
	struct store_kv kv;
	struct store_list l;
	int64_t rev, rev2;

	conf.calico_api_group = groups[_i];
	st = open_kube(NULL);
	ok(store_create_wait(st, block, block_value, 0, &rev, &err));
	ok(store_get_wait(st, block, 0, &kv, &err));
	ck_assert_str_eq(kv.value, block_value);
	store_kv_done(&kv);
	ok(store_create_wait(st, IPAM "handle/H.1", handle_value, 0, NULL, &err));
	ok(store_get_wait(st, IPAM "handle/H.1", 0, &kv, &err));
	ck_assert_str_eq(kv.key, IPAM "handle/H.1");
	ck_assert_str_eq(kv.value, handle_value);
	store_kv_done(&kv);
	fails(store_get_wait(st, IPAM "handle/h.1", 0, &kv, &err), -ENOENT);
	ok(store_create_wait(st, IPAM "config", "{\"auto_allocate_blocks\":true}", 0, NULL, &err));
	ok(store_get_wait(st, R "ipamconfigurations/default", 0, &kv, &err));
	has(&kv, "\"spec\":{\"strictAffinity\":false,\"autoAllocateBlocks\":true}");
	store_kv_done(&kv);
	for (size_t i = 0; i < array_size(affinities); i++)
		ok(store_create_wait(st, affinities[i], pending, 0, NULL, &err));
	ok(store_list_wait(st, IPAM "host/node1/ipv4/block/", 0, &l, &err));
	ck_assert_uint_eq(l.n, 2);
	ck_assert_str_eq(l.v[0].key, affinity);
	ck_assert_str_eq(l.v[0].value, pending);
	rev = l.v[0].rev;
	store_list_done(&l);
	ok(store_list_wait(st, IPAM "host/", 0, &l, &err));
	ck_assert_uint_eq(l.n, 3);
	store_list_done(&l);
	ok(store_list_wait(st, IPAM "virtual/", 0, &l, &err));
	ck_assert_uint_eq(l.n, 1);
	store_list_done(&l);
	text_is(_i ? V3 "blockaffinities/node1-10-244-66-128-29"
		   : V1 "blockaffinities/node1-10-244-66-128-29",
		"metadata", "labels", "projectcalico.org/affinity-type", "host");
	/* compare and swap */
	ok(store_update_wait(
		st, affinity, "{\"state\":\"confirmed\",\"deleted\":false}", rev, 0, &rev2, &err));
	fails(store_delete_wait(st, affinity, rev, NULL, 0, &err), -ESTALE);
	/* one that Calico was stopped in the middle of deleting */
	put("PATCH",
		_i ? V3 "blockaffinities/node1-10-244-66-128-29"
		   : V1 "blockaffinities/node1-10-244-66-128-29",
		_i ? "{\"spec\":{\"deleted\":true}}" : "{\"spec\":{\"deleted\":\"true\"}}");
	ok(store_list_wait(st, IPAM "host/", 0, &l, &err));
	ck_assert_uint_eq(l.n, 2);
	store_list_done(&l);
	/* who reads leaves it there, and it is in nobody's way */
	fails(store_get_wait(st, affinity, 0, &kv, &err), -ENOENT);
	text_is(_i ? V3 "blockaffinities/node1-10-244-66-128-29"
		   : V1 "blockaffinities/node1-10-244-66-128-29",
		"spec", "node", NULL, "node1");
	ok(store_create_wait(st, affinity, pending, 0, &rev, &err));
	fails(store_create_wait(st, affinity, pending, 0, NULL, &err), -EEXIST);
	ok(store_delete_wait(st, affinity, rev, NULL, 0, &err));
	for (size_t i = 1; i < array_size(affinities); i++)
		ok(store_delete_wait(st, affinities[i], 0, NULL, 0, &err));
	ok(store_delete_wait(st, block, 0, NULL, 0, &err));
	ok(store_delete_wait(st, IPAM "handle/H.1", 0, NULL, 0, &err));
	ok(store_delete_wait(st, IPAM "config", 0, NULL, 0, &err));
	store_close(st);
}
END_TEST

static void count(void *arg, const struct store_res *res)
{
	struct seen *s = arg;

	ck_assert_int_eq(res->r, 0);
	s->rev += (int64_t)res->n;
	s->calls += !res->more;
}

/* Sockets of this process that are connected to the server. */
static void each_connection(void (*fn)(int fd, int *n), int *n)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;

	while ((e = readdir(d))) {
		struct sockaddr_in sin = {0};
		socklen_t len = sizeof(sin);
		int fd = atoi(e->d_name);

		if (getpeername(fd, (struct sockaddr *)&sin, &len) == 0 &&
			sin.sin_family == AF_INET && ntohs(sin.sin_port) == port)
			fn(fd, n);
	}
	closedir(d);
}

static void count_one(int fd, int *n)
{
	(void)fd;
	++*n;
}

static void cut_one(int fd, int *n)
{
	(void)n;
	shutdown(fd, SHUT_RDWR);
}

static int n_connections(void)
{
	int n = 0;

	each_connection(count_one, &n);
	return n;
}

/* All at once, of this process. */
static void cut_connections(void)
{
	each_connection(cut_one, NULL);
}

START_TEST(everything_shares_one_connection)
{
	static const char *const prefixes[] = {R "ippools/", R "ipreservations/", R "nodes/",
		R "workloadendpoints/", "/margay/v1/services/", IPAM "assignment/"};
	struct seen s = {.base = event_base_new()}, w[6] = {0};
	char key[80];

	s.st = open_kube(s.base);
	for (size_t i = 0; i < 6; i++) {
		w[i].base = s.base;
		do_op(&s, STORE_LIST, prefixes[i], NULL);
		w[i].watch = store_watch(s.st, prefixes[i], s.rev, on_event, on_end, &w[i]);
	}
	for (int cut = 0; cut < 2; cut++) {
		s.calls = 0;
		for (int i = 0; i < 40; i++) {
			snprintf(key, sizeof(key), R "ippools/one-%d-%d", cut, i);
			store_start(s.st,
				&(struct store_req){.verb = i % 2 ? STORE_LIST : STORE_CREATE,
					.key = i % 2 ? R "ippools/" : key,
					.value = "{\"spec\":{\"cidr\":\"10.0.0.0/8\"}}"},
				i % 2 ? count : on_done, &s);
		}
		wait_for(s.base, &s.calls, 40);
		wait_events(&w[0], 20 * ((size_t)cut + 1));
		ck_assert_int_eq(n_connections(), 1);
		for (size_t i = 0; i < 6; i++)
			ck_assert_int_eq(w[i].end_r, 0);
		if (!cut)
			cut_connections();
		run_until(s.base, NULL, 0, 500); /* they go on */
	}
	store_close(s.st);
	event_base_free(s.base);
	for (size_t i = 0; i < 6; i++)
		seen_done(&w[i]);
	put("DELETE", V1 "ippools", NULL);
}
END_TEST

/* Until the last event is a deletion. */
static void wait_gone(struct seen *w)
{
	int64_t end = clock_mono_ms() + 20000;

	while (!w->end_r && clock_mono_ms() < end &&
		(!w->events.n || w->events.v[w->events.n - 1].value))
		run_until(w->base, NULL, 0, 1);
	ck_assert(w->end_r || !w->events.v[w->events.n - 1].value);
}

/* ---- views ---- */

START_TEST(a_node_is_a_view)
{
	static const char key[] = R "nodes/view-1";
	auto_(store) struct store *st = open_kube(NULL);
	struct store_kv kv = {0};
	int64_t rev, old;

	fails(store_get_wait(st, key, 0, &kv, &err), -ENOENT);
	fails(store_create_wait(st, key, "{}", 0, NULL, &err), -EHOSTUNREACH);
	said("Kubernetes has no Node view-1: its kubelet makes it; check NODENAME");
	put("POST", "/api/v1/nodes",
		"{\"kind\":\"Node\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"view-1\","
		"\"labels\":{\"rack\":\"r\"},\"annotations\":{\"other\":\"o\"}}}");
	fails(store_create_wait(st, key, "{}", 0, NULL, &err), -EEXIST);
	ok(store_get_wait(st, key, 0, &kv, &err));
	has(&kv, "\"labels\":{\"rack\":\"r\"}");
	has(&kv, "\"spec\":{\"orchRefs\":[{\"nodeName\":\"view-1\",\"orchestrator\":\"k8s\"}]");
	old = kv.rev;
	store_kv_done(&kv);
	ok(store_update_wait(st, key,
		"{\"metadata\":{\"name\":\"view-1\",\"labels\":{\"own\":\"1\"}},\"spec\":{\"bgp\":{"
		"\"ipv4Address\":\"192.0.2.1/24\",\"asNumber\":65001}}}",
		old, 0, &rev, &err));
	ck_assert_int_gt(rev, old);
	text_is("/api/v1/nodes/view-1", "metadata", "annotations", "projectcalico.org/ASNumber",
		"65001");
	text_is("/api/v1/nodes/view-1", "metadata", "annotations", "other", "o");
	text_is("/api/v1/nodes/view-1", "metadata", "labels", "rack", "r");
	ok(store_get_wait(st, key, 0, &kv, &err));
	ck_assert_int_eq(kv.rev, rev);
	has(&kv, "\"bgp\":{\"asNumber\":65001,\"ipv4Address\":\"192.0.2.1/24\"}");
	has(&kv, "\"labels\":{\"own\":\"1\",\"rack\":\"r\"}");
	store_kv_done(&kv);
	fails(store_update_wait(st, key, "{\"spec\":{}}", old, 0, NULL, &err), -ESTALE);
	ok(store_update_wait(st, key, "{\"spec\":{}}", 0, 0, NULL, &err));
	text_is("/api/v1/nodes/view-1", "metadata", "annotations", "projectcalico.org/ASNumber",
		"");
	fails(store_delete_wait(st, key, 0, NULL, 0, &err), -EACCES);
	put("DELETE", "/api/v1/nodes/view-1", NULL);
}
END_TEST

START_TEST(an_endpoint_is_a_view)
{
	static const char key[] = R "workloadendpoints/default/node--1-k8s-web--0-eth0";
	static const char path[] = "/api/v1/namespaces/default/pods/web-0";
	struct seen w = {.base = event_base_new()};
	auto_(store) struct store *st = open_kube(NULL);
	struct store *watching = open_kube(w.base);
	struct store_kv kv = {0};
	struct store_list l;
	int64_t rev, old;

	fails(store_create_wait(st, key, "{}", 0, NULL, &err), -EINVAL);
	said("Kubernetes has no Pod default/web-0 with a network of its own on node node-1");
	ok(store_list_wait(st, R "workloadendpoints/", 0, &l, &err));
	ck_assert_uint_eq(l.n, 0);
	w.rev = l.rev;
	w.watch = store_watch(watching, R "workloadendpoints/", l.rev, on_event, on_end, &w);
	store_list_done(&l);
	put("POST", "/api/v1/namespaces/default/pods",
		"{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"web-0\",\"labels\":{"
		"\"app\":\"web\"}},\"spec\":{\"nodeName\":\"node-1\",\"containers\":[{\"name\":\"c\","
		"\"image\":\"i\",\"ports\":[{\"name\":\"http\",\"containerPort\":80}]}]}}");
	put("POST", "/api/v1/namespaces/default/pods",
		"{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"host\"},\"spec\":{"
		"\"nodeName\":\"node-1\",\"hostNetwork\":true,\"containers\":[{\"name\":\"c\","
		"\"image\":\"i\"}]}}");
	fails(store_get_wait(st, R "workloadendpoints/default/node--1-k8s-host-eth0", 0, &kv, &err),
		-ENOENT);
	fails(store_get_wait(
		      st, R "workloadendpoints/default/node--2-k8s-web--0-eth0", 0, &kv, &err),
		-ENOENT);
	fails(store_create_wait(st, key, "{}", 0, NULL, &err), -EEXIST);
	ok(store_get_wait(st, key, 0, &kv, &err));
	has(&kv, "\"interfaceName\":\"cali0d7763386da\"");
	old = kv.rev;
	store_kv_done(&kv);
	ok(store_update_wait(st, key,
		"{\"spec\":{\"containerID\":\"c1\",\"ipNetworks\":[\"10.1.2.3/32\",\"fd00::3/128\"]}}",
		old, 0, &rev, &err));
	fails(store_update_wait(st, key, "{\"spec\":{}}", old, 0, NULL, &err), -ESTALE);
	text_is(path, "metadata", "annotations", "cni.projectcalico.org/podIP", "10.1.2.3/32");
	text_is(path, "metadata", "annotations", "cni.projectcalico.org/podIPs",
		"10.1.2.3/32,fd00::3/128");
	text_is(path, "metadata", "annotations", "cni.projectcalico.org/containerID", "c1");
	ok(store_list_wait(st, R "workloadendpoints/default/", 0, &l, &err));
	ck_assert_uint_eq(l.n, 1);
	has(&l.v[0], "\"containerID\":\"c1\"");
	has(&l.v[0], "\"ipNetworks\":[\"10.1.2.3/32\",\"fd00::3/128\"]");
	store_list_done(&l);
	wait_events(&w, 2);
	ok(store_delete_wait(st, key, rev, NULL, 0, &err));
	text_is(path, "metadata", "annotations", "cni.projectcalico.org/podIP", "");
	ok(store_get_wait(st, key, 0, &kv, &err));
	ck_assert_ptr_null(strstr(kv.value, "ipNetworks"));
	store_kv_done(&kv);
	put("DELETE", "/api/v1/namespaces/default/pods/web-0?gracePeriodSeconds=0", NULL);
	put("DELETE", "/api/v1/namespaces/default/pods/host?gracePeriodSeconds=0", NULL);
	wait_gone(&w);
	store_close(watching);
	event_base_free(w.base);
	seen_done(&w);
}
END_TEST

START_TEST(profiles_follow_namespaces_and_accounts)
{
	static const char kns[] = R "profiles/kns.shop", ksa[] = R "profiles/ksa.shop.web";
	struct seen spaces = {.base = event_base_new()}, accounts = {.base = spaces.base};
	auto_(store) struct store *st = open_kube(NULL);
	struct store *watching = open_kube(spaces.base);
	struct store_kv kv;
	struct store_list l;

	ok(store_list_wait(st, R "profiles/kns.", 0, &l, &err));
	ck_assert_uint_ge(l.n, 4); /* default, kube-system, ... */
	ck_assert_str_eq(l.v[0].key, R "profiles/kns.default");
	spaces.rev = l.rev;
	spaces.watch = store_watch(watching, R "profiles/kns.", l.rev, on_event, on_end, &spaces);
	store_list_done(&l);
	ok(store_list_wait(st, R "profiles/ksa.", 0, &l, &err));
	accounts.rev = l.rev;
	accounts.watch =
		store_watch(watching, R "profiles/ksa.", l.rev, on_event, on_end, &accounts);
	store_list_done(&l);
	fails(store_get_wait(st, kns, 0, &kv, &err), -ENOENT);
	put("POST", "/api/v1/namespaces",
		"{\"kind\":\"Namespace\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"shop\",\"labels\":{"
		"\"team\":\"a\"}}}");
	put("POST", "/api/v1/namespaces/shop/serviceaccounts",
		"{\"kind\":\"ServiceAccount\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"web\"}}");
	ok(store_get_wait(st, kns, 0, &kv, &err));
	has(&kv, "\"labelsToApply\":{\"pcns.kubernetes.io/metadata.name\":\"shop\","
		 "\"pcns.projectcalico.org/name\":\"shop\",\"pcns.team\":\"a\"}");
	store_kv_done(&kv);
	ok(store_get_wait(st, ksa, 0, &kv, &err));
	has(&kv, "\"labelsToApply\":{\"pcsa.projectcalico.org/name\":\"web\"}");
	store_kv_done(&kv);
	put("PATCH", "/api/v1/namespaces/shop", "{\"metadata\":{\"labels\":{\"team\":\"b\"}}}");
	put("DELETE", "/api/v1/namespaces/shop/serviceaccounts/web", NULL);
	wait_events(&spaces, 2);
	ck_assert_str_eq(spaces.events.v[1].key, kns);
	has(&spaces.events.v[1], "\"pcns.team\":\"b\"");
	wait_events(&accounts, 2);
	ck_assert_str_eq(accounts.events.v[1].key, ksa);
	ck_assert_ptr_null(accounts.events.v[1].value);
	fails(store_create_wait(st, R "profiles/kns.x", "{}", 0, NULL, &err), -EACCES);
	fails(store_update_wait(st, kns, "{}", 0, 0, NULL, &err), -EACCES);
	fails(store_delete_wait(st, ksa, 0, NULL, 0, &err), -EACCES);
	said("a ServiceAccount is Kubernetes' own: use kubectl to change it");
	store_close(watching);
	event_base_free(spaces.base);
	seen_done(&spaces);
	seen_done(&accounts);
}
END_TEST

START_TEST(policies_by_old_and_new_names)
{
	static const char old[] = R "networkpolicies/default/default.a",
			  new[] = R "networkpolicies/default/a";
	static const char value[] =
		"{\"metadata\":{\"name\":\"a\",\"namespace\":\"default\"},\"spec\":{\"tier\":\"default\","
		"\"order\":%d}}";
	auto_free char *one = mem_printf(value, 1), *two = mem_printf(value, 2);
	auto_(store) struct store *st = open_kube(NULL);
	struct store_kv kv;
	struct store_list l;
	int64_t rev;

	put("POST", V1 "namespaces/default/networkpolicies",
		"{\"kind\":\"NetworkPolicy\",\"apiVersion\":\"crd.projectcalico.org/v1\",\"metadata\":{"
		"\"name\":\"default.a\"},\"spec\":{\"order\":7}}");
	put("POST", V1 "namespaces/default/networkpolicies",
		"{\"kind\":\"NetworkPolicy\",\"apiVersion\":\"crd.projectcalico.org/v1\",\"metadata\":{"
		"\"name\":\"default.b\"},\"spec\":{\"tier\":\"other\"}}");
	ok(store_list_wait(st, R "networkpolicies/default/", 0, &l, &err));
	ck_assert_uint_eq(l.n, 2);
	ck_assert_str_eq(l.v[0].key, old);
	has(&l.v[0], "\"metadata\":{\"name\":\"a\"");
	ck_assert_str_eq(l.v[1].key, R "networkpolicies/default/default.b");
	has(&l.v[1], "\"metadata\":{\"name\":\"default.b\"");
	store_list_done(&l);
	for (int i = 0; i < 2; i++) {
		ok(store_get_wait(st, i ? old : new, 0, &kv, &err));
		ck_assert_str_eq(kv.key, old);
		has(&kv, "\"order\":7");
		rev = kv.rev;
		store_kv_done(&kv);
	}
	fails(store_get_wait(st, R "networkpolicies/default/b", 0, &kv, &err), -ENOENT);
	fails(store_update_wait(st, R "networkpolicies/default/b", one, 0, 0, NULL, &err), -ENOENT);
	fails(store_update_wait(st, new, one, rev - 1, 0, NULL, &err), -ESTALE);
	ok(store_update_wait(st, new, one, rev, 0, &rev, &err));
	text_is(V1 "namespaces/default/networkpolicies/default.a", "metadata", "annotations",
		"projectcalico.org/metadata", "{\"name\":\"a\"}");
	ok(store_update_wait(st, old, two, 0, 0, &rev, &err));
	fails(store_delete_wait(st, new, rev - 1, NULL, 0, &err), -ESTALE);
	ok(store_delete_wait(st, new, rev, NULL, 0, &err));
	fails(store_delete_wait(st, new, 0, NULL, 0, &err), -ENOENT);
	/* and the other way round */
	ok(store_create_wait(st, new, one, 0, NULL, &err));
	ok(store_get_wait(st, old, 0, &kv, &err));
	ck_assert_str_eq(kv.key, new);
	store_kv_done(&kv);
	ok(store_update_wait(st, old, two, 0, 0, NULL, &err));
	ok(store_delete_wait(st, old, 0, NULL, 0, &err));
	fails(store_get_wait(st, new, 0, &kv, &err), -ENOENT);
	ok(store_delete_wait(st, R "networkpolicies/default/default.b", 0, NULL, 0, &err));
	fails(store_create_wait(st, R "networkpolicies/none/a", one, 0, NULL, &err), -EINVAL);
	said("namespaces \"none\" not found");
}
END_TEST

START_TEST(services_are_read_only)
{
	auto_(store) struct store *st = open_kube(NULL);
	struct store_kv kv;
	struct store_list l;

	ok(store_get_wait(st, "/margay/v1/services/default/kubernetes", 0, &kv, &err));
	has(&kv,
		"{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"kubernetes\"");
	has(&kv, "\"clusterIP\":\"10.96.0.1\"");
	store_kv_done(&kv);
	ok(store_list_wait(st, "/margay/v1/endpointslices/", 0, &l, &err));
	ck_assert_uint_eq(l.n, 1);
	has(&l.v[0], "\"addressType\":\"IPv4\"");
	store_list_done(&l);
	put("POST", "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
		"{\"kind\":\"NetworkPolicy\",\"apiVersion\":\"networking.k8s.io/v1\",\"metadata\":{"
		"\"name\":\"p\"},\"spec\":{\"podSelector\":{}}}");
	ok(store_list_wait(st, "/margay/v1/networkpolicies/", 0, &l, &err));
	ck_assert_uint_eq(l.n, 1);
	ck_assert_str_eq(l.v[0].key, "/margay/v1/networkpolicies/default/p");
	has(&l.v[0], "\"spec\":{\"podSelector\":{},\"policyTypes\":[\"Ingress\"]}");
	store_list_done(&l);
	fails(store_delete_wait(st, "/margay/v1/networkpolicies/default/p", 0, NULL, 0, &err),
		-EACCES);
	put("DELETE", "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies/p", NULL);
	fails(store_create_wait(st, "/margay/v1/services/default/s", "{}", 0, NULL, &err), -EACCES);
	fails(store_delete_wait(st, "/margay/v1/services/default/kubernetes", 0, NULL, 0, &err),
		-EACCES);
	said("a Service is Kubernetes' own: use kubectl to change it");
}
END_TEST

/* As they are; and as nothing that belongs to the datastore, where it has them in another form. */
START_TEST(pods_and_namespaces_are_shown_once_more)
{
	static const char pod[] = "/margay/v1/pods/default/shown";
	auto_(store) struct store *st = open_kube(NULL);
	const struct store_root *roots;
	struct store_kv kv;
	struct store_list l;
	size_t n;

	put("POST", "/api/v1/namespaces/default/pods",
		"{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"shown\","
		"\"annotations\":{\"cni.projectcalico.org/ipv4pools\":\"[]\"}},\"spec\":{"
		"\"hostNetwork\":true,\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}");
	ok(store_get_wait(st, pod, 0, &kv, &err));
	ck_assert_str_eq(kv.key, pod);
	has(&kv, "\"annotations\":{\"cni.projectcalico.org/ipv4pools\":\"[]\"}");
	has(&kv, "\"hostNetwork\":true");
	fails(store_update_wait(st, pod, kv.value, kv.rev, 0, NULL, &err), -EACCES);
	store_kv_done(&kv);
	fails(store_delete_wait(st, pod, 0, NULL, 0, &err), -EACCES);
	ok(store_list_wait(st, "/margay/v1/pods/default/", 0, &l, &err));
	ck_assert_uint_ge(l.n, 1);
	store_list_done(&l);
	ok(store_get_wait(st, "/margay/v1/namespaces/default", 0, &kv, &err));
	has(&kv, "\"kubernetes.io/metadata.name\":\"default\"");
	store_kv_done(&kv);
	roots = store_roots(st, &n);
	for (size_t i = 0; i < n; i++)
		ck_assert(strncmp(roots[i].prefix, "/margay/v1/pods/", 16) != 0 &&
			  strncmp(roots[i].prefix, "/margay/v1/namespaces/", 22) != 0);
	put("DELETE", "/api/v1/namespaces/default/pods/shown?gracePeriodSeconds=0", NULL);
}
END_TEST

START_TEST(what_the_server_does_not_serve_is_no_empty_list)
{
	auto_(store) struct store *st = open_kube(NULL);
	auto_free char *gone =
		mem_printf(CURL "-f '%s" V1 "networksets' >/dev/null 2>&1", dir, server_url);
	struct store_list l;
	struct store_kv kv;

	put("DELETE",
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
		"networksets.crd.projectcalico.org",
		NULL);
	while (system(gone) == 0)
		usleep(10000);
	fails(store_list_wait(st, R "networksets/", 0, &l, &err), -ENOENT);
	fails(store_get_wait(st, R "networksets/default/a", 0, &kv, &err), -EHOSTUNREACH);
	said("networksets");
	said("are the CustomResourceDefinitions installed?");
	fails(store_list_wait(st, "/calico/", 0, &l, &err), -EINVAL);
	fails(store_get_wait(st, "/calico/x", 0, &kv, &err), -EINVAL);
	free(apply("crds-v1.yaml"));
	wait_served(V1 "networksets");
}
END_TEST

/* ---- who, and where ---- */

static void use(const char *cluster, const char *user)
{
	free((void *)(uintptr_t)conf.kubeconfig);
	conf.kubeconfig = write_kubeconfig("kubeconfig", cluster, user);
}

static void works(bool yes, const char *says)
{
	auto_(store) struct store *st = open_kube(NULL);
	struct store_list l;

	if (yes) {
		ok(store_list_wait(st, R "ippools/", 0, &l, &err));
		store_list_done(&l);
		return;
	}
	ck_assert_int_lt(store_list_wait(st, R "ippools/", 0, &l, &err), 0);
	said(says);
	ck_assert_ptr_null(strstr(err.text, "secret"));
}

START_TEST(credentials)
{
	auto_free char *cluster = cluster_text(), *token = file_of("token");
	auto_free char *cmd = mem_printf("base64 -w0 <%s/client.pem", dir);
	auto_free char *cert = sh(cmd);
	auto_free char *cmd2 = mem_printf("base64 -w0 <%s/client.key", dir);
	auto_free char *key = sh(cmd2);
	auto_free char *cmd3 = mem_printf("base64 -w0 <%s/pki/apiserver.crt", dir);
	auto_free char *ca = sh(cmd3);
	auto_free char *inline_user =
		mem_printf("client-certificate-data: %s, client-key-data: %s", cert, key);
	auto_free char *inline_cluster =
		mem_printf("server: \"%s\", certificate-authority-data: %s", server_url, ca);
	auto_free char *named = mem_printf("%s, tls-server-name: kubernetes.default.svc", cluster);
	auto_free char *misnamed = mem_printf("%s, tls-server-name: other.example", cluster);
	auto_free char *wrong_ca =
		mem_printf("server: \"%s\", certificate-authority: ca.pem", server_url);
	auto_free char *insecure =
		mem_printf("server: \"%s\", insecure-skip-tls-verify: true", server_url);
	struct store *st;
	struct store_list l;

	use(cluster, "client-certificate: client.pem, client-key: client.key");
	works(true, NULL);
	use(inline_cluster, inline_user);
	works(true, NULL);
	use(named, "token: secret-of-admin");
	works(true, NULL);
	use(insecure, "token: secret-of-admin");
	works(true, NULL);
	use(misnamed, "token: secret-of-admin");
	works(false, "other.example");
	use(wrong_ca, "token: secret-of-admin");
	works(false, "certificate");
	use(cluster, "token: secret-of-nobody");
	works(false, "its RBAC role has to allow that");
	ck_assert_int_eq(err.code, -EACCES);
	/* a token's file is read again, and so is the kubeconfig */
	ok(file_write_atomic(token, "wrong\n", 6, 0600, &err));
	use(cluster, "tokenFile: token");
	st = open_kube(NULL);
	fails(store_list_wait(st, R "ippools/", 0, &l, &err), -EACCES);
	said("token is wrong or has expired: give one that this cluster knows");
	ok(file_write_atomic(token, "secret-of-admin\n", 16, 0600, &err));
	ok(store_list_wait(st, R "ippools/", 0, &l, &err));
	store_list_done(&l);
	use(cluster, "token: secret-of-nobody");
	fails(store_list_wait(st, R "ippools/", 0, &l, &err), -EACCES);
	ok(file_write_atomic(
		conf.kubeconfig, "half", 4, 0600, &err)); /* being written: as before */
	fails(store_list_wait(st, R "ippools/", 0, &l, &err), -EACCES);
	use(cluster, "token: secret-of-admin");
	ok(store_list_wait(st, R "ippools/", 0, &l, &err));
	store_list_done(&l);
	store_close(st);
}
END_TEST

START_TEST(as_a_pod_and_with_a_list_of_servers)
{
	auto_free char *token = file_of("token"), *ca = file_of("pki/apiserver.crt"),
		       *port_text = mem_printf("%u", port),
		       *list = mem_printf("https://127.0.0.1:1, %s/", server_url),
		       *seen = file_of("seen");
	char *kubeconfig = (char *)(uintptr_t)conf.kubeconfig;

	ok(file_write_atomic(token, "secret-of-admin\n", 16, 0600, &err));
	conf.kubeconfig = NULL;
	conf.kubernetes_service_host = "127.0.0.1";
	conf.kubernetes_service_port = port_text;
	conf.k8s_token_file = token;
	conf.k8s_ca_file = ca;
	works(true, NULL);
	/* the Service does not work yet */
	conf.kubernetes_service_host = "192.0.2.1";
	conf.k8s_api_endpoint = list;
	works(true, NULL);
	/* and what was seen behind it, whose certificate has the Service's address */
	ok(file_write_atomic(seen, server_url, strlen(server_url), 0600, &err));
	conf.kubernetes_service_host = "10.96.0.1";
	conf.k8s_api_endpoint = NULL;
	conf.kube_endpoints_file = seen;
	works(true, NULL);
	conf.kube_endpoints_file = NULL;
	/* and in place of a kubeconfig's server */
	conf.k8s_api_endpoint = list;
	conf.kubeconfig = kubeconfig;
	works(true, NULL);
	conf.k8s_api_endpoint = "https://127.0.0.1:1";
	works(false, "https://127.0.0.1:1: ");
	ck_assert_int_eq(err.code, -EHOSTUNREACH);
}
END_TEST

START_TEST(the_group_is_found_out)
{
	auto_(store) struct store *st = open_kube(NULL);

	/* both are served: the older one counts */
	ok(store_create_wait(
		st, R "ippools/g", "{\"spec\":{\"cidr\":\"10.0.0.0/8\"}}", 0, NULL, &err));
	text_is(V1 "ippools/g", "spec", "cidr", NULL, "10.0.0.0/8");
	ok(store_delete_wait(st, R "ippools/g", 0, NULL, 0, &err));
}
END_TEST

START_TEST(manifests_are_applied_twice_without_a_change)
{
	for (int i = 0; i < 2; i++) {
		auto_free char *once = apply(i ? "crds-v3.yaml" : "crds-v1.yaml"),
			       *twice = apply(i ? "crds-v3.yaml" : "crds-v1.yaml");

		ck_assert_ptr_nonnull(strstr(once, "ippools"));
		ck_assert_str_eq(once, twice);
		ck_assert_ptr_null(strstr(twice, "2,"));
	}
}
END_TEST

/* ---- what may happen ---- */

static char *etcdctl(const char *args)
{
	auto_free char *cmd =
		mem_printf("ETCDCTL_API=3 etcdctl --endpoints %s %s 2>&1", etcd_url, args);

	return sh(cmd);
}

static void compact(void)
{
	auto_free char *text = etcdctl("get / -w json");
	const char *at = strstr(text, "\"revision\":");
	auto_free char *args = mem_printf(
		"compact %lld", at ? strtoll(at + strlen("\"revision\":"), NULL, 10) : 0);

	free(etcdctl(args));
}

static void harm(int n)
{
	if (n % 2)
		cut_connections();
	else
		compact();
}

/* The API server loses its watches of etcd, and the revisions to go on from. */
static void forget(int n)
{
	server_freeze(api);
	server_stop(etcd);
	etcd_start();
	free(etcdctl("put /x 1"));
	free(etcdctl("put /x 2"));
	compact();
	if (n % 8 == 7) {
		server_stop(api);
		server_start(api);
		return;
	}
	kill(api->pid, SIGCONT);
	wait_ready();
}

/* An older copy of all data takes their place. */
static void put_back(const char *snapshot)
{
	auto_free char *cmd = mem_printf(
		"cd %s && rm -rf etcd && ETCDCTL_API=3 etcdctl snapshot restore %s --data-dir etcd "
		"--initial-cluster default=%s --initial-advertise-peer-urls %s 2>&1",
		dir, snapshot, peer_url, peer_url);

	server_stop(api);
	server_stop(etcd);
	free(sh(cmd));
	etcd_start();
	server_start(api);
}

static struct store *open_group(struct event_base *base, int group)
{
	conf.calico_api_group = groups[group];
	return open_kube(base);
}

static struct store *open_v1(struct event_base *base)
{
	return open_group(base, 0);
}

static struct store *open_v3(struct event_base *base)
{
	return open_group(base, 1);
}

static const struct store_suite_driver drivers[] = {
	{.open = open_v3, .harm = harm, .all = true, .n_ops = 500},
	{.open = open_v1, .harm = harm, .forget = forget, .all = true, .n_ops = 750}};

START_TEST(a_watch_from_before_a_compaction_ends)
{
	struct seen w = {.base = event_base_new()};
	auto_(store) struct store *st = open_kube(NULL);
	struct store *watching;
	int64_t rev;

	ok(store_create_wait(
		st, R "ippools/c", "{\"spec\":{\"cidr\":\"10.0.0.0/8\"}}", 0, &rev, &err));
	ok(store_delete_wait(st, R "ippools/c", 0, NULL, 0, &err));
	compact();
	server_stop(api); /* forgets what it had in memory */
	server_start(api);
	watching = open_kube(w.base);
	w.watch = store_watch(watching, R "ippools/", rev, on_event, on_end, &w);
	wait_for(w.base, &w.end_r, -ESTALE);
	ck_assert_uint_eq(w.events.n, 0);
	store_close(watching);
	event_base_free(w.base);
	seen_done(&w);
}
END_TEST

START_TEST(a_server_that_is_away)
{
	struct seen w = {.base = event_base_new()};
	auto_(store) struct store *st = open_kube(NULL);
	struct store *watching = open_kube(w.base);
	struct store_kv kv;
	int64_t rev;

	ok(store_create_wait(
		st, R "ippools/a", "{\"spec\":{\"cidr\":\"10.0.0.0/8\"}}", 0, &rev, &err));
	w.rev = rev;
	w.watch = store_watch(watching, R "ippools/", rev, on_event, on_end, &w);
	run_until(w.base, NULL, 0, 200);
	server_stop(api);
	fails(store_get_wait(st, R "ippools/a", 0, &kv, &err), -EHOSTUNREACH);
	said(server_url);
	fails(store_update_wait(st, R "ippools/a", "{\"spec\":{\"cidr\":\"10.0.0.0/8\"}}", rev, 0,
		      NULL, &err),
		-EHOSTUNREACH);
	run_until(w.base, NULL, 0, 300);
	server_start(api);
	ok(store_delete_wait(st, R "ippools/a", rev, NULL, 0, &err));
	/* A server that begins anew may know less than what the watch goes on from. */
	wait_gone(&w);
	ck_assert_msg(!w.end_r || w.end_r == -ESTALE, "%s", err_text(&err));
	/* frozen */
	server_freeze(api);
	fails(store_create_wait(st, R "ippools/f", "{\"spec\":{\"cidr\":\"10.0.0.0/8\"}}",
		      clock_mono_ms() + 300, NULL, &err),
		-ETIMEDOUT);
	kill(api->pid, SIGCONT);
	store_close(watching);
	event_base_free(w.base);
	seen_done(&w);
	put("DELETE", V1 "ippools", NULL);
}
END_TEST

START_TEST(an_older_copy_of_the_data_is_listed)
{
	struct follower f = {.base = event_base_new(), .may_delete = true};
	struct store *st = open_kube(f.base), *writer = open_kube(NULL);
	auto_free char *file = file_of("snapshot"), *args = mem_printf("snapshot save %s", file);
	const char *const keys[] = {KEYS "1", KEYS "2"};
	static const char value[] = "{\"spec\":{\"reservedCIDRs\":[\"10.0.0.0/32\"]}}";
	int64_t end;

	ok(store_create_wait(writer, keys[0], value, 0, NULL, &err));
	free(etcdctl(args));
	f.sync = sync_new(st, f_prefix, 1, &f_ops, &f, NULL);
	wait_for(f.base, &f.sets, 1);
	ok(store_delete_wait(writer, keys[0], 0, NULL, 0, &err));
	ok(store_create_wait(writer, keys[1], value, 0, NULL, &err));
	for (int i = 0; i < 50; i++) /* more than a start of the server makes */
		free(etcdctl("put /x 1"));
	ok(store_delete_wait(writer, keys[1], 0, NULL, 0, &err));
	ok(store_create_wait(writer, keys[1], value, 0, NULL, &err));
	wait_for(f.base, &f.sets, 3);
	put_back(file);
	end = clock_mono_ms() + 30000;
	f.key[1].rev = 0;
	while (clock_mono_ms() < end && !f.key[1].value)
		run_until(f.base, NULL, 0, 5);
	ck_assert_ptr_nonnull(f.key[1].value);
	ck_assert_ptr_nonnull(f.key[2].value); /* nobody has deleted it */
	/* and what comes then is told */
	ok(store_delete_wait(writer, keys[0], 0, NULL, 0, &err));
	wait_for(f.base, &f.dels, 3);
	f_done(&f);
	store_close(st);
	store_close(writer);
	event_base_free(f.base);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("kube-apiserver");
	TCase *tc = tcase_create("kube-apiserver"), *objects = tcase_create("objects");
	TCase *restarts = tcase_create("restarts");
	SRunner *sr;
	int failed;

	if (!start_all())
		return 77;
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, everything_shares_one_connection);
	tcase_add_test(tc, credentials);
	tcase_add_test(tc, as_a_pod_and_with_a_list_of_servers);
	tcase_add_test(tc, the_group_is_found_out);
	tcase_add_test(tc, manifests_are_applied_twice_without_a_change);
	suite_add_tcase(s, tc);
	tcase_add_checked_fixture(objects, setup, teardown);
	tcase_set_timeout(objects, 120);
	tcase_add_loop_test(objects, metadata_are_kept, 0, 2);
	tcase_add_loop_test(objects, what_ipam_stores, 0, 2);
	tcase_add_test(objects, a_node_is_a_view);
	tcase_add_test(objects, an_endpoint_is_a_view);
	tcase_add_test(objects, profiles_follow_namespaces_and_accounts);
	tcase_add_test(objects, policies_by_old_and_new_names);
	tcase_add_test(objects, services_are_read_only);
	tcase_add_test(objects, pods_and_namespaces_are_shown_once_more);
	tcase_add_test(objects, what_the_server_does_not_serve_is_no_empty_list);
	suite_add_tcase(s, objects);
	store_samples_add(s, samples, array_size(samples), setup, teardown);
	store_suite_add(s, drivers, array_size(drivers), setup_empty, teardown);
	tcase_add_checked_fixture(restarts, setup_empty, teardown);
	tcase_set_timeout(restarts, 120);
	tcase_add_test(restarts, a_watch_from_before_a_compaction_ends);
	tcase_add_test(restarts, a_server_that_is_away);
	tcase_add_test(restarts, an_older_copy_of_the_data_is_listed);
	suite_add_tcase(s, restarts);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	stop_all();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
