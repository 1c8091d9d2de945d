/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cluster's zones for given Services: dns/NAME.json -> dns/NAME.zones, all zone files one after
 * the other, then what was left out. UPDATE_GOLDEN=1 writes the results.
 *
 *	{"domain": "cluster.local", "reverse": ["10.96.0.0/16"],
 *	 "objects": [{"kind": "Service", ...}, {"kind": "EndpointSlice", ...},
 *		     {"kind": "WorkloadEndpoint", ...}]}
 */
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "confd/dns_view.h"
#include "confd/templates.h"
#include "model/endpoints.h"
#include "model/endpointslice.h"
#include "model/service.h"
#include "model/wep.h"

static void die(const char *what, const struct err *err)
{
	fprintf(stderr, "%s: %s\n", what, err_text(err));
	exit(EXIT_FAILURE);
}

struct objects {
	struct endpoints *endpoints;
	VEC(struct service *) services;
	VEC(struct endpointslice *) slices;
	VEC(struct wep *) weps;
};

static void ignore(void *arg, const char *ns, const char *name)
{
	(void)arg;
	(void)ns;
	(void)name;
}

static void decode(struct objects *o, const json_t *j)
{
	const char *kind = json_string_value(json_object_get(j, "kind"));
	auto_free char *text = json_dumps(j, 0);
	struct err err = ERR_INIT;
	int r = -EINVAL;

#define TAKE(type, list, tell)                                         \
	do {                                                           \
		struct type *x = NULL;                                 \
		r = type##_decode(NULL, text, strlen(text), &x, &err); \
		if (r == 0) {                                          \
			vec_push(&o->list, x);                         \
			tell(o->endpoints, NULL, x);                   \
		}                                                      \
	} while (0)
	if (strcmp(kind, "Service") == 0)
		TAKE(service, services, endpoints_on_service);
	else if (strcmp(kind, "EndpointSlice") == 0)
		TAKE(endpointslice, slices, endpoints_on_slice);
	else if (strcmp(kind, "WorkloadEndpoint") == 0)
		TAKE(wep, weps, endpoints_on_wep);
	if (r < 0)
		die(kind, &err);
}

static void free_objects(struct objects *o)
{
	endpoints_free(o->endpoints);
	for (size_t i = 0; i < o->services.n; i++)
		service_free(o->services.v[i]);
	for (size_t i = 0; i < o->slices.n; i++)
		endpointslice_free(o->slices.v[i]);
	for (size_t i = 0; i < o->weps.n; i++)
		wep_free(o->weps.v[i]);
	vec_done(&o->services);
	vec_done(&o->slices);
	vec_done(&o->weps);
}

/* The view says them in the order of a hash, whose seed is random. */
static int by_object(const void *a, const void *b)
{
	return strcmp(((const struct problem *)a)->object, ((const struct problem *)b)->object);
}

static void render(struct templates *templates, const json_t *in, struct strbuf *out)
{
	struct objects o = {.endpoints = endpoints_new(true, ignore, NULL)};
	VEC(struct prefix) reverse = {0};
	struct problems problems = {0};
	json_t *view, *zone, *item;
	struct err err = ERR_INIT;
	size_t i;

	json_array_foreach (json_object_get(in, "objects"), i, item)
		decode(&o, item);
	json_array_foreach (json_object_get(in, "reverse"), i, item) {
		struct prefix p;

		if (prefix_parse_masked(json_string_value(item), &p, &err) < 0)
			die("reverse", &err);
		vec_push(&reverse, p);
	}
	view = dns_view(
		&(struct dns_view_input){.domain = json_string_value(json_object_get(in, "domain")),
			.endpoints = o.endpoints,
			.reverse = reverse.v,
			.n_reverse = reverse.n},
		&problems);
	json_array_foreach (json_object_get(view, "zones"), i, zone) {
		json_object_update(zone, view);
		json_object_del(zone, "zones");
		json_object_set_new(zone, "serial", json_integer(1));
		json_object_set_new(zone, "content", json_string("content"));
		if (templates_render(templates, "zone", zone, out, &err) < 0)
			die("zone", &err);
	}
	strbuf_add(out, "#### left out\n");
	if (problems.v.n > 0)
		qsort(problems.v.v, problems.v.n, sizeof(problems.v.v[0]), by_object);
	for (i = 0; i < problems.v.n; i++)
		strbuf_addf(out, "%s: %s\n", problems.v.v[i].object, problems.v.v[i].text);
	json_decref(view);
	problems_done(&problems);
	vec_done(&reverse);
	free_objects(&o);
}

static bool run(struct templates *templates, const char *path)
{
	auto_free char *golden_path =
		mem_printf("%.*s.zones", (int)(strlen(path) - strlen(".json")), path);
	auto_free char *golden = NULL;
	auto_strbuf got = STRBUF_INIT;
	json_error_t json_err;
	json_t *in = json_load_file(path, 0, &json_err);
	struct err err = ERR_INIT;

	if (!in) {
		fprintf(stderr, "%s:%d: %s\n", path, json_err.line, json_err.text);
		return false;
	}
	render(templates, in, &got);
	json_decref(in);
	if (getenv("UPDATE_GOLDEN")) {
		if (file_write_atomic(golden_path, got.s, got.len, 0644, &err) < 0)
			die(golden_path, &err);
	} else if (file_read(golden_path, 1 << 20, &golden, NULL, &err) < 0 ||
		   strcmp(golden, got.s) != 0) {
		fprintf(stderr, "%s: %s; UPDATE_GOLDEN=1 writes this:\n%s", golden_path,
			golden ? "differs" : err_text(&err), got.s);
		return false;
	}
	return true;
}

int main(void)
{
	const char *const dirs[] = {TEMPLATES};
	auto_(templates) struct templates *templates = templates_new(dirs, 1);
	struct dirent **entries;
	int n = scandir(CASES, &entries, NULL, alphasort), failed = 0, run_n = 0;

	for (int i = 0; i < n; i++) {
		const char *dot = strrchr(entries[i]->d_name, '.');
		auto_free char *path = mem_printf("%s/%s", CASES, entries[i]->d_name);

		if (dot && strcmp(dot, ".json") == 0) {
			run_n++;
			failed += !run(templates, path);
		}
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	printf("%d cases, %d failed\n", run_n, failed);
	return failed == 0 && run_n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
