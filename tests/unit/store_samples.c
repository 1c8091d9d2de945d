/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit/store_samples.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/ipam.h"
#include "model/json.h"
#include "model/node.h"
#include "model/resource.h"
#include "model/wep.h"
#include "unit/store_suite.h"

#define R "/calico/resources/v3/projectcalico.org/"
#define IPAM "/calico/ipam/v2/"
#define OTHER "x-other"

/* POLICY is a kind that Margay does not know: it keeps an API server's order of its members. */
enum what { BLOCK, AFFINITY, HANDLE, CONFIG, RESOURCE, POLICY, NODE, ENDPOINT };

static const struct sample {
	const char *file, *key;
	enum what what;
	const char *v1, *v3; /* the object's path */
} samples[] = {
#define GROUPS(v1, v3) "/apis/crd.projectcalico.org/v1/" v1, "/apis/projectcalico.org/v3/" v3
#define SAME(path) GROUPS(path, path)
	{"affinity-pending", IPAM "host/node1/ipv4/block/10.244.66.128-29", AFFINITY,
		SAME("blockaffinities/node1-10-244-66-128-29")},
	{"affinity", IPAM "host/node1/ipv4/block/10.244.66.128-29", AFFINITY,
		SAME("blockaffinities/node1-10-244-66-128-29")},
	{"block-new", IPAM "assignment/ipv4/block/10.244.66.128-29", BLOCK,
		SAME("ipamblocks/10-244-66-128-29")},
	{"block-used", IPAM "assignment/ipv4/block/10.244.66.128-29", BLOCK,
		SAME("ipamblocks/10-244-66-128-29")},
	{"block-released", IPAM "assignment/ipv4/block/10.244.66.128-29", BLOCK,
		SAME("ipamblocks/10-244-66-128-29")},
	{"block-cooldown", IPAM "assignment/ipv4/block/10.244.66.128-29", BLOCK,
		SAME("ipamblocks/10-244-66-128-29")},
	{"handle", IPAM "handle/k8s-pod-network.0f3c1d", HANDLE,
		SAME("ipamhandles/k8s-pod-network.0f3c1d")},
	{"config", IPAM "config", CONFIG,
		GROUPS("ipamconfigs/default", "ipamconfigurations/default")},
	{"pool", R "ippools/default-ipv4-ippool", RESOURCE, SAME("ippools/default-ipv4-ippool")},
	{"policy", R "globalnetworkpolicies/allow-dns", POLICY,
		SAME("globalnetworkpolicies/allow-dns")},
	{"node", R "nodes/node1", NODE, "/api/v1/nodes/node1", "/api/v1/nodes/node1"},
	{"endpoint", R "workloadendpoints/default/node1-k8s-web--0-eth0", ENDPOINT,
		"/api/v1/namespaces/default/pods/web-0", "/api/v1/namespaces/default/pods/web-0"},
};

static const struct samples_driver *all_drivers;

static char *read_sample(const struct sample *s, const char *suffix)
{
	auto_free char *path = mem_printf("%s/%s%s.json", MARGAY_SAMPLES_DIR, s->file, suffix);
	char *text = NULL;

	ok(file_read(path, 65536, &text, NULL, &err));
	return text;
}

static bool is_view(const struct sample *s)
{
	return s->what == NODE || s->what == ENDPOINT;
}

static const char *at_of(const struct samples_driver *d, const struct sample *s)
{
	return !d->group ? s->key : strcmp(d->group, "v1") == 0 ? s->v1 : s->v3;
}

/* What the independent client stores. */
static char *theirs_of(const struct samples_driver *d, const struct sample *s)
{
	auto_free char *suffix = mem_printf("%s%s", d->group ? "." : "",
		!d->group    ? ""
		: is_view(s) ? "kube"
			     : d->group);

	return read_sample(s, suffix);
}

static void put(const struct samples_driver *d, const struct sample *s, const char *text)
{
	const char *at = at_of(d, s);
	auto_free char *list =
		mem_strndup(at, d->group ? (size_t)(strrchr(at, '/') - at) : strlen(at));

	d->put(list, text);
}

static json_t *load(const char *text)
{
	json_t *j = json_loads(text, 0, NULL);

	ck_assert_msg(j != NULL, "%s", text);
	return j;
}

/* Without what an API server sets. In the order of the members that are left. */
static char *settled(const struct samples_driver *d, const char *text)
{
	static const char *const servers[] = {"uid", "resourceVersion", "creationTimestamp",
		"generation", "managedFields", "selfLink"};
	json_t *j, *meta;
	char *out;

	if (!d->group)
		return mem_strdup(text);
	j = load(text);
	meta = json_object_get(j, "metadata");
	for (size_t i = 0; i < array_size(servers); i++)
		json_object_del(meta, servers[i]);
	out = model_json_dump(j);
	json_decref(j);
	return out;
}

/* What the independent client finds is what it would have stored itself. */
static void found(const struct samples_driver *d, const struct sample *s, const char *want)
{
	auto_free char *got = d->get(at_of(d, s));
	json_t *a, *b;

	if (!d->group) {
		ck_assert_str_eq(got, want);
		return;
	}
	auto_free char *x = settled(d, got), *y = settled(d, want);

	a = load(x);
	b = load(y);
	if (is_view(s)) { /* of these the annotations are ours */
		json_t *ma = json_object_get(a, "metadata"), *mb = json_object_get(b, "metadata");

		ck_assert_msg(json_equal(json_object_get(ma, "annotations"),
				      json_object_get(mb, "annotations")),
			"%s: found %s, want %s", s->file, x, y);
	} else {
		ck_assert_msg(json_equal(a, b), "%s: found %s, want %s", s->file, x, y);
	}
	json_decref(a);
	json_decref(b);
}

/* Through what a component makes of it, which changes nothing. */
static char *coded(const struct sample *s, const char *text)
{
	size_t len = strlen(text);
	char *out;

	switch (s->what) {
	case BLOCK: {
		auto_(ipam_block) struct ipam_block *b = NULL;

		ok(ipam_block_decode(text, len, &b, &err));
		return ipam_block_encode(b);
	}
	case AFFINITY: {
		struct ipam_affinity a;

		ok(ipam_affinity_decode(text, len, &a, &err));
		return ipam_affinity_encode(&a, text);
	}
	case HANDLE: {
		auto_(ipam_handle) struct ipam_handle *h = NULL;

		ok(ipam_handle_decode(text, len, &h, &err));
		return ipam_handle_encode(h);
	}
	case NODE: {
		auto_(node) struct node *n = NULL;

		ok(node_decode(s->key, text, len, &n, &err));
		return node_encode(n, text);
	}
	case ENDPOINT: {
		auto_(wep) struct wep *w = NULL;

		ok(wep_decode(s->key, text, len, &w, &err));
		return wep_encode(w, text);
	}
	case RESOURCE:
	case POLICY: {
		json_t *j = load(text);

		out = resource_encode(j, KIND_IPPOOL);
		json_decref(j);
		return out;
	}
	case CONFIG: /* is read only */
		break;
	}
	return mem_strdup(text);
}

/* The value that both stores tell. */
static char *value_of(const struct samples_driver *d, const struct sample *s)
{
	char *value = read_sample(s, "");
	static const char absent[] = "\"attributes\":null", empty[] = "\"attributes\":[]";
	char *at = d->group ? strstr(value, absent) : NULL; /* which its CRD does not allow */

	if (at) {
		char *with = mem_printf(
			"%.*s%s%s", (int)(at - value), value, empty, at + strlen(absent));

		free(value);
		return with;
	}
	return value;
}

static void same(const char *got, const char *want, bool in_any_order)
{
	json_t *a = load(got), *b = load(want);

	if (in_any_order)
		ck_assert_msg(json_equal(a, b), "%s, want %s", got, want);
	else
		ck_assert_str_eq(got, want);
	json_decref(a);
	json_decref(b);
}

START_TEST(samples_go_both_ways)
{
	const struct samples_driver *d = &all_drivers[_i];

	for (size_t i = 0; i < array_size(samples); i++) {
		const struct sample *s = &samples[i];
		auto_(store) struct store *st = d->open();
		auto_free char *value = value_of(d, s), *theirs = theirs_of(d, s);
		auto_free char *want = settled(d, value);
		struct store_kv kv = {0};

		/* theirs is read, and is the same when it is written back */
		put(d, s, theirs);
		ok(store_get_wait(st, s->key, 0, &kv, &err));
		auto_free char *got = settled(d, kv.value);
		auto_free char *again = coded(s, kv.value);

		same(got, want, d->group && s->what == POLICY);
		ck_assert_str_eq(kv.value, again);
		ok(store_update_wait(st, s->key, again, kv.rev, 0, NULL, &err));
		store_kv_done(&kv);
		found(d, s, theirs);
		/* ours is found */
		if (!d->group || !is_view(s)) {
			auto_free char *given = read_sample(s, "");

			ok(store_delete_wait(st, s->key, 0, NULL, 0, &err));
			ok(store_create_wait(st, s->key, given, 0, NULL, &err));
			found(d, s, theirs);
		}
		d->del(at_of(d, s));
	}
}
END_TEST

/* Members that nobody here knows, in each object that a version to come may give some. */
static char *with_others(const struct samples_driver *d, const struct sample *s, const char *text)
{
	json_t *j = load(text), *spec = d->group ? json_object_get(j, "spec") : j, *meta, *attr;
	char *out;

	if ((s->what == RESOURCE || s->what == POLICY) && !d->group)
		json_object_set_new(json_object_get(j, "spec"), OTHER, json_pack("{s:i}", "a", 1));
	if (!d->group || !is_view(s))
		json_object_set_new(spec, OTHER, json_pack("[{s:i}, n]", "b", 2));
	attr = json_array_get(json_object_get(spec, "attributes"), 0);
	if (attr)
		json_object_set_new(attr, OTHER, json_string("c"));
	meta = json_object_get(j, "metadata");
	if (meta) {
		json_t *annotations = json_object_get(meta, "annotations");

		if (!annotations) {
			annotations = json_object();
			json_object_set_new(meta, "annotations", annotations);
		}
		json_object_set_new(annotations, "example.com/" OTHER, json_string("d"));
		if (!is_view(s) && !json_object_get(meta, "labels"))
			json_object_set_new(meta, "labels", json_object());
		if (!is_view(s))
			json_object_set_new(json_object_get(meta, "labels"), "example.com/" OTHER,
				json_string("e"));
	}
	if (d->group && !is_view(s))
		json_object_set_new(meta, "ownerReferences",
			json_pack("[{s:s, s:s, s:s, s:s}]", "apiVersion", "example.com/v1", "kind",
				"Owner", "name", "o", "uid",
				"3f2a9c1e-7b4d-4e21-9a6c-0d5e8f713b42"));
	out = model_json_dump(j);
	json_decref(j);
	return out;
}

static int count(const char *text, const char *part)
{
	int n = 0;

	for (const char *at = text; (at = strstr(at, part)); at += strlen(part))
		n++;
	return n;
}

/* An update that changes something. */
static char *changed(const struct sample *s, const char *text)
{
	size_t len = strlen(text);
	char *out;
	json_t *j;

	switch (s->what) {
	case BLOCK: {
		auto_(ipam_block) struct ipam_block *b = NULL, *copy = NULL;

		ok(ipam_block_decode(text, len, &b, &err));
		copy = ipam_block_dup(b);
		copy->seq++;
		return ipam_block_encode(copy);
	}
	case AFFINITY: {
		struct ipam_affinity a = {.state = IPAM_PENDING_DELETION};

		return ipam_affinity_encode(&a, text);
	}
	case HANDLE: {
		auto_(ipam_handle) struct ipam_handle *h = NULL, *copy = NULL;

		ok(ipam_handle_decode(text, len, &h, &err));
		copy = ipam_handle_dup(h);
		copy->blocks.v[0].count++;
		return ipam_handle_encode(copy);
	}
	case NODE: {
		auto_(node) struct node *n = NULL;

		ok(node_decode(s->key, text, len, &n, &err));
		n->as = 65001;
		return node_encode(n, text);
	}
	case ENDPOINT: {
		auto_(wep) struct wep *w = NULL;

		ok(wep_decode(s->key, text, len, &w, &err));
		free(w->container_id);
		w->container_id = mem_strdup("other");
		return wep_encode(w, text);
	}
	case CONFIG:
	case RESOURCE:
	case POLICY:
		break;
	}
	j = load(text);
	json_object_set_new(s->what == CONFIG ? j : json_object_get(j, "spec"),
		s->what == CONFIG ? "ipCooldownSeconds" : "order", json_integer(30));
	out = s->what == CONFIG ? model_json_dump(j) : resource_encode(j, KIND_IPPOOL);
	json_decref(j);
	return out;
}

START_TEST(members_of_others_survive)
{
	const struct samples_driver *d = &all_drivers[_i];

	for (size_t i = 0; i < array_size(samples); i++) {
		const struct sample *s = &samples[i];
		auto_(store) struct store *st = d->open();
		auto_free char *plain = theirs_of(d, s), *theirs = with_others(d, s, plain);
		struct store_kv kv = {0};

		put(d, s, theirs);
		for (int turn = 0; turn < 2; turn++) {
			ok(store_get_wait(st, s->key, 0, &kv, &err));
			auto_free char *next = changed(s, kv.value);

			ok(store_update_wait(st, s->key, next, kv.rev, 0, NULL, &err));
			store_kv_done(&kv);
		}
		auto_free char *got = d->get(at_of(d, s));
		json_t *a = load(theirs), *b = load(got);

		/* An annotation holds them once more, where user's metadata stand there. */
		ck_assert_msg(count(got, OTHER) >= count(theirs, OTHER), "%s: %s, was %s", s->file,
			got, theirs);
		if (d->group && !is_view(s))
			ck_assert_msg(json_equal(json_object_get(json_object_get(a, "metadata"),
							 "ownerReferences"),
					      json_object_get(json_object_get(b, "metadata"),
						      "ownerReferences")),
				"%s: %s", s->file, got);
		ck_assert_str_ne(got, theirs);
		json_decref(a);
		json_decref(b);
		d->del(at_of(d, s));
	}
}
END_TEST

void store_samples_add(Suite *s, const struct samples_driver *drivers, int n, void (*setup)(void),
	void (*teardown)(void))
{
	TCase *tc = tcase_create("samples");

	all_drivers = drivers;
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, samples_go_both_ways, 0, n);
	tcase_add_loop_test(tc, members_of_others_survive, 0, n);
	suite_add_tcase(s, tc);
}
