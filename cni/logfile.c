/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hmap.h"
#include "base/log.h"
#include "base/mem.h"
#include "cni/conf.h"
#include "cni/shared.h"

enum { MB = 1024 * 1024, DAY_S = 24 * 3600 };

static int file = -1;

static char *numbered(const char *path, uint32_t n)
{
	return n == 0 ? mem_strdup(path) : mem_printf("%s.%u", path, n);
}

/* Each to the next number; what is too many, or too old, goes. */
static void rotate(const struct cni_conf *conf)
{
	time_t oldest =
		(time_t)(clock_real_ns() / 1000000000 - (int64_t)conf->log_file_max_days * DAY_S);

	for (uint32_t i = conf->log_file_max_count + 1; i-- > 0;) {
		auto_free char *from = numbered(conf->log_file_path, i);
		auto_free char *to = numbered(conf->log_file_path, i + 1);
		struct stat st;

		if (i == conf->log_file_max_count || (stat(from, &st) == 0 && st.st_mtime < oldest))
			unlink(from);
		else
			rename(from, to);
	}
}

static int open_file(const char *path)
{
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
}

/* Of several processes that find it too long one has the lock, and the file still has its name. */
static bool is_to_rotate(const struct cni_conf *conf, int fd)
{
	struct stat st, named;

	return fstat(fd, &st) == 0 && st.st_size >= (off_t)conf->log_file_max_mb * MB &&
	       flock(fd, LOCK_EX | LOCK_NB) == 0 && stat(conf->log_file_path, &named) == 0 &&
	       named.st_dev == st.st_dev && named.st_ino == st.st_ino;
}

void logfile_open(const struct cni_conf *conf)
{
	const char *path = conf->log_file_path;

	if (!path)
		return;
	file = open_file(path);
	if (file < 0 && errno == ENOENT) {
		auto_free char *copy = mem_strdup(path);

		(void)file_mkdirs(dirname(copy), 0755, NULL);
		file = open_file(path);
	}
	if (file < 0) {
		log_warn("netconf: log_file_path: %s: %s", path, strerrordesc_np(errno));
		return;
	}
	if (is_to_rotate(conf, file)) {
		rotate(conf);
		close(file);
		file = open_file(path);
	}
	log_set_file(file);
}

void logfile_close(void)
{
	log_set_file(-1);
	if (file >= 0)
		close(file);
	file = -1;
}

void logfile_pass_over(struct cni_shared *shared, const struct cni_conf *conf)
{
	auto_free char *told = NULL;
	uint64_t hash;

	if (!conf->log_file_path)
		return;
	told = mem_printf("%s %s", conf->name, conf->log_file_path);
	hash = hash_str(told) ?: 1;
	for (size_t i = 0; i < array_size(shared->log_files); i++) {
		uint64_t have = 0;

		if (__atomic_compare_exchange_n(&shared->log_files[i], &have, hash, false,
			    __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
			log_warn(
				"netconf: log_file_path: %s, of network %s: not written, nor do "
				"log_file_max_* count: margay-cni serve runs its verbs, and logs to "
				"its stderr (journalctl -u margay-cni)",
				conf->log_file_path, conf->name);
			return;
		}
		if (have == hash)
			return;
	}
}
