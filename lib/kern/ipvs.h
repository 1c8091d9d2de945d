/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IPVS over generic netlink, as values and verbs, in the caller's network namespace. As kern/rt.h it
 * is a seam: ipvs.c speaks to Linux, tests/fake/ipvs_fake.c is a kernel in memory.
 *
 * The kernel tells nobody what changes in IPVS, and has no transactions: a batch is executed in
 * order, message by message. Verbs are idempotent: what is there is edited, what is gone is gone.
 * Addresses and ports name a virtual server; those by firewall mark are others' and left out.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "kern/vserver.h"
#include "net/ip.h"

struct err;
struct ipvs;

#define IPVS_SCHED_SIZE 16

struct ipvs_service {
	char scheduler[IPVS_SCHED_SIZE];
	uint32_t persistent_s; /* 0 = not persistent */
	bool one_packet;
};

enum ipvs_forward {
	IPVS_MASQ = 0,
	IPVS_LOCAL = 1,
	IPVS_TUNNEL = 2,
	IPVS_ROUTE = 3,
	IPVS_BYPASS = 4
};

struct ipvs_dest {
	struct ip ip;
	uint16_t port;
	uint32_t weight;
	enum ipvs_forward forward;
	uint32_t active, inactive; /* connections; decoded only */
};

/* EPROTONOSUPPORT: this kernel has no IPVS, or its module is not loaded and cannot be. */
int ipvs_open(struct ipvs **ret, struct err *err);
void ipvs_close(struct ipvs *k);
AUTO_DEFINE(ipvs, struct ipvs *, ipvs_close);

/* ---- reading ---- */

typedef void ipvs_service_fn(
	void *arg, const struct vserver_key *key, const struct ipvs_service *service);
/* All virtual servers. No snapshot: what changes meanwhile may be missed. */
int ipvs_services(struct ipvs *k, ipvs_service_fn *fn, void *arg, struct err *err);
/* One virtual server's real servers, with their connections; none where it is not there. */
typedef void ipvs_dest_fn(void *arg, const struct ipvs_dest *dest);
int ipvs_dests(struct ipvs *k, const struct vserver_key *key, ipvs_dest_fn *fn, void *arg,
	struct err *err);

/* ---- changing ---- */

/* The outcome of one verb, in their order. */
typedef void ipvs_done_fn(void *arg, uintptr_t cookie, int r, const struct err *err);

/* done may be NULL. Between begin and commit: only the verbs below. */
void ipvs_begin(struct ipvs *k, ipvs_done_fn *done, void *arg);
/* Returns 0 or the first failure. Verbs may have been executed, and done called, before. */
int ipvs_commit(struct ipvs *k, struct err *err);

/* EEXIST: it is there, perhaps otherwise; use edit. ENOENT: the kernel has no such scheduler. */
void ipvs_service_add(struct ipvs *k, const struct vserver_key *key, const struct ipvs_service *s,
	uintptr_t cookie);
/* ENOENT: it is not there. Connections are kept. */
void ipvs_service_edit(struct ipvs *k, const struct vserver_key *key, const struct ipvs_service *s,
	uintptr_t cookie);
/* A service that is not there is success. */
void ipvs_service_del(struct ipvs *k, const struct vserver_key *key, uintptr_t cookie);
/* EEXIST as above; ENOENT: the service is not there. */
void ipvs_dest_add(
	struct ipvs *k, const struct vserver_key *key, const struct ipvs_dest *d, uintptr_t cookie);
/* ENOENT: there is no such service or real server. */
void ipvs_dest_edit(
	struct ipvs *k, const struct vserver_key *key, const struct ipvs_dest *d, uintptr_t cookie);
/* One that is not there is success. */
void ipvs_dest_del(
	struct ipvs *k, const struct vserver_key *key, const struct ipvs_dest *d, uintptr_t cookie);
