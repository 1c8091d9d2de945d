/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What addresses are given by, besides the blocks that have them: the pools and reservations, the configuration of IPAM,
 * the datastore's lock, this node, and which blocks are its. The monitor watches it: the keeper is woken when a pool or a
 * reservation is changed, or this node is deleted, and where the datastore is Kubernetes workers are told all of it
 * (snapshot.h), for an ADD that has to ask the datastore. A transaction of etcd's has it from the one before; there the
 * keeper's are watched alone.
 */
#pragma once

#include <stdint.h>

#include "model/ipam.h"
#include "model/key.h"
#include "store/store.h"

struct cni_home;
struct premises;
struct strbuf;

#define PREMISES_N 6

struct premises_prefixes {
	const char *v[PREMISES_N]; /* the keeper's first: of pools, reservations, this node */
	char affinities[IPAM_KEY_SIZE], node[KEY_SIZE]; /* two of them: no copy is made of it */
};
void premises_prefixes(const char *node, struct premises_prefixes *ret);

/* Both are borrowed; st has an event loop. */
struct premises *premises_new(struct store *st, const struct cni_home *home);
void premises_free(struct premises *p); /* NULL is harmless */

/* Adds all of it to out, for premises_read(). false: it is not known, or not what is there now. */
bool premises_write(const struct premises *p, struct strbuf *out);
/* ret->list is the caller's to store_list_done(); the prefixes are left to it. false: it is cut off. */
bool premises_read(const char *text, size_t len, struct store_told *ret);
