/* SPDX-License-Identifier: GPL-2.0-or-later */
/* margayctl apply, create and replace */
#include "ctl/write.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "ctl/ctl.h"
#include "ctl/docs.h"
#include "ctl/resources.h"

void outcome_done(struct outcome *o, enum kind kind)
{
	o->mixed = o->mixed || (o->n_done > 0 && o->kind != kind);
	o->kind = kind;
	o->n_done++;
}

int outcome_report(struct ctl *c, const struct outcome *o, const char *done)
{
	size_t n = o->n_done + o->n_failed;

	if (n == 0) {
		ctl_warn("no resources specified");
		return EXIT_FAILURE;
	}
	if (o->n_done > 0 && ctl_store_written(c) != EXIT_SUCCESS)
		return EXIT_FAILURE;
	if (o->n_failed > 0 && o->n_done > 0)
		printf("Partial success: %s %zu of %zu resources\n", done, o->n_done, n);
	else if (o->n_done > 0 && o->mixed)
		printf("Successfully %s %zu resource(s)\n", done, o->n_done);
	else if (o->n_done > 0)
		printf("Successfully %s %zu '%s' resource(s)\n", done, o->n_done,
			kind_info(o->kind)->name);
	return o->n_failed > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Where it is the datastore that failed, it does not know what was attempted. */
static void name_object(struct err *err, const struct key *key)
{
	auto_free char *name = mem_printf(
		"%s %s%s%s", kind_info(key->kind)->name, key->ns, key->ns[0] ? "/" : "", key->name);
	const char *at = strstr(err->text, name);
	char after = at ? at[strlen(name)] : '\0';

	/* "IPPool a", and not "IPPool ab" */
	if (!at || isalnum((unsigned char)after) || after == '-')
		err_wrap(err, err->code, "%s", name);
}

static void write_doc(struct ctl *c, enum write_mode mode, const struct doc *doc, const char *ns,
	bool skip_exists, struct outcome *o)
{
	struct err err = ERR_INIT;
	struct key key;
	int r;

	if (!doc->j) {
		ctl_warn("%s: %s", doc->where, doc->err);
		o->n_failed++;
		return;
	}
	r = resources_write(c->st, &c->alloc, mode, doc->j, ns, &key, &err);
	if (r == 0) {
		outcome_done(o, key.kind);
	} else if (r != -EEXIST || !skip_exists) {
		if (key.name[0] != '\0')
			name_object(&err, &key);
		ctl_warn("%s: %s", doc->where, err.text);
		o->n_failed++;
	}
}

static int write_all(struct ctl *c, enum write_mode mode, const char *done, int argc, char **argv)
{
	struct outcome o = {0};
	const struct doc *doc;
	struct docs docs;
	int status;

	if (!docs_get(argc, argv, "skip-exists", &docs)) {
		docs_done(&docs);
		return verb_misused(argv[0]);
	}
	if (optind < argc || !docs.asked_for) {
		if (optind < argc)
			ctl_warn("%s: \"%s\": want files by -f", argv[0], argv[optind]);
		else
			ctl_warn("%s: want a file by -f", argv[0]);
		docs_done(&docs);
		return verb_misused(argv[0]);
	}
	if (!ctl_store_to_write(c, true)) {
		docs_done(&docs);
		return EXIT_FAILURE;
	}
	vec_for_each (&docs.v, doc)
		write_doc(c, mode, doc, docs.ns, docs.skip, &o);
	status = docs.skip && docs.v.n > 0 && o.n_done + o.n_failed == 0
			 ? EXIT_SUCCESS
			 : outcome_report(c, &o, done);
	docs_done(&docs);
	return status;
}

int verb_apply(struct ctl *c, int argc, char **argv)
{
	return write_all(c, WRITE_APPLY, "applied", argc, argv);
}

int verb_create(struct ctl *c, int argc, char **argv)
{
	return write_all(c, WRITE_CREATE, "created", argc, argv);
}

int verb_replace(struct ctl *c, int argc, char **argv)
{
	return write_all(c, WRITE_REPLACE, "replaced", argc, argv);
}
