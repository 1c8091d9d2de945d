/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The netlink transport: requests in batches with one result per message, dumps, and monitors.
 * One `struct nl` is one socket, in the network namespace in which it was made, for one user at a
 * time: callbacks may not use it. Messages are written with libmnl's mnl_attr_put_*().
 *
 *	nl_batch_begin(nl, NL_STREAM, done, arg);
 *	for each change
 *		nlh = nl_batch_add(nl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, cookie);
 *		mnl_nlmsg_put_extra_header(nlh, ...); mnl_attr_put_u32(nlh, ...);
 *	r = nl_batch_end(nl, &err);
 *
 * The kernel works on a request inside send(), so nothing here waits for anybody else. Failures
 * carry the kernel's own words (extended acknowledgements) where it has some.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct err;
struct nl;
struct nlattr;
struct nlmsghdr;

/* Room for one message, header included; and how often a dump that changed under way is redone. */
#define NL_MSG_MAX (68 * 1024)
#define NL_DUMP_TRIES 5

/* protocol: NETLINK_ROUTE, NETLINK_NETFILTER, NETLINK_GENERIC. */
int nl_open(int protocol, struct nl **ret, struct err *err);
/* Takes over a netlink socket which somebody else made, e.g. inside a pod's namespace; closes it on
 * failure, too. EINVAL: it is none. */
int nl_from_fd(int fd, struct nl **ret, struct err *err);
void nl_close(struct nl *nl);
AUTO_DEFINE(nl, struct nl *, nl_close);

int nl_fd(const struct nl *nl);
uint32_t nl_port(const struct nl *nl); /* the kernel puts it into nlmsg_pid of what we caused */

/* ---- changes ---- */

enum nl_batch_kind {
	NL_STREAM, /* sent in pieces as it grows; every message stands for itself */
	NL_ATOMIC, /* sent in one piece at the end (nfnetlink: between its batch messages) */
};

/* The outcome of one message: r = 0 or a negative errno with err. Called during add and end. */
typedef void nl_done_fn(void *arg, uintptr_t cookie, int r, const struct err *err);

/* done may be NULL. */
void nl_batch_begin(struct nl *nl, enum nl_batch_kind kind, nl_done_fn *done, void *arg);
/*
 * The next message, header filled in (flags: without NLM_F_REQUEST and NLM_F_ACK), to be completed
 * before the next call. Never fails: what cannot be sent is reported through done and by end.
 */
struct nlmsghdr *nl_batch_add(struct nl *nl, uint16_t type, uint16_t flags, uintptr_t cookie);
/*
 * Sends what is left, and returns 0 or the first failure. Where the outcome cannot be known
 * (ENOBUFS), the messages concerned get that error: read the state again.
 */
int nl_batch_end(struct nl *nl, struct err *err);

/* ---- questions ---- */

/* Called for each answer. A negative return ends the dump with that error, which fn sets. */
typedef int nl_msg_fn(void *arg, const struct nlmsghdr *nlh, struct err *err);

/* The message of a question, to be completed before nl_ask or nl_dump. */
struct nlmsghdr *nl_msg(struct nl *nl, uint16_t type, uint16_t flags);
/* One question, any number of answers, then the kernel's acknowledgement. */
int nl_ask(struct nl *nl, nl_msg_fn *fn, void *arg, struct err *err);
/*
 * Everything. Where the kernel says that the data changed while it was read (NLM_F_DUMP_INTR),
 * restart is called (to forget what fn was told) and it is done again, NL_DUMP_TRIES times in all;
 * then -EBUSY: what is there is unknown. restart NULL = never told twice, -EBUSY at once.
 */
int nl_dump(struct nl *nl, nl_msg_fn *fn, void (*restart)(void *arg), void *arg, struct err *err);

/* ---- monitors ---- */

/* group: RTNLGRP_*, NFNLGRP_*. */
int nl_join(struct nl *nl, unsigned group, struct err *err);
/* Exactly so many bytes where the privilege is there, else what the system allows at most. */
void nl_set_rcvbuf(struct nl *nl, int bytes);
/* From now on no event that the socket with this port has caused (our own changes). */
int nl_ignore_port(struct nl *nl, uint32_t port, struct err *err);
/* From now on only events that have this value, as the kernel has it, at so many bytes from their beginning. */
int nl_take_only(struct nl *nl, uint32_t offset, uint32_t value, struct err *err);
/*
 * Tells all that is waiting, without blocking. nlh is NULL where events were lost: anything may have
 * changed. The kernel reports a loss before the events that it kept, which are older: they are not
 * told, so that nobody takes them for changes of what he reads on account of the loss. Returns how
 * many were told, or an error of the socket or of fn.
 */
int nl_receive(struct nl *nl, nl_msg_fn *fn, void *arg, struct err *err);

/* ---- attributes, from anybody ---- */

/* Copies the family header, of size bytes; false when the message is shorter. */
bool nl_header(const struct nlmsghdr *nlh, void *ret, size_t size);

/*
 * tb[type] = the attribute, for types up to max, from the message's payload after hdr_size bytes of
 * family header. -EBADMSG when lengths do not add up. Unknown types are skipped.
 */
int nl_parse(const struct nlmsghdr *nlh, size_t hdr_size, const struct nlattr **tb, unsigned max);
int nl_parse_nested(const struct nlattr *nest, const struct nlattr **tb, unsigned max);
/* The value, or 0 / false when the attribute is NULL or not of that size. Network order as it is. */
uint8_t nl_u8(const struct nlattr *a);
uint16_t nl_u16(const struct nlattr *a);
uint32_t nl_u32(const struct nlattr *a);
bool nl_bytes(const struct nlattr *a, void *ret, size_t size); /* exactly size bytes */
bool nl_str(const struct nlattr *a, char *ret, size_t size);   /* fits, or false and "" */
