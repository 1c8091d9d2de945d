/* SPDX-License-Identifier: GPL-2.0-or-later */
/* margayctl ipam check: looks twice, since others write meanwhile, and mends what is to be mended. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/parse.h"
#include "ctl/check.h"
#include "ctl/check_print.h"
#include "ctl/ctl.h"
#include "ctl/ipam.h"
#include "ctl/move.h"

#define AGAIN_S 1	/* what one write follows the other by */
#define QUARANTINE_S 60 /* a container's start and end are over by then */
#define QUARANTINE_MAX 86400
#define EXIT_PROBLEMS 2

static int look(struct ctl *c, struct check *ret)
{
	const char *prefixes[CHECK_N_PREFIXES];
	struct snapshot all = {0};
	struct err err = ERR_INIT;

	check_prefixes(prefixes);
	if (snapshot_read_prefixes(c->st, prefixes, CHECK_N_PREFIXES, NULL, &all, &err) < 0)
		return ctl_fail(&err);
	check_ipam(all.v.v, all.v.n, store_is_managed(c->st), ret);
	snapshot_done(&all);
	return EXIT_SUCCESS;
}

/* What is found by two looks. */
static int look_twice(struct ctl *c, unsigned wait_s, bool repair, struct check *ret)
{
	struct check first;
	int status = look(c, &first);

	if (status != EXIT_SUCCESS)
		return status;
	if (first.problems.n + first.unsettled.n == 0) {
		*ret = first;
		return EXIT_SUCCESS;
	}
	if (repair)
		ctl_warn("%zu problems, as it seems: what is still so in %u s will be repaired",
			first.problems.n + first.unsettled.n, wait_s);
	sleep(wait_s);
	status = look(c, ret);
	if (status == EXIT_SUCCESS)
		check_confirm(ret, &first, repair);
	check_done(&first);
	return status;
}

static int write_report(const struct check *check, const char *path, struct err *err)
{
	auto_free char *text = check_report(check, MARGAY_VERSION);
	struct stat sb;
	FILE *out;

	/* What is no file, as /dev/stdout or a pipe, is not replaced by one. */
	if (stat(path, &sb) < 0 || S_ISREG(sb.st_mode))
		return file_write_atomic(path, text, strlen(text), 0600, err);
	out = fopen(path, "we");
	if (!out)
		return err_sys(err, -errno, "open %s", path);
	fputs(text, out);
	return fclose(out) != 0 ? err_sys(err, -errno, "write %s", path) : 0;
}

struct options {
	bool all, problems, repair, force;
	const char *output;
	uint32_t quarantine_s;
};

static bool parse_options(int argc, char **argv, struct options *ret)
{
	static const struct option options[] = {
		{"show-all-ips", no_argument, NULL, 'a'},
		{"show-problem-ips", no_argument, NULL, 'p'},
		{"output", required_argument, NULL, 'o'},
		{"repair", no_argument, NULL, 'r'},
		{"quarantine", required_argument, NULL, 'q'},
		{"force", no_argument, NULL, 'f'},
		{0},
	};
	struct err err = ERR_INIT;
	int opt;

	optind = 0;
	while ((opt = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
		ret->all |= opt == 'a';
		ret->problems |= opt == 'p';
		ret->repair |= opt == 'r';
		ret->force |= opt == 'f';
		if (opt == 'o')
			ret->output = optarg;
		if (opt == 'q' &&
			parse_u32(optarg, 0, QUARANTINE_MAX, &ret->quarantine_s, &err) < 0) {
			err_wrap(&err, -EINVAL, "ipam check: --quarantine, in seconds");
			ctl_fail(&err);
			return false;
		}
		if (opt == '?')
			return false;
	}
	if (optind < argc)
		ctl_warn("ipam check: \"%s\": no argument is wanted", argv[optind]);
	else if (ret->force && !ret->repair)
		ctl_warn("ipam check: --force: is for --repair");
	else
		return true;
	return false;
}

static int repair(struct ctl *c, const struct check *check, bool force)
{
	size_t left;

	/* Locked since. */
	if (!ctl_store_to_write(c, false))
		return EXIT_FAILURE;
	printf("\n");
	left = ipam_repair(c, check, force);
	printf("Repaired %zu of %zu problems.\n", check->problems.n - left, check->problems.n);
	if (ctl_store_written(c) != EXIT_SUCCESS)
		return EXIT_FAILURE;
	return left > 0 ? EXIT_PROBLEMS : EXIT_SUCCESS;
}

int ipam_check(struct ctl *c, int argc, char **argv)
{
	struct options o = {.quarantine_s = QUARANTINE_S};
	struct err err = ERR_INIT;
	struct check check = {0};
	int status;

	if (!parse_options(argc, argv, &o))
		return verb_misused("ipam check");
	if (!(o.repair ? ctl_store_to_write(c, false) : ctl_store(c, false)))
		return EXIT_FAILURE;
	status = look_twice(c, o.repair ? o.quarantine_s : AGAIN_S, o.repair, &check);
	if (status != EXIT_SUCCESS)
		return status;
	check_print(&check, o.all, o.problems, stdout);
	check_explain(&check, stdout);
	if (o.output && write_report(&check, o.output, &err) < 0)
		status = ctl_fail(&err);
	else if (check.problems.n > 0)
		status = o.repair ? repair(c, &check, o.force) : EXIT_PROBLEMS;
	check_done(&check);
	return status;
}
