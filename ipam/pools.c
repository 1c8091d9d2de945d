/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ipam/pools.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/ipam.h"

static json_t *load(const char *text, size_t len, struct err *err)
{
	json_error_t je;
	json_t *j = json_loadb(text, len, 0, &je);

	if (!json_is_object(j)) {
		json_decref(j);
		err_set(err, -EINVAL, "not a JSON object");
		return NULL;
	}
	return j;
}

static char *text_of(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s && s[0] != '\0' ? mem_strdup(s) : NULL;
}

/* The controller's verdict on the pool. */
static bool is_refused(const json_t *status)
{
	const json_t *e, *a = json_object_get(status, "conditions");
	size_t i;

	json_array_foreach (a, i, e) {
		const char *type = json_string_value(json_object_get(e, "type")) ?: "";
		const char *value = json_string_value(json_object_get(e, "status")) ?: "";

		if (strcmp(type, "Allocatable") == 0 && strcmp(value, "False") == 0)
			return true;
	}
	return false;
}

static void decode_uses(struct pool *p, const json_t *a)
{
	const json_t *e;
	size_t i;

	if (json_array_size(a) == 0)
		p->use_workload = p->use_tunnel = true;
	json_array_foreach (a, i, e) {
		const char *s = json_string_value(e) ?: "";

		p->use_workload |= strcmp(s, "Workload") == 0;
		p->use_tunnel |= strcmp(s, "Tunnel") == 0;
		p->use_loadbalancer |= strcmp(s, "LoadBalancer") == 0;
	}
}

static int decode_cidr(struct pool *p, const json_t *spec, struct err *err)
{
	const char *s = json_string_value(json_object_get(spec, "cidr"));
	json_int_t size = json_integer_value(json_object_get(spec, "blockSize"));
	bool v4;
	int r;

	if (!s)
		return err_set(err, -EINVAL, "spec.cidr is missing");
	r = prefix_parse(s, &p->cidr, err);
	if (r < 0)
		return err_wrap(err, r, "spec.cidr");
	p->cidr = prefix_masked(&p->cidr);
	v4 = p->cidr.addr.family == IP_V4;
	if (size == 0)
		size = v4 ? 26 : 122;
	if (size < (v4 ? 20 : 116) || size > (v4 ? 32 : 128) || size < p->cidr.plen)
		return err_set(
			err, -EINVAL, "spec.blockSize: %lld does not suit %s", (long long)size, s);
	p->block_plen = (uint8_t)size;
	return 0;
}

int pool_decode(const char *key, const char *text, size_t len, struct pool **ret, struct err *err)
{
	json_t *j = load(text, len, err);
	const json_t *spec = json_object_get(j, "spec");
	const json_t *metadata = json_object_get(j, "metadata");
	const char *mode = json_string_value(json_object_get(spec, "assignmentMode"));
	struct pool *p;
	int r;

	if (!j)
		return -EINVAL;
	p = mem_new(struct pool);
	r = decode_cidr(p, spec, err);
	p->name = mem_strdup(strrchr(key, '/') ? strrchr(key, '/') + 1 : key);
	p->enabled = !json_is_true(json_object_get(spec, "disabled")) &&
		     !json_object_get(metadata, "deletionTimestamp") &&
		     !is_refused(json_object_get(j, "status"));
	p->automatic = !mode || strcmp(mode, "Manual") != 0;
	decode_uses(p, json_object_get(spec, "allowedUses"));
	p->node_selector = text_of(spec, "nodeSelector");
	p->namespace_selector = text_of(spec, "namespaceSelector");
	json_decref(j);
	if (r < 0) {
		pool_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	free(p->name);
	free(p->node_selector);
	free(p->namespace_selector);
	free(p);
}

bool pool_allows(const struct pool *p, enum ipam_use use)
{
	switch (use) {
	case IPAM_USE_WORKLOAD:
		return p->use_workload;
	case IPAM_USE_TUNNEL:
		return p->use_tunnel;
	case IPAM_USE_LOADBALANCER:
		return p->use_loadbalancer;
	}
	return false;
}

int reservation_decode(const char *text, size_t len, struct reservation **ret, struct err *err)
{
	json_t *j = load(text, len, err);
	const json_t *a = json_object_get(json_object_get(j, "spec"), "reservedCIDRs"), *e;
	struct reservation *res;
	size_t i;

	if (!j)
		return -EINVAL;
	res = mem_new(struct reservation);
	json_array_foreach (a, i, e) {
		struct prefix p;

		if (json_is_string(e) && prefix_parse_host(json_string_value(e), &p, NULL) == 0) {
			p = prefix_masked(&p);
			vec_push(&res->cidrs, p);
		}
	}
	json_decref(j);
	*ret = res;
	return 0;
}

void reservation_free(struct reservation *res)
{
	if (!res)
		return;
	vec_done(&res->cidrs);
	free(res);
}

int node_labels_decode(const char *text, size_t len, struct node_labels **ret, struct err *err)
{
	json_t *j = load(text, len, err);
	json_t *labels = json_object_get(json_object_get(j, "metadata"), "labels"), *value;
	struct node_labels *l;
	const char *name;

	if (!j)
		return -EINVAL;
	l = mem_new(struct node_labels);
	json_object_foreach (labels, name, value) {
		if (json_is_string(value))
			vec_push(&l->v, (struct ipam_attr){mem_strdup(name),
						mem_strdup(json_string_value(value))});
	}
	json_decref(j);
	*ret = l;
	return 0;
}

void node_labels_free(struct node_labels *l)
{
	struct ipam_attr *a;

	if (!l)
		return;
	vec_for_each (&l->v, a) {
		free((char *)(uintptr_t)a->name);
		free((char *)(uintptr_t)a->value);
	}
	vec_done(&l->v);
	free(l);
}

bool pool_selector_is_all(const char *selector)
{
	return !selector || selector[strspn(selector, " \t")] == '\0' ||
	       strcmp(selector, "all()") == 0;
}

bool pool_selects(const char *selector, const struct node_labels *labels)
{
	(void)labels;
	return pool_selector_is_all(selector);
}
