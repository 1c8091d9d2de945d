/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A server has one node and one datastore, and its own credentials. What else a netconf says of the first two
 * is refused by name.
 */
#pragma once

#include <stdbool.h>

struct cni_conf;
struct cni_home;
struct err;
struct store_conf;

/*
 * In the directory of its state the server says which kind of datastore it has, for those who run verbs while nobody
 * serves, and of whose datastore nothing is said: a file or a journal may be left there of another time.
 * Returns 1: it says so from now on; 0: it did; or a negative errno.
 */
int home_note_store(const struct cni_home *home, struct err *err);
/* Whether the last server of that directory had another machine's. */
bool home_was_remote(const char *state_dir);

/* The node, and the datastore by its type, its file and Calico's API group. 0, or a code. */
int home_check(const struct cni_home *home, const struct cni_conf *conf, struct err *err);

/*
 * Of Kubernetes, whether the API server that want names is of another cluster, by its address and its CA.
 * Reads files; what cannot be read is not compared, as it may be the host's alone. 0, or EINVAL.
 */
int home_check_cluster(const struct cni_home *home, const struct store_conf *want, struct err *err);
