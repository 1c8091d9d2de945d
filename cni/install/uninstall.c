/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way back: what was there before first, then the configuration goes, then the programs that it
 * names.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cni/install/backup.h"
#include "cni/install/conflist.h"
#include "cni/install/hostdir.h"
#include "cni/install/install.h"
#include "cni/install/place.h"
#include "cni/main.h"
#include "svc/param.h"

#define SELF "margay-cni uninstall"

static struct install_dirs dirs;
static bool restore;

static const struct param table[] = {
	{.name = "RESTORE",
		.type = PARAM_BOOL,
		.flag = &restore,
		.doc = "Put back what was backed up, where nothing has taken its place since"},
};

/* A configuration's, by what is in it. */
static bool is_margays(const struct hostdir *d, const char *file, const char *name)
{
	auto_free char *type = NULL;
	struct hostfile f;
	bool ours;

	ours = hostdir_look(d, file, &f, NULL) == 0 &&
	       conflist_owner(name, f.bytes, f.n, &type) == CONFLIST_MARGAY;
	hostfile_close(&f);
	return ours;
}

static int put_back(struct place *p, const struct hostdir *d, const char *backup, const char *name,
	struct err *err)
{
	struct hostfile now, before;
	bool taken, same;
	int r;

	r = hostdir_look(d, name, &now, err);
	if (r < 0)
		return r;
	taken = now.kind != HOSTFILE_NONE && !place_is_ours(p, name);
	r = hostdir_look(d, backup, &before, err);
	same = r == 0 && hostfile_equal(&now, &before);
	hostfile_close(&now);
	hostfile_close(&before);
	/* Without the programs, Margay's older configurations are of no use. */
	if (r < 0 || (taken && !same) || (conflist_is_read(name) && is_margays(d, backup, name)))
		return r;
	return place_put_back(p, backup, same, name, err);
}

static int put_all_back(struct place *p, const struct hostdir *d, struct err *err)
{
	struct hostdir_names names = {0};
	int r;

	r = hostdir_list(d, &names, err);
	for (size_t i = 0; r == 0 && i < names.n; i++) {
		auto_free char *name = backup_latest_of(&names, names.v[i]);

		if (name)
			r = put_back(p, d, names.v[i], name, err);
	}
	hostdir_names_done(&names);
	return r;
}

/* What somebody has changed since: a configuration that still names our plugin is not left in force. */
static int leave_changed(struct place *p, const struct hostdir *d, struct err *err)
{
	struct hostdir_names changed = {0};
	int r = 0;

	place_list_changed(p, &changed);
	for (size_t i = 0; r == 0 && i < changed.n; i++) {
		const char *name = changed.v[i];

		if (conflist_is_read(name) && is_margays(d, name, name))
			r = backup_move_away(d, name, err);
		else
			fprintf(stderr,
				SELF
				": warning: %s/%s is not what was installed: it is left there\n",
				d->path, name);
	}
	hostdir_names_done(&changed);
	return r;
}

static int remove_from(struct place *p, const struct hostdir *d, struct err *err)
{
	int r;

	r = leave_changed(p, d, err);
	return r < 0 ? r : place_remove(p, err);
}

static int open_dir(const char *path, struct hostdir *d, struct place **ret, struct err *err)
{
	int r;

	r = hostdir_open(d, dirs.root, path, false, dirs.dry_run, err);
	return r < 0 ? r : place_new(d, ret, err);
}

static int uninstall(struct place *bin, const struct hostdir *bin_dir, struct place *net,
	const struct hostdir *net_dir, struct err *err)
{
	int r = 0;

	if (restore)
		r = put_all_back(bin, bin_dir, err);
	if (r == 0 && restore)
		r = put_all_back(net, net_dir, err);
	if (r == 0)
		r = remove_from(net, net_dir, err);
	if (r == 0)
		r = remove_from(bin, bin_dir, err);
	return r;
}

int uninstall_main(int argc, char **argv)
{
	struct params ps = {.program = SELF,
		.about =
			"Removes what `margay-cni install` placed on a host, as it was placed, and "
			"nothing else. It may be run again at any time."};
	struct hostdir bin_dir = {.fd = -1}, net_dir = {.fd = -1};
	struct place *bin = NULL, *net = NULL;
	struct err err = ERR_INIT;
	int r;

	install_dirs_add(&ps, &dirs);
	params_add(&ps, table, array_size(table));
	r = params_load(&ps, &argc, argv, &err);
	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : (params_fail(&ps, &err), 2);
	r = open_dir(dirs.bin_dir, &bin_dir, &bin, &err);
	if (r == 0)
		r = open_dir(dirs.net_dir, &net_dir, &net, &err);
	if (r == 0)
		r = uninstall(bin, &bin_dir, net, &net_dir, &err);
	if (r == 0 && fflush(stdout) != 0)
		r = err_sys(&err, -errno, "write to stdout");
	if (r < 0)
		fprintf(stderr, SELF ": %s\n", err_text(&err));
	place_free(bin);
	place_free(net);
	hostdir_close(&bin_dir);
	hostdir_close(&net_dir);
	params_done(&ps);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
