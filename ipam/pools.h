/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which pools an assignment may use. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/vec.h"
#include "ipam/alloc.h"
#include "net/prefix.h"

struct err;

struct pool {
	char *name;
	struct prefix cidr;
	uint8_t block_plen;
	bool enabled;	/* neither disabled, nor on its way out, nor refused */
	bool automatic; /* assignmentMode */
	bool use_workload, use_tunnel, use_loadbalancer;
	char *node_selector, *namespace_selector; /* NULL: all() */
};

int pool_decode(const char *key, const char *text, size_t len, struct pool **ret, struct err *err);
void pool_free(struct pool *p);
bool pool_allows(const struct pool *p, enum ipam_use use);

/* An IPReservation's prefixes. */
struct reservation {
	VEC(struct prefix) cidrs;
};
int reservation_decode(const char *text, size_t len, struct reservation **ret, struct err *err);
void reservation_free(struct reservation *r);

/* A Node's labels. */
struct node_labels {
	VEC(struct ipam_attr) v; /* names and values are its own */
};
int node_labels_decode(const char *text, size_t len, struct node_labels **ret, struct err *err);
void node_labels_free(struct node_labels *l);

/* Selector text needs no labels to be known: empty, or all(). */
bool pool_selector_is_all(const char *selector);
/* labels NULL: there are none. A selector that cannot be parsed matches nothing. */
bool pool_selects(const char *selector, const struct node_labels *labels);
