/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A kernel without nftables, for scenarios about everything else: opening fails, so the rest is
 * never called. */
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "fake/nft_fake.h"
#include "kern/nft.h"

static unsigned opens;

unsigned nft_fake_opens(void)
{
	return opens;
}

int nft_open(struct nft **ret, struct err *err)
{
	(void)ret;
	opens++;
	return err_set(err, -EPROTONOSUPPORT, "the fake kernel has no nftables");
}

void nft_close(struct nft *n)
{
	(void)n;
}

struct nft_ruleset *nft_ruleset_new(uint16_t family, const char *table)
{
	(void)family;
	(void)table;
	abort();
}

void nft_ruleset_free(struct nft_ruleset *rs)
{
	(void)rs;
}

void nft_base_chain(
	struct nft_ruleset *rs, const char *name, const char *type, uint32_t hook, int32_t priority)
{
	(void)rs;
	(void)name;
	(void)type;
	(void)hook;
	(void)priority;
}

void nft_prefix_set(struct nft_ruleset *rs, const char *name, enum ip_family family,
	const struct prefix *v, size_t n)
{
	(void)rs;
	(void)name;
	(void)family;
	(void)v;
	(void)n;
}

struct nftnl_rule *nft_rule(struct nft_ruleset *rs, const char *chain)
{
	(void)rs;
	(void)chain;
	abort();
}

void nft_match_addr(
	struct nftnl_rule *r, enum ip_family family, bool source, const char *set, bool invert)
{
	(void)r;
	(void)family;
	(void)source;
	(void)set;
	(void)invert;
}

void nft_match_oifname(struct nftnl_rule *r, const char *name)
{
	(void)r;
	(void)name;
}

void nft_match_saddr_local(struct nftnl_rule *r, bool oif, bool invert)
{
	(void)r;
	(void)oif;
	(void)invert;
}

void nft_masquerade(struct nftnl_rule *r)
{
	(void)r;
}

struct nftnl_set *nft_key_set(struct nft_ruleset *rs, const char *name, enum nft_key key)
{
	(void)rs;
	(void)name;
	(void)key;
	abort();
}

void nft_key_add(struct nftnl_set *s, const void *bytes)
{
	(void)s;
	(void)bytes;
}

void nft_match_addr_pair(struct nftnl_rule *r, enum ip_family family, const char *set)
{
	(void)r;
	(void)family;
	(void)set;
}

void nft_match_original_daddr(struct nftnl_rule *r, enum ip_family family, const char *set)
{
	(void)r;
	(void)family;
	(void)set;
}

void nft_match_original_dport(struct nftnl_rule *r, const char *set)
{
	(void)r;
	(void)set;
}

void nft_match_protocol(struct nftnl_rule *r, uint8_t protocol, bool invert)
{
	(void)r;
	(void)protocol;
	(void)invert;
}

void nft_reject(struct nftnl_rule *r, enum ip_family family)
{
	(void)r;
	(void)family;
}

void nft_reject_tcp(struct nftnl_rule *r)
{
	(void)r;
}

int nft_read(struct nft *n, uint16_t family, const char *table, struct nft_ruleset **ret,
	struct err *err)
{
	(void)n;
	(void)family;
	(void)table;
	return nft_open((struct nft **)ret, err);
}

bool nft_equal(const struct nft_ruleset *a, const struct nft_ruleset *b)
{
	return a == b;
}

int nft_write(struct nft *n, const struct nft_ruleset *rs, struct err *err)
{
	(void)n;
	(void)rs;
	return nft_open(NULL, err);
}

int nft_change(struct nft *n, const struct nft_ruleset *have, const struct nft_ruleset *rs,
	struct err *err)
{
	(void)n;
	(void)have;
	(void)rs;
	return nft_open(NULL, err);
}

int nft_delete_table(struct nft *n, uint16_t family, const char *table, struct err *err)
{
	(void)n;
	(void)family;
	(void)table;
	return nft_open(NULL, err);
}

int nft_monitor_open(const struct nft *except, struct nft_monitor **ret, struct err *err)
{
	(void)except;
	(void)ret;
	return nft_open(NULL, err);
}

void nft_monitor_close(struct nft_monitor *m)
{
	(void)m;
}

int nft_monitor_fd(const struct nft_monitor *m)
{
	(void)m;
	return -1;
}

int nft_monitor_read(struct nft_monitor *m, nft_event_fn *fn, void *arg, struct err *err)
{
	(void)m;
	(void)fn;
	(void)arg;
	return nft_open(NULL, err);
}
