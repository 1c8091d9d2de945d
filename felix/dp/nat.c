/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "nat"
#include "felix/dp/nat.h"

#include <linux/netfilter.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "felix/calc/calc.h"
#include "felix/dp/tunnels.h"
#include "kern/nft.h"

#define SET_MASQ "masq-pools"
#define SET_ALL "all-pools"
#define CHAIN "nat-postrouting"
#define PRIORITY 100 /* srcnat */

struct nat {
	struct nft *nft;
	bool wanted, dirty, deletes;
	struct nft_ruleset *want[2]; /* ip, ip6; NULL = no table */
};

static const uint16_t families[2] = {NFPROTO_IPV4, NFPROTO_IPV6};

struct nat *nat_new(struct nft *n)
{
	struct nat *nat = mem_new(struct nat);

	nat->nft = n;
	return nat;
}

static void clear(struct nat *nat)
{
	nft_ruleset_free(take_ptr(nat->want[0]));
	nft_ruleset_free(take_ptr(nat->want[1]));
}

void nat_free(struct nat *nat)
{
	if (!nat)
		return;
	clear(nat);
	free(nat);
}

static struct nft_ruleset *build(const struct calc_wants *w, enum ip_family family)
{
	bool masq = false, tunnel = family == IP_V4 && w->tunnel;
	struct nft_ruleset *rs;
	struct nftnl_rule *r;

	for (size_t i = 0; i < w->masq.n; i++)
		masq |= w->masq.v[i].addr.family == family;
	if (!masq && !tunnel)
		return NULL;
	rs = nft_ruleset_new(families[family == IP_V6], NAT_TABLE);
	nft_prefix_set(rs, SET_MASQ, family, w->masq.v, w->masq.n);
	nft_prefix_set(rs, SET_ALL, family, w->pools.v, w->pools.n);
	nft_base_chain(rs, CHAIN, "nat", NF_INET_POST_ROUTING, PRIORITY);
	r = nft_rule(rs, CHAIN);
	nft_match_addr(r, family, true, SET_MASQ, false);
	nft_match_addr(r, family, false, SET_ALL, true);
	nft_masquerade(r);
	if (tunnel) {
		r = nft_rule(rs, CHAIN);
		nft_match_oifname(r, TUNNELS_IPIP);
		nft_match_saddr_local(r, true, true);
		nft_match_saddr_local(r, false, false);
		nft_masquerade(r);
	}
	return rs;
}

void nat_want(struct nat *nat, const struct calc_wants *w)
{
	clear(nat);
	nat->want[0] = build(w, IP_V4);
	nat->want[1] = build(w, IP_V6);
	nat->wanted = nat->dirty = true;
}

void nat_allow_deletes(struct nat *nat)
{
	nat->deletes = nat->dirty = true;
}

void nat_event(struct nat *nat, const char *table)
{
	if (!table || strcmp(table, NAT_TABLE) == 0)
		nat->dirty = true;
}

void nat_mark_unknown(struct nat *nat)
{
	nat->dirty = true;
}

static int apply_family(struct nat *nat, int i, struct err *err)
{
	auto_(nft_ruleset) struct nft_ruleset *have = NULL;
	int r = nft_read(nat->nft, families[i], NAT_TABLE, &have, err);
	bool absent;

	if (r < 0)
		return r;
	absent = have->chains.n == 0 && have->sets.n == 0;
	if (!absent && !nat->deletes)
		return 0;
	if (!nat->want[i])
		return absent ? 0 : nft_delete_table(nat->nft, families[i], NAT_TABLE, err);
	if (nft_equal(have, nat->want[i]))
		return 0;
	log_debug("writing table %s", NAT_TABLE);
	return nft_write(nat->nft, nat->want[i], err);
}

int nat_apply(struct nat *nat, struct err *err)
{
	int first = 0;

	if (!nat->wanted || !nat->dirty)
		return 0;
	/* One family's failure is not the other's. */
	for (int i = 0; i < 2; i++) {
		int r = apply_family(nat, i, first < 0 ? NULL : err);

		first = first < 0 ? first : r;
	}
	nat->dirty = first < 0;
	return first;
}
