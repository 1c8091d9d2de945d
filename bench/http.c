/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "http.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>

#include "base/mem.h"
#include "base/strbuf.h"
#include "bench.h"

struct http {
	CURL *easy;
	struct curl_slist *headers, *patch;
	struct strbuf in;
	http_data_fn *fn;
	void *arg;
	bool ended;
};

static size_t on_data(char *data, size_t size, size_t n, void *arg)
{
	struct http *h = arg;

	if (!h->fn)
		strbuf_addn(&h->in, data, size * n);
	else if (!h->fn(h->arg, data, size * n))
		h->ended = true;
	return h->ended ? 0 : size * n;
}

static struct curl_slist *make_headers(const char *type, const char *token)
{
	struct curl_slist *all = curl_slist_append(NULL, "Accept: application/json");
	auto_free char *content = mem_printf("Content-Type: application/%s", type);

	all = curl_slist_append(all, content);
	if (token) {
		auto_free char *auth = mem_printf("Authorization: Bearer %s", token);

		all = curl_slist_append(all, auth);
	}
	return all;
}

struct http *http_new(const char *ca_file, const char *token)
{
	struct http *h = mem_new(struct http);

	h->easy = curl_easy_init();
	if (!h->easy)
		die("libcurl cannot be initialised");
	h->headers = make_headers("json", token);
	h->patch = make_headers("merge-patch+json", token);
	curl_easy_setopt(h->easy, CURLOPT_CAINFO, ca_file);
	curl_easy_setopt(h->easy, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(h->easy, CURLOPT_WRITEDATA, h);
	curl_easy_setopt(h->easy, CURLOPT_FAILONERROR, 1L);
	curl_easy_setopt(h->easy, CURLOPT_NOSIGNAL, 1L);
	return h;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	curl_easy_cleanup(h->easy);
	curl_slist_free_all(h->headers);
	curl_slist_free_all(h->patch);
	strbuf_done(&h->in);
	free(h);
}

static void perform(struct http *h, const char *method, const char *url, const char *body)
{
	bool patch = method && strcmp(method, "PATCH") == 0;
	CURLcode r;

	curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, patch ? h->patch : h->headers);
	curl_easy_setopt(h->easy, CURLOPT_URL, url);
	curl_easy_setopt(h->easy, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(h->easy, CURLOPT_POSTFIELDSIZE, body ? (long)strlen(body) : 0L);
	if (!body)
		curl_easy_setopt(h->easy, CURLOPT_HTTPGET, 1L);
	curl_easy_setopt(h->easy, CURLOPT_CUSTOMREQUEST, method);
	r = curl_easy_perform(h->easy);
	if (r != CURLE_OK && !h->ended)
		die("%s %s: %s", method ? method : "GET", url, curl_easy_strerror(r));
}

const char *http_call(struct http *h, const char *method, const char *url, const char *body)
{
	strbuf_reset(&h->in);
	perform(h, method, url, body);
	return strbuf_str(&h->in);
}

void http_stream(struct http *h, const char *method, const char *url, const char *body,
	http_data_fn *fn, void *arg)
{
	h->fn = fn;
	h->arg = arg;
	perform(h, method, url, body);
}
