/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests to the API server. A call goes to the first server that has not failed lately, and on to the
 * next where it is certain not to have been carried out. All of them share one connection. Credentials
 * are read anew: a token's file for each request, the kubeconfig when it has changed.
 */
#define LOG_MODULE "datastore"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "store/kube.h"
#include "store/kube_object.h"

#define ANSWER_MAX KUBE_OBJECT_MAX
#define TOKEN_MAX (64 * 1024)
#define BUSY_S 1 /* where the server does not say when to come again */
#define BUSY_MAX_S 60

static void call_next(struct kube_call *c);

const char *kube_call_where(const struct kube_call *c)
{
	const struct kube_config *config = &c->k->config;

	return c->turn.at < config->servers.n ? config->servers.v[c->turn.at] : c->k->st.name;
}

/* It comes last for a while. */
static void suspect(struct kube_call *c)
{
	servers_suspect(&c->k->servers, &c->turn, clock_mono_ms());
}

static void fail(struct kube_call *c, int r)
{
	struct err why = c->why;

	c->answer(c, r, NULL, 0, &why);
}

/* ---- who, and where ---- */

/* A file that is being rewritten does not make the last good one bad. */
static int refresh(struct kube *k, struct err *err)
{
	const char *path = k->conf.kubeconfig;
	struct kube_config config;
	struct stat st = {0};
	int r;

	if (k->loaded && !k->stale &&
		(!*path || stat(path, &st) < 0 ||
			(st.st_mtim.tv_sec == k->loaded_mtime.tv_sec &&
				st.st_mtim.tv_nsec == k->loaded_mtime.tv_nsec)))
		return 0;
	if (*path)
		stat(path, &st);
	r = kube_config_load(&k->conf, &config, err);
	if (r < 0)
		return k->loaded ? 0 : err_wrap(err, -EHOSTUNREACH, "datastore %s", k->st.name);
	kube_config_done(&k->config);
	k->config = config;
	k->loaded = true;
	k->stale = false;
	k->loaded_mtime = st.st_mtim;
	k->servers = (struct servers){.n = config.servers.n};
	return 0;
}

/* "Authorization: Bearer ..."; NULL: none. */
static int authorization(const struct kube_config *config, char **ret, struct err *err)
{
	auto_free char *text = NULL;
	int r;

	*ret = NULL;
	if (config->token_file) {
		r = file_read(config->token_file, TOKEN_MAX, &text, NULL, err);
		if (r < 0)
			return r;
		text[strcspn(text, " \t\r\n")] = '\0';
		*ret = mem_printf("Authorization: Bearer %s", text);
	} else if (config->token) {
		*ret = mem_printf("Authorization: Bearer %s", config->token);
	}
	return 0;
}

/* The server's certificate may be for another name than the address that is connected to. */
static char *name_of(const struct kube_call *c)
{
	const struct kube_config *config = &c->k->config;
	const char *first;

	if (config->server_name || c->turn.at < config->n_own)
		return config->server_name ? mem_strdup(config->server_name) : NULL;
	first = strstr(config->servers.v[0], "://") + 3;
	return mem_strndup(first, *first == '[' ? strcspn(first, "]") + 1 : strcspn(first, ":/"));
}

static char *url_of(const struct kube_call *c, const char *path, char **ret_connect_to)
{
	auto_free char *name = name_of(c);
	const char *server = kube_call_where(c);
	const char *host = strstr(server, "://") + 3, *rest = host + strcspn(host, "/");
	const char *port = host + (*host == '[' ? strcspn(host, "]") : 0);

	*ret_connect_to = NULL;
	if (!name)
		return mem_printf("%s%s", server, path);
	port += strcspn(port, ":/");
	*ret_connect_to =
		mem_printf("%.*s%s", (int)(rest - host), host, *port == ':' ? "" : ":443");
	return mem_printf("%.*s%s%.*s%s%s", (int)(host - server), server, name, (int)(rest - port),
		port, rest, path);
}

/* It costs the server next to nothing, and whether it is allowed does not matter. */
static char *alive_url_of(const struct kube_call *c)
{
	auto_free char *connect_to = NULL;

	return url_of(c, "/livez", &connect_to);
}

/* ---- what came back ---- */

/* What says where the server is, and whom it has to trust. */
static const char *address_from(const struct kube *k)
{
	return *k->conf.k8s_api_endpoint ? "K8S_API_ENDPOINT"
	       : *k->conf.kubeconfig	 ? "KUBECONFIG"
					 : "KUBERNETES_SERVICE_HOST";
}

/* As whom the request was made. The caller's. */
static char *credential_of(const struct kube *k)
{
	const char *file = *k->conf.k8s_api_token ? "K8S_API_TOKEN" : k->conf.kubeconfig;

	if (k->config.token_file)
		return mem_printf("the token in %s", k->config.token_file);
	if (k->config.token)
		return mem_printf("the token of %s", file);
	if (k->config.cert_file)
		return mem_printf("the certificate %s", k->config.cert_file);
	return mem_strdup(k->config.cert_pem ? "the client-certificate-data of KUBECONFIG" : "");
}

/* What to look at where no answer came. The caller's. */
static char *look_at(const struct kube_call *c, const char *text)
{
	bool https = strncmp(kube_call_where(c), "https:", 6) == 0;

	if (https && httpc_says_tls(text) && !strstr(text, "SSL_ERROR_SYSCALL") &&
		!strstr(text, "wrong version number"))
		return mem_strdup(
			*c->k->conf.kubeconfig
				? "certificate-authority, client-certificate and client-key in KUBECONFIG"
				: "K8S_CA_FILE, K8S_CERT_FILE and K8S_KEY_FILE");
	return mem_printf("the address in %s, and that an API server is there", address_from(c->k));
}

static void on_broken(struct kube_call *c, const struct httpc_res *res)
{
	const char *text = res->err->text;

	if (res->r == -EMSGSIZE) {
		err_set(&c->why, -EHOSTUNREACH, "datastore %s: %s", kube_call_where(c), text);
		fail(c, -EHOSTUNREACH);
		return;
	}
	suspect(c);
	if (c->write && res->sent) {
		err_set(&c->why, -ETIMEDOUT,
			"datastore %s: %s: whether it was written is not known", kube_call_where(c),
			text);
		fail(c, -ETIMEDOUT);
		return;
	}
	/* What is configured is what a user can mend. */
	if (c->turn.at < c->k->config.n_own || !c->why.code) {
		auto_free char *hint = look_at(c, text);

		err_set(&c->why, -EHOSTUNREACH, "datastore %s: %s: check %s", kube_call_where(c),
			text, hint);
	}
	call_next(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	call_next(arg);
}

/* A deadline ends it. Not all of its clients shall come at the same moment. */
static void on_busy(struct kube_call *c, int64_t after_s)
{
	if (after_s < BUSY_S)
		after_s = BUSY_S;
	if (after_s > BUSY_MAX_S)
		after_s = BUSY_MAX_S;
	if (!c->timer)
		c->timer = evtimer_new(c->k->st.base, on_timer, c);
	if (!c->timer)
		abort();
	c->turn = (struct servers_turn){0};
	store_arm(c->timer, after_s * 1000 + store_random(1000));
}

static int code_of(int status, const char *reason, bool named)
{
	switch (status) {
	case 401:
	case 403:
		return -EACCES;
	case 404:
		return named ? -ENOENT : -EHOSTUNREACH;
	case 409:
		return strcmp(reason, "AlreadyExists") == 0 ? -EEXIST : -ESTALE;
	case 410:
		return -ESTALE;
	case 400:
	case 405:
	case 413:
	case 422:
		return -EINVAL;
	default:
		return -EHOSTUNREACH;
	}
}

/* What to do about a refusal; begins with ": ", or is "". The caller's. */
static char *hint_of(const struct kube *k, int code, int r)
{
	auto_free char *who = code == 401 ? credential_of(k) : NULL;

	if (code == 401 && *who)
		return mem_printf(": %s is wrong or has expired: give one that this cluster knows "
				  "(kubectl create token makes one)",
			who);
	if (code == 401)
		return mem_strdup(
			": neither a token nor a certificate is given: set K8S_TOKEN_FILE "
			"or KUBECONFIG");
	if (code == 403)
		return mem_strdup(": its RBAC role has to allow that");
	if (code == 404 && r == -EHOSTUNREACH)
		return mem_strdup(
			": are the CustomResourceDefinitions installed? kubectl apply one "
			"of crds-v1.yaml and crds-v3.yaml");
	return mem_strdup("");
}

int kube_call_status(struct kube_call *c, int code, const json_t *status, struct err *err)
{
	const char *message = json_string_value(json_object_get(status, "message"));
	const char *reason = json_string_value(json_object_get(status, "reason"));
	bool named = json_is_string(json_object_get(json_object_get(status, "details"), "name"));
	int r = code_of(code, reason ? reason : "", named);

	auto_free char *hint = hint_of(c->k, code, r);

	return err_set(err, r, "datastore %s: %.300s%s", kube_call_where(c),
		message ? message : "an error without message", hint);
}

static void on_refused(struct kube_call *c, const struct httpc_res *res)
{
	json_t *status = json_loadb(res->body, res->len, 0, NULL);
	auto_free char *hint = NULL;
	int line = res->len ? (int)strcspn(res->body, "\r\n<") : 0, r;

	line = line > 100 ? 100 : line;
	while (line > 0 && (res->body[line - 1] == '.' || res->body[line - 1] == ' '))
		line--;
	if (status) {
		r = kube_call_status(c, res->status, status, &c->why);
	} else {
		r = code_of(res->status, "", false);
		hint = hint_of(c->k, res->status, r);
		/* no server's of Kubernetes: one line of text, or a page */
		err_set(&c->why, r, "datastore %s: %.*s: HTTP status %d%s%.*s%s",
			kube_call_where(c), (int)strcspn(c->path, "?"), c->path, res->status,
			line > 0 ? ": " : "", line, line > 0 ? res->body : "",
			strstr(res->body, "HTTP request to an HTTPS server") ? ": want https://"
									     : hint);
	}
	json_decref(status);
	if (res->status / 100 == 5 && !c->write) {
		suspect(c);
		call_next(c);
		return;
	}
	/* 503 comes before a request is looked at. */
	if (res->status / 100 == 5 && res->status != 503)
		r = err_wrap(&c->why, -ETIMEDOUT, "whether it was written is not known");
	c->why.code = r;
	fail(c, r);
}

static void on_done(void *arg, const struct httpc_res *res)
{
	struct kube_call *c = arg;

	c->http = NULL;
	c->status = res->status;
	if (res->r < 0 && c->on_data && res->status == 200) {
		err_set(&c->why, -EHOSTUNREACH, "datastore %s: %s", kube_call_where(c),
			res->err->text);
		fail(c, -EHOSTUNREACH);
	} else if (res->r < 0) {
		on_broken(c, res);
	} else if (res->status == 429) {
		on_busy(c, res->retry_after_s);
	} else if (res->status / 100 != 2) {
		on_refused(c, res);
	} else {
		servers_trust(&c->k->servers, &c->turn);
		c->answer(c, 0, res->body, res->len, NULL);
	}
}

/* ---- sending ---- */

static bool on_some(void *arg, const char *data, size_t len)
{
	struct kube_call *c = arg;

	c->turn.heard_ms = clock_mono_ms();
	return c->on_data(c, data, len);
}

static void call_send(struct kube_call *c, const char *authorization)
{
	struct kube *k = c->k;
	bool last = servers_is_last(&k->servers, &c->turn);
	int64_t attempt_ms = c->write || last ? 0 : SERVERS_ATTEMPT_MS;
	auto_free char *connect_to = NULL, *url = url_of(c, c->path, &connect_to);
	auto_free char *alive_url = c->is_watch ? alive_url_of(c) : NULL;
	auto_free char *type = c->body ? mem_printf("Content-Type: %s", c->type) : NULL;
	const char *headers[6] = {"Accept: application/json", "User-Agent: margay/" MARGAY_VERSION};
	size_t n = 2;

	if (authorization)
		headers[n++] = authorization;
	if (type)
		headers[n++] = type;
	c->http = httpc_start(k->http,
		&(struct httpc_req){
			.method = c->method,
			.url = url,
			.connect_to = connect_to,
			.headers = headers,
			.body = c->body,
			.len = c->body ? strlen(c->body) : 0,
			.tls = {.ca_file = k->config.ca_file,
				.cert_file = k->config.cert_file,
				.key_file = k->config.key_file,
				.ca_pem = k->config.ca_pem,
				.cert_pem = k->config.cert_pem,
				.key_pem = k->config.key_pem,
				.trust_all = k->config.trust_all},
			.max_bytes = ANSWER_MAX,
			.once = c->write,
			.http2 = true,
			.connect_ms = SERVERS_CONNECT_MS,
			.timeout_ms = !c->on_data && attempt_ms ? attempt_ms : c->timeout_ms,
			.first_ms = c->is_watch	 ? SERVERS_FIRST_MS
				    : c->on_data ? attempt_ms
						 : 0,
			.alive_url = alive_url,
			.alive_ms = SERVERS_ALIVE_MS,
			.on_data = c->on_data ? on_some : NULL,
			.done = on_done,
			.arg = c,
		});
}

static void call_next(struct kube_call *c)
{
	struct kube *k = c->k;
	auto_free char *auth = NULL;
	int r = k->http ? 0 : httpc_new(k->st.base, 0, &k->http, &c->why);

	if (r == 0)
		r = refresh(k, &c->why);
	if (r < 0) {
		fail(c, r);
		return;
	}
	if (!servers_next(&k->servers, &c->turn, clock_mono_ms())) {
		fail(c, c->why.code);
		return;
	}
	if (authorization(&k->config, &auth, &c->why) < 0) {
		err_wrap(&c->why, -EHOSTUNREACH, "datastore %s: token", kube_call_where(c));
		c->why.code = -EHOSTUNREACH;
		fail(c, -EHOSTUNREACH);
		return;
	}
	call_send(c, auth);
}

void kube_call_start(struct kube_call *c)
{
	c->turn = (struct servers_turn){0};
	c->why = ERR_INIT;
	call_next(c);
}

void kube_call_stop(struct kube_call *c)
{
	if (c->http && !c->is_watch && servers_leave(&c->k->servers, &c->turn, clock_mono_ms()))
		httpc_abandon(take_ptr(c->http));
	httpc_cancel(take_ptr(c->http));
	if (c->timer)
		event_free(take_ptr(c->timer));
	free(take_ptr(c->path));
	free(take_ptr(c->body));
}

/* ---- what is asked once ---- */

static void gate_open(struct kube_gate *g, int r, const struct err *err)
{
	struct list waiting;

	g->runs = false;
	/* What they do then may stop others, or have them wait anew. */
	list_take(&waiting, &g->waiting);
	while (!list_empty(&waiting)) {
		struct kube_wait *w = list_entry(waiting.next, struct kube_wait, node);

		list_del(&w->node);
		w->go(w, r, err);
	}
}

static void on_gate(struct kube_call *c, int r, const char *body, size_t len, const struct err *err)
{
	struct kube_gate *g = container_of(c, struct kube_gate, call);
	struct kube *k = c->k;
	struct err why = err ? *err : ERR_INIT;

	if (r == 0) {
		json_t *answer = kube_json_load(body, len);

		g->read(k, answer);
		json_decref(answer);
		if (g == &k->which_data)
			kube_endpoints_ask(k);
	} else if (r == -EACCES && c->status == 403 && g == &k->which_data) {
		g->known = true; /* who may not ask cannot tell it from other data */
		r = 0;
		if (!k->told_blind)
			log_warn(
				"datastore %s: may not list namespaces: other data under its address, "
				"an older copy as well, will not be noticed; grant it "
				"(etc/manifests/rbac.yaml)",
				k->st.name);
		k->told_blind = true;
		kube_endpoints_ask(k);
	}
	kube_call_stop(c);
	gate_open(g, r, &why);
}

void kube_wait(struct kube *k, struct kube_gate *g, struct kube_wait *w)
{
	list_init(&w->node);
	if (g->known) {
		w->go(w, 0, NULL);
		return;
	}
	list_add_tail(&g->waiting, &w->node);
	if (g->runs)
		return;
	g->runs = true;
	g->call = (struct kube_call){.k = k,
		.path = mem_strdup(g->path),
		.timeout_ms = STORE_TIMEOUT_MS,
		.answer = on_gate};
	kube_call_start(&g->call);
}

void kube_wait_stop(struct kube_wait *w)
{
	if (w->node.next)
		list_del(&w->node);
}

/* An aggregated API server of Calico's serves projectcalico.org as well, over the other group. */
static void read_group(struct kube *k, const json_t *answer)
{
	bool v1 = false, v3 = false;
	const json_t *g;
	size_t i;

	json_array_foreach (json_object_get(answer, "groups"), i, g) {
		const char *name = json_string_value(json_object_get(g, "name"));

		v1 = v1 || (name && strcmp(name, "crd.projectcalico.org") == 0);
		v3 = v3 || (name && strcmp(name, "projectcalico.org") == 0);
	}
	k->group = v3 && !v1 ? KUBE_NATIVE_V3 : KUBE_CRD_V1;
	k->which_group.known = v1 || v3;
	k->n_groups = v1 + v3;
}

void kube_seen(struct kube *k, const struct kube_kind *kind, int64_t rev)
{
	int64_t *seen = &k->seen[kind - kube_kinds];

	if (rev > *seen)
		*seen = rev;
}

/* A cluster that was made anew, or an older copy of its data that was put back. */
static void read_data(struct kube *k, const json_t *answer)
{
	const json_t *ns = json_array_get(json_object_get(answer, "items"), 0);
	const char *uid =
		json_string_value(json_object_get(json_object_get(ns, "metadata"), "uid"));
	int64_t rev = kube_revision(answer), newest = 0;

	k->which_data.known = true;
	for (size_t i = 0; i < KUBE_N_KINDS; i++)
		if (k->seen[i] > newest)
			newest = k->seen[i];
	if ((rev && rev < newest) || (uid && k->cluster && strcmp(uid, k->cluster) != 0)) {
		memset(k->seen, 0, sizeof(k->seen));
		k->epoch++;
	}
	if (uid) {
		free(k->cluster);
		k->cluster = mem_strdup(uid);
	}
}

void kube_gates_init(struct kube *k)
{
	k->which_group = (struct kube_gate){.path = "/apis", .read = read_group};
	/* What is now, not what the server remembers. */
	k->which_data = (struct kube_gate){
		.path = "/api/v1/namespaces?limit=1&fieldSelector=metadata.name%3Dkube-system",
		.read = read_data};
	list_init(&k->which_group.waiting);
	list_init(&k->which_data.waiting);
}
