/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The proxy's nftables table and the deletion of connections on the real kernel, in a namespace of
 * their own. nft and conntrack are the oracles.
 */
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "kern/conntrack.h"
#include "kern/nft.h"
#include "netns/shell.h"
#include "proxy/masq.h"

static void enter(void)
{
	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	ck_assert_int_eq(system("ip link set lo up"), 0);
	err = ERR_INIT;
}

static struct prefix P(const char *s) {
	struct prefix p;

	ok(prefix_parse(s, &p, &err));
	return p;
}

static struct ip
A(const char *s) {
	struct ip ip;

	ok(ip_parse(s, &ip, &err));
	return ip;
}

/* ---- the table ---- */

static struct nft *nft;
static struct nft_monitor *monitor;
static struct masq *masq;
static int events;

static size_t n_local, n_ports;

/* As many of each as are wanted, told one by one. */
static void want_facts(size_t local, size_t n)
{
	for (size_t i = local < n_local ? local : n_local; i < local || i < n_local; i++) {
		struct ip v4 = ip_from_v4(0x0af40000 + (uint32_t)i + 1), v6 = A("fd44::");

		v6.b[14] = (uint8_t)((i + 1) >> 8);
		v6.b[15] = (uint8_t)(i + 1);
		masq_set_local(masq, &v4, i < local);
		masq_set_local(masq, &v6, i < local);
	}
	for (size_t i = n < n_ports ? n : n_ports; i < n || i < n_ports; i++)
		masq_set_node_port(
			masq, i % 2 ? IPPROTO_UDP : IPPROTO_TCP, (uint16_t)(30000 + i), i < n);
	n_local = local;
	n_ports = n;
}

static void on_event(void *arg, const char *table)
{
	(void)arg;
	events += masq_event(masq, table);
}

static void turn(void)
{
	struct pollfd p = {.fd = nft_monitor_fd(monitor), .events = POLLIN};

	while (poll(&p, 1, 50) > 0)
		ck_assert_int_ge(nft_monitor_read(monitor, on_event, NULL, &err), 0);
	ok(masq_apply(masq, &err));
}

static const char table4[] =
	"table ip margay-proxy {\n"
	"	set service-ips {\n"
	"		type ipv4_addr\n"
	"		flags interval\n"
	"		elements = { 10.96.0.0/16 }\n"
	"	}\n"
	"\n"
	"	set pod-ips {\n"
	"		type ipv4_addr\n"
	"		flags interval\n"
	"		elements = { 10.244.0.0/16 }\n"
	"	}\n"
	"\n"
	"	set node-ips {\n"
	"		type ipv4_addr\n"
	"		elements = { 10.130.29.80 }\n"
	"	}\n"
	"\n"
	"	set tcp-node-ports {\n"
	"		type inet_service\n"
	"		elements = { 30000 }\n"
	"	}\n"
	"\n"
	"	set udp-node-ports {\n"
	"		type inet_service\n"
	"		elements = { 30001 }\n"
	"	}\n"
	"\n"
	"	set sctp-node-ports {\n"
	"		type inet_service\n"
	"	}\n"
	"\n"
	"	set hairpin {\n"
	"		type ipv4_addr . ipv4_addr\n"
	"		elements = { 10.244.0.1 . 10.244.0.1 }\n"
	"	}\n"
	"\n"
	"	chain nat-postrouting {\n"
	"		type nat hook postrouting priority srcnat; policy accept;\n"
	"		ip saddr . ip daddr @hairpin masquerade\n"
	"		ct original ip daddr @node-ips meta l4proto tcp ct original proto-dst "
	"@tcp-node-ports ip daddr != @node-ips masquerade\n"
	"		ct original ip daddr @node-ips meta l4proto udp ct original proto-dst "
	"@udp-node-ports ip daddr != @node-ips masquerade\n"
	"		ct original ip daddr @node-ips meta l4proto sctp ct original proto-dst "
	"@sctp-node-ports ip daddr != @node-ips masquerade\n"
	"		ct original ip daddr @service-ips ip saddr != @pod-ips fib saddr type != "
	"local masquerade\n"
	"	}\n"
	"\n"
	"	chain filter-input {\n"
	"		type filter hook input priority 110; policy accept;\n"
	"		ip daddr @service-ips reject with tcp reset\n"
	"		ip daddr @service-ips meta l4proto != icmp reject\n"
	"	}\n"
	"}\n";

#define LIST "nft list table ip margay-proxy"

static void set_up(void)
{
	ok(nft_open(&nft, &err));
	ok(nft_monitor_open(nft, &monitor, &err));
	masq = masq_new();
	masq_use(masq, nft);
	masq_allow_deletes(masq);
}

static void done(void)
{
	masq_free(masq);
	nft_monitor_close(monitor);
	nft_close(nft);
}

START_TEST(test_table)
{
	const struct prefix ranges[] = {P("10.96.0.0/16"), P("fd96::/112")};
	const struct prefix pods[] = {P("10.244.0.0/16")};
	const struct ip node_ips[] = {A("10.130.29.80"), A("fd00::80")};
	struct masq_want w = {.ranges = ranges,
		.n_ranges = 1,
		.pods = pods,
		.n_pods = 1,
		.node_ips = node_ips,
		.n_node_ips = 2};
	static const char *const tamperings[] = {
		"nft delete table ip margay-proxy",
		"nft 'add table ip margay-proxy { flags dormant; }'",
		"nft flush chain ip margay-proxy filter-input",
		"nft flush set ip margay-proxy hairpin",
		"nft add element ip margay-proxy node-ips { 192.0.2.1 }",
		"nft delete element ip margay-proxy tcp-node-ports { 30000 }",
		"nft insert rule ip margay-proxy nat-postrouting counter",
		"nft add chain ip margay-proxy intruder",
	};
	auto_free char *six = NULL;

	ok(system("nft add table ip margay-other"));
	set_up();
	turn();
	expect("nft list ruleset", "table ip margay-other {\n}\n"); /* nothing is wanted yet */
	want_facts(1, 2);
	masq_want(masq, &w);
	turn();
	expect(LIST, table4);
	expect("nft list tables", "table ip margay-other\ntable ip margay-proxy\n");
	for (size_t i = 0; i < array_size(tamperings); i++) {
		events = 0;
		ok(system(tamperings[i]));
		turn();
		ck_assert_int_gt(events, 0);
		expect(LIST, table4);
	}
	/* What others do to other tables is none of ours; what we do is not told. */
	events = 0;
	ok(system("nft add chain ip margay-other c"));
	turn();
	turn();
	ck_assert_int_eq(events, 0);

	/* A proxy that starts anew finds it as it wants it. */
	masq_free(masq);
	masq = masq_new();
	masq_use(masq, nft);
	masq_allow_deletes(masq);
	n_local = n_ports = 0;
	want_facts(1, 2);
	masq_want(masq, &w);
	ok(system("nft monitor > /tmp/masq-mon.$PPID & echo $! > /tmp/masq-pid.$PPID; sleep 0.3"));
	turn();
	expect("sleep 0.2; kill $(cat /tmp/masq-pid.$PPID); cat /tmp/masq-mon.$PPID; rm -f "
	       "/tmp/masq-pid.$PPID /tmp/masq-mon.$PPID",
		"");

	/* Both families; everything masqueraded. */
	w.n_ranges = 2;
	w.all = true;
	masq_want(masq, &w);
	turn();
	six = run("nft list table ip6 margay-proxy");
	ck_assert_ptr_nonnull(strstr(six, "elements = { fd44::1 . fd44::1 }"));
	ck_assert_ptr_nonnull(strstr(six, "ip6 saddr . ip6 daddr @hairpin masquerade"));
	ck_assert_ptr_nonnull(
		strstr(six, "ct original ip6 daddr @service-ips fib saddr type != local "
			    "masquerade"));
	ck_assert_ptr_nonnull(strstr(six, "meta l4proto != ipv6-icmp reject"));
	w.n_ranges = 1;
	w.all = false;
	masq_want(masq, &w);
	turn();
	expect("nft list tables", "table ip margay-other\ntable ip margay-proxy\n");
	expect(LIST, table4);
	done();
}
END_TEST

static size_t count_elements(const char *set)
{
	auto_free char *cmd = mem_printf("nft -j list set ip margay-proxy %s | jq "
					 "'.nftables[1].set.elem | length'",
		set);
	auto_free char *out = run(cmd);

	return (size_t)atoi(out);
}

/* A change of elements is elements alone, however many there are. */
START_TEST(test_elements)
{
	const struct prefix range = P("10.96.0.0/16");
	struct masq_want w = {.ranges = &range, .n_ranges = 1};
	static const struct {
		size_t local, ports;
	} steps[] = {{5000, 2700}, {5001, 2700}, {4000, 0}, {0, 1}, {700, 700}};
	auto_free char *told = NULL;

	set_up();
	masq_want(masq, &w);
	for (size_t i = 0; i < array_size(steps); i++) {
		want_facts(steps[i].local, steps[i].ports);
		if (i == 1)
			ok(system("nft monitor > /tmp/masq-mon.$PPID & echo $! > "
				  "/tmp/masq-pid.$PPID; sleep 0.3"));
		turn();
		if (i == 1)
			told = run("sleep 0.3; kill $(cat /tmp/masq-pid.$PPID); cat "
				   "/tmp/masq-mon.$PPID; rm -f /tmp/masq-pid.$PPID "
				   "/tmp/masq-mon.$PPID");
		ck_assert_uint_eq(count_elements("hairpin"), steps[i].local);
		ck_assert_uint_eq(count_elements("tcp-node-ports"), (steps[i].ports + 1) / 2);
		ck_assert_uint_eq(count_elements("udp-node-ports"), steps[i].ports / 2);
	}
	ck_assert_msg(
		strncmp(told,
			"add element ip margay-proxy hairpin { 10.244.19.137 . 10.244.19.137 }\n",
			70) == 0 &&
			strstr(told, "delete") == NULL && strchr(told, '\n'),
		"%s", told);
	/* The kernel holds something else than we remember: an error, then all is read. */
	ok(system("nft delete element ip margay-proxy tcp-node-ports { 30000 }"));
	want_facts(700, 0);
	ck_assert_int_lt(masq_apply(masq, &err), 0);
	ok(masq_apply(masq, &err));
	ck_assert_uint_eq(count_elements("tcp-node-ports"), 0);
	ck_assert_uint_eq(count_elements("hairpin"), 700);
	done();
}
END_TEST

START_TEST(test_overlap)
{
	const struct prefix ranges[] = {P("10.96.0.0/16"), P("10.96.1.0/24")};
	const struct prefix pods[] = {P("10.244.1.0/24"), P("10.244.0.0/16"), P("10.244.0.0/16")};
	struct masq_want w = {.ranges = ranges, .n_ranges = 2, .pods = pods, .n_pods = 3};

	set_up();
	masq_want(masq, &w);
	turn();
	expect("nft list set ip margay-proxy pod-ips | grep elements",
		"\t\telements = { 10.244.0.0/16 }\n");
	expect("nft list set ip margay-proxy service-ips | grep elements",
		"\t\telements = { 10.96.0.0/16 }\n");
	done();
}
END_TEST

#define ELEMENTS(set) "nft list set ip margay-proxy " set " | awk '/elements/,/}/' | tr -d '\t\n'"

/* Until deletions are allowed, what a proxy before us has left stays. */
START_TEST(test_kept)
{
	const struct prefix range = P("10.96.0.0/16");
	const struct prefix before[] = {P("10.244.0.0/16"), P("10.245.0.0/24"), P("10.245.1.0/24")};
	const struct prefix after[] = {P("10.244.3.0/24"), P("10.245.0.0/23"), P("10.250.0.0/16")};
	struct masq_want w = {.ranges = &range, .n_ranges = 1, .pods = before, .n_pods = 3};

	set_up();
	want_facts(2, 2);
	masq_want(masq, &w);
	turn();
	masq_free(masq);
	masq = masq_new();
	masq_use(masq, nft);
	n_local = n_ports = 0;
	w.pods = after;
	masq_want(masq, &w);
	masq_set_node_port(masq, IPPROTO_TCP, 31000, true);
	for (int i = 0; i < 2; i++) { /* it comes, goes by element, and comes back */
		turn();
		masq_set_node_port(masq, IPPROTO_TCP, 31000, i);
	}
	turn();
	expect(ELEMENTS("pod-ips"),
		"elements = { 10.244.0.0/16, 10.245.0.0/23,     10.250.0.0/16 }");
	expect(ELEMENTS("tcp-node-ports"), "elements = { 30000, 31000 }");
	expect(ELEMENTS("hairpin"),
		"elements = { 10.244.0.1 . 10.244.0.1,     10.244.0.2 . 10.244.0.2 }");
	w.n_pods = 0; /* the rule stays */
	masq_want(masq, &w);
	turn();
	ok(system("nft list table ip margay-proxy | grep -q 'ip saddr != @pod-ips'"));
	ck_assert_uint_eq(count_elements("pod-ips"), 3);

	masq_allow_deletes(masq);
	turn();
	expect(ELEMENTS("tcp-node-ports"), "elements = { 31000 }");
	expect(ELEMENTS("hairpin"), "");
	ok(system("! nft list set ip margay-proxy pod-ips 2>/dev/null"));
	done();
}
END_TEST

/* A table that cannot be written keeps nobody from the other family's. */
START_TEST(test_one_fails)
{
	const struct prefix ranges[] = {P("10.96.0.0/16"), P("fd96::/112")};
	struct masq_want w = {.ranges = ranges, .n_ranges = 2};
	FILE *owner;

	set_up();
	owner = popen("nft -i >/dev/null", "w");
	ck_assert_ptr_nonnull(owner);
	fputs("add table ip margay-proxy { flags owner; }\n", owner);
	fflush(owner);
	ok(system("for i in $(seq 100); do nft list table ip margay-proxy >/dev/null 2>&1 && exit; "
		  "sleep 0.1; done; exit 1"));
	masq_want(masq, &w);
	ck_assert_int_eq(masq_apply(masq, &err), -EPERM);
	ok(system("nft list set ip6 margay-proxy service-ips >/dev/null"));
	pclose(owner);
	err = ERR_INIT;
	ok(masq_apply(masq, &err));
	ok(system("nft list set ip margay-proxy service-ips >/dev/null"));
	done();
}
END_TEST

/* ---- connections ---- */

static void entry(const char *proto, const char *dst, int port, const char *from, int sport)
{
	const char *client = strchr(dst, ':') ? "fd00::1" : "10.244.0.1";
	auto_free char *cmd =
		mem_printf("conntrack -I -p %s -s %s -d %s --sport %d --dport %d -r %s -q %s "
			   "--reply-port-src %d --reply-port-dst %d -t 100 %s >/dev/null 2>&1",
			proto, client, dst, sport, port, from, client, port, sport,
			strcmp(proto, "tcp") == 0 ? "--state ESTABLISHED" : "");

	ck_assert_msg(system(cmd) == 0, "%s", cmd);
}

START_TEST(test_read_while_it_changes)
{
	FILE *f = popen("nft -f -", "w");
	struct nft_ruleset *rs = NULL;
	struct nft *n, *other;
	pid_t child;
	int r = 0;

	ck_assert_ptr_nonnull(f);
	fputs("table ip big {\n chain c {\n", f);
	for (int i = 0; i < 500; i++) /* several answers of the kernel */
		fprintf(f, "ip daddr 10.0.%d.%d drop\n", i / 256, i % 256);
	fputs("}\n}\n", f);
	ck_assert_int_eq(pclose(f), 0);
	ok(nft_open(&n, &err));
	child = fork();
	if (child == 0) {
		alarm(60);
		if (nft_open(&other, NULL) < 0)
			_exit(1);
		/* Which the kernel counts as a change. */
		for (int i = 0; i < 30; i++, poll(NULL, 0, 100))
			(void)nft_delete_table(other, AF_INET, "other", NULL);
		_exit(0);
	}
	while (r == 0 && waitpid(child, NULL, WNOHANG) == 0) {
		r = nft_read(n, AF_INET, "big", &rs, &err);
		if (r == 0)
			nft_ruleset_free(rs);
	}
	if (r < 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	ok(r);
	nft_close(n);
}
END_TEST

static int n_entries(const char *filter)
{
	auto_free char *cmd = mem_printf("conntrack -L %s 2>/dev/null | wc -l", filter);
	auto_free char *out = run(cmd);

	return atoi(out);
}

START_TEST(test_connections)
{
	struct conntrack_stale stale[] = {
		{.dst = A("10.96.0.10"), .port = 53, .from = A("10.244.0.7")},
		{.dst = A("10.96.0.11"), .port = 53},
	};
	struct conntrack_stale many[13];
	struct conntrack *ct = NULL;

	for (int i = 0; i < 50; i++) {
		entry("udp", "10.96.0.10", 53, "10.244.0.7", 1000 + i);
		entry("udp", "10.96.0.10", 53, "10.244.0.8", 2000 + i);
		entry("udp", "10.96.0.11", 53, i % 2 ? "10.244.0.7" : "10.244.0.9", 3000 + i);
	}
	entry("udp", "10.96.0.10", 54, "10.244.0.7", 1000);
	entry("tcp", "10.96.0.10", 53, "10.244.0.7", 1000);
	entry("tcp", "10.96.0.11", 53, "10.244.0.7", 1001);
	ck_assert_int_eq(n_entries(""), 153);
	ok(conntrack_open(&ct, &err));
	ck_assert_int_eq(conntrack_delete_udp(ct, stale, 2, &err), 100);
	ck_assert_int_eq(n_entries(""), 53);
	ck_assert_int_eq(n_entries("-p udp --dst 10.96.0.10 --dport 53"), 50);
	ck_assert_int_eq(n_entries("-p tcp"), 2);
	ck_assert_int_eq(conntrack_delete_udp(ct, stale, 2, &err), 0);
	ck_assert_int_eq(conntrack_delete_udp(ct, stale, 0, &err), 0);

	/* Of both families; and so many that everything is read. */
	for (int i = 0; i < 12; i++) {
		auto_free char *dst = mem_printf("10.96.1.%d", i);
		many[i] = (struct conntrack_stale){.dst = A(dst), .port = 53};
		entry("udp", dst, 53, "10.244.0.7", 5000 + i);
		entry("udp", dst, 54, "10.244.0.7", 5000 + i);
	}
	many[12] = (struct conntrack_stale){.dst = A("fd00::a"), .port = 53, .from = A("fd00::7")};
	for (int i = 0; i < 2; i++) {
		entry("udp", "fd00::a", 53 + i, "fd00::7", 1000);
		entry("udp", "fd00::a", 53, "fd00::8", 2000 + i);
		entry("udp", "fd00::b", 53, "fd00::7", 3000 + i);
	}
	ck_assert_int_eq(conntrack_delete_udp(ct, many, 1, &err), 1);
	ck_assert_int_eq(conntrack_delete_udp(ct, many, 13, &err), 12);
	ck_assert_int_eq(n_entries("-f ipv6"), 5);
	ck_assert_int_eq(n_entries("-p udp --dport 53"), 54);
	ck_assert_int_eq(n_entries("-p udp --dport 54"), 14);
	conntrack_close(ct);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("masq");
	Suite *s = suite_create("masq");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, enter, NULL);
	tcase_add_test(tc, test_table);
	tcase_add_test(tc, test_elements);
	tcase_add_test(tc, test_overlap);
	tcase_add_test(tc, test_kept);
	tcase_add_test(tc, test_one_fails);
	tcase_add_test(tc, test_read_while_it_changes);
	tcase_add_test(tc, test_connections);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
