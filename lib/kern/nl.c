/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A batch asks for one acknowledgement per send(), that of its last message: the kernel handles the
 * messages in order and reports each failure by itself, so no word about a message means that it was
 * done. Replies lie in the receive queue when send() returns, hence nothing here waits; the time-out
 * of questions is against a kernel that breaks this rule.
 *
 * A piece of a stream has at most BATCH_MAX messages: their acknowledgements (below 1.3 kB of queue
 * each) must fit into a default receive buffer (208 kB) even if every one fails.
 */
#include "kern/nl.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/vec.h"

#define BATCH_MAX 128
#define STREAM_BYTES (32 * 1024) /* a piece is sent when it is that long */
#define RX_BYTES (64 * 1024)	 /* the kernel fills at most 32 kB of a dump at once */
#define WAIT_MS 10000
#define RECEIVE_MAX 1000	 /* datagrams per nl_receive, so that a storm starves nobody */
#define RECEIVE_MAX_LOST 1000000 /* after a loss all that waits is passed over, as it is older */

struct pending {
	uintptr_t cookie;
	bool reported;
};

struct nl {
	int fd;
	uint32_t port;
	uint32_t seq; /* of the last message made */
	uint8_t *tx, *rx;
	size_t tx_size;
	size_t tx_len;	/* complete messages */
	size_t tx_open; /* offset of the message that the caller completes; SIZE_MAX = none */

	enum nl_batch_kind kind;
	nl_done_fn *done;
	void *arg;
	uint32_t first_seq;
	VEC(struct pending) pending;
	struct err failure; /* the batch's first */
};

/* ---- sockets ---- */

static void set_options(int fd)
{
	int on = 1;

	/* Absent before 4.12, 4.3 and 4.20: then texts are missing, replies longer, dumps unfiltered. */
	(void)setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	(void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	(void)setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
}

int nl_from_fd(int fd, struct nl **ret, struct err *err)
{
	struct sockaddr_nl sa = {.nl_family = AF_NETLINK};
	socklen_t len = sizeof(sa);
	int domain = 0;
	socklen_t domain_len = sizeof(domain);
	struct nl *nl;
	int r;

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_len) < 0 ||
		domain != AF_NETLINK) {
		if (fd >= 0)
			close(fd);
		return err_set(err, -EINVAL, "descriptor %d is not a netlink socket", fd);
	}
	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0 ||
		(sa.nl_pid == 0 && (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
					   getsockname(fd, (struct sockaddr *)&sa, &len) < 0))) {
		r = err_sys(err, -errno, "bind a netlink socket");
		close(fd);
		return r;
	}
	set_options(fd);
	nl = mem_new(struct nl);
	nl->fd = fd;
	nl->port = sa.nl_pid;
	nl->tx_size = STREAM_BYTES + NL_MSG_MAX;
	nl->tx = mem_alloc(nl->tx_size);
	nl->rx = mem_alloc(RX_BYTES);
	nl->tx_open = SIZE_MAX;
	*ret = nl;
	return 0;
}

int nl_open(int protocol, struct nl **ret, struct err *err)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		return err_sys(err, -errno, "open a netlink socket, protocol %d", protocol);
	return nl_from_fd(fd, ret, err);
}

void nl_close(struct nl *nl)
{
	if (!nl)
		return;
	close(nl->fd);
	free(nl->tx);
	free(nl->rx);
	vec_done(&nl->pending);
	free(nl);
}

int nl_fd(const struct nl *nl)
{
	return nl->fd;
}

uint32_t nl_port(const struct nl *nl)
{
	return nl->port;
}

/* One datagram from the kernel: its length; 0 = none is there, or one that does not count. */
static ssize_t receive(struct nl *nl, struct err *err)
{
	struct sockaddr_nl from = {0};
	struct iovec iov = {.iov_base = nl->rx, .iov_len = RX_BYTES};
	struct msghdr msg = {
		.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	for (;;) {
		n = recvmsg(nl->fd, &msg, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		if (n < 0)
			return err_sys(err, -errno, "read a netlink socket");
		if (msg.msg_flags & MSG_TRUNC)
			return err_set(
				err, -ENOBUFS, "netlink message longer than %d bytes", RX_BYTES);
		if (from.nl_pid == 0 && n > 0)
			return n;
		msg.msg_namelen = sizeof(from); /* from another process: not for us */
	}
}

/* As receive, and waits: 0 is a time-out. */
static ssize_t receive_wait(struct nl *nl, struct err *err)
{
	struct pollfd p = {.fd = nl->fd, .events = POLLIN};
	ssize_t n = receive(nl, err);
	int r;

	while (n == 0) {
		r = poll(&p, 1, WAIT_MS);
		if (r < 0 && errno != EINTR)
			return err_sys(err, -errno, "wait for a netlink socket");
		if (r == 0)
			return err_set(err, -ETIMEDOUT, "no answer from the kernel in %d s",
				WAIT_MS / 1000);
		n = receive(nl, err);
	}
	return n;
}

static int transmit(struct nl *nl, struct err *err)
{
	int size = (int)nl->tx_len * 2;
	ssize_t n;

	if (nl->tx_len > STREAM_BYTES + NL_MSG_MAX) /* above what a socket takes by default */
		if (setsockopt(nl->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
			(void)setsockopt(nl->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	do
		n = send(nl->fd, nl->tx, nl->tx_len, 0);
	while (n < 0 && errno == EINTR);
	return n < 0 ? err_sys(err, -errno, "send %zu bytes of netlink", nl->tx_len) : 0;
}

/* The number in an NLMSG_ERROR or NLMSG_DONE, and the kernel's words for it in err. */
static int reply_code(const struct nlmsghdr *nlh, struct err *err)
{
	const struct nlattr *tb[NLMSGERR_ATTR_MAX + 1] = {0};
	char text[256] = "";
	struct nlmsgerr e = {0};
	size_t len = nlh->nlmsg_len - NLMSG_HDRLEN;
	size_t header = nlh->nlmsg_type == NLMSG_DONE ? sizeof(int) : sizeof(e);

	if (len < header)
		return nlh->nlmsg_type == NLMSG_DONE
			       ? 0
			       : err_set(err, -EBADMSG, "netlink error message of %zu bytes", len);
	memcpy(&e, mnl_nlmsg_get_payload(nlh), header);
	if (e.error == 0)
		return 0;
	if (e.error > 0 || e.error < -4095)
		return err_set(err, -EBADMSG, "netlink error code %d", e.error);
	if (nlh->nlmsg_type == NLMSG_ERROR && !(nlh->nlmsg_flags & NLM_F_CAPPED) &&
		e.msg.nlmsg_len >= NLMSG_HDRLEN)
		header += NLMSG_ALIGN(e.msg.nlmsg_len - NLMSG_HDRLEN);
	if (nlh->nlmsg_flags & NLM_F_ACK_TLVS && nl_parse(nlh, header, tb, NLMSGERR_ATTR_MAX) == 0)
		(void)nl_str(tb[NLMSGERR_ATTR_MSG], text, sizeof(text));
	if (text[0])
		return err_set(err, e.error, "%s (%s)", strerror(-e.error), text);
	return err_set(err, e.error, "%s", strerror(-e.error));
}

/* ---- batches ---- */

static struct nlmsghdr *start_message(struct nl *nl, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(nl->tx + nl->tx_len);

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	nlh->nlmsg_seq = ++nl->seq;
	nl->tx_open = nl->tx_len;
	return nlh;
}

static void finish_message(struct nl *nl)
{
	struct nlmsghdr nlh;

	if (nl->tx_open == SIZE_MAX)
		return;
	memcpy(&nlh, nl->tx + nl->tx_open, sizeof(nlh));
	nl->tx_len = nl->tx_open + NLMSG_ALIGN(nlh.nlmsg_len);
	nl->tx_open = SIZE_MAX;
}

static void report(struct nl *nl, size_t i, int r, const struct err *err)
{
	if (nl->pending.v[i].reported)
		return;
	nl->pending.v[i].reported = true;
	if (r < 0 && nl->failure.code == 0)
		nl->failure = *err;
	if (nl->done)
		nl->done(nl->arg, nl->pending.v[i].cookie, r, r < 0 ? err : NULL);
}

/* Reads every reply to what was sent: 0, or what happened to the messages that have no word. */
static int read_replies(struct nl *nl, struct err *err)
{
	const struct nlmsghdr *nlh;
	bool acked = false, lost = false, failed = false;
	struct err e = ERR_INIT;
	uint32_t i;
	ssize_t n;
	int left, r;

	while ((n = receive(nl, &e)) != 0) {
		if (n == -ENOBUFS) {
			lost = true;
			continue;
		}
		if (n < 0) {
			*err = e;
			return (int)n;
		}
		left = (int)n;
		for (nlh = (const void *)nl->rx; mnl_nlmsg_ok(nlh, left);
			nlh = mnl_nlmsg_next(nlh, &left)) {
			i = nlh->nlmsg_seq - nl->first_seq;
			if (nlh->nlmsg_type != NLMSG_ERROR || i >= nl->pending.n)
				continue;
			r = reply_code(nlh, &e);
			acked |= i == nl->pending.n - 1;
			if (r == 0)
				continue;
			failed = true;
			report(nl, i, r, &e);
		}
	}
	if (lost)
		return err_set(err, -ENOBUFS, "the kernel's answer was lost: outcome unknown");
	if (nl->kind == NL_ATOMIC && failed)
		return err_set(err, -ECANCELED, "not done, as another part of the batch failed");
	if (nl->kind == NL_STREAM && !acked)
		return err_set(err, -EIO, "no acknowledgement from the kernel: outcome unknown");
	return 0;
}

static void flush(struct nl *nl)
{
	struct err e = ERR_INIT;
	size_t last = nl->tx_open;
	struct nlmsghdr nlh;
	int r;

	finish_message(nl);
	if (nl->pending.n == 0)
		return;
	if (nl->kind == NL_STREAM && last != SIZE_MAX) {
		memcpy(&nlh, nl->tx + last, sizeof(nlh));
		nlh.nlmsg_flags |= NLM_F_ACK;
		memcpy(nl->tx + last, &nlh, sizeof(nlh));
	}
	r = transmit(nl, &e);
	if (r == 0)
		r = read_replies(nl, &e);
	for (size_t i = 0; i < nl->pending.n; i++)
		report(nl, i, r, &e);
	nl->pending.n = 0;
	nl->tx_len = 0;
}

void nl_batch_begin(struct nl *nl, enum nl_batch_kind kind, nl_done_fn *done, void *arg)
{
	nl->kind = kind;
	nl->done = done;
	nl->arg = arg;
	nl->failure.code = 0;
	nl->pending.n = 0;
	nl->tx_len = 0;
	nl->tx_open = SIZE_MAX;
}

struct nlmsghdr *nl_batch_add(struct nl *nl, uint16_t type, uint16_t flags, uintptr_t cookie)
{
	struct nlmsghdr last;

	/* Look first: the message that is open now must be the one that asks for the answer. */
	if (nl->kind == NL_STREAM && nl->tx_open != SIZE_MAX) {
		memcpy(&last, nl->tx + nl->tx_open, sizeof(last));
		if (nl->pending.n == BATCH_MAX || nl->tx_open + last.nlmsg_len > STREAM_BYTES)
			flush(nl);
	}
	finish_message(nl);
	if (nl->tx_size - nl->tx_len < NL_MSG_MAX) {
		nl->tx_size *= 2;
		nl->tx = mem_realloc_array(nl->tx, nl->tx_size, 1);
	}
	if (nl->pending.n == 0)
		nl->first_seq = nl->seq + 1;
	vec_push(&nl->pending, (struct pending){.cookie = cookie});
	return start_message(nl, type, flags);
}

int nl_batch_end(struct nl *nl, struct err *err)
{
	flush(nl);
	if (nl->tx_size > STREAM_BYTES + NL_MSG_MAX) {
		nl->tx_size = STREAM_BYTES + NL_MSG_MAX;
		free(nl->tx);
		nl->tx = mem_alloc(nl->tx_size);
	}
	if (nl->failure.code < 0 && err)
		*err = nl->failure;
	return nl->failure.code;
}

/* ---- questions ---- */

struct nlmsghdr *nl_msg(struct nl *nl, uint16_t type, uint16_t flags)
{
	nl->tx_len = 0;
	return start_message(nl, type, flags);
}

struct answer {
	nl_msg_fn *fn;
	void *arg;
	bool interrupted; /* the data changed under way */
	bool over;
	int r; /* fn's */
};

/* One datagram of an answer. Returns the kernel's error. */
static int take_answers(struct nl *nl, size_t n, struct answer *a, struct err *err)
{
	const struct nlmsghdr *nlh;
	int left = (int)n;

	for (nlh = (const void *)nl->rx; mnl_nlmsg_ok(nlh, left);
		nlh = mnl_nlmsg_next(nlh, &left)) {
		if (nlh->nlmsg_seq != nl->seq || nlh->nlmsg_pid != nl->port)
			continue;
		if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
			a->interrupted = true;
		if (nlh->nlmsg_type == NLMSG_ERROR || nlh->nlmsg_type == NLMSG_DONE) {
			a->over = true;
			return reply_code(nlh, err);
		}
		/* After a refusal the rest is still to be read, or the next dump would be EBUSY. */
		if (nlh->nlmsg_type >= NLMSG_MIN_TYPE && a->r == 0 && !a->interrupted)
			a->r = a->fn(a->arg, nlh, err);
	}
	return 0;
}

static int converse(struct nl *nl, struct answer *a, struct err *err)
{
	ssize_t n;
	int r;

	r = transmit(nl, err);
	while (r == 0 && !a->over) {
		n = receive_wait(nl, err);
		if (n == -ENOBUFS) {
			a->interrupted = true;
			continue;
		}
		r = n < 0 ? (int)n : take_answers(nl, (size_t)n, a, err);
	}
	return r < 0 ? r : a->r;
}

static struct nlmsghdr *question(struct nl *nl)
{
	finish_message(nl);
	return (void *)nl->tx;
}

int nl_ask(struct nl *nl, nl_msg_fn *fn, void *arg, struct err *err)
{
	struct answer a = {.fn = fn, .arg = arg};
	struct nlmsghdr *nlh = question(nl);

	nlh->nlmsg_flags |= NLM_F_ACK;
	return converse(nl, &a, err);
}

int nl_dump(struct nl *nl, nl_msg_fn *fn, void (*restart)(void *arg), void *arg, struct err *err)
{
	struct nlmsghdr *nlh = question(nl);
	int r;

	nlh->nlmsg_flags |= NLM_F_DUMP;
	for (int i = 0; i < NL_DUMP_TRIES; i++) {
		struct answer a = {.fn = fn, .arg = arg};

		if (i > 0) {
			restart(arg);
			nlh->nlmsg_seq = ++nl->seq;
		}
		r = converse(nl, &a, err);
		if (r < 0 || !a.interrupted)
			return r;
		if (!restart)
			break;
	}
	return err_set(err, -EBUSY, "the kernel's data changes faster than it can be read");
}

/* ---- monitors ---- */

int nl_join(struct nl *nl, unsigned group, struct err *err)
{
	if (setsockopt(nl->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
		return err_sys(err, -errno, "listen to netlink group %u", group);
	return 0;
}

void nl_set_rcvbuf(struct nl *nl, int bytes)
{
	int half = bytes / 2; /* the kernel doubles it */

	if (setsockopt(nl->fd, SOL_SOCKET, SO_RCVBUFFORCE, &half, sizeof(half)) < 0)
		(void)setsockopt(nl->fd, SOL_SOCKET, SO_RCVBUF, &half, sizeof(half));
}

/* Events with this 32-bit value at the offset are left out, or (only) no others. */
static int filter(struct nl *nl, uint32_t offset, uint32_t value, bool only, struct err *err)
{
	/* A BPF load is big-endian, the messages are not. */
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __builtin_bswap32(value), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, only ? UINT32_MAX : 0),
		BPF_STMT(BPF_RET | BPF_K, only ? 0 : UINT32_MAX),
	};
	struct sock_fprog prog = {.len = array_size(code), .filter = code};

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	code[1].k = value;
#endif
	if (setsockopt(nl->fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0)
		return err_sys(err, -errno, "filter a netlink socket");
	return 0;
}

int nl_ignore_port(struct nl *nl, uint32_t port, struct err *err)
{
	return filter(nl, offsetof(struct nlmsghdr, nlmsg_pid), port, false, err);
}

int nl_take_only(struct nl *nl, uint32_t offset, uint32_t value, struct err *err)
{
	return filter(nl, offset, value, true, err);
}

int nl_receive(struct nl *nl, nl_msg_fn *fn, void *arg, struct err *err)
{
	const struct nlmsghdr *nlh;
	int told = 0, left, r;
	bool lost = false;
	ssize_t n;

	for (int i = 0; i < (lost ? RECEIVE_MAX_LOST : RECEIVE_MAX); i++) {
		n = receive(nl, err);
		if (n == 0)
			break;
		if (n < 0 && n != -ENOBUFS)
			return (int)n;
		lost |= n < 0;
		if (lost)
			continue;
		left = (int)n;
		for (nlh = (const void *)nl->rx; mnl_nlmsg_ok(nlh, left);
			nlh = mnl_nlmsg_next(nlh, &left)) {
			if (nlh->nlmsg_type < NLMSG_MIN_TYPE)
				continue;
			r = fn(arg, nlh, err);
			if (r < 0)
				return r;
			told++;
		}
	}
	if (!lost)
		return told;
	r = fn(arg, NULL, err);
	return r < 0 ? r : told + 1;
}

/* ---- attributes ---- */

static int parse(const uint8_t *p, size_t len, const struct nlattr **tb, unsigned max)
{
	struct nlattr a;
	size_t step;
	unsigned type;

	while (len >= sizeof(a)) {
		memcpy(&a, p, sizeof(a));
		if (a.nla_len < sizeof(a) || a.nla_len > len)
			return -EBADMSG;
		type = a.nla_type & NLA_TYPE_MASK;
		if (type <= max)
			tb[type] = (const void *)p;
		step = (size_t)NLA_ALIGN(a.nla_len);
		if (step >= len)
			return 0;
		p += step;
		len -= step;
	}
	return 0;
}

bool nl_header(const struct nlmsghdr *nlh, void *ret, size_t size)
{
	if (nlh->nlmsg_len < NLMSG_HDRLEN + size)
		return false;
	memcpy(ret, mnl_nlmsg_get_payload(nlh), size);
	return true;
}

int nl_parse(const struct nlmsghdr *nlh, size_t hdr_size, const struct nlattr **tb, unsigned max)
{
	size_t off = NLMSG_HDRLEN + NLMSG_ALIGN(hdr_size);

	memset(tb, 0, (max + 1) * sizeof(*tb));
	if (nlh->nlmsg_len < NLMSG_HDRLEN + hdr_size)
		return -EBADMSG;
	if (nlh->nlmsg_len <= off)
		return 0;
	return parse((const uint8_t *)nlh + off, nlh->nlmsg_len - off, tb, max);
}

int nl_parse_nested(const struct nlattr *nest, const struct nlattr **tb, unsigned max)
{
	memset(tb, 0, (max + 1) * sizeof(*tb));
	if (!nest)
		return 0;
	return parse((const uint8_t *)nest + NLA_HDRLEN, mnl_attr_get_payload_len(nest), tb, max);
}

bool nl_bytes(const struct nlattr *a, void *ret, size_t size)
{
	if (!a || mnl_attr_get_payload_len(a) != size)
		return false;
	memcpy(ret, mnl_attr_get_payload(a), size);
	return true;
}

uint8_t nl_u8(const struct nlattr *a)
{
	uint8_t v = 0;

	return nl_bytes(a, &v, sizeof(v)) ? v : 0;
}

uint16_t nl_u16(const struct nlattr *a)
{
	uint16_t v = 0;

	return nl_bytes(a, &v, sizeof(v)) ? v : 0;
}

uint32_t nl_u32(const struct nlattr *a)
{
	uint32_t v = 0;

	return nl_bytes(a, &v, sizeof(v)) ? v : 0;
}

bool nl_str(const struct nlattr *a, char *ret, size_t size)
{
	size_t n = a ? mnl_attr_get_payload_len(a) : 0;
	const char *p = a ? mnl_attr_get_payload(a) : NULL;

	ret[0] = '\0';
	n = p ? strnlen(p, n) : 0;
	if (n == 0 || n >= size)
		return false;
	memcpy(ret, p, n);
	ret[n] = '\0';
	return true;
}
