/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kubernetes' Pod and Namespace, in the shape of v1: what Calico's resources do not tell of them. Only the
 * datastore of Kubernetes has them; they are read there, never written.
 */
#pragma once

#include "model/meta.h"
#include "model/wep.h"

struct pod {
	struct meta meta;
	char *generate_name;
	char *node; /* NULL: it is not scheduled */
	char *service_account;
	char *phase; /* "Pending", "Running", "Succeeded", "Failed" */
	bool host_network;
	VEC(struct wep_port) ports; /* those that have a name or a port of the host's, as Calico */
};

struct namespace
{
	struct meta meta;
};

int pod_decode(const char *key, const char *text, size_t len, struct pod **ret, struct err *err);
void pod_free(struct pod *p);
AUTO_DEFINE(pod, struct pod *, pod_free);
/* Its containers have ended, and none is started again. */
bool pod_is_finished(const struct pod *p);

int namespace_decode(
	const char *key, const char *text, size_t len, struct namespace **ret, struct err *err);
void namespace_free(struct namespace *n);
AUTO_DEFINE(namespace, struct namespace *, namespace_free);
