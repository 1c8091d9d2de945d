/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/resources.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/parse.h"
#include "base/vec.h"
#include "ctl/ctl.h"
#include "ipam/alloc.h"
#include "ipam/node.h"
#include "ipam/run.h"
#include "model/bgp.h"
#include "model/ipam.h"
#include "model/ippool.h"
#include "model/json.h"
#include "model/resource.h"
#include "model/service.h"
#include "store/store.h"
#include "store/svcalloc.h"

enum {
	TRIES = 5,
	SERVER_LEARNS_S = 5, /* that a Node is gone: many times what a watch takes to tell it */
};

/* "IPPool a", for messages. */
#define NAME_SIZE (KEY_NAME_SIZE + KEY_NAMESPACE_SIZE + 32)
static const char *name_of(const struct key *key, char buf[static NAME_SIZE])
{
	snprintf(buf, NAME_SIZE, "%s %s%s%s", kind_info(key->kind)->name, key->ns,
		key->ns[0] != '\0' ? "/" : "", key->name);
	return buf;
}
#define name_str(key) name_of((key), (char[NAME_SIZE]){0})

/* What is stored, or NULL where there is nothing. */
static int load(
	struct store *st, const struct key *key, json_t **ret, int64_t *ret_rev, struct err *err)
{
	struct store_kv kv = {0};
	char text[KEY_SIZE];
	int r = store_get_wait(st, key_format(key->kind, key->ns, key->name, text), 0, &kv, err);

	*ret = NULL;
	*ret_rev = 0;
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	*ret_rev = kv.rev;
	*ret = model_json_load(name_str(key), kv.value, kv.len, err);
	store_kv_done(&kv);
	return *ret ? 0 : err_wrap(err, -EINVAL, "what is stored cannot be read, delete it");
}

static int not_there(const struct key *key, struct err *err)
{
	return err_set(err, -ENOENT, "%s: does not exist", name_str(key));
}

/*
 * Writing.
 */
static int validate(struct store *st, const json_t *j, const struct key *key, const json_t *old,
	struct err *err)
{
	struct resource_others others = {0};
	struct store_list list = {0};
	char prefix[KEY_SIZE];
	int r;

	if (key->kind != KIND_IPPOOL)
		return resource_validate(j, key, old, NULL, err);
	r = store_list_wait(st, key_prefix(key->kind, NULL, prefix), 0, &list, err);
	if (r < 0)
		return r;
	auto_free struct resource_other *v =
		list.n > 0 ? mem_realloc_array(NULL, list.n, sizeof(*v)) : NULL;
	for (size_t i = 0; i < list.n; i++)
		v[i] = (struct resource_other){list.v[i].key, list.v[i].value};
	others.v = v;
	others.n = list.n;
	r = resource_validate(j, key, old, &others, err);
	store_list_done(&list);
	return r;
}

/* A new pool must not take over blocks of another size. */
static int check_blocks(struct store *st, const json_t *j, const struct key *key, struct err *err)
{
	auto_(ippool) struct ippool *p = NULL;
	auto_free char *text = resource_encode(j, key->kind);
	struct store_list list = {0};
	char prefix[IPAM_KEY_SIZE];
	int r = ippool_decode(NULL, text, strlen(text), &p, err);

	if (r == 0)
		r = store_list_wait(st,
			ipam_key_blocks_of_family((enum ip_family)p->cidr.addr.family, prefix), 0,
			&list, err);
	for (size_t i = 0; r == 0 && i < list.n; i++) {
		struct prefix block;

		if (ipam_key_parse_block(list.v[i].key, &block) &&
			prefix_overlap(&block, &p->cidr) && block.plen != p->block_plen)
			r = err_set(err, -EINVAL,
				"%s: spec.blockSize: got %u, want %u, or a cidr without block %s, "
				"which is in use",
				name_str(key), p->block_plen, block.plen, prefix_str(&block));
	}
	store_list_done(&list);
	return r;
}

/* 0: none is asked for. As a number, YAML's unquoted one, it says the same. */
static int wanted_revision(
	const json_t *j, enum write_mode mode, const struct key *key, int64_t *ret, struct err *err)
{
	const json_t *v = json_object_get(json_object_get(j, "metadata"), "resourceVersion");
	const char *s = json_string_value(v);
	json_int_t number = json_integer_value(v);
	auto_free char *got = NULL;
	uint64_t n = 0;

	*ret = 0;
	if (mode == WRITE_APPLY || !v || json_is_null(v) || (s && *s == '\0'))
		return 0;
	if (mode == WRITE_CREATE) {
		got = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
		return err_set(err, -EINVAL,
			"%s: metadata.resourceVersion: got %s, want none: what is created has no "
			"version yet; leave it out, or use apply or replace",
			name_str(key), got);
	}
	if (number > 0)
		*ret = number;
	else if (s && parse_u64(s, 1, INT64_MAX, &n, NULL) == 0)
		*ret = (int64_t)n;
	if (*ret > 0)
		return 0;
	got = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
	return err_set(err, -EINVAL,
		"%s: metadata.resourceVersion: got %s, want the number that get prints, or none",
		name_str(key), got);
}

static int put(
	struct store *st, const struct key *key, const char *text, int64_t rev, struct err *err)
{
	char key_text[KEY_SIZE];

	key_format(key->kind, key->ns, key->name, key_text);
	return rev == 0 ? store_create_wait(st, key_text, text, 0, NULL, err)
			: store_update_wait(st, key_text, text, rev, 0, NULL, err);
}

static void set_unchecked(json_t *meta)
{
	if (!json_is_object(json_object_get(meta, "annotations")))
		json_object_set_new(meta, "annotations", json_object());
	json_object_set_new(json_object_get(meta, "annotations"), IPPOOL_UNCHECKED,
		json_string(IPPOOL_UNCHECKED_CTL));
}

/* A pool of put_new_pool() below, which was not enabled. */
static bool is_half_made(const struct key *key, const json_t *old)
{
	const json_t *annotations =
		json_object_get(json_object_get(old, "metadata"), "annotations");
	const char *whose = json_string_value(json_object_get(annotations, IPPOOL_UNCHECKED));

	return key->kind == KIND_IPPOOL && whose && strcmp(whose, IPPOOL_UNCHECKED_CTL) == 0 &&
	       json_is_true(json_object_get(json_object_get(old, "spec"), "disabled"));
}

/*
 * Two writers at once could each list the pools before the other has stored its own, and an address
 * that lies in both would be given twice. So a pool is stored disabled, the pools are listed again,
 * and only then is it enabled, by a compare-and-swap on what was stored; or it is taken back. Of two
 * that overlap, the one that was stored later is listed for later, so its writer sees the other;
 * where both see each other, none stays. What was stored before needs no such detour, whoever wrote
 * it: all who come later have seen it. A writer that dies in between leaves a pool that is disabled,
 * and marked, with which the next one goes on. felix/start_pools.c makes its default pools in the same way.
 */
static int put_new_pool(struct store *st, const struct key *key, const json_t *j, struct err *err)
{
	auto_(json) json_t *disabled = json_deep_copy(j);
	auto_free char *text = resource_encode(j, key->kind), *first = NULL;
	struct err later = ERR_INIT;
	char key_text[KEY_SIZE];
	int64_t rev = 0;
	int r, left = 0;

	json_object_set_new(json_object_get(disabled, "spec"), "disabled", json_true());
	set_unchecked(json_object_get(disabled, "metadata"));
	first = resource_encode(disabled, key->kind);
	key_format(key->kind, key->ns, key->name, key_text);
	r = store_create_wait(st, key_text, first, 0, &rev, err);
	if (r < 0)
		return r;
	r = validate(st, j, key, NULL, err);
	if (r == 0) {
		r = store_update_wait(st, key_text, text, rev, 0, NULL, err);
		/* Somebody else has gone on with it. */
		if (r == -ESTALE)
			return err_set(err, -EEXIST,
				"%s: was made by another writer meanwhile: use apply or replace",
				name_str(key));
		left = r == -ENOENT ? 0 : r;
	} else {
		left = store_delete_wait(st, key_text, rev, NULL, 0, &later);
		left = left == -ENOENT || left == -ESTALE ? 0 : left;
	}
	if (left < 0)
		ctl_warn(
			"%s: is stored, and disabled: apply it again, or delete it", name_str(key));
	return r;
}

static struct service *to_service(const struct key *key, const json_t *j)
{
	auto_free char *text = j ? resource_encode(j, key->kind) : NULL;
	char key_text[KEY_SIZE];
	struct service *s = NULL;

	key_format(key->kind, key->ns, key->name, key_text);
	if (text)
		service_decode(key_text, text, strlen(text), &s, NULL);
	return s;
}

/* A Service is written between the claim of its addresses and the release of what it had. */
static int put_service(struct store *st, const struct svcalloc_conf *alloc, const struct key *key,
	const json_t *j, const json_t *old_j, int64_t rev, struct err *err)
{
	auto_(service) struct service *s = to_service(key, j), *old = to_service(key, old_j);
	auto_free char *text = resource_encode(j, key->kind), *allocated = NULL;
	auto_(svcalloc_made) struct svcalloc_made *made = NULL;
	struct err later = ERR_INIT;
	int r = svcalloc_claim(st, alloc, s, old, 0, &made, err);

	/* EEXIST from here on says that the Service is there; this is of what it asks for. */
	if (r < 0)
		return err_wrap(err, r == -EEXIST ? -EINVAL : r, "%s", name_str(key));
	allocated = service_encode(s, text);
	r = put(st, key, allocated, rev, err);
	/* Of a write without an answer nobody knows; whoever meets the claims then finds out. */
	if (r < 0 && r != -ETIMEDOUT)
		svcalloc_undo(st, made);
	else if (r == 0 && old && svcalloc_release(st, old, s, 0, &later) < 0)
		ctl_warn("%s: is written, but what it had stays claimed: %s", name_str(key),
			later.text);
	return r;
}

static int write_once(struct store *st, const struct svcalloc_conf *alloc, enum write_mode mode,
	json_t *j, const struct key *key, struct err *err)
{
	int64_t rev, wanted = 0;
	auto_(json) json_t *old = NULL;
	auto_free char *text = NULL;
	uint8_t random[16];
	int r = wanted_revision(j, mode, key, &wanted, err);

	if (r < 0)
		return r;
	r = load(st, key, &old, &rev, err);
	/* What is broken beyond reading is replaced by what is whole. */
	if (r < 0 && !(rev > 0 && mode != WRITE_CREATE))
		return r;
	if (rev > 0 && mode == WRITE_CREATE && !is_half_made(key, old))
		return err_set(
			err, -EEXIST, "%s: exists already: use apply or replace", name_str(key));
	if (rev == 0 && mode == WRITE_REPLACE)
		return err_set(
			err, -ENOENT, "%s: does not exist: use apply or create", name_str(key));
	if (wanted != 0 && wanted != rev)
		return err_set(err, -ESTALE,
			"%s: metadata.resourceVersion: got %lld, want %lld: somebody else has changed it, "
			"get it again",
			name_str(key), (long long)wanted, (long long)rev);
	mem_random(random, sizeof(random));
	resource_default(j, key, old, random, clock_real_ns());
	r = validate(st, j, key, old, err);
	if (r == 0 && key->kind == KIND_IPPOOL && rev == 0)
		r = check_blocks(st, j, key, err);
	if (r < 0)
		return r;
	if (key->kind == KIND_SERVICE)
		return put_service(st, alloc, key, j, old, rev, err);
	if (key->kind == KIND_IPPOOL && rev == 0)
		return put_new_pool(st, key, j, err);
	text = resource_encode(j, key->kind);
	return put(st, key, text, rev, err);
}

/* What Kubernetes has in the place of ours is written there. */
static int check_owner(const struct store *st, const struct key *key, struct err *err)
{
	if (store_is_managed(st) && (key->kind == KIND_SERVICE || key->kind == KIND_ENDPOINTSLICE))
		return err_set(err, -EACCES, "%s: is Kubernetes' own: use kubectl", name_str(key));
	return 0;
}

int resources_write(struct store *st, const struct svcalloc_conf *alloc, enum write_mode mode,
	json_t *j, const char *ns, struct key *ret_key, struct err *err)
{
	auto_(json) json_t *given = NULL;
	struct key key;
	int r;

	ret_key->name[0] = '\0';
	r = resource_identify(j, ns, &key, err);
	if (r < 0)
		return r;
	*ret_key = key;
	if (kind_info(key.kind)->read_only)
		return err_set(err, -EACCES, "%s: is written by the daemons only", name_str(&key));
	r = check_owner(st, &key, err);
	if (r < 0)
		return r;
	for (int i = 0;; i++) {
		json_decref(given);
		given = json_deep_copy(j);
		r = write_once(st, alloc, mode, given, &key, err);
		/* Another writer was faster: what was read of it is read again. */
		if (i == TRIES - 1 || (r != -ESTALE && r != -EEXIST && r != -ENOENT) ||
			mode != WRITE_APPLY)
			return r;
	}
}

/*
 * Deleting.
 */
static int run(struct store *st, struct ipam_request *rq_take, struct err *err)
{
	return ipam_run_take(st, rq_take, clock_mono_ms() + STORE_TIMEOUT_MS, err);
}

static void warn_unreadable(void *arg, const char *key, const struct err *why)
{
	(void)arg;
	ctl_warn("%s (see margayctl ipam drop --help): left alone: %s", key, why->text);
}

/* Every block of the pool's that belongs to a node is given up; what is in use in it stays. */
static int release_pool(struct store *st, const struct ippool *p, struct err *err)
{
	struct store_list list = {0};
	char prefix[IPAM_KEY_SIZE];
	uint32_t n_used = 0;
	int r = store_list_wait(st,
		ipam_key_blocks_of_family((enum ip_family)p->cidr.addr.family, prefix), 0, &list,
		err);

	for (size_t i = 0; r == 0 && i < list.n; i++) {
		auto_(ipam_block) struct ipam_block *b = NULL;
		struct err why = ERR_INIT;

		if (ipam_block_decode(list.v[i].value, list.v[i].len, &b, &why) < 0) {
			warn_unreadable(NULL, list.v[i].key, &why);
			continue;
		}
		if (!prefix_covers(&p->cidr, &b->cidr))
			continue;
		n_used += b->size - (uint32_t)b->free.n;
		if (!b->affinity || strncmp(b->affinity, "host:", 5) != 0)
			continue;
		r = run(st, ipam_unclaim_new(&b->cidr, b->affinity + 5, false, clock_real_ns()),
			err);
		if (r == -ENOENT)
			r = 0;
	}
	store_list_done(&list);
	if (r == 0 && n_used > 0)
		ctl_warn("IPPool %s: %u addresses of %s are still in use", p->meta.name, n_used,
			prefix_str(&p->cidr));
	return r;
}

static int delete_pool(struct store *st, const struct key *key, struct err *err)
{
	auto_(ippool) struct ippool *p = NULL;
	struct store_kv kv = {0};
	char text[KEY_SIZE];
	int r = store_get_wait(st, key_format(key->kind, key->ns, key->name, text), 0, &kv, err);

	if (r < 0)
		return r;
	/* A pool that cannot be read has no blocks that could be told. */
	if (ippool_decode(text, kv.value, kv.len, &p, NULL) == 0 && !p->disabled) {
		auto_free char *disabled = NULL;

		p->disabled = true;
		disabled = ippool_encode(p, kv.value);
		r = store_update_wait(st, text, disabled, kv.rev, 0, NULL, err);
		store_kv_done(&kv);
		if (r < 0)
			return err_wrap(err, r, "%s: is to be disabled first", name_str(key));
		/* Who has read the pool as enabled a moment ago is through by then. */
		usleep(500000);
	}
	store_kv_done(&kv);
	if (p)
		r = release_pool(st, p, err);
	if (r == 0)
		r = store_delete_wait(st, text, 0, NULL, 0, err);
	return r < 0 && p ? err_wrap(err, r, "%s: is disabled, but still there, try again",
				    name_str(key))
			  : r;
}

/* Deletes the named object; that it is not there is success. */
static int delete_also(struct store *st, enum kind kind, const char *name, struct err *err)
{
	char text[KEY_SIZE];
	int r;

	if (!key_name_ok(name))
		return 0;
	r = store_delete_wait(st, key_format(kind, NULL, name, text), 0, NULL, 0, err);
	return r == -ENOENT ? 0 : r;
}

static int delete_peers(struct store *st, const char *node, struct err *err)
{
	struct store_list list = {0};
	char prefix[KEY_SIZE];
	int r = store_list_wait(st, key_prefix(KIND_BGPPEER, NULL, prefix), 0, &list, err);

	for (size_t i = 0; r == 0 && i < list.n; i++) {
		auto_(bgp_peer) struct bgp_peer *p = NULL;

		if (bgp_peer_decode(list.v[i].key, list.v[i].value, list.v[i].len, &p, NULL) == 0 &&
			p->node && strcmp(p->node, node) == 0)
			r = store_delete_wait(st, list.v[i].key, 0, NULL, 0, err);
		if (r == -ENOENT)
			r = 0;
	}
	store_list_done(&list);
	return r;
}

static int may_write(void *arg, int64_t *ret_deadline_ms, struct err *err)
{
	(void)arg;
	(void)err;
	*ret_deadline_ms = clock_mono_ms() + STORE_TIMEOUT_MS;
	return 0;
}

/* It has blocks, or addresses held ahead. */
static int has_addresses(struct store *st, const char *node, bool *ret, struct err *err)
{
	auto_free char *reserve = mem_printf(IPAM_HANDLE_RESERVE "%s", node);
	char prefix[IPAM_KEY_SIZE], key[IPAM_KEY_SIZE];
	struct store_list list = {0};
	struct store_kv kv = {0};
	int r = store_list_wait(
		st, ipam_key_affinities_of_host(node, IP_NONE, prefix), 0, &list, err);

	*ret = list.n > 0;
	store_list_done(&list);
	if (r == 0 && !*ret) {
		r = store_get_wait(st, ipam_key_handle(reserve, key), 0, &kv, err);
		*ret = r == 0;
		store_kv_done(&kv);
	}
	return r == -ENOENT ? 0 : r;
}

/*
 * What a server of that node's holds ahead its pods would get until it has been told that the Node is gone, and others
 * as soon as it is given back.
 */
static int wait_server(struct store *st, const char *node, struct err *err)
{
	bool has;
	int r;

	if (!store_is_managed(st) && !store_has_leases(st))
		return 0; /* on SQLite nothing is held ahead */
	r = has_addresses(st, node, &has, err);
	if (r < 0 || !has)
		return r;
	if (isatty(STDERR_FILENO))
		ctl_warn(
			"Node %s: for %d s, in which a margay-cni serve that runs there learns of it",
			node, SERVER_LEARNS_S);
	sleep(SERVER_LEARNS_S);
	return 0;
}

/* What the datastore holds for a node, itself excepted. ENOENT: nothing. */
static int release_node(struct store *st, const struct key *key, struct err *err)
{
	static const struct ipam_node_ops ops = {
		.may_write = may_write, .unreadable = warn_unreadable};
	auto_free char *own = mem_printf("node.%s", key->name);
	struct store_list blocks = {0};
	bool any;
	int r = store_list_wait(st, IPAM_KEY_BLOCKS, 0, &blocks, err);

	if (r == 0)
		r = ipam_node_release(st, key->name, &blocks, &ops, err);
	any = r > 0;
	store_list_done(&blocks);
	if (r >= 0)
		r = delete_peers(st, key->name, err);
	if (r == 0)
		r = delete_also(st, KIND_FELIXCONFIGURATION, own, err);
	if (r == 0)
		r = delete_also(st, KIND_BGPCONFIGURATION, own, err);
	return r == 0 && !any ? -ENOENT : r;
}

/*
 * First the Node, which on Kubernetes is not ours, and then what it had; so this goes on, too, where that has been left
 * over.
 */
static int delete_node(struct store *st, const struct key *key, struct err *err)
{
	char text[KEY_SIZE];
	json_t *node;
	int64_t rev;
	int r = load(st, key, &node, &rev, err);

	json_decref(node);
	if (r < 0 && rev == 0)
		return r;
	if (rev > 0 && store_is_managed(st))
		return err_set(err, -EACCES,
			"%s: is Kubernetes' own: kubectl delete node %s, and then this again, which "
			"gives back its blocks",
			name_str(key), key->name);
	if (rev > 0)
		r = store_delete_wait(
			st, key_format(key->kind, NULL, key->name, text), 0, NULL, 0, err);
	if (rev > 0 && r < 0 && r != -ENOENT)
		return r;
	r = wait_server(st, key->name, err) ?: release_node(st, key, err);
	if (r == -ENOENT && rev > 0)
		r = 0;
	return r < 0 && r != -ENOENT ? err_wrap(err, r, "%s: what it has is still there, try again",
					       name_str(key))
				     : r;
}

static int delete_service(struct store *st, const struct key *key, struct err *err)
{
	auto_(json) json_t *j = NULL;
	auto_(service) struct service *s = NULL;
	struct err later = ERR_INIT;
	char text[KEY_SIZE];
	int64_t rev;
	int r = load(st, key, &j, &rev, err);

	if (r < 0 && rev == 0)
		return r;
	if (rev == 0)
		return not_there(key, err);
	r = store_delete_wait(
		st, key_format(key->kind, key->ns, key->name, text), rev, NULL, 0, err);
	s = to_service(key, j);
	if (r == 0 && s && svcalloc_release(st, s, NULL, 0, &later) < 0)
		ctl_warn("%s: is deleted, but what it had stays claimed: %s", name_str(key),
			later.text);
	return r;
}

int resources_delete(struct store *st, const struct key *key, struct err *err)
{
	char text[KEY_SIZE];
	int r;

	if (kind_info(key->kind)->read_only)
		return err_set(
			err, -EACCES, "%s: is deleted by nobody: daemons need it", name_str(key));
	r = check_owner(st, key, err);
	if (r < 0)
		return r;
	if (key->kind == KIND_NODE)
		r = delete_node(st, key, err);
	else if (key->kind == KIND_IPPOOL)
		r = delete_pool(st, key, err);
	else if (key->kind == KIND_SERVICE)
		r = delete_service(st, key, err);
	else
		r = store_delete_wait(
			st, key_format(key->kind, key->ns, key->name, text), 0, NULL, 0, err);
	return r == -ENOENT ? not_there(key, err) : r;
}
