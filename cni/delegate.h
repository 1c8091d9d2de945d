/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A configuration whose ipam.type is another plugin's: `margay-cni run` executes that plugin, and the plugin
 * margay once more, with what was given in the environment. So neither a server nor a verb executes
 * anything, and both do with the addresses what they do with their own.
 */
#pragma once

struct cni_request;

/* In the environment of the second call: the other plugin's result; "{}" where the verb has none. */
#define DELEGATE_RESULT "CNI_MARGAY_IPAM_RESULT"
#define DELEGATE_RESULT_MAX 16384

/* Does the verb, and prints what is to be printed. Returns the exit status. */
int delegate_run(const struct cni_request *rq, const char *verb);
