/* SPDX-License-Identifier: GPL-2.0-or-later */
/* felix's pure parts: calc against a naive model, and what detection takes; and its default pool. */
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "fake/store_fake.h"
#include "felix/calc/calc.h"
#include "felix/calc/input.h"
#include "felix/detect.h"
#include "felix/pattern.h"
#include "felix/start.h"
#include "model/ippool.h"
#include "model/node.h"
#include "store/store.h"

#define KEY "/calico/resources/v3/projectcalico.org/workloadendpoints/default/x"

/* ---- decoders ---- */

START_TEST(test_wep)
{
	static const struct {
		const char *json, *error;
		size_t n;
	} t[] = {
		{"{\"spec\":{\"node\":\"a\",\"interfaceName\":\"cali0\",\"ipNetworks\":[\"10.0.0.1/32\"]}}",
			NULL, 1},
		{"{\"spec\":{\"node\":\"b\",\"interfaceName\":\"cali0\",\"ipNetworks\":[\"10.0.0.1/32\"]}}",
			NULL, 0},
		{"{\"spec\":{\"node\":\"a\",\"interfaceName\":\"cali0\"}}", NULL, 0},
		{"{\"spec\":{\"node\":\"a\",\"interfaceName\":\"cali0\",\"ipNetworks\":[\"10.0.0.0/24\"]}}",
			"ipNetworks", 0},
		{"{\"spec\":{\"node\":\"a\",\"interfaceName\":\"cali0\",\"ipNetworks\":[7]}}",
			"ipNetworks", 0},
		{"{\"spec\":{\"node\":\"a\",\"ipNetworks\":[\"10.0.0.1\"]}}", "spec.interfaceName",
			0},
		{"{\"spec\":{\"node\":\"a\",\"interfaceName\":\"cali012345678901\",\"ipNetworks\":[\"10.0.0.1\"]}}",
			"spec.interfaceName", 0},
	};

	for (size_t i = 0; i < array_size(t); i++) {
		struct err err = ERR_INIT;
		struct in_wep *w = NULL;
		int r = in_wep_decode("a", KEY, t[i].json, strlen(t[i].json), &w, &err);

		ck_assert_int_eq(r, t[i].error ? -EINVAL : 0);
		if (t[i].error)
			ck_assert_msg(strstr(err.text, t[i].error), "%s", err.text);
		else
			ck_assert_uint_eq(w->n, t[i].n);
		free(w);
	}
}
END_TEST

/* ---- calc ---- */

/* What calc has told: destination -> interface. */
struct told {
	struct prefix dst;
	char ifname[IFNAMSIZ];
};
static VEC(struct told) told;
static unsigned gaps; /* destinations told as gone */

static void on_set(void *arg, const struct prefix *dst, const char *ifname)
{
	struct told *t, new = {.dst = *dst};

	(void)arg;
	strcpy(new.ifname, ifname ? ifname : "");
	vec_for_each (&told, t)
		if (prefix_equal(&t->dst, dst)) {
			*t = new;
			return;
		}
	vec_push(&told, new);
}

static void on_unset(void *arg, const struct prefix *dst)
{
	(void)arg;
	gaps++;
	for (size_t i = 0; i < told.n; i++)
		if (prefix_equal(&told.v[i].dst, dst)) {
			vec_swap_remove(&told, i);
			return;
		}
}

static void on_wants(void *arg)
{
	(void)arg;
}

static const struct calc_ops ops = {on_set, on_unset, on_wants};

static struct in_wep *random_wep(void)
{
	size_t n = (size_t)(rand() % 3);
	struct in_wep *w = mem_zalloc(sizeof(*w) + n * sizeof(w->ips[0]));
	struct ip ip;

	w->n = n;
	snprintf(w->ifname, sizeof(w->ifname), "cali%d", rand() % 9);
	snprintf(w->created, sizeof(w->created), "2026-01-01T00:00:%02dZ", rand() % 5);
	for (size_t i = 0; i < n; i++) { /* two different ones of few */
		ip = ip_from_v4(0x0a000000 + (uint32_t)(rand() % 6) * 2 + (uint32_t)i);
		w->ips[i] = prefix_host(&ip);
	}
	return w;
}

#define N_WEPS 8

/* From scratch, by looking at everything. */
static const struct in_wep *naive_winner(struct in_wep *const *weps, const struct prefix *ip)
{
	const struct in_wep *best = NULL;
	int d;

	for (int i = 0; i < N_WEPS; i++)
		for (size_t j = 0; weps[i] && j < weps[i]->n; j++)
			if (prefix_equal(&weps[i]->ips[j], ip)) {
				d = best ? strcmp(weps[i]->created, best->created) : 1;
				if (d > 0 || (d == 0 && strcmp(weps[i]->ifname, best->ifname) > 0))
					best = weps[i];
			}
	return best;
}

START_TEST(test_incremental)
{
	unsigned seed = (unsigned)time(NULL);
	struct in_wep *weps[N_WEPS] = {0}, *now;
	struct calc *c = calc_new(&ops, NULL);
	const struct in_wep *want;
	struct prefix p;
	struct told *t;
	bool found;
	size_t n;

	printf("seed %u\n", seed);
	srand(seed);
	for (int round = 0; round < 20000; round++) {
		int i = rand() % N_WEPS;

		now = rand() % 3 ? random_wep() : NULL;
		if (!now && !weps[i])
			continue;
		calc_wep(c, weps[i], now);
		free(weps[i]);
		weps[i] = now;
		n = 0;
		for (uint32_t a = 0; a < 16; a++) {
			struct ip ip = ip_from_v4(0x0a000000 + a);

			p = prefix_host(&ip);
			want = naive_winner(weps, &p);
			n += want != NULL;
			vec_for_each (&told, t)
				if (prefix_equal(&t->dst, &p))
					break;
			found = told.n > 0 && t < told.v + told.n;
			ck_assert_msg(found == (want != NULL), "%s", prefix_str(&p));
			if (want)
				ck_assert_str_eq(t->ifname, want->ifname);
		}
		ck_assert_uint_eq(n, told.n);
	}
	for (int i = 0; i < N_WEPS; i++)
		if (weps[i])
			calc_wep(c, weps[i], NULL);
	ck_assert_uint_eq(told.n, 0);
	calc_free(c);
	for (int i = 0; i < N_WEPS; i++)
		free(weps[i]);
	vec_done(&told);
}
END_TEST

START_TEST(test_address_that_stays)
{
	struct calc *c = calc_new(&ops, NULL);
	struct in_wep *a, *b;
	const char *json[] = {
		"{\"spec\":{\"node\":\"n\",\"interfaceName\":\"cali0\",\"ipNetworks\":[\"10.0.0.1\"]}}",
		"{\"spec\":{\"node\":\"n\",\"interfaceName\":\"cali0\",\"ipNetworks\":[\"10.0.0.1\","
		"\"10.0.0.2\"],\"profiles\":[\"x\"]}}"};
	struct prefix block;

	gaps = 0;
	ck_assert_int_eq(in_wep_decode("n", KEY, json[0], strlen(json[0]), &a, NULL), 0);
	ck_assert_int_eq(in_wep_decode("n", KEY, json[1], strlen(json[1]), &b, NULL), 0);
	calc_wep(c, NULL, a);
	calc_wep(c, a, b);
	ck_assert_uint_eq(gaps, 0);
	ck_assert_uint_eq(told.n, 2);
	/* A block of one address has no blackhole. */
	prefix_parse("10.9.0.0/26", &block, NULL);
	calc_block(c, &block, true);
	ck_assert_uint_eq(told.n, 3);
	ck_assert_str_eq(told.v[2].ifname, "");
	prefix_parse("10.9.1.1/32", &block, NULL);
	calc_block(c, &block, true);
	ck_assert_uint_eq(told.n, 3);
	calc_free(c);
	free(a);
	free(b);
	vec_done(&told);
}
END_TEST

START_TEST(test_mtu_and_nat)
{
	struct ippool plain = {.nat_outgoing = true}, ipip = {.ipip = ENCAP_CROSS_SUBNET},
		      vxlan = {.vxlan = ENCAP_ALWAYS}, lb = {.allowed_uses = POOL_LOADBALANCER};
	struct in_config off = {.ipip_enabled = 0}, small = {.ipip_enabled = -1, .ipip_mtu = 1300};
	struct node node = {0};
	struct calc *c = calc_new(&ops, NULL);
	const struct calc_wants *w = calc_wants(c);

	ip_parse("10.2.0.1", &node.ipip_tunnel4, NULL);
	prefix_parse("10.1.0.0/16", &plain.cidr, NULL);
	prefix_parse("10.2.0.0/16", &ipip.cidr, NULL);
	prefix_parse("10.0.0.0/16", &vxlan.cidr, NULL);
	prefix_parse("10.4.0.0/16", &lb.cidr, NULL);
	ck_assert_uint_eq(w->pod_mtu, CALC_MTU_FALLBACK);
	ck_assert(!w->tunnel);
	calc_node(c, &node);
	calc_host_mtu(c, 1500);
	calc_pool(c, NULL, &plain);
	calc_pool(c, NULL, &lb);
	w = calc_wants(c);
	ck_assert_uint_eq(w->pod_mtu, 1500);
	ck_assert_uint_eq(w->pools.n, 1);
	ck_assert_uint_eq(w->masq.n, 1);
	ck_assert_int_eq(w->tunnel_ip.family, IP_NONE);
	calc_pool(c, NULL, &ipip);
	w = calc_wants(c);
	ck_assert(w->tunnel);
	ck_assert_uint_eq(w->tunnel_mtu, 1480);
	ck_assert_uint_eq(w->pod_mtu, 1480);
	ck_assert(ip_equal(&w->tunnel_ip, &node.ipip_tunnel4));
	calc_pool(c, NULL, &vxlan);
	w = calc_wants(c);
	ck_assert_uint_eq(w->pod_mtu, 1450);
	ck_assert(prefix_equal(&w->pools.v[0], &vxlan.cidr)); /* sorted */
	calc_config(c, CALC_CONFIG_DEFAULT, &small);
	ck_assert_uint_eq(calc_wants(c)->tunnel_mtu, 1300);
	ck_assert_uint_eq(calc_wants(c)->pod_mtu, 1300);
	calc_config(c, CALC_CONFIG_NODE, &off);
	ck_assert(!calc_wants(c)->tunnel);
	ck_assert_uint_eq(calc_wants(c)->pod_mtu, 1450);
	calc_pool(c, &vxlan, NULL);
	ck_assert_uint_eq(calc_wants(c)->pod_mtu, 1500);
	calc_free(c);
}
END_TEST

START_TEST(test_detection_methods)
{
	static const char *const good[] = {"", "first-found", "interface=eth{1,2}",
		"interface=e[,x]t,eth{1,2}x,en.*", "skip-interface=docker{1,2},br",
		"cidr=10.0.0.0/8", "can-reach=example.com", "kubernetes-internal-ip"};
	static const char *const bad[] = {
		"interface=e{2,1}", "interface=(", "cidr=10.0.0.0/33", "x"};

	for (size_t i = 0; i < array_size(good); i++)
		ck_assert_msg(detect_check(good[i], NULL) == 0, "%s", good[i]);
	for (size_t i = 0; i < array_size(bad); i++)
		ck_assert_msg(detect_check(bad[i], NULL) == -EINVAL, "%s", bad[i]);
}
END_TEST

START_TEST(test_config)
{
	static const char key[] =
		"/calico/resources/v3/projectcalico.org/felixconfigurations/default";
	static const char good[] =
		"{\"kind\":\"FelixConfiguration\",\"metadata\":{\"name\":\"default\"},"
		"\"spec\":{\"mtuIfacePattern\":\"^en.*\"}}";
	static const char bad[] =
		"{\"kind\":\"FelixConfiguration\",\"metadata\":{\"name\":\"default\"},"
		"\"spec\":{\"mtuIfacePattern\":\"^(en\"}}";
	static const char *const prefixes[][2] = {
		{"/run/x", "/run/x"}, {"none", ""}, {"run/x", NULL}};
	struct in_config *c = NULL;
	struct err err = ERR_INIT;

	ck_assert_int_eq(in_config_decode(key, good, strlen(good), &c, &err), 0);
	ck_assert_str_eq(c->mtu_iface_pattern, "^en.*");
	in_config_free(take_ptr(c));
	ck_assert_int_eq(in_config_decode(key, bad, strlen(bad), &c, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "spec.mtuIfacePattern: \"^(en\": not a regular"));
	for (size_t i = 0; i < array_size(prefixes); i++) {
		auto_free char *text = mem_printf(
			"{\"kind\":\"FelixConfiguration\",\"metadata\":{\"name\":\"default\"},"
			"\"spec\":{\"mtuIfacePattern\":\"^en.*\",\"endpointStatusPathPrefix\":\"%s\"}}",
			prefixes[i][0]);

		ck_assert_int_eq(in_config_decode(key, text, strlen(text), &c, &err),
			prefixes[i][1] ? 0 : -EINVAL);
		if (!prefixes[i][1])
			continue;
		ck_assert_str_eq(c->status_prefix, prefixes[i][1]);
		in_config_free(take_ptr(c));
	}
}
END_TEST

/* They come from the datastore: neither time nor stack may be theirs. */
START_TEST(test_pattern)
{
	static const char *const nested[] = {"((((a)+)+)+)+", "(a+){9}", "(a{9})+", "a++", "a{2}+",
		"(a|(b+)*)+", "([])]+)+", "([[:alpha:]]+)+", "([^])]+)+", "(\\(+)+"};
	static const char *const flat[] = {"(en[a-z]+[0-9]+)*", "(eth|ens)+|(wl)+", "a+b+",
		"[(+)+]+", "\\(+\\)+", "[]+)]+", "(a{2})*"};
	static char long_one[60001];
	struct err err = ERR_INIT;

	ck_assert_int_eq(
		pattern_check("^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)", &err), 0);
	ck_assert_int_eq(pattern_check("((eth{1,200}){1,200}){1,50}", &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "braces"));
	ck_assert_int_eq(pattern_check("(eth){1,2000}", &err), -EINVAL);
	ck_assert_int_eq(pattern_check("^eth{1,20}", &err), 0);
	for (size_t i = 0; i < array_size(nested); i++)
		ck_assert_msg(pattern_check(nested[i], &err) == -EINVAL, "%s", nested[i]);
	for (size_t i = 0; i < array_size(flat); i++)
		ck_assert_msg(pattern_check(flat[i], &err) == 0, "%s: %s", flat[i], err.text);
	memset(long_one, '(', sizeof(long_one) - 1);
	ck_assert_int_eq(pattern_check(long_one, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "60000 bytes, want at most 256"));
}
END_TEST

/* ---- the default pool ---- */

#define POOLS "/calico/resources/v3/projectcalico.org/ippools/"

struct overtaker {
	struct store *st;
	bool seen; /* felix's pool */
};

static void store_theirs(void *arg)
{
	struct overtaker *o = arg;

	o->seen = store_fake_value(o->st, POOLS "default-ipv4-ippool") != NULL;
	store_fake_put(o->st, POOLS "theirs",
		"{\"kind\":\"IPPool\",\"spec\":{\"cidr\":\"192.168.0.0/17\",\"disabled\":true}}");
}

static void on_start(void *arg, int r, const struct err *err)
{
	ck_assert_msg(r == 0, "%s", err_text(err));
	*(bool *)arg = true;
}

static const struct start_conf with_pool = {.nodename = "a",
	.cluster_type = "bgp",
	.pools = {{.cidr = "",
			  .ipip = "Never",
			  .vxlan = "Never",
			  .node_selector = "all()",
			  .block_size = 26},
		{.cidr = ""}}};

/* Whenever another stores its pool: felix sees it before its own is enabled, or it sees felix's. */
START_TEST(test_default_pool)
{
	unsigned n_ops = 1, n_enabled = 0;

	for (unsigned n = 1; n <= n_ops; n++) {
		struct event_base *base = event_base_new();
		struct store *st = store_fake_new(base);
		struct overtaker o = {.st = st};
		bool done = false;
		struct start *s = start_new(st, &with_pool, on_start, &done);
		struct start_host host = {0};
		const char *pool;

		ck_assert_int_eq(prefix_parse("10.0.0.1/24", &host.address[START_V4], NULL), 0);
		store_fake_call_nth(st, n, store_theirs, &o);
		start_run(s, &host, 1);
		while (!done)
			event_base_loop(base, EVLOOP_ONCE);
		n_ops = store_fake_op_count(st);
		pool = store_fake_value(st, POOLS "default-ipv4-ippool");
		ck_assert_msg(!pool || !strstr(pool, "disabled"), "%s", pool);
		ck_assert_msg(!pool || o.seen || !store_fake_value(st, POOLS "theirs"),
			"operation %u: neither has seen the other", n);
		n_enabled += pool != NULL;
		start_free(s);
		store_close(st);
		event_base_free(base);
	}
	ck_assert_uint_ge(n_enabled, 1);
	ck_assert_uint_lt(n_enabled, n_ops);
}
END_TEST

/* ---- one address of two nodes ---- */

#define NODES "/calico/resources/v3/projectcalico.org/nodes/"

static void take_address(void *arg)
{
	struct overtaker *o = arg;
	const char *ours = store_fake_value(o->st, NODES "a");

	o->seen = ours && strstr(ours, "\"10.0.0.1/24\"");
	store_fake_put(o->st, NODES "b",
		"{\"kind\":\"Node\",\"metadata\":{\"name\":\"b\"},\"spec\":{\"bgp\":{"
		"\"ipv4Address\":\"10.0.0.1/24\",\"ipv6Address\":\"fd00::1/64\"}}}");
}

struct outcome {
	bool done;
	int r;
	struct err err;
};

static void on_outcome(void *arg, int r, const struct err *err)
{
	struct outcome *o = arg;

	o->done = true;
	o->r = r;
	o->err = *err;
}

static int run_node(struct event_base *base, struct start *s, struct outcome *out, const char *ip4,
	const char *ip6)
{
	struct start_host host = {0};

	if (ip4)
		ck_assert_int_eq(prefix_parse(ip4, &host.address[START_V4], NULL), 0);
	if (ip6)
		ck_assert_int_eq(prefix_parse(ip6, &host.address[START_V6], NULL), 0);
	host.interfaces = json_pack("[{s:s, s:[s]}]", "name", "eth0", "addresses", "10.0.0.1");
	out->done = false;
	start_run(s, &host, 1);
	while (!out->done)
		event_base_loop(base, EVLOOP_ONCE);
	return out->r;
}

static const struct start_conf without_pools = {
	.nodename = "a", .cluster_type = "bgp", .no_default_pools = true};

/* Whenever another takes the address: felix keeps it not, or the other, who looks after it has written, sees it. */
START_TEST(test_address_taken)
{
	unsigned n_ops = 1, n_had = 0, n_taken_back = 0;

	for (unsigned n = 1; n <= n_ops; n++) {
		struct event_base *base = event_base_new();
		struct store *st = store_fake_new(base);
		struct overtaker o = {.st = st};
		struct outcome out = {0};
		struct start *s = start_new(st, &without_pools, on_outcome, &out);
		const char *ours;
		bool has;

		store_fake_call_nth(st, n, take_address, &o);
		run_node(base, s, &out, "10.0.0.1/24", NULL);
		ours = store_fake_value(st, NODES "a");
		has = ours && strstr(ours, "10.0.0.1/24");
		ck_assert_int_eq(out.r, has ? 0 : -EADDRINUSE);
		if (store_fake_value(st, NODES "b"))
			ck_assert_msg(
				!has || o.seen, "operation %u: neither has seen the other", n);
		n_had += has;
		n_taken_back += o.seen && !has;
		n_ops = has ? store_fake_op_count(st) : n + 1;
		start_free(s);
		store_close(st);
		event_base_free(base);
	}
	ck_assert_uint_ge(n_had, 1);
	ck_assert_uint_ge(n_taken_back, 1);
	ck_assert_uint_lt(n_had, n_ops);
}
END_TEST

/* The default pool keeps clear of the node's network, where its stored address is kept, too. */
START_TEST(test_pool_beside_stored)
{
	struct event_base *base = event_base_new();
	struct store *st = store_fake_new(base);
	struct outcome out = {0};
	struct start *s = start_new(st, &with_pool, on_outcome, &out);

	store_fake_put(st, NODES "a",
		"{\"kind\":\"Node\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"bgp\":{"
		"\"ipv4Address\":\"192.168.1.1/24\"}}}");
	ck_assert_int_eq(run_node(base, s, &out, NULL, NULL), 0);
	ck_assert_ptr_nonnull(
		strstr(store_fake_value(st, POOLS "default-ipv4-ippool"), "172.16.0.0/16"));
	start_free(s);
	store_close(st);
	event_base_free(base);
}
END_TEST

START_TEST(test_node_again)
{
	struct event_base *base = event_base_new();
	struct store *st = store_fake_new(base);
	struct overtaker o = {.st = st};
	struct outcome out = {0};
	struct start *s = start_new(st, &without_pools, on_outcome, &out);
	size_t listed;

	ck_assert_int_eq(run_node(base, s, &out, "10.0.0.1/24", "fd00::1/64"), 0);
	ck_assert_ptr_nonnull(strstr(store_fake_value(st, NODES "a"),
		"\"bgp\":{\"ipv4Address\":\"10.0.0.1/24\",\"ipv6Address\":\"fd00::1/64\"},"
		"\"interfaces\":[{\"name\":\"eth0\",\"addresses\":[\"10.0.0.1\"]}]"));
	/* As long as it is there nobody looks. */
	listed = store_fake_listed_count(st);
	ck_assert_int_eq(run_node(base, s, &out, "10.0.0.1/24", NULL), 0);
	ck_assert_uint_eq(store_fake_listed_count(st), listed);
	/* A Node that is made anew has another's address to fear again. */
	store_fake_put(st, NODES "a", NULL);
	take_address(&o);
	ck_assert_int_eq(run_node(base, s, &out, "10.0.0.1/24", NULL), -EADDRINUSE);
	ck_assert_ptr_nonnull(strstr(err_text(&out.err), "10.0.0.1 is node b's already"));
	ck_assert_int_eq(run_node(base, s, &out, "10.0.0.2/24", "fd00::1/64"), -EADDRINUSE);
	ck_assert_ptr_nonnull(strstr(err_text(&out.err), "fd00::1 is node b's already"));
	ck_assert_ptr_null(store_fake_value(st, NODES "a"));
	/* What stood there before it looked is not taken back: pods run with it. */
	store_fake_put(st, NODES "a",
		"{\"kind\":\"Node\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"bgp\":{"
		"\"ipv4Address\":\"10.0.0.1/24\"}}}");
	ck_assert_int_eq(run_node(base, s, &out, "10.0.0.1/24", NULL), -EADDRINUSE);
	ck_assert_ptr_nonnull(strstr(store_fake_value(st, NODES "a"), "10.0.0.1/24"));
	start_free(s);
	store_close(st);
	event_base_free(base);
}
END_TEST

/* Written as it is, which gives it what it is found by; once for all runs. */
START_TEST(test_unindexed)
{
	static const char key[] = "/calico/ipam/v2/host/a/ipv4/block/10.244.77.0-26";
	static const char value[] = "{\"state\":\"confirmed\",\"deleted\":false}";
	struct event_base *base = event_base_new();
	struct store *st = store_fake_new(base);
	struct outcome out = {0};
	struct start *s = start_new(st, &without_pools, on_outcome, &out);
	int64_t rev = store_fake_put(st, key, value);

	store_fake_unindex(st, key);
	ck_assert_int_eq(run_node(base, s, &out, "10.0.0.1/24", NULL), 0);
	ck_assert_str_eq(store_fake_value(st, key), value);
	ck_assert_int_gt(store_fake_rev(st, key), rev);
	rev = store_fake_rev(st, key);
	ck_assert_int_eq(run_node(base, s, &out, "10.0.0.1/24", NULL), 0);
	ck_assert_int_eq(store_fake_rev(st, key), rev);
	start_free(s);
	store_close(st);
	event_base_free(base);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("felix");
	Suite *s = suite_create("felix");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, test_wep);
	tcase_add_test(tc, test_incremental);
	tcase_add_test(tc, test_address_that_stays);
	tcase_add_test(tc, test_mtu_and_nat);
	tcase_add_test(tc, test_detection_methods);
	tcase_add_test(tc, test_config);
	tcase_add_test(tc, test_pattern);
	tcase_add_test(tc, test_default_pool);
	tcase_add_test(tc, test_address_taken);
	tcase_add_test(tc, test_node_again);
	tcase_add_test(tc, test_pool_beside_stored);
	tcase_add_test(tc, test_unindexed);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
