/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one parameter table of a program: it drives parsing, --help and --print-config.
 *
 * A parameter has the name of its environment variable, "MARGAY_RUN_DIR"; its option is the same name
 * in lower case with dashes, "--margay-run-dir VALUE" or "--margay-run-dir=VALUE" (a boolean's value
 * may be left out and is true then, so one that is given needs the '='). Sources, the last wins:
 *
 *	default < file (`name = value` lines) < environment < option
 *
 * An empty value is no value, whatever its source. The file is /etc/margay/margay.conf, which need
 * not exist, or the one that MARGAY_CONFIG or --config names, which must. All of a node's programs
 * share it, so a name that it has and the program has not is no error; --print-config shows it.
 *
 *	struct params ps = {.program = "margay-felix", .about = "Programs a node's routes."};
 *
 *	common_params_add_daemon(&ps, &common, "FELIX", 9099);
 *	params_add(&ps, table, array_size(table));
 *	r = params_load(&ps, &argc, argv, &err);
 *	if (r != 0)
 *		return r > 0 ? EXIT_SUCCESS : params_fail(&ps, &err);
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct params_slot;

#define PARAMS_FILE "/etc/margay/margay.conf"

enum param_type {
	PARAM_STRING, /* str; `check` may refuse it */
	PARAM_U32,    /* u32, min..max (max 0 = no limit) */
	PARAM_BOOL,   /* flag: true, false, and what else parse_bool() takes */
	PARAM_DURATION, /* ms; "90s", "1m30s", "500ms", or a number of seconds; min..max ms likewise */
	PARAM_ENUM,	/* choice: the index in `values`; any case */
};

/* A row. Everything is copied by params_add but `values`; the destination stays the caller's. */
struct param {
	const char *name;
	enum param_type type;
	/* Where the value goes, by type. Strings belong to the params: never NULL after a load. */
	union {
		char **str;
		const char **text; /* the same */
		uint32_t *u32;
		bool *flag;
		int64_t *ms;
		int *choice;
	};
	const char *def;     /* as text; NULL = "" for strings, 0, false or the first otherwise */
	const char *doc;     /* one sentence, no full stop */
	const char *unit;    /* "seconds", "bytes"; NULL = none */
	const char *aliases; /* other names (Calico's), parted by blanks; `name` wins over them */
	uint32_t min, max;
	const char *const *values; /* PARAM_ENUM: ends with NULL */
	int (*check)(
		const char *value, struct err *err); /* PARAM_STRING: 0 or -EINVAL; may be NULL */
	bool secret;				     /* --print-config shows that it is set */
	bool addresses; /* the same where one of them has a user, and so a password */
	/* Why another value than the default is refused where it is a file's, and what to do; NULL: it is not. */
	const char *not_in_file;
};

struct params {
	const char *program;  /* "margay-felix" */
	const char *synopsis; /* after the program's name in --help; NULL = "[--NAME VALUE]..." */
	const char *about;    /* a sentence or more for --help */
	bool allow_args;      /* arguments that are no parameter are the program's own */
	struct params_slot *slots; /* the rest belongs to param.c */
	size_t n;
	char *file;
	char *unused; /* text about the file's names that are not ours */
};

/* Adds rows. A name or alias that is taken already aborts. */
void params_add(struct params *ps, const struct param *rows, size_t n);

/*
 * Reads all sources and writes all destinations. Takes its own options out of argv; what stays
 * (argv[1] on) is an error unless allow_args, where "--" ends the search, and --help and --version
 * count before the first argument only. argv NULL: file and environment only.
 * 0 = go on; 1 = --help, --version or --print-config was answered on stdout: exit with success;
 * -EINVAL: a bad value or option; -ENOENT and others: the file. Where it is not 0, nothing is left to
 * be freed.
 */
int params_load(struct params *ps, int *argc, char **argv, struct err *err);

/* As params_load, of this file alone. */
int params_load_file(struct params *ps, const char *path, struct err *err);

/* Says on stderr why params_load failed; returns EXIT_FAILURE. */
int params_fail(const struct params *ps, const struct err *err);

/* Where the value of a parameter is from: "default", "environment NODENAME",
 * "/etc/margay/margay.conf:3", "option --nodename". Borrowed. The name must exist. */
const char *params_origin(const struct params *ps, const char *name);
bool params_is_set(const struct params *ps, const char *name);

/* Frees everything, the strings of the destinations too. */
void params_done(struct params *ps);
