/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/ctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "store/lock.h"
#include "store/store.h"

#define FILES_HELP                                                                                 \
	"  -f, --filename FILE   YAML or JSON, any number of documents; a directory: its .yaml,\n" \
	"                        .yml and .json files; -: standard input. May be repeated\n"       \
	"  -n, --namespace NS    of what has no metadata.namespace [default]\n"

const struct verb verbs[] = {
	{"apply", verb_apply, "-f FILE...", "create resources, or bring them to this state",
		FILES_HELP
		"\nEvery document is tried; each that fails is named by file and line.\n"},
	{"create", verb_create, "-f FILE...", "create resources that are not there yet",
		FILES_HELP
		"      --skip-exists     what exists already is no failure\n"
		"\nA document must not have a metadata.resourceVersion: what is created has none yet.\n"},
	{"replace", verb_replace, "-f FILE...", "replace resources that are there",
		FILES_HELP
		"\nA metadata.resourceVersion in a document has to be the current one.\n"},
	{"get", verb_get, "KIND [NAME...]", "show resources",
		"  -o, --output FORM     table, wide, yaml, json or name [table]\n"
		"  -n, --namespace NS    of this namespace [default]\n"
		"  -A, --all-namespaces  of every namespace\n"
		"  -l, --selector TEXT   whose labels match: \"app == 'web'\", \"has(app)\"\n"},
	{"delete", verb_delete, "KIND NAME... | -f FILE...", "delete resources",
		FILES_HELP
		"      --skip-not-exists what is gone already is no failure\n"
		"\nAn IPPool gives up its blocks' affinities first. With a Node go its endpoints, their\n"
		"addresses, its blocks, and what is configured for it alone: drain it before, since pods\n"
		"that still run there have addresses that others are given.\n"},
	{"node", verb_node, "status", "this node's BGP sessions", NULL},
	{"ipam", verb_ipam, "show | check | release | ...", "address blocks and their use", NULL},
	{"datastore", verb_datastore, "export | import | migrate | ...",
		"move everything to another datastore", NULL},
	{"version", verb_version, "", "this program's version, and the cluster's",
		"Prints the versions of this program and of the cluster.\n"},
	{0},
};

void verb_list(const struct verb *table, const char *what)
{
	for (; table->name; table++)
		printf("  %s %-9s %-31s %s\n", what, table->name, table->synopsis, table->brief);
}

int verb_misused(const char *what)
{
	fprintf(stderr, "try \"margayctl %s --help\"\n", what);
	return EXIT_FAILURE;
}

static bool asks_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return true;
	return false;
}

int verb_dispatch(struct ctl *c, const struct verb *table, const char *what, int argc, char **argv)
{
	const struct verb *v = table;

	if (argc < 1 || strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
		if (argc < 1)
			fprintf(stderr, "%s: want one of these:\n", what);
		verb_list(table, what);
		return argc < 1 ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	while (v->name && strcmp(v->name, argv[0]) != 0)
		v++;
	if (!v->name) {
		ctl_warn("no verb \"%s\": try \"%s --help\"", argv[0], what);
		return EXIT_FAILURE;
	}
	if (v->help && asks_help(argc, argv)) {
		printf("%s %s %s\n\n%s", what, v->name, v->synopsis, v->help);
		return EXIT_SUCCESS;
	}
	return v->run(c, argc, argv);
}

void ctl_warn(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("margayctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int ctl_fail(const struct err *err)
{
	ctl_warn("%s", err_text(err));
	return EXIT_FAILURE;
}

struct store *ctl_store(struct ctl *c, bool create)
{
	struct err err = ERR_INIT;

	/* One that is only looked at is most likely a wrong path. */
	c->store_conf.must_exist = !create;
	if (c->st)
		return c->st;
	if (store_open(&c->store_conf, NULL, &c->st, &err) < 0) {
		ctl_fail(&err);
		return NULL;
	}
	auto_free char *advice = store_advise_wait(c->st);

	if (advice)
		ctl_warn("%s", advice);
	return c->st;
}

struct store *ctl_store_to_write(struct ctl *c, bool create)
{
	struct err err = ERR_INIT;

	if (!ctl_store(c, create))
		return NULL;
	if (store_lock_check_wait(c->st, 0, NULL, &err) < 0) {
		ctl_fail(&err);
		return NULL;
	}
	return c->st;
}

int ctl_store_written(struct ctl *c)
{
	struct err err = ERR_INIT;
	enum store_lock lock;
	int r = store_lock_check_wait(c->st, 0, &lock, &err);

	if (r == 0)
		return EXIT_SUCCESS;
	if (lock != STORE_LOCKED) {
		err_wrap(&err, r, "it was written, but whether the datastore was locked meanwhile");
		return ctl_fail(&err);
	}
	ctl_warn(
		"datastore %s was locked meanwhile: what was written may be missing where it is moved "
		"to: do the same there",
		store_name(c->st));
	return EXIT_FAILURE;
}
