/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/felixconfig.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "model/read.h"

void felix_config_free(struct felix_config *c)
{
	if (!c)
		return;
	meta_done(&c->meta);
	free(c->node_selector);
	labels_done(&c->values);
	free(c);
}

int felix_config_decode(
	const char *key, const char *text, size_t len, struct felix_config **ret, struct err *err)
{
	auto_(felix_config) struct felix_config *c = mem_new(struct felix_config);
	struct read rd;
	auto_(json) json_t *j =
		read_resource(&rd, KIND_FELIXCONFIGURATION, key, text, len, &c->meta, err);
	json_t *spec = read_object(&rd, j, "spec"), *e;
	const char *name;

	read_at(&rd, "spec");
	read_str(&rd, spec, "nodeSelector", &c->node_selector);
	if (rd.r < 0)
		return rd.r;
	json_object_foreach (spec, name, e) {
		auto_free char *value = NULL;

		if (json_is_string(e) && json_string_length(e) > 0)
			value = mem_strdup(json_string_value(e));
		else if (json_is_boolean(e) || json_is_number(e))
			value = json_dumps(e, JSON_ENCODE_ANY);
		if (value)
			labels_set(&c->values, name, value);
	}
	*ret = take_ptr(c);
	return 0;
}

const char *felix_config_get(const struct felix_config *c, const char *member)
{
	return labels_get(&c->values, member);
}
