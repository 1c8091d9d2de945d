/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * margayctl: a table of verbs, each a function in a file of its own. A verb parses its own options
 * with getopt_long; the parameters that all programs share are gone from argv by then.
 *
 * Results go to stdout, what is wrong to stderr as "margayctl: ...", one line each; the exit status is
 * 1 when anything that was asked for was not done; `ipam check` tells by 2 of what it has found.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "store/store.h"
#include "store/svcalloc.h"
#include "svc/common_params.h"

struct err;
struct option;

struct ctl {
	struct store_conf store_conf;
	struct common_params common;
	char *bird_ctl;	 /* BIRD_CTL */
	char *bird6_ctl; /* BIRD6_CTL: empty where one BIRD serves both families */
	char *service_ranges, *node_ports; /* SERVICE_CLUSTER_IP_RANGE, SERVICE_NODE_PORT_RANGE */
	struct svcalloc_conf alloc;	   /* as these say */
	struct store *st;		   /* NULL until ctl_store() */
};

struct verb {
	const char *name;
	int (*run)(struct ctl *c, int argc, char **argv); /* argv[0] is the verb; the exit status */
	const char *synopsis;				  /* "-f FILE..." */
	const char *brief;				  /* a line for the list of verbs */
	const char *help; /* what --help says; NULL: there are verbs below it */
};

extern const struct verb verbs[]; /* ends with a name of NULL */

/* argv[0] is a name of the table; "what" precedes it in messages: "margayctl ipam". */
int verb_dispatch(struct ctl *c, const struct verb *table, const char *what, int argc, char **argv);
void verb_list(const struct verb *table, const char *what);
/* For verb functions: "unknown option" was said; returns EXIT_FAILURE. */
int verb_misused(const char *what);

/*
 * The datastore, opened at the first call; NULL: it was said why. create: one that is not there yet
 * is made by the first operation.
 */
struct store *ctl_store(struct ctl *c, bool create);
/* For what writes: NULL also where it is locked (store/lock.h), or may be. */
struct store *ctl_store_to_write(struct ctl *c, bool create);
/* After the last write: EXIT_FAILURE, and it was said, where it is locked by now. */
int ctl_store_written(struct ctl *c);
/* "margayctl: ..." on stderr; returns EXIT_FAILURE. */
int ctl_fail(const struct err *err);
void ctl_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The verbs. */
int verb_apply(struct ctl *c, int argc, char **argv);
int verb_create(struct ctl *c, int argc, char **argv);
int verb_replace(struct ctl *c, int argc, char **argv);
int verb_get(struct ctl *c, int argc, char **argv);
int verb_delete(struct ctl *c, int argc, char **argv);
int verb_node(struct ctl *c, int argc, char **argv);
int verb_ipam(struct ctl *c, int argc, char **argv);
int verb_datastore(struct ctl *c, int argc, char **argv);
int verb_version(struct ctl *c, int argc, char **argv);
