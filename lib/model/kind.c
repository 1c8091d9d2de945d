/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/kind.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#define CALICO "projectcalico.org/v3"
#define ROOT "/calico/resources/v3/projectcalico.org/"

static const struct kind_info kinds[] = {
	[KIND_NODE] = {"Node", "nodes", {"no", "nos"}, CALICO, ROOT "nodes/", false, false},
	[KIND_IPPOOL] = {"IPPool", "ippools", {"ipp", "ipps", "pool", "pools"}, CALICO,
		ROOT "ippools/", false, false},
	[KIND_IPRESERVATION] = {"IPReservation", "ipreservations", {"ipres"}, CALICO,
		ROOT "ipreservations/", false, false},
	[KIND_IPAMCONFIGURATION] = {"IPAMConfiguration", "ipamconfigurations",
		{"ipamconfig", "ipamconfigs"}, CALICO, ROOT "ipamconfigurations/", false, false},
	[KIND_BGPCONFIGURATION] = {"BGPConfiguration", "bgpconfigurations",
		{"bgpconfig", "bgpconfigs"}, CALICO, ROOT "bgpconfigurations/", false, false},
	[KIND_BGPPEER] = {"BGPPeer", "bgppeers", {"bgpp", "bgpps", "bp", "bps"}, CALICO,
		ROOT "bgppeers/", false, false},
	[KIND_FELIXCONFIGURATION] = {"FelixConfiguration", "felixconfigurations",
		{"felixconfig", "felixconfigs", "fconfig"}, CALICO, ROOT "felixconfigurations/",
		false, false},
	[KIND_CLUSTERINFORMATION] = {"ClusterInformation", "clusterinformations",
		{"clusterinfo", "clusterinfos"}, CALICO, ROOT "clusterinformations/", false, true},
	[KIND_WORKLOADENDPOINT] = {"WorkloadEndpoint", "workloadendpoints", {"wep", "weps"}, CALICO,
		ROOT "workloadendpoints/", true, false},
	[KIND_SERVICE] = {"Service", "services", {"svc"}, "v1", "/margay/v1/services/", true,
		false},
	[KIND_ENDPOINTSLICE] = {"EndpointSlice", "endpointslices", {"eps"}, "discovery.k8s.io/v1",
		"/margay/v1/endpointslices/", true, false},
	[KIND_POD] = {"Pod", "pods", {NULL}, "v1", "/margay/v1/pods/", true, true},
	[KIND_NAMESPACE] = {"Namespace", "namespaces", {NULL}, "v1", "/margay/v1/namespaces/",
		false, true},
};
_Static_assert(sizeof(kinds) / sizeof(kinds[0]) == N_KEYED_KINDS, "every kind has a row");

const struct kind_info *kind_info(enum kind kind)
{
	return &kinds[kind];
}

bool kind_find(const char *name, enum kind *ret)
{
	for (unsigned k = 0; k < N_KINDS; k++) {
		bool found = strcasecmp(name, kinds[k].name) == 0 ||
			     strcasecmp(name, kinds[k].plural) == 0;

		for (size_t i = 0; i < 4 && kinds[k].aliases[i]; i++)
			found = found || strcasecmp(name, kinds[k].aliases[i]) == 0;
		if (found) {
			*ret = (enum kind)k;
			return true;
		}
	}
	return false;
}

bool kind_of(const char *name, const char *api_version, enum kind *ret)
{
	for (unsigned k = 0; k < N_KINDS; k++) {
		if (strcmp(name, kinds[k].name) == 0 &&
			strcmp(api_version, kinds[k].api_version) == 0) {
			*ret = (enum kind)k;
			return true;
		}
	}
	return false;
}
