/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A story of margay-proxy over a datastore, IPVS, a connection table and a kernel in memory and a
 * clock that stands still; and then again and again with one call failing: IPVS's first, second, ...
 * with each of ENOBUFS (done, outcome lost), EBUSY and ETIMEDOUT, and the datastore's. Every run must
 * end as told, though two retries are allowed before anything is looked at, and must never touch what
 * is not the proxy's.
 */
#include <errno.h>
#include <event2/event.h>
#include <linux/netfilter.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "fake/ipvs_fake.h"
#include "fake/nft_fake.h"
#include "fake/rt_fake.h"
#include "fake/store_fake.h"
#include "proxy/agent.h"
#include "proxy/masq.h"
#include "proxy/vips.h"
#include "proxy/vservers.h"
#include "store/store.h"
#include "svc/health.h"
#include "svc/loop.h"
#include "svc/metrics.h"
#include "unit/test_dir.h"

struct fault {
	const char *where; /* "IPVS", "route", "store", "answer"; NULL = nothing */
	unsigned n;
	int r;
};

static struct world {
	struct event_base *base;
	struct store *st;
	struct health *health;
	struct metrics *metrics;
	struct agent *agent;
	struct fault fault;
	const char *step;
} w;

static int64_t now_ms;
static const char *dir;
static char state_file[64];

static int64_t virtual_now(void)
{
	return now_ms;
}

static _Noreturn void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void fail(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", w.step);
	if (w.fault.where)
		fprintf(stderr, "with the %s's call %u failing (%s): ", w.fault.where, w.fault.n,
			strerror(-w.fault.r));
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static struct ip A(const char *s) {
	struct ip ip = {0};

	if (ip_parse(s, &ip, NULL) < 0)
		fail("%s is no address", s);
	return ip;
}

static struct vserver_key
K(uint8_t protocol, const char *ip, uint16_t port) {
	struct vserver_key key;

	memset(&key, 0, sizeof(key));
	key.protocol = protocol;
	key.ip = A(ip);
	key.port = port;
	return key;
}

/* ---- the proxy ---- */

static struct agent_conf conf = {.nodename = "node-80", .scheduler = "rr", .n_ranges = 1};

static void start(void)
{
	struct err err = ERR_INIT;

	w.health = health_new();
	w.metrics = metrics_new();
	if (agent_new(w.base, w.st, &conf, w.health, w.metrics, virtual_now, &w.agent, &err) < 0)
		fail("start: %s", err_text(&err));
}

static void stop(void)
{
	agent_free(take_ptr(w.agent));
	health_free(take_ptr(w.health));
	metrics_free(take_ptr(w.metrics));
}

static void spin(void)
{
	int idle = 0;

	for (int i = 0; idle < 3; i++) {
		event_base_loop(w.base, EVLOOP_NONBLOCK);
		idle = store_fake_idle(w.st) && (!w.agent || agent_is_idle(w.agent)) ? idle + 1 : 0;
		if (i > 100000)
			fail("it never comes to rest");
	}
}

static void settle(void)
{
	spin();
	for (int i = 0; w.agent && i < 2; i++) {
		agent_retry(w.agent);
		spin();
	}
	if (ipvs_fake_foreign_touched())
		fail("%u virtual servers of others were touched", ipvs_fake_foreign_touched());
}

static void pass(int64_t ms)
{
	now_ms += ms;
	settle();
}

/* As long as it takes, after a failure. */
static void drain(void)
{
	for (int i = 0; i < 4; i++)
		pass(VSERVERS_DRAIN_MS);
}

static void step(const char *what)
{
	w.step = what;
}

static void expect(const char *want)
{
	auto_free char *have = NULL;

	settle();
	have = ipvs_fake_text();
	if (strcmp(have, want) != 0)
		fail("IPVS holds\n%swant\n%s", have, want);
}

static void expect_unchanged(unsigned writes)
{
	settle();
	if (ipvs_fake_writes() != writes)
		fail("%u changes were written", ipvs_fake_writes() - writes);
}

/* ---- objects ---- */

static void put_service(const char *name, const char *spec)
{
	auto_free char *key = mem_printf("/margay/v1/services/default/%s", name);
	auto_free char *text = mem_printf(
		"{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"%s\","
		"\"namespace\":\"default\",\"creationTimestamp\":\"2026-01-01T00:00:0%zuZ\"},"
		"\"spec\":{%s}}",
		name, strlen(name) % 10, spec);

	store_fake_put(w.st, key, text);
}

static void del_service(const char *name)
{
	auto_free char *key = mem_printf("/margay/v1/services/default/%s", name);

	store_fake_put(w.st, key, NULL);
}

#define WEPS "/calico/resources/v3/projectcalico.org/workloadendpoints/default/"

static void put_pod(const char *name, const char *ip)
{
	auto_free char *key = mem_printf(WEPS "%s", name);
	auto_free char *text = mem_printf(
		"{\"kind\":\"WorkloadEndpoint\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"%s\",\"namespace\":\"default\",\"labels\":{\"app\":\"web\"}},\"spec\":{"
		"\"node\":\"node-80\",\"pod\":\"%s\",\"ipNetworks\":[\"%s/32\"]}}",
		name, name, ip);

	store_fake_put(w.st, key, text);
}

static void del_pod(const char *name)
{
	auto_free char *key = mem_printf(WEPS "%s", name);

	store_fake_put(w.st, key, NULL);
}

static void put_slice(const char *name, const char *endpoints)
{
	auto_free char *key = mem_printf("/margay/v1/endpointslices/default/%s", name);
	auto_free char *text = mem_printf(
		"{\"kind\":\"EndpointSlice\",\"apiVersion\":\"discovery.k8s.io/v1\",\"metadata\":{"
		"\"name\":\"%s\",\"namespace\":\"default\",\"labels\":{\"kubernetes.io/"
		"service-name\":\"%s\"}},\"addressType\":\"IPv4\",\"ports\":[{\"name\":\"\","
		"\"port\":6443}],\"endpoints\":[%s]}",
		name, name, endpoints);

	store_fake_put(w.st, key, text);
}

#define WEB                                                                                  \
	"\"type\":\"NodePort\",\"clusterIP\":\"10.96.0.10\",\"selector\":{\"app\":\"web\"}," \
	"\"ports\":[{\"name\":\"t\",\"port\":80,\"targetPort\":8080,\"nodePort\":30080},"    \
	"{\"name\":\"u\",\"port\":80,\"targetPort\":8080,\"protocol\":\"UDP\"}]"

/* ---- the story ---- */

static void others(void)
{
	struct ipvs_dest d = {.ip = A("192.0.2.9"), .port = 80, .weight = 5};
	struct vserver_key vip = K(IPPROTO_TCP, "192.0.2.1", 80);
	struct vserver_key near_node_port = K(IPPROTO_TCP, "10.130.29.80", 31999);

	ipvs_fake_put(&vip, "wlc", &d);
	ipvs_fake_put(&near_node_port, "wlc", NULL);
}

#define OTHER1 "TCP 10.130.29.80:31999 wlc:\n"
#define OTHER2 "TCP 192.0.2.1:80 wlc: 192.0.2.9:80*5\n"
#define NODE_PORT "TCP 10.130.29.80:30080 rr:"
#define TCP_VIP "TCP 10.96.0.10:80 rr:"
#define UDP_VIP "UDP 10.96.0.10:80 rr:"
/* All, in order, with those of web's. */
#define IPVS(node_port, tcp, udp) node_port OTHER1 tcp KUBERNETES OTHER2 udp
#define KUBERNETES "TCP 10.96.0.1:443 rr: 10.130.29.80:6443*1 10.130.29.81:6443*1\n"

/* By somebody else. */
static void set_addr(uint32_t index, const char *text, bool there)
{
	struct rt_addr addr = {.index = index};
	struct rt *rt = NULL;

	if (prefix_parse(text, &addr.prefix, NULL) < 0 || rt_open(&rt, NULL) < 0)
		fail("no kernel");
	rt_begin(rt, NULL, NULL);
	(there ? rt_addr_set : rt_addr_del)(rt, &addr, 0);
	(void)rt_commit(rt, NULL);
	rt_close(rt);
}

static void set_up(void)
{
	ipvs_fake_reset();
	rt_fake_reset();
	(void)unlink(state_file);
	others();
	rt_fake_link("lo", 1, true);
	rt_fake_link("eth0", 2, true);
	set_addr(2, "10.130.29.80/24", true);
	put_service("kubernetes",
		"\"clusterIP\":\"10.96.0.1\",\"ports\":[{\"port\":443,\"targetPort\":6443}]");
	put_slice("kubernetes",
		"{\"addresses\":[\"10.130.29.80\"]},{\"addresses\":[\"10.130.29.81\"]}");
	put_service("web", WEB);
	put_pod("a", "10.244.0.1");
	put_pod("b", "10.244.0.2");
}

static void expect_source(const char *ip)
{
	struct prefix range;
	const struct rt_route *r;

	(void)prefix_parse("10.96.0.0/16", &range, NULL);
	settle();
	r = rt_fake_find_route(&range, 0);
	if (!r || r->type != RT_TYPE_LOCAL || r->protocol != VIPS_PROTOCOL || r->oif != 1)
		fail("there is no local route to the service range");
	if (strcmp(ip_str(&r->src), ip) != 0)
		fail("its source is %s", ip_str(&r->src));
}

static void expect_route(void)
{
	expect_source("10.130.29.80");
}

static void expect_deleted(const char *want)
{
	auto_free char *have = conntrack_fake_text();

	/* After a failure more may have been asked for than was needed. */
	if (w.fault.where ? !strstr(have, want) : strcmp(have, want) != 0)
		fail("UDP connections \"%s\" were deleted, want \"%s\"", have, want);
}

#define SERVERS(a, b, udp) IPVS(NODE_PORT a b "\n", TCP_VIP a b "\n", UDP_VIP udp "\n")
#define A1 " 10.244.0.1:8080*1"
#define A0 " 10.244.0.1:8080*0"
#define B1 " 10.244.0.2:8080*1"
#define C1 " 10.244.0.3:8080*1"

static void tell(void)
{
	const struct ip ip_a = A("10.244.0.1"), ip_b = A("10.244.0.2");
	const struct vserver_key vip = K(IPPROTO_TCP, "10.96.0.10", 80);
	const struct vserver_key vip_udp = K(IPPROTO_UDP, "10.96.0.10", 80);
	const struct vserver_key node_port = K(IPPROTO_TCP, "10.130.29.80", 30080);
	struct prefix range;
	unsigned writes;

	step("without the datastore nothing is touched");
	store_fake_away(w.st, true);
	start();
	expect_unchanged(0);
	step("the first start");
	store_fake_away(w.st, false);
	expect(SERVERS(A1, B1, A1 B1));
	expect_route();
	expect_deleted("10.96.0.10:80<10.96.0.10 ");

	step("an endpoint goes: TCP drains, UDP is deleted with its connections");
	ipvs_fake_dest(&vip, &ip_a, 8080)->active = 3;
	del_pod("a");
	expect(SERVERS(A0, B1, B1));
	expect_deleted("10.96.0.10:80<10.244.0.1 ");
	drain();
	expect(IPVS(NODE_PORT B1 "\n", TCP_VIP A0 B1 "\n", UDP_VIP B1 "\n"));
	step("it comes back, and has its weight");
	put_pod("a", "10.244.0.1");
	expect(SERVERS(A1, B1, A1 B1));
	step("it goes for good: deleted when its last connection is");
	del_pod("a");
	settle();
	drain();
	if (ipvs_fake_dest(&vip, &ip_a, 8080)) /* a restart of IPVS's table by a fault aside */
		ipvs_fake_dest(&vip, &ip_a, 8080)->active = 0;
	drain();
	expect(SERVERS("", B1, B1));
	step("without endpoints there is no virtual server");
	del_pod("b");
	settle();
	drain();
	expect(IPVS("", "", ""));
	put_pod("a", "10.244.0.1");
	put_pod("b", "10.244.0.2");
	expect(SERVERS(A1, B1, A1 B1));

	step("a restart writes nothing");
	writes = ipvs_fake_writes();
	stop();
	start();
	if (!w.fault.where)
		expect_unchanged(writes);
	expect(SERVERS(A1, B1, A1 B1));
	step("what went while it was dead is deleted, node ports by the state file");
	stop();
	del_service("web");
	start();
	expect(IPVS("", "", ""));
	put_service("web", WEB);
	expect(SERVERS(A1, B1, A1 B1));

	step("a state file that somebody removed is written again");
	stop();
	(void)unlink(state_file);
	start();
	expect(SERVERS(A1, B1, A1 B1));
	stop();
	del_service("web");
	start();
	expect(IPVS("", "", ""));
	put_service("web", WEB);
	expect(SERVERS(A1, B1, A1 B1));

	step("what others change is repaired by the next reading");
	(void)ipvs_fake_gone(&vip_udp);
	(void)ipvs_fake_dest_gone(&vip, &ip_b, 8080);
	ipvs_fake_dest(&vip, &ip_a, 8080)->weight = 9;
	strcpy(ipvs_fake_service(&node_port)->scheduler, "lc");
	agent_reread(w.agent);
	expect(SERVERS(A1, B1, A1 B1));
	writes = ipvs_fake_writes();
	agent_reread(w.agent);
	if (!w.fault.where)
		expect_unchanged(writes);

	step("the route comes back by event");
	(void)prefix_parse("10.96.0.0/16", &range, NULL);
	(void)rt_fake_route_gone(&range, 0);
	expect_route();

	step("affinity comes and goes");
	put_service("web", "\"sessionAffinity\":\"ClientIP\"," WEB);
	expect(IPVS("TCP 10.130.29.80:30080 rr, p10800:" A1 B1 "\n",
		"TCP 10.96.0.10:80 rr, p10800:" A1 B1 "\n",
		"UDP 10.96.0.10:80 rr, p10800:" A1 B1 "\n"));
	put_service("web", WEB);
	expect(SERVERS(A1, B1, A1 B1));

	step("of two that claim one address the older one has it");
	put_service("intruder", "\"clusterIP\":\"10.96.0.10\",\"ports\":[{\"port\":80}]");
	put_slice("intruder", "{\"addresses\":[\"10.244.0.66\"]}");
	expect(SERVERS(A1, B1, A1 B1));
	step("a broken one harms nobody, and one outside of the range is not served");
	put_service("broken", "\"clusterIP\":7");
	put_service("outside", "\"clusterIP\":\"10.97.0.1\",\"ports\":[{\"port\":80}]");
	put_slice("outside", "{\"addresses\":[\"10.244.0.67\"]}");
	expect(SERVERS(A1, B1, A1 B1));

	step("the datastore goes away, and nothing with it");
	store_fake_away(w.st, true);
	expect(SERVERS(A1, B1, A1 B1));
	(void)ipvs_fake_gone(&vip);
	agent_reread(w.agent);
	expect(SERVERS(A1, B1, A1 B1));
	step("the older one goes, and the other is served");
	store_fake_away(w.st, false);
	del_service("web");
	settle();
	drain();
	expect(IPVS("", "TCP 10.96.0.10:80 rr: 10.244.0.66:6443*1\n", ""));
}

static void arm(const struct fault *f)
{
	w.fault = *f;
	if (!f->where)
		return;
	if (strcmp(f->where, "IPVS") == 0)
		ipvs_fake_fail_nth(f->n, f->r);
	else if (strcmp(f->where, "route") == 0)
		rt_fake_fail_nth(f->n, f->r);
	else
		store_fake_fail_nth(w.st, f->n, f->r);
}

/* How many calls the place had. */
static unsigned run(const struct fault *f)
{
	unsigned n;

	now_ms = 1000000;
	w.base = loop_base_new();
	w.st = store_fake_new(w.base);
	set_up();
	free(conntrack_fake_text());
	arm(f);
	tell();
	n = !f->where			     ? 0
	    : strcmp(f->where, "IPVS") == 0  ? ipvs_fake_calls()
	    : strcmp(f->where, "route") == 0 ? rt_fake_calls()
					     : store_fake_op_count(w.st);
	stop();
	store_close(w.st);
	event_base_free(w.base);
	return n;
}

static void sweep(const char *where, const int *errors, size_t n_errors)
{
	unsigned n_runs = 0;

	for (size_t i = 0; i < n_errors; i++)
		for (unsigned n = 1, calls = 1; n <= calls; n++) {
			struct fault f = {.where = where, .n = n, .r = errors[i]};

			calls = run(&f);
			n_runs++;
		}
	printf("%u runs with a call of the %s failing\n", n_runs, where);
}

static void make_sysctls(void)
{
	static const char *const names[] = {"net/ipv4/ip_forward", "net/ipv4/vs/conntrack",
		"net/ipv4/vs/expire_nodest_conn", "net/ipv4/vs/expire_quiescent_template"};

	for (size_t i = 0; i < array_size(names); i++) {
		auto_free char *path = mem_printf("%s/%s", dir, names[i]);
		char *slash = strrchr(path, '/');

		*slash = '\0';
		if (file_mkdirs(path, 0755, NULL) < 0)
			fail("mkdir %s", path);
		*slash = '/';
		if (file_write_atomic(path, "0\n", 2, 0644, NULL) < 0)
			fail("write %s", path);
	}
}

/* What is logged by some retries, in lines. */
static unsigned log_lines_of_retries(void)
{
	int kept = dup(STDERR_FILENO);
	FILE *f = tmpfile();
	unsigned n = 0;

	if (!f || kept < 0 || dup2(fileno(f), STDERR_FILENO) < 0)
		fail("no file for the log");
	log_set_level(LOG_LEVEL_WARN);
	for (int i = 0; i < 3; i++) {
		agent_retry(w.agent);
		spin();
	}
	log_set_level(LOG_LEVEL_ERROR);
	(void)dup2(kept, STDERR_FILENO);
	close(kept);
	rewind(f);
	for (int c = fgetc(f); c != EOF; c = fgetc(f))
		n += c == '\n';
	fclose(f);
	return n;
}

static void test_absent(void)
{
	const struct fault none = {0};
	struct strbuf sb = {0};
	unsigned opens, n_lines;

	w.base = loop_base_new();
	w.st = store_fake_new(w.base);
	set_up();
	arm(&none);
	step("a kernel without IPVS");
	ipvs_fake_absent(true);
	start();
	settle();
	if (health_print(w.health, HEALTH_READY, &sb) || !strstr(sb.s, "this kernel has no IPVS"))
		fail("it is ready: %s", sb.s);
	if (strstr(sb.s, "the datastore") || !strstr(sb.s, "BAD vips: waiting for IPVS\n"))
		fail("it waits for something else: %s", sb.s);
	strbuf_done(&sb);
	if (rt_fake_n_routes() != 0)
		fail("it takes the Services' addresses, which nobody serves");
	step("which gets it");
	ipvs_fake_absent(false);
	expect(SERVERS(A1, B1, A1 B1));
	step("nor nftables, which is tried again");
	opens = nft_fake_opens();
	agent_retry(w.agent);
	spin();
	if (nft_fake_opens() == opens)
		fail("it is not");
	step("without a word that says nothing new");
	n_lines = log_lines_of_retries();
	if (n_lines > 0)
		fail("%u lines are logged", n_lines);
	stop();
	store_close(w.st);
	event_base_free(w.base);
}

/* A world of its own, without faults. */
static void begin(void)
{
	const struct fault none = {0};

	w.base = loop_base_new();
	w.st = store_fake_new(w.base);
	set_up();
	arm(&none);
	step("a start");
	start();
	expect(SERVERS(A1, B1, A1 B1));
}

static void end(void)
{
	stop();
	store_close(w.st);
	event_base_free(w.base);
}

#define CLUSTER "/calico/resources/v3/projectcalico.org/clusterinformations/default"

/* While the datastore is locked, which may be since it is being filled, what is missing there is not gone. */
static void test_locked(void)
{
	begin();
	stop();
	step("a start on a datastore that is locked");
	store_fake_put(w.st, CLUSTER, "{\"spec\":{\"datastoreReady\":false}}");
	del_service("web");
	start();
	settle();
	expect(SERVERS(A1, B1, A1 B1));
	if (health_print(w.health, HEALTH_READY, NULL))
		fail("it is ready");
	step("and it is unlocked");
	store_fake_put(w.st, CLUSTER, "{\"spec\":{\"datastoreReady\":true}}");
	settle();
	expect(IPVS("", "", ""));
	end();
}

static void test_managed(void)
{
	const struct fault none = {0};

	w.base = loop_base_new();
	w.st = store_fake_new(w.base);
	store_fake_manage(w.st);
	set_up();
	arm(&none);
	step("where Kubernetes makes the slices, selectors choose nothing");
	start();
	expect(IPVS("", "", ""));
	step("and slices do");
	put_service("web", "\"clusterIP\":\"10.96.0.10\",\"selector\":{\"app\":\"web\"},"
			   "\"ports\":[{\"port\":80}]");
	put_slice("web", "{\"addresses\":[\"10.244.0.2\"]}");
	expect(IPVS("", TCP_VIP " 10.244.0.2:6443*1\n", ""));
	end();
}

static void test_addresses_unread(void)
{
	struct strbuf sb = {0};
	unsigned deletes;

	begin();
	step("a restart that cannot read this node's addresses at once");
	stop();
	deletes = ipvs_fake_deletes();
	rt_fake_fail_nth(1, -EIO);
	start();
	spin();
	if (ipvs_fake_deletes() != deletes)
		fail("%u virtual servers are deleted", ipvs_fake_deletes() - deletes);
	if (health_print(w.health, HEALTH_READY, &sb) ||
		!strstr(sb.s, "BAD ipvs: waiting for this node's addresses\n"))
		fail("it is ready: %s", sb.s);
	strbuf_done(&sb);
	expect(SERVERS(A1, B1, A1 B1));
	if (ipvs_fake_deletes() != deletes)
		fail("they are deleted when it can");
	end();
}

static void test_removed(void)
{
	const struct vserver_key vip = K(IPPROTO_TCP, "10.96.0.10", 80);

	begin();
	step("a virtual server that somebody removed is made again by the write that finds out");
	(void)ipvs_fake_gone(&vip);
	put_pod("c", "10.244.0.3");
	expect(SERVERS(A1, B1 C1, A1 B1 C1));
	end();
}

static void test_undecodable(void)
{
	struct strbuf sb = {0};

	begin();
	step("a restart with a Service that cannot be decoded: what it had stays");
	stop();
	put_service("web", "\"clusterIP\":7");
	start();
	expect(SERVERS(A1, B1, A1 B1));
	if (health_print(w.health, HEALTH_READY, &sb) || !strstr(sb.s, "services/default/web"))
		fail("it is not named: %s", sb.s);
	strbuf_done(&sb);
	step("it is deleted, and what it had with it");
	del_service("web");
	expect(IPVS("", "", ""));
	step("a restart with an endpoint that cannot be decoded: its real servers stay");
	put_service("web", WEB);
	expect(SERVERS(A1, B1, A1 B1));
	stop();
	store_fake_put(w.st, WEPS "b", "{\"spec\":{\"ipNetworks\":7}}");
	start();
	put_pod("c", "10.244.0.3");
	expect(SERVERS(A1, B1 C1, A1 B1 C1));
	step("one that goes meanwhile goes");
	del_pod("c");
	drain();
	expect(SERVERS(A1, B1, A1 B1));
	step("it is deleted, and they with it");
	del_pod("b");
	drain();
	expect(SERVERS(A1, "", A1));
	end();
}

static void expect_set(const char *set, const char *want)
{
	auto_free char *have = NULL;

	settle();
	have = nft_fake_set(NFPROTO_IPV4, MASQ_TABLE, set);
	if (strcmp(have ?: "none", want) != 0)
		fail("the set %s holds %s, want %s", set, have ?: "none", want);
}

#define POOLS "/calico/resources/v3/projectcalico.org/ippools/"
#define POOL_KIND "{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\","

static void put_pool(const char *name, const char *cidr)
{
	auto_free char *key = mem_printf(POOLS "%s", name);
	auto_free char *text = mem_printf(
		POOL_KIND "\"metadata\":{\"name\":\"%s\"},\"spec\":{\"cidr\":%s}}", name, cidr);

	store_fake_put(w.st, key, text);
}

static void expect_sets(const char *pods, const char *ports, const char *hairpin)
{
	expect_set("pod-ips", pods);
	expect_set("tcp-node-ports", ports);
	expect_set("hairpin", hairpin);
}

#define SELF_81 "10.130.29.81.10.130.29.81 " /* of the Service kubernetes, it may be here */
#define SELF_A SELF_81 "10.244.0.1.10.244.0.1"
#define SELF_B "10.244.0.2.10.244.0.2"
#define SELF_C "10.244.0.3.10.244.0.3"

/* What another Service's endpoint and port are, beside those of web. */
#define OTHER                                                                                \
	"\"type\":\"NodePort\",\"clusterIP\":\"10.96.0.20\",\"selector\":{\"app\":\"web\"}," \
	"\"ports\":[{\"port\":81,\"nodePort\":30081}]"

static void test_undecodable_masq(void)
{
	nft_fake_reset(true);
	begin();
	put_pool("one", "\"10.244.0.0/16\"");
	put_pool("two", "\"10.245.0.0/16\"");
	expect_sets("10.244.0.0/16 10.245.0.0/16", "117.128", SELF_A " " SELF_B);
	step("a restart with a Service that cannot be decoded: what nftables' sets hold stays");
	stop();
	put_service("web", "\"clusterIP\":7");
	start();
	expect_sets("10.244.0.0/16 10.245.0.0/16", "117.128", SELF_A " " SELF_B);
	step("what comes is added, and what goes meanwhile stays");
	put_service("other", OTHER);
	put_pod("c", "10.244.0.3");
	expect_sets("10.244.0.0/16 10.245.0.0/16", "117.128 117.129", SELF_A " " SELF_B " " SELF_C);
	del_pod("c");
	expect_set("hairpin", SELF_A " " SELF_B " " SELF_C);
	step("it is mended, and what is not wanted goes");
	put_service("web", WEB);
	expect_sets("10.244.0.0/16 10.245.0.0/16", "117.128 117.129", SELF_A " " SELF_B);
	del_service("other");
	expect_set("tcp-node-ports", "117.128");
	step("a restart with a pool that cannot be decoded: its pods stay known");
	stop();
	put_pool("two", "7");
	put_pool("three", "\"10.246.0.0/16\"");
	start();
	expect_set("pod-ips", "10.244.0.0/16 10.245.0.0/16 10.246.0.0/16");
	step("nor can the others");
	stop();
	put_pool("one", "7");
	put_pool("three", "7");
	start();
	expect_set("pod-ips", "10.244.0.0/16 10.245.0.0/16 10.246.0.0/16");
	step("which are deleted");
	store_fake_put(w.st, POOLS "one", NULL);
	store_fake_put(w.st, POOLS "three", NULL);
	put_pool("two", "\"10.245.0.0/16\"");
	expect_set("pod-ips", "10.245.0.0/16");
	end();
	nft_fake_reset(false);
}

static void test_one_unread(void)
{
	unsigned writes;

	begin();
	step("one virtual server that cannot be read holds up no other");
	stop();
	put_pod("c", "10.244.0.3");
	writes = ipvs_fake_writes();
	ipvs_fake_fail_nth(2, -EBUSY); /* behind the virtual servers, the first's real servers */
	start();
	spin();
	if (ipvs_fake_writes() == writes)
		fail("it does");
	expect(SERVERS(A1, B1 C1, A1 B1 C1));
	end();
}

/* Every second Service at a port that fails; each is a virtual server and two real ones. */
static void put_many(unsigned n, unsigned port)
{
	for (unsigned i = 0; i < n; i++) {
		auto_free char *name = mem_printf("many-%u", i);
		auto_free char *spec = mem_printf(
			"\"clusterIP\":\"10.96.%u.%u\",\"selector\":{\"app\":\"web\"},\"ports\":"
			"[{\"port\":%u}]",
			1 + i / 200, 1 + i % 200, i % 2 ? 80 : port);

		put_service(name, spec);
	}
}

static unsigned count_servers(const char *port)
{
	auto_free char *have = ipvs_fake_text();
	unsigned n = 0;

	for (const char *s = have; (s = strstr(s, port)); s++)
		n++;
	return n;
}

/* More than one turn reads, and several times what one writes. */
#define N_MANY (4 * VSERVERS_READS)

static void test_many_fail(void)
{
	unsigned calls;

	begin();
	step("virtual servers that cannot be made hold up no other");
	ipvs_fake_fail_port(99, -EBUSY);
	put_many(N_MANY, 99);
	spin();
	if (count_servers(":80 rr: 10.244.0.1:80*1 10.244.0.2:80*1\n") != N_MANY / 2)
		fail("%u are made", count_servers(":80 rr: 10.244.0.1:80"));
	if (health_print(w.health, HEALTH_READY, NULL))
		fail("it is ready");
	step("and wait for the retry");
	calls = ipvs_fake_calls();
	put_pod("c", "10.244.0.3");
	del_pod("c");
	spin();
	calls = ipvs_fake_calls();
	agent_reread(w.agent);
	spin();
	if (ipvs_fake_calls() - calls > N_MANY)
		fail("%u calls for reading", ipvs_fake_calls() - calls);
	ipvs_fake_fail_port(0, 0);
	settle();
	if (count_servers(":99 rr: 10.244.0.1:99*1 10.244.0.2:99*1\n") != N_MANY / 2)
		fail("%u are made", count_servers(":99 rr: 10.244.0.1:99"));

	step("nor do those that cannot be read");
	stop();
	put_pod("c", "10.244.0.3");
	ipvs_fake_fail_port(99, -EBUSY);
	start();
	spin();
	if (count_servers(":80 rr: 10.244.0.1:80*1 10.244.0.2:80*1 10.244.0.3:80*1\n") !=
		N_MANY / 2)
		fail("%u are written", count_servers("10.244.0.3:80*1\n"));
	ipvs_fake_fail_port(0, 0);
	settle();
	if (count_servers(" 10.244.0.3:99*1\n") != N_MANY / 2)
		fail("%u are written at last", count_servers("10.244.0.3:99*1\n"));
	end();
}

static void test_connections_kept(void)
{
	begin();
	expect_deleted("10.96.0.10:80<10.96.0.10 ");
	step("connections that cannot be deleted are remembered once");
	conntrack_fake_fail(-EBUSY);
	for (int i = 0; i < 20; i++) {
		del_pod("a");
		settle();
		put_pod("a", "10.244.0.1");
		settle();
	}
	if (health_print(w.health, HEALTH_READY, NULL))
		fail("it is ready");
	del_pod("b");
	settle();
	conntrack_fake_fail(0);
	settle();
	expect_deleted("10.96.0.10:80<10.244.0.1 10.96.0.10:80<10.244.0.2 ");
	step("and those of a virtual server that is gone all together");
	conntrack_fake_fail(-EBUSY);
	del_pod("a");
	settle();
	conntrack_fake_fail(0);
	settle();
	expect_deleted("10.96.0.10:80<* ");
	end();
}

static void test_pods_links(void)
{
	struct rt_route local = {.table = 255, .protocol = 2, .type = RT_TYPE_LOCAL};
	unsigned calls;

	begin();
	step("pods' interfaces come and go, and the kernel is not read for them");
	(void)prefix_parse("fe80::eeee/128", &local.dst, NULL);
	calls = rt_fake_calls();
	for (uint32_t i = 10; i < 30; i++) {
		auto_free char *name = mem_printf("cali%u", i);

		rt_fake_link(name, i, true);
		local.oif = i;
		rt_fake_route(&local);
		set_addr(i, "fe80::eeee/64", true);
		spin();
		set_addr(i, "fe80::eeee/64", false);
		rt_fake_link_gone(name);
		spin();
	}
	if (rt_fake_calls() - calls > 2 * 20) /* the addresses' own */
		fail("%u calls", rt_fake_calls() - calls - 2 * 20);
	step("an address of this node's own is served");
	set_addr(2, "10.130.30.80/24", true);
	expect(IPVS(NODE_PORT A1 B1 "\n",
		"TCP 10.130.30.80:30080 rr:" A1 B1 "\n" TCP_VIP A1 B1 "\n", UDP_VIP A1 B1 "\n"));
	end();
}

#define NODE "/calico/resources/v3/projectcalico.org/nodes/node-80"

static void test_source_kept(void)
{
	begin();
	store_fake_put(w.st, NODE,
		"{\"kind\":\"Node\",\"metadata\":{\"name\":\"node-80\"},"
		"\"spec\":{\"bgp\":{\"ipv4Address\":\"10.130.29.80/24\"}}}");
	set_addr(2, "10.0.0.5/24", true); /* which comes first */
	expect_route();
	step("a restart while this node's object cannot be decoded");
	stop();
	store_fake_put(w.st, NODE, "not json");
	start();
	expect_route();
	step("the source goes, and the route with it");
	set_addr(2, "10.130.29.80/24", false);
	(void)rt_fake_route_gone(&conf.ranges[0], 0);
	set_addr(2, "10.130.29.81/24", true);
	expect_source("10.0.0.5");
	step("and the object is mended");
	store_fake_put(w.st, NODE,
		"{\"kind\":\"Node\",\"metadata\":{\"name\":\"node-80\"},"
		"\"spec\":{\"bgp\":{\"ipv4Address\":\"10.130.29.81/24\"}}}");
	expect_source("10.130.29.81");
	end();
}

int main(void)
{
	static const int kernel_errors[] = {-ENOBUFS, -EBUSY, -ETIMEDOUT};
	static const int store_errors[] = {-EHOSTUNREACH, -ESTALE};
	const struct fault none = {0};

	log_set_level(LOG_LEVEL_ERROR);
	conf.sysctl_root = dir = test_dir();
	snprintf(state_file, sizeof(state_file), "%s/state", dir);
	conf.state_file = state_file;
	if (prefix_parse("10.96.0.0/16", &conf.ranges[0], NULL) < 0)
		fail("range");
	make_sysctls();
	test_absent();
	test_addresses_unread();
	test_removed();
	test_undecodable();
	test_locked();
	test_managed();
	test_undecodable_masq();
	test_one_unread();
	test_many_fail();
	test_connections_kept();
	test_pods_links();
	test_source_kept();
	run(&none);
	sweep("IPVS", kernel_errors, array_size(kernel_errors));
	sweep("route", kernel_errors, array_size(kernel_errors));
	sweep("store", store_errors, array_size(store_errors));
	ipvs_fake_reset();
	rt_fake_reset();
	return 0;
}
