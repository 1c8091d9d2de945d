/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The CNI verbs and the lock of a datastore that is being moved; what pods and configurations ask for. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cni/call.h"
#include "cni/ctx.h"
#include "cni/endpoint.h"
#include "cni/given.h"
#include "cni/home.h"
#include "cni/journal.h"
#include "cni/logfile.h"
#include "cni/pod.h"
#include "cni/replay.h"
#include "cni/reserved.h"
#include "cni/result.h"
#include "cni/turn.h"
#include "cni/wait.h"
#include "fake/store_fake.h"
#include "ipam/run.h"
#include "store/lock.h"
#include "store/store.h"

#define LOG_MODULE "test"
#include "base/log.h"

#define R "/calico/resources/v3/projectcalico.org/"
#define BLOCK_KEY "/calico/ipam/v2/assignment/ipv4/block/10.1.0.0-30"
#define V6_KEY "/calico/ipam/v2/assignment/ipv6/block/fd00::-126"
#define WEP_KEY R "workloadendpoints/default/n1-k8s-web-eth0"
#define NET1_KEY R "workloadendpoints/default/n1-k8s-web-net1"
#define CLUSTER(ready) "{\"kind\":\"ClusterInformation\",\"spec\":{\"datastoreReady\":" ready "}}"

static struct store *filled(void)
{
	struct store *st = store_fake_new(NULL);

	store_fake_put(st, STORE_LOCK_KEY, CLUSTER("true"));
	store_fake_put(st, R "ippools/p",
		"{\"kind\":\"IPPool\",\"metadata\":{\"name\":\"p\"},\"spec\":{\"cidr\":\"10.1.0.0/30\","
		"\"blockSize\":30}}");
	return st;
}

static const struct cni_request request = {.nl_fd = -1, .netns_fd = -1, .peer_fd = -1};

static struct call call_of(struct cni_conf *conf, struct store *st)
{
	return (struct call){.rq = &request,
		.conf = conf,
		.deadline_ms = clock_mono_ms() + CALL_TIMEOUT_MS,
		.container_id = "c1",
		.ifname = "eth0",
		.node = (char *)(uintptr_t) "n1",
		.handle = (char *)(uintptr_t) "net.c1",
		.wep_key = (char *)(uintptr_t)WEP_KEY,
		.k8s = true,
		.args = {.pod = (char *)(uintptr_t) "web"},
		.namespace = "default",
		.veth = "margay-no-such",
		.st = st};
}

/* Somebody has an address of the block. */
static bool is_used(const char *block)
{
	return block && strstr(block, "\"handle_id\":\"net.c1\"");
}

struct mover {
	struct store *st;
	bool moved, used; /* the address, in what is read once it is locked */
};

static void lock_and_read(void *arg)
{
	struct mover *m = arg;

	store_fake_put(m->st, STORE_LOCK_KEY, CLUSTER("false"));
	m->moved = true;
	m->used = is_used(store_fake_value(m->st, BLOCK_KEY));
}

/* Locked, and read, before each operation in turn: what succeeds was read, what fails is undone. */
START_TEST(what_is_written_beside_a_lock_is_read_or_undone)
{
	bool failed = false, done = false;

	for (unsigned n = 1; !done; n++) {
		struct mover m = {.st = filled()};
		struct cni_conf conf = {.name = (char *)(uintptr_t) "net", .assign_v4 = true};
		struct call c = call_of(&conf, m.st);
		struct strbuf out = STRBUF_INIT;
		struct err err = ERR_INIT;
		int r;

		store_fake_call_nth(m.st, n, lock_and_read, &m);
		r = call_ipam_add(&c, &out, &err);
		ck_assert_int_eq(is_used(store_fake_value(m.st, BLOCK_KEY)), r == 0);
		if (r != 0)
			ck_assert_ptr_nonnull(strstr(err.text, "is locked"));
		else
			ck_assert(!m.moved || m.used);
		failed |= r != 0;
		done = !m.moved;
		strbuf_done(&out);
		store_close(m.st);
		ck_assert_uint_lt(n, 100);
	}
	ck_assert(failed);
}
END_TEST

/* What is deleted after the lock is deleted once more, where it is moved to. */
START_TEST(a_deletion_beside_a_lock_comes_again)
{
	bool done = false;

	for (unsigned n = 1; !done; n++) {
		struct mover m = {.st = filled()};
		struct cni_conf conf = {.name = (char *)(uintptr_t) "net", .assign_v4 = true};
		struct call c = call_of(&conf, m.st);
		struct strbuf out = STRBUF_INIT;
		struct err err = ERR_INIT;
		int r;

		ck_assert_int_eq(call_ipam_add(&c, &out, &err), 0);
		store_fake_call_nth(m.st, n, lock_and_read, &m);
		r = call_ipam_del(&c, &err);
		if (r == 0)
			ck_assert(!m.used);
		done = !m.moved;
		strbuf_done(&out);
		store_close(m.st);
		ck_assert_uint_lt(n, 100);
	}
}
END_TEST

/* It may be locked: nothing is written. */
START_TEST(where_the_lock_cannot_be_read_nothing_is_released)
{
	struct store *st = filled();
	struct cni_conf conf = {.name = (char *)(uintptr_t) "net", .assign_v4 = true};
	struct call c = call_of(&conf, st);
	struct strbuf out = STRBUF_INIT;
	struct err err = ERR_INIT;

	c.ctx = cni_ctx_new(NULL);
	ck_assert_int_eq(call_ipam_add(&c, &out, &err), 0);
	store_fake_refuse(st, STORE_LOCK_KEY);
	ck_assert_int_eq(call_del(&c, &err), CNI_E_STORE);
	ck_assert(is_used(store_fake_value(st, BLOCK_KEY)));
	store_fake_refuse(st, NULL);
	ck_assert_int_eq(call_del(&c, &err), 0);
	ck_assert(!is_used(store_fake_value(st, BLOCK_KEY)));
	strbuf_done(&out);
	cni_ctx_free(c.ctx);
	store_close(st);
}
END_TEST

/* ---- what pods ask for ---- */

#define POD_KEY "/margay/v1/pods/default/web"
#define NS_KEY "/margay/v1/namespaces/default"
#define CALICO "cni.projectcalico.org/"

/* A Kubernetes with this pod and its namespace; each a JSON object of annotations. */
static struct store *kube_with(const char *of_pod, const char *of_namespace)
{
	auto_free char *pod = mem_printf(
		"{\"metadata\":{\"uid\":\"u1\",\"generateName\":\"w-\",\"labels\":{\"app\":\"w\"},"
		"\"annotations\":%s},\"spec\":{\"serviceAccountName\":\"sa\",\"containers\":[{\"ports\":["
		"{\"name\":\"http\",\"containerPort\":80}]}]}}",
		of_pod);
	auto_free char *namespace = mem_printf(
		"{\"metadata\":{\"labels\":{\"team\":\"x\"},\"annotations\":%s}}", of_namespace);
	struct store *st = filled();

	store_fake_manage(st);
	store_fake_put(st, POD_KEY, pod);
	store_fake_put(st, NS_KEY, namespace);
	return st;
}

static struct cni_conf *conf_of(const char *more)
{
	auto_free char *text = mem_printf("{\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"ipam\":{"
					  "\"type\":\"calico-ipam\",\"ipv4_pools\":[\"p\"]}%s}",
		more);
	struct cni_conf *c = NULL;
	struct err err = ERR_INIT;

	ck_assert_msg(cni_conf_parse(text, strlen(text), false, &c, &err) == 0, "%s", err.text);
	return c;
}

/* What is learnt of them in one line. */
static int learn(const char *of_pod, const char *of_namespace, const char *conf_more, char *ret,
	struct err *err)
{
	struct store *st = kube_with(of_pod, of_namespace);
	struct cni_conf *conf = conf_of(conf_more);
	struct call c = call_of(conf, st);
	struct strbuf sb = STRBUF_INIT;
	struct pod_wants w;
	int r = pod_learn(&c, &w, err);

	strbuf_addf(&sb, "%s%s", w.v4 ? "4" : "", w.v6 ? "6" : "");
	for (size_t i = 0; i < w.pools_v4.n; i++)
		strbuf_addf(&sb, " %s", w.pools_v4.v[i]);
	for (size_t i = 0; i < w.pools_v6.n; i++)
		strbuf_addf(&sb, " six:%s", w.pools_v6.v[i]);
	for (size_t i = 0; i < w.ips.n; i++)
		strbuf_addf(&sb, " %s%s", w.no_ipam ? "own:" : "ip:", ip_str(&w.ips.v[i]));
	for (size_t i = 0; i < w.floating.n; i++)
		strbuf_addf(&sb, " floating:%s", ip_str(&w.floating.v[i]));
	for (size_t i = 0; i < w.sources.n; i++)
		strbuf_addf(&sb, " source:%s", prefix_str(&w.sources.v[i]));
	if (!mac_is_zero(&w.mac))
		strbuf_addf(&sb, " %s", mac_str(&w.mac));
	snprintf(ret, 300, "%s", strbuf_str(&sb));
	strbuf_done(&sb);
	pod_wants_done(&w);
	cni_conf_free(conf);
	store_close(st);
	return r;
}

START_TEST(annotations_come_before_the_configuration)
{
	static const struct {
		const char *pod, *namespace, *conf, *want;
	} t[] = {
		{"{}", "{}", "", "4 p"},
		{"{\"" CALICO "ipv4pools\":\"[\\\"a\\\",\\\"b\\\"]\"}", "{}", "", "4 a b"},
		{"{}", "{\"" CALICO "ipv4pools\":\"[\\\"a\\\"]\"}", "", "4 a"},
		{"{\"" CALICO "ipv4pools\":\"\"}", "{\"" CALICO "ipv4pools\":\"[\\\"a\\\"]\"}", "",
			"4 a"},
		{"{\"" CALICO "ipv4pools\":\"[\\\"b\\\"]\"}",
			"{\"" CALICO "ipv4pools\":\"[\\\"a\\\"]\"}", "", "4 b"},
		{"{\"" CALICO "ipv4pools\":\"[]\"}", "{}", "", "4"},
		{"{\"" CALICO "ipFamilies\":\"[\\\"IPv6\\\"]\"}",
			"{\"" CALICO "ipv6pools\":\"[\\\"fd00::/64\\\"]\"}", "",
			"6 p six:fd00::/64"},
		{"{\"" CALICO "ipFamilies\":\"[\\\"IPv6\\\",\\\"IPv4\\\"]\"}", "{}", "", "46 p"},
		{"{\"" CALICO "ipAddrs\":\"[\\\"10.1.0.2\\\",\\\"fd00::2\\\"]\"}", "{}",
			",\"args\":{\"cni\":{\"ips\":[\"10.1.0.3\"]}}",
			"4 p ip:10.1.0.2 ip:fd00::2"},
		/* only of the Pod itself */
		{"{}", "{\"" CALICO "ipAddrs\":\"[\\\"10.1.0.2\\\"]\"}", "", "4 p"},
		{"{\"" CALICO "ipAddrsNoIpam\":\"[\\\"192.0.2.7\\\"]\"}", "{}",
			",\"feature_control\":{\"ip_addrs_no_ipam\":true}", "4 p own:192.0.2.7"},
		{"{\"" CALICO "hwAddr\":\"02:00:00:00:00:07\"}", "{}",
			",\"runtimeConfig\":{\"mac\":\"02:00:00:00:00:09\"}",
			"4 p 02:00:00:00:00:07"},
		{"{\"" CALICO "floatingIPs\":\"[\\\"192.0.2.8\\\"]\"}", "{}",
			",\"feature_control\":{\"floating_ips\":true}", "4 p floating:192.0.2.8"},
		{"{\"" CALICO "allowedSourcePrefixes\":\"[\\\"192.0.2.9/24\\\"]\"}", "{}", "",
			"4 p source:192.0.2.0/24"},
	};

	for (size_t i = 0; i < array_size(t); i++) {
		struct err err = ERR_INIT;
		char got[300];
		int r = learn(t[i].pod, t[i].namespace, t[i].conf, got, &err);

		ck_assert_msg(r == 0, "%s: %s", t[i].pod, err.text);
		ck_assert_str_eq(got, t[i].want);
	}
}
END_TEST

START_TEST(the_address_of_an_annotation_is_that_of_eth0)
{
	struct store *st = kube_with("{\"" CALICO "ipAddrs\":\"[\\\"10.1.0.2\\\"]\",\"" CALICO
				     "ipv4pools\":\"[\\\"a\\\"]\"}",
		"{}");
	struct cni_conf *conf = conf_of("");
	struct call c = call_of(conf, st);
	struct err err = ERR_INIT;
	struct pod_wants w;

	c.ifname = "net1";
	ck_assert_int_eq(pod_learn(&c, &w, &err), 0);
	ck_assert_uint_eq(w.ips.n, 0);
	ck_assert_str_eq(w.pools_v4.v[0], "a");
	pod_wants_done(&w);
	cni_conf_free(conf);
	store_close(st);
}
END_TEST

START_TEST(an_annotation_that_makes_no_sense_is_named)
{
	static const struct {
		const char *name, *value, *conf, *words;
	} t[] = {
		{"ipv4pools", "a", "",
			"annotation cni.projectcalico.org/ipv4pools of Pod default/web: got a, want a "
			"JSON list of names or CIDRs of pools"},
		{"ipv6pools", "[1]", "", "ipv6pools of Pod default/web: got [1], want a JSON list"},
		{"ipv4pools", "[\\\"fd00::/64\\\"]", "",
			"the annotation ipv4pools: got fd00::/64, want pools of IPv4, by name or CIDR"},
		{"ipv6pools",
			"[\\\"six\\\",\\\"10.1.0.0/30\\\"]\",\"" CALICO
			"ipFamilies\":\"[\\\"IPv6\\\"]",
			"", "the annotation ipv6pools: got 10.1.0.0/30, want pools of IPv6"},
		{"ipFamilies", "[\\\"IPv5\\\"]", "", "\"IPv4\", \"IPv6\" or both"},
		{"ipFamilies", "[]", "", "\"IPv4\", \"IPv6\" or both"},
		{"ipAddrs", "[]", "", "at most one IPv4 and one IPv6 address"},
		{"ipAddrs", "[\\\"10.0.0.1\\\",\\\"10.0.0.2\\\"]", "", "at most one IPv4"},
		{"ipAddrs", "[\\\"10.0.0.1\\\"]\",\"" CALICO "ipAddrsNoIpam\":\"[\\\"10.0.0.1\\\"]",
			"", "not both"},
		{"ipAddrsNoIpam", "[\\\"10.0.0.1\\\"]", "", "feature_control.ip_addrs_no_ipam"},
		{"hwAddr", "01:00:5e:00:00:01", "", "a unicast Ethernet address"},
		{"floatingIPs", "[\\\"192.0.2.8\\\"]", "", "feature_control.floating_ips"},
		{"floatingIPs", "[\\\"fd00::8\\\"]", ",\"feature_control\":{\"floating_ips\":true}",
			"of the families alone that the pod has"},
		{"allowedSourcePrefixes", "[\\\"192.0.2.0\\\"]", "", "a JSON list of CIDRs"},
	};

	for (size_t i = 0; i < array_size(t); i++) {
		auto_free char *pod =
			mem_printf("{\"" CALICO "%s\":\"%s\"}", t[i].name, t[i].value);
		struct err err = ERR_INIT;
		char got[300];

		ck_assert_int_eq(learn(pod, "{}", t[i].conf, got, &err), CNI_E_CONF);
		ck_assert_msg(strstr(err.text, t[i].words), "%s", err.text);
	}
}
END_TEST

/* It has pools of its own, or none, and gives what it will. */
START_TEST(another_ipam_plugin_has_no_pools_of_ours)
{
	struct store *st = kube_with("{\"" CALICO "ipv4pools\":\"[\\\"a\\\"]\"}", "{}");
	struct cni_conf *conf = conf_of("");
	struct call c = call_of(conf, st);
	struct err err = ERR_INIT;
	struct pod_wants w;

	free(conf->ipam_type);
	conf->ipam_type = mem_strdup("host-local");
	ck_assert_int_eq(pod_learn(&c, &w, &err), 0);
	ck_assert_str_eq(w.pools_v4.v[0], "p");
	pod_wants_done(&w);
	store_fake_put(st, POD_KEY,
		"{\"metadata\":{\"annotations\":{\"" CALICO "ipAddrs\":\"[\\\"10.1.0.1\\\"]\"}}}");
	ck_assert_int_eq(pod_learn(&c, &w, &err), CNI_E_CONF);
	ck_assert_ptr_nonnull(strstr(err.text, "want ipam.type to be margay-ipam"));
	pod_wants_done(&w);
	cni_conf_free(conf);
	store_close(st);
}
END_TEST

START_TEST(a_pod_that_cannot_be_read_is_waited_for)
{
	struct store *st = kube_with("{}", "{}");
	struct cni_conf *conf = conf_of("");
	struct call c = call_of(conf, st);
	struct err err = ERR_INIT;
	struct pod_wants w;

	store_fake_put(st, POD_KEY, NULL);
	ck_assert_int_eq(pod_learn(&c, &w, &err), CNI_E_AGAIN);
	ck_assert_ptr_nonnull(strstr(err.text, "there is no Pod default/web"));
	pod_wants_done(&w);
	store_fake_away(st, true);
	ck_assert_int_eq(pod_learn(&c, &w, &err), CNI_E_AGAIN);
	pod_wants_done(&w);
	c.args.pod = (char *)(uintptr_t) ".";
	ck_assert_int_eq(pod_learn(&c, &w, &err), CNI_E_ENV);
	pod_wants_done(&w);
	/* Of what is no pod nothing is asked. */
	c.k8s = false;
	ck_assert_int_eq(pod_learn(&c, &w, &err), 0);
	pod_wants_done(&w);
	cni_conf_free(conf);
	store_close(st);
}
END_TEST

static void find_in_store(void *arg, const char *namespace, const char *name, struct pod **ret_pod,
	struct namespace **ret_namespace)
{
	const char *pod = store_fake_value(arg, POD_KEY);
	const char *ns = store_fake_value(arg, NS_KEY);

	ck_assert_str_eq(namespace, "default");
	ck_assert_str_eq(name, "web");
	ck_assert_int_eq(pod_decode(POD_KEY, pod, strlen(pod), ret_pod, NULL), 0);
	ck_assert_int_eq(namespace_decode(NS_KEY, ns, strlen(ns), ret_namespace, NULL), 0);
}

/* In another datastore than Kubernetes, by what somebody has in memory. */
START_TEST(an_endpoint_has_what_its_pod_has)
{
	struct store *mem = kube_with("{}", "{}"), *st = filled();
	const struct pod_source source = {.find = find_in_store, .arg = mem};
	const struct cni_request rq = {.nl_fd = -1, .netns_fd = -1, .pods = &source};
	struct cni_conf *conf = conf_of(
		",\"policy\":{\"type\":\"k8s\",\"k8s_api_root\":\"http://127.0.0.1:1/api/v1\"},"
		"\"feature_control\":{\"floating_ips\":true}");
	struct call c = call_of(conf, st);
	const struct ip ip = {IP_V4, {10, 1, 0, 1}};
	const struct mac mac = {{2, 0, 0, 0, 0, 1}};
	struct err err = ERR_INIT;
	struct pod_wants w;
	const char *text;
	struct wep *wep;

	ck_assert_str_eq(conf->kube.k8s_api_endpoint, "http://127.0.0.1:1");
	c.rq = &rq;
	ck_assert_int_eq(pod_learn(&c, &w, &err), 0);
	vec_push(&w.floating, ((struct ip){IP_V4, {192, 0, 2, 8}}));
	ck_assert_int_eq(endpoint_put(&c, &w, &ip, 1, &mac, &err), 0);
	text = store_fake_value(st, WEP_KEY);
	ck_assert_int_eq(wep_decode(WEP_KEY, text, strlen(text), &wep, &err), 0);
	ck_assert_str_eq(labels_get(&wep->meta.labels, "app"), "w");
	ck_assert_str_eq(labels_get(&wep->meta.labels, "projectcalico.org/serviceaccount"), "sa");
	ck_assert_str_eq(wep->generate_name, "w-");
	ck_assert_str_eq(wep->service_account, "sa");
	ck_assert_uint_eq(wep->profiles.v.n, 2);
	ck_assert_str_eq(wep->profiles.v.v[0], "kns.default");
	ck_assert_str_eq(wep->profiles.v.v[1], "ksa.default.sa");
	ck_assert_uint_eq(wep->ports.n, 1);
	ck_assert_str_eq(wep->ports.v[0].name, "http");
	ck_assert_uint_eq(wep->nats.n, 1);
	ck_assert_ptr_nonnull(strstr(
		text, "\"ipNATs\":[{\"internalIP\":\"10.1.0.1\",\"externalIP\":\"192.0.2.8\"}]"));
	wep_free(wep);
	pod_wants_done(&w);
	/* What is in memory is of the pod that had the name before: it is fetched, where nobody is. */
	c.args.uid = (char *)(uintptr_t) "u2";
	c.deadline_ms = clock_mono_ms() + 500;
	ck_assert_int_eq(pod_learn(&c, &w, &err), CNI_E_AGAIN);
	ck_assert_ptr_nonnull(strstr(err.text, "the pod's annotations and labels"));
	pod_wants_done(&w);
	cni_conf_free(conf);
	store_close(st);
	store_close(mem);
}
END_TEST

START_TEST(the_configuration_of_calico_is_taken)
{
	struct cni_conf *c = conf_of(
		",\"device_type\":\"netkit\",\"num_queues\":-1,\"qps\":1.5,\"burst\":10,\"ipam_lock_file\":\"/x\","
		"\"log_file_path\":\"/l\",\"log_file_max_size\":1,\"readiness_gates\":[\"http://a\"],"
		"\"policy_setup_timeout_seconds\":7,\"dataplane_options\":{},\"kubernetes\":{"
		"\"kubeconfig\":\"/k\",\"node_name\":\"n\"},\"policy\":{\"type\":\"k8s\","
		"\"k8s_auth_token\":\"t\"},\"args\":{\"org.apache.mesos\":{}},\"runtimeConfig\":{"
		"\"dns\":{}}");
	static const struct {
		const char *conf, *words;
	} bad[] = {
		{"\"device_type\":\"tap\"",
			"device_type: got \"tap\", want \"veth\" or \"netkit\""},
		{"\"dataplane_options\":{\"type\":\"grpc\"}",
			"dataplane_options.type: got \"grpc\""},
		{"\"num_queues\":4097", "num_queues: got 4097, want a whole number from 1 to 4096"},
		{"\"policy_setup_timeout_seconds\":-1", "policy_setup_timeout_seconds: got -1"},
		{"\"readiness_gates\":[1]", "readiness_gates: got [1], want a list of URLs"},
		{"\"qps\":\"a\"", "qps: got \"a\", want a number"},
		{"\"ipam_lock_file\":1", "ipam_lock_file: got 1, want a string"},
		{"\"feature_control\":{\"floating_ips\":\"true\"}", "floating_ips: got \"true\""},
		{"\"policy\":{\"k8s_auth_token\":[\"s3cret\"]}",
			"policy.k8s_auth_token: want a string"},
	};

	ck_assert(c->netkit);
	ck_assert_uint_eq(c->n_queues, 0);
	ck_assert_uint_eq(c->policy_setup_timeout_s, 7);
	ck_assert_str_eq(c->endpoint_status_dir, "/var/run/calico/endpoint-status");
	ck_assert_uint_eq(c->log_file_max_mb, 1);
	ck_assert_uint_eq(c->log_file_max_count, 10);
	ck_assert_str_eq(c->kube.kubeconfig, "/k");
	ck_assert_str_eq(c->kube.k8s_api_token, "t");
	ck_assert_str_eq(c->store.kubeconfig, "/k");
	ck_assert_str_eq(c->store.k8s_api_token, "t");
	for (size_t i = 0; i < array_size(bad); i++) {
		auto_free char *text = mem_printf("{\"name\":\"n\",%s}", bad[i].conf);
		struct err err = ERR_INIT;
		struct cni_conf *none;

		ck_assert_int_eq(
			cni_conf_parse(text, strlen(text), false, &none, &err), CNI_E_CONF);
		ck_assert_msg(strstr(err.text, bad[i].words), "%s", err.text);
	}
	cni_conf_free(c);
}
END_TEST

START_TEST(pod_cidrs_are_asked_for_by_name)
{
	static const struct {
		const char *ipam;
		bool v4, v6;
	} cases[] = {
		{"{\"type\":\"host-local\",\"subnet\":\"10.0.0.0/24\"}", false, false},
		{"{\"type\":\"host-local\",\"subnet\":\"usePodCidr\"}", true, false},
		{"{\"type\":\"host-local\",\"subnet\":\"USEPODCIDRIPV6\"}", false, true},
		{"{\"type\":\"host-local\",\"ranges\":[[{\"subnet\":\"usePodCidr\"}],"
		 "[{\"subnet\":\"usePodCidrIPv6\"}]]}",
			true, true},
		{"{\"ranges\":{\"subnet\":\"usePodCidr\"},\"subnet\":[\"usePodCidr\"]}", false,
			false},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		auto_free char *text = mem_printf("{\"name\":\"n\",\"ipam\":%s}", cases[i].ipam);
		struct cni_conf *c;

		ck_assert_int_eq(cni_conf_parse(text, strlen(text), false, &c, NULL), 0);
		ck_assert_int_eq(c->pod_cidr_v4, cases[i].v4);
		ck_assert_int_eq(c->pod_cidr_v6, cases[i].v6);
		cni_conf_free(c);
	}
}
END_TEST

static char dir[] = "/tmp/margay-test-cni-XXXXXX";

static void make_dir(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	setenv("MARGAY_RUN_DIR", dir, 1);
}

static void drop_dir(void)
{
	auto_free char *command = mem_printf("rm -r %s", dir);

	ck_assert_int_eq(system(command), 0);
}

START_TEST(the_policy_of_an_endpoint_is_waited_for)
{
	struct cni_conf conf = {.policy_setup_timeout_s = 20, .endpoint_status_dir = dir};
	struct store *st = store_fake_new(NULL);
	struct call c = call_of(&conf, st);
	auto_free char *path = mem_printf("%s/k8s default%%2Fweb eth0", dir);
	int64_t begun = clock_mono_ms();
	pid_t writer = fork();

	if (writer == 0) {
		usleep(100000);
		_exit(close(open(path, O_CREAT | O_WRONLY, 0644)));
	}
	wait_policy(&c);
	ck_assert_int_eq(access(path, F_OK), 0);
	ck_assert_int_lt(clock_mono_ms() - begun, 10000);
	unlink(path);
	conf.policy_setup_timeout_s = 1;
	begun = clock_mono_ms();
	wait_policy(&c);
	ck_assert_int_ge(clock_mono_ms() - begun, 1000);
	/* On Kubernetes the pod's other interfaces have none. */
	store_fake_manage(st);
	conf.policy_setup_timeout_s = 20;
	c.ifname = "net1";
	c.wep_key = (char *)(uintptr_t)NET1_KEY;
	begun = clock_mono_ms();
	wait_policy(&c);
	ck_assert_int_lt(clock_mono_ms() - begun, 1000);
	store_close(st);
}
END_TEST

START_TEST(a_gate_that_stays_shut_is_named)
{
	struct cni_conf *conf = conf_of(",\"readiness_gates\":[\"http://127.0.0.1:1/ready\"]");
	struct call c = call_of(conf, NULL);
	struct err err = ERR_INIT;

	c.deadline_ms = clock_mono_ms() + 6500;
	ck_assert_int_eq(wait_ready(&c, &err), CNI_E_AGAIN);
	ck_assert_ptr_nonnull(strstr(err.text, "readiness_gates[0]: http://127.0.0.1:1/ready: "));
	cni_conf_free(conf);
}
END_TEST

static void write_given(const char *network, const char *container_id, const char *result)
{
	const struct given g = {(char *)(uintptr_t)network, (char *)(uintptr_t)container_id,
		(char[]){"eth0"}, (char[]){"A=b"}, (char *)(uintptr_t)result};

	ck_assert_int_eq(given_write(&g, NULL), 0);
}

START_TEST(what_another_ipam_plugin_gave_is_found_again)
{
	auto_free char *damaged =
		mem_printf("%s/given/0123456789012345678901234567890123456789", dir);
	struct given bad = {(char[]){"n"}, (char[]){"c"}, (char[]){"eth0"}, (char[]){""}, NULL};
	struct given_list l;
	struct given *g;

	setenv("MARGAY_CNI_STATE_DIR", dir, 1);
	ck_assert_int_eq(given_read("n", "a", "eth0", &g, NULL), -ENOENT);
	ck_assert_int_eq(given_remove("n", "a", "eth0", NULL), 0);
	ck_assert_int_eq(given_list("n", &l, NULL), 0);
	ck_assert_uint_eq(l.v.n, 0);
	write_given("n", "a", "{\"ips\":[]}");
	write_given("n", "a", "{\"ips\":\"\n\"}");
	write_given("n", "b", "{}");
	write_given("n.a", "b", "{}");
	ck_assert_int_gt(file_write_atomic(damaged, "{}", 2, 0600, NULL), 0);
	ck_assert_int_eq(given_read("n", "a", "eth0", &g, NULL), 0);
	ck_assert_str_eq(g->result, "{\"ips\":\"\n\"}");
	ck_assert_str_eq(g->args, "A=b");
	given_free(g);
	ck_assert_int_eq(given_read("n", "a", "eth1", &g, NULL), -ENOENT);
	ck_assert_int_eq(given_list("n", &l, NULL), 0);
	ck_assert_uint_eq(l.v.n, 2);
	given_list_done(&l);
	ck_assert_int_eq(given_remove("n", "a", "eth0", NULL), 0);
	ck_assert_int_eq(given_read("n", "a", "eth0", &g, NULL), -ENOENT);
	bad.result = (char[]){"\xff"};
	ck_assert_int_eq(given_write(&bad, NULL), -EINVAL);
	unsetenv("MARGAY_CNI_STATE_DIR");
}
END_TEST

START_TEST(a_log_that_is_long_begins_anew)
{
	auto_free char *path = mem_printf("%s/made/log", dir);
	auto_free char *one = mem_printf("%s.1", path), *two = mem_printf("%s.2", path);
	auto_free char *three = mem_printf("%s.3", path), *text = NULL;
	struct cni_conf conf = {.log_file_path = path,
		.log_file_max_mb = 1,
		.log_file_max_days = 1,
		.log_file_max_count = 2};
	struct stat st;

	for (int i = 0; i < 4; i++) {
		logfile_open(&conf);
		log_warn("turn %d", i);
		logfile_close();
		if (i < 3)
			ck_assert_int_eq(truncate(path, 1024 * 1024), 0);
	}
	log_warn("not in there");
	ck_assert_int_eq(file_read(path, 1000, &text, NULL, NULL), 0);
	ck_assert_ptr_nonnull(strstr(text, "test: turn 3"));
	ck_assert_ptr_null(strstr(text, "turn 2"));
	ck_assert_ptr_null(strstr(text, "not in there"));
	ck_assert(stat(one, &st) == 0 && stat(two, &st) == 0 && stat(three, &st) < 0);
}
END_TEST

static char *kubeconfig(const char *name, const char *server, const char *ca)
{
	char *path = mem_printf("%s/%s", dir, name);
	auto_free char *text =
		mem_printf("{current-context: c, contexts: [{name: c, context: {cluster: k}}], "
			   "clusters: [{name: k, cluster: {server: '%s', "
			   "certificate-authority-data: %s}}]}",
			server, ca);

	ck_assert_int_eq(file_write_atomic(path, text, strlen(text), 0600, NULL), 1);
	return path;
}

/* base64 of PEM, whose certificates are AAAA and BBBB */
#define CA_A                                                           \
	"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBQUEKLS0tLS1FTkQgQ0VS" \
	"VElGSUNBVEUtLS0tLQo="
#define CA_B                                                           \
	"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkJCQkIKLS0tLS1FTkQgQ0VS" \
	"VElGSUNBVEUtLS0tLQo="

/* What a server's datastore is not is refused by name, and not what may be its in other words. */
START_TEST(of_another_cluster_the_configuration_is_refused)
{
	auto_free char *own = kubeconfig("own", "https://192.0.2.1:6443", CA_A);
	auto_free char *other = kubeconfig("other", "https://192.0.2.9:6443", CA_B);
	auto_free char *none = mem_printf("%s/none", dir);
	struct cni_conf conf = {.store = {.type = "kubernetes"}};
	const struct cni_home home = {.node = "n1",
		.store = {.type = "kubernetes",
			.kubeconfig = own,
			.calico_api_group = "crd.projectcalico.org/v1"}};
	struct cni_ctx *ctx = cni_ctx_new(&home);
	const char *files[] = {NULL, own, none, other};
	struct err err = ERR_INIT;

	for (size_t i = 0; i < array_size(files); i++) {
		conf.store.kubeconfig = files[i];
		ck_assert_int_eq(home_check(&home, &conf, &err), 0);
		ck_assert_int_eq(
			ctx_check_cluster(ctx, &conf.store, &err), files[i] == other ? -EINVAL : 0);
	}
	ck_assert_ptr_nonnull(strstr(err.text, "netconf: kubernetes.kubeconfig: "));
	ck_assert_ptr_nonnull(strstr(err.text, "https://192.0.2.9:6443"));
	conf.store.kubeconfig = NULL;
	conf.store.k8s_api_endpoint = "https://192.0.2.9:6443";
	ck_assert_int_eq(ctx_check_cluster(ctx, &conf.store, &err), 0); /* whose CA is not said */
	conf.store.calico_api_group = "projectcalico.org/v3";
	ck_assert_int_eq(home_check(&home, &conf, &err), CNI_E_CONF);
	ck_assert_ptr_nonnull(strstr(err.text, "netconf: calico_api_group: "));
	cni_ctx_free(ctx);
}
END_TEST

/* What waits, carried out. */
static void replay_all(struct call *c)
{
	struct replay rp = {.st = c->st,
		.journal = c->journal,
		.node = "n1",
		.reserve = "margay-reserve-n1",
		.deadline_ms = c->deadline_ms};
	const struct journal_op *op;

	while ((op = journal_next(c->journal, 0))) {
		ck_assert_int_eq(replay_op(&rp, op, NULL), 0);
		ck_assert_int_eq(journal_done(c->journal, op->n, NULL), 0);
	}
}

/* With ADD's arguments or without; and then the plugin whose endpoint it is. */
START_TEST(of_the_ipam_plugin_the_journal_has_addresses_alone)
{
	static const struct cni_request ipam = {
		.ipam_only = true, .nl_fd = -1, .netns_fd = -1, .peer_fd = -1};
	static const char wep[] =
		"{\"kind\":\"WorkloadEndpoint\",\"spec\":{\"containerID\":\"c1\",\"pod\":\"web\","
		"\"node\":\"n1\",\"orchestrator\":\"k8s\",\"endpoint\":\"eth0\"}}";
	struct cni_conf conf = {.name = (char *)(uintptr_t) "net", .assign_v4 = true};

	for (int pod = 0; pod < 2; pod++) {
		struct store *st = filled();
		struct call c = call_of(&conf, st);
		struct strbuf out = STRBUF_INIT;

		ck_assert_int_eq(call_ipam_add(&c, &out, NULL), 0);
		store_fake_put(st, WEP_KEY, wep);
		ck_assert_int_eq(journal_open(dir, true, &c.journal, NULL), 0);
		c.rq = &ipam;
		c.k8s = pod;
		ck_assert_int_eq(call_ipam_del(&c, NULL), 0);
		replay_all(&c);
		ck_assert(!is_used(store_fake_value(st, BLOCK_KEY)));
		ck_assert_ptr_nonnull(store_fake_value(st, WEP_KEY));
		ck_assert_int_eq(call_ipam_del(&c, NULL), 0);
		c.rq = &request;
		c.k8s = true;
		ck_assert_int_eq(reserved_give_back(&c, NULL), 0);
		replay_all(&c);
		ck_assert_ptr_null(store_fake_value(st, WEP_KEY));
		strbuf_done(&out);
		journal_close(c.journal);
		store_close(st);
	}
}
END_TEST

/* The node's reserve has one address, in the datastore and in the journal. */
static void hold_one(struct store *st, struct journal *j)
{
	const struct ipam_attr attrs[] = REPLAY_RESERVE_ATTRS("n1");
	struct ipam_request *rq = ipam_assign_new(&(struct ipam_assign){.host = "n1",
		.handle = "margay-reserve-n1",
		.attrs = attrs,
		.n_attrs = array_size(attrs),
		.v4 = true,
		.now_ns = 1});

	ck_assert_int_eq(ipam_run(st, rq, 0, NULL), 0);
	ck_assert_int_eq(journal_seen(j, "n1", true, "", NULL), 0);
	ck_assert_int_eq(journal_hold(j, ipam_request_addr(rq, IP_V4), NULL), 0);
	ipam_request_free(rq);
}

/* One address goes to its pool by the second try, and of the other the datastore says no. */
START_TEST(what_fails_is_told_without_what_went_before)
{
	const struct ipam_addr more[] = {{.ip = {.family = IP_V4, .b = {10, 9}},
						 .block = {{.family = IP_V4, .b = {10, 9}}, 30}},
		{.ip = {.family = IP_V6, .b = {0xfd}},
			.block = {{.family = IP_V6, .b = {0xfd}}, 126}}};
	struct cni_conf conf = {.name = (char *)(uintptr_t) "net"};
	struct journal_want w = {.v4 = true, .v6 = true};
	struct store *st = filled();
	struct call c = call_of(&conf, st);
	struct replay rp = {.st = st, .node = "n1", .reserve = "margay-reserve-n1", .n_reserve = 1};
	struct err err = ERR_INIT;
	struct ipam_addr got[2];
	size_t n;

	c.ctx = cni_ctx_new(NULL);
	ck_assert_int_eq(journal_open(dir, true, &c.journal, NULL), 0);
	hold_one(st, c.journal);
	for (size_t i = 0; i < array_size(more); i++)
		ck_assert_int_eq(journal_hold(c.journal, &more[i], NULL), 0);
	ck_assert_int_eq(reserved_take(&c, &w, got, &n, NULL), 0);
	ck_assert_int_eq(journal_done(c.journal, journal_next(c.journal, 0)->n, NULL), 0);
	ck_assert_int_eq(reserved_give_back(&c, NULL), 0);
	store_fake_refuse(st, V6_KEY);
	rp.journal = c.journal;
	rp.deadline_ms = c.deadline_ms;
	ck_assert_int_eq(replay_op(&rp, journal_next(c.journal, 0), &err), -EACCES);
	ck_assert_str_eq(
		err.text, "DEL of net.c1: " V6_KEY ": fake datastore: " V6_KEY ": refused");
	cni_ctx_free(c.ctx);
	journal_close(c.journal);
	store_close(st);
}
END_TEST

/* By which way it gives an address. */
enum way { WITHOUT_JOURNAL, BY_DATASTORE, BY_RESERVE, N_WAYS };

/* Of an address that is in out, and then of another. */
static void check_ipam(struct call *c, const struct strbuf *out)
{
	json_t *j = json_loads(out->s, 0, NULL);

	ck_assert_int_eq(cni_result_decode(j, &c->conf->prev, NULL), 0);
	ck_assert_int_eq(call_ipam_check(c, NULL), 0);
	c->conf->prev->ips.v[0].address.addr.b[3] ^= 1;
	ck_assert_int_eq(call_ipam_check(c, NULL), CNI_E_CHECK);
	cni_result_free(take_ptr(c->conf->prev));
	json_decref(j);
}

/*
 * Of a pod, or not: that it is margay-ipam's, which writes no endpoint. margay's do not say so. And where there is a
 * journal, CHECK asks no datastore.
 */
START_TEST(what_the_ipam_plugin_gives_is_marked_and_checked)
{
	static const struct cni_request ipam = {
		.ipam_only = true, .nl_fd = -1, .netns_fd = -1, .peer_fd = -1};
	struct cni_conf conf = {.name = (char *)(uintptr_t) "net", .assign_v4 = true};
	struct cni_ctx *ctx = cni_ctx_new(NULL);

	for (unsigned i = 0; i < 4 * N_WAYS; i++) {
		const enum way way = i / 4;
		struct store *st = filled();
		struct call c = call_of(&conf, st);
		struct strbuf out = STRBUF_INIT;
		const char *block;

		c.ctx = ctx;
		c.k8s = i & 1;
		c.rq = i & 2 ? &ipam : &request;
		c.handle = mem_printf("net.c-%u", i); /* the journal has the earlier ones' */
		if (way != WITHOUT_JOURNAL)
			ck_assert_int_eq(journal_open(dir, true, &c.journal, NULL), 0);
		if (way == BY_RESERVE) {
			hold_one(st, c.journal);
			store_fake_away(st, true);
		}
		ck_assert_int_eq(call_ipam_add(&c, &out, NULL), 0);
		store_fake_away(st, way != WITHOUT_JOURNAL);
		check_ipam(&c, &out);
		store_fake_away(st, false);
		if (way == BY_RESERVE)
			replay_all(&c);
		block = store_fake_value(st, BLOCK_KEY);
		ck_assert_msg(strstr(block, c.handle), "%u: %s", i, block);
		ck_assert_msg(
			!strstr(block, "\"type\":\"margayIpam\"") == !(i & 2), "%u: %s", i, block);
		ck_assert_msg(!strstr(block, "\"pod\":\"web\"") == !(i & 1), "%u: %s", i, block);
		if (c.journal) {
			ck_assert_int_eq(call_ipam_del(&c, NULL), 0);
			ck_assert_int_eq(call_ipam_check(&c, NULL), CNI_E_CHECK);
			replay_all(&c);
			ck_assert(!strstr(store_fake_value(st, BLOCK_KEY), "margayIpam"));
		}
		free(c.handle);
		strbuf_done(&out);
		journal_close(c.journal);
		store_close(st);
	}
	cni_ctx_free(ctx);
}
END_TEST

struct keeper {
	struct journal *j;
	struct ipam_addr addr;
	bool came;
};

/* What inherit.h is for. */
static void inherit(void *arg)
{
	const struct journal_owner o = {.handle = (char *)(uintptr_t) "net.c1",
		.container_id = (char *)(uintptr_t) "c1",
		.ifname = (char *)(uintptr_t) "eth0",
		.namespace = (char *)(uintptr_t) "default",
		.pod = (char *)(uintptr_t) "web",
		.key = (char *)(uintptr_t)WEP_KEY};
	struct keeper *k = arg;

	k->came = true;
	ck_assert_int_ge(journal_inherit(k->j, &o, &k->addr, 1, NULL), 0);
}

/* Before each operation of a GC in turn the keeper writes down that the pod's address is taken. */
START_TEST(garbage_that_the_keeper_writes_down_meanwhile_is_no_pods)
{
	struct cni_ctx *ctx = cni_ctx_new(NULL);
	struct keeper k = {.came = true};

	for (unsigned n = 1; k.came; n++) {
		auto_free char *state = mem_printf("%s/%u", dir, n);
		struct store *st = filled();
		struct cni_conf conf = {.name = (char *)(uintptr_t) "net",
			.assign_v4 = true,
			.has_attachments = true};
		struct call c = call_of(&conf, st);
		struct strbuf out = STRBUF_INIT;
		const struct journal_addr *a;
		struct err err = ERR_INIT;
		struct ipam_request *rq = ipam_lookup_handle_new("net.c1");
		size_t count;

		c.ctx = ctx;
		ck_assert_int_eq(call_ipam_add(&c, &out, NULL), 0);
		ck_assert_int_eq(ipam_run(st, rq, c.deadline_ms, NULL), 0);
		k = (struct keeper){.addr = *ipam_request_addrs(rq, &count)};
		ck_assert_int_eq(journal_open(state, true, &k.j, NULL), 0);
		ck_assert_int_eq(journal_open(state, false, &c.journal, NULL), 0);
		store_fake_call_nth(st, n, inherit, &k);
		ck_assert_msg(call_gc(&c, &err) == 0, "%s", err.text);
		store_fake_call_nth(st, 0, NULL, NULL);
		ck_assert_int_eq(journal_refresh(c.journal, NULL), 0);
		replay_all(&c);
		ck_assert(!is_used(store_fake_value(st, BLOCK_KEY)));
		/* What is held is the datastore's for this node. */
		a = journal_find(c.journal, &k.addr.ip);
		ck_assert(!a || a->state != JOURNAL_TAKEN);
		ck_assert_int_eq(a != NULL,
			strstr(store_fake_value(st, BLOCK_KEY) ?: "", "margay-reserve-n1") != NULL);
		ipam_request_free(rq);
		strbuf_done(&out);
		journal_close(c.journal);
		journal_close(k.j);
		store_close(st);
	}
	cni_ctx_free(ctx);
}
END_TEST

/* The kernel cannot be asked: the device may be up, with the address. */
START_TEST(garbage_whose_device_stays_keeps_its_address)
{
	struct cni_conf conf = {.name = (char *)(uintptr_t) "net", .has_attachments = true};
	const struct ipam_attr attrs[] = {{"node", "n1"}, {"namespace", "default"}, {"pod", "web"}};
	struct journal_want w = {.v4 = true, .attrs = attrs, .n_attrs = array_size(attrs)};
	struct store *st = filled();
	struct call c = call_of(&conf, st);
	struct rlimit files;
	struct ipam_addr got[2];
	size_t n;

	c.ctx = cni_ctx_new(NULL);
	ck_assert_int_eq(journal_open(dir, true, &c.journal, NULL), 0);
	hold_one(st, c.journal);
	ck_assert_int_eq(reserved_take(&c, &w, got, &n, NULL), 0);
	replay_all(&c);
	ck_assert_int_eq(turn_await(&c, "margay-no-such", "net.c1", NULL), 0);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_max = files.rlim_max}), 0);
	ck_assert_int_eq(call_gc(&c, NULL), CNI_E_KERNEL);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
	ck_assert_ptr_nonnull(journal_taken_by(c.journal, "net.c1"));
	ck_assert_int_eq(call_gc(&c, NULL), 0);
	ck_assert_ptr_null(journal_taken_by(c.journal, "net.c1"));
	cni_ctx_free(c.ctx);
	journal_close(c.journal);
	store_close(st);
}
END_TEST

static int status(struct call *c, const char *pool)
{
	char *names[] = {(char *)(uintptr_t)pool};

	c->conf->pools_v4.v = names;
	c->conf->pools_v4.n = pool ? 1 : 0;
	return call_status(c, NULL);
}

/* It answers for what it can give, and for nothing else. */
START_TEST(the_status_of_a_reserve)
{
	static const struct ipam_addr addr = {.ip = {.family = IP_V4, .b = {10, 1, 0, 2}},
		.block = {{.family = IP_V4, .b = {10, 1, 0, 0}}, 30}};
	static const struct ipam_pool p = {"p", {{.family = IP_V4, .b = {10, 1, 0, 0}}, 30}};
	const struct ipam_scope scope = {.in = &p, .n_in = 1};
	struct cni_conf conf = {.name = (char *)(uintptr_t) "net", .assign_v4 = true};
	struct cni_ctx *ctx = cni_ctx_new(NULL);
	struct store *st = filled();
	struct call c = call_of(&conf, st);

	c.ctx = ctx;
	ck_assert_int_eq(journal_open(dir, true, &c.journal, NULL), 0);
	ck_assert_int_eq(journal_seen(c.journal, "n1", true, "", NULL), 0);
	ck_assert_int_eq(journal_hold(c.journal, &addr, NULL), 0);
	store_fake_away(st, true);
	ck_assert_int_eq(status(&c, NULL), 0);
	ck_assert_int_eq(status(&c, "p"), CNI_E_UNAVAILABLE);
	ck_assert_int_eq(journal_scope(c.journal, &scope, NULL), 0);
	ck_assert_int_eq(status(&c, "10.1.0.0/30"), 0);
	ck_assert_int_eq(status(&c, "p"), 0);
	ck_assert_int_eq(status(&c, "q"), CNI_E_UNAVAILABLE);
	ck_assert_int_eq(status(&c, "10.1.0.0/31"), CNI_E_UNAVAILABLE);
	conf.assign_v6 = true;
	ck_assert_int_eq(status(&c, NULL), CNI_E_UNAVAILABLE);
	conf.assign_v6 = false;
	store_fake_away(st, false);
	ck_assert_int_eq(status(&c, "p"), 0);
	ck_assert_int_eq(status(&c, "q"), CNI_E_UNAVAILABLE);
	ck_assert_int_eq(status(&c, "10.2.0.0/30"), CNI_E_UNAVAILABLE);
	cni_ctx_free(ctx);
	journal_close(c.journal);
	store_close(st);
}
END_TEST

static int run_del(struct cni_ctx *ctx, const char *conf)
{
	static const struct cni_env env[] = {
		{"CNI_COMMAND", "DEL"}, {"CNI_CONTAINERID", "c1"}, {"CNI_IFNAME", "eth0"}};
	const struct cni_request rq = {.env = env,
		.n_env = array_size(env),
		.conf = conf,
		.conf_len = strlen(conf),
		.netns_fd = -1,
		.nl_fd = -1,
		.peer_fd = -1};
	struct cni_reply reply;
	int r;

	cni_run(ctx, &rq, &reply);
	r = reply.exit_code;
	cni_reply_done(&reply);
	return r;
}

#define NETCONF                                                          \
	"\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"nodename\":\"n1\"," \
	"\"datastore_type\":\"sqlite\",\"ipam\":{\"type\":\"margay-ipam\"},"

START_TEST(the_log_says_which_verb_failed)
{
	auto_free char *path = mem_printf("%s/log", dir), *text = NULL;
	auto_free char *conf = mem_printf(
		"{" NETCONF "\"sqlite_path\":\"%s/none\",\"log_file_path\":\"%s\"}", dir, path);
	struct cni_ctx *ctx = cni_ctx_new(NULL);

	ck_assert_int_eq(run_del(ctx, conf), 1);
	ck_assert_int_eq(file_read(path, 1000, &text, NULL, NULL), 0);
	ck_assert_ptr_nonnull(strstr(text, "error cni: DEL c1 eth0: "));
	ck_assert_ptr_nonnull(strstr(text, "/none"));
	cni_ctx_free(ctx);
}
END_TEST

/* Whoever runs it, and on whichever datastore. */
START_TEST(out_of_turn_no_verb_is_run)
{
	auto_free char *db = mem_printf("%s/none", dir), *file = mem_printf("%s/file", dir),
		       *log = mem_printf("%s/log", dir), *text = NULL;
	auto_free char *conf =
		mem_printf("{" NETCONF "\"sqlite_path\":\"%s\",\"log_file_path\":\"%s\"}", db, log);
	struct cni_ctx *ctx = cni_ctx_new(NULL);

	ck_assert_int_eq(file_write_atomic(file, "", 0, 0600, NULL), 1);
	setenv("MARGAY_RUN_DIR", file, 1);
	ck_assert_int_eq(run_del(ctx, conf), 1);
	ck_assert_int_eq(file_read(log, 1000, &text, NULL, NULL), 0);
	ck_assert_ptr_null(strstr(text, db));
	ck_assert_ptr_nonnull(strstr(text, file));
	cni_ctx_free(ctx);
}
END_TEST

/* Of a server the next verb, whose configuration may say nothing, has the server's again. */
START_TEST(a_level_of_the_log_is_one_verbs)
{
	auto_free char *path = mem_printf("%s/none", dir);
	auto_free char *conf =
		mem_printf("{" NETCONF "\"sqlite_path\":\"%s\",\"log_level\":\"debug\"}", path);
	const struct cni_home home = {.node = "n1",
		.store = {.type = "sqlite", .sqlite_path = path},
		.state_dir = dir,
		.run_dir = dir};
	struct cni_ctx *ctx = cni_ctx_new(&home);

	log_set_level(LOG_LEVEL_WARN);
	(void)run_del(ctx, conf);
	ck_assert_int_eq(log_level(), LOG_LEVEL_WARN);
	cni_ctx_free(ctx);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cni");
	TCase *tc = tcase_create("cni"), *files = tcase_create("files");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, tc);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, what_is_written_beside_a_lock_is_read_or_undone);
	tcase_add_test(tc, a_deletion_beside_a_lock_comes_again);
	tcase_add_test(tc, where_the_lock_cannot_be_read_nothing_is_released);
	tcase_add_test(tc, annotations_come_before_the_configuration);
	tcase_add_test(tc, the_address_of_an_annotation_is_that_of_eth0);
	tcase_add_test(tc, an_annotation_that_makes_no_sense_is_named);
	tcase_add_test(tc, another_ipam_plugin_has_no_pools_of_ours);
	tcase_add_test(tc, a_pod_that_cannot_be_read_is_waited_for);
	tcase_add_test(tc, an_endpoint_has_what_its_pod_has);
	tcase_add_test(tc, the_configuration_of_calico_is_taken);
	tcase_add_test(tc, pod_cidrs_are_asked_for_by_name);
	suite_add_tcase(s, files);
	tcase_set_timeout(files, 60);
	tcase_add_checked_fixture(files, make_dir, drop_dir);
	tcase_add_test(files, the_policy_of_an_endpoint_is_waited_for);
	tcase_add_test(files, a_gate_that_stays_shut_is_named);
	tcase_add_test(files, what_another_ipam_plugin_gave_is_found_again);
	tcase_add_test(files, a_log_that_is_long_begins_anew);
	tcase_add_test(files, of_another_cluster_the_configuration_is_refused);
	tcase_add_test(files, of_the_ipam_plugin_the_journal_has_addresses_alone);
	tcase_add_test(files, what_fails_is_told_without_what_went_before);
	tcase_add_test(files, what_the_ipam_plugin_gives_is_marked_and_checked);
	tcase_add_test(files, garbage_that_the_keeper_writes_down_meanwhile_is_no_pods);
	tcase_add_test(files, garbage_whose_device_stays_keeps_its_address);
	tcase_add_test(files, the_status_of_a_reserve);
	tcase_add_test(files, the_log_says_which_verb_failed);
	tcase_add_test(files, out_of_turn_no_verb_is_run);
	tcase_add_test(files, a_level_of_the_log_is_one_verbs);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed > 0;
}
