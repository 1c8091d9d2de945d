/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/stale.h"

#include <netinet/in.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/vec.h"
#include "kern/vserver.h"

struct stale {
	struct conntrack *ct;
	VEC(struct conntrack_stale) v; /* each once, after a failure */
};

struct stale *stale_new(struct conntrack *ct)
{
	struct stale *s = mem_new(struct stale);

	s->ct = ct;
	return s;
}

void stale_free(struct stale *s)
{
	if (!s)
		return;
	vec_done(&s->v);
	free(s);
}

void stale_add(struct stale *s, const struct vserver_key *key, const struct ip *from)
{
	struct conntrack_stale st = {.dst = key->ip, .port = key->port};

	if (key->protocol != IPPROTO_UDP || !s->ct)
		return;
	if (from)
		st.from = *from;
	vec_push(&s->v, st);
}

static bool is_same_target(const struct conntrack_stale *a, const struct conntrack_stale *b)
{
	return ip_equal(&a->dst, &b->dst) && a->port == b->port;
}

/* By target; the one from anywhere first. */
static int compare(const void *a, const void *b)
{
	const struct conntrack_stale *x = a, *y = b;
	int r = ip_compare(&x->dst, &y->dst);

	if (r == 0)
		r = (int)x->port - (int)y->port;
	return r ? r : ip_compare(&x->from, &y->from);
}

/* While deletions fail, an endpoint that comes and goes adds nothing to them. */
static void merge(struct stale *s)
{
	struct conntrack_stale *v = s->v.v;
	size_t n = 1;

	qsort(v, s->v.n, sizeof(*v), compare);
	for (size_t i = 1; i < s->v.n; i++)
		if (!is_same_target(&v[n - 1], &v[i]) ||
			(v[n - 1].from.family != IP_NONE && !ip_equal(&v[n - 1].from, &v[i].from)))
			v[n++] = v[i];
	s->v.n = n;
}

int stale_delete(struct stale *s, struct err *err)
{
	int r;

	if (s->v.n == 0)
		return 0;
	r = conntrack_delete_udp(s->ct, s->v.v, s->v.n, err);
	if (r < 0)
		merge(s);
	else
		s->v.n = 0;
	return r;
}
