/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What BIRD shall run on this node, as the value that the template bird.conf is rendered with: a pure
 * function of the datastore's objects.
 *
 * An object that cannot be rendered (a peer with a password that BIRD cannot write, two nodes with one
 * address) is named and left out; it blocks nothing else. IPv4.
 *
 * Per-block and per-node data stand in lists that become static routes and peers, never in filters:
 * BIRD compares filters as text, and a changed one makes it look at every route of every peer again.
 */
#pragma once

#include <jansson.h>

#include "base/mem.h"
#include "confd/problems.h"
#include "net/prefix.h"
#include "svc/bird.h"

struct bgp_config;
struct bgp_peer;
struct err;
struct ippool;
struct node;

/* Names in the templates that confd itself relies on. */
#define BGP_VIEW_KERNEL "kernel1"
#define BGP_VIEW_GENERATION "margay_generation"

/* Whether CALICO_ROUTER_ID may be that: "", "hash" or an IPv4 address; else EINVAL. */
int bgp_router_id_check(const char *value, struct err *err);
struct ip bgp_router_id_of_name(const char *nodename);

struct bgp_view_input {
	const char *nodename;
	const char *router_id;	  /* "" or NULL = the node's address; "hash" = of its name */
	struct bird_version bird; /* what it is for */
	uint8_t felix_protocol;	  /* of felix's routes */
	const struct node *const *nodes;
	size_t n_nodes;
	const struct bgp_config *const *configs; /* "default" and "node.NAME" */
	size_t n_configs;
	const struct bgp_peer *const *peers;
	size_t n_peers;
	const struct ippool *const *pools;
	size_t n_pools;
	const struct prefix *blocks; /* this node's confirmed affinities */
	size_t n_blocks;
	/* The text of a secret, borrowed until the next call; NULL: there is none. */
	const char *(*secret)(void *arg, const char *name, const char *key);
	void *secret_arg;
};

/*
 * *ret is the caller's. All arrays in it are sorted; the same input gives the same bytes, in whatever
 * order the objects come. ENOENT: this node is not in the datastore yet. EINVAL: router_id.
 */
int bgp_view(
	const struct bgp_view_input *in, json_t **ret, struct problems *problems, struct err *err);
