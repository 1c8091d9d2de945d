/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A key is loaded into registers in a row, from the first: what the kernel counts as 4 bytes each.
 * Registers are named as the kernel names them in its answers, else what is written and what is read
 * would differ.
 */
#include "kern/nft_map.h"

#include <endian.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

#include "base/err.h"
#include "kern/nft_priv.h"
#include "kern/nl.h"

#define MESSAGE_BYTES 60000 /* an attribute has at most 65535 */
/* Where the next 16 bytes begin behind a key of two addresses, a protocol and a port. */
#define DATA_V6 12
#define DATA_V4 4

static uint32_t field_bytes(enum ip_family family, enum nft_field f)
{
	return (f == NFT_FIELD_SADDR || f == NFT_FIELD_DADDR) && family == IP_V6 ? 16 : 4;
}

static uint32_t field_type(enum ip_family family, enum nft_field f)
{
	switch (f) {
	case NFT_FIELD_SADDR:
	case NFT_FIELD_DADDR:
		return family == IP_V4 ? NFT_TYPE_IPV4_ADDR : NFT_TYPE_IPV6_ADDR;
	case NFT_FIELD_PROTOCOL:
		return NFT_TYPE_INET_PROTO;
	case NFT_FIELD_DPORT:
		return NFT_TYPE_INET_SERVICE;
	case NFT_FIELD_RANDOM:
		return NFT_TYPE_INTEGER;
	case NFT_FIELD_PRIORITY:
		return NFT_TYPE_CLASSID;
	case NFT_FIELD_END:
		break;
	}
	return 0;
}

static size_t n_fields(const nft_fields fields)
{
	size_t n = 0;

	while (n < NFT_FIELDS_MAX && fields[n] != NFT_FIELD_END)
		n++;
	return n;
}

static void measure(
	enum ip_family family, const nft_fields fields, uint32_t *ret_type, uint32_t *ret_bytes)
{
	*ret_type = *ret_bytes = 0;
	for (size_t i = 0; i < n_fields(fields); i++) {
		*ret_type = *ret_type << NFT_TYPE_BITS | field_type(family, fields[i]);
		*ret_bytes += field_bytes(family, fields[i]);
	}
}

/* ---- what nft(8) wants to know of a map whose key has a number that no type describes ---- */

/* nft(8)'s numbers of expressions, protocols and fields, include/{expression,proto}.h */
enum { UD_PAYLOAD = 7, UD_META = 9, UD_CONCAT = 13, UD_NUMGEN = 23 };
enum { UD_IP = 12, UD_IP6 = 13, UD_TH = 11 };
enum { UD_IP_DADDR = 12, UD_IP6_DADDR = 9, UD_TH_DPORT = 2 };

static void describe(struct nftnl_udata_buf *b, uint32_t expr, const uint32_t *v, uint8_t n)
{
	struct nftnl_udata *nest;

	nftnl_udata_put_u32(b, NFTNL_UDATA_SET_TYPEOF_EXPR, expr);
	nest = nftnl_udata_nest_start(b, NFTNL_UDATA_SET_TYPEOF_DATA);
	for (uint8_t i = 0; i < n; i++)
		nftnl_udata_put_u32(b, i, v[i]);
	nftnl_udata_nest_end(b, nest);
}

static void describe_field(struct nftnl_udata_buf *b, enum ip_family family, enum nft_field f)
{
	const uint32_t addr[2] = {
		family == IP_V4 ? UD_IP : UD_IP6, family == IP_V4 ? UD_IP_DADDR : UD_IP6_DADDR};
	const uint32_t port[2] = {UD_TH, UD_TH_DPORT}, random[3] = {NFT_NG_RANDOM, 2, 0};
	const uint32_t protocol = NFT_META_L4PROTO, priority = NFT_META_PRIORITY;

	if (f == NFT_FIELD_DADDR)
		describe(b, UD_PAYLOAD, addr, 2);
	else if (f == NFT_FIELD_DPORT)
		describe(b, UD_PAYLOAD, port, 2);
	else if (f == NFT_FIELD_PROTOCOL)
		describe(b, UD_META, &protocol, 1);
	else if (f == NFT_FIELD_PRIORITY)
		describe(b, UD_META, &priority, 1);
	else
		describe(b, UD_NUMGEN, random, 3);
}

static void describe_fields(
	struct nftnl_udata_buf *b, uint8_t type, enum ip_family family, const nft_fields fields)
{
	struct nftnl_udata *outer = nftnl_udata_nest_start(b, type), *inner, *one;
	size_t n = n_fields(fields);

	if (n == 1) {
		describe_field(b, family, fields[0]);
	} else {
		nftnl_udata_put_u32(b, NFTNL_UDATA_SET_TYPEOF_EXPR, UD_CONCAT);
		inner = nftnl_udata_nest_start(b, NFTNL_UDATA_SET_TYPEOF_DATA);
		for (size_t i = 0; i < n; i++) {
			one = nftnl_udata_nest_start(b, (uint8_t)i);
			describe_field(b, family, fields[i]);
			nftnl_udata_nest_end(b, one);
		}
		nftnl_udata_nest_end(b, inner);
	}
	nftnl_udata_nest_end(b, outer);
}

static void describe_map(struct nftnl_set *s, enum ip_family family, const struct nft_map *m)
{
	struct nftnl_udata_buf *b = nft_must(nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN));

	describe_fields(b, NFTNL_UDATA_SET_KEY_TYPEOF, family, m->key);
	describe_fields(b, NFTNL_UDATA_SET_DATA_TYPEOF, family, m->data);
	nftnl_set_set_data(s, NFTNL_SET_USERDATA, nftnl_udata_buf_data(b), nftnl_udata_buf_len(b));
	nftnl_udata_buf_free(b);
}

/* ---- a ruleset's parts ---- */

void nft_map(struct nft_ruleset *rs, enum ip_family family, const struct nft_map *m)
{
	uint32_t flags = NFT_SET_MAP | (m->dynamic ? NFT_SET_EVAL | NFT_SET_TIMEOUT : 0);
	uint32_t type, bytes;
	struct nftnl_set *s;

	measure(family, m->key, &type, &bytes);
	s = nft_add_set(rs, m->name, flags, type, bytes);
	measure(family, m->data, &type, &bytes);
	nftnl_set_set_u32(s, NFTNL_SET_DATA_TYPE, bytes > 0 ? type : NFT_DATA_VERDICT);
	if (bytes > 0)
		nftnl_set_set_u32(s, NFTNL_SET_DATA_LEN, bytes);
	if (m->size > 0)
		nftnl_set_set_u32(s, NFTNL_SET_DESC_SIZE, m->size);
	for (size_t i = 0; i < n_fields(m->key); i++)
		if (m->key[i] == NFT_FIELD_RANDOM)
			describe_map(s, family, m);
}

void nft_chain(struct nft_ruleset *rs, const char *name)
{
	struct nftnl_chain *c = nft_must(nftnl_chain_alloc());

	nftnl_chain_set_u32(c, NFTNL_CHAIN_FAMILY, rs->family);
	nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, rs->table);
	nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, name);
	vec_push(&rs->chains, c);
}

const char *nft_chain_name(const struct nft_ruleset *rs, size_t i)
{
	return nftnl_chain_get_str(rs->chains.v[i], NFTNL_CHAIN_NAME);
}

/* ---- expressions ---- */

/* The register that begins with the n-th 4 bytes. */
static uint32_t reg(uint32_t n)
{
	return n % 4 == 0 ? NFT_REG_1 + n / 4 : NFT_REG32_00 + n;
}

static void load_payload(
	struct nftnl_rule *r, uint32_t base, uint32_t offset, uint32_t len, uint32_t dreg)
{
	struct nftnl_expr *e = nft_expr(r, "payload");

	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, dreg);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, len);
}

static void load_meta(struct nftnl_rule *r, uint32_t key, uint32_t dreg)
{
	struct nftnl_expr *e = nft_expr(r, "meta");

	nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, dreg);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
}

static void load_random(struct nftnl_rule *r, uint32_t modulus, uint32_t dreg)
{
	struct nftnl_expr *e = nft_expr(r, "numgen");

	nftnl_expr_set_u32(e, NFTNL_EXPR_NG_DREG, dreg);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NG_MODULUS, modulus);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NG_TYPE, NFT_NG_RANDOM);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NG_OFFSET, 0);
}

static void load_field(struct nftnl_rule *r, enum ip_family family, enum nft_field f,
	uint32_t modulus, uint32_t dreg)
{
	uint32_t len = field_bytes(family, f);

	switch (f) {
	case NFT_FIELD_SADDR:
		load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, family == IP_V4 ? 12 : 8, len, dreg);
		break;
	case NFT_FIELD_DADDR:
		load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, family == IP_V4 ? 16 : 24, len, dreg);
		break;
	case NFT_FIELD_PROTOCOL:
		load_meta(r, NFT_META_L4PROTO, dreg);
		break;
	case NFT_FIELD_DPORT:
		load_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, dreg);
		break;
	case NFT_FIELD_RANDOM:
		load_random(r, modulus, dreg);
		break;
	case NFT_FIELD_PRIORITY:
		load_meta(r, NFT_META_PRIORITY, dreg);
		break;
	case NFT_FIELD_END:
		break;
	}
}

static void load_key(
	struct nftnl_rule *r, enum ip_family family, const nft_fields fields, uint32_t modulus)
{
	uint32_t at = 0;

	for (size_t i = 0; i < n_fields(fields); i++) {
		load_field(r, family, fields[i], modulus, reg(at));
		at += field_bytes(family, fields[i]) / 4;
	}
}

static void look_up(struct nftnl_rule *r, enum ip_family family, const struct nft_map *m,
	uint32_t modulus, uint32_t dreg)
{
	struct nftnl_expr *e;

	load_key(r, family, m->key, modulus);
	e = nft_expr(r, "lookup");
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_DREG, dreg);
	nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, m->name);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_FLAGS, 0);
}

void nft_goto_by_map(struct nftnl_rule *r, enum ip_family family, const struct nft_map *m)
{
	look_up(r, family, m, 0, NFT_REG_VERDICT);
}

void nft_dnat_by_map(
	struct nftnl_rule *r, enum ip_family family, const struct nft_map *m, uint32_t modulus)
{
	uint32_t port = reg(field_bytes(family, NFT_FIELD_DADDR) / 4);
	struct nftnl_expr *e;

	look_up(r, family, m, modulus, NFT_REG_1);
	e = nft_expr(r, "nat");
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_FAMILY, family == IP_V4 ? NFPROTO_IPV4 : NFPROTO_IPV6);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_ADDR_MIN, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_ADDR_MAX, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_PROTO_MIN, port);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_PROTO_MAX, port);
	nftnl_expr_set_u32(
		e, NFTNL_EXPR_NAT_FLAGS, NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED);
}

void nft_set_priority_by_map(
	struct nftnl_rule *r, enum ip_family family, const struct nft_map *m, uint32_t modulus)
{
	struct nftnl_expr *e;

	look_up(r, family, m, modulus, NFT_REG_1);
	e = nft_expr(r, "meta");
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, NFT_META_PRIORITY);
}

void nft_update_map(struct nftnl_rule *r, enum ip_family family, enum nft_update what,
	const struct nft_map *m, uint64_t timeout_ms)
{
	static const uint32_t ops[] = {[NFT_UPDATE_ADD] = NFT_DYNSET_OP_ADD,
		[NFT_UPDATE_RENEW] = NFT_DYNSET_OP_UPDATE,
		[NFT_UPDATE_DELETE] = NFT_DYNSET_OP_DELETE};
	uint32_t data = reg(family == IP_V4 ? DATA_V4 : DATA_V6);
	struct nftnl_expr *e;

	load_key(r, family, m->key, 0);
	load_meta(r, NFT_META_PRIORITY, data);
	e = nft_expr(r, "dynset");
	nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_SREG_KEY, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_SREG_DATA, data);
	nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_OP, ops[what]);
	nftnl_expr_set_u64(e, NFTNL_EXPR_DYNSET_TIMEOUT, timeout_ms);
	nftnl_expr_set_str(e, NFTNL_EXPR_DYNSET_SET_NAME, m->name);
}

/* ---- reading ---- */

struct search {
	const char *table;
	bool found;
};

static int take_table(void *arg, const struct nlmsghdr *nlh, struct err *err)
{
	const struct nlattr *tb[NFTA_TABLE_NAME + 1];
	struct search *s = arg;
	char name[NFT_NAME_MAXLEN];

	(void)err;
	if (nl_parse(nlh, sizeof(struct nfgenmsg), tb, NFTA_TABLE_NAME) == 0 &&
		nl_str(tb[NFTA_TABLE_NAME], name, sizeof(name)))
		s->found |= strcmp(name, s->table) == 0;
	return 0;
}

static void forget_table(void *arg)
{
	((struct search *)arg)->found = false;
}

int nft_has_table(struct nft *n, uint16_t family, const char *table, bool *ret, struct err *err)
{
	struct search s = {.table = table};
	int r;

	nft_ask(n, NFT_MSG_GETTABLE, family);
	r = nl_dump(n->nl, take_table, forget_table, &s, err);
	if (r < 0)
		return err_wrap(err, r, "look for the nftables table %s", table);
	*ret = s.found;
	return 0;
}

struct listener {
	nft_element_fn *fn;
	void (*restart)(void *arg);
	void *arg;
};

/* The bytes of a NFTA_DATA_VALUE; 0: it is none. */
static size_t get_value(const struct nlattr *nest, uint8_t buf[static NFT_FIELDS_BYTES])
{
	const struct nlattr *tb[NFTA_DATA_MAX + 1];
	size_t len;

	if (!nest || nl_parse_nested(nest, tb, NFTA_DATA_MAX) < 0 || !tb[NFTA_DATA_VALUE])
		return 0;
	len = mnl_attr_get_payload_len(tb[NFTA_DATA_VALUE]);
	return len <= NFT_FIELDS_BYTES && nl_bytes(tb[NFTA_DATA_VALUE], buf, len) ? len : 0;
}

/* "" where it leads to none. */
static bool get_chain(const struct nlattr *nest, char buf[static NFT_NAME_MAXLEN])
{
	const struct nlattr *tb[NFTA_DATA_MAX + 1], *v[NFTA_VERDICT_MAX + 1];

	buf[0] = '\0';
	if (!nest || nl_parse_nested(nest, tb, NFTA_DATA_MAX) < 0 || !tb[NFTA_DATA_VERDICT])
		return false;
	if (nl_parse_nested(tb[NFTA_DATA_VERDICT], v, NFTA_VERDICT_MAX) == 0 &&
		nl_u32(v[NFTA_VERDICT_CODE]) == htobe32((uint32_t)NFT_GOTO))
		(void)nl_str(v[NFTA_VERDICT_CHAIN], buf, NFT_NAME_MAXLEN);
	return true;
}

static int tell_element(const struct nlattr *elem, void *arg)
{
	const struct listener *l = arg;
	const struct nlattr *tb[NFTA_SET_ELEM_MAX + 1];
	uint8_t key[NFT_FIELDS_BYTES], data[NFT_FIELDS_BYTES];
	char chain[NFT_NAME_MAXLEN];
	size_t key_len, data_len;
	bool verdict;

	if (nl_parse_nested(elem, tb, NFTA_SET_ELEM_MAX) < 0)
		return MNL_CB_OK;
	key_len = get_value(tb[NFTA_SET_ELEM_KEY], key);
	data_len = get_value(tb[NFTA_SET_ELEM_DATA], data);
	verdict = get_chain(tb[NFTA_SET_ELEM_DATA], chain);
	if (key_len > 0)
		l->fn(l->arg, key, key_len, data, data_len, verdict ? chain : NULL);
	return MNL_CB_OK;
}

static int take_elements(void *arg, const struct nlmsghdr *nlh, struct err *err)
{
	const struct nlattr *tb[NFTA_SET_ELEM_LIST_MAX + 1];

	if (nl_parse(nlh, sizeof(struct nfgenmsg), tb, NFTA_SET_ELEM_LIST_MAX) < 0)
		return err_set(err, -EBADMSG, "the kernel's answer does not add up");
	if (tb[NFTA_SET_ELEM_LIST_ELEMENTS])
		mnl_attr_parse_nested(tb[NFTA_SET_ELEM_LIST_ELEMENTS], tell_element, arg);
	return 0;
}

static void on_restart(void *arg)
{
	const struct listener *l = arg;

	l->restart(l->arg);
}

int nft_map_read(struct nft *n, uint16_t family, const char *table, const char *map,
	nft_element_fn *fn, void (*restart)(void *arg), void *arg, struct err *err)
{
	struct listener l = {.fn = fn, .restart = restart, .arg = arg};
	struct nlmsghdr *nlh = nft_ask(n, NFT_MSG_GETSETELEM, family);
	int r;

	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, table);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, map);
	r = nl_dump(n->nl, take_elements, on_restart, &l, err);
	return r < 0 ? err_wrap(err, r, "read the nftables map %s", map) : 0;
}

/* ---- elements ---- */

static void close_message(struct nft *n)
{
	if (n->elements.nest)
		mnl_attr_nest_end(n->elements.nlh, n->elements.nest);
	n->elements.nest = NULL;
}

static void open_message(struct nft *n)
{
	bool adds = n->elements.type == NFT_MSG_NEWSETELEM;

	n->elements.nlh = nft_add(n, n->elements.type, n->elements.family, adds ? NLM_F_CREATE : 0,
		n->elements.cookie);
	mnl_attr_put_strz(n->elements.nlh, NFTA_SET_ELEM_LIST_TABLE, n->elements.table);
	mnl_attr_put_strz(n->elements.nlh, NFTA_SET_ELEM_LIST_SET, n->elements.map);
	n->elements.nest = mnl_attr_nest_start(n->elements.nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
}

void nft_elements_begin(struct nft *n, bool add, uint16_t family, const char *table,
	const char *map, uintptr_t cookie)
{
	n->elements.nest = NULL;
	n->elements.type = add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM;
	n->elements.family = family;
	n->elements.table = table;
	n->elements.map = map;
	n->elements.cookie = cookie;
}

static struct nlattr *start_element(struct nft *n, const void *key, size_t key_len)
{
	struct nlattr *elem, *nest;

	if (n->elements.nest && n->elements.nlh->nlmsg_len > MESSAGE_BYTES)
		close_message(n);
	if (!n->elements.nest)
		open_message(n);
	elem = mnl_attr_nest_start(n->elements.nlh, NFTA_LIST_ELEM);
	nest = mnl_attr_nest_start(n->elements.nlh, NFTA_SET_ELEM_KEY);
	mnl_attr_put(n->elements.nlh, NFTA_DATA_VALUE, key_len, key);
	mnl_attr_nest_end(n->elements.nlh, nest);
	return elem;
}

void nft_element(struct nft *n, const void *key, size_t key_len, const void *data, size_t data_len)
{
	struct nlattr *elem = start_element(n, key, key_len), *nest;

	if (data_len > 0) {
		nest = mnl_attr_nest_start(n->elements.nlh, NFTA_SET_ELEM_DATA);
		mnl_attr_put(n->elements.nlh, NFTA_DATA_VALUE, data_len, data);
		mnl_attr_nest_end(n->elements.nlh, nest);
	}
	mnl_attr_nest_end(n->elements.nlh, elem);
}

void nft_element_goto(struct nft *n, const void *key, size_t key_len, const char *chain)
{
	struct nlattr *elem = start_element(n, key, key_len), *nest, *verdict;

	nest = mnl_attr_nest_start(n->elements.nlh, NFTA_SET_ELEM_DATA);
	verdict = mnl_attr_nest_start(n->elements.nlh, NFTA_DATA_VERDICT);
	mnl_attr_put_u32(n->elements.nlh, NFTA_VERDICT_CODE, htobe32((uint32_t)NFT_GOTO));
	mnl_attr_put_strz(n->elements.nlh, NFTA_VERDICT_CHAIN, chain);
	mnl_attr_nest_end(n->elements.nlh, verdict);
	mnl_attr_nest_end(n->elements.nlh, nest);
	mnl_attr_nest_end(n->elements.nlh, elem);
}

void nft_elements_end(struct nft *n)
{
	close_message(n);
}
