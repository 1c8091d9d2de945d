/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "masq"
#include "proxy/masq.h"

#include <linux/netfilter.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "kern/nft.h"
#include "proxy/calc.h"

#define SET_SERVICES "service-ips"
#define SET_PODS "pod-ips"
#define SET_NODE "node-ips"
#define SET_HAIRPIN "hairpin"
#define CHAIN_NAT "nat-postrouting"
#define PRIORITY_NAT 100 /* srcnat */
#define CHAIN_FILTER "filter-input"
#define PRIORITY_FILTER 110 /* behind IPVS, 98 and 99, and nat */

static const struct {
	uint8_t protocol;
	const char *set;
} ports[] = {
	{IPPROTO_TCP, "tcp-node-ports"},
	{IPPROTO_UDP, "udp-node-ports"},
	{IPPROTO_SCTP, "sctp-node-ports"},
};

struct family {
	enum ip_family ip;
	uint16_t nf;
	enum nft_key addr, pair;
	uint8_t icmp;
};

static const struct family families[2] = {
	{IP_V4, NFPROTO_IPV4, NFT_KEY_IP4, NFT_KEY_IP4_PAIR, IPPROTO_ICMP},
	{IP_V6, NFPROTO_IPV6, NFT_KEY_IP6, NFT_KEY_IP6_PAIR, IPPROTO_ICMPV6},
};

struct table {
	struct nft_ruleset *want; /* NULL = no table */
	bool dirty;		  /* else the kernel holds what is wanted */
	struct nft_ruleset *have; /* while dirty: what the kernel holds; NULL = read it */
};

struct masq {
	struct nft *nft;
	bool wanted;
	struct table tables[2];
};

struct masq *masq_new(struct nft *n)
{
	struct masq *m = mem_new(struct masq);

	m->nft = n;
	return m;
}

void masq_free(struct masq *m)
{
	if (!m)
		return;
	for (int i = 0; i < 2; i++) {
		nft_ruleset_free(m->tables[i].want);
		nft_ruleset_free(m->tables[i].have);
	}
	free(m);
}

/* ---- what is wanted ---- */

struct fill {
	const struct family *f;
	struct nftnl_set *set;
	uint8_t protocol;
};

static void add_hairpin(void *arg, const struct ip *ip)
{
	const struct fill *fl = arg;
	uint8_t pair[32];
	size_t n = ip_n_bytes(ip);

	if (ip->family != fl->f->ip)
		return;
	memcpy(pair, ip->b, n);
	memcpy(pair + n, ip->b, n);
	nft_key_add(fl->set, pair);
}

static void add_port(void *arg, uint8_t protocol, uint16_t port)
{
	const struct fill *fl = arg;
	uint8_t be[2] = {(uint8_t)(port >> 8), (uint8_t)port};

	if (protocol == fl->protocol)
		nft_key_add(fl->set, be);
}

static void add_sets(
	struct nft_ruleset *rs, const struct family *f, const struct masq_want *w, bool pods)
{
	struct fill fl = {.f = f};

	nft_prefix_set(rs, SET_SERVICES, f->ip, w->ranges, w->n_ranges);
	if (pods)
		nft_prefix_set(rs, SET_PODS, f->ip, w->pods, w->n_pods);
	fl.set = nft_key_set(rs, SET_NODE, f->addr);
	for (size_t i = 0; i < w->n_node_ips; i++)
		if (w->node_ips[i].family == f->ip)
			nft_key_add(fl.set, w->node_ips[i].b);
	for (size_t i = 0; i < array_size(ports); i++) {
		fl.set = nft_key_set(rs, ports[i].set, NFT_KEY_PORT);
		fl.protocol = ports[i].protocol;
		calc_for_each_node_port(w->calc, add_port, &fl);
	}
	fl.set = nft_key_set(rs, SET_HAIRPIN, f->pair);
	calc_for_each_local(w->calc, add_hairpin, &fl);
}

static void add_nat(struct nft_ruleset *rs, const struct family *f, bool all, bool pods)
{
	struct nftnl_rule *r;

	nft_base_chain(rs, CHAIN_NAT, "nat", NF_INET_POST_ROUTING, PRIORITY_NAT);
	r = nft_rule(rs, CHAIN_NAT);
	nft_match_addr_pair(r, f->ip, SET_HAIRPIN);
	nft_masquerade(r);
	for (size_t i = 0; i < array_size(ports); i++) {
		r = nft_rule(rs, CHAIN_NAT);
		nft_match_original_daddr(r, f->ip, SET_NODE);
		nft_match_protocol(r, ports[i].protocol, false);
		nft_match_original_dport(r, ports[i].set);
		nft_match_addr(r, f->ip, false, SET_NODE, true);
		nft_masquerade(r);
	}
	if (!all && !pods)
		return;
	r = nft_rule(rs, CHAIN_NAT);
	nft_match_original_daddr(r, f->ip, SET_SERVICES);
	if (!all)
		nft_match_addr(r, f->ip, true, SET_PODS, true);
	nft_match_saddr_local(r, false, true);
	nft_masquerade(r);
}

static void add_filter(struct nft_ruleset *rs, const struct family *f)
{
	struct nftnl_rule *r;

	nft_base_chain(rs, CHAIN_FILTER, "filter", NF_INET_LOCAL_IN, PRIORITY_FILTER);
	r = nft_rule(rs, CHAIN_FILTER);
	nft_match_addr(r, f->ip, false, SET_SERVICES, false);
	nft_match_protocol(r, IPPROTO_TCP, false);
	nft_reject_tcp(r);
	/* Ping is answered, as if each Service were a host. */
	r = nft_rule(rs, CHAIN_FILTER);
	nft_match_addr(r, f->ip, false, SET_SERVICES, false);
	nft_match_protocol(r, f->icmp, true);
	nft_reject(r, f->ip);
}

static struct nft_ruleset *build(const struct family *f, const struct masq_want *w)
{
	bool any = false, pods = false;
	struct nft_ruleset *rs;

	for (size_t i = 0; i < w->n_ranges; i++)
		any |= w->ranges[i].addr.family == f->ip;
	for (size_t i = 0; i < w->n_pods; i++)
		pods |= w->pods[i].addr.family == f->ip;
	if (!any)
		return NULL;
	rs = nft_ruleset_new(f->nf, MASQ_TABLE);
	add_sets(rs, f, w, pods);
	add_nat(rs, f, w->all, pods);
	add_filter(rs, f);
	return rs;
}

void masq_want(struct masq *m, const struct masq_want *w)
{
	for (int i = 0; i < 2; i++) {
		struct table *t = &m->tables[i];

		if (!t->dirty)
			t->have = take_ptr(t->want);
		nft_ruleset_free(t->want);
		t->want = build(&families[i], w);
		t->dirty = true;
	}
	m->wanted = true;
}

void masq_mark_unknown(struct masq *m)
{
	for (int i = 0; i < 2; i++) {
		nft_ruleset_free(take_ptr(m->tables[i].have));
		m->tables[i].dirty = true;
	}
}

bool masq_event(struct masq *m, const char *table)
{
	if (table && strcmp(table, MASQ_TABLE) != 0)
		return false;
	masq_mark_unknown(m);
	return true;
}

/* ---- the kernel ---- */

static int apply_table(struct masq *m, int i, struct err *err)
{
	struct table *t = &m->tables[i];
	int r = 0;

	if (!t->dirty)
		return 0;
	if (!t->have)
		r = nft_read(m->nft, families[i].nf, MASQ_TABLE, &t->have, err);
	if (r < 0)
		return r;
	if (!t->want)
		r = t->have->chains.n == 0 && t->have->sets.n == 0
			    ? 0
			    : nft_delete_table(m->nft, families[i].nf, MASQ_TABLE, err);
	else if (!nft_equal(t->have, t->want))
		r = nft_change(m->nft, t->have, t->want, err);
	nft_ruleset_free(take_ptr(t->have));
	t->dirty = r < 0;
	return r;
}

int masq_apply(struct masq *m, struct err *err)
{
	int r = 0;

	/* One family's failure is not the other's. */
	for (int i = 0; m->wanted && i < 2; i++) {
		struct err e = ERR_INIT;
		int one = apply_table(m, i, &e);

		if (r < 0 || one == 0)
			continue;
		r = one;
		if (err)
			*err = e;
	}
	return r;
}
