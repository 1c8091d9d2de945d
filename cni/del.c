/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "cni/call.h"
#include "cni/device.h"
#include "cni/endpoint.h"
#include "model/ipam.h"
#include "store/store.h"

static int delete_device(struct call *c, bool ours, struct err *err)
{
	int r = call_open_pod(c, err) ?: call_open_host(c, err);

	if (r != 0)
		return r;
	return device_delete(c, ours, err) < 0 ? CNI_E_KERNEL : 0;
}

static int get_block(
	struct call *c, const struct prefix *cidr, struct ipam_block **ret, struct err *err)
{
	char key[IPAM_KEY_SIZE];
	struct store_kv kv;
	int r = store_get_wait(c->st, ipam_key_block(cidr, key), c->deadline_ms, &kv, err);

	if (r < 0)
		return r;
	/* One that cannot be read is release's to tell. */
	(void)ipam_block_decode(kv.value, kv.len, ret, NULL);
	store_kv_done(&kv);
	return 0;
}

/*
 * A runtime may not give ADD's CNI_ARGS again, by which the endpoint and the device have their names:
 * whose the address is, stands beside it. Else it would be another's while this pod still has it.
 */
static int recall_pod(struct call *c, struct err *err)
{
	auto_(ipam_handle) struct ipam_handle *h = NULL;
	char key[IPAM_KEY_SIZE];
	struct store_kv kv;
	int r = store_get_wait(c->st, ipam_key_handle(c->handle, key), c->deadline_ms, &kv, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	(void)ipam_handle_decode(kv.value, kv.len, &h, NULL);
	store_kv_done(&kv);
	for (size_t i = 0; r == 0 && h && i < h->blocks.n && !c->k8s; i++) {
		auto_(ipam_block) struct ipam_block *b = NULL;
		const struct ipam_block_attr *a;

		r = get_block(c, &h->blocks.v[i].cidr, &b, err);
		for (size_t k = 0; b && k < b->attrs.n && !c->k8s; k++) {
			a = &b->attrs.v[k];
			if (a->handle && strcmp(a->handle, c->handle) == 0 &&
				ipam_block_attr_get(a, "pod") &&
				ipam_block_attr_get(a, "namespace"))
				call_set_pod(c, ipam_block_attr_get(a, "namespace"),
					ipam_block_attr_get(a, "pod"));
		}
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}

/*
 * Every step is tried, whatever the others say, and what is gone already is well: the runtime calls
 * again until this answers well.
 */
int call_del(struct call *c, struct err *err)
{
	struct err first = ERR_INIT, e = ERR_INIT;
	bool ours = false, locked = false, open;
	int code, r;

	code = call_heed_lock(c, &locked, &first);
	open = code == 0;
	/* The address and the endpoint are being moved to another datastore: the pod is deleted there. */
	if (locked) {
		if (err)
			*err = first;
		return code;
	}
	if (open) {
		r = c->k8s ? 0 : recall_pod(c, &first);
		if (r == 0)
			r = endpoint_delete(c, &ours, &first);
		code = r < 0 ? call_store_code(r) : 0;
	}
	r = delete_device(c, ours, &e);
	if (r != 0 && code == 0) {
		code = r;
		first = e;
	}
	/* Where the lock could not be read it may be locked. */
	r = open ? call_release(c, c->handle, &e) : 0;
	if (r != 0 && code == 0) {
		code = r;
		first = e;
	}
	if (code == 0)
		code = call_heed_lock(c, NULL, &first);
	if (code != 0 && err)
		*err = first;
	return code;
}

int call_ipam_del(struct call *c, struct err *err)
{
	return call_heed_lock(c, NULL, err)
		       ?: call_release(c, c->handle, err)
		       ?: call_heed_lock(c, NULL, err);
}
