/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kern/ipvs.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/vec.h"
#include "kern/genl.h"
#include "kern/ipvs_codec.h"
#include "kern/nl.h"

struct verb {
	uint8_t cmd;
	uintptr_t cookie;
};

struct ipvs {
	struct nl *nl;
	uint16_t family;
	ipvs_done_fn *done;
	void *arg;
	VEC(struct verb) verbs; /* of the batch */
	int failed;		/* the first failure that is one */
	struct err err;
};

int ipvs_open(struct ipvs **ret, struct err *err)
{
	auto_(nl) struct nl *nl = NULL;
	uint16_t family;
	int r = genl_resolve(IPVS_GENL_NAME, &family, err);

	if (r == -ENOENT)
		return err_set(err, -EPROTONOSUPPORT,
			"this kernel has no IPVS: load the module ip_vs (modprobe ip_vs), or use a "
			"kernel that has it");
	if (r == 0)
		r = nl_open(NETLINK_GENERIC, &nl, err);
	if (r < 0)
		return r;
	*ret = mem_new(struct ipvs);
	(*ret)->nl = take_ptr(nl);
	(*ret)->family = family;
	return 0;
}

void ipvs_close(struct ipvs *k)
{
	if (!k)
		return;
	nl_close(k->nl);
	vec_done(&k->verbs);
	free(k);
}

/* ---- messages ---- */

static void put_header(struct nlmsghdr *nlh, uint8_t cmd)
{
	struct genlmsghdr *g = mnl_nlmsg_put_extra_header(nlh, sizeof(*g));

	g->cmd = cmd;
	g->version = IPVS_GENL_VERSION;
}

void ipvs_put_service(
	struct nlmsghdr *nlh, const struct vserver_key *key, const struct ipvs_service *s)
{
	struct nlattr *nest = mnl_attr_nest_start(nlh, IPVS_CMD_ATTR_SERVICE);
	struct ip_vs_flags flags = {.mask = ~0U};

	mnl_attr_put_u16(nlh, IPVS_SVC_ATTR_AF, (uint16_t)ip_af(&key->ip));
	mnl_attr_put_u16(nlh, IPVS_SVC_ATTR_PROTOCOL, key->protocol);
	mnl_attr_put(nlh, IPVS_SVC_ATTR_ADDR, sizeof(key->ip.b), key->ip.b);
	mnl_attr_put_u16(nlh, IPVS_SVC_ATTR_PORT, htons(key->port));
	if (s) {
		flags.flags = (s->persistent_s ? IP_VS_SVC_F_PERSISTENT : 0) |
			      (s->one_packet ? IP_VS_SVC_F_ONEPACKET : 0);
		mnl_attr_put_strz(nlh, IPVS_SVC_ATTR_SCHED_NAME, s->scheduler);
		mnl_attr_put(nlh, IPVS_SVC_ATTR_FLAGS, sizeof(flags), &flags);
		mnl_attr_put_u32(nlh, IPVS_SVC_ATTR_TIMEOUT, s->persistent_s);
		/* A mask in network order, or a prefix length: every client for itself. */
		mnl_attr_put_u32(
			nlh, IPVS_SVC_ATTR_NETMASK, key->ip.family == IP_V4 ? UINT32_MAX : 128);
	}
	mnl_attr_nest_end(nlh, nest);
}

void ipvs_put_dest(struct nlmsghdr *nlh, const struct ipvs_dest *d, bool whole)
{
	struct nlattr *nest = mnl_attr_nest_start(nlh, IPVS_CMD_ATTR_DEST);

	mnl_attr_put(nlh, IPVS_DEST_ATTR_ADDR, sizeof(d->ip.b), d->ip.b);
	mnl_attr_put_u16(nlh, IPVS_DEST_ATTR_PORT, htons(d->port));
	mnl_attr_put_u16(nlh, IPVS_DEST_ATTR_ADDR_FAMILY, (uint16_t)ip_af(&d->ip));
	if (whole) {
		mnl_attr_put_u32(nlh, IPVS_DEST_ATTR_FWD_METHOD, d->forward);
		mnl_attr_put_u32(nlh, IPVS_DEST_ATTR_WEIGHT, d->weight);
		mnl_attr_put_u32(nlh, IPVS_DEST_ATTR_U_THRESH, 0);
		mnl_attr_put_u32(nlh, IPVS_DEST_ATTR_L_THRESH, 0);
	}
	mnl_attr_nest_end(nlh, nest);
}

/* ---- answers ---- */

static bool get_ip(const struct nlattr *a, uint16_t af, struct ip *ret)
{
	uint8_t b[16];

	if ((af != AF_INET && af != AF_INET6) || !nl_bytes(a, b, sizeof(b)))
		return false;
	*ret = ip_from_bytes(af, b);
	return true;
}

bool ipvs_get_service(
	const struct nlmsghdr *nlh, struct vserver_key *ret_key, struct ipvs_service *ret)
{
	const struct nlattr *top[IPVS_CMD_ATTR_MAX + 1], *tb[IPVS_SVC_ATTR_MAX + 1];
	struct ip_vs_flags flags;

	if (nl_parse(nlh, GENL_HDRLEN, top, IPVS_CMD_ATTR_MAX) < 0 || !top[IPVS_CMD_ATTR_SERVICE] ||
		nl_parse_nested(top[IPVS_CMD_ATTR_SERVICE], tb, IPVS_SVC_ATTR_MAX) < 0)
		return false;
	memset(ret_key, 0, sizeof(*ret_key));
	memset(ret, 0, sizeof(*ret));
	if (tb[IPVS_SVC_ATTR_FWMARK] ||
		!get_ip(tb[IPVS_SVC_ATTR_ADDR], nl_u16(tb[IPVS_SVC_ATTR_AF]), &ret_key->ip))
		return false;
	ret_key->protocol = (uint8_t)nl_u16(tb[IPVS_SVC_ATTR_PROTOCOL]);
	ret_key->port = ntohs(nl_u16(tb[IPVS_SVC_ATTR_PORT]));
	if (!nl_str(tb[IPVS_SVC_ATTR_SCHED_NAME], ret->scheduler, sizeof(ret->scheduler)) ||
		!nl_bytes(tb[IPVS_SVC_ATTR_FLAGS], &flags, sizeof(flags)))
		return false;
	if (flags.flags & IP_VS_SVC_F_PERSISTENT)
		ret->persistent_s = nl_u32(tb[IPVS_SVC_ATTR_TIMEOUT]);
	ret->one_packet = flags.flags & IP_VS_SVC_F_ONEPACKET;
	return true;
}

bool ipvs_get_dest(const struct nlmsghdr *nlh, uint16_t af, struct ipvs_dest *ret)
{
	const struct nlattr *top[IPVS_CMD_ATTR_MAX + 1], *tb[IPVS_DEST_ATTR_MAX + 1];

	if (nl_parse(nlh, GENL_HDRLEN, top, IPVS_CMD_ATTR_MAX) < 0 || !top[IPVS_CMD_ATTR_DEST] ||
		nl_parse_nested(top[IPVS_CMD_ATTR_DEST], tb, IPVS_DEST_ATTR_MAX) < 0)
		return false;
	memset(ret, 0, sizeof(*ret));
	/* Kernels before 3.18 do not say the family: it is the service's. */
	if (tb[IPVS_DEST_ATTR_ADDR_FAMILY])
		af = nl_u16(tb[IPVS_DEST_ATTR_ADDR_FAMILY]);
	if (!get_ip(tb[IPVS_DEST_ATTR_ADDR], af, &ret->ip))
		return false;
	ret->port = ntohs(nl_u16(tb[IPVS_DEST_ATTR_PORT]));
	ret->forward = nl_u32(tb[IPVS_DEST_ATTR_FWD_METHOD]) & IP_VS_CONN_F_FWD_MASK;
	ret->weight = nl_u32(tb[IPVS_DEST_ATTR_WEIGHT]);
	ret->active = nl_u32(tb[IPVS_DEST_ATTR_ACTIVE_CONNS]);
	ret->inactive = nl_u32(tb[IPVS_DEST_ATTR_INACT_CONNS]);
	return true;
}

struct listener {
	ipvs_service_fn *service;
	ipvs_dest_fn *dest;
	void *arg;
	uint16_t af;
};

static int take_service(void *arg, const struct nlmsghdr *nlh, struct err *err)
{
	const struct listener *l = arg;
	struct vserver_key key;
	struct ipvs_service s;

	(void)err;
	if (ipvs_get_service(nlh, &key, &s))
		l->service(l->arg, &key, &s);
	return 0;
}

static int take_dest(void *arg, const struct nlmsghdr *nlh, struct err *err)
{
	const struct listener *l = arg;
	struct ipvs_dest d;

	(void)err;
	if (ipvs_get_dest(nlh, l->af, &d))
		l->dest(l->arg, &d);
	return 0;
}

int ipvs_services(struct ipvs *k, ipvs_service_fn *fn, void *arg, struct err *err)
{
	struct listener l = {.service = fn, .arg = arg};
	int r;

	put_header(nl_msg(k->nl, k->family, 0), IPVS_CMD_GET_SERVICE);
	r = nl_dump(k->nl, take_service, NULL, &l, err);
	return r < 0 ? err_wrap(err, r, "read the virtual servers") : 0;
}

int ipvs_dests(
	struct ipvs *k, const struct vserver_key *key, ipvs_dest_fn *fn, void *arg, struct err *err)
{
	struct listener l = {.dest = fn, .arg = arg, .af = (uint16_t)ip_af(&key->ip)};
	struct nlmsghdr *nlh = nl_msg(k->nl, k->family, 0);
	int r;

	put_header(nlh, IPVS_CMD_GET_DEST);
	ipvs_put_service(nlh, key, NULL);
	r = nl_dump(k->nl, take_dest, NULL, &l, err);
	return r < 0 ? err_wrap(err, r, "read the real servers of %s", vserver_key_str(key)) : 0;
}

/* ---- verbs ---- */

int ipvs_outcome(uint8_t cmd, int r)
{
	/* ESRCH: there is no such service; ENOENT: no such real server, or scheduler. */
	if (r != -ESRCH && r != -ENOENT)
		return r;
	if (cmd == IPVS_CMD_DEL_SERVICE || cmd == IPVS_CMD_DEL_DEST)
		return 0;
	return -ENOENT;
}

static void on_done(void *arg, uintptr_t i, int r, const struct err *err)
{
	struct ipvs *k = arg;
	const struct verb *v = &k->verbs.v[i];

	r = ipvs_outcome(v->cmd, r);
	if (r < 0 && k->failed == 0) {
		k->failed = r;
		k->err = *err;
	}
	if (k->done)
		k->done(k->arg, v->cookie, r, err);
}

void ipvs_begin(struct ipvs *k, ipvs_done_fn *done, void *arg)
{
	k->done = done;
	k->arg = arg;
	k->verbs.n = 0;
	k->failed = 0;
	nl_batch_begin(k->nl, NL_STREAM, on_done, k);
}

int ipvs_commit(struct ipvs *k, struct err *err)
{
	/* Its result counts what is none to us: on_done has seen each. */
	(void)nl_batch_end(k->nl, NULL);
	if (k->failed < 0 && err)
		*err = k->err;
	return k->failed;
}

static struct nlmsghdr *add(struct ipvs *k, uint8_t cmd, const struct vserver_key *key,
	const struct ipvs_service *s, uintptr_t cookie)
{
	struct nlmsghdr *nlh;

	vec_push(&k->verbs, (struct verb){.cmd = cmd, .cookie = cookie});
	nlh = nl_batch_add(k->nl, k->family, 0, k->verbs.n - 1);
	put_header(nlh, cmd);
	ipvs_put_service(nlh, key, s);
	return nlh;
}

void ipvs_service_add(struct ipvs *k, const struct vserver_key *key, const struct ipvs_service *s,
	uintptr_t cookie)
{
	add(k, IPVS_CMD_NEW_SERVICE, key, s, cookie);
}

void ipvs_service_edit(struct ipvs *k, const struct vserver_key *key, const struct ipvs_service *s,
	uintptr_t cookie)
{
	add(k, IPVS_CMD_SET_SERVICE, key, s, cookie);
}

void ipvs_service_del(struct ipvs *k, const struct vserver_key *key, uintptr_t cookie)
{
	add(k, IPVS_CMD_DEL_SERVICE, key, NULL, cookie);
}

void ipvs_dest_add(
	struct ipvs *k, const struct vserver_key *key, const struct ipvs_dest *d, uintptr_t cookie)
{
	ipvs_put_dest(add(k, IPVS_CMD_NEW_DEST, key, NULL, cookie), d, true);
}

void ipvs_dest_edit(
	struct ipvs *k, const struct vserver_key *key, const struct ipvs_dest *d, uintptr_t cookie)
{
	ipvs_put_dest(add(k, IPVS_CMD_SET_DEST, key, NULL, cookie), d, true);
}

void ipvs_dest_del(
	struct ipvs *k, const struct vserver_key *key, const struct ipvs_dest *d, uintptr_t cookie)
{
	ipvs_put_dest(add(k, IPVS_CMD_DEL_DEST, key, NULL, cookie), d, false);
}
