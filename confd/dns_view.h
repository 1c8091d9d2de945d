/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cluster's zones, as Kubernetes' DNS specification 1.1 names things, as the value that zone
 * templates are rendered with: a pure function of Services and their endpoints.
 *
 *	{"domain": "cluster.local", "zones": [
 *		{"name": "cluster.local.", "forward": true, "ns": "ns.dns.cluster.local.",
 *		 "records": [{"name": "web.default.svc.cluster.local.", "type": "A", "data": "10.96.0.1"},
 *		 ...]},
 *		{"name": "96.10.in-addr.arpa.", "forward": false, ...}]}
 *
 * where each "records" is a table (tmpl.h): an object for each record would be ten times their text.
 *
 * A Service whose name or a port's name is no DNS label is named and left out, and so is a name that is too
 * long. A headless Service has
 * names for the endpoints of its ports.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "confd/problems.h"
#include "net/prefix.h"

struct endpoints;
struct err;
struct service;

struct dns_view_input {
	const char *domain;		   /* "cluster.local" */
	const struct endpoints *endpoints; /* with the Services */
	const struct prefix *reverse;	   /* ranges of services and pods: the reverse zones */
	size_t n_reverse;
};

/* "cluster.local": labels without a dot at the end, so few that the zone's own names are none too long. */
int dns_domain_check(const char *s, struct err *err);

/* The caller's. Zones and records are sorted; each record stands there once. */
json_t *dns_view(const struct dns_view_input *in, struct problems *problems);
/* Two versions of a Service of which the view shows the same; NULL: none. */
bool dns_view_is_same(const struct service *a, const struct service *b);
