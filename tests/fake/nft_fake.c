/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Of a ruleset only sets are kept, and of them the elements, as text. */
#include "fake/nft_fake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "kern/nft.h"

struct nftnl_set {
	char name[32];
	size_t key_size;
	VEC(char *) elements;
};

struct nft {
	int unused;
};

struct nft_monitor {
	int fd; /* on which nothing ever comes */
};

static struct {
	bool present;
	unsigned opens;
	VEC(struct nft_ruleset *) tables;
} k;

unsigned nft_fake_opens(void)
{
	return k.opens;
}

void nft_fake_reset(bool present)
{
	for (size_t i = 0; i < k.tables.n; i++)
		nft_ruleset_free(k.tables.v[i]);
	vec_done(&k.tables);
	memset(&k, 0, sizeof(k));
	k.present = present;
}

int nft_open(struct nft **ret, struct err *err)
{
	k.opens++;
	if (!k.present)
		return err_set(err, -EPROTONOSUPPORT, "the fake kernel has no nftables");
	*ret = mem_new(struct nft);
	return 0;
}

void nft_close(struct nft *n)
{
	free(n);
}

/* ---- content ---- */

struct nft_ruleset *nft_ruleset_new(uint16_t family, const char *table)
{
	struct nft_ruleset *rs = mem_new(struct nft_ruleset);

	rs->family = family;
	rs->table = mem_strdup(table);
	return rs;
}

static void free_set(struct nftnl_set *s)
{
	for (size_t i = 0; i < s->elements.n; i++)
		free(s->elements.v[i]);
	vec_done(&s->elements);
	free(s);
}

void nft_ruleset_free(struct nft_ruleset *rs)
{
	if (!rs)
		return;
	for (size_t i = 0; i < rs->sets.n; i++)
		free_set(rs->sets.v[i]);
	vec_done(&rs->sets);
	free(rs->table);
	free(rs);
}

static struct nftnl_set *add_set(struct nft_ruleset *rs, const char *name, size_t key_size)
{
	struct nftnl_set *s = mem_new(struct nftnl_set);

	snprintf(s->name, sizeof(s->name), "%s", name);
	s->key_size = key_size;
	vec_push(&rs->sets, s);
	return s;
}

static struct nftnl_set *find_set(const struct nft_ruleset *rs, const char *name)
{
	for (size_t i = 0; i < rs->sets.n; i++)
		if (strcmp(rs->sets.v[i]->name, name) == 0)
			return rs->sets.v[i];
	return NULL;
}

static bool find_element(const struct nftnl_set *s, const char *text, size_t *ret)
{
	for (*ret = 0; *ret < s->elements.n; (*ret)++)
		if (strcmp(s->elements.v[*ret], text) == 0)
			return true;
	return false;
}

static void add_element(struct nftnl_set *s, const char *text)
{
	size_t i;

	if (!find_element(s, text, &i))
		vec_push(&s->elements, mem_strdup(text));
}

static void add_all(struct nftnl_set *to, const struct nftnl_set *from)
{
	for (size_t i = 0; i < from->elements.n; i++)
		add_element(to, from->elements.v[i]);
}

void nft_prefix_set(struct nft_ruleset *rs, const char *name, enum ip_family family,
	const struct prefix *v, size_t n)
{
	struct nftnl_set *s = add_set(rs, name, 0);

	for (size_t i = 0; i < n; i++)
		if (v[i].addr.family == family)
			add_element(s, prefix_str(&v[i]));
}

struct nftnl_set *nft_key_set(struct nft_ruleset *rs, const char *name, enum nft_key key)
{
	static const size_t sizes[] = {[NFT_KEY_IP4] = 4,
		[NFT_KEY_IP4_PAIR] = 8,
		[NFT_KEY_IP6] = 16,
		[NFT_KEY_IP6_PAIR] = 32,
		[NFT_KEY_PORT] = 2};

	return add_set(rs, name, sizes[key]);
}

void nft_key_add(struct nftnl_set *s, const void *bytes)
{
	struct strbuf sb = STRBUF_INIT;

	for (size_t i = 0; i < s->key_size; i++)
		strbuf_addf(&sb, i ? ".%u" : "%u", ((const uint8_t *)bytes)[i]);
	add_element(s, strbuf_str(&sb));
	strbuf_done(&sb);
}

bool nft_has_set(const struct nft_ruleset *rs, const char *name)
{
	return find_set(rs, name);
}

void nft_keep(struct nft_ruleset *rs, const struct nft_ruleset *have, const char *name)
{
	struct nftnl_set *to = find_set(rs, name), *from = find_set(have, name);

	if (to && from)
		add_all(to, from);
}

/* ---- rules: nobody looks at them ---- */

struct nftnl_rule *nft_rule(struct nft_ruleset *rs, const char *chain)
{
	(void)rs;
	(void)chain;
	return NULL;
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

/* ---- the kernel ---- */

/* Where the table is, or the end. */
static size_t find_table(uint16_t family, const char *table)
{
	size_t i = 0;

	while (i < k.tables.n &&
		(k.tables.v[i]->family != family || strcmp(k.tables.v[i]->table, table) != 0))
		i++;
	return i;
}

static struct nft_ruleset *copy(const struct nft_ruleset *rs)
{
	struct nft_ruleset *ret = nft_ruleset_new(rs->family, rs->table);

	for (size_t i = 0; i < rs->sets.n; i++)
		add_all(add_set(ret, rs->sets.v[i]->name, rs->sets.v[i]->key_size), rs->sets.v[i]);
	return ret;
}

int nft_read(struct nft *n, uint16_t family, const char *table, struct nft_ruleset **ret,
	struct err *err)
{
	size_t i = find_table(family, table);

	(void)n;
	(void)err;
	*ret = i < k.tables.n ? copy(k.tables.v[i]) : nft_ruleset_new(family, table);
	return 0;
}

int nft_delete_table(struct nft *n, uint16_t family, const char *table, struct err *err)
{
	size_t i = find_table(family, table);

	(void)n;
	(void)err;
	if (i < k.tables.n) {
		nft_ruleset_free(k.tables.v[i]);
		vec_swap_remove(&k.tables, i);
	}
	return 0;
}

int nft_write(struct nft *n, const struct nft_ruleset *rs, struct err *err)
{
	(void)nft_delete_table(n, rs->family, rs->table, err);
	vec_push(&k.tables, copy(rs));
	return 0;
}

static bool is_subset(const struct nft_ruleset *a, const struct nft_ruleset *b)
{
	size_t at;

	for (size_t i = 0; i < a->sets.n; i++) {
		const struct nftnl_set *s = a->sets.v[i], *other = find_set(b, s->name);

		if (!other)
			return false;
		for (size_t e = 0; e < s->elements.n; e++)
			if (!find_element(other, s->elements.v[e], &at))
				return false;
	}
	return true;
}

bool nft_equal(const struct nft_ruleset *a, const struct nft_ruleset *b)
{
	return is_subset(a, b) && is_subset(b, a);
}

/* Both may be parts of what is there: then they have the same sets. */
int nft_change(struct nft *n, const struct nft_ruleset *have, const struct nft_ruleset *rs,
	struct err *err)
{
	size_t i = find_table(rs->family, rs->table), at;

	if (i == k.tables.n || have->sets.n != rs->sets.n)
		return nft_write(n, rs, err);
	for (size_t s = 0; s < rs->sets.n; s++) {
		struct nftnl_set *to = find_set(k.tables.v[i], rs->sets.v[s]->name);
		const struct nftnl_set *old = find_set(have, rs->sets.v[s]->name);

		for (size_t e = 0; old && to && e < old->elements.n; e++)
			if (!find_element(rs->sets.v[s], old->elements.v[e], &at) &&
				find_element(to, old->elements.v[e], &at)) {
				free(to->elements.v[at]);
				vec_swap_remove(&to->elements, at);
			}
		if (to)
			add_all(to, rs->sets.v[s]);
	}
	return 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char *nft_fake_set(uint16_t family, const char *table, const char *set)
{
	size_t i = find_table(family, table);
	struct nftnl_set *s = i < k.tables.n ? find_set(k.tables.v[i], set) : NULL;
	struct strbuf sb = STRBUF_INIT;

	if (!s)
		return NULL;
	if (s->elements.n > 0)
		qsort(s->elements.v, s->elements.n, sizeof(s->elements.v[0]), by_text);
	for (size_t e = 0; e < s->elements.n; e++)
		strbuf_addf(&sb, e ? " %s" : "%s", s->elements.v[e]);
	return strbuf_take(&sb);
}

int nft_monitor_open(const struct nft *except, struct nft_monitor **ret, struct err *err)
{
	(void)except;
	(void)err;
	*ret = mem_new(struct nft_monitor);
	(*ret)->fd = eventfd(0, EFD_CLOEXEC);
	return 0;
}

void nft_monitor_close(struct nft_monitor *m)
{
	if (!m)
		return;
	close(m->fd);
	free(m);
}

int nft_monitor_fd(const struct nft_monitor *m)
{
	return m->fd;
}

int nft_monitor_read(struct nft_monitor *m, nft_event_fn *fn, void *arg, struct err *err)
{
	(void)m;
	(void)fn;
	(void)arg;
	(void)err;
	return 0;
}
