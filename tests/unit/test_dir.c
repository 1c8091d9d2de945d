/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit/test_dir.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/margay-test-XXXXXX";
static pid_t owner;

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static void remove_root(void)
{
	if (getpid() == owner)
		nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Before Check forks for the first test. */
__attribute__((constructor)) static void make_root(void)
{
	owner = getpid();
	if (!mkdtemp(root) || chmod(root, 0755) < 0 || atexit(remove_root) != 0) {
		perror(root);
		exit(1);
	}
}

const char *test_dir(void)
{
	static char dir[sizeof(root) + 16];

	snprintf(dir, sizeof(dir), "%s/XXXXXX", root);
	if (!mkdtemp(dir) || chmod(dir, 0755) < 0) {
		perror(dir);
		abort();
	}
	return dir;
}
