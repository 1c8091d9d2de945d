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
#define FILTER_PROTO_NUM (1 << 3)

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

static int find(struct conntrack *ct, int af, struct search *s, struct err *err)
{
	struct nlmsghdr *nlh = nl_msg(ct->nl, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, 0);
	struct nlattr *nest, *inner;

	put_header(nlh, af);
	/* A kernel before 5.8 does not know this, and tells about other protocols, too. */
	nest = mnl_attr_nest_start(nlh, CTA_TUPLE_ORIG);
	inner = mnl_attr_nest_start(nlh, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(nlh, CTA_PROTO_NUM, IPPROTO_UDP);
	mnl_attr_nest_end(nlh, inner);
	mnl_attr_nest_end(nlh, nest);
	nest = mnl_attr_nest_start(nlh, CTA_FILTER);
	mnl_attr_put_u32(nlh, CTA_FILTER_ORIG_FLAGS, FILTER_PROTO_NUM);
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

int conntrack_delete_udp(
	struct conntrack *ct, const struct conntrack_stale *stale, size_t n, struct err *err)
{
	struct search s = {.v = mem_zalloc((n + 1) * sizeof(*s.v))};
	static const int families[] = {AF_INET, AF_INET6};
	bool wanted[2] = {false, false};
	int total = 0, r = 0;

	for (size_t i = 0; i < n; i++) {
		s.v[i].stale = &stale[i];
		hmap_insert(&s.wants, &s.v[i].node, hash_target(&stale[i].dst, stale[i].port));
		wanted[stale[i].dst.family == IP_V6] = true;
	}
	for (int i = 0; r >= 0 && i < 2; i++) {
		if (!wanted[i])
			continue;
		r = find(ct, families[i], &s, err);
		if (r == 0 && s.found.n > 0)
			r = delete_found(ct, families[i], &s, err);
		total += r > 0 ? r : 0;
		forget(&s);
	}
	vec_done(&s.found);
	hmap_done(&s.wants);
	free(s.v);
	return r < 0 ? err_wrap(err, r, "delete stale UDP connections") : total;
}
