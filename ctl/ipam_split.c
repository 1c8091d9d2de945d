/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * margayctl ipam split: several pools of equal size in the place of one. The old one is disabled first, and
 * deleted last, and its blocks are left as they are, each of which lies in one of the new ones. The lock keeps
 * everybody from allocating meanwhile, by whichever of them he has read.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/parse.h"
#include "ctl/ctl.h"
#include "ctl/ipam.h"
#include "model/ippool.h"
#include "model/json.h"
#include "model/key.h"
#include "model/resource.h"
#include "store/lock.h"
#include "store/store.h"

#define PARTS_MAX 1024
#define POOL_NAME_MAX 253
#define NAME_KEPT 245 /* of a longer one, as calicoctl */

struct split {
	struct ctl *c;
	uint32_t parts;
	const char *name, *cidr; /* one of them is NULL */
	struct store_list pools;
	const struct store_kv *old_kv;
	struct ippool *old;
};

static int check_locked(struct ctl *c, struct err *err)
{
	enum store_lock lock;
	int r = store_lock_check_wait(c->st, 0, &lock, err);

	if (lock == STORE_LOCKED)
		return 0;
	if (r < 0)
		return r;
	return err_set(err, -EACCES,
		"%s is not locked: margayctl datastore lock, and unlock it when the pools are split",
		store_name(c->st));
}

static int find_pool(struct split *s, struct err *err)
{
	struct prefix cidr = {0};
	int r = 0;

	if (s->cidr)
		r = prefix_parse_masked(s->cidr, &cidr, err);
	if (r < 0)
		return err_wrap(err, r, "--cidr");
	for (size_t i = 0; i < s->pools.n && !s->old; i++) {
		const struct store_kv *kv = &s->pools.v[i];
		auto_(ippool) struct ippool *p = NULL;

		r = ippool_decode(kv->key, kv->value, kv->len, &p, err);
		if (r < 0)
			return r;
		if (s->name ? strcmp(p->meta.name, s->name) != 0 : !prefix_equal(&p->cidr, &cidr))
			continue;
		s->old_kv = kv;
		s->old = take_ptr(p);
	}
	return s->old ? 0
		      : err_set(err, -ENOENT, "there is no IPPool %s", s->name ? s->name : s->cidr);
}

static char *part_name(const struct split *s, uint32_t i)
{
	char *name = mem_printf("split-%s-%u", s->old->meta.name, i);

	if (strlen(name) > POOL_NAME_MAX) {
		free(name);
		name = mem_printf("split-%.*s-%u", NAME_KEPT, s->old->meta.name, i);
	}
	return name;
}

static struct prefix part_cidr(const struct split *s, uint32_t i)
{
	unsigned plen = s->old->cidr.plen + (unsigned)__builtin_ctz(s->parts);
	struct ip ip = s->old->cidr.addr;

	/* Its bits are those behind the old length. */
	for (unsigned bit = s->old->cidr.plen; bit < plen; bit++)
		if (i >> (plen - 1 - bit) & 1)
			ip.b[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
	return prefix_of(&ip, plen);
}

static bool is_part(const struct split *s, const struct ippool *p)
{
	for (uint32_t i = 0; i < s->parts; i++) {
		auto_free char *name = part_name(s, i);
		struct prefix cidr = part_cidr(s, i);

		if (strcmp(p->meta.name, name) == 0)
			return prefix_equal(&p->cidr, &cidr);
	}
	return false;
}

static int check_split(const struct split *s, struct err *err)
{
	unsigned plen = s->old->cidr.plen + (unsigned)__builtin_ctz(s->parts);

	if (plen > s->old->block_plen)
		return err_set(err, -EINVAL,
			"IPPool %s: %s in %u parts: want at most %u, since a block has a /%u",
			s->old->meta.name, prefix_str(&s->old->cidr), s->parts,
			1u << (s->old->block_plen - s->old->cidr.plen), s->old->block_plen);
	for (size_t i = 0; i < s->pools.n; i++) {
		const struct store_kv *kv = &s->pools.v[i];
		auto_(ippool) struct ippool *p = NULL;
		int r = ippool_decode(kv->key, kv->value, kv->len, &p, err);

		if (r < 0)
			return err_wrap(err, r, "it may overlap what is split");
		if (kv != s->old_kv && prefix_overlap(&p->cidr, &s->old->cidr) && !is_part(s, p))
			return err_set(err, -EEXIST, "IPPool %s: overlaps IPPool %s, which is %s",
				s->old->meta.name, p->meta.name, prefix_str(&p->cidr));
	}
	return 0;
}

/* The old one, with another name and cidr; NULL: it cannot be read. */
static char *part_text(const struct split *s, const struct key *key, const struct prefix *cidr)
{
	static const char *const own[] = {
		"uid", "creationTimestamp", "generateName", "managedFields"};
	auto_(json) json_t *j = model_json_load("ippool", s->old_kv->value, s->old_kv->len, NULL);
	json_t *meta = json_object_get(j, "metadata"), *spec = json_object_get(j, "spec");
	uint8_t random[16];

	for (unsigned i = 0; i < array_size(own); i++)
		json_object_del(meta, own[i]);
	json_object_set_new(meta, "name", json_string(key->name));
	json_object_set_new(spec, "cidr", json_string(prefix_str(cidr)));
	json_object_del(spec, "disabled");
	json_object_del(j, "status");
	mem_random(random, sizeof(random));
	resource_default(j, key, NULL, random, clock_real_ns());
	return resource_encode(j, KIND_IPPOOL);
}

/* What was begun before is as it is to be: check_split(). */
static int make_part(const struct split *s, uint32_t i, struct err *err)
{
	auto_free char *name = part_name(s, i), *text = NULL;
	struct key key = {.kind = KIND_IPPOOL};
	struct prefix cidr = part_cidr(s, i);
	char key_text[KEY_SIZE];
	int r;

	snprintf(key.name, sizeof(key.name), "%s", name);
	text = part_text(s, &key, &cidr);
	r = store_create_wait(
		s->c->st, key_format(KIND_IPPOOL, NULL, name, key_text), text, 0, NULL, err);
	return r == -EEXIST ? 0 : r < 0 ? err_wrap(err, r, "IPPool %s", name) : 0;
}

static int split(struct split *s, struct err *err)
{
	int64_t rev = s->old_kv->rev;
	int r = 0;

	if (!s->old->disabled) {
		auto_free char *text = NULL;

		s->old->disabled = true;
		text = ippool_encode(s->old, s->old_kv->value);
		r = store_update_wait(s->c->st, s->old_kv->key, text, rev, 0, &rev, err);
	}
	for (uint32_t i = 0; r == 0 && i < s->parts; i++)
		r = make_part(s, i, err);
	if (r == 0)
		r = store_delete_wait(s->c->st, s->old_kv->key, rev, NULL, 0, err);
	return r < 0 ? err_wrap(err, r,
			       "IPPool %s: is disabled, and split in part; the same again goes on",
			       s->old->meta.name)
		     : 0;
}

static int run(struct split *s)
{
	struct err err = ERR_INIT;
	char prefix[KEY_SIZE];
	int r;

	if (!ctl_store(s->c, false))
		return EXIT_FAILURE;
	r = check_locked(s->c, &err);
	if (r == 0)
		r = store_list_wait(
			s->c->st, key_prefix(KIND_IPPOOL, NULL, prefix), 0, &s->pools, &err);
	if (r == 0)
		r = find_pool(s, &err);
	if (r == 0)
		r = check_split(s, &err);
	if (r == 0)
		r = split(s, &err);
	if (r < 0) {
		err_wrap(&err, r, "ipam split");
		return ctl_fail(&err);
	}
	printf("IP Pool %s was successfully split into %u smaller pools.\n", s->old->meta.name,
		s->parts);
	for (uint32_t i = 0; i < s->parts; i++) {
		auto_free char *name = part_name(s, i);
		struct prefix cidr = part_cidr(s, i);

		printf("Created %s with CIDR %s.\n", name, prefix_str(&cidr));
	}
	printf("Unlock the datastore now: margayctl datastore unlock\n");
	return EXIT_SUCCESS;
}

int ipam_split(struct ctl *c, int argc, char **argv)
{
	static const struct option options[] = {
		{"cidr", required_argument, NULL, 'c'},
		{"name", required_argument, NULL, 'n'},
		{0},
	};
	struct split s = {.c = c};
	struct err err = ERR_INIT;
	int opt, status;

	optind = 0;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == '?')
			return verb_misused("ipam split");
		if (opt == 'c')
			s.cidr = optarg;
		else
			s.name = optarg;
	}
	if (argc - optind != 1 || !s.cidr == !s.name) {
		ctl_warn("ipam split: want a number, and --cidr CIDR or --name POOL");
		return verb_misused("ipam split");
	}
	if (parse_u32(argv[optind], 2, PARTS_MAX, &s.parts, &err) < 0 ||
		(s.parts & (s.parts - 1)) != 0) {
		ctl_warn("ipam split: \"%s\": want a power of two from 2 to %d", argv[optind],
			PARTS_MAX);
		return EXIT_FAILURE;
	}
	status = run(&s);
	ippool_free(s.old);
	store_list_done(&s.pools);
	return status;
}
