/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/svcalloc.h"

#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/parse.h"
#include "base/vec.h"
#include "model/json.h"
#include "model/key.h"
#include "model/service.h"
#include "store/store.h"

#define KEY_IPS "/margay/v1/serviceips/"
#define KEY_PORTS "/margay/v1/nodeports/"
#define TRIES 5	  /* of one claim, against others who do the same */
#define GUESSES 8 /* that were taken, before all Services are read */

/* ---- configuration ---- */

int svcalloc_parse_ranges(const char *text, struct svcalloc_conf *ret, struct err *err)
{
	auto_free char *copy = mem_strdup(text);
	char *save = NULL;
	int r;

	ret->n_ranges = 0;
	for (char *s = strtok_r(copy, ", ", &save); s; s = strtok_r(NULL, ", ", &save)) {
		struct prefix p;

		if (ret->n_ranges == array_size(ret->ranges))
			return err_set(err, -EINVAL,
				"\"%s\": want at most one range of each family", text);
		r = prefix_parse_masked(s, &p, err);
		if (r < 0)
			return r;
		if (prefix_size(&p) < 4)
			return err_set(
				err, -EINVAL, "\"%s\": want a range of 4 addresses or more", s);
		if (ret->n_ranges == 1 && ret->ranges[0].addr.family == p.addr.family)
			return err_set(
				err, -EINVAL, "\"%s\": want ranges of different families", text);
		ret->ranges[ret->n_ranges++] = p;
	}
	if (ret->n_ranges == 0)
		return err_set(err, -EINVAL, "\"%s\": want a range such as 10.96.0.0/16", text);
	return 0;
}

int svcalloc_parse_ports(const char *text, struct svcalloc_conf *ret, struct err *err)
{
	auto_free char *copy = mem_strdup(text);
	char *dash = strchr(copy, '-');
	uint32_t min, max;

	if (!dash)
		return err_set(err, -EINVAL, "\"%s\": want two ports, such as 30000-32767", text);
	*dash = '\0';
	if (parse_u32(copy, 1, 65535, &min, err) < 0 ||
		parse_u32(dash + 1, min, 65535, &max, err) < 0)
		return err_wrap(err, -EINVAL, "\"%s\"", text);
	ret->port_min = (uint16_t)min;
	ret->port_max = (uint16_t)max;
	return 0;
}

/* ---- the choice ---- */

static int compare_ips(const void *a, const void *b)
{
	return ip_compare(a, b);
}

static int compare_ports(const void *a, const void *b)
{
	return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

/* The first free one of the n addresses from `from` on, beginning at a random one. */
static bool choose_among(const struct prefix *range, uint64_t from, uint64_t n,
	const struct ip *used, size_t n_used, uint64_t random, struct ip *ret)
{
	for (uint64_t i = 0; i < n; i++)
		if (ip_add(&range->addr, from + (random + i) % n, ret) &&
			(n_used == 0 || !bsearch(ret, used, n_used, sizeof(used[0]), compare_ips)))
			return true;
	return false;
}

bool svcalloc_choose_ip(const struct prefix *range, const struct ip *used, size_t n,
	uint64_t random, struct ip *ret)
{
	uint64_t size = prefix_size(range), low;

	if (size > UINT32_MAX)
		size = UINT32_MAX;
	low = size / 16 < 16 ? 16 : size / 16;
	low = low > 256 ? 256 : low;
	if (low > size / 2)
		low = size / 2;
	return choose_among(range, low, size - 1 - low, used, n, random, ret) ||
	       choose_among(range, 1, low - 1, used, n, random, ret);
}

uint16_t svcalloc_choose_port(
	const struct svcalloc_conf *c, const uint16_t *used, size_t n, uint64_t random)
{
	unsigned size = (unsigned)c->port_max - c->port_min + 1;

	for (unsigned i = 0; i < size; i++) {
		uint16_t port = (uint16_t)(c->port_min + (random % size + i) % size);

		if (n == 0 || !bsearch(&port, used, n, sizeof(port), compare_ports))
			return port;
	}
	return 0;
}

/* ---- what is taken ---- */

/* An address, or a node port. */
struct thing {
	char *key;
	struct ip ip; /* IP_NONE: it is a port */
	uint16_t port;
};

struct svcalloc_made {
	char *owner; /* "ns/name" */
	char *text;  /* of these claims and of no others */
	VEC(struct thing) things;
};

struct claim {
	struct store *st;
	const struct svcalloc_conf *c;
	struct service *s;
	int64_t deadline_ms;
	unsigned n_taken; /* guesses that were */
	VEC(struct ip) ips;
	VEC(uint16_t) ports;
	struct svcalloc_made *made; /* to be taken back after a failure */
};

static bool has_ip(const struct service *s, const struct ip *ip)
{
	for (size_t i = 0; i < s->cluster_ips.n; i++)
		if (ip_equal(&s->cluster_ips.v[i], ip))
			return true;
	return false;
}

static bool has_port(const struct service *s, uint16_t port)
{
	for (size_t i = 0; i < s->ports.n; i++)
		if (s->ports.v[i].node_port == port)
			return true;
	return false;
}

static void sort_used(struct claim *cl)
{
	if (cl->ips.n > 0)
		qsort(cl->ips.v, cl->ips.n, sizeof(cl->ips.v[0]), compare_ips);
	if (cl->ports.n > 0)
		qsort(cl->ports.v, cl->ports.n, sizeof(cl->ports.v[0]), compare_ports);
}

/* What all other Services have: only once guessing has come to nothing. */
static int read_services(struct claim *cl, struct err *err)
{
	struct store_list list = {0};
	char prefix[KEY_SIZE];
	int r = store_list_wait(
		cl->st, key_prefix(KIND_SERVICE, NULL, prefix), cl->deadline_ms, &list, err);

	for (size_t i = 0; i < list.n; i++) {
		auto_(service) struct service *o = NULL;

		if (service_decode(list.v[i].key, list.v[i].value, list.v[i].len, &o, NULL) < 0)
			continue; /* what it has, its claims tell */
		if (strcmp(o->meta.ns, cl->s->meta.ns) == 0 &&
			strcmp(o->meta.name, cl->s->meta.name) == 0)
			continue;
		for (size_t k = 0; k < o->cluster_ips.n; k++)
			vec_push(&cl->ips, o->cluster_ips.v[k]);
		for (size_t k = 0; k < o->ports.n; k++)
			if (o->ports.v[k].node_port)
				vec_push(&cl->ports, o->ports.v[k].node_port);
	}
	store_list_done(&list);
	sort_used(cl);
	return r;
}

/* ---- claims ---- */

static uint64_t get_random(void)
{
	uint64_t x;

	mem_random(&x, sizeof(x));
	return x;
}

/* Two writers of one Service in one second tell their claims apart by the id. */
static char *claim_text(const char *owner)
{
	auto_(json) json_t *j = json_pack("{s:s, s:I, s:I}", "service", owner, "time",
		(json_int_t)(clock_real_ns() / 1000000000), "id", (json_int_t)(get_random() >> 1));

	return model_json_dump(j);
}

static struct svcalloc_made *made_new(const struct service *s)
{
	struct svcalloc_made *m = mem_new(struct svcalloc_made);

	m->owner = mem_printf("%s/%s", s->meta.ns, s->meta.name);
	m->text = claim_text(m->owner);
	return m;
}

void svcalloc_made_free(struct svcalloc_made *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->things.n; i++)
		free(m->things.v[i].key);
	vec_done(&m->things);
	free(m->owner);
	free(m->text);
	free(m);
}

static struct thing thing_of_ip(const struct ip *ip)
{
	return (struct thing){.key = mem_printf(KEY_IPS "%s", ip_str(ip)), .ip = *ip};
}

static struct thing thing_of_port(uint16_t port)
{
	return (struct thing){.key = mem_printf(KEY_PORTS "%u", port), .port = port};
}

struct held {
	char *owner; /* "" where the claim says nothing that makes sense */
	int64_t age_ms, rev;
};

static int read_claim(
	struct store *st, const char *key, int64_t deadline_ms, struct held *ret, struct err *err)
{
	struct store_kv kv = {0};
	int r = store_get_wait(st, key, deadline_ms, &kv, err);
	json_int_t made_s = 0;
	const char *owner = "";
	json_t *j;

	if (r < 0)
		return r;
	j = model_json_load(key, kv.value, kv.len, NULL);
	json_unpack(j, "{s:s, s:I}", "service", &owner, "time", &made_s);
	/* A time that is none, or far ahead of any clock that is a little wrong: that is old. */
	if (made_s < 0 || made_s > clock_real_ns() / 1000000000 + 3600)
		made_s = 0;
	*ret = (struct held){.owner = mem_strdup(owner),
		.age_ms = clock_real_ns() / 1000000 - made_s * 1000,
		.rev = kv.rev};
	json_decref(j);
	store_kv_done(&kv);
	return 0;
}

/* Whether the Service that holds a claim really has what it claimed. */
static int is_borne_out(struct store *st, const char *owner, const struct thing *t,
	int64_t deadline_ms, bool *ret, struct err *err)
{
	auto_(service) struct service *s = NULL;
	const char *slash = strchr(owner, '/');
	auto_free char *ns = NULL;
	struct store_kv kv = {0};
	int r;

	*ret = false;
	if (!slash || !key_name_ok(slash + 1) || slash - owner > MODEL_NAMESPACE_MAX ||
		slash == owner)
		return 0;
	ns = mem_strndup(owner, (size_t)(slash - owner));
	if (!key_name_ok(ns))
		return 0;
	r = store_get_wait(st, key_str(KIND_SERVICE, ns, slash + 1), deadline_ms, &kv, err);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	/* One that cannot be read keeps what it has. */
	if (service_decode(kv.key, kv.value, kv.len, &s, NULL) < 0)
		*ret = true;
	else
		*ret = t->ip.family != IP_NONE ? has_ip(s, &t->ip) : has_port(s, t->port);
	store_kv_done(&kv);
	return 0;
}

static void note_made(struct claim *cl, const struct thing *t)
{
	struct thing copy = *t;

	copy.key = mem_strdup(t->key);
	vec_push(&cl->made->things, copy);
}

/* 0; EEXIST with the owner's name; or the datastore's error. */
static int claim_one(struct claim *cl, const struct thing *t, struct err *err)
{
	const char *kind = t->ip.family != IP_NONE ? "clusterIP" : "nodePort";
	const char *what = strrchr(t->key, '/') + 1;
	struct held h;
	bool valid = false;
	int r = -EAGAIN;

	for (int i = 0; i < TRIES && r == -EAGAIN; i++) {
		r = store_create_wait(cl->st, t->key, cl->made->text, cl->deadline_ms, NULL, err);
		if (r == 0 || r == -ETIMEDOUT) /* then it may be there */
			note_made(cl, t);
		if (r != -EEXIST)
			return r;
		r = read_claim(cl->st, t->key, cl->deadline_ms, &h, err);
		if (r == -ENOENT) { /* given up just now */
			r = -EAGAIN;
			continue;
		}
		if (r < 0)
			return r;
		if (strcmp(h.owner, cl->made->owner) == 0) {
			free(h.owner);
			return 0;
		}
		/* A claim from the future is somebody's clock: it counts as old. */
		if (h.age_ms >= 0 && h.age_ms < SVCALLOC_GRACE_MS)
			valid = true;
		else
			r = is_borne_out(cl->st, h.owner, t, cl->deadline_ms, &valid, err);
		if (r == 0 && valid)
			r = err_set(err, -EEXIST,
				"%s %s belongs to Service %s: name another, or none", kind, what,
				h.owner);
		else if (r == 0)
			r = store_delete_wait(cl->st, t->key, h.rev, NULL, cl->deadline_ms, err);
		free(h.owner);
		if (r == 0 || r == -ENOENT || r == -ESTALE)
			r = -EAGAIN;
	}
	if (r == -EAGAIN)
		return err_set(
			err, -EEXIST, "%s %s is being claimed by others: try again", kind, what);
	return r;
}

static int claim_ip(struct claim *cl, const struct ip *ip, struct err *err)
{
	struct thing t = thing_of_ip(ip);
	int r = claim_one(cl, &t, err);

	free(t.key);
	return r;
}

static int claim_port(struct claim *cl, uint16_t port, struct err *err)
{
	struct thing t = thing_of_port(port);
	int r = claim_one(cl, &t, err);

	free(t.key);
	return r;
}

static const struct prefix *find_range(const struct svcalloc_conf *c, const struct ip *ip)
{
	for (size_t i = 0; i < c->n_ranges; i++)
		if (prefix_contains(&c->ranges[i], ip))
			return &c->ranges[i];
	return NULL;
}

/* Kubernetes gives no Service the network's own address, nor IPv4's broadcast address. */
static int check_ip(const struct svcalloc_conf *c, const struct ip *ip, struct err *err)
{
	const struct prefix *range = find_range(c, ip);
	struct ip last;

	if (!range)
		return err_set(err, -EINVAL, "clusterIP %s: want one in the service range %s",
			ip_str(ip), prefix_str(&c->ranges[0]));
	if (ip_equal(ip, &range->addr))
		return err_set(err, -EINVAL,
			"clusterIP %s: is the address of the network %s: want another of it",
			ip_str(ip), prefix_str(range));
	last = prefix_last(range);
	if (ip->family == IP_V4 && ip_equal(ip, &last))
		return err_set(err, -EINVAL,
			"clusterIP %s: is the broadcast address of %s: want another of it",
			ip_str(ip), prefix_str(range));
	return 0;
}

/*
 * After a guess that was taken. A guess costs what it costs, however many Services there are; only
 * where nearly everything is taken they are read, once. EAGAIN: guess.
 */
static int guess_again(struct claim *cl, struct err *err)
{
	int r = 0;

	if (++cl->n_taken == GUESSES)
		r = read_services(cl, err);
	return r < 0 ? r : -EAGAIN;
}

static int give_ip(struct claim *cl, struct err *err)
{
	const struct prefix *range = &cl->c->ranges[0];
	struct ip ip;
	int r;

	do {
		if (!svcalloc_choose_ip(range, cl->ips.v, cl->ips.n, get_random(), &ip))
			return err_set(err, -ENOSPC,
				"no free cluster address in %s: delete Services, or enlarge the range",
				prefix_str(range));
		r = claim_ip(cl, &ip, err);
		if (r == -EEXIST) {
			vec_push(&cl->ips, ip);
			sort_used(cl);
			r = guess_again(cl, err);
		}
	} while (r == -EAGAIN);
	if (r == 0)
		vec_push(&cl->s->cluster_ips, ip);
	return r;
}

static int claim_ips(struct claim *cl, struct err *err)
{
	struct service *s = cl->s;
	int r = 0;

	if (s->headless || s->type == SERVICE_EXTERNAL_NAME)
		return 0;
	if (s->cluster_ips.n == 0)
		return give_ip(cl, err);
	for (size_t i = 0; r == 0 && i < s->cluster_ips.n; i++) {
		const struct ip *ip = &s->cluster_ips.v[i];

		r = check_ip(cl->c, ip, err);
		if (r < 0)
			return r;
		r = claim_ip(cl, ip, err);
	}
	return r;
}

static int give_port(struct claim *cl, struct service_port *p, struct err *err)
{
	uint16_t port;
	int r;

	do {
		port = svcalloc_choose_port(cl->c, cl->ports.v, cl->ports.n, get_random());
		if (port == 0)
			return err_set(err, -ENOSPC, "no free node port from %u to %u",
				cl->c->port_min, cl->c->port_max);
		r = claim_port(cl, port, err);
		vec_push(&cl->ports, port);
		sort_used(cl);
		if (r == -EEXIST)
			r = guess_again(cl, err);
	} while (r == -EAGAIN);
	if (r == 0)
		p->node_port = port;
	return r;
}

static int claim_ports(struct claim *cl, struct err *err)
{
	struct service *s = cl->s;
	struct service_port *p;
	int r = 0;

	if (s->type != SERVICE_NODE_PORT && s->type != SERVICE_LOAD_BALANCER) {
		vec_for_each (&s->ports, p)
			p->node_port = 0;
		return 0;
	}
	vec_for_each (&s->ports, p) {
		if (p->node_port == 0)
			continue;
		if (p->node_port < cl->c->port_min || p->node_port > cl->c->port_max)
			return err_set(err, -EINVAL, "nodePort %u: want one from %u to %u",
				p->node_port, cl->c->port_min, cl->c->port_max);
		r = claim_port(cl, p->node_port, err);
		if (r < 0)
			return r;
		vec_push(&cl->ports, p->node_port);
	}
	sort_used(cl);
	vec_for_each (&s->ports, p) {
		if (p->node_port == 0)
			r = give_port(cl, p, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* What s leaves open it keeps as it was. */
static void take_over(struct service *s, const struct service *old)
{
	struct service_port *p;
	const struct service_port *o;

	if (!s->headless && s->type != SERVICE_EXTERNAL_NAME && s->cluster_ips.n == 0)
		for (size_t i = 0; i < old->cluster_ips.n; i++)
			vec_push(&s->cluster_ips, old->cluster_ips.v[i]);
	vec_for_each (&s->ports, p)
		vec_for_each (&old->ports, o)
			if (p->node_port == 0 && o->protocol == p->protocol && o->port == p->port &&
				!has_port(s, o->node_port))
				p->node_port = o->node_port;
}

/* Deletes the claim rev of t, unless the owner's Service, as it is stored by now, has t. */
static int give_up(struct store *st, const char *owner, const struct thing *t, int64_t rev,
	int64_t deadline_ms, struct err *err)
{
	bool kept;
	int r = is_borne_out(st, owner, t, deadline_ms, &kept, err);

	if (r < 0 || kept)
		return r;
	r = store_delete_wait(st, t->key, rev, NULL, deadline_ms, err);
	return r == -ENOENT || r == -ESTALE ? 0 : r;
}

/* What was made is told by its text: others' claims for the same Service have another. */
void svcalloc_undo(struct store *st, const struct svcalloc_made *m)
{
	const struct thing *t;

	vec_for_each (&m->things, t) {
		struct store_kv kv = {0};

		if (store_get_wait(st, t->key, 0, &kv, NULL) < 0)
			continue;
		if (strcmp(kv.value, m->text) == 0)
			(void)give_up(st, m->owner, t, kv.rev, 0, NULL);
		store_kv_done(&kv);
	}
}

int svcalloc_claim(struct store *st, const struct svcalloc_conf *c, struct service *s,
	const struct service *old, int64_t deadline_ms, struct svcalloc_made **ret_made,
	struct err *err)
{
	struct claim cl = {
		.st = st, .c = c, .s = s, .deadline_ms = deadline_ms, .made = made_new(s)};
	int r;

	if (old)
		take_over(s, old);
	r = claim_ips(&cl, err);
	if (r == 0)
		r = claim_ports(&cl, err);
	if (r < 0)
		svcalloc_undo(st, cl.made);
	else if (ret_made)
		*ret_made = take_ptr(cl.made);
	svcalloc_made_free(cl.made);
	vec_done(&cl.ips);
	vec_done(&cl.ports);
	return r;
}

static int release(struct store *st, const struct service *s, const struct thing *t,
	int64_t deadline_ms, struct err *err)
{
	auto_free char *owner = mem_printf("%s/%s", s->meta.ns, s->meta.name);
	struct held h;
	int r = read_claim(st, t->key, deadline_ms, &h, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (strcmp(h.owner, owner) == 0)
		r = give_up(st, owner, t, h.rev, deadline_ms, err);
	free(h.owner);
	return r;
}

int svcalloc_release(struct store *st, const struct service *from, const struct service *keep,
	int64_t deadline_ms, struct err *err)
{
	struct thing t;
	int r = 0;

	for (size_t i = 0; r == 0 && i < from->cluster_ips.n; i++) {
		if (keep && has_ip(keep, &from->cluster_ips.v[i]))
			continue;
		t = thing_of_ip(&from->cluster_ips.v[i]);
		r = release(st, from, &t, deadline_ms, err);
		free(t.key);
	}
	for (size_t i = 0; r == 0 && i < from->ports.n; i++) {
		uint16_t port = from->ports.v[i].node_port;

		if (!port || (keep && has_port(keep, port)))
			continue;
		t = thing_of_port(port);
		r = release(st, from, &t, deadline_ms, err);
		free(t.key);
	}
	return r;
}
