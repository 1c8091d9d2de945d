/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A path-compressed binary trie, one root per family. A node stands for a prefix; its children lie
 * inside it and start with the bit that follows.
 *
 *	10.0.0.0/8 ── 0 ── 10.1.0.0/16
 *	           └─ 1 ── (10.128.0.0/9, no value: a fork) ── ...
 */
#include "net/trie.h"

#include <stdlib.h>

#include "base/mem.h"

struct node {
	struct prefix p;
	void *value; /* NULL: a fork only */
	struct node *child[2];
};

struct trie {
	struct node *root[2]; /* IPv4, IPv6 */
};

struct trie *trie_new(void)
{
	return mem_new(struct trie);
}

static void node_free(struct node *n)
{
	if (!n)
		return;
	node_free(n->child[0]);
	node_free(n->child[1]);
	free(n);
}

void trie_free(struct trie *t)
{
	if (!t)
		return;
	node_free(t->root[0]);
	node_free(t->root[1]);
	free(t);
}

static unsigned bit(const struct ip *ip, unsigned i)
{
	return ip->b[i / 8] >> (7 - i % 8) & 1u;
}

static unsigned common_bits(const struct prefix *a, const struct prefix *b)
{
	unsigned max = a->plen < b->plen ? a->plen : b->plen, i = 0;

	while (i < max && bit(&a->addr, i) == bit(&b->addr, i))
		i++;
	return i;
}

static struct node *const *root_of(const struct trie *t, const struct ip *ip)
{
	return &t->root[ip->family == IP_V6];
}

static struct node *node_new(const struct prefix *p, void *value)
{
	struct node *n = mem_new(struct node);

	n->p = *p;
	n->value = value;
	return n;
}

void trie_set(struct trie *t, const struct prefix *prefix, void *value)
{
	struct prefix p = prefix_masked(prefix);
	struct node **at = &t->root[p.addr.family == IP_V6];

	while (*at) {
		struct node *n = *at;
		unsigned common = common_bits(&n->p, &p);

		if (common == n->p.plen && common == p.plen) {
			n->value = value;
			return;
		}
		if (common == n->p.plen) {
			at = &n->child[bit(&p.addr, common)];
			continue;
		}
		/* p leaves n's path at bit `common`: p itself, or a fork, takes n's place. */
		struct prefix fork_prefix = prefix_of(&p.addr, common);
		struct node *fork = node_new(&fork_prefix, NULL);

		fork->child[bit(&n->p.addr, common)] = n;
		if (common == p.plen)
			fork->value = value;
		else
			fork->child[bit(&p.addr, common)] = node_new(&p, value);
		*at = fork;
		return;
	}
	*at = node_new(&p, value);
}

static struct node *find(const struct trie *t, const struct prefix *p)
{
	struct node *n = *root_of(t, &p->addr);

	while (n && n->p.plen < p->plen && prefix_covers(&n->p, p))
		n = n->child[bit(&p->addr, n->p.plen)];
	return n && prefix_equal(&n->p, p) ? n : NULL;
}

void *trie_get(const struct trie *t, const struct prefix *prefix)
{
	struct prefix p = prefix_masked(prefix);
	struct node *n = find(t, &p);

	return n ? n->value : NULL;
}

/* Takes out nodes that hold no value and fork nothing, from *at upwards to its parent's link. */
static void collapse(struct node **at)
{
	struct node *n = *at;

	if (!n || n->value || (n->child[0] && n->child[1]))
		return;
	*at = n->child[0] ? n->child[0] : n->child[1];
	free(n);
}

void *trie_remove(struct trie *t, const struct prefix *prefix)
{
	struct prefix p = prefix_masked(prefix);
	struct node **at = &t->root[p.addr.family == IP_V6], **parent = NULL;
	void *value;

	while (*at && (*at)->p.plen < p.plen && prefix_covers(&(*at)->p, &p)) {
		parent = at;
		at = &(*at)->child[bit(&p.addr, (*at)->p.plen)];
	}
	if (!*at || !prefix_equal(&(*at)->p, &p))
		return NULL;
	value = (*at)->value;
	(*at)->value = NULL;
	collapse(at);
	if (parent)
		collapse(parent);
	return value;
}

void *trie_match(const struct trie *t, const struct ip *ip)
{
	const struct node *n = *root_of(t, ip);
	void *best = NULL;

	while (n && prefix_contains(&n->p, ip)) {
		if (n->value)
			best = n->value;
		if (n->p.plen == ip_bits(ip))
			break;
		n = n->child[bit(ip, n->p.plen)];
	}
	return best;
}

void *trie_overlap(const struct trie *t, const struct prefix *prefix)
{
	struct prefix p = prefix_masked(prefix);
	const struct node *n = *root_of(t, &p.addr);

	/* Down to the first node inside p; one with a value on the way contains p. */
	while (n && n->p.plen < p.plen) {
		if (!prefix_covers(&n->p, &p))
			return NULL;
		if (n->value)
			return n->value;
		n = n->child[bit(&p.addr, n->p.plen)];
	}
	if (!n || !prefix_covers(&p, &n->p))
		return NULL;
	while (!n->value) /* a fork has two children */
		n = n->child[0];
	return n->value;
}
