/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calico's Node as a view of Kubernetes' Node, WorkloadEndpoints as one of Pods, Profiles as one of
 * Namespaces and ServiceAccounts: what is not in them stands in annotations. Pure; inside of kube_object.c.
 *
 * A pod is an endpoint where it has a node and a network of its own, in any phase; it has its addresses
 * until it is finished, or until the CNI plugin emptied its annotation.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

/* The Node. What annotations hold and makes no sense is as absent. The caller's. */
json_t *kube_view_node(const json_t *obj);
/* The merge patch that makes a Kubernetes Node look like this one: its annotations. */
json_t *kube_view_node_patch(const json_t *node);

/* The WorkloadEndpoint, NULL where the pod is none. */
json_t *kube_view_pod(const json_t *obj);
/* The merge patch of the pod's annotations; NULL: of an endpoint that is deleted. */
json_t *kube_view_pod_patch(const json_t *wep);
/* spec.qosControls, NULL where the annotations ask for none. The caller's. */
json_t *kube_view_qos(const json_t *annotations);

/* The Profile of a Namespace, or of a ServiceAccount; its uid is the object's. */
json_t *kube_view_profile(const json_t *obj, bool account);
