/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Objects of the Kubernetes API to values of the datastore and back. Pure.
 *
 * In crd.projectcalico.org/v1 an object's metadata stand in its annotation "projectcalico.org/metadata",
 * and its uid has the bits of its bytes reversed. What IPAM stores has other members than in etcd. A
 * Node is told from Kubernetes' Node and annotations of it, a WorkloadEndpoint from a Pod: these are
 * written by patches of the annotations.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/kube_key.h"

struct err;
struct store_kv;

/*
 * Reads obj. ret->rev is set in any case; ret->key is NULL where the object has no key (a pod that is
 * not scheduled, or has the host's network), ret->value where it counts as deleted. One that makes no
 * sense is there nonetheless, as unreadable: its value is a JSON string that says what is wrong, which no
 * reader of objects takes. A handle's key is then the object's name, which has no capitals. EINVAL: it is no object of the API. Free with store_kv_done().
 */
int kube_object_read(const struct kube_kind *kind, enum kube_group group, const json_t *obj,
	struct store_kv *ret, struct err *err);

/*
 * What to send: an object, or a merge patch for KUBE_NODE and KUBE_POD. rev: the revision that it
 * shall replace, 0 = none. The caller's.
 */
int kube_object_write(const struct kube_key *key, enum kube_group group, const char *text,
	size_t len, int64_t rev, json_t **ret, struct err *err);

/* Before obj, as it was written for a resource, replaces old: what others have put there stays. */
void kube_object_keep(json_t *obj, const json_t *old);
/* Whether an update is a patch, so that nothing has to be read before; else the whole is replaced. */
bool kube_object_is_patched(const struct kube_key *key);
/* Makes of the object that was written, with a revision, that patch. Returns its media type. */
const char *kube_object_patch(const struct kube_key *key, json_t **obj);

/* The patch by which an endpoint is deleted. */
json_t *kube_pod_clear(int64_t rev);

/* Of text that the API server has sent; NULL: it is no JSON. */
json_t *kube_json_load(const char *text, size_t len);

/* metadata.resourceVersion; 0 = absent, or no number. */
int64_t kube_revision(const json_t *obj);
