/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/cluster.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "model/cluster.h"
#include "store/lock.h"
#include "store/store.h"

int cluster_guid(struct store *st, int64_t deadline_ms, char **ret, struct err *err)
{
	auto_(cluster_info) struct cluster_info *c = NULL;
	struct store_kv kv;
	int r = store_get_wait(st, STORE_LOCK_KEY, deadline_ms, &kv, err);

	if (r == 0) {
		r = cluster_info_decode(STORE_LOCK_KEY, kv.value, kv.len, &c, err);
		store_kv_done(&kv);
	}
	if (r < 0 && r != -ENOENT)
		return r;
	*ret = mem_strdup(c && c->guid ? c->guid : "");
	return 0;
}
