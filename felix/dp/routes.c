/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A route object exists while it is wanted or believed to be in the kernel:
 *
 *	wanted, have equal		clean
 *	wanted, have none or other	dirty: write it, or wait for its interface
 *	not wanted, have		stray: delete it once that is allowed
 *	neither				freed
 *
 * `have` changes by acknowledgements, events and dumps. The kernel tells nothing about IPv4 routes
 * that go with their interface, so the link's event clears `have` of all routes through it: each
 * route is in the list of its port, which exists by name also while the interface does not.
 */
#define LOG_MODULE "routes"
#include "felix/dp/routes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hmap.h"
#include "base/list.h"
#include "base/log.h"
#include "felix/dp/ifaces.h"
#include "kern/rt.h"

/* What makes two routes of one key the same, in the kernel's terms. No padding that is not zero. */
struct hop {
	uint32_t oif;
	uint32_t mtu;
	struct ip gateway;
	struct ip src;
	uint8_t type;
	bool onlink;
	uint8_t zero[4];
};

struct port {
	struct hmap_node by_name;
	char name[IFNAMSIZ];
	struct list routes;
	bool known; /* some route of these was asked for since this link came */
	bool early; /* or perhaps before: the datastore was being read */
};

struct route {
	struct hmap_node by_key;
	struct list dirty; /* in routes.dirty, .failed or .resting, or alone */
	struct list port_node;
	struct port *port; /* NULL = through no interface */
	struct route_key key;
	struct nexthop want;
	struct hop have;
	bool wanted, installed, waiting;
	bool asked;	   /* it is, or was, wanted */
	bool tampered;	   /* somebody changed or removed it */
	bool quarrel;	   /* somebody keeps doing so, and was reported */
	bool shadowed;	   /* ours may be there behind another's of the same key */
	unsigned gen;	   /* of the dump that has seen it last */
	uint8_t repairs;   /* since repair_ms */
	int64_t repair_ms; /* of the first of them; or when its rest ends */
};

struct routes {
	struct rt *rt;
	struct ifaces *ifaces;
	uint32_t table;
	uint8_t protocol;
	char pod_prefix[IFNAMSIZ];
	struct hmap by_key, ports;
	struct list dirty, failed, resting;
	bool unknown, deletes, started;
	bool look; /* the dump may miss something: at a start it cannot */
	unsigned gen;
	int64_t start_ms;	/* of the first apply that may delete */
	struct route_key other; /* of another's route, the last that the dump has told */
	struct routes_stats stats;
	struct err failure; /* why the first of `failed` is there */
};

/* ---- objects ---- */

/* The kernel makes 1024 of an IPv6 metric of 0. */
static struct route_key kernel_key(const struct route_key *key)
{
	struct route_key k;

	memset(&k, 0, sizeof(k)); /* it is hashed as bytes */
	k.dst = key->dst;
	k.priority = key->priority ? key->priority : key->dst.addr.family == IP_V6 ? 1024 : 0;
	return k;
}

static struct route *find(const struct routes *rs, const struct route_key *key)
{
	struct route *r;

	hmap_for_each_hash (r, &rs->by_key, hash_bytes(key, sizeof(*key)), by_key)
		if (memcmp(&r->key, key, sizeof(*key)) == 0)
			return r;
	return NULL;
}

static struct route *make(struct routes *rs, const struct route_key *key)
{
	struct route *r = mem_new(struct route);

	r->key = *key;
	list_init(&r->dirty);
	list_init(&r->port_node);
	hmap_insert(&rs->by_key, &r->by_key, hash_bytes(&r->key, sizeof(r->key)));
	return r;
}

static struct port *find_port(const struct routes *rs, const char *name)
{
	struct port *p;

	hmap_for_each_hash (p, &rs->ports, hash_str(name), by_name)
		if (strcmp(p->name, name) == 0)
			return p;
	return NULL;
}

static struct port *get_port(struct routes *rs, const char *name)
{
	struct port *p = find_port(rs, name);

	if (p)
		return p;
	p = mem_new(struct port);
	memccpy(p->name, name, 0, sizeof(p->name) - 1);
	list_init(&p->routes);
	hmap_insert(&rs->ports, &p->by_name, hash_str(p->name));
	return p;
}

static void leave_port(struct routes *rs, struct route *r)
{
	struct port *p = r->port;

	if (!p)
		return;
	list_del(&r->port_node);
	r->port = NULL;
	if (list_empty(&p->routes)) {
		hmap_remove(&rs->ports, &p->by_name);
		free(p);
	}
}

/* name "" = none */
static void join_port(struct routes *rs, struct route *r, const char *name)
{
	if (r->port && strcmp(r->port->name, name) == 0)
		return;
	leave_port(rs, r);
	if (!name[0])
		return;
	r->port = get_port(rs, name);
	list_add_tail(&r->port->routes, &r->port_node);
}

static void set_wanted(struct routes *rs, struct route *r, bool wanted)
{
	rs->stats.wanted += wanted - r->wanted;
	r->wanted = wanted;
}

static void set_waiting(struct routes *rs, struct route *r, bool waiting)
{
	rs->stats.waiting += waiting - r->waiting;
	r->waiting = waiting;
}

static void set_installed(struct routes *rs, struct route *r, bool installed)
{
	rs->stats.installed += installed - r->installed;
	r->installed = installed;
}

static void mark_dirty(struct routes *rs, struct route *r)
{
	list_del(&r->dirty);
	list_add_tail(&rs->dirty, &r->dirty);
}

static void free_route(struct routes *rs, struct route *r)
{
	set_wanted(rs, r, false);
	set_waiting(rs, r, false);
	set_installed(rs, r, false);
	list_del(&r->dirty);
	leave_port(rs, r);
	hmap_remove(&rs->by_key, &r->by_key);
	free(r);
}

/* After the kernel was said to have, or not to have, a route. */
static void settle(struct routes *rs, struct route *r)
{
	if (!r->wanted && !r->installed)
		free_route(rs, r);
	else
		mark_dirty(rs, r);
}

static void on_link(void *arg, const struct rt_link *old, const struct rt_link *now);

struct routes *routes_new(struct rt *rt, struct ifaces *ifaces, uint32_t table_id, uint8_t protocol,
	const char *pod_prefix)
{
	struct routes *rs = mem_new(struct routes);

	rs->rt = rt;
	rs->ifaces = ifaces;
	rs->table = table_id;
	rs->protocol = protocol;
	memccpy(rs->pod_prefix, pod_prefix, 0, sizeof(rs->pod_prefix) - 1);
	list_init(&rs->dirty);
	list_init(&rs->resting);
	list_init(&rs->failed);
	rs->unknown = true;
	ifaces_listen(ifaces, on_link, rs);
	return rs;
}

void routes_free(struct routes *rs)
{
	struct route *r;

	if (!rs)
		return;
	hmap_for_each (r, &rs->by_key, by_key)
		free_route(rs, r);
	hmap_done(&rs->by_key);
	hmap_done(&rs->ports);
	free(rs);
}

const struct routes_stats *routes_stats(const struct routes *rs)
{
	return &rs->stats;
}

/* ---- what is wanted ---- */

static void know_port(struct routes *rs, struct port *p)
{
	struct route *r;

	p->known = true;
	list_for_each (r, &p->routes, port_node)
		if (!r->wanted)
			mark_dirty(rs, r);
}

void routes_set(struct routes *rs, const struct route_key *key, const struct nexthop *hop)
{
	struct route_key k = kernel_key(key);
	struct route *r = find(rs, &k);

	if (!r)
		r = make(rs, &k);
	r->want = *hop;
	r->asked = true;
	set_wanted(rs, r, true);
	join_port(rs, r, hop->ifname);
	mark_dirty(rs, r);
	if (!r->port || r->port->known)
		return;
	if (rs->deletes)
		know_port(rs, r->port);
	else
		r->port->early = true;
}

void routes_unset(struct routes *rs, const struct route_key *key)
{
	struct route_key k = kernel_key(key);
	struct route *r = find(rs, &k);

	if (!r || !r->wanted)
		return;
	set_wanted(rs, r, false);
	set_waiting(rs, r, false);
	settle(rs, r);
}

void routes_allow_deletes(struct routes *rs)
{
	struct route *r;

	if (rs->deletes)
		return;
	rs->deletes = true;
	hmap_for_each (r, &rs->by_key, by_key)
		if (!r->wanted)
			mark_dirty(rs, r);
}

/* ---- what is there ---- */

static struct hop hop_of_kernel(const struct rt_route *k)
{
	struct hop h;

	memset(&h, 0, sizeof(h));
	h.type = k->type;
	h.mtu = k->mtu;
	h.src = k->src;
	if (k->type == RT_TYPE_UNICAST) { /* IPv6 blackholes have the loopback for an interface */
		h.oif = k->multipath ? UINT32_MAX : k->oif;
		h.gateway = k->gateway;
		h.onlink = k->onlink;
	}
	return h;
}

static struct hop hop_of_want(const struct nexthop *want, uint32_t oif)
{
	struct hop h;

	memset(&h, 0, sizeof(h));
	h.type = want->type;
	h.mtu = want->mtu;
	h.src = want->src;
	h.oif = oif;
	h.gateway = want->gateway;
	h.onlink = want->onlink;
	return h;
}

static struct rt_route kernel_route(
	const struct routes *rs, const struct route_key *key, const struct hop *h)
{
	bool on_link = h->type == RT_TYPE_UNICAST && h->gateway.family == IP_NONE &&
		       key->dst.addr.family == IP_V4;

	return (struct rt_route){.dst = key->dst,
		.table = rs->table,
		.priority = key->priority,
		.protocol = rs->protocol,
		.scope = on_link ? RT_SCOPED_LINK : RT_SCOPED_UNIVERSE,
		.type = h->type,
		.onlink = h->onlink,
		.gateway = h->gateway,
		.src = h->src,
		.oif = h->oif,
		.mtu = h->mtu};
}

static struct route_key key_of_kernel(const struct rt_route *k)
{
	struct route_key key = {.dst = k->dst, .priority = k->priority};

	return kernel_key(&key);
}

/* One of ours is in the kernel. */
static struct route *note(struct routes *rs, const struct rt_route *k)
{
	struct route_key key = key_of_kernel(k);
	struct route *r = find(rs, &key);
	const struct rt_link *l;

	if (!r)
		r = make(rs, &key);
	r->have = hop_of_kernel(k);
	set_installed(rs, r, true);
	if (!r->wanted) {
		l = r->have.oif ? ifaces_by_index(rs->ifaces, r->have.oif) : NULL;
		join_port(rs, r, l ? l->name : "");
	}
	mark_dirty(rs, r);
	return r;
}

void routes_event(struct routes *rs, const struct rt_event *ev)
{
	struct route_key key;
	struct route *r;

	if (ev->type == RT_EVENT_OVERFLOW)
		rs->unknown = true;
	if ((ev->type != RT_EVENT_ROUTE_SET && ev->type != RT_EVENT_ROUTE_DEL) ||
		ev->route.table != rs->table)
		return;
	if (ev->type == RT_EVENT_ROUTE_SET && ev->route.protocol == rs->protocol) {
		r = note(rs, &ev->route);
		r->tampered |= r->wanted;
		return;
	}
	key = key_of_kernel(&ev->route);
	r = find(rs, &key);
	/* Another's route of this key took the place of ours; another's that went did not. */
	if (!r || (ev->type == RT_EVENT_ROUTE_DEL && ev->route.protocol != rs->protocol))
		return;
	r->tampered |= r->wanted;
	set_installed(rs, r, false);
	settle(rs, r);
}

void routes_mark_unknown(struct routes *rs)
{
	rs->unknown = true;
}

static void on_link(void *arg, const struct rt_link *old, const struct rt_link *now)
{
	struct routes *rs = arg;
	struct port *p = find_port(rs, old ? old->name : now->name);
	struct route *r, *tmp;
	bool was_up = old && old->flags & IFF_UP, is_up = now && now->flags & IFF_UP;
	bool same = old && now && strcmp(old->name, now->name) == 0 && was_up == is_up;

	if (old && now && strcmp(old->name, now->name) != 0) {
		on_link(rs, old, NULL);
		on_link(rs, NULL, now);
		/* Renamed while up: its routes are still there. Rare enough to look. */
		rs->unknown |= was_up;
		return;
	}
	/* The next of this name is another sandbox's, whose route may come before its endpoint. */
	if (p && old && (!now || now->index != old->index))
		p->known = p->early = false;
	if (!p || same)
		return;
	/* The port goes with its last route. */
	list_for_each_safe (r, tmp, &p->routes, port_node) {
		bool last = tmp == list_entry(&p->routes, __typeof__(*tmp), port_node);

		if (!is_up)
			set_installed(rs, r, false);
		settle(rs, r);
		if (last)
			break;
	}
}

static void dumped(void *arg, const struct rt_route *k)
{
	struct routes *rs = arg;
	struct route *r;

	if (k->protocol != rs->protocol) {
		rs->other = key_of_kernel(k);
		return;
	}
	r = note(rs, k);
	r->gen = rs->gen;
	/* Routes of one key come one after the other, and the first is the one that counts. */
	r->shadowed = memcmp(&rs->other, &r->key, sizeof(r->key)) == 0;
}

static void restart(void *arg)
{
	struct routes *rs = arg;

	rs->look = true; /* the first try may have seen one that is gone */
	rs->gen++;
	memset(&rs->other, 0, sizeof(rs->other));
}

static int dump_family(struct routes *rs, enum ip_family family, struct err *err)
{
	rs->gen++;
	memset(&rs->other, 0, sizeof(rs->other));
	/* All protocols: the kernel walks the whole table in any case. */
	return rt_route_dump(rs->rt, family, rs->table, 0, dumped, restart, rs, err);
}

/* What was believed to be there, and was not seen. */
static void settle_unseen(struct routes *rs, enum ip_family family)
{
	struct route *r;

	hmap_for_each (r, &rs->by_key, by_key)
		if (r->installed && r->gen != rs->gen && r->key.dst.addr.family == family) {
			set_installed(rs, r, false);
			settle(rs, r);
		}
}

static int dump(struct routes *rs, struct err *err)
{
	int res;

	rs->look = rs->stats.installed > 0;
	rs->stats.dumps++;
	res = dump_family(rs, IP_V4, err);
	if (res < 0)
		return res;
	if (rs->look)
		settle_unseen(rs, IP_V4);
	res = dump_family(rs, IP_V6, err);
	if (res == -EAFNOSUPPORT || res == -EOPNOTSUPP) /* a kernel without IPv6 */
		res = 0;
	if (res < 0)
		return res;
	if (rs->look)
		settle_unseen(rs, IP_V6);
	rs->unknown = false;
	return 0;
}

/* ---- apply ---- */

static bool may_delete(const struct routes *rs, const struct route *r)
{
	if (!rs->deletes)
		return false;
	return !r->port || r->asked || r->port->known ||
	       strncmp(r->port->name, rs->pod_prefix, strlen(rs->pod_prefix)) != 0;
}

/* Somebody else keeps changing it: do not turn a quarrel into a busy loop. */
static bool must_rest(struct routes *rs, struct route *r, int64_t now_ms)
{
	if (now_ms - r->repair_ms >= ROUTES_REPAIRS_MS) {
		if (r->repairs < ROUTES_REPAIRS || now_ms - r->repair_ms >= 2 * ROUTES_REPAIRS_MS)
			r->quarrel = false;
		r->repair_ms = now_ms;
		r->repairs = 0;
	}
	if (r->repairs < ROUTES_REPAIRS) {
		r->repairs++;
		rs->stats.repaired++;
		r->tampered = false;
		return false;
	}
	if (!r->quarrel) {
		rs->stats.quarrels++;
		log_warn("route %s: somebody keeps changing it, %d times in %d ms (ip monitor "
			 "route shows it)",
			prefix_str(&r->key.dst), ROUTES_REPAIRS, ROUTES_REPAIRS_MS);
	}
	r->quarrel = true;
	list_del(&r->dirty);
	list_add_tail(&rs->resting, &r->dirty);
	return true;
}

/* What to do about a route, in one word. */
enum verdict { VERDICT_NOTHING, VERDICT_WRITE, VERDICT_DELETE };

static enum verdict judge(struct routes *rs, struct route *r, struct hop *ret)
{
	const struct rt_link *l;

	set_waiting(rs, r, false);
	if (!r->wanted) {
		*ret = r->have;
		return may_delete(rs, r) ? VERDICT_DELETE : VERDICT_NOTHING;
	}
	l = r->want.ifname[0] ? ifaces_by_name(rs->ifaces, r->want.ifname) : NULL;
	if (r->want.ifname[0] && (!l || !(l->flags & IFF_UP))) {
		set_waiting(rs, r, true);
		return VERDICT_NOTHING;
	}
	*ret = hop_of_want(&r->want, l ? l->index : 0);
	if (r->installed && !r->shadowed && memcmp(&r->have, ret, sizeof(*ret)) == 0)
		return VERDICT_NOTHING;
	return VERDICT_WRITE;
}

struct change {
	struct routes *rs;
	struct route *r;
	struct hop hop;
	bool write;
};

/* The cookie of a step whose outcome does not matter. */
#define PREPARATION UINTPTR_MAX

static void on_done(void *arg, uintptr_t cookie, int res, const struct err *err)
{
	struct change *c;
	struct routes *rs;
	struct route *r;

	if (cookie == PREPARATION)
		return;
	c = (struct change *)arg + cookie;
	rs = c->rs;
	r = c->r;
	if (res == 0 && c->write) {
		r->have = c->hop;
		r->shadowed = false;
		set_installed(rs, r, true);
		rs->stats.written++;
		return;
	}
	if (res == 0) {
		rs->stats.deleted++;
		free_route(rs, r);
		return;
	}
	rs->stats.failed++;
	if (list_empty(&rs->failed))
		err_set(&rs->failure, res, "%s route %s%s%s: %s", c->write ? "write" : "delete",
			prefix_str(&r->key.dst), r->port ? " through " : "",
			r->port ? r->port->name : "", err_text(err));
	rs->unknown |= res == -ENOBUFS; /* it may have been done */
	r->shadowed = c->write && res == -EEXIST;
	list_add_tail(&rs->failed, &r->dirty);
}

static void wake_rested(struct routes *rs, int64_t now_ms)
{
	struct route *r, *tmp;

	list_for_each_safe (r, tmp, &rs->resting, dirty)
		if (now_ms - r->repair_ms >= ROUTES_REPAIRS_MS)
			mark_dirty(rs, r);
}

int64_t routes_next_ms(const struct routes *rs)
{
	int64_t next = INT64_MAX;
	struct route *r;

	if (rs->start_ms && !rs->started)
		next = rs->start_ms + ROUTES_START_MS;
	list_for_each (r, &rs->resting, dirty)
		if (r->repair_ms + ROUTES_REPAIRS_MS < next)
			next = r->repair_ms + ROUTES_REPAIRS_MS;
	return next;
}

/* Takes up to ROUTES_BATCH changes off the dirty list. */
static size_t collect(struct routes *rs, struct change *changes, int64_t now_ms)
{
	enum verdict v;
	struct route *r;
	size_t n = 0;

	while (n < ROUTES_BATCH && !list_empty(&rs->dirty)) {
		r = list_entry(rs->dirty.next, struct route, dirty);
		v = judge(rs, r, &changes[n].hop);
		if (v == VERDICT_WRITE && r->tampered && must_rest(rs, r, now_ms))
			continue;
		r->tampered = false;
		list_del(&r->dirty);
		if (v == VERDICT_NOTHING)
			continue;
		changes[n].rs = rs;
		changes[n].r = r;
		changes[n].write = v == VERDICT_WRITE;
		n++;
	}
	return n;
}

static void execute(struct routes *rs, struct change *changes, size_t n)
{
	struct rt_route k, old;

	rt_begin(rs->rt, on_done, changes);
	for (size_t i = 0; i < n; i++) {
		const struct route *r = changes[i].r;

		k = kernel_route(rs, &r->key, &changes[i].hop);
		/* Replacing changes the first of a key alone, and refuses while ours is a later one. */
		old = r->installed ? kernel_route(rs, &r->key, &r->have) : k;
		if (r->shadowed || !changes[i].write)
			rt_route_del(rs->rt, &old, changes[i].write ? PREPARATION : i);
		if (changes[i].write)
			rt_route_set(rs->rt, &k, i);
	}
	(void)rt_commit(rs->rt, NULL);
}

void routes_retry(struct routes *rs)
{
	struct route *r, *tmp;

	list_for_each_safe (r, tmp, &rs->failed, dirty)
		mark_dirty(rs, r);
}

/* Whoever was adding a pod when felix started has written its endpoint by now. */
static void end_start(struct routes *rs, int64_t now_ms)
{
	struct port *p;

	if (!rs->deletes || rs->started)
		return;
	if (rs->start_ms == 0)
		rs->start_ms = now_ms;
	if (now_ms - rs->start_ms < ROUTES_START_MS)
		return;
	rs->started = true;
	hmap_for_each (p, &rs->ports, by_name)
		if (p->early)
			know_port(rs, p);
}

static void change_batch(struct routes *rs, int64_t now_ms)
{
	struct change *changes = mem_realloc_array(NULL, ROUTES_BATCH, sizeof(*changes));
	size_t n = collect(rs, changes, now_ms);

	if (n > 0)
		execute(rs, changes, n);
	free(changes);
}

int routes_apply(struct routes *rs, int64_t now_ms, struct err *err)
{
	struct route *r;
	size_t n = 0;
	int res;

	/* First: what time alone brings must not be due again where reading fails. */
	wake_rested(rs, now_ms);
	end_start(rs, now_ms);
	res = ifaces_apply(rs->ifaces, err);
	if (res == 0 && rs->unknown)
		res = dump(rs, err);
	if (res < 0)
		return res;
	if (!list_empty(&rs->dirty))
		change_batch(rs, now_ms);
	if (!list_empty(&rs->dirty))
		return -EAGAIN;
	if (list_empty(&rs->failed))
		return 0;
	list_for_each (r, &rs->failed, dirty)
		n++;
	if (err)
		*err = rs->failure;
	if (n == 1)
		return rs->failure.code;
	return err_wrap(err, rs->failure.code, "%zu routes failed, the first", n);
}
