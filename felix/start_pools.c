/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The default pools, where there is none of the family. */
#define LOG_MODULE "start"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "felix/start_plan.h"
#include "ipam/pools.h"
#include "model/ippool.h"
#include "model/json.h"
#include "model/key.h"
#include "model/node.h"
#include "model/resource.h"

/* but: is not looked at, or NULL. */
static bool pool_exists(const struct start *s, unsigned family, const struct object *but)
{
	const struct object *o;

	vec_for_each (&s->pools.of, o)
		if (o != but && o->pool && o->pool->cidr.addr.family == family)
			return true;
	return false;
}

/* One that cannot be decoded, which may be any; or NULL. */
const struct object *start_bad_pool(const struct start *s)
{
	const struct object *o;

	vec_for_each (&s->pools.of, o)
		if (o->bad)
			return o;
	return NULL;
}

/* Whether none that cannot be decoded may be a pool of the family. */
static int check_bad(const struct start *s, unsigned family, struct err *err)
{
	const struct object *o = start_bad_pool(s);

	return o ? err_set(err, -EINVAL,
			   "no IPv%u pool is made, as %s may be one: it cannot be decoded, %s; mend "
			   "it or delete it",
			   family, o->key, o->bad)
		 : 0;
}

/* Whether a pool of this name may be made, since none of its family was found. */
static int may_create(
	const struct start *s, const char *name, enum ip_family family, struct err *err)
{
	const struct object *o;
	int r = check_bad(s, family, err);

	if (r < 0)
		return r;
	vec_for_each (&s->pools.of, o)
		if (strcmp(strrchr(o->key, '/') + 1, name) == 0)
			return err_set(err, -EEXIST,
				"there is no IPv%u pool, and none can be made, as %s has its name and "
				"another family; name that otherwise, make a pool by hand, or set "
				"CALICO_IPV%uPOOL_CIDR to none",
				family, o->key, family);
	return 0;
}

/* 192.168.0.0/16, or the first of 172.16-31.0.0/16, that the node's own network is not in. */
static struct prefix choose_cidr(const struct start *s)
{
	struct prefix p, host = {0};
	struct ip ip;
	const struct prefix *own = &s->host.address[START_V4];
	const struct object *o;

	vec_for_each (&s->objects, o) /* where the stored one is kept */
		if (o->node && own->addr.family == IP_NONE)
			own = &o->node->ipv4;
	if (own->addr.family == IP_V4)
		host = prefix_masked(own);
	for (uint32_t i = 0; i <= 16; i++) {
		ip = ip_from_v4(i == 0 ? 0xc0a80000 : 0xac100000 + ((i - 1) << 16));
		p = prefix_of(&ip, 16);
		if (host.addr.family == IP_NONE || !prefix_overlap(&p, &host))
			break;
	}
	return p;
}

/* What apply would refuse is not stored: once it is there, no parameter mends it. */
static int check_pool(const struct ippool *p, const char *text, struct err *err)
{
	auto_(json) json_t *j = model_json_load(p->meta.name, text, strlen(text), err);
	struct key key;
	int r = j ? resource_identify(j, NULL, &key, err) : -EINVAL;

	if (r == 0)
		r = resource_validate(j, &key, NULL, NULL, err);
	return r < 0 ? err_wrap(err, r, "CALICO_IPV%cPOOL_*",
			       p->cidr.addr.family == IP_V4 ? '4' : '6')
		     : 0;
}

/* The pool that was made is in the list of the next run of the plan. */
static int create_pool(struct start *s, struct ippool *p, struct err *err)
{
	auto_free char *key = mem_strdup(key_str(KIND_IPPOOL, NULL, p->meta.name));
	auto_free char *text = ippool_encode(p, NULL);
	int r = check_pool(p, text, err);

	if (r < 0)
		return r;
	p->disabled = true;
	labels_set(&p->meta.annotations, IPPOOL_UNCHECKED, IPPOOL_UNCHECKED_FELIX);
	if (!start_ensure(s, "IPPool", key, ippool_encode(p, NULL)))
		return 0;
	start_forget_all(&s->pools);
	start_unlearn(s, key);
	(void)start_know_all(s, &s->pools, kind_info(KIND_IPPOOL)->root);
	return 0;
}

/* Any felix goes on where another has stopped. */
static bool is_half_made(const struct ippool *p)
{
	const char *whose = labels_get(&p->meta.annotations, IPPOOL_UNCHECKED);

	return p->disabled && whose && strcmp(whose, IPPOOL_UNCHECKED_FELIX) == 0;
}

/* Enables what was made, or takes it back where another pool came meanwhile. Then as create_pool. */
static int finish_pool(struct start *s, struct object *o, struct err *err)
{
	struct ippool *p = o->pool;
	bool alone = !pool_exists(s, p->cidr.addr.family, o);
	auto_free char *key = mem_strdup(o->key), *text = NULL;
	int64_t rev = o->rev;
	int r = alone ? check_bad(s, p->cidr.addr.family, err) : 0;

	if (r < 0)
		return r;
	if (alone) {
		p->disabled = false;
		labels_set(&p->meta.annotations, IPPOOL_UNCHECKED, NULL);
		text = ippool_encode(p, o->text);
	} else {
		log_info("deleting %s: there is another pool", key);
	}
	start_forget_all(&s->pools);
	start_operate(s, alone ? STORE_UPDATE : STORE_DELETE, key, take_ptr(text), rev);
	return 0;
}

static int parse_cidr(const char *text, enum ip_family family, struct prefix *ret, struct err *err)
{
	int r = prefix_parse_masked(text, ret, err);

	if (r == 0 && ret->addr.family != family)
		r = err_set(err, -EINVAL, "got \"%.60s\", want a prefix of IPv%d", text, family);
	return r;
}

static int ensure_pool(struct start *s, enum start_family f, struct err *err)
{
	static const enum ip_family families[] = {IP_V4, IP_V6};
	static const char *const names[] = {"default-ipv4-ippool", "default-ipv6-ippool"};
	const struct start_pool *conf = &s->conf->pools[f];
	const char *text = conf->cidr[0] == '\0' && f == START_V6 ? "none" : conf->cidr;
	auto_(ippool) struct ippool *p = NULL;
	enum ip_family family = families[f];
	struct prefix cidr;
	int r;

	if (strcmp(text, "none") == 0 || pool_exists(s, family, NULL))
		return 1;
	r = may_create(s, names[f], family, err);
	if (r < 0)
		return r;
	if (text[0] == '\0')
		cidr = choose_cidr(s);
	else
		r = parse_cidr(text, family, &cidr, err);
	if (r < 0)
		return err_wrap(err, r, "CALICO_IPV%uPOOL_CIDR", family);
	p = ippool_new(names[f], &cidr);
	start_identify(s, &p->meta);
	p->block_plen = (uint8_t)conf->block_size;
	p->nat_outgoing = conf->nat_outgoing;
	(void)encap_mode_parse(conf->ipip, &p->ipip, NULL); /* "Off" is Never */
	(void)encap_mode_parse(conf->vxlan, &p->vxlan, NULL);
	p->disable_bgp_export = conf->disable_bgp_export;
	free(p->node_selector);
	p->node_selector = mem_strdup(conf->node_selector);
	return create_pool(s, p, err);
}

int start_pools(struct start *s, struct err *err)
{
	struct object *o;
	int r;

	if (!start_know_all(s, &s->pools, kind_info(KIND_IPPOOL)->root))
		return 0;
	if (s->conf->no_default_pools)
		return 1;
	vec_for_each (&s->pools.of, o)
		if (o->pool && is_half_made(o->pool))
			return finish_pool(s, o, err);
	r = ensure_pool(s, START_V4, err);
	return r == 1 ? ensure_pool(s, START_V6, err) : r;
}
