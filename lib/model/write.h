/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside lib/model: building a resource's JSON on top of the text it was decoded from. Setting an
 * unset value takes the member out, as Go's omitempty does.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/kind.h"
#include "model/meta.h"
#include "net/mac.h"
#include "net/prefix.h"

/* base's object, or an empty one: base has been decoded before. With kind, apiVersion, metadata. */
json_t *write_resource(enum kind kind, const char *base, const struct meta *m);
/* The member, which is made where it is absent. Borrowed. */
json_t *write_object(json_t *obj, const char *name);
/* value is taken; NULL takes the member out. */
void write_json(json_t *obj, const char *name, json_t *value);
void write_str(json_t *obj, const char *name, const char *s);
void write_true(json_t *obj, const char *name, bool on);
void write_u32(json_t *obj, const char *name, uint32_t v);
void write_ip(json_t *obj, const char *name, const struct ip *ip);
void write_prefix(json_t *obj, const char *name, const struct prefix *p);
void write_mac(json_t *obj, const char *name, const struct mac *m);
void write_labels(json_t *obj, const char *name, const struct labels *l);
void write_strings(json_t *obj, const char *name, const struct strings *s);
/* resource_encode(), and drops j. */
char *write_text(json_t *j, enum kind kind);
const char *protocol_str(uint8_t protocol);
