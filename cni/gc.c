/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/vec.h"
#include "cni/call.h"
#include "ipam/alloc.h"
#include "model/ipam.h"
#include "store/store.h"

/* The handle of an attachment that the runtime still has. */
static bool is_valid(const struct call *c, const char *handle)
{
	const struct cni_attachment *a;

	vec_for_each (&c->conf->attachments, a) {
		bool eth0 = strcmp(a->ifname, "eth0") == 0;
		auto_free char *h = mem_printf("%s.%s%s%s", c->conf->name, a->container_id,
			eth0 ? "" : ".", eth0 ? "" : a->ifname);

		if (strcmp(h, handle) == 0)
			return true;
	}
	return false;
}

/* Of this network and this node, by what its addresses say. */
static bool is_ours(const struct call *c, const struct ipam_block_attr *a)
{
	size_t n = strlen(c->conf->name);
	const struct ipam_kv *kv;

	if (!a->handle || strncmp(a->handle, c->conf->name, n) != 0 || a->handle[n] != '.')
		return false;
	vec_for_each (&a->secondary, kv)
		if (strcmp(kv->name, "node") == 0 && strcmp(kv->value, c->node) == 0)
			return true;
	return false;
}

static int release(struct call *c, const char *handle, struct err *err)
{
	struct ipam_request *rq = ipam_release_handle_new(handle, clock_real_ns());
	int e, r = call_ipam(c, rq, &e, err);

	ipam_request_free(rq);
	return e == -ENOENT ? 0 : r;
}

/* Every address of this node and network whose attachment the runtime does not have any more. */
int call_gc(struct call *c, struct err *err)
{
	struct store_list list;
	int code = 0, r;

	if (!c->conf->has_attachments) {
		err_set(err, -EINVAL,
			"netconf: cni.dev/valid-attachments is missing: without it nothing is garbage");
		return CNI_E_CONF;
	}
	code = call_open_store(c, err);
	if (code != 0)
		return code;
	r = store_list_wait(c->st, IPAM_KEY_BLOCKS, c->deadline_ms, &list, err);
	if (r < 0)
		return call_store_code(r);
	for (size_t i = 0; i < list.n; i++) {
		struct ipam_block *b;
		struct err e = ERR_INIT;

		if (ipam_block_decode(list.v[i].value, list.v[i].len, &b, NULL) < 0)
			continue;
		for (size_t k = 0; k < b->attrs.n; k++) {
			const struct ipam_block_attr *a = &b->attrs.v[k];

			if (!is_ours(c, a) || is_valid(c, a->handle))
				continue;
			r = release(c, a->handle, &e);
			if (r != 0 && code == 0) {
				code = r;
				if (err)
					*err = e;
			}
		}
		ipam_block_free(b);
	}
	store_list_done(&list);
	return code;
}
