/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The nftables backend on the real kernel, in a namespace of its own; nft(8) tells what is there. */
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "kern/conntrack.h"
#include "kern/nft.h"
#include "netns/shell.h"
#include "proxy/maps.h"

static struct nft *nft;
static struct nft_monitor *monitor;
static struct conntrack *ct;
static struct maps *maps;
static struct backend *b;
static int events;

static void start(bool deletes)
{
	maps = maps_new(ct);
	maps_use(maps, nft);
	b = maps_backend(maps);
	if (deletes)
		b->ops->allow_deletes(b);
}

static void enter(void)
{
	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	ok(system("ip link set lo up"));
	err = ERR_INIT;
	ok(nft_open(&nft, &err));
	ok(nft_monitor_open(nft, &monitor, &err));
	ok(conntrack_open(&ct, &err));
	start(true);
}

static void leave(void)
{
	maps_free(maps);
	conntrack_close(ct);
	nft_monitor_close(monitor);
	nft_close(nft);
}

static void on_event(void *arg, const char *table)
{
	(void)arg;
	events += maps_event(maps, table);
}

static int apply(void)
{
	bool more = true;
	int r = 0;

	for (int i = 0; more; i++) {
		ck_assert_int_lt(i, 100);
		r = b->ops->apply(b, 0, &more, &err);
	}
	return r;
}

static void turn(void)
{
	struct pollfd p = {.fd = nft_monitor_fd(monitor), .events = POLLIN};

	while (poll(&p, 1, 50) > 0)
		ck_assert_int_ge(nft_monitor_read(monitor, on_event, NULL, &err), 0);
	ok(apply());
}

static struct vserver_key key_of(uint8_t protocol, const char *ip, uint16_t port)
{
	struct vserver_key key;

	memset(&key, 0, sizeof(key));
	key.protocol = protocol;
	key.port = port;
	ok(ip_parse(ip, &key.ip, &err));
	return key;
}

/* eps: "10.0.0.1 10.0.0.2", at port 8080. */
static void want(const struct vserver_key *key, uint32_t affinity_s, const char *eps)
{
	struct calc_dest dests[8];
	struct calc_server server = {.affinity_s = affinity_s, .dests = dests};
	auto_free char *copy = mem_strdup(eps);
	char *save = NULL;

	for (char *s = strtok_r(copy, " ", &save); s; s = strtok_r(NULL, " ", &save)) {
		dests[server.n_dests].port = 8080;
		ok(ip_parse(s, &dests[server.n_dests++].ip, &err));
	}
	b->ops->set(b, key, &server);
}

/* The elements of a map of IPv4, or of another table, a line. */
#define ELEMENTS(map) \
	"nft list map ip margay-proxy-maps " map " | awk '/elements/,/}/' | tr -d '\\t\\n'"

/* ---- what is written ---- */

#define MAPS                                                                      \
	"table ip margay-proxy-maps {\n"                                          \
	"	map services {\n"                                                       \
	"		type ipv4_addr . inet_proto . inet_service : verdict\n"                \
	"		elements = { 10.96.0.1 . tcp . 80 : goto random-2,\n"                  \
	"			     10.96.0.1 . udp . 53 : goto sticky-1-600s }\n"                   \
	"	}\n\n"                                                                  \
	"	map endpoints {\n"                                                      \
	"		typeof ip daddr . meta l4proto . th dport . numgen random mod 2 : ip " \
	"daddr . th dport\n"                                                      \
	"		elements = { 10.96.0.1 . tcp . 80 . 0 : 10.0.0.1 . 8080,\n"            \
	"			     10.96.0.1 . tcp . 80 . 1 : 10.0.0.2 . 8080 }\n"                  \
	"	}\n\n"                                                                  \
	"	map numbers {\n"                                                        \
	"		typeof ip daddr . meta l4proto . th dport . numgen random mod 2 : "    \
	"meta priority\n"                                                         \
	"		elements = { 10.96.0.1 . udp . 53 . 0 : none }\n"                      \
	"	}\n\n"                                                                  \
	"	map numbered {\n"                                                       \
	"		type ipv4_addr . inet_proto . inet_service . classid : ipv4_addr . "   \
	"inet_service\n"                                                          \
	"		elements = { 10.96.0.1 . udp . 53 . none : 10.0.0.3 . 8080 }\n"        \
	"	}\n\n"                                                                  \
	"	map clients {\n"                                                        \
	"		type ipv4_addr . ipv4_addr . inet_proto . inet_service : classid\n"    \
	"		size 1048576\n"                                                        \
	"		flags dynamic,timeout\n"                                               \
	"	}\n\n"
#define FRONT "ip daddr . meta l4proto . th dport"
#define BASES                                                          \
	"	chain nat-prerouting {\n"                                    \
	"		type nat hook prerouting priority dstnat; policy accept;\n" \
	"		" FRONT " vmap @services\n"                    \
	"	}\n\n"                                                       \
	"	chain nat-output {\n"                                        \
	"		type nat hook output priority -100; policy accept;\n"       \
	"		" FRONT " vmap @services\n"                    \
	"	}\n\n"
#define RANDOM_2                                                                     \
	"	chain random-2 {\n"                                                        \
	"		dnat ip to " FRONT " . numgen random mod 2 map @endpoints\n" \
	"		dnat ip to " FRONT " . numgen random mod 1 map @endpoints\n" \
	"	}\n"
#define STICKY_1                                                                                \
	"	chain sticky-1-600s {\n"                                                              \
	"		meta priority set ip saddr . " FRONT                                    \
	" map @clients update @clients { ip saddr . " FRONT                                     \
	" timeout 10m : meta priority } dnat ip to " FRONT " . meta priority map @numbered\n"   \
	"		meta priority set " FRONT " . numgen random mod 1 map @numbers\n"       \
	"		delete @clients { ip saddr . " FRONT " timeout 10m : meta priority }\n" \
	"		add @clients { ip saddr . " FRONT " timeout 10m : meta priority }\n"    \
	"		dnat ip to " FRONT " . meta priority map @numbered\n"                   \
	"	}\n"

#define LIST "nft list table ip margay-proxy-maps"
/* In an order of its own: that of elements is the kernel's. */
#define SORTED LIST " | sed 's/elements = {//; s/[ \\t,}]*$//; s/^[ \\t]*//' | sort"

START_TEST(test_table)
{
	struct vserver_key web = key_of(IPPROTO_TCP, "10.96.0.1", 80),
			   dns = key_of(IPPROTO_UDP, "10.96.0.1", 53),
			   six = key_of(IPPROTO_TCP, "fd96::1", 80);
	static const char *const tamperings[] = {
		"nft delete table ip margay-proxy-maps",
		"nft 'add table ip margay-proxy-maps { flags dormant; }'",
		"nft flush chain ip margay-proxy-maps nat-output",
		"nft flush map ip margay-proxy-maps endpoints",
		"nft delete element ip margay-proxy-maps services { 10.96.0.1 . tcp . 80 }",
		"nft add element ip margay-proxy-maps services { 10.96.9.9 . tcp . 80 : drop }",
		"nft add element ip margay-proxy-maps endpoints "
		"{ 10.96.0.1 . tcp . 80 . 7 : 10.9.9.9 . 1 }",
		"nft add element ip margay-proxy-maps endpoints "
		"{ 10.96.0.1 . tcp . 80 . 70000 : 10.9.9.9 . 1 }",
		"nft 'delete element ip margay-proxy-maps endpoints { 10.96.0.1 . tcp . 80 . 1 }; "
		"add element ip margay-proxy-maps endpoints "
		"{ 10.96.0.1 . tcp . 80 . 1 : 10.9.9.9 . 1 }'",
		"nft insert rule ip margay-proxy-maps random-2 counter",
		"nft add chain ip margay-proxy-maps intruder",
		"nft add set ip margay-proxy-maps intruder { type ipv4_addr\\; }",
	};
	auto_free char *list = NULL, *text = NULL;

	ok(system("nft add table ip margay-other"));
	ok(apply());
	expect("nft list ruleset", "table ip margay-other {\n}\n"); /* nothing is wanted yet */
	want(&web, 0, "10.0.0.1 10.0.0.2");
	want(&dns, 600, "10.0.0.3");
	turn();
	list = run(SORTED);
	text = mem_printf("cat <<'E' %s\n%sE\n", strstr(SORTED, "|"),
		MAPS BASES RANDOM_2 "\n" STICKY_1 "}\n");
	expect(text, list);
	ck_assert_int_eq(b->stats.wanted, 2);
	ck_assert_int_eq(b->stats.installed, 2);
	ck_assert_uint_eq(b->stats.written, 6);
	for (size_t i = 0; i < array_size(tamperings); i++) {
		uint64_t before = b->stats.repaired;
		auto_free char *now = NULL;

		events = 0;
		ok(system(tamperings[i]));
		turn();
		ck_assert_int_gt(events, 0);
		now = run(SORTED);
		ck_assert_msg(strcmp(now, list) == 0, "after %s\n%s", tamperings[i], now);
		ck_assert_uint_gt(b->stats.repaired, before);
	}
	/* What others do to other tables is none of ours; what we do is not told. */
	events = 0;
	ok(system("nft add chain ip margay-other c"));
	want(&six, 0, "fd00::1 fd00::2 fd00::3");
	turn();
	turn();
	ck_assert_int_eq(events, 0);
	free(text);
	text = run("nft list map ip6 margay-proxy-maps endpoints");
	ck_assert_ptr_nonnull(strstr(text, "fd96::1 . tcp . 80 . 2 : fd00::3 . 8080"));

	/* One that starts anew finds it as it wants it. */
	maps_free(maps);
	start(false);
	want(&web, 0, "10.0.0.2 10.0.0.1");
	want(&dns, 600, "10.0.0.3");
	want(&six, 0, "fd00::1 fd00::2 fd00::3");
	b->ops->allow_deletes(b);
	ok(apply());
	ck_assert_uint_eq(b->stats.written + b->stats.deleted, 0);
	expect(LIST " | grep -c chain", "4\n");

	/* Nothing is wanted: chains go by the reading after. */
	b->ops->unset(b, &web);
	want(&dns, 600, "");
	b->ops->unset(b, &six);
	ok(apply());
	ck_assert_int_eq(b->stats.installed, 0);
	expect(ELEMENTS("services") "; " ELEMENTS("endpoints"), "");
	b->ops->mark_unknown(b);
	ok(apply());
	expect(LIST " | grep -c chain", "2\n");
	ck_assert_uint_eq(b->stats.repaired + b->stats.failed, 0);
}
END_TEST

/* ---- what a change costs ---- */

static void want_n(struct vserver_key *key, uint32_t affinity_s, unsigned from, unsigned n)
{
	struct calc_dest dests[64];
	struct calc_server server = {.affinity_s = affinity_s, .dests = dests, .n_dests = n};

	for (unsigned i = 0; i < n; i++)
		dests[i] = (struct calc_dest){.ip = ip_from_v4(0x0af40000 + from + i), .port = 80};
	b->ops->set(b, key, &server);
}

static uint64_t elements(void)
{
	uint64_t before = b->stats.written + b->stats.deleted;

	ok(apply());
	return b->stats.written + b->stats.deleted - before;
}

START_TEST(test_cost)
{
	static const size_t sizes[] = {10, 1000};
	struct vserver_key key = key_of(IPPROTO_TCP, "10.96.0.0", 80);
	size_t done = 0;

	for (size_t i = 0; i < array_size(sizes); i++) {
		for (; done < sizes[i]; done++) {
			key.ip = ip_from_v4(0x0a600000 + (uint32_t)done);
			want_n(&key, done % 2 ? 600 : 0, 0, 10);
		}
		ok(apply());
		key.ip = ip_from_v4(0x0a600000 + 4 + 100 * (uint32_t)i);
		/* The first goes: it, the last one's move, and where to go. */
		want_n(&key, 0, 1, 9);
		ck_assert_uint_eq(elements(), 1 + 2 + 2);
		want_n(&key, 0, 0, 10);
		ck_assert_uint_eq(elements(), 1 + 2);
		want_n(&key, 0, 1, 10); /* another in its place */
		ck_assert_uint_eq(elements(), 2);
		want_n(&key, 0, 0, 10);
		ck_assert_uint_eq(elements(), 2);
		key.ip = ip_from_v4(0x0a600000 + 5 + 100 * (uint32_t)i);
		want_n(&key, 600, 1, 9); /* its number, the last number's move, and where to go */
		ck_assert_uint_eq(elements(), 1 + 3 + 2);
		want_n(&key, 600, 0, 10);
		ck_assert_uint_eq(elements(), 2 + 2);
		want_n(&key, 600, 1, 10);
		ck_assert_uint_eq(elements(), 2);
		want_n(&key, 600, 0, 10);
		ck_assert_uint_eq(elements(), 2);
	}
	ck_assert_uint_eq(b->stats.reads, 2);
	ck_assert_int_eq(b->stats.installed, 1000);
	/* More than one transaction takes. */
	b->ops->mark_unknown(b);
	ok(system("nft flush map ip margay-proxy-maps endpoints"));
	ok(system("nft flush map ip margay-proxy-maps services"));
	ok(apply());
	expect("nft -j list map ip margay-proxy-maps endpoints | jq '.nftables[1].map.elem | length'",
		"5000\n");
	expect("nft -j list map ip margay-proxy-maps services | jq '.nftables[1].map.elem | length'",
		"1000\n");
}
END_TEST

/* ---- until deletions are allowed ---- */

START_TEST(test_kept)
{
	struct vserver_key web = key_of(IPPROTO_TCP, "10.96.0.1", 80),
			   gone = key_of(IPPROTO_TCP, "10.96.0.2", 80);

	want(&web, 0, "10.0.0.1 10.0.0.2");
	want(&gone, 60, "10.0.0.3");
	ok(apply());
	maps_free(maps);
	start(false);
	want(&web, 0,
		"10.0.0.2 10.0.0.4"); /* the first one may be wanted by who is not known yet */
	ok(apply());
	expect(ELEMENTS("endpoints"), "elements = { 10.96.0.1 . tcp . 80 . 0 : 10.0.0.1 . 8080,"
				      "     10.96.0.1 . tcp . 80 . 1 : 10.0.0.2 . 8080,"
				      "     10.96.0.1 . tcp . 80 . 2 : 10.0.0.4 . 8080 }");
	want(&web, 0, "10.0.0.2"); /* that one is known not to be */
	ok(apply());
	want(&web, 0, "");
	ok(apply());
	expect(ELEMENTS("endpoints"), "elements = { 10.96.0.1 . tcp . 80 . 0 : 10.0.0.1 . 8080,"
				      "     10.96.0.1 . tcp . 80 . 1 : 10.0.0.2 . 8080 }");
	/* The table is written anew with all of it. */
	ok(system("nft add chain ip margay-proxy-maps intruder"));
	b->ops->mark_unknown(b);
	ok(apply());
	expect(LIST " | grep -c -e intruder -e 'chain '", "4\n");
	expect(ELEMENTS("services"), "elements = { 10.96.0.1 . tcp . 80 : goto random-2,"
				     "     10.96.0.2 . tcp . 80 : goto sticky-1-60s }");
	b->ops->allow_deletes(b);
	want(&web, 0, "10.0.0.2");
	ok(apply());
	expect(ELEMENTS("services"), "elements = { 10.96.0.1 . tcp . 80 : goto random-1 }");
	expect(ELEMENTS("endpoints"), "elements = { 10.96.0.1 . tcp . 80 . 0 : 10.0.0.2 . 8080 }");
	expect(ELEMENTS("numbers") "; " ELEMENTS("numbered"), "");
}
END_TEST

/* ---- failures ---- */

START_TEST(test_refused)
{
	struct vserver_key web = key_of(IPPROTO_TCP, "10.96.0.1", 80),
			   other = key_of(IPPROTO_TCP, "10.96.0.2", 80),
			   six = key_of(IPPROTO_TCP, "fd96::1", 80);
	struct calc_dest *many = mem_zalloc(70000 * sizeof(*many));
	struct calc_server server = {.dests = many, .n_dests = 70000};
	FILE *owner;

	want(&web, 0, "10.0.0.1");
	want(&other, 0, "10.0.0.1");
	ok(apply());
	/* What somebody has done of which nothing was told: it is found at the failure. */
	ok(system(
		"nft delete element ip margay-proxy-maps endpoints { 10.96.0.1 . tcp . 80 . 0 }"));
	want(&web, 0, "");
	want(&other, 0, "10.0.0.2");
	ok(apply());
	expect(ELEMENTS("services"), "elements = { 10.96.0.2 . tcp . 80 : goto random-1 }");
	expect(ELEMENTS("endpoints"), "elements = { 10.96.0.2 . tcp . 80 . 0 : 10.0.0.2 . 8080 }");
	/* One that cannot be had keeps nobody from the others. */
	for (int i = 0; i < 70000; i++)
		many[i].ip = ip_from_v4(0x0af40000 + (uint32_t)i);
	b->ops->set(b, &web, &server);
	want(&other, 0, "10.0.0.3");
	ck_assert_int_eq(apply(), -E2BIG);
	ck_assert_ptr_nonnull(strstr(err.text, "virtual server TCP 10.96.0.1:80: 70000 endpoints"));
	ck_assert_int_eq(apply(), -E2BIG); /* until it is wanted otherwise */
	expect(ELEMENTS("endpoints"), "elements = { 10.96.0.2 . tcp . 80 . 0 : 10.0.0.3 . 8080 }");
	want(&web, 0, "10.0.0.1");
	b->ops->retry(b);
	ok(apply());
	free(many);

	/* Nor does a family whose table is somebody else's. */
	owner = popen("nft -i >/dev/null", "w");
	ck_assert_ptr_nonnull(owner);
	fputs("add table ip6 margay-proxy-maps { flags owner; }\n", owner);
	fflush(owner);
	ok(system("for i in $(seq 100); do nft list table ip6 margay-proxy-maps >/dev/null 2>&1 && "
		  "exit; sleep 0.1; done; exit 1"));
	b->ops->mark_unknown(b);
	want(&six, 0, "fd00::1");
	ck_assert_int_eq(apply(), -EPERM);
	pclose(owner);
	b->ops->retry(b);
	ok(apply());
	ok(system("nft list map ip6 margay-proxy-maps endpoints | grep -q fd00::1"));
}
END_TEST

/* ---- connections of UDP ---- */

static void entry(const char *proto, const char *dst, int port, const char *from, int sport)
{
	auto_free char *cmd = mem_printf(
		"conntrack -I -p %s -s 10.244.0.1 -d %s --sport %d --dport %d -r %s -q 10.244.0.1 "
		"--reply-port-src 8080 --reply-port-dst %d -t 100 %s >/dev/null 2>&1",
		proto, dst, sport, port, from, sport,
		strcmp(proto, "tcp") == 0 ? "--state ESTABLISHED" : "");

	ck_assert_msg(system(cmd) == 0, "%s", cmd);
}

START_TEST(test_connections)
{
	struct vserver_key dns = key_of(IPPROTO_UDP, "10.96.0.1", 53),
			   tcp = key_of(IPPROTO_TCP, "10.96.0.1", 53);

	entry("udp", "10.96.0.1", 53, "10.96.0.1", 1000); /* from before it was served */
	entry("udp", "10.96.0.2", 53, "10.96.0.2", 1000);
	want(&dns, 0, "10.0.0.1 10.0.0.2");
	want(&tcp, 0, "10.0.0.1 10.0.0.2");
	ok(apply());
	ck_assert_uint_eq(b->stats.connections, 1);
	for (int i = 0; i < 3; i++) {
		entry("udp", "10.96.0.1", 53, "10.0.0.1", 2000 + i);
		entry("udp", "10.96.0.1", 53, "10.0.0.2", 3000 + i);
		entry("tcp", "10.96.0.1", 53, "10.0.0.1", 4000 + i);
	}
	want(&dns, 60, "10.0.0.1 10.0.0.2");
	ok(apply());
	ck_assert_uint_eq(b->stats.connections, 1);
	want(&dns, 60, "10.0.0.2");
	want(&tcp, 0, "10.0.0.2");
	ok(apply());
	ck_assert_uint_eq(b->stats.connections, 4);
	expect("conntrack -L -p udp -d 10.96.0.1 2>/dev/null | grep -c src=10.0.0.2", "3\n");
	expect("conntrack -L -p tcp -d 10.96.0.1 2>/dev/null | grep -c src=10.0.0.1", "3\n");
	b->ops->unset(b, &dns);
	ok(apply());
	ck_assert_uint_eq(b->stats.connections, 7);
}
END_TEST

START_TEST(test_delete)
{
	struct vserver_key web = key_of(IPPROTO_TCP, "10.96.0.1", 80);
	bool any = true;

	ok(system("nft add table ip margay-other"));
	ok(maps_delete(nft, &any, &err));
	ck_assert(!any);
	want(&web, 0, "10.0.0.1");
	ok(apply());
	ok(maps_delete(nft, &any, &err));
	ck_assert(any);
	expect("nft list tables", "table ip margay-other\n");
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("maps");
	Suite *s = suite_create("maps");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, enter, leave);
	tcase_add_test(tc, test_table);
	tcase_add_test(tc, test_cost);
	tcase_add_test(tc, test_kept);
	tcase_add_test(tc, test_refused);
	tcase_add_test(tc, test_connections);
	tcase_add_test(tc, test_delete);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
