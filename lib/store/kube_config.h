/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How to reach the API server and who to be there: from a kubeconfig, from what a pod is given, or
 * from parameters. Programs that fetch credentials are not run: such a kubeconfig is refused.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"
#include "base/vec.h"

struct err;
struct store_conf;

struct kube_config {
	VEC(char *) servers; /* "https://192.0.2.1:6443" each, the first that answers is used */
	size_t n_own;	     /* of them are configured; the others were seen behind the Service */
	char *server_name;   /* which name their certificates have; NULL = the address's */
	char *ca_file, *cert_file, *key_file; /* NULL = none */
	char *ca_pem, *cert_pem, *key_pem;    /* the same as text */
	char *token, *token_file;	      /* the file is read for each request */
	int trust_all;
};

/* text: a kubeconfig, path: its name for messages and for the files it names. EINVAL. */
int kube_config_parse(
	const char *text, size_t len, const char *path, struct kube_config *ret, struct err *err);

/* EINVAL: it will never do. Another code: a file cannot be read now. */
int kube_config_load(const struct store_conf *conf, struct kube_config *ret, struct err *err);
void kube_config_done(struct kube_config *c);

/*
 * They are of two clusters, as far as can be told: they have no server in common, and no certificate of a CA.
 * false where one of them does not say by which CA it goes.
 */
bool kube_config_is_other(const struct kube_config *a, const struct kube_config *b);
