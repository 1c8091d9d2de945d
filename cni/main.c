/* SPDX-License-Identifier: GPL-2.0-or-later */
/* margay-cni: what is behind the CNI plugin, on its node. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cni/main.h"

static const struct command {
	const char *name;
	int (*main)(int argc, char **argv);
	const char *about;
} commands[] = {
	{"serve", serve_main, "answers the plugin, until it is stopped (--help: its parameters)"},
	{"install", install_main, "places the plugin on a host (--help: its parameters)"},
	{"uninstall", uninstall_main, "removes what was placed"},
	{"run", run_main, "one verb, from CNI_* and stdin, as the plugin does where nobody serves"},
};

static void usage(FILE *f)
{
	fprintf(f, "Usage: margay-cni COMMAND [ARGUMENT]...\n"
		   "Does what the CNI plugin margay is asked to.\n\n");
	for (size_t i = 0; i < array_size(commands); i++)
		fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].about);
	fprintf(f,
		"\n  --help     this text\n  --version  its version\n\n"
		"What a network configuration says of a log file (log_file_path, log_file_max_*) is for "
		"run alone:\nserve logs to its stderr, and says so once.\n");
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
		usage(stdout);
		return EXIT_SUCCESS;
	}
	if (strcmp(name, "--version") == 0) {
		printf("margay-cni %s\n", MARGAY_VERSION);
		return EXIT_SUCCESS;
	}
	for (size_t i = 0; i < array_size(commands); i++)
		if (strcmp(name, commands[i].name) == 0)
			return commands[i].main(argc - 1, argv + 1);
	if (name[0] != '\0')
		fprintf(stderr, "margay-cni: there is no command \"%s\"\n\n", name);
	usage(stderr);
	return 2;
}
