/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/usage.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/ipam.h"
#include "model/ippool.h"
#include "model/ipreservation.h"
#include "model/json.h"
#include "model/key.h"

/* 2^n exactly: prefix_size() ends at 2^64. */
static double size_of(const struct prefix *p)
{
	return ldexp(1, (int)ip_bits(&p->addr) - p->plen);
}

static bool reserved(const struct usage *u, const struct ip *ip)
{
	const struct prefix *p;

	vec_for_each (&u->reservations, p)
		if (prefix_contains(p, ip))
			return true;
	return false;
}

static int add_block(struct usage *u, const char *value, size_t len, struct err *err)
{
	auto_(ipam_block) struct ipam_block *b = NULL;
	struct usage_block out = {0};
	int r = ipam_block_decode(value, len, &b, err);

	if (r < 0)
		return r;
	out.cidr = b->cidr;
	out.in_use = b->size - (double)b->free.n;
	for (size_t i = 0; u->reservations.n > 0 && i < b->free.n; i++) {
		struct ip ip;

		if (ip_add(&b->cidr.addr, b->free.v[i], &ip) && reserved(u, &ip))
			out.reserved++;
	}
	vec_push(&u->blocks, out);
	return 0;
}

int usage_add(struct usage *u, const char *key, const char *value, size_t len, struct err *err)
{
	struct ipreservation *res = NULL;
	struct ippool *p = NULL;
	struct key parsed;
	int r;

	if (!key_parse(key, &parsed)) {
		r = add_block(u, value, len, err);
	} else if (parsed.kind == KIND_IPPOOL) {
		r = ippool_decode(key, value, len, &p, err);
		if (r == 0)
			vec_push(&u->pools, p->cidr);
		ippool_free(p);
		return r;
	} else {
		r = ipreservation_decode(key, value, len, &res, err);
		for (size_t i = 0; r == 0 && i < res->cidrs.n; i++)
			vec_push(&u->reservations, res->cidrs.v[i]);
		ipreservation_free(res);
		return r;
	}
	return r < 0 ? err_wrap(err, r, "%s (see margayctl ipam drop --help)", key) : 0;
}

void usage_done(struct usage *u)
{
	vec_done(&u->pools);
	vec_done(&u->reservations);
	vec_done(&u->blocks);
}

/* A line of what is shown. */
struct row {
	bool is_pool;
	struct prefix cidr;
	double in_use, reserved;
};

struct rows {
	VEC(struct row) v;
};

static void print_row(struct table *t, const struct row *r)
{
	double total = size_of(&r->cidr), free_n = total - r->in_use - r->reserved;

	table_add(t, r->is_pool ? "IP Pool" : "Block");
	table_add(t, prefix_str(&r->cidr));
	table_addf(t, "%.5g", total);
	table_addf(t, "%.5g (%.0f%%)", r->in_use, 100 * r->in_use / total);
	table_addf(t, "%.5g (%.0f%%)", r->reserved, 100 * r->reserved / total);
	table_addf(t, "%.5g (%.0f%%)", free_n, 100 * free_n / total);
}

/* Reserved addresses of the pool, whether there are blocks for them or not. */
static double reserved_in(const struct usage *u, const struct prefix *pool)
{
	double n = 0;

	for (size_t i = 0; i < u->reservations.n; i++) {
		const struct prefix *p = &u->reservations.v[i];
		bool counted = false;

		/* In another one; of two that are equal the first counts. */
		for (size_t k = 0; k < u->reservations.n; k++)
			counted = counted ||
				  (k != i && prefix_covers(&u->reservations.v[k], p) &&
					  (k < i || !prefix_equal(&u->reservations.v[k], p)));
		if (counted || !prefix_overlap(p, pool))
			continue;
		n += prefix_covers(p, pool) ? size_of(pool) : size_of(p);
	}
	return n;
}

static void add_block_row(struct rows *rows, const struct usage_block *b)
{
	vec_push(&rows->v,
		(struct row){.cidr = b->cidr, .in_use = b->in_use, .reserved = b->reserved});
}

static void add_pool_rows(struct rows *rows, const struct usage *u, const struct prefix *pool,
	bool with_blocks, bool *shown)
{
	double in_use = 0, taken = 0;
	size_t i;

	for (i = 0; i < u->blocks.n; i++) {
		const struct usage_block *b = &u->blocks.v[i];

		if (!prefix_covers(pool, &b->cidr))
			continue;
		in_use += b->in_use;
		/* Reserved after it was taken. */
		taken += reserved_in(u, &b->cidr) - b->reserved;
	}
	vec_push(&rows->v, (struct row){.is_pool = true,
				   .cidr = *pool,
				   .in_use = in_use,
				   .reserved = reserved_in(u, pool) - taken});
	for (i = 0; i < u->blocks.n; i++) {
		const struct usage_block *b = &u->blocks.v[i];

		if (shown[i] || !prefix_covers(pool, &b->cidr))
			continue;
		shown[i] = true;
		if (with_blocks)
			add_block_row(rows, b);
	}
}

static int block_compare(const void *a, const void *b)
{
	return prefix_compare(
		&((const struct usage_block *)a)->cidr, &((const struct usage_block *)b)->cidr);
}

static void add_rows(struct rows *rows, struct usage *u, bool with_blocks)
{
	auto_free bool *shown = mem_zalloc(u->blocks.n + 1);
	const struct prefix *pool;

	if (u->blocks.n > 1)
		qsort(u->blocks.v, u->blocks.n, sizeof(*u->blocks.v), block_compare);
	vec_for_each (&u->pools, pool)
		add_pool_rows(rows, u, pool, with_blocks, shown);
	/* Of no pool any more. */
	for (size_t i = 0; with_blocks && i < u->blocks.n; i++)
		if (!shown[i])
			add_block_row(rows, &u->blocks.v[i]);
}

void usage_print(struct usage *u, bool with_blocks, FILE *out)
{
	static const char *const heading[] = {
		"GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS RESERVED", "IPS FREE"};
	static const bool right[] = {false, false, true, true, true, true};
	struct rows rows = {0};
	const struct row *r;
	struct table t;

	add_rows(&rows, u, with_blocks);
	table_init(&t, array_size(heading));
	for (unsigned i = 0; i < array_size(heading); i++)
		table_add(&t, heading[i]);
	vec_for_each (&rows.v, r)
		print_row(&t, r);
	table_print_box(&t, right, out);
	table_done(&t);
	vec_done(&rows.v);
}

/* As an integer, where that is exact. */
static json_t *count_json(double n)
{
	return n < 0x1p53 ? json_integer((json_int_t)n) : json_real(n);
}

char *usage_json(struct usage *u, bool with_blocks)
{
	auto_(json) json_t *list = json_array();
	struct rows rows = {0};
	const struct row *r;

	add_rows(&rows, u, with_blocks);
	vec_for_each (&rows.v, r) {
		double total = size_of(&r->cidr);

		json_array_append_new(
			list, json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "grouping",
				      r->is_pool ? "IP Pool" : "Block", "cidr",
				      prefix_str(&r->cidr), "total", count_json(total), "inUse",
				      count_json(r->in_use), "reserved", count_json(r->reserved),
				      "free", count_json(total - r->in_use - r->reserved)));
	}
	vec_done(&rows.v);
	return json_dumps(list, JSON_INDENT(2));
}

bool usage_print_ip(const struct ipam_block *b, const struct ip *ip, FILE *out)
{
	uint64_t ordinal = ip_distance(&b->cidr.addr, ip);
	const struct ipam_block_attr *a;
	const struct ipam_kv *kv;

	if (ordinal >= b->size || b->alloc[ordinal] < 0)
		return false;
	a = &b->attrs.v[b->alloc[ordinal]];
	fprintf(out, "IP %s is in use\n", ip_str(ip));
	fprintf(out, "Handle ID: %s\n", a->handle ? a->handle : "<none>");
	if (a->secondary.n == 0)
		fprintf(out, "No Active Owner attributes defined\n");
	else
		fprintf(out, "Active Owner Attributes:\n");
	vec_for_each (&a->secondary, kv)
		fprintf(out, "  %s: %s\n", kv->name, kv->value);
	if (a->alternate.n > 0)
		fprintf(out, "Alternate Owner Attributes:\n");
	vec_for_each (&a->alternate, kv)
		fprintf(out, "  %s: %s\n", kv->name, kv->value);
	return true;
}

void borrowed_init(struct borrowed *b)
{
	static const char *const heading[] = {
		"IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED-TO"};

	*b = (struct borrowed){0};
	table_init(&b->t, array_size(heading));
	for (unsigned i = 0; i < array_size(heading); i++)
		table_add(&b->t, heading[i]);
}

void borrowed_done(struct borrowed *b)
{
	table_done(&b->t);
}

/* "pod", "default/web-0" */
static void add_owner(struct table *t, const struct ipam_block_attr *a)
{
	const char *vmi = ipam_block_attr_get(a, "vmi-name"), *pod = ipam_block_attr_get(a, "pod");
	const char *ns = ipam_block_attr_get(a, "namespace"),
		   *type = ipam_block_attr_get(a, "type");

	table_add(t, vmi ? "vmi" : pod ? "pod" : type ? type : "");
	if (vmi || pod)
		table_addf(t, "%s/%s", ns ? ns : "", vmi ? vmi : pod);
	else
		table_add(t, "");
}

void borrowed_add(struct borrowed *b, const struct ipam_block *block)
{
	const char *colon = block->affinity ? strchr(block->affinity, ':') : NULL;
	const char *owner = colon ? colon + 1 : block->affinity ? block->affinity : "";

	for (uint32_t i = 0; i < block->size; i++) {
		const struct ipam_block_attr *a =
			block->alloc[i] < 0 ? NULL : &block->attrs.v[block->alloc[i]];
		const char *node = a ? ipam_block_attr_get(a, "node") : NULL;
		struct ip ip;

		b->n_unknown += a && !a->released_s && !node;
		if (!node || strcmp(node, owner) == 0 || !ip_add(&block->cidr.addr, i, &ip))
			continue;
		table_add(&b->t, ip_str(&ip));
		table_add(&b->t, node);
		table_add(&b->t, prefix_str(&block->cidr));
		table_add(&b->t, owner);
		add_owner(&b->t, a);
	}
}

void borrowed_print(const struct borrowed *b, FILE *out)
{
	table_print_box(&b->t, NULL, out);
	if (b->n_unknown > 0)
		fprintf(out,
			"\nNote: found %zu IP allocations without an explicit node association. Unable "
			"to determine if they are borrowed.\n",
			b->n_unknown);
}

void config_print(const struct ipam_config *c, FILE *out)
{
	struct table t;

	table_init(&t, 2);
	table_add(&t, "PROPERTY");
	table_add(&t, "VALUE");
	table_add(&t, "StrictAffinity");
	table_add(&t, c->strict_affinity ? "true" : "false");
	table_add(&t, "AutoAllocateBlocks");
	table_add(&t, c->auto_allocate_blocks ? "true" : "false");
	table_add(&t, "MaxBlocksPerHost");
	table_addf(&t, "%u", c->max_blocks_per_host);
	table_add(&t, "KubeVirtVMAddressPersistence");
	table_add(&t, c->vm_persistence_disabled ? "Disabled" : "Enabled");
	table_add(&t, "IPCooldownSeconds");
	table_addf(&t, "%u", c->cooldown_s);
	table_print_box(&t, NULL, out);
	table_done(&t);
}
