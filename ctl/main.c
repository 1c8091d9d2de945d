/* SPDX-License-Identifier: GPL-2.0-or-later */
/* margayctl: the user's tool. What it does is in verbs.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "ctl/ctl.h"
#include "store/params.h"
#include "store/store.h"
#include "svc/bird.h"
#include "svc/param.h"

static int check_ranges(const char *value, struct err *err)
{
	struct svcalloc_conf conf = {0};

	return svcalloc_parse_ranges(value, &conf, err);
}

static int check_ports(const char *value, struct err *err)
{
	struct svcalloc_conf conf = {0};

	return svcalloc_parse_ports(value, &conf, err);
}

/* calicoctl's short name for it. */
static void name_config(int argc, char **argv)
{
	static char config[] = "--config";

	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "-c") == 0)
			argv[i] = config;
}

int main(int argc, char **argv)
{
	static struct ctl c;
	bool any_version;
	const struct param table[] = {
		{.name = "BIRD_CTL",
			.type = PARAM_STRING,
			.str = &c.bird_ctl,
			.def = BIRD_CTL_PATH,
			.doc = "BIRD's control socket"},
		{.name = "BIRD6_CTL",
			.type = PARAM_STRING,
			.str = &c.bird6_ctl,
			.doc = "That of a second BIRD for IPv6; empty: one serves both"},
		{.name = "SERVICE_CLUSTER_IP_RANGE",
			.type = PARAM_STRING,
			.str = &c.service_ranges,
			.def = SVCALLOC_RANGES,
			.check = check_ranges,
			.doc = "Where a Service without clusterIP gets one from: a CIDR, or one of each "
			       "family"},
		{.name = "SERVICE_NODE_PORT_RANGE",
			.type = PARAM_STRING,
			.str = &c.node_ports,
			.def = SVCALLOC_NODE_PORTS,
			.check = check_ports,
			.doc = "And a nodePort"},
		{.name = "ALLOW_VERSION_MISMATCH",
			.type = PARAM_BOOL,
			.flag = &any_version,
			.doc = "calicoctl's, and without effect: no verb asks which version the cluster has"},
	};
	struct params ps = {
		.program = "margayctl",
		.synopsis = "VERB [ARGUMENT]... [--NAME VALUE]...",
		.about =
			"Shows and changes a cluster's resources, and shows a node's state.\n\n"
			"  margayctl apply -f FILE...           create resources, or update them\n"
			"  margayctl create -f FILE...          create resources\n"
			"  margayctl replace -f FILE...         replace resources\n"
			"  margayctl get KIND [NAME...]         show resources\n"
			"  margayctl delete KIND NAME...        delete resources\n"
			"  margayctl node status                this node's BGP sessions\n"
			"  margayctl ipam show [--show-blocks]  addresses in use, by pool and block\n"
			"  margayctl ipam check [--repair]      whether the records of addresses agree\n"
			"  margayctl ipam release --ip ADDRESS  give an address back\n"
			"  margayctl ipam configure|split       what IPAM goes by; several pools of one\n"
			"  margayctl ipam claim CIDR --node N   give blocks to a node\n"
			"  margayctl ipam drop CIDR             delete a block that cannot be read\n"
			"  margayctl datastore migrate --to FILE  move everything to another datastore\n"
			"  margayctl datastore export|import|lock|unlock\n"
			"  margayctl version\n\n"
			"margayctl VERB --help tells each verb's options; with each, -c FILE is --config FILE.\n"
			"Kinds: Node, IPPool, IPReservation, IPAMConfiguration, BGPConfiguration, BGPPeer,\n"
			"FelixConfiguration, ClusterInformation, WorkloadEndpoint, Service, EndpointSlice, by name,\n"
			"plural or short name.",
		.allow_args = true,
	};
	struct err err = ERR_INIT;
	int r;

	name_config(argc, argv);
	store_params_add(&ps, &c.store_conf);
	common_params_add(&ps, &c.common);
	params_add(&ps, table, array_size(table));
	r = params_load(&ps, &argc, argv, &err);
	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : params_fail(&ps, &err);
	common_params_apply(&c.common);
	/* They have been checked. */
	svcalloc_parse_ranges(c.service_ranges, &c.alloc, NULL);
	svcalloc_parse_ports(c.node_ports, &c.alloc, NULL);
	r = verb_dispatch(&c, verbs, "margayctl", argc - 1, argv + 1);
	if (c.st)
		store_close(c.st);
	params_done(&ps);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		ctl_warn("standard output: cannot be written");
		r = EXIT_FAILURE;
	}
	return r;
}
