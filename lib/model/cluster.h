/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calico's ClusterInformation `default`. */
#pragma once

#include "model/meta.h"

struct cluster_info {
	struct meta meta;
	char *guid;    /* 32 hexadecimal digits */
	char *type;    /* comma-separated */
	char *version; /* calicoVersion: calicoctl refuses to work with another than its own */
	bool ready;    /* datastoreReady; false where unset */
};

struct cluster_info *cluster_info_new(void); /* "default" */
int cluster_info_decode(
	const char *key, const char *text, size_t len, struct cluster_info **ret, struct err *err);
char *cluster_info_encode(const struct cluster_info *c, const char *base);
void cluster_info_free(struct cluster_info *c);
AUTO_DEFINE(cluster_info, struct cluster_info *, cluster_info_free);
