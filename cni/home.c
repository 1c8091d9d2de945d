/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/home.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "cni/cni.h"
#include "cni/conf.h"
#include "store/kube_config.h"
#include "store/store.h"

/* Where both say something. */
static bool differ(const char *want, const char *have)
{
	return store_conf_is_set(want) && store_conf_is_set(have) && strcmp(want, have) != 0;
}

static int refuse(const char *key, const char *want, const char *have, struct err *err)
{
	err_set(err, -EINVAL,
		"netconf: %s: %s, and margay-cni serve has %s: want the same, or nothing", key,
		want, have);
	return CNI_E_CONF;
}

static char *note_path(const char *state_dir)
{
	return mem_printf("%s/datastore", state_dir);
}

int home_note_store(const struct cni_home *home, struct err *err)
{
	const char *type = store_conf_type(&home->store);
	auto_free char *path = note_path(home->state_dir);
	int r = file_mkdirs(home->state_dir, 0700, err);

	return r < 0 ? r : file_write_atomic(path, type, strlen(type), 0600, err);
}

bool home_was_remote(const char *state_dir)
{
	auto_free char *path = note_path(state_dir), *type = NULL;

	return file_read(path, 64, &type, NULL, NULL) == 0 && strcmp(type, "sqlite") != 0;
}

int home_check(const struct cni_home *home, const struct cni_conf *conf, struct err *err)
{
	const struct store_conf *want = &conf->store, *have = &home->store;
	const char *type = store_conf_type(have);

	if (differ(conf->nodename, home->node)) {
		err_set(err, -EINVAL,
			"netconf: nodename: \"%s\": margay-cni serve runs for node %s: want that, or "
			"nothing",
			conf->nodename, home->node);
		return CNI_E_CONF;
	}
	if ((store_conf_is_set(want->type) || store_conf_is_set(want->etcd_endpoints)) &&
		strcmp(store_conf_type(want), type) != 0)
		return refuse("datastore_type", store_conf_type(want), type, err);
	if (strcmp(type, "sqlite") == 0 && differ(want->sqlite_path, have->sqlite_path))
		return refuse("sqlite_path", want->sqlite_path, have->sqlite_path, err);
	if (strcmp(type, "kubernetes") == 0 &&
		differ(want->calico_api_group, have->calico_api_group))
		return refuse(
			"calico_api_group", want->calico_api_group, have->calico_api_group, err);
	return 0;
}

int home_check_cluster(const struct cni_home *home, const struct store_conf *want, struct err *err)
{
	bool by_file = store_conf_is_set(want->kubeconfig);
	struct kube_config theirs, ours;
	struct store_conf conf = *want;
	int r = 0;

	if (strcmp(store_conf_type(&home->store), "kubernetes") != 0 ||
		(!by_file && !store_conf_is_set(want->k8s_api_endpoint)))
		return 0;
	conf.kube_endpoints_file = NULL; /* there this node's daemons keep what the server has */
	if (kube_config_load(&conf, &theirs, NULL) < 0)
		return 0;
	if (kube_config_load(&home->store, &ours, NULL) == 0) {
		if (kube_config_is_other(&theirs, &ours))
			r = err_set(err, -EINVAL,
				"netconf: kubernetes.%s: %s: its API server %s has another CA than %s, "
				"which margay-cni serve has: want the same cluster, or nothing",
				by_file ? "kubeconfig" : "k8s_api_root",
				by_file ? want->kubeconfig : want->k8s_api_endpoint,
				theirs.servers.v[0], ours.servers.v[0]);
		kube_config_done(&ours);
	}
	kube_config_done(&theirs);
	return r;
}
