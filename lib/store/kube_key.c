/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/kube_key.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/sha3.h"
#include "model/ipam.h"

#define CALICO "/calico/resources/v3/projectcalico.org/"
#define MARGAY "/margay/v1/"
#define HASH_LEN 11 /* hexadecimal digits in a name that its key does not fit in */

const struct kube_kind kube_kinds[KUBE_N_KINDS] = {
	{.root = CALICO "bgpconfigurations/",
		.form = KUBE_RESOURCE,
		.name = "BGPConfiguration",
		.plural = "bgpconfigurations"},
	{.root = CALICO "bgpfilters/",
		.form = KUBE_RESOURCE,
		.name = "BGPFilter",
		.plural = "bgpfilters"},
	{.root = CALICO "bgppeers/",
		.form = KUBE_RESOURCE,
		.name = "BGPPeer",
		.plural = "bgppeers"},
	{.root = CALICO "caliconodestatuses/",
		.form = KUBE_RESOURCE,
		.name = "CalicoNodeStatus",
		.plural = "caliconodestatuses"},
	{.root = CALICO "clusterinformations/",
		.form = KUBE_RESOURCE,
		.name = "ClusterInformation",
		.plural = "clusterinformations"},
	{.root = CALICO "felixconfigurations/",
		.form = KUBE_RESOURCE,
		.name = "FelixConfiguration",
		.plural = "felixconfigurations"},
	{.root = CALICO "globalnetworksets/",
		.form = KUBE_RESOURCE,
		.name = "GlobalNetworkSet",
		.plural = "globalnetworksets"},
	{.root = CALICO "hostendpoints/",
		.form = KUBE_RESOURCE,
		.name = "HostEndpoint",
		.plural = "hostendpoints"},
	{.root = CALICO "ippools/", .form = KUBE_RESOURCE, .name = "IPPool", .plural = "ippools"},
	{.root = CALICO "ipreservations/",
		.form = KUBE_RESOURCE,
		.name = "IPReservation",
		.plural = "ipreservations"},
	{.root = CALICO "kubecontrollersconfigurations/",
		.form = KUBE_RESOURCE,
		.name = "KubeControllersConfiguration",
		.plural = "kubecontrollersconfigurations"},
	{.root = CALICO "tiers/", .form = KUBE_RESOURCE, .name = "Tier", .plural = "tiers"},
	{.root = CALICO "networksets/",
		.form = KUBE_RESOURCE,
		.name = "NetworkSet",
		.plural = "networksets",
		.namespaced = true},
	{.root = CALICO "stagedkubernetesnetworkpolicies/",
		.form = KUBE_RESOURCE,
		.name = "StagedKubernetesNetworkPolicy",
		.plural = "stagedkubernetesnetworkpolicies",
		.namespaced = true},
	{.root = CALICO "globalnetworkpolicies/",
		.form = KUBE_POLICY,
		.name = "GlobalNetworkPolicy",
		.plural = "globalnetworkpolicies"},
	{.root = CALICO "networkpolicies/",
		.form = KUBE_POLICY,
		.name = "NetworkPolicy",
		.plural = "networkpolicies",
		.namespaced = true},
	{.root = CALICO "stagedglobalnetworkpolicies/",
		.form = KUBE_POLICY,
		.name = "StagedGlobalNetworkPolicy",
		.plural = "stagedglobalnetworkpolicies"},
	{.root = CALICO "stagednetworkpolicies/",
		.form = KUBE_POLICY,
		.name = "StagedNetworkPolicy",
		.plural = "stagednetworkpolicies",
		.namespaced = true},
	{.root = IPAM_KEY_BLOCKS, .form = KUBE_BLOCK, .name = "IPAMBlock", .plural = "ipamblocks"},
	{.root = IPAM_KEY_AFFINITIES,
		.form = KUBE_AFFINITY,
		.name = "BlockAffinity",
		.plural = "blockaffinities"},
	{.root = IPAM_ROOT "virtual/",
		.form = KUBE_AFFINITY,
		.name = "BlockAffinity",
		.plural = "blockaffinities"},
	{.root = IPAM_KEY_HANDLES,
		.form = KUBE_HANDLE,
		.name = "IPAMHandle",
		.plural = "ipamhandles"},
	{.root = IPAM_KEY_CONFIG,
		.form = KUBE_IPAM_CONFIG,
		.name = "IPAMConfig",
		.plural = "ipamconfigs",
		.v3_name = "IPAMConfiguration",
		.v3_plural = "ipamconfigurations"},
	{.root = CALICO "ipamconfigurations/",
		.form = KUBE_IPAM_RESOURCE,
		.name = "IPAMConfig",
		.plural = "ipamconfigs",
		.v3_name = "IPAMConfiguration",
		.v3_plural = "ipamconfigurations"},
	{.root = CALICO "nodes/",
		.form = KUBE_NODE,
		.name = "Node",
		.plural = "nodes",
		.api = "v1"},
	{.root = CALICO "workloadendpoints/",
		.form = KUBE_POD,
		.name = "Pod",
		.plural = "pods",
		.api = "v1",
		.namespaced = true},
	{.root = CALICO "profiles/kns.",
		.form = KUBE_NAMESPACE,
		.name = "Namespace",
		.plural = "namespaces",
		.api = "v1"},
	{.root = CALICO "profiles/ksa.",
		.form = KUBE_ACCOUNT,
		.name = "ServiceAccount",
		.plural = "serviceaccounts",
		.api = "v1"},
	{.root = MARGAY "services/",
		.form = KUBE_CORE,
		.name = "Service",
		.plural = "services",
		.api = "v1",
		.namespaced = true},
	{.root = MARGAY "endpointslices/",
		.form = KUBE_CORE,
		.name = "EndpointSlice",
		.plural = "endpointslices",
		.api = "discovery.k8s.io/v1",
		.namespaced = true},
	{.root = MARGAY "networkpolicies/",
		.form = KUBE_CORE,
		.name = "NetworkPolicy",
		.plural = "networkpolicies",
		.api = "networking.k8s.io/v1",
		.namespaced = true},
	{.root = MARGAY "pods/",
		.form = KUBE_CORE,
		.name = "Pod",
		.plural = "pods",
		.api = "v1",
		.namespaced = true,
		.other_form = true},
	{.root = MARGAY "namespaces/",
		.form = KUBE_CORE,
		.name = "Namespace",
		.plural = "namespaces",
		.api = "v1",
		.other_form = true},
};

const char *kube_cidr_name(const struct prefix *cidr, char buf[static PREFIX_TEXT_SIZE])
{
	prefix_format(cidr, buf);
	for (char *s = buf; *s; s++)
		if (*s == '.' || *s == ':' || *s == '/')
			*s = '-';
	return buf;
}

const char *kube_host_hash(const char *host, char buf[static KUBE_HOST_HASH_SIZE])
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
	uint8_t hash[SHA3_256_SIZE + 1] = {0};
	unsigned bits;

	sha3_256(host, strlen(host), hash);
	for (unsigned i = 0; i < KUBE_HOST_HASH_SIZE - 1; i++) {
		bits = (unsigned)hash[i * 5 / 8] << 8 | hash[i * 5 / 8 + 1];
		buf[i] = digits[bits >> (11 - i * 5 % 8) & 31];
	}
	buf[KUBE_HOST_HASH_SIZE - 1] = '\0';
	return buf;
}

static const struct kube_kind *kind_of(const char *key)
{
	for (unsigned i = 0; i < KUBE_N_KINDS; i++)
		if (strncmp(key, kube_kinds[i].root, strlen(kube_kinds[i].root)) == 0)
			return &kube_kinds[i];
	return NULL;
}

/* What stands in a URL as it is, and is no path of its own: objects have no other names. */
static bool name_ok(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > MODEL_NAME_MAX || strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
		return false;
	for (; *s; s++)
		if (!islower((unsigned char)*s) && !isdigit((unsigned char)*s) && *s != '-' &&
			*s != '.')
			return false;
	return true;
}

/* Up to the next "/"; NULL: there is none, or it is too long. */
static const char *take_part(const char *s, char *ret, size_t size)
{
	size_t n = strcspn(s, "/");

	if (s[n] != '/' || n == 0 || n >= size)
		return NULL;
	memcpy(ret, s, n);
	ret[n] = '\0';
	return s + n + 1;
}

/* One part of an endpoint's name, in which "-" is doubled. */
static const char *take_segment(const char *s, char *ret, size_t size)
{
	size_t n = 0;

	for (; *s && (*s != '-' || s[1] == '-'); s++) {
		s += *s == '-';
		if (n + 1 >= size)
			return NULL;
		ret[n++] = *s;
	}
	ret[n] = '\0';
	return n == 0 ? NULL : *s ? s + 1 : s;
}

/* "node--1-k8s-web--0-eth0" */
static bool parse_endpoint(const char *s, struct kube_key *k)
{
	char orchestrator[16], interface[16];

	s = take_segment(s, k->host, sizeof(k->host));
	if (s)
		s = take_segment(s, orchestrator, sizeof(orchestrator));
	if (s)
		s = take_segment(s, k->name, sizeof(k->name));
	if (s)
		s = take_segment(s, interface, sizeof(interface));
	return s && !*s && strcmp(orchestrator, "k8s") == 0 && strcmp(interface, "eth0") == 0 &&
	       name_ok(k->host);
}

static bool parse_name(const char *s, struct kube_key *k)
{
	size_t n = strlen(s);

	if (n > MODEL_NAME_MAX)
		return false;
	memcpy(k->name, s, n + 1);
	return true;
}

/* "ipv4/block/10.244.0.0-26" */
static bool parse_cidr(const char *s, struct kube_key *k)
{
	char text[PREFIX_TEXT_SIZE];

	if (strncmp(s, "ipv", 3) != 0 || (s[3] != '4' && s[3] != '6') ||
		strncmp(s + 4, "/block/", 7) != 0 || prefix_parse_key(s + 11, &k->cidr, NULL) < 0 ||
		k->cidr.addr.family != s[3] - '0')
		return false;
	snprintf(k->name, sizeof(k->name), "%s", kube_cidr_name(&k->cidr, text));
	return true;
}

/* "node1-10-244-0-0-26"; of a long name the beginning, and a hash of the whole behind. */
static void name_affinity(struct kube_key *k)
{
	char cidr[PREFIX_TEXT_SIZE], hash[SHA256_HEX_SIZE];
	auto_free char *whole = NULL, *name = NULL;
	size_t n;

	n = strlen(kube_cidr_name(&k->cidr, cidr));
	if (strlen(k->host) + 1 + n < MODEL_NAME_MAX) {
		name = mem_printf("%s-%s", k->host, cidr);
	} else {
		whole = mem_printf("%s+%s", k->host, cidr);
		sha256_hex(whole, hash);
		name = mem_printf("%.*s-%s-%.*s", (int)(MODEL_NAME_MAX - 1 - n - HASH_LEN - 2),
			k->host, cidr, HASH_LEN, hash);
	}
	memcpy(k->name, name, strlen(name) + 1);
}

static bool parse_affinity(const char *s, struct kube_key *k)
{
	k->virtual = strcmp(k->kind->root, IPAM_KEY_AFFINITIES) != 0;
	s = take_part(s, k->host, sizeof(k->host));
	if (!s || !parse_cidr(s, k))
		return false;
	name_affinity(k);
	return true;
}

/* What the API server wants of a name, but for its length: RFC 1123, in lower case. */
static bool is_subdomain(const char *s)
{
	char last = '.';

	for (; *s; last = *s++) {
		if (islower((unsigned char)*s) || isdigit((unsigned char)*s))
			continue;
		if ((*s != '-' && *s != '.') || last == '.' || (*s == '.' && last == '-'))
			return false;
	}
	return last != '-' && last != '.';
}

/*
 * As Calico, in lower case; where that is no name, as of a pod's further interfaces ("net.0f3c1d:net1"), what can be
 * of it, and a hash of the whole behind: "h-net-0f3c1d-net1-3277138d5a5".
 */
static void name_handle(struct kube_key *k)
{
	char hash[SHA256_HEX_SIZE];
	auto_free char *name = NULL;

	for (char *p = k->name; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	if (is_subdomain(k->name))
		return;
	for (char *p = k->name; *p; p++)
		if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p))
			*p = '-';
	sha256_hex(k->host, hash);
	name = mem_printf("h-%.*s-%.*s", MODEL_NAME_MAX - HASH_LEN - 3, k->name, HASH_LEN, hash);
	memcpy(k->name, name, strlen(name) + 1);
}

static bool parse_handle(const char *s, struct kube_key *k)
{
	for (const char *p = s; *p; p++)
		if (*p <= ' ' || *p > '~' || *p == '/')
			return false;
	if (!*s || !parse_name(s, k))
		return false;
	memcpy(k->host, k->name, sizeof(k->host));
	name_handle(k);
	return true;
}

/* "NAMESPACE.NAME" */
static bool parse_account(const char *s, struct kube_key *k)
{
	size_t n = strcspn(s, ".");

	if (s[n] != '.' || n >= sizeof(k->ns))
		return false;
	memcpy(k->ns, s, n);
	k->ns[n] = '\0';
	return name_ok(k->ns) && parse_name(s + n + 1, k);
}

/* The rest of the key, behind the kind's root. */
static bool parse_rest(const char *s, struct kube_key *k)
{
	if (k->kind->namespaced) {
		s = take_part(s, k->ns, sizeof(k->ns));
		if (!s || !name_ok(k->ns))
			return false;
	}
	switch (k->kind->form) {
	case KUBE_BLOCK:
		return parse_cidr(s, k);
	case KUBE_AFFINITY:
		return parse_affinity(s, k);
	case KUBE_IPAM_CONFIG:
		return !*s && parse_name("default", k);
	case KUBE_POD:
		return parse_endpoint(s, k);
	case KUBE_ACCOUNT:
		return parse_account(s, k);
	case KUBE_HANDLE:
		return parse_handle(s, k);
	case KUBE_RESOURCE:
	case KUBE_POLICY:
	case KUBE_IPAM_RESOURCE:
	case KUBE_NODE:
	case KUBE_NAMESPACE:
	case KUBE_CORE:
		break;
	}
	return parse_name(s, k);
}

int kube_key_parse(const char *key, struct kube_key *ret, struct err *err)
{
	struct kube_key k = {.kind = kind_of(key)};

	if (!k.kind)
		return err_set(err, -EINVAL, "%s: Kubernetes has no such object", key);
	if (!parse_rest(key + strlen(k.kind->root), &k) || !name_ok(k.name)) {
		if (k.kind->form == KUBE_POD)
			return err_set(err, -EINVAL,
				"%s: in Kubernetes endpoints are pods: want "
				"NAMESPACE/NODE-k8s-POD-eth0, each \"-\" in a name doubled",
				key);
		return err_set(err, -EINVAL,
			"%s: no name for an object %s of Kubernetes: want a-z, 0-9, \"-\" and \".\", at most "
			"%d characters",
			key, k.kind->name, MODEL_NAME_MAX);
	}
	*ret = k;
	return 0;
}

int kube_prefix_parse(const char *prefix, struct kube_key *ret, struct err *err)
{
	struct kube_key k = {.kind = kind_of(prefix)};
	const char *s;

	if (!k.kind)
		return err_set(err, -EINVAL,
			"%s: Kubernetes lists one kind at a time: want the keys of one kind",
			prefix);
	s = prefix + strlen(k.kind->root);
	if (k.kind->namespaced && take_part(s, k.ns, sizeof(k.ns)) && !name_ok(k.ns))
		return err_set(err, -EINVAL, "%s: no name of a namespace", prefix);
	if (k.kind->form == KUBE_AFFINITY) {
		k.virtual = strcmp(k.kind->root, IPAM_KEY_AFFINITIES) != 0;
		take_part(s, k.host, sizeof(k.host));
	}
	if (k.kind->form == KUBE_NODE)
		parse_name(s, &k);
	*ret = k;
	return 0;
}

const char *kube_kind_name(const struct kube_kind *kind, enum kube_group group)
{
	return group == KUBE_NATIVE_V3 && kind->v3_name ? kind->v3_name : kind->name;
}

const char *kube_api_version(const struct kube_kind *kind, enum kube_group group)
{
	if (kind->api)
		return kind->api;
	return group == KUBE_CRD_V1 ? "crd.projectcalico.org/v1" : "projectcalico.org/v3";
}

char *kube_path(
	const struct kube_kind *kind, enum kube_group group, const char *ns, const char *name)
{
	const char *api = kube_api_version(kind, group);
	const char *plural =
		group == KUBE_NATIVE_V3 && kind->v3_plural ? kind->v3_plural : kind->plural;

	return mem_printf("/%s/%s%s%s/%s%s%s", strchr(api, '/') ? "apis" : "api", api,
		*ns ? "/namespaces/" : "", ns, plural, *name ? "/" : "", name);
}
