/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fills a datastore with what a big cluster has in it:
 *
 *	fill STORE [NODES [BLOCKS [SERVICES [ENDPOINTS [PODS]]]]]
 *
 *	STORE	sqlite:PATH, etcd:URL, or registry:URL, the etcd of a kube-apiserver, whose objects are
 *		written as it stores them: through its API it would be some minutes
 *
 * Blocks, and their affinities, are spread over the nodes, endpoints over the Services, each of which has
 * one EndpointSlice. PODS (0 by default) are the WorkloadEndpoints behind the first so many endpoints,
 * to a Kubernetes cluster its Pods. What Kubernetes' objects carry with them, such as the images of a
 * node and who wrote which field, is in their copies there: a reader has to pass over it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "bench.h"
#include "http.h"
#include "model/ipam.h"
#include "model/json.h"
#include "model/key.h"
#include "model/node.h"
#include "net/prefix.h"
#include "objects.h"
#include "store/etcd.h"
#include "store/kube_object.h"
#include "store/store.h"

#define BATCH 128 /* etcd takes so many in one transaction */
#define CREATED "2024-01-01T00:00:00Z"
#define NODE_NET 0x0a090000u	/* 10.9.0.0: its first address is that of node 0 */
#define POD_NET 0x0a800000u	/* 10.128.0.0/9 */
#define SERVICE_NET 0x0a600100u /* 10.96.1.0 */
#define IMAGES 50		/* of a Node: the kubelet tells of so many */

struct filling {
	struct store *st; /* SQLite; NULL: etcd */
	struct http *http;
	char *url;
	struct strbuf batch;
	size_t in_batch;
	bool registry;
	size_t written, bytes;
	int nodes, blocks, services, endpoints, pods;
};

/* ---- writing ---- */

static void flush(struct filling *f)
{
	if (f->in_batch == 0)
		return;
	strbuf_add(&f->batch, "]}");
	http_call(f->http, "POST", f->url, strbuf_str(&f->batch));
	strbuf_reset(&f->batch);
	f->in_batch = 0;
}

static void write_object(struct filling *f, const char *key, const char *value)
{
	f->written++;
	f->bytes += strlen(value);
	if (f->st) {
		objects_put(f->st, key, value);
		return;
	}
	strbuf_add(&f->batch, f->in_batch++ ? ",{\"request_put\":{\"key\":\""
					    : "{\"success\":[{\"request_put\":{\"key\":\"");
	base64_add(&f->batch, key, strlen(key));
	strbuf_add(&f->batch, "\",\"value\":\"");
	base64_add(&f->batch, value, strlen(value));
	strbuf_add(&f->batch, "\"}}");
	if (f->in_batch == BATCH)
		flush(f);
}

/* A resource of Calico's, which has the same value in SQLite and in etcd. */
static void write_calico(struct filling *f, const char *key, const char *value)
{
	struct kube_key k;
	struct err err = ERR_INIT;
	auto_free char *path = NULL, *text = NULL, *uid = NULL;
	auto_(json) json_t *body = NULL;
	json_t *meta;

	if (!f->registry) {
		write_object(f, key, value);
		return;
	}
	if (kube_key_parse(key, &k, &err) < 0 ||
		kube_object_write(&k, KUBE_CRD_V1, value, strlen(value), 0, &body, &err) < 0)
		die("%s", err_text(&err));
	meta = json_object_get(body, "metadata");
	uid = mem_printf("402a7d62-e552-4855-b6db-%012zu", f->written);
	json_object_set_new(meta, "uid", json_string(uid));
	json_object_set_new(meta, "creationTimestamp", json_string(CREATED));
	path = mem_printf("/registry/crd.projectcalico.org/%s/%s", k.kind->plural, k.name);
	text = model_json_dump(body);
	write_object(f, path, text);
}

/* ---- what is written ---- */

static const char *node_name(const struct filling *f, int i, char buf[static 32])
{
	snprintf(buf, 32, "node-%04d", i % f->nodes);
	return buf;
}

static const char *v4(uint32_t ip)
{
	static char buf[4][IP_TEXT_SIZE];
	static unsigned n;
	struct ip addr = ip_from_v4(ip);

	n = (n + 1) % 4;
	return ip_format(&addr, buf[n]);
}

/* Who wrote which field, as an API server keeps it. */
static void add_managed_fields(struct strbuf *b, const char *api)
{
	strbuf_addf(b,
		",\"managedFields\":[{\"manager\":\"kube-controller-manager\",\"operation\":"
		"\"Update\",\"apiVersion\":\"%s\",\"time\":\"" CREATED "\",\"fieldsType\":"
		"\"FieldsV1\",\"fieldsV1\":{\"f:metadata\":{\"f:labels\":{\".\":{},\"f:app\":{}},"
		"\"f:annotations\":{\".\":{},\"f:note\":{}},\"f:ownerReferences\":{\".\":{},"
		"\"k:{\\\"uid\\\":\\\"402a7d62-e552-4855-b6db-0c92fc0dbaf3\\\"}\":{}}},\"f:spec\":"
		"{\"f:ports\":{\".\":{},\"k:{\\\"port\\\":80,\\\"protocol\\\":\\\"TCP\\\"}\":{\".\":"
		"{},\"f:port\":{},\"f:protocol\":{},\"f:targetPort\":{}}},\"f:selector\":{},"
		"\"f:sessionAffinity\":{},\"f:type\":{}}}}]",
		api);
}

static void add_metadata(struct strbuf *b, const struct filling *f, const char *api, const char *ns,
	const char *name)
{
	strbuf_addf(b, "\"metadata\":{\"name\":\"%s\"", name);
	if (ns)
		strbuf_addf(b, ",\"namespace\":\"%s\"", ns);
	strbuf_addf(b,
		",\"uid\":\"402a7d62-e552-4855-b6db-%012zu\",\"creationTimestamp\":\"" CREATED "\"",
		f->written);
	if (f->registry)
		add_managed_fields(b, api);
}

static void fill_node(struct filling *f, int i)
{
	char name[32];
	auto_strbuf b = STRBUF_INIT;
	auto_free char *key = NULL;

	node_name(f, i, name);
	if (!f->registry) {
		auto_(node) struct node *n = node_new(name);
		auto_free char *text = NULL;

		n->meta.uid = mem_printf("402a7d62-e552-4855-b6db-%012d", i);
		n->meta.created = mem_strdup(CREATED);
		labels_set(&n->meta.labels, "kubernetes.io/hostname", name);
		labels_set(&n->meta.labels, "topology.kubernetes.io/zone", "zone-a");
		n->ipv4 = (struct prefix){ip_from_v4(NODE_NET + 1 + (uint32_t)i), 16};
		text = node_encode(n, NULL);
		write_object(f, key_str(KIND_NODE, NULL, name), text);
		return;
	}
	strbuf_add(&b, "{\"kind\":\"Node\",\"apiVersion\":\"v1\",");
	add_metadata(&b, f, "v1", NULL, name);
	strbuf_addf(&b,
		",\"labels\":{\"kubernetes.io/hostname\":\"%s\",\"topology.kubernetes.io/zone\":"
		"\"zone-a\"},\"annotations\":{\"projectcalico.org/IPv4Address\":\"%s/16\"}},\"spec\":"
		"{},\"status\":{\"addresses\":[{\"type\":\"InternalIP\",\"address\":\"%s\"},{\"type\":"
		"\"Hostname\",\"address\":\"%s\"}],\"images\":[",
		name, v4(NODE_NET + 1 + (uint32_t)i), v4(NODE_NET + 1 + (uint32_t)i), name);
	for (int k = 0; k < IMAGES; k++)
		strbuf_addf(&b,
			"%s{\"names\":[\"registry.example.org/team/image-%d@sha256:%064d\","
			"\"registry.example.org/team/image-%d:v1.2.3\"],\"sizeBytes\":%d}",
			k ? "," : "", k, k, k, 1000000 + k);
	strbuf_add(&b, "]}}");
	key = mem_printf("/registry/minions/%s", name);
	write_object(f, key, strbuf_str(&b));
}

static void fill_block(struct filling *f, int i)
{
	struct prefix cidr = {ip_from_v4(POD_NET + (uint32_t)i * 64), 26};
	auto_(ipam_block) struct ipam_block *block = ipam_block_new(&cidr);
	auto_free char *text = NULL, *affinity = NULL;
	char node[32], key[IPAM_KEY_SIZE];

	node_name(f, i, node);
	block->affinity = mem_printf("host:%s", node);
	text = ipam_block_encode(block);
	write_calico(f, ipam_key_block(&cidr, key), text);
	affinity = ipam_affinity_encode(&(struct ipam_affinity){.state = IPAM_CONFIRMED}, NULL);
	write_calico(f, ipam_key_affinity(node, &cidr, key), affinity);
}

/* What an API server would otherwise write when it starts. */
static void fill_service_address(
	struct filling *f, const char *ns, const char *name, const char *ip)
{
	auto_strbuf b = STRBUF_INIT;
	auto_free char *key = mem_printf("/registry/ipaddresses/%s", ip);

	strbuf_add(&b, "{\"kind\":\"IPAddress\",\"apiVersion\":\"networking.k8s.io/v1\",");
	add_metadata(&b, f, "networking.k8s.io/v1", NULL, ip);
	strbuf_addf(&b,
		",\"labels\":{\"ipaddress.kubernetes.io/ip-family\":\"IPv4\","
		"\"ipaddress.kubernetes.io/managed-by\":\"ipallocator.k8s.io\"}},\"spec\":"
		"{\"parentRef\":{\"group\":\"\",\"resource\":\"services\",\"namespace\":\"%s\","
		"\"name\":\"%s\"}}}",
		ns, name);
	write_object(f, key, strbuf_str(&b));
}

static void fill_service(struct filling *f, int i)
{
	const char *ip = v4(SERVICE_NET + (uint32_t)i);
	auto_strbuf b = STRBUF_INIT;
	auto_free char *key = NULL;
	char ns[32], name[32];

	snprintf(ns, sizeof(ns), "team-%02d", i % 50);
	snprintf(name, sizeof(name), "web-%05d", i);
	strbuf_add(&b, "{\"kind\":\"Service\",\"apiVersion\":\"v1\",");
	add_metadata(&b, f, "v1", ns, name);
	strbuf_addf(&b,
		",\"labels\":{\"app\":\"%s\"}},\"spec\":{\"ports\":[{\"name\":\"http\",\"protocol\":"
		"\"TCP\",\"port\":80,\"targetPort\":8080}],\"selector\":{\"app\":\"%s\"},"
		"\"clusterIP\":\"%s\",\"clusterIPs\":[\"%s\"],\"type\":\"ClusterIP\","
		"\"sessionAffinity\":\"None\",\"ipFamilies\":[\"IPv4\"],\"ipFamilyPolicy\":"
		"\"SingleStack\",\"internalTrafficPolicy\":\"Cluster\"},\"status\":{\"loadBalancer\":"
		"{}}}",
		name, name, ip, ip);
	if (f->registry) {
		key = mem_printf("/registry/services/specs/%s/%s", ns, name);
		fill_service_address(f, ns, name, ip);
	}
	write_object(f, key ?: key_str(KIND_SERVICE, ns, name), strbuf_str(&b));
}

static void fill_slice(struct filling *f, int i)
{
	int per = f->endpoints / f->services;
	auto_strbuf b = STRBUF_INIT;
	auto_free char *key = NULL;
	char ns[32], service[32], name[64], node[32];

	snprintf(ns, sizeof(ns), "team-%02d", i % 50);
	snprintf(service, sizeof(service), "web-%05d", i);
	snprintf(name, sizeof(name), "%s-x7k2p", service);
	strbuf_add(&b, "{\"kind\":\"EndpointSlice\",\"apiVersion\":\"discovery.k8s.io/v1\",");
	add_metadata(&b, f, "discovery.k8s.io/v1", ns, name);
	strbuf_addf(&b,
		",\"labels\":{\"app\":\"%s\",\"endpointslice.kubernetes.io/managed-by\":"
		"\"endpointslice-controller.k8s.io\",\"kubernetes.io/service-name\":\"%s\"}},"
		"\"addressType\":\"IPv4\",\"endpoints\":[",
		service, service);
	for (int k = 0; k < per; k++)
		strbuf_addf(&b,
			"%s{\"addresses\":[\"%s\"],\"conditions\":{\"ready\":true,\"serving\":true,"
			"\"terminating\":false},\"targetRef\":{\"kind\":\"Pod\",\"namespace\":\"%s\","
			"\"name\":\"%s-5d78c9869d-%05d\",\"uid\":"
			"\"402a7d62-e552-4855-b6db-%012d\"},\"nodeName\":\"%s\",\"zone\":\"zone-a\"}",
			k ? "," : "", v4(POD_NET + (uint32_t)(i * per + k)), ns, service, k,
			i * per + k, node_name(f, i * per + k, node));
	strbuf_add(&b, "],\"ports\":[{\"name\":\"http\",\"port\":8080,\"protocol\":\"TCP\"}]}");
	if (f->registry)
		key = mem_printf("/registry/endpointslices/%s/%s", ns, name);
	write_object(f, key ?: key_str(KIND_ENDPOINTSLICE, ns, name), strbuf_str(&b));
}

static void fill_pod(struct filling *f, int i)
{
	int per = f->endpoints / f->services, service = i / per;
	auto_strbuf b = STRBUF_INIT;
	auto_free char *key = NULL;
	char ns[32], name[64], node[32];

	snprintf(ns, sizeof(ns), "team-%02d", service % 50);
	snprintf(name, sizeof(name), "web-%05d-5d78c9869d-%05d", service, i % per);
	node_name(f, i, node);
	if (!f->registry) {
		auto_free char *endpoint = objects_endpoint(
			node, ns, name, POD_NET + (uint32_t)i, "cali0123456789a", &key);

		write_object(f, key, endpoint);
		return;
	}
	strbuf_add(&b, "{\"kind\":\"Pod\",\"apiVersion\":\"v1\",");
	add_metadata(&b, f, "v1", ns, name);
	strbuf_addf(&b,
		",\"labels\":{\"app\":\"web-%05d\",\"pod-template-hash\":\"5d78c9869d\"},"
		"\"annotations\":{\"cni.projectcalico.org/podIP\":\"%s/32\","
		"\"cni.projectcalico.org/podIPs\":\"%s/32\"}},\"spec\":{\"nodeName\":\"%s\","
		"\"containers\":[{\"name\":\"c\",\"image\":\"registry.example.org/team/image-1:v1.2.3\","
		"\"terminationMessagePath\":\"/dev/termination-log\",\"terminationMessagePolicy\":"
		"\"File\",\"imagePullPolicy\":\"Always\"}],\"restartPolicy\":\"Always\","
		"\"terminationGracePeriodSeconds\":30,\"dnsPolicy\":\"ClusterFirst\","
		"\"schedulerName\":\"default-scheduler\"},\"status\":{\"phase\":\"Running\","
		"\"podIP\":\"%s\",\"podIPs\":[{\"ip\":\"%s\"}]}}",
		service, v4(POD_NET + (uint32_t)i), v4(POD_NET + (uint32_t)i), node,
		v4(POD_NET + (uint32_t)i), v4(POD_NET + (uint32_t)i));
	key = mem_printf("/registry/pods/%s/%s", ns, name);
	write_object(f, key, strbuf_str(&b));
}

static void open_store(struct filling *f, const char *name)
{
	const char *at = strchr(name, ':');

	if (strncmp(name, "sqlite:", 7) == 0) {
		f->st = objects_open(at + 1);
		return;
	}
	f->registry = strncmp(name, "registry:", 9) == 0;
	if (!f->registry && strncmp(name, "etcd:", 5) != 0)
		die("\"%s\": want sqlite:PATH, etcd:URL or registry:URL", name);
	f->url = mem_printf("%s/v3/kv/txn", at + 1);
	f->http = http_new(NULL, NULL);
}

int main(int argc, char **argv)
{
	struct filling f = {0};
	double start = now_us();
	const struct {
		const char *what;
		int *n, def, max;
		void (*one)(struct filling *f, int i);
	} parts[] = {
		{"nodes", &f.nodes, 1000, 10000, fill_node},
		{"blocks", &f.blocks, 30000, 100000, fill_block},
		{"Services", &f.services, 5000, 50000, fill_service},
		{"endpoints", &f.endpoints, 50000, 1000000, NULL},
		{"pods", &f.pods, 0, 1000000, fill_pod},
	};

	if (argc < 2 || argc > 7)
		die("want STORE [NODES [BLOCKS [SERVICES [ENDPOINTS [PODS]]]]]");
	for (int i = 0; i < 5; i++)
		*parts[i].n = argc > 2 + i ? number(argv[2 + i], parts[i].what, 0, parts[i].max)
					   : parts[i].def;
	if (f.nodes < 1 || f.services < 1 || f.pods > f.endpoints / f.services * f.services)
		die("want a node, a Service, and an endpoint for each pod");
	open_store(&f, argv[1]);
	for (int p = 0; p < 5; p++)
		for (int i = 0; parts[p].one && i < *parts[p].n; i++)
			parts[p].one(&f, i);
	for (int i = 0; i < f.services; i++)
		fill_slice(&f, i);
	flush(&f);
	printf("%d nodes, %d blocks, %d Services, %d endpoints, %d pods: %zu objects, %.0f MB, written in "
	       "%.1f s\n",
		f.nodes, f.blocks, f.services, f.endpoints / f.services * f.services, f.pods,
		f.written, (double)f.bytes / 1e6, (now_us() - start) / 1e6);
	store_close(f.st);
	http_free(f.http);
	strbuf_done(&f.batch);
	free(f.url);
	return 0;
}
