/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Links, their addresses and neighbours as rtnetlink messages. */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>

#include "kern/nl.h"
#include "kern/rt_codec.h"

#define ADDR_GEN_MODE_NONE 1

static int decode_vxlan(const struct nlattr *data, struct rt_vxlan *ret)
{
	const struct nlattr *tb[IFLA_VXLAN_MAX + 1];

	if (nl_parse_nested(data, tb, IFLA_VXLAN_MAX) < 0)
		return -EBADMSG;
	ret->vni = nl_u32(tb[IFLA_VXLAN_ID]);
	ret->port = ntohs(nl_u16(tb[IFLA_VXLAN_PORT]));
	ret->learning = nl_u8(tb[IFLA_VXLAN_LEARNING]);
	ret->other = tb[IFLA_VXLAN_GROUP] || tb[IFLA_VXLAN_GROUP6] ||
		     nl_u8(tb[IFLA_VXLAN_COLLECT_METADATA]);
	if (!rt_ip_attr(AF_INET, tb[IFLA_VXLAN_LOCAL], &ret->local))
		(void)rt_ip_attr(AF_INET6, tb[IFLA_VXLAN_LOCAL6], &ret->local);
	return 0;
}

int rt_link_decode(const struct nlmsghdr *nlh, struct rt_link *ret)
{
	const struct nlattr *tb[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1];
	struct ifinfomsg ifi;

	if (!nl_header(nlh, &ifi, sizeof(ifi)) || nl_parse(nlh, sizeof(ifi), tb, IFLA_MAX) < 0 ||
		nl_parse_nested(tb[IFLA_LINKINFO], info, IFLA_INFO_MAX) < 0)
		return -EBADMSG;
	if (ifi.ifi_family != AF_UNSPEC) /* AF_BRIDGE: about its port, not about the link */
		return -ENOENT;
	*ret = (struct rt_link){
		.index = (uint32_t)ifi.ifi_index,
		.flags = ifi.ifi_flags,
		.mtu = nl_u32(tb[IFLA_MTU]),
		.group = nl_u32(tb[IFLA_GROUP]),
		.master = nl_u32(tb[IFLA_MASTER]),
		.link = nl_u32(tb[IFLA_LINK]),
		.netnsid = tb[IFLA_LINK_NETNSID] ? (int32_t)nl_u32(tb[IFLA_LINK_NETNSID]) : -1,
		.operstate = nl_u8(tb[IFLA_OPERSTATE]),
	};
	if (ifi.ifi_index <= 0 || !nl_str(tb[IFLA_IFNAME], ret->name, sizeof(ret->name)))
		return -EBADMSG;
	(void)nl_str(info[IFLA_INFO_KIND], ret->kind, sizeof(ret->kind));
	ret->has_mac = nl_bytes(tb[IFLA_ADDRESS], ret->mac.b, sizeof(ret->mac.b));
	(void)nl_bytes(tb[IFLA_BROADCAST], ret->broadcast_mac.b, sizeof(ret->broadcast_mac.b));
	return strcmp(ret->kind, "vxlan") == 0 ? decode_vxlan(info[IFLA_INFO_DATA], &ret->vxlan)
					       : 0;
}

static void put_end(
	struct nlmsghdr *nlh, const struct rt_veth *v, const char *name, const struct mac *mac)
{
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	if (!mac_is_zero(mac))
		mnl_attr_put(nlh, IFLA_ADDRESS, sizeof(mac->b), mac->b);
	if (v->mtu)
		mnl_attr_put_u32(nlh, IFLA_MTU, v->mtu);
	if (v->queues) {
		mnl_attr_put_u32(nlh, IFLA_NUM_TX_QUEUES, v->queues);
		mnl_attr_put_u32(nlh, IFLA_NUM_RX_QUEUES, v->queues);
	}
}

void rt_veth_encode(struct nlmsghdr *nlh, const struct rt_veth *v)
{
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	struct nlattr *info, *data, *peer;

	ifi->ifi_index = (int)v->index;
	put_end(nlh, v, v->name, &v->mac);
	if (v->group)
		mnl_attr_put_u32(nlh, IFLA_GROUP, v->group);
	info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(nlh, VETH_INFO_PEER);
	ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	ifi->ifi_index = (int)v->peer_index;
	put_end(nlh, v, v->peer_name, &v->peer_mac);
	if (v->peer_netns_fd >= 0)
		mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, (uint32_t)v->peer_netns_fd);
	mnl_attr_nest_end(nlh, peer);
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, info);
}

void rt_vxlan_encode(struct nlmsghdr *nlh, const char *name, const struct mac *mac, uint32_t mtu,
	const struct rt_vxlan *v)
{
	struct nlattr *info, *data;

	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	mnl_attr_put(nlh, IFLA_ADDRESS, sizeof(mac->b), mac->b);
	mnl_attr_put_u32(nlh, IFLA_MTU, mtu);
	info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "vxlan");
	data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
	mnl_attr_put_u32(nlh, IFLA_VXLAN_ID, v->vni);
	mnl_attr_put_u16(nlh, IFLA_VXLAN_PORT, htons(v->port));
	mnl_attr_put_u8(nlh, IFLA_VXLAN_LEARNING, v->learning);
	rt_ip_put(nlh, v->local.family == IP_V6 ? IFLA_VXLAN_LOCAL6 : IFLA_VXLAN_LOCAL, &v->local);
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, info);
}

void rt_link_change_encode(struct nlmsghdr *nlh, const struct rt_link_change *c)
{
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	const char *name = c->index ? c->new_name : c->name;

	ifi->ifi_index = (int)c->index;
	if (c->set_up) {
		ifi->ifi_change = IFF_UP;
		ifi->ifi_flags = c->up ? IFF_UP : 0;
	}
	if (name)
		mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	if (c->mtu)
		mnl_attr_put_u32(nlh, IFLA_MTU, c->mtu);
	if (c->set_group)
		mnl_attr_put_u32(nlh, IFLA_GROUP, c->group);
	if (c->set_mac)
		mnl_attr_put(nlh, IFLA_ADDRESS, sizeof(c->mac.b), c->mac.b);
	if (c->set_master)
		mnl_attr_put_u32(nlh, IFLA_MASTER, c->master);
	if (c->alias)
		mnl_attr_put_strz(nlh, IFLA_IFALIAS, c->alias);
}

bool rt_link_conf_has_ipv4(const struct rt_link_conf *c)
{
	return c->proxy_arp || c->forwarding || c->route_localnet || c->arp_notify ||
	       c->rp_filter >= 0;
}

void rt_link_conf_encode(struct nlmsghdr *nlh, const struct rt_link_conf *c)
{
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	struct nlattr *spec = mnl_attr_nest_start(nlh, IFLA_AF_SPEC), *af, *conf;

	ifi->ifi_index = (int)c->index;
	if (rt_link_conf_has_ipv4(c)) {
		af = mnl_attr_nest_start(nlh, AF_INET);
		conf = mnl_attr_nest_start(nlh, IFLA_INET_CONF);
		if (c->proxy_arp)
			mnl_attr_put_u32(nlh, IPV4_DEVCONF_PROXY_ARP, 1);
		if (c->forwarding)
			mnl_attr_put_u32(nlh, IPV4_DEVCONF_FORWARDING, 1);
		if (c->route_localnet)
			mnl_attr_put_u32(nlh, IPV4_DEVCONF_ROUTE_LOCALNET, 1);
		if (c->arp_notify)
			mnl_attr_put_u32(nlh, IPV4_DEVCONF_ARP_NOTIFY, 1);
		if (c->rp_filter >= 0)
			mnl_attr_put_u32(nlh, IPV4_DEVCONF_RP_FILTER, (uint32_t)c->rp_filter);
		mnl_attr_nest_end(nlh, conf);
		mnl_attr_nest_end(nlh, af);
	}
	if (c->no_addr_gen) {
		af = mnl_attr_nest_start(nlh, AF_INET6);
		mnl_attr_put_u8(nlh, IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE);
		mnl_attr_nest_end(nlh, af);
	}
	mnl_attr_nest_end(nlh, spec);
}

int rt_addr_decode(const struct nlmsghdr *nlh, struct rt_addr *ret)
{
	const struct nlattr *tb[IFA_MAX + 1];
	struct ifaddrmsg ifa;
	struct ip ip = {0};

	if (!nl_header(nlh, &ifa, sizeof(ifa)) || nl_parse(nlh, sizeof(ifa), tb, IFA_MAX) < 0)
		return -EBADMSG;
	if (ifa.ifa_family != AF_INET && ifa.ifa_family != AF_INET6)
		return -ENOENT;
	/* IFA_ADDRESS is the other end's where IFA_LOCAL is there. */
	if (!rt_ip_attr(ifa.ifa_family, tb[IFA_LOCAL] ? tb[IFA_LOCAL] : tb[IFA_ADDRESS], &ip) ||
		ifa.ifa_prefixlen > ip_bits(&ip))
		return -EBADMSG;
	*ret = (struct rt_addr){
		.index = ifa.ifa_index,
		.prefix = {.addr = ip, .plen = ifa.ifa_prefixlen},
		.scope = ifa.ifa_scope,
		.flags = tb[IFA_FLAGS] ? nl_u32(tb[IFA_FLAGS]) : ifa.ifa_flags,
	};
	return 0;
}

void rt_addr_encode(struct nlmsghdr *nlh, const struct rt_addr *a)
{
	struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));

	ifa->ifa_family = (uint8_t)ip_af(&a->prefix.addr);
	ifa->ifa_prefixlen = a->prefix.plen;
	ifa->ifa_scope = a->scope;
	ifa->ifa_index = a->index;
	rt_ip_put(nlh, IFA_LOCAL, &a->prefix.addr);
	rt_ip_put(nlh, IFA_ADDRESS, &a->prefix.addr);
	if (a->flags & IFA_F_NODAD)
		mnl_attr_put_u32(nlh, IFA_FLAGS, IFA_F_NODAD);
}

int rt_neigh_decode(const struct nlmsghdr *nlh, struct rt_neigh *ret)
{
	const struct nlattr *tb[NDA_MAX + 1];
	struct ndmsg ndm;
	struct ip ip;

	if (!nl_header(nlh, &ndm, sizeof(ndm)) || nl_parse(nlh, sizeof(ndm), tb, NDA_MAX) < 0)
		return -EBADMSG;
	if (ndm.ndm_family != AF_INET && ndm.ndm_family != AF_INET6)
		return -ENOENT;
	if (!rt_ip_attr(ndm.ndm_family, tb[NDA_DST], &ip))
		return -EBADMSG;
	*ret = (struct rt_neigh){
		.index = (uint32_t)ndm.ndm_ifindex,
		.ip = ip,
		.state = ndm.ndm_state,
		.proxy = ndm.ndm_flags & NTF_PROXY,
		.kept = ndm.ndm_flags & NTF_EXT_LEARNED,
	};
	ret->has_mac = nl_bytes(tb[NDA_LLADDR], ret->mac.b, sizeof(ret->mac.b));
	return 0;
}

void rt_neigh_encode(struct nlmsghdr *nlh, const struct rt_neigh *n)
{
	struct ndmsg *ndm = mnl_nlmsg_put_extra_header(nlh, sizeof(*ndm));

	ndm->ndm_family = (uint8_t)ip_af(&n->ip);
	ndm->ndm_ifindex = (int)n->index;
	ndm->ndm_state = n->state ? n->state : NUD_PERMANENT;
	ndm->ndm_flags = (n->proxy ? NTF_PROXY : 0) | (n->kept ? NTF_EXT_LEARNED : 0);
	rt_ip_put(nlh, NDA_DST, &n->ip);
	if (n->has_mac)
		mnl_attr_put(nlh, NDA_LLADDR, sizeof(n->mac.b), n->mac.b);
}

int rt_fdb_decode(const struct nlmsghdr *nlh, struct rt_fdb *ret)
{
	const struct nlattr *tb[NDA_MAX + 1];
	struct ndmsg ndm;

	if (!nl_header(nlh, &ndm, sizeof(ndm)) || nl_parse(nlh, sizeof(ndm), tb, NDA_MAX) < 0)
		return -EBADMSG;
	if (ndm.ndm_family != AF_BRIDGE || !tb[NDA_DST]) /* a bridge's, or a link's own addresses */
		return -ENOENT;
	*ret = (struct rt_fdb){.index = (uint32_t)ndm.ndm_ifindex, .state = ndm.ndm_state};
	if (!nl_bytes(tb[NDA_LLADDR], ret->mac.b, sizeof(ret->mac.b)) ||
		(!rt_ip_attr(AF_INET, tb[NDA_DST], &ret->dst) &&
			!rt_ip_attr(AF_INET6, tb[NDA_DST], &ret->dst)))
		return -EBADMSG;
	return 0;
}

void rt_fdb_encode(struct nlmsghdr *nlh, const struct rt_fdb *f)
{
	struct ndmsg *ndm = mnl_nlmsg_put_extra_header(nlh, sizeof(*ndm));

	ndm->ndm_family = AF_BRIDGE;
	ndm->ndm_ifindex = (int)f->index;
	ndm->ndm_state = NUD_PERMANENT;
	ndm->ndm_flags = NTF_SELF;
	mnl_attr_put(nlh, NDA_LLADDR, sizeof(f->mac.b), f->mac.b);
	rt_ip_put(nlh, NDA_DST, &f->dst);
}

static int decode_neigh(const struct nlmsghdr *nlh, struct rt_event *ret)
{
	bool del = nlh->nlmsg_type == RTM_DELNEIGH;
	struct ndmsg ndm;

	if (!nl_header(nlh, &ndm, sizeof(ndm)))
		return -EBADMSG;
	if (ndm.ndm_family == AF_BRIDGE) {
		ret->type = del ? RT_EVENT_FDB_DEL : RT_EVENT_FDB_SET;
		return rt_fdb_decode(nlh, &ret->fdb);
	}
	ret->type = del ? RT_EVENT_NEIGH_DEL : RT_EVENT_NEIGH_SET;
	return rt_neigh_decode(nlh, &ret->neigh);
}

int rt_event_decode(const struct nlmsghdr *nlh, struct rt_event *ret)
{
	ret->by = nlh->nlmsg_pid;
	switch (nlh->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		ret->type = nlh->nlmsg_type == RTM_NEWLINK ? RT_EVENT_LINK_SET : RT_EVENT_LINK_DEL;
		return rt_link_decode(nlh, &ret->link);
	case RTM_NEWADDR:
	case RTM_DELADDR:
		ret->type = nlh->nlmsg_type == RTM_NEWADDR ? RT_EVENT_ADDR_SET : RT_EVENT_ADDR_DEL;
		return rt_addr_decode(nlh, &ret->addr);
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		ret->type =
			nlh->nlmsg_type == RTM_NEWROUTE ? RT_EVENT_ROUTE_SET : RT_EVENT_ROUTE_DEL;
		return rt_route_decode(nlh, &ret->route);
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		return decode_neigh(nlh, ret);
	}
	return -ENOENT;
}
