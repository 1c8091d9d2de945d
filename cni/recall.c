/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/recall.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/ipam.h"
#include "store/store.h"

static int get_block(struct store *st, const struct prefix *cidr, int64_t deadline_ms,
	struct ipam_block **ret, struct err *err)
{
	char key[IPAM_KEY_SIZE];
	struct store_kv kv;
	int r = store_get_wait(st, ipam_key_block(cidr, key), deadline_ms, &kv, err);

	if (r < 0)
		return r;
	/* One that cannot be read is release's to tell. */
	(void)ipam_block_decode(kv.value, kv.len, ret, NULL);
	store_kv_done(&kv);
	return 0;
}

int recall_pod(struct store *st, const char *handle, int64_t deadline_ms, char **ret_namespace,
	char **ret_pod, struct err *err)
{
	auto_(ipam_handle) struct ipam_handle *h = NULL;
	char key[IPAM_KEY_SIZE];
	struct store_kv kv;
	int r = store_get_wait(st, ipam_key_handle(handle, key), deadline_ms, &kv, err);

	*ret_namespace = *ret_pod = NULL;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	(void)ipam_handle_decode(kv.value, kv.len, &h, NULL);
	store_kv_done(&kv);
	for (size_t i = 0; r == 0 && h && i < h->blocks.n && !*ret_pod; i++) {
		auto_(ipam_block) struct ipam_block *b = NULL;
		const struct ipam_block_attr *a;

		r = get_block(st, &h->blocks.v[i].cidr, deadline_ms, &b, err);
		for (size_t k = 0; b && k < b->attrs.n && !*ret_pod; k++) {
			a = &b->attrs.v[k];
			if (a->handle && strcmp(a->handle, handle) == 0 &&
				ipam_block_attr_get(a, "pod") &&
				ipam_block_attr_get(a, "namespace")) {
				*ret_namespace = mem_strdup(ipam_block_attr_get(a, "namespace"));
				*ret_pod = mem_strdup(ipam_block_attr_get(a, "pod"));
			}
		}
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}
