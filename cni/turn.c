/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/turn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hmap.h"
#include "cni/call.h"
#include "cni/ctx.h"

/* A byte of the file for each; two that share one wait for each other, and no more. */
static struct flock byte_of(const struct call *c, short type)
{
	return (struct flock){.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = (off_t)(hash_str(c->veth) & 0x7fffffff),
		.l_len = 1};
}

int turn_check(const struct call *c, struct err *err)
{
	ssize_t n = 1;
	char byte;

	if (c->rq->peer_fd >= 0)
		n = recv(c->rq->peer_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n > 0 || (n < 0 && errno == EAGAIN))
		return 0;
	err_set(err, -ECANCELED, "the plugin has gone: nothing is done for it");
	return CNI_E_AGAIN;
}

int turn_take(struct call *c, struct err *err)
{
	const struct timespec pause = {.tv_nsec = 2 * 1000 * 1000};
	struct flock l = byte_of(c, F_WRLCK);
	int fd = ctx_turns(c->ctx), r = 0;

	if (fd < 0)
		return 0;
	/* The lock is of this opening of the file, and goes with the process. */
	while (r == 0 && fcntl(fd, F_OFD_SETLK, &l) < 0) {
		if (errno != EAGAIN && errno != EACCES && errno != EINTR) {
			err_sys(err, -errno, "taking turns");
			return CNI_E_IO;
		}
		if (clock_mono_ms() >= c->deadline_ms) {
			err_set(err, -ETIMEDOUT,
				"another verb of the same interface of this pod is still under way");
			return CNI_E_AGAIN;
		}
		nanosleep(&pause, NULL);
		r = turn_check(c, err);
	}
	return r ?: turn_check(c, err);
}

void turn_end(const struct call *c)
{
	struct flock l = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
	int fd = ctx_turns(c->ctx);

	if (fd >= 0)
		(void)fcntl(fd, F_OFD_SETLK, &l);
}
