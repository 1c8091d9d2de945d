/* SPDX-License-Identifier: GPL-2.0-or-later */
/* felix's nftables tables on the real kernel; nft(8) tells what is there. */
#include <check.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "felix/calc/calc.h"
#include "felix/dp/nat.h"
#include "kern/nft.h"
#include "netns/shell.h"

static struct nft *nft;
static struct nft_monitor *mon;
static struct nat *nat;
static unsigned events;

static void on_event(void *arg, const char *table)
{
	(void)arg;
	events++;
	nat_event(nat, table);
}

static void turn(void)
{
	ck_assert_int_ge(nft_monitor_read(mon, on_event, NULL, &err), 0);
	ok(nat_apply(nat, &err));
}

static void enter(void)
{
	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	ok(nft_open(&nft, &err));
	ok(nft_monitor_open(nft, &mon, &err));
	nat = nat_new(nft);
	nat_allow_deletes(nat);
	events = 0;
}

static void leave(void)
{
	nat_free(nat);
	nft_monitor_close(mon);
	nft_close(nft);
}

static const char *const tamperings[] = {
	"nft flush chain ip margay nat-postrouting",
	"nft insert rule ip margay nat-postrouting accept",
	"nft 'flush set ip margay masq-pools'",
	"nft 'add element ip margay all-pools { 1.0.0.0/8 }'",
	"nft 'add chain ip margay other { type filter hook input priority 0; policy drop; }'",
	"nft 'add table ip margay { flags dormant; }'",
	"nft delete table ip margay",
	"nft flush ruleset",
};

START_TEST(test_table)
{
	struct calc_wants w = {.tunnel = true};
	struct prefix p;
	char *good, *now;

	ok(system("nft add table ip other; nft add chain ip other c"));
	prefix_parse("10.244.0.0/16", &p, NULL);
	vec_push(&w.masq, p);
	vec_push(&w.pools, p);
	prefix_parse("192.168.0.0/16", &p, NULL);
	vec_push(&w.pools, p);
	nat_want(nat, &w);
	turn();
	good = run("nft list table ip margay");
	ck_assert_msg(
		strstr(good, "ip saddr @masq-pools ip daddr != @all-pools masquerade"), "%s", good);
	ck_assert_msg(
		strstr(good, "oifname \"tunl0\" fib saddr . oif type != local fib saddr type local "
			     "masquerade"),
		"%s", good);
	ck_assert_msg(strstr(good, "10.244.0.0/16, 192.168.0.0/16"), "%s", good);
	ck_assert_msg(strstr(good, "type nat hook postrouting priority srcnat; policy accept"),
		"%s", good);
	/* Ours again: nothing to write. A restarted felix likewise. */
	nat_mark_unknown(nat);
	turn();
	nat_free(nat);
	nat = nat_new(nft);
	nat_allow_deletes(nat);
	nat_want(nat, &w);
	ok(system(
		"nft monitor > /tmp/nat-monitor.$PPID & echo $! > /tmp/nat-pid.$PPID; sleep 0.3"));
	turn();
	now = run("sleep 0.2; kill $(cat /tmp/nat-pid.$PPID); cat /tmp/nat-monitor.$PPID; "
		  "rm -f /tmp/nat-pid.$PPID /tmp/nat-monitor.$PPID");
	ck_assert_str_eq(now, "");
	free(now);
	for (size_t i = 0; i < array_size(tamperings); i++) {
		ok(system(tamperings[i]));
		events = 0;
		turn();
		ck_assert_uint_gt(events, 0);
		now = run("nft list table ip margay");
		ck_assert_msg(strcmp(now, good) == 0, "%s:\n%s", tamperings[i], now);
		free(now);
	}
	w.masq.n = w.pools.n = 0;
	w.tunnel = false;
	nat_want(nat, &w);
	turn();
	now = run("nft list ruleset");
	ck_assert_msg(!strstr(now, "margay"), "%s", now);
	free(now);
	free(good);
	vec_done(&w.masq);
	vec_done(&w.pools);
}
END_TEST

START_TEST(test_overlap)
{
	static const char *const texts[] = {"10.244.1.0/24", "10.244.0.0/16", "10.244.0.0/16",
		"10.244.1.128/25", "10.245.0.0/17", "10.245.128.0/17", "255.255.255.255/32",
		"fd00::/64", "fd00::/48", "fd00:0:0:1::/64"};
	struct calc_wants w = {0};
	struct prefix p;
	char *now, *again;

	for (size_t i = 0; i < array_size(texts); i++) {
		prefix_parse(texts[i], &p, NULL);
		vec_push(&w.masq, p);
		vec_push(&w.pools, p);
	}
	nat_want(nat, &w);
	turn();
	now = run("nft list set ip margay masq-pools");
	ck_assert_msg(strstr(now, "elements = { 10.244.0.0/16, 10.245.0.0/17"), "%s", now);
	ck_assert_msg(strstr(now, "10.245.128.0/17, 255.255.255.255"), "%s", now);
	free(now);
	now = run("nft list set ip6 margay all-pools");
	ck_assert_msg(strstr(now, "elements = { fd00::/48 }"), "%s", now);
	free(now);
	/* It is not written again, which would give it other handles. */
	now = run("nft -a list ruleset");
	nat_mark_unknown(nat);
	turn();
	again = run("nft -a list ruleset");
	ck_assert_str_eq(again, now);
	free(again);
	free(now);
	vec_done(&w.masq);
	vec_done(&w.pools);
}
END_TEST

START_TEST(test_before_deletes)
{
	struct calc_wants w = {0}, none = {0};
	struct prefix p;
	char *good, *now;

	nat_free(nat);
	nat = nat_new(nft);
	prefix_parse("10.244.0.0/16", &p, NULL);
	vec_push(&w.masq, p);
	vec_push(&w.pools, p);
	nat_want(nat, &w);
	turn();
	good = run("nft list ruleset");
	ck_assert_msg(strstr(good, "masquerade"), "%s", good);
	nat_want(nat, &none);
	turn();
	now = run("nft list ruleset");
	ck_assert_str_eq(now, good);
	free(now);
	nat_allow_deletes(nat);
	turn();
	now = run("nft list ruleset");
	ck_assert_str_eq(now, "");
	free(now);
	free(good);
	vec_done(&w.masq);
	vec_done(&w.pools);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("nat");
	Suite *s = suite_create("nat");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, enter, leave);
	tcase_add_test(tc, test_table);
	tcase_add_test(tc, test_before_deletes);
	tcase_add_test(tc, test_overlap);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
