/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kern/genl.h"

#include <errno.h>
#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/socket.h>
#include <stdlib.h>

#include "base/err.h"

int genl_resolve(const char *name, uint16_t *ret, struct err *err)
{
	struct nl_sock *sk = nl_socket_alloc();
	int r;

	if (!sk)
		abort();
	r = genl_connect(sk);
	if (r == 0)
		r = genl_ctrl_resolve(sk, name);
	nl_socket_free(sk);
	if (r < 0)
		return err_set(err, r == -NLE_OBJ_NOTFOUND ? -ENOENT : -EIO,
			"generic netlink family %s: %s", name, nl_geterror(r));
	*ret = (uint16_t)r;
	return 0;
}
