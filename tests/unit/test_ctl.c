/* SPDX-License-Identifier: GPL-2.0-or-later */
/* margayctl's parts: YAML both ways, tables, and what is counted and shown in them. */
#include <check.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "ctl/check.h"
#include "ctl/columns.h"
#include "ctl/ctl.h"
#include "ctl/docs.h"
#include "ctl/ipam.h"
#include "ctl/node.h"
#include "ctl/resources.h"
#include "ctl/table.h"
#include "ctl/usage.h"
#include "fake/store_fake.h"
#include "model/ipam.h"
#include "model/json.h"
#include "model/key.h"
#include "model/yaml.h"
#include "net/ip.h"
#include "store/store.h"
#include "store/svcalloc.h"
#include "svc/bird.h"

/* What fn prints. */
static char *printed;
static size_t printed_len;
static FILE *out;

static void begin(void)
{
	out = open_memstream(&printed, &printed_len);
}

static const char *end(void)
{
	fclose(out);
	return printed;
}

static char *compact(const json_t *j)
{
	return json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
}

/* YAML, and the documents in it as "line:JSON" or "!message". */
static const struct {
	const char *yaml;
	const char *docs[5];
} loads[] = {
	{"", {NULL}},
	{"# nothing\n---\n---\n# here\n", {NULL}},
	{"a: 1\n", {"1:{\"a\":1}"}},
	{"# c\n\na: {b: [x, \"y\", 'z']}\n", {"3:{\"a\":{\"b\":[\"x\",\"y\",\"z\"]}}"}},
	{"a: 1\n---\nb: 2\n--- # third\nc: 3\n...\n",
		{"1:{\"a\":1}", "3:{\"b\":2}", "5:{\"c\":3}"}},
	{"%YAML 1.1\n---\na: 1\n", {"3:{\"a\":1}"}},
	{"a: ~\nb: null\nc:\nd: true\ne: False\nf: -7\ng: 1.5\nh: '7'\n",
		{"1:{\"a\":null,\"b\":null,\"c\":null,\"d\":true,\"e\":false,\"f\":-7,\"g\":1.5,"
		 "\"h\":\"7\"}"}},
	{"a: yes\nb: on\nc: 0123\nd: 10.0.0.1\ne: 10.0.0.0/8\nf: 99999999999999999999\ng: 1e\nh: a-\n",
		{"1:{\"a\":\"yes\",\"b\":\"on\",\"c\":\"0123\",\"d\":\"10.0.0.1\",\"e\":\"10.0.0.0/8\","
		 "\"f\":\"99999999999999999999\",\"g\":\"1e\",\"h\":\"a-\"}"}},
	{"a: |\n  x\n  y\nb: >-\n  x\n  y\n", {"1:{\"a\":\"x\\ny\\n\",\"b\":\"x y\"}"}},
	{"a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}\nf: {<<: *x, b: 3}\n",
		{"1:{\"a\":{\"b\":1},\"c\":{\"b\":1},\"d\":{\"b\":1,\"e\":2},\"f\":{\"b\":3}}",
			NULL}},
	{"a: &x {b: 1}\nc: &y {b: 2, d: 2}\ne: {<<: [*x, *y], f: 3}\n",
		{"1:{\"a\":{\"b\":1},\"c\":{\"b\":2,\"d\":2},\"e\":{\"b\":1,\"d\":2,\"f\":3}}"}},
	{"a: {\"<<\": {b: 1}}\n", {"1:{\"a\":{\"<<\":{\"b\":1}}}"}},
	{"a:\n  <<: 7\n", {"!line 2, column 3: \"<<\" of what is no mapping"}},
	{"a:\n  <<: [{}, 7]\n", {"!line 2, column 3: \"<<\" of what is no mapping"}},
	{"a: &x 1\nb: &x 2\nc: *x\n", {"1:{\"a\":1,\"b\":2,\"c\":2}"}},
	{"[{a: 1},\n {b: 2}]\n", {"1:{\"a\":1}", "2:{\"b\":2}"}},
	{"kind: FooList\nitems:\n- a: 1\n- b: 2\n", {"3:{\"a\":1}", "4:{\"b\":2}"}},
	{"{\"a\": \"\\ud83d\\ude00\\/\"}", {"1:{\"a\":\"\xf0\x9f\x98\x80/\"}"}},
	{"a: 1\na: 2\n", {"!line 2, column 1: key \"a\" stands twice"}},
	{"a: [1\n---\nb: 2\n",
		{"!line 2, column 1: did not find expected ',' or ']'", "3:{\"b\":2}"}},
	{"a: 1\n---\n\tb: 2\n",
		{"1:{\"a\":1}", "!line 3, column 1: found character that cannot start"}},
	{"a: *b\n", {"!line 1, column 4: an alias of no anchor before it"}},
	{"a: &a [*a]\n", {"!line 1, column 8: an alias of no anchor before it"}},
	{"? [a]\n: b\n", {"!line 1, column 3: a key that is no text"}},
	{"foo\n", {"!line 1: want a resource"}},
	{"- a: 1\n- 2\n", {"1:{\"a\":1}", "!line 1: element 1: want a resource"}},
	{"a: \"\\0\"\n", {"!line 1, column 4: a text with a NUL in it"}},
	{"\"a\\0b\": 1\n", {"!line 1, column 1: a key with a NUL in it"}},
};

START_TEST(yaml_is_loaded)
{
	for (size_t i = 0; i < array_size(loads); i++) {
		struct yaml_docs docs = {0};
		size_t n = 0;

		yaml_load(loads[i].yaml, strlen(loads[i].yaml), &docs);
		while (n < array_size(loads[i].docs) && loads[i].docs[n])
			n++;
		ck_assert_msg(
			docs.v.n == n, "%s: %zu documents, want %zu", loads[i].yaml, docs.v.n, n);
		for (size_t k = 0; k < n; k++) {
			const struct yaml_doc *d = &docs.v.v[k];
			const char *want = loads[i].docs[k];

			if (*want == '!') {
				ck_assert_msg(
					d->err && strncmp(d->err, want + 1, strlen(want + 1)) == 0,
					"%s: got %s, want %s", loads[i].yaml, d->err, want);
			} else {
				auto_free char *json = compact(d->j);
				auto_free char *got = mem_printf("%u:%s", d->line, json);

				ck_assert_msg(!d->err, "%s: %s", loads[i].yaml, d->err);
				ck_assert_str_eq(got, want);
			}
		}
		yaml_docs_done(&docs);
	}
}
END_TEST

static void check_refused(const char *text, const char *want)
{
	struct yaml_docs docs = {0};

	yaml_load(text, strlen(text), &docs);
	ck_assert_uint_eq(docs.v.n, 1);
	ck_assert_ptr_null(docs.v.v[0].j);
	ck_assert_msg(strstr(docs.v.v[0].err, want), "%s", docs.v.v[0].err);
	yaml_docs_done(&docs);
}

START_TEST(yaml_is_bounded)
{
	auto_strbuf sb = STRBUF_INIT;

	/* A billion laughs. */
	strbuf_add(&sb, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
	for (int i = 1; i < 10; i++) {
		strbuf_addf(&sb, "a%d: &a%d [", i, i);
		for (int k = 0; k < 10; k++)
			strbuf_addf(&sb, "*a%d,", i - 1);
		strbuf_add(&sb, "]\n");
	}
	check_refused(sb.s, "aliases expand to too much");
	strbuf_reset(&sb);
	strbuf_add(&sb, "a: ");
	for (int i = 0; i < 100; i++)
		strbuf_addc(&sb, '[');
	check_refused(sb.s, "nested too deep");
	strbuf_reset(&sb);
	strbuf_add(&sb, "a: [");
	for (int i = 0; i < YAML_NODES_MAX; i++)
		strbuf_add(&sb, "x,");
	strbuf_add(&sb, "]");
	check_refused(sb.s, "too many values");
}
END_TEST

static size_t n_allocated;

static void *allocate(size_t size)
{
	n_allocated += size;
	return malloc(size);
}

/* Anchors within anchors keep nothing twice. */
START_TEST(an_anchor_is_no_copy)
{
	size_t bytes[2];

	json_set_alloc_funcs(allocate, free);
	for (int anchors = 0; anchors < 2; anchors++) {
		auto_strbuf sb = STRBUF_INIT;
		struct yaml_docs docs = {0};

		strbuf_add(&sb, "a: ");
		for (int i = 0; i < 20; i++)
			strbuf_addf(&sb, anchors ? "&a%d [" : "[", i);
		for (int i = 0; i < 10000; i++)
			strbuf_add(&sb, "x,");
		for (int i = 0; i < 20; i++)
			strbuf_addc(&sb, ']');
		n_allocated = 0;
		yaml_load(sb.s, sb.len, &docs);
		bytes[anchors] = n_allocated;
		ck_assert_uint_eq(docs.v.n, 1);
		ck_assert_ptr_nonnull(docs.v.v[0].j);
		yaml_docs_done(&docs);
	}
	ck_assert_uint_gt(bytes[0], 0);
	ck_assert_uint_eq(bytes[0], bytes[1]);
}
END_TEST

START_TEST(yaml_is_dumped)
{
	static const char json[] =
		"{\"b\":[{\"y\":1,\"x\":\"all()\"},[],{}],\"a\":\"10.0.0.0/8\",\"n\":null,\"t\":true,"
		"\"s1\":\"true\",\"s2\":\"7\",\"s3\":\"yes\",\"s4\":\"\",\"s5\":\"0123\",\"s6\":\"a: b\","
		"\"s7\":\"# x\",\"s8\":\"two\\nlines\\n\",\"s9\":\"2026-08-01T12:00:00Z\",\"u\":\"\xc3\xa9\"}";
	static const char want[] = "a: 10.0.0.0/8\n"
				   "b:\n"
				   "- x: all()\n"
				   "  \"y\": 1\n"
				   "- []\n"
				   "- {}\n"
				   "\"n\": null\n"
				   "s1: \"true\"\n"
				   "s2: \"7\"\n"
				   "s3: \"yes\"\n"
				   "s4: \"\"\n"
				   "s5: \"0123\"\n"
				   "s6: 'a: b'\n"
				   "s7: '# x'\n"
				   "s8: |\n"
				   "  two\n"
				   "  lines\n"
				   "s9: \"2026-08-01T12:00:00Z\"\n"
				   "t: true\n"
				   "u: \xc3\xa9\n";
	json_t *j = json_loads(json, 0, NULL);
	char *text = yaml_dump(j);
	struct yaml_docs docs = {0};

	ck_assert_str_eq(text, want);
	yaml_load(text, strlen(text), &docs);
	ck_assert_uint_eq(docs.v.n, 1);
	ck_assert(json_equal(docs.v.v[0].j, j));
	yaml_docs_done(&docs);
	free(text);
	json_decref(j);
}
END_TEST

/* Texts that another reader would take for something else stand in quotes, and no others. */
START_TEST(yaml_quotes_what_is_misread)
{
	static const char *const quoted[] = {"0x1f", "0X1F", "-0x1f", "0b101", "0o17", "017",
		"-017", "1_000", "+1_0.5", "1:20", "-1:20", "190:20:30.15", "1e3", "1.5E-3", ".5",
		"5.", ".inf", "-.INF", ".NaN", "2026-08-01", "2026-8-1", "=", "<<", "Yes", "OFF",
		"y", "~", "Null", "99999999999999999999"};
	static const char *const plain[] = {"10.0.0.1", "10.0.0.0/8", "1.2.3", "v1", "0xyz", "1e",
		"e3", "_", "1-2", "2026-08", "20260-08-01", "fe80::1", "inf", "nan", ".info",
		"yess", "x=", "-a", "1.5Gi", "100m"};

	for (size_t i = 0; i < array_size(quoted) + array_size(plain); i++) {
		bool quote = i < array_size(quoted);
		const char *s = quote ? quoted[i] : plain[i - array_size(quoted)];
		auto_free char *want = mem_printf(quote ? "a: \"%s\"\n" : "a: %s\n", s);
		json_t *j = json_pack("{s:s}", "a", s);
		auto_free char *text = yaml_dump(j);

		ck_assert_str_eq(text, want);
		json_decref(j);
	}
}
END_TEST

/* Whatever text a member has, it comes back from YAML as the same text. */
START_TEST(yaml_round_trips_any_text)
{
	static const char *const pieces[] = {"a", " ", ":", "#", "-", "\n", "'", "\"", "\\", "{",
		"}", "[", "]", ",", "&", "*", "!", "|", ">", "%", "@", "`", "~", "0", "1", ".", "e",
		"\t", "\xc3\xa9", "true", "no", "?", "=", "<<"};
	unsigned seed = (unsigned)getpid();

	printf("seed %u\n", seed);
	srandom(seed);
	for (int round = 0; round < 20000; round++) {
		auto_strbuf sb = STRBUF_INIT;
		struct yaml_docs docs = {0};
		int n = (int)(random() % 6);
		json_t *j = json_object();
		char *text;

		strbuf_add(&sb, "");
		for (int i = 0; i < n; i++)
			strbuf_add(&sb, pieces[(size_t)random() % array_size(pieces)]);
		json_object_set_new(j, "k", json_string(strbuf_str(&sb)));
		json_object_set_new(j, n > 0 ? sb.s : "empty", json_integer(1));
		text = yaml_dump(j);
		yaml_load(text, strlen(text), &docs);
		ck_assert_msg(
			docs.v.n == 1 && docs.v.v[0].j && json_equal(docs.v.v[0].j, j), "%s", text);
		yaml_docs_done(&docs);
		free(text);
		json_decref(j);
	}
}
END_TEST

START_TEST(tables)
{
	static const bool right[] = {false, true};
	struct table t;

	table_init(&t, 2);
	table_add(&t, "NAME");
	table_add(&t, "N");
	table_add(&t, "a-longer-name");
	table_addf(&t, "%d", 12);
	table_add(&t, "\xc3\xa9");
	table_add(&t, "");
	begin();
	table_print_columns(&t, out);
	ck_assert_str_eq(end(), "NAME            N    \n"
				"a-longer-name   12   \n"
				"\xc3\xa9                    \n"
				"\n");
	free(printed);
	begin();
	table_print_box(&t, right, out);
	ck_assert_str_eq(end(), "+---------------+----+\n"
				"| NAME          | N  |\n"
				"+---------------+----+\n"
				"| a-longer-name | 12 |\n"
				"| \xc3\xa9             |    |\n"
				"+---------------+----+\n");
	free(printed);
	table_done(&t);
}
END_TEST

START_TEST(rows_of_kinds)
{
	static const struct {
		enum kind kind;
		bool wide;
		const char *name, *json, *want;
	} t[] = {
		{KIND_NODE, true, "a", "{\"spec\":{\"bgp\":{\"ipv4Address\":\"10.0.0.1/24\"}}}",
			"NAME   ASN       IPV4          IPV6   \na      (64512)   10.0.0.1/24          \n\n"},
		{KIND_IPPOOL, false, "p", "{\"spec\":{\"cidr\":\"10.0.0.0/8\"}}",
			"NAME   CIDR         SELECTOR   \np      10.0.0.0/8   all()      \n\n"},
		{KIND_BGPPEER, false, "p", "{\"spec\":{\"peerIP\":\"10.0.0.1\",\"asNumber\":1}}",
			"NAME   PEERIP     NODE       ASN   \np      10.0.0.1   (global)   1     \n\n"},
		{KIND_BGPCONFIGURATION, false, "default",
			"{\"spec\":{\"nodeToNodeMeshEnabled\":false}}",
			"NAME      LOGSEVERITY   MESHENABLED   ASNUMBER   \n"
			"default   -             false         -          \n\n"},
		{KIND_WORKLOADENDPOINT, false, "n-k8s-p-eth0",
			"{\"spec\":{\"pod\":\"p\",\"node\":\"n\",\"ipNetworks\":[\"10.0.0.1/32\"],"
			"\"interfaceName\":\"cali1\"}}",
			"WORKLOAD   NODE   NETWORKS      INTERFACE   \n"
			"p          n      10.0.0.1/32   cali1       \n\n"},
		{KIND_SERVICE, false, "s",
			"{\"spec\":{\"type\":\"NodePort\",\"clusterIP\":\"10.96.0.1\",\"ports\":[{\"port\":80,"
			"\"nodePort\":30000},{\"port\":53,\"protocol\":\"UDP\"}]}}",
			"NAME   TYPE       CLUSTER-IP   EXTERNAL-IP   PORT(S)               \n"
			"s      NodePort   10.96.0.1    <none>        80:30000/TCP,53/UDP   \n\n"},
		{KIND_ENDPOINTSLICE, false, "s",
			"{\"addressType\":\"IPv4\",\"ports\":[{\"port\":80}],\"endpoints\":["
			"{\"addresses\":[\"10.0.0.1\"]},{\"addresses\":[\"10.0.0.2\"]},"
			"{\"addresses\":[\"10.0.0.3\"]},{\"addresses\":[\"10.0.0.4\"]}]}",
			"NAME   ADDRESSTYPE   PORTS   ENDPOINTS                           \n"
			"s      IPv4          80      10.0.0.1,10.0.0.2,10.0.0.3 + 1 more   \n\n"},
		{KIND_IPAMCONFIGURATION, true, "default", "{\"spec\":{\"strictAffinity\":true}}",
			"NAME      STRICTAFFINITY   AUTOALLOCATEBLOCKS   MAXBLOCKSPERHOST   \n"
			"default   true             <nil>                <nil>              \n\n"},
		{KIND_CLUSTERINFORMATION, false, "default", "{\"spec\":{\"datastoreReady\":true}}",
			"NAME      CLUSTERGUID   CLUSTERTYPE   CALICOVERSION   DATASTOREREADY   \n"
			"default                                               true             \n\n"},
		{KIND_FELIXCONFIGURATION, false, "default", "{}", "NAME      \ndefault   \n\n"},
	};

	for (size_t i = 0; i < array_size(t); i++) {
		struct columns c = {.kind = t[i].kind, .wide = t[i].wide, .cluster_as = 64512};
		const char *key = key_str(t[i].kind, "default", t[i].name);
		struct err err = ERR_INIT;
		struct table table;

		columns_begin(&table, &c);
		ck_assert_msg(columns_add(&table, &c, key, t[i].json, strlen(t[i].json), &err) == 0,
			"%s", err.text);
		/* What cannot be read leaves no half a row. */
		if (t[i].kind != KIND_FELIXCONFIGURATION && t[i].kind != KIND_IPAMCONFIGURATION)
			ck_assert_int_eq(
				columns_add(&table, &c, key, "{\"spec\":[]}", 11, &err), -EINVAL);
		begin();
		table_print_columns(&table, out);
		if (t[i].kind != KIND_ENDPOINTSLICE)
			ck_assert_str_eq(end(), t[i].want);
		else
			ck_assert_ptr_nonnull(strstr(end(), "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more"));
		free(printed);
		table_done(&table);
	}
}
END_TEST

START_TEST(sessions)
{
	static const char reply[] =
		"2002-Name       Proto      Table      State  Since         Info\n"
		"1002-device1    Device     ---        up     10:00:00\n"
		" kernel1    Kernel     master4    up     10:00:00\n"
		" Mesh_10_130_29_81 BGP        ---        up     09:15:22.1    Established   \n"
		" Node_10_130_29_1 BGP        ---        start  09:15:20      Connect       \n"
		" Global_10_0_0_1_port_1790 BGP ---       start  09:15:20      Active        Socket: Connection refused\n"
		" Global_fd00__1 BGP        ---        up     09:15:20      Established   \n"
		" other_10_0_0_9 BGP        ---        up     09:15:20      Established   \n"
		"0000 \n";
	struct bird_parser p = BIRD_PARSER_INIT;
	struct bird_reply r = {0};
	struct bird_protocols ps = {0};
	struct err err = ERR_INIT;
	struct table t;
	size_t used;

	ck_assert_int_eq(bird_parser_feed(&p, reply, strlen(reply), &used, &r, &err), 1);
	ck_assert_msg(bird_protocols_parse(&r, &ps, &err) == 0, "%s", err.text);
	node_add_sessions(&t, &ps, IP_V4);
	begin();
	table_print_box(&t, NULL, out);
	ck_assert_str_eq(end(),
		"+---------------+-------------------+-------+------------+-----------------------------------+\n"
		"| PEER ADDRESS  | PEER TYPE         | STATE | SINCE      | INFO                              |\n"
		"+---------------+-------------------+-------+------------+-----------------------------------+\n"
		"| 10.130.29.81  | node-to-node mesh | up    | 09:15:22.1 | Established                       |\n"
		"| 10.130.29.1   | node specific     | start | 09:15:20   | Connect                           |\n"
		"| 10.0.0.1:1790 | global            | start | 09:15:20   | Active Socket: Connection refused |\n"
		"+---------------+-------------------+-------+------------+-----------------------------------+\n");
	free(printed);
	table_done(&t);
	node_add_sessions(&t, &ps, IP_V6);
	ck_assert_uint_eq(table_rows(&t), 2);
	ck_assert_str_eq(t.cells.v[5], "fd00::1");
	table_done(&t);
	bird_protocols_done(&ps);
	bird_reply_done(&r);
	bird_parser_done(&p);
}
END_TEST

static void add_usage(struct usage *u, const char *key, const char *value)
{
	struct err err = ERR_INIT;

	ck_assert_msg(usage_add(u, key, value, strlen(value), &err) == 0, "%s", err.text);
}

START_TEST(usage)
{
	struct usage u = {0};
	char key[IPAM_KEY_SIZE];
	struct prefix cidr;
	struct ipam_block *b;
	struct ipam_block_attr attr = {.handle = mem_strdup("h")};
	struct ip ip;
	char *text;

	add_usage(&u, key_str(KIND_IPPOOL, NULL, "a"), "{\"spec\":{\"cidr\":\"10.244.0.0/16\"}}");
	add_usage(&u, key_str(KIND_IPPOOL, NULL, "b"), "{\"spec\":{\"cidr\":\"fd00::/48\"}}");
	/* The second lies in the first, and is not counted again. */
	add_usage(&u, key_str(KIND_IPRESERVATION, NULL, "r"),
		"{\"spec\":{\"reservedCIDRs\":[\"10.244.0.0/30\",\"10.244.0.1/32\",\"10.9.0.0/16\"]}}");
	ck_assert_int_eq(prefix_parse("10.244.0.0/26", &cidr, NULL), 0);
	b = ipam_block_new(&cidr);
	vec_push(&attr.secondary, (struct ipam_kv){mem_strdup("pod"), mem_strdup("web-0")});
	vec_push(&b->attrs, attr);
	/* The first address was taken before it was reserved. */
	b->alloc[0] = 0;
	b->alloc[63] = 0;
	b->free.n = 0;
	for (uint32_t i = 1; i < 63; i++)
		vec_push(&b->free, i);
	text = ipam_block_encode(b);
	add_usage(&u, ipam_key_block(&cidr, key), text);
	begin();
	usage_print(&u, true, out);
	ck_assert_str_eq(end(),
		"+----------+---------------+------------+------------+--------------+-------------------+\n"
		"| GROUPING | CIDR          | IPS TOTAL  | IPS IN USE | IPS RESERVED | IPS FREE          |\n"
		"+----------+---------------+------------+------------+--------------+-------------------+\n"
		"| IP Pool  | 10.244.0.0/16 |      65536 |     2 (0%) |       3 (0%) |      65531 (100%) |\n"
		"| Block    | 10.244.0.0/26 |         64 |     2 (3%) |       3 (5%) |          59 (92%) |\n"
		"| IP Pool  | fd00::/48     | 1.2089e+24 |     0 (0%) |       0 (0%) | 1.2089e+24 (100%) |\n"
		"+----------+---------------+------------+------------+--------------+-------------------+\n");
	free(printed);
	begin();
	ck_assert_int_eq(ip_parse("10.244.0.63", &ip, NULL), 0);
	ck_assert(usage_print_ip(b, &ip, out));
	ck_assert_int_eq(ip_parse("10.244.0.5", &ip, NULL), 0);
	ck_assert(!usage_print_ip(b, &ip, out));
	ck_assert_str_eq(end(), "IP 10.244.0.63 is in use\nHandle ID: h\nActive Owner Attributes:\n"
				"  pod: web-0\n");
	free(printed);
	free(text);
	ipam_block_free(b);
	usage_done(&u);
}
END_TEST

#define SERVICE_A                                                                                 \
	"{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"a\",\"namespace\":" \
	"\"default\"},\"spec\":{\"clusterIP\":\"10.96.0.10\",\"ports\":[{\"port\":80}]}}"

static int write_text(struct store *st, enum write_mode mode, const char *text, struct err *err)
{
	auto_(json) json_t *j = model_json_load("a", text, strlen(text), NULL);
	struct svcalloc_conf conf;
	struct key key;

	ck_assert_int_eq(svcalloc_parse_ranges(SVCALLOC_RANGES, &conf, NULL), 0);
	ck_assert_int_eq(svcalloc_parse_ports(SVCALLOC_NODE_PORTS, &conf, NULL), 0);
	*err = ERR_INIT;
	return resources_write(st, &conf, mode, j, NULL, &key, err);
}

static int write_a(struct store *st, enum write_mode mode, struct err *err)
{
	return write_text(st, mode, SERVICE_A, err);
}

/* What another Service has it will have a moment later, too; and it is not this one that exists. */
START_TEST(a_clash_is_final)
{
	static const enum write_mode modes[] = {WRITE_CREATE, WRITE_APPLY};
	const char *theirs =
		"{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"b\","
		"\"namespace\":\"default\"},\"spec\":{\"type\":\"ClusterIP\",\"clusterIP\":"
		"\"10.96.0.10\",\"ports\":[{\"port\":80}]}}";
	struct store *st = store_fake_new(NULL);
	unsigned n_ops[array_size(modes)];
	struct err err;

	store_fake_put(st, "/margay/v1/services/default/b", theirs);
	store_fake_put(st, "/margay/v1/serviceips/10.96.0.10",
		"{\"service\":\"default/b\",\"time\":1795573000,\"id\":7}");
	for (size_t i = 0; i < array_size(modes); i++) {
		unsigned before = store_fake_op_count(st);

		ck_assert_int_eq(write_a(st, modes[i], &err), -EINVAL);
		ck_assert_ptr_nonnull(strstr(err.text,
			"Service default/a: clusterIP 10.96.0.10 belongs to Service default/b"));
		n_ops[i] = store_fake_op_count(st) - before;
	}
	ck_assert_uint_eq(n_ops[0], n_ops[1]);
	store_close(st);
}
END_TEST

/* Another is about to create the same Service: whatever fails here, what it has claimed is its own. */
START_TEST(others_claims_stay)
{
	const char *key = "/margay/v1/serviceips/10.96.0.10";
	auto_free char *theirs = mem_printf("{\"service\":\"default/a\",\"time\":%lld}",
		(long long)(clock_real_ns() / 1000000000));
	struct store *st = store_fake_new(NULL);
	unsigned n_ops = 1, n_failed = 0; /* n_ops: of one that succeeds */
	struct err err;

	store_fake_put(st, key, theirs);
	for (unsigned n = 1; n <= n_ops; n++) {
		unsigned before = store_fake_op_count(st);
		int r;

		store_fake_fail_nth(st, n, -EEXIST);
		r = write_a(st, WRITE_CREATE, &err);
		store_fake_fail_nth(st, 0, 0);
		n_ops = r < 0 ? n + 1 : store_fake_op_count(st) - before;
		n_failed += r < 0;
		ck_assert_msg(r == 0 || r == -EEXIST || r == -EINVAL, "%s", err.text);
		ck_assert_msg(store_fake_value(st, key), "its operation %u failed", n);
		ck_assert_str_eq(store_fake_value(st, key), theirs);
		store_fake_put(st, "/margay/v1/services/default/a", NULL);
	}
	ck_assert_uint_ge(n_failed, 3);
	store_close(st);
}
END_TEST

#define POOLS "/calico/resources/v3/projectcalico.org/ippools/"
#define POOL_TEXT(name, spec)                                                        \
	"{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":" \
	"{\"name\":\"" name "\"},\"spec\":{" spec "}}"

struct overtaker {
	struct store *st;
	bool seen; /* the pool of the other */
};

static void store_theirs(void *arg)
{
	struct overtaker *o = arg;

	o->seen = store_fake_value(o->st, POOLS "ours") != NULL;
	store_fake_put(o->st, POOLS "theirs",
		POOL_TEXT("theirs", "\"cidr\":\"10.1.0.0/17\",\"disabled\":true"));
}

/* Whenever another stores its own: one of the two sees the other, before it is enabled. */
START_TEST(pools_that_are_made_at_once_do_not_overlap)
{
	unsigned n_ops = 1, n_made = 0;
	struct err err;

	for (unsigned n = 1; n <= n_ops; n++) {
		struct store *st = store_fake_new(NULL);
		struct overtaker o = {.st = st};
		int r;

		store_fake_call_nth(st, n, store_theirs, &o);
		r = write_text(
			st, WRITE_APPLY, POOL_TEXT("ours", "\"cidr\":\"10.1.0.0/16\""), &err);
		n_ops = r < 0 ? n + 1 : store_fake_op_count(st);
		n_made += r == 0;
		ck_assert_msg(r < 0 || o.seen || !store_fake_value(st, POOLS "theirs"),
			"operation %u: neither has seen the other", n);
		if (r < 0) {
			ck_assert_ptr_nonnull(
				strstr(err.text, "want no overlap with IPPool theirs"));
			ck_assert_ptr_null(store_fake_value(st, POOLS "ours"));
		} else {
			ck_assert_ptr_null(strstr(store_fake_value(st, POOLS "ours"), "disabled"));
		}
		store_close(st);
	}
	ck_assert_uint_ge(n_made, 1);
}
END_TEST

/* Wherever it stops, the pool is not there or disabled, and the next apply makes it. */
START_TEST(a_pool_that_is_half_made_is_disabled)
{
	static const char text[] = POOL_TEXT("ours", "\"cidr\":\"10.1.0.0/16\"");
	unsigned n_ops = 1, n_half = 0;
	struct err err;

	for (unsigned n = 1; n <= n_ops; n++) {
		struct store *st = store_fake_new(NULL);
		const char *value;
		int r;

		store_fake_fail_nth(st, n, -EHOSTUNREACH);
		r = write_text(st, WRITE_APPLY, text, &err);
		store_fake_fail_nth(st, 0, 0);
		value = store_fake_value(st, POOLS "ours");
		n_ops = r < 0 ? n + 1 : store_fake_op_count(st);
		n_half += r < 0 && value;
		ck_assert(r == 0 || !value || strstr(value, "\"disabled\":true"));
		ck_assert_int_eq(write_text(st, WRITE_APPLY, text, &err), 0);
		ck_assert_ptr_null(strstr(store_fake_value(st, POOLS "ours"), "disabled"));
		store_close(st);
	}
	ck_assert_uint_ge(n_half, 1);
}
END_TEST

/* Which create goes on with, and whose mark no other writer keeps. */
START_TEST(a_pool_that_is_half_made_is_gone_on_with)
{
	static const char text[] = POOL_TEXT("ours", "\"cidr\":\"10.1.0.0/16\""),
			  half[] = "{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\","
				   "\"metadata\":{\"name\":\"ours\",\"annotations\":"
				   "{\"margay/unchecked\":\"margayctl\"}},"
				   "\"spec\":{\"cidr\":\"10.1.0.0/16\",\"disabled\":true}}";
	struct store *st = store_fake_new(NULL);
	struct err err;

	store_fake_put(st, POOLS "ours", half);
	ck_assert_msg(write_text(st, WRITE_CREATE, text, &err) == 0, "%s", err.text);
	ck_assert_ptr_null(strstr(store_fake_value(st, POOLS "ours"), "disabled"));
	ck_assert_ptr_null(strstr(store_fake_value(st, POOLS "ours"), "unchecked"));
	ck_assert_int_eq(write_text(st, WRITE_CREATE, text, &err), -EEXIST);
	/* As from get, with everything in it. */
	store_fake_put(st, POOLS "ours", half);
	ck_assert_int_eq(write_text(st, WRITE_APPLY, half, &err), 0);
	ck_assert_ptr_nonnull(strstr(store_fake_value(st, POOLS "ours"), "\"disabled\":true"));
	ck_assert_ptr_null(strstr(store_fake_value(st, POOLS "ours"), "unchecked"));
	store_close(st);
}
END_TEST

static void enable_ours(void *arg)
{
	struct store *st = arg;

	if (store_fake_value(st, POOLS "ours"))
		store_fake_put(st, POOLS "ours", POOL_TEXT("ours", "\"cidr\":\"10.1.0.0/16\""));
}

/* Two that create the same: one has made it, and to the other it exists. */
START_TEST(a_pool_that_another_has_gone_on_with_exists)
{
	static const char text[] = POOL_TEXT("ours", "\"cidr\":\"10.1.0.0/16\"");
	unsigned n_ops = 1, n_exists = 0;
	struct err err;

	for (unsigned n = 1; n <= n_ops; n++) {
		struct store *st = store_fake_new(NULL);
		int r;

		store_fake_call_nth(st, n, enable_ours, st);
		r = write_text(st, WRITE_CREATE, text, &err);
		n_ops = r < 0 ? n + 1 : store_fake_op_count(st);
		n_exists += r == -EEXIST;
		ck_assert_msg(r == 0 || r == -EEXIST, "%d: %s", r, err.text);
		ck_assert_ptr_null(strstr(store_fake_value(st, POOLS "ours"), "disabled"));
		store_close(st);
	}
	ck_assert_uint_ge(n_exists, 1);
}
END_TEST

START_TEST(a_pool_that_cannot_be_read_may_overlap)
{
	static const char on[] = POOL_TEXT("ours", "\"cidr\":\"10.1.0.0/16\""),
			  off[] = POOL_TEXT("ours", "\"cidr\":\"10.1.0.0/16\",\"disabled\":true");
	struct store *st = store_fake_new(NULL);
	struct err err;

	store_fake_put(st, POOLS "bad", "{\"spec\":{\"cidr\":7}}");
	ck_assert_int_eq(write_text(st, WRITE_APPLY, on, &err), -EINVAL);
	ck_assert_msg(
		strstr(err.text, "IPPool ours: it may overlap " POOLS
				 "bad, which cannot be decoded: apply that anew, or delete it ("),
		"%s", err.text);
	/* It is in nobody's way but of what is to be enabled. */
	store_fake_put(st, POOLS "ours", on);
	ck_assert_int_eq(write_text(st, WRITE_APPLY, on, &err), 0);
	ck_assert_int_eq(write_text(st, WRITE_APPLY, off, &err), 0);
	ck_assert_int_eq(write_text(st, WRITE_APPLY, on, &err), -EINVAL);
	ck_assert_int_eq(
		write_text(st, WRITE_APPLY, POOL_TEXT("bad", "\"cidr\":\"10.2.0.0/16\""), &err), 0);
	ck_assert_int_eq(write_text(st, WRITE_APPLY, on, &err), 0);
	store_close(st);
}
END_TEST

#define WEPS "/calico/resources/v3/projectcalico.org/workloadendpoints/default/"
#define NODES "/calico/resources/v3/projectcalico.org/nodes/"

static void put_endpoint(struct store *st, const char *node, const char *id, const char *ip)
{
	auto_free char *key = mem_printf(WEPS "%s-cni-%s-eth0", node, id);
	auto_free char *text = mem_printf("{\"spec\":{\"orchestrator\":\"cni\",\"node\":\"%s\","
					  "\"containerID\":\"%s\",\"endpoint\":\"eth0\","
					  "\"ipNetworks\":[\"%s/32\"]}}",
		node, id, ip);

	store_fake_put(st, key, text);
}

/* The endpoint of a node that is long gone says an address that is another's by now. */
START_TEST(an_address_stays_with_whom_it_was_given_to)
{
	static const char *const nodes[] = {"gone", "n2"}, *const ids[] = {"c1", "c2"};
	auto_(ipam_block) struct ipam_block *b = NULL, *left = NULL;
	struct store *st = store_fake_new(NULL);
	struct key key = {.kind = KIND_NODE, .name = "gone"};
	char block_key[IPAM_KEY_SIZE], handle_key[IPAM_KEY_SIZE];
	auto_free char *text = NULL;
	struct err err = ERR_INIT;
	struct prefix cidr;

	ck_assert_int_eq(prefix_parse("10.1.0.0/30", &cidr, NULL), 0);
	b = ipam_block_new(&cidr);
	b->free.n = 0;
	vec_push(&b->free, 2);
	vec_push(&b->free, 3);
	for (size_t i = 0; i < array_size(nodes); i++) {
		auto_free char *handle = mem_printf("net.%s", ids[i]);
		struct ipam_block_attr a = {.handle = mem_strdup(handle)};

		vec_push(&a.secondary, (struct ipam_kv){mem_strdup("node"), mem_strdup(nodes[i])});
		vec_push(&b->attrs, a);
		b->alloc[i] = (int32_t)i;
		store_fake_put(st, ipam_key_handle(handle, handle_key),
			"{\"handleID\":\"\",\"block\":{\"10.1.0.0/30\":1},\"deleted\":false}");
	}
	text = ipam_block_encode(b);
	store_fake_put(st, ipam_key_block(&cidr, block_key), text);
	store_fake_put(st, POOLS "p", POOL_TEXT("p", "\"cidr\":\"10.1.0.0/24\",\"blockSize\":30"));
	store_fake_put(st, NODES "gone",
		"{\"kind\":\"Node\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"gone\"}}");
	put_endpoint(st, "gone", "c1", "10.1.0.0");
	put_endpoint(st, "gone", "old", "10.1.0.1");
	put_endpoint(st, "n2", "c2", "10.1.0.1");
	ck_assert_msg(resources_delete(st, &key, &err) == 0, "%s", err.text);
	ck_assert_ptr_null(store_fake_value(st, WEPS "gone-cni-c1-eth0"));
	ck_assert_ptr_null(store_fake_value(st, WEPS "gone-cni-old-eth0"));
	ck_assert_ptr_nonnull(store_fake_value(st, WEPS "n2-cni-c2-eth0"));
	ck_assert_ptr_null(store_fake_value(st, ipam_key_handle("net.c1", handle_key)));
	ck_assert_ptr_nonnull(store_fake_value(st, ipam_key_handle("net.c2", handle_key)));
	ck_assert_int_eq(ipam_block_decode(store_fake_value(st, block_key),
				 strlen(store_fake_value(st, block_key)), &left, NULL),
		0);
	ck_assert_int_eq(left->alloc[0], -1);
	ck_assert_int_ge(left->alloc[1], 0);
	store_close(st);
}
END_TEST

#define POD_ATTR(handle, pod, second)                                                             \
	"{\"handle_id\":\"" handle "\",\"secondary\":{\"node\":\"n1\",\"namespace\":\"default\"," \
	"\"pod\":\"" pod "\",\"timestamp\":\"2026-08-01 12:00:0" second " +0000 UTC\"}}"
#define POD_WEP(pod, container, networks)                                    \
	"{\"spec\":{\"orchestrator\":\"k8s\",\"node\":\"n1\",\"pod\":\"" pod \
	"\",\"endpoint\":\"eth0\","                                          \
	"\"containerID\":\"" container "\",\"ipNetworks\":[" networks "]}}"

/*
 * Kubernetes' pods: of one that has ended, or that starts, no address is known; of others the first interface's; of
 * what is no pod, none.
 */
START_TEST(pods_that_have_ended_hold_what_they_had)
{
	static const struct {
		const char *key, *value;
	} objects[] = {
		{IPAM_KEY_BLOCKS "ipv4/block/10.1.0.0-29",
			"{\"cidr\":\"10.1.0.0/29\",\"affinity\":null,\"allocations\":[0,1,2,3,4,5,6,7],"
			"\"unallocated\":[],\"attributes\":[" POD_ATTR("net.c0", "ended",
				"1") "," POD_ATTR("other.c1", "two", "1") "," POD_ATTR("net.old",
				"anew", "1") "," POD_ATTR("net.new", "anew",
				"2") "," POD_ATTR("net.next", "anew", "3") "," POD_ATTR("net.c5",
				"gone", "1") "," POD_ATTR("net.c1:net1", "two",
				"1") ",{\"handle_id\":\"net.c7\",\"secondary\":{\"node\":\"n1\","
				     "\"timestamp\":\"2026-08-01 12:00:01 +0000 UTC\"}}]}"},
		{NODES "n1", "{\"metadata\":{\"name\":\"n1\"}}"},
		{WEPS "n1-k8s-anew-eth0", POD_WEP("anew", "new", "\"10.1.0.3/32\"")},
		{WEPS "n1-k8s-ended-eth0", POD_WEP("ended", "c0", "")},
		{WEPS "n1-k8s-two-eth0", POD_WEP("two", "c1", "\"10.9.0.1/32\"")},
	};
	static const struct {
		const char *ip;
		bool managed;
		int kind; /* N_PROBLEM_KINDS: none */
	} cases[] = {
		{"10.1.0.0", true, N_PROBLEM_KINDS},
		{"10.1.0.1", true, N_PROBLEM_KINDS},
		{"10.1.0.2", true, PROBLEM_LEAK},
		{"10.1.0.3", true, N_PROBLEM_KINDS},
		{"10.1.0.4", true, PROBLEM_DOUBTFUL},
		{"10.1.0.5", true, PROBLEM_LEAK},
		{"10.1.0.6", true, N_PROBLEM_KINDS},
		{"10.1.0.7", true, PROBLEM_DOUBTFUL},
		{"10.1.0.0", false, PROBLEM_DOUBTFUL},
		{"10.1.0.1", false, PROBLEM_DOUBTFUL},
		{"10.1.0.2", false, PROBLEM_LEAK},
		{"10.1.0.5", false, PROBLEM_DOUBTFUL},
		{"10.1.0.6", false, PROBLEM_DOUBTFUL},
		{"10.1.0.7", false, PROBLEM_DOUBTFUL},
	};
	struct store_kv kvs[array_size(objects)];

	for (size_t i = 0; i < array_size(objects); i++)
		kvs[i] = (struct store_kv){.key = (char *)(uintptr_t)objects[i].key,
			.value = (char *)(uintptr_t)objects[i].value,
			.len = strlen(objects[i].value),
			.rev = 1};
	for (size_t i = 0; i < array_size(cases); i++) {
		int kind = N_PROBLEM_KINDS;
		struct problem *p;
		struct check c;
		struct ip ip;

		ck_assert_int_eq(ip_parse(cases[i].ip, &ip, NULL), 0);
		check_ipam(kvs, array_size(kvs), cases[i].managed, &c);
		ck_assert_uint_eq(c.n_addresses, 8);
		ck_assert_uint_eq(check_count(&c, PROBLEM_UNREADABLE), 0);
		vec_for_each (&c.problems, p)
			if (ip_equal(&p->ip, &ip))
				kind = (int)p->kind;
		ck_assert_msg(kind == cases[i].kind, "%s, managed %d: got %d, want %d", cases[i].ip,
			cases[i].managed, kind, cases[i].kind);
		check_done(&c);
	}
}
END_TEST

#define GIVEN(handle, node, more) \
	"{\"handle_id\":\"" handle "\",\"secondary\":{\"node\":\"" node "\"" more "}}"
#define AT(second) ",\"timestamp\":\"2026-08-01 12:00:0" second " +0000 UTC\""
#define POD ",\"namespace\":\"default\",\"pod\":\"some\""
#define ALONE ",\"type\":\"margayIpam\""

/*
 * Of network net, endpoints have addresses of the seconds 2 and 4, and so it is with net.c3. Of network br others' stale
 * ones have.
 */
START_TEST(what_has_no_endpoint_may_be_another_plugins)
{
	static const struct {
		const char *attr;
		bool managed;
		enum problem_kind kind;
	} cases[] = {
		{GIVEN("net.c3", "n1", AT("3") POD), false, PROBLEM_LEAK},
		{GIVEN("net.c3", "n1", AT("2")), false, PROBLEM_LEAK},
		{GIVEN("net.c3:net1", "n1", AT("4") POD), false, PROBLEM_LEAK},
		{GIVEN("net.c3", "gone", AT("1") POD), false, PROBLEM_LEAK},
		{GIVEN("net.c3", "n1", AT("1") POD), true, PROBLEM_LEAK},
		{GIVEN("net.c3", "n1", AT("1") POD), false, PROBLEM_DOUBTFUL},
		{GIVEN("net.c3", "n1", AT("5") POD), false, PROBLEM_DOUBTFUL},
		{GIVEN("net.c3", "n1", POD), false, PROBLEM_DOUBTFUL},
		{GIVEN("net.c3", "n2", AT("3") POD), false, PROBLEM_DOUBTFUL},
		{GIVEN("net.br.c3", "n1", AT("3") POD), false, PROBLEM_DOUBTFUL},
		{GIVEN("br.c3", "n1", AT("3") POD), false, PROBLEM_DOUBTFUL},
		{GIVEN("c3", "n1", AT("3") POD), false, PROBLEM_DOUBTFUL},
		/* An interface more of a pod that has an endpoint: and that was given later. */
		{GIVEN("br.c2", "n1", AT("1") ",\"namespace\":\"default\",\"pod\":\"two\""), false,
			PROBLEM_DOUBTFUL},
		{GIVEN("br.old", "n1", AT("1") ",\"namespace\":\"default\",\"pod\":\"two\""), false,
			PROBLEM_LEAK},
		/* It is known to be. */
		{GIVEN("net.c3", "n1", AT("3") POD ALONE), false, PROBLEM_DOUBTFUL},
		{GIVEN("net.c3", "n1", AT("3") ALONE), false, PROBLEM_DOUBTFUL},
		{GIVEN("net.c3", "gone", AT("3") POD ALONE), false, PROBLEM_DOUBTFUL},
		{GIVEN("net.c3", "n1", AT("3") POD ALONE), true, PROBLEM_DOUBTFUL},
	};
	static const char *const objects[][2] = {
		{NODES "n1", "{\"metadata\":{\"name\":\"n1\"}}"},
		{NODES "n2", "{\"metadata\":{\"name\":\"n2\"}}"},
		{WEPS "n1-k8s-a-eth0", POD_WEP("two", "c2", "\"10.1.0.1/32\"")},
		{WEPS "n1-k8s-b-eth0", POD_WEP("four", "c4", "\"10.1.0.2/32\"")},
		{WEPS "n1-k8s-x-eth0", POD_WEP("x", "x", "\"10.1.0.3/32\"")},
		{WEPS "n1-k8s-y-eth0", POD_WEP("y", "y", "\"10.1.0.4/32\"")},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		auto_free char *block = mem_printf(
			"{\"cidr\":\"10.1.0.0/29\",\"affinity\":null,\"allocations\":[0,1,2,3,4,null,"
			"null,null],\"unallocated\":[5,6,7],\"attributes\":[%s,%s,%s,%s,%s]}",
			cases[i].attr, POD_ATTR("net.c2", "two", "2"),
			POD_ATTR("net.c4", "four", "4"), POD_ATTR("br.k2", "k2", "2"),
			POD_ATTR("br.k4", "k4", "4"));
		struct store_kv kvs[1 + array_size(objects)] = {
			{.key = (char[]){IPAM_KEY_BLOCKS "ipv4/block/10.1.0.0-29"},
				.value = block}};
		const struct ip ip = {.family = IP_V4, .b = {10, 1}};
		const struct problem *p, *found = NULL;
		struct check c;

		for (size_t k = 0; k < array_size(objects); k++) {
			kvs[k + 1].key = (char *)(uintptr_t)objects[k][0];
			kvs[k + 1].value = (char *)(uintptr_t)objects[k][1];
		}
		for (size_t k = 0; k < array_size(kvs); k++)
			kvs[k].len = strlen(kvs[k].value);
		check_ipam(kvs, array_size(kvs), cases[i].managed, &c);
		ck_assert_uint_eq(check_count(&c, PROBLEM_UNREADABLE), 0);
		vec_for_each (&c.problems, p)
			if (p->kind != PROBLEM_HANDLE_MISSING && ip_equal(&p->ip, &ip))
				found = p;
		ck_assert_msg(found && found->kind == cases[i].kind, "%s, managed %d: got %s",
			cases[i].attr, cases[i].managed, found ? found->text : "nothing");
		check_done(&c);
	}
}
END_TEST

#define OF_NODE(handle, node, type) \
	"{\"handle_id\":\"" handle "\",\"secondary\":{\"node\":\"" node "\",\"type\":\"" type "\"}}"
#define TUNNEL(node, ip)                                   \
	"{\"metadata\":{\"name\":\"" node "\"},\"spec\":{" \
	"\"bgp\":{\"ipv4IPIPTunnelAddr\":\"" ip "\"}}}"

/* Who uses an address, and whom its block gives it to. */
START_TEST(what_was_given_to_another_is_told)
{
	static const struct {
		const char *attr, *key, *value;
		const char *text; /* of what is found; NULL: nothing */
	} cases[] = {
		{POD_ATTR("net.c1", "web", "1"), WEPS "n1-k8s-web-eth0",
			POD_WEP("web", "c1", "\"10.1.0.0/32\""), NULL},
		{POD_ATTR("net.c2", "other", "1"), WEPS "n1-k8s-web-eth0",
			POD_WEP("web", "c1", "\"10.1.0.0/32\""),
			"10.1.0.0 is used by endpoint default/n1-k8s-web-eth0, and was given to handle "
			"net.c2"},
		{OF_NODE("margay-reserve-n2", "n2", "margayReserve"), WEPS "n1-k8s-web-eth0",
			POD_WEP("web", "c1", "\"10.1.0.0/32\""),
			"10.1.0.0 is used by endpoint default/n1-k8s-web-eth0, and was given to handle "
			"margay-reserve-n2"},
		{OF_NODE("ipip-tunnel-addr-n1", "n1", "ipipTunnelAddress"), WEPS "n1-k8s-web-eth0",
			POD_WEP("web", "c1", "\"10.1.0.0/32\""),
			"10.1.0.0 is used by endpoint default/n1-k8s-web-eth0, and was given to handle "
			"ipip-tunnel-addr-n1"},
		{OF_NODE("ipip-tunnel-addr-n1", "n1", "ipipTunnelAddress"), NODES "n1",
			TUNNEL("n1", "10.1.0.0"), NULL},
		{OF_NODE("ipip-tunnel-addr-n2", "n2", "ipipTunnelAddress"), NODES "n1",
			TUNNEL("n1", "10.1.0.0"),
			"10.1.0.0 is used by the tunnel of node n1, and was given to handle "
			"ipip-tunnel-addr-n2"},
		{POD_ATTR("net.c1", "web", "1"), NODES "n1", TUNNEL("n1", "10.1.0.0"),
			"10.1.0.0 is used by the tunnel of node n1, and was given to handle net.c1"},
		/* By its pod's name alone, whatever the handle is. */
		{POD_ATTR("k8s.web", "web", "1"), WEPS "n1-k8s-web-eth0",
			POD_WEP("web", "", "\"10.1.0.0/32\""), NULL},
		/* Of no pod: by the container alone. */
		{"{\"handle_id\":\"net.c1:net1\",\"secondary\":{\"timestamp\":\"t\"}}",
			WEPS "n1-cni-c1-net1", POD_WEP("", "c1", "\"10.1.0.0/32\""), NULL},
		{"{\"handle_id\":\"net.c2\",\"secondary\":{\"timestamp\":\"t\"}}",
			WEPS "n1-cni-c1-eth0", POD_WEP("", "c1", "\"10.1.0.0/32\""),
			"10.1.0.0 is used by endpoint default/n1-cni-c1-eth0, and was given to handle "
			"net.c2"},
		/* A virtual machine's is of each of its pods in turn; of others it is not said whose they are. */
		{"{\"handle_id\":\"net.vmi.default.vm\",\"secondary\":{\"vmi-name\":\"vm\",\"pod\":"
		 "\"launcher-1\",\"namespace\":\"default\"}}",
			WEPS "n1-k8s-web-eth0", POD_WEP("web", "c1", "\"10.1.0.0/32\""), NULL},
		{"{\"handle_id\":\"mine\"}", WEPS "n1-k8s-web-eth0",
			POD_WEP("web", "c1", "\"10.1.0.0/32\""), NULL},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		auto_free char *block = mem_printf(
			"{\"cidr\":\"10.1.0.0/31\",\"affinity\":null,\"allocations\":[0,null],"
			"\"unallocated\":[1],\"attributes\":[%s]}",
			cases[i].attr);
		struct store_kv kvs[] = {
			{.key = (char[]){IPAM_KEY_BLOCKS "ipv4/block/10.1.0.0-31"}, .value = block},
			{.key = (char *)(uintptr_t)cases[i].key,
				.value = (char *)(uintptr_t)cases[i].value},
		};
		const char *text = NULL;
		struct problem *p;
		struct check c;

		for (size_t k = 0; k < array_size(kvs); k++)
			kvs[k].len = strlen(kvs[k].value);
		check_ipam(kvs, array_size(kvs), false, &c);
		ck_assert_uint_eq(check_count(&c, PROBLEM_UNREADABLE), 0);
		ck_assert_uint_eq(check_count(&c, PROBLEM_LEAK), 0);
		vec_for_each (&c.problems, p)
			if (p->kind == PROBLEM_ANOTHERS)
				text = p->text;
		ck_assert_msg(text == cases[i].text ||
				      (text && cases[i].text && strcmp(text, cases[i].text) == 0),
			"case %zu: got %s, want %s", i, text ? text : "nothing",
			cases[i].text ? cases[i].text : "nothing");
		check_done(&c);
	}
}
END_TEST

#define LEAK_BLOCK(seq)                                                                   \
	"{\"cidr\":\"10.1.0.0/30\",\"affinity\":null,\"allocations\":[0,null,null,null]," \
	"\"unallocated\":[1,2,3],\"attributes\":[" POD_ATTR("net.c1", "gone",             \
		"1") "],"                                                                 \
		     "\"sequenceNumber\":9,\"sequenceNumberForAllocation\":{\"0\":" seq "}}"

static void give_anew(void *arg)
{
	struct store *st = arg;

	store_fake_put(st, IPAM_KEY_HANDLES "net.c1", "{\"block\":{\"10.1.0.0/30\":1}}");
	store_fake_put(st, IPAM_KEY_BLOCKS "ipv4/block/10.1.0.0-30", LEAK_BLOCK("8"));
}

/* Whenever the address is given back and given anew, to the same handle, while it is about to be freed. */
START_TEST(repair_frees_no_other_allocation)
{
	struct store_kv kv[] = {
		{.key = (char[]){IPAM_KEY_BLOCKS "ipv4/block/10.1.0.0-30"},
			.value = (char[]){LEAK_BLOCK("7")}},
		{.key = (char[]){IPAM_KEY_HANDLES "net.c1"},
			.value = (char[]){"{\"block\":{\"10.1.0.0/30\":1}}"}},
		{.key = (char[]){NODES "n2"}, .value = (char[]){"{}"}},
	};
	bool alone = false;

	for (size_t i = 0; i < array_size(kv); i++)
		kv[i].len = strlen(kv[i].value);
	for (unsigned n = 1; !alone; n++) {
		struct store *st = store_fake_new(NULL);
		struct ctl c = {.st = st};
		struct check found;
		const char *block;

		for (size_t i = 0; i < array_size(kv); i++)
			store_fake_put(st, kv[i].key, kv[i].value);
		check_ipam(kv, array_size(kv), false, &found);
		ck_assert_uint_eq(found.problems.n, 1);
		ck_assert_int_eq(found.problems.v[0].kind, PROBLEM_LEAK);
		store_fake_call_nth(st, n, give_anew, st);
		ck_assert_uint_eq(ipam_repair(&c, &found, false), 0);
		alone = store_fake_op_count(st) < n;
		block = store_fake_value(st, kv[0].key);
		ck_assert_msg(!block == alone, "operation %u: the block is %s", n,
			block ? block : "gone");
		ck_assert_int_eq(!store_fake_value(st, kv[1].key), alone);
		ck_assert(alone || strstr(block, "[0,null,null,null]"));
		check_done(&found);
		store_close(st);
	}
}
END_TEST

static void set_strict(void *arg)
{
	store_fake_put(arg, IPAM_KEY_CONFIG, "{\"strict_affinity\":true}");
}

/* Another sets something else: both are set. */
START_TEST(configurations_are_not_overrun)
{
	char *argv[] = {(char[]){"configure"}, (char[]){"--ip-cooldown-seconds=7"}, NULL};
	unsigned n_ops = 1;

	for (unsigned n = 1; n <= n_ops; n++) {
		struct store *st = store_fake_new(NULL);
		struct ctl c = {.st = st};
		const char *value;

		store_fake_call_nth(st, n, set_strict, st);
		ck_assert_int_eq(ipam_configure(&c, 2, argv), EXIT_SUCCESS);
		n_ops = store_fake_op_count(st);
		value = store_fake_value(st, IPAM_KEY_CONFIG);
		ck_assert_msg(
			strstr(value, "\"strict_affinity\":true"), "operation %u: %s", n, value);
		ck_assert_msg(n == n_ops || strstr(value, "\"ipCooldownSeconds\":7"),
			"operation %u: %s", n, value);
		store_close(st);
	}
	ck_assert_uint_ge(n_ops, 4);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ctl");
	TCase *tc = tcase_create("ctl");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, tc);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, yaml_is_loaded);
	tcase_add_test(tc, yaml_is_bounded);
	tcase_add_test(tc, an_anchor_is_no_copy);
	tcase_add_test(tc, pods_that_have_ended_hold_what_they_had);
	tcase_add_test(tc, what_has_no_endpoint_may_be_another_plugins);
	tcase_add_test(tc, what_was_given_to_another_is_told);
	tcase_add_test(tc, repair_frees_no_other_allocation);
	tcase_add_test(tc, configurations_are_not_overrun);
	tcase_add_test(tc, an_address_stays_with_whom_it_was_given_to);
	tcase_add_test(tc, pools_that_are_made_at_once_do_not_overlap);
	tcase_add_test(tc, a_pool_that_is_half_made_is_disabled);
	tcase_add_test(tc, a_pool_that_is_half_made_is_gone_on_with);
	tcase_add_test(tc, a_pool_that_another_has_gone_on_with_exists);
	tcase_add_test(tc, a_pool_that_cannot_be_read_may_overlap);
	tcase_add_test(tc, yaml_is_dumped);
	tcase_add_test(tc, yaml_quotes_what_is_misread);
	tcase_add_test(tc, yaml_round_trips_any_text);
	tcase_add_test(tc, tables);
	tcase_add_test(tc, rows_of_kinds);
	tcase_add_test(tc, sessions);
	tcase_add_test(tc, usage);
	tcase_add_test(tc, a_clash_is_final);
	tcase_add_test(tc, others_claims_stay);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed > 0;
}
