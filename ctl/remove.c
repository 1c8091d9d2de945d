/* SPDX-License-Identifier: GPL-2.0-or-later */
/* margayctl delete */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "ctl/ctl.h"
#include "ctl/docs.h"
#include "ctl/resources.h"
#include "ctl/write.h"
#include "model/resource.h"

struct removal {
	struct ctl *c;
	bool skip_gone;
	size_t n_skipped;
	struct outcome o;
};

/* where: "pools.yaml:12: ", or "". */
static void fail(struct removal *rm, const char *where, const char *text)
{
	ctl_warn("%s%s%s", where, *where != '\0' ? ": " : "", text);
	rm->o.n_failed++;
}

static void remove_one(struct removal *rm, const char *where, const struct key *key)
{
	struct err err = ERR_INIT;
	int r = resources_delete(rm->c->st, key, &err);

	if (r == 0)
		outcome_done(&rm->o, key->kind);
	else if (r == -ENOENT && rm->skip_gone)
		rm->n_skipped++;
	else
		fail(rm, where, err.text);
}

static void remove_docs(struct removal *rm, const struct docs *docs)
{
	const struct doc *doc;
	struct err err;
	struct key key;

	vec_for_each (&docs->v, doc) {
		if (!doc->j)
			fail(rm, doc->where, doc->err);
		else if (resource_identify(doc->j, docs->ns, &key, &err) < 0)
			fail(rm, doc->where, err.text);
		else
			remove_one(rm, doc->where, &key);
	}
}

static int remove_named(struct removal *rm, const char *ns, int argc, char **argv)
{
	struct key key = {0};

	if (!kind_find(argv[0], &key.kind)) {
		ctl_warn("delete: \"%s\": no such kind of resource", argv[0]);
		return verb_misused("delete");
	}
	if (argc < 2) {
		ctl_warn("delete %s: want the names of what to delete", argv[0]);
		return verb_misused("delete");
	}
	if (kind_info(key.kind)->namespaced)
		snprintf(key.ns, sizeof(key.ns), "%s", ns);
	for (int i = 1; i < argc; i++) {
		if (!key_name_ok(argv[i])) {
			fail(rm, argv[i], "is no name");
			continue;
		}
		memcpy(key.name, argv[i], strlen(argv[i]) + 1);
		remove_one(rm, "", &key);
	}
	return EXIT_SUCCESS;
}

int verb_delete(struct ctl *c, int argc, char **argv)
{
	struct removal rm = {.c = c};
	const char *misused = NULL;
	int status = EXIT_SUCCESS;
	struct docs docs;

	if (!docs_get(argc, argv, "skip-not-exists", &docs)) {
		docs_done(&docs);
		return verb_misused(argv[0]);
	}
	rm.skip_gone = docs.skip;
	if (docs.asked_for == (optind < argc))
		misused = "delete: want either KIND NAME... or files by -f";
	else if (!key_name_ok(docs.ns) || strlen(docs.ns) > MODEL_NAMESPACE_MAX)
		misused = "delete: the namespace is no name";
	if (misused) {
		ctl_warn("%s", misused);
		status = verb_misused(argv[0]);
	} else if (!ctl_store_to_write(c, false)) {
		status = EXIT_FAILURE;
	} else if (docs.asked_for) {
		remove_docs(&rm, &docs);
	} else {
		status = remove_named(&rm, docs.ns, argc - optind, argv + optind);
	}
	docs_done(&docs);
	if (status != EXIT_SUCCESS || (rm.n_skipped > 0 && rm.o.n_done + rm.o.n_failed == 0))
		return status;
	return outcome_report(c, &rm.o, "deleted");
}
