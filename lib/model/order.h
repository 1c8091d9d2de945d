/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside lib/model: which members Calico's objects have, in the order in which Go prints them. */
#pragma once

#include "model/kind.h"

#define ORDER_SORTED "*" /* a map: any members, sorted by name */

/*
 * The members of the object at path ("spec.bgp"; lists add nothing to it), separated by blanks; NULL
 * where nothing is known of it, "" where its members keep their order.
 */
const char *order_of(enum kind kind, const char *path);
