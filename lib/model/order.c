/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/order.h"

#include <stddef.h>
#include <string.h>

#define ANY N_KEYED_KINDS

static const struct {
	unsigned kind;
	const char *path, *members;
} table[] = {
	{KIND_ENDPOINTSLICE, "", "kind apiVersion metadata addressType endpoints ports"},
	{ANY, "", "kind apiVersion metadata spec status"},
	{ANY, "metadata",
		"name generateName namespace selfLink uid resourceVersion generation"
		" creationTimestamp deletionTimestamp deletionGracePeriodSeconds labels annotations"
		" ownerReferences finalizers managedFields"},
	{ANY, "metadata.labels", ORDER_SORTED},
	{ANY, "metadata.annotations", ORDER_SORTED},
	{KIND_NODE, "spec",
		"bgp ipv4VXLANTunnelAddr vxlanTunnelMACAddr ipv6VXLANTunnelAddr"
		" vxlanTunnelMACAddrV6 orchRefs wireguard addresses interfaces"},
	{KIND_NODE, "spec.bgp",
		"asNumber ipv4Address ipv6Address ipv4IPIPTunnelAddr routeReflectorClusterID"},
	{KIND_NODE, "spec.orchRefs", "nodeName orchestrator"},
	{KIND_NODE, "spec.wireguard", "interfaceIPv4Address interfaceIPv6Address"},
	{KIND_NODE, "spec.addresses", "address type"},
	{KIND_NODE, "spec.interfaces", "name addresses"},
	{KIND_NODE, "status", "wireguardPublicKey wireguardPublicKeyV6 podCIDRs"},
	{KIND_IPPOOL, "spec",
		"cidr vxlanMode ipipMode natOutgoing disabled disableBGPExport blockSize"
		" nodeSelector namespaceSelector allowedUses assignmentMode"},
	{KIND_IPRESERVATION, "spec", "reservedCIDRs"},
	{KIND_IPAMCONFIGURATION, "spec",
		"strictAffinity maxBlocksPerHost autoAllocateBlocks kubeVirtVMAddressPersistence"
		" ipCooldownSeconds"},
	{KIND_BGPCONFIGURATION, "spec",
		"logSeverityScreen nodeToNodeMeshEnabled asNumber serviceLoadBalancerIPs"
		" serviceExternalIPs serviceClusterIPs serviceLoadBalancerAggregation communities"
		" prefixAdvertisements listenPort nodeMeshPassword nodeMeshMaxRestartTime bindMode"
		" ignoredInterfaces localWorkloadPeeringIPV4 localWorkloadPeeringIPV6"
		" programClusterRoutes ipv4NormalRoutePriority ipv6NormalRoutePriority"},
	{KIND_BGPCONFIGURATION, "spec.communities", "name value"},
	{KIND_BGPCONFIGURATION, "spec.prefixAdvertisements", "cidr communities"},
	{KIND_BGPPEER, "spec",
		"node nodeSelector peerIP peerSelector asNumber localASNumber keepOriginalNextHop"
		" nextHopMode password sourceAddress maxRestartTime keepaliveTime"
		" numAllowedLocalASNumbers ttlSecurity reachableBy filters localWorkloadSelector"
		" reversePeering"},
	{KIND_CLUSTERINFORMATION, "spec",
		"clusterGUID clusterType calicoVersion datastoreReady variant"},
	{KIND_WORKLOADENDPOINT, "spec",
		"orchestrator workload node containerID pod endpoint serviceAccountName ipNetworks"
		" ipNATs ipv4Gateway ipv6Gateway profiles interfaceName mac ports"
		" allowSpoofedSourcePrefixes qosControls"},
	{KIND_WORKLOADENDPOINT, "spec.ipNATs", "internalIP externalIP"},
	{KIND_WORKLOADENDPOINT, "spec.ports", "name protocol port hostPort hostIP"},
	{KIND_SERVICE, "spec.selector", ORDER_SORTED},
	/* As they were given. */
	{KIND_SERVICE, "spec", ""},
	{KIND_FELIXCONFIGURATION, "spec", ""},
};

const char *order_of(enum kind kind, const char *path)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if ((table[i].kind == kind || table[i].kind == ANY) &&
			strcmp(table[i].path, path) == 0)
			return table[i].members;
	return NULL;
}
