/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calico's endpoint-status: a file for each of this node's pods' endpoints whose interface is up. A CNI plugin
 * waits for a pod's before it answers, where its configuration has policy_setup_timeout_seconds.
 *
 * Files of pods alone are made and removed, and what an earlier life has left is removed only after
 * status_allow_deletes.
 *
 * Lifecycle: new -> any mix of set_dir/wep/mark_unknown/apply -> free (files stay).
 */
#pragma once

#define STATUS_BATCH 256

struct err;
struct ifaces;
struct in_wep;
struct status;

/* No files, at first. ifaces is borrowed. */
struct status *status_new(struct ifaces *ifaces);
void status_free(struct status *s);

/*
 * "/var/run/calico/endpoint-status", made where there is none; NULL: no files. Those that it has made elsewhere are
 * removed.
 */
void status_set_dir(struct status *s, const char *dir);

/* The endpoint that has this key; NULL or without addresses: there is none here. Kept until the next one is told. */
void status_wep(struct status *s, const char *key, const struct in_wep *now);

/* Every endpoint is known: what is of none of them is to go. */
void status_allow_deletes(struct status *s);
/* What is there may be something else: everything is read and written again. */
void status_mark_unknown(struct status *s);
/*
 * At most STATUS_BATCH files. 0; -EAGAIN when there are more; or the first failure, which the next call tries again.
 */
int status_apply(struct status *s, struct err *err);
