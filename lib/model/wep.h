/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calico's WorkloadEndpoint: one interface of one pod. Its name follows from node, orchestrator,
 * workload and endpoint, so that whoever knows those finds it with one get.
 */
#pragma once

#include <stdint.h>

#include "model/meta.h"
#include "net/mac.h"
#include "net/prefix.h"

#define WEP_VETH_SIZE 16

struct wep_port {
	char *name;
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP */
	uint16_t port, host_port;
	char *host_ip; /* "" or an address */
};

/* A floating address, and the pod's own that it leads to. */
struct wep_nat {
	struct ip internal, external;
};

struct wep {
	struct meta meta;
	char *generate_name; /* metadata.generateName: of the pod */
	char *orchestrator;  /* "k8s", "cni", ... */
	char *workload, *node, *container_id, *pod, *endpoint, *service_account;
	VEC(struct prefix) networks; /* each /32 or /128 */
	VEC(struct wep_nat) nats;
	struct ip gateway4, gateway6;
	struct strings profiles;
	char *interface; /* on the host's side */
	struct mac mac;	 /* zero: unset */
	VEC(struct wep_port) ports;
	VEC(struct prefix) spoofed; /* allowSpoofedSourcePrefixes */
};

/* Everything empty but the namespace. */
struct wep *wep_new(const char *ns);
int wep_decode(const char *key, const char *text, size_t len, struct wep **ret, struct err *err);
char *wep_encode(const struct wep *w, const char *base);
void wep_free(struct wep *w);
AUTO_DEFINE(wep, struct wep *, wep_free);

/*
 * "node--1-k8s-web--0-eth0": for "k8s" id is the pod, for "cni" the container's ID, else the
 * workload. EINVAL: a part is empty or begins or ends with "-". The result is the caller's.
 */
int wep_name(const char *node, const char *orchestrator, const char *id, const char *endpoint,
	char **ret, struct err *err);
/*
 * "k8s default%2Fweb eth0": Calico's name of the file that says that a pod's endpoint is up. The result is the
 * caller's. Of the endpoint that has this key; NULL: it is of no pod.
 */
char *wep_status_name(const char *ns, const char *pod, const char *endpoint);
char *wep_status_name_of(const char *key);
/* prefix and the first 11 hexadecimal digits of SHA-1 of `of`; Calico's are of "ns.pod". */
const char *wep_veth_name(const char *prefix, const char *of, char buf[static WEP_VETH_SIZE]);
