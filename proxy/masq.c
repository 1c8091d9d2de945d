/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "masq"
#include "proxy/masq.h"

#include <linux/netfilter.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hmap.h"
#include "base/list.h"
#include "base/log.h"
#include "base/vec.h"
#include "kern/nft.h"

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

/* No padding: comparable and hashable as a whole. */
struct fact {
	uint8_t protocol; /* of a node port; 0: ip is a local endpoint */
	struct ip ip;
	uint16_t port;
};
_Static_assert(sizeof(struct fact) == 20, "no padding");

struct item {
	struct hmap_node node;
	struct fact fact;
	bool wanted;
	bool was;	     /* wanted at the last apply */
	struct list changed; /* since then */
};

struct masq {
	struct nft *nft;
	bool wanted; /* anything: since the first masq_want() */
	VEC(struct prefix) ranges, pods;
	VEC(struct ip) node_ips;
	bool all;
	bool deletes; /* else elements are only added */
	struct hmap items;
	struct list changed;
	bool unknown
		[2]; /* by family; else the kernel holds what was wanted at the last apply, and what is kept */
};

struct masq *masq_new(void)
{
	struct masq *m = mem_new(struct masq);

	m->unknown[0] = m->unknown[1] = true;
	list_init(&m->changed);
	return m;
}

void masq_use(struct masq *m, struct nft *n)
{
	m->nft = n;
}

static void free_item(struct masq *m, struct item *it)
{
	hmap_remove(&m->items, &it->node);
	list_del(&it->changed);
	free(it);
}

void masq_free(struct masq *m)
{
	struct item *it;

	if (!m)
		return;
	hmap_for_each (it, &m->items, node)
		free_item(m, it);
	hmap_done(&m->items);
	vec_done(&m->ranges);
	vec_done(&m->pods);
	vec_done(&m->node_ips);
	free(m);
}

/* ---- what is wanted ---- */

static void set_fact(struct masq *m, const struct fact *fact, bool wanted)
{
	uint64_t hash = hash_bytes(fact, sizeof(*fact));
	struct item *it, *found = NULL;

	hmap_for_each_hash (it, &m->items, hash, node)
		if (memcmp(&it->fact, fact, sizeof(*fact)) == 0)
			found = it;
	if (!found && !wanted)
		return;
	if (!found) {
		found = mem_new(struct item);
		found->fact = *fact;
		list_init(&found->changed);
		hmap_insert(&m->items, &found->node, hash);
	}
	found->wanted = wanted;
	list_del(&found->changed);
	list_add_tail(&m->changed, &found->changed);
}

void masq_set_local(struct masq *m, const struct ip *ip, bool wanted)
{
	struct fact fact = {.ip = *ip};

	set_fact(m, &fact, wanted);
}

void masq_set_node_port(struct masq *m, uint8_t protocol, uint16_t port, bool wanted)
{
	struct fact fact = {.protocol = protocol, .port = port};

	set_fact(m, &fact, wanted);
}

/* The sets of a ruleset that facts are in. */
struct fact_sets {
	struct nftnl_set *ports[array_size(ports)], *hairpin;
};

static struct fact_sets add_fact_sets(struct nft_ruleset *rs, const struct family *f)
{
	struct fact_sets sets;

	for (size_t i = 0; i < array_size(ports); i++)
		sets.ports[i] = nft_key_set(rs, ports[i].set, NFT_KEY_PORT);
	sets.hairpin = nft_key_set(rs, SET_HAIRPIN, f->pair);
	return sets;
}

/* Whether it is one of the family's. */
static bool add_fact(const struct fact_sets *sets, const struct family *f, const struct fact *fact)
{
	const uint8_t port[2] = {(uint8_t)(fact->port >> 8), (uint8_t)fact->port};
	size_t n = ip_n_bytes(&fact->ip);
	uint8_t pair[32];

	for (size_t i = 0; fact->protocol && i < array_size(ports); i++)
		if (ports[i].protocol == fact->protocol)
			nft_key_add(sets->ports[i], port);
	if (fact->protocol)
		return true;
	if (fact->ip.family != f->ip)
		return false;
	memcpy(pair, fact->ip.b, n);
	memcpy(pair + n, fact->ip.b, n);
	nft_key_add(sets->hairpin, pair);
	return true;
}

/* What comes from the datastore. */
static void keep_sets(struct nft_ruleset *rs, const struct nft_ruleset *have)
{
	nft_keep(rs, have, SET_PODS);
	nft_keep(rs, have, SET_HAIRPIN);
	for (size_t i = 0; i < array_size(ports); i++)
		nft_keep(rs, have, ports[i].set);
}

static void add_sets(
	struct nft_ruleset *rs, const struct family *f, const struct masq *m, bool pods)
{
	struct fact_sets facts;
	struct nftnl_set *node;
	const struct item *it;
	const struct ip *ip;

	nft_prefix_set(rs, SET_SERVICES, f->ip, m->ranges.v, m->ranges.n);
	if (pods)
		nft_prefix_set(rs, SET_PODS, f->ip, m->pods.v, m->pods.n);
	node = nft_key_set(rs, SET_NODE, f->addr);
	vec_for_each (&m->node_ips, ip)
		if (ip->family == f->ip)
			nft_key_add(node, ip->b);
	facts = add_fact_sets(rs, f);
	hmap_for_each (it, &m->items, node)
		if (it->wanted)
			(void)add_fact(&facts, f, &it->fact);
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

static bool has_family(const struct prefix *v, size_t n, enum ip_family family)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].addr.family == family)
			return true;
	return false;
}

/* NULL: no table. */
static struct nft_ruleset *build(
	const struct family *f, const struct masq *m, const struct nft_ruleset *have)
{
	bool pods = has_family(m->pods.v, m->pods.n, f->ip) ||
		    (!m->deletes && nft_has_set(have, SET_PODS));
	struct nft_ruleset *rs;

	if (!has_family(m->ranges.v, m->ranges.n, f->ip))
		return NULL;
	rs = nft_ruleset_new(f->nf, MASQ_TABLE);
	add_sets(rs, f, m, pods);
	if (!m->deletes)
		keep_sets(rs, have);
	add_nat(rs, f, m->all, pods);
	add_filter(rs, f);
	return rs;
}

void masq_want(struct masq *m, const struct masq_want *w)
{
	m->ranges.n = m->pods.n = m->node_ips.n = 0;
	for (size_t i = 0; i < w->n_ranges; i++)
		vec_push(&m->ranges, w->ranges[i]);
	for (size_t i = 0; i < w->n_pods; i++)
		vec_push(&m->pods, w->pods[i]);
	for (size_t i = 0; i < w->n_node_ips; i++)
		vec_push(&m->node_ips, w->node_ips[i]);
	m->all = w->all;
	m->wanted = true;
	masq_mark_unknown(m);
}

void masq_allow_deletes(struct masq *m)
{
	m->deletes = true;
	masq_mark_unknown(m); /* what was kept is looked at again */
}

void masq_mark_unknown(struct masq *m)
{
	m->unknown[0] = m->unknown[1] = true;
}

bool masq_event(struct masq *m, const char *table)
{
	if (table && strcmp(table, MASQ_TABLE) != 0)
		return false;
	masq_mark_unknown(m);
	return true;
}

/* ---- the kernel ---- */

static int apply_whole(struct masq *m, const struct family *f, struct err *err)
{
	auto_(nft_ruleset) struct nft_ruleset *have = NULL, *want = NULL;
	int r = nft_read(m->nft, f->nf, MASQ_TABLE, &have, err);

	if (r < 0)
		return r;
	want = build(f, m, have);
	if (want)
		return nft_equal(have, want) ? 0 : nft_change(m->nft, have, want, err);
	if (have->chains.n == 0 && have->sets.n == 0)
		return 0;
	return nft_delete_table(m->nft, f->nf, MASQ_TABLE, err);
}

/* Both sides of the difference are given without what they have in common. */
static int apply_changes(struct masq *m, const struct family *f, struct err *err)
{
	auto_(nft_ruleset) struct nft_ruleset *have = NULL, *want = NULL;
	struct fact_sets gone, new;
	const struct item *it;
	bool any = false;

	if (list_empty(&m->changed) || !has_family(m->ranges.v, m->ranges.n, f->ip))
		return 0;
	have = nft_ruleset_new(f->nf, MASQ_TABLE);
	want = nft_ruleset_new(f->nf, MASQ_TABLE);
	gone = add_fact_sets(have, f);
	new = add_fact_sets(want, f);
	list_for_each (it, &m->changed, changed)
		if (it->was != it->wanted && (it->wanted || m->deletes))
			any |= add_fact(it->wanted ? &new : &gone, f, &it->fact);
	return any ? nft_change(m->nft, have, want, err) : 0;
}

/* What was not written for a family is read there before the next attempt. */
static void settle(struct masq *m)
{
	struct item *it, *tmp;

	list_for_each_safe (it, tmp, &m->changed, changed) {
		list_del(&it->changed);
		it->was = it->wanted;
		if (!it->wanted)
			free_item(m, it);
	}
}

int masq_apply(struct masq *m, struct err *err)
{
	int r = 0;

	if (!m->wanted)
		return 0;
	/* One family's failure is not the other's. */
	for (int i = 0; i < 2; i++) {
		struct err e = ERR_INIT;
		int one = m->unknown[i] ? apply_whole(m, &families[i], &e)
					: apply_changes(m, &families[i], &e);

		m->unknown[i] = one < 0;
		if (r < 0 || one == 0)
			continue;
		r = one;
		if (err)
			*err = e;
	}
	settle(m);
	return r;
}
