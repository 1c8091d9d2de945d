/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>

#include "base/err.h"
#include "cni/call.h"
#include "cni/device.h"
#include "cni/endpoint.h"

static int delete_device(struct call *c, bool ours, struct err *err)
{
	int r = call_open_pod(c, err) ?: call_open_host(c, err);

	if (r != 0)
		return r;
	return device_delete(c, ours, err) < 0 ? CNI_E_KERNEL : 0;
}

/*
 * Every step is tried, whatever the others say, and what is gone already is well: the runtime calls
 * again until this answers well.
 */
int call_del(struct call *c, struct err *err)
{
	struct err first = ERR_INIT, e = ERR_INIT;
	bool ours = false;
	int code, r;

	code = call_open_store(c, &first);
	if (code == 0) {
		r = endpoint_delete(c, &ours, &first);
		code = r < 0 ? call_store_code(r) : 0;
	}
	r = delete_device(c, ours, &e);
	if (r != 0 && code == 0) {
		code = r;
		first = e;
	}
	r = call_ipam_del(c, &e);
	if (r != 0 && code == 0) {
		code = r;
		first = e;
	}
	if (code != 0 && err)
		*err = first;
	return code;
}

int call_ipam_del(struct call *c, struct err *err)
{
	return call_release(c, c->handle, err);
}
