/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calico's FelixConfiguration: some 200 settings, most of one text or number. Here they are text by
 * name, and what they mean is in the table of whoever uses them: `ipipMTU` is FELIX_IPIPMTU there.
 */
#pragma once

#include "model/meta.h"

/* "default", "node.NAME", or any name where spec.nodeSelector is set. */
struct felix_config {
	struct meta meta;
	char *node_selector;
	struct labels
		values; /* the members of spec that are no list or object; true, 1440, "90s" */
};

int felix_config_decode(
	const char *key, const char *text, size_t len, struct felix_config **ret, struct err *err);
void felix_config_free(struct felix_config *c);
AUTO_DEFINE(felix_config, struct felix_config *, felix_config_free);
/* The value of a member of spec as text, NULL where it is absent. Borrowed. */
const char *felix_config_get(const struct felix_config *c, const char *member);
