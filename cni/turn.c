/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/turn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/sha1.h"
#include "cni/call.h"
#include "cni/ctx.h"
#include "cni/journal.h"

/* A byte of the file for each name, the same in every process; two that share one wait for each other, and no more. */
static off_t byte_of(const char *name)
{
	uint8_t sum[SHA1_SIZE];
	uint32_t n;

	sha1(name, strlen(name), sum);
	memcpy(&n, sum, sizeof(n));
	return (off_t)(n & 0x7fffffff);
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

/* The lock is of this opening of the file, and goes with the process. */
static int take(struct call *c, off_t byte, struct err *err)
{
	const struct timespec pause = {.tv_nsec = 2 * 1000 * 1000};
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
	int r = 0;

	while (r == 0 && fcntl(ctx_turns(c->ctx), F_OFD_SETLK, &l) < 0) {
		if (errno != EAGAIN && errno != EACCES && errno != EINTR) {
			err_sys(err, -errno, "taking turns");
			return CNI_E_IO;
		}
		r = call_may_wait(c, err);
		if (r != 0)
			return r;
		if (clock_mono_ms() >= c->deadline_ms) {
			err_set(err, -ETIMEDOUT,
				"another verb of the same interface of this pod is still under way");
			return CNI_E_AGAIN;
		}
		nanosleep(&pause, NULL);
		r = turn_check(c, err);
	}
	return r;
}

/*
 * By the host's interface, which an earlier sandbox of the pod has, too; and by the handle, as a DEL need not say which
 * pod it is. Whoever takes two takes them in one order.
 */
static int take_both(struct call *c, const char *veth, const char *handle, struct err *err)
{
	const off_t a = byte_of(veth), b = byte_of(handle);

	if (ctx_open_turns(c->ctx, err) < 0)
		return CNI_E_IO;
	return take(c, a < b ? a : b, err) ?: take(c, a < b ? b : a, err);
}

int turn_take(struct call *c, struct err *err)
{
	int r = take_both(c, c->veth, c->handle, err) ?: turn_check(c, err);

	/* The one before may have written there what this one goes by. */
	if (r == 0 && c->journal && journal_refresh(c->journal, err) < 0)
		r = CNI_E_AGAIN;
	return r;
}

int turn_await(struct call *c, const char *veth, const char *handle, struct err *err)
{
	int r = take_both(c, veth, handle, err);

	turn_end(c);
	return r;
}

void turn_end(const struct call *c)
{
	struct flock l = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
	int fd = ctx_turns(c->ctx);

	if (fd >= 0)
		(void)fcntl(fd, F_OFD_SETLK, &l);
}
