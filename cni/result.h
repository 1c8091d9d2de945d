/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The JSON that CNI runtimes read: results in every version of the format, errors, and the answer
 * to VERSION.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/vec.h"
#include "net/mac.h"
#include "net/prefix.h"

struct err;
struct json_t;
struct strbuf;

/* In the specification's order. */
enum cni_version {
	CNI_0_1_0,
	CNI_0_2_0,
	CNI_0_3_0,
	CNI_0_3_1,
	CNI_0_4_0,
	CNI_1_0_0,
	CNI_1_1_0,
	CNI_N_VERSIONS,
};

/* The specification's codes, and ours from 100 on. */
enum cni_code {
	CNI_OK = 0,
	CNI_E_VERSION = 1,
	CNI_E_FIELD = 2,
	CNI_E_CONTAINER = 3,
	CNI_E_ENV = 4,
	CNI_E_IO = 5,
	CNI_E_DECODE = 6,
	CNI_E_CONF = 7,
	CNI_E_NETNS = 8, /* of the reference library */
	CNI_E_AGAIN = 11,
	CNI_E_UNAVAILABLE = 50,
	CNI_E_STORE = 100,	/* the datastore refused */
	CNI_E_NO_ADDRESS = 101, /* no pool has a free address, or not the one asked for */
	CNI_E_KERNEL = 102,	/* the kernel refused */
	CNI_E_CHECK = 103,	/* the network is not what ADD made */
	CNI_E_INTERNAL = 199,
};

const char *cni_version_str(enum cni_version v);
/* Returns 0 or CNI_E_VERSION, naming the versions that are spoken. */
int cni_version_parse(const char *s, enum cni_version *ret, struct err *err);

struct cni_interface {
	char name[16];
	struct mac mac;
	char *sandbox; /* NULL: the host's */
	uint32_t mtu;  /* 0: not said */
};

struct cni_ip {
	struct prefix address;
	struct ip gateway;
	int interface; /* index into interfaces, -1: none */
};

struct cni_route {
	struct prefix dst;
	struct ip gw; /* IP_NONE: none */
};

struct cni_result {
	VEC(struct cni_interface) interfaces;
	VEC(struct cni_ip) ips;
	VEC(struct cni_route) routes;
	struct json_t *dns; /* an object, as it was said; NULL: empty */
};

struct cni_result *cni_result_new(void);
void cni_result_free(struct cni_result *r);
/* prevResult of any version. Returns 0 or CNI_E_CONF. */
int cni_result_decode(const struct json_t *j, struct cni_result **ret, struct err *err);
/* Indented JSON with a final newline, in the format of version v. */
void cni_result_print(const struct cni_result *r, enum cni_version v, struct strbuf *out);

void cni_error_print(
	enum cni_version v, int code, const char *msg, const char *details, struct strbuf *out);
void cni_versions_print(enum cni_version asked, struct strbuf *out);
