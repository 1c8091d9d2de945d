/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/endpointslice.h"

#include <stdlib.h>
#include <string.h>

#include "model/read.h"

static void endpoint_done(struct endpoint *e)
{
	free(e->node);
	free(e->hostname);
}

void endpointslice_free(struct endpointslice *s)
{
	struct endpoint *e;
	struct endpoint_port *p;

	if (!s)
		return;
	meta_done(&s->meta);
	free(s->service);
	vec_for_each (&s->endpoints, e)
		endpoint_done(e);
	vec_done(&s->endpoints);
	vec_for_each (&s->ports, p)
		free(p->name);
	vec_done(&s->ports);
	free(s);
}

static void read_endpoint(struct read *rd, const json_t *j, uint8_t family, struct endpoint *ep)
{
	const json_t *conditions = read_object(rd, j, "conditions");
	json_t *list = read_array(rd, j, "addresses"), *e;
	struct ip ip;
	size_t i;

	json_array_foreach (list, i, e) {
		if (!read_element_ip(rd, e, "addresses", &ip))
			return;
		if (ip.family != family)
			read_fail(rd, "addresses", e, "an address of the slice's addressType");
		if (i == 0)
			ep->ip = ip;
	}
	if (ep->ip.family == IP_NONE)
		read_fail(rd, "addresses", NULL, "at least one address");
	ep->ready = ep->serving = true;
	read_bool(rd, conditions, "ready", &ep->ready);
	read_bool(rd, conditions, "serving", &ep->serving);
	read_bool(rd, conditions, "terminating", &ep->terminating);
	read_str(rd, j, "nodeName", &ep->node);
	read_str(rd, j, "hostname", &ep->hostname);
}

static void read_endpoints(struct read *rd, const json_t *j, struct endpointslice *s)
{
	json_t *list = read_array(rd, j, "endpoints"), *e;
	size_t i;

	if (s->family == IP_NONE)
		return;
	vec_reserve(&s->endpoints, json_array_size(list));
	json_array_foreach (list, i, e) {
		struct endpoint ep = {0};

		read_at(rd, "endpoints[%zu]", i);
		read_endpoint(rd, e, s->family, &ep);
		vec_push(&s->endpoints, ep);
		if (rd->r < 0)
			return;
	}
}

static void read_ports(struct read *rd, const json_t *j, struct endpointslice *s)
{
	json_t *list = read_array(rd, j, "ports"), *e;
	size_t i;

	vec_reserve(&s->ports, json_array_size(list));
	json_array_foreach (list, i, e) {
		struct endpoint_port p = {0};

		read_at(rd, "ports[%zu]", i);
		read_str(rd, e, "name", &p.name);
		if (!p.name)
			p.name = mem_strdup("");
		read_protocol(rd, e, &p.protocol);
		read_u16(rd, e, "port", 0, &p.port);
		vec_push(&s->ports, p);
	}
}

static void keep_name(struct meta *m)
{
	char *name = take_ptr(m->name), *ns = take_ptr(m->ns);

	meta_done(m);
	m->name = name;
	m->ns = ns;
}

int endpointslice_decode(
	const char *key, const char *text, size_t len, struct endpointslice **ret, struct err *err)
{
	static const char *const families[] = {"IPv4", "IPv6", "FQDN", NULL};
	static const uint8_t numbers[] = {IP_V4, IP_V6, IP_NONE};
	auto_(endpointslice) struct endpointslice *s = mem_new(struct endpointslice);
	const char *service;
	unsigned family = 0;
	struct read rd;
	auto_(json) json_t *j =
		read_resource(&rd, KIND_ENDPOINTSLICE, key, text, len, &s->meta, err);

	if (!read_text(&rd, j, "addressType"))
		read_fail(&rd, "addressType", json_object_get(j, "addressType"),
			"IPv4, IPv6 or FQDN");
	read_enum(&rd, j, "addressType", families, &family);
	s->family = numbers[family];
	read_endpoints(&rd, j, s);
	read_ports(&rd, j, s);
	if (rd.r < 0)
		return rd.r;
	service = labels_get(&s->meta.labels, LABEL_SERVICE_NAME);
	s->service = service ? mem_strdup(service) : NULL;
	keep_name(&s->meta);
	*ret = take_ptr(s);
	return 0;
}
