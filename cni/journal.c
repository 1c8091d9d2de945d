/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/journal.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "cni/boot.h"
#include "cni/journal_file.h"
#include "model/json.h"

enum { COMPACT_AT = 256 * 1024 }; /* bytes; below it nothing is gained */

struct journal {
	struct journal_file *file;
	uint64_t next;			/* the number of the next operation */
	VEC(struct journal_addr) addrs; /* the free ones in the order in which they became free */
	VEC(struct journal_op *) ops;	/* that wait, in their order */
	struct {
		bool there;
		int64_t wall_s, boot_s;
		char boot[BOOT_ID_SIZE]; /* which boot, of boot_s */
		char *guid, *node;
	} seen;
	struct {
		bool known;
		VEC(struct ipam_pool) in;
		VEC(struct prefix) out;
		uint32_t cooldown_s;
	} scope; /* what pools give */
};

/*
 * Owners and operations.
 */
static char *dup_or_null(const char *s)
{
	return s ? mem_strdup(s) : NULL;
}

void journal_owner_done(struct journal_owner *o)
{
	free(o->handle);
	free(o->container_id);
	free(o->ifname);
	free(o->namespace);
	free(o->pod);
	free(o->key);
	*o = (struct journal_owner){0};
}

struct journal_owner journal_owner_dup(const struct journal_owner *o)
{
	return (struct journal_owner){.handle = mem_strdup(o->handle),
		.container_id = mem_strdup(o->container_id),
		.ifname = mem_strdup(o->ifname),
		.namespace = mem_strdup(o->namespace),
		.pod = dup_or_null(o->pod),
		.key = dup_or_null(o->key),
		.ipam_only = o->ipam_only,
		.by_name = o->by_name};
}

void journal_op_free(struct journal_op *op)
{
	struct ipam_attr *a;

	journal_owner_done(&op->owner);
	vec_for_each (&op->attrs, a) {
		free((char *)(uintptr_t)a->name);
		free((char *)(uintptr_t)a->value);
	}
	vec_done(&op->attrs);
	vec_done(&op->addrs);
	free(op->endpoint);
	free(op);
}

struct journal_op *journal_op_dup(const struct journal_op *op)
{
	struct journal_op *d = mem_new(struct journal_op);
	const struct ipam_addr *a;
	const struct ipam_attr *t;

	d->n = op->n;
	d->kind = op->kind;
	d->owner = journal_owner_dup(&op->owner);
	vec_for_each (&op->addrs, a)
		vec_push(&d->addrs, *a);
	vec_for_each (&op->attrs, t)
		vec_push(&d->attrs, (struct ipam_attr){mem_strdup(t->name), mem_strdup(t->value)});
	d->endpoint = dup_or_null(op->endpoint);
	return d;
}

static void forget_scope(struct journal *j)
{
	struct ipam_pool *p;

	vec_for_each (&j->scope.in, p)
		free((char *)(uintptr_t)p->name);
	vec_done(&j->scope.in);
	vec_done(&j->scope.out);
	j->scope.known = false;
}

static void forget_all(struct journal *j)
{
	struct journal_addr *a;
	struct journal_op **op;

	vec_for_each (&j->addrs, a)
		journal_owner_done(&a->owner);
	vec_done(&j->addrs);
	vec_for_each (&j->ops, op)
		journal_op_free(*op);
	vec_done(&j->ops);
	j->next = 1;
	free(j->seen.guid);
	free(j->seen.node);
	memset(&j->seen, 0, sizeof(j->seen));
	forget_scope(j);
}

static struct journal_addr *find(const struct journal *j, const struct ip *ip)
{
	struct journal_addr *a;

	vec_for_each (&j->addrs, a)
		if (ip_equal(&a->addr.ip, ip))
			return a;
	return NULL;
}

static void remove_addr(struct journal *j, struct journal_addr *a)
{
	size_t i = (size_t)(a - j->addrs.v);

	journal_owner_done(&a->owner);
	memmove(a, a + 1, (j->addrs.n - i - 1) * sizeof(*a));
	j->addrs.n--;
}

/* At the end: it is the one that became so last. */
static void put_addr(struct journal *j, const struct ipam_addr *addr, enum journal_state state,
	const struct journal_owner *owner)
{
	struct journal_addr *old = find(j, &addr->ip);
	struct journal_addr a = {.addr = *addr, .state = state};

	if (owner)
		a.owner = journal_owner_dup(owner);
	if (old)
		remove_addr(j, old);
	vec_push(&j->addrs, a);
}

/*
 * Records.
 */
static json_t *addr_json(const struct ipam_addr *a)
{
	struct prefix p = {a->ip, a->block.plen};

	return json_string(prefix_str(&p));
}

static bool addr_parse(const json_t *j, struct ipam_addr *ret)
{
	const char *s = json_string_value(j);
	struct prefix p;

	if (!s || prefix_parse_host(s, &p, NULL) < 0)
		return false;
	*ret = (struct ipam_addr){.ip = p.addr, .block = prefix_of(&p.addr, p.plen)};
	return true;
}

static void set_text(json_t *j, const char *name, const char *s)
{
	if (s)
		json_object_set_new(j, name, json_string(s));
}

static json_t *record_new(const char *what)
{
	json_t *j = json_object();

	set_text(j, "do", what);
	return j;
}

static void add_owner(json_t *j, const struct journal_owner *o)
{
	set_text(j, "handle", o->handle);
	set_text(j, "container", o->container_id);
	set_text(j, "ifname", o->ifname);
	set_text(j, "namespace", o->namespace);
	set_text(j, "pod", o->pod);
	set_text(j, "key", o->key);
	if (o->ipam_only)
		json_object_set_new(j, "ipam", json_true());
	if (o->by_name)
		json_object_set_new(j, "by-name", json_true());
}

static json_t *record_op(const char *what, uint64_t n, const struct journal_owner *o,
	const struct ipam_addr *addrs, size_t n_addrs)
{
	json_t *j = record_new(what), *list = json_array();

	json_object_set_new(j, "n", json_integer((json_int_t)n));
	add_owner(j, o);
	for (size_t i = 0; i < n_addrs; i++)
		json_array_append_new(list, addr_json(&addrs[i]));
	json_object_set_new(j, "ips", list);
	return j;
}

static json_t *record_addr(const char *what, const struct ipam_addr *a)
{
	json_t *j = record_new(what);

	json_object_set_new(j, "ip", addr_json(a));
	return j;
}

static void add_take(json_t *j, const struct ipam_attr *attrs, size_t n, const char *endpoint)
{
	json_t *o = json_object();

	for (size_t i = 0; i < n; i++)
		set_text(o, attrs[i].name, attrs[i].value);
	json_object_set_new(j, "attrs", o);
	set_text(j, "endpoint", endpoint);
}

static char *text_of(const json_t *j, const char *name)
{
	return dup_or_null(json_string_value(json_object_get(j, name)));
}

static bool owner_parse(const json_t *j, struct journal_owner *o)
{
	*o = (struct journal_owner){.handle = text_of(j, "handle"),
		.container_id = text_of(j, "container"),
		.ifname = text_of(j, "ifname"),
		.namespace = text_of(j, "namespace"),
		.pod = text_of(j, "pod"),
		.key = text_of(j, "key"),
		.ipam_only = json_is_true(json_object_get(j, "ipam")),
		.by_name = json_is_true(json_object_get(j, "by-name"))};
	if (o->handle && o->container_id && o->ifname && o->namespace)
		return true;
	journal_owner_done(o);
	return false;
}

static struct journal_op *op_parse(const json_t *j, enum journal_kind kind)
{
	struct journal_op *op = mem_new(struct journal_op);
	const json_t *attrs = json_object_get(j, "attrs"), *v;
	const char *name;
	size_t i;

	op->kind = kind;
	op->n = (uint64_t)json_integer_value(json_object_get(j, "n"));
	if (op->n == 0 || !owner_parse(j, &op->owner)) {
		free(op);
		return NULL;
	}
	json_array_foreach (json_object_get(j, "ips"), i, v) {
		struct ipam_addr a;

		if (addr_parse(v, &a))
			vec_push(&op->addrs, a);
	}
	json_object_foreach ((json_t *)(uintptr_t)attrs, name, v)
		if (json_is_string(v))
			vec_push(&op->attrs, (struct ipam_attr){mem_strdup(name),
						     mem_strdup(json_string_value(v))});
	op->endpoint = text_of(j, "endpoint");
	return op;
}

/* cools: what is given back is for nobody of this node, but goes to its block, which may have it cool down. */
static void apply_op(struct journal *j, struct journal_op *op, bool effect, bool cools)
{
	for (size_t i = 0; effect && i < op->addrs.n; i++)
		put_addr(j, &op->addrs.v[i],
			op->kind == JOURNAL_TAKE ? JOURNAL_TAKEN
			: cools			 ? JOURNAL_LEAVING
						 : JOURNAL_FREE,
			op->kind == JOURNAL_TAKE ? &op->owner : NULL);
	vec_push(&j->ops, op);
	if (op->n >= j->next)
		j->next = op->n + 1;
}

static void apply_done(struct journal *j, uint64_t n)
{
	for (size_t i = 0; i < j->ops.n; i++) {
		if (j->ops.v[i]->n != n)
			continue;
		journal_op_free(j->ops.v[i]);
		memmove(j->ops.v + i, j->ops.v + i + 1,
			(j->ops.n - i - 1) * sizeof(struct journal_op *));
		j->ops.n--;
		return;
	}
}

static void apply_seen(struct journal *j, const json_t *r)
{
	const char *boot = json_string_value(json_object_get(r, "boot"));

	free(j->seen.guid);
	free(j->seen.node);
	j->seen.guid = text_of(r, "guid");
	j->seen.node = text_of(r, "node");
	j->seen.there = json_is_true(json_object_get(r, "there"));
	j->seen.wall_s = json_integer_value(json_object_get(r, "wall"));
	j->seen.boot_s = json_integer_value(json_object_get(r, "uptime"));
	snprintf(j->seen.boot, sizeof(j->seen.boot), "%s", boot ?: "");
}

static json_t *record_scope(const struct ipam_scope *scope)
{
	json_t *r = record_new("scope"), *in = json_object(), *out = json_array();

	json_object_set_new(r, "in", in);
	json_object_set_new(r, "out", out);
	json_object_set_new(r, "cooldown", json_integer(scope->cooldown_s));
	for (size_t i = 0; i < scope->n_in; i++)
		json_object_set_new(
			in, scope->in[i].name, json_string(prefix_str(&scope->in[i].cidr)));
	for (size_t i = 0; i < scope->n_out; i++)
		json_array_append_new(out, json_string(prefix_str(&scope->out[i])));
	return r;
}

static void apply_scope(struct journal *j, const json_t *r)
{
	const char *name;
	json_t *v;
	struct prefix p;
	size_t i;

	forget_scope(j);
	j->scope.known = true;
	j->scope.cooldown_s = (uint32_t)json_integer_value(json_object_get(r, "cooldown"));
	json_object_foreach (json_object_get(r, "in"), name, v)
		if (prefix_parse(json_string_value(v) ?: "", &p, NULL) == 0)
			vec_push(&j->scope.in, (struct ipam_pool){mem_strdup(name), p});
	json_array_foreach (json_object_get(r, "out"), i, v)
		if (prefix_parse(json_string_value(v) ?: "", &p, NULL) == 0)
			vec_push(&j->scope.out, p);
}

/* false: it is no record that is known. */
static bool apply(struct journal *j, const json_t *r)
{
	const char *what = json_string_value(json_object_get(r, "do")) ?: "";
	uint64_t n = (uint64_t)json_integer_value(json_object_get(r, "n"));
	bool waits = strncmp(what, "wait-", 5) == 0;
	struct ipam_addr a = {0};
	struct journal_owner o;
	struct journal_op *op;

	if (strcmp(waits ? what + 5 : what, "take") == 0 ||
		strcmp(waits ? what + 5 : what, "give-back") == 0) {
		op = op_parse(r, strcmp(waits ? what + 5 : what, "take") == 0 ? JOURNAL_TAKE
									      : JOURNAL_GIVE_BACK);
		if (!op)
			return false;
		n = op->n;
		apply_op(j, op, !waits, json_is_true(json_object_get(r, "cools")));
		if (json_is_true(json_object_get(r, "done")))
			apply_done(j, n);
		return true;
	}
	if (strcmp(what, "done") == 0) {
		apply_done(j, n);
		return n != 0;
	}
	if (strcmp(what, "next") == 0) {
		j->next = n;
		return n != 0;
	}
	if (strcmp(what, "seen") == 0) {
		apply_seen(j, r);
		return true;
	}
	if (strcmp(what, "scope") == 0) {
		apply_scope(j, r);
		return true;
	}
	if (!addr_parse(json_object_get(r, "ip"), &a))
		return false;
	if (strcmp(what, "hold") == 0) {
		put_addr(j, &a, JOURNAL_FREE, NULL);
	} else if (strcmp(what, "leave") == 0) {
		put_addr(j, &a, JOURNAL_LEAVING, NULL);
	} else if (strcmp(what, "drop") == 0) {
		if (find(j, &a.ip))
			remove_addr(j, find(j, &a.ip));
	} else if (strcmp(what, "taken") == 0 && owner_parse(r, &o)) {
		put_addr(j, &a, JOURNAL_TAKEN, &o);
		journal_owner_done(&o);
	} else {
		return false;
	}
	return true;
}

/*
 * The file.
 */
static bool apply_line(void *arg, const json_t *line)
{
	return apply(arg, line);
}

static void forget_lines(void *arg)
{
	forget_all(arg);
}

static int lock(struct journal *j, struct err *err)
{
	return journal_file_lock(j->file, err);
}

static void unlock(struct journal *j)
{
	journal_file_unlock(j->file);
}

static int append(struct journal *j, json_t *record_take, struct err *err)
{
	return journal_file_append(j->file, record_take, err);
}

static int append_locked(struct journal *j, json_t *record_take, struct err *err)
{
	int r = lock(j, err);

	if (r < 0) {
		json_decref(record_take);
		return r;
	}
	r = append(j, record_take, err);
	unlock(j);
	return r;
}

/* What a later line is to undo: only where the disk has room for that, too. */
static int append_more(struct journal *j, json_t *record_take, struct err *err)
{
	int r = journal_file_reserve(j->file, err);

	if (r < 0) {
		json_decref(record_take);
		return r;
	}
	return append(j, record_take, err);
}

int journal_open(const char *dir, bool make, struct journal **ret, struct err *err)
{
	struct journal *j = mem_new(struct journal);
	const struct journal_reader reader = {.line = apply_line, .forget = forget_lines, .arg = j};
	int r = journal_file_open(dir, make, &reader, &j->file, err) ?: journal_refresh(j, err);

	if (r < 0) {
		journal_close(j);
		return r;
	}
	*ret = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	forget_all(j);
	journal_file_close(j->file);
	free(j);
}

const char *journal_path(const struct journal *j)
{
	return journal_file_path(j->file);
}

int journal_refresh(struct journal *j, struct err *err)
{
	int r = lock(j, err);

	if (r == 0)
		unlock(j);
	return r;
}

/*
 * Looking.
 */
const struct journal_addr *journal_addrs(const struct journal *j, size_t *ret_n)
{
	*ret_n = j->addrs.n;
	return j->addrs.v;
}

const struct journal_addr *journal_find(const struct journal *j, const struct ip *ip)
{
	return find(j, ip);
}

const struct journal_op *journal_next(const struct journal *j, uint64_t n)
{
	for (size_t i = 0; i < j->ops.n; i++)
		if (j->ops.v[i]->n > n)
			return j->ops.v[i];
	return NULL;
}

bool journal_is_pending(const struct journal *j, const char *handle, const char *key)
{
	for (size_t i = 0; i < j->ops.n; i++) {
		const struct journal_owner *o = &j->ops.v[i]->owner;

		if (strcmp(o->handle, handle) == 0 || (key && o->key && strcmp(o->key, key) == 0))
			return true;
	}
	return false;
}

size_t journal_n_pending(const struct journal *j)
{
	return j->ops.n;
}

size_t journal_n_free(const struct journal *j, enum ip_family family)
{
	const struct journal_addr *a;
	size_t n = 0;

	vec_for_each (&j->addrs, a)
		n += a->state == JOURNAL_FREE && a->addr.ip.family == family;
	return n;
}

const struct journal_addr *journal_taken_by(const struct journal *j, const char *handle)
{
	const struct journal_addr *a;

	vec_for_each (&j->addrs, a)
		if (a->state == JOURNAL_TAKEN && strcmp(a->owner.handle, handle) == 0)
			return a;
	return NULL;
}

const char *journal_guid(const struct journal *j)
{
	return j->seen.guid ?: "";
}

/*
 * Verbs.
 */
/* What the file's JSON could not have, nobody would find again. */
static int check_owner(const struct journal_owner *o, struct err *err)
{
	const char *const texts[] = {
		o->handle, o->container_id, o->ifname, o->namespace, o->pod, o->key};

	for (size_t i = 0; i < array_size(texts); i++) {
		auto_(json) json_t *j = texts[i] ? json_string(texts[i]) : NULL;

		if (texts[i] && !j)
			return err_set(err, -EINVAL, "\"%.80s\" is no text: want UTF-8", texts[i]);
	}
	return 0;
}

static int64_t seen_age_s(const struct journal *j, bool *ret_this_boot)
{
	char boot[BOOT_ID_SIZE];

	boot_id(boot);
	*ret_this_boot = boot[0] != '\0' && strcmp(boot, j->seen.boot) == 0;
	return *ret_this_boot ? boot_uptime_s() - j->seen.boot_s
			      : clock_real_ns() / 1000000000 - j->seen.wall_s;
}

/* By the clock that nobody sets: a machine that was off may have been given up meanwhile. */
static int check_seen(const struct journal *j, const char *node, struct err *err)
{
	bool this_boot;
	int64_t age = seen_age_s(j, &this_boot);

	if (j->seen.there && strcmp(j->seen.node ?: "", node) != 0)
		return err_set(err, -ENOENT,
			"%s is of node %s, and this is %s: nothing is given from the reserve",
			journal_path(j), j->seen.node ?: "?", node);

	if (!j->seen.there)
		return err_set(err, -ENOENT,
			"the datastore does not have this node: nothing is given from the reserve");
	if (!this_boot)
		return err_set(err, -ENOENT,
			"the datastore was not reached since this machine has started: others may "
			"have taken what it held for this node");
	if (age < 0 || age > JOURNAL_AWAY_MAX_S)
		return err_set(err, -ENOENT,
			"the datastore was reached last %jd s ago, want at most %d: by now others may "
			"have taken what it held for this node",
			(intmax_t)age, JOURNAL_AWAY_MAX_S);
	return 0;
}

bool journal_was_seen(const struct journal *j)
{
	bool this_boot;
	int64_t age = seen_age_s(j, &this_boot);

	return j->seen.there && age >= 0 && age <= JOURNAL_AWAY_MAX_S;
}

static bool any_has(const struct prefix *v, size_t n, const struct ip *ip)
{
	for (size_t i = 0; i < n; i++)
		if (prefix_contains(&v[i], ip))
			return true;
	return false;
}

bool journal_is_given(const struct journal *j, const struct ip *ip)
{
	const struct ipam_pool *p;

	if (!j->scope.known)
		return true;
	vec_for_each (&j->scope.in, p)
		if (prefix_contains(&p->cidr, ip))
			return !any_has(j->scope.out.v, j->scope.out.n, ip);
	return false;
}

bool journal_gives(const struct journal *j, enum ip_family family)
{
	for (size_t i = 0; i < j->scope.in.n; i++)
		if (j->scope.in.v[i].cidr.addr.family == family)
			return true;
	return !j->scope.known;
}

const struct prefix *journal_pool(const struct journal *j, const char *name)
{
	const struct ipam_pool *p;
	struct prefix cidr = {0};

	if (prefix_parse(name, &cidr, NULL) == 0)
		cidr = prefix_masked(&cidr);
	vec_for_each (&j->scope.in, p)
		if (strcmp(p->name, name) == 0 || prefix_equal(&p->cidr, &cidr))
			return &p->cidr;
	return NULL;
}

static bool fits(const struct journal *j, const struct journal_addr *a, enum ip_family family,
	const struct journal_want *w)
{
	bool any = true;

	if (a->state != JOURNAL_FREE || a->addr.ip.family != family ||
		!journal_is_given(j, &a->addr.ip))
		return false;
	if (w->ip.family != IP_NONE)
		return ip_equal(&w->ip, &a->addr.ip);
	for (size_t i = 0; i < w->n_nets; i++) {
		if (prefix_contains(&w->nets[i], &a->addr.ip))
			return true;
		any &= w->nets[i].addr.family != family;
	}
	return any;
}

/* What the handle has, or (free) what it may have. */
static bool pick(const struct journal *j, enum ip_family family, const struct journal_want *w,
	bool free_ones, struct ipam_addr *ret)
{
	const struct journal_addr *a;

	vec_for_each (&j->addrs, a)
		if (free_ones ? fits(j, a, family, w)
			      : a->state == JOURNAL_TAKEN && a->addr.ip.family == family &&
					strcmp(a->owner.handle, w->owner.handle) == 0) {
			*ret = a->addr;
			ret->held = !free_ones;
			return true;
		}
	return false;
}

static bool pick_all(const struct journal *j, const struct journal_want *w, bool free_ones,
	struct ipam_addr ret[static 2], size_t *ret_n)
{
	*ret_n = 0;
	if (w->v4 && pick(j, IP_V4, w, free_ones, &ret[*ret_n]))
		(*ret_n)++;
	if (w->v6 && pick(j, IP_V6, w, free_ones, &ret[*ret_n]))
		(*ret_n)++;
	return *ret_n == (size_t)w->v4 + w->v6;
}

bool journal_has(const struct journal *j, const struct journal_want *w)
{
	struct ipam_addr addrs[2];
	size_t n;

	return check_seen(j, w->node, NULL) == 0 && pick_all(j, w, true, addrs, &n);
}

/*
 * done: the datastore has it already. That is no line of its own, and all addresses are in one, so that the disk has
 * all or none: half of what a handle has would be given back to the reserve, when all of it was to its pool. A version
 * that does not know this carries it out once more, which changes nothing.
 */
static int take(struct journal *j, const struct journal_want *w, const struct ipam_addr *addrs,
	size_t n, bool done, struct err *err)
{
	auto_free char *endpoint = NULL;
	struct ip ips[2];
	json_t *r;

	for (size_t i = 0; i < n; i++)
		ips[i] = addrs[i].ip;
	if (w->endpoint)
		endpoint = w->endpoint(w->arg, ips, n);
	r = record_op("take", j->next, &w->owner, addrs, n);
	add_take(r, w->attrs, w->n_attrs, endpoint);
	if (done)
		json_object_set_new(r, "done", json_true());
	return append_more(j, r, err);
}

/* In the datastore somebody may have given it back. */
static bool is_to_be_taken_again(const struct journal *j, const struct journal_owner *o)
{
	const struct journal_addr *a = journal_taken_by(j, o->handle);
	const char *key = a ? a->owner.key : NULL;

	return !journal_is_pending(j, o->handle, NULL) && strcmp(key ?: "", o->key ?: "") == 0;
}

int journal_take(struct journal *j, const struct journal_want *w, struct ipam_addr ret[static 2],
	size_t *ret_n, struct err *err)
{
	int r = check_owner(&w->owner, err) ?: lock(j, err);

	if (r < 0)
		return r;
	if (pick_all(j, w, false, ret, ret_n)) {
		/* Where that fails it is the pod's all the same. */
		if (is_to_be_taken_again(j, &w->owner))
			(void)take(j, w, ret, *ret_n, false, NULL);
		unlock(j);
		return 0;
	}
	r = check_seen(j, w->node, err);
	if (r == 0 && !pick_all(j, w, true, ret, ret_n))
		r = err_set(err, -ENOENT,
			"this node's reserve of addresses has none that is fit, of %zu that are free",
			journal_n_free(j, IP_V4) + journal_n_free(j, IP_V6));
	if (r == 0)
		r = take(j, w, ret, *ret_n, false, err);
	unlock(j);
	return r;
}

int journal_adopt(struct journal *j, const struct journal_want *w, const struct ipam_addr *addrs,
	size_t n, struct err *err)
{
	int r = check_owner(&w->owner, err) ?: lock(j, err);

	if (r < 0)
		return r;
	r = take(j, w, addrs, n, !w->endpoint, err);
	unlock(j);
	return r;
}

int journal_give_back(struct journal *j, const struct journal_owner *owner, struct err *err)
{
	VEC(struct ipam_addr) addrs = {0};
	const struct journal_addr *a;
	const struct journal_op *last = NULL;
	bool by_name = false;
	int r = check_owner(owner, err) ?: lock(j, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < j->ops.n; i++)
		if (strcmp(j->ops.v[i]->owner.handle, owner->handle) == 0)
			last = j->ops.v[i];
	vec_for_each (&j->addrs, a)
		if (a->state == JOURNAL_TAKEN && strcmp(a->owner.handle, owner->handle) == 0) {
			vec_push(&addrs, a->addr);
			by_name |= a->owner.by_name;
		}
	if (addrs.n > 0 || !last || last->kind != JOURNAL_GIVE_BACK ||
		(last->owner.ipam_only && !owner->ipam_only)) {
		json_t *record = record_op("give-back", j->next, owner, addrs.v, addrs.n);

		if (j->scope.cooldown_s > 0 || by_name)
			json_object_set_new(record, "cools", json_true());
		r = append(j, record, err);
	}
	unlock(j);
	vec_done(&addrs);
	return r;
}

/*
 * The keeper.
 */
int journal_inherit(struct journal *j, const struct journal_owner *owner,
	const struct ipam_addr *addrs, size_t n, struct err *err)
{
	const struct journal_want w = {.owner = *owner};
	VEC(struct ipam_addr) unknown = {0};
	const struct journal_addr *a;
	bool known;
	int r = check_owner(owner, err) ?: lock(j, err);

	if (r < 0)
		return r;
	known = journal_is_pending(j, owner->handle, NULL);
	for (size_t i = 0; i < n; i++) {
		a = find(j, &addrs[i].ip);
		known |= a &&
			 (a->state != JOURNAL_TAKEN || strcmp(a->owner.handle, owner->handle) != 0);
		if (!a)
			vec_push(&unknown, addrs[i]);
	}
	if (!known && unknown.n > 0)
		r = take(j, &w, unknown.v, unknown.n, true, err);
	unlock(j);
	vec_done(&unknown);
	return r < 0 ? r : !known;
}

int journal_hold(struct journal *j, const struct ipam_addr *addr, struct err *err)
{
	int r = lock(j, err);

	if (r < 0)
		return r;
	r = append_more(j, record_addr("hold", addr), err);
	unlock(j);
	return r;
}

int journal_has_room(struct journal *j, struct err *err)
{
	int r = lock(j, err);

	if (r < 0)
		return r;
	r = journal_file_reserve(j->file, err);
	unlock(j);
	return r;
}

bool journal_is_named(const struct journal *j, const struct ip *ip, uint64_t n)
{
	for (size_t i = 0; i < j->ops.n; i++)
		for (size_t k = 0; k < j->ops.v[i]->addrs.n; k++)
			if (j->ops.v[i]->n != n && ip_equal(&j->ops.v[i]->addrs.v[k].ip, ip))
				return true;
	return false;
}

int journal_leave(struct journal *j, enum ip_family family, const struct ip *ip, uint64_t n,
	struct ipam_addr *ret, struct err *err)
{
	const struct journal_addr *a;
	int r = lock(j, err);

	if (r < 0)
		return r;
	r = -ENOENT;
	vec_for_each (&j->addrs, a)
		if (a->state == JOURNAL_FREE && a->addr.ip.family == family &&
			(ip->family == IP_NONE || ip_equal(ip, &a->addr.ip)) &&
			!journal_is_named(j, &a->addr.ip, n)) {
			*ret = a->addr;
			r = append(j, record_addr("leave", ret), err);
			break;
		}
	unlock(j);
	return r;
}

int journal_drop(struct journal *j, const struct ip *ip, const char *handle, struct err *err)
{
	struct ipam_addr addr = {.ip = *ip, .block = prefix_host(ip)};
	const struct journal_addr *a;
	int r = lock(j, err);

	if (r < 0)
		return r;
	a = find(j, ip);
	if (a && (a->state != JOURNAL_TAKEN || (handle && strcmp(a->owner.handle, handle) == 0)))
		r = append(j, record_addr("drop", &addr), err);
	unlock(j);
	return r;
}

int journal_done(struct journal *j, uint64_t n, struct err *err)
{
	json_t *r = record_new("done");

	json_object_set_new(r, "n", json_integer((json_int_t)n));
	return append_locked(j, r, err);
}

static json_t *record_seen(const char *node, bool there, int64_t wall_s, int64_t boot_s,
	const char *boot, const char *guid)
{
	json_t *r = record_new("seen");

	set_text(r, "node", node);
	json_object_set_new(r, "there", json_boolean(there));
	json_object_set_new(r, "wall", json_integer(wall_s));
	json_object_set_new(r, "uptime", json_integer(boot_s));
	set_text(r, "boot", boot);
	set_text(r, "guid", guid);
	return r;
}

int journal_seen(struct journal *j, const char *node, bool there, const char *guid, struct err *err)
{
	char boot[BOOT_ID_SIZE];

	boot_id(boot);
	return append_locked(j,
		record_seen(node, there, clock_real_ns() / 1000000000, boot_uptime_s(), boot, guid),
		err);
}

static struct ipam_scope scope_of(const struct journal *j)
{
	return (struct ipam_scope){.in = j->scope.in.v,
		.out = j->scope.out.v,
		.n_in = j->scope.in.n,
		.n_out = j->scope.out.n,
		.cooldown_s = j->scope.cooldown_s};
}

static bool are_equal(const struct ipam_scope *a, const struct ipam_scope *b)
{
	if (a->n_in != b->n_in || a->n_out != b->n_out || a->cooldown_s != b->cooldown_s)
		return false;
	for (size_t i = 0; i < a->n_in; i++)
		if (strcmp(a->in[i].name, b->in[i].name) != 0 ||
			!prefix_equal(&a->in[i].cidr, &b->in[i].cidr))
			return false;
	for (size_t i = 0; i < a->n_out; i++)
		if (!prefix_equal(&a->out[i], &b->out[i]))
			return false;
	return true;
}

int journal_scope(struct journal *j, const struct ipam_scope *scope, struct err *err)
{
	const struct ipam_scope old = scope_of(j);

	if (j->scope.known && are_equal(&old, scope))
		return 0;
	return append_locked(j, record_scope(scope), err);
}

static void add_op(struct strbuf *out, const struct journal_op *op)
{
	json_t *r = record_op(op->kind == JOURNAL_TAKE ? "wait-take" : "wait-give-back", op->n,
		&op->owner, op->addrs.v, op->addrs.n);

	if (op->kind == JOURNAL_TAKE)
		add_take(r, op->attrs.v, op->attrs.n, op->endpoint);
	journal_file_add_line(out, r);
}

static void add_addr(struct strbuf *out, const struct journal_addr *a)
{
	static const char *const what[] = {
		[JOURNAL_FREE] = "hold", [JOURNAL_TAKEN] = "taken", [JOURNAL_LEAVING] = "leave"};
	json_t *r = record_addr(what[a->state], &a->addr);

	if (a->state == JOURNAL_TAKEN)
		add_owner(r, &a->owner);
	journal_file_add_line(out, r);
}

static void print_all(const struct journal *j, struct strbuf *out)
{
	const struct journal_addr *a;
	json_t *r = record_new("next");

	json_object_set_new(r, "n", json_integer((json_int_t)j->next));
	journal_file_add_line(out, r);
	if (j->seen.wall_s)
		journal_file_add_line(out, record_seen(j->seen.node, j->seen.there, j->seen.wall_s,
						   j->seen.boot_s, j->seen.boot, j->seen.guid));
	if (j->scope.known) {
		const struct ipam_scope scope = scope_of(j);

		journal_file_add_line(out, record_scope(&scope));
	}
	vec_for_each (&j->addrs, a)
		add_addr(out, a);
	for (size_t i = 0; i < j->ops.n; i++)
		add_op(out, j->ops.v[i]);
}

int journal_compact(struct journal *j, struct err *err)
{
	auto_strbuf out = STRBUF_INIT;
	size_t size;
	int r = lock(j, err);

	if (r < 0)
		return r;
	size = journal_file_size(j->file);
	if (size >= COMPACT_AT)
		print_all(j, &out);
	if (size >= COMPACT_AT && out.len < size / 2)
		r = journal_file_replace(j->file, &out, err);
	unlock(j);
	return r;
}
