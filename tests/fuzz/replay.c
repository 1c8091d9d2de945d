/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Feeds every file of a directory to a fuzz target: what libFuzzer found once is a test for ever. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "fuzz.h"

#define INPUT_MAX (4 * 1024 * 1024)

static void replay(const char *path)
{
	auto_free char *text = NULL, *exact = NULL;
	struct err err = ERR_INIT;
	size_t n;

	if (file_read(path, INPUT_MAX, &text, &n, &err) < 0) {
		fprintf(stderr, "%s\n", err_text(&err));
		exit(EXIT_FAILURE);
	}
	/* To stderr, unbuffered: the last one is the one that died. */
	fprintf(stderr, "%s\n", path);
	exact = mem_dup(text, n ?: 1); /* not a byte more, so that ASan sees what reads on */
	LLVMFuzzerTestOneInput((const uint8_t *)exact, n);
}

int main(int argc, char **argv)
{
	DIR *d = argc == 2 ? opendir(argv[1]) : NULL;
	int n = 0;

	if (!d) {
		fprintf(stderr, "usage: %s CORPUS-DIRECTORY\n", argv[0]);
		return EXIT_FAILURE;
	}
	for (const struct dirent *e; (e = readdir(d)) != NULL;) {
		auto_free char *path = mem_printf("%s/%s", argv[1], e->d_name);

		if (e->d_name[0] == '.')
			continue;
		replay(path);
		n++;
	}
	closedir(d);
	printf("%d inputs\n", n);
	return n > 0 ? EXIT_SUCCESS : EXIT_FAILURE; /* an empty corpus tests nothing */
}
