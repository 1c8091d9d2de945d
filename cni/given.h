/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What another IPAM plugin has given the attachments of this node: a file for each, from the plugin's answer until
 * right before it is asked to have the addresses back. So an address that is in a file is its attachment's, and
 * a repeated ADD is answered with it; and GC finds the attachments that are gone, of which no datastore says
 * which network they are of.
 */
#pragma once

#include "base/mem.h"
#include "base/vec.h"

struct err;

#define GIVEN_MAX 65536 /* bytes of a file */

struct given {
	char *network, *container_id, *ifname;
	char *args;   /* CNI_ARGS of the ADD */
	char *result; /* as the plugin said it */
};

void given_free(struct given *g);
AUTO_DEFINE(given, struct given *, given_free);

/* ENOENT: there is none. EINVAL: it makes no sense. */
int given_read(const char *network, const char *container_id, const char *ifname,
	struct given **ret, struct err *err);
int given_write(const struct given *g, struct err *err);
/* That there is none is success. */
int given_remove(
	const char *network, const char *container_id, const char *ifname, struct err *err);

struct given_list {
	VEC(struct given *) v;
};
/* Those of a network. What makes no sense is told in the log, and left out. */
int given_list(const char *network, struct given_list *ret, struct err *err);
void given_list_done(struct given_list *l);
