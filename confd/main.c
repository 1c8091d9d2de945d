/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * margay-confd: renders what other programs read from the datastore, BIRD's configuration first, and
 * sees to it that they run it. What is here is parameters and wiring; agent.c is the program. On exit
 * everything stays as it is.
 */
#define LOG_MODULE "confd"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "confd/agent.h"
#include "confd/bgp_view.h"
#include "confd/dns_view.h"
#include "confd/templates.h"
#include "model/node.h"
#include "store/params.h"
#include "store/store.h"
#include "store/svcalloc.h"
#include "svc/bird.h"
#include "svc/common_params.h"
#include "svc/health.h"
#include "svc/http.h"
#include "svc/loop.h"
#include "svc/metrics.h"
#include "svc/param.h"

static struct store_conf store_conf;
static struct common_params common;
static char *bird_ctl, *bird_dir, *router_id, *template_dir, *secret_dir, *renderer_dir, *domain,
	*service_ranges;

static int check_ranges(const char *value, struct err *err);

static const struct param table[] = {
	{.name = "BIRD_CTL",
		.type = PARAM_STRING,
		.str = &bird_ctl,
		.def = BIRD_CTL_PATH,
		.doc = "BIRD's control socket"},
	{.name = "BIRD_CONF_DIR",
		.type = PARAM_STRING,
		.str = &bird_dir,
		.def = "/etc/bird",
		.doc = "Where bird.conf is written, which BIRD is to be started with"},
	{.name = "CALICO_ROUTER_ID",
		.type = PARAM_STRING,
		.str = &router_id,
		.check = bgp_router_id_check,
		.doc = "BGP's router id; empty: the node's IPv4 address; hash: of the node's name"},
	{.name = "MARGAY_TEMPLATE_DIR",
		.type = PARAM_STRING,
		.str = &template_dir,
		.def = "/etc/margay/templates",
		.doc = "Templates that are used before those of the installation, by name"},
	{.name = "MARGAY_SECRET_DIR",
		.type = PARAM_STRING,
		.str = &secret_dir,
		.def = "/etc/margay/secrets",
		.doc = "Secrets for BGP passwords, each a directory with a file per key"},
	{.name = "MARGAY_CONFD_DIR",
		.type = PARAM_STRING,
		.str = &renderer_dir,
		.def = "/etc/margay/confd.d",
		.doc = "Its files *.conf say what else is rendered, a DNS zone for one"},
	{.name = "CLUSTER_DOMAIN",
		.type = PARAM_STRING,
		.str = &domain,
		.def = "cluster.local",
		.check = dns_domain_check,
		.doc = "The zone of the cluster"},
	{.name = "SERVICE_CLUSTER_IP_RANGE",
		.type = PARAM_STRING,
		.str = &service_ranges,
		.def = SVCALLOC_RANGES,
		.check = check_ranges,
		.doc = "Where Services' addresses are from, CIDRs parted by commas: their reverse zones"},
};

static int check_ranges(const char *value, struct err *err)
{
	struct svcalloc_conf parsed;

	return svcalloc_parse_ranges(value, &parsed, err);
}

static char *installed_templates(void)
{
	char exe[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n <= 0)
		return mem_strdup("");
	exe[n] = '\0';
	return templates_beside(exe);
}

static int serve(const char *nodename, struct err *err)
{
	auto_free char *installed = installed_templates();
	struct svcalloc_conf services = {0};
	struct agent_conf conf = {.nodename = nodename,
		.bird_ctl = bird_ctl,
		.bird_dir = bird_dir,
		.router_id = router_id,
		.template_dir = template_dir,
		.template_dir_installed = installed,
		.secret_dir = secret_dir,
		.run_dir = common.run_dir,
		.renderer_dir = renderer_dir,
		.domain = domain};
	auto_(health) struct health *health = health_new();
	auto_(metrics) struct metrics *metrics = metrics_new();
	auto_(loop) struct loop *loop = loop_new(NULL, NULL);
	auto_(store) struct store *st = NULL;
	struct http *http = NULL;
	struct agent *agent = NULL;
	int r;

	r = svcalloc_parse_ranges(service_ranges, &services, err);
	conf.service_ranges = services.ranges;
	conf.n_service_ranges = services.n_ranges;
	if (r == 0)
		r = store_open(&store_conf, loop_base(loop), &st, err);
	if (r == 0)
		r = agent_new(loop_base(loop), st, &conf, health, metrics, &agent, err);
	if (r == 0)
		r = common_params_serve(&common, loop_base(loop), health, metrics, &http, err);
	if (r == 0) {
		log_info("node %s, datastore %s, BIRD on %s", nodename, store_name(st), bird_ctl);
		(void)loop_run(loop);
	}
	http_free(http);
	agent_free(agent);
	return r;
}

int main(int argc, char **argv)
{
	struct params ps = {.program = "margay-confd",
		.about =
			"Renders templates from the datastore, and sees to it that their readers run "
			"them: BIRD's configuration first."};
	struct err err = ERR_INIT;
	auto_free char *nodename = NULL;
	int r;

	store_params_add(&ps, &store_conf);
	common_params_add_daemon(&ps, &common, "CONFD", COMMON_HEALTH_PORT_CONFD);
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
