/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * margay-felix: start-up of a node, its local routes, tunnel device, NAT and kernel settings. What
 * is here is parameters and wiring; agent.c is the program. On exit everything stays in the kernel.
 */
#define LOG_MODULE "felix"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "felix/agent.h"
#include "felix/detect.h"
#include "felix/pattern.h"
#include "model/bgp.h"
#include "model/node.h"
#include "store/params.h"
#include "store/store.h"
#include "svc/common_params.h"
#include "svc/health.h"
#include "svc/http.h"
#include "svc/loop.h"
#include "svc/metrics.h"
#include "svc/param.h"

static struct store_conf store_conf;
static struct common_params common;
static struct agent_conf conf;
static char *as_number, *cluster_type, *ip, *ip_method, *ip6, *ip6_method, *mtu_file, *sysctl_root,
	*status_prefix, *pod_prefix, *pool4_cidr, *pool4_selector, *pool6_cidr, *pool6_selector,
	*pattern;
static int ipip_enabled;

static const char *const pool_modes[] = {"Never", "Always", "CrossSubnet", "Off", NULL};
static int pool4_ipip_mode, pool4_vxlan_mode, pool6_vxlan_mode;
static const char *const auto_values[] = {"auto", "false", "true", NULL};

static int check_method(const char *value, struct err *err)
{
	return detect_check(value, err);
}

static int check_family(const char *value, enum ip_family family, struct err *err)
{
	struct prefix p;
	int r;

	if (strcasecmp(value, "autodetect") == 0 || strcasecmp(value, "none") == 0)
		return 0;
	r = prefix_parse_host(value, &p, err);
	if (r == 0 && p.addr.family != family)
		r = err_set(err, -EINVAL, "got \"%.60s\", want an address of IPv%d", value, family);
	return r;
}

static int check_ip(const char *value, struct err *err)
{
	return check_family(value, IP_V4, err);
}

static int check_ip6(const char *value, struct err *err)
{
	return check_family(value, IP_V6, err);
}

static int check_as(const char *value, struct err *err)
{
	uint32_t as;
	int r = bgp_as_parse(value, &as, err);

	/* RFC 7607 */
	return r < 0 || as != 0 ? r : err_set(err, -EINVAL, "got 0, want 1 to 4294967295");
}

/* A name has at most 15 bytes. */
static int check_prefix(const char *value, struct err *err)
{
	if (strlen(value) > 14 || strpbrk(value, ",/%: \t"))
		return err_set(err, -EINVAL,
			"\"%.40s\": want one prefix, of at most 14 bytes, of an interface's name",
			value);
	return 0;
}

static const struct param table[] = {
	{.name = "IP",
		.type = PARAM_STRING,
		.str = &ip,
		.check = check_ip,
		.doc = "This node's address: ADDRESS[/LENGTH], autodetect, none, or empty: the one that "
		       "is stored, else autodetect"},
	{.name = "IP_AUTODETECTION_METHOD",
		.type = PARAM_STRING,
		.str = &ip_method,
		.def = "first-found",
		.check = check_method,
		.doc = "first-found, interface=REGEX,..., skip-interface=REGEX,..., cidr=CIDR,..., "
		       "kubernetes-internal-ip or can-reach=HOST, a name being looked up until it was "
		       "found once"},
	{.name = "IP6",
		.type = PARAM_STRING,
		.str = &ip6,
		.check = check_ip6,
		.doc = "Its IPv6 address: ADDRESS[/LENGTH], autodetect, or none or empty: the one that is "
		       "stored"},
	{.name = "IP6_AUTODETECTION_METHOD",
		.type = PARAM_STRING,
		.str = &ip6_method,
		.def = "first-found",
		.check = check_method,
		.doc = "As IP_AUTODETECTION_METHOD"},
	{.name = "DISABLE_NODE_IP_CHECK",
		.type = PARAM_BOOL,
		.flag = &conf.start.skip_ip_check,
		.doc = "Take the address even if another node has it"},
	{.name = "AS",
		.type = PARAM_STRING,
		.str = &as_number,
		.check = check_as,
		.doc = "This node's AS number; empty: the cluster's"},
	{.name = "CLUSTER_TYPE",
		.type = PARAM_STRING,
		.str = &cluster_type,
		.def = "bgp",
		.doc = "What ClusterInformation says about the cluster, when it is made"},
	{.name = "NO_DEFAULT_POOLS",
		.type = PARAM_BOOL,
		.flag = &conf.start.no_default_pools,
		.doc = "Make no IP pool where there is none; contradicts CALICO_IPV4POOL_CIDR and "
		       "CALICO_IPV6POOL_CIDR"},
	{.name = "CALICO_IPV4POOL_CIDR",
		.type = PARAM_STRING,
		.str = &pool4_cidr,
		.doc = "IPv4 pool to make where there is none; empty: 192.168.0.0/16 or another private "
		       "network; none: make none"},
	{.name = "CALICO_IPV4POOL_BLOCK_SIZE",
		.type = PARAM_U32,
		.u32 = &conf.start.pools[START_V4].block_size,
		.def = "26",
		.min = 20,
		.max = 32,
		.doc = "Prefix length of its blocks"},
	{.name = "CALICO_IPV4POOL_IPIP",
		.type = PARAM_ENUM,
		.choice = &pool4_ipip_mode,
		.values = pool_modes,
		.doc = "Its IP-in-IP mode"},
	{.name = "CALICO_IPV4POOL_VXLAN",
		.type = PARAM_ENUM,
		.choice = &pool4_vxlan_mode,
		.values = pool_modes,
		.doc = "Its VXLAN mode; this version stores it, and has no VXLAN"},
	{.name = "CALICO_IPV4POOL_NAT_OUTGOING",
		.type = PARAM_BOOL,
		.flag = &conf.start.pools[START_V4].nat_outgoing,
		.def = "true",
		.doc = "Masquerade its pods' traffic to the outside"},
	{.name = "CALICO_IPV4POOL_NODE_SELECTOR",
		.type = PARAM_STRING,
		.str = &pool4_selector,
		.def = "all()",
		.doc = "Its nodes"},
	{.name = "CALICO_IPV4POOL_DISABLE_BGP_EXPORT",
		.type = PARAM_BOOL,
		.flag = &conf.start.pools[START_V4].disable_bgp_export,
		.doc = "Do not announce it"},
	{.name = "CALICO_IPV6POOL_CIDR",
		.type = PARAM_STRING,
		.str = &pool6_cidr,
		.doc = "IPv6 pool to make where there is none; empty or none: make none"},
	{.name = "CALICO_IPV6POOL_BLOCK_SIZE",
		.type = PARAM_U32,
		.u32 = &conf.start.pools[START_V6].block_size,
		.def = "122",
		.min = 116,
		.max = 128,
		.doc = "Prefix length of its blocks"},
	{.name = "CALICO_IPV6POOL_NAT_OUTGOING",
		.type = PARAM_BOOL,
		.flag = &conf.start.pools[START_V6].nat_outgoing,
		.doc = "Masquerade its pods' traffic to the outside"},
	{.name = "CALICO_IPV6POOL_VXLAN",
		.type = PARAM_ENUM,
		.choice = &pool6_vxlan_mode,
		.values = pool_modes,
		.doc = "Its VXLAN mode; this version stores it, and has no VXLAN"},
	{.name = "CALICO_IPV6POOL_NODE_SELECTOR",
		.type = PARAM_STRING,
		.str = &pool6_selector,
		.def = "all()",
		.doc = "Its nodes"},
	{.name = "CALICO_IPV6POOL_DISABLE_BGP_EXPORT",
		.type = PARAM_BOOL,
		.flag = &conf.start.pools[START_V6].disable_bgp_export,
		.doc = "Do not announce it"},
	{.name = "FELIX_INTERFACEPREFIX",
		.type = PARAM_STRING,
		.str = &pod_prefix,
		.def = "cali",
		.check = check_prefix,
		.doc = "What the names of pods' interfaces begin with"},
	{.name = "FELIX_ROUTEREFRESHINTERVAL",
		.type = PARAM_DURATION,
		.ms = &conf.refresh_ms,
		.def = "10m",
		.unit = "seconds",
		.doc = "How often everything is read from the kernel again, in case an event was missed; "
		       "0: never"},
	{.name = "FELIX_IPINIPENABLED",
		.type = PARAM_ENUM,
		.choice = &ipip_enabled,
		.values = auto_values,
		.doc = "Whether there is an IP-in-IP tunnel; auto: if a pool asks for it"},
	{.name = "FELIX_IPINIPMTU",
		.type = PARAM_U32,
		.u32 = &conf.ipip_mtu,
		.def = "0",
		.max = 65535,
		.unit = "bytes",
		.doc = "MTU of the IP-in-IP tunnel; 0: the host's less 20"},
	{.name = "FELIX_MTUIFACEPATTERN",
		.type = PARAM_STRING,
		.str = &pattern,
		.check = pattern_check,
		.doc = "Regular expression for the interfaces whose MTU is the host's; empty: Calico's"},
	{.name = "FELIX_ENDPOINTSTATUSPATHPREFIX",
		.type = PARAM_STRING,
		.str = &status_prefix,
		.doc = "The directory in whose endpoint-status there is a file for each of this node's "
		       "pods whose interface is up: the CNI plugin may wait for it "
		       "(policy_setup_timeout_seconds); none: there are none; empty: as the datastore's "
		       "FelixConfiguration says, or /var/run/calico"},
	{.name = "MARGAY_MTU_FILE",
		.type = PARAM_STRING,
		.str = &mtu_file,
		.def = "/var/lib/margay/mtu",
		.doc = "Where the MTU of pods is written; the CNI plugin reads it at the default place "
		       "alone"},
	{.name = "MARGAY_SYSCTL_ROOT",
		.type = PARAM_STRING,
		.str = &sysctl_root,
		.def = "/proc/sys",
		.doc = "Where kernel settings are"},
};

static int check_pool(const char *name, const char *cidr, struct err *err)
{
	if (!conf.start.no_default_pools || cidr[0] == '\0' || strcmp(cidr, "none") == 0)
		return 0;
	return err_set(err, -EINVAL,
		"%s is %s, and NO_DEFAULT_POOLS says that no pool is made: set one of them alone",
		name, cidr);
}

static int check_pools(struct err *err)
{
	int r = check_pool("CALICO_IPV4POOL_CIDR", pool4_cidr, err);

	return r < 0 ? r : check_pool("CALICO_IPV6POOL_CIDR", pool6_cidr, err);
}

static void fill_conf(const char *nodename)
{
	conf.address[START_V4] = (struct address_conf){ip, ip_method};
	conf.address[START_V6] = (struct address_conf){ip6, ip6_method};
	conf.pod_prefix = pod_prefix;
	conf.nodename_file = common.nodename_file;
	conf.mtu_file = mtu_file;
	if (status_prefix[0])
		conf.status_prefix = strcmp(status_prefix, "none") == 0 ? "" : status_prefix;
	conf.sysctl_root = sysctl_root;
	conf.mtu_iface_pattern = pattern;
	conf.ipip_enabled = ipip_enabled - 1;
	conf.start.nodename = nodename;
	if (as_number[0])
		(void)bgp_as_parse(as_number, &conf.start.as, NULL);
	conf.start.cluster_type = cluster_type;
	conf.start.pools[START_V4].cidr = pool4_cidr;
	conf.start.pools[START_V4].ipip = pool_modes[pool4_ipip_mode];
	conf.start.pools[START_V4].vxlan = pool_modes[pool4_vxlan_mode];
	conf.start.pools[START_V4].node_selector = pool4_selector;
	conf.start.pools[START_V6].cidr = pool6_cidr;
	conf.start.pools[START_V6].ipip = pool_modes[0];
	conf.start.pools[START_V6].vxlan = pool_modes[pool6_vxlan_mode];
	conf.start.pools[START_V6].node_selector = pool6_selector;
}

static int serve(const char *nodename, struct err *err)
{
	auto_(health) struct health *health = health_new();
	auto_(metrics) struct metrics *metrics = metrics_new();
	auto_(loop) struct loop *loop = loop_new(NULL, NULL);
	auto_(store) struct store *st = NULL;
	struct http *http = NULL;
	struct agent *agent = NULL;
	int r;

	fill_conf(nodename);
	store_conf.own_node = nodename;
	r = store_open(&store_conf, loop_base(loop), &st, err);
	if (r == 0)
		r = agent_new(loop_base(loop), st, &conf, health, metrics, NULL, &agent, err);
	if (r == 0)
		r = common_params_serve(&common, loop_base(loop), health, metrics, &http, err);
	if (r == 0) {
		log_info("node %s, datastore %s", nodename, store_name(st));
		(void)loop_run(loop);
	}
	http_free(http);
	agent_free(agent);
	return r;
}

int main(int argc, char **argv)
{
	struct params ps = {.program = "margay-felix",
		.about =
			"Keeps this node's kernel as its pods need it: the node's address and pools, "
			"routes to local pods, the tunnel device, NAT and settings."};
	struct err err = ERR_INIT;
	auto_free char *nodename = NULL;
	int r;

	store_params_add(&ps, &store_conf);
	common_params_add_daemon(&ps, &common, "FELIX", COMMON_HEALTH_PORT_FELIX);
	params_add(&ps, table, array_size(table));
	r = params_load(&ps, &argc, argv, &err);
	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : params_fail(&ps, &err);
	if (check_pools(&err) < 0) {
		r = params_fail(&ps, &err);
		params_done(&ps);
		return r;
	}
	common_params_apply(&common);
	nodename = common_params_nodename(&ps, &common);
	r = node_check_name(nodename, common.nodename_file, &err);
	if (r == 0)
		r = serve(nodename, &err);
	if (r < 0)
		log_error("%s", err_text(&err));
	params_done(&ps);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
