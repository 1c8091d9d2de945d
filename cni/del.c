/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cni/call.h"
#include "cni/device.h"
#include "cni/endpoint.h"
#include "cni/recall.h"
#include "cni/reserved.h"
#include "store/store.h"

static int delete_device(struct call *c, bool ours, struct err *err)
{
	int r = call_open_pod(c, err) ?: call_open_host(c, err);

	if (r != 0)
		return r;
	return device_delete(c, ours, err) < 0 ? CNI_E_KERNEL : 0;
}

/*
 * A runtime may not give ADD's CNI_ARGS again, by which the endpoint and the device have their names:
 * whose the address is, stands beside it. Else it would be another's while this pod still has it.
 */
static int recall(struct call *c, struct err *err)
{
	auto_free char *namespace = NULL, *pod = NULL;
	int r = recall_pod(c->st, c->handle, c->deadline_ms, &namespace, &pod, err);

	if (r == 0 && pod)
		call_set_pod(c, namespace, pod);
	return r;
}

/*
 * Every step is tried, whatever the others say, and what is gone already is well: the runtime calls
 * again until this answers well.
 */
static int del(struct call *c, struct err *err)
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
		r = c->k8s ? 0 : recall(c, &first);
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

/*
 * The device first: the address is another pod's as soon as the journal has it back. The rest is done in the
 * datastore by and by.
 */
static int del_by_journal(struct call *c, struct err *err)
{
	bool ours = reserved_recall(c);
	int r = delete_device(c, ours, err);

	if (r != 0)
		return r;
	return reserved_give_back(c, err) < 0 ? CNI_E_AGAIN : 0;
}

int call_del(struct call *c, struct err *err)
{
	return c->journal ? del_by_journal(c, err) : del(c, err);
}

int call_ipam_del(struct call *c, struct err *err)
{
	if (c->journal)
		return reserved_give_back(c, err) < 0 ? CNI_E_AGAIN : 0;
	return call_heed_lock(c, NULL, err)
		       ?: call_release(c, c->handle, err)
		       ?: call_heed_lock(c, NULL, err);
}
