/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Takes a list of the API server apart as it comes in, so that no more than one of its objects is ever
 * held. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"

struct err;

#define KUBE_OBJECT_MAX (8 * 1024 * 1024) /* bytes of one object's JSON */

/* One object of the list; false = no more are wanted. */
typedef bool kube_list_item_fn(void *arg, const char *text, size_t len);

struct kube_list {
	kube_list_item_fn *item;
	void *arg;
	unsigned depth;
	bool in_string, escaped;
	bool in_name;  /* the string is a member's name, of the outermost object */
	bool in_items; /* that member is "items" */
	bool keep;     /* what comes goes to part */
	struct strbuf name, part;
	int64_t rev; /* the list's; 0 = not seen */
	char *cont;  /* where the next page begins; NULL = there is none */
};

void kube_list_begin(struct kube_list *l, kube_list_item_fn *item, void *arg);
void kube_list_done(struct kube_list *l);
/* EINVAL: this is no list; ECANCELED: item said so. */
int kube_list_feed(struct kube_list *l, const char *data, size_t len, struct err *err);
/* EINVAL: it has not come to its end, or has no revision. */
int kube_list_end(const struct kube_list *l, struct err *err);
