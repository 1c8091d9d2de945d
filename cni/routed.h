/* SPDX-License-Identifier: GPL-2.0-or-later */
/* To which addresses a route of this machine leads: a pod has them, whatever is written anywhere. */
#pragma once

#include <stdbool.h>

#include "base/vec.h"
#include "net/prefix.h"

struct err;

struct routed {
	VEC(struct ip) v; /* sorted */
};

int routed_load(struct routed *ret, struct err *err);
void routed_done(struct routed *s);
bool routed_has(const struct routed *s, const struct ip *ip);
