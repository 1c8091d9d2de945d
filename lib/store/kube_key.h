/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which object of the Kubernetes API a key of the datastore names, and in which form it is there.
 * Pure: kube_object.c has the values.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "model/limits.h"
#include "net/prefix.h"

struct err;

/* Which group has Calico's resources. */
enum kube_group {
	KUBE_CRD_V1,
	KUBE_NATIVE_V3
}; /* crd.projectcalico.org/v1, projectcalico.org/v3 */

enum kube_form {
	KUBE_RESOURCE, /* Calico's resource */
	KUBE_POLICY,   /* one whose name stands in the annotation as well */
	KUBE_BLOCK,
	KUBE_AFFINITY,
	KUBE_HANDLE,
	KUBE_IPAM_CONFIG,   /* the configuration as IPAM has it, and ... */
	KUBE_IPAM_RESOURCE, /* ... as a resource: one object */
	KUBE_NODE,	    /* a view of Kubernetes' Node */
	KUBE_POD,	    /* a view of a Pod: WorkloadEndpoint */
	KUBE_NAMESPACE,	    /* a view of a Namespace, read only: Profile kns.NAMESPACE */
	KUBE_ACCOUNT,	    /* and of a ServiceAccount: Profile ksa.NAMESPACE.NAME */
	KUBE_CORE,	    /* an object of Kubernetes' own, read only */
};

struct kube_kind {
	const char *root; /* what its keys begin with */
	enum kube_form form;
	const char *name, *plural;
	const char *api;		 /* "v1", "discovery.k8s.io/v1"; NULL = Calico's group */
	const char *v3_name, *v3_plural; /* in KUBE_NATIVE_V3, where they differ */
	bool namespaced;
	bool other_form; /* what is kept under other keys as well: no root of its own */
};

#define KUBE_N_KINDS 33
extern const struct kube_kind kube_kinds[KUBE_N_KINDS];

/* What a key names, or what all keys that begin with a prefix have in common; "" = anything. */
struct kube_key {
	const struct kube_kind *kind;
	char ns[MODEL_NAMESPACE_MAX + 1];
	char name[MODEL_NAME_MAX + 1]; /* the object's; "" in a prefix */
	char host[MODEL_NAME_MAX +
		  1];	    /* affinities: whose; pods: the node; handles: their spelling */
	bool virtual;	    /* affinities: no node's, but of type "virtual" */
	struct prefix cidr; /* blocks and affinities */
};

/* EINVAL: no object of the API can have this key. */
int kube_key_parse(const char *key, struct kube_key *ret, struct err *err);
int kube_prefix_parse(const char *prefix, struct kube_key *ret, struct err *err);

/* "10.244.0.0/26" is "10-244-0-0-26". Returns buf. */
const char *kube_cidr_name(const struct prefix *cidr, char buf[static PREFIX_TEXT_SIZE]);

const char *kube_kind_name(const struct kube_kind *kind, enum kube_group group);
const char *kube_api_version(const struct kube_kind *kind, enum kube_group group);
/* "/apis/crd.projectcalico.org/v1/ippools", of one namespace unless ns is "", of one object unless
 * name is "". The caller's. */
char *kube_path(
	const struct kube_kind *kind, enum kube_group group, const char *ns, const char *name);

/* The value of the label "projectcalico.org/hostname-hash". Returns buf. */
#define KUBE_HOST_HASH_SIZE 53
const char *kube_host_hash(const char *host, char buf[static KUBE_HOST_HASH_SIZE]);
