/* SPDX-License-Identifier: GPL-2.0-or-later */
/* margayctl node status: the BGP sessions of this node's BIRD, as calicoctl prints them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/parse.h"
#include "ctl/ctl.h"
#include "ctl/node.h"
#include "ctl/table.h"
#include "net/ip.h"
#include "svc/bird.h"

/*
 * "Mesh_10_130_29_81", "Global_10_0_0_1_port_1790": type, address and port (0: the usual one); false
 * where the name is not of that form.
 */
static bool parse_peer(const char *name, const char **ret_type, struct ip *ret, uint32_t *ret_port)
{
	static const struct {
		const char *prefix, *type;
	} types[] = {
		{"Global_", "global"},
		{"Node_", "node specific"},
		{"Mesh_", "node-to-node mesh"},
	};
	const char *port = strstr(name, "_port_");
	char text[IP_TEXT_SIZE];

	*ret_port = 0;
	if (port && parse_u32(port + strlen("_port_"), 1, UINT16_MAX, ret_port, NULL) < 0)
		return false;
	for (unsigned i = 0; i < array_size(types); i++) {
		size_t n = strlen(types[i].prefix), len;

		if (strncmp(name, types[i].prefix, n) != 0)
			continue;
		len = port ? (size_t)(port - name) - n : strlen(name + n);
		for (unsigned v6 = 0; v6 < 2 && len < sizeof(text); v6++) {
			memcpy(text, name + n, len);
			text[len] = '\0';
			for (char *p = strchr(text, '_'); p; p = strchr(p, '_'))
				*p = v6 ? ':' : '.';
			if (ip_parse(text, ret, NULL) == 0) {
				*ret_type = types[i].type;
				return true;
			}
		}
	}
	return false;
}

void node_add_sessions(struct table *t, const struct bird_protocols *ps, int family)
{
	static const char *const heading[] = {
		"PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"};

	table_init(t, array_size(heading));
	for (unsigned i = 0; i < array_size(heading); i++)
		table_add(t, heading[i]);
	for (size_t i = 0; i < ps->n; i++) {
		const struct bird_protocol *p = &ps->v[i];
		const char *type;
		uint32_t port;
		struct ip ip;

		if (strcmp(p->proto, "BGP") != 0 || !parse_peer(p->name, &type, &ip, &port) ||
			ip.family != family)
			continue;
		if (port != 0)
			table_addf(t, ip.family == IP_V6 ? "[%s]:%u" : "%s:%u", ip_str(&ip), port);
		else
			table_add(t, ip_str(&ip));
		table_add(t, type);
		table_add(t, p->state);
		table_add(t, p->since);
		/* BIRD aligns the state and what follows it by blanks. */
		auto_free char *info = mem_strdup(p->info);
		char *to = info;

		for (const char *from = info; *from != '\0'; from++)
			if (*from != ' ' || (to > info && to[-1] != ' '))
				*to++ = *from;
		while (to > info && to[-1] == ' ')
			to--;
		*to = '\0';
		table_add(t, info);
	}
}

static int show_family(const char *path, int family)
{
	auto_(bird) struct bird *b = NULL;
	struct bird_protocols ps = {0};
	struct err err = ERR_INIT;
	int64_t deadline = clock_mono_ms() + BIRD_TIMEOUT_MS;
	struct table t;
	int r = bird_open(path, deadline, &b, &err);

	if (r == 0)
		r = bird_show_protocols(b, deadline, &ps, &err);
	if (r < 0) {
		printf("\nINFO: BIRDv%d process: 'bird' is not running.\n", family);
		err_wrap(&err, r, "check that BIRD runs, and that BIRD_CTL is its control socket");
		return ctl_fail(&err);
	}
	printf("\nIPv%d BGP status\n", family);
	node_add_sessions(&t, &ps, family);
	if (table_rows(&t) > 1)
		table_print_box(&t, NULL, stdout);
	else
		printf("No IPv%d peers found.\n", family);
	table_done(&t);
	bird_protocols_done(&ps);
	return EXIT_SUCCESS;
}

static int node_status(struct ctl *c, int argc, char **argv)
{
	const char *v6 = c->bird6_ctl[0] != '\0' ? c->bird6_ctl : c->bird_ctl;
	int a, b;

	if (argc > 1) {
		ctl_warn("node status: \"%s\": no argument is wanted", argv[1]);
		return verb_misused("node status");
	}
	a = show_family(c->bird_ctl, IP_V4);
	/* One BIRD that does not run is told once. */
	if (a != EXIT_SUCCESS && v6 == c->bird_ctl)
		return a;
	b = show_family(v6, IP_V6);
	printf("\n");
	return a != EXIT_SUCCESS ? a : b;
}

int verb_node(struct ctl *c, int argc, char **argv)
{
	static const struct verb table[] = {
		{"status", node_status, "", "this node's BGP sessions",
			"Asks this node's BIRD, by its control socket --bird-ctl, what sessions it has.\n"},
		{0},
	};

	return verb_dispatch(c, table, "margayctl node", argc - 1, argv + 1);
}
