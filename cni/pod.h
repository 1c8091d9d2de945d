/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is known of a pod, and what is asked for it: by its annotations, by its Namespace's, and by the
 * network configuration, in this order. Of interfaces other than eth0 annotations say the pools alone.
 *
 * The Pod and the Namespace are the datastore's, where that is Kubernetes; else they are asked for in
 * Kubernetes where the configuration says so (policy.type k8s) and how to reach it. Elsewhere, and of
 * what is no pod of Kubernetes', nothing is known, and the configuration alone counts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/vec.h"
#include "cni/conf.h"
#include "model/pod.h"
#include "net/mac.h"
#include "net/prefix.h"

struct call;
struct err;

/*
 * Who keeps Pods and Namespaces in memory. find sets what it has, copies that are the caller's to free;
 * what it leaves is fetched, and a Pod of another uid than the runtime names, too.
 */
struct pod_source {
	void (*find)(void *arg, const char *namespace, const char *name, struct pod **ret_pod,
		struct namespace **ret_namespace);
	void *arg;
};

struct pod_wants {
	struct pod *pod; /* NULL: not known, as is the other */
	struct namespace *namespace;
	bool v4, v6;
	struct cni_texts pools_v4, pools_v6; /* names or CIDRs; none: any pool */
	VEC(struct ip) ips;		     /* these and no others, at most one of each family */
	bool no_ipam;			     /* they are of no pool, and none is taken from one */
	struct mac mac;			     /* zero: any */
	VEC(struct ip) floating;	     /* at most one of each family */
	VEC(struct prefix) sources;	     /* that it may send from besides its own; masked */
};

/* Returns 0 or a code. *ret is the caller's to pod_wants_done(), also after a failure. */
int pod_learn(struct call *c, struct pod_wants *ret, struct err *err);
/* For the IPAM plugin, which no annotation speaks to: the Namespace, and the configuration. */
int pod_learn_namespace(struct call *c, struct pod_wants *ret, struct err *err);
/* An address of the family is asked for. */
bool pod_will_have(const struct pod_wants *w, uint8_t family);
void pod_wants_done(struct pod_wants *w);
