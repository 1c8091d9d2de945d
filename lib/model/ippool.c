/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/ippool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "model/read.h"
#include "model/write.h"

static const char *const modes[] = {
	[ENCAP_NEVER] = "Never",
	[ENCAP_ALWAYS] = "Always",
	[ENCAP_CROSS_SUBNET] = "CrossSubnet",
	NULL,
};

static const char *const uses[] = {"Workload", "Tunnel", "LoadBalancer", NULL};

const char *encap_mode_str(enum encap_mode m)
{
	return modes[m];
}

int encap_mode_parse(const char *s, enum encap_mode *ret, struct err *err)
{
	for (unsigned i = 0; modes[i]; i++) {
		if (strcasecmp(s, modes[i]) == 0) {
			*ret = (enum encap_mode)i;
			return 0;
		}
	}
	return err_set(err, -EINVAL, "\"%.64s\": want Never, Always or CrossSubnet", s);
}

struct ippool *ippool_new(const char *name, const struct prefix *cidr)
{
	struct ippool *p = mem_new(struct ippool);

	p->meta.name = mem_strdup(name);
	p->cidr = *cidr;
	p->block_plen = cidr->addr.family == IP_V6 ? 122 : 26;
	p->allowed_uses = POOL_WORKLOAD | POOL_TUNNEL;
	p->node_selector = mem_strdup("all()");
	return p;
}

void ippool_free(struct ippool *p)
{
	if (!p)
		return;
	meta_done(&p->meta);
	free(p->node_selector);
	free(p->namespace_selector);
	free(p);
}

bool ippool_enabled(const struct ippool *p)
{
	return !p->disabled && !p->meta.deleting && !p->not_allocatable;
}

static void read_uses(struct read *rd, const json_t *spec, unsigned *ret)
{
	json_t *list = read_array(rd, spec, "allowedUses"), *e;
	unsigned bits = 0;
	size_t i;

	json_array_foreach (list, i, e) {
		unsigned u = 0;

		while (uses[u] &&
			(!json_is_string(e) || strcmp(uses[u], json_string_value(e)) != 0))
			u++;
		if (!uses[u]) {
			read_fail(rd, "allowedUses", e, "Workload, Tunnel or LoadBalancer");
			return;
		}
		bits |= 1U << u;
	}
	if (bits != 0)
		*ret = bits;
}

static bool refused(struct read *rd, const json_t *j)
{
	json_t *list = read_array(rd, read_object(rd, j, "status"), "conditions"), *e;
	size_t i;

	json_array_foreach (list, i, e) {
		const char *type = json_string_value(json_object_get(e, "type"));
		const char *status = json_string_value(json_object_get(e, "status"));

		if (type && status && strcmp(type, "Allocatable") == 0 &&
			strcmp(status, "False") == 0)
			return true;
	}
	return false;
}

static void read_cidr(struct read *rd, const json_t *spec, struct ippool *p)
{
	const char *s = read_text(rd, spec, "cidr");

	if (!s || prefix_parse(s, &p->cidr, NULL) < 0) {
		read_fail(rd, "cidr", json_object_get(spec, "cidr"),
			"a prefix such as 10.244.0.0/16");
		return;
	}
	p->cidr = prefix_masked(&p->cidr);
}

/* Of the size that blocks may have, and not larger than the pool: the allocator counts on both. */
static void read_block_size(struct read *rd, const json_t *spec, struct ippool *p)
{
	unsigned bits = ip_bits(&p->cidr.addr);
	uint32_t plen = 0;

	read_u32(rd, spec, "blockSize", 0, 128, &plen);
	if (rd->r < 0)
		return;
	if (plen == 0)
		plen = bits - 6;
	if (plen < bits - 12 || plen > bits)
		read_fail(rd, "blockSize", json_object_get(spec, "blockSize"), "%u to %u",
			bits - 12, bits);
	else if (p->cidr.plen > plen && !p->disabled)
		read_fail(rd, "cidr", json_object_get(spec, "cidr"),
			"at least one block of /%u: a shorter prefix, or a larger blockSize", plen);
	p->block_plen = (uint8_t)plen;
}

int ippool_decode(
	const char *key, const char *text, size_t len, struct ippool **ret, struct err *err)
{
	static const char *const assignment[] = {"Automatic", "Manual", NULL};
	auto_(ippool) struct ippool *p = mem_new(struct ippool);
	unsigned ipip = 0, vxlan = 0, manual = 0;
	struct read rd;
	auto_(json) json_t *j = read_resource(&rd, KIND_IPPOOL, key, text, len, &p->meta, err);
	const json_t *spec = read_object(&rd, j, "spec");

	p->node_selector = mem_strdup("all()");
	p->allowed_uses = POOL_WORKLOAD | POOL_TUNNEL;
	read_at(&rd, "spec");
	read_cidr(&rd, spec, p);
	read_enum(&rd, spec, "ipipMode", modes, &ipip);
	read_enum(&rd, spec, "vxlanMode", modes, &vxlan);
	read_enum(&rd, spec, "assignmentMode", assignment, &manual);
	read_bool(&rd, spec, "natOutgoing", &p->nat_outgoing);
	read_bool(&rd, spec, "disabled", &p->disabled);
	read_bool(&rd, spec, "disableBGPExport", &p->disable_bgp_export);
	read_block_size(&rd, spec, p);
	read_str(&rd, spec, "nodeSelector", &p->node_selector);
	read_str(&rd, spec, "namespaceSelector", &p->namespace_selector);
	read_uses(&rd, spec, &p->allowed_uses);
	read_at(&rd, "status");
	p->not_allocatable = refused(&rd, j);
	if (rd.r < 0)
		return rd.r;
	p->ipip = (enum encap_mode)ipip;
	p->vxlan = (enum encap_mode)vxlan;
	p->manual = manual == 1;
	*ret = take_ptr(p);
	return 0;
}

char *ippool_encode(const struct ippool *p, const char *base)
{
	json_t *j = write_resource(KIND_IPPOOL, base, &p->meta), *spec = write_object(j, "spec");
	json_t *list = json_array();

	write_prefix(spec, "cidr", &p->cidr);
	write_str(spec, "vxlanMode", encap_mode_str(p->vxlan));
	write_str(spec, "ipipMode", encap_mode_str(p->ipip));
	write_true(spec, "natOutgoing", p->nat_outgoing);
	write_true(spec, "disabled", p->disabled);
	write_true(spec, "disableBGPExport", p->disable_bgp_export);
	write_u32(spec, "blockSize", p->block_plen);
	write_str(spec, "nodeSelector", p->node_selector);
	write_str(spec, "namespaceSelector", p->namespace_selector);
	for (unsigned u = 0; uses[u]; u++)
		if (p->allowed_uses & (1U << u))
			json_array_append_new(list, json_string(uses[u]));
	write_json(spec, "allowedUses", list);
	write_str(spec, "assignmentMode", p->manual ? "Manual" : "Automatic");
	return write_text(j, KIND_IPPOOL);
}
