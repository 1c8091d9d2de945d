/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/params.h"

#include "base/mem.h"
#include "store/store.h"
#include "svc/param.h"

void store_params_add(struct params *ps, struct store_conf *conf)
{
	const struct param rows[] = {
		{.name = "DATASTORE_TYPE",
			.aliases = "CALICO_DATASTORE_TYPE",
			.text = &conf->type,
			.doc = "Which datastore holds the cluster's resources: sqlite or etcdv3; by "
			       "default etcdv3 where ETCD_ENDPOINTS is set, else sqlite"},
		{.name = "MARGAY_SQLITE_PATH",
			.text = &conf->sqlite_path,
			.def = STORE_SQLITE_PATH,
			.doc = "The file of the sqlite datastore"},
		{.name = "ETCD_ENDPOINTS",
			.aliases = "CALICO_ETCD_ENDPOINTS",
			.text = &conf->etcd_endpoints,
			.doc = "The addresses of etcd, parted by commas, as in "
			       "https://192.0.2.1:2379,https://192.0.2.2:2379"},
		{.name = "ETCD_DISCOVERY_SRV",
			.aliases = "CALICO_ETCD_DISCOVERY_SRV",
			.text = &conf->etcd_discovery_srv,
			.doc = "Not supported: set ETCD_ENDPOINTS"},
		{.name = "ETCD_CA_CERT_FILE",
			.aliases = "CALICO_ETCD_CA_CERT_FILE",
			.text = &conf->etcd_ca_cert_file,
			.doc = "Certificates that etcd's is checked against (PEM); by default the "
			       "system's"},
		{.name = "ETCD_CERT_FILE",
			.aliases = "CALICO_ETCD_CERT_FILE",
			.text = &conf->etcd_cert_file,
			.doc = "The certificate that etcd is shown (PEM)"},
		{.name = "ETCD_KEY_FILE",
			.aliases = "CALICO_ETCD_KEY_FILE",
			.text = &conf->etcd_key_file,
			.doc = "Its private key (PEM)"},
		{.name = "ETCD_USERNAME",
			.aliases = "CALICO_ETCD_USERNAME",
			.text = &conf->etcd_username,
			.doc = "The user to log in to etcd as; by default without logging in"},
		{.name = "ETCD_PASSWORD",
			.aliases = "CALICO_ETCD_PASSWORD",
			.text = &conf->etcd_password,
			.secret = true,
			.doc = "The user's password; as an option it can be seen by every user of the "
			       "machine"},
	};

	params_add(ps, rows, array_size(rows));
}
