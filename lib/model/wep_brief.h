/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The few members of a WorkloadEndpoint that a node's agent reads of every endpoint of the cluster, in one
 * pass over the text: no tree, no memory, a tenth of wep_decode's time.
 *
 * It knows plain endpoints only, such as the CNI plugins write. Where it says yes, wep_decode would have
 * decoded the text, whatever its key, and found the same; where it says no, ask wep_decode, which has
 * the words for what is wrong. tests/fuzz/fuzz_model_json.c holds it to that.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

#include "model/limits.h"
#include "net/prefix.h"

#define WEP_BRIEF_NETWORKS 8

struct wep_brief {
	char node[MODEL_NAME_MAX + 1];
	char interface[IFNAMSIZ];
	char created[40]; /* metadata.creationTimestamp */
	size_t n_networks;
	struct prefix networks[WEP_BRIEF_NETWORKS]; /* each /32 or /128 */
};

/* What is absent is "". *ret is undefined after a no. */
bool wep_brief_read(const char *text, size_t len, struct wep_brief *ret);
