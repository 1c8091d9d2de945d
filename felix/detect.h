/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which of the host's addresses are the node's, in Calico's terms (IP, IP_AUTODETECTION_METHOD). */
#pragma once

#include <jansson.h>
#include <regex.h>
#include <stdint.h>

#include "net/prefix.h"

struct err;
struct rt;

/* The NAME of can-reach=NAME, for which an address is to be put; NULL: there is none. Borrowed. */
const char *detect_name(const char *method);
/* The method that takes the InternalIP which Kubernetes' Node has. */
#define DETECT_INTERNAL_IP "kubernetes-internal-ip"
/*
 * method: "first-found", "interface=RE,RE", "skip-interface=RE,RE", "cidr=CIDR,CIDR" or
 * "can-reach=ADDRESS"; "" = first-found. *ret has the prefix length of the interface. ENOENT: no
 * address fits; EINVAL: no such method.
 */
int detect_address(struct rt *rt, const char *method, enum ip_family family, struct prefix *ret,
	struct err *err);
/* As IP is given: "10.0.0.1/24", or without a length that of the interface which has it, else a host's. */
int detect_given(struct rt *rt, const char *text, struct prefix *ret, struct err *err);
/* The interfaces that may have the node's address, and theirs: Node's spec.interfaces. Not own: a prefix. */
int detect_interfaces(struct rt *rt, const char *own, json_t **ret, struct err *err);
/* Whether the method could be one. EINVAL with the methods there are. */
int detect_check(const char *method, struct err *err);
/* The names of the interfaces whose MTU is the host's, as Calico has them. */
#define DETECT_HOST_LINKS "^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)"
/* The smallest MTU of the interfaces that are up and have such a name; 0: none. */
struct ifaces;
uint32_t detect_host_mtu(const struct ifaces *is, const regex_t *host_links);
