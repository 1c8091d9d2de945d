/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CNI_ARGS and the other variables of a request, checked as the CNI specification wants. */
#pragma once

#include <stdbool.h>

#include "net/ip.h"
#include "net/mac.h"

struct cni_request;
struct err;

struct cni_args {
	struct ip ip;	/* IP=; IP_NONE: any */
	struct mac mac; /* MAC=; zero: any */
	/* K8S_POD_*; NULL where missing or empty. */
	char *pod, *namespace, *infra_container_id, *uid;
};

/* "K=V;K=V". Unknown keys are ignored, as Calico does. Returns 0 or CNI code 4. text: NULL = none */
int cni_args_parse(const char *text, struct cni_args *ret, struct err *err);
void cni_args_done(struct cni_args *a);

/*
 * What the CNI specification wants of these and s is not; NULL: it is all right. An ID may have 200
 * bytes here, and a name no '%', by which the kernel would choose another one.
 */
const char *cni_container_id_wants(const char *s);
const char *cni_ifname_wants(const char *s);
