/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Resources of any kind as JSON: what is done to what a user or a daemon gives before it is stored.
 *
 *	resource_identify	which kind, namespace and name
 *	resource_default	what Calico fills in at create and update
 *	resource_validate	what Calico refuses, by member, with what was wanted
 *	resource_encode		Calico's order of members, Go's text
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "model/key.h"

struct err;

/* EINVAL: no object of this kind may be called so. */
int resource_check_name(enum kind kind, const char *name, struct err *err);
/* EINVAL: no such kind, no name, a name that is no name. ns: where the object has none. */
int resource_identify(const json_t *j, const char *ns, struct key *ret, struct err *err);

/*
 * Fills in defaults, and at create (old NULL) uid and creationTimestamp; at update these are old's, and
 * so is a status that j does not have. What a store keeps elsewhere (resourceVersion) is taken out. random: 16 bytes, for the uid.
 */
void resource_default(json_t *j, const struct key *key, const json_t *old,
	const uint8_t random[static 16], int64_t now_ns);

/* The others of its kind that an object may clash with: for an IPPool all pools. */
struct resource_others {
	const struct resource_other {
		const char *key, *text; /* JSON */
	} * v;				/* may include the object itself */
	size_t n;
};

/* EINVAL names the member: got, wanted. old NULL: create. others may be NULL. */
int resource_validate(const json_t *j, const struct key *key, const json_t *old,
	const struct resource_others *others, struct err *err);

/* The caller's to free. */
char *resource_encode(const json_t *j, enum kind kind);
