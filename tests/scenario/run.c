/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a scenario (FILE.scn) against the whole of felix over a datastore and a kernel in memory and
 * a clock that stands still, and then again and again with one call failing: the first of the
 * kernel's, the second, ... with each of ENOBUFS (done, outcome lost), EBUSY and ETIMEDOUT; the
 * first of the datastore's, ... Every run must end as the script says, though two retries are
 * allowed before anything is checked, and must never touch what is not felix's.
 *
 *	# comment
 *	put KEY JSON			the datastore, by another's hand
 *	put-many N KEY JSON		so many, each # being the number, from 0 on
 *	del KEY
 *	away | back			the datastore cannot be reached
 *	compact				watches end, the datastore is listed again
 *	link NAME INDEX up|down|gone	the kernel, by another's hand
 *	route DST dev NAME|blackhole proto N [metric N]
 *	noroute DST [metric N]
 *	quarrel DST N			somebody removes it, and waits for felix, N times
 *	expect-quarrels N		felix has told of so many
 *	lose				the next change's event is lost, with those that wait
 *	start | kill			felix
 *	expect-opens N			since the start it tried so often, or oftener, to open nftables
 *	advance MS			the clock
 *	settle				until nothing is to be done
 *	expect DST dev NAME|blackhole|none [metric N]
 *	expect-proto DST N
 *	expect-address NAME IP		on a link
 *	expect-store KEY TEXT|none	which the value holds
 *	expect-health TEXT		which /readyz says; a call that fails may be what is BAD
 *	detect METHOD			felix finds the node's address itself, by this
 *	default-pools [CIDR]		felix makes pools where there are none
 *	quiet | expect-quiet		no change was written to the kernel since
 *	listed | expect-listed N	lists of the datastore have given fewer objects since, if nothing failed
 */
#include <errno.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "fake/nft_fake.h"
#include "fake/rt_fake.h"
#include "fake/store_fake.h"
#include "felix/agent.h"
#include "felix/dp/routes.h"
#include "store/store.h"
#include "svc/health.h"
#include "svc/loop.h"
#include "svc/metrics.h"
#include "unit/test_dir.h"

/* What fails in a run. */
struct fault {
	const char *where; /* "kernel", "store", "answer"; NULL = nothing */
	unsigned n;
	int r;
};

static struct world {
	struct event_base *base;
	struct store *st;
	struct health *health;
	struct metrics *metrics;
	struct agent *agent;
	unsigned writes, opens;
	size_t listed;
	const char *file;
	int line;
	struct fault fault;
} w;

static int64_t now_ms = 1000000;

static int64_t virtual_now(void)
{
	return now_ms;
}

static _Noreturn void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void fail(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s:%d: ", w.file, w.line);
	if (w.fault.where)
		fprintf(stderr, "with the %s's call %u failing (%s): ", w.fault.where, w.fault.n,
			strerror(-w.fault.r));
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static struct prefix dst_of(const char *s)
{
	struct prefix p;
	struct err err = ERR_INIT;

	if (!s || prefix_parse_host(s, &p, &err) < 0)
		fail("destination %s: %s", s ? s : "(missing)", err_text(&err));
	return p;
}

/* ---- felix ---- */

static char pool4_cidr[64], ip[64], ip_method[64], ip6[64];
static struct agent_conf conf = {
	.address = {{ip, ip_method}, {ip6, "first-found"}},
	.pod_prefix = "cali",
	.nodename_file = "",
	.mtu_file = "",
	.status_prefix = "",
	.ipip_enabled = -1,
	.mtu_iface_pattern = "",
	.start = {.nodename = "node-80",
		.cluster_type = "bgp",
		.no_default_pools = true,
		.pools = {{.cidr = pool4_cidr,
				  .ipip = "Never",
				  .vxlan = "Never",
				  .node_selector = "all()",
				  .block_size = 26},
			{.cidr = ""}}},
};

static void start(void)
{
	struct err err = ERR_INIT;

	w.opens = nft_fake_opens();
	if (!w.health) {
		w.health = health_new();
		w.metrics = metrics_new();
	}
	if (agent_new(w.base, w.st, &conf, w.health, w.metrics, virtual_now, &w.agent, &err) < 0)
		fail("start: %s", err_text(&err));
}

static void kill_agent(void)
{
	agent_free(w.agent);
	w.agent = NULL;
	health_free(w.health);
	metrics_free(w.metrics);
	w.health = NULL;
	w.metrics = NULL;
}

static void spin(void)
{
	int idle = 0;

	for (int i = 0; idle < 3; i++) {
		event_base_loop(w.base, EVLOOP_NONBLOCK);
		idle = store_fake_idle(w.st) && (!w.agent || agent_is_idle(w.agent)) ? idle + 1 : 0;
		if (i > 100000)
			fail("it never comes to rest");
	}
}

static void settle(void)
{
	spin();
	for (int i = 0; w.agent && i < 2; i++) {
		agent_retry(w.agent);
		spin();
	}
	if (rt_fake_foreign_touched())
		fail("%u routes of others were touched", rt_fake_foreign_touched());
}

/* ---- the script ---- */

static char *word(char **rest)
{
	char *s = strsep(rest, " \t");

	while (s && *s == '\0')
		s = strsep(rest, " \t");
	return s;
}

static char *need(char **rest, const char *what)
{
	char *s = word(rest);

	if (!s)
		fail("%s is missing", what);
	return s;
}

static uint32_t metric_of(char **rest)
{
	char *s = word(rest);

	return s && strcmp(s, "metric") == 0 ? (uint32_t)atoi(need(rest, "metric")) : 0;
}

static void do_link(char *rest)
{
	char *name = need(&rest, "name"), *index = need(&rest, "index"),
	     *state = need(&rest, "state");

	if (strcmp(state, "gone") == 0)
		rt_fake_link_gone(name);
	else
		rt_fake_link(name, (uint32_t)atoi(index), strcmp(state, "up") == 0);
}

static void do_route(char *rest)
{
	struct rt_route r = {.table = RT_TABLE_MAIN_ID, .dst = dst_of(word(&rest))};
	char *how = need(&rest, "dev or blackhole");
	const struct rt_link *l;

	r.type = RT_TYPE_BLACKHOLE;
	if (strcmp(how, "dev") == 0) {
		l = rt_fake_find_link(need(&rest, "link"));
		if (!l)
			fail("no such link");
		r.type = RT_TYPE_UNICAST;
		r.scope = RT_SCOPED_LINK;
		r.oif = l->index;
	}
	(void)need(&rest, "proto");
	r.protocol = (uint8_t)atoi(need(&rest, "protocol"));
	r.priority = metric_of(&rest);
	rt_fake_route(&r);
}

static void expect(char *rest)
{
	char *text = need(&rest, "destination"), *how = need(&rest, "what"), *dev = NULL;
	struct prefix dst = dst_of(text);
	const struct rt_route *r;
	const struct rt_link *l;

	if (strcmp(how, "dev") == 0)
		dev = need(&rest, "link");
	r = rt_fake_find_route(&dst, metric_of(&rest));
	if (strcmp(how, "none") == 0) {
		if (r)
			fail("%s: no route is wanted, one of protocol %d is there", text,
				r->protocol);
		return;
	}
	if (!r)
		fail("%s: there is no route", text);
	if (strcmp(how, "blackhole") == 0 && r->type != RT_TYPE_BLACKHOLE)
		fail("%s: type %d, want a blackhole", text, r->type);
	l = dev ? rt_fake_find_link(dev) : NULL;
	if (dev && (!l || r->oif != l->index))
		fail("%s: through link %u, want %s", text, r->oif, dev);
}

static void expect_health(const char *text)
{
	struct strbuf sb = STRBUF_INIT;

	if (w.fault.where && strncmp(text, "BAD", 3) == 0)
		return;
	(void)health_print(w.health, HEALTH_READY, &sb);
	if (!strstr(strbuf_str(&sb), text))
		fail("\"%s\" is not in:\n%s", text, strbuf_str(&sb));
	strbuf_done(&sb);
}

static void add_numbered(struct strbuf *to, const char *text, int i)
{
	for (; *text; text++) {
		if (*text == '#')
			strbuf_addf(to, "%d", i);
		else
			strbuf_addc(to, *text);
	}
}

static void put_many(int n, const char *key, const char *value)
{
	for (int i = 0; i < n; i++) {
		auto_strbuf k = STRBUF_INIT, v = STRBUF_INIT;

		add_numbered(&k, key, i);
		add_numbered(&v, value, i);
		store_fake_put(w.st, strbuf_str(&k), strbuf_str(&v));
	}
}

static void execute(char *line)
{
	char *rest = line, *verb = word(&rest), *s, *key;
	const struct rt_route *r;
	struct prefix dst;

	if (strcmp(verb, "put") == 0) {
		key = need(&rest, "key");
		store_fake_put(w.st, key, rest);
	} else if (strcmp(verb, "put-many") == 0) {
		int n = atoi(need(&rest, "number"));

		key = need(&rest, "key");
		put_many(n, key, rest);
	} else if (strcmp(verb, "del") == 0) {
		store_fake_put(w.st, need(&rest, "key"), NULL);
	} else if (strcmp(verb, "away") == 0 || strcmp(verb, "back") == 0) {
		store_fake_away(w.st, verb[0] == 'a');
	} else if (strcmp(verb, "compact") == 0) {
		store_fake_compact(w.st);
	} else if (strcmp(verb, "link") == 0) {
		do_link(rest);
	} else if (strcmp(verb, "route") == 0) {
		do_route(rest);
	} else if (strcmp(verb, "noroute") == 0) {
		dst = dst_of(word(&rest));
		(void)rt_fake_route_gone(&dst, metric_of(&rest));
	} else if (strcmp(verb, "quarrel") == 0) {
		dst = dst_of(word(&rest));
		for (int i = atoi(need(&rest, "number")); i > 0; i--) {
			(void)rt_fake_route_gone(&dst, 0);
			spin();
		}
	} else if (strcmp(verb, "expect-quarrels") == 0) {
		s = need(&rest, "number");
		if (agent_routes(w.agent)->quarrels != (unsigned)atoi(s) && !w.fault.where)
			fail("%u, want %s", (unsigned)agent_routes(w.agent)->quarrels, s);
	} else if (strcmp(verb, "lose") == 0) {
		rt_fake_lose_events();
	} else if (strcmp(verb, "start") == 0) {
		start();
	} else if (strcmp(verb, "kill") == 0) {
		kill_agent();
	} else if (strcmp(verb, "advance") == 0) {
		now_ms += atoi(need(&rest, "milliseconds"));
		if (w.agent)
			agent_retry(w.agent);
	} else if (strcmp(verb, "settle") == 0) {
		settle();
	} else if (strcmp(verb, "expect") == 0) {
		expect(rest);
	} else if (strcmp(verb, "expect-proto") == 0) {
		dst = dst_of(word(&rest));
		r = rt_fake_find_route(&dst, 0);
		s = need(&rest, "protocol");
		if (!r || r->protocol != atoi(s))
			fail("protocol %d, want %s", r ? r->protocol : -1, s);
	} else if (strcmp(verb, "expect-address") == 0) {
		const struct rt_link *l = rt_fake_find_link(need(&rest, "link"));

		dst = dst_of(word(&rest));
		if (!l || !rt_fake_has_addr(l->index, &dst.addr))
			fail("%s is not on the link", ip_str(&dst.addr));
	} else if (strcmp(verb, "expect-store") == 0) {
		key = need(&rest, "key");
		s = (char *)(uintptr_t)store_fake_value(w.st, key);
		if (strcmp(rest, "none") == 0 ? s != NULL : !s || !strstr(s, rest))
			fail("%s is %s", key, s ? s : "not there");
	} else if (strcmp(verb, "expect-health") == 0) {
		expect_health(rest);
	} else if (strcmp(verb, "expect-opens") == 0) {
		s = need(&rest, "number");
		if (nft_fake_opens() - w.opens < (unsigned)atoi(s))
			fail("%u, want %s", nft_fake_opens() - w.opens, s);
	} else if (strcmp(verb, "default-pools") == 0) {
		conf.start.no_default_pools = false;
		snprintf(pool4_cidr, sizeof(pool4_cidr), "%s", word(&rest) ?: "");
	} else if (strcmp(verb, "detect") == 0) {
		snprintf(ip_method, sizeof(ip_method), "%s", rest);
		strcpy(ip, "autodetect");
	} else if (strcmp(verb, "ip6") == 0) {
		snprintf(ip6, sizeof(ip6), "%s", rest);
	} else if (strcmp(verb, "listed") == 0) {
		w.listed = store_fake_listed_count(w.st);
	} else if (strcmp(verb, "expect-listed") == 0) {
		size_t n = store_fake_listed_count(w.st) - w.listed;

		s = need(&rest, "number");
		if (!w.fault.where && n >= strtoul(s, NULL, 10))
			fail("%zu, want less than %s", n, s);
	} else if (strcmp(verb, "quiet") == 0) {
		w.writes = rt_fake_writes();
	} else if (strcmp(verb, "expect-quiet") == 0) {
		if (rt_fake_writes() != w.writes && !w.fault.where)
			fail("%u changes were written to the kernel", rt_fake_writes() - w.writes);
	} else {
		fail("unknown verb %s", verb);
	}
}

/* Returns how many calls there were, of the kernel and of the datastore. */
static void run(const char *script, struct fault fault, unsigned *kernel, unsigned *store)
{
	auto_free char *copy = mem_strdup(script);
	char *rest = copy, *line;

	rt_fake_reset();
	w.base = loop_base_new();
	w.st = store_fake_new(w.base);
	w.fault = fault;
	w.line = 0;
	conf.start.no_default_pools = true;
	strcpy(ip, "10.130.29.80/24");
	strcpy(ip_method, "first-found");
	ip6[0] = '\0';
	pool4_cidr[0] = '\0';
	rt_fake_fail_nth(0, 0);
	if (fault.where && fault.where[0] == 'k')
		rt_fake_fail_nth(fault.n, fault.r);
	else if (fault.where && fault.where[0] == 's')
		store_fake_fail_nth(w.st, fault.n, fault.r);
	else if (fault.where)
		store_fake_lose_nth(w.st, fault.n);
	while ((line = strsep(&rest, "\n"))) {
		w.line++;
		line += strspn(line, " \t");
		if (*line && *line != '#')
			execute(line);
	}
	*kernel = rt_fake_calls();
	*store = store_fake_op_count(w.st);
	if (w.agent)
		kill_agent();
	store_close(w.st);
	event_base_free(w.base);
}

int main(int argc, char **argv)
{
	static const int kernel_errors[] = {-ENOBUFS, -EBUSY, -ETIMEDOUT};
	static const int store_errors[] = {-EHOSTUNREACH, -ETIMEDOUT};
	unsigned kernel, store, k, s, runs = 1;
	auto_free char *script = NULL;
	struct err err = ERR_INIT;

	if (argc != 2) {
		fprintf(stderr, "usage: %s FILE.scn\n", argv[0]);
		return 2;
	}
	w.file = argv[1];
	log_set_level(getenv("SCN_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	conf.sysctl_root = test_dir();
	auto_free char *dir = mem_printf("%s/net/ipv4", conf.sysctl_root);
	auto_free char *path = mem_printf("%s/ip_forward", dir);

	if (file_read(argv[1], 1 << 20, &script, NULL, &err) < 0 ||
		file_mkdirs(dir, 0755, &err) < 0 ||
		file_write_atomic(path, "0\n", 2, 0644, &err) < 0)
		fail("%s", err_text(&err));
	run(script, (struct fault){0}, &kernel, &store);
	for (size_t e = 0; e < array_size(kernel_errors); e++)
		for (unsigned n = 1; n <= kernel; n++, runs++)
			run(script, (struct fault){"kernel", n, kernel_errors[e]}, &k, &s);
	for (size_t e = 0; e < array_size(store_errors); e++)
		for (unsigned n = 1; n <= store; n++, runs++)
			run(script, (struct fault){"store", n, store_errors[e]}, &k, &s);
	for (unsigned n = 1; n <= store; n++, runs++)
		run(script, (struct fault){"answer", n, -ETIMEDOUT}, &k, &s);
	printf("%s: %u runs, %u calls of the kernel, %u of the datastore\n", argv[1], runs, kernel,
		store);
	return 0;
}
