/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/install/backup.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/vec.h"
#include "cni/install/hostdir.h"

#define SUFFIX ".margay-backup-"
#define N_MAX 1000000

/* Which backup of what; 0 = it is none. */
static uint32_t number_of(const char *backup, size_t *ret_name_len)
{
	const char *suffix = NULL;
	uint32_t n;

	for (const char *s = strstr(backup, SUFFIX); s; s = strstr(s + 1, SUFFIX))
		suffix = s;
	if (!suffix || suffix == backup ||
		parse_u32(suffix + strlen(SUFFIX), 1, N_MAX, &n, NULL) < 0)
		return 0;
	*ret_name_len = (size_t)(suffix - backup);
	return n;
}

static uint32_t latest(const struct hostdir_names *names, const char *name, size_t name_len)
{
	uint32_t max = 0;

	for (size_t i = 0; i < names->n; i++) {
		size_t len = 0;
		uint32_t n = number_of(names->v[i], &len);

		if (n > max && len == name_len && strncmp(names->v[i], name, len) == 0)
			max = n;
	}
	return max;
}

static int is_same(const struct hostdir *d, const char *a, const char *b, struct err *err)
{
	struct hostfile x, y;
	int r;

	r = hostdir_look(d, a, &x, err);
	if (r < 0)
		return r;
	r = hostdir_look(d, b, &y, err);
	if (r == 0)
		r = hostfile_equal(&x, &y);
	hostfile_close(&x);
	hostfile_close(&y);
	return r;
}

int backup_keep(const struct hostdir *d, const char *name, struct err *err)
{
	struct hostdir_names names = {0};
	auto_free char *backup = NULL;
	uint32_t n;
	int r;

	r = hostdir_list(d, &names, err);
	if (r < 0)
		return r;
	n = latest(&names, name, strlen(name));
	hostdir_names_done(&names);
	if (n > 0) {
		backup = mem_printf("%s" SUFFIX "%u", name, n);
		r = is_same(d, name, backup, err);
		if (r != 0)
			return r < 0 ? r : 0;
		free(backup);
	}
	backup = mem_printf("%s" SUFFIX "%u", name, n + 1);
	r = hostdir_link(d, name, backup, err);
	if (r < 0)
		return err_wrap(err, r, "back up");
	hostdir_say(d, "back up %s/%s as %s", d->path, name, backup);
	return 0;
}

int backup_move_away(const struct hostdir *d, const char *name, struct err *err)
{
	int r;

	r = backup_keep(d, name, err);
	if (r < 0)
		return r;
	r = hostdir_unlink(d, name, err);
	if (r == 0)
		hostdir_say(d, "remove %s/%s", d->path, name);
	return r;
}

char *backup_latest_of(const struct hostdir_names *names, const char *name)
{
	size_t len = 0;
	uint32_t n = number_of(name, &len);

	return n > 0 && latest(names, name, len) == n ? mem_strndup(name, len) : NULL;
}
