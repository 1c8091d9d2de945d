/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nftables' maps and the rules that use them, on the real kernel; nft(8) tells what is there. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "kern/nft_map.h"
#include "netns/shell.h"

static struct nft *nft;

static void enter(void)
{
	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	err = ERR_INIT;
	ck_assert_int_eq(nft_open(&nft, &err), 0);
}

static void leave(void)
{
	nft_close(nft);
}

#define FRONT NFT_FIELD_DADDR, NFT_FIELD_PROTOCOL, NFT_FIELD_DPORT

static const struct nft_map services = {.name = "services", .key = {FRONT}};
static const struct nft_map endpoints = {.name = "endpoints",
	.key = {FRONT, NFT_FIELD_RANDOM},
	.data = {NFT_FIELD_DADDR, NFT_FIELD_DPORT}};
static const struct nft_map numbers = {
	.name = "numbers", .key = {FRONT, NFT_FIELD_RANDOM}, .data = {NFT_FIELD_PRIORITY}};
static const struct nft_map numbered = {.name = "numbered",
	.key = {FRONT, NFT_FIELD_PRIORITY},
	.data = {NFT_FIELD_DADDR, NFT_FIELD_DPORT}};
static const struct nft_map clients = {.name = "clients",
	.key = {NFT_FIELD_SADDR, FRONT},
	.data = {NFT_FIELD_PRIORITY},
	.size = 100,
	.dynamic = true};

static struct nft_ruleset *build(enum ip_family family)
{
	struct nft_ruleset *rs =
		nft_ruleset_new(family == IP_V4 ? NFPROTO_IPV4 : NFPROTO_IPV6, "t");
	struct nftnl_rule *r;

	nft_map(rs, family, &services);
	nft_map(rs, family, &endpoints);
	nft_map(rs, family, &numbers);
	nft_map(rs, family, &numbered);
	nft_map(rs, family, &clients);
	nft_base_chain(rs, "nat-prerouting", "nat", NF_INET_PRE_ROUTING, -100);
	nft_goto_by_map(nft_rule(rs, "nat-prerouting"), family, &services);
	nft_chain(rs, "random-3");
	nft_dnat_by_map(nft_rule(rs, "random-3"), family, &endpoints, 3);
	nft_chain(rs, "sticky");
	r = nft_rule(rs, "sticky");
	nft_set_priority_by_map(r, family, &clients, 0);
	nft_update_map(r, family, NFT_UPDATE_RENEW, &clients, 7000);
	nft_dnat_by_map(r, family, &numbered, 0);
	nft_set_priority_by_map(nft_rule(rs, "sticky"), family, &numbers, 3);
	nft_update_map(nft_rule(rs, "sticky"), family, NFT_UPDATE_DELETE, &clients, 7000);
	nft_update_map(nft_rule(rs, "sticky"), family, NFT_UPDATE_ADD, &clients, 7000);
	return rs;
}

#define TABLE(ip, type)                                                                           \
	"table " ip " t {\n"                                                                      \
	"	map services {\n"                                                                       \
	"		type " type " . inet_proto . inet_service : verdict\n"                    \
	"	}\n\n"                                                                                  \
	"	map endpoints {\n"                                                                      \
	"		typeof " ip " daddr . meta l4proto . th dport . numgen random mod 2 "     \
	": " ip " daddr . th dport\n"                                                             \
	"	}\n\n"                                                                                  \
	"	map numbers {\n"                                                                        \
	"		typeof " ip " daddr . meta l4proto . th dport . numgen random mod 2 "     \
	": meta priority\n"                                                                       \
	"	}\n\n"                                                                                  \
	"	map numbered {\n"                                                                       \
	"		type " type " . inet_proto . inet_service . classid : " type              \
	" . inet_service\n"                                                                       \
	"	}\n\n"                                                                                  \
	"	map clients {\n"                                                                        \
	"		type " type " . " type " . inet_proto . inet_service : classid\n"         \
	"		size 100\n"                                                                            \
	"		flags dynamic,timeout\n"                                                               \
	"	}\n\n"                                                                                  \
	"	chain nat-prerouting {\n"                                                               \
	"		type nat hook prerouting priority dstnat; policy accept;\n"                            \
	"		" ip " daddr . meta l4proto . th dport vmap @services\n"                  \
	"	}\n\n"                                                                                  \
	"	chain random-3 {\n"                                                                     \
	"		dnat " ip " to " ip                                                       \
	" daddr . meta l4proto . th dport . numgen random mod 3 map @endpoints\n"                 \
	"	}\n\n"                                                                                  \
	"	chain sticky {\n"                                                                       \
	"		meta priority set " CLIENT(ip) " map @clients update @clients { " CLIENT( \
		ip) " timeout 7s : meta priority } dnat " ip " to " ip                            \
		    " daddr . meta l4proto . th dport . meta priority map @numbered\n"            \
		    "		meta priority set " ip                                            \
		    " daddr . meta l4proto . th dport . numgen "                                  \
		    "random mod 3 map @numbers\n"                                                 \
		    "		delete @clients { " CLIENT(                                       \
			    ip) " timeout 7s : meta priority }\n"                                 \
				"		add @clients { " CLIENT(                          \
					ip) " timeout 7s : meta priority }\n"                     \
					    "	}\n"                                                \
					    "}\n"
#define CLIENT(ip) ip " saddr . " ip " daddr . meta l4proto . th dport"

static void check_rules(enum ip_family family, const char *list, const char *want)
{
	struct nft_ruleset *rs = build(family), *have;
	bool there = true;

	ok(nft_has_table(nft, rs->family, "t", &there, &err));
	ck_assert(!there);
	nft_begin(nft, NULL, NULL);
	nft_put_ruleset(nft, rs, 0);
	ok(nft_commit(nft, &err));
	expect(list, want);
	ok(nft_has_table(nft, rs->family, "t", &there, &err));
	ck_assert(there);
	/* It is read as it was written. */
	ok(nft_read(nft, rs->family, "t", &have, &err));
	ck_assert(nft_equal(have, rs));
	ck_assert_uint_eq(have->chains.n, 3);
	ck_assert_str_eq(nft_chain_name(have, 1), "random-3");
	nft_ruleset_free(have);
	nft_ruleset_free(rs);
}

START_TEST(test_rules)
{
	check_rules(IP_V4, "nft list table ip t 2>&1", TABLE("ip", "ipv4_addr"));
	check_rules(IP_V6, "nft list table ip6 t 2>&1", TABLE("ip6", "ipv6_addr"));
}
END_TEST

struct seen {
	size_t n;
	uint64_t sum;
	char chain[32];
};

static void on_element(void *arg, const uint8_t *key, size_t key_len, const uint8_t *data,
	size_t data_len, const char *chain)
{
	struct seen *s = arg;
	uint32_t slot;

	s->n++;
	if (chain) {
		ck_assert_uint_eq(key_len, 12);
		strcpy(s->chain, chain);
		return;
	}
	ck_assert_uint_eq(key_len, 16);
	ck_assert_uint_eq(data_len, 8);
	memcpy(&slot, key + 12, 4);
	s->sum += slot;
	ck_assert_uint_eq(data[3], slot & 0xff);
}

static void forget(void *arg)
{
	memset(arg, 0, sizeof(struct seen));
}

static void put_slots(bool add, uint32_t from, uint32_t n)
{
	uint8_t key[16] = {10, 96, 0, 1, 6, 0, 0, 0, 0, 80}, data[8] = {10, 0, 0, 0, 31, 144};

	nft_elements_begin(nft, add, NFPROTO_IPV4, "t", "endpoints", 7);
	for (uint32_t i = from; i < from + n; i++) {
		memcpy(key + 12, &i, 4);
		data[3] = (uint8_t)i;
		nft_element(nft, key, 16, data, add ? 8 : 0);
	}
	nft_elements_end(nft);
}

static struct seen read_map(const char *map)
{
	struct seen s = {0};

	ok(nft_map_read(nft, NFPROTO_IPV4, "t", map, on_element, forget, &s, &err));
	return s;
}

struct outcome {
	int r[10];
};

static void on_done(void *arg, uintptr_t cookie, int r, const struct err *e)
{
	struct outcome *o = arg;

	(void)e;
	if (o->r[cookie] == 0 || o->r[cookie] == -ECANCELED)
		o->r[cookie] = r;
}

START_TEST(test_elements)
{
	struct nft_ruleset *rs = build(IP_V4);
	uint8_t front[12] = {10, 96, 0, 1, 6, 0, 0, 0, 0, 80};
	struct outcome o = {0};
	struct seen s;

	nft_begin(nft, on_done, &o);
	nft_put_ruleset(nft, rs, 1);
	put_slots(true, 0, 5000); /* of several messages */
	nft_elements_begin(nft, true, NFPROTO_IPV4, "t", "services", 2);
	nft_element_goto(nft, front, 12, "random-3");
	nft_elements_end(nft);
	nft_elements_begin(nft, true, NFPROTO_IPV4, "t", "services", 2); /* of none */
	nft_elements_end(nft);
	ok(nft_commit(nft, &err));
	s = read_map("endpoints");
	ck_assert_uint_eq(s.n, 5000);
	ck_assert_uint_eq(s.sum, 4999 * 5000 / 2);
	ck_assert_str_eq(read_map("services").chain, "random-3");
	expect("nft list map ip t services | grep elements",
		"\t\telements = { 10.96.0.1 . tcp . 80 : goto random-3 }\n");
	nft_begin(nft, on_done, &o);
	put_slots(false, 3, 4997);
	put_slots(true, 0, 1); /* as it is */
	ok(nft_commit(nft, &err));
	expect("nft list map ip t endpoints | awk '/elements/,/}/' | tr -d '\\t\\n'",
		"elements = { 10.96.0.1 . tcp . 80 . 0 : 10.0.0.0 . 8080,"
		"     10.96.0.1 . tcp . 80 . 1 : 10.0.0.1 . 8080,"
		"     10.96.0.1 . tcp . 80 . 2 : 10.0.0.2 . 8080 }");

	/* All or nothing, and which one it was. */
	nft_begin(nft, on_done, &o);
	put_slots(false, 0, 1);
	nft_elements_begin(nft, true, NFPROTO_IPV4, "t", "services", 3);
	front[9] = 81;
	nft_element_goto(nft, front, 12, "nowhere");
	nft_elements_end(nft);
	ck_assert_int_eq(nft_commit(nft, &err), -ENOENT);
	ck_assert_int_eq(o.r[3], -ENOENT);
	ck_assert_int_eq(o.r[7], -ECANCELED);
	ck_assert_uint_eq(read_map("endpoints").n, 3);
	/* A chain goes when nothing leads to it. */
	err = ERR_INIT;
	nft_begin(nft, NULL, NULL);
	nft_put_no_chain(nft, NFPROTO_IPV4, "t", "random-3", 0);
	ck_assert_int_eq(nft_commit(nft, &err), -EBUSY);
	nft_begin(nft, NULL, NULL);
	nft_put_no_chain(nft, NFPROTO_IPV4, "t", "sticky", 0);
	ok(nft_commit(nft, &err));
	expect("nft list table ip t | grep -c chain", "2\n");
	ck_assert_int_eq(nft_map_read(nft, NFPROTO_IPV4, "t", "none", on_element, forget, &s, &err),
		-ENOENT);
	nft_ruleset_free(rs);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("nft_map");
	Suite *s = suite_create("nft_map");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, enter, leave);
	tcase_add_test(tc, test_rules);
	tcase_add_test(tc, test_elements);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
