/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/changes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cni/cni.h"
#include "cni/shared.h"
#include "model/kind.h"
#include "store/sync.h"

struct changes {
	const struct cni_home *home;
	struct sync *sync;
};

static void tell(struct changes *c)
{
	const uint64_t one = 1;

	shared_add(&c->home->shared->pool_changes);
	if (write(c->home->keeper_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_warn("waking the keeper: %s", strerror(errno));
}

static void on_set(void *arg, const char *key, const char *value, size_t len, int64_t rev)
{
	(void)key;
	(void)value;
	(void)len;
	(void)rev;
	tell(arg);
}

static void on_del(void *arg, const char *key)
{
	(void)key;
	tell(arg);
}

static void on_in_sync(void *arg)
{
	(void)arg;
}

struct changes *changes_new(struct store *st, const struct cni_home *home)
{
	static const struct sync_ops ops = {
		.set = on_set, .del = on_del, .in_sync = on_in_sync, .heed_lock = false};
	const char *prefixes[] = {
		kind_info(KIND_IPPOOL)->root, kind_info(KIND_IPRESERVATION)->root};
	struct changes *c = mem_new(struct changes);

	c->home = home;
	c->sync = sync_new(st, prefixes, array_size(prefixes), &ops, c, NULL);
	return c;
}

void changes_free(struct changes *c)
{
	if (!c)
		return;
	sync_free(c->sync);
	free(c);
}
