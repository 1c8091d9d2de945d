/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Resources in the datastore, as margayctl's verbs change them: write, and delete with what follows. */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "model/key.h"

struct err;
struct store;
struct svcalloc_conf;

enum write_mode {
	WRITE_APPLY,  /* create or update; j's resourceVersion does not count */
	WRITE_CREATE, /* EEXIST where it is there; EINVAL where j has a resourceVersion */
	WRITE_REPLACE, /* ENOENT where it is not; ESTALE where it has another resourceVersion than j */
};

/*
 * Fills in defaults, checks, allocates what a Service is due, and writes. *ret_key is written as soon
 * as it is known (else its name is ""). ns: where j has none.
 */
int resources_write(struct store *st, const struct svcalloc_conf *alloc, enum write_mode mode,
	json_t *j, const char *ns, struct key *ret_key, struct err *err);

/* With what Calico deletes along with it. ENOENT where it is not there. */
int resources_delete(struct store *st, const struct key *key, struct err *err);
