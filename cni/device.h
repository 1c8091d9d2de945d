/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pod's interface: the veth pair, whose peer is made directly in the pod's namespace, its
 * addresses, routes and neighbours on both sides.
 *
 *	pod:  <ip>/32 on eth0; 169.254.1.1 dev eth0 scope link; default via 169.254.1.1;
 *	      169.254.1.1 lladdr ee:ee:ee:ee:ee:ee PERMANENT
 *	host: <ip> dev cali... scope link proto 80; <ip> lladdr <pod> extern_learn; proxy ARP as well
 *
 * So nothing is resolved at first. A plugin after this one may give eth0 another MAC (tuning does): the kernel
 * forgets the pod's neighbours then, and tells the host, which learns it (arp_notify, ndisc_notify). From there on
 * the pod resolves 169.254.1.1 by proxy ARP, as Calico's pods always do, which works where the host has a default
 * route.
 *
 * The gateway of IPv6 is the host end's fe80::ecee:eeff:feee:eeee. Where the pod has a default route
 * already, by another interface, this one gets a table of its own, for what comes from its address.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/mac.h"
#include "net/prefix.h"

struct call;
struct err;

struct device {
	const struct ip *ips;
	size_t n_ips;
	uint32_t mtu; /* 0: the kernel's default */
	struct mac mac;
};

extern const struct mac device_host_mac;

/* The gateway that pods of a family use. */
struct ip device_gateway(enum ip_family family);

/* All of it; on failure nothing stays. Returns 0 or a negative errno. */
int device_create(struct call *c, const struct device *d, struct err *err);
/*
 * Where there is a server, a deleted link is down with its routes gone, and its reaper's; else it is gone.
 *
 * Both ends with the pod's rules, if they are this container's: the pod's end may be anybody's, as
 * CNI_NETNS may lead to another pod by now, or an ADD have found the name taken. Then, and where
 * there is no pod, as device_delete_on_host. c->host is open. Absence is success.
 */
int device_delete(struct call *c, bool recorded, struct err *err);
/*
 * The host's end by its name, if it is this container's interface: by the mark that device_create
 * left on it, or (recorded: the endpoint says so) one without any. Absence is success.
 */
int device_delete_on_host(struct call *c, const char *veth, const char *container_id,
	const char *ifname, bool recorded, struct err *err);
/* Compares what is there with what device_create makes; ENOENT and the first difference in err. */
int device_check(struct call *c, const struct device *d, struct err *err);
