/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/install/conflist.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "cni/conf.h"
#include "cni/delegate.h"
#include "model/json.h"
#include "store/store.h"

enum { MAX_PLUGINS = 32 };

/* ---- made ---- */

static void set_text(json_t *j, const char *key, const char *value)
{
	if (store_conf_is_set(value))
		json_object_set_new(j, key, json_string(value));
}

static void set_store(json_t *j, const struct store_conf *c)
{
	const char *type = store_conf_type(c);

	set_text(j, "datastore_type", type);
	if (strcmp(type, "sqlite") == 0) {
		set_text(j, "sqlite_path", c->sqlite_path);
	} else if (strcmp(type, "kubernetes") == 0) {
		if (store_conf_is_set(c->kubeconfig))
			json_object_set_new(
				j, "kubernetes", json_pack("{s:s}", "kubeconfig", c->kubeconfig));
		set_text(j, "k8s_api_endpoint", c->k8s_api_endpoint);
		set_text(j, "calico_api_group", c->calico_api_group);
	} else {
		set_text(j, "etcd_endpoints", c->etcd_endpoints);
		set_text(j, "etcd_discovery_srv", c->etcd_discovery_srv);
		set_text(j, "etcd_username", c->etcd_username);
		set_text(j, "etcd_password", c->etcd_password);
		set_text(j, "etcd_ca_cert_file", c->etcd_ca_cert_file);
		set_text(j, "etcd_cert_file", c->etcd_cert_file);
		set_text(j, "etcd_key_file", c->etcd_key_file);
	}
}

char *conflist_make(const struct conflist_values *v)
{
	auto_(json) json_t *top = json_pack("{s:s, s:s, s:[]}", "name", "k8s-pod-network",
		/* The newest that containerd 1.6 and 1.7 and Debian's portmap read. */
		"cniVersion", "1.0.0", "plugins");
	json_t *plugins = json_object_get(top, "plugins");
	json_t *margay = json_pack("{s:s}", "type", "margay");
	auto_free char *text = NULL;

	set_store(margay, v->store);
	if (v->mtu > 0)
		json_object_set_new(margay, "mtu", json_integer(v->mtu));
	set_text(margay, "nodename_file", v->nodename_file);
	set_text(margay, "log_level", v->log_level);
	json_object_set_new(margay, "ipam", json_pack("{s:s}", "type", "margay-ipam"));
	json_array_append_new(plugins, margay);
	if (v->portmap)
		json_array_append_new(
			plugins, json_pack("{s:s, s:b, s:{s:b}}", "type", "portmap", "snat", 1,
					 "capabilities", "portMappings", 1));
	if (v->bandwidth)
		json_array_append_new(plugins, json_pack("{s:s, s:{s:b}}", "type", "bandwidth",
						       "capabilities", "bandwidth", 1));
	text = json_dumps(top, JSON_INDENT(2));
	return mem_printf("%s\n", text);
}

/* ---- filled in ---- */

/* What is between the quotes of a JSON string. */
static void add_escaped(struct strbuf *sb, const char *value)
{
	auto_(json) json_t *j = json_string(value);
	auto_free char *s = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;

	if (s)
		strbuf_addn(sb, s + 1, strlen(s) - 2);
}

int conflist_fill(const char *text, const struct conflist_values *v, char **ret, struct err *err)
{
	auto_free char *kubeconfig = store_conf_is_set(v->store->kubeconfig)
					     ? mem_strdup(v->store->kubeconfig)
					     : mem_printf("%s/calico-kubeconfig", v->net_dir);
	auto_free char *mtu = mem_printf("%u", v->mtu);
	const struct {
		const char *name, *value;
	} values[] = {
		{"__KUBERNETES_NODE_NAME__", v->nodename},
		{"__KUBECONFIG_FILEPATH__", kubeconfig},
		{"__KUBECONFIG_FILENAME__", basename(kubeconfig)},
		{"__KUBERNETES_SERVICE_HOST__", v->store->kubernetes_service_host},
		{"__KUBERNETES_SERVICE_PORT__", v->store->kubernetes_service_port},
		{"__DATASTORE_TYPE__", store_conf_type(v->store)},
		{"__ETCD_ENDPOINTS__", v->store->etcd_endpoints},
		{"__ETCD_CA_CERT_FILE__", v->store->etcd_ca_cert_file},
		{"__ETCD_CERT_FILE__", v->store->etcd_cert_file},
		{"__ETCD_KEY_FILE__", v->store->etcd_key_file},
		{"__CNI_MTU__", mtu},
		{"__LOG_LEVEL__", v->log_level},
		/* It is written where nobody serves (logfile.h). */
		{"__LOG_FILE_PATH__", "/var/log/calico/cni/cni.log"},
		{"__LOG_FILE_MAX_SIZE__", "100"},
		{"__LOG_FILE_MAX_AGE__", "30"},
		{"__LOG_FILE_MAX_COUNT__", "10"},
	};
	auto_strbuf sb = STRBUF_INIT;

	strbuf_add(&sb, "");
	for (const char *s = text; *s != '\0';) {
		size_t n = strspn(s, "_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"), i;

		if (n < 5 || strncmp(s, "__", 2) != 0 || strncmp(s + n - 2, "__", 2) != 0) {
			n = n > 0 ? n : 1;
			strbuf_addn(&sb, s, n);
			s += n;
			continue;
		}
		for (i = 0; i < array_size(values); i++)
			if (strlen(values[i].name) == n && strncmp(values[i].name, s, n) == 0)
				break;
		if (i == array_size(values) || !values[i].value)
			return err_set(err, -EINVAL,
				"network configuration: there is no value for %.*s: write it out",
				(int)n, s);
		add_escaped(&sb, values[i].value);
		s += n;
	}
	*ret = strbuf_take(&sb);
	return 0;
}

/* ---- checked ---- */

static void add_type(struct cni_texts *ret, const json_t *plugin)
{
	const char *s = json_string_value(json_object_get(plugin, "type"));

	for (size_t i = 0; s && i < ret->n; i++)
		if (strcmp(ret->v[i], s) == 0)
			s = NULL;
	if (s)
		vec_push(ret, mem_strdup(s));
}

static bool is_ours(const char *type)
{
	return type && (strcmp(type, "margay") == 0 || strcmp(type, "calico") == 0);
}

/* From which directory the plugin is called is the runtime's to choose. */
static int check_paths(const struct cni_conf *c, struct err *err)
{
	const struct {
		const char *key, *path;
	} paths[] = {
		{"kubernetes.kubeconfig", c->store.kubeconfig},
		{"policy.k8s_client_certificate", c->store.k8s_cert_file},
		{"policy.k8s_client_key", c->store.k8s_key_file},
		{"policy.k8s_certificate_authority", c->store.k8s_ca_file},
		{"etcd_ca_cert_file", c->store.etcd_ca_cert_file},
		{"etcd_cert_file", c->store.etcd_cert_file},
		{"etcd_key_file", c->store.etcd_key_file},
		{"nodename_file", c->nodename_file},
		{"log_file_path", c->log_file_path},
		{"endpoint_status_dir", c->endpoint_status_dir},
	};

	for (size_t i = 0; i < array_size(paths); i++)
		if (store_conf_is_set(paths[i].path) && paths[i].path[0] != '/')
			return err_set(err, -EINVAL, "netconf: %s: \"%s\": want an absolute path",
				paths[i].key, paths[i].path);
	return 0;
}

/* Opened and closed again; keys is the plugin's word for them. */
static int try_store(struct store_conf conf, const char *root, const char *keys, struct err *err)
{
	auto_free char *kubeconfig = mem_printf("%s%s", root, conf.kubeconfig);
	auto_(store) struct store *st = NULL;
	int r;

	if (store_conf_is_set(conf.kubeconfig))
		conf.kubeconfig = kubeconfig;
	r = store_open(&conf, NULL, &st, err);
	return r < 0 ? err_wrap(err, r, "netconf: %s", keys) : 0;
}

static int check_stores(const struct cni_conf *c, const struct conflist_values *v, struct err *err)
{
	struct store_conf conf = c->store;
	int r;

	conf.type = store_conf_type(&c->store);
	if (!store_conf_is_set(conf.etcd_endpoints))
		conf.etcd_endpoints = v->store->etcd_endpoints;
	if (!store_conf_is_set(conf.kubeconfig) && !store_conf_is_set(conf.k8s_api_endpoint)) {
		conf.kubeconfig = v->store->kubeconfig ?: "";
		conf.k8s_api_endpoint = v->store->k8s_api_endpoint;
		conf.kubernetes_service_host = v->store->kubernetes_service_host;
	}
	r = try_store(conf, v->root, "the datastore's keys", err);
	return r == 0 && c->kube.type ? try_store(c->kube, v->root, "the keys of Kubernetes", err)
				      : r;
}

/* As a runtime hands it to the plugin. */
static int check_ours(
	const json_t *top, const json_t *plugin, const struct conflist_values *v, struct err *err)
{
	auto_(json) json_t *conf = json_copy((json_t *)(uintptr_t)plugin);
	auto_free char *text = NULL;
	struct cni_conf *c = NULL;
	int r = 0;

	json_object_set(conf, "name", json_object_get(top, "name"));
	json_object_set(conf, "cniVersion", json_object_get(top, "cniVersion"));
	text = model_json_dump(conf);
	if (cni_conf_parse(text, strlen(text), false, &c, err) != 0)
		return -EINVAL;
	if (!c->ipam_type)
		r = err_set(err, -EINVAL, "ipam.type: missing, want \"margay-ipam\" for one");
	else if (!delegate_is_name(c->ipam_type))
		r = err_set(err, -EINVAL, "ipam.type: \"%s\": want the name of a program",
			c->ipam_type);
	if (r == 0)
		r = check_paths(c, err) ?: check_stores(c, v, err);
	cni_conf_free(c);
	return r;
}

static json_t *load(const char *text, size_t len, struct err *err)
{
	json_error_t je;
	json_t *top = len <= CONFLIST_MAX ? json_loadb(text, len, 0, &je) : NULL;

	if (len > CONFLIST_MAX)
		err_set(err, -EINVAL, "longer than %d bytes", CONFLIST_MAX);
	else if (!top)
		/* Not jansson's text, which quotes what may be a password. */
		err_set(err, -EINVAL, "line %d, column %d: no JSON", je.line, je.column);
	return top;
}

int conflist_check(const char *text, size_t len, const struct conflist_values *v,
	struct cni_texts *ret, struct err *err)
{
	auto_(json) json_t *top = load(text, len, err);
	const json_t *plugin, *plugins = json_object_get(top, "plugins");
	bool ours = false;
	size_t i;

	if (!top)
		return -EINVAL;
	if (!json_is_array(plugins) || json_array_size(plugins) == 0 ||
		json_array_size(plugins) > MAX_PLUGINS)
		return err_set(err, -EINVAL,
			"want a list, {\"name\": ..., \"cniVersion\": ..., \"plugins\": [...]}, of "
			"1 to %d plugins",
			MAX_PLUGINS);
	if (!json_is_string(json_object_get(top, "cniVersion")))
		return err_set(err, -EINVAL, "cniVersion: missing, want \"1.0.0\" for one");
	json_array_foreach (plugins, i, plugin) {
		const char *type = json_string_value(json_object_get(plugin, "type"));
		int r;

		if (!type || !delegate_is_name(type))
			return err_set(
				err, -EINVAL, "plugins[%zu]: type: want the name of a program", i);
		r = is_ours(type) ? check_ours(top, plugin, v, err) : 0;
		if (r < 0)
			return err_wrap(err, r, "plugins[%zu]", i);
		ours = ours || is_ours(type);
		add_type(ret, plugin);
		add_type(ret, json_object_get(plugin, "ipam"));
	}
	if (!ours)
		return err_set(err, -EINVAL, "plugins: want one of type margay");
	return 0;
}

/* ---- told apart ---- */

static enum conflist_owner owner_of_type(const char *type)
{
	if (strcmp(type, "margay") == 0)
		return CONFLIST_MARGAY;
	if (strcmp(type, "calico") == 0)
		return CONFLIST_CALICO;
	if (strcmp(type, "flannel") == 0)
		return CONFLIST_FLANNEL;
	return CONFLIST_OTHER;
}

static enum conflist_owner owner_of_name(const char *name)
{
	if (strcasestr(name, "margay"))
		return CONFLIST_MARGAY;
	if (strcasestr(name, "calico") || strcasestr(name, "canal"))
		return CONFLIST_CALICO;
	if (strcasestr(name, "flannel"))
		return CONFLIST_FLANNEL;
	return CONFLIST_OTHER;
}

enum conflist_owner conflist_owner(const char *name, const char *text, size_t len, char **ret_type)
{
	auto_(json) json_t *top = load(text, len, NULL);
	const json_t *plugins = json_object_get(top, "plugins"), *plugin = top;
	const char *type;
	size_t i = 0;

	*ret_type = NULL;
	if (!json_is_object(top))
		return owner_of_name(name);
	do {
		if (plugins)
			plugin = json_array_get(plugins, i);
		type = json_string_value(json_object_get(plugin, "type"));
		if (type && !*ret_type)
			*ret_type = mem_strdup(type);
		if (type && owner_of_type(type) != CONFLIST_OTHER)
			return owner_of_type(type);
	} while (++i < json_array_size(plugins));
	return CONFLIST_OTHER;
}

bool conflist_is_read(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot && (strcmp(dot, ".conf") == 0 || strcmp(dot, ".conflist") == 0 ||
			      strcmp(dot, ".json") == 0);
}
