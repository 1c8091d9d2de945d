/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a node does while it does not ask the datastore: a reserve of addresses that the datastore holds
 * for it, and a journal of what has been done with them since, both in one file that every process
 * of the node shares (docs/away.md has the rules and why they hold).
 *
 * An address is held from the moment the datastore has it for this node, until this node has given it back.
 * In between it is free (for the next pod), taken by a handle, or leaving (nobody's any more, and
 * about to be given back). Takes and frees are operations that wait to be carried out in the datastore,
 * in their order.
 *
 * Every call below that can fail takes the file's lock (cni/journal_file.h), reads what others have
 * appended, and acts on that.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/vec.h"
#include "ipam/alloc.h"

struct err;
struct journal;

#define JOURNAL_DIR "/var/lib/margay/cni"
/* Longer than this after the datastore was last seen to have the node, in this boot, nothing is given from the reserve. */
#define JOURNAL_AWAY_MAX_S (4 * 3600)

/* Which attachment: what its addresses, endpoint and device are found by. Strings are never NULL but pod's. */
struct journal_owner {
	char *handle, *container_id, *ifname;
	char *namespace, *pod; /* pod NULL: of no pod, or not known */
	char *key;	       /* of its endpoint; NULL: not known, or none */
	bool ipam_only;	       /* its endpoint, if it has one, is another plugin's */
	bool by_name; /* its addresses were asked for: what it gives back is its pool's at once */
};

struct journal_owner journal_owner_dup(const struct journal_owner *o);
void journal_owner_done(struct journal_owner *o);

enum journal_state { JOURNAL_FREE, JOURNAL_TAKEN, JOURNAL_LEAVING };

struct journal_addr {
	struct ipam_addr addr;
	enum journal_state state;
	struct journal_owner owner; /* of a taken one */
};

enum journal_kind { JOURNAL_TAKE, JOURNAL_GIVE_BACK };

struct journal_op {
	uint64_t n; /* its number */
	enum journal_kind kind;
	struct journal_owner owner;
	VEC(struct ipam_addr) addrs;
	VEC(struct ipam_attr) attrs; /* of a take: what the datastore is to say of them */
	char *endpoint;		     /* of a take: its JSON; NULL: it has none */
};

struct journal_op *journal_op_dup(const struct journal_op *op);
void journal_op_free(struct journal_op *op);
AUTO_DEFINE(journal_op, struct journal_op *, journal_op_free);

/* ENOENT: there is none yet, and make is false. */
int journal_open(const char *dir, bool make, struct journal **ret, struct err *err);
void journal_close(struct journal *j);
AUTO_DEFINE(journal, struct journal *, journal_close);
/* Of the file that is appended to, and that is replaced when it has grown. Borrowed. */
const char *journal_path(const struct journal *j);

/*
 * ENOSPC: the disk has no room for what is to be written when it is full, and so nothing more is held or taken; what
 * gives back is written still.
 */
int journal_has_room(struct journal *j, struct err *err);
/* Reads what others have done. What the calls below give is borrowed until the next call. */
int journal_refresh(struct journal *j, struct err *err);
const struct journal_addr *journal_addrs(const struct journal *j, size_t *ret_n);
const struct journal_addr *journal_find(const struct journal *j, const struct ip *ip);
/* The waiting operation with the smallest number after n; NULL: none. */
const struct journal_op *journal_next(const struct journal *j, uint64_t n);
/* An operation of the handle, or (key not NULL) of the endpoint waits. */
bool journal_is_pending(const struct journal *j, const char *handle, const char *key);
/* One that waits, other than n, names the address. */
bool journal_is_named(const struct journal *j, const struct ip *ip, uint64_t n);
size_t journal_n_pending(const struct journal *j);
size_t journal_n_free(const struct journal *j, enum ip_family family);
/* The datastore had this node not too long ago, by the wall's clock where that was in another boot. */
bool journal_was_seen(const struct journal *j);
/* Pools give it, or some of the family, by what the keeper has seen of them last. */
bool journal_is_given(const struct journal *j, const struct ip *ip);
bool journal_gives(const struct journal *j, enum ip_family family);
/* A pool of that name, or CIDR, that gives some; NULL: none. */
const struct prefix *journal_pool(const struct journal *j, const char *name);
/* The first address that the handle has taken, or NULL. */
const struct journal_addr *journal_taken_by(const struct journal *j, const char *handle);

/* ---- verbs ---- */

struct journal_want {
	struct journal_owner owner; /* borrowed */
	const char *node;
	bool v4, v6;		   /* one of each that is asked for */
	struct ip ip;		   /* this one, of the one family; IP_NONE: any */
	const struct prefix *nets; /* one of which has each; none of a family: any */
	size_t n_nets;
	const struct ipam_attr *attrs;
	size_t n_attrs;
	/* The endpoint's JSON with these addresses, the caller's to free; NULL: it has none. */
	char *(*endpoint)(void *arg, const struct ip *ips, size_t n);
	void *arg;
};

/* There are free ones that are fit, and may be given. */
bool journal_has(const struct journal *j, const struct journal_want *w);
/*
 * What the handle has taken already, which is taken once more unless an operation of it waits, or free ones, the
 * longest free first. ENOENT: there are none that are fit, or the node has not been seen in the datastore for too
 * long, or not in this boot.
 */
int journal_take(struct journal *j, const struct journal_want *w, struct ipam_addr ret[static 2],
	size_t *ret_n, struct err *err);
/*
 * These, which the datastore has given to the handle, are taken from now on; the endpoint (NULL: the datastore has
 * it, or there is none) is written as that of others that are.
 */
int journal_adopt(struct journal *j, const struct journal_want *w, const struct ipam_addr *addrs,
	size_t n, struct err *err);
/* All that the handle has, in the datastore too. Again is success. */
int journal_give_back(struct journal *j, const struct journal_owner *owner, struct err *err);

/* ---- the keeper ---- */

/*
 * These, which the datastore has for the handle, are taken. 1; 0: one of them is not the handle's in the journal, or an
 * operation of the handle waits, and nothing is done.
 */
int journal_inherit(struct journal *j, const struct journal_owner *owner,
	const struct ipam_addr *addrs, size_t n, struct err *err);
/* The datastore has it for this node's reserve. */
int journal_hold(struct journal *j, const struct ipam_addr *addr, struct err *err);
/*
 * A free one that no waiting operation names but n leaves: ip, or (IP_NONE) the longest free of the family.
 * ENOENT: there is none.
 */
int journal_leave(struct journal *j, enum ip_family family, const struct ip *ip, uint64_t n,
	struct ipam_addr *ret, struct err *err);
/* It is not held any more, unless another than handle (NULL: anybody) has taken it. */
int journal_drop(struct journal *j, const struct ip *ip, const char *handle, struct err *err);
/* The operation has been carried out. */
int journal_done(struct journal *j, uint64_t n, struct err *err);
/*
 * The datastore has this node (or has it not: nothing is given from the reserve until it has), and is of the
 * cluster guid ("" where it does not say).
 */
int journal_seen(
	struct journal *j, const char *node, bool there, const char *guid, struct err *err);
/* Addresses are given from prefixes of in, and not from those of out: only where that has changed a line is written. */
int journal_scope(struct journal *j, const struct ipam_scope *scope, struct err *err);
const char *journal_guid(const struct journal *j); /* the last one; "": none */
/* Writes the file anew, without what is over, where that is most of it. */
int journal_compact(struct journal *j, struct err *err);
