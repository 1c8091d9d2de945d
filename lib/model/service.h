/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A Service, in Kubernetes' shape. */
#pragma once

#include <stdint.h>

#include "model/meta.h"
#include "net/prefix.h"

enum service_type {
	SERVICE_CLUSTER_IP,
	SERVICE_NODE_PORT,
	SERVICE_LOAD_BALANCER,
	SERVICE_EXTERNAL_NAME,
};

struct service_port {
	char *name;	  /* never NULL: "" for the only one */
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP */
	uint16_t port;
	uint16_t node_port;   /* 0: none */
	uint16_t target_port; /* 0: target_name has it; the same as port where unset */
	char *target_name;    /* NULL: target_port has it */
};

struct service {
	struct meta meta;
	enum service_type type;
	bool headless;		    /* clusterIP None */
	VEC(struct ip) cluster_ips; /* empty: none yet, or headless */
	VEC(struct service_port) ports;
	bool has_selector;
	struct labels selector;
	VEC(struct ip) external_ips;
	VEC(struct ip) lb_ips; /* status.loadBalancer.ingress with ipMode VIP */
	VEC(struct prefix) lb_source_ranges;
	uint32_t affinity_s;		     /* sessionAffinity ClientIP: its timeout; 0 = none */
	bool internal_local, external_local; /* traffic policies; false = Cluster */
	uint16_t health_check_node_port;
	bool publish_not_ready;
	char *external_name;
};

int service_decode(
	const char *key, const char *text, size_t len, struct service **ret, struct err *err);
/* Knows cluster_ips, type, and the ports' node_port; the rest is base's, which is not NULL. */
char *service_encode(const struct service *s, const char *base);
void service_free(struct service *s);
AUTO_DEFINE(service, struct service *, service_free);
