/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The network configuration that a runtime gives on stdin, and CNI_ARGS: text to values.
 *
 * Calico's keys are taken as they are; keys that say nothing to this program are ignored, as the
 * CNI specification wants, and a key of the wrong type is refused by its name.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/vec.h"
#include "cni/result.h"
#include "net/mac.h"
#include "net/prefix.h"
#include "store/store.h"

struct err;

#define CNI_CONF_MAX (1024 * 1024) /* bytes of netconf that are read */

struct cni_pair {
	char *name, *value;
};

struct cni_texts {
	char **v;
	size_t n, cap; /* as VEC(char *) */
};

void cni_texts_done(struct cni_texts *t);

struct cni_port {
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP */
	uint16_t port, host_port;
	struct ip host_ip; /* IP_NONE: any */
};

struct cni_attachment {
	char *container_id, *ifname;
};

struct cni_conf {
	enum cni_version version;
	char *name; /* of the network: the handle's prefix */
	char *type;

	/* The node; NULL where not given. */
	char *nodename, *nodename_file, *hostname;
	bool nodename_file_optional;
	char *log_level;
	char *log_file_path; /* NULL: stderr alone */
	uint32_t log_file_max_mb, log_file_max_days, log_file_max_count;

	struct store_conf store;
	/* Kubernetes, where another datastore has the resources; type NULL: not to be asked. */
	struct store_conf kube;

	/* The device. 0: not given. */
	uint32_t mtu, n_queues;
	bool netkit; /* that kind of device is asked for */
	bool require_mtu_file;
	bool allow_ip_forwarding;
	bool include_default_routes;

	/* Addresses. */
	char *ipam_type;
	bool assign_v4, assign_v6;
	bool pod_cidr_v4, pod_cidr_v6; /* podcidr.h */
	struct cni_texts pools_v4, pools_v6;
	VEC(struct prefix) routes;	     /* ipam.routes: these instead of the default route */
	bool ip_addrs_no_ipam, floating_ips; /* feature_control: what pods may ask for */

	/* What ADD waits for: before, and after. */
	struct cni_texts readiness_gates; /* URLs */
	uint32_t policy_setup_timeout_s;  /* 0: not at all */
	char *endpoint_status_dir;

	/* What the runtime asks for this pod alone: args.cni and runtimeConfig. */
	VEC(struct ip) ips;
	VEC(struct cni_pair) labels;
	VEC(struct cni_port) ports;
	struct mac mac; /* zero: none */

	struct cni_result *prev; /* prevResult, NULL: none */
	/* GC: cni.dev/valid-attachments; has_attachments tells an empty list from none. */
	VEC(struct cni_attachment) attachments;
	bool has_attachments;
};

/*
 * Returns 0, or the CNI specification's error code (a positive number): 1 version, 6 not JSON,
 * 7 a key is missing or wrong. *ret is the caller's to cni_conf_free. Without with_prev prevResult is
 * not looked at.
 */
int cni_conf_parse(
	const char *text, size_t len, bool with_prev, struct cni_conf **ret, struct err *err);
void cni_conf_free(struct cni_conf *c);

/* Skips white space; how long the node's name is that the text has alone, 0: it is none. */
size_t cni_node_name(const char **text);

/* Of an ipam.type: it names one of ours. */
bool cni_ipam_is_own(const char *type);
