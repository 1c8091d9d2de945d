/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/kube_object.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/parse.h"
#include "model/ipam.h"
#include "model/json.h"
#include "model/key.h"
#include "model/resource.h"
#include "store/kube_view.h"
#include "store/store.h"

#define METADATA "projectcalico.org/metadata"
#define UID_SIZE 37

/* The server's own, which change without any change of the object. */
static const char *const volatile_members[] = {
	"resourceVersion", "managedFields", "generation", "selfLink"};

static const char *text_of(const json_t *obj, const char *name)
{
	return json_string_value(json_object_get(obj, name));
}

static json_t *take_copy(const json_t *obj, const char *name)
{
	return json_deep_copy(json_object_get(obj, name));
}

/* Unless it is empty, or absent. value is taken. */
static void set_some(json_t *obj, const char *name, json_t *value)
{
	if (json_object_size(value) > 0 || json_array_size(value) > 0 || json_string_length(value))
		json_object_set_new(obj, name, value);
	else
		json_decref(value);
}

/* Some annotation may hold a NUL. */
json_t *kube_json_load(const char *text, size_t len)
{
	return json_loadb(text, len, JSON_ALLOW_NUL, NULL);
}

int64_t kube_revision(const json_t *obj)
{
	const char *s = text_of(json_object_get(obj, "metadata"), "resourceVersion");
	uint64_t n = 0;

	if (s)
		parse_u64(s, 0, INT64_MAX, &n, NULL);
	return (int64_t)n;
}

/* ---- uid ---- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static unsigned reverse_bits(unsigned b)
{
	unsigned r = 0;

	for (int i = 0; i < 8; i++, b >>= 1)
		r = r << 1 | (b & 1);
	return r;
}

/* Byte 6 and 8 hold a UUID's version and variant. */
static bool reverse_uid(const char *uid, char buf[static UID_SIZE])
{
	size_t n = 0;

	for (unsigned i = 0; i < 16; i++) {
		int hi, lo;

		if (i == 4 || i == 6 || i == 8 || i == 10) {
			if (*uid++ != '-')
				return false;
			buf[n++] = '-';
		}
		hi = hex_digit(uid[0]);
		lo = hi < 0 ? -1 : hex_digit(uid[1]);
		if (lo < 0)
			return false;
		unsigned byte = (unsigned)(hi << 4 | lo);

		n += (size_t)snprintf(buf + n, UID_SIZE - n, "%02x",
			i == 6 || i == 8 ? byte : reverse_bits(byte));
		uid += 2;
	}
	return *uid == '\0';
}

static bool is_calico_object(enum kube_form form)
{
	return form == KUBE_RESOURCE || form == KUBE_POLICY || form == KUBE_IPAM_RESOURCE;
}

static bool is_profile(enum kube_form form)
{
	return form == KUBE_NAMESPACE || form == KUBE_ACCOUNT;
}

static const char *uid_of(const char *uid, const struct kube_kind *kind, char buf[static UID_SIZE])
{
	return (is_calico_object(kind->form) || is_profile(kind->form)) && reverse_uid(uid, buf)
		       ? buf
		       : uid;
}

/* ---- resources ---- */

static bool is_calico_name(const char *name)
{
	return strstr(name, "projectcalico.org/") || strstr(name, "operator.tigera.io/");
}

/* Where a policy has no name in its annotation, it was called default.NAME in tier default. */
static const char *policy_name(const char *name, const json_t *stored, const json_t *obj)
{
	const char *own = text_of(stored, "name");
	const char *tier = text_of(json_object_get(obj, "spec"), "tier");

	if (own)
		return own;
	if ((!tier || !*tier || strcmp(tier, "default") == 0) && strncmp(name, "default.", 8) == 0)
		return name + 8;
	return name;
}

static void merge(json_t *meta, const json_t *own, const json_t *stored, const char *member)
{
	json_t *all = take_copy(own, member);

	if (!json_is_object(all)) {
		json_decref(all);
		all = json_object();
	}
	json_object_del(all, METADATA);
	json_object_update(all, json_object_get(stored, member));
	json_object_del(meta, member);
	set_some(meta, member, all);
}

/* crd.projectcalico.org/v1: the metadata as Calico wrote them, and of the object what lives. */
static json_t *read_metadata(const struct kube_kind *kind, const json_t *obj)
{
	static const char *const lives[] = {
		"namespace", "deletionTimestamp", "deletionGracePeriodSeconds", "finalizers"};
	const json_t *own = json_object_get(obj, "metadata");
	const char *text = text_of(json_object_get(own, "annotations"), METADATA);
	const char *name = text_of(own, "name"), *uid = text_of(own, "uid");
	auto_(json) json_t *stored = text ? json_loads(text, 0, NULL) : NULL;
	json_t *meta = json_is_object(stored) ? json_copy(stored) : json_object();
	char buf[UID_SIZE];

	if (kind->form == KUBE_POLICY)
		name = policy_name(name, stored, obj);
	json_object_set_new(meta, "name", json_string(name));
	for (size_t i = 0; i < array_size(lives); i++)
		if (json_object_get(own, lives[i]))
			json_object_set_new(meta, lives[i], take_copy(own, lives[i]));
	if (uid)
		json_object_set_new(meta, "uid", json_string(uid_of(uid, kind, buf)));
	if (!json_is_string(json_object_get(meta, "creationTimestamp")))
		json_object_set_new(meta, "creationTimestamp", take_copy(own, "creationTimestamp"));
	merge(meta, own, stored, "labels");
	merge(meta, own, stored, "annotations");
	return meta;
}

/* As in etcd, where it is the same in either group. */
static void set_policy_name(json_t *meta)
{
	json_t *annotations = json_copy(json_object_get(meta, "annotations")) ?: json_object();
	auto_(json) json_t *named = json_pack("{s:O?}", "name", json_object_get(meta, "name"));
	auto_free char *text = model_json_dump(named);

	json_object_set_new(annotations, METADATA, json_string(text));
	json_object_set_new(meta, "annotations", annotations);
}

static json_t *read_resource(const struct kube_kind *kind, enum kube_group group, const json_t *obj)
{
	json_t *j = json_object(), *meta;

	if (kind->form == KUBE_CORE)
		json_object_update(j, (json_t *)(uintptr_t)obj);
	meta = group == KUBE_CRD_V1 && !kind->api
		       ? read_metadata(kind, obj)
		       : json_copy((json_t *)(uintptr_t)json_object_get(obj, "metadata"));
	for (size_t i = 0; i < array_size(volatile_members); i++)
		json_object_del(meta, volatile_members[i]);
	if (kind->form == KUBE_POLICY)
		set_policy_name(meta);
	json_object_set_new(j, "kind", json_string(kube_kind_name(kind, KUBE_NATIVE_V3)));
	json_object_set_new(j, "apiVersion", json_string(kube_api_version(kind, KUBE_NATIVE_V3)));
	json_object_set_new(j, "metadata", meta);
	if (kind->form != KUBE_CORE) {
		json_object_set_new(
			j, "spec", json_incref(json_object_get(obj, "spec")) ?: json_object());
		if (json_object_get(obj, "status"))
			json_object_set(j, "status", json_object_get(obj, "status"));
	}
	return j;
}

/* The rest of ownerReferences is as it is. */
static void convert_owners(json_t *owners)
{
	json_t *o;
	size_t i;
	char buf[UID_SIZE];

	json_array_foreach (owners, i, o) {
		const char *api = text_of(o, "apiVersion"), *uid = text_of(o, "uid");

		if (!api || strcmp(api, "projectcalico.org/v3") != 0)
			continue;
		json_object_set_new(o, "apiVersion", json_string("crd.projectcalico.org/v1"));
		if (uid && reverse_uid(uid, buf))
			json_object_set_new(o, "uid", json_string(buf));
	}
}

/* What is Calico's own stands in the object as well. */
static void set_calico_members(json_t *meta, const json_t *all, const char *member)
{
	json_t *own = json_object(), *value;
	const char *name;

	json_object_foreach (json_object_get(all, member), name, value)
		if (is_calico_name(name))
			json_object_set(own, name, value);
	set_some(meta, member, own);
}

/* The annotation: members in Go's order, none that is empty. */
static char *stored_metadata(const struct kube_kind *kind, const json_t *meta)
{
	static const char *const members[] = {"name", "generateName", "creationTimestamp", "labels",
		"annotations", "ownerReferences", "finalizers"};
	auto_(json) json_t *stored = json_object();

	for (size_t i = 0; i < array_size(members); i++)
		if (i > 0 || kind->form == KUBE_POLICY)
			set_some(stored, members[i], take_copy(meta, members[i]));
	convert_owners(json_object_get(stored, "ownerReferences"));
	return model_json_dump(stored);
}

static void set_annotation(json_t *meta, const char *name, const char *value)
{
	json_t *all = json_object_get(meta, "annotations");

	if (!all) {
		all = json_object();
		json_object_set_new(meta, "annotations", all);
	}
	json_object_set_new(all, name, json_string(value));
}

static json_t *write_metadata(const struct kube_key *key, enum kube_group group, const json_t *all)
{
	static const char *const given[] = {
		"uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"};
	json_t *meta;

	if (group == KUBE_NATIVE_V3) {
		meta = json_is_object(all) ? json_deep_copy(all) : json_object();
		for (size_t i = 0; i < array_size(volatile_members); i++)
			json_object_del(meta, volatile_members[i]);
		for (size_t i = 0; i < array_size(given); i++)
			json_object_del(meta, given[i]);
	} else {
		auto_free char *stored = stored_metadata(key->kind, all);

		meta = json_object();
		set_calico_members(meta, all, "labels");
		set_calico_members(meta, all, "annotations");
		set_annotation(meta, METADATA, stored);
		set_some(meta, "finalizers", take_copy(all, "finalizers"));
	}
	json_object_set_new(meta, "name", json_string(key->name));
	if (key->kind->namespaced)
		json_object_set_new(meta, "namespace", json_string(key->ns));
	return meta;
}

/* ---- what IPAM stores ---- */

/* Members of from as they are called in the store, in the store's order. */
struct member {
	const char *store, *kube;
};

static const struct member block_members[] = {{"cidr", "cidr"}, {"affinity", "affinity"},
	{"affinity_claim_time", "affinityClaimTime"}, {"allocations", "allocations"},
	{"unallocated", "unallocated"}, {"attributes", "attributes"},
	{"sequenceNumber", "sequenceNumber"},
	{"sequenceNumberForAllocation", "sequenceNumberForAllocation"}, {"deleted", "deleted"}};
static const struct member handle_members[] = {{"block", "block"}, {"deleted", "deleted"}};
static const struct member config_members[] = {{"strict_affinity", "strictAffinity"},
	{"auto_allocate_blocks", "autoAllocateBlocks"}, {"maxBlocksPerHost", "maxBlocksPerHost"},
	{"kubeVirtVMAddressPersistence", "kubeVirtVMAddressPersistence"},
	{"ipCooldownSeconds", "ipCooldownSeconds"}};

static bool is_deleted(const json_t *spec)
{
	const json_t *j = json_object_get(spec, "deleted");

	return json_is_true(j) || (json_is_string(j) && strcmp(json_string_value(j), "true") == 0);
}

/* In their order; what other writers have put beside them stays, behind. */
static json_t *renamed(const json_t *from, const struct member *m, size_t n, bool to_store)
{
	json_t *to = json_object(), *rest = json_copy((json_t *)(uintptr_t)from);

	for (size_t i = 0; i < n; i++) {
		const char *name = to_store ? m[i].kube : m[i].store;

		if (json_object_get(from, name))
			json_object_set(
				to, to_store ? m[i].store : m[i].kube, json_object_get(from, name));
		json_object_del(rest, name);
	}
	json_object_update_missing(to, rest);
	json_decref(rest);
	return to;
}

/* What etcd always has. */
static void set_default(json_t *obj, const char *name, json_t *value)
{
	if (json_object_get(obj, name))
		json_decref(value);
	else
		json_object_set_new(obj, name, value);
}

static json_t *read_block(const json_t *spec)
{
	auto_(json) json_t *from = json_copy((json_t *)(uintptr_t)spec);

	set_default(from, "affinity", json_null());
	set_default(from, "sequenceNumberForAllocation", json_object());
	set_default(from, "deleted", json_false());
	if (!json_is_true(json_object_get(from, "strictAffinity")))
		json_object_del(from, "strictAffinity"); /* required in v1, and without meaning */
	return renamed(from, block_members, array_size(block_members), true);
}

static json_t *write_block(const json_t *value, enum kube_group group)
{
	json_t *spec = renamed(value, block_members, array_size(block_members), false);

	if (json_is_null(json_object_get(spec, "affinity")))
		json_object_del(spec, "affinity");
	if (!json_is_array(json_object_get(spec, "attributes")))
		json_object_set_new(spec, "attributes", json_array());
	if (group == KUBE_CRD_V1)
		set_default(spec, "strictAffinity", json_false());
	return spec;
}

/* Where false is as good as absent. */
static json_t *read_config(const json_t *spec)
{
	json_t *value = renamed(spec, config_members, array_size(config_members), true), *j;
	const char *name;
	void *next;

	json_object_foreach_safe(value, next, name,
		j) if (json_is_false(j) || (json_is_integer(j) && json_integer_value(j) == 0))
		json_object_del(value, name);
	return value;
}

static json_t *write_config(const json_t *value)
{
	json_t *spec = renamed(value, config_members, array_size(config_members), false);

	set_default(spec, "strictAffinity", json_false());
	set_default(spec, "autoAllocateBlocks", json_false());
	return spec;
}

static json_t *write_affinity(
	const struct kube_key *key, enum kube_group group, const json_t *value)
{
	const char *state = text_of(value, "state");
	bool deleted = is_deleted(value);
	char cidr[PREFIX_TEXT_SIZE];

	return json_pack("{s:s, s:s, s:s, s:s, s:o}", "state", state ? state : "confirmed", "node",
		key->host, "type", key->virtual ? "virtual" : "host", "cidr",
		prefix_format(&key->cidr, cidr), "deleted",
		group == KUBE_NATIVE_V3 ? json_boolean(deleted)
					: json_string(deleted ? "true" : "false"));
}

/* By which an affinity is found. */
static json_t *affinity_labels(const struct kube_key *key)
{
	char hash[KUBE_HOST_HASH_SIZE];

	return json_pack("{s:s, s:s, s:s}", "projectcalico.org/affinity-type",
		key->virtual ? "virtual" : "host", "projectcalico.org/hostname-hash",
		kube_host_hash(key->host, hash), "projectcalico.org/ip-version",
		key->cidr.addr.family == IP_V6 ? "6" : "4");
}

static json_t *read_handle(const json_t *spec)
{
	auto_(json) json_t *from = json_copy((json_t *)(uintptr_t)spec);

	set_default(from, "block", json_object());
	set_default(from, "deleted", json_false());
	json_object_del(from, "handleID");
	return renamed(from, handle_members, array_size(handle_members), true);
}

static json_t *write_handle(const struct kube_key *key, const json_t *value)
{
	auto_(json) json_t *from = json_copy((json_t *)(uintptr_t)value);
	json_t *spec = json_pack("{s:s}", "handleID", key->host);

	set_default(from, "block", json_object());
	set_default(from, "deleted", json_false());
	json_object_update_missing(spec, from);
	return spec;
}

/* ---- both ways ---- */

/* "10-244-0-0-26", or "fd00---122" */
static bool cidr_of_name(const char *name, struct prefix *ret)
{
	const char *len = strrchr(name, '-');
	char text[PREFIX_TEXT_SIZE];

	if (!len || strlen(name) >= sizeof(text))
		return false;
	for (int v6 = 0; v6 < 2; v6++) {
		strcpy(text, name);
		for (char *s = text; s < text + (len - name); s++)
			if (*s == '-')
				*s = v6 ? ':' : '.';
		if (prefix_parse_key(text, ret, NULL) == 0)
			return true;
	}
	return false;
}

/* "node-1-10-244-0-0-26"; a label tells where the node's name ends. */
static char *affinity_key_of_name(const json_t *meta)
{
	const json_t *labels = json_object_get(meta, "labels");
	const char *name = text_of(meta, "name"), *at = name;
	const char *want = text_of(labels, "projectcalico.org/hostname-hash");
	const char *type = text_of(labels, "projectcalico.org/affinity-type");
	char hash[KUBE_HOST_HASH_SIZE], text[PREFIX_TEXT_SIZE];
	struct prefix cidr;

	while ((at = strchr(at + 1, '-'))) {
		auto_free char *node = mem_strndup(name, (size_t)(at - name));

		if (cidr_of_name(at + 1, &cidr) &&
			(!want || strcmp(kube_host_hash(node, hash), want) == 0))
			return mem_printf(IPAM_ROOT "%s/%s/ipv%d/block/%s", type ? type : "host",
				node, cidr.addr.family, prefix_format_key(&cidr, text));
	}
	return NULL;
}

/* Where the object itself does not tell: what was given to it as a name was made of the key. */
static char *ipam_key_of_name(const struct kube_kind *kind, const json_t *meta)
{
	char key[IPAM_KEY_SIZE];
	struct prefix cidr;

	if (kind->form == KUBE_HANDLE)
		return mem_printf(IPAM_KEY_HANDLES "%s", text_of(meta, "name"));
	if (kind->form == KUBE_AFFINITY)
		return affinity_key_of_name(meta);
	return cidr_of_name(text_of(meta, "name"), &cidr) ? mem_strdup(ipam_key_block(&cidr, key))
							  : NULL;
}

static char *ipam_key(const struct kube_kind *kind, const json_t *spec)
{
	const char *cidr_text = text_of(spec, "cidr"), *node = text_of(spec, "node");
	const char *type = text_of(spec, "type"), *handle = text_of(spec, "handleID");
	char key[IPAM_KEY_SIZE], text[PREFIX_TEXT_SIZE];
	struct prefix cidr;

	if (kind->form == KUBE_HANDLE)
		return handle ? mem_printf(IPAM_KEY_HANDLES "%s", handle) : NULL;
	if (kind->form == KUBE_IPAM_CONFIG)
		return mem_strdup(IPAM_KEY_CONFIG);
	if (!cidr_text || prefix_parse_masked(cidr_text, &cidr, NULL) < 0)
		return NULL;
	if (kind->form == KUBE_BLOCK)
		return mem_strdup(ipam_key_block(&cidr, key));
	if (!node)
		return NULL;
	return mem_printf(IPAM_ROOT "%s/%s/ipv%d/block/%s", type && *type ? type : "host", node,
		cidr.addr.family, prefix_format_key(&cidr, text));
}

static int read_ipam(
	const struct kube_kind *kind, const json_t *obj, struct store_kv *kv, struct err *err)
{
	const json_t *spec = json_object_get(obj, "spec");
	auto_(json) json_t *value = NULL;
	const char *name = text_of(json_object_get(obj, "metadata"), "name");

	if (kind->form == KUBE_IPAM_CONFIG && strcmp(name, "default") != 0)
		return 0;
	kv->key = ipam_key(kind, spec);
	if (!kv->key) {
		kv->key = ipam_key_of_name(kind, json_object_get(obj, "metadata"));
		return err_set(err, -EINVAL, "%s %s: spec: want %s", kind->name, name,
			kind->form == KUBE_HANDLE  ? "a handleID"
			: kind->form == KUBE_BLOCK ? "a cidr"
						   : "a node and a cidr");
	}
	if (is_deleted(spec))
		return 0;
	if (kind->form == KUBE_BLOCK) {
		value = read_block(spec);
	} else if (kind->form == KUBE_AFFINITY) {
		value = json_pack(
			"{s:O?, s:b}", "state", json_object_get(spec, "state"), "deleted", 0);
	} else if (kind->form == KUBE_HANDLE) {
		value = read_handle(spec);
	} else {
		value = read_config(spec);
	}
	kv->value = model_json_dump(value);
	return 0;
}

/* Members in Calico's order; the kinds that are not known there have no other order than this. */
static char *encode(const struct kube_kind *kind, const json_t *j)
{
	enum kind known;

	return resource_encode(j, kind_of(kube_kind_name(kind, KUBE_NATIVE_V3),
					  kube_api_version(kind, KUBE_NATIVE_V3), &known)
					  ? known
					  : KIND_IPRESERVATION);
}

/* What Calico wrote there is not lost on an update. */
static int check_annotation(const struct kube_kind *kind, const json_t *obj, struct err *err)
{
	const json_t *meta = json_object_get(obj, "metadata");
	const char *text = text_of(json_object_get(meta, "annotations"), METADATA);
	auto_(json) json_t *stored = text ? json_loads(text, 0, NULL) : NULL;

	if (text && !json_is_object(stored))
		return err_set(err, -EINVAL, "%s %s: annotation " METADATA ": want a JSON object",
			kind->name, text_of(meta, "name"));
	return 0;
}

static int read_named(const struct kube_kind *kind, enum kube_group group, const json_t *obj,
	struct store_kv *kv, struct err *err)
{
	auto_(json) json_t *j = read_resource(kind, group, obj);
	const json_t *own = json_object_get(obj, "metadata");
	const char *ns = text_of(own, "namespace");

	kv->key = mem_printf("%s%s%s%s", kind->root, kind->namespaced && ns ? ns : "",
		kind->namespaced ? "/" : "", text_of(own, "name"));
	kv->value = encode(kind, j);
	return group == KUBE_CRD_V1 && !kind->api ? check_annotation(kind, obj, err) : 0;
}

static void read_pod(const struct kube_kind *kind, const json_t *obj, struct store_kv *kv)
{
	auto_(json) json_t *j = kube_view_pod(obj);
	const json_t *meta = json_object_get(j, "metadata");

	if (!j)
		return;
	kv->key = mem_printf(
		"%s%s/%s", kind->root, text_of(meta, "namespace"), text_of(meta, "name"));
	kv->value = resource_encode(j, KIND_WORKLOADENDPOINT);
}

static void read_node(const struct kube_kind *kind, const json_t *obj, struct store_kv *kv)
{
	auto_(json) json_t *j = kube_view_node(obj);

	kv->key = mem_printf("%s%s", kind->root, text_of(json_object_get(j, "metadata"), "name"));
	kv->value = resource_encode(j, KIND_NODE);
}

static int read_profile(
	const struct kube_kind *kind, const json_t *obj, struct store_kv *kv, struct err *err)
{
	bool account = kind->form == KUBE_ACCOUNT;
	const char *name = text_of(json_object_get(obj, "metadata"), "name");
	auto_(json) json_t *j = NULL;
	json_t *meta;
	const char *uid;
	char buf[UID_SIZE];

	if (account && !text_of(json_object_get(obj, "metadata"), "namespace"))
		return err_set(err, -EINVAL, "%s %s: without namespace", kind->name, name);
	j = kube_view_profile(obj, account);
	meta = json_object_get(j, "metadata");
	uid = text_of(meta, "uid");
	if (uid && uid_of(uid, kind, buf) == buf)
		json_object_set_new(meta, "uid", json_string(buf));
	kv->key = mem_printf("%s%s", kind->root, text_of(meta, "name") + strlen("kns."));
	kv->value = encode(kind, j);
	return 0;
}

int kube_object_read(const struct kube_kind *kind, enum kube_group group, const json_t *obj,
	struct store_kv *ret, struct err *err)
{
	const json_t *meta = json_object_get(obj, "metadata");
	struct err why = ERR_INIT;
	int r = 0;

	*ret = (struct store_kv){.rev = kube_revision(obj)};
	if (!text_of(meta, "name") || !ret->rev)
		return err_set(err, -EINVAL, "an object without %s",
			ret->rev ? "metadata.name" : "a number as metadata.resourceVersion");
	if (kind->namespaced && !text_of(meta, "namespace"))
		return err_set(err, -EINVAL, "%s %s: without namespace", kind->name,
			text_of(meta, "name"));
	switch (kind->form) {
	case KUBE_RESOURCE:
	case KUBE_POLICY:
	case KUBE_IPAM_RESOURCE:
	case KUBE_CORE:
		r = read_named(kind, group, obj, ret, &why);
		break;
	case KUBE_BLOCK:
	case KUBE_AFFINITY:
	case KUBE_HANDLE:
	case KUBE_IPAM_CONFIG:
		r = read_ipam(kind, obj, ret, &why);
		break;
	case KUBE_NODE:
		read_node(kind, obj, ret);
		break;
	case KUBE_POD:
		read_pod(kind, obj, ret);
		break;
	case KUBE_NAMESPACE:
	case KUBE_ACCOUNT:
		r = read_profile(kind, obj, ret, &why);
		break;
	}
	if (r < 0) {
		json_t *text = json_string(err_text(&why));

		free(ret->value);
		ret->value = json_dumps(text, JSON_ENCODE_ANY);
		ret->unreadable = true;
		json_decref(text);
	}
	ret->len = ret->value ? strlen(ret->value) : 0;
	return 0;
}

static json_t *write_spec(const struct kube_key *key, enum kube_group group, const json_t *value)
{
	switch (key->kind->form) {
	case KUBE_BLOCK:
		return write_block(value, group);
	case KUBE_AFFINITY:
		return write_affinity(key, group, value);
	case KUBE_HANDLE:
		return write_handle(key, value);
	case KUBE_IPAM_CONFIG:
		return write_config(value);
	case KUBE_RESOURCE:
	case KUBE_POLICY:
	case KUBE_IPAM_RESOURCE:
	case KUBE_NODE:
	case KUBE_POD:
	case KUBE_NAMESPACE:
	case KUBE_ACCOUNT:
	case KUBE_CORE:
		break;
	}
	return take_copy(value, "spec");
}

static json_t *write_object(const struct kube_key *key, enum kube_group group, const json_t *value)
{
	json_t *j = json_object(), *spec = write_spec(key, group, value), *meta;
	auto_(json) json_t *all =
		is_calico_object(key->kind->form) ? take_copy(value, "metadata") : json_object();

	if (key->kind->form == KUBE_AFFINITY)
		json_object_set_new(all, "labels", affinity_labels(key));
	json_object_del(json_object_get(all, "annotations"), METADATA);
	meta = write_metadata(key, group, all);
	json_object_set_new(j, "apiVersion", json_string(kube_api_version(key->kind, group)));
	json_object_set_new(j, "kind", json_string(kube_kind_name(key->kind, group)));
	json_object_set_new(j, "metadata", meta);
	json_object_set_new(j, "spec", spec ? spec : json_object());
	if (is_calico_object(key->kind->form) && json_object_get(value, "status"))
		json_object_set(j, "status", json_object_get(value, "status"));
	return j;
}

/* What others have put on the object itself, as far as the value still has it. */
static void keep_members(json_t *meta, const json_t *stored, const json_t *old, const char *member)
{
	json_t *to = json_object_get(meta, member), *value;
	const char *name;

	json_object_foreach (json_object_get(old, member), name, value) {
		if (!json_object_get(json_object_get(stored, member), name) ||
			strcmp(name, METADATA) == 0)
			continue;
		if (!to) {
			to = json_object();
			json_object_set_new(meta, member, to);
		}
		json_object_set(to, name, value);
	}
}

void kube_object_keep(json_t *obj, const json_t *old)
{
	json_t *meta = json_object_get(obj, "metadata"), *own = json_object_get(old, "metadata");
	const char *text = text_of(json_object_get(meta, "annotations"), METADATA);
	auto_(json) json_t *stored = text ? json_loads(text, 0, NULL) : NULL;

	if (!stored)
		return; /* projectcalico.org/v3: the value has all of it */
	keep_members(meta, stored, own, "labels");
	keep_members(meta, stored, own, "annotations");
	if (json_object_get(own, "ownerReferences"))
		json_object_set(meta, "ownerReferences", json_object_get(own, "ownerReferences"));
}

bool kube_object_is_patched(const struct kube_key *key)
{
	switch (key->kind->form) {
	case KUBE_NODE:
	case KUBE_POD:
	case KUBE_BLOCK:
	case KUBE_AFFINITY:
	case KUBE_HANDLE:
	case KUBE_IPAM_CONFIG:
		return true;
	case KUBE_RESOURCE:
	case KUBE_POLICY:
	case KUBE_IPAM_RESOURCE:
	case KUBE_NAMESPACE:
	case KUBE_ACCOUNT:
	case KUBE_CORE:
		break;
	}
	return false;
}

const char *kube_object_patch(const struct kube_key *key, json_t **obj)
{
	json_t *patch;

	if (key->kind->form == KUBE_NODE || key->kind->form == KUBE_POD ||
		key->kind->form == KUBE_AFFINITY)
		return "application/merge-patch+json";
	/* The spec has maps: of a merge they would keep what is no longer in them. */
	patch = json_pack("[{s:s, s:s, s:O*}, {s:s, s:s, s:O}]", "op", "replace", "path",
		"/metadata/resourceVersion", "value",
		json_object_get(json_object_get(*obj, "metadata"), "resourceVersion"), "op", "add",
		"path", "/spec", "value", json_object_get(*obj, "spec"));
	json_decref(*obj);
	*obj = patch;
	return "application/json-patch+json";
}

static void set_guard(json_t *obj, int64_t rev)
{
	auto_free char *text = mem_printf("%lld", (long long)rev);

	if (rev)
		json_object_set_new(
			json_object_get(obj, "metadata"), "resourceVersion", json_string(text));
}

json_t *kube_pod_clear(int64_t rev)
{
	json_t *patch = kube_view_pod_patch(NULL);

	set_guard(patch, rev);
	return patch;
}

int kube_object_write(const struct kube_key *key, enum kube_group group, const char *text,
	size_t len, int64_t rev, json_t **ret, struct err *err)
{
	auto_(json) json_t *value = model_json_load(key->name, text, len, err);
	json_t *j = NULL;

	if (!value)
		return -EINVAL;
	switch (key->kind->form) {
	case KUBE_NODE:
		j = kube_view_node_patch(value);
		set_guard(j, rev);
		break;
	case KUBE_POD:
		j = kube_view_pod_patch(value);
		set_guard(j, rev);
		break;
	case KUBE_NAMESPACE:
	case KUBE_ACCOUNT:
	case KUBE_CORE:
		return err_set(err, -EACCES,
			"%s %s: cannot be written in the datastore of Kubernetes: use kubectl",
			key->kind->name, key->name);
	case KUBE_RESOURCE:
	case KUBE_POLICY:
	case KUBE_BLOCK:
	case KUBE_AFFINITY:
	case KUBE_HANDLE:
	case KUBE_IPAM_CONFIG:
	case KUBE_IPAM_RESOURCE:
		j = write_object(key, group, value);
		set_guard(j, rev);
		break;
	}
	*ret = j;
	return 0;
}
