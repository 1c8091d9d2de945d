/* SPDX-License-Identifier: GPL-2.0-or-later */
/* margayctl version */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "ctl/ctl.h"
#include "model/cluster.h"
#include "model/key.h"
#include "store/store.h"

int verb_version(struct ctl *c, int argc, char **argv)
{
	auto_(cluster_info) struct cluster_info *info = NULL;
	struct store_kv kv = {0};
	struct err err = ERR_INIT;
	char key[KEY_SIZE];
	int r;

	if (argc > 1) {
		ctl_warn("version: \"%s\": no argument is wanted", argv[1]);
		return verb_misused("version");
	}
	printf("Client Version:   " MARGAY_VERSION "\n");
	if (!ctl_store(c, false))
		return EXIT_FAILURE;
	r = store_get_wait(
		c->st, key_format(KIND_CLUSTERINFORMATION, NULL, "default", key), 0, &kv, &err);
	if (r == 0)
		r = cluster_info_decode(key, kv.value, kv.len, &info, &err);
	store_kv_done(&kv);
	if (r == -ENOENT) {
		printf("Cluster:          none yet: margay-felix makes its ClusterInformation\n");
		return EXIT_SUCCESS;
	}
	if (!info)
		return ctl_fail(&err);
	printf("Cluster Version:  %s\n",
		info->version ? info->version : "not set (calicoctl of any version takes it)");
	printf("Cluster Type:     %s\n", info->type ? info->type : "unknown");
	return EXIT_SUCCESS;
}
