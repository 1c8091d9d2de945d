/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/pod.h"

#include <stdlib.h>
#include <string.h>

#include "model/read.h"

void pod_free(struct pod *p)
{
	struct wep_port *port;

	if (!p)
		return;
	meta_done(&p->meta);
	free(p->generate_name);
	free(p->node);
	free(p->service_account);
	free(p->phase);
	vec_for_each (&p->ports, port) {
		free(port->name);
		free(port->host_ip);
	}
	vec_done(&p->ports);
	free(p);
}

bool pod_is_finished(const struct pod *p)
{
	return p->phase && (strcmp(p->phase, "Succeeded") == 0 || strcmp(p->phase, "Failed") == 0);
}

static void read_port(struct read *rd, const json_t *e, struct pod *p)
{
	struct wep_port port = {0};

	read_str(rd, e, "name", &port.name);
	read_protocol(rd, e, &port.protocol);
	read_u16(rd, e, "containerPort", 0, &port.port);
	read_u16(rd, e, "hostPort", 0, &port.host_port);
	read_str(rd, e, "hostIP", &port.host_ip);
	if (port.port != 0 && (port.name || port.host_port != 0)) {
		vec_push(&p->ports, port);
		return;
	}
	free(port.name);
	free(port.host_ip);
}

static void read_containers(struct read *rd, const json_t *spec, const char *name, struct pod *p)
{
	json_t *list = read_array(rd, spec, name), *ports, *c, *e;
	size_t i, k;

	json_array_foreach (list, i, c) {
		ports = read_array(rd, c, "ports");
		read_at(rd, "spec.%s[%zu].ports", name, i);
		json_array_foreach (ports, k, e)
			read_port(rd, e, p);
		read_at(rd, "spec");
	}
}

int pod_decode(const char *key, const char *text, size_t len, struct pod **ret, struct err *err)
{
	auto_(pod) struct pod *p = mem_new(struct pod);
	struct read rd;
	auto_(json) json_t *j = read_resource(&rd, KIND_POD, key, text, len, &p->meta, err);
	const json_t *spec = read_object(&rd, j, "spec"), *status = read_object(&rd, j, "status");

	read_at(&rd, "metadata");
	read_str(&rd, json_object_get(j, "metadata"), "generateName", &p->generate_name);
	read_at(&rd, "status");
	read_str(&rd, status, "phase", &p->phase);
	read_at(&rd, "spec");
	read_str(&rd, spec, "nodeName", &p->node);
	read_str(&rd, spec, "serviceAccountName", &p->service_account);
	read_bool(&rd, spec, "hostNetwork", &p->host_network);
	read_containers(&rd, spec, "containers", p);
	read_containers(&rd, spec, "initContainers", p);
	if (rd.r < 0)
		return rd.r;
	*ret = take_ptr(p);
	return 0;
}

void namespace_free(struct namespace *n)
{
	if (!n)
		return;
	meta_done(&n->meta);
	free(n);
}

int namespace_decode(
	const char *key, const char *text, size_t len, struct namespace **ret, struct err *err)
{
	auto_(namespace) struct namespace *n = mem_new(struct namespace);
	struct read rd;
	auto_(json) json_t *j = read_resource(&rd, KIND_NAMESPACE, key, text, len, &n->meta, err);

	if (!j)
		return rd.r;
	*ret = take_ptr(n);
	return 0;
}
