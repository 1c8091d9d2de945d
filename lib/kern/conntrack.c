/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kern/conntrack.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/hmap.h"
#include "base/vec.h"
#include "kern/nl.h"

/* net/netfilter/nf_conntrack_netlink.c: the flags of CTA_FILTER are not in the kernel's headers. */
#define FILTER_IP_DST (1 << 1)
#define FILTER_PROTO_NUM (1 << 3)
#define FILTER_PROTO_DST_PORT (1 << 5)
/* So many readings of one target each cost less than one of everything. */
#define TARGETS_MAX 4

struct conntrack {
	struct nl *nl;
};

int conntrack_open(struct conntrack **ret, struct err *err)
{
	struct nl *nl;
	int r = nl_open(NETLINK_NETFILTER, &nl, err);

	if (r < 0)
		return r;
	*ret = mem_new(struct conntrack);
	(*ret)->nl = nl;
	return 0;
}

void conntrack_close(struct conntrack *ct)
{
	if (!ct)
		return;
	nl_close(ct->nl);
	free(ct);
}

/* ---- what is looked for ---- */

struct want {
	struct hmap_node node; /* by dst and port */
	const struct conntrack_stale *stale;
};

struct search {
	struct hmap wants;
	struct want *v;
	VEC(struct nlattr *) found; /* copies of CTA_TUPLE_ORIG */
};

static uint64_t hash_target(const struct ip *dst, uint16_t port)
{
	struct {
		struct ip dst;
		uint8_t port[2];
	} key = {.dst = *dst, .port = {(uint8_t)(port >> 8), (uint8_t)port}};

	_Static_assert(sizeof(key) == sizeof(struct ip) + 2, "no padding");
	return hash_bytes(&key, sizeof(key));
}

static bool is_stale(
	const struct search *s, const struct ip *dst, uint16_t port, const struct ip *from)
{
	const struct want *w;

	hmap_for_each_hash (w, &s->wants, hash_target(dst, port), node)
		if (w->stale->port == port && ip_equal(&w->stale->dst, dst) &&
			(w->stale->from.family == IP_NONE || ip_equal(&w->stale->from, from)))
			return true;
	return false;
}

static bool get_ip(const struct nlattr *const *tb, bool source, struct ip *ret)
{
	uint8_t b[16];

	if (nl_bytes(tb[source ? CTA_IP_V4_SRC : CTA_IP_V4_DST], b, 4))
		*ret = ip_from_bytes(AF_INET, b);
	else if (nl_bytes(tb[source ? CTA_IP_V6_SRC : CTA_IP_V6_DST], b, 16))
		*ret = ip_from_bytes(AF_INET6, b);
	else
		return false;
	return true;
}

static bool parse_tuple(
	const struct nlattr *nest, const struct nlattr **ips, const struct nlattr **protos)
{
	const struct nlattr *tb[CTA_TUPLE_MAX + 1];

	return nest && nl_parse_nested(nest, tb, CTA_TUPLE_MAX) == 0 && tb[CTA_TUPLE_IP] &&
	       tb[CTA_TUPLE_PROTO] && nl_parse_nested(tb[CTA_TUPLE_IP], ips, CTA_IP_MAX) == 0 &&
	       nl_parse_nested(tb[CTA_TUPLE_PROTO], protos, CTA_PROTO_MAX) == 0;
}

static int take_entry(void *arg, const struct nlmsghdr *nlh, struct err *err)
{
	struct search *s = arg;
	const struct nlattr *tb[CTA_MAX + 1], *ips[CTA_IP_MAX + 1], *protos[CTA_PROTO_MAX + 1];
	struct ip dst, from;
	uint16_t port;

	(void)err;
	if (nl_parse(nlh, sizeof(struct nfgenmsg), tb, CTA_MAX) < 0 ||
		!parse_tuple(tb[CTA_TUPLE_ORIG], ips, protos) ||
		nl_u8(protos[CTA_PROTO_NUM]) != IPPROTO_UDP || !get_ip(ips, false, &dst))
		return 0;
	port = ntohs(nl_u16(protos[CTA_PROTO_DST_PORT]));
	if (!parse_tuple(tb[CTA_TUPLE_REPLY], ips, protos) || !get_ip(ips, true, &from))
		return 0;
	if (is_stale(s, &dst, port, &from))
		vec_push(&s->found, mem_dup(tb[CTA_TUPLE_ORIG], tb[CTA_TUPLE_ORIG]->nla_len));
	return 0;
}

static void forget(void *arg)
{
	struct search *s = arg;

	for (size_t i = 0; i < s->found.n; i++)
		free(s->found.v[i]);
	s->found.n = 0;
}

static void put_header(struct nlmsghdr *nlh, int af)
{
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));

	nfg->nfgen_family = (uint8_t)af;
	nfg->version = NFNETLINK_V0;
}

/* target NULL: all of UDP. */
static int find(struct conntrack *ct, int af, const struct conntrack_stale *target,
	struct search *s, struct err *err)
{
	struct nlmsghdr *nlh = nl_msg(ct->nl, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, 0);
	uint32_t flags = FILTER_PROTO_NUM;
	struct nlattr *nest, *inner;

	put_header(nlh, af);
	/* A kernel before 5.8 does not know this, and tells about all others, too. */
	nest = mnl_attr_nest_start(nlh, CTA_TUPLE_ORIG);
	/* Not for IPv6, where a 6.18 was seen to leave out the very address. */
	if (target && af == AF_INET) {
		flags |= FILTER_IP_DST;
		inner = mnl_attr_nest_start(nlh, CTA_TUPLE_IP);
		mnl_attr_put(nlh, CTA_IP_V4_DST, 4, target->dst.b);
		mnl_attr_nest_end(nlh, inner);
	}
	inner = mnl_attr_nest_start(nlh, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(nlh, CTA_PROTO_NUM, IPPROTO_UDP);
	if (target) {
		flags |= FILTER_PROTO_DST_PORT;
		mnl_attr_put_u16(nlh, CTA_PROTO_DST_PORT, htons(target->port));
	}
	mnl_attr_nest_end(nlh, inner);
	mnl_attr_nest_end(nlh, nest);
	nest = mnl_attr_nest_start(nlh, CTA_FILTER);
	mnl_attr_put_u32(nlh, CTA_FILTER_ORIG_FLAGS, flags);
	mnl_attr_put_u32(nlh, CTA_FILTER_REPLY_FLAGS, 0);
	mnl_attr_nest_end(nlh, nest);
	return nl_dump(ct->nl, take_entry, forget, s, err);
}

struct outcome {
	int deleted, r;
	struct err err;
};

static void on_deleted(void *arg, uintptr_t cookie, int r, const struct err *err)
{
	struct outcome *o = arg;

	(void)cookie;
	if (r == 0)
		o->deleted++;
	else if (r != -ENOENT && o->r == 0) {
		o->r = r;
		o->err = *err;
	}
}

static int delete_found(struct conntrack *ct, int af, const struct search *s, struct err *err)
{
	struct outcome o = {0};

	nl_batch_begin(ct->nl, NL_STREAM, on_deleted, &o);
	for (size_t i = 0; i < s->found.n; i++) {
		const struct nlattr *a = s->found.v[i];
		struct nlmsghdr *nlh = nl_batch_add(
			ct->nl, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0, 0);

		put_header(nlh, af);
		mnl_attr_put(
			nlh, a->nla_type, mnl_attr_get_payload_len(a), mnl_attr_get_payload(a));
	}
	(void)nl_batch_end(ct->nl, NULL);
	if (o.r < 0 && err)
		*err = o.err;
	return o.r < 0 ? o.r : o.deleted;
}

/* Returns how many. */
static int find_and_delete(struct conntrack *ct, int af, const struct conntrack_stale *target,
	struct search *s, struct err *err)
{
	int r = find(ct, af, target, s, err);

	if (r == 0 && s->found.n > 0)
		r = delete_found(ct, af, s, err);
	forget(s);
	return r;
}

static bool is_same_target(const struct conntrack_stale *a, const struct conntrack_stale *b)
{
	return a->port == b->port && ip_equal(&a->dst, &b->dst);
}

static int delete_family(struct conntrack *ct, int af, const struct conntrack_stale *stale,
	size_t n, struct search *s, struct err *err)
{
	const struct conntrack_stale *targets[TARGETS_MAX];
	size_t n_targets = 0, j;
	int total = 0, r;

	for (size_t i = 0; i < n; i++) {
		if (ip_af(&stale[i].dst) != af)
			continue;
		for (j = 0; j < n_targets && !is_same_target(targets[j], &stale[i]);)
			j++;
		if (j == TARGETS_MAX)
			return find_and_delete(ct, af, NULL, s, err);
		if (j == n_targets)
			targets[n_targets++] = &stale[i];
	}
	for (j = 0; j < n_targets; j++) {
		r = find_and_delete(ct, af, targets[j], s, err);
		if (r < 0)
			return r;
		total += r;
	}
	return total;
}

int conntrack_delete_udp(
	struct conntrack *ct, const struct conntrack_stale *stale, size_t n, struct err *err)
{
	struct search s = {.v = mem_zalloc((n + 1) * sizeof(*s.v))};
	int r, total;

	for (size_t i = 0; i < n; i++) {
		s.v[i].stale = &stale[i];
		hmap_insert(&s.wants, &s.v[i].node, hash_target(&stale[i].dst, stale[i].port));
	}
	r = total = delete_family(ct, AF_INET, stale, n, &s, err);
	if (r >= 0)
		r = delete_family(ct, AF_INET6, stale, n, &s, err);
	vec_done(&s.found);
	hmap_done(&s.wants);
	free(s.v);
	return r < 0 ? err_wrap(err, r, "delete stale UDP connections") : total + r;
}
