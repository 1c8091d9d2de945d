/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/given.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/sha1.h"
#include "cni/call.h"
#include "cni/journal.h"
#include "model/json.h"

void given_free(struct given *g)
{
	if (!g)
		return;
	free(g->network);
	free(g->container_id);
	free(g->ifname);
	free(g->args);
	free(g->result);
	free(g);
}

static char *directory(void)
{
	const char *state = getenv("MARGAY_CNI_STATE_DIR");

	return mem_printf("%s/given", state && *state ? state : JOURNAL_DIR);
}

static char *path_of(const char *network, const char *container_id, const char *ifname)
{
	auto_free char *dir = directory(), *handle = call_handle(network, container_id, ifname);
	char name[SHA1_HEX_SIZE];

	return mem_printf("%s/%s", dir, sha1_hex(handle, name));
}

static char *text_of(const json_t *j, const char *member)
{
	const char *s = json_string_value(json_object_get(j, member));

	return s ? mem_strdup(s) : NULL;
}

static int read_path(const char *path, struct given **ret, struct err *err)
{
	auto_(given) struct given *g = mem_new(struct given);
	auto_(json) json_t *j = NULL;
	auto_free char *text = NULL;
	int r = file_read(path, GIVEN_MAX, &text, NULL, err);

	if (r < 0)
		return r == -EFBIG ? -EINVAL : r;
	j = json_loads(text, 0, NULL);
	*g = (struct given){text_of(j, "network"), text_of(j, "containerID"), text_of(j, "ifname"),
		text_of(j, "args"), text_of(j, "result")};
	if (!g->network || !g->container_id || !g->ifname || !g->args || !g->result)
		return err_set(err, -EINVAL,
			"%s: it does not say what another IPAM plugin gave: delete it", path);
	*ret = take_ptr(g);
	return 0;
}

int given_read(const char *network, const char *container_id, const char *ifname,
	struct given **ret, struct err *err)
{
	auto_free char *path = path_of(network, container_id, ifname);

	return read_path(path, ret, err);
}

int given_write(const struct given *g, struct err *err)
{
	auto_free char *dir = directory(), *path = path_of(g->network, g->container_id, g->ifname);
	auto_(json) json_t *j =
		json_pack("{s:s, s:s, s:s, s:s, s:s}", "network", g->network, "containerID",
			g->container_id, "ifname", g->ifname, "args", g->args, "result", g->result);
	auto_free char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	int r;

	if (!text || strlen(text) > GIVEN_MAX)
		return err_set(err, -EINVAL,
			"%s: what another IPAM plugin gave is no text, or more than %d bytes with "
			"CNI_ARGS",
			path, GIVEN_MAX);
	r = file_mkdirs(dir, 0700, err) ?: file_write_atomic(path, text, strlen(text), 0600, err);
	return r < 0 ? r : 0;
}

int given_remove(const char *network, const char *container_id, const char *ifname, struct err *err)
{
	auto_free char *path = path_of(network, container_id, ifname);

	return unlink(path) < 0 && errno != ENOENT ? err_sys(err, -errno, "%s", path) : 0;
}

static void add(const char *path, const char *network, struct given_list *to)
{
	auto_(given) struct given *g = NULL;
	struct err err = ERR_INIT;
	int r = read_path(path, &g, &err);

	if (r < 0 && r != -ENOENT)
		log_warn("%s", err_text(&err));
	else if (r == 0 && strcmp(g->network, network) == 0)
		vec_push(&to->v, take_ptr(g));
}

int given_list(const char *network, struct given_list *ret, struct err *err)
{
	auto_free char *path = directory();
	DIR *dir = opendir(path);

	*ret = (struct given_list){0};
	if (!dir)
		return errno == ENOENT ? 0 : err_sys(err, -errno, "%s", path);
	for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
		auto_free char *file = mem_printf("%s/%s", path, e->d_name);

		if (strlen(e->d_name) == SHA1_HEX_SIZE - 1)
			add(file, network, ret);
	}
	closedir(dir);
	return 0;
}

void given_list_done(struct given_list *l)
{
	struct given **g;

	vec_for_each (&l->v, g)
		given_free(*g);
	vec_done(&l->v);
}
