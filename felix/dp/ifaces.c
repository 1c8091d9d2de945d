/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "felix/dp/ifaces.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hmap.h"
#include "base/vec.h"
#include "kern/rt.h"

struct iface {
	struct hmap_node by_name, by_index;
	struct rt_link link;
	unsigned gen; /* of the dump that has seen it last */
};

struct listener {
	ifaces_fn *fn;
	void *arg;
};

struct ifaces {
	struct rt *rt;
	struct hmap by_name, by_index;
	VEC(struct listener) listeners;
	bool unknown;
	unsigned gen;
};

struct ifaces *ifaces_new(struct rt *rt)
{
	struct ifaces *is = mem_new(struct ifaces);

	is->rt = rt;
	is->unknown = true;
	return is;
}

void ifaces_free(struct ifaces *is)
{
	struct iface *i;

	if (!is)
		return;
	hmap_for_each (i, &is->by_index, by_index)
		free(i);
	hmap_done(&is->by_name);
	hmap_done(&is->by_index);
	vec_done(&is->listeners);
	free(is);
}

void ifaces_listen(struct ifaces *is, ifaces_fn *fn, void *arg)
{
	vec_push(&is->listeners, (struct listener){.fn = fn, .arg = arg});
}

static struct iface *find_index(const struct ifaces *is, uint32_t index)
{
	struct iface *i;

	hmap_for_each_hash (i, &is->by_index, hash_bytes(&index, sizeof(index)), by_index)
		if (i->link.index == index)
			return i;
	return NULL;
}

static struct iface *find_name(const struct ifaces *is, const char *name)
{
	struct iface *i;

	hmap_for_each_hash (i, &is->by_name, hash_str(name), by_name)
		if (strcmp(i->link.name, name) == 0)
			return i;
	return NULL;
}

const struct rt_link *ifaces_by_name(const struct ifaces *is, const char *name)
{
	struct iface *i = find_name(is, name);

	return i ? &i->link : NULL;
}

const struct rt_link *ifaces_by_index(const struct ifaces *is, uint32_t index)
{
	struct iface *i = find_index(is, index);

	return i ? &i->link : NULL;
}

void ifaces_for_each(
	const struct ifaces *is, void (*fn)(void *arg, const struct rt_link *l), void *arg)
{
	struct iface *i;

	hmap_for_each (i, &is->by_index, by_index)
		fn(arg, &i->link);
}

static void tell(struct ifaces *is, const struct rt_link *old, const struct rt_link *now)
{
	struct listener *l;

	vec_for_each (&is->listeners, l)
		l->fn(l->arg, old, now);
}

static void gone(struct ifaces *is, struct iface *i)
{
	hmap_remove(&is->by_name, &i->by_name);
	hmap_remove(&is->by_index, &i->by_index);
	tell(is, &i->link, NULL);
	free(i);
}

static struct iface *update(struct ifaces *is, const struct rt_link *l)
{
	struct iface *i = find_index(is, l->index), *other = find_name(is, l->name);
	struct rt_link old;

	if (other && other != i) /* the name's old owner is gone or has another name by now */
		gone(is, other);
	if (!i) {
		i = mem_new(struct iface);
		i->link = *l;
		hmap_insert(&is->by_index, &i->by_index, hash_bytes(&l->index, sizeof(l->index)));
		hmap_insert(&is->by_name, &i->by_name, hash_str(l->name));
		tell(is, NULL, &i->link);
		return i;
	}
	old = i->link;
	if (strcmp(old.name, l->name) != 0) {
		hmap_remove(&is->by_name, &i->by_name);
		hmap_insert(&is->by_name, &i->by_name, hash_str(l->name));
	}
	i->link = *l;
	if (strcmp(old.name, l->name) != 0 || old.flags != l->flags || old.mtu != l->mtu)
		tell(is, &old, &i->link);
	return i;
}

void ifaces_event(struct ifaces *is, const struct rt_event *ev)
{
	struct iface *i;

	switch (ev->type) {
	case RT_EVENT_LINK_SET:
		update(is, &ev->link);
		break;
	case RT_EVENT_LINK_DEL:
		i = find_index(is, ev->link.index);
		if (i)
			gone(is, i);
		break;
	case RT_EVENT_OVERFLOW:
		is->unknown = true;
		break;
	case RT_EVENT_ADDR_SET:
	case RT_EVENT_ADDR_DEL:
	case RT_EVENT_ROUTE_SET:
	case RT_EVENT_ROUTE_DEL:
	case RT_EVENT_NEIGH_SET:
	case RT_EVENT_NEIGH_DEL:
	case RT_EVENT_FDB_SET:
	case RT_EVENT_FDB_DEL:
		break;
	}
}

void ifaces_mark_unknown(struct ifaces *is)
{
	is->unknown = true;
}

static void seen(void *arg, const struct rt_link *l)
{
	struct ifaces *is = arg;

	update(is, l)->gen = is->gen;
}

static void restart(void *arg)
{
	struct ifaces *is = arg;

	is->gen++;
}

int ifaces_apply(struct ifaces *is, struct err *err)
{
	struct iface *i;
	int r;

	if (!is->unknown)
		return 0;
	is->gen++;
	r = rt_link_dump(is->rt, seen, restart, is, err);
	if (r < 0)
		return r;
	hmap_for_each (i, &is->by_index, by_index)
		if (i->gen != is->gen)
			gone(is, i);
	is->unknown = false;
	return 0;
}
