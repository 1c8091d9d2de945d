/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/kube_config.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/err.h"
#include "base/file.h"
#include "base/strbuf.h"
#include "model/json.h"
#include "model/yaml.h"
#include "store/servers.h"
#include "store/store.h"

#define FILE_MAX (1024 * 1024)
#define ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount/"

static bool is_set(const char *s)
{
	return s && *s;
}

static char *dup_set(const char *s)
{
	return is_set(s) ? mem_strdup(s) : NULL;
}

void kube_config_done(struct kube_config *c)
{
	char **s;

	vec_for_each (&c->servers, s)
		free(*s);
	vec_done(&c->servers);
	free(c->server_name);
	free(c->ca_file);
	free(c->cert_file);
	free(c->key_file);
	free(c->ca_pem);
	free(c->cert_pem);
	free(c->key_pem);
	free(c->token);
	free(c->token_file);
	*c = (struct kube_config){0};
}

/* ---- servers ---- */

static int add_server(struct kube_config *c, const char *url, const char *what, struct err *err)
{
	size_t n;
	int r = servers_check(what, url, true, "give a token or a certificate", &n, err);

	if (r < 0)
		return r;
	if (c->servers.n == SERVERS_MAX)
		return err_set(err, -EINVAL, "%s: want at most %d", what, SERVERS_MAX);
	vec_push(&c->servers, mem_strndup(url, n));
	return 0;
}

static int add_servers(struct kube_config *c, const char *list, const char *what, struct err *err)
{
	auto_free char *copy = mem_strdup(list);
	char *save = NULL, **s;
	int r = 0;

	vec_for_each (&c->servers, s)
		free(*s);
	c->servers.n = 0;
	for (char *url = strtok_r(copy, ", ", &save); url && r == 0;
		url = strtok_r(NULL, ", ", &save))
		r = add_server(c, url, what, err);
	if (r == 0 && c->servers.n == 0)
		r = err_set(err, -EINVAL, "%s: want https://HOST:PORT", what);
	return r;
}

/* ---- kubeconfig ---- */

static const char *text_of(const json_t *obj, const char *name)
{
	const char *s = json_string_value(json_object_get(obj, name));

	return is_set(s) ? s : NULL;
}

/* The entry of the list that has the name; its member of the kind's name. */
static int find(const json_t *root, const char *list, const char *kind, const char *name,
	const json_t **ret, struct err *err)
{
	const json_t *e;
	size_t i;

	json_array_foreach (json_object_get(root, list), i, e) {
		const char *own = text_of(e, "name");

		if (own && name && strcmp(own, name) == 0) {
			*ret = json_object_get(e, kind);
			return 0;
		}
	}
	return err_set(err, -EINVAL, "%s: no entry is called \"%s\"", list, name ? name : "");
}

static char *file_of(const char *path, const char *name)
{
	const char *slash = strrchr(path, '/');

	if (!name)
		return NULL;
	if (*name == '/' || !slash)
		return mem_strdup(name);
	return mem_printf("%.*s/%s", (int)(slash - path), path, name);
}

static int decode(const json_t *obj, const char *name, char **ret, struct err *err)
{
	const char *text = text_of(obj, name);
	auto_strbuf out = STRBUF_INIT;

	if (!text)
		return 0;
	if (!base64_add_decoded(&out, text, strlen(text)) || strlen(out.s) != out.len)
		return err_set(err, -EINVAL, "%s: want base64 of PEM", name);
	*ret = strbuf_take(&out);
	return 0;
}

static int read_cluster(
	const json_t *cluster, const char *path, struct kube_config *c, struct err *err)
{
	const char *server = text_of(cluster, "server");
	int r;

	if (text_of(cluster, "proxy-url"))
		return err_set(err, -EINVAL, "proxy-url: proxies are not supported");
	if (!server)
		return err_set(err, -EINVAL, "server is not set");
	r = add_server(c, server, "server", err);
	if (r == 0)
		r = decode(cluster, "certificate-authority-data", &c->ca_pem, err);
	c->ca_file = file_of(path, text_of(cluster, "certificate-authority"));
	c->server_name = dup_set(text_of(cluster, "tls-server-name"));
	c->trust_all = json_is_true(json_object_get(cluster, "insecure-skip-tls-verify"));
	return r;
}

static int check_texts(const json_t *user, struct err *err)
{
	static const char *const names[] = {"token", "tokenFile", "client-certificate",
		"client-key", "client-certificate-data", "client-key-data"};

	for (size_t i = 0; i < array_size(names); i++) {
		const json_t *j = json_object_get(user, names[i]);

		if (j && !json_is_string(j) && !json_is_null(j))
			return err_set(err, -EINVAL, "%s: want text: put it in quotes", names[i]);
	}
	return 0;
}

static int read_user(const json_t *user, const char *path, struct kube_config *c, struct err *err)
{
	static const char *const refused[] = {"exec", "auth-provider", "username", "as"};
	int r;

	for (size_t i = 0; i < array_size(refused); i++)
		if (json_object_get(user, refused[i]))
			return err_set(err, -EINVAL,
				"%s is not supported: give the user a token, a tokenFile or "
				"client-certificate and client-key (kubectl create token makes a token)",
				refused[i]);
	r = check_texts(user, err);
	if (r == 0)
		r = decode(user, "client-certificate-data", &c->cert_pem, err);
	if (r == 0)
		r = decode(user, "client-key-data", &c->key_pem, err);
	c->cert_file = file_of(path, text_of(user, "client-certificate"));
	c->key_file = file_of(path, text_of(user, "client-key"));
	c->token = dup_set(text_of(user, "token"));
	if (c->token) /* a block of YAML ends with a line's end */
		c->token[strcspn(c->token, " \t\r\n")] = '\0';
	c->token_file = file_of(path, text_of(user, "tokenFile"));
	if (r == 0 && (c->cert_file || c->cert_pem) != (c->key_file || c->key_pem))
		r = err_set(
			err, -EINVAL, "want client-certificate and client-key, or none of them");
	return r;
}

static int read_config(const json_t *root, const char *path, struct kube_config *c, struct err *err)
{
	const char *name = text_of(root, "current-context"), *user_name;
	const json_t *context, *cluster, *user;
	int r;

	if (!name)
		return err_set(err, -EINVAL,
			"current-context is not set: kubectl config use-context sets it");
	r = find(root, "contexts", "context", name, &context, err);
	if (r == 0)
		r = find(root, "clusters", "cluster", text_of(context, "cluster"), &cluster, err);
	if (r < 0)
		return r;
	r = read_cluster(cluster, path, c, err);
	if (r < 0)
		return err_wrap(err, r, "cluster %s", text_of(context, "cluster"));
	user_name = text_of(context, "user");
	if (!user_name)
		return 0;
	r = find(root, "users", "user", user_name, &user, err);
	if (r < 0)
		return r;
	r = read_user(user, path, c, err);
	return r < 0 ? err_wrap(err, r, "user %s", user_name) : 0;
}

int kube_config_parse(
	const char *text, size_t len, const char *path, struct kube_config *ret, struct err *err)
{
	struct kube_config c = {0};
	struct yaml_docs docs = {0};
	int r;

	yaml_load(text, len, &docs);
	if (docs.v.n != 1)
		r = err_set(err, -EINVAL, "want one document, of kind Config");
	else if (!docs.v.v[0].j)
		r = err_set(err, -EINVAL, "%s", docs.v.v[0].err);
	else
		r = read_config(docs.v.v[0].j, path, &c, err);
	yaml_docs_done(&docs);
	if (r < 0) {
		kube_config_done(&c);
		return err_wrap(err, r, "kubeconfig %s", path);
	}
	*ret = c;
	return 0;
}

/* ---- without one ---- */

static char *existing(const char *path)
{
	return access(path, R_OK) == 0 ? mem_strdup(path) : NULL;
}

static int check_pair(const struct kube_config *c, struct err *err)
{
	return !c->cert_file == !c->key_file
		       ? 0
		       : err_set(err, -EINVAL, "want both K8S_CERT_FILE and K8S_KEY_FILE, or none");
}

/* What a pod finds, where the parameters do not say otherwise. */
static int from_parameters(const struct store_conf *conf, struct kube_config *c, struct err *err)
{
	const char *host = conf->kubernetes_service_host, *port = conf->kubernetes_service_port;

	if (is_set(host)) {
		bool v6 = strchr(host, ':') != NULL;

		vec_push(&c->servers, mem_printf("https://%s%s%s:%s", v6 ? "[" : "", host,
					      v6 ? "]" : "", is_set(port) ? port : "443"));
	} else if (!is_set(conf->k8s_api_endpoint)) {
		return err_set(err, -EINVAL,
			"DATASTORE_TYPE kubernetes wants KUBECONFIG, or K8S_API_ENDPOINT as in "
			"https://192.0.2.1:6443, or to run in a pod (KUBERNETES_SERVICE_HOST)");
	}
	c->ca_file = dup_set(conf->k8s_ca_file) ?: existing(ACCOUNT "ca.crt");
	c->cert_file = dup_set(conf->k8s_cert_file);
	c->key_file = dup_set(conf->k8s_key_file);
	c->token = dup_set(conf->k8s_api_token);
	c->token_file = dup_set(conf->k8s_token_file);
	if (!c->token && !c->token_file && !c->cert_file)
		c->token_file = existing(ACCOUNT "token");
	return check_pair(c, err);
}

/* The servers as they were last seen. Their certificates are for the name that is configured. */
static void add_seen(struct kube_config *c, const char *path)
{
	auto_free char *text = NULL;
	char *save = NULL, **s;

	c->n_own = c->servers.n;
	if (!is_set(path) || strncmp(c->servers.v[0], "https://", 8) != 0 ||
		file_read(path, FILE_MAX, &text, NULL, NULL) < 0)
		return;
	for (char *url = strtok_r(text, "\n", &save); url; url = strtok_r(NULL, "\n", &save)) {
		bool known = false;

		vec_for_each (&c->servers, s)
			known = known || strcmp(*s, url) == 0;
		if (!known && strncmp(url, "https://", 8) == 0)
			add_server(c, url, path, NULL);
	}
}

static void replace(char **text, const char *by)
{
	free(*text);
	*text = dup_set(by);
}

/* A parameter that is set has the last word over what a file says, as with Calico. */
static int override(const struct store_conf *conf, struct kube_config *c, struct err *err)
{
	int r = 0;

	if (!is_set(conf->kubeconfig))
		return 0;
	if (is_set(conf->k8s_ca_file)) {
		replace(&c->ca_file, conf->k8s_ca_file);
		replace(&c->ca_pem, NULL);
	}
	if (is_set(conf->k8s_cert_file) || is_set(conf->k8s_key_file)) {
		replace(&c->cert_file, conf->k8s_cert_file);
		replace(&c->key_file, conf->k8s_key_file);
		replace(&c->cert_pem, NULL);
		replace(&c->key_pem, NULL);
		r = check_pair(c, err);
	}
	if (is_set(conf->k8s_api_token) || is_set(conf->k8s_token_file)) {
		replace(&c->token, conf->k8s_api_token);
		replace(&c->token_file, conf->k8s_token_file);
	}
	return r;
}

int kube_config_load(const struct store_conf *conf, struct kube_config *ret, struct err *err)
{
	struct kube_config c = {0};
	auto_free char *text = NULL;
	size_t len;
	int r;

	if (is_set(conf->kubeconfig)) {
		r = file_read(conf->kubeconfig, FILE_MAX, &text, &len, err);
		if (r < 0)
			return err_wrap(err, -EHOSTUNREACH, "KUBECONFIG");
		r = kube_config_parse(text, len, conf->kubeconfig, &c, err);
	} else {
		r = from_parameters(conf, &c, err);
	}
	if (r == 0)
		r = override(conf, &c, err);
	if (r == 0 && is_set(conf->k8s_api_endpoint))
		r = add_servers(&c, conf->k8s_api_endpoint, "K8S_API_ENDPOINT", err);
	if (r < 0) {
		kube_config_done(&c);
		return r;
	}
	add_seen(&c, conf->kube_endpoints_file);
	*ret = c;
	return 0;
}

/* ---- two of them ---- */

#define CA_BEGIN "-----BEGINCERTIFICATE-----"
#define CA_END "-----ENDCERTIFICATE-----"

/* The CAs' certificates without white space, of which there may be more or less. NULL: there are none. */
static char *ca_of(const struct kube_config *c)
{
	auto_free char *text = NULL;
	char *out;

	if (c->ca_pem)
		text = mem_strdup(c->ca_pem);
	else if (!c->ca_file || file_read(c->ca_file, FILE_MAX, &text, NULL, NULL) < 0)
		return NULL;
	out = text;
	for (const char *s = text; *s; s++)
		if (!strchr(" \t\r\n", *s))
			*out++ = *s;
	*out = '\0';
	return strstr(text, CA_BEGIN) ? take_ptr(text) : NULL;
}

static bool shares_certificate(const char *a, const char *b)
{
	const char *to;

	for (; (a = strstr(a, CA_BEGIN)) && (to = strstr(a, CA_END)); a = to) {
		auto_free char *one = mem_strndup(a, (size_t)(to - a) + strlen(CA_END));

		if (strstr(b, one))
			return true;
	}
	return false;
}

static bool shares_server(const struct kube_config *a, const struct kube_config *b)
{
	for (size_t i = 0; i < a->servers.n; i++)
		for (size_t k = 0; k < b->servers.n; k++)
			if (strcmp(a->servers.v[i], b->servers.v[k]) == 0)
				return true;
	return false;
}

bool kube_config_is_other(const struct kube_config *a, const struct kube_config *b)
{
	auto_free char *a_ca = ca_of(a), *b_ca = ca_of(b);

	return a_ca && b_ca && !shares_server(a, b) && !shares_certificate(a_ca, b_ca);
}
