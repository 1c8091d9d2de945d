/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/cluster.h"

#include <stdlib.h>

#include "model/read.h"
#include "model/write.h"

struct cluster_info *cluster_info_new(void)
{
	struct cluster_info *c = mem_new(struct cluster_info);

	c->meta.name = mem_strdup("default");
	return c;
}

void cluster_info_free(struct cluster_info *c)
{
	if (!c)
		return;
	meta_done(&c->meta);
	free(c->guid);
	free(c->type);
	free(c->version);
	free(c);
}

int cluster_info_decode(
	const char *key, const char *text, size_t len, struct cluster_info **ret, struct err *err)
{
	auto_(cluster_info) struct cluster_info *c = mem_new(struct cluster_info);
	struct read rd;
	auto_(json) json_t *j =
		read_resource(&rd, KIND_CLUSTERINFORMATION, key, text, len, &c->meta, err);
	const json_t *spec = read_object(&rd, j, "spec");

	read_at(&rd, "spec");
	read_str(&rd, spec, "clusterGUID", &c->guid);
	read_str(&rd, spec, "clusterType", &c->type);
	read_str(&rd, spec, "calicoVersion", &c->version);
	read_bool(&rd, spec, "datastoreReady", &c->ready);
	if (rd.r < 0)
		return rd.r;
	*ret = take_ptr(c);
	return 0;
}

char *cluster_info_encode(const struct cluster_info *c, const char *base)
{
	json_t *j = write_resource(KIND_CLUSTERINFORMATION, base, &c->meta);
	json_t *spec = write_object(j, "spec");

	write_str(spec, "clusterGUID", c->guid);
	write_str(spec, "clusterType", c->type);
	write_str(spec, "calicoVersion", c->version);
	write_json(spec, "datastoreReady", json_boolean(c->ready));
	return write_text(j, KIND_CLUSTERINFORMATION);
}
