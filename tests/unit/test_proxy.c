/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The proxy's planner, case by case; that what it tells bit by bit is what a new one tells at once;
 * the file of virtual servers that are ours; and IPVS's attributes.
 */
#include <check.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/strbuf.h"
#include "kern/ipvs.h"
#include "kern/ipvs_codec.h"
#include "kern/nl.h"
#include "model/endpointslice.h"
#include "model/service.h"
#include "model/wep.h"
#include "proxy/agent.h"
#include "proxy/calc.h"
#include "proxy/owned.h"
#include "unit/test_dir.h"

/* ---- objects ---- */

static struct service *service(const char *name, const char *meta, const char *spec)
{
	struct service *s = NULL;
	struct err err = ERR_INIT;
	auto_free char *text = mem_printf(
		"{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"%s\",%s"
		"\"namespace\":\"d\"},\"spec\":{%s}}",
		name, meta, spec);

	ck_assert_msg(
		service_decode(NULL, text, strlen(text), &s, &err) == 0, "%s: %s", text, err.text);
	return s;
}

static struct endpointslice *slice(const char *name, const char *of, const char *endpoints)
{
	struct endpointslice *s = NULL;
	struct err err = ERR_INIT;
	auto_free char *text = mem_printf(
		"{\"kind\":\"EndpointSlice\",\"apiVersion\":\"discovery.k8s.io/v1\",\"metadata\":{"
		"\"name\":\"%s\",\"namespace\":\"d\",\"labels\":{\"" LABEL_SERVICE_NAME
		"\":\"%s\"}},\"addressType\":\"%s\",\"ports\":[{\"name\":\"\",\"port\":8080}],"
		"\"endpoints\":[%s]}",
		name, of, strstr(endpoints, "::") ? "IPv6" : "IPv4", endpoints);

	ck_assert_msg(endpointslice_decode(NULL, text, strlen(text), &s, &err) == 0, "%s: %s", text,
		err.text);
	return s;
}

static struct wep *wep(const char *name, const char *label, const char *node, const char *ip)
{
	struct wep *w = NULL;
	struct err err = ERR_INIT;
	auto_free char *text = mem_printf(
		"{\"kind\":\"WorkloadEndpoint\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"%s\",\"namespace\":\"d\",\"labels\":{\"app\":\"%s\"}},\"spec\":{"
		"\"node\":\"%s\",\"ipNetworks\":[\"%s/32\"]}}",
		name, label, node, ip);

	ck_assert_msg(
		wep_decode(NULL, text, strlen(text), &w, &err) == 0, "%s: %s", text, err.text);
	return w;
}

static struct ip A(const char *s) {
	struct ip ip;

	ck_assert_int_eq(ip_parse(s, &ip, NULL), 0);
	return ip;
}

/* ---- what a planner has told ---- */

enum { TOLD_MAX = 512 };

struct told {
	struct {
		struct vserver_key key;
		char *text; /* NULL: free */
	} v[TOLD_MAX];
	char *facts[TOLD_MAX]; /* local endpoints and node ports */
	unsigned n_calls;
	struct strbuf refused;
};

static void on_unset(void *arg, const struct vserver_key *key)
{
	struct told *t = arg;

	t->n_calls++;
	for (int i = 0; i < TOLD_MAX; i++)
		if (t->v[i].text && memcmp(&t->v[i].key, key, sizeof(*key)) == 0) {
			free(take_ptr(t->v[i].text));
			return;
		}
	ck_abort_msg("%s was never set", vserver_key_str(key));
}

static void on_set(void *arg, const struct vserver_key *key, const struct calc_server *server)
{
	struct told *t = arg;
	struct strbuf sb = STRBUF_INIT;
	int at = -1;

	t->n_calls++;
	strbuf_addf(&sb, "%s", vserver_key_str(key));
	if (server->affinity_s)
		strbuf_addf(&sb, " p%u", server->affinity_s);
	for (size_t i = 0; i < server->n_dests; i++)
		strbuf_addf(&sb, " %s:%u", ip_str(&server->dests[i].ip), server->dests[i].port);
	strbuf_addc(&sb, '\n');
	for (int i = TOLD_MAX - 1; i >= 0; i--)
		if (!t->v[i].text)
			at = i;
	for (int i = 0; i < TOLD_MAX; i++)
		if (t->v[i].text && memcmp(&t->v[i].key, key, sizeof(*key)) == 0)
			at = i;
	ck_assert_int_ge(at, 0);
	if (t->v[at].text)
		ck_assert_str_ne(t->v[at].text, sb.s); /* only differences */
	free(t->v[at].text);
	t->v[at].key = *key;
	t->v[at].text = strbuf_take(&sb);
}

static void on_fact(struct told *t, char *text, bool there)
{
	int at = -1;

	t->n_calls++;
	for (int i = 0; i < TOLD_MAX; i++)
		if (t->facts[i] ? strcmp(t->facts[i], text) == 0 : there && at < 0) {
			ck_assert(!there || !t->facts[i]); /* only differences */
			at = i;
		}
	ck_assert_int_ge(at, 0);
	free(t->facts[at]);
	t->facts[at] = there ? text : NULL;
	if (!there)
		free(text);
}

static void on_local(void *arg, const struct ip *ip, bool there)
{
	on_fact(arg, mem_printf("local %s\n", ip_str(ip)), there);
}

static void on_port(void *arg, uint8_t protocol, uint16_t port, bool there)
{
	on_fact(arg, mem_printf("port %u/%u\n", protocol, port), there);
}

static void on_refused(void *arg, const char *name, const char *why)
{
	strbuf_addf(&((struct told *)arg)->refused, "%s: %s\n", name, why);
}

static const struct calc_ops ops = {.server_set = on_set,
	.server_unset = on_unset,
	.local = on_local,
	.node_port = on_port,
	.refused = on_refused};

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct lines {
	char *v[1024];
	size_t n;
};

static char *text_of(const struct told *t)
{
	struct lines l = {.n = 0};
	struct strbuf sb = STRBUF_INIT;

	for (int i = 0; i < TOLD_MAX; i++)
		if (t->v[i].text)
			l.v[l.n++] = mem_strdup(t->v[i].text);
	for (int i = 0; i < TOLD_MAX; i++)
		if (t->facts[i])
			l.v[l.n++] = mem_strdup(t->facts[i]);
	qsort(l.v, l.n, sizeof(l.v[0]), by_text);
	for (size_t i = 0; i < l.n; i++) {
		strbuf_add(&sb, l.v[i]);
		free(l.v[i]);
	}
	return strbuf_take(&sb);
}

static void forget(struct told *t)
{
	for (int i = 0; i < TOLD_MAX; i++)
		free(take_ptr(t->v[i].text));
	for (int i = 0; i < TOLD_MAX; i++)
		free(take_ptr(t->facts[i]));
	strbuf_done(&t->refused);
}

static struct prefix ranges[2];

static struct calc *new_calc(struct told *t)
{
	struct calc_conf conf = {
		.nodename = "n1", .ranges = ranges, .n_ranges = 2, .use_weps = true};

	ck_assert_int_eq(prefix_parse("10.96.0.0/16", &ranges[0], NULL), 0);
	ck_assert_int_eq(prefix_parse("fd96::/112", &ranges[1], NULL), 0);
	memset(t, 0, sizeof(*t));
	return calc_new(&conf, &ops, t);
}

/* ---- case by case ---- */

#define IP1 "\"clusterIP\":\"10.96.0.1\","
#define PORT80 "\"ports\":[{\"port\":80}]"
#define READY "{\"addresses\":[\"10.0.0.1\"],\"nodeName\":\"n1\"}"
#define NOT_READY \
	"{\"addresses\":[\"10.0.0.2\"],\"nodeName\":\"n2\",\"conditions\":{\"ready\":false}}"
#define ENDING                                                                               \
	"{\"addresses\":[\"10.0.0.3\"],\"nodeName\":\"n2\",\"conditions\":{\"ready\":false," \
	"\"serving\":true,\"terminating\":true}}"
#define ENDED                                                                                \
	"{\"addresses\":[\"10.0.0.4\"],\"nodeName\":\"n2\",\"conditions\":{\"ready\":false," \
	"\"serving\":false,\"terminating\":true}}"
#define SOMEWHERE "{\"addresses\":[\"10.0.0.5\"]}"
#define NODE_ITSELF "{\"addresses\":[\"10.130.29.80\"],\"nodeName\":\"n1\"}"
#define SIX "{\"addresses\":[\"fd00::1\"],\"nodeName\":\"n2\"}"

static const struct {
	const char *what, *meta, *spec, *endpoints, *want;
} cases[] = {
	{"plain", "", IP1 PORT80, READY, "TCP 10.96.0.1:80 10.0.0.1:8080\nlocal 10.0.0.1\n"},
	{"two protocols", "", IP1 "\"ports\":[{\"port\":80},{\"port\":80,\"protocol\":\"UDP\"}]",
		READY, "TCP 10.96.0.1:80 10.0.0.1:8080\nUDP 10.96.0.1:80\nlocal 10.0.0.1\n"},
	{"affinity", "",
		IP1 PORT80
		",\"sessionAffinity\":\"ClientIP\",\"sessionAffinityConfig\":{\"clientIP\":{"
		"\"timeoutSeconds\":30}}",
		READY, "TCP 10.96.0.1:80 p30 10.0.0.1:8080\nlocal 10.0.0.1\n"},
	{"ready ones alone", "", IP1 PORT80, READY "," NOT_READY "," ENDING "," ENDED,
		"TCP 10.96.0.1:80 10.0.0.1:8080\nlocal 10.0.0.1\n"},
	{"else those that end and serve", "", IP1 PORT80, NOT_READY "," ENDING "," ENDED,
		"TCP 10.96.0.1:80 10.0.0.3:8080\n"},
	{"else none", "", IP1 PORT80, NOT_READY "," ENDED, "TCP 10.96.0.1:80\n"},
	{"ready by decree", "", IP1 PORT80 ",\"publishNotReadyAddresses\":true", NOT_READY,
		"TCP 10.96.0.1:80 10.0.0.2:8080\n"},
	{"who knows where", "", IP1 PORT80, SOMEWHERE,
		"TCP 10.96.0.1:80 10.0.0.5:8080\nlocal 10.0.0.5\n"},
	{"the node itself is no hairpin", "", IP1 PORT80, NODE_ITSELF,
		"TCP 10.96.0.1:80 10.130.29.80:8080\n"},
	{"headless", "", "\"clusterIP\":\"None\"," PORT80, READY, ""},
	{"no address yet", "", PORT80, READY, ""},
	{"another name", "", "\"type\":\"ExternalName\",\"externalName\":\"a.b\"", READY, ""},
	{"another proxy's", "\"labels\":{\"service.kubernetes.io/service-proxy-name\":\"x\"},",
		IP1 PORT80, READY, ""},
	{"node port", "", IP1 "\"type\":\"NodePort\",\"ports\":[{\"port\":80,\"nodePort\":30080}]",
		READY,
		"TCP 10.130.29.80:30080 10.0.0.1:8080\nTCP 10.96.0.1:80 10.0.0.1:8080\n"
		"local 10.0.0.1\nport 6/30080\n"},
	{"node port of a Service that has become a ClusterIP", "",
		IP1 "\"ports\":[{\"port\":80,\"nodePort\":30080}]", READY,
		"TCP 10.96.0.1:80 10.0.0.1:8080\nlocal 10.0.0.1\n"},
	{"both families", "",
		"\"clusterIP\":\"10.96.0.1\",\"clusterIPs\":[\"10.96.0.1\",\"fd96::1\"],"
		"\"type\":\"NodePort\",\"ports\":[{\"port\":80,\"nodePort\":30080}]",
		SIX,
		"TCP 10.130.29.80:30080\nTCP 10.96.0.1:80\nTCP [fd00::80]:30080 fd00::1:8080\n"
		"TCP [fd96::1]:80 fd00::1:8080\nport 6/30080\n"},
	{"outside of the ranges", "", "\"clusterIP\":\"10.97.0.1\"," PORT80, READY,
		"local 10.0.0.1\n"},
};

START_TEST(test_cases)
{
	struct ip node[] = {A("10.130.29.80"), A("fd00::80")};

	for (size_t i = 0; i < array_size(cases); i++) {
		struct told t;
		struct calc *c = new_calc(&t);
		auto_(service) struct service *s = service("s", cases[i].meta, cases[i].spec);
		auto_(endpointslice) struct endpointslice *sl = slice("s", "s", cases[i].endpoints);
		auto_free char *have = NULL, *left = NULL;

		calc_on_node_ips(c, node, 2);
		calc_on_service(c, NULL, s);
		calc_on_slice(c, NULL, sl);
		ck_assert_uint_eq(t.n_calls, 0); /* before it is asked to */
		calc_run(c);
		have = text_of(&t);
		ck_assert_msg(strcmp(have, cases[i].want) == 0, "%s:\n%s", cases[i].what, have);
		t.n_calls = 0;
		calc_on_service(c, s, s);
		calc_run(c);
		ck_assert_uint_eq(t.n_calls, 0); /* nothing was new */
		calc_on_service(c, s, NULL);
		calc_run(c);
		left = text_of(&t);
		ck_assert_str_eq(left, "");
		calc_free(c);
		forget(&t);
	}
}
END_TEST

START_TEST(test_clash)
{
	struct told t;
	struct calc *c = new_calc(&t);
	auto_(service) struct service *young =
		service("a", "\"creationTimestamp\":\"2026-02-01T00:00:00Z\",", IP1 PORT80);
	auto_(service) struct service *old =
		service("b", "\"creationTimestamp\":\"2026-01-01T00:00:00Z\",", IP1 PORT80);
	auto_(service) struct service *outside =
		service("c", "", "\"clusterIP\":\"10.97.0.1\"," PORT80);
	auto_(service) struct service *inside =
		service("c", "", "\"clusterIP\":\"10.96.0.9\"," PORT80);
	auto_(endpointslice) struct endpointslice *sc = slice("c", "c", READY);
	auto_(endpointslice) struct endpointslice *sa = slice("a", "a", READY);
	auto_(endpointslice) struct endpointslice *sb = slice("b", "b", ENDING);
	const char *want[] = {"TCP 10.96.0.1:80 10.0.0.1:8080\nlocal 10.0.0.1\n",
		"TCP 10.96.0.1:80 10.0.0.3:8080\nlocal 10.0.0.1\n"};

	calc_on_slice(c, NULL, sa);
	calc_on_slice(c, NULL, sb);
	for (int i = 0; i < 4; i++) { /* the older one comes and goes */
		auto_free char *have = NULL;

		strbuf_reset(&t.refused);
		if (i == 0)
			calc_on_service(c, NULL, young);
		else
			calc_on_service(c, i % 2 ? NULL : old, i % 2 ? old : NULL);
		calc_run(c);
		have = text_of(&t);
		ck_assert_str_eq(have, want[i % 2]);
		ck_assert_str_eq(strbuf_str(&t.refused),
			i % 2 ? "d/a: TCP 10.96.0.1:80 is served for the older Service d/b: give it "
				"another\n"
			      : "");
	}
	calc_on_service(c, NULL, outside);
	strbuf_reset(&t.refused);
	calc_run(c);
	ck_assert_ptr_nonnull(strstr(strbuf_str(&t.refused), "d/c: clusterIP 10.97.0.1 is in no"));
	/* A change of endpoints is no new refusal: of the loser, of the winner, of one outside. */
	strbuf_reset(&t.refused);
	calc_on_slice(c, sa, NULL);
	calc_on_slice(c, NULL, sc);
	calc_run(c);
	calc_on_slice(c, NULL, sa);
	calc_on_slice(c, sb, NULL);
	calc_run(c);
	ck_assert_str_eq(strbuf_str(&t.refused), "");
	/* What ends and begins again is one. */
	calc_on_service(c, young, NULL);
	calc_on_service(c, outside, inside);
	calc_run(c);
	ck_assert_str_eq(strbuf_str(&t.refused), "");
	calc_on_service(c, NULL, young);
	calc_on_service(c, inside, outside);
	calc_run(c);
	ck_assert_ptr_nonnull(
		strstr(strbuf_str(&t.refused), "d/a: TCP 10.96.0.1:80 is served for"));
	ck_assert_ptr_nonnull(strstr(strbuf_str(&t.refused), "d/c: clusterIP 10.97.0.1 is in no"));
	calc_free(c);
	forget(&t);
}
END_TEST

/* What a Service asks for and does not get is told, once. */
START_TEST(test_lacks)
{
	static const struct {
		const char *spec, *status, *told;
	} rows[] = {
		{"", "", ""},
		{",\"internalTrafficPolicy\":\"Cluster\",\"externalTrafficPolicy\":\"Cluster\"", "",
			""},
		/* Of a Service without node ports nobody asks from outside. */
		{",\"externalTrafficPolicy\":\"Local\"", "", ""},
		{",\"type\":\"NodePort\",\"externalTrafficPolicy\":\"Local\"", "",
			"d/s: externalTrafficPolicy Local is taken for Cluster"},
		{",\"internalTrafficPolicy\":\"Local\"", "",
			"d/s: internalTrafficPolicy Local is taken for Cluster"},
		{",\"externalIPs\":[\"192.0.2.1\"]", "", "d/s: externalIPs are not served"},
		{",\"type\":\"LoadBalancer\"",
			"},\"status\":{\"loadBalancer\":{\"ingress\":[{\"ip\":\"192.0.2.1\"}]}",
			"d/s: status.loadBalancer is not served"},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		auto_free char *spec = mem_printf(IP1 PORT80 "%s%s", rows[i].spec, rows[i].status);
		auto_(service) struct service *s = service("s", "", spec),
					      *plain = service("s", "", IP1 PORT80);
		struct told t;
		struct calc *c = new_calc(&t);

		for (int k = 0; k < 2; k++) {
			const char *told;

			calc_on_service(c, k ? plain : NULL, s);
			calc_run(c);
			told = strbuf_str(&t.refused);
			ck_assert_msg(strncmp(told, rows[i].told, strlen(rows[i].told)) == 0 &&
					      (*told == '\0') == (*rows[i].told == '\0'),
				"%s: %s", rows[i].spec, told);
			strbuf_reset(&t.refused);
			calc_on_service(c, s, s);
			calc_run(c);
			ck_assert_str_eq(strbuf_str(&t.refused), "");
			calc_on_service(c, s, plain);
			calc_run(c);
			ck_assert_str_eq(strbuf_str(&t.refused), "");
		}
		calc_free(c);
		forget(&t);
	}
}
END_TEST

/* A change is told for those whom it concerns, and for nobody else. */
START_TEST(test_cost)
{
	struct told t;
	struct calc *c = new_calc(&t);
	struct service *services[100];
	auto_(wep) struct wep *w = wep("w", "50", "n2", "10.0.0.9");
	auto_(wep) struct wep *nobodys = wep("x", "none", "n2", "10.0.0.10");

	for (int i = 0; i < 100; i++) {
		auto_free char *name = mem_printf("s%d", i);
		auto_free char *spec = mem_printf(
			"\"clusterIP\":\"10.96.1.%d\",\"selector\":{\"app\":\"%d\"}," PORT80, i + 1,
			i);

		services[i] = service(name, "", spec);
		calc_on_service(c, NULL, services[i]);
	}
	calc_run(c);
	ck_assert_uint_eq(t.n_calls, 100);
	t.n_calls = 0;
	calc_on_wep(c, NULL, w);
	calc_run(c);
	ck_assert_uint_eq(t.n_calls, 1);
	calc_on_wep(c, NULL, nobodys);
	calc_run(c);
	ck_assert_uint_eq(t.n_calls, 1);
	calc_free(c);
	forget(&t);
	for (int i = 0; i < 100; i++)
		service_free(services[i]);
}
END_TEST

static void on_any_set(void *arg, const struct vserver_key *key, const struct calc_server *server)
{
	(void)arg;
	(void)key;
	(void)server;
}

static void on_any_unset(void *arg, const struct vserver_key *key)
{
	(void)arg;
	(void)key;
}

static void on_any_local(void *arg, const struct ip *ip, bool there)
{
	(void)arg;
	(void)ip;
	(void)there;
}

static int64_t cost_of(int n_endpoints)
{
	static const struct calc_ops deaf = {.server_set = on_any_set,
		.server_unset = on_any_unset,
		.local = on_any_local,
		.node_port = on_port,
		.refused = on_refused};
	const struct prefix range = {.addr = A("10.96.0.0"), .plen = 16};
	const struct calc_conf conf = {.nodename = "n1", .ranges = &range, .n_ranges = 1};
	struct calc *c = calc_new(&conf, &deaf, NULL);
	auto_(service) struct service *s = service("s", "", IP1 PORT80);
	auto_(endpointslice) struct endpointslice *sl = NULL;
	struct strbuf sb = STRBUF_INIT;
	int64_t took;

	for (int i = 0; i < n_endpoints; i++)
		strbuf_addf(&sb, "%s{\"addresses\":[\"10.0.%d.%d\"],\"nodeName\":\"n1\"}",
			i > 0 ? "," : "", i / 256, i % 256);
	sl = slice("s", "s", strbuf_str(&sb));
	strbuf_done(&sb);
	calc_on_service(c, NULL, s);
	calc_on_slice(c, NULL, sl);
	took = -clock();
	calc_run(c);
	took += clock();
	calc_free(c);
	return took;
}

/* A Service that is eight times as large costs about eight times as much. */
START_TEST(test_large)
{
	int64_t small = cost_of(1000), large = cost_of(8000);

	printf("one Service: %lld us with 1000 endpoints, %lld us with 8000\n", (long long)small,
		(long long)large);
	ck_assert_int_lt(large, 30 * small + 1000);
}
END_TEST

/* ---- at random ---- */

enum { N_SERVICES = 10, N_SLICES = 10, N_WEPS = 20 };

static struct {
	struct service *services[N_SERVICES];
	struct endpointslice *slices[N_SLICES];
	struct wep *weps[N_WEPS];
	struct ip node_ips[3];
	size_t n_node_ips;
} w;

static void feed(struct calc *c)
{
	calc_on_node_ips(c, w.node_ips, w.n_node_ips);
	for (int i = 0; i < N_SLICES; i++)
		if (w.slices[i])
			calc_on_slice(c, NULL, w.slices[i]);
	for (int i = 0; i < N_SERVICES; i++)
		if (w.services[i])
			calc_on_service(c, NULL, w.services[i]);
	for (int i = 0; i < N_WEPS; i++)
		if (w.weps[i])
			calc_on_wep(c, NULL, w.weps[i]);
	calc_run(c);
}

static struct service *random_service(int i)
{
	auto_free char *name = mem_printf("s%d", i);
	auto_free char *meta =
		rand() % 2 ? mem_strdup("")
			   : mem_printf("\"creationTimestamp\":\"2026-01-0%dT00:00:00Z\",",
				     1 + rand() % 3);
	auto_free char *selector =
		rand() % 2 ? mem_strdup("")
			   : mem_printf("\"selector\":{\"app\":\"%d\"},", rand() % 3);
	auto_free char *spec = mem_printf(
		"%s%s\"clusterIP\":\"10.9%d.0.%d\",\"ports\":[{\"port\":80,\"targetPort\":8080%s}]%s",
		selector, rand() % 2 ? "\"type\":\"NodePort\"," : "", 6 + (rand() % 10 == 0),
		1 + rand() % 6, rand() % 2 ? ",\"nodePort\":30080" : ",\"nodePort\":30081",
		rand() % 4 ? "" : ",\"sessionAffinity\":\"ClientIP\"");

	return service(name, meta, spec);
}

static void random_step(struct calc *c)
{
	int i, what = rand() % 9;

	if (what < 3) {
		struct service *old = w.services[i = rand() % N_SERVICES];

		w.services[i] = rand() % 3 ? random_service(i) : NULL;
		if (old || w.services[i])
			calc_on_service(c, old, w.services[i]);
		service_free(old);
	} else if (what < 5) {
		static const char *const eps[] = {READY, NOT_READY, ENDING, ENDED, SOMEWHERE,
			READY "," ENDING, SOMEWHERE "," READY "," NODE_ITSELF, SIX};
		struct endpointslice *old = w.slices[i = rand() % N_SLICES];
		auto_free char *name = mem_printf("e%d", i);
		auto_free char *of = mem_printf("s%d", rand() % N_SERVICES);

		w.slices[i] = rand() % 3 ? slice(name, of, eps[rand() % 8]) : NULL;
		if (old || w.slices[i])
			calc_on_slice(c, old, w.slices[i]);
		endpointslice_free(old);
	} else if (what < 8) {
		struct wep *old = w.weps[i = rand() % N_WEPS];
		auto_free char *name = mem_printf("w%d", i);
		auto_free char *label = mem_printf("%d", rand() % 4);
		auto_free char *ip = mem_printf("10.0.0.%d", rand() % 12);

		w.weps[i] = rand() % 3 ? wep(name, label, rand() % 2 ? "n1" : "n2", ip) : NULL;
		if (old || w.weps[i])
			calc_on_wep(c, old, w.weps[i]);
		wep_free(old);
	} else {
		static const char *const ips[] = {"10.0.0.1", "10.130.29.80", "10.130.29.81"};

		w.n_node_ips = 0;
		for (i = 0; i < 3; i++)
			if (rand() % 2)
				w.node_ips[w.n_node_ips++] = A(ips[i]);
		calc_on_node_ips(c, w.node_ips, w.n_node_ips);
	}
}

START_TEST(test_random)
{
	static struct told t, fresh;
	struct calc *c = new_calc(&t);

	for (int n = 0; n < 3000; n++) {
		auto_free char *have = NULL, *want = NULL;
		struct calc *all;

		for (int k = rand() % 3; k >= 0; k--)
			random_step(c);
		calc_run(c);
		have = text_of(&t);
		all = new_calc(&fresh);
		feed(all);
		want = text_of(&fresh);
		ck_assert_msg(strcmp(have, want) == 0, "step %d: bit by bit\n%sat once\n%s", n,
			have, want);
		calc_free(all);
		forget(&fresh);
	}
	calc_free(c);
	forget(&t);
	for (int i = 0; i < N_SERVICES; i++)
		service_free(w.services[i]);
	for (int i = 0; i < N_SLICES; i++)
		endpointslice_free(w.slices[i]);
	for (int i = 0; i < N_WEPS; i++)
		wep_free(w.weps[i]);
}
END_TEST

/* ---- the file ---- */

static struct vserver_key key_of(uint8_t protocol, const char *ip, uint16_t port)
{
	struct vserver_key key;

	memset(&key, 0, sizeof(key));
	key.protocol = protocol;
	key.ip = A(ip);
	key.port = port;
	return key;
}

static bool keeps_udp(void *arg, const struct vserver_key *key)
{
	(void)arg;
	return key->protocol == IPPROTO_UDP;
}

START_TEST(test_owned)
{
	const char *dir = test_dir();
	const struct vserver_key a = key_of(IPPROTO_TCP, "10.0.0.1", 30080),
				 b = key_of(IPPROTO_UDP, "fd00::1", 30081);
	auto_free char *path = NULL, *text = NULL;
	struct owned *o = NULL;
	struct err err = ERR_INIT;

	path = mem_printf("%s/state", dir);
	ck_assert_int_eq(owned_new(path, &o, &err), 0);
	ck_assert(!owned_has(o, &a));
	ck_assert_int_eq(owned_add(o, &a, &err), 0);
	ck_assert_int_eq(owned_add(o, &b, &err), 0);
	ck_assert_int_eq(owned_add(o, &a, &err), 0);
	owned_free(o);
	ck_assert_int_eq(file_read(path, 4096, &text, NULL, &err), 0);
	ck_assert_str_eq(text, "6 10.0.0.1 30080\n17 fd00::1 30081\n");
	/* Torn and strange lines. */
	ck_assert_int_ge(
		file_write_atomic(path, "6 10.0.0.1 30080\n999 x 1\n\n17 fd00::1 30081\n6 10.0", 48,
			0644, &err),
		0);
	ck_assert_int_eq(owned_new(path, &o, &err), 0);
	ck_assert(owned_has(o, &a) && owned_has(o, &b));
	ck_assert_int_eq(owned_prune(o, keeps_udp, NULL, &err), 0);
	ck_assert(!owned_has(o, &a) && owned_has(o, &b));
	owned_free(o);
	ck_assert_int_eq(owned_new(path, &o, &err), 0);
	ck_assert(!owned_has(o, &a) && owned_has(o, &b));
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(rmdir(dir), 0);
	/* Where it cannot be written, the virtual server is not made. */
	ck_assert_int_lt(owned_add(o, &a, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, path));
	ck_assert(!owned_has(o, &a));
	owned_free(o);
}
END_TEST

static void put(const char *path, const char *text)
{
	ck_assert_int_ge(file_write_atomic(path, text, strlen(text), 0644, NULL), 0);
}

/* What a full disk, or a crash, leaves of a line is no line, and spoils none. */
START_TEST(test_torn)
{
	const char *dir = test_dir();
	const struct vserver_key a = key_of(IPPROTO_TCP, "10.0.0.1", 30080),
				 b = key_of(IPPROTO_UDP, "fd00::1", 30081),
				 cut = key_of(IPPROTO_TCP, "10.0.0.1", 3008);
	static const char *const left[] = {
		"6 10.0.0.1 30080\n6 10.0.0.1 3008", "6 10.0.0.1 30080\n6"};
	struct rlimit limit, full;
	auto_free char *path = NULL;
	struct owned *o = NULL;
	struct err err = ERR_INIT;

	path = mem_printf("%s/state", dir);
	for (size_t i = 0; i < array_size(left); i++) {
		auto_free char *text = NULL;

		put(path, left[i]);
		ck_assert_int_eq(owned_new(path, &o, &err), 0);
		ck_assert(owned_has(o, &a) && !owned_has(o, &cut));
		ck_assert_int_eq(owned_add(o, &b, &err), 0);
		owned_free(o);
		ck_assert_int_eq(file_read(path, 4096, &text, NULL, &err), 0);
		ck_assert_str_eq(text, "6 10.0.0.1 30080\n17 fd00::1 30081\n");
	}

	/* There is room for a part of the next line. */
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	signal(SIGXFSZ, SIG_IGN);
	put(path, "");
	ck_assert_int_eq(owned_new(path, &o, &err), 0);
	ck_assert_int_eq(owned_add(o, &a, &err), 0);
	full = (struct rlimit){.rlim_cur = 17 + 15, .rlim_max = limit.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &full), 0);
	errno = ENOTTY;
	ck_assert_int_eq(owned_add(o, &b, &err), -ENOSPC);
	ck_assert(!owned_has(o, &b));
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert_int_eq(owned_add(o, &b, &err), 0);
	owned_free(o);
	ck_assert_int_eq(owned_new(path, &o, &err), 0);
	ck_assert(owned_has(o, &a) && owned_has(o, &b));
	owned_free(o);
}
END_TEST

START_TEST(test_reread_pause)
{
	ck_assert_int_eq(agent_reread_pause_ms(20000, 5000, 3000), 20000);
	ck_assert_int_eq(agent_reread_pause_ms(20000, 5000, 20000), 20000);
	/* Of 150 ms of work every 150 s, a thousandth of the time is gone. */
	ck_assert_int_eq(agent_reread_pause_ms(20000, 5000, 150000), 150000);
	/* A few are looked at when it was said. */
	ck_assert_int_eq(agent_reread_pause_ms(20000, 500, 150000), 20000);
}
END_TEST

/* ---- IPVS's attributes ---- */

static struct nlmsghdr *message(void)
{
	static union {
		struct nlmsghdr nlh;
		uint8_t b[4096];
	} buf;
	struct nlmsghdr *nlh;

	memset(&buf, 0, sizeof(buf));
	nlh = mnl_nlmsg_put_header(&buf);
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct genlmsghdr));
	return nlh;
}

START_TEST(test_codec)
{
	static const struct {
		uint8_t protocol;
		const char *ip;
		uint16_t port;
		struct ipvs_service s;
	} rows[] = {{IPPROTO_TCP, "10.96.0.1", 443, {"rr", 0, false}},
		{IPPROTO_UDP, "fd96::a", 53, {"wlc", 10800, false}},
		{IPPROTO_SCTP, "255.255.255.255", 65535, {"abcdefghijklmno", 1, true}}};
	struct ipvs_dest d = {.ip = A("10.244.0.1"), .port = 6443, .weight = 7}, got_d;
	struct ipvs_service s;
	struct vserver_key key;

	for (size_t i = 0; i < array_size(rows); i++) {
		struct vserver_key want = key_of(rows[i].protocol, rows[i].ip, rows[i].port);
		struct nlmsghdr *nlh = message();

		ipvs_put_service(nlh, &want, &rows[i].s);
		ck_assert(ipvs_get_service(nlh, &key, &s));
		ck_assert_mem_eq(&key, &want, sizeof(key));
		ck_assert_str_eq(s.scheduler, rows[i].s.scheduler);
		ck_assert_uint_eq(s.persistent_s, rows[i].s.persistent_s);
		ck_assert_int_eq(s.one_packet, rows[i].s.one_packet);
		/* Cut short anywhere, it is refused or read, and nothing is read behind its end. */
		for (uint32_t len = NLMSG_HDRLEN; len < nlh->nlmsg_len; len++) {
			auto_free struct nlmsghdr *cut = mem_dup(nlh, len);

			cut->nlmsg_len = len;
			(void)ipvs_get_service(cut, &key, &s);
		}
	}
	for (int v6 = 0; v6 < 2; v6++) {
		struct nlmsghdr *nlh = message();

		d.ip = v6 ? A("fd00::1") : A("10.244.0.1");
		ipvs_put_dest(nlh, &d, true);
		/* Its own family counts, not the service's. */
		ck_assert(ipvs_get_dest(nlh, v6 ? AF_INET : AF_INET6, &got_d));
		ck_assert(ip_equal(&got_d.ip, &d.ip));
		ck_assert_uint_eq(got_d.port, 6443);
		ck_assert_uint_eq(got_d.weight, 7);
		ck_assert_int_eq(got_d.forward, IPVS_MASQ);
	}
}
END_TEST

START_TEST(test_outcome)
{
	static const struct {
		uint8_t cmd;
		int r, want;
	} rows[] = {
		{IPVS_CMD_NEW_SERVICE, -EEXIST, -EEXIST},
		{IPVS_CMD_NEW_SERVICE, -ENOENT, -ENOENT},
		{IPVS_CMD_SET_SERVICE, -ESRCH, -ENOENT},
		{IPVS_CMD_DEL_SERVICE, -ESRCH, 0},
		{IPVS_CMD_NEW_DEST, -ESRCH, -ENOENT},
		{IPVS_CMD_NEW_DEST, -EEXIST, -EEXIST},
		{IPVS_CMD_SET_DEST, -ENOENT, -ENOENT},
		{IPVS_CMD_DEL_DEST, -ENOENT, 0},
		{IPVS_CMD_DEL_DEST, -ESRCH, 0},
		{IPVS_CMD_DEL_DEST, -EPERM, -EPERM},
		{IPVS_CMD_NEW_DEST, 0, 0},
	};

	for (size_t i = 0; i < array_size(rows); i++)
		ck_assert_int_eq(ipvs_outcome(rows[i].cmd, rows[i].r), rows[i].want);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("proxy");
	Suite *s = suite_create("proxy");
	unsigned seed = (unsigned)time(NULL);
	SRunner *sr;
	int failed;

	printf("seed %u\n", seed);
	srand(seed);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_cases);
	tcase_add_test(tc, test_clash);
	tcase_add_test(tc, test_lacks);
	tcase_add_test(tc, test_cost);
	tcase_add_test(tc, test_large);
	tcase_add_test(tc, test_random);
	tcase_add_test(tc, test_owned);
	tcase_add_test(tc, test_torn);
	tcase_add_test(tc, test_reread_pause);
	tcase_add_test(tc, test_codec);
	tcase_add_test(tc, test_outcome);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
