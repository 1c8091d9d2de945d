/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cluster addresses and node ports: none twice, none lost, whatever fails. */
#include "store/svcalloc.h"

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "fake/store_fake.h"
#include "model/service.h"
#include "store/store.h"

static struct store *st;
static struct svcalloc_conf conf;
static struct err err;

static void setup(void)
{
	st = store_fake_new(NULL);
	err = ERR_INIT;
	ck_assert_int_eq(svcalloc_parse_ranges(SVCALLOC_RANGES, &conf, NULL), 0);
	ck_assert_int_eq(svcalloc_parse_ports(SVCALLOC_NODE_PORTS, &conf, NULL), 0);
}

static void teardown(void)
{
	store_close(st);
}

static struct service *service(const char *name, const char *spec)
{
	struct service *s = NULL;
	auto_free char *text = mem_printf(
		"{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"%s\","
		"\"namespace\":\"default\"},\"spec\":{%s}}",
		name, spec);

	ck_assert_msg(service_decode(NULL, text, strlen(text), &s, &err) == 0, "%s", err.text);
	return s;
}

#define PORTS "\"ports\":[{\"name\":\"a\",\"port\":80},{\"name\":\"b\",\"port\":81}]"

static void store_service(const struct service *s)
{
	auto_free char *key = mem_printf("/margay/v1/services/%s/%s", s->meta.ns, s->meta.name);
	auto_free char *base = mem_printf(
		"{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"%s\","
		"\"namespace\":\"default\"},\"spec\":{%s}}",
		s->meta.name, PORTS);
	auto_free char *text = service_encode(s, base);

	store_fake_put(st, key, text);
}

static size_t n_claims(void)
{
	struct store_list list;
	size_t n = 0;

	ck_assert_int_eq(store_list_wait(st, "/margay/v1/serviceips/", 0, &list, &err), 0);
	n += list.n;
	store_list_done(&list);
	ck_assert_int_eq(store_list_wait(st, "/margay/v1/nodeports/", 0, &list, &err), 0);
	n += list.n;
	store_list_done(&list);
	return n;
}

static int claim(struct service *s, const struct service *old)
{
	err = ERR_INIT;
	return svcalloc_claim(st, &conf, s, old, 0, NULL, &err);
}

START_TEST(test_parse)
{
	static const struct {
		const char *text;
		int r;
	} ranges[] = {{"10.96.0.0/16", 0}, {"10.96.0.0/16,fd00::/112", 0}, {"", -EINVAL},
		{"10.96.0.0", -EINVAL}, {"10.96.0.1/16", -EINVAL},
		{"10.96.0.0/16,10.97.0.0/16", -EINVAL}, {"10.96.0.0/31", -EINVAL},
		{"10.96.0.0/16,fd00::/112,fd01::/112", -EINVAL}},
	  ports[] = {{"30000-32767", 0}, {"30000", -EINVAL}, {"0-9", -EINVAL}, {"9-8", -EINVAL},
		  {"1-65536", -EINVAL}, {"8-8", 0}};
	struct svcalloc_conf c;

	for (size_t i = 0; i < array_size(ranges); i++)
		ck_assert_msg(svcalloc_parse_ranges(ranges[i].text, &c, NULL) == ranges[i].r, "%s",
			ranges[i].text);
	for (size_t i = 0; i < array_size(ports); i++)
		ck_assert_msg(svcalloc_parse_ports(ports[i].text, &c, NULL) == ports[i].r, "%s",
			ports[i].text);
}
END_TEST

/* Every address but the ends is given once; the upper ones first; then no more. */
START_TEST(test_choice)
{
	struct prefix p;
	struct ip used[1024];
	size_t low = 0;

	ck_assert_int_eq(prefix_parse("10.96.0.0/22", &p, NULL), 0);
	for (size_t n = 0; n < 1022; n++) {
		uint64_t random = (uint64_t)rand() << 32 | (uint64_t)rand();
		struct ip ip;
		size_t at = n;

		ck_assert(svcalloc_choose_ip(&p, used, n, random, &ip));
		ck_assert(prefix_contains(&p, &ip));
		ck_assert_uint_ne(ip_distance(&p.addr, &ip), 0);
		ck_assert_uint_ne(ip_distance(&p.addr, &ip), 0x3ff);
		low += ip_distance(&p.addr, &ip) < 0x40;
		ck_assert(low == 0 || n >= 1022 - 63);
		while (at > 0 && ip_compare(&used[at - 1], &ip) > 0) {
			used[at] = used[at - 1];
			at--;
		}
		ck_assert(at == 0 || !ip_equal(&used[at - 1], &ip));
		used[at] = ip;
	}
	ck_assert_uint_eq(low, 63);
	ck_assert(!svcalloc_choose_ip(&p, used, 1022, 7, &used[1022]));
}
END_TEST

START_TEST(test_choice_of_ports)
{
	struct svcalloc_conf c = {.port_min = 30000, .port_max = 30009};
	uint16_t used[10];

	for (uint16_t i = 0; i < 10; i++) {
		uint16_t port = svcalloc_choose_port(&c, used, i, (uint64_t)rand());
		uint16_t at = i;

		ck_assert_uint_ge(port, 30000);
		ck_assert_uint_le(port, 30009);
		while (at > 0 && used[at - 1] > port) {
			used[at] = used[at - 1];
			at--;
		}
		ck_assert(at == 0 || used[at - 1] != port);
		used[at] = port;
	}
	ck_assert_uint_eq(svcalloc_choose_port(&c, used, 10, 3), 0);
}
END_TEST

START_TEST(test_none_twice)
{
	struct svcalloc_conf small = conf;
	struct service *s;
	uint8_t seen[64] = {0};

	ck_assert_int_eq(svcalloc_parse_ranges("10.96.0.0/26", &small, NULL), 0);
	for (int i = 0; i < 63; i++) {
		auto_free char *name = mem_printf("s%d", i);
		int r;

		s = service(name, "\"type\":\"NodePort\"," PORTS);
		r = svcalloc_claim(st, &small, s, NULL, 0, NULL, &err);
		if (i == 62) {
			ck_assert_int_eq(r, -ENOSPC);
			ck_assert_ptr_nonnull(strstr(err.text, "10.96.0.0/26"));
		} else {
			ck_assert_msg(r == 0, "%s", err.text);
			ck_assert_uint_eq(s->cluster_ips.n, 1);
			ck_assert_uint_eq(seen[s->cluster_ips.v[0].b[3]]++, 0);
			ck_assert_uint_ne(s->ports.v[0].node_port, 0);
			ck_assert_uint_ne(s->ports.v[0].node_port, s->ports.v[1].node_port);
			store_service(s);
		}
		service_free(s);
	}
	ck_assert_uint_eq(n_claims(), 62 * 3);
}
END_TEST

START_TEST(test_kinds)
{
	static const struct {
		const char *spec;
		size_t claims;
	} rows[] = {{PORTS, 1}, {"\"clusterIP\":\"None\"," PORTS, 0},
		{"\"type\":\"ExternalName\",\"externalName\":\"a.b\"", 0},
		{"\"type\":\"NodePort\"," PORTS, 3}, {"\"type\":\"LoadBalancer\"," PORTS, 3},
		{"\"clusterIP\":\"10.96.0.10\"," PORTS, 1}};

	for (size_t i = 0; i < array_size(rows); i++) {
		auto_(service) struct service *s = service("x", rows[i].spec);

		ck_assert_msg(claim(s, NULL) == 0, "%s", err.text);
		ck_assert_msg(n_claims() == rows[i].claims, "%s", rows[i].spec);
		ck_assert_int_eq(svcalloc_release(st, s, NULL, 0, &err), 0);
		ck_assert_uint_eq(n_claims(), 0);
	}
}
END_TEST

START_TEST(test_by_name)
{
	auto_(service) struct service *a = service("a",
		"\"clusterIP\":\"10.96.0.10\",\"type\":\"NodePort\",\"ports\":[{\"port\":80,"
		"\"nodePort\":30080}]");
	auto_(service) struct service *b = service("b", "\"clusterIP\":\"10.96.0.10\"," PORTS);
	auto_(service) struct service *c =
		service("c", "\"type\":\"NodePort\",\"ports\":[{\"port\":80,\"nodePort\":30080}]");
	auto_(service) struct service *d = service("d", "\"clusterIP\":\"10.97.0.10\"," PORTS);
	auto_(service) struct service *e =
		service("e", "\"type\":\"NodePort\",\"ports\":[{\"port\":80,\"nodePort\":80}]");
	auto_(service) struct service *f = service("f", "\"clusterIP\":\"10.96.0.11\"," PORTS);

	ck_assert_int_eq(claim(a, NULL), 0);
	/* Before a is written, its claim says so; then a itself. */
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(claim(b, NULL), -EEXIST);
		ck_assert_ptr_nonnull(strstr(err.text, "10.96.0.10"));
		ck_assert_ptr_nonnull(strstr(err.text, "default/a"));
		ck_assert_int_eq(claim(c, NULL), -EEXIST);
		ck_assert_ptr_nonnull(strstr(err.text, "30080"));
		/* What c was given in vain is free again. */
		ck_assert_uint_eq(n_claims(), 2);
		c->cluster_ips.n = 0;
		store_service(a);
	}
	ck_assert_int_eq(claim(d, NULL), -EINVAL);
	ck_assert_int_eq(claim(e, NULL), -EINVAL);
	/* What no Service can be called holds nothing. */
	store_fake_put(st, "/margay/v1/serviceips/10.96.0.11", "{\"service\":\"a b/x\"}");
	ck_assert_int_eq(claim(f, NULL), 0);
	store_fake_put(st, "/margay/v1/serviceips/10.96.0.11", NULL);
	ck_assert_uint_eq(n_claims(), 2);
	/* Claimed again by itself. */
	ck_assert_int_eq(claim(a, a), 0);
	ck_assert_uint_eq(n_claims(), 2);
}
END_TEST

START_TEST(test_update)
{
	auto_(service) struct service *old = service("a", "\"type\":\"NodePort\"," PORTS);
	auto_(service) struct service *new = service("a",
		"\"type\":\"NodePort\",\"ports\":[{\"name\":\"b\",\"port\":81},{\"name\":\"c\",\"port\":82}]");
	auto_(service) struct service *plain = service("a", PORTS);
	auto_(service) struct service *other = service("z", PORTS);
	uint16_t kept;

	ck_assert_int_eq(claim(old, NULL), 0);
	kept = old->ports.v[1].node_port;
	store_service(old);
	ck_assert_int_eq(claim(new, old), 0);
	ck_assert(ip_equal(&new->cluster_ips.v[0], &old->cluster_ips.v[0]));
	ck_assert_uint_eq(new->ports.v[0].node_port, kept);
	ck_assert_uint_eq(n_claims(), 4);
	store_service(new);
	ck_assert_int_eq(svcalloc_release(st, old, new, 0, &err), 0);
	ck_assert_uint_eq(n_claims(), 3);
	ck_assert_int_eq(claim(plain, new), 0);
	store_service(plain);
	ck_assert_int_eq(svcalloc_release(st, new, plain, 0, &err), 0);
	ck_assert_uint_eq(n_claims(), 1);
	/* Another's are not given up. */
	vec_push(&other->cluster_ips, plain->cluster_ips.v[0]);
	ck_assert_int_eq(svcalloc_release(st, other, NULL, 0, &err), 0);
	ck_assert_uint_eq(n_claims(), 1);
}
END_TEST

/* The network's own address is no Service's, nor is IPv4's broadcast address. */
START_TEST(test_ends)
{
	static const struct {
		const char *ip;
		int r;
	} rows[] = {{"10.96.0.0", -EINVAL}, {"10.96.0.1", 0}, {"10.96.255.254", 0},
		{"10.96.255.255", -EINVAL}, {"10.97.0.0", -EINVAL}, {"fd96::", -EINVAL},
		{"fd96::1", 0}, {"fd96::ffff", 0}, {"fd96::1:0", -EINVAL}};

	ck_assert_int_eq(svcalloc_parse_ranges("10.96.0.0/16,fd96::/112", &conf, NULL), 0);
	for (size_t i = 0; i < array_size(rows); i++) {
		auto_free char *spec = mem_printf("\"clusterIP\":\"%s\"," PORTS, rows[i].ip);
		auto_(service) struct service *s = service("x", spec);

		ck_assert_msg(claim(s, NULL) == rows[i].r, "%s: %s", rows[i].ip, err.text);
		ck_assert_uint_eq(n_claims(), rows[i].r == 0);
		ck_assert_int_eq(svcalloc_release(st, s, NULL, 0, &err), 0);
	}
}
END_TEST

/* Two write one Service at once: whichever loses, the winner's claims stay. */
START_TEST(test_at_once)
{
	const char *spec =
		"\"type\":\"NodePort\",\"clusterIP\":\"10.96.0.10\",\"ports\":[{\"port\":"
		"80,\"nodePort\":30080}]";

	for (int loser = 0; loser < 2; loser++)
		for (int written = 0; written < 2; written++) {
			auto_(service) struct service *a = service("a", spec),
						      *b = service("a", spec);
			struct svcalloc_made *made[2] = {NULL, NULL};

			ck_assert_int_eq(svcalloc_claim(st, &conf, a, NULL, 0, &made[0], &err), 0);
			ck_assert_int_eq(svcalloc_claim(st, &conf, b, NULL, 0, &made[1], &err), 0);
			ck_assert_uint_eq(n_claims(), 2);
			if (written)
				store_service(a);
			svcalloc_undo(st, made[loser]);
			/* The first one's are its own to give up, while nothing is stored. */
			ck_assert_uint_eq(n_claims(), loser == 0 && !written ? 0 : 2);
			svcalloc_made_free(made[0]);
			svcalloc_made_free(made[1]);
			/* Nor does one take it that deleted what was there before. */
			ck_assert_int_eq(svcalloc_release(st, a, NULL, 0, &err), 0);
			ck_assert_uint_eq(n_claims(), written ? 2 : 0);
			store_fake_put(st, "/margay/v1/services/default/a", NULL);
			ck_assert_int_eq(svcalloc_release(st, a, NULL, 0, &err), 0);
			ck_assert_uint_eq(n_claims(), 0);
		}
}
END_TEST

/* Claims that no Service bears out are taken, unless they are young. */
START_TEST(test_left_over)
{
	const char *key = "/margay/v1/serviceips/10.96.0.10";
	int64_t now_s = clock_real_ns() / 1000000000;
	auto_(service) struct service *a = service("a", "\"clusterIP\":\"10.96.0.10\"," PORTS);
	auto_(service) struct service *dead =
		service("dead", "\"clusterIP\":\"10.96.0.10\"," PORTS);
	auto_free char *young =
		mem_printf("{\"service\":\"default/dead\",\"time\":%lld}", (long long)now_s);
	auto_free char *old =
		mem_printf("{\"service\":\"default/dead\",\"time\":%lld}", (long long)now_s - 61);

	store_fake_put(st, key, young);
	ck_assert_int_eq(claim(a, NULL), -EEXIST);
	ck_assert_ptr_nonnull(strstr(err.text, "default/dead"));
	store_fake_put(st, key, old);
	ck_assert_int_eq(claim(a, NULL), 0);
	ck_assert_ptr_nonnull(strstr(store_fake_value(st, key), "default/a"));
	/* One that is borne out stays, however old; one that nobody can read is nobody's. */
	ck_assert_int_eq(svcalloc_release(st, a, NULL, 0, &err), 0);
	store_fake_put(st, key, old);
	store_service(dead);
	ck_assert_int_eq(claim(a, NULL), -EEXIST);
	store_fake_put(st, "/margay/v1/services/default/dead", NULL);
	store_fake_put(st, key, "{\"service\":7}");
	ck_assert_int_eq(claim(a, NULL), 0);
	/* One that was written without a claim finds out when it is written once more. */
	store_service(a);
	store_service(dead);
	ck_assert_int_eq(claim(dead, dead), -EEXIST);
	ck_assert_ptr_nonnull(
		strstr(err.text, "clusterIP 10.96.0.10 belongs to Service default/a"));
}
END_TEST

/* A Service costs the same beside none and beside many. */
START_TEST(test_beside_many)
{
	unsigned ops[2];

	for (int round = 0; round < 2; round++) {
		auto_(service) struct service *s = service("x", "\"type\":\"NodePort\"," PORTS);
		auto_(service) struct service *named = service("y",
			"\"clusterIP\":\"10.96.0.10\",\"type\":\"NodePort\",\"ports\":[{\"port\":80,"
			"\"nodePort\":30080}]");
		size_t listed = store_fake_listed_count(st);
		unsigned before = store_fake_op_count(st);

		ck_assert_msg(claim(named, NULL) == 0, "%s", err.text);
		ops[round] = store_fake_op_count(st) - before;
		ck_assert_msg(claim(s, NULL) == 0, "%s", err.text);
		ck_assert_uint_eq(store_fake_listed_count(st), listed);
		ck_assert_int_eq(svcalloc_release(st, s, NULL, 0, &err), 0);
		ck_assert_int_eq(svcalloc_release(st, named, NULL, 0, &err), 0);
		for (int i = 0; round == 0 && i < 200; i++) {
			auto_free char *name = mem_printf("s%d", i);
			auto_(service) struct service *o = service(name, PORTS);

			ck_assert_msg(claim(o, NULL) == 0, "%s", err.text);
			store_service(o);
		}
	}
	ck_assert_uint_eq(ops[0], ops[1]);
}
END_TEST

/* Where nearly everything is taken, the one that was left over is found among the others. */
START_TEST(test_the_last)
{
	auto_(service) struct service *a = service("a", PORTS);
	const char *key = "/margay/v1/serviceips/10.96.0.77";

	ck_assert_int_eq(svcalloc_parse_ranges("10.96.0.0/24", &conf, NULL), 0);
	for (int i = 1; i < 255; i++) {
		auto_free char *name = mem_printf("s%d", i);
		auto_free char *spec = mem_printf("\"clusterIP\":\"10.96.0.%d\"," PORTS, i);
		auto_(service) struct service *s = service(name, spec);

		ck_assert_msg(claim(s, NULL) == 0, "%s", err.text);
		if (i != 77)
			store_service(s);
	}
	ck_assert_int_eq(claim(a, NULL), -ENOSPC);
	store_fake_put(st, key, "{\"service\":\"default/s77\",\"time\":1}");
	ck_assert_msg(claim(a, NULL) == 0, "%s", err.text);
	ck_assert_str_eq(ip_str(&a->cluster_ips.v[0]), "10.96.0.77");
	ck_assert_ptr_nonnull(strstr(store_fake_value(st, key), "default/a"));
}
END_TEST

/* Whichever operation fails: the claim fails and leaves nothing, or holds all. */
START_TEST(test_failures)
{
	unsigned n_ops;

	for (int lost = 0; lost < 2; lost++)
		for (unsigned n = 1;; n++) {
			auto_(service) struct service *s =
				service("a", "\"type\":\"NodePort\"," PORTS);
			unsigned before = store_fake_op_count(st);
			int r;

			if (lost)
				store_fake_lose_nth(st, n);
			else
				store_fake_fail_nth(st, n, -EHOSTUNREACH);
			r = claim(s, NULL);
			n_ops = store_fake_op_count(st) - before;
			store_fake_fail_nth(st, 0, 0);
			store_fake_lose_nth(st, 0);
			if (r == 0) {
				ck_assert_uint_eq(n_claims(), 3);
				ck_assert_int_eq(svcalloc_release(st, s, NULL, 0, &err), 0);
			} else if (!lost) {
				ck_assert_int_eq(r, -EHOSTUNREACH);
			}
			ck_assert_uint_eq(n_claims(), 0);
			if (r == 0 && n > n_ops)
				break;
		}
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("svcalloc");
	Suite *s = suite_create("svcalloc");
	unsigned seed = (unsigned)clock_real_ns();
	SRunner *sr;
	int failed;

	printf("seed %u\n", seed);
	srand(seed);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_parse);
	tcase_add_test(tc, test_choice);
	tcase_add_test(tc, test_choice_of_ports);
	tcase_add_test(tc, test_none_twice);
	tcase_add_test(tc, test_kinds);
	tcase_add_test(tc, test_by_name);
	tcase_add_test(tc, test_update);
	tcase_add_test(tc, test_ends);
	tcase_add_test(tc, test_at_once);
	tcase_add_test(tc, test_left_over);
	tcase_add_test(tc, test_beside_many);
	tcase_add_test(tc, test_the_last);
	tcase_add_test(tc, test_failures);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
