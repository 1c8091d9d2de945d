/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files of configurations, ours and others': taken or refused with a reason, whatever they hold. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cni/conf.h"
#include "cni/install/conflist.h"
#include "fuzz.h"
#include "store/store.h"

static void check(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct store_conf store = {.type = "kubernetes", .kubeconfig = "/etc/\"x\""};
	const struct conflist_values v = {.store = &store,
		.log_level = "info",
		.nodename = "n",
		.net_dir = "/etc/cni/net.d",
		.root = "/nowhere"};
	auto_free char *text = mem_strndup((const char *)data, size);
	auto_free char *filled = NULL, *type = NULL;
	struct cni_texts types = {0};
	struct err err = ERR_INIT;
	enum conflist_owner owner;
	int r;

	r = conflist_fill(text, &v, &filled, &err);
	check(r == 0 || (r == -EINVAL && err.text[0] != '\0'));
	err = ERR_INIT;
	r = conflist_check((const char *)data, size, &v, &types, &err);
	check(r == 0 ? types.n > 0 : (r == -EINVAL && err.text[0] != '\0'));
	cni_texts_done(&types);
	owner = conflist_owner("10-x.conflist", (const char *)data, size, &type);
	check(owner == CONFLIST_OTHER || type != NULL);
	return 0;
}
