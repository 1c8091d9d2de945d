/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The datastore: JSON objects under text keys (Calico's etcd paths), each with the revision of its
 * last change. Revisions are positive, and one counter orders all changes of a store.
 *
 * A driver does each operation once, as something that completes through a callback on the event
 * loop; store_*_wait() runs a private loop around it, for plugins, the CLI and start-up code. A
 * store belongs to one kind of caller: opened with an event base it serves callbacks, opened with
 * none it serves the _wait forms. Opening never touches the datastore: the first operation connects,
 * and one after a failure connects anew, so a daemon may start while its datastore is away. A store is
 * not carried over a fork, and not closed from inside a callback.
 *
 * Errors that a caller may branch on, from every driver: ENOENT; EEXIST; ESTALE (another revision
 * than expected, or a watch from too old a revision: read again); EHOSTUNREACH (the store is away
 * or not usable now: back off, keep what is known); EACCES; ENOSPC (the disk, or the
 * store's quota, is full); EINVAL (a bad
 * key or value, or an open of something that is no datastore: permanent); EOPNOTSUPP (this datastore
 * cannot do it: permanent); ETIMEDOUT (the outcome of a write is then unknown: read again).
 *
 * A write is of one object. Kubernetes has no transactions of several, so whoever writes several orders them
 * such that any that are done alone do no harm; a datastore that has them does them at once where it is
 * told which belong together (store_txn_begin_wait).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct err;
struct event_base;
struct store;
struct store_op;
struct store_watch;

#define STORE_KEY_MAX 1024	      /* a driver may have room for shorter ones only: EINVAL */
#define STORE_VALUE_MAX (1528 * 1024) /* etcd takes 1536 KiB, with the keys of the transaction */
#define STORE_TIMEOUT_MS 10000	      /* an operation that names no deadline */
#define STORE_SILENCE_MS 30000	      /* a list for a watch that names none */

#define STORE_SQLITE_PATH "/var/lib/margay/margay.db"
#define STORE_KUBE_ENDPOINTS_FILE "/var/lib/margay/kube-endpoints"

/*
 * What to open. Strings are copied; "" is as NULL. The names are those of the parameters (params.h)
 * and, in lower case, of the network configuration's keys.
 */
struct store_conf {
	const char *type; /* DATASTORE_TYPE; NULL = etcdv3 where it has endpoints, else sqlite */
	const char *sqlite_path; /* MARGAY_SQLITE_PATH; NULL = STORE_SQLITE_PATH */
	bool must_exist; /* where there is no datastore none is made: EHOSTUNREACH, until there is */
	bool sqlite_sync_full; /* fsync every commit: nothing is lost at a power cut, ~10x slower */
	const char *etcd_endpoints;	/* ETCD_ENDPOINTS, and so on */
	const char *etcd_discovery_srv; /* refused */
	const char *etcd_username, *etcd_password;
	const char *etcd_key_file, *etcd_cert_file, *etcd_ca_cert_file;
	const char *kubeconfig; /* KUBECONFIG, and so on */
	const char *k8s_api_endpoint;
	const char *k8s_ca_file, *k8s_cert_file, *k8s_key_file, *k8s_token_file;
	const char *k8s_api_token;
	const char *kubernetes_service_host, *kubernetes_service_port;
	const char *calico_api_group;
	const char *kube_endpoints_file; /* MARGAY_KUBE_ENDPOINTS_FILE; NULL = none */
	/*
	 * Of a managed one a watch may leave out other nodes' endpoints and Pods, and of nodes/OWN_NODE
	 * longer names.
	 */
	const char *own_node;
};

/* ret's strings are the caller's, to store_conf_done(). */
void store_conf_copy(struct store_conf *ret, const struct store_conf *conf);
bool store_conf_equal(const struct store_conf *a, const struct store_conf *b);
void store_conf_done(struct store_conf *conf);
/* A text of a configuration that says something: neither NULL nor "". */
bool store_conf_is_set(const char *text);
/* conf->type, or what stands for it where it is not set. Borrowed. */
const char *store_conf_type(const struct store_conf *conf);

/*
 * base is borrowed, and must outlive the store; NULL = for the _wait forms. Fails with EINVAL alone:
 * a type that is not supported or a parameter that makes no sense.
 */
int store_open(const struct store_conf *conf, struct event_base *base, struct store **ret,
	struct err *err);
/* Ends operations and watches that are under way, without calling back. */
void store_close(struct store *st);
AUTO_DEFINE(store, struct store *, store_close);

/* For people: "sqlite:/var/lib/margay/margay.db". Borrowed. */
const char *store_name(const struct store *st);

/* Who has the objects of a kind, and what a caller may do with them. */
enum store_access {
	STORE_ANY,    /* as of a datastore's own */
	STORE_CHANGE, /* another makes and deletes them, and they can be updated: Kubernetes' Nodes */
	STORE_FOREIGN, /* another has them: Pods, Services */
	STORE_SAME_AS, /* another form of objects that have other keys, too */
};

/*
 * Where objects are: together these prefixes are those of all keys, and each can be listed. But for what
 * Kubernetes shows once more as it is, for readers: Pods and Namespaces (model/pod.h).
 */
struct store_root {
	const char *prefix;
	enum store_access access;
};
const struct store_root *store_roots(const struct store *st, size_t *ret_n);

/*
 * Asks the datastore, at start-up, for what its user should know of: that there are two places for its
 * objects, and the one that is used lacks what the other has. done is called from the event loop, with
 * text NULL where there is nothing to say. The handle is valid until then; NULL: it will not be called.
 */
typedef void store_advice_fn(void *arg, const char *text);
struct store_advice;
struct store_advice *store_advise(struct store *st, store_advice_fn *done, void *arg);
void store_advice_cancel(struct store_advice *a); /* NULL is harmless */
/* The event base it runs on: the one given, or the private one. */
struct event_base *store_base(const struct store *st);

/* Whether objects can be written that expire (store_req.lease_s): etcd alone has that. */
bool store_has_leases(const struct store *st);

/*
 * Whether Kubernetes makes and deletes what stands for nodes, pods, Services and the EndpointSlices of
 * their selectors; of nodes and pods our part may be written then, all else is read.
 */
bool store_is_managed(const struct store *st);

/* One object. value is NUL-terminated JSON text of len bytes. */
struct store_kv {
	char *key;
	char *value;
	size_t len;
	int64_t rev;	    /* of its last change */
	int64_t create_rev; /* of its creation; 0 where the driver does not know it */
	bool unreadable; /* it is there, and value is a JSON string that says why it makes no sense */
};

/* Frees what kv holds, not kv itself. */
void store_kv_done(struct store_kv *kv);
/* With strings of its own. */
struct store_kv store_kv_copy(const struct store_kv *kv);

/* ---- operations that complete through a callback ---- */

enum store_verb { STORE_GET, STORE_LIST, STORE_CREATE, STORE_UPDATE, STORE_DELETE };

/*
 * One operation. Borrowed until the call returns.
 *
 *	GET	key -> the object, or ENOENT
 *	LIST	all objects whose key starts with key, in key order, from one consistent revision; ENOENT: the
 *		store has no such kind of objects
 *	CREATE	key, value -> EEXIST where the key is taken
 *	UPDATE	key, value, rev -> ENOENT where it is gone, ESTALE where it has another revision
 *	DELETE	key, rev, uid -> as UPDATE; another metadata.uid is ESTALE as well
 *
 * An update to what is there already may keep the revision, and is no change to a watch then.
 *
 * Kubernetes finds the block affinities of a node by labels, which an older Calico left out. An unindexed list
 * is of those without; an update, of the same value too, adds the labels. Elsewhere there are none.
 *
 * An object that was last written with lease_s stays while the event loop of the store that wrote it runs
 * and reaches the datastore, and is deleted within about lease_s seconds (or the datastore's own least
 * time, if longer) of its end, be that store_close() or a crash. Where the datastore was away for longer
 * it may be gone as well: whoever wants it back writes it again. EOPNOTSUPP unless store_has_leases().
 */
struct store_req {
	enum store_verb verb;
	const char *key;
	const char *value;   /* CREATE, UPDATE: JSON text, len bytes */
	size_t len;	     /* 0 = strlen(value) */
	int64_t rev;	     /* UPDATE, DELETE: the revision expected, 0 = any */
	const char *uid;     /* DELETE: metadata.uid expected, NULL = any */
	unsigned lease_s;    /* CREATE, UPDATE: it expires (above), 0 = never */
	size_t limit;	     /* LIST: at most so many objects, 0 = all */
	bool unindexed;	     /* LIST: what other lists and watches miss (below), and that alone */
	bool feed;	     /* LIST: a watch follows: in any order, and perhaps of a moment ago */
	int64_t deadline_ms; /* CLOCK_MONOTONIC; 0 = STORE_TIMEOUT_MS from now; a feed's is put off
				by as much with each page: a long one that goes on is not begun anew */
};

/*
 * The outcome, borrowed for the time of the callback. GET gives one object. LIST gives them in pages:
 * `more` is true on all but the last call, and an error may follow good pages.
 */
struct store_res {
	int r;		       /* 0 or a negative errno */
	const struct err *err; /* when r < 0 */
	/* LIST: the store's that it shows; DELETE: the deletion's, or 0 = unknown; else the object's */
	int64_t rev;
	const struct store_kv *kvs; /* GET, LIST */
	size_t n;
	bool more;
};

typedef void store_done_fn(void *arg, const struct store_res *res);

/*
 * Starts an operation; done is called from the event loop, never before this returns. The handle is
 * valid until done is called for the last time. A bad key or value is reported through done as well.
 */
struct store_op *store_start(
	struct store *st, const struct store_req *req, store_done_fn *done, void *arg);

/* done is not called (again). A write may have happened nonetheless. NULL is harmless. */
void store_op_cancel(struct store_op *op);

/* ---- watching ---- */

/*
 * kv.value is NULL for a deletion, and kv.rev the revision of the deletion. Events come in the order
 * of their revisions; of several changes of one key between two wake-ups a driver may give the last
 * only, so a deletion or a set may be of something the watcher has never heard of.
 */
typedef void store_event_fn(void *arg, const struct store_kv *kv);

/* The watch has ended, by itself: ESTALE (list again) or another error (back off, then list). */
typedef void store_end_fn(void *arg, int r, const struct err *err);

/*
 * Tells about every change under prefix after revision rev (a list's), from the event loop, never
 * before this returns. The handle is valid until end is called.
 */
struct store_watch *store_watch(struct store *st, const char *prefix, int64_t rev,
	store_event_fn *event, store_end_fn *end, void *arg);
/* Neither callback is called any more. NULL is harmless. May be called from inside event. */
void store_watch_cancel(struct store_watch *w);

/* ---- the same operations for callers without an event loop ---- */

struct store_list {
	struct store_kv *v;
	size_t n;
	int64_t rev;
};
void store_list_done(struct store_list *l);
/* kv's strings are the list's from then on. */
void store_list_add_take(struct store_list *l, struct store_kv kv);

/*
 * What is asked for from here to store_txn_end_wait is one transaction, on SQLite and etcd: it costs one write, all
 * that it reads is of one moment, and others see of it everything or nothing. On SQLite nobody else writes
 * meanwhile: keep it short. On etcd what is read may be what an earlier transaction has left here, until the end
 * says that it was not so, and a revision that it gives to a write means nothing after it. On Kubernetes nothing changes.
 * A write may turn out at the end not to have been done.
 */
int store_txn_begin_wait(struct store *st, int64_t deadline_ms, struct err *err);
/*
 * fn, which returns 0 or an error, as one transaction; done again, from its beginning, where that is to be. Returns as
 * store_txn_end_wait, with *ret what fn has returned, or why it could not begin (negative).
 */
typedef int store_txn_fn(void *arg, struct err *err);
int store_txn_wait(struct store *st, int64_t deadline_ms, store_txn_fn *fn, void *arg, int *ret,
	struct err *err);

/* Whether what it has read of single objects holds when it is written. */
bool store_has_txns(const struct store *st);
/* There is most likely no such object, so that it need not be asked for before the end, or before it is made. */
void store_txn_expect_new(struct store *st, const char *key);
/*
 * EHOSTUNREACH, ENOSPC: none of it was written. ESTALE: neither, and what was read was not so, what failed for it
 * included: do all of it again. ETIMEDOUT: likewise, and it may have been written.
 */
int store_txn_end_wait(struct store *st, int64_t deadline_ms, struct err *err);

/*
 * What a watch has told: all that is under the prefixes, of which one that does not end with "/" is an object's key.
 * Borrowed.
 */
struct store_told {
	const char *const *prefixes;
	size_t n_prefixes;
	struct store_list list; /* in the order of the keys */
	uint64_t
		life; /* another one: it may be another datastore by now, and what was kept is not its */
};

/*
 * An attempt without what can be known, for a datastore that has no transactions: from here to the end what was told
 * is not asked for, and neither are blocks of IPAM that were read or written here last, while their revision is a
 * write's condition; one that was of no use is asked for the next time. What that does not suffice for, as
 * a write to what was told of, or where what was expected to be new is there, fails with EAGAIN, and all after it is
 * the datastore's own. So whatever fails is to be done again, from the beginning, before it is believed.
 */
void store_known_begin(struct store *st, const struct store_told *told);
void store_known_end(struct store *st); /* harmless where there is none */

/*
 * From now on no request but a list waits for longer than ms, whatever its deadline; and when one has failed with
 * EHOSTUNREACH or ETIMEDOUT after half of that or more, the datastore is silent: all after it fail with EHOSTUNREACH at
 * once, until this is called again. So who asks for many things waits for one.
 */
void store_set_limit(struct store *st, int64_t ms);
bool store_is_silent(const struct store *st);

/*
 * deadline_ms: CLOCK_MONOTONIC, 0 = STORE_TIMEOUT_MS from now. What is returned is the caller's to
 * free, and written on success only; ret_rev (the new revision) may be NULL.
 */
int store_get_wait(struct store *st, const char *key, int64_t deadline_ms, struct store_kv *ret,
	struct err *err);
int store_list_wait(struct store *st, const char *prefix, int64_t deadline_ms,
	struct store_list *ret, struct err *err);
int store_list_unindexed_wait(struct store *st, const char *prefix, int64_t deadline_ms,
	struct store_list *ret, struct err *err);
char *store_advise_wait(struct store *st); /* NULL: nothing to say. The caller's. */
int store_create_wait(struct store *st, const char *key, const char *value, int64_t deadline_ms,
	int64_t *ret_rev, struct err *err);
int store_update_wait(struct store *st, const char *key, const char *value, int64_t rev,
	int64_t deadline_ms, int64_t *ret_rev, struct err *err);
int store_delete_wait(struct store *st, const char *key, int64_t rev, const char *uid,
	int64_t deadline_ms, struct err *err);
