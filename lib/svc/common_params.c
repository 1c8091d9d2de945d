/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "svc/common_params.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "svc/http.h"
#include "svc/param.h"

static const char *const log_formats[] = {"text", "json", NULL};

static int check_log_level(const char *value, struct err *err)
{
	enum log_level level;

	return log_parse_level(value, &level, err);
}

static void add(struct params *ps, struct common_params *c, const char *log_level_aliases,
	const char *run_dir_not_in_file)
{
	char host[256] = "localhost";

	gethostname(host, sizeof(host) - 1);
	for (char *s = host; *s; s++)
		*s = (char)tolower((unsigned char)*s);

	const struct param rows[] = {
		{.name = "NODENAME",
			.type = PARAM_STRING,
			.str = &c->nodename,
			.def = host,
			.doc = "This node's name in the datastore; by default the host's in lower case"},
		{.name = "MARGAY_RUN_DIR",
			.type = PARAM_STRING,
			.str = &c->run_dir,
			.def = "/run/margay",
			.not_in_file = run_dir_not_in_file,
			.doc = "Directory of sockets and of state that a reboot may lose; the CNI plugin "
			       "finds margay-cni serve by it where it is in the container runtime's "
			       "environment"},
		{.name = "MARGAY_LOG_LEVEL",
			.aliases = log_level_aliases,
			.type = PARAM_STRING,
			.str = &c->log_level,
			.check = check_log_level,
			.def = "info",
			.doc = "Least important level that is logged: error, warn, info or debug"},
		{.name = "MARGAY_LOG_FORMAT",
			.type = PARAM_ENUM,
			.choice = &c->log_json,
			.values = log_formats,
			.def = "text",
			.doc = "How a line on stderr looks"},
	};

	params_add(ps, rows, array_size(rows));
}

void common_params_add(struct params *ps, struct common_params *c)
{
	add(ps, c, NULL, NULL);
}

void common_params_add_daemon(
	struct params *ps, struct common_params *c, const char *daemon, uint32_t health_port)
{
	bool felix = strcmp(daemon, "FELIX") == 0; /* Calico has names for felix alone */
	char names[6][64], port[16];
	static const char *const suffixes[] = {"HEALTH_ENABLED", "HEALTH_HOST", "HEALTH_PORT",
		"METRICS_ENABLED", "METRICS_HOST", "METRICS_PORT"};

	add(ps, c, felix ? "FELIX_LOGSEVERITYSCREEN" : NULL,
		strcmp(daemon, "CNI") == 0 ? COMMON_NOT_IN_FILE : NULL);
	for (size_t i = 0; i < array_size(suffixes); i++)
		snprintf(names[i], sizeof(names[i]), "MARGAY_%s_%s", daemon, suffixes[i]);
	snprintf(port, sizeof(port), "%u", health_port);
	snprintf(c->health_port_name, sizeof(c->health_port_name), "%s", names[2]);
	snprintf(c->metrics_port_name, sizeof(c->metrics_port_name), "%s", names[5]);

	const struct param rows[] = {
		{.name = "MARGAY_NODENAME_FILE",
			.type = PARAM_STRING,
			.str = &c->nodename_file,
			.def = "/var/lib/margay/nodename",
			.aliases = "CALICO_NODENAME_FILE",
			.doc = "Where margay-felix writes this node's name, for the CNI plugin, and for "
			       "the daemons whose NODENAME is not set"},
		{.name = names[0],
			.aliases = felix ? "FELIX_HEALTHENABLED" : NULL,
			.type = PARAM_BOOL,
			.flag = &c->health_enabled,
			.def = "true",
			.doc = "Whether /healthz and /readyz are served"},
		{.name = names[1],
			.aliases = felix ? "FELIX_HEALTHHOST" : NULL,
			.type = PARAM_STRING,
			.str = &c->health_host,
			.def = "127.0.0.1",
			.doc = "The address they are served on"},
		{.name = names[2],
			.aliases = felix ? "FELIX_HEALTHPORT" : NULL,
			.type = PARAM_U32,
			.u32 = &c->health_port,
			.min = 1,
			.max = 65535,
			.unit = "TCP port",
			.def = port,
			.doc = "The port they are served on"},
		{.name = names[3],
			.aliases = felix ? "FELIX_PROMETHEUSMETRICSENABLED" : NULL,
			.type = PARAM_BOOL,
			.flag = &c->metrics_enabled,
			.def = "false",
			.doc = "Whether /metrics is served"},
		{.name = names[4],
			.aliases = felix ? "FELIX_PROMETHEUSMETRICSHOST" : NULL,
			.type = PARAM_STRING,
			.str = &c->metrics_host,
			.def = "127.0.0.1",
			.doc = "The address it is served on, if its port is not the health port"},
		{.name = names[5],
			.aliases = felix ? "FELIX_PROMETHEUSMETRICSPORT" : NULL,
			.type = PARAM_U32,
			.u32 = &c->metrics_port,
			.max = 65535,
			.unit = "TCP port",
			.def = "0",
			.doc = "The port it is served on, 0 for the health port"},
	};

	params_add(ps, rows, array_size(rows));
}

char *common_params_nodename(const struct params *ps, const struct common_params *c)
{
	auto_free char *text = NULL;

	if (!params_is_set(ps, "NODENAME") &&
		file_read(c->nodename_file, 512, &text, NULL, NULL) == 0) {
		text[strcspn(text, " \t\r\n")] = '\0';
		if (text[0])
			return take_ptr(text);
	}
	return mem_strdup(c->nodename);
}

void common_params_apply(const struct common_params *c)
{
	enum log_level level;

	if (log_parse_level(c->log_level, &level, NULL) == 0)
		log_set_level(level);
	log_set_json(c->log_json == 1);
}

int common_params_serve(const struct common_params *c, struct event_base *base,
	const struct health *health, const struct metrics *metrics, struct http **ret,
	struct err *err)
{
	bool shared = c->metrics_port == 0 || c->metrics_port == c->health_port;
	struct http *h = NULL;
	int r = 0;

	if (!c->health_enabled)
		health = NULL;
	if (!c->metrics_enabled)
		metrics = NULL;
	if (health || (metrics && shared))
		r = http_new(base, c->health_host, (uint16_t)c->health_port, c->health_port_name,
			health, shared ? metrics : NULL, &h, err);
	if (r == 0 && metrics && !shared) {
		r = h ? http_listen(h, c->metrics_host, (uint16_t)c->metrics_port,
				c->metrics_port_name, NULL, metrics, err)
		      : http_new(base, c->metrics_host, (uint16_t)c->metrics_port,
				c->metrics_port_name, NULL, metrics, &h, err);
	}
	if (r < 0) {
		http_free(h);
		return r;
	}
	*ret = h;
	return 0;
}
