/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IPVS and the connection table in memory, behind kern/ipvs.h and kern/conntrack.h, with faults on
 * demand. There is one of each per process.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kern/ipvs.h"

void ipvs_fake_reset(void);
/* No IPVS in this kernel: opening fails. */
void ipvs_fake_absent(bool absent);

/* Somebody else's hand. A virtual server put so is theirs: verbs that touch it are counted. */
void ipvs_fake_put(const struct vserver_key *key, const char *scheduler, const struct ipvs_dest *d);
bool ipvs_fake_gone(const struct vserver_key *key);
/* To be changed at will; NULL: there is none. */
struct ipvs_service *ipvs_fake_service(const struct vserver_key *key);
struct ipvs_dest *ipvs_fake_dest(const struct vserver_key *key, const struct ip *ip, uint16_t port);
bool ipvs_fake_dest_gone(const struct vserver_key *key, const struct ip *ip, uint16_t port);

/*
 * Everything, sorted, "TCP 10.96.0.1:443 rr: 10.0.0.1:6443*1 10.0.0.2:6443*1\n", ", p600" behind the
 * scheduler where persistent; the caller's to free.
 */
char *ipvs_fake_text(void);
/* Deletions from the connection table fail with r; 0 = they do not. */
void conntrack_fake_fail(int r);
/* "10.96.0.10:53<10.0.0.1 ...": the deletions asked for since the last call; the caller's. */
char *conntrack_fake_text(void);

/* The n-th call from now (verbs, readings, deletions) fails with r; 0 = none will. ENOBUFS: it is
 * done and its outcome lost. */
void ipvs_fake_fail_nth(unsigned n, int r);
/* Whatever is asked of virtual servers at this port fails with r, and is not done; 0 = none does. */
void ipvs_fake_fail_port(uint16_t port, int r);
unsigned ipvs_fake_calls(void);	  /* since the reset */
unsigned ipvs_fake_writes(void);  /* verbs that changed something */
unsigned ipvs_fake_deletes(void); /* of them, deletions */
unsigned ipvs_fake_foreign_touched(void);
