/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lib/model: what is stored comes back byte by byte, selectors mean what Calico's mean, and what is
 * refused is refused by the name of its member.
 */
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "model/bgp.h"
#include "model/cluster.h"
#include "model/endpointslice.h"
#include "model/felixconfig.h"
#include "model/ippool.h"
#include "model/json.h"
#include "model/key.h"
#include "model/node.h"
#include "model/pod.h"
#include "model/resource.h"
#include "model/selector.h"
#include "model/service.h"
#include "model/wep.h"
#include "model/wep_brief.h"

#define META(name)                                                                   \
	"\"metadata\":{\"name\":\"" name                                             \
	"\",\"uid\":\"3f2a9c1e-7b4d-4e21-9a6c-0d5e8f713b42\",\"creationTimestamp\":" \
	"\"2026-08-01T12:00:00Z\"}"

static const char pool_text[] = "{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\"," META(
	"default-ipv4-ippool") ",\"spec\":{\"cidr\":\"10.244.0.0/16\",\"vxlanMode\":\"Never\",\"ipipMode\":\"Always\","
			       "\"natOutgoing\":true,\"blockSize\":26,\"nodeSelector\":\"all()\","
			       "\"allowedUses\":[\"Workload\",\"Tunnel\"],\"assignmentMode\":\"Automatic\"}}";

static const char node_text[] =
	"{\"kind\":\"Node\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":\"node-80\","
	"\"uid\":\"3f2a9c1e-7b4d-4e21-9a6c-0d5e8f713b42\",\"creationTimestamp\":"
	"\"2026-08-01T12:00:00Z\",\"labels\":{\"a\":\"1\",\"zone\":\"z\"}},"
	"\"spec\":{\"bgp\":{\"asNumber\":64512,\"ipv4Address\":\"10.130.29.80/24\","
	"\"ipv4IPIPTunnelAddr\":\"10.244.0.1\"},\"orchRefs\":[{\"nodeName\":\"node-80\","
	"\"orchestrator\":\"k8s\"}],\"addresses\":[{\"address\":\"10.130.29.80/24\","
	"\"type\":\"CalicoNodeIP\"}]},\"status\":{\"podCIDRs\":[\"10.1.0.0/24\"]}}";

static const char wep_text[] =
	"{\"kind\":\"WorkloadEndpoint\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
	"\"name\":\"node--80-k8s-web--0-eth0\",\"namespace\":\"default\",\"labels\":{"
	"\"app\":\"web\",\"projectcalico.org/namespace\":\"default\","
	"\"projectcalico.org/orchestrator\":\"k8s\"}},\"spec\":{\"orchestrator\":\"k8s\","
	"\"node\":\"node-80\",\"containerID\":\"0f3c1d\",\"pod\":\"web-0\",\"endpoint\":\"eth0\","
	"\"ipNetworks\":[\"10.244.0.140/32\"],\"ipNATs\":[{\"internalIP\":\"10.244.0.140\","
	"\"externalIP\":\"192.0.2.1\"}],\"profiles\":[\"kns.default\"],"
	"\"interfaceName\":\"cali0d7763386da\",\"mac\":\"02:00:00:00:00:01\",\"ports\":[{"
	"\"name\":\"http\",\"protocol\":\"TCP\",\"port\":80,\"hostPort\":0,\"hostIP\":\"\"}]}}";

static const char cluster_text[] =
	"{\"kind\":\"ClusterInformation\",\"apiVersion\":\"projectcalico.org/v3\"," META(
		"default") ",\"spec\":{\"clusterGUID\":\"0123456789abcdef0123456789abcdef\",\"clusterType\":\"k8s,bgp\","
			   "\"calicoVersion\":\"v3.30.0\",\"datastoreReady\":true,\"variant\":\"Calico\"}}";

#define ROUND_TRIP(type, json)                                                                   \
	do {                                                                                     \
		struct err err = ERR_INIT;                                                       \
		struct type *x = NULL;                                                           \
		char *back;                                                                      \
                                                                                                 \
		ck_assert_msg(                                                                   \
			type##_decode(NULL, json, strlen(json), &x, &err) == 0, "%s", err.text); \
		back = type##_encode(x, json);                                                   \
		ck_assert_str_eq(back, json);                                                    \
		free(back);                                                                      \
		type##_free(x);                                                                  \
	} while (0)

START_TEST(round_trips)
{
	ROUND_TRIP(ippool, pool_text);
	ROUND_TRIP(node, node_text);
	ROUND_TRIP(wep, wep_text);
	ROUND_TRIP(cluster_info, cluster_text);
}
END_TEST

START_TEST(without_a_base_all_known_members_are_written)
{
	struct prefix cidr;
	struct ippool *p;
	char *text;

	ck_assert_int_eq(prefix_parse("10.244.0.0/16", &cidr, NULL), 0);
	p = ippool_new("default-ipv4-ippool", &cidr);
	p->meta.uid = mem_strdup("3f2a9c1e-7b4d-4e21-9a6c-0d5e8f713b42");
	p->meta.created = mem_strdup("2026-08-01T12:00:00Z");
	p->ipip = ENCAP_ALWAYS;
	p->nat_outgoing = true;
	text = ippool_encode(p, NULL);
	ck_assert_str_eq(text, pool_text);
	free(text);
	ippool_free(p);
}
END_TEST

START_TEST(what_is_unset_is_taken_out_and_the_unknown_stays)
{
	static const char base[] =
		"{\"spec\":{\"bgp\":{\"ipv4Address\":\"10.0.0.1/24\",\"new\":1},\"other\":[2]},"
		"\"metadata\":{\"name\":\"a\"},\"status\":{}}";
	struct node *n;
	char *text;

	ck_assert_int_eq(node_decode(NULL, base, strlen(base), &n, NULL), 0);
	n->ipv4 = (struct prefix){0};
	vec_push(&n->addresses,
		(struct node_address){mem_strdup("10.0.0.2"), mem_strdup("InternalIP")});
	text = node_encode(n, base);
	ck_assert_str_eq(text,
		"{\"kind\":\"Node\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":\"a\"},"
		"\"spec\":{\"bgp\":{\"new\":1},\"addresses\":[{\"address\":\"10.0.0.2\",\"type\":"
		"\"InternalIP\"}],\"other\":[2]},\"status\":{}}");
	free(text);
	node_free(n);
}
END_TEST

START_TEST(json_is_printed_as_go_prints_it)
{
	static const char in[] =
		"{ \"a\" : \"x && y <z> \xe2\x80\xa8\xe2\x80\xa9 \xc3\xa9 \\\" / \\n\" }";
	struct err err = ERR_INIT;
	json_t *j = model_json_load("x", in, strlen(in), &err);
	char *text;

	ck_assert_ptr_nonnull(j);
	text = model_json_dump(j);
	ck_assert_str_eq(text,
		"{\"a\":\"x \\u0026\\u0026 y \\u003cz\\u003e \\u2028\\u2029 \xc3\xa9 \\\" / \\n\"}");
	free(text);
	json_decref(j);
}
END_TEST

START_TEST(json_is_bounded)
{
	struct err err = ERR_INIT;
	auto_strbuf sb = STRBUF_INIT;

	ck_assert_ptr_null(model_json_load("pool a", "[]", 2, &err));
	ck_assert_str_eq(err.text, "pool a: want a JSON object");
	ck_assert_ptr_null(model_json_load("pool a", "{\"a\":", 5, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "pool a: line 1, column"));
	strbuf_add(&sb, "{\"a\":");
	for (int i = 0; i < 100; i++)
		strbuf_addc(&sb, '[');
	for (int i = 0; i < 100; i++)
		strbuf_addc(&sb, ']');
	strbuf_addc(&sb, '}');
	ck_assert_ptr_null(model_json_load("pool a", sb.s, sb.len, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "nested more than 64"));
	ck_assert_ptr_null(model_json_load("pool a", sb.s, 2000000, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "2000000 bytes"));
}
END_TEST

START_TEST(keys)
{
	static const struct {
		enum kind kind;
		const char *ns, *name, *key;
	} t[] = {
		{KIND_IPPOOL, NULL, "a", "/calico/resources/v3/projectcalico.org/ippools/a"},
		{KIND_NODE, NULL, "node-80",
			"/calico/resources/v3/projectcalico.org/nodes/node-80"},
		{KIND_WORKLOADENDPOINT, "default", "n-k8s-p-eth0",
			"/calico/resources/v3/projectcalico.org/workloadendpoints/default/n-k8s-p-eth0"},
		{KIND_SERVICE, "kube-system", "dns", "/margay/v1/services/kube-system/dns"},
		{KIND_ENDPOINTSLICE, "d", "x", "/margay/v1/endpointslices/d/x"},
		{KIND_POD, "d", "x", "/margay/v1/pods/d/x"},
		{KIND_NAMESPACE, NULL, "x", "/margay/v1/namespaces/x"},
	};
	static const char *const bad[] = {"", "/",
		"/calico/resources/v3/projectcalico.org/ippools/",
		"/calico/resources/v3/projectcalico.org/ippools/a/b", "/calico/ipam/v2/config",
		"/margay/v1/services/a", "/margay/v1/services//a", "/margay/v1/services/a/",
		"/margay/v1/services/a/b/c",
		"/margay/v1/services/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/b"};
	struct key k;

	for (size_t i = 0; i < array_size(t); i++) {
		ck_assert_str_eq(key_str(t[i].kind, t[i].ns, t[i].name), t[i].key);
		ck_assert(key_parse(t[i].key, &k));
		ck_assert_int_eq(k.kind, t[i].kind);
		ck_assert_str_eq(k.ns, t[i].ns ? t[i].ns : "");
		ck_assert_str_eq(k.name, t[i].name);
	}
	for (size_t i = 0; i < array_size(bad); i++)
		ck_assert_msg(!key_parse(bad[i], &k), "%s", bad[i]);
	ck_assert_str_eq(
		key_prefix(KIND_SERVICE, "a", (char[KEY_SIZE]){0}), "/margay/v1/services/a/");
	ck_assert_str_eq(
		key_prefix(KIND_SERVICE, NULL, (char[KEY_SIZE]){0}), "/margay/v1/services/");
}
END_TEST

START_TEST(kinds)
{
	enum kind k;

	ck_assert(kind_find("ippool", &k) && k == KIND_IPPOOL);
	ck_assert(kind_find("IPPools", &k) && k == KIND_IPPOOL);
	ck_assert(kind_find("svc", &k) && k == KIND_SERVICE);
	ck_assert(kind_find("wep", &k) && k == KIND_WORKLOADENDPOINT);
	ck_assert(!kind_find("pods", &k));
	ck_assert(kind_of("Service", "v1", &k) && k == KIND_SERVICE);
	ck_assert(!kind_of("Service", "v2", &k));
	ck_assert(!kind_of("service", "v1", &k));
}
END_TEST

START_TEST(names_of_endpoints)
{
	char *name, buf[WEP_VETH_SIZE];
	struct err err;

	ck_assert_int_eq(wep_name("node-1", "k8s", "web-0", "eth0", &name, NULL), 0);
	ck_assert_str_eq(name, "node--1-k8s-web--0-eth0");
	free(name);
	ck_assert_int_eq(wep_name("n", "libnetwork", "x", "eth0", &name, NULL), 0);
	ck_assert_str_eq(name, "n-libnetwork-libnetwork-eth0");
	free(name);
	ck_assert_int_eq(wep_name("n", "k8s", "-a", "eth0", &name, &err), -EINVAL);
	ck_assert_int_eq(wep_name("n", "k8s", "", "eth0", &name, &err), -EINVAL);
	ck_assert_int_eq(wep_name("n", NULL, "a", "eth0", &name, &err), -EINVAL);
	ck_assert_str_eq(wep_veth_name("cali", "default.web-0", buf), "cali0d7763386da");
}
END_TEST

START_TEST(names_of_status_files)
{
#define WEPS "/calico/resources/v3/projectcalico.org/workloadendpoints/"
	static const struct {
		const char *key, *name;
	} cases[] = {
		{WEPS "default/n-k8s-pod-eth0", "k8s default%2Fpod eth0"},
		{WEPS "a-b/node--1-k8s-web--0.x-net--1", "k8s a-b%2Fweb-0.x net-1"},
		{WEPS "default/n-cni-0123-eth0", NULL},
		{WEPS "default/n-k8s-pod", NULL},
		{WEPS "default/n-k8s-pod-eth0-more", NULL},
		{WEPS "default/web-0", NULL},
		{"/calico/resources/v3/projectcalico.org/nodes/n-k8s-pod-eth0", NULL},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		auto_free char *name = wep_status_name_of(cases[i].key);

		if (cases[i].name)
			ck_assert_str_eq(name, cases[i].name);
		else
			ck_assert_ptr_null(name);
	}
}
END_TEST

/* Labels: a=1, b=two, in=x, q=say "hi" */
static const struct {
	const char *text, *canonical; /* canonical NULL: refused */
	bool matches;
} selectors[] = {
	{"", "all()", true},
	{" \t ", "all()", true},
	{"all()", "all()", true},
	{"all( )", "all()", true},
	{"global()", "global()", true},
	{"has(a)", "has(a)", true},
	{"has( z )", "has(z)", false},
	{"!has(a)", "!has(a)", false},
	{"!!has(a)", "has(a)", true},
	{"!!!has(a)", "!has(a)", false},
	{"a == '1'", "a == \"1\"", true},
	{"a=='1'", "a == \"1\"", true},
	{"a == \"2\"", "a == \"2\"", false},
	{"z == ''", "z == \"\"", false},
	{"a != '1'", "a != \"1\"", false},
	{"z != '1'", "z != \"1\"", true},
	{"a in {'1', '2'}", "a in {\"1\", \"2\"}", true},
	{"a in {'2','1','2',}", "a in {\"1\", \"2\"}", true},
	{"a in {}", "a in {}", false},
	{"z in {'1'}", "z in {\"1\"}", false},
	{"a not in {'1'}", "a not in {\"1\"}", false},
	{"a notin {'2'}", "a not in {\"2\"}", true},
	{"z not in {'1'}", "z not in {\"1\"}", true},
	{"in in {\"x\"}", "in in {\"x\"}", true},
	{"b contains 'w'", "b contains \"w\"", true},
	{"b contains'w'", "b contains \"w\"", true},
	{"b contains ''", "b contains \"\"", true},
	{"z contains ''", "z contains \"\"", false},
	{"b starts with 'tw'", "b starts with \"tw\"", true},
	{"b startswith 'wo'", "b starts with \"wo\"", false},
	{"b ends  with 'wo'", "b ends with \"wo\"", true},
	{"b endswith 'twoo'", "b ends with \"twoo\"", false},
	{"q == 'say \"hi\"'", "q == 'say \"hi\"'", true},
	{"a == '1' && b == 'two'", "(a == \"1\" && b == \"two\")", true},
	{"a == '2' && b == 'two' || has(in)", "((a == \"2\" && b == \"two\") || has(in))", true},
	{"a == '2' && (b == 'two' || has(in))", "(a == \"2\" && (b == \"two\" || has(in)))", false},
	{"!(a == '2' || has(z))", "!(a == \"2\" || has(z))", true},
	{"((a == '1'))", "a == \"1\"", true},
	{"all == 'x'", "all == \"x\"", false},
	{"has == 'x'", "has == \"x\"", false},
	{"projectcalico.org/x_-y != 'z'", "projectcalico.org/x_-y != \"z\"", true},
	{"a", NULL, false},
	{"a = '1'", NULL, false},
	{"a == 1", NULL, false},
	{"a == '1", NULL, false},
	{"a == '1' &", NULL, false},
	{"a == '1' &&", NULL, false},
	{"a == '1' | b == '2'", NULL, false},
	{"a == '1' b == '2'", NULL, false},
	{"(a == '1'", NULL, false},
	{"a == '1')", NULL, false},
	{"a in {,}", NULL, false},
	{"a in {'1' '2'}", NULL, false},
	{"a in '1'", NULL, false},
	{"a inn {'1'}", NULL, false},
	{"a ==\n'1'", NULL, false},
	{"has()", NULL, false},
	{"has (a)", NULL, false},
	{"all", NULL, false},
	{"!", NULL, false},
	{"a$ == '1'", NULL, false},
};

START_TEST(selector_table)
{
	struct labels l = {0};

	labels_set(&l, "q", "say \"hi\"");
	labels_set(&l, "in", "x");
	labels_set(&l, "a", "1");
	labels_set(&l, "b", "two");
	for (size_t i = 0; i < array_size(selectors); i++) {
		struct selector *s = NULL, *again = NULL;
		struct err err = ERR_INIT;
		int r = selector_parse(selectors[i].text, &s, &err);
		char *text;

		if (!selectors[i].canonical) {
			ck_assert_msg(r == -EINVAL, "%s", selectors[i].text);
			ck_assert(err.text[0] != '\0');
			continue;
		}
		ck_assert_msg(r == 0, "%s: %s", selectors[i].text, err.text);
		ck_assert_msg(
			selector_matches(s, &l) == selectors[i].matches, "%s", selectors[i].text);
		text = selector_format(s);
		ck_assert_str_eq(text, selectors[i].canonical);
		ck_assert_int_eq(selector_parse(text, &again, NULL), 0);
		ck_assert(selector_matches(again, &l) == selectors[i].matches);
		free(text);
		selector_free(s);
		selector_free(again);
	}
	labels_done(&l);
}
END_TEST

START_TEST(selectors_are_bounded)
{
	auto_strbuf sb = STRBUF_INIT;
	struct selector *s;

	for (int i = 0; i < 1000; i++)
		strbuf_addc(&sb, '(');
	ck_assert_int_eq(selector_parse(sb.s, &s, NULL), -EINVAL);
	strbuf_reset(&sb);
	for (int i = 0; i < 10000; i++)
		strbuf_addc(&sb, '!');
	ck_assert_int_eq(selector_parse(sb.s, &s, NULL), -EINVAL);
	strbuf_reset(&sb);
	for (int i = 0; i < 600; i++)
		strbuf_add(&sb, "has(a)||");
	strbuf_add(&sb, "has(a)");
	ck_assert_int_eq(selector_parse(sb.s, &s, NULL), -EINVAL);
}
END_TEST

/* Random selectors: the canonical text is a fixed point and means the same. */
START_TEST(canonical_text_means_the_same)
{
	static const char *const pieces[] = {"a", "b", "has(a)", "has(b)", "all()", "(", ")", "!",
		"&&", "||", " == ", " != ", " in ", " not in ", "{", "}", ",", "'1'", "'2'",
		" contains ", " starts with ", " ends with ", " "};
	unsigned seed = (unsigned)time(NULL), n_good = 0;
	struct labels sets[4] = {0};

	printf("seed %u\n", seed);
	srandom(seed);
	labels_set(&sets[1], "a", "1");
	labels_set(&sets[2], "b", "12");
	labels_set(&sets[3], "a", "2");
	labels_set(&sets[3], "b", "1");
	for (int round = 0; round < 200000; round++) {
		auto_strbuf sb = STRBUF_INIT;
		struct selector *s, *t;
		char *one, *two;
		int n = 1 + (int)(random() % 9);

		for (int i = 0; i < n; i++)
			strbuf_add(&sb, pieces[(size_t)random() % array_size(pieces)]);
		if (selector_parse(sb.s, &s, NULL) < 0)
			continue;
		n_good++;
		one = selector_format(s);
		ck_assert_msg(selector_parse(one, &t, NULL) == 0, "%s -> %s", sb.s, one);
		two = selector_format(t);
		ck_assert_str_eq(one, two);
		for (size_t i = 0; i < array_size(sets); i++)
			ck_assert_msg(
				selector_matches(s, &sets[i]) == selector_matches(t, &sets[i]),
				"%s", sb.s);
		free(one);
		free(two);
		selector_free(s);
		selector_free(t);
	}
	ck_assert_uint_gt(n_good, 1000);
	for (size_t i = 0; i < array_size(sets); i++)
		labels_done(&sets[i]);
}
END_TEST

#define LABEL_63 "a23456789012345678901234567890123456789012345678901234567890123"
static const struct {
	const char *name, *value;
	bool ok;
} label_texts[] = {
	{"app", "web", true},
	{"a", "", true},
	{"A.b_c-9", "X.y_z-9", true},
	{"projectcalico.org/namespace", "default", true},
	{"k8s.io/A", "1", true},
	{LABEL_63, LABEL_63, true},
	{LABEL_63 "x", "1", false},
	{"a", LABEL_63 "x", false},
	{"", "1", false},
	{"bad key!", "1", false},
	{"a", "x y/z", false},
	{"-a", "1", false},
	{"a", "x-", false},
	{"a", ".", false},
	{"/a", "1", false},
	{"a/", "1", false},
	{"a/b/c", "1", false},
	{"Upper.org/a", "1", false},
	{"a..b/c", "1", false},
	{"a.-b/c", "1", false},
	{"a-.b/c", "1", false},
	{"a_b/c", "1", false},
	{"\xc3\xa9", "1", false},
};

START_TEST(label_text)
{
	bool ok = label_name_ok(label_texts[_i].name) && label_value_ok(label_texts[_i].value);

	ck_assert_int_eq(ok, label_texts[_i].ok);
}
END_TEST

START_TEST(labels)
{
	unsigned seed = (unsigned)time(NULL);
	struct labels l = {0}, some = {0};
	const char *want[26] = {0};

	printf("seed %u\n", seed);
	srandom(seed);
	for (int i = 0; i < 5000; i++) {
		unsigned c = (unsigned)random() % 26;
		char name[2] = {(char)('a' + c), '\0'};

		want[c] = random() % 3 == 0 ? NULL : random() % 2 ? "x" : "y";
		labels_set(&l, name, want[c]);
		for (size_t k = 1; k < l.v.n; k++)
			ck_assert(strcmp(l.v.v[k - 1].name, l.v.v[k].name) < 0);
	}
	for (unsigned c = 0; c < 26; c++) {
		char name[2] = {(char)('a' + c), '\0'};

		ck_assert_pstr_eq(labels_get(&l, name), want[c]);
	}
	ck_assert(labels_cover(&l, &some));
	labels_set(&l, "a", "1");
	labels_set(&some, "a", "1");
	ck_assert(labels_cover(&l, &some));
	labels_set(&some, "a", "2");
	ck_assert(!labels_cover(&l, &some));
	labels_done(&l);
	labels_done(&some);
}
END_TEST

START_TEST(peers)
{
	static const struct {
		const char *ip;
		uint8_t family;
		uint16_t port;
	} t[] = {
		{"192.0.2.1", IP_V4, 0},
		{"192.0.2.1:1179", IP_V4, 1179},
		{"2001:db8::1", IP_V6, 0},
		{"[2001:db8::1]:1179", IP_V6, 1179},
		{"192.0.2.1:0", 0, 0},
		{"192.0.2.1:", 0, 0},
		{"[2001:db8::1]", 0, 0},
		{"tor", 0, 0},
	};
	struct bgp_peer *p;
	uint32_t as;

	for (size_t i = 0; i < array_size(t); i++) {
		auto_free char *text = mem_printf(
			"{\"metadata\":{\"name\":\"a\"},\"spec\":{\"peerIP\":\"%s\",\"asNumber\":\"1.10\","
			"\"keepOriginalNextHop\":true,\"maxRestartTime\":\"1m30s\"}}",
			t[i].ip);
		int r = bgp_peer_decode(NULL, text, strlen(text), &p, NULL);

		ck_assert_int_eq(r, t[i].family ? 0 : -EINVAL);
		if (r < 0)
			continue;
		ck_assert_int_eq(p->ip.family, t[i].family);
		ck_assert_int_eq(p->port, t[i].port);
		ck_assert_uint_eq(p->as, 65546);
		ck_assert_int_eq(p->next_hop, NEXT_HOP_KEEP);
		ck_assert_int_eq(p->restart_ms, 90000);
		bgp_peer_free(p);
	}
	ck_assert_int_eq(bgp_as_parse("4294967295", &as, NULL), 0);
	ck_assert_int_eq(bgp_as_parse("4294967296", &as, NULL), -EINVAL);
	ck_assert_int_eq(bgp_as_parse("65536.0", &as, NULL), -EINVAL);
	ck_assert_int_eq(bgp_as_parse("", &as, NULL), -EINVAL);
	ck_assert_int_eq(bgp_as_parse("1.", &as, NULL), -EINVAL);
}
END_TEST

START_TEST(services)
{
	static const char text[] =
		"{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"web\",\"namespace\":"
		"\"default\"},\"spec\":{\"type\":\"NodePort\",\"clusterIP\":\"10.96.0.5\",\"clusterIPs\":["
		"\"10.96.0.5\",\"fd00::5\"],\"selector\":{\"app\":\"web\"},\"sessionAffinity\":\"ClientIP\","
		"\"internalTrafficPolicy\":\"Cluster\",\"externalTrafficPolicy\":\"Local\",\"ports\":["
		"{\"name\":\"a\",\"port\":80,\"targetPort\":\"http\",\"nodePort\":30080},"
		"{\"name\":\"b\",\"protocol\":\"UDP\",\"port\":53}],\"loadBalancerSourceRanges\":["
		"\"10.1.0.0/16\"]},\"status\":{\"loadBalancer\":{\"ingress\":[{\"ip\":\"192.0.2.9\"},"
		"{\"ip\":\"192.0.2.8\",\"ipMode\":\"Proxy\"},{\"hostname\":\"x\"}]}}}";
	struct err err = ERR_INIT;
	struct service *s;
	char *back;

	ck_assert_msg(service_decode(
			      "/margay/v1/services/default/web", text, strlen(text), &s, &err) == 0,
		"%s", err.text);
	ck_assert_int_eq(s->type, SERVICE_NODE_PORT);
	ck_assert_uint_eq(s->cluster_ips.n, 2);
	ck_assert_uint_eq(s->ports.n, 2);
	ck_assert_str_eq(s->ports.v[0].target_name, "http");
	ck_assert_int_eq(s->ports.v[0].target_port, 0);
	ck_assert_int_eq(s->ports.v[0].node_port, 30080);
	ck_assert_int_eq(s->ports.v[0].protocol, IPPROTO_TCP);
	ck_assert_int_eq(s->ports.v[1].protocol, IPPROTO_UDP);
	ck_assert_int_eq(s->ports.v[1].target_port, 53);
	ck_assert(s->has_selector && !s->internal_local && s->external_local);
	ck_assert_uint_eq(s->affinity_s, 10800);
	ck_assert_uint_eq(s->lb_ips.n, 1);
	ck_assert_str_eq(ip_str(&s->lb_ips.v[0]), "192.0.2.9");
	back = service_encode(s, text);
	ck_assert_str_eq(back, text);
	free(back);
	service_free(s);
}
END_TEST

START_TEST(slices)
{
	static const char text[] =
		"{\"metadata\":{\"name\":\"web-x\",\"namespace\":\"default\",\"labels\":{"
		"\"kubernetes.io/service-name\":\"web\"}},\"addressType\":\"IPv4\",\"endpoints\":["
		"{\"addresses\":[\"10.0.0.1\"],\"conditions\":{\"ready\":false,\"terminating\":true},"
		"\"nodeName\":\"n\",\"targetRef\":{\"kind\":\"Pod\",\"namespace\":\"default\",\"name\":\"p\"},"
		"\"hints\":{\"forZones\":[{\"name\":\"z\"}]}},{\"addresses\":[\"10.0.0.2\"]}],"
		"\"ports\":[{\"name\":\"\",\"protocol\":\"UDP\",\"port\":53},{\"port\":null}]}";
	struct endpointslice *s;

	ck_assert_int_eq(endpointslice_decode(NULL, text, strlen(text), &s, NULL), 0);
	ck_assert_str_eq(s->service, "web");
	ck_assert_uint_eq(s->endpoints.n, 2);
	ck_assert(!s->endpoints.v[0].ready && s->endpoints.v[0].serving &&
		  s->endpoints.v[0].terminating);
	ck_assert(s->endpoints.v[1].ready && s->endpoints.v[1].serving);
	ck_assert_int_eq(s->ports.v[0].port, 53);
	ck_assert_int_eq(s->ports.v[1].port, 0);
	endpointslice_free(s);
}
END_TEST

START_TEST(pods_and_namespaces)
{
	static const char text[] =
		"{\"kind\":\"Pod\",\"metadata\":{\"name\":\"web-x\",\"generateName\":\"web-\","
		"\"namespace\":\"shop\",\"annotations\":{\"a\":\"b\"},\"deletionTimestamp\":"
		"\"2026-08-01T12:00:00Z\"},\"spec\":{\"nodeName\":\"n\",\"hostNetwork\":true,"
		"\"serviceAccountName\":\"sa\",\"containers\":[{\"name\":\"c\",\"ports\":["
		"{\"name\":\"http\",\"containerPort\":80,\"protocol\":\"TCP\"},{\"containerPort\":81},"
		"{\"containerPort\":53,\"hostPort\":5353,\"protocol\":\"UDP\",\"hostIP\":"
		"\"192.0.2.1\"}]}]},\"status\":{\"phase\":\"Failed\"}}";
	static const char bad[] = "{\"metadata\":{\"name\":\"x\"},\"spec\":{\"containers\":[{"
				  "\"ports\":[{\"containerPort\":70000}]}]}}";
	static const char ns_text[] =
		"{\"metadata\":{\"name\":\"shop\",\"labels\":{\"team\":\"x\"}}}";
	struct err err = ERR_INIT;
	struct namespace *n;
	struct pod *p;

	ck_assert_int_eq(pod_decode("/margay/v1/pods/shop/web-x", text, strlen(text), &p, &err), 0);
	ck_assert_str_eq(p->generate_name, "web-");
	ck_assert_str_eq(p->node, "n");
	ck_assert_str_eq(p->service_account, "sa");
	ck_assert_str_eq(labels_get(&p->meta.annotations, "a"), "b");
	ck_assert(p->host_network && p->meta.deleting && pod_is_finished(p));
	ck_assert_uint_eq(p->ports.n, 2);
	ck_assert_str_eq(p->ports.v[0].name, "http");
	ck_assert_int_eq(p->ports.v[1].protocol, IPPROTO_UDP);
	ck_assert_int_eq(p->ports.v[1].host_port, 5353);
	pod_free(p);
	ck_assert_int_eq(pod_decode("/margay/v1/pods/shop/x", bad, strlen(bad), &p, &err), -EINVAL);
	ck_assert_str_eq(err.text,
		"Pod shop/x: spec.containers[0].ports.containerPort: got 70000, want a number from "
		"0 to 65535");
	ck_assert_int_eq(
		namespace_decode("/margay/v1/namespaces/shop", ns_text, strlen(ns_text), &n, &err),
		0);
	ck_assert_str_eq(labels_get(&n->meta.labels, "team"), "x");
	namespace_free(n);
}
END_TEST

START_TEST(felix_settings)
{
	static const char text[] =
		"{\"metadata\":{\"name\":\"default\"},\"spec\":{\"ipipMTU\":1440,\"ipipEnabled\":true,"
		"\"logSeverityScreen\":\"Info\",\"bpfLogLevel\":\"\",\"routeTableRange\":{\"min\":1}}}";
	struct felix_config *c;

	ck_assert_int_eq(felix_config_decode(NULL, text, strlen(text), &c, NULL), 0);
	ck_assert_str_eq(felix_config_get(c, "ipipMTU"), "1440");
	ck_assert_str_eq(felix_config_get(c, "ipipEnabled"), "true");
	ck_assert_str_eq(felix_config_get(c, "logSeverityScreen"), "Info");
	ck_assert_ptr_null(felix_config_get(c, "bpfLogLevel"));
	ck_assert_ptr_null(felix_config_get(c, "routeTableRange"));
	felix_config_free(c);
}
END_TEST

/* Objects as a user writes them, and the words of the answer; NULL: they pass. */
static const struct {
	const char *text, *want;
} objects[] = {
#define POOL(spec)                                                                             \
	"{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":" \
	"\"p\"},\"spec\":{" spec "}}"
	{POOL("\"cidr\":\"10.1.0.0/16\""), NULL},
	{POOL("\"cidr\":\"10.1.0.0/16\",\"ipipMode\":\"CrossSubnet\",\"blockSize\":24"), NULL},
	{POOL("\"cidr\":\"fd00:1::/64\""), NULL},
	{POOL(""), "IPPool p: spec.cidr: want a prefix"},
	{POOL("\"cidr\":\"10.1.0.0\""), "spec.cidr: got \"10.1.0.0\", want a prefix"},
	{POOL("\"cidr\":\"10.1.0.1/16\""), "want 10.1.0.0/16, without bits beyond"},
	{POOL("\"cidr\":\"10.244.7.0/24\""), "no overlap with IPPool default-ipv4-ippool"},
	{POOL("\"cidr\":\"10.0.0.0/8\""), "no overlap with IPPool default-ipv4-ippool"},
	{POOL("\"cidr\":\"169.254.1.0/24\""), "link-local"},
	{POOL("\"cidr\":\"127.0.0.0/8\""),
		"spec.cidr: got \"127.0.0.0/8\", want no loopback, link-local or multicast"},
	{POOL("\"cidr\":\"::/120\""), "want no loopback, link-local or multicast"},
	{POOL("\"cidr\":\"224.1.0.0/16\""), "want no loopback, link-local or multicast"},
	{POOL("\"cidr\":\"ff00::/64\""), "want no loopback, link-local or multicast"},
	{POOL("\"cidr\":\"10.1.0.0/16\",\"blockSize\":33"),
		"spec.blockSize: got 33, want 20 to 32"},
	{POOL("\"cidr\":\"10.1.0.0/16\",\"blockSize\":19"), "20 to 32"},
	{POOL("\"cidr\":\"10.1.0.0/27\""), "at least one block of /26"},
	{POOL("\"cidr\":\"10.1.0.0/16\",\"ipipMode\":\"Always\",\"vxlanMode\":\"Always\""),
		"spec.vxlanMode: got \"Always\", want Never"},
	{POOL("\"cidr\":\"fd00:1::/64\",\"ipipMode\":\"Always\""), "IPIP carries IPv4 only"},
	{POOL("\"cidr\":\"10.1.0.0/16\",\"ipipMode\":\"Sometimes\""),
		"want one of Never, Always, CrossSubnet"},
	{POOL("\"cidr\":\"10.1.0.0/16\",\"nodeSelector\":\"a = 'b'\""),
		"spec.nodeSelector: want a selector"},
	{POOL("\"cidr\":\"10.1.0.0/16\",\"nodeSelector\":\"global()\""), "without global()"},
	{POOL("\"cidr\":\"10.1.0.0/16\",\"ipipmode\":\"Always\""), "spec.ipipmode: want one of"},
	{POOL("\"cidr\":\"10.1.0.0/16\",\"allowedUses\":[\"Workload\",\"LoadBalancer\"]"),
		"LoadBalancer alone"},
	{POOL("\"cidr\":\"10.1.0.0/16\",\"natOutgoing\":\"yes\""),
		"spec.natOutgoing: got \"yes\", want true or false"},
#define PEER(spec)                                                                              \
	"{\"kind\":\"BGPPeer\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":" \
	"\"p\"},\"spec\":{" spec "}}"
	{PEER("\"peerIP\":\"10.0.0.1\",\"asNumber\":64513"), NULL},
	{PEER("\"peerSelector\":\"rr == 'true'\",\"nodeSelector\":\"all()\""), NULL},
	{PEER("\"peerIP\":\"10.0.0.1\""), "spec.asNumber: want the peer's AS number"},
	{PEER("\"asNumber\":64513"), "spec.peerIP: want peerIP, peerSelector or"},
	{PEER("\"peerIP\":\"10.0.0.1\",\"asNumber\":64513,\"node\":\"a\",\"nodeSelector\":\"all()\""),
		"either node or nodeSelector"},
	{PEER("\"peerIP\":\"10.0.0.1\",\"asNumber\":4294967296"), "want an AS number"},
	{PEER("\"peerIP\":\"10.0.0.1\",\"asNumber\":1,\"reachableBy\":\"fd00::1\""), "family"},
#define BGPCONF(name, spec)                                                                     \
	"{\"kind\":\"BGPConfiguration\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{" \
	"\"name\":\"" name "\"},\"spec\":{" spec "}}"
	{BGPCONF("default", "\"asNumber\":64512"), NULL},
	{BGPCONF("node.a", "\"logSeverityScreen\":\"Debug\""), NULL},
	{BGPCONF("other", ""), "metadata.name: want \"default\" or \"node.NAME\", got \"other\""},
	{BGPCONF("node.a", "\"asNumber\":1"), "spec.asNumber: got 1, want it in BGPConfiguration"},
	{BGPCONF("default", "\"asNumber\":0"), "spec.asNumber: got 0, want 1 to"},
	{BGPCONF("default", "\"logSeverityScreen\":\"Bogus\""),
		"spec.logSeverityScreen: got \"Bogus\", want one of Trace, Debug, Info,"},
	{"{\"kind\":\"FelixConfiguration\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
	 "\"name\":\"default\"},\"spec\":{\"logSeverityScreen\":\"Bogus\"}}",
		"spec.logSeverityScreen: got \"Bogus\", want one of"},
	{PEER("\"peerIP\":\"10.0.0.1\",\"asNumber\":1,\"localASNumber\":0"),
		"spec.localASNumber: got 0, want 1 to"},
	{"{\"kind\":\"Node\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":\"a\"},"
	 "\"spec\":{\"bgp\":{\"asNumber\":\"0.0\"}}}",
		"Node a: spec.bgp.asNumber: got \"0.0\", want 1 to"},
	{BGPCONF("default", "\"communities\":[{\"name\":\"a\",\"value\":\"1:2\"}]"),
		"prefixAdvertisements"},
	{BGPCONF("default", "\"communities\":[{\"name\":\"a\",\"value\":\"1:70000\"}]"), "aa:nn"},
	{"{\"kind\":\"Node\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":\"a\"},"
	 "\"spec\":{\"bgp\":{\"ipv4Address\":\"10.0.0.1/33\"}}}",
		"Node a: spec.bgp.ipv4Address: got \"10.0.0.1/33\""},
	{"{\"kind\":\"Node\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":\"a\"},"
	 "\"spec\":{\"bgp\":{}}}",
		"spec.bgp: got {}"},
	{"{\"kind\":\"IPAMConfiguration\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
	 "\"name\":\"default\"},\"spec\":{\"strictAffinity\":false,\"autoAllocateBlocks\":false}}",
		"spec.autoAllocateBlocks"},
	{"{\"kind\":\"FelixConfiguration\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
	 "\"name\":\"default\"},\"spec\":{\"ipipMTU\":\"big\"}}",
		"spec.ipipMTU: got \"big\", want a number"},
	{"{\"kind\":\"WorkloadEndpoint\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
	 "\"name\":\"a-k8s-c-eth0\"},\"spec\":{\"node\":\"a\",\"orchestrator\":\"k8s\",\"pod\":\"b\","
	 "\"endpoint\":\"eth0\"}}",
		"metadata.name: want a-k8s-b-eth0"},
#define LABELED(labels)                                                                      \
	"{\"kind\":\"Node\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":" \
	"\"a\",\"labels\":{" labels "}}}"
	{LABELED("\"rack\":\"r1\",\"example.org/rack\":\"\""), NULL},
	{LABELED("\"rack\":\"r1\",\"my rack\":\"r1\""),
		"Node a: metadata.labels: want names as [prefix/]name, of 1 to 63 letters, digits and "
		"\"-_.\", first and last a letter or a digit, got \"my rack\""},
	{LABELED("\"\":\"r1\""), "Node a: metadata.labels: want names as"},
	{LABELED("\"rack\":\"r 1\""),
		"Node a: metadata.labels.rack: got \"r 1\", want at most 63 letters, digits and"},
	{LABELED("\"rack\":1"), "Node a: metadata.labels: got 1, want text as the value of rack"},
#define SVC(spec)                                                                                   \
	"{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"s\"},\"spec\":{" spec \
	"}}"
	{SVC("\"ports\":[{\"port\":80}]"), NULL},
	{SVC("\"clusterIP\":\"None\""), NULL},
	{SVC("\"type\":\"ExternalName\",\"externalName\":\"example.org\""), NULL},
	{SVC(""), "Service default/s: spec.ports: want at least one port"},
	{SVC("\"ports\":[{\"port\":0}]"),
		"spec.ports[0].port: got 0, want a number from 1 to 65535"},
	{SVC("\"ports\":[{\"port\":80},{\"port\":81}]"), "a name, as there are several ports"},
	{SVC("\"ports\":[{\"name\":\"a\",\"port\":80},{\"name\":\"b\",\"port\":80}]"),
		"spec.ports[1].port: want another port or protocol"},
	{SVC("\"clusterIP\":\"10.96.0\",\"ports\":[{\"port\":80}]"),
		"spec.clusterIP: got \"10.96.0\""},
	{"{\"kind\":\"EndpointSlice\",\"apiVersion\":\"discovery.k8s.io/v1\",\"metadata\":{\"name\":"
	 "\"s\"},\"addressType\":\"IPv4\"}",
		"kubernetes.io/service-name"},
	{"{\"kind\":\"EndpointSlice\",\"apiVersion\":\"discovery.k8s.io/v1\",\"metadata\":{\"name\":"
	 "\"s\",\"labels\":{\"kubernetes.io/service-name\":\"a\"}},\"addressType\":\"IPv4\","
	 "\"endpoints\":[{\"addresses\":[\"fd00::1\"]}]}",
		"EndpointSlice default/s: endpoints[0].addresses: got \"fd00::1\""},
	{"{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\"}}",
		"kind Pod of v1: no such kind"},
	{"{\"kind\":\"IPPool\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\"}}",
		"want IPPool of projectcalico.org/v3"},
	{"{\"apiVersion\":\"v1\"}", "kind: absent"},
	{"{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{}}",
		"IPPool: metadata.name: absent"},
	{"{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":\"a/b\"}}",
		"metadata.name: got \"a/b\""},
	{"{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":\"A\"}}",
		"metadata.name: got \"A\""},
	{"{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a.b\"}}",
		"metadata.name: got \"a.b\""},
};

static const uint8_t random16[16] = {0x3f, 0x2a, 0x9c, 0x1e, 0x7b, 0x4d, 0x1e, 0x21, 0x1a, 0x6c,
	0x0d, 0x5e, 0x8f, 0x71, 0x3b, 0x42};

/* As margayctl does it. */
static int prepare(const char *text, const char *old_text, char **ret, struct err *err)
{
	static const struct resource_other pools[] = {
		{"/calico/resources/v3/projectcalico.org/ippools/default-ipv4-ippool", pool_text}};
	static const struct resource_others others = {pools, 1};
	auto_(json) json_t *j = model_json_load("file", text, strlen(text), err);
	auto_(json) json_t *old =
		old_text ? model_json_load("old", old_text, strlen(old_text), err) : NULL;
	struct key key;
	int r = j ? resource_identify(j, "default", &key, err) : -EINVAL;

	if (r < 0)
		return r;
	resource_default(j, &key, old, random16, 1785585600123456789);
	r = resource_validate(j, &key, old, &others, err);
	if (r == 0 && ret)
		*ret = resource_encode(j, key.kind);
	return r;
}

START_TEST(validation)
{
	for (size_t i = 0; i < array_size(objects); i++) {
		struct err err = ERR_INIT;
		int r = prepare(objects[i].text, NULL, NULL, &err);

		if (!objects[i].want) {
			ck_assert_msg(r == 0, "%s: %s", objects[i].text, err.text);
			continue;
		}
		ck_assert_msg(r == -EINVAL, "%s", objects[i].text);
		ck_assert_msg(strstr(err.text, objects[i].want), "got: %s\nwant: %s", err.text,
			objects[i].want);
	}
}
END_TEST

START_TEST(a_pool_is_stored_as_calico_stores_it)
{
	struct err err = ERR_INIT;
	char *text = NULL;

	ck_assert_msg(
		prepare("{\"spec\":{\"natOutgoing\":true,\"cidr\":\"10.244.0.0/16\",\"ipipMode\":"
			"\"Always\"},\"metadata\":{\"resourceVersion\":\"7\",\"name\":"
			"\"default-ipv4-ippool\"},\"kind\":\"IPPool\",\"apiVersion\":"
			"\"projectcalico.org/v3\"}",
			NULL, &text, &err) == 0,
		"%s", err.text);
	ck_assert_str_eq(text, pool_text);
	free(text);
}
END_TEST

START_TEST(updates)
{
	struct err err = ERR_INIT;
	char *text = NULL;
	static const char svc[] =
		"{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"s\",\"uid\":\"u\","
		"\"creationTimestamp\":\"t\"},\"spec\":{\"type\":\"NodePort\",\"clusterIP\":"
		"\"10.96.0.7\",\"clusterIPs\":[\"10.96.0.7\"],\"ports\":[{\"port\":80,\"protocol\":"
		"\"TCP\",\"nodePort\":30001}]}}";

	ck_assert_int_eq(prepare(POOL("\"cidr\":\"10.1.0.0/16\""), POOL("\"cidr\":\"10.2.0.0/16\""),
				 NULL, &err),
		-EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "\"10.2.0.0/16\" as it was: it cannot change"));
	ck_assert_int_eq(prepare(POOL("\"cidr\":\"10.1.0.0/16\",\"blockSize\":24"),
				 POOL("\"cidr\":\"10.1.0.0/16\""), NULL, &err),
		-EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "spec.blockSize: got 24, want 26 as it was"));
	ck_assert_int_eq(prepare(POOL("\"cidr\":\"fd00:0::/64\""), POOL("\"cidr\":\"fd00::/64\""),
				 NULL, &err),
		0);
	/* What was stored before, by a newer Calico, is no typing error. */
	ck_assert_int_eq(prepare(POOL("\"cidr\":\"10.1.0.0/16\",\"brandNew\":1"),
				 POOL("\"cidr\":\"10.1.0.0/16\",\"brandNew\":2"), NULL, &err),
		0);
	ck_assert_msg(prepare(SVC("\"type\":\"NodePort\",\"ports\":[{\"port\":80},{\"port\":81}]"),
			      svc, NULL, &err) < 0,
		"ports without names");
	ck_assert_msg(prepare(SVC("\"type\":\"NodePort\",\"ports\":[{\"port\":80}]"), svc, &text,
			      &err) == 0,
		"%s", err.text);
	ck_assert_str_eq(text,
		"{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"s\",\"namespace\":"
		"\"default\",\"uid\":\"u\",\"creationTimestamp\":\"t\"},\"spec\":{\"type\":\"NodePort\","
		"\"ports\":[{\"port\":80,\"protocol\":\"TCP\",\"nodePort\":30001}],\"clusterIP\":"
		"\"10.96.0.7\",\"clusterIPs\":[\"10.96.0.7\"]}}");
	free(text);
	ck_assert_int_eq(prepare(SVC("\"clusterIP\":\"10.96.0.8\",\"ports\":[{\"port\":80}]"), svc,
				 NULL, &err),
		-EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "spec.clusterIP"));
}
END_TEST

/* What the allocator could not work with is refused as it is read. */
START_TEST(pools_have_blocks)
{
	static const struct {
		const char *spec, *want; /* NULL: it is a pool */
		int block_plen;
	} t[] = {
		{"\"cidr\":\"10.9.0.0/16\"", NULL, 26},
		{"\"cidr\":\"10.9.0.0/16\",\"blockSize\":20", NULL, 20},
		{"\"cidr\":\"10.9.0.0/16\",\"blockSize\":32", NULL, 32},
		{"\"cidr\":\"10.9.0.0/26\"", NULL, 26},
		{"\"cidr\":\"fd00::/64\",\"blockSize\":116", NULL, 116},
		{"\"cidr\":\"fd00::/64\",\"blockSize\":128", NULL, 128},
		{"\"cidr\":\"fd00::/64\"", NULL, 122},
		{"\"cidr\":\"10.9.0.0/28\",\"disabled\":true", NULL, 26},
		{"\"cidr\":\"10.9.0.0/16\",\"blockSize\":18", "got 18, want 20 to 32", 0},
		{"\"cidr\":\"10.9.0.0/16\",\"blockSize\":64", "got 64, want 20 to 32", 0},
		{"\"cidr\":\"10.9.0.0/16\",\"blockSize\":129", "got 129, want", 0},
		{"\"cidr\":\"fd00::/64\",\"blockSize\":26", "got 26, want 116 to 128", 0},
		{"\"cidr\":\"fd00::/64\",\"blockSize\":115", "got 115, want 116 to 128", 0},
		{"\"cidr\":\"10.9.0.0/28\"", "at least one block of /26", 0},
		{"\"cidr\":\"10.9.0.0/24\",\"blockSize\":20", "at least one block of /20", 0},
	};

	for (unsigned i = 0; i < array_size(t); i++) {
		auto_free char *text = mem_printf("{\"spec\":{%s}}", t[i].spec);
		struct err err = ERR_INIT;
		struct ippool *p = NULL;
		int r = ippool_decode(
			key_str(KIND_IPPOOL, NULL, "a"), text, strlen(text), &p, &err);

		if (!t[i].want) {
			ck_assert_msg(r == 0, "%s: %s", text, err.text);
			ck_assert_int_eq(p->block_plen, t[i].block_plen);
		} else {
			ck_assert_msg(r == -EINVAL, "%s: taken", text);
			ck_assert_msg(strstr(err.text, t[i].want) &&
					      strncmp(err.text, "IPPool a: spec.", 15) == 0,
				"%s", err.text);
		}
		ippool_free(p);
	}
}
END_TEST

/* A key's name wins over what the object says of itself, and the kind has to fit. */
START_TEST(the_key_names_the_object)
{
	static const char text[] = "{\"kind\":\"Node\",\"metadata\":{\"name\":\"b\"}}";
	struct err err = ERR_INIT;
	struct ippool *p;
	struct node *n;

	ck_assert_int_eq(
		node_decode(key_str(KIND_NODE, NULL, "a"), text, strlen(text), &n, &err), 0);
	ck_assert_str_eq(n->meta.name, "a");
	node_free(n);
	ck_assert_int_eq(
		ippool_decode(key_str(KIND_IPPOOL, NULL, "a"), text, strlen(text), &p, &err),
		-EINVAL);
	ck_assert_str_eq(err.text, "IPPool a: kind: got \"Node\", want IPPool");
	ck_assert_int_eq(ippool_decode(key_str(KIND_IPPOOL, NULL, "a"), "7", 1, &p, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "IPPool a: "));
}
END_TEST

/* ---- endpoints in brief ---- */

/* As the CNI plugin writes one, with more than one address. */
static const char plain_wep[] =
	"{\"kind\":\"WorkloadEndpoint\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
	"\"name\":\"n-k8s-web--0-eth0\",\"namespace\":\"default\",\"uid\":\"402a7d62\","
	"\"creationTimestamp\":\"2026-08-01T12:00:00Z\",\"labels\":{\"app\":\"web\"},"
	"\"annotations\":{}},\"spec\":{\"orchestrator\":\"k8s\",\"node\":\"n\",\"containerID\":\"0f\","
	"\"pod\":\"web-0\",\"endpoint\":\"eth0\",\"ipNetworks\":[\"10.244.0.140/32\",\"fd00::8c\"],"
	"\"profiles\":[\"kns.default\"],\"interfaceName\":\"cali0d7763386da\","
	"\"mac\":\"02:00:00:00:00:01\"}}";

/* True: it has read the text. Then the decoder must have found the same. */
static bool brief_agrees(const char *text, size_t len)
{
	struct wep_brief b;
	struct err err = ERR_INIT;
	struct wep *w;

	if (!wep_brief_read(text, len, &b))
		return false;
	ck_assert_msg(
		wep_decode(NULL, text, len, &w, &err) == 0, "%.*s: %s", (int)len, text, err.text);
	ck_assert_str_eq(b.node, w->node ? w->node : "");
	ck_assert_str_eq(b.interface, w->interface ? w->interface : "");
	ck_assert_str_eq(b.created, w->meta.created ? w->meta.created : "");
	ck_assert_uint_eq(b.n_networks, w->networks.n);
	for (size_t i = 0; i < b.n_networks; i++)
		ck_assert(prefix_equal(&b.networks[i], &w->networks.v[i]));
	wep_free(w);
	return true;
}

START_TEST(brief_reads_what_plugins_write)
{
	static const char spaced[] = " {\"metadata\" :{\"name\":\"a\"}\n}\t";
	static const char *const refused[] = {"", "{", "{}", "[]",
		"{\"metadata\":{\"name\":\"a\"},\"metadata\":{\"name\":\"b\"}}",
		"{\"metadata\":{\"name\":\"a\"},\"spec\":{\"node\":\"a\",\"node\":\"b\"}}",
		"{\"metadata\":{\"name\":\"a\"},\"spec\":{\"ipNetworks\":[\"10.0.0.0/24\"]}}",
		"{\"metadata\":{\"name\":\"a\"},\"spec\":{\"node\":\"\\u0061\"}}",
		"{\"metadata\":{\"name\":\"a\"},\"spec\":{\"interfaceName\":\"cali012345678901\"}}",
		"{\"metadata\":{\"name\":\"a\"},\"spec\":{\"ports\":[]}}",
		"{\"metadata\":{\"name\":\"a\"}} x",
		"{\"kind\":\"Node\",\"metadata\":{\"name\":\"a\"}}"};
	struct wep *w;
	char *text;

	ck_assert(brief_agrees(plain_wep, strlen(plain_wep)));
	ck_assert(brief_agrees(spaced, strlen(spaced)));
	ck_assert_int_eq(wep_decode(NULL, plain_wep, strlen(plain_wep), &w, NULL), 0);
	text = wep_encode(w, NULL);
	ck_assert(brief_agrees(text, strlen(text)));
	free(text);
	wep_free(w);
	for (size_t i = 0; i < array_size(refused); i++)
		ck_assert_msg(!brief_agrees(refused[i], strlen(refused[i])), "%s", refused[i]);
}
END_TEST

/* Texts that are a few bytes from a good one. */
START_TEST(brief_never_reads_what_the_decoder_does_not)
{
	static const char bytes[] = "{}[]\",:/.\\ \n\t0123456789abcdefnull\x01\x7f\xc3";
	unsigned seed = (unsigned)time(NULL), n_read = 0;

	printf("seed %u\n", seed);
	srandom(seed);
	for (int i = 0; i < 20000; i++) {
		char text[2 * sizeof(plain_wep)];
		size_t len = sizeof(plain_wep) - 1;

		memcpy(text, plain_wep, len);
		for (long n = random() % 3; n >= 0; n--) {
			size_t at = (size_t)random() % len, from = (size_t)random() % len, size;

			switch (random() % 4) {
			case 0:
				text[at] = bytes[(size_t)random() % (sizeof(bytes) - 1)];
				break;
			case 1:
				memmove(text + at, text + at + 1, --len - at);
				break;
			case 2:
				memmove(text + at + 1, text + at, len++ - at);
				text[at] = bytes[(size_t)random() % (sizeof(bytes) - 1)];
				break;
			default: /* a piece of it moves elsewhere, over what is there */
				size = (size_t)random() % 40;
				if (at + size < len && from + size < len)
					memmove(text + at, text + from, size);
			}
		}
		n_read += brief_agrees(text, len);
	}
	printf("%u of 20000 were read\n", n_read);
	ck_assert_uint_gt(n_read, 1000);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("model");
	TCase *tc = tcase_create("model");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, tc);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, round_trips);
	tcase_add_test(tc, without_a_base_all_known_members_are_written);
	tcase_add_test(tc, what_is_unset_is_taken_out_and_the_unknown_stays);
	tcase_add_test(tc, json_is_printed_as_go_prints_it);
	tcase_add_test(tc, json_is_bounded);
	tcase_add_test(tc, keys);
	tcase_add_test(tc, kinds);
	tcase_add_test(tc, names_of_endpoints);
	tcase_add_test(tc, names_of_status_files);
	tcase_add_test(tc, brief_reads_what_plugins_write);
	tcase_add_test(tc, brief_never_reads_what_the_decoder_does_not);
	tcase_add_test(tc, selector_table);
	tcase_add_test(tc, selectors_are_bounded);
	tcase_add_test(tc, canonical_text_means_the_same);
	tcase_add_loop_test(tc, label_text, 0, array_size(label_texts));
	tcase_add_test(tc, labels);
	tcase_add_test(tc, peers);
	tcase_add_test(tc, services);
	tcase_add_test(tc, slices);
	tcase_add_test(tc, pods_and_namespaces);
	tcase_add_test(tc, felix_settings);
	tcase_add_test(tc, validation);
	tcase_add_test(tc, a_pool_is_stored_as_calico_stores_it);
	tcase_add_test(tc, updates);
	tcase_add_test(tc, pools_have_blocks);
	tcase_add_test(tc, the_key_names_the_object);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed > 0;
}
