/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A configuration whose ipam.type is another plugin's: `margay-cni run` executes that plugin, and the plugin
 * margay once more, with what was given in the environment. So neither a server nor a verb executes
 * anything, and both do with the addresses what they do with their own.
 */
#pragma once

#include <stdbool.h>

struct cni_request;

/* Whether a type may be a plugin's, which is looked for in CNI_PATH by its name alone. */
bool delegate_is_name(const char *type);

/* In the environment of the second call: the other plugin's result; "{}" where the verb has none. */
#define DELEGATE_RESULT "CNI_MARGAY_IPAM_RESULT"
#define DELEGATE_RESULT_MAX 16384

/* In that of `margay-cni run`: the verb delegates, and a server has looked at what it needs: podcidr_find()'s. */
#define DELEGATE_POD_CIDRS "CNI_MARGAY_POD_CIDRS"

/* Does the verb, and prints what is to be printed. pod_cidrs: podcidr_find()'s. Returns the exit status. */
int delegate_run(const struct cni_request *rq, const char *verb, const char *pod_cidrs);
