/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How other nodes' pods are reached by VXLAN: by cases, and by chance against what a look at the whole gives. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "felix/calc/input.h"
#include "felix/calc/remote.h"
#include "model/ippool.h"

#define N_NODES 5
#define N_BLOCKS 6
#define N_POOLS 3
#define N_STEPS 4000
#define NODE_KEY "/calico/resources/v3/projectcalico.org/nodes/"

static struct prefix P(const char *s) {
	struct prefix p = {0};

	ck_assert_int_eq(prefix_parse_host(s, &p, NULL), 0);
	return p;
}

static struct ip
A(const char *s) {
	struct ip ip = {0};

	ck_assert_int_eq(ip_parse(s, &ip, NULL), 0);
	return ip;
}

/* ---- what was told ---- */

static struct route {
	struct prefix dst;
	struct ip via;
	bool direct;
} routes[64];
static size_t n_routes, n_told;

static struct end {
	struct ip vtep, host;
	struct mac mac;
} ends[64];
static size_t n_ends;

static struct route *route_of(const struct prefix *dst)
{
	for (size_t i = 0; i < n_routes; i++)
		if (prefix_equal(&routes[i].dst, dst))
			return &routes[i];
	return NULL;
}

static struct end *end_of(const struct ip *vtep)
{
	for (size_t i = 0; i < n_ends; i++)
		if (ip_equal(&ends[i].vtep, vtep))
			return &ends[i];
	return NULL;
}

/* One that there is. */
static const struct end *know_end(const struct ip *vtep)
{
	const struct end *e = end_of(vtep);

	if (!e)
		ck_abort_msg("%s: no such end", ip_str(vtep));
	return e;
}

static void route_set(void *arg, const struct prefix *dst, const struct ip *via, bool direct)
{
	struct route *r = route_of(dst), now = {*dst, *via, direct};

	(void)arg;
	n_told++;
	ck_assert(!r || !ip_equal(&r->via, via) || r->direct != direct);
	if (!r)
		r = &routes[n_routes++];
	*r = now;
}

static void route_unset(void *arg, const struct prefix *dst)
{
	struct route *r = route_of(dst);

	(void)arg;
	n_told++;
	ck_assert_ptr_nonnull(r);
	*r = routes[--n_routes];
}

static void vtep_set(void *arg, const struct ip *vtep, const struct mac *mac, const struct ip *host)
{
	struct end *e = end_of(vtep), now = {*vtep, *host, *mac};

	(void)arg;
	n_told++;
	ck_assert(!e || !ip_equal(&e->host, host) || memcmp(&e->mac, mac, sizeof(*mac)) != 0);
	if (!e)
		e = &ends[n_ends++];
	*e = now;
}

static void vtep_unset(void *arg, const struct ip *vtep)
{
	struct end *e = end_of(vtep);

	(void)arg;
	n_told++;
	ck_assert_ptr_nonnull(e);
	*e = ends[--n_ends];
}

static const struct remote_ops ops = {.route_set = route_set,
	.route_unset = route_unset,
	.vtep_set = vtep_set,
	.vtep_unset = vtep_unset};

static void forget(void)
{
	n_routes = n_ends = n_told = 0;
}

static void expect(const char *dst, const char *via, bool direct)
{
	struct prefix p = P(dst);
	const struct route *r = route_of(&p);

	if (!via) {
		ck_assert_msg(!r, "%s: a route by %s", dst, r ? ip_str(&r->via) : "");
		return;
	}
	ck_assert_msg(r, "%s: no route", dst);
	ck_assert_str_eq(ip_str(&r->via), via);
	ck_assert_int_eq(r->direct, direct);
}

/* ---- objects ---- */

static struct in_node *node(const char *name, const char *spec)
{
	auto_free char *json = mem_printf("{\"kind\":\"Node\",\"spec\":{%s}}", spec);
	auto_free char *key = mem_printf(NODE_KEY "%s", name);
	struct err err = ERR_INIT;
	struct in_node *n;

	ck_assert_msg(in_node_decode(key, json, strlen(json), &n, &err) == 0, "%s", err_text(&err));
	return n;
}

static struct in_block *block(const char *cidr, const char *host)
{
	struct in_block *b = mem_new(struct in_block);

	b->cidr = P(cidr);
	b->host = host ? mem_strdup(host) : NULL;
	b->borrowed = mem_realloc_array(NULL, 4, sizeof(*b->borrowed));
	return b;
}

static void borrow(struct in_block *b, const char *ip, const char *name)
{
	b->borrowed[b->n++] = (struct in_borrowed){.ip = A(ip), .node = mem_strdup(name)};
}

#define NODE(ip, vtep)                                                                \
	"\"bgp\":{\"ipv4Address\":\"" ip "\",\"ipv6Address\":\"fd00::" vtep "/64\"}," \
	"\"ipv4VXLANTunnelAddr\":\"10.244." vtep ".0\",\"ipv6VXLANTunnelAddr\":\"fd44::" vtep "\""

START_TEST(test_cases)
{
	struct remote *r = remote_new("n0", &ops, NULL);
	struct ippool always = {.cidr = P("10.244.0.0/16"), .vxlan = ENCAP_ALWAYS},
		      cross = {.cidr = P("10.244.0.0/16"), .vxlan = ENCAP_CROSS_SUBNET},
		      never = {.cidr = P("10.244.2.0/24")};
	struct in_node *n0 = node("n0", NODE("10.0.0.1/24", "1")),
		       *n1 = node("n1", NODE("10.0.0.2/24", "2")),
		       *n2 = node("n2", NODE("10.0.9.3/24", "3")),
		       *n1_moved = node("n1", NODE("10.0.0.7/24", "7"));
	struct in_block *own = block("10.244.1.0/26", "n0"), *b1 = block("10.244.2.0/26", "n1"),
			*b2 = block("10.244.3.0/26", "n2"), *b2_lent = block("10.244.3.0/26", "n2"),
			*single = block("10.244.5.5/32", "n2");

	forget();
	borrow(b2_lent, "10.244.3.9", "n1");
	borrow(b2_lent, "10.244.3.8", "n0");
	borrow(single, "10.244.5.5", "n1");
	remote_node(r, NULL, n0);
	remote_block(r, NULL, own);
	remote_block(r, NULL, b1);
	remote_block(r, NULL, b2);
	remote_node(r, NULL, n2);
	ck_assert_uint_eq(n_told, 0); /* no pool says so */
	remote_pool(r, NULL, &always);
	expect("10.244.1.0/26", NULL, false);
	expect("10.244.2.0/26", NULL, false); /* its node is not known */
	expect("10.244.3.0/26", "10.244.3.0", false);
	remote_node(r, NULL, n1);
	expect("10.244.2.0/26", "10.244.2.0", false);
	ck_assert_uint_eq(n_ends, 2);
	ck_assert_str_eq(ip_str(&know_end(&n1->vtep[0])->host), "10.0.0.2");
	ck_assert_uint_eq(know_end(&n1->vtep[0])->mac.b[0], 'f');
	/* What a node has of another's block. */
	remote_block(r, b2, b2_lent);
	expect("10.244.3.9/32", "10.244.2.0", false);
	expect("10.244.3.8/32", NULL, false);
	expect("10.244.3.0/26", "10.244.3.0", false);
	remote_block(r, NULL, single);
	expect("10.244.5.5/32", "10.244.2.0", false);
	/* Another address, another end: told once. */
	remote_node(r, n1, n1_moved);
	expect("10.244.3.9/32", "10.244.7.0", false);
	ck_assert_ptr_null(end_of(&n1->vtep[0]));
	ck_assert_uint_eq(n_ends, 2);
	/* A neighbour by itself, the other by the tunnel, and a pool within the pool by neither. */
	n_told = 0;
	remote_pool(r, &always, &cross);
	expect("10.244.2.0/26", "10.0.0.7", true);
	expect("10.244.3.0/26", "10.244.3.0", false);
	ck_assert_uint_eq(n_ends, 1);
	remote_pool(r, NULL, &never);
	expect("10.244.2.0/26", NULL, false);
	remote_pool(r, &never, NULL);
	expect("10.244.2.0/26", "10.0.0.7", true);
	/* Without an address of its own nobody is its neighbour. */
	remote_node(r, n0, NULL);
	expect("10.244.2.0/26", "10.244.7.0", false);
	remote_node(r, n2, NULL);
	expect("10.244.3.0/26", NULL, false);
	remote_block(r, b2_lent, NULL);
	remote_block(r, single, NULL);
	remote_block(r, b1, NULL);
	ck_assert_uint_eq(n_routes, 0);
	ck_assert_uint_eq(n_ends, 0);
	remote_free(r);
	free(n0);
	free(n1);
	free(n2);
	free(n1_moved);
	in_block_free(own);
	in_block_free(b1);
	in_block_free(b2);
	in_block_free(b2_lent);
	in_block_free(single);
}
END_TEST

START_TEST(test_decoded)
{
	static const char text[] =
		"{\"cidr\":\"10.244.3.0/30\",\"affinity\":\"host:n2\",\"allocations\":[0,1,2,null],"
		"\"unallocated\":[3],\"attributes\":[{\"handle_id\":\"a\",\"secondary\":{\"node\":\"n2\"}},"
		"{\"handle_id\":\"b\",\"secondary\":{\"node\":\"n1\"}},{\"handle_id\":\"c\"}],"
		"\"deleted\":false}";
	struct err err = ERR_INIT;
	struct in_block *b;
	struct in_node *n;
	char mac[MAC_TEXT_SIZE];

	ck_assert_msg(in_block_decode(text, strlen(text), &b, &err) == 0, "%s", err_text(&err));
	ck_assert_str_eq(b->host, "n2");
	ck_assert_uint_eq(b->n, 1);
	ck_assert_str_eq(ip_str(&b->borrowed[0].ip), "10.244.3.1");
	ck_assert_str_eq(b->borrowed[0].node, "n1");
	in_block_free(b);
	/* sha1sum of "node1" and "node1-v6" */
	n = node("node1", "\"bgp\":{\"ipv4Address\":\"10.0.0.1/24\"}");
	ck_assert_str_eq(mac_format(&n->mac[0], mac), "66:f9:37:c3:7e:94");
	ck_assert_str_eq(mac_format(&n->mac[1], mac), "66:0f:35:f2:60:df");
	free(n);
	n = node("node1", "\"vxlanTunnelMACAddr\":\"02:00:00:00:00:09\"");
	ck_assert_str_eq(mac_format(&n->mac[0], mac), "02:00:00:00:00:09");
	ck_assert_int_eq(n->address[0].addr.family, IP_NONE);
	free(n);
}
END_TEST

/* ---- by chance ---- */

static struct in_node *nodes[N_NODES];
static struct in_block *blocks[N_BLOCKS];
static struct ippool pools[N_POOLS];
static bool has_pool[N_POOLS];

static int chance(int n)
{
	return (int)(random() % n);
}

static struct in_node *random_node(int i)
{
	struct in_node *n;
	char name[8], spec[128];

	snprintf(name, sizeof(name), "n%d", i);
	snprintf(spec, sizeof(spec),
		"\"bgp\":{\"ipv4Address\":\"10.0.%d.%d/24\"},\"ipv4VXLANTunnelAddr\":\"10.9.%d.%d\"",
		chance(2), i + 1, chance(2), i);
	n = node(name, spec);
	if (chance(4) == 0)
		n->vtep[0] = (struct ip){0};
	if (chance(6) == 0)
		n->address[0] = (struct prefix){0};
	return n;
}

static struct in_block *random_block(int i)
{
	char cidr[32], ip[32], name[8];
	struct in_block *b;

	snprintf(cidr, sizeof(cidr), i ? "10.244.%d.0/30" : "10.244.%d.0/32", i);
	snprintf(name, sizeof(name), "n%d", chance(N_NODES));
	b = block(cidr, chance(5) ? name : NULL);
	for (int k = 0; k < (i ? 4 : 1); k++) {
		snprintf(ip, sizeof(ip), "10.244.%d.%d", i, k);
		snprintf(name, sizeof(name), "n%d", chance(N_NODES));
		if (chance(3) == 0 && (!b->host || strcmp(name, b->host) != 0))
			borrow(b, ip, name);
	}
	return b;
}

/* What there should be for dst, on that node. */
static size_t check_one(const struct prefix *dst, const char *name)
{
	const struct ippool *pool = NULL;
	const struct in_node *n = NULL;
	const struct route *r = route_of(dst);
	bool direct;

	for (int i = 0; i < N_POOLS; i++)
		if (has_pool[i] && prefix_covers(&pools[i].cidr, dst) &&
			(!pool || pool->cidr.plen < pools[i].cidr.plen))
			pool = &pools[i];
	for (int i = 0; i < N_NODES; i++)
		if (nodes[i] && strcmp(nodes[i]->name, name) == 0)
			n = nodes[i];
	direct = n && pool && pool->vxlan == ENCAP_CROSS_SUBNET && nodes[0] &&
		 nodes[0]->address[0].addr.family != IP_NONE &&
		 prefix_contains(&nodes[0]->address[0], &n->address[0].addr);
	if (!n || n == nodes[0] || !pool || pool->vxlan == ENCAP_NEVER ||
		n->address[0].addr.family == IP_NONE || (!direct && n->vtep[0].family == IP_NONE)) {
		ck_assert_msg(!r, "%s: a route", prefix_str(dst));
		return 0;
	}
	ck_assert_msg(r, "%s: no route", prefix_str(dst));
	ck_assert_int_eq(r->direct, direct);
	ck_assert(ip_equal(&r->via, direct ? &n->address[0].addr : &n->vtep[0]));
	if (!direct)
		ck_assert(ip_equal(&know_end(&n->vtep[0])->host, &n->address[0].addr));
	return 1;
}

static void check_all(void)
{
	size_t n = 0, used = 0;

	for (int i = 0; i < N_BLOCKS; i++) {
		const struct in_block *b = blocks[i];

		if (b && b->host && !(prefix_is_host(&b->cidr) && b->n > 0))
			n += check_one(&b->cidr, b->host);
		for (size_t k = 0; b && k < b->n; k++) {
			struct prefix p = prefix_host(&b->borrowed[k].ip);

			n += check_one(&p, b->borrowed[k].node);
		}
	}
	ck_assert_uint_eq(n, n_routes);
	for (size_t i = 0; i < n_ends; i++) {
		bool is_used = false;

		for (size_t k = 0; k < n_routes; k++)
			is_used |= !routes[k].direct && ip_equal(&routes[k].via, &ends[i].vtep);
		used += is_used;
	}
	ck_assert_uint_eq(used, n_ends);
}

static void step(struct remote *r)
{
	int i = chance(N_NODES), k = chance(N_BLOCKS), p = chance(N_POOLS);
	struct in_node *node_now;
	struct in_block *block_now;

	switch (chance(5)) {
	case 0:
	case 1:
		node_now = chance(4) ? random_node(i) : NULL;
		if (node_now || nodes[i])
			remote_node(r, nodes[i], node_now);
		free(nodes[i]);
		nodes[i] = node_now;
		break;
	case 2:
	case 3:
		block_now = chance(4) ? random_block(k) : NULL;
		if (block_now || blocks[k])
			remote_block(r, blocks[k], block_now);
		in_block_free(blocks[k]);
		blocks[k] = block_now;
		break;
	default:
		if (has_pool[p])
			remote_pool(r, &pools[p], NULL);
		has_pool[p] = !has_pool[p];
		pools[p].vxlan = (enum encap_mode)chance(3);
		if (has_pool[p])
			remote_pool(r, NULL, &pools[p]);
	}
}

START_TEST(test_by_chance)
{
	const char *given = getenv("SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
	struct remote *r = remote_new("n0", &ops, NULL);

	printf("SEED=%u\n", seed);
	fflush(stdout);
	srandom(seed);
	forget();
	pools[0].cidr = P("10.244.0.0/16");
	pools[1].cidr = P("10.244.2.0/24");
	pools[2].cidr = P("10.0.0.0/8");
	for (int i = 0; i < N_STEPS; i++) {
		step(r);
		check_all();
	}
	for (int i = 0; i < N_NODES; i++) {
		if (nodes[i])
			remote_node(r, nodes[i], NULL);
		free(nodes[i]);
	}
	ck_assert_uint_eq(n_routes + n_ends, 0);
	for (int i = 0; i < N_BLOCKS; i++) {
		if (blocks[i])
			remote_block(r, blocks[i], NULL);
		in_block_free(blocks[i]);
	}
	remote_free(r);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("remote");
	Suite *s = suite_create("remote");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, test_cases);
	tcase_add_test(tc, test_decoded);
	tcase_add_test(tc, test_by_chance);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
