/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `node status` makes of BIRD's protocols. */
#pragma once

struct bird_protocols;
struct table;

/* Initialises t: a heading, and a row for each BGP session of the family (enum ip_family). */
void node_add_sessions(struct table *t, const struct bird_protocols *ps, int family);
