/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parameters that Margay's programs share, declared once; those of the datastore are in
 * store/params.h.
 *
 * Those of a daemon alone carry its name, since all daemons of a node read one file: the health port
 * of margay-felix is MARGAY_FELIX_HEALTH_PORT (and Calico's FELIX_HEALTHPORT).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;
struct event_base;
struct health;
struct http;
struct metrics;
struct params;

struct common_params {
	char *nodename;	 /* NODENAME: the host's name in lower case */
	char *run_dir;	 /* MARGAY_RUN_DIR: /run/margay */
	char *log_level; /* MARGAY_LOG_LEVEL: error, warn, info, debug */
	int log_json;	 /* MARGAY_LOG_FORMAT: text = 0, json = 1 */
	/* daemons only */
	char *nodename_file;	   /* MARGAY_NODENAME_FILE: where felix writes the node's name */
	bool health_enabled;	   /* MARGAY_<DAEMON>_HEALTH_ENABLED: true */
	char *health_host;	   /* MARGAY_<DAEMON>_HEALTH_HOST: 127.0.0.1 */
	uint32_t health_port;	   /* MARGAY_<DAEMON>_HEALTH_PORT */
	bool metrics_enabled;	   /* MARGAY_<DAEMON>_METRICS_ENABLED: false */
	char *metrics_host;	   /* MARGAY_<DAEMON>_METRICS_HOST: 127.0.0.1 */
	uint32_t metrics_port;	   /* MARGAY_<DAEMON>_METRICS_PORT: 0 = the health port */
	char health_port_name[64]; /* what to set, for messages */
	char metrics_port_name[64];
};

/* Health ports. */
#define COMMON_HEALTH_PORT_FELIX 9099 /* Calico's */
#define COMMON_HEALTH_PORT_CONFD 9098
#define COMMON_HEALTH_PORT_PROXY 10256 /* kube-proxy's */
#define COMMON_HEALTH_PORT_CNI 9097

/* Of what the CNI plugin goes by, too (param.h, not_in_file): it reads no file. */
#define COMMON_NOT_IN_FILE                                                                                  \
	"want it in the environment of margay-cni serve and of the container runtime, or the default: the " \
	"CNI plugin goes by it, too, and reads no such file"

/* The node, run directory and log ones: for every program. */
void common_params_add(struct params *ps, struct common_params *c);
/* Those, and health and metrics; daemon: "FELIX", "CONFD", "PROXY", "CNI". */
void common_params_add_daemon(
	struct params *ps, struct common_params *c, const char *daemon, uint32_t health_port);

/* After params_load, of a daemon: NODENAME, else the file's, else the host's. The caller's to free. */
char *common_params_nodename(const struct params *ps, const struct common_params *c);

/* After params_load: sets the log's level and format. */
void common_params_apply(const struct common_params *c);

/* Serves health and metrics as configured. *ret is NULL where both are off. */
int common_params_serve(const struct common_params *c, struct event_base *base,
	const struct health *health, const struct metrics *metrics, struct http **ret,
	struct err *err);
