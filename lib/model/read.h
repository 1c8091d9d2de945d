/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside lib/model: reading members of JSON objects with one check at the end. The first failure
 * sticks; after it nothing is written any more. A member that is absent, null or, for text, ""
 * leaves its target as it is.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/json.h"
#include "model/kind.h"
#include "model/meta.h"
#include "net/mac.h"
#include "net/prefix.h"

struct read {
	int r; /* 0, or the first failure */
	struct err *err;
	char what[700]; /* "IPPool a" */
	char at[128];	/* "spec.ports[3]", of the object whose members are read */
};

/* Loads text, checks `kind` where it is there, and reads metadata. NULL: rd->r is set. */
json_t *read_resource(struct read *rd, enum kind kind, const char *key, const char *text,
	size_t len, struct meta *ret, struct err *err);

/* Fails with "what: at.name: got X, want ..."; got may be NULL. */
int read_fail(struct read *rd, const char *name, const json_t *got, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Sets where the next members are. */
void read_at(struct read *rd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* NULL where it is absent. Borrowed. */
json_t *read_object(struct read *rd, const json_t *obj, const char *name);
json_t *read_array(struct read *rd, const json_t *obj, const char *name);
const char *read_text(struct read *rd, const json_t *obj, const char *name); /* NULL also for "" */

void read_str(struct read *rd, const json_t *obj, const char *name, char **ret);
void read_bool(struct read *rd, const json_t *obj, const char *name, bool *ret);
void read_u32(struct read *rd, const json_t *obj, const char *name, uint32_t min, uint32_t max,
	uint32_t *ret);
void read_u16(struct read *rd, const json_t *obj, const char *name, uint16_t min, uint16_t *ret);
void read_ip(struct read *rd, const json_t *obj, const char *name, struct ip *ret);
/* family: what it has to be, IP_NONE = any */
void read_ip_of(
	struct read *rd, const json_t *obj, const char *name, uint8_t family, struct ip *ret);
void read_mac(struct read *rd, const json_t *obj, const char *name, struct mac *ret);
void read_duration(struct read *rd, const json_t *obj, const char *name, int64_t *ret_ms);
void read_as(struct read *rd, const json_t *obj, const char *name, uint32_t *ret);
/* The index of the text in words, which ends with NULL. */
void read_enum(struct read *rd, const json_t *obj, const char *name, const char *const *words,
	unsigned *ret);
/* IPPROTO_TCP where it is absent. */
void read_protocol(struct read *rd, const json_t *obj, uint8_t *ret);
void read_strings(struct read *rd, const json_t *obj, const char *name, struct strings *ret);
void read_labels(struct read *rd, const json_t *obj, const char *name, struct labels *ret);

/* One element of a list, as text; name is the list's. */
bool read_element_prefix(struct read *rd, const json_t *e, const char *name, struct prefix *ret);
bool read_element_ip(struct read *rd, const json_t *e, const char *name, struct ip *ret);
