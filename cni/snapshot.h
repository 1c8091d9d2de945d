/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * This node's Pods and their Namespaces as Kubernetes has them, kept by the monitor, for workers: so that an ADD
 * needs not ask for them, and goes on while the API server is away. A worker asks by a packet over a pair of
 * sockets of its own:
 *
 *	question: struct snapshot_question, behind it the Namespace's name and the Pod's, each with its NUL
 *	answer:   struct snapshot_answer, behind it the Pod's JSON and the Namespace's
 */
#pragma once

#include <stdint.h>

#include "cni/pod.h"

struct event_base;
struct snapshot;
struct store;

#define SNAPSHOT_MAX 131072 /* bytes of an answer: what is larger is not told, and so fetched */

struct snapshot_question {
	uint64_t n; /* the answer has it, too: an earlier one may come late */
};

struct snapshot_answer {
	uint64_t n;
	uint32_t pod_len, namespace_len; /* 0: it is not there */
};

/* Answers on fds, which are borrowed, from the event loop of st, whose conf has own_node. */
struct snapshot *snapshot_new(struct store *st, const int *fds, size_t n_fds);
void snapshot_free(struct snapshot *s);

/* A worker's side: pod_source.find over its end of a pair. */
struct snapshot_client {
	int fd;
	uint64_t n;
};
void snapshot_find(void *client, const char *namespace, const char *name, struct pod **ret_pod,
	struct namespace **ret_namespace);
