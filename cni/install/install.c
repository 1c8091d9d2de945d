/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Programs first, then the configuration that names them, then others' configurations out of its way: a
 * runtime finds at every moment one that it can carry out, if it found one before.
 */
#include "cni/install/install.h"

#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/vec.h"
#include "cni/conf.h"
#include "cni/install/backup.h"
#include "cni/install/bundle.h"
#include "cni/install/conflist.h"
#include "cni/install/hostdir.h"
#include "cni/install/place.h"
#include "cni/layout.h"
#include "cni/main.h"
#include "store/params.h"
#include "store/store.h"
#include "svc/param.h"

#define SELF "margay-cni install"

static struct install_dirs dirs;
static struct store_conf store_conf;
static char *conf_name, *old_conf_name, *conf_text, *conf_file, *skip, *program_dir, *nodename,
	*nodename_file, *log_level;
static uint32_t mtu;
static bool update, calico_names, bandwidth;

static int check_conf_name(const char *value, struct err *err)
{
	const char *dot = strrchr(value, '.');

	if (strchr(value, '/') || !dot || dot == value || strcmp(dot, ".conflist") != 0)
		return err_set(
			err, -EINVAL, "\"%s\": want a file's name, as 10-margay.conflist", value);
	return 0;
}

static int check_old_name(const char *value, struct err *err)
{
	return strchr(value, '/') ? err_set(err, -EINVAL, "\"%s\": want a file's name", value) : 0;
}

static const struct param table[] = {
	{.name = "CNI_CONF_NAME",
		.str = &conf_name,
		.def = "10-margay.conflist",
		.check = check_conf_name,
		.doc = "The configuration's file; of several a runtime takes the first by name"},
	{.name = "CNI_OLD_CONF_NAME",
		.str = &old_conf_name,
		.check = check_old_name,
		.doc = "A file that is backed up and removed, whoever's it is"},
	{.name = "CNI_NETWORK_CONFIG",
		.str = &conf_text,
		.secret = true,
		.doc = "The configuration itself, with Calico's placeholders; by default one is made of "
		       "the parameters of the datastore, with portmap where the host has it"},
	{.name = "CNI_NETWORK_CONFIG_FILE",
		.str = &conf_file,
		.doc = "A file that has it, which wins"},
	{.name = "CNI_MTU",
		.type = PARAM_U32,
		.u32 = &mtu,
		.max = 65535,
		.unit = "bytes",
		.doc = "The pods' MTU; 0: what margay-felix finds and writes down"},
	{.name = "CNI_BANDWIDTH",
		.type = PARAM_BOOL,
		.flag = &bandwidth,
		.doc = "Whether the configuration that is made has the plugin bandwidth in it"},
	{.name = "NODENAME",
		.str = &nodename,
		.aliases = "KUBERNETES_NODE_NAME",
		.doc = "What takes __KUBERNETES_NODE_NAME__'s place; by default the host's name"},
	{.name = "MARGAY_NODENAME_FILE",
		.str = &nodename_file,
		.aliases = "CALICO_NODENAME_FILE",
		.doc = "Where margay-felix writes the node's name, which the configuration that is made says "
		       "then; by default /var/lib/margay/nodename"},
	{.name = "MARGAY_LOG_LEVEL",
		.str = &log_level,
		.aliases = "LOG_LEVEL",
		.def = "info",
		.doc = "The plugin's log level"},
	{.name = "CALICO_NAMES",
		.type = PARAM_BOOL,
		.flag = &calico_names,
		.doc = "Place the plugin as calico and calico-ipam, too"},
	{.name = "SKIP_CNI_BINARIES",
		.str = &skip,
		.doc = "Programs that are not placed, parted by commas: margay, margay-ipam, calico, "
		       "calico-ipam, margay-cni"},
	{.name = "UPDATE_CNI_BINARIES",
		.type = PARAM_BOOL,
		.flag = &update,
		.def = "true",
		.doc = "Whether programs that are there are replaced"},
	{.name = "PROGRAM_DIR",
		.str = &program_dir,
		.doc = "Where the program margay is; by default where margay-cni is"},
};

void install_dirs_add(struct params *ps, struct install_dirs *d)
{
	const struct param rows[] = {
		{.name = "MARGAY_HOST_ROOT",
			.str = &d->root,
			.doc = "Where the host's file system, or the two directories in it, is mounted in "
			       "this container, as /host; by default this is the host"},
		{.name = "CNI_BIN_DIR",
			.str = &d->bin_dir,
			.def = "/opt/cni/bin",
			.doc = "The host's directory of CNI plugins"},
		{.name = "CNI_NET_DIR",
			.str = &d->net_dir,
			.def = "/etc/cni/net.d",
			.doc = "The host's directory of network configurations"},
		{.name = "DRY_RUN",
			.type = PARAM_BOOL,
			.flag = &d->dry_run,
			.doc = "Tell what would be done, and change nothing"},
	};

	params_add(ps, rows, array_size(rows));
}

/* ---- programs ---- */

static bool is_skipped(const char *name)
{
	size_t n = strlen(name);

	for (const char *s = skip; *s != '\0';) {
		size_t len = strcspn(s, ", ");

		if (len == n && strncmp(s, name, n) == 0)
			return true;
		s += len;
		s += strspn(s, ", ");
	}
	return false;
}

static const char *const plugins[] = {"margay", "margay-ipam", "calico", "calico-ipam"};

static bool is_chosen(const char *plugin)
{
	return !is_skipped(plugin) && (calico_names || strncmp(plugin, "calico", 6) != 0);
}

static bool wants_plugins(void)
{
	for (size_t i = 0; i < array_size(plugins); i++)
		if (is_chosen(plugins[i]))
			return true;
	return false;
}

/* One program under all its names. */
static int open_plugin(struct hostfile *ret, struct err *err)
{
	char self[PATH_MAX] = "";
	auto_free char *path = NULL;
	int r;

	if (program_dir[0] == '\0' && readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		return err_sys(err, -errno, "read link /proc/self/exe");
	path = mem_printf("%s/margay", program_dir[0] != '\0' ? program_dir : dirname(self));
	r = hostfile_open(path, ret, err);
	ret->mode = 0755;
	return r < 0 ? err_wrap(err, r, "program to place") : 0;
}

/* In the order in which they are placed: none is there before what it executes. */
static void want_programs(struct place *bin, const struct hostdir *d, const struct bundle *bundle,
	const struct hostfile *plugin)
{
	if (bundle)
		bundle_want(bundle, bin);
	for (size_t i = 0; i < array_size(plugins); i++)
		if (is_chosen(plugins[i]) && (update || !hostdir_has(d, plugins[i])))
			place_want(bin, plugins[i], plugin);
}

/* What is to stay of earlier bundles when this one comes into force; NULL: it is. */
static int bundle_to_keep(
	const struct hostdir *d, const struct bundle *bundle, char **ret, struct err *err)
{
	struct hostfile link;
	int r;

	*ret = NULL;
	r = bundle ? hostdir_look(d, LAYOUT_LINK, &link, err) : 0;
	if (r < 0 || !bundle)
		return r;
	if (link.kind != HOSTFILE_LINK)
		*ret = mem_strdup("");
	else if (strcmp(link.bytes, bundle_name(bundle)) != 0)
		*ret = mem_strdup(link.bytes);
	hostfile_close(&link);
	return 0;
}

static int put_programs(
	struct place *bin, const struct hostdir *d, const struct bundle *bundle, struct err *err)
{
	auto_free char *keep = NULL;
	int r;

	r = bundle_to_keep(d, bundle, &keep, err);
	return r < 0 ? r : place_put(bin, keep, err);
}

/* ---- the configuration ---- */

static void warn_of(const struct hostdir *d, const char *type)
{
	fprintf(stderr,
		SELF ": warning: the configuration names the plugin %s, and %s has none: place it "
		     "there, or leave it out\n",
		type, d->path);
}

static bool is_placed(const char *program)
{
	for (size_t i = 0; i < array_size(plugins); i++)
		if (strcmp(program, plugins[i]) == 0)
			return is_chosen(program);
	return false;
}

static int check(const char *what, const char *text, const struct conflist_values *v,
	const struct hostdir *bin, struct err *err)
{
	struct cni_texts types = {0};
	int r;

	r = conflist_check(text, strlen(text), v, &types, err);
	for (size_t i = 0; r == 0 && i < types.n; i++)
		if (!is_placed(types.v[i]) && !hostdir_has(bin, types.v[i]))
			warn_of(bin, types.v[i]);
	cni_texts_done(&types);
	return r < 0 ? err_wrap(err, r, "%s", what) : 0;
}

static int get_conf(const struct hostdir *bin, char **ret, struct err *err)
{
	char host[HOST_NAME_MAX + 1] = "";
	const struct conflist_values v = {
		.store = &store_conf,
		.log_level = log_level,
		.nodename = nodename[0] != '\0' ? nodename : host,
		.nodename_file = nodename_file,
		.net_dir = dirs.net_dir,
		.root = dirs.root,
		.mtu = mtu,
		.portmap = hostdir_has(bin, "portmap"),
		.bandwidth = bandwidth,
	};
	const char *what = conf_file[0] != '\0'	  ? conf_file
			   : conf_text[0] != '\0' ? "CNI_NETWORK_CONFIG"
						  : "network configuration";
	auto_free char *text = NULL, *filled = NULL;
	int r = 0;

	if (gethostname(host, sizeof(host) - 1) < 0)
		return err_sys(err, -errno, "get the host's name");
	for (char *s = host; *s != '\0'; s++)
		*s = (char)tolower((unsigned char)*s);
	if (conf_file[0] != '\0')
		r = file_read(conf_file, CONFLIST_MAX, &text, NULL, err);
	if (r < 0)
		return r;
	if (!text && conf_text[0] == '\0')
		filled = conflist_make(&v);
	else
		r = conflist_fill(text ? text : conf_text, &v, &filled, err);
	if (r < 0)
		return err_wrap(err, r, "%s", what);
	r = check(what, filled, &v, bin, err);
	if (r == 0)
		*ret = take_ptr(filled);
	return r;
}

/* ---- others' configurations ---- */

static void warn_of_winner(const struct hostdir *net, const char *name, const char *type)
{
	fprintf(stderr,
		SELF
		": warning: %s/%s, with the plugin %s, comes before %s, and a runtime takes the "
		"first: remove it, or set CNI_CONF_NAME to a name that comes before it, unless "
		"it calls margay itself\n",
		net->path, name, type ? type : "that could not be read", conf_name);
}

static int move_other(const struct hostdir *net, const char *name, struct err *err)
{
	auto_free char *type = NULL;
	enum conflist_owner owner;
	struct hostfile f;
	bool is_file;
	int r;

	r = hostdir_look(net, name, &f, err);
	if (r < 0)
		return r;
	is_file = f.kind == HOSTFILE_REGULAR || f.kind == HOSTFILE_LINK;
	/* Where a link leads is not followed: it may lead elsewhere on the host. */
	owner = conflist_owner(name, f.bytes, f.n, &type);
	hostfile_close(&f);
	if (!is_file)
		return 0;
	if (owner != CONFLIST_OTHER || strcmp(name, old_conf_name) == 0)
		return backup_move_away(net, name, err);
	if (strcmp(name, conf_name) < 0)
		warn_of_winner(net, name, type);
	return 0;
}

static int move_others(const struct hostdir *net, struct err *err)
{
	struct hostdir_names names = {0};
	int r;

	r = hostdir_list(net, &names, err);
	for (size_t i = 0; r == 0 && i < names.n; i++)
		if (conflist_is_read(names.v[i]) && strcmp(names.v[i], conf_name) != 0)
			r = move_other(net, names.v[i], err);
	hostdir_names_done(&names);
	return r;
}

/* ---- all of it ---- */

struct install {
	struct hostdir bin_dir, net_dir;
	struct place *bin, *net;
	struct bundle *bundle;
	struct hostfile plugin, conf;
	char *conf_text;
};

/* Everything that can be refused is, before anything is changed but that missing directories are made. */
static int prepare(struct install *in, struct err *err)
{
	bool wants_bundle = !is_skipped(LAYOUT_PROGRAM);
	int r = 0;

	if (wants_bundle)
		r = bundle_collect(&in->bundle, err);
	if (r == 0 && wants_plugins())
		r = open_plugin(&in->plugin, err);
	if (r == 0)
		r = hostdir_open(&in->bin_dir, dirs.root, dirs.bin_dir,
			wants_bundle || wants_plugins(), dirs.dry_run, err);
	if (r < 0)
		return r;
	if (!update && hostdir_has(&in->bin_dir, LAYOUT_LINK))
		bundle_free(take_ptr(in->bundle));
	r = get_conf(&in->bin_dir, &in->conf_text, err);
	if (r == 0)
		r = hostdir_open(&in->net_dir, dirs.root, dirs.net_dir, true, dirs.dry_run, err);
	if (r == 0)
		r = place_new(&in->bin_dir, &in->bin, err);
	return r < 0 ? r : place_new(&in->net_dir, &in->net, err);
}

static int install(struct install *in, struct err *err)
{
	int r;

	want_programs(in->bin, &in->bin_dir, in->bundle, &in->plugin);
	in->conf = (struct hostfile){.kind = HOSTFILE_REGULAR,
		.mode = 0600,
		.bytes = in->conf_text,
		.n = strlen(in->conf_text)};
	place_want(in->net, conf_name, &in->conf);
	r = put_programs(in->bin, &in->bin_dir, in->bundle, err);
	if (r == 0)
		r = place_put(in->net, NULL, err);
	return r < 0 ? r : move_others(&in->net_dir, err);
}

static void done(struct install *in)
{
	place_free(in->bin);
	place_free(in->net);
	bundle_free(in->bundle);
	hostfile_close(&in->plugin);
	free(in->conf_text);
	hostdir_close(&in->bin_dir);
	hostdir_close(&in->net_dir);
}

int install_main(int argc, char **argv)
{
	struct params ps = {.program = SELF,
		.about =
			"Places Margay's CNI plugin and its configuration on a host: the programs whole, "
			"one by one; margay-cni with\nthe libraries that it needs; the "
			"configuration, after it was checked. Calico's, flannel's and Margay's own "
			"older\nconfigurations are backed up beside it, NAME.margay-backup-N, and "
			"removed. What is as it should be is left alone,\nso that it may be run "
			"again at any time."};
	struct install in = {.bin_dir.fd = -1, .net_dir.fd = -1};
	struct err err = ERR_INIT;
	int r;

	install_dirs_add(&ps, &dirs);
	params_add(&ps, table, array_size(table));
	store_params_add(&ps, &store_conf);
	r = params_load(&ps, &argc, argv, &err);
	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : (params_fail(&ps, &err), 2);
	r = prepare(&in, &err);
	if (r == 0)
		r = install(&in, &err);
	if (r == 0 && fflush(stdout) != 0)
		r = err_sys(&err, -errno, "write to stdout");
	if (r < 0)
		fprintf(stderr, SELF ": %s\n", err_text(&err));
	done(&in);
	params_done(&ps);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
