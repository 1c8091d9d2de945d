/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * margay-proxy: Services of the cluster, to their endpoints, by IPVS. What is here is parameters and
 * wiring; agent.c is the program. On exit everything stays in the kernel.
 */
#define LOG_MODULE "proxy"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/node.h"
#include "proxy/agent.h"
#include "store/params.h"
#include "store/store.h"
#include "store/svcalloc.h"
#include "svc/common_params.h"
#include "svc/health.h"
#include "svc/http.h"
#include "svc/loop.h"
#include "svc/metrics.h"
#include "svc/param.h"

static struct store_conf store_conf;
static struct common_params common;
static struct agent_conf conf;
static char *ranges, *scheduler, *cluster_cidr, *sysctl_root, *state_file;

static int check_ranges(const char *value, struct err *err)
{
	struct svcalloc_conf c;

	return svcalloc_parse_ranges(value, &c, err);
}

static int check_scheduler(const char *value, struct err *err)
{
	/* net/netfilter/ipvs of Linux; which of them a kernel has is known when the first is asked for. */
	static const char *const names[] = {"rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr",
		"dh", "sh", "mh", "sed", "nq", "twos"};

	for (size_t i = 0; i < array_size(names); i++)
		if (strcmp(value, names[i]) == 0)
			return 0;
	return err_set(err, -EINVAL,
		"\"%.60s\": want one of rr, wrr, lc, wlc, fo, ovf, lblc, lblcr, dh, sh, mh, sed, nq, "
		"twos",
		value);
}

static int parse_cluster_cidr(const char *value, struct agent_conf *c, struct err *err)
{
	auto_free char *copy = mem_strdup(value);
	char *save = NULL;
	int r = 0;

	c->n_pods = 0;
	for (char *s = strtok_r(copy, ", ", &save); s && r == 0; s = strtok_r(NULL, ", ", &save)) {
		if (c->n_pods == array_size(c->pods))
			return err_set(err, -EINVAL, "\"%s\": want at most %zu networks", value,
				array_size(c->pods));
		r = prefix_parse_masked(s, &c->pods[c->n_pods], err);
		for (size_t i = 0; r == 0 && i < c->n_pods; i++)
			if (prefix_overlap(&c->pods[i], &c->pods[c->n_pods]))
				r = err_set(err, -EINVAL, "\"%s\": networks overlap", value);
		c->n_pods++;
	}
	return r;
}

static int check_cluster_cidr(const char *value, struct err *err)
{
	struct agent_conf c;

	return parse_cluster_cidr(value, &c, err);
}

static const struct param table[] = {
	{.name = "SERVICE_CLUSTER_IP_RANGE",
		.type = PARAM_STRING,
		.str = &ranges,
		.def = SVCALLOC_RANGES,
		.check = check_ranges,
		.doc = "Networks of the Services' addresses, one of each family at most"},
	{.name = "CLUSTER_CIDR",
		.type = PARAM_STRING,
		.str = &cluster_cidr,
		.check = check_cluster_cidr,
		.doc = "Networks of the pods: what comes to a Service from elsewhere is masqueraded; "
		       "empty: the IP pools"},
	{.name = "MASQUERADE_ALL",
		.type = PARAM_BOOL,
		.flag = &conf.masquerade_all,
		.def = "false",
		.doc = "Masquerade everything that goes to a Service's cluster address"},
	{.name = "IPVS_SCHEDULER",
		.type = PARAM_STRING,
		.str = &scheduler,
		.def = "rr",
		.check = check_scheduler,
		.doc = "How IPVS chooses among endpoints: rr, wrr, lc, wlc, sh, mh, ..."},
	{.name = "IPVS_SYNC_PERIOD",
		.type = PARAM_DURATION,
		.ms = &conf.sync_ms,
		.def = "20s",
		.unit = "seconds",
		.doc = "How often the kernel is read again, since it does not tell who changes IPVS; less "
		       "often where that would take more than 0.1 % of a processor for more than 500 virtual "
		       "servers; 0: never"},
	{.name = "MARGAY_PROXY_STATE_FILE",
		.type = PARAM_STRING,
		.str = &state_file,
		.doc = "Where the node ports' virtual servers are remembered; empty: proxy.state in "
		       "MARGAY_RUN_DIR"},
	{.name = "MARGAY_SYSCTL_ROOT",
		.type = PARAM_STRING,
		.str = &sysctl_root,
		.def = "/proc/sys",
		.doc = "Where kernel settings are"},
};

/* The values were checked when they were loaded. */
static void fill_conf(const char *nodename)
{
	struct svcalloc_conf c = {0};

	(void)svcalloc_parse_ranges(ranges, &c, NULL);
	memcpy(conf.ranges, c.ranges, sizeof(conf.ranges));
	conf.n_ranges = c.n_ranges;
	(void)parse_cluster_cidr(cluster_cidr, &conf, NULL);
	conf.nodename = nodename;
	conf.scheduler = scheduler;
	conf.sysctl_root = sysctl_root;
}

static int serve(const char *nodename, struct err *err)
{
	auto_free char *state = state_file[0] ? mem_strdup(state_file)
					      : mem_printf("%s/proxy.state", common.run_dir);
	auto_(health) struct health *health = health_new();
	auto_(metrics) struct metrics *metrics = metrics_new();
	auto_(loop) struct loop *loop = loop_new(NULL, NULL);
	auto_(store) struct store *st = NULL;
	auto_(agent) struct agent *agent = NULL;
	struct http *http = NULL;
	int r;

	fill_conf(nodename);
	conf.state_file = state;
	if (file_mkdirs(common.run_dir, 0755, err) < 0)
		log_warn("%s", err_text(err));
	store_conf.own_node =
		nodename; /* endpoints are listed where nobody makes slices, all of them */
	r = store_open(&store_conf, loop_base(loop), &st, err);
	if (r == 0)
		r = agent_new(loop_base(loop), st, &conf, health, metrics, NULL, &agent, err);
	if (r == 0)
		r = common_params_serve(&common, loop_base(loop), health, metrics, &http, err);
	if (r == 0) {
		log_info("node %s, datastore %s", conf.nodename, store_name(st));
		(void)loop_run(loop);
	}
	http_free(http);
	return r;
}

int main(int argc, char **argv)
{
	struct params ps = {.program = "margay-proxy",
		.about = "Balances what is sent to a Service over its endpoints, by IPVS."};
	struct err err = ERR_INIT;
	auto_free char *nodename = NULL;
	int r;

	store_params_add(&ps, &store_conf);
	common_params_add_daemon(&ps, &common, "PROXY", COMMON_HEALTH_PORT_PROXY);
	params_add(&ps, table, array_size(table));
	r = params_load(&ps, &argc, argv, &err);
	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : params_fail(&ps, &err);
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
