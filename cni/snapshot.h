/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * This node's Pods and their Namespaces as Kubernetes has them, kept by the monitor, for workers: so that an ADD
 * needs not ask for them, and goes on while the API server is away; and what addresses are given by (premises.h). A
 * worker asks by a packet over a pair of sockets of its own:
 *
 *	question: struct snapshot_question, behind it the Namespace's name and the Pod's, each with its NUL; or nothing
 *	answer:   struct snapshot_answer, behind it the Pod's JSON and the Namespace's; or premises_write()'s text
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cni/pod.h"
#include "cni/premises.h"

struct snapshot;
struct store;

#define SNAPSHOT_MAX 131072 /* bytes of an answer: what is larger is not told, and so fetched */

enum snapshot_of { SNAPSHOT_POD, SNAPSHOT_PREMISES };

struct snapshot_question {
	uint64_t n; /* the answer has it, too: an earlier one may come late */
	enum snapshot_of of;
};

struct snapshot_answer {
	uint64_t n;
	uint32_t len[2]; /* of what is behind it, one after the other; 0: it is not there */
};

/* Answers on fds, which are borrowed, from the event loop of st, whose conf has own_node. premises: borrowed. */
struct snapshot *snapshot_new(
	struct store *st, const struct premises *premises, const int *fds, size_t n_fds);
void snapshot_free(struct snapshot *s);

/* A worker's side, over its end of a pair. */
struct snapshot_client {
	int fd;
	uint64_t n;
	struct premises_prefixes prefixes;
};
/* pod_source.find */
void snapshot_find(void *client, const char *namespace, const char *name, struct pod **ret_pod,
	struct namespace **ret_namespace);
/* told_source.find */
bool snapshot_tell(void *client, struct store_told *ret);
