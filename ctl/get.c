/* SPDX-License-Identifier: GPL-2.0-or-later */
/* margayctl get */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "ctl/columns.h"
#include "ctl/ctl.h"
#include "ctl/resources.h"
#include "model/bgp.h"
#include "model/json.h"
#include "model/key.h"
#include "model/meta.h"
#include "model/selector.h"
#include "model/yaml.h"
#include "store/store.h"

enum form { FORM_TABLE, FORM_WIDE, FORM_YAML, FORM_JSON, FORM_NAME };

struct get {
	struct ctl *c;
	enum kind kind;
	enum form form;
	const char *ns;
	bool ns_given, all_namespaces;
	struct selector *selector; /* NULL: any */
	bool one;		   /* a single name was asked for */
	bool failed;

	VEC(struct store_kv) kvs; /* what is to be shown */
	int64_t rev;		  /* of the list */
};

/*
 * Finding.
 */
static bool selected(const struct get *g, const struct store_kv *kv)
{
	auto_(json) json_t *j = NULL;
	struct labels labels = {0};
	const char *name;
	json_t *e;
	bool yes;

	if (!g->selector)
		return true;
	j = model_json_load(kv->key, kv->value, kv->len, NULL);
	json_object_foreach (json_object_get(json_object_get(j, "metadata"), "labels"), name, e)
		if (json_is_string(e))
			labels_set(&labels, name, json_string_value(e));
	yes = selector_matches(g->selector, &labels);
	labels_done(&labels);
	return yes;
}

static int find_named(struct get *g, const char *name)
{
	struct store_kv kv = {0};
	struct err err = ERR_INIT;
	char key[KEY_SIZE];
	int r;

	if (!key_name_ok(name)) {
		ctl_warn("get: \"%s\": is no name", name);
		g->failed = true;
		return 0;
	}
	r = store_get_wait(g->c->st, key_format(g->kind, g->ns, name, key), 0, &kv, &err);
	if (r == -ENOENT) {
		bool namespaced = kind_info(g->kind)->namespaced;

		ctl_warn("%s %s%s%s: does not exist", kind_info(g->kind)->name,
			namespaced ? g->ns : "", namespaced ? "/" : "", name);
		g->failed = true;
		return 0;
	}
	if (r < 0)
		return ctl_fail(&err), r;
	vec_push(&g->kvs, kv);
	return 0;
}

static int find_all(struct get *g)
{
	struct store_list list = {0};
	struct err err = ERR_INIT;
	char prefix[KEY_SIZE];
	int r = store_list_wait(g->c->st,
		key_prefix(g->kind, g->all_namespaces ? NULL : g->ns, prefix), 0, &list, &err);

	if (r < 0)
		return ctl_fail(&err), r;
	g->rev = list.rev;
	for (size_t i = 0; i < list.n; i++) {
		if (!selected(g, &list.v[i]))
			continue;
		vec_push(&g->kvs, list.v[i]);
		list.v[i] = (struct store_kv){0};
	}
	store_list_done(&list);
	return 0;
}

/*
 * Showing.
 */
static uint32_t cluster_as(struct ctl *c)
{
	auto_(bgp_config) struct bgp_config *b = NULL;
	struct store_kv kv = {0};
	char key[KEY_SIZE];
	uint32_t as = BGP_AS_DEFAULT;

	if (store_get_wait(c->st, key_format(KIND_BGPCONFIGURATION, NULL, "default", key), 0, &kv,
		    NULL) == 0 &&
		bgp_config_decode(key, kv.value, kv.len, &b, NULL) == 0 && b->as != 0)
		as = b->as;
	store_kv_done(&kv);
	return as;
}

static void show_table(struct get *g)
{
	struct columns columns = {
		.kind = g->kind,
		.wide = g->form == FORM_WIDE,
		.with_namespace =
			kind_info(g->kind)->namespaced && (g->all_namespaces || g->ns_given),
	};
	struct table t;
	const struct store_kv *kv;

	if (g->kind == KIND_NODE && columns.wide)
		columns.cluster_as = cluster_as(g->c);
	columns_begin(&t, &columns);
	vec_for_each (&g->kvs, kv) {
		struct err err = ERR_INIT;

		if (columns_add(&t, &columns, kv->key, kv->value, kv->len, &err) < 0) {
			ctl_warn("%s: repair it, or delete it", err.text);
			g->failed = true;
		}
	}
	table_print_columns(&t, stdout);
	table_done(&t);
}

static void show_names(struct get *g)
{
	const struct store_kv *kv;
	struct key key;

	vec_for_each (&g->kvs, kv) {
		if (!key_parse(kv->key, &key))
			continue;
		for (const char *p = kind_info(g->kind)->name; *p != '\0'; p++)
			putchar(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
		if (g->all_namespaces && key.ns[0] != '\0')
			printf("/%s", key.ns);
		printf("/%s\n", key.name);
	}
}

static json_t *with_revision(json_t *j, int64_t rev)
{
	json_t *meta = json_object_get(j, "metadata");
	char text[24];

	if (!json_is_object(meta)) {
		json_object_set_new(j, "metadata", json_object());
		meta = json_object_get(j, "metadata");
	}
	snprintf(text, sizeof(text), "%lld", (long long)rev);
	json_object_set_new(meta, "resourceVersion", json_string(text));
	return j;
}

static void show_objects(struct get *g)
{
	auto_(json) json_t *out = NULL;
	auto_free char *kind = mem_printf("%sList", kind_info(g->kind)->name);
	json_t *items = json_array();
	const struct store_kv *kv;
	auto_free char *text = NULL;

	vec_for_each (&g->kvs, kv) {
		struct err err = ERR_INIT;
		json_t *j = model_json_load(kv->key, kv->value, kv->len, &err);

		if (j) {
			json_array_append_new(items, with_revision(j, kv->rev));
		} else {
			ctl_warn("%s: repair it, or delete it", err.text);
			g->failed = true;
		}
	}
	if (g->one) {
		out = json_incref(json_array_get(items, 0));
		json_decref(items);
	} else {
		out = json_object();
		json_object_set_new(out, "kind", json_string(kind));
		json_object_set_new(
			out, "apiVersion", json_string(kind_info(g->kind)->api_version));
		with_revision(out, g->rev);
		json_object_set_new(out, "items", items);
	}
	if (!out)
		return;
	text = g->form == FORM_YAML ? yaml_dump(out) : json_dumps(out, JSON_INDENT(2));
	printf("%s%s", text, g->form == FORM_YAML ? "" : "\n");
}

static int parse_form(const char *s, enum form *ret)
{
	static const char *const names[] = {"table", "wide", "yaml", "json", "name"};

	if (strcmp(s, "ps") == 0) /* calicoctl's name for it */
		s = "table";
	for (unsigned i = 0; i < array_size(names); i++) {
		if (strcmp(s, names[i]) == 0) {
			*ret = (enum form)i;
			return 0;
		}
	}
	ctl_warn("get: --output \"%s\": want table, wide, yaml, json or name", s);
	return -EINVAL;
}

static int parse_options(struct get *g, int argc, char **argv)
{
	static const struct option options[] = {
		{"output", required_argument, NULL, 'o'},
		{"namespace", required_argument, NULL, 'n'},
		{"all-namespaces", no_argument, NULL, 'A'},
		{"selector", required_argument, NULL, 'l'},
		{0},
	};
	struct err err = ERR_INIT;
	int opt;

	optind = 0;
	while ((opt = getopt_long(argc, argv, "o:n:aAl:", options, NULL)) != -1) {
		switch (opt) {
		case 'o':
			if (parse_form(optarg, &g->form) < 0)
				return -EINVAL;
			break;
		case 'n':
			g->ns = optarg;
			g->ns_given = true;
			break;
		case 'a':
		case 'A':
			g->all_namespaces = true;
			break;
		case 'l':
			selector_free(take_ptr(g->selector));
			if (selector_parse(optarg, &g->selector, &err) < 0)
				return ctl_fail(&err), -EINVAL;
			break;
		default:
			return -EINVAL;
		}
	}
	if (optind == argc) {
		ctl_warn("get: want a kind of resource, such as ippools");
		return -EINVAL;
	}
	if (g->selector && argc - optind > 1) {
		ctl_warn("get: want either names or --selector, not both");
		return -EINVAL;
	}
	if (!kind_find(argv[optind], &g->kind)) {
		ctl_warn("get: \"%s\": no such kind of resource", argv[optind]);
		return -EINVAL;
	}
	if (!key_name_ok(g->ns) || strlen(g->ns) > MODEL_NAMESPACE_MAX) {
		ctl_warn("get: \"%s\": is no namespace", g->ns);
		return -EINVAL;
	}
	return 0;
}

int verb_get(struct ctl *c, int argc, char **argv)
{
	struct get g = {.c = c, .ns = "default"};
	struct store_kv *kv;
	int r = parse_options(&g, argc, argv);

	if (r < 0) {
		selector_free(g.selector);
		return verb_misused("get");
	}
	if (!ctl_store(c, false)) {
		selector_free(g.selector);
		return EXIT_FAILURE;
	}
	g.one = argc - optind == 2;
	if (argc - optind == 1)
		r = find_all(&g);
	for (int i = optind + 1; r == 0 && i < argc; i++)
		r = find_named(&g, argv[i]);
	if (r == 0 && (g.kvs.n > 0 || !g.one)) {
		if (g.form == FORM_TABLE || g.form == FORM_WIDE)
			show_table(&g);
		else if (g.form == FORM_NAME)
			show_names(&g);
		else
			show_objects(&g);
	}
	vec_for_each (&g.kvs, kv)
		store_kv_done(kv);
	vec_done(&g.kvs);
	selector_free(g.selector);
	return r < 0 || g.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
