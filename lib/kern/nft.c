/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A ruleset and what the kernel has are compared as text made by libnftnl from the same objects, so
 * that what is understood of the kernel's answer is what is written.
 */
#include "kern/nft.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "kern/nft_map.h"
#include "kern/nft_priv.h"
#include "kern/nl.h"

#define MONITOR_RCVBUF (1024 * 1024)

struct nft_monitor {
	struct nl *nl;
};

int nft_open(struct nft **ret, struct err *err)
{
	struct nl *nl;
	int r = nl_open(NETLINK_NETFILTER, &nl, err);

	if (r < 0)
		return r;
	*ret = mem_new(struct nft);
	(*ret)->nl = nl;
	return 0;
}

void nft_close(struct nft *n)
{
	if (!n)
		return;
	nl_close(n->nl);
	free(n);
}

void *nft_must(void *p)
{
	if (!p)
		abort();
	return p;
}

/* ---- content ---- */

struct nft_ruleset *nft_ruleset_new(uint16_t family, const char *table)
{
	struct nft_ruleset *rs = mem_new(struct nft_ruleset);

	rs->family = family;
	rs->table = mem_strdup(table);
	return rs;
}

static void ruleset_clear(struct nft_ruleset *rs)
{
	for (size_t i = 0; i < rs->sets.n; i++)
		nftnl_set_free(rs->sets.v[i]);
	for (size_t i = 0; i < rs->chains.n; i++)
		nftnl_chain_free(rs->chains.v[i]);
	for (size_t i = 0; i < rs->rules.n; i++)
		nftnl_rule_free(rs->rules.v[i]);
	vec_done(&rs->sets);
	vec_done(&rs->chains);
	vec_done(&rs->rules);
	rs->flags = 0;
}

void nft_ruleset_free(struct nft_ruleset *rs)
{
	if (!rs)
		return;
	ruleset_clear(rs);
	free(rs->table);
	free(rs);
}

void nft_base_chain(
	struct nft_ruleset *rs, const char *name, const char *type, uint32_t hook, int32_t priority)
{
	struct nftnl_chain *c = nft_must(nftnl_chain_alloc());

	nftnl_chain_set_u32(c, NFTNL_CHAIN_FAMILY, rs->family);
	nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, rs->table);
	nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, name);
	nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, type);
	nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, hook);
	nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, priority);
	nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, NF_ACCEPT);
	vec_push(&rs->chains, c);
}

static void add_element(struct nftnl_set *s, const void *key, uint32_t len, uint32_t flags)
{
	struct nftnl_set_elem *e = nft_must(nftnl_set_elem_alloc());

	nftnl_set_elem_set(e, NFTNL_SET_ELEM_KEY, key, len);
	if (flags)
		nftnl_set_elem_set_u32(e, NFTNL_SET_ELEM_FLAGS, flags);
	nftnl_set_elem_add(s, e);
}

struct nftnl_set *nft_add_set(
	struct nft_ruleset *rs, const char *name, uint32_t flags, uint32_t type, uint32_t len)
{
	struct nftnl_set *s = nft_must(nftnl_set_alloc());

	nftnl_set_set_u32(s, NFTNL_SET_FAMILY, rs->family);
	nftnl_set_set_str(s, NFTNL_SET_TABLE, rs->table);
	nftnl_set_set_str(s, NFTNL_SET_NAME, name);
	nftnl_set_set_u32(s, NFTNL_SET_ID, (uint32_t)rs->sets.n + 1);
	nftnl_set_set_u32(s, NFTNL_SET_FLAGS, flags);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_TYPE, type);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_LEN, len);
	vec_push(&rs->sets, s);
	return s;
}

/* Whether v[i] adds nothing. The kernel refuses ranges that overlap, and the table with them. */
static bool is_covered(const struct prefix *v, size_t n, size_t i)
{
	for (size_t k = 0; k < n; k++)
		if (k != i && prefix_covers(&v[k], &v[i]) &&
			(k < i || !prefix_covers(&v[i], &v[k])))
			return true;
	return false;
}

void nft_prefix_set(struct nft_ruleset *rs, const char *name, enum ip_family family,
	const struct prefix *v, size_t n)
{
	uint32_t type = family == IP_V4 ? NFT_TYPE_IPV4_ADDR : NFT_TYPE_IPV6_ADDR;
	uint32_t len = family == IP_V4 ? 4 : 16;
	struct nftnl_set *s = nft_add_set(rs, name, NFT_SET_INTERVAL, type, len);
	struct ip last, end;

	for (size_t i = 0; i < n; i++) {
		if (v[i].addr.family != family || is_covered(v, n, i))
			continue;
		last = prefix_last(&v[i]);
		add_element(s, v[i].addr.b, len, 0);
		if (ip_add(&last, 1, &end)) /* else the range is open */
			add_element(s, end.b, len, NFT_SET_ELEM_INTERVAL_END);
	}
}

struct nftnl_set *nft_key_set(struct nft_ruleset *rs, const char *name, enum nft_key key)
{
	static const struct {
		uint32_t type, len;
	} keys[] = {
		[NFT_KEY_IP4] = {NFT_TYPE_IPV4_ADDR, 4},
		[NFT_KEY_IP4_PAIR] = {NFT_TYPE_IPV4_ADDR << NFT_TYPE_BITS | NFT_TYPE_IPV4_ADDR, 8},
		[NFT_KEY_IP6] = {NFT_TYPE_IPV6_ADDR, 16},
		[NFT_KEY_IP6_PAIR] = {NFT_TYPE_IPV6_ADDR << NFT_TYPE_BITS | NFT_TYPE_IPV6_ADDR, 32},
		[NFT_KEY_PORT] = {NFT_TYPE_INET_SERVICE, 2},
	};

	return nft_add_set(rs, name, 0, keys[key].type, keys[key].len);
}

void nft_key_add(struct nftnl_set *s, const void *bytes)
{
	add_element(s, bytes, nftnl_set_get_u32(s, NFTNL_SET_KEY_LEN), 0);
}

struct nftnl_rule *nft_rule(struct nft_ruleset *rs, const char *chain)
{
	struct nftnl_rule *r = nft_must(nftnl_rule_alloc());

	nftnl_rule_set_u32(r, NFTNL_RULE_FAMILY, rs->family);
	nftnl_rule_set_str(r, NFTNL_RULE_TABLE, rs->table);
	nftnl_rule_set_str(r, NFTNL_RULE_CHAIN, chain);
	vec_push(&rs->rules, r);
	return r;
}

/* ---- expressions ---- */

struct nftnl_expr *nft_expr(struct nftnl_rule *r, const char *name)
{
	struct nftnl_expr *e = nft_must(nftnl_expr_alloc(name));

	nftnl_rule_add_expr(r, e);
	return e;
}

static void compare(struct nftnl_rule *r, uint32_t op, const void *p, uint32_t len)
{
	struct nftnl_expr *e = nft_expr(r, "cmp");

	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, op);
	nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, p, len);
}

static void load_addr(struct nftnl_rule *r, enum ip_family family, bool source, uint32_t reg)
{
	struct nftnl_expr *e = nft_expr(r, "payload");
	uint32_t v4 = source ? 12 : 16, v6 = source ? 8 : 24; /* in the header */

	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, reg);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, family == IP_V4 ? v4 : v6);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, family == IP_V4 ? 4 : 16);
}

static void lookup(struct nftnl_rule *r, const char *set, bool invert)
{
	struct nftnl_expr *e = nft_expr(r, "lookup");

	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
	nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, set);
	/* Said also when 0, as the kernel does. */
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_FLAGS, invert ? NFT_LOOKUP_F_INV : 0);
}

void nft_match_addr(
	struct nftnl_rule *r, enum ip_family family, bool source, const char *set, bool invert)
{
	load_addr(r, family, source, NFT_REG_1);
	lookup(r, set, invert);
}

void nft_match_addr_pair(struct nftnl_rule *r, enum ip_family family, const char *set)
{
	load_addr(r, family, true, NFT_REG_1);
	/* The register that follows 4, or 16 bytes: of the former there are four in each of the latter. */
	load_addr(r, family, false, family == IP_V4 ? NFT_REG32_01 : NFT_REG_2);
	lookup(r, set, false);
}

static void load_original(struct nftnl_rule *r, uint32_t key)
{
	struct nftnl_expr *e = nft_expr(r, "ct");

	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_KEY, key);
	nftnl_expr_set_u8(e, NFTNL_EXPR_CT_DIR, IP_CT_DIR_ORIGINAL);
}

void nft_match_original_daddr(struct nftnl_rule *r, enum ip_family family, const char *set)
{
	load_original(r, family == IP_V4 ? NFT_CT_DST_IP : NFT_CT_DST_IP6);
	lookup(r, set, false);
}

void nft_match_original_dport(struct nftnl_rule *r, const char *set)
{
	load_original(r, NFT_CT_PROTO_DST);
	lookup(r, set, false);
}

void nft_match_protocol(struct nftnl_rule *r, uint8_t protocol, bool invert)
{
	struct nftnl_expr *e = nft_expr(r, "meta");

	nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, NFT_META_L4PROTO);
	compare(r, invert ? NFT_CMP_NEQ : NFT_CMP_EQ, &protocol, sizeof(protocol));
}

void nft_match_oifname(struct nftnl_rule *r, const char *name)
{
	struct nftnl_expr *e = nft_expr(r, "meta");
	char text[16] = "";

	memccpy(text, name, 0, sizeof(text) - 1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, NFT_META_OIFNAME);
	compare(r, NFT_CMP_EQ, text, sizeof(text));
}

void nft_match_saddr_local(struct nftnl_rule *r, bool oif, bool invert)
{
	struct nftnl_expr *e = nft_expr(r, "fib");
	uint32_t local = 2; /* RTN_LOCAL */

	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_FLAGS, NFTA_FIB_F_SADDR | (oif ? NFTA_FIB_F_OIF : 0));
	compare(r, invert ? NFT_CMP_NEQ : NFT_CMP_EQ, &local, sizeof(local));
}

void nft_masquerade(struct nftnl_rule *r)
{
	nft_expr(r, "masq");
}

static void reject(struct nftnl_rule *r, uint32_t type, uint8_t code)
{
	struct nftnl_expr *e = nft_expr(r, "reject");

	nftnl_expr_set_u32(e, NFTNL_EXPR_REJECT_TYPE, type);
	nftnl_expr_set_u8(e, NFTNL_EXPR_REJECT_CODE, code);
}

void nft_reject(struct nftnl_rule *r, enum ip_family family)
{
	reject(r, NFT_REJECT_ICMP_UNREACH,
		family == IP_V4 ? ICMP_PORT_UNREACH : ICMPV6_PORT_UNREACH);
}

void nft_reject_tcp(struct nftnl_rule *r)
{
	reject(r, NFT_REJECT_TCP_RST, 0);
}

/* ---- as text ---- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The elements, in order. */
struct element {
	const void *key;
	uint32_t len, flags;
};

struct elements {
	VEC(struct element) v;
};

static int compare_elements(const void *a, const void *b)
{
	const struct element *x = a, *y = b;
	int r = memcmp(x->key, y->key, x->len < y->len ? x->len : y->len);

	if (r == 0 && x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return r ? r : (int)x->flags - (int)y->flags;
}

static struct elements elements_of(const struct nftnl_set *s)
{
	struct nftnl_set_elems_iter *it = nft_must(nftnl_set_elems_iter_create(s));
	struct elements ret = {0};
	struct nftnl_set_elem *e;

	while ((e = nftnl_set_elems_iter_next(it))) {
		struct element x = {0};

		x.key = nftnl_set_elem_get(e, NFTNL_SET_ELEM_KEY, &x.len);
		if (nftnl_set_elem_is_set(e, NFTNL_SET_ELEM_FLAGS))
			x.flags = nftnl_set_elem_get_u32(e, NFTNL_SET_ELEM_FLAGS);
		vec_push(&ret.v, x);
	}
	nftnl_set_elems_iter_destroy(it);
	if (ret.v.n > 0)
		qsort(ret.v.v, ret.v.n, sizeof(ret.v.v[0]), compare_elements);
	return ret;
}

/* A set whose elements are values, each of which comes and goes by itself. */
static bool is_key_set(const struct nftnl_set *s)
{
	return !(nftnl_set_get_u32(s, NFTNL_SET_FLAGS) & NFT_SET_INTERVAL);
}

/* Where it is, or NULL. */
static struct nftnl_set **find_set(const struct nft_ruleset *rs, const char *name)
{
	for (size_t i = 0; i < rs->sets.n; i++)
		if (strcmp(nftnl_set_get_str(rs->sets.v[i], NFTNL_SET_NAME), name) == 0)
			return &rs->sets.v[i];
	return NULL;
}

bool nft_has_set(const struct nft_ruleset *rs, const char *name)
{
	return find_set(rs, name);
}

static bool is_same_kind(const struct nftnl_set *a, const struct nftnl_set *b)
{
	static const uint16_t attrs[] = {NFTNL_SET_FLAGS, NFTNL_SET_KEY_TYPE, NFTNL_SET_KEY_LEN,
		NFTNL_SET_DATA_TYPE, NFTNL_SET_DESC_SIZE};

	for (size_t i = 0; i < array_size(attrs); i++)
		if (nftnl_set_get_u32(a, attrs[i]) != nftnl_set_get_u32(b, attrs[i]))
			return false;
	return true;
}

bool nft_same_set(const struct nft_ruleset *a, const struct nft_ruleset *b, const char *name)
{
	struct nftnl_set **x = find_set(a, name), **y = find_set(b, name);

	return x && y && is_same_kind(*x, *y);
}

/* Ends before starts, so that ranges which touch stay two. */
static int compare_bounds(const void *a, const void *b)
{
	const struct element *x = a, *y = b;
	int r = memcmp(x->key, y->key, x->len);

	return r ? r : (int)y->flags - (int)x->flags;
}

/* The union of ranges that are given by their bounds. */
static void add_ranges(struct nftnl_set *to, const struct elements *bounds)
{
	size_t depth = 0;

	qsort(bounds->v.v, bounds->v.n, sizeof(bounds->v.v[0]), compare_bounds);
	for (size_t i = 0; i < bounds->v.n; i++) {
		const struct element *x = &bounds->v.v[i];
		bool end = x->flags & NFT_SET_ELEM_INTERVAL_END;

		if (end && depth == 0)
			continue;
		depth = end ? depth - 1 : depth + 1;
		if (depth == !end)
			add_element(to, x->key, x->len, x->flags);
	}
}

/* The union of values. */
static void add_values(struct nftnl_set *to, const struct elements *all)
{
	const struct element *v = all->v.v;

	qsort(all->v.v, all->v.n, sizeof(*v), compare_elements);
	for (size_t i = 0; i < all->v.n; i++)
		if (i == 0 || compare_elements(&v[i - 1], &v[i]) != 0)
			add_element(to, v[i].key, v[i].len, 0);
}

void nft_keep(struct nft_ruleset *rs, const struct nft_ruleset *have, const char *name)
{
	struct nftnl_set **slot = find_set(rs, name), **from = find_set(have, name), *old;
	struct nft_ruleset *tmp;
	struct elements all, more;
	const struct element *x;

	if (!slot || !from || !is_same_kind(*slot, *from))
		return;
	old = *slot;
	all = elements_of(old);
	more = elements_of(*from);
	vec_for_each (&more.v, x)
		vec_push(&all.v, *x);
	tmp = nft_ruleset_new(rs->family, rs->table);
	*slot = nft_add_set(tmp, name, nftnl_set_get_u32(old, NFTNL_SET_FLAGS),
		nftnl_set_get_u32(old, NFTNL_SET_KEY_TYPE),
		nftnl_set_get_u32(old, NFTNL_SET_KEY_LEN));
	nftnl_set_set_u32(*slot, NFTNL_SET_ID, nftnl_set_get_u32(old, NFTNL_SET_ID));
	if (all.v.n > 0 && is_key_set(old))
		add_values(*slot, &all);
	else if (all.v.n > 0)
		add_ranges(*slot, &all);
	tmp->sets.v[0] = old;
	nft_ruleset_free(tmp);
	vec_done(&all.v);
	vec_done(&more.v);
}

static void add_set_text(struct strbuf *sb, const struct nftnl_set *s, bool frame)
{
	struct elements els;
	bool map = nftnl_set_get_u32(s, NFTNL_SET_FLAGS) & NFT_SET_MAP;

	strbuf_addf(sb, "set %s type %u len %u flags %#x", nftnl_set_get_str(s, NFTNL_SET_NAME),
		nftnl_set_get_u32(s, NFTNL_SET_KEY_TYPE), nftnl_set_get_u32(s, NFTNL_SET_KEY_LEN),
		nftnl_set_get_u32(s, NFTNL_SET_FLAGS));
	if (map)
		strbuf_addf(sb, " data %u size %u", nftnl_set_get_u32(s, NFTNL_SET_DATA_TYPE),
			nftnl_set_get_u32(s, NFTNL_SET_DESC_SIZE));
	strbuf_addc(sb, '\n');
	if (frame && is_key_set(s))
		return;
	els = elements_of(s);
	for (size_t i = 0; i < els.v.n; i++) {
		const struct element *x = &els.v.v[i];

		strbuf_add(sb, "  ");
		for (uint32_t k = 0; k < x->len; k++)
			strbuf_addf(sb, "%02x", ((const uint8_t *)x->key)[k]);
		strbuf_addf(sb, " %#x\n", x->flags);
	}
	vec_done(&els.v);
}

static int add_expr_text(struct nftnl_expr *e, void *arg)
{
	struct strbuf *sb = arg;
	char buf[512];

	nftnl_expr_snprintf(buf, sizeof(buf), e, NFTNL_OUTPUT_DEFAULT, 0);
	strbuf_addf(sb, " [%s %s]", nftnl_expr_get_str(e, NFTNL_EXPR_NAME), buf);
	return 0;
}

static void add_rule_text(struct strbuf *sb, struct nftnl_rule *r)
{
	strbuf_addf(sb, "rule %s", nftnl_rule_get_str(r, NFTNL_RULE_CHAIN));
	nftnl_expr_foreach(r, add_expr_text, sb);
	strbuf_addc(sb, '\n');
}

static void add_chain_text(struct strbuf *sb, const struct nftnl_chain *c)
{
	const char *type = nftnl_chain_get_str(c, NFTNL_CHAIN_TYPE);

	strbuf_addf(sb, "chain %s type %s hook %u priority %d policy %u\n",
		nftnl_chain_get_str(c, NFTNL_CHAIN_NAME), type ? type : "-",
		nftnl_chain_get_u32(c, NFTNL_CHAIN_HOOKNUM),
		nftnl_chain_get_s32(c, NFTNL_CHAIN_PRIO),
		nftnl_chain_get_u32(c, NFTNL_CHAIN_POLICY));
}

/* Sets and chains in any order, rules in theirs. frame: without key sets' elements. */
static char *text_of(const struct nft_ruleset *rs, bool frame)
{
	VEC(char *) parts = {0};
	struct strbuf sb = STRBUF_INIT;

	for (size_t i = 0; i < rs->sets.n; i++) {
		add_set_text(&sb, rs->sets.v[i], frame);
		vec_push(&parts, strbuf_take(&sb));
	}
	for (size_t i = 0; i < rs->chains.n; i++) {
		add_chain_text(&sb, rs->chains.v[i]);
		vec_push(&parts, strbuf_take(&sb));
	}
	if (parts.n > 0)
		qsort(parts.v, parts.n, sizeof(parts.v[0]), by_text);
	for (size_t i = 0; i < parts.n; i++) {
		strbuf_add(&sb, parts.v[i]);
		free(parts.v[i]);
	}
	vec_done(&parts);
	strbuf_addf(&sb, "table flags %#x\n", rs->flags);
	for (size_t i = 0; i < rs->rules.n; i++)
		add_rule_text(&sb, rs->rules.v[i]);
	return strbuf_take(&sb);
}

static bool same(const struct nft_ruleset *a, const struct nft_ruleset *b, bool frame)
{
	auto_free char *x = text_of(a, frame);
	auto_free char *y = text_of(b, frame);

	return strcmp(x, y) == 0;
}

bool nft_equal(const struct nft_ruleset *a, const struct nft_ruleset *b)
{
	return same(a, b, false);
}

/* ---- reading ---- */

struct nlmsghdr *nft_ask(struct nft *n, uint16_t type, uint16_t family)
{
	struct nlmsghdr *nlh = nl_msg(n->nl, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), 0);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));

	nfg->nfgen_family = (uint8_t)family;
	nfg->version = NFNETLINK_V0;
	return nlh;
}

static int take_table(void *arg, const struct nlmsghdr *nlh, struct err *err)
{
	struct nft_ruleset *rs = arg;
	struct nftnl_table *t = nft_must(nftnl_table_alloc());

	(void)err;
	if (nftnl_table_nlmsg_parse(nlh, t) == 0 &&
		strcmp(nftnl_table_get_str(t, NFTNL_TABLE_NAME), rs->table) == 0)
		rs->flags = nftnl_table_get_u32(t, NFTNL_TABLE_FLAGS);
	nftnl_table_free(t);
	return 0;
}

static int take_chain(void *arg, const struct nlmsghdr *nlh, struct err *err)
{
	struct nft_ruleset *rs = arg;
	struct nftnl_chain *c = nft_must(nftnl_chain_alloc());

	(void)err;
	if (nftnl_chain_nlmsg_parse(nlh, c) == 0 &&
		strcmp(nftnl_chain_get_str(c, NFTNL_CHAIN_TABLE), rs->table) == 0)
		vec_push(&rs->chains, c);
	else
		nftnl_chain_free(c);
	return 0;
}

static int take_rule(void *arg, const struct nlmsghdr *nlh, struct err *err)
{
	struct nft_ruleset *rs = arg;
	struct nftnl_rule *r = nft_must(nftnl_rule_alloc());

	(void)err;
	if (nftnl_rule_nlmsg_parse(nlh, r) == 0 &&
		strcmp(nftnl_rule_get_str(r, NFTNL_RULE_TABLE), rs->table) == 0)
		vec_push(&rs->rules, r);
	else
		nftnl_rule_free(r);
	return 0;
}

static int take_set(void *arg, const struct nlmsghdr *nlh, struct err *err)
{
	struct nft_ruleset *rs = arg;
	struct nftnl_set *s = nft_must(nftnl_set_alloc());

	(void)err;
	if (nftnl_set_nlmsg_parse(nlh, s) == 0 &&
		strcmp(nftnl_set_get_str(s, NFTNL_SET_TABLE), rs->table) == 0)
		vec_push(&rs->sets, s);
	else
		nftnl_set_free(s);
	return 0;
}

static int take_elements(void *arg, const struct nlmsghdr *nlh, struct err *err)
{
	if (nftnl_set_elems_nlmsg_parse(nlh, arg) < 0)
		return err_set(err, -EBADMSG, "the kernel's answer does not add up");
	return 0;
}

static int read_all(struct nft *n, struct nft_ruleset *rs, bool maps, struct err *err)
{
	struct nlmsghdr *nlh;
	int r;

	nft_ask(n, NFT_MSG_GETTABLE, rs->family);
	r = nl_dump(n->nl, take_table, NULL, rs, err);
	if (r < 0)
		return r;
	nft_ask(n, NFT_MSG_GETCHAIN, rs->family);
	r = nl_dump(n->nl, take_chain, NULL, rs, err);
	if (r < 0)
		return r;
	nlh = nft_ask(n, NFT_MSG_GETSET, rs->family);
	mnl_attr_put_strz(nlh, NFTA_SET_TABLE, rs->table);
	r = nl_dump(n->nl, take_set, NULL, rs, err);
	for (size_t i = 0; r == 0 && i < rs->sets.n; i++) {
		if (!maps && nftnl_set_get_u32(rs->sets.v[i], NFTNL_SET_FLAGS) & NFT_SET_MAP)
			continue;
		nlh = nft_ask(n, NFT_MSG_GETSETELEM, rs->family);
		mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, rs->table);
		mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET,
			nftnl_set_get_str(rs->sets.v[i], NFTNL_SET_NAME));
		r = nl_dump(n->nl, take_elements, NULL, rs->sets.v[i], err);
	}
	if (r < 0)
		return r;
	nlh = nft_ask(n, NFT_MSG_GETRULE, rs->family);
	mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, rs->table);
	return nl_dump(n->nl, take_rule, NULL, rs, err);
}

static int read_table(struct nft *n, uint16_t family, const char *table, bool maps,
	struct nft_ruleset **ret, struct err *err)
{
	auto_(nft_ruleset) struct nft_ruleset *rs = nft_ruleset_new(family, table);
	int r = 0;

	for (int i = 0; i < NL_DUMP_TRIES; i++) {
		ruleset_clear(rs);
		r = read_all(n, rs, maps, err);
		if (r != -EBUSY)
			break;
	}
	if (r == -ENOENT) { /* the table is not there, or went meanwhile */
		ruleset_clear(rs);
		r = 0;
	}
	if (r < 0)
		return err_wrap(err, r, "read the nftables table %s", table);
	*ret = take_ptr(rs);
	return 0;
}

int nft_read(struct nft *n, uint16_t family, const char *table, struct nft_ruleset **ret,
	struct err *err)
{
	return read_table(n, family, table, true, ret, err);
}

int nft_read_frame(struct nft *n, uint16_t family, const char *table, struct nft_ruleset **ret,
	struct err *err)
{
	return read_table(n, family, table, false, ret, err);
}

/* ---- writing ---- */

struct nlmsghdr *nft_add(
	struct nft *n, uint16_t type, uint16_t family, uint16_t flags, uintptr_t cookie)
{
	struct nlmsghdr *nlh =
		nl_batch_add(n->nl, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, cookie);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));

	nfg->nfgen_family = (uint8_t)family;
	nfg->version = NFNETLINK_V0;
	return nlh;
}

static void add_batch(struct nft *n, uint16_t type)
{
	struct nfgenmsg *nfg =
		mnl_nlmsg_put_extra_header(nl_batch_add(n->nl, type, 0, 0), sizeof(*nfg));

	nfg->version = NFNETLINK_V0;
	nfg->res_id = __builtin_bswap16(NFNL_SUBSYS_NFTABLES);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	nfg->res_id = NFNL_SUBSYS_NFTABLES;
#endif
}

static void add_table(
	struct nft *n, uint16_t type, uint16_t family, const char *table, uintptr_t cookie)
{
	struct nlmsghdr *nlh =
		nft_add(n, type, family, type == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0, cookie);

	mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, table);
}

void nft_begin(struct nft *n, nft_done_fn *done, void *arg)
{
	nl_batch_begin(n->nl, NL_ATOMIC, done, arg);
	add_batch(n, NFNL_MSG_BATCH_BEGIN);
}

int nft_commit(struct nft *n, struct err *err)
{
	add_batch(n, NFNL_MSG_BATCH_END);
	return nl_batch_end(n->nl, err);
}

void nft_put_no_table(struct nft *n, uint16_t family, const char *table, uintptr_t cookie)
{
	/* A deletion needs the table to be there. */
	add_table(n, NFT_MSG_NEWTABLE, family, table, cookie);
	add_table(n, NFT_MSG_DELTABLE, family, table, cookie);
}

int nft_delete_table(struct nft *n, uint16_t family, const char *table, struct err *err)
{
	int r;

	nft_begin(n, NULL, NULL);
	nft_put_no_table(n, family, table, 0);
	r = nft_commit(n, err);
	return r < 0 ? err_wrap(err, r, "delete the nftables table %s", table) : 0;
}

/* All elements, in as many messages as they need. */
static void add_elements(
	struct nft *n, uint16_t type, uint16_t family, const struct nftnl_set *s, uintptr_t cookie)
{
	struct nftnl_set_elems_iter *it = nft_must(nftnl_set_elems_iter_create(s));
	uint16_t flags = type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0;
	int more;

	if (nftnl_set_elems_iter_cur(it))
		do
			more = nftnl_set_elems_nlmsg_build_payload_iter(
				nft_add(n, type, family, flags, cookie), it);
		while (more > 0);
	nftnl_set_elems_iter_destroy(it);
}

void nft_put_ruleset(struct nft *n, const struct nft_ruleset *rs, uintptr_t cookie)
{
	uint16_t family = rs->family;

	add_table(n, NFT_MSG_NEWTABLE, family, rs->table, cookie);
	for (size_t i = 0; i < rs->sets.n; i++) {
		nftnl_set_nlmsg_build_payload(
			nft_add(n, NFT_MSG_NEWSET, family, NLM_F_CREATE, cookie), rs->sets.v[i]);
		add_elements(n, NFT_MSG_NEWSETELEM, family, rs->sets.v[i], cookie);
	}
	for (size_t i = 0; i < rs->chains.n; i++)
		nftnl_chain_nlmsg_build_payload(
			nft_add(n, NFT_MSG_NEWCHAIN, family, NLM_F_CREATE, cookie),
			rs->chains.v[i]);
	for (size_t i = 0; i < rs->rules.n; i++)
		nftnl_rule_nlmsg_build_payload(
			nft_add(n, NFT_MSG_NEWRULE, family, NLM_F_CREATE | NLM_F_APPEND, cookie),
			rs->rules.v[i]);
}

void nft_put_no_chain(
	struct nft *n, uint16_t family, const char *table, const char *chain, uintptr_t cookie)
{
	struct nlmsghdr *nlh = nft_add(n, NFT_MSG_DELRULE, family, 0, cookie);

	mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, table);
	mnl_attr_put_strz(nlh, NFTA_RULE_CHAIN, chain);
	nlh = nft_add(n, NFT_MSG_DELCHAIN, family, 0, cookie);
	mnl_attr_put_strz(nlh, NFTA_CHAIN_TABLE, table);
	mnl_attr_put_strz(nlh, NFTA_CHAIN_NAME, chain);
}

int nft_write(struct nft *n, const struct nft_ruleset *rs, struct err *err)
{
	int r;

	nft_begin(n, NULL, NULL);
	nft_put_no_table(n, rs->family, rs->table, 0);
	nft_put_ruleset(n, rs, 0);
	r = nft_commit(n, err);
	return r < 0 ? err_wrap(err, r, "write the nftables table %s", rs->table) : 0;
}

/* The elements of a that b has not. */
static void add_difference(struct nft *n, uint16_t type, const struct nft_ruleset *rs,
	const struct nftnl_set *a, const struct nftnl_set *b)
{
	struct nft_ruleset *tmp = nft_ruleset_new(rs->family, rs->table);
	struct nftnl_set *s = nft_add_set(tmp, nftnl_set_get_str(a, NFTNL_SET_NAME), 0, 0, 0);
	struct elements x = elements_of(a), y = elements_of(b);

	for (size_t i = 0, k = 0; i < x.v.n; i++) {
		while (k < y.v.n && compare_elements(&y.v.v[k], &x.v.v[i]) < 0)
			k++;
		if (k == y.v.n || compare_elements(&y.v.v[k], &x.v.v[i]) != 0)
			add_element(s, x.v.v[i].key, x.v.v[i].len, 0);
	}
	nftnl_set_unset(s, NFTNL_SET_ID);
	add_elements(n, type, rs->family, s, 0);
	nft_ruleset_free(tmp);
	vec_done(&x.v);
	vec_done(&y.v);
}

int nft_change(struct nft *n, const struct nft_ruleset *have, const struct nft_ruleset *rs,
	struct err *err)
{
	int r;

	if (!same(have, rs, true))
		return nft_write(n, rs, err);
	nft_begin(n, NULL, NULL);
	for (size_t i = 0; i < rs->sets.n; i++) {
		const struct nftnl_set *s = rs->sets.v[i];
		const struct nftnl_set *old;

		if (!is_key_set(s))
			continue;
		old = *find_set(have, nftnl_set_get_str(s, NFTNL_SET_NAME));
		add_difference(n, NFT_MSG_DELSETELEM, rs, old, s);
		add_difference(n, NFT_MSG_NEWSETELEM, rs, s, old);
	}
	r = nft_commit(n, err);
	return r < 0 ? err_wrap(err, r, "change the nftables table %s", rs->table) : 0;
}

/* ---- watching ---- */

int nft_monitor_open(const struct nft *except, struct nft_monitor **ret, struct err *err)
{
	auto_(nl) struct nl *nl = NULL;
	int r = nl_open(NETLINK_NETFILTER, &nl, err);

	if (r == 0 && except)
		r = nl_ignore_port(nl, nl_port(except->nl), err);
	if (r == 0)
		r = nl_join(nl, NFNLGRP_NFTABLES, err);
	if (r < 0)
		return err_wrap(err, r, "watch nftables");
	nl_set_rcvbuf(nl, MONITOR_RCVBUF);
	*ret = mem_new(struct nft_monitor);
	(*ret)->nl = take_ptr(nl);
	return 0;
}

void nft_monitor_close(struct nft_monitor *m)
{
	if (!m)
		return;
	nl_close(m->nl);
	free(m);
}

int nft_monitor_fd(const struct nft_monitor *m)
{
	return nl_fd(m->nl);
}

struct listener {
	nft_event_fn *fn;
	void *arg;
};

static int take_event(void *arg, const struct nlmsghdr *nlh, struct err *err)
{
	const struct listener *l = arg;
	const struct nlattr *tb[2];
	char table[256];

	(void)err;
	if (!nlh) {
		l->fn(l->arg, NULL);
		return 0;
	}
	if (nlh->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES ||
		(nlh->nlmsg_type & 0xff) == NFT_MSG_NEWGEN)
		return 0;
	/* The table's name is attribute 1 of every object. */
	if (nl_parse(nlh, sizeof(struct nfgenmsg), tb, NFTA_TABLE_NAME) == 0 &&
		nl_str(tb[NFTA_TABLE_NAME], table, sizeof(table)))
		l->fn(l->arg, table);
	return 0;
}

int nft_monitor_read(struct nft_monitor *m, nft_event_fn *fn, void *arg, struct err *err)
{
	struct listener l = {.fn = fn, .arg = arg};

	return nl_receive(m->nl, take_event, &l, err);
}
