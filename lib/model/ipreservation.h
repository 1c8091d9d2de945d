/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calico's IPReservation: addresses that no pod is given by itself. */
#pragma once

#include "model/meta.h"
#include "net/prefix.h"

struct ipreservation {
	struct meta meta;
	VEC(struct prefix) cidrs; /* masked */
};

int ipreservation_decode(
	const char *key, const char *text, size_t len, struct ipreservation **ret, struct err *err);
void ipreservation_free(struct ipreservation *r);
AUTO_DEFINE(ipreservation, struct ipreservation *, ipreservation_free);
