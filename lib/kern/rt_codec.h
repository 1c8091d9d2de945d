/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rtnetlink messages to and from the values of rt.h. A decoder trusts no length in a message.
 * Returns 0; -ENOENT for an object of a sort that rt.h leaves out (another family, a cloned route, a
 * bridge port's half of a link event); -EBADMSG for a message that does not add up.
 *
 * An encoder fills in a message whose header stands already: type and flags are the caller's.
 */
#pragma once

#include "kern/rt.h"

struct nlmsghdr;

int rt_route_decode(const struct nlmsghdr *nlh, struct rt_route *ret);
int rt_link_decode(const struct nlmsghdr *nlh, struct rt_link *ret);
int rt_addr_decode(const struct nlmsghdr *nlh, struct rt_addr *ret);
int rt_neigh_decode(const struct nlmsghdr *nlh, struct rt_neigh *ret);
int rt_fdb_decode(const struct nlmsghdr *nlh, struct rt_fdb *ret);
int rt_rule_decode(const struct nlmsghdr *nlh, struct rt_rule *ret);
/* By the message's type. */
int rt_event_decode(const struct nlmsghdr *nlh, struct rt_event *ret);

/* 0, NLM_F_EXCL, ... change nothing here. del: the wildcards of RTM_DELROUTE. */
void rt_route_encode(struct nlmsghdr *nlh, const struct rt_route *r, bool del);
void rt_veth_encode(struct nlmsghdr *nlh, const struct rt_veth *v);
void rt_vxlan_encode(struct nlmsghdr *nlh, const char *name, const struct mac *mac, uint32_t mtu,
	const struct rt_vxlan *v);
void rt_link_change_encode(struct nlmsghdr *nlh, const struct rt_link_change *c);
bool rt_link_conf_has_ipv4(const struct rt_link_conf *c);
void rt_link_conf_encode(struct nlmsghdr *nlh, const struct rt_link_conf *c);
void rt_addr_encode(struct nlmsghdr *nlh, const struct rt_addr *a);
void rt_neigh_encode(struct nlmsghdr *nlh, const struct rt_neigh *n);
void rt_fdb_encode(struct nlmsghdr *nlh, const struct rt_fdb *f);
void rt_rule_encode(struct nlmsghdr *nlh, const struct rt_rule *r);

/* Shared by the codecs. */
struct nlattr;
bool rt_ip_attr(int af, const struct nlattr *a, struct ip *ret);
void rt_ip_put(struct nlmsghdr *nlh, uint16_t type, const struct ip *ip);
