/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/lock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "model/json.h"
#include "model/meta.h"
#include "model/resource.h"
#include "store/store.h"

#define TRIES 8

bool store_lock_in(const char *value, size_t len)
{
	auto_(json) json_t *j = json_loadb(value, len, 0, NULL);

	return json_is_false(json_object_get(json_object_get(j, "spec"), "datastoreReady"));
}

int store_lock_check_wait(
	struct store *st, int64_t deadline_ms, enum store_lock *ret, struct err *err)
{
	struct store_kv kv = {0};
	int r = store_get_wait(st, STORE_LOCK_KEY, deadline_ms, &kv, err);
	enum store_lock lock = STORE_UNUSED;

	if (r == 0)
		lock = store_lock_in(kv.value, kv.len) ? STORE_LOCKED : STORE_OPEN;
	store_kv_done(&kv);
	if (ret)
		*ret = lock;
	if (lock == STORE_LOCKED)
		return err_set(err, -EHOSTUNREACH,
			"datastore %s is locked (ClusterInformation default: datastoreReady is false), "
			"as while it is moved to another; where nobody moves it any more: margayctl "
			"datastore unlock",
			store_name(st));
	return r == -ENOENT ? 0 : r;
}

/* Everything else of it stays. */
static char *with_lock(const struct store_kv *kv, bool locked, struct err *err)
{
	auto_(json) json_t *j = model_json_load(kv->key, kv->value, kv->len, err);

	if (!j)
		return NULL;
	if (!json_is_object(json_object_get(j, "spec")))
		json_object_set_new(j, "spec", json_object());
	json_object_set_new(json_object_get(j, "spec"), "datastoreReady", json_boolean(!locked));
	return resource_encode(j, KIND_CLUSTERINFORMATION);
}

/* A ClusterInformation that says nothing else: margay-felix completes it. */
static char *new_lock(void)
{
	struct meta m = {0};
	uint8_t random[16];
	char *text;
	json_t *j;

	mem_random(random, sizeof(random));
	meta_identify(&m, random, clock_real_ns());
	j = json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:{s:b}}", "kind", "ClusterInformation",
		"apiVersion", "projectcalico.org/v3", "metadata", "name", "default", "uid", m.uid,
		"creationTimestamp", m.created, "spec", "datastoreReady", 0);
	text = resource_encode(j, KIND_CLUSTERINFORMATION);
	json_decref(j);
	meta_done(&m);
	return text;
}

static int set(struct store *st, bool locked, bool make, int64_t deadline_ms, struct err *err)
{
	bool unsure = false;
	int r = -ESTALE;

	for (int i = 0; i < TRIES && (r == -ESTALE || r == -EEXIST || r == -ETIMEDOUT); i++) {
		auto_free char *text = NULL;
		struct store_kv kv = {0};

		r = store_get_wait(st, STORE_LOCK_KEY, deadline_ms, &kv, err);
		if (r == 0 && store_lock_in(kv.value, kv.len) == locked) {
			store_kv_done(&kv);
			return unsure;
		}
		if (r == 0) {
			text = with_lock(&kv, locked, err);
			r = text ? store_update_wait(
					   st, STORE_LOCK_KEY, text, kv.rev, deadline_ms, NULL, err)
				 : -EINVAL;
			unsure |= r == -ETIMEDOUT;
		} else if (r == -ENOENT && make) {
			text = new_lock();
			r = store_create_wait(st, STORE_LOCK_KEY, text, deadline_ms, NULL, err);
			unsure |= r == -ETIMEDOUT;
		} else if (r == -ETIMEDOUT && !unsure) {
			r = err->code = -EHOSTUNREACH; /* nothing was written */
		}
		store_kv_done(&kv);
	}
	if (r < 0 && unsure)
		r = err->code = -ETIMEDOUT;
	return r < 0 ? r : 1;
}

int store_lock_set_wait(struct store *st, bool locked, int64_t deadline_ms, struct err *err)
{
	return set(st, locked, false, deadline_ms, err);
}

int store_lock_make_wait(struct store *st, int64_t deadline_ms, struct err *err)
{
	return set(st, true, true, deadline_ms, err);
}
