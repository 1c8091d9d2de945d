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

struct seen {
	bool locked;
	bool ours; /* the endpoint is this container's */
};

/* What the datastore says, and the device is found by. */
static int look(struct call *c, void *arg, struct err *err)
{
	struct seen *s = arg;
	int code = call_heed_lock(c, &s->locked, err), r;

	if (code != 0)
		return code;
	r = c->k8s ? 0 : recall(c, err);
	if (r == 0)
		r = endpoint_find(c, &s->ours, err);
	return r < 0 ? call_store_code(r) : 0;
}

static int clear(struct call *c, void *arg, struct err *err)
{
	struct err e = ERR_INIT;

	(void)arg;
	int r = endpoint_delete(c, err), code = r < 0 ? call_store_code(r) : 0;

	r = c->given ? 0 : call_release(c, c->handle, &e);
	if (r != 0 && code == 0) {
		code = r;
		if (err)
			*err = e;
	}
	return code ?: call_heed_lock_after(c, err);
}

/*
 * The device goes whatever the datastore says, and first: the address is another pod's as soon as it is free
 * there. What is gone already is well: the runtime calls again until this answers well.
 */
static int del(struct call *c, struct err *err)
{
	struct err e = ERR_INIT;
	struct seen seen = {0};
	int code = call_txn(c, look, &seen, err), r;

	/* The address and the endpoint are being moved to another datastore: the pod is deleted there. */
	if (seen.locked)
		return code;
	r = delete_device(c, seen.ours, &e);
	if (r != 0 && code == 0 && err)
		*err = e;
	return code ?: r ?: call_txn(c, clear, NULL, err);
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
