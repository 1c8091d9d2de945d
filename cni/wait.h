/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What ADD waits for where the configuration says so: others on this node, before and after. */
#pragma once

#include <stdbool.h>

struct call;
struct err;

/* It is to wait. */
bool wait_is_asked(const struct call *c);

/* Until every URL of readiness_gates answers well, for 30 s at most. Returns 0 or a code. */
int wait_ready(const struct call *c, struct err *err);

/*
 * Until the node's agent has told of this endpoint in endpoint_status_dir, that is, has set up what
 * policy it has; or policy_setup_timeout_seconds are over, or the verb's own time is nearly, of which a
 * line in the log tells.
 */
void wait_policy(const struct call *c);
