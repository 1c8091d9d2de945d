/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One attempt by what is known of a datastore (store_known_begin()). Who makes it has been told of some objects by a
 * watch, and these are read alone: what is to be written there, or is not known, ends the attempt. Others were read or
 * written last by the same process, and are written by their revision, by which it shows whether that was right.
 */
#pragma once

#include "base/list.h"
#include "base/vec.h"
#include "store/store.h"

struct store_known {
	const struct store_told *told; /* NULL: there is no attempt, or it has ended */
	VEC(char *) new_keys;	       /* what is taken to be not there */
	struct list kept;	       /* what was read or written last comes first */
	uint64_t life;		       /* of what told of the datastore when these were */
};

/* Any operation of store.h; told or done. ret is the caller's, with rev as a write's, too. */
int known_do(
	struct store *st, const struct store_req *req, struct store_list *ret, struct err *err);
void known_expect_new(struct store *st, const char *key);
void known_free(struct store_known *k); /* NULL is harmless */
