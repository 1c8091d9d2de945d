/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/conf.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cni/podcidr.h"
#include "model/meta.h"

enum { MAX_LIST = 1024, MAX_QUEUES = 4096, MTU_MIN = 68, MTU_MAX = 65535, MAX_WAIT_S = 3600 };

#define STATUS_DIR "/var/run/calico/endpoint-status"

/* Reads straight through: after the first failure every getter is a no-op. */
struct reader {
	const json_t *top;
	int code; /* CNI's */
	struct err *err;
};

/* A member's value; NULL where it is missing or null. path is "name" or "object.name". */
static const json_t *member(const json_t *top, const char *path)
{
	const char *dot = strrchr(path, '.');
	const json_t *j;

	if (dot) {
		auto_free char *head = mem_strndup(path, (size_t)(dot - path));

		top = member(top, head);
		path = dot + 1;
	}
	j = json_object_get(top, path);
	return json_is_null(j) ? NULL : j;
}

/* Addresses, too: one may have a password in it. */
static bool is_secret(const char *key)
{
	static const char *const parts[] = {"password", "endpoint", "token", "api_root"};

	for (size_t i = 0; i < array_size(parts); i++)
		if (strstr(key, parts[i]))
			return true;
	return false;
}

static void wrong(struct reader *rd, const char *key, const char *want)
{
	const json_t *j = is_secret(key) ? NULL : member(rd->top, key);
	auto_free char *got = j ? json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	if (rd->code != 0)
		return;
	err_set(rd->err, -EINVAL, "netconf: %s: %s%.80s%swant %s", key, got ? "got " : "",
		got ? got : "", got ? ", " : "", want);
	rd->code = CNI_E_CONF;
}

static void wrong_at(struct reader *rd, const char *key, size_t i)
{
	err_wrap(rd->err, -EINVAL, "netconf: %s[%zu]", key, i);
	rd->code = CNI_E_CONF;
}

static const json_t *get(struct reader *rd, const char *path)
{
	return rd->code == 0 ? member(rd->top, path) : NULL;
}

/* Text without a NUL inside; NULL where it is missing. */
static const char *get_text(struct reader *rd, const char *key)
{
	const json_t *j = get(rd, key);

	if (j && (!json_is_string(j) || strlen(json_string_value(j)) != json_string_length(j))) {
		wrong(rd, key, "a string");
		return NULL;
	}
	return json_string_length(j) > 0 ? json_string_value(j) : NULL;
}

static char *dup_text(struct reader *rd, const char *key)
{
	const char *s = get_text(rd, key);

	return s ? mem_strdup(s) : NULL;
}

static bool get_bool(struct reader *rd, const char *key)
{
	const json_t *j = get(rd, key);

	if (j && !json_is_boolean(j))
		wrong(rd, key, "true or false");
	return json_is_true(j);
}

/* Calico has these as strings. */
static bool get_text_bool(struct reader *rd, const char *key, bool missing)
{
	const json_t *j = get(rd, key);
	const char *s = json_string_value(j);

	if (!j)
		return missing;
	if (json_is_boolean(j))
		return json_is_true(j);
	if (!s || (strcmp(s, "true") != 0 && strcmp(s, "false") != 0)) {
		wrong(rd, key, "\"true\" or \"false\"");
		return missing;
	}
	return s[0] == 't';
}

static uint32_t get_number(struct reader *rd, const char *key, json_int_t min, json_int_t max)
{
	const json_t *j = get(rd, key);
	json_int_t n = json_integer_value(j);

	if (j && (!json_is_integer(j) || (n != 0 && (n < min || n > max)))) {
		char want[80];

		snprintf(want, sizeof(want),
			"a whole number from %lld to %lld, or 0 for the default", (long long)min,
			(long long)max);
		wrong(rd, key, want);
		return 0;
	}
	return (uint32_t)n;
}

/* None or fewer are one, which is the default, as with Calico. */
static uint32_t get_queues(struct reader *rd, const char *key)
{
	const json_t *j = get(rd, key);

	if (json_is_integer(j) && json_integer_value(j) < 0)
		return 0;
	return get_number(rd, key, 1, MAX_QUEUES);
}

/* An array of at most MAX_LIST elements; NULL where it is missing. */
static const json_t *get_array(struct reader *rd, const char *key)
{
	const json_t *j = get(rd, key);

	if (j && (!json_is_array(j) || json_array_size(j) > MAX_LIST)) {
		wrong(rd, key, "a list of at most 1024 elements");
		return NULL;
	}
	return j;
}

static void get_texts(struct reader *rd, const char *key, const char *want, struct cni_texts *ret)
{
	const json_t *e, *a = get_array(rd, key);
	size_t i;

	json_array_foreach (a, i, e) {
		if (json_string_length(e) == 0)
			wrong(rd, key, want);
		else
			vec_push(ret, mem_strdup(json_string_value(e)));
	}
}

static void get_pools(struct reader *rd, const char *key, struct cni_texts *ret)
{
	get_texts(rd, key, "a list of names or CIDRs of pools", ret);
}

static void get_routes(struct reader *rd, struct cni_conf *c)
{
	static const char key[] = "ipam.routes";
	const json_t *e, *a = get_array(rd, key);
	size_t i;

	json_array_foreach (a, i, e) {
		const char *s = json_string_value(json_object_get(e, "dst"));
		struct prefix p;

		if (!s)
			wrong(rd, key, "objects with \"dst\"");
		else if (prefix_parse_masked(s, &p, rd->err) < 0)
			wrong_at(rd, key, i);
		else
			vec_push(&c->routes, p);
	}
}

static void get_ips(struct reader *rd, struct cni_conf *c, const char *key)
{
	const json_t *e, *a = c->ips.n == 0 ? get_array(rd, key) : NULL;
	size_t i;

	json_array_foreach (a, i, e) {
		const char *s = json_string_value(e);
		struct prefix p; /* some write "10.244.0.5/32" here */
		struct ip *have;

		if (!s) {
			wrong(rd, key, "a list of addresses");
			continue;
		}
		if (prefix_parse_host(s, &p, rd->err) < 0) {
			wrong_at(rd, key, i);
			continue;
		}
		vec_for_each (&c->ips, have)
			if (have->family == p.addr.family)
				wrong(rd, key, "at most one address of each family");
		vec_push(&c->ips, p.addr);
	}
}

static void get_mac(struct reader *rd, struct cni_conf *c, const char *key)
{
	const char *s = mac_is_zero(&c->mac) ? get_text(rd, key) : NULL;

	if (!s)
		return;
	if (mac_parse(s, &c->mac, NULL) < 0 || mac_is_multicast(&c->mac) || mac_is_zero(&c->mac))
		wrong(rd, key, "a unicast Ethernet address like 02:00:00:00:00:01");
}

static void push_label(struct reader *rd, struct cni_conf *c, const char *name, const json_t *value)
{
	if (!name || !json_is_string(value))
		wrong(rd, "args.cni.labels", "{\"name\": \"value\"}, or a list of {key, value}");
	else if (!label_name_ok(name) || !label_value_ok(json_string_value(value)))
		wrong(rd, "args.cni.labels",
			"names and values as Kubernetes has them: at most 63 letters, digits and "
			"\"-_.\"");
	else
		vec_push(&c->labels,
			(struct cni_pair){mem_strdup(name), mem_strdup(json_string_value(value))});
}

/* As an object, or as the CNI conventions have it: [{"key": "app", "value": "x"}]. */
static void get_labels(struct reader *rd, struct cni_conf *c)
{
	const json_t *e, *j = get(rd, "args.cni.labels");
	size_t i;

	if (!j)
		return;
	if ((!json_is_object(j) && !json_is_array(j)) || json_object_size(j) > MAX_LIST ||
		json_array_size(j) > MAX_LIST) {
		push_label(rd, c, NULL, NULL);
		return;
	}
	json_array_foreach (j, i, e) {
		push_label(rd, c, json_string_value(json_object_get(e, "key")),
			json_object_get(e, "value"));
	}
	/* jansson iterates only over objects that may be changed */
	json_t *o = (json_t *)(uintptr_t)j;
	for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it))
		push_label(rd, c, json_object_iter_key(it), json_object_iter_value(it));
}

/* Those that portmap opens: they are the endpoint's ports. */
static void get_ports(struct reader *rd, struct cni_conf *c)
{
	static const char key[] = "runtimeConfig.portMappings";
	const json_t *e, *a = get_array(rd, key);
	size_t i;

	json_array_foreach (a, i, e) {
		struct reader sub = {.top = e};
		const char *protocol = get_text(&sub, "protocol") ?: "TCP";
		const char *host_ip = get_text(&sub, "hostIP");
		struct cni_port p = {
			.port = (uint16_t)get_number(&sub, "containerPort", 1, 65535),
			.host_port = (uint16_t)get_number(&sub, "hostPort", 1, 65535),
		};

		if (strcasecmp(protocol, "tcp") == 0)
			p.protocol = IPPROTO_TCP;
		else if (strcasecmp(protocol, "udp") == 0)
			p.protocol = IPPROTO_UDP;
		else if (strcasecmp(protocol, "sctp") == 0)
			p.protocol = IPPROTO_SCTP;
		if (sub.code != 0 || p.port == 0 || !p.protocol ||
			(host_ip && ip_parse(host_ip, &p.host_ip, NULL) < 0))
			wrong(rd, key,
				"{containerPort, hostPort, protocol: TCP, UDP or SCTP, hostIP}");
		else
			vec_push(&c->ports, p);
	}
}

static void get_attachments(struct reader *rd, struct cni_conf *c)
{
	/* Not by get(): the keys themselves have a dot. */
	const json_t *e, *a = json_object_get(rd->top, "cni.dev/valid-attachments");
	size_t i;

	if (!a || json_is_null(a))
		a = json_object_get(rd->top, "cni.dev/attachments") ?: a;
	if (!a)
		return;
	/* The reference library has null for an empty list. */
	if (!json_is_array(a) && !json_is_null(a))
		wrong(rd, "cni.dev/valid-attachments", "a list");
	c->has_attachments = true;
	json_array_foreach (a, i, e) {
		const char *id = json_string_value(json_object_get(e, "containerID"));
		const char *ifname = json_string_value(json_object_get(e, "ifname"));

		if (!id || !ifname)
			wrong(rd, "cni.dev/valid-attachments", "{containerID, ifname}");
		else
			vec_push(&c->attachments,
				(struct cni_attachment){mem_strdup(id), mem_strdup(ifname)});
	}
}

static bool name_valid(const char *s)
{
	if (strlen(s) > 200) /* it becomes part of keys */
		return false;
	for (; *s != '\0'; s++)
		if (!isalnum((unsigned char)*s) && !strchr("_.-", *s))
			return false;
	return true;
}

static void get_identity(struct reader *rd, struct cni_conf *c)
{
	/* The specification's default, and Calico's. */
	const char *version = get_text(rd, "cniVersion") ?: "0.2.0";

	if (rd->code == 0)
		rd->code = cni_version_parse(version, &c->version, rd->err);
	c->name = dup_text(rd, "name");
	c->type = dup_text(rd, "type");
	if (!c->name || !name_valid(c->name))
		wrong(rd, "name", "the network's name, of letters, digits and \"_.-\"");
}

size_t cni_node_name(const char **text)
{
	const char *s = *text + strspn(*text, " \t\r\n");
	size_t n = strcspn(s, " \t\r\n");

	*text = s;
	/* it becomes part of keys */
	return n > 253 || s[n + strspn(s + n, " \t\r\n")] != '\0' || memchr(s, '/', n) ? 0 : n;
}

static char *get_nodename(struct reader *rd)
{
	const char *s = get_text(rd, "nodename");
	size_t n = s ? cni_node_name(&s) : 0;

	if (s && n == 0)
		wrong(rd, "nodename", "a node's name: at most 253 characters without \"/\"");
	return n > 0 ? mem_strndup(s, n) : NULL;
}

static void get_node(struct reader *rd, struct cni_conf *c)
{
	c->nodename = get_nodename(rd);
	c->nodename_file = dup_text(rd, "nodename_file");
	c->nodename_file_optional = get_bool(rd, "nodename_file_optional");
	c->hostname = dup_text(rd, "hostname");
}

static void get_log(struct reader *rd, struct cni_conf *c)
{
	c->log_level = dup_text(rd, "log_level");
	c->log_file_path = dup_text(rd, "log_file_path");
	c->log_file_max_mb = get_number(rd, "log_file_max_size", 1, 100000) ?: 100;
	c->log_file_max_days = get_number(rd, "log_file_max_age", 1, 36500) ?: 30;
	c->log_file_max_count = get_number(rd, "log_file_max_count", 1, MAX_LIST) ?: 10;
}

/* A URL with a path to the API, as old configurations have it, is cut. */
static char *get_api_root(struct reader *rd)
{
	const char *s = get_text(rd, "kubernetes.k8s_api_root")
				?: get_text(rd, "policy.k8s_api_root")
				?: get_text(rd, "k8s_api_endpoint");
	const char *path = s ? strstr(s, "/api/") : NULL;

	return s ? mem_strndup(s, path ? (size_t)(path - s) : strlen(s)) : NULL;
}

/* How Kubernetes is reached, be it the datastore or beside it. */
static void get_kube_access(struct reader *rd, struct store_conf *conf)
{
	conf->kubeconfig = get_text(rd, "kubernetes.kubeconfig");
	conf->k8s_api_token = get_text(rd, "policy.k8s_auth_token");
	conf->k8s_cert_file = get_text(rd, "policy.k8s_client_certificate");
	conf->k8s_key_file = get_text(rd, "policy.k8s_client_key");
	conf->k8s_ca_file = get_text(rd, "policy.k8s_certificate_authority");
}

static void get_kube(struct reader *rd, struct cni_conf *c)
{
	const char *policy = get_text(rd, "policy.type");
	auto_free char *api_root = get_api_root(rd);
	struct store_conf conf = {.type = "kubernetes",
		.kube_endpoints_file = STORE_KUBE_ENDPOINTS_FILE,
		.k8s_api_endpoint = api_root,
		/* Of Pods alone: which group has Calico's resources there need not be asked. */
		.calico_api_group = "crd.projectcalico.org/v1"};

	get_kube_access(rd, &conf);
	if (policy && strcmp(policy, "k8s") == 0 && (conf.kubeconfig || conf.k8s_api_endpoint))
		store_conf_copy(&c->kube, &conf);
}

static void get_store(struct reader *rd, struct cni_conf *c)
{
	auto_free char *api_root = get_api_root(rd);
	struct store_conf conf = {
		.type = get_text(rd, "datastore_type"),
		.sqlite_path = get_text(rd, "sqlite_path"),
		/* A path with a slip in it would be a datastore of its own, in which nothing is. */
		.must_exist = true,
		.kube_endpoints_file = STORE_KUBE_ENDPOINTS_FILE,
		.etcd_endpoints = get_text(rd, "etcd_endpoints"),
		.etcd_discovery_srv = get_text(rd, "etcd_discovery_srv"),
		.etcd_username = get_text(rd, "etcd_username"),
		.etcd_password = get_text(rd, "etcd_password"),
		.etcd_key_file = get_text(rd, "etcd_key_file"),
		.etcd_cert_file = get_text(rd, "etcd_cert_file"),
		.etcd_ca_cert_file = get_text(rd, "etcd_ca_cert_file"),
		.k8s_api_endpoint = api_root,
		.calico_api_group = get_text(rd, "calico_api_group"),
	};

	get_kube_access(rd, &conf);
	store_conf_copy(&c->store, &conf);
}

static void get_device(struct reader *rd, struct cni_conf *c)
{
	const char *type = get_text(rd, "device_type");

	c->mtu = get_number(rd, "mtu", MTU_MIN, MTU_MAX);
	c->require_mtu_file = get_bool(rd, "require_mtu_file");
	c->n_queues = get_queues(rd, "num_queues");
	c->allow_ip_forwarding = get_bool(rd, "container_settings.allow_ip_forwarding");
	c->include_default_routes = get_bool(rd, "include_default_routes");
	c->netkit = type && strcmp(type, "netkit") == 0;
	if (type && strcmp(type, "veth") != 0 && !c->netkit)
		wrong(rd, "device_type", "\"veth\" or \"netkit\"");
	type = get_text(rd, "dataplane_options.type");
	if (type && strcmp(type, "grpc") == 0)
		wrong(rd, "dataplane_options.type",
			"none: pods' interfaces are made here, no other program is asked to");
}

static void get_waits(struct reader *rd, struct cni_conf *c)
{
	c->policy_setup_timeout_s = get_number(rd, "policy_setup_timeout_seconds", 1, MAX_WAIT_S);
	c->endpoint_status_dir = dup_text(rd, "endpoint_status_dir") ?: mem_strdup(STATUS_DIR);
	get_texts(rd, "readiness_gates", "a list of URLs", &c->readiness_gates);
}

/*
 * Calico's keys without effect here: requests are few, and the API server shares itself out among its
 * clients; what IPAM writes is compared and swapped, so that no lock between processes is needed.
 */
static void check_ignored(struct reader *rd)
{
	static const char *const numbers[] = {"qps", "burst"};

	for (size_t i = 0; i < array_size(numbers); i++) {
		const json_t *j = get(rd, numbers[i]);

		if (j && !json_is_number(j))
			wrong(rd, numbers[i], "a number");
	}
	(void)get_text(rd, "ipam_lock_file");
}

static void get_addresses(struct reader *rd, struct cni_conf *c)
{
	c->ipam_type = dup_text(rd, "ipam.type");
	c->assign_v4 = get_text_bool(rd, "ipam.assign_ipv4", true);
	c->assign_v6 = get_text_bool(rd, "ipam.assign_ipv6", false);
	get_pools(rd, "ipam.ipv4_pools", &c->pools_v4);
	get_pools(rd, "ipam.ipv6_pools", &c->pools_v6);
	get_routes(rd, c);
	podcidr_wanted(get(rd, "ipam"), &c->pod_cidr_v4, &c->pod_cidr_v6);
	c->ip_addrs_no_ipam = get_bool(rd, "feature_control.ip_addrs_no_ipam");
	c->floating_ips = get_bool(rd, "feature_control.floating_ips");
}

static void get_per_pod(struct reader *rd, struct cni_conf *c)
{
	get_ips(rd, c, "runtimeConfig.ips");
	get_ips(rd, c, "args.cni.ips");
	get_mac(rd, c, "runtimeConfig.mac");
	get_mac(rd, c, "args.cni.mac");
	get_labels(rd, c);
	get_ports(rd, c);
	get_attachments(rd, c);
}

/* How much of its text is not the netconf's own, which may be a password. */
static int said_of(const json_error_t *je)
{
	const char *near = strstr(je->text, " near ");

	return near ? (int)(near - je->text) : (int)strlen(je->text);
}

int cni_conf_parse(
	const char *text, size_t len, bool with_prev, struct cni_conf **ret, struct err *err)
{
	struct reader rd = {.err = err};
	struct cni_conf *c;
	const json_t *prev;
	json_error_t je;
	json_t *top;

	if (len > CNI_CONF_MAX) {
		err_set(err, -EINVAL, "netconf: longer than %d bytes", CNI_CONF_MAX);
		return CNI_E_DECODE;
	}
	top = json_loadb(text, len, 0, &je);
	if (!json_is_object(top)) {
		if (top)
			err_set(err, -EINVAL, "netconf: want a JSON object");
		else
			err_set(err, -EINVAL, "netconf: line %d, column %d: %.*s", je.line,
				je.column, said_of(&je), je.text);
		json_decref(top);
		return CNI_E_DECODE;
	}
	c = mem_new(struct cni_conf);
	rd.top = top;
	get_identity(&rd, c);
	get_node(&rd, c);
	get_log(&rd, c);
	get_store(&rd, c);
	get_kube(&rd, c);
	get_device(&rd, c);
	get_addresses(&rd, c);
	get_waits(&rd, c);
	get_per_pod(&rd, c);
	check_ignored(&rd);
	prev = with_prev ? get(&rd, "prevResult") : NULL;
	if (prev)
		rd.code = cni_result_decode(prev, &c->prev, err);
	json_decref(top);
	if (rd.code != 0) {
		cni_conf_free(c);
		return rd.code;
	}
	*ret = c;
	return 0;
}

void cni_texts_done(struct cni_texts *t)
{
	char **s;

	vec_for_each (t, s)
		free(*s);
	vec_done(t);
}

bool cni_ipam_is_own(const char *type)
{
	return strcmp(type, "margay-ipam") == 0 || strcmp(type, "calico-ipam") == 0;
}

void cni_conf_free(struct cni_conf *c)
{
	struct cni_attachment *at;
	struct cni_pair *pair;

	if (!c)
		return;
	free(c->name);
	free(c->type);
	free(c->nodename);
	free(c->nodename_file);
	free(c->hostname);
	store_conf_done(&c->store);
	store_conf_done(&c->kube);
	free(c->log_level);
	free(c->log_file_path);
	free(c->ipam_type);
	cni_texts_done(&c->pools_v4);
	cni_texts_done(&c->pools_v6);
	cni_texts_done(&c->readiness_gates);
	free(c->endpoint_status_dir);
	vec_done(&c->routes);
	vec_done(&c->ips);
	vec_for_each (&c->labels, pair) {
		free(pair->name);
		free(pair->value);
	}
	vec_done(&c->labels);
	vec_done(&c->ports);
	cni_result_free(c->prev);
	vec_for_each (&c->attachments, at) {
		free(at->container_id);
		free(at->ifname);
	}
	vec_done(&c->attachments);
	free(c);
}
