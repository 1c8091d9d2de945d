/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A longest-match table: prefix -> borrowed pointer. Both families in one object. Keys are masked.
 *
 *	trie_new -> any mix of set/remove/lookups -> trie_free
 */
#pragma once

#include "net/prefix.h"

struct trie;

struct trie *trie_new(void);
void trie_free(struct trie *t);
/* Replaces the value of an equal prefix. value must not be NULL. */
void trie_set(struct trie *t, const struct prefix *p, void *value);
/* The value that was there, or NULL. */
void *trie_remove(struct trie *t, const struct prefix *p);
void *trie_get(const struct trie *t, const struct prefix *p); /* exact */
void *trie_match(const struct trie *t, const struct ip *ip); /* longest that contains ip, or NULL */
/* Any stored prefix that overlaps p, or NULL. */
void *trie_overlap(const struct trie *t, const struct prefix *p);
