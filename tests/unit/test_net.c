/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lib/net: address and prefix arithmetic as properties. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "net/ip.h"
#include "net/mac.h"
#include "net/prefix.h"

static unsigned seed_and_say(void)
{
	unsigned seed = (unsigned)clock_real_ns();

	printf("seed %u\n", seed);
	srandom(seed);
	return seed;
}

static struct ip random_ip(void)
{
	struct ip ip = {.family = random() % 2 ? IP_V4 : IP_V6};

	for (size_t i = 0; i < ip_n_bytes(&ip); i++)
		ip.b[i] = (uint8_t)random();
	return ip;
}

/* Few distinct bits, so that prefixes nest and repeat. */
static struct prefix random_narrow_prefix(void)
{
	struct ip ip = {.family = random() % 2 ? IP_V4 : IP_V6};

	ip.b[0] = (uint8_t)(random() % 4 << 6);
	ip.b[1] = (uint8_t)(random() % 4 << 6);
	return prefix_of(&ip, (unsigned)(random() % 11));
}

static const struct {
	const char *text;
	const char *want; /* NULL: refused */
} ips[] = {
	{"10.244.1.141", "10.244.1.141"},
	{"0.0.0.0", "0.0.0.0"},
	{"fd00:0:0::1", "fd00::1"},
	{"::ffff:1.2.3.4", "::ffff:1.2.3.4"},
	{"10.244.1", NULL},
	{"010.1.1.1", NULL},
	{"1.2.3.4 ", NULL},
	{"1.2.3.4/32", NULL},
	{"fe80::1%eth0", NULL},
	{"", NULL},
	{"256.1.1.1", NULL},
};

START_TEST(ip_text)
{
	struct ip ip;
	struct err err = ERR_INIT;
	int r = ip_parse(ips[_i].text, &ip, &err);

	ck_assert_int_eq(r, ips[_i].want ? 0 : -EINVAL);
	if (ips[_i].want)
		ck_assert_str_eq(ip_str(&ip), ips[_i].want);
	else
		ck_assert_ptr_nonnull(strstr(err.text, "is not an IP address"));
}
END_TEST

START_TEST(ip_text_round_trips)
{
	seed_and_say();
	for (int i = 0; i < 2000; i++) {
		struct ip a = random_ip(), b;

		ck_assert_int_eq(ip_parse(ip_str(&a), &b, NULL), 0);
		ck_assert(ip_equal(&a, &b));
	}
}
END_TEST

START_TEST(ip_add_and_distance_are_inverse)
{
	seed_and_say();
	for (int i = 0; i < 2000; i++) {
		struct ip a = random_ip(), b;
		uint64_t n = (uint64_t)random() << (random() % 20);

		if (!ip_add(&a, n, &b))
			continue; /* left the family: only near its end */
		ck_assert_uint_eq(ip_distance(&a, &b), n);
		ck_assert(n == 0 || ip_compare(&a, &b) < 0);
	}
	struct ip last = {.family = IP_V4, .b = {255, 255, 255, 255}}, out;
	ck_assert(!ip_add(&last, 1, &out));
	ck_assert(ip_add(&last, 0, &out));
	last = ip_from_v4(0);
	ck_assert(!ip_add(&last, UINT64_C(1) << 32, &out));
	struct ip zero6 = {.family = IP_V6}, far6 = {.family = IP_V6, .b = {1}};
	ck_assert_uint_eq(ip_distance(&zero6, &far6), UINT64_MAX);
}
END_TEST

static const struct {
	const char *text;
	bool global;
} unicast[] = {
	{"10.0.0.1", true},
	{"127.0.0.1", false},
	{"169.254.1.1", false},
	{"224.0.0.1", false},
	{"0.0.0.0", false},
	{"255.255.255.255", false},
	{"fd00::1", true},
	{"fe80::1", false},
	{"ff02::1", false},
	{"::1", false},
	{"::", false},
};

START_TEST(ip_global_unicast)
{
	struct ip ip;

	ck_assert_int_eq(ip_parse(unicast[_i].text, &ip, NULL), 0);
	ck_assert_int_eq(ip_is_global_unicast(&ip), unicast[_i].global);
}
END_TEST

START_TEST(prefix_text)
{
	struct prefix p, q;
	struct err err = ERR_INIT;

	ck_assert_int_eq(prefix_parse("10.130.29.80/24", &p, NULL), 0);
	ck_assert_str_eq(prefix_str(&p), "10.130.29.80/24");
	ck_assert_int_eq(prefix_parse_masked("10.130.29.80/24", &q, &err), -EINVAL);
	ck_assert_str_eq(err.text, "\"10.130.29.80/24\" has host bits set, want 10.130.29.0/24");
	ck_assert_int_eq(prefix_parse_masked("10.130.29.0/24", &q, NULL), 0);
	ck_assert_str_eq(prefix_format_key(&q, (char[PREFIX_TEXT_SIZE]){0}), "10.130.29.0-24");
	ck_assert_int_eq(prefix_parse_key("fd00:10:244::-122", &q, NULL), 0);
	ck_assert_str_eq(prefix_str(&q), "fd00:10:244::/122");
	ck_assert_int_eq(prefix_parse_host("10.0.0.1", &q, NULL), 0);
	ck_assert_uint_eq(q.plen, 32);
	ck_assert_int_eq(prefix_parse("10.0.0.1", &q, &err), -EINVAL);
	ck_assert_int_eq(prefix_parse("10.0.0.1/33", &q, &err), -EINVAL);
	ck_assert_str_eq(
		err.text, "prefix length of \"10.0.0.1/33\": \"33\": want a number from 0 to 32");
	ck_assert_int_eq(prefix_parse("10.0.0.1/", &q, &err), -EINVAL);
	ck_assert_int_eq(prefix_parse("/8", &q, &err), -EINVAL);
	ck_assert_int_eq(
		prefix_parse(
			"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc/64", &q, &err),
		-EINVAL);
}
END_TEST

START_TEST(prefix_properties)
{
	seed_and_say();
	for (int i = 0; i < 2000; i++) {
		struct ip ip = random_ip(), last, beyond;
		struct prefix p = prefix_of(&ip, (unsigned)random() % (ip_bits(&ip) + 1)), q;

		ck_assert(prefix_is_masked(&p));
		ck_assert(prefix_contains(&p, &ip));
		last = prefix_last(&p);
		ck_assert(prefix_contains(&p, &last));
		if (prefix_size(&p) != UINT64_MAX)
			ck_assert_uint_eq(ip_distance(&p.addr, &last), prefix_size(&p) - 1);
		if (ip_add(&last, 1, &beyond))
			ck_assert(!prefix_contains(&p, &beyond));
		ck_assert_int_eq(prefix_parse(prefix_str(&p), &q, NULL), 0);
		ck_assert(prefix_equal(&p, &q));
		q = random_narrow_prefix();
		p = random_narrow_prefix();
		ck_assert_int_eq(
			prefix_overlap(&p, &q), prefix_covers(&p, &q) || prefix_covers(&q, &p));
		if (prefix_covers(&p, &q) && prefix_covers(&q, &p))
			ck_assert(prefix_equal(&p, &q));
	}
}
END_TEST

static const struct {
	const char *text;
	const char *want;
} macs[] = {
	{"02", NULL},
	{"ee:EE:ee:ee:ee:01", "ee:ee:ee:ee:ee:01"},
	{"02-00-00-00-00-01", "02:00:00:00:00:01"},
	{"02-00:00-00-00-01", NULL},
	{"02:00:00:00:00", NULL},
	{"02:00:00:00:00:011", NULL},
	{"", NULL},
	{"0", NULL},
	{"0g:00:00:00:00:00", NULL},
	{"020000000001", NULL},
};

START_TEST(mac_text)
{
	struct mac m;

	ck_assert_int_eq(mac_parse(macs[_i].text, &m, NULL), macs[_i].want ? 0 : -EINVAL);
	if (macs[_i].want)
		ck_assert_str_eq(mac_str(&m), macs[_i].want);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("net");
	TCase *tc = tcase_create("net");

	tcase_add_loop_test(tc, ip_text, 0, (int)array_size(ips));
	tcase_add_test(tc, ip_text_round_trips);
	tcase_add_test(tc, ip_add_and_distance_are_inverse);
	tcase_add_loop_test(tc, ip_global_unicast, 0, (int)array_size(unicast));
	tcase_add_test(tc, prefix_text);
	tcase_add_test(tc, prefix_properties);
	tcase_add_loop_test(tc, mac_text, 0, (int)array_size(macs));
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
