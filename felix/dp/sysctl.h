/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel settings that routing pods' packets needs: forwarding, once, through /proc/sys (of IPv6
 * only where a pool is IPv6: a host that forwards ignores router advertisements); and for each pod's
 * interface proxy ARP without delay, forwarding and route_localnet, through netlink as
 * the interface appears.
 *
 * Lifecycle: new -> any mix of mark_unknown/apply -> free.
 */
#pragma once

struct calc_wants;
struct err;
struct ifaces;
struct rt;
struct sysctl;

/* root: "/proc/sys". Strings are borrowed. */
struct sysctl *sysctl_new(
	struct rt *rt, struct ifaces *ifaces, const char *root, const char *pod_prefix);
void sysctl_free(struct sysctl *s);
void sysctl_want(struct sysctl *s, const struct calc_wants *w);
/* The global ones may have been changed: they are written where they differ. */
void sysctl_mark_unknown(struct sysctl *s);
/* 0, or the first failure; the next call tries again. */
int sysctl_apply(struct sysctl *s, struct err *err);
