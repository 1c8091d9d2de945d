/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BIRD's configuration for given objects: bird/NAME.json -> bird/NAME.conf, all files one after the
 * other, then what was left out. UPDATE_GOLDEN=1 writes the results. Each is also parsed by the BIRD
 * of this machine, and rendered from the objects in reverse order to the same bytes.
 *
 *	{"node": "n1", "bird": "BIRD 2.0.12", "router_id": "...", "blocks": ["10.244.0.0/24"],
 *	 "secrets": {"NAME/KEY": "text"}, "objects": [{"kind": "Node", ...}, ...]}
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "confd/bgp_view.h"
#include "confd/templates.h"
#include "model/bgp.h"
#include "model/ippool.h"
#include "model/json.h"
#include "model/node.h"

static const char *const files[] = {"bird.conf", "blocks4.inc", "nodes.inc", "peers.inc"};

static void die(const char *what, const struct err *err)
{
	fprintf(stderr, "%s: %s\n", what, err_text(err));
	exit(EXIT_FAILURE);
}

static const char *secret(void *arg, const char *name, const char *key)
{
	auto_free char *path = mem_printf("%s/%s", name, key);

	return json_string_value(json_object_get(arg, path));
}

struct objects {
	VEC(struct node *) nodes;
	VEC(struct bgp_config *) configs;
	VEC(struct bgp_peer *) peers;
	VEC(struct ippool *) pools;
	VEC(struct prefix) blocks;
};

static void decode(struct objects *o, const json_t *j)
{
	const char *kind = json_string_value(json_object_get(j, "kind"));
	auto_free char *text = json_dumps(j, 0);
	struct err err = ERR_INIT;
	int r = -EINVAL;

#define TAKE(type, list)                                               \
	do {                                                           \
		struct type *x = NULL;                                 \
		r = type##_decode(NULL, text, strlen(text), &x, &err); \
		if (r == 0)                                            \
			vec_push(&o->list, x);                         \
	} while (0)
	if (strcmp(kind, "Node") == 0)
		TAKE(node, nodes);
	else if (strcmp(kind, "BGPConfiguration") == 0)
		TAKE(bgp_config, configs);
	else if (strcmp(kind, "BGPPeer") == 0)
		TAKE(bgp_peer, peers);
	else if (strcmp(kind, "IPPool") == 0)
		TAKE(ippool, pools);
	if (r < 0)
		die(kind, &err);
}

static void read_objects(struct objects *o, const json_t *in, bool reverse)
{
	const json_t *list = json_object_get(in, "objects"),
		     *blocks = json_object_get(in, "blocks");
	size_t n = json_array_size(list);

	for (size_t i = 0; i < n; i++)
		decode(o, json_array_get(list, reverse ? n - 1 - i : i));
	n = json_array_size(blocks);
	for (size_t i = 0; i < n; i++) {
		struct prefix p;
		struct err err = ERR_INIT;

		if (prefix_parse_masked(
			    json_string_value(json_array_get(blocks, reverse ? n - 1 - i : i)), &p,
			    &err) < 0)
			die("blocks", &err);
		vec_push(&o->blocks, p);
	}
}

static void free_objects(struct objects *o)
{
	for (size_t i = 0; i < o->nodes.n; i++)
		node_free(o->nodes.v[i]);
	for (size_t i = 0; i < o->configs.n; i++)
		bgp_config_free(o->configs.v[i]);
	for (size_t i = 0; i < o->peers.n; i++)
		bgp_peer_free(o->peers.v[i]);
	for (size_t i = 0; i < o->pools.n; i++)
		ippool_free(o->pools.v[i]);
	vec_done(&o->nodes);
	vec_done(&o->configs);
	vec_done(&o->peers);
	vec_done(&o->pools);
	vec_done(&o->blocks);
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted: problems come in the order of the objects. */
static void print_problems(const struct problems *problems, struct strbuf *out)
{
	VEC(char *) lines = {0};

	for (size_t i = 0; i < problems->v.n; i++)
		vec_push(&lines,
			mem_printf("%s: %s\n", problems->v.v[i].object, problems->v.v[i].text));
	if (lines.n > 0)
		qsort(lines.v, lines.n, sizeof(*lines.v), compare_lines);
	strbuf_add(out, "#### left out\n");
	for (size_t i = 0; i < lines.n; i++) {
		strbuf_add(out, lines.v[i]);
		free(lines.v[i]);
	}
	vec_done(&lines);
}

/* All of it; dir: where the files are written for BIRD to parse, or NULL. */
static void render(
	struct templates *templates, json_t *in, bool reverse, const char *dir, struct strbuf *out)
{
	struct objects o = {0};
	struct problems problems = {0};
	struct bgp_view_input view_in = {
		.nodename = json_string_value(json_object_get(in, "node")),
		.router_id = json_string_value(json_object_get(in, "router_id")),
		.felix_protocol = 80,
		.secret = secret,
		.secret_arg = json_object_get(in, "secrets"),
	};
	const char *version = json_string_value(json_object_get(in, "bird"));
	json_t *view = NULL;
	struct err err = ERR_INIT;

	read_objects(&o, in, reverse);
	view_in.nodes = (const struct node *const *)o.nodes.v;
	view_in.n_nodes = o.nodes.n;
	view_in.configs = (const struct bgp_config *const *)o.configs.v;
	view_in.n_configs = o.configs.n;
	view_in.peers = (const struct bgp_peer *const *)o.peers.v;
	view_in.n_peers = o.peers.n;
	view_in.pools = (const struct ippool *const *)o.pools.v;
	view_in.n_pools = o.pools.n;
	view_in.blocks = o.blocks.v;
	view_in.n_blocks = o.blocks.n;
	if (bird_version_parse(version ? version : "BIRD 2.0.12", &view_in.bird, &err) < 0)
		die("bird", &err);
	if (bgp_view(&view_in, &view, &problems, &err) < 0)
		die("view", &err);
	for (size_t i = 0; i < array_size(files); i++) {
		auto_strbuf text = STRBUF_INIT;

		if (templates_render(templates, files[i], view, &text, &err) < 0)
			die(files[i], &err);
		strbuf_addf(out, "#### %s\n%s", files[i], text.s);
		if (dir) {
			auto_free char *path = mem_printf("%s/%s", dir, files[i]);

			if (file_write_atomic(path, text.s, text.len, 0600, &err) < 0)
				die(path, &err);
		}
	}
	print_problems(&problems, out);
	json_decref(view);
	problems_done(&problems);
	free_objects(&o);
}

static bool parses(const char *dir)
{
	auto_free char *command = mem_printf("/usr/sbin/bird -p -c %s/bird.conf", dir);
	int status = system(command);

	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool run(struct templates *templates, const char *path, const char *dir)
{
	auto_free char *golden_path =
		mem_printf("%.*s.conf", (int)(strlen(path) - strlen(".json")), path);
	auto_free char *golden = NULL;
	auto_strbuf got = STRBUF_INIT, again = STRBUF_INIT;
	json_error_t json_err;
	json_t *in = json_load_file(path, 0, &json_err);
	struct err err = ERR_INIT;
	bool ok = true;

	if (!in) {
		fprintf(stderr, "%s:%d: %s\n", path, json_err.line, json_err.text);
		return false;
	}
	render(templates, in, false, dir, &got);
	render(templates, in, true, NULL, &again);
	json_decref(in);
	if (strcmp(got.s, again.s) != 0) {
		fprintf(stderr, "%s: depends on the order of the objects\n", path);
		ok = false;
	}
	if (!parses(dir)) {
		fprintf(stderr, "%s: BIRD does not parse the result\n", path);
		ok = false;
	}
	if (getenv("UPDATE_GOLDEN")) {
		if (file_write_atomic(golden_path, got.s, got.len, 0644, &err) < 0)
			die(golden_path, &err);
	} else if (file_read(golden_path, 1 << 20, &golden, NULL, &err) < 0 ||
		   strcmp(golden, got.s) != 0) {
		fprintf(stderr, "%s: %s; UPDATE_GOLDEN=1 writes this:\n%s", golden_path,
			golden ? "differs" : err_text(&err), got.s);
		ok = false;
	}
	return ok;
}

int main(void)
{
	const char *const dirs[] = {TEMPLATES};
	auto_(templates) struct templates *templates = templates_new(dirs, 1);
	char dir[] = "/tmp/margay-golden-XXXXXX";
	struct dirent **entries;
	int n, failed = 0, run_n = 0;

	if (!mkdtemp(dir)) {
		perror(dir);
		return EXIT_FAILURE;
	}
	n = scandir(CASES, &entries, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		const char *dot = strrchr(entries[i]->d_name, '.');
		auto_free char *path = mem_printf("%s/%s", CASES, entries[i]->d_name);

		if (dot && strcmp(dot, ".json") == 0) {
			run_n++;
			failed += !run(templates, path, dir);
		}
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	for (size_t i = 0; i < array_size(files); i++) {
		auto_free char *path = mem_printf("%s/%s", dir, files[i]);

		unlink(path);
	}
	rmdir(dir);
	printf("%d cases, %d failed\n", run_n, failed);
	return failed == 0 && run_n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
