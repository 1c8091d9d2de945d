/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/full.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "model/ipam.h"
#include "store/store.h"

#define MARK IPAM_KEY_HANDLES IPAM_HANDLE_FULL

enum {
	LOOK_EVERY_MS = 60000,
	TOLD_MS = 600000, /* so long it counts */
};

bool full_is_told(const struct full *f)
{
	return clock_mono_ms() < f->until_ms;
}

static void see(struct full *f, int64_t rev)
{
	f->rev = rev;
	f->until_ms = clock_mono_ms() + TOLD_MS;
}

int full_look(struct full *f, struct store *st, int64_t deadline_ms, struct err *err)
{
	struct store_kv kv;
	int r;

	if (clock_mono_ms() < f->due_ms)
		return 0;
	r = store_get_wait(st, MARK, deadline_ms, &kv, err);
	if (r < 0 && r != -ENOENT)
		return r;
	f->due_ms = clock_mono_ms() + LOOK_EVERY_MS;
	if (r == -ENOENT)
		return 0;
	if (kv.rev != f->rev)
		see(f, kv.rev);
	else if (!full_is_told(f))
		r = store_delete_wait(st, MARK, kv.rev, NULL, deadline_ms, err);
	store_kv_done(&kv);
	return r == -ENOENT || r == -ESTALE ? 0 : r;
}

static int may_borrow(struct store *st, int64_t deadline_ms, bool *ret, struct err *err)
{
	struct ipam_config config = IPAM_CONFIG_DEFAULT;
	struct store_kv kv;
	int r = store_get_wait(st, IPAM_KEY_CONFIG, deadline_ms, &kv, err);

	if (r == 0) {
		r = ipam_config_decode(kv.value, kv.len, &config, err);
		store_kv_done(&kv);
	}
	*ret = !config.strict_affinity;
	return r == -ENOENT ? 0 : r;
}

/* Made anew, so that its revision is another one. */
int full_tell(struct full *f, struct store *st, int64_t deadline_ms, struct err *err)
{
	auto_(ipam_handle) struct ipam_handle *h = ipam_handle_new();
	auto_free char *text = ipam_handle_encode(h);
	bool helps = false;
	int64_t rev = 0;
	int r = may_borrow(st, deadline_ms, &helps, err);

	if (r < 0 || !helps)
		return r;
	r = store_delete_wait(st, MARK, 0, NULL, deadline_ms, err);
	if (r == 0 || r == -ENOENT)
		r = store_create_wait(st, MARK, text, deadline_ms, &rev, err);
	if (r == 0)
		see(f, rev);
	return r == -EEXIST ? 0 : r; /* another one has told it meanwhile */
}
