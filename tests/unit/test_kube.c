/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The Kubernetes driver's pure parts: keys to objects, and values to what the API has, both ways. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "model/json.h"
#include "store/kube_config.h"
#include "store/kube_key.h"
#include "store/kube_list.h"
#include "store/kube_object.h"
#include "store/store.h"

#define RESOURCES "/calico/resources/v3/projectcalico.org/"
#define IPAM "/calico/ipam/v2/"

static struct err err;

static struct kube_key parse(const char *key)
{
	struct kube_key k;

	ck_assert_msg(kube_key_parse(key, &k, &err) == 0, "%s", err.text);
	return k;
}

START_TEST(keys_name_objects)
{
	static const struct {
		const char *key, *v1, *v3;
	} cases[] = {
		{RESOURCES "ippools/a", "/apis/crd.projectcalico.org/v1/ippools/a",
			"/apis/projectcalico.org/v3/ippools/a"},
		{RESOURCES "networkpolicies/ns/a.b",
			"/apis/crd.projectcalico.org/v1/namespaces/ns/networkpolicies/a.b",
			"/apis/projectcalico.org/v3/namespaces/ns/networkpolicies/a.b"},
		{IPAM "assignment/ipv4/block/10.244.0.0-26",
			"/apis/crd.projectcalico.org/v1/ipamblocks/10-244-0-0-26",
			"/apis/projectcalico.org/v3/ipamblocks/10-244-0-0-26"},
		{IPAM "assignment/ipv6/block/2001:db8::-122",
			"/apis/crd.projectcalico.org/v1/ipamblocks/2001-db8---122", NULL},
		{IPAM "host/node1/ipv4/block/10.244.66.128-29",
			"/apis/crd.projectcalico.org/v1/blockaffinities/node1-10-244-66-128-29",
			NULL},
		{IPAM "virtual/load-balancer/ipv4/block/10.0.0.0-29",
			"/apis/crd.projectcalico.org/v1/blockaffinities/load-balancer-10-0-0-0-29",
			NULL},
		{IPAM "handle/K8s-Pod-Network.0F",
			"/apis/crd.projectcalico.org/v1/ipamhandles/"
			"k8s-pod-network.0f",
			NULL},
		/* Of what is no name there, the end is printf '%s' HANDLE | sha256sum | cut -c-11. */
		{IPAM "handle/net.0f3c1d:net1",
			"/apis/crd.projectcalico.org/v1/ipamhandles/"
			"h-net-0f3c1d-net1-3277138d5a5",
			NULL},
		{IPAM "handle/My_Network.0f3c1d",
			"/apis/crd.projectcalico.org/v1/ipamhandles/"
			"h-my-network-0f3c1d-94c1897d7f8",
			NULL},
		{IPAM "handle/-a.", "/apis/crd.projectcalico.org/v1/ipamhandles/h--a--ac2de36c602",
			NULL},
		{IPAM "handle/a..b",
			"/apis/crd.projectcalico.org/v1/ipamhandles/h-a--b-f62b42414c5", NULL},
		{IPAM "handle/a-.b",
			"/apis/crd.projectcalico.org/v1/ipamhandles/h-a--b-e3774d95d8b", NULL},
		{IPAM "config", "/apis/crd.projectcalico.org/v1/ipamconfigs/default",
			"/apis/projectcalico.org/v3/ipamconfigurations/default"},
		{RESOURCES "ipamconfigurations/default",
			"/apis/crd.projectcalico.org/v1/ipamconfigs/default",
			"/apis/projectcalico.org/v3/ipamconfigurations/default"},
		{RESOURCES "nodes/n1", "/api/v1/nodes/n1", "/api/v1/nodes/n1"},
		{RESOURCES "profiles/kns.default", "/api/v1/namespaces/default", NULL},
		{RESOURCES "profiles/ksa.ns.a.b", "/api/v1/namespaces/ns/serviceaccounts/a.b",
			NULL},
		{RESOURCES "bgpconfigurations/node.n1.example",
			"/apis/crd.projectcalico.org/v1/bgpconfigurations/node.n1.example", NULL},
		{RESOURCES "workloadendpoints/ns/node--1-k8s-web--0.x-eth0",
			"/api/v1/namespaces/ns/pods/web-0.x", NULL},
		{"/margay/v1/services/ns/s", "/api/v1/namespaces/ns/services/s", NULL},
		{"/margay/v1/endpointslices/ns/s",
			"/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices/s", NULL},
		{"/margay/v1/networkpolicies/ns/s",
			"/apis/networking.k8s.io/v1/namespaces/ns/networkpolicies/s", NULL},
		{"/margay/v1/pods/ns/s", "/api/v1/namespaces/ns/pods/s", NULL},
		{"/margay/v1/namespaces/ns", "/api/v1/namespaces/ns", NULL},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		struct kube_key k = parse(cases[i].key);
		auto_free char *v1 = kube_path(k.kind, KUBE_CRD_V1, k.ns, k.name);
		auto_free char *v3 = kube_path(k.kind, KUBE_NATIVE_V3, k.ns, k.name);

		ck_assert_str_eq(v1, cases[i].v1);
		if (cases[i].v3)
			ck_assert_str_eq(v3, cases[i].v3);
	}
}
END_TEST

START_TEST(keys_of_no_object_are_refused)
{
	static const char *const keys[] = {
		"/a",
		"/calico/v1/Ready",
		RESOURCES "ippools/",
		RESOURCES "ippools/a/b",
		RESOURCES "ippools/..",
		RESOURCES "ippools/a?x=1",
		RESOURCES "ippools/A",
		RESOURCES "ippools/a%2fb",
		RESOURCES "networkpolicies/a",
		RESOURCES "networkpolicies/n?s/a",
		RESOURCES "profiles/projectcalico-default-allow",
		RESOURCES "profiles/ksa.default",
		RESOURCES "profiles/ksa..a",
		IPAM "handle/",
		IPAM "handle/a/b",
		IPAM "handle/a b",
		IPAM "handle/\xff",
		RESOURCES "workloadendpoints/ns/n-cni-abc-eth0",
		RESOURCES "workloadendpoints/ns/n-k8s-a-net1",
		RESOURCES "workloadendpoints/ns/n-k8s-a-b-eth0",
		RESOURCES "workloadendpoints/ns/n-k8s-a",
		IPAM "assignment/ipv4/block/2001:db8::-122",
		IPAM "assignment/ipv4/block/x",
		IPAM "host/node1",
		IPAM "host/node1/ipv4/block/10.0.0.0",
		IPAM "config/x",
	};
	struct kube_key k;

	for (size_t i = 0; i < array_size(keys); i++)
		ck_assert_msg(kube_key_parse(keys[i], &k, &err) == -EINVAL, "%s", keys[i]);
	ck_assert_int_eq(kube_key_parse(RESOURCES "ippools/a_b", &k, &err), -EINVAL);
	ck_assert_str_eq(err.text,
		RESOURCES "ippools/a_b: no name for an object IPPool of Kubernetes: want "
			  "a-z, 0-9, \"-\" and \".\", at most 253 characters");
	ck_assert_int_eq(kube_prefix_parse("/calico/", &k, &err), -EINVAL);
	ck_assert_str_eq(err.text,
		"/calico/: Kubernetes lists one kind at a time: want the keys of one kind");
}
END_TEST

START_TEST(prefixes_name_lists)
{
	struct kube_key k;

	ck_assert_int_eq(kube_prefix_parse(RESOURCES "ippools/", &k, &err), 0);
	ck_assert_str_eq(k.kind->name, "IPPool");
	ck_assert_int_eq(kube_prefix_parse(RESOURCES "workloadendpoints/ns/n1-", &k, &err), 0);
	ck_assert_str_eq(k.ns, "ns");
	ck_assert_int_eq(kube_prefix_parse(RESOURCES "workloadendpoints/n", &k, &err), 0);
	ck_assert_str_eq(k.ns, "");
	ck_assert_int_eq(kube_prefix_parse(IPAM "host/node1/ipv4/block/", &k, &err), 0);
	ck_assert_str_eq(k.host, "node1");
	ck_assert(!k.virtual);
	ck_assert_int_eq(kube_prefix_parse(IPAM "virtual/", &k, &err), 0);
	ck_assert_str_eq(k.host, "");
	ck_assert(k.virtual);
}
END_TEST

START_TEST(names_of_affinities_are_never_too_long)
{
	char host[300], key[400];
	struct kube_key k;

	for (int n = 1; n <= 253; n++) {
		snprintf(key, sizeof(key), IPAM "host/%.*s/ipv4/block/10.244.66.128-29", n,
			(char *)memset(host, 'n', sizeof(host)));
		k = parse(key);
		ck_assert_uint_le(strlen(k.name), 252);
		ck_assert_uint_eq(strlen(k.host), n);
		if (n == 235)
			ck_assert_str_eq(k.name + n, "-10-244-66-128-29");
		if (n == 240)
			ck_assert_str_eq(k.name + 223, "-10-244-66-128-29-df97f28f57a");
	}
	snprintf(key, sizeof(key), IPAM "host/%.254s/ipv4/block/10.244.66.128-29", host);
	ck_assert_int_eq(kube_key_parse(key, &k, &err), -EINVAL);
}
END_TEST

START_TEST(names_of_handles_are_never_too_long)
{
	char handle[300], key[400];
	struct kube_key k;

	memset(handle, 'n', sizeof(handle));
	handle[253] = '\0';
	snprintf(key, sizeof(key), IPAM "handle/%s", handle);
	k = parse(key);
	ck_assert_str_eq(k.name, handle);
	handle[252] = ':';
	snprintf(key, sizeof(key), IPAM "handle/%s", handle);
	k = parse(key);
	ck_assert_uint_eq(strlen(k.name), 253);
	ck_assert_str_eq(k.host, handle);
	snprintf(key, sizeof(key), IPAM "handle/%sn", handle);
	ck_assert_int_eq(kube_key_parse(key, &k, &err), -EINVAL);
}
END_TEST

START_TEST(host_hashes)
{
	char buf[KUBE_HOST_HASH_SIZE];

	ck_assert_str_eq(kube_host_hash("node1", buf),
		"7DS2CCNJGGLTHBDQLLFO6SX24SY2YDDEG3W2VN556FA2W4DLLV5A");
	ck_assert_str_eq(kube_host_hash("node-a", buf),
		"PY3TQE2E3XMTETLM2MJO3UITKPFB27YUJ4T4E5XGPEJON3SM4QAA");
}
END_TEST

/* ---- values ---- */

static char *write_text(const char *key, enum kube_group group, const char *value, int64_t rev)
{
	struct kube_key k = parse(key);
	json_t *j = NULL;
	char *text;

	ck_assert_msg(kube_object_write(&k, group, value, strlen(value), rev, &j, &err) == 0, "%s",
		err.text);
	text = model_json_dump(j);
	json_decref(j);
	return text;
}

/* As the server gives it: with a revision and what else it adds. */
static struct store_kv read_text(const char *key, enum kube_group group, const char *text)
{
	struct kube_key k = parse(key);
	auto_(json) json_t *j = json_loads(text, 0, NULL);
	struct store_kv kv = {0};
	json_t *meta = json_object_get(j, "metadata");

	ck_assert_ptr_nonnull(meta);
	json_object_set_new(meta, "resourceVersion", json_string("42"));
	json_object_set_new(meta, "generation", json_integer(3));
	json_object_set_new(meta, "managedFields", json_array());
	ck_assert_msg(kube_object_read(k.kind, group, j, &kv, &err) == 0, "%s", err.text);
	ck_assert_int_eq(kv.rev, 42);
	return kv;
}

static void equal_json(const char *a, const char *b)
{
	auto_(json) json_t *x = json_loads(a, 0, NULL), *y = json_loads(b, 0, NULL);

	ck_assert_ptr_nonnull(x);
	ck_assert_ptr_nonnull(y);
	ck_assert_msg(json_equal(x, y), "got  %s\nwant %s", a, b);
}

#define BLOCK_REST                                                                               \
	"\"allocations\":[0,1,null,null,null,null,null,null],\"unallocated\":[2,3,4,5,6,7],"     \
	"\"attributes\":[{\"handle_id\":\"ipip-tunnel-addr-node1\",\"secondary\":{"              \
	"\"node\":\"node1\",\"type\":\"ipipTunnelAddress\"}},{\"handle_id\":"                    \
	"\"k8s-pod-network.0f3c1d\",\"secondary\":{\"namespace\":\"default\",\"node\":"          \
	"\"node1\",\"pod\":\"web-0\",\"timestamp\":\"2026-08-01 12:00:05.000000123 +0000 UTC\"}" \
	"}],\"sequenceNumber\":1785585600123456791,\"sequenceNumberForAllocation\":{"            \
	"\"0\":1785585600123456789,\"1\":1785585600123456790},\"deleted\":false"
#define AFFINITY_LABELS                                                          \
	"\"projectcalico.org/affinity-type\":\"host\",\"projectcalico.org/"      \
	"hostname-hash\":\"7DS2CCNJGGLTHBDQLLFO6SX24SY2YDDEG3W2VN556FA2W4DLLV5A" \
	"\",\"projectcalico.org/ip-version\":\"4\""
#define V1(kind, name, stored)                                                \
	"{\"kind\":\"" kind "\",\"apiVersion\":\"crd.projectcalico.org/v1\"," \
	"\"metadata\":{\"name\":\"" name                                      \
	"\",\"annotations\":{\"projectcalico.org/metadata\":\"" stored "\"}},\"spec\":{"
#define V3(kind, name)                                                    \
	"{\"kind\":\"" kind "\",\"apiVersion\":\"projectcalico.org/v3\"," \
	"\"metadata\":{\"name\":\"" name "\"},\"spec\":{"

/* What the datastore has, and the object of each group. */
static const struct {
	const char *key, *value, *v1, *v3;
} ipam_cases[] = {
	{IPAM "assignment/ipv4/block/10.244.66.128-29",
		"{\"cidr\":\"10.244.66.128/29\",\"affinity\":\"host:node1\","
		"\"affinity_claim_time\":\"2026-08-01T12:00:00Z\"," BLOCK_REST "}",
		V1("IPAMBlock", "10-244-66-128-29",
			"{}") "\"cidr\":\"10.244.66.128/29\",\"affinity\":\"host:node1\","
			      "\"affinityClaimTime\":\"2026-08-01T12:00:00Z\"," BLOCK_REST
			      ",\"strictAffinity\":false}}",
		V3("IPAMBlock", "10-244-66-128-29") "\"cidr\":\"10.244.66.128/29\",\"affinity\":"
						    "\"host:node1\",\"affinityClaimTime\":"
						    "\"2026-08-01T12:00:00Z\"," BLOCK_REST "}}"},
	{IPAM "assignment/ipv4/block/10.244.66.128-29",
		"{\"cidr\":\"10.244.66.128/29\",\"affinity\":null," BLOCK_REST "}",
		V1("IPAMBlock", "10-244-66-128-29",
			"{}") "\"cidr\":\"10.244.66.128/29\"," BLOCK_REST
			      ",\"strictAffinity\":false}}",
		NULL},
	{IPAM "host/node1/ipv4/block/10.244.66.128-29", "{\"state\":\"pending\",\"deleted\":false}",
		"{\"kind\":\"BlockAffinity\",\"apiVersion\":\"crd.projectcalico.org/v1\","
		"\"metadata\":{\"name\":\"node1-10-244-66-128-29\",\"labels\":{" AFFINITY_LABELS
		"},\"annotations\":{\"projectcalico.org/metadata\":\"{\\\"labels\\\":{"
		"\\\"projectcalico.org/affinity-type\\\":\\\"host\\\","
		"\\\"projectcalico.org/hostname-hash\\\":"
		"\\\"7DS2CCNJGGLTHBDQLLFO6SX24SY2YDDEG3W2VN556FA2W4DLLV5A\\\","
		"\\\"projectcalico.org/ip-version\\\":\\\"4\\\"}}\"}},\"spec\":{\"state\":"
		"\"pending\",\"node\":\"node1\",\"type\":\"host\",\"cidr\":\"10.244.66.128/29\","
		"\"deleted\":\"false\"}}",
		"{\"kind\":\"BlockAffinity\",\"apiVersion\":\"projectcalico.org/v3\","
		"\"metadata\":{\"name\":\"node1-10-244-66-128-29\",\"labels\":{" AFFINITY_LABELS
		"}},\"spec\":{\"state\":\"pending\",\"node\":\"node1\",\"type\":\"host\","
		"\"cidr\":\"10.244.66.128/29\",\"deleted\":false}}"},
	{IPAM "handle/k8s-pod-network.0F3c1d",
		"{\"block\":{\"10.244.66.128/29\":1},\"deleted\":false}",
		V1("IPAMHandle", "k8s-pod-network.0f3c1d",
			"{}") "\"handleID\":\"k8s-pod-network.0F3c1d\",\"block\":"
			      "{\"10.244.66.128/29\":1},\"deleted\":false}}",
		NULL},
	{IPAM "config",
		"{\"auto_allocate_blocks\":true,\"kubeVirtVMAddressPersistence\":\"Enabled\"}",
		V1("IPAMConfig", "default",
			"{}") "\"strictAffinity\":false,\"autoAllocateBlocks\":true,"
			      "\"kubeVirtVMAddressPersistence\":\"Enabled\"}}",
		V3("IPAMConfiguration",
			"default") "\"strictAffinity\":false,"
				   "\"autoAllocateBlocks\":true,"
				   "\"kubeVirtVMAddressPersistence\":\"Enabled\"}}"},
	{RESOURCES "ipamconfigurations/default",
		"{\"kind\":\"IPAMConfiguration\",\"apiVersion\":\"projectcalico.org/v3\","
		"\"metadata\":{\"name\":\"default\"},\"spec\":{\"strictAffinity\":true,"
		"\"maxBlocksPerHost\":4,\"autoAllocateBlocks\":true}}",
		V1("IPAMConfig", "default", "{}") "\"strictAffinity\":true,\"maxBlocksPerHost\":4,"
						  "\"autoAllocateBlocks\":true}}",
		NULL},
};

START_TEST(what_ipam_stores)
{
	for (size_t i = 0; i < array_size(ipam_cases); i++)
		for (int v3 = 0; v3 < 2; v3++) {
			const char *object = v3 ? ipam_cases[i].v3 : ipam_cases[i].v1;
			enum kube_group group = v3 ? KUBE_NATIVE_V3 : KUBE_CRD_V1;
			auto_free char *text = NULL;
			struct store_kv kv;

			if (!object)
				continue;
			text = write_text(ipam_cases[i].key, group, ipam_cases[i].value, 0);
			equal_json(text, object);
			kv = read_text(ipam_cases[i].key, group, object);
			ck_assert_str_eq(kv.key, ipam_cases[i].key);
			ck_assert_str_eq(kv.value, ipam_cases[i].value);
			store_kv_done(&kv);
		}
}
END_TEST

START_TEST(what_other_versions_of_calico_wrote)
{
	struct store_kv kv;

	/* an affinity without type; attributes that were null; a state that is absent */
	kv = read_text(IPAM "host/n/ipv4/block/10.0.0.0-29", KUBE_CRD_V1,
		V1("BlockAffinity", "n-10-0-0-0-29",
			"{\\\"creationTimestamp\\\":null}") "\"state\":\"\",\"node\":\"n\","
							    "\"cidr\":\"10.0.0.0/29\","
							    "\"deleted\":\"false\"}}");
	ck_assert_str_eq(kv.key, IPAM "host/n/ipv4/block/10.0.0.0-29");
	ck_assert_str_eq(kv.value, "{\"state\":\"\",\"deleted\":false}");
	store_kv_done(&kv);
	/* what is being deleted in two steps is gone */
	kv = read_text(IPAM "host/n/ipv4/block/10.0.0.0-29", KUBE_CRD_V1,
		V1("BlockAffinity", "n-10-0-0-0-29",
			"{}") "\"state\":\"confirmed\",\"node\":\"n\",\"cidr\":\"10.0.0.0/29\","
			      "\"deleted\":\"true\"}}");
	ck_assert_str_eq(kv.key, IPAM "host/n/ipv4/block/10.0.0.0-29");
	ck_assert_ptr_null(kv.value);
	store_kv_done(&kv);
	kv = read_text(IPAM "handle/h", KUBE_NATIVE_V3,
		V3("IPAMHandle", "h") "\"handleID\":\"h\",\"block\":{},\"deleted\":true}}");
	ck_assert_ptr_null(kv.value);
	store_kv_done(&kv);
	/* and its labels tell a virtual one from a node's */
	auto_free char *text = write_text(IPAM "virtual/load-balancer/ipv6/block/fd00::-122",
		KUBE_NATIVE_V3, "{\"state\":\"confirmed\",\"deleted\":false}", 7);

	ck_assert_ptr_nonnull(strstr(text, "affinity-type\":\"virtual\""));
	ck_assert_ptr_nonnull(strstr(text, "ip-version\":\"6\""));
	ck_assert_ptr_nonnull(strstr(text, "\"type\":\"virtual\",\"cidr\":\"fd00::/122\""));
	ck_assert_ptr_nonnull(strstr(text, "\"resourceVersion\":\"7\""));
}
END_TEST

START_TEST(objects_that_make_no_sense_are_there_nonetheless)
{
	static const struct {
		const char *kind, *object, *key, *why;
	} cases[] = {
		{IPAM "assignment/",
			"{\"metadata\":{\"name\":\"10-0-0-0-29\"},\"spec\":{\"cidr\":\"10.0.0.1/29\"}}",
			IPAM "assignment/ipv4/block/10.0.0.0-29",
			"\"IPAMBlock 10-0-0-0-29: spec: want a cidr\""},
		{IPAM "assignment/", "{\"metadata\":{\"name\":\"fd00---122\"},\"spec\":{}}",
			IPAM "assignment/ipv6/block/fd00::-122",
			"\"IPAMBlock fd00---122: spec: want a cidr\""},
		{IPAM "assignment/", "{\"metadata\":{\"name\":\"x\"}}", NULL, NULL},
		{IPAM "host/", "{\"metadata\":{\"name\":\"n-1-10-0-0-0-29\"},\"spec\":{}}",
			IPAM "host/n-1/ipv4/block/10.0.0.0-29",
			"\"BlockAffinity n-1-10-0-0-0-29: spec: want a node and a cidr\""},
		{IPAM "host/",
			"{\"metadata\":{\"name\":\"a-1-2---64\",\"labels\":{"
			"\"projectcalico.org/hostname-hash\":\"%s\"}}}",
			IPAM "host/a-1/ipv6/block/2::-64",
			"\"BlockAffinity a-1-2---64: spec: want a node and a cidr\""},
		{IPAM "handle/", "{\"metadata\":{\"name\":\"k8s.0f\"}}", IPAM "handle/k8s.0f",
			"\"IPAMHandle k8s.0f: spec: want a handleID\""},
		{RESOURCES "ippools/",
			"{\"metadata\":{\"name\":\"p\",\"annotations\":{\"projectcalico.org/metadata\":"
			"\"{half\"}},\"spec\":{\"cidr\":\"10.0.0.0/16\"}}",
			RESOURCES "ippools/p",
			"\"IPPool p: annotation projectcalico.org/metadata: want a JSON object\""},
	};
	struct kube_key k;
	struct store_kv kv;
	char hash[KUBE_HOST_HASH_SIZE];

	for (size_t i = 0; i < array_size(cases); i++) {
		auto_free char *text = mem_zalloc(512);
		auto_(json) json_t *j = NULL;
		const char *label = strstr(cases[i].object, "%s");

		snprintf(text, 512, "%.*s%s%s",
			(int)(label ? label - cases[i].object : (int)strlen(cases[i].object)),
			cases[i].object, label ? kube_host_hash("a-1", hash) : "",
			label ? label + 2 : "");
		j = json_loads(text, 0, NULL);
		json_object_set_new(
			json_object_get(j, "metadata"), "resourceVersion", json_string("7"));
		ck_assert_int_eq(kube_prefix_parse(cases[i].kind, &k, &err), 0);
		ck_assert_int_eq(kube_object_read(k.kind, KUBE_CRD_V1, j, &kv, &err), 0);
		ck_assert_int_eq(kv.rev, 7);
		ck_assert_pstr_eq(kv.key, cases[i].key);
		if (kv.key)
			ck_assert_str_eq(kv.value, cases[i].why);
		store_kv_done(&kv);
	}
	auto_(json) json_t *no_rev = json_loads("{\"metadata\":{\"name\":\"x\"}}", 0, NULL);

	ck_assert_int_eq(kube_object_read(k.kind, KUBE_CRD_V1, no_rev, &kv, &err), -EINVAL);
	ck_assert_str_eq(err.text, "an object without a number as metadata.resourceVersion");
}
END_TEST

#define POOL_SPEC                                                                      \
	"\"spec\":{\"cidr\":\"10.244.0.0/16\",\"vxlanMode\":\"Never\",\"ipipMode\":"   \
	"\"Always\",\"natOutgoing\":true,\"blockSize\":26,\"nodeSelector\":\"all()\"," \
	"\"allowedUses\":[\"Workload\",\"Tunnel\"],\"assignmentMode\":\"Automatic\"}"

START_TEST(a_resource_in_the_v1_group)
{
	static const char key[] = RESOURCES "ippools/default-ipv4-ippool";
	static const char value[] =
		"{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"default-ipv4-ippool\",\"uid\":"
		"\"3f2a9c1e-7b4d-4e21-9a6c-0d5e8f713b42\",\"creationTimestamp\":"
		"\"2026-08-01T12:00:00Z\"}," POOL_SPEC "}";
	auto_free char *text = write_text(key, KUBE_CRD_V1, value, 0);
	struct store_kv kv;

	equal_json(text,
		"{\"kind\":\"IPPool\",\"apiVersion\":\"crd.projectcalico.org/v1\",\"metadata\":{"
		"\"name\":\"default-ipv4-ippool\",\"annotations\":{\"projectcalico.org/"
		"metadata\":\"{\\\"creationTimestamp\\\":\\\"2026-08-01T12:00:00Z\\\"}\"}}," POOL_SPEC
		"}");
	kv = read_text(key, KUBE_CRD_V1,
		"{\"kind\":\"IPPool\",\"apiVersion\":\"crd.projectcalico.org/v1\",\"metadata\":{"
		"\"name\":\"default-ipv4-ippool\",\"uid\":"
		"\"fc543978-deb2-4e84-9a36-b07af18edc42\",\"creationTimestamp\":"
		"\"2026-09-01T12:00:00Z\",\"annotations\":{\"projectcalico.org/"
		"metadata\":\"{\\\"creationTimestamp\\\":\\\"2026-08-01T12:00:00Z\\\"}\"}}," POOL_SPEC
		"}");
	ck_assert_str_eq(kv.key, key);
	ck_assert_str_eq(kv.value, value);
	store_kv_done(&kv);
}
END_TEST

/* Labels of the user's are in the annotation alone, Calico's in both; what lives is the object's. */
START_TEST(metadata_in_the_v1_group)
{
	static const char key[] = RESOURCES "ippools/a";
	static const char value[] =
		"{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"a\",\"creationTimestamp\":\"2026-08-01T12:00:00Z\",\"labels\":{"
		"\"mine\":\"1\",\"projectcalico.org/x\":\"2\"},\"annotations\":{\"note\":\"n\"},"
		"\"finalizers\":[\"projectcalico.org/ippool-finalizer\"]},\"spec\":{}}";
	auto_free char *text = write_text(key, KUBE_CRD_V1, value, 9);
	auto_(json) json_t *j = json_loads(text, 0, NULL);
	json_t *meta = json_object_get(j, "metadata"),
	       *annotations = json_object_get(meta, "annotations");
	auto_free char *changed = NULL;
	struct store_kv kv;

	equal_json(text,
		"{\"kind\":\"IPPool\",\"apiVersion\":\"crd.projectcalico.org/v1\",\"metadata\":{"
		"\"name\":\"a\",\"resourceVersion\":\"9\",\"labels\":{\"projectcalico.org/x\":"
		"\"2\"},\"annotations\":{\"projectcalico.org/metadata\":\"{\\\"creationTimestamp"
		"\\\":\\\"2026-08-01T12:00:00Z\\\",\\\"labels\\\":{\\\"mine\\\":\\\"1\\\","
		"\\\"projectcalico.org/x\\\":\\\"2\\\"},\\\"annotations\\\":{\\\"note\\\":"
		"\\\"n\\\"},\\\"finalizers\\\":[\\\"projectcalico.org/ippool-finalizer\\\"]}\"},"
		"\"finalizers\":[\"projectcalico.org/ippool-finalizer\"]},\"spec\":{}}");
	kv = read_text(key, KUBE_CRD_V1, text);
	equal_json(kv.value, value);
	store_kv_done(&kv);

	/* kubectl's own annotation and the deletion that began are told, too */
	json_object_set_new(meta, "deletionTimestamp", json_string("2026-08-02T12:00:00Z"));
	json_object_set_new(annotations, "other", json_string("o"));
	changed = model_json_dump(j);
	kv = read_text(key, KUBE_CRD_V1, changed);
	ck_assert_ptr_nonnull(strstr(kv.value, "\"deletionTimestamp\":\"2026-08-02T12:00:00Z\""));
	ck_assert_ptr_nonnull(strstr(kv.value, "\"annotations\":{\"note\":\"n\",\"other\":\"o\"}"));
	store_kv_done(&kv);

	/* made with kubectl, without the annotation */
	kv = read_text(key, KUBE_CRD_V1,
		"{\"metadata\":{\"name\":\"a\",\"uid\":\"fc543978-deb2-4e84-9a36-b07af18edc42\","
		"\"creationTimestamp\":\"2026-08-01T12:00:00Z\",\"labels\":{\"l\":\"1\"}},"
		"\"spec\":{\"cidr\":\"10.0.0.0/8\"}}");
	ck_assert_str_eq(kv.value,
		"{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"a\",\"uid\":\"3f2a9c1e-7b4d-4e21-9a6c-0d5e8f713b42\","
		"\"creationTimestamp\":\"2026-08-01T12:00:00Z\",\"labels\":{\"l\":\"1\"}},"
		"\"spec\":{\"cidr\":\"10.0.0.0/8\"}}");
	store_kv_done(&kv);
}
END_TEST

START_TEST(a_resource_in_the_v3_group_is_as_it_is)
{
	static const char key[] = RESOURCES "ippools/a";
	static const char value[] =
		"{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"a\",\"uid\":\"3f2a9c1e-7b4d-4e21-9a6c-0d5e8f713b42\","
		"\"creationTimestamp\":\"2026-08-01T12:00:00Z\",\"labels\":{\"l\":\"1\"}},"
		"\"spec\":{\"cidr\":\"10.0.0.0/8\"}}";
	struct store_kv kv = read_text(key, KUBE_NATIVE_V3, value);
	auto_free char *text = write_text(key, KUBE_NATIVE_V3, value, 5);

	ck_assert_str_eq(kv.value, value);
	store_kv_done(&kv);
	equal_json(text,
		"{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"a\",\"resourceVersion\":\"5\",\"labels\":{\"l\":\"1\"}},"
		"\"spec\":{\"cidr\":\"10.0.0.0/8\"}}");
}
END_TEST

START_TEST(policies_have_their_name_in_the_annotation)
{
	static const char key[] = RESOURCES "networkpolicies/ns/allow-dns";
	/* as etcd has it */
	static const char value[] =
		"{\"kind\":\"NetworkPolicy\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"allow-dns\",\"namespace\":\"ns\",\"annotations\":{\"projectcalico.org/"
		"metadata\":\"{\\\"name\\\":\\\"allow-dns\\\"}\"}},\"spec\":{\"selector\":\"a == 'b' "
		"\\u0026\\u0026 has(c)\"}}";
	auto_free char *v1 = write_text(key, KUBE_CRD_V1, value, 0);
	auto_free char *v3 = write_text(key, KUBE_NATIVE_V3, value, 0);
	struct store_kv kv;

	equal_json(v1,
		"{\"kind\":\"NetworkPolicy\",\"apiVersion\":\"crd.projectcalico.org/v1\","
		"\"metadata\":{\"name\":\"allow-dns\",\"namespace\":\"ns\",\"annotations\":{"
		"\"projectcalico.org/metadata\":\"{\\\"name\\\":\\\"allow-dns\\\"}\"}},\"spec\":{"
		"\"selector\":\"a == 'b' && has(c)\"}}");
	kv = read_text(key, KUBE_CRD_V1, v1);
	ck_assert_str_eq(kv.key, key);
	ck_assert_str_eq(kv.value, value);
	store_kv_done(&kv);
	equal_json(v3,
		"{\"kind\":\"NetworkPolicy\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"allow-dns\",\"namespace\":\"ns\",\"annotations\":{}},\"spec\":{"
		"\"selector\":\"a == 'b' && has(c)\"}}");
	kv = read_text(key, KUBE_NATIVE_V3, v3);
	ck_assert_str_eq(kv.key, key);
	ck_assert_str_eq(kv.value, value);
	store_kv_done(&kv);
	/* as older releases stored it: the key is that in etcd, the name its clients' */
	kv = read_text(key, KUBE_CRD_V1,
		"{\"metadata\":{\"name\":\"default.allow-dns\",\"namespace\":\"ns\"},\"spec\":{}}");
	ck_assert_str_eq(kv.key, RESOURCES "networkpolicies/ns/default.allow-dns");
	ck_assert_ptr_nonnull(strstr(kv.value, "\"name\":\"allow-dns\""));
	store_kv_done(&kv);
	kv = read_text(key, KUBE_CRD_V1,
		"{\"metadata\":{\"name\":\"default.x\",\"namespace\":\"ns\"},\"spec\":{\"tier\":"
		"\"other\"}}");
	ck_assert_str_eq(kv.key, RESOURCES "networkpolicies/ns/default.x");
	ck_assert_ptr_nonnull(strstr(kv.value, "\"name\":\"default.x\""));
	store_kv_done(&kv);
}
END_TEST

/* ---- views ---- */

static const char kube_node[] =
	"{\"metadata\":{\"name\":\"node1\",\"uid\":\"fc543978-deb2-4e84-9a36-b07af18edc42\","
	"\"creationTimestamp\":\"2026-08-01T12:00:00Z\",\"labels\":{\"kubernetes.io/os\":"
	"\"linux\",\"rack\":\"k\"},\"annotations\":{\"node.alpha.kubernetes.io/ttl\":\"0\","
	"\"projectcalico.org/IPv4Address\":\"192.0.2.10/24\","
	"\"projectcalico.org/IPv4IPIPTunnelAddr\":\"10.244.66.128\","
	"\"projectcalico.org/ASNumber\":\"64512\",\"projectcalico.org/IPv6Address\":\"bad\","
	"\"projectcalico.org/Interfaces\":\"[{\\\"name\\\":\\\"eth0\\\"}]\","
	"\"projectcalico.org/WireguardPublicKey\":\"k=\","
	"\"projectcalico.org/labels\":\"{\\\"rack\\\":\\\"c\\\",\\\"own\\\":\\\"1\\\"}\","
	"\"projectcalico.org/annotations\":\"{\\\"note\\\":\\\"n\\\"}\"}},\"spec\":{"
	"\"podCIDRs\":[\"10.9.0.0/24\"]},\"status\":{\"addresses\":[{\"type\":\"InternalIP\","
	"\"address\":\"192.0.2.10\"},{\"type\":\"Hostname\",\"address\":\"node1\"}]}}";

static const char calico_node[] =
	"{\"kind\":\"Node\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":"
	"\"node1\",\"uid\":\"fc543978-deb2-4e84-9a36-b07af18edc42\",\"creationTimestamp\":"
	"\"2026-08-01T12:00:00Z\",\"labels\":{\"kubernetes.io/os\":\"linux\",\"own\":\"1\","
	"\"rack\":\"k\"},\"annotations\":{\"note\":\"n\",\"projectcalico.org/kube-labels\":"
	"\"{\\\"kubernetes.io/os\\\":\\\"linux\\\",\\\"rack\\\":\\\"k\\\"}\"}},\"spec\":{"
	"\"bgp\":{\"asNumber\":64512,\"ipv4Address\":\"192.0.2.10/24\",\"ipv4IPIPTunnelAddr\":"
	"\"10.244.66.128\"},\"orchRefs\":[{\"nodeName\":\"node1\",\"orchestrator\":\"k8s\"}],"
	"\"addresses\":[{\"address\":\"192.0.2.10/24\",\"type\":\"CalicoNodeIP\"},{\"address\":"
	"\"192.0.2.10\",\"type\":\"InternalIP\"}],\"interfaces\":[{\"name\":\"eth0\"}]},"
	"\"status\":{\"wireguardPublicKey\":\"k=\",\"podCIDRs\":[\"10.9.0.0/24\"]}}";

START_TEST(a_node_is_a_view)
{
	static const char key[] = RESOURCES "nodes/node1";
	struct store_kv kv = read_text(key, KUBE_CRD_V1, kube_node);
	auto_free char *patch = write_text(key, KUBE_CRD_V1, calico_node, 17);

	ck_assert_str_eq(kv.key, key);
	ck_assert_str_eq(kv.value, calico_node);
	store_kv_done(&kv);
	equal_json(patch,
		"{\"metadata\":{\"resourceVersion\":\"17\",\"annotations\":{"
		"\"projectcalico.org/IPv4Address\":\"192.0.2.10/24\","
		"\"projectcalico.org/IPv6Address\":null,\"projectcalico.org/ASNumber\":\"64512\","
		"\"projectcalico.org/IPv4IPIPTunnelAddr\":\"10.244.66.128\","
		"\"projectcalico.org/RouteReflectorClusterID\":null,"
		"\"projectcalico.org/IPv4VXLANTunnelAddr\":null,"
		"\"projectcalico.org/VXLANTunnelMACAddr\":null,"
		"\"projectcalico.org/IPv6VXLANTunnelAddr\":null,"
		"\"projectcalico.org/VXLANTunnelMACAddrV6\":null,"
		"\"projectcalico.org/IPv4WireguardInterfaceAddr\":null,"
		"\"projectcalico.org/IPv6WireguardInterfaceAddr\":null,"
		"\"projectcalico.org/Interfaces\":\"[{\\\"name\\\":\\\"eth0\\\"}]\","
		"\"projectcalico.org/WireguardPublicKey\":\"k=\","
		"\"projectcalico.org/WireguardPublicKeyV6\":null,"
		"\"projectcalico.org/labels\":\"{\\\"own\\\":\\\"1\\\"}\","
		"\"projectcalico.org/annotations\":\"{\\\"note\\\":\\\"n\\\"}\"}}}");
	/* a node of kubelet's, before ours has run */
	kv = read_text(key, KUBE_CRD_V1, "{\"metadata\":{\"name\":\"node1\"}}");
	ck_assert_str_eq(kv.value,
		"{\"kind\":\"Node\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"node1\"},\"spec\":{\"orchRefs\":[{"
		"\"nodeName\":\"node1\",\"orchestrator\":\"k8s\"}],\"addresses\":[]},"
		"\"status\":{}}");
	store_kv_done(&kv);
}
END_TEST

#define POD_META                                                          \
	"\"name\":\"web-0\",\"namespace\":\"default\",\"uid\":"           \
	"\"fc543978-deb2-4e84-9a36-b07af18edc42\",\"creationTimestamp\":" \
	"\"2026-08-01T12:00:00Z\",\"labels\":{\"app\":\"web\"}"
#define POD_SPEC                                                                          \
	"\"spec\":{\"nodeName\":\"node-1\",\"serviceAccountName\":\"sa\",\"containers\":" \
	"[{\"ports\":[{\"name\":\"http\",\"containerPort\":80,\"protocol\":\"TCP\"},{"    \
	"\"containerPort\":81,\"protocol\":\"TCP\"},{\"containerPort\":53,\"hostPort\":"  \
	"5353,\"protocol\":\"UDP\"}]}]}"
#define WEP_HEAD                                                                        \
	"{\"kind\":\"WorkloadEndpoint\",\"apiVersion\":\"projectcalico.org/v3\","       \
	"\"metadata\":{\"name\":\"node--1-k8s-web--0-eth0\",\"namespace\":\"default\"," \
	"\"uid\":\"fc543978-deb2-4e84-9a36-b07af18edc42\",\"creationTimestamp\":"       \
	"\"2026-08-01T12:00:00Z\",\"labels\":{\"app\":\"web\",\"projectcalico.org/"     \
	"namespace\":\"default\",\"projectcalico.org/orchestrator\":\"k8s\","           \
	"\"projectcalico.org/serviceaccount\":\"sa\"}},\"spec\":{\"orchestrator\":"     \
	"\"k8s\",\"node\":\"node-1\","
#define WEP_MID "\"pod\":\"web-0\",\"endpoint\":\"eth0\",\"serviceAccountName\":\"sa\","
#define WEP_TAIL                                                                           \
	"\"profiles\":[\"kns.default\",\"ksa.default.sa\"],\"interfaceName\":"             \
	"\"cali0d7763386da\",\"ports\":[{\"name\":\"http\",\"protocol\":\"TCP\",\"port\":" \
	"80,\"hostPort\":0,\"hostIP\":\"\"},{\"name\":\"\",\"protocol\":\"UDP\",\"port\":" \
	"53,\"hostPort\":5353,\"hostIP\":\"\"}]}}"

static const char wep_key[] = RESOURCES "workloadendpoints/default/node--1-k8s-web--0-eth0";

START_TEST(an_endpoint_is_a_view)
{
	static const struct {
		const char *pod, *networks;
	} cases[] = {
		{"{\"metadata\":{" POD_META "}," POD_SPEC ",\"status\":{\"phase\":\"Pending\"}}",
			""},
		{"{\"metadata\":{" POD_META ",\"annotations\":{\"cni.projectcalico.org/podIPs\":"
		 "\"10.244.0.5/32,fd00::5/128\"}}," POD_SPEC "}",
			"\"ipNetworks\":[\"10.244.0.5/32\",\"fd00::5/128\"],"},
		{"{\"metadata\":{" POD_META
		 ",\"annotations\":{\"cni.projectcalico.org/podIP\":\"10.244.0.5/32\"}}," POD_SPEC
		 ",\"status\":{\"podIP\":\"10.244.0.6\",\"podIPs\":[{\"ip\":\"10.244.0.7\"}],"
		 "\"phase\":\"Running\"}}",
			"\"ipNetworks\":[\"10.244.0.7/32\"],"},
		{"{\"metadata\":{" POD_META "}," POD_SPEC
		 ",\"status\":{\"podIP\":\"10.244.0.6\",\"phase\":\"Unknown\"}}",
			"\"ipNetworks\":[\"10.244.0.6/32\"],"},
		/* finished, in one way or the other */
		{"{\"metadata\":{" POD_META "}," POD_SPEC
		 ",\"status\":{\"podIP\":\"10.244.0.6\",\"phase\":\"Succeeded\"}}",
			""},
		{"{\"metadata\":{" POD_META
		 ",\"deletionTimestamp\":\"2026-08-01T12:00:00Z\"}," POD_SPEC
		 ",\"status\":{\"podIP\":\"10.244.0.6\"}}",
			"\"ipNetworks\":[\"10.244.0.6/32\"],"},
		{"{\"metadata\":{" POD_META
		 ",\"deletionTimestamp\":\"2026-08-01T12:00:00Z\",\"annotations\":{"
		 "\"cni.projectcalico.org/podIP\":\"\"}}," POD_SPEC
		 ",\"status\":{\"podIP\":\"10.244.0.6\"}}",
			""},
	};
	struct store_kv kv;

	for (size_t i = 0; i < array_size(cases); i++) {
		auto_free char *want =
			mem_printf(WEP_HEAD WEP_MID "%s" WEP_TAIL, cases[i].networks);

		kv = read_text(wep_key, KUBE_CRD_V1, cases[i].pod);
		ck_assert_str_eq(kv.key, wep_key);
		ck_assert_str_eq(kv.value, want);
		store_kv_done(&kv);
	}
	/* no endpoints of ours */
	kv = read_text(wep_key, KUBE_CRD_V1, "{\"metadata\":{" POD_META "},\"spec\":{}}");
	ck_assert_ptr_null(kv.key);
	kv = read_text(wep_key, KUBE_CRD_V1,
		"{\"metadata\":{" POD_META "},\"spec\":{\"nodeName\":\"n\",\"hostNetwork\":true}}");
	ck_assert_ptr_null(kv.key);
}
END_TEST

START_TEST(an_endpoint_is_written_by_a_patch)
{
	static const char value[] =
		WEP_HEAD "\"containerID\":\"c1\"," WEP_MID
			 "\"ipNetworks\":[\"10.244.0.5/32\",\"fd00::5/128\"]," WEP_TAIL;
	auto_free char *guarded = write_text(wep_key, KUBE_CRD_V1, value, 5);
	auto_(json) json_t *clear = kube_pod_clear(6);
	auto_free char *cleared = model_json_dump(clear);

	equal_json(guarded, "{\"metadata\":{\"resourceVersion\":\"5\",\"annotations\":{"
			    "\"cni.projectcalico.org/podIP\":\"10.244.0.5/32\","
			    "\"cni.projectcalico.org/podIPs\":\"10.244.0.5/32,fd00::5/128\","
			    "\"cni.projectcalico.org/containerID\":\"c1\"}}}");
	equal_json(cleared,
		"{\"metadata\":{\"resourceVersion\":\"6\",\"annotations\":{"
		"\"cni.projectcalico.org/podIP\":\"\",\"cni.projectcalico.org/podIPs\":\"\"}}}");
}
END_TEST

START_TEST(what_a_pods_annotations_ask_for)
{
	static const struct {
		const char *annotations, *want;
	} cases[] = {
		{"\"cni.projectcalico.org/floatingIPs\":\"[\\\"192.0.2.9\\\",\\\"2001:db8::9\\\",1,"
		 "\\\"x\\\"]\"",
			"\"ipNATs\":[{\"internalIP\":\"10.244.0.7\",\"externalIP\":\"192.0.2.9\"},{"
			"\"internalIP\":\"fd00::7\",\"externalIP\":\"2001:db8::9\"}]"},
		{"\"cni.projectcalico.org/floatingIPs\":\"192.0.2.9\"", NULL},
		{"\"cni.projectcalico.org/allowedSourcePrefixes\":\"[\\\"192.0.2.9/24\\\"]\"",
			"\"allowSpoofedSourcePrefixes\":[\"192.0.2.0/24\"]"},
		{"\"k8s.v1.cni.cncf.io/network-status\":\"[]\"",
			"\"annotations\":{\"k8s.v1.cni.cncf.io/network-status\":\"[]\"}"},
		{"\"qos.projectcalico.org/ingressBandwidth\":\"10M\"",
			"\"qosControls\":{\"ingressBandwidth\":10000000,\"ingressBurst\":4294967296}"},
		{"\"kubernetes.io/ingress-bandwidth\":\"1.5Gi\",\"kubernetes.io/egress-bandwidth\":"
		 "\"1\",\"qos.projectcalico.org/egressBurst\":\"1e5\"",
			"\"qosControls\":{\"ingressBandwidth\":1610612736,\"egressBandwidth\":1000,"
			"\"ingressBurst\":4294967296,\"egressBurst\":100000}"},
		{"\"kubernetes.io/ingress-bandwidth\":\"1M\",\"qos.projectcalico.org/"
		 "ingressBandwidth\":\"2M\",\"qos.projectcalico.org/ingressPeakrate\":\"3M\","
		 "\"qos.projectcalico.org/ingressMinburst\":\"1500\",\"qos.projectcalico.org/"
		 "ingressBurst\":\"99999E\"",
			"\"qosControls\":{\"ingressBandwidth\":2000000,\"ingressBurst\":34359738360,"
			"\"ingressPeakrate\":3000000,\"ingressMinburst\":1500}"},
		{"\"qos.projectcalico.org/egressPacketRate\":\"1.0001\",\"qos.projectcalico.org/"
		 "ingressMaxConnections\":\"7\",\"qos.projectcalico.org/dscp\":\"af11\"",
			"\"qosControls\":{\"egressPacketRate\":2,\"egressPacketBurst\":5,"
			"\"ingressMaxConnections\":7,\"dscp\":\"AF11\"}"},
		/* what needs another one, and what makes no sense */
		{"\"qos.projectcalico.org/ingressBurst\":\"1M\",\"qos.projectcalico.org/"
		 "ingressPeakrate\":\"1M\",\"qos.projectcalico.org/ingressPacketBurst\":\"9\","
		 "\"qos.projectcalico.org/egressBandwidth\":\"fast\",\"qos.projectcalico.org/"
		 "egressPacketRate\":\"1x\",\"qos.projectcalico.org/egressMaxConnections\":\".\","
		 "\"qos.projectcalico.org/dscp\":\"64\"",
			NULL},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		auto_free char *pod =
			mem_printf("{\"metadata\":{" POD_META ",\"annotations\":{%s}}," POD_SPEC
				   ",\"status\":{\"podIPs\":[{\"ip\":\"10.244.0.7\"},{"
				   "\"ip\":\"fd00::7\"}]}}",
				cases[i].annotations);
		struct store_kv kv = read_text(wep_key, KUBE_CRD_V1, pod);

		if (cases[i].want)
			ck_assert_msg(strstr(kv.value, cases[i].want) != NULL, "%s", kv.value);
		else
			ck_assert_msg(
				!strstr(kv.value, "qosControls") && !strstr(kv.value, "ipNATs"),
				"%s", kv.value);
		store_kv_done(&kv);
	}
}
END_TEST

START_TEST(profiles_are_views)
{
	static const char kns[] = RESOURCES "profiles/kns.shop",
			  ksa[] = RESOURCES "profiles/ksa.shop.web";
	struct kube_key k = parse(kns);
	json_t *j = NULL;
	struct store_kv kv = read_text(kns, KUBE_CRD_V1,
		"{\"metadata\":{\"name\":\"shop\",\"uid\":\"fc543978-deb2-4e84-9a36-b07af18edc42\","
		"\"creationTimestamp\":\"2026-08-01T12:00:00Z\",\"labels\":{\"kubernetes.io/"
		"metadata.name\":\"shop\",\"team\":\"a\"}},\"spec\":{\"finalizers\":[\"kubernetes\"]},"
		"\"status\":{\"phase\":\"Active\"}}");

	ck_assert_str_eq(kv.key, kns);
	ck_assert_str_eq(kv.value,
		"{\"kind\":\"Profile\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"kns.shop\",\"uid\":\"3f2a9c1e-7b4d-4e21-9a6c-0d5e8f713b42\","
		"\"creationTimestamp\":\"2026-08-01T12:00:00Z\"},\"spec\":{\"ingress\":[{\"action\":"
		"\"Allow\"}],\"egress\":[{\"action\":\"Allow\"}],\"labelsToApply\":{"
		"\"pcns.kubernetes.io/metadata.name\":\"shop\",\"pcns.projectcalico.org/name\":"
		"\"shop\",\"pcns.team\":\"a\"}}}");
	store_kv_done(&kv);
	ck_assert_int_eq(kube_object_write(&k, KUBE_CRD_V1, "{}", 2, 0, &j, &err), -EACCES);
	kv = read_text(ksa, KUBE_NATIVE_V3,
		"{\"metadata\":{\"name\":\"web\",\"namespace\":\"shop\",\"uid\":"
		"\"fc543978-deb2-4e84-9a36-b07af18edc42\"}}");
	ck_assert_str_eq(kv.key, ksa);
	ck_assert_str_eq(kv.value,
		"{\"kind\":\"Profile\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"ksa.shop.web\",\"uid\":\"3f2a9c1e-7b4d-4e21-9a6c-0d5e8f713b42\"},"
		"\"spec\":{\"labelsToApply\":{\"pcsa.projectcalico.org/name\":\"web\"}}}");
	store_kv_done(&kv);
}
END_TEST

START_TEST(services_are_as_they_are_and_read_only)
{
	static const char key[] = "/margay/v1/services/ns/s";
	static const char value[] = "{\"metadata\":{\"name\":\"s\",\"namespace\":\"ns\"}}";
	struct kube_key k = parse(key);
	json_t *j = NULL;
	struct store_kv kv = read_text(key, KUBE_CRD_V1,
		"{\"metadata\":{\"name\":\"s\",\"namespace\":\"ns\"},\"spec\":{\"type\":"
		"\"ClusterIP\"},\"status\":{\"loadBalancer\":{}}}");

	ck_assert_str_eq(kv.key, key);
	ck_assert_str_eq(kv.value,
		"{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"s\","
		"\"namespace\":\"ns\"},\"spec\":{\"type\":\"ClusterIP\"},\"status\":{"
		"\"loadBalancer\":{}}}");
	store_kv_done(&kv);
	ck_assert_int_eq(
		kube_object_write(&k, KUBE_CRD_V1, value, strlen(value), 0, &j, &err), -EACCES);
	ck_assert_str_eq(err.text,
		"Service s: cannot be written in the datastore of Kubernetes: use kubectl");
	kv = read_text("/margay/v1/endpointslices/ns/e", KUBE_CRD_V1,
		"{\"metadata\":{\"name\":\"e\",\"namespace\":\"ns\"},\"addressType\":\"IPv4\","
		"\"endpoints\":[],\"ports\":[]}");
	ck_assert_str_eq(kv.value,
		"{\"kind\":\"EndpointSlice\",\"apiVersion\":\"discovery.k8s.io/v1\",\"metadata\":"
		"{\"name\":\"e\",\"namespace\":\"ns\"},\"addressType\":\"IPv4\",\"endpoints\":[],"
		"\"ports\":[]}");
	store_kv_done(&kv);
}
END_TEST

/* ---- lists as they come in ---- */

struct items {
	struct strbuf all;
	int n, stop_at;
};

static bool on_item(void *arg, const char *text, size_t len)
{
	struct items *it = arg;

	strbuf_addn(&it->all, text, len);
	strbuf_addc(&it->all, ';');
	return ++it->n != it->stop_at;
}

/* In pieces of so many bytes. */
static int feed(const char *text, size_t piece, struct items *it, struct kube_list *l)
{
	size_t len = strlen(text);
	int r = 0;

	err = ERR_INIT;
	kube_list_begin(l, on_item, it);
	for (size_t i = 0; i < len && r == 0; i += piece)
		r = kube_list_feed(l, text + i, len - i < piece ? len - i : piece, &err);
	return r < 0 ? r : kube_list_end(l, &err);
}

START_TEST(lists_are_taken_apart)
{
	static const char *const lists[] = {
		"{\"kind\":\"L\",\"metadata\":{\"resourceVersion\":\"12\",\"continue\":\"c\\\"\"},"
		"\"items\":[{\"a\":\"]}\\\\\"},{\"items\":[{\"b\":[1]}]}]}",
		/* sorted members, as of custom resources; blanks; strange members */
		" {\"apiVersion\" : \"v1\", \"items\" : [ {\"a\":\"]}\\\\\"} , "
		"{\"items\":[{\"b\":[1]}]} ], \"x\":{\"metadata\":{\"resourceVersion\":\"1\"}}, "
		"\"y\":[{}], \"metadata\":{\"continue\":\"c\\\"\",\"resourceVersion\":\"12\"} }\n",
	};
	struct kube_list l;

	for (size_t i = 0; i < array_size(lists); i++)
		for (size_t piece = 1; piece < 20; piece++) {
			struct items it = {0};

			ck_assert_msg(feed(lists[i], piece, &it, &l) == 0, "%s", err.text);
			ck_assert_str_eq(strbuf_str(&it.all),
				"{\"a\":\"]}\\\\\"};{\"items\":[{\"b\":[1]}]};");
			ck_assert_int_eq(l.rev, 12);
			ck_assert_str_eq(l.cont, "c\"");
			kube_list_done(&l);
			strbuf_done(&it.all);
		}
}
END_TEST

START_TEST(what_is_no_list)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{"", "the list ends before its end"},
		{"{\"metadata\":{\"resourceVersion\":\"1\"},\"items\":[{}", "ends before its end"},
		{"{\"items\":[{}]}", "ends before its end"},
		{"{\"metadata\":{\"resourceVersion\":\"x\"},\"items\":[]}", "without a number"},
		{"{\"metadata\":{}}", "without a number"},
		{"[]", "no list of objects"},
		{"}", "no list of objects"},
	};
	struct kube_list l;

	for (size_t i = 0; i < array_size(cases); i++) {
		struct items it = {0};

		ck_assert_int_eq(feed(cases[i].text, 7, &it, &l), -EINVAL);
		ck_assert_msg(strstr(err.text, cases[i].why), "%s", err.text);
		kube_list_done(&l);
		strbuf_done(&it.all);
	}
	struct items stop = {.stop_at = 1};

	ck_assert_int_eq(feed("{\"items\":[{},{}]}", 100, &stop, &l), -ECANCELED);
	ck_assert_int_eq(stop.n, 1);
	kube_list_done(&l);
	strbuf_done(&stop.all);
}
END_TEST

/* What was freed is given back, so that what a process has had at most can be measured. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "quarantine_size_mb=1";
}

#define OBJECT_SIZE 8192

/* Answers every request with a list of so many objects of 8 KiB, all at once. */
static void serve_lists(int listener, const int *n)
{
	static char pad[OBJECT_SIZE];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memset(pad, 'x', sizeof(pad));
	for (;; n++) {
		int fd = accept(listener, NULL, NULL);
		FILE *f = fdopen(fd, "r+");
		char line[512];

		while (fgets(line, sizeof(line), f) && strcmp(line, "\r\n") != 0)
			;
		fseek(f, 0, SEEK_CUR);
		fputs("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"items\":[", f);
		for (int i = 0; i < *n; i++)
			fprintf(f,
				"%s{\"metadata\":{\"name\":\"p-%d\",\"resourceVersion\":\"%d\"},"
				"\"spec\":{\"cidr\":\"%.*s\"}}",
				i ? "," : "", i, i + 1, OBJECT_SIZE, pad);
		fputs("],\"metadata\":{\"resourceVersion\":\"9\"}}", f);
		fclose(f);
	}
}

struct listed {
	int n, done, r;
};

static void on_listed(void *arg, const struct store_res *res)
{
	struct listed *l = arg;

	l->n += (int)res->n;
	l->r = res->r;
	l->done = !res->more;
}

/* Returns the KiB that this process has had at most. */
static long list_feed(struct store *st, struct event_base *base, int want)
{
	struct listed l = {0};
	struct rusage usage;

	store_start(st,
		&(struct store_req){.verb = STORE_LIST,
			.key = RESOURCES "ippools/",
			.feed = true,
			.deadline_ms = clock_mono_ms() + 50000},
		on_listed, &l);
	while (!l.done)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_int_eq(l.r, 0);
	ck_assert_int_eq(l.n, want);
	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss;
}

/* What it takes does not depend on how long the list is: 8 MB, 80 MB. */
START_TEST(a_long_list_takes_no_more_memory)
{
	static const int n[] = {1000, 10000};
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	struct event_base *base = event_base_new();
	struct store *st;
	char url[64];
	long few, many;
	pid_t pid;

	ck_assert_int_eq(bind(listener, (struct sockaddr *)&sin, sizeof(sin)), 0);
	ck_assert_int_eq(listen(listener, 8), 0);
	getsockname(listener, (struct sockaddr *)&sin, &len);
	snprintf(url, sizeof(url), "http://127.0.0.1:%d", ntohs(sin.sin_port));
	pid = fork();
	if (pid == 0)
		serve_lists(listener, n);
	ck_assert_int_eq(store_open(&(struct store_conf){.type = "kubernetes",
					    .k8s_api_endpoint = url,
					    .k8s_api_token = "t",
					    .calico_api_group = "crd.projectcalico.org/v1"},
				 base, &st, &err),
		0);
	few = list_feed(st, base, n[0]);
	many = list_feed(st, base, n[1]);
	printf("8 MB: %ld KiB, 80 MB: %ld KiB\n", few, many);
	ck_assert_int_lt(many - few, 8192);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	store_close(st);
	event_base_free(base);
}
END_TEST

/* ---- kubeconfig ---- */

#define CONFIG(cluster, user)                                                                     \
	"apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n"                           \
	"- {name: other, context: {cluster: none}}\n"                                             \
	"- {name: c, context: {cluster: k, user: u}}\nclusters:\n- name: k\n  cluster: {" cluster \
	"}\nusers:\n- name: u\n  user: {" user "}\n"

START_TEST(kubeconfigs_are_read)
{
	static const char text[] = CONFIG("server: 'https://192.0.2.1:6443/', "
					  "certificate-authority: ca.pem, tls-server-name: api",
		"client-certificate-data: aGVsbG8=, client-key: /k.pem, token: t");
	struct kube_config c;

	ck_assert_msg(kube_config_parse(text, strlen(text), "/etc/cni/kubeconfig", &c, &err) == 0,
		"%s", err.text);
	ck_assert_uint_eq(c.servers.n, 1);
	ck_assert_str_eq(c.servers.v[0], "https://192.0.2.1:6443");
	ck_assert_str_eq(c.ca_file, "/etc/cni/ca.pem");
	ck_assert_str_eq(c.server_name, "api");
	ck_assert_str_eq(c.cert_pem, "hello");
	ck_assert_str_eq(c.key_file, "/k.pem");
	ck_assert_str_eq(c.token, "t");
	ck_assert_ptr_null(c.token_file);
	ck_assert(!c.trust_all);
	kube_config_done(&c);
}
END_TEST

static struct kube_config config_of(const char *server, const char *ca)
{
	struct kube_config c = {.ca_pem = ca ? mem_strdup(ca) : NULL};

	vec_push(&c.servers, mem_strdup(server));
	return c;
}

#define PEM(s) "-----BEGIN CERTIFICATE-----\n" s "\n-----END CERTIFICATE-----\n"

START_TEST(of_another_cluster)
{
	static const char ours[] = PEM("AAAA\nBB==") PEM("CCCC");
	static const struct {
		const char *server, *ca;
		bool is_other;
	} cases[] = {
		{"https://192.0.2.1:6443", ours, false},
		/* The Service's address, and one CA of the two. */
		{"https://10.96.0.1:443", PEM("CCCC"), false},
		{"https://10.96.0.1:443", "# text\n" PEM("AAAABB=="), false},
		/* A load balancer's address, and a CA that is not said. */
		{"https://192.0.2.9:6443", NULL, false},
		{"https://192.0.2.9:6443", "no PEM", false},
		{"https://192.0.2.1:6443", PEM("DDDD"), false},
		{"https://192.0.2.9:6443", PEM("DDDD"), true},
		{"https://192.0.2.9:6443", PEM("AAAA"), true},
	};
	struct kube_config a = config_of("https://192.0.2.1:6443", ours);

	for (size_t i = 0; i < array_size(cases); i++) {
		struct kube_config b = config_of(cases[i].server, cases[i].ca);

		ck_assert_msg(kube_config_is_other(&a, &b) == cases[i].is_other, "case %zu", i);
		ck_assert_msg(kube_config_is_other(&b, &a) == cases[i].is_other, "case %zu", i);
		kube_config_done(&b);
	}
	kube_config_done(&a);
}
END_TEST

START_TEST(kubeconfigs_are_refused)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{"", "kubeconfig k: want one document, of kind Config"},
		{"a: [", "line "},
		{"kind: Config\n",
			"current-context is not set: kubectl config use-context sets it"},
		{"current-context: x\n", "contexts: no entry is called \"x\""},
		{CONFIG("server: h", ""), "cluster k: server: \"h\": want http://HOST:PORT or "},
		{CONFIG("server: 'https://u:pw@h'", ""),
			"server: a user in an address: give a token or a certificate"},
		{CONFIG("server: 'https://h', proxy-url: 'http://p'", ""),
			"proxies are not supported"},
		{CONFIG("server: 'https://h'", "exec: {command: aws}"),
			"user u: exec is not supported: give the user a token, a tokenFile or "
			"client-certificate and client-key"},
		{CONFIG("server: 'https://h'", "auth-provider: {name: gcp}"),
			"user u: auth-provider is not supported"},
		{CONFIG("server: 'https://h'", "client-key: k"), "or none of them"},
		{CONFIG("server: 'https://h', certificate-authority-data: '*'", ""),
			"certificate-authority-data: want base64 of PEM"},
		{CONFIG("server: 'https://h'", "token: 12345678"),
			"user u: token: want text: put it in quotes"},
	};
	struct kube_config c;

	for (size_t i = 0; i < array_size(cases); i++) {
		ck_assert_int_eq(
			kube_config_parse(cases[i].text, strlen(cases[i].text), "k", &c, &err),
			-EINVAL);
		ck_assert_msg(strstr(err.text, cases[i].why), "%s", err.text);
	}
}
END_TEST

START_TEST(parameters_in_place_of_a_kubeconfig)
{
	struct store_conf conf = {.kubernetes_service_host = "fd00::1",
		.kubernetes_service_port = "6443",
		.k8s_ca_file = "/ca",
		.k8s_cert_file = "/cert",
		.k8s_key_file = "/key"};
	struct kube_config c;

	ck_assert_int_eq(kube_config_load(&conf, &c, &err), 0);
	ck_assert_str_eq(c.servers.v[0], "https://[fd00::1]:6443");
	ck_assert_str_eq(c.ca_file, "/ca");
	ck_assert_ptr_null(c.token_file);
	kube_config_done(&c);
	conf.k8s_api_endpoint = "https://a:1, http://b";
	ck_assert_int_eq(kube_config_load(&conf, &c, &err), 0);
	ck_assert_uint_eq(c.servers.n, 2);
	ck_assert_str_eq(c.servers.v[0], "https://a:1");
	ck_assert_str_eq(c.servers.v[1], "http://b");
	kube_config_done(&c);
	conf.k8s_key_file = "";
	ck_assert_int_eq(kube_config_load(&conf, &c, &err), -EINVAL);
	ck_assert_str_eq(err.text, "want both K8S_CERT_FILE and K8S_KEY_FILE, or none");
	conf = (struct store_conf){.k8s_api_endpoint = "a:1"};
	ck_assert_int_eq(kube_config_load(&conf, &c, &err), -EINVAL);
	ck_assert_str_eq(
		err.text, "K8S_API_ENDPOINT: \"a:1\": want http://HOST:PORT or https://HOST:PORT");
	conf = (struct store_conf){.k8s_api_endpoint = ""};
	ck_assert_int_eq(kube_config_load(&conf, &c, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "wants KUBECONFIG, or K8S_API_ENDPOINT"));
	conf = (struct store_conf){.kubeconfig = "/proc/self/none"};
	ck_assert_int_eq(kube_config_load(&conf, &c, &err), -EHOSTUNREACH);
	ck_assert_str_eq(err.text, "KUBECONFIG: open /proc/self/none: No such file or directory");
}
END_TEST

/* A parameter that is set has the last word. */
START_TEST(parameters_beside_a_kubeconfig)
{
	static const char text[] =
		CONFIG("server: 'https://192.0.2.1:6443', certificate-authority: /old-ca",
			"token: \"old\\n\", client-certificate: /old-cert, client-key: /old-key");
	char path[] = "/tmp/margay-kube-XXXXXX";
	int fd = mkstemp(path);
	struct store_conf conf = {.kubeconfig = path, .k8s_api_token = "new"};
	struct kube_config c;

	ck_assert_int_eq(write(fd, text, strlen(text)), (int)strlen(text));
	close(fd);
	ck_assert_msg(kube_config_load(&conf, &c, &err) == 0, "%s", err.text);
	ck_assert_str_eq(c.token, "new");
	ck_assert_str_eq(c.ca_file, "/old-ca");
	ck_assert_str_eq(c.cert_file, "/old-cert");
	kube_config_done(&c);
	conf.k8s_api_token = "";
	ck_assert_int_eq(kube_config_load(&conf, &c, &err), 0);
	ck_assert_str_eq(c.token, "old");
	kube_config_done(&c);
	conf = (struct store_conf){.kubeconfig = path,
		.k8s_token_file = "/new-token",
		.k8s_ca_file = "/new-ca",
		.k8s_cert_file = "/new-cert",
		.k8s_key_file = "/new-key"};
	ck_assert_int_eq(kube_config_load(&conf, &c, &err), 0);
	ck_assert_ptr_null(c.token);
	ck_assert_str_eq(c.token_file, "/new-token");
	ck_assert_str_eq(c.ca_file, "/new-ca");
	ck_assert_str_eq(c.cert_file, "/new-cert");
	ck_assert_str_eq(c.key_file, "/new-key");
	kube_config_done(&c);
	conf.k8s_key_file = NULL;
	ck_assert_int_eq(kube_config_load(&conf, &c, &err), -EINVAL);
	ck_assert_str_eq(err.text, "want both K8S_CERT_FILE and K8S_KEY_FILE, or none");
	unlink(path);
}
END_TEST

START_TEST(servers_that_were_seen_come_last)
{
	char path[] = "/tmp/margay-kube-XXXXXX";
	static const char text[] = "https://192.0.2.1:6443\nhttp://192.0.2.2\ngarbage\n"
				   "https://10.96.0.1:443\nhttps://[fd00::1]:6443\n";
	int fd = mkstemp(path);
	struct store_conf conf = {.kubernetes_service_host = "10.96.0.1",
		.kubernetes_service_port = "443",
		.k8s_api_token = "t",
		.kube_endpoints_file = path};
	struct kube_config c;

	ck_assert_int_eq(write(fd, text, strlen(text)), (int)strlen(text));
	close(fd);
	ck_assert_int_eq(kube_config_load(&conf, &c, &err), 0);
	ck_assert_uint_eq(c.n_own, 1);
	ck_assert_uint_eq(c.servers.n, 3);
	ck_assert_str_eq(c.servers.v[0], "https://10.96.0.1:443");
	ck_assert_str_eq(c.servers.v[1], "https://192.0.2.1:6443");
	ck_assert_str_eq(c.servers.v[2], "https://[fd00::1]:6443");
	kube_config_done(&c);
	unlink(path);
	ck_assert_int_eq(kube_config_load(&conf, &c, &err), 0);
	ck_assert_uint_eq(c.servers.n, 1);
	kube_config_done(&c);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("kube");
	TCase *tc = tcase_create("kube");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, keys_name_objects);
	tcase_add_test(tc, keys_of_no_object_are_refused);
	tcase_add_test(tc, prefixes_name_lists);
	tcase_add_test(tc, names_of_affinities_are_never_too_long);
	tcase_add_test(tc, names_of_handles_are_never_too_long);
	tcase_add_test(tc, host_hashes);
	tcase_add_test(tc, what_ipam_stores);
	tcase_add_test(tc, what_other_versions_of_calico_wrote);
	tcase_add_test(tc, objects_that_make_no_sense_are_there_nonetheless);
	tcase_add_test(tc, a_resource_in_the_v1_group);
	tcase_add_test(tc, metadata_in_the_v1_group);
	tcase_add_test(tc, a_resource_in_the_v3_group_is_as_it_is);
	tcase_add_test(tc, policies_have_their_name_in_the_annotation);
	tcase_add_test(tc, a_node_is_a_view);
	tcase_add_test(tc, an_endpoint_is_a_view);
	tcase_add_test(tc, an_endpoint_is_written_by_a_patch);
	tcase_add_test(tc, what_a_pods_annotations_ask_for);
	tcase_add_test(tc, profiles_are_views);
	tcase_add_test(tc, services_are_as_they_are_and_read_only);
	tcase_add_test(tc, lists_are_taken_apart);
	tcase_add_test(tc, what_is_no_list);
	tcase_add_test(tc, a_long_list_takes_no_more_memory);
	tcase_add_test(tc, kubeconfigs_are_read);
	tcase_add_test(tc, of_another_cluster);
	tcase_add_test(tc, kubeconfigs_are_refused);
	tcase_add_test(tc, parameters_in_place_of_a_kubeconfig);
	tcase_add_test(tc, parameters_beside_a_kubeconfig);
	tcase_add_test(tc, servers_that_were_seen_come_last);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
