/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The API servers behind the Service kubernetes, as they were last seen, in a file: one address a line. A
 * node comes up by them where the Service's own address does not work yet, and it is Margay that makes
 * it work. kube_config.c reads them; a daemon, which watches, writes them.
 */
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/strbuf.h"
#include "model/json.h"
#include "net/ip.h"
#include "store/kube.h"
#include "store/kube_object.h"

#define LOG_MODULE "datastore"
#include "base/log.h"

static void add_address(struct strbuf *to, const char *text, json_int_t port)
{
	struct ip ip;

	if (text && port > 0 && ip_parse(text, &ip, NULL) == 0 && strncmp(text, "127.", 4) != 0 &&
		strcmp(text, "::1") != 0)
		strbuf_addf(to, ip.family == IP_V6 ? "https://[%s]:%lld\n" : "https://%s:%lld\n",
			text, (long long)port);
}

static json_int_t port_of(const json_t *slice)
{
	const json_t *port;
	size_t i;

	json_array_foreach (json_object_get(slice, "ports"), i, port) {
		const char *name = json_string_value(json_object_get(port, "name"));

		if (name && strcmp(name, "https") == 0)
			return json_integer_value(json_object_get(port, "port"));
	}
	return 0;
}

static void add_slice(struct strbuf *to, const json_t *slice)
{
	const json_t *endpoint, *address;
	size_t i, k;

	json_array_foreach (json_object_get(slice, "endpoints"), i, endpoint) {
		const json_t *conditions = json_object_get(endpoint, "conditions");

		if (json_is_false(json_object_get(conditions, "ready")))
			continue;
		json_array_foreach (json_object_get(endpoint, "addresses"), k, address)
			add_address(to, json_string_value(address), port_of(slice));
	}
}

static void on_answer(
	struct kube_call *c, int r, const char *body, size_t len, const struct err *err)
{
	struct kube *k = c->k;
	const char *path = k->conf.kube_endpoints_file;
	auto_(json) json_t *answer = r == 0 ? kube_json_load(body, len) : NULL;
	auto_strbuf text = STRBUF_INIT;
	struct err why = err ? *err : ERR_INIT;
	const json_t *slice;
	size_t i;

	json_array_foreach (json_object_get(answer, "items"), i, slice)
		add_slice(&text, slice);
	/* None is no news: there is one that answers. */
	r = text.len ? file_write_atomic(path, text.s, text.len, 0644, &why) : r;
	if (r < 0)
		log_debug("%s: the API servers' addresses are not kept: %s", path, err_text(&why));
	if (r > 0)
		k->stale = true;
	k->endpoints_asked = false;
	kube_call_stop(c);
}

void kube_endpoints_ask(struct kube *k)
{
	if (!*k->conf.kube_endpoints_file || k->endpoints_asked || k->st.own_base)
		return;
	k->endpoints_asked = true;
	k->endpoints = (struct kube_call){.k = k,
		.path = mem_strdup("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
				   "?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes"),
		.timeout_ms = STORE_TIMEOUT_MS,
		.answer = on_answer};
	kube_call_start(&k->endpoints);
}
