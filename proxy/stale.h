/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * UDP connections that lead where nothing answers any more, gathered and then deleted: TCP notices by
 * itself, a flow of UDP follows its entry of the connection table for as long as its client sends.
 */
#pragma once

#include <stdint.h>

#include "kern/conntrack.h"

struct err;
struct stale;
struct vserver_key;

/* ct is borrowed; NULL: they are left. */
struct stale *stale_new(struct conntrack *ct);
void stale_free(struct stale *s);
/* Those to this virtual server which `from` answers; NULL: all of them. Nothing where it is not UDP. */
void stale_add(struct stale *s, const struct vserver_key *key, const struct ip *from);
/* Deletes what was added since it last succeeded. Returns how many there were, or an error. */
int stale_delete(struct stale *s, struct err *err);
