/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which endpoints a Service has, case by case; and that whatever happens in whatever order, the
 * Services named as changed are those that changed, measured against a naive reading of everything.
 */
#include "model/endpoints.h"

#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "model/endpointslice.h"
#include "model/service.h"
#include "model/wep.h"

static struct service *service(const char *ns, const char *name, const char *spec)
{
	struct service *s = NULL;
	struct err err = ERR_INIT;
	auto_free char *text = mem_printf(
		"{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"%s\","
		"\"namespace\":\"%s\"},\"spec\":{%s}}",
		name, ns, spec);

	ck_assert_msg(
		service_decode(NULL, text, strlen(text), &s, &err) == 0, "%s: %s", text, err.text);
	return s;
}

static struct endpointslice *slice(const char *ns, const char *name, const char *of,
	const char *family, const char *endpoints, const char *ports)
{
	struct endpointslice *s = NULL;
	struct err err = ERR_INIT;
	auto_free char *text = mem_printf(
		"{\"kind\":\"EndpointSlice\",\"apiVersion\":\"discovery.k8s.io/v1\",\"metadata\":{"
		"\"name\":\"%s\",\"namespace\":\"%s\",\"labels\":{\"%s\":\"%s\"}},"
		"\"addressType\":\"%s\",\"endpoints\":[%s],\"ports\":[%s]}",
		name, ns, of ? LABEL_SERVICE_NAME : "x", of ? of : "x", family, endpoints, ports);

	ck_assert_msg(endpointslice_decode(NULL, text, strlen(text), &s, &err) == 0, "%s: %s", text,
		err.text);
	return s;
}

static struct wep *wep(const char *ns, const char *name, const char *labels, const char *spec)
{
	struct wep *w = NULL;
	struct err err = ERR_INIT;
	auto_free char *text = mem_printf(
		"{\"kind\":\"WorkloadEndpoint\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"%s\",\"namespace\":\"%s\",\"labels\":{%s}},\"spec\":{\"node\":\"n1\","
		"\"pod\":\"%s\",%s}}",
		name, ns, labels, name, spec);

	ck_assert_msg(
		wep_decode(NULL, text, strlen(text), &w, &err) == 0, "%s: %s", text, err.text);
	return w;
}

static void on_changed(void *arg, const char *ns, const char *name)
{
	struct strbuf *sb = arg;

	strbuf_addf(sb, "%s/%s ", ns, name);
}

/* "port: ip:port[!ready][T]" of each port. */
static char *text_of(const struct endpoints *e, const struct service *s)
{
	struct service_endpoints se = {0};
	struct strbuf sb = STRBUF_INIT;

	for (size_t i = 0; i < s->ports.n; i++) {
		endpoints_of_port(e, s, &s->ports.v[i], &se);
		ck_assert_ptr_eq(se.port, &s->ports.v[i]);
		strbuf_addf(&sb, "%s:", s->ports.v[i].name);
		for (size_t k = 0; k < se.v.n; k++) {
			const struct service_endpoint *x = &se.v.v[k];

			strbuf_addf(&sb, " %s:%u%s%s", ip_str(&x->ip), x->port, x->ready ? "" : "!",
				x->terminating ? "T" : "");
		}
		strbuf_addc(&sb, ';');
	}
	service_endpoints_done(&se);
	return strbuf_take(&sb);
}

static void expect(const struct endpoints *e, const char *name, const char *want)
{
	const struct service *s = endpoints_service(e, "ns", name);
	auto_free char *have = NULL;

	ck_assert_ptr_nonnull(s);
	have = text_of(e, s);
	ck_assert_str_eq(have, want);
}

#define EP(ip) "{\"addresses\":[\"" ip "\"]}"
#define PORT(name, port, proto) \
	"{\"name\":\"" name "\",\"port\":" #port ",\"protocol\":\"" proto "\"}"

START_TEST(test_slices)
{
	struct strbuf changed = STRBUF_INIT;
	auto_(endpoints) struct endpoints *e = endpoints_new(true, on_changed, &changed);
	auto_(service) struct service *s = service("ns", "s",
		"\"ports\":[{\"name\":\"a\",\"port\":80},{\"name\":\"u\",\"port\":53,\"protocol\":"
		"\"UDP\"}]");
	auto_(service) struct service *not_ready = service("ns", "s",
		"\"publishNotReadyAddresses\":true,\"ports\":[{\"name\":\"a\",\"port\":80}]");
	auto_(endpointslice) struct endpointslice *one = slice("ns", "one", "s", "IPv4",
		EP("10.0.0.2") "," EP(
			"10.0.0.1") ",{\"addresses\":[\"10.0.0.9\"],\"conditions\":{"
				    "\"ready\":false,\"serving\":true,\"terminating\":true}}",
		PORT("a", 8080, "TCP") "," PORT("u", 5353, "UDP") "," PORT("a", 1, "UDP"));
	/* The same address again, ready here; another port of the same name; another family. */
	auto_(endpointslice) struct endpointslice *two = slice("ns", "two", "s", "IPv4",
		EP("10.0.0.9") "," EP("10.0.0.1"), PORT("a", 8080, "TCP"));
	auto_(endpointslice) struct endpointslice *three =
		slice("ns", "three", "s", "IPv4", EP("10.0.0.1"), PORT("a", 9090, "TCP"));
	auto_(endpointslice) struct endpointslice *v6 =
		slice("ns", "v6", "s", "IPv6", EP("fd00::1"), PORT("a", 8080, "TCP"));
	auto_(endpointslice) struct endpointslice *other =
		slice("other", "one", "s", "IPv4", EP("10.9.9.9"), PORT("a", 8080, "TCP"));
	auto_(endpointslice) struct endpointslice *nobody =
		slice("ns", "nobody", NULL, "IPv4", EP("10.9.9.9"), PORT("a", 8080, "TCP"));
	auto_(endpointslice) struct endpointslice *moved =
		slice("ns", "one", "t", "IPv4", EP("10.0.0.2"), PORT("a", 8080, "TCP"));

	endpoints_on_slice(e, NULL, one); /* before its Service */
	ck_assert_str_eq(strbuf_str(&changed), "");
	endpoints_on_service(e, NULL, s);
	expect(e, "s",
		"a: 10.0.0.1:8080 10.0.0.2:8080 10.0.0.9:8080!T;u: 10.0.0.1:5353 "
		"10.0.0.2:5353 10.0.0.9:5353!T;");
	endpoints_on_slice(e, NULL, two);
	endpoints_on_slice(e, NULL, three);
	endpoints_on_slice(e, NULL, v6);
	endpoints_on_slice(e, NULL, other);
	endpoints_on_slice(e, NULL, nobody);
	expect(e, "s",
		"a: 10.0.0.1:8080 10.0.0.1:9090 10.0.0.2:8080 10.0.0.9:8080 fd00::1:8080;"
		"u: 10.0.0.1:5353 10.0.0.2:5353 10.0.0.9:5353!T;");
	strbuf_reset(&changed);
	endpoints_on_slice(e, one, moved);
	ck_assert_str_eq(strbuf_str(&changed), "ns/s ");
	endpoints_on_slice(e, two, NULL);
	endpoints_on_slice(e, v6, NULL);
	expect(e, "s", "a: 10.0.0.1:9090;u:;");
	endpoints_on_slice(e, moved, one);
	endpoints_on_service(e, s, not_ready);
	expect(e, "s", "a: 10.0.0.1:8080 10.0.0.1:9090 10.0.0.2:8080 10.0.0.9:8080T;");
	strbuf_reset(&changed);
	endpoints_on_service(e, not_ready, NULL);
	ck_assert_str_eq(strbuf_str(&changed), "ns/s ");
	ck_assert_ptr_null(endpoints_service(e, "ns", "s"));
	strbuf_done(&changed);
}
END_TEST

#define NET(ip) "\"ipNetworks\":[\"" ip "\"]"

START_TEST(test_weps)
{
	struct strbuf changed = STRBUF_INIT;
	auto_(endpoints) struct endpoints *e = endpoints_new(true, on_changed, &changed);
	auto_(endpoints) struct endpoints *kube = endpoints_new(false, on_changed, &changed);
	auto_(service) struct service *web = service("ns", "web",
		"\"selector\":{\"app\":\"web\",\"tier\":\"x\"},\"ports\":[{\"name\":\"n\",\"port\":80,"
		"\"targetPort\":\"http\"},{\"name\":\"p\",\"port\":81,\"targetPort\":8081},"
		"{\"name\":\"q\",\"port\":82}]");
	auto_(service) struct service *none = service("ns", "none", "\"ports\":[{\"port\":80}]");
	auto_(wep) struct wep *a = wep("ns", "a", "\"app\":\"web\",\"tier\":\"x\",\"z\":\"1\"",
		"\"ipNetworks\":[\"10.0.0.1/32\",\"10.0.0.2/32\",\"fd00::1/128\"],\"ports\":[{\"name\":"
		"\"http\",\"protocol\":\"UDP\",\"port\":9},{\"name\":\"http\",\"protocol\":\"TCP\","
		"\"port\":8080}]");
	auto_(wep) struct wep *b =
		wep("ns", "b", "\"app\":\"web\",\"tier\":\"x\"", NET("10.0.0.3/32"));
	auto_(wep) struct wep *half = wep("ns", "half", "\"app\":\"web\"", NET("10.0.0.4/32"));
	auto_(wep) struct wep *other =
		wep("other", "b", "\"app\":\"web\",\"tier\":\"x\"", NET("10.0.0.5/32"));
	auto_(wep) struct wep *half_now =
		wep("ns", "half", "\"app\":\"web\",\"tier\":\"x\"", NET("10.0.0.4/32"));

	endpoints_on_service(e, NULL, web);
	endpoints_on_service(e, NULL, none);
	strbuf_reset(&changed);
	endpoints_on_wep(e, NULL, half);
	endpoints_on_wep(e, NULL, other);
	ck_assert_str_eq(strbuf_str(&changed), ""); /* none of anybody's */
	endpoints_on_wep(e, NULL, a);
	endpoints_on_wep(e, NULL, b);
	expect(e, "web",
		"n: 10.0.0.1:8080 fd00::1:8080;p: 10.0.0.1:8081 10.0.0.3:8081 fd00::1:8081;"
		"q: 10.0.0.1:82 10.0.0.3:82 fd00::1:82;");
	expect(e, "none", ":;");
	strbuf_reset(&changed);
	endpoints_on_wep(e, half, half_now);
	ck_assert_str_eq(strbuf_str(&changed), "ns/web ");
	endpoints_on_wep(e, a, NULL);
	expect(e, "web", "n:;p: 10.0.0.3:8081 10.0.0.4:8081;q: 10.0.0.3:82 10.0.0.4:82;");
	/* Where Kubernetes makes slices, its word is all. */
	endpoints_on_service(kube, NULL, web);
	endpoints_on_wep(kube, NULL, b);
	expect(kube, "web", "n:;p:;q:;");
	strbuf_done(&changed);
}
END_TEST

/* ---- at random ---- */

enum { N_SERVICES = 8, N_SLICES = 8, N_WEPS = 16 };

static struct world {
	struct endpoints *e;
	struct service *services[N_SERVICES];
	struct endpointslice *slices[N_SLICES];
	struct wep *weps[N_WEPS];
	char *seen[N_SERVICES]; /* as of the last time it was named */
} w;

static const char *ns_of(int i)
{
	return i % 2 ? "a" : "b";
}

static void on_named(void *arg, const char *ns, const char *name)
{
	int i = atoi(name + 1);

	(void)arg;
	ck_assert_str_eq(ns, ns_of(i));
	free(take_ptr(w.seen[i]));
}

/* By walking everything. */
static char *naive(const struct service *s)
{
	struct strbuf sb = STRBUF_INIT;

	for (size_t p = 0; p < s->ports.n; p++) {
		bool has[256] = {false};

		for (int i = 0; i < N_SLICES; i++) {
			const struct endpointslice *sl = w.slices[i];

			if (!sl || !sl->service || strcmp(sl->service, s->meta.name) != 0 ||
				strcmp(sl->meta.ns, s->meta.ns) != 0)
				continue;
			for (size_t k = 0; k < sl->endpoints.n; k++)
				has[sl->endpoints.v[k].ip.b[3]] = true;
		}
		for (int i = 0; i < N_WEPS; i++) {
			const struct wep *x = w.weps[i];

			if (x && s->selector.v.n > 0 && strcmp(x->meta.ns, s->meta.ns) == 0 &&
				labels_cover(&x->meta.labels, &s->selector))
				has[x->networks.v[0].addr.b[3]] = true;
		}
		strbuf_addf(&sb, "%s:", s->ports.v[p].name);
		for (int i = 0; i < 256; i++)
			if (has[i])
				strbuf_addf(&sb, " 10.0.0.%d:80", i);
		strbuf_addc(&sb, ';');
	}
	return strbuf_take(&sb);
}

static void random_service(int i)
{
	static const char *const selectors[] = {"", "\"selector\":{\"x\":\"0\"},",
		"\"selector\":{\"x\":\"1\",\"y\":\"0\"},", "\"selector\":{\"y\":\"1\"},"};
	struct service *old = w.services[i];
	auto_free char *name = mem_printf("s%d", i);
	auto_free char *spec = mem_printf("%s\"ports\":[{\"port\":80}]", selectors[rand() % 4]);

	w.services[i] = rand() % 3 ? service(ns_of(i), name, spec) : NULL;
	if (old || w.services[i])
		endpoints_on_service(w.e, old, w.services[i]);
	service_free(old);
}

static void random_slice(int i)
{
	struct endpointslice *old = w.slices[i];
	auto_free char *name = mem_printf("e%d", i), *of = mem_printf("s%d", rand() % N_SERVICES);
	auto_free char *eps =
		mem_printf("{\"addresses\":[\"10.0.0.%d\"]},{\"addresses\":[\"10.0.0.%d\"]}",
			rand() % 20, rand() % 20);

	w.slices[i] = rand() % 3 ? slice(ns_of(i), name, of, "IPv4", eps,
					   "{\"name\":\"\",\"port\":80,\"protocol\":\"TCP\"}")
				 : NULL;
	if (old || w.slices[i])
		endpoints_on_slice(w.e, old, w.slices[i]);
	endpointslice_free(old);
}

static void random_wep(int i)
{
	struct wep *old = w.weps[i];
	auto_free char *name = mem_printf("w%d", i);
	auto_free char *labels = mem_printf("\"x\":\"%d\",\"y\":\"%d\"", rand() % 2, rand() % 2);
	auto_free char *net = mem_printf("\"ipNetworks\":[\"10.0.0.%d/32\"]", rand() % 20);

	w.weps[i] = rand() % 3 ? wep(ns_of(i), name, labels, net) : NULL;
	if (old || w.weps[i])
		endpoints_on_wep(w.e, old, w.weps[i]);
	wep_free(old);
}

START_TEST(test_random)
{
	w.e = endpoints_new(true, on_named, NULL);
	for (int n = 0; n < 20000; n++) {
		int what = rand() % 4;

		if (what == 0)
			random_service(rand() % N_SERVICES);
		else if (what == 1)
			random_slice(rand() % N_SLICES);
		else
			random_wep(rand() % N_WEPS);
		for (int i = 0; i < N_SERVICES; i++) {
			auto_free char *name = mem_printf("s%d", i), *want = NULL;

			ck_assert_ptr_eq(endpoints_service(w.e, ns_of(i), name), w.services[i]);
			if (!w.services[i])
				continue;
			if (!w.seen[i])
				w.seen[i] = text_of(w.e, w.services[i]);
			want = naive(w.services[i]);
			ck_assert_msg(strcmp(w.seen[i], want) == 0, "step %d: %s: %s, want %s", n,
				name, w.seen[i], want);
		}
	}
	for (int i = 0; i < N_SERVICES; i++)
		free(w.seen[i]);
	endpoints_free(w.e);
	for (int i = 0; i < N_SERVICES; i++)
		service_free(w.services[i]);
	for (int i = 0; i < N_SLICES; i++)
		endpointslice_free(w.slices[i]);
	for (int i = 0; i < N_WEPS; i++)
		wep_free(w.weps[i]);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("endpoints");
	Suite *s = suite_create("endpoints");
	unsigned seed = (unsigned)time(NULL);
	SRunner *sr;
	int failed;

	printf("seed %u\n", seed);
	srand(seed);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_slices);
	tcase_add_test(tc, test_weps);
	tcase_add_test(tc, test_random);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
