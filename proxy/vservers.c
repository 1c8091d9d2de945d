/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "ipvs"
#include "proxy/vservers.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hmap.h"
#include "base/list.h"
#include "base/log.h"
#include "base/vec.h"
#include "proxy/stale.h"

struct real {
	struct ip ip;
	uint16_t port;
	bool wanted;
	bool known; /* it is, or was since the start, wanted */
	bool have;
	bool drained;	    /* it has weight 0, and no connection was left when it was looked at */
	struct ipvs_dest d; /* as the kernel has it */
};

struct server {
	struct hmap_node node;
	struct vserver_key key;
	bool wanted;
	uint32_t affinity_s;	/* as wanted */
	bool have;		/* it is in the kernel, as far as known */
	bool seen;		/* by the dump under way */
	bool unread;		/* its real servers are to be read */
	bool failed;		/* since the last retry; it stays dirty, and waits for that */
	struct ipvs_service is; /* as the kernel has it */
	VEC(struct real) reals;
	struct list dirty, draining;
	int64_t drain_ms; /* when to look again */
};

enum op_kind { OP_ADD, OP_EDIT, OP_DEL, OP_REAL_ADD, OP_REAL_EDIT, OP_REAL_DEL };

struct op {
	enum op_kind kind;
	struct server *s;
	struct real real; /* what it says */
};

struct vservers {
	struct backend backend;
	struct ipvs *k;
	struct stale *stale;
	char scheduler[IPVS_SCHED_SIZE];
	vservers_ours_fn *is_ours;
	vservers_own_fn *own;
	void *arg;
	bool unknown;
	bool deletes; /* what was never wanted may be deleted */
	struct hmap servers;
	struct list dirty, draining;
	VEC(struct op) ops;
	int failed; /* since the last retry: the first, */
	struct err err;
	unsigned n_failed; /* and how many */
};

static const struct backend_ops ops;

struct vservers *vservers_new(struct conntrack *ct, const char *scheduler,
	vservers_ours_fn *is_ours, vservers_own_fn *own, void *arg)
{
	struct vservers *vs = mem_new(struct vservers);

	vs->backend.ops = &ops;
	vs->stale = stale_new(ct);
	snprintf(vs->scheduler, sizeof(vs->scheduler), "%s", scheduler);
	vs->is_ours = is_ours;
	vs->own = own;
	vs->arg = arg;
	vs->unknown = true;
	list_init(&vs->dirty);
	list_init(&vs->draining);
	return vs;
}

void vservers_use(struct vservers *vs, struct ipvs *k)
{
	vs->k = k;
}

static void free_server(struct vservers *vs, struct server *s)
{
	hmap_remove(&vs->servers, &s->node);
	list_del(&s->dirty);
	list_del(&s->draining);
	vec_done(&s->reals);
	free(s);
}

void vservers_free(struct vservers *vs)
{
	struct server *s;

	if (!vs)
		return;
	hmap_for_each (s, &vs->servers, node)
		free_server(vs, s);
	hmap_done(&vs->servers);
	vec_done(&vs->ops);
	stale_free(vs->stale);
	free(vs);
}

struct backend *vservers_backend(struct vservers *vs)
{
	return &vs->backend;
}

static struct vservers *of(struct backend *b)
{
	return container_of(b, struct vservers, backend);
}

/* ---- the wanted set ---- */

static struct server *find(const struct vservers *vs, const struct vserver_key *key)
{
	struct server *s;

	hmap_for_each_hash (s, &vs->servers, hash_bytes(key, sizeof(*key)), node)
		if (memcmp(&s->key, key, sizeof(*key)) == 0)
			return s;
	return NULL;
}

static struct server *get(struct vservers *vs, const struct vserver_key *key)
{
	struct server *s = find(vs, key);

	if (s)
		return s;
	s = mem_new(struct server);
	s->key = *key;
	list_init(&s->dirty);
	list_init(&s->draining);
	hmap_insert(&vs->servers, &s->node, hash_bytes(key, sizeof(*key)));
	return s;
}

static void mark_dirty(struct vservers *vs, struct server *s)
{
	list_del(&s->dirty);
	list_add_tail(&vs->dirty, &s->dirty);
}

static int compare_reals(const void *a, const void *b)
{
	const struct real *x = a, *y = b;
	int r = ip_compare(&x->ip, &y->ip);

	return r ? r : (int)x->port - (int)y->port;
}

static struct real *find_real(struct server *s, const struct ip *ip, uint16_t port)
{
	struct real key = {.ip = *ip, .port = port};

	return s->reals.n == 0 ? NULL
			       : bsearch(&key, s->reals.v, s->reals.n, sizeof(key), compare_reals);
}

static void add_real(struct server *s, const struct real *r)
{
	size_t i;

	vec_push(&s->reals, *r);
	for (i = s->reals.n - 1; i > 0 && compare_reals(&s->reals.v[i - 1], r) > 0; i--)
		s->reals.v[i] = s->reals.v[i - 1];
	s->reals.v[i] = *r;
}

/* Forgets those that are neither wanted nor there. */
static void prune_reals(struct server *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->reals.n; i++)
		if (s->reals.v[i].wanted || s->reals.v[i].have)
			s->reals.v[n++] = s->reals.v[i];
	s->reals.n = n;
}

static void revive(struct real *r)
{
	r->wanted = r->known = true;
	r->drained = false;
}

static void set(struct backend *b, const struct vserver_key *key, const struct calc_server *server)
{
	struct vservers *vs = of(b);
	struct server *s = get(vs, key);
	size_t n_old = s->reals.n;

	for (size_t i = 0; i < n_old; i++)
		s->reals.v[i].wanted = false;
	for (size_t i = 0; i < server->n_dests; i++) {
		const struct calc_dest *d = &server->dests[i];
		struct real new = {.ip = d->ip, .port = d->port, .wanted = true, .known = true};
		struct real *r = find_real(s, &d->ip, d->port);

		if (!r)
			add_real(s, &new);
		else
			revive(r);
	}
	prune_reals(s);
	s->affinity_s = server->affinity_s;
	vs->backend.stats.wanted += !s->wanted;
	s->wanted = true;
	s->failed = false;
	mark_dirty(vs, s);
}

static void unset(struct backend *b, const struct vserver_key *key)
{
	struct vservers *vs = of(b);
	struct server *s = find(vs, key);

	if (!s || !s->wanted)
		return;
	for (size_t i = 0; i < s->reals.n; i++)
		s->reals.v[i].wanted = false;
	prune_reals(s);
	s->wanted = s->failed = false;
	vs->backend.stats.wanted--;
	mark_dirty(vs, s);
}

bool vservers_has(const struct vservers *vs, const struct vserver_key *key)
{
	return find(vs, key);
}

static void allow_deletes(struct backend *b)
{
	struct vservers *vs = of(b);

	vs->deletes = true;
	vs->unknown = true; /* those that were kept are looked at again */
}

static void mark_unknown(struct backend *b)
{
	of(b)->unknown = true;
}

/* ---- reading ---- */

static void on_service(void *arg, const struct vserver_key *key, const struct ipvs_service *service)
{
	struct vservers *vs = arg;
	struct server *s = find(vs, key);

	if (!s && !vs->is_ours(vs->arg, key))
		return;
	s = s ?: get(vs, key);
	s->is = *service;
	s->seen = s->have = s->unread = true;
	mark_dirty(vs, s);
}

static void forget(struct vservers *vs, struct server *s)
{
	bool had = s->have;

	s->have = s->unread = false;
	for (size_t i = 0; i < s->reals.n; i++)
		s->reals.v[i].have = false;
	prune_reals(s);
	list_del(&s->draining);
	if (!s->wanted) {
		free_server(vs, s);
		return;
	}
	if (had) {
		log_warn("%s was removed by somebody else", vserver_key_str(&s->key));
		vs->backend.stats.repaired++;
	}
	mark_dirty(vs, s);
}

static int read_services(struct vservers *vs, struct err *err)
{
	struct server *s;
	int r;

	hmap_for_each (s, &vs->servers, node)
		s->seen = false;
	vs->backend.stats.reads++;
	r = ipvs_services(vs->k, on_service, vs, err);
	if (r < 0)
		return r;
	vs->backend.stats.installed = 0;
	hmap_for_each (s, &vs->servers, node) {
		vs->backend.stats.installed += s->seen;
		if (!s->seen)
			forget(vs, s);
	}
	vs->unknown = false;
	return 0;
}

static void on_real(void *arg, const struct ipvs_dest *d)
{
	struct server *s = arg;
	struct real *r = find_real(s, &d->ip, d->port);
	struct real new = {.ip = d->ip, .port = d->port};

	if (!r) {
		add_real(s, &new);
		r = find_real(s, &d->ip, d->port);
	}
	r->have = true;
	r->d = *d;
}

static int read_reals(struct vservers *vs, struct server *s, struct err *err)
{
	VEC(struct real) old = {0};
	int r;

	for (size_t i = 0; i < s->reals.n; i++) {
		vec_push(&old, s->reals.v[i]);
		s->reals.v[i].have = false;
	}
	r = ipvs_dests(vs->k, &s->key, on_real, s, err);
	for (size_t i = 0; r == 0 && i < old.n; i++) {
		const struct real *now = find_real(s, &old.v[i].ip, old.v[i].port);

		if (!old.v[i].have || !old.v[i].wanted || now->have)
			continue;
		log_warn("%s: %s was removed by somebody else", vserver_key_str(&s->key),
			ip_str(&old.v[i].ip));
		vs->backend.stats.repaired++;
	}
	vec_done(&old);
	if (r < 0)
		return r;
	s->unread = false;
	prune_reals(s);
	return 0;
}

/* ---- writing ---- */

static void add_op(
	struct vservers *vs, enum op_kind kind, struct server *s, const struct real *real)
{
	struct op op = {.kind = kind, .s = s};
	uintptr_t cookie = vs->ops.n;

	if (real)
		op.real = *real;
	vec_push(&vs->ops, op);
	switch (kind) {
	case OP_ADD:
		ipvs_service_add(vs->k, &s->key, &s->is, cookie);
		break;
	case OP_EDIT:
		ipvs_service_edit(vs->k, &s->key, &s->is, cookie);
		break;
	case OP_DEL:
		ipvs_service_del(vs->k, &s->key, cookie);
		break;
	case OP_REAL_ADD:
		ipvs_dest_add(vs->k, &s->key, &op.real.d, cookie);
		break;
	case OP_REAL_EDIT:
		ipvs_dest_edit(vs->k, &s->key, &op.real.d, cookie);
		break;
	case OP_REAL_DEL:
		ipvs_dest_del(vs->k, &s->key, &op.real.d, cookie);
		break;
	}
}

static bool needs_edit(const struct vservers *vs, const struct server *s)
{
	return s->is.persistent_s != s->affinity_s || s->is.one_packet ||
	       strcmp(s->is.scheduler, vs->scheduler) != 0;
}

static void write_service(struct vservers *vs, struct server *s)
{
	bool edit = s->have && needs_edit(vs, s);

	if (s->have && !edit)
		return;
	memset(&s->is, 0, sizeof(s->is));
	memcpy(s->is.scheduler, vs->scheduler, sizeof(s->is.scheduler));
	s->is.persistent_s = s->affinity_s;
	add_op(vs, edit ? OP_EDIT : OP_ADD, s, NULL);
	/* Entries from before it was served answer themselves. */
	if (!edit)
		stale_add(vs->stale, &s->key, &s->key.ip);
}

static void write_real(struct vservers *vs, struct server *s, struct real *r)
{
	struct real new = *r;

	new.d = (struct ipvs_dest){.ip = r->ip, .port = r->port, .weight = 1, .forward = IPVS_MASQ};
	if (!r->have)
		add_op(vs, OP_REAL_ADD, s, &new);
	else if (r->d.weight != 1 || r->d.forward != IPVS_MASQ)
		add_op(vs, OP_REAL_EDIT, s, &new);
}

/* One that is not wanted any more. */
static void drop_real(struct vservers *vs, struct server *s, struct real *r, int64_t now_ms)
{
	struct real new = *r;

	if (s->key.protocol != IPPROTO_TCP || r->drained) {
		add_op(vs, OP_REAL_DEL, s, r);
		stale_add(vs->stale, &s->key, &r->ip);
		return;
	}
	if (r->d.weight != 0) {
		new.d.weight = 0;
		add_op(vs, OP_REAL_EDIT, s, &new);
	}
	if (list_empty(&s->draining)) {
		/* The first look is soon: most have no connection. */
		s->drain_ms = now_ms + VSERVERS_DRAIN_MS / 5;
		list_add_tail(&vs->draining, &s->draining);
	}
}

static size_t n_wanted(const struct server *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->reals.n; i++)
		n += s->reals.v[i].wanted;
	return n;
}

static void fail(struct vservers *vs, struct server *s, int r, const struct err *err)
{
	s->failed = true;
	vs->backend.stats.failed++;
	if (vs->n_failed++ > 0)
		return;
	vs->failed = r;
	vs->err = *err;
	err_wrap(&vs->err, r, "virtual server %s", vserver_key_str(&s->key));
}

static void delete_service(struct vservers *vs, struct server *s)
{
	add_op(vs, OP_DEL, s, NULL);
	stale_add(vs->stale, &s->key, NULL);
}

static void write_server(struct vservers *vs, struct server *s, int64_t now_ms)
{
	size_t wanted = n_wanted(s), left = 0;
	struct err err = ERR_INIT;
	int r;

	list_del(&s->dirty);
	if (wanted == 0 && s->have && !vs->deletes)
		return;
	if (!s->wanted) {
		if (s->have)
			delete_service(vs, s);
		else
			free_server(vs, s);
		return;
	}
	if (wanted > 0) {
		/* Also one that is there already: who made it may not have remembered it. */
		r = vs->own(vs->arg, &s->key, &err);
		if (r < 0) {
			fail(vs, s, r, &err);
			mark_dirty(vs, s);
			if (!s->have)
				return;
		}
		write_service(vs, s);
		for (size_t i = 0; i < s->reals.n; i++)
			if (s->reals.v[i].wanted)
				write_real(vs, s, &s->reals.v[i]);
	}
	if (!s->have)
		return;
	for (size_t i = 0; i < s->reals.n; i++) {
		struct real *real = &s->reals.v[i];

		if (!real->have || real->wanted || !(real->known || vs->deletes))
			continue;
		left += s->key.protocol == IPPROTO_TCP && !real->drained;
		drop_real(vs, s, real, now_ms);
	}
	if (wanted == 0 && left == 0)
		delete_service(vs, s);
}

/* What a failed or surprising operation leaves is read before the next attempt. */
static void read_again(struct vservers *vs, struct server *s)
{
	s->unread = true;
	mark_dirty(vs, s);
}

static void note_service(struct vservers *vs, struct server *s, bool have)
{
	vs->backend.stats.installed += (int)have - (int)s->have;
	s->have = have;
}

static void on_done(void *arg, uintptr_t cookie, int r, const struct err *err)
{
	struct vservers *vs = arg;
	const struct op *op = &vs->ops.v[cookie];
	struct server *s = op->s;
	struct real *real;

	if (r < 0) {
		/* It is there, or gone, against what was believed. */
		if (op->kind == OP_ADD && r == -EEXIST) {
			note_service(vs, s, true);
			s->is.scheduler[0] = '\0';
		} else if (op->kind == OP_EDIT && r == -ENOENT) {
			note_service(vs, s, false);
		} else if (op->kind == OP_EDIT) {
			s->is.scheduler[0] = '\0';
		}
		if (op->kind == OP_ADD && r == -ENOENT) {
			struct err e;

			err_set(&e, r,
				"the kernel has no scheduler %s: load ip_vs_%s, or choose another",
				vs->scheduler, vs->scheduler);
			fail(vs, s, r, &e);
		} else {
			fail(vs, s, r, err);
		}
		read_again(vs, s);
		/* What the kernel was told and whether it did so is not known. */
		vs->unknown |= r == -ENOBUFS;
		/* The virtual server that was believed there may be gone with it. */
		vs->unknown |= r == -ENOENT && s->have &&
			       (op->kind == OP_REAL_ADD || op->kind == OP_REAL_EDIT);
		return;
	}
	if (op->kind == OP_DEL) {
		vs->backend.stats.deleted++;
		note_service(vs, s, false);
		for (size_t i = 0; i < s->reals.n; i++)
			s->reals.v[i].have = false;
		mark_dirty(vs, s); /* to be forgotten */
		return;
	}
	if (op->kind == OP_REAL_DEL)
		vs->backend.stats.deleted++;
	else
		vs->backend.stats.written++;
	if (op->kind == OP_ADD)
		note_service(vs, s, true);
	if (op->kind == OP_ADD || op->kind == OP_EDIT)
		return;
	real = find_real(s, &op->real.ip, op->real.port);
	if (!real)
		return;
	real->have = op->kind != OP_REAL_DEL;
	real->d = op->real.d;
}

static void finish(struct vservers *vs)
{
	struct server *s, *tmp;

	/* Those whose deletion left nothing to be done. */
	list_for_each_safe (s, tmp, &vs->dirty, dirty) {
		if (s->have || s->unread)
			continue;
		if (!s->wanted)
			free_server(vs, s);
		else if (n_wanted(s) == 0) {
			prune_reals(s);
			list_del(&s->dirty);
			list_del(&s->draining);
		}
	}
}

static void write_dirty(struct vservers *vs, int64_t now_ms, bool *more)
{
	struct server *s, *tmp;
	struct list todo;

	list_init(&todo);
	list_for_each_safe (s, tmp, &vs->dirty, dirty) {
		if (s->unread || s->failed)
			continue;
		list_del(&s->dirty);
		list_add_tail(&todo, &s->dirty);
	}
	vs->ops.n = 0;
	ipvs_begin(vs->k, on_done, vs);
	list_for_each_safe (s, tmp, &todo, dirty) {
		if (vs->ops.n < VSERVERS_BATCH)
			write_server(vs, s, now_ms);
		else {
			mark_dirty(vs, s);
			*more = true;
		}
	}
	(void)ipvs_commit(vs->k, NULL); /* on_done has heard of each */
	finish(vs);
}

/* ---- draining ---- */

static void drain(struct vservers *vs, struct server *s, int64_t now_ms)
{
	struct err err = ERR_INIT;
	size_t left = 0;
	int r;

	list_del(&s->draining);
	mark_dirty(vs, s); /* what is found may be repaired or deleted */
	r = read_reals(vs, s, &err);
	if (r < 0) {
		fail(vs, s, r, &err);
		read_again(vs, s);
		return;
	}
	for (size_t i = 0; i < s->reals.n; i++) {
		struct real *real = &s->reals.v[i];

		if (!real->have || real->wanted)
			continue;
		real->drained = real->d.weight == 0 && real->d.active == 0 && real->d.inactive == 0;
		left += !real->drained;
	}
	vs->backend.stats.draining += (int64_t)left;
	if (left > 0) {
		s->drain_ms = now_ms + VSERVERS_DRAIN_MS;
		list_add_tail(&vs->draining, &s->draining);
	}
}

static void drain_due(struct vservers *vs, int64_t now_ms)
{
	struct server *s, *tmp;
	struct list due;

	list_init(&due);
	list_for_each_safe (s, tmp, &vs->draining, draining) {
		if (s->drain_ms > now_ms)
			continue;
		list_del(&s->draining);
		list_add_tail(&due, &s->draining);
	}
	if (!list_empty(&due))
		vs->backend.stats.draining = 0;
	list_for_each_safe (s, tmp, &due, draining)
		drain(vs, s, now_ms);
}

static int64_t next_ms(struct backend *b)
{
	const struct vservers *vs = of(b);
	const struct server *s;
	int64_t next = INT64_MAX;

	list_for_each (s, &vs->draining, draining)
		next = s->drain_ms < next ? s->drain_ms : next;
	return next;
}

/* ---- apply ---- */

/* One that cannot be read is not written, and holds up no other. */
static void read_some(struct vservers *vs, bool *more)
{
	struct server *s, *tmp;
	unsigned n = 0;

	list_for_each_safe (s, tmp, &vs->dirty, dirty) {
		if (!s->unread || s->failed)
			continue;
		if (n++ == VSERVERS_READS) {
			*more = true;
			return;
		}
		struct err err = ERR_INIT;
		int r = read_reals(vs, s, &err);

		if (r < 0)
			fail(vs, s, r, &err);
	}
}

static void retry(struct backend *b)
{
	struct vservers *vs = of(b);
	struct server *s;

	list_for_each (s, &vs->dirty, dirty)
		s->failed = false;
	vs->failed = 0;
	vs->n_failed = 0;
}

static int apply(struct backend *b, int64_t now_ms, bool *ret_more, struct err *err)
{
	struct vservers *vs = of(b);
	int r = 0;

	*ret_more = false;
	if (vs->unknown)
		r = read_services(vs, err);
	if (r < 0)
		return r;
	drain_due(vs, now_ms);
	read_some(vs, ret_more);
	write_dirty(vs, now_ms, ret_more);
	r = stale_delete(vs->stale, err);
	vs->backend.stats.connections += r > 0 ? (uint64_t)r : 0;
	if (vs->failed == 0)
		return r < 0 ? r : 0;
	if (err)
		*err = vs->err;
	return vs->n_failed > 1 ? err_wrap(err, vs->failed, "%u failures, the first", vs->n_failed)
				: vs->failed;
}

static const struct backend_ops ops = {.name = "IPVS",
	.set = set,
	.unset = unset,
	.allow_deletes = allow_deletes,
	.mark_unknown = mark_unknown,
	.apply = apply,
	.retry = retry,
	.next_ms = next_ms};
