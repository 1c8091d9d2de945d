/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/write.h"

#include <netinet/in.h>
#include <string.h>

#include "model/json.h"
#include "model/resource.h"

void write_json(json_t *obj, const char *name, json_t *value)
{
	if (value)
		json_object_set_new(obj, name, value);
	else
		json_object_del(obj, name);
}

json_t *write_object(json_t *obj, const char *name)
{
	if (!json_is_object(json_object_get(obj, name)))
		json_object_set_new(obj, name, json_object());
	return json_object_get(obj, name);
}

void write_str(json_t *obj, const char *name, const char *s)
{
	write_json(obj, name, s && *s != '\0' ? json_string(s) : NULL);
}

void write_true(json_t *obj, const char *name, bool on)
{
	write_json(obj, name, on ? json_true() : NULL);
}

void write_u32(json_t *obj, const char *name, uint32_t v)
{
	write_json(obj, name, v != 0 ? json_integer(v) : NULL);
}

void write_ip(json_t *obj, const char *name, const struct ip *ip)
{
	write_str(obj, name, ip_str(ip));
}

void write_prefix(json_t *obj, const char *name, const struct prefix *p)
{
	write_str(obj, name, p->addr.family != IP_NONE ? prefix_str(p) : NULL);
}

void write_mac(json_t *obj, const char *name, const struct mac *m)
{
	write_str(obj, name, mac_is_zero(m) ? NULL : mac_str(m));
}

void write_labels(json_t *obj, const char *name, const struct labels *l)
{
	json_t *map = l->v.n > 0 ? json_object() : NULL;
	const struct label *e;

	vec_for_each (&l->v, e)
		json_object_set_new(map, e->name, json_string(e->value));
	write_json(obj, name, map);
}

void write_strings(json_t *obj, const char *name, const struct strings *s)
{
	json_t *list = s->v.n > 0 ? json_array() : NULL;
	char *const *e;

	vec_for_each (&s->v, e)
		json_array_append_new(list, json_string(*e));
	write_json(obj, name, list);
}

json_t *write_resource(enum kind kind, const char *base, const struct meta *m)
{
	json_t *j = base ? model_json_load("base", base, strlen(base), NULL) : NULL, *meta;

	if (!j)
		j = json_object();
	json_object_set_new(j, "kind", json_string(kind_info(kind)->name));
	json_object_set_new(j, "apiVersion", json_string(kind_info(kind)->api_version));
	meta = write_object(j, "metadata");
	write_str(meta, "name", m->name);
	write_str(meta, "namespace", m->ns);
	write_str(meta, "uid", m->uid);
	write_str(meta, "creationTimestamp", m->created);
	write_labels(meta, "labels", &m->labels);
	write_labels(meta, "annotations", &m->annotations);
	return j;
}

char *write_text(json_t *j, enum kind kind)
{
	char *text = resource_encode(j, kind);

	json_decref(j);
	return text;
}

const char *protocol_str(uint8_t protocol)
{
	switch (protocol) {
	case IPPROTO_UDP:
		return "UDP";
	case IPPROTO_SCTP:
		return "SCTP";
	default:
		return "TCP";
	}
}
