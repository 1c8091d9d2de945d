/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the plugin and `margay-cni run` both ask before they enter a network namespace. libc only. */
#pragma once

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* The verb does something in the pod's. */
static inline bool netns_is_needed(const char *verb)
{
	return strcmp(verb, "ADD") == 0 || strcmp(verb, "DEL") == 0 || strcmp(verb, "CHECK") == 0;
}

/* ns is self, the host's own: as in the reference library it is refused, unless one insists. */
static inline bool netns_is_refused(int ns, int self)
{
	const char *insists = getenv("CNI_NETNS_OVERRIDE");
	struct stat x, y;

	if (insists && (strcmp(insists, "1") == 0 || strcasecmp(insists, "true") == 0))
		return false;
	return fstat(ns, &x) == 0 && fstat(self, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}
