/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/keeper.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/vec.h"
#include "cni/cluster.h"
#include "cni/cni.h"
#include "cni/full.h"
#include "cni/garbage.h"
#include "cni/gone.h"
#include "cni/inherit.h"
#include "cni/journal.h"
#include "cni/queue.h"
#include "cni/replay.h"
#include "cni/routed.h"
#include "cni/shared.h"
#include "ipam/run.h"
#include "model/key.h"
#include "store/lock.h"
#include "store/store.h"

enum {
	TIMEOUT_MS = 30000, /* of what is asked of the datastore at once */
	AGAIN_MIN_MS = 200,
	AGAIN_MAX_MS = 10000, /* after a failure; */
	AWAY_MAX_MS = 1000,   /* of a datastore that is away, which verbs do not ask themselves */
	LATE_MS =
		2000, /* after its first answer the datastore still does what it was asked before */
	SEEN_EVERY_MS = JOURNAL_AWAY_MAX_S * 1000 / 16,
	PUT_OFF_MS =
		60000, /* until what cannot be done is tried again, and an empty pool is asked again */
};

static int here(struct keeper *k, int r)
{
	k->fails_here |= r < 0 && r != -ENOENT;
	return r;
}

/*
 * Others may have taken it for gone, and be about to give back what it held, which they have done, or not, when
 * it is taken for there.
 */
static bool comes_back(struct keeper *k)
{
	const int64_t now = clock_mono_ms();
	size_t n;

	if (journal_was_seen(k->j)) {
		if (now >= k->back_ms)
			k->back_ms = 0;
		return false;
	}
	(void)journal_addrs(k->j, &n);
	if (k->back_ms == 0) {
		k->adopted = false;
		k->back_ms = now + REPLAY_BACK_MS;
		if (n > 0)
			log_warn(
				"this node was not seen in the datastore for long: nothing is given from "
				"the reserve for another %d s",
				REPLAY_BACK_MS / 1000);
	}
	/* Without an address there is nothing that could be given too soon. */
	if (n == 0 || now >= k->back_ms)
		return false;
	k->seen_due_ms = k->back_ms;
	return true;
}

/*
 * The reserve.
 */
static int release(struct keeper *k, const struct ip *ip, struct err *err)
{
	int r = ipam_run_take(k->rp.st, ipam_release_ip_new(ip, k->rp.reserve, clock_real_ns()),
		k->rp.deadline_ms, err);

	return r == -ENOENT || r == -ESTALE ? 0 : r;
}

static int give_to_pool(struct keeper *k, const struct ip *ip, struct err *err)
{
	int r = release(k, ip, err) ?: here(k, journal_drop(k->j, ip, NULL, err));

	if (r < 0)
		k->unknown_due_ms = 0; /* it goes on with what leaves */
	return r;
}

static bool has(const struct ipam_addr *v, size_t n, const struct ip *ip)
{
	for (size_t i = 0; i < n; i++)
		if (ip_equal(&v[i].ip, ip))
			return true;
	return false;
}

/* What the journal has and the datastore does not hold for this node: it was lost, or was on its way. */
static int drop_lost(struct keeper *k, const struct ipam_addr *held, size_t n_held, struct err *err)
{
	VEC(struct ip) leaving = {0};
	VEC(struct ip) lost = {0};
	const struct journal_addr *a;
	const struct ip *ip;
	size_t n;
	int r = 0;

	a = journal_addrs(k->j, &n);
	for (size_t i = 0; i < n; i++) {
		if (journal_is_named(k->j, &a[i].addr.ip, 0))
			continue;
		if (a[i].state == JOURNAL_LEAVING)
			vec_push(&leaving, a[i].addr.ip);
		else if (a[i].state == JOURNAL_FREE && !has(held, n_held, &a[i].addr.ip))
			vec_push(&lost, a[i].addr.ip);
	}
	vec_for_each (&leaving, ip)
		r = r < 0 ? r : give_to_pool(k, ip, err);
	vec_for_each (&lost, ip) {
		if (r < 0)
			break;
		log_warn("%s is not held for this node any more", ip_str(ip));
		r = here(k, journal_drop(k->j, ip, NULL, err));
	}
	vec_done(&leaving);
	vec_done(&lost);
	return r;
}

/*
 * A keeper that died between its handle and a block has left it counting too many, which does no harm: so it may stay,
 * where a block cannot be read.
 */
static int recount(struct keeper *k, struct err *err)
{
	struct err e = ERR_INIT;
	int r = ipam_run_take(k->rp.st,
		ipam_recount_handle_new(k->rp.reserve, NULL, 0, clock_real_ns()), k->rp.deadline_ms,
		&e);

	if (r < 0 && !queue_is_away(r)) {
		log_warn("counting anew what is held ahead: %s", err_text(&e));
		return 0;
	}
	if (r < 0 && err)
		*err = e;
	return r;
}

/*
 * Of the reserve, too, but for what a route of this machine leads to. A pod has it then, whatever the journal says:
 * its file may have been lost.
 */
static int hold_unknown(struct keeper *k, const struct ipam_addr *held, size_t n, struct err *err)
{
	struct routed routed;
	struct err e = ERR_INIT;
	int r = 0;

	if (routed_load(&routed, &e) < 0) {
		log_warn("what this node holds, and nobody has: %s: it is tried again",
			err_text(&e));
		k->unknown_due_ms = clock_mono_ms() + PUT_OFF_MS;
		return 0;
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		if (!journal_find(k->j, &held[i].ip) && !routed_has(&routed, &held[i].ip))
			r = here(k, journal_hold(k->j, &held[i], err));
	routed_done(&routed);
	k->unknown_due_ms = k->unsure ? clock_mono_ms() + LATE_MS : INT64_MAX;
	k->unsure = false;
	return r;
}

/* Once after a start: a keeper may have died between the datastore and the journal. */
static int adopt(struct keeper *k, struct err *err)
{
	struct ipam_request *rq;
	const struct ipam_addr *held;
	size_t n = 0;
	int r;

	if ((k->adopted && clock_mono_ms() < k->unknown_due_ms) || k->no_node)
		return 0;
	rq = ipam_lookup_handle_new(k->rp.reserve);
	r = ipam_run(k->rp.st, rq, k->rp.deadline_ms, err);
	held = ipam_request_addrs(rq, &n);
	if (r == -ENOENT)
		r = 0;
	if (r == 0 && n > 0 && clock_mono_ms() < k->back_ms) {
		ipam_request_free(rq);
		return 0;
	}
	if (r == 0)
		r = hold_unknown(k, held, n, err) ?: drop_lost(k, held, n, err) ?: recount(k, err);
	ipam_request_free(rq);
	k->adopted = r == 0;
	if (r == 0)
		shared_set(&k->home->shared->looked, 1);
	return r;
}

static struct ipam_assign reserve_assign(
	const struct keeper *k, const struct ipam_attr *attrs, size_t n)
{
	return (struct ipam_assign){.host = k->home->node,
		.handle = k->rp.reserve,
		.attrs = attrs,
		.n_attrs = n,
		.use = IPAM_USE_WORKLOAD,
		.now_ns = clock_real_ns(),
		.random = (uint64_t)clock_real_ns()};
}

static bool scope_is_due(const struct keeper *k)
{
	return k->pool_changes != shared_get(&k->home->shared->pool_changes) ||
	       clock_mono_ms() >= k->scope_due_ms;
}

/* From which pools pods may be given what is free. */
static int learn_scope(struct keeper *k, struct err *err)
{
	const uint64_t changes = shared_get(&k->home->shared->pool_changes);
	struct ipam_assign a = reserve_assign(k, NULL, 0);
	struct ipam_scope scope;
	struct ipam_request *rq;
	int r;

	if (!scope_is_due(k))
		return 0;
	a.v4 = a.v6 = true;
	rq = ipam_scope_new(&a);
	r = ipam_run(k->rp.st, rq, k->rp.deadline_ms, err);
	if (r == 0) {
		scope = ipam_request_scope(rq);
		r = here(k, journal_scope(k->j, &scope, err));
	}
	if (r == 0) {
		k->pool_changes = changes;
		k->scope_due_ms = clock_mono_ms() + SEEN_EVERY_MS;
		k->refill_due_ms[0] = k->refill_due_ms[1] = 0;
	}
	ipam_request_free(rq);
	return r;
}

/* What another cluster has is not this journal's. */
static int check_cluster(struct keeper *k, struct err *err)
{
	const char *known = journal_guid(k->j);
	int r;

	free(take_ptr(k->guid));
	r = cluster_guid(k->rp.st, k->rp.deadline_ms, &k->guid, err);
	if (r < 0)
		return r;
	if (!known[0] || strcmp(known, k->guid) == 0) {
		k->wrong_cluster = false;
		return 0;
	}
	if (!k->wrong_cluster)
		log_error(
			"%s is of cluster %s, and %s of %s: nothing is done with either until the right "
			"datastore is named, or the file is moved away and the pods of this node are "
			"deleted",
			journal_path(k->j), known, store_name(k->rp.st),
			k->guid[0] ? k->guid : "none that it tells");
	k->wrong_cluster = true;
	r = here(k, journal_seen(k->j, k->home->node, false, known, err));
	if (r == 0)
		k->seen_due_ms = clock_mono_ms() + PUT_OFF_MS;
	return r;
}

static int node_is_away(struct keeper *k, struct err *err)
{
	int r;

	k->adopted = false;
	k->back_ms = 0;
	log_warn(
		"the datastore has no node %s: nothing is given from the reserve until it has, and in "
		"some hours others give back what this node holds",
		k->home->node);
	r = here(k, journal_seen(k->j, k->home->node, false, k->guid, err));
	shared_set(&k->home->shared->looked, r == 0);
	if (r == 0)
		k->seen_due_ms = clock_mono_ms() + AGAIN_MAX_MS;
	return r;
}

/* This node in the datastore. What it does not have it holds nothing for. */
static int check_node(struct keeper *k, struct err *err)
{
	char key[KEY_SIZE];
	struct store_kv kv;
	int r = store_get_wait(k->rp.st, key_format(KIND_NODE, NULL, k->home->node, key),
		k->rp.deadline_ms, &kv, err);

	if (r < 0 && r != -ENOENT)
		return r;
	k->no_node = r == -ENOENT;
	if (k->no_node)
		return node_is_away(k, err);
	store_kv_done(&kv);
	k->is_there = !comes_back(k);
	return 0;
}

static int look_at_node(struct keeper *k, struct err *err)
{
	int r;

	k->is_there = false;
	if (clock_mono_ms() < k->seen_due_ms)
		return 0;
	r = check_cluster(k, err);
	return r < 0 || k->wrong_cluster ? r : check_node(k, err);
}

/* Before anything may be given by that: what it holds, and from which pools that may be given. */
static int take_for_there(struct keeper *k, struct err *err)
{
	int r;

	if (!k->is_there)
		return 0;
	r = adopt(k, err) ?: learn_scope(k, err);
	if (r == 0)
		r = here(k, journal_seen(k->j, k->home->node, true, k->guid, err));
	if (r == 0)
		k->seen_due_ms = clock_mono_ms() + SEEN_EVERY_MS;
	return r;
}

struct holding {
	struct keeper *k;
	struct ipam_assign assign;
	struct ipam_addr got;
	unsigned n_tries;
};

static int assign(void *arg, struct err *err)
{
	struct holding *h = arg;
	const struct replay *rp = &h->k->rp;
	struct ipam_request *rq = ipam_assign_new(&h->assign);
	int r = store_lock_check_wait(rp->st, rp->deadline_ms, NULL, err)
			?: ipam_run(rp->st, rq, rp->deadline_ms, err);

	h->n_tries++;
	if (r == 0)
		h->got = *ipam_request_addrs(rq, &(size_t){0});
	ipam_request_free(rq);
	return r;
}

static int hold_one(struct keeper *k, enum ip_family family, struct err *err)
{
	const struct ipam_attr attrs[] = REPLAY_RESERVE_ATTRS(k->home->node);
	struct holding h = {.k = k, .assign = reserve_assign(k, attrs, array_size(attrs))};
	int r, end;

	h.assign.v4 = family == IP_V4;
	h.assign.v6 = family == IP_V6;
	end = store_txn_wait(k->rp.st, k->rp.deadline_ms, assign, &h, &r, err);
	r = r ?: end;
	/* What was written, and not answered, is found when what the node holds is looked at. */
	if (h.n_tries > 1 || (r < 0 && r != -ENOSPC && r != -EDQUOT && r != -ENOENT))
		k->unknown_due_ms = 0;
	k->unsure |= r == -EHOSTUNREACH || r == -ETIMEDOUT;
	if (r < 0)
		return r;
	/* Without transactions it may have been locked since, and read. */
	if (!store_has_txns(k->rp.st))
		r = store_lock_check_wait(k->rp.st, k->rp.deadline_ms, NULL, err);
	if (r == 0)
		r = here(k, journal_hold(k->j, &h.got, err));
	/* A disk that is full is not to empty the pool. */
	if (r < 0 && release(k, &h.got.ip, NULL) < 0)
		k->unknown_due_ms = 0;
	return r;
}

/* Nothing is held ahead of what others have not got. */
static void set_size(struct keeper *k)
{
	const size_t n = full_is_told(&k->full) ? 0 : k->n_reserve;

	if (n < k->rp.n_reserve)
		log_warn("the pools are full: no address is held ahead for a while");
	k->rp.n_reserve = n;
}

/* What no pod is given any more goes back to its pool. */
static int leave_surplus(struct keeper *k, struct err *err)
{
	VEC(struct ip) surplus = {0};
	const struct journal_addr *a;
	struct ipam_addr gone;
	const struct ip *ip;
	size_t n;
	int r = 0;

	a = journal_addrs(k->j, &n);
	for (size_t i = 0; i < n; i++)
		if (a[i].state == JOURNAL_FREE && !journal_is_given(k->j, &a[i].addr.ip))
			vec_push(&surplus, a[i].addr.ip);
	vec_for_each (&surplus, ip) {
		r = here(k, journal_leave(k->j, (enum ip_family)ip->family, ip, 0, &gone, err));
		if (r == 0)
			r = give_to_pool(k, ip, err);
		if (r < 0 && r != -ENOENT)
			break;
		r = 0;
	}
	vec_done(&surplus);
	return r;
}

/* Up to n_reserve, and not beyond twice as many. */
static int level(struct keeper *k, enum ip_family family, struct err *err)
{
	int64_t *due = &k->refill_due_ms[family == IP_V6];
	const struct ip any = {0};
	struct ipam_addr gone;
	int r = 0;

	while (r == 0 && journal_n_free(k->j, family) < k->rp.n_reserve &&
		clock_mono_ms() >= *due) {
		struct err e = ERR_INIT;

		k->rp.deadline_ms = clock_mono_ms() + TIMEOUT_MS;
		r = hold_one(k, family, &e);
		/* At its own limit it does not know whether the pools are full, and others' addresses would not help. */
		if (((r == -ENOSPC || r == -EDQUOT) && !k->fails_here) || r == -ENOENT) {
			if (r != -ENOENT)
				log_warn("the reserve of addresses: %s", err_text(&e));
			*due = clock_mono_ms() + PUT_OFF_MS;
			r = r == -ENOSPC ? full_tell(&k->full, k->rp.st, k->rp.deadline_ms, err)
					 : 0;
			set_size(k);
		} else if (r < 0 && err) {
			*err = e;
		}
		if (k->fails_here)
			*due = clock_mono_ms() + PUT_OFF_MS;
	}
	while (r == 0 && journal_n_free(k->j, family) > 2 * k->rp.n_reserve) {
		r = here(k, journal_leave(k->j, family, &any, 0, &gone, err));
		if (r == -ENOENT)
			return 0;
		if (r == 0)
			r = give_to_pool(k, &gone.ip, err);
	}
	return r;
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* More is to be held; INT64_MAX: no more, or no pool has the family. */
static int64_t refill_due_ms(const struct keeper *k, enum ip_family family)
{
	if (journal_n_free(k->j, family) >= k->rp.n_reserve || !journal_gives(k->j, family))
		return INT64_MAX;
	return k->refill_due_ms[family == IP_V6];
}

/* When the datastore has to be asked, whatever the journal says. */
static int64_t due_ms(const struct keeper *k)
{
	int64_t due = k->seen_due_ms;

	/* A waiter has said so, or the pass before. */
	if (shared_get(&k->home->shared->away))
		return 0;
	/* Without its Node, and in another cluster, nothing else is done. */
	if (k->no_node || k->wrong_cluster)
		return due;
	due = earlier(due, k->full.due_ms);
	if (k->adopted && scope_is_due(k))
		return 0;
	if (k->adopted)
		due = earlier(earlier(due, earlier(k->unknown_due_ms, inherit_due_ms(k->inherit))),
			earlier(refill_due_ms(k, IP_V4), refill_due_ms(k, IP_V6)));
	return earlier(due, earlier(gone_due_ms(k->gone), garbage_due_ms(k->garbage)));
}

static void heed_deletion(struct keeper *k)
{
	const uint64_t n = shared_get(&k->home->shared->node_deletions);

	if (n != k->node_deletions)
		k->seen_due_ms = 0;
	k->node_deletions = n;
}

/* What it holds ahead, and what others and its own pods have left. */
static int keep_reserve(struct keeper *k, struct err *err)
{
	int r = adopt(k, err);

	if (r == 0 && !k->no_node)
		r = full_look(&k->full, k->rp.st, k->rp.deadline_ms, err);
	set_size(k);
	if (r == 0 && k->adopted)
		r = learn_scope(k, err)
			    ?: leave_surplus(k, err)
			    ?: level(k, IP_V4, err)
			    ?: level(k, IP_V6, err);
	if (r == 0 && !k->no_node)
		r = gone_work(k->gone, k->rp.st, err) ?: garbage_work(k->garbage, k->rp.st, err);
	if (r == 0 && !k->no_node && k->adopted)
		r = inherit_work(k->inherit, k->rp.st, err);
	return r < 0 ? r : here(k, journal_has_room(k->j, err));
}

int keeper_work(struct keeper *k, struct err *err)
{
	enum store_lock lock;
	int r, seen;

	heed_deletion(k);
	k->fails_here = k->rp.fails_here = k->tried = k->asked = k->answered = false;
	r = here(k, journal_refresh(k->j, err));
	if (r < 0)
		return r;
	k->rp.deadline_ms = clock_mono_ms() + TIMEOUT_MS;
	if (clock_mono_ms() < due_ms(k) && !journal_next(k->j, 0) && k->adopted)
		return here(k, journal_has_room(k->j, err));
	store_set_limit(k->rp.st, CNI_ANSWER_MS);
	k->tried = true;
	r = store_lock_check_wait(k->rp.st, k->rp.deadline_ms, &lock, err);
	k->answered = r == 0 || lock == STORE_LOCKED;
	if (r == 0)
		r = look_at_node(k, err);
	k->asked = r == 0;
	if (r == 0)
		shared_set(&k->home->shared->node_heeded, k->node_deletions);
	if (r < 0 || k->wrong_cluster)
		return r;
	/* An object that cannot be read, or may not be, keeps no operation back. */
	seen = take_for_there(k, err);
	if (queue_is_away(seen))
		return seen;
	r = queue_run(&k->queue, &k->rp, TIMEOUT_MS, seen < 0 ? NULL : err);
	k->fails_here |= k->rp.fails_here;
	return seen ?: r ?: keep_reserve(k, err);
}

/* A verb that needs the datastore asks it for nothing then. */
static bool away_after(const struct keeper *k, int r)
{
	if (!k->answered)
		return r == -EHOSTUNREACH || r == -ETIMEDOUT;
	return store_is_silent(k->rp.st);
}

static enum keeper_state state_after(const struct keeper *k, int r)
{
	if (r < 0 && !k->fails_here)
		return queue_is_away(r) ? KEEPER_AWAY : KEEPER_REFUSED;
	if (k->wrong_cluster)
		return KEEPER_OTHER_CLUSTER;
	if (r < 0)
		return KEEPER_FAILS;
	return k->no_node ? KEEPER_NO_NODE : KEEPER_WELL;
}

static void tell(struct keeper *k, enum keeper_state state)
{
	struct cni_shared *s = k->home->shared;
	const uint64_t one = 1;

	shared_set(&s->waiting, (int64_t)journal_n_pending(k->j));
	shared_set(&s->free4, (int64_t)journal_n_free(k->j, IP_V4));
	shared_set(&s->free6, (int64_t)journal_n_free(k->j, IP_V6));
	if (shared_get(&s->keeper) == state)
		return;
	shared_set(&s->keeper, state);
	if (write(k->home->state_fd, &one, sizeof(one)) < 0)
		log_warn("waking the monitor: %s", strerror(errno));
}

/* Until something is due, but for a change of the journal. */
static int64_t wait_ms(const struct keeper *k)
{
	const int64_t now = clock_mono_ms();
	int64_t due = due_ms(k);

	if (k->queue.until_ms)
		due = earlier(due, k->queue.until_ms);
	if (!k->adopted && !k->no_node && k->back_ms > now)
		due = earlier(due, k->back_ms);
	return due > now ? due - now : 0;
}

/* Until the journal's file or its directory has changed, or a pool, at most so long. */
static void wait_change(const struct keeper *k, int64_t ms)
{
	struct pollfd p[] = {{.fd = k->notify_fd, .events = POLLIN},
		{.fd = k->home->keeper_fd, .events = POLLIN}};
	char buf[4096];

	(void)poll(p, array_size(p), (int)ms);
	(void)!read(k->home->keeper_fd, buf, sizeof(buf));
	while (read(k->notify_fd, buf, sizeof(buf)) > 0)
		;
}

int keeper_init(struct keeper *k, const struct cni_home *home, const struct keeper_conf *conf,
	struct store *st, struct err *err)
{
	int r = journal_open(home->state_dir, true, &k->j, err);

	if (r < 0)
		return r;
	k->notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (k->notify_fd < 0 ||
		inotify_add_watch(k->notify_fd, home->state_dir, IN_MODIFY | IN_MOVED_TO) < 0)
		return err_sys(err, -errno, "inotify on %s", home->state_dir);
	k->home = home;
	k->n_reserve = conf->n_reserve;
	k->rp = (struct replay){.st = st,
		.journal = k->j,
		.node = home->node,
		.reserve = replay_reserve_handle(home->node),
		.n_reserve = conf->n_reserve};
	k->gone = gone_new(home, conf->gone_after_s);
	k->garbage = garbage_new(home, k->j, conf->garbage_after_s);
	k->inherit = inherit_new(home, k->j, INHERIT_AFTER_MS);
	return 0;
}

void keeper_done(struct keeper *k)
{
	inherit_free(k->inherit);
	garbage_free(k->garbage);
	gone_free(k->gone);
	queue_done(&k->queue);
	free(k->guid);
	free((char *)(uintptr_t)k->rp.reserve);
	close(k->notify_fd);
	journal_close(k->j);
}

_Noreturn void keeper_run(const struct cni_home *home, const struct keeper_conf *conf)
{
	struct keeper k = {0};
	struct err err = ERR_INIT, e = ERR_INIT;
	enum keeper_state state, was = KEEPER_STARTS;
	struct store *st = NULL;
	int64_t again_ms = 0;
	int r;

	if (store_open(&home->store, NULL, &st, &err) < 0 ||
		keeper_init(&k, home, conf, st, &err) < 0) {
		log_error("%s", err_text(&err));
		_exit(EXIT_FAILURE);
	}
	for (;;) {
		r = keeper_work(&k, &err);
		if (journal_compact(k.j, &e) < 0)
			log_warn("%s", err_text(&e));
		state = state_after(&k, r);
		if (r < 0 && (again_ms == 0 || state != was))
			log_warn("%s: %zu operations wait", err_text(&err), journal_n_pending(k.j));
		if (r == 0 && again_ms != 0)
			log_info("%s: %zu operations wait",
				was == KEEPER_AWAY ? "the datastore is there again" : "it goes on",
				journal_n_pending(k.j));
		if (k.tried)
			shared_set(&home->shared->away, away_after(&k, r));
		tell(&k, state);
		/* Workers go by what was told: the datastore was compared with, or is away. */
		if (r == 0 || (queue_is_away(r) && !k.fails_here && !k.asked))
			shared_set(&home->shared->looked, 1);
		was = state;
		again_ms = r == 0 ? 0 : again_ms == 0 ? AGAIN_MIN_MS : 2 * again_ms;
		again_ms = earlier(
			again_ms, shared_get(&home->shared->away) ? AWAY_MAX_MS : AGAIN_MAX_MS);
		/* A change does not bring the datastore back: then it is time that is waited for. */
		if (r < 0)
			usleep((useconds_t)again_ms * 1000);
		else
			wait_change(&k, wait_ms(&k));
	}
}
