/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Leases of etcd: one for each time to live that was asked for, granted by the first write that wants it
 * and kept alive from then on. None is revoked: where its store is closed, as where its process has
 * crashed, it expires.
 */
#include <errno.h>
#include <stdlib.h>

#include <event2/event.h>

#include "base/mem.h"
#include "store/etcd.h"

struct etcd_lease {
	struct list node; /* in etcd.leases */
	struct etcd *et;
	unsigned ttl_s;	     /* as asked for */
	int64_t granted_s;   /* by the server, not less */
	int64_t id;	     /* 0 = it has expired */
	struct event *timer; /* the next renewal */
	struct etcd_call call;
};

static struct etcd_lease *find(const struct etcd *et, unsigned ttl_s)
{
	struct etcd_lease *l;

	list_for_each (l, &et->leases, node)
		if (l->ttl_s == ttl_s)
			return l;
	return NULL;
}

int64_t etcd_lease_id(const struct etcd *et, unsigned ttl_s)
{
	const struct etcd_lease *l = find(et, ttl_s);

	return l ? l->id : 0;
}

/* Three in its time, so that one or two may fail. */
static void arm(struct etcd_lease *l)
{
	store_arm(l->timer, l->granted_s * 1000 / 3);
}

/* One that is gone is answered with no time to live. A failure is the next renewal's. */
static void on_kept(struct etcd_call *c, int r, const json_t *answer, const struct err *err)
{
	struct etcd_lease *l = container_of(c, struct etcd_lease, call);

	(void)err;
	etcd_call_stop(c);
	if (r == -EKEYEXPIRED ||
		(r == 0 && etcd_int(json_object_get(answer, "result"), "TTL") <= 0))
		l->id = 0;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct etcd_lease *l = arg;

	(void)fd;
	(void)what;
	if (!l->id)
		return;
	arm(l);
	etcd_call_stop(&l->call);
	l->call = (struct etcd_call){.et = l->et,
		.path = "/v3/lease/keepalive",
		.body = mem_printf("{\"ID\":\"%lld\"}", (long long)l->id),
		.answer = on_kept};
	etcd_call_start(&l->call);
}

void etcd_lease_keep(struct etcd *et, unsigned ttl_s, const json_t *grant)
{
	struct etcd_lease *l = find(et, ttl_s);

	if (!l) {
		l = mem_new(struct etcd_lease);
		l->et = et;
		l->ttl_s = ttl_s;
		l->timer = evtimer_new(et->st.base, on_timer, l);
		if (!l->timer)
			abort();
		list_add_tail(&et->leases, &l->node);
	}
	etcd_call_stop(&l->call); /* it asks for the one before */
	l->id = etcd_int(grant, "ID");
	l->granted_s = etcd_int(grant, "TTL");
	if (l->granted_s < 1)
		l->granted_s = 1;
	arm(l);
}

void etcd_lease_lost(struct etcd *et, int64_t id)
{
	struct etcd_lease *l;

	list_for_each (l, &et->leases, node)
		if (l->id == id)
			l->id = 0;
}

void etcd_leases_free(struct etcd *et)
{
	while (!list_empty(&et->leases)) {
		struct etcd_lease *l = list_entry(et->leases.next, struct etcd_lease, node);

		list_del(&l->node);
		etcd_call_stop(&l->call);
		event_free(l->timer);
		free(l);
	}
}
