/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "objects.h"

#include <net/if.h>
#include <stdio.h>

#include "base/err.h"
#include "bench.h"
#include "model/key.h"
#include "model/wep.h"

struct store *objects_open(const char *path)
{
	struct store_conf conf = {.sqlite_path = path};
	struct err err = ERR_INIT;
	struct store *st;

	if (store_open(&conf, NULL, &st, &err) < 0)
		die("%s", err_text(&err));
	return st;
}

void objects_put(struct store *st, const char *key, const char *json)
{
	struct err err = ERR_INIT;

	if (store_create_wait(st, key, json, 0, NULL, &err) < 0)
		die("%s", err_text(&err));
}

char *objects_endpoint(const char *node, const char *ns, const char *pod, uint32_t ip,
	const char *link, char **ret_key)
{
	auto_(wep) struct wep *w = wep_new(ns);
	struct ip addr = ip_from_v4(ip);
	struct err err = ERR_INIT;

	if (wep_name(node, "k8s", pod, "eth0", &w->meta.name, &err) < 0)
		die("%s", err_text(&err));
	w->meta.uid = mem_printf("402a7d62-e552-4855-b6db-%012u", ip);
	w->meta.created = mem_strdup("2024-01-01T00:00:00Z");
	labels_set(&w->meta.labels, "app", "web");
	labels_set(&w->meta.labels, "projectcalico.org/namespace", ns);
	labels_set(&w->meta.labels, "projectcalico.org/orchestrator", "k8s");
	w->orchestrator = mem_strdup("k8s");
	w->node = mem_strdup(node);
	w->container_id = mem_printf("%064u", ip);
	w->pod = mem_strdup(pod);
	w->endpoint = mem_strdup("eth0");
	vec_push(&w->networks, prefix_host(&addr));
	vec_push(&w->profiles.v, mem_printf("kns.%s", ns));
	w->interface = mem_strdup(link);
	(void)mac_parse("ee:ee:ee:ee:ee:ee", &w->mac, NULL);
	*ret_key = mem_strdup(key_str(KIND_WORKLOADENDPOINT, ns, w->meta.name));
	return wep_encode(w, NULL);
}

void objects_put_endpoint(
	struct store *st, const char *node, const char *pod, uint32_t ip, const char *link)
{
	auto_free char *key = NULL, *text = objects_endpoint(node, "default", pod, ip, link, &key);

	objects_put(st, key, text);
}

void objects_put_route(struct store *st, const char *node, int i)
{
	char pod[32], link[IFNAMSIZ];

	snprintf(pod, sizeof(pod), "web-%07d", i);
	snprintf(link, sizeof(link), "cali%d", i % ROUTES_LINKS);
	objects_put_endpoint(st, node, pod, route_dst(i), link);
}
