/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An EndpointSlice, in the shape of discovery.k8s.io/v1: of its endpoints what somebody reads, as a
 * cluster has very many.
 */
#pragma once

#include <stdint.h>

#include "model/meta.h"
#include "net/ip.h"

#define LABEL_SERVICE_NAME "kubernetes.io/service-name"

struct endpoint {
	struct ip ip; /* the first: all of an endpoint lead to the same, and Kubernetes uses this */
	bool ready, serving, terminating; /* unset: true, true, false */
	char *node, *hostname;
};

struct endpoint_port {
	char *name;	  /* never NULL */
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP */
	uint16_t port;	  /* 0: unset */
};

struct endpointslice {
	struct meta meta; /* name and namespace alone */
	char *service;	  /* the label's value, NULL: of none */
	uint8_t family;	  /* enum ip_family; IP_NONE for names, which are left out */
	VEC(struct endpoint) endpoints;
	VEC(struct endpoint_port) ports;
};

int endpointslice_decode(
	const char *key, const char *text, size_t len, struct endpointslice **ret, struct err *err);
void endpointslice_free(struct endpointslice *s);
AUTO_DEFINE(endpointslice, struct endpointslice *, endpointslice_free);
