/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a resource is kept: Calico's etcd keys for Calico's kinds, /margay/v1/ for what has
 * Kubernetes' form. Names stand in keys as they are.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "model/kind.h"
#include "model/limits.h"

#define KEY_SIZE 1024 /* of any key, with the NUL */
#define KEY_NAME_SIZE 512
#define KEY_NAMESPACE_SIZE (MODEL_NAMESPACE_MAX + 1)

struct key {
	enum kind kind;
	char ns[KEY_NAMESPACE_SIZE]; /* "" for kinds that are not namespaced */
	char name[KEY_NAME_SIZE];
};

/*
 * "/calico/resources/v3/projectcalico.org/ippools/NAME"; ns is ignored where the kind has none.
 * Names that hold a "/" or are too long have no key: asserted, so validate first what a user gave.
 */
const char *key_format(enum kind kind, const char *ns, const char *name, char buf[static KEY_SIZE]);
#define key_str(kind, ns, name) key_format((kind), (ns), (name), (char[KEY_SIZE]){0})
/* What all keys of the kind (of one namespace: ns not NULL) begin with. */
const char *key_prefix(enum kind kind, const char *ns, char buf[static KEY_SIZE]);
/* False where the key is no resource's. */
bool key_parse(const char *key, struct key *ret);
/* Whether s can stand in a key. */
bool key_name_ok(const char *s);
