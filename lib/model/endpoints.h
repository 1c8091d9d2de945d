/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which endpoints each Service has: those of the EndpointSlices that carry its name, and, where
 * Kubernetes does not make slices, those of the WorkloadEndpoints that its selector matches. Pure;
 * the proxy and the DNS zone read the same answer here.
 *
 * The index holds borrowed objects, as a cache tells them: an object given as `new` stays until it is
 * given as `old`. A change names the Services that it concerns, in time that grows with those alone;
 * what they have now is computed when asked for.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/vec.h"
#include "net/ip.h"

struct endpoints;
struct endpointslice;
struct labels;
struct service;
struct service_port;
struct wep;

/* The endpoints of the Service ns/name may have changed, or it itself. Strings are borrowed. */
typedef void endpoints_changed_fn(void *arg, const char *ns, const char *name);

/* use_weps: selectors choose among WorkloadEndpoints; false where Kubernetes makes the slices. */
struct endpoints *endpoints_new(bool use_weps, endpoints_changed_fn *changed, void *arg);
void endpoints_free(struct endpoints *e); /* the objects stay the caller's */
AUTO_DEFINE(endpoints, struct endpoints *, endpoints_free);

/* old NULL: new; new NULL: gone. Two versions have the same name. */
void endpoints_on_service(
	struct endpoints *e, const struct service *old, const struct service *new);
void endpoints_on_slice(
	struct endpoints *e, const struct endpointslice *old, const struct endpointslice *new);
void endpoints_on_wep(struct endpoints *e, const struct wep *old, const struct wep *new);

/* NULL: there is no such Service. */
const struct service *endpoints_service(
	const struct endpoints *e, const char *ns, const char *name);
/* In no order. */
void endpoints_for_each_service(
	const struct endpoints *e, void (*fn)(void *arg, const struct service *s), void *arg);

/* Strings are borrowed from the objects: until the next change. NULL where unknown. */
struct service_endpoint {
	struct ip ip;
	uint16_t port;
	bool ready, serving, terminating;
	const char *node, *hostname;
};

struct service_endpoints {
	const struct service_port *port; /* of the Service */
	VEC(struct service_endpoint) v;	 /* by address and port, each once */
};

/*
 * The endpoints of one of the Service's ports, both families, ready or not; port NULL: all of the
 * Service's, each address once, with port 0. Fills ret, which the caller has zeroed or used before, and
 * frees with service_endpoints_done().
 */
void endpoints_of_port(const struct endpoints *e, const struct service *s,
	const struct service_port *port, struct service_endpoints *ret);
void service_endpoints_done(struct service_endpoints *se);
