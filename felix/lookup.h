/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Looks a host's address up without waiting: in /etc/hosts, else by DNS as /etc/resolv.conf says. */
#pragma once

#include "base/mem.h"
#include "net/ip.h"

struct err;
struct event_base;
struct lookup;

/* ip is NULL where there is none: err says why (ENOENT). Both go with the lookup, which may be freed. */
typedef void lookup_done_fn(void *arg, const struct ip *ip, const struct err *err);

/* done is called once, never before this returns. */
struct lookup *lookup_start(struct event_base *base, const char *name, enum ip_family family,
	lookup_done_fn *done, void *arg);
/* Before it is done only when the event loop runs no more: evdns lets go of a request by that alone. */
void lookup_free(struct lookup *l);
AUTO_DEFINE(lookup, struct lookup *, lookup_free);
