/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fake/ipvs_fake.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "kern/conntrack.h"

struct server {
	struct vserver_key key;
	struct ipvs_service s;
	bool foreign;
	VEC(struct ipvs_dest) dests;
};

struct ipvs {
	ipvs_done_fn *done;
	void *arg;
	int r;
	struct err err;
};

struct conntrack {
	int unused;
};

static struct {
	VEC(struct server *) servers;
	struct strbuf deletions;
	unsigned calls, writes, deletes, touched, fail_nth;
	int fail_r;
	uint16_t fail_port;
	int fail_port_r, fail_conntrack;
	bool absent;
} k;

static void free_server(size_t i)
{
	vec_done(&k.servers.v[i]->dests);
	free(k.servers.v[i]);
	vec_swap_remove(&k.servers, i);
}

void ipvs_fake_reset(void)
{
	while (k.servers.n > 0)
		free_server(0);
	vec_done(&k.servers);
	strbuf_done(&k.deletions);
	memset(&k, 0, sizeof(k));
}

void ipvs_fake_absent(bool absent)
{
	k.absent = absent;
}

void ipvs_fake_fail_nth(unsigned n, int r)
{
	k.fail_nth = n;
	k.fail_r = r;
}

void ipvs_fake_fail_port(uint16_t port, int r)
{
	k.fail_port = port;
	k.fail_port_r = r;
}

unsigned ipvs_fake_calls(void)
{
	return k.calls;
}

unsigned ipvs_fake_writes(void)
{
	return k.writes;
}

unsigned ipvs_fake_deletes(void)
{
	return k.deletes;
}

unsigned ipvs_fake_foreign_touched(void)
{
	return k.touched;
}

/* 0, or the error that this call has. */
static int call(void)
{
	k.calls++;
	if (k.fail_nth == 0 || --k.fail_nth > 0)
		return 0;
	return k.fail_r;
}

static int call_for(const struct vserver_key *key)
{
	int r = call();

	return r == 0 && k.fail_port && key->port == k.fail_port ? k.fail_port_r : r;
}

static struct server *find(const struct vserver_key *key, size_t *ret_i)
{
	for (size_t i = 0; i < k.servers.n; i++)
		if (memcmp(&k.servers.v[i]->key, key, sizeof(*key)) == 0) {
			if (ret_i)
				*ret_i = i;
			return k.servers.v[i];
		}
	return NULL;
}

static struct ipvs_dest *find_dest(
	struct server *s, const struct ip *ip, uint16_t port, size_t *ret_i)
{
	for (size_t i = 0; s && i < s->dests.n; i++)
		if (s->dests.v[i].port == port && ip_equal(&s->dests.v[i].ip, ip)) {
			if (ret_i)
				*ret_i = i;
			return &s->dests.v[i];
		}
	return NULL;
}

/* ---- by hand ---- */

void ipvs_fake_put(const struct vserver_key *key, const char *scheduler, const struct ipvs_dest *d)
{
	struct server *s = mem_new(struct server);

	s->key = *key;
	s->foreign = true;
	snprintf(s->s.scheduler, sizeof(s->s.scheduler), "%s", scheduler);
	if (d)
		vec_push(&s->dests, *d);
	vec_push(&k.servers, s);
}

bool ipvs_fake_gone(const struct vserver_key *key)
{
	size_t i;

	if (!find(key, &i))
		return false;
	free_server(i);
	return true;
}

struct ipvs_service *ipvs_fake_service(const struct vserver_key *key)
{
	struct server *s = find(key, NULL);

	return s ? &s->s : NULL;
}

struct ipvs_dest *ipvs_fake_dest(const struct vserver_key *key, const struct ip *ip, uint16_t port)
{
	return find_dest(find(key, NULL), ip, port, NULL);
}

bool ipvs_fake_dest_gone(const struct vserver_key *key, const struct ip *ip, uint16_t port)
{
	struct server *s = find(key, NULL);
	size_t i;

	if (!find_dest(s, ip, port, &i))
		return false;
	vec_swap_remove(&s->dests, i);
	return true;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_sorted(struct strbuf *sb, char **v, size_t n, const char *end)
{
	if (n > 0)
		qsort(v, n, sizeof(*v), by_text);
	for (size_t i = 0; i < n; i++) {
		strbuf_add(sb, v[i]);
		strbuf_add(sb, end);
		free(v[i]);
	}
	free(v);
}

char *ipvs_fake_text(void)
{
	char **lines = mem_zalloc((k.servers.n + 1) * sizeof(*lines));
	struct strbuf all = STRBUF_INIT;

	for (size_t i = 0; i < k.servers.n; i++) {
		const struct server *s = k.servers.v[i];
		char **dests = mem_zalloc((s->dests.n + 1) * sizeof(*dests));
		struct strbuf sb = STRBUF_INIT;

		strbuf_addf(&sb, "%s %s", vserver_key_str(&s->key), s->s.scheduler);
		if (s->s.persistent_s)
			strbuf_addf(&sb, ", p%u", s->s.persistent_s);
		strbuf_add(&sb, ":");
		for (size_t n = 0; n < s->dests.n; n++)
			dests[n] = mem_printf(" %s:%u*%u", ip_str(&s->dests.v[n].ip),
				s->dests.v[n].port, s->dests.v[n].weight);
		add_sorted(&sb, dests, s->dests.n, "");
		lines[i] = strbuf_take(&sb);
	}
	add_sorted(&all, lines, k.servers.n, "\n");
	return strbuf_take(&all);
}

/* ---- kern/ipvs.h ---- */

int ipvs_open(struct ipvs **ret, struct err *err)
{
	if (k.absent)
		return err_set(err, -EPROTONOSUPPORT, "this kernel has no IPVS");
	*ret = mem_new(struct ipvs);
	return 0;
}

void ipvs_close(struct ipvs *v)
{
	free(v);
}

int ipvs_services(struct ipvs *v, ipvs_service_fn *fn, void *arg, struct err *err)
{
	int r = call();

	(void)v;
	/* A reading that fails has told half. */
	for (size_t i = 0; i < (r < 0 ? k.servers.n / 2 : k.servers.n); i++)
		fn(arg, &k.servers.v[i]->key, &k.servers.v[i]->s);
	return r < 0 ? err_sys(err, r, "read the virtual servers") : 0;
}

int ipvs_dests(
	struct ipvs *v, const struct vserver_key *key, ipvs_dest_fn *fn, void *arg, struct err *err)
{
	const struct server *s = find(key, NULL);
	int r = call_for(key);

	(void)v;
	for (size_t i = 0; s && i < (r < 0 ? s->dests.n / 2 : s->dests.n); i++)
		fn(arg, &s->dests.v[i]);
	return r < 0 ? err_sys(err, r, "read the real servers") : 0;
}

void ipvs_begin(struct ipvs *v, ipvs_done_fn *done, void *arg)
{
	v->done = done;
	v->arg = arg;
	v->r = 0;
}

int ipvs_commit(struct ipvs *v, struct err *err)
{
	if (v->r < 0 && err)
		*err = v->err;
	return v->r;
}

static void finish(struct ipvs *v, uintptr_t cookie, int r)
{
	struct err err = ERR_INIT;

	if (r < 0) {
		err_set(&err, r, "%s", strerror(-r));
		v->r = v->r ?: r;
		v->err = err;
	}
	if (v->done)
		v->done(v->arg, cookie, r, r < 0 ? &err : NULL);
}

enum what { SERVICE_ADD, SERVICE_EDIT, SERVICE_DEL, DEST_ADD, DEST_EDIT, DEST_DEL };

static int execute(enum what what, const struct vserver_key *key, const struct ipvs_service *is,
	const struct ipvs_dest *d)
{
	size_t i = 0, di = 0;
	struct server *s = find(key, &i);
	struct ipvs_dest *dest = d ? find_dest(s, &d->ip, d->port, &di) : NULL;

	if (!s && what != SERVICE_ADD)
		return what == SERVICE_DEL || what == DEST_DEL ? 0 : -ENOENT;
	if ((what == SERVICE_ADD && s) || (what == DEST_ADD && dest))
		return -EEXIST;
	if (!dest && what == DEST_EDIT)
		return -ENOENT;
	if (!dest && what == DEST_DEL)
		return 0;
	k.writes++;
	k.deletes += what == SERVICE_DEL || what == DEST_DEL;
	k.touched += s && s->foreign;
	switch (what) {
	case SERVICE_ADD:
		ipvs_fake_put(key, is->scheduler, NULL);
		s = k.servers.v[k.servers.n - 1];
		s->foreign = false;
		s->s = *is;
		break;
	case SERVICE_EDIT:
		s->s = *is;
		break;
	case SERVICE_DEL:
		free_server(i);
		break;
	case DEST_ADD:
		vec_push(&s->dests, *d);
		break;
	case DEST_EDIT:
		dest->weight = d->weight;
		dest->forward = d->forward;
		break;
	case DEST_DEL:
		vec_swap_remove(&s->dests, di);
		break;
	}
	return 0;
}

static void verb(struct ipvs *v, enum what what, const struct vserver_key *key,
	const struct ipvs_service *is, const struct ipvs_dest *d, uintptr_t cookie)
{
	int fault = call_for(key), r = 0;

	if (fault == 0 || fault == -ENOBUFS)
		r = execute(what, key, is, d);
	finish(v, cookie, fault ? fault : r);
}

void ipvs_service_add(struct ipvs *v, const struct vserver_key *key, const struct ipvs_service *s,
	uintptr_t cookie)
{
	verb(v, SERVICE_ADD, key, s, NULL, cookie);
}

void ipvs_service_edit(struct ipvs *v, const struct vserver_key *key, const struct ipvs_service *s,
	uintptr_t cookie)
{
	verb(v, SERVICE_EDIT, key, s, NULL, cookie);
}

void ipvs_service_del(struct ipvs *v, const struct vserver_key *key, uintptr_t cookie)
{
	verb(v, SERVICE_DEL, key, NULL, NULL, cookie);
}

void ipvs_dest_add(
	struct ipvs *v, const struct vserver_key *key, const struct ipvs_dest *d, uintptr_t cookie)
{
	verb(v, DEST_ADD, key, NULL, d, cookie);
}

void ipvs_dest_edit(
	struct ipvs *v, const struct vserver_key *key, const struct ipvs_dest *d, uintptr_t cookie)
{
	verb(v, DEST_EDIT, key, NULL, d, cookie);
}

void ipvs_dest_del(
	struct ipvs *v, const struct vserver_key *key, const struct ipvs_dest *d, uintptr_t cookie)
{
	verb(v, DEST_DEL, key, NULL, d, cookie);
}

/* ---- kern/conntrack.h ---- */

int conntrack_open(struct conntrack **ret, struct err *err)
{
	(void)err;
	*ret = mem_new(struct conntrack);
	return 0;
}

void conntrack_close(struct conntrack *ct)
{
	free(ct);
}

int conntrack_delete_udp(
	struct conntrack *ct, const struct conntrack_stale *stale, size_t n, struct err *err)
{
	int r = call();

	(void)ct;
	r = r ?: k.fail_conntrack;
	if (r < 0)
		return err_sys(err, r, "delete stale UDP connections");
	for (size_t i = 0; i < n; i++)
		strbuf_addf(&k.deletions, "%s:%u<%s ", ip_str(&stale[i].dst), stale[i].port,
			stale[i].from.family == IP_NONE ? "*" : ip_str(&stale[i].from));
	return (int)n;
}

void conntrack_fake_fail(int r)
{
	k.fail_conntrack = r;
}

char *conntrack_fake_text(void)
{
	return strbuf_take(&k.deletions);
}
