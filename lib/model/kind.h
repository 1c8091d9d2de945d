/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kinds of resources: what they are called, and where they are kept. What IPAM stores has no
 * such form: see ipam.h.
 */
#pragma once

#include <stdbool.h>

enum kind {
	KIND_NODE,
	KIND_IPPOOL,
	KIND_IPRESERVATION,
	KIND_IPAMCONFIGURATION,
	KIND_BGPCONFIGURATION,
	KIND_BGPPEER,
	KIND_FELIXCONFIGURATION,
	KIND_CLUSTERINFORMATION,
	KIND_WORKLOADENDPOINT,
	KIND_SERVICE,
	KIND_ENDPOINTSLICE,
	/* What Kubernetes alone has, for who must know more of it than Calico's resources tell. */
	KIND_POD,
	KIND_NAMESPACE,
};
#define N_KINDS (KIND_ENDPOINTSLICE + 1) /* that users apply and get */
#define N_KEYED_KINDS (KIND_NAMESPACE + 1)

struct kind_info {
	const char *name;	 /* "IPPool" */
	const char *plural;	 /* "ippools" */
	const char *aliases[4];	 /* "ipp", "pool" */
	const char *api_version; /* "projectcalico.org/v3" */
	const char *root;	 /* key prefix of all: "/calico/resources/v3/.../ippools/" */
	bool namespaced;
	bool read_only; /* calicoctl neither creates nor deletes it */
};

const struct kind_info *kind_info(enum kind kind);
/* Of the first N_KINDS: by name, plural or alias, in any case; false where there is none. */
bool kind_find(const char *name, enum kind *ret);
/* Likewise by the members `kind` and `apiVersion` as they stand in an object. */
bool kind_of(const char *name, const char *api_version, enum kind *ret);
