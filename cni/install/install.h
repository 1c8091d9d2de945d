/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What margay-cni's install and uninstall both take. */
#pragma once

#include <stdbool.h>

struct params;

struct install_dirs {
	char *root, *bin_dir, *net_dir;
	bool dry_run;
};

void install_dirs_add(struct params *ps, struct install_dirs *dirs);
