/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cluster's resources, as each of Calico's nodes makes them where there are none. */
#define LOG_MODULE "start"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "felix/start_plan.h"
#include "model/json.h"
#include "model/key.h"
#include "model/meta.h"

#define TIERS "/calico/resources/v3/projectcalico.org/tiers/"

static bool has_item(const char *list, const char *item, size_t len)
{
	for (const char *s = list; s; s = strchr(s, ',')) {
		s += *s == ',';
		if (strncmp(s, item, len) == 0 && (s[len] == '\0' || s[len] == ','))
			return true;
	}
	return false;
}

/* Those of b that a lacks behind it. */
static void add_items(struct strbuf *a, const char *b)
{
	size_t len;

	for (; *b; b += len + (b[len] == ',')) {
		len = strcspn(b, ",");
		if (len > 0 && !has_item(strbuf_str(a), b, len))
			strbuf_addf(a, "%s%.*s", a->len ? "," : "", (int)len, b);
	}
}

/*
 * Fills in what spec lacks, as each of Calico's nodes does. Not calicoVersion: calicoctl works with no other
 * than its own, and with any where there is none; one that an earlier version of this program wrote goes.
 */
static void complete_cluster(const struct start *s, json_t *spec)
{
	const char *version = json_string_value(json_object_get(spec, "calicoVersion"));
	const char *type = json_string_value(json_object_get(spec, "clusterType"));
	const char *guid = json_string_value(json_object_get(spec, "clusterGUID"));
	auto_strbuf types = STRBUF_INIT, new_guid = STRBUF_INIT;
	char uuid[META_UUID_SIZE];
	uint8_t random[16];

	mem_random(random, sizeof(random));
	meta_uuid(random, uuid);
	for (const char *c = uuid; *c; c++)
		if (*c != '-')
			strbuf_addf(&new_guid, "%c", *c);
	add_items(&types, type ? type : "");
	add_items(&types, s->conf->cluster_type);
	if (store_is_managed(s->st))
		add_items(&types, "kdd");
	if (!guid || !*guid)
		json_object_set_new(spec, "clusterGUID", json_string(strbuf_str(&new_guid)));
	json_object_set_new(spec, "clusterType", json_string(strbuf_str(&types)));
	if (version && strncmp(version, "margay-", 7) == 0)
		json_object_del(spec, "calicoVersion");
	if (!json_object_get(spec, "datastoreReady"))
		json_object_set_new(spec, "datastoreReady", json_true());
}

/* A resource that is written once and never changed. spec_take is consumed. */
static bool ensure_resource(struct start *s, const char *kind, const char *key, json_t *spec_take)
{
	struct meta m = {0};
	json_t *j;
	char *text;

	start_identify(s, &m);
	j = json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:o}", "kind", kind, "apiVersion",
		"projectcalico.org/v3", "metadata", "name", strrchr(key, '/') + 1, "uid", m.uid,
		"creationTimestamp", m.created, "spec", spec_take);
	text = json_dumps(j, JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(j);
	meta_done(&m);
	return start_ensure(s, kind, key, text);
}

static bool ensure_default(struct start *s, enum kind kind, const char *name, json_t *spec_take)
{
	return ensure_resource(s, kind_info(kind)->name, key_str(kind, NULL, name), spec_take);
}

/* True: it is as it should be. One that is no such object is left alone. */
static bool ensure_cluster(struct start *s)
{
	auto_free char *key = mem_strdup(key_str(KIND_CLUSTERINFORMATION, NULL, "default"));
	auto_(json) json_t *j = NULL, *before = NULL;
	json_t *spec;
	struct object *o;

	if (!start_know(s, key, &o))
		return false;
	if (!o->text) {
		spec = json_object();
		complete_cluster(s, spec);
		return ensure_default(s, KIND_CLUSTERINFORMATION, "default", spec);
	}
	j = json_loads(o->text, 0, NULL);
	spec = json_object_get(j, "spec");
	if (!json_is_object(spec))
		return true;
	before = json_deep_copy(spec);
	complete_cluster(s, spec);
	if (json_equal(before, spec))
		return true;
	start_operate(s, STORE_UPDATE, key, model_json_dump(j), o->rev);
	return false;
}

/* Nothing here needs tiers, and Calico's older manifests have none. */
bool start_go_without(struct start *s, int r, const struct err *err)
{
	if (r != -EACCES && r != -ENOENT && r != -EINVAL)
		return false;
	if (strncmp(s->key, TIERS, strlen(TIERS)) != 0)
		return false;
	if (!s->told_tiers)
		log_warn("no tiers are made: %s", err_text(err));
	return s->no_tiers = s->told_tiers = true;
}

static bool ensure_tier(struct start *s, const char *key, int order, const char *action)
{
	return s->no_tiers ||
	       ensure_resource(s, "Tier", key,
		       json_pack("{s:i, s:s}", "order", order, "defaultAction", action));
}

int start_cluster(struct start *s)
{
	auto_free char *own = mem_printf("node.%s", s->conf->nodename);

	return ensure_cluster(s) &&
	       ensure_default(s, KIND_FELIXCONFIGURATION, "default",
		       json_pack("{s:s, s:s, s:s, s:s}", "bpfLogLevel", "", "floatingIPs",
			       "Disabled", "logSeverityScreen", "Info", "reportingInterval",
			       "0s")) &&
	       (store_is_managed(s->st) || ensure_default(s, KIND_FELIXCONFIGURATION, own,
						   json_pack("{s:s, s:s, s:s}", "bpfLogLevel", "",
							   "defaultEndpointToHostAction", "Return",
							   "floatingIPs", "Disabled"))) &&
	       ensure_default(s, KIND_BGPCONFIGURATION, "default", json_object()) &&
	       ensure_default(s, KIND_IPAMCONFIGURATION, "default",
		       json_pack("{s:b, s:b}", "strictAffinity", 0, "autoAllocateBlocks", 1)) &&
	       ensure_tier(s, TIERS "default", 1000000, "Deny") &&
	       ensure_tier(s, TIERS "kube-admin", 1000, "Pass") &&
	       ensure_tier(s, TIERS "kube-baseline", 10000000, "Pass");
}
