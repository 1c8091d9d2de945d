/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Blocks: Calico's bytes, their operations against a naive model, and bad ones. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "ipam/block.h"
#include "model/ipam.h"
#include "unit/ipam_db.h"

#define BLOCK_JSON                                                                            \
	"{\"cidr\":\"10.244.66.128/29\",\"affinity\":\"host:node1\",\"affinity_claim_time\":" \
	"\"2026-08-01T12:00:00Z\",\"allocations\":%s,\"unallocated\":%s,\"attributes\":%s,"   \
	"\"sequenceNumber\":%s,\"sequenceNumberForAllocation\":%s,\"deleted\":false}"
#define TUNNEL_ATTR                                                                             \
	"{\"handle_id\":\"ipip-tunnel-addr-node1\",\"secondary\":{\"node\":\"node1\",\"type\":" \
	"\"ipipTunnelAddress\"}}"

static void expect_block(const struct ipam_block *b, const char *alloc, const char *free_list,
	const char *attrs, const char *seq, const char *alloc_seq)
{
	auto_free char *want = mem_printf(BLOCK_JSON, alloc, free_list, attrs, seq, alloc_seq);
	auto_free char *got = ipam_block_encode(b);
	struct ipam_block *again;

	ck_assert_str_eq(got, want);
	ck_assert_int_eq(ipam_block_decode(got, strlen(got), &again, NULL), 0);
	free(got);
	got = ipam_block_encode(again);
	ck_assert_str_eq(got, want);
	ipam_block_free(again);
}

START_TEST(block_is_calicos)
{
	const struct ipam_attr tunnel[] = {{"type", "ipipTunnelAddress"}, {"node", "node1"}};
	const struct ipam_attr pod[] = {{"namespace", "default"}, {"node", "node1"},
		{"pod", "web-0"}, {"timestamp", "2026-08-01 12:00:05.000000123 +0000 UTC"}};
	struct prefix cidr = prefix_from("10.244.66.128/29");
	struct ipam_block *b = block_create(&cidr, "node1", NOW);
	struct block_reserved none = {0};
	struct ip ip;

	expect_block(b, "[null,null,null,null,null,null,null,null]", "[0,1,2,3,4,5,6,7]", "null",
		"1785585600123456789", "{}");
	ck_assert_int_eq(block_auto_assign(b, &none, "ipip-tunnel-addr-node1", tunnel, 2, &ip), 0);
	block_bump(b);
	ck_assert_int_eq(block_auto_assign(b, &none, "k8s-pod-network.0f3c1d", pod, 4, &ip), 0);
	block_bump(b);
	ck_assert_str_eq(ip_str(&ip), "10.244.66.129");
	expect_block(b, "[0,1,null,null,null,null,null,null]", "[2,3,4,5,6,7]",
		"[" TUNNEL_ATTR
		",{\"handle_id\":\"k8s-pod-network.0f3c1d\",\"secondary\":{\"namespace\":\"default\","
		"\"node\":\"node1\",\"pod\":\"web-0\",\"timestamp\":\"2026-08-01 12:00:05.000000123 "
		"+0000 UTC\"}}]",
		"1785585600123456791", "{\"0\":1785585600123456789,\"1\":1785585600123456790}");
	ck_assert_uint_eq(block_release_handle(b, "k8s-pod-network.0f3c1d", 0, NOW + S), 1);
	block_bump(b);
	expect_block(b, "[0,null,null,null,null,null,null,null]", "[2,3,4,5,6,7,1]",
		"[" TUNNEL_ATTR "]", "1785585600123456792", "{\"0\":1785585600123456789}");
	ipam_block_free(b);
}
END_TEST

START_TEST(block_cools_down)
{
	struct prefix cidr = prefix_from("10.0.0.0/30");
	struct ipam_block *b = block_create(&cidr, "n", NOW);
	struct block_reserved none = {0};
	struct err err = ERR_INIT;
	struct ip ip;

	ck_assert_int_eq(block_auto_assign(b, &none, "h", NULL, 0, &ip), 0);
	ck_assert_int_eq(block_release(b, &ip, "other", 30, NOW, &err), -ESTALE);
	ck_assert_int_eq(block_release(b, &ip, "h\rx", 30, NOW, &err), 0);
	ck_assert(!block_is_empty(b));
	ck_assert_int_eq(block_release(b, &ip, NULL, 30, NOW, &err), -ENOENT);
	ck_assert_int_eq(block_assign(b, &ip, "h2", NULL, 0, &err), -EEXIST);
	block_collect(b, 30, NOW + 29 * S);
	ck_assert(!block_is_empty(b));
	block_collect(b, 30, NOW + 30 * S);
	ck_assert(block_is_empty(b));
	ck_assert_uint_eq(b->attrs.n, 0);
	ck_assert_uint_eq(b->free.v[3], 0);
	ipam_block_free(b);
}
END_TEST

START_TEST(who_has_it_is_told)
{
	struct prefix cidr = prefix_from("10.0.0.0/30");
	struct ipam_block *b = block_create(&cidr, "n", NOW);
	struct block_reserved none = {0};
	struct ip pods, ahead;
	struct err err = ERR_INIT;

	ck_assert_int_eq(block_auto_assign(b, &none, "net.c", NULL, 0, &pods), 0);
	ck_assert_int_eq(block_auto_assign(b, &none, "margay-reserve-n", NULL, 0, &ahead), 0);
	ck_assert_int_eq(block_assign(b, &pods, "h", NULL, 0, &err), -EEXIST);
	ck_assert_str_eq(err.text, "address 10.0.0.0 is in use by net.c");
	ck_assert_int_eq(block_assign(b, &ahead, "h", NULL, 0, &err), -EEXIST);
	ck_assert_ptr_nonnull(strstr(err.text, "assignmentMode is Manual"));
	ipam_block_free(b);
}
END_TEST

/* The naive model: who has each ordinal, when it was released, and the queue. */
struct naive {
	int owner[16]; /* -1 free, -2 cooling, else the handle's number */
	int64_t released[16];
	unsigned queue[16], n;
};

static void naive_collect(struct naive *m, unsigned cooldown, int64_t now_s)
{
	for (unsigned i = 0; i < 16; i++) {
		if (m->owner[i] == -2 && m->released[i] <= now_s - cooldown) {
			m->owner[i] = -1;
			m->queue[m->n++] = i;
		}
	}
}

static void naive_take(struct naive *m, unsigned pos, int owner)
{
	m->owner[m->queue[pos]] = owner;
	memmove(m->queue + pos, m->queue + pos + 1, (m->n - pos - 1) * sizeof(m->queue[0]));
	m->n--;
}

static void naive_compare(const struct naive *m, const struct ipam_block *b)
{
	static const char *const handles[] = {"h0", "h1", "h2", "h3"};

	ck_assert_uint_eq(m->n, b->free.n);
	for (unsigned i = 0; i < m->n; i++)
		ck_assert_uint_eq(m->queue[i], b->free.v[i]);
	for (unsigned i = 0; i < 16; i++) {
		struct ip ip = block_ip(b, i);
		const struct ipam_block_attr *a = block_lookup(b, &ip);

		if (m->owner[i] == -1) {
			ck_assert_ptr_null(a);
		} else if (m->owner[i] == -2) {
			ck_assert_int_eq(a->released_s, m->released[i]);
			ck_assert_ptr_null(a->handle);
		} else {
			ck_assert_str_eq(a->handle, handles[m->owner[i]]);
		}
	}
	/* As many attributes as there are different ones. */
	ck_assert_uint_le(b->attrs.n, 16);
	for (size_t i = 0; i < b->attrs.n; i++)
		for (size_t k = i + 1; k < b->attrs.n; k++)
			ck_assert(!b->attrs.v[i].handle || !b->attrs.v[k].handle ||
				  strcmp(b->attrs.v[i].handle, b->attrs.v[k].handle) != 0);
}

START_TEST(block_against_naive_model)
{
	struct prefix cidr = prefix_from("fd00::40/124");
	unsigned cooldown = _i ? 3 : 0;
	struct ipam_block *b = block_create(&cidr, "n", NOW);
	struct naive m = {.n = 16};
	struct prefix res_cidr = prefix_from("fd00::44/126");
	struct block_reserved res = {&res_cidr, 1};
	int64_t now = NOW;

	seed_and_say();
	for (unsigned i = 0; i < 16; i++) {
		m.owner[i] = -1;
		m.queue[i] = i;
	}
	for (int step = 0; step < 4000; step++) {
		unsigned ord = (unsigned)random() % 16;
		int h = (int)(random() % 4);
		char handle[8];
		struct ip ip = block_ip(b, ord);
		auto_free char *text = NULL;

		snprintf(handle, sizeof(handle), "h%d", h);
		now += random() % 2 * S;
		switch (random() % 5) {
		case 0: { /* any, but for .4 to .7 */
			unsigned pos = 0;

			while (pos < m.n && m.queue[pos] / 4 == 1)
				pos++;
			ck_assert_int_eq(block_auto_assign(b, &res, handle, NULL, 0, &ip),
				pos < m.n ? 0 : -ENOSPC);
			if (pos < m.n) {
				ck_assert_uint_eq(block_ordinal(b, &ip), m.queue[pos]);
				naive_take(&m, pos, h);
			}
			break;
		}
		case 1: {
			unsigned pos = 0;

			ck_assert_int_eq(block_assign(b, &ip, handle, NULL, 0, NULL),
				m.owner[ord] == -1 ? 0 : -EEXIST);
			while (pos < m.n && m.queue[pos] != ord)
				pos++;
			if (pos < m.n)
				naive_take(&m, pos, h);
			break;
		}
		case 2: {
			int want = m.owner[ord] < 0 ? -ENOENT : m.owner[ord] == h ? 0 : -ESTALE;

			ck_assert_int_eq(block_release(b, &ip, handle, cooldown, now, NULL), want);
			if (want == 0) {
				m.owner[ord] = -2;
				m.released[ord] = now / S;
				naive_collect(&m, cooldown, now / S);
			}
			break;
		}
		case 3: {
			uint32_t n = 0;

			for (unsigned i = 0; i < 16; i++) {
				if (m.owner[i] == h) {
					m.owner[i] = -2;
					m.released[i] = now / S;
					n++;
				}
			}
			if (n > 0)
				naive_collect(&m, cooldown, now / S);
			ck_assert_uint_eq(block_release_handle(b, handle, cooldown, now), n);
			break;
		}
		default:
			block_collect(b, cooldown, now);
			naive_collect(&m, cooldown, now / S);
			break;
		}
		naive_compare(&m, b);
		text = ipam_block_encode(b);
		ipam_block_free(b);
		ck_assert_int_eq(ipam_block_decode(text, strlen(text), &b, NULL), 0);
		naive_compare(&m, b);
	}
	ipam_block_free(b);
}
END_TEST

static const struct {
	const char *json, *want;
} bad_blocks[] = {
	{"", "column"},
	{"[]", "object"},
	{"{}", "cidr"},
	{"{\"cidr\":\"10.0.0.1/30\"}", "cidr"},
	{"{\"cidr\":\"10.0.0.0/8\"}", "more than"},
	{"{\"cidr\":\"10.0.0.0/30\"}", "allocations"},
	{"{\"cidr\":\"10.0.0.0/31\",\"allocations\":[0,null],\"unallocated\":[1]}", "attribute"},
	{"{\"cidr\":\"10.0.0.0/31\",\"allocations\":[null,null],\"unallocated\":[1]}",
		"unallocated"},
	{"{\"cidr\":\"10.0.0.0/31\",\"allocations\":[null,null],\"unallocated\":[1,1]}", "once"},
	{"{\"cidr\":\"10.0.0.0/31\",\"allocations\":[null,null],\"unallocated\":[1,2]}", "once"},
};

START_TEST(bad_block_is_refused)
{
	struct err err = ERR_INIT;
	struct ipam_block *b;

	ck_assert_int_eq(
		ipam_block_decode(bad_blocks[_i].json, strlen(bad_blocks[_i].json), &b, &err),
		-EINVAL);
	ck_assert_msg(strstr(err.text, bad_blocks[_i].want), "%s", err.text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("block");
	TCase *t = tcase_create("block");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, block_is_calicos);
	tcase_add_test(t, block_cools_down);
	tcase_add_test(t, who_has_it_is_told);
	tcase_add_loop_test(t, block_against_naive_model, 0, 2);
	tcase_add_loop_test(t, bad_block_is_refused, 0, array_size(bad_blocks));
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
