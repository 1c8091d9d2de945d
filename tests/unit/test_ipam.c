/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The allocator, alone: its writes in Calico's order, what it may take, and a store that fails. */
#include <assert.h>
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "fake/store_fake.h"
#include "ipam/alloc.h"
#include "ipam/block.h"
#include "ipam/run.h"
#include "ipam/step.h"
#include "model/ipam.h"
#include "model/meta.h"
#include "store/store.h"
#include "unit/ipam_db.h"

START_TEST(write_order)
{
	struct prefix cidr;
	struct ip ip;
	struct mem_kv *kv;
	char *want, text[PREFIX_TEXT_SIZE];

	setup();
	ip = assign("node1", "net.c1");
	cidr = prefix_of(&ip, 26);
	prefix_format_key(&cidr, text);
	want = mem_printf("create host/node1/ipv4/block/%s\n"
			  "update host/node1/ipv4/block/%s\n"
			  "create assignment/ipv4/block/%s\n"
			  "update host/node1/ipv4/block/%s\n"
			  "create handle/net.c1\n"
			  "update assignment/ipv4/block/%s\n",
		text, text, text, text, text);
	ck_assert_str_eq(db.log.s, want);
	free(want);
	kv = db_find(IPAM_ROOT "handle/net.c1");
	want = mem_printf("{\"block\":{\"%s\":1},\"deleted\":false}", prefix_str(&cidr));
	ck_assert_str_eq(kv->value, want);
	free(want);

	strbuf_reset(&db.log);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("net.c1", NOW)), 0);
	want = mem_printf("update assignment/ipv4/block/%s\ndelete handle/net.c1\n", text);
	ck_assert_str_eq(db.log.s, want);
	free(want);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("net.c1", NOW)), -ENOENT);
	/* The same node takes the same block, and the address that was freed longest ago. */
	ip = assign("node1", "net.c2");
	ck_assert(prefix_contains(&cidr, &ip));
	ck_assert_uint_eq(ip_distance(&cidr.addr, &ip), 1);

	strbuf_reset(&db.log);
	ck_assert_int_eq(run_and_free(ipam_unclaim_new(NULL, "node1", true, NOW)), -EBUSY);
	ck_assert_int_eq(run_and_free(ipam_unclaim_new(NULL, "node1", false, NOW)), 0);
	want = mem_printf("update host/node1/ipv4/block/%s\nupdate assignment/ipv4/block/%s\n"
			  "delete host/node1/ipv4/block/%s\n",
		text, text, text);
	ck_assert_str_eq(db.log.s, want);
	free(want);
	strbuf_reset(&db.log);
	/* The last address of a block that nobody has takes the block with it. */
	ck_assert_int_eq(run_and_free(ipam_release_ip_new(&ip, "net.c2", NOW)), 0);
	want = mem_printf("delete assignment/ipv4/block/%s\ndelete handle/net.c2\n", text);
	ck_assert_str_eq(db.log.s, want);
	free(want);
}
END_TEST

START_TEST(blocks_limits_and_borrowing)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct err err = ERR_INIT;
	struct ip ip;

	db_reset();
	put_pool("p", "10.1.0.0/28", 30, "");
	/* Two blocks each at most. */
	a.max_blocks = 2;
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_int_eq(assign_with(&a, &ip, &err), -EDQUOT);
	ck_assert_msg(
		strstr(err.text, "node n1 is full") && strstr(err.text, "maxBlocksPerHost is 2:"),
		"%s", err.text);
	/* The other half of the pool, then nothing is left and nothing can be borrowed. */
	for (int i = 0; i < 8; i++)
		assign("n2", "other");
	a.host = "n2";
	a.max_blocks = 0;
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOSPC);
	ck_assert_uint_eq(count_in_use(NULL), 16);
	ck_assert_uint_eq(count_keys(IPAM_ROOT "assignment/"), 4);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("h", NOW)), 0);
	ck_assert_uint_eq(count_in_use(NULL), 8);

	/* n3 has no block: it borrows of a block that is too young to be reclaimed ... */
	a.host = "n3";
	a.handle = "h3";
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_uint_eq(count_keys(IPAM_ROOT "host/n3/"), 0);
	/* ... and takes an empty one over that is a minute old. */
	a.now_ns = NOW + 60 * S;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_uint_eq(count_keys(IPAM_ROOT "host/n3/"), 1);
	ck_assert_uint_eq(count_keys(IPAM_ROOT "host/n1/"), 1);

	/* Never with strict affinity. */
	db_put(IPAM_KEY_CONFIG, "{\"strict_affinity\":true,\"auto_allocate_blocks\":true}");
	a.host = "n4";
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOSPC);
	a.host = "n2";
	a.ip = ip; /* of n3's */
	ck_assert_int_eq(assign_with(&a, &ip, &err), -EPERM);
	ck_assert_msg(strstr(err.text, "strictAffinity"), "%s", err.text);
	/* Automatic blocks off: the own ones only. */
	db_put(IPAM_KEY_CONFIG, "{}");
	a.ip = (struct ip){0};
	ck_assert_int_eq(assign_with(&a, &ip, &err), -EDQUOT);
	ck_assert_msg(strstr(err.text, "autoAllocateBlocks"), "%s", err.text);
}
END_TEST

static void expect_in(const struct ip *ip, const char *cidr)
{
	struct prefix p = prefix_from(cidr);

	ck_assert_msg(prefix_contains(&p, ip), "%s, want one of %s", ip_str(ip), cidr);
}

START_TEST(pools_are_chosen)
{
	static const char *const by_name[] = {"manual"}, *const by_cidr[] = {"10.3.0.0/24"},
				 *const none[] = {"gone"};
	struct ipam_assign a = assign_args("n1", "h");
	struct err err = ERR_INIT;
	struct ip ip;

	db_reset();
	put_pool("a-disabled", "10.0.0.0/24", 26, ",\"disabled\":true");
	put_pool("b-tunnel", "10.1.0.0/24", 26, ",\"allowedUses\":[\"Tunnel\"]");
	put_pool("c-six", "fd00::/64", 122, "");
	put_pool("manual", "10.2.0.0/24", 26, ",\"assignmentMode\":\"Manual\"");
	db_put(POOL_KEY "bad", "{\"spec\":{\"cidr\":\"nonsense\"}}");
	put_pool("blocks-too-large", "10.4.0.0/16", 18, "");
	put_pool("blocks-of-v6", "10.5.0.0/16", 64, "");
	put_pool("no-block", "10.6.0.0/28", 26, "");
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOENT);
	put_pool("z", "10.3.0.0/24", 26, ",\"allowedUses\":[\"Workload\"]");
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	expect_in(&ip, "10.3.0.0/24");
	a.use = IPAM_USE_TUNNEL;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	expect_in(&ip, "10.1.0.0/24");
	a.use = IPAM_USE_WORKLOAD;
	a.pools_v4 = (struct ipam_pools){by_name, 1};
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	expect_in(&ip, "10.2.0.0/24");
	a.pools_v4.v = by_cidr;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	expect_in(&ip, "10.3.0.0/24");
	a.pools_v4.v = none;
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOENT);
	ck_assert_msg(strstr(err.text, "(gone)"), "%s", err.text);
	a.pools_v4.n = 0;
	a.v4 = false;
	a.v6 = true;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_uint_eq(ip.family, IP_V6);
}
END_TEST

/*
 * A pool that somebody makes anew with another blockSize, while there are blocks: what there is of it goes on to be
 * given, each address once, but for what is left of a block of the new size that an older one lies in.
 */
START_TEST(pool_of_another_block_size)
{
	static const struct {
		int old, new, total;
	} t[] = {{26, 28, 256}, {28, 26, 3 * 64 + 16}, {24, 26, 256}};
	struct ipam_assign a = assign_args("n2", "late");
	struct err err = ERR_INIT;
	struct ip ip;
	int r, n = 3;

	db_reset();
	put_pool("p", "10.1.0.0/24", t[_i].old, "");
	for (int i = 0; i < n; i++)
		assign("n1", "early");
	put_pool("p", "10.1.0.0/24", t[_i].new, "");
	while ((r = assign_with(&a, &ip, &err)) == 0) {
		n++;
		a.host = n % 2 ? "n2" : "n3";
		ck_assert_int_le(n, 256);
	}
	ck_assert_msg(r == -ENOSPC, "%s", err.text);
	ck_assert_int_eq(n, t[_i].total);
	ck_assert_uint_eq(count_in_use(NULL), (size_t)n);
	check_disjoint("full");
	check_consistent();
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("late", NOW)), 0);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("early", NOW)), 0);
	ck_assert_uint_eq(count_in_use(NULL), 0);
}
END_TEST

/* Empty blocks of the old size are taken away where a new one can be made in their place, and else borrowed from. */
START_TEST(empty_blocks_of_another_size)
{
	struct ipam_assign a = assign_args("n2", "late");
	struct prefix many = prefix_from("10.1.0.0/26");
	struct err err = ERR_INIT;
	struct ip ip;

	db_reset();
	put_pool("p", "10.1.0.0/26", 28, "");
	ck_assert_int_eq(run_and_free(ipam_claim_new(&many, "n1", NOW)), 0);
	ip = assign("n1", "early");
	put_pool("p", "10.1.0.0/26", 26, "");
	a.now_ns = NOW + 3600 * S;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 4);
	ck_assert_uint_eq(count_keys(IPAM_KEY_AFFINITIES "n2/"), 0);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("late", NOW)), 0);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("early", NOW)), 0);
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 1);
	ck_assert_ptr_nonnull(db_find(IPAM_KEY_BLOCKS "ipv4/block/10.1.0.0-26"));
	check_consistent();
}
END_TEST

/* An address that is named is of the block that has it. */
START_TEST(named_in_a_block_of_another_size)
{
	struct ipam_assign a = assign_args("n2", "late");
	struct prefix block = prefix_from("10.1.0.0/26"), all = prefix_from("10.1.0.0/24");
	struct err err = ERR_INIT;
	struct ip ip;

	db_reset();
	put_pool("p", "10.1.0.0/24", 26, "");
	ck_assert_int_eq(run_and_free(ipam_claim_new(&block, "n1", NOW)), 0);
	ip = assign("n1", "early");
	put_pool("p", "10.1.0.0/24", 28, "");
	a.ip = ip;
	ck_assert_int_eq(assign_with(&a, &ip, &err), -EEXIST);
	ck_assert_msg(strstr(err.text, "in use by early"), "%s", err.text);
	a.ip = ip_of("10.1.0.33");
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 1);
	a.host = "n1"; /* of its own */
	a.ip = ip_of("10.1.0.34");
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 1);

	/* A block of the new size would have it, and others that are there. */
	a.host = "n2";
	put_pool("p", "10.1.0.0/24", 25, "");
	a.ip = ip_of("10.1.0.70");
	ck_assert_int_eq(assign_with(&a, &ip, &err), -EEXIST);
	ck_assert_msg(
		strstr(err.text, "10.1.0.0/25") && strstr(err.text, "10.1.0.0/26"), "%s", err.text);
	a.ip = ip_of("10.1.0.200");
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_int_eq(run_and_free(ipam_claim_new(&all, "n2", NOW)), -EEXIST);
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 2);
	ck_assert_uint_eq(count_keys(IPAM_KEY_AFFINITIES), 2);
	check_disjoint("named");
	check_consistent();
}
END_TEST

static void put_block(const char *cidr_text, const char *host)
{
	struct prefix cidr = prefix_from(cidr_text);
	auto_(ipam_block) struct ipam_block *b = block_create(&cidr, host, NOW);
	auto_free char *text = ipam_block_encode(b);
	char key[IPAM_KEY_SIZE];

	db_put(ipam_key_block(&cidr, key), text);
	db_put(ipam_key_affinity(host, &cidr, key), "{\"state\":\"confirmed\"}");
}

/* What there is already, and should not be: a node's own blocks that overlap give nothing, nor are they borrowed from. */
START_TEST(blocks_that_overlap_give_nothing)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct err err = ERR_INIT;
	struct ip ip;

	db_reset();
	put_pool("p", "10.1.0.0/25", 28, "");
	put_block("10.1.0.0/26", "n1");
	put_block("10.1.0.16/28", "n1");
	for (int i = 0; i < 64; i++) {
		ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
		ck_assert_uint_ge(ip.b[3], 64);
		a.host = i % 2 ? "n1" : "n2";
	}
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOSPC);
}
END_TEST

/* However many blocks are claimed at once, the others are listed once before and once after. */
START_TEST(many_are_claimed_by_two_lists)
{
	struct prefix half = prefix_from("10.244.0.0/17"), rest = prefix_from("10.244.128.0/22");

	setup();
	ck_assert_int_eq(run_and_free(ipam_claim_new(&half, "n1", NOW)), 0);
	db.n_read = 0;
	ck_assert_int_eq(run_and_free(ipam_claim_new(&rest, "n2", NOW)), 0);
	ck_assert_uint_le(db.n_read, 1 + 512 + 528);
	check_consistent();
}
END_TEST

#define NODE_KEY "/calico/resources/v3/projectcalico.org/nodes/"

static void put_node(const char *name, const char *rack)
{
	auto_free char *key = mem_printf(NODE_KEY "%s", name);
	auto_free char *value =
		mem_printf("{\"kind\":\"Node\",\"apiVersion\":\"projectcalico.org/v3\","
			   "\"metadata\":{\"name\":\"%s\",\"labels\":{\"rack\":\"%s\"}},"
			   "\"spec\":{}}",
			name, rack);

	db_put(key, value);
}

/* A node that moves to another rack gets addresses of that one, and gives back what is empty. */
START_TEST(pools_select_nodes)
{
	const struct ipam_attr in_a[] = {{"namespace", "a"}}, in_b[] = {{"namespace", "b"}};
	struct ipam_assign a = assign_args("n1", "late");
	struct err err = ERR_INIT;
	struct ip ip;

	db_reset();
	put_pool("one", "10.1.0.0/24", 26, ",\"nodeSelector\":\"rack == '1'\"");
	put_pool("two", "10.2.0.0/24", 26,
		",\"nodeSelector\":\"rack in {'2', '3'}\",\"namespaceSelector\":"
		"\"projectcalico.org/name == 'b'\"");
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOENT); /* the node is not known */
	put_node("n1", "1");
	ip = assign("n1", "first");
	expect_in(&ip, "10.1.0.0/24");
	put_node("n1", "2");
	a.attrs = in_a;
	a.n_attrs = 1;
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOENT);
	a.attrs = in_b;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	expect_in(&ip, "10.2.0.0/24");
	/* The block that is in use stays until its last address goes. */
	ck_assert_uint_eq(count_keys(IPAM_ROOT "host/n1/"), 2);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("first", NOW)), 0);
	ck_assert_uint_eq(count_keys(IPAM_ROOT "host/n1/"), 1);
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 1);
	/* One that is empty already goes with the next assignment. */
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("late", NOW)), 0);
	put_node("n1", "1");
	assign("n1", "again");
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 1);
}
END_TEST

/* The labels that Kubernetes has, and the name, which is one of those. */
START_TEST(pools_select_namespaces_by_their_labels)
{
	const struct ipam_attr in_a[] = {{"namespace", "a"}};
	struct ipam_assign a = assign_args("n1", "h");
	struct labels labels = {0};
	struct err err = ERR_INIT;
	struct ip ip;

	db_reset();
	put_pool("p", "10.1.0.0/24", 26,
		",\"namespaceSelector\":\"team == 'x' && kubernetes.io/metadata.name == 'a'\"");
	a.attrs = in_a;
	a.n_attrs = 1;
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "namespaceSelector"));
	labels_set(&labels, "team", "x");
	a.namespace_labels = &labels;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	expect_in(&ip, "10.1.0.0/24");
	labels_done(&labels);
}
END_TEST

/* Names of pools of one family say nothing of the other, and are no names of the other's. */
START_TEST(pools_are_named_by_family)
{
	static const char *const others[] = {"six", "fd00::/64", "fd00::7/64"};
	struct ipam_assign a = assign_args("n1", "h");
	struct ipam_request *rq;
	struct err err = ERR_INIT;

	db_reset();
	put_pool("four", "10.1.0.0/24", 26, "");
	put_pool("other", "10.2.0.0/24", 26, "");
	put_pool("six", "fd00::/64", 122, "");
	a.v6 = true;
	a.pools_v4 = (struct ipam_pools){(const char *[]){"other"}, 1};
	rq = ipam_assign_new(&a);
	ck_assert_msg(run_until(rq, 0, &err) == 0, "%s", err.text);
	expect_in(&ipam_request_addr(rq, IP_V4)->ip, "10.2.0.0/24");
	expect_in(&ipam_request_addr(rq, IP_V6)->ip, "fd00::/64");
	ipam_request_free(rq);
	for (size_t i = 0; i < array_size(others); i++) {
		auto_free char *want = mem_printf(
			"the given pool (%s) has addresses of IPv6: want pools of IPv4", others[i]);
		struct ip ip;

		a.v6 = i % 2;
		a.handle = "h2";
		a.pools_v4 = (struct ipam_pools){(const char *[]){"other", others[i]}, 2};
		ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOENT);
		ck_assert_str_eq(err.text, want);
	}
	a.v6 = false;
	a.pools_v4 = (struct ipam_pools){(const char *[]){"10.2.0.9/24"}, 1};
	rq = ipam_assign_new(&a);
	ck_assert_msg(run_until(rq, 0, &err) == 0, "%s", err.text);
	expect_in(&ipam_request_addr(rq, IP_V4)->ip, "10.2.0.0/24");
	ipam_request_free(rq);
}
END_TEST

START_TEST(reserved_is_skipped)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct err err = ERR_INIT;
	struct ip ip;

	db_reset();
	put_pool("p", "10.1.0.0/28", 30, "");
	db_put("/calico/resources/v3/projectcalico.org/ipreservations/r",
		"{\"spec\":{\"reservedCIDRs\":[\"10.1.0.0/29\",\"10.1.0.9\"]}}");
	/* One that cannot be read is left out, by name. */
	db_put("/calico/resources/v3/projectcalico.org/ipreservations/torn",
		"{\"spec\":{\"reservedCIDRs\":[\"10.1.0.8/29\",\"nonsense\"]}}");
	for (int i = 0; i < 7; i++) {
		ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
		ck_assert_uint_ge(ip.b[3], 8);
		ck_assert_uint_ne(ip.b[3], 9);
	}
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOSPC);
	/* Named, it is given. */
	a.ip = ip_of("10.1.0.9");
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	a.ip = ip_of("10.1.0.1");
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_int_eq(assign_with(&a, &ip, &err), -EEXIST);
	a.ip = ip_of("10.9.0.1");
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOENT);
}
END_TEST

/* A block that is claimed for a named address is announced like any other. */
START_TEST(named_is_confirmed)
{
	struct ipam_assign a = assign_args("n1", "h");
	const char *key = IPAM_KEY_AFFINITIES "n1/ipv4/block/10.244.7.64-26";
	struct err err = ERR_INIT;
	struct ip ip;

	setup();
	a.ip = ip_of("10.244.7.65");
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_ptr_nonnull(key_text(key));
	ck_assert_msg(strstr(key_text(key), "\"confirmed\""), "%s", key_text(key));
	/* One that was left half-way is completed. */
	db_put(key, "{\"state\":\"pending\"}");
	a.ip = ip_of("10.244.7.66");
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_msg(strstr(key_text(key), "\"confirmed\""), "%s", key_text(key));
}
END_TEST

/* What waits is free once there is no cool-down any more. */
START_TEST(cooldown_switched_off)
{
	struct ipam_block *b;
	struct mem_kv *kv;

	db_reset();
	put_pool("p", "10.1.0.0/30", 30, "");
	for (int i = 0; i < 4; i++)
		assign("n1", "h");
	kv = db_find(IPAM_KEY_BLOCKS "ipv4/block/10.1.0.0-30");
	assert(kv);
	ck_assert_int_eq(ipam_block_decode(kv->value, strlen(kv->value), &b, NULL), 0);
	ck_assert_uint_eq(block_release_handle(b, "h", 3600, NOW - S), 4);
	free(kv->value);
	kv->value = ipam_block_encode(b);
	ipam_block_free(b);
	db_del(db_find(IPAM_KEY_HANDLES "h"));
	assign("n1", "again");
}
END_TEST

START_TEST(both_families_or_none)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct err err = ERR_INIT;
	struct ipam_request *rq;
	struct ip ip;

	setup();
	a.v6 = true;
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOENT);
	ck_assert_uint_eq(count_in_use(NULL), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), 0);
	put_pool("six", "fd00::/64", 122, "");
	rq = ipam_assign_new(&a);
	ck_assert_int_eq(run_until(rq, 0, &err), 0);
	ck_assert_ptr_nonnull(ipam_request_addr(rq, IP_V4));
	ck_assert_ptr_nonnull(ipam_request_addr(rq, IP_V6));
	ck_assert_uint_eq(count_in_use("h"), 2);
	ipam_request_free(rq);
	rq = ipam_lookup_handle_new("h");
	ck_assert_int_eq(run_until(rq, 0, &err), 0);
	ck_assert_ptr_nonnull(ipam_request_addr(rq, IP_V6));
	ipam_request_free(rq);
	/* Once more, for the same handle. */
	a.reuse = true;
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	ck_assert_uint_eq(count_in_use("h"), 2);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("h", NOW)), 0);
	ck_assert_uint_eq(count_in_use(NULL), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), 0);
}
END_TEST

/* An address is released at what it touches, however many blocks there are. */
START_TEST(released_by_key)
{
	struct prefix many = prefix_from("10.244.0.0/17");
	struct ip ip, old;

	setup();
	ck_assert_int_eq(run_and_free(ipam_claim_new(&many, "n2", NOW)), 0);
	ip = assign("n1", "h");
	db.ops = 0;
	db.n_read = 0;
	ck_assert_int_eq(run_and_free(ipam_release_ip_new(&ip, "h", NOW)), 0);
	/* Read: pools, block, configuration, handle; written: block, handle. */
	ck_assert_uint_eq(db.ops, 6);
	ck_assert_uint_eq(db.n_read, 3);
	/* It is gone; the pool's blocks have another size now; there is no pool. */
	ck_assert_int_eq(run_and_free(ipam_release_ip_new(&ip, "h", NOW)), -ENOENT);
	old = assign("n1", "h");
	put_pool("p", "10.244.0.0/16", 28, "");
	db.ops = 0;
	db.n_read = 0;
	ck_assert_int_eq(run_and_free(ipam_release_ip_new(&old, "h", NOW)), 0);
	old = assign("n1", "h");
	db_del(db_find(POOL_KEY "p"));
	ck_assert_int_eq(run_and_free(ipam_release_ip_new(&old, "h", NOW)), 0);
	ck_assert_uint_eq(count_in_use(NULL), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), 0);
	ck_assert_uint_lt(db.ops, 60);
	ck_assert_uint_lt(db.n_read, 20);
}
END_TEST

static uint64_t seq_of(const struct ip *ip)
{
	struct mem_kv *kv;
	struct prefix cidr;
	uint64_t seq = 0;

	vec_for_each (&db.v, kv) {
		struct ipam_block *b;

		if (!ipam_key_parse_block(kv->key, &cidr) || !prefix_contains(&cidr, ip))
			continue;
		ck_assert_int_eq(ipam_block_decode(kv->value, strlen(kv->value), &b, NULL), 0);
		seq = block_seq(b, ip);
		ipam_block_free(b);
	}
	return seq;
}

/* Given back and given anew since it was looked at, be it to the same handle: it stays. */
START_TEST(another_allocation_stays)
{
	struct ip ip, again;
	uint64_t seq;

	db_reset();
	put_pool("p", "10.244.0.0/30", 30, "");
	ip = assign("n1", "h");
	seq = seq_of(&ip);
	ck_assert_uint_ne(seq, 0);
	ck_assert_int_eq(run_and_free(ipam_release_allocation_new(&ip, "g", seq, NOW)), -ESTALE);
	ck_assert_int_eq(
		run_and_free(ipam_release_allocation_new(&ip, "h", seq - 1, NOW)), -ESTALE);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("h", NOW)), 0);
	ck_assert_int_eq(run_and_free(ipam_release_allocation_new(&ip, "h", seq, NOW)), -ENOENT);
	do
		again = assign("n1", "h");
	while (!ip_equal(&again, &ip));
	ck_assert_int_eq(run_and_free(ipam_release_allocation_new(&ip, "h", seq, NOW)), -ESTALE);
	ck_assert_uint_eq(count_in_use("h"), 4);
	seq = seq_of(&ip);
	ck_assert_int_eq(run_and_free(ipam_release_allocation_new(&ip, "h", seq, NOW)), 0);
	ck_assert_uint_eq(count_in_use("h"), 3);
	check_consistent();
}
END_TEST

#define HANDLE_H IPAM_KEY_HANDLES "h"

START_TEST(handle_is_recounted)
{
	struct prefix block;
	struct ip ip;

	setup();
	ip = assign("n1", "h");
	assign("n1", "h");
	block = prefix_of(&ip, 26);
	auto_free char *exact = mem_strdup(key_text(HANDLE_H));
	auto_free char *less = mem_printf("{\"block\":{\"%s\":1}}", prefix_str(&block));
	auto_free char *more = mem_printf(
		"{\"block\":{\"%s\":5,\"10.9.0.0/26\":1},\"deleted\":false}", prefix_str(&block));
	const char *const wrong[] = {less, more, "{\"block\":{}}", NULL};

	for (unsigned i = 0; i < array_size(wrong); i++) {
		if (wrong[i])
			db_put(HANDLE_H, wrong[i]);
		else
			db_del(db_find(HANDLE_H));
		ck_assert_int_eq(run_and_free(ipam_recount_handle_new("h", &block, 1, NOW)), 0);
		ck_assert_str_eq(key_text(HANDLE_H), exact);
		/* And then there is nothing to be done. */
		db.writes = 0;
		ck_assert_int_eq(run_and_free(ipam_recount_handle_new("h", &block, 1, NOW)), 0);
		ck_assert_uint_eq(db.writes, 0);
	}
	db_put(IPAM_KEY_HANDLES "none", more);
	ck_assert_int_eq(run_and_free(ipam_recount_handle_new("none", NULL, 0, NOW)), 0);
	ck_assert_ptr_null(key_text(IPAM_KEY_HANDLES "none"));
	ck_assert_int_eq(run_and_free(ipam_recount_handle_new("none", &block, 1, NOW)), 0);
	ck_assert_ptr_null(key_text(IPAM_KEY_HANDLES "none"));
}
END_TEST

/* Wherever an assignment, or a release, of the same handle stands meanwhile. */
START_TEST(recounted_meanwhile)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct err err = ERR_INIT;
	struct store_req req;

	for (unsigned i = 0; i < 400; i++) {
		unsigned steps = i % 20, own = i / 20;
		struct ipam_request *other, *rq;
		struct prefix block;
		struct ip ip;

		setup();
		ip = assign("n1", "h");
		block = prefix_of(&ip, 26);
		auto_free char *wrong = mem_printf("{\"block\":{\"%s\":3}}", prefix_str(&block));
		if (_i < 2)
			db_put(HANDLE_H, wrong);
		else
			db_del(db_find(HANDLE_H));
		other = _i % 2 ? ipam_assign_new(&a) : ipam_release_ip_new(&ip, "h", NOW);
		rq = ipam_recount_handle_new("h", &block, 1, NOW);
		for (; own > 0 && ipam_request_step(rq, &req, &err) > 0; own--)
			ck_assert_int_eq(db_do(rq, &req, &err), 0);
		for (; steps > 0 && ipam_request_step(other, &req, &err) > 0; steps--)
			ck_assert_int_eq(db_do(other, &req, &err), 0);
		ck_assert_msg(run_until(rq, 0, &err) == 0, "%s", err.text);
		ck_assert_msg(run_until(other, 0, &err) == 0, "%s", err.text);
		check_consistent();
		ck_assert_uint_eq(count_in_use("h"), _i % 2 ? 2 : 0);
		ipam_request_free(rq);
		ipam_request_free(other);
	}
}
END_TEST

/*
 * An address that changes hands.
 */
static struct ipam_request *move_new(const struct ip *ip, const char *from, const char *to)
{
	static const struct ipam_attr attrs[] = {{"pod", "web-0"}, {"node", "node1"}};
	const struct ipam_move m = {.addr = {.ip = *ip, .block = prefix_of(ip, 26)},
		.from = from,
		.to = to,
		.attrs = attrs,
		.n_attrs = 2,
		.now_ns = NOW};

	return ipam_move_new(&m);
}

START_TEST(moved)
{
	struct ip ip, other;
	char *want, text[PREFIX_TEXT_SIZE];
	struct prefix cidr;

	setup();
	ip = assign("node1", "reserve");
	other = assign("node1", "reserve");
	cidr = prefix_of(&ip, 26);
	prefix_format_key(&cidr, text);
	strbuf_reset(&db.log);
	ck_assert_int_eq(run_and_free(move_new(&ip, "reserve", "net.c1")), 0);
	want = mem_printf("create handle/net.c1\nupdate assignment/ipv4/block/%s\nupdate "
			  "handle/reserve\n",
		text);
	ck_assert_str_eq(db.log.s, want);
	free(want);
	ck_assert_uint_eq(count_in_use("net.c1"), 1);
	ck_assert_uint_eq(count_in_use("reserve"), 1);
	check_consistent();
	ck_assert_ptr_nonnull(strstr(key_text(IPAM_KEY_HANDLES "reserve"), "\":1}"));
	/* Its number is that of the write before its, as when it is assigned. */
	ck_assert_ptr_nonnull(strstr(key_text(ipam_key_block(&cidr, (char[IPAM_KEY_SIZE]){0})),
		"\"secondary\":{\"node\":\"node1\",\"pod\":\"web-0\"}"));
	/* Again is success, and writes nothing. */
	strbuf_reset(&db.log);
	ck_assert_int_eq(run_and_free(move_new(&ip, "reserve", "net.c1")), 0);
	ck_assert_str_eq(strbuf_str(&db.log), "");
	/* Another's is not to be had, nor a free one, and nothing is counted for them. */
	ck_assert_int_eq(run_and_free(move_new(&ip, "reserve", "net.c2")), -ESTALE);
	ck_assert_int_eq(run_and_free(ipam_release_ip_new(&other, "reserve", NOW)), 0);
	ck_assert_int_eq(run_and_free(move_new(&other, "reserve", "net.c2")), -ENOENT);
	ck_assert_ptr_null(db_find(IPAM_KEY_HANDLES "net.c2"));
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("net.c1", NOW)), 0);
	ck_assert_uint_eq(count_in_use(NULL), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), 0);
}
END_TEST

/* Who dies after any write, and does it again. */
START_TEST(moved_again_after_a_crash)
{
	struct err err = ERR_INIT;
	unsigned n = 1;
	int r;

	do {
		struct ipam_request *rq;
		struct ip ip;

		setup();
		ip = assign("node1", "reserve");
		rq = move_new(&ip, "reserve", "net.c1");
		r = run_until(rq, n++, &err);
		ck_assert_int_ge(r, 0);
		ipam_request_free(rq);
		check_consistent();
		ck_assert_uint_eq(count_in_use(NULL), 1);
		ck_assert_int_eq(run_and_free(move_new(&ip, "reserve", "net.c1")), 0);
		check_consistent();
		ck_assert_uint_eq(count_in_use("net.c1"), 1);
		/* What either handle counts too many goes with it. */
		ck_assert_int_eq(run_and_free(ipam_release_handle_new("net.c1", NOW)), 0);
		(void)run_and_free(ipam_release_handle_new("reserve", NOW));
		ck_assert_uint_eq(count_in_use(NULL), 0);
		ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), 0);
	} while (r == 1);
	ck_assert_uint_ge(n, 4);
}
END_TEST

/* Two who would have the same address, step by step in any order: one gets it. */
START_TEST(moved_by_two)
{
	seed_and_say();
	for (int round = 0; round < 300; round++) {
		struct ipam_request *rq[2];
		struct err err = ERR_INIT;
		int r[2] = {1, 1};
		struct ip ip;

		setup();
		ip = assign("node1", "reserve");
		rq[0] = move_new(&ip, "reserve", "net.a");
		rq[1] = random() % 2 ? move_new(&ip, "reserve", "net.b")
				     : ipam_release_ip_new(&ip, "reserve", NOW);
		while (r[0] > 0 || r[1] > 0) {
			int i = (int)(random() % 2);
			struct store_req req;

			if (r[i] <= 0)
				continue;
			r[i] = ipam_request_step(rq[i], &req, &err);
			if (r[i] > 0 && (r[i] = db_do(rq[i], &req, &err)) == 0)
				r[i] = 1;
			check_consistent();
		}
		ck_assert_msg((r[0] == 0) != (r[1] == 0), "%d %d", r[0], r[1]);
		ck_assert_uint_eq(count_in_use("net.a"), r[0] == 0);
		ipam_request_free(rq[0]);
		ipam_request_free(rq[1]);
		for (const char *const *h =
				(const char *const[]){"net.a", "net.b", "reserve", NULL};
			*h; h++)
			(void)run_and_free(ipam_release_handle_new(*h, NOW));
		ck_assert_uint_eq(count_keys(IPAM_KEY_HANDLES), 0);
	}
}
END_TEST

START_TEST(claims)
{
	struct prefix two = prefix_from("10.244.0.0/25"), one = prefix_from("10.244.0.64/26");
	struct prefix small = prefix_from("10.244.0.0/27"), away = prefix_from("10.9.0.0/24");
	struct ip ip;

	setup();
	ck_assert_int_eq(run_and_free(ipam_claim_new(&one, "n2", NOW)), 0);
	ck_assert_int_eq(run_and_free(ipam_claim_new(&one, "n2", NOW)), 0);
	ck_assert_int_eq(run_and_free(ipam_claim_new(&two, "n1", NOW)), -EEXIST);
	ck_assert_int_eq(run_and_free(ipam_claim_new(&small, "n1", NOW)), -EINVAL);
	ck_assert_int_eq(run_and_free(ipam_claim_new(&away, "n1", NOW)), -ENOENT);
	ck_assert_uint_eq(count_keys(IPAM_ROOT "host/n1/"), 1);
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 2);
	ip = assign("n1", "h");
	ck_assert_str_eq(ip_str(&ip), "10.244.0.0");
	ck_assert_int_eq(run_and_free(ipam_unclaim_new(&one, "n2", true, NOW)), 0);
	ck_assert_int_eq(run_and_free(ipam_unclaim_new(&one, "n2", true, NOW)), -ENOENT);
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 1);
}
END_TEST

/* What grows with the number of blocks, or of addresses, must not grow with its square. */
START_TEST(large_is_quick)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct prefix many = prefix_from("10.0.0.0/15");
	clock_t start = clock();
	struct err err = ERR_INIT;
	struct ip ip;

	db_reset();
	put_pool("p", "10.0.0.0/8", 26, "");
	ck_assert_int_eq(run_and_free(ipam_claim_new(&many, "n1", NOW)), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 2048);
	ck_assert_int_eq(run_and_free(ipam_unclaim_new(NULL, "n1", true, NOW)), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_BLOCKS), 0);
	ck_assert_uint_eq(count_keys(IPAM_KEY_AFFINITIES), 0);
	/* A reservation of 2^58 blocks is one step. */
	put_pool("six", "fd00:10::/64", 122, "");
	db_put("/calico/resources/v3/projectcalico.org/ipreservations/r",
		"{\"spec\":{\"reservedCIDRs\":[\"fd00:10::/64\",\"fd00:10::/80\"]}}");
	a.v4 = false;
	a.v6 = true;
	ck_assert_int_eq(assign_with(&a, &ip, &err), -ENOSPC);
	db_put("/calico/resources/v3/projectcalico.org/ipreservations/r",
		"{\"spec\":{\"reservedCIDRs\":[\"fd00:10::/65\",\"fd00:10:0:0:8000::/66\",\""
		"fd00:10:0:0:c000::/67\",\"fd00:10:0:0:e000::/122\"]}}");
	ck_assert_int_eq(assign_with(&a, &ip, &err), 0);
	expect_in(&ip, "fd00:10:0:0:e000::/67");
	ck_assert_msg(clock() - start < 20 * CLOCKS_PER_SEC, "%ld s",
		(long)((clock() - start) / CLOCKS_PER_SEC));
}
END_TEST

/* Against asking for every address. */
START_TEST(reserved_together)
{
	struct prefix block = prefix_from("10.0.0.0/28");

	seed_and_say();
	for (int round = 0; round < 3000; round++) {
		struct block_reserved res = {0};
		struct prefix v[8];
		bool all = true;

		res.v = v;
		res.n = (size_t)(random() % 9);
		for (size_t i = 0; i < res.n; i++) {
			struct ip base = ip_from_v4(0x0a000000u + (uint32_t)(random() % 16));

			v[i] = prefix_of(&base, (unsigned)(29 + random() % 4));
		}
		for (uint64_t i = 0; i < 16; i++) {
			struct ip ip;

			ip_add(&block.addr, i, &ip);
			all = all && block_reserved_has(&res, &ip);
		}
		ck_assert_int_eq(block_reserved_covers(&res, &block), all);
	}
}
END_TEST

/*
 * On a store's event loop, with failures of its operations.
 */
struct outcome {
	int r, calls;
	struct err err;
};

static void on_done(struct ipam_request *rq, int r, const struct err *err, void *arg)
{
	struct outcome *o = arg;

	ck_assert_ptr_nonnull(rq);
	o->r = r;
	o->err = *err;
	o->calls++;
}

static int start_and_free(
	struct event_base *base, struct store *st, struct ipam_request *rq, struct ip *ret)
{
	struct outcome o = {0};
	const struct ipam_addr *a;

	ipam_start(st, rq, on_done, &o);
	for (int i = 0; i < 1000 && o.calls == 0; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_int_eq(o.calls, 1);
	ck_assert(o.r == 0 || o.err.text[0] != '\0');
	a = ipam_request_addr(rq, IP_V4);
	if (o.r == 0 && ret && a)
		*ret = a->ip;
	ipam_request_free(rq);
	return o.r;
}

/* The n-th operation fails; afterwards the same again works, and nothing is left over. */
START_TEST(store_fails)
{
	static const int errors[] = {-ESTALE, -EHOSTUNREACH, -ETIMEDOUT};
	struct ipam_assign a = assign_args("n1", "h");
	struct event_base *base = event_base_new();
	bool failed = true;
	unsigned n;

	a.reuse = true;
	for (n = 1; failed; n++) {
		struct store *st = store_fake_new(base);
		struct ip first = {0}, again = {0};
		unsigned before;
		int r;

		store_fake_put(st, POOL_KEY "p", "{\"spec\":{\"cidr\":\"10.244.0.0/16\"}}");
		before = store_fake_op_count(st);
		store_fake_fail_nth(st, n, errors[_i]);
		r = start_and_free(base, st, ipam_assign_new(&a), &first);
		failed = store_fake_op_count(st) - before >= n;
		ck_assert_int_eq(r, failed && errors[_i] != -ESTALE ? errors[_i] : 0);
		store_fake_fail_nth(st, 0, 0);
		ck_assert_int_eq(start_and_free(base, st, ipam_assign_new(&a), &again), 0);
		ck_assert(r < 0 || ip_equal(&first, &again));
		ck_assert_int_eq(
			start_and_free(base, st, ipam_release_handle_new("h", NOW), NULL), 0);
		ck_assert_int_eq(
			start_and_free(base, st, ipam_unclaim_new(NULL, "n1", true, NOW), NULL), 0);
		store_close(st);
	}
	ck_assert_uint_gt(n, 12);
	event_base_free(base);
}
END_TEST

/* An older Kubernetes cluster has not all of the kinds. */
START_TEST(kind_is_not_there)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct event_base *base = event_base_new();
	struct store *st = store_fake_new(base);
	struct ip ip = {0};

	store_fake_put(st, POOL_KEY "p", "{\"spec\":{\"cidr\":\"10.244.0.0/16\"}}");
	store_fake_lack(st, "/calico/resources/v3/projectcalico.org/ipreservations/");
	ck_assert_int_eq(start_and_free(base, st, ipam_assign_new(&a), &ip), 0);
	ck_assert_int_eq(ip.family, IP_V4);
	store_fake_lack(st, POOL_KEY);
	a.handle = "h2";
	ck_assert_int_eq(start_and_free(base, st, ipam_assign_new(&a), &ip), -ENOENT);
	store_close(st);
	event_base_free(base);
}
END_TEST

/* A block whose affinity an older Calico wrote such that no list of the node's has it. */
START_TEST(unindexed_is_found)
{
	static const char key[] = "/calico/ipam/v2/host/n1/ipv4/block/10.244.77.0-26";
	struct ipam_assign a = assign_args("n1", "h");
	struct prefix cidr = prefix_from("10.244.77.0/26");
	struct event_base *base = event_base_new();
	struct store *st = store_fake_new(base);
	struct ipam_request *rq;
	struct ip ip = {0};

	store_fake_put(st, POOL_KEY "p", "{\"spec\":{\"cidr\":\"10.244.0.0/16\"}}");
	rq = ipam_claim_new(&cidr, "n1", NOW);
	ck_assert_int_eq(start_and_free(base, st, rq, NULL), 0);
	store_fake_unindex(st, key);
	ck_assert_int_eq(start_and_free(base, st, ipam_assign_new(&a), &ip), 0);
	ck_assert(prefix_contains(&cidr, &ip));
	store_fake_unindex(st, key);
	ck_assert_int_eq(start_and_free(base, st, ipam_release_handle_new("h", NOW), NULL), 0);
	store_fake_unindex(st, key);
	ck_assert_int_eq(
		start_and_free(base, st, ipam_unclaim_new(NULL, "n1", true, NOW), NULL), 0);
	ck_assert_ptr_null(store_fake_value(st, key));
	store_close(st);
	event_base_free(base);
}
END_TEST

/* What another wrote as the owner of a block is no name of a node's. */
START_TEST(owner_is_no_name)
{
	struct ip ip;

	setup();
	put_pool("p", "10.244.0.0/16", 26, ",\"nodeSelector\":\"has(rack)\"");
	put_node("n1", "r");
	ip = assign("n1", "h");
	for (struct mem_kv *kv = db.v.v; kv < db.v.v + db.v.n; kv++) {
		char *at = strstr(kv->value, "\"affinity\":\"host:n1\"");

		if (at)
			memcpy(at, "\"affinity\":\"host: 1\"", strlen("\"affinity\":\"host: 1\""));
	}
	ck_assert_int_eq(ip.family, IP_V4);
	ck_assert_int_eq(run_and_free(ipam_release_handle_new("h", NOW)), 0);
}
END_TEST

/* A failure after each operation, when an address of one family may have been taken already. */
START_TEST(failed_is_undone)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct event_base *base = event_base_new();
	bool failed = true;
	unsigned n;

	a.reuse = true;
	for (n = 1; failed; n++) {
		struct store *st = store_fake_new(base);
		struct ip v4 = {0}, again = {0};
		unsigned before;

		store_fake_put(st, POOL_KEY "p", "{\"spec\":{\"cidr\":\"10.244.0.0/16\"}}");
		store_fake_put(st, POOL_KEY "six", "{\"spec\":{\"cidr\":\"fd00::/64\"}}");
		/* Every other time the handle has an address, which stays. */
		a.v6 = false;
		if (_i == 1)
			ck_assert_int_eq(start_and_free(base, st, ipam_assign_new(&a), &v4), 0);
		a.v6 = true;
		before = store_fake_op_count(st);
		store_fake_fail_nth(st, n, -EHOSTUNREACH);
		failed = start_and_free(base, st, ipam_assign_new(&a), NULL) < 0;
		store_fake_fail_nth(st, 0, 0);
		ck_assert(failed == (store_fake_op_count(st) - before >= n));
		if (failed && _i == 0)
			ck_assert_ptr_null(store_fake_value(st, IPAM_KEY_HANDLES "h"));
		if (failed && _i == 1)
			ck_assert_int_eq(
				start_and_free(base, st, ipam_lookup_handle_new("h"), &again), 0);
		ck_assert(ip_equal(&v4, &again) || !failed);
		if (_i == 1)
			start_and_free(base, st, ipam_release_ip_new(&v4, "h", NOW), NULL);
		/* ENOENT: it has not come to the first block. */
		ck_assert_int_ne(
			start_and_free(base, st, ipam_unclaim_new(NULL, "n1", failed, NOW), NULL),
			-EBUSY);
		store_close(st);
	}
	ck_assert_uint_gt(n, 12);
	event_base_free(base);
}
END_TEST

START_TEST(cancelled)
{
	struct ipam_assign a = assign_args("n1", "h");
	struct event_base *base = event_base_new();
	struct store *st = store_fake_new(base);
	struct ipam_request *rq = ipam_assign_new(&a);
	struct outcome o = {0};

	ipam_start(st, rq, on_done, &o);
	ipam_request_free(rq);
	for (int i = 0; i < 10; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_int_eq(o.calls, 0);
	store_close(st);
	event_base_free(base);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ipam");
	TCase *t = tcase_create("ipam");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, large_is_quick);
	tcase_add_test(t, write_order);
	tcase_add_test(t, blocks_limits_and_borrowing);
	tcase_add_test(t, pools_are_chosen);
	tcase_add_test(t, pools_select_nodes);
	tcase_add_test(t, pools_select_namespaces_by_their_labels);
	tcase_add_test(t, pools_are_named_by_family);
	tcase_add_test(t, reserved_is_skipped);
	tcase_add_test(t, named_is_confirmed);
	tcase_add_loop_test(t, pool_of_another_block_size, 0, 3);
	tcase_add_test(t, empty_blocks_of_another_size);
	tcase_add_test(t, named_in_a_block_of_another_size);
	tcase_add_test(t, blocks_that_overlap_give_nothing);
	tcase_add_test(t, many_are_claimed_by_two_lists);
	tcase_add_test(t, cooldown_switched_off);
	tcase_add_test(t, both_families_or_none);
	tcase_add_test(t, released_by_key);
	tcase_add_test(t, another_allocation_stays);
	tcase_add_test(t, handle_is_recounted);
	tcase_add_loop_test(t, recounted_meanwhile, 0, 4);
	tcase_add_test(t, moved);
	tcase_add_test(t, moved_again_after_a_crash);
	tcase_add_test(t, moved_by_two);
	tcase_add_test(t, claims);
	tcase_add_test(t, reserved_together);
	tcase_add_loop_test(t, store_fails, 0, 3);
	tcase_add_loop_test(t, failed_is_undone, 0, 2);
	tcase_add_test(t, cancelled);
	tcase_add_test(t, kind_is_not_there);
	tcase_add_test(t, unindexed_is_found);
	tcase_add_test(t, owner_is_no_name);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	db_reset();
	return failed == 0 ? 0 : 1;
}
