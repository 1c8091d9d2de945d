/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/params.h"

#include "base/mem.h"
#include "store/store.h"
#include "svc/param.h"

void store_params_add(struct params *ps, struct store_conf *conf)
{
	const struct param rows[] = {
		{.name = "DATASTORE_TYPE",
			.aliases = "CALICO_DATASTORE_TYPE FELIX_DATASTORETYPE",
			.text = &conf->type,
			.doc = "Which datastore holds the cluster's resources: sqlite, etcdv3 or "
			       "kubernetes; by default etcdv3 where ETCD_ENDPOINTS is set, else "
			       "sqlite"},
		{.name = "MARGAY_SQLITE_PATH",
			.text = &conf->sqlite_path,
			.def = STORE_SQLITE_PATH,
			.doc = "The file of the sqlite datastore"},
		{.name = "ETCD_ENDPOINTS",
			.aliases = "CALICO_ETCD_ENDPOINTS FELIX_ETCDENDPOINTS",
			.text = &conf->etcd_endpoints,
			.addresses = true,
			.doc = "The addresses of etcd, parted by commas, as in "
			       "https://192.0.2.1:2379,https://192.0.2.2:2379"},
		{.name = "ETCD_DISCOVERY_SRV",
			.aliases = "CALICO_ETCD_DISCOVERY_SRV",
			.text = &conf->etcd_discovery_srv,
			.doc = "Not supported: set ETCD_ENDPOINTS"},
		{.name = "ETCD_CA_CERT_FILE",
			.aliases = "CALICO_ETCD_CA_CERT_FILE FELIX_ETCDCAFILE",
			.text = &conf->etcd_ca_cert_file,
			.doc = "Certificates that etcd's is checked against (PEM); by default the "
			       "system's"},
		{.name = "ETCD_CERT_FILE",
			.aliases = "CALICO_ETCD_CERT_FILE FELIX_ETCDCERTFILE",
			.text = &conf->etcd_cert_file,
			.doc = "The certificate that etcd is shown (PEM)"},
		{.name = "ETCD_KEY_FILE",
			.aliases = "CALICO_ETCD_KEY_FILE FELIX_ETCDKEYFILE",
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
		{.name = "KUBECONFIG",
			.aliases = "CALICO_KUBECONFIG",
			.text = &conf->kubeconfig,
			.doc = "The file that says where the API server is and who to be there; by "
			       "default what a pod is given"},
		{.name = "K8S_API_ENDPOINT",
			.aliases = "CALICO_K8S_API_ENDPOINT",
			.text = &conf->k8s_api_endpoint,
			.addresses = true,
			.doc = "The addresses of API servers, parted by commas, in place of the "
			       "kubeconfig's or the Service's, as in https://192.0.2.1:6443"},
		{.name = "K8S_CA_FILE",
			.aliases = "CALICO_K8S_CA_FILE",
			.text = &conf->k8s_ca_file,
			.doc = "Certificates that the API server's is checked against (PEM), where "
			       "there is no kubeconfig; by default a pod's"},
		{.name = "K8S_CERT_FILE",
			.aliases = "CALICO_K8S_CERT_FILE",
			.text = &conf->k8s_cert_file,
			.doc = "The certificate that it is shown (PEM)"},
		{.name = "K8S_KEY_FILE",
			.aliases = "CALICO_K8S_KEY_FILE",
			.text = &conf->k8s_key_file,
			.doc = "Its private key (PEM)"},
		{.name = "K8S_TOKEN_FILE",
			.text = &conf->k8s_token_file,
			.doc = "The file of the token to log in with, read for each request; by "
			       "default a pod's"},
		{.name = "K8S_API_TOKEN",
			.aliases = "CALICO_K8S_API_TOKEN",
			.text = &conf->k8s_api_token,
			.secret = true,
			.doc = "The token itself; as an option it can be seen by every user of the "
			       "machine"},
		{.name = "KUBERNETES_SERVICE_HOST",
			.text = &conf->kubernetes_service_host,
			.doc = "The API server's address as a pod is given it"},
		{.name = "KUBERNETES_SERVICE_PORT",
			.text = &conf->kubernetes_service_port,
			.def = "443",
			.doc = "Its port"},
		{.name = "CALICO_API_GROUP",
			.text = &conf->calico_api_group,
			.doc = "crd.projectcalico.org/v1 or projectcalico.org/v3: which group has the "
			       "resources; by default the API server is asked"},
		{.name = "MARGAY_KUBE_ENDPOINTS_FILE",
			.text = &conf->kube_endpoints_file,
			.def = STORE_KUBE_ENDPOINTS_FILE,
			.doc = "Where daemons keep the addresses of the API servers behind the Service "
			       "kubernetes, for a start before the Service's address works; none where "
			       "it is empty"},
	};

	params_add(ps, rows, array_size(rows));
}
