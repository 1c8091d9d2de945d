/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all resources have in common. Each typed resource T (node.h, ippool.h, ...) has
 *
 *	int T_decode(key, text, len, struct T **ret, err)	EINVAL names the member
 *	char *T_encode(const struct T *, const char *base)	JSON text, the caller's to free
 *	void T_free(struct T *)
 *
 * where base is the stored text the object was decoded from, or NULL for a new one: members that T
 * does not know are taken over from it, so that a newer Calico's fields survive our writes. The
 * text is what Go prints: compact, members in Calico's order, maps sorted, `<>&` escaped. key may be
 * NULL; it gives a name and namespace where metadata has none.
 *
 * An unset string is NULL, an unset address or prefix has the family IP_NONE, an unset number is 0,
 * unless said otherwise. Fields may be changed by hand: strings are owned by the object.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/vec.h"

struct err;

struct label {
	char *name, *value;
};

/* Sorted by name, each name once. */
struct labels {
	VEC(struct label) v;
};

void labels_done(struct labels *l);
void labels_set(struct labels *l, const char *name, const char *value); /* NULL: unset */
const char *labels_get(const struct labels *l, const char *name);	/* NULL: absent */
/* Every label of subset stands in l; true for an empty subset. */
bool labels_cover(const struct labels *l, const struct labels *subset);
/* As Kubernetes has them: "[prefix/]name", of 63 letters, digits and "-_.", and a value of such or "". */
bool label_name_ok(const char *s);
bool label_value_ok(const char *s);

struct meta {
	char *name;
	char *ns; /* NULL: not namespaced */
	char *uid;
	char *created; /* RFC 3339 */
	struct labels labels, annotations;
	bool deleting; /* deletionTimestamp is set */
};

void meta_done(struct meta *m);
/* The UUID (version 4) of these random bytes; returns buf. */
#define META_UUID_SIZE 37
const char *meta_uuid(const uint8_t random[static 16], char buf[static META_UUID_SIZE]);
/* Who made it and when, where that is not said yet. random: for the uid. */
void meta_identify(struct meta *m, const uint8_t random[static 16], int64_t now_ns);

/* A list of strings that it owns. */
struct strings {
	VEC(char *) v;
};
void strings_done(struct strings *s);
bool strings_has(const struct strings *s, const char *what);

/*
 * MODEL_CACHE_FNS(node) defines node_cache_decode and node_cache_free, with the signatures that
 * struct cache_kind (store/cache.h) wants.
 */
#define MODEL_CACHE_FNS(type)                                                                     \
	static int type##_cache_decode(void *arg_, const char *key, const char *text, size_t len, \
		void **ret, struct err *err)                                                      \
	{                                                                                         \
		struct type *x_ = NULL;                                                           \
		int r_ = type##_decode(key, text, len, &x_, err);                                 \
                                                                                                  \
		(void)arg_;                                                                       \
		if (r_ == 0)                                                                      \
			*ret = x_;                                                                \
		return r_;                                                                        \
	}                                                                                         \
	static void type##_cache_free(void *x_)                                                   \
	{                                                                                         \
		type##_free(x_);                                                                  \
	}                                                                                         \
	struct model_semicolon_
