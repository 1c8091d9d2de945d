/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The use of addresses, as `ipam show` prints it: counted from pools, reservations and blocks. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/vec.h"
#include "ctl/table.h"
#include "net/prefix.h"

struct err;
struct ipam_block;
struct ipam_config;

struct usage_block {
	struct prefix cidr;
	double in_use, reserved; /* reserved: of those that are free */
};

struct usage {
	VEC(struct prefix) pools, reservations;
	VEC(struct usage_block) blocks;
};

/* An object of the store: an IPPool, an IPReservation or a block; reservations before blocks. */
int usage_add(struct usage *u, const char *key, const char *value, size_t len, struct err *err);
void usage_done(struct usage *u);
void usage_print(struct usage *u, bool with_blocks, FILE *out);
/* The same rows as a list of objects, with exact numbers. The caller's. */
char *usage_json(struct usage *u, bool with_blocks);

/* Whose ip is; false, and nothing, where it is nobody's. */
bool usage_print_ip(const struct ipam_block *b, const struct ip *ip, FILE *out);

/* Addresses that a node has of a block that is not its own, as `ipam show --show-borrowed` prints them. */
struct borrowed {
	struct table t;
	size_t n_unknown; /* addresses without a node */
};

void borrowed_init(struct borrowed *b);
void borrowed_done(struct borrowed *b);
void borrowed_add(struct borrowed *b, const struct ipam_block *block);
void borrowed_print(const struct borrowed *b, FILE *out);

/* As `ipam show --show-configuration` prints it. */
void config_print(const struct ipam_config *c, FILE *out);
