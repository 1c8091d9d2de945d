/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Routes and rules as rtnetlink messages. Routes with a type of service or a source prefix are other
 * people's and left out. */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "kern/nl.h"
#include "kern/rt_codec.h"

bool rt_ip_attr(int af, const struct nlattr *a, struct ip *ret)
{
	uint8_t b[16];

	if ((af != AF_INET && af != AF_INET6) || !nl_bytes(a, b, af == AF_INET ? 4 : 16))
		return false;
	*ret = ip_from_bytes(af, b);
	return true;
}

void rt_ip_put(struct nlmsghdr *nlh, uint16_t type, const struct ip *ip)
{
	if (ip->family != IP_NONE)
		mnl_attr_put(nlh, type, ip_n_bytes(ip), ip->b);
}

static struct ip any_of(int af)
{
	static const uint8_t zero[16];

	return ip_from_bytes(af, zero);
}

int rt_route_decode(const struct nlmsghdr *nlh, struct rt_route *ret)
{
	const struct nlattr *tb[RTA_MAX + 1], *metrics[RTAX_MAX + 1];
	struct rtmsg rtm;
	struct ip dst;

	if (!nl_header(nlh, &rtm, sizeof(rtm)) || nl_parse(nlh, sizeof(rtm), tb, RTA_MAX) < 0)
		return -EBADMSG;
	if ((rtm.rtm_family != AF_INET && rtm.rtm_family != AF_INET6) ||
		rtm.rtm_flags & RTM_F_CLONED || rtm.rtm_tos != 0 || rtm.rtm_src_len != 0)
		return -ENOENT;
	dst = any_of(rtm.rtm_family);
	if (tb[RTA_DST] && !rt_ip_attr(rtm.rtm_family, tb[RTA_DST], &dst))
		return -EBADMSG;
	if (rtm.rtm_dst_len > ip_bits(&dst) ||
		nl_parse_nested(tb[RTA_METRICS], metrics, RTAX_MAX) < 0)
		return -EBADMSG;
	*ret = (struct rt_route){
		.dst = prefix_of(&dst, rtm.rtm_dst_len),
		.table = tb[RTA_TABLE] ? nl_u32(tb[RTA_TABLE]) : rtm.rtm_table,
		.priority = nl_u32(tb[RTA_PRIORITY]),
		.protocol = rtm.rtm_protocol,
		.scope = rtm.rtm_scope,
		.type = rtm.rtm_type,
		.onlink = rtm.rtm_flags & RTNH_F_ONLINK,
		.multipath = tb[RTA_MULTIPATH],
		.oif = nl_u32(tb[RTA_OIF]),
		.mtu = nl_u32(metrics[RTAX_MTU]),
	};
	(void)rt_ip_attr(rtm.rtm_family, tb[RTA_GATEWAY], &ret->gateway);
	(void)rt_ip_attr(rtm.rtm_family, tb[RTA_PREFSRC], &ret->src);
	return 0;
}

void rt_route_encode(struct nlmsghdr *nlh, const struct rt_route *r, bool del)
{
	struct rtmsg *rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
	struct nlattr *nest;

	rtm->rtm_family = (uint8_t)ip_af(&r->dst.addr);
	rtm->rtm_dst_len = r->dst.plen;
	rtm->rtm_table = r->table < 256 ? (uint8_t)r->table : RT_TABLE_UNSPEC;
	rtm->rtm_protocol = r->protocol;
	rtm->rtm_scope = r->scope;
	rtm->rtm_type = r->type;
	rtm->rtm_flags = r->onlink && !del ? RTNH_F_ONLINK : 0;
	if (r->dst.plen > 0)
		rt_ip_put(nlh, RTA_DST, &r->dst.addr);
	mnl_attr_put_u32(nlh, RTA_TABLE, r->table);
	if (r->priority)
		mnl_attr_put_u32(nlh, RTA_PRIORITY, r->priority);
	rt_ip_put(nlh, RTA_GATEWAY, &r->gateway);
	if (r->oif)
		mnl_attr_put_u32(nlh, RTA_OIF, r->oif);
	if (del)
		return;
	rt_ip_put(nlh, RTA_PREFSRC, &r->src);
	if (r->mtu) {
		nest = mnl_attr_nest_start(nlh, RTA_METRICS);
		mnl_attr_put_u32(nlh, RTAX_MTU, r->mtu);
		mnl_attr_nest_end(nlh, nest);
	}
}

int rt_rule_decode(const struct nlmsghdr *nlh, struct rt_rule *ret)
{
	const struct nlattr *tb[FRA_MAX + 1];
	struct fib_rule_hdr h;
	struct ip src = {0}, dst = {0};

	if (!nl_header(nlh, &h, sizeof(h)) || nl_parse(nlh, sizeof(h), tb, FRA_MAX) < 0)
		return -EBADMSG;
	if ((h.family != AF_INET && h.family != AF_INET6) || h.action != FR_ACT_TO_TBL)
		return -ENOENT;
	if (tb[FRA_SRC] && !rt_ip_attr(h.family, tb[FRA_SRC], &src))
		return -EBADMSG;
	if (tb[FRA_DST] && !rt_ip_attr(h.family, tb[FRA_DST], &dst))
		return -EBADMSG;
	if (h.src_len > ip_bits(&src) || h.dst_len > ip_bits(&dst))
		return -EBADMSG;
	*ret = (struct rt_rule){
		.family = h.family == AF_INET ? IP_V4 : IP_V6,
		.priority = nl_u32(tb[FRA_PRIORITY]),
		.table = tb[FRA_TABLE] ? nl_u32(tb[FRA_TABLE]) : h.table,
		.mark = nl_u32(tb[FRA_FWMARK]),
		.mark_mask = nl_u32(tb[FRA_FWMASK]),
		.invert = h.flags & FIB_RULE_INVERT,
		.protocol = nl_u8(tb[FRA_PROTOCOL]),
	};
	if (tb[FRA_SRC])
		ret->src = prefix_of(&src, h.src_len);
	if (tb[FRA_DST])
		ret->dst = prefix_of(&dst, h.dst_len);
	return 0;
}

void rt_rule_encode(struct nlmsghdr *nlh, const struct rt_rule *r)
{
	struct fib_rule_hdr *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));

	h->family = r->family == IP_V6 ? AF_INET6 : AF_INET;
	h->action = FR_ACT_TO_TBL;
	h->flags = r->invert ? FIB_RULE_INVERT : 0;
	h->src_len = r->src.plen;
	h->dst_len = r->dst.plen;
	mnl_attr_put_u32(nlh, FRA_TABLE, r->table);
	mnl_attr_put_u32(nlh, FRA_PRIORITY, r->priority);
	rt_ip_put(nlh, FRA_SRC, &r->src.addr);
	rt_ip_put(nlh, FRA_DST, &r->dst.addr);
	if (r->mark || r->mark_mask) {
		mnl_attr_put_u32(nlh, FRA_FWMARK, r->mark);
		mnl_attr_put_u32(nlh, FRA_FWMASK, r->mark_mask);
	}
	if (r->protocol)
		mnl_attr_put_u8(nlh, FRA_PROTOCOL, r->protocol);
}
